//! Segments: how one ends and the next begins.
//! Owns: nothing. Called by: [`super`]. Never: lets a header out before the digest of the segment before is known.
use super::{Next, Writer};
use crate::journal::{
    block::{self, BlockHeader},
    bytes::u64_at,
    filling::Current,
    flight::{Content, Entry, State},
    segment::{Digest, HEADER_BYTES, Previous, SegmentHeader},
    terms::{Refusal, Role},
};
use sha2::{Digest as _, Sha256};

impl<B: AsRef<[u8]> + AsMut<[u8]>> Writer<B> {
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

    /// A piece is in the digest.
    pub fn digested(&mut self, role: Role, buf: B) {
        match role {
            Role::Header => self.header_buf = Some(buf),
            Role::Frames => self.free.push(buf),
            Role::Seal => self.seal_buf = Some(buf),
        }
    }

    /// The digest of a segment that has ended: the next one's header can be written.
    pub fn digest(&mut self, segment: u64, digest: Digest) {
        self.digest = (segment, digest);
    }

    /// Begins the next segment; the one before is sealed.
    pub(super) fn switch(&mut self) -> Result<(), Refusal> {
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
    pub(super) fn close(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let (buf, header, ranges) = filling.close();
        self.put_block(buf, header, Content::Frames(header, ranges));
    }

    /// Numbers and chains a block of the current segment, and puts it into flight.
    pub(super) fn put_block(&mut self, mut buf: B, mut header: BlockHeader, content: Content) {
        let Some(current) = &mut self.current else { return };
        header.segment = current.segment;
        header.number = self.block;
        header.before = self.crc;
        header.unconfirmed = (self.block - 1 - self.confirmed) as u32;
        let (bytes, crc) = block::seal_block(buf.as_mut(), &header, current.salt);
        let content = match content {
            Content::Frames(_, ranges) => Content::Frames(header, ranges),
            _ => Content::Seal(header.number),
        };
        let (segment, at) = (current.segment, current.at);
        current.at += bytes as u64;
        self.put(segment, at, bytes, content, buf);
        self.block += 1;
        self.crc = crc;
    }

    fn put(&mut self, segment: u64, at: u64, bytes: usize, content: Content, buf: B) {
        let (id, crc_before, buf) = (self.next_id, self.crc, Some(buf));
        let entry = Entry { id, segment, at, bytes, content, state: State::Ready, failures: 0, buf, crc_before };
        self.flight.entries.push_back(entry);
        self.next_id += 1;
    }

    /// Ends the current segment, if there is one, and notes how it ends for the next one's header.
    pub(super) fn seal(&mut self) {
        self.close();
        let Some(current) = &self.current else { return };
        let Some(mut buf) = self.seal_buf.take() else { return };
        let payload = current.seal(self.block).encode(buf.as_mut()) as u32;
        self.put_block(buf, BlockHeader { payload, seal: true, ..BlockHeader::default() }, Content::Seal(0));
        if let Some(current) = self.current.take() {
            self.previous = Previous { end: current.at, crc: self.crc, ..Previous::default() };
        }
    }

    /// Puts the header of the next segment into flight and makes it the current one.
    pub(super) fn begin(&mut self, hlc: u64) {
        let Some(buf) = self.header_buf.take() else { return };
        let segment = self.next_segment;
        let mut salt = Sha256::new();
        salt.update(self.settings.entropy.to_le_bytes());
        salt.update(segment.to_le_bytes());
        salt.update(hlc.to_le_bytes());
        let salt = u64_at(&salt.finalize(), 0);
        let header = SegmentHeader {
            node: self.settings.node,
            segment,
            hlc,
            bytes: self.settings.segment_bytes,
            first_block: self.block,
            salt,
            previous: self.previous,
        };
        self.put(segment, 0, HEADER_BYTES, Content::Header(header), buf);
        self.current = Some(Current::new(segment, salt, self.block));
        self.next_segment = segment + 1;
        self.next = Next::Wanted;
    }
}
