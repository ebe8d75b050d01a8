//! The bidder over monoio: one task per socket reads, sends are started by whoever has the bytes.
//! Owns: the sockets. Runs on: each bidder core. Called by: `boot`. Never: decides anything.
//!
//! A send is an operation whose future nobody awaits: it is polled once with a waker that does nothing, which puts it on
//! the submission queue, and looked at again at the end of the next turn, when it is all but always done. So a send costs
//! no task switch. Only one that is found unfinished gets the reader task's waker.
use super::{
    Bidder,
    transport::{Next, Sent, Sock, Transport},
    turn::{TurnClock, boot_ns},
};
use monoio::{
    buf::{IoBuf, IoBufMut},
    io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf, Splitable},
    net::{TcpListener, TcpStream},
};
use outcry::units::Now;
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// A connect that takes longer is over: the auctions that waited for it are too.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_000);

type ReadHalf = OwnedReadHalf<TcpStream>;
type WriteHalf = OwnedWriteHalf<TcpStream>;

/// What a send came to.
type SendResult = (WriteHalf, io::Result<()>, Vec<u8>);

/// A send under way. A core has a few of them and uses each again for whichever socket sends next: the last one used is
/// in the cache, a socket's own would not be.
trait Sender {
    fn start(&mut self, half: WriteHalf, bytes: Vec<u8>, cx: &mut Context<'_>) -> Poll<SendResult>;
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SendResult>;
}

struct SendSlot<F> {
    make: fn(WriteHalf, Vec<u8>) -> F,
    future: Pin<Box<Option<F>>>,
}

async fn send_all(mut half: WriteHalf, mut bytes: Vec<u8>) -> SendResult {
    let mut at = 0;
    loop {
        let (result, slice) = half.write(bytes.slice(at..)).await;
        bytes = slice.into_inner();
        match result {
            Ok(0) => return (half, Err(io::ErrorKind::WriteZero.into()), bytes),
            Ok(n) => at += n,
            Err(e) => return (half, Err(e), bytes),
        }
        if at >= bytes.len() {
            return (half, Ok(()), bytes);
        }
    }
}

fn sender() -> Box<dyn Sender> {
    Box::new(SendSlot { make: send_all, future: Box::pin(None) })
}

impl<F: Future<Output = SendResult>> Sender for SendSlot<F> {
    fn start(&mut self, half: WriteHalf, bytes: Vec<u8>, cx: &mut Context<'_>) -> Poll<SendResult> {
        debug_assert!(self.future.is_none(), "one send at a time");
        let future = (self.make)(half, bytes);
        self.future.as_mut().set(Some(future));
        self.poll(cx)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<SendResult> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let result = future.poll(cx);
        if result.is_ready() {
            self.future.as_mut().set(None);
        }
        result
    }
}

/// What the tasks of one socket share.
#[derive(Default)]
struct Slot {
    /// The sending side, while nothing is being sent.
    half: Option<WriteHalf>,
    sending: Option<Box<dyn Sender>>,
    /// A send that ended as it was started.
    sent: Option<(io::Result<()>, Vec<u8>)>,
    reader: Option<Waker>,
    closing: bool,
    resumed: bool,
    watching: bool,
}

/// The sockets of a core; the [`Transport`] of its bidder.
pub struct Sockets {
    core: std::rc::Weak<Core>,
    clients: Vec<Slot>,
    dsps: Vec<Slot>,
    /// Senders that nobody uses, last used first.
    senders: Vec<Box<dyn Sender>>,
}

impl Sockets {
    fn slot(&mut self, sock: Sock) -> &mut Slot {
        let (all, ix) = match sock {
            Sock::Client(ix) => (&mut self.clients, ix as usize),
            Sock::Dsp(ix) => (&mut self.dsps, ix as usize),
        };
        if all.len() <= ix {
            all.resize_with(ix + 1, Slot::default);
        }
        &mut all[ix]
    }

    fn wake(&mut self, sock: Sock) {
        if let Some(reader) = &self.slot(sock).reader {
            reader.wake_by_ref();
        }
    }
}

impl Transport for Sockets {
    fn send(&mut self, sock: Sock, bytes: Vec<u8>) {
        let Some(half) = self.slot(sock).half.take() else { return }; // its socket is gone
        let mut sender = self.senders.pop().unwrap_or_else(sender);
        let started = sender.start(half, bytes, &mut Context::from_waker(Waker::noop()));
        if let Poll::Ready((half, result, bytes)) = started {
            self.senders.push(sender);
            let slot = self.slot(sock);
            (slot.half, slot.sent) = (Some(half), Some((result, bytes)));
        } else {
            self.slot(sock).sending = Some(sender);
        }
    }

