//! Byte buffers of one core, last used first: what was sent a moment ago is still in the cache.
//! Owns: buffers nobody uses. Runs on: each bidder core. Never: keeps a huge one, or more than its share.

/// Sizes that buffers are made in: none is twice what it has to hold, since with thousands of auctions in flight that is
/// what memory goes into. A buffer that had to grow is kept in the class it reached.
const CLASSES: [usize; 8] = [512, 1024, 1536, 2048, 3072, 4096, 8192, 16 * 1024];
/// Buffers kept at most in a class; what comes back above that is freed.
const KEPT_MAX: usize = 16_384;
/// A buffer that grew beyond this is freed, so that one huge request does not stay paid for.
pub(super) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Stacks of empty buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    free: [Vec<Vec<u8>>; CLASSES.len()],
}

impl Buffers {
    /// An empty buffer with room for at least `bytes`.
    pub fn get(&mut self, bytes: usize) -> Vec<u8> {
        let Some(class) = CLASSES.iter().position(|&size| bytes <= size) else {
            return Vec::with_capacity(bytes);
        };
        // One a class or two larger does as well: what was asked for too little and had to grow is there, and would be
        // made and grown anew each time.
        let free = self.free[class..].iter_mut().take(3).find_map(Vec::pop);
        free.unwrap_or_else(|| Vec::with_capacity(CLASSES[class]))
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut buf: Vec<u8>) {
        let capacity = buf.capacity();
        let Some(class) = CLASSES.iter().rposition(|&size| size <= capacity) else { return };
        if capacity <= KEPT_BYTES_MAX && self.free[class].len() < KEPT_MAX {
            buf.clear();
            self.free[class].push(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_to_whom_it_is_large_enough_for() {
        let mut buffers = Buffers::default();
        for (bytes, room) in [(0, 512), (1024, 1024), (1025, 1536), (16_384, 16_384), (20_000, 20_000)] {
            let buf = buffers.get(bytes);
            assert!(buf.capacity() >= room, "{bytes}");
            buffers.put(buf);
        }
        buffers.put(Vec::with_capacity(100)); // too small to be of use
        buffers.put(Vec::with_capacity(1 << 20)); // too large to keep
        assert_eq!(buffers.free.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1, 0, 0, 0, 0, 2]);
        let mut last = buffers.get(10);
        last.extend_from_slice(b"x");
        let at = last.as_ptr();
        buffers.put(last);
        let again = buffers.get(10);
        assert_eq!((again.as_ptr(), again.len()), (at, 0), "the last one, emptied");
    }
}
