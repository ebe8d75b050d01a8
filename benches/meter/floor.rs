//! The floor of an HTTP/1.1 fan-out proxy on this machine: for each POST, send its body to `n` DSPs over keep-alive
//! connections, collect the answers, answer a fixed body. No JSON, no deadline, no error recovery beyond dropping a
//! dead connection. One thread, one io_uring, one io_uring_enter a loop turn.
//!
//!   floor port=9000 up=9100 n=5 cpu=0 add=0 answer=700
//!
//! DSP `i` is at port `up` + `i`. //! `add` bytes go on top of each body sent to a DSP (below zero: are cut off) and `answer` is the size of the answer's
//! body: so it can be made to move the bytes that a product moves.
//!
//! `own=1` also measures each request's own time: from its bytes to the end of the turn that asks, and from the last
//! answer to the end of the turn that answers, a turn's sends included (they are submitted by themselves then, one system
//! call more). `GET` is answered with requests, p50, p99, p99.9 and the longest, microseconds, and begins anew.
use outcry_benches::kit::*;
use std::{io::Write, time::Instant};

const ACCEPT: u8 = 1;
const CLIENT_RECV: u8 = 2;
const UP_RECV: u8 = 3;
const SENT: u8 = 4;

#[derive(Default)]
struct Client {
    fd: u32,
    acc: Vec<u8>, // only used when a request comes in pieces
    out: Vec<u8>, // the request that all legs share
    legs: u32,    // answers of DSPs still to come
    open: bool,
    arrived: u64, // with `own=1`: when, and the time spent on it until it was asked for
    own: u64,
}

/// Own times: what `own=1` keeps.
struct Own {
    start: Instant,
    turn: u64,            // when the completions at hand were taken
    asked: Vec<usize>,    // clients whose request goes out in this turn
    answered: Vec<usize>, // and whose answer does
    hist: Vec<u32>,       // microseconds
}

struct Upstream {
    fd: u32,
    dsp: usize,
    client: usize,
    acc: Vec<u8>,
}

struct Proxy {
    ring: Ring,
    n: usize,
    up_port: u16,
    add: Vec<u8>,
    cut: usize,
    answer: Vec<u8>,
    clients: Vec<Client>,
    free_clients: Vec<usize>,
    ups: Vec<Upstream>,
    idle: Vec<Vec<usize>>, // per DSP, last used first
    own: Option<Own>,
    said: Vec<u8>, // the answer to the last GET
}

impl Proxy {
    fn accepted(&mut self, fd: u32) {
        let i = self.free_clients.pop().unwrap_or_else(|| {
            self.clients.push(Client::default());
            self.clients.len() - 1
        });
        let c = &mut self.clients[i];
        (c.fd, c.open, c.legs) = (fd, true, 0);
        c.acc.clear();
        self.ring.recv(fd, ud(CLIENT_RECV, i));
    }

    /// An idle connection to a DSP, or a new one (a blocking connect: loopback, and only while warming up).
    fn upstream(&mut self, dsp: usize) -> usize {
        if let Some(u) = self.idle[dsp].pop() {
            return u;
        }
        let s = std::net::TcpStream::connect(("127.0.0.1", self.up_port + dsp as u16)).expect("connect to the DSPs");
        let fd = self.ring.install(s);
        let u = self.ups.len();
        self.ups.push(Upstream { fd, dsp, client: usize::MAX, acc: Vec::new() });
        self.ring.recv(fd, ud(UP_RECV, u));
        u
    }

    fn request(&mut self, i: usize, body: &[u8]) {
        if self.n == 0 {
            return self.ring.send(self.clients[i].fd, &self.answer, ud(SENT, 0));
        }
        let body = &body[..body.len().saturating_sub(self.cut)];
        let mut out = std::mem::take(&mut self.clients[i].out);
        out.clear();
        let _ = write!(
            out,
            "POST /dsp HTTP/1.1\r\nHost: dsp.local\r\nContent-Type: application/json\r\n\
            x-openrtb-version: 2.6\r\nContent-Length: {}\r\n\r\n",
            body.len() + self.add.len()
        );
        out.extend_from_slice(body);
        out.extend_from_slice(&self.add);
        for dsp in 0..self.n {
            let u = self.upstream(dsp);
            self.ups[u].client = i;
            self.ring.send(self.ups[u].fd, &out, ud(SENT, 0));
        }
        if let Some(own) = &mut self.own {
            own.asked.push(i);
        }
        let c = &mut self.clients[i];
        (c.out, c.legs) = (out, self.n as u32);
    }

