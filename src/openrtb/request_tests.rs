//! What is accepted, what is refused and why, and what is read.
use super::{
    request::{Channel, ImpRefusal, Media, Request, SchainPlace},
    response::Response,
    text::Text,
    validate::{Fault, Field},
};
use crate::{
    json::Why,
    limits::{DEALS_MAX, IMPS_MAX, TEXTS_MAX},
    units::{Cpm, Currency, Multiplier},
};
use proptest::prelude::*;

fn parse(body: &str) -> Result<Request, (Fault, String)> {
    let mut request = Request::default();
    match request.parse(body.as_bytes(), 0, &Default::default()) {
        Ok(()) => Ok(request),
        Err(refusal) => {
            let mut path = vec![];
            refusal.write_field(&mut path);
            Err((refusal.rule.fault, String::from_utf8(path).unwrap()))
        }
    }
}

/// A request around one member of its impression.
fn imp(member: &str) -> String {
    format!(r#"{{"id":"r","imp":[{{"id":"1","banner":{{}},{member}}}]}}"#)
}

/// A request with one more member.
fn top(member: &str) -> String {
    format!(r#"{{"id":"r","imp":[{{"id":"1","banner":{{}}}}],{member}}}"#)
}

fn native(request: &str) -> String {
    let text = serde_json::to_string(request).unwrap();
    format!(r#"{{"id":"r","imp":[{{"id":"1","native":{{"request":{text}}}}}]}}"#)
}

#[test]
fn refusals() {
    let assets = |asset: &str| native(&format!(r#"{{"assets":[{{"title":{{"len":9}}}},{asset}]}}"#));
    let trackers = |t: &str| native(&format!(r#"{{"assets":[{{"title":{{"len":9}}}}],"eventtrackers":[{t}]}}"#));
    let rows: Vec<(String, Fault, &str)> = vec![
        ("null".into(), Fault::WrongType, ""),
        ("[]".into(), Fault::WrongType, ""),
        ("{}".into(), Fault::Missing, "id"),
        (r#"{"id":"r"}"#.into(), Fault::Missing, "imp"),
        (r#"{"id":"r","imp":[]}"#.into(), Fault::Missing, "imp"),
        (r#"{"id":7,"imp":[]}"#.into(), Fault::WrongType, "id"),
        (r#"{"id":"r","imp":{}}"#.into(), Fault::WrongType, "imp"),
        (r#"{"id":"r","imp":[null]}"#.into(), Fault::WrongType, "imp[0]"),
        (r#"{"id":"r","imp":[{}]}"#.into(), Fault::Missing, "imp[0].id"),
        (r#"{"id":"r","imp":[{"id":"1"}]}"#.into(), Fault::NoMedia, "imp[0]"),
        (r#"{"id":"r","imp":[{"id":"1","banner":null}]}"#.into(), Fault::NoMedia, "imp[0]"),
        (
            r#"{"id":"r","imp":[{"id":"1","banner":{}},{"id":"\u0031","banner":{}}]}"#.into(),
            Fault::NotUnique,
            "imp[1].id",
        ),
        (top(r#""id":"s""#), Fault::DuplicateKey, ""),
        (top(r#""\u0069d":"s""#), Fault::DuplicateKey, ""),
        (top(r#""site":{},"app":{}"#), Fault::TwoChannels, "app"),
        (top(r#""dooh":{},"site":{}"#), Fault::TwoChannels, "site"),
        (top(r#""site":"x""#), Fault::WrongType, "site"),
        (top(r#""tmax":-1"#), Fault::Negative, "tmax"),
        (top(r#""tmax":"100""#), Fault::WrongType, "tmax"),
        (top(r#""tmax":1.5"#), Fault::WrongType, "tmax"),
        (top(r#""at":-1"#), Fault::Negative, "at"),
        (top(r#""cur":["",7]"#), Fault::NotACurrency, "cur"),
        (top(r#""cur":"USD""#), Fault::WrongType, "cur"),
        (top(r#""badv":"x.example""#), Fault::WrongType, "badv"),
        (top(r#""regs":{"gdpr":2}"#), Fault::NotListed, "regs.gdpr"),
        (top(r#""regs":{"ext":{"gdpr":-1}}"#), Fault::NotListed, "regs.ext.gdpr"),
        (top(r#""regs":{"ext":[]}"#), Fault::WrongType, "regs.ext"),
        (top(r#""regs":{"ext":{"us_privacy":1}}"#), Fault::WrongType, "regs.ext.us_privacy"),
        (top(r#""user":{"ext":1}"#), Fault::WrongType, "user.ext"),
        (top(r#""user":{"ext":{"consent":1}}"#), Fault::WrongType, "user.ext.consent"),
        (top(r#""user":{"consent":true}"#), Fault::WrongType, "user.consent"),
        (top(r#""user":{"geo":{"accuracy":-5}}"#), Fault::Negative, "user.geo.accuracy"),
        (top(r#""device":{"h":-1}"#), Fault::Negative, "device.h"),
        (top(r#""device":{"ppi":-1.5}"#), Fault::Negative, "device.ppi"),
        (top(r#""device":{"geo":{"accuracy":-5}}"#), Fault::Negative, "device.geo.accuracy"),
        (imp(r#""bidfloor":-0.01"#), Fault::Negative, "imp[0].bidfloor"),
        (imp(r#""bidfloor":1e999"#), Fault::TooLarge, "imp[0].bidfloor"),
        (imp(r#""bidfloor":"1""#), Fault::WrongType, "imp[0].bidfloor"),
        (imp(r#""bidfloorcur":"DOLLAR""#), Fault::NotACurrency, "imp[0].bidfloorcur"),
        (imp(r#""qty":{"multiplier":0}"#), Fault::Zero, "imp[0].qty.multiplier"),
        (imp(r#""qty":{"multiplier":-1}"#), Fault::Negative, "imp[0].qty.multiplier"),
        (imp(r#""ext":"x""#), Fault::WrongType, "imp[0].ext"),
        (imp(r#""video":{}"#), Fault::Missing, "imp[0].video.mimes"),
        (imp(r#""video":{"mimes":[]}"#), Fault::Missing, "imp[0].video.mimes"),
        (imp(r#""video":{"mimes":["v"],"w":-1}"#), Fault::Negative, "imp[0].video.w"),
        (imp(r#""video":{"mimes":["v"],"w":1,"w":2}"#), Fault::DuplicateKey, "imp[0].video"),
        (imp(r#""audio":{"mimes":["a"],"maxbitrate":-1}"#), Fault::Negative, "imp[0].audio.maxbitrate"),
        (imp(r#""native":{}"#), Fault::Missing, "imp[0].native.request"),
        (imp(r#""native":{"request":""}"#), Fault::Missing, "imp[0].native.request"),
        (imp(r#""native":{"request":{}}"#), Fault::WrongType, "imp[0].native.request"),
        (imp(r#""pmp":{"deals":[{"id":"d"},{}]}"#), Fault::Missing, "imp[0].pmp.deals[1].id"),
        (imp(r#""pmp":{"deals":[{"id":"d","bidfloor":-1}]}"#), Fault::Negative, "imp[0].pmp.deals[0].bidfloor"),
        (
            r#"{"id":"r","imp":[{"id":"1","banner":{"format":[{"w":1,"h":1},{"w":-1,"h":1}]}}]}"#.into(),
            Fault::Negative,
            "imp[0].banner.format[1].w",
        ),
        (native("[]"), Fault::WrongType, "imp[0].native.request"),
        (native("{"), Fault::NotJsonInside, "imp[0].native.request"),
        (native("{} x"), Fault::Missing, "imp[0].native.request.assets"),
        (native(r#"{"assets":[]}"#), Fault::Missing, "imp[0].native.request.assets"),
        (native(r#"{"native":{"assets":[]}}"#), Fault::Missing, "imp[0].native.request.assets"),
        (native(r#"{"context":4,"assets":[{}]}"#), Fault::NotListed, "imp[0].native.request.context"),
        (native(r#"{"plcmttype":5,"assets":[{}]}"#), Fault::NotListed, "imp[0].native.request.plcmttype"),
        (assets("{}"), Fault::NoKind, "imp[0].native.request.assets[1]"),
        (assets(r#"{"title":{"len":1},"img":{}}"#), Fault::TwoKinds, "imp[0].native.request.assets[1]"),
        (assets(r#"{"title":{}}"#), Fault::Missing, "imp[0].native.request.assets[1].title.len"),
        (assets(r#"{"img":{"wmin":-1}}"#), Fault::Negative, "imp[0].native.request.assets[1].img.wmin"),
        (assets(r#"{"data":{"type":13}}"#), Fault::NotListed, "imp[0].native.request.assets[1].data.type"),
        (assets(r#"{"id":1,"img":{}},{"id":1,"img":{}}"#), Fault::NotUnique, "imp[0].native.request.assets"),
        (trackers(r#"{"event":5,"methods":[1]}"#), Fault::NotListed, "imp[0].native.request.eventtrackers[0].event"),
        (trackers(r#"{"event":1}"#), Fault::Missing, "imp[0].native.request.eventtrackers[0].methods"),
        (trackers(r#"{"event":1,"methods":[3]}"#), Fault::NotListed, "imp[0].native.request.eventtrackers[0].methods"),
        (top(r#""x":tru"#), Fault::NotJson(Why::Value), ""),
        (top(r#""x":"\ud800""#), Fault::NotJson(Why::Surrogate), ""),
        (top(r#""tmax":bad"#), Fault::NotJson(Why::Value), ""),
    ];
    for (body, fault, field) in rows {
        assert_eq!(parse(&body).map(drop), Err((fault, field.to_owned())), "{body}");
    }
}

#[test]
fn odd_but_legal() {
    for body in [
        top(r#""tmax":100.0,"at":1e0,"test":null,"cur":[],"wseat":null,"site":null,"app":{}"#),
        top(r#""x":1,"x":2,"tmax":99999999999999999999"#),
        top(r#""device":{"ua":7,"w":412.5,"geo":{"lat":-1,"country":null}},"regs":{},"user":{"eids":7}"#),
        top(r#""cur":["usd","?"],"source":{"ext":null,"schain":{}}"#),
        imp(r#""bidfloor":-0,"bidfloorcur":"","metric":[{}],"secure":7,"exp":null,"pmp":{}"#),
        imp(r#""video":{"mimes":["v"],"startdelay":-1,"protocols":[999],"plcmt":77}"#),
        native(r#"{"native":{"context":500,"contextsubtype":10,"assets":[{"img":{}}]}}"#),
        native(r#"{"context":3,"contextsubtype":31,"plcmttype":501,"assets":[{"data":{"type":501}}]}"#),
    ] {
        assert_eq!(parse(&body).map(drop), Ok(()), "{body}");
    }
}

#[test]
fn everything_is_read() {
    let body = r#" {"id":"r1","test":1,"at":1,"tmax":120,"allimps":1,"cattax":7,"cur":["eur","USD","EUR"],"wseat":["s1"],
      "bcat":["IAB25","IAB26"],"badv":["a.example"],"bapp":["com.x"],
      "app":{"id":"a","bundle":"com.pub","domain":"pub.example","publisher":{"id":"p"}},
      "device":{"ua":"UA","ip":"1.2.3.4","ipv6":"::1","ifa":"I","devicetype":4,"lmt":1,"geo":{"country":"DEU"}},
      "user":{"id":"u","buyeruid":"b","ext":{"consent":"old","prebid":{"buyeruids":{"one":"1"}},"buyeruids":{"two":"2"}},"consent":"new"},
      "regs":{"coppa":1,"ext":{"gdpr":0,"us_privacy":"1YNN"},"gdpr":1,"gpp":"G"},
      "source":{"fd":1,"tid":"t","ext":{"schain":{"nodes":[]}}},"ext":{"schain":{"nodes":[1]}},
      "imp":[{"id":"i1","tagid":"t1","bidfloor":1.0000001,"bidfloorcur":"EUR","secure":1,"instl":1,"rwdd":1,"exp":30,
        "qty":{"multiplier":30.3},"banner":{"format":[{"w":300,"h":250},{"wratio":1,"hratio":2}],"w":320,"h":50,"battr":[1,2]},
        "video":{"mimes":["v"],"minduration":5,"maxduration":30,"poddur":60,"maxseq":3,"battr":[3],"bidfloor":2,"bidfloorcur":"GBP"},
        "pmp":{"private_auction":1,"deals":[{"id":"d","bidfloor":3.5,"at":3,"guar":1,"wseat":["x"],"wadomain":["y","z"]}]}},
       {"id":"i2","audio":{"mimes":["a"],"minduration":1,"maxduration":2}}]} "#;
    let r = parse(body).unwrap();
    let b = body.as_bytes();
    let is = |t: Text, want: &str| assert_eq!(std::str::from_utf8(t.raw(b)).unwrap(), want);
    is(r.id, "r1");
    assert_eq!((r.test, r.at, r.tmax_ms, r.allimps, r.cattax), (true, 1, Some(120), true, 7));
    assert_eq!(r.currencies, [Currency(*b"EUR"), Currency::USD]);
    let list = |run: super::request::Run| {
        run.of(&r.texts).iter().map(|t| std::str::from_utf8(t.raw(b)).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((list(r.wseat), list(r.bcat)), (vec!["s1"], vec!["IAB25", "IAB26"]));
    assert_eq!((list(r.badv), list(r.bapp), r.acat.len), (vec!["a.example"], vec!["com.x"], 0));
    assert_eq!(r.channel, Channel::App);
    for (t, want) in [
        (r.channel_id, "a"),
        (r.bundle, "com.pub"),
        (r.domain, "pub.example"),
        (r.publisher_id, "p"),
        (r.ua, "UA"),
        (r.ip, "1.2.3.4"),
        (r.ipv6, "::1"),
        (r.ifa, "I"),
        (r.country, "DEU"),
        (r.user_id, "u"),
        (r.buyeruid, "b"),
        (r.consent, "new"),
        (r.us_privacy, "1YNN"),
        (r.gpp, "G"),
        (r.tid, "t"),
    ] {
        is(t, want);
    }
    assert_eq!((r.devicetype, r.lmt, r.coppa, r.gdpr, r.fd), (4, true, true, Some(true), true));
    assert_eq!(r.buyeruids.len(), 2);
    assert_eq!(r.anchors.schain_place, SchainPlace::SourceExt);
    assert_eq!(r.anchors.schain_nodes.of(b), b"[]");
    assert_eq!(r.anchors.schain_spare[0].of(b), b"\"schain\":{\"nodes\":[1]}");
    let i = &r.imps[0];
    assert_eq!((i.media, i.bidfloor, i.bidfloorcur), (Media(3), Cpm(1_000_001), Currency(*b"EUR")));
    assert_eq!((i.secure, i.instl, i.rwdd, i.exp_s, i.qty), (true, true, true, 30, Multiplier(30_300_000)));
    assert_eq!(i.sizes.of(&r.sizes), [(300, 250), (320, 50)]);
    assert_eq!((i.banner_battr.of(&r.numbers), i.video_battr.of(&r.numbers)), (&[1, 2][..], &[3][..]));
    assert_eq!((i.duration_s, i.refused), ((5, 30), Some(ImpRefusal::DynamicPod)));
    assert_eq!(i.media_floor, Some((Media::VIDEO, Cpm(2_000_000), Currency(*b"GBP"))));
    assert!(i.private_auction && i.whole.of(b).starts_with(b"{\"id\":\"i1\"") && i.whole.of(b).ends_with(b"}}"));
    let d = i.deals.of(&r.deals)[0];
    assert_eq!((d.bidfloor, d.bidfloorcur, d.at, d.guar), (Cpm(3_500_000), Currency::USD, 3, true));
    assert_eq!((list(d.wseat), list(d.wadomain)), (vec!["x"], vec!["y", "z"]));
    assert_eq!((r.imps[1].duration_s, r.imps[1].media, r.imps[1].refused), ((1, 2), Media::AUDIO, None));
}

#[test]
fn limits_hold() {
    let many = |n: usize, one: fn(usize) -> String| (0..n).map(one).collect::<Vec<_>>().join(",");
    let imps = |n| format!(r#"{{"id":"r","imp":[{}]}}"#, many(n, |i| format!(r#"{{"id":"{i}","banner":{{}}}}"#)));
    let deals = |n| imp(&format!(r#""pmp":{{"deals":[{}]}}"#, many(n, |i| format!(r#"{{"id":"{i}"}}"#))));
    let texts = |n| top(&format!(r#""badv":[{}]"#, many(n, |i| format!("\"{i}\""))));
    for (at, above, field) in [
        (imps(IMPS_MAX), imps(IMPS_MAX + 1), Field::Imps),
        (deals(DEALS_MAX), deals(DEALS_MAX + 1), Field::PmpDeals),
        (texts(TEXTS_MAX), texts(TEXTS_MAX + 1), Field::Badv),
    ] {
        assert!(parse(&at).is_ok());
        assert_eq!(parse(&above).unwrap_err().0, Fault::TooMany, "{field:?}");
    }
}

#[test]
fn a_view_is_reused_without_a_trace() {
    let rich = top(r#""tmax":7,"cur":["EUR"],"badv":["x"],"test":1,"user":{"buyeruid":"b"},"at":1"#);
    let plain = r#"xx{"id":"r","imp":[{"id":"1","banner":{}}]}"#;
    let (mut fresh, mut used) = (Request::default(), Request::default());
    used.parse(rich.as_bytes(), 0, &Default::default()).unwrap();
    used.parse(plain.as_bytes(), 2, &Default::default()).unwrap();
    fresh.parse(plain.as_bytes(), 2, &Default::default()).unwrap();
    assert_eq!(format!("{fresh:?}"), format!("{used:?}"));
    assert_eq!(used.whole.of(plain.as_bytes()), &plain.as_bytes()[2..]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Whatever is accepted is JSON with an id and impressions; nothing panics; a refusal points into the body.
    #[test]
    fn broken_requests_are_refused_or_read(
        which in 0..RICH.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(),
            prop::sample::select(&b"\"\\{}[],:0-e.n \x00"[..]),
        ], any::<bool>()), 0..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut body = RICH[which].as_bytes().to_vec();
        for (at, byte, insert) in edits {
            let i = at.index(body.len());
            if insert { body.insert(i, byte) } else { body[i] = byte }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let json = serde_json::from_slice::<serde_json::Value>(&body);
        let (mut request, mut response) = (Request::default(), Response::default());
        match request.parse(&body, 0, &Default::default()) {
            Ok(()) => {
                let json = json.as_ref().expect("we took it for JSON");
                let id = String::from_utf8(request.id.bytes(&body).collect()).unwrap();
                prop_assert_eq!(Some(id.as_str()), json["id"].as_str());
                prop_assert_eq!(request.imps.len(), json["imp"].as_array().unwrap().len());
            }
            Err(refusal) => {
                prop_assert!(refusal.at as usize <= body.len());
                if let Fault::NotJson(_) = refusal.rule.fault {
                    prop_assert!(json.is_err());
                }
            }
        }
        if response.parse(&body).is_ok() {
            prop_assert!(json.is_ok_and(|v| v.is_object()));
        }
    }
}

#[test]
fn what_is_broken_was_whole() {
    for body in RICH {
        assert_eq!(parse(body).map(drop), Ok(()), "{body}");
        Response::default().parse(body.as_bytes()).unwrap();
    }
}

const RICH: [&str; 3] = [
    r#"{"id":"r","imp":[{"id":"1","banner":{"format":[{"w":300,"h":250}],"battr":[1]},"bidfloor":0.5,"qty":{"multiplier":2.5}},{"id":"2","video":{"mimes":["v"],"minduration":5}}],"cur":["USD"],"tmax":100}"#,
    r#"{"id":"r","imp":[{"id":"\u0031","native":{"request":"{\"context\":1,\"assets\":[{\"id\":1,\"title\":{\"len\":9}}]}"},"pmp":{"deals":[{"id":"d","wseat":["s"]}]}}],"app":{"publisher":{"id":"p"}}}"#,
    r#"{"id":"r","seatbid":[{"seat":"s","bid":[{"id":"b","impid":"i","price":"1.5","adomain":["a"],"attr":[1]}]}],"cur":["EUR"],"imp":[{"id":"1","audio":{"mimes":["a"]}}],"source":{"schain":{"nodes":[{}]}},"user":{"ext":{"prebid":{"buyeruids":{"a":"b"}}}}}"#,
];
