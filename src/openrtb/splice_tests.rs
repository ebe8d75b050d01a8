//! parse(splice(x)) = edit(parse(x)): against a twin that edits a `serde_json::Value` the obvious way.
use super::*;
use crate::openrtb::corpus_tests::cases;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const NODE: &str = r#"{"asi":"us.example","sid":"7","hp":1}"#;

/// The edit, without caring for bytes. `None` where there is nothing to send.
fn twin(mut v: Value, edits: &Edits) -> Option<Value> {
    let strings = |v: &Value| -> Vec<String> {
        v.as_array().into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
    };
    v["tmax"] = json!(edits.tmax_ms);
    let (wseat, bseat) = (strings(&v["wseat"]), strings(&v["bseat"]));
    if !edits.wseat.is_empty() && !wseat.is_empty() {
        let common: Vec<_> = wseat.into_iter().filter(|s| edits.wseat.contains(s)).collect();
        if common.is_empty() {
            return None;
        }
        v["wseat"] = json!(common);
    } else if !edits.wseat.is_empty() && bseat.is_empty() {
        v["wseat"] = json!(edits.wseat);
    }
    if !edits.cur.is_empty() {
        v["cur"] = edits.cur.iter().map(|c| c.as_str()).collect();
    }
    let imps = v["imp"].as_array().unwrap().iter().enumerate();
    let kept: Vec<_> = imps.filter(|(i, _)| edits.imps >> i & 1 == 1).map(|(_, imp)| imp.clone()).collect();
    if kept.is_empty() {
        return None;
    }
    v["imp"] = Value::Array(kept);
    // Indexing a missing key above made it null; what was not there must not be there now.
    let places = ["/source", "/source/ext", "/ext"];
    let mut old = None;
    let mut at = None;
    for place in places {
        let chain = v.pointer_mut(place).and_then(Value::as_object_mut).and_then(|o| o.remove("schain"));
        if old.is_none() && chain.is_some() {
            (old, at) = (chain, Some(place));
        }
    }
    if edits.schain_node.is_some() {
        let node: Value = serde_json::from_str(NODE).unwrap();
        let mut chain = old.unwrap_or(Value::Null);
        match chain.get_mut("nodes").and_then(Value::as_array_mut) {
            Some(nodes) => nodes.push(node),
            None => chain = json!({"complete": 0, "ver": "1.0", "nodes": [node]}),
        }
        if at.is_none() && !v["source"].is_object() {
            v["source"] = json!({});
        }
        v.pointer_mut(at.unwrap_or("/source")).unwrap()["schain"] = chain;
    }
    let mut id = None;
    for place in ["/user/ext/prebid", "/user/ext"] {
        let map = v.pointer_mut(place).and_then(Value::as_object_mut).and_then(|o| o.remove("buyeruids"));
        let found = map.and_then(|m| m[edits.dsp_name].as_str().map(str::to_owned)).filter(|s| !s.is_empty());
        id = id.or(found);
    }
    let user = &mut v["user"];
    if let Some(id) = id {
        if !user.is_object() {
            *user = json!({});
        }
        user["buyeruid"] = json!(id);
    } else if let Some(user) = user.as_object_mut() {
        let own = user.get("buyeruid").and_then(Value::as_str).is_some_and(|s| !s.is_empty());
        if edits.buyeruid == BuyerUid::Map || !own {
            user.remove("buyeruid");
        }
    }
    Some(v)
}

/// `null` is absence, and the twin makes some by looking.
fn without_nulls(v: &mut Value) {
    if let Value::Object(map) = v {
        map.retain(|_, v| !v.is_null());
        map.values_mut().for_each(without_nulls);
    }
}

