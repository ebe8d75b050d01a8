//! DSPs behind TLS, over real sockets: who is believed, who is not, and that nobody else has a bid less for it.
mod common;
use common::{
    Server, bid_for, bidder, markup, ok, outcomes,
    tls::{Authority, Ends, dsp, listen, server, watched},
};
use outcry::{
    openrtb::codes::Outcome,
    record::{
        labels::{Counter, Gauge},
        table::Fold,
        totals::Totals,
    },
};
use rustls::{
    ServerConfig,
    version::{TLS12, TLS13},
};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Deadlines that a busy machine keeps.
const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n";
const HONEST: &str = "timeout_ms = 8000\nwarm = 2\n";
const ROUNDS: usize = 40;

fn url(addr: SocketAddr) -> String {
    format!("https://{addr}/bid")
}

/// A DSP of 127.0.0.1 that this authority vouches for.
fn honest(by: &Authority) -> SocketAddr {
    dsp(server(by.sign("127.0.0.1", false), &[&TLS13, &TLS12], b"http/1.1"), bidder)
}

/// So many auctions, one after the other, each with a bid.
fn auctions(server: &Server, rounds: usize) {
    let mut conn = server.connect();
    for round in 0..rounds {
        let answer = bid_for(&mut conn, &format!("r-{round}"));
        assert!(markup(&answer).contains("x.example"), "{answer}");
    }
}

fn only_bids(totals: &Totals, row: usize, rounds: usize) {
    assert_eq!(outcomes(totals, row), [(Outcome::Bid, rounds as u64)], "dsp-{row}");
}

/// Both versions, both drivers, a name and an address.
#[test]
fn bids_come_over_tls() {
    for driver in ["auto", "epoll"] {
        let by = Authority::new();
        let keys = format!("{HONEST}{}", by.keys());
        let old = dsp(server(by.sign("localhost", false), &[&TLS12], b"http/1.1"), bidder);
        let named = format!("https://localhost:{}/bid", old.port());
        let dsps = [(url(honest(&by)), keys.as_str()), (named, keys.as_str())];
        let exchange = Server::start_urls(&dsps, &format!("io_driver = \"{driver}\"\n{RULES}"));
        auctions(&exchange, ROUNDS);
        let totals = exchange.totals();
        only_bids(&totals, 0, ROUNDS);
        only_bids(&totals, 1, ROUNDS);
        assert_eq!((totals.counter(Counter::AuctionOpened), totals.counter(Counter::AuctionHandshakes)), (0, 0));
        assert_eq!(totals.gauge(Gauge::TlsUnverified, Fold::Max), 0);
    }
}

/// More than one record, more than one read.
fn talkative(request: &serde_json::Value) -> Vec<u8> {
    let answer = String::from_utf8(bidder(request)).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    ok(&body.replace("ad ", &"ad ".repeat(200)))
}

/// Closed behind each answer: each connection goes on from an earlier one's handshake.
fn short(request: &serde_json::Value) -> Vec<u8> {
    let answer = String::from_utf8(bidder(request)).expect("text");
    answer.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}

#[test]
fn long_answers_and_short_connections() {
    let by = Authority::new();
    let keys = format!("{HONEST}{}", by.keys());
    let [(long, _), (short, ends)] = [talkative, short].map(|answer: common::Dsp| {
        watched(server(by.sign("127.0.0.1", false), &[&TLS13, &TLS12], b"http/1.1"), answer)
    });
    let exchange = Server::start_urls(&[(url(long), &keys), (url(short), &keys)], RULES);
    auctions(&exchange, ROUNDS);
    let totals = exchange.totals();
    only_bids(&totals, 0, ROUNDS);
    only_bids(&totals, 1, ROUNDS);
    let (full, resumed) = (totals.counter(Counter::TlsFull), totals.counter(Counter::TlsResumed));
    println!("{full} handshakes from the beginning, {resumed} went on");
    assert!(resumed >= ROUNDS as u64 && full <= 4, "{full} full, {resumed} resumed");
    // Whom we leave hears that this was all: behind each answer that is the last, and at the end.
    let counts = ended(&ends, ROUNDS as u64);
    assert_eq!(counts[1], 0, "{counts:?} were told, and cut off");
}

