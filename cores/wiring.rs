//! Creates every ring between threads and hands out its two ends; nothing else does. Who can talk to whom is this
//! screen; what they say is `outcry::messages`; how much fits is `outcry::limits`.
//! Owns: nothing, once handed out. Runs on: the main thread, at boot. Called by: `boot`.
//! Never: hands out a ring's end twice. Full: what each ring does then stands in `outcry::messages`.
use outcry::{
    budget::{CoreGrant, CoreReport, core::DirectoryBatch},
    limits,
    messages::{ControlToFlush, FlushToControl, FromCore, FromFlush, NoticeCall, ToCore, ToFlush, ToNotices},
};
use rtrb::{Consumer, Producer, RingBuffer};

/// What one bidder core holds.
#[derive(Debug)]
pub struct BidderEnds {
    /// The core these belong to, from zero.
    pub core: u16,
    /// Metric deltas out.
    pub to_flush: Producer<ToFlush>,
    /// Their boxes back.
    pub from_flush: Consumer<FromFlush>,
    /// Ready, drained, retired configurations out.
    pub to_control: Producer<FromCore>,
    /// Configurations and the order to drain in.
    pub from_control: Consumer<ToCore>,
    /// Requests and answers out, to be kept whole: frames of `outcry::record::raw`.
    pub raw: Producer<u8>,
    /// What is spent out, money in.
    pub money: CoreMoneyEnds,
    /// DSPs that are to be told in, what came of it out.
    pub notices: CoreNoticeEnds,
}

/// What a bidder core holds of its notices' rings.
#[derive(Debug)]
pub struct CoreNoticeEnds {
    /// DSPs that are to be told in.
    pub calls: Consumer<ToNotices>,
    /// What came of it out.
    pub called: Producer<Box<NoticeCall>>,
}

/// What flush holds of one bidder core's notices.
#[derive(Debug)]
pub struct FlushNoticeEnds {
    /// DSPs that are to be told out.
    pub calls: Producer<ToNotices>,
    /// What came of it in.
    pub called: Consumer<Box<NoticeCall>>,
}

/// What a bidder core holds of its money's rings.
#[derive(Debug)]
pub struct CoreMoneyEnds {
    /// What was spent and is wanted out.
    pub to_leases: Producer<CoreReport>,
    /// Grants in.
    pub from_leases: Consumer<CoreGrant>,
    /// Names of accounts in.
    pub names: Consumer<Box<DirectoryBatch>>,
    /// Their boxes back.
    pub names_back: Producer<Box<DirectoryBatch>>,
}

/// What the leases' thread holds for one bidder core.
#[derive(Debug)]
pub struct LeasesLane {
    /// The core at the other ends.
    pub core: u16,
    /// What was spent and is wanted in.
    pub from_core: Consumer<CoreReport>,
    /// Grants out.
    pub to_core: Producer<CoreGrant>,
    /// Names of accounts out.
    pub names: Producer<Box<DirectoryBatch>>,
    /// Their boxes back.
    pub names_back: Consumer<Box<DirectoryBatch>>,
}

/// What the leases' thread holds.
#[derive(Debug)]
pub struct LeasesEnds {
    /// In order of cores.
    pub lanes: Vec<LeasesLane>,
}

/// What flush holds for one bidder core.
#[derive(Debug)]
pub struct FlushLane {
    /// The core at the other ends.
    pub core: u16,
    /// Metric deltas in.
    pub from_core: Consumer<ToFlush>,
    /// Their boxes back.
    pub to_core: Producer<FromFlush>,
}

/// What the flush core holds.
#[derive(Debug)]
pub struct FlushEnds {
    /// In order of cores.
    pub lanes: Vec<FlushLane>,
    /// Notices, in order of cores.
    pub notices: Vec<FlushNoticeEnds>,
    /// Of the raw stream's thread.
    pub raw: FlushLane,
    /// Totals out.
    pub to_control: Producer<FlushToControl>,
    /// Their boxes back, and the order to stop.
    pub from_control: Consumer<ControlToFlush>,
}

/// What control holds for one bidder core.
#[derive(Debug)]
pub struct ControlLane {
    /// The core at the other ends.
    pub core: u16,
    /// Configurations and the order to drain out.
    pub to_core: Producer<ToCore>,
    /// Ready, drained, retired configurations in.
    pub from_core: Consumer<FromCore>,
}

