//! Which of a batch's archived segments can hold a frame of an id: so a lookup opens those and no others.
//! Owns: nothing. Called by: `outcry tiers export` (makes one a batch), `outcry audit` (asks it). Never: says of a segment that
//! has a key that it has none; says for certain that one has it: about one in two hundred others is opened in vain.
//!
//! A Bloom filter for each segment, cut into blocks of 512 bytes; all bits of a key are in one of them (Putze, Sanders,
//! Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007). The same blocks of all segments stand beside each other,
//! so one read of an object's part, some kilobytes, answers for the batch. Each block has its checksum. Byte by byte: `SPEC.md`.
use super::json::{Json, hex, unhex};
use crate::{
    auction::Record,
    budget::{AccountId, Period},
    journal::index,
    notice::holds::Lapse,
    record::{
        frame::{Frame, Kind},
        keys::keys as keys_of,
        show::json::Object,
    },
    units::mix,
};
use std::collections::BTreeSet;

/// Bytes of a block, its checksum included.
pub const BLOCK: usize = 512;
const BITS: u64 = (BLOCK as u64 - 4) * 8;
/// Bits that a key sets.
const SET: u32 = 8;
/// Keys for which a block is meant: twelve bits for each.
const KEYS: usize = 338;

/// What an id is looked up by here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key(u64);

impl Key {
    /// Of a request's id as far as it is kept, or an event id.
    pub fn of(text: &[u8]) -> Key {
        // FNV-1a alone has few of a short text's bits in its highest.
        Key(mix(index::hash(text)))
    }

    /// Of what goes home of a start's charges on an account, that wait for notices until a minute.
    fn of_lapse(epoch: u32, (account, period): (AccountId, Period), minute: u32) -> Key {
        Key::of(format!("lapse {epoch} {account} {} {minute}", period.0).as_bytes())
    }

    /// All that a frame can be looked up by: its ids, or whose charges go home by it.
    pub fn of_frame(frame: &Frame<'_>, each: &mut dyn FnMut(Key)) {
        keys_of(frame, &mut |text| each(Key::of(text)));
        if let (Some(Kind::Settlement), Ok(lapse)) = (frame.kind(), Lapse::decode(frame.payload())) {
            let line = lapse.of.line;
            each(Key::of_lapse(lapse.of.epoch, (line.account, line.period), lapse.minute));
        }
    }

    /// All that what came of an auction is looked up by: its event id, and by what its charges may have gone home.
    pub fn of_auction(record: &Record, each: &mut dyn FnMut(Key)) {
        let i = &record.inputs;
        each(Key::of(&i.event.text()));
        for win in record.decision.wins.iter().filter(|win| i.awaited_s > 0 && win.account.is_some()) {
            each(Key::of_lapse(i.event.epoch, (win.account, win.period), i.awaited_s / 60));
        }
    }

    /// The block, of so many.
    fn block(self, blocks: u32) -> u64 {
        ((u128::from(self.0) * u128::from(blocks)) >> 64) as u64
    }

    /// Its bits in a block.
    fn bits(self) -> impl Iterator<Item = usize> {
        // What chose the block is in the high bits: those of one block share them.
        let (from, step) = (mix(self.0), mix(self.0 ^ u64::MAX) | 1);
        (0..SET).map(move |n| (from.wrapping_add(step.wrapping_mul(n.into())) % BITS) as usize)
    }
}

/// The keys of a segment, collected.
pub type Keys = BTreeSet<Key>;

/// The bytes for the segments of a batch, and of how many blocks each has.
pub fn build(segments: &[Keys]) -> (Vec<u8>, u32) {
    let most = segments.iter().map(BTreeSet::len).max().unwrap_or(0);
    let blocks = u32::try_from(most.div_ceil(KEYS).max(1)).unwrap_or(u32::MAX);
    let mut bytes = vec![0; blocks as usize * segments.len() * BLOCK];
    for (at, keys) in segments.iter().enumerate() {
        for key in keys {
            let block = key.block(blocks) as usize * segments.len() + at;
            let bits = &mut bytes[block * BLOCK + 4..(block + 1) * BLOCK];
            for bit in key.bits() {
                bits[bit / 8] |= 1 << (bit % 8);
            }
        }
    }
    for block in bytes.chunks_exact_mut(BLOCK) {
        let sum = crc32fast::hash(&block[4..]).to_le_bytes();
        block[..4].copy_from_slice(&sum);
    }
    (bytes, blocks)
}

