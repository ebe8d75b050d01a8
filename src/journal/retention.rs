//! What may go, and what a disk that fills up asks for.
//! Owns: nothing. Runs on: flush. Called by: the journal's I/O, once a segment has ended and once in a while. Never: lets a
//! segment go that something still needs, or one from the middle: the chain of digests stays whole.

use crate::units::{MS, Now};

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Milliseconds after which a segment may go if there is nothing to ship it to; see [`Pace`].
    pub age_ms: u64,
    /// Bytes of all segments above which the oldest may go if there is nothing to ship them to.
    pub bytes_max: u64,
}

/// A segment that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Its number.
    pub segment: u64,
    /// Bytes on disk, its index included.
    pub bytes: u64,
    /// When its last frame was made, in milliseconds since 1970.
    pub last_unix_ms: u64,
}

/// Who still needs segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Segments below this have been shipped whole. `None`: there is nothing to ship them to.
    pub shipped_below: Option<u64>,
    /// Segments below this are in the tiers. `None`: nobody waits for that.
    pub exported_below: Option<u64>,
    /// Segments from this on hold an open lease, hold or outbox entry; `u64::MAX`: none does.
    pub open_from: u64,
}

/// Records of so many hours may go by age in an hour: a week of them in twenty-one, which is time to see that a clock is
/// wrong.
const PACE: u64 = 8;

/// How fast age lets segments go. The clock on the wall may jump by years, at a start too, and everything would be past its
/// age at once; what passes in between is measured by a clock that cannot jump. Size does not ask it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    /// Milliseconds of records that went too early for the pace: until that is made up for, nothing goes.
    debt_ms: u64,
    /// When that was counted last, nanoseconds since boot.
    counted_ns: Option<u64>,
    /// Up to where the journal is gone: the last frame of the last segment that went. `None`: none has since the start.
    gone_unix_ms: Option<u64>,
}

impl Pace {
    /// Time passes.
    fn count(&mut self, boot_ns: u64) {
        let before = *self.counted_ns.get_or_insert(boot_ns);
        let passed_ms = boot_ns.saturating_sub(before) / MS;
        if passed_ms > 0 {
            self.counted_ns = Some(before + passed_ms * MS);
            self.debt_ms = self.debt_ms.saturating_sub(passed_ms.saturating_mul(PACE));
        }
    }

    /// What it takes to let a segment go: the time of its records. A hole between them, whether the machine stood still or
    /// its clock was set, costs no more than everything that is kept.
    fn cost(&self, kept: &Kept, retention: Retention) -> u64 {
        let gone = self.gone_unix_ms.unwrap_or(kept.last_unix_ms);
        kept.last_unix_ms.saturating_sub(gone).min(retention.age_ms)
    }
}

/// Which of `kept`, ended segments in order, may go: the first so many, which `pace` counts as gone. `live_bytes` are those
/// of segments that have not ended.
pub fn may_go(kept: &[Kept], live_bytes: u64, needs: Needs, retention: Retention, pace: &mut Pace, now: Now) -> usize {
    pace.count(now.boot_ns);
    let mut total = live_bytes + kept.iter().map(|k| k.bytes).sum::<u64>();
    let goes = |k: &&Kept| {
        // What is shipped is kept as long as it costs nothing: to be looked at here.
        let missing = |below: Option<u64>| below.is_some_and(|below| k.segment >= below);
        let needed = k.segment >= needs.open_from || missing(needs.shipped_below) || missing(needs.exported_below);
        let large = total > retention.bytes_max;
        let old = now.unix_ms().saturating_sub(k.last_unix_ms) > retention.age_ms && pace.debt_ms == 0;
        if needed || !(large || old) {
            return false;
        }
        total -= k.bytes;
        pace.debt_ms = if large { pace.debt_ms } else { pace.cost(k, retention) };
        pace.gone_unix_ms = Some(k.last_unix_ms);
        true
    };
    kept.iter().take_while(goes).count()
}

