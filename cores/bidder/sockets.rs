//! The bidder over its own io_uring: completions in, one by one; what it starts is handed over in one system call a turn.
//! Owns: which socket is which file, and what is under way on it. Runs on: each bidder core. Called by: `thread`.
//! Never: decides anything.
use super::{
    Bidder, FORESIGHT,
    ring::{self, End, Event, File, Received, Ring},
    thread::Duties,
    transport::{Next, Sent, Sock, Transport},
    turn::{TurnClock, boot_ns},
};
use outcry::{limits::CLIENTS_LEAVING_MAX, record::labels::Counter, units::Now};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
};

/// Reads of clients that one turn handles. A burst of thousands would be asked for in buffers that no cache holds and that
/// nobody needs afterwards; with more than these in one turn nothing is saved by sending together.
const REQUESTS: usize = 64;

/// What is known of a socket.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    file: Option<File>,
    /// A receive is under way.
    reading: bool,
    /// The bidder does not want to be told of more bytes.
    paused: bool,
    /// The peer has nothing more to say.
    ended: bool,
    /// A send is under way that was not taken at once.
    stuck: bool,
    closing: bool,
    /// Everything under way was told to end.
    cancelled: bool,
}

/// The sockets of a core; the [`Transport`] of its bidder.
struct Sockets {
    ring: Ring,
    clients: Vec<Side>,
    dsps: Vec<Side>,
    /// Readers that were told to go on.
    resumed: Vec<Sock>,
    /// Sends to sockets that are gone, and connects that could not even begin.
    unsent: Vec<(Sock, Vec<u8>)>,
    unconnected: Vec<Sock>,
}

impl Sockets {
    fn side(&mut self, sock: Sock) -> &mut Side {
        let (all, ix) = match sock {
            Sock::Client(ix) => (&mut self.clients, ix as usize),
            Sock::Dsp(ix) => (&mut self.dsps, ix as usize),
        };
        if all.len() <= ix {
            all.resize(ix + 1, Side::default());
        }
        &mut all[ix]
    }

    /// Does what the bidder wants next of a reader.
    fn follow(&mut self, sock: Sock, next: Next) {
        let side = self.side(sock);
        let Some(file) = side.file.filter(|_| !side.closing) else { return };
        match next {
            Next::Close => self.close(sock),
            Next::Pause if side.paused => {}
            Next::Pause => {
                side.paused = true;
                if side.reading {
                    self.ring.stop_reading(sock);
                }
            }
            Next::Read => {
                side.paused = false;
                if !side.reading && !side.ended {
                    side.reading = true;
                    self.ring.read(sock, file);
                }
            }
        }
    }

    /// Closes the file once nothing is under way on it.
    fn go_on_closing(&mut self, sock: Sock) {
        let side = self.side(sock);
        let Some(file) = side.file else { return };
        if !side.reading && !side.stuck {
            side.file = None;
            self.ring.close(file, Some(sock));
        } else if !std::mem::replace(&mut side.cancelled, true) {
            self.ring.cancel(file);
        }
    }

    fn dial(&mut self, addr: SocketAddr) -> Option<File> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP)).ok()?;
        let _ = socket.set_tcp_nodelay(true);
        self.ring.install(socket.into())
    }
}

impl Transport for Sockets {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        debug_assert!(!self.side(sock).stuck && !self.ring.sends_to(sock), "{sock:?}: a send while one is under way");
        let side = self.side(sock);
        match side.file {
            Some(file) if !side.closing => self.ring.send(sock, file, bytes),
            _ => self.unsent.push((sock, bytes)),
        }
    }

    fn connect(&mut self, sock: Sock, addr: SocketAddr) {
        let file = self.dial(addr);
        *self.side(sock) = Side { file, ..Side::default() };
        match file {
            Some(file) => self.ring.connect(sock, file, addr),
            None => self.unconnected.push(sock),
        }
    }

    fn resume(&mut self, sock: Sock) {
        self.resumed.push(sock);
    }

    fn shutdown(&mut self, sock: Sock) {
        if let Some(file) = self.side(sock).file {
            self.ring.shutdown(file);
        }
    }

    fn close(&mut self, sock: Sock) {
        self.side(sock).closing = true;
        self.go_on_closing(sock);
    }

    fn precise_ns(&mut self) -> u64 {
        boot_ns()
    }
}

/// One bidder core: what it decides, what carries it, and its turn.
struct Core<'a> {
    bidder: &'a mut Bidder,
    sockets: Sockets,
    received: Received,
    /// Where clients knock; `None`: nobody is let in any more.
    listener: Option<TcpListener>,
    /// Whoever waits for files or memory to be let in again is not asked at once.
    accepting: bool,
}

