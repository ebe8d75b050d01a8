//! A DSP that fails or is late more than now and then, and not enough to be left alone: it is asked with a lower probability.
//! Owns: the smoothed share of its bad answers. Runs on: each bidder core, one per DSP. Called by: [`super::health`].
//! Never: falls below the least probability, so that it is known when it is better; knows what a failure is.
use crate::units::Probability;

/// A share of everything.
const ONE: u32 = 1 << 20;
/// One answer moves the share by a 128th of what is missing: of an even tenth it strays by two of 100.
const WINDOW: u32 = 7;

/// How trouble is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Nothing is made of it.
    pub on: bool,
    /// It begins above so many of 100 that are bad.
    pub percent: u32,
    /// All bad: it is asked with this probability, and on a line in between.
    pub least: Probability,
}

impl Rules {
    /// Everybody is asked.
    pub const OFF: Rules = Rules { on: false, percent: 100, least: Probability::ALWAYS };
}

/// How much of what one DSP says of late is bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trouble {
    share: u32,
}

impl Trouble {
    /// An answer, or the lack of one, that is its fault.
    #[inline]
    pub fn add(&mut self, bad: bool) {
        match bad {
            true => self.share += (ONE - self.share) >> WINDOW,
            false => self.share -= self.share >> WINDOW,
        }
    }

    /// An answer that had been called good was bad after all.
    pub fn was_bad(&mut self) {
        self.share = (self.share + (ONE >> WINDOW)).min(ONE);
    }

    /// With which probability to ask it.
    #[inline]
    pub fn probability(&self, rules: &Rules) -> Probability {
        let from = u64::from(ONE) * u64::from(rules.percent) / 100;
        let share = u64::from(self.share);
        if !rules.on || share <= from {
            return Probability::ALWAYS;
        }
        let all = u64::from(Probability::ALWAYS.of_10_000());
        let withheld = all - u64::from(rules.least.of_10_000());
        Probability::nearest(all - withheld * (share - from) / (u64::from(ONE) - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;

    const RULES: Rules = Rules { on: true, percent: 20, least: Probability::nearest(500) };

    /// Answers of which so many of 100 are bad, for long.
    fn settled(percent: u64) -> Trouble {
        let mut t = Trouble::default();
        (0..4_000).for_each(|i| t.add(mix(i) % 100 < percent));
        t
    }

    #[test]
    fn the_more_is_bad_the_less_it_is_asked_and_never_less_than_the_least() {
        let rows =
            [(0, 10_000, 10_000), (10, 10_000, 10_000), (30, 8_000, 9_700), (60, 4_500, 6_100), (90, 1_000, 2_400)];
        for (percent, least, most) in rows {
            let p = settled(percent).probability(&RULES).of_10_000();
            assert!((least..=most).contains(&p), "{percent} of 100 bad: asked {p} of 10,000");
        }
        let mut t = settled(100);
        // What cannot be moved any more by one answer is as good as all.
        assert!((500..=510).contains(&t.probability(&RULES).of_10_000()), "{t:?}");
        (0..1_000).for_each(|_| t.was_bad());
        assert_eq!(t.probability(&RULES), RULES.least);
        assert_eq!(t.probability(&Rules::OFF), Probability::ALWAYS);
    }

    #[test]
    fn it_is_over_after_some_two_hundred_good_answers() {
        let mut t = settled(100);
        let n = (1..).find(|_| {
            t.add(false);
            t.probability(&RULES).is_always()
        });
        assert!(n.is_some_and(|n| (150..=220).contains(&n)), "{n:?}");
    }
}
