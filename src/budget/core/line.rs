//! What a core has of one window of one account, and what may happen to it.
//! Owns: nothing. Runs on: each bidder core. Called by: the core's ledger. Never: changed into something that does not add
//! up: what would break the equation is refused by name, and the line stays as it was.
use super::moment::Moment;
use crate::{budget::Period, units::Money};

/// What does not hold of a line: our bug, or broken memory. Bidding for its account ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Invariant {
    /// Something is owed that was never there.
    #[error("no sum of a line is negative")]
    Negative,
    /// More came back of deliveries that failed than was charged.
    #[error("freed <= charged")]
    Freed,
    /// The equation of a core's line. Reservations that outlive their lease (what is *held*) are in `reserved` here: a core
    /// keeps them in one place.
    #[error("granted = charged - freed + reserved + free + returned")]
    Equation,
    /// Beyond what is counted.
    #[error("no sum of a line is above 2^61 nano-units")]
    Range,
}

/// Sums beyond this are nobody's money: two billion units. Four of them and a charged sum add up without wrapping.
const SUM_MAX: i64 = 1 << 61;

/// One line. A cache line each, so that a window is one read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(align(64))]
pub(super) struct Line {
    pub(super) granted: Money,
    pub(super) charged: Money,
    pub(super) freed: Money,
    pub(super) reserved: Money,
    /// What may be spent. Follows from the others, and is kept all the same: so that there is something to compare.
    pub(super) free: Money,
    pub(super) returned: Money,
    pub(super) from: Moment,
    pub(super) until: Moment,
    pub(super) period: Period,
    pub(super) state: State,
}

/// What becomes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// There was never one here.
    #[default]
    None,
    Runs,
    /// Nothing is spent any more: it is given back, told for the last time, forgotten.
    Stops,
    /// It is forgotten; its period and its end tell which it was.
    Gone,
}

/// What a line is told and has to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// There was a line of this window before, which was forgotten.
    pub(super) renewed: bool,
    /// Others need what it does not spend soon.
    pub(super) recall: bool,
    /// Something of it has changed since it was told.
    pub(super) changed: bool,
}

const _: () = assert!(size_of::<Line>() == 64);

type Change = Result<(), Invariant>;

impl Line {
    /// A new line without money.
    pub(super) fn new(period: Period, from: Moment, until: Moment) -> Line {
        let state = State { phase: Phase::Runs, ..State::default() };
        Line { period, from, until, state, ..Line::default() }
    }

    /// What is left of a line that is forgotten.
    pub(super) fn forget(&mut self) {
        let state = State { phase: Phase::Gone, ..State::default() };
        *self = Line { period: self.period, until: self.until, state, ..Line::default() };
    }

    #[inline]
    pub(super) fn is_there(&self) -> bool {
        matches!(self.state.phase, Phase::Runs | Phase::Stops)
    }

    #[inline]
    pub(super) fn stops(&self) -> bool {
        self.state.phase == Phase::Stops
    }

    /// May it be used now, if it is not told to stop?
    #[inline]
    pub(super) fn usable(&self, now: Moment) -> bool {
        self.is_there() && !self.from.after(now) && self.until.after(now)
    }

    /// Does it add up?
    #[inline]
    pub(super) fn check(&self) -> Change {
        let (granted, charged, freed) = (self.granted.0, self.charged.0, self.freed.0);
        let (reserved, free, returned) = (self.reserved.0, self.free.0, self.returned.0);
        if (granted | charged | freed | reserved | free | returned) < 0 {
            return Err(Invariant::Negative);
        }
        if freed > charged {
            return Err(Invariant::Freed);
        }
        if (granted | reserved | free | returned) >= SUM_MAX {
            return Err(Invariant::Range);
        }
        let sum = (charged - freed) as u64 + reserved as u64 + free as u64 + returned as u64;
        if sum == granted as u64 { Ok(()) } else { Err(Invariant::Equation) }
    }

    #[inline]
    fn change(&mut self, next: Line) -> Change {
        next.check()?;
        *self = next;
        self.state.changed = true;
        Ok(())
    }

    /// It has been granted so much in all; less than it knows of is old news.
    pub(super) fn grant(&mut self, granted: Money) -> Change {
        if granted <= self.granted {
            return Ok(());
        }
        let free = sum(self.free, Money(granted.0 - self.granted.0))?;
        let next = Line { granted, free, ..*self };
        next.check()?;
        // The server knows.
        *self = next;
        Ok(())
    }

