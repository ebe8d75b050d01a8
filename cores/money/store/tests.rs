use super::*;
use crate::lab::rng::Rng;
use outcry::{
    budget::{
        manage::{Act, Changes, Known, Operation, apply},
        movement::By,
    },
    config,
    units::Money,
};
use redb::{Builder, StorageBackend};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard},
};

const SECTOR: usize = 512;

/// What fails, and at which operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The machine loses its power: nothing works any more.
    Cut,
    /// No room: the file grows no further, and writes beyond what it has fail.
    Full,
    /// From here on the device answers nothing but errors.
    Write,
    Read,
    /// A flush fails, as it does when a write behind it had failed: what it was for may be lost.
    Sync,
}

#[derive(Default, Debug)]
struct Drive {
    /// What is read.
    seen: Vec<u8>,
    /// What survives.
    durable: Vec<u8>,
    /// Sectors written since the last flush, in order.
    loose: Vec<(usize, Vec<u8>)>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    fired: bool,
}

/// A disk in memory that keeps what it was told to flush, and of the rest what chance leaves.
#[derive(Clone, Default, Debug)]
struct SimDisk(Arc<Mutex<Drive>>);

impl SimDisk {
    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts an operation; the fault, if it is its turn.
    fn turn(&self) -> (MutexGuard<'_, Drive>, Option<Fault>) {
        let mut drive = self.drive();
        drive.operations += 1;
        let due = drive.fault.filter(|f| f.0 <= drive.operations).map(|f| f.1);
        (drive, due)
    }

    /// After a cut: each sector that was not flushed is as before, or as one of the writes to it; the file as long as it was
    /// when it was flushed, or as it was made since.
    fn survives(&self, rng: &mut Rng) -> SimDisk {
        let drive = self.drive();
        let mut bytes = drive.durable.clone();
        if rng.chance(500) || bytes.len() < drive.seen.len() {
            bytes.resize(drive.seen.len().max(if rng.chance(500) { bytes.len() } else { 0 }), 0);
        }
        let mut last: BTreeMap<usize, Vec<&Vec<u8>>> = BTreeMap::new();
        drive.loose.iter().for_each(|(at, data)| last.entry(*at).or_default().push(data));
        for (at, writes) in last {
            let kept = rng.below(writes.len() as u64 + 1) as usize;
            let Some(data) = kept.checked_sub(1).and_then(|k| writes.get(k)) else { continue };
            if let Some(place) = bytes.get_mut(at..at + data.len()) {
                place.copy_from_slice(data);
            }
        }
        let next = Drive { seen: bytes.clone(), durable: bytes, ..Drive::default() };
        SimDisk(Arc::new(Mutex::new(next)))
    }
}

fn gone<T>(drive: &mut Drive, what: &str) -> io::Result<T> {
    drive.fired = true;
    Err(io::Error::other(what.to_owned()))
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.drive().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (mut drive, fault) = self.turn();
        if matches!(fault, Some(Fault::Cut | Fault::Read)) {
            return gone(&mut drive, "read error");
        }
        let from = offset as usize;
        let data = drive.seen.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let (mut drive, fault) = self.turn();
        match fault {
            Some(Fault::Cut | Fault::Write) => return gone(&mut drive, "write error"),
            Some(Fault::Full) if len > drive.seen.len() as u64 => {
                drive.fired = true;
                return Err(io::ErrorKind::StorageFull.into());
            }
            _ => {}
        }
        drive.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut drive, fault) = self.turn();
        if matches!(fault, Some(Fault::Cut | Fault::Write | Fault::Sync)) {
            return gone(&mut drive, "sync error");
        }
        drive.durable = drive.seen.clone();
        drive.loose.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (mut drive, fault) = self.turn();
        let from = offset as usize;
        // A write that a cut meets in the middle is torn between sectors.
        let whole = match fault {
            Some(Fault::Cut) if !drive.fired => data.len() / 2 / SECTOR * SECTOR,
            Some(Fault::Cut) => 0,
            Some(Fault::Write) => return gone(&mut drive, "write error"),
            _ => data.len(),
        };
        if from + data.len() > drive.seen.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = from;
        while at < from + whole {
            // To the end of its sector.
            let end = (at / SECTOR * SECTOR + SECTOR).min(from + whole);
            drive.loose.push((at, data[at - from..end - from].to_vec()));
            at = end;
        }
        drive.seen[from..from + whole].copy_from_slice(&data[..whole]);
        if fault == Some(Fault::Cut) { gone(&mut drive, "power cut") } else { Ok(()) }
    }
}

