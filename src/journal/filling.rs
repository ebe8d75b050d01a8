//! What is being filled: a block of frames, and the segment that it will be in.
//! Owns: the block's buffer. Called by: [`super::writer`]. Never: looks at what a frame holds.
use super::{
    block::{self, BLOCK_HEADER, BlockHeader, Range, SEAL_ENTRIES_MAX, Seal},
    positions::Key,
    segment::HEADER_BYTES,
};
use crate::record::frame::Frame;

/// The block being filled.
#[derive(Debug)]
pub(super) struct Filling<B> {
    pub(super) buf: B,
    /// Bytes it may have.
    max: usize,
    used: usize,
    frames: u32,
    first_hlc: u64,
    last_hlc: u64,
    ranges: Vec<Range>,
}

impl<B: AsMut<[u8]>> Filling<B> {
    /// In `buf`, with room for `max` bytes, the header's among them.
    pub(super) fn new(buf: B, max: usize) -> Filling<B> {
        let (used, ranges) = (BLOCK_HEADER, Vec::new());
        Filling { buf, max, used, frames: 0, first_hlc: u64::MAX, last_hlc: 0, ranges }
    }

    /// Is there room for a frame of so many bytes?
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.used + bytes <= self.max
    }

    /// Copies a frame that fits.
    pub(super) fn take(&mut self, frame: &Frame<'_>) {
        let (header, end) = (&frame.header, self.used + frame.bytes.len());
        self.buf.as_mut()[self.used..end].copy_from_slice(frame.bytes);
        self.used = end;
        self.frames += 1;
        self.first_hlc = self.first_hlc.min(header.hlc);
        self.last_hlc = self.last_hlc.max(header.hlc);
        block::touch(&mut self.ranges, (header.epoch, header.writer), header.seq);
    }

    /// Bytes so far, with the header's.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Is no frame in it?
    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// What its header will say as far as the block itself knows, and whose frames are in it.
    pub(super) fn header(&self) -> (BlockHeader, &[Range]) {
        let header = BlockHeader {
            payload: (self.used - BLOCK_HEADER) as u32,
            frames: self.frames,
            first_hlc: self.first_hlc,
            last_hlc: self.last_hlc,
            ..BlockHeader::default()
        };
        (header, &self.ranges)
    }

    /// The buffer, the header, whose frames are in it.
    pub(super) fn close(self) -> (B, BlockHeader, Vec<Range>) {
        let (header, _) = self.header();
        (self.buf, header, self.ranges)
    }
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) segment: u64,
    /// Where the next block will begin.
    pub(super) at: u64,
    pub(super) salt: u64,
    first_block: u64,
    frames: u64,
    frame_bytes: u64,
    ranges: Vec<Range>,
}

impl Current {
    /// With nothing but its header.
    pub(super) fn new(segment: u64, salt: u64, first_block: u64) -> Current {
        let at = HEADER_BYTES as u64;
        Current { segment, at, salt, first_block, frames: 0, frame_bytes: 0, ranges: Vec::new() }
    }

    /// Would its seal have room for frames of this pair?
    pub(super) fn seals(&self, key: Key) -> bool {
        self.ranges.len() < SEAL_ENTRIES_MAX || self.ranges.iter().any(|r| r.key == key)
    }

    /// Counts a frame.
    pub(super) fn take(&mut self, frame: &Frame<'_>) {
        self.frames += 1;
        self.frame_bytes += frame.bytes.len() as u64;
        block::touch(&mut self.ranges, (frame.header.epoch, frame.header.writer), frame.header.seq);
    }

    /// Counts the frames of a block that comes from another segment.
    pub(super) fn take_over(&mut self, header: &BlockHeader, ranges: &[Range]) {
        self.frames += u64::from(header.frames);
        self.frame_bytes += u64::from(header.payload);
        for range in ranges {
            match self.ranges.iter_mut().find(|r| r.key == range.key) {
                Some(known) => {
                    known.last = range.last;
                    known.frames += range.frames;
                }
                None => self.ranges.push(*range),
            }
        }
    }

    /// What its last block will say, which has this number.
    pub(super) fn seal(&self, number: u64) -> Seal {
        let mut ranges = self.ranges.clone();
        ranges.sort_unstable_by_key(|r| r.key);
        Seal { blocks: number - self.first_block, frames: self.frames, frame_bytes: self.frame_bytes, ranges }
    }
}
