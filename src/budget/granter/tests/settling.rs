use super::*;
use crate::budget::{
    granter::{
        End, HolderId, LineId,
        rows::{HolderState, Row},
        settle::{Final, Settled},
    },
    messages::Cut,
};

const HOLDER: HolderId = HolderId { node: 1, epoch: 1 };

/// Machine 1 was granted 100 of campaign 10, gave back 10, and told of 40 charged and 5 freed. Then it died.
fn dead() -> Desk {
    let mut desk = Desk::new(1440, &[(10, Span::Day, 10_000)]);
    desk.first(1, 10, 100, 1);
    let spent = vec![(key(10, START_MIN), money(40), money(5))];
    let cut = Some(Cut { frames: vec![7], spent });
    desk.ask(&Ask { node: 1, epoch: 1, req: 2, lines: vec![ten(100, 10, 0)], cut, ..Ask::default() });
    desk
}

fn last(charged: i64, freed: i64, held: i64) -> Final {
    Final { line: key(10, START_MIN), charged: money(charged), freed: money(freed), held: money(held) }
}

#[track_caller]
fn settle(desk: &mut Desk, finals: &[Final], complete: bool) -> Settled {
    let done = desk.granter.settle(HOLDER, finals, complete);
    desk.commit();
    desk.restart();
    done
}

fn end(desk: &Desk) -> (End, i64) {
    let line = desk.granter.line_of(LineId { key: key(10, START_MIN), holder: HOLDER }).unwrap();
    assert_eq!(desk.committed(10, Span::Day, START_MIN), line.out().0);
    (line.end, line.out().0)
}

#[test]
fn a_complete_record_brings_the_rest_home() {
    let mut desk = dead();
    assert_eq!(desk.granter.unsettled(1, 2), [1]);
    let done = settle(&mut desk, &[last(60, 6, 0)], true);
    assert_eq!(done, Settled { lines: 1, returned: money(36), spent: money(54), ..Settled::default() });
    assert_eq!(end(&desk), (End::Proven, 54));
    assert_eq!(desk.granter.unsettled(1, 2), [0u32; 0]);
    // Again, even with other numbers, changes nothing.
    assert_eq!(settle(&mut desk, &[last(61, 6, 0)], false), Settled::default());
    assert_eq!(end(&desk), (End::Proven, 54));
}

/// What people are told of the day's limit: committed, spent, leased, quarantined, forfeit.
fn standing(desk: &Desk) -> [i64; 5] {
    let s = desk.granter.standing(&bucket(10, Span::Day, START_MIN), false, desk.now.boot_ns);
    assert_eq!(s.committed.0, s.spent.0 + s.leased.0 + s.quarantined.0);
    [s.committed, s.spent, s.leased, s.quarantined, s.forfeit].map(|m| m.0)
}

#[test]
fn a_limit_stands_as_its_lines_do() {
    let mut desk = dead();
    assert_eq!(standing(&desk), [90, 35, 55, 0, 0]);
    desk.ask(&Ask { node: 1, epoch: 2, req: 1, lines: vec![ten(0, 0, 20)], ..Ask::default() });
    assert_eq!(standing(&desk), [110, 35, 20, 55, 0]);
    settle(&mut desk, &[], false);
    assert_eq!(standing(&desk), [110, 90, 20, 0, 90]);
    let lines = desk.granter.lines_between(AccountId(10), Period(START_MIN), Period(START_MIN + 1));
    assert_eq!(lines.map(|(id, line)| (id.holder.epoch, line.out().0)).collect::<Vec<_>>(), [(1, 90), (2, 20)]);
    let none = |from, until| desk.granter.lines_between(AccountId(10), Period(from), Period(until)).count();
    assert_eq!((none(START_MIN + 1, START_MIN + 9), none(START_MIN - 9, START_MIN), none(9, 1)), (0, 0, 0));
}

#[test]
fn a_line_that_the_record_does_not_name_was_not_touched_since_its_cut() {
    let mut desk = dead();
    settle(&mut desk, &[], true);
    assert_eq!(end(&desk), (End::Proven, 35));
}

#[test]
fn freed_after_the_cut_is_less_spent_than_in_it() {
    let mut desk = dead();
    settle(&mut desk, &[last(40, 40, 0)], true);
    assert_eq!(end(&desk), (End::Proven, 0));
}

