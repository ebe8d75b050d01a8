//! The state machine: who is offered what, what becomes of an answer, and what is written.
use super::{
    fixtures::{B, EUR, Fix, JPY, Replies, Reply, XXX, b, cpm, dsp},
    *,
};
use crate::{
    config::resolved::{Losses, Position, Wrapping},
    notice::{
        keys::Keys,
        sealed::Seal,
        target::Uncarried,
        token::{Kind, Token},
    },
    openrtb::{
        codes::Nbr,
        request::{ImpRefusal, Run},
    },
};

fn one(change: impl Fn(&mut Fix), bid: B) -> (Auction, Fix, Vec<(usize, Reply)>) {
    let mut fix = Fix::new();
    fix.imp("0.10");
    change(&mut fix);
    let replies = vec![(0, Reply::usd(&[bid]))];
    (fix.run(&replies), fix, replies)
}

/// The verdict on one bid of an otherwise empty auction.
fn verdict(change: impl Fn(&mut Fix), bid: B) -> Loss {
    one(change, bid).0.decision().losses[0]
}

#[test]
fn eligibility() {
    let bid = || b(0, "1");
    let from = |domain: &str| B { adomain: vec![domain.into()], ..bid() };
    let of = |cat: &str, cattax: u32| B { cat: vec![cat.into()], cattax, ..bid() };
    let seat = |seat: &str| B { seat: seat.into(), ..bid() };
    let sized = |size: (u32, u32)| B { size, ..bid() };
    let on = |deal: &str| B { deal: deal.into(), ..bid() };
    let badv = |f: &mut Fix| f.request.badv = f.texts(&["brand.com", "other.net"]);
    let bcat = |f: &mut Fix| f.request.bcat = f.texts(&["IAB25", "IAB7-39"]);
    let acat = |f: &mut Fix| f.request.acat = f.texts(&["IAB1"]);
    let wseat = |f: &mut Fix| f.request.wseat = f.texts(&["s1", "s2"]);
    let bseat = |f: &mut Fix| f.request.bseat = f.texts(&["s1", "s2"]);
    let seats = |f: &mut Fix| f.dsps[0].seats = vec!["s1".into()];
    let sizes = |f: &mut Fix| {
        f.request.sizes = vec![(300, 250), (320, 50)];
        f.request.imps[0].sizes = Run { at: 0, len: 2 };
    };
    let full = |f: &mut Fix| {
        f.request.sizes = vec![(320, 480)];
        (f.request.imps[0].sizes, f.request.imps[0].instl) = (Run { at: 0, len: 1 }, true);
    };
    let video = |f: &mut Fix| (f.request.imps[0].media, f.request.imps[0].duration_s) = (Media::VIDEO, (5, 30));
    let both = |f: &mut Fix| {
        f.request.imps[0].media = Media::BANNER.with(Media::VIDEO);
        f.request.imps[0].video_battr = f.numbers(&[9]);
        f.request.imps[0].banner_battr = f.numbers(&[8, 500]);
    };
    let deal = |f: &mut Fix| {
        f.deal("open", "0.1", 0);
        let wseat = f.texts(&["s1"]);
        f.deal("seated", "0.1", 0).wseat = wseat;
        let wadomain = f.texts(&["brand.com"]);
        f.deal("branded", "0.1", 0).wadomain = wadomain;
    };
    let private = |f: &mut Fix| {
        deal(f);
        f.request.imps[0].private_auction = true;
    };
    let none = |_: &mut Fix| {};
    type Change<'a> = &'a dyn Fn(&mut Fix);
    let rows: Vec<(&str, Change<'_>, B, Loss)> = vec![
        ("plain", &none, bid(), Loss::Won),
        ("zero price", &none, b(0, "0"), Loss::NoPrice),
        ("tiny price", &none, b(0, "0.0000001"), Loss::NoPrice),
        ("negative price", &none, b(0, "-1"), Loss::NoPrice),
        ("unread price", &none, b(0, "\"1\""), Loss::NoPrice),
        ("no markup", &none, B { adm: String::new(), ..bid() }, Loss::NoMarkup),
        ("nurl carries it", &none, B { adm: String::new(), nurl: "https://n".into(), ..bid() }, Loss::Won),
        ("unknown imp", &none, b(7, "1"), Loss::InvalidBid),
        ("endless seat", &none, seat(&"s".repeat(129)), Loss::InvalidBid),
        ("blocked advertiser", &badv, from("BRAND.com"), Loss::AdvertiserBlocked),
        ("and what is under it", &badv, from("shop.brand.com"), Loss::AdvertiserBlocked),
        ("not what ends alike", &badv, from("mybrand.com"), Loss::Won),
        ("undeclared", &badv, bid(), Loss::Won),
        ("adomain demanded", &|f| f.exchange.require_adomain = true, bid(), Loss::BadAdomain),
        ("adomain given", &|f| f.exchange.require_adomain = true, from("a.com"), Loss::Won),
        ("crid demanded", &|f| f.exchange.require_crid = true, bid(), Loss::NoCrid),
        ("bapp", &|f| f.request.bapp = f.texts(&["com.x"]), B { bundle: "com.x".into(), ..bid() }, Loss::AppBlocked),
        ("bcat", &bcat, of("IAB7-39", 1), Loss::Category),
        ("bcat's child", &bcat, of("IAB25-3", 1), Loss::Category),
        ("bcat's parent", &bcat, of("IAB7", 1), Loss::Won),
        ("another taxonomy", &bcat, of("IAB25", 6), Loss::Won),
        ("absent is 1", &bcat, of("IAB25", 0), Loss::Category),
        ("acat", &acat, of("IAB1-6", 1), Loss::Won),
        ("outside acat", &acat, of("IAB2", 1), Loss::Category),
        ("wseat", &wseat, seat("s2"), Loss::Won),
        ("not in wseat", &wseat, seat("s3"), Loss::SeatBlocked),
        ("no seat, wseat", &wseat, bid(), Loss::SeatBlocked),
        ("bseat", &bseat, seat("s2"), Loss::SeatBlocked),
        ("not in bseat", &bseat, seat("s3"), Loss::Won),
        ("configured seats", &seats, seat("s1"), Loss::Won),
        ("another seat", &seats, seat("s2"), Loss::SeatBlocked),
        ("size", &sizes, sized((320, 50)), Loss::Won),
        ("wrong size", &sizes, sized((320, 51)), Loss::Size),
        ("no size", &sizes, sized((0, 0)), Loss::Won),
        ("smaller is not a size", &sizes, sized((100, 50)), Loss::Size),
        ("smaller fits an interstitial", &full, sized((300, 250)), Loss::Won),
        ("larger does not", &full, sized((300, 481)), Loss::Size),
        ("mtype", &video, B { media: Some(Media::BANNER), ..bid() }, Loss::Format),
        ("only one medium", &video, bid(), Loss::Won),
        ("too long", &video, B { dur_s: 31, ..bid() }, Loss::Format),
        ("too short", &video, B { dur_s: 4, ..bid() }, Loss::Format),
        ("long enough", &video, B { dur_s: 5, ..bid() }, Loss::Won),
        ("inferred vast", &both, B { adm: " <VAST/>".into(), attr: vec![9], ..bid() }, Loss::Attribute),
        ("inferred banner", &both, B { attr: vec![9], ..bid() }, Loss::Won),
        ("private attribute", &both, B { attr: vec![1, 500], ..bid() }, Loss::Attribute),
        ("endless attributes", &both, B { attr: (200..300).collect(), ..bid() }, Loss::Attribute),
        ("inferred native", &both, B { adm: "{\\\"native\\\":1}".into(), ..bid() }, Loss::Format),
        (
            "secure",
            &|f| f.request.imps[0].secure = true,
            B { adm: "<img src=http://a>".into(), ..bid() },
            Loss::NotSecure,
        ),
        ("not asked to be", &none, B { adm: "<img src=http://a>".into(), ..bid() }, Loss::Won),
        ("exp", &|f| f.request.imps[0].exp_s = 60, B { exp_s: 59, ..bid() }, Loss::Expired),
        ("exp of the exchange", &|f| f.exchange.expected_exp_s = 60, B { exp_s: 59, ..bid() }, Loss::Expired),
        ("no exp", &|f| f.exchange.expected_exp_s = 60, bid(), Loss::Won),
        ("on a deal", &deal, on("open"), Loss::Won),
        ("unknown deal", &deal, on("what"), Loss::BadDeal),
        ("deal's wseat", &deal, B { seat: "s1".into(), ..on("seated") }, Loss::Won),
        ("not in it", &deal, B { seat: "s2".into(), ..on("seated") }, Loss::NotAllowedInDeal),
        ("deal's wadomain", &deal, B { adomain: vec!["m.brand.com".into()], ..on("branded") }, Loss::Won),
        ("not in it", &deal, B { adomain: vec!["x.com".into()], ..on("branded") }, Loss::NotAllowedInDeal),
        ("undeclared", &deal, on("branded"), Loss::NotAllowedInDeal),
        ("open bid, private auction", &private, bid(), Loss::NotAllowedInDeal),
        ("deal, private auction", &private, on("open"), Loss::Won),
    ];
    for (name, change, bid, want) in rows {
        assert_eq!(verdict(change, bid), want, "{name}");
    }
}

