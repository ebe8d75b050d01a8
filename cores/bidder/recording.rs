//! What a bidder core leaves behind: each auction and each delivery that was not simply "written in time", in its black box.
//! Owns: the writing end of the box, the core's hybrid clock. Runs on: each bidder core. Called by: the bidder.
//! Never: fails to record what was admitted: room is promised before the auction begins.
//! Full: no room, no admission; the caller answers at once and counts.
use crate::{
    blackbox::{Producer, Stamp},
    planted::{Fault, planted},
};
use outcry::{
    auction::{
        Auction, Delivery,
        delivery::{self, Freed},
        record,
    },
    limits::IMPS_MAX,
    record::frame::{self, HEADER, Kind},
    time::hybrid::{Clock, Hlc},
    units::{EventId, Now},
};
use std::num::NonZeroU16;

/// What a delivery takes in the box that frees at most `charges`: promised to each auction beside its own record.
const fn delivery_bytes(charges: usize) -> usize {
    frame::size(delivery::bound(charges))
}

// The room of a delivery is handed on in 16 bits.
const _: () = assert!(delivery_bytes(IMPS_MAX) <= u16::MAX as usize);

/// What is recorded of an auction once it is known what became of its answer, and the room in the box that is kept for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Followup {
    pub(super) event: EventId,
    room: NonZeroU16,
}

impl Followup {
    /// Of an auction that charged so many accounts' winners.
    pub fn new(event: EventId, charges: usize) -> Followup {
        let room = delivery_bytes(charges.min(IMPS_MAX)) as u16;
        Followup { event, room: NonZeroU16::new(room).unwrap_or(NonZeroU16::MAX) }
    }
}

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

    /// Promises room for an auction of `imps` impressions whose record is `bound` bytes at most, and for its delivery.
    /// `None`: there is none.
    pub fn promise(&mut self, bound: usize, imps: usize) -> Option<usize> {
        if planted(Fault::PublishedLate) {
            self.publish_late();
        }
        let Some(producer) = &mut self.producer else { return Some(0) };
        let bytes = frame::padded(HEADER + bound) + delivery_bytes(imps.min(IMPS_MAX));
        producer.reserve(bytes).then_some(bytes)
    }

    /// Records a decided auction. What its delivery may need is left of the promise, and is used up by
    /// [`Recorder::delivered`] or [`Recorder::written`]. Returns the bytes of the record too.
    pub fn auction(&mut self, auction: &Auction, promised: usize, wall_ms: u64) -> (usize, Followup) {
        self.scratch.clear();
        auction.encode_record(&mut self.scratch);
        let used = self.publish(Kind::Auction, record::VERSION, wall_ms);
        let charges = auction.decision().wins.iter().filter(|w| w.account.is_some()).count();
        let followup = Followup::new(auction.inputs().event, charges);
        if let Some(producer) = &mut self.producer {
            producer.refund(promised - usize::from(followup.room.get()) - used);
        }
        (self.scratch.len(), followup)
    }

    /// Number of the last frame that was published; 0 where nothing is kept.
    pub fn frames(&self) -> u64 {
        self.producer.as_ref().map_or(0, Producer::frames)
    }

    /// The place in the box behind the last record, if answers wait until that is durable.
    pub fn durable_at(&self) -> Option<u64> {
        self.producer.as_ref().filter(|_| self.power).map(Producer::head)
    }

    /// The place in the box up to which everything is durable, if answers wait for that.
    pub fn durable(&mut self) -> Option<u64> {
        self.producer.as_mut().filter(|_| self.power).map(Producer::released)
    }

    /// Records a delivery that was not simply written in time, and what it freed: no more than winners whose accounts were
    /// charged. Returns the bytes of the record.
    pub fn delivered(&mut self, of: Followup, delivery: Delivery, freed: &[Freed], wall_ms: u64) -> usize {
        self.scratch.clear();
        delivery.encode(of.event, freed, &mut self.scratch);
        let used = self.publish(Kind::Delivery, delivery::FRAME_VERSION, wall_ms);
        if let Some(producer) = &mut self.producer {
            producer.refund(usize::from(of.room.get()) - used);
        }
        self.scratch.len()
    }

    /// A delivery that needs no record: its room is given back.
    pub fn written(&mut self, of: Followup) {
        if let Some(producer) = &mut self.producer {
            producer.refund(usize::from(of.room.get()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use outcry::{
        budget::{AccountId, Period},
        units::Money,
    };

    /// Whatever an auction's winners may free fits into what is kept of its promise, which was made for its impressions.
    #[test]
    fn a_delivery_fits_the_room_that_is_kept_for_it() {
        let event = EventId { node: 1, epoch: 2, core: 3, seq: 4 };
        let freed = [Freed { account: AccountId(7), period: Period(29_000_000), amount: Money(i64::MAX) }; IMPS_MAX];
        for charges in 0..=IMPS_MAX {
            let mut payload = Vec::new();
            Delivery::Late { at_ns: u64::MAX }.encode(event, &freed[..charges], &mut payload);
            let room = usize::from(Followup::new(event, charges).room.get());
            assert_eq!(frame::size(payload.len()), room, "{charges} charges");
            let mut recorder = Recorder::new(None, false, Hlc::default());
            assert_eq!(
                recorder.delivered(Followup { event, room: NonZeroU16::MAX }, Delivery::Failed, &freed[..charges], 0),
                payload.len()
            );
        }
    }
}
