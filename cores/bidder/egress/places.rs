//! Where a DSP is: its addresses, which of them cannot be reached for now, and which connections are to one that it has left.
//! Owns: the addresses of one lane. Runs on: each bidder core. Called by: `egress`. Never: resolves a name.
//!
//! Connections are spread over the addresses one after the other. A reload that moves a DSP means it at once; a name that has
//! moved leaves what is open in use for a little while, until there are connections to the new place.
use outcry::units::MS;
use std::net::SocketAddr;

/// An address to which no connection could be made is left out for so long, while there are others.
const OUT_NS: u64 = 5_000 * MS;
/// After a name has moved, connections to where it was serve for so long at most.
const LEAVING_NS: u64 = 2_000 * MS;

/// Where a connection leads to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    addr: Option<SocketAddr>,
    /// As of which change that is right.
    epoch: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// With when each may be tried again.
    all: Vec<(SocketAddr, u64)>,
    next: usize,
    /// Counts changes.
    epoch: u32,
    /// Connections from before this one are of no use, wherever they lead.
    since: u32,
    /// Until then connections to addresses that are gone may be used.
    leaving_ns: u64,
}

impl Places {
    pub(super) fn new(addrs: &[SocketAddr]) -> Places {
        Places { all: addrs.iter().map(|addr| (*addr, 0)).collect(), ..Places::default() }
    }

    fn put(&mut self, addrs: &[SocketAddr]) {
        let until_ns = |addr: &SocketAddr| self.all.iter().find(|(a, _)| a == addr).map_or(0, |(_, until)| *until);
        self.all = addrs.iter().map(|addr| (*addr, until_ns(addr))).collect();
        self.epoch += 1;
    }

    /// A configuration says so; `renewed`: of the old connections none is of use any more, wherever it leads.
    pub(super) fn configure(&mut self, addrs: &[SocketAddr], renewed: bool) {
        if renewed || !self.all.iter().map(|(addr, _)| addr).eq(addrs) {
            self.put(addrs);
            self.leaving_ns = 0;
        }
        if renewed {
            self.since = self.epoch;
        }
    }

    /// The name has moved: to these addresses, its ports as they were.
    pub(super) fn moved(&mut self, addrs: &[SocketAddr], now_ns: u64) {
        self.put(addrs);
        self.leaving_ns = now_ns + LEAVING_NS;
    }

    /// Its port, if it has one.
    pub(super) fn port(&self) -> Option<u16> {
        self.all.first().map(|(addr, _)| addr.port())
    }

    /// Where the next connection is to be made to: each in turn, those that are out only if all are.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<(SocketAddr, Place)> {
        let n = self.all.len();
        let turn = (0..n).map(|i| (self.next + i) % n);
        let at = turn.min_by_key(|at| self.all[*at].1.saturating_sub(now_ns))?;
        self.next = at + 1;
        let addr = self.all[at].0;
        Some((addr, Place { addr: Some(addr), epoch: self.epoch }))
    }

    /// No connection could be made there.
    pub(super) fn out(&mut self, place: Place, now_ns: u64) {
        if let Some((_, until_ns)) = self.all.iter_mut().find(|(addr, _)| Some(*addr) == place.addr) {
            *until_ns = now_ns + OUT_NS;
        }
    }

    /// Is there one that could be tried?
    pub(super) fn has_another(&self, now_ns: u64) -> bool {
        self.all.iter().any(|(_, until_ns)| *until_ns <= now_ns)
    }

    /// May a connection that leads there be used?
    #[inline]
    pub(super) fn holds(&self, place: &mut Place, now_ns: u64) -> bool {
        place.epoch == self.epoch || self.still_holds(place, now_ns)
    }

    #[cold]
    fn still_holds(&self, place: &mut Place, now_ns: u64) -> bool {
        if place.epoch < self.since {
            return false;
        }
        if self.is_there(place) {
            place.epoch = self.epoch;
            return true;
        }
        now_ns < self.leaving_ns
    }

    /// Does it lead to where the DSP is?
    pub(super) fn is_there(&self, place: &Place) -> bool {
        self.all.iter().any(|(addr, _)| Some(*addr) == place.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 443))
    }

    #[test]
    fn connections_go_to_each_in_turn_and_past_whom_nobody_reaches() {
        let mut places = Places::new(&[addr(1), addr(2), addr(3)]);
        let first: Vec<_> = (0..6).map(|_| places.take(1).unwrap().0).collect();
        assert_eq!(first, [1, 2, 3, 1, 2, 3].map(addr));
        let (_, one) = places.take(1).unwrap();
        places.out(one, 1);
        let then: Vec<_> = (0..4).map(|_| places.take(2).unwrap().0).collect();
        assert_eq!(then, [2, 3, 2, 3].map(addr));
        let back = 2 + OUT_NS;
        let later: Vec<_> = (0..3).map(|_| places.take(back).unwrap().0).collect();
        assert_eq!(later, [1, 2, 3].map(addr));
        for last in 1..=3 {
            places.out(Place { addr: Some(addr(last)), epoch: 0 }, back);
        }
        assert!(!places.has_another(back) && places.has_another(back + OUT_NS));
        assert!(places.take(back).is_some(), "rather one of them than none");
        assert!(Places::new(&[]).take(0).is_none());
    }

    #[test]
    fn a_name_that_moves_leaves_its_connections_a_while_and_a_reload_does_not() {
        let mut places = Places::new(&[addr(1), addr(2)]);
        let [mut one, mut two] = [0, 0].map(|now_ns| places.take(now_ns).unwrap().1);
        places.moved(&[addr(2), addr(3)], 5);
        assert!(places.holds(&mut two, 5 + LEAVING_NS), "it is still there");
        assert!(places.holds(&mut one, 5) && !places.holds(&mut one, 5 + LEAVING_NS));
        assert!(!places.is_there(&one));
        places.configure(&[addr(3)], false);
        assert!(!places.holds(&mut two, 6));
        let (_, mut three) = places.take(6).unwrap();
        places.configure(&[addr(3)], false);
        assert!(places.holds(&mut three, 6), "nothing has changed");
        places.configure(&[addr(3)], true);
        assert!(!places.holds(&mut three, 6), "of no use any more");
    }
}
