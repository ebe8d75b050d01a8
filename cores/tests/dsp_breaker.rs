//! DSPs that fail one request after the other, over real sockets: how many they are sent after it could be known, and that
//! nobody else has a bid less for it.
mod common;
use common::{Server, bid_for, bidder, dsp, markup, outcomes, post, read_answer, request};
use outcry::{
    openrtb::codes::Outcome,
    record::{labels::DspLevel, totals::Totals},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Deadlines that a busy machine keeps.
const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n";
const HONEST: &str = "timeout_ms = 8000\nwarm = 1\n";
const CLIENTS: usize = 8;
/// Requests that may be sent when it could be known that they fail.
const AFTER_MAX: usize = 20;
const FAILURES: usize = 5;
const TIMEOUT: Duration = Duration::from_millis(300);
/// What has not been seen by then will not be.
const PATIENCE: Duration = Duration::from_secs(30);

/// When requests came in, and when their failure could be known.
#[derive(Default)]
struct Log {
    came: Vec<Instant>,
    failed: Vec<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Refuses,
    Resets,
    Silent,
}

struct Broken {
    addr: SocketAddr,
    log: Arc<Mutex<Log>>,
    well: Arc<AtomicBool>,
}

impl Broken {
    /// Requests that it has got.
    fn came(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).came.len()
    }
}

/// A DSP with a fault, until it is `well`.
fn broken(fault: Fault) -> Broken {
    let (log, well) = (Arc::<Mutex<Log>>::default(), Arc::<AtomicBool>::default());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bind");
    let addr = socket.local_addr().ok().and_then(|a| a.as_socket()).expect("an address");
    if fault == Fault::Refuses {
        // Bound and not listening, for as long as the process: nobody else can get the port.
        std::mem::forget(socket);
    } else {
        socket.listen(128).expect("listen");
        let (log, well) = (Arc::clone(&log), Arc::clone(&well));
        std::thread::spawn(move || {
            for stream in TcpListener::from(socket).incoming().flatten() {
                let (log, well) = (Arc::clone(&log), Arc::clone(&well));
                std::thread::spawn(move || converse(stream, fault, &log, &well));
            }
        });
    }
    Broken { addr, log, well }
}

fn converse(stream: TcpStream, fault: Fault, log: &Mutex<Log>, well: &AtomicBool) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let now = Instant::now();
        log.lock().unwrap_or_else(PoisonError::into_inner).came.push(now);
        if well.load(Ordering::SeqCst) {
            out.write_all(&bidder(&serde_json::from_slice(&body).map_err(io::Error::other)?))?;
            continue;
        }
        if fault == Fault::Resets {
            socket2::SockRef::from(&out).set_linger(Some(Duration::ZERO))?;
            drop((reader, out));
            log.lock().unwrap_or_else(PoisonError::into_inner).failed.push(Instant::now());
            return Ok(());
        }
        log.lock().unwrap_or_else(PoisonError::into_inner).failed.push(now + TIMEOUT);
    }
}

/// Clients that ask one after the other, together `rounds` times as many as they are; every answer is a bid of the honest.
fn ask_from_all(server: &Server, rounds: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut conn = server.connect();
            scope.spawn(move || {
                for round in 0..rounds {
                    let answer = bid_for(&mut conn, &format!("r-{client}-{round}"));
                    assert!(markup(&answer).contains("x.example"), "{answer}");
                }
            });
        }
    });
}

/// Clients ask, one round after the other, until `seen` holds: nothing sleeps, and no time is measured but that patience ends.
fn ask_until(server: &Server, what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not seen");
        ask_from_all(server, 1);
    }
}

/// How often a DSP's breaker opened, on how many cores it is open, and half open.
fn breaker(totals: &Totals, row: usize) -> (u64, u64, u64) {
    let level = |level| totals.dsp_level(row, level);
    (totals.dsp_opened(row), level(DspLevel::Open), level(DspLevel::HalfOpen))
}

fn count(seen: &[(Outcome, u64)], outcome: Outcome) -> usize {
    seen.iter().find(|(o, _)| *o == outcome).map_or(0, |(_, n)| *n as usize)
}

