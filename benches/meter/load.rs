//! Load for `ms` milliseconds over `c` connections, each with one request in flight. Closed loop: the next request leaves
//! when the answer before it is there. With `rate` open loop: that many requests a second are due, at random moments,
//! whatever became of those before; latency counts from when a request was due, and stands there only if the rate was
//! reached.
//!
//!   floor-load port=9000 c=64 ms=3000 body=1800 cpu=1
//!   floor-load port=9000 c=512 ms=5000 body=1800 cpu=1 rate=8000
//!   floor-load port=8000 c=64 ms=3000 file=requests.jsonl path=/openrtb2/auction dsps=5
//!
//! Posts `body` bytes of filler to `path`, or the lines of `file` in turn (a file that is not one JSON object a line is
//! one request as a whole); a run of 16 zeros in a line is replaced by a number of its own in each request.
//!
//! Prints one JSON object. An answer is a bid when it is a 200 with a seat in its seatbid that echoes its request's
//! number, if that had one; a no-bid when it is a 204. `mismatched` are answers that carry another request's number
//! or bring a second one along: mix-ups that no figure makes good. With `dsps` the DSPs are so many of `floor-dsp`'s, and
//! it is known who bids: `due_bids` are the requests that at least one of them bids on, `missed` those of them that came
//! back without a bid, and a bid that none of them made is `mismatched`. Exits 1 when a request was never answered.
use memchr::{memchr, memmem};
use outcry_benches::{fate, kit::*};
use outcry_cores::lab::{
    arrivals::{Book, Spacing},
    load::ACHIEVED_MIN,
};
use std::{ops::Range, process::ExitCode, time::Instant};

const RECV: u8 = 1;
const SENT: u8 = 2;
/// Nothing at all for this long, and who is waiting waits for ever.
const STALL_NS: u64 = 4_000_000_000;
/// Arrivals closer than this leave together.
const NAP_NS: u64 = 20_000;

/// Where a request's number goes, and the string it is in: the id.
#[derive(Clone)]
struct Slot {
    at: usize,
    id: Range<usize>,
}

/// A request to be posted.
struct Template {
    post: Vec<u8>,
    slot: Option<Slot>,
}

impl Slot {
    fn of(post: &[u8]) -> Option<Slot> {
        let at = memmem::find(post, SLOT)?;
        let start = post[..at].iter().rposition(|b| *b == b'"').map_or(at, |quote| quote + 1);
        let end = memchr(b'"', &post[at..]).map_or(at + SLOT.len(), |n| at + n);
        Some(Slot { at, id: start..end })
    }
}

fn templates(path: &str, file: &[u8]) -> Vec<Template> {
    let lines: Vec<&[u8]> = file.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()).collect();
    let objects = lines.iter().all(|l| l.starts_with(b"{") && l.ends_with(b"}"));
    let bodies = if objects { lines } else { vec![file] };
    let make = |body: &&[u8]| {
        let post = request(path, body);
        Template { slot: Slot::of(&post), post }
    };
    bodies.iter().map(make).collect()
}

/// Bytes of the first answer in `b` once it is whole: by length or chunks (Go sends long bodies in chunks), or a 204.
fn whole_answer(b: &[u8]) -> Option<usize> {
    let (head, len) = frame(b)?;
    if len > 0 || memmem::find(&b[..head], b"chunked").is_none() {
        return (b.len() >= head + len).then_some(head + len);
    }
    let mut at = head;
    loop {
        let line = &b[at..at + memchr(b'\n', b.get(at..)?)?];
        let size = std::str::from_utf8(line).ok().and_then(|h| usize::from_str_radix(h.trim_end(), 16).ok());
        let size = size.unwrap_or_else(|| panic!("not a chunk size: {:?}", String::from_utf8_lossy(line)));
        at += line.len() + 1 + size + 2;
        if size == 0 {
            return (b.len() >= at).then_some(at);
        }
    }
}

struct Conn {
    fd: u32,
    post: Vec<u8>,
    slot: Option<Slot>,
    acc: Vec<u8>,
    at: u64,
    busy: bool,
    lost: bool,
}

