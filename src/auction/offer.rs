//! What of a request each DSP may be offered: the one place that says so.
//! Owns: nothing. Runs on: each bidder core, once an auction. Called by: `bidder/asking`. Never: looks at bids, or at one DSP
//! after the other: what DSPs state is compiled to sets ([`Targets`]).
use super::{Start, has_rate};
use crate::{
    dsp::targets::{Set, Targets},
    limits::IMPS_MAX,
    openrtb::request::{Deal, Imp},
    units::{Cpm, Currency},
};

/// What of a request can be offered, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Offers {
    /// DSPs that may buy something of it: media, seats, floors and currencies allow it. All others are
    /// [`NotEligible`](crate::openrtb::codes::Outcome::NotEligible).
    pub eligible: Set,
    /// Of those, the ones that state they want it. The others are
    /// [`NotTargeted`](crate::openrtb::codes::Outcome::NotTargeted).
    pub wanted: Set,
    /// Of those, the ones one of whose deals it has: they are asked before others.
    pub on_deal: Set,
    /// Of each impression, who is offered it; behind the last one anything.
    imps: [Set; IMPS_MAX],
    count: usize,
}

impl Default for Offers {
    /// Of nothing, to nobody.
    fn default() -> Offers {
        Offers { eligible: 0, wanted: 0, on_deal: 0, imps: [0; IMPS_MAX], count: 0 }
    }
}

impl Offers {
    /// Of this request, to the DSPs of `targets`; see [`Offers::set`].
    pub fn of(s: &Start<'_>, targets: &Targets) -> Offers {
        let mut offers = Offers::default();
        offers.set(s, targets);
        offers
    }

    /// From now on those of this request, to the DSPs of `targets`. Nobody is offered media it does not buy, refused impressions,
    /// those of private auctions none of whose deals its seats may use, floors that cannot be computed, and anything when the
    /// request lists none of its seats.
    #[inline]
    pub fn set(&mut self, s: &Start<'_>, targets: &Targets) {
        let r = s.request;
        (self.eligible, self.wanted, self.on_deal, self.count) = (0, 0, 0, 0);
        if super::answer_currency(s).1.is_none() {
            return;
        }
        let (wseat, bseat) = (r.wseat.of(&r.texts), r.bseat.of(&r.texts));
        let seated = targets.priced & targets.seated([wseat, &[]], bseat, s.body);
        let wants = targets.of_request(r, s.body);
        self.count = r.imps.len().min(IMPS_MAX);
        for (imp, out) in r.imps.iter().zip(&mut self.imps) {
            *out = 0;
            if imp.refused.is_some() {
                continue;
            }
            let deals = imp.deals.of(&r.deals);
            let usable = |d: &Deal| match computable(s, d.bidfloor, d.bidfloorcur) {
                true => seated & targets.seated([wseat, d.wseat.of(&r.texts)], bseat, s.body),
                false => 0,
            };
            let (buys, fits) = targets.of_imp(imp, r);
            let may = match is_open(s, imp) {
                true => seated & buys,
                false => deals.iter().fold(0, |set, d| set | usable(d)) & buys,
            };
            let mut wanted = may & wants & fits;
            if targets.lists_deals() != 0 {
                let theirs = deals.iter().fold(0, |set, d| {
                    let named = targets.of_deal(d.id, s.body);
                    if named == 0 { set } else { set | named & usable(d) }
                });
                let theirs = theirs & may;
                if imp.private_auction {
                    wanted &= !targets.lists_deals();
                }
                wanted |= theirs;
                self.on_deal |= theirs;
            }
            *out = wanted;
            self.eligible |= may;
            self.wanted |= wanted;
        }
    }

    /// The impressions that the DSP at this place of the configuration is offered, as bits.
    #[inline]
    pub fn to(&self, dsp: usize) -> u64 {
        if self.count == 1 {
            return self.imps[0] >> dsp & 1;
        }
        let imps = self.imps[..self.count].iter().enumerate();
        imps.fold(0, |imps, (at, set)| imps | (set >> dsp & 1) << at)
    }
}

/// Sold without a deal too.
fn is_open(s: &Start<'_>, imp: &Imp) -> bool {
    let medium = |(_, floor, currency)| computable(s, floor, currency);
    !imp.private_auction && (computable(s, imp.bidfloor, imp.bidfloorcur) || imp.media_floor.is_some_and(medium))
}

/// Nothing is nothing in every currency.
fn computable(s: &Start<'_>, floor: Cpm, currency: Currency) -> bool {
    floor <= Cpm::ZERO || has_rate(s, currency)
}
