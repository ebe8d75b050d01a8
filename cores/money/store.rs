//! The ledger's file: accounts, their history, and the rows of whoever grants.
//! Owns: `<state_dir>/ledger.redb`. Runs on: the ledger's thread, which waits for the disk. Called by: the ledger. Never: knows
//! what a row means; returns from a commit before it is durable; keeps a part of one.
//!
//! A store that failed is not used again: it is opened anew, and then says which of the two states it has.
pub mod granter;

use outcry::{
    budget::{
        AccountId, Period,
        granter::rows::Key,
        movement::{self, Movement, account_bytes, account_of},
        tree::{Account, Misfit, Tree},
    },
    record::RecordError,
};
use redb::{
    CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
    TransactionError,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Its name in `state_dir`.
pub const FILE: &str = "ledger.redb";
/// The same while it is made.
const MAKING: &str = "ledger.redb.new";
/// The layout of tables and values. A file of a higher one is a newer release's.
const FORMAT: u64 = 1;
/// Pages that are kept in memory; a hundred thousand accounts take some 40 MB of the file.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Format and count of movements, by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Accounts by their numbers.
const ACCOUNTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("accounts");
/// Movements by account and their order.
const HISTORY: TableDefinition<'_, (u32, u64), &[u8]> = TableDefinition::new("history");
/// Rows of the granter, by their keys.
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// Why the ledger could not be opened. The text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer release wrote it.
    #[error("{path} has format {found}, and this release knows formats up to {FORMAT}: run the release that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Somebody has it open.
    #[error("{path} is in use by another process: stop the other exchange, or give this one a `state_dir` of its own")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What stands in it is not what was written.
    #[error(
        "{path} is damaged: {why}. Restore it from a copy that was made while the exchange was stopped, of the last stop if \
         it is to know what was spent. Without a copy: move it away and add the budgets again, less what \
         `outcry audit advertiser` says was spent of them"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file cannot be used.
    #[error(
        "{path}: {source}. Budgets are kept there: make the directory writable for this user and see that its disk has room"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a store that is open could not read or write. It is not to be used again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk refused; of a commit nobody knows whether it is durable.
    #[error("the ledger's file: {0}")]
    Disk(String),
    /// What was read is no value.
    #[error("the ledger's {what} {key}: {why}")]
    Value {
        /// Which table.
        what: &'static str,
        /// Which row.
        key: String,
        /// What is wrong.
        why: String,
    },
}

macro_rules! disk_errors {
    ($($kind:ty),*) => { $(impl From<$kind> for StoreError {
        fn from(e: $kind) -> StoreError {
            StoreError::Disk(e.to_string())
        }
    })* };
}
disk_errors!(StorageError, TableError, TransactionError, CommitError);

/// What is to be durable together.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    /// Accounts as they are now.
    pub accounts: Vec<&'a Account>,
    /// What was changed of them.
    pub movements: Vec<&'a Movement>,
    /// Rows of the granter; `None` removes.
    pub rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Rows of the granter's archive that began before this go.
    pub forget: Option<Period>,
}

/// The ledger's file, open. It is this process's alone.
#[derive(Debug)]
pub struct LedgerStore {
    database: Database,
}

