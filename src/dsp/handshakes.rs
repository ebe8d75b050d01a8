//! How much of a core's time TLS handshakes may take: each of their steps costs some hundred microseconds, in which no auction
//! goes on.
//! Owns: when the next step may be. Runs on: each bidder core. Called by: `bidder/egress`. Never: reads a clock.
use crate::units::MS;

/// While auctions are under way there is one step in this time: with the dearest of them, half a millisecond of checking
/// signatures, that is a third of the core and a wait that no deadline notices.
const APART_NS: u64 = MS;
/// Steps of one turn while nobody waits for an answer.
const STEPS_IDLE: usize = 16;
/// So long after the last call nobody does: at a thousand auctions a second a core has none under way every few turns, and sixteen
/// steps in one of those keep the next ones waiting for five milliseconds.
const IDLE_NS: u64 = 20 * MS;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    next_ns: u64,
    idle_ns: u64,
}

impl Pace {
    /// How many steps this turn may take. `busy`: calls are under way.
    pub fn steps(&mut self, busy: bool, now_ns: u64) -> usize {
        if busy {
            self.idle_ns = now_ns + IDLE_NS;
        }
        if now_ns >= self.idle_ns {
            return STEPS_IDLE;
        }
        if now_ns < self.next_ns {
            return 0;
        }
        self.next_ns = now_ns + APART_NS;
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred connections at once, while auctions go on: whatever the turns, there is a millisecond between two steps.
    #[test]
    fn a_busy_core_takes_one_step_a_millisecond() {
        for turn_ns in [10_000, 70_000, MS / 2 + 1, 3 * MS] {
            let (mut pace, mut steps, mut last_ns) = (Pace::default(), 0, None);
            for now_ns in (0..200).map(|turn| turn * turn_ns) {
                let now = pace.steps(true, now_ns);
                assert!(now <= 1);
                if now == 1 {
                    assert!(last_ns.is_none_or(|last: u64| now_ns - last >= APART_NS), "at {now_ns}");
                    last_ns = Some(now_ns);
                }
                steps += now as u64;
            }
            // And it does go on: no turn is left out in which one is due.
            let due = (200 * turn_ns).div_ceil(APART_NS.next_multiple_of(turn_ns));
            assert!(steps + 1 >= due, "{steps} of {due} with turns of {turn_ns} ns");
        }
        assert_eq!(Pace::default().steps(false, 0), STEPS_IDLE);
    }

    /// Between two auctions nothing is under way for some turns: that is no idle core.
    #[test]
    fn a_core_between_two_auctions_is_busy() {
        let mut pace = Pace::default();
        let steps: Vec<usize> = (0..400).map(|turn| pace.steps(turn % 20 == 0, turn * MS / 10)).collect();
        assert_eq!((steps.iter().max(), steps.iter().sum()), (Some(&1), 40), "{steps:?}");
        let idle_ns = 380 * MS / 10 + IDLE_NS;
        assert_eq!([idle_ns - 1, idle_ns].map(|now_ns| pace.steps(false, now_ns)), [1, STEPS_IDLE]);
    }
}
