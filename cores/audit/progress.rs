//! How far a reading has come, on standard error once it takes long.
//! Owns: the clock. Called by: what reads many segments.
use super::say;
use std::time::{Duration, Instant};

/// Nothing is said before.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Progress {
    began: Instant,
    next: Duration,
    total: u64,
    done: u64,
}

impl Progress {
    /// Of so many bytes.
    pub(super) fn new(total: u64) -> Progress {
        Progress { began: Instant::now(), next: PATIENCE, total, done: 0 }
    }

    /// So far in the file at hand.
    pub(super) fn at(&mut self, bytes: u64) {
        let took = self.began.elapsed();
        if took < self.next {
            return;
        }
        self.next = took + PATIENCE;
        let mb = |bytes: u64| bytes / 1_000_000;
        say(format_args!("{} of {} MB read in {} s", mb(self.done + bytes), mb(self.total), took.as_secs()));
    }

    /// A file is over.
    pub(super) fn done(&mut self, bytes: u64) {
        self.done += bytes;
    }
}
