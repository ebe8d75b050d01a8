//! Byte buffers of one core, last used first: what was sent a moment ago is still in the cache.
//! Owns: buffers nobody uses. Runs on: each bidder core. Never: keeps a huge one, or more than its share.
use outcry::limits::BUFFER_BYTES_KEPT;

/// Sizes that buffers are made in: none is twice what it has to hold, since with thousands of auctions in flight that is
/// what memory goes into. A buffer that had to grow is kept in the class it reached.
const CLASSES: [usize; 10] = [512, 768, 1024, 1536, 2048, 2560, 3072, 4096, 8192, BUFFER_BYTES_KEPT];
/// All sizes are multiples of it.
const STEP: usize = 256;
/// By steps: how many classes are smaller. A table, since what sizes come cannot be foretold.
const SMALLER: [u8; BUFFER_BYTES_KEPT / STEP + 1] = {
    let mut smaller = [0; BUFFER_BYTES_KEPT / STEP + 1];
    let mut class = 0;
    while class < CLASSES.len() {
        assert!(CLASSES[class].is_multiple_of(STEP));
        let mut steps = CLASSES[class] / STEP + 1;
        while steps < smaller.len() {
            smaller[steps] += 1;
            steps += 1;
        }
        class += 1;
    }
    smaller
};
/// Bytes kept at most in a class where nothing else is said; what comes back above that is freed.
const CLASS_BYTES_MAX: usize = 32 << 20;
/// A class is taken from before a smaller one when it has so many more to give: who asks for too little and lets it grow
/// would else fill the one and empty the other, for as long as the core runs.
const SURPLUS: usize = 64;
/// How many classes larger a buffer may be than what was asked for.
const LARGER: usize = 2;

/// Stacks of empty buffers.
#[derive(Debug)]
pub struct Buffers {
    class_bytes_max: usize,
    free: [Vec<Vec<u8>>; CLASSES.len()],
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers::keeping(CLASS_BYTES_MAX)
    }
}

impl Buffers {
    /// Keeps so many bytes of each size at most.
    pub fn keeping(class_bytes_max: usize) -> Buffers {
        Buffers { class_bytes_max, free: Default::default() }
    }

    /// An empty buffer with room for at least `bytes`.
    pub fn get(&mut self, bytes: usize) -> Vec<u8> {
        let Some(&class) = SMALLER.get(bytes.div_ceil(STEP)) else {
            return Vec::with_capacity(bytes);
        };
        let class = usize::from(class);
        let last = (class + LARGER).min(CLASSES.len() - 1);
        let enough = if self.free[class].is_empty() { 1 } else { self.free[class].len() + SURPLUS };
        let larger = (class + 1..=last).find(|&larger| self.free[larger].len() >= enough);
        self.free[larger.unwrap_or(class)].pop().unwrap_or_else(|| Vec::with_capacity(CLASSES[class]))
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut buf: Vec<u8>) {
        let capacity = buf.capacity();
        if capacity > BUFFER_BYTES_KEPT {
            return;
        }
        // Classes that are smaller than a step more are no larger than this.
        let smaller = SMALLER.get(capacity / STEP + 1).map_or(CLASSES.len(), |n| usize::from(*n));
        let Some(class) = smaller.checked_sub(1) else { return };
        if self.free[class].len() * CLASSES[class] < self.class_bytes_max {
            buf.clear();
            self.free[class].push(buf);
        }
    }

    /// Makes room for `more` bytes behind what is in `buf`, as far as buffers are kept by moving to a larger one: growing
    /// in place would take from one class and give to another.
    pub fn grow(&mut self, buf: &mut Vec<u8>, more: usize) {
        let bytes = buf.len() + more;
        if bytes <= buf.capacity() {
            return;
        }
        if bytes > BUFFER_BYTES_KEPT {
            return buf.reserve(more);
        }
        let mut larger = self.get(bytes);
        larger.extend_from_slice(buf);
        self.put(std::mem::replace(buf, larger));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(buffers: &Buffers) -> Vec<usize> {
        buffers.free.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_buffer_comes_back_to_whom_it_is_large_enough_for() {
        let mut buffers = Buffers::default();
        for (bytes, room) in [(0, 512), (1024, 1024), (5000, 8192), (16_384, 16_384), (20_000, 20_000)] {
            let buf = buffers.get(bytes);
            assert!(buf.capacity() >= room, "{bytes}");
            buffers.put(buf);
        }
        buffers.put(Vec::with_capacity(100)); // too small to be of use
        buffers.put(Vec::with_capacity(1 << 20)); // too large to keep
        assert_eq!(kept(&buffers), [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]);
        let mut last = buffers.get(10);
        last.extend_from_slice(b"x");
        let at = last.as_ptr();
        buffers.put(last);
        let again = buffers.get(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 0), "the last one, emptied");
    }

    #[test]
    fn every_size_has_its_class() {
        for bytes in 0..=BUFFER_BYTES_KEPT + 1 {
            let class = CLASSES.iter().position(|&size| bytes <= size);
            assert_eq!(SMALLER.get(bytes.div_ceil(STEP)).map(|n| usize::from(*n)), class, "{bytes}");
        }
        for bytes in 1..=BUFFER_BYTES_KEPT {
            let mut buffers = Buffers::default();
            let buf = Vec::with_capacity(bytes);
            let class = CLASSES.iter().rposition(|&size| size <= buf.capacity());
            buffers.put(buf);
            let free = buffers.free.iter().position(|free| !free.is_empty());
            assert_eq!(free, class, "{bytes}");
        }
    }

    /// Answers of DSPs that came in pieces grew in place, from a small class into a large one that nobody took from: 16,384
    /// of them stayed.
    #[test]
    fn pools_do_not_grow_with_what_passes_through_them() {
        let mut buffers = Buffers::default();
        for i in 0..100_000 {
            let mut pieces = buffers.get(2048);
            for _ in 0..3 {
                buffers.grow(&mut pieces, 2048);
                pieces.extend_from_slice(&[0; 2048]);
            }
            // Another that is written without a thought of its size, and a small one in between.
            let mut written = buffers.get(4096);
            written.extend_from_slice(&[0; 4096][..4096 - i % 7]);
            written.extend_from_slice(&[0; 1000]);
            let small = buffers.get(4000);
            [pieces, written, small].into_iter().for_each(|b| buffers.put(b));
        }
        assert!(kept(&buffers).iter().sum::<usize>() < 2 * SURPLUS + 16, "{:?}", kept(&buffers));
    }
}
