//! What a server counts of its leases, for metrics.
//! Owns: counters, and sums over all lines as of the last time each was looked at. Called by: the server, to count; the
//! driver, to show.
use super::{
    fault::Invariant,
    line::{Line, Stage},
};
use std::hash::{Hash, Hasher};

/// Counters since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Asks made.
    pub asks: u64,
    /// Lines in them.
    pub asked_lines: u64,
    /// Asks sent again.
    pub resent: u64,
    /// Answers heard.
    pub replies: u64,
    /// Answers that were to no ask under way.
    pub stale: u64,
    /// Of all round trips, nanoseconds from the last sending to the answer.
    pub round_trips_ns: u64,
    /// Of the last one.
    pub round_trip_ns: u64,
    /// Cuts made.
    pub cuts: u64,
    /// Statements of cores.
    pub statements: u64,
    /// Bids on accounts of which the core knew no window.
    pub unknown: u64,
    /// Of those, not asked for: too many at once.
    pub dropped_first: u64,
    /// Grants handed to cores.
    pub grants: u64,
    /// Times that a core was asked to give back.
    pub recalls: u64,
    /// Books that were found wrong, by [`Invariant`], in the order of [`Invariant::ALL`].
    pub violations: [u64; Invariant::ALL.len()],
}

/// To a model two servers that have counted differently are in the same state.
impl Hash for Totals {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// What a server holds, over all lines whose books come out; nano-units. Each line as of its last visit, at most some two
/// seconds ago.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Holding {
    /// Lines, those that rest included.
    pub lines: u64,
    /// Lines that may be spent from.
    pub lines_open: u64,
    /// Granted by the granter.
    pub granted: i128,
    /// Given back to it.
    pub returned: i128,
    /// Charged and not freed, what is held for notices included.
    pub spent: i128,
    /// Of that, held for notices.
    pub held: i128,
    /// Here, with no core.
    pub free: i128,
    /// With cores, not spent.
    pub on_cores: i128,
    /// Seconds for which the first line that is being spent from would run dry without the granter; `None`: none is.
    pub autonomy_least_s: Option<u64>,
    /// What is spent in a second, over all lines.
    pub rate: i128,
    /// Of that, times the seconds for which each line can go on without the granter.
    pub rate_seconds: i128,
}

impl Holding {
    pub(super) fn add(&mut self, line: &Line, now_ns: u64) {
        self.lines += 1;
        if line.stage == Stage::Broken {
            return;
        }
        self.granted += i128::from(line.granted);
        self.returned += i128::from(line.returned);
        self.spent += i128::from(line.spent());
        self.held += i128::from(line.held.clamp(0, line.spent()));
        self.free += i128::from(line.free);
        self.on_cores += i128::from(line.out - line.spent());
        if line.stage != Stage::Open {
            return;
        }
        self.lines_open += 1;
        let rate = line.rate(now_ns);
        if rate > 0 && line.runs(now_ns) {
            let seconds = line.autonomy_s(now_ns);
            let least = self.autonomy_least_s.map_or(i64::MAX as u64, |s| s).min(seconds.max(0) as u64);
            self.autonomy_least_s = Some(least);
            self.rate += i128::from(rate);
            self.rate_seconds += i128::from(rate) * i128::from(seconds.max(0));
        }
    }

    /// Seconds for which bidding goes on without the granter, each line counted by what it spends. `None`: nothing is spent.
    pub fn autonomy_mean_s(&self) -> Option<u64> {
        (self.rate > 0).then(|| (self.rate_seconds / self.rate) as u64)
    }
}
