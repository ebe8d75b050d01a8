//! Which DSPs to ask, with how much time, over which connection.
pub mod deadline;
pub mod pool;
