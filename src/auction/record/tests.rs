use super::super::{
    Auction, Funds, Unlimited,
    fixtures::{B, EUR, Fix, JPY, Reply, b, dsp},
};
use super::*;
use crate::{
    limits::{BIDS_PER_ANSWER_MAX, RECORD_BYTES_MAX},
    units::{MS, mix},
};
use proptest::prelude::*;

/// Funds that answer by a coin, and count what they hold.
struct Coin(u64, i64);

impl Funds for Coin {
    fn can_pay(&mut self, _: &Account<'_>, _: Money) -> bool {
        self.0 = mix(self.0);
        !self.0.is_multiple_of(5)
    }
    fn reserve(&mut self, _: &Account<'_>, amount: Money) -> bool {
        self.0 = mix(self.0);
        let yes = !self.0.is_multiple_of(3);
        self.1 += if yes { amount.0 } else { 0 };
        yes
    }
    fn release(&mut self, _: &Account<'_>, amount: Money) {
        self.1 -= amount.0;
    }
}

/// A random auction, from one number: impressions, deals, currencies, groups, several bids per seat.
fn random(mut seed: u64) -> (Fix, Vec<(usize, Reply)>) {
    let mut draw = |n: u64| {
        seed = mix(seed);
        seed % n
    };
    let mut fix = Fix::new();
    fix.request.at = draw(4) as u32;
    fix.request.test = draw(10) == 0;
    fix.entropy = draw(u64::MAX);
    if draw(2) == 0 {
        fix.rules.runner_up = RunnerUp::OtherSeat;
    }
    let imps = 1 + draw(5);
    for imp in 0..imps {
        let cents = draw(150);
        let currency = [Currency::USD, EUR, JPY, super::super::fixtures::XXX][draw(4) as usize];
        let qty = 1 + draw(40_000_000);
        let i = fix.imp(&format!("{}.{:02}", cents / 100, cents % 100));
        (i.bidfloorcur, i.qty) = (currency, Multiplier(qty));
        for d in 0..draw(3) {
            let at = draw(4) as u32;
            fix.deal(&format!("deal{imp}-{d}"), "0.7", at).guar = at == 2;
        }
    }
    let mut replies = Vec::new();
    for dsp in 0..5 {
        let currency = [Currency::USD, EUR, JPY][draw(3) as usize];
        let bids: Vec<B> = (0..draw(8))
            .map(|n| {
                let (imp, cents, seatbid) = (draw(imps), draw(300), draw(4) as u16);
                B {
                    id: format!("bid{n}"),
                    seat: format!("seat{seatbid}"),
                    seatbid,
                    group: seatbid < 2,
                    deal: if draw(3) == 0 { format!("deal{imp}-{}", draw(3)) } else { String::new() },
                    adomain: vec!["a.example".into()],
                    ..b(imp as usize, &format!("{}.{:02}", cents / 100, cents % 100))
                }
            })
            .collect();
        replies.push((dsp, Reply::of(currency, &bids)));
    }
    (fix, replies)
}

fn bytes_of(record: &Record) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_record_decides_the_same(seed: u64) {
        let (fix, replies) = random(seed);
        let (mut a, mut coin) = (Auction::default(), Coin(seed, 0));
        fix.run_into(&mut a, &replies, &mut coin);
        prop_assert_eq!(coin.1, a.decision().wins.iter().map(|w| w.reserved.0).sum::<i64>());
        prop_assert!(a.record().funds.len() <= FUNDS_MAX);
        let bytes = bytes_of(a.record());
        let read = Record::decode(&bytes).unwrap();
        prop_assert_eq!(&read.decision, a.decision());
        prop_assert_eq!(&replay(&read), a.decision());
        prop_assert_eq!(bytes_of(&read), bytes);
    }

    /// Nothing that is read from a disk panics, however it was damaged; what decodes can be decided.
    #[test]
    fn damaged_records_are_refused_or_decided(seed: u64, at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
        let (fix, replies) = random(seed);
        let mut bytes = bytes_of(fix.run(&replies).record());
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(record) = Record::decode(&bytes) {
            replay(&record);
        }
        bytes.truncate(cut.index(bytes.len()));
        prop_assert!(Record::decode(&bytes).is_err());
    }
}

