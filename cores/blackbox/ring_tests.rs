//! Both ends of a ring: against a plain list of frames, from two threads, around its end. On memory of the heap, so that
//! miri can watch: `cargo +nightly miri test -p outcry-cores --lib blackbox::ring_tests` (it tries other interleavings and
//! staler loads with each `MIRIFLAGS=-Zmiri-many-seeds=0..16`).
use super::{Consumer, Lag, Mark, Producer, Stamp, fault::Fault, map::Memory};
use crate::lab::rng::Rng;
use outcry::record::{
    blackbox::{Identity, Why},
    frame::{self, FrameError, Kind, frames},
};
use std::collections::VecDeque;

const IDENTITY: Identity = Identity { node: 1, epoch: 7, core: 3, boot: outcry::record::blackbox::BootId([0; 16]) };
const PAGE: usize = 4096;

fn ring() -> (Producer, Consumer) {
    let (write, read) = Memory::heap(PAGE).ends();
    (Producer::new(write, &IDENTITY), Consumer::new(read, IDENTITY))
}

fn stamp(hlc: u64) -> Stamp {
    Stamp { kind: Kind::Auction, version: 1, hlc }
}

/// Publishes on what is reserved; the bytes of the frame.
fn publish(p: &mut Producer, payload: &[u8], hlc: u64) -> usize {
    let mut entry = p.begin();
    entry.room()[..payload.len()].copy_from_slice(payload);
    entry.publish(payload.len(), stamp(hlc))
}

/// Reserves for a payload and publishes it, if there is room.
fn offer(p: &mut Producer, payload: &[u8], hlc: u64) -> bool {
    let room = p.reserve(frame::size(payload.len()));
    if room {
        assert_eq!(publish(p, payload, hlc), frame::size(payload.len()));
    }
    room
}

/// Payload of frame `seq`: of a length that varies, and bytes that tell the frame.
fn payload(seq: u64) -> Vec<u8> {
    (0..seq * 37 % 301).map(|i| (seq * 7 + i) as u8).collect()
}

/// Sequence numbers of a batch whose frames are as they were published.
fn seqs(bytes: &[u8]) -> Vec<u64> {
    let frames = frames(bytes).map(|f| f.expect("a frame"));
    frames.inspect(|f| assert_eq!(f.payload(), payload(f.header.seq))).map(|f| f.header.seq).collect()
}

#[test]
fn what_is_reserved_can_be_published_and_nothing_else() {
    let (mut p, mut c) = ring();
    assert_eq!(p.room(), PAGE);
    assert!(!p.reserve(PAGE + 1) && p.reserve(PAGE - 8) && !p.reserve(16) && p.reserve(8) && !p.reserve(usize::MAX));
    assert_eq!((p.room(), p.reserved()), (0, PAGE));
    // An auction publishes one frame and gives back what it did not need.
    assert_eq!(publish(&mut p, &[1; 10], 5), 48);
    p.refund(PAGE - 48);
    assert_eq!((p.room(), p.reserved()), (PAGE - 48, 0));
    assert_eq!(c.lag(), Lag { bytes: 48, frames: 1 });
    let batch = c.read(4096).expect("no damage").expect("a frame");
    assert_eq!((batch.frames, batch.first_hlc, batch.last_hlc, batch.bytes.len()), (1, 5, 5, 48));
    let mark = batch.mark;
    assert_eq!((p.room(), c.lag().bytes), (PAGE - 48, 48), "read is not released");
    c.release(mark);
    assert_eq!((p.room(), c.lag()), (PAGE, Lag::default()));
}

/// A frame that is begun and not published never was.
#[test]
fn a_frame_that_is_not_published_is_nothing() {
    let (mut p, mut c) = ring();
    assert!(p.reserve(200));
    let mut entry = p.begin();
    assert_eq!(entry.room().len(), 200 - frame::HEADER);
    entry.room().fill(0xff);
    // Nothing is called any more.
    assert_eq!((c.lag(), c.read(4096)), (Lag::default(), Ok(None)));
    publish(&mut p, b"", 1);
    assert_eq!(c.read(4096).expect("no damage").expect("a frame").mark.seq(), 1);
}

#[test]
#[should_panic(expected = "a frame of 48 bytes, 40 are reserved")]
fn publishing_more_than_was_reserved_is_a_mistake() {
    let (mut p, _c) = ring();
    assert!(p.reserve(40));
    p.begin().publish(9, stamp(1));
}

#[test]
#[should_panic(expected = "released what was not read, or twice")]
fn releasing_out_of_order_is_a_mistake() {
    let (mut p, mut c) = ring();
    let mut mark = || {
        assert!(offer(&mut p, b"", 1));
        c.read(4096).expect("no damage").expect("a frame").mark
    };
    let (first, second) = (mark(), mark());
    c.release(second);
    c.release(first);
}