#[test]
fn each_answer_has_its_outcome() {
    let usd = Currency::USD;
    let nothing = |id: &str| Reply::new(id, usd);
    let with = |id: &str, cur: Option<Currency>, bids: &[B]| {
        let mut r = Reply::new(id, usd);
        r.view.cur = cur;
        bids.iter().for_each(|b| r.bid(b));
        r
    };
    let unusable = |mut r: Reply| {
        r.view.bids_seen += 1;
        r.view.bids_unusable += 1;
        r
    };
    let good = b(0, "1");
    let bare = B { adm: String::new(), ..b(0, "1") };
    let rows: &[(&str, Reply, Outcome, &[Loss])] = &[
        ("a bid", with("req-1", Some(usd), std::slice::from_ref(&good)), Outcome::Bid, &[Loss::Won]),
        ("{}", nothing(""), Outcome::NoBid, &[]),
        ("empty seatbid", nothing("req-1"), Outcome::NoBid, &[]),
        ("empty, of another", nothing("req-2"), Outcome::WrongId, &[]),
        (
            "a bid of another",
            with("req-2", Some(usd), std::slice::from_ref(&good)),
            Outcome::WrongId,
            &[Loss::BadAuctionId],
        ),
        ("a bid of nobody", with("", Some(usd), std::slice::from_ref(&good)), Outcome::WrongId, &[Loss::BadAuctionId]),
        ("no currency", with("req-1", None, std::slice::from_ref(&good)), Outcome::WrongCurrency, &[Loss::Currency]),
        (
            "not allowed",
            with("req-1", Some(XXX), std::slice::from_ref(&good)),
            Outcome::WrongCurrency,
            &[Loss::Currency],
        ),
        ("wrong imp", with("req-1", Some(usd), &[b(5, "1")]), Outcome::WrongImp, &[Loss::InvalidBid]),
        ("not offered", with("req-1", Some(usd), &[b(1, "1")]), Outcome::WrongImp, &[Loss::InvalidBid]),
        ("no price", with("req-1", Some(usd), &[b(0, "0")]), Outcome::NoPrice, &[Loss::NoPrice]),
        ("no markup", with("req-1", Some(usd), std::slice::from_ref(&bare)), Outcome::NoMarkup, &[Loss::NoMarkup]),
        ("unusable", unusable(nothing("req-1")), Outcome::InvalidBid, &[]),
        (
            "unusable and wrong",
            unusable(with("req-1", Some(usd), &[b(5, "1")])),
            Outcome::WrongImp,
            &[Loss::InvalidBid],
        ),
        (
            "the closest counts",
            with("req-1", Some(usd), &[b(5, "1"), b(0, "0")]),
            Outcome::NoPrice,
            &[Loss::InvalidBid, Loss::NoPrice],
        ),
        (
            "one good",
            with("req-1", Some(usd), &[b(5, "1"), good.clone()]),
            Outcome::Bid,
            &[Loss::InvalidBid, Loss::Won],
        ),
    ];
    for (name, reply, want, losses) in rows {
        let mut fix = Fix::new();
        fix.imp("0.1");
        fix.imp("0.1");
        let s = fix.start();
        let mut a = Auction::default();
        a.begin(&s);
        let leg = a.ask(DspIx(0), "dsp0", 1, 0);
        assert_eq!(a.leg_answered(leg, &fix.dsps[0], Ok(&reply.view), &reply.bytes, &s, 1), *want, "{name}");
        assert_eq!(a.pending(), 0);
        let d = a.decide(&mut Unlimited, &Default::default(), 2);
        assert_eq!(d.losses, *losses, "{name}");
        assert_eq!(d.nbr.is_none(), losses.contains(&Loss::Won), "{name}");
    }
}

