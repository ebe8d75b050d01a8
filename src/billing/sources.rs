//! Several places that say what was spent on a day, compared two by two; and the records that one has and another has not.
//! Owns: what they said. Called by: `outcry audit reconcile`. Never: takes one of them for right.
//!
//! What is compared is the same everywhere: what auctions charged, less what was freed and less what went home, so what is billed
//! and what waits yet. A place that is behind says how much it has to hear of, and is held to both together.
use super::{Spot, settling::Buyer};
use crate::{budget::AccountId, units::EventId};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::AddAssign,
};

/// Who pays, by what every place knows him by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// A campaign's account.
    Account(AccountId),
    /// Who bought on no account.
    Buyer(Buyer),
}

/// What a place says of a payer, nano-units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// What it has.
    pub nanos: i128,
    /// What it has not heard of yet, and will, as far as is known.
    pub coming: i128,
}

impl Said {
    /// What it comes to.
    pub fn all(self) -> i128 {
        self.nanos + self.coming
    }
}

impl AddAssign for Said {
    fn add_assign(&mut self, other: Said) {
        self.nanos += other.nanos;
        self.coming += other.coming;
    }
}

/// A place.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name in reports.
    pub name: &'static str,
    /// Would it know of such a payer? Of one that it knows and does not name it says that nothing was spent.
    pub knows: fn(&Who) -> bool,
    /// What it says of each.
    pub said: BTreeMap<Who, Said>,
}

/// What was compared.
#[derive(Clone, Debug)]
pub struct Table {
    places: Vec<&'static str>,
    rows: BTreeMap<Who, Vec<Option<Said>>>,
}

impl Table {
    /// Of these places.
    pub fn new(places: &[Place]) -> Table {
        let all: BTreeSet<&Who> = places.iter().flat_map(|place| place.said.keys()).collect();
        let of = |who: &Who| {
            let said = |place: &Place| (place.knows)(who).then(|| place.said.get(who).copied().unwrap_or_default());
            places.iter().map(said).collect()
        };
        let rows = all.into_iter().map(|who| (who.clone(), of(who))).collect();
        Table { places: places.iter().map(|place| place.name).collect(), rows }
    }

    /// Their names.
    pub fn places(&self) -> &[&'static str] {
        &self.places
    }

    /// Any two of them.
    pub fn pairs(&self) -> Vec<(usize, usize)> {
        let all = 0..self.places.len();
        all.clone().flat_map(|a| all.clone().filter(move |b| a < *b).map(move |b| (a, b))).collect()
    }

    /// All payers, with what each place says of them.
    pub fn rows(&self) -> impl Iterator<Item = (&Who, &[Option<Said>])> {
        self.rows.iter().map(|(who, row)| (who, row.as_slice()))
    }

    /// Payers of whom two places do not say the same.
    pub fn differing(&self, pair: (usize, usize)) -> impl Iterator<Item = &Who> {
        self.rows().filter(move |(_, row)| difference(row, pair).is_some_and(|nanos| nanos != 0)).map(|(who, _)| who)
    }
}

/// What the first of two says above the second; `None`: one of them does not know such payers.
pub fn difference(row: &[Option<Said>], (one, other): (usize, usize)) -> Option<i128> {
    let said = |place: usize| row.get(place).copied().flatten().map(Said::all);
    Some(said(one)? - said(other)?)
}

/// What a record did with a payer's money.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Deed {
    /// A win was charged.
    Charged,
    /// Its charge was freed.
    Freed,
    /// Money went home.
    Lapsed,
}

impl Deed {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Deed::Charged => "charged",
            Deed::Freed => "freed",
            Deed::Lapsed => "lapsed",
        }
    }
}

/// A record that moved a payer's money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved {
    /// The auction; `None`: of several, as where a minute's money went home.
    pub event: Option<EventId>,
    /// What it did.
    pub deed: Deed,
    /// How much, nano-units, less than nothing where it is spent no more.
    pub nanos: i128,
    /// Where it is, if that is in the journal.
    pub spot: Option<Spot>,
}

