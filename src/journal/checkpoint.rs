//! The checkpoint: how far each writer has come, and where the journal ended, so that a start reads only what is behind it.
//! Owns: nothing. Called by: the flush core (writes), boot and `outcry audit` (read). Never: says more than is durable. Lost
//! or garbled it costs a start the reading of the seals, and nothing else.
use super::{
    bytes::{put, u16_at, u32_at, u64_at},
    positions::{POSITIONS_MAX, Positions},
    writer::Durable,
};

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"OUTCRYC1";
const VERSION: u32 = 1;
const HEAD: usize = 64;
const ENTRY: usize = 16;
const CRC: usize = 60;
/// Longest checkpoint.
pub const CHECKPOINT_BYTES_MAX: usize = HEAD + POSITIONS_MAX * ENTRY;

/// What is written down.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// The machine.
    pub node: u32,
    /// Hybrid logical time of writing.
    pub hlc: u64,
    /// The first segment that was not let go: if one from here on is missing, it was taken away.
    pub first_segment: u64,
    /// What was durable.
    pub durable: Durable,
    /// Of each epoch and writer the highest durable sequence number; of the latest [`POSITIONS_MAX`] pairs.
    pub positions: Positions,
}

/// Why bytes are no checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Something else.
    #[error("no checkpoint begins like this")]
    Magic,
    /// A later release's.
    #[error("written in version {0} of the format; this release reads version 1")]
    Version(u32),
    /// Cut off, or too long.
    #[error("its length is not what it says")]
    Length,
    /// Not the bytes that were written.
    #[error("its checksum fails")]
    Checksum,
}

/// The name of the file.
pub fn file_name(node: u32) -> String {
    format!("journal-{node:08x}.checkpoint")
}

impl Checkpoint {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut positions = self.positions.clone();
        positions.trim(POSITIONS_MAX);
        let mut out = vec![0; HEAD + positions.len() * ENTRY];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 12, &self.node.to_le_bytes());
        put(&mut out, 16, &self.hlc.to_le_bytes());
        put(&mut out, 24, &self.first_segment.to_le_bytes());
        put(&mut out, 32, &self.durable.segment.to_le_bytes());
        put(&mut out, 40, &self.durable.block.to_le_bytes());
        put(&mut out, 48, &self.durable.end.to_le_bytes());
        put(&mut out, 56, &(positions.len() as u32).to_le_bytes());
        for (i, ((epoch, writer), seq)) in positions.iter().enumerate() {
            let at = HEAD + i * ENTRY;
            put(&mut out, at, &epoch.to_le_bytes());
            put(&mut out, at + 4, &writer.to_le_bytes());
            put(&mut out, at + 8, &seq.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        put(&mut out, CRC, &crc.to_le_bytes());
        out
    }

    /// Reads all of a file.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        if bytes.len() < HEAD || bytes[..8] != MAGIC {
            return Err(CheckpointError::Magic);
        }
        let entries = u32_at(bytes, 56) as usize;
        let long = entries > POSITIONS_MAX || bytes.len() != HEAD + entries * ENTRY;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..CRC]);
        crc.update(&[0; 4]);
        crc.update(&bytes[HEAD..]);
        if crc.finalize() != u32_at(bytes, CRC) {
            return Err(if long { CheckpointError::Length } else { CheckpointError::Checksum });
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(CheckpointError::Version(version));
        }
        if long {
            return Err(CheckpointError::Length);
        }
        let entry = |i: usize| {
            let at = HEAD + i * ENTRY;
            ((u32_at(bytes, at), u16_at(bytes, at + 4)), u64_at(bytes, at + 8))
        };
        Ok(Checkpoint {
            node: u32_at(bytes, 12),
            hlc: u64_at(bytes, 16),
            first_segment: u64_at(bytes, 24),
            durable: Durable { segment: u64_at(bytes, 32), block: u64_at(bytes, 40), end: u64_at(bytes, 48) },
            positions: (0..entries).map(entry).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_no_flipped_bit_passes() {
        let mut checkpoint = Checkpoint {
            node: 1,
            hlc: 2,
            first_segment: 3,
            durable: Durable { segment: 4, end: 5, block: 6 },
            positions: (0..100u32).map(|i| ((i, 7), u64::from(i) + 1)).collect(),
        };
        let mut bytes = checkpoint.encode();
        assert_eq!(Checkpoint::decode(&bytes).as_ref(), Ok(&checkpoint));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        // Of too many pairs the latest stay.
        checkpoint.positions = (0..POSITIONS_MAX as u32 + 9).map(|i| ((i, 7), 1)).collect();
        let read = Checkpoint::decode(&checkpoint.encode()).expect("a checkpoint");
        assert_eq!(read.positions.iter().next(), Some(((9, 7), 1)));
        assert_eq!(checkpoint.encode().len(), CHECKPOINT_BYTES_MAX);
    }
}
