//! The journal's readers: whatever stands in a segment, an index or a checkpoint, they end, within bounds, and hand out
//! nothing that was not written.
//!
//! Checksums would keep a fuzzer out, and a segment has a page where an input has a byte. So the input is a recipe: a good
//! segment, and what is done to it, with checksums made anew or not.
use outcry::{
    journal::{
        PAGE,
        block::{self, BLOCK_HEADER, BlockHeader},
        checkpoint::Checkpoint,
        index::Index,
        reader::{Item, Known, SegmentReader},
        segment::{HEADER_BYTES, Previous, SegmentHeader},
        verify::Verify,
    },
    record::frame::{self, Header, Kind},
};

const SALT: u64 = 77;
/// Pages that a recipe can make.
const PAGES_MAX: usize = 24;

/// The first byte chooses what is read. Of a segment: two bytes of what is known of it, then steps of four bytes each.
pub fn check(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 => {
            if let Ok(read) = Checkpoint::decode(rest) {
                assert_eq!(Checkpoint::decode(&read.encode()), Ok(read));
            }
        }
        1 => index(rest),
        _ => segment(rest),
    }
}

/// The bytes as entries of an index whose checksums hold.
fn index(data: &[u8]) {
    let mut builder = outcry::journal::index::Builder::default();
    let entries = data.len() / 3;
    for entry in data.chunks_exact(3) {
        let place = outcry::journal::index::Place { block: u64::from(entry[1]) * PAGE as u64, frame: entry[2].into() };
        builder.add(&entry[..1], place);
    }
    let mut bytes = builder.finish(1, 2, 3);
    for key in 0..=u8::MAX {
        let mut index = Index::open(&bytes[..]).expect("an index");
        let found = index.find(outcry::journal::index::hash(&[key]), usize::MAX).expect("pages");
        assert_eq!(found.len(), data.chunks_exact(3).filter(|e| e[0] == key).count(), "of {entries}");
    }
    // Damaged anywhere: an error or an answer, and no panic.
    for at in data.chunks_exact(2).take(8).map(|a| usize::from(a[0]) << 4 | usize::from(a[1])) {
        let at = at % bytes.len();
        bytes[at] ^= 1;
        if let Ok(mut index) = Index::open(&bytes[..]) {
            let _ = index.find(u64::from(at as u32), 10);
        }
    }
}

/// A block whose payload tells its number.
fn put_block(out: &mut Vec<u8>, number: u64, before: u32, unconfirmed: u32, frames: u64) -> u32 {
    let mut room = vec![0; BLOCK_HEADER];
    for i in 0..frames {
        let at = frame::begin(&mut room);
        room.extend_from_slice(&number.to_le_bytes());
        room.resize(room.len() + 2000, number as u8);
        let seq = number * 4 + i;
        frame::finish(
            &mut room,
            at,
            &Header { seq, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: 1, hlc: seq },
        );
    }
    let header = BlockHeader {
        payload: (room.len() - BLOCK_HEADER) as u32,
        frames: frames as u32,
        segment: 5,
        number,
        first_hlc: number,
        last_hlc: number,
        before,
        unconfirmed,
        seal: false,
    };
    room.resize(header.bytes(), 0);
    let (_, crc) = block::seal_block(&mut room, &header, SALT);
    out.extend(room);
    crc
}

fn segment(data: &[u8]) {
    let [end, confirmed, steps @ ..] = data else { return };
    let mut bytes = vec![0; HEADER_BYTES];
    let header = SegmentHeader {
        node: 1,
        segment: 5,
        hlc: 1,
        bytes: 1 << 20,
        first_block: 1,
        salt: SALT,
        previous: Previous { end: PAGE as u64, digest: [1; 32], crc: 9 },
    };
    header.encode(&mut bytes);
    let (mut number, mut crc) = (1, 9);
    for step in steps.chunks_exact(4) {
        let pages = bytes.len() / PAGE;
        let [what, a, b, c] = *step else { continue };
        let at = PAGE + usize::from(a) % pages * PAGE + usize::from(b);
        match what % 8 {
            0..=2 if pages < PAGES_MAX => {
                crc = put_block(&mut bytes, number, crc, u32::from(a % 4), u64::from(b % 4));
                number += 1;
            }
            // One that says something else of itself.
            3 if pages < PAGES_MAX => {
                put_block(&mut bytes, u64::from(a % 16) + 1, u32::from(b), u32::from(c), 1);
            }
            4 if pages < PAGES_MAX => bytes.resize(bytes.len() + PAGE, 0),
            // Torn at a sector, a flipped bit, a garbled field.
            5 => bytes.get_mut(at / 512 * 512..at / 512 * 512 + 512).into_iter().for_each(|s| s.fill(c)),
            6 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << (c % 8)),
            7 => bytes.truncate(bytes.len().saturating_sub(usize::from(c)).max(PAGE)),
            _ => {}
        }
    }
    let known =
        Known { end: (*end > 0).then(|| (u64::from(*end) % 32) * PAGE as u64), confirmed: u64::from(*confirmed % 16) };
    read(&bytes, known);
    let mut verify = Verify::new(None);
    let Ok(()) = verify.segment((1, 5), &bytes[..], None);
    let _ = verify.finish();
}

fn read(bytes: &[u8], known: Known) {
    let Ok(mut reader) = SegmentReader::open(bytes, known) else { return };
    let (mut at, mut number) = (PAGE as u64, 0);
    while let Ok(Some(item)) = reader.next_item() {
        match item {
            Item::Block(begins, block) => {
                assert!(begins >= at && begins % PAGE as u64 == 0, "blocks come in order");
                assert!(block.header.number > number, "numbers rise");
                let of = block.header.number.to_le_bytes();
                let mut frames = frame::frames(block.payload).map(|f| f.expect("as it was written"));
                assert!(frames.all(|f| f.payload()[..8] == of), "what was written");
                at = begins + block.header.bytes() as u64;
                number = block.header.number;
                assert!(at <= bytes.len() as u64, "within the file");
            }
            Item::Damage(damage) => {
                assert!(damage.at >= at && damage.end >= damage.at, "damage is behind what was read");
                assert!(damage.end <= bytes.len() as u64 || damage.at == damage.end, "and within the file");
            }
        }
    }
    let ending = reader.ending();
    assert!(ending.next_block > number, "the next number is free");
    assert!(known.end.is_some() || ending.end <= bytes.len().max(PAGE) as u64);
    assert!(ending.torn.is_none_or(|torn| ending.end + torn.bytes <= bytes.len().next_multiple_of(PAGE) as u64));
    let again = reader.next_item();
    assert!(matches!(again, Ok(None)), "over is over");
}
