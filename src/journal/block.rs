//! A block: what one write carries, a header of 64 bytes and frames, filled up to whole pages.
//! Owns: nothing. Called by: [`super::writer`], [`super::reader`]. Never: believes a block whose checksum fails, or whose
//! padding is not zero.
use super::{
    PAGE,
    bytes::{put, u16_at, u32_at, u64_at, zero},
    positions::Key,
};

/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = 64;
/// First bytes of a block.
pub const MAGIC: [u8; 4] = *b"OBLK";
/// Longest block that a reader takes: whatever is read, it holds no more.
pub const BLOCK_BYTES_MAX: usize = 8 << 20;
/// Bytes of the block that ends a segment, always.
pub const SEAL_BYTES: usize = 4 * PAGE;
/// Pairs of epoch and writer that a seal has room for; a segment with more is ended early.
pub const SEAL_ENTRIES_MAX: usize = (SEAL_BYTES - BLOCK_HEADER - SEAL_HEAD) / SEAL_ENTRY;
const SEAL_HEAD: usize = 32;
const SEAL_ENTRY: usize = 32;
const CRC: usize = 52;
/// Of a block with frames, and of a seal.
const FRAMES: u8 = 1;
const SEAL: u8 = 2;

/// What a block says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BlockHeader {
    /// Bytes behind the header, without what it is filled up with.
    pub payload: u32,
    /// Frames in it; none in a seal.
    pub frames: u32,
    /// The segment it is in.
    pub segment: u64,
    /// Counts the blocks of a node, over segments, from 1, without gaps.
    pub number: u64,
    /// Lowest hybrid logical time of its frames.
    pub first_hlc: u64,
    /// Highest hybrid logical time of its frames.
    pub last_hlc: u64,
    /// Checksum of the block before it, over segments; 0 for the first of all.
    pub before: u32,
    /// How many of the blocks before it the disk had not confirmed when it was made: those may be missing after a power
    /// cut, the others may not.
    pub unconfirmed: u32,
    /// It ends its segment.
    pub seal: bool,
}

impl BlockHeader {
    /// Bytes of the block, filled up.
    pub fn bytes(&self) -> usize {
        padded(self.payload as usize)
    }

    /// The last block that the disk had confirmed when this one was made; 0: none.
    pub fn confirmed(&self) -> u64 {
        (self.number - 1).saturating_sub(u64::from(self.unconfirmed))
    }
}

/// Bytes of a block with such a payload, filled up.
pub const fn padded(payload: usize) -> usize {
    (BLOCK_HEADER + payload).next_multiple_of(PAGE)
}

/// Why bytes are no block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// Nothing was written here.
    #[error("nothing is written here")]
    Empty,
    /// Something else.
    #[error("no block begins here")]
    Magic,
    /// Lengths that cannot be.
    #[error("the block's lengths cannot be")]
    Lengths,
    /// It would end behind its segment.
    #[error("the block is cut off: {have} of its {need} bytes are there")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes it needs.
        need: usize,
    },
    /// Not the bytes that were written.
    #[error("checksum {found:08x}, the block says {written:08x}")]
    Checksum {
        /// What the header says.
        written: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Something stands where the block is filled up with zeros.
    #[error("the block is not filled up with zeros")]
    Padding,
}

/// Completes a block whose payload stands in `room` from [`BLOCK_HEADER`] on: fills it up, writes the header. Returns its
/// bytes and its checksum.
///
/// # Panics
/// If `room` is shorter than the block, or the block longer than [`BLOCK_BYTES_MAX`].
pub fn seal_block(room: &mut [u8], header: &BlockHeader, salt: u64) -> (usize, u32) {
    let bytes = header.bytes();
    assert!(bytes <= BLOCK_BYTES_MAX, "a block has its bound");
    let end = BLOCK_HEADER + header.payload as usize;
    room[end..bytes].fill(0);
    put(room, 0, &MAGIC);
    put(room, 4, &(bytes as u32).to_le_bytes());
    put(room, 8, &header.payload.to_le_bytes());
    put(room, 12, &header.frames.to_le_bytes());
    put(room, 16, &header.segment.to_le_bytes());
    put(room, 24, &header.number.to_le_bytes());
    put(room, 32, &header.first_hlc.to_le_bytes());
    put(room, 40, &header.last_hlc.to_le_bytes());
    put(room, 48, &header.before.to_le_bytes());
    put(room, CRC, &[0; 4]);
    put(room, 56, &[if header.seal { SEAL } else { FRAMES }, 0, 0, 0]);
    put(room, 60, &header.unconfirmed.to_le_bytes());
    let crc = checksum(&room[..end], salt);
    put(room, CRC, &crc.to_le_bytes());
    (bytes, crc)
}

