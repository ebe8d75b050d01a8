//! The flush core: where N cores become one machine: their metrics one table, their records one journal.
//! Owns: the totals, its ends of the rings. Runs on: the flush thread ([`run`]), or a test's thread in virtual time.
//! Called by: `run`. Never: blocks, reads a clock, makes a bidder core wait. The journal is [`keeper`]'s.
//! Full: a totals box that is not back yet means control gets the next second's; nothing is lost, totals only grow.
pub mod delta;
pub mod keeper;
#[cfg(test)]
mod keeper_tests;
pub mod opening;
pub mod run;

use crate::wiring::{FlushEnds, FlushLane, FlushNoticeEnds, WiringError};
use outcry::{
    budget::event::Note,
    limits::{DELTAS_PER_CORE, TOTALS_BOXES},
    messages::{ControlToFlush, FlushToControl, FromFlush, ToFlush},
    notice::told::Name,
    record::{
        configured::Configured,
        stopped::{Stopped, Why},
        totals::Totals,
    },
    units::Now,
};
use std::collections::VecDeque;

/// Deltas merged in one turn. One costs about 10 us; so a turn stays below a millisecond, and 256 cores that all
/// report at once are done in four.
pub const DELTAS_PER_TURN: usize = 64;
/// After the order to stop, the last counts of the raw stream's thread are waited for this long: its disk may hang, and
/// nobody else is to wait for that.
pub const RAW_PATIENCE_NS: u64 = 500_000_000;
/// Totals go to control about this often.
pub const TOTALS_PERIOD_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Running,
    /// Every bidder core has ended: empty the rings.
    Stopping {
        why: Why,
        unfinished: u32,
    },
    /// The rings are empty, the last totals are sent.
    Told,
    Finished,
}

/// The flush core's work, one turn at a time.
#[derive(Debug)]
pub struct FlushRole {
    ends: FlushEnds,
    totals: Totals,
    #[expect(clippy::vec_box, reason = "the boxes are what goes back and forth")]
    boxes: Vec<Box<Totals>>,
    due_ns: u64,
    next_lane: usize,
    phase: Phase,
    /// Something else on this thread is not at its end yet.
    held: bool,
    configured: VecDeque<Box<Configured>>,
    notes: VecDeque<Note>,
    replays: VecDeque<(Name, Vec<u8>)>,
    /// What the cores were told of the disk.
    disk_full: bool,
    /// The raw stream is waited for until then; 0: not yet.
    raw_until_ns: u64,
}

impl FlushRole {
    /// Rows for `dsps` DSPs, as in the cores' boxes.
    pub fn new(ends: FlushEnds, dsps: usize, now: Now) -> Result<FlushRole, WiringError> {
        ends.check()?;
        let cores = ends.lanes.len();
        Ok(FlushRole {
            ends,
            totals: Totals::new(cores, dsps),
            boxes: (0..TOTALS_BOXES).map(|_| Box::new(Totals::new(cores, dsps))).collect(),
            due_ns: now.boot_ns + TOTALS_PERIOD_NS,
            next_lane: 0,
            phase: Phase::Running,
            held: false,
            configured: VecDeque::new(),
            notes: VecDeque::new(),
            replays: VecDeque::new(),
            disk_full: false,
            raw_until_ns: 0,
        })
    }

    /// Takes a bounded number of messages and passes on what is due. Returns the number of messages moved; at
    /// [`DELTAS_PER_TURN`] or more there may be others waiting.
    pub fn turn(&mut self, now: Now) -> usize {
        let mut work = self.take_orders();
        let deltas = self.merge_deltas();
        work += deltas;
        let raw_over = self.raw_is_over(now);
        match self.phase {
            Phase::Running if now.boot_ns >= self.due_ns => {
                self.due_ns = now.boot_ns + TOTALS_PERIOD_NS;
                work += usize::from(self.send_totals());
            }
            // A full turn may have left something; an unfull one has seen every lane empty, and no core is there to
            // send more.
            Phase::Stopping { .. } if deltas < DELTAS_PER_TURN && !self.held && raw_over => {
                if self.boxes.is_empty() {
                    self.boxes.push(Box::new(self.totals.clone()));
                }
                if self.send_totals() {
                    self.phase = Phase::Told;
                    work += 1;
                }
            }
            Phase::Told if self.ends.to_control.push(FlushToControl::Stopped).is_ok() => {
                self.phase = Phase::Finished;
                work += 1;
            }
            _ => {}
        }
        work
    }

