//! Book-keeping of one core's connections to one DSP. The sockets are `bidder/egress`'s.
//! Owns: who is idle, how many there are, how many may be. Runs on: each bidder core.
//! Never: holds a request; a full pool says so and the caller waits or gives up.
//! LIFO, so that few sockets stay hot: a send on a cold one costs half as much again.
//!
//! So many are warm as are idle: whoever takes one is followed by another that is made, for whoever comes next. What is in use at
//! the peak and the warm ones stay open until they idle.

/// What a caller that needs a connection is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    /// Use this one.
    Idle(u32),
    /// None is idle: open one more, and wait for whichever becomes free first.
    Open,
    /// None is idle and no more may be opened: wait.
    Full,
}

/// One core's pool for one DSP.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Vec<u32>,
    open: usize,
    connecting: usize,
    max: usize,
    warm: usize,
}

impl Pool {
    /// At most `max` connections, `warm` of them idle.
    pub fn new(warm: usize, max: usize) -> Pool {
        Pool { idle: Vec::with_capacity(max.min(1024)), open: 0, connecting: 0, max, warm: warm.min(max) }
    }

    /// Takes new limits; connections above them are closed when they become idle.
    pub fn resize(&mut self, warm: usize, max: usize) {
        (self.warm, self.max) = (warm.min(max), max);
    }

    /// The connection used last, if one is idle. `waiting` callers are already queued: a connection is opened for each
    /// of them and no more.
    pub fn take(&mut self, waiting: usize) -> Take {
        match self.take_idle() {
            Some(conn) => Take::Idle(conn),
            None if self.connecting <= waiting && self.open_one() => Take::Open,
            None => Take::Full,
        }
    }

    /// The connection used last, if one is idle.
    pub fn take_idle(&mut self) -> Option<u32> {
        self.idle.pop()
    }

    /// May one more be opened? Then it counts as connecting from now.
    pub fn open_one(&mut self) -> bool {
        let may = self.open + self.connecting < self.max;
        self.connecting += usize::from(may);
        may
    }

    /// Are there fewer idle ones than there should be, and may more be made?
    #[inline]
    pub fn is_low(&self) -> bool {
        self.idle.len() < self.warm && self.open + self.connecting < self.max
    }

    /// How many to open so that the warm ones are there when `waiting` callers have theirs; they count as connecting from now.
    pub fn top_up(&mut self, waiting: usize) -> usize {
        let missing = (self.warm + waiting).saturating_sub(self.idle.len() + self.connecting);
        let missing = missing.min(self.max.saturating_sub(self.open + self.connecting));
        self.connecting += missing;
        missing
    }

    /// May an idle one that nobody needed for long be closed?
    pub fn has_spare(&self) -> bool {
        self.idle.len() > self.warm
    }

    /// A connection that [`Take::Open`] or [`Pool::top_up`] asked for is there, in use.
    pub fn connected(&mut self) {
        debug_assert!(self.connecting > 0, "connected without connecting");
        self.connecting = self.connecting.saturating_sub(1);
        self.open += 1;
    }

    /// It could not be made.
    pub fn connect_failed(&mut self) {
        debug_assert!(self.connecting > 0, "failed without connecting");
        self.connecting = self.connecting.saturating_sub(1);
    }

    /// A connection in use is free again. `false`: there are too many, close it (and report [`Pool::closed`]).
    #[must_use]
    pub fn give_back(&mut self, conn: u32) -> bool {
        if self.open > self.max {
            return false;
        }
        self.idle.push(conn);
        true
    }

    /// An idle connection is taken out of turn: to be closed, or because it broke.
    pub fn remove_idle(&mut self, conn: u32) {
        if let Some(at) = self.idle.iter().rposition(|&c| c == conn) {
            self.idle.remove(at);
        }
    }

    /// A connection that is not idle is gone.
    pub fn closed(&mut self) {
        debug_assert!(self.open > self.idle.len(), "closed more than were in use");
        self.open = self.open.saturating_sub(1);
    }

    /// Open connections, idle or in use.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Idle connections.
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Connections being made.
    pub fn connecting(&self) -> usize {
        self.connecting
    }

    /// Warm ones are all there.
    pub fn is_warm(&self) -> bool {
        self.open >= self.warm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_one_given_back_is_taken_first() {
        let mut p = Pool::new(0, 2);
        assert_eq!((p.take(0), p.take(1), p.take(2)), (Take::Open, Take::Open, Take::Full));
        p.connected();
        p.connected();
        assert!(p.give_back(7) && p.give_back(9));
        assert_eq!((p.take(0), p.take(0), p.take(0)), (Take::Idle(9), Take::Idle(7), Take::Full));
    }

    #[test]
    fn one_connection_is_opened_for_each_who_waits() {
        let mut p = Pool::new(3, 10);
        assert_eq!(p.top_up(0), 3);
        assert_eq!(p.top_up(0), 0, "they are on their way");
        assert_eq!(p.take(0), Take::Full, "one of the three is for this caller");
        assert_eq!(p.take(3), Take::Open);
    }

    /// One more caller at a time than ever before: each finds a connection, because the one before him left a spare behind.
    #[test]
    fn a_spare_follows_each_that_is_taken() {
        let mut p = Pool::new(2, 9);
        let mut next = 0;
        let mut refill = |p: &mut Pool| {
            for _ in 0..p.top_up(0) {
                p.connected();
                assert!(p.give_back(next));
                next += 1;
            }
        };
        refill(&mut p);
        for taken in 0..9 {
            assert!(matches!(p.take(0), Take::Idle(_)), "the {taken}th");
            assert_eq!(p.is_low(), taken < 7);
            refill(&mut p);
        }
        assert_eq!((p.open(), p.take(0)), (9, Take::Full), "no more than may be");
    }

    proptest! {
        /// Never more than allowed, never one connection twice, whatever happens in whatever order.
        #[test]
        fn a_pool_keeps_its_bounds(steps in proptest::collection::vec((0u8..6, 0usize..4), 1..300), max in 1usize..8) {
            let mut p = Pool::new(2, max);
            let (mut in_use, mut next) = (Vec::new(), 0u32);
            for (step, n) in steps {
                match step {
                    0 => { if let Take::Idle(c) = p.take(n) { prop_assert!(!in_use.contains(&c)); in_use.push(c); } }
                    1 => {
                        p.top_up(n);
                        let all_open = p.open() + p.connecting() == max;
                        prop_assert!(all_open || p.idle() + p.connecting() >= 2.min(max) + n);
                    }
                    2 if p.connecting() > 0 => { p.connected(); in_use.push(next); next += 1; }
                    3 if p.connecting() > 0 => p.connect_failed(),
                    4 if !in_use.is_empty() => {
                        let c = in_use.remove(n % in_use.len());
                        if !p.give_back(c) { p.closed(); }
                    }
                    5 if !in_use.is_empty() => { in_use.remove(n % in_use.len()); p.closed(); }
                    _ => {}
                }
                prop_assert!(p.open() + p.connecting() <= max);
                prop_assert_eq!(p.open(), p.idle() + in_use.len());
            }
        }
    }
}
