use super::*;
use crate::budget::granter::rows::Key;

/// Money of three campaigns under two advertisers.
fn lent() -> Desk {
    let mut desk = Desk::new(1440, &[(10, Span::Day, 1_000), (11, Span::Day, 1_000), (12, Span::Day, 1_000)]);
    for (node, account) in [(1, 10), (2, 11), (3, 12)] {
        desk.first(node, account, 100, 1);
    }
    desk
}

/// One audit in slices of one row; how many there were.
fn slices(desk: &mut Desk) -> (usize, Totals) {
    for slices in 1.. {
        if let Some(totals) = desk.granter.audit_on(desk.now.boot_ns, 1) {
            return (slices, totals);
        }
        assert!(desk.granter.is_auditing());
    }
    unreachable!()
}

#[test]
fn an_audit_in_slices_sums_what_one_in_one_go_does() {
    let mut desk = lent();
    let (n, totals) = slices(&mut desk);
    assert!(n > 10, "{n}");
    assert_eq!(totals, desk.totals());
    assert_eq!(desk.granter.take_violations(), []);
    assert!(!desk.granter.is_auditing() && !desk.granter.has_changes());
}

#[test]
fn an_audit_in_slices_stops_the_accounts_that_do_not_add_up_and_no_other() {
    let mut desk = lent();
    let wrong = bucket(11, Span::Day, START_MIN);
    desk.granter.books.buckets.get_mut(&wrong).unwrap().row.committed.0 += 1;
    // And one that nobody knows.
    let gone = bucket(12, Span::Day, START_MIN);
    desk.granter.books.buckets.remove(&gone);
    slices(&mut desk);
    let found = [Violation::Bucket(wrong), Violation::Missing(Key::Bucket(gone))];
    assert_eq!(desk.granter.take_violations(), found);
    assert_eq!(desk.granter.stopped().map(|(id, _)| id.0).collect::<Vec<_>>(), [11]);
    assert!(desk.granter.has_changes(), "that it is stopped outlives a restart");
}
