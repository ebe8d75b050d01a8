//! Slots that are reused, last freed first, with a generation that tells the users of a slot apart.
//! Owns: the slots. Runs on: each bidder core. Never: shrinks, or drops what a slot holds, so that a pooled value
//! keeps the memory it has grown to.

/// A slot and whose it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Key {
    /// The slot.
    pub ix: u32,
    /// Its user, counted up.
    pub generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    used: bool,
    value: T,
}

/// A slab of pooled values.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    max: usize,
}

impl<T: Default> Slab<T> {
    /// At most `max` slots in use.
    pub fn new(max: usize) -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new(), max }
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Takes a slot; what its last user left in it is still there. `None`: all are in use.
    pub fn take(&mut self) -> Option<Key> {
        let ix = match self.free.pop() {
            Some(ix) => ix,
            None if self.slots.len() < self.max => {
                self.slots.push(Slot { generation: 0, used: false, value: T::default() });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let slot = &mut self.slots[ix as usize];
        slot.used = true;
        slot.generation = slot.generation.wrapping_add(1);
        Some(Key { ix, generation: slot.generation })
    }

    /// Gives a slot back.
    pub fn free(&mut self, key: Key) {
        if self.get(key).is_some() {
            self.slots[key.ix as usize].used = false;
            self.free.push(key.ix);
        }
    }

    /// The value, if the slot still is this user's.
    pub fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slots.get_mut(key.ix as usize).filter(|s| s.used && s.generation == key.generation).map(|s| &mut s.value)
    }

    /// The same, to look at.
    pub fn peek(&self, key: Key) -> Option<&T> {
        self.slots.get(key.ix as usize).filter(|s| s.used && s.generation == key.generation).map(|s| &s.value)
    }

    /// What a slot in use holds, whoever uses it.
    pub fn peek_at(&self, ix: u32) -> Option<&T> {
        self.slots.get(ix as usize).filter(|s| s.used).map(|s| &s.value)
    }

    /// The value of a slot in use, whoever uses it, and its key.
    pub fn at(&mut self, ix: u32) -> Option<(Key, &mut T)> {
        self.slots.get_mut(ix as usize).filter(|s| s.used).map(|s| (Key { ix, generation: s.generation }, &mut s.value))
    }

    /// Keys of all slots in use.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.used)
            .map(|(ix, s)| Key { ix: ix as u32, generation: s.generation })
    }
}
