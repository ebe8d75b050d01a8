//! How long a record can become: known before the auction begins, so that room for it can be set aside.
//! Owns: nothing. Runs on: each bidder core, at admission and when an answer is read. Called by: admission, [`super::super::Auction`].
//!
//! All of a record but its bids follows from the request and the configuration. Bids get a stated room: each DSP
//! `leg_room` bytes, so that none crowds out another, whoever answers first. A bid that would not fit, and those of
//! its answer behind it, lose as [`crate::openrtb::codes::Loss::TooMany`] and are counted; so no record is longer than
//! [`bound`] said, and every DSP has room for one bid at least, however long its texts.
use crate::{
    config::resolved::Dsp,
    limits::{ASKED_MAX, BIDS_MAX, DEALS_MAX, DSPS_MAX, HOUSE_CRID_MAX, IMPS_MAX, RECORD_TEXT_MAX},
    openrtb::text::Text,
    record::{
        codec::{EVENT_BYTES, U40_BYTES},
        stages::StageTimes,
    },
};

/// An amount and what follows it when it is not in the accounting currency: currency and what is due.
pub(super) const FLOOR_REST: usize = 3 + U40_BYTES;
/// Version, flags, event; configuration twice, entropy, two times; three spans; digest; two currencies, rate, `at`,
/// increment; channel, country, device type, user; six lengths; counts of impressions, deals, legs, others, bids, funds'
/// answers and winners; `nbr`; one more span; count of house ads.
pub(super) const HEAD_BLOCK: usize = 2
    + EVENT_BYTES
    + 5 * 8
    + 4 * U40_BYTES
    + 8
    + (3 + 3 + 8 + 4 + U40_BYTES)
    + 6
    + 6
    + (1 + 2 + 1 + 1 + 2 + 2 + 1)
    + 2
    + 1;
/// Salt and hash of a user.
pub(super) const USER: usize = 4 + 8;
/// The id of a trace.
pub(super) const TRACE: usize = 16;
/// The times of the stages.
pub(super) const STAGES: usize = StageTimes::COUNT * U40_BYTES;
/// Until when its reservations wait for notices.
pub(super) const AWAITED: usize = 4;
/// Flags, two lengths, floor.
pub(super) const IMP_BLOCK: usize = 1 + 2 + U40_BYTES;
/// Medium and its floor.
pub(super) const MEDIA_FLOOR: usize = 1 + U40_BYTES + FLOOR_REST;
/// Flags, `at`, length, floor.
pub(super) const DEAL_BLOCK: usize = 1 + 4 + 1 + U40_BYTES;
/// Flags, outcome, length, bids, four times.
pub(super) const LEG_BLOCK: usize = 1 + 1 + 1 + 1 + 4 * U40_BYTES;
/// Currency and rate.
pub(super) const LEG_RATE: usize = 3 + 8;
/// Three counts.
pub(super) const LEG_COUNTS: usize = 3 * 4;
/// The probability with which a DSP was asked, of 10,000.
pub(super) const PROBABILITY: usize = 2;
/// Outcome, length.
pub(super) const NOT_ASKED_BLOCK: usize = 2;
/// Flags, leg, index, impression, seatbid, price, medium, hash, loss, five lengths.
pub(super) const BID_BLOCK: usize = 1 + 1 + 2 + 1 + 2 + U40_BYTES + 1 + 8 + 2 + 5;
/// Flags, bid, four prices, two amounts.
pub(super) const WIN_BLOCK: usize = 1 + 2 + 4 * U40_BYTES + 2 * 8;
/// Account and period.
pub(super) const PAYER: usize = 4 + 4;
/// Impression, price, length.
pub(super) const HOUSE_BLOCK: usize = 1 + U40_BYTES + 1;

/// A head with all that it can have, six texts among it.
pub(crate) const HEAD: usize = HEAD_BLOCK + USER + TRACE + STAGES + AWAITED + 6 * RECORD_TEXT_MAX;
/// An impression: its floor's rest, a medium's floor, `qty`, deals, two texts.
pub(crate) const IMP: usize = IMP_BLOCK + FLOOR_REST + MEDIA_FLOOR + 8 + 4 + 2 * RECORD_TEXT_MAX;
/// A deal: its floor's rest, its id.
pub(crate) const DEAL: usize = DEAL_BLOCK + FLOOR_REST + RECORD_TEXT_MAX;
/// A DSP that was asked, without its name: impressions, rate, `nbr`, counts, the key of a name that was cut,
/// probability.
pub(crate) const LEG: usize = LEG_BLOCK + 8 + LEG_RATE + 4 + LEG_COUNTS + 8 + PROBABILITY;
/// A DSP that was not asked, without its name.
pub(crate) const NOT_ASKED: usize = NOT_ASKED_BLOCK + PROBABILITY;
/// What a bid takes beside its texts: its deal too.
pub(crate) const BID_BARE: usize = BID_BLOCK + 2;
/// A bid: five texts.
pub(crate) const BID: usize = BID_BARE + 5 * RECORD_TEXT_MAX;
/// A winner whose account is known.
pub(crate) const WIN: usize = WIN_BLOCK + PAYER;
// Where there is a house ad there is no winner, so it takes that one's room.
const _: () = assert!(HOUSE_BLOCK + HOUSE_CRID_MAX <= WIN);
/// Answers of the funds: a bid is asked about at most twice whether it can pay, and once to reserve.
pub(super) const FUNDS_OF_BID: usize = 3;

