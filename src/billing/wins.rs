//! What came of each win: the records behind a sum.
//! Owns: wins until it is known what came of them. Called by: `outcry audit`, for the wins that are asked for.
//! Never: keeps more than [`AHEAD`] wins because one before them waits. Full: those of which all is known are handed out before it.
//!
//! Kept: the wins that were asked for of a minute; where they wait for notices, those that no notice has come for in a token's
//! life. Each takes as much as what is to be printed of it, some five hundred bytes. And the notices of the last seconds that were
//! of none of them, since a notice may be read before its win.
use super::{
    Spot, Whose,
    bill::{Part, Sums},
    settling::{Came, DELIVERED_MS, EARLY_MS, Noticed, Won},
};
use crate::{
    auction::Delivery,
    notice::{holds::Of, price::Said},
    tiers::wins::Row,
    units::{Cpm, EventId, Money},
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What came of a win.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is charged for good; how its answer went.
    Charged(Delivery),
    /// No notice yet.
    Waits,
    /// Its notice came.
    Billed {
        /// What it comes to.
        charge: Money,
        /// CPM, the answer's currency.
        price: Cpm,
        /// What it said of the price.
        said: Said,
    },
    /// No notice came in time.
    Lapsed,
}

impl Fate {
    /// The name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Fate::Charged(Delivery::Written { .. }) => "written",
            Fate::Charged(Delivery::Late { .. }) => "late",
            Fate::Charged(Delivery::Failed) => "failed",
            Fate::Charged(Delivery::ClientLeft) => "client_left",
            Fate::Waits => "waits",
            Fate::Billed { .. } => "billed",
            Fate::Lapsed => "lapsed",
        }
    }
}

/// A win, with what whoever asked for it keeps of it.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    /// The auction.
    pub event: EventId,
    /// Which of its impressions.
    pub imp: u8,
    /// Who pays.
    pub whose: Whose,
    /// Where the auction is.
    pub spot: Spot,
    /// What it was charged there.
    pub charge: Money,
    /// What came of it.
    pub fate: Fate,
    /// What was freed of the charge.
    pub freed: Money,
    /// The record that says what came of it; `None`: there is none, as where an answer was simply written.
    pub because: Option<Spot>,
    /// What is to be printed.
    pub what: T,
    awaits: bool,
    test: bool,
}

impl<T> Kept<T> {
    /// One that is a row of the tiers, charged for good.
    pub fn of_row(row: &Row, what: T) -> Kept<T> {
        let won = &row.won;
        Kept {
            event: won.event,
            imp: won.imp_place,
            whose: Whose { payer: won.payer(), minute: won.window.0 },
            spot: Spot { ms: won.ms, segment: won.segment, offset: won.offset },
            charge: won.charge,
            fate: if won.awaits { Fate::Waits } else { Fate::Charged(row.delivery) },
            freed: row.freed,
            because: row.delivered.filter(|_| !won.awaits),
            what,
            awaits: won.awaits,
            test: won.test,
        }
    }

    /// What it comes to, in the lines of an invoice.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        // As in an invoice.
        if self.test {
            return sums;
        }
        sums.charged = Part::one(self.charge);
        match self.fate {
            Fate::Charged(_) if self.freed > Money(0) => sums.freed = Part::one(self.freed),
            Fate::Charged(_) => {}
            Fate::Waits => sums.waiting = Part::one(self.charge),
            Fate::Lapsed => sums.lapsed = Part::one(self.charge),
            Fate::Billed { charge, .. } if charge < self.charge => {
                sums.reduced = Part::one(Money(self.charge.0 - charge.0));
            }
            Fate::Billed { .. } => {}
        }
        sums
    }
}

/// So many wins are kept in the order of their auctions, if need be.
pub const AHEAD: usize = 100_000;

/// An auction's wins that were asked for, one behind the other.
#[derive(Clone, Copy, Debug)]
struct Auction {
    first: u64,
    wins: u8,
    /// Not handed out yet.
    left: u8,
}

