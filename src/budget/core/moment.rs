//! Time in four bytes, for tables of a hundred thousand lines.
//! Owns: nothing. Called by: the core's ledger. Never: right over more than 26 days; nothing that is kept so is looked at
//! more seldom than every minute.

/// Units of about a millisecond (2^20 ns) since boot, beginning anew after 52 days: only its distance from a moment less
/// than 26 days away means anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Moment(u32);

const SHIFT: u32 = 20;
/// The farthest that is believed, well inside of the half that is told from the past.
const FAR: u64 = 20 * 86_400 * 1_000_000_000;

impl Moment {
    /// The last moment that has begun.
    #[inline]
    pub(super) fn now(ns: u64) -> Moment {
        Moment((ns >> SHIFT) as u32)
    }

    /// An end: not later than `ns`. What is farther than 20 days from `now_ns` is 20 days from it.
    pub(super) fn end(ns: u64, now_ns: u64) -> Moment {
        Moment::now(ns.clamp(now_ns.saturating_sub(FAR), now_ns.saturating_add(FAR)))
    }

    /// A beginning: not earlier than `ns`, likewise.
    pub(super) fn begin(ns: u64, now_ns: u64) -> Moment {
        let ns = ns.clamp(now_ns.saturating_sub(FAR), now_ns.saturating_add(FAR));
        Moment((ns.div_ceil(1 << SHIFT)) as u32)
    }

    /// Is it behind `other`?
    #[inline]
    pub(super) fn after(self, other: Moment) -> bool {
        (self.0.wrapping_sub(other.0) as i32) > 0
    }

    /// How long before `now` it was, in its units; nothing if it is still to come.
    #[inline]
    pub(super) fn age(self, now: Moment) -> u32 {
        if self.after(now) { 0 } else { now.0.wrapping_sub(self.0) }
    }

    /// A duration in its units, at least as long.
    pub(super) const fn units(ns: u64) -> u32 {
        (ns.div_ceil(1 << SHIFT)) as u32
    }

    /// So many units earlier.
    pub(super) fn before(self, units: u32) -> Moment {
        Moment(self.0.wrapping_sub(units))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const UNIT: u64 = 1 << SHIFT;

    #[test]
    fn beginnings_are_late_and_ends_early() {
        for boot in [0, 5 * UNIT, (u64::from(u32::MAX) - 2) * UNIT] {
            for ns in [1, UNIT - 1, UNIT, UNIT + 1, 3 * UNIT + 7] {
                let (begin, end) = (Moment::begin(boot + ns, boot), Moment::end(boot + ns, boot));
                for at in [0, 1, UNIT - 1, UNIT, UNIT + 1, 2 * UNIT, 4 * UNIT, 9 * UNIT] {
                    let now = Moment::now(boot + at);
                    assert!(begin.after(now) || at >= ns, "{boot} {ns} {at}: begun too early");
                    assert!(!end.after(now) || at < ns, "{boot} {ns} {at}: ended too late");
                }
            }
            assert!(Moment::end(u64::MAX, boot).after(Moment::now(boot)), "for ever is not over");
            assert_eq!(Moment::now(boot + 3 * UNIT).age(Moment::now(boot + 5 * UNIT)), 2);
            assert_eq!(Moment::now(boot + 5 * UNIT).age(Moment::now(boot + 3 * UNIT)), 0);
        }
    }
}
