//! Byte buffers of one core, last used first: what was sent a moment ago is still in the cache.
//! Owns: buffers nobody uses. Runs on: each bidder core. Never: keeps a large one, or more than its share.

/// Buffers kept at most; what comes back above that is freed.
const KEPT_MAX: usize = 16_384;
/// A buffer that grew beyond this is freed, so that one huge request does not stay paid for.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// A stack of empty buffers.
#[derive(Debug, Default)]
pub struct Buffers {
    free: Vec<Vec<u8>>,
}

impl Buffers {
    /// An empty buffer with room for at least `bytes`.
    pub fn get(&mut self, bytes: usize) -> Vec<u8> {
        let mut buf = self.free.pop().unwrap_or_default();
        if buf.capacity() < bytes {
            buf.reserve_exact(bytes);
        }
        buf
    }

    /// Takes a buffer back.
    pub fn put(&mut self, mut buf: Vec<u8>) {
        let capacity = buf.capacity();
        if capacity > 0 && capacity <= KEPT_BYTES_MAX && self.free.len() < KEPT_MAX {
            buf.clear();
            self.free.push(buf);
        }
    }
}