/// How connections have ended, once so many have.
fn ended(ends: &Ends, at_least: u64) -> [u64; 2] {
    let by = Instant::now() + Duration::from_secs(30);
    loop {
        let counts = ends.counts();
        if counts[0] + counts[1] >= at_least {
            return counts;
        }
        assert!(Instant::now() < by, "{counts:?} have ended, not {at_least}");
        std::thread::yield_now();
    }
}

/// A connection that nobody needs any more is closed with a word, while the exchange goes on.
#[test]
fn idle_connections_are_left_in_good_order() {
    for driver in ["auto", "epoll"] {
        let by = Authority::new();
        let keys = format!("timeout_ms = 8000\nwarm = 1\nidle_ms = 100\n{}", by.keys());
        let (addr, ends) = watched(server(by.sign("127.0.0.1", false), &[&TLS13, &TLS12], b"http/1.1"), slow);
        let exchange = Server::start_urls(&[(url(addr), &keys)], &format!("io_driver = \"{driver}\"\n{RULES}"));
        let mut conns: Vec<_> = (0..6).map(|_| exchange.connect()).collect();
        std::thread::scope(|scope| {
            for (n, conn) in conns.iter_mut().enumerate() {
                scope.spawn(move || drop(bid_for(conn, &format!("r-{n}"))));
            }
        });
        let counts = ended(&ends, 5);
        assert_eq!(counts[1], 0, "{driver}: {counts:?} were told, and cut off");
        only_bids(&exchange.totals(), 0, 6);
    }
}

/// Answers after a while: whoever asks meanwhile needs a connection of his own.
fn slow(request: &serde_json::Value) -> Vec<u8> {
    std::thread::sleep(std::time::Duration::from_millis(100));
    bidder(request)
}

/// The same, and closed behind it.
fn slow_and_short(request: &serde_json::Value) -> Vec<u8> {
    std::thread::sleep(std::time::Duration::from_millis(100));
    short(request)
}

/// Of the one all connections are in use nearly all the time, one more with each client; of the other each is of use once.
/// Auctions make no connection and wait for no handshake, since what they take is made again behind them.
#[test]
fn pools_fill_behind_auctions() {
    const CLIENTS: usize = 12;
    for (answer, warm, at_least) in [(slow as common::Dsp, 2, CLIENTS), (slow_and_short, CLIENTS, CLIENTS * 11)] {
        let by = Authority::new();
        let keys = format!("timeout_ms = 8000\nwarm = {warm}\n{}", by.keys());
        let addr = dsp(server(by.sign("127.0.0.1", false), &[&TLS13, &TLS12], b"http/1.1"), answer);
        let exchange = Server::start_urls(&[(url(addr), &keys)], RULES);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let mut conn = exchange.connect();
                // Its first answer is here before the next one comes.
                bid_for(&mut conn, &format!("first-{client}"));
                scope.spawn(move || (0..10).for_each(|round| drop(bid_for(&mut conn, &format!("r-{client}-{round}")))));
            }
        });
        let totals = exchange.totals();
        only_bids(&totals, 0, CLIENTS * 11);
        let (full, resumed) = (totals.counter(Counter::TlsFull), totals.counter(Counter::TlsResumed));
        println!("{} connections, {full} and {resumed} handshakes", totals.counter(Counter::DspOpened));
        assert!(full + resumed >= at_least as u64, "{full} and {resumed}");
        assert_eq!((totals.counter(Counter::AuctionOpened), totals.counter(Counter::AuctionHandshakes)), (0, 0));
    }
}

/// What is wrong with somebody who wants to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rogue {
    Expired,
    WrongName,
    SelfSigned,
    OtherProtocol,
    Garbage,
    PlainHttp,
    Closes,
    Hangs,
}

/// Whoever sends it a request fails the test.
fn asked(request: &serde_json::Value) -> Vec<u8> {
    panic!("a request went to somebody who is not to be believed: {request}")
}

