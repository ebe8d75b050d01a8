//! Flush's end of a black box: looks at frames without taking them, and lets go of them when they are on disk.
//! Owns: how far it has read. Runs on: flush. Called by: the journal's writer.
//! Never: waits, gives room back for a frame whose [`Mark`] it was not shown.
//! Full: not releasing fills the ring, and then its core admits nothing.
use super::map::ReadEnd;
use outcry::record::{
    blackbox::{Damage, Identity, Walk},
    frame::Frame,
};

/// A place behind a frame: everything before it can be released.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark {
    position: u64,
    seq: u64,
}

impl Mark {
    /// Sequence number of the frame before it.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// Whole frames that stand one behind the other in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Batch<'a> {
    /// Their bytes, filled up: to be copied into a block as they are.
    pub bytes: &'a [u8],
    /// How many.
    pub frames: u32,
    /// Hybrid logical time of the first.
    pub first_hlc: u64,
    /// Hybrid logical time of the last.
    pub last_hlc: u64,
    /// To be released once these bytes, and all before them, are durable.
    pub mark: Mark,
}

/// What was handed on at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handed {
    /// How many frames.
    pub frames: u32,
    /// Hybrid logical time of the first.
    pub first_hlc: u64,
    /// To be released once these frames, and all before them, are durable.
    pub mark: Mark,
    /// The last frame that was looked at was not taken: it comes again.
    pub refused: bool,
}

/// What is published and not released.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Bytes.
    pub bytes: u64,
    /// Frames; one more while one is being published.
    pub frames: u64,
}

/// The end that reads.
#[derive(Debug)]
pub struct Consumer {
    end: ReadEnd,
    identity: Identity,
    /// Live bytes that were read.
    read: usize,
    /// Sequence number of the last frame that was read.
    seq: u64,
    /// Of the last one that was released.
    released: u64,
}

impl Consumer {
    pub(super) fn new(end: ReadEnd, identity: Identity) -> Consumer {
        Consumer { end, identity, read: 0, seq: 0, released: 0 }
    }

    /// Whose frames these are.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The next frames that were not read yet: as many as fit into `max` bytes, but at least one, however long. Each is
    /// checked, so what is written to disk is what was published. They stay in the ring until [`Consumer::release`].
    ///
    /// # Errors
    /// Something in the ring is not as it was published: a fault of ours, or of the memory. The frames before it have been
    /// returned, the next call goes on behind it.
    pub fn read(&mut self, max: usize) -> Result<Option<Batch<'_>>, Damage> {
        self.end.refresh();
        let unread = &self.end.live()[self.read..];
        let mut walk = Walk::new(unread, self.identity, Some(self.seq));
        let (mut frames, mut bytes, mut times) = (0, 0, None);
        loop {
            let next = match walk.next() {
                Some(Err(damage)) if frames == 0 => {
                    self.read += walk.offset();
                    self.seq = walk.seq().unwrap_or(self.seq);
                    return Err(damage);
                }
                Some(Ok(frame)) if frames == 0 || walk.offset() <= max => frame,
                _ => break,
            };
            (frames, bytes, self.seq) = (frames + 1, walk.offset(), next.header.seq);
            times = Some((times.map_or(next.header.hlc, |(first, _)| first), next.header.hlc));
        }
        self.read += bytes;
        let mark = self.mark();
        Ok(times.map(|(first_hlc, last_hlc)| Batch { bytes: &unread[..bytes], frames, first_hlc, last_hlc, mark }))
    }

    /// Hands on the next frames that were not read yet, each checked once, until `take` says no to one (it comes again),
    /// `max` bytes were taken, or there are no more. They stay in the ring until [`Consumer::release`].
    ///
    /// # Errors
    /// As [`Consumer::read`].
    pub fn hand(&mut self, max: usize, mut take: impl FnMut(&Frame<'_>) -> bool) -> Result<Option<Handed>, Damage> {
        self.end.refresh();
        let unread = &self.end.live()[self.read..];
        let mut walk = Walk::new(unread, self.identity, Some(self.seq));
        let (mut frames, mut bytes, mut first_hlc, mut refused) = (0, 0, 0, false);
        while bytes < max {
            let frame = match walk.next() {
                Some(Ok(frame)) => frame,
                Some(Err(damage)) if frames == 0 => {
                    self.read += walk.offset();
                    self.seq = walk.seq().unwrap_or(self.seq);
                    return Err(damage);
                }
                Some(Err(_)) | None => break,
            };
            if !take(&frame) {
                refused = true;
                break;
            }
            if frames == 0 {
                first_hlc = frame.header.hlc;
            }
            (frames, bytes, self.seq) = (frames + 1, walk.offset(), frame.header.seq);
        }
        self.read += bytes;
        let mark = self.mark();
        Ok((frames > 0 || refused).then_some(Handed { frames, first_hlc, mark, refused }))
    }

    /// The place up to which was read.
    pub fn mark(&self) -> Mark {
        Mark { position: self.end.tail() + self.read as u64, seq: self.seq }
    }

    /// Gives the room of everything before `mark` back to the core: it is on disk.
    ///
    /// # Panics
    /// If it was not read, or was released before: marks are released in their order.
    pub fn release(&mut self, mark: Mark) {
        let len = mark.position.checked_sub(self.end.tail()).filter(|&len| len <= self.read as u64);
        let len = len.expect("released what was not read, or twice") as usize;
        self.end.release(len, mark.seq);
        self.read -= len;
        self.released = mark.seq;
    }

    /// Reads everything again that is not released: what was read could not be written.
    pub fn rewind(&mut self) {
        (self.read, self.seq) = (0, self.released);
    }

    /// How far flush is behind: everything published and not yet released, read or not.
    pub fn lag(&mut self) -> Lag {
        self.end.refresh();
        Lag { bytes: self.end.live().len() as u64, frames: self.end.published().saturating_sub(self.released) }
    }
}
