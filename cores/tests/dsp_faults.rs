//! What DSPs do wrong, over real sockets: whatever it is, the auction is answered, the fault has exactly its outcome, and
//! the connection is used again if and only if it can be.
mod common;
use common::{SMALL, Server, bid_for, bidder, dsp, markup, ok, outcomes, post, read_answer, request};
use outcry::{http1::Deflate, openrtb::codes::Outcome, record::labels::LossReason};
use serde_json::{Value, json};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

/// Deadlines that a busy machine keeps: only what is meant to be late is late.
const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\nasked_max = 16\n";
const CALM: &str = "timeout_ms = 8000\nwarm = 1\n";
/// Every request on the same connection, as long as it lasts.
const ONE: &str = "timeout_ms = 8000\nwarm = 1\nconnections = 1\n";

/// What a DSP was asked.
struct Asked {
    /// Head of the HTTP request, in lower case.
    head: String,
    /// The id of the bid request.
    id: String,
    /// How many requests this DSP had before, on all connections.
    nth: usize,
    /// How many of them on this connection.
    nth_here: usize,
}

impl Asked {
    /// A bid that loses against [`bidder`], with these members changed; `null` takes one away.
    fn bid_with(&self, changes: Value) -> String {
        let mut bid = json!({"id": "b", "impid": "1", "price": 0.5, "adm": format!("for {}", self.id), "crid": "c"});
        for (key, value) in changes.as_object().expect("members") {
            bid[key] = value.clone();
        }
        let bid: serde_json::Map<_, _> =
            bid.as_object().expect("a bid").clone().into_iter().filter(|(_, v)| !v.is_null()).collect();
        json!({"id": self.id, "seatbid": [{"bid": [bid]}]}).to_string()
    }

    fn bid(&self) -> String {
        self.bid_with(json!({}))
    }
}

/// What a DSP does with its connection afterwards.
enum Then {
    Stay,
    Close,
    /// With a reset instead of an end.
    Reset,
}

/// A DSP that behaves so; lives as long as the process.
struct Faulty {
    addr: SocketAddr,
    conns: Arc<AtomicUsize>,
}

impl Faulty {
    fn new(behave: impl Fn(&Asked, &mut TcpStream) -> io::Result<Then> + Send + Sync + 'static) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("addr");
        let (conns, nth, behave) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(behave));
        let seen = Arc::clone(&conns);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let (behave, nth) = (Arc::clone(&behave), Arc::clone(&nth));
                std::thread::spawn(move || converse(stream, &*behave, &nth));
            }
        });
        Faulty { addr, conns }
    }

    /// One that writes this and stays.
    fn says(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Faulty {
        Faulty::new(move |asked, out| out.write_all(&answer(asked)).map(|()| Then::Stay))
    }

    /// One that writes this and leaves.
    fn says_and(then: fn() -> Then, answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Faulty {
        Faulty::new(move |asked, out| out.write_all(&answer(asked)).map(|()| then()))
    }

    /// Connections made to it so far.
    fn conns(&self) -> usize {
        self.conns.load(Ordering::SeqCst)
    }
}

fn converse(
    stream: TcpStream,
    behave: &dyn Fn(&Asked, &mut TcpStream) -> io::Result<Then>,
    nth: &AtomicUsize,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    for nth_here in 0.. {
        let (head, length) = read_head(&mut reader)?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
        let id = request["id"].as_str().unwrap_or("").to_owned();
        let asked = Asked { head, id, nth: nth.fetch_add(1, Ordering::SeqCst), nth_here };
        match behave(&asked, &mut out)? {
            Then::Stay => {}
            Then::Close => return Ok(()),
            Then::Reset => return socket2::SockRef::from(&out).set_linger(Some(Duration::ZERO)),
        }
    }
    Ok(())
}

/// A head, in lower case, and the length of the body behind it.
fn read_head(reader: &mut BufReader<TcpStream>) -> io::Result<(String, usize)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse().ok());
    Ok((head, length.unwrap_or(0)))
}

/// An answer with this status line, these headers and this body, whose length is stated.
fn http(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    Deflate::default().gzip(text.as_bytes(), &mut packed);
    packed
}

