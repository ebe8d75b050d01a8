//! How much money a core wants to have, and how much of it it lets go.
//! Owns: nothing. Runs on: each bidder core, at a tick. Never: decides whether a bid can be paid.
//! All integers: an estimate that is a little wrong moves money a little later; nothing is ever spent by it.
use super::moment::Moment;
use crate::units::Money;

/// A core wants at most what it spends in so many seconds.
const AHEAD_S: u64 = 10;
/// When others need it, it keeps what it spends in so many.
const RECALLED_S: u64 = 1;
/// The estimate's memory: 8,192 units of [`Moment`], some nine seconds.
const MEMORY: u64 = 1 << 13;
/// Units of [`Moment`] in a second, nearly (953.67).
const UNITS_PER_S: u64 = 954;
/// Rates are believed up to 70,000 units of money a second, so that nothing below overflows.
const RATE_MAX: u64 = 1 << 46;
/// An account that has not been charged for so long is idle.
const IDLE: u32 = Moment::units(5_000_000_000);

/// What sizing knows of an account on this core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    /// Nano-units a second.
    pub(super) rate: u64,
    /// A recent bid.
    pub(super) price: Money,
    /// Units of [`Moment`] since it was charged, or asked for money.
    pub(super) idle: u32,
}

/// The rate after a charge that came `dt` after the one before: exponentially weighted, each step by `MEMORY / (MEMORY + dt)`,
/// which for short steps is e^(-dt/MEMORY) and for a long one forgets more gently.
#[inline]
pub(super) fn rate(before: u64, dt: u32, charge: Money) -> u64 {
    let kept = before * MEMORY / (MEMORY + u64::from(dt));
    let new = (charge.0.max(0) as u64).min(RATE_MAX) * UNITS_PER_S / MEMORY;
    (kept + new).min(RATE_MAX)
}

fn seconds(rate: u64, s: u64) -> Money {
    Money((rate * s) as i64)
}

/// How much it would like to have free.
pub(super) fn target(u: &Use) -> Money {
    let decayed = u.rate * MEMORY / (MEMORY + u64::from(u.idle));
    seconds(decayed, AHEAD_S).max(u.price)
}

/// Is it time to ask for more? At 70 % used, or when the next bid could not be paid.
pub(super) fn is_low(free: Money, u: &Use) -> bool {
    let target = target(u);
    free < u.price || free.0 / 3 < target.0 / 10 && free < target
}

/// How much of what is free it keeps: of one that is idle a recent price, which is no use in part; of one that spends, no
/// more than twice what it wants; when others need it, what it spends at once.
pub(super) fn keep(free: Money, u: &Use, recall: bool) -> Money {
    let one = if free >= u.price { u.price } else { Money(0) };
    let most = match (u.idle > IDLE, recall) {
        // No bid was seen yet: what the server gave unasked waits for one.
        (_, false) if u.price == Money(0) => free,
        (true, _) => one,
        (false, true) => seconds(u.rate, RECALLED_S).max(one),
        (false, false) => Money(target(u).0.saturating_mul(2)),
    };
    free.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_estimate_finds_a_steady_rate_and_forgets_it() {
        // 2,000 nano-units every 10 units of time: about 190,740 a second.
        let steady = (0..10_000).fold(0, |r, _| rate(r, 10, Money(2_000)));
        assert!((170_000..=210_000).contains(&steady), "{steady}");
        let later = rate(steady, 10 * MEMORY as u32, Money(0));
        assert!(later < steady / 10, "{later}");
        // The largest of everything overflows nowhere.
        let most = (0..100).fold(0, |r, _| rate(r, 0, Money(i64::MAX)));
        assert_eq!(most, RATE_MAX);
        assert!(target(&Use { rate: most, price: Money(1), idle: 0 }) > Money(0));
        assert_eq!(rate(5, u32::MAX, Money(-1)), 0);
    }

    #[test]
    fn money_is_asked_for_and_let_go() {
        let busy = Use { rate: 100, price: Money(20), idle: 0 };
        let idle = Use { rate: 100, price: Money(20), idle: IDLE + 1 };
        // what | free | use | recall | low | kept
        let rows = [
            ("all of it is there", 1_000, busy, false, false, 1_000),
            ("a third left", 400, busy, false, false, 400),
            ("70 % used", 290, busy, false, true, 290),
            ("far too much", 9_000, busy, false, false, 2_000),
            ("others need it", 1_000, busy, true, false, 100),
            ("idle keeps one bid", 1_000, idle, false, false, 20),
            ("idle, recalled", 1_000, idle, true, false, 20),
            ("idle, and less than a bid is of no use", 19, idle, false, true, 0),
            ("recalled, and less than a bid", 19, Use { rate: 0, ..busy }, true, true, 0),
        ];
        for (what, free, u, recall, low, kept) in rows {
            assert_eq!((is_low(Money(free), &u), keep(Money(free), &u, recall)), (low, Money(kept)), "{what}");
        }
    }
}
