//! One io_uring and the memory that it reads and writes: receives land in buffers that the kernel was given beforehand,
//! sends keep their bytes here until the kernel has them.
//! Owns: the ring, its table of files, its buffers (`received`). Runs on: each bidder core. Called by: `sockets`, and by the probe at
//! the start. Never: knows what is said; waits otherwise than for completions.
//!
//! A send is made with MSG_DONTWAIT and without a completion for success: the kernel takes it while it takes the
//! submission, and says so only if it did not take all of it. So when `io_uring_enter` has returned, every send of the
//! turn is either over or complained about, and six operations an auction need no completion. [`trial`] asks the
//! running kernel whether it does so.
#![allow(unsafe_code)]
mod received;

use super::transport::{Sent, Sock};
use io_uring::{
    IoUring, cqueue, opcode,
    squeue::{self, Flags},
    types::{self, CancelBuilder, Fixed},
};
use outcry::units::MS;
use received::{Group, Size};
pub(super) use received::{Lent, Received};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

/// Submission queue: what one turn may start before it has to hand over in between. Small: it is walked round and round
/// and stays in the cache.
const SQ_ENTRIES: u32 = 512;
/// Completion queue: at 1,000 auctions in flight a small one overflows, and that costs 18 % (measured).
const CQ_ENTRIES: u32 = 32 * 1024;
/// A connect that takes longer is over: the auctions that waited for it are too.
static CONNECT_TIME: types::Timespec = types::Timespec::new().sec(1);
/// The two beats of a core.
static SHORT: types::Timespec = types::Timespec::new().nsec(SHORT_NS as u32);
static LONG: types::Timespec = types::Timespec::new().nsec(LONG_NS as u32);
/// The beat of a core for which something is due, nanoseconds.
pub(super) const SHORT_NS: u64 = MS;
/// The beat of a core that has nothing to do.
pub(super) const LONG_NS: u64 = 10 * MS;

/// Clients': a request of 2-3 KB and its head in one.
const CLIENTS: Size = Size { count: 128, bytes: 4096 };
/// DSPs': most answers in one.
const DSPS: Size = Size { count: 512, bytes: 2048 };

/// Bytes of a ring with its buffers, for the plan of memory.
pub(crate) const BYTES: u64 = CLIENTS.count as u64 * CLIENTS.bytes as u64
    + DSPS.count as u64 * DSPS.bytes as u64
    + 16 * CQ_ENTRIES as u64
    + (64 + 4) * SQ_ENTRIES as u64;

/// A place in the ring's table of files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct File(u32);

/// Why a socket's receive is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The stream has ended.
    Stream,
    /// It was cancelled, or found no buffer: it may be started again.
    Again,
    /// The socket broke.
    Broken,
}

/// What the kernel says.
#[derive(Debug)]
pub(super) enum Event {
    /// A client connected.
    Accepted(File),
    /// No more are accepted; the error.
    AcceptEnded(i32),
    /// Bytes came in; the last ones of this receive if there is an end.
    Read(Sock, Lent),
    /// A receive is over.
    ReadEnded(Sock, End),
    /// A send that was not taken at once.
    Sent(Sock, Sent),
    /// A connect is over: is there a connection?
    Connected(Sock, bool),
    /// The file of a socket is closed.
    Closed(Sock),
    /// A timer that was set is over.
    Beat,
    /// What became of a send was said too late: the kernel does not do what it did at the start. Its socket is of no
    /// more use.
    Astray(Sock),
}

impl Event {
    /// Is it of a client that was let in?
    pub(super) fn is_of_client(&self) -> bool {
        matches!(
            self,
            Event::Read(Sock::Client(_), _)
                | Event::ReadEnded(Sock::Client(_), _)
                | Event::Sent(Sock::Client(_), _)
                | Event::Astray(Sock::Client(_))
                | Event::Closed(Sock::Client(_))
        )
    }
}

