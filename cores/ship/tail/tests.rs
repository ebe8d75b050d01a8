use super::*;
use crate::{
    fixtures::Tree,
    journal::{Journal, JournalSettings, StdDisk, dir::Dir},
};
use outcry::{
    journal::{
        retention::{Levels, Retention},
        writer::{Class, Durable, Refusal, Settings},
    },
    record::frame::{self, Header, Kind},
    units::{MS, Now},
};
use std::{fs, io::Write as _};

const NODE: u32 = 0xab;

fn settings() -> JournalSettings {
    let mut writer = Settings {
        node: NODE,
        segment_bytes: 0,
        block_bytes: 4 * PAGE,
        depth: 3,
        reserve_bytes: 8 * PAGE as u64,
        entropy: 1,
    };
    writer.segment_bytes = writer.segment_bytes_min() + 20 * PAGE as u64;
    JournalSettings {
        writer,
        checkpoint_bytes: 40 * PAGE as u64,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}

fn framed(seq: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.resize(out.len() + (seq % 3_000) as usize, seq as u8);
    let header = Header { seq, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: 1, hlc: (1_000 + seq) << 16 };
    frame::finish(&mut out, at, &header);
    out
}

fn durable(journal: &Journal<StdDisk>) -> Position {
    let Durable { segment, end, .. } = journal.durable();
    Position { segment, offset: end }
}

/// What a tail gives up to where it is durable: numbers of frames, and troubles.
fn read(tail: &mut Tail<Dir>, at: &mut Position, upto: Position, seen: &mut Vec<u64>) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    loop {
        let mut frames = Vec::new();
        match tail.read(*at, upto, &mut frames) {
            Ok(None) => return troubles,
            Ok(Some(next)) => *at = next,
            Err(Trouble::Disk(why)) => panic!("{why}"),
            Err(trouble) => {
                let (Trouble::Gone(next) | Trouble::Damaged(next)) = trouble.clone() else { unreachable!() };
                *at = next;
                troubles.push(trouble);
            }
        }
        seen.extend(frame::frames(&frames).map(|frame| frame.unwrap().header.seq));
    }
}

/// A journal of several segments in a directory of its own, written while it is read.
fn written(frames: u64) -> (Tree, Vec<u64>, Position) {
    let tree = Tree::in_memory();
    let (mut journal, _) = Journal::open(StdDisk::new(&tree.0, NODE).unwrap(), settings()).unwrap();
    let mut tail = Tail::new(Dir::new(&tree.0), NODE);
    let (mut at, mut seen, mut ms) = (Position::default(), Vec::new(), 0);
    let mut turn = |journal: &mut Journal<StdDisk>| {
        ms += 1;
        journal.turn(Now { boot_ns: ms * MS, wall_offset_ns: 0 });
        journal.wait(std::time::Duration::from_millis(1));
    };
    for seq in 1..=frames {
        let bytes = framed(seq);
        let frame = frame::decode(&bytes).unwrap();
        while let Err(why) = journal.push(&frame, Class::Reserved) {
            assert!(matches!(why, Refusal::Busy | Refusal::Preparing), "{why}");
            turn(&mut journal);
        }
        if seq % 7 == 0 {
            turn(&mut journal);
            assert_eq!(read(&mut tail, &mut at, durable(&journal), &mut seen), []);
        }
    }
    journal.end();
    while !journal.idle() {
        turn(&mut journal);
    }
    assert_eq!(read(&mut tail, &mut at, durable(&journal), &mut seen), []);
    (tree, seen, durable(&journal))
}

#[test]
fn every_frame_is_read_once_and_in_order_while_it_is_written() {
    let (tree, seen, end) = written(2_000);
    assert!(end.segment > 5, "{end:?}");
    assert_eq!(seen, (1..=2_000).collect::<Vec<_>>());
    let mut tail = Tail::new(Dir::new(&tree.0), NODE);
    let bytes = tail.between(Position { segment: 2, offset: 8_192 }, end);
    let (mut at, mut again) = (Position { segment: 2, offset: 4_096 }, Vec::new());
    read(&mut tail, &mut at, end, &mut again);
    assert!(bytes > again.iter().map(|seq| seq % 3_000).sum::<u64>());
    assert_eq!(again.last(), Some(&2_000));
}

#[test]
fn what_is_damaged_or_gone_is_named_and_nothing_else_is_lost() {
    let (tree, _, end) = written(1_000);
    let name = file_name(FileKind::Segment, NODE, 2);
    let mut file = fs::OpenOptions::new().write(true).open(tree.0.join(&name)).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(3 * PAGE as u64 + 100)).unwrap();
    file.write_all(b"?").unwrap();
    let mut tail = Tail::new(Dir::new(&tree.0), NODE);
    let (mut at, mut seen) = (Position::default(), Vec::new());
    let troubles = read(&mut tail, &mut at, end, &mut seen);
    assert!(matches!(troubles[..], [Trouble::Damaged(Position { segment: 2, .. })]), "{troubles:?}");
    let missing: Vec<u64> = (1..=1_000).filter(|seq| !seen.contains(seq)).collect();
    assert!(!missing.is_empty() && missing.windows(2).all(|w| w[1] == w[0] + 1), "one block: {missing:?}");
    // The oldest go.
    fs::remove_file(tree.0.join(file_name(FileKind::Segment, NODE, 1))).unwrap();
    fs::remove_file(tree.0.join(name)).unwrap();
    let (mut at, mut tail) = (Position { segment: 1, offset: 8_192 }, Tail::new(Dir::new(&tree.0), NODE));
    let troubles = read(&mut tail, &mut at, end, &mut Vec::new());
    assert_eq!(troubles, [Trouble::Gone(Position { segment: 3, offset: 4_096 })]);
    // From the beginning is from what there is.
    let (mut at, mut tail) = (Position::default(), Tail::new(Dir::new(&tree.0), NODE));
    assert_eq!(read(&mut tail, &mut at, end, &mut Vec::new()), []);
}