/// What the control thread holds.
#[derive(Debug)]
pub struct ControlEnds {
    /// In order of cores.
    pub lanes: Vec<ControlLane>,
    /// The totals' boxes back, and the order to stop.
    pub to_flush: Producer<ControlToFlush>,
    /// Totals in.
    pub from_flush: Consumer<FlushToControl>,
}

/// What the thread of the raw stream holds.
#[derive(Debug)]
pub struct RawEnds {
    /// In order of cores: requests and answers in.
    pub cores: Vec<Consumer<u8>>,
    /// Metric deltas out.
    pub to_flush: Producer<ToFlush>,
    /// Their boxes back.
    pub from_flush: Consumer<FromFlush>,
}

/// Slots for what is told of the room for notices, beside the calls.
const NOTICES_FULL: usize = 8;

/// The number of the raw stream's lane: of no core, so that its counts count and its levels have no place.
pub const RAW_LANE: u16 = u16::MAX;

/// All ends of all rings.
#[derive(Debug)]
pub struct Wiring {
    /// One per bidder core, in order.
    pub bidders: Vec<BidderEnds>,
    /// For the flush core.
    pub flush: FlushEnds,
    /// For the control thread.
    pub control: ControlEnds,
    /// For the thread of the raw stream.
    pub raw: RawEnds,
    /// For the leases' thread.
    pub leases: LeasesEnds,
}

/// Ends that are not where they belong: a mistake of boot, found before the first request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WiringError {
    /// No core, or more than there may be.
    #[error("{0} bidder cores; 1 to {max} are possible", max = limits::CORES_MAX)]
    Cores(usize),
    /// The ends of one core stand in the place of another.
    #[error("the ring ends of core {core} stand in the place of core {place} on the {thread} thread")]
    Misplaced {
        /// Where that was found.
        thread: &'static str,
        /// The place.
        place: usize,
        /// What stands there.
        core: u16,
    },
}

/// Makes every ring of a process with this many bidder cores.
pub fn wire(cores: usize) -> Result<Wiring, WiringError> {
    if cores == 0 || cores > limits::CORES_MAX {
        return Err(WiringError::Cores(cores));
    }
    let (to_control, from_flush) = RingBuffer::new(limits::FLUSH_TO_CONTROL_SLOTS);
    let (to_flush, from_control) = RingBuffer::new(limits::CONTROL_TO_FLUSH_SLOTS);
    let (raw_out, raw_in) = RingBuffer::new(limits::TO_FLUSH_SLOTS);
    let (raw_box_out, raw_box_in) = RingBuffer::new(limits::FROM_FLUSH_SLOTS);
    let raw_lane = FlushLane { core: RAW_LANE, from_core: raw_in, to_core: raw_box_out };
    let mut wiring = Wiring {
        bidders: Vec::with_capacity(cores),
        flush: FlushEnds {
            lanes: Vec::with_capacity(cores),
            notices: Vec::with_capacity(cores),
            raw: raw_lane,
            to_control,
            from_control,
        },
        control: ControlEnds { lanes: Vec::with_capacity(cores), to_flush, from_flush },
        raw: RawEnds { cores: Vec::with_capacity(cores), to_flush: raw_out, from_flush: raw_box_in },
        leases: LeasesEnds { lanes: Vec::with_capacity(cores) },
    };
    for core in 0..cores as u16 {
        let (delta_out, delta_in) = RingBuffer::new(limits::TO_FLUSH_SLOTS);
        let (box_out, box_in) = RingBuffer::new(limits::FROM_FLUSH_SLOTS);
        let (order_out, order_in) = RingBuffer::new(limits::TO_CORE_SLOTS);
        let (report_out, report_in) = RingBuffer::new(limits::FROM_CORE_SLOTS);
        // Memory that nobody has written to is the system's still: where nothing is kept, this takes none.
        let (raw, raw_in) = RingBuffer::new(limits::RAW_RING_BYTES);
        let (to_leases, spent_in) = RingBuffer::new(limits::BUDGET_REPORT_SLOTS);
        let (grants_out, from_leases) = RingBuffer::new(limits::BUDGET_GRANT_SLOTS);
        let (names_out, names) = RingBuffer::new(limits::BUDGET_NAMES_SLOTS);
        let (names_back, names_home) = RingBuffer::new(limits::BUDGET_NAMES_SLOTS);
        let (calls_out, calls) = RingBuffer::new(limits::NOTICES_CALLS + NOTICES_FULL);
        let (called, called_in) = RingBuffer::new(limits::NOTICES_CALLS);
        let notices = CoreNoticeEnds { calls, called };
        wiring.flush.notices.push(FlushNoticeEnds { calls: calls_out, called: called_in });
        let money = CoreMoneyEnds { to_leases, from_leases, names, names_back };
        wiring.bidders.push(BidderEnds {
            core,
            to_flush: delta_out,
            from_flush: box_in,
            to_control: report_out,
            from_control: order_in,
            raw,
            money,
            notices,
        });
        wiring.flush.lanes.push(FlushLane { core, from_core: delta_in, to_core: box_out });
        wiring.control.lanes.push(ControlLane { core, to_core: order_out, from_core: report_in });
        wiring.raw.cores.push(raw_in);
        wiring.leases.lanes.push(LeasesLane {
            core,
            from_core: spent_in,
            to_core: grants_out,
            names: names_out,
            names_back: names_home,
        });
    }
    Ok(wiring)
}

