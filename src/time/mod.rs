//! Timers in virtual time.
pub mod wheel;
