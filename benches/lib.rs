//! Benchmarks of Outcry.
