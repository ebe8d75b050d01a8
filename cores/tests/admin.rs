//! The admin port of a whole exchange over real sockets: what is scraped, probed and asked while auctions run.
mod common;
use common::{Answer, Server, bidder, connect, dsp, ok, post, read_answer};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// Scraping costs by the series; this is what five DSPs may come to: 314, and 49 that tell of money.
const SERIES_MAX: usize = 460;

fn nobid(_: &serde_json::Value) -> Vec<u8> {
    b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
}

fn broken(_: &serde_json::Value) -> Vec<u8> {
    ok("{\"id\":")
}

fn failing(_: &serde_json::Value) -> Vec<u8> {
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec()
}

fn statuses(server: &Server, body: &str, n: usize) -> Vec<u16> {
    let mut conn = server.connect();
    let text = post(body, "");
    (0..n)
        .map(|_| {
            conn.write_all(text.as_bytes()).expect("write");
            read_answer(&mut conn).status
        })
        .collect()
}

fn ask(server: &Server, request: &str) -> Answer {
    let mut conn = connect(server.admin());
    conn.write_all(request.as_bytes()).expect("write");
    read_answer(&mut conn)
}

/// The value of one series, written as it is on the page.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// Scrapes until `series` has this value: numbers leave a core once a second.
fn scrape_until(server: &Server, series: &str, want: f64) -> String {
    let by = Instant::now() + Duration::from_secs(20);
    loop {
        let page = server.get("/metrics").text();
        let got = value(&page, series);
        if got == Some(want) {
            return page;
        }
        assert!(Instant::now() < by, "{series} is {got:?}, not {want}, in\n{page}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn metrics_count_what_happened_in_few_series() {
    // Two fail all the time, and are asked all the same.
    let dsps = [bidder, bidder, nobid, broken, failing]
        .map(|answer| (dsp(answer), "warm = 2\nbreaker = false\ntrouble = false\nlearned_time = false\n"));
    let server = Server::start_as(&dsps, "");
    let body = r#"{"id":"r-1","tmax":200,"imp":[{"id":"1","banner":{"w":300,"h":250}}],"site":{"domain":"a.example"}}"#;
    assert!(statuses(&server, body, 20).iter().all(|status| [200, 204].contains(status)));
    assert_eq!(statuses(&server, "{}", 3), [400; 3]);

    let page = scrape_until(&server, "outcry_answers_total{answer=\"bad_request\"}", 3.0);
    for (series, want) in [
        ("outcry_requests_total", 23.0),
        ("outcry_auctions_total", 20.0),
        ("outcry_records_total", 20.0),
        ("outcry_latency_seconds_count", 20.0),
        ("outcry_panics_total", 0.0),
    ] {
        assert_eq!(value(&page, series), Some(want), "{series} in\n{page}");
    }
    // On a busy machine one or the other DSP is late; nothing is lost or counted twice for that.
    let sum = |part: &str| -> f64 {
        let series = page.lines().filter(|l| l.starts_with(part));
        series.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    for (dsp, result) in [(0, "bid"), (1, "bid"), (2, "no_bid"), (3, "bad_answer"), (4, "bad_status")] {
        let all = format!("outcry_dsp_results_total{{dsp=\"dsp-{dsp}\",");
        assert_eq!(sum(&format!("outcry_dsp_asked_total{{dsp=\"dsp-{dsp}\"}}")), 20.0, "{page}");
        assert_eq!(sum(&all), 20.0, "{all} in\n{page}");
        assert!(sum(&format!("{all}result=\"{result}\"}}")) > 0.0, "{all} {result} in\n{page}");
    }
    let bids = sum("outcry_answers_total{answer=\"bid\"}");
    assert_eq!(bids + sum("outcry_answers_total{answer=\"no_bid\"}"), 20.0, "{page}");
    assert_eq!(sum("outcry_deliveries_total{"), 20.0, "{page}");
    assert_eq!(sum("outcry_dsp_wins_total{"), bids, "one impression, one winner: {page}");

    let answer = server.get("/metrics");
    assert_eq!(answer.header("content-type").as_deref(), Some("text/plain; version=0.0.4; charset=utf-8"));
    let series = page.lines().filter(|l| !l.starts_with('#')).count();
    assert!((100..=SERIES_MAX).contains(&series), "{series} series");
    // Metrics go to whoever may scrape: names of DSPs, and nothing of a request.
    assert!(!page.contains("r-1") && !page.contains("a.example"), "{page}");
}

#[test]
fn probes_and_people_get_their_answers() {
    let server = Server::start_without_dsps();
    let ready = server.get("/readyz");
    assert!(ready.status == 200 && ready.text().contains('1'), "{ready:?}");
    assert_eq!((server.get("/healthz").status, server.get("/healthz").text()), (200, "ok\n".into()));
    let version = server.get("/version");
    assert_eq!(version.header("content-type").as_deref(), Some("application/json"));
    let version: serde_json::Value = serde_json::from_slice(&version.body).expect("JSON");
    assert_eq!((&version["name"], &version["version"]), (&"outcry".into(), &env!("CARGO_PKG_VERSION").into()));

    assert_eq!(server.get("/").status, 404);
    let posted = ask(&server, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((posted.status, posted.header("allow").as_deref()), (405, Some("GET, HEAD")));
    assert_eq!(ask(&server, "hello\r\n\r\n").status, 400);

    // Requests and metrics are two ports: neither answers for the other.
    let mut conn = server.connect();
    conn.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    assert_eq!(read_answer(&mut conn).status, 404);
}