// What a completion belongs to: operation (4 bits), turn (4 bits), 24 bits of its own, socket (32 bits).
const ACCEPT: u8 = 1;
const READ: u8 = 2;
/// A send without a completion for success; its number in the turn.
const SEND: u8 = 3;
/// The rest of a send that was stuck; its place.
const REST: u8 = 4;
const CONNECT: u8 = 5;
/// A close; the file.
const CLOSE: u8 = 6;
/// A close that nobody awaits; the file.
const CLOSE_UNSAID: u8 = 7;
const BEAT: u8 = 8;
/// What nobody asks about.
const QUIET: u8 = 9;

const DSP_BIT: u32 = 1 << 31;

fn name(op: u8, own: usize, sock: Option<Sock>) -> u64 {
    let sock = match sock {
        Some(Sock::Client(ix)) => ix,
        Some(Sock::Dsp(ix)) => ix | DSP_BIT,
        None => 0,
    };
    u64::from(op) << 60 | (own as u64 & 0xff_ffff) << 32 | u64::from(sock)
}

fn named(user_data: u64) -> (u8, usize, Sock) {
    let sock = user_data as u32;
    let sock = if sock & DSP_BIT == 0 { Sock::Client(sock) } else { Sock::Dsp(sock & !DSP_BIT) };
    ((user_data >> 60) as u8, (user_data >> 32) as usize & 0xff_ffff, sock)
}

fn group_of(sock: Sock) -> u8 {
    u8::from(matches!(sock, Sock::Dsp(_)))
}

/// A send that the kernel did not take at once.
struct Stuck {
    bytes: Vec<u8>,
    sent: usize,
    file: File,
    /// It was told to end: what the kernel has taken of it is all.
    given_up: bool,
}

/// The ring.
pub(super) struct Ring {
    ring: IoUring,
    /// Places for files that we open; those below are the accept's.
    free: Vec<File>,
    /// Where ours begin.
    ours: u32,
    /// Sends of this turn, in order.
    sends: Vec<(Sock, File, Vec<u8>)>,
    /// Counts turns, as far as four bits go.
    turn: u64,
    stuck: Vec<Option<Stuck>>,
    /// Addresses of connects until they are submitted.
    #[expect(clippy::vec_box, reason = "the kernel has their addresses while others come in")]
    addrs: Vec<Box<socket2::SockAddr>>,
    /// Submissions that found no room, in order.
    backlog: Vec<squeue::Entry>,
    /// Completions that were taken to make room.
    early: Vec<cqueue::Entry>,
}

impl Ring {
    /// A ring with room for so many accepted clients and so many files of our own. Needs Linux 6.1.
    pub(super) fn new(clients: u32, own: u32) -> io::Result<(Ring, Received)> {
        Ring::with(clients, own, [CLIENTS, DSPS])
    }