fn isolated(fault: Fault) {
    const ROUNDS: usize = 60;
    let ill = broken(fault);
    let keys = format!("timeout_ms = {}\nwarm = 1\n", TIMEOUT.as_millis());
    let dsps = [(ill.addr, keys.as_str()), (dsp(bidder), HONEST), (dsp(bidder), HONEST)];
    let server = Server::start_as(&dsps, RULES);
    ask_from_all(&server, ROUNDS);
    let totals = server.totals();
    let (seen, all) = (outcomes(&totals, 0), (CLIENTS * ROUNDS) as u64);
    let log = ill.log.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known = log.failed.clone();
    known.sort();
    let known = known.get(FAILURES - 1);
    let after = known.map_or(0, |known| log.came.iter().filter(|came| *came > known).count());
    println!(
        "{fault:?}: {} of {all} sent, {after} of them after the fifth failure could be known, {} before; {seen:?}",
        log.came.len(),
        log.came.len() - after
    );
    assert!(after <= AFTER_MAX, "{after} after the fifth failure");
    // Those in flight as the fifth failed: one of each client at most.
    assert!(log.came.len() <= FAILURES + CLIENTS + AFTER_MAX, "{} sent", log.came.len());
    assert!(count(&seen, Outcome::BreakerOpen) > (CLIENTS * ROUNDS) / 2, "{seen:?}");
    assert_eq!(seen.iter().map(|(_, n)| n).sum::<u64>(), all, "{seen:?}");
    assert_eq!(breaker(&totals, 0), (1, 1, 0));
    let mut wins = 0;
    for row in [1, 2] {
        assert_eq!(outcomes(&totals, row), [(Outcome::Bid, all)], "the others are asked and heard as ever");
        assert_eq!(breaker(&totals, row), (0, 0, 0));
        wins += totals.dsp_row(row).wins;
    }
    assert_eq!(wins, all);
}

#[test]
fn a_dsp_that_refuses_is_isolated() {
    isolated(Fault::Refuses);
}

#[test]
fn a_dsp_that_resets_is_isolated() {
    isolated(Fault::Resets);
}

#[test]
fn a_dsp_that_is_silent_is_isolated() {
    isolated(Fault::Silent);
}