    fn warm(&mut self, socks: impl Iterator<Item = Sock>) {
        // These reads do not depend on each other, so the misses overlap; in the sends themselves they would not.
        let ready = socks.filter(|sock| self.slot(*sock).half.is_some()).count();
        std::hint::black_box(ready);
    }

    fn sent(&mut self, sock: Sock, watch: bool) -> Sent {
        let slot = self.slot(sock);
        let (result, bytes) = match (&mut slot.sending, slot.sent.take()) {
            (None, Some(sent)) => sent,
            (None, None) if slot.half.is_some() => (Ok(()), Vec::new()),
            (None, None) => return Sent::Broken(Vec::new()),
            (Some(sender), _) => {
                let waker = slot.reader.as_ref().filter(|_| watch).unwrap_or(Waker::noop());
                let Poll::Ready((half, result, bytes)) = sender.poll(&mut Context::from_waker(waker)) else {
                    slot.watching = watch;
                    return Sent::Busy;
                };
                slot.half = Some(half);
                let sender = slot.sending.take();
                self.senders.extend(sender);
                (result, bytes)
            }
        };
        match result {
            Ok(()) => Sent::Done(bytes),
            Err(_) => Sent::Broken(bytes),
        }
    }

    fn connect(&mut self, sock: Sock, addr: SocketAddr) {
        *self.slot(sock) = Slot::default();
        if let Some(core) = self.core.upgrade() {
            monoio::spawn(connect(core, sock, addr));
        }
    }

    fn resume(&mut self, sock: Sock) {
        self.slot(sock).resumed = true;
        self.wake(sock);
    }

    fn shutdown(&mut self, sock: Sock) {
        if let Some(half) = &mut self.slot(sock).half {
            drop(half.shutdown()); // the system call is made by the call, not by awaiting it
        }
    }

    fn close(&mut self, sock: Sock) {
        self.slot(sock).closing = true;
        self.wake(sock);
    }

    fn precise_ns(&mut self) -> u64 {
        boot_ns()
    }
}

/// One bidder core: what it decides, what carries it, and its turn.
pub struct Core {
    /// What it does.
    pub bidder: RefCell<Bidder>,
    /// What carries its bytes.
    pub sockets: RefCell<Sockets>,
    clock: TurnClock,
    main: RefCell<Option<Waker>>,
    listening: Cell<bool>,
    /// Something waits for room in a ring: to be tried again soon.
    pub pressing: Cell<bool>,
    /// The listener once more, to shut it down.
    door: RefCell<Option<std::net::TcpListener>>,
    epoll: bool,
}

impl Core {
    /// A core around a bidder; `door` is its listener once more.
    pub fn new(bidder: Bidder, door: std::net::TcpListener, epoll: bool) -> Rc<Core> {
        Rc::new_cyclic(|core| Core {
            bidder: RefCell::new(bidder),
            sockets: RefCell::new(Sockets {
                core: core.clone(),
                clients: Vec::new(),
                dsps: Vec::new(),
                senders: Vec::new(),
            }),
            clock: TurnClock::new(),
            main: RefCell::new(None),
            listening: Cell::new(true),
            pressing: Cell::new(false),
            door: RefCell::new(Some(door)),
            epoll,
        })
    }

    /// Accepts no more. Whoever is in the listen queue already is taken in; then the listener is shut down at once, by a
    /// system call of its own: a close through the ring comes milliseconds later, and until then the kernel would go on
    /// handing it connections that nobody serves.
    pub fn stop_listening(self: &Rc<Self>) {
        self.listening.set(false);
        let Some(door) = self.door.borrow_mut().take() else { return };
        let _ = door.set_nonblocking(true);
        while let Ok((stream, _)) = door.accept() {
            // The epoll driver wants its sockets non-blocking, io_uring wants them blocking.
            let _ = stream.set_nonblocking(self.epoll);
            if let Ok(stream) = TcpStream::from_std(stream) {
                self.take_in(stream);
            }
        }
        let _ = socket2::SockRef::from(&door).shutdown(std::net::Shutdown::Both);
    }

    /// After a panic: nobody new is taken in, and whoever was served hears the end at once instead of waiting for that of
    /// the process. What the bidder holds is not touched.
    pub fn abandon(&self) {
        if let Some(door) = self.door.try_borrow_mut().ok().and_then(|mut door| door.take()) {
            let _ = socket2::SockRef::from(&door).shutdown(std::net::Shutdown::Both);
        }
        if let Ok(mut sockets) = self.sockets.try_borrow_mut() {
            let Sockets { clients, dsps, .. } = &mut *sockets;
            clients.iter_mut().chain(dsps).filter_map(|s| s.half.as_mut()).for_each(|half| drop(half.shutdown()));
        }
    }