    fn with(clients: u32, own: u32, sizes: [Size; 2]) -> io::Result<(Ring, Received)> {
        let ring: IoUring = IoUring::builder()
            .setup_cqsize(CQ_ENTRIES)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_submit_all()
            .build(SQ_ENTRIES)?;
        ring.submitter().register_files_sparse(clients + own)?;
        let range: [u32; 4] = [0, clients, 0, 0]; // struct io_uring_file_index_range: off, len, reserved
        const FILE_ALLOC_RANGE: libc::c_uint = 25; // IORING_REGISTER_FILE_ALLOC_RANGE
        // SAFETY: the opcode reads one 16-byte struct, which `range` is, and keeps no pointer to it.
        let rc = unsafe {
            libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), FILE_ALLOC_RANGE, range.as_ptr(), 0)
        };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut received = Received(sizes.map(Group::new));
        for (id, group) in received.0.iter_mut().enumerate() {
            // SAFETY: the entries are `count` of 16 bytes from the beginning of a page, and are never freed.
            unsafe {
                ring.submitter().register_buf_ring_with_flags(group.entries as u64, group.size.count, id as u16, 0)?;
            }
            (0..group.size.count).for_each(|i| group.put(i));
        }
        let ring = Ring {
            ring,
            free: (clients..clients + own).rev().map(File).collect(),
            ours: clients,
            sends: Vec::with_capacity(1024),
            stuck: Vec::new(),
            turn: 0,
            addrs: Vec::new(),
            backlog: Vec::new(),
            early: Vec::new(),
        };
        Ok((ring, received))
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.try_push(&entry) {
            self.backlog.push(entry);
        }
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        if self.ring.submission().is_full() {
            let _ = self.ring.submit();
        }
        // SAFETY: what the entries of this module point to lives as long as the kernel looks at it: bytes of sends in
        // `sends` and `stuck` until their fate is known, addresses until they are submitted (all that the kernel needs,
        // IORING_FEAT_SUBMIT_STABLE), times and receive buffers for ever.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Hands over what was started and waits, if `idle`, until there is something to [`Ring::take`]: a turn's only system
    /// call, but for turns that start more than the queue holds.
    ///
    /// # Errors
    /// The ring is of no more use.
    pub(super) fn wait(&mut self, idle: bool) -> io::Result<()> {
        loop {
            let mut moved = 0;
            while moved < self.backlog.len() {
                let entry = self.backlog[moved].clone();
                if !self.try_push(&entry) {
                    break;
                }
                moved += 1;
            }
            self.backlog.drain(..moved);
            let all = self.backlog.is_empty();
            match self.ring.submit_and_wait(usize::from(idle && all && self.early.is_empty())) {
                Ok(_) if all && self.ring.submission().is_empty() => return Ok(()),
                Ok(_) => {}
                Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
                Err(e) => return Err(e),
            }
            // The kernel takes no more before its own queue is read. Sends are looked at when all are handed over.
            self.early.extend(self.ring.completion());
            if all && self.ring.submission().is_empty() && !self.early.is_empty() {
                return Ok(());
            }
        }
    }

    /// Hands over what was started, without waiting: the last words of a core.
    pub(super) fn submit(&mut self) {
        while !self.ring.submission().is_empty() && self.ring.submit().is_ok() {}
    }

    /// What the kernel has said, and the buffers of the sends that it took.
    pub(super) fn take(&mut self, events: &mut Vec<Event>, mut taken: impl FnMut(Sock, Vec<u8>)) {
        self.addrs.clear();
        for at in 0..self.early.len() {
            let c = self.early[at].clone();
            self.completed(&c, events);
        }
        self.early.clear();
        loop {
            // One at a time: some start something anew.
            loop {
                let Some(c) = self.ring.completion().next() else { break };
                self.completed(&c, events);
            }
            // What did not fit into the queue waits behind it, complaints about sends too.
            if !self.ring.submission().cq_overflow() || self.ring.submit().is_err() {
                break;
            }
        }
        for (sock, _, bytes) in self.sends.drain(..) {
            if bytes.capacity() > 0 {
                taken(sock, bytes);
            }
        }
        self.turn = (self.turn + 1) & 0xf;
    }

    fn completed(&mut self, c: &cqueue::Entry, events: &mut Vec<Event>) {
        let (op, own, sock) = named(c.user_data());
        let (result, more) = (c.result(), cqueue::more(c.flags()));
        match op {
            READ => {
                if result > 0
                    && let Some(id) = cqueue::buffer_select(c.flags())
                {
                    events.push(Event::Read(sock, Lent { group: group_of(sock), id, len: result as u32 }));
                }
                if !more {
                    let end = match result {
                        0 => End::Stream,
                        1.. => End::Again,
                        e if matches!(-e, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => End::Again,
                        _ => End::Broken,
                    };
                    events.push(Event::ReadEnded(sock, end));
                }
            }
            SEND if c.user_data() >> 56 & 0xf != self.turn => events.push(Event::Astray(sock)),
            SEND => {
                let Some((sock, file, bytes)) = self.sends.get_mut(own) else { return };
                let (sock, file, bytes) = (*sock, *file, std::mem::take(bytes));
                if result >= 0 || result == -libc::EAGAIN {
                    let place = self.stuck.iter().position(Option::is_none).unwrap_or_else(|| {
                        self.stuck.push(None);
                        self.stuck.len() - 1
                    });
                    self.stuck[place] = Some(Stuck { bytes, sent: result.max(0) as usize, file, given_up: false });
                    self.rest(sock, place);
                    events.push(Event::Sent(sock, Sent::Stuck));
                } else {
                    events.push(Event::Sent(sock, Sent::Broken(bytes)));
                }
            }
            REST => {
                let Some(stuck) = self.stuck.get_mut(own).and_then(Option::as_mut) else { return };
                stuck.sent += result.max(0) as usize;
                let whole = stuck.sent >= stuck.bytes.len();
                if !whole && result > 0 && !stuck.given_up {
                    return self.rest(sock, own);
                }
                if let Some(stuck) = self.stuck[own].take() {
                    let sent = if whole { Sent::Through(stuck.bytes) } else { Sent::Broken(stuck.bytes) };
                    events.push(Event::Sent(sock, sent));
                }
            }
            ACCEPT => {
                if result >= 0 {
                    events.push(Event::Accepted(File(result as u32)));
                }
                if !more {
                    events.push(Event::AcceptEnded(-result.min(0)));
                }
            }
            CONNECT => events.push(Event::Connected(sock, result == 0)),
            CLOSE | CLOSE_UNSAID => {
                if own as u32 >= self.ours {
                    self.free.push(File(own as u32));
                }
                if op == CLOSE {
                    events.push(Event::Closed(sock));
                }
            }
            BEAT => events.push(Event::Beat),
            _ => {}
        }
    }

    /// Accepts clients until the listener is shut. They inherit its TCP_NODELAY.
    pub(super) fn accept(&mut self, listener: &impl AsRawFd) {
        let fd = types::Fd(listener.as_raw_fd());
        self.push(opcode::AcceptMulti::new(fd).allocate_file_index(true).build().user_data(name(ACCEPT, 0, None)));
    }

    /// Receives, again and again.
    pub(super) fn read(&mut self, sock: Sock, file: File) {
        let entry = opcode::RecvMulti::new(Fixed(file.0), group_of(sock).into()).build();
        self.push(entry.user_data(name(READ, 0, Some(sock))));
    }

    /// Sends; what becomes of it is known after the next [`Ring::take`].
    #[inline]
    pub(super) fn send(&mut self, sock: Sock, file: File, bytes: Vec<u8>) {
        // MSG_WAITALL: what is taken in part counts as a failure, which has a completion.
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL | libc::MSG_DONTWAIT;
        let entry = opcode::Send::new(Fixed(file.0), bytes.as_ptr(), bytes.len() as u32).flags(flags).build();
        let name = name(SEND, self.sends.len(), Some(sock)) | self.turn << 56;
        let entry = entry.flags(Flags::SKIP_SUCCESS).user_data(name);
        self.sends.push((sock, file, bytes));
        self.push(entry);
    }

    /// Is there a send of this turn on the socket? Looks at all of them: for assertions.
    pub(super) fn sends_to(&self, sock: Sock) -> bool {
        self.sends.iter().any(|(s, _, _)| *s == sock)
    }

    fn rest(&mut self, sock: Sock, place: usize) {
        let Some(Stuck { bytes, sent, file, .. }) = self.stuck.get(place).and_then(Option::as_ref) else { return };
        let rest = &bytes[(*sent).min(bytes.len())..];
        let entry = opcode::Send::new(Fixed(file.0), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry.user_data(name(REST, place, Some(sock))));
    }

    /// Takes over a socket; `None`: the table is full.
    pub(super) fn install(&mut self, socket: OwnedFd) -> Option<File> {
        let file = self.free.pop()?;
        if self.ring.submitter().register_files_update(file.0, &[socket.as_raw_fd()]).is_err() {
            self.free.push(file);
            return None;
        }
        Some(file)
    }

    /// Connects; gives up after a second.
    pub(super) fn connect(&mut self, sock: Sock, file: File, addr: std::net::SocketAddr) {
        let addr = Box::new(socket2::SockAddr::from(addr));
        let entry = opcode::Connect::new(Fixed(file.0), addr.as_ptr().cast(), addr.len()).build();
        self.addrs.push(addr);
        // The two must stand in one submission to be linked.
        let room = |queue: squeue::SubmissionQueue<'_>| queue.capacity() - queue.len();
        if room(self.ring.submission()) < 2 {
            self.submit();
        }
        self.push(entry.flags(Flags::IO_LINK).user_data(name(CONNECT, 0, Some(sock))));
        self.push(opcode::LinkTimeout::new(&CONNECT_TIME).build().user_data(name(QUIET, 0, None)));
    }

    /// The next wait is none: there is something to do without the kernel.
    pub(super) fn nudge(&mut self) {
        self.push(opcode::Nop::new().build().user_data(name(QUIET, 0, None)));
    }

    /// Ends the receive of a socket.
    pub(super) fn stop_reading(&mut self, sock: Sock) {
        let entry = opcode::AsyncCancel::new(name(READ, 0, Some(sock))).build();
        self.push(entry.user_data(name(QUIET, 0, None)));
    }

    /// Ends everything that is under way on a file.
    pub(super) fn cancel(&mut self, file: File) {
        // A send that had got somewhere ends with what it did, not as cancelled.
        self.stuck.iter_mut().flatten().filter(|stuck| stuck.file == file).for_each(|stuck| stuck.given_up = true);
        let entry = opcode::AsyncCancel2::new(CancelBuilder::fd(Fixed(file.0)).all()).build();
        self.push(entry.user_data(name(QUIET, 0, None)));
    }

    /// Ends the sending side of a connection.
    pub(super) fn shutdown(&mut self, file: File) {
        let entry = opcode::Shutdown::new(Fixed(file.0), libc::SHUT_WR).build();
        self.push(entry.user_data(name(QUIET, 0, None)));
    }

    /// Closes a file on which nothing is under way; with a socket, that is told when it is done.
    pub(super) fn close(&mut self, file: File, sock: Option<Sock>) {
        let op = if sock.is_some() { CLOSE } else { CLOSE_UNSAID };
        self.push(opcode::Close::new(Fixed(file.0)).build().user_data(name(op, file.0 as usize, sock)));
    }

    /// Wakes the core once, [`SHORT_NS`] or [`LONG_NS`] from the next submission.
    pub(super) fn beat(&mut self, short: bool) {
        let time = if short { &SHORT } else { &LONG };
        self.push(opcode::Timeout::new(time).build().user_data(name(BEAT, 0, None)));
    }
}

