//! What DSPs may be offered, and what of that they state they want.
use super::{Offers, fixtures::*};
use crate::{
    config::BuyerUid,
    dsp::targets::{Buys, Targets},
    openrtb::request::{Channel, ImpRefusal, Media},
    units::Cpm,
};

fn offered(fix: &Fix) -> Offers {
    Offers::of(&fix.start(), &Targets::new(&fix.dsps, &fix.rates))
}

#[test]
fn offers() {
    let check = |name: &str, want: u64, change: &dyn Fn(&mut Fix)| {
        let mut fix = Fix::new();
        for _ in 0..3 {
            fix.imp("0.1");
        }
        change(&mut fix);
        let offers = offered(&fix);
        assert_eq!(offers.to(0), want, "{name}");
        assert_eq!(offers.eligible & 1, u64::from(want != 0), "{name}");
    };
    let private = |f: &mut Fix, seat: &str| {
        let wseat = f.texts(&[seat]);
        f.deal("d", "1", 0).wseat = wseat;
        f.request.imps[2].private_auction = true;
    };
    check("all", 0b111, &|_| {});
    check("media", 0b010, &|f| {
        f.dsps[0].media = Media::VIDEO;
        f.request.imps[1].media = Media::VIDEO.with(Media::BANNER);
    });
    check("refused", 0b110, &|f| f.request.imps[0].refused = Some(ImpRefusal::DynamicPod));
    check("private without deals", 0b110, &|f| f.request.imps[0].private_auction = true);
    check("private, any seat", 0b111, &|f| private(f, "s1"));
    check("private, its seat", 0b111, &|f| {
        f.dsps[0].seats = vec!["s0".into(), "s1".into()];
        private(f, "s1");
    });
    check("private, another's seat", 0b011, &|f| {
        f.dsps[0].seats = vec!["s1".into()];
        private(f, "s2");
    });
    check("not in wseat", 0, &|f| {
        f.dsps[0].seats = vec!["s1".into()];
        f.request.wseat = f.texts(&["s2"]);
    });
    check("all in bseat", 0, &|f| {
        f.dsps[0].seats = vec!["s1".into()];
        f.request.bseat = f.texts(&["s1"]);
    });
    check("floor without a rate", 0b110, &|f| f.request.imps[0].bidfloorcur = XXX);
    check("no floor needs no rate", 0b111, &|f| {
        (f.request.imps[0].bidfloorcur, f.request.imps[0].bidfloor) = (XXX, Cpm::ZERO)
    });
    check("no currency has a rate", 0, &|f| {
        f.request.currencies = vec![XXX];
        f.request.cur.len = 1;
    });
    check("none of its currencies has", 0, &|f| f.dsps[0].currencies = vec![XXX]);
}

/// Three impressions: a banner of 300x250 or 320x50, a secure video, a banner without sizes that is also native, in an app in
/// Germany. The first DSP states what `change` makes it state, the second nothing.
fn wanted(change: impl Fn(&mut Fix)) -> (u64, u64) {
    let mut fix = Fix::new();
    for _ in 0..3 {
        fix.imp("0.1");
    }
    fix.request.sizes = vec![(300, 250), (320, 50)];
    fix.request.imps[0].sizes.len = 2;
    (fix.request.imps[1].media, fix.request.imps[1].secure) = (Media::VIDEO, true);
    fix.request.imps[2].media = Media::BANNER.with(Media::NATIVE);
    fix.request.country = fix.text("deu");
    fix.request.publisher_id = fix.text("p-1");
    (fix.request.channel, fix.request.devicetype) = (Channel::App, 4);
    (fix.request.cattax, fix.request.channel_cattax) = (1, 1);
    fix.dsps = vec![dsp("first"), dsp("second")];
    change(&mut fix);
    let offers = offered(&fix);
    assert_eq!(offers.wanted & !offers.eligible, 0);
    assert_eq!(offers.wanted >> 1 & 1, u64::from(offers.to(1) != 0));
    assert_eq!(offers.eligible & 1, 1, "what it states is no matter of what it may be offered");
    (offers.to(0), offers.on_deal)
}

