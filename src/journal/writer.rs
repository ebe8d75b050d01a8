//! The writer: frames in, writes out, and up to where everything is durable.
//! Owns: the block being filled, the writes in flight, the positions. Runs on: the flush core. Called by: the I/O in
//! `outcry-cores`, which does what [`Writer::next_io`] says and reports how it went.
//! Never: reads a clock, calls a frame durable before its block and all blocks before it are, loses a frame it took, or
//! takes one twice.
//! Full: [`Refusal`] says what is missing; the frame stays where it is.
//!
//! Group commit comes by itself: while fewer than `depth` writes are under way, what was taken goes out at once; else the
//! block grows until one comes back.
pub use super::terms::{Class, Counts, Durable, FAILURES_MAX, Io, Refusal, Resume, Settings, Taken, Write};

use super::{
    PAGE,
    block::{self, BLOCK_HEADER, BlockHeader, Range, SEAL_BYTES, SEAL_ENTRIES_MAX, Seal},
    flight::{Content, Entry, Flight, State},
    positions::{Follow, Key, Positions},
    segment::{HEADER_BYTES, Previous, SegmentHeader},
};
use crate::record::frame::Frame;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Wanted,
    Asked,
    Ready,
    Refused,
}

/// The segment being written.
#[derive(Debug)]
struct Current {
    segment: u64,
    at: u64,
    salt: u64,
    digest: Sha256,
    first_block: u64,
    frames: u64,
    frame_bytes: u64,
    ranges: Vec<Range>,
}

