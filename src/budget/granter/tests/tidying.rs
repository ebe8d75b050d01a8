use super::*;
use crate::budget::granter::{
    ARCHIVE_DAYS, HolderId, KEPT_MS,
    rows::{Archived, Key},
};

const HOUR: u64 = 3_600_000;

/// Windows of an hour in days of 24; 30 spent of campaign 10 in the first.
fn spent() -> Desk {
    let mut desk = Desk::new(1440, &[(10, Span::Day, 1_000)]);
    desk.accounts.hours = Some(60);
    desk.first(1, 10, 100, 1);
    desk.line(1, 2, AskLine { closed: Some(money(30)), ..ten(100, 70, 0) });
    desk
}

#[track_caller]
fn tidy(desk: &mut Desk, ms: u64) {
    desk.now = at(ms);
    desk.granter.tidy(&desk.accounts, desk.now, 100);
    desk.commit();
    desk.restart();
}

fn archive(desk: &Desk, account: u32) -> Vec<(Key, Archived)> {
    desk.store.archived(AccountId(account), Period(0), Period(u32::MAX)).unwrap()
}

#[test]
fn a_window_goes_to_the_archive_when_it_is_over_and_closed() {
    let mut desk = spent();
    tidy(&mut desk, HOUR + KEPT_MS - 1);
    assert_eq!(desk.totals().lines, 1, "not yet");
    tidy(&mut desk, HOUR + KEPT_MS);
    assert_eq!(desk.totals().lines, 0);
    let old = Archived { spent: money(30), forfeit: money(0) };
    assert_eq!(archive(&desk, 10), [(Key::OldWindow(key(10, START_MIN)), old)]);
    assert_eq!(desk.committed(10, Span::Day, START_MIN), 30, "which counts on");
    // It comes late, and is no lie.
    let late = AskLine { closed: Some(money(30)), ..ten(100, 70, 0) };
    assert!(desk.line(1, 3, late).stop);
    assert_eq!(desk.granter.take_violations(), []);
}

#[test]
fn a_clock_set_back_does_not_begin_a_window_of_the_archive_again() {
    let mut desk = spent();
    tidy(&mut desk, HOUR + KEPT_MS);
    desk.now = at(5);
    assert_eq!(desk.first(2, 10, 100, 1).granted, money(0));
    assert_eq!(desk.totals().lines, 0);
}

#[test]
fn an_open_line_keeps_its_window() {
    let mut desk = spent();
    desk.line(1, 3, ten(100, 70, 110));
    tidy(&mut desk, 9 * 24 * HOUR);
    assert_eq!(desk.totals().leased, money(40), "again, since this start");
    assert_eq!(desk.committed(10, Span::Day, START_MIN), 40);
    desk.granter.settle(HolderId { node: 1, epoch: 1 }, &[], false);
    tidy(&mut desk, 9 * 24 * HOUR);
    let rows = archive(&desk, 10);
    let old = Archived { spent: money(40), forfeit: money(40) };
    assert!(rows.contains(&(Key::OldWindow(key(10, START_MIN)), old)), "{rows:?}");
}

#[test]
fn days_and_hours_follow_their_windows_and_lives_stay() {
    let mut desk = spent();
    tidy(&mut desk, 3 * HOUR);
    let begins = |desk: &Desk| archive(desk, 1).iter().map(|(key, old)| (*key, old.spent.0)).collect::<Vec<_>>();
    let hour = (Key::OldBucket(bucket(1, Span::Hour, START_MIN)), 30);
    assert_eq!(begins(&desk), [hour]);
    tidy(&mut desk, 71 * HOUR);
    assert_eq!(begins(&desk), [hour]);
    tidy(&mut desk, 72 * HOUR);
    assert_eq!(begins(&desk), [(Key::OldBucket(bucket(1, Span::Day, START_MIN)), 30), hour]);
    assert_eq!(desk.committed(1, Span::Life, 0), 30);
    assert_eq!(desk.committed(10, Span::Life, 0), 30);
    // Two lives, a note on the account, the machine, and the archive's five.
    assert_eq!(desk.store.rows(), 2 + 1 + 1 + 5);
    // After so many days the archive is empty.
    tidy(&mut desk, u64::from(ARCHIVE_DAYS + 1) * 24 * HOUR);
    assert_eq!(desk.store.rows(), 2 + 1 + 1);
}

#[test]
fn starts_that_are_over_are_forgotten_but_for_the_latest() {
    let mut desk = spent();
    desk.granter.settle(HolderId { node: 1, epoch: 1 }, &[], true);
    desk.ask(&Ask { node: 1, epoch: 4, req: 1, ..Ask::default() });
    tidy(&mut desk, 1);
    assert_eq!(desk.granter.holders_known().count(), 2, "it has a line");
    tidy(&mut desk, 2 * HOUR);
    let known: Vec<_> = desk.granter.holders_known().map(|(id, _)| id).collect();
    assert_eq!(known, [HolderId { node: 1, epoch: 4 }]);
    assert!(desk.ask(&Ask { node: 1, epoch: 1, req: 9, ..Ask::default() }).fenced);
}

#[test]
fn a_step_looks_at_so_many_rows_and_goes_on_where_it_was() {
    let mut desk = Desk::new(60, &[]);
    for account in 10..20 {
        let first = vec![FirstTouch { account: AccountId(account), want: money(5), price: money(1) }];
        desk.ask(&Ask { node: 1, epoch: 1, req: u64::from(account), first, ..Ask::default() });
    }
    desk.granter.settle(HolderId { node: 1, epoch: 1 }, &[], false);
    desk.commit();
    desk.now = at(HOUR + KEPT_MS);
    for left in [7, 4, 1, 0, 0] {
        desk.granter.tidy(&desk.accounts, desk.now, 3);
        desk.commit();
        assert_eq!(desk.totals().lines, left);
    }
}
