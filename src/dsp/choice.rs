//! Whom of those that want a request to ask: at most K, those on deals first, then the best by what asking them is worth; one
//! place in forty is given by lot, so that nobody who may have become better is forgotten.
//! Owns: the state of one auction's choosing. Runs on: each bidder core. Called by: `bidder/asking`. Never: draws: entropy is the
//! auction's; allocates.
//!
//! The best K - 1 are asked for certain. The last place goes to the K-th; or, with the probability [`Choice::LOT`] for each of the K
//! places, to anyone of the K-th and those behind it, all alike. So each choice has a probability that can be told, and nobody's is
//! nothing; but where deals take all places.
use super::{
    targets::Set,
    worth::{Kind, Worths, members},
};
use crate::{
    limits::ASKED_MAX,
    units::{Probability, mix},
};

/// Tells this draw from others of the same entropy.
const LOT_STREAM: u64 = 0x6c6f_7400;
/// Whoever could not be asked makes room for others; after so many times the auction is content with whom it has.
const ROUNDS: u32 = 3;
/// Some that are to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Who.
    pub dsps: Set,
    /// The one of them whose place is subject to the lot, and its probability.
    swing: (u8, Probability),
    /// That of each of those who are not chosen.
    others: Probability,
}

impl Choice {
    /// Probability of a lot for each place, of 10,000.
    pub const LOT: u64 = 250;

    /// With which probability this DSP, which is among [`Choice::dsps`], was to be: given who could be asked.
    pub fn probability(&self, dsp: usize) -> Probability {
        if usize::from(self.swing.0) == dsp { self.swing.1 } else { Probability::ALWAYS }
    }

    /// Chance decided nothing.
    fn sure(dsps: Set) -> Choice {
        Choice { dsps, swing: (u8::MAX, Probability::ALWAYS), others: Probability::ALWAYS }
    }
}

/// The best `k` of `of`, which are more than that.
fn best(worths: &Worths, kind: Kind, of: Set, deals: Set, k: usize, entropy: u64) -> Choice {
    let view = worths.view(kind);
    let (mut chosen, mut kth) = (0, 0);
    let mut take = |at: usize| (chosen, kth) = (chosen | 1 << at, at as u64);
    let deals = of & deals;
    let mut found = if deals != 0 { view.best(deals, k, &mut take) } else { 0 };
    let all_on_deals = found == k;
    if !all_on_deals {
        found += view.best(of & !deals, k - found, &mut take);
    }
    debug_assert_eq!(found, k);
    if all_on_deals {
        return Choice::sure(chosen);
    }
    let certain = chosen & !(1 << kth);
    let pool = of & !certain;
    let (lot, others) = (Choice::LOT * k as u64, u64::from(pool.count_ones()));
    let each = (lot + others / 2) / others;
    let draw = mix(entropy ^ LOT_STREAM);
    let drawn = match Probability::nearest(lot).happens(draw) {
        // As even as a draw of its own: the high half of a product.
        true => {
            let nth = (u128::from(mix(draw)) * u128::from(others)) >> 64;
            members(pool).nth(nth as usize).unwrap_or(kth as usize) as u64
        }
        false => kth,
    };
    let all = u64::from(Probability::ALWAYS.of_10_000());
    let swing = Probability::nearest(if drawn == kth { all - lot + each } else { each });
    Choice { dsps: certain | 1 << drawn, swing: (drawn as u8, swing), others: Probability::nearest(each) }
}

/// The choosing of one auction: round after round, since whoever is chosen may not be to be had.
#[derive(Clone, Copy, Debug)]
pub struct Choosing {
    left: Set,
    deals: Set,
    room: usize,
    rounds: u32,
    entropy: u64,
    chance: Probability,
}

impl Choosing {
    /// At most `k` of those that want the request, `deals` first. `entropy` is the auction's.
    pub fn new(wanted: Set, deals: Set, k: usize, entropy: u64) -> Choosing {
        Choosing { left: wanted, deals, room: k.min(ASKED_MAX), rounds: 0, entropy, chance: Probability::ALWAYS }
    }

    /// Those that are to be tried next; none, if it is over. `kind` is asked for where there is a choice.
    pub fn next(&mut self, worths: &Worths, kind: impl FnOnce() -> Kind) -> Option<Choice> {
        if self.left == 0 || self.room == 0 || self.rounds == ROUNDS {
            return None;
        }
        let choice = match self.left.count_ones() as usize <= self.room {
            true => Choice::sure(self.left),
            false => {
                let entropy = self.entropy.rotate_left(self.rounds);
                best(worths, kind(), self.left, self.deals, self.room, entropy)
            }
        };
        self.rounds += 1;
        (self.left, self.chance) = (self.left & !choice.dsps, choice.others);
        Some(choice)
    }