    fn client_bytes(&mut self, i: usize, b: &[u8]) {
        if let Some(own) = &mut self.own {
            if b.starts_with(b"GET ") {
                let n: u64 = own.hist.iter().map(|n| u64::from(*n)).sum();
                let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|p| quantile(&own.hist, p));
                let max = own.hist.iter().rposition(|n| *n > 0).unwrap_or(0);
                own.hist.fill(0);
                let line = format!("{n} {p50} {p99} {p999} {max}\n");
                self.said = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()).into_bytes();
                return self.ring.send(self.clients[i].fd, &self.said, ud(SENT, 0));
            }
            if self.clients[i].acc.is_empty() {
                self.clients[i].arrived = own.turn;
            }
        }
        if self.clients[i].acc.is_empty()
            && let Some((head, len)) = frame(b)
            && b.len() == head + len
        {
            return self.request(i, &b[head..]);
        }
        self.clients[i].acc.extend_from_slice(b);
        let mut acc = std::mem::take(&mut self.clients[i].acc);
        if let Some((head, len)) = frame(&acc)
            && acc.len() >= head + len
        {
            self.request(i, &acc[head..head + len]);
            acc.clear();
        }
        self.clients[i].acc = acc;
    }

    fn up_bytes(&mut self, u: usize, b: &[u8]) {
        let up = &mut self.ups[u];
        if !up.acc.is_empty() || whole(b).is_none() {
            up.acc.extend_from_slice(b);
            if whole(&up.acc).is_none() {
                return;
            }
            up.acc.clear();
        }
        self.idle[up.dsp].push(u);
        self.leg_done(u);
    }

    fn leg_done(&mut self, u: usize) {
        let i = std::mem::replace(&mut self.ups[u].client, usize::MAX);
        if i == usize::MAX {
            return;
        }
        let c = &mut self.clients[i];
        c.legs -= 1;
        if c.legs == 0 {
            if c.open {
                if let Some(own) = &mut self.own {
                    own.answered.push(i);
                }
                self.ring.send(c.fd, &self.answer, ud(SENT, 0));
            } else {
                self.free_clients.push(i);
            }
        }
    }

    fn received(&mut self, op: u8, i: usize, res: i32, flags: u32) {
        if res > 0 {
            let (id, b) = self.ring.data(flags, res);
            if op == CLIENT_RECV {
                self.client_bytes(i, b)
            } else {
                self.up_bytes(i, b)
            }
            self.ring.recycle(id);
        }
        let fd = if op == CLIENT_RECV { self.clients[i].fd } else { self.ups[i].fd };
        if flags & MORE != 0 {
            return;
        }
        if res > 0 || res == -libc::ENOBUFS {
            return self.ring.recv(fd, ud(op, i)); // re-arm
        }
        self.ring.close(fd, ud(SENT, 0));
        if op == UP_RECV {
            let dsp = self.ups[i].dsp;
            self.idle[dsp].retain(|&u| u != i);
            return self.leg_done(i);
        }
        self.clients[i].open = false;
        if self.clients[i].legs == 0 {
            self.free_clients.push(i);
        }
    }

    /// The end of a turn, sends submitted.
    fn times(&mut self) {
        let Some(own) = &mut self.own else { return };
        if own.asked.is_empty() && own.answered.is_empty() {
            return;
        }
        self.ring.submit();
        let end = own.start.elapsed().as_nanos() as u64;
        for i in own.asked.drain(..) {
            let c = &mut self.clients[i];
            c.own = end - c.arrived;
        }
        let last = own.hist.len() - 1;
        for i in own.answered.drain(..) {
            let us = (self.clients[i].own + end - own.turn) / 1000;
            own.hist[(us as usize).min(last)] += 1;
        }
    }

    fn run(&mut self, listener: i32) {
        self.ring.accept(listener, ud(ACCEPT, 0));
        loop {
            self.times();
            self.ring.wait(None);
            if let Some(own) = &mut self.own {
                own.turn = own.start.elapsed().as_nanos() as u64;
            }
            let batch = self.ring.completions();
            for &(u, res, flags) in &batch {
                match un(u) {
                    (ACCEPT, _) => {
                        if res >= 0 {
                            self.accepted(res as u32);
                        } else {
                            eprintln!("floor: accept: {}", std::io::Error::from_raw_os_error(-res));
                        }
                        if flags & MORE == 0 {
                            self.ring.accept(listener, ud(ACCEPT, 0));
                        }
                    }
                    (op @ (CLIENT_RECV | UP_RECV), i) => self.received(op, i, res, flags),
                    _ => {} // a send: its failure also shows at the receive
                }
            }
            self.ring.done(batch);
        }
    }
}

fn main() {
    let a = Args::parse(&["cpu", "n", "port", "up", "add", "answer", "own"]);
    pin(a.count("cpu", 0));
    let (n, add) = (a.count("n", 5), a.num("add", 0));
    let listener = listen(a.port("port", 9000));
    let mut p = Proxy {
        ring: Ring::new(Cfg::from(&a)).expect("io_uring"),
        n,
        up_port: a.port("up", 9100),
        add: filler(add.max(0) as usize),
        cut: add.min(0).unsigned_abs() as usize,
        answer: response(a.count("answer", 700)),
        clients: Vec::new(),
        free_clients: Vec::new(),
        ups: Vec::new(),
        idle: vec![Vec::new(); n],
        own: a.flag("own", false).then(|| Own {
            start: Instant::now(),
            turn: 0,
            asked: Vec::new(),
            answered: Vec::new(),
            hist: vec![0; 1_000_001],
        }),
        said: Vec::new(),
    };
    p.run(std::os::fd::AsRawFd::as_raw_fd(&listener));
}
