//! When days begin where an account is at home.
//! Owns: the IANA zones that accounts name, from the database that is built in. Runs on: the ledger's thread.
//! Called by: `window`, and `manage` for names. Never: reads the machine's own zones or zone files; asks what time it is.
//!
//! A day begins at the first moment whose local date is that day or later. So it may have 23 or 25 hours, begin at one in
//! the morning, or have been left out altogether (Pacific/Apia, 30 December 2011); and a clock that is set back across
//! midnight does not bring yesterday again.
use crate::config::suggest;
use jiff::{
    Span, Timestamp,
    civil::{Date, DateTime},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

/// Minutes of a day that has 24 hours.
pub(super) const DAY_MINUTES: u32 = 24 * 60;
/// Days whose beginnings are worked out together.
const CHUNK: usize = 256;
/// So many chunks are known: from 1970 to 2170.
const CHUNKS: usize = 286;
/// Local time may be so many days off UTC's, a jump across the date line included.
const DAYS_OFF: usize = 2;

/// A time zone by its IANA name; copies share what has been worked out.
#[derive(Clone)]
pub struct Zone(Arc<Days>);

struct Days {
    name: String,
    rules: TimeZone,
    /// The minute since 1970 at which each day begins, by chunks. They never fall.
    starts: Box<[OnceLock<Box<[u32]>>]>,
}

/// No zone has this name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no time zone is named \"{name}\"{}; names are the IANA's, for instance Europe/Berlin or UTC", or(nearest))]
pub struct UnknownZone {
    /// What was asked for.
    pub name: String,
    /// What was probably meant.
    pub nearest: Option<String>,
}

fn or(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |n| format!(", did you mean {n}?"))
}

/// The zones in use, each once.
#[derive(Clone, Default)]
pub struct Zones {
    known: BTreeMap<String, Zone>,
}

impl Zones {
    /// A zone by its name; capitals do not matter.
    ///
    /// # Errors
    /// No such zone.
    pub fn get(&mut self, name: &str) -> Result<Zone, UnknownZone> {
        if let Some(zone) = self.known.get(name) {
            return Ok(zone.clone());
        }
        let database = TimeZoneDatabase::bundled();
        let unknown = || {
            let names: Vec<String> = database.available().map(|n| n.as_str().to_owned()).collect();
            let nearest = suggest::nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
            UnknownZone { name: name.chars().take(64).collect(), nearest }
        };
        let rules = database.get(name).map_err(|_| unknown())?;
        let canonical = rules.iana_name().filter(|_| !rules.is_unknown()).ok_or_else(unknown)?.to_owned();
        let starts = (0..CHUNKS).map(|_| OnceLock::new()).collect();
        let zone = Zone(Arc::new(Days { name: canonical.clone(), rules, starts }));
        Ok(self.known.entry(canonical).or_insert(zone).clone())
    }
}

impl Zone {
    /// Its IANA name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The day that holds a minute since 1970: its first minute, and the first of the day after. `None` after the year 2169.
    /// Two or three lookups in a table; a chunk of it that was never asked for costs 256 questions to the rules.
    pub fn day(&self, minute: u32) -> Option<(u32, u32)> {
        let utc = (minute / DAY_MINUTES) as usize;
        let latest = utc + DAYS_OFF;
        let mut end = self.start(latest + 1)?;
        for day in (utc.saturating_sub(DAYS_OFF)..=latest).rev() {
            let start = self.start(day)?;
            if start <= minute {
                return Some((start, end));
            }
            end = start;
        }
        // Before the first day of 1970 begins here.
        Some((0, end))
    }

    /// The day that is so many days after 1 January 1970: its first minute since 1970, and the first of the day after. One that
    /// was left out here is empty. `None` after the year 2169.
    pub fn date(&self, day: u32) -> Option<(u32, u32)> {
        Some((self.start(day as usize)?, self.start(day as usize + 1)?))
    }

    /// When the day that is so many days after 1 January 1970 begins.
    fn start(&self, day: usize) -> Option<u32> {
        let chunk = self.0.starts.get(day / CHUNK)?;
        let first = day / CHUNK * CHUNK;
        let chunk = chunk
            .get_or_init(|| (first..first + CHUNK).map(|d| begins(&self.0.rules, d).unwrap_or(u32::MAX)).collect());
        chunk.get(day % CHUNK).copied().filter(|m| *m != u32::MAX)
    }
}

