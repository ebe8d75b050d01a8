//! Turns [`FlushRole`] on a pinned thread until it is finished: on glommio, whose files the journal will want, or on
//! a plain loop where io_uring is not to be had.
//! Owns: the thread it is called on. Called by: `boot`, on a thread made for it. Never: spins; between two turns
//! that found little it sleeps on a timer.
use super::{DELTAS_PER_TURN, FlushRole};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use outcry::{config::IoDriver, units::Now};
use std::time::Duration;

/// Rest between two turns: what a message waits at most. Cores send one a second; a wake-up costs some 50 us where other
/// work fills the caches, which at two hundred a second was 1 % of a CPU.
pub const REST: Duration = Duration::from_millis(50);
/// glommio registers this much for direct IO, with each of its three rings. The default of 10 MB would not fit common
/// memlock limits; nothing uses it yet.
pub(crate) const IO_MEMORY: usize = 512 * 1024;
/// Entries of each of glommio's three rings; a timer needs one.
const RING_DEPTH: usize = 64;

/// What the flush thread runs on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlushDriver {
    /// glommio.
    IoUring,
    /// A plain loop, because it was asked for.
    Plain,
    /// A plain loop, because of this.
    Fallback(String),
}

/// Why flush could not run.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// `io_driver = "io_uring"` and the executor could not be made.
    #[error("the flush core cannot use io_uring: {0}")]
    NoIoUring(String),
}

/// Runs until the role is finished, pinned to `cpu` if there is one. `started` is told, on this thread and before the
/// first turn, what it runs on; `clock` is read once per turn.
pub fn run(
    mut role: FlushRole,
    cpu: Option<usize>,
    driver: IoDriver,
    clock: impl Fn() -> Now,
    started: impl FnOnce(&FlushDriver),
) -> Result<(), FlushError> {
    if let Some(id) = cpu {
        // Before glommio makes its thread for blocking calls, which inherits this mask; only the executor's own
        // thread would be pinned by it. Not pinned is slower, not wrong: the plan printed at the start says where.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let executor = match driver {
        IoDriver::Epoll => Err(FlushDriver::Plain),
        IoDriver::Auto => executor(cpu).map_err(FlushDriver::Fallback),
        IoDriver::IoUring => Ok(executor(cpu).map_err(FlushError::NoIoUring)?),
    };
    match executor {
        Ok(executor) => {
            started(&FlushDriver::IoUring);
            executor.run(async {
                while let Some(rest) = step(&mut role, &clock) {
                    if rest {
                        // No file is being written: nothing else waits for this executor, and its own timer costs twice
                        // the CPU of a plain sleep, a thousand times a second.
                        std::thread::sleep(REST);
                    } else {
                        glommio::executor().yield_if_needed().await;
                    }
                }
            });
        }
        Err(plain) => {
            started(&plain);
            while let Some(rest) = step(&mut role, &clock) {
                if rest {
                    std::thread::sleep(REST);
                }
            }
        }
    }
    Ok(())
}

/// One turn. `None`: it was the last. Else: may it rest?
fn step(role: &mut FlushRole, clock: &impl Fn() -> Now) -> Option<bool> {
    let work = role.turn(clock());
    (!role.finished()).then_some(work < DELTAS_PER_TURN)
}

fn executor(cpu: Option<usize>) -> Result<LocalExecutor, String> {
    glommio_would_live()?;
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .name("outcry-flush")
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .make()
        .map_err(|e| e.to_string())
}

/// glommio panics where io_uring is forbidden and exits the process where an operation is missing, so both are found
/// out before it is asked.
fn glommio_would_live() -> Result<(), String> {
    use io_uring::opcode::{
        Accept, Close, Connect, Fallocate, LinkTimeout, OpenAt, Read, Recv, Send, Statx, Timeout, Write,
    };
    let ring = io_uring::IoUring::new(2).map_err(|e| format!("io_uring_setup: {e}"))?;
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|e| format!("io_uring probe: {e}"))?;
    let needed = [
        (Accept::CODE, "accept"),
        (Close::CODE, "close"),
        (Connect::CODE, "connect"),
        (Fallocate::CODE, "fallocate"),
        (LinkTimeout::CODE, "link_timeout"),
        (OpenAt::CODE, "openat"),
        (Read::CODE, "read"),
        (Recv::CODE, "recv"),
        (Send::CODE, "send"),
        (Statx::CODE, "statx"),
        (Timeout::CODE, "timeout"),
        (Write::CODE, "write"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        Some((_, name)) => Err(format!("this kernel's io_uring lacks {name}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::wire;
    use outcry::messages::{ControlToFlush, FlushToControl};

    fn check(driver: IoDriver) -> FlushDriver {
        let mut w = wire(1).unwrap();
        let epoch = std::time::Instant::now();
        let clock = move || Now { boot_ns: epoch.elapsed().as_nanos() as u64, wall_offset_ns: 0 };
        w.control.to_flush.push(ControlToFlush::Stop).unwrap();
        let role = FlushRole::new(w.flush, 1, clock()).unwrap();
        let thread = std::thread::spawn(move || {
            let mut on = None;
            run(role, None, driver, clock, |d| on = Some(d.clone())).unwrap();
            on.unwrap()
        });
        let on = thread.join().unwrap();
        assert!(matches!(w.control.from_flush.pop(), Ok(FlushToControl::Totals(_))));
        assert!(matches!(w.control.from_flush.pop(), Ok(FlushToControl::Stopped)));
        on
    }

    #[test]
    fn it_ends_when_told_to_whatever_it_runs_on() {
        assert_eq!(check(IoDriver::Epoll), FlushDriver::Plain);
        // Where io_uring is forbidden this is the fallback; both are right.
        assert_ne!(check(IoDriver::Auto), FlushDriver::Plain);
    }
}
