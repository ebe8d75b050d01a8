//! A core's ledger by tables, against a naive twin, and with faults that the twin must find.
mod simultaneous;
mod twin;

use super::*;
use crate::{
    auction::funds::{dsp_key, seat_key},
    budget::CoreReport,
    units::DspIx,
};

/// A unit of [`Moment`], so that times in tests are exact.
const UNIT: u64 = 1 << 20;
/// About a second.
const S: u64 = 954 * UNIT;
const SEED: u64 = 7;

fn small(accounts: usize) -> Capacity {
    Capacity { accounts, name_bytes: accounts * 64, dirty: accounts, auctions: 64 }
}

fn bid<'a>(seat: &'a str, cid: &'a str) -> Account<'a> {
    Account::of(DspIx(0), b"dsp", seat.as_bytes(), cid.as_bytes())
}

fn entry(account: u32, seat: &[u8], cid: &[u8]) -> Entry {
    Entry { account: AccountId(account), dsp: b"dsp"[..].into(), seat: seat.into(), cid: cid.into() }
}

/// Accounts 1 to n, called `c1` and so on.
fn ledger(capacity: Capacity, n: u32) -> CoreLedger {
    let mut l = CoreLedger::new(capacity, SEED);
    let mut batch = DirectoryBatch::new();
    for i in 1..=n {
        if !batch.has_room() {
            l.apply(&mut batch);
            batch.clear();
        }
        assert!(batch.put(entry(i, b"s", format!("c{i}").as_bytes())).is_ok(), "there is room");
    }
    l.apply(&mut batch);
    assert_eq!(batch.refused(), []);
    l.turn(S);
    l
}

fn grant(account: u32, period: u32, granted: i64, until_ns: u64) -> CoreGrant {
    let line = LineKey { account: AccountId(account), period: Period(period) };
    CoreGrant { line, granted: Money(granted), until_ns, ..CoreGrant::default() }
}

fn stop(account: u32, period: u32) -> CoreGrant {
    CoreGrant { stop: true, ..grant(account, period, 0, 0) }
}

fn lines(l: &mut CoreLedger, now: u64) -> Vec<CoreLine> {
    let mut out = Vec::new();
    assert!(matches!(l.tick(now, 1, &mut out), Told::Statement(_)));
    assert_eq!(out.pop(), Some(CoreReport::End { frame_seq: 1 }), "the end is the end");
    out.iter()
        .map(|r| match r {
            CoreReport::Line(line) => *line,
            other => panic!("{other:?} in a statement"),
        })
        .collect()
}

use crate::budget::CoreLine;

fn can_pay(l: &mut CoreLedger, account: &Account<'_>, max: Money) -> Answer {
    l.can_pay(account, max).err().unwrap_or(Answer::Yes)
}

/// As a decision does that asked before, and as one that did not.
fn reserve(l: &mut CoreLedger, account: &Account<'_>, amount: Money) -> Result<Ticket, Answer> {
    let known = l.can_pay(account, amount).unwrap_or(Place::UNKNOWN);
    let place = if amount.0 % 2 == 0 { known } else { Place::UNKNOWN };
    l.reserve(account, place, amount)
}

/// An auction of one winner, rounded by one nano-unit.
fn buy(l: &mut CoreLedger, seq: u64, cid: &str, amount: i64) -> Answer {
    let ticket = match reserve(l, &bid("s", cid), Money(amount)) {
        Ok(ticket) => ticket,
        Err(why) => return why,
    };
    l.charge(ticket, Money(amount), Money(amount - 1));
    l.won(seq, ticket, Money(amount - 1));
    Answer::Yes
}

