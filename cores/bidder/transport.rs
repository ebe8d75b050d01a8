//! The narrow seam between what a bidder core does and what carries its bytes.
//! Owns: nothing. Implemented by: `sockets` (io_uring), `epoll` (monoio) and by the simulation. Called by: `ingress`,
//! `egress`. The bidder never waits on it: it hands bytes over, and is told of what came in by [`super::Bidder`]'s `on_*`
//! calls.
use std::net::SocketAddr;

/// A socket of this core: a client's or a DSP's, by its dense slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Sock {
    /// A client's connection.
    Client(u32),
    /// A connection to a DSP.
    Dsp(u32),
}

/// What a send came to that the kernel did not take whole and at once.
#[derive(Debug)]
pub enum Sent {
    /// The kernel has not taken all of it yet; it will be said when it has.
    Stuck,
    /// One that was stuck is with the kernel; the buffer comes back.
    Through(Vec<u8>),
    /// The socket broke; the buffer comes back.
    Broken(Vec<u8>),
}

/// What carries the bytes.
pub trait Transport {
    /// Hands `bytes` to the socket: one send a turn, and none while one is stuck. Before the next turn's events the
    /// bidder hears what became of it: by [`super::Bidder::on_taken`], which nearly all come to, or by
    /// [`super::Bidder::on_sent`].
    fn send(&mut self, sock: Sock, bytes: Vec<u8>);

    /// Opens a connection; [`super::Bidder::on_connect`] hears of the end of it.
    fn connect(&mut self, sock: Sock, addr: SocketAddr);

    /// A reader that was told to pause goes on: [`super::Bidder::on_resume`] is called soon.
    fn resume(&mut self, sock: Sock);

    /// No more will be sent; the peer sees the end of the stream, what it still sends is read.
    fn shutdown(&mut self, sock: Sock);

    /// Closes the socket now. [`super::Bidder::on_closed`] follows, later.
    fn close(&mut self, sock: Sock);

    /// The clock, read anew: only for the stage times of sampled auctions and the end of a turn.
    fn precise_ns(&mut self) -> u64;
}

/// What a reader does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Read on.
    Read,
    /// Stop reading until [`Transport::resume`]. What was read by then is still handed over.
    Pause,
    /// Close the socket.
    Close,
}
