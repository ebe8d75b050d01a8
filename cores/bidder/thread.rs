//! The thread of a bidder core: pins itself, builds its runtime, runs the core until it is drained.
//! Owns: the thread it is called on. Called by: `boot`, on a thread made for it. Never: leaves silently; control is told
//! of readiness, of the end, and of a panic.
use super::{
    Bidder, Identity,
    io::{Core, accept},
    metronome::Metronome,
    turn::now,
};
use crate::{flush::delta::DeltaLane, wiring::BidderEnds};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, net::TcpListener};
use outcry::{
    messages::{CoreConfig, FromCore, ToCore},
    record::labels::{Counter, Gauge},
    units::{MS, Now},
};
use std::{
    cell::RefCell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    time::Duration,
};

/// Submission queue: what one turn may start before it has to hand over in between. Small: it is walked round and round
/// and stays in the cache.
const SQ_ENTRIES: u32 = 512;
/// Completion queue: at 1,000 auctions in flight a small one overflows, and that costs 18 % (measured).
const CQ_ENTRIES: u32 = 32 * 1024;
/// Ready after this even if a DSP has refused its warm connections.
const WARM_NS: u64 = 2_000 * MS;

/// What a bidder thread is given.
pub struct Seat {
    /// Its number, from zero.
    pub core: u16,
    /// The CPU it runs on.
    pub cpu: usize,
    /// Its listener: bound, listening, SO_REUSEPORT.
    pub listener: std::net::TcpListener,
    /// Its ends of the rings.
    pub ends: BidderEnds,
    /// Its copy of the configuration.
    pub config: Box<CoreConfig>,
    /// Who it is.
    pub identity: Identity,
    /// Rows for DSPs in the metrics.
    pub rows: usize,
    /// epoll instead of io_uring.
    pub epoll: bool,
    /// Setup flags that this kernel knows.
    pub ring_flags: bool,
    /// What a stop may take, nanoseconds.
    pub stop_ns: u64,
}

/// Runs a bidder core; returns when it is drained, or was lost.
pub fn run(seat: Seat) {
    // Not pinned is slower, not wrong; the plan printed at the start says where it should be.
    core_affinity::set_for_current(core_affinity::CoreId { id: seat.cpu });
    let core = seat.core;
    #[cfg(debug_assertions)]
    let seat_core = core;
    let Seat { listener, ends, config, identity, rows, epoll, ring_flags, stop_ns, .. } = seat;
    if let Err(e) = ends.check(core) {
        eprintln!("outcry: core {core}: {e}");
        return;
    }
    let BidderEnds { to_flush, from_flush, mut to_control, from_control, .. } = ends;
    // Its tasks and its sockets hold each other, so a panic alone would close none of them.
    let serving: RefCell<Weak<Core>> = RefCell::default();
    let run = || -> io::Result<()> {
        let delta = DeltaLane::new(to_flush, from_flush, rows, now());
        let bidder = Bidder::new(identity, config, rows, now());
        let mut rings = Rings {
            to_control: &mut to_control,
            from_control,
            delta: Some(delta),
            epoll,
            outbox: Vec::new(),
            ready: false,
        };
        let life = async {
            // The epoll driver wants it non-blocking; io_uring would be told "try again" by one that is.
            listener.set_nonblocking(epoll)?;
            let door = listener.try_clone()?;
            let listener = TcpListener::from_std(listener)?;
            let core = Core::new(bidder, door, epoll);
            *serving.borrow_mut() = Rc::downgrade(&core);
            let accepting = core.clone();
            monoio::spawn(async move { accept(accepting, listener).await });
            let ticking = core.clone();
            monoio::spawn(async move { tick(ticking, epoll).await });
            #[cfg(debug_assertions)]
            if std::env::var("OUTCRY_TEST_PANIC_CORE").is_ok_and(|c| c.parse() == Ok(seat_core)) {
                monoio::spawn(panic_at_reload(core.clone()));
            }
            let began_ns = now().boot_ns;
            let mut drain_until_ns = 0;
            core.turns(|core, now| rings.turn(core, now, began_ns, &mut drain_until_ns, stop_ns)).await;
            Ok::<(), io::Error>(())
        };
        if epoll {
            RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(life)
        } else {
            let mut ring = io_uring::IoUring::builder();
            if ring_flags {
                ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
            }
            ring.setup_cqsize(CQ_ENTRIES);
            RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(SQ_ENTRIES)
                .uring_builder(ring)
                .enable_timer()
                .build()?
                .block_on(life)
        }
    };
    let lost = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(e)) => format!("{e}"),
        Err(_) => "a panic; its message stands above".to_owned(),
    };
    eprintln!("outcry: core {core} is lost: {lost}");
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(core) = serving.borrow().upgrade() {
            core.abandon();
        }
    }));
    // The ring holds a handful and control empties it every few milliseconds.
    while to_control.push(FromCore::Panicked).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Wakes the core: every millisecond while anything waits, else every ten. Under io_uring by reading a timer file that
