//! What one bidder core counts in about a second: the doorway of all bidder code to the metrics.
//! Owns: plain integers and histograms of fixed size. Runs on: each bidder core; the box travels to flush and back.
//! Called by: `bidder/*`. Never: allocates after [`CoreMetrics::new`], locks, reads a clock, refuses a value.
//! Full: a time beyond a histogram's range is counted at its end; a DSP beyond the rows is counted in the last,
//! shared one.
use super::labels::{AnswerKind, Counter, Delivered, DspLevel, Gauge, LossReason, Refusal, Stage};
use crate::{
    openrtb::codes::{Loss, Outcome},
    units::DspIx,
};
use hdrhistogram::Histogram;

/// A histogram of nanoseconds that never grows: from about a microsecond to 16 s, two digits.
pub(super) fn wide() -> Histogram<u64> {
    fixed(1 << 10, 1 << 34)
}

/// The same for DSPs, coarser at the low end, as there may be many: from 16 us to 2 s.
pub(super) fn narrow() -> Histogram<u64> {
    fixed(1 << 14, 1 << 31)
}

fn fixed(low_ns: u64, high_ns: u64) -> Histogram<u64> {
    // The bounds are constants of this file and valid; this constructor leaves auto-resizing off.
    Histogram::new_with_bounds(low_ns, high_ns, 2).expect("constant bounds")
}

/// How many, and how long altogether.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// Nanoseconds altogether. In 128 bits: half a million auctions a second of 100 ms each fill 64 bits in days.
    pub sum_ns: u128,
}

impl Times {
    pub(super) fn add(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += u128::from(ns);
    }

    pub(super) fn merge(&mut self, other: &Times) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
    }
}

/// Times with their distribution.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Count and exact sum.
    pub times: Times,
    /// Nanoseconds.
    pub hist: Histogram<u64>,
}

impl Spread {
    pub(super) fn new(hist: Histogram<u64>) -> Spread {
        Spread { times: Times::default(), hist }
    }

    /// With the bounds of a whole answer's time.
    pub(super) fn wide() -> Spread {
        Spread::new(wide())
    }

    pub(super) fn add(&mut self, ns: u64) {
        self.times.add(ns);
        self.hist.saturating_record(ns);
    }

    /// Both sides have the same bounds, so neither the histogram's refusal nor its growth can happen.
    pub(super) fn merge(&mut self, other: &Spread) {
        self.times.merge(&other.times);
        let added = self.hist.add(&other.hist);
        debug_assert!(added.is_ok());
    }

    pub(super) fn reset(&mut self) {
        self.times = Times::default();
        self.hist.reset();
    }
}

/// What is known of one DSP.
#[derive(Clone, Debug)]
pub(super) struct DspCounts {
    pub(super) asked: u64,
    pub(super) outcomes: [u64; Outcome::ALL.len()],
    pub(super) wins: u64,
    pub(super) charge_nanos: i128,
    pub(super) elapsed: Spread,
    pub(super) pool_wait: Times,
    /// Its breaker opened so often.
    pub(super) opened: u64,
    /// By how much its levels have changed: the sum of all is how they stand.
    pub(super) levels: [i64; DspLevel::COUNT],
}

impl DspCounts {
    fn new() -> DspCounts {
        DspCounts {
            asked: 0,
            outcomes: [0; Outcome::ALL.len()],
            wins: 0,
            charge_nanos: 0,
            elapsed: Spread::new(narrow()),
            pool_wait: Times::default(),
            opened: 0,
            levels: [0; DspLevel::COUNT],
        }
    }

    fn merge(&mut self, other: &DspCounts) {
        self.asked += other.asked;
        add_all(&mut self.outcomes, &other.outcomes);
        self.wins += other.wins;
        self.charge_nanos += other.charge_nanos;
        self.elapsed.merge(&other.elapsed);
        self.pool_wait.merge(&other.pool_wait);
        self.opened += other.opened;
        for (to, from) in self.levels.iter_mut().zip(&other.levels) {
            *to += from;
        }
    }

    fn reset(&mut self) {
        self.asked = 0;
        self.outcomes.fill(0);
        self.wins = 0;
        self.charge_nanos = 0;
        self.elapsed.reset();
        self.pool_wait = Times::default();
        self.opened = 0;
        self.levels.fill(0);
    }
}

fn add_all(to: &mut [u64], from: &[u64]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t += f;
    }
}

