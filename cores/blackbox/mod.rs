//! The black box of a bidder core: a ring in shared memory that its records survive the process in.
//! Owns: the rings of this process and those that earlier ones left. Runs on: boot (makes, reads out), bidder cores
//! (write), flush (drains). Never: a lock, a system call, an allocation or a wait on the writing side.
//! Full: no room is reserved, so no auction is admitted: answered without a bid, counted.
//!
//! What is in the file, and reading it out, is [`outcry::record::blackbox`]; how the last process ended,
//! [`outcry::record::marker`]. `map` is the one module of `unsafe`.
//!
//! # The life of a box
//!
//! A start, before anything else, in this order; it may be killed between any two steps:
//! 1. [`find`] in all [`file::candidates`]: the boxes of this node, whatever the number of cores was. One in use by a
//!    process ends the start; one that cannot be read is an alarm, and stays.
//! 2. [`marker::read`], [`marker::boot_id`], [`outcry::record::marker::judge`] with [`recover::Search::of_epoch`]: was it a
//!    kill, a power cut, an end in order?
//! 3. [`Found::read_out`] of each into the journal, which skips what it has (epoch, writer and seq name a frame), and
//!    makes the rest durable.
//! 4. [`marker::write`] of `Recovered`, then [`Found::remove`] of each. In this order, so that a box that is gone while
//!    the marker says `Running` is a power cut or a loss, never a start that was killed here.
//! 5. [`file::place`] for all cores together, [`create`] on a thread that is pinned to each core's NUMA node,
//!    [`marker::write`] of `Running` with their number. Then the first request may come.
//!
//! An auction: admission reserves ([`Producer::reserve`]) the largest frame that the auction can need and its follow-ups,
//! each with [`outcry::record::frame::size`]; no room, no admission. The record is encoded into [`Entry::room`] and
//! published before the answer's send is submitted; what was not used is given back ([`Producer::refund`]).
//!
//! Flush: [`Consumer::hand`] to the journal, the next while that is on its way; when a block and all before it are durable,
//! [`Consumer::release`] with its mark. A block that could not be written: [`Consumer::rewind`].
//!
//! An end in order: the bidder cores have ended, [`Consumer::lag`] is zero; [`marker::write`] of `Clean`, then
//! [`BoxFile::remove`].
//!
//! Under systemd the runtime directory is the place (`RuntimeDirectoryPreserve=yes` keeps it over a restart). `/dev/shm` is
//! not, if the unit says `RemoveIPC=yes`: what its user has there is removed when the service has stopped.
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

pub use consumer::{Batch, Consumer, Handed, Lag, Mark};
pub use file::{BoxFile, CreateError, Made, create};
pub use producer::{Entry, Producer, Stamp};
pub use recover::{Found, Readout, find};
