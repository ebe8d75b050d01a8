use super::*;
use crate::{
    budget::{AccountId, Period},
    record::labels::Refusal,
    units::{EventId, Money},
};
use serde_json::Value;

fn shown(kind: u8, payload: &[u8]) -> (String, Value) {
    let mut out = String::new();
    show(kind, 1, payload, &mut out).unwrap_or_else(|e| panic!("kind {kind}: {e}"));
    let value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    (out, value)
}

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn notice(event: EventId) -> Notice<'static> {
    let name = Name { event, imp: 1, kind: crate::notice::token::Kind::Billed };
    Notice {
        name,
        expired: false,
        said: crate::notice::price::Said::Nothing,
        price: crate::units::Cpm(1_250_000),
        charge: Money(1_250_000),
        held: Some(Money(1_500_000)),
        account: AccountId(7),
        period: Period(29_000_000),
        expires_s: 5,
        buyer: b"",
        url: b"http://dsp.example/b",
    }
}

/// One of each kind but auctions.
fn payloads() -> Vec<(u8, Vec<u8>)> {
    let event = EventId { node: 1, epoch: 2, core: 3, seq: 4 };
    let freed = delivery::Freed { account: AccountId(7), period: Period(29_000_000), amount: Money(1_250_000) };
    let sample = RefusalSample { reason: "no_route", path: "/rtb", status: 404, head_bytes: 120, ..Default::default() };
    let change = Configured { wall_ms: 1, id: 2, old_hash: 0xab, new_hash: 0xcd, by: configured::By::Reload };
    let start = Started {
        wall_ms: 1,
        node: 255,
        epoch: 2,
        boot_id: [0x5a; 16],
        cores: 4,
        config_hash: 0xcd,
        program: "0.1.0",
        region: "eu-1",
    };
    let stop = Stopped { wall_ms: 9, why: stopped::Why::Asked, unfinished: 1 };
    vec![
        (2, bytes(|b| Delivery::Late { at_ns: 5 }.encode(event, &[freed], b))),
        (2, bytes(|b| Delivery::ClientLeft.encode(event, &[], b))),
        (3, bytes(|b| refusals::encode(1_000, 1_000, [("x", Refusal::NotJson, 2), ("", Refusal::BadLine, 1)], b))),
        (4, bytes(|b| sample.encode(b))),
        (5, bytes(|b| crate::budget::movement::tests::movements()[0].encode(b))),
        (5, bytes(|b| crate::budget::movement::tests::movements()[1].encode(b))),
        (6, bytes(|b| crate::budget::event::tests::events()[0].encode(b))),
        (6, bytes(|b| crate::budget::event::tests::events()[1].encode(b))),
        (6, bytes(|b| crate::budget::event::tests::events()[2].encode(b))),
        (9, bytes(|b| change.encode(b))),
        (10, bytes(|b| start.encode(b))),
        (11, bytes(|b| stop.encode(b))),
        (12, bytes(|b| Clean { wall_ms: 9, last: vec![(0, 7)] }.encode(b))),
        (7, bytes(|b| notice(event).encode(b))),
        (15, bytes(|b| Told { name: notice(event).name, end: told::End::Refused, status: 404, attempts: 1 }.encode(b))),
        (15, bytes(|b| Told { name: notice(event).name, end: told::End::GaveUp, status: 26, attempts: 3 }.encode(b))),
    ]
}

