//! A bidder core: everything between a request's bytes and its answer's, on one CPU, sharing nothing.
//!
//! [`Bidder`] is told what happened (`on_*`), once per event, with the turn's `now`, and hands bytes to a
//! [`Transport`]. It has no task, no future and no socket: `sockets` drives it over the core's ring, `epoll` over monoio, the
//! simulation in virtual time.
//!
//! Invariants worth naming: every request that became whole gets exactly one answer or its client left; no call of this
//! module waits; after warm-up none allocates; what is dropped is counted.
mod answering;
mod asking;
pub mod buffers;
pub mod copying;
mod devices;
pub mod egress;
mod epoll;
pub mod fetching;
pub mod flight;
pub mod framing;
pub mod ingress;
mod noticing;
pub mod reading;
pub mod recording;
pub mod refusing;
pub(crate) mod ring;
pub mod slab;
pub mod snapshot;
mod sockets;
pub mod spending;
mod telling;
pub mod thread;
pub mod transport;
pub mod turn;

use crate::wiring::CoreNoticeEnds;
use asking::from_token;
use buffers::Buffers;
use bumpalo::Bump;
use copying::Copies;
use egress::Egress;
use flight::Flight;
use ingress::{ClientKey, Ingress, Step};
use noticing::Noticing;
use outcry::{
    auction::{Auction, Offers},
    dsp::{quota::Quotas, worth::Worths},
    http1::{BodyLen, ContentType, Deflate, Method, RequestHead},
    messages::{CoreConfig, Moved},
    openrtb::response::Response,
    record::{
        labels::{Counter, Gauge, Refusal},
        metrics::CoreMetrics,
        user::Salt,
    },
    time::{hybrid::Hlc, wheel::Wheel},
    units::{MS, Now},
};
use reading::{Admission, READ_BYTES, Refused, Refusee};
use recording::Recorder;
use refusing::Refusing;
use slab::{Key, Slab};
use snapshot::Snapshot;
use spending::Spending;
use telling::Telling;
use transport::{Next, Sent, Sock, Transport};

/// One auction in so many has its stages timed: two clock reads a stage are too dear for all of them.
const SAMPLE: u64 = 64;
/// The arena to begin with; it grows to what the largest native request needs.
const ARENA_BYTES: usize = 16 * 1024;
/// Connections that are looked at ahead together: their flights fit into the first-level cache.
pub const FORESIGHT: usize = 8;
/// Snapshots that may be in use at once: the current one and those of auctions that began before a reload.
const SNAPSHOTS_MAX: usize = 4;

/// What a bidder core is told about itself at boot.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The machine.
    pub node: u32,
    /// This start of the process.
    pub epoch: u32,
    /// This core.
    pub core: u16,
    /// Whence all entropy of this core is drawn.
    pub seed: u64,
}

/// A bidder core.
pub struct Bidder {
    identity: Identity,
    seq: u64,
    snapshots: [Option<Snapshot>; SNAPSHOTS_MAX],
    current: usize,
    ingress: Ingress,
    egress: Egress,
    flights: Slab<Flight>,
    deadlines: Wheel<Key>,
    due: Vec<Key>,
    slow: Vec<ClientKey>,
    buffers: Buffers,
    deflate: Deflate,
    recorder: Recorder,
    refusing: Refusing,
    salt: Salt,
    copies: Copies,
    spending: Spending,
    noticing: Noticing,
    telling: Telling,
    fetchers: fetching::Spare,
    /// The journal's disk is full: nobody is admitted.
    disk_full: bool,
    /// What asking each DSP of the current configuration is worth.
    worths: Worths,
    /// What of the DSPs' quotas is left to this core.
    pub(super) quotas: Quotas,
    /// Of the request at hand.
    pub(super) offers: Offers,
    scratch: Vec<u8>,
    /// The auction that is being decided, the answers that are being read for it, and one that is looked at as
    /// it comes.
    auction: Auction,
    views: Vec<Response>,
    view: Response,
    /// What is needed only while a request is read or an auction is decided.
    arena: Bump,
    draining: bool,
    /// Auctions that asked DSPs in this turn, and those that were answered in it: their times end with the turn, when
    /// what they have to say goes out.
    asked: Vec<Key>,
    answered: Vec<answering::Timed>,
    /// What this core counts; the box travels to the flush core and comes back.
    pub metrics: Box<CoreMetrics>,
}

