//! What the meter's programs share: one io_uring with a provided-buffer ring, and the cheapest HTTP/1.1
//! framing that is still honest.
//! Owns: the ring, its buffers. Runs on: one thread of `floor`, `floor-dsp`, `floor-load`.
//! Never: parses JSON, decides anything. These are measuring programs: what cannot go on, panics.
#![allow(unsafe_code)]
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd},
    ptr,
    sync::atomic::{AtomicU16, Ordering},
};

/// A command line of `key=value`s.
pub struct Args(HashMap<String, String>);

impl Args {
    /// Takes the process's arguments; panics at one whose key is not in `known` (a misspelt switch would measure
    /// something else than it says).
    pub fn parse(known: &[&str]) -> Args {
        let mut all = HashMap::new();
        for arg in std::env::args().skip(1) {
            let (key, value) = arg.split_once('=').unwrap_or_else(|| panic!("`{arg}`: want key=value"));
            let found = known.iter().chain(Cfg::KEYS).any(|k| *k == key);
            assert!(found, "`{key}` is not one of {} {}", known.join(" "), Cfg::KEYS.join(" "));
            all.insert(key.to_string(), value.to_string());
        }
        Args(all)
    }

    /// A whole number.
    pub fn num(&self, key: &str, default: i64) -> i64 {
        self.0.get(key).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{key}={v}: not a number")))
    }

    /// A count: not below zero.
    pub fn count(&self, key: &str, default: usize) -> usize {
        self.num(key, default as i64).try_into().unwrap_or_else(|_| panic!("{key}: below zero"))
    }

    /// A port.
    pub fn port(&self, key: &str, default: u16) -> u16 {
        self.num(key, default.into()).try_into().unwrap_or_else(|_| panic!("{key}: not a port"))
    }

    /// 0 or 1.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.num(key, default.into()) != 0
    }

    /// Any text.
    pub fn text(&self, key: &str, default: &str) -> String {
        self.0.get(key).cloned().unwrap_or_else(|| default.to_string())
    }
}

/// Pins the calling thread to one CPU.
pub fn pin(cpu: usize) {
    // SAFETY: `set` is a plain bit set that zeros are valid for; CPU_SET bounds-checks `cpu` by indexing an array, and
    // the kernel reads no more than the size it is told.
    let rc = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    assert!(rc == 0, "pin to CPU {cpu}: {}", io::Error::last_os_error());
}

