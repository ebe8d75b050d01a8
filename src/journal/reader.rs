//! The reader: a segment's bytes in, its blocks out, and how it ends.
//! Owns: a window of the segment. Runs on: boot (recovery), `outcry audit`. Called by: `outcry-cores`, [`super::verify`].
//! Never: panics on what it reads, returns bytes that were not written, passes over damage without naming it, takes more
//! memory than its window and the longest block.
//!
//! Writes are under way together, so a power cut can leave a hole with a whole block behind it. What tells that from
//! damage: each block says which blocks before it the disk had confirmed by then. A hole that no later block, and nothing
//! else, knows to have been confirmed is the torn tail: the segment ends there. Any other is damage.
use super::{
    PAGE,
    block::{self, Block, BlockError, Seal},
    bytes::zero,
    segment::{HEADER_BYTES, HeaderError, SegmentHeader},
};
use std::convert::Infallible;

/// Read at once.
const WINDOW: usize = 1 << 20;

/// A segment, an index or any other file, wherever its bytes are.
pub trait Source {
    /// Why they cannot be read.
    type Error;
    /// How many there are.
    fn len(&self) -> u64;
    /// There is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads those from `at` on; all of them are within [`Source::len`].
    ///
    /// # Errors
    /// What the medium says.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Self::Error>;
}

impl Source for &[u8] {
    type Error = Infallible;

    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), Infallible> {
        let at = at as usize;
        out.copy_from_slice(&self[at..at + out.len()]);
        Ok(())
    }
}

impl<S: Source> Source for &mut S {
    type Error = S::Error;

    fn len(&self) -> u64 {
        S::len(self)
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<(), S::Error> {
        S::read(self, at, out)
    }
}

/// What is known of a segment from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// Where it ends: the next segment's header says so. All up to there was durable.
    pub end: Option<u64>,
    /// The last block that is known to have been durable: by the checkpoint.
    pub confirmed: u64,
}

/// Why a segment cannot be read at all.
#[derive(Debug)]
pub enum OpenError<E> {
    /// Its header.
    Header(HeaderError),
    /// The medium.
    Source(E),
}

/// What is wrong with a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Wrong {
    /// No block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// A block of another place.
    #[error("block {found} of segment {segment} stands where block {expected} belongs")]
    Place {
        /// The number that belongs here.
        expected: u64,
        /// The number that stands here.
        found: u64,
        /// The segment it says it is of.
        segment: u64,
    },
    /// A block that does not follow the one before it.
    #[error("the block says {written:08x} of the one before it, whose checksum is {found:08x}")]
    Chain {
        /// What it says.
        written: u32,
        /// What is there.
        found: u32,
    },
    /// A seal that is none.
    #[error("the seal cannot be read")]
    Seal,
}

/// Blocks that were durable and cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// Where it begins.
    pub at: u64,
    /// Where the next good block begins, or the segment ends.
    pub end: u64,
    /// The first block that is lost.
    pub block: u64,
    /// How many are lost, as far as is known.
    pub blocks: u64,
    /// What stands there.
    pub why: Wrong,
}

/// What the reader comes upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A block, and where it begins.
    Block(u64, Block<'a>),
    /// None.
    Damage(Damage),
}

/// What was begun and never confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Torn {
    /// Bytes behind the end, up to the last that is not zero.
    pub bytes: u64,
    /// Whole blocks among them, which stand behind one that is missing.
    pub blocks: u64,
}

/// How a segment ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ending {
    /// Bytes that count.
    pub end: u64,
    /// The number of the next block.
    pub next_block: u64,
    /// The checksum of the last one; `None`: it is damaged.
    pub crc: Option<u32>,
    /// Its seal: it was full, or ended in order.
    pub seal: Option<Seal>,
    /// What stands behind the end.
    pub torn: Option<Torn>,
}

/// Reads a segment from its first block on.
#[derive(Debug)]
pub struct SegmentReader<S> {
    source: S,
    header: SegmentHeader,
    known: Known,
    window: Vec<u8>,
    window_at: u64,
    at: u64,
    expected: u64,
    /// The checksum of the block before; `None`: it is damaged.
    crc: Option<u32>,
    seal: Option<Seal>,
    torn: Option<Torn>,
    over: bool,
}

enum Met {
    /// A good block, so long.
    Good(usize),
    Wrong(Wrong),
}

