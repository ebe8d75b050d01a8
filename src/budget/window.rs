//! Which window of an account a moment belongs to, and what limits it there.
//! Owns: the shape of windows; how an account's time is cut into days and hours, and from when on that changes.
//! Runs on: the ledger's thread. Called by: `tree`. Never: lets two windows overlap or leave a gap; changes one that has begun.
//!
//! An hour is sixty minutes counted from the beginning of its day: the clock's own hours, but on days when a clock is set by
//! less than an hour (Lord Howe, twice a year). The last hour of a day ends with it.
use super::{
    AccountId, Period,
    zone::{DAY_MINUTES, Zone},
};
use crate::units::Money;
use std::ops::Deref;

/// What a limit is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Span {
    /// A day where the account is at home.
    #[default]
    Day,
    /// An hour of it.
    Hour,
    /// All there ever is; begins in minute 0.
    Life,
}

/// What money is counted under: one account's day, hour or life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BucketKey {
    /// Whose.
    pub account: AccountId,
    /// What it is for.
    pub span: Span,
    /// When it begins.
    pub start: Period,
}

/// The buckets that a grant debits at once: day, life and perhaps hour, of a campaign and of its advertiser.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Buckets {
    keys: [BucketKey; 6],
    len: u8,
}

impl Buckets {
    pub(super) fn push(&mut self, key: BucketKey) {
        if let Some(place) = self.keys.get_mut(usize::from(self.len)) {
            *place = key;
            self.len += 1;
        }
    }
}

impl Deref for Buckets {
    type Target = [BucketKey];

    fn deref(&self) -> &[BucketKey] {
        &self.keys[..usize::from(self.len)]
    }
}

/// A stretch of time in which a campaign's money comes out of the same buckets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// When it begins, which names it.
    pub period: Period,
    /// Its first moment no more, milliseconds since 1970: the next window's first.
    pub ends_ms: u64,
    /// What a grant of it debits.
    pub buckets: Buckets,
}

/// How an account's time is cut from one moment on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cutting {
    /// From when on.
    pub since: Period,
    /// Where its days begin.
    pub zone: Zone,
    /// What an hour may cost; `None`: hours are not told apart.
    pub hourly: Option<Money>,
}

/// How an account's time is cut: now, and what is known to come. In the order of their beginnings; the first holds for all
/// that was before it too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Calendar(Vec<Cutting>);

/// From minute to minute, the second not included.
pub(super) type Minutes = (u32, u32);

/// What changes how time is cut takes effect no sooner than after so many minutes. What was leased of the running window, and
/// ahead of the next, is over by then, so no lease outlives its window or has debited other buckets than its window's.
pub const NOTICE_MINUTES: u32 = 2;

/// Cuttings that ended longer ago than this are forgotten: no clock is set back by more.
const KEPT_MINUTES: u32 = 2 * DAY_MINUTES;

impl Calendar {
    /// The same for ever.
    pub fn new(zone: Zone, hourly: Option<Money>) -> Calendar {
        Calendar(vec![Cutting { since: Period(0), zone, hourly }])
    }

    /// One that was stored: at least one cutting, in order.
    pub fn from_cuttings(cuttings: Vec<Cutting>) -> Option<Calendar> {
        let sound = !cuttings.is_empty() && cuttings.is_sorted_by(|a, b| a.since < b.since);
        sound.then_some(Calendar(cuttings))
    }

    /// What holds and what is to come.
    pub fn cuttings(&self) -> &[Cutting] {
        &self.0
    }

    /// What holds in a minute.
    pub fn at(&self, minute: u32) -> &Cutting {
        &self.0[self.place(minute)]
    }

    /// What will hold when all that is known to come has come.
    pub fn last(&self) -> &Cutting {
        &self.0[self.0.len() - 1]
    }

    fn place(&self, minute: u32) -> usize {
        self.0.partition_point(|c| c.since.0 <= minute).saturating_sub(1)
    }

    /// How long the cutting of a minute holds.
    pub(super) fn holds(&self, minute: u32) -> Minutes {
        let place = self.place(minute);
        let next = self.0.get(place + usize::from(self.0[place].since.0 <= minute));
        // Before the first there is only what it says itself.
        let since = if self.0[place].since.0 <= minute { self.0[place].since.0 } else { 0 };
        (since, next.map_or(u32::MAX, |n| n.since.0))
    }

