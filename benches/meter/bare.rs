//! The floor's work on monoio with nothing of ours but framing: what a runtime would cost by itself.
//!
//!   bare port=9000 up=9100 n=5 cpu=0 add=0 answer=700 defer=1 single=1 coop=1 cq=32768 timer=1 lbuf=1024
//!
//! Ring flags, completion queue, timer and buffers of DSP connections are the product's unless told otherwise.
use monoio::{
    buf::IoBufMut,
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
};
use outcry_benches::kit::{Args, filler, frame, listen, pin, response, whole};
use std::{cell::RefCell, future::Future, io::Write, net::SocketAddr, pin::Pin, rc::Rc, task::Poll};

struct Conn {
    s: TcpStream,
    buf: Vec<u8>,
}

/// What all tasks share.
struct Proxy {
    up: SocketAddr,
    n: usize,
    add: Vec<u8>,
    cut: usize,
    lbuf: usize,
    answer: Rc<Vec<u8>>,
    idle: RefCell<Vec<Vec<Conn>>>, // per DSP, last used first
}

/// Reads one message to the front of `buf`; false at the end of the stream.
async fn read_message(s: &mut TcpStream, mut buf: Vec<u8>) -> (bool, Vec<u8>) {
    buf.clear();
    loop {
        let at = buf.len();
        if buf.capacity() == at {
            buf.reserve(4096);
        }
        let (result, slice) = s.read(buf.slice_mut(at..)).await;
        buf = slice.into_inner();
        if !matches!(result, Ok(n) if n > 0) {
            return (false, buf);
        }
        if whole(&buf).is_some() {
            return (true, buf);
        }
    }
}

/// One request to one DSP. A connection that fails is dropped; its leg counts as answered.
async fn leg(p: Rc<Proxy>, dsp: usize, request: Rc<Vec<u8>>) {
    let idle = p.idle.borrow_mut()[dsp].pop();
    let mut c = match idle {
        Some(c) => c,
        None => {
            let s = TcpStream::connect_addr(SocketAddr::new(p.up.ip(), p.up.port() + dsp as u16))
                .await
                .expect("connect to the DSPs");
            s.set_nodelay(true).expect("TCP_NODELAY");
            Conn { s, buf: Vec::with_capacity(p.lbuf) }
        }
    };
    if c.s.write_all(request).await.0.is_err() {
        return;
    }
    let (ok, buf) = read_message(&mut c.s, std::mem::take(&mut c.buf)).await;
    c.buf = buf;
    if ok {
        p.idle.borrow_mut()[dsp].push(c);
    }
}

/// Polls all until all are done.
async fn all(legs: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut legs: Vec<Option<Pin<Box<_>>>> = legs.map(|f| Some(Box::pin(f))).collect();
    std::future::poll_fn(|cx| {
        let mut waiting = false;
        for slot in &mut legs {
            if let Some(f) = slot {
                match f.as_mut().poll(cx) {
                    Poll::Ready(()) => *slot = None,
                    Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

fn upstream_request(p: &Proxy, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().saturating_sub(p.cut)];
    let mut v = Vec::with_capacity(body.len() + p.add.len() + 192);
    let _ = write!(
        v,
        "POST /dsp HTTP/1.1\r\nHost: dsp.local\r\nContent-Type: application/json\r\n\
        x-openrtb-version: 2.6\r\nContent-Length: {}\r\n\r\n",
        body.len() + p.add.len()
    );
    v.extend_from_slice(body);
    v.extend_from_slice(&p.add);
    v
}

async fn serve(mut s: TcpStream, p: Rc<Proxy>) {
    let mut buf = Vec::with_capacity(4096);
    loop {
        let (ok, b) = read_message(&mut s, buf).await;
        buf = b;
        let Some((head, len)) = frame(&buf).filter(|_| ok) else { return };
        if p.n > 0 {
            let request = Rc::new(upstream_request(&p, &buf[head..head + len]));
            all((0..p.n).map(|dsp| leg(p.clone(), dsp, request.clone()))).await;
        }
        if s.write_all(p.answer.clone()).await.0.is_err() {
            return;
        }
    }
}

fn main() {
    let a = Args::parse(&["cpu", "n", "port", "up", "add", "answer", "entries", "timer", "lbuf"]);
    pin(a.count("cpu", 0));
    let mut ring = io_uring_monoio::IoUring::builder();
    if a.flag("coop", true) {
        ring.setup_coop_taskrun();
    }
    if a.flag("single", true) {
        ring.setup_single_issuer();
    }
    if a.flag("defer", true) {
        ring.setup_defer_taskrun();
    }
    ring.setup_cqsize(a.count("cq", 32_768) as u32);
    let builder = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(a.count("entries", 1024) as u32)
        .uring_builder(ring);
    let (n, add) = (a.count("n", 5), a.num("add", 0));
    let p = Rc::new(Proxy {
        up: ([127, 0, 0, 1], a.port("up", 9100)).into(),
        n,
        add: filler(add.max(0) as usize),
        cut: add.min(0).unsigned_abs() as usize,
        lbuf: a.count("lbuf", 1024),
        answer: Rc::new(response(a.count("answer", 700))),
        idle: RefCell::new((0..n).map(|_| Vec::new()).collect()),
    });
    let listener = listen(a.port("port", 9000));
    listener.set_nonblocking(true).expect("nonblocking");
    let main = async move {
        let listener = TcpListener::from_std(listener).expect("listener");
        loop {
            match listener.accept().await {
                Ok((s, _)) => drop(monoio::spawn(serve(s, p.clone()))),
                Err(e) => eprintln!("bare: accept: {e}"),
            }
        }
    };
    if a.flag("timer", true) {
        builder.enable_timer().build().expect("monoio").block_on(main);
    } else {
        builder.build().expect("monoio").block_on(main);
    }
}