/// Does this kernel do what this module takes for granted? A small send says nothing, one too long for the socket says
/// so at once and goes on as the other side reads, what was sent is received.
///
/// # Errors
/// What the kernel refuses; `EOPNOTSUPP` if it does otherwise.
pub(crate) fn trial() -> io::Result<()> {
    let unlike = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    let small = Size { count: 8, bytes: 4096 };
    let (mut ring, mut received) = Ring::with(1, 2, [small; 2])?;
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    far.set_nonblocking(true)?;
    let (writer, reader) = (Sock::Client(0), Sock::Dsp(0));
    let near_file = ring.install(near.into()).ok_or_else(unlike)?;
    let far_file = ring.install(far.into()).ok_or_else(unlike)?;
    let long = vec![b'x'; 4 << 20];
    let all = long.len() + 5;
    ring.send(writer, near_file, b"small".to_vec());
    ring.send(writer, near_file, long);
    ring.beat(true);
    let (mut taken, mut got, mut stuck, mut through) = (0, 0, false, false);
    let mut events = Vec::new();
    // Each turn reads something, or hears a beat; a kernel that does neither is not waited for without end.
    for turn in 0..100_000 {
        ring.wait(true)?;
        ring.take(&mut events, |_, bytes| taken += bytes.len());
        if turn == 0 {
            stuck = matches!(events.as_slice(), [Event::Sent(_, Sent::Stuck), ..]) && taken == 5;
            ring.read(reader, far_file);
        }
        for event in events.drain(..) {
            match event {
                Event::Read(_, lent) => {
                    got += received.bytes(&lent).len();
                    received.give_back(lent);
                }
                Event::ReadEnded(_, End::Again) => ring.read(reader, far_file),
                Event::Sent(_, Sent::Through(_)) => through = true,
                Event::Beat => ring.beat(true),
                _ => {}
            }
        }
        if !stuck || through && got == all {
            break;
        }
    }
    if stuck && through && got == all { Ok(()) } else { Err(unlike()) }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still be reading what it has not sent.
        self.stuck.drain(..).flatten().for_each(|stuck| std::mem::forget(stuck.bytes));
        self.sends.drain(..).for_each(|(_, _, bytes)| std::mem::forget(bytes));
    }
}

#[cfg(test)]
mod tests;