#[test]
fn bids_find_their_account_and_no_other() {
    let mut l = CoreLedger::new(small(8), SEED);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::Yes, "no account names the DSP: not limited");
    // Two names of one hash, made by somebody who knows the seed.
    let seat = seat_key(dsp_key(b"dsp"), b"s");
    let start = (SEED ^ seat ^ 15).to_le_bytes();
    let (first, second) = ([&start[..], b"one-one"].concat(), [&start[..], b"one-two"].concat());
    assert_eq!(l.directory.name_tag(seat, &first), l.directory.name_tag(seat, &second));
    let mut batch = DirectoryBatch::new();
    for e in [entry(1, b"s", &first), entry(2, b"s", &second), entry(3, b"", b"c"), entry(4, b"s", b"")] {
        assert!(batch.put(e).is_ok());
    }
    l.apply(&mut batch);
    for account in 1..=4 {
        l.grant(&grant(account, 0, i64::from(account), S));
    }
    let longer = [&first[..], b"-"].concat();
    let named = |seat: &'static [u8], cid| Account::of(DspIx(0), b"dsp", seat, cid);
    let rows = [
        ("one", named(b"s", &first), Some(1)),
        ("its collision", named(b"s", &second), Some(2)),
        ("without a seat", named(b"", b"c"), Some(3)),
        ("without a campaign", named(b"s", b""), Some(4)),
        ("the same letters cut elsewhere", named(b"sc", b""), None),
        ("nothing", named(b"", b""), None),
        ("another case", named(b"S", &first), None),
        ("a longer one", named(b"s", &longer), None),
    ];
    for (what, account, expected) in rows {
        let paid = (1..=4).rev().find(|&n| can_pay(&mut l, &account, Money(n)) == Answer::Yes);
        assert_eq!(paid, expected, "{what}");
        assert_eq!(expected.is_none(), can_pay(&mut l, &account, Money(1)) == Answer::NoAccount, "{what}");
    }
    assert_eq!(can_pay(&mut l, &Account::of(DspIx(0), b"other", b"s", b"c"), Money(1)), Answer::Yes, "another DSP");
}

/// Found by the disasters: what was granted after the last grant that the core had taken came with the stop alone, and was
/// missing in its last statement.
#[test]
fn a_stop_brings_what_was_granted_since_the_last_grant() {
    let mut l = ledger(small(4), 1);
    l.grant(&grant(1, 0, 10, 9 * S));
    l.grant(&CoreGrant { granted: Money(15), ..stop(1, 0) });
    let [said] = lines(&mut l, 2 * S)[..] else { panic!("one line") };
    assert_eq!((said.granted, said.returned, said.last), (Money(15), Money(15), true));
}

#[test]
fn a_dsps_policy_decides_on_bids_without_an_account() {
    let default_account = AccountId(1);
    // policy | an account names the DSP | the answer to 5, to 50
    let rows = [
        (Policy::default(), false, Answer::Yes, Answer::Yes),
        (Policy::default(), true, Answer::NoAccount, Answer::NoAccount),
        (Policy { unbudgeted: Some(Unbudgeted::Allow), ..Policy::default() }, true, Answer::Yes, Answer::Yes),
        (
            Policy { unbudgeted: Some(Unbudgeted::Refuse), ..Policy::default() },
            false,
            Answer::NoAccount,
            Answer::NoAccount,
        ),
        (Policy { default_account, unbudgeted: Some(Unbudgeted::Allow) }, true, Answer::Yes, Answer::NoMoney),
        (Policy { default_account: AccountId(9), unbudgeted: None }, true, Answer::NoAccount, Answer::NoAccount),
    ];
    for (policy, named, five, fifty) in rows {
        let mut l = ledger(small(4), u32::from(named));
        l.grant(&grant(1, 0, 10, 9 * S));
        assert!(l.configure([(&b"first"[..], Policy::default()), (b"dsp", policy)].into_iter()));
        // The auction's configuration is in force, or an older one in which the DSP had another place.
        for dsp in [DspIx(1), DspIx(0), DspIx(63), DspIx(u16::MAX)] {
            let account = Account { dsp, ..bid("x", "y") };
            assert_eq!(can_pay(&mut l, &account, Money(5)), five, "{policy:?} {dsp:?}");
            assert_eq!(can_pay(&mut l, &account, Money(50)), fifty, "{policy:?} {dsp:?}");
        }
    }
}