/// How full a disk is, from what matters to the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Nothing to say.
    Plenty,
    /// To be told to the operator: it lasts a while.
    Low,
    /// Admission stops: what is left is for settlements and checkpoints.
    Reserve,
    /// Nothing can be written: notices are answered 503 as well.
    Full,
}

/// Where the levels are, in bytes the file system has free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// Below this, [`Level::Low`].
    pub low: u64,
    /// Kept free for checkpoints, indices and what else writes small files: no segment is made that would go below.
    pub keep: u64,
}

/// What there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Bytes the file system has free for us.
    pub free: u64,
    /// [`super::writer::Writer::room`]: `None` while a next segment is there or being made.
    pub ordinary_room: Option<u64>,
    /// Is nothing left in the last segment, not even for settlements?
    pub exhausted: bool,
}

/// Judges them.
pub fn level(space: Space, levels: Levels) -> Level {
    match space.ordinary_room {
        _ if space.exhausted => Level::Full,
        Some(0) => Level::Reserve,
        Some(_) => Level::Low,
        None if space.free < levels.low => Level::Low,
        None => Level::Plenty,
    }
}

/// May another segment of `bytes` be made?
pub fn may_make(free: u64, bytes: u64, levels: Levels) -> bool {
    free.checked_sub(bytes).is_some_and(|left| left >= levels.keep)
}

