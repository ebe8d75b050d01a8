//! The stream in virtual time, on a disk that is told what to do.
use super::{
    store::{FILE_MS, File, Place, RETRY_MS, Settings, Store, TIDY_MS, Trouble, file_name, is_ours},
    *,
};
use crate::{
    flush::FlushRole,
    wiring::{FlushEnds, wire},
};
use flate2::read::MultiGzDecoder;
use outcry::{
    journal::retention::Retention,
    limits::RAW_BLOCK_BYTES,
    messages::{ControlToFlush, FlushToControl},
    record::{
        raw::{Head, Message, What, frame_bytes, write_frame},
        totals::Totals,
    },
    units::EventId,
};
use rtrb::Producer;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    io::{self, ErrorKind, Read},
    rc::Rc,
};

const DAY_MS: u64 = 86_400_000;
const T0_MS: u64 = 1_769_860_800_000;

#[derive(Debug, Default)]
struct Disk {
    /// Name: bytes, when they were last written.
    files: BTreeMap<String, (Vec<u8>, u64)>,
    capacity: u64,
    now_ms: u64,
    open: String,
    /// Appends fail so, after so many bytes of each.
    fails: Option<(ErrorKind, usize)>,
    touched: u32,
}

type Shared = Rc<RefCell<Disk>>;

#[derive(Debug)]
struct Memory(Shared);

impl Place for Memory {
    fn list(&mut self) -> io::Result<Vec<File>> {
        let disk = self.0.borrow();
        let file = |(name, (bytes, last_ms)): (&String, &(Vec<u8>, u64))| File {
            name: name.clone(),
            bytes: bytes.len() as u64,
            last_ms: *last_ms,
        };
        Ok(disk.files.iter().map(file).collect())
    }

    fn free(&mut self) -> io::Result<u64> {
        let disk = self.0.borrow();
        Ok(disk.capacity - disk.files.values().map(|f| f.0.len() as u64).sum::<u64>())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        let now_ms = disk.now_ms;
        disk.open = name.to_owned();
        assert!(disk.files.insert(name.to_owned(), (Vec::new(), now_ms)).is_none(), "{name} twice");
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        disk.touched += 1;
        let (now_ms, open, fails) = (disk.now_ms, disk.open.clone(), disk.fails);
        let file = disk.files.get_mut(&open).expect("an open file");
        let (kind, written) = fails.map_or((None, bytes.len()), |(kind, n)| (Some(kind), n));
        file.0.extend_from_slice(&bytes[..written]);
        file.1 = now_ms;
        kind.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().files.remove(name).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }
}

fn settings(file_bytes: u64, bytes_max: u64, leave_bytes: u64) -> Settings {
    Settings { node: 1, epoch: 2, file_bytes, retention: Retention { age_ms: 7 * DAY_MS, bytes_max }, leave_bytes }
}

fn disk(capacity: u64) -> Shared {
    Rc::new(RefCell::new(Disk { capacity, now_ms: T0_MS, ..Disk::default() }))
}

/// Names that are there, by number.
fn numbers(disk: &Shared) -> Vec<u32> {
    let disk = disk.borrow();
    disk.files.keys().filter(|n| is_ours(n)).map(|n| n[n.len() - 13..n.len() - 3].parse().expect("a number")).collect()
}

struct Machine {
    disk: Shared,
    cores: Vec<Producer<u8>>,
    role: RawRole<Memory>,
    flush: FlushRole,
    control: crate::wiring::ControlEnds,
    said: Vec<String>,
    ms: u64,
}

