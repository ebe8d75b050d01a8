//! The record on its way to Kafka: the journal is read while it is written, and goes on as messages.
//! Owns: the cursor's file, a producer. Runs on: a thread of its own, on the CPUs of control, and librdkafka's threads beside it.
//! Called by: `boot`. Never: makes a bidder core or flush wait; lets go of the journal what Kafka has not acknowledged.
//! Full: what is not taken stays in the journal.
//!
//! ```text
//!  flush --how far is durable--> shipper --messages--> librdkafka --> brokers
//!    ^------how far is sent---------/  ^----acknowledged-----/
//! ```
//! What is decided (what goes when, what an error means, how far all is there) is [`outcry::ship`].
//!
//! Reading order: [`run`], [`tail`] (the journal), [`producer`] (Kafka), [`reach`] (what flush and it tell each other), [`client`],
//! [`topics`].
pub mod client;
pub mod producer;
pub mod reach;
pub mod reading;
pub mod run;
pub mod tail;
pub mod topics;
