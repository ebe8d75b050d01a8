//! How far flush and the shipper have come, each for the other.
//! Owns: two numbers. Runs on: flush and the shipper's thread, neither of which waits. Called by: them, boot.
use outcry::{journal::PAGE, ship::cursor::Position};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Pages of a segment: 64 GB of them; above that, 2^40 segments.
const PAGE_BITS: u32 = 24;

/// See the module.
#[derive(Debug)]
pub struct Reach {
    durable: AtomicU64,
    shipped: AtomicU64,
    stop: AtomicBool,
}

fn pack(at: Position) -> u64 {
    // Blocks are whole pages.
    at.segment << PAGE_BITS | (at.offset / PAGE as u64) & ((1 << PAGE_BITS) - 1)
}

fn unpack(packed: u64) -> Position {
    Position { segment: packed >> PAGE_BITS, offset: (packed & ((1 << PAGE_BITS) - 1)) * PAGE as u64 }
}

impl Reach {
    /// `shipped` is what was so when the process began.
    pub fn new(shipped: Position) -> Reach {
        Reach { durable: AtomicU64::new(0), shipped: AtomicU64::new(pack(shipped)), stop: AtomicBool::new(false) }
    }

    /// Everything before is on disk.
    pub fn set_durable(&self, at: Position) {
        self.durable.store(pack(at), Ordering::Release);
    }

    /// What flush said last.
    pub fn durable(&self) -> Position {
        unpack(self.durable.load(Ordering::Acquire))
    }

    /// Everything before is in Kafka, and that is written down.
    pub fn set_shipped(&self, at: Position) {
        self.shipped.store(pack(at), Ordering::Release);
    }

    /// Segments below this are in Kafka, whole.
    pub fn shipped_below(&self) -> u64 {
        unpack(self.shipped.load(Ordering::Acquire)).segment
    }

    /// Nothing more becomes durable.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Was it said?
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let reach = Reach::new(Position { segment: 3, offset: 8_192 });
        assert_eq!((reach.shipped_below(), reach.durable()), (3, Position::default()));
        for at in [Position { segment: 1, offset: 4_096 }, Position { segment: 1 << 39, offset: (1 << 36) - 4_096 }] {
            reach.set_durable(at);
            assert_eq!(reach.durable(), at);
        }
    }
}