/// The block being filled.
#[derive(Debug)]
struct Filling<B> {
    buf: B,
    /// Bytes it may have.
    max: usize,
    used: usize,
    frames: u32,
    first_hlc: u64,
    last_hlc: u64,
    ranges: Vec<Range>,
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
    previous: Previous,
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
        let end = filling.used + bytes.len();
        filling.buf.as_mut()[filling.used..end].copy_from_slice(bytes);
        filling.used = end;
        filling.frames += 1;
        filling.first_hlc = filling.first_hlc.min(header.hlc);
        filling.last_hlc = filling.last_hlc.max(header.hlc);
        block::touch(&mut filling.ranges, key, header.seq);
        current.frames += 1;
        current.frame_bytes += bytes.len() as u64;
        block::touch(&mut current.ranges, key, header.seq);
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
        if self.current.as_ref().is_some_and(|c| !c.holds(key) && c.ranges.len() >= SEAL_ENTRIES_MAX) {
            self.switch()?;
        }
        if let Some(filling) = &self.filling {
            if filling.used + bytes <= filling.max {
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
        self.filling = Some(Filling {
            buf,
            max: left.min(self.settings.block_bytes as u64) as usize,
            used: BLOCK_HEADER,
            frames: 0,
            first_hlc: u64::MAX,
            last_hlc: 0,
            ranges: Vec::new(),
        });
        Ok(())
    }

    /// Bytes of the current segment for blocks that were not closed yet; the seal's are not among them.
    fn left(&self) -> Option<u64> {
        self.current.as_ref().map(|c| self.settings.segment_bytes - SEAL_BYTES as u64 - c.at)
    }

    fn keep_reserve(&self, bytes: usize, class: Class) -> Result<(), Refusal> {
        let used = self.filling.as_ref().map_or(BLOCK_HEADER, |f| f.used);
        let left = self.left().unwrap_or(0).saturating_sub((used + bytes) as u64);
        let last = self.next == Next::Refused;
        if class == Class::Ordinary && last && left < self.settings.reserve_bytes {
            Err(Refusal::Reserve)
        } else {
            Ok(())
        }
    }

    /// Begins the next segment; the one before is sealed.
    fn switch(&mut self) -> Result<(), Refusal> {
        match self.next {
            Next::Ready => {}
            Next::Refused => return Err(Refusal::NoSpace),
            Next::Wanted | Next::Asked => return Err(Refusal::Preparing),
        }
        let sealable = self.current.is_none() || self.seal_buf.is_some();
        if self.header_buf.is_none() || !sealable {
            return Err(Refusal::Busy);
        }
        self.seal();
        self.begin(self.hlc);
        Ok(())
    }

    /// Closes the block that is being filled.
    fn close(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let header = BlockHeader {
            payload: (filling.used - BLOCK_HEADER) as u32,
            frames: filling.frames,
            first_hlc: filling.first_hlc,
            last_hlc: filling.last_hlc,
            ..BlockHeader::default()
        };
        self.put_block(filling.buf, header, Content::Frames(header, filling.ranges));
    }

    /// Numbers and chains a block of the current segment, and puts it into flight.
    fn put_block(&mut self, mut buf: B, mut header: BlockHeader, content: Content) {
        let Some(current) = &mut self.current else { return };
        header.segment = current.segment;
        header.number = self.block;
        header.before = self.crc;
        header.unconfirmed = (self.block - 1 - self.confirmed) as u32;
        let (bytes, crc) = block::seal_block(buf.as_mut(), &header, current.salt);
        let entry = Entry {
            id: self.next_id,
            segment: current.segment,
            at: current.at,
            bytes,
            content: match content {
                Content::Frames(_, ranges) => Content::Frames(header, ranges),
                _ => Content::Seal(header.number),
            },
            state: State::Ready,
            failures: 0,
            digest_before: current.digest.clone(),
            crc_before: self.crc,
            buf: None,
        };
        current.digest.update(&buf.as_ref()[..bytes]);
        current.at += bytes as u64;
        self.flight.entries.push_back(Entry { buf: Some(buf), ..entry });
        self.next_id += 1;
        self.block += 1;
        self.crc = crc;
    }

    /// Ends the current segment, if there is one, and notes how it ends for the next one's header.
    fn seal(&mut self) {
        self.close();
        let Some(current) = &self.current else { return };
        let Some(mut buf) = self.seal_buf.take() else { return };
        let mut ranges = current.ranges.clone();
        ranges.sort_unstable_by_key(|r| r.key);
        let seal = Seal {
            blocks: self.block - current.first_block,
            frames: current.frames,
            frame_bytes: current.frame_bytes,
            ranges,
        };
        let payload = seal.encode(buf.as_mut()) as u32;
        self.put_block(buf, BlockHeader { payload, seal: true, ..BlockHeader::default() }, Content::Seal(0));
        if let Some(current) = self.current.take() {
            self.previous = Previous { end: current.at, digest: current.digest.finalize().into(), crc: self.crc };
        }
    }

    /// Puts the header of the next segment into flight and makes it the current one.
    fn begin(&mut self, hlc: u64) {
        let Some(mut buf) = self.header_buf.take() else { return };
        let segment = self.next_segment;
        let mut salt = Sha256::new();
        salt.update(self.settings.entropy.to_le_bytes());
        salt.update(segment.to_le_bytes());
        salt.update(hlc.to_le_bytes());
        let salt = super::bytes::u64_at(&salt.finalize(), 0);
        let header = SegmentHeader {
            node: self.settings.node,
            segment,
            hlc,
            bytes: self.settings.segment_bytes,
            first_block: self.block,
            salt,
            previous: self.previous,
        };
        header.encode(buf.as_mut());
        let digest_before = Sha256::new();
        let mut digest = digest_before.clone();
        digest.update(&buf.as_ref()[..HEADER_BYTES]);
        self.flight.entries.push_back(Entry {
            id: self.next_id,
            segment,
            at: 0,
            bytes: HEADER_BYTES,
            content: Content::Header(self.previous.end),
            state: State::Ready,
            failures: 0,
            buf: Some(buf),
            digest_before,
            crc_before: self.crc,
        });
        self.next_id += 1;
        self.current = Some(Current {
            segment,
            at: HEADER_BYTES as u64,
            salt,
            digest,
            first_block: self.block,
            frames: 0,
            frame_bytes: 0,
            ranges: Vec::new(),
        });
        self.next_segment = segment + 1;
        self.next = Next::Wanted;
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
            self.give_up()?;
        }
        if self.flight.sent >= self.settings.depth {
            return None;
        }
        if self.ended {
            // While another segment's seal is under way this one's waits.
            self.seal();
        } else if self.filling.as_ref().is_some_and(|f| f.frames > 0) && !self.flight.any_ready() {
            self.close();
        }
        let entry = self.flight.next(self.open)?;
        let buf = entry.buf.take()?;
        entry.state = State::Sent;
        let write = Write { id: entry.id, segment: entry.segment, at: entry.at, bytes: entry.bytes, buf };
        self.flight.sent += 1;
        Some(Io::Write(write))
    }

    /// A segment's file is there: made, or found at the start.
    pub fn prepared(&mut self, segment: u64) {
        if self.remaking == Some(segment) {
            self.try_again();
        } else if segment == self.next_segment {
            self.next = Next::Ready;
        }
    }

    /// A segment's file could not be made.
    pub fn unprepared(&mut self, segment: u64) {
        if self.remaking == Some(segment) {
            // The header is tried again on what is there.
            self.try_again();
        } else if segment == self.next_segment {
            self.next = Next::Refused;
        }
    }

