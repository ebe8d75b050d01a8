//! A DSP's answer as a view: the same as a reading by `serde_json` that knows nothing of cursors.
use super::node::{Node, Trouble, scaled, whole};
use outcry::{
    json::{self, Why},
    limits::{BIDS_PER_ANSWER_MAX, JSON_DEPTH_MAX, TEXTS_MAX},
    openrtb::{
        request::{Media, Run},
        response::{Bid, Response, ResponseError},
        text::Text,
    },
    units::{Cpm, Currency, PriceError},
};

const KEYS: [&[&str]; 3] = [
    &["id", "seatbid", "bidid", "cur", "nbr"],
    &["bid", "seat", "group"],
    &[
        "id", "impid", "price", "adm", "nurl", "burl", "lurl", "adomain", "cat", "cattax", "attr", "bundle", "cid",
        "crid", "adid", "dealid", "w", "h", "mtype", "dur", "exp",
    ],
];

/// Reads an answer both ways; the view, or why there is none.
pub fn check(bytes: &[u8]) -> Result<Response, ResponseError> {
    let mut view = Response::default();
    let read = view.parse(bytes).map(|()| view);
    match (&read, Node::read(bytes, JSON_DEPTH_MAX)) {
        (Ok(view), Ok(node)) => compare(view, bytes, &node),
        (Ok(_), Err(trouble)) => panic!("accepted: {trouble:?}"),
        (Err(e), Ok(node)) => refused_rightly(*e, &node),
        (Err(ResponseError::NotJson(json::Error { why: Why::Depth, .. })), Err(trouble)) => {
            // Where it went too deep, what stands behind was not looked at.
            assert_ne!(trouble, Trouble::Surrogate);
        }
        (Err(ResponseError::NotJson(json::Error { why: Why::Surrogate, .. })), Err(_)) => {}
        (Err(ResponseError::NotJson(_)), Err(trouble)) => assert_eq!(trouble, Trouble::NotJson),
        // A member that stands twice is seen before what stands behind it.
        (Err(ResponseError::DuplicateKey(_)), Err(_)) => {}
        (Err(ResponseError::NotAnObject), Err(trouble)) => panic!("no object, but {trouble:?}"),
    }
    read
}

/// JSON, and refused: no object, or a member that we read stands twice.
fn refused_rightly(e: ResponseError, node: &Node<'_>) {
    let twice = |node: &Node<'_>, keys: &[&str]| {
        let members = node.members().unwrap_or_default();
        keys.iter().any(|key| members.iter().filter(|(k, _)| k == key).count() > 1)
    };
    let seatbids = || node.get("seatbid").and_then(Node::items).unwrap_or_default();
    let bids = || seatbids().iter().flat_map(|s| s.get("bid").and_then(Node::items).unwrap_or_default());
    match e {
        ResponseError::NotAnObject => assert!(node.members().is_none()),
        ResponseError::DuplicateKey(_) => {
            let any = twice(node, KEYS[0])
                || seatbids().iter().any(|s| twice(s, KEYS[1]))
                || bids().any(|b| twice(b, KEYS[2]));
            assert!(any, "no member stands twice");
        }
        ResponseError::NotJson(e) => panic!("JSON, and refused: {e}"),
    }
}

fn compare(view: &Response, bytes: &[u8], node: &Node<'_>) {
    assert!(node.members().is_some(), "accepted, and no object");
    let text = |t: Text, node: Option<&Node<'_>>| {
        let said = t.is_some().then(|| String::from_utf8(t.bytes(bytes).collect()).expect("UTF-8"));
        assert_eq!(said.as_deref(), node.and_then(Node::text));
    };
    text(view.id, node.get("id"));
    text(view.bidid, node.get("bidid"));
    assert_eq!(view.nbr, node.get("nbr").and_then(number));
    let cur = match node.get("cur").map(|n| n.text()) {
        None | Some(Some("")) => Some(Currency::USD),
        // A code is written without escapes: one that has some is none.
        Some(Some(code)) if code.len() + 2 == node.get("cur").map_or(0, |n| n.raw.len()) => {
            Currency::parse(code.as_bytes())
        }
        Some(_) => None,
    };
    assert_eq!(view.cur, cur);
    let (mut seen, mut usable, mut views) = (0, 0, view.bids.iter());
    let wrong = |list: Option<&Node<'_>>| u32::from(list.is_some_and(|n| n.items().is_none()));
    seen += wrong(node.get("seatbid"));
    for (n, seatbid) in node.get("seatbid").and_then(Node::items).unwrap_or_default().iter().enumerate() {
        seen += wrong(seatbid.get("bid"));
        for bid in seatbid.get("bid").and_then(Node::items).unwrap_or_default() {
            seen += 1;
            let named = |key| bid.get(key).and_then(Node::text).is_some_and(|s| !s.is_empty());
            if usable == BIDS_PER_ANSWER_MAX || !named("id") || !named("impid") {
                continue;
            }
            usable += 1;
            let view_of = views.next().expect("a bid that we did not see");
            compare_bid(view, view_of, bytes, bid);
            text(view_of.seat, seatbid.get("seat"));
            assert_eq!(view_of.group, seatbid.get("group").and_then(number) == Some(1));
            assert_eq!(usize::from(view_of.seatbid), n.min(usize::from(u16::MAX)));
        }
    }
    assert_eq!((view.bids_seen, view.bids.len()), (seen, usable));
    assert_eq!(view.bids_unusable, seen - usable as u32);
}

