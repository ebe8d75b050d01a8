//! The writer over a disk that is a map of bytes: everything it says is durable is read back, whatever order writes come
//! back in, and what is altered is named.
use super::{
    PAGE,
    block::SEAL_BYTES,
    checkpoint::Checkpoint,
    digest::Digester,
    reader::{Item, Known, SegmentReader},
    segment::SegmentHeader,
    verify::{Finding, Verify},
    writer::{Class, Io, Refusal, Resume, Settings, Taken, Write, Writer},
};
use crate::record::frame::{self, Header, Kind};
use std::{cell::Cell, collections::BTreeMap};

/// What a test can take out of the code it tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Blocks are believed without a look at their checksums.
    NoChecksum,
}

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

pub(super) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

fn settings() -> Settings {
    Settings {
        node: 0xab,
        segment_bytes: 64 * PAGE as u64 * 2,
        block_bytes: 4 * PAGE,
        depth: 4,
        reserve_bytes: 0,
        entropy: 7,
    }
}

fn framed(seq: u64, writer: u16, payload: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.extend((0..payload).map(|i| (i as u64 ^ seq) as u8));
    let header = Header { seq, epoch: 1, writer, kind: Kind::Auction as u8, version: 1, hlc: seq << 16 };
    frame::finish(&mut out, at, &header);
    out
}

/// Does what is to be done for digests, and returns what else is to be done.
pub(super) fn digesting(writer: &mut Writer<Vec<u8>>, digester: &mut Digester) -> Option<Io<Vec<u8>>> {
    loop {
        match writer.next_io()? {
            Io::Digest(p) => {
                digester.add(p.segment, p.at, &p.buf[..p.bytes]);
                writer.digested(p.role, p.buf);
            }
            Io::EndDigest { segment } => writer.digest(segment, digester.end()),
            io => return Some(io),
        }
    }
}

/// A disk that does at once what it is told.
#[derive(Default)]
struct Disk {
    files: BTreeMap<u64, Vec<u8>>,
    digester: Digester,
}

impl Disk {
    fn write(&mut self, w: &Write<Vec<u8>>) {
        let file = self.files.get_mut(&w.segment).expect("a prepared segment");
        file[w.at as usize..w.at as usize + w.bytes].copy_from_slice(&w.buf[..w.bytes]);
    }

    /// Does everything there is to do.
    fn settle(&mut self, writer: &mut Writer<Vec<u8>>) {
        while let Some(io) = digesting(writer, &mut self.digester) {
            match io {
                Io::Prepare { segment, bytes } => {
                    self.files.insert(segment, vec![0; bytes as usize]);
                    writer.prepared(segment);
                }
                Io::Write(w) => {
                    self.write(&w);
                    writer.done(w.id, w.buf);
                }
                Io::Ended { segment, end } => self.files.get_mut(&segment).expect("a segment").truncate(end as usize),
                Io::Digest(_) | Io::EndDigest { .. } => unreachable!("done"),
            }
        }
    }

    fn verify(&self, checkpoint: Option<Checkpoint>) -> Vec<Finding> {
        let mut verify = Verify::new(checkpoint);
        let headers: Vec<_> = self.files.values().map(|f| SegmentHeader::decode(f).ok()).collect();
        for (i, (segment, file)) in self.files.iter().enumerate() {
            let after = headers.get(i + 1).and_then(Option::as_ref);
            verify.segment((0xab, *segment), &file[..], after).expect("memory");
        }
        verify.finish().0
    }
}

fn writer(settings: Settings, resume: Resume) -> Writer<Vec<u8>> {
    Writer::new(settings, resume, || vec![0xee; settings.block_bytes])
}

fn push(writer: &mut Writer<Vec<u8>>, bytes: &[u8]) -> Result<Taken, Refusal> {
    writer.push(&frame::decode(bytes).expect("a frame"), Class::Ordinary)
}