    /// Has everything been passed on after the order to stop?
    pub fn finished(&self) -> bool {
        // Nobody to hand anything to is an end too: control is gone for good only when the process goes down.
        self.phase == Phase::Finished || (self.phase != Phase::Running && self.ends.to_control.is_abandoned())
    }

    /// Has the order to stop come? Then what is left to do takes some turns.
    pub fn is_ending(&self) -> bool {
        self.phase != Phase::Running
    }

    /// Has the order to stop come since the last turn? Between turns, so that it is not slept through.
    pub fn is_told_to_end(&mut self) -> bool {
        let before = self.is_ending();
        self.take_orders();
        self.is_ending() && !before
    }

    /// Has the order to stop come? Then every bidder core has ended.
    pub fn stopping(&self, now: Now) -> Option<Stopped> {
        match self.phase {
            Phase::Stopping { why, unfinished } => Some(Stopped { wall_ms: now.unix_ms(), why, unfinished }),
            Phase::Running | Phase::Told | Phase::Finished => None,
        }
    }

    /// `true`: it is not said that flush has ended, nor are the last totals sent, until this is taken back.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The ends by which DSPs are told of notices: whoever acts on notices has them.
    pub fn take_notice_ends(&mut self) -> Vec<FlushNoticeEnds> {
        std::mem::take(&mut self.ends.notices)
    }

    /// A configuration that came into force, to be recorded.
    pub fn take_configured(&mut self) -> Option<Box<Configured>> {
        self.configured.pop_front()
    }

    /// A note on money, to be recorded.
    pub fn take_note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// A DSP that is to be told of a notice once more.
    pub fn take_replay(&mut self) -> Option<(Name, Vec<u8>)> {
        self.replays.pop_front()
    }

    /// No records are kept.
    pub fn forget_records(&mut self) {
        self.configured.clear();
        self.notes.clear();
        self.replays.clear();
    }

    /// Where what this thread knows of the journal is shown.
    pub fn totals_mut(&mut self) -> &mut Totals {
        &mut self.totals
    }

    /// Tells every core that the journal's disk is full, or is not any more; at most as often as they look.
    pub fn tell_disk_full(&mut self, full: bool) {
        if self.disk_full == full || self.ends.lanes.iter().any(|l| l.to_core.slots() < 2 + DELTAS_PER_CORE - 1) {
            return;
        }
        self.disk_full = full;
        for lane in &mut self.ends.lanes {
            let told = lane.to_core.push(FromFlush::DiskFull(full));
            debug_assert!(told.is_ok());
        }
    }

    /// After the order to stop: nothing is to be waited for of the raw stream any more. Asked once its lane was looked at.
    fn raw_is_over(&mut self, now: Now) -> bool {
        if self.phase == Phase::Running {
            return false;
        }
        if self.raw_until_ns == 0 {
            self.raw_until_ns = now.boot_ns + RAW_PATIENCE_NS;
        }
        let lane = &self.ends.raw.from_core;
        (lane.is_abandoned() && lane.is_empty()) || now.boot_ns >= self.raw_until_ns
    }

    fn take_orders(&mut self) -> usize {
        let mut work = 0;
        // The ring is a few slots long, so this ends.
        while let Ok(order) = self.ends.from_control.pop() {
            work += 1;
            match order {
                ControlToFlush::Empty(totals) => self.boxes.push(totals),
                ControlToFlush::Configured(configured) => self.configured.push_back(configured),
                ControlToFlush::Noted(notes) => self.notes.extend(notes.0),
                ControlToFlush::Replay(replays) => self.replays.extend(*replays),
                ControlToFlush::Stop { why, unfinished } if self.phase == Phase::Running => {
                    self.phase = Phase::Stopping { why, unfinished };
                }
                ControlToFlush::Stop { .. } => {}
            }
        }
        work
    }

