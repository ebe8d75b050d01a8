//! Journals as an exchange writes them, made at random: what is billed of them is what a list of all wins, each looked at alone,
//! comes to.
mod world;

use self::world::{Frames, State, World};
use super::{
    Payer, Spot, Whose,
    accounts::{Accounts, Month},
    bill::{Bill, Finished, Line, Of as Under, Sums},
    settling::{Came, Fault, Settling},
    sources::{Moved, Who},
    told::Told,
    wins::{Fate, Kept, Wins},
};
use crate::{
    budget::{AccountId, LineKey, Period, movement::Movement},
    notice::{holds::Lapse, token, told::Notice},
    record::frame::{self, Kind},
    ship::{
        events::{Message, Names, Room, messages},
        schema::Event,
    },
    tiers::{
        accounts::Accounts as Named,
        gather::{Gather, Gathered},
        names::Table,
        wins::Row,
    },
    units::Currency,
};
use prost::Message as _;
use std::collections::BTreeMap;

type Rows = BTreeMap<(Under, String, Currency), Sums>;

/// What a reader comes to.
struct Read {
    bill: Finished,
    contradictions: usize,
    wins: Vec<Kept<()>>,
}

/// Reads frames as `outcry audit` does.
fn read(frames: &Frames, month: &str) -> Read {
    read_with(None, usize::MAX, frames, month)
}

/// The same, with a mistake.
fn read_with(fault: Option<Fault>, ahead: usize, frames: &Frames, month: &str) -> Read {
    let month = Month::parse(month).expect("a month");
    let frames: Vec<_> = frames.iter().map(|bytes| frame::decode(bytes).expect("a frame")).collect();
    let mut accounts = Accounts::default();
    for f in frames.iter().filter(|f| f.kind() == Some(Kind::Account)) {
        accounts.moved(&Movement::decode(f.header.version, f.payload()).expect("a movement"));
    }
    let (mut settling, mut bill) = (Settling::new(world::NODE), Bill::new(&accounts, month));
    fault.into_iter().for_each(|fault| settling.plant(fault));
    let (mut wins, mut out) = (Wins::new(ahead), Vec::new());
    for (n, f) in frames.iter().enumerate() {
        let spot = Spot { ms: f.header.hlc >> 16, segment: 1, offset: n as u64 };
        settling
            .frame(f, spot, &mut |came, spot| {
                if let Came::Won(won) = &came
                    && bill.holds(won.whose)
                {
                    wins.keep(won, spot, ());
                }
                bill.came(&came);
                wins.came(&came, spot);
            })
            .expect("a record");
        while let Some(row) = wins.next(spot.ms) {
            out.push(row);
        }
    }
    out.extend(std::iter::from_fn(|| wins.next(u64::MAX)));
    for f in frames.iter().filter(|f| f.kind() == Some(Kind::Notice)) {
        let notice = Notice::decode(f.payload()).expect("a notice");
        if notice.name.kind == token::Kind::Billed && !notice.expired {
            bill.late.in_time((notice.name.event, notice.name.imp));
        }
    }
    let contradictions = bill.contradictions.len();
    Read { bill: bill.finish(&settling), contradictions, wins: out }
}

/// All of a month but late notices, which are no wins.
fn of_wins(rows: &Rows) -> Sums {
    let mut all = Sums::default();
    rows.values().for_each(|sums| all += *sums);
    all.late = Default::default();
    all
}

type Differing = (Under, String, Option<Sums>, Option<Sums>);

/// Rows that are not the same in both.
fn differing(one: &Rows, other: &Rows) -> Vec<Differing> {
    let keys = one.keys().chain(other.keys()).filter(|key| one.get(key) != other.get(key));
    keys.map(|key| (key.0.clone(), key.1.clone(), one.get(key).copied(), other.get(key).copied())).collect()
}

const MONTHS: [&str; 2] = ["2026-10", "2026-11"];

