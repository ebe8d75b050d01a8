//! The runtime of a laboratory thread: monoio on io_uring with the flags that measured best, epoll where it must be.
//! Owns: nothing. Called by: `dsp_sim`, `load`.
use std::io;

/// Submission entries: one turn of a few thousand connections.
const ENTRIES: u32 = 4_096;
/// Completion entries; at a thousand requests in flight a small queue overflows and costs a system call each time.
const COMPLETIONS: u32 = 32_768;

/// Runs `main` on a runtime of this thread.
pub(super) fn run<F: Future>(main: F) -> io::Result<F::Output> {
    let mut flags = io_uring_monoio::IoUring::builder();
    flags.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_cqsize(COMPLETIONS);
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .with_entries(ENTRIES)
        .uring_builder(flags)
        .enable_timer()
        .build()?;
    Ok(runtime.block_on(main))
}

/// Pins the calling thread, if asked to. `false`: the CPU is not there or not ours.
pub(super) fn pin(cpu: Option<usize>) -> bool {
    cpu.is_none_or(|id| core_affinity::set_for_current(core_affinity::CoreId { id }))
}

/// Nanoseconds of CPU this thread has used.
pub(super) fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