/// In three chunks, with an extension and a trailer.
fn chunked(text: &str) -> Vec<u8> {
    let (a, rest) = text.split_at(text.len() / 3);
    let (b, c) = rest.split_at(rest.len() / 2);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |s: &str| format!("{:x};ext=1\r\n{s}\r\n", s.len());
    format!("{head}{}{}{}0\r\nTrailer: t\r\n\r\n", chunk(a), chunk(b), chunk(c)).into_bytes()
}

/// In one piece.
fn ask_all(conn: &mut TcpStream, ids: &[&str]) {
    let text: String = ids.iter().map(|id| post(&request(id), "")).collect();
    conn.write_all(text.as_bytes()).expect("write");
}

fn ask(conn: &mut TcpStream, id: &str) {
    ask_all(conn, &[id]);
}

/// Asks and gets a bid for this id: its markup.
fn markup_for(conn: &mut TcpStream, id: &str) -> String {
    markup(&bid_for(conn, id)).to_owned()
}

fn no_bid_for(conn: &mut TcpStream, id: &str) {
    ask(conn, id);
    assert_eq!(read_answer(conn).status, 204, "{id}");
}

/// Does the connection carry the next request?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conn {
    Kept,
    Dropped,
}

struct Row {
    what: &'static str,
    dsp: Faulty,
    keys: &'static str,
    outcome: Outcome,
    conn: Conn,
}

const ROUNDS: usize = 3;

/// All faults in one auction, several times, beside a DSP that does it right.
fn check(rows: &[Row]) {
    let keys: Vec<String> = rows.iter().map(|r| format!("{ONE}{}", r.keys)).collect();
    let mut dsps: Vec<(SocketAddr, &str)> = rows.iter().zip(&keys).map(|(r, k)| (r.dsp.addr, k.as_str())).collect();
    dsps.push((dsp(bidder), CALM));
    assert!(dsps.len() <= outcry::limits::ASKED_MAX, "one of them would not be asked");
    let server = Server::start_as(&dsps, RULES);
    let mut conn = server.connect();
    for round in 0..ROUNDS {
        let markup = markup_for(&mut conn, &format!("r-{round}"));
        assert!(markup.contains("x.example"), "the other DSP's bid wins: {markup}");
    }
    let (totals, n) = (server.totals(), ROUNDS as u64);
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(outcomes(&totals, at), [(row.outcome, n)], "{}", row.what);
        match row.conn {
            Conn::Kept => assert_eq!(row.dsp.conns(), 1, "{}: the connection is used again", row.what),
            Conn::Dropped => assert!(row.dsp.conns() >= ROUNDS, "{}: a new connection each time", row.what),
        }
    }
    assert_eq!(outcomes(&totals, rows.len()), [(Outcome::Bid, n)], "the DSP that does it right");
}

/// Nobody bids: the same faults, and 204.
fn check_alone(rows: &[Row]) {
    let dsps: Vec<(SocketAddr, &str)> = rows.iter().map(|r| (r.dsp.addr, CALM)).collect();
    let server = Server::start_as(&dsps, RULES);
    let mut conn = server.connect();
    for round in 0..ROUNDS {
        no_bid_for(&mut conn, &format!("r-{round}"));
    }
}

fn kept(what: &'static str, outcome: Outcome, answer: fn(&Asked) -> Vec<u8>) -> Row {
    Row { what, dsp: Faulty::says(answer), keys: "", outcome, conn: Conn::Kept }
}

