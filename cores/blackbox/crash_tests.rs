//! kill -9 at random moments: a child publishes as fast as it can and drains its own box, the parent kills it and looks at
//! what can still be read. Every record whose publishing was told is there, once read together with what had been drained,
//! without a gap, each as it was written; and nothing else.
//!
//! `OUTCRY_CRASH_RUNS=1000` kills as often, `OUTCRY_CRASH_SEED=7` begins with that seed; each failure prints its own.
use super::{Made, Stamp, create, fault::Fault, find, recover::PATIENCE};
use crate::{fixtures::Tree, lab::rng::Rng};
use outcry::record::{
    blackbox::{BootId, Identity},
    frame::{self, Kind, frames},
};
use std::{
    fs,
    io::{self, Read, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const CHILD: &str = "OUTCRY_BLACKBOX_CHILD";
/// Small, so that it goes around many times.
const RING: u64 = 64 * 1024;
/// Bytes of frames that are drained at once: what is told of them fits into one write to a pipe, which is whole or not.
const DRAINED_MAX: usize = 3_500;

/// What is told: a byte that says what follows, and its length in two.
const PUBLISHED: u8 = b'P';
const DRAINED: u8 = b'D';

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is no number")))
}

fn identity(seed: u64) -> Identity {
    Identity { node: 1, epoch: seed as u32, core: 5, boot: BootId([9; 16]) }
}

/// The payload of frame `seq` under a seed.
fn payload(seed: u64, seq: u64) -> Vec<u8> {
    let mut rng = Rng::keyed(seed, &seq.to_le_bytes());
    let most = if rng.chance(20) { 3_000 } else { 300 };
    let len = rng.below(most);
    (0..len).map(|_| rng.draw() as u8).collect()
}

fn tell(what: u8, bytes: &[u8]) -> io::Result<()> {
    let mut message = vec![what];
    message.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    message.extend_from_slice(bytes);
    // One write: not buffered, and short enough for a pipe to take it whole.
    io::stderr().write_all(&message)
}

/// What the child does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    /// No checksum.
    Checksum,
    /// The head moves before the frame is there.
    Head,
    /// The tail moves before what it leaves behind is kept.
    Tail,
}

const WRONGS: [Wrong; 4] = [Wrong::Nothing, Wrong::Checksum, Wrong::Head, Wrong::Tail];

/// The child: not a test, but what the others run.
#[test]
fn child() -> io::Result<()> {
    let Ok(orders) = std::env::var(CHILD) else { return Ok(()) };
    // Nobody is left to kill it otherwise.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let mut words = orders.splitn(3, ' ');
    let mut word = || words.next().expect("seed, fault, directory");
    let seed: u64 = word().parse().expect("a seed");
    let wrong = WRONGS[word().parse::<usize>().expect("a fault")];
    let Made { mut producer, mut consumer, file, .. } =
        create(Path::new(word()), RING, identity(seed)).map_err(io::Error::other)?;
    producer.fault = match wrong {
        Wrong::Checksum => Fault::NoChecksum,
        Wrong::Head => Fault::HeadFirst,
        Wrong::Nothing | Wrong::Tail => Fault::None,
    };
    // Broken frames are for the one that recovers to find, not for this drain.
    if matches!(wrong, Wrong::Nothing | Wrong::Tail) {
        std::thread::spawn(move || -> io::Result<()> {
            loop {
                let Ok(Some(batch)) = consumer.read(DRAINED_MAX) else { continue };
                let (bytes, mark) = (batch.bytes.to_vec(), batch.mark);
                if wrong == Wrong::Tail {
                    consumer.release(mark);
                    (0..2_000).for_each(|_| std::hint::spin_loop());
                }
                tell(DRAINED, &bytes)?;
                if wrong != Wrong::Tail {
                    consumer.release(mark);
                }
            }
        });
    }
    for seq in 1.. {
        let bytes = payload(seed, seq);
        while !producer.reserve(frame::size(bytes.len())) {
            std::thread::yield_now();
        }
        let mut entry = producer.begin();
        entry.room()[..bytes.len()].copy_from_slice(&bytes);
        entry.publish(bytes.len(), Stamp { kind: Kind::Auction, version: 1, hlc: seq });
        tell(PUBLISHED, &seq.to_le_bytes())?;
    }
    drop(file);
    Ok(())
}

