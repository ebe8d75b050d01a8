//! The bidder core's end of its black box: room is reserved when an auction is admitted, so that publishing cannot fail.
//! Owns: sequence numbers and reservations. Runs on: each bidder core. Called by: admission (reserves), whoever records.
//! Never: waits, allocates, makes a system call.
//! Full: [`Producer::reserve`] says no, and the auction is not admitted.
use super::map::WriteEnd;
use crate::planted::{Fault, planted};
use outcry::record::{
    blackbox::Identity,
    frame::{self, HEADER, Header, Kind},
};

/// What a frame says besides what the ring knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// What the payload is.
    pub kind: Kind,
    /// Version of the payload.
    pub version: u8,
    /// Hybrid logical time.
    pub hlc: u64,
}

/// The end that publishes.
#[derive(Debug)]
pub struct Producer {
    end: WriteEnd,
    epoch: u32,
    core: u16,
    /// Of the last frame.
    seq: u64,
    /// Bytes of the free ones that are promised.
    reserved: usize,
    #[cfg(test)]
    pub(super) fault: super::fault::Fault,
}

impl Producer {
    pub(super) fn new(end: WriteEnd, identity: &Identity) -> Producer {
        Producer {
            end,
            epoch: identity.epoch,
            core: identity.core,
            seq: 0,
            reserved: 0,
            #[cfg(test)]
            fault: super::fault::Fault::None,
        }
    }

    /// Bytes that could be reserved now.
    pub fn room(&mut self) -> usize {
        self.end.refresh();
        self.end.free() - self.reserved
    }

    /// Bytes that are reserved and not used yet.
    pub fn reserved(&self) -> usize {
        self.reserved
    }

    /// Bytes that were ever published: the place behind the last frame.
    pub fn head(&self) -> u64 {
        self.end.head()
    }

    /// Of them, those that the other end has let go: what stands before this place is on disk.
    pub fn released(&mut self) -> u64 {
        self.end.refresh();
        self.end.seen_tail()
    }

    /// Promises so many bytes of frames ([`frame::size`] of each payload, added up). `false`: there is no room, nothing is
    /// promised. What is promised is used by [`Entry::publish`] or given back by [`Producer::refund`].
    #[inline]
    pub fn reserve(&mut self, bytes: usize) -> bool {
        let whole = bytes.checked_next_multiple_of(frame::ALIGN);
        let Some(reserved) = whole.and_then(|bytes| bytes.checked_add(self.reserved)) else { return false };
        if reserved > self.end.free() {
            // Looked at only when it matters: the line is flush's.
            self.end.refresh();
            if reserved > self.end.free() && !planted(Fault::NoReservation) {
                return false;
            }
        }
        self.reserved = reserved;
        true
    }

    /// Number of the last frame that was published, 0 before the first.
    pub fn frames(&self) -> u64 {
        self.seq
    }

    /// Takes a promise back: what an auction reserved and did not use.
    ///
    /// # Panics
    /// If more is given back than is promised: somebody else's promise would be broken.
    #[inline]
    pub fn refund(&mut self, bytes: usize) {
        let bytes = frame::padded(bytes);
        assert!(bytes <= self.reserved, "{bytes} bytes given back, {} are reserved", self.reserved);
        self.reserved -= bytes;
    }

    /// Begins a frame. Nobody sees anything of it before it is published; dropped, it never was.
    #[inline]
    pub fn begin(&mut self) -> Entry<'_> {
        Entry { producer: self }
    }
}

/// A frame that is being written, in its place in the ring.
#[derive(Debug)]
pub struct Entry<'a> {
    producer: &'a mut Producer,
}

impl Entry<'_> {
    /// Room for the payload: all that is reserved but for the header. Holds whatever stood there before.
    #[inline]
    pub fn room(&mut self) -> &mut [u8] {
        let mut reserved = self.producer.reserved;
        if planted(Fault::NoReservation) {
            reserved = reserved.min(self.producer.end.free());
        }
        self.producer.end.room()[..reserved].get_mut(HEADER..).unwrap_or_default()
    }

    /// Publishes the first `payload` bytes of the room: from now on they survive the process. Returns the bytes of the
    /// frame, which are taken off what is reserved.
    ///
    /// # Panics
    /// If the frame is longer than what is reserved.
    #[inline]
    pub fn publish(self, payload: usize, stamp: Stamp) -> usize {
        let Producer { end, epoch, core, seq, reserved, .. } = self.producer;
        let (len, bytes) = (HEADER + payload, frame::size(payload));
        assert!(bytes <= *reserved, "a frame of {bytes} bytes, {reserved} are reserved");
        *seq += 1;
        let Stamp { kind, version, hlc } = stamp;
        let header = Header { seq: *seq, epoch: *epoch, writer: *core, kind: kind as u8, version, hlc };
        #[cfg(test)]
        if self.producer.fault.planted(end, len, &header) {
            *reserved -= bytes;
            return bytes;
        }
        frame::seal(end.room(), len, &header);
        if planted(Fault::NoChecksum) {
            end.room()[4..8].fill(0);
        }
        end.publish(bytes, *seq);
        *reserved -= bytes;
        bytes
    }
}