/// A journal of several segments.
fn several(frames: u64) -> (Disk, Writer<Vec<u8>>) {
    let (mut disk, mut writer) = (Disk::default(), writer(settings(), Resume::default()));
    disk.settle(&mut writer);
    for seq in 1..=frames {
        loop {
            match push(&mut writer, &framed(seq, 0, 3000)) {
                Ok(Taken::New) => break,
                Err(Refusal::Busy | Refusal::Preparing) => disk.settle(&mut writer),
                other => panic!("{other:?}"),
            }
        }
    }
    disk.settle(&mut writer);
    (disk, writer)
}

#[test]
fn what_was_taken_is_read_back_over_segments() {
    let (mut disk, mut writer) = several(600);
    assert_eq!(writer.durable_positions().get((1, 0)), 600);
    assert!(disk.files.len() > 4, "{} segments", disk.files.len());
    writer.end();
    disk.settle(&mut writer);
    assert!(writer.idle());
    let spare = writer.durable().segment + 1;
    assert_eq!(disk.verify(None), [Finding::Spare { segment: spare }]);
    let mut seq = 0;
    for (segment, file) in disk.files.iter().filter(|(s, _)| **s < spare) {
        let mut reader = SegmentReader::open(&file[..], Known::default()).expect("a segment");
        while let Some(item) = reader.next_item().expect("memory") {
            let Item::Block(_, block) = item else { panic!("{item:?}") };
            let frames = frame::frames(block.payload).filter(|_| !block.header.seal);
            for frame in frames {
                seq += 1;
                assert_eq!(frame.expect("a frame").bytes, framed(seq, 0, 3000), "segment {segment}");
            }
        }
        let seal = reader.ending().seal.expect("sealed");
        assert_eq!(seal.ranges.iter().map(|r| r.frames).sum::<u64>(), seal.frames);
        assert_eq!(file.len() as u64, reader.ending().end);
    }
    assert_eq!(seq, 600);
}

#[test]
fn durable_is_in_order_whatever_order_writes_come_back_in() {
    let (mut disk, mut writer) = (Disk::default(), writer(settings(), Resume::default()));
    disk.settle(&mut writer);
    assert_eq!(push(&mut writer, &framed(1, 0, 100)), Ok(Taken::New));
    disk.settle(&mut writer);
    let mut writes = Vec::new();
    for seq in 2..=5 {
        assert_eq!(push(&mut writer, &framed(seq, 0, 100)), Ok(Taken::New));
        let Some(Io::Write(w)) = writer.next_io() else { panic!("a write") };
        writes.push(w);
    }
    // As many as may be: what comes now gathers in one block.
    for seq in 6..=9 {
        assert_eq!(push(&mut writer, &framed(seq, 0, 100)), Ok(Taken::New));
        assert_eq!(writer.next_io(), None);
    }
    let done = |disk: &mut Disk, writer: &mut Writer<Vec<u8>>, w: Write<Vec<u8>>| {
        disk.write(&w);
        writer.done(w.id, w.buf);
        writer.durable_positions().get((1, 0))
    };
    assert_eq!(done(&mut disk, &mut writer, writes.remove(3)), 1);
    assert_eq!(done(&mut disk, &mut writer, writes.remove(1)), 1);
    assert_eq!(done(&mut disk, &mut writer, writes.remove(0)), 3);
    assert_eq!(done(&mut disk, &mut writer, writes.remove(0)), 5);
    let Some(Io::Write(w)) = digesting(&mut writer, &mut disk.digester) else { panic!("a write") };
    assert_eq!((done(&mut disk, &mut writer, w), writer.idle()), (9, true));
}

