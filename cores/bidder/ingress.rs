//! Clients' connections: bytes in, whole requests out; answers in, bytes out, in the order of the requests.
//! Owns: the core's client connections. Runs on: each bidder core. Called by: the bidder.
//! Never: knows what a request means. Full: a connection with [`limits::PIPELINE_MAX`] requests in progress is not
//! read from until one is answered; a core with too many connections closes the new one.
use super::{
    buffers::Buffers,
    slab::{Key, Slab},
    transport::{Sent, Sock, Transport},
};
use outcry::{
    config::Http,
    http1::{self, BodyLen, Chunked, HeadLimits, HeadScan, Inflate, Method, Parsed, RequestHead, ResponseExtra},
    limits::PIPELINE_MAX,
    record::{
        labels::{Counter, Refusal},
        metrics::CoreMetrics,
    },
    units::{ExchangeIx, MS},
};

/// Clients' bytes are read into this much: a request of 2-3 KB and its head.
pub const READ_BYTES: usize = 4096;
/// What a closing connection may still take to see our answer before its socket goes.
const LINGER_NS: u64 = 1_000 * MS;
/// A draining core closes connections that were silent for so long.
const LAST_CALL_NS: u64 = 50 * MS;

/// Why a request is answered without an auction, by the connection alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// For metrics.
    pub why: Refusal,
    /// Machine-readable reason in the body; free of user data.
    pub reason: &'static str,
    /// The framing of what follows cannot be trusted.
    pub close: bool,
}

/// A whole request.
#[derive(Debug)]
pub struct Whole {
    /// The head; its spans point into `bytes`.
    pub head: RequestHead,
    /// Head and body, the body without chunks and inflated; it begins at `head.len`.
    pub bytes: Vec<u8>,
    /// What the head was routed to.
    pub route: ExchangeIx,
    /// Why it is answered without an auction.
    pub refused: Option<Refused>,
    /// When its first byte came.
    pub arrival_ns: u64,
    /// Its place in the order of answers.
    pub place: u64,
}

/// What a connection's bytes amount to.
#[derive(Debug)]
pub enum Step {
    /// More is to come; the buffer should have room for so many bytes in all.
    More(usize),
    /// As many as may be are in progress.
    Full,
    /// The head is whole, the body is not; asked once per request, before anything is spent on its body.
    Head(RequestHead),
    /// One request.
    Request(Whole),
    /// One that the connection answers itself.
    Refused(Refused),
    /// Nothing more is read from it.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    #[default]
    Open,
    /// No more requests; closes when all answers are out.
    Ending,
    /// Answers are out, our side is shut; what the client still sends is dropped.
    Lingering,
}

#[derive(Debug, Default)]
struct Client {
    phase: Phase,
    /// Unread bytes, while the reader pauses.
    held: Option<Vec<u8>>,
    scan: HeadScan,
    head: Option<RequestHead>,
    head_asked: bool,
    route: ExchangeIx,
    refused: Option<Refused>,
    chunked: Chunked,
    body: Vec<u8>,
    /// First byte of the request that is being read; 0: none came.
    first_byte_ns: u64,
    /// Requests taken in, answers moved to `out`.
    taken: u64,
    answered: u64,
    /// Answers that wait for one before them.
    early: [Option<Vec<u8>>; PIPELINE_MAX],
    out: Vec<u8>,
    dirty: bool,
    sending: bool,
    /// Since when the client does not take our bytes; 0: it does.
    stuck_ns: u64,
    active_ns: u64,
    end_of_stream: bool,
}

/// A client as an auction remembers it.
pub type ClientKey = Key;

/// Everything a bidder core has to do with clients' sockets.
pub struct Ingress {
    clients: Slab<Client>,
    dirty: Vec<Key>,
    sending: Vec<Key>,
    inflate: Inflate,
    scratch: Vec<Key>,
    next_check_ns: u64,
    limits: Http,
    draining: bool,
}

