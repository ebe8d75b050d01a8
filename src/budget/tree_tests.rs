use super::*;
use crate::budget::window::NOTICE_MINUTES;
use proptest::prelude::*;

const MINUTE: u64 = 60_000;
/// 2026-11-21T00:00Z in minutes.
const NOW: u32 = 20_778 * DAY_MINUTES;

fn account(tree: &mut Tree, id: u32, zone: &str, hourly: Option<i64>) -> Account {
    let zone = tree.zones().get(zone).unwrap();
    let owner = match id {
        1 => Owner::Advertiser,
        n => Owner::Campaign { advertiser: AccountId(1), dsp: "dsp".into(), seat: "seat".into(), cid: format!("c{n}") },
    };
    Account {
        id: AccountId(id),
        name: format!("account {id}"),
        owner,
        calendar: Calendar::new(zone, hourly.map(Money)),
        daily: Money(1_000),
        lifetime: None,
        extra: None,
        state: State::Active,
        pacing: Pacing::Asap,
    }
}

/// Advertiser 1 and its campaign 2.
fn tree(advertiser: (&str, Option<i64>), campaign: (&str, Option<i64>)) -> Tree {
    let mut tree = Tree::default();
    for (id, (zone, hourly)) in [(1, advertiser), (2, campaign)] {
        let account = account(&mut tree, id, zone, hourly);
        tree.put(account).unwrap();
    }
    tree
}

const CAMPAIGN: AccountId = AccountId(2);

#[test]
fn a_window_begins_whenever_the_day_of_either_does() {
    let tree = tree(("America/New_York", None), ("Asia/Tokyo", None));
    let mut begins = Vec::new();
    let mut at = u64::from(NOW) * MINUTE;
    for _ in 0..4 {
        let window = tree.window(CAMPAIGN, at).unwrap();
        begins.push(i64::from(window.period.0) - i64::from(NOW));
        assert_eq!(tree.next_window(CAMPAIGN, at).unwrap().period.starts_ms(), window.ends_ms);
        at = window.ends_ms;
    }
    // 15:00Z is midnight in Tokyo, 5:00Z in New York.
    assert_eq!(begins, [-540, 300, 900, 1740]);
    assert_eq!(tree.window(AccountId(1), at), None, "an advertiser is not leased");
    assert_eq!(tree.window(AccountId(3), at), None);
}

#[test]
fn a_day_is_where_the_account_is_at_home() {
    let tree = tree(("America/New_York", None), ("Asia/Tokyo", None));
    let day = |id| tree.day(AccountId(id), NOW / DAY_MINUTES).map(|(from, until)| (from.0, until.0));
    assert_eq!(day(1), Some((NOW + 300, NOW + 300 + DAY_MINUTES)));
    assert_eq!(day(2), Some((NOW - 540, NOW - 540 + DAY_MINUTES)));
    assert_eq!((day(3), tree.day(AccountId(1), u32::MAX)), (None, None));
}

#[test]
fn a_window_names_each_bucket() {
    let tree = tree(("UTC", Some(10)), ("Asia/Kathmandu", Some(20)));
    let window = tree.window(CAMPAIGN, u64::from(NOW + 70) * MINUTE).unwrap();
    let key = |account, span, start| BucketKey { account: AccountId(account), span, start: Period(start) };
    let want = [
        key(2, Span::Day, NOW - 345),
        key(2, Span::Hour, NOW + 15),
        key(2, Span::Life, 0),
        key(1, Span::Day, NOW),
        key(1, Span::Hour, NOW + 60),
        key(1, Span::Life, 0),
    ];
    assert_eq!(*window.buckets, want);
    assert_eq!((window.period, window.ends_ms), (Period(NOW + 60), u64::from(NOW + 75) * MINUTE));
    assert_eq!(tree.ceiling(&want[1]), Some(Money(20)));
    assert_eq!(tree.ceiling(&want[3]), Some(Money(1_000)));
    assert_eq!(tree.ceiling(&want[5]), None);
    assert_eq!(tree.ceiling(&key(9, Span::Life, 0)), Some(Money(0)));
}

