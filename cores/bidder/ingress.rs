//! Clients' connections: bytes in, whole requests out; answers in, bytes out, in the order of the requests.
//! Owns: the core's client connections. Runs on: each bidder core. Called by: the bidder.
//! Never: knows what a request means. Full: a connection with [`PIPELINE_MAX`] requests in progress is not
//! read from until one is answered; in a core with too many connections one that was silent for long gives way to the new
//! one, or that is closed; of answers that clients do not take, those that have waited for longest are given up.
mod leaving;

use super::{
    buffers::Buffers,
    reading::{Admission, READ_BYTES, Read, Reading, Refused},
    recording::Followup,
    slab::{Key, Slab},
    transport::{Sent, Sock, Transport},
};
use outcry::{
    auction::Delivery,
    config::Http,
    http1::{self, Inflate, Method, RequestHead, ResponseExtra},
    limits::{CLIENTS_LEAVING_MAX, PIPELINE_MAX, UNTAKEN_BYTES_MAX},
    record::{labels::Counter, metrics::CoreMetrics},
    units::ExchangeIx,
};

/// Time of a send that the kernel did not take at once: it counts when it is through.
const LATER: u64 = u64::MAX;

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
    /// More is to come, so many bytes in all as far as is known.
    More(usize),
    /// As many as may be are in progress.
    Full,
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
    /// Bytes that are no whole request yet, or that wait for their turn while the reader pauses.
    held: Option<Vec<u8>>,
    /// What came behind that before the kernel heard of the pause, and how much of it was looked at: up to all the buffers
    /// of a ring.
    behind: Option<Box<(Vec<u8>, usize)>>,
    /// The reader was told to pause.
    paused: bool,
    /// What was read of a request that does not come in one piece.
    partial: Option<Box<Reading>>,
    /// First byte of the request that is being read; 0: none came.
    first_byte_ns: u64,
    /// Requests taken in, answers moved to `out`.
    taken: u64,
    answered: u64,
    /// Answers that wait for one before them.
    early: Option<Box<Early>>,
    out: Vec<u8>,
    /// The answers in `out`.
    unsent: [Answered; PIPELINE_MAX],
    unsent_count: u8,
    /// "100 Continue" is due once what came before is answered.
    go_on: bool,
    dirty: bool,
    /// A send is under way, or its end was not looked at yet.
    sending: bool,
    /// What was said of that send, if it was not taken at once.
    sent: Said,
    /// Its bytes.
    sent_bytes: usize,
    /// Since when the client does not take our bytes; 0: it does.
    stuck_ns: u64,
    /// Its answers wait until the core's records are durable up to here.
    record: u64,
    /// When it was opened, answered last, or began to linger. Bytes that are no request do not keep it.
    active_ns: u64,
    end_of_stream: bool,
    /// It is to be closed in favour of another.
    gives_way: bool,
}

/// What the transport said of a send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Said {
    #[default]
    Nothing,
    Stuck,
    Broken,
}

/// An answer on its way out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// What the auction leaves to be recorded; `None` for what the connection answers by itself.
    pub followup: Option<Followup>,
    /// Written later than this, nanoseconds since boot, it is late.
    pub expires_ns: u64,
}

/// Answers by their place, modulo the length.
type Early = [Option<(Vec<u8>, Answered)>; PIPELINE_MAX];

/// A client as an auction remembers it.
pub type ClientKey = Key;

