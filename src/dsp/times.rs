//! How long a DSP's answers take: a histogram of fixed size that forgets, and two of its quantiles.
//! Owns: the counts. Runs on: each bidder core, one per DSP. Called by: [`super::health`]. Never: allocates, grows.
//!
//! What came too late is counted with the rest when it comes at all: what never comes is no time.

/// Eight cells to an octave from 16 us on: a quantile is wrong by an eighth at most, to the upper side.
const CELLS: usize = 128;
/// Nanoseconds of the smallest cell, as a shift.
const UNIT: u32 = 14;
/// With so many answers all counts are halved: what was learned fades with the next thousand.
const FULL: u32 = 1_024;
/// Before so many nothing is said.
const LEARNED: u32 = 32;
/// For more no answer speaks, so that one alone is no quantile.
const SPEAKS_FOR_MAX: u32 = 20;
/// The quantiles are worked out anew after so many answers.
const EVERY: u32 = 16;

/// The answer times of one DSP.
#[derive(Clone, Debug)]
pub struct AnswerTimes {
    cells: [u16; CELLS],
    total: u32,
    since: u32,
    /// Upper ends of the cells that 95 and 99 of 100 answers are in or below; 0: not learned yet.
    p95_ns: u64,
    p99_ns: u64,
}

impl Default for AnswerTimes {
    fn default() -> AnswerTimes {
        AnswerTimes { cells: [0; CELLS], total: 0, since: 0, p95_ns: 0, p99_ns: 0 }
    }
}

impl AnswerTimes {
    /// An answer took so long, and speaks for so many, at most twenty.
    pub fn add(&mut self, ns: u64, speaks_for: u32) {
        let n = speaks_for.clamp(1, SPEAKS_FOR_MAX);
        // Not many more than FULL of them are counted, which a cell holds.
        self.cells[cell(ns)] += n as u16;
        self.total += n;
        self.since += n;
        if self.total >= FULL {
            self.cells.iter_mut().for_each(|n| *n /= 2);
            self.total = self.cells.iter().map(|n| u32::from(*n)).sum();
        }
        if self.total >= LEARNED && (self.since >= EVERY || self.p99_ns == 0) {
            self.since = 0;
            (self.p95_ns, self.p99_ns) = (self.quantile(95), self.quantile(99));
        }
    }

    /// 95 of 100 answers take no longer; none: too few came.
    pub fn p95_ns(&self) -> Option<u64> {
        Some(self.p95_ns).filter(|ns| *ns > 0)
    }

    /// 99 of 100 answers take no longer; none: too few came.
    pub fn p99_ns(&self) -> Option<u64> {
        Some(self.p99_ns).filter(|ns| *ns > 0)
    }

    fn quantile(&self, percent: u32) -> u64 {
        let rank = (self.total * percent).div_ceil(100);
        let mut below = 0;
        for (at, n) in self.cells.iter().enumerate() {
            below += u32::from(*n);
            if below >= rank {
                return end_ns(at);
            }
        }
        end_ns(CELLS - 1)
    }
}

fn cell(ns: u64) -> usize {
    let v = ns >> UNIT;
    if v < 8 {
        return v as usize;
    }
    let octave = v.ilog2();
    let at = (octave as usize - 2) * 8 + (v >> (octave - 3) & 7) as usize;
    at.min(CELLS - 1)
}

/// Where a cell ends.
fn end_ns(at: usize) -> u64 {
    let (octave, sub) = (at / 8, at as u64 % 8);
    let units = if octave == 0 { sub + 1 } else { (8 + sub + 1) << (octave - 1) };
    units << UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{MS, mix};

    #[test]
    fn a_cell_holds_what_it_says() {
        let mut last = 0;
        for at in 0..CELLS - 1 {
            let end = end_ns(at);
            assert!(end > last && cell(end - 1) == at && cell(end) == at + 1, "{at}");
            assert!(at < 8 || end - last <= last / 8 + 1, "{at}: an eighth at most");
            last = end;
        }
        assert_eq!((cell(0), cell(u64::MAX)), (0, CELLS - 1));
        assert!(last > 3_000 * MS);
    }

    #[test]
    fn quantiles_are_learned_and_forgotten() {
        let mut t = AnswerTimes::default();
        let uniform = |i: u64| mix(i) % (100 * MS);
        (0..LEARNED as u64 - 1).for_each(|i| t.add(uniform(i), 1));
        assert_eq!((t.p95_ns(), t.p99_ns()), (None, None));
        (0..5_000).for_each(|i| t.add(uniform(i), 1));
        let (p95, p99) = (t.p95_ns().unwrap_or(0) / MS, t.p99_ns().unwrap_or(0) / MS);
        assert!((90..=107).contains(&p95) && (95..=113).contains(&p99), "{p95} {p99}");
        // It has become fast: after some thousand answers nothing is left of the old ones.
        (0..4_000).for_each(|i| t.add(2 * MS + i % 1_000, 1));
        assert!(t.p99_ns().is_some_and(|ns| ns < 3 * MS), "{t:?}");
    }
}
