//! The index of a segment: where the frames of a key ([`crate::record::keys`]) are and of which times, without reading the
//! segment.
//! Owns: nothing. Called by: whoever builds one from a finished segment, `outcry audit request`. Never: is trusted for more
//! than a place to look: keys with the same hash share it, and the frame found says whose it is.
//!
//! A page for the header, then pages of sorted entries, each with its own checksum: looking up a key in a full segment of
//! 256 MB reads some twelve pages.
use super::{
    PAGE,
    bytes::{put, u32_at, u64_at, zero},
    reader::Source,
};

/// First bytes of an index.
pub const MAGIC: [u8; 8] = *b"OUTCRYI1";
/// The version that is written. One of version 1 has no keys of notices: what it finds is all there is of others.
pub const VERSION: u32 = 2;
const PAGE_HEAD: usize = 16;
const ENTRY: usize = 16;
/// Entries of a page.
pub const PAGE_ENTRIES: usize = (PAGE - PAGE_HEAD) / ENTRY;

/// Where a frame is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Where its block begins in the segment.
    pub block: u64,
    /// Where it begins in the block.
    pub frame: u32,
}

/// What an index says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexHeader {
    /// By which keys were added: [`VERSION`], or one before.
    pub version: u32,
    /// The machine.
    pub node: u32,
    /// The segment.
    pub segment: u64,
    /// Bytes of it that were read.
    pub end: u64,
    /// Entries.
    pub entries: u64,
    /// Lowest and highest hybrid logical time of its frames; the first above the second: it has none.
    pub hlc: (u64, u64),
}

/// Why an index cannot be used. It is made anew then.
#[derive(Debug)]
pub enum IndexError<E> {
    /// It is none, or damaged.
    Bad,
    /// The medium.
    Source(E),
}

/// A key's hash: FNV-1a of 64 bits.
pub fn hash(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Collects what an index will hold.
#[derive(Clone, Debug)]
pub struct Builder {
    entries: Vec<(u64, Place)>,
    hlc: (u64, u64),
}

impl Default for Builder {
    fn default() -> Builder {
        Builder { entries: Vec::new(), hlc: (u64::MAX, 0) }
    }
}

impl Builder {
    /// A block's or a frame's times.
    pub fn times(&mut self, first_hlc: u64, last_hlc: u64) {
        self.hlc = (self.hlc.0.min(first_hlc), self.hlc.1.max(last_hlc));
    }

    /// A frame of a key.
    pub fn add(&mut self, key: &[u8], place: Place) {
        self.entries.push((hash(key), place));
    }

    /// The bytes of the index.
    pub fn finish(mut self, node: u32, segment: u64, end: u64) -> Vec<u8> {
        self.entries.sort_unstable();
        let mut out = vec![0; PAGE * (1 + self.entries.len().div_ceil(PAGE_ENTRIES))];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &node.to_le_bytes());
        put(&mut out, 16, &segment.to_le_bytes());
        put(&mut out, 24, &end.to_le_bytes());
        put(&mut out, 32, &(self.entries.len() as u64).to_le_bytes());
        put(&mut out, 40, &self.hlc.0.to_le_bytes());
        put(&mut out, 48, &self.hlc.1.to_le_bytes());
        let crc = crc32fast::hash(&out[..PAGE - 4]);
        put(&mut out, PAGE - 4, &crc.to_le_bytes());
        for (page, entries) in out[PAGE..].chunks_exact_mut(PAGE).zip(self.entries.chunks(PAGE_ENTRIES)) {
            put(page, 4, &(entries.len() as u32).to_le_bytes());
            for (i, (hash, place)) in entries.iter().enumerate() {
                let at = PAGE_HEAD + i * ENTRY;
                put(page, at, &hash.to_le_bytes());
                put(page, at + 8, &((place.block / PAGE as u64) as u32).to_le_bytes());
                put(page, at + 12, &place.frame.to_le_bytes());
            }
            let crc = crc32fast::hash(&page[4..]);
            put(page, 0, &crc.to_le_bytes());
        }
        out
    }
}

/// An index that is looked things up in.
#[derive(Debug)]
pub struct Index<S> {
    source: S,
    header: IndexHeader,
    page: Vec<u8>,
}