/// Several blocks are on their way to disk; one fails, and what is not released is read again.
#[test]
fn what_could_not_be_written_is_read_again() {
    let (mut p, mut c) = ring();
    (1..=9).for_each(|seq| assert!(offer(&mut p, &payload(seq), seq)));
    let mut marks = Vec::new();
    while let Some(batch) = c.read(400).expect("no damage") {
        assert!(batch.bytes.len() <= 400 || batch.frames == 1);
        marks.push(batch.mark);
    }
    assert!(marks.len() > 3 && marks.is_sorted() && marks.last() == Some(&c.mark()));
    c.release(marks[1]);
    c.rewind();
    let again = c.read(usize::MAX).expect("no damage").expect("frames");
    assert_eq!(seqs(again.bytes), (marks[1].seq() + 1..=9).collect::<Vec<_>>());
}

/// Random calls against a plain list.
#[test]
fn a_ring_is_a_list_with_a_bound() {
    for seed in 0..if cfg!(miri) { 2 } else { 200 } {
        let mut rng = Rng::new(seed);
        let (mut p, mut c) = ring();
        // Published and not released, with sizes; how many of them were read; marks of what was read.
        let (mut model, mut read): (VecDeque<(u64, usize)>, usize) = (VecDeque::new(), 0);
        let mut marks: VecDeque<Mark> = VecDeque::new();
        let (mut next, mut promised) = (1, 0);
        for _ in 0..300 {
            let live: usize = model.iter().map(|m| m.1).sum();
            match rng.below(5) {
                0 => {
                    let bytes = rng.below(900) as usize;
                    let fits = live + promised + frame::padded(bytes) <= PAGE;
                    assert_eq!(p.reserve(bytes), fits, "seed {seed}");
                    promised += if fits { frame::padded(bytes) } else { 0 };
                }
                1 | 2 => {
                    let size = frame::size(payload(next).len());
                    if size <= promised {
                        assert_eq!(publish(&mut p, &payload(next), next), size);
                        model.push_back((next, size));
                        (promised, next) = (promised - size, next + 1);
                    }
                }
                3 => {
                    let max = rng.below(1200) as usize;
                    let batch = c.read(max).expect("no damage");
                    let unread: Vec<u64> = model.iter().skip(read).map(|m| m.0).collect();
                    let got = batch.map_or(vec![], |b| seqs(b.bytes));
                    assert_eq!(got, unread[..got.len()], "seed {seed}");
                    assert_eq!(got.is_empty(), unread.is_empty(), "seed {seed}");
                    read += got.len();
                    marks.extend(batch.map(|b| b.mark));
                    if rng.chance(100) {
                        c.rewind();
                        (read, marks) = (0, VecDeque::new());
                    }
                }
                _ => {
                    if let Some(mark) = marks.pop_front() {
                        c.release(mark);
                        while model.front().is_some_and(|m| m.0 <= mark.seq()) {
                            model.pop_front();
                            read -= 1;
                        }
                    }
                    let back = (rng.below(64) as usize).min(promised) & !7;
                    p.refund(back);
                    promised -= back;
                }
            }
            let live: usize = model.iter().map(|m| m.1).sum();
            assert_eq!((p.room(), p.reserved()), (PAGE - live - promised, promised), "seed {seed}");
            assert_eq!(c.lag(), Lag { bytes: live as u64, frames: model.len() as u64 }, "seed {seed}");
        }
        assert!(next > 50, "seed {seed}: it goes around");
    }
}

/// Two threads, as in the product: every frame arrives, whole and in order.
#[test]
fn nothing_is_torn_between_two_threads() {
    let frames = if cfg!(miri) { 60 } else { 200_000 };
    let (mut p, mut c) = ring();
    let writer = std::thread::spawn(move || {
        for seq in 1..=frames {
            while !offer(&mut p, &payload(seq), seq) {
                std::hint::spin_loop();
                std::thread::yield_now();
            }
        }
    });
    let mut got = 0;
    while got < frames {
        let Some(batch) = c.read(1500).expect("no damage") else {
            std::thread::yield_now();
            continue;
        };
        for seq in seqs(batch.bytes) {
            assert_eq!(seq, got + 1);
            got = seq;
        }
        let mark = batch.mark;
        c.release(mark);
    }
    writer.join().expect("the writer");
    assert_eq!(c.lag(), Lag::default());
}

/// Without its checksum a frame is not taken for one, and the ring goes on behind it.
#[test]
fn a_frame_without_checksum_is_found() {
    let (mut p, mut c) = ring();
    assert!(offer(&mut p, &payload(1), 1));
    p.fault = Fault::NoChecksum;
    assert!(offer(&mut p, &payload(2), 2));
    p.fault = Fault::None;
    assert!(offer(&mut p, &payload(3), 3));
    assert_eq!(seqs(c.read(4096).expect("the one before").expect("a frame").bytes), [1]);
    let damage = c.read(4096).expect_err("damage");
    assert_eq!((damage.after, damage.next, damage.lost()), (1, Some(3), 1));
    assert!(matches!(damage.why, Why::Frame(FrameError::Checksum { written: 0, .. })));
    let mark = c.read(4096).expect("the one behind").expect("a frame").mark;
    assert_eq!(mark.seq(), 3);
    c.release(mark);
    assert_eq!(p.room(), PAGE);
}
