//! Files of boxes: made, held, found, read out, refused.
use super::recover::PATIENCE;
use super::{
    CreateError, Made, Stamp, create,
    file::{self, PlaceError, SHARED_MEMORY, bytes, candidates, check_tmpfs, name, place},
    find, marker,
    recover::{Readout, Refusal, Search},
};
use crate::fixtures::Tree;
use outcry::record::{
    blackbox::{BoxError, Identity, VERSION},
    frame::{self, Kind},
    marker::{Ended, Marker, State, judge},
};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

const RING: u64 = 64 * 1024;

fn identity(epoch: u32, core: u16) -> Identity {
    Identity { node: 0x2a, epoch, core, boot: marker::boot_id().expect("Linux has one") }
}

fn made(dir: &Path, epoch: u32, core: u16) -> Made {
    create(dir, RING, identity(epoch, core)).expect("a box")
}

fn publish(made: &mut Made, payloads: impl IntoIterator<Item = u64>) {
    for n in payloads {
        assert!(made.producer.reserve(frame::size(8)));
        let mut entry = made.producer.begin();
        entry.room()[..8].copy_from_slice(&n.to_le_bytes());
        entry.publish(8, Stamp { kind: Kind::Delivery, version: 3, hlc: n });
    }
}

/// With patience: a child that another test is starting has the lock too, until it becomes another program.
fn look(dir: &Path) -> Search {
    find(&[dir.to_path_buf()], 0x2a, PATIENCE).expect("a directory")
}

/// What is in the only box that is found.
fn contents(dir: &Path) -> (Readout, Vec<u64>) {
    let search = look(dir);
    assert!(search.refused.is_empty() && search.found.len() == 1, "{search:?}");
    let mut payloads = Vec::new();
    let readout = search.found[0].read_out(|_, frame| {
        assert_eq!((frame.kind(), frame.header.version), (Some(Kind::Delivery), 3));
        payloads.push(u64::from_le_bytes(frame.payload().try_into().expect("eight bytes")));
        Ok::<(), io::Error>(())
    });
    (readout.expect("readable"), payloads)
}

#[test]
fn what_was_not_released_is_read_out_again_and_again() {
    let dir = Tree::in_memory();
    let mut made = made(&dir.0, 7, 3);
    publish(&mut made, 1..=5);
    let mark = made.consumer.read(2 * frame::size(8)).expect("no damage").expect("frames").mark;
    made.consumer.release(mark);
    drop(made);
    let expected = Readout { frames: 3, bytes: 120, seqs: Some((3, 5)), ..Readout::default() };
    for _ in 0..2 {
        assert_eq!(contents(&dir.0), (expected.clone(), vec![3, 4, 5]));
    }
    let mut search = look(&dir.0);
    let found = search.found.remove(0);
    assert_eq!((found.header.identity, found.header.pid), (identity(7, 3), std::process::id()));
    assert_eq!((found.header.released, found.header.published), (Some(2), 5));
    assert!(found.same_boot(identity(7, 3).boot) && !found.same_boot(Default::default()));
    found.remove().expect("removed");
    assert_eq!(fs::read_dir(&dir.0).expect("a directory").count(), 0);
}

/// The second mapping: frames around the end of the ring are one slice for both ends, and the file has each byte once.
#[test]
fn frames_go_around_the_end_of_the_file() {
    let dir = Tree::in_memory();
    let mut made = made(&dir.0, 7, 0);
    for round in 0..5_000u64 {
        publish(&mut made, round * 3..round * 3 + 3);
        let batch = made.consumer.read(usize::MAX).expect("no damage").expect("frames");
        assert_eq!((batch.frames, batch.bytes.len()), (3, 120));
        if round % 100 != 99 {
            let mark = batch.mark;
            made.consumer.release(mark);
        }
    }
    // More than half a ring, beginning before its end.
    publish(&mut made, 0..1_600 - 3);
    drop(made);
    let (readout, payloads) = contents(&dir.0);
    assert_eq!((readout.frames, readout.damaged), (1_600, 0));
    assert_eq!(payloads[..4], [14_997, 14_998, 14_999, 0]);
}

#[test]
fn a_box_is_held_by_one_process() {
    let dir = Tree::in_memory();
    let made = made(&dir.0, 7, 0);
    let search = look(&dir.0);
    assert!(search.found.is_empty());
    let refused = search.refused.first().expect("one").to_string();
    assert!(refused.contains(&format!("000.ring: in use by process {}", std::process::id())), "{refused}");
    assert!(
        matches!(create(&dir.0, RING, identity(7, 0)), Err(CreateError::InUse { pid, .. }) if pid == std::process::id())
    );
    // The mapping alone holds it too.
    let Made { producer, file, consumer, .. } = made;
    drop((file, consumer));
    let at_once = find(std::slice::from_ref(&dir.0), 0x2a, Duration::ZERO).expect("a directory");
    assert!(matches!(at_once.refused[..], [ref r] if matches!(r.why, Refusal::InUse(_))));
    drop(producer);
    assert_eq!(look(&dir.0).found.len(), 1);
    assert!(matches!(create(&dir.0, RING, identity(7, 0)), Err(CreateError::Exists { .. })));
    assert_eq!(fs::read_dir(&dir.0).expect("a directory").count(), 1, "nothing half made is left");
}