#[test]
fn what_is_added_to_a_day_ends_with_it() {
    let mut tree = tree(("UTC", None), ("UTC", None));
    let mut account = tree.get(CAMPAIGN).unwrap().clone();
    account.extra = Some((Period(NOW), Money(500)));
    tree.put(account).unwrap();
    let day = |start| BucketKey { account: CAMPAIGN, span: Span::Day, start: Period(start) };
    assert_eq!(tree.ceiling(&day(NOW)), Some(Money(1_500)));
    assert_eq!(tree.ceiling(&day(NOW + 1440)), Some(Money(1_000)));
}

#[test]
fn the_rest_of_a_day_that_a_change_of_zones_begins_has_its_share() {
    let mut tree = tree(("UTC", None), ("UTC", None));
    let mut account = tree.get(CAMPAIGN).unwrap().clone();
    let auckland = tree.zones().get("Pacific/Auckland").unwrap();
    account.calendar.set_zone(auckland, NOW).unwrap();
    tree.put(account).unwrap();
    let day = |start| BucketKey { account: CAMPAIGN, span: Span::Day, start: Period(start) };
    assert_eq!(tree.ceiling(&day(NOW)), Some(Money(1_000)));
    // Eleven hours: 1,000 * 660 / 1,440, rounded down.
    assert_eq!(tree.ceiling(&day(NOW + 1440)), Some(Money(458)));
    assert_eq!(tree.ceiling(&day(NOW + 2100)), Some(Money(1_000)));
}

#[test]
fn a_window_ends_where_its_cutting_does() {
    let mut tree = tree(("UTC", None), ("UTC", Some(5)));
    let mut account = tree.get(CAMPAIGN).unwrap().clone();
    account.calendar.set_hourly(None, NOW + 90).unwrap();
    tree.put(account).unwrap();
    let window = |minute| {
        let window = tree.window(CAMPAIGN, u64::from(minute) * MINUTE).unwrap();
        (window.period.0, window.ends_ms / MINUTE)
    };
    assert_eq!(window(NOW + 90), (NOW + 60, u64::from(NOW) + 120));
    // Not the name of the first hour's window again.
    assert_eq!(window(NOW + 200), (NOW + 120, u64::from(NOW) + 1440));
}

#[test]
fn accounts_are_found_by_what_they_go_by() {
    let mut tree = tree(("UTC", None), ("UTC", None));
    assert_eq!(tree.campaign("dsp", "seat", "c2").unwrap().id, CAMPAIGN);
    assert_eq!(tree.named("account 1").unwrap().id, AccountId(1));
    assert!(tree.campaign("dsp", "seat", "c3").is_none());
    let third = account(&mut tree, 3, "UTC", None);
    for (wrong, why) in [
        (Account { name: "account 2".into(), ..third.clone() }, Misfit::Taken(AccountId(3), CAMPAIGN)),
        (
            Account { owner: tree.get(CAMPAIGN).unwrap().owner.clone(), ..third.clone() },
            Misfit::Taken(AccountId(3), CAMPAIGN),
        ),
        (Account { id: AccountId::NONE, ..third.clone() }, Misfit::Number(AccountId::NONE)),
        (
            Account {
                owner: Owner::Campaign { advertiser: CAMPAIGN, dsp: "d".into(), seat: "s".into(), cid: "c".into() },
                ..third.clone()
            },
            Misfit::Number(AccountId(3)),
        ),
    ] {
        assert_eq!(tree.put(wrong), Err(why));
        assert_eq!((tree.len(), tree.next_id()), (2, AccountId(3)));
    }
    tree.put(third.clone()).unwrap();
    tree.put(Account { name: "renamed".into(), ..third }).unwrap();
    assert!(tree.named("account 3").is_none() && tree.named("renamed").is_some());
    assert_eq!(tree.next_id(), AccountId(4));
}

