//! A DSP that says "too many" (429, or 503 with Retry-After) is asked less, not left alone.
//! Owns: the share of requests that it gets. Runs on: each bidder core. Called by: [`super::health`].
//! Never: falls to nothing, so that it is known when it is better.
use crate::units::MS;

/// All requests.
const ALL: u32 = 1_024;
/// The least share: one in 64.
const LEAST: u32 = ALL / 64;
/// The share is halved once in this time: what was under way as it fell says the same again.
const ONCE_NS: u64 = 250 * MS;
/// The share grows by a sixteenth of all in this time, and begins to as long after the last complaint.
const GROW_NS: u64 = 1_000 * MS;
/// No Retry-After is believed beyond this.
const RETRY_AFTER_S_MAX: u32 = 60;

/// The share of one DSP.
#[derive(Clone, Debug)]
pub struct Throttle {
    share: u32,
    credit: u32,
    lowered_ns: u64,
    grows_ns: u64,
}

impl Default for Throttle {
    fn default() -> Throttle {
        Throttle { share: ALL, credit: 0, lowered_ns: 0, grows_ns: 0 }
    }
}

impl Throttle {
    /// It said "too many", and perhaps for how many seconds.
    pub fn less(&mut self, retry_after_s: Option<u32>, now_ns: u64) {
        if self.share == ALL || now_ns >= self.lowered_ns + ONCE_NS {
            (self.share, self.lowered_ns) = ((self.share / 2).max(LEAST), now_ns);
        }
        let wait_ns = u64::from(retry_after_s.unwrap_or(0).min(RETRY_AFTER_S_MAX)) * 1_000 * MS;
        self.grows_ns = self.grows_ns.max(now_ns + wait_ns.max(GROW_NS));
    }

    /// May this request go?
    #[inline]
    pub fn passes(&mut self, now_ns: u64) -> bool {
        if self.share == ALL {
            return true;
        }
        while self.share < ALL && now_ns >= self.grows_ns {
            self.share = (self.share + ALL / 16).min(ALL);
            self.grows_ns += GROW_NS;
        }
        self.credit += self.share;
        let passes = self.credit >= ALL;
        if passes {
            self.credit -= ALL;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000 * MS;

    fn passed(t: &mut Throttle, now_ns: u64) -> usize {
        (0..1_024).filter(|_| t.passes(now_ns)).count()
    }

    #[test]
    fn half_once_and_never_nothing() {
        let mut t = Throttle::default();
        assert_eq!(passed(&mut t, S), 1_024);
        (0..100).for_each(|_| t.less(None, S));
        assert_eq!(passed(&mut t, S), 512);
        (0..100).for_each(|i| t.less(None, 2 * S + i * ONCE_NS));
        assert_eq!(passed(&mut t, 2 * S), 16);
    }

    #[test]
    fn it_grows_when_the_wait_is_over_and_is_whole_within_seventeen_seconds() {
        let mut t = Throttle::default();
        (0..100).for_each(|i| t.less(Some(30), i * ONCE_NS));
        let last = 99 * ONCE_NS;
        assert_eq!(passed(&mut t, last + 29 * S), 16);
        assert!(passed(&mut t, last + 31 * S) > 64);
        assert_eq!(passed(&mut t, last + 47 * S), 1_024);
        // Nobody says so long.
        t.less(Some(u32::MAX), 1_000 * S);
        assert!(passed(&mut t, 1_061 * S) > 512);
    }
}
