//! What is personal is gone, what is not is as it was: field by field, and for requests that nobody thought of.
use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What is kept of a request and of one of its auction's answers.
fn kept(request: &str, answer: &str) -> (String, String) {
    let mut personal = Personal::default();
    personal.learn(request.as_bytes());
    let mut copy = |text: &str| {
        let mut out = Vec::new();
        personal.replace(text.as_bytes(), &mut out).unwrap_or_else(|e| panic!("{e}: {text}"));
        String::from_utf8(out).expect("text")
    };
    (copy(request), copy(answer))
}

#[track_caller]
fn check_kept(request: &str, want: &str) {
    assert_eq!(kept(request, "{}").0, want, "{request}");
}

#[test]
fn each_field_has_its_rule() {
    for (request, want) in [
        (r#"{"device":{"ip":"203.0.113.77"}}"#, r#"{"device":{"ip":"203.0.113.0"}}"#),
        (r#"{"device":{"ip":"2\u00303.0.113.77"}}"#, r#"{"device":{"ip":"203.0.113.0"}}"#),
        (r#"{"device":{"ip":"300.0.113.77"}}"#, r#"{"device":{"ip":"***"}}"#),
        (r#"{"device":{"ipv6":"2001:db8:12:3456::7"}}"#, r#"{"device":{"ipv6":"2001:db8:12::"}}"#),
        (r#"{"device":{"ipv6":"::ffff:203.0.113.77"}}"#, r#"{"device":{"ipv6":"::"}}"#),
        (r#"{"device":{"ifa":"","lmt":1,"ua":"M"}}"#, r#"{"device":{"ifa":"","lmt":1,"ua":"M"}}"#),
        (r#"{"device":{"ifa":"AEBE52E7-03EE-455A-B3C4-E57283966239"}}"#, r#"{"device":{"ifa":"***"}}"#),
        (r#"{"device":{"\u0069fa":"AEBE52E7"}}"#, r#"{"device":{"\u0069fa":"***"}}"#),
        (
            r#"{"device":{"serial":7,"w":320,"x":[1],"y":{"z":1},"n":null}}"#,
            r#"{"device":{"serial":0,"w":320,"x":[],"y":{},"n":null}}"#,
        ),
        (r#"{"device":{"ext":{"atts":3,"idfv":"v"}}}"#, r#"{"device":{"ext":{"atts":3,"idfv":"***"}}}"#),
        (r#"{"user":{"id":"u","yob":1980,"gender":"F"}}"#, r#"{"user":{"id":"***","yob":0,"gender":"***"}}"#),
        (r#"{"user":{"consent":"CPx","data":[{"id":"d"}]}}"#, r#"{"user":{"consent":"CPx","data":[]}}"#),
        (
            r#"{"user":{"ext":{"consent":"CPx","eids":[{"uids":[]}],"o":{"a":1}}}}"#,
            r#"{"user":{"ext":{"consent":"CPx","eids":[],"o":{}}}}"#,
        ),
        (r#"{"user":[{"id":"u"}],"device":"d"}"#, r#"{"user":[{"id":"***"}],"device":"***"}"#),
        (
            r#"{"user":{"geo":{"lat":-33.857,"lon":151,"country":"AUS","city":"Sydney","zip":"2000","accuracy":9}}}"#,
            r#"{"user":{"geo":{"lat":-33.8,"lon":151.0,"country":"AUS","city":"***","zip":"***","accuracy":0}}}"#,
        ),
        (r#"{"device":{"geo":{"lat":4.8856e1,"lon":"2.35"}}}"#, r#"{"device":{"geo":{"lat":48.8,"lon":"***"}}}"#),
        (r#"{"device":{"geo":{"lat":1e99,"lon":-0.04}}}"#, r#"{"device":{"geo":{"lat":0.0,"lon":0.0}}}"#),
        (
            r#"{"site":{"page":"https:\/\/a.example\/x?u=1","ref":"https://b.example/#f","search":"ill"}}"#,
            r#"{"site":{"page":"https:\/\/a.example\/x?***","ref":"https://b.example/?***","search":"***"}}"#,
        ),
        (r#"{"site":{"page":"https://a.example/x\u003Fu=1"}}"#, r#"{"site":{"page":"https://a.example/x?***"}}"#),
        (
            r#"{"site":{"page":"https://a.example/","domain":"a?b"}}"#,
            r#"{"site":{"page":"https://a.example/","domain":"a?b"}}"#,
        ),
        (
            r#"{"ext":{"x":{"user":{"id":"u"},"ip":"1.2.3.4"}}}"#,
            r#"{"ext":{"x":{"user":{"id":"***"},"ip":"1.2.3.0"}}}"#,
        ),
        (" {\n\"a\" : [ 1.50 , -0e1 , true , null , \"\\n\" ] } ", r#"{"a":[1.50,-0e1,true,null,"\n"]}"#),
    ] {
        check_kept(request, want);
    }
}

#[test]
fn an_id_is_nowhere_else_either() {
    let request = r#"{"id":"r","device":{"ifa":"AEBE52E7-03EE","ip":"203.0.113.77"},"user":{"id":"4711471147"},
        "imp":[{"ext":{"k":"x-aebe52e7-03ee-y","n":4711471147,"4711471147":1}}]}"#;
    let answer = r#"{"adm":"<img src=\"http:\/\/t.example?ip=203.0.113.77&ifa=AEBE52E7-03EE\">","n":"na4711471147",
        "e":"\u0041EBE52E7-03EE","s":"203.0.113.7","t":"\\n4711471147"}"#;
    let (request, answer) = kept(request, answer);
    assert!(request.contains(r#""k":"x-*************-y","n":0,"**********":1"#), "{request}");
    assert!(answer.contains(r#"?ip=************&ifa=*************\">""#), "{answer}");
    assert!(answer.contains(r#""e":"***","s":"203.0.113.7","t":"\\n**********""#), "{answer}");
    // An escape that would have lost its half is given up whole.
    let (_, answer) = kept(r#"{"user":{"id":"nabcdefgh"}}"#, r#"{"a":"x\nabcdefgh"}"#);
    assert_eq!(answer, r#"{"a":"***"}"#);
}

#[test]
fn one_auction_does_not_know_anothers_ids() {
    let mut personal = Personal::default();
    personal.learn(br#"{"user":{"id":"somebody-1"}}"#);
    personal.learn(br#"{"user":{"id":"somebody-2"}}"#);
    let mut out = Vec::new();
    personal.replace(br#"["somebody-1","somebody-2"]"#, &mut out).unwrap();
    assert_eq!(out, br#"["somebody-1","**********"]"#);
}

#[test]
fn what_is_not_json_leaves_nothing() {
    for text in [&b""[..], b"{", b"{\"a\":1}x", b"{\"a\":\"\xff\"}", b"[1,]"] {
        let mut out = b"before".to_vec();
        assert!(Personal::default().replace(text, &mut out).is_err(), "{text:?}");
        assert!(compact(text, &mut out).is_err(), "{text:?}");
        assert_eq!(out, b"before");
    }
}

/// Any JSON, with names of the specification among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "id", "imp", "site", "app", "page", "ref", "content", "device", "user", "geo", "ext", "regs", "consent", "lat",
        "a", "eids", "uids", "data", "ip", "ifa", "ua", "buyeruid", "source",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9./?\"\\\\é\n-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

/// Ids in every place that is somebody's: each of them once, so that one that stays is named.
fn somebody(n: u32) -> (Value, Vec<String>) {
    let mut ids = Vec::new();
    let mut id = |name: &str| {
        ids.push(format!("{name}-{n:08x}"));
        ids[ids.len() - 1].clone()
    };
    let mut lat = format!("{}.{:05}", n % 90, n % 89_999 + 10_000);
    lat.push('7');
    let geo = json!({"lat": serde_json::from_str::<Value>(&lat).unwrap(), "city": id("city"), "country": "DEU", "ext": {"x": id("gx")}});
    let request = json!({
        "device": {
            "ifa": id("ifa"), "didsha1": id("sha1"), "dpidmd5": id("md5"), "macsha1": id("mac"), "new": id("new"),
            "ip": format!("198.51.100.{}", n % 200 + 10), "geo": geo, "ext": {"a": [id("deep")]}, "ua": "Mozilla",
        },
        "user": {
            "id": id("user"), "buyeruid": id("buyer"), "customdata": id("custom"), "keywords": id("words"),
            "data": [{"segment": [{"id": id("segment")}]}], "consent": "CPxx", "kwarray": [id("kw")],
            "eids": [{"source": "s.example", "uids": [{"id": id("eid")}]}],
            "ext": {"eids": [{"uids": [{"id": id("eid25")}]}], "prebid": {"buyeruids": {"d": id("mapped")}}},
        },
        "site": {"page": format!("https://p.example/a?{}", id("query")), "ref": format!("https://r.example/#{}", id("ref"))},
    });
    ids.push(lat);
    ids.push(format!("\"198.51.100.{}\"", n % 200 + 10));
    (request, ids)
}

/// The same value without what a rule is about: what is left must not change.
fn neutral(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(neutral),
        Value::Object(members) => {
            for name in ["device", "user", "geo", "site", "app", "eids", "ip", "ifa", "buyeruid"] {
                members.remove(name);
            }
            members.values_mut().for_each(neutral);
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn nothing_of_a_person_stays_and_nothing_else_changes(mut other in any_json(), n in any::<u32>(), pretty in any::<bool>()) {
        let (request, ids) = somebody(n);
        // Where it belongs, below whatever else there is, and ids where nobody expects them.
        let copies: Vec<_> = ids.iter().filter(|id| ["ifa-", "user-", "eid-"].iter().any(|p| id.starts_with(p))).collect();
        let mut whole = request.clone();
        whole["ext"] = json!({"other": other, "again": request, "copies": copies});
        let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) }.unwrap();
        let (got, _) = kept(&text, "{}");
        for id in &ids {
            prop_assert!(!got.contains(id.as_str()), "{} in {}", id, got);
        }
        let mut read: Value = serde_json::from_str(&got).unwrap();
        prop_assert_eq!(&read["user"]["consent"], "CPxx");
        prop_assert_eq!(&read["device"]["geo"]["country"], "DEU");
        prop_assert_eq!(&read["device"]["ip"], "198.51.100.0");
        let got = &mut read["ext"]["other"];
        neutral(got);
        neutral(&mut other);
        prop_assert_eq!(got, &other);
    }

    #[test]
    fn once_is_enough(value in any_json()) {
        let mut personal = Personal::default();
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        personal.replace(value.to_string().as_bytes(), &mut once).unwrap();
        personal.replace(&once, &mut twice).unwrap();
        prop_assert_eq!(std::str::from_utf8(&once), std::str::from_utf8(&twice));
    }

    #[test]
    fn compact_changes_nothing_but_space(value in any_json()) {
        let mut out = Vec::new();
        compact(serde_json::to_string_pretty(&value).unwrap().as_bytes(), &mut out).unwrap();
        prop_assert_eq!(std::str::from_utf8(&out).unwrap(), serde_json::to_string(&value).unwrap());
    }
}