/// Everything at its bound at once: as large as `RECORD_BYTES_MAX` says, to the byte but for what excludes another.
#[test]
fn the_largest_record_fits_its_bound() {
    let long = "x".repeat(RECORD_TEXT_MAX + 50);
    let seat = "s".repeat(RECORD_TEXT_MAX);
    let mut fix = Fix::new();
    fix.request.id = fix.text(&long);
    fix.exchange.name = long.clone();
    fix.rates.id = long.clone();
    for imp in 0..IMPS_MAX {
        let id = fix.text(&format!("imp{imp}-{long}"));
        let i = fix.imp("0.01");
        (i.id, i.media_floor) = (id, Some((Media::VIDEO, Cpm::ONE, EUR)));
        for deal in 0..DEALS_MAX / IMPS_MAX {
            fix.deal(&format!("{imp}-{deal}-{long}"), "0.01", 2);
        }
    }
    fix.dsps = (0..ASKED_MAX).map(|d| dsp(&format!("{d}{long}"))).collect();
    let mut a = Auction::default();
    let s = fix.start();
    a.begin(&s);
    for (d, dsp) in fix.dsps.iter().enumerate() {
        a.ask(DspIx(d as u16), &dsp.name, u64::MAX, MS);
    }
    for d in 0..DSPS_MAX {
        a.not_asked(DspIx(d as u16), &long, Outcome::NotEligible);
    }
    for (d, dsp) in fix.dsps.iter().enumerate() {
        let bids: Vec<B> = (0..BIDS_PER_ANSWER_MAX)
            .map(|n| B {
                id: long.clone(),
                imp: format!("imp{n}-{long}"),
                seat: seat.clone(),
                seatbid: n as u16,
                cid: seat.clone(),
                crid: long.clone(),
                adomain: vec![long.clone()],
                ..b(n, "1.5")
            })
            .collect();
        let mut reply = Reply::usd(&bids);
        reply.view.id = reply.view.bids[0].id; // of the same text as the request's
        reply.view.nbr = Some(7);
        let outcome = a.leg_answered(d as u8, dsp, Ok(&reply.view), &reply.bytes, &s, 2 * MS);
        assert_eq!(outcome, Outcome::Bid, "leg {d}");
    }
    a.decide(&mut Unlimited, &Default::default(), 3 * MS);
    assert_eq!(a.inputs().bids.len(), BIDS_MAX);
    assert_eq!(a.inputs().legs[0].bids_dropped as usize, BIDS_PER_ANSWER_MAX - BIDS_MAX / ASKED_MAX);
    let bytes = bytes_of(a.record());
    assert!(bytes.len() <= RECORD_BYTES_MAX, "{} > {RECORD_BYTES_MAX}", bytes.len());
    // What is missing: impressions without a winner, since shares are 16 bids, and funds' answers.
    let slack = (IMPS_MAX - a.decision().wins.len()) * WIN + FUNDS_MAX.div_ceil(8) - a.record().funds.len().div_ceil(8);
    assert_eq!(bytes.len() + slack, RECORD_BYTES_MAX);
    let read = Record::decode(&bytes).unwrap();
    assert_eq!(replay(&read), *a.decision());
    assert!(read.inputs.request_id.cut && read.inputs.bids[0].id.cut && !read.inputs.bids[0].seat.cut);
}

#[test]
fn the_record_keeps_times_outcomes_and_who_was_not_asked() {
    let mut fix = Fix::new();
    fix.imp("0.1");
    let s = fix.start();
    let mut a = Auction::default();
    a.begin(&s);
    let (x, y) = (a.ask(DspIx(0), "x", 1, 10), a.ask(DspIx(1), "y", 1, 11));
    a.not_asked(DspIx(2), "z", Outcome::NoTime);
    a.leg_sent(x, 20);
    a.leg_first_byte(x, 30);
    a.leg_failed(x, Outcome::BadStatus, 40);
    a.leg_sent(x, 99); // too late to be told
    a.decide(&mut Unlimited, &Default::default(), 50);
    let _ = y;
    let read = Record::decode(&bytes_of(a.record())).unwrap().inputs;
    let (l, m) = (read.legs[0], read.legs[1]);
    assert_eq!((l.queued_ns, l.sent_ns, l.first_byte_ns, l.done_ns), (10, 20, 30, 40));
    assert_eq!((l.outcome, l.closed_by_decision), (Some(Outcome::BadStatus), false));
    assert_eq!((m.queued_ns, m.done_ns, m.outcome, m.closed_by_decision), (11, 50, Some(Outcome::Late), true));
    assert_eq!(read.text(read.not_asked[0].0), b"z");
    assert_eq!((read.not_asked[0].1, read.decided_ns), (Outcome::NoTime, 50));
    assert_eq!((read.text(read.rate_id), read.config_id, read.event), (&b"2026-11-21"[..], 9, s.event));
}

#[test]
fn other_formats_are_refused() {
    let bytes = bytes_of(&Record::default());
    assert!(Record::decode(&bytes).is_ok());
    let mut other = bytes.clone();
    other[0] = VERSION + 1;
    assert_eq!(Record::decode(&other).err(), Some(RecordError::Version));
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Record::decode(&longer).err(), Some(RecordError::Trailing));
    assert_eq!(Record::decode(&[]).err(), Some(RecordError::Short));
}

#[test]
fn every_reason_has_its_place_in_the_tables() {
    for l in LOSSES {
        let mut r = Reader { rest: &(l as u16).to_le_bytes() };
        assert_eq!(r.loss(), Ok(l));
    }
    // Kept complete by the compiler: a new reason fails here first.
    for l in LOSSES {
        match l {
            Loss::Won | Loss::Internal | Loss::Expired | Loss::InvalidBid | Loss::BadDeal | Loss::BadAuctionId => {}
            Loss::BadAdomain | Loss::NoMarkup | Loss::NoCrid | Loss::NoPrice | Loss::BelowFloor => {}
            Loss::BelowDealFloor | Loss::LostToHigherBid | Loss::LostToDeal | Loss::SeatBlocked | Loss::Size => {}
            Loss::Format | Loss::AdvertiserBlocked | Loss::AppBlocked | Loss::NotSecure | Loss::Category => {}
            Loss::Attribute | Loss::NotAllowedInDeal | Loss::Currency | Loss::NoFunds | Loss::Group => {}
            Loss::TooMany | Loss::GroupSearch => {}
        }
    }
    for n in NBRS {
        match n {
            Nbr::Unknown | Nbr::Technical | Nbr::InvalidRequest | Nbr::InsufficientTime => {}
            Nbr::NoBids | Nbr::Overload | Nbr::NothingToSell => {}
        }
    }
}
