//! `n` DSPs in one thread, on ports of their own from `port` up, that answer every request after `delay` microseconds:
//! with the same `body` bytes of filler, or with `bid=1` with what `fate` says, in bodies of about that size. They are
//! numbers `first` and up to `fate`, where several processes share the work.
//!
//!   floor-dsp port=9100 n=5 delay=20000 bid=1 body=700 cpu=1
//!
//! `jitter` spreads the delays evenly over so many microseconds around `delay`. Without it clients of a closed loop that
//! were served in one turn stay together for ever, and their crowds only grow, until every program under test works in
//! bursts of its own making.
//!
//! A GET is answered at once with one line: requests, their bytes, how many of them no bid could be made for, and the
//! nanoseconds of CPU that the process has used.
use outcry_benches::{answers::Bidder, kit::*};
use std::{collections::VecDeque, os::fd::AsRawFd, time::Instant};

const ACCEPT: u8 = 1;
const RECV: u8 = 2;
const SENT: u8 = 3;
/// Different delays.
const DELAYS: usize = 16;

#[derive(Default)]
struct Conn {
    acc: Vec<u8>,
    out: Vec<u8>, // the answer; stays until the peer asks again, and it asks when it has it
    life: u32,    // told apart from the descriptor's earlier owners, so that a late answer goes to nobody
    live: bool,
    dsp: usize,
}

struct Dsp {
    ring: Ring,
    bidder: Bidder,
    first: usize,
    delays_ns: [u64; DELAYS],
    asked: usize,
    conns: Vec<Conn>,                           // by descriptor
    due: [VecDeque<(u64, usize, u32)>; DELAYS], // when, connection, its life; for each delay in order
}

impl Dsp {
    fn accepted(&mut self, fd: usize, dsp: usize) {
        if self.conns.len() <= fd {
            self.conns.resize_with(fd + 1, Conn::default);
        }
        let c = &mut self.conns[fd];
        c.acc.clear();
        (c.life, c.live, c.dsp) = (c.life.wrapping_add(1), true, self.first + dsp);
        self.ring.recv(fd as u32, ud(RECV, fd));
    }

    fn bytes(&mut self, i: usize, b: &[u8], now: u64) {
        let Conn { acc, out, life, dsp, .. } = &mut self.conns[i];
        let later = if acc.is_empty() && whole(b).is_some() {
            self.bidder.answer(b, *dsp, out)
        } else {
            acc.extend_from_slice(b);
            if whole(acc).is_none() {
                return;
            }
            let later = self.bidder.answer(acc, *dsp, out);
            acc.clear();
            later
        };
        if later && self.delays_ns[DELAYS - 1] > 0 {
            // The five of one auction come one after the other: an odd step keeps their delays apart.
            self.asked += 1;
            let delay = self.asked * 7 % DELAYS;
            self.due[delay].push_back((now + self.delays_ns[delay], i, *life));
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
        for due in &mut self.due {
            while let Some(&(at, i, life)) = due.front()
                && at <= now
            {
                due.pop_front();
                let c = &self.conns[i];
                if c.live && c.life == life {
                    self.ring.send(i as u32, &c.out, ud(SENT, 0));
                }
            }
        }
    }

    fn run(&mut self, listeners: &[i32]) {
        let start = Instant::now();
        let clock = || start.elapsed().as_nanos() as u64;
        for (dsp, listener) in listeners.iter().enumerate() {
            self.ring.accept(*listener, ud(ACCEPT, dsp));
        }
        loop {
            let now = clock();
            self.send_due(now);
            let next = self.due.iter().filter_map(|due| due.front()).map(|d| d.0 - now).min();
            self.ring.wait(next);
            let now = clock();
            let batch = self.ring.completions();
            for &(u, res, flags) in &batch {
                match un(u) {
                    (ACCEPT, dsp) => {
                        if res >= 0 {
                            self.accepted(res as usize, dsp);
                        } else {
                            eprintln!("floor-dsp: accept: {}", std::io::Error::from_raw_os_error(-res));
                        }
                        if flags & MORE == 0 {
                            self.ring.accept(listeners[dsp], ud(ACCEPT, dsp));
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

/// Nanoseconds, evenly over `jitter_us` around `delay_us`.
fn delays(delay_us: u64, jitter_us: u64) -> [u64; DELAYS] {
    let least = delay_us.saturating_sub(jitter_us / 2) * 1000;
    std::array::from_fn(|i| least + jitter_us * 1000 * i as u64 / (DELAYS as u64 - 1))
}

fn main() {
    let a = Args::parse(&["cpu", "port", "n", "delay", "jitter", "bid", "body", "first"]);
    pin(a.count("cpu", 1));
    let mut cfg = Cfg::from(&a);
    cfg.fixed = false; // more connections than slots for accepted ones
    let port = a.port("port", 9100);
    let listeners: Vec<_> = (0..a.count("n", 1) as u16).map(|dsp| listen(port + dsp)).collect();
    let mut d = Dsp {
        ring: Ring::new(cfg).expect("io_uring"),
        bidder: Bidder::new(a.flag("bid", false), a.count("body", 700)),
        first: a.count("first", 0),
        delays_ns: delays(a.count("delay", 0) as u64, a.count("jitter", 0) as u64),
        asked: 0,
        conns: Vec::new(),
        due: Default::default(),
    };
    d.run(&listeners.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_around_the_one_that_was_asked_for() {
        let spread = delays(20_000, 4_000);
        assert_eq!((spread[0], spread[DELAYS - 1]), (18_000_000, 22_000_000));
        assert_eq!(spread.iter().sum::<u64>() / DELAYS as u64 / 1_000_000, 19, "rounded down: 20 ms on average");
        assert_eq!(delays(20_000, 0), [20_000_000; DELAYS]);
        assert_eq!(delays(0, 0), [0; DELAYS]);
    }
}
