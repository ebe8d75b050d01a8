//! Requests to DSPs and their answers: a call to this DSP in, "this answer" out.
//! Owns: the core's connections to DSPs, their pools, the calls under way. Runs on: each bidder core.
//! Called by: the bidder. Never: knows what a call is for; retries.
//! Full: a call that finds no connection waits in a bounded queue until its caller abandons it. Its request is written when it
//! has one: until then there is nothing to keep, and what it tells the DSP of the time left is true.
//!
//! Nothing outside this file knows that HTTP/1.1 carries one request per connection: callers hold a [`Key`] of a
//! *call*, so a multiplexed transport can take its place. What is pending goes out at the end of the loop turn.
mod health;
mod keeping;
mod places;
mod secure;
pub mod tls;

use super::{
    buffers::Buffers,
    framing::{Answers, Heard, Partial},
    slab::{Key, Slab},
    transport::{Next, Sent, Sock, Transport},
};
use outcry::{
    dsp::{
        breaker::Admission,
        demand::Demand,
        handshakes::Pace,
        health::{Admitted, Health, NotAdmitted, Rules, Verdict},
        pool::{Pool, Take},
    },
    limits,
    messages::Moved,
    openrtb::codes::Outcome,
    record::{
        labels::{Counter, DspLevel, Gauge},
        metrics::CoreMetrics,
    },
    units::{DspIx, MS, mix},
};
use places::{Place, Places};
use std::{collections::VecDeque, net::SocketAddr, rc::Rc};

/// Kept of each size of requests' buffers: those of a turn.
const REQUEST_BYTES_KEPT: usize = 2 << 20;
/// After a failed connect, and after a connection that ended before it was of any use, warm ones are made again: ten
/// tries a second, while nobody asks for more than warmth.
const RETRY_NS: u64 = 100 * MS;

/// The row of what is no DSP's: its waits are not counted.
pub const NO_ROW: DspIx = DspIx(u16::MAX);

/// What a DSP is to egress.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its row in the metrics.
    pub row: DspIx,
    /// Its host, as the configuration has it.
    pub host: String,
    /// Where that listens: all of its addresses.
    pub addrs: Vec<SocketAddr>,
    /// How it is reached by TLS; `None`: it is not.
    pub tls: Option<Rc<tls::Client>>,
    /// Connections kept open without need, and at most.
    pub warm: usize,
    /// At most.
    pub connections: usize,
    /// An idle connection above the warm ones is closed after this, nanoseconds.
    pub idle_ns: u64,
    /// Longest answer.
    pub answer_bytes: usize,
    /// When it is not asked.
    pub health: Rules,
}

/// How a call ended.
#[derive(Debug)]
pub enum Reply {
    /// A whole answer.
    Answer {
        /// HTTP status.
        status: u16,
        /// The body of a 200, plain; the receiver gives the buffer back to the [`Buffers`]. Of others nobody reads it.
        body: Vec<u8>,
    },
    /// None came.
    Failed(Outcome),
}

/// How a call begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It has a connection: [`Egress::write`] its request before the turn ends.
    Ready(Key),
    /// It waits for one: [`Egress::take_ready`] will name it.
    Waits(Key),
}

/// A call that ended, with its times (nanoseconds since boot, 0 = never).
#[derive(Debug)]
pub struct Done {
    /// What the caller named it.
    pub token: u64,
    /// How it ended.
    pub reply: Reply,
    /// HTTP status of an answer that came whole, also of one whose body is of no use; 0: none came.
    pub status: u16,
    /// Handed to a connection.
    pub sent_ns: u64,
    /// First byte of the answer.
    pub first_byte_ns: u64,
}

#[derive(Debug, Default)]
struct Call {
    token: u64,
    lane: u16,
    /// The connection it is on; `None` while it waits.
    conn: Option<u32>,
    asked_ns: u64,
    sent_ns: u64,
    first_byte_ns: u64,
    as_what: Admission,
    /// It was taken off a connection before it had left.
    moved: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// Until it can be written to: with TLS, until the handshake is over.
    #[default]
    Connecting,
    Idle,
    /// The answer to this call is awaited.
    Busy(Key),
    /// The caller gave up; the rest of the answer is read and dropped.
    Draining,
    /// To be closed; nothing it says counts.
    Closing,
    /// The same, and it never was a connection: its handshake failed.
    Unmade,
}