    /// The day of a minute. Where the zone changes, one day ends and another begins.
    pub(super) fn day(&self, minute: u32) -> Option<Minutes> {
        let place = self.place(minute);
        let zone = &self.0[place].zone;
        let (start, end) = zone.day(minute)?;
        let until = self.0[place..].iter().find(|c| c.zone != *zone).map_or(u32::MAX, |c| c.since.0);
        Some((start.max(self.zone_since(place)), end.min(until)))
    }

    /// Since when the zone of a cutting has held without a break.
    fn zone_since(&self, place: usize) -> u32 {
        let other = self.0[..place].iter().rposition(|c| c.zone != self.0[place].zone);
        other.map_or(0, |other| self.0[other + 1].since.0)
    }

    /// The hour of a minute, whether or not it is limited.
    pub(super) fn hour(&self, minute: u32) -> Option<Minutes> {
        // From where the zone's own day begins, so that hours stay full after a change of zones.
        let begins = self.at(minute).zone.day(minute)?.0;
        let (start, end) = self.day(minute)?;
        let hour = begins + (minute - begins) / 60 * 60;
        Some((hour.max(start), (hour + 60).min(end)))
    }

    /// The part of a usual day that a day begun by a change of zones has, in minutes of [`DAY_MINUTES`]; `None`: it is a
    /// whole one, whatever the clock does on it.
    pub(super) fn part_of_day(&self, minute: u32) -> Option<u32> {
        let (start, end) = self.day(minute)?;
        let whole = self.at(minute).zone.day(minute)?;
        (start > whole.0 && end - start < DAY_MINUTES).then_some(end - start)
    }

    /// Days begin elsewhere from the end of the running day on; of the next, when this one is all but over.
    ///
    /// Returns from when on; `None`: nothing changes, or the year is beyond what is known.
    pub fn set_zone(&mut self, zone: Zone, now: u32) -> Option<Period> {
        let from = self.day(now.saturating_add(NOTICE_MINUTES))?.1;
        self.change(from, now, |c| c.zone = zone.clone()).then_some(Period(from))
    }

    /// An hour may cost this. Where hours are limited already, at once; else from the next full hour on, as is the end of a
    /// limit; from the one after that, when this one is all but over.
    ///
    /// Returns from when on; `None`: nothing changes, or the year is beyond what is known.
    pub fn set_hourly(&mut self, hourly: Option<Money>, now: u32) -> Option<Period> {
        let soon = now.saturating_add(NOTICE_MINUTES);
        let limited = hourly.is_some();
        if self.at(soon).hourly.is_some() == limited {
            let from = self.at(now).since.0;
            // What is limited and what is not stays so until then.
            let amount = |c: &mut Cutting| {
                if c.since.0 > soon || c.hourly.is_some() == limited {
                    c.hourly = hourly;
                }
            };
            return self.change(from, now, amount).then_some(Period(now));
        }
        let from = self.hour(soon)?.1;
        self.change(from, now, |c| c.hourly = hourly).then_some(Period(from))
    }

