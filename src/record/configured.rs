//! Another configuration is in force: from here on auctions name its hash.
//! Owns: nothing. Runs on: flush (writes), readers of journals. Called by: control, at the start and at each reload that
//! was taken over. Never: holds the configuration itself, which may hold secrets.
//!
//! The payload of frames of kind 9.
use super::codec::{Block, Reader, RecordError};

/// The frame's kind.
pub const KIND: u8 = 9;
/// The frame's version.
pub const VERSION: u8 = 1;
const BYTES: usize = 8 + 8 + 8 + 8 + 1;

/// Who put it in force. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum By {
    /// The start of the process.
    Start = 1,
    /// A reload that an operator asked for (`SIGHUP`).
    Reload = 2,
}

impl By {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            By::Start => "start",
            By::Reload => "reload",
        }
    }
}

/// A change of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Configured {
    /// When it was handed to the cores, milliseconds since 1970. Auctions in flight keep the old one.
    pub wall_ms: u64,
    /// Its number in this start of the process ([`crate::config::Config::id`]).
    pub id: u64,
    /// The digest of the file before; 0 at the start.
    pub old_hash: u64,
    /// The digest of its file ([`crate::config::Config::hash`]).
    pub new_hash: u64,
    /// Who.
    pub by: By,
}

impl Configured {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Block::<BYTES>::new()
            .u64(self.wall_ms)
            .u64(self.id)
            .u64(self.old_hash)
            .u64(self.new_hash)
            .u8(self.by as u8)
            .end(out);
    }

    /// Reads [`Configured::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &[u8]) -> Result<Configured, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let (wall_ms, id, old_hash, new_hash) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let by = match r.u8()? {
            1 => By::Start,
            2 => By::Reload,
            _ => return Err(RecordError::Value),
        };
        r.end()?;
        Ok(Configured { wall_ms, id, old_hash, new_hash, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_are_the_bytes_of_version_1() {
        let change = Configured { wall_ms: 0x0102, id: 3, old_hash: 4, new_hash: 5, by: By::Reload };
        let mut out = Vec::new();
        change.encode(&mut out);
        let want = b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02";
        assert_eq!(out, want);
        assert_eq!(Configured::decode(1, want), Ok(change));
        assert_eq!(Configured::decode(0, want), Err(RecordError::Version));
        assert_eq!(Configured::decode(1, &want[..32]), Err(RecordError::Short));
        out[32] = 3;
        assert_eq!(Configured::decode(1, &out), Err(RecordError::Value));
    }

    proptest! {
        #[test]
        fn a_change_comes_back(wall_ms: u64, id: u64, old_hash: u64, new_hash: u64, reload: bool) {
            let by = if reload { By::Reload } else { By::Start };
            let change = Configured { wall_ms, id, old_hash, new_hash, by };
            let mut out = Vec::new();
            change.encode(&mut out);
            prop_assert_eq!(Configured::decode(VERSION, &out), Ok(change));
        }
    }
}
