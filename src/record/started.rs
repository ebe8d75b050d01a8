//! The process started: which program, on which machine, as which epoch.
//! Owns: nothing. Runs on: flush (writes), readers of journals. Called by: boot, before the first auction.
//!
//! The payload of frames of kind 10. A start whose boot id is the one before and that follows no clean mark was a crash
//! of the process; with another boot id the machine went down.
use super::codec::{Block, Reader, RecordError, put_text};

/// The frame's kind.
pub const KIND: u8 = 10;
/// The frame's version.
pub const VERSION: u8 = 1;
const BLOCK: usize = 8 + 4 + 4 + 16 + 2 + 8;
/// Longest payload: numbers, program and region.
pub(crate) const BYTES_MAX: usize = BLOCK + 2 * (1 + super::codec::TEXT_MAX);

/// A start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started<'a> {
    /// When, milliseconds since 1970.
    pub wall_ms: u64,
    /// The machine, as in event ids.
    pub node: u32,
    /// The start, as in event ids.
    pub epoch: u32,
    /// The kernel's boot id (`/proc/sys/kernel/random/boot_id`), without its dashes.
    pub boot_id: [u8; 16],
    /// Bidder cores.
    pub cores: u16,
    /// The digest of the configuration's file.
    pub config_hash: u64,
    /// The program's version.
    pub program: &'a str,
    /// The region it serves.
    pub region: &'a str,
}

impl<'a> Started<'a> {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Block::<BLOCK>::new()
            .u64(self.wall_ms)
            .u32(self.node)
            .u32(self.epoch)
            .bytes(self.boot_id)
            .u16(self.cores)
            .u64(self.config_hash)
            .end(out);
        put_text(self.program, out);
        put_text(self.region, out);
    }

    /// Reads [`Started::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &'a [u8]) -> Result<Started<'a>, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let read = Started {
            wall_ms: r.u64()?,
            node: r.u32()?,
            epoch: r.u32()?,
            boot_id: r.array()?,
            cores: r.u16()?,
            config_hash: r.u64()?,
            program: r.text()?,
            region: r.text()?,
        };
        r.end()?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_are_the_bytes_of_version_1() {
        let start = Started {
            wall_ms: 1,
            node: 2,
            epoch: 3,
            boot_id: *b"0123456789abcdef",
            cores: 4,
            config_hash: 5,
            program: "0.1.0",
            region: "eu-1",
        };
        let mut out = Vec::new();
        start.encode(&mut out);
        let want = b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x03\0\0\x000123456789abcdef\x04\0\x05\0\0\0\0\0\0\0\x050.1.0\x04eu-1";
        assert_eq!(out, want);
        assert_eq!(Started::decode(1, want), Ok(start));
        assert_eq!(Started::decode(9, want), Err(RecordError::Version));
        assert_eq!(Started::decode(1, &want[..50]), Err(RecordError::Short));
    }

    proptest! {
        #[test]
        fn a_start_comes_back(wall_ms: u64, node: u32, boot_id: [u8; 16], program in ".{0,60}", region in "[a-z]{0,32}") {
            let (program, region) = (program.as_str(), region.as_str());
            let start = Started { wall_ms, node, epoch: !node, boot_id, cores: 7, config_hash: !wall_ms, program, region };
            let mut out = Vec::new();
            start.encode(&mut out);
            prop_assert!(out.len() <= BYTES_MAX);
            prop_assert_eq!(Started::decode(VERSION, &out), Ok(start));
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Started::decode(1, &bytes);
        }
    }
}