#[test]
fn what_is_stated_decides() {
    let check = |name: &str, want: u64, change: &dyn Fn(&mut Fix)| {
        assert_eq!(wanted(change), (want, 0), "{name}");
    };
    let states = |name: &str, want: u64, buys: Buys| {
        check(name, want, &|f: &mut Fix| f.dsps[0].buys = buys.clone());
    };
    let of = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    states("nothing", 0b111, Buys::default());
    states("a size of the first", 0b111, Buys { sizes: vec![(1, 1), (320, 50)], ..Buys::default() });
    states("no size of the first", 0b110, Buys { sizes: vec![(728, 90)], ..Buys::default() });
    check("a banner of another size, which is a video too", 0b111, &|f| {
        f.dsps[0].buys.sizes = vec![(728, 90)];
        f.request.imps[0].media = Media::BANNER.with(Media::VIDEO);
    });
    check("that it does not buy", 0b100, &|f| {
        f.dsps[0].buys.sizes = vec![(728, 90)];
        f.dsps[0].media = Media::BANNER;
        f.request.imps[0].media = Media::BANNER.with(Media::VIDEO);
    });
    check("an interstitial", 0b111, &|f| {
        f.dsps[0].buys.sizes = vec![(728, 90)];
        f.request.imps[0].instl = true;
    });
    states("country", 0b111, Buys { countries: of(&["FRA", "DEU"]), ..Buys::default() });
    states("another country", 0, Buys { countries: of(&["FRA"]), ..Buys::default() });
    check("no country is said", 0, &|f| {
        f.dsps[0].buys.countries = vec!["DEU".into()];
        f.request.country = Default::default();
    });
    states("device", 0b111, Buys { devices: 1 << 4, ..Buys::default() });
    states("another device", 0, Buys { devices: 1 << 2 | 1 << 8, ..Buys::default() });
    check("no device that is known", 0, &|f| {
        f.dsps[0].buys.devices = 0b1_1111_1110;
        f.request.devicetype = 9;
    });
    states("app", 0b111, Buys { channels: 1 << Channel::App as u8, ..Buys::default() });
    states("site", 0, Buys { channels: 1 << Channel::Site as u8, ..Buys::default() });
    states("publisher", 0b111, Buys { publishers: of(&["p-0", "p-1"]), ..Buys::default() });
    states("other publishers", 0, Buys { publishers: of(&["p-0", "P-1"]), ..Buys::default() });
    states("not this publisher", 0, Buys { publishers_not: of(&["p-1"]), ..Buys::default() });
    states("not others", 0b111, Buys { publishers_not: of(&["p-2"]), ..Buys::default() });
    let language = |said: &str, want| {
        check(said, want, &|f| {
            f.dsps[0].buys.languages = vec!["en".into()];
            f.request.language = f.text(said);
        });
    };
    language("en", 0b111);
    language("EN-gb", 0b111);
    language("de", 0);
    states("no language is said", 0b111, Buys { languages: of(&["en"]), ..Buys::default() });
    let cats = |said: &[&str], wanted: &[&str], not: &[&str], taxonomy, want| {
        check(&format!("{said:?} {wanted:?} {not:?} {taxonomy}"), want, &|f| {
            (f.dsps[0].buys.categories, f.dsps[0].buys.categories_not) = (of(wanted), of(not));
            f.request.cat = f.texts(said);
            f.request.channel_cattax = taxonomy;
        });
    };
    cats(&["IAB1-3"], &["IAB1"], &[], 1, 0b111);
    cats(&["IAB10"], &["IAB1"], &[], 1, 0);
    cats(&["IAB1"], &["IAB1-3"], &[], 1, 0);
    cats(&["IAB2", "IAB1-3"], &["IAB1"], &[], 1, 0b111);
    cats(&["IAB1-3", "IAB2-1"], &["IAB1"], &["IAB2"], 1, 0);
    cats(&["IAB1-3"], &[], &["IAB1-4"], 1, 0b111);
    cats(&[], &["IAB1"], &["IAB2"], 1, 0b111);
    cats(&["IAB5"], &["IAB1"], &[], 6, 0b111);
    states("secure", 0b010, Buys { secure_needed: true, ..Buys::default() });
    states("an id is needed", 0, Buys { buyeruid_needed: true, ..Buys::default() });
    let id = |name: &str, own: bool, buyeruid, want| {
        check(&format!("id of {name} {own}"), want, &|f| {
            f.dsps[0].buys.buyeruid_needed = true;
            f.dsps[0].buyeruid = buyeruid;
            let pair = (f.text(name), f.text("u"));
            f.request.buyeruids = vec![pair];
            f.request.buyeruid = if own { pair.1 } else { Default::default() };
        });
    };
    id("first", false, BuyerUid::Map, 0b111);
    id("second", false, BuyerUid::Map, 0);
    id("second", true, BuyerUid::Map, 0);
    id("second", true, BuyerUid::Request, 0b111);
}

