//! The inputs of one decision, typed: all that clearing looks at, and nothing that points elsewhere.
//! Owns: numbers and the kept texts. Runs on: each bidder core, pooled in [`super::Auction`].
//! Called by: the state machine (fills), `clearing` (reads), `record` (writes and reads back).
//! Never: refers to a request, an answer or a configuration; so a record of it can be decided again.
//! Full: counts are bounded by [`crate::limits`]; texts are cut at [`RECORD_TEXT_MAX`] with a mark.
use crate::{
    config::resolved::RunnerUp,
    limits::RECORD_TEXT_MAX,
    openrtb::{
        codes::{Loss, Outcome},
        request::{Channel, Media, Run},
        text::Text,
    },
    record::{stages::StageTimes, trace::TraceId, user::User},
    units::{Cpm, Currency, DspIx, EventId, Multiplier, Probability, Rate},
};

/// A text kept in [`Inputs::texts`], at most [`RECORD_TEXT_MAX`] bytes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// First byte.
    pub at: u32,
    /// Bytes.
    pub len: u16,
    /// It was longer.
    pub cut: bool,
}

/// A floor as it was stated, and what it is in the accounting currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Floor {
    /// In [`Floor::currency`].
    pub amount: Cpm,
    /// As stated.
    pub currency: Currency,
    /// In the accounting currency, rounded up. `None`: the currency has no rate, so nothing can be sold over it.
    pub due: Option<Cpm>,
}

/// One impression.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ImpIn {
    /// `imp.id`
    pub id: Kept,
    /// `imp.tagid`: the placement.
    pub tagid: Kept,
    /// `bidfloor`
    pub floor: Floor,
    /// The floor of one medium, which goes before `bidfloor` for it.
    pub media_floor: Option<(Media, Floor)>,
    /// `qty.multiplier`
    pub qty: Multiplier,
    /// `pmp.private_auction`
    pub private: bool,
    /// Not offered to anybody.
    pub refused: bool,
    /// Its deals in [`Inputs::deals`].
    pub deals: Run,
}

/// One deal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DealIn {
    /// `deal.id`
    pub id: Kept,
    /// `deal.bidfloor`; with `at` 3 the agreed price.
    pub floor: Floor,
    /// `deal.at`, 0 when the request's applies.
    pub at: u32,
    /// `deal.guar`
    pub guar: bool,
}

/// One DSP that was asked. Times are nanoseconds since boot, 0 when it did not come to that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// Its place in the running configuration; not in the encoded record.
    pub dsp: DspIx,
    /// Its name.
    pub name: Kept,
    /// Tells DSPs apart in the decision: a hash of the whole name.
    pub dsp_key: u64,
    /// Which impressions it was offered, as bits.
    pub imps: u64,
    /// What became of it, once that is known.
    pub outcome: Option<Outcome>,
    /// It was still pending when the auction was decided.
    pub closed_by_decision: bool,
    /// Handed to egress.
    pub queued_ns: u64,
    /// The last byte of the request was sent.
    pub sent_ns: u64,
    /// The first byte of the answer came.
    pub first_byte_ns: u64,
    /// The outcome was known.
    pub done_ns: u64,
    /// The currency of its prices.
    pub currency: Currency,
    /// That currency's rate at the time.
    pub rate: Rate,
    /// `nbr` of its answer.
    pub nbr: Option<u32>,
    /// Bids in its answer.
    pub bids_seen: u32,
    /// Of these, not objects, or without usable `id` or `impid`.
    pub bids_unusable: u32,
    /// Of these, beyond what is looked at ([`Loss::TooMany`]).
    pub bids_dropped: u32,
    /// With which probability it was asked. Before version 5 of the record nobody was asked otherwise than always.
    pub asked_probability: Probability,
}

/// One DSP that was not asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAsked {
    /// Its name.
    pub name: Kept,
    /// Why.
    pub outcome: Outcome,
    /// The probability that it had, if that is why; else, as it was not by chance, always.
    pub asked_probability: Probability,
}

/// [`BidIn::imp`] of a bid whose impression was not offered to its DSP.
pub const NO_IMP: u8 = u8::MAX;
/// [`BidIn::deal`] of an open bid.
pub const NO_DEAL: u16 = u16::MAX;