#[derive(Debug, Default)]
struct Conn {
    lane: u16,
    phase: Phase,
    since_ns: u64,
    /// Where it leads to.
    place: Place,
    /// It is encrypted.
    tls: Option<Box<tls::Session>>,
    /// An auction had it made.
    for_auction: bool,
    /// What was read of an answer that does not come in one piece.
    partial: Option<Box<Partial>>,
    out: Vec<u8>,
    dirty: bool,
    /// The DSP has not taken the whole request yet: it may answer before it has.
    stuck: bool,
    /// It was given a call at some time.
    used: bool,
    /// Its last request was handed to it.
    sent_ns: u64,
    /// Nobody waits for the answer, but what it says of its sender's health is wanted until then; 0: it is not.
    watched_ns: u64,
    /// As what it was asked for that answer.
    as_what: Admission,
}

#[derive(Debug)]
struct Lane {
    name: String,
    target: Target,
    health: Health,
    places: Places,
    /// Connections to be made to where it has moved to, whoever is idle.
    fresh: usize,
    pool: Pool,
    /// Calls without a connection.
    waiting: VecDeque<Key>,
    /// The warm ones are not topped up before this; 0 once an answer came.
    retry_ns: u64,
    /// The same, because a handshake failed.
    refused_ns: u64,
    /// Idle connections that this look at them closes: they still count as open.
    leaving: usize,
    /// It stands in [`Egress::low`].
    low: bool,
}

/// Everything a bidder core has to do with DSPs' sockets.
pub struct Egress {
    conns: Slab<Conn>,
    calls: Slab<Call>,
    lanes: Vec<Lane>,
    dirty: Vec<Key>,
    /// Calls that waited and were put on a connection, to be written.
    ready: Vec<Key>,
    /// Calls that ended outside of a read.
    failed: Vec<Done>,
    /// Buffers of requests, apart from all others: one comes back a turn after it was filled, still in the cache.
    requests: Buffers,
    next_check_ns: u64,
    scratch: Vec<Key>,
    answers: Answers,
    seed: u64,
    demand: Demand,
    /// Lanes with too few idle connections: to be filled when all that is pending has gone out.
    low: Vec<u16>,
    /// Connections whose handshake can go on.
    shaking: VecDeque<Key>,
    pace: Pace,
    /// Of the connection that is being read: what it said, and what of it is no whole record.
    plain: Vec<u8>,
    records: Vec<u8>,
}

