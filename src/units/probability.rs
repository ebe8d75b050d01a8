//! With which probability something was done, kept so that what was seen can be weighed by it.
//! Owns: nothing. Never: zero, as what is never done is never learned of; a float.

/// A probability in parts of 10,000: 1 to 10,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Probability(u16);

impl Probability {
    /// It was sure.
    pub const ALWAYS: Probability = Probability(10_000);
    /// The least there is.
    pub const LEAST: Probability = Probability(1);

    /// `n` of 10,000; none if that is none.
    pub fn of(n: u16) -> Option<Probability> {
        (Probability::LEAST.0..=Probability::ALWAYS.0).contains(&n).then_some(Probability(n))
    }

    /// The nearest there is to `n` of 10,000.
    pub const fn nearest(n: u64) -> Probability {
        match n {
            0 => Probability::LEAST,
            1..10_000 => Probability(n as u16),
            _ => Probability::ALWAYS,
        }
    }

    /// In parts of 10,000.
    pub const fn of_10_000(self) -> u16 {
        self.0
    }

    /// It was sure.
    pub const fn is_always(self) -> bool {
        self.0 == Probability::ALWAYS.0
    }

    /// That both happen, one without regard to the other; rounded down, never to nothing.
    pub const fn and(self, other: Probability) -> Probability {
        Probability::nearest(self.0 as u64 * other.0 as u64 / Probability::ALWAYS.0 as u64)
    }

    /// Does it happen? `entropy` is drawn for this question alone.
    #[inline]
    pub const fn happens(self, entropy: u64) -> bool {
        // The high half of a product is as even as its factor, without a division.
        ((entropy as u128 * Probability::ALWAYS.0 as u128) >> 64) < self.0 as u128
    }
}

impl Default for Probability {
    fn default() -> Probability {
        Probability::ALWAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;

    #[test]
    fn it_happens_as_often_as_it_says() {
        for n in [1, 500, 2_500, 9_999, 10_000] {
            let p = Probability::of(n).expect("in range");
            let happened = (0..1_000_000).filter(|i| p.happens(mix(*i))).count() as i64;
            assert!((happened / 100 - i64::from(n)).abs() <= 15, "{n}: {happened} of a million");
        }
        assert!(Probability::ALWAYS.happens(u64::MAX) && Probability::LEAST.happens(0));
    }

    #[test]
    fn products_are_never_nothing() {
        let half = Probability::nearest(5_000);
        assert_eq!(half.and(half), Probability::nearest(2_500));
        assert_eq!(half.and(Probability::ALWAYS), half);
        assert_eq!(Probability::LEAST.and(Probability::LEAST), Probability::LEAST);
        assert_eq!((Probability::of(0), Probability::of(10_001)), (None, None));
    }
}
