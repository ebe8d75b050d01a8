//! Requests and answers kept whole, from sockets to files and back: what is in them, what is not, what they cost when they are
//! off; and nothing of a person in what is kept of real requests.
mod common;
use common::{Dsp, SMALL, bidder, connect, ok, post, read_answer};
use flate2::read::MultiGzDecoder;
use outcry::{
    limits::RAW_RING_BYTES,
    record::{labels::Counter, personal::Personal, raw, totals::Totals},
    units::Now,
};
use outcry_cores::{
    bidder::{
        Bidder, Identity,
        copying::Copies,
        transport::{Sock, Transport},
    },
    boot::Source,
    lab::{by_hand, requests},
    wiring::wire,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

/// The state directory of an exchange, longer there than its server.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outcry-raw-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Dir(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&dir.0);
        dir
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(self.0.join("raw")).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        files
    }

    /// Every line, as whoever has gzip and a reader of JSON sees it.
    fn lines(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for file in self.files() {
            let mut text = String::new();
            MultiGzDecoder::new(fs::File::open(file).expect("it")).read_to_string(&mut text).expect("whole gzip");
            all.extend(text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{e}: {l}"))));
        }
        all
    }

    fn audit(&self, id: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outcry"));
        command.args(["audit", "raw", id]).arg(&self.0).args(more).output().expect("outcry runs")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Answers what is no JSON.
fn garbled(_: &Value) -> Vec<u8> {
    ok("{\"id\":")
}

fn silent(_: &Value) -> Vec<u8> {
    b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()
}

/// Bids, and writes into its markup what it knows of the person.
fn talkative(request: &Value) -> Vec<u8> {
    let (ifa, id) = (&request["device"]["ifa"], &request["id"]);
    let adm = format!("<img src='https://t.example/?ifa={}'>", ifa.as_str().unwrap_or("none"));
    ok(&json!({"id": id, "seatbid": [{"bid": [{"id": "b", "impid": "1", "price": 2, "adm": adm, "crid": "c"}]}]})
        .to_string())
}

/// An exchange whose state directory survives it: runs `ask` against it, stops it, and says what it counted.
fn exchange(dir: &Dir, raw: &str, dsps: &[Dsp], ask: impl FnOnce(SocketAddr)) -> Totals {
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[cpus]\nbidder_count = 1\n[record]\n{SMALL}{raw}\n",
        dir.0.display()
    );
    for (i, dsp) in dsps.iter().enumerate() {
        text += &format!("[[dsp]]\nname = \"dsp-{i}\"\nurl = \"http://{}/bid\"\nwarm = 1\n", common::dsp(*dsp));
    }
    let exchange = outcry_cores::boot::start(&text).unwrap_or_else(|e| panic!("{e}"));
    let handle = std::sync::Arc::clone(&exchange.handle);
    ask(exchange.listen());
    exchange.stop().expect("stopped in order");
    handle.totals()
}

const IFA: &str = "AEBE52E7-03EE-455A-B3C4-E57283966239";

fn personal(id: &str) -> Value {
    json!({
        "id": id, "tmax": 10000, "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}],
        "site": {"page": "https://a.example/x?person=somebody", "domain": "a.example"},
        "device": {"ip": "203.0.113.77", "ifa": IFA, "ua": "Mozilla/5.0", "geo": {"lat": 48.8566, "country": "FRA"}},
        "user": {"id": "user-4711", "consent": "CPxx", "eids": [{"source": "s.example", "uids": [{"id": "eid-4711"}]}]},
    })
}

#[test]
fn an_auctions_request_and_answers_are_kept_together_without_the_person() {
    let dir = Dir::new();
    let (mut answers, ids) = (BTreeMap::new(), ["r-1", "r-2", "r-3"]);
    let totals = exchange(&dir, "[raw]\none_in = 1\n", &[talkative, garbled, silent], |addr| {
        let mut conn = connect(addr);
        for id in ids {
            conn.write_all(post(&personal(id).to_string(), "").as_bytes()).expect("write");
            let answer = read_answer(&mut conn);
            assert_eq!(answer.status, 200);
            answers.insert(id, answer.text());
        }
    });
    let lines = dir.lines();
    assert_eq!(lines.len(), ids.len() * 5, "request, three answers, what was sent: {lines:#?}");
    let mut wanted = personal("");
    wanted["device"] =
        json!({"ip": "203.0.113.0", "ifa": "***", "ua": "Mozilla/5.0", "geo": {"lat": 48.8, "country": "FRA"}});
    wanted["user"] = json!({"id": "***", "consent": "CPxx", "eids": []});
    wanted["site"]["page"] = json!("https://a.example/x?***");
    for (auction, id) in lines.chunks(5).zip(ids) {
        assert!(
            auction.iter().all(|l| l["id"] == id && l["event"] == auction[0]["event"] && l["exchange"] == "default")
        );
        assert!(auction.iter().all(|l| l["wall_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000)));
        wanted["id"] = json!(id);
        assert_eq!((&auction[0]["what"], &auction[0]["body"]), (&json!("request"), &wanted));
        let by_dsp =
            |dsp: &str| auction.iter().find(|l| l["dsp"] == dsp).unwrap_or_else(|| panic!("{dsp}: {auction:#?}"));
        let stars = "*".repeat(IFA.len());
        let adm = format!("<img src='https://t.example/?ifa={stars}'>");
        assert_eq!(by_dsp("dsp-0")["body"]["seatbid"][0]["bid"][0]["adm"], adm);
        assert_eq!((&by_dsp("dsp-1")["body"], &by_dsp("dsp-1")["unreadable"]), (&Value::Null, &json!(6)));
        assert_eq!((&by_dsp("dsp-2")["body"], &by_dsp("dsp-2")["status"]), (&Value::Null, &json!(204)));
        let sent: Value = serde_json::from_str(&answers[id].replace(IFA, &stars)).expect("JSON");
        assert_eq!(
            (&auction[4]["what"], &auction[4]["status"], &auction[4]["body"]),
            (&json!("sent"), &json!(200), &sent)
        );
    }
    let bytes: u64 = dir.files().iter().map(|f| fs::metadata(f).expect("it").len()).sum();
    let counts = [Counter::RawAuctions, Counter::RawBytes, Counter::RawNotJson, Counter::RawRingFull];
    assert_eq!(counts.map(|c| totals.counter(c)), [3, bytes, 3, 0]);
    let mode = |path: &Path| fs::metadata(path).expect("it").permissions().mode() & 0o777;
    assert_eq!((mode(&dir.0.join("raw")), mode(&dir.files()[0])), (0o700, 0o600), "for nobody else");

    // And found again, by either name.
    let text = |out: &Output| String::from_utf8_lossy(&out.stdout).into_owned();
    let event = lines[5]["event"].as_str().expect("an event");
    let (by_event, by_id) = (dir.audit(event, &["--json"]), dir.audit("r-2", &["--json"]));
    assert!(by_event.status.success() && by_event.stdout == by_id.stdout, "{by_event:?} {by_id:?}");
    let found: Vec<Value> = text(&by_event).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(found, lines[5..10]);
    let table = text(&dir.audit("r-2", &[]));
    for says in [
        &format!("{event} 20"),
        "request of default\n{",
        "answer of dsp-0, 200\n{",
        "answer of dsp-1, 200, 6 bytes that are no JSON\n",
        "answer of dsp-2, 204, no body\n",
        "sent, 200\n{",
    ] {
        assert!(table.contains(says), "{says}: {table}");
    }
    let none = dir.audit("r-4", &[]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("raw.one_in"), "{none:?}");
    // A file that a kill tore: what is before is read.
    let file = &dir.files()[0];
    let whole = fs::read(file).expect("it");
    fs::write(file, [&whole[..], &whole[..whole.len() / 2]].concat()).expect("written");
    let torn = dir.audit("r-1", &["--json"]);
    assert!(torn.status.success() && String::from_utf8_lossy(&torn.stderr).contains("torn"), "{torn:?}");
    assert!(text(&torn).lines().count() >= 5);
}

#[test]
fn the_loud_key_keeps_what_came() {
    let dir = Dir::new();
    let body = serde_json::to_string_pretty(&personal("r-1")).expect("JSON");
    exchange(&dir, "[raw]\none_in = 1\nkeeps_personal_data = true\n", &[talkative], |addr| {
        let mut conn = connect(addr);
        conn.write_all(post(&body, "").as_bytes()).expect("write");
        assert!(read_answer(&mut conn).text().contains(IFA));
    });
    let lines = dir.lines();
    assert_eq!(lines[0]["body"], personal("r-1"));
    assert!(lines[1..].iter().all(|l| l["body"].to_string().contains(IFA)), "{lines:#?}");
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let dir = Dir::new();
    let ask = |addr| {
        let mut conn = connect(addr);
        conn.write_all(post(&personal("r-1").to_string(), "").as_bytes()).expect("write");
        assert_eq!(read_answer(&mut conn).status, 200);
    };
    let totals = exchange(&dir, "", &[bidder], ask);
    assert!(totals.counter(Counter::Auctions) == 1 && totals.counter(Counter::RawAuctions) == 0);
    assert!(!dir.0.join("raw").exists(), "not even a directory");
    // The next start writes files of its own.
    for starts in 1..=2 {
        let totals = exchange(&dir, "[raw]\none_in = 1\n", &[bidder], ask);
        assert_eq!((totals.counter(Counter::RawAuctions), dir.files().len()), (1, starts));
    }
}

#[test]
fn a_reload_changes_how_many_are_kept_and_no_more() {
    let dir = Dir::new();
    fs::create_dir_all(&dir.0).expect("a directory");
    let file = dir.0.join("outcry.toml");
    let write = |raw: &str| {
        let text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n[cpus]\nbidder_count = 1\n[record]\n{SMALL}{raw}\n",
            dir.0.display()
        );
        fs::write(&file, text).expect("written");
    };
    write("");
    let exchange =
        outcry_cores::boot::start_from(Source::File(file.clone()), &mut |_| ()).unwrap_or_else(|e| panic!("{e}"));
    let handle = std::sync::Arc::clone(&exchange.handle);
    let mut conn = connect(exchange.listen());
    let mut seq = 0;
    let mut ask_until = |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..1_000_000 {
            if done() {
                return;
            }
            seq += 1;
            conn.write_all(post(&common::request(&format!("r-{seq}")), "").as_bytes()).expect("write");
            assert_eq!(read_answer(&mut conn).status, 204);
        }
        panic!("{what}");
    };
    for refused in ["keep_days = 9", "keep_bytes = 1048576", "keeps_personal_data = true"] {
        write(&format!("[raw]\none_in = 1\n{refused}"));
        let before = handle.totals().counter(Counter::ReloadsRefused);
        handle.request_reload();
        ask_until(refused, &|| handle.totals().counter(Counter::ReloadsRefused) > before);
    }
    assert!(dir.files().is_empty());
    write("[raw]\none_in = 1");
    handle.request_reload();
    ask_until("kept after a reload", &|| !dir.files().is_empty());
    exchange.stop().expect("stopped in order");
    let lines = dir.lines();
    assert!(lines.len() > 1 && lines.len().is_multiple_of(2), "requests, each with its answer: {}", lines.len());
}

/// Takes everything at once.
struct Sink;

impl Transport for Sink {
    fn send(&mut self, _: Sock, _: Vec<u8>) {}
    fn connect(&mut self, _: Sock, _: SocketAddr) {}
    fn resume(&mut self, _: Sock) {}
    fn shutdown(&mut self, _: Sock) {}
    fn close(&mut self, _: Sock) {}
    fn precise_ns(&mut self) -> u64 {
        0
    }
}

#[test]
fn a_full_ring_drops_auctions_whole_and_counts_them() {
    const BODY: usize = 200_000;
    let now = Now { boot_ns: 1 << 40, wall_offset_ns: 0 };
    let config = by_hand::core_config("[raw]\none_in = 1\n", 1);
    let mut bidder = Bidder::new(Identity { node: 1, epoch: 1, core: 0, seed: 1 }, config, 1, now);
    let mut wiring = wire(1).expect("a core");
    bidder.copy_with(Copies::into(wiring.bidders.remove(0).raw));
    let sock = bidder.on_accept(now).expect("room");
    let auctions = RAW_RING_BYTES / BODY + 10;
    for n in 0..auctions {
        let body =
            format!(r#"{{"id":"r-{n}","imp":[{{"id":"1","banner":{{}}}}],"ext":{{"x":"{}"}}}}"#, "x".repeat(BODY));
        bidder.on_read(sock, Ok(post(&body, "").as_bytes()), now, &mut Sink);
        bidder.end_turn(now, &mut Sink);
    }
    let mut totals = Totals::new(1, 1);
    totals.merge(0, &bidder.metrics);
    let dropped = totals.counter(Counter::RawRingFull) as usize;
    assert_eq!(totals.counter(Counter::Auctions) as usize, auctions, "they are answered all the same");
    assert!((10..=11).contains(&dropped), "{dropped} of {auctions}");
    let (ring, mut kept) = (&mut wiring.raw.cores[0], 0);
    while ring.slots() > 0 {
        let mut len = [0; raw::LEN_BYTES];
        ring.pop_entire_slice(&mut len).expect("a length");
        let mut frame = vec![0; u32::from_le_bytes(len) as usize - raw::LEN_BYTES];
        ring.pop_entire_slice(&mut frame).expect("a whole frame");
        let (_, messages) = raw::read_frame(&frame).expect("a frame");
        assert_eq!(messages.map(|m| m.status).collect::<Vec<_>>(), [0, 204], "request and answer");
        kept += 1;
    }
    assert_eq!(kept + dropped, auctions);
}

// --- real requests -------------------------------------------------------------------------------

/// Members that are about a person whatever object they stand in, or that hold such: written down once more, since the tables
/// of the product are what is judged.
const ABOUT: [&str; 16] = [
    "device",
    "user",
    "geo",
    "eids",
    "ip",
    "ipv6",
    "ifa",
    "buyeruid",
    "buyeruids",
    "customdata",
    "didsha1",
    "didmd5",
    "dpidsha1",
    "dpidmd5",
    "macsha1",
    "macmd5",
];

/// Takes out what is about a person; ids among it go into `ids`.
fn take_out(value: &mut Value, ids: &mut Vec<String>) {
    fn strings(value: &Value, key: &str, ids: &mut Vec<String>) {
        match value {
            Value::String(s) => {
                let is_id = ["id", "ip", "ipv6", "ifa", "buyeruid", "customdata"].contains(&key)
                    || ["did", "dpid", "mac"].iter().any(|p| key.starts_with(p));
                ids.extend((is_id && s.len() >= 8).then(|| s.to_ascii_lowercase()));
            }
            // Segments have ids that are names of interests.
            Value::Object(members) => members.iter().filter(|m| m.0 != "data").for_each(|(k, v)| strings(v, k, ids)),
            Value::Array(all) => all.iter().for_each(|v| strings(v, key, ids)),
            _ => {}
        }
    }
    match value {
        Value::Array(all) => all.iter_mut().for_each(|v| take_out(v, ids)),
        Value::Object(members) => {
            for name in ABOUT {
                if let Some(gone) = members.remove(name) {
                    strings(&gone, name, ids);
                }
            }
            for name in ["site", "app"] {
                let Some(Value::Object(site)) = members.get_mut(name) else { continue };
                ["page", "ref", "url", "search", "content"].iter().for_each(|name| drop(site.remove(*name)));
            }
            members.values_mut().for_each(|v| take_out(v, ids));
        }
        _ => {}
    }
}

/// Equal, but for texts that held one of the ids.
fn same(a: &Value, b: &Value, ids: &[String]) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => {
            a == b || {
                let a = a.to_ascii_lowercase();
                ids.iter().any(|id| a.contains(id))
            }
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, ids)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((ka, a), (kb, b))| (ka == kb || ids.contains(ka)) && same(a, b, ids))
        }
        (a, b) => a == b,
    }
}

