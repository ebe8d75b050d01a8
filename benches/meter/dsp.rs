//! A DSP that answers every request after `delay` microseconds: with the same `body` bytes of filler, or with `bid=1`
//! with a valid OpenRTB bid for the first impression, padded to about that size.
//!
//!   floor-dsp port=9100 delay=20000 bid=1 body=700 cpu=1
//!
//! A GET is answered at once with one line: requests, their bytes, and how many of them no bid could be made for.
use memchr::{memchr, memmem};
use outcry_benches::kit::*;
use std::{collections::VecDeque, io::Write, os::fd::AsRawFd, time::Instant};

const ACCEPT: u8 = 1;
const RECV: u8 = 2;
const SENT: u8 = 3;

#[derive(Default)]
struct Conn {
    acc: Vec<u8>,
    out: Vec<u8>, // the answer; stays until the peer asks again, and it asks when it has it
    life: u32,    // told apart from the descriptor's earlier owners, so that a late answer goes to nobody
    live: bool,
}

/// Writes answers. Finds the ids by memmem: wants compact JSON, `id` before `imp` and before any other object that has
/// an `id`, and `id` first in an imp. That is how requests are written in practice; a simulator for all others is
/// `outcry dsp-sim`.
struct Bidder {
    bid: bool,
    filler: Vec<u8>,
    imp: memmem::Finder<'static>,
    id: memmem::Finder<'static>,
    markup: String,
    body: Vec<u8>,
    requests: u64,
    bytes: u64,
    refused: u64,
}

impl Bidder {
    fn new(bid: bool, size: usize) -> Bidder {
        let mut markup = String::from(
            "<a href=\\\"https://click.dsp.example/c?p=${AUCTION_PRICE}\\\" target=\\\"_blank\\\">\
            <img src=\\\"https://cdn.dsp.example/c/300x250/cr1.jpg\\\" width=\\\"300\\\" height=\\\"250\\\"></a><!-- ",
        );
        while markup.len() + 210 < size {
            markup.push_str("filler ");
        }
        markup.push_str("-->");
        Bidder {
            bid,
            filler: response(size),
            imp: memmem::Finder::new(br#""imp":[{"#),
            id: memmem::Finder::new(br#""id":""#),
            markup,
            body: Vec::new(),
            requests: 0,
            bytes: 0,
            refused: 0,
        }
    }

    /// The string that follows the first `"id":"`.
    fn string<'a>(&self, b: &'a [u8]) -> Option<&'a str> {
        let b = &b[self.id.find(b)? + 6..];
        std::str::from_utf8(&b[..memchr(b'"', b)?]).ok()
    }

    /// Writes the answer to the HTTP request `b`: a price of 1.00 to 1.99, or a 400 when the ids were not found. False:
    /// it goes out at once.
    fn answer(&mut self, b: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        if b.starts_with(b"GET ") {
            let line = format!("{} {} {}\n", self.requests, self.bytes, self.refused);
            out.extend_from_slice(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()).as_bytes(),
            );
            return false;
        }
        self.requests += 1;
        self.bytes += b.len() as u64;
        if !self.bid {
            out.extend_from_slice(&self.filler);
            return true;
        }
        let imp = self.imp.find(b).unwrap_or(0);
        let (Some(id), Some(impid)) = (self.string(&b[..imp]), self.string(&b[imp..])) else {
            self.refused += 1;
            out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return true;
        };
        let (n, cents, markup) = (self.requests, self.requests % 100, &self.markup);
        self.body.clear();
        let _ = write!(
            self.body,
            "{{\"id\":\"{id}\",\"seatbid\":[{{\"bid\":[{{\"id\":\"{n}\",\"impid\":\"{impid}\",\"price\":1.{cents:02},\
            \"adm\":\"{markup}\",\"adomain\":[\"advertiser.example\"],\"cid\":\"cid1\",\"crid\":\"cr1\",\
            \"w\":300,\"h\":250}}],\"seat\":\"s1\"}}],\"cur\":\"USD\"}}"
        );
        let _ = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.body.len()
        );
        out.extend_from_slice(&self.body);
        true
    }
}

struct Dsp {
    ring: Ring,
    bidder: Bidder,
    delay_ns: u64,
    conns: Vec<Conn>,                 // by descriptor
    due: VecDeque<(u64, usize, u32)>, // when, connection, its life; in order, as all wait equally long
}