/// One core's counts since the last time they were handed over. Made at boot, reset in place.
#[derive(Clone, Debug)]
pub struct CoreMetrics {
    pub(super) counters: [u64; Counter::COUNT],
    pub(super) gauges: [u64; Gauge::COUNT],
    pub(super) answers: [u64; AnswerKind::COUNT],
    pub(super) refusals: [u64; Refusal::COUNT],
    pub(super) losses: [u64; LossReason::COUNT],
    pub(super) deliveries: [u64; Delivered::COUNT],
    pub(super) stages: [Times; Stage::COUNT],
    pub(super) latency: Spread,
    pub(super) own: Spread,
    /// One more than was asked for: the last is everybody else's.
    pub(super) dsps: Vec<DspCounts>,
}

impl CoreMetrics {
    /// Rows for `dsps` DSPs and one that all others share. About 40 KB and 12 KB per DSP.
    pub fn new(dsps: usize) -> CoreMetrics {
        CoreMetrics {
            counters: [0; Counter::COUNT],
            gauges: [0; Gauge::COUNT],
            answers: [0; AnswerKind::COUNT],
            refusals: [0; Refusal::COUNT],
            losses: [0; LossReason::COUNT],
            deliveries: [0; Delivered::COUNT],
            stages: [Times::default(); Stage::COUNT],
            latency: Spread::wide(),
            own: Spread::wide(),
            dsps: (0..=dsps).map(|_| DspCounts::new()).collect(),
        }
    }

