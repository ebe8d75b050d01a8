//! Money on this machine: the ledger that keeps it, the leases that carry it to the cores, and how it is managed.
//! Owns: nothing. Runs on: the ledger's thread, the leases' thread, the main thread at a start. Called by: `boot`, the admin
//! port. Never: on a bidder core, which has its own part of it in [`outcry::budget::core`].
//!
//! ```text
//!  bidder cores --what is spent, what is wanted--> leases --asks--> ledger --one transaction--> ledger.redb
//!       ^-----------------grants-------------------/  ^---answers, durable---/
//! ```
//! A start: [`ledger`] is opened, [`recover`] brings home what earlier starts held, then there are cores.
//!
//! Reading order: [`store`] (the file), [`ledger`] (what is in it, and who may change it), [`leases`], [`recover`], [`telling`] (what
//! others hear); [`api`] (what the admin port may ask), [`port`] (how it gets there), [`cli`] (who asks it), [`day`] (what an audit compares).
pub mod api;
pub mod cli;
pub mod day;
pub mod leases;
pub mod ledger;
pub mod port;
pub mod recover;
pub mod store;
pub mod telling;

use api::Manager;
use ledger::Ledger;
use outcry::{
    budget::{
        AccountId,
        core::{Capacity, CoreLedger, DirectoryBatch, Entry, Policy, Unbudgeted},
        tree::{Account, Owner},
    },
    config::Config,
    limits,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

/// What cores and configurations have to know of accounts.
#[derive(Debug)]
pub struct Accounts {
    /// As of the start: later ones travel in batches.
    entries: Vec<Entry>,
    /// Campaigns that each core has room for.
    room: usize,
    names: Mutex<BTreeMap<String, AccountId>>,
    above: Mutex<Above>,
}

/// Which advertiser a campaign is of, and what advertisers are called.
#[derive(Debug, Default)]
struct Above {
    advertisers: BTreeMap<AccountId, AccountId>,
    names: BTreeMap<AccountId, String>,
}

impl Above {
    fn add(&mut self, account: &Account) {
        match account.owner {
            Owner::Advertiser => drop(self.names.insert(account.id, account.name.clone())),
            Owner::Campaign { advertiser, .. } => drop(self.advertisers.insert(account.id, advertiser)),
        }
    }
}

impl Accounts {
    /// Those of a ledger. Cores are to have room for `room` campaigns at least.
    pub fn of(ledger: &Ledger, room: usize) -> Accounts {
        let names = ledger.tree().list().map(|a| (a.name.clone(), a.id)).collect();
        let mut above = Above::default();
        ledger.tree().list().for_each(|account| above.add(account));
        let entries: Vec<Entry> = ledger.entries().collect();
        let room = room.max(entries.len() + entries.len() / limits::BUDGET_ACCOUNTS_SPARE);
        Accounts { entries, room, names: Mutex::new(names), above: Mutex::new(above) }
    }

    /// Tables do not grow while a core runs, so they are made for what may come. Names that are longer than usual have their
    /// room beside the usual one.
    fn capacity(&self) -> Capacity {
        let usual = Capacity::of(self.room);
        let long = self.entries.iter().map(|e| (e.seat.len() + e.cid.len()).saturating_sub(limits::BUDGET_NAME_BYTES));
        Capacity { name_bytes: usual.name_bytes + long.map(|n| n.next_multiple_of(16)).sum::<usize>(), ..usual }
    }

    /// A core's ledger that knows them all.
    pub fn ledger(&self, seed: u64) -> CoreLedger {
        let mut ledger = CoreLedger::new(self.capacity(), seed);
        let mut batch = DirectoryBatch::new();
        for entry in &self.entries {
            if let Err(entry) = batch.put(entry.clone()) {
                ledger.apply(&mut batch);
                batch.clear();
                // An empty batch has room.
                let _ = batch.put(entry);
            }
        }
        ledger.apply(&mut batch);
        ledger
    }

    /// There is an account more.
    pub fn add(&self, account: &Account) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(account.name.clone(), account.id);
        self.above.lock().unwrap_or_else(PoisonError::into_inner).add(account);
    }

    /// What the advertiser above an account is called; `None`: there is no such account.
    pub fn advertiser(&self, id: AccountId) -> Option<String> {
        let above = self.above.lock().unwrap_or_else(PoisonError::into_inner);
        above.names.get(above.advertisers.get(&id).unwrap_or(&id)).cloned()
    }

    fn id(&self, name: &str) -> Option<AccountId> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// For each DSP of a configuration what is done with its bids that name no account. Where the account that is to pay
    /// them is not known they are refused.
    pub fn policies(&self, config: &Config) -> Vec<Policy> {
        let policy = |dsp: &outcry::config::Dsp| match &dsp.default_account {
            None => Policy { default_account: AccountId::NONE, unbudgeted: dsp.unbudgeted },
            Some(name) => match self.id(name) {
                Some(id) => Policy { default_account: id, unbudgeted: dsp.unbudgeted },
                None => Policy { default_account: AccountId::NONE, unbudgeted: Some(Unbudgeted::Refuse) },
            },
        };
        config.dsps.iter().map(policy).collect()
    }

    /// A line for each default account that there is not.
    pub fn unknown(&self, config: &Config) -> Vec<String> {
        let unknown = config.dsps.iter().filter_map(|dsp| {
            let name = dsp.default_account.as_ref().filter(|name| self.id(name).is_none())?;
            Some(format!(
                "WARNING: dsp {}: there is no account \"{name}\", which is to pay its bids that name none: they are refused. \
                 Add it (`outcry budget add`), then reload",
                dsp.name
            ))
        });
        unknown.collect()
    }
}
