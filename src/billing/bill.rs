//! What is billed: sums of each payer over one month, in lines that add up.
//! Owns: six sums of each payer; which notices came too late. Called by: `outcry audit invoice`. Never: rounds.
//!
//! What was charged at auctions, less what was freed, what went home, what was reduced, and what waits yet, is billed.
use super::{
    Payer, Whose,
    accounts::{Accounts, Month},
    settling::{Buyer, Came, Noticed, Settling},
};
use crate::units::{Currency, EventId, Money};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
};

/// A number of wins and an amount, nano-units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// How many wins, or notices.
    pub wins: u64,
    /// How much.
    pub nanos: i128,
}

impl Part {
    /// One.
    pub fn one(amount: Money) -> Part {
        Part { wins: 1, nanos: amount.0.into() }
    }
}

impl AddAssign for Part {
    fn add_assign(&mut self, other: Part) {
        self.wins += other.wins;
        self.nanos += other.nanos;
    }
}

/// What a payer's wins came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// At their auctions.
    pub charged: Part,
    /// Freed: the answer did not arrive.
    pub freed: Part,
    /// Gone home: no notice came in time.
    pub lapsed: Part,
    /// Less, since the notice named a lower price.
    pub reduced: Part,
    /// Neither billed nor gone home yet.
    pub waiting: Part,
    /// Notices that came too late to be charged: no part of what is billed.
    pub late: Part,
}

/// A line of an invoice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// What auctions charged.
    Charged,
    /// Less what did not arrive.
    Freed,
    /// Less what no notice came for.
    Lapsed,
    /// Less what notices named lower prices for.
    Reduced,
    /// Less what still waits.
    Waiting,
    /// Is billed.
    Billed,
    /// And what was not charged, as the notice came too late.
    Late,
}

impl Line {
    /// All of them, in the order of an invoice.
    pub const ALL: [Line; 7] =
        [Line::Charged, Line::Freed, Line::Lapsed, Line::Reduced, Line::Waiting, Line::Billed, Line::Late];

    /// Of a name in reports.
    pub fn of(name: &str) -> Option<Line> {
        Line::ALL.into_iter().find(|line| line.name() == name)
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Line::Charged => "charged",
            Line::Freed => "freed",
            Line::Lapsed => "lapsed",
            Line::Reduced => "reduced",
            Line::Waiting => "waiting",
            Line::Billed => "billed",
            Line::Late => "late_notices",
        }
    }
}

impl Sums {
    /// One of its lines; corrections are negative, so that all down to what is billed add up to it.
    pub fn line(&self, line: Line) -> Part {
        let less = |part: Part| Part { nanos: -part.nanos, ..part };
        match line {
            Line::Charged => self.charged,
            Line::Freed => less(self.freed),
            Line::Lapsed => less(self.lapsed),
            Line::Reduced => less(self.reduced),
            Line::Waiting => less(self.waiting),
            Line::Billed => {
                let gone = [self.freed, self.lapsed, self.waiting];
                Part {
                    wins: self.charged.wins.saturating_sub(gone.iter().map(|p| p.wins).sum()),
                    nanos: self.charged.nanos - self.reduced.nanos - gone.iter().map(|p| p.nanos).sum::<i128>(),
                }
            }
            Line::Late => self.late,
        }
    }

    /// The lines that there is something to say on, and always the first and the sum.
    pub fn lines(&self) -> impl Iterator<Item = (Line, Part)> {
        let said = |(line, part): &(Line, Part)| {
            matches!(line, Line::Charged | Line::Billed) || part.wins > 0 || part.nanos != 0
        };
        Line::ALL.map(|line| (line, self.line(line))).into_iter().filter(said)
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.charged += other.charged;
        self.freed += other.freed;
        self.lapsed += other.lapsed;
        self.reduced += other.reduced;
        self.waiting += other.waiting;
        self.late += other.late;
    }
}

/// A window whose record contradicts itself: what went home is not what its wins come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contradiction {
    /// Whose.
    pub whose: Whose,
    /// The minute in which their notices expired.
    pub minute: u32,
    /// What went home, nano-units.
    pub lapsed: i128,
    /// What its wins come to.
    pub waited: i128,
}

/// What names a late notice.
pub type Name = (EventId, u8);

/// Notices that came too late, each once; those that say so themselves only until all notices have been looked at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Late {
    found: BTreeMap<Name, (Noticed, bool)>,
}

impl Late {
    /// One more, or one of them again. True: it is new.
    pub fn add(&mut self, noticed: Noticed, first: bool) -> bool {
        let name = (noticed.event, noticed.imp);
        let new = !self.found.contains_key(&name);
        self.found.entry(name).or_insert((noticed, first)).1 |= first;
        new
    }

    /// Could any be the repetition of one that came in time?
    pub fn unsure(&self) -> bool {
        self.found.values().any(|(_, first)| !first)
    }

    /// One of this name came in time.
    pub fn in_time(&mut self, name: Name) {
        if self.found.get(&name).is_some_and(|(_, first)| !first) {
            self.found.remove(&name);
        }
    }

    /// Is it one?
    pub fn has(&self, name: &Name) -> bool {
        self.found.contains_key(name)
    }

