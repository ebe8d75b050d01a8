//! The hybrid logical clock: one number that is near the wall clock and never runs against cause and effect.
//! Owns: the last time it gave. Runs on: whoever stamps frames; one clock for each writer. Called by: bidder cores, flush
//! and control, with the wall clock as an argument. Never: goes back, gives a time twice, reads a clock.
//! Full: 65,536 times within one millisecond carry into the next.
//!
//! After Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks" (2014). What is stamped on one machine,
//! sent to another and stamped there has a greater time there, whatever the two wall clocks say: an advertiser's
//! events from several servers sort the same everywhere. The price of an event is never in its time, so a wrong clock
//! can spoil an order, not a sum.
use std::fmt;

/// Milliseconds since 1970 in the upper 48 bits, a counter in the lower 16. Compares as time. 0 is before everything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The last time there is: in the year 10889.
    pub const MAX: Hlc = Hlc(u64::MAX);
    const COUNTER_BITS: u32 = 16;
    const MS_MAX: u64 = u64::MAX >> Hlc::COUNTER_BITS;

    /// The first time of a millisecond since 1970; later than [`Hlc::MAX`] is [`Hlc::MAX`]'s millisecond.
    pub const fn of_ms(ms: u64) -> Hlc {
        let ms = if ms > Hlc::MS_MAX { Hlc::MS_MAX } else { ms };
        Hlc(ms << Hlc::COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.0 >> Hlc::COUNTER_BITS
    }

    /// Its place within the millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Hlc {
    /// Milliseconds and counter: `1795280000123.4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// A remote time that is too far ahead of our wall clock to follow: one of the two clocks is wrong, and a clock that
/// followed every other would soon be as wrong as the worst. The caller counts it and goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a remote clock is {ahead_ms} ms ahead of ours, which is more than {max_ms} ms; check the time on both machines"
)]
pub struct TooFarAhead {
    /// How far it is ahead of our wall clock, milliseconds.
    pub ahead_ms: u64,
    /// How far it may be.
    pub max_ms: u64,
}

/// One writer's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    last: Hlc,
    ahead_max_ms: u64,
}

impl Clock {
    /// How far a remote clock may pull ours where nothing else is said: NTP keeps machines within milliseconds, and a
    /// minute is what an operator's dashboards can bear.
    pub const AHEAD_MAX_MS: u64 = 60_000;

    /// A clock that has given `last`, or nothing yet at [`Hlc::default`]: after a start, the greatest time the journal
    /// knows of this writer. A remote clock may pull it so many milliseconds ahead of the wall clock.
    pub const fn new(last: Hlc, ahead_max_ms: u64) -> Clock {
        Clock { last, ahead_max_ms }
    }

    /// The last time it gave.
    pub const fn last(&self) -> Hlc {
        self.last
    }

    /// The time of an event here: after all that it gave, and the wall clock's millisecond if that is later.
    #[inline]
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        self.last = after(self.last).max(Hlc::of_ms(wall_ms));
        self.last
    }

    /// The time at which an event of another machine is heard of: after all that it gave, and after `remote`.
    ///
    /// # Errors
    /// [`TooFarAhead`]: the remote clock's milliseconds are more than the bound ahead of `wall_ms`. Nothing has
    /// changed; an event here is then stamped by [`Clock::tick`] and may sort before the one it came of.
    pub fn merge(&mut self, remote: Hlc, wall_ms: u64) -> Result<Hlc, TooFarAhead> {
        let ahead_ms = remote.ms().saturating_sub(wall_ms);
        if ahead_ms > self.ahead_max_ms {
            return Err(TooFarAhead { ahead_ms, max_ms: self.ahead_max_ms });
        }
        self.last = after(self.last.max(remote)).max(Hlc::of_ms(wall_ms));
        Ok(self.last)
    }

    /// How far it is ahead of the wall clock, milliseconds: a metric. More than a remote clock may pull it means that
    /// the wall clock went back.
    pub const fn ahead_ms(&self, wall_ms: u64) -> u64 {
        self.last.ms().saturating_sub(wall_ms)
    }
}

