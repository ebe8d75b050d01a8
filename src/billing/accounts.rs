//! Whose accounts there are, what they are called, and in which month of theirs a minute is: as movements of accounts say.
//! Owns: names, and some zones of each account. Called by: `outcry audit`. Never: knows what was spent.
//!
//! An invoice's month is its advertiser's: from the first moment of its first day to that of the next month's, where the
//! advertiser is at home. A window never lies in two of its advertiser's days, so its beginning says which month it is in.
use super::{
    Payer, Whose,
    named::{Name, Named},
};
use crate::{
    budget::{
        AccountId, Period,
        movement::{Movement, Terms},
        window::Cutting,
        zone::{Zone, Zones},
    },
    record::when,
};
use std::collections::BTreeMap;

const DAY_MS: u64 = 86_400_000;
const DAY_MINUTES: u32 = 1_440;

/// A month, by its first day and the next month's, counted from 1 January 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Month {
    first: u32,
    next: u32,
}

impl Month {
    /// Of a text such as `2026-01`. `None`: it is no month, or before 1970.
    pub fn parse(text: &str) -> Option<Month> {
        let (year, month) = text.split_once('-')?;
        let next = match month {
            "12" => format!("{:04}-01", year.parse::<u32>().ok()?.checked_add(1)?),
            _ => format!("{year}-{:02}", month.parse::<u32>().ok()?.checked_add(1)?),
        };
        let day = |month: &str| u32::try_from(when::parse(&format!("{month}-01"))?.0 / DAY_MS).ok();
        Some(Month { first: day(text)?, next: day(&next)? })
    }

    /// Where it begins and ends in UTC, milliseconds since 1970.
    pub fn utc_ms(self) -> (u64, u64) {
        (u64::from(self.first) * DAY_MS, u64::from(self.next) * DAY_MS)
    }

    fn holds(self, minute: u32, zone: Option<&Zone>) -> bool {
        let begins = |day: u32| match zone {
            Some(zone) => zone.date(day).map_or(u32::MAX, |(start, _)| start),
            None => day.saturating_mul(DAY_MINUTES),
        };
        (begins(self.first)..begins(self.next)).contains(&minute)
    }
}

/// Where an account's days begin, and from which minute on; never empty.
#[derive(Clone, Debug)]
struct Home(Vec<(u32, Zone)>);

impl Home {
    fn zone(&self, minute: u32) -> Option<&Zone> {
        let at = self.0.partition_point(|(since, _)| *since <= minute).saturating_sub(1);
        self.0.get(at).map(|(_, zone)| zone)
    }

    /// Days begin elsewhere from a minute on, whatever was said before of the time behind it.
    fn moves(&mut self, since: Period, zone: Zone) {
        self.0.retain(|(from, _)| *from < since.0);
        if self.0.last().is_none_or(|(_, last)| *last != zone) {
            self.0.push((since.0, zone));
        }
    }
}

/// All that are known.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    named: Named,
    homes: BTreeMap<AccountId, Home>,
    by_name: BTreeMap<String, AccountId>,
    zones: Zones,
}

impl Accounts {
    /// A change of an account, in the order in which they happened.
    pub fn moved(&mut self, movement: &Movement) {
        if let Some(before) = movement.before.as_ref().filter(|_| self.get(movement.account).is_none()) {
            self.begins(movement.account, before);
        }
        let Ok(zone) = self.zones.get(&movement.after.zone) else { return };
        match self.homes.get_mut(&movement.account) {
            Some(home) => home.moves(movement.after.since, zone),
            None => self.begins(movement.account, &movement.after),
        }
    }

    fn begins(&mut self, id: AccountId, terms: &Terms) {
        let Ok(zone) = self.zones.get(&terms.zone) else { return };
        self.put(id, Name::of(terms), vec![(0, zone)]);
    }

    fn put(&mut self, id: AccountId, name: Name, zones: Vec<(u32, Zone)>) {
        self.by_name.insert(name.name.clone(), id);
        self.homes.insert(id, Home(zones));
        self.named.put(id, name);
    }

    /// What somebody else says of an account that no movement has named.
    pub fn told(&mut self, id: AccountId, name: &str, advertiser: AccountId, zone: &str) {
        if self.get(id).is_none()
            && let Ok(zone) = self.zones.get(zone)
        {
            self.put(id, Name { name: name.to_owned(), advertiser }, vec![(0, zone)]);
        }
    }

    /// The same, of one whose time is known to be cut.
    pub fn cut(&mut self, id: AccountId, name: &str, advertiser: AccountId, cuttings: &[Cutting]) {
        if self.get(id).is_none() && !cuttings.is_empty() {
            let zones = cuttings.iter().map(|c| (c.since.0, c.zone.clone())).collect();
            self.put(id, Name { name: name.to_owned(), advertiser }, zones);
        }
    }

    /// An account.
    pub fn get(&self, id: AccountId) -> Option<&Name> {
        self.named.get(id)
    }

