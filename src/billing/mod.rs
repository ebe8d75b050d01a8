//! What is billed, from the record alone: who pays, what came of each win, sums to the nano-unit.
//! Owns: the decisions of an invoice. Runs on: readers of journals. Called by: `outcry audit`.
//! Never: changes or writes a record; a correction is a record of its own, behind what it corrects, and a line of its own.
//!
//! [`accounts`] says whose a win is and in which month it was; [`settling`] turns frames into what they mean for money, in the
//! order of the journal; [`bill`] adds that up, [`wins`] follows each win. Both are fed the same, so what the one sums the
//! other can open. [`sources`] compares what several places say, [`told`] adds up what those say
//! that are no journals.
//!
//! What is kept in memory does not grow with the journal, but with what is under way in it at one time; each module says what
//! it keeps.
pub mod accounts;
pub mod bill;
pub mod named;
mod once;
pub mod settling;
pub mod sources;
pub mod told;
pub mod wins;

use crate::budget::AccountId;

/// Where a record is, and of when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spot {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// The segment.
    pub segment: u64,
    /// The frame in it.
    pub offset: u64,
}

/// Who pays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Payer {
    /// A campaign's account.
    Account(AccountId),
    /// Nobody's account: a buyer, by its number in [`settling::Settling::buyers`].
    Buyer(u32),
}

/// Who pays, and for when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Whose {
    /// Who.
    pub payer: Payer,
    /// The minute since 1970, UTC, that says on which day it counts: the beginning of the window that it is charged to, which
    /// is how the ledger has it too; without an account the auction's own.
    pub minute: u32,
}

#[cfg(test)]
mod tests;