#[test]
fn what_is_billed_is_what_each_win_alone_comes_to() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..60 {
        let world = World::run(seed, 1_500);
        let mut all = Sums::default();
        for month in MONTHS {
            let read = read(&world.frames, month);
            let want = world.rows(month);
            assert_eq!(differing(&read.bill.rows, &want), [], "seed {seed}, {month}");
            assert_eq!((read.contradictions, read.bill.unknown.len()), (0, 0), "seed {seed}, {month}");
            let mut lines = Sums::default();
            for row in &read.wins {
                lines += row.sums();
                let state = world.state(row.event, row.imp);
                let same = match (row.fate, state) {
                    (Fate::Charged(_), State::Charged) => row.freed.0 == 0,
                    (Fate::Charged(_), State::Freed) => row.freed == row.charge,
                    (Fate::Waits, State::Waits) | (Fate::Lapsed, State::Lapsed) => true,
                    (Fate::Billed { charge, .. }, State::Billed(of)) => charge == of,
                    _ => false,
                };
                assert!(same, "seed {seed}: {row:?} is {state:?}");
                *seen.entry(row.fate.name()).or_default() += 1;
            }
            assert_eq!(lines, of_wins(&want), "seed {seed}, {month}: the lines add up to the bill");
            want.values().for_each(|sums| all += *sums);
        }
        let waiting: i128 = world.waiting_of_accounts();
        assert_eq!(waiting, world.held(), "seed {seed}: the exchange holds as much");
        for line in Line::ALL {
            *seen.entry(line.name()).or_default() += all.line(line).wins;
        }
    }
    println!("{seen:?}");
    for what in Line::ALL.map(Line::name).iter().chain(&["written", "failed", "client_left", "late", "waits", "lapsed"])
    {
        assert!(seen.get(what).copied().unwrap_or(0) > 20, "too few of {what}: {seen:?}");
    }
}

/// A line that is the sum of those above it, whatever came.
#[test]
fn lines_add_up() {
    for seed in 100..110 {
        for sums in World::run(seed, 500).rows(MONTHS[0]).values() {
            let [charged, freed, lapsed, reduced, waiting, billed, _] = Line::ALL.map(|line| sums.line(line).nanos);
            assert_eq!(charged + freed + lapsed + reduced + waiting, billed, "seed {seed}: {sums:?}");
        }
    }
}

/// Is a frame a notice that was called again, so that another says the same?
fn repeated(frames: &Frames, f: &frame::Frame<'_>) -> bool {
    let name = |f: &frame::Frame<'_>| match f.kind() {
        Some(Kind::Notice) => Notice::decode(f.payload()).ok().filter(|n| !n.expired).map(|n| n.name),
        _ => None,
    };
    let Some(own) = name(f) else { return false };
    frames.iter().filter(|bytes| name(&frame::decode(bytes).expect("a frame")) == Some(own)).count() > 1
}

/// A record that is gone is missed: in the sums, and where what went home names it, as a contradiction.
#[test]
fn a_record_that_is_gone_changes_the_bill() {
    let (mut auctions, mut notices, mut deliveries, mut contradicted) = (0, 0, 0, 0);
    for seed in 200..230 {
        let world = World::run(seed, 400);
        for at in (0..world.frames.len()).step_by(7) {
            let f = frame::decode(&world.frames[at]).expect("a frame");
            let Some(kind) = world.matters(at).filter(|_| !repeated(&world.frames, &f)) else { continue };
            let mut frames = world.frames.clone();
            frames.remove(at);
            let read = MONTHS.map(|month| read(&frames, month));
            let same = read.iter().zip(MONTHS).all(|(r, month)| r.bill.rows == world.rows(month));
            let contradictions: usize = read.iter().map(|r| r.contradictions).sum();
            assert!(!same || contradictions > 0, "seed {seed}, frame {at} of {:?} is not missed", f.kind());
            contradicted += u32::from(contradictions > 0);
            match kind {
                Kind::Auction => auctions += 1,
                Kind::Notice => notices += 1,
                _ => deliveries += 1,
            }
        }
    }
    println!(
        "{auctions} auctions, {notices} notices, {deliveries} deliveries were missed, {contradicted} contradicted"
    );
    assert!(auctions > 50 && notices > 20 && deliveries > 5 && contradicted > 20);
}

/// A notice that is written twice is believed once; what was altered of what went home is named.
#[test]
fn a_repetition_changes_nothing_and_an_alteration_is_named() {
    let world = World::run(300, 800);
    let mut frames = Vec::new();
    for bytes in &world.frames {
        let of = frame::decode(bytes).expect("a frame").kind();
        frames.extend(std::iter::repeat_n(bytes.clone(), if of == Some(Kind::Notice) { 3 } else { 1 }));
    }
    for month in MONTHS {
        assert_eq!(differing(&read(&frames, month).bill.rows, &world.rows(month)), [], "{month}");
    }
    let mut altered = 0;
    let frames: Frames = world.frames.iter().map(|bytes| world::with_more_lapsed(bytes, &mut altered)).collect();
    let named: usize = MONTHS.iter().map(|month| read(&frames, month).contradictions).sum();
    assert!(altered > 5);
    assert_eq!(named, altered, "each is named");
}