    #[inline]
    pub(super) fn reserve(&mut self, amount: Money) -> Change {
        self.change(Line { free: rest(self.free, amount)?, reserved: sum(self.reserved, amount)?, ..*self })
    }

    pub(super) fn release(&mut self, amount: Money) -> Change {
        self.change(Line { reserved: rest(self.reserved, amount)?, free: sum(self.free, amount)?, ..*self })
    }

    /// Of what is reserved, `charge` is spent and the rest free again.
    #[inline]
    pub(super) fn charge(&mut self, reserved: Money, charge: Money) -> Change {
        let left = rest(reserved, charge)?;
        self.change(Line {
            reserved: rest(self.reserved, reserved)?,
            charged: sum(self.charged, charge)?,
            free: sum(self.free, left)?,
            ..*self
        })
    }

    /// What was charged did not arrive.
    pub(super) fn deliver_not(&mut self, charge: Money) -> Change {
        self.change(Line { freed: sum(self.freed, charge)?, free: sum(self.free, charge)?, ..*self })
    }

    pub(super) fn give_back(&mut self, amount: Money) -> Change {
        self.change(Line { free: rest(self.free, amount)?, returned: sum(self.returned, amount)?, ..*self })
    }
}

#[inline]
fn sum(a: Money, b: Money) -> Result<Money, Invariant> {
    if b.0 < 0 { Err(Invariant::Negative) } else { a.plus(b).ok_or(Invariant::Range) }
}

/// What is left of `a`; never below nothing.
#[inline]
fn rest(a: Money, b: Money) -> Result<Money, Invariant> {
    match a.minus(b) {
        Some(left) if left.0 >= 0 && b.0 >= 0 => Ok(left),
        _ => Err(Invariant::Negative),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(granted: i64) -> Line {
        let mut l = Line::new(Period(1), Moment::now(0), Moment::end(1 << 40, 0));
        l.grant(Money(granted)).expect("a grant");
        l
    }

    #[test]
    fn money_moves_and_adds_up() {
        let mut l = line(100);
        l.reserve(Money(30)).expect("there is enough");
        l.charge(Money(30), Money(28)).expect("it is reserved");
        assert_eq!((l.free, l.charged, l.reserved), (Money(72), Money(28), Money(0)));
        l.deliver_not(Money(28)).expect("it was charged");
        l.give_back(Money(100)).expect("all is free");
        assert_eq!((l.charged, l.freed, l.returned, l.free), (Money(28), Money(28), Money(100), Money(0)));
        assert_eq!(l.grant(Money(60)), Ok(()), "old news");
        assert_eq!(l.free, Money(0));
    }

    /// Each refused, and nothing changed by it.
    #[test]
    fn what_does_not_add_up_is_refused_by_name() {
        type Row = (&'static str, fn(&mut Line) -> Change, Invariant);
        let rows: [Row; 8] = [
            ("more than is free", |l| l.reserve(Money(101)), Invariant::Negative),
            ("more than is reserved", |l| l.charge(Money(1), Money(1)), Invariant::Negative),
            ("charged above the reservation", |l| l.charge(Money(0), Money(1)), Invariant::Negative),
            ("freed above what was charged", |l| l.deliver_not(Money(1)), Invariant::Freed),
            ("returned above what is free", |l| l.give_back(Money(101)), Invariant::Negative),
            ("a negative reservation", |l| l.reserve(Money(-1)), Invariant::Negative),
            ("too much for one line", |l| l.grant(Money(SUM_MAX)), Invariant::Range),
            ("released without a reservation", |l| l.release(Money(1)), Invariant::Negative),
        ];
        for (what, change, expected) in rows {
            let mut l = line(100);
            let before = l;
            assert_eq!(change(&mut l), Err(expected), "{what}");
            assert_eq!(l, before, "{what}");
        }
        for broken in [
            Line { free: Money(99), ..line(100) },
            Line { returned: Money(1), ..line(100) },
            Line { granted: Money(99), ..line(100) },
            Line { reserved: Money(1), ..line(100) },
            Line { charged: Money(1), ..line(100) },
        ] {
            assert_eq!(broken.check(), Err(Invariant::Equation), "{broken:?}");
        }
    }
}