impl Core<'_> {
    fn happened(&mut self, event: Event, now: Now) {
        let Core { bidder, sockets, received, .. } = self;
        match event {
            Event::Read(sock, lent) => {
                if !sockets.side(sock).closing {
                    let next = bidder.on_read(sock, Ok(received.bytes(&lent)), now, sockets);
                    sockets.follow(sock, next);
                }
                received.give_back(lent);
            }
            Event::ReadEnded(sock, end) => {
                let side = sockets.side(sock);
                side.reading = false;
                side.ended |= end != End::Again;
                if side.closing {
                    return sockets.go_on_closing(sock);
                }
                let next = match end {
                    End::Again if side.paused => return,
                    End::Again => Next::Read,
                    End::Stream => bidder.on_read(sock, Ok(&[]), now, sockets),
                    End::Broken => bidder.on_read(sock, Err(()), now, sockets),
                };
                sockets.follow(sock, next);
            }
            Event::Sent(sock, sent) => {
                let side = sockets.side(sock);
                side.stuck = matches!(sent, Sent::Stuck);
                // One that got stuck after all was told to end is to be told too.
                side.cancelled &= !side.stuck;
                let closing = side.closing;
                bidder.on_sent(sock, sent);
                if closing {
                    sockets.go_on_closing(sock);
                }
            }
            Event::Astray(sock) => sockets.close(sock),
            Event::Accepted(file) => match bidder.on_accept(now) {
                Some(sock) => {
                    *sockets.side(sock) = Side { file: Some(file), ..Side::default() };
                    sockets.follow(sock, Next::Read);
                }
                None => sockets.ring.close(file, None),
            },
            Event::AcceptEnded(error) => {
                self.accepting = false;
                if error == 0 {
                    self.accept();
                } else if self.listener.is_some() {
                    // No file or place for it was left: who knocked is gone.
                    self.bidder.metrics.count(Counter::ConnectionsRefused);
                }
            }
            Event::Connected(sock, ok) => {
                if !ok && let Some(file) = sockets.side(sock).file.take() {
                    sockets.ring.close(file, None);
                }
                let next = bidder.on_connect(sock, ok, now, sockets);
                if ok {
                    sockets.follow(sock, next);
                }
            }
            Event::Closed(sock) => {
                *sockets.side(sock) = Side::default();
                bidder.on_closed(sock, now, sockets);
            }
            Event::Beat => {
                if !self.accepting {
                    self.accept();
                }
            }
        }
    }

    fn accept(&mut self) {
        if let Some(listener) = &self.listener {
            self.accepting = true;
            self.sockets.ring.accept(listener);
        }
    }

    /// Lets nobody in any more. Whoever is in the listen queue already is; then the listener is shut at once, by a system
    /// call of its own: a close through the ring would come later, and until then the kernel would go on handing it
    /// connections that nobody serves.
    fn stop_listening(&mut self, now: Now) {
        let Some(door) = self.listener.take() else { return };
        let _ = door.set_nonblocking(true);
        while let Ok((stream, _)) = door.accept() {
            let _ = stream.set_nonblocking(false);
            if let Some(file) = self.sockets.ring.install(stream.into()) {
                self.happened(Event::Accepted(file), now);
            }
        }
        let _ = socket2::SockRef::from(&door).shutdown(std::net::Shutdown::Both);
    }

    /// What the transport has to say that no completion says. In the turn after the one it came up in: within a turn the
    /// kernel has seen none of its sends, and the bidder would take them for through.
    fn aside(&mut self, now: Now) {
        let Core { bidder, sockets, .. } = self;
        for (sock, bytes) in sockets.unsent.drain(..) {
            bidder.on_sent(sock, Sent::Broken(bytes));
        }
        while let Some(sock) = sockets.unconnected.pop() {
            bidder.on_connect(sock, false, now, sockets);
        }
        while let Some(sock) = sockets.resumed.pop() {
            if sockets.side(sock).file.is_some() && !sockets.side(sock).closing {
                let next = bidder.on_resume(sock, now, sockets);
                sockets.follow(sock, next);
            }
        }
    }

    fn has_asides(&self) -> bool {
        let Sockets { unsent, unconnected, resumed, .. } = &self.sockets;
        !(unsent.is_empty() && unconnected.is_empty() && resumed.is_empty())
    }
}