    /// Counts one.
    #[inline]
    pub fn count(&mut self, c: Counter) {
        self.add(c, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&mut self, c: Counter, n: u64) {
        self.counters[c as usize] += n;
    }

    /// Sets a level. Levels stay through [`CoreMetrics::reset`].
    #[inline]
    pub fn gauge(&mut self, g: Gauge, v: u64) {
        self.gauges[g as usize] = v;
    }

    /// A client was answered `latency_ns` after the first byte of its request, of which `own_ns` were not spent
    /// waiting for DSPs. The times of bids and no-bids are kept, those of other answers are not
    /// ([`AnswerKind::timed`]).
    #[inline]
    pub fn answer(&mut self, a: AnswerKind, latency_ns: u64, own_ns: u64) {
        self.answers[a as usize] += 1;
        if a.timed() {
            self.latency.add(latency_ns);
            self.own.add(own_ns);
        }
    }

    /// A stage of one auction took this long.
    #[inline]
    pub fn stage(&mut self, s: Stage, ns: u64) {
        self.stages[s as usize].add(ns);
    }

    /// A request was meant for this DSP. Here and below, `d` is the DSP's row ([`super::slots::DspSlots`]).
    #[inline]
    pub fn dsp_asked(&mut self, d: DspIx) {
        self.dsp(d).asked += 1;
    }

    /// What became of it, `elapsed_ns` after it was asked. The time is kept when something was sent.
    #[inline]
    pub fn dsp_outcome(&mut self, d: DspIx, o: Outcome, elapsed_ns: u64) {
        let dsp = self.dsp(d);
        dsp.outcomes[o as usize] += 1;
        let never_sent = matches!(
            o,
            Outcome::NotEligible
                | Outcome::NoTime
                | Outcome::PoolExhausted
                | Outcome::ConnectRefused
                | Outcome::TlsFailed
                | Outcome::Internal
                | Outcome::BreakerOpen
                | Outcome::InFlight
                | Outcome::Throttled
                | Outcome::Unawaited
                | Outcome::Troubled
                | Outcome::OptimisedAway
                | Outcome::NotTargeted
                | Outcome::NotChosen
                | Outcome::Quota
        );
        if !never_sent {
            dsp.elapsed.add(elapsed_ns);
        }
    }

    /// The DSP won `n` impressions of an auction and is charged this much for them.
    #[inline]
    pub fn dsp_won(&mut self, d: DspIx, n: u64, charge_nanos: i64) {
        let dsp = self.dsp(d);
        dsp.wins += n;
        dsp.charge_nanos += i128::from(charge_nanos);
    }

    /// A request waited this long for a connection.
    #[inline]
    pub fn pool_wait(&mut self, d: DspIx, ns: u64) {
        self.dsp(d).pool_wait.add(ns);
    }

    /// The DSP's breaker opened so often.
    pub fn breaker(&mut self, d: DspIx, opened: u64) {
        self.dsp(d).opened += opened;
    }

    /// A level of the DSP on this core changed by so much.
    pub fn dsp_level(&mut self, d: DspIx, level: DspLevel, by: i64) {
        self.dsp(d).levels[level as usize] += by;
    }

    /// A bid lost. `Won` is not counted.
    #[inline]
    pub fn loss(&mut self, l: Loss) {
        self.losses(l, 1);
    }

    /// So many bids lost for one reason.
    #[inline]
    pub fn losses(&mut self, l: Loss, n: u64) {
        if let Some(reason) = LossReason::of(l) {
            self.losses[reason as usize] += n;
        }
    }

    /// A request got no bid, or no reading.
    #[inline]
    pub fn refusal(&mut self, r: Refusal) {
        self.refusals[r as usize] += 1;
    }

    /// What became of an auction's answer.
    #[inline]
    pub fn delivery(&mut self, d: Delivered) {
        self.deliveries[d as usize] += 1;
    }

    /// Everything but levels to zero, in place.
    pub fn reset(&mut self) {
        self.counters.fill(0);
        self.answers.fill(0);
        self.refusals.fill(0);
        self.losses.fill(0);
        self.deliveries.fill(0);
        self.stages.fill(Times::default());
        self.latency.reset();
        self.own.reset();
        self.dsps.iter_mut().for_each(DspCounts::reset);
    }

    /// Takes over another delta's levels: a core that goes on with another box has not changed its levels.
    pub fn carry_gauges(&mut self, from: &CoreMetrics) {
        self.gauges = from.gauges;
    }

    /// Adds everything but levels. Rows that this one lacks are added to its shared last row.
    pub(super) fn merge(&mut self, other: &CoreMetrics) {
        add_all(&mut self.counters, &other.counters);
        add_all(&mut self.answers, &other.answers);
        add_all(&mut self.refusals, &other.refusals);
        add_all(&mut self.losses, &other.losses);
        add_all(&mut self.deliveries, &other.deliveries);
        for (t, o) in self.stages.iter_mut().zip(&other.stages) {
            t.merge(o);
        }
        self.latency.merge(&other.latency);
        self.own.merge(&other.own);
        let shared = other.dsps.len() - 1;
        for (i, o) in other.dsps.iter().enumerate() {
            let row = if i == shared { usize::from(u16::MAX) } else { i };
            self.dsp(DspIx(row as u16)).merge(o);
        }
    }

    fn dsp(&mut self, d: DspIx) -> &mut DspCounts {
        let last = self.dsps.len() - 1; // there is always the shared one
        &mut self.dsps[usize::from(d.0).min(last)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_win_is_no_loss() {
        let mut m = CoreMetrics::new(0);
        m.loss(Loss::Won);
        assert_eq!(m.losses, [0; LossReason::COUNT]);
        m.loss(Loss::NoFunds);
        assert_eq!(m.losses[LossReason::NoFunds as usize], 1);
    }

    #[test]
    fn no_value_is_refused_and_no_histogram_grows() {
        let mut m = CoreMetrics::new(1);
        let cells = (m.latency.hist.distinct_values(), m.dsps[0].elapsed.hist.distinct_values());
        for ns in [0, 1, 1 << 20, u64::MAX] {
            m.answer(AnswerKind::Bid, ns, ns);
            m.dsp_outcome(DspIx(0), Outcome::Bid, ns);
        }
        assert_eq!(cells, (m.latency.hist.distinct_values(), m.dsps[0].elapsed.hist.distinct_values()));
        assert_eq!(m.latency.times.count, 4);
        assert_eq!(m.latency.hist.len(), 4);
        assert_eq!(m.latency.times.sum_ns, 1 + (1 << 20) + u128::from(u64::MAX));
    }

    #[test]
    fn reset_keeps_levels_and_nothing_else() {
        let mut m = CoreMetrics::new(1);
        m.gauge(Gauge::ConnectionsOpen, 7);
        m.count(Counter::Auctions);
        m.answer(AnswerKind::NoBid, 10, 10);
        m.dsp_asked(DspIx(0));
        m.pool_wait(DspIx(9), 5);
        m.reset();
        assert_eq!(m.gauges[Gauge::ConnectionsOpen as usize], 7);
        assert_eq!(m.counters, [0; Counter::COUNT]);
        assert_eq!(m.latency.hist.len(), 0);
        assert!(m.dsps.iter().all(|d| d.asked == 0 && d.pool_wait == Times::default()));
    }

    #[test]
    fn only_auctions_are_timed() {
        let mut m = CoreMetrics::new(0);
        for a in AnswerKind::ALL {
            m.answer(*a, 1, 1);
        }
        assert_eq!(m.latency.times.count, 2);
        assert_eq!(m.answers, [1; AnswerKind::COUNT]);
    }
}