#[test]
fn all_boxes_of_a_node_are_found_and_those_of_others_left_alone() {
    let (dir, other) = (Tree::in_memory(), Tree::in_memory());
    for (epoch, core) in [(7, 1), (7, 0), (6, 2)] {
        publish(&mut made(&dir.0, epoch, core), [1]);
    }
    publish(&mut made(&other.0, 5, 0), [1]);
    drop(create(&dir.0, RING, Identity { node: 0x2b, ..identity(7, 0) }).expect("another node's"));
    fs::write(dir.0.join("blackbox-of-a-plane.txt"), "not ours").expect("a file");
    let gone = PathBuf::from("/nonexistent");
    let dirs = [dir.0.clone(), gone, other.0.clone()];
    let search = find(&dirs, 0x2a, PATIENCE).expect("directories");
    let found: Vec<_> = search.found.iter().map(|f| (f.header.identity.epoch, f.header.identity.core)).collect();
    assert_eq!(found, [(5, 0), (6, 2), (7, 0), (7, 1)]);
    assert_eq!((search.of_epoch(7), search.of_epoch(4), search.refused.len()), (2, 0, 0));
    drop(search);
    let twice = [dir.0.clone(), dir.0.join(".")];
    assert_eq!(find(&twice, 0x2a, PATIENCE).expect("a directory").found.len(), 3, "one directory by two names");
    assert_eq!(candidates(Some(&dir.0)), [dir.0.clone(), SHARED_MEMORY.into()]);
}

/// One that cannot be read hides none that can, and says what to do.
#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let dir = Tree::in_memory();
    for core in 0..4 {
        publish(&mut made(&dir.0, 7, core), [1]);
    }
    let path = |core| dir.0.join(name(&identity(7, core)));
    let alter = |core, at: usize, byte: u8| {
        let mut file = fs::read(path(core)).expect("a box");
        file[at] = byte;
        fs::write(path(core), file).expect("altered");
    };
    alter(0, 8, VERSION as u8 + 1);
    alter(1, 30, 0xff);
    fs::write(path(2), b"OUTCRYBB").expect("cut short");
    std::os::unix::fs::symlink(path(3), dir.0.join(name(&identity(7, 9)))).expect("a link");
    let search = look(&dir.0);
    assert_eq!(search.found.iter().map(|f| f.header.identity.core).collect::<Vec<_>>(), [3]);
    let mut refused: Vec<_> = search.refused.iter().map(|r| (r.path.clone(), &r.why)).collect();
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(matches!(refused[0], (ref p, Refusal::Unreadable(BoxError::Newer(2))) if *p == path(0)), "{refused:?}");
    assert!(matches!(refused[1].1, Refusal::Unreadable(BoxError::Checksum { .. })), "{refused:?}");
    assert!(matches!(refused[2].1, Refusal::Unreadable(BoxError::Short { have: 8, .. })), "{refused:?}");
    assert!(matches!(refused[3].1, Refusal::Io(_)), "no link is followed: {refused:?}");
    assert!(refused[0].1.to_string().contains("start the newer release once"));
    assert_eq!(search.of_epoch(7), 5, "what cannot be read is there nevertheless");
}

/// Killed while a box was being made: it has no name of a box yet, and is swept away.
#[test]
fn what_was_never_finished_is_removed() {
    let dir = Tree::in_memory();
    let unfinished = dir.0.join(format!(".new-4321-{}", name(&identity(7, 0))));
    fs::write(&unfinished, "").expect("a file");
    assert!(look(&dir.0).found.is_empty());
    assert!(!unfinished.exists());
}

#[test]
fn a_box_is_whole_and_nobody_elses() {
    let dir = Tree::in_memory();
    let made = create(&dir.0, RING + 1, identity(7, 0)).expect("a box");
    let meta = fs::metadata(made.file.path()).expect("a file");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(meta.len(), bytes(RING + 1), "up to a page");
    assert!(meta.blocks() * 512 >= meta.len(), "all of it is allocated");
    made.file.remove().expect("removed");
    assert!(matches!(create(&dir.0, 100, identity(7, 1)), Err(CreateError::Size(100))));
    let nowhere = create(Path::new("/nonexistent"), RING, identity(7, 1));
    assert!(
        nowhere.expect_err("no directory").to_string().starts_with("/nonexistent/blackbox-0000002a-00000007-001.ring")
    );
}