#[test]
fn answers_that_say_nothing_or_the_wrong_thing() {
    let rows = || {
        [
            kept("204", Outcome::NoBid, |_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
            kept("{}", Outcome::NoBid, |_| ok("{}")),
            kept("an empty 200", Outcome::NoBid, |_| ok("")),
            kept("a blank 200", Outcome::NoBid, |_| ok(" \r\n")),
            kept("500", Outcome::BadStatus, |a| http("500 Internal Server Error", "", a.bid())),
            kept("302", Outcome::BadStatus, |_| http("302 Found", "Location: http://127.0.0.1:1/\r\n", "moved")),
            kept("garbage", Outcome::NotJson, |_| ok("<html>Bad gateway</html>")),
            kept("a list", Outcome::NotJson, |a| ok(&format!("[{}]", a.bid()))),
            // It may be the answer to an earlier request, and ours the next thing this connection says.
            Row {
                conn: Conn::Dropped,
                ..kept("wrong id", Outcome::WrongId, |a| ok(&a.bid().replace(&a.id, "another")))
            },
            kept("wrong imp", Outcome::WrongImp, |a| ok(&a.bid_with(json!({"impid": "2"})))),
            kept("wrong currency", Outcome::WrongCurrency, |a| ok(&a.bid().replacen('{', r#"{"cur":"EUR","#, 1))),
            kept("no price", Outcome::NoPrice, |a| ok(&a.bid_with(json!({"price": null})))),
            kept("price 0", Outcome::NoPrice, |a| ok(&a.bid_with(json!({"price": 0})))),
            kept("no markup", Outcome::NoMarkup, |a| ok(&a.bid_with(json!({"adm": null})))),
            kept("a bid without an id", Outcome::InvalidBid, |a| ok(&a.bid_with(json!({"id": null})))),
        ]
    };
    check(&rows());
    check_alone(&rows());
}

#[test]
fn answers_whose_bytes_are_odd_or_broken() {
    let row = |what, outcome, conn, dsp| Row { what, dsp, keys: "", outcome, conn };
    let small =
        |what, dsp| Row { what, dsp, keys: "answer_bytes = 1024", outcome: Outcome::TooLarge, conn: Conn::Dropped };
    let long = |a: &Asked| a.bid_with(json!({"adm": "long ".repeat(1_000)}));
    let rows = [
        row("chunked", Outcome::Bid, Conn::Kept, Faulty::says(|a| chunked(&a.bid()))),
        Row {
            keys: "gzip = true",
            ..row(
                "gzip",
                Outcome::Bid,
                Conn::Kept,
                Faulty::says(|a| match a.head.contains("\naccept-encoding: gzip\r\n") {
                    true => http("200 OK", "Content-Encoding: gzip\r\n", gzip(&a.bid())),
                    false => http("406 Not Acceptable", "", ""),
                }),
            )
        },
        row(
            "broken gzip",
            Outcome::BadEncoding,
            Conn::Kept,
            Faulty::says(|a| {
                let mut packed = gzip(&a.bid());
                let crc = packed.len() - 8;
                packed[crc] ^= 1;
                http("200 OK", "Content-Encoding: gzip\r\n", packed)
            }),
        ),
        row(
            "an encoding nobody offered",
            Outcome::BadEncoding,
            Conn::Kept,
            Faulty::says(|a| http("200 OK", "Content-Encoding: br\r\n", a.bid())),
        ),
        small("too large", Faulty::says(move |a| ok(&long(a)))),
        small("too large in chunks", Faulty::says(move |a| chunked(&long(a)))),
        Row {
            conn: Conn::Kept,
            ..small(
                "too large inflated",
                Faulty::says(move |a| http("200 OK", "Content-Encoding: gzip\r\n", gzip(&long(a)))),
            )
        },
        row(
            "two lengths",
            Outcome::BadHttp,
            Conn::Dropped,
            Faulty::says(|a| http("200 OK", "Content-Length: 5\r\n", a.bid())),
        ),
        row(
            "a length and chunks",
            Outcome::BadHttp,
            Conn::Dropped,
            Faulty::says(|a| http("200 OK", "Transfer-Encoding: chunked\r\n", a.bid())),
        ),
        row("no HTTP", Outcome::BadHttp, Conn::Dropped, Faulty::says(|a| (a.bid() + "\r\n\r\n").into_bytes())),
        row(
            "more than its length",
            Outcome::Bid,
            Conn::Dropped,
            Faulty::says(|a| [ok(&a.bid()), b"surplus".to_vec()].concat()),
        ),
        row(
            "closed in the middle of the body",
            Outcome::Reset,
            Conn::Dropped,
            Faulty::says_and(
                || Then::Close,
                |a| {
                    let whole = ok(&a.bid());
                    whole[..whole.len() - 1].to_vec()
                },
            ),
        ),
        row(
            "reset in the middle of the head",
            Outcome::Reset,
            Conn::Dropped,
            Faulty::says_and(|| Then::Reset, |_| b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ),
        // It stays, and is taken at its word.
        row(
            "announces to close",
            Outcome::Bid,
            Conn::Dropped,
            Faulty::says(|a| http("200 OK", "Connection: close\r\n", a.bid())),
        ),
        row(
            "ended by closing",
            Outcome::Bid,
            Conn::Dropped,
            Faulty::says_and(|| Then::Close, |a| format!("HTTP/1.1 200 OK\r\n\r\n{}", a.bid()).into_bytes()),
        ),
    ];
    check(&rows);
}

#[test]
fn an_interim_answer_is_waited_through() {
    let interim = |a: &Asked| {
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 P\r\n\r\n".to_vec(), ok(&a.bid())].concat()
    };
    check(&[kept("interim answers first", Outcome::Bid, interim)]);
}

#[test]
fn an_encoding_counts_only_where_there_is_something_encoded() {
    check(&[
        kept("204", Outcome::NoBid, |_| b"HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n".to_vec()),
        kept("an empty 200", Outcome::NoBid, |_| http("200 OK", "Content-Encoding: gzip\r\n", "")),
        kept("500", Outcome::BadStatus, |_| http("500 Internal Server Error", "Content-Encoding: br\r\n", "oops")),
        kept("503", Outcome::BadStatus, |_| http("503 Busy", "Content-Encoding: gzip\r\n", "no gzip")),
    ]);
}

#[test]
fn a_dsp_that_never_answers_costs_its_own_time_only() {
    let silent = Faulty::new(|_, _| Ok(Then::Stay));
    // Half an answer is none.
    let half = Faulty::says(|a| {
        let whole = ok(&a.bid());
        whole[..whole.len() - 1].to_vec()
    });
    let keys = "timeout_ms = 100\nwarm = 1\n";
    let server = Server::start_as(&[(silent.addr, keys), (half.addr, keys), (dsp(bidder), CALM)], RULES);
    let mut conn = server.connect();
    for round in 0..ROUNDS {
        markup_for(&mut conn, &format!("r-{round}"));
    }
    let (totals, n) = (server.totals(), ROUNDS as u64);
    let seen: Vec<_> = (0..3).map(|row| outcomes(&totals, row)).collect();
    assert_eq!(seen, [[(Outcome::Late, n)], [(Outcome::Late, n)], [(Outcome::Bid, n)]]);
    assert!(silent.conns() >= ROUNDS && half.conns() >= ROUNDS, "who owes an answer is not asked anew");
}

#[test]
fn a_dsp_that_refuses_connections_is_just_absent() {
    // Bound and not listening: nobody else can get the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bind");
    let addr = socket.local_addr().ok().and_then(|a| a.as_socket()).expect("an address");
    for (others, status) in [(vec![(dsp(bidder), CALM)], 200), (vec![], 204)] {
        let server = Server::start_as(&[vec![(addr, CALM)], others].concat(), RULES);
        let mut conn = server.connect();
        for round in 0..ROUNDS {
            ask(&mut conn, &format!("r-{round}"));
            assert_eq!(read_answer(&mut conn).status, status);
        }
        assert_eq!(outcomes(&server.totals(), 0), [(Outcome::ConnectRefused, ROUNDS as u64)]);
    }
}

#[test]
fn a_late_answer_is_drained_and_its_connection_carries_the_next() {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let late = Faulty::new(move |asked, out| {
        if asked.nth == 0 {
            let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        out.write_all(&ok(&asked.bid()))?;
        Ok(Then::Stay)
    });
    // One connection: the second request has to wait until the first's answer is out of the way.
    let server = Server::start_as(&[(late.addr, "timeout_ms = 500\nwarm = 1\nconnections = 1")], RULES);
    let mut conn = server.connect();
    no_bid_for(&mut conn, "first");
    ask(&mut conn, "second");
    go.send(()).expect("a DSP that waits");
    let answer = read_answer(&mut conn);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("for second") && !answer.text().contains("first"), "{}", answer.text());
    assert_eq!(markup_for(&mut conn, "third"), "for third");
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 2), (Outcome::Late, 1)]);
    assert_eq!(late.conns(), 1);
}

#[test]
fn a_dsp_that_closes_after_each_answer_is_asked_on_new_connections() {
    let (closing, closed) = mpsc::channel();
    let closing = Mutex::new(closing);
    let brief = Faulty::new(move |asked, out| {
        out.write_all(&ok(&asked.bid()))?;
        out.shutdown(std::net::Shutdown::Write)?;
        let _ = closing.lock().unwrap_or_else(PoisonError::into_inner).send(());
        Ok(Then::Close)
    });
    let server = Server::start_as(&[(brief.addr, CALM)], RULES);
    let mut conn = server.connect();
    for round in 0..10 {
        let id = format!("r-{round}");
        assert_eq!(markup_for(&mut conn, &id), format!("for {id}"));
        closed.recv_timeout(Duration::from_secs(20)).expect("closed");
    }
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 10)]);
    assert!(brief.conns() >= 10);
}

