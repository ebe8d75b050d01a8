//! Benchmarks of Outcry: the reference meter's common parts. The programs are under `meter/`.
#[path = "meter/fate.rs"]
pub mod fate;
#[path = "meter/kit.rs"]
pub mod kit;
