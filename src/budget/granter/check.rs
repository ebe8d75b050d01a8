//! What must hold of the books, and what is found where it does not.
//! Owns: the invariants' names. Called by: every step, for the line and the buckets it touches; `audit`, for all of them.
//! Never: mends anything.
use super::{End, Granter, HolderId, LineId, Whose, pass::Pass, rows::Key};
use crate::{
    budget::{AccountId, window::BucketKey},
    units::Money,
};

/// An invariant that does not hold. The account is stopped until a person has looked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Violation {
    /// Its holder speaks of a line, and of money in it, that no grant is known of: the ledger was put back to an older state, or
    /// the holder's books are lost.
    #[error("known-line: {0}: its holder had money of it, the granter knows of no grant")]
    Unknown(LineId),
    /// Both sides' sums of what was granted differ.
    #[error("same-granted: {id}: its holder was granted {said}, the granter says {known}")]
    Granted {
        /// Where.
        id: LineId,
        /// By the holder.
        said: Money,
        /// By the granter.
        known: Money,
    },
    /// What was returned fell, or is more than was out.
    #[error("returned-rises-to-granted: {id}: its holder returned {said}, after {known}, of {granted}")]
    Returned {
        /// Where.
        id: LineId,
        /// By the holder.
        said: Money,
        /// Before.
        known: Money,
        /// In all.
        granted: Money,
    },
    /// More is held than is out.
    #[error("held-is-out: {id}: its holder holds {held} for notices, {out} is out")]
    Held {
        /// Where.
        id: LineId,
        /// By the holder.
        held: Money,
        /// By the granter.
        out: Money,
    },
    /// A closed line does not add up.
    #[error("granted = spent + returned: {id}: closed with {spent} spent, {out} was not returned")]
    Closed {
        /// Where.
        id: LineId,
        /// By the holder.
        spent: Money,
        /// Granted and not returned.
        out: Money,
    },
    /// The sums of a cut fell, or are more than was granted.
    #[error("cut-rises-to-granted: {id}: a cut says {charged} charged and {freed} freed")]
    Cut {
        /// Where.
        id: LineId,
        /// By the holder.
        charged: Money,
        /// By the holder.
        freed: Money,
    },
    /// The numbers of a cut's frames fell, or there are more or fewer cores.
    #[error("cut-rises: node {} epoch {}: the frames of a cut fell", .0.node, .0.epoch)]
    Frames(HolderId),
    /// A dead holder's record does not fit what it had.
    #[error("record-fits-grants: {id}: the record says {charged} charged, {freed} freed, {held} held; {out} was out")]
    Record {
        /// Where.
        id: LineId,
        /// By the record.
        charged: Money,
        /// By the record.
        freed: Money,
        /// By the record.
        held: Money,
        /// By the granter.
        out: Money,
    },
    /// A line's own equation.
    #[error("granted = spent + held + free + returned: {0}")]
    Equation(LineId),
    /// A limit's sum.
    #[error("committed = what its lines have out: account {} {:?} from {}", .0.account.0, .0.span, .0.start.0)]
    Bucket(BucketKey),
    /// A grant went above a limit.
    #[error("committed <= ceiling: account {} {:?} from {}: {committed} of {ceiling}", .key.account.0, .key.span, .key.start.0)]
    Ceiling {
        /// Which.
        key: BucketKey,
        /// What is out and spent.
        committed: Money,
        /// What may be.
        ceiling: Money,
    },
    /// A line is open though its holder was settled, or settled though its holder lives.
    #[error("settled-with-its-holder: {0}")]
    Orphan(LineId),
    /// A row of the store names another that is not there.
    #[error("complete-rows: {0:?}")]
    Missing(Key),
}

impl Violation {
    /// For a note that lasts, and for a label of a metric; never zero.
    pub fn code(&self) -> u8 {
        match self {
            Violation::Unknown(_) => 1,
            Violation::Granted { .. } => 2,
            Violation::Returned { .. } => 3,
            Violation::Held { .. } => 4,
            Violation::Closed { .. } => 5,
            Violation::Cut { .. } => 6,
            Violation::Frames(_) => 7,
            Violation::Record { .. } => 8,
            Violation::Equation(_) => 9,
            Violation::Bucket(_) => 10,
            Violation::Ceiling { .. } => 11,
            Violation::Orphan(_) => 12,
            Violation::Missing(_) => 13,
        }
    }

