//! What the writer is told and what it says: settings, where to go on, what to do, why not.
//! Owns: nothing. Called by: [`super::writer`], which hands these on under its own name, and who drives it.
use super::{
    PAGE,
    block::{BLOCK_BYTES_MAX, BLOCK_HEADER, SEAL_BYTES},
    positions::Positions,
    segment::{HEADER_BYTES, Previous},
};

/// Failures of one write after which its segment is given up and what was not durable goes to the next one.
pub const FAILURES_MAX: u32 = 3;

/// How the journal is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This machine.
    pub node: u32,
    /// Bytes of a segment; whole pages, and room for everything that can be in flight.
    pub segment_bytes: u64,
    /// Longest block: whole pages, at least [`SEAL_BYTES`], at most [`BLOCK_BYTES_MAX`]. Bounds a frame.
    pub block_bytes: usize,
    /// Writes under way at once, at least 1.
    pub depth: usize,
    /// Bytes of the last segment that are kept for [`Class::Reserved`] once no further one can be made.
    pub reserve_bytes: u64,
    /// Makes the salt of each segment: not to be guessed by who sends requests.
    pub entropy: u64,
}

impl Settings {
    /// Buffers that a writer asks for: the writes under way, one that is filled while all are, one that waits for them; a
    /// header and a seal; and as many as there are writes for blocks that are on disk and not in the digest yet.
    pub fn buffers(&self) -> usize {
        2 * self.depth + 4
    }

    /// The least a segment can have: what may have to move to it when the one before is given up, header, seal. That is every
    /// buffer there is: while the digest keeps up, all of them may hold blocks that are not durable.
    pub fn segment_bytes_min(&self) -> u64 {
        (HEADER_BYTES + SEAL_BYTES + self.buffers() * self.block_bytes) as u64
    }

    /// The longest frame that a block can carry, filled up.
    pub fn frame_bytes_max(&self) -> usize {
        self.block_bytes - BLOCK_HEADER
    }

    pub(super) fn check(&self) {
        assert!(self.block_bytes.is_multiple_of(PAGE), "blocks are whole pages");
        assert!((SEAL_BYTES..=BLOCK_BYTES_MAX).contains(&self.block_bytes), "a block has its bounds");
        assert!(self.depth > 0, "at least one write at once");
        assert!(self.segment_bytes.is_multiple_of(PAGE as u64), "segments are whole pages");
        assert!(self.segment_bytes >= self.segment_bytes_min(), "a segment holds what may be in flight");
    }
}

/// Where a journal goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The segment to begin.
    pub segment: u64,
    /// Number of its first block.
    pub block: u64,
    /// What comes before it.
    pub previous: Previous,
    /// Whose frames are in the journal already.
    pub positions: Positions,
}

impl Default for Resume {
    /// An empty journal.
    fn default() -> Resume {
        Resume { segment: 1, block: 1, previous: Previous::default(), positions: Positions::default() }
    }
}

/// Who may use the last room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// What admission can stop.
    Ordinary,
    /// What must be written to come to an end: settlements, the marks of a stop.
    Reserved,
}

/// A frame was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It will be written.
    New,
    /// The journal has it.
    Known,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Every block is on its way to the disk. It is taken once one is back.
    #[error("the disk is behind: every block is on its way to it")]
    Busy,
    /// The next segment is being made.
    #[error("the next segment is still being made")]
    Preparing,
    /// The next segment cannot be made.
    #[error("the disk has no room for another segment")]
    NoSpace,
    /// What room there is, is kept for [`Class::Reserved`].
    #[error("the room that is left is kept for settlements")]
    Reserve,
    /// It fits into no block.
    #[error("a frame of {bytes} bytes; blocks take {max}")]
    TooLong {
        /// Of the frame.
        bytes: usize,
        /// Of the longest.
        max: usize,
    },
    /// Frames before it are missing. [`super::writer::Writer::skip_to`] if they are lost for good.
    #[error("sequence number {found} follows where {expected} is missing")]
    Gap {
        /// The next one.
        expected: u64,
        /// This one.
        found: u64,
    },
    /// [`super::writer::Writer::end`] was called.
    #[error("the journal has ended")]
    Ended,
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
pub enum Io<B> {
    /// Make a segment's file: `bytes` long, zeros, its name durable. If it is there, it is made anew. Then
    /// [`super::writer::Writer::prepared`] or [`super::writer::Writer::unprepared`].
    Prepare {
        /// Its number.
        segment: u64,
        /// Its length.
        bytes: u64,
    },
    /// Write the first `bytes` of `buf`, durably. Then [`super::writer::Writer::done`] or [`super::writer::Writer::failed`].
    Write(Write<B>),
    /// Put a piece of a segment, which is on disk, into its digest, behind those that were handed out before. Then
    /// [`super::writer::Writer::digested`].
    Digest(Piece<B>),
    /// No piece of the segment comes any more: its digest is for [`super::writer::Writer::digest`].
    EndDigest {
        /// Its number.
        segment: u64,
    },
    /// Nothing will be written to the segment any more: close it; what is behind `end` may be cut off.
    Ended {
        /// Its number.
        segment: u64,
        /// Bytes that count.
        end: u64,
    },
}

/// A write. Several may be under way, in any order.
#[derive(PartialEq, Eq, Debug)]
pub struct Write<B> {
    /// Names it when it is over.
    pub id: u64,
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub at: u64,
    /// How much of `buf`.
    pub bytes: usize,
    /// The bytes; given back when it is over.
    pub buf: B,
}

/// A piece of a segment for its digest.
#[derive(PartialEq, Eq, Debug)]
pub struct Piece<B> {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub at: u64,
    /// How much of `buf`.
    pub bytes: usize,
    /// What it is; given back with the buffer.
    pub role: Role,
    /// The bytes.
    pub buf: B,
}

/// What a piece of a segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The first page.
    Header,
    /// A block of frames.
    Frames,
    /// The last block.
    Seal,
}

/// What became durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Durable {
    /// Segment of the last durable block; 0: none.
    pub segment: u64,
    /// Where that block ends.
    pub end: u64,
    /// Its number.
    pub block: u64,
}

/// What a writer has done since it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames taken.
    pub frames: u64,
    /// Bytes of them.
    pub frame_bytes: u64,
    /// Frames that the journal had.
    pub known: u64,
    /// Writes that became durable, headers and seals included.
    pub writes: u64,
    /// Bytes of them, with what they are filled up with.
    pub write_bytes: u64,
    /// Writes that failed.
    pub failures: u64,
    /// Segments given up because writes kept failing.
    pub abandoned: u64,
    /// Sequence numbers that were skipped by [`super::writer::Writer::skip_to`].
    pub skipped: u64,
}
