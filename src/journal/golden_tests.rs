//! The golden files: a journal of every version of the format, byte for byte as it was written, and what is in it. Version
//! 1 is written again and compared: who changes the format by accident learns it here. To accept a change on purpose:
//! `OUTCRY_BLESS=1 cargo test -p outcry golden`, and read the diff.
use super::{
    block,
    checkpoint::{self, Checkpoint},
    digest::Digester,
    index::{Builder, Index, Place, hash},
    positions::Positions,
    reader::{Item, Known, SegmentReader},
    segment::{FileKind, Previous, SegmentHeader, file_name, parse_file_name},
    tests::digesting,
    verify::{Verify, digest},
    writer::{Class, Io, Resume, Settings, Writer},
};
use crate::record::frame::{self, Header, Kind, WRITER_CONTROL, WRITER_FLUSH};
use std::{collections::BTreeMap, fs, path::PathBuf};

const NODE: u32 = 0xab;
const SETTINGS: Settings = Settings {
    node: NODE,
    segment_bytes: 32 * super::PAGE as u64,
    block_bytes: block::SEAL_BYTES,
    depth: 1,
    reserve_bytes: 0,
    entropy: 0x5eed,
};

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("src/journal/golden/v{version}"))
}

/// Where the golden file of what is written today is: an index has a version of its own.
fn golden(name: &str) -> PathBuf {
    let folder = if name.ends_with(".idx") { folder(1).with_file_name(INDEX) } else { folder(1) };
    folder.join(name)
}

/// The folder of indices of today's version.
const INDEX: &str = "index_v2";

/// 2026-01-31T12:00:00.000Z and some.
fn hlc(counter: u64) -> u64 {
    (1_769_860_800_000 << 16) + counter
}

fn framed(key: (u32, u16), seq: u64, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.extend_from_slice(payload);
    let header = Header { seq, epoch: key.0, writer: key.1, kind: kind as u8, version: 1, hlc: hlc(seq) };
    frame::finish(&mut out, at, &header);
    out
}

/// Writes batches of frames, each a block; returns the writer.
fn write(files: &mut BTreeMap<u64, Vec<u8>>, resume: Resume, batches: &[Vec<Vec<u8>>], end: bool) -> Writer<Vec<u8>> {
    let mut writer = Writer::new(SETTINGS, resume, || vec![0; SETTINGS.block_bytes]);
    let first = writer.durable().segment + 1;
    let mut digester = Digester::default();
    let mut settle = |writer: &mut Writer<Vec<u8>>| {
        while let Some(io) = digesting(writer, &mut digester) {
            match io {
                Io::Prepare { segment, bytes } => {
                    files.insert(segment, vec![0; bytes as usize]);
                    writer.prepared(segment);
                }
                Io::Write(w) => {
                    let file = files.get_mut(&w.segment).expect("prepared");
                    file[w.at as usize..w.at as usize + w.bytes].copy_from_slice(&w.buf[..w.bytes]);
                    writer.done(w.id, w.buf);
                }
                Io::Ended { segment, end } => {
                    // What is behind the end of an earlier life's stays to be looked at.
                    if let Some(file) = files.get_mut(&segment).filter(|_| segment >= first) {
                        file.truncate(end as usize);
                    }
                }
                Io::Digest(_) | Io::EndDigest { .. } => unreachable!("done"),
            }
        }
    };
    settle(&mut writer);
    for batch in batches {
        for bytes in batch {
            writer.push(&frame::decode(bytes).expect("a frame"), Class::Ordinary).expect("room");
        }
        settle(&mut writer);
    }
    if end {
        writer.end();
        settle(&mut writer);
    }
    let next = writer.durable().segment + 1;
    files.remove(&next);
    writer
}

fn resume(files: &BTreeMap<u64, Vec<u8>>, positions: &Positions) -> Resume {
    let (segment, file) = files.last_key_value().expect("a segment");
    let mut reader = SegmentReader::open(&file[..], Known::default()).expect("a segment");
    while reader.next_item().expect("memory").is_some() {}
    let ending = reader.ending();
    let digest = digest(&mut &file[..], ending.end).expect("memory").expect("long enough");
    Resume {
        segment: segment + 1,
        block: ending.next_block,
        previous: Previous { end: ending.end, digest, crc: ending.crc.expect("good") },
        positions: positions.clone(),
    }
}

