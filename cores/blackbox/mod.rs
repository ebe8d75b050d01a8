//! The black box of a bidder core: a ring in shared memory that its records survive the process in.
//! Owns: the rings of this process and those that earlier ones left. Runs on: boot (makes, reads out), bidder cores
//! (write), flush (drains). Never: a lock, a system call or a wait on the writing side.
//! Full: no room is reserved, so no auction is admitted: answered without a bid, counted.
pub mod consumer;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fault;
pub mod file;
#[cfg(test)]
mod file_tests;
mod map;
pub mod marker;
pub mod producer;
pub mod recover;
#[cfg(test)]
mod ring_tests;

pub use consumer::{Batch, Consumer, Lag, Mark};
pub use file::{BoxFile, CreateError, Made, create};
pub use producer::{Entry, Producer, Stamp};
pub use recover::{Found, Readout, find};
