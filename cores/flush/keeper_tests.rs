//! Boxes into a journal on a real file system: whose turn it is, what is let go, what a full disk does.
use super::{
    FlushRole,
    delta::DeltaLane,
    keeper::Keeper,
    opening::{Opening, Writes},
};
use crate::{
    blackbox::{self, Made, Stamp, recover::PATIENCE},
    fixtures::Tree,
    journal::{Journal, JournalSettings, StdDisk},
    wiring::{BidderEnds, wire},
};
use outcry::{
    config::Durability,
    journal::{
        PAGE,
        retention::{Levels, Retention},
        writer::Settings,
    },
    record::{
        blackbox::{BootId, Identity},
        frame::{self, Kind},
        labels::Journal as Figure,
        stopped::{Stopped, Why},
        totals::Totals,
    },
    time::hybrid::Hlc,
    units::Now,
};
use std::{path::Path, sync::mpsc::sync_channel, time::Duration};

const RING: u64 = 64 * 1024;

fn settings(keep: u64) -> JournalSettings {
    let mut writer =
        Settings { node: 1, segment_bytes: 0, block_bytes: 4 * PAGE, depth: 4, reserve_bytes: 0, entropy: 3 };
    writer.segment_bytes = writer.segment_bytes_min();
    let retention = Retention { age_ms: u64::MAX, bytes_max: u64::MAX };
    JournalSettings { writer, checkpoint_bytes: 1 << 20, retention, levels: Levels { low: 0, keep } }
}

fn boxed(dir: &Path, core: u16) -> Made {
    blackbox::create(dir, RING, Identity { node: 1, epoch: 1, core, boot: BootId([1; 16]) }).expect("a box")
}

fn publish(made: &mut Made, seq: u64) {
    let payload = [seq as u8; 100];
    assert!(made.producer.reserve(frame::size(payload.len())));
    let mut entry = made.producer.begin();
    entry.room()[..payload.len()].copy_from_slice(&payload);
    entry.publish(payload.len(), Stamp { kind: Kind::Auction, version: 2, hlc: seq << 16 });
}

fn at(ms: u64) -> Now {
    Now { boot_ns: ms * 1_000_000, wall_offset_ns: 0 }
}

/// Turns until there is something to see; the disk's helpers take the time they take.
fn until(keeper: &mut Keeper<StdDisk>, totals: &mut Totals, mut done: impl FnMut(&mut Keeper<StdDisk>) -> bool) {
    let by = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done(keeper) {
        assert!(std::time::Instant::now() < by, "never");
        keeper.turn(at(5), totals);
        std::thread::yield_now();
    }
}

#[test]
fn what_is_on_disk_is_let_go_and_all_of_it_is_there_at_the_end() {
    let (files, boxes) = (Tree::new(&[]), Tree::in_memory());
    let (mut a, mut b) = (boxed(&boxes.0, 0), boxed(&boxes.0, 1));
    let (journal, _) = Journal::open(StdDisk::new(&files.0, 1).expect("a disk"), settings(0)).expect("a journal");
    let mut totals = Totals::new(2, 1);
    // The consumers go to the keeper, so they are taken out of what was made.
    let empty = a.producer.room();
    for seq in 1..=200 {
        publish(&mut a, seq);
        publish(&mut b, seq);
    }
    let mut keeper = Keeper::new(vec![a.consumer, b.consumer], journal, 1, Hlc::default());
    until(&mut keeper, &mut totals, |_| a.producer.room() == empty && b.producer.room() == empty);
    assert!(totals.commits().len() >= 2, "each core's commits are timed");
    keeper.show(at(5), &mut totals);
    assert_eq!(totals.journal(Figure::LagBytes), 0);
    keeper.end(Stopped { wall_ms: 5, why: Why::Asked, unfinished: 0 });
    until(&mut keeper, &mut totals, |keeper| keeper.ended());
    drop(keeper);
    let disk = StdDisk::new(&files.0, 1).expect("a disk");
    let (_, recovered) = Journal::open(disk, settings(0)).expect("a journal");
    let positions = &recovered.positions;
    assert_eq!((positions.get((1, 0)), positions.get((1, 1)), positions.get((1, frame::WRITER_FLUSH))), (200, 200, 2));
    assert!(recovered.clean);
}

/// A start that has nowhere to bring what was left says so, and leaves it where it is.
#[test]
fn what_was_left_stays_while_the_disk_is_full() {
    let (files, boxes) = (Tree::new(&[]), Tree::in_memory());
    let mut made = boxed(&boxes.0, 0);
    (1..=10).for_each(|seq| publish(&mut made, seq));
    drop(made);
    for (keep, room) in [(u64::MAX, false), (0, true)] {
        let found = blackbox::find(std::slice::from_ref(&boxes.0), 1, PATIENCE).expect("the directory").found;
        assert_eq!(found.len(), 1);
        let (to_boot, opened) = sync_channel(1);
        let (boxes_out, from_boot) = sync_channel(1);
        let opening = Opening {
            dir: files.0.clone(),
            settings: settings(keep),
            durability: Durability::Process,
            commit: Duration::ZERO,
            digest_cpus: Vec::new(),
            found,
            opened: to_boot,
            boxes: from_boot,
            ship: None,
            exported: None,
        };
        let disk = StdDisk::new(&files.0, 1).expect("a disk");
        // Boot goes away once it has heard: so it ends.
        drop(boxes_out);
        let clock = std::time::Instant::now();
        let clock = move || at(clock.elapsed().as_millis() as u64);
        opening.open(disk, Writes::NoRing, &clock, Vec::new());
        match opened.recv().expect("an answer") {
            Ok(opened) => assert!(room && opened.found[0].1.frames == 10),
            Err(e) => assert!(!room && e.to_string().contains("has no room"), "{e}"),
        }
    }
}

#[test]
fn a_full_disk_stops_admission_and_loses_nothing() {
    let (files, boxes) = (Tree::new(&[]), Tree::in_memory());
    let mut made = boxed(&boxes.0, 0);
    // No disk has so much to spare: not one segment may be made.
    let full = settings(u64::MAX);
    let (journal, _) = Journal::open(StdDisk::new(&files.0, 1).expect("a disk"), full).expect("a journal");
    let mut totals = Totals::new(1, 1);
    (1..=100).for_each(|seq| publish(&mut made, seq));
    let before = made.producer.room();
    let mut keeper = Keeper::new(vec![made.consumer], journal, 1, Hlc::default());
    until(&mut keeper, &mut totals, |keeper| keeper.disk_full());
    keeper.show(at(5), &mut totals);
    assert!(totals.journal(Figure::Level) >= 2 && keeper.blocked());
    assert_eq!(made.producer.room(), before, "nothing is let go that is not on disk");

    // The cores hear of it with the next second's metrics, and of its end likewise.
    let mut w = wire(1).expect("rings");
    let BidderEnds { to_flush, from_flush, .. } = w.bidders.remove(0);
    let mut lane = DeltaLane::new(to_flush, from_flush, 1, at(0));
    let mut role = FlushRole::new(w.flush, 1, at(0)).expect("a role");
    for said in [true, false] {
        role.tell_disk_full(said);
        role.turn(at(1));
        lane.hand_over(at(1000));
        assert_eq!(lane.disk_full(), said);
        role.turn(at(1000));
    }
}