/// See the module.
#[derive(Debug)]
pub struct Wins<T> {
    /// Holes where one was handed out before those before it.
    rows: VecDeque<Option<Box<Kept<T>>>>,
    /// The number of the first of them.
    first: u64,
    auctions: HashMap<EventId, Auction>,
    /// Those that wait, by the minute in which their notices expire.
    minutes: BTreeMap<(u32, Of), Vec<u64>>,
    /// Those that waited, in the order in which it became known what came of them; and those that never did.
    known: VecDeque<u64>,
    charged: VecDeque<u64>,
    /// Notices of no win that was asked for so far, with where they are; and their order.
    early: HashMap<(EventId, u8), (Noticed, Spot)>,
    recent: VecDeque<(u64, EventId, u8)>,
    ahead: usize,
    taken: u64,
}

impl<T> Default for Wins<T> {
    fn default() -> Wins<T> {
        Wins::new(AHEAD)
    }
}

impl<T> Wins<T> {
    /// None yet; so many are kept in order.
    pub fn new(ahead: usize) -> Wins<T> {
        Wins {
            rows: VecDeque::new(),
            first: 0,
            auctions: HashMap::new(),
            minutes: BTreeMap::new(),
            known: VecDeque::new(),
            charged: VecDeque::new(),
            early: HashMap::new(),
            recent: VecDeque::new(),
            ahead,
            taken: 0,
        }
    }

    /// Asks for a win.
    pub fn keep(&mut self, won: &Won<'_>, spot: Spot, what: T) {
        let number = self.first + self.rows.len() as u64;
        let event = won.record.inputs.event;
        let auction = self.auctions.entry(event).or_insert(Auction { first: number, wins: 0, left: 0 });
        (auction.wins, auction.left) = (auction.wins.saturating_add(1), auction.left.saturating_add(1));
        if let Some(expires_s) = won.awaited_s.filter(|_| won.win.account.is_some()) {
            self.minutes.entry((expires_s / 60, won.of)).or_default().push(number);
        }
        let awaits = won.awaited_s.is_some();
        if !awaits {
            self.charged.push_back(number);
        }
        self.rows.push_back(Some(Box::new(Kept {
            event,
            imp: won.win.imp,
            whose: won.whose,
            spot,
            charge: won.win.charge,
            fate: if awaits { Fate::Waits } else { Fate::Charged(Delivery::Written { at_ns: 0 }) },
            freed: Money(0),
            because: None,
            what,
            awaits,
            test: won.record.inputs.test,
        })));
        if let Some((noticed, spot)) = self.early.remove(&(event, won.win.imp)) {
            self.billed(&noticed, spot);
        }
    }

    /// Its notice came. False: it is of no win that was asked for.
    fn billed(&mut self, n: &Noticed, spot: Spot) -> bool {
        let Some(at) = self.of(n.event).find(|at| self.row(*at).is_some_and(|row| row.imp == n.imp && row.awaits))
        else {
            return false;
        };
        self.settle(at, Fate::Billed { charge: n.charge, price: n.price, said: n.said }, Some(spot));
        true
    }

    /// It is known what came of one that waited.
    fn settle(&mut self, number: u64, fate: Fate, because: Option<Spot>) {
        if let Some(row) = self.row_mut(number) {
            (row.fate, row.because) = (fate, because);
            self.known.push_back(number);
        }
    }

    /// Keeps a notice whose win may be read yet.
    fn early(&mut self, noticed: &Noticed, spot: Spot) {
        while let Some((_, event, imp)) = self.recent.front().filter(|r| r.0.saturating_add(EARLY_MS) < spot.ms) {
            self.early.remove(&(*event, *imp));
            self.recent.pop_front();
        }
        self.early.insert((noticed.event, noticed.imp), (*noticed, spot));
        self.recent.push_back((spot.ms, noticed.event, noticed.imp));
    }

    /// The numbers of an auction's wins.
    fn of(&self, event: EventId) -> std::ops::Range<u64> {
        self.auctions.get(&event).map_or(0..0, |auction| auction.first..auction.first + u64::from(auction.wins))
    }

    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn row(&self, number: u64) -> Option<&Kept<T>> {
        self.rows.get(self.at(number)?)?.as_deref()
    }

    fn row_mut(&mut self, number: u64) -> Option<&mut Kept<T>> {
        let at = self.at(number)?;
        self.rows.get_mut(at)?.as_deref_mut()
    }

