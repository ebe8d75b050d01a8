//! Requests and answers of chosen auctions, copied for the thread that keeps them.
//! Owns: the core's end of the ring. Runs on: each bidder core. Called by: the bidder, as an auction ends.
//! Never: allocates, waits, hands over a part of an auction. Full: the auction is not kept, and counted.
use super::{
    flight::{Flight, Heard, LegAnswers},
    snapshot::Snapshot,
};
use outcry::{
    auction::Answers,
    openrtb::response::Response,
    record::{
        labels::Counter,
        metrics::CoreMetrics,
        raw::{Head, Message, What, frame_bytes, write_frame},
    },
};
use rtrb::Producer;

/// See the module.
#[derive(Debug, Default)]
pub struct Copies {
    ring: Option<Producer<u8>>,
}

impl Copies {
    /// Into this ring.
    pub fn into(ring: Producer<u8>) -> Copies {
        Copies { ring: Some(ring) }
    }

    /// Hands over what an auction received and what it answered: a status and a body.
    pub fn keep(
        &mut self,
        flight: &Flight,
        snapshot: &Snapshot,
        views: &[Response],
        (status, body): (u16, &[u8]),
        metrics: &mut CoreMetrics,
    ) {
        let Some(ring) = &mut self.ring else { return };
        let config = snapshot.config();
        let (bytes, body_at) = flight.bytes();
        let (legs, none) = (flight.legs(), &b""[..]);
        let answers = LegAnswers { legs, views, fetched: &[] };
        let request = Message { what: What::Request, dsp: none, status: 0, body: &bytes[body_at..] };
        let sent = Message { what: What::Sent, dsp: none, status, body };
        let heard = legs.iter().enumerate().filter_map(|(at, leg)| {
            let Heard::Answer(status) = leg.heard else { return None };
            let dsp = config.dsps[leg.dsp.0 as usize].name.as_bytes();
            Some(Message { what: What::Answer, dsp, status, body: answers.leg(at as u8).1 })
        });
        let messages = std::iter::once(request).chain(heard).chain(std::iter::once(sent));
        let exchange = config.exchanges[flight.exchange.0 as usize].name.as_bytes();
        let head = Head { event: flight.event, wall_ms: flight.begun.unix_ms(), exchange };
        let bytes = frame_bytes(&head, messages.clone());
        if ring.slots() < bytes {
            return metrics.count(Counter::RawRingFull);
        }
        write_frame(bytes, &head, messages, |piece| {
            // There is room for all of them: it was looked at, and nobody else writes here.
            let put = ring.push_entire_slice(piece);
            debug_assert!(put.is_ok());
        });
    }
}
