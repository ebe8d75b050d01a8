//! How an answer reached the exchange: known after the record has left, so an event of its own, joined to it by the
//! event id.
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`, once per auction. Never: changes a decision.
//!
//! The payload of frames of kind 2. An auction without one was written in time, if its exchange was there to take it:
//! only what differs from that is kept.
use crate::{
    record::codec::{Block, EVENT_BYTES, Reader, RecordError},
    units::EventId,
};

/// The frame's kind.
pub const KIND: u8 = 2;
/// The frame's version.
pub const FRAME_VERSION: u8 = 1;
/// First byte of an encoded [`Delivery`]; no record begins so.
pub const VERSION: u8 = 0x81;

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

impl Delivery {
    /// Bytes of an encoded delivery: version, event id, kind, time.
    pub const BYTES: usize = 1 + EVENT_BYTES + 1 + 8;

    /// Appends it as [`Delivery::BYTES`] bytes.
    pub fn encode(&self, event: EventId, out: &mut Vec<u8>) {
        let (kind, at_ns) = match *self {
            Delivery::Written { at_ns } => (0, at_ns),
            Delivery::Late { at_ns } => (1, at_ns),
            Delivery::Failed => (2, 0),
            Delivery::ClientLeft => (3, 0),
        };
        Block::<{ Delivery::BYTES }>::new().u8(VERSION).event(event).u8(kind).u64(at_ns).end(out);
    }

    /// Reads [`Delivery::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<(EventId, Delivery), RecordError> {
        let mut r = Reader { rest: bytes };
        if r.u8()? != VERSION {
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
        r.end()?;
        Ok((event, delivery))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record, *};

    #[test]
    fn deliveries_survive() {
        let event = EventId { node: 9, epoch: 8, core: 7, seq: 6 };
        for d in [Delivery::Written { at_ns: 5 }, Delivery::Late { at_ns: 6 }, Delivery::Failed, Delivery::ClientLeft] {
            let mut out = Vec::new();
            d.encode(event, &mut out);
            assert_eq!(out.len(), Delivery::BYTES);
            assert_eq!(Delivery::decode(&out), Ok((event, d)));
            out[0] = record::VERSION;
            assert_eq!(Delivery::decode(&out), Err(RecordError::Version));
        }
    }
}