impl Bidder {
    /// A core that runs `config`.
    /// The metrics have `rows` for DSPs.
    pub fn new(identity: Identity, config: Box<CoreConfig>, rows: usize, now: Now) -> Bidder {
        let http = config.config.http.clone();
        let mut egress = Egress::new(http.auctions, identity.seed);
        let snapshot = Snapshot::new(config, &mut egress);
        let refusing = Refusing::new(&snapshot.config().exchanges, now);
        let worths = snapshot.worths(Worths::default());
        let mut quotas = Quotas::default();
        snapshot.share(&mut quotas, now);
        let (mut noticing, mut telling) = (Noticing::default(), Telling::default());
        if snapshot.core.notices.is_some() {
            noticing.begin(identity.seed);
            telling.devices.begin();
        }
        Bidder {
            identity,
            seq: 0,
            snapshots: [Some(snapshot), None, None, None],
            current: 0,
            flights: Slab::new(http.auctions),
            ingress: Ingress::new(http),
            egress,
            deadlines: Wheel::new(MS, 1024, now.boot_ns),
            due: Vec::new(),
            slow: Vec::new(),
            buffers: Buffers::default(),
            deflate: Deflate::default(),
            recorder: Recorder::new(None, false, Hlc::default()),
            refusing,
            salt: Salt::NONE,
            copies: Copies::default(),
            spending: Spending::unlimited(),
            noticing,
            telling,
            fetchers: fetching::Spare::default(),
            disk_full: false,
            worths,
            quotas,
            offers: Offers::default(),
            scratch: Vec::new(),
            auction: Auction::default(),
            views: Vec::new(),
            view: Response::default(),
            arena: Bump::with_capacity(ARENA_BYTES),
            draining: false,
            asked: Vec::new(),
            answered: Vec::new(),
            metrics: Box::new(CoreMetrics::new(rows)),
        }
    }

    /// From now on records go where this one says.
    pub fn record_with(&mut self, recorder: Recorder) {
        self.recorder = recorder;
    }

    /// Records what was refused since the last time.
    pub fn report_refusals(&mut self, now: Now) {
        self.refusing.report(now, &mut self.recorder);
    }

    /// People are hashed under this from now on.
    pub fn set_salt(&mut self, salt: Salt) {
        self.salt = salt;
    }

    /// From now on requests and answers that are to be kept whole go where this one says.
    pub fn copy_with(&mut self, copies: Copies) {
        self.copies = copies;
    }

    /// From now on this money is spent.
    pub fn spend_with(&mut self, mut spending: Spending) {
        if let Some(snapshot) = &self.snapshots[self.current] {
            spending.configure(&snapshot.core);
        }
        self.spending = spending;
    }

    /// From now on DSPs are told of notices as these ends say.
    pub fn tell_by(&mut self, ends: CoreNoticeEnds) {
        self.telling.by(ends);
    }

    /// Before the core ends: says what was spent since the last time. True: it is said.
    pub fn end_spending(&mut self, now: Now) -> bool {
        self.spending.end(now, self.recorder.frames())
    }

    /// What it may spend, and of whose.
    pub fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Is the journal's disk full?
    pub fn set_disk_full(&mut self, full: bool) {
        self.disk_full = full;
    }

    /// Takes a new configuration; auctions in flight keep theirs. `Err` gives it back: too many are in use.
    pub fn apply(&mut self, config: Box<CoreConfig>, now: Now) -> Result<(), Box<CoreConfig>> {
        let Some(slot) = self.snapshots.iter().position(Option::is_none) else { return Err(config) };
        let snapshot = Snapshot::new(config, &mut self.egress);
        self.ingress.configure(snapshot.config().http.clone());
        self.refusing.configure(&snapshot.config().exchanges);
        self.spending.configure(&snapshot.core);
        if snapshot.core.notices.is_some() {
            self.noticing.begin(self.identity.seed);
            self.telling.devices.begin();
        }
        self.worths = snapshot.worths(std::mem::take(&mut self.worths));
        snapshot.share(&mut self.quotas, now);
        self.snapshots[slot] = Some(snapshot);
        self.current = slot;
        self.metrics.count(Counter::ReloadsApplied);
        Ok(())
    }

    /// A host has other addresses from now on.
    pub fn moved(&mut self, moved: &Moved, now: Now) {
        self.egress.moved(moved, now.boot_ns);
    }

    /// A configuration that no auction uses any more.
    pub fn retired(&mut self) -> Option<Box<CoreConfig>> {
        let current = self.current;
        let slot =
            (0..SNAPSHOTS_MAX).find(|&i| i != current && self.snapshots[i].as_ref().is_some_and(|s| s.uses == 0))?;
        self.snapshots[slot].take().map(|s| s.core)
    }

