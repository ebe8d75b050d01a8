//! The decision record: one auction as one value, its bytes, and deciding it again.
//! Owns: inputs, the funds' answers, the decision. Runs on: each bidder core (writes), readers of journals (read).
//! Called by: [`super::Auction`], and whoever audits. Never: holds an index of a configuration: names only.
//! Full: at most [`bound`] bytes, which is known before the auction begins: bids that would not fit are not looked at.
//!
//! The payload of frames of kind 1. The first byte is the version: `v5` is written, those before it are still read. How the bytes
//! lie: `src/record/SPEC.md`.
mod parts;
mod replaying;
pub mod room;
mod v1;
mod v2;
mod v3;
mod v4;
mod v5;

pub use crate::record::codec::RecordError;
pub use replaying::{Difference, replay};
pub use room::{Shape, bound};

use super::{
    clearing::{Decision, clear},
    funds::{Account, Answer, Funds, Place, Ticket},
    input::{Inputs, Kept},
};
use crate::units::{Cpm, Money};
use bumpalo::Bump;

/// The frame's kind.
pub const KIND: u8 = 1;
/// First byte of a record that is written today, and the frame's version.
pub const VERSION: u8 = v5::VERSION;

/// One auction: what went into its decision, and what came out.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What it was decided of.
    pub inputs: Inputs,
    /// What the funds answered, in the order in which they were asked.
    pub funds: Vec<Answer>,
    /// What was decided.
    pub decision: Decision,
    /// Nobody won, and these were answered for want of anything better. Nobody pays for them.
    pub house: Vec<HouseAd>,
}

/// A house ad in the place of a winner. It is no part of the decision, which is that there is no winner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HouseAd {
    /// Its place in the running configuration; not in the encoded record.
    pub ad: u8,
    /// The impression, in the request's order.
    pub imp: u8,
    /// What the answer says, CPM in the answer's currency.
    pub price: Cpm,
    /// Its `crid`, in [`Inputs::texts`].
    pub crid: Kept,
}

impl Record {
    pub(super) fn reset(&mut self) {
        self.inputs.reset();
        self.funds.clear();
        self.decision.wins.clear();
        self.decision.losses.clear();
        self.decision.nbr = None;
        self.house.clear();
    }

    /// Decides, writing down what the funds answer.
    pub(super) fn decide(&mut self, funds: &mut dyn Funds, arena: &Bump) {
        let mut heard = Heard { funds, answers: &mut self.funds };
        clear(&self.inputs, &mut heard, arena, &mut self.decision);
    }
}

struct Heard<'a> {
    funds: &'a mut dyn Funds,
    answers: &'a mut Vec<Answer>,
}

impl Funds for Heard<'_> {
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> Result<Place, Answer> {
        let found = self.funds.can_pay(account, max);
        self.answers.push(found.err().unwrap_or(Answer::Yes));
        found
    }

    fn reserve(&mut self, account: &Account<'_>, place: Place, amount: Money) -> Result<Ticket, Answer> {
        let held = self.funds.reserve(account, place, amount);
        self.answers.push(held.err().unwrap_or(Answer::Yes));
        held
    }

    fn release(&mut self, ticket: Ticket, amount: Money) {
        self.funds.release(ticket, amount);
    }

    fn charge(&mut self, ticket: Ticket, reserved: Money, charge: Money) {
        self.funds.charge(ticket, reserved, charge);
    }
}

impl Record {
    /// Appends the record's bytes, version [`VERSION`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        v5::encode(self, out);
    }

    /// Reads a record of any version. What was never in it (a DSP's index; what its version did not keep) is as
    /// [`Inputs::default`] has it.
    ///
    /// # Errors
    /// [`RecordError`]; nothing that is read makes it, or deciding what it gives, panic.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        match bytes.first() {
            None => Err(RecordError::Short),
            Some(&v1::VERSION) => v1::decode(bytes),
            Some(&v2::VERSION) => v2::decode(bytes),
            Some(&v3::VERSION) => v3::decode(bytes),
            Some(&v4::VERSION) => v4::decode(bytes),
            Some(&v5::VERSION) => v5::decode(bytes),
            Some(_) => Err(RecordError::Version),
        }
    }

    /// Reads what names an auction and says under which rules it ran: no impression, DSP or bid, and no decision.
    ///
    /// # Errors
    /// [`RecordError`], as far as it was read.
    pub fn head(bytes: &[u8]) -> Result<Inputs, RecordError> {
        match bytes.first() {
            Some(&v2::VERSION) => v2::head(bytes),
            Some(&v3::VERSION) => v3::head(bytes),
            Some(&v4::VERSION) => v4::head(bytes),
            Some(&v5::VERSION) => v5::head(bytes),
            _ => Record::decode(bytes).map(|record| record.inputs),
        }
    }
}

/// Do charges of this record wait for notices? Looks at nothing else.
pub fn awaits(bytes: &[u8]) -> bool {
    v5::awaits(bytes)
}

#[cfg(test)]
mod tests;
