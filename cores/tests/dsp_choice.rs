//! More DSPs than are asked, over real sockets: what is earned and what is sent, beside the same requests with everybody asked.
mod common;
use common::{Server, ok, outcomes, post, read_answer, request};
use outcry::{
    openrtb::codes::Outcome,
    record::totals::Totals,
    units::{hash_bytes, mix},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

/// Deadlines that a busy machine keeps.
const RULES: &str = "tmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n";
const KEYS: &str = "timeout_ms = 8000\nwarm = 1\n";
const DSPS: usize = 16;
const ASKED: usize = 6;
const ROUNDS: usize = 500;
const CLIENTS: usize = 8;
const PUBLISHERS: usize = 10;

/// A DSP that bids on a request, or does not, by its number and the request's id alone.
fn dsp(number: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("addr");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || converse(stream, number));
        }
    });
    addr
}

fn converse(stream: TcpStream, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(v) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = v.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: serde_json::Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
        out.write_all(&answer(&request, number))?;
    }
}

/// Each has its own price, and publishers of its own, a quarter of all, on which it bids often; on others hardly ever.
fn answer(body: &serde_json::Value, number: usize) -> Vec<u8> {
    let id = body["id"].as_str().unwrap_or("");
    let imp = body["imp"][0]["id"].as_str().unwrap_or("");
    let publisher = body["site"]["publisher"]["id"].as_str().unwrap_or("");
    let nature = mix(number as u64 ^ 0xd5b);
    let draw = mix(hash_bytes(nature, id.as_bytes()));
    let chance = if hash_bytes(nature, publisher.as_bytes()).is_multiple_of(4) { 70 } else { 1 };
    if draw % 100 >= chance {
        return b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    }
    let price = 200 + nature % 1_500 + (draw >> 32) % 600;
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"bid":[{{"id":"b","impid":"{imp}","price":{}.{:03},"adm":"<a>{number}</a>","adomain":["x.example"],"crid":"c"}}]}}]}}"#,
        price / 1_000,
        price % 1_000
    ))
}

/// Two cores send a DSP no more than it takes, and the others are asked for everything.
#[test]
fn a_quota_holds_for_both_cores_together() {
    const QPS: u64 = 50;
    let limited = format!("{KEYS}qps = {QPS}\n");
    let dsps = [(dsp(0), limited.as_str()), (dsp(6), KEYS), (dsp(7), KEYS)];
    let begin = Instant::now();
    let server = Server::start_as_on(2, &dsps, &format!("[auction]\n{RULES}"));
    ask_from_all(&server, 300);
    let totals = server.totals();
    let seconds = begin.elapsed().as_secs() + 1;
    let rows = [0, 1, 2].map(|d| totals.dsp_row(d));
    let all = (CLIENTS * 300) as u64;
    println!("{} of {all} sent in less than {seconds} s", rows[0].asked);
    assert!(rows[0].asked <= QPS * seconds + QPS / 10 + 2, "{} sent in less than {seconds} s", rows[0].asked);
    assert_eq!(count_of(&totals, Outcome::Quota), all - rows[0].asked, "whoever is not asked has spent his share");
    assert_eq!((rows[1].asked, rows[2].asked), (all, all));
}

fn count_of(totals: &Totals, outcome: Outcome) -> u64 {
    outcomes(totals, 0).iter().find(|(o, _)| *o == outcome).map_or(0, |(_, n)| *n)
}

struct Run {
    asked: u64,
    charged: i128,
    bids: u64,
    each: Vec<u64>,
}

/// Clients that ask one after the other, so many times each.
fn ask_from_all(server: &Server, rounds: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let mut conn = server.connect();
            scope.spawn(move || {
                for round in 0..rounds {
                    let publisher =
                        format!("\"site\":{{\"publisher\":{{\"id\":\"p-{}\"}}}}", (client + round) % PUBLISHERS);
                    let body = request(&format!("r-{client}-{round}")).replace("\"site\":{}", &publisher);
                    conn.write_all(post(&body, "").as_bytes()).expect("write");
                    let answer = read_answer(&mut conn);
                    assert!(matches!(answer.status, 200 | 204), "{answer:?}");
                }
            });
        }
    });
}

/// The same requests, with so many DSPs asked at most.
fn run(asked_max: usize, rounds: usize) -> Run {
    let addrs: Vec<SocketAddr> = (0..DSPS).map(dsp).collect();
    let dsps: Vec<(SocketAddr, &str)> = addrs.iter().map(|a| (*a, KEYS)).collect();
    let server = Server::start_as(&dsps, &format!("[auction]\nasked_max = {asked_max}\n{RULES}"));
    ask_from_all(&server, rounds);
    let totals = server.totals();
    let rows: Vec<_> = (0..DSPS).map(|d| totals.dsp_row(d)).collect();
    for (at, row) in rows.iter().enumerate() {
        assert_eq!(row.asked + row.not_asked, (CLIENTS * rounds) as u64, "every auction says what became of {at}");
        assert_eq!(row.bids + row.no_bids, row.asked, "{row:?}");
    }
    Run {
        asked: rows.iter().map(|r| r.asked).sum(),
        charged: rows.iter().map(|r| r.charge_nanos).sum(),
        bids: rows.iter().map(|r| r.bids).sum(),
        each: rows.iter().map(|r| r.asked).collect(),
    }
}

#[test]
fn fewer_are_asked_and_little_is_lost() {
    let rounds = ROUNDS;
    let (all, some) = (run(DSPS, rounds), run(ASKED, rounds));
    let auctions = (CLIENTS * rounds) as u64;
    assert_eq!(all.asked, auctions * DSPS as u64);
    assert_eq!(some.asked, auctions * ASKED as u64);
    let share = |part: u64, of: u64| part * 1_000 / of;
    let kept = (some.charged * 1_000 / all.charged) as u64;
    println!(
        "{auctions} auctions, {DSPS} DSPs: calls {} -> {}, bids {} -> {}, revenue {} of 1000; asked {:?}",
        all.asked, some.asked, all.bids, some.bids, kept, some.each
    );
    assert!(kept >= 850, "{kept} of 1000 are left of what everybody together brings");
    assert!(share(some.bids, some.asked) > share(all.bids, all.asked), "more of what is sent is bid on");
    assert!(some.each.iter().all(|n| *n > 0), "nobody is forgotten: {:?}", some.each);
}