    /// Changes all that holds from a minute on, and forgets what is long over. False: that is how it was.
    fn change(&mut self, from: u32, now: u32, change: impl Fn(&mut Cutting)) -> bool {
        let before = self.0.clone();
        let place = self.place(from);
        if self.0[place].since.0 < from {
            let split = Cutting { since: Period(from), ..self.0[place].clone() };
            self.0.insert(place + 1, split);
        }
        self.0.iter_mut().filter(|c| c.since.0 >= from).for_each(change);
        // A change taken back before it came.
        self.0.dedup_by(|later, earlier| later.zone == earlier.zone && later.hourly == earlier.hourly);
        let changed = self.0 != before;
        if changed {
            let over = self.place(now.saturating_sub(KEPT_MINUTES));
            self.0.drain(..over);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::zone::Zones;

    fn calendar(zone: &str, hourly: Option<i64>) -> (Zones, Calendar) {
        let mut zones = Zones::default();
        let zone = zones.get(zone).unwrap();
        (zones, Calendar::new(zone, hourly.map(Money)))
    }

    /// 2026-11-21T00:00Z.
    const NOW: u32 = 20_778 * DAY_MINUTES;

    #[test]
    fn a_zone_changes_at_the_end_of_the_running_day() {
        let (mut zones, mut calendar) = calendar("UTC", None);
        let auckland = zones.get("Pacific/Auckland").unwrap();
        let noon = NOW + 720;
        assert_eq!(calendar.set_zone(auckland.clone(), noon), Some(Period(NOW + 1440)));
        assert_eq!(calendar.day(noon), Some((NOW, NOW + 1440)));
        // There it is 13:00, so eleven hours are left of the day.
        assert_eq!(calendar.day(NOW + 1440), Some((NOW + 1440, NOW + 1440 + 660)));
        assert_eq!(calendar.part_of_day(NOW + 1440), Some(660));
        assert_eq!(calendar.day(NOW + 1440 + 660), Some((NOW + 2100, NOW + 2100 + 1440)));
        assert_eq!(calendar.part_of_day(NOW + 2100), None);
        // Again is nothing, back before it came leaves nothing.
        assert_eq!(calendar.set_zone(auckland, noon), None);
        let utc = zones.get("UTC").unwrap();
        assert_eq!(calendar.set_zone(utc.clone(), noon + 60), Some(Period(NOW + 1440)));
        assert_eq!(calendar, Calendar::new(utc, None));
    }

    #[test]
    fn a_change_of_hours_does_not_cut_a_day() {
        let (_, mut calendar) = calendar("Asia/Kathmandu", None);
        // 0:00Z is 5:45 there.
        assert_eq!(calendar.set_hourly(Some(Money(5)), NOW), Some(Period(NOW + 15)));
        assert_eq!(calendar.day(NOW + 100), Some((NOW - 345, NOW - 345 + 1440)));
        assert_eq!(calendar.hour(NOW + 100), Some((NOW + 75, NOW + 135)));
        assert_eq!((calendar.at(NOW + 14).hourly, calendar.at(NOW + 15).hourly), (None, Some(Money(5))));
        // More, at once; none, from the next hour on, and this one keeps its limit.
        assert_eq!(calendar.set_hourly(Some(Money(7)), NOW + 100), Some(Period(NOW + 100)));
        assert_eq!(calendar.set_hourly(None, NOW + 100), Some(Period(NOW + 135)));
        assert_eq!(calendar.at(NOW + 134).hourly, Some(Money(7)));
        assert_eq!(calendar.at(NOW + 135).hourly, None);
        assert_eq!(calendar.set_hourly(None, NOW + 101), None);
        // Kept after all.
        assert_eq!(calendar.set_hourly(Some(Money(8)), NOW + 102), Some(Period(NOW + 102)));
        assert_eq!(calendar.cuttings().len(), 2);
    }

    #[test]
    fn no_change_comes_before_what_is_leased_is_over() {
        let (mut zones, mut calendar) = calendar("UTC", None);
        assert_eq!(calendar.set_hourly(Some(Money(5)), NOW + 58), Some(Period(NOW + 120)));
        assert_eq!(calendar.set_zone(zones.get("Asia/Tokyo").unwrap(), NOW + 1439), Some(Period(NOW + 2880)));
        // Too late to take it back: it comes, and goes an hour later.
        assert_eq!(calendar.set_hourly(None, NOW + 119), Some(Period(NOW + 180)));
        assert_eq!(calendar.at(NOW + 120).hourly, Some(Money(5)));
        // The hour that runs is not limited and stays so; the limited one that comes costs at most this.
        assert_eq!(calendar.set_hourly(Some(Money(6)), NOW + 119), Some(Period(NOW + 119)));
        assert_eq!((calendar.at(NOW + 119).hourly, calendar.at(NOW + 120).hourly), (None, Some(Money(6))));
    }

    #[test]
    fn hours_are_counted_from_the_days_beginning() {
        // Set back by half an hour at 2:00, 15:00Z on 4 April 2026.
        let (_, calendar) = calendar("Australia/Lord_Howe", Some(1));
        let start = (20_547 * 1440) + 13 * 60;
        assert_eq!(calendar.day(start), Some((start, start + 1470)));
        assert_eq!(calendar.hour(start + 130), Some((start + 120, start + 180)));
        assert_eq!(calendar.hour(start + 1469), Some((start + 1440, start + 1470)));
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let (mut zones, mut calendar) = calendar("UTC", None);
        for day in 0..40 {
            let name = if day % 2 == 0 { "Asia/Tokyo" } else { "UTC" };
            calendar.set_zone(zones.get(name).unwrap(), NOW + day * 1440);
            calendar.set_hourly((day % 3 == 0).then_some(Money(1)), NOW + day * 1440 + 5);
        }
        assert!(calendar.cuttings().len() < 8, "{calendar:?}");
    }
}