impl Ingress {
    /// No connections yet.
    pub fn new(limits: Http) -> Ingress {
        Ingress {
            clients: Slab::new(limits.connections),
            dirty: Vec::new(),
            sending: Vec::new(),
            inflate: Inflate::default(),
            scratch: Vec::new(),
            next_check_ns: 0,
            limits,
            draining: false,
        }
    }

    /// Takes new limits; the number of connections stays.
    pub fn configure(&mut self, limits: Http) {
        self.limits = limits;
    }

    /// Open connections.
    pub fn count(&self) -> usize {
        self.clients.count()
    }

    /// A new connection; `None`: there is no room.
    pub fn open(&mut self, now_ns: u64) -> Option<Key> {
        let key = self.clients.take()?;
        let client = self.clients.get(key)?;
        *client = Client { active_ns: now_ns, ..Client::default() };
        Some(key)
    }

    /// The key of the client on a socket.
    pub fn key(&mut self, ix: u32) -> Option<Key> {
        self.clients.at(ix).map(|(key, _)| key)
    }

    /// Bytes came in. To be called before [`Ingress::step`].
    pub fn arrived(&mut self, key: Key, n: usize, now_ns: u64) {
        if let Some(c) = self.clients.get(key) {
            if c.phase != Phase::Lingering {
                c.active_ns = now_ns;
            }
            if n == 0 {
                c.end_of_stream = true;
                c.phase = if c.phase == Phase::Open { Phase::Ending } else { c.phase };
            } else if c.first_byte_ns == 0 {
                c.first_byte_ns = now_ns;
            }
        }
    }

