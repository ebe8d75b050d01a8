//! `outcry audit` on journals of real auction records, made by the journal's own writer, and `scripts/journal.py`, which knows
//! nothing of it: what one finds, the other finds.
#[path = "common/small_journal.rs"]
mod small_journal;
use outcry::{
    auction::{Delivery, Record, delivery, input::Kept, record},
    journal::{
        PAGE,
        index::Index,
        writer::{Class, Refusal},
    },
    record::frame::{self, Header, Kind},
    units::{EventId, Now, mix},
};
use outcry_cores::journal::{Journal, StdDisk};
use serde_json::Value;
use small_journal::{NODE, settings};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// 2026-01-31T12:00:00Z: when the first auction was.
const NOON_MS: u64 = 1_769_860_800_000;
/// One a second: auction `n` is of second `n`.
const AUCTIONS: u64 = 600;
/// Every tenth has a delivery behind it.
const DELIVERED: u64 = 10;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A directory that goes when the test has passed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("outcry-audit-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn file(&self, segment: u64, end: &str) -> PathBuf {
        self.0.join(format!("journal-{NODE:08x}-{segment:010}.{end}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn templates() -> Vec<Record> {
    let golden = include_str!("../../src/auction/record/v2.golden.txt");
    let bytes = |line: &str| -> Vec<u8> {
        (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits")).collect()
    };
    golden.lines().map(|line| Record::decode(&bytes(line)).expect("a record")).collect()
}

fn event(n: u64) -> EventId {
    EventId { node: NODE, epoch: 1, core: 0, seq: n }
}

fn id(n: u64) -> String {
    format!("request-{n:05}")
}

/// Auction `n`, decided once upon a time by the auction itself.
fn auction(templates: &[Record], n: u64) -> Record {
    let mut record = templates[n as usize % templates.len()].clone();
    let i = &mut record.inputs;
    let (at, id) = (i.texts.len() as u32, id(n));
    i.request_id = Kept { at, len: id.len() as u16, cut: false };
    i.texts.extend_from_slice(id.as_bytes());
    // Ties are broken by the two together: the decision stays what it was.
    let key = |e: EventId| mix(e.seq ^ u64::from(e.core).rotate_left(48));
    i.entropy ^= key(i.event) ^ key(event(n));
    (i.event, i.wall_ms) = (event(n), NOON_MS + 1000 * n);
    record
}

/// A journal whose last segment goes on, as a running exchange's does.
fn written(name: &str, change: impl Fn(u64, &mut Record)) -> Scratch {
    let dir = Scratch::new(name);
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    let (mut journal, _) = Journal::open(disk, settings()).expect("an empty directory");
    let (templates, mut seq) = (templates(), 0);
    let mut push = |hlc: u64, kind: Kind, version: u8, payload: &[u8]| {
        seq += 1;
        let mut bytes = Vec::new();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        frame::finish(&mut bytes, at, &Header { seq, epoch: 1, writer: 0, kind: kind as u8, version, hlc });
        let frame = frame::decode(&bytes).expect("a frame");
        while let Err(e) = journal.push(&frame, Class::Ordinary) {
            assert!(matches!(e, Refusal::Busy | Refusal::Preparing), "{e}");
            journal.turn(Now::default());
        }
    };
    for n in 1..=AUCTIONS {
        let hlc = (NOON_MS + 1000 * n) << 16;
        let (mut record, mut payload) = (auction(&templates, n), Vec::new());
        change(n, &mut record);
        record.encode(&mut payload);
        push(hlc, Kind::Auction, record::VERSION, &payload);
        if n.is_multiple_of(DELIVERED) {
            payload.clear();
            Delivery::ClientLeft.encode(event(n), &[], &mut payload);
            push(hlc + 1, Kind::Delivery, delivery::FRAME_VERSION, &payload);
        }
    }
    while journal.durable_positions().get((1, 0)) < seq {
        journal.turn(Now::default());
    }
    // It waits for those who make indices; the tests are about what is done without.
    drop(journal);
    for entry in
        fs::read_dir(&dir.0).expect("it").flatten().filter(|e| e.path().extension().is_some_and(|x| x == "idx"))
    {
        fs::remove_file(entry.path()).expect("an index");
    }
    dir
}

fn same(_: u64, _: &mut Record) {}

fn ours(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcry"));
    command.arg("audit").args(args).arg(dir).output().expect("outcry runs")
}

/// Exit code, standard output, standard error.
fn said(args: &[&str], dir: &Path) -> (i32, String, String) {
    let output = ours(args, dir);
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
}

/// What the Python reader prints.
fn theirs(args: &[&str]) -> Vec<Value> {
    let mut command = Command::new("python3");
    let output = command.arg(root().join("scripts/journal.py")).args(args).output().expect("python3 runs");
    lines(&text(&output.stdout))
}

/// Where a frame is, whosever line of it.
fn place(line: &Value) -> (u64, u64, u64, u64, String) {
    let n = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key}: {line}"));
    (n("segment"), n("block"), n("offset"), n("seq"), line["kind"].to_string())
}

/// As `SPEC.md` has it.
fn crc32(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shifted(crc)))
}

