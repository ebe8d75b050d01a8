//! Benchmarks of Outcry: the reference meter's common parts. The programs are under `meter/` and `micro/`.
#[path = "meter/answers.rs"]
pub mod answers;
#[path = "meter/fate.rs"]
pub mod fate;
#[path = "meter/kit.rs"]
pub mod kit;
