//! What is on its way to the disk, in the order in which it becomes durable.
//! Owns: the buffers of writes that are not durable yet. Called by: [`super::writer`]. Never: reorders: what is done early
//! waits for what is before it.
use super::block::{BlockHeader, Range};
use sha2::Sha256;
use std::collections::VecDeque;

/// What a write carries.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A segment's first page, which says where the segment before ends.
    Header(u64),
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
    /// The segment's digest, and the checksum of the block before, as they were without this: where the segment would
    /// end if this could not be written.
    pub(super) digest_before: Sha256,
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
    /// The next to be handed to the disk. A segment's header waits for all of the segment before it, and its blocks wait
    /// for it: so a segment whose header is torn has no blocks, and one that can be abandoned has none behind it.
    pub(super) fn next(&mut self, open: u64) -> Option<&mut Entry<B>> {
        let front = self.entries.front()?.id;
        let entry = self.entries.iter_mut().find(|e| e.state == State::Ready)?;
        let may = match entry.content {
            Content::Header(_) => entry.id == front,
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
