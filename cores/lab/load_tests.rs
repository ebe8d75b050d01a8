//! The generator against a bidder that errs where it is told to: every fault must be counted, as what it is, once.
use super::{
    arrivals::Spacing,
    check::Fault,
    http::{Kind, Step, frame},
    json::Reader,
    load::{Live, LoadConfig, LoadReport, drive},
    report,
    requests::generate,
};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// What the bidder does with one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    Right,
    NoBid,
    WrongId,
    MacroLeft,
    /// Two answers in one write.
    Twice,
    /// A second answer right before the next one, or when the client has nothing more to say.
    TwiceLater,
    Never,
    /// The connection is closed instead.
    Cut,
    Status400,
    NoHttp,
}

/// A bidder with a thread for each connection; the deed depends on the number of the request.
pub(super) fn bidder(deed: fn(u64) -> Deed) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("its address");
    // Both kinds of threads end with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, deed));
        }
    });
    addr
}

/// Ends with the connection.
fn serve(mut stream: TcpStream, deed: fn(u64) -> Deed) -> std::io::Result<()> {
    let (mut buf, mut owed, mut reader) = (Vec::new(), Vec::new(), Reader::default());
    loop {
        let Ok(Step::Whole(request)) = frame(&mut buf, Kind::Request, 1 << 20) else {
            let mut part = [0; 8192];
            match stream.read(&mut part)? {
                0 => return stream.write_all(&owed),
                n => buf.extend_from_slice(&part[..n]),
            }
            continue;
        };
        let asked = reader.read(&mut buf[request.body.clone()], |v| {
            let imp = v.list("imp").next().and_then(|i| i.text_of("id")).unwrap_or("").to_owned();
            let cur = v.list("cur").next().and_then(|c| c.text()).unwrap_or("USD").to_owned();
            (v.text_of("id").unwrap_or("").to_owned(), imp, cur)
        });
        buf.drain(..request.end);
        let (id, imp, cur) = asked.expect("the generator sends JSON");
        let answer = |id: &str, adm: &str| {
            let body = format!(
                r#"{{"id":"{id}","cur":"{cur}","seatbid":[{{"bid":[{{"id":"b","impid":"{imp}","price":90.5,"adm":"{adm}"}}]}}]}}"#
            );
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let mut out = std::mem::take(&mut owed);
        let seq = u64::from_str_radix(&id[8..], 16).expect("an id of the generator");
        match deed(seq) {
            Deed::Right => out.extend(answer(&id, "x")),
            Deed::NoBid => out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n"),
            Deed::WrongId => out.extend(answer("somebody else's", "x")),
            Deed::MacroLeft => out.extend(answer(&id, "${AUCTION_PRICE}")),
            Deed::Twice => out.extend(answer(&id, "x").repeat(2)),
            Deed::TwiceLater => {
                out.extend(answer(&id, "x"));
                owed = answer(&id, "x");
            }
            Deed::Never => {}
            Deed::Cut => return stream.write_all(&out),
            Deed::Status400 => out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}"),
            Deed::NoHttp => out.extend_from_slice(b"hello\r\n\r\n"),
        }
        stream.write_all(&out)?;
    }
}

fn load(target: SocketAddr) -> LoadConfig {
    LoadConfig {
        target,
        host: "bidder.example".to_owned(),
        path: "/b".to_owned(),
        rate: 1_000.0,
        seconds: 0.3,
        spacing: Spacing::Constant,
        connections: 32,
        timeout: Duration::from_secs(2),
        seed: 1,
        templates: generate(1, 100),
        gzip: false,
        accept_gzip: true,
        macros_may_stay: false,
    }
}

fn driven(config: LoadConfig) -> LoadReport {
    let live = Arc::new(Live::default());
    let report = drive(config, &live).expect("drives");
    assert_eq!(live.due.load(Relaxed), report.due);
    assert_eq!(live.bad.load(Relaxed), report.wrong() + report.unanswered() + report.duplicates);
    report
}

#[test]
fn a_right_bidder_is_found_right() {
    let report = driven(load(bidder(|seq| if seq % 3 == 0 { Deed::NoBid } else { Deed::Right })));
    assert!(report.is_right(), "{report:?}");
    assert_eq!((report.due, report.answered, report.no_bids, report.with_bid, report.bids), (299, 299, 100, 199, 199));
    assert_eq!(report.latency.len(), 299);
    assert!(report.connections <= 32);
}

#[test]
fn every_planted_fault_is_counted_as_what_it_is() {
    fn deed(seq: u64) -> Deed {
        match seq {
            10 | 110 | 210 => Deed::WrongId,
            20 | 120 => Deed::MacroLeft,
            30 | 130 => Deed::Twice,
            40 | 140 | 240 | 298 => Deed::TwiceLater,
            50 | 150 => Deed::Never,
            60 | 160 | 260 => Deed::Cut,
            70 => Deed::Status400,
            80 | 180 => Deed::NoHttp,
            _ => Deed::Right,
        }
    }
    let report = driven(LoadConfig { timeout: Duration::from_secs(1), ..load(bidder(deed)) });
    let of = |fault: Fault| report.faults[fault as usize];
    assert_eq!((of(Fault::WrongId), of(Fault::MacroLeft), of(Fault::Status)), (3, 2, 1), "{report:?}");
    assert_eq!((report.duplicates, report.timed_out, report.cut_off, report.bad_http), (6, 2, 3, 2), "{report:?}");
    assert_eq!((report.never_sent, report.answered), (0, 299 - 5));
    assert_eq!(report.with_bid, 299 - 3 - 2 - 1 - 2 - 3 - 2, "what is not wrong is right");
    assert_eq!((report.wrong(), report.unanswered()), (8, 5));
    assert!(!report.is_right());
    let text = report::text(&report);
    assert!(text.contains("5 unanswered, 8 wrong, 6 answered twice"), "{text}");
}

#[test]
fn a_rate_that_was_not_reached_gives_no_percentiles() {
    // One connection, and no answer ever: most requests never get their turn.
    let timeout = Duration::from_millis(100);
    let report = driven(LoadConfig { connections: 1, timeout, ..load(bidder(|_| Deed::Never)) });
    assert!(report.timed_out > 0 && report.never_sent > 0 && !report.is_measured(), "{report:?}");
    assert_eq!(report.answered + report.unanswered(), report.due);
    assert!(report::text(&report).contains("not shown"));
    assert!(!report::json(&report).contains("latency"));
}

#[test]
fn what_waited_for_a_connection_was_late_from_the_start() {
    // One connection; one answer takes as long as it takes to time out, so those behind it wait.
    let report = driven(LoadConfig {
        connections: 1,
        timeout: Duration::from_millis(100),
        ..load(bidder(|seq| if seq == 50 { Deed::Never } else { Deed::Right }))
    });
    // Those due while it hung and answered after it had at most the time-out to go: spread evenly over it.
    assert!(report.latency.value_at_quantile(0.9) > 10_000_000, "{report:?}");
    assert!(report.waited.max() > 50_000_000);
}

#[test]
fn a_bidder_that_is_not_there_is_reported_and_nothing_hangs() {
    // Bound but not listening: refuses, and nobody else can get the port meanwhile.
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let closed = bound.local_addr().ok().and_then(|a| a.as_socket()).expect("its address");
    let report = driven(LoadConfig { timeout: Duration::from_millis(50), ..load(closed) });
    assert_eq!((report.answered, report.never_sent), (0, 299));
    assert!(report.connect_failed > 0 && !report.is_right());
    assert!(serde_json::from_str::<serde_json::Value>(&report::json(&report)).is_ok());
}
