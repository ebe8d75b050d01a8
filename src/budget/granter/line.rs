//! What one start of one machine has of one window.
//! Owns: a line's sums and its equation. Called by: `books`, `settle`, `report`. Never: knows of other lines or of limits.
use crate::{
    budget::{AccountId, LineKey, Period},
    units::Money,
};

/// A start of the process on a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HolderId {
    /// The machine.
    pub node: u32,
    /// Its start: the fencing token.
    pub epoch: u32,
}

/// A line as the granter names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LineId {
    /// Of which window.
    pub key: LineKey,
    /// Whose.
    pub holder: HolderId,
}

impl LineId {
    /// The campaign.
    pub fn account(self) -> AccountId {
        self.key.account
    }
    /// The window.
    pub fn period(self) -> Period {
        self.key.period
    }
}

impl std::fmt::Display for LineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let LineId { key, holder } = self;
        write!(f, "account {} window {} node {} epoch {}", key.account.0, key.period.0, holder.node, holder.epoch)
    }
}

/// How far a line is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum End {
    /// Money of it may be out.
    #[default]
    Open,
    /// Its holder says that nothing is out; what was not returned is spent. It may go on.
    Closed,
    /// Its holder is dead, and the record proves what was spent. For good.
    Proven,
    /// Its holder is dead, and nothing proves that anything is left: spent in full. For good.
    Forfeit,
}

/// The sums of a line, each since it began; nano-units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Line {
    /// Only the granter raises it.
    pub granted: Money,
    /// Only the holder raises it, or the settlement of a dead one.
    pub returned: Money,
    /// Part of what is out: reservations that outlive leases.
    pub held: Money,
    /// Charged as of the holder's last cut.
    pub charged: Money,
    /// Freed as of the holder's last cut.
    pub freed: Money,
    /// Is anything out?
    pub end: End,
}

impl Line {
    /// What counts in the buckets: granted and not returned. Once nothing is out it is what was spent.
    pub fn out(&self) -> Money {
        Money(self.granted.0 - self.returned.0)
    }

    /// What was spent for good. Of an open line: nothing yet.
    pub fn spent(&self) -> Money {
        if self.end == End::Open { Money(0) } else { self.out() }
    }

    /// What is known to have been spent as of the last cut, at most what is out.
    pub fn known_spent(&self) -> Money {
        Money((self.charged.0 - self.freed.0).clamp(0, self.out().0))
    }

    /// Its equation: sums are not negative, no more came back than went out, no more is held than is out, and nothing is held
    /// when nothing is out.
    pub fn holds(&self) -> bool {
        let Line { granted, returned, held, charged, freed, end } = *self;
        let none_negative = [granted, returned, held, charged, freed].iter().all(|m| m.0 >= 0);
        none_negative
            && returned <= granted
            && held <= self.out()
            && freed <= charged
            && (end == End::Open || held == Money(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sums: [i64; 5], end: End) -> Line {
        let [granted, returned, held, charged, freed] = sums.map(Money);
        Line { granted, returned, held, charged, freed, end }
    }

    #[test]
    fn the_equation() {
        for (sums, end, holds) in [
            ([10, 4, 6, 3, 1], End::Open, true),
            ([10, 4, 7, 3, 1], End::Open, false),
            ([10, 11, 0, 0, 0], End::Open, false),
            ([10, 4, 1, 3, 1], End::Closed, false),
            ([10, 4, 0, 3, 1], End::Proven, true),
            ([10, 4, 0, 3, 4], End::Open, false),
            ([-1, -1, 0, 0, 0], End::Open, false),
        ] {
            assert_eq!(line(sums, end).holds(), holds, "{sums:?} {end:?}");
        }
    }

    #[test]
    fn spent_is_what_did_not_come_back() {
        assert_eq!(line([10, 4, 0, 3, 1], End::Open).spent(), Money(0));
        assert_eq!(line([10, 4, 0, 3, 1], End::Closed).spent(), Money(6));
        // Freed after the cut and returned since.
        assert_eq!(line([10, 9, 0, 3, 1], End::Open).known_spent(), Money(1));
    }
}
