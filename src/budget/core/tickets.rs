//! What won auctions were charged, until it is known whether their answers arrived.
//! Owns: two rings. Runs on: each bidder core. Called by: the core's ledger. Never: searches.
//! Full: an auction of long ago is forgotten, which means that it was delivered; counted.
//!
//! An auction has its place by its number, as numbers rise by one: it is found at once, and another takes its place only
//! after as many auctions as there are places.
use crate::{auction::Ticket, units::Money};

/// One winner's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Charged {
    pub(super) ticket: Ticket,
    pub(super) charge: Money,
}

/// The winners of one auction: `count` places from `first` on, counted since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Auction {
    /// Zero: none, auctions are numbered from one.
    seq: u64,
    first: u64,
    count: u32,
}

#[derive(Debug)]
pub(super) struct Tickets {
    auctions: Box<[Auction]>,
    charged: Box<[Charged]>,
    /// Winners so far.
    written: u64,
    /// Auctions of which nothing was heard before they were forgotten.
    pub(super) overwritten: u64,
}

impl Tickets {
    /// For so many auctions, at least, whose delivery is not known.
    pub(super) fn new(auctions: usize) -> Tickets {
        let n = auctions.max(1).next_power_of_two();
        Tickets {
            auctions: vec![Auction::default(); n].into(),
            // Most have one winner.
            charged: vec![Charged::default(); 2 * n].into(),
            written: 0,
            overwritten: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.auctions) + size_of_val(&*self.charged)
    }

    fn place(&self, seq: u64) -> usize {
        (seq & (self.auctions.len() as u64 - 1)) as usize
    }

    /// A winner of an auction; all of one auction follow each other.
    pub(super) fn put(&mut self, seq: u64, ticket: Ticket, charge: Money) {
        let at = self.place(seq);
        let auction = &mut self.auctions[at];
        if auction.seq != seq {
            self.overwritten += u64::from(auction.seq != 0);
            *auction = Auction { seq, first: self.written, count: 0 };
        }
        auction.count += 1;
        let n = self.charged.len() as u64;
        self.charged[(self.written % n) as usize] = Charged { ticket, charge };
        self.written += 1;
    }

    /// It is known now: forgotten. How many winners it had.
    pub(super) fn forget(&mut self, seq: u64) -> std::ops::Range<u64> {
        let at = self.place(seq);
        let auction = &mut self.auctions[at];
        if auction.seq != seq || seq == 0 {
            return 0..0;
        }
        let range = auction.first..auction.first + u64::from(auction.count);
        *auction = Auction::default();
        if self.written - range.start > self.charged.len() as u64 {
            self.overwritten += 1;
            return 0..0;
        }
        range
    }

    /// A winner of what [`Tickets::forget`] named.
    pub(super) fn get(&self, at: u64) -> Charged {
        self.charged[(at % self.charged.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn winners_are_found_until_others_need_their_place() {
        let mut t = Tickets::new(4);
        for seq in 1..=4 {
            t.put(seq, Ticket { slot: seq as u32, ..Ticket::default() }, Money(seq as i64));
        }
        t.put(4, Ticket { slot: 9, ..Ticket::default() }, Money(9));
        let four: Vec<_> = t.forget(4).map(|at| t.get(at).charge.0).collect();
        assert_eq!(four, [4, 9]);
        assert_eq!(t.forget(4), 0..0, "once");
        t.put(5, Ticket::default(), Money(5));
        assert_eq!((t.overwritten, t.forget(1)), (1, 0..0), "five took its place");
        // The winners of one auction push out those of another.
        (0..7).for_each(|_| t.put(6, Ticket::default(), Money(6)));
        assert_eq!(t.forget(3), 0..0);
        assert_eq!(t.overwritten, 3, "one, two and three were forgotten unheard");
        assert_eq!(t.forget(6).count(), 7);
    }
}
