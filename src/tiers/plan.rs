//! What to export next, where to read, what may go.
//! Owns: nothing. Called by: `outcry tiers`, `outcry audit`. Never: lets go what is younger than it was promised to be kept;
//! answers from two tiers what one has whole.
use super::names::{Batch, DAY_MS};

/// A segment of a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Its number.
    pub segment: u64,
    /// Bytes that count; `None`: it is being written.
    pub end: Option<u64>,
    /// When its last frame was made, milliseconds since 1970.
    pub to_ms: u64,
}

/// How much is exported at once: all its rows are in memory together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Segments.
    pub segments: u64,
    /// Bytes of them; one segment is always taken.
    pub bytes: u64,
}

/// The next segments to be exported together: those in `journal`, in order, from `next` on (the first that is in no manifest),
/// as many as fit and have ended before `until_ms`.
pub fn next(journal: &[Closed], next: u64, sizes: Sizes, until_ms: Option<u64>) -> Vec<u64> {
    let (mut taken, mut bytes): (Vec<u64>, u64) = (Vec::new(), 0);
    for closed in journal.iter().filter(|c| c.segment >= next) {
        let Some(end) = closed.end else { break };
        let follows = taken.last().is_none_or(|last| last + 1 == closed.segment);
        let fits = taken.is_empty() || (bytes + end <= sizes.bytes && (taken.len() as u64) < sizes.segments);
        if !follows || !fits || until_ms.is_some_and(|until| closed.to_ms >= until) {
            break;
        }
        bytes += end;
        taken.push(closed.segment);
    }
    taken
}

/// A batch in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Which.
    pub batch: Batch,
    /// Its warm files were let go.
    pub cooled: bool,
}

/// Puts together what a listing of manifests said: batches of one node in order, each once.
pub fn known(mut listed: Vec<(Batch, bool)>, node: u32) -> Vec<Known> {
    listed.retain(|(batch, _)| batch.node == node);
    listed.sort_by(|a, b| (a.0.first, a.0.last, &a.0).cmp(&(b.0.first, b.0.last, &b.0)));
    let mut all: Vec<Known> = Vec::new();
    for (batch, cooled) in listed {
        match all.last_mut().filter(|known| known.batch == batch) {
            Some(known) => known.cooled |= cooled,
            None => all.push(Known { batch, cooled }),
        }
    }
    all
}

/// Where rows of wins come from, or frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// Files of rows.
    Warm,
    /// Archived segments.
    Cold,
}

/// What is read to answer for a span of time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sources {
    /// Batches, in order, and what of them.
    pub batches: Vec<(Batch, Tier)>,
    /// Only segments below this come from them: the journal has the others.
    pub below: u64,
    /// Is the journal read too?
    pub journal: bool,
    /// Segments, first and last, that are neither in a manifest nor in the journal and may be of that time.
    pub gaps: Vec<(u64, u64)>,
}

/// A journal that is at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hot {
    /// Its first segment.
    pub first: u64,
    /// When that begins, milliseconds since 1970.
    pub from_ms: u64,
    /// When its last frame was made; `None`: it is being written.
    pub to_ms: Option<u64>,
}

/// From where to read what was between `from_ms` and `to_ms`. `rows`: rows of wins will do, where there are some.
pub fn sources(known: &[Known], hot: Option<Hot>, (from_ms, to_ms): (u64, u64), rows: bool) -> Sources {
    let below = hot.map_or(u64::MAX, |hot| hot.first);
    let mut found = Sources { below, ..Sources::default() };
    found.journal = hot.is_some_and(|hot| hot.from_ms < to_ms && hot.to_ms.is_none_or(|last| last >= from_ms));
    // What the journal has whole is read there alone.
    if hot.is_some_and(|hot| hot.from_ms <= from_ms) {
        return found;
    }
    // The next segment, and when the one before it ended.
    let mut expected: Option<(u64, u64)> = None;
    let gap = |(next, ended_ms): (u64, u64), until: u64, begins_ms: u64| {
        (next < until && ended_ms < to_ms && begins_ms >= from_ms).then(|| (next, until - 1))
    };
    for Known { batch, cooled } in known {
        if batch.first >= below {
            break;
        }
        found.gaps.extend(expected.and_then(|next| gap(next, batch.first, batch.from_ms)));
        expected = Some((batch.last + 1, batch.to_ms));
        if batch.from_ms < to_ms && batch.to_ms >= from_ms {
            let tier = if rows && !cooled { Tier::Warm } else { Tier::Cold };
            found.batches.push((batch.clone(), tier));
        }
    }
    if let (Some(hot), Some(next)) = (hot, expected) {
        found.gaps.extend(gap(next, below, hot.from_ms));
    }
    found
}

/// How long things are kept, in days after the last frame of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Days {
    /// Files of rows.
    pub warm: u64,
    /// The archive.
    pub cold: u64,
}

/// What may go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Due {
    /// The files of rows.
    Warm(Batch),
    /// The archive, and the manifest with it.
    All(Batch),
}

