//! The narrow seam between what a bidder core does and what carries its bytes.
//! Owns: nothing. Implemented by: `io` (monoio) and by the simulation. Called by: `ingress`, `egress`.
//! The bidder never waits on it: it hands bytes over, and is told of what came in by [`super::Bidder`]'s `on_*` calls.
use std::net::SocketAddr;

/// A socket of this core: a client's or a DSP's, by its dense slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Sock {
    /// A client's connection.
    Client(u32),
    /// A connection to a DSP.
    Dsp(u32),
}

/// How the last send on a socket stands.
#[derive(Debug)]
pub enum Sent {
    /// It is with the kernel; the buffer comes back.
    Done(Vec<u8>),
    /// Not all of it was taken yet.
    Busy,
    /// The socket broke.
    Broken(Vec<u8>),
}

/// What carries the bytes.
pub trait Transport {
    /// Hands `bytes` to the socket. One send at a time: the next only after [`Transport::sent`] said it is done.
    fn send(&mut self, sock: Sock, bytes: Vec<u8>);

    /// These sockets are sent to next: time to fetch what that needs into the cache, all at once rather than one after
    /// the other.
    fn warm(&mut self, socks: impl Iterator<Item = Sock>) {
        let _ = socks;
    }

    /// How the last send stands. `watch`: if it is busy, call [`super::Bidder::on_sent`] when that changes.
    fn sent(&mut self, sock: Sock, watch: bool) -> Sent;

    /// Opens a connection; [`super::Bidder::on_connect`] hears of the end of it.
    fn connect(&mut self, sock: Sock, addr: SocketAddr);

    /// A reader that was told to pause reads again.
    fn resume(&mut self, sock: Sock);

    /// No more will be sent; the peer sees the end of the stream, what it still sends is read.
    fn shutdown(&mut self, sock: Sock);

    /// Closes the socket now. [`super::Bidder::on_closed`] follows, later.
    fn close(&mut self, sock: Sock);

    /// The clock, read anew: only for the stage times of sampled auctions and the end of a turn.
    fn precise_ns(&mut self) -> u64;
}

/// What a reader does next.
#[derive(Debug)]
pub enum Next {
    /// Read behind what is in this buffer; it has room.
    Read(Vec<u8>),
    /// Stop reading until [`Transport::resume`], then ask [`super::Bidder::take_buffer`].
    Pause,
    /// Close the socket.
    Close,
}