/// What stands behind a hole.
#[derive(Default)]
struct Behind {
    /// The first good block: where, and its number.
    first: Option<(u64, u64)>,
    blocks: u64,
    /// The last block that any of them knows to be confirmed.
    confirmed: u64,
    /// The end of the last page that is not zero.
    used: u64,
}

impl<S: Source> SegmentReader<S> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut source: S, known: Known) -> Result<SegmentReader<S>, OpenError<S::Error>> {
        let mut page = vec![0; source.len().min(HEADER_BYTES as u64) as usize];
        source.read(0, &mut page).map_err(OpenError::Source)?;
        let header = SegmentHeader::decode(&page).map_err(OpenError::Header)?;
        Ok(SegmentReader {
            source,
            header,
            known,
            window: Vec::new(),
            window_at: 0,
            at: HEADER_BYTES as u64,
            expected: header.first_block,
            crc: Some(header.previous.crc),
            seal: None,
            torn: None,
            over: false,
        })
    }

    /// The header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// The next block, or the next damage. `None`: the segment is over, see [`SegmentReader::ending`].
    ///
    /// # Errors
    /// What the medium says.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, S::Error> {
        if self.over || self.at >= self.limit() {
            self.over = true;
            return Ok(None);
        }
        let at = self.at;
        match self.meet(at)? {
            Met::Good(bytes) => {
                let start = (at - self.window_at) as usize;
                let whole = block::decode(&self.window[start..start + bytes], self.header.salt);
                // It was read a moment ago: it is good.
                let Ok(block) = whole else { return Ok(None) };
                self.at += bytes as u64;
                self.expected += 1;
                self.crc = Some(block.crc);
                if block.header.seal {
                    self.over = true;
                    self.seal = Seal::decode(block.payload);
                }
                Ok(Some(Item::Block(at, block)))
            }
            Met::Wrong(why) => Ok(self.hole(why)?.map(Item::Damage)),
        }
    }

    /// How the segment ends, once [`SegmentReader::next_item`] has said that it does.
    pub fn ending(&self) -> Ending {
        Ending { end: self.at, next_block: self.expected, crc: self.crc, seal: self.seal.clone(), torn: self.torn }
    }

    /// Gives the source back.
    pub fn into_source(self) -> S {
        self.source
    }

    fn limit(&self) -> u64 {
        let len = self.source.len();
        self.known.end.map_or(len, |end| end.min(len))
    }

    /// Is the block that belongs to `at` there?
    fn meet(&mut self, at: u64) -> Result<Met, S::Error> {
        let (salt, segment, expected, crc) = (self.header.salt, self.header.segment, self.expected, self.crc);
        let block = match block::decode(self.fetch(at)?, salt) {
            Ok(block) => block,
            Err(why) => return Ok(Met::Wrong(why.into())),
        };
        let header = &block.header;
        if (header.segment, header.number) != (segment, expected) {
            return Ok(Met::Wrong(Wrong::Place { expected, found: header.number, segment: header.segment }));
        }
        if let Some(found) = crc.filter(|crc| *crc != header.before) {
            return Ok(Met::Wrong(Wrong::Chain { written: header.before, found }));
        }
        if header.seal && Seal::decode(block.payload).is_none() {
            return Ok(Met::Wrong(Wrong::Seal));
        }
        Ok(Met::Good(header.bytes()))
    }

    /// The bytes from `at` on, up to the window's end: at least the block that begins there, if it ends within the segment.
    fn fetch(&mut self, at: u64) -> Result<&[u8], S::Error> {
        let left = (self.limit() - at) as usize;
        let need = match self.have(at) {
            [] => PAGE,
            bytes => block::length(bytes).unwrap_or(PAGE),
        };
        if self.have(at).len() < need.min(left) {
            self.fill(at, need.max(WINDOW).min(left))?;
            // Only now its length may be known.
            let need = block::length(&self.window).unwrap_or(PAGE).min(left);
            if self.window.len() < need {
                self.fill(at, need)?;
            }
        }
        Ok(self.have(at))
    }

    /// What the window has from `at` on.
    fn have(&self, at: u64) -> &[u8] {
        let start = at.checked_sub(self.window_at).and_then(|start| self.window.get(start as usize..));
        start.unwrap_or(&[])
    }

    fn fill(&mut self, at: u64, bytes: usize) -> Result<(), S::Error> {
        self.window.resize(bytes, 0);
        self.window_at = at;
        self.source.read(at, &mut self.window)
    }

    /// Something else than the next block stands at the reader's place. Damage, or `None`: the end.
    fn hole(&mut self, why: Wrong) -> Result<Option<Damage>, S::Error> {
        let (at, limit) = (self.at, self.limit());
        let damage = Damage { segment: self.header.segment, at, end: limit, block: self.expected, blocks: 0, why };
        if let Wrong::Chain { .. } = why {
            // The block itself is good; the one before it is not what was written.
            self.crc = None;
            return Ok(Some(Damage { end: at, ..damage }));
        }
        let behind = self.look_behind(at)?;
        let proven = self.known.end.is_some() || self.known.confirmed.max(behind.confirmed) >= self.expected;
        match behind.first {
            Some((next, number)) if proven => {
                let blocks = number - self.expected;
                (self.at, self.expected, self.crc) = (next, number, None);
                Ok(Some(Damage { end: next, blocks, ..damage }))
            }
            _ => {
                self.over = true;
                let bytes = behind.used.saturating_sub(at);
                if !proven {
                    self.torn = (bytes > 0).then_some(Torn { bytes, blocks: behind.blocks });
                    return Ok(None);
                }
                // Their numbers are not given again.
                let next = self.expected.max(self.known.confirmed + 1);
                let blocks = next - self.expected;
                self.at = self.known.end.map_or(at, |_| limit);
                (self.expected, self.crc) = (next, None);
                Ok(Some(Damage { blocks, ..damage }))
            }
        }
    }

    /// Looks for blocks of this segment from `at` on, page by page.
    fn look_behind(&mut self, mut at: u64) -> Result<Behind, S::Error> {
        let (limit, salt, segment, expected) = (self.limit(), self.header.salt, self.header.segment, self.expected);
        let mut behind = Behind::default();
        while at < limit {
            let bytes = self.fetch(at)?;
            let page = &bytes[..bytes.len().min(PAGE)];
            let mut step = PAGE as u64;
            if !zero(page) {
                behind.used = at + page.len() as u64;
                if let Ok(found) = block::decode(bytes, salt)
                    && found.header.segment == segment
                    && found.header.number >= expected
                {
                    step = found.header.bytes() as u64;
                    behind.used = at + step;
                    behind.first.get_or_insert((at, found.header.number));
                    behind.blocks += 1;
                    behind.confirmed = behind.confirmed.max(found.header.confirmed());
                }
            }
            at += step;
        }
        Ok(behind)
    }
}

