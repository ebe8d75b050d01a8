//! Real requests of others, from `../shared/corpus` beside the tree, posted to a real exchange over a socket: what must
//! be accepted, what must be refused with a reason, and whether what a DSP is sent of them is still what they said.
mod common;
use common::{Server, dsp, ok, post, read_answer};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// One case of the manifest that holds a whole request.
struct Case {
    path: String,
    expect: Expect,
    body: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Expect {
    /// 200.
    Accept,
    /// 400 with a reason.
    Reject,
    /// Legal, though those who wrote the case refuse it.
    Policy,
}

/// The cases, or a message that there are none.
fn cases() -> Option<Vec<Case>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/prebid-server");
    if !root.is_dir() {
        println!("SKIPPED: no {}", root.display());
        return None;
    }
    let read = |path: &str| std::fs::read(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let manifest: Vec<Value> = serde_json::from_slice(&read("manifest.json")).expect("a manifest");
    let case = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or("").to_owned();
        let path = text("path");
        let expect = match (text("expect").as_str(), text("scope").as_str()) {
            // Auctions of others: their bids and outcomes are not ours, their requests are legal.
            ("accept" | "", "generic") => Expect::Accept,
            ("reject", "generic" | "generic-native") => Expect::Reject,
            ("reject", "policy") => Expect::Policy,
            ("accept", "needs-stored-or-default") | (_, "partial" | "other") => return None,
            other => panic!("{path}: the manifest says {other:?}"),
        };
        let bytes = read(&path);
        let body = match serde_json::from_slice::<Value>(&bytes) {
            Ok(v) => {
                let request = v.get("mockBidRequest").or(v.pointer("/incomingRequest/ortbRequest"));
                let mut request = request.unwrap_or_else(|| panic!("{path}: no request")).clone();
                // Time enough for a busy machine: none of the cases is about too little of it.
                if request["tmax"].as_u64().is_some_and(|t| t > 0) {
                    request["tmax"] = Value::from(3_000);
                }
                serde_json::to_vec(&request).expect("JSON")
            }
            Err(_) => {
                assert_eq!(text("kind"), "malformed-json", "{path}");
                let key = b"\"mockBidRequest\":";
                let at = bytes.windows(key.len()).position(|w| w == key).unwrap_or_else(|| panic!("{path}"));
                bytes[at + key.len()..].to_vec()
            }
        };
        Some(Case { path, expect, body })
    };
    Some(manifest.iter().filter_map(case).collect())
}

/// What the DSP was sent, in the order in which it came.
static SEEN: Mutex<Vec<Value>> = Mutex::new(Vec::new());

/// Bids on everything, in a size and a medium that is asked for.
fn seeing(request: &Value) -> Vec<u8> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    let bid = |imp: &Value| {
        let banner = &imp["banner"];
        let size = banner.pointer("/format/0").unwrap_or(banner);
        let (adm, size) = match (banner.is_object(), imp["native"].is_object()) {
            (true, _) => ("<a href='https://x.example'>x</a>", size),
            (_, true) => ("{}", &Value::Null),
            _ => ("<VAST/>", &Value::Null),
        };
        let deal = imp.pointer("/pmp/deals/0/id");
        json!({"id": "b", "impid": imp["id"], "price": 99, "adm": adm, "w": size["w"], "h": size["h"], "dealid": deal})
    };
    let bids: Vec<Value> = request["imp"].as_array().into_iter().flatten().map(bid).collect();
    ok(&json!({"id": request["id"], "cur": request["cur"][0], "seatbid": [{"bid": bids}]}).to_string())
}

/// Members that are edited for a DSP: of the request, and of its `user` and `imp`.
const EDITED: [&str; 8] = ["tmax", "wseat", "bseat", "cur", "source", "ext", "user", "imp"];

/// All that nobody edits has to arrive.
fn check_forwarded(path: &str, theirs: &Value, sent: &Value) {
    let members = theirs.as_object().expect("an object");
    for (key, value) in members.iter().filter(|(k, _)| !EDITED.contains(&k.as_str())) {
        assert_eq!(sent.get(key), Some(value), "{path}: `{key}` changed on its way to the DSP");
    }
    for key in sent.as_object().expect("an object").keys() {
        assert!(members.contains_key(key) || EDITED.contains(&key.as_str()), "{path}: `{key}` came from nowhere");
    }
    // Impressions may be left out, never changed.
    let imps = |v: &Value| v["imp"].as_array().cloned().unwrap_or_default();
    let all = imps(theirs);
    assert!(!imps(sent).is_empty(), "{path}: a DSP was asked for nothing");
    for imp in imps(sent) {
        assert!(all.contains(&imp), "{path}: an impression changed on its way to the DSP: {imp}");
    }
    assert!(sent["tmax"].as_u64().is_some_and(|t| (1..2_000).contains(&t)), "{path}: tmax {}", sent["tmax"]);
}

