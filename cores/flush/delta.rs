//! The bidder core's side of the metrics: counts into one box while the other is with flush.
//! Owns: the core's boxes and its ends of the two rings. Runs on: each bidder core.
//! Called by: `bidder`. Never: allocates after [`DeltaLane::new`], waits, loses a count.
//! Full: when no empty box has come back it goes on counting into the one it has.
use outcry::{
    limits::DELTAS_PER_CORE,
    messages::{FromFlush, ToFlush},
    record::{labels::Counter, metrics::CoreMetrics},
    units::Now,
};
use rtrb::{Consumer, Producer, PushError};

/// A delta leaves about this often.
pub const PERIOD_NS: u64 = 1_000_000_000;

const _: () = assert!(DELTAS_PER_CORE == 2, "one in hand, one away");

/// One core's metrics and the way they leave it.
#[derive(Debug)]
pub struct DeltaLane {
    current: Box<CoreMetrics>,
    spare: Option<Box<CoreMetrics>>,
    out: Producer<ToFlush>,
    back: Consumer<FromFlush>,
    disk_full: bool,
    due_ns: u64,
}

impl DeltaLane {
    /// Makes the core's boxes, with rows for `dsps` DSPs. Call it on the core itself: memory is touched first there.
    pub fn new(out: Producer<ToFlush>, back: Consumer<FromFlush>, dsps: usize, now: Now) -> DeltaLane {
        DeltaLane {
            current: Box::new(CoreMetrics::new(dsps)),
            spare: Some(Box::new(CoreMetrics::new(dsps))),
            out,
            back,
            disk_full: false,
            due_ns: now.boot_ns + PERIOD_NS,
        }
    }

    /// Where everything is counted.
    #[inline]
    pub fn probe(&mut self) -> &mut CoreMetrics {
        &mut self.current
    }

    /// Is it time to set the levels and hand over? Asked once per loop turn; nothing but a comparison.
    #[inline]
    pub fn due(&self, now: Now) -> bool {
        now.boot_ns >= self.due_ns
    }

    /// Sends what was counted, if an empty box is there to go on with. Says whether it did.
    pub fn hand_over(&mut self, now: Now) -> bool {
        self.due_ns = now.boot_ns + PERIOD_NS;
        while let Ok(message) = self.back.pop() {
            match message {
                FromFlush::Empty(empty) => self.spare = Some(empty),
                FromFlush::DiskFull(full) => self.disk_full = full,
            }
        }
        let Some(mut next) = self.spare.take() else {
            self.current.count(Counter::RingFullFlush);
            return false;
        };
        next.carry_gauges(&self.current);
        let full = std::mem::replace(&mut self.current, next);
        match self.out.push(ToFlush::Metrics(full)) {
            Ok(()) => true,
            Err(PushError::Full(ToFlush::Metrics(full))) => {
                self.spare = Some(std::mem::replace(&mut self.current, full));
                self.current.count(Counter::RingFullFlush);
                false
            }
        }
    }

    /// What flush said last of the journal's disk.
    pub fn disk_full(&self) -> bool {
        self.disk_full
    }

    /// Sends the last counts: after this nothing is counted any more. To be called before
    /// [`outcry::messages::FromCore::Drained`], which lets control stop flush.
    pub fn finish(mut self) {
        // With two boxes and two slots there is room; if there were not, a second of metrics would be missing.
        let _ = self.out.push(ToFlush::Metrics(self.current));
    }
}
