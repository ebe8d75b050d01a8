//! What the decision asks of money: can this account pay, and hold this for it now.
//! Owns: nothing. Runs on: each bidder core. Called by: `clearing`, at the decision alone.
//! Never: waits. An implementation answers from what its core holds; "don't know" is no.
use crate::units::{DspIx, Money};

/// Whose money a bid spends. Names, so that an implementation may key on what survives reloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account<'a> {
    /// The DSP's place in the running configuration.
    pub dsp: DspIx,
    /// Its configured name.
    pub dsp_name: &'a [u8],
    /// `seatbid.seat`, empty when absent. Whole: bids of longer seats than a record keeps are refused.
    pub seat: &'a [u8],
    /// `bid.cid`, empty when absent. Whole, likewise.
    pub cid: &'a [u8],
}

/// One core's money as the decision sees it.
pub trait Funds {
    /// Could `account` pay `max`? Reserves nothing; a bid that cannot be paid neither wins nor sets a price.
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> bool;
    /// Holds `amount` for a winner, or answers no and holds nothing. Zero for requests with `test: 1`.
    fn reserve(&mut self, account: &Account<'_>, amount: Money) -> bool;
    /// Gives back a hold of this very decision: a `group=1` seat reserves all or nothing.
    fn release(&mut self, account: &Account<'_>, amount: Money);
}

/// Everybody can pay everything: what stands in until there are budgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Funds for Unlimited {
    fn can_pay(&mut self, _: &Account<'_>, _: Money) -> bool {
        true
    }

    fn reserve(&mut self, _: &Account<'_>, _: Money) -> bool {
        true
    }

    fn release(&mut self, _: &Account<'_>, _: Money) {}
}