/// All answers of the funds about `bids` bids: a bit each, and a byte for each no, which a bid hears once at most.
pub(super) const fn funds(bids: usize) -> usize {
    (FUNDS_OF_BID * bids).div_ceil(8) + bids
}

/// [`bound`] of everything at its bound at once, with room for every bid: [`crate::limits::RECORD_BYTES_MAX`].
pub(crate) const MAX: usize = HEAD
    + IMPS_MAX * (IMP + WIN)
    + DEALS_MAX * DEAL
    + ASKED_MAX * LEG
    + DSPS_MAX * (NOT_ASKED + RECORD_TEXT_MAX)
    + BIDS_MAX * BID
    + funds(BIDS_MAX);

/// What of a request and of the configuration decides how long its record can become.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Impressions of the request.
    pub imps: usize,
    /// Deals of the request, over all impressions.
    pub deals: usize,
    /// DSPs that are asked or not asked: those of the configuration.
    pub dsps: usize,
    /// Bytes of their names together, each at most [`RECORD_TEXT_MAX`]: [`names`].
    pub names: usize,
}

/// Bytes of these DSPs' names in a record: [`Shape::names`], computed once for a configuration.
pub fn names(dsps: &[Dsp]) -> usize {
    dsps.iter().map(|d| d.name.len().min(RECORD_TEXT_MAX)).sum()
}

/// The longest record that an auction of this shape can leave, in bytes, with `bid_bytes` of room for the bids of one
/// DSP on one impression. Never above [`crate::limits::RECORD_BYTES_MAX`].
pub fn bound(shape: &Shape, bid_bytes: usize) -> usize {
    let (imps, deals) = (shape.imps.min(IMPS_MAX), shape.deals.min(DEALS_MAX));
    let (dsps, asked) = (shape.dsps.min(DSPS_MAX), shape.dsps.min(ASKED_MAX));
    let bids = (asked * leg_room(imps, bid_bytes)).min(BIDS_MAX * BID);
    let bids_count = (bids / BID_BARE).min(BIDS_MAX);
    HEAD + imps * (IMP + WIN)
        + deals * DEAL
        + asked * LEG
        + dsps * NOT_ASKED
        + shape.names.min(dsps * RECORD_TEXT_MAX)
        + bids
        + funds(bids_count)
}

/// The bytes that the bids of one DSP may take in a record.
pub(crate) fn leg_room(imps: usize, bid_bytes: usize) -> usize {
    imps.min(IMPS_MAX).saturating_mul(bid_bytes).clamp(BID, BIDS_MAX * BID)
}

/// The most bytes that a bid with these texts takes in a record; what is written with escapes takes less.
pub(crate) fn bid_bytes(texts: [Text; 5]) -> usize {
    BID_BARE + texts.iter().map(|t| (t.span().len as usize).min(RECORD_TEXT_MAX)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RECORD_BYTES_MAX;

    #[test]
    fn everything_at_its_bound_is_the_limit() {
        let all = Shape { imps: IMPS_MAX, deals: DEALS_MAX, dsps: DSPS_MAX, names: DSPS_MAX * RECORD_TEXT_MAX };
        assert_eq!(bound(&all, BID), RECORD_BYTES_MAX);
        // Beyond what there can be it stays.
        let more = Shape { imps: usize::MAX, deals: usize::MAX, dsps: usize::MAX, names: usize::MAX };
        assert_eq!(bound(&more, usize::MAX), RECORD_BYTES_MAX);
    }

    #[test]
    fn a_usual_auction_needs_some_kilobytes() {
        let usual = Shape { imps: 2, deals: 1, dsps: 5, names: 5 * 8 };
        assert_eq!(bound(&usual, 1024), 12_810);
        assert_eq!(bound(&Shape::default(), 1024), HEAD);
    }
}