fn check(body: &[u8], edits: &Edits) {
    let shown = String::from_utf8_lossy(body);
    let mut request = Request::default();
    request.parse(body, 0, &Default::default()).unwrap_or_else(|e| panic!("{e:?} {shown}"));
    let mut out = b"before".to_vec();
    let done = splice(&request, body, edits, &mut out);
    let want = twin(serde_json::from_slice(body).unwrap(), edits);
    let Some(mut want) = want else {
        assert!(done.is_err() && out == b"before", "{shown}");
        return;
    };
    assert_eq!(done, Ok(()), "{shown}");
    let mut got: Value =
        serde_json::from_slice(&out[6..]).unwrap_or_else(|e| panic!("{e}\n{shown}\n{}", String::from_utf8_lossy(&out)));
    without_nulls(&mut got);
    without_nulls(&mut want);
    assert_eq!(got, want, "{shown}");
    // It is a request again, at the place where it was appended, and has what was told.
    request.parse(&out, 6, &Default::default()).unwrap_or_else(|e| panic!("{e:?} {}", String::from_utf8_lossy(&out)));
    assert_eq!(request.tmax_ms, Some(edits.tmax_ms));
    assert!(request.buyeruids.is_empty() && request.anchors.schain_spare == [Span::default(); 2]);
    // Once more changes nothing but the chain, which grows.
    let once = Edits { imps: u64::MAX, schain_node: None, ..*edits };
    let bare = |from: &[u8], at: usize| {
        let (mut request, mut out) = (Request::default(), vec![]);
        request.parse(from, at, &Default::default()).unwrap();
        splice(&request, from, &Edits { buyeruid: BuyerUid::Request, ..once }, &mut out).unwrap();
        out
    };
    let first = bare(&out, 6);
    assert_eq!(first, bare(&first, 0), "{shown}");
}

fn edits<'a>(seats: &'a [String], cur: &'a [Currency], bits: (bool, bool), imps: u64) -> Edits<'a> {
    Edits {
        tmax_ms: 70,
        dsp_name: "one",
        wseat: seats,
        cur,
        buyeruid: if bits.0 { BuyerUid::Map } else { BuyerUid::Request },
        schain_node: bits.1.then_some(NODE.as_bytes()),
        imps,
    }
}

/// JSON text of a value with its members in an order, and with spaces, that `seed` chooses.
fn render(v: &Value, seed: &mut u64, out: &mut String) {
    let mut draw = |n: u64| {
        *seed = crate::units::mix(*seed);
        *seed % n
    };
    let space = ["", "", " ", "\n\t"][draw(4) as usize];
    out.push_str(space);
    match v {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            for i in (1..members.len()).rev() {
                members.swap(i, draw(i as u64 + 1) as usize);
            }
            out.push('{');
            for (i, (key, v)) in members.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(space);
                out.push_str(&serde_json::to_string(key).unwrap());
                out.push_str(space);
                out.push(':');
                render(v, seed, out);
            }
            out.push_str(space);
            out.push('}');
        }
        Value::Array(all) => {
            out.push('[');
            for (i, v) in all.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                render(v, seed, out);
            }
            out.push_str(space);
            out.push(']');
        }
        plain => out.push_str(&plain.to_string()),
    }
    out.push_str(space);
}

/// One of the values, or nothing at all.
fn member(values: Vec<Value>) -> impl Strategy<Value = Option<Value>> {
    prop::option::of(prop::sample::select(values))
}

fn object(members: Vec<(&'static str, Option<Value>)>) -> Value {
    Value::Object(members.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v?))).collect::<Map<_, _>>())
}

fn chain() -> impl Strategy<Value = Option<Value>> {
    member(vec![
        Value::Null,
        json!({}),
        json!({"complete": 1, "nodes": null}),
        json!({"complete": 1, "ver": "1.0", "nodes": []}),
        json!({"complete": 1, "ver": "1.0", "nodes": [{"asi": "a", "sid": "]}\""}], "ext": {}}),
    ])
}