impl Machine {
    fn new(cores: usize, settings: Settings, capacity: u64) -> Machine {
        let wiring = wire(cores).unwrap();
        let disk = disk(capacity);
        let at = Now { boot_ns: 0, wall_offset_ns: T0_MS as i64 * MS as i64 };
        let role = RawRole::new(wiring.raw, Store::new(Memory(disk.clone()), settings), false, at);
        let ends: FlushEnds = wiring.flush;
        let flush = FlushRole::new(ends, 0, at).unwrap();
        let cores = wiring.bidders.into_iter().map(|b| b.raw).collect();
        Machine { disk, cores, role, flush, control: wiring.control, said: Vec::new(), ms: 0 }
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.ms * MS, wall_offset_ns: T0_MS as i64 * MS as i64 }
    }

    fn turn(&mut self) -> Found {
        let now = self.now();
        let said = &mut self.said;
        let found = self.role.turn(now, &mut |line| said.push(line.to_owned()));
        self.flush.turn(now);
        found
    }

    fn wait(&mut self, ms: u64) {
        self.ms += ms;
        self.disk.borrow_mut().now_ms = T0_MS + self.ms;
        self.turn();
    }

    /// An auction with a request that packs badly: so many bytes of it.
    fn auction(&mut self, core: usize, seq: u64, noise: usize) {
        let mut state = seq;
        let mut hex = || {
            state = outcry::units::mix(state);
            format!("{state:016x}")
        };
        let noise: String = std::iter::repeat_with(&mut hex).take(noise / 16).collect();
        let body = format!("{{\"id\":\"r-{seq}\",\"noise\":\"{noise}\"}}");
        let messages = [Message { what: What::Request, dsp: b"", status: 0, body: body.as_bytes() }];
        let event = EventId { node: 1, epoch: 2, core: core as u16, seq };
        let head = Head { event, wall_ms: T0_MS + self.ms, exchange: b"default" };
        let bytes = frame_bytes(&head, messages.into_iter());
        write_frame(bytes, &head, messages.into_iter(), |piece| self.cores[core].push_entire_slice(piece).unwrap());
    }

    /// Ids of the requests that can be read back, file by file.
    fn kept(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for (bytes, _) in self.disk.borrow().files.values() {
            let mut text = Vec::new();
            // A torn end is an error behind everything before it.
            let _ = MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text);
            for line in String::from_utf8(text).expect("text").lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                ids.push(line["id"].as_str().expect("an id").to_owned());
            }
        }
        ids
    }

    /// What was counted in all.
    fn totals(&mut self) -> Box<Totals> {
        let mut last = None;
        for _ in 0..4 {
            self.wait(1_000);
            while let Ok(FlushToControl::Totals(totals)) = self.control.from_flush.pop() {
                if let Some(empty) = last.replace(totals) {
                    self.control.to_flush.push(ControlToFlush::Empty(empty)).expect("room for every box");
                }
            }
        }
        last.expect("totals")
    }
}

#[test]
fn auctions_of_all_cores_are_kept_within_a_second() {
    let mut m = Machine::new(2, settings(1 << 20, 1 << 30, 0), 1 << 40);
    assert_eq!(m.turn(), Found::Nothing);
    m.wait(TIDY_MS);
    assert!(m.disk.borrow().files.is_empty(), "nothing to keep, nothing made");
    m.auction(0, 1, 0);
    m.auction(1, 2, 0);
    m.auction(0, 3, 0);
    assert_eq!(m.turn(), Found::All);
    assert!(m.kept().is_empty());
    m.wait(1_000);
    assert_eq!(m.kept(), ["r-1", "r-3", "r-2"]);
    m.auction(0, 4, 2 * RAW_BLOCK_BYTES);
    m.turn();
    assert_eq!(m.kept().len(), 4, "a whole block does not wait");
    assert_eq!(numbers(&m.disk), [1]);
    let bytes = m.disk.borrow().files.values().map(|f| f.0.len() as u64).sum::<u64>();
    let totals = m.totals();
    assert_eq!((totals.counter(Counter::RawAuctions), totals.counter(Counter::RawBytes)), (4, bytes));
    assert_eq!(totals.cores_seen(), 0, "it is no core");
}

#[test]
fn half_an_auction_is_waited_for_and_given_up_with_its_core() {
    let mut m = Machine::new(1, settings(1 << 20, 1 << 30, 0), 1 << 40);
    m.auction(0, 1, 0);
    m.cores[0].push_entire_slice(&100u32.to_le_bytes()).unwrap();
    m.cores[0].push_entire_slice(&[0; 50]).unwrap();
    m.turn();
    m.wait(10);
    assert!(!m.role.finished() && m.kept().is_empty());
    m.cores.clear();
    m.turn();
    assert!(m.role.finished());
    assert_eq!(m.kept(), ["r-1"], "what was whole is written at the end, at once");
}

#[test]
fn a_share_is_bounded() {
    let mut m = Machine::new(2, settings(1 << 30, 1 << 30, 0), 1 << 40);
    for seq in 0..3 {
        m.auction(0, seq, SHARE_BYTES);
    }
    m.auction(1, 9, 0);
    assert_eq!(m.turn(), Found::More);
    m.wait(1_000);
    assert!(m.kept().contains(&"r-9".to_owned()), "whoever has little is not behind whoever has much");
    assert_eq!((m.turn(), m.turn()), (Found::More, Found::Nothing));
    m.wait(1_000);
    assert_eq!(m.kept().len(), 4);
}

