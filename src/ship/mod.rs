//! The record leaves the machine: what of the journal goes to Kafka, under which key, and what is done when Kafka does not take it.
//! Owns: nothing that is shared. Runs on: the shipper's thread. Called by: `cores/ship`, which reads the journal and talks to Kafka.
//! Never: drops a record; calls one shipped that was not acknowledged.
//!
//! Reading order: [`schema`] (what is sent, as `outcry.proto`), [`events`] (what a frame becomes), [`shipper`] (what goes when, and how
//! far all is acknowledged), [`cursor`] (where that is kept).
pub mod compare;
pub mod cursor;
pub mod events;
pub mod figures;
pub mod schema;
pub mod shipper;
mod wire;
