//! Budgets that cannot be overspent: what a granter gives, a server holds, a core spends.
//! Owns: the decisions about money. Runs on: bidder cores (a core's ledger), the leases' and the ledger's threads.
//! Called by: the auction, as its funds; `cores/money`. Never: reads a clock, a file, a store or a socket.
//! Full: refuses, with a reason; money is never lost count of.
//!
//! Reading order: [`account`], [`tree`], [`window`], [`manage`], [`messages`], [`granter`], [`server`], [`mod@core`].
pub mod account;
pub mod core;
pub mod event;
pub mod file;
pub mod granter;
pub mod manage;
pub mod messages;
pub mod movement;
pub mod planted;
pub mod request;
pub mod server;
pub mod sizing;
pub mod spent;
pub mod store;
pub mod tree;
pub mod window;
pub mod zone;

pub use account::{AccountId, Period};
pub use messages::{CoreGrant, CoreLine, CoreReport, LineKey};
