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
        patience: Duration::from_secs(2),
        seed: 1,
        templates: generate(1, 100),
        gzip: false,
        accept_gzip: true,
        macros_may_stay: false,
        run: None,
        answers: None,
        notices: None,
        stop: Arc::default(),
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

/// The lines of a log, without their times.
fn lines(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a log");
    std::fs::remove_file(path).expect("clean up");
    let timeless = |line: &str| {
        let (before, after) = line.split_once(",\"us\":").expect("a time");
        format!("{before}{}", &after[after.find(',').expect("more")..])
    };
    text.lines().map(timeless).collect()
}

#[test]
fn every_answer_is_written_down_and_so_is_what_broke() {
    fn deed(seq: u64) -> Deed {
        match seq {
            1 => Deed::NoBid,
            2 => Deed::Cut,
            3 => Deed::WrongId,
            4 => Deed::NoHttp,
            5 => Deed::Never,
            6 => Deed::Twice,
            _ => Deed::Right,
        }
    }
    let path = std::env::temp_dir().join(format!("outcry-answers-{}", std::process::id()));
    let timeout = Duration::from_millis(300);
    let answers = Some(path.clone());
    let report = driven(LoadConfig { run: Some(0xab), answers, timeout, ..load(bidder(deed)) });
    assert_eq!((report.due, report.cut_off, report.timed_out, report.duplicates), (299, 1, 1, 1), "{report:?}");
    assert!(!report.is_right_where_answered());
    let lines = lines(&path);
    let of = |seq: u64| {
        let id = format!("{{\"id\":\"000000ab{seq:016x}\"");
        lines.iter().filter_map(|l| l.strip_prefix(&id)).collect::<Vec<_>>()
    };
    assert!(
        of(0)[0].starts_with(",\"status\":200,\"cur\":\"")
            && of(0)[0].contains(",\"bids\":[{\"micros\":90500000,\"id\":\"b\",")
    );
    assert_eq!(of(1), [",\"status\":204}"]);
    assert_eq!(of(2), [",\"broken\":\"cut off\"}"]);
    assert!(of(3)[0].starts_with(",\"status\":200,\"fault\":\"wrong id\""));
    assert_eq!(of(4), [",\"broken\":\"no HTTP\"}"]);
    assert_eq!(of(5), [",\"broken\":\"timed out\"}"]);
    // One of the two answers may be noticed when the next request is on its way.
    assert!(of(6).len() == 1 || of(6).len() == 2 && of(6)[1].contains("a second answer"), "{:?}", of(6));
    assert_eq!((0..299).filter(|seq| of(*seq).is_empty()).count(), 0);
}

/// What broke is made up for with new connections: those requests are lost that were on the old ones, no others.
#[test]
fn outages_cost_what_they_hit_and_nothing_else() {
    use std::sync::atomic::AtomicU64;
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let addr = bidder(|seq| {
        SEEN.fetch_add(1, Relaxed);
        if (100..140).contains(&seq) { Deed::Cut } else { Deed::Right }
    });
    let report = driven(load(addr));
    assert!(report.is_right_where_answered() && !report.is_right(), "{report:?}");
    assert_eq!((report.cut_off, report.answered), (40, 259), "{report:?}");
    assert_eq!(SEEN.load(Relaxed), 299);
}

#[test]
fn what_finds_no_connection_is_given_up_as_soon_as_it_is_told() {
    let (timeout, patience) = (Duration::from_millis(200), Duration::from_millis(1));
    let report = driven(LoadConfig { connections: 1, timeout, patience, ..load(bidder(|_| Deed::Never)) });
    // One connection at a time, each for as long as an answer may take.
    assert!(report.sent <= 3 && report.never_sent + report.sent == report.due, "{report:?}");
    let report = driven(LoadConfig { connections: 1, timeout, ..load(bidder(|_| Deed::Right)) });
    assert!(report.never_sent == 0 && report.is_right(), "{report:?}");
}

#[test]
fn told_to_stop_it_ends_in_order() {
    let config = LoadConfig { seconds: 3_600.0, ..load(bidder(|_| Deed::Right)) };
    let (stop, live) = (config.stop.clone(), Arc::new(Live::default()));
    let seen = live.clone();
    std::thread::spawn(move || {
        while seen.answered.load(Relaxed) < 50 {
            std::thread::yield_now();
        }
        stop.store(true, Relaxed);
    });
    let report = drive(config, &live).expect("drives");
    assert!(report.is_right() && report.due >= 50 && report.answered == report.due, "{report:?}");
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
