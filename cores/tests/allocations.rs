//! After warm-up a bidder core allocates nothing for an auction: banner, video and several impressions; bids, no-bids,
//! timeouts, rejections, refused requests; paid from budgets, not paid, not delivered; over real sockets.
mod common;
use common::{
    Server, ok, post, read_answer,
    tls::{self, Authority},
};
use outcry::record::labels::{Delivered, LossReason};
use rustls::version::{TLS12, TLS13};
use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
    io::Write,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts the allocations of bidder threads, which it knows by their names.
struct Counting;

static BIDDER_ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// 0: not looked at yet; 1: a bidder; 2: another.
    static ROLE: Cell<u8> = const { Cell::new(0) };
}

fn count() {
    // At a thread's very end its locals are gone; nobody's auction runs there.
    let _ = ROLE.try_with(|role| {
        if role.get() == 0 {
            role.set(2); // asking for the name may allocate
            if std::thread::current().name().is_some_and(|n| n.starts_with("outcry-bid")) {
                role.set(1);
            }
        }
        if role.get() == 1 {
            BIDDER_ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    });
}

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is passed on.
        unsafe { std::alloc::System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { std::alloc::System.dealloc(ptr, layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is passed on.
        unsafe { std::alloc::System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn bid(request: &serde_json::Value, price: &str) -> String {
    bid_of(request, "k", price)
}

fn bid_of(request: &serde_json::Value, cid: &str, price: &str) -> String {
    let bids: Vec<String> = request["imp"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|imp| {
            let impid = imp["id"].as_str().unwrap_or("");
            format!(
                r#"{{"id":"b","impid":"{impid}","price":{price},"adm":"<a href='${{AUCTION_PRICE}}'>{}</a>","adomain":["x.example"],"crid":"c","cid":"{cid}","nurl":"https://x.example/?p=${{AUCTION_PRICE}}"}}"#,
                "m".repeat(600)
            )
        })
        .collect();
    let id = request["id"].as_str().unwrap_or("");
    format!(r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{}]}}]}}"#, bids.join(","))
}

/// The request's own id says what this DSP is to do.
fn moody(request: &serde_json::Value) -> Vec<u8> {
    let id = request["id"].as_str().unwrap_or("");
    match id.split('-').next() {
        Some("nobid") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("bad") => ok("{\"id\":"),
        Some("low") => ok(&bid(request, "0.01")),
        Some("late") => {
            std::thread::sleep(std::time::Duration::from_millis(60)); // what a slow DSP does; nothing waits for it
            ok(&bid(request, "2.00"))
        }
        _ => ok(&bid(request, "1.75")),
    }
}

fn steady(request: &serde_json::Value) -> Vec<u8> {
    match request["id"].as_str() {
        Some(id) if id.starts_with("nobid") => ok("{}"),
        _ => ok(&bid(request, "1.25")),
    }
}

const IMPS: [&str; 3] = [
    r#"{"id":"1","bidfloor":0.5,"banner":{"w":300,"h":250}}"#,
    r#"{"id":"1","bidfloor":0.5,"video":{"mimes":["video/mp4"],"w":640,"h":360,"minduration":5,"maxduration":30}}"#,
    r#"{"id":"1","banner":{"format":[{"w":300,"h":250},{"w":728,"h":90}]}},{"id":"2","audio":{"mimes":["audio/mp4"]}},{"id":"3","pmp":{"deals":[{"id":"d","bidfloor":1}]},"banner":{}}"#,
];

