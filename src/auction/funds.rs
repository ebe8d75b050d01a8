//! What the decision asks of money: can this account pay, hold this for it now, charge it.
//! Owns: nothing. Runs on: each bidder core. Called by: `clearing`, at the decision alone.
//! Never: waits. An implementation answers from what its core holds; "don't know" is no.
use crate::{
    budget::{AccountId, Period},
    openrtb::codes::Loss,
    units::{DspIx, Money, hash_bytes},
};

/// Whose money a bid spends. Names and hashes of names, so that an implementation may key on what survives reloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Account<'a> {
    /// The DSP's place in the running configuration.
    pub dsp: DspIx,
    /// [`dsp_key`] of its configured name: names are the operator's, and a ledger takes no two of one key.
    pub dsp_key: u64,
    /// [`seat_key`] of both: where to begin to look. Bidders choose seats, so it proves nothing.
    pub seat_key: u64,
    /// `seatbid.seat`, empty when absent. Whole: bids of longer seats than a record keeps are refused.
    pub seat: &'a [u8],
    /// `bid.cid`, empty when absent. Whole, likewise.
    pub cid: &'a [u8],
}

/// Tells DSPs apart.
pub fn dsp_key(name: &[u8]) -> u64 {
    hash_bytes(0, name)
}

/// Tells the seats of all DSPs apart, as far as hashes do.
pub fn seat_key(dsp_key: u64, seat: &[u8]) -> u64 {
    hash_bytes(dsp_key, seat)
}

impl<'a> Account<'a> {
    /// Of names alone; an auction has the keys already.
    pub fn of(dsp: DspIx, dsp_name: &[u8], seat: &'a [u8], cid: &'a [u8]) -> Account<'a> {
        let dsp_key = dsp_key(dsp_name);
        Account { dsp, dsp_key, seat_key: seat_key(dsp_key, seat), seat, cid }
    }
}

/// What the funds say of an account. The numbers stand in records: new ones are added, none is given again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Answer {
    /// It pays.
    Yes = 0,
    /// This core does not hold that much for it.
    NoMoney = 1,
    /// There is no such account.
    NoAccount = 2,
    /// It is paused.
    Paused = 3,
    /// The core's table has no room to note what it owes.
    Full = 4,
}

impl Answer {
    /// All of them, by their numbers.
    pub const ALL: [Answer; 5] = [Answer::Yes, Answer::NoMoney, Answer::NoAccount, Answer::Paused, Answer::Full];

    /// The answer of this number.
    pub fn of(number: u8) -> Option<Answer> {
        Answer::ALL.get(usize::from(number)).copied()
    }

    /// Why a bid that was answered so loses; of [`Answer::Yes`] [`Loss::Won`].
    pub fn loss(self) -> Loss {
        match self {
            Answer::Yes => Loss::Won,
            Answer::NoMoney => Loss::NoFunds,
            Answer::NoAccount => Loss::NoAccount,
            Answer::Paused => Loss::AccountPaused,
            Answer::Full => Loss::BudgetTableFull,
        }
    }
}

/// Where an amount is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticket {
    /// Whose it is; [`AccountId::NONE`]: nobody's, there is no budget to hold it.
    pub account: AccountId,
    /// The window that it counts to.
    pub period: Period,
    /// The account's place in the core's table: means nothing anywhere else.
    pub slot: u32,
}

/// Where funds found an account when they were asked whether it can pay, so that they need not look for it again in the same
/// decision. Means nothing in another, nor to anybody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(pub u32);

impl Place {
    /// It was not looked for: [`Funds::reserve`] does.
    pub const UNKNOWN: Place = Place(u32::MAX);
    /// It was looked for, and needs no money.
    pub const NOBODY: Place = Place(u32::MAX - 1);
}

/// One core's money as the decision sees it.
pub trait Funds {
    /// Could `account` pay `max`? Reserves nothing; a bid that cannot be paid neither wins nor sets a price.
    ///
    /// # Errors
    /// Why not, never [`Answer::Yes`].
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> Result<Place, Answer>;
    /// Holds `amount` for a winner, rounded up. Zero for requests with `test: 1`. `place` is what [`Funds::can_pay`] said of this
    /// account in this decision, or [`Place::UNKNOWN`].
    ///
    /// # Errors
    /// Why not, never [`Answer::Yes`]; nothing is held then.
    fn reserve(&mut self, account: &Account<'_>, place: Place, amount: Money) -> Result<Ticket, Answer>;
    /// Gives back a hold of this very decision: a `group=1` seat reserves all or nothing.
    fn release(&mut self, ticket: Ticket, amount: Money);
    /// The decision stands: of what is held, `charge` is spent, and the rest, which is what rounding left, is free again.
    /// Once for each winner, in the order in which they reserved.
    fn charge(&mut self, ticket: Ticket, reserved: Money, charge: Money);
}

/// Everybody can pay everything: what stands in where there are no budgets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl Funds for Unlimited {
    fn can_pay(&mut self, _: &Account<'_>, _: Money) -> Result<Place, Answer> {
        Ok(Place::NOBODY)
    }

    fn reserve(&mut self, _: &Account<'_>, _: Place, _: Money) -> Result<Ticket, Answer> {
        Ok(Ticket::default())
    }

    fn release(&mut self, _: Ticket, _: Money) {}

    fn charge(&mut self, _: Ticket, _: Money, _: Money) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_number_and_its_loss() {
        for (n, answer) in Answer::ALL.into_iter().enumerate() {
            assert_eq!((answer as usize, Answer::of(n as u8)), (n, Some(answer)));
            assert_eq!(Answer::ALL.into_iter().filter(|a| a.loss() == answer.loss()).count(), 1);
        }
        assert_eq!(Answer::of(5), None);
    }
}
