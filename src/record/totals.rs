//! All cores' counts since the start, merged: what one machine did.
//! Owns: one [`CoreMetrics`] as the sum, each core's last levels. Runs on: flush merges; control reads a copy.
//! Called by: `flush`, `control`, the demo's table. Never: grows after [`Totals::new`].
use super::{
    labels::{AnswerKind, Counter, Delivered, DspLevel, DspResult, Gauge, Journal, LossReason, Refusal, Stage},
    metrics::{CoreMetrics, Spread, Times},
    table::Fold,
};
use crate::{openrtb::codes::Outcome, units::DspIx};
use hdrhistogram::Histogram;

/// The sum over cores and time.
#[derive(Clone, Debug)]
pub struct Totals {
    pub(super) sum: CoreMetrics,
    /// Per core: deltas merged, and the levels of the last.
    cores: Vec<(u64, [u64; Gauge::COUNT])>,
    journal: [u64; Journal::COUNT],
    pub(super) commits: Spread,
}

/// One DSP in a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DspRow {
    /// Requests meant for it.
    pub asked: u64,
    /// Answers with a bid.
    pub bids: u64,
    /// Answers without one.
    pub no_bids: u64,
    /// No whole answer in time.
    pub late: u64,
    /// Unreachable, broken or wrong.
    pub errors: u64,
    /// Not asked after all.
    pub not_asked: u64,
    /// Impressions won.
    pub wins: u64,
    /// Charged for them, in nano-units of the accounting currency.
    pub charge_nanos: i128,
    /// Half of its outcomes came within this.
    pub p50_ns: u64,
    /// 99 of 100 came within this.
    pub p99_ns: u64,
}

impl Totals {
    /// For this many cores and DSPs; further DSPs share a row, further cores are not counted.
    pub fn new(cores: usize, dsps: usize) -> Totals {
        Totals {
            sum: CoreMetrics::new(dsps),
            cores: vec![(0, [0; Gauge::COUNT]); cores],
            journal: [0; Journal::COUNT],
            commits: Spread::wide(),
        }
    }

    /// Adds one core's delta; its levels replace those it sent before.
    pub fn merge(&mut self, core: u16, delta: &CoreMetrics) {
        self.sum.merge(delta);
        if let Some((deltas, levels)) = self.cores.get_mut(usize::from(core)) {
            *deltas += 1;
            *levels = delta.gauges;
        }
    }

    /// Adds the counts of a thread that is no bidder core and has no levels.
    pub fn merge_other(&mut self, delta: &CoreMetrics) {
        self.sum.merge(delta);
    }

    /// Becomes equal to `other`, in place.
    pub fn copy_from(&mut self, other: &Totals) {
        self.sum.reset();
        self.sum.merge(&other.sum);
        self.cores.clone_from(&other.cores);
        self.journal = other.journal;
        self.commits.reset();
        self.commits.merge(&other.commits);
    }

    /// Flush says how the journal stands: counts since the start, levels of now.
    pub fn set_journal(&mut self, j: Journal, value: u64) {
        self.journal[j as usize] = value;
    }

    /// The oldest record of a commit was this old when it was on disk.
    pub fn commit(&mut self, ns: u64) {
        self.commits.add(ns);
    }

    /// How the journal stands.
    pub fn journal(&self, j: Journal) -> u64 {
        self.journal[j as usize]
    }

    /// Nanoseconds from a record to the disk: the oldest of each commit and core.
    pub fn commits(&self) -> &Histogram<u64> {
        &self.commits.hist
    }

    /// Deltas that came from a core: one that stands still has a core behind it that stands still.
    pub fn deltas(&self, core: u16) -> u64 {
        self.cores.get(usize::from(core)).map_or(0, |c| c.0)
    }

    /// Cores that have reported.
    pub fn cores_seen(&self) -> u64 {
        self.cores.iter().filter(|c| c.0 > 0).count() as u64
    }

    /// A counter.
    pub fn counter(&self, c: Counter) -> u64 {
        self.sum.counters[c as usize]
    }

    /// A level over all cores that have reported; 0 when none has.
    pub fn gauge(&self, g: Gauge, fold: Fold) -> u64 {
        let levels = self.cores.iter().filter(|c| c.0 > 0).map(|c| c.1[g as usize]);
        match fold {
            Fold::Sum => levels.sum(),
            Fold::Max => levels.max().unwrap_or(0),
            Fold::Min => levels.min().unwrap_or(0),
        }
    }

    /// Answers of a kind.
    pub fn answers(&self, a: AnswerKind) -> u64 {
        self.sum.answers[a as usize]
    }

    /// Answers of all kinds.
    pub fn answers_all(&self) -> u64 {
        self.sum.answers.iter().sum()
    }

    /// Refusals for a reason.
    pub fn refusals(&self, r: Refusal) -> u64 {
        self.sum.refusals[r as usize]
    }

    /// Bids lost for a reason.
    pub fn losses(&self, l: LossReason) -> u64 {
        self.sum.losses[l as usize]
    }

    /// Answers that ended in this way.
    pub fn deliveries(&self, d: Delivered) -> u64 {
        self.sum.deliveries[d as usize]
    }

    /// Times of a stage.
    pub fn stage(&self, s: Stage) -> Times {
        self.sum.stages[s as usize]
    }