/// It is probed, one request at a time, and asked as ever when it is well.
#[test]
fn a_dsp_that_recovers_is_back() {
    let ill = broken(Fault::Resets);
    let keys = "timeout_ms = 8000\nwarm = 1\nbreaker_open_ms = 100\n";
    let server = Server::start_as(&[(ill.addr, keys), (dsp(bidder), HONEST), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 10);
    ill.well.store(true, Ordering::SeqCst);
    let before = ill.came();
    // Open for 115 ms at most, three probes, then all.
    ask_until(&server, "asked as ever", || ill.came() > before + 10 * CLIENTS);
    let came = ill.came();
    let totals = server.totals();
    let seen = outcomes(&totals, 0);
    println!("{before} sent before, {} after it was well: {seen:?}", came - before);
    assert!(count(&seen, Outcome::Bid) > 3 * CLIENTS, "{seen:?}");
    let (opened, open, half_open) = breaker(&totals, 0);
    assert!(opened >= 1 && (open, half_open) == (0, 0), "{opened} {open} {half_open}");
}

/// Where all fail at once the fault is likely not theirs: none is left alone for the half minute that one of them would be.
#[test]
fn all_that_fail_at_once_are_probed_soon() {
    let ill = [broken(Fault::Resets), broken(Fault::Resets), broken(Fault::Resets)];
    let dsps = ill.each_ref().map(|dsp| (dsp.addr, HONEST));
    let server = Server::start_as(&dsps, RULES);
    let mut conn = server.connect();
    let mut ask = |n: usize| {
        conn.write_all(post(&request(&format!("r-{n}")), "").as_bytes()).expect("write");
        read_answer(&mut conn).status
    };
    for n in 0..2 * FAILURES {
        assert_eq!(ask(n), 204, "they all fail");
    }
    ill.iter().for_each(|dsp| dsp.well.store(true, Ordering::SeqCst));
    // Half a minute less 15 of 100 is what it would take.
    let begun = Instant::now();
    let back = (0..).find(|n| ask(*n) == 200 || begun.elapsed() > Duration::from_secs(20));
    println!("back after {} requests, {:?}", back.unwrap_or(0), begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "still left alone");
    drop(server);
}

/// What is sent to see whether a silent DSP is back holds nobody up.
#[test]
fn a_probe_is_not_waited_for() {
    let ill = broken(Fault::Silent);
    let keys = format!("timeout_ms = {}\nwarm = 1\nbreaker_open_ms = 50\n", TIMEOUT.as_millis());
    let server = Server::start_as(&[(ill.addr, &keys), (dsp(bidder), HONEST), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 2);
    let (before, begun) = (ill.came(), Instant::now());
    ask_until(&server, "three probes", || ill.came() >= before + 3);
    // One at a time: each stays out for its whole timeout. Of what came before it was known, some may still be counted.
    let most = begun.elapsed().as_millis() / TIMEOUT.as_millis() + 2;
    assert!((ill.came() - before) as u128 <= most, "{} probes", ill.came() - before);
    let totals = server.totals();
    let seen = outcomes(&totals, 0);
    println!("{seen:?}");
    assert!(count(&seen, Outcome::Unawaited) >= 2, "{seen:?}");
    assert!(count(&seen, Outcome::Late) <= 3 * CLIENTS, "{seen:?}");
    let (opened, open, half_open) = breaker(&totals, 0);
    assert_eq!((opened, open + half_open), (1, 1), "it is open or half open, and opened once");
}

/// With hardly anybody else to ask, it is waited for: a bid more is worth its time.
#[test]
fn a_probe_is_waited_for_where_one_other_is_asked_at_most() {
    let ill = broken(Fault::Resets);
    let keys = "timeout_ms = 8000\nwarm = 1\nbreaker_open_ms = 100\n";
    let server = Server::start_as(&[(ill.addr, keys), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 4);
    let before = ill.came();
    ask_until(&server, "two probes", || ill.came() >= before + 2);
    let seen = outcomes(&server.totals(), 0);
    assert_eq!(count(&seen, Outcome::Unawaited), 0, "{seen:?}");
    assert!(count(&seen, Outcome::Reset) > FAILURES, "it was probed: {seen:?}");
}

#[test]
fn a_dsp_that_wants_less_gets_less_and_stays() {
    let busy = dsp(|_| b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec());
    let server = Server::start_as(&[(busy, HONEST), (dsp(bidder), HONEST), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 40);
    let totals = server.totals();
    let seen = outcomes(&totals, 0);
    let (asked, spared) = (count(&seen, Outcome::BadStatus), count(&seen, Outcome::Throttled));
    assert_eq!((asked + spared, breaker(&totals, 0)), (40 * CLIENTS, (0, 0, 0)), "{seen:?}");
    assert!(spared > 40 * CLIENTS / 4 && asked >= 5, "{seen:?}");
}

/// Every third answer is a 500: too few to leave it alone, enough to ask it less.
#[test]
fn a_troubled_dsp_is_asked_less_and_stays() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let flaky = dsp(|request| match ASKED.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => bidder(request),
    });
    let server = Server::start_as(&[(flaky, HONEST), (dsp(bidder), HONEST), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 120);
    let totals = server.totals();
    let (seen, all) = (outcomes(&totals, 0), 120 * CLIENTS);
    let spared = count(&seen, Outcome::Troubled);
    println!("{seen:?}");
    assert!(spared > all / 50 && spared < all / 2, "{seen:?}");
    assert_eq!(ASKED.load(Ordering::SeqCst) + spared, all, "{seen:?}");
    assert_eq!(breaker(&totals, 0), (0, 0, 0));
    let withheld = totals.dsp_level(0, DspLevel::Withheld);
    assert!((1..=9_500).contains(&withheld), "{withheld} of 10,000 withheld");
    for row in [1, 2] {
        assert_eq!(outcomes(&totals, row), [(Outcome::Bid, all as u64)], "the others are asked and heard as ever");
    }
}

#[test]
fn switched_off_a_dsp_is_asked_whatever_it_does() {
    let ill = broken(Fault::Resets);
    let off = "timeout_ms = 8000\nwarm = 1\nbreaker = false\nin_flight_limit = false\ntrouble = false\nlearned_time = false\nlearned_deadline = false\n";
    let server = Server::start_as(&[(ill.addr, off), (dsp(bidder), HONEST)], RULES);
    ask_from_all(&server, 10);
    let all = 10 * CLIENTS as u64;
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Reset, all)]);
}
