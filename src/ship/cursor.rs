//! How far the journal has been shipped: the bytes of `state_dir/ship`.
//! Owns: nothing. Runs on: the shipper's thread. Never: believes bytes whose checksum fails.
//!
//! `OUTSHIP1`, u32 node, u64 segment, u64 offset of the first block that is not known to have been acknowledged, u32 CRC-32 of all
//! before it; little-endian.

const MAGIC: &[u8; 8] = b"OUTSHIP1";
const BYTES: usize = 8 + 4 + 8 + 8 + 4;

/// A place between two blocks of the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// The segment; 0: before the first.
    pub segment: u64,
    /// Where in it a block begins.
    pub offset: u64,
}

/// Why bytes are no cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CursorError {
    /// Not what was written.
    #[error("it is no cursor, or damaged")]
    Damaged,
    /// Of another machine's journal.
    #[error("it is of node {0:08x}")]
    Node(u32),
}

/// The bytes of a cursor.
pub fn encode(node: u32, at: Position) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&node.to_le_bytes());
    out.extend_from_slice(&at.segment.to_le_bytes());
    out.extend_from_slice(&at.offset.to_le_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Reads [`encode`] back.
///
/// # Errors
/// [`CursorError`]
pub fn decode(bytes: &[u8], node: u32) -> Result<Position, CursorError> {
    let (said, crc) = bytes.split_last_chunk::<4>().ok_or(CursorError::Damaged)?;
    let rest = said.strip_prefix(MAGIC).filter(|_| crc32fast::hash(said).to_le_bytes() == *crc);
    let (of, rest) = rest.and_then(|rest| rest.split_first_chunk::<4>()).ok_or(CursorError::Damaged)?;
    let (segment, rest) = rest.split_first_chunk::<8>().ok_or(CursorError::Damaged)?;
    let offset: &[u8; 8] = rest.try_into().map_err(|_| CursorError::Damaged)?;
    let of = u32::from_le_bytes(*of);
    if of != node {
        return Err(CursorError::Node(of));
    }
    Ok(Position { segment: u64::from_le_bytes(*segment), offset: u64::from_le_bytes(*offset) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written_and_not_otherwise() {
        let at = Position { segment: 7, offset: 81_920 };
        let bytes = encode(9, at);
        assert_eq!(decode(&bytes, 9), Ok(at));
        assert_eq!(decode(&bytes, 8), Err(CursorError::Node(9)));
        for i in 0..bytes.len() {
            let mut other = bytes.clone();
            other[i] ^= 1;
            assert_eq!(decode(&other, 9), Err(CursorError::Damaged), "{i}");
            assert_eq!(decode(&bytes[..i], 9), Err(CursorError::Damaged));
        }
    }
}