/// Nothing of a person stays, nothing else changes. Returns how many ids there were.
fn check_kept(what: &str, json: &[u8]) -> usize {
    let (mut personal, mut out) = (Personal::default(), Vec::new());
    personal.learn(json);
    personal.replace(json, &mut out).unwrap_or_else(|e| panic!("{what}: {e}"));
    let kept = String::from_utf8(out).expect("text");
    let (mut before, mut after): (Value, Value) = (
        serde_json::from_slice(json).expect("JSON"),
        serde_json::from_str(&kept).unwrap_or_else(|e| panic!("{what}: {e}: {kept}")),
    );
    let mut ids = Vec::new();
    take_out(&mut before, &mut ids);
    take_out(&mut after, &mut Vec::new());
    let lower = kept.to_ascii_lowercase();
    for id in &ids {
        // An address may be its own network.
        let network = id.parse::<std::net::IpAddr>().is_ok() && (id.ends_with(".0") || id.ends_with("::"));
        assert!(network || !lower.contains(id.as_str()), "{what}: {id} in {kept}");
    }
    assert!(same(&before, &after, &ids), "{what}:\n{before}\n{after}");
    ids.len()
}

#[test]
fn requests_of_the_laboratory_lose_the_person_and_nothing_else() {
    let ids: usize = requests::generate(7, 500).iter().map(|t| check_kept("seed 7", &t.body)).sum();
    assert!(ids > 500, "{ids} ids in 500 requests");
}

#[test]
fn requests_of_others_lose_the_person_and_nothing_else() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/prebid-server");
    if !root.is_dir() {
        return println!("SKIPPED: no {}", root.display());
    }
    let (mut folders, mut files, mut ids) = (vec![root], 0, 0);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").flatten().map(|e| e.path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            // Files around a request, too: device and user are found wherever they stand. Some are no JSON on purpose.
            if serde_json::from_slice::<Value>(&bytes).is_ok() {
                ids += check_kept(&path.display().to_string(), &bytes);
                files += 1;
            }
        }
    }
    assert!(files > 100 && ids > 20, "{ids} ids in {files} files");
}
