//! How far each writer's frames have come: of every (epoch, writer) the highest sequence number.
//! Owns: a sorted list. Called by: [`super::writer`] (what was taken, what is durable), [`super::checkpoint`], readers
//! (gaps). Never: forgets a pair without being asked to.
//! Full: [`Positions::trim`] keeps the pairs of the latest epochs.

/// Who counts: an epoch and a writer in it.
pub type Key = (u32, u16);

/// Pairs that a checkpoint holds: 62 starts of 66 writers, of which all but the latest only matter while their black boxes
/// have not been read out.
pub const POSITIONS_MAX: usize = 4096;

/// The highest sequence number of each pair.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Positions {
    of: Vec<(Key, u64)>,
    /// Where the pair was found last: frames of one writer come one after the other.
    last: usize,
}

/// How a sequence number follows those before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// It is the next one.
    Next,
    /// It was there before.
    Known,
    /// Some are missing between.
    Gap {
        /// The one that would have been next.
        expected: u64,
    },
}

impl Positions {
    /// The highest of a pair; 0 if there is none.
    pub fn get(&self, key: Key) -> u64 {
        match self.of.get(self.last) {
            Some((k, seq)) if *k == key => *seq,
            _ => self.of.binary_search_by_key(&key, |(k, _)| *k).map_or(0, |i| self.of[i].1),
        }
    }

    /// Does a pair stand here?
    pub fn has(&self, key: Key) -> bool {
        self.of.binary_search_by_key(&key, |(k, _)| *k).is_ok()
    }

    /// How `seq` would follow.
    pub fn follow(&self, key: Key, seq: u64) -> Follow {
        let last = self.get(key);
        if seq <= last {
            Follow::Known
        } else if seq == last + 1 {
            Follow::Next
        } else {
            Follow::Gap { expected: last + 1 }
        }
    }

    /// Notes `seq`, if it is higher.
    pub fn raise(&mut self, key: Key, seq: u64) {
        if self.of.get(self.last).is_none_or(|(k, _)| *k != key) {
            self.last = self.of.binary_search_by_key(&key, |(k, _)| *k).unwrap_or_else(|at| {
                self.of.insert(at, (key, 0));
                at
            });
        }
        let highest = &mut self.of[self.last].1;
        *highest = seq.max(*highest);
    }

    /// Notes all of `other`.
    pub fn merge(&mut self, other: &Positions) {
        other.iter().for_each(|(key, seq)| self.raise(key, seq));
    }

    /// Keeps the last `max` pairs, those of the latest epochs.
    pub fn trim(&mut self, max: usize) {
        self.of.drain(..self.of.len().saturating_sub(max));
        self.last = 0;
    }

    /// Every pair, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Key, u64)> + '_ {
        self.of.iter().copied()
    }

    /// Pairs.
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

impl FromIterator<(Key, u64)> for Positions {
    fn from_iter<I: IntoIterator<Item = (Key, u64)>>(pairs: I) -> Positions {
        let mut positions = Positions::default();
        pairs.into_iter().for_each(|(key, seq)| positions.raise(key, seq));
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_a_map_of_highest_numbers(ops in prop::collection::vec((0u32..4, 0u16..4, 1u64..50), 0..200)) {
            let (mut positions, mut twin) = (Positions::default(), BTreeMap::new());
            for (epoch, writer, seq) in ops {
                let key = (epoch, writer);
                let last = twin.get(&key).copied().unwrap_or(0);
                let follow = match seq {
                    s if s <= last => Follow::Known,
                    s if s == last + 1 => Follow::Next,
                    _ => Follow::Gap { expected: last + 1 },
                };
                prop_assert_eq!(positions.follow(key, seq), follow);
                positions.raise(key, seq);
                twin.insert(key, seq.max(last));
            }
            prop_assert_eq!(positions.iter().collect::<Vec<_>>(), twin.clone().into_iter().collect::<Vec<_>>());
            let mut kept = positions.clone();
            kept.trim(3);
            let latest: Vec<_> = twin.into_iter().rev().take(3).rev().collect();
            prop_assert_eq!(kept.iter().collect::<Vec<_>>(), latest);
        }
    }
}
