//! `outcry tiers` and `outcry audit --tiers` on journals of real auction records: what the journal said is said by rows and by
//! the archive, in a directory and in the S3 bucket that `OUTCRY_TEST_S3` names, if it does (`scripts/tiers` starts a server).
#![cfg(feature = "tiers")]
use outcry::{
    auction::{Delivery, Record, delivery, input::Kept, record},
    budget::{
        AccountId, Period,
        movement::{self, By, Deed, Movement, Terms},
        tree::{Limits, Pacing, State},
    },
    journal::{
        PAGE,
        retention::{Levels, Retention},
        writer::{Class, Refusal, Settings},
    },
    notice::{
        price::Said,
        token,
        told::{NOTICE_VERSION, Name, Notice},
    },
    record::frame::{self, Header, Kind},
    tiers::{hex, house, sha256, table::Column, wins},
    units::{EventId, Now, mix},
};
use outcry_cores::{
    exported::{self, Exported},
    journal::{Journal, JournalSettings, StdDisk},
    tiers::{columns, store::Store},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const NODE: u32 = 0xab;
/// 2026-01-31T12:00:00Z: when the first auction was.
const NOON_MS: u64 = 1_769_860_800_000;
/// One every two minutes: two days, and a bit.
const AUCTIONS: u64 = 1500;
const STEP_MS: u64 = 120_000;
/// Every tenth was not delivered.
const DELIVERED: u64 = 10;
/// Every eleventh has a notice.
const NOTICED: u64 = 11;
/// This one has a notice in the last segment.
const LATE: u64 = 90;
/// A text of an advertiser that no name of an object may have as it is.
const ODD: &str = "../odd/shop.example?x=1&\u{e4}%2F";

/// Whose wins are charged when their notices come.
const WAITS: &str = "waiting.example";

/// A directory that goes when the test has passed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("outcry-tiers-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.0).expect("it").flatten().map(|e| e.path());
        let mut all: Vec<PathBuf> = all.filter(|p| p.extension().is_some_and(|x| x == "log")).collect();
        all.sort();
        all
    }

    fn str(&self) -> &str {
        self.0.to_str().expect("a path")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// A store of a test's own.
struct At {
    url: String,
    _dir: Option<Scratch>,
}

/// Where each test is done: a directory, and a folder in the bucket, if there is one.
fn stores(name: &str) -> Vec<At> {
    let dir = Scratch::new(&format!("{name}-store"));
    let mut all = vec![At { url: dir.str().to_string(), _dir: Some(dir) }];
    match std::env::var("OUTCRY_TEST_S3") {
        Ok(bucket) => all.push(At { url: format!("{bucket}/{name}-{}", std::process::id()), _dir: None }),
        Err(_) => eprintln!("OUTCRY_TEST_S3 names no bucket: {name} is tried on a directory alone"),
    }
    all
}

fn settings() -> JournalSettings {
    let mut writer =
        Settings { node: NODE, segment_bytes: 0, block_bytes: 4 * PAGE, depth: 4, reserve_bytes: 0, entropy: 3 };
    writer.segment_bytes = writer.segment_bytes_min();
    JournalSettings {
        writer,
        checkpoint_bytes: 1 << 20,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}

fn templates() -> Vec<Record> {
    let golden = [
        include_str!("../../src/auction/record/v2.golden.txt"),
        // With house ads, and DSPs that were asked by chance.
        include_str!("../../src/auction/record/v5.golden.txt"),
    ];
    let bytes = |line: &str| -> Vec<u8> {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits")).collect()
    };
    let all = golden.iter().flat_map(|text| text.lines()).map(|line| Record::decode(&bytes(line)).expect("a record"));
    // What costs nothing as it was a test would be decided otherwise below.
    all.filter(|record| !record.inputs.test).collect()
}

fn event(n: u64) -> EventId {
    EventId { node: NODE, epoch: 1, core: 0, seq: n }
}

fn id(n: u64) -> String {
    format!("request-{n:05}")
}

fn kept(texts: &mut Vec<u8>, text: &str) -> Kept {
    let at = texts.len() as u32;
    texts.extend_from_slice(text.as_bytes());
    Kept { at, len: text.len() as u16, cut: false }
}

/// Auction `n`, decided once upon a time by the auction itself.
fn auction(templates: &[Record], n: u64) -> Record {
    let mut record = templates[n as usize % templates.len()].clone();
    let i = &mut record.inputs;
    i.request_id = kept(&mut i.texts, &id(n));
    // Ties are broken by the two together: the decision stays what it was.
    let key = |e: EventId| mix(e.seq ^ u64::from(e.core).rotate_left(48));
    i.entropy ^= key(i.event) ^ key(event(n));
    (i.event, i.wall_ms) = (event(n), NOON_MS + STEP_MS * n);
    // Some wait for their notices; all others are charged at once.
    (i.test, i.awaited_s) = (false, if waits(n) { expires_s(n) } else { 0 });
    let odd = kept(&mut i.texts, if waits(n) { WAITS } else { ODD });
    for win in &mut record.decision.wins {
        (win.account, win.period) = (AccountId(2), Period((NOON_MS / 60_000) as u32));
        if n.is_multiple_of(5) || waits(n) {
            record.inputs.bids[usize::from(win.input)].adomain = odd;
        }
    }
    record
}

fn waits(n: u64) -> bool {
    n % 7 == 3
}

fn expires_s(n: u64) -> u32 {
    ((NOON_MS + STEP_MS * n) / 1000 + 3600) as u32
}

fn account(id: u32, name: &str, advertiser: u32) -> Vec<u8> {
    let after = Terms {
        name: name.into(),
        advertiser: AccountId(advertiser),
        dsp: String::new(),
        seat: String::new(),
        cid: String::new(),
        zone: "UTC".into(),
        since: Period(1),
        limits: Limits { daily: outcry::units::Money(1), hourly: None, lifetime: None },
        extra: None,
        state: State::Active,
        pacing: Pacing::default(),
    };
    let movement = Movement {
        wall_ms: NOON_MS,
        account: AccountId(id),
        deed: Deed::Add,
        by: By::Admin,
        who: String::new(),
        conversion: None,
        before: None,
        after,
    };
    let mut payload = Vec::new();
    movement.encode(&mut payload);
    payload
}

/// What a journal says, added up here.
#[derive(Default, Debug)]
struct Books {
    wins: u64,
    charge: i64,
    notices: u64,
    /// House ads, and what they say that they bid.
    house: (u64, i64),
    /// Wins whose DSP was asked by chance, and the sum of its chances, of 10,000.
    by_chance: (u64, i64),
    /// Wins and charges by advertiser.
    by: BTreeMap<String, (u64, i64)>,
}

/// A notice of what was charged long ago.
fn noticed(n: u64) -> Notice<'static> {
    Notice {
        name: Name { event: event(n), imp: 0, kind: token::Kind::Billed },
        expired: false,
        said: Said::Same,
        price: outcry::units::Cpm(1_000_000),
        charge: outcry::units::Money(1_000_000),
        held: None,
        account: AccountId(2),
        period: Period(7),
        expires_s: expires_s(n),
        buyer: b"",
        url: b"http://dsp.example/bill",
    }
}

/// A journal whose last segment goes on, as a running exchange's does; `extra`: one more frame at the end.
fn written(dir: &Scratch, auctions: u64, extra: Option<(Kind, &[u8])>) -> Books {
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    let (mut journal, _) = Journal::open(disk, settings()).expect("an empty directory");
    let (templates, mut seq, mut said) = (templates(), 0, Books::default());
    let mut push = |ms: u64, kind: Kind, version: u8, payload: &[u8]| {
        seq += 1;
        let mut bytes = Vec::new();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        frame::finish(&mut bytes, at, &Header { seq, epoch: 1, writer: 0, kind: kind as u8, version, hlc: ms << 16 });
        let frame = frame::decode(&bytes).expect("a frame");
        while let Err(e) = journal.push(&frame, Class::Ordinary) {
            assert!(matches!(e, Refusal::Busy | Refusal::Preparing), "{e}");
            journal.turn(Now::default());
        }
        seq
    };
    push(NOON_MS, Kind::Account, movement::VERSION, &account(1, "Shoes & more", 0));
    push(NOON_MS, Kind::Account, movement::VERSION, &account(2, "spring", 1));
    for n in 1..=auctions {
        let ms = NOON_MS + STEP_MS * n;
        let (record, mut payload) = (auction(&templates, n), Vec::new());
        record.encode(&mut payload);
        push(ms, Kind::Auction, record::VERSION, &payload);
        for win in &record.decision.wins {
            let bid = &record.inputs.bids[usize::from(win.input)];
            let whose = String::from_utf8_lossy(record.inputs.text(bid.adomain)).to_ascii_lowercase();
            let of = said.by.entry(whose).or_default();
            *of = (of.0 + 1, of.1 + win.charge.0);
            (said.wins, said.charge) = (said.wins + 1, said.charge + win.charge.0);
            let asked = record.inputs.legs[usize::from(bid.leg)].asked_probability;
            if !asked.is_always() {
                said.by_chance = (said.by_chance.0 + 1, said.by_chance.1 + i64::from(asked.of_10_000()));
            }
        }
        for ad in &record.house {
            said.house = (said.house.0 + 1, said.house.1 + ad.price.0);
        }
        if n.is_multiple_of(DELIVERED) {
            payload.clear();
            Delivery::ClientLeft.encode(event(n), &[], &mut payload);
            push(ms + 40, Kind::Delivery, delivery::FRAME_VERSION, &payload);
        }
        if n.is_multiple_of(NOTICED) {
            payload.clear();
            noticed(n).encode(&mut payload);
            push(ms + 50, Kind::Notice, NOTICE_VERSION, &payload);
            said.notices += 1;
        }
        // Of those that wait, every other one's notice comes, at half the price.
        for win in record.decision.wins.iter().filter(|win| waits(n) && n % 2 == 0 && win.charge.0 > 0) {
            payload.clear();
            let notice = Notice {
                name: Name { event: event(n), imp: win.imp, kind: token::Kind::Billed },
                expired: false,
                said: Said::Lower,
                price: win.price,
                charge: outcry::units::Money(win.charge.0 / 2),
                held: Some(win.charge),
                account: win.account,
                period: win.period,
                expires_s: expires_s(n),
                buyer: b"",
                url: b"",
            };
            notice.encode(&mut payload);
            push(ms + 60, Kind::Notice, NOTICE_VERSION, &payload);
            said.notices += 1;
        }
    }
    let end = NOON_MS + STEP_MS * (auctions + 1);
    let mut late = Vec::new();
    noticed(LATE).encode(&mut late);
    push(end, Kind::Notice, NOTICE_VERSION, &late);
    said.notices += 1;
    if let Some((kind, payload)) = extra {
        push(end, kind, 1, payload);
    }
    // A second later somebody starts: nothing before is waited for.
    let last = push(end + 1000, Kind::Stop, 1, b"");
    while journal.durable_positions().get((1, 0)) < last {
        journal.turn(Now::default());
    }
    drop(journal);
    let all = fs::read_dir(&dir.0).expect("it").flatten();
    for entry in all.filter(|e| e.path().extension().is_some_and(|x| x == "idx")) {
        fs::remove_file(entry.path()).expect("an index");
    }
    said
}

fn ran(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcry"));
    command.args(args).envs(env.iter().copied()).env_remove("OUTCRY_TIERS").output().expect("outcry runs")
}

/// Exit code, standard output, standard error.
fn outcry(args: &[&str]) -> (i32, String, String) {
    let output = ran(args, &[]);
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn export(dir: &Scratch, at: &At, more: &[&str]) -> (i32, String, String) {
    outcry(&[&["tiers", "export", dir.str(), &at.url, "--last"], more].concat())
}

/// Every object with its bytes.
fn objects(at: &At) -> BTreeMap<String, Vec<u8>> {
    let store = Store::open(&at.url, false).expect("a store");
    let names: Vec<String> = store.list("", None).expect("a list").into_iter().map(|(name, _)| name).collect();
    let mut all = BTreeMap::new();
    store
        .get_all(&names, |i, bytes| {
            all.insert(names[i].clone(), bytes?.to_vec());
            Ok::<(), outcry_cores::tiers::store::StoreError>(())
        })
        .expect("objects");
    all
}

/// What the rows of a store say of house ads, and of wins whose DSP was asked by chance: as [`Books`] has it.
fn of_rows(at: &At) -> ((u64, i64), (u64, i64)) {
    let sum = |folder: &str, columns: &'static [Column], name: &str| {
        let column = columns.iter().position(|c| c.name == name).expect("a column");
        let (mut many, mut sum) = (0, 0);
        for (_, bytes) in objects(at).into_iter().filter(|(name, _)| name.starts_with(folder)) {
            let digest = sha256(&bytes);
            let rows = columns::read(bytes.into(), &digest, columns).expect("rows");
            for value in (0..rows.len()).filter_map(|row| rows.int(column, row)) {
                (many, sum) = (many + 1, sum + value);
            }
        }
        (many, sum)
    };
    (sum("house/", house::COLUMNS, "price_micros"), sum("wins/", wins::COLUMNS, "asked_probability"))
}

fn advertiser(dir: &Scratch, whose: &str, more: &[&str]) -> (i32, String, String) {
    outcry(&[&["audit", "advertiser", whose, dir.str(), "--json"], more].concat())
}

fn sum(out: &str) -> (u64, String) {
    let last: Value = serde_json::from_str(out.lines().last().expect("lines")).expect("JSON");
    assert_eq!(last["type"], "sum");
    (last["wins"].as_u64().expect("a number"), last["charge"].to_string())
}

#[test]
fn every_tier_says_what_the_journal_said() {
    for at in stores("same") {
        let dir = Scratch::new("same");
        let said = written(&dir, AUCTIONS, None);
        let whole: BTreeMap<&String, String> =
            said.by.keys().map(|whose| (whose, advertiser(&dir, whose, &[]).1)).collect();
        let february = advertiser(&dir, ODD, &["--from", "2026-02-01", "--to", "2026-02-01"]).1;
        let cat = outcry(&["audit", "cat", dir.str(), "--json"]).1;
        let request = outcry(&["audit", "request", &id(7), dir.str(), "--json"]).1;
        for (whose, text) in &whole {
            let (wins, charge) = said.by[*whose];
            assert_eq!(sum(text), (wins, outcry::units::Money(charge).to_string()), "{whose}");
        }
        let waited: Vec<Value> =
            whole[&WAITS.to_string()].lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for fate in ["billed", "waits"] {
            assert!(waited.iter().any(|line| line["delivery"] == fate), "{fate}: {waited:?}");
        }
        assert!(said.by.contains_key(&ODD.to_ascii_lowercase()) && said.by.len() > 1, "{:?}", said.by.keys());
        let (code, out, err) = export(&dir, &at, &["--segments", "4"]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, out, err) = outcry(&["tiers", "verify", &at.url]);
        assert!(code == 0 && out.ends_with("; 0 findings\n"), "{out}{err}");
        assert_eq!(outcry(&["tiers", "verify", &at.url, "--quick"]).0, 0);

        let of_rows = of_rows(&at);
        assert!(said.house.0 > 50 && said.by_chance.0 > 50, "{said:?}");
        assert_eq!(of_rows, (said.house, said.by_chance), "house ads, and wins of DSPs that were asked by chance");

        // A week later: the first half has left the journal.
        let all = dir.segments();
        assert!(all.len() > 8, "{} segments", all.len());
        all[..all.len() / 2].iter().for_each(|path| fs::remove_file(path).expect("a segment"));
        let tiers = ["--tiers", &at.url];
        let check = |what: &str, tier: &str| {
            for (whose, text) in &whole {
                let (code, out, err) = advertiser(&dir, whose, &tiers);
                assert_eq!((code, &out), (0, text), "{what} {whose}: {err}");
                // What came of a win that waited for its notice no row says.
                let tier = if whose.as_str() == WAITS { "segments are read instead" } else { tier };
                assert!(err.contains(tier), "{what} {whose}: {err}");
            }
            let range = ["--tiers", &at.url, "--from", "2026-02-01", "--to", "2026-02-01"];
            assert_eq!(advertiser(&dir, ODD, &range).1, february, "{what}");
            let (code, out, err) = outcry(&["audit", "cat", dir.str(), "--json", "--tiers", &at.url]);
            assert!(code == 0 && out == cat, "{what}: {err}");
            let day = ["--from", "2026-01-31", "--to", "2026-01-31", "--tiers", &at.url];
            let found = outcry(&[&["audit", "request", &id(7), dir.str(), "--json"], &day[..]].concat());
            assert_eq!((found.0, &found.1), (0, &request), "{what}: {}", found.2);
            let (code, out, err) = outcry(&[&["audit", "replay", "--all", dir.str()], &tiers[..]].concat());
            // Their wins were changed here: what counts is that all were read.
            assert!(code <= 1 && out.starts_with(&format!("{AUCTIONS} auctions decided again")), "{what}: {out}{err}");
        };
        check("rows and journal", "read from rows (");
        let late = ["--from", "2026-02-02T12:00:00Z", "--tiers", &at.url];
        let (code, _, err) = advertiser(&dir, ODD, &late);
        assert!(code == 0 && err.contains("read from the journal alone"), "{err}");

        // Its rows have gone; then the journal too.
        let (code, out, err) =
            outcry(&["tiers", "tidy", &at.url, "--now", "2026-05-01T00:00:00Z", "--warm-days", "88"]);
        assert_eq!((code, out.contains(" the rows went")), (0, true), "{out}{err}");
        let marked = outcry(&["tiers", "list", &at.url, "--json"]).1;
        assert!(marked.contains("\"cold\"") && marked.contains("warm and cold"), "{marked}");
        check("archive, rows and journal", "read from the archive (");
        assert_eq!(outcry(&["tiers", "tidy", &at.url]).0, 0);
        assert!(!objects(&at).keys().any(|name| name.ends_with(".parquet")));
        check("archive and journal", "read from the archive (");
        dir.segments().iter().for_each(|path| fs::remove_file(path).expect("a segment"));
        check("archive", "read from the archive (");
        let (code, out, err) = outcry(&["tiers", "verify", &at.url]);
        assert_eq!(code, 0, "{out}{err}");

        // Segments from the archive are those of the journal, for whoever reads journals.
        let back = Scratch::new("back");
        assert_eq!(outcry(&["tiers", "fetch", &at.url, back.str()]).0, 0);
        let (code, out, _) = outcry(&["audit", "verify", back.str()]);
        assert!(code == 0 && out.ends_with("; 0 findings\n"), "{out}");
        // Seven years later nothing is left.
        assert_eq!(outcry(&["tiers", "tidy", &at.url, "--cold-days", "100"]).0, 0);
        let left: Vec<String> = objects(&at).into_keys().collect();
        assert!(left.iter().all(|name| name.starts_with("accounts/")), "{left:?}");
        let (code, _, err) = advertiser(&dir, ODD, &tiers);
        assert!(code == 2 && err.contains("nothing of a journal is in this store"), "{err}");
    }
}

/// So many segments the archive has, and so many of them were opened, says a lookup.
fn opened(err: &str) -> (usize, usize) {
    let line = err.lines().find(|line| line.contains("says which of ")).unwrap_or_else(|| panic!("{err}"));
    let number = |text: &str| text.split_whitespace().next().and_then(|n| n.parse().ok());
    let (of, many) = line.split_once("says which of ").expect("it").1.split_once(" to open: ").expect("two numbers");
    (number(of).expect("a number"), number(many).expect("a number"))
}

/// The bytes of the segments in an archive, by the names of their objects.
fn archived(at: &At) -> BTreeMap<String, Vec<u8>> {
    let packed = objects(at).into_iter().filter(|(name, _)| name.ends_with(".log.zst"));
    packed.map(|(name, bytes)| (name, zstd::decode_all(&bytes[..]).expect("zstd"))).collect()
}

#[test]
fn a_lookup_of_an_id_opens_what_can_hold_it() {
    for at in stores("ids") {
        let dir = Scratch::new("ids");
        written(&dir, AUCTIONS, None);
        assert_eq!(export(&dir, &at, &["--segments", "4"]).0, 0);
        let ask =
            |text: &str, more: &[&str]| outcry(&[&["audit", "request", text, dir.str(), "--json"], more].concat());
        let asked: Vec<(u64, String, (i32, String, String))> = (1..AUCTIONS)
            .step_by(89)
            .flat_map(|n| [(n, id(n)), (n, event(n).to_string())])
            .map(|(n, text)| (n, text.clone(), ask(&text, &[])))
            .collect();
        let tiers = ["--tiers", &at.url];
        let (_, _, err) = ask(&asked[0].1, &tiers);
        assert!(err.contains("read from the journal alone"), "what the journal has no store is asked for: {err}");
        dir.segments().iter().for_each(|path| fs::remove_file(path).expect("a segment"));
        let (mut all, mut in_all, mut segments) = (0, 0, 0);
        for (n, text, (code, expected, _)) in &asked {
            let (found, out, err) = ask(text, &tiers);
            assert_eq!((found, &out), (*code, expected), "{text}: {err}");
            let (of, many) = opened(&err);
            // What is awaited may go home in another segment; both may be the last of theirs.
            assert!(many <= if waits(*n) || *n == LATE { 5 } else { 2 }, "{text}: {many} of {of} segments");
            (all, in_all, segments) = (all + 1, in_all + many, of);
        }
        println!("{all} lookups opened {in_all} of {} segments", all * segments);
        assert!(segments > 8);
        // Of what was never asked nothing is opened, or next to nothing.
        let vain: usize = (0..20).map(|n| opened(&ask(&format!("nobody-{n}"), &tiers).2).1).sum();
        assert!(vain <= 20 * segments / 50, "{vain} of {} segments", 20 * segments);
        if at.url.starts_with("s3://") {
            continue;
        }

        // It is so: the others need not be there.
        let (n, text, (_, expected, _)) = asked.iter().find(|(n, ..)| !waits(*n)).expect("one");
        let whole = archived(&at);
        let holds = |bytes: &[u8]| {
            [id(*n), event(*n).to_string()].iter().any(|id| bytes.windows(id.len()).any(|w| w == id.as_bytes()))
        };
        let others: Vec<&String> = whole.iter().filter(|(_, bytes)| !holds(bytes)).map(|(name, _)| name).collect();
        let hidden = Scratch::new("ids-hidden");
        for name in &others {
            let (path, aside) =
                (Path::new(&at.url).join(name), hidden.0.join(Path::new(name).file_name().expect("a name")));
            fs::copy(&path, aside).and_then(|_| fs::remove_file(path)).expect("aside");
        }
        assert!(others.len() + 3 > segments, "{} of {segments}", others.len());
        let (_, out, err) = ask(text, &tiers);
        if opened(&err).1 == segments - others.len() {
            assert_eq!(&out, expected, "{err}");
        }
        for name in &others {
            fs::copy(hidden.0.join(Path::new(name).file_name().expect("a name")), Path::new(&at.url).join(name))
                .expect("back");
        }

        // An index that is damaged, or was never made, is not believed; with a time the archive is searched without it.
        let day = ["--tiers", &at.url, "--from", "2026-01-31", "--to", "2026-02-03"];
        let indices: Vec<PathBuf> = objects(&at)
            .into_keys()
            .filter(|name| name.contains("/ids-"))
            .map(|name| Path::new(&at.url).join(name))
            .collect();
        for path in &indices {
            let mut bytes = fs::read(path).expect("an index");
            bytes.iter_mut().step_by(16).for_each(|byte| *byte ^= 1);
            fs::write(path, bytes).expect("written");
        }
        let (code, _, err) = ask(text, &tiers);
        assert!(code == 1 && err.contains("is missing or damaged") && err.contains("were not searched"), "{err}");
        let (_, out, err) = ask(text, &day);
        assert!(&out == expected && err.contains("their segments of that time are opened"), "{err}");
        indices.iter().for_each(|path| fs::remove_file(path).expect("an index"));
        assert_eq!(&ask(text, &day).1, expected);
        for (name, bytes) in objects(&at).into_iter().filter(|(name, _)| name.starts_with("manifests/")) {
            fs::write(Path::new(&at.url).join(name), version_1(&String::from_utf8_lossy(&bytes))).expect("written");
        }
        assert_eq!(outcry(&["tiers", "verify", &at.url]).0, 0, "what earlier releases wrote is whole");
        let (code, _, err) = ask(text, &tiers);
        assert!(code == 1 && err.contains("were not searched") && !err.contains("damaged"), "{err}");
        let (_, out, err) = ask(text, &day);
        assert!(&out == expected && err.contains("their segments of that time are opened"), "{err}");
    }
}

/// A manifest as a release wrote it that knew no index of ids.
fn version_1(manifest: &str) -> String {
    let (before, _) = manifest.split_once(",\"ids\":").expect("an index");
    let before = before.replacen("\"version\":2", "\"version\":1", 1);
    let digest = hex(&sha256(before.as_bytes()));
    format!("{before},\"sha256\":\"{digest}\"}}\n")
}

#[test]
fn an_export_that_is_cut_off_and_done_again_gives_the_same_objects() {
    for at in stores("cut-off") {
        let dir = Scratch::new("cut-off");
        written(&dir, 400, None);
        let whole = At { url: format!("{}/whole", at.url), _dir: None };
        assert_eq!(export(&dir, &whole, &["--segments", "3"]).0, 0);
        let expected = objects(&whole);
        assert!(expected.len() > 10, "{} objects", expected.len());
        for after in (0..expected.len() + 2).step_by(3) {
            let cut = At { url: format!("{}/after-{after}", at.url), _dir: None };
            let number = after.to_string();
            let env = [("OUTCRY_TEST_FAULT", "export-cut-off"), ("OUTCRY_TEST_AFTER", &number)];
            let first = ran(&["tiers", "export", dir.str(), &cut.url, "--last", "--segments", "3"], &env);
            assert!(first.status.code().is_none(), "{after}: it was not cut off: {first:?}");
            // Whoever does it again asks for larger batches: what was begun stays what it was.
            let more = if after % 2 == 0 { "3" } else { "100" };
            let again = export(&dir, &cut, &["--segments", more]);
            assert_eq!(again.0, 0, "{after}: {}", again.2);
            let (code, out, _) = outcry(&["tiers", "verify", &cut.url]);
            assert_eq!(code, 0, "{after}: {out}");
            let made = objects(&cut);
            if more == "3" {
                assert!(made.keys().eq(expected.keys()), "{after}: {:?} {:?}", made.keys(), expected.keys());
                assert!(made == expected, "{after}: an object differs");
            } else {
                let first: Vec<&String> = expected.keys().filter(|n| n.starts_with("manifests/")).take(1).collect();
                // Nothing was begun before the first object.
                assert!(after == 0 || made.contains_key(first[0]), "{after}: {:?}", made.keys());
            }
            // Once more: nothing is to be done.
            let (code, out, _) = export(&dir, &cut, &[]);
            assert!(code == 0 && out.contains(": 0 batches, 0 objects, 0 bytes; 0 were there"), "{out}");
        }
    }
}

#[test]
fn damage_is_found_and_named() {
    let at = &stores("damage")[0];
    let dir = Scratch::new("damage");
    written(&dir, 300, None);
    assert_eq!(export(&dir, at, &[]).0, 0);
    let names: Vec<String> = objects(at).into_keys().filter(|n| !n.starts_with("accounts/")).collect();
    for name in &names {
        let path = Path::new(&at.url).join(name);
        let good = fs::read(&path).expect("an object");
        for (what, bytes) in [
            ("turned over", {
                let mut bytes = good.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                Some(bytes)
            }),
            ("cut off", Some(good[..good.len() - 1].to_vec())),
            ("removed", None),
        ] {
            match bytes {
                Some(bytes) => fs::write(&path, bytes).expect("written"),
                None => fs::remove_file(&path).expect("removed"),
            }
            let (code, out, err) = outcry(&["tiers", "verify", &at.url]);
            assert!(code != 0, "{name} {what}: {out}{err}");
            let manifest = name.starts_with("manifests/");
            assert!(manifest || out.contains(&format!("WRONG: {name}: ")), "{name} {what}: {out}{err}");
            let quick = outcry(&["tiers", "verify", &at.url, "--quick"]);
            assert!(what == "turned over" || quick.0 != 0, "{name} {what}: {}", quick.1);
            fs::write(&path, &good).expect("written");
        }
    }
    assert_eq!(outcry(&["tiers", "verify", &at.url]).0, 0, "all is as it was");
    // A report that would be made of a damaged file is none.
    let file = names.iter().find(|n| n.starts_with("wins/")).expect("rows");
    let path = Path::new(&at.url).join(file);
    let mut bytes = fs::read(&path).expect("rows");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    dir.segments().iter().for_each(|path| fs::remove_file(path).expect("a segment"));
    let manifest = names.iter().find(|n| n.starts_with("manifests/")).expect("a manifest");
    let manifest: Value =
        serde_json::from_slice(&fs::read(Path::new(&at.url).join(manifest)).expect("it")).expect("JSON");
    let of = manifest["files"].as_array().expect("files").iter().find(|f| f["name"] == *file).expect("it is named");
    let (code, _, err) = advertiser(&dir, of["advertiser"].as_str().expect("a text"), &["--tiers", &at.url]);
    assert!(code == 1 && err.contains("it is not what was exported"), "{err}");
}

#[test]
fn what_is_kept_whole_stays_with_its_machine() {
    const MARK: &str = "kept-whole-and-nowhere-else";
    let at = &stores("raw")[0];
    let state = Scratch::new("raw");
    let journal = Scratch(state.0.join("journal"));
    fs::create_dir_all(&journal.0).expect("a directory");
    fs::create_dir_all(state.0.join("raw")).expect("a directory");
    fs::write(state.0.join("raw/raw-000000ab-0000000001.gz"), MARK).expect("written");
    written(&journal, 200, None);
    assert_eq!(export(&state, at, &[]).0, 0);
    for (name, bytes) in objects(at) {
        let plain = if name.ends_with(".zst") { zstd::decode_all(&bytes[..]).expect("zstd") } else { bytes };
        assert!(!text(&plain).contains(MARK) && !name.contains("raw"), "{name}");
    }
    // Should a later release write one into the journal, no export carries it away.
    let other = Scratch::new("raw-frame");
    written(&other, 200, Some((Kind::RawRequest, MARK.as_bytes())));
    let at = &stores("raw-frame")[0];
    let (code, _, err) = export(&other, at, &[]);
    assert!(code == 2 && err.contains("kept whole, which stay with their machine"), "{err}");
    assert!(objects(at).keys().all(|name| name.starts_with("begun/")));
}

#[test]
fn what_was_lost_before_it_was_exported_is_told() {
    let at = &stores("gap")[0];
    let dir = Scratch::new("gap");
    written(&dir, 1000, None);
    let all = dir.segments();
    // The first ones, and of those that wait for what comes behind them none: the last segment goes on.
    let until = outcry(&["tiers", "export", dir.str(), &at.url, "--segments", "2", "--until", "2026-02-01T00:00:00Z"]);
    assert_eq!(until.0, 0, "{}", until.2);
    let listed = outcry(&["tiers", "list", &at.url, "--json"]);
    let last: Value = serde_json::from_str(listed.1.lines().last().expect("a batch")).expect("JSON");
    let last = last["last"].as_u64().expect("a number") as usize;
    assert!(listed.0 == 0 && last > 1 && last + 3 < all.len(), "{last} of {}", all.len());
    all[..last + 1].iter().for_each(|path| fs::remove_file(path).expect("a segment"));
    let (code, _, err) = export(&dir, at, &[]);
    assert!(code == 1 && err.contains(&format!("segments {} to {} left the journal", last + 1, last + 1)), "{err}");
    assert_eq!(outcry(&["tiers", "list", &at.url]).0, 1);
    let (code, _, err) = advertiser(&dir, ODD, &["--tiers", &at.url]);
    assert!(code == 1 && err.contains("neither in the journal nor in"), "{err}");
}

#[test]
fn an_exchange_that_waits_hears_how_far_the_store_has_it() {
    let at = &stores("waits")[0];
    let state = Scratch::new("waits");
    let dir = Scratch(state.0.join("journal"));
    fs::create_dir(&dir.0).expect("a directory");
    written(&dir, 300, None);
    // Nobody waits.
    assert_eq!(export(&state, at, &["--segments", "1"]).0, 0);
    assert!(!state.0.join(exported::DIR).exists());
    let mut waiting = Exported::new(&state.0, NODE).expect("a place");
    let now = |s: u64| Now { boot_ns: s * 1_000_000_000, wall_offset_ns: 0 };
    assert_eq!(waiting.below(now(0)), 0);
    for (s, place) in [(10, &state), (20, &dir)] {
        let (code, said, err) = export(place, at, &["--json"]);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let below = said["exported_below"].as_u64().expect("a number");
        assert!(code == 0 && below > 2, "{err}{said}");
        assert_eq!(waiting.below(now(s)), below, "told again where nothing more was to be exported");
        fs::remove_dir_all(state.0.join(exported::DIR)).expect("it");
        fs::create_dir(state.0.join(exported::DIR)).expect("again");
    }
    std::mem::forget(dir);
}

#[test]
fn what_was_begun_and_lost_leaves_no_rows() {
    let at = &stores("abandoned")[0];
    let dir = Scratch::new("abandoned");
    written(&dir, 600, None);
    // Everything but the manifest; what was begun is one object more.
    let whole = &stores("abandoned-whole")[0];
    assert_eq!(export(&dir, whole, &[]).0, 0);
    let after = objects(whole).len().to_string();
    let env = [("OUTCRY_TEST_FAULT", "export-cut-off"), ("OUTCRY_TEST_AFTER", &after)];
    let cut = ran(&["tiers", "export", dir.str(), &at.url, "--last"], &env);
    assert!(cut.status.code().is_none(), "{cut:?}");
    let names: Vec<String> = objects(at).into_keys().collect();
    let whole = names.iter().any(|name| name.starts_with("manifests/"));
    assert!(!whole && names.iter().any(|name| name.ends_with(".parquet")), "cut off among rows: {names:?}");
    fs::remove_file(&dir.segments()[0]).expect("a segment");
    let again = export(&dir, at, &[]);
    assert_eq!(again.0, 0, "{}", again.2);
    assert!(!objects(at).keys().any(|name| name.starts_with("begun/")));
    let (code, out, _) = outcry(&["tiers", "verify", &at.url]);
    assert!(code == 0 && !out.contains("in no manifest"), "{out}");
}

#[test]
fn a_locked_archive_stays() {
    let Ok(bucket) = std::env::var("OUTCRY_TEST_S3_LOCKED") else {
        return eprintln!("OUTCRY_TEST_S3_LOCKED names no bucket: locks are not tried");
    };
    let dir = Scratch::new("locked");
    written(&dir, 100, None);
    let at = At { url: format!("{bucket}/locked-{}", std::process::id()), _dir: None };
    let (code, out, err) = export(&dir, &at, &["--lock", "governance"]);
    assert!(code == 0 && out.contains("the archive locked"), "{out}{err}");
    // What the server says of each object is asked by `scripts/tiers`, which also tries to remove one.
    println!("locked: {}", at.url);
    let plain = std::env::var("OUTCRY_TEST_S3").expect("both buckets");
    let other = At { url: format!("{plain}/unlocked-{}", std::process::id()), _dir: None };
    let (code, out, err) = export(&dir, &other, &[]);
    assert!(code == 0 && out.contains("has no object lock"), "{out}{err}");
    let other = At { url: format!("{plain}/refused-{}", std::process::id()), _dir: None };
    let (code, _, err) = export(&dir, &other, &["--lock", "governance"]);
    assert!(code == 2 && err.contains("ObjectLock"), "{code}: {err}");
}

/// Leaves a store and what must be in it, for readers of Parquet that are not ours (`scripts/tiers`).
#[test]
fn readers_of_others_find_what_the_journal_has() {
    let Ok(out) = std::env::var("OUTCRY_TEST_TIERS_OUT") else { return };
    // It stays for whoever kills exports of it.
    let dir = Scratch(Path::new(&out).join("journal"));
    fs::create_dir_all(&dir.0).expect("a directory");
    let said = written(&dir, AUCTIONS, None);
    let mut all = vec![At { url: format!("{out}/store"), _dir: None }];
    all.extend(std::env::var("OUTCRY_TEST_S3").map(|bucket| At { url: format!("{bucket}/readers"), _dir: None }));
    for at in all {
        assert_eq!(export(&dir, &at, &["--segments", "5"]).0, 0);
    }
    let by: Vec<String> = said
        .by
        .iter()
        .map(|(whose, (wins, charge))| {
            format!("{{\"advertiser\":{},\"wins\":{wins},\"charge_nanos\":{charge}}}", Value::from(whose.as_str()))
        })
        .collect();
    let Books { wins, charge, notices, house, by_chance, .. } = said;
    let line = format!(
        "{{\"wins\":{wins},\"charge_nanos\":{charge},\"notices\":{notices},\"house\":[{},{}],\"by_chance\":[{},{}],\"by\":[{}]}}\n",
        house.0,
        house.1,
        by_chance.0,
        by_chance.1,
        by.join(",")
    );
    fs::write(Path::new(&out).join("expected.json"), line).expect("written");
    std::mem::forget(dir);
}

/// A big table, and one advertiser's month out of it, on a store that nothing else is asked of. Prints what it takes.
#[test]
#[ignore = "minutes: scripts/tiers --month"]
fn a_month_of_an_advertiser_takes_seconds() {
    const FIRST_MS: u64 = 1_767_225_600_000;
    const MONTH_MS: u64 = 31 * 86_400_000;
    const ADVERTISERS: u64 = 200;
    let auctions: u64 = std::env::var("OUTCRY_TEST_MONTH").map_or(1_000_000, |n| n.parse().expect("a number"));
    let dir = Scratch::new("month");
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    // A batch of four hours is one segment.
    let mut settings = settings();
    settings.writer.block_bytes = 64 * PAGE;
    settings.writer.segment_bytes = (auctions / (31 * 6) * 1000).next_multiple_of(PAGE as u64);
    settings.writer.segment_bytes = settings.writer.segment_bytes.max(settings.writer.segment_bytes_min());
    let (mut journal, _) = Journal::open(disk, settings).expect("an empty directory");
    let templates = templates();
    let one = templates.iter().find(|r| !r.decision.wins.is_empty()).expect("one that somebody won");
    let (mut bytes, mut payload, mut wins, mut charge) = (Vec::new(), Vec::new(), 0u64, 0i64);
    for n in 1..=auctions + 1 {
        let ms = FIRST_MS + MONTH_MS / (auctions + 1) * (n - 1);
        payload.clear();
        let whose = mix(n) % ADVERTISERS;
        let mut record = one.clone();
        (record.inputs.event, record.inputs.wall_ms) = (event(n), ms);
        record.inputs.request_id = kept(&mut record.inputs.texts, &id(n));
        let adomain = kept(&mut record.inputs.texts, &format!("advertiser-{whose:03}.example"));
        for win in &record.decision.wins {
            record.inputs.bids[usize::from(win.input)].adomain = adomain;
            let ours = u64::from(whose == 7 && n <= auctions);
            (wins, charge) = (wins + ours, charge + ours as i64 * win.charge.0);
        }
        record.encode(&mut payload);
        bytes.clear();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(&payload);
        // The last one is of February: it closes the month.
        let hlc = if n > auctions { FIRST_MS + MONTH_MS + 100_000 } else { ms } << 16;
        let header = Header { seq: n, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: record::VERSION, hlc };
        frame::finish(&mut bytes, at, &header);
        let frame = frame::decode(&bytes).expect("a frame");
        while let Err(e) = journal.push(&frame, Class::Ordinary) {
            assert!(matches!(e, Refusal::Busy | Refusal::Preparing), "{e}");
            journal.turn(Now::default());
        }
    }
    while journal.durable_positions().get((1, 0)) < auctions + 1 {
        journal.turn(Now::default());
    }
    drop(journal);
    for at in stores("month") {
        let began = std::time::Instant::now();
        let (code, out, err) = export(&dir, &at, &["--segments", "1"]);
        assert_eq!(code, 0, "{out}{err}");
        println!("{}: exported in {:.0} s: {out}", at.url, began.elapsed().as_secs_f64());
        let store = Store::open(&at.url, false).expect("a store");
        let rows = store.list("wins", None).expect("a list");
        let empty = Scratch::new("month-empty");
        for more in [&["--totals"][..], &[]] {
            let began = std::time::Instant::now();
            let month = ["--from", "2026-01-01", "--to", "2026-01-31", "--tiers", &at.url];
            let (code, out, err) = advertiser(&empty, "advertiser-007.example", &[&month[..], more].concat());
            let took = began.elapsed().as_secs_f64();
            assert_eq!((code, sum(&out)), (0, (wins, outcry::units::Money(charge).to_string())), "{err}");
            println!(
                "{wins} wins of {auctions} auctions in {took:.2} s{}; of {} files of rows, {} bytes: {err}",
                if more.is_empty() { ", all of them printed" } else { ", totals" },
                rows.len(),
                rows.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            );
            assert!(took < 10.0, "{took} s");
        }
        for text in [id(auctions / 3), event(auctions / 2).to_string(), "nobody".to_string()] {
            let began = std::time::Instant::now();
            let (code, _, err) = outcry(&["audit", "request", &text, empty.str(), "--tiers", &at.url]);
            println!("{text}: exit code {code} in {:.2} s: {err}", began.elapsed().as_secs_f64());
            assert!(opened(&err).1 <= 6, "{err}");
        }
        let indices = store.list("cold", None).expect("a list").into_iter().filter(|(name, _)| name.contains("/ids-"));
        println!("{} bytes are the index of ids", indices.map(|(_, bytes)| bytes).sum::<u64>());
    }
}
