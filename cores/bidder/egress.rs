//! Requests to DSPs and their answers: "this request to this DSP" in, "this answer" out.
//! Owns: the core's connections to DSPs, their pools, the calls under way. Runs on: each bidder core.
//! Called by: the bidder. Never: knows what a call is for; retries.
//! Full: a call that finds no connection waits in a bounded queue until its caller abandons it.
//!
//! Nothing outside this file knows that HTTP/1.1 carries one request per connection: callers hold a [`Key`] of a
//! *call*, so a multiplexed transport can take its place. What is pending goes out at the end of the loop turn.
use super::{
    buffers::Buffers,
    slab::{Key, Slab},
    transport::{Next, Sent, Sock, Transport},
};
use outcry::{
    dsp::pool::{Pool, Take},
    http1::{self, BodyLen, Chunked, Encoding, HeadScan, Inflate, Parsed, ResponseHead},
    limits,
    openrtb::codes::Outcome,
    record::{labels::Counter, metrics::CoreMetrics},
    units::{DspIx, MS},
};
use std::{collections::VecDeque, net::SocketAddr};

/// First bytes of a DSP's answer are read into this much: most answers fit, and small buffers stay in the cache.
const READ_BYTES: usize = 1024;
/// What an abandoned answer may still take to come in before its connection is closed.
const DRAIN_NS: u64 = 1_000 * MS;
/// Head of a DSP's answer at most.
const HEAD_BYTES: usize = 16 * 1024;
/// Where a connection's timer is looked at again.
const CHECK_NS: u64 = 500 * MS;

/// What a DSP is to egress.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its row in the metrics.
    pub row: DspIx,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Connections kept open without need, and at most.
    pub warm: usize,
    /// At most.
    pub connections: usize,
    /// An idle connection above the warm ones is closed after this, nanoseconds.
    pub idle_ns: u64,
    /// Longest answer.
    pub answer_bytes: usize,
}

/// How a call ended.
#[derive(Debug)]
pub enum Reply {
    /// A whole answer: its status, and its body in `bytes[at..]`.
    Answer {
        /// HTTP status.
        status: u16,
        /// The buffer the body stands in; the receiver gives it back to the [`Buffers`].
        bytes: Vec<u8>,
        /// First byte of the body.
        at: usize,
    },
    /// None came.
    Failed(Outcome),
}

/// A call that ended, with its times (nanoseconds since boot, 0 = never).
#[derive(Debug)]
pub struct Done {
    /// What the caller named it.
    pub token: u64,
    /// How it ended.
    pub reply: Reply,
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
    /// The request, while it waits.
    bytes: Vec<u8>,
    asked_ns: u64,
    sent_ns: u64,
    first_byte_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Connecting,
    Idle,
    /// The answer to this call is awaited.
    Busy(Key),
    /// The caller gave up; the rest of the answer is read and dropped.
    Draining,
    /// To be closed; nothing it says counts.
    Closing,
}

#[derive(Debug, Default)]
struct Conn {
    lane: u16,
    phase: Phase,
    since_ns: u64,
    /// Which address of the DSP it was made to.
    address: u32,
    scan: HeadScan,
    head: Option<ResponseHead>,
    chunked: Chunked,
    /// Body decoded from chunks.
    body: Vec<u8>,
    out: Vec<u8>,
    dirty: bool,
    /// A send is under way: a DSP may answer before it has taken the whole request.
    sending: bool,
}

#[derive(Debug)]
struct Lane {
    name: String,
    target: Target,
    /// Counts changes of the address.
    address: u32,
    pool: Pool,
    waiting: VecDeque<Key>,
    /// After a failed connect the warm ones are not topped up before this.
    retry_ns: u64,
    /// What the last answers took, rounded up: the next one is read into this much.
    read_bytes: usize,
}

