//! An open-loop load generator that checks every answer: what an exchange would see of a bidder.
//! Owns: one runtime, its connections, the book of the run. Runs on: the thread that calls [`drive`].
//! Called by: the command line, `demo`, benchmarks. Never: lets a slow answer delay the next request; never prints
//! percentiles of a rate it did not reach.
//! Full: with all [`LoadConfig::connections`] busy a request waits in the book, and its latency counts meanwhile.
//!
//! Each connection has a writer, which sends one request at a time, and a reader, which always listens: so an answer
//! nobody asked for is seen, and a closed connection is noticed before it is used.
use super::{
    arrivals::{Book, Due, Spacing},
    check::{Answer, Checker, Fault},
    http::{Frame, Kind, Step, frame},
    report,
    requests::{ID_LEN, NoTemplate, Template, generate, write_id},
    ring,
    timer::Timer,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use hdrhistogram::Histogram;
use monoio::{
    buf::{IoBuf as _, IoBufMut as _},
    io::{AsyncWriteRent as _, CancelHandle, CancelableAsyncReadRent as _, CancelableAsyncWriteRent as _},
    io::{Canceller, OwnedReadHalf, OwnedWriteHalf, Splitable as _},
    net::TcpStream,
};
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Poll, Waker},
    time::{Duration, Instant},
};

/// Head and body of one answer, also inflated.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest sleep of the pacer: how late a timeout may be noticed.
const TICK_NS: u64 = 10_000_000;
/// Shortest: arrivals closer than this leave together. Their latency still counts from when each was due.
const NAP_NS: u64 = 20_000;
/// How long the peer has, after the last answer, to close its half of the connections.
const CLOSING_NS: u64 = 1_000_000_000;
/// The generator cannot be trusted with less than this part of its rate.
pub const ACHIEVED_MIN: f64 = 0.99;
/// Above this part of a CPU the generator measures itself.
pub const CPU_SHARE_MAX: f64 = 0.80;

/// What to send where, how fast.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The bidder.
    pub target: SocketAddr,
    /// For the Host header.
    pub host: String,
    /// Where requests are posted.
    pub path: String,
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Gaps between requests.
    pub spacing: Spacing,
    /// Connections at most.
    pub connections: usize,
    /// An answer that is not there so long after its request was due is missing.
    pub timeout: Duration,
    /// For requests and gaps.
    pub seed: u64,
    /// Bodies; sent in turn.
    pub templates: Vec<Template>,
    /// Compress requests.
    pub gzip: bool,
    /// Accept compressed answers.
    pub accept_gzip: bool,
    /// Macros may stay in answers.
    pub macros_may_stay: bool,
}

/// The last second, for a live table; written by the generator's thread, read by any.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests that have been due.
    pub due: AtomicU64,
    /// Requests handed to a connection.
    pub sent: AtomicU64,
    /// Answers.
    pub answered: AtomicU64,
    /// Answers with a bid.
    pub with_bid: AtomicU64,
    /// Missing, wrong and second answers.
    pub bad: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Latency of the last whole second: median, nanoseconds.
    pub p50_ns: AtomicU64,
    /// 99 %.
    pub p99_ns: AtomicU64,
    /// 99.9 %.
    pub p999_ns: AtomicU64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Requests a second that were asked for.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Requests that were due.
    pub due: u64,
    /// Requests that a connection took.
    pub sent: u64,
    /// Part of them that a connection took before the end: below [`ACHIEVED_MIN`] no latency is to be believed.
    pub achieved: f64,
    /// First answers, right or wrong.
    pub answered: u64,
    /// Right answers with bids.
    pub with_bid: u64,
    /// Bids in them.
    pub bids: u64,
    /// Right answers that say no.
    pub no_bids: u64,
    /// 503s.
    pub refused: u64,
    /// Wrong answers by kind, as in [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Answers that came later than the request's `tmax` after it was due: an exchange had dropped them. Not wrong.
    pub past_tmax: u64,
    /// Answers that were no HTTP; their connections ended.
    pub bad_http: u64,
    /// Second answers, and answers to nothing.
    pub duplicates: u64,
    /// Never answered: not in time.
    pub timed_out: u64,
    /// Never answered: the connection ended first.
    pub cut_off: u64,
    /// Never answered because never sent: no connection became free in time.
    pub never_sent: u64,
    /// Connections that could not be made.
    pub connect_failed: u64,
    /// Most connections at a time.
    pub connections: usize,
    /// From due to answer.
    pub latency: Histogram<u32>,
    /// From due to being handed to a connection.
    pub waited: Histogram<u32>,
    /// CPU used by the generator, of one CPU.
    pub cpu_share: f64,
}

