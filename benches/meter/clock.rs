//! Prints the clock of one CPU in GHz: `clock [cpu=0]`. Where a virtual machine hides the cycle counter, CPU time times
//! this stands in for it.
//!
//! A chain of dependent operations whose latency is known takes so many cycles and no fewer, whatever else the CPU
//! could do beside it: a 64-bit multiplication takes 3 on every x86-64 since 2008, an addition 1 on every 64-bit ARM.
#![allow(unsafe_code)]
use outcry_benches::kit::{Args, pin};
use std::{arch::asm, time::Instant};

/// Runs a chain of a hundred and gives the cycles it takes.
#[cfg(target_arch = "x86_64")]
fn chain(x: &mut u64) -> f64 {
    // SAFETY: arithmetic in one register; no memory, no stack.
    unsafe { asm!(".rept 100", "imul {0}, {0}", ".endr", inout(reg) * x, options(nomem, nostack)) }
    300.0
}

/// Runs a chain of a hundred and gives the cycles it takes.
#[cfg(target_arch = "aarch64")]
fn chain(x: &mut u64) -> f64 {
    // SAFETY: arithmetic in one register; no memory, no stack.
    unsafe { asm!(".rept 100", "add {0}, {0}, {0}", ".endr", inout(reg) * x, options(nomem, nostack)) }
    100.0
}

fn main() {
    pin(Args::parse(&["cpu"]).count("cpu", 0));
    // The best of many short runs: whoever takes the CPU away in between makes it look slower, never faster.
    let mut best = 0.0f64;
    for _ in 0..60 {
        let (start, mut x, mut cycles) = (Instant::now(), 3u64, 0.0);
        for _ in 0..5_000 {
            cycles += chain(&mut x);
        }
        std::hint::black_box(x);
        best = best.max(cycles / start.elapsed().as_nanos() as f64);
    }
    println!("{best:.3}");
}