    /// The largest code.
    pub const CODES: usize = 13;

    /// The invariant behind a code, by name.
    pub fn name(code: u8) -> &'static str {
        const NAMES: [&str; Violation::CODES] = [
            "known-line",
            "same-granted",
            "returned-rises-to-granted",
            "held-is-out",
            "closed-adds-up",
            "cut-rises-to-granted",
            "cut-rises",
            "record-fits-grants",
            "line-adds-up",
            "bucket-adds-up",
            "committed-below-ceiling",
            "settled-with-its-holder",
            "complete-rows",
        ];
        usize::from(code).checked_sub(1).and_then(|at| NAMES.get(at)).unwrap_or(&"unknown")
    }

    /// Whose money it is about.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Violation::Unknown(id) | Violation::Equation(id) | Violation::Orphan(id) => Some(id.account()),
            Violation::Granted { id, .. }
            | Violation::Returned { id, .. }
            | Violation::Held { id, .. }
            | Violation::Closed { id, .. }
            | Violation::Cut { id, .. }
            | Violation::Record { id, .. } => Some(id.account()),
            Violation::Bucket(key) | Violation::Ceiling { key, .. } => Some(key.account),
            Violation::Frames(_) | Violation::Missing(_) => None,
        }
    }
}

/// All money of the lines in memory: `granted = returned + spent + held + leased + quarantined`, to the nano-unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Totals {
    /// In all.
    pub granted: Money,
    /// Came back.
    pub returned: Money,
    /// Of lines with nothing out: what did not come back.
    pub spent: Money,
    /// Of that, forfeited: no record proves it.
    pub forfeit: Money,
    /// Reserved for notices that outlive leases.
    pub held: Money,
    /// Out with holders that live, and may be in use.
    pub leased: Money,
    /// Out with holders that are dead, or did not renew in time: counts as spent until it is proven otherwise.
    pub quarantined: Money,
    /// Lines that have something in quarantine.
    pub quarantined_lines: u32,
    /// Lines in memory.
    pub lines: u32,
}

impl Totals {
    pub(super) fn add(&mut self, line: &super::Line, whose: Whose) {
        self.lines += 1;
        self.granted.0 += line.granted.0;
        self.returned.0 += line.returned.0;
        self.spent.0 += line.spent().0;
        if line.end == End::Forfeit {
            self.forfeit.0 += line.spent().0;
        }
        if line.end == End::Open {
            self.held.0 += line.held.0;
            let rest = line.out().0 - line.held.0;
            match whose {
                Whose::Quarantined => {
                    self.quarantined.0 += rest;
                    self.quarantined_lines += u32::from(rest > 0);
                }
                Whose::Leased => self.leased.0 += rest,
                Whose::Spent => self.spent.0 += rest,
            }
        }
    }

    /// The equation.
    pub fn conserved(&self) -> bool {
        self.granted.0 == self.returned.0 + self.spent.0 + self.held.0 + self.leased.0 + self.quarantined.0
    }
}

impl Granter {
    /// Sums everything anew and compares. Looks at every row at once: at a start, and after each step of a test;
    /// [`Granter::audit_on`] where asks wait.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn audit(&self, now_ns: u64) -> Result<Totals, Violation> {
        let (mut pass, mut found) = (Pass::default(), Vec::new());
        pass.step(self, now_ns, usize::MAX, &mut found);
        found.first().map_or(Ok(pass.totals), |violation| Err(*violation))
    }

    /// Goes on with an audit, or begins one, by up to `most` rows; asks may come in between. Accounts whose rows do not add up
    /// are stopped. Its changes are committed like an ask's. `Some`: it is over; each line is in the totals as it was when it
    /// was looked at.
    pub fn audit_on(&mut self, now_ns: u64, most: usize) -> Option<Totals> {
        let (mut pass, mut found) = (self.books.pass.take().unwrap_or_default(), Vec::new());
        let over = pass.step(self, now_ns, most, &mut found);
        found.into_iter().for_each(|violation| self.violated(violation));
        if over {
            return Some(pass.totals);
        }
        self.books.pass = Some(pass);
        None
    }

    /// Is an audit under way?
    pub fn is_auditing(&self) -> bool {
        self.books.pass.is_some()
    }
}
