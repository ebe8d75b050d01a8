//! What an operator may say, in two steps: `raw` is what was written, [`Config`] is what may run.
//! Owns: the running configuration's shape. Runs on: control reads it, every core holds a copy of its own.
pub mod resolved;
pub use resolved::*;
