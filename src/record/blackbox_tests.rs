use super::*;
use crate::record::frame::Kind;
use proptest::prelude::*;

const OURS: Identity = Identity { node: 0x2a, epoch: 7, core: 3, boot: BootId([0xb0; 16]) };

fn framed(identity: Identity, seq: u64, payload: &[u8]) -> Vec<u8> {
    let header = frame::Header {
        seq,
        epoch: identity.epoch,
        writer: identity.core,
        kind: Kind::Auction as u8,
        version: 1,
        hlc: seq << 16,
    };
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.extend_from_slice(payload);
    frame::finish(&mut out, at, &header);
    out
}

/// The payload of frame `seq` in these tests: of a length that varies.
fn payload(seq: u64) -> Vec<u8> {
    (0..seq * 37 % 211).map(|i| (seq * 7 + i) as u8).collect()
}

/// A file of a ring in which frames up to `released` were released and those up to `last` published.
fn file(size: u64, released: u64, last: u64) -> Vec<u8> {
    let data = PAGE as usize;
    let mut file = vec![0; data + size as usize];
    file[..IDENTITY_BYTES].copy_from_slice(&identity_bytes(&OURS, 4321, PAGE as u32, size));
    let (mut head, mut tail) = (0, 0);
    for seq in 1..=last {
        for byte in framed(OURS, seq, &payload(seq)) {
            file[data + (head % size) as usize] = byte;
            head += 1;
        }
        if seq == released {
            tail = head;
        }
    }
    let mut put = |at: usize, n: u64| file[at..at + 8].copy_from_slice(&n.to_le_bytes());
    put(HEAD_AT, head);
    put(HEAD_AT + 8, last);
    put(TAIL_AT, tail);
    // As flush leaves them: the note of the tail before, and that of this one.
    put(TAIL_AT + 8, tail.saturating_sub(64));
    put(TAIL_AT + 16, released.saturating_sub(1));
    put(TAIL_AT + 24, tail);
    put(TAIL_AT + 32, released);
    file
}

/// Sequence numbers and payloads that can be read, and what cannot.
fn readout(file: &[u8]) -> (Vec<u64>, Vec<Damage>) {
    let (header, live) = image(file).expect("a ring");
    let (mut seqs, mut damages) = (Vec::new(), Vec::new());
    for read in header.walk(&live) {
        match read {
            Ok(frame) => {
                assert_eq!(frame.payload(), payload(frame.header.seq), "frame {}", frame.header.seq);
                seqs.push(frame.header.seq);
            }
            Err(damage) => damages.push(damage),
        }
    }
    (seqs, damages)
}

/// Where frame `seq` stands in the file.
fn place(file: &[u8], seq: u64) -> usize {
    let (header, live) = image(file).expect("a ring");
    let mut walk = header.walk(&live);
    loop {
        let at = walk.offset();
        if walk.next().expect("the frame is there").expect("whole").header.seq == seq {
            return header.data as usize + ((header.tail + at as u64) % header.size) as usize;
        }
    }
}

/// Every byte of version 1. Later releases read it too, so the file stays when the version changes.
#[test]
fn version_1_is_read() {
    let golden = include_bytes!("blackbox_v1.golden");
    let (header, live) = image(golden).expect("a ring");
    let at = (header.head, header.published, header.tail, header.released);
    assert_eq!((header.identity, header.pid, header.data, header.size), (OURS, 4321, 4096, 4096));
    assert_eq!(at, (8440, 60, 5032, Some(36)));
    assert!(header.live()[1].end > header.live()[1].start, "around the end of the ring");
    assert_eq!(live.len(), 3408);
    assert_eq!(readout(golden), ((37..=60).collect(), vec![]));
    assert!(VERSION != 1 || file(4096, 36, 60) == golden, "and this is what is written");
}

