//! The places that say what was spent on a day: what each must give to be compared with the others.
//! Owns: nothing. Called by: `reconcile`. Never: knows what another place says.
//!
//! A place more is a type more that is a [`Source`]: what it says of each payer of the day, in the terms of
//! [`outcry::billing::sources`], and the records of one of them.
use super::books::Books;
use crate::audit::{AuditError, directory::Journal};
use outcry::billing::sources::{Moved, Place, Said, Table, Who};
use std::collections::BTreeMap;

/// A place.
pub(super) trait Source {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Whom it knows. Of one that it knows and does not name it says that nothing was spent.
    fn knows(&self) -> fn(&Who) -> bool;

    /// What it says of each payer of the day.
    fn said(&mut self) -> Result<BTreeMap<Who, Said>, AuditError>;

    /// The records of the day that moved a payer's money. `None`: it has sums alone.
    fn records(&mut self, who: &Who) -> Result<Option<Vec<Moved>>, AuditError>;
}

/// All that they say.
pub(super) fn compared(sources: &mut [&mut dyn Source]) -> Result<Table, AuditError> {
    let place =
        |source: &mut &mut dyn Source| Ok(Place { name: source.name(), knows: source.knows(), said: source.said()? });
    let places: Result<Vec<Place>, AuditError> = sources.iter_mut().map(place).collect();
    Ok(Table::new(&places?))
}

/// The ledger, which has accounts and sums alone.
pub(super) struct OfLedger<'a>(pub(super) &'a Books);

impl Source for OfLedger<'_> {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn knows(&self) -> fn(&Who) -> bool {
        |who| matches!(who, Who::Account(_))
    }

    fn said(&mut self) -> Result<BTreeMap<Who, Said>, AuditError> {
        Ok(self.0.ledger())
    }

    fn records(&mut self, _: &Who) -> Result<Option<Vec<Moved>>, AuditError> {
        Ok(None)
    }
}

/// The record: the journal of this node.
pub(super) struct OfJournal<'a>(pub(super) &'a Books, pub(super) &'a mut Journal);

impl Source for OfJournal<'_> {
    fn name(&self) -> &'static str {
        "record"
    }

    fn knows(&self) -> fn(&Who) -> bool {
        |_| true
    }

    fn said(&mut self) -> Result<BTreeMap<Who, Said>, AuditError> {
        Ok(self.0.journal())
    }

    fn records(&mut self, who: &Who) -> Result<Option<Vec<Moved>>, AuditError> {
        let mut all = Vec::new();
        self.0.records(self.1, &mut |of, _, moved| {
            if of == who {
                all.push(moved);
            }
        })?;
        Ok(Some(all))
    }
}
