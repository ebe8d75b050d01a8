//! A segment: one file of the journal, its name and its first page.
//! Owns: nothing. Called by: [`super::writer`], [`super::reader`], [`super::verify`]. Never: believes a header whose
//! checksum fails.
use super::{
    PAGE,
    bytes::{array, put, u32_at, u64_at, zero},
};

/// Bytes of a segment's header: one page.
pub const HEADER_BYTES: usize = PAGE;
/// First bytes of a segment.
pub const MAGIC: [u8; 8] = *b"OUTCRYJ1";
/// The version that is written, and the only one so far.
pub const VERSION: u32 = 1;
/// Where the header's checksum stands, over all bytes before it.
const CRC: usize = PAGE - 4;
/// What stands between the last field and the checksum is zero.
const RESERVED: usize = 100;

/// SHA-256 over parts: [`super::digest`].
pub type Digest = [u8; 32];

/// A segment's first page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The machine that wrote it.
    pub node: u32,
    /// Counts the segments of a node, from 1, without gaps.
    pub segment: u64,
    /// Hybrid logical time of the first frame.
    pub hlc: u64,
    /// Bytes of the file while it is written.
    pub bytes: u64,
    /// Number of the first block.
    pub first_block: u64,
    /// Goes into the checksum of each block: what a payload says can then not be taken for a block, nor what an earlier
    /// file left on the disk.
    pub salt: u64,
    /// What came before.
    pub previous: Previous,
}

/// How the segment before ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Previous {
    /// Its bytes that count: header and blocks; what stands behind them was given up. 0: there is none before.
    pub end: u64,
    /// Of those bytes.
    pub digest: Digest,
    /// Checksum of its last block; of the one before if it has none.
    pub crc: u32,
}

/// Why a page is no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Nothing was written yet: a segment made in advance.
    #[error("the header is empty: the segment was made in advance and not begun")]
    Empty,
    /// The file is shorter than its header.
    #[error("the file ends within its header")]
    Short,
    /// Something else.
    #[error("no segment of a journal begins like this")]
    Magic,
    /// A later release's.
    #[error(
        "written in version {0} of the format; this release reads version 1: use the release that wrote it, or a later one"
    )]
    Version(u32),
    /// Not the bytes that were written.
    #[error("checksum {found:08x}, the header says {written:08x}")]
    Checksum {
        /// What the header says.
        written: u32,
        /// What its bytes give.
        found: u32,
    },
    /// The checksum holds and the contents cannot be.
    #[error("the header contradicts itself")]
    Contents,
}

impl SegmentHeader {
    /// Writes the page.
    ///
    /// # Panics
    /// If `page` is shorter than [`HEADER_BYTES`].
    pub fn encode(&self, page: &mut [u8]) {
        let page = &mut page[..HEADER_BYTES];
        page.fill(0);
        put(page, 0, &MAGIC);
        put(page, 8, &VERSION.to_le_bytes());
        put(page, 12, &self.node.to_le_bytes());
        put(page, 16, &self.segment.to_le_bytes());
        put(page, 24, &self.hlc.to_le_bytes());
        put(page, 32, &self.bytes.to_le_bytes());
        put(page, 40, &self.first_block.to_le_bytes());
        put(page, 48, &self.salt.to_le_bytes());
        put(page, 56, &self.previous.end.to_le_bytes());
        put(page, 64, &self.previous.digest);
        put(page, 96, &self.previous.crc.to_le_bytes());
        let crc = crc32fast::hash(&page[..CRC]);
        put(page, CRC, &crc.to_le_bytes());
    }

    /// Reads the page that `bytes` begin with.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let page = bytes.get(..HEADER_BYTES).ok_or(HeaderError::Short)?;
        if zero(page) {
            return Err(HeaderError::Empty);
        }
        if page[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let (written, found) = (u32_at(page, CRC), crc32fast::hash(&page[..CRC]));
        if written != found {
            return Err(HeaderError::Checksum { written, found });
        }
        let version = u32_at(page, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let header = SegmentHeader {
            node: u32_at(page, 12),
            segment: u64_at(page, 16),
            hlc: u64_at(page, 24),
            bytes: u64_at(page, 32),
            first_block: u64_at(page, 40),
            salt: u64_at(page, 48),
            previous: Previous { end: u64_at(page, 56), digest: array(page, 64), crc: u32_at(page, 96) },
        };
        let sound = header.segment > 0 && header.first_block > 0 && header.previous.end.is_multiple_of(PAGE as u64);
        if sound && zero(&page[RESERVED..CRC]) { Ok(header) } else { Err(HeaderError::Contents) }
    }
}

/// What a file in the journal's directory is, by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// A segment.
    Segment,
    /// The index of a segment.
    Index,
    /// A file that is being made: of no worth after a start.
    Unfinished,
}

/// The name of a segment's file, of its index, or of one that is being made.
pub fn file_name(kind: FileKind, node: u32, segment: u64) -> String {
    let end = match kind {
        FileKind::Segment => "log",
        FileKind::Index => "idx",
        FileKind::Unfinished => "new",
    };
    format!("journal-{node:08x}-{segment:010}.{end}")
}

/// What a name says: kind, node, segment. `None`: not one of ours.
pub fn parse_file_name(name: &str) -> Option<(FileKind, u32, u64)> {
    let (stem, end) = name.strip_prefix("journal-")?.split_once('.')?;
    let kind = match end {
        "log" => FileKind::Segment,
        "idx" => FileKind::Index,
        "new" => FileKind::Unfinished,
        _ => return None,
    };
    let (node, segment) = stem.split_once('-')?;
    let (node, segment) = (u32::from_str_radix(node, 16).ok()?, segment.parse().ok()?);
    (file_name(kind, node, segment) == name).then_some((kind, node, segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            node: 0xab,
            segment: 3,
            hlc: 5 << 16,
            bytes: 1 << 20,
            first_block: 17,
            salt: 0x0102_0304_0506_0708,
            previous: Previous { end: 12 * 4096, digest: [7; 32], crc: 9 },
        }
    }

    #[test]
    fn a_header_comes_back_and_no_flipped_bit_passes() {
        let mut page = vec![0xa5; HEADER_BYTES];
        header().encode(&mut page);
        assert_eq!(SegmentHeader::decode(&page), Ok(header()));
        for bit in 0..HEADER_BYTES * 8 {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&page).is_err(), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(SegmentHeader::decode(&page[..4095]), Err(HeaderError::Short));
        assert_eq!(SegmentHeader::decode(&[0; HEADER_BYTES]), Err(HeaderError::Empty));
    }

    #[test]
    fn another_version_is_named() {
        let mut page = vec![0; HEADER_BYTES];
        header().encode(&mut page);
        put(&mut page, 8, &2u32.to_le_bytes());
        let crc = crc32fast::hash(&page[..CRC]);
        put(&mut page, CRC, &crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&page), Err(HeaderError::Version(2)));
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let name = file_name(FileKind::Segment, 0xab, 7);
        assert_eq!(name, "journal-000000ab-0000000007.log");
        assert_eq!(parse_file_name(&name), Some((FileKind::Segment, 0xab, 7)));
        let index = file_name(FileKind::Index, 1, 12_345_678_901);
        assert_eq!(parse_file_name(&index), Some((FileKind::Index, 1, 12_345_678_901)));
        for other in ["journal-ab-7.log", "journal-000000ab-0000000007.txt", "journal-000000AB-0000000007.log", "x", ""]
        {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }
}
