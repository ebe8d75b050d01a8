//! Money on this machine: where it is kept, and how it is managed.
//! Owns: nothing. Runs on: the ledger's thread. Called by: `boot`, the admin port. Never: on a bidder core.
//!
//! Reading order: [`store`] (the file), [`books`] (accounts in it), [`api`] (what the admin port may ask of them), [`port`] (how it
//! gets there), [`cli`] (who asks it).
pub mod api;
pub mod books;
pub mod cli;
pub mod port;
pub mod store;