#[test]
fn each_kind_is_one_line() {
    let lines: Vec<String> = payloads().iter().map(|(kind, payload)| shown(*kind, payload).0).collect();
    let want = [
        r#"{"type":"delivery","bidid":"000000010000000200030000000000000004","delivery":"late","boot_ns":5,"freed":[{"account":7,"period":29000000,"amount":0.00125}]}"#,
        r#"{"type":"delivery","bidid":"000000010000000200030000000000000004","delivery":"client_left"}"#,
        r#"{"type":"refusals","from_ms":1000,"span_ms":1000,"refusals":[{"exchange":"x","reason":"not_json","count":2},{"reason":"bad_line","count":1}]}"#,
        r#"{"type":"refusal_sample","reason":"no_route","status":404,"at":0,"path":"/rtb","head_bytes":120,"body_bytes":0,"digest":"0000000000000000"}"#,
        r#"{"type":"account","wall_ms":1795219200000,"id":2,"did":"set","by":"admin","who":"ops","converted":{"from":"EUR","rate":1.0837,"table":"2026-11-21"},"before":{"name":"summer","advertiser":1,"dsp":"north","seat":"s-7","cid":"cä","daily":100,"hourly":5,"zone":"Europe/Berlin","since_ms":1795219200000,"state":"active","pacing":"even"},"after":{"name":"summer","advertiser":1,"dsp":"north","seat":"s-7","cid":"cä","daily":108.370000001,"lifetime":0.000000009,"extra":{"day_ms":1795200000000,"amount":1.5},"zone":"Europe/Berlin","since_ms":1795219200000,"state":"paused","pacing":"even"}}"#,
        r#"{"type":"account","wall_ms":1,"id":1,"did":"add","by":"file","after":{"name":"acme","daily":0.000000001,"zone":"Europe/Berlin","state":"active","pacing":"even"}}"#,
        r#"{"type":"lease","wall_ms":1795219200000,"did":"settled","node":"000000ff","epoch":3,"complete":true,"lines":2,"returned":4,"spent":6,"held":0,"forfeit":0.000000001}"#,
        r#"{"type":"lease","wall_ms":1795219200000,"did":"ended","node":"000000ff","epoch":3,"lines":[{"account":7,"period":29920320,"how":"proven","granted":10,"returned":4,"charged":6.25,"freed":0.25},{"account":8,"period":29920320,"how":"forfeit","granted":10,"returned":0,"charged":6.25,"freed":0.25}]}"#,
        r#"{"type":"lease","wall_ms":1795219200000,"did":"stopped","account":7,"level":"server","invariant":"core_sums"}"#,
        r#"{"type":"configuration","wall_ms":1,"id":2,"old":"00000000000000ab","new":"00000000000000cd","by":"reload"}"#,
        r#"{"type":"start","wall_ms":1,"version":"0.1.0","node":"000000ff","epoch":2,"boot_id":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","cores":4,"configuration":"00000000000000cd","region":"eu-1"}"#,
        r#"{"type":"stop","wall_ms":9,"why":"asked","unfinished":1}"#,
        r#"{"type":"clean","wall_ms":9,"writers":[{"writer":0,"seq":7}]}"#,
        r#"{"type":"notice","bidid":"000000010000000200030000000000000004","imp":1,"notice":"billed","said":"nothing","price":1.25,"charge":0.00125,"held":0.0015,"account":7,"period":29000000,"expires_s":5,"url":"http://dsp.example/b"}"#,
        r#"{"type":"told","bidid":"000000010000000200030000000000000004","imp":1,"notice":"billed","end":"refused","status":404,"attempts":1}"#,
        r#"{"type":"told","bidid":"000000010000000200030000000000000004","imp":1,"notice":"billed","end":"gave_up","failed":"tls_failed","attempts":3}"#,
    ];
    assert_eq!(lines, want);
}

#[test]
fn every_line_names_its_kind_and_what_is_none_is_refused() {
    for (kind, payload) in payloads() {
        assert_eq!(shown(kind, &payload).1["type"], name(kind).unwrap());
        let mut out = String::new();
        // A delivery says its version in its payload.
        if kind != delivery::KIND {
            assert_eq!(show(kind, 9, &payload, &mut out), Err(RecordError::Version), "kind {kind}");
        }
        assert_eq!(show(kind, 1, &[], &mut out), Err(RecordError::Short));
        assert_eq!(out, "", "nothing of what is damaged");
    }
    let mut out = String::new();
    for kind in [0, 13, 255] {
        assert_eq!((show(kind, 1, b"x", &mut out), name(kind)), (Err(RecordError::Version), None));
    }
}

const V1: &str = include_str!("../../auction/record/v1.golden.txt");
const V2: &str = include_str!("../../auction/record/v2.golden.txt");
const V3: &str = include_str!("../../auction/record/v3.golden.txt");
const V4: &str = include_str!("../../auction/record/v4.golden.txt");
const V5: &str = include_str!("../../auction/record/v5.golden.txt");

