//! What is on its way to the disk, in the order in which it becomes durable.
//! Owns: the buffers of writes that are not durable yet. Called by: [`super::writer`]. Never: reorders: what is done early
//! waits for what is before it.
use super::{
    block::{BlockHeader, Range},
    segment::SegmentHeader,
};
use std::collections::VecDeque;

/// What a write carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A segment's first page; the digest in it is put there when it goes out.
    Header(SegmentHeader),
    /// A block of frames: its header, whose they are.
    Frames(BlockHeader, Vec<Range>),
    /// The block that ends a segment: its number.
    Seal(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// To be written, or written again.
    Ready,
    /// The disk has it.
    Sent,
    /// Written; what is before it may not be.
    Done,
}

/// One write.
#[derive(Debug)]
pub(super) struct Entry<B> {
    pub(super) id: u64,
    pub(super) segment: u64,
    pub(super) at: u64,
    pub(super) bytes: usize,
    pub(super) content: Content,
    pub(super) state: State,
    pub(super) failures: u32,
    /// With the disk while it is sent.
    pub(super) buf: Option<B>,
    /// The checksum of the block before: the last of the segment if this could not be written.
    pub(super) crc_before: u32,
}

/// The writes.
#[derive(Debug)]
pub(super) struct Flight<B> {
    pub(super) entries: VecDeque<Entry<B>>,
    /// How many the disk has.
    pub(super) sent: usize,
}

impl<B> Default for Flight<B> {
    fn default() -> Flight<B> {
        Flight { entries: VecDeque::new(), sent: 0 }
    }
}

impl<B> Flight<B> {
    /// The next to be handed to the disk. A segment's header waits for all of the segment before it and for its digest,
    /// and its blocks wait for it: so a segment whose header is torn has no blocks, and one that can be abandoned has none
    /// behind it. `open`: the segment whose header is durable; `digested`: the last one whose digest is known.
    pub(super) fn next(&mut self, open: u64, digested: u64) -> Option<&mut Entry<B>> {
        let front = self.entries.front()?.id;
        let entry = self.entries.iter_mut().find(|e| e.state == State::Ready)?;
        let may = match entry.content {
            Content::Header(_) => entry.id == front && entry.segment == digested + 1,
            Content::Frames(..) | Content::Seal(_) => entry.segment == open,
        };
        may.then_some(entry)
    }

    /// The disk gave a write back.
    pub(super) fn back(&mut self, id: u64, buf: B, ok: bool) -> Option<&mut Entry<B>> {
        let entry = self.entries.iter_mut().find(|e| e.id == id && e.state == State::Sent)?;
        self.sent -= 1;
        entry.buf = Some(buf);
        entry.state = if ok { State::Done } else { State::Ready };
        entry.failures += u32::from(!ok);
        Some(entry)
    }

    /// Is there one that the disk could be given?
    pub(super) fn any_ready(&self) -> bool {
        self.entries.iter().any(|e| e.state == State::Ready)
    }

    /// The first, if it is written.
    pub(super) fn pop_done(&mut self) -> Option<Entry<B>> {
        let done = self.entries.front().is_some_and(|e| e.state == State::Done);
        if done { self.entries.pop_front() } else { None }
    }
}