impl<S: Source> Index<S> {
    /// Reads its header.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(mut source: S) -> Result<Index<S>, IndexError<S::Error>> {
        if source.len() < PAGE as u64 {
            return Err(IndexError::Bad);
        }
        let mut page = vec![0; PAGE];
        source.read(0, &mut page).map_err(IndexError::Source)?;
        let sound = page[..8] == MAGIC
            && (1..=VERSION).contains(&u32_at(&page, 8))
            && u32_at(&page, PAGE - 4) == crc32fast::hash(&page[..PAGE - 4])
            && zero(&page[56..PAGE - 4]);
        let header = IndexHeader {
            version: u32_at(&page, 8),
            node: u32_at(&page, 12),
            segment: u64_at(&page, 16),
            end: u64_at(&page, 24),
            entries: u64_at(&page, 32),
            hlc: (u64_at(&page, 40), u64_at(&page, 48)),
        };
        let pages = header.entries.div_ceil(PAGE_ENTRIES as u64).checked_add(1);
        let whole = pages.and_then(|p| p.checked_mul(PAGE as u64)) == Some(source.len());
        if sound && whole { Ok(Index { source, header, page }) } else { Err(IndexError::Bad) }
    }

    /// What it says of itself.
    pub fn header(&self) -> IndexHeader {
        self.header
    }

    /// Where frames of a key with this hash are, in order; at most `max`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn find(&mut self, hash: u64, max: usize) -> Result<Vec<Place>, IndexError<S::Error>> {
        let pages = self.header.entries.div_ceil(PAGE_ENTRIES as u64);
        // The last page whose first hash is below: earlier ones hold none of this hash.
        let (mut low, mut high) = (0, pages);
        while low < high {
            let middle = low + (high - low) / 2;
            self.load(middle)?;
            if self.entry(0).0 < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut found = Vec::new();
        for page in low.saturating_sub(1)..pages {
            let entries = self.load(page)?;
            for i in 0..entries {
                let (h, place) = self.entry(i);
                if h > hash || found.len() == max {
                    return Ok(found);
                }
                if h == hash {
                    found.push(place);
                }
            }
        }
        Ok(found)
    }

    /// Reads a page of entries; returns how many it has, at least one.
    fn load(&mut self, page: u64) -> Result<usize, IndexError<S::Error>> {
        self.source.read((page + 1) * PAGE as u64, &mut self.page).map_err(IndexError::Source)?;
        let entries = u32_at(&self.page, 4) as usize;
        let sound = u32_at(&self.page, 0) == crc32fast::hash(&self.page[4..]);
        if sound && (1..=PAGE_ENTRIES).contains(&entries) { Ok(entries) } else { Err(IndexError::Bad) }
    }

    fn entry(&self, i: usize) -> (u64, Place) {
        let at = PAGE_HEAD + i * ENTRY;
        let block = u64::from(u32_at(&self.page, at + 8)) * PAGE as u64;
        (u64_at(&self.page, at), Place { block, frame: u32_at(&self.page, at + 12) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_added_is_found(keys in prop::collection::vec(0u32..300, 0..2000)) {
            let mut builder = Builder::default();
            for (i, key) in keys.iter().enumerate() {
                builder.add(&key.to_le_bytes(), Place { block: 4096 * (1 + i as u64), frame: 64 });
                builder.times(7 + u64::from(*key), 1000 - u64::from(*key));
            }
            let hlc = (keys.iter().min().map_or(u64::MAX, |k| 7 + u64::from(*k)), keys.iter().min().map_or(0, |k| 1000 - u64::from(*k)));
            let bytes = builder.finish(1, 2, 3);
            let mut index = Index::open(&bytes[..]).expect("an index");
            let header = IndexHeader { version: VERSION, node: 1, segment: 2, end: 3, entries: keys.len() as u64, hlc };
            prop_assert_eq!(index.header(), header);
            for key in 0..310u32 {
                let at = |(i, k): (usize, &u32)| (*k == key).then_some(Place { block: 4096 * (1 + i as u64), frame: 64 });
                let expected: Vec<_> = keys.iter().enumerate().filter_map(at).collect();
                prop_assert_eq!(index.find(hash(&key.to_le_bytes()), usize::MAX).expect("pages"), expected);
            }
        }
    }

    #[test]
    fn no_flipped_bit_passes() {
        let mut builder = Builder::default();
        (0..300u32).for_each(|i| builder.add(&i.to_le_bytes(), Place { block: 4096, frame: i }));
        let mut bytes = builder.finish(1, 2, 3);
        for bit in (0..bytes.len() * 8).step_by(7) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let bad = |mut i: Index<&[u8]>| (0..2).any(|page| matches!(i.load(page), Err(IndexError::Bad)));
            assert!(Index::open(&bytes[..]).map(bad).unwrap_or(true), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(matches!(Index::open(&bytes[..bytes.len() - PAGE]), Err(IndexError::Bad)));
        assert_eq!(hash(b"foobar"), 0x85944171f73967e8, "the published test vector");
    }
}