/// Everything a bidder core has to do with DSPs' sockets.
pub struct Egress {
    conns: Slab<Conn>,
    calls: Slab<Call>,
    lanes: Vec<Lane>,
    dirty: Vec<Key>,
    /// Sends whose buffer has not come back.
    sending: Vec<Key>,
    /// Calls that ended outside of a read.
    failed: Vec<Done>,
    inflate: Inflate,
    next_check_ns: u64,
    scratch: Vec<Key>,
}

impl Egress {
    /// No DSPs yet.
    pub fn new(auctions_max: usize) -> Egress {
        Egress {
            conns: Slab::new(limits::DSPS_MAX * limits::DSP_CONNECTIONS_MAX),
            calls: Slab::new(auctions_max * limits::ASKED_MAX),
            lanes: Vec::new(),
            dirty: Vec::new(),
            sending: Vec::new(),
            failed: Vec::new(),
            inflate: Inflate::default(),
            next_check_ns: 0,
            scratch: Vec::new(),
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
        targets.iter().map(|(name, target)| self.lane(name, target)).collect()
    }

    fn lane(&mut self, name: &str, target: &Target) -> u16 {
        if let Some(at) = self.lanes.iter().position(|l| l.name == name) {
            let lane = &mut self.lanes[at];
            lane.address += u32::from(lane.target.addr != target.addr);
            lane.pool.resize(target.warm, target.connections);
            lane.target = target.clone();
            return at as u16;
        }
        self.lanes.push(Lane {
            name: name.to_owned(),
            pool: Pool::new(target.warm, target.connections),
            target: target.clone(),
            address: 0,
            waiting: VecDeque::new(),
            retry_ns: 0,
            read_bytes: READ_BYTES,
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

    /// Sends a whole HTTP request to a DSP. The answer comes as a [`Done`] that carries `token`. `Err` gives the
    /// buffer back: no more calls can wait.
    pub fn ask<T: Transport>(
        &mut self,
        lane_ix: u16,
        token: u64,
        bytes: Vec<u8>,
        now_ns: u64,
        t: &mut T,
    ) -> Result<Key, Vec<u8>> {
        let Some(lane) = self.lanes.get_mut(lane_ix as usize) else { return Err(bytes) };
        let take = lane.pool.take(lane.waiting.len());
        if take == Take::Full && lane.waiting.len() >= lane.target.connections {
            return Err(bytes);
        }
        let Some(key) = self.calls.take() else { return Err(bytes) };
        let call = self.calls.get(key).expect("just taken");
        *call = Call { token, lane: lane_ix, asked_ns: now_ns, ..Call::default() };
        match take {
            Take::Idle(conn) => self.put_on(key, conn, bytes, now_ns),
            Take::Open | Take::Full => {
                call.bytes = bytes;
                self.lanes[lane_ix as usize].waiting.push_back(key);
                if take == Take::Open {
                    self.open(lane_ix, now_ns, t);
                }
            }
        }
        Ok(key)
    }

    /// The caller does not want the answer any more. Says whether the call ever left, with the time it was sent.
    pub fn abandon(&mut self, key: Key, now_ns: u64, buffers: &mut Buffers, metrics: &mut CoreMetrics) -> Option<u64> {
        let call = self.calls.get(key)?;
        let (conn, sent_ns, dsp) = (call.conn, call.sent_ns, call.lane as usize);
        buffers.put(std::mem::take(&mut call.bytes));
        self.calls.free(key);
        match conn {
            None => {
                self.lanes[dsp].waiting.retain(|k| *k != key);
                None
            }
            Some(ix) => {
                if let Some((_, conn)) = self.conns.at(ix) {
                    conn.phase = Phase::Draining;
                    conn.since_ns = now_ns;
                }
                metrics.count(Counter::DspDrained);
                Some(sent_ns)
            }
        }
    }

    fn put_on(&mut self, key: Key, ix: u32, bytes: Vec<u8>, now_ns: u64) {
        let Some((conn_key, conn)) = self.conns.at(ix) else { return };
        conn.phase = Phase::Busy(key);
        conn.since_ns = now_ns;
        conn.out = bytes;
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push(conn_key);
        }
        if let Some(call) = self.calls.get(key) {
            call.conn = Some(ix);
            call.sent_ns = now_ns;
        }
    }

    fn open<T: Transport>(&mut self, lane_ix: u16, now_ns: u64, t: &mut T) {
        let lane = &mut self.lanes[lane_ix as usize];
        let Some(key) = self.conns.take() else {
            lane.pool.connect_failed();
            return;
        };
        let (addr, address) = (lane.target.addr, lane.address);
        let conn = self.conns.get(key).expect("just taken");
        // A slot's buffers went with its last user.
        *conn = Conn { lane: lane_ix, address, since_ns: now_ns, ..Conn::default() };
        t.connect(Sock::Dsp(key.ix), addr);
    }

    /// A connect ended.
    pub fn on_connect(
        &mut self,
        ix: u32,
        ok: bool,
        now_ns: u64,
        buffers: &mut Buffers,
        metrics: &mut CoreMetrics,
    ) -> Next {
        let Some((key, conn)) = self.conns.at(ix) else { return Next::Close };
        let dsp = conn.lane as usize;
        let lane = &mut self.lanes[dsp];
        if ok {
            metrics.count(Counter::DspOpened);
            lane.pool.connected();
            lane.retry_ns = 0;
            let read = lane.read_bytes;
            if self.release(ix, now_ns, metrics) {
                return Next::Read(buffers.get(read));
            }
            return Next::Close;
        }
        metrics.count(Counter::DspFailed);
        lane.pool.connect_failed();
        // Ten tries a second while somebody asks for nothing but warmth; callers that wait try at once.
        lane.retry_ns = now_ns + 100 * MS;
        self.conns.free(key);
        // One connection was opened for each who waits: the oldest takes the bad news.
        if let Some(waiter) = self.lanes[dsp].waiting.pop_front() {
            self.fail(waiter, Outcome::ConnectRefused, buffers);
        }
        Next::Close
    }

    fn fail(&mut self, key: Key, outcome: Outcome, buffers: &mut Buffers) {
        if let Some(call) = self.calls.get(key) {
            buffers.put(std::mem::take(&mut call.bytes));
            self.failed.push(Done {
                token: call.token,
                reply: Reply::Failed(outcome),
                sent_ns: call.sent_ns,
                first_byte_ns: call.first_byte_ns,
            });
            self.calls.free(key);
        }
    }

    /// Calls that ended otherwise than by a read; to be asked for after every call into egress that may end some.
    pub fn take_failed(&mut self) -> Option<Done> {
        self.failed.pop()
    }

    /// A connection in use is free: it takes the next who waits, or rests. `false`: it is to be closed.
    fn release(&mut self, ix: u32, now_ns: u64, metrics: &mut CoreMetrics) -> bool {
        let Some((_, conn)) = self.conns.at(ix) else { return false };
        let lane = &mut self.lanes[conn.lane as usize];
        conn.scan.reset();
        conn.chunked.reset();
        conn.head = None;
        conn.since_ns = now_ns;
        if conn.address != lane.address {
            conn.phase = Phase::Closing;
            return false;
        }
        while let Some(waiter) = lane.waiting.pop_front() {
            if let Some(call) = self.calls.get(waiter) {
                let bytes = std::mem::take(&mut call.bytes);
                metrics.pool_wait(lane.target.row, now_ns.saturating_sub(call.asked_ns));
                self.put_on(waiter, ix, bytes, now_ns);
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

    /// Bytes came in, or the end of the stream (`n` = 0), or an error. `buf` holds everything unread so far.
    pub fn on_read(
        &mut self,
        ix: u32,
        buf: Vec<u8>,
        read: Result<usize, ()>,
        now_ns: u64,
        buffers: &mut Buffers,
        metrics: &mut CoreMetrics,
    ) -> (Next, Option<Done>) {
        let Some((_, conn)) = self.conns.at(ix) else { return (Next::Close, None) };
        let call = match conn.phase {
            Phase::Busy(call) => Some(call),
            Phase::Draining => None,
            // An idle DSP has nothing to say; the end of the stream is its right.
            Phase::Idle | Phase::Connecting | Phase::Closing => {
                buffers.put(buf);
                return (Next::Close, None);
            }
        };
        if let Some(call) = call.and_then(|k| self.calls.get(k))
            && call.first_byte_ns == 0
        {
            call.first_byte_ns = now_ns;
        }
        let lane = &mut self.lanes[conn.lane as usize];
        let max = lane.target.answer_bytes;
        let step = match read {
            Err(()) => Frame::Broken(Outcome::Reset),
            Ok(0) => frame_at_end(conn, &buf),
            Ok(_) => frame(conn, &buf, max),
        };
        match step {
            Frame::Partial { want } => {
                let mut buf = buf;
                if conn.head.is_some_and(|h| h.body == BodyLen::Chunked) {
                    // What is behind the head was taken in already.
                    buf.truncate(conn.head.map_or(0, |h| h.len));
                }
                let needed = want.max(buf.len() + READ_BYTES / 2);
                if buf.capacity() < needed {
                    let doubled = (buf.len() * 2).min(max + HEAD_BYTES);
                    buf.reserve_exact(needed.max(doubled) - buf.len());
                }
                (Next::Read(buf), None)
            }
            Frame::Broken(outcome) => {
                conn.phase = Phase::Closing;
                let done = call.and_then(|k| self.end_call(k, Reply::Failed(outcome)));
                buffers.put(buf);
                (Next::Close, done)
            }
            Frame::Whole { status, at, end, reusable } => {
                let chunked = conn.head.is_some_and(|h| h.body == BodyLen::Chunked);
                let encoding = conn.head.map_or(Encoding::Identity, |h| h.encoding);
                let (mut bytes, mut body_at) = if chunked {
                    let body = std::mem::take(&mut conn.body);
                    buffers.put(buf);
                    (body, 0)
                } else {
                    let mut buf = buf;
                    buf.truncate(end);
                    (buf, at)
                };
                // The next answer is read into what this one took, up to 16 KB.
                lane.read_bytes = lane.read_bytes.max(bytes.len().next_power_of_two().min(16 * 1024));
                let mut reply = None;
                match encoding {
                    Encoding::Identity => {}
                    _ if call.is_none() => {}
                    Encoding::Gzip => {
                        let mut plain = buffers.get(bytes.len() * 4);
                        match self.inflate.inflate(&bytes[body_at..], &mut plain, max) {
                            Ok(()) => {}
                            Err(http1::InflateError::TooLarge) => reply = Some(Reply::Failed(Outcome::TooLarge)),
                            Err(_) => reply = Some(Reply::Failed(Outcome::BadEncoding)),
                        }
                        buffers.put(std::mem::replace(&mut bytes, plain));
                        body_at = 0;
                    }
                    Encoding::Other => reply = Some(Reply::Failed(Outcome::BadEncoding)),
                }
                let done = match call {
                    Some(key) => {
                        let reply = match reply {
                            Some(failed) => {
                                buffers.put(bytes);
                                failed
                            }
                            None => Reply::Answer { status, bytes, at: body_at },
                        };
                        self.end_call(key, reply)
                    }
                    None => {
                        buffers.put(bytes);
                        None
                    }
                };
                if reusable && self.release(ix, now_ns, metrics) {
                    let dsp = self.conns.at(ix).map_or(0, |(_, c)| c.lane as usize);
                    let want = self.lanes.get(dsp).map_or(READ_BYTES, |l| l.read_bytes);
                    return (Next::Read(buffers.get(want)), done);
                }
                if let Some((_, conn)) = self.conns.at(ix) {
                    conn.phase = Phase::Closing;
                }
                (Next::Close, done)
            }
        }
    }

    fn end_call(&mut self, key: Key, reply: Reply) -> Option<Done> {
        let call = self.calls.get(key)?;
        let done = Done { token: call.token, reply, sent_ns: call.sent_ns, first_byte_ns: call.first_byte_ns };
        self.calls.free(key);
        Some(done)
    }

    /// The socket is gone, whoever closed it.
    pub fn on_closed(&mut self, ix: u32, now_ns: u64, buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        let Some((key, conn)) = self.conns.at(ix) else { return };
        let (phase, dsp) = (conn.phase, conn.lane as usize);
        buffers.put(std::mem::take(&mut conn.out));
        buffers.put(std::mem::take(&mut conn.body));
        let lane = &mut self.lanes[dsp];
        match phase {
            Phase::Connecting => lane.pool.connect_failed(),
            Phase::Idle => {
                lane.pool.remove_idle(ix);
                lane.pool.closed();
            }
            Phase::Busy(call) => {
                lane.pool.closed();
                self.fail(call, Outcome::Reset, buffers);
            }
            Phase::Draining | Phase::Closing => lane.pool.closed(),
        }
        metrics.count(Counter::DspClosed);
        self.conns.free(key);
        // Who waited for a connection may have waited for this one.
        self.next_check_ns = self.next_check_ns.min(now_ns);
    }

    /// The end of a loop turn: buffers that were sent come back, what is pending goes out, in that order, so that it goes
    /// out in buffers that are still in the cache... of the next turn's requests.
    pub fn flush<T: Transport>(&mut self, t: &mut T, buffers: &mut Buffers) {
        self.sweep(t, buffers);
        let Egress { dirty, conns, sending, .. } = self;
        dirty.retain(|&key| {
            let Some(conn) = conns.get(key) else { return false };
            if conn.sending {
                return true; // goes out when the one before it is through
            }
            conn.dirty = false;
            let bytes = std::mem::take(&mut conn.out);
            if bytes.is_empty() || matches!(conn.phase, Phase::Closing) {
                buffers.put(bytes);
                return false;
            }
            conn.sending = true;
            t.send(Sock::Dsp(key.ix), bytes);
            sending.push(key);
            false
        });
    }

    fn sweep<T: Transport>(&mut self, t: &mut T, buffers: &mut Buffers) {
        let Egress { sending, conns, .. } = self;
        sending.retain(|key| {
            let Some(conn) = conns.get(*key) else { return false };
            match t.sent(Sock::Dsp(key.ix), true) {
                Sent::Busy => true,
                // What broke a send breaks the read too, and that ends the call.
                Sent::Done(bytes) | Sent::Broken(bytes) => {
                    buffers.put(bytes);
                    conn.sending = false;
                    false
                }
            }
        });
    }

    /// A send that was busy is so no more.
    pub fn on_sent<T: Transport>(&mut self, t: &mut T, buffers: &mut Buffers) {
        self.flush(t, buffers);
    }

    /// Now and then: opens what is missing, closes what idled or drained too long.
    pub fn tick<T: Transport>(&mut self, now_ns: u64, t: &mut T) {
        if now_ns < self.next_check_ns {
            return;
        }
        self.next_check_ns = now_ns + CHECK_NS;
        for dsp in 0..self.lanes.len() {
            let lane = &mut self.lanes[dsp];
            let waiting = lane.waiting.len();
            let mut open = 0;
            if now_ns >= lane.retry_ns {
                open += lane.pool.top_up();
            } else {
                self.next_check_ns = self.next_check_ns.min(lane.retry_ns);
            }
            // Everybody who waits has a connection on its way or in use; after a loss some may have neither.
            while lane.pool.connecting() < waiting.min(lane.target.connections) {
                if lane.pool.take(waiting) != Take::Open {
                    break;
                }
                open += 1;
            }
            for _ in 0..open {
                self.open(dsp as u16, now_ns, t);
            }
        }
        let mut keys = std::mem::take(&mut self.scratch);
        keys.extend(self.conns.keys());
        for key in keys.drain(..) {
            let Some(conn) = self.conns.get(key) else { continue };
            let lane = &mut self.lanes[conn.lane as usize];
            let age = now_ns.saturating_sub(conn.since_ns);
            let close = match conn.phase {
                Phase::Idle => {
                    conn.address != lane.address
                        || lane.pool.open() > lane.target.connections
                        || (age > lane.target.idle_ns && lane.pool.spare())
                }
                Phase::Draining => age > DRAIN_NS,
                Phase::Connecting | Phase::Busy(_) | Phase::Closing => false,
            };
            if close {
                if conn.phase == Phase::Idle {
                    lane.pool.remove_idle(key.ix);
                }
                conn.phase = Phase::Closing;
                t.close(Sock::Dsp(key.ix));
            }
        }
        self.scratch = keys;
    }
}

/// What the bytes of an answer amount to.
#[derive(Debug)]
enum Frame {
    /// More is to come; the buffer should have room for `want` bytes in all.
    Partial { want: usize },
    /// `buf[at..end]` is the body, or the decoded chunks are. `reusable`: the connection may carry the next request.
    Whole { status: u16, at: usize, end: usize, reusable: bool },
    /// It cannot become an answer.
    Broken(Outcome),
}

fn frame(conn: &mut Conn, buf: &[u8], max: usize) -> Frame {
    let head = match conn.head {
        Some(head) => head,
        None => match http1::response_head(buf, &mut conn.scan, HEAD_BYTES) {
            Parsed::Partial => return Frame::Partial { want: 0 },
            // An interim answer (RFC 9110 section 15.2) to a request that did not ask for one is as bad.
            Parsed::Bad(_) => return Frame::Broken(Outcome::BadHttp),
            Parsed::Done(head) if head.status < 200 => return Frame::Broken(Outcome::BadHttp),
            Parsed::Done(head) => {
                conn.head = Some(head);
                head
            }
        },
    };
    let (status, at) = (head.status, head.len);
    match head.body {
        BodyLen::None => Frame::Whole { status, at, end: at, reusable: head.keep_alive && buf.len() == at },
        BodyLen::Length(n) if n > max as u64 => Frame::Broken(Outcome::TooLarge),
        BodyLen::Length(n) => {
            let end = at + n as usize;
            if buf.len() < end {
                return Frame::Partial { want: end };
            }
            Frame::Whole { status, at, end, reusable: head.keep_alive && buf.len() == end }
        }
        BodyLen::Chunked => match conn.chunked.feed(buf.get(at..).unwrap_or(&[]), &mut conn.body, max) {
            Ok(step) if step.done => {
                let reusable = head.keep_alive && at + step.consumed == buf.len();
                Frame::Whole { status, at: 0, end: 0, reusable }
            }
            Ok(_) => Frame::Partial { want: at + READ_BYTES },
            Err(http1::ChunkError::TooLarge) => Frame::Broken(Outcome::TooLarge),
            Err(_) => Frame::Broken(Outcome::BadHttp),
        },
        BodyLen::UntilClose if buf.len() - at > max => Frame::Broken(Outcome::TooLarge),
        BodyLen::UntilClose => Frame::Partial { want: 0 },
    }
}

/// The end of the stream completes only an answer that was delimited by it.
fn frame_at_end(conn: &Conn, buf: &[u8]) -> Frame {
    match conn.head {
        Some(head) if head.body == BodyLen::UntilClose => {
            Frame::Whole { status: head.status, at: head.len, end: buf.len(), reusable: false }
        }
        _ => Frame::Broken(Outcome::Reset),
    }
}