/// CPU time of the whole process so far, nanoseconds.
pub fn cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of this thread so far, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is ours and of the type that the call fills in.
    unsafe { libc::clock_gettime(clock, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Length of the head and Content-Length, once the head is complete. One memchr a line.
#[inline]
pub fn frame(b: &[u8]) -> Option<(usize, usize)> {
    const NAME: &[u8] = b"content-length:";
    let (mut at, mut len) = (0, 0);
    while let Some(nl) = memchr::memchr(b'\n', &b[at..]) {
        let line = &b[at..at + nl];
        if line.len() <= 1 {
            return Some((at + nl + 1, len));
        }
        if line[0] | 0x20 == b'c' && line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let digits = line[NAME.len()..].iter().filter(|c| c.is_ascii_digit());
            len = digits.fold(0, |n: usize, c| n.wrapping_mul(10).wrapping_add((c - b'0').into()));
        }
        at += nl + 1;
    }
    None
}

/// Bytes of the first message in `b` once it is whole, by its Content-Length.
#[inline]
pub fn whole(b: &[u8]) -> Option<usize> {
    frame(b).map(|(head, body)| head + body).filter(|n| b.len() >= *n)
}

/// A POST of `body`.
pub fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let mut v = format!(
        "POST {path} HTTP/1.1\r\nHost: exchange.local\r\nContent-Type: application/json\r\n\
        x-openrtb-version: 2.6\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    v.extend_from_slice(body);
    v
}

/// A 200 whose body has `body` bytes.
pub fn response(body: usize) -> Vec<u8> {
    let mut v =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    v.extend(filler(body));
    v
}

/// Where a request's own number goes.
pub const SLOT: &[u8] = b"0000000000000000";

/// Writes `n` as 16 hexadecimal digits.
pub fn hex16(out: &mut [u8], n: u64) {
    for (i, b) in out.iter_mut().rev().enumerate().take(16) {
        *b = b"0123456789abcdef"[(n >> (4 * i) & 15) as usize];
    }
}

/// The index of the cell in which the share `p` of all counts is reached.
pub fn quantile(hist: &[u32], p: f64) -> usize {
    let total: u64 = hist.iter().map(|n| u64::from(*n)).sum();
    let want = ((total as f64 * p).ceil() as u64).max(1);
    let mut sum = 0;
    hist.iter()
        .position(|n| {
            sum += u64::from(*n);
            sum >= want
        })
        .unwrap_or(0)
}

/// `n` bytes that look like JSON.
pub fn filler(n: usize) -> Vec<u8> {
    br#"{"id":"8f3c1e","imp":[{"id":"1","bidfloor":0.35}]},"#.iter().copied().cycle().take(n).collect()
}

/// Which io_uring features to use; each can be switched off to see what it is worth.
pub struct Cfg {
    /// Submission queue entries.
    pub sq: u32,
    /// Completion queue entries.
    pub cq: u32,
    /// Receive buffers; a power of two.
    pub bufs: u16,
    /// Bytes of one receive buffer.
    pub buf_len: u32,
    /// DEFER_TASKRUN
    pub defer: bool,
    /// SINGLE_ISSUER
    pub single: bool,
    /// COOP_TASKRUN
    pub coop: bool,
    /// Multishot receive.
    pub multishot: bool,
    /// Direct descriptors.
    pub fixed: bool,
    /// Registered ring descriptor.
    pub ringfd: bool,
    /// No completions for sends that succeed.
    pub skip: bool,
    /// A kernel thread submits.
    pub sqpoll: bool,
    /// Completions to wait for.
    pub want: u32,
    /// And for how many microseconds more than needed (Linux 6.12).
    pub min_wait_us: u32,
}

impl Cfg {
    const KEYS: &[&str] = &[
        "sq",
        "cq",
        "bufs",
        "buflen",
        "defer",
        "single",
        "coop",
        "multishot",
        "fixed",
        "ringfd",
        "skip",
        "sqpoll",
        "want",
        "minwait",
    ];

    /// From the command line.
    pub fn from(a: &Args) -> Cfg {
        let cfg = Cfg {
            sq: a.count("sq", 512) as u32,
            cq: a.count("cq", 8192) as u32,
            bufs: a.count("bufs", 512) as u16,
            buf_len: a.count("buflen", 4096) as u32,
            defer: a.flag("defer", true),
            single: a.flag("single", true),
            coop: a.flag("coop", true),
            multishot: a.flag("multishot", true),
            fixed: a.flag("fixed", true),
            ringfd: a.flag("ringfd", true),
            skip: a.flag("skip", true),
            sqpoll: a.flag("sqpoll", false),
            want: a.count("want", 1) as u32,
            min_wait_us: a.count("minwait", 0) as u32,
        };
        assert!(cfg.bufs.is_power_of_two() && cfg.bufs <= 1 << 15 && cfg.buf_len >= 64, "bufs, buflen");
        cfg
    }
}

/// Slots of direct descriptors.
const FILES: u32 = 16384;
/// Slots below this are allocated by multishot accept, those above by [`Ring::install`].
const ACCEPT_FILES: u32 = 4096;

/// A completion: user data, result, flags.
pub type Done = (u64, i32, u32);

/// One io_uring and its receive buffers. Descriptors are direct ones when `cfg.fixed`, else plain.
pub struct Ring {
    ring: IoUring,
    cfg: Cfg,
    entries: *mut types::BufRingEntry,
    mem: *mut u8,
    tail: u16,
    next_slot: u32,
    batch: Vec<Done>,
}

/// Anonymous zeroed memory that lives as long as the process.
fn map(len: usize) -> io::Result<*mut u8> {
    let (prot, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE);
    // SAFETY: a new anonymous mapping touches no memory that exists.
    let p = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, -1, 0) };
    if p == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(p.cast()) }
}

