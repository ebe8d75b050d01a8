//! The account tree: advertisers, their campaigns, and what each may spend.
//! Owns: every account there is. Runs on: the ledger's thread. Called by: the granter, for windows and ceilings; `manage`,
//! which alone changes it. Never: knows what has been spent.
use super::{
    AccountId, Period,
    window::{BucketKey, Buckets, Calendar, Minutes, Span, Window},
    zone::{DAY_MINUTES, Zone, Zones},
};
use crate::units::Money;
use std::collections::BTreeMap;

/// May an account spend?
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum State {
    /// Yes.
    #[default]
    Active,
    /// Not now.
    Paused,
    /// Never again.
    Ended,
}

impl State {
    /// The name in reports and in files.
    pub fn name(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Paused => "paused",
            State::Ended => "ended",
        }
    }
}

/// How a day's budget is spread over the day.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Pacing {
    /// Whenever there is something to buy.
    #[default]
    Asap,
    /// As evenly as traffic allows.
    Even,
}

impl Pacing {
    /// The name in reports and in files.
    pub fn name(self) -> &'static str {
        match self {
            Pacing::Asap => "asap",
            Pacing::Even => "even",
        }
    }
}

/// What an account may spend, as it was set; a change of the hourly limit may not hold yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// In a day of its zone.
    pub daily: Money,
    /// In an hour.
    pub hourly: Option<Money>,
    /// In all.
    pub lifetime: Option<Money>,
}

/// Whose an account is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// An advertiser's, of all its campaigns together.
    Advertiser,
    /// A campaign's.
    Campaign {
        /// Under whom it is.
        advertiser: AccountId,
        /// Who bids for it, by its configured name.
        dsp: String,
        /// `seatbid.seat`; empty: of bids without one.
        seat: String,
        /// `bid.cid`; empty: of bids without one.
        cid: String,
    },
}

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// For ever.
    pub id: AccountId,
    /// What people call it; no two share one.
    pub name: String,
    /// Whose it is.
    pub owner: Owner,
    /// How its time is cut, and its hourly limit.
    pub calendar: Calendar,
    /// What a day may cost.
    pub daily: Money,
    /// What all may cost, top-ups included.
    pub lifetime: Option<Money>,
    /// Put on top of one day's budget: which day, how much.
    pub extra: Option<(Period, Money)>,
    /// May it spend?
    pub state: State,
    /// How it spreads a day's budget.
    pub pacing: Pacing,
}

impl Account {
    /// What it may spend, as it was set.
    pub fn limits(&self) -> Limits {
        Limits { daily: self.daily, hourly: self.calendar.last().hourly, lifetime: self.lifetime }
    }

    /// Its time zone, as it was set.
    pub fn zone(&self) -> &Zone {
        &self.calendar.last().zone
    }

    /// Under whom it is; `NONE` for an advertiser.
    pub fn advertiser(&self) -> AccountId {
        match self.owner {
            Owner::Advertiser => AccountId::NONE,
            Owner::Campaign { advertiser, .. } => advertiser,
        }
    }

    /// Its day, its hour where that is limited, its life.
    fn spans(&self, minute: u32) -> Option<[Option<(Span, Minutes)>; 3]> {
        let limited = self.calendar.at(minute).hourly.is_some();
        let hour = if limited { Some((Span::Hour, self.calendar.hour(minute)?)) } else { None };
        // Its life without a limit too: when one is set, all that was spent before counts.
        Some([Some((Span::Day, self.calendar.day(minute)?)), hour, Some((Span::Life, (0, u32::MAX)))])
    }

    /// What one of its buckets may hold; `None`: without limit.
    fn ceiling(&self, span: Span, start: Period) -> Option<Money> {
        match span {
            Span::Life => self.lifetime,
            Span::Hour => self.calendar.at(start.0).hourly,
            Span::Day => {
                // At a change of zones the rest of a day gets its share of the budget.
                let usual = match self.calendar.part_of_day(start.0) {
                    Some(minutes) => self.daily.share(u64::from(minutes), u64::from(DAY_MINUTES)),
                    None => self.daily,
                };
                let extra = self.extra.filter(|e| e.0 == start).map_or(Money::default(), |e| e.1);
                Some(Money(usual.0.saturating_add(extra.0)))
            }
        }
    }
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    accounts: BTreeMap<AccountId, Account>,
    by_name: BTreeMap<String, AccountId>,
    /// Campaigns by DSP, seat and cid.
    by_buyer: BTreeMap<(String, String, String), AccountId>,
    zones: Zones,
    /// Rises with each change of an account.
    version: u64,
}

/// An account that cannot be in this tree.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// It is number 0, or its advertiser is none.
    #[error("account {} has a number that none may have, or is under one that is no advertiser", .0.0)]
    Number(AccountId),
    /// Another has its name, or its DSP, seat and cid.
    #[error("account {} goes by what account {} goes by", .0.0, .1.0)]
    Taken(AccountId, AccountId),
}

