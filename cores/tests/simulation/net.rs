//! The network as a core of the simulation sees it: what it sends and wants is noted, and sends may get stuck.
#![allow(unreachable_pub)] // part of one test file
use outcry_cores::bidder::transport::{Sock, Transport};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

#[derive(Default)]
pub struct Side {
    /// Slots are used again; lives are not.
    pub life: u64,
    /// Which DSP is at the other end.
    pub port: u16,
    /// The bidder wants to be told of bytes.
    pub reading: bool,
    pub inbox: VecDeque<u8>,
    pub end: Option<Result<(), ()>>,
    pub closing: bool,
    /// Something was read after the bidder wanted to pause.
    pub overran: bool,
    pub resumed: bool,
    pub open: bool,
    pub busy: bool,
    pub broken: bool,
    pub shut: bool,
}

#[derive(Clone, Copy)]
pub enum Fate {
    Taken,
    Stuck,
    Broken,
}

/// The network as the core sees it.
#[derive(Default)]
pub struct Net {
    pub lives: u64,
    pub sides: HashMap<Sock, Side>,
    pub sent: Vec<(Sock, Vec<u8>)>,
    /// Sends of this turn, of which the bidder has to hear.
    pub fates: Vec<(Sock, Fate)>,
    pub connects: Vec<Sock>,
    pub shut: Vec<Sock>,
    pub closed: Vec<Sock>,
    pub slow_sends: bool,
    pub toggle: u64,
    pub became_busy: Vec<Sock>,
    pub clock_ns: u64,
}

impl Transport for Net {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        let side = self.sides.get_mut(&sock).expect("sends to a socket that was never opened");
        assert!(!side.busy, "{sock:?}: a send while one is under way");
        assert!(!side.shut, "{sock:?}: a send after the end");
        assert!(self.fates.iter().all(|(s, _)| *s != sock), "{sock:?}: two sends in a turn");
        self.toggle += 1;
        let fate = if side.broken {
            Fate::Broken
        } else if self.slow_sends && self.toggle.is_multiple_of(3) {
            side.busy = true;
            self.became_busy.push(sock);
            Fate::Stuck
        } else {
            Fate::Taken
        };
        self.fates.push((sock, fate));
        self.sent.push((sock, bytes));
    }
    fn connect(&mut self, sock: Sock, addr: SocketAddr) {
        self.lives += 1;
        self.sides.insert(sock, Side { life: self.lives, port: addr.port(), ..Side::default() });
        self.connects.push(sock);
    }
    fn resume(&mut self, sock: Sock) {
        if let Some(side) = self.sides.get_mut(&sock) {
            side.resumed = true;
        }
    }
    fn shutdown(&mut self, sock: Sock) {
        if let Some(side) = self.sides.get_mut(&sock) {
            side.shut = true;
        }
        self.shut.push(sock);
    }
    fn close(&mut self, sock: Sock) {
        if let Some(side) = self.sides.get_mut(&sock) {
            side.closing = true;
        }
    }
    fn precise_ns(&mut self) -> u64 {
        self.clock_ns
    }
}

impl Net {
    pub fn life(&self, sock: Sock) -> u64 {
        self.sides.get(&sock).map_or(0, |s| s.life)
    }

    pub fn side(&mut self, sock: Sock, life: u64) -> Option<&mut Side> {
        self.sides.get_mut(&sock).filter(|s| s.life == life)
    }
}
