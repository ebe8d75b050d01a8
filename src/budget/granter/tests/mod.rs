//! The granter's tests: what each ask and settlement does, random worlds, and all worlds that are small.
mod asks;
mod auditing;
mod model;
mod random;
mod settling;
mod tidying;
mod world;

use super::{Granter, Totals, Violation, accounts::Accounts};
use crate::{
    budget::{
        AccountId, LineKey, Period,
        messages::{Ask, AskLine, FirstTouch, Granted, Reply},
        store::{MemoryStore, Store},
        tree::{Pacing, State},
        window::{BucketKey, Buckets, Span, Window},
    },
    units::{MS, Money, Now},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
};

/// Accounts whose windows are days of so many minutes. Advertiser 1 has campaigns 10 to 19, advertiser 2 has 20 to 29.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Small {
    pub(super) day: u32,
    pub(super) limits: BTreeMap<(u32, Span), i64>,
    pub(super) states: BTreeMap<u32, State>,
    pub(super) even: BTreeSet<u32>,
    /// Days have hours of so many minutes, whatever is limited.
    pub(super) hours: Option<u32>,
}

impl Small {
    pub(super) fn new(day: u32, limits: &[(u32, Span, i64)]) -> Small {
        let limits = limits.iter().map(|(account, span, n)| ((*account, *span), *n)).collect();
        Small { day, limits, states: BTreeMap::new(), even: BTreeSet::new(), hours: None }
    }
}

impl Accounts for Small {
    fn window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        let (minute, account) = ((at_ms / 60_000) as u32, campaign.0);
        if !(10..30).contains(&account) {
            return None;
        }
        let (day, cut) = (minute - minute % self.day, self.hours.unwrap_or(self.day));
        let start = minute - minute % cut;
        let mut buckets = Buckets::default();
        for of in [account, account / 10] {
            let mut push = |span, start| buckets.push(BucketKey { account: AccountId(of), span, start: Period(start) });
            push(Span::Day, day);
            if self.hours.is_some() {
                push(Span::Hour, start);
            }
            push(Span::Life, 0);
        }
        Some(Window { period: Period(start), ends_ms: Period(start + cut).starts_ms(), buckets })
    }
    fn next_window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        self.window(campaign, self.window(campaign, at_ms)?.ends_ms)
    }
    fn version(&self) -> Option<u64> {
        // Of all that it says: tests change it as they like.
        let mut hash = std::hash::DefaultHasher::new();
        (self.day, &self.limits, &self.states, &self.even, self.hours).hash(&mut hash);
        Some(hash.finish())
    }
    fn ceiling(&self, bucket: &BucketKey) -> Option<Money> {
        self.limits.get(&(bucket.account.0, bucket.span)).map(|n| Money(*n))
    }
    fn state(&self, campaign: AccountId) -> Option<State> {
        let of = |account| self.states.get(&account).copied().unwrap_or_default();
        (10..30).contains(&campaign.0).then(|| of(campaign.0).max(of(campaign.0 / 10)))
    }
    fn pacing(&self, account: AccountId) -> Pacing {
        if self.even.contains(&account.0) { Pacing::Even } else { Pacing::Asap }
    }
}

/// When a test begins: a day's beginning for every length of day that divides it.
const START_MIN: u32 = 30_240_000;

/// A granter and its store; every call is audited and committed.
struct Desk {
    accounts: Small,
    granter: Granter,
    store: MemoryStore,
    now: Now,
}

fn at(ms: u64) -> Now {
    Now { boot_ns: ms * MS, wall_offset_ns: i64::from(START_MIN) * 60_000 * MS as i64 }
}

fn money(n: i64) -> Money {
    Money(n)
}

fn key(account: u32, period: u32) -> LineKey {
    LineKey { account: AccountId(account), period: Period(period) }
}

fn bucket(account: u32, span: Span, start: u32) -> BucketKey {
    BucketKey { account: AccountId(account), span, start: Period(start) }
}

fn load(store: &MemoryStore, now: Now) -> Result<Granter, Violation> {
    let mut rows = Vec::new();
    match store.load(&mut |row| rows.push(row)) {
        Ok(()) => Granter::load(rows, now),
    }
}

impl Desk {
    fn new(day: u32, limits: &[(u32, Span, i64)]) -> Desk {
        let now = at(0);
        let granter = Granter::load([], now).unwrap();
        Desk { accounts: Small::new(day, limits), granter, store: MemoryStore::default(), now }
    }

    #[track_caller]
    fn commit(&mut self) {
        self.granter.audit(self.now.boot_ns).unwrap();
        self.store.commit(&self.granter.changes()).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, ask: &Ask) -> Reply {
        let reply = self.granter.ask(&self.accounts, ask, self.now);
        self.commit();
        reply
    }

    /// Asks for one line or account, and returns what is said of it.
    #[track_caller]
    fn line(&mut self, node: u32, req: u64, line: AskLine) -> Granted {
        self.ask(&Ask { node, epoch: 1, req, lines: vec![line], ..Ask::default() }).lines[0]
    }

    #[track_caller]
    fn first(&mut self, node: u32, account: u32, want: i64, price: i64) -> Granted {
        let first = vec![FirstTouch { account: AccountId(account), want: Money(want), price: Money(price) }];
        self.ask(&Ask { node, epoch: 1, req: 1, first, ..Ask::default() }).lines[0]
    }

    /// The process ends and starts again, with a new clock.
    #[track_caller]
    fn restart(&mut self) {
        self.granter = load(&self.store, self.now).unwrap();
    }

    fn committed(&self, account: u32, span: Span, start: u32) -> i64 {
        self.granter.bucket(&bucket(account, span, start)).map_or(0, |b| b.committed.0)
    }

    fn totals(&self) -> Totals {
        self.granter.audit(self.now.boot_ns).unwrap()
    }
}

/// Line of campaign 10 in the first window.
fn ten(granted: i64, returned: i64, want: i64) -> AskLine {
    AskLine {
        line: key(10, START_MIN),
        granted: Money(granted),
        returned: Money(returned),
        want: Money(want),
        price: Money(1),
        ..AskLine::default()
    }
}
