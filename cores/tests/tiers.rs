//! `outcry tiers` and `outcry audit --tiers` on journals of real auction records: what the journal said is said by rows and by
//! the archive, in a directory and in the S3 bucket that `OUTCRY_TEST_S3` names, if it does (`scripts/tiers` starts a server).
#![cfg(feature = "tiers")]
#[path = "tiers/ids.rs"]
mod ids;
#[path = "tiers/month.rs"]
mod month;
#[path = "common/small_journal.rs"]
mod small_journal;
#[path = "tiers/written.rs"]
mod written;
use outcry::{
    record::frame::Kind,
    tiers::{house, sha256, table::Column, wins},
    units::Now,
};
use outcry_cores::{
    exported::{self, Exported},
    tiers::{columns, store::Store},
};
use serde_json::Value;
use small_journal::{NODE, settings};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};
use written::{At, Books, Scratch, event, id, stores, waits, written};

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
