//! Timers in virtual time.
