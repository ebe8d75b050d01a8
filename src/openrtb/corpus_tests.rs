//! Real requests and answers, read from `../shared/corpus` beside the tree; skipped, and said so, where it is missing.
use super::{
    request::Request,
    validate::{Fault, Refusal},
};
use serde_json::Value;
use std::path::PathBuf;

/// The folder, or a message that there is none.
pub(super) fn corpus(part: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus").join(part);
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: no {}", path.display());
    None
}

pub(super) struct Case {
    pub(super) path: String,
    expect: String,
    scope: String,
    /// The request; of malformed files everything from it on.
    pub(super) body: Vec<u8>,
    message: String,
}

/// Every case of the manifest that holds a request.
pub(super) fn cases() -> Option<Vec<Case>> {
    let root = corpus("prebid-server")?;
    let manifest: Vec<Value> = serde_json::from_slice(&std::fs::read(root.join("manifest.json")).unwrap()).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let cases = manifest.iter().map(|entry| {
        let path = text(&entry["path"]);
        let bytes = std::fs::read(root.join(&path)).unwrap();
        let (body, message) = match serde_json::from_slice::<Value>(&bytes) {
            Ok(case) => {
                let request = case.get("mockBidRequest").unwrap_or(&case["incomingRequest"]["ortbRequest"]);
                (serde_json::to_vec(request).unwrap(), text(&case["expectedErrorMessage"]))
            }
            Err(_) => {
                let key = b"\"mockBidRequest\":";
                let at = bytes.windows(key.len()).position(|w| w == key).unwrap();
                (bytes[at + key.len()..].to_vec(), String::new())
            }
        };
        Case { path, expect: text(&entry["expect"]), scope: text(&entry["scope"]), body, message }
    });
    Some(cases.collect())
}

/// The first field that a message of Prebid Server names: `request.imp[0].video.w`, or an object and a missing field.
fn field_in(message: &str) -> Option<String> {
    let at = message.find("request.").map(|i| i + 8).or(message.find("req.").map(|i| i + 4));
    let missing = message.split("missing required field: \"").nth(1).and_then(|s| s.split('"').next());
    let object = at.and_then(|at| message[at..].split([' ', ':', ',']).next()).unwrap_or("");
    match (object, missing) {
        ("", None) => None,
        ("", Some(field)) => Some(field.to_owned()),
        (object, None) => Some(object.to_owned()),
        (object, Some(field)) => Some(format!("{object}.{field}")),
    }
}

fn field_of(refusal: &Refusal) -> String {
    let mut out = vec![];
    refusal.write_field(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_manifest_agrees() {
    let Some(cases) = cases() else { return };
    let (mut accepted, mut refused, mut compared, mut wrong) = (0, 0, 0, vec![]);
    let mut request = Request::default();
    for case in &cases {
        // Bids and outcomes are others' business: without `expect` a case's request is simply legal.
        let expect = match (case.expect.as_str(), case.scope.as_str()) {
            ("accept" | "", "generic") | ("reject", "policy") => true,
            ("reject", "generic" | "generic-native") => false,
            ("accept", "needs-stored-or-default") | (_, "partial" | "other") => continue,
            other => panic!("{}: the manifest says {other:?}", case.path),
        };
        let got = request.parse(&case.body, 0, &Default::default());
        // Prebid Server stumbles over the metric before it sees that the impression offers no medium at all. The
        // manifest speaks of the metric; we see the other.
        if case.path.ends_with("invalid-whole/metric-empty-object.json") {
            assert_eq!(got.map_err(|r| r.rule.fault), Err(Fault::NoMedia));
            continue;
        }
        match got {
            Ok(()) => accepted += 1,
            Err(_) => refused += 1,
        }
        if got.is_ok() != expect {
            wrong.push(format!("{}: {got:?}", case.path));
        }
        let Err(refusal) = got else { continue };
        let mut reason = vec![];
        refusal.write_reason(&mut reason);
        let _: Value = serde_json::from_slice(&reason).unwrap();
        if let Some(theirs) = field_in(&case.message) {
            compared += 1;
            let ours = field_of(&refusal);
            // A fault found deeper, in an object that they only name, is the same fault.
            if !(ours == theirs || ours.starts_with(&format!("{theirs}.")) || named_too(&ours, &case.message)) {
                wrong.push(format!("{}: {ours} is not {theirs}", case.path));
            }
        }
    }
    println!("{} cases: {accepted} accepted, {refused} refused, {compared} fields compared", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(accepted >= 100 && refused >= 30 && compared >= 15, "{accepted} {refused} {compared}");
}

/// Of two fields that contradict each other they name both.
fn named_too(ours: &str, message: &str) -> bool {
    message.contains(&format!("request.{ours} "))
}
