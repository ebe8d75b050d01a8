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
    transport::{Next, Sent, Sock, Transport},
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

/// One end of a connection, as the transport sees it.
#[derive(Default)]
struct Side {
    /// What the core sent last; goes back to it.
    sent: Vec<u8>,
    /// Which DSP is at the other end.
    dsp: usize,
    /// What the reader of the real thing would hold.
    reading: Option<Vec<u8>>,
}

#[derive(Default)]
struct Net {
    clients: Vec<Side>,
    dsps: Vec<Side>,
    fresh: Vec<Sock>,
    connects: Vec<Sock>,
    now_ns: u64,
}

impl Net {
    fn side(&mut self, sock: Sock) -> &mut Side {
        let (sides, ix) = match sock {
            Sock::Client(ix) => (&mut self.clients, ix as usize),
            Sock::Dsp(ix) => (&mut self.dsps, ix as usize),
        };
        if sides.len() <= ix {
            sides.resize_with(ix + 1, Side::default);
        }
        &mut sides[ix]
    }
}

impl Transport for Net {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        self.side(sock).sent = bytes;
        self.fresh.push(sock);
    }
    fn sent(&mut self, sock: Sock, _watch: bool) -> Sent {
        Sent::Done(std::mem::take(&mut self.side(sock).sent))
    }
    fn connect(&mut self, sock: Sock, addr: SocketAddr) {
        self.side(sock).dsp = usize::from(addr.port() - PORT);
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
    fn new() -> World {
        let identity = Identity { node: 1, epoch: 1, core: 0, seed: 42 };
        let net = Net { now_ns: 1_000_000 * MS, ..Net::default() };
        let now = Now { boot_ns: net.now_ns, wall_offset_ns: 0 };
        let mut world = World {
            core: Bidder::new(identity, core_config(), DSPS, now),
            net,
            dsps: Dsps::new(true, 700),
            clients: Vec::new(),
            answers: Vec::new(),
        };
        world.turn(false);
        for _ in 0..BATCH {
            let (sock, buf) = world.core.on_accept(now).expect("room for a client");
            world.net.side(sock).reading = Some(buf);
            world.clients.push(sock);
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
            match self.core.on_connect(sock, true, now, &mut self.net) {
                Next::Read(buf) => self.net.side(sock).reading = Some(buf),
                other => panic!("{sock:?}: {other:?} after a connect"),
            }
            // A call may have waited for it.
            self.core.end_turn(now, &mut self.net);
        }
    }

    /// Bytes come in at a socket, as many at a time as its reader has room for.
    fn bytes(&mut self, count: bool, sock: Sock, mut bytes: &[u8]) {
        let now = self.now();
        while !bytes.is_empty() {
            let mut buf = self.net.side(sock).reading.take().expect("a reader reads");
            let (piece, rest) = bytes.split_at(bytes.len().min(buf.capacity() - buf.len()));
            buf.extend_from_slice(piece);
            bytes = rest;
            let (mut given, mut next) = (Some(buf), None);
            counted(count, || {
                let buf = given.take().unwrap_or_default();
                next = Some(self.core.on_read(sock, buf, Ok(piece.len()), now, &mut self.net));
            });
            match next {
                Some(Next::Read(buf)) => self.net.side(sock).reading = Some(buf),
                other => panic!("{sock:?}: {other:?} after a read"),
            }
        }
    }

    /// A batch of auctions, all asked in one turn and heard in another.
    fn batch(&mut self, posts: &[Vec<u8>], ask: bool, hear: bool) {
        for (client, post) in posts.iter().enumerate() {
            self.bytes(ask, self.clients[client], post);
        }
        self.turn(ask);
        while let Some(sock) = self.net.fresh.pop() {
            let mut out = Vec::new();
            let side = self.net.side(sock);
            assert!(matches!(sock, Sock::Dsp(_)), "an answer before any DSP's");
            let (dsp, bytes) = (side.dsp, std::mem::take(&mut side.sent));
            self.dsps.answer(&bytes, dsp, &mut out);
            self.net.side(sock).sent = bytes;
            self.answers.push((sock, out));
        }
        assert_eq!(self.answers.len(), posts.len() * DSPS, "every DSP is asked");
        self.net.now_ns += 20 * MS;
        for (sock, answer) in std::mem::take(&mut self.answers) {
            self.bytes(hear, sock, &answer);
        }
        self.turn(hear);
        assert_eq!(self.net.fresh.len(), posts.len(), "every request is answered");
        for sock in std::mem::take(&mut self.net.fresh) {
            let client = self.clients.iter().position(|c| *c == sock).expect("a client");
            let id = posts[client].windows(6).position(|w| w == b"\"id\":\"").expect("an id") + 6;
            let bids = fate::any_bids(&posts[client][id..id + 24], DSPS);
            assert_eq!(&self.net.side(sock).sent[9..12], if bids { b"200" } else { b"204" });
        }
        self.net.now_ns += MS;
    }
}

/// Runs every request `rounds` times, after once to warm up; how many were counted.
pub(crate) fn auctions(posts: &[Vec<u8>], rounds: usize, half: Half) -> usize {
    let mut world = World::new();
    for round in 0..=rounds {
        let count = round > 0;
        for batch in posts.chunks_exact(BATCH) {
            world.batch(batch, count && half != Half::Hear, count && half != Half::Ask);
        }
    }
    rounds * (posts.len() - posts.len() % BATCH)
}
