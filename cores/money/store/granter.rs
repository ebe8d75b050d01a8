//! The ledger's file as the granter's store.
//! Owns: nothing. Called by: whoever drives a granter. Never: reads the archive to load what is open: its keys are the last.
use super::{Batch, LedgerStore, StoreError};
use outcry::budget::{
    AccountId, LineKey, Period,
    granter::rows::{Archived, Change, Key, Row},
    store::Store,
    window::{BucketKey, Span},
};
use std::collections::BTreeMap;

/// The first key of the archive.
pub(super) fn archive() -> Vec<u8> {
    Key::OldWindow(LineKey::default()).bytes()
}

/// What changes come to as rows of a batch, in their order: the last word on a key counts.
pub fn batch(changes: &[Change]) -> Batch<'static> {
    let mut batch = Batch::default();
    let mut rows = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put(row) => drop(rows.insert(row.key().bytes(), Some(row.value()))),
            Change::Remove(key) => drop(rows.insert(key.bytes(), None)),
            Change::Forget(before) => batch.forget = batch.forget.max(Some(*before)),
        }
    }
    batch.rows = rows.into_iter().collect();
    batch
}

fn row(key: &[u8], value: &[u8]) -> Result<Row, StoreError> {
    let hex = || key.iter().map(|b| format!("{b:02x}")).collect();
    Row::parse(key, value).map_err(|e| StoreError::Value { what: "row", key: hex(), why: e.to_string() })
}

impl Store for LedgerStore {
    type Error = StoreError;

    fn load(&self, each: &mut dyn FnMut(Row)) -> Result<(), StoreError> {
        let mut wrong = None;
        self.rows(..archive().as_slice(), &mut |key, value| match row(key, value) {
            Ok(row) => each(row),
            Err(e) => wrong = Some(e),
        })?;
        wrong.map_or(Ok(()), Err)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        LedgerStore::commit(self, &batch(changes))
    }

    fn archived(&self, account: AccountId, from: Period, until: Period) -> Result<Vec<(Key, Archived)>, StoreError> {
        let window = |period| Key::OldWindow(LineKey { account, period });
        let bucket = |span| move |start| Key::OldBucket(BucketKey { account, span, start });
        let ranges = [
            (window(from), window(until)),
            (bucket(Span::Day)(from), bucket(Span::Day)(until)),
            (bucket(Span::Hour)(from), bucket(Span::Hour)(until)),
        ];
        let (mut out, mut wrong) = (Vec::new(), None);
        for (first, end) in ranges {
            let (first, end) = (first.bytes(), end.bytes());
            if first >= end {
                continue;
            }
            self.rows(first.as_slice()..end.as_slice(), &mut |key, value| match row(key, value) {
                Ok(Row::OldWindow(key, old)) => out.push((Key::OldWindow(key), old)),
                Ok(Row::OldBucket(key, old)) => out.push((Key::OldBucket(key), old)),
                Ok(_) => {}
                Err(e) => wrong = Some(e),
            })?;
        }
        wrong.map_or(Ok(out), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcry::{
        budget::{granter::rows::AccountRow, store::MemoryStore},
        units::Money,
    };

    fn changes() -> Vec<Vec<Change>> {
        let old = |spent| Archived { spent: Money(spent), forfeit: Money(0) };
        let window = |account, period| LineKey { account: AccountId(account), period: Period(period) };
        let day = BucketKey { account: AccountId(1), span: Span::Day, start: Period(6) };
        let noted = |id, stopped| Row::Account(AccountId(id), AccountRow { archived: Period(0), stopped });
        vec![
            vec![Change::Put(noted(1, 1)), Change::Put(noted(2, 0)), Change::Put(noted(1, 2))],
            (5..9).map(|p| Change::Put(Row::OldWindow(window(1, p), old(p.into())))).collect(),
            vec![Change::Put(Row::OldWindow(window(2, 6), old(60))), Change::Put(Row::OldBucket(day, old(7)))],
            vec![Change::Remove(noted(2, 0).key()), Change::Put(noted(3, 1)), Change::Remove(noted(3, 1).key())],
            vec![Change::Forget(Period(6)), Change::Forget(Period(5))],
        ]
    }

    type Held = (Vec<Row>, Vec<(Key, Archived)>);

    fn held<S: Store>(store: &S) -> Held {
        let mut rows = Vec::new();
        store.load(&mut |row| rows.push(row)).expect("rows");
        rows.sort_by_key(Row::key);
        let mut archived = store.archived(AccountId(1), Period(0), Period(8)).expect("an archive");
        archived.sort_by_key(|a| a.0);
        (rows, archived)
    }

    /// After each commit it has what the store in memory has, and still does when it is opened again.
    #[test]
    fn it_is_a_store_as_the_one_in_memory_is() {
        let dir = super::super::tests::folder("granter");
        let mut memory = MemoryStore::default();
        for changes in changes() {
            Store::commit(&mut memory, &changes).expect("a commit");
            let mut store = LedgerStore::open(&dir).expect("it opens");
            Store::commit(&mut store, &changes).expect("a commit");
            assert_eq!(held(&store), held(&memory));
        }
        let (rows, archived) = held(&memory);
        assert_eq!((rows.len(), archived.len()), (1, 3), "{rows:?} {archived:?}");
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
