//! What of a request a DSP may be offered.
//! Owns: nothing. Runs on: each bidder core, once a DSP. Called by: `bidder/asking`. Never: looks at bids.
use super::{Start, has_rate};
use crate::{
    config::resolved::Dsp,
    limits::IMPS_MAX,
    openrtb::text::Text,
    units::{Cpm, Currency},
};

/// What of a request can be sold, whoever buys it.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    /// The answer's prices can be said.
    answerable: bool,
    /// Impressions that are sold without a deal too, as bits.
    open: u64,
}

impl Offers {
    /// Of this request.
    pub fn of(s: &Start<'_>) -> Offers {
        let mut open = 0;
        for (at, imp) in s.request.imps.iter().take(IMPS_MAX).enumerate() {
            let medium = |(_, floor, currency)| computable(s, floor, currency);
            let sold = computable(s, imp.bidfloor, imp.bidfloorcur) || imp.media_floor.is_some_and(medium);
            open |= u64::from(!imp.private_auction && sold) << at;
        }
        Offers { answerable: super::answer_currency(s).1.is_some(), open }
    }

    /// The impressions that a DSP may be offered, as bits; 0: it is
    /// [`NotEligible`](crate::openrtb::codes::Outcome::NotEligible). Left out are media it does not buy, refused
    /// impressions, those of private auctions none of whose deals its seats may use, floors that cannot be computed, and
    /// everything when the request lists none of its seats.
    pub fn to(&self, s: &Start<'_>, dsp: &Dsp) -> u64 {
        let r = s.request;
        if !self.answerable || !dsp.currencies.is_empty() && !dsp.currencies.iter().any(|c| has_rate(s, *c)) {
            return 0;
        }
        // No seats configured: any, so some may be allowed.
        let some_seat = |allowed: &dyn Fn(&str) -> bool| dsp.seats.is_empty() || dsp.seats.iter().any(|x| allowed(x));
        let listed = |seat: &str, list: &[Text]| list.iter().any(|t| t.is(s.body, seat.as_bytes()));
        let (wseat, bseat) = (r.wseat.of(&r.texts), r.bseat.of(&r.texts));
        let allowed = |seat: &str| (wseat.is_empty() || listed(seat, wseat)) && !listed(seat, bseat);
        if !some_seat(&allowed) {
            return 0;
        }
        let mut imps = 0;
        for (at, imp) in r.imps.iter().take(IMPS_MAX).enumerate() {
            let on_deal = || {
                imp.deals.of(&r.deals).iter().any(|d| {
                    let wseat = d.wseat.of(&r.texts);
                    computable(s, d.bidfloor, d.bidfloorcur)
                        && some_seat(&|seat| allowed(seat) && (wseat.is_empty() || listed(seat, wseat)))
                })
            };
            if imp.refused.is_none() && imp.media.meets(dsp.media) && (self.open >> at & 1 == 1 || on_deal()) {
                imps |= 1 << at;
            }
        }
        imps
    }
}

/// Nothing is nothing in every currency.
fn computable(s: &Start<'_>, floor: Cpm, currency: Currency) -> bool {
    floor <= Cpm::ZERO || has_rate(s, currency)
}
