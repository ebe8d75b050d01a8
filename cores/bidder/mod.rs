//! A bidder core: everything between a request's bytes and its answer's, on one CPU, sharing nothing.
//!
//! [`Bidder`] is told what happened (`on_*`), once per event, with the turn's `now`, and hands bytes to a
//! [`Transport`]. It has no task, no future and no socket: `io` drives it over monoio, the simulation in virtual time.
//!
//! Invariants worth naming: every request that became whole gets exactly one answer or its client left; no call of this
//! module waits; after warm-up none allocates; what is dropped is counted.
pub mod buffers;
pub mod egress;
pub mod flight;
pub mod framing;
pub mod ingress;
pub mod io;
mod metronome;
pub mod reading;
pub mod slab;
pub mod snapshot;
pub mod thread;
pub mod transport;
pub mod turn;

use buffers::Buffers;
use bumpalo::Bump;
use egress::{Done, Egress, Reply};
use flight::{Flight, LegAnswers};
use ingress::{Answered, ClientKey, Ingress, Step, Whole};
use outcry::{
    auction::{Delivery, Unlimited},
    config::NoBidStyle,
    dsp::deadline::{self, Deadlines},
    gate::{self, Room, Verdict},
    http1::{self, BodyLen, ContentType, Deflate, Method, RequestHead, ResponseExtra},
    messages::CoreConfig,
    openrtb::{
        codes::Outcome,
        response::Response,
        splice::{self, Edits},
    },
    record::{
        labels::{AnswerKind, Counter, Delivered, Gauge, Refusal, Stage},
        metrics::CoreMetrics,
    },
    time::wheel::Wheel,
    units::{EventId, MS, Now, mix},
};
use reading::{Admission, READ_BYTES, Refused};
use slab::{Key, Slab};
use snapshot::Snapshot;
use transport::{Next, Sock, Transport};

/// One auction in so many has its stages timed: two clock reads a stage are too dear for all of them.
const SAMPLE: u64 = 64;
/// The arena to begin with; it grows to what the largest native request needs.
const ARENA_BYTES: usize = 16 * 1024;
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

/// An answered auction's points in time, nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
struct Timed {
    kind: AnswerKind,
    arrival_ns: u64,
    /// Its requests to DSPs were out; 0: it asked nobody.
    asked_ns: u64,
    /// The last that it waited for was there.
    decided_ns: u64,
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
    record: Vec<u8>,
    scratch: Vec<u8>,
    /// The answer being read, and the winners' while ours is written.
    view: Response,
    views: Vec<Response>,
    /// What is needed only while a request is read or an auction is decided.
    arena: Bump,
    draining: bool,
    /// Auctions that asked DSPs in this turn, and those that were answered in it: their times end with the turn, when
    /// what they have to say goes out.
    asked: Vec<Key>,
    answered: Vec<Timed>,
    /// What this core counts; the box travels to the flush core and comes back.
    pub metrics: Box<CoreMetrics>,
}