impl LedgerStore {
    /// Opens the ledger of a state directory, or begins one. After a crash the file is mended first, which reads all of it.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(state_dir: &Path) -> Result<LedgerStore, OpenError> {
        let path = state_dir.join(FILE);
        if path.exists() {
            return LedgerStore::at(&path);
        }
        // Under another name until it is whole: a start that dies on the way leaves nothing that the next could take for a ledger.
        let making = state_dir.join(MAKING);
        let store = match LedgerStore::at(&making) {
            Err(OpenError::Damaged { .. }) => {
                fs::remove_file(&making).map_err(|source| OpenError::Io { path: making.clone(), source })?;
                LedgerStore::at(&making)?
            }
            made => made?,
        };
        // Its name is durable before anything that is answered for.
        let named = fs::rename(&making, &path).and_then(|()| File::open(state_dir)?.sync_all());
        named.map_err(|source| OpenError::Io { path, source })?;
        Ok(store)
    }

    fn at(path: &Path) -> Result<LedgerStore, OpenError> {
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create(path);
        opened.map_err(|e| refused(path, e)).and_then(|database| LedgerStore::begin(database, path))
    }

    /// Looks at the format of an open file, or writes it into a new one.
    fn begin(database: Database, path: &Path) -> Result<LedgerStore, OpenError> {
        let store = LedgerStore { database };
        match store.format() {
            Ok(FORMAT) => Ok(store),
            Ok(found) => Err(OpenError::Newer { path: path.to_path_buf(), found }),
            Err(e) => Err(OpenError::Damaged { path: path.to_path_buf(), why: e.to_string() }),
        }
    }

    fn format(&self) -> Result<u64, StoreError> {
        let write = self.database.begin_write()?;
        let format = {
            let mut meta = write.open_table(META)?;
            let format = meta.get("format")?.map(|f| f.value());
            if format.is_none() {
                meta.insert("format", FORMAT)?;
                // A newer release's tables may have other types: they are not opened before the format is known.
                write.open_table(ACCOUNTS)?;
                write.open_table(HISTORY)?;
                write.open_table(ROWS)?;
            }
            format
        };
        match format {
            None => write.commit()?,
            Some(_) => write.abort()?,
        }
        Ok(format.unwrap_or(FORMAT))
    }

    /// All of this or nothing; when it returns it is durable.
    ///
    /// # Errors
    /// Nobody knows whether it is: the store is dropped and opened anew.
    pub fn commit(&mut self, batch: &Batch<'_>) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        {
            let mut accounts = write.open_table(ACCOUNTS)?;
            for account in &batch.accounts {
                accounts.insert(account.id.0, &account_bytes(account)[..])?;
            }
            let mut rows = write.open_table(ROWS)?;
            for (key, value) in &batch.rows {
                match value {
                    Some(value) => drop(rows.insert(&key[..], &value[..])?),
                    None => drop(rows.remove(&key[..])?),
                }
            }
            if let Some(before) = batch.forget {
                let old = |key: &[u8]| Key::parse(key).is_ok_and(|k| k.is_archive() && k.began() < before);
                rows.retain_in::<&[u8], _>(granter::archive().as_slice().., |key, _| !old(key))?;
            }
            if !batch.movements.is_empty() {
                let (mut meta, mut history) = (write.open_table(META)?, write.open_table(HISTORY)?);
                let mut serial = meta.get("movements")?.map_or(0, |n| n.value());
                for moved in &batch.movements {
                    serial += 1;
                    let mut bytes = vec![movement::VERSION];
                    moved.encode(&mut bytes);
                    history.insert((moved.account.0, serial), &bytes[..])?;
                }
                meta.insert("movements", serial)?;
            }
        }
        Ok(write.commit()?)
    }

    /// All accounts.
    ///
    /// # Errors
    /// The disk, or a value that is no account.
    pub fn tree(&self) -> Result<Tree, StoreError> {
        let read = self.database.begin_read()?;
        let mut tree = Tree::default();
        for row in read.open_table(ACCOUNTS)?.iter()? {
            let (id, bytes) = row?;
            let id = AccountId(id.value());
            let wrong = |why: String| StoreError::Value { what: "account", key: id.0.to_string(), why };
            let account = account_of(id, bytes.value(), tree.zones()).map_err(|e: RecordError| wrong(e.to_string()))?;
            tree.put(account).map_err(|e: Misfit| wrong(e.to_string()))?;
        }
        Ok(tree)
    }

    /// Hands out rows of the granter whose keys are in a range, in order.
    ///
    /// # Errors
    /// The disk.
    pub fn rows<'k>(
        &self,
        range: impl std::ops::RangeBounds<&'k [u8]> + 'k,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let read = self.database.begin_read()?;
        for row in read.open_table(ROWS)?.range::<&[u8]>(range)? {
            let (key, value) = row?;
            each(key.value(), value.value());
        }
        Ok(())
    }

    /// The last movements of an account, the latest first.
    ///
    /// # Errors
    /// The disk, or a value that is no movement.
    pub fn history(&self, account: AccountId, most: usize) -> Result<Vec<Movement>, StoreError> {
        let read = self.database.begin_read()?;
        let mut out = Vec::new();
        for row in read.open_table(HISTORY)?.range((account.0, 0)..=(account.0, u64::MAX))?.rev().take(most) {
            let (key, bytes) = row?;
            let wrong = |e: RecordError| StoreError::Value {
                what: "movement",
                key: key.value().1.to_string(),
                why: e.to_string(),
            };
            let (version, payload) = bytes.value().split_first().ok_or_else(|| wrong(RecordError::Short))?;
            out.push(Movement::decode(*version, payload).map_err(wrong)?);
        }
        Ok(out)
    }
}

/// What redb said, as what an operator can do about it.
fn refused(path: &Path, e: DatabaseError) -> OpenError {
    let path = path.to_path_buf();
    match e {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse { path },
        DatabaseError::UpgradeRequired(found) => {
            OpenError::Damaged { path, why: format!("it has the library's file format {found}, which was never used") }
        }
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { path, why: e.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path, source },
        other => OpenError::Damaged { path, why: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
