//! Where a granter's rows are kept.
//! Owns: what a store has to promise; one in memory, for tests and simulations. Called by: whoever drives a granter.
//! Never: is asked by the granter itself, which keeps everything it decides by in memory.
//!
//! The driver's part: after a call that changed anything, [`Granter::changes`](super::granter::Granter::changes) are committed
//! before the reply leaves. If that fails, nobody knows what is on disk: the granter is dropped and loaded anew.
use super::{
    AccountId, Period,
    granter::rows::{Archived, Change, Key, Row},
};
use std::{collections::BTreeMap, convert::Infallible};

/// A store of rows: durable, and whole transactions or nothing of them.
pub trait Store {
    /// Why it could not.
    type Error: std::error::Error;

    /// Hands out all rows but the archive's, in any order.
    ///
    /// # Errors
    /// The store cannot be read, or holds what is no row.
    fn load(&self, each: &mut dyn FnMut(Row)) -> Result<(), Self::Error>;

    /// All of these or none; when it returns they are durable.
    ///
    /// # Errors
    /// Nobody knows whether they are.
    fn commit(&mut self, changes: &[Change]) -> Result<(), Self::Error>;

    /// What an account spent in windows that began from `from` on and before `until`, and are over.
    ///
    /// # Errors
    /// The store cannot be read.
    fn archived(&self, account: AccountId, from: Period, until: Period) -> Result<Vec<(Key, Archived)>, Self::Error>;
}

/// A store in memory that can lose what it was not given time to keep.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MemoryStore {
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Written, not yet durable; `None` removes.
    written: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl MemoryStore {
    /// Takes changes that a crash before [`MemoryStore::sync`] loses, all of them.
    pub fn write(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Put(row) => self.written.push((row.key().bytes(), Some(row.value()))),
                Change::Remove(key) => self.written.push((key.bytes(), None)),
                Change::Forget(before) => {
                    let old = |bytes: &&Vec<u8>| Key::parse(bytes).is_ok_and(|k| k.is_archive() && k.began() < *before);
                    self.written.extend(self.kept.keys().filter(old).map(|k| (k.clone(), None)));
                }
            }
        }
    }

    /// What was written is durable from now on.
    pub fn sync(&mut self) {
        for (key, value) in self.written.drain(..) {
            match value {
                Some(value) => drop(self.kept.insert(key, value)),
                None => drop(self.kept.remove(&key)),
            }
        }
    }

    /// The machine loses its power.
    pub fn crash(&mut self) {
        self.written.clear();
    }

    /// How many rows it keeps, the archive's included.
    pub fn rows(&self) -> usize {
        self.kept.len()
    }

    fn read(&self) -> impl Iterator<Item = Row> {
        // It holds what it encoded itself.
        self.kept.iter().filter_map(|(key, value)| Row::parse(key, value).ok())
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    fn load(&self, each: &mut dyn FnMut(Row)) -> Result<(), Infallible> {
        self.read().filter(|row| !row.key().is_archive()).for_each(each);
        Ok(())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Infallible> {
        self.write(changes);
        self.sync();
        Ok(())
    }

    fn archived(&self, account: AccountId, from: Period, until: Period) -> Result<Vec<(Key, Archived)>, Infallible> {
        let rows = self.read().filter_map(|row| match row {
            Row::OldWindow(key, old) if key.account == account => Some((row.key(), old)),
            Row::OldBucket(key, old) if key.account == account => Some((row.key(), old)),
            _ => None,
        });
        Ok(rows.filter(|(key, _)| (from..until).contains(&key.began())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::{LineKey, granter::rows::AccountRow},
        units::Money,
    };

    fn old(account: u32, period: u32) -> Change {
        let key = LineKey { account: AccountId(account), period: Period(period) };
        Change::Put(Row::OldWindow(key, Archived { spent: Money(i64::from(period)), forfeit: Money(0) }))
    }

    #[test]
    fn what_was_not_synced_is_lost_whole() {
        let mut store = MemoryStore::default();
        let row = |stopped| Row::Account(AccountId(1), AccountRow { archived: Period(0), stopped });
        let loaded = |store: &MemoryStore| {
            let mut rows = Vec::new();
            store.load(&mut |r| rows.push(r)).unwrap();
            rows
        };
        store.commit(&[Change::Put(row(1)), old(1, 5)]).unwrap();
        store.write(&[Change::Put(row(2)), Change::Remove(Key::Account(AccountId(1)))]);
        store.crash();
        store.sync();
        assert_eq!(loaded(&store), [row(1)], "the archive is not loaded");
        store.commit(&[Change::Remove(row(1).key())]).unwrap();
        assert_eq!((loaded(&store), store.rows()), (vec![], 1));
    }

    #[test]
    fn the_archive_is_asked_by_account_and_time_and_forgets() {
        let mut store = MemoryStore::default();
        store.commit(&[old(1, 5), old(1, 6), old(1, 7), old(2, 6)]).unwrap();
        let spent = |store: &MemoryStore| -> Vec<i64> {
            let rows = store.archived(AccountId(1), Period(6), Period(8)).unwrap();
            rows.iter().map(|(_, old)| old.spent.0).collect()
        };
        assert_eq!(spent(&store), [6, 7]);
        store.commit(&[Change::Forget(Period(7))]).unwrap();
        assert_eq!((spent(&store), store.rows()), (vec![7], 1));
    }
}