impl Ring {
    /// Makes the ring and registers its buffers.
    pub fn new(cfg: Cfg) -> io::Result<Ring> {
        let mut b = IoUring::builder();
        b.setup_cqsize(cfg.cq);
        if cfg.sqpoll {
            b.setup_sqpoll(50);
        } else {
            if cfg.coop || cfg.defer {
                b.setup_coop_taskrun();
            }
            if cfg.single || cfg.defer {
                b.setup_single_issuer();
            }
            if cfg.defer {
                b.setup_defer_taskrun();
            }
        }
        let ring: IoUring = b.build(cfg.sq)?;
        if cfg.ringfd {
            ring.submitter().register_ring_fd()?;
        }
        if cfg.fixed {
            ring.submitter().register_files_sparse(FILES)?;
            let range: [u32; 4] = [0, ACCEPT_FILES, 0, 0]; // struct io_uring_file_index_range
            const FILE_ALLOC_RANGE: libc::c_uint = 25;
            // SAFETY: the opcode reads one 16-byte struct, which `range` is; the crate has no call for it.
            let rc = unsafe {
                libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), FILE_ALLOC_RANGE, range.as_ptr(), 0)
            };
            if rc < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        let entries = map(usize::from(cfg.bufs) * size_of::<types::BufRingEntry>())?.cast::<types::BufRingEntry>();
        let mem = map(usize::from(cfg.bufs) * cfg.buf_len as usize)?;
        // SAFETY: `entries` is page-aligned, has room for `bufs` entries, and is never unmapped.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, cfg.bufs, 0, 0)? };
        let bufs = cfg.bufs;
        let mut r = Ring { ring, cfg, entries, mem, tail: 0, next_slot: ACCEPT_FILES, batch: Vec::with_capacity(4096) };
        (0..bufs).for_each(|i| r.recycle(i));
        Ok(r)
    }

    fn buffer(&self, id: u16) -> *mut u8 {
        assert!(id < self.cfg.bufs);
        // SAFETY: below `bufs`, so inside the mapping of `bufs * buf_len` bytes.
        unsafe { self.mem.add(usize::from(id) * self.cfg.buf_len as usize) }
    }

    /// The bytes that a receive delivered, and the buffer they are in: valid until it is given to [`Ring::recycle`],
    /// which callers do once, after the last look. (A borrow of the ring would forbid sends in between.)
    #[inline]
    pub fn data(&self, flags: u32, len: i32) -> (u16, &'static [u8]) {
        let id = cqueue::buffer_select(flags).expect("a receive without a buffer");
        let len = usize::try_from(len).expect("a receive that failed").min(self.cfg.buf_len as usize);
        // SAFETY: the kernel filled `len` bytes of this buffer and does not touch it again before it is recycled; the
        // mapping outlives the process's use of it.
        (id, unsafe { std::slice::from_raw_parts(self.buffer(id), len) })
    }

    /// Gives a buffer back; the kernel sees it at the next [`Ring::wait`].
    #[inline]
    pub fn recycle(&mut self, id: u16) {
        let addr = self.buffer(id) as u64;
        // SAFETY: the index is masked to the ring's size, and the kernel reads an entry only once the tail is past it.
        let e = unsafe { &mut *self.entries.add((self.tail & (self.cfg.bufs - 1)).into()) };
        e.set_addr(addr);
        e.set_len(self.cfg.buf_len);
        e.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn push(&mut self, e: squeue::Entry) {
        // SAFETY: every entry made below points to the receive buffers, to nothing, or to bytes that `send`'s caller
        // keeps in place.
        while unsafe { self.ring.submission().push(&e) }.is_err() {
            self.ring.submit().expect("submit");
        }
    }

    /// Publishes the recycled buffers, submits what is queued and waits for a completion: the one io_uring_enter of a
    /// loop turn. A timeout of `None` waits for ever.
    pub fn wait(&mut self, timeout_ns: Option<u64>) {
        // SAFETY: the tail is a 16-bit field of the first entry, which is ours; the kernel reads it with acquire.
        let tail = unsafe { &*types::BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
        let want = self.cfg.want as usize;
        let result = if timeout_ns.is_none() && self.cfg.min_wait_us == 0 {
            self.ring.submit_and_wait(want)
        } else {
            let ns = timeout_ns.unwrap_or(1_000_000_000);
            let ts = types::Timespec::new().sec(ns / 1_000_000_000).nsec((ns % 1_000_000_000) as u32);
            let args = types::SubmitArgs::new().timespec(&ts).min_wait_usec(self.cfg.min_wait_us);
            self.ring.submitter().submit_with_args(want, &args)
        };
        match result {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(e) => panic!("io_uring_enter: {e}"),
        }
    }

    /// Submits what is queued, now: who wants to know how long that takes need not wait for completions too.
    pub fn submit(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(e) => panic!("io_uring_enter: {e}"),
        }
    }

    /// Takes the completions that are there; hand the vector back with [`Ring::done`].
    pub fn completions(&mut self) -> Vec<Done> {
        let mut v = std::mem::take(&mut self.batch);
        v.extend(self.ring.completion().map(|c| (c.user_data(), c.result(), c.flags())));
        v
    }

    /// Takes the vector of [`Ring::completions`] back for the next turn.
    pub fn done(&mut self, mut v: Vec<Done>) {
        v.clear();
        self.batch = v;
    }

    /// Accepts until told otherwise.
    pub fn accept(&mut self, listener: RawFd, ud: u64) {
        let e = opcode::AcceptMulti::new(types::Fd(listener)).allocate_file_index(self.cfg.fixed).build();
        self.push(e.user_data(ud));
    }

    /// Receives into a buffer of the ring, again and again when `multishot`.
    pub fn recv(&mut self, fd: u32, ud: u64) {
        use opcode::{Recv, RecvMulti};
        let (n, select) = (self.cfg.buf_len, squeue::Flags::BUFFER_SELECT);
        let (plain, slot) = (types::Fd(fd as i32), types::Fixed(fd));
        let e = match (self.cfg.multishot, self.cfg.fixed) {
            (true, true) => RecvMulti::new(slot, 0).build(),
            (true, false) => RecvMulti::new(plain, 0).build(),
            (false, true) => Recv::new(slot, ptr::null_mut(), n).buf_group(0).build().flags(select),
            (false, false) => Recv::new(plain, ptr::null_mut(), n).buf_group(0).build().flags(select),
        };
        self.push(e.user_data(ud));
    }

    /// Sends. The bytes must stay put until the peer answered them, the connection is gone, or (with `skip=0`) the
    /// completion is there.
    #[inline]
    pub fn send(&mut self, fd: u32, b: &[u8], ud: u64) {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let (p, n) = (b.as_ptr(), b.len() as u32);
        let mut e = if self.cfg.fixed {
            opcode::Send::new(types::Fixed(fd), p, n).flags(flags).build()
        } else {
            opcode::Send::new(types::Fd(fd as i32), p, n).flags(flags).build()
        };
        if self.cfg.skip {
            e = e.flags(squeue::Flags::SKIP_SUCCESS);
        }
        self.push(e.user_data(ud));
    }

    /// Closes.
    pub fn close(&mut self, fd: u32, ud: u64) {
        let e = if self.cfg.fixed {
            opcode::Close::new(types::Fixed(fd)).build()
        } else {
            opcode::Close::new(types::Fd(fd as i32)).build()
        };
        self.push(e.flags(squeue::Flags::SKIP_SUCCESS).user_data(ud));
    }

    /// Takes over a connected socket, into a slot when `fixed`.
    pub fn install(&mut self, s: std::net::TcpStream) -> u32 {
        s.set_nodelay(true).expect("TCP_NODELAY");
        if !self.cfg.fixed {
            return s.into_raw_fd() as u32;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        assert!(slot < FILES, "out of slots for connections");
        self.ring.submitter().register_files_update(slot, &[s.as_raw_fd()]).expect("files_update");
        slot
    }
}

/// A listening socket on 127.0.0.1 with SO_REUSEPORT and TCP_NODELAY (accepted sockets inherit it).
pub fn listen(port: u16) -> std::net::TcpListener {
    // SAFETY: plain socket calls on a descriptor made here, with pointers to locals and their sizes; it is then owned
    // by the listener alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "socket: {}", io::Error::last_os_error());
        let listener = std::net::TcpListener::from_raw_fd(fd);
        let one: libc::c_int = 1;
        let options = [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_REUSEPORT),
            (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        ];
        for (level, option) in options {
            libc::setsockopt(fd, level, option, ptr::from_ref(&one).cast(), 4);
        }
        let mut sa: libc::sockaddr_in = std::mem::zeroed();
        sa.sin_family = libc::AF_INET as u16;
        sa.sin_port = port.to_be();
        sa.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
        let rc = libc::bind(fd, ptr::from_ref(&sa).cast(), size_of_val(&sa) as u32);
        assert!(rc == 0, "bind {port}: {}", io::Error::last_os_error());
        assert!(libc::listen(fd, 4096) == 0, "listen {port}: {}", io::Error::last_os_error());
        listener
    }
}