    /// Round robin over the lanes, so that a bound reached early leaves nobody out twice.
    fn merge_deltas(&mut self) -> usize {
        let (mut merged, lanes) = (0, self.ends.lanes.len());
        let first = self.next_lane;
        for i in 0..lanes {
            let at = (first + i) % lanes;
            while merged < DELTAS_PER_TURN && merge_one(&mut self.ends.lanes[at], &mut self.totals) {
                merged += 1;
            }
            if merged == DELTAS_PER_TURN {
                self.next_lane = (at + 1) % lanes;
                break;
            }
        }
        // One a second, from a thread that holds two boxes.
        merged + usize::from(merge_one(&mut self.ends.raw, &mut self.totals))
    }

    fn send_totals(&mut self) -> bool {
        if self.ends.to_control.is_full() {
            return false;
        }
        let Some(mut totals) = self.boxes.pop() else { return false };
        totals.copy_from(&self.totals);
        self.ends.to_control.push(FlushToControl::Totals(totals)).is_ok()
    }
}

fn merge_one(lane: &mut FlushLane, totals: &mut Totals) -> bool {
    let Ok(ToFlush::Metrics(mut delta)) = lane.from_core.pop() else { return false };
    totals.merge(lane.core, &delta);
    delta.reset();
    // There is a slot for every box; when the core has ended, its box ends here.
    let returned = lane.to_core.push(FromFlush::Empty(delta));
    debug_assert!(returned.is_ok());
    true
}

#[cfg(test)]
mod tests {
    use super::{delta::DeltaLane, *};
    use crate::wiring::{BidderEnds, ControlEnds, wire};
    use outcry::record::{
        labels::{Counter, Gauge},
        table::Fold,
    };

    const S: u64 = 1_000_000_000;
    const STOP: ControlToFlush = ControlToFlush::Stop { why: Why::Asked, unfinished: 0 };

    fn at(boot_ns: u64) -> Now {
        Now { boot_ns, wall_offset_ns: 0 }
    }

    fn machine(cores: usize) -> (Vec<DeltaLane>, FlushRole, ControlEnds) {
        let w = wire(cores).unwrap();
        let lane = |b: BidderEnds| DeltaLane::new(b.to_flush, b.from_flush, 2, at(0));
        let flush = FlushRole::new(w.flush, 2, at(0)).unwrap();
        (w.bidders.into_iter().map(lane).collect(), flush, w.control)
    }

    fn totals(control: &mut ControlEnds) -> Option<Box<Totals>> {
        match control.from_flush.pop() {
            Ok(FlushToControl::Totals(t)) => Some(t),
            _ => None,
        }
    }

    #[test]
    fn a_count_on_a_core_is_in_the_totals_within_two_seconds() {
        let (mut lanes, mut flush, mut control) = machine(2);
        for (i, lane) in lanes.iter_mut().enumerate() {
            assert!(!lane.due(at(S - 1)));
            lane.probe().add(Counter::Auctions, 10 + i as u64);
            lane.probe().gauge(Gauge::ConnectionsOpen, 4);
            assert!(lane.due(at(S)) && lane.hand_over(at(S)));
        }
        assert_eq!(flush.turn(at(S - 1)), 2);
        assert!(totals(&mut control).is_none());
        assert_eq!(flush.turn(at(S)), 1);
        let t = totals(&mut control).unwrap();
        assert_eq!(t.counter(Counter::Auctions), 21);
        assert_eq!(t.gauge(Gauge::ConnectionsOpen, Fold::Sum), 8);
        assert_eq!(flush.turn(at(S + 1)), 0);
    }