    /// Auctions in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.count()
    }

    /// Client connections that are let in at most, and connections to DSPs as many as are configured.
    pub fn connections_max(&self) -> (usize, usize) {
        let config = self.snapshots[self.current].as_ref().map(Snapshot::config);
        config.map_or((0, 0), |c| (c.http.connections, c.dsp_connections()))
    }

    /// Open client connections.
    pub fn connections(&self) -> usize {
        self.ingress.count()
    }

    /// Connections to every DSP are there, or were tried.
    pub fn is_warm(&self) -> bool {
        self.egress.is_warm()
    }

    /// No new connections; what is in flight is finished.
    pub fn drain(&mut self) {
        self.draining = true;
        self.ingress.drain();
    }

    /// Drained: nothing is in flight and every client is gone.
    pub fn is_drained(&self) -> bool {
        self.draining && self.flights.count() == 0 && self.ingress.count() == 0 && self.telling.count() == 0
    }

    // --- clients ---------------------------------------------------------------------------------

    /// A client connected. `None`: no room, close it.
    pub fn on_accept(&mut self, now: Now) -> Option<Sock> {
        // While the core drains too: the listener is shut, so this is one whom the kernel had let in before.
        match self.ingress.open(now.boot_ns) {
            Some(key) => {
                self.metrics.count(Counter::ConnectionsAccepted);
                Some(Sock::Client(key.ix))
            }
            None => {
                self.metrics.count(Counter::ConnectionsRefused);
                None
            }
        }
    }

    /// These connections to DSPs are heard of next, at most [`FORESIGHT`] of them. What an answer touches has left the cache
    /// while the DSP took its time; each step here touches one thing of each connection, and none waits for another, so the
    /// misses of a step overlap instead of following one upon the other.
    pub fn foresee(&self, dsps: &[u32]) {
        let mut calls = [None; FORESIGHT];
        for (call, &ix) in calls.iter_mut().zip(dsps) {
            *call = self.egress.call_on(ix);
        }
        let mut flights = [None; FORESIGHT];
        for (flight, call) in flights.iter_mut().zip(calls) {
            *flight = call.and_then(|call| self.egress.token_of(call)).map(|token| from_token(token).0);
        }
        let mut sum = 0;
        for flight in &mut flights {
            // Of an auction that waits for others still, nothing else is needed now.
            *flight = flight.filter(|key| {
                let (touched, all) = self.flights.peek(*key).map_or((0, false), Flight::touch);
                sum ^= touched;
                all
            });
        }
        for key in flights.iter().flatten() {
            let Some(flight) = self.flights.peek(*key) else { continue };
            sum ^= flight.touch_parts() ^ flight.client.map_or(0, |client| self.ingress.touch(client));
        }
        std::hint::black_box(sum);
    }

    /// A socket was read: these bytes came next; none: its stream has ended.
    pub fn on_read<T: Transport>(&mut self, sock: Sock, read: Result<&[u8], ()>, now: Now, t: &mut T) -> Next {
        match sock {
            Sock::Client(ix) => {
                let Some(key) = self.ingress.key(ix) else { return Next::Close };
                let Ok(bytes) = read else { return Next::Close };
                self.metrics.add(Counter::ClientBytesIn, bytes.len() as u64);
                self.ingress.arrived(key, bytes.len(), now.boot_ns);
                if self.ingress.keep_behind(key, bytes) {
                    return Next::Pause;
                }
                self.client_bytes(key, bytes, now, t)
            }
            Sock::Dsp(ix) => {
                let came = read.map_or(0, <[u8]>::len);
                self.metrics.add(Counter::DspBytesIn, came as u64);
                let (mut next, done) = self.egress.on_read(ix, read, now.boot_ns, &mut self.buffers, &mut self.metrics);
                // Who ended it hears nothing any more.
                if next == Next::Close && came > 0 {
                    self.egress.farewell(ix, t);
                }
                if let Some(done) = done
                    && self.on_done(done, now, t)
                {
                    // Most likely a second answer to an earlier request, with the one we wait for behind it.
                    self.egress.distrust(ix, now.boot_ns);
                    next = Next::Close;
                }
                self.failed_calls(now, t);
                next
            }
        }
    }

    /// A reader that paused goes on.
    pub fn on_resume<T: Transport>(&mut self, sock: Sock, now: Now, t: &mut T) -> Next {
        let Sock::Client(ix) = sock else { return Next::Close };
        let Some(key) = self.ingress.key(ix) else { return Next::Close };
        let mut next = self.client_bytes(key, &[], now, t);
        // A piece at a time: each request that is taken from the front moves what is behind it in the same buffer.
        let (behind, mut at) = self.ingress.take_behind(key);
        while next == Next::Read && at < behind.len() {
            let end = (at + READ_BYTES).min(behind.len());
            next = self.client_bytes(key, &behind[at..end], now, t);
            at = end;
        }
        if at < behind.len() {
            self.ingress.put_behind(key, behind, at);
        } else if next == Next::Read && self.ingress.has_ended(key) {
            return self.client_bytes(key, &[], now, t);
        }
        next
    }

    fn client_bytes<T: Transport>(&mut self, key: ClientKey, bytes: &[u8], now: Now, t: &mut T) -> Next {
        let mut buf = match self.ingress.take_held(key) {
            Some(buf) => buf,
            None if bytes.is_empty() => Vec::new(),
            None => self.buffers.get(bytes.len()),
        };
        self.buffers.grow(&mut buf, bytes.len());
        buf.extend_from_slice(bytes);
        loop {
            let Bidder { ingress, buffers, snapshots, current, metrics, .. } = self;
            let snapshot = snapshots[*current].as_ref().expect("a core has a configuration");
            let step = ingress.step(key, &mut buf, now.boot_ns, buffers, |head, bytes| {
                metrics.count(Counter::Requests);
                admit(snapshot, head, bytes)
            });
            match step {
                Step::More(want) => {
                    if buf.is_empty() {
                        buffers.put(std::mem::take(&mut buf));
                    } else if want > buf.capacity() {
                        // What was announced gets its room as it comes: announcing is free.
                        let more = (want - buf.len()).min(buf.len());
                        buffers.grow(&mut buf, more);
                    }
                    self.ingress.hold(key, buf, false, &mut self.buffers);
                    return Next::Read;
                }
                Step::Full => {
                    self.ingress.hold(key, buf, true, &mut self.buffers);
                    return Next::Pause;
                }
                Step::Request(whole) => self.on_request(key, whole, now, t),
                Step::Refused(refused) => {
                    let place = self.ingress.place(key);
                    self.refuse(key, place, &refused, Refusee::default(), now);
                }
                Step::Ended => {
                    self.buffers.put(buf);
                    // The socket closes when its last answer is out: nothing more is read from it until then.
                    self.ingress.end(key);
                    return Next::Pause;
                }
            }
        }
    }

    // --- DSPs ------------------------------------------------------------------------------------

    /// A connect that the transport was asked for ended.
    pub fn on_connect<T: Transport>(&mut self, sock: Sock, ok: bool, now: Now, t: &mut T) -> Next {
        let Sock::Dsp(ix) = sock else { return Next::Close };
        let next = self.egress.on_connect(ix, ok, now.boot_ns, &mut self.metrics);
        self.failed_calls(now, t);
        next
    }

    // --- turns -----------------------------------------------------------------------------------

    /// The kernel has all of a send: its buffer comes back.
    pub fn on_taken(&mut self, sock: Sock, bytes: Vec<u8>) {
        match sock {
            Sock::Client(_) => self.buffers.put(bytes),
            Sock::Dsp(_) => self.egress.put_back(bytes),
        }
    }

    /// What became of a send that was not taken at once.
    pub fn on_sent(&mut self, sock: Sock, sent: Sent) {
        match sock {
            Sock::Client(ix) => self.ingress.on_sent(ix, sent, &mut self.buffers),
            Sock::Dsp(ix) => self.egress.on_sent(ix, sent),
        }
    }

    /// A socket is gone.
    pub fn on_closed<T: Transport>(&mut self, sock: Sock, now: Now, t: &mut T) {
        match sock {
            Sock::Client(ix) => self.ingress.on_closed(ix, &mut self.buffers, &mut self.metrics),
            Sock::Dsp(ix) => {
                self.egress.on_closed(ix, now.boot_ns, &mut self.buffers, &mut self.metrics);
                self.failed_calls(now, t);
            }
        }
    }

    /// The end of a loop turn: deadlines that passed, timers, and everything pending goes out.
    pub fn end_turn<T: Transport>(&mut self, now: Now, t: &mut T) {
        self.metrics.count(Counter::Turns);
        let mut due = std::mem::take(&mut self.due);
        self.deadlines.turn(now.boot_ns, &mut due);
        for key in due.drain(..) {
            self.on_deadline(key, now, t);
        }
        self.due = due;
        let mut slow = std::mem::take(&mut self.slow);
        self.ingress.tick(now.boot_ns, t, &mut self.metrics, &mut slow);
        for client in slow.drain(..) {
            let place = self.ingress.place(client);
            let refused = Refused { status: 408, why: Refusal::TooSlow, reason: "request_too_slow", close: true };
            self.refuse(client, place, &refused, Refusee::default(), now);
        }
        self.slow = slow;
        self.egress.tick(now.boot_ns, &mut self.metrics, t);
        self.failed_calls(now, t);
        self.write_ready(now, t);
        self.egress.flush(t);
        if let Some(durable) = self.recorder.durable() {
            self.ingress.set_durable(durable);
        }
        self.ingress.flush(now.boot_ns, t, &mut self.buffers);
        self.tell(now, t);
        self.egress.flush(t);
        self.egress.refill(now.boot_ns, t);
        self.egress.shake(now.boot_ns, &mut self.metrics, t);
        self.failed_calls(now, t);
        self.deliveries(now);
        self.spending.end_turn(now, self.recorder.frames());
        self.times(now, t);
    }

    /// The core ends: DSPs hear so where that has a word.
    pub fn farewells<T: Transport>(&mut self, now: Now, t: &mut T) {
        self.egress.farewells(now.boot_ns, t);
    }

    /// Anything that will need a turn soon: auctions in flight, answers that wait for the disk.
    pub fn is_busy(&self) -> bool {
        self.flights.count() > 0
            || self.telling.count() > 0
            || self.ingress.waits_for_disk()
            || self.egress.is_shaking()
    }

    /// Levels, and what the money's ledger counted, for the once-a-second delta.
    pub fn set_gauges(&mut self, now: Now) {
        let (open, idle) = self.egress.counts();
        self.egress.report_health(now.boot_ns, &mut self.metrics);
        let config_id = self.snapshots[self.current].as_ref().map_or(0, |s| s.config().id);
        self.metrics.gauge(Gauge::ConfigId, config_id);
        self.metrics.gauge(Gauge::ConnectionsOpen, self.ingress.count() as u64);
        self.metrics.gauge(Gauge::AuctionsInFlight, self.flights.count() as u64);
        self.metrics.gauge(Gauge::DspConnections, open as u64);
        self.metrics.gauge(Gauge::DspIdle, idle as u64);
        let unverified = self.snapshots[self.current].as_ref().map_or(0, |s| s.config().unverified().count());
        self.metrics.gauge(Gauge::TlsUnverified, unverified as u64);
        self.spending.count(&mut self.metrics);
    }
}