/// Turns a byte of a file over.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn a_request_is_found_by_both_its_ids_wherever_it_is() {
    let dir = written("request", same);
    let path = dir.0.to_str().expect("a path");
    let all = theirs(&["cat", path, "--json"]);
    let live = all.last().and_then(|l| l["segment"].as_u64()).expect("frames");
    assert!(live > 3, "{live} segments");
    for n in [1, 20, 299, 310, 599, AUCTIONS] {
        let theirs = theirs(&["request", path, &id(n), "--json"]);
        assert_eq!(theirs.len(), 1);
        // The delivery holds the event id in binary.
        let seq = theirs[0]["seq"].as_u64().expect("a number");
        let delivered = all.iter().filter(|l| n.is_multiple_of(DELIVERED) && l["seq"] == seq + 1);
        let expected: Vec<_> = theirs.iter().chain(delivered).map(place).collect();
        for key in [id(n), event(n).to_string()] {
            let (code, out, err) = said(&["request", &key, "--json"], &dir.0);
            let found = lines(&out);
            assert_eq!((code, found.iter().map(place).collect::<Vec<_>>()), (0, expected.clone()), "{key}: {err}");
            assert_eq!(found[0]["record"]["id"], id(n));
            assert_eq!(found[0]["record"]["bidid"], event(n).to_string());
            assert_eq!(found[0]["same_decision"], true);
            let (code, out, _) = said(&["request", &key], &dir.0);
            assert_eq!(code, 0);
            for wanted in [id(n), event(n).to_string(), "replay: same decision".into(), "DSPs asked".into()] {
                assert!(out.contains(&wanted), "{wanted}: {out}");
            }
            assert_eq!(out.contains("NOT SENT: the exchange had left"), n.is_multiple_of(DELIVERED), "{out}");
        }
    }
    let (code, out, err) = said(&["request", "request-99999"], &dir.0);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("nothing is recorded of request-99999"), "{err}");
}

#[test]
fn an_index_is_made_where_it_is_missing_and_never_believed() {
    let dir = written("index", same);
    let index = dir.file(1, "idx");
    let find = || said(&["request", &id(3), "--json"], &dir.0);
    let (code, out, err) = find();
    assert!(code == 0 && err.contains("segment 1 had no index: it was read, and has one now"), "{err}");
    let good = fs::read(&index).expect("it was made");
    assert!(Index::open(&good[..]).is_ok() && !dir.file(1, "new").exists());
    // Silent from now on, with the same answer.
    assert_eq!(find(), (0, out.clone(), String::new()));
    // Damaged, in its head or in a page: made anew, or told.
    flip(&index, 20);
    let (code, again, err) = find();
    assert!(code == 0 && again == out && err.contains("segment 1 had no index"), "{err}");
    assert_eq!(fs::read(&index).expect("it"), good);
    flip(&index, PAGE + 20);
    let (code, _, err) = find();
    assert!(code == 1 && err.contains("the index of segment 1 is damaged: remove it"), "{err}");
    // Of an earlier version, which had fewer keys: sound, and made anew all the same.
    let mut old = good.clone();
    old[8] = 1;
    let crc = crc32(&old[..PAGE - 4]);
    old[PAGE - 4..PAGE].copy_from_slice(&crc.to_le_bytes());
    assert!(Index::open(&old[..]).is_ok());
    fs::write(&index, &old).expect("written");
    let (code, again, err) = find();
    assert!(code == 0 && again == out && err.contains("segment 1 had no index"), "{err}");
    assert_eq!(fs::read(&index).expect("it"), good);
    // Somebody else is making it: the answer comes from the segment.
    fs::remove_file(&index).expect("it");
    fs::write(dir.file(1, "new"), b"").expect("written");
    let (code, again, err) = find();
    assert!(code == 0 && again == out && err.contains("none can be written"), "{err}");
    // A start needs no index, makes none before its first turn, and clears away what was half made.
    let disk = StdDisk::new(&dir.0, NODE).expect("a disk");
    let (_, recovered) = Journal::open(disk, settings()).expect("a journal");
    assert_eq!(recovered.positions.get((1, 0)), AUCTIONS + AUCTIONS / DELIVERED);
    assert!(!index.exists() && !dir.file(1, "new").exists());
}

