//! The real journal over a disk in virtual time: several lives of a process, each ended by a power cut, a kill or in order.
//! After each, everything that was called durable is there once, byte for byte, and nothing that was never written.
mod disk;
pub(super) mod faults;

use super::{
    Journal, JournalSettings,
    disk::{FileIn, Files},
    since::{self, Missing, Wanted},
};
use crate::lab::rng::Rng;
use disk::SimDisk;
use faults::Fault;
use outcry::{
    journal::{
        PAGE,
        checkpoint::{self, Checkpoint},
        reader::{Item, Known, SegmentReader},
        retention::{Level, Levels, Needs, Retention},
        segment::{FileKind, SegmentHeader, parse_file_name},
        verify::{Finding, Verify},
        writer::{Class, Refusal, Settings},
    },
    record::frame::{self, Header, Kind},
    units::{MS, Now},
};
use std::collections::BTreeMap;

const NODE: u32 = 0xab;
type Key = (u32, u16);
/// Of every key the numbers that are there.
type Found = BTreeMap<Key, Vec<u64>>;

fn settings(depth: usize, segment_extra: u64) -> JournalSettings {
    let mut writer = Settings {
        node: NODE,
        segment_bytes: 0,
        block_bytes: 4 * PAGE,
        depth,
        reserve_bytes: 8 * PAGE as u64,
        entropy: 1,
    };
    writer.segment_bytes = writer.segment_bytes_min() + segment_extra * PAGE as u64;
    JournalSettings {
        writer,
        checkpoint_bytes: 40 * PAGE as u64,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}

/// So many milliseconds after boot, which was when clocks begin.
fn clock(ms: u64) -> Now {
    Now { boot_ns: ms * MS, wall_offset_ns: 0 }
}

/// The frame of a key and a number, always the same: its length and its bytes follow from them.
fn framed(key: Key, seq: u64) -> Vec<u8> {
    let mut rng = Rng::new(u64::from(key.0) << 40 ^ u64::from(key.1) << 32 ^ seq);
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    let long = [60, 600, 6000][rng.below(3) as usize];
    let (len, fill) = (rng.below(long), rng.draw() as u8);
    out.extend((0..len).map(|i| i as u8 ^ fill));
    let header =
        Header { seq, epoch: key.0, writer: key.1, kind: Kind::Auction as u8, version: 1, hlc: (1_000 + seq) << 16 };
    frame::finish(&mut out, at, &header);
    out
}

/// What is on the disk: of every key its numbers in the order in which they stand, and what `verify` says.
fn read_all(disk: &mut SimDisk) -> Result<(Found, Vec<Finding>), String> {
    let segments: Vec<_> = disk
        .list()
        .expect("always")
        .into_iter()
        .filter_map(|(name, bytes)| match parse_file_name(&name) {
            Some((FileKind::Segment, _, segment)) => Some((name, bytes, segment)),
            _ => None,
        })
        .collect();
    let checkpoint = disk.files.get(&checkpoint::file_name(NODE)).and_then(|b| Checkpoint::decode(b).ok());
    let headers: Vec<_> = segments.iter().map(|(name, ..)| SegmentHeader::decode(&disk.files[name]).ok()).collect();
    let mut verify = Verify::new(checkpoint);
    let mut found = Found::new();
    for (i, (name, bytes, segment)) in segments.iter().enumerate() {
        let after = headers.get(i + 1).and_then(Option::as_ref);
        let file = FileIn { files: disk, name, bytes: *bytes };
        verify.segment((NODE, *segment), file, after).expect("always");
        if headers[i].is_none() {
            continue;
        }
        let known = Known { end: after.map(|a| a.previous.end), confirmed: 0 };
        let mut reader = SegmentReader::open(&disk.files[name][..], known).map_err(|_| format!("{name}: header"))?;
        while let Ok(Some(item)) = reader.next_item() {
            let Item::Block(_, block) = item else { continue };
            for frame in frame::frames(block.payload).filter(|_| !block.header.seal) {
                let frame = frame.map_err(|e| format!("{name}: {e}"))?;
                let key = (frame.header.epoch, frame.header.writer);
                if frame.bytes != framed(key, frame.header.seq) {
                    return Err(format!("{name}: {key:?} {} is not what was written", frame.header.seq));
                }
                found.entry(key).or_default().push(frame.header.seq);
            }
        }
    }
    Ok((found, verify.finish().0))
}

/// A black box: what was made, what the journal was offered, what may be forgotten.
#[derive(Clone, Copy, Default)]
struct BlackBox {
    made: u64,
    tail: u64,
    offered: u64,
}

struct World {
    rng: Rng,
    boxes: BTreeMap<Key, BlackBox>,
    made: BTreeMap<Key, u64>,
    durable: BTreeMap<Key, u64>,
    settings: JournalSettings,
    boot_ms: u64,
    wall_offset_ms: i64,
}

impl World {
    fn now(&self) -> Now {
        Now { boot_ns: self.boot_ms * MS, wall_offset_ns: self.wall_offset_ms * MS as i64 }
    }

    /// Offers what the black boxes hold, as long as it is taken.
    fn offer(&mut self, journal: &mut Journal<SimDisk>) -> Result<(), String> {
        for (key, ring) in &mut self.boxes {
            while ring.offered < ring.made {
                let bytes = framed(*key, ring.offered + 1);
                match journal.push(&frame::decode(&bytes).expect("a frame"), Class::Ordinary) {
                    Ok(_) => ring.offered += 1,
                    Err(Refusal::Busy | Refusal::Preparing | Refusal::NoSpace | Refusal::Reserve) => break,
                    Err(e) => return Err(format!("{key:?} {}: {e}", ring.offered + 1)),
                }
            }
        }
        Ok(())
    }

    /// Notes what the journal calls durable; black boxes forget that a little later.
    fn note(&mut self, journal: &Journal<SimDisk>) {
        for (key, seq) in journal.durable_positions().iter() {
            let durable = self.durable.entry(key).or_default();
            *durable = seq.max(*durable);
        }
        if self.rng.chance(300) {
            for (key, ring) in &mut self.boxes {
                ring.tail = ring.tail.max(self.durable.get(key).copied().unwrap_or(0));
            }
        }
    }

    fn check(&mut self, disk: &mut SimDisk) -> Result<(), String> {
        let (found, findings) = read_all(disk)?;
        if let Some(finding) = findings.iter().find(|f| !f.harmless()) {
            return Err(finding.to_string());
        }
        for (key, seqs) in &found {
            let made = self.made.get(key).copied().unwrap_or(0);
            if seqs.iter().copied().ne(1..=seqs.len() as u64) || seqs.len() as u64 > made {
                return Err(format!("{key:?}: {made} were made, {seqs:?} are there"));
            }
        }
        for (key, durable) in &self.durable {
            let there = found.get(key).map_or(0, |s| s.len() as u64);
            if there < *durable {
                return Err(format!("{key:?}: {durable} were durable, {there} are there"));
            }
        }
        self.check_since(disk, &found)
    }

    /// What was written since some frame is found again, and what is not there is missed.
    fn check_since(&mut self, disk: &mut SimDisk, found: &Found) -> Result<(), String> {
        let mut wanted = BTreeMap::new();
        for (key, seqs) in found {
            let upto = seqs.len() as u64;
            wanted.insert(*key, Wanted { after: self.rng.below(upto + 1), upto });
        }
        let mut read = Found::new();
        let mut since = |disk: &mut SimDisk, wanted: &BTreeMap<Key, Wanted>| {
            read.clear();
            let done = since::read(disk, NODE, wanted, &mut |_, frame| {
                read.entry((frame.header.epoch, frame.header.writer)).or_default().push(frame.header.seq);
            });
            read.values_mut().for_each(|seqs| seqs.sort_unstable());
            (done.expect("always"), read.clone())
        };
        let (done, read) = since(disk, &wanted);
        if let Some(missing) = done.missing {
            return Err(format!("{wanted:?}: {missing}"));
        }
        for (key, w) in &wanted {
            let seqs = read.get(key).map_or(&[][..], Vec::as_slice);
            if seqs.iter().copied().ne(w.after + 1..=w.upto) {
                return Err(format!("{key:?}: {w:?} are wanted, {seqs:?} are read"));
            }
        }
        // One more than there is.
        if let Some((key, w)) = wanted.iter_mut().next() {
            let key = *key;
            w.upto += 1;
            if !matches!(since(disk, &wanted).0.missing, Some(Missing::Frames { key: of, .. }) if of == key) {
                return Err(format!("{key:?}: a frame that is not there is not missed"));
            }
        }
        Ok(())
    }

    /// Drives the journal until it is idle.
    fn settle(&mut self, journal: &mut Journal<SimDisk>) -> Result<(), String> {
        for _ in 0..100_000 {
            self.offer(journal)?;
            journal.disk.advance(10);
            self.boot_ms += 100;
            journal.turn(self.now());
            self.note(journal);
            if journal.idle() && self.boxes.values().all(|b| b.offered == b.made) {
                return Ok(());
            }
        }
        Err("the journal does not come to rest".into())
    }
}

#[derive(Default)]
struct Lived {
    cuts: u32,
    torn: u32,
    segments: u64,
    abandoned: u64,
}

/// Some lives of a process. The error says what does not hold.
fn run(seed: u64) -> Result<Lived, String> {
    let mut rng = Rng::new(seed);
    let (depth, extra) = (1 + rng.below(4) as usize, rng.below(20));
    let mut disk = SimDisk::new(NODE, rng.draw());
    let troubled = rng.chance(300);
    disk.fails = if troubled { 150 } else { 0 };
    disk.hangs = if troubled { 20 } else { 0 };
    let settings = settings(depth, extra);
    if rng.chance(150) {
        disk.capacity = settings.writer.segment_bytes * (2 + rng.below(6));
    }
    let mut world = World {
        rng,
        boxes: BTreeMap::new(),
        made: BTreeMap::new(),
        durable: BTreeMap::new(),
        settings,
        boot_ms: 0,
        wall_offset_ms: 0,
    };
    let mut lived = Lived::default();
    let lives = 2 + world.rng.below(4) as u32;
    for epoch in 1..=lives {
        faults::FIRST.with_borrow_mut(|first| {
            *first = world.boxes.iter().map(|(key, ring)| (*key, ring.tail + 1)).collect();
        });
        let (mut journal, recovered) = Journal::open(disk, world.settings).map_err(|e| e.to_string())?;
        lived.torn += u32::from(recovered.torn.is_some());
        if !recovered.damages.is_empty() || recovered.bad_header.is_some() {
            return Err(format!("a start finds {recovered:?}"));
        }
        let writers = 1 + world.rng.below(3) as u16;
        for writer in 0..writers {
            world.boxes.insert((epoch, writer), BlackBox::default());
        }
        let steps = world.rng.below(60);
        for _ in 0..steps {
            let key = (epoch, world.rng.below(u64::from(writers)) as u16);
            let more = world.rng.below(12);
            let ring = world.boxes.entry(key).or_default();
            ring.made += more;
            world.made.insert(key, ring.made);
            world.offer(&mut journal)?;
            world.boot_ms += 5;
            // The clock on the wall may jump.
            if world.rng.chance(20) {
                world.wall_offset_ms = world.rng.below(4_000_000) as i64 - 2_000_000;
            }
            journal.turn(world.now());
            journal.disk.advance(world.rng.below(12));
            world.note(&journal);
        }
        lived.abandoned += journal.counts().abandoned;
        lived.segments = journal.durable().segment;
        let end = world.rng.below(5);
        let full = journal.level() >= Level::Reserve || journal.disk.capacity < u64::MAX;
        disk = match end {
            0 | 1 => {
                let mut disk = journal.into_disk();
                disk.power_cut();
                // What was not durable is gone with the black boxes.
                world.boxes.clear();
                lived.cuts += 1;
                disk
            }
            4 if !full => {
                world.settle(&mut journal)?;
                journal.end();
                world.settle(&mut journal)?;
                world.boxes.clear();
                let mut disk = journal.into_disk();
                // What is made in advance may still be under way.
                disk.kill();
                disk
            }
            _ => {
                let mut disk = journal.into_disk();
                disk.kill();
                for ring in world.boxes.values_mut() {
                    ring.offered = ring.tail;
                }
                world.boxes.retain(|_, ring| ring.tail < ring.made);
                disk
            }
        };
        world.check(&mut disk)?;
    }
    Ok(lived)
}

fn runs(default: u64) -> u64 {
    // A run here is some lives with a disk full of blocks: twenty of the auctions' simulation.
    let asked = std::env::var("OUTCRY_SIM_RUNS").ok().and_then(|n| n.parse::<u64>().ok());
    asked.map_or(default, |n| (n / 20).max(1))
}

#[test]
fn what_was_durable_is_there_and_nothing_else_whatever_dies() {
    let mut sum = Lived::default();
    for seed in 0..runs(2_000) {
        match run(seed) {
            Ok(lived) => {
                sum.cuts += lived.cuts;
                sum.torn += lived.torn;
                sum.segments += lived.segments;
                sum.abandoned += lived.abandoned;
            }
            Err(why) => panic!("seed {seed}: {why}"),
        }
    }
    println!("{} power cuts, {} torn tails, {} segments, {} given up", sum.cuts, sum.torn, sum.segments, sum.abandoned);
    // It was worth it only if these happened.
    assert!(sum.cuts > 0 && sum.torn > 0 && sum.segments > 0 && sum.abandoned > 0);
}

/// The first seed that finds a planted fault.
fn found_by(fault: Fault) -> Option<(u64, String)> {
    faults::plant(Some(fault));
    let found = (0..400).find_map(|seed| run(seed).err().map(|why| (seed, why)));
    faults::plant(None);
    found
}

#[test]
fn planted_faults_are_found() {
    let (seed, why) = found_by(Fault::DoneTooSoon).expect("found");
    println!("done too soon: seed {seed}: {why}");
    let (seed, why) = found_by(Fault::DigestTooSoon).expect("found");
    println!("digest too soon: seed {seed}: {why}");
    assert!(why.contains("was altered"), "{why}");
    let (seed, why) = found_by(Fault::NoDeduplication).expect("found");
    println!("no deduplication: seed {seed}: {why}");
    assert!(why.contains("twice"), "{why}");
}

/// A journal of some segments and so many frames that was ended in order, and what was written.
fn ended(seed: u64, frames: u64) -> (SimDisk, World) {
    let mut world = World {
        rng: Rng::new(seed),
        boxes: BTreeMap::from([((1, 0), BlackBox { made: frames, ..BlackBox::default() })]),
        made: BTreeMap::from([((1, 0), frames)]),
        durable: BTreeMap::new(),
        settings: settings(3, 8),
        boot_ms: 0,
        wall_offset_ms: 0,
    };
    let (mut journal, _) = Journal::open(SimDisk::new(NODE, seed), world.settings).expect("empty");
    world.settle(&mut journal).expect("a good disk");
    journal.end();
    world.settle(&mut journal).expect("a good disk");
    // What is behind the end is cut off too.
    for _ in 0..10 {
        journal.disk.advance(10);
        journal.turn(clock(0));
    }
    (journal.into_disk(), world)
}

#[test]
fn a_start_after_an_end_in_order_is_clean_and_reads_little() {
    let (disk, world) = ended(1, 600);
    let bytes: usize = disk.files.values().map(Vec::len).sum();
    let (_, recovered) = Journal::open(disk, world.settings).expect("a journal");
    assert!(recovered.clean && recovered.torn.is_none(), "{recovered:?}");
    assert_eq!(recovered.positions.get((1, 0)), 600);
    assert!(recovered.bytes_read * 2 < bytes as u64, "{} of {bytes} bytes", recovered.bytes_read);
}

/// Whatever bit flips: a start gets by, nothing appears that was not written, and the place is named.
#[test]
fn a_flipped_bit_is_named_and_a_start_gets_by() {
    for seed in 0..300 {
        let (mut disk, world) = ended(seed, 300);
        let mut rng = Rng::new(seed);
        let segments: Vec<String> = disk.files.keys().filter(|n| n.ends_with(".log")).cloned().collect();
        let begun: Vec<_> = segments.iter().filter(|n| disk.files[*n].iter().any(|&b| b != 0)).collect();
        let name = rng.pick(&begun).expect("some").to_string();
        let at = rng.below(disk.files[&name].len() as u64) as usize;
        disk.files.get_mut(&name).expect("it")[at] ^= 1 << rng.below(8);
        let (_, findings) = read_all(&mut disk).unwrap_or_default();
        let named = |f: &Finding| match f {
            Finding::Damaged(d) => (d.at..d.end).contains(&(at as u64)),
            Finding::Header { .. } => at < PAGE,
            _ => false,
        };
        assert!(findings.iter().any(named), "seed {seed}: {name} at {at}: {findings:?}");
        let (mut journal, recovered) = Journal::open(disk, world.settings).expect("a start");
        assert!(recovered.positions.get((1, 0)) <= 300);
        let bytes = framed((2, 0), 1);
        while journal.push(&frame::decode(&bytes).expect("a frame"), Class::Ordinary).is_err() {
            journal.disk.advance(10);
            journal.turn(clock(0));
        }
        while journal.durable_positions().get((2, 0)) == 0 {
            journal.disk.advance(10);
            journal.turn(clock(0));
        }
        let (found, _) = read_all(&mut journal.into_disk()).unwrap_or_default();
        assert!(at < PAGE || found[&(2, 0)] == [1], "seed {seed}");
    }
}

#[test]
fn a_disk_that_hangs_stops_intake_and_loses_nothing() {
    let settings = settings(2, 0);
    let (mut journal, _) = Journal::open(SimDisk::new(NODE, 1), settings).expect("empty");
    let mut seq = 0;
    let mut push = |journal: &mut Journal<SimDisk>| {
        let bytes = framed((1, 0), seq + 1);
        journal.push(&frame::decode(&bytes).expect("a frame"), Class::Ordinary).map(|_| seq += 1)
    };
    while push(&mut journal).is_err() {
        journal.turn(clock(0));
        journal.disk.advance(10);
    }
    let refused = (0..1000).find_map(|_| {
        journal.turn(clock(0));
        push(&mut journal).err()
    });
    assert_eq!((refused, journal.durable_positions().get((1, 0))), (Some(Refusal::Busy), 0));
    for _ in 0..100 {
        journal.disk.advance(10);
        journal.turn(clock(0));
    }
    assert_eq!(journal.durable_positions().get((1, 0)), seq);
}

/// The other way to stop: nothing is summed. No segment begins before the one before is in its digest, so a power cut then
/// leaves a journal that is whole.
#[test]
fn a_digest_that_hangs_stops_intake_and_loses_nothing() {
    let settings = settings(2, 0);
    let (mut journal, _) = Journal::open(SimDisk::new(NODE, 1), settings).expect("empty");
    journal.disk.digest_hangs = true;
    let mut seq = 0;
    let mut live = |journal: &mut Journal<SimDisk>| {
        for _ in 0..2_000 {
            while journal
                .push(&frame::decode(&framed((1, 0), seq + 1)).expect("a frame"), Class::Ordinary)
                .map(|_| seq += 1)
                .is_ok()
            {}
            journal.turn(clock(0));
            journal.disk.advance(10);
        }
        journal.durable()
    };
    let before = live(&mut journal);
    assert_eq!((before.segment, live(&mut journal)), (1, before), "it stands");
    journal.disk.digest_hangs = false;
    assert!(live(&mut journal).segment > 3, "and goes on");
    let durable = journal.durable_positions().get((1, 0));
    let mut disk = journal.into_disk();
    disk.power_cut();
    let (found, findings) = read_all(&mut disk).expect("as it was written");
    assert!(findings.iter().all(Finding::harmless), "{findings:?}");
    assert!(found[&(1, 0)].iter().copied().eq(1..=found[&(1, 0)].len() as u64));
    assert!(found[&(1, 0)].len() as u64 >= durable);
}

/// A clock that jumps by ten years does not take the journal with it: what is past its age goes at a pace.
#[test]
fn a_clock_that_jumps_does_not_take_the_journal_with_it() {
    const HOUR: u64 = 3_600_000;
    let mut settings = settings(3, 0);
    settings.retention.age_ms = 60 * 24 * HOUR;
    let (mut journal, _) = Journal::open(SimDisk::new(NODE, 1), settings).expect("empty");
    // One frame an hour.
    let frames = 600;
    for seq in 1..=frames {
        let mut room = vec![7; 3000];
        let header =
            Header { seq, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: 1, hlc: (seq * HOUR) << 16 };
        frame::seal(&mut room, 3000, &header);
        while journal.push(&frame::decode(&room).expect("a frame"), Class::Ordinary).is_err() {
            journal.disk.advance(10);
            journal.turn(clock(seq * HOUR));
        }
    }
    let mut live = |hours: u64, from: u64, ahead: u64| {
        for minute in 0..hours * 60 {
            let boot_ms = (frames + from) * HOUR + minute * 60_000;
            journal.turn(Now { boot_ns: boot_ms * MS, wall_offset_ns: (ahead * MS) as i64 });
            journal.disk.advance(30);
        }
        journal.disk.files.keys().filter(|n| n.ends_with(".log")).count()
    };
    let before = live(1, 0, 0);
    let years = 10 * 365 * 24 * HOUR;
    // Two at once; then a segment holds the frames of some two days, which takes a quarter of a day.
    let (at_once, a_day_later) = (live(1, 1, years), live(24, 2, years));
    assert_eq!(at_once, before - 2, "of {before}");
    assert!((before - 8..before - 3).contains(&a_day_later), "{a_day_later} of {before}");
}

#[test]
fn what_is_let_go_is_not_missing() {
    let mut settings = settings(3, 0);
    settings.retention.bytes_max = 6 * settings.writer.segment_bytes;
    let mut world = World {
        rng: Rng::new(1),
        boxes: BTreeMap::from([((1, 0), BlackBox { made: 1500, ..BlackBox::default() })]),
        made: BTreeMap::from([((1, 0), 1500)]),
        durable: BTreeMap::new(),
        settings,
        boot_ms: 0,
        wall_offset_ms: 0,
    };
    let (mut journal, _) = Journal::open(SimDisk::new(NODE, 1), settings).expect("empty");
    world.settle(&mut journal).expect("a good disk");
    let held = journal.disk.files.values().map(|f| f.len() as u64).sum::<u64>();
    assert!(held < 8 * settings.writer.segment_bytes, "{held}");
    let (_, findings) = read_all(&mut journal.disk).expect("a journal");
    assert!(findings.iter().all(Finding::harmless), "{findings:?}");
    // What something needs stays.
    journal.set_needs(Needs { shipped_below: None, exported_below: None, open_from: 0 });
    world.boxes.entry((1, 0)).or_default().made = 3000;
    world.settle(&mut journal).expect("a good disk");
    assert!(journal.disk.files.values().map(|f| f.len() as u64).sum::<u64>() > 2 * held);
    let oldest = journal.disk.files.keys().find(|n| n.ends_with(".log")).expect("one").clone();
    journal.disk.files.remove(&oldest);
    let (_, findings) = read_all(&mut journal.disk).expect("a journal");
    assert!(findings.iter().any(|f| matches!(f, Finding::Missing { .. })), "{findings:?}");
}