fn request() -> impl Strategy<Value = Value> {
    let source = (chain(), chain(), member(vec![json!(1)]), 0..4u8).prop_map(|(schain, in_ext, fd, kind)| match kind {
        0 => None,
        1 => Some(Value::Null),
        2 => Some(object(vec![("fd", fd), ("schain", schain)])),
        _ => Some(object(vec![("fd", fd), ("schain", schain), ("ext", Some(object(vec![("schain", in_ext)])))])),
    });
    let ids = |one| member(vec![Value::Null, json!({}), json!({"two": "2"}), json!({"two": "2", "one": one})]);
    let user =
        (member(vec![Value::Null, json!(""), json!("own")]), ids("\"1\""), ids("x"), member(vec![json!("u")]), 0..4u8)
            .prop_map(|(own, prebid, ext, id, kind)| match kind {
                0 => None,
                1 => Some(Value::Null),
                2 => Some(object(vec![("id", id), ("buyeruid", own)])),
                _ => {
                    let prebid = object(vec![("buyeruids", prebid)]);
                    let ext = object(vec![("prebid", Some(prebid)), ("buyeruids", ext)]);
                    Some(object(vec![("id", id), ("buyeruid", own), ("ext", Some(ext))]))
                }
            });
    let seats = || member(vec![Value::Null, json!([]), json!(["a"]), json!(["b", "a", "\"c\""])]);
    let small = (
        member(vec![Value::Null, json!(0), json!(500)]),
        seats(),
        seats(),
        member(vec![Value::Null, json!([]), json!(["EUR"]), json!(["USD", "GBP"])]),
        member(vec![json!({"?": [null, {"tmax": 1}]}), json!("x,}")]),
    );
    let imps = prop::collection::vec(member(vec![json!({}), json!([1, "]"])]), 1..5);
    (source, user, small, imps, prop::option::of(chain())).prop_map(|(source, user, small, imps, ext)| {
        let imp = imps.into_iter().enumerate().map(|(i, odd)| {
            object(vec![("id", Some(json!(i.to_string()))), ("banner", Some(json!({}))), ("odd", odd)])
        });
        object(vec![
            ("id", Some(json!("r"))),
            ("imp", Some(imp.collect())),
            ("source", source),
            ("user", user),
            ("tmax", small.0),
            ("wseat", small.1),
            ("bseat", small.2),
            ("cur", small.3),
            ("odd", small.4),
            ("ext", ext.map(|chain| object(vec![("schain", chain)]))),
        ])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn splicing_is_editing(
        v in request(),
        seed: u64,
        seats in prop::sample::subsequence(vec!["a".to_owned(), "\"c\"".to_owned(), "\\\n".to_owned()], 0..=3),
        cur in prop::sample::subsequence(vec![Currency::USD, Currency(*b"EUR")], 0..=2),
        bits: (bool, bool),
        imps in prop_oneof![Just(u64::MAX), 0..32u64],
    ) {
        let mut text = String::new();
        render(&v, &mut seed.clone(), &mut text);
        check(text.as_bytes(), &edits(&seats, &cur, bits, imps));
    }
}

#[test]
fn real_requests_are_spliced() {
    let Some(cases) = cases() else { return };
    let seats = ["s".to_owned()];
    let (mut n, mut request) = (0, Request::default());
    for case in cases.iter().filter(|c| request.parse(&c.body, 0, &Default::default()).is_ok()) {
        for bits in [(false, false), (false, true), (true, false), (true, true)] {
            for imps in [u64::MAX, 1, 2] {
                check(&case.body, &edits(&seats, &[Currency::USD], bits, imps));
            }
        }
        n += 1;
    }
    println!("{n} requests");
    assert!(n >= 100);
}

#[test]
fn what_is_not_known_survives_byte_for_byte() {
    let body = "{ \"id\" : \"r\" ,\t\"x\\u0079\":[1.50e+01 , -0 ], \"tmax\" : 5e2\n, \"x\":1,\"x\":2,\r\n\"imp\":[ {\"id\":\"1\", \"banner\":{ }} , {\"id\":\"2\",\"banner\":{},\"?\":\"\\/\"} ] }";
    let mut request = Request::default();
    request.parse(body.as_bytes(), 0, &Default::default()).unwrap();
    for (imps, want) in [
        (
            3,
            "{ \"id\" : \"r\" ,\t\"x\\u0079\":[1.50e+01 , -0 ], \"tmax\":70\n, \"x\":1,\"x\":2,\r\n\"imp\":[ {\"id\":\"1\", \"banner\":{ }} , {\"id\":\"2\",\"banner\":{},\"?\":\"\\/\"} ] }",
        ),
        (
            2,
            "{ \"id\" : \"r\" ,\t\"x\\u0079\":[1.50e+01 , -0 ], \"tmax\":70\n, \"x\":1,\"x\":2,\r\n\"imp\":[{\"id\":\"2\",\"banner\":{},\"?\":\"\\/\"}] }",
        ),
    ] {
        let mut out = vec![];
        splice(&request, body.as_bytes(), &edits(&[], &[], (true, false), imps), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

#[test]
fn our_node_is_json() {
    let node =
        SchainNode { asi: "us.example".into(), sid: "\"\\\n\u{1}\u{e9}".into(), name: Some("Us".into()), domain: None };
    let read: Value = serde_json::from_slice(&prepare_schain_node(&node)).unwrap();
    assert_eq!(read, json!({"asi": "us.example", "sid": "\"\\\n\u{1}\u{e9}", "hp": 1, "name": "Us"}));
}