#[test]
fn a_tests_bid_needs_no_money() {
    let mut l = ledger(small(4), 1);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::NoMoney);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(0)), Answer::Yes);
    let ticket = reserve(&mut l, &bid("s", "c1"), Money(0)).expect("nothing is needed");
    assert_eq!(ticket, Ticket::default(), "nobody is charged");
    l.charge(ticket, Money(0), Money(0));
    l.won(1, ticket, Money(0));
    assert_eq!(l.not_delivered(1), []);
    assert_eq!(lines(&mut l, S), []);
    // Nothing was asked for; what is reserved then is looked at all the same: a deal without a floor costs the increment.
    let place = l.can_pay(&bid("s", "c1"), Money(0)).expect("nothing is asked for");
    assert_eq!(l.reserve(&bid("s", "c1"), place, Money(0)), Ok(Ticket::default()));
    assert_eq!(l.reserve(&bid("s", "c1"), place, Money(1)), Err(Answer::NoMoney));
    l.grant(&grant(1, 0, 10, 9 * S));
    assert!(l.reserve(&bid("s", "c1"), place, Money(1)).is_ok_and(|ticket| ticket.account == AccountId(1)));
}

#[test]
fn money_comes_is_spent_freed_and_told() {
    let mut l = ledger(small(4), 2);
    l.grant(&grant(1, 0, 1_000, 60 * S));
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1_001)), Answer::NoMoney);
    assert_eq!(buy(&mut l, 1, "c1", 400), Answer::Yes);
    assert_eq!(buy(&mut l, 2, "c1", 600), Answer::Yes);
    assert_eq!(buy(&mut l, 3, "c1", 3), Answer::NoMoney, "two nano-units came back of rounding");
    let told = lines(&mut l, 2 * S);
    assert_eq!((told[0].granted, told[0].charged, told[0].freed), (Money(1_000), Money(998), Money(0)));
    assert!(told[0].want > Money(1_000), "it is used up");
    let line = LineKey { account: AccountId(1), period: Period(0) };
    assert_eq!(l.not_delivered(2), [Freed { account: line.account, period: line.period, amount: Money(599) }]);
    assert_eq!(l.not_delivered(2), [], "once");
    l.delivered(1);
    assert_eq!(l.not_delivered(1), [], "delivered is delivered");
    let told = lines(&mut l, 2 * S);
    assert_eq!((told[0].charged, told[0].freed, told.len()), (Money(998), Money(599), 1));
    assert_eq!(lines(&mut l, 2 * S), [], "nothing changed");
}

#[test]
fn a_group_gives_back_what_it_held() {
    let mut l = ledger(small(4), 1);
    l.grant(&grant(1, 0, 10, 60 * S));
    let one = reserve(&mut l, &bid("s", "c1"), Money(7)).expect("there is enough");
    assert_eq!(reserve(&mut l, &bid("s", "c1"), Money(7)), Err(Answer::NoMoney));
    // A tick in between keeps the line on the list.
    lines(&mut l, S);
    l.release(one, Money(7));
    let two = reserve(&mut l, &bid("s", "c1"), Money(10)).expect("all is free again");
    l.charge(two, Money(10), Money(10));
    assert_eq!(lines(&mut l, S)[0].charged, Money(10));
}