#[derive(Default)]
struct Counts {
    done: u64,
    bids: u64,
    nobids: u64,
    others: u64,
    mismatched: u64,
    bytes: u64,
    due_bids: u64,
    missed: u64,
}

/// What an answer is.
struct Judge {
    seat: memmem::Finder<'static>,
    dsps: usize,
    counts: Counts,
}

impl Judge {
    fn new(dsps: usize) -> Judge {
        Judge { seat: memmem::Finder::new(br#""seatbid":[{"#), dsps, counts: Counts::default() }
    }

    /// `received` begins with an answer of `len` bytes; what follows it was not asked for. `id` is its request's.
    fn look(&mut self, received: &[u8], len: usize, id: Option<&[u8]>) {
        let due = self.dsps > 0 && id.is_some_and(|id| fate::any_bids(id, self.dsps));
        let (n, answer) = (&mut self.counts, &received[..len]);
        n.done += 1;
        n.bytes += len as u64;
        n.due_bids += u64::from(due);
        match answer.get(9..12) {
            _ if len < received.len() => n.mismatched += 1,
            Some(b"200") if self.seat.find(answer).is_some() => match id {
                Some(id) if memmem::find(answer, id).is_none() => n.mismatched += 1,
                Some(_) if self.dsps > 0 && !due => n.mismatched += 1,
                _ => n.bids += 1,
            },
            Some(b"204") => {
                n.nobids += 1;
                n.missed += u64::from(due);
            }
            _ => n.others += 1,
        }
    }
}

struct Load {
    ring: Ring,
    templates: Vec<Template>,
    conns: Vec<Conn>,
    judge: Judge,
    hist: Vec<u32>, // microseconds
    sent: u64,
    busy: usize,
    end_ns: u64,
    book: Option<Book>, // open loop
    idle: Vec<usize>,   // then; last used first
}

impl Load {
    /// Sends the next request on a connection that has none; its time counts from `due`.
    fn post(&mut self, i: usize, due: u64) {
        self.sent += 1;
        let t = &self.templates[(self.sent % self.templates.len() as u64) as usize];
        let c = &mut self.conns[i];
        c.post.clear();
        c.post.extend_from_slice(&t.post);
        c.slot.clone_from(&t.slot);
        if let Some(s) = &c.slot {
            hex16(&mut c.post[s.at..s.at + SLOT.len()], self.sent);
        }
        (c.at, c.busy) = (due, true);
        self.busy += 1;
        self.ring.send(c.fd, &c.post, ud(SENT, i));
    }

    /// A connection has no request in flight.
    fn free(&mut self, i: usize, now: u64) {
        let due = match &mut self.book {
            None => (now < self.end_ns).then_some(now),
            Some(book) => book.take(now).map(|due| due.due_ns),
        };
        match due {
            Some(due) => self.post(i, due),
            None => self.idle.push(i),
        }
    }

    fn bytes(&mut self, i: usize, b: &[u8], now: u64) {
        let c = &mut self.conns[i];
        let id = c.slot.as_ref().map(|s| &c.post[s.id.clone()]);
        if c.acc.is_empty()
            && let Some(n) = whole_answer(b)
        {
            self.judge.look(b, n, id);
        } else {
            c.acc.extend_from_slice(b);
            let Some(n) = whole_answer(&c.acc) else { return };
            self.judge.look(&c.acc, n, id);
            c.acc.clear();
        }
        let us = (now.saturating_sub(c.at) / 1000) as usize;
        let last = self.hist.len() - 1;
        self.hist[us.min(last)] += 1;
        c.busy = false;
        self.busy -= 1;
        self.free(i, now);
    }

    fn received(&mut self, i: usize, res: i32, flags: u32, now: u64) {
        if res > 0 {
            let (id, b) = self.ring.data(flags, res);
            self.bytes(i, b, now);
            self.ring.recycle(id);
        }
        if flags & MORE != 0 {
            return;
        }
        let c = &mut self.conns[i];
        if res > 0 || res == -libc::ENOBUFS {
            self.ring.recv(c.fd, ud(RECV, i));
        } else if !c.lost {
            c.lost = true;
            self.busy -= usize::from(c.busy);
            self.idle.retain(|&j| j != i);
        }
    }

    /// What is due by now leaves; gives the time until more is.
    fn pace(&mut self, now: u64) -> Option<u64> {
        let book = self.book.as_mut()?;
        book.advance(now);
        book.expire(now, STALL_NS);
        while let Some(i) = self.idle.pop() {
            match self.book.as_mut().and_then(|b| b.take(now)) {
                Some(due) => self.post(i, due.due_ns),
                None => {
                    self.idle.push(i);
                    break;
                }
            }
        }
        let next = self.book.as_ref().and_then(Book::next_due)?;
        Some(next.saturating_sub(now).max(NAP_NS))
    }

    fn is_over(&self, now: u64) -> bool {
        let more = self.book.as_ref().map_or(now < self.end_ns, |b| !b.is_over());
        self.busy == 0 && (!more || self.conns.iter().all(|c| c.lost))
    }

    /// Runs to the end of the load and of the last answer; false when some never came.
    fn run(&mut self) -> (f64, bool) {
        let start = Instant::now();
        let clock = || start.elapsed().as_nanos() as u64;
        for i in 0..self.conns.len() {
            self.free(i, clock());
        }
        let mut last = clock();
        loop {
            let nap = self.pace(clock());
            if self.is_over(clock()) {
                break;
            }
            self.ring.wait(Some(nap.unwrap_or(STALL_NS).min(STALL_NS / 4)));
            let now = clock();
            let batch = self.ring.completions();
            if !batch.is_empty() {
                last = now;
            } else if now - last > STALL_NS {
                return ((last as f64) / 1e9, false);
            }
            for &(u, res, flags) in &batch {
                if let (RECV, i) = un(u) {
                    self.received(i, res, flags, now);
                } // else a send: its failure also shows at the receive
            }
            self.ring.done(batch);
        }
        (start.elapsed().as_secs_f64(), self.conns.iter().all(|c| !c.lost))
    }
}

fn main() -> ExitCode {
    let a = Args::parse(&["cpu", "c", "ms", "port", "body", "file", "path", "dsps", "rate"]);
    pin(a.count("cpu", 1));
    let (n, file, path) = (a.count("c", 64), a.text("file", ""), a.text("path", "/bid"));
    let (ms, rate) = (a.count("ms", 3000) as u64, a.count("rate", 0));
    let body = match file.as_str() {
        "" => filler(a.count("body", 1800)),
        file => std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}")),
    };
    let mut cfg = Cfg::from(&a);
    cfg.fixed = false;
    let mut ring = Ring::new(cfg).expect("io_uring");
    let conn = |i| {
        let s = std::net::TcpStream::connect(("127.0.0.1", a.port("port", 9000))).expect("connect");
        let fd = ring.install(s);
        ring.recv(fd, ud(RECV, i));
        Conn { fd, post: Vec::new(), slot: None, acc: Vec::new(), at: 0, busy: false, lost: false }
    };
    let conns: Vec<Conn> = (0..n).map(conn).collect();
    let book = (rate > 0).then(|| Book::new(rate as f64, ms as f64 / 1e3, Spacing::Poisson, 1));
    let mut load = Load {
        ring,
        templates: templates(&path, &body),
        conns,
        judge: Judge::new(a.count("dsps", 0)),
        hist: vec![0; 1_000_001],
        sent: 0,
        busy: 0,
        end_ns: ms * 1_000_000,
        book,
        idle: Vec::with_capacity(n),
    };
    let cpu = cpu_ns();
    let (secs, answered) = load.run();
    let share = (cpu_ns() - cpu) as f64 / 1e9 / secs;
    let Counts { done, bids, nobids, others, mismatched, bytes, due_bids, missed } = load.judge.counts;
    let unanswered = load.sent - done;
    let achieved = load.book.as_ref().map_or(1.0, Book::achieved);
    let times = if achieved >= ACHIEVED_MIN {
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|p| quantile(&load.hist, p));
        let max = load.hist.iter().rposition(|k| *k > 0).unwrap_or(0);
        format!("\"p50_us\":{p50},\"p99_us\":{p99},\"p999_us\":{p999},\"max_us\":{max},")
    } else {
        String::new()
    };
    println!(
        "{{\"sent\":{},\"done\":{done},\"bids\":{bids},\"due_bids\":{due_bids},\"missed\":{missed},\"nobids\":{nobids},\
        \"others\":{others},\"mismatched\":{mismatched},\"unanswered\":{unanswered},\"secs\":{secs:.3},\"rps\":{:.0},{times}\
        \"achieved\":{achieved:.4},\"answer_bytes\":{:.1},\"cpu_share\":{share:.3}}}",
        load.sent,
        done as f64 / secs,
        bytes as f64 / done.max(1) as f64
    );
    if answered && unanswered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_last_byte_however_it_is_framed() {
        for answer in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        ] {
            for cut in 0..answer.len() {
                assert_eq!(whole_answer(&answer.as_bytes()[..cut]), None, "{answer} cut at {cut}");
            }
            assert_eq!(whole_answer(answer.as_bytes()), Some(answer.len()));
        }
    }

    #[test]
    fn a_file_is_a_request_a_line_or_one_request() {
        let lines = templates("/x", b"{\"id\":\"rq-0000000000000000\"}\n\n{\"id\":\"b\"}\n");
        assert_eq!(lines.iter().map(|t| t.slot.is_some()).collect::<Vec<_>>(), [true, false]);
        assert_eq!(lines[0].slot.as_ref().map(|s| &lines[0].post[s.id.clone()]), Some(&b"rq-0000000000000000"[..]));
        assert_eq!(templates("/x", b"{\n\"id\":\"b\"\n}\n").len(), 1);
    }

    #[test]
    fn an_answer_counts_as_what_it_is() {
        let bid = br#"HTTP/1.1 200 OK  {"id":"rq-000000000000002a","seatbid":[{"bid":[]}]}"#;
        let mut number = *b"rq-0000000000000000";
        hex16(&mut number[3..], 42);
        let mut judge = Judge::new(0);
        let mut look = |answer: &[u8], len, id: Option<&[u8]>| judge.look(answer, len, id);
        look(bid, bid.len(), Some(&number));
        look(bid, bid.len(), None);
        look(bid, bid.len(), Some(b"rq-000000000000002b"));
        look(bid, bid.len() - 1, Some(&number));
        look(b"HTTP/1.1 204 No Content\r\n\r\n", 27, Some(&number));
        look(b"HTTP/1.1 200 OK\r\n\r\n{\"seatbid\":[]}", 33, Some(&number));
        let n = judge.counts;
        assert_eq!((n.done, n.bids, n.mismatched, n.nobids, n.others, n.missed), (6, 2, 2, 1, 1, 0));
    }

    #[test]
    fn who_bids_is_known_beforehand() {
        let id =
            |wanted: bool| (0..).map(|i| format!("rq-{i:016x}")).find(|id| fate::any_bids(id.as_bytes(), 5) == wanted);
        let (wanted, unwanted) = (id(true).expect("one"), id(false).expect("one"));
        let mut judge = Judge::new(5);
        for id in [&wanted, &unwanted] {
            let bid = format!("HTTP/1.1 200 OK\r\n\r\n{{\"id\":\"{id}\",\"seatbid\":[{{\"bid\":[]}}]}}");
            judge.look(bid.as_bytes(), bid.len(), Some(id.as_bytes()));
            judge.look(b"HTTP/1.1 204 No Content\r\n\r\n", 27, Some(id.as_bytes()));
        }
        let n = judge.counts;
        assert_eq!((n.due_bids, n.bids, n.missed, n.mismatched, n.nobids), (2, 1, 1, 1, 2));
    }
}
