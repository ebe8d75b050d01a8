//! The thread of a bidder core: pins itself, builds its runtime, runs the core until it is drained.
//! Owns: the thread it is called on. Called by: `boot`, on a thread made for it. Never: leaves silently; control is told
//! of readiness, of the end, and of a panic.
use super::{Bidder, Identity, copying::Copies, epoll, recording::Recorder, sockets, spending::Spending, turn::now};
use crate::{flush::delta::DeltaLane, wiring::BidderEnds};
use outcry::{
    budget::core::CoreLedger,
    messages::{CoreConfig, FromCore, ToCore},
    record::labels::{Counter, Gauge},
    units::{MS, Now},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

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
    /// Where its records go.
    pub recorder: Recorder,
    /// Makes its ledger, with a secret of its own.
    pub ledger: Box<dyn FnOnce(u64) -> CoreLedger + Send>,
    /// Rows for DSPs in the metrics.
    pub rows: usize,
    /// epoll instead of io_uring.
    pub epoll: bool,
    /// What a stop may take, nanoseconds.
    pub stop_ns: u64,
}

/// Runs a bidder core; returns when it is drained, or was lost.
pub fn run(seat: Seat) {
    // Not pinned is slower, not wrong; the plan printed at the start says where it should be.
    core_affinity::set_for_current(core_affinity::CoreId { id: seat.cpu });
    let core = seat.core;
    let Seat { listener, ends, config, identity, recorder, ledger, rows, epoll, stop_ns, .. } = seat;
    if let Err(e) = ends.check(core) {
        eprintln!("outcry: core {core}: {e}");
        return;
    }
    let BidderEnds { to_flush, from_flush, mut to_control, from_control, raw, money, notices, .. } = ends;
    // By a system call of its own when the core is lost: the end of a ring closes what it holds some time later, and until
    // then the kernel would go on handing this listener connections that nobody serves.
    let door = listener.try_clone();
    let run = || {
        let mut bidder = Bidder::new(identity, config, rows, now());
        bidder.record_with(recorder);
        bidder.copy_with(Copies::into(raw));
        // Here, so that its memory is near this CPU.
        bidder.spend_with(Spending::of(ledger(identity.seed), money));
        bidder.tell_by(notices);
        let mut rings = Rings {
            #[cfg(debug_assertions)]
            core,
            to_control: &mut to_control,
            from_control,
            delta: Some(DeltaLane::new(to_flush, from_flush, rows, now())),
            epoll,
            outbox: Vec::new(),
            ready: false,
            began_ns: now().boot_ns,
            stop_ns,
            drain_until_ns: 0,
        };
        if epoll {
            epoll::serve(bidder, listener, &mut rings)
        } else {
            sockets::serve(&mut bidder, listener, &mut rings)
        }
    };
    let lost = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(e)) => format!("{e}"),
        Err(_) => "a panic; its message stands above".to_owned(),
    };
    eprintln!("outcry: core {core} is lost: {lost}");
    if let Ok(door) = door {
        let _ = socket2::SockRef::from(&door).shutdown(std::net::Shutdown::Both);
    }
    // The ring holds a handful and control empties it every few milliseconds.
    while to_control.push(FromCore::Panicked).is_err() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a core does at the end of each turn beside its auctions.
pub(super) trait Duties {
    /// Takes what control wants. `true`: nobody is to be let in any more.
    fn orders(&mut self, bidder: &mut Bidder, now: Now) -> bool;

    /// Says what there is to say. `true`: the core has nothing left to do.
    fn report(&mut self, bidder: &mut Bidder, now: Now) -> bool;

    /// Something waits for room in a ring: to be tried again soon.
    fn pressing(&self) -> bool;
}

/// A core's ends of its rings, polled at the end of each turn.
struct Rings<'a> {
    #[cfg(debug_assertions)]
    core: u16,
    to_control: &'a mut rtrb::Producer<FromCore>,
    from_control: rtrb::Consumer<ToCore>,
    delta: Option<DeltaLane>,
    /// On epoll: a level, set with all others, because each delta has its own.
    epoll: bool,
    /// What did not fit into the ring to control yet.
    outbox: Vec<FromCore>,
    ready: bool,
    began_ns: u64,
    stop_ns: u64,
    /// A stop is over then, whatever is in flight; 0: there is none.
    drain_until_ns: u64,
}

impl Rings<'_> {
    fn set_gauges(&self, bidder: &mut Bidder, now: Now) {
        bidder.set_gauges(now);
        bidder.metrics.gauge(Gauge::IoFallback, u64::from(self.epoll));
    }
}

impl Duties for Rings<'_> {
    fn orders(&mut self, bidder: &mut Bidder, now: Now) -> bool {
        let mut stop = false;
        while let Ok(order) = self.from_control.pop() {
            match order {
                ToCore::Snapshot(config) => {
                    #[cfg(debug_assertions)]
                    panic_if_asked(self.core);
                    // Too many in use: given back as it came, control sees its number and says so.
                    if let Err(config) = bidder.apply(config, now) {
                        bidder.metrics.count(Counter::ReloadsRefused);
                        self.outbox.push(FromCore::Retired(config));
                    }
                }
                ToCore::Salt(salt) => bidder.set_salt(salt),
                ToCore::Shares(shares) => bidder.quotas.hear(shares, now.boot_ns),
                ToCore::Moved(moved) => {
                    bidder.moved(&moved, now);
                    self.outbox.push(FromCore::Moved(moved));
                }
                ToCore::Drain => {
                    bidder.drain();
                    self.drain_until_ns = now.boot_ns + self.stop_ns;
                    stop = true;
                }
            }
        }
        stop
    }

    fn report(&mut self, bidder: &mut Bidder, now: Now) -> bool {
        if let Some(config) = bidder.retired() {
            self.outbox.push(FromCore::Retired(config));
        }
        if let Some(wanted) = bidder.quotas.report(now.boot_ns) {
            self.outbox.push(FromCore::Wanted(wanted));
        }
        if !self.ready && (bidder.is_warm() || now.boot_ns - self.began_ns > WARM_NS) {
            self.ready = true;
            self.outbox.push(FromCore::Ready);
        }
        if self.delta.as_ref().is_some_and(|delta| delta.due(now)) {
            self.set_gauges(bidder, now);
            bidder.report_refusals(now);
            if let Some(delta) = &mut self.delta {
                std::mem::swap(&mut *bidder.metrics, delta.probe());
                if !delta.hand_over(now) {
                    std::mem::swap(&mut *bidder.metrics, delta.probe());
                }
                bidder.set_disk_full(delta.disk_full());
            }
        }
        let over = bidder.is_drained() || (self.drain_until_ns > 0 && now.boot_ns > self.drain_until_ns);
        // What was spent is said last of all; a full ring is emptied within milliseconds.
        let over = over && bidder.end_spending(now);
        if over && let Some(mut delta) = self.delta.take() {
            self.set_gauges(bidder, now);
            bidder.report_refusals(now);
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
        over && self.outbox.is_empty()
    }

    fn pressing(&self) -> bool {
        !self.outbox.is_empty()
    }
}

/// For the test of what a panic does: this core panics at its first reload. Debug builds alone have it; nothing else that
/// comes from outside makes a core panic.
#[cfg(debug_assertions)]
fn panic_if_asked(core: u16) {
    if std::env::var("OUTCRY_TEST_PANIC_CORE").is_ok_and(|c| c.parse() == Ok(core)) {
        panic!("OUTCRY_TEST_PANIC_CORE asked for this");
    }
}