    /// Looks for the next whole request at the front of `buf`; what it takes is gone from `buf` afterwards.
    pub fn step(&mut self, key: Key, buf: &mut Vec<u8>, now_ns: u64, buffers: &mut Buffers) -> Step {
        let Some(c) = self.clients.get(key) else { return Step::Ended };
        if c.phase != Phase::Open {
            buf.clear();
            return if c.phase == Phase::Lingering && !c.end_of_stream { Step::More(0) } else { Step::Ended };
        }
        if c.taken - c.answered >= PIPELINE_MAX as u64 {
            return Step::Full;
        }
        if c.head.is_none() && matches!(buf.as_slice(), [] | [b'\r', ..]) {
            // Empty lines before a request line are tolerated (RFC 9112 section 2.2).
            let lines = buf.chunks_exact(2).take_while(|l| *l == b"\r\n").count() * 2;
            buf.drain(..lines);
            c.scan.reset();
            if matches!(buf.as_slice(), [] | [b'\r']) {
                c.first_byte_ns = if buf.is_empty() { 0 } else { c.first_byte_ns };
                return Step::More(0);
            }
        }
        if c.first_byte_ns == 0 {
            c.first_byte_ns = now_ns;
        }
        let head = match c.head {
            Some(head) => head,
            None => match http1::request_head(buf, &mut c.scan, &HeadLimits { head_bytes: self.limits.head_bytes }) {
                Parsed::Partial => return Step::More(0),
                Parsed::Bad(e) => {
                    c.phase = Phase::Ending;
                    return Step::Refused(Refused {
                        status: e.status(),
                        why: Refusal::of_head(e),
                        reason: e.name(),
                        close: true,
                    });
                }
                Parsed::Done(head) => {
                    c.head = Some(head);
                    head
                }
            },
        };
        if !std::mem::replace(&mut c.head_asked, true) {
            return Step::Head(head);
        }
        let max = self.limits.body_bytes;
        let too_large = Refused { status: 413, why: Refusal::BodyTooLarge, reason: "body_too_large", close: true };
        let bytes = match head.body {
            BodyLen::Chunked => {
                if c.body.is_empty() {
                    // The head stays in front of its body, however that came.
                    c.body = buffers.get(READ_BYTES);
                    c.body.extend_from_slice(buf.get(..head.len).unwrap_or(&[]));
                }
                match c.chunked.feed(buf.get(head.len..).unwrap_or(&[]), &mut c.body, max + head.len) {
                    Err(e) => {
                        c.phase = Phase::Ending;
                        return Step::Refused(match e {
                            http1::ChunkError::TooLarge => too_large,
                            _ => Refused { status: 400, why: Refusal::BadChunk, reason: "bad_chunk", close: true },
                        });
                    }
                    Ok(step) if !step.done => {
                        buf.truncate(head.len);
                        return Step::More(head.len + READ_BYTES);
                    }
                    Ok(step) => {
                        buf.drain(..head.len + step.consumed);
                        std::mem::take(&mut c.body)
                    }
                }
            }
            BodyLen::Length(n) if n > max as u64 => {
                c.phase = Phase::Ending;
                return Step::Refused(too_large);
            }
            BodyLen::None | BodyLen::UntilClose | BodyLen::Length(_) => {
                let n = if let BodyLen::Length(n) = head.body { n as usize } else { 0 };
                let end = head.len + n;
                if buf.len() < end {
                    return Step::More(end);
                }
                // The auction keeps the buffer the bytes came in; the reader goes on with another.
                let mut rest = buffers.get(READ_BYTES);
                rest.extend_from_slice(&buf[end..]);
                let mut bytes = std::mem::replace(buf, rest);
                bytes.truncate(end);
                bytes
            }
        };
        let arrival_ns = c.first_byte_ns;
        c.scan.reset();
        c.chunked.reset();
        c.head = None;
        c.head_asked = false;
        c.first_byte_ns = if buf.is_empty() { 0 } else { now_ns };
        if !head.keep_alive {
            c.phase = Phase::Ending;
        }
        let place = c.taken;
        c.taken += 1;
        let mut whole = Whole { head, bytes, route: c.route, refused: c.refused.take(), arrival_ns, place };
        if head.gzip_body {
            let mut plain = buffers.get(READ_BYTES);
            plain.extend_from_slice(whole.bytes.get(..head.len).unwrap_or(&[]));
            let packed = whole.bytes.get(head.len..).unwrap_or(&[]);
            let inflated = self.inflate.inflate(packed, &mut plain, max + head.len);
            buffers.put(std::mem::replace(&mut whole.bytes, plain));
            if let Err(e) = inflated {
                buffers.put(whole.bytes);
                c.taken -= 1;
                let (status, why, reason) = match e {
                    http1::InflateError::TooLarge => (413, Refusal::BodyTooLarge, "inflated_body_too_large"),
                    _ => (400, Refusal::BadEncoding, "broken_gzip"),
                };
                return Step::Refused(Refused { status, why, reason, close: false });
            }
        }
        Step::Request(whole)
    }

    /// Whose request this is, or why it will be refused once its body is through.
    pub fn set_route(&mut self, key: Key, route: ExchangeIx, refused: Option<Refused>) {
        if let Some(c) = self.clients.get(key) {
            (c.route, c.refused) = (route, refused);
        }
    }

    /// Nothing more is read from the client: the connection closes when its answers are out, which may be now.
    pub fn end(&mut self, key: Key) {
        self.mark(key);
    }

    /// The head was refused: what follows on the connection is not read.
    pub fn refuse_head(&mut self, key: Key) {
        if let Some(c) = self.clients.get(key) {
            c.phase = Phase::Ending;
        }
    }

    /// `Expect: 100-continue` of a request whose head was admitted and whose body is not here yet. Goes out only when
    /// nothing before it is unanswered, else it would be taken for an answer to that.
    pub fn send_continue(&mut self, key: Key) {
        if let Some(c) = self.clients.get(key)
            && c.taken == c.answered
        {
            c.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.mark(key);
        }
    }

    /// Takes a place in the order of answers for a request that never became whole.
    pub fn place(&mut self, key: Key) -> u64 {
        self.clients.get(key).map_or(0, |c| {
            c.taken += 1;
            c.taken - 1
        })
    }

    /// Is this connection's last answer the next to be written?
    pub fn closes_after(&mut self, key: Key, place: u64) -> bool {
        let draining = self.draining;
        self.clients.get(key).is_some_and(|c| (c.phase == Phase::Ending || draining) && place + 1 == c.taken)
    }