fn rogue(what: Rogue, by: &Authority) -> SocketAddr {
    let tls = |config: ServerConfig| dsp(config, asked);
    let believed = |name, expired| by.sign(name, expired);
    match what {
        Rogue::Expired => tls(server(believed("127.0.0.1", true), &[&TLS13], b"http/1.1")),
        Rogue::WrongName => tls(server(believed("other.example", false), &[&TLS13], b"http/1.1")),
        Rogue::SelfSigned => tls(server(Authority::new().sign("127.0.0.1", false), &[&TLS13], b"http/1.1")),
        Rogue::OtherProtocol => tls(server(believed("127.0.0.1", false), &[&TLS13], b"h2")),
        Rogue::Garbage => listen(|mut stream| {
            let _ = stream.write_all(&[0x5a; 4096]);
            let _ = stream.read(&mut [0; 4096]);
        }),
        Rogue::PlainHttp => listen(|mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&ok("{}"));
        }),
        Rogue::Closes => listen(|mut stream| {
            let _ = stream.read(&mut [0; 4096]);
        }),
        Rogue::Hangs => listen(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}),
    }
}

/// Each fails closed, is named by its reason, is left alone by its breaker, and takes no bid from the others.
#[test]
fn nobody_is_asked_who_cannot_prove_who_he_is() {
    for (what, reason) in [
        (Rogue::Expired, Counter::TlsFailedCertificate),
        (Rogue::WrongName, Counter::TlsFailedCertificate),
        (Rogue::SelfSigned, Counter::TlsFailedCertificate),
        (Rogue::OtherProtocol, Counter::TlsFailedProtocol),
        (Rogue::Garbage, Counter::TlsFailedProtocol),
        (Rogue::PlainHttp, Counter::TlsFailedProtocol),
        (Rogue::Closes, Counter::TlsFailedClosed),
        (Rogue::Hangs, Counter::TlsFailedTimeout),
    ] {
        let by = Authority::new();
        // Only who hangs is waited for in vain; the others' handshakes may take what a busy machine lets them.
        let ms = if what == Rogue::Hangs { 50 } else { 8_000 };
        let (ill, well) = (format!("timeout_ms = {ms}\nwarm = 1\n{}", by.keys()), format!("{HONEST}{}", by.keys()));
        let dsps = [
            (url(rogue(what, &by)), ill.as_str()),
            (url(honest(&by)), well.as_str()),
            (format!("http://{}/bid", common::dsp(bidder)), HONEST),
        ];
        let exchange = Server::start_urls(&dsps, RULES);
        auctions(&exchange, ROUNDS);
        let totals = exchange.totals();
        let seen = outcomes(&totals, 0);
        println!("{what:?}: {seen:?}, {} failed", totals.counter(reason));
        only_bids(&totals, 1, ROUNDS);
        only_bids(&totals, 2, ROUNDS);
        assert!(totals.counter(reason) > 0, "{what:?}");
        let failed = [
            Counter::TlsFailedCertificate,
            Counter::TlsFailedProtocol,
            Counter::TlsFailedClosed,
            Counter::TlsFailedTimeout,
        ];
        for other in failed.into_iter().filter(|other| *other != reason) {
            assert_eq!(totals.counter(other), 0, "{what:?}: {}", other.name());
        }
        // Who hangs has the auction's time out before its own; a connection is what it lacks.
        let expected = if what == Rogue::Hangs { Outcome::PoolExhausted } else { Outcome::TlsFailed };
        assert!(seen.iter().all(|(o, _)| [expected, Outcome::BreakerOpen].contains(o)), "{what:?}: {seen:?}");
        assert!(seen.iter().any(|(o, n)| *o == expected && *n == 5), "{what:?}: {seen:?}");
        assert_eq!(totals.dsp_opened(0), 1, "{what:?}");
    }
}

/// Who says so asks whoever answers, and is seen to.
#[test]
fn a_loud_key_believes_anybody() {
    let stranger = dsp(server(Authority::new().sign("other.example", true), &[&TLS13], b"http/1.1"), bidder);
    let keys = format!("{HONEST}danger_accept_any_certificate = true\n");
    let exchange = Server::start_urls(&[(url(stranger), &keys)], RULES);
    auctions(&exchange, ROUNDS);
    let totals = exchange.totals();
    only_bids(&totals, 0, ROUNDS);
    assert_eq!(totals.gauge(Gauge::TlsUnverified, Fold::Max), 1);
}