#[test]
fn damage_is_named_with_segment_and_offset() {
    let dir = written("damage", same);
    assert_eq!(said(&["request", &id(3)], &dir.0).0, 0);
    // The first block of the first segment: auction 3 is in it.
    flip(&dir.file(1, "log"), PAGE + 300);
    let (code, _, err) = said(&["request", &id(3)], &dir.0);
    assert!(code == 1 && err.contains("segment 1, offset 4096: damaged: checksum"), "{code}: {err}");
    // Without its index the same, and none is made of what is damaged.
    fs::remove_file(dir.file(1, "idx")).expect("it");
    let (code, _, err) = said(&["request", &id(3)], &dir.0);
    assert!(code == 1 && err.contains("segment 1, offset 4096 to "), "{code}: {err}");
    assert!(!dir.file(1, "idx").exists());
    for args in [&["cat"][..], &["advertiser", "a.example"], &["replay", "--all"]] {
        let (code, _, err) = said(args, &dir.0);
        assert!(code == 1 && err.contains("segment 1, offset 4096 to "), "{args:?} {code}: {err}");
    }
}

#[test]
fn a_decision_that_does_not_follow_from_its_record_is_named() {
    let dir = written("same", same);
    let (code, out, err) = said(&["replay", &id(7)], &dir.0);
    assert!(code == 0 && out.contains("same decision"), "{out}{err}");
    let (code, out, err) = said(&["replay", "--all"], &dir.0);
    assert!(code == 0 && out.starts_with("600 auctions decided again"), "{out}{err}");
    // Half a minute has thirty.
    let half = ["replay", "--all", "--from", "2026-01-31T12:01:00Z", "--to", "2026-01-31T13:01:30+01:00", "--json"];
    assert_eq!(said(&half, &dir.0).1, "{\"auctions\":30,\"differ\":0,\"unreadable\":0}\n");

    // A record whose charge was altered, with all checksums made anew.
    let dir = written("altered", |n, record| {
        if n == 402 {
            record.decision.wins.iter_mut().for_each(|win| win.charge.0 += 1);
            assert!(!record.decision.wins.is_empty(), "it has a winner");
        }
    });
    assert_eq!(said(&["verify"], &dir.0).0, 0, "nothing of it is damaged");
    for args in [&["replay", &id(402)][..], &["replay", "--all"], &["request", &id(402)]] {
        let (code, out, _) = said(args, &dir.0);
        assert!(code == 1 && out.contains("DIFFERS: imp ") && out.contains("charge"), "{args:?}: {out}");
    }
    let (code, out, _) = said(&["replay", "--all", "--json"], &dir.0);
    let found = lines(&out);
    assert_eq!((code, found.len(), &found[0]["id"]), (1, 2, &Value::from(id(402))));
    assert_eq!(found[1]["differ"], 1);
    assert_eq!(said(&["replay", &id(401)], &dir.0).0, 0);
}

