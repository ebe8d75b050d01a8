//! The process stops: why, and what it left undone; and the mark behind everything that it wrote.
//! Owns: nothing. Runs on: flush (writes), readers of journals. Called by: the stop, in order.
//!
//! Payloads of frames of kinds 11 and 12. A journal whose last epoch has no mark ended with a death: its rings are to be
//! read out. One that has it says how far each writer counted, so that not even the last record can be missing unseen.
use super::codec::{Block, Reader, RecordError};
use crate::limits::CORES_MAX;

/// The frame's kind of a [`Stopped`].
pub const STOPPED: u8 = 11;
/// The frame's kind of a [`Clean`].
pub const CLEAN: u8 = 12;
/// The frame's version of both.
pub const VERSION: u8 = 1;
/// Writers of a process: its bidder cores, flush, control.
const WRITERS_MAX: usize = CORES_MAX + 2;
/// Writer and sequence number.
const WRITER: usize = 2 + 8;
/// Longest payload of a [`Clean`].
pub(crate) const CLEAN_BYTES_MAX: usize = 8 + 2 + WRITERS_MAX * WRITER;

/// Why a process stops. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Why {
    /// It was asked to, by a signal or by whoever started it.
    Asked = 1,
    /// A thread panicked and the others ended in order.
    Panic = 2,
    /// A thread ended that must not.
    Failed = 3,
}

impl Why {
    /// All of them.
    pub const ALL: [Why; 3] = [Why::Asked, Why::Panic, Why::Failed];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Why::Asked => "asked",
            Why::Panic => "panic",
            Why::Failed => "failed",
        }
    }
}

/// A stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// When it was over, milliseconds since 1970.
    pub wall_ms: u64,
    /// Why.
    pub why: Why,
    /// Auctions that were given up because `stop_ms` was over.
    pub unfinished: u32,
}

impl Stopped {
    const BYTES: usize = 8 + 1 + 4;

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Block::<{ Stopped::BYTES }>::new().u64(self.wall_ms).u8(self.why as u8).u32(self.unfinished).end(out);
    }

    /// Reads [`Stopped::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &[u8]) -> Result<Stopped, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let (wall_ms, why, unfinished) = (r.u64()?, r.u8()?, r.u32()?);
        let why = Why::ALL.into_iter().find(|w| *w as u8 == why).ok_or(RecordError::Value)?;
        r.end()?;
        Ok(Stopped { wall_ms, why, unfinished })
    }
}

/// Everything is written: the last frame of a process that ended in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Clean {
    /// When, milliseconds since 1970.
    pub wall_ms: u64,
    /// Each writer of this epoch but the one that writes this, and its last sequence number; 0: it wrote nothing.
    pub last: Vec<(u16, u64)>,
}

impl Clean {
    /// Appends it. More writers than a process can have are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let last = &self.last[..self.last.len().min(WRITERS_MAX)];
        Block::<10>::new().u64(self.wall_ms).u16(last.len() as u16).end(out);
        for (writer, seq) in last {
            Block::<WRITER>::new().u16(*writer).u64(*seq).end(out);
        }
    }

    /// Reads [`Clean::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &[u8]) -> Result<Clean, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let (wall_ms, writers) = (r.u64()?, r.count16(WRITERS_MAX)?);
        let last = (0..writers).map(|_| Ok((r.u16()?, r.u64()?))).collect::<Result<_, RecordError>>()?;
        r.end()?;
        Ok(Clean { wall_ms, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_are_the_bytes_of_version_1() {
        let mut out = Vec::new();
        let stop = Stopped { wall_ms: 0x0102, why: Why::Panic, unfinished: 3 };
        stop.encode(&mut out);
        assert_eq!(out, b"\x02\x01\0\0\0\0\0\0\x02\x03\0\0\0");
        assert_eq!(Stopped::decode(1, &out), Ok(stop));
        assert_eq!(Stopped::decode(2, &out), Err(RecordError::Version));
        assert_eq!(Stopped::decode(1, &out[..12]), Err(RecordError::Short));
        out[8] = 4;
        assert_eq!(Stopped::decode(1, &out), Err(RecordError::Value));

        out.clear();
        let clean = Clean { wall_ms: 1, last: vec![(0, 7), (0xffff, 8)] };
        clean.encode(&mut out);
        assert_eq!(out, b"\x01\0\0\0\0\0\0\0\x02\0\0\0\x07\0\0\0\0\0\0\0\xff\xff\x08\0\0\0\0\0\0\0");
        assert_eq!(Clean::decode(1, &out), Ok(clean));
        assert_eq!(Clean::decode(3, &out), Err(RecordError::Version));
        out.push(0);
        assert_eq!(Clean::decode(1, &out), Err(RecordError::Trailing));
    }

    proptest! {
        #[test]
        fn a_mark_comes_back(wall_ms: u64, last in prop::collection::vec(any::<(u16, u64)>(), 0..WRITERS_MAX + 3)) {
            let mut out = Vec::new();
            Clean { wall_ms, last: last.clone() }.encode(&mut out);
            prop_assert!(out.len() <= CLEAN_BYTES_MAX);
            let read = Clean::decode(VERSION, &out).unwrap();
            prop_assert_eq!((read.wall_ms, &read.last[..]), (wall_ms, &last[..last.len().min(WRITERS_MAX)]));
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (Stopped::decode(1, &bytes), Clean::decode(1, &bytes));
        }
    }
}
