//! Benchmarks of Outcry: the reference meter's common part. The programs are under `meter/`.
#[path = "meter/kit.rs"]
pub mod kit;