    /// What a frame means for those that were asked for.
    pub fn came(&mut self, came: &Came<'_>, spot: Spot) {
        match *came {
            Came::Won(_) | Came::Late { .. } => {}
            Came::Delivered(event, delivery) => {
                for number in self.of(event) {
                    if let Some(row) = self.row_mut(number).filter(|row| !row.awaits) {
                        (row.fate, row.because) = (Fate::Charged(delivery), Some(spot));
                    }
                }
            }
            Came::Freed { event, imp, whose, amount } => {
                let is = |row: &Kept<T>| match imp {
                    Some(imp) => row.imp == imp,
                    None => row.whose == whose && row.charge == amount,
                };
                let free = |row: &Kept<T>| row.freed == Money(0) && is(row);
                let number = self.of(event).find(|number| self.row(*number).is_some_and(free));
                if let Some(row) = number.and_then(|number| self.row_mut(number)) {
                    row.freed = amount;
                }
            }
            Came::Billed(n) => {
                if !self.billed(&n, spot) {
                    self.early(&n, spot);
                }
            }
            Came::Expired { event, imp, .. } => {
                let waits = |row: &Kept<T>| row.imp == imp && row.fate == Fate::Waits;
                if let Some(number) = self.of(event).find(|number| self.row(*number).is_some_and(waits)) {
                    self.settle(number, Fate::Lapsed, None);
                }
            }
            Came::Lapsed { of, minute, .. } => {
                for number in self.minutes.remove(&(minute, of)).unwrap_or_default() {
                    if self.row(number).is_some_and(|row| row.fate == Fate::Waits) {
                        self.settle(number, Fate::Lapsed, Some(spot));
                    }
                }
            }
        }
    }

    /// The next of which all is known, or will be at this time; `None`, for now.
    pub fn next(&mut self, now_ms: u64) -> Option<Kept<T>> {
        if let Some(Some(row)) = self.rows.front()
            && known(row, now_ms)
        {
            return self.take(self.first);
        }
        if self.rows.len() <= self.ahead {
            return None;
        }
        while let Some(number) = self.known.pop_front() {
            if self.row(number).is_some() {
                return self.take(number);
            }
        }
        while let Some(number) = self.charged.front().copied() {
            match self.row(number) {
                Some(row) if !known(row, now_ms) => return None,
                row => {
                    let there = row.is_some();
                    self.charged.pop_front();
                    if there {
                        return self.take(number);
                    }
                }
            }
        }
        None
    }

    fn take(&mut self, number: u64) -> Option<Kept<T>> {
        let at = self.at(number)?;
        let row = self.rows.get_mut(at)?.take()?;
        if let Some(auction) = self.auctions.get_mut(&row.event) {
            auction.left = auction.left.saturating_sub(1);
            if auction.left == 0 {
                self.auctions.remove(&row.event);
            }
        }
        while let Some(None) = self.rows.front() {
            self.rows.pop_front();
            self.first += 1;
        }
        self.taken += 1;
        self.tidy();
        Some(*row)
    }

    /// Lets go of numbers of wins that were handed out.
    fn tidy(&mut self) {
        let first = self.first;
        for numbers in [&mut self.known, &mut self.charged] {
            while numbers.front().is_some_and(|number| *number < first) {
                numbers.pop_front();
            }
            if numbers.len() > 2 * self.rows.len() + 1_024 {
                numbers.retain(|number| *number >= first);
            }
        }
        // A minute whose wins are all billed nobody lets go of.
        if self.minutes.len() > 1_024 && self.taken.is_multiple_of(4_096) {
            self.minutes.retain(|_, numbers| {
                numbers.retain(|number| *number >= first);
                !numbers.is_empty()
            });
        }
    }
}

/// Is all known of a win, or will be at this time?
fn known<T>(row: &Kept<T>, now_ms: u64) -> bool {
    match row.fate {
        Fate::Charged(_) => row.spot.ms.saturating_add(DELIVERED_MS) <= now_ms,
        Fate::Waits => now_ms == u64::MAX,
        Fate::Billed { .. } | Fate::Lapsed => true,
    }
}