    /// An account's number.
    pub fn named(&self, name: &str) -> Option<AccountId> {
        self.by_name.get(name).copied()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// What an account is called; its number, where that is not known.
    pub fn name(&self, id: AccountId) -> String {
        self.named.name(id).map_or_else(|| format!("account {id}"), str::to_owned)
    }

    /// Under whom an account is: itself, if it is an advertiser or nothing is known of it.
    pub fn advertiser(&self, id: AccountId) -> AccountId {
        self.named.advertiser(id)
    }

    /// Is an account this one, or under it?
    pub fn is_of(&self, payer: Payer, id: AccountId) -> bool {
        matches!(payer, Payer::Account(account) if account == id || self.advertiser(account) == id)
    }

    /// Does it count to a month? By its advertiser's days; by UTC's where there is none.
    pub fn in_month(&self, whose: Whose, month: Month) -> bool {
        let zone = match whose.payer {
            Payer::Account(id) => self.homes.get(&self.advertiser(id)).and_then(|home| home.zone(whose.minute)),
            Payer::Buyer(_) => None,
        };
        month.holds(whose.minute, zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{movement::tests::movements, window::Calendar},
        units::Money,
    };

    fn minute(text: &str) -> u32 {
        u32::try_from(when::parse(text).expect("a moment").0 / 60_000).expect("before 2170")
    }

    fn told(zone: &str) -> Accounts {
        let mut accounts = Accounts::default();
        accounts.told(AccountId(1), "acme", AccountId::NONE, zone);
        accounts.told(AccountId(2), "acme.one", AccountId(1), "Asia/Tokyo");
        accounts
    }

    fn months(accounts: &Accounts, payer: Payer, text: &str) -> Vec<&'static str> {
        let whose = Whose { payer, minute: minute(text) };
        let of = |month: &&str| accounts.in_month(whose, Month::parse(month).expect("a month"));
        ["2026-02", "2026-03", "2026-10", "2026-11", "2026-12", "2027-01"].into_iter().filter(of).collect()
    }

    #[test]
    fn a_month_is_read_and_nothing_else_is() {
        let days = |month: &str| Month::parse(month).map(|m| m.next - m.first);
        assert_eq!(["2026-02", "2024-02", "2026-12", "2027-01"].map(days), [28, 29, 31, 31].map(Some));
        for text in
            ["", "2026", "2026-00", "2026-13", "2026-1", "26-01", "2026-01-01", "1969-12", "2026-", "-01", "a-b"]
        {
            assert_eq!(Month::parse(text), None, "{text}");
        }
        let (from, to) = Month::parse("2026-11").expect("a month").utc_ms();
        assert_eq!(
            (when::utc(from), when::utc(to)),
            ("2026-11-01T00:00:00.000Z".into(), "2026-12-01T00:00:00.000Z".into())
        );
    }

    /// It is the advertiser's, whatever the campaign's zone is; where there is none it is UTC's. Each minute is in one month.
    #[test]
    fn a_month_begins_where_the_advertiser_is_at_home() {
        let cases = [
            ("Europe/Berlin", "2026-10-31T22:59:00Z", "2026-10"),
            ("Europe/Berlin", "2026-10-31T23:00:00Z", "2026-11"),
            ("Europe/Berlin", "2026-02-28T23:00:00Z", "2026-03"),
            ("America/Los_Angeles", "2026-11-01T06:59:00Z", "2026-10"),
            ("America/Los_Angeles", "2026-11-01T07:00:00Z", "2026-11"),
            // An hour later: clocks went back on the first.
            ("America/Los_Angeles", "2026-12-01T07:59:00Z", "2026-11"),
            ("America/Los_Angeles", "2026-12-01T08:00:00Z", "2026-12"),
            ("Pacific/Kiritimati", "2026-10-31T10:00:00Z", "2026-11"),
        ];
        for (zone, at, month) in cases {
            let accounts = told(zone);
            for id in [1, 2] {
                assert_eq!(months(&accounts, Payer::Account(AccountId(id)), at), [month], "{zone} {at}");
            }
        }
        let none = told("Europe/Berlin");
        for payer in [Payer::Buyer(0), Payer::Account(AccountId(9))] {
            assert_eq!(months(&none, payer, "2026-10-31T23:59:00Z"), ["2026-10"]);
            assert_eq!(months(&none, payer, "2026-11-01T00:00:00Z"), ["2026-11"]);
        }
    }

    /// A zone that changes changes what comes, not what was; whatever of it the journal still has.
    #[test]
    fn a_month_that_is_over_stays_when_the_advertiser_moves() {
        let [_, mut moved] = movements();
        let since = Period(minute("2026-11-10T08:00:00Z"));
        let before = Terms { zone: "Europe/Berlin".into(), ..moved.after.clone() };
        (moved.before, moved.after) =
            (Some(before), Terms { zone: "America/Los_Angeles".into(), since, ..moved.after });
        let cut = {
            let zone = |name: &str| Zones::default().get(name).expect("a zone");
            let (berlin, angeles) = (zone("Europe/Berlin"), zone("America/Los_Angeles"));
            let hourly: Option<Money> = None;
            let cuttings =
                [Cutting { since: Period(0), zone: berlin, hourly }, Cutting { since, zone: angeles, hourly }];
            Calendar::from_cuttings(cuttings.to_vec()).expect("in order")
        };
        let (mut by_record, mut by_ledger) = (Accounts::default(), Accounts::default());
        by_record.moved(&moved);
        by_ledger.cut(AccountId(1), "acme", AccountId::NONE, cut.cuttings());
        for accounts in [by_record, by_ledger] {
            let acme = Payer::Account(accounts.named("acme").expect("acme"));
            assert_eq!(months(&accounts, acme, "2026-10-31T23:00:00Z"), ["2026-11"], "still Berlin's");
            assert_eq!(months(&accounts, acme, "2026-12-01T07:59:00Z"), ["2026-11"], "Los Angeles'");
            assert_eq!(accounts.name(AccountId(1)), "acme");
        }
    }
}