#[test]
fn a_connection_that_is_closed_as_it_is_asked_costs_one_bid() {
    // A server that times out idle connections closes some just as the next request is under way.
    let stale = Faulty::new(|asked, out| match asked.nth_here {
        0 => out.write_all(&ok(&asked.bid())).map(|()| Then::Stay),
        _ => Ok(Then::Close),
    });
    let server = Server::start_as(&[(stale.addr, ONE)], RULES);
    let mut conn = server.connect();
    for round in 0..3 {
        markup_for(&mut conn, &format!("a-{round}"));
        no_bid_for(&mut conn, &format!("b-{round}"));
    }
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 3), (Outcome::Reset, 3)]);
}

#[test]
fn an_answer_may_come_in_any_pieces() {
    // Pieces of so many bytes, of answers with so many words: the last ones take many reads and a grown buffer.
    let dsps = [(1, 1), (7, 10), (4_096, 40_000)].map(|(size, words)| {
        Faulty::new(move |asked, out| {
            let body = asked.bid_with(json!({"adm": format!("for {}{}", asked.id, " word".repeat(words))}));
            let bytes = match asked.nth % 3 {
                0 => ok(&body),
                1 => chunked(&body),
                _ => http("200 OK", "Content-Encoding: gzip\r\n", gzip(&body)),
            };
            bytes.chunks(size).try_for_each(|piece| out.write_all(piece))?;
            Ok(Then::Stay)
        })
    });
    for dsp in &dsps {
        let server = Server::start_as(&[(dsp.addr, ONE)], RULES);
        let mut conn = server.connect();
        for round in 0..12 {
            let markup = markup_for(&mut conn, &format!("r-{round}"));
            assert!(markup.starts_with(&format!("for r-{round} word")) && markup.ends_with("word"));
        }
        assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 12)]);
        assert_eq!(dsp.conns(), 1);
    }
}