fn open(disk: &SimDisk) -> Result<LedgerStore, OpenError> {
    let path = Path::new("simulated");
    // Small, so that pages are written before the commit and read again.
    let opened = Builder::new().set_cache_size(64 * 1024).create_with_backend(disk.clone());
    opened.map_err(|e| refused(path, e)).and_then(|database| LedgerStore::begin(database, path))
}

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// All rows and the history's length: what a commit changes together.
fn state(store: &LedgerStore) -> Result<(Rows, usize), StoreError> {
    let mut rows = Rows::new();
    store.rows(.., &mut |key, value| drop(rows.insert(key.to_vec(), value.to_vec())))?;
    Ok((rows, store.history(AccountId(1), usize::MAX)?.len()))
}

fn configured() -> config::Config {
    config::load("[[dsp]]\nname = \"d\"\nurl = \"http://127.0.0.1:1/\"\n", 1).expect("a configuration")
}

/// An advertiser and what added it.
fn added(tree: &mut Tree) -> (Account, Movement) {
    let changes = Changes { daily: Some(Money(5)), ..Changes::default() };
    let operation = Operation {
        account: "acme".into(),
        act: Act::AddAdvertiser(changes),
        currency: None,
        who: String::new(),
        by: By::File,
    };
    let config = configured();
    let known = Known { rates: &config.rates, dsps: &config.dsps, now_ms: 1_795_219_200_000 };
    let moved = apply(tree, &operation, &known).expect("it can be").expect("it is new");
    (tree.get(moved.account).expect("it was added").clone(), moved)
}

fn draw_rows(rng: &mut Rng, step: u64, longest: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let row = |rng: &mut Rng| {
        let key = rng.below(400).to_be_bytes().to_vec();
        let value = [step.to_be_bytes().to_vec(), vec![7; rng.below(longest) as usize]].concat();
        (key, (!rng.chance(200)).then_some(value))
    };
    (0..=rng.below(60)).map(|_| row(rng)).collect()
}

fn with(state: &(Rows, usize), rows: &[(Vec<u8>, Option<Vec<u8>>)]) -> (Rows, usize) {
    let mut next = state.clone();
    for (key, value) in rows {
        match value {
            Some(value) => drop(next.0.insert(key.clone(), value.clone())),
            None => drop(next.0.remove(key)),
        }
    }
    next.1 += 1;
    next
}

/// One disk through several faults: whatever fails, what opens next has exactly the last committed state, or that of the commit
/// that was under way.
fn survive(seed: u64, fired: &mut BTreeMap<&'static str, u32>) {
    let mut rng = Rng::new(seed);
    let (account, moved) = added(&mut Tree::default());
    let mut disk = SimDisk::default();
    let mut known = (Rows::new(), 0);
    for life in 0..6 {
        let mut store = open(&disk).unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}"));
        let fault =
            [Fault::Cut, Fault::Cut, Fault::Full, Fault::Write, Fault::Read, Fault::Sync][rng.below(6) as usize];
        {
            let mut drive = disk.drive();
            let at = drive.operations + rng.below(400);
            drive.fault = Some((at, fault));
        }
        // A file that is to find no room has to want some.
        let longest = if fault == Fault::Full { 9_000 } else { 120 };
        for step in 0..40 {
            let rows = draw_rows(&mut rng, step, longest);
            let next = with(&known, &rows);
            let batch = Batch { accounts: vec![&account], movements: vec![&moved], rows, ..Batch::default() };
            if store.commit(&batch).is_ok() {
                known = next;
                continue;
            }
            *fired.entry(["cut", "full", "write", "read", "sync"][fault as usize]).or_default() += 1;
            // Closing must not be what saves it, and may fail as it likes.
            let ended = disk.clone();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(store)));
            disk = ended.survives(&mut rng);
            let again = open(&disk).unwrap_or_else(|e| panic!("seed {seed}, life {life}, {fault:?}: {e}"));
            let found = state(&again).unwrap_or_else(|e| panic!("seed {seed}, life {life}: {e}"));
            assert!(found == known || found == next, "seed {seed}, life {life}, {fault:?}: neither before nor after");
            assert_eq!(again.tree().map(|t| t.len()).unwrap_or(usize::MAX), usize::from(found.1 > 0), "seed {seed}");
            known = found;
            drop(again);
            disk.drive().fault = None;
            break;
        }
        disk.drive().fault = None;
        disk = disk.survives(&mut rng);
    }
}

#[test]
fn after_any_fault_it_has_what_was_committed_last() {
    let mut fired = BTreeMap::new();
    (0..40).for_each(|seed| survive(seed, &mut fired));
    println!("faults that met a commit: {fired:?}");
    for fault in ["cut", "full", "write", "sync"] {
        assert!(fired.get(fault).is_some_and(|n| *n > 5), "{fault}: {fired:?}");
    }
}

