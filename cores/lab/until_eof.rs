//! An end in order for a program that another one drives: when its standard input ends, as it does when the driver
//! closes it or dies.
//! Owns: a thread that waits for that. Called by: `load`, `dsp_sim`.
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Sets `stop` when standard input has ended; what comes before is ignored.
pub(super) fn set(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        // An input that cannot be read has ended too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        stop.store(true, Relaxed);
    });
}