    /// One of them is asked.
    pub fn asked(&mut self) {
        self.room -= 1;
    }

    /// The probability that each of those who were not chosen had, if chance decided, else always.
    pub fn chance(&self) -> Probability {
        self.chance
    }

    /// Who was not chosen.
    pub fn left(&self) -> Set {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Cpm;

    const K: usize = 10;

    /// `n` DSPs, each known and worth more than the one before it.
    fn worths(n: usize) -> Worths {
        let names: Vec<String> = (0..n).map(|i| format!("d{i}")).collect();
        let mut worths = Worths::default();
        worths.configure(names.iter().map(String::as_str), 1);
        for _ in 0..100 {
            (0..n).for_each(|dsp| worths.learn(Kind::default(), dsp, Cpm(1_000 * (dsp as i64 + 1))));
        }
        worths
    }

    fn choose(worths: &Worths, n: usize, deals: Set, k: usize, entropy: u64) -> Choice {
        let mut choosing = Choosing::new(Set::MAX >> (64 - n), deals, k, entropy);
        let choice = choosing.next(worths, Kind::default).expect("somebody");
        assert_eq!(choice.dsps.count_ones() as usize, k.min(n));
        assert_eq!(choice.dsps & choosing.left(), 0);
        choice
    }

    #[test]
    fn the_best_are_asked_and_the_others_by_lot_as_often_as_is_said() {
        for (n, k) in [(50, K), (11, K), (64, 1), (20, 16), (2, 1)] {
            let (w, rounds, seed) = (worths(n), 200_000u64, 7u64);
            let mut asked = [0u64; 64];
            let mut said = [0u64; 64];
            for i in 0..rounds {
                let choice = choose(&w, n, 0, k, mix(seed ^ i));
                members(choice.dsps).for_each(|at| {
                    asked[at] += 1;
                    said[at] = u64::from(choice.probability(at).of_10_000());
                });
            }
            for at in 0..n {
                assert!(asked[at] > 0, "{at} of {n} is never asked, seed {seed}");
                assert_eq!(asked[at] == rounds, at > n - k, "{at} of {n}");
                let expected = rounds * said[at] / 10_000;
                let (off, bound) = (asked[at].abs_diff(expected), 5 * expected.isqrt() + rounds / 20_000 + 5);
                assert!(off <= bound, "{at} of {n}, {k} asked: {} times, said {expected}, seed {seed}", asked[at]);
            }
        }
    }

    #[test]
    fn deals_go_first_and_take_all_places_if_they_must() {
        let w = worths(50);
        for entropy in 0..2_000 {
            let choice = choose(&w, 50, 0b111, K, mix(entropy));
            assert_eq!(choice.dsps & 0b111, 0b111);
            assert!((0..3).all(|at| choice.probability(at).is_always()));
            assert_eq!(choose(&w, 50, 0xfff, K, mix(entropy)).dsps, 0xffc, "the best of them");
        }
    }

    #[test]
    fn who_is_not_known_is_tried_first() {
        let names: Vec<String> = (0..30).map(|i| format!("d{i}")).collect();
        let mut w = Worths::default();
        w.configure(names.iter().map(String::as_str), K);
        let mut asked = [0u32; 30];
        for i in 0..250 {
            for at in members(choose(&w, 30, 0, K, mix(i)).dsps) {
                asked[at] += 1;
                w.learn(Kind::default(), at, Cpm(if at == 29 { 1 } else { 0 }));
            }
        }
        assert!(asked.iter().all(|n| *n >= 64), "{asked:?}");
        assert_eq!(members(choose(&w, 30, 0, 1, 0).dsps).next(), Some(29));
    }

    #[test]
    fn who_cannot_be_asked_makes_room_and_it_ends() {
        let w = worths(50);
        let mut choosing = Choosing::new(Set::MAX >> 14, 0, K, 3);
        let mut tried = 0;
        while let Some(choice) = choosing.next(&w, Kind::default) {
            tried += choice.dsps.count_ones();
            // Of each round one can be asked.
            choosing.asked();
        }
        assert_eq!(tried, 10 + 9 + 8);
        assert_eq!(choosing.left().count_ones(), 50 - tried);
        assert_eq!(Choosing::new(0, 0, K, 3).next(&w, Kind::default), None);
        // With enough places there is no choice, and nothing is looked up.
        let mut all = Choosing::new(0b1011, 0, K, 3);
        let choice = all.next(&Worths::default(), || panic!("no need to know")).expect("all");
        assert_eq!((choice.dsps, choice.probability(0)), (0b1011, Probability::ALWAYS));
    }
}