impl Tree {
    /// An account.
    pub fn get(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// An account by its name.
    pub fn named(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name).and_then(|id| self.get(*id))
    }

    /// The campaign that a bid is for.
    pub fn campaign(&self, dsp: &str, seat: &str, cid: &str) -> Option<&Account> {
        let buyer = (dsp.to_owned(), seat.to_owned(), cid.to_owned());
        self.by_buyer.get(&buyer).and_then(|id| self.get(*id))
    }

    /// All, in the order of their numbers.
    pub fn list(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// As long as this is the same, so is every account.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The number that the next account gets.
    pub fn next_id(&self) -> AccountId {
        AccountId(self.accounts.last_key_value().map_or(1, |(id, _)| id.0.saturating_add(1)))
    }

    /// The zones of its accounts.
    pub fn zones(&mut self) -> &mut Zones {
        &mut self.zones
    }

    /// Adds an account, or puts it in the place of the one of its number.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    pub fn put(&mut self, account: Account) -> Result<(), Misfit> {
        let id = account.id;
        let under = account.advertiser();
        let sound = match account.owner {
            Owner::Advertiser => true,
            Owner::Campaign { .. } => self.get(under).is_some_and(|a| a.owner == Owner::Advertiser),
        };
        if id == AccountId::NONE || !sound {
            return Err(Misfit::Number(id));
        }
        let buyer = buyer(&account);
        let taken = [self.by_name.get(&account.name), buyer.as_ref().and_then(|b| self.by_buyer.get(b))];
        if let Some(other) = taken.into_iter().flatten().find(|other| **other != id) {
            return Err(Misfit::Taken(id, *other));
        }
        if let Some(old) = self.accounts.get(&id) {
            self.by_name.remove(&old.name);
            if let Some(old) = self::buyer(old) {
                self.by_buyer.remove(&old);
            }
        }
        self.by_name.insert(account.name.clone(), id);
        if let Some(buyer) = buyer {
            self.by_buyer.insert(buyer, id);
        }
        self.accounts.insert(id, account);
        self.version += 1;
        Ok(())
    }

    /// The window of a campaign that holds a moment, milliseconds since 1970. `None`: no such campaign, or after the year 2169.
    pub fn window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        let account = self.get(campaign)?;
        let advertiser = self.get(account.advertiser())?;
        let minute = u32::try_from(at_ms / 60_000).ok()?;
        let (mut start, mut end, mut buckets) = (0, u32::MAX, Buckets::default());
        for of in [account, advertiser] {
            let mut within = |(from, until): Minutes| {
                start = start.max(from);
                end = end.min(until);
            };
            // A window that began before a change must not go on after it under its old name.
            within(of.calendar.holds(minute));
            for (span, minutes) in of.spans(minute)?.into_iter().flatten() {
                within(minutes);
                buckets.push(BucketKey { account: of.id, span, start: Period(minutes.0) });
            }
        }
        Some(Window { period: Period(start), ends_ms: Period(end).starts_ms(), buckets })
    }

    /// The buckets of one account alone, campaign or advertiser, that hold a moment.
    pub fn running(&self, id: AccountId, at_ms: u64) -> Option<Buckets> {
        let account = self.get(id)?;
        let mut buckets = Buckets::default();
        for (span, minutes) in account.spans(u32::try_from(at_ms / 60_000).ok()?)?.into_iter().flatten() {
            buckets.push(BucketKey { account: id, span, start: Period(minutes.0) });
        }
        Some(buckets)
    }

    /// The day of a campaign or an advertiser that is so many days after 1 January 1970: where windows that begin in it begin,
    /// and where they do no more. In the zone that holds at noon UTC of that day. `None`: no such account, or after the year 2169.
    pub fn day(&self, id: AccountId, day: u32) -> Option<(Period, Period)> {
        let noon = day.checked_mul(DAY_MINUTES)?.checked_add(DAY_MINUTES / 2)?;
        let (start, end) = self.get(id)?.calendar.at(noon).zone.date(day)?;
        Some((Period(start), Period(end)))
    }

    /// The window after the one that holds a moment.
    pub fn next_window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        self.window(campaign, self.window(campaign, at_ms)?.ends_ms)
    }

    /// What may be committed of a bucket; `None`: without limit. Of an account that is not there: nothing.
    pub fn ceiling(&self, bucket: &BucketKey) -> Option<Money> {
        match self.get(bucket.account) {
            Some(account) => account.ceiling(bucket.span, bucket.start),
            None => Some(Money::default()),
        }
    }

    /// May a campaign spend: what is the stricter of its own state and its advertiser's. `None`: no such account.
    pub fn state(&self, id: AccountId) -> Option<State> {
        let account = self.get(id)?;
        Some(self.get(account.advertiser()).map_or(account.state, |a| a.state.max(account.state)))
    }
}

fn buyer(account: &Account) -> Option<(String, String, String)> {
    match &account.owner {
        Owner::Advertiser => None,
        Owner::Campaign { dsp, seat, cid, .. } => Some((dsp.clone(), seat.clone(), cid.clone())),
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
