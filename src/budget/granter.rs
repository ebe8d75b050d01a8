//! The granter: who may spend how much of which account's window, and what became of it.
//! Owns: all books of money above the servers. Runs on: the ledger's thread, or a simulation. Called by: whoever carries asks
//! to it and its changes to a store. Never: reads a clock or a store; frees money because time has passed; counts a grant for
//! the campaign without its advertiser.
//!
//! It keeps everything in memory. What a call changed is in [`Granter::changes`]: the driver commits it in one transaction
//! *before* the reply leaves, so nobody uses what a crash could forget. If a commit fails, the granter is dropped and loaded.
//!
//! Why nothing is overspent: `committed` of a limit is the sum of what its lines have out, or had and spent; a grant raises
//! it by the same step as its line, and never above the ceiling; only three things lower it: the holder's word that it gave
//! money back, its word that a line is closed, and the complete record of a holder that is dead ([`settle`]). A lease that
//! expires lowers nothing: its money is in *quarantine*, spent until proven otherwise.
//!
//! | what comes | what keeps it harmless |
//! |---|---|
//! | the same ask again | nothing is granted; it is answered with the lines as they are |
//! | an older ask | not heard |
//! | an ask of an older start of a machine | fenced |
//! | an ask after the granter's own crash | its number was committed before its answer left |
//! | a statement that contradicts the books | changes nothing, stops the account ([`Violation`]) |
//! | a wall clock that jumps | windows that are in the archive never begin again |
//!
//! A window leaves memory when it has been over for an hour and none of its lines is open; what was spent in it goes to the
//! archive, as does what was spent of a day or an hour ([`Granter::tidy`]). So memory holds windows that run, those of the last
//! hour, and those with quarantined lines; the archive is bounded by [`ARCHIVE_DAYS`].
pub mod accounts;
mod books;
mod check;
mod grant;
mod line;
mod pass;
mod planted;
mod report;
pub mod rows;
pub mod settle;
mod show;
mod tidy;

#[cfg(test)]
mod tests;

use self::{
    accounts::Accounts,
    books::{Books, Slot},
    rows::{Change, HolderState, Row},
};
pub use self::{
    check::{Totals, Violation},
    line::{End, HolderId, Line, LineId},
    planted::Fault,
    show::{LineView, Standing},
    tidy::{ARCHIVE_DAYS, KEPT_MS},
};
use super::{
    AccountId, LineKey,
    messages::{Ask, AskLine, Reply},
};
use crate::units::{MS, Money, Now};
use std::collections::{BTreeMap, BTreeSet};

/// A grant may be used for so long after it was asked for, milliseconds.
pub const USABLE_MS: u64 = 25_000;
/// So much longer the granter takes it to be in use: clocks do not run alike.
pub const MARGIN_MS: u64 = 5_000;
/// The next window's lines are issued so long before it begins.
pub const AHEAD_MS: u64 = 60_000;
/// What a ceiling is at most, and what takes the place of none: a billion units. Sums of it stay inside 64 bits.
pub const CEILING_MAX: i64 = 1_000_000_000 * 1_000_000_000;

/// The books of one ledger.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Granter {
    books: Books,
    /// Accounts that a violation stopped.
    stopped: BTreeSet<AccountId>,
    /// Found and not yet told.
    violations: Vec<Violation>,
    /// How often each was found, by code.
    found: BTreeMap<u8, u64>,
    /// Where tidying goes on.
    tidied: tidy::Cursor,
}

/// How an ask is heard.
enum Heard {
    New,
    Again,
    Late,
    Fenced,
}

impl Granter {
    /// With the rows of a store, none for a new one. Every open line counts as granted now, `now` being this start's clock.
    ///
    /// # Errors
    /// The rows do not add up: nothing may be granted from them.
    pub fn load(rows: impl IntoIterator<Item = Row>, now: Now) -> Result<Granter, Violation> {
        let longest = AHEAD_MS + USABLE_MS + MARGIN_MS;
        let books = Books::load(rows, now.boot_ns.saturating_add(longest * MS));
        let stopped = books.accounts.iter().filter(|(_, row)| row.stopped != 0).map(|(id, _)| *id).collect();
        let granter =
            Granter { books, stopped, violations: vec![], found: BTreeMap::new(), tidied: tidy::Cursor::default() };
        granter.audit(now.boot_ns)?;
        Ok(granter)
    }