#[test]
fn every_case_is_answered_as_the_manifest_says() {
    let Some(cases) = cases() else { return };
    let rules = "[auction]\ntmax_max_ms = 3000\ntmax_default_ms = 3000\ndsp_ms = 2000\n\
                 [rates]\ntable = { USD = 1, EUR = 1.15, MXN = 0.054 }\n";
    let server = Server::start_as(&[(dsp(seeing), "timeout_ms = 2000")], rules);
    let (mut counts, mut statuses, mut wrong, mut forwarded) = (BTreeMap::new(), BTreeMap::new(), Vec::new(), 0);
    // One connection carries all of them, refused ones too.
    let mut conn = server.connect();
    for case in &cases {
        let body = std::str::from_utf8(&case.body).expect("UTF-8");
        conn.write_all(post(body, "").as_bytes()).expect("write");
        let answer = read_answer(&mut conn);
        let sent = std::mem::take(&mut *SEEN.lock().unwrap_or_else(PoisonError::into_inner));
        *counts.entry(case.expect).or_insert(0u32) += 1;
        *statuses.entry(answer.status).or_insert(0u32) += 1;
        // The manifest speaks of the metric, which is theirs to refuse; this impression offers no medium either.
        let no_medium = case.path.ends_with("invalid-whole/metric-empty-object.json");
        let expect = if no_medium { Expect::Reject } else { case.expect };
        let right = match expect {
            // Never 204: somebody bids on everything.
            Expect::Accept | Expect::Policy => answer.status == 200,
            Expect::Reject => answer.status == 400,
        };
        if !right {
            wrong.push(format!("{}: {:?} but {} {}", case.path, case.expect, answer.status, answer.text()));
            continue;
        }
        assert!(answer.header("connection").is_none(), "{}: no answer to JSON closes", case.path);
        match answer.status {
            200 => {
                let theirs: Value = serde_json::from_slice(&case.body).expect("JSON");
                let ours: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{}: {e}", case.path));
                assert_eq!(ours["id"], theirs["id"], "{}", case.path);
                let bids: Vec<&Value> = ours["seatbid"].as_array().into_iter().flatten().collect();
                let bids = bids.iter().flat_map(|s| s["bid"].as_array().into_iter().flatten());
                let impids: BTreeSet<&str> = bids.filter_map(|b| b["impid"].as_str()).collect();
                let asked = theirs["imp"].as_array().into_iter().flatten().filter_map(|i| i["id"].as_str());
                assert_eq!(impids, asked.collect(), "{}: a bid for each impression: {ours}", case.path);
            }
            _ => {
                assert_eq!(answer.header("content-type").as_deref(), Some("application/json"), "{}", case.path);
                let reason: Value =
                    serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{}: {e}", case.path));
                assert!(reason.is_object() && answer.body.len() < 512, "{}: {reason}", case.path);
                assert!(sent.is_empty(), "{}: a refused request reached a DSP", case.path);
            }
        }
        if let [sent] = sent.as_slice() {
            check_forwarded(&case.path, &serde_json::from_slice(&case.body).expect("JSON"), sent);
            forwarded += 1;
        } else {
            assert!(sent.is_empty(), "{}: a DSP was asked {} times", case.path, sent.len());
        }
    }
    println!("{} cases: {counts:?}, answered {statuses:?}, {forwarded} seen by the DSP", cases.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    let of = |e: Expect| counts.get(&e).copied().unwrap_or(0);
    assert!(of(Expect::Accept) >= 100 && of(Expect::Reject) >= 30 && of(Expect::Policy) >= 5, "{counts:?}");
    let status = |s: u16| statuses.get(&s).copied().unwrap_or(0);
    assert!(status(200) >= 110 && status(400) >= 30 && forwarded >= 110, "{statuses:?}, {forwarded} forwarded");
}