/// The next time; a counter that is full carries into the milliseconds.
#[inline]
const fn after(time: Hlc) -> Hlc {
    Hlc(time.0.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clock() -> Clock {
        Clock::new(Hlc::default(), Clock::AHEAD_MAX_MS)
    }

    #[test]
    fn it_follows_the_wall_clock_and_counts_where_that_stands() {
        let mut c = clock();
        let times: Vec<_> = [1000, 1000, 999, 1001, 1001].iter().map(|ms| c.tick(*ms).to_string()).collect();
        assert_eq!(times, ["1000.0", "1000.1", "1000.2", "1001.0", "1001.1"]);
        assert_eq!((Hlc::of_ms(1001), Hlc(1001 << 16)), (Hlc(65_601_536), Hlc(65_601_536)));
    }

    #[test]
    fn a_full_counter_carries() {
        let mut c = Clock::new(Hlc(1000 << 16 | 0xffff), 0);
        assert_eq!(c.tick(1000).to_string(), "1001.0");
        assert_eq!(c.tick(1000).to_string(), "1001.1");
        assert_eq!(c.ahead_ms(1000), 1);
        // At the end of time it stands; nothing wraps to the beginning.
        let mut c = Clock::new(Hlc::MAX, 0);
        assert_eq!((c.tick(0), Hlc::of_ms(u64::MAX).ms()), (Hlc::MAX, Hlc::MS_MAX));
    }

    #[test]
    fn a_remote_clock_pulls_as_far_as_it_may() {
        let mut c = Clock::new(Hlc::default(), 500);
        c.tick(1000);
        assert_eq!(c.merge(Hlc(1500 << 16 | 7), 1000).map(|t| t.to_string()), Ok("1500.8".into()));
        assert_eq!(c.merge(Hlc::of_ms(1501), 1000), Err(TooFarAhead { ahead_ms: 501, max_ms: 500 }));
        assert_eq!(c.last().to_string(), "1500.8", "a refusal changes nothing");
        // One that is behind is simply before us.
        assert_eq!(c.merge(Hlc::of_ms(3), 1000).map(|t| t.to_string()), Ok("1500.9".into()));
        assert_eq!(c.merge(Hlc::of_ms(3), 1600).map(|t| t.to_string()), Ok("1600.0".into()));
    }

    /// What a node does in a random run.
    #[derive(Clone, Debug)]
    enum Step {
        /// Something happens there.
        Event,
        /// It sends to that node.
        Send(usize),
        /// It hears the oldest message that waits for it.
        Hear,
        /// Its wall clock is put to so many milliseconds off the true time.
        Jump(i64),
        /// True time goes on.
        Pass(u64),
    }

    const NODES: usize = 4;
    /// A day, so that clocks that are wrong by minutes are still after 1970.
    const BEGIN_MS: i64 = 86_400_000;

    fn step() -> impl Strategy<Value = (usize, Step)> {
        let off = -300_000i64..300_000;
        let step = prop_oneof![
            3 => Just(Step::Event),
            3 => (0..NODES).prop_map(Step::Send),
            3 => Just(Step::Hear),
            1 => off.prop_map(Step::Jump),
            2 => (0u64..200).prop_map(Step::Pass),
        ];
        (0..NODES, step)
    }

    proptest! {
        /// Whatever the wall clock does, time goes on; and never away from the latest that it was shown by more than
        /// what the counter carries.
        #[test]
        fn a_clock_is_monotone(walls in prop::collection::vec(0u64..1 << 40, 1..200), last: u32) {
            let mut c = Clock::new(Hlc(u64::from(last)), 0);
            let mut latest = c.last().ms();
            for wall in walls {
                let before = c.last();
                let now = c.tick(wall);
                latest = latest.max(wall);
                prop_assert!(now > before && now.ms() >= wall && now.ms() <= latest + 1);
            }
        }

        /// Nodes whose clocks are wrong by minutes and jump: what happened before sorts before, unless a merge was
        /// refused; and no clock is further from the true time than the worst clock is wrong, and the bound.
        #[test]
        fn happened_before_is_earlier(
            offsets in prop::collection::vec(-300_000i64..300_000, NODES),
            ahead_max_ms in prop_oneof![Just(0), Just(1_000), Just(60_000), Just(1 << 40)],
            steps in prop::collection::vec(step(), 1..300),
        ) {
            let mut clocks = [Clock::new(Hlc::default(), ahead_max_ms); NODES];
            let mut offsets: Vec<i64> = offsets;
            let mut mail: Vec<Vec<Hlc>> = vec![Vec::new(); NODES];
            let mut latest_wall = [0u64; NODES];
            let mut true_ms = BEGIN_MS;
            for (node, step) in steps {
                let wall = (true_ms + offsets[node]) as u64;
                let before = clocks[node].last();
                match step {
                    Step::Event => {
                        clocks[node].tick(wall);
                    }
                    Step::Send(to) => {
                        let stamp = clocks[node].tick(wall);
                        mail[to].push(stamp);
                    }
                    Step::Hear => {
                        if mail[node].is_empty() {
                            continue;
                        }
                        let stamp = mail[node].remove(0);
                        match clocks[node].merge(stamp, wall) {
                            Ok(heard) => prop_assert!(heard > stamp, "{} is not after {}", heard, stamp),
                            Err(refused) => {
                                prop_assert!(refused.ahead_ms > ahead_max_ms);
                                prop_assert_eq!(stamp.ms(), wall + refused.ahead_ms);
                                prop_assert_eq!(clocks[node].last(), before);
                                continue;
                            }
                        }
                    }
                    Step::Jump(off) => {
                        offsets[node] = off;
                        continue;
                    }
                    Step::Pass(ms) => {
                        true_ms += ms as i64;
                        continue;
                    }
                }
                latest_wall[node] = latest_wall[node].max(wall);
                let now = clocks[node].last();
                prop_assert!(now > before, "time went back on {}", node);
                prop_assert!(now.ms() >= wall);
                // Bounded drift: past the latest that its own wall clock said by at most what a remote may pull, and
                // one for a counter that carries.
                prop_assert!(now.ms() <= latest_wall[node].saturating_add(ahead_max_ms).saturating_add(1));
            }
        }
    }
}
