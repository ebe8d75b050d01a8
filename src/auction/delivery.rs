//! How an answer reached the exchange: known after the record has left, so an event of its own, joined to it by the
//! event id.
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`, once per auction. Never: changes a decision.
//!
//! The payload of frames of kind 2. An auction without one was written in time, if its exchange was there to take it:
//! only what differs from that is kept. With it stands what was freed of the charges of an answer that was not delivered.
use crate::{
    budget::{AccountId, Period},
    limits::IMPS_MAX,
    record::codec::{Block, EVENT_BYTES, Reader, RecordError},
    units::{EventId, Money},
};

/// The frame's kind.
pub const KIND: u8 = 2;
/// The frame's version.
pub const FRAME_VERSION: u8 = 2;
/// First byte of an encoded delivery; no record begins so.
pub const VERSION: u8 = 0x82;
/// The same of version 1, which ends where the list of what was freed begins.
const VERSION_1: u8 = 0x81;

/// How the answer of an auction reached the exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// Its last byte was handed to the kernel in time.
    Written {
        /// When, nanoseconds since boot.
        at_ns: u64,
    },
    /// The same, after the deadline.
    Late {
        /// When, nanoseconds since boot.
        at_ns: u64,
    },
    /// The connection broke, or would not take it.
    Failed,
    /// The client was gone before there was an answer.
    ClientLeft,
}

/// A charge that is spent no more, since its bid was not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Freed {
    /// Whose.
    pub account: AccountId,
    /// The window that it had counted to.
    pub period: Period,
    /// How much, not negative.
    pub amount: Money,
}

/// A delivery as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// Of which auction.
    pub event: EventId,
    /// What became of its answer.
    pub delivery: Delivery,
    /// What was freed for it.
    pub freed: Vec<Freed>,
}

/// Version, event id, kind, time, how much was freed.
const BLOCK: usize = 1 + EVENT_BYTES + 1 + 8 + 1;
/// Account, period, amount.
const FREED: usize = 4 + 4 + 8;

/// Bytes of an encoded delivery that frees at most `freed` charges, as many as there are winners.
pub const fn bound(freed: usize) -> usize {
    BLOCK + if freed < IMPS_MAX { freed } else { IMPS_MAX } * FREED
}

impl Delivery {
    /// Appends it, with what was freed, as [`bound`] bytes. No more than [`IMPS_MAX`] charges: an auction has no more.
    pub fn encode(&self, event: EventId, freed: &[Freed], out: &mut Vec<u8>) {
        debug_assert!(freed.len() <= IMPS_MAX, "{} charges of one auction", freed.len());
        let freed = &freed[..freed.len().min(IMPS_MAX)];
        let (kind, at_ns) = match *self {
            Delivery::Written { at_ns } => (0, at_ns),
            Delivery::Late { at_ns } => (1, at_ns),
            Delivery::Failed => (2, 0),
            Delivery::ClientLeft => (3, 0),
        };
        Block::<BLOCK>::new().u8(VERSION).event(event).u8(kind).u64(at_ns).u8(freed.len() as u8).end(out);
        for f in freed {
            Block::<FREED>::new().u32(f.account.0).u32(f.period.0).u64(f.amount.0.max(0) as u64).end(out);
        }
    }

    /// Reads [`Delivery::encode`] back, and deliveries of version 1.
    ///
    /// # Errors
    /// [`RecordError`] of what is none.
    pub fn decode(bytes: &[u8]) -> Result<Known, RecordError> {
        let mut r = Reader { rest: bytes };
        let version = r.u8()?;
        if version != VERSION && version != VERSION_1 {
            return Err(RecordError::Version);
        }
        let (event, kind, at_ns) = (r.event()?, r.u8()?, r.u64()?);
        let delivery = match kind {
            0 => Delivery::Written { at_ns },
            1 => Delivery::Late { at_ns },
            2 => Delivery::Failed,
            3 => Delivery::ClientLeft,
            _ => return Err(RecordError::Value),
        };
        let mut freed = Vec::new();
        if version != VERSION_1 {
            for _ in 0..r.count8(IMPS_MAX)? {
                let account = Some(AccountId(r.u32()?)).filter(|a| a.is_some()).ok_or(RecordError::Value)?;
                freed.push(Freed { account, period: Period(r.u32()?), amount: r.money()? });
            }
        }
        r.end()?;
        Ok(Known { event, delivery, freed })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record, *};

    const EVENT: EventId = EventId { node: 9, epoch: 8, core: 7, seq: 6 };

    fn freed(n: usize) -> Vec<Freed> {
        let of = |n| Freed { account: AccountId(n), period: Period(29_000_000 + n), amount: Money(i64::from(n) << 33) };
        (1..=n as u32).map(of).collect()
    }

    #[test]
    fn deliveries_survive() {
        for delivery in
            [Delivery::Written { at_ns: 5 }, Delivery::Late { at_ns: 6 }, Delivery::Failed, Delivery::ClientLeft]
        {
            for n in [0, 1, IMPS_MAX] {
                let mut out = Vec::new();
                delivery.encode(EVENT, &freed(n), &mut out);
                assert_eq!(out.len(), bound(n));
                assert_eq!(Delivery::decode(&out), Ok(Known { event: EVENT, delivery, freed: freed(n) }));
                for len in 0..out.len() {
                    assert_eq!(Delivery::decode(&out[..len]), Err(RecordError::Short));
                }
                out.push(0);
                assert_eq!(Delivery::decode(&out), Err(RecordError::Trailing));
                out[0] = record::VERSION;
                assert_eq!(Delivery::decode(&out), Err(RecordError::Version));
            }
        }
    }

    /// The bytes of each version as they were written: never made anew.
    #[test]
    fn deliveries_of_every_version_are_read() {
        let late = Delivery::Late { at_ns: 0x0102 };
        let event = b"\x09\0\0\0\x08\0\0\0\x07\0\x06\0\0\0\0\0\0\0";
        let v1 = [b"\x81", &event[..], b"\x01\x02\x01\0\0\0\0\0\0"].concat();
        assert_eq!(Delivery::decode(&v1), Ok(Known { event: EVENT, delivery: late, freed: vec![] }));
        let one = b"\x01\x01\0\0\0\x41\x81\xba\x01\0\0\0\0\x02\0\0\0";
        let v2 = [b"\x82", &event[..], b"\x01\x02\x01\0\0\0\0\0\0", one].concat();
        assert_eq!(Delivery::decode(&v2), Ok(Known { event: EVENT, delivery: late, freed: freed(1) }));
        let mut out = Vec::new();
        late.encode(EVENT, &freed(1), &mut out);
        assert_eq!(out, v2, "the bytes of version 2 have changed");
    }

    #[test]
    fn what_cannot_be_freed_is_refused() {
        let mut good = Vec::new();
        Delivery::Failed.encode(EVENT, &freed(1), &mut good);
        let with = |at: usize, bytes: &[u8]| {
            let mut out = good.clone();
            out[at..at + bytes.len()].copy_from_slice(bytes);
            Delivery::decode(&out)
        };
        let first = bound(0);
        assert_eq!(with(first, &[0; 4]), Err(RecordError::Value), "nobody's");
        assert_eq!(with(first + 15, &[0x80]), Err(RecordError::Value), "a negative amount");
        assert_eq!(with(first - 1, &[IMPS_MAX as u8 + 1]), Err(RecordError::Value), "more than there are impressions");
    }
}
