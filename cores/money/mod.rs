//! Money on this machine: where it is kept, and how it is managed.
//! Owns: nothing. Runs on: the ledger's thread. Called by: `boot`, the admin port. Never: on a bidder core.
//!
//! Reading order: [`store`] (the file).
pub mod store;
