//! Which DSPs to ask, with how much time, over which connection.
pub mod breaker;
pub mod choice;
pub mod deadline;
pub mod demand;
pub mod handshakes;
pub mod health;
#[cfg(test)]
mod health_tests;
pub mod learned;
mod named;
pub mod pool;
pub mod quota;
pub mod targets;
pub mod throttle;
pub mod times;
pub mod trouble;
pub mod worth;
