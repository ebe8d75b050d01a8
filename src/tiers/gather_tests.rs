//! Frames of real auction records become rows: what is counted twice here, by rows and by records, must agree.
use super::*;
use crate::{
    auction::{delivery, record},
    record::frame::{self, Header},
    tiers::{table::Value, wins::at},
};

/// 2026-01-31T23:59:00Z: a minute before midnight.
const LATE_MS: u64 = 1_769_903_940_000;

fn templates() -> Vec<Record> {
    golden(include_str!("../auction/record/v2.golden.txt"))
}

fn golden(text: &str) -> Vec<Record> {
    let bytes = |line: &str| -> Vec<u8> {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits")).collect()
    };
    text.lines().map(|line| Record::decode(&bytes(line)).expect("a record")).collect()
}

fn framed(seq: u64, kind: Kind, version: u8, ms: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let at = frame::begin(&mut bytes);
    bytes.extend_from_slice(payload);
    frame::finish(&mut bytes, at, &Header { seq, epoch: 1, writer: 0, kind: kind as u8, version, hlc: ms << 16 });
    bytes
}

fn event(n: u64) -> EventId {
    EventId { node: 1, epoch: 1, core: 0, seq: n }
}

/// Auction `n` at a moment, and its frame.
fn auction(n: u64, ms: u64) -> (Record, Vec<u8>) {
    auction_of(&templates(), n, ms)
}

fn auction_of(all: &[Record], n: u64, ms: u64) -> (Record, Vec<u8>) {
    let mut record = all[n as usize % all.len()].clone();
    record.inputs.event = event(n);
    for win in &mut record.decision.wins {
        (win.account, win.period) = (AccountId(7), Period(29_000_000));
    }
    let mut payload = Vec::new();
    record.encode(&mut payload);
    (record, framed(n, Kind::Auction, record::VERSION, ms, &payload))
}

fn delivered(n: u64, ms: u64, delivery: Delivery, freed: &[Freed]) -> Vec<u8> {
    let mut payload = Vec::new();
    delivery.encode(event(n), freed, &mut payload);
    framed(1000 + n, Kind::Delivery, delivery::FRAME_VERSION, ms, &payload)
}

fn decoded(bytes: &[u8]) -> Frame<'_> {
    frame::decode(bytes).expect("a frame")
}

/// All rows of wins, in order of their places.
fn rows(gathered: &Gathered) -> impl Iterator<Item = (&Place, &Part, usize)> {
    let wins = gathered.parts.iter().filter(|(place, _)| place.0 == Table::Wins);
    wins.flat_map(|(place, part)| (0..part.rows.len()).map(move |row| (place, part, row)))
}

#[test]
fn every_win_is_a_row_of_its_day_and_advertiser_and_the_sums_are_those_of_the_records() {
    let mut gather = Gather::new(1, Accounts::default());
    let (mut wins, mut charge) = (0, 0i64);
    for n in 1..=120 {
        let (record, bytes) = auction(n, LATE_MS + 1000 * n);
        gather.frame(1, 4096 * n, &decoded(&bytes));
        wins += record.decision.wins.len();
        charge += record.decision.wins.iter().map(|win| win.charge.0).sum::<i64>();
    }
    let gathered = gather.finish();
    assert!(wins > 100, "the templates have winners: {wins}");
    assert_eq!((rows(&gathered).count(), gathered.unreadable, gathered.raw), (wins, 0, 0));
    let of_rows: i64 = rows(&gathered).filter_map(|(_, part, row)| part.rows.int(at::CHARGE, row)).sum();
    let of_sums: (u64, i64) = gathered.sums.iter().fold((0, 0), |sum, s| (sum.0 + s.wins, sum.1 + s.charge_nanos));
    assert_eq!((of_rows, of_sums), (charge, (wins as u64, charge)));
    for (place, part, row) in rows(&gathered) {
        let wins::Row { won, delivered, .. } = wins::Row::read(&part.rows, row).expect("a row of ours");
        assert_eq!((names::day(won.ms), delivered), (place.1.clone(), None));
        assert_eq!(names::advertiser(&won.adomain, &won.dsp, &won.seat), place.2);
        assert_eq!(won.offset, 4096 * won.event.seq, "a row says where its record stands");
    }
    let days: BTreeSet<&str> = gathered.parts.keys().map(|place| place.1.as_str()).collect();
    assert_eq!(days.into_iter().collect::<Vec<_>>(), ["2026-01-31", "2026-02-01"]);
}