#[test]
fn files_end_by_size_and_by_age_and_go_by_age_and_by_size() {
    let disk = disk(1 << 40);
    let mut store = Store::new(Memory(disk.clone()), settings(300, 1_000, 0));
    disk.borrow_mut().files.insert("other.gz".into(), (vec![0; 5_000], 0));
    disk.borrow_mut().files.insert(file_name(7, 1, 1), (vec![0; 100], T0_MS - 7 * DAY_MS + 1));
    let mut append = |at_ms: u64| {
        disk.borrow_mut().now_ms = at_ms;
        store.append(&[1; 100], at_ms).expect("kept");
        let names = disk.borrow().files.keys().cloned().collect::<Vec<_>>();
        assert!(names.contains(&"other.gz".to_owned()));
        (names.contains(&file_name(7, 1, 1)), numbers(&disk).len() - usize::from(names.contains(&file_name(7, 1, 1))))
    };
    for (at_ms, old, files) in [
        (T0_MS, true, 1),
        (T0_MS, true, 1),
        (T0_MS, true, 1),
        // The first was full; another node's file has become too old since.
        (T0_MS + 2, false, 2),
        // An hour later it is ended though it is short.
        (T0_MS + 2 + FILE_MS, false, 2),
        (T0_MS + 3 + FILE_MS, false, 3),
    ] {
        assert_eq!(append(at_ms), (old, files), "at {}", at_ms - T0_MS);
    }
    for _ in 0..20 {
        append(T0_MS + FILE_MS + 4);
        let bytes: usize = disk.borrow().files.iter().filter(|f| is_ours(f.0)).map(|f| f.1.0.len()).sum();
        assert!(bytes <= 1_000, "{bytes}");
    }
    // Nothing new comes: what is there goes all the same.
    store.tidy(T0_MS + 9 * DAY_MS);
    store.tidy(T0_MS + 9 * DAY_MS + TIDY_MS);
    assert_eq!(disk.borrow().files.keys().collect::<Vec<_>>(), ["other.gz"]);
}

#[test]
fn the_journals_room_stays_free() {
    let disk = disk(1_000);
    let mut store = Store::new(Memory(disk.clone()), settings(200, 10_000, 400));
    for _ in 0..6 {
        store.append(&[1; 100], T0_MS).expect("there is room");
    }
    // The seventh goes where the oldest was; a block longer than what may be had goes nowhere.
    store.append(&[1; 100], T0_MS).expect("the oldest gives way");
    assert_eq!(numbers(&disk), [2, 3, 4]);
    assert_eq!(store.append(&[1; 700], T0_MS), Err(Trouble::NoRoom));
    // The journal grows: everything gives way, and then nothing is written.
    disk.borrow_mut().capacity = 400;
    store.tidy(T0_MS + TIDY_MS);
    assert!(numbers(&disk).is_empty());
    assert_eq!(store.append(&[1; 1], T0_MS + TIDY_MS), Err(Trouble::NoRoom));
    disk.borrow_mut().capacity = 501;
    assert!(store.ready(T0_MS + TIDY_MS + RETRY_MS - 1).is_err(), "not tried at once");
    assert_eq!(store.ready(T0_MS + TIDY_MS + RETRY_MS), Ok(()));
    store.append(&[1; 101], T0_MS + TIDY_MS + RETRY_MS).expect("there is room again");
}

#[test]
fn a_disk_that_refuses_costs_what_it_refuses() {
    for (kind, counter) in [(ErrorKind::StorageFull, Counter::RawNoRoom), (ErrorKind::Other, Counter::RawFailed)] {
        let mut m = Machine::new(1, settings(1 << 20, 1 << 30, 0), 1 << 40);
        m.auction(0, 1, 0);
        m.turn();
        m.wait(1_000);
        m.disk.borrow_mut().fails = Some((kind, 7));
        m.auction(0, 2, 0);
        m.turn();
        m.wait(1_000);
        let touched = m.disk.borrow().touched;
        // Shortly behind it nothing is tried.
        m.auction(0, 3, 2 * RAW_BLOCK_BYTES);
        m.turn();
        assert_eq!(m.disk.borrow().touched, touched);
        assert!(m.said.len() == 1 && m.said[0].starts_with("WARNING"), "said once: {:?}", m.said);
        m.disk.borrow_mut().fails = None;
        m.wait(RETRY_MS);
        m.auction(0, 4, 0);
        m.turn();
        m.wait(1_000);
        assert_eq!(m.kept(), ["r-1", "r-4"], "what is torn is the end of a file");
        assert_eq!(numbers(&m.disk), [1, 2]);
        assert_eq!(m.said.len(), 2, "{:?}", m.said);
        let totals = m.totals();
        assert_eq!((totals.counter(Counter::RawAuctions), totals.counter(counter)), (2, 2));
    }
}

#[test]
fn only_names_of_the_stream_are_its_own() {
    assert!(is_ours(&file_name(u32::MAX, u32::MAX, 1)));
    for name in [
        "raw-.gz",
        "raw-00000001-0000000002-0000000003.gz.tmp",
        "raw-00000001-2-3.gz",
        "journal-00000001-0000000001.log",
    ] {
        assert!(!is_ours(name), "{name}");
    }
}