#[test]
fn refusals_are_typed_and_nothing_is_taken_twice() {
    let mut writer = writer(settings(), Resume::default());
    assert_eq!(push(&mut writer, &framed(1, 0, 10)), Err(Refusal::Preparing));
    writer.prepared(1);
    assert_eq!(push(&mut writer, &framed(2, 0, 10)), Err(Refusal::Gap { expected: 1, found: 2 }));
    assert_eq!(push(&mut writer, &framed(1, 0, 10)), Ok(Taken::New));
    assert_eq!(push(&mut writer, &framed(1, 0, 10)), Ok(Taken::Known));
    writer.skip_to((1, 0), 5);
    assert_eq!(push(&mut writer, &framed(5, 0, 10)), Ok(Taken::New));
    let max = settings().frame_bytes_max();
    assert_eq!(push(&mut writer, &framed(6, 0, max)), Err(Refusal::TooLong { bytes: frame::size(max), max }));
    // No write comes back: in the end every block is full.
    let refused = (6..).find_map(|seq| {
        while let Some(Io::Write(_) | Io::Prepare { .. }) = writer.next_io() {}
        push(&mut writer, &framed(seq, 0, 3000)).err()
    });
    assert_eq!(refused, Some(Refusal::Busy));
    writer.end();
    assert_eq!(push(&mut writer, &framed(6, 1, 10)), Err(Refusal::Gap { expected: 1, found: 6 }));
    assert_eq!(push(&mut writer, &framed(1, 1, 10)), Err(Refusal::Ended));
    assert_eq!(writer.counts().skipped, 3);
}

#[test]
fn a_full_disk_keeps_a_reserve_for_settlements() {
    let settings = Settings { reserve_bytes: 8 * PAGE as u64, ..settings() };
    let (mut disk, mut writer) = (Disk::default(), writer(settings, Resume::default()));
    disk.files.insert(1, vec![0; settings.segment_bytes as usize]);
    writer.prepared(1);
    let mut settle = |writer: &mut Writer<Vec<u8>>| {
        while let Some(io) = digesting(writer, &mut disk.digester) {
            match io {
                Io::Prepare { segment, .. } => writer.unprepared(segment),
                Io::Write(w) => {
                    disk.write(&w);
                    writer.done(w.id, w.buf);
                }
                _ => {}
            }
        }
    };
    let mut seq = 0;
    let mut fill = |writer: &mut Writer<Vec<u8>>, class| {
        let from = seq;
        loop {
            match writer.push(&frame::decode(&framed(seq + 1, 0, 3000)).expect("a frame"), class) {
                Ok(_) => seq += 1,
                Err(Refusal::Busy) => {}
                Err(e) => return (seq - from, e),
            }
            settle(writer);
        }
    };
    let (ordinary, why) = fill(&mut writer, Class::Ordinary);
    assert_eq!((why, writer.room()), (Refusal::Reserve, Some(0)));
    assert!(ordinary > 50, "{ordinary}");
    let (reserved, why) = fill(&mut writer, Class::Reserved);
    assert_eq!(why, Refusal::NoSpace);
    assert!(reserved >= 8, "{reserved} frames of a page each");
    assert_eq!(writer.durable_positions().get((1, 0)), ordinary + reserved);
    // Room again.
    writer.prepare_again();
    disk.settle(&mut writer);
    assert_eq!(push(&mut writer, &framed(ordinary + reserved + 1, 0, 3000)), Ok(Taken::New));
    disk.settle(&mut writer);
    assert!(disk.verify(None).iter().all(Finding::harmless));
}

/// Fails the writes that `bad` says until the segment is given up.
fn with_failures(bad: impl Fn(u64, u64) -> bool) -> (Disk, Writer<Vec<u8>>) {
    let (mut disk, mut writer) = (Disk::default(), writer(settings(), Resume::default()));
    let mut seq = 1;
    let mut under_way = Vec::new();
    for _ in 0..100_000 {
        while seq <= 400 && push(&mut writer, &framed(seq, 0, 3000)).is_ok() {
            seq += 1;
        }
        while let Some(io) = digesting(&mut writer, &mut disk.digester) {
            match io {
                Io::Prepare { segment, bytes } => {
                    disk.files.insert(segment, vec![0; bytes as usize]);
                    writer.prepared(segment);
                }
                Io::Write(w) => under_way.push(w),
                Io::Ended { segment, end } => disk.files.get_mut(&segment).expect("there").truncate(end as usize),
                Io::Digest(_) | Io::EndDigest { .. } => unreachable!("done"),
            }
        }
        // The last one first.
        match under_way.pop() {
            Some(w) if bad(w.segment, w.at) => writer.failed(w.id, w.buf),
            Some(w) => {
                disk.write(&w);
                writer.done(w.id, w.buf);
            }
            None if seq > 400 => break,
            None => {}
        }
    }
    assert_eq!(writer.durable_positions().get((1, 0)), 400);
    (disk, writer)
}