    fn take_in(self: &Rc<Self>, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        if let Some((sock, buf)) = self.with(|bidder, _, now| bidder.on_accept(now)) {
            let core = self.clone();
            *self.sockets.borrow_mut().slot(sock) = Slot::default();
            monoio::spawn(async move { run(&core, sock, stream, Next::Read(buf)).await });
        }
    }

    /// The turn's time. The first to ask in a turn makes sure that the turn has an end.
    pub fn now(&self) -> Now {
        let (now, began) = self.clock.now();
        if began && let Some(main) = &*self.main.borrow() {
            main.wake_by_ref();
        }
        now
    }

    /// The runtime's main future: polled when the tasks of a turn have run, before the core parks. `at_end` is called
    /// each time, and ends the future by returning something.
    pub fn turns<R>(self: &Rc<Self>, mut at_end: impl FnMut(&Rc<Core>, Now) -> Option<R>) -> impl Future<Output = R> {
        let core = self.clone();
        poll_fn(move |cx| {
            if core.main.borrow().is_none() {
                *core.main.borrow_mut() = Some(cx.waker().clone());
            }
            let (now, _) = core.clock.now();
            {
                let (mut bidder, mut sockets) = (core.bidder.borrow_mut(), core.sockets.borrow_mut());
                bidder.end_turn(now, &mut *sockets);
            }
            let end = at_end(&core, now);
            core.clock.end();
            match end {
                Some(end) => Poll::Ready(end),
                None => Poll::Pending,
            }
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Bidder, &mut Sockets, Now) -> R) -> R {
        let now = self.now();
        f(&mut self.bidder.borrow_mut(), &mut self.sockets.borrow_mut(), now)
    }
}

/// Accepts until the core stops listening.
pub async fn accept(core: Rc<Core>, listener: TcpListener) {
    while core.listening.get() {
        match listener.accept().await {
            Ok((stream, _)) => core.take_in(stream),
            // Out of descriptors, or the peer was gone: not again at once.
            Err(_) if core.listening.get() => monoio::time::sleep(Duration::from_millis(5)).await,
            Err(_) => break,
        }
    }
}

async fn connect(core: Rc<Core>, sock: Sock, addr: SocketAddr) {
    let stream = match monoio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect_addr(addr)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(_)) | Err(_) => None,
    };
    let next = core.with(|bidder, sockets, now| bidder.on_connect(sock, stream.is_some(), now, sockets));
    if let Some(stream) = stream {
        let _ = stream.set_nodelay(true);
        run(&core, sock, stream, next).await;
    }
}

/// What a socket's task waits for.
enum Event {
    Read(io::Result<usize>, Vec<u8>),
    Resumed,
    Close,
}

async fn run(core: &Rc<Core>, sock: Sock, stream: TcpStream, mut next: Next) {
    let (mut read_half, write_half) = stream.into_split();
    core.sockets.borrow_mut().slot(sock).half = Some(write_half);
    // A connection may have been given work before its sender was there.
    core.now();
    loop {
        let event = match next {
            Next::Close => break,
            Next::Read(buf) => {
                let mut read = pin!(read(&mut read_half, buf));
                poll_fn(|cx| {
                    if let Poll::Ready((result, buf)) = read.as_mut().poll(cx) {
                        return Poll::Ready(Event::Read(result, buf));
                    }
                    core.poll_slot(sock, cx, false)
                })
                .await
            }
            Next::Pause => poll_fn(|cx| core.poll_slot(sock, cx, true)).await,
        };
        next = match event {
            Event::Close => break,
            Event::Resumed => core.with(|bidder, sockets, now| bidder.take_buffer(sock, now, sockets)),
            Event::Read(result, buf) => {
                core.with(|bidder, sockets, now| bidder.on_read(sock, buf, result.map_err(|_| ()), now, sockets))
            }
        };
    }
    core.with(|bidder, sockets, now| {
        *sockets.slot(sock) = Slot::default();
        bidder.on_closed(sock, now, sockets);
    });
}

async fn read(half: &mut ReadHalf, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    let at = buf.len();
    let (result, slice) = half.read(buf.slice_mut(at..)).await;
    (result, slice.into_inner())
}

impl Core {
    /// A socket's task was polled and has read nothing: was it told to close, to go on, or is it a send that ended?
    fn poll_slot(&self, sock: Sock, cx: &mut Context<'_>, paused: bool) -> Poll<Event> {
        let mut sockets = self.sockets.borrow_mut();
        let slot = sockets.slot(sock);
        if !slot.reader.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            slot.reader = Some(cx.waker().clone());
        }
        if slot.closing {
            return Poll::Ready(Event::Close);
        }
        if slot.resumed && paused {
            slot.resumed = false;
            return Poll::Ready(Event::Resumed);
        }
        if slot.watching {
            slot.watching = false;
            let now = self.now();
            self.bidder.borrow_mut().on_sent(sock, now, &mut *sockets);
        }
        Poll::Pending
    }
}
