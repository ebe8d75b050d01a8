//! Slots that are reused, last freed first, with a generation that tells the users of a slot apart.
//! Owns: the slots. Runs on: each bidder core. Never: shrinks, or drops what a slot holds, so that a pooled value
//! keeps the memory it has grown to.

/// A slot and whose it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub struct Key {
    /// The slot.
    pub ix: u32,
    /// Its user, counted up.
    pub generation: u32,
}

/// Slots are made so many at a time and never move: a vector that doubles would hold half of its room empty, and while it
/// moves, all of it twice.
const CHUNK: usize = 64;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    used: bool,
    value: T,
}

/// A slab of pooled values.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    made: usize,
    free: Vec<u32>,
    max: usize,
}

impl<T: Default> Slab<T> {
    /// At most `max` slots in use.
    pub fn new(max: usize) -> Slab<T> {
        Slab { chunks: Vec::new(), made: 0, free: Vec::new(), max }
    }

    fn slot(&self, ix: u32) -> Option<&Slot<T>> {
        self.chunks.get(ix as usize / CHUNK).map(|chunk| &chunk[ix as usize % CHUNK])
    }

    fn slot_mut(&mut self, ix: u32) -> Option<&mut Slot<T>> {
        self.chunks.get_mut(ix as usize / CHUNK).map(|chunk| &mut chunk[ix as usize % CHUNK])
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.made - self.free.len()
    }

    /// Takes a slot; what its last user left in it is still there. `None`: all are in use.
    pub fn take(&mut self) -> Option<Key> {
        let ix = match self.free.pop() {
            Some(ix) => ix,
            None if self.made < self.max => {
                if self.made == self.chunks.len() * CHUNK {
                    self.grow();
                }
                self.made += 1;
                (self.made - 1) as u32
            }
            None => return None,
        };
        let slot = self.slot_mut(ix)?;
        slot.used = true;
        slot.generation = slot.generation.wrapping_add(1);
        Some(Key { ix, generation: slot.generation })
    }

    /// Apart, and straight on the heap: as an array on the stack a chunk of flights takes twice its 47 KB, every page of
    /// which was touched whenever a slot was taken.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let slot = |_| Slot { generation: 0, used: false, value: T::default() };
        let chunk: Box<[Slot<T>]> = (0..CHUNK).map(slot).collect();
        self.chunks.extend(chunk.try_into().ok());
    }

    /// Gives a slot back.
    pub fn free(&mut self, key: Key) {
        if let Some(slot) = self.slot_mut(key.ix).filter(|s| s.used && s.generation == key.generation) {
            slot.used = false;
            self.free.push(key.ix);
        }
    }

    /// The value, if the slot still is this user's.
    pub fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slot_mut(key.ix).filter(|s| s.used && s.generation == key.generation).map(|s| &mut s.value)
    }

    /// The same, to look at.
    pub fn peek(&self, key: Key) -> Option<&T> {
        self.slot(key.ix).filter(|s| s.used && s.generation == key.generation).map(|s| &s.value)
    }

    /// What a slot in use holds, whoever uses it.
    pub fn peek_at(&self, ix: u32) -> Option<&T> {
        self.slot(ix).filter(|s| s.used).map(|s| &s.value)
    }

    /// The value of a slot in use, whoever uses it, and its key.
    pub fn at(&mut self, ix: u32) -> Option<(Key, &mut T)> {
        self.slot_mut(ix).filter(|s| s.used).map(|s| (Key { ix, generation: s.generation }, &mut s.value))
    }

    /// Keys of all slots in use.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .enumerate()
            .filter(|(_, s)| s.used)
            .map(|(ix, s)| Key { ix: ix as u32, generation: s.generation })
    }
}