#[test]
fn who_is_under_a_paused_advertiser_is_paused() {
    let mut tree = tree(("UTC", None), ("UTC", None));
    for (advertiser, campaign, want) in [
        (State::Active, State::Active, State::Active),
        (State::Paused, State::Active, State::Paused),
        (State::Paused, State::Ended, State::Ended),
        (State::Ended, State::Paused, State::Ended),
    ] {
        for (id, state) in [(1, advertiser), (2, campaign)] {
            let account = Account { state, ..tree.get(AccountId(id)).unwrap().clone() };
            tree.put(account).unwrap();
        }
        assert_eq!(tree.state(CAMPAIGN), Some(want));
    }
}

const ZONES: [&str; 14] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Africa/Cairo",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Antarctica/Troll",
];

#[derive(Clone, Debug)]
enum Change {
    Zone(u32, &'static str),
    Hourly(u32, Option<i64>),
}

fn change() -> impl Strategy<Value = (u32, Change)> {
    let what = prop_oneof![
        (1..3u32, prop::sample::select(&ZONES[..])).prop_map(|(id, zone)| Change::Zone(id, zone)),
        (1..3u32, prop::option::of(1..9i64)).prop_map(|(id, hourly)| Change::Hourly(id, hourly)),
    ];
    (1..4_000u32, what)
}

proptest! {
    /// Window after window, while zones and hours change: each begins where the one before ended, none is named twice, no
    /// change alters the window that runs, and all of a window agrees on its buckets.
    #[test]
    fn windows_partition_time(
        zones in prop::array::uniform2(prop::sample::select(&ZONES[..])),
        hourly in prop::array::uniform2(prop::option::of(1..9i64)),
        // From 2010 on, so that dates are left out in Apia.
        begin in 21_000_000u32..30_500_000,
        changes in prop::collection::vec(change(), 0..8),
    ) {
        let mut tree = tree((zones[0], hourly[0]), (zones[1], hourly[1]));
        let mut changes = changes.into_iter();
        let mut coming = changes.next();
        let mut due = begin + coming.as_ref().map_or(0, |c| c.0);
        let mut at = begin;
        for _ in 0..60 {
            let window = tree.window(CAMPAIGN, u64::from(at) * MINUTE).unwrap();
            let mut end = u32::try_from(window.ends_ms / MINUTE).unwrap();
            prop_assert!(at == begin || window.period.0 == at);
            prop_assert!(window.period.0 <= at && at < end);
            for within in [window.period.0, (at + end) / 2, end - 1] {
                prop_assert_eq!(tree.window(CAMPAIGN, u64::from(within) * MINUTE).unwrap(), window);
            }
            while let Some((_, change)) = coming.take_if(|_| due < end) {
                let now = due.max(at);
                let (Change::Zone(id, _) | Change::Hourly(id, _)) = change;
                let mut account = tree.get(AccountId(id)).unwrap().clone();
                match change {
                    Change::Zone(_, zone) => {
                        let zone = tree.zones().get(zone).unwrap();
                        account.calendar.set_zone(zone, now);
                    }
                    Change::Hourly(_, hourly) => {
                        account.calendar.set_hourly(hourly.map(Money), now);
                    }
                }
                let before = tree.clone();
                tree.put(account).unwrap();
                coming = changes.next();
                due += coming.as_ref().map_or(0, |c| c.0);
                // All that may be leased goes on, and nothing of it outlives its window.
                for minute in now..now + NOTICE_MINUTES {
                    let at = u64::from(minute) * MINUTE;
                    let (was, is) = (before.window(CAMPAIGN, at).unwrap(), tree.window(CAMPAIGN, at).unwrap());
                    prop_assert_eq!((was.period, was.buckets), (is.period, is.buckets));
                    prop_assert!(was.ends_ms.min(u64::from(now + NOTICE_MINUTES) * MINUTE) <= is.ends_ms);
                }
                let running = tree.window(CAMPAIGN, u64::from(now) * MINUTE).unwrap();
                end = u32::try_from(running.ends_ms / MINUTE).unwrap();
            }
            at = end;
        }
    }
}