fn requests() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for kind in ["bid", "nobid", "bad", "low", "late"] {
        for (i, imps) in IMPS.iter().enumerate() {
            let body = format!(
                r#"{{"id":"{kind}-{i}","tmax":50,"imp":[{imps}],"site":{{"domain":"a.example","page":"https://a.example/"}},"badv":["evil.example","worse.example"],"user":{{"id":"u"}},"source":{{"schain":{{"complete":1,"ver":"1.0","nodes":[{{"asi":"a.example","sid":"1","hp":1}}]}}}}}}"#
            );
            all.push(post(&body, "").into_bytes());
        }
    }
    all.push(post(r#"{"id":"x","imp":[]}"#, "").into_bytes());
    all.push(post("{", "").into_bytes());
    all.push(post(&all_pods(), "").into_bytes());
    all
}

fn all_pods() -> String {
    r#"{"id":"pod","imp":[{"id":"1","video":{"mimes":["video/mp4"],"poddur":60,"maxseq":3}}]}"#.to_string()
}

/// Runs rounds of so many auctions until three in a row allocate nothing. Warm-up ends where pools have grown to what this
/// traffic needs at its busiest; how soon that is depends on how answers happen to overlap. An allocation that belongs to an
/// auction would never let three rounds pass.
fn quiet_at_last(auctions: usize, round: &mut dyn FnMut()) {
    let (mut quiet, mut rounds) = (0, 0);
    while quiet < 3 {
        let before = BIDDER_ALLOCATIONS.load(Ordering::Relaxed);
        round();
        rounds += 1;
        let new = BIDDER_ALLOCATIONS.load(Ordering::Relaxed) - before;
        quiet = if new == 0 { quiet + 1 } else { 0 };
        assert!(rounds < 60, "after {rounds} rounds of {auctions} auctions there are still {new} allocations in one");
    }
}

/// Bids of the campaign that the request's id begins with.
fn buyer(request: &serde_json::Value) -> Vec<u8> {
    let id = request["id"].as_str().unwrap_or("");
    let cid = id.split('-').next().unwrap_or("");
    if cid == "gone" {
        std::thread::sleep(std::time::Duration::from_millis(20)); // its client leaves meanwhile
    }
    ok(&bid_of(request, if cid == "gone" { "rich" } else { cid }, "1.75"))
}

const BUDGETS: &str = r#"
[[advertiser]]
name = "acme"
daily = 1000000
[[advertiser.campaign]]
name = "rich"
dsp = "dsp-0"
seat = "s"
cid = "rich"
daily = 100000
[[advertiser.campaign]]
name = "poor"
dsp = "dsp-0"
seat = "s"
cid = "poor"
daily = "0.000001"
"#;

/// One at a time: allocations are counted for all bidder threads of the process.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Won and charged; refused for lack of money, and for lack of an account; charged and not delivered.
#[test]
fn an_auction_with_budgets_allocates_nothing_after_warm_up() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let file = std::env::temp_dir().join(format!("outcry-allocations-{}.toml", std::process::id()));
    std::fs::write(&file, BUDGETS).expect("write");
    let server = Server::start_with(&[buyer], &format!("[budget]\nfile = \"{}\"\n", file.display()));
    let requests = ["rich", "poor", "unknown", "gone"].map(|kind| {
        let body = format!(r#"{{"id":"{kind}-1","tmax":200,"imp":[{}],"site":{{"domain":"a.example"}}}}"#, IMPS[0]);
        (kind, post(&body, "").into_bytes())
    });
    let mut conn = server.connect();
    let mut bids = 0;
    let mut round = || {
        for (kind, request) in &requests {
            for _ in 0..4 {
                if *kind == "gone" {
                    let mut leaving = server.connect();
                    leaving.write_all(request).expect("write");
                    // It is reset, so that nothing can be written to it.
                    socket2::SockRef::from(&leaving).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
                    continue;
                }
                loop {
                    conn.write_all(request).expect("write");
                    let won = read_answer(&mut conn).status == 200;
                    bids += u64::from(won);
                    // There is money for it, and more comes.
                    if won || *kind != "rich" {
                        break;
                    }
                }
            }
        }
    };
    quiet_at_last(4 * requests.len(), &mut round);
    std::fs::remove_file(&file).expect("removed");
    let totals = server.totals();
    let (funds, account) = (totals.losses(LossReason::NoFunds), totals.losses(LossReason::NoAccount));
    let left = totals.deliveries(Delivered::ClientLeft);
    assert!(bids > 0 && funds > 0 && account > 0 && left > 0, "{bids} won, {funds}, {account}, {left} left");
}

#[test]
fn an_auction_allocates_nothing_after_warm_up() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let server = Server::start_with(
        // One more than are asked, so that they are chosen.
        &[moody, steady, steady],
        // Half of them are kept whole as well.
        "[raw]\none_in = 2\n[auction]\nasked_max = 2\nnetwork_ms = 5\ndsp_ms = 40\n[auction.schain]\nasi = \"ours.example\"\nsid = \"7\"\n\
         [[house]]\ncrid = \"own\"\nmedia = \"banner\"\nw = 300\nh = 250\nadm = \"<b>own</b>\"\nmax_price = 1\n",
    );
    let requests = requests();
    let mut conns: Vec<_> = (0..3).map(|_| server.connect()).collect();
    let mut statuses = std::collections::BTreeMap::new();
    let mut round = || {
        for request in &requests {
            // Several auctions at once, then their answers.
            for conn in &mut conns {
                conn.write_all(request).expect("write");
            }
            for conn in &mut conns {
                *statuses.entry(read_answer(conn).status).or_insert(0) += 1;
            }
        }
    };
    let auctions = 3 * requests.len();
    quiet_at_last(auctions, &mut round);
    assert!(BIDDER_ALLOCATIONS.load(Ordering::Relaxed) > 0, "the bidder thread is not counted");
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [200, 204, 400], "all kinds of answers: {statuses:?}");
    drop(conns);
    assert!(server.totals().counter(outcry::record::labels::Counter::HouseAnswers) > 0, "house ads among them");
}

