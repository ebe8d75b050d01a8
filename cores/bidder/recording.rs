//! What a bidder core leaves behind: each auction and each delivery that was not simply "written in time", in its black box.
//! Owns: the writing end of the box, the core's hybrid clock. Runs on: each bidder core. Called by: the bidder.
//! Never: fails to record what was admitted: room is promised before the auction begins.
//! Full: no room, no admission; the caller answers at once and counts.
use crate::{
    blackbox::{Producer, Stamp},
    planted::{Fault, planted},
};
use outcry::{
    auction::{Auction, Delivery, delivery, record},
    record::frame::{self, HEADER, Kind},
    time::hybrid::{Clock, Hlc},
    units::{EventId, Now},
};

/// What a delivery takes in the box: promised to each auction beside its own record.
const DELIVERY_BYTES: usize = frame::padded(HEADER + Delivery::BYTES);

/// The records of one core.
#[derive(Debug)]
pub struct Recorder {
    producer: Option<Producer>,
    /// Answers wait until their records are on disk.
    power: bool,
    clock: Clock,
    scratch: Vec<u8>,
    /// Kind, version, time and payload of what is published too late, if that fault is planted.
    late: Vec<(Kind, u8, u64, Vec<u8>)>,
}

impl Recorder {
    /// With the box of this core, or with none: then nothing is kept and everything has room. `power`: answers wait until
    /// their records are on disk. `last` is the greatest time that the journal knows.
    pub fn new(producer: Option<Producer>, power: bool, last: Hlc) -> Recorder {
        let clock = Clock::new(last, Clock::AHEAD_MAX_MS);
        Recorder { producer, power, clock, scratch: Vec::new(), late: Vec::new() }
    }

    /// Promises room for an auction whose record is `bound` bytes at most, and for its delivery. `None`: there is none.
    pub fn promise(&mut self, bound: usize) -> Option<usize> {
        if planted(Fault::PublishedLate) {
            self.publish_late();
        }
        let Some(producer) = &mut self.producer else { return Some(0) };
        let bytes = frame::padded(HEADER + bound) + DELIVERY_BYTES;
        producer.reserve(bytes).then_some(bytes)
    }

    /// Records a decided auction. What is left of the promise is the delivery's, and is used up by [`Recorder::delivered`]
    /// or [`Recorder::written`]. Returns the bytes of the record.
    pub fn auction(&mut self, auction: &Auction, promised: usize, wall_ms: u64) -> usize {
        self.scratch.clear();
        auction.encode_record(&mut self.scratch);
        let used = self.publish(Kind::Auction, record::VERSION, wall_ms);
        if let Some(producer) = &mut self.producer {
            producer.refund(promised - DELIVERY_BYTES - used);
        }
        self.scratch.len()
    }

    /// The place in the box behind the last record, if answers wait until that is durable.
    pub fn durable_at(&self) -> Option<u64> {
        self.producer.as_ref().filter(|_| self.power).map(Producer::head)
    }

    /// The place in the box up to which everything is durable, if answers wait for that.
    pub fn durable(&mut self) -> Option<u64> {
        self.producer.as_mut().filter(|_| self.power).map(Producer::released)
    }

    /// Records a delivery that was not simply written in time. Returns the bytes of the record.
    pub fn delivered(&mut self, event: EventId, delivery: Delivery, wall_ms: u64) -> usize {
        self.scratch.clear();
        delivery.encode(event, &mut self.scratch);
        self.publish(Kind::Delivery, delivery::FRAME_VERSION, wall_ms);
        self.scratch.len()
    }

    /// A delivery that needs no record: its room is given back.
    pub fn written(&mut self) {
        if let Some(producer) = &mut self.producer {
            producer.refund(DELIVERY_BYTES);
        }
    }

    /// Takes a promise back whole.
    #[cfg(test)]
    pub(super) fn forget(&mut self, promised: usize) {
        if let Some(producer) = &mut self.producer {
            producer.refund(promised);
        }
    }

    /// Records what no room was promised for, at most `bound` bytes. `false`: there is none now.
    pub fn unpromised(
        &mut self,
        kind: Kind,
        version: u8,
        bound: usize,
        now: Now,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let room = frame::padded(HEADER + bound);
        if self.producer.as_mut().is_some_and(|producer| !producer.reserve(room)) {
            return false;
        }
        self.scratch.clear();
        encode(&mut self.scratch);
        let used = self.publish(kind, version, now.unix_ms());
        if let Some(producer) = &mut self.producer {
            producer.refund(room - used);
        }
        true
    }

    fn publish(&mut self, kind: Kind, version: u8, wall_ms: u64) -> usize {
        if planted(Fault::PublishedLate) {
            self.late.push((kind, version, wall_ms, self.scratch.clone()));
            return frame::size(self.scratch.len());
        }
        self.publish_now(kind, version, wall_ms)
    }

    fn publish_late(&mut self) {
        for (kind, version, wall_ms, payload) in std::mem::take(&mut self.late) {
            self.scratch = payload;
            self.publish_now(kind, version, wall_ms);
        }
    }

    fn publish_now(&mut self, kind: Kind, version: u8, wall_ms: u64) -> usize {
        let Some(producer) = &mut self.producer else { return 0 };
        let hlc = self.clock.tick(wall_ms).0;
        let mut entry = producer.begin();
        if planted(Fault::NoReservation) && entry.room().len() < self.scratch.len() {
            let bytes = frame::size(self.scratch.len());
            producer.refund(bytes);
            return bytes;
        }
        entry.room()[..self.scratch.len()].copy_from_slice(&self.scratch);
        entry.publish(self.scratch.len(), Stamp { kind, version, hlc })
    }
}