/// One bid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BidIn {
    /// Whose: an index into [`Inputs::legs`].
    pub leg: u8,
    /// Which in that leg's `Response::bids`.
    pub index: u16,
    /// For what: an index into [`Inputs::imps`], or [`NO_IMP`].
    pub imp: u8,
    /// Which `seatbid` it stood in.
    pub seatbid: u16,
    /// `seatbid.group`
    pub group: bool,
    /// In [`Leg::currency`].
    pub price: Cpm,
    /// Its deal in [`Inputs::deals`], or [`NO_DEAL`].
    pub deal: u16,
    /// Stated or inferred; of no medium when it lost before that was looked at.
    pub media: Media,
    /// Tells seats apart: a hash of DSP and seat, whole.
    pub seat_key: u64,
    /// A hash of what it says: breaks ties together with [`Inputs::entropy`].
    pub content: u64,
    /// [`Loss::Won`]: it takes part. Else why it does not, by `eligibility`.
    pub verdict: Loss,
    /// `seatbid.seat`
    pub seat: Kept,
    /// `bid.id`
    pub id: Kept,
    /// `cid`
    pub cid: Kept,
    /// `crid`
    pub crid: Kept,
    /// The first of `adomain`.
    pub adomain: Kept,
}

/// What is kept of a text: all of it, or its first [`RECORD_TEXT_MAX`] bytes, less those of a character that ends behind
/// them (at most three).
pub fn kept_of(text: &[u8]) -> &[u8] {
    if text.len() <= RECORD_TEXT_MAX {
        return text;
    }
    let mut len = RECORD_TEXT_MAX;
    while len > RECORD_TEXT_MAX - 4 && text[len] & 0xc0 == 0x80 {
        len -= 1;
    }
    &text[..len]
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The auction.
    pub event: EventId,
    /// The configuration it ran under: which of this start of the process.
    pub config_id: u64,
    /// The digest of that configuration's file; 0 in records of version 1.
    pub config_hash: u64,
    /// Drawn for it; breaks ties.
    pub entropy: u64,
    /// First byte of the request, nanoseconds since boot.
    pub arrival_ns: u64,
    /// Its last byte had come and it was taken up, nanoseconds since boot; 0 in records of version 1.
    pub whole_ns: u64,
    /// The same moment, milliseconds since 1970.
    pub wall_ms: u64,
    /// When the answer is due, nanoseconds since boot.
    pub deadline_ns: u64,
    /// Its requests to DSPs were out, by the end of that turn of the core, nanoseconds since boot; 0: nobody was asked, or
    /// it was decided in the same turn. Nor is it in records before version 3.
    pub asked_ns: u64,
    /// When it was decided, nanoseconds since boot; 0 before.
    pub decided_ns: u64,
    /// What is charged waits for billing notices until then, seconds since 1970, and comes home without one; 0: it is charged
    /// for good. Nor is it in records before version 4.
    pub awaited_s: u32,
    /// How long its stages took, if it is one whose stages are timed.
    pub stages: Option<StageTimes>,
    /// The trace that a `traceparent` header named. Not in records before version 3.
    pub trace: Option<TraceId>,
    /// The exchange's name.
    pub exchange: Kept,
    /// The region we serve, from the configuration.
    pub region: Kept,
    /// The rate table's id.
    pub rate_id: Kept,
    /// `request.id`
    pub request_id: Kept,
    /// `source.tid`: the transaction that all parties to this sale share.
    pub tid: Kept,
    /// `publisher.id` of site, app or dooh.
    pub publisher: Kept,
    /// Which of the three it was.
    pub channel: Channel,
    /// `device.geo.country` where it is three letters, else zeros.
    pub country: [u8; 3],
    /// `device.devicetype`, 0 when absent, 255 for what is above (the list ends at 8).
    pub device_type: u8,
    /// What is kept of the person.
    pub user: User,
    /// XXH3 of the request object, from its opening to its closing brace, as it came.
    pub digest: u64,
    /// What floors, ranks and charges are computed in.
    pub accounting: Currency,
    /// What the answer's prices are in.
    pub answer_currency: Currency,
    /// Its rate. `None`: no currency that the request allows has one, so nothing can win.
    pub answer_rate: Option<Rate>,
    /// `test` is 1: runs fully, is charged nothing.
    pub test: bool,
    /// `at`
    pub at: u32,
    /// Added to the runner-up, in the accounting currency.
    pub increment: Cpm,
    /// Who may set a winner's price.
    pub runner_up: RunnerUp,
    /// `imp[]`
    pub imps: Vec<ImpIn>,
    /// All deals.
    pub deals: Vec<DealIn>,
    /// All DSPs that were asked.
    pub legs: Vec<Leg>,
    /// All that were not, with the reason.
    pub not_asked: Vec<NotAsked>,
    /// All bids that were looked at, in the order in which their answers were read.
    pub bids: Vec<BidIn>,
    /// The kept texts.
    pub texts: Vec<u8>,
}