#[test]
fn without_a_complete_record_all_is_spent() {
    let mut desk = dead();
    let done = settle(&mut desk, &[last(60, 6, 0)], false);
    assert_eq!(done, Settled { lines: 1, forfeit: money(90), ..Settled::default() });
    assert_eq!(end(&desk), (End::Forfeit, 90));
    assert_eq!(desk.totals().forfeit, money(90));
}

#[test]
fn a_record_that_does_not_fit_proves_nothing_and_stops_the_account() {
    for finals in [last(39, 5, 0), last(50, 4, 0), last(96, 5, 0), last(50, 51, 0), last(50, 5, 46), last(40, 5, -1)] {
        let mut desk = dead();
        desk.granter.settle(HOLDER, &[finals], true);
        let found = desk.granter.take_violations();
        assert!(matches!(found[..], [Violation::Record { .. }]), "{finals:?} {found:?}");
        desk.commit();
        assert_eq!(end(&desk), (End::Forfeit, 90));
        assert!(desk.first(2, 10, 1, 1).stop);
    }
}

#[test]
fn what_is_held_for_notices_stays_out_until_the_record_is_without_it() {
    let mut desk = dead();
    let done = settle(&mut desk, &[last(50, 5, 30)], true);
    assert_eq!(
        done,
        Settled { lines: 1, returned: money(15), spent: money(45), held: money(30), ..Settled::default() }
    );
    assert_eq!(end(&desk), (End::Open, 75));
    assert_eq!((desk.totals().held, desk.granter.unsettled(1, 2)), (money(30), vec![1]));
    // A notice for 20 came, 10 expired.
    settle(&mut desk, &[last(70, 5, 0)], true);
    assert_eq!(end(&desk), (End::Proven, 65));
}

#[test]
fn who_is_settled_is_not_heard_any_more() {
    let mut desk = dead();
    settle(&mut desk, &[], true);
    let ask = Ask { node: 1, epoch: 1, req: 3, lines: vec![ten(100, 10, 500)], ..Ask::default() };
    assert!(desk.ask(&ask).fenced);
    // Nor a start of which nothing was ever heard.
    let unheard = HolderId { node: 5, epoch: 3 };
    desk.granter.settle(unheard, &[], true);
    desk.commit();
    desk.restart();
    assert!(desk.ask(&Ask { node: 5, epoch: 3, req: 1, ..Ask::default() }).fenced);
    assert!(desk.ask(&Ask { node: 5, epoch: 2, req: 1, ..Ask::default() }).fenced);
    assert!(!desk.ask(&Ask { node: 5, epoch: 4, req: 1, ..Ask::default() }).fenced);
}

#[test]
fn closed_lines_stay_as_their_holder_closed_them() {
    let mut desk = dead();
    desk.line(1, 3, AskLine { closed: Some(money(50)), ..ten(100, 50, 0) });
    assert_eq!(settle(&mut desk, &[last(40, 5, 0)], true), Settled::default());
    assert_eq!(end(&desk), (End::Closed, 50));
}

/// Every row that a store could lose or mangle: the books do not add up, and are not used.
#[test]
fn rows_that_do_not_add_up_are_refused() {
    let desk = dead();
    let mut rows = Vec::new();
    desk.store.load(&mut |row| rows.push(row)).unwrap();
    assert!(Granter::load(rows.clone(), desk.now).is_ok());
    for lost in 0..rows.len() {
        let mut fewer = rows.clone();
        let row = fewer.remove(lost);
        // A holder's row holds no money: without it, it is one that was never heard.
        let harmless = matches!(row, Row::Holder(..));
        assert_eq!(Granter::load(fewer, desk.now).is_ok(), harmless, "{row:?}");
    }
    for (at, row) in rows.iter().enumerate() {
        let mangled = match row.clone() {
            Row::Line(id, line) => Row::Line(id, super::super::Line { returned: money(9), ..line }),
            Row::Bucket(key, mut bucket) => {
                bucket.committed.0 -= 1;
                Row::Bucket(key, bucket)
            }
            Row::Holder(id, mut holder) => {
                holder.state = HolderState::Settled;
                Row::Holder(id, holder)
            }
            _ => continue,
        };
        let mut other = rows.clone();
        other[at] = mangled;
        assert!(Granter::load(other, desk.now).is_err(), "{row:?}");
    }
}
