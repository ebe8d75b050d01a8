//! A whole bidder core without sockets: bytes of requests in, bytes to DSPs and of answers out.
//! Owns: the core, and peers that take what it sends. Called by: `micro`.
use crate::{
    counted,
    parts::{DSPS, PORT, core_config},
};
use outcry::units::Now;
use outcry_benches::{answers::Bidder as Dsps, fate};
use outcry_cores::bidder::{
    Bidder, Identity,
    transport::{Next, Sock, Transport},
};
use std::net::SocketAddr;

/// Requests that come in one turn, as they do under load.
const BATCH: usize = 8;
const MS: u64 = 1_000_000;

/// Which half of an auction is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// From the request to the end of the turn that asks.
    Ask,
    /// From the first answer to the end of the turn that answers.
    Hear,
    /// All of it.
    Both,
}

/// Bytes come in so many at a time at most, as from the ring.
const PIECE: usize = 4096;

#[derive(Default)]
struct Net {
    /// Which DSP is at the other end of a connection.
    dsps: Vec<usize>,
    sent: Vec<(Sock, Vec<u8>)>,
    connects: Vec<Sock>,
    now_ns: u64,
}

impl Transport for Net {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        self.sent.push((sock, bytes));
    }
    fn connect(&mut self, sock: Sock, addr: SocketAddr) {
        let Sock::Dsp(ix) = sock else { panic!("a client is connected to") };
        self.dsps.resize(self.dsps.len().max(ix as usize + 1), 0);
        self.dsps[ix as usize] = usize::from(addr.port() - PORT);
        self.connects.push(sock);
    }
    fn resume(&mut self, _sock: Sock) {}
    fn shutdown(&mut self, _sock: Sock) {}
    fn close(&mut self, sock: Sock) {
        panic!("the core closes {sock:?}")
    }
    fn precise_ns(&mut self) -> u64 {
        self.now_ns
    }
}

struct World {
    core: Bidder,
    net: Net,
    dsps: Dsps,
    clients: Vec<Sock>,
    answers: Vec<(Sock, Vec<u8>)>,
}

impl World {
    fn new(more: &str) -> World {
        let identity = Identity { node: 1, epoch: 1, core: 0, seed: 42 };
        let net = Net { now_ns: 1_000_000 * MS, ..Net::default() };
        let now = Now { boot_ns: net.now_ns, wall_offset_ns: 0 };
        let mut world = World {
            core: Bidder::new(identity, core_config(more), DSPS, now),
            net,
            dsps: Dsps::new(true, 700),
            clients: Vec::new(),
            answers: Vec::new(),
        };
        world.turn(false);
        for _ in 0..BATCH {
            world.clients.push(world.core.on_accept(now).expect("room for a client"));
        }
        world
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.net.now_ns, wall_offset_ns: 0 }
    }

    /// Ends a turn. Connections that were asked for are there at once.
    fn turn(&mut self, count: bool) {
        let now = self.now();
        counted(count, || self.core.end_turn(now, &mut self.net));
        while let Some(sock) = self.net.connects.pop() {
            assert_eq!(self.core.on_connect(sock, true, now, &mut self.net), Next::Read, "{sock:?}");
            // A call may have waited for it.
            self.core.end_turn(now, &mut self.net);
        }
    }

    /// Bytes come in at a socket.
    fn bytes(&mut self, count: bool, sock: Sock, bytes: &[u8]) {
        let now = self.now();
        for piece in bytes.chunks(PIECE) {
            let mut next = Next::Close;
            counted(count, || next = self.core.on_read(sock, Ok(piece), now, &mut self.net));
            assert_eq!(next, Next::Read, "{sock:?}");
        }
    }

    /// What was sent is with the kernel.
    fn taken(&mut self, count: bool, sock: Sock, bytes: Vec<u8>) {
        let mut bytes = Some(bytes);
        counted(count, || self.core.on_taken(sock, bytes.take().unwrap_or_default()));
    }

    /// A batch of auctions, all asked in one turn and heard in another.
    fn batch(&mut self, posts: &[Vec<u8>], ask: bool, hear: bool) {
        for (client, post) in posts.iter().enumerate() {
            self.bytes(ask, self.clients[client], post);
        }
        self.turn(ask);
        while let Some((sock, bytes)) = self.net.sent.pop() {
            let mut out = Vec::new();
            let Sock::Dsp(ix) = sock else { panic!("an answer before any DSP's") };
            self.dsps.answer(&bytes, self.net.dsps[ix as usize], &mut out);
            self.taken(ask, sock, bytes);
            self.answers.push((sock, out));
        }
        assert_eq!(self.answers.len(), posts.len() * DSPS, "every DSP is asked");
        self.net.now_ns += 20 * MS;
        for (sock, answer) in std::mem::take(&mut self.answers) {
            self.bytes(hear, sock, &answer);
        }
        self.turn(hear);
        assert_eq!(self.net.sent.len(), posts.len(), "every request is answered");
        for (sock, bytes) in std::mem::take(&mut self.net.sent) {
            let client = self.clients.iter().position(|c| *c == sock).expect("a client");
            let id = posts[client].windows(6).position(|w| w == b"\"id\":\"").expect("an id") + 6;
            let bids = fate::any_bids(&posts[client][id..id + 24], DSPS);
            assert_eq!(&bytes[9..12], if bids { b"200" } else { b"204" });
            self.taken(hear, sock, bytes);
        }
        self.net.now_ns += MS;
    }
}

/// Runs every request `rounds` times, after once to warm up; how many were counted. `more`: of each DSP's section.
pub(crate) fn auctions(posts: &[Vec<u8>], rounds: usize, half: Half, more: &str) -> usize {
    let mut world = World::new(more);
    for round in 0..=rounds {
        let count = round > 0;
        for batch in posts.chunks_exact(BATCH) {
            world.batch(batch, count && half != Half::Hear, count && half != Half::Ask);
        }
    }
    rounds * (posts.len() - posts.len() % BATCH)
}