/// What of all batches may go at this moment. Nothing goes by a clock that stands before the newest batch: it is wrong.
pub fn due(known: &[Known], days: Days, now_ms: u64) -> Vec<Due> {
    if known.iter().any(|k| k.batch.to_ms > now_ms) {
        return Vec::new();
    }
    let old = |batch: &Batch, days: u64| now_ms - batch.to_ms > days.saturating_mul(DAY_MS);
    known
        .iter()
        .filter_map(|Known { batch, cooled }| {
            if old(batch, days.cold.max(days.warm)) {
                Some(Due::All(batch.clone()))
            } else {
                (!cooled && old(batch, days.warm)).then(|| Due::Warm(batch.clone()))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { segments: 3, bytes: 100 };

    #[test]
    fn what_is_next_is_what_fits_and_has_ended() {
        let closed = |segment, end| Closed { segment, end: Some(end), to_ms: segment * 10 };
        let open = Closed { segment: 9, end: None, to_ms: 90 };
        let all: Vec<Closed> = (4..=8).map(|n| closed(n, 30)).chain([open]).collect();
        for (what, journal, from, until, expected) in [
            ("so many at once", &all[..], 1, None, &[4, 5, 6][..]),
            ("then the others", &all, 7, None, &[7, 8]),
            ("what is being written waits", &all, 9, None, &[]),
            ("what ended before a moment", &all, 1, Some(60), &[4, 5]),
            ("nothing did", &all, 1, Some(40), &[]),
            ("however large one is", &[closed(1, 500), closed(2, 1)], 1, None, &[1]),
            ("no more bytes than fit", &[closed(1, 60), closed(2, 60)], 1, None, &[1]),
            ("a hole ends it", &[closed(1, 1), closed(3, 1)], 1, None, &[1]),
        ] {
            assert_eq!(next(journal, from, SIZES, until), expected, "{what}");
        }
    }

    fn batch(first: u64, last: u64) -> Batch {
        Batch { node: 1, first, last, from_ms: first * 10, to_ms: last * 10 + 9 }
    }

    #[test]
    fn a_listing_says_what_is_there() {
        let other = Batch { node: 2, ..batch(1, 1) };
        let listed = vec![(batch(3, 4), false), (batch(1, 2), true), (batch(1, 2), false), (other, false)];
        let all = known(listed, 1);
        assert_eq!(all, [Known { batch: batch(1, 2), cooled: true }, Known { batch: batch(3, 4), cooled: false }]);
    }

    #[test]
    fn each_span_has_its_tier() {
        let all = [(1, 2, true), (3, 4, false), (7, 9, false)];
        let all = all.map(|(a, b, cooled)| Known { batch: batch(a, b), cooled });
        let hot = Some(Hot { first: 9, from_ms: 90, to_ms: None });
        let check = |hot, from, to, rows, batches: &[(u64, Tier)], journal, gaps: &[(u64, u64)]| {
            let found = sources(&all, hot, (from, to), rows);
            let read: Vec<_> = found.batches.iter().map(|(b, tier)| (b.first, *tier)).collect();
            assert_eq!((&read[..], found.journal, &found.gaps[..]), (batches, journal, gaps), "{from} to {to}");
        };
        use Tier::{Cold, Warm};
        check(hot, 95, u64::MAX, true, &[], true, &[]);
        check(hot, 0, u64::MAX, true, &[(1, Cold), (3, Warm), (7, Warm)], true, &[(5, 6)]);
        check(hot, 0, u64::MAX, false, &[(1, Cold), (3, Cold), (7, Cold)], true, &[(5, 6)]);
        check(hot, 35, 45, true, &[(3, Warm)], false, &[]);
        check(hot, 35, 60, true, &[(3, Warm)], false, &[(5, 6)]);
        check(None, 40, 200, true, &[(3, Warm), (7, Warm)], false, &[(5, 6)]);
        check(None, 75, 200, true, &[(7, Warm)], false, &[]);
        // Behind what was exported and before what is at hand.
        check(Some(Hot { first: 12, from_ms: 120, to_ms: Some(200) }), 80, 300, true, &[(7, Warm)], true, &[(10, 11)]);
        check(Some(Hot { first: 10, from_ms: 100, to_ms: Some(200) }), 300, 400, true, &[], false, &[]);
    }

    #[test]
    fn what_is_promised_to_be_kept_is_kept() {
        let of = |first: u64, day: u64, cooled| {
            let ms = day * DAY_MS;
            Known { batch: Batch { node: 1, first, last: first, from_ms: ms, to_ms: ms }, cooled }
        };
        let all = [of(1, 0, true), of(2, 10, true), of(3, 20, false), of(4, 100, false)];
        let days = Days { warm: 90, cold: 200 };
        let at = |day: u64| due(&all, days, day * DAY_MS + 1);
        let (warm, gone) = (|n: usize| Due::Warm(all[n].batch.clone()), |n: usize| Due::All(all[n].batch.clone()));
        assert_eq!(at(100), []);
        assert_eq!(at(110), [warm(2)]);
        assert_eq!(at(190), [warm(2), warm(3)]);
        assert_eq!(at(200), [gone(0), warm(2), warm(3)]);
        assert_eq!(at(1000).len(), 4);
        // A clock that is behind the newest batch is wrong, and nothing goes by it.
        assert_eq!(at(99), []);
        // The archive is kept at least as long as the rows.
        assert_eq!(due(&all, Days { warm: 90, cold: 1 }, 100 * DAY_MS), [gone(0)]);
    }
}
