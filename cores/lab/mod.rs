//! The laboratory: a DSP simulator, a load generator and the demo that joins them to the exchange. Real programs,
//! for any bidder; they read HTTP and JSON with code of their own, so that they can verify the exchange's.
//!
//! Reading order: [`requests`] (what is asked), [`character`] and [`bids`] (what a DSP says to it), [`dsp_sim`],
//! [`arrivals`] (when it is asked), [`check`] (what an answer must be), [`load`] and its generator, [`log`] (what both
//! ends write down for a judge), [`report`], [`demo`], [`attack`] (what hostile clients do), [`hostile`] (what hostile
//! DSPs do).

pub mod arrivals;
pub mod attack;
pub mod bids;
pub mod by_hand;
pub mod character;
pub mod check;
pub mod demo;
pub mod dsp_sim;
mod generator;
pub mod hostile;
pub mod http;
pub mod in_process;
pub mod json;
pub mod load;
#[cfg(test)]
mod load_tests;
pub mod log;
mod notices;
pub mod report;
pub mod requests;
mod ring;
pub mod rng;
mod timer;
mod until_eof;
pub mod wire;