/// Files that a ring has room for: clients as many as are let in and some that are on their way out, connections to DSPs
/// as many as are configured, twice over for those that a reload adds, within the limit of open files.
fn table(bidder: &Bidder) -> (u32, u32) {
    let (clients, dsps) = bidder.connections_max();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    // No kernel has a larger table.
    let limit = limit.min(1 << 20);
    let clients = (clients as u64 + CLIENTS_LEAVING_MAX as u64 + 64).min(limit / 2);
    let own = (2 * dsps as u64 + 1024).min(limit - clients);
    (clients as u32, own as u32)
}

/// Serves until its duties end.
///
/// # Errors
/// The ring could not be made, or broke.
pub(super) fn serve(bidder: &mut Bidder, listener: TcpListener, duties: &mut impl Duties) -> io::Result<()> {
    let (clients, own) = table(bidder);
    let (ring, received) = Ring::new(clients, own)?;
    let sockets = Sockets {
        ring,
        clients: Vec::new(),
        dsps: Vec::new(),
        resumed: Vec::new(),
        unsent: Vec::new(),
        unconnected: Vec::new(),
    };
    let mut core = Core { bidder, sockets, received, listener: Some(listener), accepting: false };
    core.accept();
    let clock = TurnClock::new();
    let (mut fresh, mut answered) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    // What clients did, and when that was known.
    let mut clients: VecDeque<(Event, Now)> = VecDeque::with_capacity(1024);
    // When the timer that is over first will be; there may be a longer one behind it.
    let mut beat_ns = 0;
    loop {
        let (now, _) = clock.now();
        if duties.orders(core.bidder, now) {
            core.stop_listening(now);
        }
        core.bidder.end_turn(now, &mut core.sockets);
        if duties.report(core.bidder, now) {
            core.bidder.farewells(now, &mut core.sockets);
            core.sockets.ring.submit();
            return Ok(());
        }
        let short = core.bidder.is_busy() || duties.pressing();
        let due_ns = now.boot_ns + if short { ring::SHORT_NS } else { ring::LONG_NS };
        if beat_ns <= now.boot_ns || due_ns < beat_ns {
            beat_ns = due_ns;
            core.sockets.ring.beat(short);
        }
        if core.has_asides() {
            core.sockets.ring.nudge();
        }
        clock.end();
        core.sockets.ring.wait(clients.is_empty())?;
        let (now, _) = clock.now();
        let bidder = &mut *core.bidder;
        core.sockets.ring.take(&mut fresh, |sock, bytes| bidder.on_taken(sock, bytes));
        // Complaints of sends come first: the bidder takes sends for through that nobody complained of by the end of the turn,
        // and an end of the stream must not close a file to which something is still being sent.
        for event in fresh.extract_if(.., |event| matches!(event, Event::Sent(..))) {
            core.happened(event, now);
        }
        // Before the other events, which may give a slot to somebody else.
        core.aside(now);
        answered.clear();
        answered.extend(fresh.iter().filter_map(|event| match event {
            Event::Read(Sock::Dsp(ix), _) => Some(*ix),
            _ => None,
        }));
        let (mut ahead, mut heard) = (answered.chunks(FORESIGHT), 0);
        for event in fresh.drain(..) {
            // What DSPs say is heard before they are asked again: else it would be taken for the next answer.
            if event.is_of_client() {
                clients.push_back((event, now));
                continue;
            }
            if matches!(event, Event::Read(Sock::Dsp(_), _)) {
                if heard % FORESIGHT == 0 {
                    core.bidder.foresee(ahead.next().unwrap_or(&[]));
                }
                heard += 1;
            }
            core.happened(event, now);
        }
        for _ in 0..a_turns_share(clients.iter().map(|(event, _)| matches!(event, Event::Read(..)))) {
            if let Some((event, known)) = clients.pop_front() {
                core.happened(event, known);
            }
        }
    }
}

/// How many of clients' events one turn handles: up to [`REQUESTS`] that are reads.
fn a_turns_share(reads: impl ExactSizeIterator<Item = bool>) -> usize {
    let all = reads.len();
    reads.enumerate().filter(|(_, asks)| *asks).nth(REQUESTS - 1).map_or(all, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_so_many_requests_and_what_lies_between() {
        let share = |asks: &[bool]| a_turns_share(asks.iter().copied());
        let mut events = vec![false; 10_000];
        assert_eq!(share(&events), 10_000, "nothing to ask for");
        (0..REQUESTS - 1).for_each(|i| events[i * 2] = true);
        assert_eq!(share(&events), 10_000, "room for one more");
        events[5_000] = true;
        assert_eq!(share(&events), 5_001);
        events[6_000] = true;
        assert_eq!(share(&events), 5_001);
    }
}
