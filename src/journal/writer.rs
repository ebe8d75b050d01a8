//! The writer: frames in, writes out, and up to where everything is durable.
//! Owns: the block being filled, the writes in flight, the positions. Runs on: the flush core. Called by: the I/O in
//! `outcry-cores`, which does what [`Writer::next_io`] says and reports how it went.
//! Never: reads a clock, calls a frame durable before its block and all blocks before it are, loses a frame it took, or
//! takes one twice.
//! Full: [`Refusal`] says what is missing; the frame stays where it is.
//!
//! Group commit comes by itself: while fewer than `depth` writes are under way, what was taken goes out at once; else the
//! block grows until one comes back.
pub use super::terms::{
    Class, Counts, Durable, FAILURES_MAX, Io, Piece, Refusal, Resume, Role, Settings, Taken, Write,
};

mod giving_up;
mod segments;

use super::{
    PAGE,
    block::{self, BLOCK_HEADER, SEAL_BYTES},
    filling::{Current, Filling},
    flight::{Content, Entry, Flight, State},
    positions::{Follow, Key, Positions},
    segment::{Digest, Previous},
};
use crate::record::frame::Frame;
use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Wanted,
    Asked,
    Ready,
    Refused,
}

/// See the module. `B` is memory as the disk wants it, [`Settings::block_bytes`] long.
#[derive(Debug)]
pub struct Writer<B> {
    settings: Settings,
    taken: Positions,
    durable_positions: Positions,
    durable: Durable,
    counts: Counts,
    /// The number of the next block, the checksum of the last one made, the last one confirmed.
    block: u64,
    crc: u32,
    confirmed: u64,
    /// How the segment before the one being written ends, but for its digest.
    previous: Previous,
    /// The last segment whose digest is known, and the digest.
    digest: (u64, Digest),
    /// The segment that comes next, and how far its file is.
    next_segment: u64,
    next: Next,
    current: Option<Current>,
    /// The segment whose header is durable.
    open: u64,
    filling: Option<Filling<B>>,
    flight: Flight<B>,
    /// A write failed too often: nothing goes out until its segment is given up.
    giving_up: bool,
    /// The segment whose header failed too often and whose file is being made anew.
    remaking: Option<u64>,
    /// Highest hybrid logical time taken.
    hlc: u64,
    ended: bool,
    asks: VecDeque<Io<B>>,
    /// The last segment whose end was told.
    told: u64,
    free: Vec<B>,
    header_buf: Option<B>,
    seal_buf: Option<B>,
    next_id: u64,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Writer<B> {
    /// Goes on at `resume`. `buffer` is asked for [`Settings::buffers`] buffers, now and never again.
    ///
    /// # Panics
    /// If the settings contradict themselves, or a buffer is too short.
    pub fn new(settings: Settings, resume: Resume, mut buffer: impl FnMut() -> B) -> Writer<B> {
        settings.check();
        let mut buffer = || {
            let b = buffer();
            assert!(b.as_ref().len() >= settings.block_bytes, "a buffer holds a block");
            b
        };
        let (header_buf, seal_buf) = (Some(buffer()), Some(buffer()));
        let free = (2..settings.buffers()).map(|_| buffer()).collect();
        let confirmed = resume.block - 1;
        Writer {
            settings,
            durable_positions: resume.positions.clone(),
            taken: resume.positions,
            durable: Durable { segment: resume.segment - 1, end: resume.previous.end, block: confirmed },
            counts: Counts::default(),
            block: resume.block,
            crc: resume.previous.crc,
            confirmed,
            previous: resume.previous,
            digest: (resume.segment - 1, resume.previous.digest),
            next_segment: resume.segment,
            next: Next::Wanted,
            current: None,
            open: 0,
            filling: None,
            flight: Flight::default(),
            giving_up: false,
            remaking: None,
            hlc: 0,
            ended: false,
            asks: VecDeque::new(),
            told: 0,
            free,
            header_buf,
            seal_buf,
            next_id: 1,
        }
    }

    /// Takes a frame: copies it into the block that is being filled.
    ///
    /// # Errors
    /// [`Refusal`]; the frame was not taken then.
    pub fn push(&mut self, frame: &Frame<'_>, class: Class) -> Result<Taken, Refusal> {
        let (header, bytes) = (&frame.header, frame.bytes);
        let key = (header.epoch, header.writer);
        match self.taken.follow(key, header.seq) {
            Follow::Known => {
                self.counts.known += 1;
                return Ok(Taken::Known);
            }
            Follow::Gap { expected } => return Err(Refusal::Gap { expected, found: header.seq }),
            Follow::Next => {}
        }
        let max = self.settings.frame_bytes_max();
        if bytes.len() > max {
            return Err(Refusal::TooLong { bytes: bytes.len(), max });
        }
        if self.ended {
            return Err(Refusal::Ended);
        }
        self.hlc = self.hlc.max(header.hlc);
        self.make_room(key, bytes.len(), class)?;
        let (Some(filling), Some(current)) = (&mut self.filling, &mut self.current) else {
            return Err(Refusal::Busy);
        };
        filling.take(frame);
        current.take(frame);
        self.taken.raise(key, header.seq);
        self.counts.frames += 1;
        self.counts.frame_bytes += bytes.len() as u64;
        Ok(Taken::New)
    }

    /// Frames up to `seq`, without it, are lost for good: the next one of the pair is `seq`. Readers of the journal will
    /// name the gap; so should whoever calls this.
    pub fn skip_to(&mut self, key: Key, seq: u64) {
        if let Follow::Gap { expected } = self.taken.follow(key, seq) {
            self.taken.raise(key, seq - 1);
            self.counts.skipped += seq - expected;
        }
    }

    /// A block with room for a frame of this length.
    fn make_room(&mut self, key: Key, bytes: usize, class: Class) -> Result<(), Refusal> {
        if self.current.as_ref().is_some_and(|c| !c.seals(key)) {
            self.switch()?;
        }
        if let Some(filling) = &self.filling {
            if filling.fits(bytes) {
                return self.keep_reserve(bytes, class);
            }
            if self.free.is_empty() {
                return Err(Refusal::Busy);
            }
            self.keep_reserve(bytes, class)?;
            self.close();
        }
        if self.free.is_empty() {
            return Err(Refusal::Busy);
        }
        if self.left().is_none_or(|left| left < block::padded(bytes) as u64) {
            self.switch()?;
        }
        self.keep_reserve(bytes, class)?;
        let left = self.left().unwrap_or(0);
        let Some(buf) = self.free.pop() else { return Err(Refusal::Busy) };
        self.filling = Some(Filling::new(buf, left.min(self.settings.block_bytes as u64) as usize));
        Ok(())
    }

    /// Bytes of the current segment for blocks that were not closed yet; the seal's are not among them.
    fn left(&self) -> Option<u64> {
        self.current.as_ref().map(|c| self.settings.segment_bytes - SEAL_BYTES as u64 - c.at)
    }

    fn keep_reserve(&self, bytes: usize, class: Class) -> Result<(), Refusal> {
        let used = self.filling.as_ref().map_or(BLOCK_HEADER, Filling::used);
        let left = self.left().unwrap_or(0).saturating_sub((used + bytes) as u64);
        let last = self.next == Next::Refused;
        if class == Class::Ordinary && last && left < self.settings.reserve_bytes {
            Err(Refusal::Reserve)
        } else {
            Ok(())
        }
    }

    /// What is to be done next; `None`: nothing until something is reported or pushed. A block goes out as it is when
    /// fewer than `depth` writes are under way.
    pub fn next_io(&mut self) -> Option<Io<B>> {
        if let Some(ask) = self.asks.pop_front() {
            return Some(ask);
        }
        if self.next == Next::Wanted && (!self.ended || self.giving_up) {
            self.next = Next::Asked;
            return Some(Io::Prepare { segment: self.next_segment, bytes: self.settings.segment_bytes });
        }
        if self.giving_up {
            let given_up = self.give_up();
            if let Some(ask) = self.asks.pop_front() {
                return Some(ask);
            }
            given_up?;
        }
        if self.flight.sent >= self.settings.depth {
            return None;
        }
        if self.ended {
            // While another segment's seal is under way this one's waits.
            self.seal();
        } else if self.filling.as_ref().is_some_and(|f| !f.is_empty()) && !self.flight.any_ready() {
            self.close();
        }
        let (digested, digest) = self.digest;
        let entry = self.flight.next(self.open, digested)?;
        let mut buf = entry.buf.take()?;
        entry.state = State::Sent;
        if let Content::Header(header) = &mut entry.content {
            header.previous.digest = digest;
            header.encode(buf.as_mut());
        }
        let write = Write { id: entry.id, segment: entry.segment, at: entry.at, bytes: entry.bytes, buf };
        self.flight.sent += 1;
        Some(Io::Write(write))
    }

    /// A write is on disk.
    pub fn done(&mut self, id: u64, buf: B) {
        if self.flight.back(id, buf, true).is_some() {
            while let Some(entry) = self.flight.pop_done() {
                self.landed(entry);
            }
        }
    }

    /// A write failed: it is done again, and after [`FAILURES_MAX`] failures its segment is given up.
    pub fn failed(&mut self, id: u64, buf: B) {
        if let Some(entry) = self.flight.back(id, buf, false) {
            self.giving_up |= entry.failures >= FAILURES_MAX;
            self.counts.failures += 1;
        }
    }

    /// Everything up to and with `entry` is durable.
    fn landed(&mut self, entry: Entry<B>) {
        let Entry { segment, at, bytes, content, buf, .. } = entry;
        self.counts.writes += 1;
        self.counts.write_bytes += bytes as u64;
        let end = at + bytes as u64;
        let role = match &content {
            Content::Header(_) => Role::Header,
            Content::Frames(..) => Role::Frames,
            Content::Seal(_) => Role::Seal,
        };
        self.asks.extend(buf.map(|buf| Io::Digest(Piece { segment, at, bytes, role, buf })));
        let number = match content {
            Content::Header(header) => {
                self.open = segment;
                if header.previous.end > 0 && self.told < segment - 1 {
                    self.told = segment - 1;
                    self.asks.push_back(Io::Ended { segment: segment - 1, end: header.previous.end });
                }
                return;
            }
            Content::Frames(header, ranges) => {
                for range in ranges {
                    self.durable_positions.raise(range.key, range.last);
                }
                header.number
            }
            Content::Seal(number) => {
                self.told = segment;
                self.asks.push_back(Io::EndDigest { segment });
                self.asks.push_back(Io::Ended { segment, end });
                number
            }
        };
        self.confirmed = number;
        self.durable = Durable { segment, end, block: number };
    }

    /// Nothing more will be pushed: what was taken is written, the segment sealed. All is on disk when [`Writer::idle`].
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Is everything that was taken durable?
    pub fn idle(&self) -> bool {
        let sealed = !self.ended || self.current.is_none();
        sealed && self.flight.entries.is_empty() && self.filling.as_ref().is_none_or(Filling::is_empty)
    }

    /// Of every pair the highest sequence number up to which all frames are durable: black boxes may forget those.
    pub fn durable_positions(&self) -> &Positions {
        &self.durable_positions
    }

    /// Of every pair the highest sequence number that was taken.
    pub fn taken_positions(&self) -> &Positions {
        &self.taken
    }

    /// The end of what is durable.
    pub fn durable(&self) -> Durable {
        self.durable
    }

    /// What was done.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Writes that the disk has.
    pub fn under_way(&self) -> usize {
        self.flight.sent
    }

    /// Do writes fail so often that their segment is to be given up?
    pub fn failing(&self) -> bool {
        self.giving_up
    }

    /// Is the next segment's file there?
    pub fn next_ready(&self) -> bool {
        self.next == Next::Ready
    }

    /// Can no block be begun, not even for what is reserved?
    pub fn exhausted(&self) -> bool {
        let left = self.left().unwrap_or(0);
        self.next == Next::Refused && self.filling.is_none() && left < PAGE as u64
    }

    /// Bytes of ordinary frames that are taken before [`Refusal::NoSpace`] or [`Refusal::Reserve`]; `None`: the next
    /// segment is there or being made.
    pub fn room(&self) -> Option<u64> {
        let used = self.filling.as_ref().map_or(0, |f| f.used() as u64);
        let left = self.left().unwrap_or(0).saturating_sub(used);
        (self.next == Next::Refused).then(|| left.saturating_sub(self.settings.reserve_bytes))
    }
}