    /// Hears an ask and answers it. Its changes have to be durable before the reply leaves.
    pub fn ask<A: Accounts>(&mut self, accounts: &A, ask: &Ask, now: Now) -> Reply {
        let holder = HolderId { node: ask.node, epoch: ask.epoch };
        let mut reply = Reply { node: ask.node, epoch: ask.epoch, req: ask.req, ..Reply::default() };
        self.books.touched();
        let again = match self.hear(holder, ask.req) {
            Heard::New => false,
            Heard::Again => true,
            Heard::Late => return reply,
            Heard::Fenced => {
                reply.fenced = true;
                return reply;
            }
        };
        let mut lines: Vec<&AskLine> = ask.lines.iter().collect();
        if !again {
            // What contradicts the books stops its account before anything of it is renewed.
            if let Some(cut) = &ask.cut {
                self.cut(holder, cut);
            }
            // What comes back first, so that it can be granted again at once.
            lines.retain(|line| match self.renewed(accounts, holder, line, now) {
                Some(renewed) => {
                    reply.lines.push(renewed);
                    false
                }
                None => {
                    self.report(holder, line);
                    true
                }
            });
        }
        self.answer(accounts, (ask, &lines), again, now, &mut reply.lines);
        // Whatever it changed: if it were heard again after this granter's death, when its answer has come, it could be
        // granted what its holder would never hear of.
        if !again || self.books.touched() {
            self.books.holder_mut(holder).row.req = ask.req;
        }
        reply
    }

    fn hear(&mut self, holder: HolderId, req: u64) -> Heard {
        let fences = !self.books.planted.has(Fault::NoFence);
        let latest = self.books.latest(holder.node);
        if latest.is_some_and(|latest| latest > holder.epoch) && fences {
            return Heard::Fenced;
        }
        if latest.is_none_or(|latest| latest < holder.epoch) {
            self.bury(holder);
        }
        let known = self.books.holders.entry(holder).or_default();
        if known.row.state != HolderState::Live && fences {
            return Heard::Fenced;
        }
        match req.cmp(&known.heard) {
            std::cmp::Ordering::Less => Heard::Late,
            std::cmp::Ordering::Equal => Heard::Again,
            std::cmp::Ordering::Greater => {
                known.heard = req;
                Heard::New
            }
        }
    }

    /// A new start of a machine: what the older ones held is in quarantine from now on.
    fn bury(&mut self, new: HolderId) {
        let before = HolderId { epoch: 0, ..new }..new;
        let living = self.books.holders.range(before).filter(|(_, h)| h.row.state == HolderState::Live);
        for id in living.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.books.holder_mut(id).row.state = HolderState::Dead;
            if self.books.planted.has(Fault::QuarantineReleasedEarly) {
                self.settle(id, &[], true);
            }
        }
        self.books.holder_mut(new);
    }

    /// What the store has to be told since this was called before, for one transaction; each row once.
    pub fn changes(&mut self) -> Vec<Change> {
        self.books.changes()
    }

    /// Has the store to be told of anything?
    pub fn has_changes(&self) -> bool {
        self.books.unsaid()
    }

    /// Makes a mistake from now on.
    #[cfg(debug_assertions)]
    pub fn plant(&mut self, fault: Fault) {
        self.books.planted.plant(fault);
    }

    /// A statement is not believed, or something does not add up: the account is stopped until somebody has looked.
    fn violated(&mut self, violation: Violation) {
        *self.found.entry(violation.code()).or_default() += 1;
        if let Some(account) = violation.account() {
            self.stopped.insert(account);
            if self.books.accounts.get(&account).is_none_or(|row| row.stopped == 0) {
                self.books.account_mut(account).stopped = violation.code();
            }
        }
        // A holder that repeats itself forever is counted, not listed.
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    fn is_archived(&self, key: LineKey) -> bool {
        self.books.accounts.get(&key.account).is_some_and(|row| row.archived.0 != 0 && key.period <= row.archived)
    }

    fn is_quarantined(&self, slot: &Slot, now_ns: u64) -> bool {
        slot.line.end == End::Open && self.whose(slot, now_ns) == Whose::Quarantined
    }

    fn whose(&self, slot: &Slot, now_ns: u64) -> Whose {
        match self.books.holders.get(&slot.holder).map(|h| h.row.state) {
            Some(HolderState::Live) if slot.until_ns > now_ns => Whose::Leased,
            // A line that its settlement left open waits for notices, and for nothing else.
            Some(HolderState::Settled) if slot.line.held > Money(0) => Whose::Spent,
            _ => Whose::Quarantined,
        }
    }
}

/// What the part of an open line is that is not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    /// A holder's that lives.
    Leased,
    /// Nobody knows.
    Quarantined,
    /// The record has proved it spent.
    Spent,
}

/// Violations that wait to be told at once.
const VIOLATIONS_MAX: usize = 1_000;