#[test]
fn a_leg_has_one_outcome() {
    let mut fix = Fix::new();
    fix.imp("0.1");
    let s = fix.start();
    let mut a = Auction::default();
    a.begin(&s);
    let legs: Vec<u8> = (0..4).map(|d| a.ask(DspIx(d), "d", 1, 0)).collect();
    assert_eq!(a.pending(), 4);
    let r = Reply::usd(&[b(0, "1")]);
    assert!(a.leg_failed(legs[0], Outcome::Reset, 1));
    assert!(!a.leg_failed(legs[0], Outcome::Late, 2), "the first stands");
    assert_eq!(a.leg_answered(legs[0], &fix.dsps[0], Ok(&r.view), &r.bytes, &s, 3), Outcome::Reset);
    assert_eq!(a.leg_answered(legs[1], &fix.dsps[1], Err(()), b"<html>", &s, 3), Outcome::NotJson);
    assert_eq!(a.leg_answered(legs[2], &fix.dsps[2], Ok(&r.view), &r.bytes, &s, 3), Outcome::Bid);
    assert_eq!(a.pending(), 1);
    assert_eq!(a.decide(&mut Unlimited, &Default::default(), 4).wins.len(), 1);
    // After the decision nothing moves.
    assert_eq!(a.leg_answered(legs[3], &fix.dsps[3], Ok(&r.view), &r.bytes, &s, 5), Outcome::Late);
    assert!(!a.leg_failed(99, Outcome::Reset, 5));
    assert_eq!(a.decide(&mut Unlimited, &Default::default(), 6).wins.len(), 1);
    assert_eq!((a.inputs().bids.len(), a.inputs().decided_ns), (1, 4));
    let outcomes: Vec<_> = a.inputs().legs.iter().filter_map(|l| l.outcome).collect();
    assert_eq!(outcomes, [Outcome::Reset, Outcome::NotJson, Outcome::Bid, Outcome::Late]);
    // The next auction knows nothing of this one.
    a.begin(&s);
    assert_eq!((a.pending(), a.inputs().bids.len(), a.decision().wins.len()), (0, 0, 0));
}