#[test]
fn what_an_advertiser_won_adds_up() {
    let dir = written("advertiser", same);
    // By the records themselves.
    let templates = templates();
    let mut names: Vec<String> = Vec::new();
    let wins = |from: u64, to: u64, names: &mut Vec<String>| {
        let (mut wins, mut charge, mut undelivered) = (0u64, 0i64, 0u64);
        for n in from..to {
            let record = auction(&templates, n);
            for win in &record.decision.wins {
                let bid = record.inputs.bids[usize::from(win.input)];
                if record.inputs.text(bid.adomain).eq_ignore_ascii_case(b"A.Example") {
                    wins += 1;
                    charge += win.charge.0;
                    undelivered += u64::from(n.is_multiple_of(DELIVERED));
                    names.push(id(n));
                }
            }
        }
        (wins, outcry::units::Money(charge).to_string(), undelivered)
    };
    let minute = ["--from", "2026-01-31T12:02:00Z", "--to", "2026-01-31T12:03:00Z"];
    for (range, (from, to)) in [(&[][..], (1, AUCTIONS + 1)), (&minute, (120, 180)), (&["--to", "2026-01-30"], (1, 1))]
    {
        names.clear();
        let (won, charge, undelivered) = wins(from, to, &mut names);
        assert!(won > 0 || range.len() == 2, "somebody won");
        let args: Vec<&str> = ["advertiser", "A.Example", "--json"].into_iter().chain(range.iter().copied()).collect();
        let (code, out, err) = said(&args, &dir.0);
        let found = lines(&out);
        let of = |what: &str| found.iter().filter(|l| l["type"] == what).cloned().collect::<Vec<_>>();
        let sum = &of("sum")[0];
        assert_eq!((code, sum["wins"].as_u64(), sum["charge"].to_string()), (0, Some(won), charge), "{err}");
        assert_eq!(sum["not_delivered"].as_u64(), Some(undelivered));
        let listed: Vec<String> = of("win").iter().map(|l| l["id"].as_str().unwrap_or("").to_string()).collect();
        assert_eq!(listed, names);
        let late = of("win").iter().filter(|l| l["delivery"] == "client_left").count() as u64;
        assert_eq!(late, undelivered);
        let part = |key: &str| of("total").iter().filter_map(|l| l[key].as_u64()).sum::<u64>();
        assert_eq!((part("wins"), part("not_delivered")), (won, undelivered));
        let table = said(&args.iter().copied().filter(|a| *a != "--json").collect::<Vec<_>>(), &dir.0).1;
        assert_eq!(names.iter().filter(|id| table.contains(*id)).count(), names.len(), "{table}");
    }
    // One DSP's seat is not another's.
    let all = lines(&said(&["advertiser", "a.example", "--json"], &dir.0).1);
    let (dsp, seat) = (all[0]["dsp"].as_str().expect("a DSP"), all[0]["seat"].as_str().expect("a seat"));
    let by = lines(&said(&["advertiser", seat, "--by", "seat", "--dsp", dsp, "--json"], &dir.0).1);
    let expected = all.iter().filter(|l| l["type"] == "win" && l["dsp"] == dsp && l["seat"] == seat).count();
    assert!(by.iter().filter(|l| l["type"] == "win").count() >= expected);
    assert!(by.iter().filter(|l| l["type"] == "win").all(|l| l["dsp"] == dsp && l["seat"] == seat));
}

/// Of wins that no account pays; what is missing of a month is named, and no bill is right without it.
#[test]
fn a_month_is_billed_as_far_as_it_is_there() {
    let dir = written("invoice", same);
    let templates = templates();
    let (mut wins, mut charged, mut freed) = (0, 0, 0);
    for n in 1..=AUCTIONS {
        for win in auction(&templates, n).decision.wins.iter().filter(|w| !w.account.is_some()) {
            wins += 1;
            charged += win.charge.0;
            freed += if n.is_multiple_of(DELIVERED) { win.charge.0 } else { 0 };
        }
    }
    assert!(wins > 100 && freed > 0);
    let invoice = |month: &str, more: &[&str]| said(&[&["invoice", "--month", month], more].concat(), &dir.0);
    let sum = |out: &str| lines(out).into_iter().rfind(|l| l["type"] == "sum");
    let money = |nanos: i64| outcry::units::Money(nanos).to_string();
    let (code, out, err) = invoice("2026-01", &["--json", "--lines"]);
    let all = sum(&out).expect("a sum");
    assert_eq!((code, all["charged"]["wins"].as_u64()), (0, Some(wins)), "{err}");
    let amounts = ["charged", "freed", "billed"].map(|line| all[line]["amount"].to_string());
    assert_eq!(amounts, [money(charged), money(-freed), money(charged - freed)]);
    let of = |kind: &str| lines(&out).iter().filter(|l| l["type"] == kind).count() as u64;
    assert_eq!((of("win"), of("campaign") > 1), (wins, true));
    let (code, table, _) = invoice("2026-01", &[]);
    assert!(code == 0 && table.contains(&money(charged - freed)), "{table}");
    // Nothing of January was in February.
    assert_eq!((invoice("2026-02", &[]).0, invoice("2026-02", &["--json"]).1), (0, String::new()));
    let (code, _, err) = invoice("2026-13", &[]);
    assert!(code == 2 && err.contains("a month is such as 2026-01"), "{err}");

    fs::rename(dir.file(2, "log"), dir.0.join("elsewhere")).expect("moved");
    let (code, out, err) = invoice("2026-01", &["--json"]);
    assert!(code == 1 && err.contains("segments 2 to 2 are missing") && sum(&out) != Some(all.clone()), "{err}");
    fs::rename(dir.0.join("elsewhere"), dir.file(2, "log")).expect("moved");
    flip(&dir.file(3, "log"), PAGE + 300);
    let (code, _, err) = invoice("2026-01", &["--json"]);
    assert!(code == 1 && err.contains("segment 3, offset 4096 to ") && err.contains("may be wrong"), "{err}");
}