/// A deal that a DSP names is offered to it whatever else it states, as far as it may be offered.
#[test]
fn deals_go_before_what_is_stated() {
    let deal = |f: &mut Fix| {
        f.dsps[0].buys = Buys { deals: vec!["d".into()], countries: vec!["FRA".into()], ..Buys::default() };
        f.deal("c", "1", 0);
        f.deal("d", "1", 0);
    };
    assert_eq!(wanted(deal), (0b100, 1));
    assert_eq!(
        wanted(|f| {
            deal(f);
            f.dsps[0].buys.deals = vec!["e".into()];
        }),
        (0, 0)
    );
    // Of private auctions, those alone.
    let private = |f: &mut Fix, named: &str| {
        deal(f);
        f.dsps[0].buys = Buys { deals: vec![named.into()], ..Buys::default() };
        f.request.imps[2].private_auction = true;
    };
    assert_eq!(wanted(|f| private(f, "d")), (0b111, 1));
    assert_eq!(wanted(|f| private(f, "e")), (0b011, 0));
    // A deal that its seats may not use is none of its own.
    let seat = |mine: &str| {
        wanted(|f| {
            deal(f);
            f.dsps[0].seats = vec!["s1".into(), mine.into()];
            f.request.deals[1].wseat = f.texts(&["s2"]);
        })
    };
    assert_eq!((seat("s2"), seat("s3")), ((0b100, 1), (0, 0)));
}

/// One seat has to be in every list and barred by none, whichever it is.
#[test]
fn seats_are_looked_at_one_by_one_where_lists_meet() {
    let check = |seats: &[&str], wseat: &[&str], bseat: &[&str], deal: &[&str], want: u64| {
        let mut fix = Fix::new();
        fix.imp("0.1");
        fix.dsps = vec![dsp("a"), dsp("b")];
        fix.dsps[0].seats = seats.iter().map(|s| s.to_string()).collect();
        (fix.request.wseat, fix.request.bseat) = (fix.texts(wseat), fix.texts(bseat));
        let wseat = fix.texts(deal);
        fix.deal("d", "1", 0).wseat = wseat;
        fix.request.imps[0].private_auction = true;
        assert_eq!(offered(&fix).to(0), want, "{seats:?} {wseat:?} {bseat:?} {deal:?}");
        assert_eq!(offered(&fix).to(1), 1, "any seat");
    };
    check(&["s1", "s2"], &[], &[], &[], 1);
    check(&["s1", "s2"], &["s1"], &[], &["s2"], 0);
    check(&["s1", "s2"], &["s1", "s2"], &[], &["s2"], 1);
    check(&["s1", "s2"], &["s1", "s2"], &["s2"], &["s2"], 0);
    check(&["s1", "s2"], &[], &["s2"], &[], 1);
    check(&["s1", "s2"], &[], &["s2", "s1"], &[], 0);
    check(&["s1", "s2"], &[], &["s2"], &["s2"], 0);
    check(&["s1", "s2"], &["s3"], &[], &[], 0);
}
