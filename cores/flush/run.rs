//! Turns [`FlushRole`] and [`Keeper`] on a pinned thread until both are finished: on glommio, whose files past the page
//! cache the journal wants, or on a plain loop where io_uring is not to be had.
//! Owns: the thread it is called on. Called by: `boot`, on a thread made for it. Never: spins; between two turns
//! that found little it sleeps on a timer.
use super::{
    DELTAS_PER_TURN, FlushRole,
    keeper::Keeper,
    opening::{Opening, Writes},
};
use crate::journal::{StdDisk, disk::Disk, glommio_disk::Waiter};
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use outcry::{config::IoDriver, units::Now};
use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Rest between two turns where no records are kept: what a message waits at most. Cores send one a second; a wake-up costs
/// some 50 us where other work fills the caches, which at two hundred a second was 1 % of a CPU.
pub const REST: Duration = Duration::from_millis(50);
/// Rest between two turns when every answer waits for the disk.
pub(super) const DISK_REST: Duration = Duration::from_micros(250);
/// A look at the journal this often while something is waited for that tells nobody.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// The shortest wait for a write: a timer of nothing would be a spin.
const SHORTEST: Duration = Duration::from_millis(1);
/// glommio registers this much for direct IO, with each of its three rings. The default of 10 MB would not fit common
/// memlock limits; blocks beyond it are written from memory that is not registered, which was no slower.
pub(crate) const IO_MEMORY: usize = 512 * 1024;
/// Entries of each of glommio's three rings: the journal's writes and a timer.
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
/// first turn, what it runs on; `clock` is read once per turn. With `opening`, records are kept: what earlier processes
/// left comes first, then the boxes of this one.
pub fn run(
    role: FlushRole,
    cpu: Option<usize>,
    driver: IoDriver,
    opening: Option<Opening>,
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
                match opening {
                    None => turns::<StdDisk>(role, None, Pace::Commit(REST), None, &clock).await,
                    Some(opening) => match opening.direct() {
                        Ok(Some(disk)) => {
                            let waiter = disk.waiter();
                            keep(role, opening, (disk, Writes::Direct), Some(waiter), &clock).await;
                        }
                        Ok(None) => plainly(role, opening, Writes::Refused, &clock).await,
                        Err(e) => opening.failed(e),
                    },
                }
            });
        }
        Err(plain) => {
            started(&plain);
            // Nothing in it waits but for sleeps of the thread itself: one poll and it is over.
            let mut turns = pin!(async {
                match opening {
                    None => turns::<StdDisk>(role, None, Pace::Commit(REST), None, &clock).await,
                    Some(opening) => plainly(role, opening, Writes::NoRing, &clock).await,
                }
            });
            let mut context = Context::from_waker(Waker::noop());
            while turns.as_mut().poll(&mut context).is_pending() {}
        }
    }
    Ok(())
}

async fn plainly(role: FlushRole, opening: Opening, why: Writes, clock: &impl Fn() -> Now) {
    match opening.plain() {
        Ok(disk) => keep(role, opening, (disk, why), None, clock).await,
        Err(e) => opening.failed(e),
    }
}

/// What earlier processes left, then the turns.
async fn keep<D: Disk>(
    role: FlushRole,
    opening: Opening,
    (disk, writes): (D, Writes),
    waiter: Option<Waiter>,
    clock: &impl Fn() -> Now,
) {
    let pace = opening.pace();
    if let Some(keeper) = opening.open(disk, writes, waiter.as_ref(), clock).await {
        turns(role, Some(keeper), pace, waiter, clock).await;
    }
}

/// How often the boxes are emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// This often.
    Commit(Duration),
    /// As often as the disk takes it; so long after it was found that there is nothing.
    Disk(Duration),
}

async fn turns<D: Disk>(
    mut role: FlushRole,
    mut keeper: Option<Keeper<D>>,
    pace: Pace,
    waiter: Option<Waiter>,
    clock: &impl Fn() -> Now,
) {
    let (Pace::Commit(rest) | Pace::Disk(rest)) = pace;
    loop {
        let now = clock();
        let mut busy = role.turn(now) >= DELTAS_PER_TURN;
        if let Some(keeper) = &mut keeper {
            while let Some(configured) = role.take_configured() {
                keeper.configured(&configured, now);
            }
            if let Some(stopped) = role.stopping(now) {
                keeper.end(stopped);
                busy |= !keeper.ended();
            }
            keeper.turn(now, role.totals_mut());
            keeper.show(role.totals_mut());
            role.tell_disk_full(keeper.disk_full());
            role.hold(!keeper.ended());
        }
        if role.finished() {
            return;
        }
        let until_ns = now.boot_ns + if busy { 0 } else { rest.as_nanos() as u64 };
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock().boot_ns));
            match &mut keeper {
                Some(keeper) if keeper.under_way() > 0 => {
                    written(waiter.as_ref(), left).await;
                    let blocked = keeper.blocked();
                    keeper.settle(clock(), role.totals_mut());
                    // What stands in the boxes had no room before; or is not to wait for its turn.
                    if keeper.under_way() == 0 && (blocked || matches!(pace, Pace::Disk(_))) {
                        break;
                    }
                }
                // No file is being written: nothing else waits for this executor, and its own timer costs twice the CPU of a
                // plain sleep.
                // A segment that is being made tells nobody.
                Some(keeper) if keeper.blocked() && !left.is_zero() => {
                    std::thread::sleep(left.min(LOOK));
                    break;
                }
                _ if !left.is_zero() => std::thread::sleep(left),
                _ => {
                    if waiter.is_some() {
                        glommio::executor().yield_if_needed().await;
                    }
                    break;
                }
            }
            if left.is_zero() {
                break;
            }
        }
    }
}

/// Waits until a write is over, or for `most`; without a [`Waiter`] the disk itself waits when it is asked.
pub(super) async fn written(waiter: Option<&Waiter>, most: Duration) {
    let Some(waiter) = waiter else { return };
    // What is done beside the ring (making a segment, a checkpoint) wakes nobody.
    let (mut done, mut over) = (pin!(waiter.done()), pin!(glommio::timer::sleep(most.max(SHORTEST))));
    poll_fn(|context| {
        if done.as_mut().poll(context).is_ready() || over.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
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
    use outcry::{
        messages::{ControlToFlush, FlushToControl},
        record::stopped::Why,
    };

    fn check(driver: IoDriver) -> FlushDriver {
        let mut w = wire(1).unwrap();
        let epoch = std::time::Instant::now();
        let clock = move || Now { boot_ns: epoch.elapsed().as_nanos() as u64, wall_offset_ns: 0 };
        w.control.to_flush.push(ControlToFlush::Stop { why: Why::Asked, unfinished: 0 }).unwrap();
        let role = FlushRole::new(w.flush, 1, clock()).unwrap();
        drop(w.raw);
        let thread = std::thread::spawn(move || {
            let mut on = None;
            run(role, None, driver, None, clock, |d| on = Some(d.clone())).unwrap();
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
