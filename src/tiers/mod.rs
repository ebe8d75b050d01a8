//! The journal's afterlife in an object store: rows of what was won, for ninety days and for whoever has a reader of Parquet, and
//! the segments themselves, compressed, for seven years. What is where, and what each column means, is `SPEC.md` in this
//! folder.
//!
//! Frames, listings and times come in; rows, names, manifests and verdicts go out. Files and stores are `cores/tiers`, behind a
//! feature of that package.
//!
//! Reading order: [`names`] (where things are), [`table`], [`wins`], [`money`] and [`house`] (columns), [`gather`] (frames become rows),
//! [`ids`] (which segments can hold an id), [`manifest`] (what was exported), [`plan`] (what is next, what answers, what may go), [`accounts`].
pub mod accounts;
pub mod gather;
pub mod house;
pub mod ids;
mod json;
pub mod manifest;
pub mod money;
pub mod names;
pub mod plan;
pub mod table;
pub mod wins;

pub use json::{hex, sha256, unhex};