/// Reads the seal of a segment that ends at `end`, without reading the rest. `None`: it has none there.
///
/// # Errors
/// What the medium says.
pub fn seal_at<S: Source>(source: &mut S, header: &SegmentHeader, end: u64) -> Result<Option<Seal>, S::Error> {
    let Some(at) = end.checked_sub(block::SEAL_BYTES as u64).filter(|_| end <= source.len()) else { return Ok(None) };
    let mut bytes = vec![0; block::SEAL_BYTES];
    source.read(at, &mut bytes)?;
    let block = block::decode(&bytes, header.salt).ok();
    let block = block.filter(|b| b.header.seal && b.header.segment == header.segment);
    Ok(block.and_then(|b| Seal::decode(b.payload)))
}

/// Lowest and highest hybrid logical time of a segment that ends at `end`, from the heads of its blocks alone; the first above
/// the second: it has no frames. `None`: something else than its blocks stands there.
///
/// # Errors
/// What the medium says.
pub fn times<S: Source>(source: &mut S, header: &SegmentHeader, end: u64) -> Result<Option<(u64, u64)>, S::Error> {
    let (mut at, mut number, mut times) = (HEADER_BYTES as u64, header.first_block, (u64::MAX, 0));
    let mut head = [0; block::BLOCK_HEADER];
    while at < end.min(source.len()) {
        source.read(at, &mut head)?;
        let Ok((block, bytes)) = block::peek(&head) else { return Ok(None) };
        if (block.segment, block.number) != (header.segment, number) {
            return Ok(None);
        }
        if !block.seal {
            times = (times.0.min(block.first_hlc), times.1.max(block.last_hlc));
        }
        (at, number) = (at + bytes as u64, number + 1);
    }
    Ok((at == end).then_some(times))
}