#[test]
fn what_is_no_ring_is_named() {
    let good = file(4096, 0, 5);
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        bad
    };
    let signed = |at: usize, bytes: &[u8]| {
        let mut bad = with(at, bytes);
        let crc = crc32fast::hash(&bad[..CRC_AT]);
        bad[CRC_AT..IDENTITY_BYTES].copy_from_slice(&crc.to_le_bytes());
        bad
    };
    let (head, no) = (u64_at(&good, HEAD_AT), u64::MAX);
    let cases = [
        (good[..100].to_vec(), BoxError::Short { have: 100, need: 512 }),
        (good[..8191].to_vec(), BoxError::Short { have: 8191, need: 8192 }),
        (vec![0; 8192], BoxError::Magic),
        // Whatever a newer release has where we have a checksum.
        (with(8, &2u32.to_le_bytes()), BoxError::Newer(2)),
        (with(28, &8u32.to_le_bytes()), BoxError::Checksum { written: u32_at(&good, 60), found: 0 }),
        (signed(8, &[0; 4]), BoxError::Geometry { size: 4096, data: 4096 }),
        (signed(16, &[0; 8]), BoxError::Geometry { size: 0, data: 4096 }),
        (signed(16, &4100u64.to_le_bytes()), BoxError::Geometry { size: 4100, data: 4096 }),
        (signed(16, &(no - 4095).to_le_bytes()), BoxError::Geometry { size: no - 4095, data: 4096 }),
        (signed(12, &64u32.to_le_bytes()), BoxError::Geometry { size: 4096, data: 64 }),
        (with(TAIL_AT, &(head + 8).to_le_bytes()), BoxError::Positions { head, tail: head + 8, size: 4096 }),
        (with(HEAD_AT, &5000u64.to_le_bytes()), BoxError::Positions { head: 5000, tail: 0, size: 4096 }),
        (with(TAIL_AT, &4u64.to_le_bytes()), BoxError::Positions { head, tail: 4, size: 4096 }),
    ];
    for (bad, mut expected) in cases {
        let said = image(&bad).expect_err("no ring");
        if let (BoxError::Checksum { found, .. }, BoxError::Checksum { found: f, .. }) = (&mut expected, said) {
            *found = f;
        }
        assert_eq!(said, expected);
    }
}

#[test]
fn every_death_between_two_stores_of_the_tail_leaves_a_note_that_fits() {
    let whole = file(4096, 36, 60);
    let (tail, expected) = (u64_at(&whole, TAIL_AT), readout(&whole));
    // The next note is being written over the older one: position, number, in either order, before the tail moves.
    for (at, n) in [(8, tail + 999), (16, 41), (8, 0), (16, 0)] {
        let mut torn = whole.clone();
        torn[TAIL_AT + at..TAIL_AT + at + 8].copy_from_slice(&n.to_le_bytes());
        assert_eq!(readout(&torn), expected);
    }
    // With neither, the first frame is taken as it comes.
    let mut lost = whole.clone();
    lost[TAIL_AT + 8..TAIL_AT + 40].fill(0xee);
    assert_eq!(image(&lost).expect("a ring").0.released, None);
    assert_eq!(readout(&lost), expected);
}

#[test]
fn a_damaged_payload_costs_its_frame_alone() {
    let mut bad = file(4096, 2, 20);
    let at = place(&bad, 9);
    bad[at + HEADER] ^= 0x10;
    let (seqs, damages) = readout(&bad);
    assert_eq!(seqs, (3..=20).filter(|&s| s != 9).collect::<Vec<_>>());
    assert!(matches!(
        damages[..],
        [Damage { after: 8, next: Some(10), why: Why::Frame(FrameError::Checksum { .. }), .. }]
    ));
    assert_eq!((damages[0].bytes, damages[0].lost()), (frame::size(payload(9).len()), 1));
}

#[test]
fn behind_a_damaged_length_the_next_frame_is_found() {
    for length in [0u32, 33, 40, 4000, u32::MAX] {
        let mut bad = file(4096, 2, 20);
        let at = place(&bad, 9);
        bad[at..at + 4].copy_from_slice(&length.to_le_bytes());
        let (seqs, damages) = readout(&bad);
        assert_eq!(seqs, (3..=20).filter(|&s| s != 9).collect::<Vec<_>>(), "length {length}");
        assert_eq!(damages.iter().map(|d| (d.after, d.next)).collect::<Vec<_>>(), [(8, Some(10))]);
    }
}