impl Default for Inputs {
    fn default() -> Self {
        Inputs {
            event: EventId::default(),
            config_id: 0,
            config_hash: 0,
            entropy: 0,
            arrival_ns: 0,
            whole_ns: 0,
            wall_ms: 0,
            deadline_ns: 0,
            asked_ns: 0,
            decided_ns: 0,
            awaited_s: 0,
            stages: None,
            trace: None,
            exchange: Kept::default(),
            region: Kept::default(),
            rate_id: Kept::default(),
            request_id: Kept::default(),
            tid: Kept::default(),
            publisher: Kept::default(),
            channel: Channel::Unknown,
            country: [0; 3],
            device_type: 0,
            user: User::Unknown,
            digest: 0,
            accounting: Currency::USD,
            answer_currency: Currency::USD,
            answer_rate: None,
            test: false,
            at: 2,
            increment: Cpm::ZERO,
            runner_up: RunnerUp::OtherDsp,
            imps: Vec::new(),
            deals: Vec::new(),
            legs: Vec::new(),
            not_asked: Vec::new(),
            bids: Vec::new(),
            texts: Vec::new(),
        }
    }
}

impl Inputs {
    /// Empties the vectors, keeping their room.
    pub fn reset(&mut self) {
        self.imps.clear();
        self.deals.clear();
        self.legs.clear();
        self.not_asked.clear();
        self.bids.clear();
        self.texts.clear();
        self.decided_ns = 0;
        self.stages = None;
    }

    /// The bytes of a kept text.
    pub fn text(&self, kept: Kept) -> &[u8] {
        self.texts.get(kept.at as usize..kept.at as usize + kept.len as usize).unwrap_or(&[])
    }

    /// Keeps a JSON string, escapes resolved, cut at a character's end when it is too long.
    pub(super) fn keep(&mut self, text: Text, buf: &[u8]) -> Kept {
        if !text.escaped() {
            return self.keep_bytes(text.raw(buf));
        }
        let at = self.texts.len();
        self.texts.extend(text.bytes(buf).take(RECORD_TEXT_MAX + 1));
        self.kept_since(at)
    }

    /// Keeps plain bytes likewise.
    #[inline]
    pub(super) fn keep_bytes(&mut self, bytes: &[u8]) -> Kept {
        let at = self.texts.len();
        self.texts.extend_from_slice(&bytes[..bytes.len().min(RECORD_TEXT_MAX + 1)]);
        self.kept_since(at)
    }

    #[inline]
    fn kept_since(&mut self, at: usize) -> Kept {
        let len = self.texts.len() - at;
        if len > RECORD_TEXT_MAX { self.cut(at) } else { Kept { at: at as u32, len: len as u16, cut: false } }
    }

    /// Keeps less of what was kept at `at`.
    #[cold]
    fn cut(&mut self, at: usize) -> Kept {
        let len = kept_of(&self.texts[at..]).len();
        self.texts.truncate(at + len);
        Kept { at: at as u32, len: len as u16, cut: true }
    }

    /// It was decided after its answer was due.
    pub fn late(&self) -> bool {
        self.decided_ns > self.deadline_ns
    }

    /// Bids that were not looked at, of all answers: [`Loss::TooMany`].
    pub fn bids_dropped(&self) -> u64 {
        self.legs.iter().map(|l| u64::from(l.bids_dropped)).sum()
    }

    /// What a bid has to reach: the deal's floor if it bids on one, else its medium's, else the impression's.
    pub fn floor_of(&self, bid: &BidIn) -> Option<Floor> {
        if bid.deal != NO_DEAL {
            return self.deals.get(bid.deal as usize).map(|d| d.floor);
        }
        let imp = self.imps.get(bid.imp as usize)?;
        match imp.media_floor {
            Some((media, floor)) if media.meets(bid.media) => Some(floor),
            _ => Some(imp.floor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters_with_a_mark() {
        let mut inputs = Inputs::default();
        for (text, want_len, want_cut) in [
            ("a".repeat(RECORD_TEXT_MAX), RECORD_TEXT_MAX, false),
            ("a".repeat(RECORD_TEXT_MAX + 1), RECORD_TEXT_MAX, true),
            ("a".to_string() + &"\u{20ac}".repeat(60), RECORD_TEXT_MAX - 1, true),
            (String::new(), 0, false),
        ] {
            let kept = inputs.keep_bytes(text.as_bytes());
            assert_eq!((kept.len as usize, kept.cut), (want_len, want_cut), "{text}");
            assert!(std::str::from_utf8(inputs.text(kept)).is_ok(), "{text}");
        }
    }
}
