//! The decisions of Outcry, a real-time bidding exchange.
//!
//! Bytes, state, `now` and entropy come in as arguments; verdicts and actions go out. Nothing here opens
//! a socket, starts a thread, touches a file, reads a clock or draws randomness: that is `outcry-cores`.
//! So every rule about money, time and eligibility is tested without a socket, in virtual time.
//!
//! Reading order: [`units`] and [`limits`] (what things are measured in, and how many there may be),
//! [`json`], [`openrtb`] (what a request and an answer say), [`auction`] (what is decided of them),
//! [`budget`] (whose money it is), [`notice`] (what is heard of it later), [`billing`] (what it comes to), [`http1`] (how they travel), [`names`] (where hosts are), [`dsp`] and [`gate`] (whom to ask, whom to refuse), [`record`] and
//! [`messages`] (what leaves a bidder core), [`tiers`] (where it stays for years), [`config`] (what an operator may say).
//!
//! Crate-wide invariants: no input panics; money is integer and rounds in [`units`] alone; what grows has
//! its bound in [`limits`].
#![forbid(unsafe_code)]

pub mod auction;
pub mod billing;
pub mod budget;
pub mod config;
pub mod dsp;
pub mod gate;
pub mod http1;
mod index;
pub mod journal;
pub mod json;
pub mod limits;
pub mod messages;
pub mod names;
pub mod notice;
pub mod openrtb;
pub mod record;
pub mod ship;
pub mod tiers;
pub mod time;
pub mod units;