    /// Gives the buffer that the answer at `place` is to be appended to, if its client is still there: the connection's
    /// own if every answer before it is in, else one of its own. Hand it back to [`Ingress::answered`].
    pub fn answer_buffer(&mut self, key: Key, place: u64, buffers: &mut Buffers) -> Option<Vec<u8>> {
        let c = self.clients.get(key)?;
        if place == c.answered && c.out.capacity() > 0 {
            return Some(std::mem::take(&mut c.out));
        }
        Some(buffers.get(READ_BYTES))
    }

    /// The answer at `place` was appended.
    pub fn answered<T: Transport>(&mut self, key: Key, place: u64, bytes: Vec<u8>, t: &mut T, buffers: &mut Buffers) {
        let Some(c) = self.clients.get(key) else { return buffers.put(bytes) };
        if place != c.answered {
            c.early[place as usize % PIPELINE_MAX] = Some(bytes);
            return;
        }
        debug_assert!(c.out.is_empty(), "the buffer of the connection was not handed out");
        buffers.put(std::mem::replace(&mut c.out, bytes));
        c.answered += 1;
        while c.answered < c.taken
            && let Some(next) = c.early[c.answered as usize % PIPELINE_MAX].take()
        {
            c.out.extend_from_slice(&next);
            buffers.put(next);
            c.answered += 1;
        }
        if c.held.is_some() {
            t.resume(Sock::Client(key.ix));
        }
        self.mark(key);
    }