    #[test]
    fn a_core_that_gets_no_box_back_goes_on_counting_and_loses_nothing() {
        let (mut lanes, mut flush, mut control) = machine(1);
        let lane = &mut lanes[0];
        let mut handed = 0;
        for second in 1..=5 {
            lane.probe().count(Counter::Auctions);
            handed += usize::from(lane.hand_over(at(second * S)));
        }
        assert_eq!(handed, 1, "one box left, the other is in hand");
        flush.turn(at(5 * S));
        assert!(lane.hand_over(at(6 * S)));
        flush.turn(at(7 * S));
        let first = totals(&mut control).unwrap();
        assert_eq!(first.counter(Counter::Auctions), 1);
        let t = totals(&mut control).unwrap();
        assert_eq!(t.counter(Counter::Auctions), 5);
        assert_eq!(t.counter(Counter::RingFullFlush), 4);
    }

    #[test]
    fn levels_stay_when_the_box_changes() {
        let (mut lanes, mut flush, mut control) = machine(1);
        lanes[0].probe().gauge(Gauge::DspIdle, 9);
        for second in 1..=4 {
            lanes[0].hand_over(at(second * S));
            flush.turn(at(second * S));
            let t = totals(&mut control).unwrap();
            assert_eq!(t.gauge(Gauge::DspIdle, Fold::Sum), 9, "second {second}");
            control.to_flush.push(ControlToFlush::Empty(t)).unwrap();
        }
    }

    #[test]
    fn a_slow_control_gets_fewer_totals_but_the_newest() {
        let (mut lanes, mut flush, mut control) = machine(1);
        for second in 1..=9 {
            lanes[0].probe().count(Counter::Auctions);
            lanes[0].hand_over(at(second * S));
            flush.turn(at(second * S));
        }
        let stale = [totals(&mut control).unwrap(), totals(&mut control).unwrap()];
        assert!(totals(&mut control).is_none());
        assert_eq!(stale.map(|t| t.counter(Counter::Auctions)), [1, 2]);
        control.to_flush.push(ControlToFlush::Empty(Box::new(Totals::new(1, 2)))).unwrap();
        flush.turn(at(10 * S));
        assert_eq!(totals(&mut control).unwrap().counter(Counter::Auctions), 9);
    }

    #[test]
    fn a_turn_is_bounded_and_leaves_nobody_out() {
        let (mut lanes, mut flush, _control) = machine(100);
        for lane in &mut lanes {
            lane.hand_over(at(1));
        }
        assert_eq!(flush.turn(at(1)), DELTAS_PER_TURN);
        assert_eq!(flush.turn(at(1)), 100 - DELTAS_PER_TURN);
        assert!((0..100).all(|core| flush.totals.deltas(core) == 1));
    }

    #[test]
    fn the_last_turns_empty_the_rings_before_they_say_stopped() {
        let (mut lanes, mut flush, mut control) = machine(100);
        for mut lane in lanes.drain(..) {
            lane.probe().count(Counter::Auctions);
            lane.finish();
        }
        control.to_flush.push(STOP).unwrap();
        let mut turns = 0;
        while !flush.finished() {
            flush.turn(at(1));
            turns += 1;
            assert!(turns < 10);
        }
        assert_eq!(totals(&mut control).unwrap().counter(Counter::Auctions), 100);
        assert!(matches!(control.from_flush.pop(), Ok(FlushToControl::Stopped)));
    }

    #[test]
    fn the_last_totals_are_sent_even_when_every_box_is_away() {
        let (mut lanes, mut flush, mut control) = machine(1);
        flush.turn(at(S));
        flush.turn(at(2 * S));
        lanes[0].probe().count(Counter::Auctions);
        lanes.remove(0).finish();
        control.to_flush.push(STOP).unwrap();
        for _ in 0..3 {
            flush.turn(at(2 * S));
        }
        let last = std::iter::from_fn(|| totals(&mut control)).last().unwrap();
        assert_eq!(last.counter(Counter::Auctions), 1);
        while !flush.finished() {
            flush.turn(at(2 * S));
        }
    }

    #[test]
    fn permuted_lanes_are_refused() {
        let mut w = wire(2).unwrap();
        w.flush.lanes.swap(0, 1);
        assert!(FlushRole::new(w.flush, 1, at(0)).is_err());
    }
}