#[test]
fn cat_prints_what_is_asked_for_and_reads_no_more() {
    let dir = written("cat", same);
    let all = theirs(&["cat", dir.0.to_str().expect("a path"), "--json"]);
    let check = |args: &[&str], keep: &dyn Fn(&Value) -> bool| {
        let (code, out, err) = said(&[&["cat", "--json"], args].concat(), &dir.0);
        let expected: Vec<&Value> = all.iter().filter(|l| keep(l)).collect();
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(lines(&out).iter().eq(expected.iter().copied()) && !expected.is_empty(), "{args:?}");
    };
    let at = |minute: u64| (NOON_MS + 60_000 * minute) << 16;
    let hlc = |l: &Value| l["hlc"].as_u64().unwrap_or(0);
    check(&[], &|_| true);
    check(&["--kind", "delivery"], &|l| l["kind"] == "delivery");
    check(&["--kind", "delivery,kind-1"], &|_| true);
    check(&["--from", "2026-01-31 12:04Z"], &|l| hlc(l) >= at(4));
    check(&["--from", "2026-01-31", "--to", "2026-01-31T12:00:05.001Z"], &|l| hlc(l) < (NOON_MS + 5001) << 16);
    let records = lines(&said(&["cat", "--json", "--record", "--kind", "delivery"], &dir.0).1);
    assert!(records.iter().all(|l| l["record"]["delivery"] == "client_left" && l.get("payload").is_none()));

    // Damage outside of the range is not met: by the heads of blocks, and by the index.
    let first = &["cat", "--to", "2026-01-31T12:00:10Z"];
    flip(&dir.file(3, "log"), PAGE + 300);
    assert_eq!(said(first, &dir.0), said(first, &dir.0));
    assert_eq!((said(first, &dir.0).0, said(&["cat"], &dir.0).0), (0, 1));
    assert_eq!(said(&["request", &id(3)], &dir.0).0, 1, "the index of the damaged one cannot be made");
    assert!(dir.file(2, "idx").exists());
    flip(&dir.file(2, "log"), PAGE + 8);
    assert_eq!((said(first, &dir.0).0, said(&["cat"], &dir.0).0), (0, 1));
}

#[test]
fn readers_that_leave_and_mistakes_are_taken_well() {
    let dir = written("leave", same);
    for args in [
        "cat",
        "cat --json",
        "advertiser a.example",
        "invoice --month 2026-01 --lines",
        "replay --all",
        "request request-00003",
        "verify",
    ] {
        let script = format!(
            "set -o pipefail; {} audit {args} {} 2>&1 | head -n 1",
            env!("CARGO_BIN_EXE_outcry"),
            dir.0.display()
        );
        let output = Command::new("bash").args(["-c", &script]).stderr(Stdio::piped()).output().expect("bash runs");
        assert!(output.status.success() && !text(&output.stdout).contains("panicked"), "{args}: {output:?}");
    }
    let full = Command::new(env!("CARGO_BIN_EXE_outcry"))
        .args(["audit", "cat"])
        .arg(&dir.0)
        .stdout(fs::File::create("/dev/full").expect("it"))
        .output()
        .expect("outcry runs");
    assert_eq!(full.status.code(), Some(2), "{full:?}");
    assert!(text(&full.stderr).contains("the output cannot be written"), "{full:?}");
    let nowhere = dir.0.join("nowhere");
    for args in [&["cat"][..], &["request", "x"], &["advertiser", "x"], &["replay", "x"], &["replay", "--all"]] {
        let (code, out, err) = said(args, &nowhere);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains("Name the journal's directory"), "{err}");
    }
    for args in [
        &["replay"][..],
        &["replay", "--all", "x"],
        &["cat", "--kind", "auctions"],
        &["cat", "--from", "yesterday"],
        &["cat", "--record"],
    ] {
        assert_eq!(said(args, &dir.0).0, 2, "{args:?}");
    }
    let help = said(&["request", "--help"], Path::new("--help")).1;
    assert!(help.contains("Exit codes: 0 "), "{help}");
}