/// The fault: any good frame at the end of a damaged one was gone on with, also where its length was what was damaged.
#[test]
fn a_damaged_length_that_leads_to_a_later_frame_costs_one_frame() {
    let mut bad = file(4096, 2, 20);
    let (at, later) = (place(&bad, 9), place(&bad, 15));
    let length = (later + 4096 - at) % 4096;
    bad[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
    let (seqs, damages) = readout(&bad);
    assert_eq!(seqs, (3..=20).filter(|&s| s != 9).collect::<Vec<_>>());
    assert_eq!(damages.iter().map(|d| (d.after, d.next)).collect::<Vec<_>>(), [(8, Some(10))]);
}

#[test]
fn a_hole_that_is_not_damage_is_a_gap() {
    let mut live = framed(OURS, 5, b"five");
    live.extend(framed(OURS, 9, b"nine"));
    let read: Vec<_> = Walk::new(&live, OURS, Some(4)).map(|r| r.map(|f| f.header.seq)).collect();
    let gap = Damage { at: 40, bytes: 0, after: 5, next: Some(9), why: Why::Gap };
    assert_eq!((read, gap.lost()), (vec![Ok(5), Err(gap), Ok(9)], 3));
    // And one right at the tail.
    assert_eq!(Walk::new(&live, OURS, Some(2)).filter(Result::is_err).count(), 2);
}

/// What a head that moved too early shows: the frames of a round before, whole and with a good checksum.
#[test]
fn frames_of_another_round_start_or_core_are_none() {
    let other_core = Identity { core: 4, ..OURS };
    let other_start = Identity { epoch: 6, ..OURS };
    let cases = [
        (framed(OURS, 4, b"old"), Why::Stale(4)),
        (framed(OURS, 0, b"none"), Why::Stale(0)),
        (framed(other_core, 6, b"other"), Why::Foreign { epoch: 7, writer: 4 }),
        (framed(other_start, 6, b"other"), Why::Foreign { epoch: 6, writer: 3 }),
    ];
    for (middle, why) in cases {
        let live = [framed(OURS, 5, b"five"), middle, framed(OURS, 7, b"seven")].concat();
        let read: Vec<_> = Walk::new(&live, OURS, Some(4)).map(|r| r.map(|f| f.header.seq)).collect();
        assert_eq!(read, [Ok(5), Err(Damage { at: 40, bytes: 40, after: 5, next: Some(7), why }), Ok(7)]);
        let end = &live[..80];
        let last = Walk::new(end, OURS, Some(4)).last().expect("two").expect_err("damage");
        assert_eq!((last.next, last.lost(), last.bytes), (None, 1, 40));
    }
}

#[test]
fn boot_ids_are_read_as_linux_writes_them() {
    let text = "4f0c2b7a-9d11-4e8c-8a57-0102030405ff";
    let id = BootId::parse(&format!("{text}\n")).expect("an id");
    assert_eq!((id.to_string(), id.0[0], id.0[15]), (text.to_owned(), 0x4f, 0xff));
    for bad in ["", "4f", &format!("{text}0"), &text.replace('f', "g"), &text.replace('f', "é")] {
        assert_eq!(BootId::parse(bad), None, "{bad}");
    }
}

/// Frames that all claim to be as long as what is left, each behind the other, would be summed again and again.
#[test]
fn a_search_ends_after_work_in_proportion() {
    let mut live = Vec::new();
    for seq in 1..40_000u64 {
        live.extend(framed(OURS, seq, b""));
    }
    let len = live.len();
    for (seq, at) in (1..).zip((0..len).step_by(HEADER)) {
        let claim = (len - at) as u32;
        live[at..at + 4].copy_from_slice(&claim.to_le_bytes());
        live[at + 8..at + 16].copy_from_slice(&u64::to_le_bytes(seq));
    }
    let mut walk = Walk::new(&live, OURS, Some(0));
    assert!(walk.by_ref().all(|r| r.is_err()));
    assert_eq!(walk.offset(), len);
    assert!(walk.budget < len, "it was used up: without it this sums 25 GB");
}

proptest! {
    /// Whatever happens to a run of bytes, what is read is what was published, in its order, and every frame that was
    /// not touched is among it.
    #[test]
    fn damage_costs_what_it_touches(released in 0u64..30, more in 0u64..25, at in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 1..200)) {
        let last = released + more;
        let good = file(4096, released, last);
        let mut bad = good.clone();
        let at = PAGE as usize + at.index(4096);
        let end = (at + noise.len()).min(bad.len());
        for (byte, noise) in bad[at..end].iter_mut().zip(&noise) {
            *byte ^= noise;
        }
        let (seqs, damages) = readout(&bad);
        prop_assert!(seqs.is_sorted_by(|a, b| a < b));
        // Only frames whose bytes changed are missing.
        let (header, live) = image(&good).expect("a ring");
        let (_, after) = image(&bad).expect("a ring");
        let mut walk = header.walk(&live);
        let mut untouched = Vec::new();
        while let Some(Ok(frame)) = walk.next() {
            let place = walk.offset() - frame.bytes.len()..walk.offset();
            if live[place.clone()] == after[place] {
                untouched.push(frame.header.seq);
            }
        }
        prop_assert_eq!(&seqs, &untouched);
        prop_assert_eq!(damages.is_empty(), seqs.len() as u64 == more);
    }

    #[test]
    fn no_header_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), head in any::<u64>(), tail in any::<u64>()) {
        let _ = image(&bytes);
        let mut file = file(4096, 0, 3);
        file[HEAD_AT..HEAD_AT + 8].copy_from_slice(&head.to_le_bytes());
        file[TAIL_AT..TAIL_AT + 8].copy_from_slice(&tail.to_le_bytes());
        if let Ok((header, live)) = image(&file) {
            prop_assert_eq!(live.len() as u64, head - tail);
            prop_assert!(header.walk(&live).count() <= live.len());
        }
    }
}