#[test]
fn a_first_touch_asks_at_once_and_not_again() {
    let mut l = ledger(small(4), 2);
    let asked = |l: &mut CoreLedger| {
        let mut out = Vec::new();
        l.urgent(&mut out);
        out
    };
    l.touch(&bid("s", "c1"), Money(20));
    l.touch(&bid("s", "c1"), Money(20));
    assert_eq!(asked(&mut l), [CoreReport::Unknown { account: AccountId(1), price: Money(20) }]);
    l.touch(&bid("s", "c1"), Money(20));
    assert_eq!(asked(&mut l), [], "its answer may be on the way");
    l.touch(&bid("s", "c1"), Money(30));
    assert_eq!(asked(&mut l).len(), 1, "a larger bid");
    l.grant(&grant(1, 0, 10, 60 * S));
    l.touch(&bid("s", "c1"), Money(30));
    let line = LineKey { account: AccountId(1), period: Period(0) };
    assert_eq!(asked(&mut l), [CoreReport::Short { line, want: Money(30), price: Money(30) }]);
    l.grant(&grant(1, 0, 30, 60 * S));
    l.touch(&bid("s", "c1"), Money(30));
    l.touch(&bid("s", "c9"), Money(30));
    assert_eq!(asked(&mut l), [], "it can pay; and there is no such account");
    assert_eq!(lines(&mut l, S), [], "wants are in no statement");
}

#[test]
fn a_line_is_used_from_its_beginning_to_its_end() {
    let mut l = ledger(small(4), 1);
    l.grant(&grant(1, 0, 10, 5 * S));
    l.grant(&CoreGrant { from_ns: 6 * S, ..grant(1, 1, 10, 60 * S) });
    for (at, period) in [(S, Some(0)), (5 * S - 1, Some(0)), (5 * S, None), (6 * S - 1, None), (6 * S, Some(1))] {
        l.turn(at);
        let paid = reserve(&mut l, &bid("s", "c1"), Money(1)).ok();
        assert_eq!(paid.map(|t| t.period.0), period, "{at}");
        paid.into_iter().for_each(|t| l.charge(t, Money(1), Money(1)));
    }
    let told = lines(&mut l, 6 * S);
    assert_eq!((told[0].charged, told[0].returned), (Money(2), Money(8)), "what is over goes back");
    assert_eq!((told[1].charged, told[1].returned), (Money(1), Money(7)));
    // A third window finds no room until the first is told to stop and forgotten.
    let third = CoreGrant { from_ns: 60 * S, ..grant(1, 2, 10, 90 * S) };
    l.grant(&third);
    assert_eq!(l.figures().grants_ignored, 1);
    l.grant(&stop(1, 0));
    assert_eq!(
        lines(&mut l, 7 * S).iter().map(|t| t.last).collect::<Vec<_>>(),
        [false; 0],
        "a delivery may still fail"
    );
    assert_eq!(lines(&mut l, 16 * S)[0], CoreLine { last: true, want: Money(10), ..told[0] });
    l.grant(&third);
    l.turn(70 * S);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(10)), Answer::Yes);
}

#[test]
fn a_stop_lasts_until_the_line_begins_anew() {
    let mut l = ledger(small(4), 1);
    let old = grant(1, 0, 10, 30 * S);
    l.grant(&old);
    assert_eq!(buy(&mut l, 1, "c1", 4), Answer::Yes);
    l.grant(&stop(1, 0));
    l.grant(&grant(1, 0, 50, 31 * S));
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::Paused);
    l.touch(&bid("s", "c1"), Money(20));
    assert_eq!(lines(&mut l, 2 * S)[0].returned, Money(47));
    assert_eq!(l.not_delivered(1).len(), 1, "late, but the line is there");
    let last = lines(&mut l, 3 * S)[0];
    assert!(last.last && last.returned == Money(50), "nothing of it is spent any more: {last:?}");
    l.grant(&old);
    l.grant(&grant(1, 0, 50, 31 * S));
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::NoMoney, "old grants");
    l.grant(&grant(1, 0, 5, 32 * S));
    l.grant(&old);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(5)), Answer::Yes, "anew");
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(6)), Answer::NoMoney, "from zero");
}

#[test]
fn a_stop_of_what_is_not_here_is_answered() {
    let mut l = ledger(small(4), 1);
    l.grant(&CoreGrant { stop: true, ..grant(77, 3, 40, 9 * S) });
    let told = lines(&mut l, S);
    assert_eq!((told[0].granted, told[0].returned, told[0].last), (Money(40), Money(40), true));
    l.grant(&grant(1, 0, 10, 30 * S));
    l.grant(&CoreGrant { stop: true, ..CoreGrant::default() });
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::Paused, "a fenced server spends nothing");
}

