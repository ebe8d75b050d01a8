//! The journal on a real file system, and two readers of it that know nothing of each other: `outcry audit` and
//! `scripts/journal.py`, which was written from the format's document alone. They must agree on the golden files, on what the
//! writer writes today, and on whatever is done to it.
#[path = "common/small_journal.rs"]
mod small_journal;
use outcry::{
    journal::{
        PAGE,
        writer::{Class, Refusal, Write},
    },
    record::frame::{self, Header, Kind},
    units::Now,
};
use outcry_cores::journal::{
    GlommioDisk, Journal, StdDisk, UringDisk,
    disk::{Disk, Done, Files, Job},
    glommio_disk::Sync,
    uring_disk,
};
use small_journal::{NODE, settings};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A directory that goes when the test has passed.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("outcry-journal-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn copy(&self, name: &str) -> Scratch {
        let copy = Scratch::new(name);
        for entry in fs::read_dir(&self.0).expect("it").flatten() {
            fs::copy(entry.path(), copy.0.join(entry.file_name())).expect("a copy");
        }
        copy
    }

    fn segment(&self, segment: u64) -> PathBuf {
        self.0.join(format!("journal-{NODE:08x}-{segment:010}.log"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn framed(epoch: u32, seq: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.extend((0..seq * 37 % 3000).map(|i| (i ^ seq) as u8));
    let header =
        Header { seq, epoch, writer: 0, kind: Kind::Auction as u8, version: 1, hlc: (1_769_860_800_000 + seq) << 16 };
    frame::finish(&mut out, at, &header);
    out
}

/// One turn; what has not come to an end gets the CPU.
fn turn<D: Disk>(journal: &mut Journal<D>) {
    if journal.turn(Now::default()) == 0 {
        std::thread::yield_now();
    }
}

fn push_all<D: Disk>(journal: &mut Journal<D>, epoch: u32, frames: u64, turn: impl Fn(&mut Journal<D>)) {
    for seq in 1..=frames {
        let bytes = framed(epoch, seq);
        loop {
            match journal.push(&frame::decode(&bytes).expect("a frame"), Class::Ordinary) {
                Ok(_) => break,
                Err(Refusal::Busy | Refusal::Preparing) => turn(journal),
                Err(e) => panic!("{e}"),
            }
        }
    }
    while journal.durable_positions().get((epoch, 0)) < frames {
        turn(journal);
    }
}

/// Two lives on the plain disk: one that ends in order, one that does not.
fn written(name: &str) -> Scratch {
    let dir = Scratch::new(name);
    let disk = || StdDisk::new(&dir.0, NODE).expect("a disk");
    let (mut journal, recovered) = Journal::open(disk(), settings()).expect("an empty directory");
    assert!(recovered.clean);
    push_all(&mut journal, 1, 400, turn);
    journal.end();
    while !journal.idle() {
        turn(&mut journal);
    }
    drop(journal);
    let (mut journal, recovered) = Journal::open(disk(), settings()).expect("a journal");
    assert!(recovered.clean && recovered.positions.get((1, 0)) == 400, "{recovered:?}");
    push_all(&mut journal, 2, 100, turn);
    drop(journal);
    dir
}

fn ours(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outcry"));
    command.arg("audit").args(args).arg(dir).output().expect("outcry runs")
}

fn theirs(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new("python3");
    command.arg(root().join("scripts/journal.py")).args(args).arg(dir).output().expect("python3 runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Both print the same frames.
#[track_caller]
fn same_frames(dir: &Path) -> usize {
    let (ours_json, theirs_json) = (ours(&["cat", "--json"], dir), theirs(&["cat", "--json"], dir));
    let (a, b) = (text(&ours_json.stdout), text(&theirs_json.stdout));
    for (a, b) in a.lines().zip(b.lines()) {
        assert_eq!(a, b);
    }
    assert_eq!(a.lines().count(), b.lines().count());
    assert_eq!(text(&ours(&["cat"], dir).stdout).lines().count(), a.lines().count() + 1);
    a.lines().count()
}

/// Both say the same of a directory: is it as it was written? Returns what ours says.
#[track_caller]
fn verified(dir: &Path, good: bool) -> String {
    let (ours, theirs) = (ours(&["verify"], dir), theirs(&["verify"], dir));
    let (a, b) = (text(&ours.stdout) + &text(&ours.stderr), text(&theirs.stderr));
    assert_eq!((ours.status.success(), theirs.status.success()), (good, good), "{a}\n{b}");
    a
}

#[test]
fn two_readers_agree_on_the_golden_files() {
    let folder = root().join("src/journal/golden/v1");
    assert_eq!(same_frames(&folder), 11);
    verified(&folder, true);
}

#[test]
fn two_readers_agree_on_what_is_written_and_on_what_is_done_to_it() {
    let dir = written("agree");
    assert_eq!(same_frames(&dir.0), 500);
    let said = verified(&dir.0, true);
    assert!(said.contains("500 frames"), "{said}");
    type Row<'a> = (&'a str, &'a dyn Fn(&Scratch), &'a str);
    let rows: [Row<'_>; 6] = [
        ("missing", &|d| fs::remove_file(d.segment(2)).expect("it"), "segments 2 to 2 are missing"),
        (
            "swapped",
            &|d| {
                let kept = fs::read(d.segment(2)).expect("it");
                fs::rename(d.segment(3), d.segment(2)).expect("it");
                fs::write(d.segment(3), kept).expect("it");
            },
            "the file of segment 2 holds segment 3",
        ),
        ("altered", &|d| change(&d.segment(2), |b| b[PAGE + 300] ^= 1), "segment 2, offset 4096"),
        ("header", &|d| change(&d.segment(2), |b| b[30] ^= 1), "segment 2, offset 0"),
        ("cut", &|d| change(&d.segment(2), |b| b.truncate(9 * PAGE)), "segment 2 was altered"),
        (
            "checkpoint",
            &|d| change(&d.0.join(format!("journal-{NODE:08x}.checkpoint")), |b| b[70] ^= 1),
            "the checkpoint",
        ),
    ];
    for (name, harm, says) in rows {
        let copy = dir.copy(name);
        harm(&copy);
        let said = verified(&copy.0, false);
        assert!(said.contains(says), "{name}: {said}");
        same_frames_but_for_order(&copy.0);
    }
}

fn change(path: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("written");
}

/// What can be read of a damaged journal is the same for both; ours reads on where a file is under another's name.
#[track_caller]
fn same_frames_but_for_order(dir: &Path) {
    let lines = |output: Output| text(&output.stdout).lines().map(str::to_string).collect::<Vec<_>>();
    let (a, b) = (lines(ours(&["cat", "--json"], dir)), lines(theirs(&["cat", "--json"], dir)));
    assert!(b.iter().all(|line| a.contains(line)), "{} and {} frames", a.len(), b.len());
}

#[test]
fn errors_say_what_to_do() {
    let dir = Scratch::new("errors");
    for (args, says) in [(["verify"], "Name the journal's directory"), (["cat"], "Name the journal's directory")] {
        let output = ours(&args, &dir.0);
        assert!(!output.status.success() && text(&output.stderr).contains(says), "{output:?}");
        let output = ours(&args, &dir.0.join("nowhere"));
        assert!(!output.status.success() && text(&output.stderr).contains("nowhere"), "{output:?}");
    }
    // The state directory will do.
    let within = written("within");
    fs::rename(&within.0, dir.0.join("journal")).expect("moved");
    assert!(verified_ours(&dir.0).contains("500 frames"));
    // Two nodes: which?
    let other = |name: &str| dir.0.join("journal").join(name);
    fs::copy(other("journal-000000ab-0000000001.log"), other("journal-000000ac-0000000001.log")).expect("a copy");
    let output = ours(&["verify"], &dir.0);
    assert!(text(&output.stderr).contains("--node: 000000ab, 000000ac"), "{output:?}");
    assert!(ours(&["verify", "--node", "ab"], &dir.0).status.success());
}

fn verified_ours(dir: &Path) -> String {
    let output = ours(&["verify"], dir);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// `None`, and a word, where this kernel or this file system does not let it.
fn ring(path: &Path) -> Option<UringDisk> {
    if let Err(e) = uring_disk::trial() {
        println!("not tested: {e}");
        return None;
    }
    let disk = UringDisk::new(path, NODE).expect("a directory");
    if disk.is_none() {
        println!("not tested: no O_DIRECT here");
    }
    disk
}

/// Waits are long: a wake-up that is lost stands out.
#[test]
fn a_ring_of_its_own_writes_the_same_journal() {
    let dir = Scratch::new("ring");
    for life in [1, 2] {
        let Some(disk) = ring(&dir.0) else { return };
        let (mut journal, recovered) = Journal::open(disk, settings()).expect("a journal");
        assert_eq!(recovered.positions.get((1, 0)), if life == 1 { 0 } else { 300 });
        push_all(&mut journal, life, 300, |journal| {
            if journal.turn(Now::default()) == 0 {
                journal.wait(Duration::from_secs(60));
            }
        });
    }
    assert_eq!(same_frames(&dir.0), 600);
    verified(&dir.0, true);
}

#[test]
fn a_ring_says_how_each_write_went_and_ends_what_it_began() {
    let dir = Scratch::new("ring-writes");
    let Some(mut disk) = ring(&dir.0) else { return };
    fs::write(dir.segment(1), vec![0; 4 * PAGE]).expect("a segment");
    // One that is good; no such segment; more than there is; a place that O_DIRECT refuses.
    for (id, segment, at, bytes) in [(1, 1, PAGE, PAGE), (2, 7, 0, PAGE), (3, 1, 0, 2 * PAGE), (4, 1, 100, PAGE)] {
        let mut buf = disk.buffer(PAGE);
        buf.as_mut().fill(id as u8);
        disk.submit(Job::Write(Write { id, segment, at: at as u64, bytes, buf }));
    }
    disk.hand_over();
    let mut went = Vec::new();
    while went.len() < 4 {
        match disk.poll() {
            Some(Done::Wrote { id, buf, result }) => {
                assert!(buf.as_ref().iter().all(|b| u64::from(*b) == id), "its own memory comes back");
                went.push((id, result.is_ok()));
            }
            Some(other) => panic!("{other:?}"),
            None => disk.wait(Duration::from_secs(60)),
        }
    }
    went.sort_unstable();
    assert_eq!(went, [(1, true), (2, false), (3, false), (4, false)]);
    let mut buf = disk.buffer(PAGE);
    buf.as_mut().fill(5);
    disk.submit(Job::Write(Write { id: 5, segment: 1, at: 2 * PAGE as u64, bytes: PAGE, buf }));
    disk.hand_over();
    drop(disk);
    let file = fs::read(dir.segment(1)).expect("it");
    let pages: Vec<_> = file.chunks(PAGE).map(|page| (page[0], page.iter().all(|b| *b == page[0]))).collect();
    assert_eq!(pages, [(0, true), (1, true), (5, true), (0, true)]);
}

/// The same on glommio, where this kernel and this file system let it.
#[test]
fn glommio_writes_the_same_journal() {
    let dir = Scratch::new("glommio");
    let path = dir.0.clone();
    let executor = match glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound).io_memory(512 * 1024).make() {
        Ok(executor) => executor,
        Err(e) => return println!("not tested: {e}"),
    };
    let tested = executor.run(async move {
        for (life, sync) in [(1, Sync::Dsync), (2, Sync::Fdatasync)] {
            let Some(disk) = GlommioDisk::new(&path, NODE, sync).expect("a directory") else { return false };
            let (mut journal, recovered) = Journal::open(disk, settings()).expect("a journal");
            assert_eq!(recovered.positions.get((1, 0)), if life == 1 { 0 } else { 300 });
            let mut seq = 0;
            while journal.durable_positions().get((life, 0)) < 300 {
                while seq < 300
                    && journal.push(&frame::decode(&framed(life, seq + 1)).expect("a frame"), Class::Ordinary).is_ok()
                {
                    seq += 1;
                }
                journal.turn(Now::default());
                glommio::executor().yield_now().await;
            }
            assert!(journal.into_disk().list().expect("files").len() > 2);
        }
        true
    });
    if !tested {
        return println!("not tested: no O_DIRECT here");
    }
    assert_eq!(same_frames(&dir.0), 600);
    verified(&dir.0, true);
}