impl BidderEnds {
    /// Refuses the ends of another core: each bidder thread asks as it starts.
    pub fn check(&self, core: u16) -> Result<(), WiringError> {
        in_order("bidder", std::iter::once(self.core), usize::from(core))
    }
}

impl FlushEnds {
    /// Refuses lanes that are not in the order of cores: totals would be booked to the wrong one.
    pub fn check(&self) -> Result<(), WiringError> {
        in_order("flush", self.lanes.iter().map(|l| l.core), 0)
    }
}

impl LeasesEnds {
    /// Refuses lanes that are not in the order of cores: one would spend what another was granted.
    pub fn check(&self) -> Result<(), WiringError> {
        in_order("leases", self.lanes.iter().map(|l| l.core), 0)
    }
}

impl ControlEnds {
    /// Refuses lanes that are not in the order of cores: a core would get another's configuration.
    pub fn check(&self) -> Result<(), WiringError> {
        in_order("control", self.lanes.iter().map(|l| l.core), 0)
    }
}

fn in_order(thread: &'static str, cores: impl Iterator<Item = u16>, first: usize) -> Result<(), WiringError> {
    for (i, core) in cores.enumerate() {
        let place = first + i;
        if usize::from(core) != place {
            return Err(WiringError::Misplaced { thread, place, core });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_meet_their_counterparts() {
        let mut w = wire(3).unwrap();
        for (core, ends) in w.bidders.iter_mut().enumerate() {
            assert_eq!(ends.check(core as u16), Ok(()));
            let (flush, control) = (&mut w.flush.lanes[core], &mut w.control.lanes[core]);
            assert!(ends.to_flush.buffer() == flush.from_core.buffer());
            assert!(ends.from_flush.buffer() == flush.to_core.buffer());
            assert!(ends.to_control.buffer() == control.from_core.buffer());
            assert!(ends.from_control.buffer() == control.to_core.buffer());
            assert!(ends.raw.buffer() == w.raw.cores[core].buffer());
        }
        assert!(w.raw.to_flush.buffer() == w.flush.raw.from_core.buffer());
        assert!(w.raw.from_flush.buffer() == w.flush.raw.to_core.buffer());
        assert!(w.flush.to_control.buffer() == w.control.from_flush.buffer());
        assert!(w.flush.from_control.buffer() == w.control.to_flush.buffer());
    }

    #[test]
    fn permuted_ends_are_refused() {
        let mut w = wire(3).unwrap();
        assert_eq!((w.flush.check(), w.control.check()), (Ok(()), Ok(())));
        w.flush.lanes.swap(0, 2);
        w.control.lanes.remove(1);
        assert_eq!(w.flush.check(), Err(WiringError::Misplaced { thread: "flush", place: 0, core: 2 }));
        assert_eq!(w.control.check(), Err(WiringError::Misplaced { thread: "control", place: 1, core: 2 }));
        assert_eq!(w.bidders[1].check(0), Err(WiringError::Misplaced { thread: "bidder", place: 0, core: 1 }));
    }

    #[test]
    fn the_number_of_cores_is_bounded() {
        assert_eq!(wire(0).unwrap_err(), WiringError::Cores(0));
        assert_eq!(wire(limits::CORES_MAX + 1).unwrap_err(), WiringError::Cores(limits::CORES_MAX + 1));
    }
}