    /// All that are left.
    pub fn all(&self) -> impl Iterator<Item = &Noticed> {
        self.found.values().map(|(noticed, _)| noticed)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Bill<'a> {
    accounts: &'a Accounts,
    month: Month,
    sums: BTreeMap<Payer, Sums>,
    currencies: BTreeMap<Payer, BTreeSet<Currency>>,
    /// Of the month.
    pub late: Late,
    /// What does not add up.
    pub contradictions: Vec<Contradiction>,
}

impl<'a> Bill<'a> {
    /// Of a month.
    pub fn new(accounts: &'a Accounts, month: Month) -> Bill<'a> {
        Bill {
            accounts,
            month,
            sums: BTreeMap::new(),
            currencies: BTreeMap::new(),
            late: Late::default(),
            contradictions: Vec::new(),
        }
    }

    /// Is it of the month?
    pub fn holds(&self, whose: Whose) -> bool {
        self.accounts.in_month(whose, self.month)
    }

    fn of(&mut self, whose: Whose) -> Option<&mut Sums> {
        self.holds(whose).then(|| self.sums.entry(whose.payer).or_default())
    }

    /// What a frame means.
    pub fn came(&mut self, came: &Came<'_>) {
        let (whose, add): (Whose, Sums) = match *came {
            // They cost nothing, and nobody is to be shown them.
            Came::Won(won) if won.record.inputs.test => return,
            Came::Won(won) => {
                if self.holds(won.whose) {
                    self.currencies.entry(won.whose.payer).or_default().insert(won.record.inputs.accounting);
                }
                (won.whose, Sums { charged: Part::one(won.win.charge), ..Sums::default() })
            }
            Came::Delivered(..) => return,
            Came::Freed { whose, amount, .. } => (whose, Sums { freed: Part::one(amount), ..Sums::default() }),
            Came::Expired { whose, amount, .. } => (whose, Sums { lapsed: Part::one(amount), ..Sums::default() }),
            Came::Billed(Noticed { whose, held, charge, .. }) => {
                let less = Money(held.0 - charge.0);
                let reduced = if less > Money(0) { Part::one(less) } else { Part::default() };
                (whose, Sums { reduced, ..Sums::default() })
            }
            Came::Late { noticed, first } => {
                if self.holds(noticed.whose) {
                    self.late.add(noticed, first);
                }
                return;
            }
            Came::Lapsed { whose, minute, wins, amount, waited, .. } => {
                let lapsed = Part { wins, nanos: amount.0.into() };
                if lapsed.nanos != waited && self.holds(whose) {
                    self.contradictions.push(Contradiction { whose, minute, lapsed: lapsed.nanos, waited });
                }
                (whose, Sums { lapsed, ..Sums::default() })
            }
        };
        if let Some(sums) = self.of(whose) {
            *sums += add;
        }
    }

    /// Nothing else comes: what waits yet does, and late notices are late.
    pub fn finish(mut self, settling: &Settling) -> Finished {
        for (whose, wins, nanos) in settling.waiting() {
            if let Some(sums) = self.of(whose) {
                sums.waiting += Part { wins, nanos };
            }
        }
        let late: Vec<Noticed> = self.late.all().copied().collect();
        for noticed in late {
            if let Some(sums) = self.of(noticed.whose) {
                sums.late += Part::one(noticed.held);
            }
        }
        let buyers: BTreeMap<u32, &Buyer> = settling.buyers().map(|(buyer, number)| (number, buyer)).collect();
        let mut finished = Finished { mixed: Vec::new(), ..Finished::default() };
        for (payer, sums) in self.sums {
            let all = self.currencies.remove(&payer).unwrap_or_default();
            if all.len() > 1 {
                finished.mixed.push(payer);
            }
            let (of, campaign, currency) = match payer {
                Payer::Account(id) => {
                    let advertiser = self.accounts.advertiser(id);
                    if self.accounts.get(id).is_none() {
                        finished.unknown.push(self.accounts.name(id));
                    }
                    (Of::Advertiser(self.accounts.name(advertiser)), self.accounts.name(id), all.first().copied())
                }
                Payer::Buyer(number) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let Some(buyer) = buyers.get(&number) else { continue };
                    let of = Of::Buyer(format!("{}/{}", text(&buyer.dsp), text(&buyer.seat)));
                    (of, text(&buyer.cid), Some(buyer.currency))
                }
            };
            let currency = currency.unwrap_or(Currency::USD);
            *finished.rows.entry((of, campaign, currency)).or_default() += sums;
        }
        finished
    }
}

/// Under whom a row stands: advertisers by name, then who bought on no account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Of {
    /// An advertiser's name.
    Advertiser(String),
    /// DSP and seat.
    Buyer(String),
}

impl Of {
    /// As it is printed.
    pub fn text(&self) -> &str {
        match self {
            Of::Advertiser(text) | Of::Buyer(text) => text,
        }
    }
}

/// The sums of a month.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Finished {
    /// By whom, campaign, and accounting currency.
    pub rows: BTreeMap<(Of, String, Currency), Sums>,
    /// Accounts that nothing is known of but their numbers.
    pub unknown: Vec<String>,
    /// Payers with wins in several accounting currencies: their sums are none.
    pub mixed: Vec<Payer>,
}