/// Can the disk hold what retention lets gather? Asked at the start: `total` bytes of the file system that are free or
/// the journal's own. The error is the most that `bytes_max` may be.
///
/// # Errors
/// The bytes that would do.
pub fn check(retention: Retention, levels: Levels, total: u64, segment_bytes: u64) -> Result<(), u64> {
    // One being written, one made in advance.
    let most = total.saturating_sub(levels.low.max(levels.keep)).saturating_sub(2 * segment_bytes);
    if retention.bytes_max <= most { Ok(()) } else { Err(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    const RETENTION: Retention = Retention { age_ms: 7 * DAY, bytes_max: 1000 };

    fn kept(n: u64) -> Vec<Kept> {
        (1..=n).map(|i| Kept { segment: i, bytes: 100, last_unix_ms: i * DAY }).collect()
    }

    #[test]
    fn what_is_needed_stays() {
        let free = Needs { shipped_below: None, exported_below: None, open_from: u64::MAX };
        let rows = [
            ("young and few", 5, 0, free, 5 * DAY, 0),
            ("age lets the old ones go", 5, 0, free, 10 * DAY + 1, 3),
            ("so does size, down to the bound", 12, 0, free, 1, 2),
            ("what is being written counts", 12, 200, free, 1, 4),
            ("an open lease holds its segment and all behind it", 12, 0, Needs { open_from: 2, ..free }, 100 * DAY, 1),
            ("not shipped, not gone", 12, 0, Needs { shipped_below: Some(1), ..free }, 100 * DAY, 0),
            ("shipped and over", 12, 0, Needs { shipped_below: Some(4), ..free }, 100 * DAY, 3),
            ("not exported, not gone", 12, 0, Needs { exported_below: Some(1), ..free }, 100 * DAY, 0),
            (
                "both have to have it",
                12,
                0,
                Needs { shipped_below: Some(5), exported_below: Some(3), ..free },
                100 * DAY,
                2,
            ),
            ("shipped and within bounds stays", 5, 0, Needs { shipped_below: Some(4), ..free }, 1, 0),
        ];
        for (what, n, live, needs, now, expected) in rows {
            let (mut pace, mut gone, mut left) = (Pace::default(), 0, kept(n));
            // Time enough passes.
            for hour in 0..1000 {
                let n = may_go(&left, live, needs, RETENTION, &mut pace, clock(hour * HOUR, now));
                left.drain(..n);
                gone += n;
            }
            assert_eq!(gone, expected, "{what}");
        }
    }

    /// So long after boot, at a time of the wall.
    fn clock(boot_ms: u64, unix_ms: u64) -> Now {
        Now { boot_ns: boot_ms * MS, wall_offset_ns: (unix_ms as i64 - boot_ms as i64) * MS as i64 }
    }

    /// Lives for `hours`, looking every minute, by a wall clock that is `ahead`; how many of `kept` are left.
    fn left_after(kept: &mut Vec<Kept>, pace: &mut Pace, from: u64, hours: u64, ahead: u64) -> usize {
        for minute in 0..=hours * 60 {
            let at = from + minute * 60_000;
            let n = may_go(kept, 0, FREE, RETENTION, pace, clock(at, at + ahead));
            kept.drain(..n);
        }
        kept.len()
    }

    const FREE: Needs = Needs { shipped_below: None, exported_below: None, open_from: u64::MAX };

    #[test]
    fn a_clock_that_jumps_by_years_takes_two_segments_and_then_three_hours_for_a_day() {
        let (mut all, mut pace) = (kept(7), Pace::default());
        assert_eq!(left_after(&mut all, &mut pace, 7 * DAY, 2, 0), 7, "right so far");
        // The first costs nothing, since nobody knows what was before it; each further one a day.
        let years = 3650 * DAY;
        assert_eq!(left_after(&mut all, &mut pace, 7 * DAY + 2 * HOUR, 0, years), 5);
        assert_eq!(left_after(&mut all, &mut pace, 7 * DAY + 2 * HOUR, 6, years), 3);
        // Set right: all that is left stays.
        assert_eq!(left_after(&mut all, &mut pace, 7 * DAY + 8 * HOUR, 6, 0), 3);
        // The same at a start.
        let mut pace = Pace::default();
        assert_eq!(left_after(&mut all, &mut pace, 0, 2, years), 1);
        assert_eq!(left_after(&mut all, &mut pace, 2 * HOUR, 1, years), 0);
        // Size does not wait.
        let n = may_go(&kept(12), 0, FREE, RETENTION, &mut Pace::default(), clock(0, 1));
        assert_eq!(n, 2);
    }

    /// A machine whose clock stood at 1970 until the network set it, and one that stood still for a year.
    #[test]
    fn a_hole_in_time_costs_no_more_than_what_is_kept() {
        let year = 365 * DAY;
        for hole in [year, 56 * year] {
            let mut all = kept(2);
            all.extend(kept(3).iter().map(|k| Kept {
                segment: k.segment + 2,
                last_unix_ms: k.last_unix_ms + hole,
                ..*k
            }));
            let left = left_after(&mut all, &mut Pace::default(), 0, 36, hole + 30 * DAY);
            assert_eq!(left, 0, "{hole}");
        }
    }

    /// In ordinary life it holds nothing back: a week stays, whatever was slept through.
    #[test]
    fn the_pace_is_not_felt() {
        let (mut pace, mut all) = (Pace::default(), Vec::new());
        for hour in 0..24 * 30 {
            let at = hour * HOUR;
            all.push(Kept { segment: hour + 1, bytes: 0, last_unix_ms: at });
            let n = may_go(&all, 0, FREE, RETENTION, &mut pace, clock(at, at));
            all.drain(..n);
            assert_eq!(all.len() as u64, (hour + 1).min(7 * 24 + 1));
        }
    }

    #[test]
    fn levels_rise_in_order() {
        let levels = Levels { low: 1000, keep: 100 };
        let space = |free, ordinary_room, exhausted| level(Space { free, ordinary_room, exhausted }, levels);
        assert_eq!(space(5000, None, false), Level::Plenty);
        assert_eq!(space(999, None, false), Level::Low);
        assert_eq!(space(999, Some(10), false), Level::Low);
        assert_eq!(space(0, Some(0), false), Level::Reserve);
        assert_eq!(space(0, Some(0), true), Level::Full);
        assert!(may_make(356, 256, levels) && !may_make(355, 256, levels) && !may_make(10, 256, levels));
        assert_eq!(check(RETENTION, levels, 2200, 100), Ok(()));
        assert_eq!(check(RETENTION, levels, 2100, 100), Err(900));
    }
}