impl Dsp {
    fn accepted(&mut self, fd: usize) {
        if self.conns.len() <= fd {
            self.conns.resize_with(fd + 1, Conn::default);
        }
        let c = &mut self.conns[fd];
        c.acc.clear();
        (c.life, c.live) = (c.life.wrapping_add(1), true);
        self.ring.recv(fd as u32, ud(RECV, fd));
    }

    fn bytes(&mut self, i: usize, b: &[u8], now: u64) {
        let Conn { acc, out, life, .. } = &mut self.conns[i];
        let later = if acc.is_empty() && whole(b).is_some() {
            self.bidder.answer(b, out)
        } else {
            acc.extend_from_slice(b);
            if whole(acc).is_none() {
                return;
            }
            let later = self.bidder.answer(acc, out);
            acc.clear();
            later
        };
        if later && self.delay_ns > 0 {
            self.due.push_back((now + self.delay_ns, i, *life));
        } else {
            self.ring.send(i as u32, out, ud(SENT, 0));
        }
    }

    fn received(&mut self, i: usize, res: i32, flags: u32, now: u64) {
        if res > 0 {
            let (id, b) = self.ring.data(flags, res);
            self.bytes(i, b, now);
            self.ring.recycle(id);
        }
        if flags & MORE == 0 {
            if res > 0 || res == -libc::ENOBUFS {
                self.ring.recv(i as u32, ud(RECV, i));
            } else {
                self.conns[i].live = false;
                self.ring.close(i as u32, ud(SENT, 0));
            }
        }
    }

    fn send_due(&mut self, now: u64) {
        while let Some(&(at, i, life)) = self.due.front()
            && at <= now
        {
            self.due.pop_front();
            let c = &self.conns[i];
            if c.live && c.life == life {
                self.ring.send(i as u32, &c.out, ud(SENT, 0));
            }
        }
    }

    fn run(&mut self, listener: i32) {
        let start = Instant::now();
        let clock = || start.elapsed().as_nanos() as u64;
        self.ring.accept(listener, ud(ACCEPT, 0));
        loop {
            let now = clock();
            self.send_due(now);
            self.ring.wait(self.due.front().map(|d| d.0 - now));
            let now = clock();
            let batch = self.ring.completions();
            for &(u, res, flags) in &batch {
                match un(u) {
                    (ACCEPT, _) => {
                        if res >= 0 {
                            self.accepted(res as usize);
                        } else {
                            eprintln!("floor-dsp: accept: {}", std::io::Error::from_raw_os_error(-res));
                        }
                        if flags & MORE == 0 {
                            self.ring.accept(listener, ud(ACCEPT, 0));
                        }
                    }
                    (RECV, i) => self.received(i, res, flags, now),
                    _ => {}
                }
            }
            self.ring.done(batch);
        }
    }
}

fn main() {
    let a = Args::parse(&["cpu", "port", "delay", "bid", "body"]);
    pin(a.count("cpu", 1));
    let mut cfg = Cfg::from(&a);
    cfg.fixed = false; // more connections than slots for accepted ones
    let listener = listen(a.port("port", 9100));
    let mut d = Dsp {
        ring: Ring::new(cfg).expect("io_uring"),
        bidder: Bidder::new(a.flag("bid", false), a.count("body", 700)),
        delay_ns: a.count("delay", 0) as u64 * 1000,
        conns: Vec::new(),
        due: VecDeque::new(),
    };
    d.run(listener.as_raw_fd());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bidder: &mut Bidder, post: &[u8]) -> String {
        let mut out = Vec::new();
        bidder.answer(post, &mut out);
        assert_eq!(whole(&out), Some(out.len()));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_bid_names_the_request_and_its_first_impression() {
        let mut bidder = Bidder::new(true, 700);
        let post = request("/dsp", br#"{"id":"rq-7","tmax":70,"imp":[{"id":"i-1"},{"id":"i-2"}],"site":{"id":"s"}}"#);
        let answer = text(&mut bidder, &post);
        assert!(
            answer.contains(r#"{"id":"rq-7","seatbid":[{"bid":[{"id":"1","impid":"i-1","price":1.01,"#),
            "{answer}"
        );
        assert!((650..900).contains(&answer.len()), "{}", answer.len());
    }

    #[test]
    fn what_it_cannot_read_it_refuses_and_counts() {
        let mut bidder = Bidder::new(true, 700);
        let post = request("/dsp", b"{}");
        assert!(text(&mut bidder, &post).starts_with("HTTP/1.1 400"));
        let want = format!("\r\n\r\n1 {} 1\n", post.len());
        assert!(text(&mut bidder, b"GET /stats HTTP/1.1\r\n\r\n").ends_with(&want));
    }
}
