//! The bidder over monoio's epoll driver, for machines where io_uring is forbidden or too old: one task per socket reads,
//! sends are started by whoever has the bytes.
//! Owns: the sockets. Runs on: each bidder core. Called by: `thread`. Never: decides anything.
//!
//! A send is polled once with a waker that does nothing, which is nearly always all it takes. One that is found unfinished
//! gets the reader task's waker at the end of the turn.
use super::{
    Bidder,
    ring::{LONG_NS, SHORT_NS},
    thread::Duties,
    transport::{Next, Sent, Sock, Transport},
    turn::{TurnClock, boot_ns},
};
use monoio::{
    LegacyDriver, RuntimeBuilder,
    buf::IoBuf,
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
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Clients and DSPs are read into this much.
const READ_BYTES: usize = 4096;
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
    reader: Option<Waker>,
    closing: bool,
    resumed: bool,
}

/// The sockets of a core; the [`Transport`] of its bidder.
struct Sockets {
    core: std::rc::Weak<Core>,
    clients: Vec<Slot>,
    dsps: Vec<Slot>,
    /// Senders that nobody uses, last used first.
    senders: Vec<Box<dyn Sender>>,
    /// Sends of this turn that are over, and sockets whose send is not.
    sent: Vec<(Sock, io::Result<()>, Vec<u8>)>,
    stuck: Vec<Sock>,
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
        let Some(half) = self.slot(sock).half.take() else {
            return self.sent.push((sock, Err(io::ErrorKind::NotConnected.into()), bytes));
        };
        let mut sender = self.senders.pop().unwrap_or_else(sender);
        let started = sender.start(half, bytes, &mut Context::from_waker(Waker::noop()));
        if let Poll::Ready((half, result, bytes)) = started {
            self.senders.push(sender);
            self.slot(sock).half = Some(half);
            self.sent.push((sock, result, bytes));
        } else {
            self.slot(sock).sending = Some(sender);
            self.stuck.push(sock);
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

impl Sockets {
    /// The end of a turn: the bidder hears what became of its sends.
    fn tell(&mut self, bidder: &mut Bidder) {
        for (sock, result, bytes) in self.sent.drain(..) {
            match result {
                Ok(()) => bidder.on_taken(sock, bytes),
                Err(_) => bidder.on_sent(sock, Sent::Broken(bytes)),
            }
        }
        while let Some(sock) = self.stuck.pop() {
            bidder.on_sent(sock, Sent::Stuck);
            self.look_at(sock, bidder);
        }
    }

    /// Looks at a send that was stuck; the socket's reader is woken when there is more to see.
    fn look_at(&mut self, sock: Sock, bidder: &mut Bidder) {
        let slot = self.slot(sock);
        let Some(sender) = &mut slot.sending else { return };
        let waker = slot.reader.as_ref().unwrap_or(Waker::noop());
        let Poll::Ready((half, result, bytes)) = sender.poll(&mut Context::from_waker(waker)) else { return };
        slot.half = Some(half);
        let sender = slot.sending.take();
        self.senders.extend(sender);
        bidder.on_sent(sock, if result.is_ok() { Sent::Through(bytes) } else { Sent::Broken(bytes) });
    }
}

/// One bidder core: what it decides, what carries it, and its turn.
struct Core {
    /// What it does.
    bidder: RefCell<Bidder>,
    /// What carries its bytes.
    sockets: RefCell<Sockets>,
    clock: TurnClock,
    main: RefCell<Option<Waker>>,
    listening: Cell<bool>,
    /// Something waits for room in a ring: to be tried again soon.
    pressing: Cell<bool>,
    /// The listener once more, to shut it down.
    door: RefCell<Option<std::net::TcpListener>>,
}

impl Core {
    /// A core around a bidder; `door` is its listener once more.
    fn new(bidder: Bidder, door: std::net::TcpListener) -> Rc<Core> {
        Rc::new_cyclic(|core| Core {
            bidder: RefCell::new(bidder),
            sockets: RefCell::new(Sockets {
                core: core.clone(),
                clients: Vec::new(),
                dsps: Vec::new(),
                senders: Vec::new(),
                sent: Vec::new(),
                stuck: Vec::new(),
            }),
            clock: TurnClock::new(),
            main: RefCell::new(None),
            listening: Cell::new(true),
            pressing: Cell::new(false),
            door: RefCell::new(Some(door)),
        })
    }

    /// Accepts no more. Whoever is in the listen queue already is taken in; then the listener is shut down.
    fn stop_listening(self: &Rc<Self>) {
        self.listening.set(false);
        let Some(door) = self.door.borrow_mut().take() else { return };
        let _ = door.set_nonblocking(true);
        while let Ok((stream, _)) = door.accept() {
            let _ = stream.set_nonblocking(true);
            if let Ok(stream) = TcpStream::from_std(stream) {
                self.take_in(stream);
            }
        }
        let _ = socket2::SockRef::from(&door).shutdown(std::net::Shutdown::Both);
    }

    /// After a panic: nobody new is taken in, and whoever was served hears the end at once instead of waiting for that of
    /// the process. What the bidder holds is not touched.
    fn abandon(&self) {
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
        if let Some(sock) = self.with(|bidder, _, now| bidder.on_accept(now)) {
            let core = self.clone();
            *self.sockets.borrow_mut().slot(sock) = Slot::default();
            monoio::spawn(async move { run(&core, sock, stream, Next::Read).await });
        }
    }

    /// The turn's time. The first to ask in a turn makes sure that the turn has an end.
    fn now(&self) -> Now {
        let (now, began) = self.clock.now();
        if began && let Some(main) = &*self.main.borrow() {
            main.wake_by_ref();
        }
        now
    }

    /// The runtime's main future: polled when the tasks of a turn have run, before the core parks. Ends with the duties.
    fn turns(self: &Rc<Self>, duties: &mut impl Duties) -> impl Future<Output = ()> {
        let core = self.clone();
        poll_fn(move |cx| {
            if core.main.borrow().is_none() {
                *core.main.borrow_mut() = Some(cx.waker().clone());
            }
            let (now, _) = core.clock.now();
            let stop = duties.orders(&mut core.bidder.borrow_mut(), now);
            if stop {
                core.stop_listening();
            }
            let (mut bidder, mut sockets) = (core.bidder.borrow_mut(), core.sockets.borrow_mut());
            bidder.end_turn(now, &mut *sockets);
            sockets.tell(&mut bidder);
            let over = duties.report(&mut bidder, now);
            if over {
                bidder.farewells(now, &mut *sockets);
            }
            core.pressing.set(duties.pressing());
            core.clock.end();
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Bidder, &mut Sockets, Now) -> R) -> R {
        let now = self.now();
        f(&mut self.bidder.borrow_mut(), &mut self.sockets.borrow_mut(), now)
    }
}

/// Accepts until the core stops listening.
async fn accept(core: Rc<Core>, listener: TcpListener) {
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
    let mut buf = Vec::with_capacity(READ_BYTES);
    loop {
        let event = match next {
            Next::Close => break,
            Next::Read => {
                let mut read = pin!(read(&mut read_half, std::mem::take(&mut buf)));
                poll_fn(|cx| {
                    // First: who floods us always has something to read.
                    if core.sockets.borrow_mut().slot(sock).closing {
                        return Poll::Ready(Event::Close);
                    }
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
            Event::Resumed => core.with(|bidder, sockets, now| bidder.on_resume(sock, now, sockets)),
            Event::Read(result, bytes) => {
                buf = bytes;
                let read = result.map(|_| buf.as_slice()).map_err(|_| ());
                core.with(|bidder, sockets, now| bidder.on_read(sock, read, now, sockets))
            }
        };
    }
    core.with(|bidder, sockets, now| {
        *sockets.slot(sock) = Slot::default();
        bidder.on_closed(sock, now, sockets);
    });
}

/// The buffer holds what was read, and nothing else.
async fn read(half: &mut ReadHalf, mut buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
    buf.clear();
    half.read(buf).await
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
        if slot.sending.is_some() {
            self.now();
            sockets.look_at(sock, &mut self.bidder.borrow_mut());
        }
        Poll::Pending
    }
}

/// Wakes the core now and then, more often while something is due.
async fn tick(core: Rc<Core>) {
    loop {
        let short = core.bidder.borrow().is_busy() || core.pressing.get();
        monoio::time::sleep(Duration::from_nanos(if short { SHORT_NS } else { LONG_NS })).await;
        core.now();
    }
}

/// Serves until its duties end. A panic closes its sockets on its way out: tasks and sockets hold each other, so by itself
/// it would close none.
///
/// # Errors
/// The runtime could not be made.
pub(super) fn serve(bidder: Bidder, listener: std::net::TcpListener, duties: &mut impl Duties) -> io::Result<()> {
    struct Abandon(Weak<Core>);
    impl Drop for Abandon {
        fn drop(&mut self) {
            if std::thread::panicking()
                && let Some(core) = self.0.upgrade()
            {
                core.abandon();
            }
        }
    }
    let mut abandon = Abandon(Weak::new());
    RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(async {
        listener.set_nonblocking(true)?;
        let door = listener.try_clone()?;
        let listener = TcpListener::from_std(listener)?;
        let core = Core::new(bidder, door);
        abandon.0 = Rc::downgrade(&core);
        monoio::spawn(accept(core.clone(), listener));
        monoio::spawn(tick(core.clone()));
        core.turns(duties).await;
        Ok(())
    })
}