#[test]
fn a_second_answer_is_not_taken_for_the_answers_to_all_that_follow() {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let twice = Faulty::new(move |asked, out| {
        if asked.nth == 1 {
            // The first request's once more; the one to this only when that has been read.
            out.write_all(&ok(&asked.bid().replace(&asked.id, "first")))?;
            let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        }
        out.write_all(&ok(&asked.bid())).map(|()| Then::Stay)
    });
    let server = Server::start_as(&[(twice.addr, CALM)], RULES);
    let mut conn = server.connect();
    markup_for(&mut conn, "first");
    no_bid_for(&mut conn, "second");
    ask(&mut conn, "third");
    go.send(()).expect("a DSP that waits");
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 && answer.text().contains("for third"), "{answer:?}");
    assert_eq!(markup_for(&mut conn, "fourth"), "for fourth");
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 3), (Outcome::WrongId, 1)]);
}

#[test]
fn who_waits_for_a_connection_that_breaks_gets_another() {
    let brittle = Faulty::new(|asked, out| match asked.nth {
        0 => Ok(Then::Close),
        _ => out.write_all(&ok(&asked.bid())).map(|()| Then::Stay),
    });
    let server = Server::start_as(&[(brittle.addr, "timeout_ms = 8000\nwarm = 1\nconnections = 1")], RULES);
    let mut conn = server.connect();
    // Pipelined, so that the second waits for the one connection, which the first has.
    ask_all(&mut conn, &["first", "second"]);
    assert_eq!(read_answer(&mut conn).status, 204);
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 && answer.text().contains("for second"), "{answer:?}");
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 1), (Outcome::Reset, 1)]);
}