/// Kills one child and looks. How many frames were published and how many were read out, or what is wrong.
fn run(seed: u64, wrong: Wrong) -> Result<(u64, u64), String> {
    let dir = Tree::in_memory();
    let mut rng = Rng::new(seed);
    let at = WRONGS.iter().position(|w| *w == wrong).unwrap_or(0);
    let mut child = Command::new(std::env::current_exe().expect("the tests"))
        .args(["blackbox::crash_tests::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{seed} {at} {}", dir.0.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    // The moment: after so many bytes were told, or before any, while the box is being made; and a little later.
    let mut told = Vec::new();
    let mut pipe = child.stderr.take().expect("piped");
    // Without a drain the ring is full after some 350 frames, and then nothing more is told.
    let most = if matches!(wrong, Wrong::Checksum | Wrong::Head) { 2_000 } else { 200_000 };
    let enough = if rng.chance(100) { 0 } else { rng.below(most) };
    let mut piece = [0; 512];
    while (told.len() as u64) < enough {
        let n = pipe.read(&mut piece).map_err(|e| e.to_string())?;
        told.extend_from_slice(&piece[..n]);
        if n == 0 {
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(rng.below(if enough == 0 { 6_000 } else { 300 })));
    child.kill().map_err(|e| e.to_string())?;
    pipe.read_to_end(&mut told).map_err(|e| e.to_string())?;
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.signal() != Some(9) {
        return Err(format!("the child ended by itself, {status}: {}", String::from_utf8_lossy(&told)));
    }

    // What was told.
    let (mut published, mut drained, mut rest) = (0, 0, &told[..]);
    while let Some((header, after)) = rest.split_at_checked(3) {
        let len = usize::from(u16::from_le_bytes([header[1], header[2]]));
        let body = after.get(..len).ok_or("half a message")?;
        rest = &after[len..];
        if header[0] == PUBLISHED {
            published = u64::from_le_bytes(body.try_into().map_err(|_| "no number")?);
            continue;
        }
        for frame in frames(body) {
            drained = check(frame.map_err(|e| e.to_string())?, seed, Some(drained))?;
        }
    }

    // What can be read.
    let search = find(std::slice::from_ref(&dir.0), 1, PATIENCE).map_err(|e| e.to_string())?;
    if let Some(refused) = search.refused.first() {
        return Err(refused.to_string());
    }
    let (mut last, mut read) = (drained, 0);
    for found in &search.found {
        if found.header.identity != identity(seed) || found.header.pid != child.id() {
            return Err(format!("somebody else's box: {:?}", found.header));
        }
        if found.header.released.is_none() {
            return Err("no note belongs to the tail".into());
        }
        let mut before = None;
        let readout = found.read_out(|_, frame| -> Result<(), io::Error> {
            let seq = check(frame, seed, before).map_err(io::Error::other)?;
            if before.is_none() && seq > drained + 1 {
                return Err(io::Error::other(format!("drained up to {drained}, and the box begins with {seq}")));
            }
            before = Some(seq);
            last = last.max(seq);
            Ok(())
        });
        let readout = readout.map_err(|e| e.to_string())?;
        if let Some(damage) = readout.damages.first() {
            return Err(damage.to_string());
        }
        read += readout.frames;
    }
    if last < published {
        return Err(format!("{published} were published, {last} are left"));
    }
    for found in search.found {
        found.remove().map_err(|e| e.to_string())?;
    }
    match fs::read_dir(&dir.0).expect("a directory").count() {
        0 => Ok((published, read)),
        left => Err(format!("{left} files are left")),
    }
}

/// Is it the frame behind `before`, as it was written? Its number.
fn check(frame: frame::Frame<'_>, seed: u64, before: Option<u64>) -> Result<u64, String> {
    let seq = frame.header.seq;
    if before.is_some_and(|before| seq != before + 1) {
        return Err(format!("frame {seq} behind {before:?}"));
    }
    if frame.payload() != payload(seed, seq) || frame.header.hlc != seq {
        return Err(format!("frame {seq} is not what was written"));
    }
    Ok(seq)
}

fn first_seed() -> u64 {
    number("OUTCRY_CRASH_SEED").unwrap_or(1)
}

#[test]
fn nothing_published_is_lost_when_the_process_is_killed() {
    let (mut published, mut read) = (0, 0);
    let runs = number("OUTCRY_CRASH_RUNS").unwrap_or(30);
    for seed in first_seed()..first_seed() + runs {
        let (p, r) = run(seed, Wrong::Nothing).unwrap_or_else(|e| panic!("OUTCRY_CRASH_SEED={seed}: {e}"));
        (published, read) = (published + p, read + r);
    }
    assert!(published > 0 && read > 0, "no child got as far as publishing in {runs} runs");
    println!("{runs} kills: {published} frames published, {read} read out of the boxes");
}

/// Each fault, planted, is found.
#[track_caller]
fn found(wrong: Wrong, says: &[&str]) {
    let errors = (first_seed()..first_seed() + 40).filter_map(|seed| run(seed, wrong).err());
    let error = errors.into_iter().next().expect("nothing was found in 40 runs");
    assert!(says.iter().any(|s| error.contains(s)), "something else was found: {error}");
}

#[test]
fn a_missing_checksum_is_found() {
    found(Wrong::Checksum, &["checksum"]);
}

#[test]
fn a_head_that_moves_before_the_frame_is_there_is_found() {
    found(Wrong::Head, &["a frame cannot be", "checksum", "old one", "bytes of a frame"]);
}

#[test]
fn a_tail_that_moves_before_the_frames_are_kept_is_found() {
    found(Wrong::Tail, &["and the box begins with", "are left"]);
}
