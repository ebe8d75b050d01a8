//! What may go, and what a disk that fills up asks for.
//! Owns: nothing. Runs on: flush. Called by: the journal's I/O, once a segment has ended and once in a while. Never: lets a
//! segment go that something still needs, or one from the middle: the chain of digests stays whole.

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Milliseconds after which a segment may go if there is nothing to ship it to.
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
    /// Segments from this on hold an open lease, hold or outbox entry; `u64::MAX`: none does.
    pub open_from: u64,
}

/// Which of `kept`, ended segments in order, may go: the first so many. `live_bytes` are those of segments that have not
/// ended.
pub fn may_go(kept: &[Kept], live_bytes: u64, needs: Needs, retention: Retention, now_unix_ms: u64) -> usize {
    let mut total = live_bytes + kept.iter().map(|k| k.bytes).sum::<u64>();
    let goes = |k: &&Kept| {
        let may = k.segment < needs.open_from
            && match needs.shipped_below {
                // What is shipped is kept as long as it costs nothing: to be looked at here.
                Some(below) => k.segment < below && over(k, total, retention, now_unix_ms),
                None => over(k, total, retention, now_unix_ms),
            };
        total -= k.bytes;
        may
    };
    kept.iter().take_while(goes).count()
}

fn over(kept: &Kept, total: u64, retention: Retention, now_unix_ms: u64) -> bool {
    total > retention.bytes_max || now_unix_ms.saturating_sub(kept.last_unix_ms) > retention.age_ms
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

    const DAY: u64 = 86_400_000;
    const RETENTION: Retention = Retention { age_ms: 7 * DAY, bytes_max: 1000 };

    fn kept(n: u64) -> Vec<Kept> {
        (1..=n).map(|i| Kept { segment: i, bytes: 100, last_unix_ms: i * DAY }).collect()
    }

    #[test]
    fn what_is_needed_stays() {
        let free = Needs { shipped_below: None, open_from: u64::MAX };
        let rows = [
            ("young and few", 5, 0, free, 5 * DAY, 0),
            ("age lets the old ones go", 5, 0, free, 10 * DAY + 1, 3),
            ("so does size, down to the bound", 12, 0, free, 1, 2),
            ("what is being written counts", 12, 200, free, 1, 4),
            ("an open lease holds its segment and all behind it", 12, 0, Needs { open_from: 2, ..free }, 100 * DAY, 1),
            ("not shipped, not gone", 12, 0, Needs { shipped_below: Some(1), ..free }, 100 * DAY, 0),
            ("shipped and over", 12, 0, Needs { shipped_below: Some(4), ..free }, 100 * DAY, 3),
            ("shipped and within bounds stays", 5, 0, Needs { shipped_below: Some(4), ..free }, 1, 0),
        ];
        for (what, n, live, needs, now, expected) in rows {
            assert_eq!(may_go(&kept(n), live, needs, RETENTION, now), expected, "{what}");
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