    fn mark(&mut self, key: Key) {
        if let Some(c) = self.clients.get(key)
            && !std::mem::replace(&mut c.dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Keeps what a pausing reader has not read yet.
    pub fn hold(&mut self, key: Key, buf: Vec<u8>) {
        if let Some(c) = self.clients.get(key) {
            c.held = Some(buf);
        }
    }

    /// What was held.
    pub fn take_held(&mut self, key: Key) -> Option<Vec<u8>> {
        self.clients.get(key)?.held.take()
    }

    /// The connection is to be closed when its answers are out.
    pub fn is_ending(&mut self, key: Key) -> bool {
        self.clients.get(key).is_none_or(|c| c.phase != Phase::Open)
    }

    /// The socket is gone. Auctions in flight find out when they answer.
    pub fn on_closed(&mut self, ix: u32, buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        let Some((key, c)) = self.clients.at(ix) else { return };
        for buf in [c.held.take().unwrap_or_default(), std::mem::take(&mut c.body), std::mem::take(&mut c.out)] {
            buffers.put(buf);
        }
        for early in &mut c.early {
            if let Some(buf) = early.take() {
                buffers.put(buf);
            }
        }
        metrics.count(Counter::ConnectionsClosed);
        self.clients.free(key);
    }

    /// The end of a loop turn: what was appended goes out, one write per connection.
    pub fn flush<T: Transport>(&mut self, now_ns: u64, t: &mut T, buffers: &mut Buffers) {
        self.sweep(now_ns, t, buffers);
        let mut keys = std::mem::take(&mut self.dirty);
        for key in keys.drain(..) {
            self.send(key, now_ns, t, buffers);
        }
        keys.append(&mut self.dirty);
        self.dirty = keys;
    }

    fn send<T: Transport>(&mut self, key: Key, now_ns: u64, t: &mut T, buffers: &mut Buffers) {
        let Some(c) = self.clients.get(key) else { return };
        c.dirty = false;
        if c.sending {
            return; // goes out when the one before it is through
        }
        if !c.out.is_empty() {
            c.sending = true;
            c.stuck_ns = now_ns;
            t.send(Sock::Client(key.ix), std::mem::take(&mut c.out));
            self.sending.push(key);
        } else if c.end_of_stream && c.phase != Phase::Open && c.answered == c.taken {
            t.close(Sock::Client(key.ix));
        } else if c.phase == Phase::Ending && c.answered == c.taken {
            // Closing with unread input would reset the connection and take our answer with it.
            c.phase = Phase::Lingering;
            c.active_ns = now_ns;
            if let Some(held) = c.held.take() {
                buffers.put(held);
            }
            t.shutdown(Sock::Client(key.ix));
            t.resume(Sock::Client(key.ix));
        }
    }

    fn sweep<T: Transport>(&mut self, now_ns: u64, t: &mut T, buffers: &mut Buffers) {
        let Ingress { sending, clients, dirty, .. } = self;
        sending.retain(|key| {
            let Some(c) = clients.get(*key) else { return false };
            match t.sent(Sock::Client(key.ix), true) {
                Sent::Busy => true,
                Sent::Done(bytes) => {
                    buffers.put(bytes);
                    c.sending = false;
                    c.stuck_ns = 0;
                    c.active_ns = now_ns;
                    if (!c.out.is_empty() || c.phase == Phase::Ending) && !std::mem::replace(&mut c.dirty, true) {
                        dirty.push(*key);
                    }
                    false
                }
                Sent::Broken(bytes) => {
                    buffers.put(bytes);
                    t.close(Sock::Client(key.ix));
                    false
                }
            }
        });
    }

    /// From now on a connection closes when it has nothing in progress and was silent for a moment: a request that is on
    /// its way to us when we begin to stop still finds its connection open.
    pub fn drain(&mut self) {
        self.draining = true;
        self.next_check_ns = 0;
    }

    /// Looks at the connections' timers, ten times a second. Slow ones come back as keys to be answered with 408.
    pub fn tick<T: Transport>(&mut self, now_ns: u64, t: &mut T, metrics: &mut CoreMetrics, slow: &mut Vec<Key>) {
        if now_ns < self.next_check_ns {
            return;
        }
        self.next_check_ns = now_ns + 100 * MS;
        let (idle, slow_ns, write) = (self.limits.idle_ms * MS, self.limits.slow_ms * MS, self.limits.write_ms * MS);
        let mut keys = std::mem::take(&mut self.scratch);
        keys.extend(self.clients.keys());
        for key in keys.drain(..) {
            let Some(c) = self.clients.get(key) else { continue };
            let in_progress = c.taken - c.answered;
            if c.stuck_ns > 0 && now_ns.saturating_sub(c.stuck_ns) > write {
                metrics.count(Counter::ConnectionsSlowClosed);
                t.close(Sock::Client(key.ix));
            } else if c.phase == Phase::Lingering {
                if now_ns.saturating_sub(c.active_ns) > LINGER_NS {
                    t.close(Sock::Client(key.ix));
                }
            } else if c.phase == Phase::Open && in_progress == 0 && !c.sending {
                if c.first_byte_ns > 0 {
                    if now_ns.saturating_sub(c.first_byte_ns) > slow_ns {
                        metrics.count(Counter::ConnectionsSlowClosed);
                        c.phase = Phase::Ending;
                        slow.push(key);
                    }
                } else if now_ns.saturating_sub(c.active_ns) > if self.draining { LAST_CALL_NS } else { idle } {
                    metrics.count(Counter::ConnectionsIdleClosed);
                    t.close(Sock::Client(key.ix));
                }
            }
        }
        self.scratch = keys;
    }
}

/// Writes an answer of the connection itself: an empty body, or a JSON reason.
pub fn write_refusal(out: &mut Vec<u8>, refused: &Refused, close: bool, allow: Option<&'static str>) {
    let extra = ResponseExtra { content_type: Some("application/json"), gzip: false, close, allow };
    let slot = http1::begin_response(out, refused.status, extra);
    out.extend_from_slice(b"{\"error\":\"");
    out.extend_from_slice(refused.reason.as_bytes());
    out.extend_from_slice(b"\"}");
    http1::finish_response(out, slot);
}

/// Which answer a method other than the one a path takes gets.
pub fn takes_post(head: &RequestHead) -> bool {
    head.method == Method::Post
}