#[test]
fn boxes_belong_into_memory() {
    assert!(matches!(check_tmpfs(Path::new("/proc"), 0), Err(PlaceError::NotTmpfs { .. })));
    assert!(matches!(check_tmpfs(Path::new("/nonexistent"), 0), Err(PlaceError::Io { .. })));
    // A container may have none.
    let Ok(()) = check_tmpfs(Path::new(SHARED_MEMORY), 0) else { return };
    let shared = Path::new(SHARED_MEMORY);
    assert!(matches!(place(Some(shared), u64::MAX - 1), Err(PlaceError::NoRoom { need, .. }) if need == u64::MAX - 1));
    let fallback = place(Some(Path::new("/proc")), 4096).expect("shared memory");
    assert_eq!(fallback.dir, shared);
    assert!(matches!(fallback.instead, Some(PlaceError::NotTmpfs { .. })));
    assert!(place(None, 4096).is_ok_and(|p| p.instead.is_none()));
    // More than there is fails before anything is written to.
    let free = rustix::fs::statfs(shared).expect("shared memory").f_bavail;
    if free > 0 && free < 1 << 27 {
        let dir = Tree::in_memory();
        let too_large = create(&dir.0, 1 << 39, identity(7, 0));
        assert!(matches!(too_large, Err(CreateError::Place(PlaceError::NoRoom { .. }))), "{too_large:?}");
        assert_eq!(fs::read_dir(&dir.0).expect("a directory").count(), 0);
    }
}

/// A start after each kind of end, as boot is to go through it.
#[test]
fn a_start_can_tell_how_the_last_one_ended() {
    let (state, memory) = (Tree::new(&[]), Tree::in_memory());
    let boot = marker::boot_id().expect("Linux has one");
    let ended = || {
        let marker = marker::read(&state.0).expect("readable");
        judge(marker.as_ref(), boot, marker.map_or(0, |m| look(&memory.0).of_epoch(m.epoch)))
    };
    let mark = |state_of, epoch| {
        let marker = Marker { state: state_of, epoch, boot, boxes: 2, power: false };
        marker::write(&state.0, &marker).expect("written");
    };
    assert_eq!(ended(), Ended::Never);
    let boxes = [made(&memory.0, 1, 0), made(&memory.0, 1, 1)];
    mark(State::Running, 1);
    drop(boxes);
    assert_eq!(ended(), Ended::Killed { epoch: 1 });
    // Read out, and killed between the marker and the removal, and in the middle of that.
    mark(State::Recovered, 1);
    assert_eq!(ended(), Ended::Recovered { epoch: 1 });
    look(&memory.0).found.remove(0).remove().expect("removed");
    assert_eq!(ended(), Ended::Recovered { epoch: 1 });
    look(&memory.0).found.remove(0).remove().expect("removed");
    mark(State::Running, 2);
    assert_eq!(ended(), Ended::BoxesGone { epoch: 2, missing: 2 });
    mark(State::Clean, 2);
    assert_eq!(ended(), Ended::Clean { epoch: 2 });
    state.write("running", "marker 1\nstate asleep\n");
    let garbled = marker::read(&state.0).expect_err("garbled").to_string();
    assert!(garbled.contains("running: its line `state` is missing or garbled"), "{garbled}");
}

/// Names decide what belongs to whom.
#[test]
fn names_of_boxes() {
    use file::{Named, named};
    assert_eq!(name(&identity(7, 3)), "blackbox-0000002a-00000007-003.ring");
    assert_eq!(named("blackbox-0000002a-00000007-003.ring", 0x2a), Some(Named::Box));
    assert_eq!(named(".new-77-blackbox-0000002a-00000007-003.ring", 0x2a), Some(Named::Unfinished));
    for other in ["blackbox-0000002b-00000007-003.ring", "blackbox-0000002a-x.log", ".new-blackbox-0000002a-1.ring", ""]
    {
        assert_eq!(named(other, 0x2a), None, "{other}");
    }
}

/// In a directory where everybody may write, anybody may leave something by our names: it is not read, and not removed.
#[test]
fn what_another_user_left_is_not_touched() {
    let dir = Tree::in_memory();
    drop(made(&dir.0, 7, 0));
    let unfinished = dir.0.join(format!(".new-4321-{}", name(&identity(7, 1))));
    fs::write(&unfinished, "").expect("a file");
    for entry in fs::read_dir(&dir.0).expect("a directory") {
        // Only the superuser can make a file another user's.
        if std::os::unix::fs::chown(entry.expect("an entry").path(), Some(54_321), None).is_err() {
            return;
        }
    }
    let search = look(&dir.0);
    assert!(search.found.is_empty() && search.refused.len() == 2, "{search:?}");
    let theirs = |why: &Refusal| matches!(why, Refusal::NotOurs { owner: 54_321, .. });
    assert!(search.refused.iter().all(|r| theirs(&r.why)), "{search:?}");
    assert_eq!(fs::read_dir(&dir.0).expect("a directory").count(), 2);
}