#[test]
fn idle_money_goes_home_but_for_one_bid() {
    let mut l = ledger(small(4), 2);
    for account in [1, 2] {
        l.touch(&bid("s", &format!("c{account}")), Money(20));
        l.grant(&grant(account, 0, 40 - 30 * i64::from(account - 1), 60 * S));
    }
    assert_eq!(lines(&mut l, 2 * S), []);
    let told = lines(&mut l, 8 * S);
    assert_eq!(told.iter().map(|t| t.returned.0).collect::<Vec<_>>(), [20, 10], "ten are no use to a bid of twenty");
    assert_eq!(buy(&mut l, 1, "c1", 20), Answer::Yes);
}

#[test]
fn recalled_money_goes_home() {
    let mut l = ledger(small(4), 1);
    l.touch(&bid("s", "c1"), Money(20));
    l.grant(&grant(1, 0, 1_000, 60 * S));
    l.grant(&CoreGrant { recall: true, ..grant(1, 0, 1_000, 60 * S) });
    assert_eq!(lines(&mut l, S)[0].returned, Money(980));
    assert_eq!(lines(&mut l, S), [], "once");
}

#[test]
fn a_line_about_to_end_is_told_while_bids_come() {
    let mut l = ledger(small(4), 2);
    l.grant(&grant(1, 0, 1_000, 30 * S));
    l.grant(&grant(2, 0, 1_000, 30 * S));
    l.touch(&bid("s", "c1"), Money(20));
    lines(&mut l, 8 * S);
    let reminded: Vec<_> = lines(&mut l, 22 * S).iter().map(|t| t.line.account.0).collect();
    assert_eq!(reminded, [1]);
}

struct Narrow(Vec<CoreReport>, usize);

impl Sink for Narrow {
    fn room(&self) -> usize {
        self.1 - self.0.len()
    }
    fn put(&mut self, report: CoreReport) {
        assert!(self.room() > 0);
        self.0.push(report);
    }
}

#[test]
fn a_full_list_refuses_others_and_loses_nothing() {
    let mut l = ledger(Capacity { dirty: 2, ..small(8) }, 4);
    (1..=4).for_each(|a| l.grant(&grant(a, 0, 100, 600 * S)));
    for cid in ["c1", "c2", "c2"] {
        assert_eq!(buy(&mut l, 1, cid, 10), Answer::Yes);
    }
    assert_eq!((can_pay(&mut l, &bid("s", "c3"), Money(10)), buy(&mut l, 2, "c3", 10)), (Answer::Full, Answer::Full));
    let mut narrow = Narrow(Vec::new(), 4);
    assert_eq!(l.tick(S, 5, &mut narrow), Told::NoRoom);
    assert_eq!((narrow.0.len(), l.figures().ticks_without_room), (0, 1), "all or nothing");
    assert_eq!(buy(&mut l, 3, "c2", 10), Answer::Yes, "what is on the list goes on");
    assert_eq!(lines(&mut l, S).iter().map(|t| t.charged.0).collect::<Vec<_>>(), [9, 27]);
    assert_eq!(buy(&mut l, 4, "c3", 10), Answer::Yes);
    assert_eq!(buy(&mut l, 5, "c4", 10), Answer::Yes);
    // The list is full, and a delivery of before fails.
    assert_eq!(l.not_delivered(1).len(), 3);
    assert_eq!(lines(&mut l, S).iter().map(|t| t.freed.0).collect::<Vec<_>>(), [0, 0, 9, 18]);
}