/// Records of every version as they were written, and as they are shown: one line each. `OUTCRY_BLESS` writes the lines.
#[test]
fn auctions_are_shown_in_openrtbs_terms() {
    let golden = [V1, V2, V3, V4, V5];
    let mut lines = String::new();
    for line in golden.iter().flat_map(|text| text.lines()) {
        let bytes: Vec<u8> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        let (text, value) = shown(record::KIND, &bytes);
        assert_eq!(value["wins"].as_array().map(Vec::len), Record::decode(&bytes).map(|r| r.decision.wins.len()).ok());
        for win in value["wins"].as_array().unwrap() {
            let bid = value["bids"].as_array().unwrap().iter().find(|b| b["loss"] == 0 && b["impid"] == win["impid"]);
            assert_eq!(bid.map(|b| (&b["id"], &b["dsp"])), Some((&win["id"], &win["dsp"])));
        }
        lines += &text;
        lines.push('\n');
    }
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/record/show/auctions.golden.json"), &lines).unwrap();
        return;
    }
    for (now, want) in lines.lines().zip(include_str!("auctions.golden.json").lines()) {
        assert_eq!(now, want);
    }
    assert_eq!(lines, include_str!("auctions.golden.json"));
}

/// The same records as tables; what every one of them has to say in a dispute is there.
#[test]
fn auctions_are_reported_for_people() {
    let mut text = String::new();
    for (at, line) in [V2, V3, V4, V5].iter().flat_map(|text| text.lines()).enumerate() {
        let bytes: Vec<u8> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        let record = Record::decode(&bytes).unwrap();
        let late = Delivery::Late { at_ns: record.inputs.deadline_ns + 5_000_000 };
        let deliveries = [vec![], vec![late], vec![Delivery::Failed], vec![Delivery::ClientLeft]];
        let from = text.len();
        report(&record, &deliveries[at % 4], &mut text);
        let (own, i) = (&text[from..], &record.inputs);
        for kept in i.legs.iter().map(|l| l.name).chain(i.bids.iter().map(|b| b.id)).chain([i.request_id]) {
            assert!(own.contains(&columns::plain(i.text(kept))), "{own}");
        }
        for win in &record.decision.wins {
            assert!(own.contains(&win.charge.to_string()) && own.contains(&win.price.to_string()), "{own}");
        }
        assert_eq!(own.matches(" WON").count(), record.decision.wins.len(), "{own}");
        text.push('\n');
    }
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/record/show/auctions.golden.txt"), &text).unwrap();
        return;
    }
    assert_eq!(text, include_str!("auctions.golden.txt"));
}

/// What was cut is named, a DSP that was offered less than all says what, and a bid on nothing has no impression.
#[test]
fn an_auction_tells_what_is_not_whole() {
    use crate::auction::input::{BidIn, ImpIn, Inputs, Kept, Leg, NO_DEAL, NO_IMP};
    use crate::openrtb::codes::{Loss, Outcome};
    let texts = b"ab\"".to_vec();
    let kept = |at: u32, cut| Kept { at, len: 1, cut };
    let leg = Leg {
        dsp: Default::default(),
        name: kept(0, false),
        dsp_key: 0,
        imps: 0b10,
        outcome: Some(Outcome::Late),
        closed_by_decision: true,
        queued_ns: 0,
        sent_ns: 0,
        first_byte_ns: 0,
        done_ns: 0,
        currency: crate::units::Currency::USD,
        rate: crate::units::Rate::ONE,
        nbr: Some(2),
        bids_seen: 300,
        bids_unusable: 1,
        bids_dropped: 2,
        asked_probability: crate::units::Probability::nearest(500),
    };
    let bid = BidIn {
        leg: 9,
        index: 0,
        imp: NO_IMP,
        seatbid: 0,
        group: false,
        price: crate::units::Cpm(1),
        deal: NO_DEAL,
        media: Default::default(),
        seat_key: 0,
        content: 0,
        verdict: Loss::InvalidBid,
        seat: Kept::default(),
        id: kept(1, true),
        cid: Kept::default(),
        crid: Kept::default(),
        adomain: kept(2, false),
    };
    let imp = |at, cut| ImpIn { id: kept(at, cut), ..ImpIn::default() };
    let inputs = Inputs {
        legs: vec![leg],
        bids: vec![bid],
        imps: vec![imp(0, false), imp(1, true)],
        texts,
        ..Inputs::default()
    };
    let mut out = String::new();
    auction::show(&Record { inputs, ..Record::default() }, 2, &mut out);
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
    assert_eq!(value["dsps"][0]["impids"], serde_json::json!(["b"]));
    assert_eq!((&value["dsps"][0]["too_many"], &value["dsps"][0]["statuscode"]), (&2.into(), &101.into()));
    assert_eq!((&value["bids"][0]["adomain"][0], value["bids"][0].get("impid")), (&"\"".into(), None));
    assert_eq!(value["cut"], serde_json::json!(["imp.id", "bid.id"]));
}