/// Everything a bidder core has to do with clients' sockets.
pub struct Ingress {
    clients: Slab<Client>,
    /// Connections that are let in.
    room: usize,
    /// Those that give way and are not gone, and those of them that are not closed yet.
    leaving: usize,
    giving_way: Vec<Key>,
    /// Where the next one to give way is looked for.
    hand: usize,
    /// Bytes of answers that clients did not take, as the last look at them said.
    untaken_bytes: usize,
    /// Connections that were closed for their sake and are not counted yet.
    untaken_closed: u64,
    dirty: Vec<Key>,
    /// Up to where the core's records are durable, and connections whose answers wait for more.
    durable: u64,
    waiting: Vec<Key>,
    /// Sends under way, with the number of answers in each and when they went.
    sending: Vec<(Key, u8, u64)>,
    /// Those answers, in the same order.
    awaiting: Vec<Answered>,
    /// What became of answers since it was asked last.
    delivered: Vec<(Followup, Delivery)>,
    inflate: Inflate,
    scratch: Vec<Key>,
    next_check_ns: u64,
    limits: Http,
    draining: bool,
    /// When the drain was first seen; silence before it does not count.
    last_call_ns: u64,
    /// For requests that come in one piece, which is nearly all: always in the cache.
    reading: Reading,
    /// For those that do not.
    #[expect(clippy::vec_box, reason = "the boxes move between here and the connections")]
    readings: Vec<Box<Reading>>,
}

impl Client {
    /// An answer was appended to `out`.
    fn append(&mut self, answer: Answered) {
        self.answered += 1;
        // Room for the ninth cannot be needed: as many as fit are taken in.
        if let Some(place) = self.unsent.get_mut(self.unsent_count as usize) {
            *place = answer;
            self.unsent_count += 1;
        }
    }
}

impl Ingress {
    /// No connections yet.
    pub fn new(limits: Http) -> Ingress {
        Ingress {
            clients: Slab::new(limits.connections + CLIENTS_LEAVING_MAX),
            room: limits.connections,
            leaving: 0,
            giving_way: Vec::with_capacity(CLIENTS_LEAVING_MAX),
            hand: 0,
            untaken_bytes: 0,
            untaken_closed: 0,
            dirty: Vec::new(),
            durable: 0,
            waiting: Vec::new(),
            sending: Vec::new(),
            awaiting: Vec::new(),
            delivered: Vec::new(),
            inflate: Inflate::default(),
            scratch: Vec::new(),
            next_check_ns: 0,
            limits,
            draining: false,
            last_call_ns: 0,
            reading: Reading::default(),
            readings: Vec::new(),
        }
    }

