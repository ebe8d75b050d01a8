//! Where in a table something is, by a hash of what it is called: open addressing, linear, never full.
//! Owns: tags and places. Called by: the directory of accounts, what was seen of notices. Never: believes a tag; its caller compares what the tag stands for.
//! Full: cannot be, it has at least half as many places again as there can be entries.

/// A tag decides where an entry would like to be, so that entries can be moved together again without what they stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    tag: u32,
    /// What is there.
    pub(crate) at: u32,
}

const EMPTY: Place = Place { tag: 0, at: u32::MAX };

#[derive(Debug)]
pub(crate) struct Index {
    places: Box<[Place]>,
}

impl Index {
    /// Room for so many entries.
    pub(crate) fn new(entries: usize) -> Index {
        // A power of two, so that the way around the end is a mask.
        Index { places: vec![EMPTY; (entries + entries / 2 + 2).next_power_of_two()].into() }
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.places)
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & (self.places.len() - 1)
    }

    #[inline]
    fn after(&self, i: usize) -> usize {
        (i + 1) & (self.places.len() - 1)
    }

    /// The first entry of this tag.
    #[inline]
    pub(crate) fn first(&self, tag: u32) -> Option<Place> {
        let mut i = self.home(tag);
        loop {
            let place = self.places[i];
            if place.tag == tag || place.at == EMPTY.at {
                return (place.at != EMPTY.at).then_some(place);
            }
            i = self.after(i);
        }
    }

    /// The entry of this tag that `is` it.
    #[inline]
    pub(crate) fn find(&self, tag: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut i = self.home(tag);
        loop {
            let place = self.places[i];
            if place.at == EMPTY.at {
                return None;
            }
            if place.tag == tag && is(place.at) {
                return Some(place.at);
            }
            i = self.after(i);
        }
    }

    /// Adds an entry that is not there.
    pub(crate) fn insert(&mut self, tag: u32, at: u32) {
        let mut i = self.home(tag);
        while self.places[i].at != EMPTY.at {
            i = self.after(i);
        }
        self.places[i] = Place { tag, at };
    }

    /// Takes an entry away, and moves those behind it together: no graves, so lookups stay short for ever.
    pub(crate) fn remove(&mut self, tag: u32, at: u32) {
        let mut hole = self.home(tag);
        loop {
            let place = self.places[hole];
            if place.at == EMPTY.at {
                return;
            }
            if (place.tag, place.at) == (tag, at) {
                break;
            }
            hole = self.after(hole);
        }
        let n = self.places.len();
        let mut i = hole;
        loop {
            i = self.after(i);
            let place = self.places[i];
            if place.at == EMPTY.at {
                break;
            }
            // It may move if its way from home leads over the hole.
            let from_home = (i + n - self.home(place.tag)) % n;
            if from_home >= (i + n - hole) % n {
                self.places[hole] = place;
                hole = i;
            }
        }
        self.places[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list, with tags that collide and wrap around the end.
        #[test]
        fn finds_what_is_there(steps in proptest::collection::vec((0u32..6, 0u32..20, any::<bool>()), 1..200)) {
            let mut index = Index::new(20);
            let mut twin: Vec<(u32, u32)> = Vec::new();
            for (tag, at, put) in steps {
                let tag = u32::MAX - tag * 3 % 7 * (u32::MAX / 9);
                let known = twin.iter().position(|e| e.1 == at);
                match (put, known) {
                    (true, None) => {
                        index.insert(tag, at);
                        twin.push((tag, at));
                    }
                    (false, Some(i)) => {
                        let (tag, at) = twin.swap_remove(i);
                        index.remove(tag, at);
                    }
                    _ => {}
                }
                for at in 0..20 {
                    for n in 0..6 {
                        let tag = u32::MAX - n * 3 % 7 * (u32::MAX / 9);
                        let found = index.find(tag, |a| a == at);
                        prop_assert_eq!(found.is_some(), twin.contains(&(tag, at)));
                    }
                }
            }
        }
    }
}