impl LoadReport {
    /// Requests without an answer.
    pub fn unanswered(&self) -> u64 {
        self.timed_out + self.cut_off + self.never_sent
    }

    /// Answers that were wrong.
    pub fn wrong(&self) -> u64 {
        self.faults.iter().sum::<u64>() + self.bad_http
    }

    /// Exactly one right answer for every request.
    pub fn is_right(&self) -> bool {
        self.unanswered() == 0 && self.wrong() == 0 && self.duplicates == 0
    }

    /// Was the rate reached, so that latencies mean something?
    pub fn is_measured(&self) -> bool {
        self.achieved >= ACHIEVED_MIN
    }
}

/// One connection, as its two tasks and the pacer see it.
struct Conn {
    /// What the writer is to send next.
    job: Cell<Option<Due>>,
    /// What it sent and has no answer to.
    in_flight: Cell<Option<Due>>,
    /// What was answered last: its second answer is told by it.
    last: Cell<Option<u64>>,
    writer: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    /// It stands among the idle ones.
    resting: Cell<bool>,
    /// All requests are over: whatever comes now is one too many.
    draining: Cell<bool>,
    canceller: RefCell<Canceller>,
}

impl Conn {
    fn wake_writer(&self) {
        if let Some(waker) = self.writer.borrow_mut().take() {
            waker.wake();
        }
    }

    fn handle(&self) -> CancelHandle {
        self.canceller.borrow().handle()
    }

    /// Ends both tasks.
    fn close(&self) {
        if !self.closed.replace(true) {
            self.wake_writer();
            let canceller = self.canceller.take();
            drop(canceller.cancel());
        }
    }
}

#[derive(Default)]
struct Counts {
    answered: u64,
    with_bid: u64,
    bids: u64,
    no_bids: u64,
    refused: u64,
    faults: [u64; Fault::ALL.len()],
    past_tmax: u64,
    bad_http: u64,
    duplicates: u64,
    timed_out: u64,
    cut_off: u64,
    connect_failed: u64,
    connections_max: usize,
}

struct State {
    book: Book,
    counts: Counts,
    checker: Checker,
    /// Connections without a request, the one used last on top: few stay hot.
    idle: Vec<Rc<Conn>>,
    /// Deadlines in order of sending.
    deadlines: VecDeque<(u64, u64, Rc<Conn>)>,
    open: usize,
    opening: usize,
    /// No connection is tried before this: a refused one is not tried a million times.
    connect_not_before_ns: u64,
    inflated: Vec<u8>,
}

struct Generator {
    config: LoadConfig,
    /// Head up to the length, the same for all requests.
    head: Vec<u8>,
    run: u32,
    start: Instant,
    state: RefCell<State>,
}

/// Drives the load on the calling thread; `live` is kept up to date meanwhile.
pub fn drive(config: LoadConfig, live: &Arc<Live>) -> io::Result<LoadReport> {
    if config.templates.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no requests to send"));
    }
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nx-openrtb-version: 2.6\r\n{}{}Content-Length: ",
        config.path,
        config.host,
        if config.gzip { "Content-Encoding: gzip\r\n" } else { "" },
        if config.accept_gzip { "Accept-Encoding: gzip\r\n" } else { "" },
    );
    let state = State {
        book: Book::new(config.rate, config.seconds, config.spacing, config.seed),
        counts: Counts::default(),
        checker: Checker::new(config.macros_may_stay),
        idle: Vec::with_capacity(config.connections.min(65_536)),
        deadlines: VecDeque::with_capacity(4096),
        open: 0,
        opening: 0,
        connect_not_before_ns: 0,
        inflated: Vec::new(),
    };
    // Two runs against one bidder must not share ids.
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let run = (clock.as_nanos() >> 10) as u32;
    let live = live.clone();
    ring::run(async move {
        let generator = Rc::new(Generator {
            config,
            head: head.into_bytes(),
            run,
            start: Instant::now(),
            state: RefCell::new(state),
        });
        generator.pace(&live).await
    })?
}

