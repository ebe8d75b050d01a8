//! How much is granted at once, and how much of a day may be gone by now.
//! Owns: nothing. Runs on: the ledger's thread. Called by: `granter`. Never: decides whether there is money: only how much of
//! what there is goes to whoever asks first.
//!
//! A holder says how much it would like; it knows its rate. While there is plenty it gets that. Of what is left, one grant
//! takes at most the half of one holder's part: so what is out shrinks with what is left, no holder sits on the last money
//! that another could spend, and the last units go out a bid at a time. Less than a bid costs is not granted at all: it would
//! lie at a holder that cannot use it. So of a budget less than one bid a holder stays unspent.
use crate::units::Money;

/// What of a day may be spent ahead of its even course: five minutes of it, in which leases go out and come home.
pub const LOOKAHEAD_MS: u64 = 5 * 60 * 1_000;
/// An even day is planned to be over after 22 hours: the shortest has 23, and what was not sold in the evening can be made
/// up for.
pub const EVEN_DAY_MS: u64 = 22 * 3_600 * 1_000;

/// Of `room`, what is left under every limit, what goes to one of `holders` that asks for `need` more and can use nothing
/// below `price` (zero: it can use anything). At most `need`, at most `room`; zero if that is too little.
pub fn grant(need: Money, price: Money, room: Money, holders: u32) -> Money {
    let least = price.max(Money(1));
    let part = Money(room.0 / (2 * i64::from(holders.max(1))));
    let most = part.max(least).min(need).min(room);
    // Who needs less than a bid has the rest of one already.
    if most < least.min(need) { Money(0) } else { most.max(Money(0)) }
}

/// What of a day's `limit` may be gone so long after the day began, if it is to be spent evenly. Rises to all of it within
/// [`EVEN_DAY_MS`].
pub fn even(limit: Money, elapsed_ms: u64) -> Money {
    let gone = i128::from((elapsed_ms.saturating_add(LOOKAHEAD_MS)).min(EVEN_DAY_MS));
    // At most the limit, so inside 64 bits.
    Money((i128::from(limit.0) * gone / i128::from(EVEN_DAY_MS)) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_granted() {
        // need, price, room, holders: granted
        let table = [
            // Plenty: what is needed.
            ((10, 2, 1_000, 3), 10),
            // A holder's part of what is left, halved.
            ((100, 2, 120, 3), 20),
            // A part that is less than a bid: one bid.
            ((100, 2, 6, 3), 2),
            ((100, 2, 2, 12), 2),
            // Less than a bid is left: nothing, whatever it is wanted for.
            ((100, 2, 1, 1), 0),
            // It needs less than a bid, as it has the rest.
            ((1, 2, 1, 1), 1),
            ((1, 2, 100, 1), 1),
            // No price: to the last unit.
            ((100, 0, 1, 5), 1),
            ((100, 0, 0, 5), 0),
            // A limit that was lowered below what is out.
            ((100, 2, -5, 1), 0),
            // Nothing more is wanted.
            ((0, 2, 100, 1), 0),
            ((-3, 2, 100, 1), 0),
            // Nobody was counted.
            ((100, 2, 100, 0), 50),
        ];
        for ((need, price, room, holders), want) in table {
            let got = grant(Money(need), Money(price), Money(room), holders);
            assert_eq!(got, Money(want), "{need} {price} {room} {holders}");
        }
    }

    #[test]
    fn an_even_day() {
        let hour = 3_600_000;
        let limit = Money(22_000);
        assert_eq!(even(limit, 0), Money(83), "five minutes of 22 hours");
        assert_eq!(even(limit, 11 * hour), Money(11_083));
        assert_eq!(even(limit, 22 * hour - LOOKAHEAD_MS), limit);
        assert_eq!(even(limit, u64::MAX), limit);
        assert_eq!(even(Money(i64::MAX), 23 * hour), Money(i64::MAX));
        assert_eq!(even(Money(0), hour), Money(0));
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_or_is_wanted(need: i64, price in 0i64.., room: i64, holders: u32) {
            let got = grant(Money(need), Money(price), Money(room), holders);
            prop_assert!(got.0 >= 0 && got.0 <= need.max(0) && got.0 <= room.max(0));
            prop_assert!(got.0 == 0 || got.0 >= price.min(need), "a crumb");
        }

        /// Whoever can use what is left gets some, so that asking often enough empties any budget to less than a bid.
        #[test]
        fn asked_often_enough_nothing_usable_stays(room in 0i64..1_000_000, price in 1i64..1_000, holders in 1u32..100) {
            let mut left = room;
            while left >= price {
                let got = grant(Money(i64::MAX), Money(price), Money(left), holders);
                prop_assert!(got.0 > 0);
                left -= got.0;
            }
        }

        #[test]
        fn an_even_day_only_rises(limit in 0i64.., a: u64, b: u64) {
            let (first, then) = (a.min(b), a.max(b));
            prop_assert!(even(Money(limit), first) <= even(Money(limit), then));
        }
    }
}