    /// Nanoseconds from the first byte of a request to its answer, auctions only.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.sum.latency.hist
    }

    /// The same less the waiting for DSPs.
    pub fn own(&self) -> &Histogram<u64> {
        &self.sum.own.hist
    }

    /// Nanoseconds from asking a DSP to its outcome.
    pub fn dsp_elapsed(&self, i: usize) -> Option<&Histogram<u64>> {
        self.sum.dsps.get(i).map(|d| &d.elapsed.hist)
    }

    /// How often asking the DSP in row `i` ended so.
    pub fn dsp_outcome(&self, i: usize, o: Outcome) -> u64 {
        self.sum.dsps.get(i).map_or(0, |d| d.outcomes[o as usize])
    }

    /// How often the breaker of the DSP in row `i` opened.
    pub fn dsp_opened(&self, i: usize) -> u64 {
        self.sum.dsps.get(i).map_or(0, |d| d.opened)
    }

    /// A level of the DSP in row `i`, summed over all cores.
    pub fn dsp_level(&self, i: usize, level: DspLevel) -> u64 {
        self.sum.dsps.get(i).map_or(0, |d| d.levels[level as usize].max(0) as u64)
    }

    /// How often asking any DSP ended so.
    pub fn outcome(&self, o: Outcome) -> u64 {
        self.sum.dsps.iter().map(|d| d.outcomes[o as usize]).sum()
    }

    /// Rows of DSPs, the shared last one among them.
    pub fn dsp_rows(&self) -> usize {
        self.sum.dsps.len()
    }

    /// A DSP for a table; zeros for a row that does not exist.
    pub fn dsp_row(&self, i: usize) -> DspRow {
        let Some(d) = self.sum.dsps.get(i) else { return DspRow::default() };
        let mut row = DspRow {
            asked: d.asked,
            wins: d.wins,
            charge_nanos: d.charge_nanos,
            p50_ns: d.elapsed.hist.value_at_quantile(0.5),
            p99_ns: d.elapsed.hist.value_at_quantile(0.99),
            ..DspRow::default()
        };
        for (result, n) in self.dsp_results(DspIx(i as u16)) {
            match result {
                DspResult::Bid => row.bids += n,
                DspResult::NoBid => row.no_bids += n,
                DspResult::Late => row.late += n,
                DspResult::NotAsked => row.not_asked += n,
                r => {
                    debug_assert!(r.is_error());
                    row.errors += n;
                }
            }
        }
        row
    }

    /// Outcomes of one DSP by class; every class appears, once for each outcome in it.
    pub(super) fn dsp_results(&self, d: DspIx) -> impl Iterator<Item = (DspResult, u64)> + '_ {
        let dsp = self.sum.dsps.get(usize::from(d.0));
        Outcome::ALL.iter().map(move |o| (DspResult::of(*o), dsp.map_or(0, |d| d.outcomes[*o as usize])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_levels_are_replaced() {
        let mut totals = Totals::new(2, 1);
        let mut m = CoreMetrics::new(1);
        m.count(Counter::Auctions);
        m.gauge(Gauge::ConnectionsOpen, 5);
        m.gauge(Gauge::ConfigId, 2);
        m.answer(AnswerKind::Bid, 3_000_000, 20_000);
        m.dsp_asked(DspIx(0));
        m.dsp_outcome(DspIx(0), Outcome::Late, 70_000_000);
        m.dsp_won(DspIx(0), 2, -5);
        totals.merge(0, &m);
        m.gauge(Gauge::ConnectionsOpen, 3);
        totals.merge(0, &m);
        m.gauge(Gauge::ConfigId, 1);
        totals.merge(1, &m);
        totals.merge(9, &m); // no such core: its counts count, its levels have no place
        assert_eq!(totals.counter(Counter::Auctions), 4);
        assert_eq!(totals.gauge(Gauge::ConnectionsOpen, Fold::Sum), 6);
        assert_eq!(totals.gauge(Gauge::ConfigId, Fold::Min), 1);
        assert_eq!((totals.deltas(0), totals.deltas(1), totals.deltas(9)), (2, 1, 0));
        assert_eq!(totals.latency().len(), 4);
        let row = totals.dsp_row(0);
        assert_eq!((row.asked, row.late, row.wins, row.charge_nanos), (4, 4, 8, -20));
        assert!((69_000_000..72_000_000).contains(&row.p50_ns), "{}", row.p50_ns);
    }

    #[test]
    fn rows_that_do_not_match_fall_into_the_shared_one() {
        let mut totals = Totals::new(1, 1);
        let mut m = CoreMetrics::new(3);
        for i in 0..9 {
            m.dsp_asked(DspIx(i));
        }
        totals.merge(0, &m);
        assert_eq!((totals.dsp_row(0).asked, totals.dsp_row(1).asked), (1, 8));
        // And a delta with fewer rows: its shared row is not mistaken for a DSP's own.
        let mut small = CoreMetrics::new(0);
        small.dsp_asked(DspIx(0));
        totals.merge(0, &small);
        assert_eq!((totals.dsp_row(0).asked, totals.dsp_row(1).asked), (1, 9));
    }

    #[test]
    fn a_copy_is_equal_and_leaves_nothing_behind() {
        let (mut a, mut b) = (Totals::new(1, 1), Totals::new(1, 1));
        let mut m = CoreMetrics::new(1);
        m.answer(AnswerKind::Bid, 1_000, 1_000);
        m.dsp_asked(DspIx(0));
        b.merge(0, &m);
        b.merge(0, &m);
        a.merge(0, &m);
        b.copy_from(&a);
        assert_eq!((b.latency().len(), b.dsp_row(0).asked, b.deltas(0)), (1, 1, 1));
    }
}