pub(super) fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("outcry-ledger-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a folder");
    dir
}

#[test]
fn accounts_and_their_history_come_back() {
    let dir = folder("back");
    let mut tree = Tree::default();
    let (account, moved) = added(&mut tree);
    let config = configured();
    {
        let mut store = LedgerStore::open(&dir).expect("it opens");
        store
            .commit(&Batch { accounts: vec![&account], movements: vec![&moved], ..Batch::default() })
            .expect("a commit");
        let pause =
            Operation { account: "acme".into(), act: Act::Pause, currency: None, who: "ops".into(), by: By::Admin };
        let known = Known { rates: &config.rates, dsps: &config.dsps, now_ms: 1_795_219_300_000 };
        let paused = apply(&mut tree, &pause, &known).expect("it can be").expect("a change");
        let account = tree.get(account.id).expect("there");
        store
            .commit(&Batch { accounts: vec![account], movements: vec![&paused], ..Batch::default() })
            .expect("a commit");
        let in_use = LedgerStore::open(&dir).expect_err("it is open").to_string();
        assert!(in_use.contains("in use by another process"), "{in_use}");
    }
    let store = LedgerStore::open(&dir).expect("it opens again");
    assert!(store.tree().expect("a tree").list().eq(tree.list()));
    let deeds: Vec<_> = store.history(account.id, 10).expect("a history").iter().map(|m| m.deed.name()).collect();
    assert_eq!(deeds, ["pause", "add"]);
    assert_eq!(store.history(account.id, 1).expect("a history").len(), 1);
    drop(store);
    std::fs::remove_dir_all(dir).expect("removed");
}

/// The library writes a file's first bytes last: whoever is killed before has left one that is no ledger yet.
#[test]
fn a_start_that_died_while_it_made_the_file_is_no_damage() {
    let dir = folder("half");
    for left in [&[0; 8192][..], b"", b"half"] {
        std::fs::write(dir.join(MAKING), left).expect("a write");
        assert!(!dir.join(FILE).exists());
        drop(LedgerStore::open(&dir).expect("it opens"));
        assert!(!dir.join(MAKING).exists());
        drop(LedgerStore::open(&dir).expect("it opens again"));
        std::fs::remove_file(dir.join(FILE)).expect("it is there");
    }
    let made = Database::create(dir.join(MAKING)).expect("one that is being made");
    assert!(matches!(LedgerStore::open(&dir), Err(OpenError::InUse { .. })));
    drop(made);
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn a_file_that_cannot_be_used_says_why_and_what_to_do() {
    let dir = folder("wrong");
    {
        let store = LedgerStore::open(&dir).expect("it opens");
        let write = store.database.begin_write().expect("a write");
        write.open_table(META).expect("a table").insert("format", FORMAT + 1).expect("an insert");
        write.commit().expect("a commit");
    }
    let newer = LedgerStore::open(&dir).expect_err("newer").to_string();
    assert!(newer.contains("has format 2") && newer.contains("run the release that wrote it"), "{newer}");
    for (name, bytes) in
        [("text", &b"this is no ledger, though it is long enough to be looked at"[..]), ("short", b"x")]
    {
        std::fs::write(dir.join(FILE), bytes).expect("written");
        let damaged = LedgerStore::open(&dir).expect_err(name).to_string();
        assert!(damaged.contains("is damaged") && damaged.contains("Restore it from a copy"), "{damaged}");
    }
    let missing = LedgerStore::open(&dir.join("not").join("there")).expect_err("no directory").to_string();
    assert!(missing.contains("make the directory writable"), "{missing}");
    std::fs::remove_dir_all(dir).expect("removed");
}

/// What a commit costs on this disk: `cargo test --release -p outcry-cores -- --ignored --nocapture ledger_speed`.
#[test]
#[ignore = "a measurement"]
fn ledger_speed() {
    let dir = folder("speed");
    let mut store = LedgerStore::open(&dir).expect("it opens");
    let value = vec![7; 42];
    for rows in [1u64, 100, 1_000, 10_000] {
        let rounds = (20_000 / rows).clamp(5, 200);
        let begin = std::time::Instant::now();
        for round in 0..rounds {
            let row = |n: u64| {
                ((n * 7_919 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec(), Some(value.clone()))
            };
            let batch = Batch { rows: (0..rows).map(row).collect(), ..Batch::default() };
            store.commit(&batch).expect("a commit");
        }
        let each = begin.elapsed() / rounds as u32;
        println!("{rows} rows: {each:?} a commit, {:.0} rows/s", rows as f64 / each.as_secs_f64());
    }
    drop(store);
    std::fs::remove_dir_all(dir).expect("removed");
}