#[test]
fn a_place_that_cannot_be_written_is_left_behind() {
    for at in [4096, 40_960, 200_000, 460_000, 500_000] {
        let (disk, writer) = with_failures(|segment, write| segment == 2 && (at..at + 16_384).contains(&write));
        assert_eq!(writer.counts().abandoned, 1, "at {at}");
        let findings = disk.verify(None);
        assert!(findings.iter().all(Finding::harmless), "at {at}: {findings:?}");
    }
}

#[test]
fn a_header_that_cannot_be_written_gets_a_new_file() {
    let tries = Cell::new(0);
    let (disk, writer) = with_failures(|segment, at| {
        let fails = segment == 3 && at == 0 && tries.get() < 5;
        tries.set(tries.get() + u32::from(fails));
        fails
    });
    assert_eq!((writer.counts().failures, writer.counts().abandoned), (5, 0));
    assert!(disk.verify(None).iter().all(Finding::harmless));
}

#[test]
fn every_flipped_bit_is_named_by_segment() {
    let (disk, writer) = several(450);
    let checkpoint = Checkpoint { first_segment: 1, durable: writer.durable(), ..Checkpoint::default() };
    assert_eq!(disk.verify(Some(checkpoint.clone())), [Finding::Spare { segment: writer.durable().segment + 1 }]);
    let flip = |at: usize| {
        let mut disk = Disk { files: disk.files.clone(), ..Disk::default() };
        disk.files.get_mut(&2).expect("segment 2")[at] ^= 16;
        disk.verify(Some(checkpoint.clone()))
    };
    let len = disk.files[&2].len();
    for at in (0..len).step_by(4093) {
        let findings = flip(at);
        let by_digest = findings.contains(&Finding::Altered { segment: 2, by: 3 });
        let place = findings.iter().any(|f| match f {
            Finding::Damaged(d) => d.segment == 2 && (d.at..d.end).contains(&(at as u64)),
            Finding::Header { segment, .. } => *segment == 2 && at < PAGE,
            _ => false,
        });
        assert!(place && (by_digest || at < PAGE), "at {at}: {findings:?}");
    }
    // The planted fault: only the digest is left to see it, and it does not say where.
    PLANTED.set(Some(Fault::NoChecksum));
    let findings = flip(PAGE + 2000);
    PLANTED.set(None);
    assert!(!findings.iter().any(|f| matches!(f, Finding::Damaged(_))), "the test above would find it: {findings:?}");
}

#[test]
fn missing_swapped_altered_and_cut_off() {
    let (disk, writer) = several(400);
    let checkpoint = Checkpoint { first_segment: 1, durable: writer.durable(), ..Checkpoint::default() };
    let last = writer.durable().segment;
    type Files = BTreeMap<u64, Vec<u8>>;
    let check = |change: &dyn Fn(&mut Files), expected: &dyn Fn(&Finding) -> bool| {
        let mut disk = Disk { files: disk.files.clone(), ..Disk::default() };
        change(&mut disk.files);
        let findings = disk.verify(Some(checkpoint.clone()));
        assert!(findings.iter().any(expected), "{findings:?}");
    };
    check(&|f| drop(f.remove(&2)), &|f| *f == Finding::Missing { from: 2, to: 2 });
    check(&|f| drop(f.remove(&1)), &|f| *f == Finding::Missing { from: 1, to: 1 });
    check(&|f| f.retain(|s, _| *s < last), &|f| *f == Finding::Missing { from: last, to: last });
    let swap = |f: &mut Files| {
        let (two, three) = (f[&2].clone(), f[&3].clone());
        f.insert(2, three);
        f.insert(3, two);
    };
    check(&swap, &|f| matches!(f, Finding::Swapped { named: 2, holds: 3, .. }));
    // A block taken out of the middle, the rest moved up.
    let cut = |f: &mut Files| drop(f.get_mut(&2).expect("segment 2").drain(PAGE..5 * PAGE));
    check(&cut, &|f| matches!(f, Finding::Damaged(d) if d.segment == 2));
    let end = writer.durable().end as usize;
    let shorten = |f: &mut Files| f.get_mut(&last).expect("the last")[end - 4 * PAGE..].fill(0);
    check(&shorten, &|f| matches!(f, Finding::Damaged(d) if d.segment == last));
    // Someone who makes the checksum of a block anew is found by the digest.
    let forge = |f: &mut Files| {
        let file = f.get_mut(&2).expect("segment 2");
        let header = SegmentHeader::decode(file).expect("a header");
        let block = super::block::decode(&file[PAGE..], header.salt).expect("a block").header;
        file[PAGE + 200] ^= 1;
        super::block::seal_block(&mut file[PAGE..], &block, header.salt);
    };
    check(&forge, &|f| *f == Finding::Altered { segment: 2, by: 3 });
}

