//! HTTP behaviour over real sockets: each limit, each typed answer, the order of answers.
mod common;
use common::{Server, post, read_answer, read_answers};
use outcry::record::labels::Counter;
use std::io::{Read, Write};

const BODY: &str =
    r#"{"id":"r-1","tmax":100,"imp":[{"id":"1","banner":{"w":300,"h":250}}],"site":{"domain":"a.example"}}"#;

#[test]
fn a_bid_and_a_no_bid_keep_the_connection() {
    let server = Server::start("");
    let mut conn = server.connect();
    for i in 0..50 {
        let body = BODY.replace("r-1", &format!("r-{i}"));
        conn.write_all(post(&body, "").as_bytes()).expect("write");
        let answer = read_answer(&mut conn);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.text().contains(&format!("\"id\":\"r-{i}\"")), "{}", answer.text());
        assert!(answer.header("connection").is_none(), "a bid does not close");
    }
    let none = Server::start_without_dsps();
    let mut conn = none.connect();
    for _ in 0..3 {
        conn.write_all(post(BODY, "").as_bytes()).expect("write");
        let answer = read_answer(&mut conn);
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert!(answer.header("connection").is_none(), "a no-bid does not close");
    }
}

#[test]
fn each_refusal_has_its_status() {
    let server = Server::start("");
    let long = "x".repeat(9000);
    let big = format!("POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 300 * 1024);
    // request, status, is the connection closed afterwards
    let rows: Vec<(&str, String, u16, bool)> = vec![
        ("broken JSON", post("{\"id\":", ""), 400, false),
        ("no imp", post("{\"id\":\"1\"}", ""), 400, false),
        ("unknown path", "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}".into(), 404, false),
        ("GET", "GET /openrtb2/auction HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405, false),
        ("HEAD", "HEAD /openrtb2/auction HTTP/1.1\r\nHost: x\r\n\r\n".into(), 405, true),
        ("no length", "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\n\r\n".into(), 411, false),
        ("body too large", big, 413, true),
        ("unknown expectation", post(BODY, "Expect: a-miracle\r\n"), 417, false),
        (
            "two codings",
            "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".into(),
            501,
            true,
        ),
        ("another HTTP", "POST /openrtb2/auction HTTP/3.0\r\nHost: x\r\n\r\n".into(), 505, true),
        ("media type", post(BODY, "").replace("application/json", "text/html"), 415, false),
        ("encoding", post(BODY, "Content-Encoding: br\r\n"), 415, false),
        ("head too long", post(BODY, &format!("X-Long: {long}\r\n")), 431, true),
        ("two lengths", post(BODY, "Content-Length: 3\r\n"), 400, true),
        ("length and chunks", post(BODY, "Transfer-Encoding: chunked\r\n"), 400, true),
        ("bare LF", "POST /openrtb2/auction HTTP/1.1\nHost: x\n\n".into(), 400, true),
        ("folded header", post(BODY, "X-A: b\r\n c\r\n"), 400, true),
        ("control byte in a name", post(BODY, "X-\u{1}A: b\r\n"), 400, true),
        ("no host", "POST /openrtb2/auction HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}".into(), 400, true),
        ("two hosts", post(BODY, "Host: y\r\n"), 400, true),
        (
            "bad chunk",
            "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n".into(),
            400,
            true,
        ),
    ];
    for (what, bytes, status, closes) in rows {
        let mut conn = server.connect();
        conn.write_all(bytes.as_bytes()).expect("write");
        let answer = read_answer(&mut conn);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if status == 405 {
            assert_eq!(answer.header("allow").as_deref(), Some("POST"));
        }
        assert_eq!(answer.header("connection").as_deref() == Some("close"), closes, "{what}: {answer:?}");
        if closes {
            let mut rest = Vec::new();
            conn.read_to_end(&mut rest).expect("closed in order");
            assert!(rest.is_empty(), "{what}: {rest:?}");
        } else {
            conn.write_all(post(BODY, "").as_bytes()).expect("write");
            assert_eq!(read_answer(&mut conn).status, 200, "{what}: the connection lives on");
        }
    }
}

#[test]
fn a_reason_names_the_field_and_nothing_of_the_user() {
    let server = Server::start("");
    let mut conn = server.connect();
    let body = r#"{"id":"secret-id","imp":[{"id":"secret-imp","banner":{"w":-5,"h":1}}]}"#;
    conn.write_all(post(body, "").as_bytes()).expect("write");
    let answer = read_answer(&mut conn);
    assert_eq!(answer.status, 400);
    let reason: serde_json::Value = serde_json::from_slice(&answer.body).expect("a JSON reason");
    assert_eq!(reason["field"].as_str(), Some("imp[0].banner.w"), "{reason}");
    assert!(!answer.text().contains("secret"), "{reason}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start("");
    let mut conn = server.connect();
    // Twenty at once: more than may be in progress; a refused one among them.
    let mut bytes = String::new();
    for i in 0..20 {
        let body = if i == 7 { "{}".to_string() } else { BODY.replace("r-1", &format!("p-{i:02}")) };
        bytes += &post(&body, "");
    }
    conn.write_all(bytes.as_bytes()).expect("write");
    for (i, answer) in read_answers(&mut conn, 20).into_iter().enumerate() {
        if i == 7 {
            assert_eq!(answer.status, 400);
        } else {
            assert!(answer.text().contains(&format!("p-{i:02}")), "{i}: {}", answer.text());
        }
    }
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let server = Server::start("");
    let mut conn = server.connect();
    let chunked = format!(
        "POST /openrtb2/auction HTTP/1.1\r\nhOsT: x\r\nTRANSFER-encoding: chunked\r\n\r\n{:x};ext=1\r\n{}\r\n{:x}\r\n{}\r\n0\r\nTrailer: t\r\n\r\n",
        10,
        &BODY[..10],
        BODY.len() - 10,
        &BODY[10..]
    );
    for text in [post(BODY, ""), chunked] {
        for byte in text.as_bytes() {
            conn.write_all(&[*byte]).expect("write");
        }
        let answer = read_answer(&mut conn);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[test]
fn who_expects_100_gets_it_before_the_body() {
    let server = Server::start("");
    let mut conn = server.connect();
    let head = format!(
        "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        BODY.len()
    );
    conn.write_all(head.as_bytes()).expect("write");
    let mut interim = [0; 25];
    conn.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    conn.write_all(BODY.as_bytes()).expect("write");
    assert_eq!(read_answer(&mut conn).status, 200);

    // Behind another request: only when that is answered, or it would be taken for its answer.
    let mut conn = server.connect();
    conn.write_all([post(BODY, "").as_bytes(), head.as_bytes()].concat().as_slice()).expect("write");
    assert_eq!(read_answer(&mut conn).status, 200);
    conn.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    conn.write_all(BODY.as_bytes()).expect("write");
    assert_eq!(read_answer(&mut conn).status, 200);

    let mut conn = server.connect();
    conn.write_all(head.replace("/openrtb2/auction", "/nope").as_bytes()).expect("write");
    assert_eq!(read_answer(&mut conn).status, 404, "a final answer instead of 100");
}

#[test]
fn gzip_comes_in_and_goes_out() {
    let server = Server::start("");
    let mut packed = Vec::new();
    outcry::http1::Deflate::default().gzip(BODY.as_bytes(), &mut packed);
    let mut conn = server.connect();
    let head = |length: usize, more: &str| {
        format!(
            "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\n{more}Content-Length: {length}\r\n\r\n"
        )
    };
    conn.write_all(head(packed.len(), "Accept-Encoding: gzip\r\n").as_bytes()).expect("write");
    conn.write_all(&packed).expect("write");
    let answer = read_answer(&mut conn);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-encoding").as_deref(), Some("gzip"), "worth it and asked for");
    let mut plain = Vec::new();
    outcry::http1::Inflate::default().inflate(&answer.body, &mut plain, 1 << 20).expect("gzip");
    assert!(String::from_utf8_lossy(&plain).contains("\"r-1\""));

    // A bomb: a megabyte of blanks in a kilobyte.
    let mut bomb = Vec::new();
    outcry::http1::Deflate::default().gzip(&vec![b' '; 1 << 20], &mut bomb);
    conn.write_all(head(bomb.len(), "").as_bytes()).expect("write");
    conn.write_all(&bomb).expect("write");
    assert_eq!(read_answer(&mut conn).status, 413);
    conn.write_all(head(4, "").as_bytes()).expect("write");
    conn.write_all(b"nope").expect("write");
    assert_eq!(read_answer(&mut conn).status, 400);
}

#[test]
fn slow_heads_and_bodies_are_ended_and_idle_connections_closed() {
    let server = Server::start("[http]\nslow_ms = 200\nidle_ms = 1000\n");
    for part in
        ["POST /openrtb2/auction HT", "POST /openrtb2/auction HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{"]
    {
        let mut conn = server.connect();
        conn.write_all(part.as_bytes()).expect("write");
        let answer = read_answer(&mut conn);
        assert_eq!(answer.status, 408, "{part}");
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
    }
    let mut idle = server.connect();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).expect("closed in order");
    assert!(rest.is_empty());
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let server = Server::start("[http]\nconnections = 3\n");
    let mut kept: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for conn in &mut kept {
        conn.write_all(post(BODY, "").as_bytes()).expect("write");
        assert_eq!(read_answer(conn).status, 200);
    }
    let mut fourth = server.connect();
    let mut rest = Vec::new();
    let _ = fourth.read_to_end(&mut rest); // closed, or reset
    assert!(rest.is_empty());
    kept[0].write_all(post(BODY, "").as_bytes()).expect("write");
    assert_eq!(read_answer(&mut kept[0]).status, 200);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer() {
    let server = Server::start("");
    // More than may be in progress: the end comes while the last of them wait.
    for requests in [1, 100] {
        let mut conn = server.connect();
        conn.write_all(post(BODY, "").repeat(requests).as_bytes()).expect("write");
        conn.shutdown(std::net::Shutdown::Write).expect("shutdown");
        assert!(read_answers(&mut conn, requests).iter().all(|a| a.status == 200));
        let mut rest = Vec::new();
        conn.read_to_end(&mut rest).expect("closed");
        assert!(rest.is_empty());
    }
}

#[test]
fn a_core_that_drains_finishes_what_it_has() {
    let server = Server::start("");
    let mut conn = server.connect();
    conn.write_all(post(BODY, "").as_bytes()).expect("write");
    assert_eq!(read_answer(&mut conn).status, 200);
    // A request whose body is half here when the exchange is told to stop.
    let text = post(BODY, "");
    let (a, b) = text.split_at(text.len() - 20);
    conn.write_all(a.as_bytes()).expect("write");
    let addr = server.addr();
    let stopping = server.stop_in_background();
    conn.write_all(b.as_bytes()).expect("write");
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 || answer.status == 204, "{answer:?}");
    stopping.join().expect("no panic").expect("stopped in order");
    assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");
}

#[test]
fn a_full_core_says_no_at_once_and_counts_it() {
    // Answers when it likes: never.
    fn silent(_: &serde_json::Value) -> Vec<u8> {
        Vec::new()
    }
    let server = Server::start_with(&[silent], "[http]\nauctions = 1\n");
    let (mut first, mut second) = (server.connect(), server.connect());
    // Both in one segment: the first is in flight when the second is looked at.
    first.write_all([post(BODY, ""), post(BODY, "")].concat().as_bytes()).expect("write");
    second.write_all(post(BODY, "").as_bytes()).expect("write");
    for answer in read_answers(&mut first, 2) {
        assert_eq!((answer.status, answer.header("connection")), (204, None));
    }
    assert_eq!(read_answer(&mut second).status, 204);
    let totals = server.totals();
    let shed = totals.counter(outcry::record::labels::Counter::ShedNoRoom);
    let auctions = totals.counter(outcry::record::labels::Counter::Auctions);
    assert!(shed >= 1, "the second of the first connection found no room");
    assert_eq!(shed + auctions, 3, "each is an auction or was shed");
}

/// Thousands of requests at once, and a client whose window is full again and again: of sends that are taken in part the
/// rest comes before anything else. What the core did beside (here: resuming readers) once made it send on while a send
/// was under way.
#[test]
fn answers_stay_in_order_where_the_client_reads_slowly() {
    const REQUESTS: usize = 400;
    let server = Server::start_without_dsps();
    let stream = server.connect();
    socket2::SockRef::from(&stream).set_recv_buffer_size(4096).expect("a small window");
    let mut out = stream.try_clone().expect("clone");
    let writer = std::thread::spawn(move || {
        for i in 0..REQUESTS {
            // Each is answered at once, by the connection or by an auction without DSPs.
            let request = match i % 3 {
                0 => "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_string(),
                1 => "PUT /openrtb2/auction HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".to_string(),
                _ => post("{", ""),
            };
            out.write_all(request.as_bytes()).expect("write");
        }
    });
    let mut reader = stream;
    for i in 0..REQUESTS {
        assert_eq!(read_answer(&mut reader).status, [404, 405, 400][i % 3], "answer {i}");
    }
    writer.join().expect("a writer");
    drop(reader);
    let totals = server.totals();
    assert_eq!(totals.counter(Counter::Requests), REQUESTS as u64);
}

/// More requests at once than one turn of the core takes: the rest follows, none twice and none forgotten.
#[test]
fn a_burst_of_clients_is_answered_one_by_one() {
    const CLIENTS: usize = 300;
    let server = Server::start_without_dsps();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for round in 0..3 {
        // Written faster than they are handled, so that they come in together.
        for (i, client) in clients.iter_mut().enumerate() {
            let body = if i % 7 == 0 { "{" } else { BODY };
            client.write_all(post(body, "").as_bytes()).expect("write");
        }
        for (i, client) in clients.iter_mut().enumerate() {
            assert_eq!(read_answer(client).status, if i % 7 == 0 { 400 } else { 204 }, "client {i}, round {round}");
        }
    }
    drop(clients);
    assert_eq!(server.totals().counter(Counter::Requests), 3 * CLIENTS as u64);
}