/// Admission of a head: whose request it is, or why it is refused. Nothing was spent on it yet.
fn admit(snapshot: &Snapshot, head: &RequestHead, bytes: &[u8]) -> Admission {
    let route = snapshot.route(bytes, head.path);
    let refused = match route {
        // Whether it is one of ours is seen when it is whole.
        None if snapshot.is_notice(head.path.of(bytes)) => match head.method {
            Method::Get => None,
            Method::Post if head.body == BodyLen::None => Some((411, Refusal::BadFraming, "length_required")),
            Method::Post if !head.unknown_expect => None,
            Method::Post => Some((417, Refusal::Other, "unknown_expectation")),
            _ => Some((405, Refusal::NoRoute, "get_or_post")),
        },
        None => Some((404, Refusal::NoRoute, "no_such_path")),
        Some(_) if !ingress::takes_post(head) => Some((405, Refusal::NoRoute, "post_only")),
        Some(_) if head.body == BodyLen::None => Some((411, Refusal::BadFraming, "length_required")),
        Some(_) if head.unknown_expect => Some((417, Refusal::Other, "unknown_expectation")),
        Some(_) if head.other_encoding => Some((415, Refusal::BadEncoding, "content_encoding_not_supported")),
        Some(_) if head.content_type == ContentType::Other => Some((415, Refusal::Other, "content_type_not_json")),
        Some(_) => None,
    };
    // A client that asked before it sends will not send what we would have to skip; one that asked for a head alone would
    // take our body for the next answer.
    let close = head.expect_continue || head.method == Method::Head;
    let refused = refused.map(|(status, why, reason)| Refused { status, why, reason, close });
    Admission { route: route.unwrap_or_default(), refused }
}