/// Records that only one of two places has: of the first, and of the second. A record that one has twice is one too many.
pub fn unmatched(one: &[Moved], other: &[Moved]) -> (Vec<Moved>, Vec<Moved>) {
    let key = |m: &Moved| (m.event, m.deed, m.nanos);
    let mut open: HashMap<_, Vec<Moved>> = HashMap::new();
    for moved in other {
        open.entry(key(moved)).or_default().push(*moved);
    }
    let alone = one.iter().filter(|moved| open.get_mut(&key(moved)).and_then(Vec::pop).is_none());
    let first = alone.copied().collect();
    let mut left: Vec<Moved> = Vec::new();
    for moved in other {
        let same = open.get_mut(&key(moved));
        if let Some(same) = same.filter(|same| !same.is_empty()) {
            left.append(same);
        }
    }
    (first, left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;

    const ONE: Who = Who::Account(AccountId(1));
    const TWO: Who = Who::Account(AccountId(2));

    fn buyer() -> Who {
        Who::Buyer(Buyer {
            dsp: b"d".into(),
            seat: b"s".into(),
            cid: b"c".into(),
            currency: crate::units::Currency::USD,
        })
    }

    fn says(all: &[(Who, i128, i128)]) -> BTreeMap<Who, Said> {
        all.iter().map(|(who, nanos, coming)| (who.clone(), Said { nanos: *nanos, coming: *coming })).collect()
    }

    #[test]
    fn any_two_are_compared_where_both_know_the_payer() {
        let account: fn(&Who) -> bool = |who| matches!(who, Who::Account(_));
        let table = Table::new(&[
            Place { name: "ledger", knows: account, said: says(&[(ONE, 7, 3)]) },
            Place { name: "journal", knows: |_| true, said: says(&[(ONE, 10, 0), (TWO, 4, 0), (buyer(), 5, 0)]) },
            Place { name: "other", knows: |_| true, said: says(&[(ONE, 9, 0), (buyer(), 2, 3)]) },
        ]);
        assert_eq!(table.pairs(), [(0, 1), (0, 2), (1, 2)]);
        let differing = |pair| table.differing(pair).cloned().collect::<Vec<_>>();
        assert_eq!(differing((0, 1)), [TWO], "what is coming counts; of the second the ledger has nothing");
        assert_eq!(differing((0, 2)), [ONE], "neither has anything of the second; the ledger knows no buyers");
        assert_eq!(differing((1, 2)), [ONE, TWO]);
        let (_, row) = table.rows().find(|(who, _)| **who == buyer()).expect("a row");
        assert_eq!((difference(row, (0, 1)), difference(row, (1, 2))), (None, Some(0)));
    }

    /// Of random records some are taken out of either: just these are found.
    #[test]
    fn what_only_one_has_is_found() {
        for seed in 0..50 {
            let moved = |n: u64| {
                let of = mix((seed << 32) ^ (n / 2));
                let event =
                    Some(EventId { node: 1, epoch: 1, core: 0, seq: of % 40 }).filter(|_| !of.is_multiple_of(7));
                let deed = [Deed::Charged, Deed::Freed, Deed::Lapsed][(of >> 8) as usize % 3];
                Moved { event, deed, nanos: i128::from(of >> 16 & 3), spot: None }
            };
            let all: Vec<Moved> = (0..120).map(moved).collect();
            let without = |of: u64| {
                let keeps = |at: &usize| !mix(of ^ (seed << 20) ^ *at as u64).is_multiple_of(5);
                let kept: Vec<Moved> = (0..all.len()).filter(keeps).map(|at| all[at]).collect();
                (kept, (0..all.len()).filter(|at| !keeps(at)).map(|at| all[at]).collect::<Vec<_>>())
            };
            let ((one, not_in_one), (other, not_in_other)) = (without(1), without(2));
            let (first, second) = unmatched(&one, &other);
            let count = |all: &[Moved], m: &Moved| {
                all.iter().filter(|o| (o.event, o.deed, o.nanos) == (m.event, m.deed, m.nanos)).count()
            };
            for m in &all {
                let (lacks, too) = (count(&not_in_other, m), count(&not_in_one, m));
                assert_eq!(count(&first, m), lacks.saturating_sub(too), "seed {seed}: {m:?}");
                assert_eq!(count(&second, m), too.saturating_sub(lacks), "seed {seed}: {m:?}");
            }
            assert!(!first.is_empty() && !second.is_empty(), "seed {seed}");
        }
    }
}