#[test]
fn what_does_not_add_up_ends_bidding_for_the_account() {
    let mut l = ledger(small(4), 2);
    (1..=2).for_each(|a| l.grant(&grant(a, 0, 100, 60 * S)));
    let slot = l.directory.slot_of(AccountId(1)).expect("it is listed");
    l.directory.table[slot as usize].lines[0].free = Money(101);
    assert_eq!(buy(&mut l, 1, "c1", 10), Answer::Paused);
    assert_eq!(l.violation().map(|v| (v.line.account.0, v.invariant)), Some((1, Invariant::Equation)));
    assert_eq!(l.figures().violations, 1);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::Paused, "for good");
    assert_eq!(buy(&mut l, 2, "c2", 10), Answer::Yes, "others go on");
}

#[test]
fn a_removed_accounts_money_goes_home_and_its_place_to_another() {
    let mut l = ledger(small(2), 2);
    l.grant(&grant(1, 0, 100, 600 * S));
    assert_eq!(buy(&mut l, 1, "c1", 10), Answer::Yes);
    let mut batch = DirectoryBatch::new();
    assert!(batch.remove(AccountId(1)) && batch.put(entry(3, b"s", b"c1")).is_ok());
    l.apply(&mut batch);
    assert_eq!(batch.refused(), [(AccountId(3), EntryRefused::Accounts)], "its money is not home yet");
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::NoAccount);
    assert_eq!(lines(&mut l, 2 * S)[0].returned, Money(91));
    l.grant(&stop(1, 0));
    assert!(lines(&mut l, 20 * S)[0].last);
    assert_eq!(lines(&mut l, 20 * S), []);
    batch.clear();
    assert!(batch.put(entry(3, b"s", b"c1")).is_ok());
    l.apply(&mut batch);
    assert_eq!((batch.refused().len(), l.accounts()), (0, 2));
    l.grant(&grant(3, 0, 100, 600 * S));
    assert_eq!(l.not_delivered(1), [], "another's line frees nothing");
    assert_eq!(l.figures().not_freed, 1);
}

/// For BUDGETS: `cargo test -p outcry budget::core::tests::memory -- --nocapture`.
#[test]
fn memory_is_bounded_for_each_campaign() {
    let n = 110_000;
    let l = CoreLedger::new(Capacity::of(n), SEED);
    let all = l.bytes();
    let fixed = l.tickets.bytes() + l.dirty.capacity() * 4;
    println!("a core's ledger: {all} bytes, {} a campaign with its names, {fixed} besides", (all - fixed) / n);
    assert!((all - fixed) / n <= 288);
}

/// A campaign that finds no room is not one without a budget.
#[test]
fn a_dsp_whose_only_account_finds_no_room_is_refused() {
    let mut l = CoreLedger::new(Capacity { accounts: 0, ..small(4) }, SEED);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::Yes, "nobody names the DSP");
    let mut batch = DirectoryBatch::new();
    let entry = Entry { account: AccountId(1), dsp: (*b"dsp").into(), seat: (*b"s").into(), cid: (*b"c1").into() };
    batch.put(entry).expect("room in the batch");
    l.apply(&mut batch);
    assert_eq!(batch.refused(), [(AccountId(1), EntryRefused::Accounts)]);
    assert_eq!(can_pay(&mut l, &bid("s", "c1"), Money(1)), Answer::NoAccount);
    assert_eq!(can_pay(&mut l, &Account::of(DspIx(0), b"other", b"s", b"c1"), Money(1)), Answer::Yes);
    // Nor is one for which there is no row.
    let name = |n: usize| format!("dsp-{n}").into_bytes();
    let mut n = 0;
    while !batch.refused().iter().any(|(_, why)| *why == EntryRefused::Dsps) {
        batch.clear();
        let (seat, cid) = ((*b"s").into(), (*b"c").into());
        batch.put(Entry { account: AccountId(2), dsp: name(n).into(), seat, cid }).expect("room in the batch");
        l.apply(&mut batch);
        n += 1;
    }
    assert_eq!(can_pay(&mut l, &Account::of(DspIx(0), &name(n - 1), b"s", b"c"), Money(1)), Answer::NoAccount);
}