/// Version 1: a segment that ended in order; one that was cut off by a power cut, in the middle of a block; one that goes on.
fn version_1() -> BTreeMap<String, Vec<u8>> {
    let mut segments = BTreeMap::new();
    let long = vec![0x5a; 5000];
    let first = [
        vec![framed((1, WRITER_CONTROL), 1, Kind::Start, b"start")],
        vec![
            framed((1, 0), 1, Kind::Auction, b"request-1"),
            framed((1, 1), 1, Kind::Auction, &long),
            framed((1, 0), 2, Kind::Delivery, b""),
            framed((1, WRITER_FLUSH), 1, Kind::Refusals, &[1, 2, 3]),
        ],
        vec![framed((1, WRITER_CONTROL), 2, Kind::Stop, b""), framed((1, WRITER_FLUSH), 2, Kind::Clean, b"clean")],
    ];
    let writer = write(&mut segments, Resume::default(), &first, true);
    let second = [
        vec![framed((2, 0), 1, Kind::Auction, b"request-2")],
        vec![framed((2, 0), 2, Kind::Auction, b"request-3")],
        vec![framed((2, 0), 3, Kind::Auction, &long)],
    ];
    let next = resume(&segments, writer.durable_positions());
    let writer = write(&mut segments, next, &second, false);
    let torn = segments.get_mut(&2).expect("it");
    torn[3 * 4096 + 512..].fill(0);
    torn.truncate(4 * 4096);
    let mut positions = writer.durable_positions().clone();
    positions = positions.iter().map(|(key, seq)| (key, if key == (2, 0) { 2 } else { seq })).collect();
    let third = [vec![
        // Read out of the black box.
        framed((2, 0), 3, Kind::Auction, &long),
        framed((3, 0), 1, Kind::RawRequest, br#"{"id":"request-4"}"#),
    ]];
    let next = resume(&segments, &positions);
    let writer = write(&mut segments, next, &third, false);
    segments.get_mut(&3).expect("it").truncate(5 * 4096);

    let name = |kind, segment| file_name(kind, NODE, segment);
    let mut files: BTreeMap<_, _> =
        segments.iter().map(|(segment, bytes)| (name(FileKind::Segment, *segment), bytes.clone())).collect();
    let mut index = Builder::default();
    index.add(b"request-1", Place { block: 2 * 4096, frame: 64 });
    index.times(hlc(1), hlc(2));
    files.insert(name(FileKind::Index, 1), index.finish(NODE, 1, segments[&1].len() as u64));
    let checkpoint = Checkpoint {
        node: NODE,
        hlc: hlc(9),
        first_segment: 1,
        durable: writer.durable(),
        positions: writer.durable_positions().clone(),
    };
    files.insert(checkpoint::file_name(NODE), checkpoint.encode());
    files
}

#[test]
fn golden_files_are_what_is_written() {
    let written = version_1();
    if std::env::var_os("OUTCRY_BLESS").is_some() {
        for (name, bytes) in &written {
            let path = golden(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("a golden file");
        }
    }
    for (name, bytes) in &written {
        let golden = fs::read(golden(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let differs = golden.iter().zip(bytes).position(|(a, b)| a != b);
        assert!(
            golden == *bytes,
            "{name}: {} and {} bytes, first difference at {differs:?}",
            golden.len(),
            bytes.len()
        );
    }
}

#[test]
fn golden_files_of_every_version_are_read() {
    for version in 1..=super::segment::VERSION {
        let mut files: Vec<_> = fs::read_dir(folder(version)).expect("a folder").flatten().map(|e| e.path()).collect();
        files.sort();
        let read = |end: &str| -> Vec<(String, Vec<u8>)> {
            let of = files.iter().filter(|p| p.to_string_lossy().ends_with(end));
            of.map(|p| (p.file_name().expect("a name").to_string_lossy().into(), fs::read(p).expect("it"))).collect()
        };
        let checkpoint = Checkpoint::decode(&read(".checkpoint")[0].1).expect("a checkpoint");
        assert_eq!(checkpoint.positions.get((2, 0)), 3);
        let mut verify = Verify::new(Some(checkpoint));
        let segments = read(".log");
        for (i, (name, bytes)) in segments.iter().enumerate() {
            let (_, node, segment) = parse_file_name(name).expect("a name");
            let after = segments.get(i + 1).map(|(_, next)| SegmentHeader::decode(next).expect("a header"));
            verify.segment((node, segment), &bytes[..], after.as_ref()).expect("memory");
        }
        let (findings, seen) = verify.finish();
        assert_eq!(findings, []);
        assert_eq!((seen.segments, seen.blocks, seen.frames), (3, 7, 11));
        let mut indices = read(".idx");
        assert_eq!(indices.len(), 1);
        let name = indices[0].0.clone();
        indices.push((name.clone(), fs::read(golden(&name)).expect("today's")));
        for (at, (_, bytes)) in indices.iter().enumerate() {
            let mut index = Index::open(&bytes[..]).expect("an index");
            assert_eq!(index.header().version as usize, at + 1);
            let place = index.find(hash(b"request-1"), 9).expect("pages")[0];
            let block = block::decode(
                &segments[0].1[place.block as usize..],
                SegmentHeader::decode(&segments[0].1).expect("it").salt,
            );
            let frame = frame::decode(&block.expect("a block").payload[place.frame as usize - block::BLOCK_HEADER..]);
            assert_eq!(frame.expect("a frame").payload(), b"request-1");
        }
        // Read alone, the second says itself that its last block was torn.
        let mut alone = SegmentReader::open(&segments[1].1[..], Known::default()).expect("a segment");
        while let Some(item) = alone.next_item().expect("memory") {
            assert!(matches!(item, Item::Block(..)));
        }
        assert_eq!((alone.ending().end, alone.ending().torn.map(|t| t.bytes)), (3 * 4096, Some(4096)));
    }
}