impl Generator {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn pace(self: &Rc<Self>, live: &Live) -> io::Result<LoadReport> {
        let (cpu_before, timeout_ns) = (ring::cpu_ns(), self.config.timeout.as_nanos() as u64);
        let mut timer = Timer::new()?;
        // A page ends a little before the table that shows it is drawn.
        let mut page_ends_ns = 950_000_000;
        loop {
            let now_ns = self.now_ns();
            let mut wake_ns = now_ns + TICK_NS;
            {
                let mut state = self.state.borrow_mut();
                state.book.advance(now_ns);
                self.dispatch(&mut state, now_ns);
                state.expire(now_ns, timeout_ns);
                if state.book.is_over() && state.deadlines.is_empty() {
                    break;
                }
                if now_ns >= page_ends_ns {
                    page_ends_ns += 1_000_000_000;
                    state.publish_page(live);
                }
                state.publish(live);
                wake_ns = wake_ns.min(state.book.next_due().unwrap_or(u64::MAX));
            }
            timer.sleep(Duration::from_nanos(wake_ns.saturating_sub(now_ns).max(NAP_NS))).await?;
        }
        let elapsed_ns = self.now_ns();
        let cpu_share = (ring::cpu_ns() - cpu_before) as f64 / elapsed_ns.max(1) as f64;
        self.drain(&mut timer).await?;
        let mut state = self.state.borrow_mut();
        state.publish_page(live);
        state.publish(live);
        Ok(state.report(&self.config, cpu_share))
    }

    /// Gives waiting requests to idle connections; asks for more connections when there are too few.
    fn dispatch(self: &Rc<Self>, state: &mut State, now_ns: u64) {
        while state.book.waiting() > 0 {
            let Some(conn) = state.idle.pop() else { break };
            conn.resting.set(false);
            if !conn.closed.get() {
                self.assign(state, &conn, now_ns);
            }
        }
        while state.book.waiting() > state.opening
            && state.open + state.opening < self.config.connections
            && now_ns >= state.connect_not_before_ns
        {
            state.opening += 1;
            monoio::spawn(self.clone().connect());
        }
    }

    /// Gives the oldest waiting request, if there is one, to `conn`.
    fn assign(&self, state: &mut State, conn: &Rc<Conn>, now_ns: u64) -> bool {
        let Some(due) = state.book.take(now_ns) else { return false };
        conn.in_flight.set(Some(due));
        conn.job.set(Some(due));
        let deadline_ns = due.due_ns + self.config.timeout.as_nanos() as u64;
        state.deadlines.push_back((deadline_ns, due.seq, conn.clone()));
        conn.wake_writer();
        true
    }

    async fn connect(self: Rc<Self>) {
        let connected = TcpStream::connect_addr(self.config.target).await;
        let mut state = self.state.borrow_mut();
        state.opening -= 1;
        let Ok(stream) = connected else {
            state.counts.connect_failed += 1;
            state.connect_not_before_ns = self.now_ns() + TICK_NS;
            return;
        };
        // Without it requests still arrive, only later; that would be seen.
        let _ = stream.set_nodelay(true);
        state.open += 1;
        state.counts.connections_max = state.counts.connections_max.max(state.open);
        let conn = Rc::new(Conn {
            job: Cell::default(),
            in_flight: Cell::default(),
            last: Cell::default(),
            writer: RefCell::default(),
            closed: Cell::new(false),
            resting: Cell::new(false),
            draining: Cell::new(false),
            canceller: RefCell::default(),
        });
        let (reader, writer) = stream.into_split();
        monoio::spawn(self.clone().write(writer, conn.clone()));
        monoio::spawn(self.clone().read(reader, conn.clone()));
        if !self.assign(&mut state, &conn, self.now_ns()) {
            state.rest(&conn);
        }
    }