/// Behind TLS: rustls makes each record anew, one allocation for each request and one for each answer. No more, and none of ours.
#[test]
fn a_call_behind_tls_allocates_its_two_records() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let by = Authority::new();
    let keys = format!("timeout_ms = 8000\nwarm = 4\n{}", by.keys());
    let dsps = [&TLS13, &TLS12].map(|version| {
        let addr = tls::dsp(tls::server(by.sign("127.0.0.1", false), &[version], b"http/1.1"), steady);
        (format!("https://{addr}/bid"), keys.as_str())
    });
    let rules = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n";
    let server = Server::start_urls(&dsps, rules);
    let mut conn = server.connect();
    let request = post(&format!(r#"{{"id":"t","tmax":10000,"imp":[{}],"site":{{}}}}"#, IMPS[0]), "").into_bytes();
    const AUCTIONS: u64 = 50;
    const RECORDS: u64 = AUCTIONS * 2 * 2;
    let mut rounds = Vec::new();
    // Tickets come behind the handshakes, pools grow to what the traffic needs, and on a busy machine an answer comes in two pieces.
    while rounds.len() < 3 || rounds[rounds.len() - 3..] != [RECORDS; 3] {
        let before = BIDDER_ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..AUCTIONS {
            conn.write_all(&request).expect("write");
            assert_eq!(read_answer(&mut conn).status, 200);
        }
        rounds.push(BIDDER_ALLOCATIONS.load(Ordering::Relaxed) - before);
        assert!(rounds.len() < 60, "never {RECORDS} and no more: {rounds:?}");
    }
    println!("allocations in rounds of {AUCTIONS} auctions of two DSPs: {rounds:?}");
}

/// Where notices are taken: it says 204 to whatever comes, and counts what was won or billed.
static TOLD: std::sync::OnceLock<std::net::SocketAddr> = std::sync::OnceLock::new();
static TOLD_OF_WINS: AtomicU64 = AtomicU64::new(0);

fn listens() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut out = stream.try_clone().expect("a socket");
                let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream)).map_while(Result::ok);
                while let Some(first) = lines.next() {
                    let rest = lines.by_ref().take_while(|line| !line.is_empty()).count();
                    let said = out.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                    if !first.starts_with("GET /lost") {
                        TOLD_OF_WINS.fetch_add(1, Ordering::Relaxed);
                    }
                    if rest == 0 || said.is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn noticed(request: &serde_json::Value) -> Vec<u8> {
    let (id, told) = (request["id"].as_str().unwrap_or(""), TOLD.get().expect("it listens"));
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{{"id":"b","impid":"1","price":2,"adm":"<b>","adomain":["x.example"],"crid":"c","nurl":"http:\/\/{told}/won?b=${{AUCTION_BID_ID}}","burl":"http://{told}/billed?p=${{AUCTION_PRICE}}"}}]}}]}}"#
    ))
}

/// Loses, and wants to hear of it.
fn loser(request: &serde_json::Value) -> Vec<u8> {
    let (id, told) = (request["id"].as_str().unwrap_or(""), TOLD.get().expect("it listens"));
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"seat":"s","bid":[{{"id":"b","impid":"1","price":1,"adm":"<b>","adomain":["x.example"],"crid":"c","lurl":"http://{told}/lost?l=${{AUCTION_LOSS}}&m=${{AUCTION_MIN_TO_WIN}}"}}]}}]}}"#
    ))
}

/// Answers with notice URLs of ours, each called, one of them twice and once with a character changed; and the DSPs
/// told, the one that lost too.
#[test]
fn a_notice_allocates_nothing_after_warm_up() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let told = *TOLD.get_or_init(listens);
    let keys = format!("warm = 2\nnotice_hosts = [\"{told}\"]\n");
    let server = Server::start_as(
        &[(common::dsp(noticed), &keys), (common::dsp(loser), &keys)],
        "[notices]\nurl = \"http://we.example\"\nlosses = \"min_to_win\"\n[[exchange]]\nname = \"x\"\npath = \"/openrtb2/auction\"\n",
    );
    let mut conn = server.connect();
    let request = post(&format!(r#"{{"id":"n","imp":[{}],"site":{{}}}}"#, IMPS[0]), "").into_bytes();
    let mut statuses = std::collections::BTreeMap::new();
    let mut won_and_billed = 0;
    let mut round = || {
        for _ in 0..8 {
            won_and_billed += 2;
            conn.write_all(&request).expect("write");
            let answer = read_answer(&mut conn);
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
            let bid = &answer["seatbid"][0]["bid"][0];
            let [won, billed] =
                ["nurl", "burl"].map(|name| bid[name].as_str().expect("a URL").replacen("http://we.example", "", 1));
            let forged = format!("{}{}", &billed[..billed.len() - 1], if billed.ends_with('A') { 'B' } else { 'A' });
            for path in [&won, &billed, &billed, &forged] {
                write!(conn, "GET {path} HTTP/1.1\r\nHost: we.example\r\n\r\n").expect("write");
                *statuses.entry(read_answer(&mut conn).status).or_insert(0) += 1;
            }
        }
        // Flush hands the calls out some milliseconds later: they belong to this round.
        let by = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while TOLD_OF_WINS.load(Ordering::Relaxed) < won_and_billed {
            assert!(std::time::Instant::now() < by, "not all are told");
            std::thread::yield_now();
        }
    };
    quiet_at_last(8, &mut round);
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), [204, 404]);
    let totals = server.totals();
    let done = totals.counter(outcry::record::labels::Counter::NoticeCallsDone);
    let lost = totals.counter(outcry::record::labels::Counter::LossNoticesSent);
    assert!(done >= 48 && lost > 0, "{done} DSPs were told of wins, {lost} of losses");
}