/// What a manifest says of a batch's index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Its object.
    pub name: String,
    /// Bytes of that.
    pub bytes: u64,
    /// SHA-256 of those.
    pub sha256: [u8; 32],
    /// Blocks of each segment.
    pub blocks: u32,
}

impl Ids {
    /// Which part of the object answers for a key, of a batch of so many segments: from this byte to that one.
    pub fn part(&self, key: Key, segments: usize) -> std::ops::Range<u64> {
        let long = segments as u64 * BLOCK as u64;
        let from = key.block(self.blocks) * long;
        from..from + long
    }

    pub(super) fn write(&self, o: &mut Object<'_>) {
        o.text("name", self.name.as_bytes());
        o.number("bytes", self.bytes);
        o.word("sha256", hex(&self.sha256));
        o.number("blocks", self.blocks);
    }

    /// `None`: it is not as it should be, for so many segments.
    pub(super) fn read(json: &Json, segments: usize) -> Option<Ids> {
        let ids = Ids {
            name: json.text("name")?.to_string(),
            bytes: json.count("bytes")?,
            sha256: unhex(json.text("sha256")?)?,
            blocks: json.count("blocks")?.try_into().ok().filter(|blocks| *blocks > 0)?,
        };
        let whole = u64::from(ids.blocks).checked_mul(segments as u64)?.checked_mul(BLOCK as u64)?;
        (whole == ids.bytes).then_some(ids)
    }
}

/// Can each of the segments hold the key? `part`: what [`Ids::part`] said. `None`: those bytes are damaged.
pub fn may(part: &[u8], key: Key, segments: usize) -> Option<Vec<bool>> {
    if part.len() != segments * BLOCK {
        return None;
    }
    let one = |block: &[u8]| {
        let (sum, bits) = block.split_at_checked(4)?;
        let sound = sum == crc32fast::hash(bits).to_le_bytes();
        sound.then(|| key.bits().all(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1))
    };
    part.chunks_exact(BLOCK).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(segment: usize, n: u64) -> Key {
        Key::of(format!("request-{segment}-{n:06}").as_bytes())
    }

    fn segments(many: &[u64]) -> Vec<Keys> {
        many.iter().enumerate().map(|(segment, n)| (0..*n).map(|n| key(segment, n)).collect()).collect()
    }

    fn ask(bytes: &[u8], blocks: u32, key: Key, segments: usize) -> Vec<bool> {
        let ids = Ids { name: String::new(), bytes: bytes.len() as u64, sha256: [0; 32], blocks };
        let part = ids.part(key, segments);
        may(&bytes[part.start as usize..part.end as usize], key, segments).expect("sound")
    }

    #[test]
    fn what_is_in_a_segment_is_found_and_little_else() {
        let known = segments(&[20_000, 0, 300, 20_000]);
        let (bytes, blocks) = build(&known);
        assert_eq!((blocks, bytes.len()), (60, 60 * 4 * BLOCK), "twelve bits a key, and a little");
        let mut vain = 0;
        for (segment, keys) in known.iter().enumerate() {
            for key in keys {
                let may = ask(&bytes, blocks, *key, 4);
                assert!(may[segment] && !may[1]);
                vain += may.iter().filter(|may| **may).count() - 1;
            }
        }
        for n in 0..100_000 {
            vain += ask(&bytes, blocks, key(9, n), 4).into_iter().filter(|may| *may).count();
        }
        // Of 40,300 keys two segments that are full, of 100,000 too.
        let asked = 40_300 + 200_000;
        assert!((1..asked / 200).contains(&vain), "{vain} of {asked} in vain");
        let (bytes, blocks) = build(&segments(&[0]));
        assert_eq!((ask(&bytes, blocks, key(0, 0), 1), bytes.len()), (vec![false], BLOCK));
    }

    #[test]
    fn what_is_damaged_says_nothing() {
        let (bytes, blocks) = build(&segments(&[100, 100]));
        assert_eq!(blocks, 1);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            assert_eq!((may(&other, key(0, 0), 2), may(&bytes[..at], key(0, 0), 2)), (None, None), "{at}");
        }
        assert_eq!(may(&bytes, key(0, 0), 3), None);
    }
}