    async fn write(self: Rc<Self>, mut half: OwnedWriteHalf<TcpStream>, conn: Rc<Conn>) {
        let mut bytes: Vec<u8> = Vec::with_capacity(8 * 1024);
        loop {
            let job = poll_fn(|cx| {
                if conn.closed.get() || conn.draining.get() {
                    return Poll::Ready(None);
                }
                match conn.job.take() {
                    Some(due) => Poll::Ready(Some(due)),
                    None => {
                        *conn.writer.borrow_mut() = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            });
            let Some(due) = job.await else { break };
            self.fill(&mut bytes, due.seq);
            let mut sent = 0;
            while sent < bytes.len() {
                let (written, part) = half.cancelable_write(bytes.slice(sent..), conn.handle()).await;
                bytes = part.into_inner();
                match written {
                    Ok(n) if n > 0 => sent += n,
                    // The reader learns of it, and counts.
                    _ => return conn.close(),
                }
            }
        }
        // Tells the peer that nothing more comes; it closes after what it has still to say.
        let _ = half.shutdown().await;
    }

    /// The bytes of one request.
    fn fill(&self, bytes: &mut Vec<u8>, seq: u64) {
        let Some(template) = self.template(seq) else { return };
        bytes.clear();
        bytes.extend_from_slice(&self.head);
        if self.config.gzip {
            let mut body = template.body.clone();
            template.patch(&mut body, 0, self.run, seq);
            let mut packer = GzEncoder::new(Vec::with_capacity(body.len()), Compression::fast());
            // Writing to a `Vec` cannot fail.
            let _ = packer.write_all(&body);
            let packed = packer.finish().unwrap_or_default();
            let _ = write!(bytes, "{}\r\n\r\n", packed.len());
            bytes.extend_from_slice(&packed);
        } else {
            let _ = write!(bytes, "{}\r\n\r\n", template.body.len());
            let at = bytes.len();
            bytes.extend_from_slice(&template.body);
            template.patch(bytes, at, self.run, seq);
        }
    }

    fn template(&self, seq: u64) -> Option<&Template> {
        let templates = &self.config.templates;
        templates.get((seq % templates.len().max(1) as u64) as usize)
    }

    async fn read(self: Rc<Self>, mut half: OwnedReadHalf<TcpStream>, conn: Rc<Conn>) {
        let (mut input, mut filled) = (vec![0u8; 4096], 0usize);
        while !conn.closed.get() {
            if filled == input.len() {
                input.resize(2 * input.len(), 0);
            }
            let (read, part) = half.cancelable_read(input.slice_mut(filled..), conn.handle()).await;
            input = part.into_inner();
            match read {
                Ok(n) if n > 0 => filled += n,
                _ => break,
            }
            if !self.take_answers(&conn, &mut input, &mut filled) {
                break;
            }
        }
        conn.close();
        let mut state = self.state.borrow_mut();
        state.open -= 1;
        if conn.in_flight.take().is_some() {
            state.counts.cut_off += 1;
        }
    }

    /// Judges all whole answers in the buffer, then gives the connection its next request. `false`: it is over.
    fn take_answers(&self, conn: &Rc<Conn>, input: &mut [u8], filled: &mut usize) -> bool {
        let now_ns = self.now_ns();
        let mut state = self.state.borrow_mut();
        loop {
            match frame(&mut input[..*filled], Kind::Response, ANSWER_BYTES_MAX) {
                Ok(Step::More { .. }) => break,
                Ok(Step::Whole(answer)) => {
                    self.judge(&mut state, conn, &answer, &mut input[..*filled], now_ns);
                    input.copy_within(answer.end..*filled, 0);
                    *filled -= answer.end;
                    if answer.close {
                        return false;
                    }
                    if *filled == 0 {
                        break;
                    }
                }
                Err(_) => {
                    state.counts.bad_http += 1;
                    state.counts.answered += u64::from(conn.in_flight.take().is_some());
                    return false;
                }
            }
        }
        // A resting one had an answer to nothing; the pacer knows where to find it.
        let free = conn.in_flight.get().is_none() && !conn.draining.get() && !conn.resting.get();
        if free && !self.assign(&mut state, conn, now_ns) {
            state.rest(conn);
        }
        true
    }

    fn judge(&self, state: &mut State, conn: &Conn, answer: &Frame, input: &mut [u8], now_ns: u64) {
        let State { book, counts, checker, inflated, .. } = state;
        let Some(due) = conn.in_flight.get() else {
            counts.duplicates += 1;
            return;
        };
        let Some(template) = self.template(due.seq) else { return };
        let mut body = input.get_mut(answer.body.clone()).unwrap_or(&mut []);
        if answer.gzip {
            inflated.clear();
            let limit = ANSWER_BYTES_MAX as u64;
            if GzDecoder::new(&*body).take(limit).read_to_end(inflated).is_err() {
                inflated.clear(); // Not JSON, then.
            }
            body = inflated;
        }
        let mut id = [0; ID_LEN];
        write_id(&mut id, self.run, due.seq);
        // A second answer to the request before may arrive only after the next was sent.
        if let Some(last) = conn.last.get() {
            let mut before = [0; ID_LEN];
            write_id(&mut before, self.run, last);
            let says = |id: &[u8]| memchr::memmem::find(body, id).is_some();
            if says(&before) && !says(&id) {
                counts.duplicates += 1;
                return;
            }
        }
        conn.in_flight.set(None);
        conn.last.set(Some(due.seq));
        counts.answered += 1;
        book.answered(due, now_ns);
        let tmax_ns = template.tmax_ms.map_or(u64::MAX, |ms| u64::from(ms) * 1_000_000);
        counts.past_tmax += u64::from(now_ns.saturating_sub(due.due_ns) > tmax_ns);
        match checker.check(template, &id, answer.status, body) {
            Ok(Answer::Bids(n)) => {
                counts.with_bid += 1;
                counts.bids += n as u64;
            }
            Ok(Answer::NoBid) => counts.no_bids += 1,
            Ok(Answer::Refused) => counts.refused += 1,
            Err(fault) => counts.faults[fault as usize] += 1,
        }
    }

    /// Closes our half of all connections and listens until the peer has closed its own: an answer that nobody asked
    /// for has no later moment to come.
    async fn drain(&self, timer: &mut Timer) -> io::Result<()> {
        let idle = std::mem::take(&mut self.state.borrow_mut().idle);
        for conn in &idle {
            conn.draining.set(true);
            conn.wake_writer();
        }
        let until_ns = self.now_ns() + CLOSING_NS;
        while idle.iter().any(|c| !c.closed.get()) && self.now_ns() < until_ns {
            timer.sleep(Duration::from_millis(1)).await?;
        }
        Ok(())
    }
}

impl State {
    /// Puts a connection among the idle ones.
    fn rest(&mut self, conn: &Rc<Conn>) {
        conn.resting.set(true);
        self.idle.push(conn.clone());
    }

    /// Gives up what is too old, sent or not.
    fn expire(&mut self, now_ns: u64, timeout_ns: u64) {
        self.book.expire(now_ns, timeout_ns);
        while let Some((deadline_ns, seq, conn)) = self.deadlines.front() {
            let over = conn.in_flight.get().is_none_or(|d| d.seq != *seq);
            if !over && *deadline_ns > now_ns {
                break;
            }
            if !over {
                self.counts.timed_out += 1;
                conn.in_flight.set(None);
                // Its answer may still come; a new connection cannot confuse it with another.
                conn.close();
            }
            self.deadlines.pop_front();
        }
    }

    fn publish(&self, live: &Live) {
        let c = &self.counts;
        live.due.store(self.book.due, Relaxed);
        live.sent.store(self.book.sent, Relaxed);
        live.answered.store(c.answered, Relaxed);
        live.with_bid.store(c.with_bid, Relaxed);
        let wrong = c.faults.iter().sum::<u64>() + c.bad_http;
        live.bad.store(wrong + c.duplicates + c.timed_out + c.cut_off + self.book.never_sent, Relaxed);
        live.connections.store(self.open as u64, Relaxed);
    }

    fn publish_page(&mut self, live: &Live) {
        if self.book.page.is_empty() {
            return;
        }
        for (quantile, to) in [(0.5, &live.p50_ns), (0.99, &live.p99_ns), (0.999, &live.p999_ns)] {
            to.store(self.book.page.value_at_quantile(quantile), Relaxed);
        }
        self.book.turn_page();
    }

    fn report(&self, config: &LoadConfig, cpu_share: f64) -> LoadReport {
        let (book, c) = (&self.book, &self.counts);
        LoadReport {
            rate: config.rate,
            seconds: config.seconds,
            due: book.due,
            sent: book.sent,
            achieved: book.achieved(),
            answered: c.answered,
            with_bid: c.with_bid,
            bids: c.bids,
            no_bids: c.no_bids,
            refused: c.refused,
            faults: c.faults,
            past_tmax: c.past_tmax,
            bad_http: c.bad_http,
            duplicates: c.duplicates,
            timed_out: c.timed_out,
            cut_off: c.cut_off,
            never_sent: book.never_sent,
            connect_failed: c.connect_failed,
            connections: c.connections_max,
            latency: book.latency.clone(),
            waited: book.waited.clone(),
            cpu_share,
        }
    }
}

/// `outcry load`: sends requests to a bidder and checks its answers.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// The bidder: http://host:port/path. No TLS.
    #[arg(default_value = "http://127.0.0.1:8080/openrtb2/auction")]
    pub url: String,
    /// Requests a second, whatever the bidder makes of it.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Equal gaps between requests instead of Poisson arrivals.
    #[arg(long)]
    pub constant: bool,
    /// Connections at most; they are made as they are needed.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// An answer that is not there so long after its request was due is missing.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// The same seed gives the same requests at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many different requests are made and sent in turn.
    #[arg(long, default_value_t = 2000)]
    pub distinct: usize,
    /// Send the request in this file instead, with an id of ours; may be repeated.
    #[arg(long)]
    pub file: Vec<PathBuf>,
    /// Compress requests (costs the generator much).
    #[arg(long)]
    pub gzip: bool,
    /// Accept compressed answers.
    #[arg(long)]
    pub accept_gzip: bool,
    /// Price macros may stay in answers: the bidder is not the last auction.
    #[arg(long)]
    pub macros_may_stay: bool,
    /// Pin the generator to this CPU.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// The report as one JSON object, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Why a load cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum NoLoad {
    /// The URL is not http://host:port/path.
    #[error("{0:?} is not http://host[:port]/path")]
    Url(String),
    /// The host has no address.
    #[error("{0}: no address: {1}")]
    Host(String, io::Error),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is no request.
    #[error("{0}: {1}")]
    Request(PathBuf, NoTemplate),
    /// The rate or the time is not above zero.
    #[error("--rate and --seconds must be above 0, --connections at least 1")]
    Range,
}

impl LoadArgs {
    /// What the arguments mean.
    pub fn config(&self) -> Result<LoadConfig, NoLoad> {
        let sound = |n: f64| n.is_finite() && n > 0.0;
        if !sound(self.rate) || !sound(self.seconds) || self.connections == 0 {
            return Err(NoLoad::Range);
        }
        let rest = self.url.strip_prefix("http://").ok_or_else(|| NoLoad::Url(self.url.clone()))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let unprintable = |c: char| c.is_ascii_control() || c == ' ';
        if host.is_empty() || rest.contains(unprintable) {
            return Err(NoLoad::Url(self.url.clone()));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let no_host = |e| NoLoad::Host(host.to_owned(), e);
        let mut found = with_port.to_socket_addrs().map_err(no_host)?;
        let target = found.next().ok_or_else(|| no_host(io::ErrorKind::NotFound.into()))?;
        let mut templates = Vec::new();
        for file in &self.file {
            let text = std::fs::read(file).map_err(|e| NoLoad::File(file.clone(), e))?;
            templates.push(Template::of(&text).map_err(|e| NoLoad::Request(file.clone(), e))?);
        }
        if templates.is_empty() {
            templates = generate(self.seed, self.distinct.max(1));
        }
        Ok(LoadConfig {
            target,
            host: host.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            rate: self.rate,
            seconds: self.seconds,
            spacing: if self.constant { Spacing::Constant } else { Spacing::Poisson },
            connections: self.connections,
            timeout: Duration::from_millis(self.timeout_ms.max(1)),
            seed: self.seed,
            templates,
            gzip: self.gzip,
            accept_gzip: self.accept_gzip,
            macros_may_stay: self.macros_may_stay,
        })
    }
}

/// Runs `outcry load`. 0: every request got one right answer. 1: not so, or it could not be driven. 2: all answers
/// were right, but the rate was not reached, so nothing was measured.
pub fn run(args: LoadArgs) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(e) => {
            eprintln!("load: {e}");
            return ExitCode::FAILURE;
        }
    };
    let live = Arc::new(Live::default());
    let (driven, cpu) = (live.clone(), args.cpu);
    let thread = std::thread::spawn(move || {
        if !ring::pin(cpu) {
            eprintln!("load: cannot pin to CPU {cpu:?}; running unpinned");
        }
        drive(config, &driven)
    });
    let mut table = report::LiveTable::new(args.json);
    while !thread.is_finished() {
        table.second(&live, Vec::new, || thread.is_finished());
    }
    match thread.join() {
        Ok(Ok(report)) => {
            if args.json {
                println!("{}", report::json(&report));
            } else {
                print!("{}", report::text(&report));
            }
            match (report.is_right(), report.is_measured()) {
                (false, _) => ExitCode::FAILURE,
                (true, false) => ExitCode::from(2),
                (true, true) => ExitCode::SUCCESS,
            }
        }
        Ok(Err(e)) => {
            eprintln!("load: {e}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("load: the generator panicked");
            ExitCode::FAILURE
        }
    }
}