/// The first minute of a day; seconds, which zones had until 1972, round up.
fn begins(rules: &TimeZone, day: usize) -> Option<u32> {
    let date = Date::constant(1970, 1, 1).checked_add(Span::new().days(i64::try_from(day).ok()?)).ok()?;
    let midnight: DateTime = date.at(0, 0, 0, 0);
    let ambiguous = rules.to_ambiguous_timestamp(midnight);
    let begins = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(midnight).ok()?,
        // Midnight comes twice: the first of them.
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(midnight).ok()?,
        // Midnight does not come: when the clock was set forward, which is before it would have come by the old one.
        AmbiguousOffset::Gap { before, .. } => {
            let would = before.to_timestamp(midnight).ok()?;
            let after = Timestamp::from_second(would.as_second() + 1).ok()?;
            rules.preceding(after).next()?.timestamp()
        }
    };
    let seconds = u64::try_from(begins.as_second()).unwrap_or(0);
    u32::try_from(seconds.div_ceil(60)).ok()
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Zone {}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> Zone {
        Zones::default().get(name).unwrap()
    }

    fn minute(utc: &str) -> u32 {
        let at: Timestamp = utc.parse().unwrap();
        u32::try_from(at.as_second() / 60).unwrap()
    }

    /// The day's beginning and its length in hours and minutes.
    #[track_caller]
    fn day(name: &str, at: &str, begins: &str, hours: u32, minutes: u32) {
        let (start, end) = zone(name).day(minute(at)).unwrap();
        assert_eq!((start, end - start), (minute(begins), hours * 60 + minutes), "{name} {at}");
    }

    #[test]
    fn days_are_as_long_as_their_clocks_say() {
        day("UTC", "2026-11-21T23:59:00Z", "2026-11-21T00:00:00Z", 24, 0);
        day("Europe/Berlin", "2026-11-21T23:00:00Z", "2026-11-21T23:00:00Z", 24, 0);
        day("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", 23, 0);
        day("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", 25, 0);
        day("Asia/Kathmandu", "2026-01-01T18:14:00Z", "2025-12-31T18:15:00Z", 24, 0);
        day("Australia/Adelaide", "2026-04-05T00:00:00Z", "2026-04-04T13:30:00Z", 25, 0);
        day("Australia/Lord_Howe", "2026-04-05T00:00:00Z", "2026-04-04T13:00:00Z", 24, 30);
        day("Australia/Sydney", "2026-10-04T00:00:00Z", "2026-10-03T14:00:00Z", 23, 0);
        day("America/New_York", "2026-03-08T06:59:00Z", "2026-03-08T05:00:00Z", 23, 0);
    }

    #[test]
    fn a_day_whose_midnight_does_not_come_begins_when_its_clock_does() {
        day("America/Sao_Paulo", "2018-11-04T12:00:00Z", "2018-11-04T03:00:00Z", 23, 0);
        // Set back at midnight: the hour before it comes again, in the same day.
        day("America/Sao_Paulo", "2019-02-17T02:30:00Z", "2019-02-16T02:00:00Z", 25, 0);
        day("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", 23, 0);
        day("Asia/Beirut", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", 23, 0);
        day("Asia/Pyongyang", "2018-05-04T14:00:00Z", "2018-05-03T15:30:00Z", 23, 30);
    }

    #[test]
    fn a_clock_set_back_across_midnight_does_not_bring_yesterday_again() {
        // At 0:01 on 7 November 2010 it became 23:01 of the 6th.
        day("America/St_Johns", "2010-11-07T02:45:00Z", "2010-11-07T02:30:00Z", 25, 0);
        day("America/St_Johns", "2010-11-07T02:29:00Z", "2010-11-06T02:30:00Z", 24, 0);
    }

    #[test]
    fn days_may_be_left_out() {
        day("Pacific/Apia", "2011-12-30T09:59:00Z", "2011-12-29T10:00:00Z", 24, 0);
        day("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", 24, 0);
        day("Pacific/Kwajalein", "1993-08-21T12:00:00Z", "1993-08-21T12:00:00Z", 24, 0);
    }

    #[test]
    fn zones_are_found_by_name_or_something_like_it_is_named() {
        let mut zones = Zones::default();
        assert_eq!(zones.get("europe/berlin").unwrap().name(), "Europe/Berlin");
        for (wrong, want) in [
            ("Europe/Berlni", Some("Europe/Berlin")),
            ("Berlin", Some("Europe/Berlin")),
            ("Etc/Unknown", None),
            ("../../etc/passwd", None),
            ("", None),
            ("CET-1CEST,M3.5.0,M10.5.0/3", None),
        ] {
            let unknown = zones.get(wrong).unwrap_err();
            if let Some(want) = want {
                assert_eq!(unknown.nearest.as_deref(), Some(want), "{wrong}");
            }
        }
        let text = zones.get("Europe/Berlni").unwrap_err().to_string();
        let want = "no time zone is named \"Europe/Berlni\", did you mean Europe/Berlin?; names are the IANA's, for instance \
                    Europe/Berlin or UTC";
        assert_eq!(text, want);
    }

    /// Every zone there is, the turn of each day of 2011 (dates left out in the Pacific) and of 2026.
    #[test]
    fn every_zones_days_follow_each_other() {
        let mut zones = Zones::default();
        for name in TimeZoneDatabase::bundled().available() {
            let Ok(zone) = zones.get(name.as_str()) else { continue };
            for year in ["2011", "2026"] {
                let (mut at, last) =
                    (minute(&format!("{year}-01-01T00:00:00Z")), minute(&format!("{year}-12-31T00:00:00Z")));
                while at < last {
                    let (start, end) = zone.day(at).unwrap();
                    assert!(start <= at && at < end && end - start <= 26 * 60, "{zone} {at}: {start} to {end}");
                    assert_eq!(zone.day(end - 1), Some((start, end)), "{zone}");
                    assert_eq!(zone.day(end).map(|d| d.0), Some(end), "{zone}");
                    at = end;
                }
            }
        }
    }

    proptest! {
        /// Against the clock itself: all that a day holds has its date or, where clocks were set back across midnight, the
        /// one before.
        #[test]
        fn a_day_holds_what_its_clock_calls_so(name in prop::sample::select(vec![
            "Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/St_Johns", "Pacific/Apia",
            "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "Antarctica/Troll", "Africa/Casablanca", "UTC",
        ]), at in 2_000_000u32..60_000_000) {
            let zone = zone(name);
            let (start, end) = zone.day(at).unwrap();
            prop_assert!(start <= at && at < end);
            let date = |m: u32| zone.0.rules.to_datetime(Timestamp::from_second(i64::from(m) * 60).unwrap()).date();
            prop_assert!(date(start) > date(start - 1) && date(end) > date(start));
            prop_assert!(date(at) == date(start) || date(at) == date(start).yesterday().unwrap());
        }

        #[test]
        fn no_minute_is_too_late_to_be_asked_for(at: u32) {
            let day = zone("Asia/Tokyo").day(at);
            prop_assert!(day.is_some() || at > 105_000_000);
        }
    }
}