/// fires by itself: a timer of the runtime's would be set and cleared anew at every turn.
async fn tick(core: Rc<Core>, epoll: bool) {
    let mut timer = if epoll { None } else { Metronome::new().ok() };
    loop {
        let ms = if core.bidder.borrow().is_busy() || core.pressing.get() { 1 } else { 10 };
        match &mut timer {
            Some(metronome) => {
                if metronome.beat(ms).await.is_err() {
                    timer = None;
                }
            }
            None => monoio::time::sleep(Duration::from_millis(ms)).await,
        }
        core.now();
    }
}

/// For the test of what a panic does: a task of this core panics at the first reload. Debug builds alone have it; nothing
/// else that comes from outside makes a core panic.
#[cfg(debug_assertions)]
async fn panic_at_reload(core: Rc<Core>) {
    let reloaded = |core: &Core| {
        let bidder = core.bidder.borrow();
        bidder.snapshots[bidder.current].as_ref().is_some_and(|s| s.config().id > 1)
    };
    while !reloaded(&core) {
        monoio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("OUTCRY_TEST_PANIC_CORE asked for this");
}

/// A core's ends of its rings, polled at the end of each turn.
struct Rings<'a> {
    to_control: &'a mut rtrb::Producer<FromCore>,
    from_control: rtrb::Consumer<ToCore>,
    delta: Option<DeltaLane>,
    /// On epoll: a level, set with all others, because each delta has its own.
    epoll: bool,
    /// What did not fit into the ring to control yet.
    outbox: Vec<FromCore>,
    ready: bool,
}

impl Rings<'_> {
    fn turn(&mut self, core: &Rc<Core>, now: Now, began_ns: u64, drain_until_ns: &mut u64, stop_ns: u64) -> Option<()> {
        while let Ok(order) = self.from_control.pop() {
            match order {
                ToCore::Snapshot(config) => {
                    let mut bidder = core.bidder.borrow_mut();
                    // Too many in use: given back as it came, control sees its number and says so.
                    if let Err(config) = bidder.apply(config) {
                        bidder.metrics.count(Counter::ReloadsRefused);
                        self.outbox.push(FromCore::Retired(config));
                    }
                }
                ToCore::Drain => {
                    core.stop_listening();
                    core.bidder.borrow_mut().drain();
                    *drain_until_ns = now.boot_ns + stop_ns;
                }
            }
        }
        let mut bidder = core.bidder.borrow_mut();
        if let Some(config) = bidder.retired() {
            self.outbox.push(FromCore::Retired(config));
        }
        if !self.ready && (bidder.is_warm() || now.boot_ns - began_ns > WARM_NS) {
            self.ready = true;
            self.outbox.push(FromCore::Ready);
        }
        if let Some(delta) = &mut self.delta
            && delta.due(now)
        {
            bidder.set_gauges();
            bidder.metrics.gauge(Gauge::IoFallback, u64::from(self.epoll));
            std::mem::swap(&mut *bidder.metrics, delta.probe());
            if !delta.hand_over(now) {
                std::mem::swap(&mut *bidder.metrics, delta.probe());
            }
        }
        let over = bidder.is_drained() || (*drain_until_ns > 0 && now.boot_ns > *drain_until_ns);
        if over && let Some(mut delta) = self.delta.take() {
            bidder.set_gauges();
            bidder.metrics.gauge(Gauge::IoFallback, u64::from(self.epoll));
            std::mem::swap(&mut *bidder.metrics, delta.probe());
            delta.finish();
            self.outbox.push(FromCore::Drained { unfinished: bidder.in_flight() as u32 });
        }
        while let Some(message) = self.outbox.pop() {
            if let Err(rtrb::PushError::Full(message)) = self.to_control.push(message) {
                bidder.metrics.count(Counter::RingFullControl);
                self.outbox.push(message);
                break;
            }
        }
        core.pressing.set(!self.outbox.is_empty());
        (over && self.outbox.is_empty()).then_some(())
    }
}
