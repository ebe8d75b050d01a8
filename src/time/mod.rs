//! Time without a clock: timers, and an order of events that holds between machines.
pub mod hybrid;
pub mod wheel;
