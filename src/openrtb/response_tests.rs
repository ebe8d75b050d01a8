//! Answers as DSPs send them, odd ones above all.
use super::{
    corpus_tests::corpus,
    request::Media,
    response::{Bid, Response, ResponseError},
};
use crate::{
    limits::BIDS_PER_ANSWER_MAX,
    units::{Cpm, Currency, PriceError},
};

fn parse(body: &str) -> Result<Response, ResponseError> {
    let mut response = Response::default();
    response.parse(body.as_bytes()).map(|()| response)
}

fn bid(members: &str) -> Bid {
    let r = parse(&format!(r#"{{"id":"r","seatbid":[{{"bid":[{{"id":"b","impid":"i",{members}}}]}}]}}"#)).unwrap();
    assert_eq!((r.bids.len(), r.bids_seen, r.bids_unusable), (1, 1, 0), "{members}");
    r.bids[0]
}

#[test]
fn what_is_no_answer() {
    for (body, not_json) in [
        ("null", false),
        ("[]", false),
        ("\"\"", false),
        ("7", false),
        ("[] x", true),
        ("{", true),
        ("{} {}", true),
        ("<html>", true),
        (r#"{"id":"r","seatbid":[{"bid":[{"id":"b","price":NaN}]}]}"#, true),
    ] {
        let error = parse(body).unwrap_err();
        assert_eq!(matches!(error, ResponseError::NotJson(_)), not_json, "{body}: {error}");
        assert_eq!(error == ResponseError::NotAnObject, !not_json, "{body}: {error}");
    }
    let twice = r#"{"seatbid":[{"bid":[{"price":1,"price":2}]}]}"#;
    assert_eq!(parse(twice).unwrap_err(), ResponseError::DuplicateKey(31));
    assert!(parse(r#"{"x":1,"x":2}"#).is_ok());
}

#[test]
fn no_bid_has_many_forms() {
    for body in
        ["{}", r#"{"id":"r"}"#, r#"{"seatbid":null}"#, r#"{"seatbid":[]}"#, r#"{"seatbid":[{},null,{"bid":[]}]}"#]
    {
        let r = parse(body).unwrap();
        assert_eq!((r.bids.len(), r.bids_seen, r.bids_unusable), (0, 0, 0), "{body}");
    }
    assert_eq!(parse(r#"{"nbr":2}"#).unwrap().nbr, Some(2));
    assert_eq!(parse(r#"{"nbr":"2"}"#).unwrap().nbr, Some(2));
    assert_eq!(parse(r#"{"nbr":null}"#).unwrap().nbr, None);
}

#[test]
fn currencies() {
    for (cur, want) in [
        ("null", Some(Currency::USD)),
        (r#""""#, Some(Currency::USD)),
        (r#""eur""#, Some(Currency(*b"EUR"))),
        (r#""DOLLAR""#, None),
        ("7", None),
        (r#"["USD"]"#, None),
    ] {
        assert_eq!(parse(&format!(r#"{{"cur":{cur}}}"#)).unwrap().cur, want, "{cur}");
    }
    assert_eq!(parse("{}").unwrap().cur, Some(Currency::USD));
}

#[test]
fn prices() {
    for (price, want) in [
        ("1.2345678", Ok(Cpm(1_234_567))),
        (r#""1.5""#, Ok(Cpm(1_500_000))),
        (r#"" 1.5 ""#, Ok(Cpm(1_500_000))),
        ("0", Ok(Cpm(0))),
        ("-1", Err(PriceError::Negative)),
        ("1e999", Err(PriceError::TooLarge)),
        ("null", Err(PriceError::NotANumber)),
        (r#""free""#, Err(PriceError::NotANumber)),
        (r#""""#, Err(PriceError::NotANumber)),
        ("[1]", Err(PriceError::NotANumber)),
    ] {
        let body = format!(r#"{{"seatbid":[{{"bid":[{{"id":"b","impid":"i","price": {price} ,"w":1}}]}}]}}"#);
        let r = parse(&body).unwrap();
        assert_eq!(r.bids[0].price, want, "{price}");
        assert_eq!(r.bids[0].price_span.of(body.as_bytes()), price.as_bytes());
    }
    assert_eq!(bid(r#""w":1"#).price, Err(PriceError::NotANumber));
}

#[test]
fn odd_members() {
    for (members, size) in [
        (r#""w":300,"h":250"#, (300, 250)),
        (r#""w":"300","h":"250""#, (300, 250)),
        (r#""w":300.0,"h":null"#, (300, 0)),
        (r#""w":-1,"h":{"a":[]}"#, (0, 0)),
        (r#""w":"","h":"3x""#, (0, 0)),
    ] {
        assert_eq!(bid(members).size, size, "{members}");
    }
    assert_eq!(bid(r#""mtype":2"#).media, Some(Media::VIDEO));
    assert_eq!(bid(r#""mtype":"4""#).media, Some(Media::NATIVE));
    assert_eq!(bid(r#""mtype":9"#).media, None);
    assert_eq!((bid(r#""adomain":"a.example""#).adomain.len, bid(r#""adomain":null"#).adomain.len), (1, 0));
    assert_eq!((bid(r#""adomain":["a",7,"b"]"#).adomain.len, bid(r#""attr":["1",2,-3]"#).attr.len), (2, 2));
    assert!(!bid(r#""crid":7"#).crid.is_some());
}

#[test]
fn bids_that_cannot_be_named_are_counted() {
    let body = r#"{"seatbid":[
        {"bid":[7,null,{},{"id":"b"},{"impid":"i"},{"id":1,"impid":"i"},{"id":"","impid":"i"},{"id":"b1","impid":"i"}]},
        {"bid":{"id":"b","impid":"i"}},
        {"bid":[{"id":"b2","impid":"i"}],"group":1,"seat":"s"}]}"#;
    let r = parse(body).unwrap();
    assert_eq!((r.bids_seen, r.bids_unusable, r.bids.len()), (10, 8, 2));
    assert_eq!((r.bids[0].seatbid, r.bids[0].group, r.bids[0].seat.is_some()), (0, false, false));
    assert_eq!((r.bids[1].seatbid, r.bids[1].group), (2, true));
    assert_eq!(r.bids[1].seat.raw(body.as_bytes()), b"s");
    let many = vec![r#"{"id":"b","impid":"i"}"#; BIDS_PER_ANSWER_MAX + 3].join(",");
    let r = parse(&format!(r#"{{"seatbid":[{{"bid":[{many}]}}]}}"#)).unwrap();
    assert_eq!((r.bids.len(), r.bids_unusable), (BIDS_PER_ANSWER_MAX, 3));
}

#[test]
fn real_answers_are_read() {
    let Some(folder) = corpus("dsp-responses") else { return };
    let (mut files, mut objects, mut bids, mut unusable, mut priced) = (0, 0, 0, 0, 0);
    let mut response = Response::default();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let body = std::fs::read(&path).unwrap();
        files += 1;
        let theirs = serde_json::from_slice::<serde_json::Value>(&body);
        let ours = response.parse(&body);
        let object = theirs.as_ref().is_ok_and(serde_json::Value::is_object);
        assert_eq!(ours.is_ok(), object, "{}: {ours:?}", path.display());
        if !object {
            continue;
        }
        objects += 1;
        bids += response.bids.len();
        unusable += response.bids_unusable;
        priced += response.bids.iter().filter(|b| b.price.is_ok()).count();
        let theirs = theirs.unwrap();
        let seats = theirs["seatbid"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all: Vec<_> = seats.iter().flat_map(|s| s["bid"].as_array().cloned().unwrap_or_default()).collect();
        // What stands where a list of bids should counts as one bid, and cannot be used.
        let misshapen = |v: &serde_json::Value| usize::from(!v.is_array() && !v.is_null());
        let odd = misshapen(&theirs["seatbid"]) + seats.iter().map(|s| misshapen(&s["bid"])).sum::<usize>();
        assert_eq!(all.len() + odd, response.bids_seen as usize, "{}", path.display());
        let usable = all.iter().filter(|b| b["id"].as_str().is_some_and(|s| !s.is_empty()));
        let usable = usable.filter(|b| b["impid"].as_str().is_some_and(|s| !s.is_empty()));
        for (theirs, ours) in usable.zip(&response.bids) {
            let same = |name: &str, text: super::text::Text| {
                let text = text.is_some().then(|| String::from_utf8(text.bytes(&body).collect()).unwrap());
                assert_eq!(text.as_deref(), theirs[name].as_str(), "{} {name}", path.display());
            };
            same("id", ours.id);
            same("impid", ours.impid);
            same("adm", ours.adm);
            same("nurl", ours.nurl);
            same("crid", ours.crid);
            same("dealid", ours.dealid);
        }
    }
    println!("{files} answers: {objects} objects, {bids} bids, {priced} of them with a price, {unusable} unusable");
    assert!(files >= 300 && bids >= 300);
}
