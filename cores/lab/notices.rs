//! What an exchange and its browsers do with the notice URLs of answers: they call most of them, late, some several times, a few
//! with something changed, and call again what was not acknowledged.
//! Owns: a thread, one connection, what is to be called. Called by: `generator`. Never: delays a request of the load.
//! Full: what is due waits, however much it is: whoever drives a load of notices that the exchange cannot take sees it in memory.
use super::{
    bids::text,
    http::{Kind, Step, frame},
    json::Value,
    rng::Rng,
};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Chances of a thousand: an nurl is called, a burl is, one is called again after its acknowledgement, one is called with
/// something changed.
const WON: u32 = 900;
const BILLED: u32 = 700;
const REPEATED: u32 = 200;
const FORGED: u32 = 30;
/// A win is told within, a bill within this.
const WON_MS: u64 = 50;
const BILLED_MS: u64 = 600;
/// What was not acknowledged is called again after this.
const AGAIN: Duration = Duration::from_millis(150);
/// A call is waited for so long.
const PATIENCE: Duration = Duration::from_secs(2);
/// After the load has ended, what is not acknowledged is called for so long.
const LAST: Duration = Duration::from_secs(10);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    due: Instant,
    seq: u64,
    kind: &'static str,
    path: String,
    bidid: String,
    impid: String,
    forged: bool,
    /// Calls that are to follow once it is acknowledged.
    more: u32,
}

/// See the module.
pub(super) struct Notices {
    to: Option<Sender<Call>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    rng: Rng,
    seq: u64,
}

impl Notices {
    /// Calls go to `target`, whatever host the URLs name; each is written to `log` with what came of it, a JSON object a line:
    /// `{"kind":"billed","bidid":"...","impid":"1","us":...,"status":204,"forged":true}`; `us` when it was over, in microseconds
    /// since 1970; status 0: it was not answered.
    pub(super) fn new(target: SocketAddr, log: &Path, seed: u64) -> io::Result<Notices> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let (to, from) = channel();
        let thread = std::thread::Builder::new().name("load-notices".to_owned());
        let thread = thread.spawn(move || Caller::new(target, log).run(&from))?;
        Ok(Notices { to: Some(to), thread: Some(thread), rng: Rng::new(seed), seq: 0 })
    }

    /// Plans calls of the notice URLs of an answer.
    pub(super) fn of(&mut self, answer: Value<'_>) {
        let bidid = answer.text_of("bidid").unwrap_or("");
        for bid in answer.list("seatbid").flat_map(|seat| seat.list("bid")) {
            for (key, kind, chance, within_ms) in [("nurl", "won", WON, WON_MS), ("burl", "billed", BILLED, BILLED_MS)]
            {
                // Those that are the DSP's own are nobody's to call here.
                let path = bid.text_of(key).and_then(|url| Some(&url[url.find("/notice/")?..]));
                let Some(path) = path.filter(|_| self.rng.chance(chance)) else { continue };
                let forged = self.rng.chance(FORGED);
                let due = Instant::now() + Duration::from_millis(self.rng.below(within_ms));
                let more = if self.rng.chance(REPEATED) { self.rng.between(1, 3) as u32 } else { 0 };
                self.seq += 1;
                let call = Call {
                    due,
                    seq: self.seq,
                    kind,
                    path: if forged { changed(path, &mut self.rng) } else { path.to_owned() },
                    bidid: bidid.to_owned(),
                    impid: bid.text_of("impid").unwrap_or("").to_owned(),
                    forged,
                    more: if forged { 0 } else { more },
                };
                if let Some(to) = &self.to {
                    let _ = to.send(call);
                }
            }
        }
    }

    /// Calls what is left, at once. `Err`: the log is not whole.
    pub(super) fn end(&mut self) -> io::Result<()> {
        drop(self.to.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            Some(Err(_)) => Err(io::Error::other("the notices' thread panicked")),
            None => Ok(()),
        }
    }
}

/// One character of the token is another.
fn changed(path: &str, rng: &mut Rng) -> String {
    let mut bytes = path.as_bytes().to_vec();
    let (from, to) = ("/notice/".len(), path.find('?').unwrap_or(path.len()));
    let at = from + rng.below((to - from).max(1) as u64) as usize;
    if let Some(byte) = bytes.get_mut(at) {
        *byte = if *byte == b'A' { b'B' } else { b'A' };
    }
    String::from_utf8(bytes).unwrap_or_default()
}

struct Caller {
    target: SocketAddr,
    conn: Option<TcpStream>,
    log: BufWriter<File>,
    waiting: BinaryHeap<Reverse<Call>>,
}

impl Caller {
    fn new(target: SocketAddr, log: File) -> Caller {
        Caller { target, conn: None, log: BufWriter::new(log), waiting: BinaryHeap::new() }
    }

    fn run(mut self, from: &Receiver<Call>) -> io::Result<()> {
        let mut until = None;
        while until.is_none_or(|until| Instant::now() < until) {
            let due = self.waiting.peek().map_or(PATIENCE, |c| c.0.due.saturating_duration_since(Instant::now()));
            if until.is_none() {
                match from.recv_timeout(due) {
                    Ok(call) => self.waiting.push(Reverse(call)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => until = Some(Instant::now() + LAST),
                }
                self.waiting.extend(from.try_iter().map(Reverse));
            } else if self.waiting.is_empty() {
                break;
            } else {
                std::thread::sleep(due);
            }
            while let Some(Reverse(call)) = self.waiting.peek() {
                if call.due > Instant::now() && until.is_none() {
                    break;
                }
                if let Some(Reverse(call)) = self.waiting.pop() {
                    self.call(call)?;
                }
                // A long row of them is not to keep new ones out of their order.
                if until.is_none() {
                    self.waiting.extend(from.try_iter().map(Reverse));
                } else if self.waiting.peek().is_some_and(|c| c.0.due > Instant::now()) {
                    break;
                }
            }
        }
        self.log.flush()
    }

    fn call(&mut self, mut call: Call) -> io::Result<()> {
        let status = self.exchange(&call.path).unwrap_or_else(|_| {
            self.conn = None;
            0
        });
        let us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut line = format!("{{\"kind\":\"{}\",\"bidid\":\"{}\",\"impid\":", call.kind, call.bidid).into_bytes();
        text(&mut line, &call.impid);
        let forged = if call.forged { ",\"forged\":true" } else { "" };
        writeln!(line, ",\"us\":{us},\"status\":{status}{forged}}}")?;
        self.log.write_all(&line)?;
        let again = match status {
            0 | 503 => !call.forged,
            204 if call.more > 0 => {
                call.more -= 1;
                true
            }
            _ => false,
        };
        if again {
            call.due = Instant::now() + AGAIN;
            self.waiting.push(Reverse(call));
        }
        Ok(())
    }

    fn exchange(&mut self, path: &str) -> io::Result<u16> {
        let conn = match &mut self.conn {
            Some(conn) => conn,
            None => {
                let conn = TcpStream::connect_timeout(&self.target, PATIENCE)?;
                conn.set_nodelay(true)?;
                conn.set_read_timeout(Some(PATIENCE))?;
                self.conn.insert(conn)
            }
        };
        conn.write_all(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.target).as_bytes())?;
        let (mut input, mut filled) = ([0; 4096], 0);
        loop {
            let n = conn.read(&mut input[filled..])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += n;
            match frame(&mut input[..filled], Kind::Response, 4096).map_err(io::Error::other)? {
                Step::More { .. } => {}
                Step::Whole(answer) => {
                    if answer.close {
                        self.conn = None;
                    }
                    return Ok(answer.status);
                }
            }
        }
    }
}
