//! The threads of Outcry and everything that makes a system call.
pub mod control;
pub mod flush;
pub mod wiring;
//! x
pub mod check;
pub mod io_probe;
pub mod topology;