/// A house ad is a row of its own table, with what became of its answer, and none of wins; of a win it is said with which
/// probability its DSP was asked, where that was not sure.
#[test]
fn house_ads_and_asking_probabilities_are_told() {
    let all = golden(include_str!("../auction/record/v5.golden.txt"));
    let mut gather = Gather::new(1, Accounts::default());
    let (mut house, mut probabilities, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for n in 1..=2 * all.len() as u64 {
        let (record, bytes) = auction_of(&all, n, LATE_MS - 100_000 + 1000 * n);
        gather.frame(1, 4096 * n, &decoded(&bytes));
        for ad in &record.house {
            house.push((n, ad.imp, ad.price.0, record.inputs.text(ad.crid).to_vec()));
        }
        for win in &record.decision.wins {
            let leg = &record.inputs.legs[usize::from(record.inputs.bids[usize::from(win.input)].leg)];
            probabilities
                .push(Some(leg.asked_probability).filter(|p| !p.is_always()).map(|p| i64::from(p.of_10_000())));
        }
        records.push(record);
    }
    assert!(house.len() > 4 && probabilities.contains(&None) && probabilities.iter().any(Option::is_some));
    let late = house[house.len() - 1].0;
    gather.frame(1, 1 << 20, &decoded(&delivered(late, LATE_MS - 80_000, Delivery::ClientLeft, &[])));
    let gathered = gather.finish();
    assert_eq!(gathered.unreadable, 0);
    let of_wins: Vec<_> = rows(&gathered).map(|(_, part, row)| part.rows.int(at::ASKED_PROBABILITY, row)).collect();
    let sorted = |mut all: Vec<Option<i64>>| {
        all.sort_unstable();
        all
    };
    assert_eq!(sorted(of_wins), sorted(probabilities));
    let (place, part) = gathered.parts.iter().find(|(place, _)| place.0 == Table::House).expect("rows of house ads");
    assert_eq!((place.1.as_str(), &place.2[..], part.rows.len()), ("2026-01-31", &b"-"[..], house.len()));
    let at = |name| super::super::house::COLUMNS.iter().position(|c| c.name == name).expect("a column");
    for (row, (n, imp, price, crid)) in house.iter().enumerate() {
        let (rows, i) = (&part.rows, &records[*n as usize - 1].inputs);
        assert_eq!(rows.text(at("bidid"), row), event(*n).text());
        assert_eq!(
            (rows.int(at("imp_place"), row), rows.int(at("price_micros"), row)),
            (Some((*imp).into()), Some(*price))
        );
        assert_eq!((rows.text(at("crid"), row), rows.text(at("cur"), row)), (&crid[..], &i.answer_currency.0[..]));
        assert_eq!(rows.text(at("imp"), row), i.text(i.imps[usize::from(*imp)].id));
        assert_eq!((rows.int(at("nbr"), row), rows.int(at("offset"), row)), (Some(500), Some(4096 * *n as i64)));
        let came = if *n == late { "client_left" } else { "written" };
        assert_eq!(rows.text(at("delivery"), row), came.as_bytes());
        assert_eq!(rows.int(at("delivered_offset"), row), (*n == late).then_some(1 << 20));
    }
}

#[test]
fn a_delivery_behind_the_batch_counts() {
    let charged = |record: &Record| {
        record.decision.wins.len() == 1 && record.decision.wins[0].account.is_some() && record.inputs.awaited_s == 0
    };
    let n = (1..60).find(|n| charged(&auction(*n, 0).0)).expect("one win that an account is charged for at once");
    let (record, bytes) = auction(n, LATE_MS);
    let win = record.decision.wins[0];
    let freed = [Freed { account: win.account, period: win.period, amount: win.charge }];
    let of = |behind: &[Vec<u8>]| {
        let mut gather = Gather::new(1, Accounts::default());
        gather.frame(1, 4096, &decoded(&bytes));
        let over = behind.iter().any(|frame| gather.behind(2, 64, &decoded(frame)));
        let gathered = gather.finish();
        let (_, part, row) = rows(&gathered).next().expect("a row");
        let name = String::from_utf8(part.rows.text(at::DELIVERY, row).to_vec()).expect("a name");
        let read = wins::Row::read(&part.rows, row).expect("a row of ours");
        assert_eq!(read.delivered.is_some_and(|spot| (spot.segment, spot.offset) == (2, 64)), name != "written");
        assert_eq!(read.freed.0, part.rows.int(at::FREED, row).unwrap_or(0));
        (over, name, part.rows.int(at::FREED, row), gathered.sums[0].freed_nanos)
    };
    let gone = delivered(n, LATE_MS + 9, Delivery::ClientLeft, &freed);
    let other = delivered(n + 1, LATE_MS + 9, Delivery::Failed, &freed);
    let long = |ms| framed(7, Kind::Refusals, 1, ms, &[]);
    assert_eq!(of(std::slice::from_ref(&other)), (false, "written".into(), None, 0));
    assert_eq!(of(&[other, gone.clone()]), (false, "client_left".into(), Some(win.charge.0), win.charge.0));
    assert!(!of(&[gone.clone(), long(LATE_MS + DELIVERED_MS)]).0);
    assert!(of(&[gone, long(LATE_MS + DELIVERED_MS + 1)]).0);
    let started = framed(8, Kind::Start, 1, LATE_MS, &[]);
    assert!(of(&[started]).0, "who started later left nothing to be waited for");
}

#[test]
fn what_is_kept_whole_and_what_cannot_be_read_is_counted_and_no_row() {
    let mut gather = Gather::new(1, Accounts::default());
    for kind in [Kind::RawRequest, Kind::RawAnswer] {
        gather.frame(1, 4096, &decoded(&framed(1, kind, 1, LATE_MS, br#"{"id":"whole"}"#)));
    }
    for kind in [Kind::Auction, Kind::Delivery, Kind::Notice, Kind::Account, Kind::Lease, Kind::Settlement] {
        gather.frame(1, 8192, &decoded(&framed(2, kind, 1, LATE_MS, b"?")));
    }
    let gathered = gather.finish();
    assert_eq!((gathered.raw, gathered.unreadable, gathered.parts.len()), (2, 6, 0));
}

#[test]
fn too_many_values_are_not_named() {
    let mut part = Part::new(Table::Wins);
    let (record, _) = auction((1..60).find(|n| !auction(*n, 0).0.decision.wins.is_empty()).expect("a win"), 0);
    let win = record.decision.wins[0];
    let mut won = Won::of(&record, &win, &record.inputs.bids[usize::from(win.input)], 0, (1, 1));
    for n in 0..NAMED_MAX {
        won.cid = n.to_string().into_bytes();
        part.of_win(&won);
    }
    assert_eq!(part.cids.as_ref().map(BTreeSet::len), Some(NAMED_MAX));
    won.cid = b"one more".to_vec();
    part.of_win(&won);
    assert_eq!((part.cids, part.seats.map(|s| s.len())), (None, Some(1)));
    assert_eq!(Value::some_text(b""), Value::None);
}
