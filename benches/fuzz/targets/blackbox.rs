//! Black boxes that were left behind: whatever stands in the file, reading it out ends, accounts for every byte, and gives
//! only whole frames of this box in their order; and what was not touched is given.
use outcry::record::{
    blackbox::{HEAD_AT, HEADER_BYTES, Header, Identity, PAGE, TAIL_AT, Walk, identity_bytes, image},
    frame,
};
use std::collections::BTreeMap;

const RING: usize = PAGE as usize;
const WHOSE: Identity = Identity { node: 1, epoch: 7, core: 3, boot: outcry::record::blackbox::BootId([0; 16]) };
/// Bytes of an input that say what is changed; the rest stands in the ring.
const CHANGES: usize = 3;

/// An even first byte: the rest is a file. An odd one: the rest says how to make a good one and what to change of it.
pub fn check(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    if choice & 1 == 0 {
        if let Ok((header, live)) = image(rest) {
            assert_eq!(live.len() as u64, header.head - header.tail);
            read(header.walk(&live), &live, &header.identity, header.released);
        }
        return;
    }
    let Some((made, rest)) = rest.split_first_chunk::<3>() else { return };
    let Some((changes, overlay)) = rest.split_first_chunk::<{ 3 * CHANGES }>() else { return };
    let (good, frames) = file(u64::from(made[0]) * 16, u64::from(made[1]), u64::from(made[2]));
    let mut bad = good.clone();
    for change in changes.chunks(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % good.len();
        bad[at] ^= change[2];
    }
    // With 4, what is left of the input stands in the ring from the tail on.
    if choice & 4 != 0 {
        for (i, byte) in overlay.iter().take(RING).enumerate() {
            bad[RING + (usize::from(made[0]) * 16 + i) % RING] = *byte;
        }
    }
    let Ok((header, live)) = image(&bad) else { return };
    let got = read(header.walk(&live), &live, &header.identity, header.released);
    // Three bytes cannot be changed so that the checksum does not see it, and the header is as it was.
    if choice & 4 == 0 && bad[..HEADER_BYTES] == good[..HEADER_BYTES] {
        let (_, before) = image(&good).expect("a good file");
        for (seq, (at, frame)) in &frames {
            let touched = live[*at..at + frame.len()] != before[*at..at + frame.len()];
            assert_eq!(!got.contains_key(seq), touched, "frame {seq}");
        }
        assert!(got.iter().all(|(seq, bytes)| frames.get(seq).is_some_and(|(_, f)| f == bytes)), "never published");
    }
}

/// Walks to the end. The frames by their sequence number.
fn read(mut walk: Walk<'_>, live: &[u8], whose: &Identity, released: Option<u64>) -> BTreeMap<u64, Vec<u8>> {
    let (mut got, mut last) = (BTreeMap::new(), released.unwrap_or(0));
    let mut at = 0;
    while let Some(next) = walk.next() {
        match next {
            Ok(frame) => {
                let header = frame.header;
                assert!(
                    header.seq > last || released.is_none() && got.is_empty(),
                    "frame {} behind {last}",
                    header.seq
                );
                assert_eq!((header.epoch, header.writer), (whose.epoch, whose.core));
                assert_eq!(frame::decode(&live[at..]), Ok(frame), "where the walk is");
                at += frame.bytes.len();
                last = header.seq;
                got.insert(header.seq, frame.bytes.to_vec());
            }
            Err(damage) => {
                assert_eq!((damage.at, damage.after), (at, last.max(damage.after)));
                assert!(damage.next.is_some() || at + damage.bytes == live.len(), "given up before the end");
                at += damage.bytes;
                let _ = damage.to_string();
            }
        }
        assert_eq!(walk.offset(), at, "every byte is accounted for");
    }
    assert_eq!(at, live.len());
    got
}

type Frames = BTreeMap<u64, (usize, Vec<u8>)>;

/// A good file of so many frames at most, whose tail is at `tail`; and where each frame is among the live bytes.
fn file(tail: u64, released: u64, most: u64) -> (Vec<u8>, Frames) {
    let (mut live, mut frames) = (Vec::new(), Frames::new());
    for seq in released + 1..=released + most {
        let header = frame::Header { seq, epoch: WHOSE.epoch, writer: WHOSE.core, kind: 1, version: 1, hlc: seq };
        let mut frame = Vec::new();
        let at = frame::begin(&mut frame);
        frame.extend((0..seq * 37 % 211).map(|i| (seq * 7 + i) as u8));
        frame::finish(&mut frame, at, &header);
        if live.len() + frame.len() > RING {
            break;
        }
        frames.insert(seq, (live.len(), frame.clone()));
        live.extend(frame);
    }
    let mut file = vec![0; RING * 2];
    let identity = identity_bytes(&WHOSE, 1, PAGE as u32, RING as u64);
    file[..identity.len()].copy_from_slice(&identity);
    for (i, byte) in live.iter().enumerate() {
        file[RING + (tail as usize + i) % RING] = *byte;
    }
    let mut put = |at: usize, n: u64| file[at..at + 8].copy_from_slice(&n.to_le_bytes());
    put(HEAD_AT, tail + live.len() as u64);
    put(TAIL_AT, tail);
    put(TAIL_AT + 8, tail);
    put(TAIL_AT + 16, released);
    put(TAIL_AT + 24, u64::MAX);
    let header = Header::decode(&file, file.len() as u64).expect("a good header");
    assert_eq!((header.released, header.size), (Some(released), RING as u64));
    (file, frames)
}
