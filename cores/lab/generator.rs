//! The loop that drives a load: one pacer, and a writer and a reader for each connection.
//! Owns: one runtime, its connections, the book of the run. Runs on: the thread that calls [`drive`].
//! Called by: `load`, `demo`, benchmarks. Never: lets a slow answer delay the next request.
//! Full: with all [`LoadConfig::connections`] busy a request waits in the book, and its latency counts meanwhile.
//!
//! A writer sends one request at a time; a reader always listens: so an answer nobody asked for is seen, and a closed
//! connection is noticed before it is used.
use super::{
    arrivals::{Book, Due},
    check::{Answer, Checker, Fault},
    http::{Frame, Kind, Step, frame},
    load::{Live, LoadConfig, LoadReport},
    log::Log,
    notices::Notices,
    requests::{ID_LEN, Template, write_id},
    ring,
    timer::Timer,
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
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
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
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
    log: Option<Log>,
    notices: Option<Notices>,
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
        log: config.answers.as_deref().map(Log::append_to).transpose()?,
        notices: config.notices.as_deref().map(|path| Notices::new(config.target, path, config.seed)).transpose()?,
    };
    // Two runs against one bidder must not share ids.
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let run = config.run.unwrap_or((clock.as_nanos() >> 10) as u32);
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
        let (cpu_before, patience_ns) =
            (ring::cpu_ns(), self.config.patience.min(self.config.timeout).as_nanos() as u64);
        let mut timer = Timer::new()?;
        // A page ends a little before the table that shows it is drawn.
        let mut page_ends_ns = 950_000_000;
        loop {
            let now_ns = self.now_ns();
            let mut wake_ns = now_ns + TICK_NS;
            {
                let mut state = self.state.borrow_mut();
                if self.config.stop.load(Relaxed) {
                    state.book.end(now_ns);
                }
                state.book.advance(now_ns);
                self.dispatch(&mut state, now_ns);
                state.expire(now_ns, patience_ns, self.run);
                if state.book.is_over() && state.deadlines.is_empty() {
                    break;
                }
                if now_ns >= page_ends_ns {
                    page_ends_ns += 1_000_000_000;
                    state.publish_page(live);
                    if let Some(log) = &mut state.log {
                        log.flush();
                    }
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
        if let Some(log) = &mut state.log {
            log.end()?;
        }
        if let Some(notices) = &mut state.notices {
            notices.end()?;
        }
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
        if let Some(due) = conn.in_flight.take() {
            state.counts.cut_off += 1;
            state.broken(self.run, due.seq, "cut off");
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
                    if let Some(due) = conn.in_flight.take() {
                        state.counts.answered += 1;
                        state.broken(self.run, due.seq, "no HTTP");
                    }
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
        let State { book, counts, checker, inflated, log, notices, .. } = state;
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
                if let Some(log) = log {
                    log.answer(&before, answer.status, Some("a second answer"));
                }
                return;
            }
        }
        conn.in_flight.set(None);
        conn.last.set(Some(due.seq));
        counts.answered += 1;
        book.answered(due, now_ns);
        let tmax_ns = template.tmax_ms.map_or(u64::MAX, |ms| u64::from(ms) * 1_000_000);
        counts.past_tmax += u64::from(now_ns.saturating_sub(due.due_ns) > tmax_ns);
        let checked = checker.check(template, &id, answer.status, body, |root| {
            if let Some(log) = log {
                log.note(root);
            }
            if let Some(notices) = notices {
                notices.of(root);
            }
        });
        if let Some(log) = log {
            log.answer(&id, answer.status, checked.err().map(Fault::name));
        }
        match checked {
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

    /// Writes down that a request's answer did not come whole.
    fn broken(&mut self, run: u32, seq: u64, why: &str) {
        if let Some(log) = &mut self.log {
            let mut id = [0; ID_LEN];
            write_id(&mut id, run, seq);
            log.broken(&id, why);
        }
    }

    /// Gives up what is too old, sent or not.
    fn expire(&mut self, now_ns: u64, patience_ns: u64, run: u32) {
        self.book.expire(now_ns, patience_ns);
        while let Some((deadline_ns, seq, conn)) = self.deadlines.pop_front() {
            if conn.in_flight.get().is_none_or(|d| d.seq != seq) {
                continue;
            }
            if deadline_ns > now_ns {
                self.deadlines.push_front((deadline_ns, seq, conn));
                break;
            }
            self.counts.timed_out += 1;
            conn.in_flight.set(None);
            // Its answer may still come; a new connection cannot confuse it with another.
            conn.close();
            self.broken(run, seq, "timed out");
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