fn compare_bid(view: &Response, bid: &Bid, bytes: &[u8], node: &Node<'_>) {
    assert_eq!(bid.whole.of(bytes), node.raw.as_bytes());
    for (text, key) in [
        (bid.id, "id"),
        (bid.impid, "impid"),
        (bid.adm, "adm"),
        (bid.nurl, "nurl"),
        (bid.burl, "burl"),
        (bid.lurl, "lurl"),
        (bid.bundle, "bundle"),
        (bid.cid, "cid"),
        (bid.crid, "crid"),
        (bid.adid, "adid"),
        (bid.dealid, "dealid"),
    ] {
        let said = text.is_some().then(|| String::from_utf8(text.bytes(bytes).collect()).expect("UTF-8"));
        assert_eq!(said.as_deref(), node.get(key).and_then(Node::text), "{key}");
    }
    let plain = |key: &str| node.get(key).and_then(number);
    assert_eq!(bid.size, (plain("w").unwrap_or(0), plain("h").unwrap_or(0)));
    assert_eq!((bid.dur_s, bid.exp_s), (plain("dur").unwrap_or(0), plain("exp").unwrap_or(0)));
    assert_eq!(bid.cattax, plain("cattax").unwrap_or(1).max(1));
    assert_eq!(bid.media, plain("mtype").and_then(Media::of_mtype));
    let lists = |run: Run, key: &str| {
        let ours: Vec<String> =
            run.of(&view.texts).iter().map(|t| String::from_utf8(t.bytes(bytes).collect()).expect("UTF-8")).collect();
        let list = node.get(key);
        let one = list.filter(|n| n.text().is_some()).into_iter();
        let theirs: Vec<&str> =
            one.chain(list.and_then(Node::items).unwrap_or_default()).filter_map(Node::text).collect();
        assert!(ours == theirs || view.texts.len() == TEXTS_MAX, "{key}");
    };
    lists(bid.adomain, "adomain");
    lists(bid.cat, "cat");
    let attr = node.get("attr").and_then(Node::items).unwrap_or_default().iter();
    let attr: Vec<u32> = attr.filter_map(number).collect();
    assert!(bid.attr.of(&view.numbers) == attr || view.numbers.len() == TEXTS_MAX, "attr");
    // To the last digit, and never more than was bid.
    let exact = match node.get("price").and_then(digits) {
        None => Err(PriceError::NotANumber),
        Some(text) => match scaled(text, 6) {
            (value, exact) if text.starts_with('-') && (value > 0 || !exact) => Err(PriceError::Negative),
            (value, _) if value > Cpm::MAX.0 as u64 => Err(PriceError::TooLarge),
            (value, _) => Ok(Cpm(value as i64)),
        },
    };
    assert_eq!(bid.price, exact);
    if let Some(price) = node.get("price") {
        assert_eq!(bid.price_span.of(bytes), price.raw.as_bytes());
    }
}

/// The text of a number, be it in quotes or not. In quotes it may have white space around it and zeros in front, but no
/// escape.
fn digits<'n>(node: &'n Node<'_>) -> Option<&'n str> {
    let Some(inside) = node.text() else {
        return matches!(node.raw.as_bytes()[0], b'-' | b'0'..=b'9').then_some(node.raw);
    };
    if inside.len() + 2 != node.raw.len() {
        return None;
    }
    let text = inside.trim_matches([' ', '\t', '\n', '\r', '\x0c']);
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.strip_prefix(['+', '-']).unwrap_or(e)),
        None => (unsigned, "0"),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let all = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    (all(int) && all(frac) && all(exponent)).then_some(text)
}

/// A whole number that fits, in quotes or not; anything else is absence.
fn number(node: &Node<'_>) -> Option<u32> {
    digits(node).and_then(whole).and_then(|n| u32::try_from(n).ok())
}