/// The salt, then the block up to the end of its payload, with zeros for the checksum itself.
fn checksum(block: &[u8], salt: u64) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.to_le_bytes());
    crc.update(&block[..CRC]);
    crc.update(&[0; 4]);
    crc.update(&block[CRC + 4..]);
    crc.finalize()
}

/// A block that was read: its bytes are those that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    /// What it says of itself.
    pub header: BlockHeader,
    /// Its checksum, which the block after it repeats.
    pub crc: u32,
    /// Its frames, or the seal.
    pub payload: &'a [u8],
}

/// Bytes of the block that begins with `page`.
///
/// # Errors
/// [`BlockError`], as far as the first [`BLOCK_HEADER`] bytes show.
pub fn length(page: &[u8]) -> Result<usize, BlockError> {
    if page.len() < BLOCK_HEADER {
        return Err(BlockError::Short { have: page.len(), need: BLOCK_HEADER });
    }
    if page[..4] == [0; 4] {
        return Err(BlockError::Empty);
    }
    if page[..4] != MAGIC {
        return Err(BlockError::Magic);
    }
    let (bytes, payload) = (u32_at(page, 4) as usize, u32_at(page, 8) as usize);
    let sound = payload <= bytes && bytes == padded(payload) && bytes <= BLOCK_BYTES_MAX;
    if sound { Ok(bytes) } else { Err(BlockError::Lengths) }
}

/// Reads the block that `bytes` begin with. What follows it is not looked at.
///
/// # Errors
/// [`BlockError`]; nothing that is read makes it panic.
pub fn decode(bytes: &[u8], salt: u64) -> Result<Block<'_>, BlockError> {
    let need = length(bytes)?;
    let Some(block) = bytes.get(..need) else {
        return Err(BlockError::Short { have: bytes.len(), need });
    };
    let payload = u32_at(block, 8);
    let end = BLOCK_HEADER + payload as usize;
    let (written, found) = (u32_at(block, CRC), checksum(&block[..end], salt));
    #[cfg(test)]
    let found = if super::tests::planted(super::tests::Fault::NoChecksum) { written } else { found };
    if written != found {
        return Err(BlockError::Checksum { written, found });
    }
    if !zero(&block[end..]) {
        return Err(BlockError::Padding);
    }
    let header = said(block);
    if header.number == 0 || !(header.seal || block[56] == FRAMES) {
        return Err(BlockError::Lengths);
    }
    Ok(Block { header, crc: written, payload: &block[BLOCK_HEADER..end] })
}

/// What the first [`BLOCK_HEADER`] bytes of a block say of it, and its bytes. Nothing is checked but the lengths: for
/// whoever only wants to know what may be passed over.
///
/// # Errors
/// [`BlockError`], as far as those bytes show.
pub fn peek(page: &[u8]) -> Result<(BlockHeader, usize), BlockError> {
    let bytes = length(page)?;
    Ok((said(page), bytes))
}

/// At least [`BLOCK_HEADER`] bytes.
fn said(block: &[u8]) -> BlockHeader {
    BlockHeader {
        payload: u32_at(block, 8),
        frames: u32_at(block, 12),
        segment: u64_at(block, 16),
        number: u64_at(block, 24),
        first_hlc: u64_at(block, 32),
        last_hlc: u64_at(block, 40),
        before: u32_at(block, 48),
        unconfirmed: u32_at(block, 60),
        seal: block[56] == SEAL,
    }
}

/// The frames of one pair of epoch and writer in a block or a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Whose.
    pub key: Key,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number.
    pub last: u64,
    /// Frames: fewer than the numbers where some are missing.
    pub frames: u64,
}

/// What the last block of a segment says of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seal {
    /// Blocks of the segment, without this one.
    pub blocks: u64,
    /// Frames in them.
    pub frames: u64,
    /// Bytes of those frames.
    pub frame_bytes: u64,
    /// Whose they are, in order of epoch and writer.
    pub ranges: Vec<Range>,
}

