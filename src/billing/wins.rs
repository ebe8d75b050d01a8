//! What came of each win: the records behind a sum.
//! Owns: wins until it is known what came of them. Called by: `outcry audit`, for the wins that are asked for.
//! Never: hands out a win before all before it; so the one that waits longest keeps those behind it.
//!
//! Kept: the wins that were asked for of a minute; where they wait for notices, of a token's life. Each takes as much as what is
//! to be printed of it, some five hundred bytes. And the notices of the last seconds that were of none of them, since a notice may
//! be read before its win.
use super::{
    Spot, Whose,
    bill::{Part, Sums},
    settling::{Came, DELIVERED_MS, EARLY_MS, Noticed, Won},
};
use crate::{
    auction::Delivery,
    notice::{holds::Of, price::Said},
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

/// See the module.
#[derive(Debug)]
pub struct Wins<T> {
    rows: VecDeque<Kept<T>>,
    /// The number of the first of them.
    first: u64,
    /// The first win of each auction.
    auctions: HashMap<EventId, u64>,
    /// Those that wait, by the minute in which their notices expire.
    minutes: BTreeMap<(u32, Of), Vec<u64>>,
    /// Notices of no win that was asked for so far, with where they are; and their order.
    early: HashMap<(EventId, u8), (Noticed, Spot)>,
    recent: VecDeque<(u64, EventId, u8)>,
}

impl<T> Default for Wins<T> {
    fn default() -> Wins<T> {
        Wins {
            rows: VecDeque::new(),
            first: 0,
            auctions: HashMap::new(),
            minutes: BTreeMap::new(),
            early: HashMap::new(),
            recent: VecDeque::new(),
        }
    }
}

impl<T> Wins<T> {
    /// Asks for a win.
    pub fn keep(&mut self, won: &Won<'_>, spot: Spot, what: T) {
        let number = self.first + self.rows.len() as u64;
        let event = won.record.inputs.event;
        self.auctions.entry(event).or_insert(number);
        if let Some(expires_s) = won.awaited_s.filter(|_| won.win.account.is_some()) {
            self.minutes.entry((expires_s / 60, won.of)).or_default().push(number);
        }
        let awaits = won.awaited_s.is_some();
        self.rows.push_back(Kept {
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
        });
        if let Some((noticed, spot)) = self.early.remove(&(event, won.win.imp)) {
            self.billed(&noticed, spot);
        }
    }

    /// Its notice came. False: it is of no win that was asked for.
    fn billed(&mut self, n: &Noticed, spot: Spot) -> bool {
        let Some(row) = self.of(n.event).find(|row| row.imp == n.imp && row.awaits) else { return false };
        (row.fate, row.because) = (Fate::Billed { charge: n.charge, price: n.price, said: n.said }, Some(spot));
        true
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

    fn of(&mut self, event: EventId) -> impl Iterator<Item = &mut Kept<T>> {
        let first = self.auctions.get(&event).and_then(|number| number.checked_sub(self.first));
        let at = first.and_then(|at| usize::try_from(at).ok()).unwrap_or(self.rows.len());
        self.rows.range_mut(at.min(self.rows.len())..).take_while(move |row| row.event == event)
    }

    /// What a frame means for those that were asked for.
    pub fn came(&mut self, came: &Came<'_>, spot: Spot) {
        match *came {
            Came::Won(_) | Came::Late { .. } => {}
            Came::Delivered(event, delivery) => {
                for row in self.of(event).filter(|row| !row.awaits) {
                    (row.fate, row.because) = (Fate::Charged(delivery), Some(spot));
                }
            }
            Came::Freed { event, imp, whose, amount } => {
                let is = |row: &&mut Kept<T>| match imp {
                    Some(imp) => row.imp == imp,
                    None => row.whose == whose && row.charge == amount,
                };
                if let Some(row) = self.of(event).filter(|row| row.freed == Money(0)).find(is) {
                    row.freed = amount;
                }
            }
            Came::Billed(n) => {
                if !self.billed(&n, spot) {
                    self.early(&n, spot);
                }
            }
            Came::Expired { event, imp, .. } => {
                if let Some(row) = self.of(event).find(|row| row.imp == imp && row.awaits) {
                    row.fate = Fate::Lapsed;
                }
            }
            Came::Lapsed { of, minute, .. } => {
                for number in self.minutes.remove(&(minute, of)).unwrap_or_default() {
                    let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                    if let Some(row) = at.and_then(|at| self.rows.get_mut(at)).filter(|row| row.fate == Fate::Waits) {
                        (row.fate, row.because) = (Fate::Lapsed, Some(spot));
                    }
                }
            }
        }
    }

    /// The next of which all is known, or will be at this time; `None`, for now.
    pub fn next(&mut self, now_ms: u64) -> Option<Kept<T>> {
        let known = |row: &Kept<T>| match row.fate {
            Fate::Charged(_) => row.spot.ms.saturating_add(DELIVERED_MS) <= now_ms,
            Fate::Waits => now_ms == u64::MAX,
            Fate::Billed { .. } | Fate::Lapsed => true,
        };
        self.rows.front().filter(|row| known(row))?;
        let row = self.rows.pop_front()?;
        self.first += 1;
        match self.rows.front() {
            Some(next) if next.event == row.event => self.auctions.insert(row.event, self.first),
            _ => self.auctions.remove(&row.event),
        };
        // A minute whose wins are all billed nobody lets go of.
        if self.minutes.len() > 1_024 && self.first.is_multiple_of(4_096) {
            let first = self.first;
            self.minutes.retain(|_, numbers| {
                numbers.retain(|n| *n >= first);
                !numbers.is_empty()
            });
        }
        Some(row)
    }
}