#[test]
fn a_dsps_own_currencies_go_before_the_senders() {
    let mut fix = Fix::new();
    fix.imp("0.1");
    fix.dsps[0].currencies = vec![JPY];
    fix.request.currencies = vec![Currency::USD];
    fix.request.cur.len = 1;
    let loss = |fix: &Fix, cur| fix.run(&[(0, Reply::of(cur, &[b(0, "200")]))]).decision().losses[0];
    assert_eq!(
        (loss(&fix, JPY), loss(&fix, Currency::USD), loss(&fix, EUR)),
        (Loss::Won, Loss::Currency, Loss::Currency)
    );
    fix.dsps[0].currencies.clear();
    assert_eq!((loss(&fix, JPY), loss(&fix, Currency::USD)), (Loss::Currency, Loss::Won));
    fix.request.cur.len = 0;
    assert_eq!((loss(&fix, JPY), loss(&fix, EUR)), (Loss::Won, Loss::Won));
}

#[test]
fn why_there_is_no_bid() {
    let nbr = |change: &dyn Fn(&mut Fix, &mut Auction)| {
        let mut fix = Fix::new();
        fix.imp("0.1");
        let mut a = Auction::default();
        change(&mut fix, &mut a);
        let s = fix.start();
        if a.inputs().imps.is_empty() {
            a.begin(&s);
        }
        a.decide(&mut Unlimited, &Default::default(), 1).nbr
    };
    assert_eq!(nbr(&|_, _| {}), Some(Nbr::NoBids));
    assert_eq!(nbr(&|f, _| f.request.imps[0].refused = Some(ImpRefusal::DynamicPod)), Some(Nbr::NothingToSell));
    let late = |f: &mut Fix, a: &mut Auction| {
        a.begin(&f.start());
        a.not_asked(DspIx(0), "d", Outcome::NoTime, Probability::ALWAYS);
    };
    assert_eq!(nbr(&late), Some(Nbr::InsufficientTime));
}

/// Shares keep one DSP from crowding out the others, whoever is first.
#[test]
fn bids_are_shared_out() {
    let mut fix = Fix::new();
    fix.imp("0.1");
    fix.dsps = (0..ASKED_MAX).map(|d| dsp(&format!("d{d}"))).collect();
    let many: Vec<B> = (0..BIDS_PER_ANSWER_MAX).map(|n| B { seatbid: n as u16, ..b(0, "1") }).collect();
    let mut replies: Vec<_> = (0..ASKED_MAX - 1).map(|d| (d, Reply::usd(&many))).collect();
    replies.push((ASKED_MAX - 1, Reply::usd(&[b(0, "2")])));
    let a = fix.run(&replies);
    assert_eq!(a.decision().wins[0].leg as usize, ASKED_MAX - 1);
    assert_eq!(a.inputs().bids.len(), (ASKED_MAX - 1) * BIDS_MAX / ASKED_MAX + 1);
}

#[test]
fn an_incomplete_group_loses_whole() {
    let mut fix = Fix::new();
    fix.imp("0.1");
    fix.imp("0.1");
    let group = |imp| B { group: true, ..b(imp, "1") };
    let mut r = Reply::usd(&[group(0), group(1)]);
    r.view.bids_seen += 1; // and one that could not be read: it may belong to the group
    assert_eq!(fix.run(&[(0, r)]).decision().losses, [Loss::Group, Loss::Group]);
}