impl Seal {
    /// Writes the payload behind the header of a block of [`SEAL_BYTES`]; returns its bytes.
    ///
    /// # Panics
    /// If there are more than [`SEAL_ENTRIES_MAX`] ranges, or less room.
    pub fn encode(&self, room: &mut [u8]) -> usize {
        assert!(self.ranges.len() <= SEAL_ENTRIES_MAX, "a seal has its bound");
        let out = &mut room[BLOCK_HEADER..SEAL_BYTES];
        out.fill(0);
        put(out, 0, &self.blocks.to_le_bytes());
        put(out, 8, &self.frames.to_le_bytes());
        put(out, 16, &self.frame_bytes.to_le_bytes());
        put(out, 24, &(self.ranges.len() as u32).to_le_bytes());
        for (i, range) in self.ranges.iter().enumerate() {
            let at = SEAL_HEAD + i * SEAL_ENTRY;
            put(out, at, &range.key.0.to_le_bytes());
            put(out, at + 4, &range.key.1.to_le_bytes());
            put(out, at + 8, &range.first.to_le_bytes());
            put(out, at + 16, &range.last.to_le_bytes());
            put(out, at + 24, &range.frames.to_le_bytes());
        }
        SEAL_BYTES - BLOCK_HEADER
    }

    /// Reads the payload of a sealing block. `None`: it is no seal.
    pub fn decode(payload: &[u8]) -> Option<Seal> {
        if payload.len() != SEAL_BYTES - BLOCK_HEADER {
            return None;
        }
        let entries = u32_at(payload, 24) as usize;
        if entries > SEAL_ENTRIES_MAX {
            return None;
        }
        let range = |i: usize| {
            let at = SEAL_HEAD + i * SEAL_ENTRY;
            Range {
                key: (u32_at(payload, at), u16_at(payload, at + 4)),
                first: u64_at(payload, at + 8),
                last: u64_at(payload, at + 16),
                frames: u64_at(payload, at + 24),
            }
        };
        Some(Seal {
            blocks: u64_at(payload, 0),
            frames: u64_at(payload, 8),
            frame_bytes: u64_at(payload, 16),
            ranges: (0..entries).map(range).collect(),
        })
    }
}

/// Notes a frame in the list of ranges of a block.
pub(super) fn touch(ranges: &mut Vec<Range>, key: Key, seq: u64) {
    match ranges.iter_mut().rev().find(|r| r.key == key) {
        Some(range) => {
            range.last = seq;
            range.frames += 1;
        }
        None => ranges.push(Range { key, first: seq, last: seq, frames: 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(payload: usize) -> BlockHeader {
        BlockHeader {
            payload: payload as u32,
            frames: 2,
            segment: 3,
            number: 40,
            first_hlc: 5,
            last_hlc: 6,
            before: 7,
            unconfirmed: 3,
            seal: false,
        }
    }

    #[test]
    fn a_block_comes_back_and_no_flipped_bit_passes() {
        let mut room = vec![0xa5; 2 * PAGE];
        let header = header(5000);
        let (bytes, crc) = seal_block(&mut room, &header, 99);
        assert_eq!(bytes, 2 * PAGE);
        let block = decode(&room, 99).expect("a block");
        assert_eq!((block.header, block.crc, block.payload), (header, crc, &[0xa5; 5000][..]));
        assert_eq!((header.confirmed(), header.bytes()), (36, bytes));
        for bit in 0..bytes * 8 {
            room[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&room, 99).is_err(), "bit {bit}");
            room[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(matches!(decode(&room, 98), Err(BlockError::Checksum { .. })), "of another segment");
        assert_eq!(decode(&room[..PAGE], 99), Err(BlockError::Short { have: PAGE, need: bytes }));
        assert_eq!(decode(&[0; PAGE], 99), Err(BlockError::Empty));
    }

    #[test]
    fn a_seal_comes_back_at_its_bound() {
        let range = |i: u32| Range { key: (i, 7), first: 1, last: u64::from(i) + 1, frames: u64::from(i) + 1 };
        for n in [0, 1, SEAL_ENTRIES_MAX as u32] {
            let seal = Seal { blocks: 3, frames: 4, frame_bytes: 5, ranges: (0..n).map(range).collect() };
            let mut room = vec![0xa5; SEAL_BYTES];
            let payload = seal.encode(&mut room);
            assert_eq!(padded(payload), SEAL_BYTES);
            assert_eq!(Seal::decode(&room[BLOCK_HEADER..BLOCK_HEADER + payload]), Some(seal));
        }
        assert_eq!(Seal::decode(&[0xff; SEAL_BYTES - BLOCK_HEADER]), None);
        assert_eq!(Seal::decode(&[0; 10]), None);
    }
}