impl Egress {
    /// No DSPs yet. `seed`: this core's own.
    pub fn new(auctions_max: usize, seed: u64) -> Egress {
        Egress {
            seed,
            conns: Slab::new(limits::DSPS_MAX * limits::DSP_CONNECTIONS_MAX),
            calls: Slab::new(auctions_max * limits::ASKED_MAX),
            lanes: Vec::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            failed: Vec::new(),
            requests: Buffers::keeping(REQUEST_BYTES_KEPT),
            next_check_ns: 0,
            scratch: Vec::new(),
            answers: Answers::default(),
            demand: Demand::default(),
            low: Vec::new(),
            shaking: VecDeque::new(),
            pace: Pace::default(),
            plain: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Takes a configuration and says which lane each DSP has. A DSP keeps its lane as long as it keeps its name; the
    /// lanes of those that are gone close their connections as they become idle.
    pub fn configure(&mut self, targets: &[(&str, Target)]) -> Vec<u16> {
        for lane in &mut self.lanes {
            lane.pool.resize(0, 0);
            (lane.target.warm, lane.target.connections) = (0, 0);
        }
        self.next_check_ns = 0;
        let lanes: Vec<u16> = targets.iter().map(|(name, target)| self.lane(name, target)).collect();
        for (at, lane) in self.lanes.iter_mut().enumerate().filter(|(at, _)| !lanes.contains(&(*at as u16))) {
            debug_assert!(lane.target.connections == 0, "lane {at} is not gone");
            lane.health.configure(Rules::OFF);
        }
        lanes
    }

    fn lane(&mut self, name: &str, target: &Target) -> u16 {
        if let Some(at) = self.lanes.iter().position(|l| l.name == name) {
            let lane = &mut self.lanes[at];
            let tls = match (&lane.target.tls, &target.tls) {
                (Some(old), Some(new)) if old.is_like(new) => Some(Rc::clone(old)),
                (_, new) => new.clone(),
            };
            let secured = |tls: &Option<Rc<tls::Client>>| tls.as_ref().map(Rc::as_ptr);
            let renewed = secured(&lane.target.tls) != secured(&tls);
            lane.places.configure(&target.addrs, renewed);
            lane.pool.resize(target.warm, target.connections);
            lane.target = Target { tls, ..target.clone() };
            lane.health.configure(target.health);
            return at as u16;
        }
        self.lanes.push(Lane {
            name: name.to_owned(),
            pool: Pool::new(target.warm, target.connections),
            target: target.clone(),
            health: Health::new(target.health, mix(self.seed ^ self.lanes.len() as u64)),
            places: Places::new(&target.addrs),
            fresh: 0,
            waiting: VecDeque::new(),
            retry_ns: 0,
            refused_ns: 0,
            leaving: 0,
            low: false,
        });
        (self.lanes.len() - 1) as u16
    }

    /// Open connections and idle ones, over all DSPs.
    pub fn counts(&self) -> (usize, usize) {
        self.lanes.iter().fold((0, 0), |(open, idle), l| (open + l.pool.open(), idle + l.pool.idle()))
    }

    /// Every warm connection is there, or was refused.
    pub fn is_warm(&self) -> bool {
        self.lanes.iter().all(|l| l.pool.is_warm() || l.retry_ns > 0)
    }

    /// An empty buffer to write a request into, for [`Egress::write`].
    pub fn request_buffer(&mut self, bytes: usize) -> Vec<u8> {
        self.requests.get(bytes)
    }

    /// Takes one back that was not sent.
    pub fn put_back(&mut self, bytes: Vec<u8>) {
        self.requests.put(bytes);
    }

    /// Would a call find a connection, or be the only one to wait for a new one?
    pub fn is_free(&self, lane_ix: u16, now_ns: u64) -> bool {
        self.lanes.get(lane_ix as usize).is_some_and(|lane| {
            let may_open = lane.pool.open() + lane.pool.connecting() < lane.target.connections;
            lane.pool.idle() > 0 || (lane.waiting.is_empty() && may_open && now_ns >= lane.retry_ns)
        })
    }

    /// Begins a call to a DSP, as it was [admitted](Egress::admit). The answer comes as a [`Done`] that carries `token`.
    /// `None`: no more calls can wait.
    pub fn ask<T: Transport>(
        &mut self,
        lane_ix: u16,
        token: u64,
        as_what: Admission,
        now_ns: u64,
        t: &mut T,
    ) -> Option<Asked> {
        let lane = self.lanes.get_mut(lane_ix as usize)?;
        let mut take = lane.pool.take(lane.waiting.len());
        // After a reload that moved the DSP: its new requests are not for its old address.
        while let Take::Idle(old) = take
            && let Some((key, conn)) = self.conns.at(old)
            && !lane.places.holds(&mut conn.place, now_ns)
        {
            conn.phase = Phase::Closing;
            secure::farewell(conn, key, &mut self.requests, t);
            t.close(Sock::Dsp(old));
            take = lane.pool.take(lane.waiting.len());
        }
        if take == Take::Full && lane.waiting.len() >= lane.target.connections {
            lane.health.unsent(as_what, now_ns);
            return None;
        }
        let key = self.calls.take()?;
        lane.health.began(now_ns);
        let call = self.calls.get(key).expect("just taken");
        *call = Call { token, lane: lane_ix, asked_ns: now_ns, as_what, ..Call::default() };
        if let Take::Idle(conn) = take {
            let lane = &mut self.lanes[usize::from(lane_ix)];
            if lane.pool.is_low() && !std::mem::replace(&mut lane.low, true) {
                self.low.push(lane_ix);
            }
            self.put_on(key, conn, now_ns);
            return Some(Asked::Ready(key));
        }
        self.lanes[lane_ix as usize].waiting.push_back(key);
        if take == Take::Open {
            self.open(lane_ix, true, now_ns, t);
        }
        Some(Asked::Waits(key))
    }

    /// The next call that waited and has its connection now, with its token: to be written, or abandoned.
    pub fn take_ready(&mut self) -> Option<(Key, u64)> {
        while let Some(key) = self.ready.pop() {
            // Since it was named it may have ended, or been moved to another connection and written.
            if let Some(call) = self.calls.peek(key).filter(|c| c.conn.is_some() && c.sent_ns == 0) {
                return Some((key, call.token));
            }
        }
        None
    }

    /// The whole HTTP request of a call that has a connection.
    pub fn write(&mut self, key: Key, bytes: Vec<u8>, now_ns: u64) {
        let call = self.calls.get(key);
        let conn = call.and_then(|call| {
            call.sent_ns = now_ns;
            self.conns.at(call.conn?)
        });
        match conn {
            Some((key, conn)) => {
                conn.out = bytes;
                conn.sent_ns = now_ns;
                if !std::mem::replace(&mut conn.dirty, true) {
                    self.dirty.push(key);
                }
            }
            None => self.requests.put(bytes),
        }
    }

    /// The connection is this call's, whose request has to be written before the turn ends.
    fn put_on(&mut self, key: Key, ix: u32, now_ns: u64) {
        let Some((conn_key, conn)) = self.conns.at(ix) else { return };
        conn.phase = Phase::Busy(key);
        conn.used = true;
        conn.watched_ns = 0;
        conn.since_ns = now_ns;
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push(conn_key);
        }
        if let Some(call) = self.calls.get(key) {
            call.conn = Some(ix);
        }
    }

    /// A connect ended.
    pub fn on_connect(&mut self, ix: u32, ok: bool, now_ns: u64, metrics: &mut CoreMetrics) -> Next {
        let Some((key, conn)) = self.conns.at(ix) else { return Next::Close };
        let dsp = conn.lane as usize;
        let lane = &mut self.lanes[dsp];
        // No auction waits for hosts of notices but for a winner's markup.
        if std::mem::take(&mut conn.for_auction) && lane.target.row != NO_ROW {
            metrics.count(Counter::AuctionOpened);
        }
        if ok && lane.target.tls.is_some() {
            self.begin_tls(key, now_ns);
            return Next::Read;
        }
        if ok {
            metrics.count(Counter::DspOpened);
            lane.pool.connected();
            return if self.release(ix, now_ns, metrics) { Next::Read } else { Next::Close };
        }
        metrics.count(Counter::DspFailed);
        lane.pool.connect_failed();
        lane.places.out(conn.place, now_ns);
        self.conns.free(key);
        // Those who wait get one to another address, if there is one that has not failed.
        if lane.places.has_another(now_ns) {
            self.next_check_ns = self.next_check_ns.min(now_ns);
            return Next::Close;
        }
        // Callers that wait try at once.
        lane.retry_ns = now_ns + RETRY_NS;
        // One connection was opened for each who waits: the oldest takes the bad news.
        if let Some(waiter) = self.lanes[dsp].waiting.pop_front() {
            self.fail(waiter, Outcome::ConnectRefused, now_ns);
        }
        Next::Close
    }

    /// Calls that ended otherwise than by a read; to be asked for after every call into egress that may end some.
    pub fn take_failed(&mut self) -> Option<Done> {
        self.failed.pop()
    }

    /// A connection in use is free: it takes the next who waits, or rests. `false`: it is to be closed.
    fn release(&mut self, ix: u32, now_ns: u64, metrics: &mut CoreMetrics) -> bool {
        let Some((_, conn)) = self.conns.at(ix) else { return false };
        let lane = &mut self.lanes[conn.lane as usize];
        conn.since_ns = now_ns;
        if !lane.places.holds(&mut conn.place, now_ns) {
            conn.phase = Phase::Closing;
            return false;
        }
        while let Some(waiter) = lane.waiting.pop_front() {
            if let Some(call) = self.calls.get(waiter) {
                if lane.target.row != NO_ROW {
                    metrics.pool_wait(lane.target.row, now_ns.saturating_sub(call.asked_ns));
                }
                self.put_on(waiter, ix, now_ns);
                self.ready.push(waiter);
                return true;
            }
        }
        if !lane.pool.give_back(ix) {
            conn.phase = Phase::Closing;
            return false;
        }
        conn.phase = Phase::Idle;
        true
    }

    /// The call whose answer is awaited on a connection.
    pub fn call_on(&self, ix: u32) -> Option<Key> {
        let Phase::Busy(call) = self.conns.peek_at(ix)?.phase else { return None };
        Some(call)
    }

    /// What a caller named a call.
    pub fn token_of(&self, call: Key) -> Option<u64> {
        self.calls.peek(call).map(|c| c.token)
    }

    /// These bytes came next; none: the end of the stream; or an error.
    pub fn on_read(
        &mut self,
        ix: u32,
        read: Result<&[u8], ()>,
        now_ns: u64,
        buffers: &mut Buffers,
        metrics: &mut CoreMetrics,
    ) -> (Next, Option<Done>) {
        match self.conns.peek_at(ix) {
            Some(conn) if conn.tls.is_some() => self.on_records(ix, read, now_ns, buffers, metrics),
            _ => self.on_plain(ix, read, now_ns, buffers, metrics),
        }
    }

    /// The same, of what can be read.
    fn on_plain(
        &mut self,
        ix: u32,
        read: Result<&[u8], ()>,
        now_ns: u64,
        buffers: &mut Buffers,
        metrics: &mut CoreMetrics,
    ) -> (Next, Option<Done>) {
        let Some((_, conn)) = self.conns.at(ix) else { return (Next::Close, None) };
        if conn.dirty {
            // Its request has not left: whatever this is, it is no answer to that.
            self.distrust(ix, now_ns);
            return (Next::Close, None);
        }
        let call = match conn.phase {
            Phase::Busy(call) => Some(call),
            Phase::Draining => None,
            // An idle DSP has nothing to say; the end of the stream is its right. Nobody is to be given this connection
            // before it is closed, which takes a turn or two.
            Phase::Idle => {
                let lane = &mut self.lanes[conn.lane as usize];
                lane.pool.remove_idle(ix);
                // Who takes connections only to end them would be connected to without a pause.
                if !conn.used {
                    lane.retry_ns = now_ns + RETRY_NS;
                }
                conn.phase = Phase::Closing;
                return (Next::Close, None);
            }
            Phase::Connecting | Phase::Closing | Phase::Unmade => return (Next::Close, None),
        };
        if let Some(call) = call.and_then(|k| self.calls.get(k))
            && call.first_byte_ns == 0
        {
            call.first_byte_ns = now_ns;
        }
        let lane = &mut self.lanes[conn.lane as usize];
        let max = lane.target.answer_bytes;
        let wanted = call.is_some() || conn.watched_ns > 0;
        let heard = self.answers.read(&mut conn.partial, read, max, wanted, buffers);
        let verdict = match &heard {
            Heard::More => return (Next::Read, None),
            Heard::Broken(_) => None,
            Heard::Whole { status, body, retry_after_s, .. } => {
                lane.retry_ns = 0;
                Some(Verdict::of(*status, *retry_after_s, body.as_deref().ok()))
            }
        };
        self.judge(ix, call, verdict, now_ns);
        let (status, body, reusable) = match heard {
            Heard::Whole { status, body, reusable, .. } => (status, body, reusable),
            Heard::Broken(outcome) => {
                if let Some((_, conn)) = self.conns.at(ix) {
                    conn.phase = Phase::Closing;
                }
                return (Next::Close, call.and_then(|k| self.end_call(k, Reply::Failed(outcome), 0)));
            }
            Heard::More => return (Next::Read, None),
        };
        let reply = match body {
            // It was watched, not waited for.
            Ok(body) if call.is_none() => {
                buffers.put(body);
                Reply::Failed(Outcome::Unawaited)
            }
            Ok(body) => Reply::Answer { status, body },
            Err(outcome) => Reply::Failed(outcome),
        };
        let done = call.and_then(|key| self.end_call(key, reply, status));
        if reusable && self.release(ix, now_ns, metrics) {
            return (Next::Read, done);
        }
        if let Some((_, conn)) = self.conns.at(ix) {
            conn.phase = Phase::Closing;
        }
        (Next::Close, done)
    }

    /// What became of a request that was not taken at once. What breaks a send breaks the read too, and that ends the
    /// call.
    pub fn on_sent(&mut self, ix: u32, sent: Sent) {
        let stuck = matches!(sent, Sent::Stuck);
        if let Sent::Through(bytes) | Sent::Broken(bytes) = sent {
            self.requests.put(bytes);
        }
        if let Some((_, conn)) = self.conns.at(ix) {
            conn.stuck = stuck;
        }
    }

    /// What a connection said was not for what it was asked: whoever is asked on it next would get another's answer too.
    /// It is to be closed. A call that was put on it and whose request has not left goes to another, once.
    pub fn distrust(&mut self, ix: u32, now_ns: u64) {
        let Some((_, conn)) = self.conns.at(ix) else { return };
        let (phase, unsent) = (std::mem::replace(&mut conn.phase, Phase::Closing), conn.dirty);
        if unsent {
            self.requests.put(std::mem::take(&mut conn.out));
        }
        let lane = &mut self.lanes[conn.lane as usize];
        match phase {
            Phase::Idle => lane.pool.remove_idle(ix),
            Phase::Busy(key) if !unsent => self.fail(key, Outcome::Reset, now_ns),
            Phase::Busy(key) => {
                let Some(call) = self.calls.get(key) else { return };
                if std::mem::replace(&mut call.moved, true) {
                    return self.fail(key, Outcome::Reset, now_ns);
                }
                (call.conn, call.sent_ns) = (None, 0);
                let places = &lane.places;
                match lane.pool.take_idle() {
                    None => lane.waiting.push_front(key),
                    Some(other) if self.conns.at(other).is_some_and(|(_, c)| places.holds(&mut c.place, now_ns)) => {
                        self.put_on(key, other, now_ns);
                        self.ready.push(key);
                    }
                    // A reload has moved the DSP: it is closed as it is looked at next.
                    Some(old) => {
                        let _ = lane.pool.give_back(old);
                        lane.waiting.push_front(key);
                    }
                }
            }
            Phase::Draining => self.judge(ix, None, None, now_ns),
            Phase::Connecting | Phase::Closing | Phase::Unmade => {}
        }
    }

    fn end_call(&mut self, key: Key, reply: Reply, status: u16) -> Option<Done> {
        let call = self.calls.get(key)?;
        let done = Done { token: call.token, reply, status, sent_ns: call.sent_ns, first_byte_ns: call.first_byte_ns };
        self.calls.free(key);
        Some(done)
    }

    /// The socket is gone, whoever closed it.
    pub fn on_closed(&mut self, ix: u32, now_ns: u64, buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        self.end_tls(ix, now_ns, buffers, metrics);
        let Some((key, conn)) = self.conns.at(ix) else { return };
        let (phase, dsp) = (conn.phase, conn.lane as usize);
        self.requests.put(std::mem::take(&mut conn.out));
        let partial = conn.partial.take();
        let lane = &mut self.lanes[dsp];
        match phase {
            Phase::Connecting => lane.pool.connect_failed(),
            Phase::Idle => {
                lane.pool.remove_idle(ix);
                lane.pool.closed();
                // Who takes connections only to end them would be connected to without a pause.
                if !conn.used {
                    lane.retry_ns = now_ns + RETRY_NS;
                }
            }
            Phase::Busy(call) => {
                lane.pool.closed();
                self.fail(call, Outcome::Reset, now_ns);
            }
            Phase::Draining | Phase::Closing => {
                lane.pool.closed();
                if phase == Phase::Draining {
                    self.judge(ix, None, None, now_ns);
                }
            }
            Phase::Unmade => {}
        }
        if phase != Phase::Unmade {
            metrics.count(Counter::DspClosed);
        }
        self.conns.free(key);
        self.answers.forget(partial, buffers);
        // Who waited for a connection may have waited for this one.
        self.next_check_ns = self.next_check_ns.min(now_ns);
    }

    /// The end of a loop turn: what is pending goes out.
    pub fn flush<T: Transport>(&mut self, t: &mut T) {
        let Egress { dirty, conns, requests, .. } = self;
        dirty.retain(|&key| {
            let Some(conn) = conns.get(key) else { return false };
            if conn.stuck {
                return true; // goes out when the one before it is through
            }
            conn.dirty = false;
            let bytes = std::mem::take(&mut conn.out);
            if bytes.is_empty() || matches!(conn.phase, Phase::Closing) {
                requests.put(bytes);
            } else if let Some(session) = &mut conn.tls {
                secure::send(session, key, bytes, requests, t);
            } else {
                t.send(Sock::Dsp(key.ix), bytes);
            }
            false
        });
    }
}
