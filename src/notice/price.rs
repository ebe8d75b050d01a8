//! What a billing notice that names a price comes to.
//! Owns: nothing. Runs on: each bidder core. Called by: a notice's arrival. Never: charges more than was answered, or less
//! than the floor that applied.
//!
//! Where ours is the last auction the answered price is charged, whatever a notice says. An intermediate exchange puts its own
//! auction behind ours: our URL carries `${AUCTION_PRICE}` for it to fill, and a lower price counts.
use crate::{
    notice::token::Token,
    units::{Cpm, Money, Round},
};

/// What a notice said of the price. Each case is counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Said {
    /// Nothing, or nothing that matters: ours was the last auction.
    Nothing = 0,
    /// What was answered.
    Same = 1,
    /// Less, and not below the floor: that is charged.
    Lower = 2,
    /// Less than the floor that applied: the answered price is charged.
    BelowFloor = 3,
    /// More: the answered price is charged.
    Higher = 4,
    /// The macro as we wrote it: whoever called does not fill it.
    Unfilled = 5,
    /// Neither the macro nor a price.
    Unreadable = 6,
}

impl Said {
    /// All of them, by their numbers.
    pub const ALL: [Said; 7] =
        [Said::Nothing, Said::Same, Said::Lower, Said::BelowFloor, Said::Higher, Said::Unfilled, Said::Unreadable];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Said::Nothing => "nothing",
            Said::Same => "same",
            Said::Lower => "lower",
            Said::BelowFloor => "below_floor",
            Said::Higher => "higher",
            Said::Unfilled => "unfilled",
            Said::Unreadable => "unreadable",
        }
    }
}

/// What a notice comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charged {
    /// CPM in the answer's currency.
    pub price: Cpm,
    /// In the accounting currency, for all of the impression's `qty`.
    pub charge: Money,
    /// What was said of the price.
    pub said: Said,
}

/// What a notice with this price, as it stands in its query, comes to.
pub fn charged(token: &Token<'_>, said: Option<&[u8]>) -> Charged {
    let answered = |said| Charged { price: token.price, charge: token.charge, said };
    let Some(text) = said.filter(|_| token.open) else { return answered(Said::Nothing) };
    // A macro that nobody filled arrives as it was, or with its braces escaped.
    if text.starts_with(b"$") || text.get(..3).is_some_and(|start| start == b"%24") {
        return answered(Said::Unfilled);
    }
    // Rounded up, so that what is charged is not below what was said.
    let Ok(price) = Cpm::parse(text, Round::Up) else { return answered(Said::Unreadable) };
    match price {
        _ if price == token.price => answered(Said::Same),
        _ if price > token.price => answered(Said::Higher),
        _ if price < token.floor || price == Cpm::ZERO => answered(Said::BelowFloor),
        _ => Charged { price, charge: share(token, price), said: Said::Lower },
    }
}

/// The part of the charge that this price is of the answered one. Rounded up: the charge was rounded down already, and what is
/// left must not cost less than the floor would have.
fn share(token: &Token<'_>, price: Cpm) -> Money {
    let (charge, of) = (i128::from(token.charge.0), i128::from(token.price.0.max(1)));
    let part = (charge * i128::from(price.0) + of - 1).div_euclid(of);
    // A part of a charge is no larger.
    Money(i64::try_from(part).unwrap_or(token.charge.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{AccountId, Period},
        notice::token::Kind,
        units::EventId,
    };
    use proptest::prelude::*;

    fn token(price: i64, floor: i64, charge: i64) -> Token<'static> {
        Token {
            kind: Kind::Billed,
            event: EventId::default(),
            imp: 0,
            price: Cpm(price),
            floor: Cpm(floor),
            charge: Money(charge),
            account: AccountId(1),
            period: Period(0),
            open: true,
            awaited: false,
            expires_s: 0,
            buyer: b"",
            url: b"",
        }
    }

    fn found(token: &Token<'_>, said: Option<&[u8]>) -> (Money, Said) {
        let Charged { charge, said, .. } = charged(token, said);
        (charge, said)
    }

    #[test]
    fn each_case_of_an_intermediate() {
        // Answered at 0.90 CPM for thirty viewers, floor 0.85.
        let token = token(900_000, 850_000, 27_000_000);
        let answered = Charged { price: Cpm(900_000), charge: Money(27_000_000), said: Said::Nothing };
        for (said, charge, case) in [
            ("0.9", 27_000_000, Said::Same),
            ("0.900000", 27_000_000, Said::Same),
            ("0.87", 26_100_000, Said::Lower),
            ("0.85", 25_500_000, Said::Lower),
            ("0.8499", 27_000_000, Said::BelowFloor),
            ("0", 27_000_000, Said::BelowFloor),
            ("0.91", 27_000_000, Said::Higher),
            ("1e9", 27_000_000, Said::Unreadable),
            ("${AUCTION_PRICE}", 27_000_000, Said::Unfilled),
            ("%24%7BAUCTION_PRICE%7D", 27_000_000, Said::Unfilled),
            ("", 27_000_000, Said::Unreadable),
            ("-1", 27_000_000, Said::Unreadable),
            ("0.87 ", 27_000_000, Said::Unreadable),
            ("abc", 27_000_000, Said::Unreadable),
        ] {
            let found = charged(&token, Some(said.as_bytes()));
            let price = if case == Said::Lower { Cpm::parse(said.as_bytes(), Round::Up).unwrap() } else { token.price };
            assert_eq!(found, Charged { price, charge: Money(charge), said: case }, "{said:?}");
            let last = charged(&Token { open: false, ..token }, Some(said.as_bytes()));
            assert_eq!(last, answered, "{said:?}: ours was the last auction");
        }
        assert_eq!(charged(&token, None), answered);
    }

    #[test]
    fn without_a_floor_nothing_is_still_no_price() {
        assert_eq!(found(&token(5, 0, 5), Some(b"0")), (Money(5), Said::BelowFloor));
        assert_eq!(found(&token(5, 0, 5), Some(b"0.000001")), (Money(1), Said::Lower));
    }

    #[test]
    fn half_an_impression_costs_what_its_floor_does_at_least() {
        // A multiplier of a half: 1.5 nano-units were charged as 1, and the floor alone costs 1.
        assert_eq!(found(&token(3, 2, 1), Some(b"0.000002")), (Money(1), Said::Lower));
    }

    proptest! {
        /// Never more than was answered, never less than the floor's part, and what is said twice is charged alike.
        #[test]
        fn stays_between_floor_and_answer(
            price in 1i64..2_000_000_000, floor: u32, qty in 1i64..1_000, said in 0i64..4_000_000_000,
        ) {
            let floor = i64::from(floor) % price;
            let token = token(price, floor, price * qty);
            let text = format!("{}.{:06}", said / 1_000_000, said % 1_000_000);
            let Charged { price: priced, charge, said: case } = charged(&token, Some(text.as_bytes()));
            prop_assert_eq!(priced.0, if case == Said::Lower { said } else { price });
            prop_assert!(charge <= token.charge && charge.0 >= floor * qty);
            let lower = said < price && said >= floor && said > 0;
            prop_assert_eq!(charge.0, if lower { said * qty } else { price * qty }, "{:?}", case);
        }
    }
}
