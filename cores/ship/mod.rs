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

use crate::{bidder::turn, control::ControlHandle, heap, money::Accounts};
use outcry::{
    config::{Config, KafkaRules},
    ship::cursor::Position,
};
use producer::Kafka;
use reach::Reach;
use run::{Seat, ShipError};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The way to Kafka before its thread is there.
pub struct Shipping {
    rules: KafkaRules,
    begun: Position,
    kafka: Kafka,
    /// What flush and the thread tell each other.
    pub reach: Arc<Reach>,
}

impl Shipping {
    /// Looks how far the record of this machine is in Kafka, and makes a producer. `None`: it does not go there.
    ///
    /// # Errors
    /// [`ShipError`]
    pub fn begin(config: &Config, node: u32) -> Result<Option<Shipping>, ShipError> {
        let Some(rules) = &config.kafka else { return Ok(None) };
        let begun = run::begun(&config.state_dir, node)?;
        heap::keep_for_libraries();
        let kafka = run::connect(rules, node)?;
        Ok(Some(Shipping { rules: rules.clone(), begun, kafka, reach: Arc::new(Reach::new(begun)) }))
    }

    /// What the thread does; somebody else looks at the topics meanwhile.
    pub fn thread(
        self,
        config: &Config,
        node: u32,
        accounts: Arc<Accounts>,
        handle: Arc<ControlHandle>,
        entropy: u64,
    ) -> impl FnOnce() + Send + 'static {
        let Shipping { rules, begun, kafka, reach } = self;
        let log = |line: &str| eprintln!("outcry: {line}");
        topics::watch(rules.clone(), Arc::clone(&reach), log);
        let (state_dir, journal) = (config.state_dir.clone(), config.state_dir.join("journal"));
        let seat = Seat { rules, node, state_dir, journal, begun, reach, accounts, handle, entropy };
        move || {
            let handle = Arc::clone(&seat.handle);
            if catch_unwind(AssertUnwindSafe(|| run::run(seat, kafka, turn::now, log))).is_err() {
                // Nothing is lost, the journal keeps it; but nobody would see that nothing goes any more.
                log(
                    "ALARM: kafka: its thread panicked; the message stands above. The exchange stops, the next start goes on from there",
                );
                handle.request_stop();
            }
        }
    }
}