    /// Try again to make the next segment: room was made, or time has passed.
    pub fn prepare_again(&mut self) {
        if self.next == Next::Refused {
            self.next = Next::Wanted;
        }
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
        self.counts.writes += 1;
        self.counts.write_bytes += entry.bytes as u64;
        let end = entry.at + entry.bytes as u64;
        let number = match &entry.content {
            Content::Header(previous_end) => {
                self.open = entry.segment;
                self.header_buf = entry.buf;
                if *previous_end > 0 && self.told < entry.segment - 1 {
                    self.told = entry.segment - 1;
                    self.asks.push_back(Io::Ended { segment: entry.segment - 1, end: *previous_end });
                }
                return;
            }
            Content::Frames(header, ranges) => {
                for range in ranges {
                    self.durable_positions.raise(range.key, range.last);
                }
                self.free.extend(entry.buf);
                header.number
            }
            Content::Seal(number) => {
                self.seal_buf = entry.buf;
                self.told = entry.segment;
                self.asks.push_back(Io::Ended { segment: entry.segment, end });
                *number
            }
        };
        self.confirmed = number;
        self.durable = Durable { segment: entry.segment, end, block: number };
    }

    /// Gives up the segment whose writes keep failing, once nothing of it is under way: it ends before the first write
    /// that is not durable, and all of those go to the next one. `None`: not yet.
    fn give_up(&mut self) -> Option<()> {
        let front = self.flight.entries.front().filter(|_| self.flight.sent == 0)?;
        if let Content::Header(_) = front.content {
            // Nothing is in it yet: its file is made anew.
            if self.remaking != Some(front.segment) {
                self.remaking = Some(front.segment);
                self.asks.push_back(Io::Prepare { segment: front.segment, bytes: self.settings.segment_bytes });
            }
            return None;
        }
        // Was the next one begun already? Then its header has not gone out, as it waits for this one, and is made anew.
        let begun = self.current.as_ref().is_some_and(|c| c.segment > front.segment);
        match self.next {
            _ if begun => {}
            Next::Ready => {}
            Next::Refused => {
                self.try_again();
                return Some(());
            }
            Next::Wanted | Next::Asked => return None,
        }
        self.previous =
            Previous { end: front.at, digest: front.digest_before.clone().finalize().into(), crc: front.crc_before };
        self.crc = front.crc_before;
        self.block = self.confirmed + 1;
        let following = begun.then_some(self.next);
        self.next_segment = front.segment + 1;
        let entries = std::mem::take(&mut self.flight.entries);
        let mut blocks = Vec::with_capacity(entries.len());
        for entry in entries {
            match (entry.content, entry.buf) {
                (Content::Header(_), buf) => self.header_buf = buf,
                (Content::Seal(_), buf) => self.seal_buf = buf,
                (Content::Frames(header, ranges), Some(buf)) => blocks.push((buf, header, ranges)),
                (Content::Frames(..), None) => debug_assert!(false, "nothing is under way"),
            }
        }
        self.begin(self.hlc);
        self.next = following.unwrap_or(self.next);
        for (buf, header, ranges) in blocks {
            self.count_in(&ranges, u64::from(header.frames), u64::from(header.payload));
            self.put_block(buf, header, Content::Frames(header, ranges));
        }
        if let Some(filling) = &self.filling {
            let (ranges, frames, bytes) = (filling.ranges.clone(), filling.frames, filling.used - BLOCK_HEADER);
            self.count_in(&ranges, u64::from(frames), bytes as u64);
        }
        self.giving_up = false;
        self.counts.abandoned += 1;
        Some(())
    }

    /// Counts frames in the current segment.
    fn count_in(&mut self, ranges: &[Range], frames: u64, bytes: u64) {
        let Some(current) = &mut self.current else { return };
        current.frames += frames;
        current.frame_bytes += bytes;
        for range in ranges {
            match current.ranges.iter_mut().find(|r| r.key == range.key) {
                Some(known) => {
                    known.last = range.last;
                    known.frames += range.frames;
                }
                None => current.ranges.push(*range),
            }
        }
    }

    fn try_again(&mut self) {
        self.giving_up = false;
        self.remaking = None;
        self.flight.entries.iter_mut().for_each(|e| e.failures = 0);
    }

    /// Nothing more will be pushed: what was taken is written, the segment sealed. All is on disk when [`Writer::idle`].
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Is everything that was taken durable?
    pub fn idle(&self) -> bool {
        let sealed = !self.ended || self.current.is_none();
        sealed && self.flight.entries.is_empty() && self.filling.as_ref().is_none_or(|f| f.frames == 0)
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
        let used = self.filling.as_ref().map_or(0, |f| f.used as u64);
        let left = self.left().unwrap_or(0).saturating_sub(used);
        (self.next == Next::Refused).then(|| left.saturating_sub(self.settings.reserve_bytes))
    }
}

impl Current {
    fn holds(&self, key: Key) -> bool {
        self.ranges.iter().any(|r| r.key == key)
    }
}