/// A hole that was never confirmed is the torn tail; one that was, is damage.
#[test]
fn torn_or_damaged_is_told_by_what_was_confirmed() {
    let (mut disk, mut writer) = (Disk::default(), writer(settings(), Resume::default()));
    disk.settle(&mut writer);
    let block = |seq| framed(seq, 0, 100);
    assert_eq!(push(&mut writer, &block(1)), Ok(Taken::New));
    disk.settle(&mut writer);
    let mut writes = Vec::new();
    for seq in 2..=4 {
        assert_eq!(push(&mut writer, &block(seq)), Ok(Taken::New));
        let Some(Io::Write(w)) = writer.next_io() else { panic!("a write") };
        writes.push(w);
    }
    // Blocks 3 and 4 are on disk, 2 is not: power cut.
    disk.write(&writes[1]);
    disk.write(&writes[2]);
    let read = |disk: &Disk| {
        let mut reader = SegmentReader::open(&disk.files[&1][..], Known::default()).expect("a segment");
        let mut seen = Vec::new();
        while let Some(item) = reader.next_item().expect("memory") {
            seen.push(match item {
                Item::Block(_, block) => Ok(block.header.number),
                Item::Damage(damage) => Err((damage.block, damage.blocks)),
            });
        }
        (seen, reader.ending())
    };
    let (seen, ending) = read(&disk);
    assert_eq!((seen, ending.end, ending.next_block), (vec![Ok(1)], 2 * PAGE as u64, 2));
    assert_eq!(ending.torn.map(|t| (t.blocks, t.bytes)), Some((2, 3 * PAGE as u64)));
    // All three come back, and a later block knows it. Then block 2 is lost.
    for w in writes {
        disk.write(&w);
        writer.done(w.id, w.buf);
    }
    assert_eq!(push(&mut writer, &block(5)), Ok(Taken::New));
    disk.settle(&mut writer);
    disk.files.get_mut(&1).expect("segment 1")[2 * PAGE..3 * PAGE].fill(0);
    let (seen, ending) = read(&disk);
    assert_eq!((seen, ending.torn), (vec![Ok(1), Err((2, 1)), Ok(3), Ok(4), Ok(5)], None));
}

#[test]
fn a_segment_is_ended_before_its_seal_overflows() {
    let (mut disk, mut writer) = (Disk::default(), writer(settings(), Resume::default()));
    disk.settle(&mut writer);
    for epoch_writer in 0..1200 {
        let bytes = framed(1, epoch_writer, 0);
        while push(&mut writer, &bytes).is_err() {
            disk.settle(&mut writer);
        }
    }
    disk.settle(&mut writer);
    assert_eq!(writer.durable_positions().len(), 1200);
    assert_eq!(writer.durable().segment, 3);
    assert!(disk.files[&1].len() >= SEAL_BYTES);
    assert!(disk.verify(None).iter().all(Finding::harmless));
}