/// IORING_CQE_F_MORE: the request that this completion is of goes on.
pub const MORE: u32 = 2;

/// User data of operation `op` on `i`.
pub fn ud(op: u8, i: usize) -> u64 {
    u64::from(op) << 56 | i as u64
}

/// The reverse of [`ud`].
pub fn un(ud: u64) -> (u8, usize) {
    ((ud >> 56) as u8, (ud & 0xff_ffff_ffff) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_at_its_last_byte_and_not_before() {
        let post = request("/x", b"{\"id\":\"1\"}");
        for cut in 0..post.len() {
            assert_eq!(whole(&post[..cut]), None, "{cut}");
        }
        assert_eq!(whole(&post), Some(post.len()));
        let mut two = post.clone();
        two.extend_from_slice(&post);
        assert_eq!(whole(&two), Some(post.len()));
    }

    #[test]
    fn framing_reads_content_length_in_any_case() {
        for (head, want) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Some((27, 0))),
            ("HTTP/1.1 200 OK\r\nCONTENT-LENGTH:7\r\n\r\n", Some((37, 7))),
            ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nx: content-length: 9\r\n\r\n", Some((60, 7))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n", None),
        ] {
            assert_eq!(frame(head.as_bytes()), want, "{head}");
        }
    }

    #[test]
    fn user_data_comes_back() {
        for (op, i) in [(0, 0), (4, 16_383), (255, 0xff_ffff_ffff)] {
            assert_eq!(un(ud(op, i)), (op, i));
        }
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let mut hist = vec![0; 100];
        (hist[10], hist[20], hist[99]) = (98, 1, 1);
        assert_eq!([0.5, 0.98, 0.99, 1.0].map(|p| quantile(&hist, p)), [10, 10, 20, 99]);
        assert_eq!(quantile(&[0, 0], 0.5), 0);
    }
}
