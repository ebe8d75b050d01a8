//! The accounts as they are stored: changed in memory and on disk together.
//! Owns: the tree and its store. Runs on: the ledger's thread. Called by: the admin port's calls, the file of budgets. Never: goes
//! on after its store has failed: it is dropped and opened anew, and then has what is on disk.
use super::{
    api::{Failed, Manager},
    store::{Batch, LedgerStore, StoreError},
};
use outcry::{
    budget::{
        AccountId,
        file::apply_file,
        manage::{Known, Operation, apply},
        movement::Movement,
        tree::{Account, Tree},
        window::BucketKey,
    },
    config::{Dsp, Mistake, RateTable},
    units::Money,
};

/// See the module.
pub struct Books {
    store: LedgerStore,
    tree: Tree,
    rates: RateTable,
    dsps: Vec<Dsp>,
    now_ms: Box<dyn Fn() -> u64 + Send>,
    /// Why the store is not used any more.
    failed: Option<String>,
}

/// Why a file of budgets was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// All that is wrong with it.
    #[error("{}", .0.iter().map(|m| m.to_string()).collect::<Vec<_>>().join("\n"))]
    Mistakes(Vec<Mistake>),
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Books {
    /// Reads the accounts of a store. `now_ms` is the clock, milliseconds since 1970.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(
        store: LedgerStore,
        rates: RateTable,
        dsps: Vec<Dsp>,
        now_ms: Box<dyn Fn() -> u64 + Send>,
    ) -> Result<Books, StoreError> {
        let tree = store.tree()?;
        Ok(Books { store, tree, rates, dsps, now_ms, failed: None })
    }

    /// Another configuration is in force.
    pub fn configure(&mut self, rates: RateTable, dsps: Vec<Dsp>) {
        (self.rates, self.dsps) = (rates, dsps);
    }

    /// Makes the accounts what a file says, and returns what was changed.
    ///
    /// # Errors
    /// [`FileError`]; nothing was changed.
    pub fn apply_file(&mut self, text: &str) -> Result<Vec<Movement>, FileError> {
        self.sound()?;
        let known = Known { rates: &self.rates, dsps: &self.dsps, now_ms: (self.now_ms)() };
        let moved = apply_file(&mut self.tree, text, &known).map_err(FileError::Mistakes)?;
        self.keep(&moved)?;
        Ok(moved)
    }

    fn sound(&self) -> Result<(), Failed> {
        self.failed.as_ref().map_or(Ok(()), |why| Err(Failed::Store(why.clone())))
    }

    /// Stores what was changed in the tree.
    fn keep(&mut self, moved: &[Movement]) -> Result<(), Failed> {
        if moved.is_empty() {
            return Ok(());
        }
        // An account that was changed twice is stored twice, as it is now.
        let accounts: Vec<&Account> = moved.iter().filter_map(|m| self.tree.get(m.account)).collect();
        let batch = Batch { accounts, movements: moved.iter().collect(), ..Batch::default() };
        self.store.commit(&batch).map_err(|e| {
            let why = e.to_string();
            self.failed = Some(why.clone());
            Failed::Store(why)
        })
    }
}

impl Manager for Books {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn apply(&mut self, operation: &Operation) -> Result<Option<Movement>, Failed> {
        self.sound()?;
        let known = Known { rates: &self.rates, dsps: &self.dsps, now_ms: (self.now_ms)() };
        let moved = apply(&mut self.tree, operation, &known)?;
        self.keep(moved.as_slice())?;
        Ok(moved)
    }

    fn history(&self, account: AccountId, most: usize) -> Result<Vec<Movement>, Failed> {
        self.store.history(account, most).map_err(|e| Failed::Store(e.to_string()))
    }

    fn committed(&self, _: &BucketKey) -> Option<Money> {
        None
    }

    fn now_ms(&self) -> u64 {
        (self.now_ms)()
    }
}
