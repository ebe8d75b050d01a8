//! A timer wheel: tokens that come due, driven by the `now` of a loop turn.
//! Owns: the armed tokens of one core. Runs on: each bidder core. Called by: `bidder`.
//! Never: reads a clock, cancels. A timer that is no longer wanted comes due all the same and its owner sees
//! by the token's generation, or by its own deadline, that nothing is to be done: cheaper than unlinking, since
//! most auctions end before their deadline. Allocates only until it has held as many timers at once as traffic needs.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Timer<T> {
    tick: u64,
    token: T,
    next: u32,
}

/// First and last timer of a tick.
#[derive(Clone, Copy, Debug)]
struct Slot {
    first: u32,
    last: u32,
}

const EMPTY: Slot = Slot { first: NONE, last: NONE };

/// A wheel of `slots` ticks. A timer further away than that waits at the rim and is armed again when it comes by.
#[derive(Debug)]
pub struct Wheel<T> {
    tick_ns: u64,
    slots: Vec<Slot>,
    /// Lists through one vector, so that it grows with the timers armed at once, not with the slots ever used.
    timers: Vec<Timer<T>>,
    free: u32,
    /// Everything due up to this tick has been handed out.
    done_tick: u64,
    armed: usize,
}

impl<T: Copy> Wheel<T> {
    /// `slots` is rounded up to a power of two. Time before `now_ns` is over.
    pub fn new(tick_ns: u64, slots: usize, now_ns: u64) -> Wheel<T> {
        assert!(tick_ns > 0, "a wheel needs a tick");
        Wheel {
            tick_ns,
            slots: vec![EMPTY; slots.next_power_of_two()],
            timers: Vec::new(),
            free: NONE,
            done_tick: now_ns / tick_ns,
            armed: 0,
        }
    }

    /// Timers that have not come due.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// No timer is armed.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// `token` comes due at the first [`Wheel::turn`] whose tick begins at or after `due_ns`: never early, late by
    /// less than a tick.
    pub fn arm(&mut self, due_ns: u64, token: T) {
        let tick = due_ns.div_ceil(self.tick_ns).max(self.done_tick + 1);
        let timer = Timer { tick, token, next: NONE };
        let at = match self.timers.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.next;
                *free = timer;
                at
            }
            None => {
                self.timers.push(timer);
                (self.timers.len() - 1) as u32
            }
        };
        self.append(at);
        self.armed += 1;
    }

    fn append(&mut self, at: u32) {
        let rim = self.done_tick + self.slots.len() as u64;
        let mask = self.slots.len() - 1;
        let slot = &mut self.slots[self.timers[at as usize].tick.min(rim) as usize & mask];
        match self.timers.get_mut(slot.last as usize) {
            Some(last) => last.next = at,
            None => slot.first = at,
        }
        slot.last = at;
    }

    /// Hands out every token due at `now_ns`, tick by tick in order, a tick's in the order they were armed.
    pub fn turn(&mut self, now_ns: u64, due: &mut Vec<T>) {
        let now_tick = now_ns / self.tick_ns;
        if now_tick <= self.done_tick {
            return;
        }
        let mask = self.slots.len() - 1;
        // After a long sleep one round of the wheel sees every slot.
        let last = now_tick.min(self.done_tick + self.slots.len() as u64);
        let first = self.done_tick + 1;
        self.done_tick = now_tick; // what waits at the rim is armed again from here
        if self.armed == 0 {
            return;
        }
        for tick in first..=last {
            let slot = std::mem::replace(&mut self.slots[tick as usize & mask], EMPTY);
            let mut at = slot.first;
            while at != NONE {
                let timer = &mut self.timers[at as usize];
                let next = std::mem::replace(&mut timer.next, NONE);
                if timer.tick <= now_tick {
                    due.push(timer.token);
                    timer.next = self.free;
                    self.free = at;
                    self.armed -= 1;
                } else {
                    self.append(at);
                }
                at = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list: nothing early, nothing lost, nothing later than a tick.
        #[test]
        fn a_wheel_is_a_list_of_deadlines(steps in proptest::collection::vec((0u64..5_000, proptest::collection::vec(0u64..40_000, 0..5)), 1..60)) {
            let (tick, mut now) = (100u64, 12_345u64);
            let mut wheel = Wheel::new(tick, 16, now);
            let mut twin: Vec<(u64, u32)> = Vec::new();
            let mut next = 0u32;
            let mut due = Vec::new();
            for (pass, arms) in steps {
                for ahead in arms {
                    wheel.arm(now + ahead, next);
                    twin.push((now + ahead, next));
                    next += 1;
                }
                now += pass;
                due.clear();
                wheel.turn(now, &mut due);
                for token in &due {
                    let at = twin.iter().position(|t| t.1 == *token).expect("handed out once");
                    prop_assert!(twin[at].0 <= now, "early");
                    twin.remove(at);
                }
                for (at, token) in &twin {
                    prop_assert!(at + tick > now || now / tick == 123, "late: {token} due {at} now {now}");
                }
                prop_assert_eq!(wheel.len(), twin.len());
            }
        }
    }
}