    /// One read of each cache line of a client that its answer needs.
    pub fn touch(&self, key: Key) -> usize {
        self.clients.peek(key).map_or(0, |c| c.out.len() ^ c.taken as usize ^ usize::from(c.unsent_count))
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
        if self.clients.count() - self.leaving >= self.room && !self.make_room(now_ns) {
            return None;
        }
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
            if n == 0 {
                c.end_of_stream = true;
                // What a paused reader has not looked at yet was sent before the end.
                c.phase = if c.phase == Phase::Open && !c.paused { Phase::Ending } else { c.phase };
            } else if c.first_byte_ns == 0 {
                c.first_byte_ns = now_ns;
            }
        }
    }

    /// Looks for the next whole request at the front of `buf`; what it takes is gone from `buf` afterwards. `admit` is
    /// asked about each head, before anything is spent on its body.
    pub fn step(
        &mut self,
        key: Key,
        buf: &mut Vec<u8>,
        now_ns: u64,
        buffers: &mut Buffers,
        admit: impl FnOnce(&RequestHead, &[u8]) -> Admission,
    ) -> Step {
        let Some(c) = self.clients.get(key) else { return Step::Ended };
        if c.phase != Phase::Open {
            buf.clear();
            return if c.phase == Phase::Lingering && !c.end_of_stream { Step::More(0) } else { Step::Ended };
        }
        // What was answered and not yet taken by the client counts: who pipelines without reading is not read either.
        if c.taken - c.answered + u64::from(c.unsent_count) >= PIPELINE_MAX as u64 {
            return Step::Full;
        }
        if c.partial.is_none() && matches!(buf.as_slice(), [] | [b'\r', ..]) {
            // Empty lines before a request line are tolerated (RFC 9112 section 2.2).
            let lines = buf.chunks_exact(2).take_while(|l| *l == b"\r\n").count() * 2;
            buf.drain(..lines);
            if matches!(buf.as_slice(), [] | [b'\r']) {
                c.first_byte_ns = if buf.is_empty() { 0 } else { c.first_byte_ns };
                return Step::More(0);
            }
        }
        if c.first_byte_ns == 0 {
            c.first_byte_ns = now_ns;
        }
        let mut partial = c.partial.take();
        let reading = partial.as_deref_mut().unwrap_or(&mut self.reading);
        let read = reading.read(buf, &self.limits, &mut self.inflate, buffers, admit);
        if let Read::More { want, go_on } = read {
            c.partial = Some(partial.unwrap_or_else(|| {
                let mut kept = self.readings.pop().unwrap_or_default();
                std::mem::swap(&mut *kept, &mut self.reading);
                kept
            }));
            c.go_on |= go_on;
            self.send_continue(key);
            return Step::More(want);
        }
        reading.reset(buffers);
        self.readings.extend(partial);
        match read {
            Read::Whole { head, bytes, admission } => {
                let arrival_ns = c.first_byte_ns;
                c.go_on = false;
                c.first_byte_ns = if buf.is_empty() { 0 } else { now_ns };
                if !head.keep_alive {
                    c.phase = Phase::Ending;
                }
                let place = c.taken;
                c.taken += 1;
                let Admission { route, refused } = admission;
                Step::Request(Whole { head, bytes, route, refused, arrival_ns, place })
            }
            Read::Bad(refused) => {
                c.phase = Phase::Ending;
                Step::Refused(refused)
            }
            Read::More { .. } => Step::More(0), // returned above
        }
    }

    /// Nothing more is read from the client: the connection closes when its answers are out, which may be now.
    pub fn end(&mut self, key: Key) {
        self.mark(key);
    }

    /// `Expect: 100-continue` of a request whose head was admitted and whose body is not here yet. Goes out only when
    /// nothing before it is unanswered, else it would be taken for an answer to that.
    fn send_continue(&mut self, key: Key) {
        if let Some(c) = self.clients.get(key)
            && c.go_on
            && c.taken == c.answered
        {
            c.go_on = false;
            c.out.extend_from_slice(http1::encode::CONTINUE);
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
    pub fn answered(&mut self, key: Key, place: u64, bytes: Vec<u8>, answer: Answered, buffers: &mut Buffers) {
        let Some(c) = self.clients.get(key) else { return buffers.put(bytes) };
        if place != c.answered {
            c.early.get_or_insert_default()[place as usize % PIPELINE_MAX] = Some((bytes, answer));
            return;
        }
        debug_assert!(c.out.is_empty(), "the buffer of the connection was not handed out");
        buffers.put(std::mem::replace(&mut c.out, bytes));
        c.append(answer);
        while c.answered < c.taken
            && let Some((next, answer)) = c.early.as_mut().and_then(|e| e[c.answered as usize % PIPELINE_MAX].take())
        {
            c.out.extend_from_slice(&next);
            buffers.put(next);
            c.append(answer);
        }
        self.mark(key);
        self.send_continue(key);
    }

    /// The next of what became of auctions' answers: exactly one for each that was handed to [`Ingress::answered`].
    pub fn take_delivered(&mut self) -> Option<(Followup, Delivery)> {
        self.delivered.pop()
    }

    /// What the client is answered from now on waits until records are durable up to `record`.
    pub fn wait_for(&mut self, key: Key, record: u64) {
        if let Some(c) = self.clients.get(key) {
            c.record = record;
        }
    }

    /// Records are durable up to here.
    pub fn set_durable(&mut self, durable: u64) {
        if durable != std::mem::replace(&mut self.durable, durable) {
            // Whoever waits for still more comes back.
            self.dirty.append(&mut self.waiting);
        }
    }

    /// Do answers wait for the disk?
    pub fn waits_for_disk(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn mark(&mut self, key: Key) {
        if let Some(c) = self.clients.get(key)
            && !std::mem::replace(&mut c.dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Keeps what is no whole request yet, or what a reader that pauses has read.
    pub fn hold(&mut self, key: Key, buf: Vec<u8>, paused: bool, buffers: &mut Buffers) {
        match self.clients.get(key) {
            Some(c) => {
                c.paused = paused;
                c.held = Some(buf).filter(|b| b.capacity() > 0);
            }
            None => buffers.put(buf),
        }
    }

    /// Of a reader that pauses: keeps these bytes as they are. `false`: it does not pause, or nobody wants them.
    pub fn keep_behind(&mut self, key: Key, bytes: &[u8]) -> bool {
        let Some(c) = self.clients.get(key).filter(|c| c.paused && c.phase == Phase::Open) else { return false };
        if !bytes.is_empty() {
            c.behind.get_or_insert_default().0.extend_from_slice(bytes);
        }
        true
    }

    /// Everything that came was looked at: did the stream end behind it? Then nothing more is read.
    pub fn has_ended(&mut self, key: Key) -> bool {
        let Some(c) = self.clients.get(key).filter(|c| c.phase == Phase::Open && c.end_of_stream) else { return false };
        c.phase = Phase::Ending;
        true
    }

    /// What was kept, and where to go on in it.
    pub fn take_behind(&mut self, key: Key) -> (Vec<u8>, usize) {
        self.clients.get(key).and_then(|c| c.behind.take()).map_or_else(Default::default, |behind| *behind)
    }

    /// Gives it back, looked at up to `at`.
    pub fn put_behind(&mut self, key: Key, behind: Vec<u8>, at: usize) {
        if let Some(c) = self.clients.get(key).filter(|c| c.phase == Phase::Open) {
            c.behind = Some(Box::new((behind, at)));
        }
    }

    /// What was held.
    pub fn take_held(&mut self, key: Key) -> Option<Vec<u8>> {
        self.clients.get(key)?.held.take()
    }

    /// The socket is gone. Auctions in flight find out when they answer.
    pub fn on_closed(&mut self, ix: u32, buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        let Some((key, c)) = self.clients.at(ix) else { return };
        c.behind = None;
        for buf in [c.held.take().unwrap_or_default(), std::mem::take(&mut c.out)] {
            buffers.put(buf);
        }
        if let Some(mut reading) = c.partial.take() {
            reading.reset(buffers);
            self.readings.push(reading);
        }
        let left = |a: &Answered| a.followup.map(|of| (of, Delivery::ClientLeft));
        self.delivered.extend(c.unsent[..c.unsent_count as usize].iter().filter_map(left));
        for (buf, answer) in c.early.take().into_iter().flat_map(|early| *early).flatten() {
            buffers.put(buf);
            self.delivered.extend(left(&answer));
        }
        self.leaving -= usize::from(std::mem::take(&mut c.gives_way));
        metrics.count(Counter::ConnectionsClosed);
        self.clients.free(key);
    }

    /// The end of a loop turn: what was appended goes out, one write per connection.
    pub fn flush<T: Transport>(&mut self, now_ns: u64, t: &mut T, buffers: &mut Buffers) {
        self.sweep(now_ns, t);
        let mut keys = std::mem::take(&mut self.dirty);
        for key in keys.drain(..) {
            self.send(key, now_ns, t, buffers);
        }
        keys.append(&mut self.dirty);
        self.dirty = keys;
    }

    fn send<T: Transport>(&mut self, key: Key, now_ns: u64, t: &mut T, buffers: &mut Buffers) {
        let Some(c) = self.clients.get(key) else { return };
        if c.record > self.durable {
            return self.waiting.push(key);
        }
        c.dirty = false;
        if c.sending {
            return; // goes out when the one before it is through
        }
        if !c.out.is_empty() {
            c.sending = true;
            c.stuck_ns = now_ns;
            c.sent_bytes = c.out.len();
            t.send(Sock::Client(key.ix), std::mem::take(&mut c.out));
            self.sending.push((key, c.unsent_count, now_ns));
            self.awaiting.extend_from_slice(&c.unsent[..c.unsent_count as usize]);
            c.unsent_count = 0;
            if c.paused {
                t.resume(Sock::Client(key.ix));
            }
        } else if c.end_of_stream && c.phase != Phase::Open && c.answered == c.taken {
            t.close(Sock::Client(key.ix));
        } else if c.phase == Phase::Ending && c.answered == c.taken {
            // Closing with unread input would reset the connection and take our answer with it.
            c.phase = Phase::Lingering;
            c.active_ns = now_ns;
            buffers.put(c.held.take().unwrap_or_default());
            c.behind = None;
            t.shutdown(Sock::Client(key.ix));
            t.resume(Sock::Client(key.ix));
        }
    }

    /// What the transport says of a send that it could not do at once.
    pub fn on_sent(&mut self, ix: u32, sent: Sent, buffers: &mut Buffers) {
        let (said, bytes) = match sent {
            Sent::Stuck => (Said::Stuck, Vec::new()),
            Sent::Through(bytes) => (Said::Nothing, bytes),
            Sent::Broken(bytes) => (Said::Broken, bytes),
        };
        buffers.put(bytes);
        if let Some((_, c)) = self.clients.at(ix) {
            c.sent = said;
        }
    }

    fn sweep<T: Transport>(&mut self, now_ns: u64, t: &mut T) {
        let Ingress { sending, awaiting, delivered, clients, dirty, untaken_closed, .. } = self;
        // The sends are in the order in which they were started: those that are stuck for longest come first.
        let mut over = self.untaken_bytes.saturating_sub(UNTAKEN_BYTES_MAX);
        let mut untaken = 0;
        // Both lists keep their order; `seen` and `kept` count answers.
        let (mut seen, mut kept) = (0, 0);
        sending.retain_mut(|(key, answers, sent_ns)| {
            let (key, answers) = (*key, *answers);
            let these = seen..seen + answers as usize;
            seen = these.end;
            let fate = match clients.get(key) {
                // Another's by now, or nobody's.
                None => Some(Delivery::ClientLeft),
                Some(c) if c.sent == Said::Stuck => {
                    let bytes = c.sent_bytes + c.out.len();
                    if over > 0 {
                        over = over.saturating_sub(bytes);
                        *untaken_closed += 1;
                        c.stuck_ns = 0;
                        t.close(Sock::Client(key.ix));
                        Some(Delivery::Failed)
                    } else {
                        untaken += bytes;
                        *sent_ns = LATER;
                        None
                    }
                }
                Some(c) if c.sent == Said::Nothing => {
                    c.sending = false;
                    c.stuck_ns = 0;
                    c.active_ns = now_ns;
                    if (!c.out.is_empty() || c.phase == Phase::Ending) && !std::mem::replace(&mut c.dirty, true) {
                        dirty.push(key);
                    }
                    Some(Delivery::Written { at_ns: if *sent_ns == LATER { now_ns } else { *sent_ns } })
                }
                Some(_) => {
                    t.close(Sock::Client(key.ix));
                    Some(Delivery::Failed)
                }
            };
            let Some(fate) = fate else {
                awaiting.copy_within(these, kept);
                kept += answers as usize;
                return true;
            };
            for answer in &awaiting[these] {
                let Some(followup) = answer.followup else { continue };
                let fate = match fate {
                    Delivery::Written { at_ns } if at_ns > answer.expires_ns => Delivery::Late { at_ns },
                    fate => fate,
                };
                delivered.push((followup, fate));
            }
            false
        });
        awaiting.truncate(kept);
        self.untaken_bytes = untaken;
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
