//! What an operator may say, in two steps: `raw` is what was written, [`Config`] is what may run.
//! Owns: the running configuration's shape. Runs on: control reads it, every core holds a copy of its own.
//! Called by: `outcry check`, `outcry serve`, reloads. Never: opens a file, looks at the machine.
//!
//! Reading order: `schema` (each key once: name, meaning, default, range), `kind` and `address` (what a value may be),
//! `raw` (where it was written), `check` (all of it together), `print` (the same schema as a commented file),
//! [`budgets`] (a file of its own, read the same way),
//! [`plan`] (which CPUs do what), [`explanation`] (and why).
mod address;
pub mod budgets;
mod buys;
mod check;
mod dsps;
pub mod explanation;
mod house;
pub mod kafka;
mod kind;
mod mistake;
mod notices;
pub mod plan;
mod print;
mod raw;
pub mod resolved;
mod schema;
pub mod suggest;

pub use check::load;
pub use kafka::{KafkaRules, Mechanism, Sasl};
pub use mistake::Mistake;
pub use print::default_toml;
pub use resolved::*;