/// In the order of their auctions, unless too many are behind one that waits; each once, with the same that came of it.
#[test]
fn no_more_wins_are_kept_than_may_be() {
    for seed in 600..610 {
        let world = World::run(seed, 800);
        let by = |ahead| read_with(None, ahead, &world.frames, MONTHS[0]).wins;
        let name = |row: &Kept<()>| (row.spot.offset, row.event, row.imp);
        let what = |row: &Kept<()>| (name(row), format!("{:?} {:?} {:?}", row.fate, row.freed, row.because));
        let in_order = by(usize::MAX);
        assert!(in_order.is_sorted_by_key(|row| row.spot.offset), "seed {seed}");
        let mut want: Vec<_> = in_order.iter().map(what).collect();
        want.sort();
        for ahead in [0, 1, 20] {
            let rows = by(ahead);
            assert!(!rows.is_sorted_by_key(|row| row.spot.offset), "seed {seed}, {ahead}");
            let mut got: Vec<_> = rows.iter().map(what).collect();
            got.sort();
            assert_eq!(got, want, "seed {seed}, {ahead}");
        }
    }
}

/// Each mistake that a reader could make is found, by sums or by what went home.
#[test]
fn every_planted_fault_is_found() {
    for fault in Fault::ALL {
        let found = (500..540).find(|seed| {
            let world = World::run(*seed, 300);
            MONTHS.iter().any(|month| {
                let read = read_with(Some(fault), usize::MAX, &world.frames, month);
                read.bill.rows != world.rows(month) || read.contradictions > 0
            })
        });
        println!("{fault:?}: seed {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

/// Whatever stands in a record, nothing panics: sums are long enough, moments end.
#[test]
fn no_record_makes_it_panic() {
    let (mut read, mut unread) = (0, 0);
    for seed in 400..440 {
        let world = World::run(seed, 200);
        let accounts = Accounts::default();
        let month = Month::parse(MONTHS[0]).expect("a month");
        let (mut settling, mut bill) = (Settling::new(world::NODE), Bill::new(&accounts, month));
        let mut wins = Wins::default();
        for (n, bytes) in world.frames.iter().enumerate() {
            let altered = world::altered(bytes, seed << 20 | n as u64);
            let f = frame::decode(&altered).expect("a frame");
            let spot = Spot { ms: f.header.hlc >> 16, segment: 1, offset: n as u64 };
            let done = settling.frame(&f, spot, &mut |came, spot| {
                if let Came::Won(won) = &came {
                    wins.keep(won, spot, ());
                }
                bill.came(&came);
                wins.came(&came, spot);
            });
            (read, unread) = (read + u32::from(done.is_ok()), unread + u32::from(done.is_err()));
            while wins.next(spot.ms).is_some() {}
        }
        while let Some(row) = wins.next(u64::MAX) {
            row.sums();
        }
        bill.finish(&settling);
    }
    println!("{read} were read, {unread} were none");
    assert!(read > 1_000 && unread > 100);
}

struct Numbers;

impl Names for Numbers {
    fn advertiser(&mut self, account: AccountId) -> String {
        account.0.to_string()
    }
}

type Spent = BTreeMap<Who, i128>;

fn sums(moved: &BTreeMap<Who, Vec<Moved>>) -> Spent {
    let of = |all: &Vec<Moved>| all.iter().map(|m| m.nanos).sum::<i128>();
    moved.iter().map(|(who, all)| (who.clone(), of(all))).filter(|(_, nanos)| *nanos != 0).collect()
}

/// What the journal says of a day, from a frame on.
fn of_journal(frames: &[frame::Frame<'_>], from: usize, day: u32, holds: &dyn Fn(LineKey) -> bool) -> Spent {
    let mut settling = Settling::new(world::NODE);
    let (mut accounts, mut buyers): (Spent, BTreeMap<u32, i128>) = Default::default();
    for (n, f) in frames.iter().enumerate() {
        let spot = Spot { ms: f.header.hlc >> 16, segment: 1, offset: n as u64 };
        let mut add = |whose: Whose, nanos: i128, spot: Spot| match whose.payer {
            _ if spot.offset < from as u64 => {}
            Payer::Account(account) if holds(LineKey { account, period: Period(whose.minute) }) => {
                *accounts.entry(Who::Account(account)).or_default() += nanos;
            }
            Payer::Buyer(number) if whose.minute / 1_440 == day => *buyers.entry(number).or_default() += nanos,
            _ => {}
        };
        let read = settling.frame(f, spot, &mut |came, spot| match came {
            Came::Won(won) => add(won.whose, won.win.charge.0.into(), spot),
            Came::Freed { whose, amount, .. } | Came::Expired { whose, amount, .. } => {
                add(whose, -i128::from(amount.0), spot);
            }
            Came::Billed(n) if matches!(n.whose.payer, Payer::Buyer(_)) => {
                add(n.whose, i128::from(n.charge.0) - i128::from(n.held.0), spot);
            }
            _ => {}
        });
        read.expect("a record");
        if f.kind() == Some(Kind::Settlement) {
            let Lapse { of, amount, .. } = Lapse::decode(f.payload()).expect("a lapse");
            let payer = Payer::Account(of.line.account);
            add(Whose { payer, minute: of.line.period.0 }, -i128::from(amount.0), spot);
        }
    }
    for (buyer, number) in settling.buyers() {
        accounts.insert(Who::Buyer(buyer.clone()), buyers.get(&number).copied().unwrap_or(0));
    }
    accounts.retain(|_, nanos| *nanos != 0);
    accounts
}

fn of_rows(gathered: &Gathered, day: u32, holds: &dyn Fn(LineKey) -> bool) -> Told {
    let mut told = Told::new(world::NODE, day);
    for ((table, ..), part) in &gathered.parts {
        match table {
            Table::Wins => {
                for row in 0..part.rows.len() {
                    told.win(&Row::read(&part.rows, row).expect("a row"), holds);
                }
            }
            Table::Notices => assert!(told.notices(&part.rows)),
            Table::Settlements => assert!(told.settlements(&part.rows, holds)),
            // Nobody pays for them.
            Table::House => {}
        }
    }
    told
}

/// Kafka's messages, in whatever order, and the tiers' rows say of each payer of a day what the journal says; and without one message
/// that moved something they do not.
#[test]
fn other_places_come_to_what_the_journal_says() {
    let (mut days_with, mut missed) = (0, 0);
    for seed in 0..20 {
        let world = World::run(seed, 600);
        let frames: Vec<_> = world.frames.iter().map(|bytes| frame::decode(bytes).expect("a frame")).collect();
        let now_ms = frames.last().map_or(0, |f| f.header.hlc >> 16);
        let mut events: Vec<Event> = Vec::new();
        let mut gather = Gather::new(world::NODE, Named::default());
        let mut seen = std::collections::BTreeSet::new();
        for (n, f) in frames.iter().enumerate() {
            gather.frame(1, n as u64, f);
            let sent = messages(f, world::NODE, &mut Numbers, &mut Room::default(), &mut |m: Message<'_>| {
                if seen.insert(m.id.to_owned()) {
                    events.push(Event::decode(m.payload).expect("a message"));
                }
            });
            sent.expect("a record");
        }
        let gathered = gather.finish();
        // A delivery stands behind the batch; a notice that is read before its win is at once followed by that.
        let is = |n: &usize, kind: Kind| frames[*n].kind() == Some(kind);
        let middle = frames.len() / 2..frames.len() - 1;
        let at = middle.clone().find(|n| is(n, Kind::Delivery) && is(&(n - 1), Kind::Auction)).unwrap_or(middle.end);
        let mut half = Gather::new(world::NODE, Named::default());
        frames[..at].iter().enumerate().for_each(|(n, f)| half.frame(1, n as u64, f));
        let _ = frames[at..].iter().enumerate().any(|(n, f)| half.behind(2, (at + n) as u64, f));
        let half = half.finish();
        let from = (frames[0].header.hlc >> 16) / 86_400_000;
        for day in from..from + 6 {
            let day = day as u32;
            let holds = |line: LineKey| line.period.0 / 1_440 == day;
            let want = of_journal(&frames, 0, day, &holds);
            days_with += usize::from(want.len() > 3);
            let told = |events: &mut dyn Iterator<Item = &Event>| {
                let mut told = Told::new(world::NODE, day);
                events.for_each(|event| assert!(told.message(event, &holds), "seed {seed}: {event:?}"));
                sums(&told.finish(now_ms))
            };
            assert_eq!(told(&mut events.iter()), want, "seed {seed}, day {day}: in order");
            assert_eq!(told(&mut events.iter().rev()), want, "seed {seed}, day {day}: backwards");
            let moved = |event: &Event| {
                let mut alone = Told::new(world::NODE, day);
                alone.message(event, &holds);
                !sums(&alone.finish(0)).is_empty()
            };
            if let Some(at) = events.iter().position(moved) {
                let without = told(&mut events.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, event)| event));
                missed += usize::from(without != want);
            }
            assert_eq!(sums(&of_rows(&gathered, day, &holds).finish(now_ms)), want, "seed {seed}, day {day}: rows");
            // As far as it was exported, with what it will hear of.
            let mut all = sums(&of_rows(&half, day, &holds).up_to(1, frames[at - 1].header.hlc >> 16));
            let coming = of_journal(&frames, at, day, &holds);
            coming.into_iter().for_each(|(who, nanos)| *all.entry(who).or_default() += nanos);
            all.retain(|_, nanos| *nanos != 0);
            assert_eq!(all, want, "seed {seed}, day {day}: rows of a half");
        }
    }
    assert!(days_with > 20 && missed > 20, "{days_with} days with several payers, {missed} messages missed");
}