impl Bidder {
    /// A core that runs `config`.
    /// The metrics have `rows` for DSPs.
    pub fn new(identity: Identity, config: Box<CoreConfig>, rows: usize, now: Now) -> Bidder {
        let http = config.config.http.clone();
        let mut egress = Egress::new(http.auctions);
        let snapshot = Snapshot::new(config, &mut egress);
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
            record: Vec::new(),
            scratch: Vec::new(),
            view: Response::default(),
            views: Vec::new(),
            arena: Bump::with_capacity(ARENA_BYTES),
            draining: false,
            asked: Vec::new(),
            answered: Vec::new(),
            metrics: Box::new(CoreMetrics::new(rows)),
        }
    }

    /// Takes a new configuration; auctions in flight keep theirs. `Err` gives it back: too many are in use.
    pub fn apply(&mut self, config: Box<CoreConfig>) -> Result<(), Box<CoreConfig>> {
        let Some(slot) = self.snapshots.iter().position(Option::is_none) else { return Err(config) };
        let snapshot = Snapshot::new(config, &mut self.egress);
        self.ingress.configure(snapshot.config().http.clone());
        self.snapshots[slot] = Some(snapshot);
        self.current = slot;
        self.metrics.count(Counter::ReloadsApplied);
        Ok(())
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
        self.draining && self.flights.count() == 0 && self.ingress.count() == 0
    }

    // --- clients ---------------------------------------------------------------------------------

    /// A client connected. `None`: no room, close it.
    pub fn on_accept(&mut self, now: Now) -> Option<(Sock, Vec<u8>)> {
        match self.ingress.open(now.boot_ns).filter(|_| !self.draining) {
            Some(key) => {
                self.metrics.count(Counter::ConnectionsAccepted);
                Some((Sock::Client(key.ix), self.buffers.get(READ_BYTES)))
            }
            None => {
                self.metrics.count(Counter::ConnectionsRefused);
                None
            }
        }
    }

    /// A socket was read: `read` bytes more stand in `buf`, 0 is the end of the stream.
    pub fn on_read<T: Transport>(
        &mut self,
        sock: Sock,
        buf: Vec<u8>,
        read: Result<usize, ()>,
        now: Now,
        t: &mut T,
    ) -> Next {
        match sock {
            Sock::Client(ix) => {
                let Some(key) = self.ingress.key(ix) else { return Next::Close };
                let Ok(n) = read else {
                    self.buffers.put(buf);
                    return Next::Close;
                };
                self.metrics.add(Counter::ClientBytesIn, n as u64);
                self.ingress.arrived(key, n, now.boot_ns);
                self.client_bytes(key, buf, now, t)
            }
            Sock::Dsp(ix) => {
                self.metrics.add(Counter::DspBytesIn, read.unwrap_or(0) as u64);
                if let Some(token) = self.egress.token_on(ix)
                    && let Some(flight) = self.flights.get(from_token(token).0)
                {
                    flight.warm();
                }
                let (next, done) =
                    self.egress.on_read(ix, buf, read, now.boot_ns, &mut self.buffers, &mut self.metrics);
                if let Some(done) = done {
                    self.on_done(done, now, t);
                }
                next
            }
        }
    }

    /// A reader that paused goes on.
    pub fn take_buffer<T: Transport>(&mut self, sock: Sock, now: Now, t: &mut T) -> Next {
        let Sock::Client(ix) = sock else { return Next::Close };
        let Some(key) = self.ingress.key(ix) else { return Next::Close };
        match self.ingress.take_held(key) {
            Some(buf) => self.client_bytes(key, buf, now, t),
            None => Next::Read(self.buffers.get(READ_BYTES)),
        }
    }

    fn client_bytes<T: Transport>(&mut self, key: ClientKey, mut buf: Vec<u8>, now: Now, t: &mut T) -> Next {
        loop {
            let Bidder { ingress, buffers, snapshots, current, metrics, .. } = self;
            let snapshot = snapshots[*current].as_ref().expect("a core has a configuration");
            let step = ingress.step(key, &mut buf, now.boot_ns, buffers, |head, bytes| {
                metrics.count(Counter::Requests);
                admit(snapshot, head, bytes)
            });
            match step {
                Step::More(want) => {
                    if buf.capacity() < want {
                        buf.reserve_exact(want - buf.len());
                    } else if buf.capacity() - buf.len() < READ_BYTES / 4 {
                        buf.reserve(READ_BYTES.max(buf.len()));
                    }
                    return Next::Read(buf);
                }
                Step::Full => {
                    self.ingress.hold(key, buf);
                    return Next::Pause;
                }
                Step::Request(whole) => self.on_request(key, whole, now, t),
                Step::Refused(refused) => {
                    let place = self.ingress.place(key);
                    self.refuse(key, place, &refused);
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

    /// A request is whole.
    fn on_request<T: Transport>(&mut self, client: ClientKey, whole: Whole, now: Now, t: &mut T) {
        if let Some(refused) = whole.refused {
            self.buffers.put(whole.bytes);
            self.refuse(client, whole.place, &refused);
            return;
        }
        let current = self.current;
        let room = Room {
            auctions: self.flights.count(),
            auctions_max: self.snapshots[current].as_ref().map_or(0, |s| s.config().http.auctions),
            draining: self.draining,
        };
        let key = match gate::admit_head(&room) {
            Verdict::Admit => self.flights.take(),
            Verdict::Refuse(_) => None,
        };
        let Some(key) = key else {
            self.metrics.count(Counter::ShedNoRoom);
            self.metrics.refusal(Refusal::Overload);
            let (place, arrival_ns) = (whole.place, whole.arrival_ns);
            self.buffers.put(whole.bytes);
            // Nothing was read of it, so there is no id to echo: 204 in either style.
            return self.answer_empty(client, place, arrival_ns, now);
        };
        let snapshot = self.snapshots[current].as_mut().expect("a core has a configuration");
        snapshot.uses += 1;
        let Some(flight) = self.flights.get(key) else { return };
        flight.begin(client, whole, current, now);
        self.seq += 1;
        flight.sampled = self.seq.is_multiple_of(SAMPLE);
        flight.event =
            EventId { node: self.identity.node, epoch: self.identity.epoch, core: self.identity.core, seq: self.seq };
        flight.entropy = mix(self.identity.seed ^ mix(self.seq));
        let started_ns = if flight.sampled { t.precise_ns() } else { 0 };
        let read = flight.parse(&self.arena);
        self.arena.reset();
        if let Err(refusal) = read {
            self.metrics.refusal(Refusal::of_rule(&refusal.rule));
            return self.refuse_flight(key, &refusal, now);
        }
        let rules = &snapshot.config().auction;
        let tmax_ms = flight.request.tmax_ms;
        let whole_ms = tmax_ms.filter(|&t| t > 0).unwrap_or(rules.tmax_default_ms).min(rules.tmax_max_ms);
        flight.expires_ns = flight.arrival_ns + u64::from(whole_ms) * MS;
        let parsed_ns = if flight.sampled { t.precise_ns() } else { 0 };
        let plan = deadline::plan(rules, tmax_ms, flight.arrival_ns, now.boot_ns);
        flight.deadlines = plan.ok();
        let (start, auction, _) = flight.start(snapshot);
        auction.begin(&start);
        self.metrics.count(Counter::Auctions);
        let verdict = gate::admit_request(start.request);
        let gated_ns = if flight.sampled { t.precise_ns() } else { 0 };
        if plan.is_err() {
            self.metrics.count(Counter::ShedNoTime);
        }
        if verdict == Verdict::Admit {
            self.fan_out(key, plan.ok(), now, t);
        }
        let Some(flight) = self.flights.get(key) else { return };
        if flight.sampled {
            self.metrics.stage(Stage::Receive, flight.begun.boot_ns.saturating_sub(flight.arrival_ns));
            self.metrics.stage(Stage::Parse, parsed_ns.saturating_sub(started_ns));
            self.metrics.stage(Stage::Gate, gated_ns.saturating_sub(parsed_ns));
            self.metrics.stage(Stage::Rewrite, t.precise_ns().saturating_sub(gated_ns));
        }
        if flight.auction.pending() == 0 {
            return self.finish(key, now, t);
        }
        self.asked.push(key);
        if let Some(at) = flight.next_deadline() {
            self.deadlines.arm(at, key);
        }
    }

    /// Asks every DSP that may be interested, all at once; nobody if there is no time for it, which the record says.
    fn fan_out<T: Transport>(&mut self, key: Key, deadlines: Option<Deadlines>, now: Now, t: &mut T) {
        let now_ns = now.boot_ns;
        let Bidder { flights, snapshots, egress, metrics, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return };
        let rules = &snapshot.config().auction;
        for ix in snapshot.dsps() {
            let dsp = &snapshot.config().dsps[ix.0 as usize];
            let (start, auction, _) = flight.start(snapshot);
            let imps = auction.offer(&start, dsp);
            let until_ns = deadlines.map_or(now_ns, |d| d.of_dsp(dsp.timeout_ms, now_ns));
            let row = snapshot.core.slot(ix);
            let not_asked = if imps == 0 || !flight.may_ask() {
                Some(Outcome::NotEligible)
            } else if until_ns.saturating_sub(now_ns) < u64::from(rules.dsp_min_ms) * MS {
                Some(Outcome::NoTime)
            } else {
                None
            };
            if let Some(outcome) = not_asked {
                flight.auction.not_asked(ix, &dsp.name, outcome);
                metrics.dsp_outcome(row, outcome, 0);
                continue;
            }
            let head = &snapshot.heads[ix.0 as usize];
            let (body, _) = flight.bytes();
            let mut out = egress.request_buffer(head.len() + body.len() + 256);
            let slot = http1::begin_request(&mut out, head);
            let edits = Edits {
                tmax_ms: Deadlines::tmax_ms(rules, until_ns, now_ns),
                dsp_name: &dsp.name,
                wseat: &dsp.seats,
                cur: &dsp.currencies,
                buyeruid: dsp.buyeruid,
                schain_node: snapshot.schain_node.as_deref(),
                imps,
            };
            let spliced = splice::splice(&flight.request, body, &edits, &mut out);
            http1::finish_request(&mut out, slot);
            let bytes = out.len();
            let leg = flight.ask(ix, until_ns, now_ns);
            let same = flight.auction.ask(ix, &dsp.name, imps, now_ns);
            debug_assert_eq!(leg, same, "the flight and the auction count legs alike");
            metrics.dsp_asked(row);
            let call = match spliced {
                Err(_) => Err((out, Outcome::Internal)),
                Ok(()) => egress
                    .ask(snapshot.lanes[ix.0 as usize], token(key, leg), out, now_ns, t)
                    .map_err(|bytes| (bytes, Outcome::PoolExhausted)),
            };
            match call {
                Ok(call) => {
                    metrics.add(Counter::DspBytesOut, bytes as u64);
                    if let Some(l) = flight.leg(leg) {
                        l.call = Some(call);
                    }
                }
                Err((bytes, outcome)) => {
                    egress.put_back(bytes);
                    flight.auction.leg_failed(leg, outcome, now_ns);
                    metrics.dsp_outcome(row, outcome, 0);
                }
            }
        }
    }

    // --- DSPs ------------------------------------------------------------------------------------

    /// A connect that the transport was asked for ended.
    pub fn on_connect<T: Transport>(&mut self, sock: Sock, ok: bool, now: Now, t: &mut T) -> Next {
        let Sock::Dsp(ix) = sock else { return Next::Close };
        let next = self.egress.on_connect(ix, ok, now.boot_ns, &mut self.buffers, &mut self.metrics);
        self.failed_calls(now, t);
        next
    }

    fn failed_calls<T: Transport>(&mut self, now: Now, t: &mut T) {
        while let Some(done) = self.egress.take_failed() {
            self.on_done(done, now, t);
        }
    }

    /// A DSP's answer, or the lack of one.
    fn on_done<T: Transport>(&mut self, done: Done, now: Now, t: &mut T) {
        let (key, leg) = from_token(done.token);
        let Bidder { flights, snapshots, buffers, metrics, view, .. } = self;
        let Some(flight) = flights.get(key) else {
            if let Reply::Answer { bytes, .. } = done.reply {
                buffers.put(bytes);
            }
            return;
        };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return };
        let started_ns = if flight.sampled { t.precise_ns() } else { 0 };
        if let Some((dsp, outcome, elapsed_ns)) = flight.answered(leg, done, snapshot, view, now.boot_ns, buffers) {
            metrics.dsp_outcome(snapshot.core.slot(dsp), outcome, elapsed_ns);
        }
        if flight.sampled {
            metrics.stage(Stage::Collect, t.precise_ns().saturating_sub(started_ns));
        }
        if flight.auction.pending() == 0 {
            self.finish(key, now, t);
        }
    }

    /// Whoever has not answered by now is late.
    fn on_deadline<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let now_ns = now.boot_ns;
        let Bidder { flights, snapshots, egress, metrics, deadlines, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return };
        for leg in 0..flight.legs().len() as u8 {
            let Some(l) = flight.leg(leg).filter(|l| l.until_ns <= now_ns) else { continue };
            let Some(call) = l.call.take() else { continue };
            let (dsp, asked_ns) = (l.dsp, l.asked_ns);
            let outcome = match egress.abandon(call, now_ns, metrics) {
                Some(sent_ns) => {
                    flight.auction.leg_sent(leg, sent_ns);
                    Outcome::Late
                }
                None => Outcome::PoolExhausted,
            };
            flight.auction.leg_failed(leg, outcome, now_ns);
            metrics.dsp_outcome(snapshot.core.slot(dsp), outcome, now_ns.saturating_sub(asked_ns));
        }
        if flight.auction.pending() == 0 {
            self.finish(key, now, t);
        } else if let Some(at) = flight.next_deadline() {
            deadlines.arm(at, key);
        }
    }

    // --- answers ---------------------------------------------------------------------------------

    /// Every DSP has answered or is late: decide, record, answer.
    fn finish<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let Bidder { flights, snapshots, buffers, metrics, ingress, deflate, record, scratch, views, arena, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let Some(snapshot) = snapshots[flight.snapshot].as_mut() else { return };
        let (sampled, began_ns) = (flight.sampled, flight.begun.boot_ns);
        let t0 = if sampled { t.precise_ns() } else { 0 };
        let (place, accept_gzip) = (flight.place, flight.accept_gzip);
        let (arrival_ns, asked_ns, expires_ns) = (flight.arrival_ns, flight.asked_ns, flight.expires_ns);
        let client = flight.client;
        let (start, auction, legs) = flight.start(snapshot);
        auction.decide(&mut Unlimited, arena, now.boot_ns);
        arena.reset();
        let decision = auction.decision();
        for win in &decision.wins {
            let dsp = legs[win.leg as usize].dsp;
            metrics.dsp_won(snapshot.core.slot(dsp), 1, win.charge.0);
        }
        let bid = !decision.wins.is_empty();
        if let Some(nbr) = decision.nbr.filter(|_| !bid) {
            metrics.refusal(Refusal::of_nbr(nbr));
        }
        for loss in &decision.losses {
            metrics.loss(*loss);
        }
        let t1 = if sampled { t.precise_ns() } else { 0 };
        // The record leaves before the answer does.
        record.clear();
        auction.encode_record(record);
        metrics.count(Counter::Records);
        metrics.add(Counter::RecordBytes, record.len() as u64);

        let out = client.and_then(|c| Some((c, ingress.answer_buffer(c, place, buffers)?)));
        let event = start.event;
        let answered = match out {
            None => false,
            Some((client, mut out)) => {
                let close = ingress.closes_after(client, place);
                let before = out.len();
                let style = start.exchange.no_bid;
                if !bid && style == NoBidStyle::Status204 {
                    let extra = ResponseExtra { content_type: None, gzip: false, close, allow: None };
                    http1::write_response(&mut out, 204, extra, b"");
                } else {
                    let mut extra =
                        ResponseExtra { content_type: Some("application/json"), gzip: false, close, allow: None };
                    let answers = LegAnswers::read(legs, decision.wins.iter().map(|w| w.leg), views);
                    let write = |out: &mut Vec<u8>| auction.write_answer(&answers, &start, out);
                    if accept_gzip {
                        scratch.clear();
                        write(scratch);
                        extra.gzip = scratch.len() >= snapshot.config().http.gzip_min_bytes;
                        let slot = http1::begin_response(&mut out, 200, extra);
                        if extra.gzip {
                            deflate.gzip(scratch, &mut out);
                        } else {
                            out.extend_from_slice(scratch);
                        }
                        http1::finish_response(&mut out, slot);
                    } else {
                        let slot = http1::begin_response(&mut out, 200, extra);
                        write(&mut out);
                        http1::finish_response(&mut out, slot);
                    }
                }
                metrics.add(Counter::ClientBytesOut, (out.len() - before) as u64);
                ingress.answered(client, place, out, Answered { event: Some(event), expires_ns }, buffers);
                true
            }
        };
        if !answered {
            deliver(event, Delivery::ClientLeft, record, metrics);
        } else {
            let kind = if bid { AnswerKind::Bid } else { AnswerKind::NoBid };
            self.answered.push(Timed { kind, arrival_ns, asked_ns, decided_ns: now.boot_ns });
        }
        if sampled {
            metrics.stage(Stage::Wait, now.boot_ns.saturating_sub(began_ns));
            metrics.stage(Stage::Decide, t1.saturating_sub(t0));
            metrics.stage(Stage::Answer, t.precise_ns().saturating_sub(t1));
        }
        snapshot.uses -= 1;
        flight.end(buffers);
        flights.free(key);
    }

    /// A request that broke a rule: 400 with a reason that names the field.
    fn refuse_flight(&mut self, key: Key, refusal: &outcry::openrtb::validate::Refusal, now: Now) {
        let Bidder { flights, snapshots, buffers, metrics, ingress, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let (client, place, arrival_ns) = (flight.client, flight.place, flight.arrival_ns);
        if let Some(snapshot) = snapshots[flight.snapshot].as_mut() {
            snapshot.uses -= 1;
        }
        flight.end(buffers);
        flights.free(key);
        let Some(client) = client else { return };
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = ingress.closes_after(client, place);
        let extra = ResponseExtra { content_type: Some("application/json"), gzip: false, close, allow: None };
        let slot = http1::begin_response(&mut out, 400, extra);
        refusal.write_reason(&mut out);
        http1::finish_response(&mut out, slot);
        ingress.answered(client, place, out, Answered::default(), buffers);
        let latency_ns = now.boot_ns.saturating_sub(arrival_ns);
        metrics.answer(AnswerKind::BadRequest, latency_ns, latency_ns);
    }

    /// An answer that the connection gives without an auction.
    fn refuse(&mut self, client: ClientKey, place: u64, refused: &Refused) {
        let Bidder { ingress, buffers, metrics, .. } = self;
        metrics.answer(AnswerKind::of_error(refused.status), 0, 0);
        metrics.refusal(refused.why);
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = refused.close || ingress.closes_after(client, place);
        ingress::write_refusal(&mut out, refused, close, (refused.status == 405).then_some("POST"));
        ingress.answered(client, place, out, Answered::default(), buffers);
    }

    /// A quick, honest no.
    fn answer_empty(&mut self, client: ClientKey, place: u64, arrival_ns: u64, now: Now) {
        let Bidder { ingress, buffers, metrics, .. } = self;
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = ingress.closes_after(client, place);
        http1::write_response(
            &mut out,
            204,
            ResponseExtra { content_type: None, gzip: false, close, allow: None },
            b"",
        );
        ingress.answered(client, place, out, Answered::default(), buffers);
        let latency_ns = now.boot_ns.saturating_sub(arrival_ns);
        metrics.answer(AnswerKind::NoBid, latency_ns, latency_ns);
    }

    /// What became of answers leaves as a record of its own, when it is known.
    fn deliveries(&mut self) {
        let Bidder { ingress, record, metrics, .. } = self;
        while let Some((event, delivery)) = ingress.take_delivered() {
            deliver(event, delivery, record, metrics);
        }
    }

    // --- turns -----------------------------------------------------------------------------------

    /// A send that was busy when it was last looked at is so no more.
    pub fn on_sent<T: Transport>(&mut self, sock: Sock, now: Now, t: &mut T) {
        match sock {
            Sock::Client(_) => self.ingress.flush(now.boot_ns, t, &mut self.buffers),
            Sock::Dsp(_) => self.egress.flush(t),
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
            self.refuse(client, place, &refused);
        }
        self.slow = slow;
        self.egress.tick(now.boot_ns, t);
        self.egress.flush(t);
        self.ingress.flush(now.boot_ns, t, &mut self.buffers);
        self.deliveries();
        self.times(now, t);
    }

    /// Times of auctions are counted to the end of the turn, and what lies between its two turns is waiting.
    fn times<T: Transport>(&mut self, now: Now, t: &mut T) {
        if self.asked.is_empty() && self.answered.is_empty() {
            return;
        }
        let Bidder { asked, answered, flights, metrics, .. } = self;
        let end_ns = t.precise_ns();
        for key in asked.drain(..) {
            if let Some(flight) = flights.get(key) {
                flight.asked_ns = end_ns;
                if flight.sampled {
                    metrics.stage(Stage::Send, end_ns.saturating_sub(now.boot_ns));
                }
            }
        }
        for a in answered.drain(..) {
            let latency_ns = end_ns.saturating_sub(a.arrival_ns);
            let waited_ns = if a.asked_ns == 0 { 0 } else { a.decided_ns.saturating_sub(a.asked_ns) };
            metrics.answer(a.kind, latency_ns, latency_ns.saturating_sub(waited_ns));
        }
    }

    /// Anything that will need a turn soon: auctions in flight.
    pub fn is_busy(&self) -> bool {
        self.flights.count() > 0
    }

    /// Levels, for the once-a-second delta.
    pub fn set_gauges(&mut self) {
        let (open, idle) = self.egress.counts();
        let config_id = self.snapshots[self.current].as_ref().map_or(0, |s| s.config().id);
        self.metrics.gauge(Gauge::ConfigId, config_id);
        self.metrics.gauge(Gauge::ConnectionsOpen, self.ingress.count() as u64);
        self.metrics.gauge(Gauge::AuctionsInFlight, self.flights.count() as u64);
        self.metrics.gauge(Gauge::DspConnections, open as u64);
        self.metrics.gauge(Gauge::DspIdle, idle as u64);
    }
}

fn deliver(event: EventId, delivery: Delivery, record: &mut Vec<u8>, metrics: &mut CoreMetrics) {
    // "Written in time" is what an auction's record is taken for when nothing else is said.
    if !matches!(delivery, Delivery::Written { .. }) {
        record.clear();
        delivery.encode(event, record);
        metrics.count(Counter::Records);
        metrics.add(Counter::RecordBytes, record.len() as u64);
    }
    metrics.delivery(match delivery {
        Delivery::Written { .. } => Delivered::Written,
        Delivery::Late { .. } => Delivered::Late,
        Delivery::Failed => Delivered::Failed,
        Delivery::ClientLeft => Delivered::ClientLeft,
    });
}

/// Admission of a head: whose request it is, or why it is refused. Nothing was spent on it yet.
fn admit(snapshot: &Snapshot, head: &RequestHead, bytes: &[u8]) -> Admission {
    let route = snapshot.route(bytes, head.path);
    let refused = match route {
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

/// A call's token: flight, its generation, leg.
fn token(key: Key, leg: u8) -> u64 {
    u64::from(key.ix) << 40 | u64::from(key.generation) << 8 | u64::from(leg)
}

fn from_token(token: u64) -> (Key, u8) {
    (Key { ix: (token >> 40) as u32, generation: (token >> 8) as u32 }, token as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_its_key() {
        for (ix, generation, leg) in [(0, 0, 0), (65_535, u32::MAX, 15), (1 << 23, 7, 255)] {
            let key = Key { ix, generation };
            assert_eq!(from_token(token(key, leg)), (key, leg));
        }
    }
}
