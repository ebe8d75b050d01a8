//! Giving up: a segment whose writes keep failing ends before the first that is not durable, and all of those go to the
//! next one.
//! Owns: nothing. Called by: [`super`]. Never: loses a buffer; gives up while the disk has any of the segment.
use super::{Next, Writer};
use crate::journal::{flight::Content, segment::Previous, terms::Io};

impl<B: AsRef<[u8]> + AsMut<[u8]>> Writer<B> {
    /// Gives up the segment whose writes keep failing, once nothing of it is under way. `None`: not yet.
    pub(super) fn give_up(&mut self) -> Option<()> {
        let front = self.flight.entries.front().filter(|_| self.flight.sent == 0)?;
        let (segment, end, crc) = (front.segment, front.at, front.crc_before);
        if let Content::Header(_) = front.content {
            // Nothing is in it yet: its file is made anew.
            if self.remaking != Some(segment) {
                self.remaking = Some(segment);
                self.asks.push_back(Io::Prepare { segment, bytes: self.settings.segment_bytes });
            }
            return None;
        }
        // Was the next one begun already? Then its header has not gone out, as it waits for this one, and is made anew.
        let begun = self.current.as_ref().is_some_and(|c| c.segment > segment);
        match self.next {
            _ if begun => {}
            Next::Ready => {}
            Next::Refused => {
                self.try_again();
                return Some(());
            }
            Next::Wanted | Next::Asked => return None,
        }
        if !begun && self.header_buf.is_none() {
            // Its own header is not in the digest yet.
            return None;
        }
        self.previous = Previous { end, crc, ..Previous::default() };
        self.asks.push_back(Io::EndDigest { segment });
        self.crc = crc;
        self.block = self.confirmed + 1;
        let following = begun.then_some(self.next);
        self.next_segment = segment + 1;
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
            if let Some(current) = &mut self.current {
                current.take_over(&header, &ranges);
            }
            self.put_block(buf, header, Content::Frames(header, ranges));
        }
        if let (Some(filling), Some(current)) = (&self.filling, &mut self.current) {
            let (header, ranges) = filling.header();
            current.take_over(&header, ranges);
        }
        self.giving_up = false;
        self.counts.abandoned += 1;
        Some(())
    }

    /// Failures so far do not count any more.
    pub(super) fn try_again(&mut self) {
        self.giving_up = false;
        self.remaking = None;
        self.flight.entries.iter_mut().for_each(|e| e.failures = 0);
    }
}