#[test]
fn a_dsp_may_answer_before_it_has_taken_the_whole_request() {
    // Its window is small and it reads the head only, so most of the request waits on our side.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small window");
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("bind");
    socket.listen(16).expect("listen");
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().expect("an address");
    let (go, wait) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let hasty = |stream: TcpStream| -> io::Result<()> {
            let mut out = stream.try_clone()?;
            let mut reader = BufReader::with_capacity(512, stream);
            for nth in 0.. {
                let (head, length) = read_head(&mut reader)?;
                // Where the id stands in every request of this test.
                let mut front = [0; 20];
                reader.read_exact(&mut front)?;
                let front = String::from_utf8_lossy(&front).into_owned();
                let id = front.split('"').nth(3).unwrap_or("").to_owned();
                out.write_all(&ok(&Asked { head, id, nth, nth_here: nth }.bid()))?;
                if nth == 0 {
                    let _ = wait.recv();
                }
                io::copy(&mut reader.by_ref().take(length as u64 - 20), &mut io::sink())?;
            }
            Ok(())
        };
        listener.incoming().flatten().try_for_each(hasty)
    });
    let rules = format!("[http]\nbody_bytes = 4194304\n{RULES}");
    let server = Server::start_as(&[(addr, "timeout_ms = 8000\nwarm = 1\nconnections = 1")], &rules);
    let mut conn = server.connect();
    let long = request("first").replace(r#""site":{}"#, &format!(r#""site":{{"name":"{}"}}"#, "x".repeat(4_000_000)));
    conn.write_all(post(&long, "").as_bytes()).expect("write");
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 && answer.text().contains("for first"), "{answer:?}");
    // The next one goes out behind what is still on its way.
    ask(&mut conn, "second");
    go.send(()).expect("a DSP that waits");
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 && answer.text().contains("for second"), "{answer:?}");
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Bid, 2)]);
}

#[test]
fn a_full_pool_is_said_to_be_full() {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let silent = Faulty::new(move |_, _| {
        let _ = tell.lock().unwrap_or_else(PoisonError::into_inner).send(());
        Ok(Then::Stay)
    });
    let server = Server::start_as(&[(silent.addr, "timeout_ms = 300\nwarm = 1\nconnections = 1")], RULES);
    let mut conns = [server.connect(), server.connect(), server.connect()];
    // The first has the connection, the second waits for it, the third finds the queue full.
    ask(&mut conns[0], "first");
    told.recv_timeout(Duration::from_secs(20)).expect("asked");
    ask(&mut conns[1], "second");
    ask(&mut conns[2], "third");
    for conn in &mut conns {
        assert_eq!(read_answer(conn).status, 204);
    }
    assert_eq!(outcomes(&server.totals(), 0), [(Outcome::Late, 1), (Outcome::PoolExhausted, 2)]);
}

#[test]
fn a_dsp_that_ends_every_connection_at_once_is_not_stormed() {
    for greeting in ["", "SSH-2.0-x\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("addr");
        let conns = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&conns);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(greeting.as_bytes());
            }
        });
        // Another's timeout is the clock of this test: warm connections are tried ten times a second.
        let silent = Faulty::new(|_, _| Ok(Then::Stay));
        let server =
            Server::start_as(&[(addr, "timeout_ms = 8000\nwarm = 4"), (silent.addr, "timeout_ms = 300")], RULES);
        no_bid_for(&mut server.connect(), "r");
        drop(server);
        let conns = conns.load(Ordering::SeqCst);
        assert!(conns < 400, "{conns} connections in a third of a second");
    }
}

/// A DSP has room in the record for one bid of any length; those behind it lose as too many, and are counted.
#[test]
fn bids_without_room_in_the_record_are_counted() {
    let crowd = Faulty::says(|asked| {
        let bid = |n: usize| json!({"id": format!("{n:0200}"), "impid": "1", "price": 0.5, "adm": "<b></b>", "crid": "c".repeat(200)});
        let bids: Vec<Value> = (0..5).map(bid).collect();
        http("200 OK", "", json!({"id": asked.id, "seatbid": [{"bid": bids}]}).to_string())
    });
    let server = Server::start_as(
        &[(crowd.addr, CALM), (dsp(bidder), CALM)],
        &format!("{RULES}[record]\nbid_bytes = 0\n{SMALL}"),
    );
    let mut conn = server.connect();
    for id in ["r-1", "r-2"] {
        assert!(markup_for(&mut conn, id).contains("x.example"), "the other one's bid is heard");
    }
    let totals = server.totals();
    // 30 bytes and two texts of 128: two of the five fit where one of 670 must.
    assert_eq!(totals.losses(LossReason::TooMany), 2 * 3);
    assert_eq!(totals.losses(LossReason::LostToHigherBid), 2 * 2);
}
