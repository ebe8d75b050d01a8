//! What a loop turn is: one reading of the clock at its first event, everything pending sent at its end.
//! Owns: the core's clock. Runs on: each bidder core. Never: read by anybody but the turn.
use outcry::units::Now;
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;

/// CLOCK_BOOTTIME in nanoseconds: no system call, the kernel maps it into the process.
pub fn boot_ns() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The wall clock less CLOCK_BOOTTIME.
pub fn wall_offset_ns() -> i64 {
    let wall = clock_gettime(ClockId::Realtime);
    let boot = clock_gettime(ClockId::Boottime);
    (wall.tv_sec - boot.tv_sec) * 1_000_000_000 + (wall.tv_nsec - boot.tv_nsec)
}

/// Both at once, for threads without turns.
pub fn now() -> Now {
    Now { boot_ns: boot_ns(), wall_offset_ns: wall_offset_ns() }
}

/// How often the wall clock's offset is looked at: it is slewed by parts in a million.
const WALL_NS: u64 = 1_000_000_000;

/// The clock of a core: stands still within a turn.
#[derive(Debug)]
pub struct TurnClock {
    now: Cell<Now>,
    wall_read_ns: Cell<u64>,
    open: Cell<bool>,
}

impl TurnClock {
    /// Reads it for the first time.
    pub fn new() -> TurnClock {
        let now = now();
        TurnClock { now: Cell::new(now), wall_read_ns: Cell::new(now.boot_ns), open: Cell::new(false) }
    }

    /// The turn's time; the first to ask begins the turn, which the second value says.
    pub fn now(&self) -> (Now, bool) {
        if self.open.replace(true) {
            return (self.now.get(), false);
        }
        let mut now = self.now.get();
        now.boot_ns = boot_ns();
        if now.boot_ns.saturating_sub(self.wall_read_ns.get()) > WALL_NS {
            self.wall_read_ns.set(now.boot_ns);
            now.wall_offset_ns = wall_offset_ns();
        }
        self.now.set(now);
        (now, true)
    }

    /// The turn is over; the next to ask begins another. `false`: none was begun.
    pub fn end(&self) -> bool {
        self.open.replace(false)
    }
}

impl Default for TurnClock {
    fn default() -> Self {
        TurnClock::new()
    }
}