fn answer(a: &Auction, fix: &Fix, replies: &[(usize, Reply)]) -> serde_json::Value {
    let mut out = Vec::new();
    a.write_answer(&Replies::of(replies), &fix.start(), None, &mut out);
    serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn the_answer_is_the_bid_with_price_and_macros() {
    let bid = B {
        adm: r#"<img src=\"https://x/?p=${AUCTION_PRICE}&s=${AUCTION_SEAT_ID}\">"#.into(),
        nurl: "https://n/${AUCTION_ID}/${AUCTION_BID_ID}/${AUCTION_MIN_TO_WIN}".into(),
        burl: "https://b/${AUCTION_PRICE:B64}".into(),
        seat: r"s\u0031".into(),
        ..b(0, "1.00")
    };
    let (a, mut fix, replies) = one(|f| f.request.imps[0].bidfloor = cpm("0.85"), bid);
    let mut out = Vec::new();
    a.write_answer(&Replies::of(&replies), &fix.start(), None, &mut out);
    let want = concat!(
        r#"{"id":"req-1","bidid":"000000010000000200030000000000000004","cur":"USD","seatbid":[{"bid":["#,
        r#"{"id":"b","impid":"imp0","adm":"<img src=\"https://x/?p=0.85&s=s\u0031\">","price": 0.85,"#,
        r#""nurl":"https://n/req-1/000000010000000200030000000000000004/0.85","burl":"https://b/MC44NQ==","#,
        r#""ext":{"kept": [1 , 2]}}],"seat":"s\u0031"}]}"#
    );
    assert_eq!(String::from_utf8(out).unwrap(), want);
    fix.exchange.position = Position::Intermediate;
    let v = answer(&a, &fix, &replies);
    assert_eq!(v["seatbid"][0]["bid"][0]["burl"], "https://b/${AUCTION_PRICE:B64}");
    assert_eq!(v["seatbid"][0]["bid"][0]["adm"], "<img src=\"https://x/?p=${AUCTION_PRICE}&s=s1\">");
}

/// What our notice URLs of an answer say, one after the other, with their queries; and what became of all.
fn noticed(a: &Auction, fix: &Fix, replies: &[(usize, Reply)]) -> (Vec<(String, String)>, Vec<String>, Tally) {
    let keys = Keys::new(&[(3, b"0123456789abcdef0123456789abcdef")]).unwrap();
    let (mut scratch, mut tally, mut out) = (Default::default(), Tally::default(), Vec::new());
    let mut ours = OurNotices {
        url: "https://we.example/x",
        keys: &keys,
        only: fix.exchange.notices == Wrapping::WrapOrRefuse,
        life_s: 60,
        dsps: &fix.dsps,
        scratch: &mut scratch,
        tally: &mut tally,
    };
    a.write_answer(&Replies::of(replies), &fix.start(), Some(&mut ours), &mut out);
    let answer: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let bid = &answer["seatbid"][0]["bid"][0];
    let (mut carried, mut passed) = (Vec::new(), Vec::new());
    for name in ["nurl", "burl", "lurl"] {
        let Some(url) = bid[name].as_str() else { continue };
        let Some(rest) = url.strip_prefix("https://we.example/x/notice/") else {
            passed.push(url.to_owned());
            continue;
        };
        let (text, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut bytes = Vec::new();
        let token = Token::read(text.as_bytes(), &keys, &mut bytes).unwrap();
        let win = &a.decision().wins[0];
        assert_eq!((token.event, token.imp), (a.inputs().event, win.imp));
        assert_eq!((token.price, token.charge, token.account), (win.price, win.charge, win.account));
        assert_eq!(token.awaited, token.kind == Kind::Billed && fix.awaited_s != 0);
        assert_eq!(u64::from(token.expires_s), fix.start().wall_ms / 1_000 + 60);
        let says = format!("{:?} {} {}", token.kind, token.floor.0, String::from_utf8_lossy(token.url));
        carried.push((says, query.to_owned()));
    }
    (carried, passed, tally)
}

#[test]
fn our_notice_urls_carry_the_dsps() {
    let bid = B {
        adm: "<b>".into(),
        nurl: r"http:\/\/dsp.example/n?i=${AUCTION_ID}&s=${AUCTION_SEAT_ID}".into(),
        burl: "http://dsp.example/b?p=${AUCTION_PRICE}".into(),
        seat: r"s\u0031".into(),
        ..b(0, "1.00")
    };
    let (a, mut fix, replies) = one(|f| f.request.imps[0].bidfloor = cpm("0.85"), bid);
    let (carried, passed, tally) = noticed(&a, &fix, &replies);
    let says =
        |kind: &str, url: &str, query: &str| (format!("{kind} 850000 http://dsp.example/{url}"), query.to_owned());
    // What stood in the JSON as it was written stands in the URL as it was meant.
    assert_eq!(carried, [says("Won", "n?i=req-1&s=s1", ""), says("Billed", "b?p=0.85", "")]);
    assert_eq!((passed.len(), tally), (0, Tally { carried: 2, uncarried: [0; 5] }));
    fix.exchange.position = Position::Intermediate;
    let (carried, ..) = noticed(&a, &fix, &replies);
    let query = "p=${AUCTION_PRICE}";
    assert_eq!(carried, [says("Won", "n?i=req-1&s=s1", query), says("Billed", "b?p=${AUCTION_PRICE}", query)]);
}

#[test]
fn what_our_notice_urls_cannot_carry_passes() {
    let long = format!("http://dsp.example/{}", "x".repeat(1_520));
    let cases: [(&str, &str, Option<Uncarried>); 11] = [
        ("<b>", "http://dsp.example/ok", None),
        ("<b>", "https://win.dsp.example/ok", None),
        ("", "http://dsp.example/markup", Some(Uncarried::Markup)),
        ("", "https://win.dsp.example/markup", Some(Uncarried::Markup)),
        ("<b>", "ftp://dsp.example/n", Some(Uncarried::NotHttp)),
        // Neither in the clear where TLS is spoken, nor the other way round.
        ("<b>", "http://win.dsp.example/n", Some(Uncarried::Host)),
        ("<b>", "https://dsp.example/n", Some(Uncarried::Host)),
        ("<b>", "http://other.example/n", Some(Uncarried::Host)),
        ("<b>", r"http://dsp.example/a\r\nX: y", Some(Uncarried::Character)),
        ("<b>", &long, Some(Uncarried::TooLong)),
        // Short enough until its macro is filled.
        ("<b>", &format!("{}${{AUCTION_BID_ID}}", &long[..1_515]), Some(Uncarried::TooLong)),
    ];
    for (adm, nurl, why) in cases {
        let bid = B { adm: adm.into(), nurl: nurl.into(), ..b(0, "1.00") };
        let (a, mut fix, replies) = one(|_| {}, bid.clone());
        let (carried, passed, tally) = noticed(&a, &fix, &replies);
        assert_eq!((carried.len(), passed.len()), if why.is_some() { (0, 1) } else { (1, 0) }, "{nurl}");
        if let Some(why) = why {
            assert_eq!(tally.uncarried[why as usize], 1, "{nurl}");
        }
        // Where an exchange wants nothing but ours, such a bid does not take part. Markup is no notice.
        fix.exchange.notices = Wrapping::WrapOrRefuse;
        let refused = fix.run(&replies).decision().losses == [Loss::NoticeUrl];
        assert_eq!(refused, why.is_some_and(|w| w != Uncarried::Markup), "{nurl}");
    }
}

/// A charge that waits for its notice needs one of ours, whatever the DSP has: nothing, an empty text, a URL that turns out too
/// long. Nowhere else is anything added.
#[test]
fn a_charge_that_waits_for_a_notice_has_one() {
    let long = format!("http://dsp.example/{}", "x".repeat(1_440));
    let grows = format!("{long}${{AUCTION_SEAT_ID}}");
    for (burl, want) in [("", ""), ("http://dsp.example/b", "http://dsp.example/b"), (grows.as_str(), "")] {
        let bid = B { adm: "<b>".into(), burl: burl.into(), seat: "s".repeat(120), ..b(0, "1.00") };
        let awaits = |f: &mut Fix| (f.exchange.notices, f.awaited_s) = (Wrapping::WrapOrRefuse, 1_700_000_060);
        let (a, mut fix, replies) = one(awaits, bid);
        let (carried, passed, _) = noticed(&a, &fix, &replies);
        let says: Vec<_> = carried.iter().map(|(says, _)| says.clone()).collect();
        assert_eq!((says, passed.len()), (vec![format!("Billed 100000 {want}")], 0), "{burl}");
        let text = |fix: &Fix| {
            let mut out = Vec::new();
            a.write_answer(&Replies::of(&replies), &fix.start(), None, &mut out);
            String::from_utf8(out).unwrap()
        };
        // Without URLs of ours nothing is added, nor where nothing waits.
        assert_eq!(text(&fix).matches("burl").count(), usize::from(!burl.is_empty()), "{burl}");
        fix.awaited_s = 0;
        let (a, fix, replies) = one(|f| f.exchange.notices = Wrapping::WrapOrRefuse, b(0, "1.00"));
        assert_eq!(noticed(&a, &fix, &replies).0, []);
    }
}

/// What stands where a URL should is no URL, and there cannot be two.
#[test]
fn a_bill_that_is_no_text_is_replaced() {
    for burl in ["null", "5", "{\"burl\":\"x\"}"] {
        let bid = format!(r#"{{"burl" : {burl} ,"id":"b","impid":"imp0","price":1,"adm":"<b>","ext":{{"burl":1}}}}"#);
        let replies = vec![(0, Reply::read(&format!(r#"{{"id":"req-1","seatbid":[{{"bid":[{bid}]}}]}}"#)))];
        let mut fix = Fix::new();
        fix.imp("0.5");
        (fix.exchange.notices, fix.awaited_s) = (Wrapping::WrapOrRefuse, 1_700_000_060);
        let a = fix.run(&replies);
        let (carried, passed, _) = noticed(&a, &fix, &replies);
        assert_eq!((carried[0].0.as_str(), carried.len(), passed.len()), ("Billed 500000 ", 1, 0), "{burl}");
    }
}

/// The reason to everybody, and to those who lost by price what would have tied, if that is disclosed.
#[test]
fn losers_are_told_why() {
    let lurl = "http://dsp.example/l?i=${AUCTION_IMP_ID}&l=${AUCTION_LOSS}&m=${AUCTION_MIN_TO_WIN}&p=${AUCTION_PRICE}";
    let with = |price: &str, lurl: &str| B { lurl: lurl.into(), ..b(0, price) };
    let mut fix = Fix::new();
    fix.imp("0.5");
    fix.exchange.position = Position::Intermediate;
    let replies = vec![
        (0, Reply::usd(&[with("2", "http://dsp.example/winner")])),
        (1, Reply::usd(&[with("1", lurl), with("0.1", lurl)])),
        (2, Reply::usd(&[with("1", "https://dsp.example/"), with("1", "http://other.example/"), b(0, "1")])),
        (3, Reply::usd(&[with("0.1", "https://win.dsp.example/l?l=${AUCTION_LOSS}")])),
    ];
    let a = fix.run(&replies);
    let told = |disclosed| {
        let mut told = Vec::new();
        let mut scratch = Default::default();
        a.losses((&Replies::of(&replies), &fix.start()), &fix.dsps, disclosed, &mut scratch, |url| {
            told.push(url.map_or("nowhere".to_owned(), |url| String::from_utf8(url.to_vec()).unwrap()));
        });
        told
    };
    let url = |loss: &str, min: &str| format!("http://dsp.example/l?i=imp0&l={loss}&m={min}&p=");
    assert_eq!(told(Losses::Off), Vec::<String>::new());
    let nowhere = || "nowhere".to_owned();
    let by_tls = || "https://win.dsp.example/l?l=100".to_owned();
    assert_eq!(told(Losses::Reason), [url("102", ""), url("100", ""), nowhere(), nowhere(), by_tls()]);
    assert_eq!(told(Losses::MinToWin), [url("102", "2"), url("100", ""), nowhere(), nowhere(), by_tls()]);
}

/// Only in what this DSP's own markup and URLs say; the price of the answer is for the exchange.
#[test]
fn a_dsp_with_keys_reads_its_price_and_nobody_else() {
    let bid =
        B { adm: "p=${AUCTION_PRICE}".into(), burl: "http://dsp.example/b?p=${AUCTION_PRICE}".into(), ..b(0, "1.00") };
    let (a, mut fix, replies) = one(|f| f.request.imps[0].bidfloor = cpm("0.85"), bid);
    let plain = answer(&a, &fix, &replies);
    assert_eq!(plain["seatbid"][0]["bid"][0]["adm"], "p=0.85");
    let seal = Seal::new(&[1; 32], &[2; 32]).unwrap();
    let mut sealed = Vec::new();
    seal.write(cpm("0.85"), &price_vector(a.inputs().event, 0, fix.start().wall_ms), &mut sealed);
    fix.seals = vec![Some(seal)];
    let told = answer(&a, &fix, &replies);
    let bid = &told["seatbid"][0]["bid"][0];
    let sealed = String::from_utf8(sealed).unwrap();
    assert_eq!(
        (bid["adm"].as_str(), bid["price"].to_string()),
        (Some(format!("p={sealed}").as_str()), "0.85".to_owned())
    );
    let (carried, ..) = noticed(&a, &fix, &replies);
    assert!(carried[0].0.ends_with(&format!("/b?p={sealed}")), "{carried:?}");
    fix.seals = vec![None];
    assert_eq!(answer(&a, &fix, &replies), plain);
}

/// What a macro becomes is not known before: a seat may be longer than any.
#[test]
fn where_none_but_ours_may_go_out_none_does() {
    let long = format!("http://dsp.example/{}", "x".repeat(1_440));
    let bid =
        B { adm: "<b>".into(), nurl: format!("{long}${{AUCTION_SEAT_ID}}"), seat: "s".repeat(120), ..b(0, "1.00") };
    let (a, fix, replies) = one(|f| f.exchange.notices = Wrapping::WrapOrRefuse, bid);
    let (carried, passed, tally) = noticed(&a, &fix, &replies);
    assert_eq!((carried.len(), passed, tally.uncarried[Uncarried::TooLong as usize]), (0, vec![String::new()], 1));
}

#[test]
fn wins_share_a_seatbid_by_dsp_and_seat_and_a_group_keeps_its_own() {
    let mut fix = Fix::new();
    for _ in 0..10 {
        fix.imp("0.1");
    }
    let seat = |imp, seat: &str, seatbid, group| B { seat: seat.into(), seatbid, group, ..b(imp, "1") };
    let replies = vec![
        (1, Reply::usd(&[seat(0, "s", 0, false), seat(1, "t", 1, false), seat(2, "s", 2, false)])),
        (0, Reply::usd(&[seat(3, "s", 0, false), seat(4, "s", 1, true), seat(5, "s", 1, true)])),
        (2, Reply::usd(&[seat(6, "s", 1, true), seat(7, "s", 1, true), seat(8, "s", 2, true), seat(9, "s", 2, true)])),
    ];
    let v = answer(&fix.run(&replies), &fix, &replies);
    let mut seen: Vec<String> = v["seatbid"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let imps: Vec<&str> = s["bid"].as_array().unwrap().iter().map(|b| b["impid"].as_str().unwrap()).collect();
            format!("{} {} {}", s["seat"].as_str().unwrap(), imps.join(","), s["group"])
        })
        .collect();
    seen.sort();
    assert_eq!(
        seen,
        ["s imp0,imp2 null", "s imp3 null", "s imp4,imp5 1", "s imp6,imp7 1", "s imp8,imp9 1", "t imp1 null"]
    );
}

#[test]
fn a_no_bid_tells_its_reason() {
    let (a, fix, replies) = one(|_| {}, b(0, "0.01"));
    assert_eq!(answer(&a, &fix, &replies), serde_json::json!({"id": "req-1", "nbr": 500, "seatbid": []}));
}

/// The same auction again and again lets no vector grow.
#[test]
fn a_pooled_auction_stops_growing() {
    let mut fix = Fix::new();
    for _ in 0..3 {
        fix.imp("0.1");
    }
    fix.request.badv = fix.texts(&["a.com", "b.com"]);
    let replies: Vec<_> = (0..5).map(|d| (d, Reply::usd(&[b(0, "1"), b(1, "2"), b(2, "3")]))).collect();
    let mut a = Auction::default();
    let room = |a: &Auction| {
        let i = a.inputs();
        [i.imps.capacity(), i.legs.capacity(), i.bids.capacity(), i.texts.capacity(), a.record().funds.capacity()]
    };
    fix.run_into(&mut a, &replies, &mut Unlimited);
    let first = room(&a);
    for _ in 0..10 {
        fix.run_into(&mut a, &replies, &mut Unlimited);
    }
    assert_eq!(room(&a), first);
}

/// A price beyond belief wins nothing, in whatever currency it is.
#[test]
fn no_price_beyond_belief_takes_part() {
    let mut fix = Fix::new();
    fix.imp("0.10");
    fix.dsps[0].price_max = Some(cpm("200"));
    let loses = |fix: &Fix, cur, price: &str| {
        let a = fix.run(&[(0, Reply::of(cur, &[b(0, price)])), (1, Reply::usd(&[b(0, "1")]))]);
        assert_eq!(a.inputs().legs[0].outcome == Some(Outcome::NoPrice), a.decision().losses[0] == Loss::NoPrice);
        a.decision().losses[0] == Loss::NoPrice
    };
    assert!(!loses(&fix, Currency::USD, "200") && loses(&fix, Currency::USD, "200.01"));
    assert!(!loses(&fix, EUR, "184") && loses(&fix, EUR, "185"));
    assert!(!loses(&fix, JPY, "29999") && loses(&fix, JPY, "30001"));
    fix.dsps[0].price_max = None;
    assert!(!loses(&fix, Currency::USD, "900000") && loses(&fix, Currency::USD, "1000001"));
}
