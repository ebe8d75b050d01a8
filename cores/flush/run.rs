//! Turns [`FlushRole`] and [`Keeper`] on a pinned thread until both are finished. Where io_uring is to be had and the journal's
//! directory takes it, blocks are written past the page cache; else plainly.
//! Owns: the thread it is called on. Called by: `boot`, on a thread made for it. Never: spins; between two turns
//! that found little it sleeps, or waits for the disk.
use super::{
    DELTAS_PER_TURN, FlushRole,
    keeper::Keeper,
    opening::{Opening, Writes},
};
use crate::journal::{StdDisk, disk::Disk, uring_disk};
use outcry::{config::IoDriver, units::Now};
use std::time::Duration;

/// Rest between two turns where no records are kept: what a message waits at most. Cores send one a second; a wake-up costs
/// some 50 us where other work fills the caches, which at two hundred a second was 1 % of a CPU.
pub const REST: Duration = Duration::from_millis(50);
/// Rest between two turns when every answer waits for the disk.
pub(super) const DISK_REST: Duration = Duration::from_micros(250);
/// A look at the journal this often while something is waited for that tells nobody.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// An order to stop is heard within this, however rarely commits are.
const HEARING: Duration = Duration::from_millis(100);
/// The shortest wait for a write: waiting for no time would be a spin.
const SHORTEST: Duration = Duration::from_millis(1);

/// How the flush thread would write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlushDriver {
    /// With io_uring.
    IoUring,
    /// Plainly, because it was asked for.
    Plain,
    /// Plainly, because of this.
    Fallback(String),
}

/// Why flush could not run.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// `io_driver = "io_uring"` and there is none.
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
        // Before the journal makes its threads, which inherit this mask. Not pinned is slower, not wrong: the plan printed
        // at the start says where.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let ring = || uring_disk::trial().map(|()| FlushDriver::IoUring);
    let on = match driver {
        IoDriver::Epoll => FlushDriver::Plain,
        IoDriver::Auto => ring().unwrap_or_else(|e| FlushDriver::Fallback(e.to_string())),
        IoDriver::IoUring => ring().map_err(|e| FlushError::NoIoUring(e.to_string()))?,
    };
    started(&on);
    match opening {
        None => turns::<StdDisk>(role, None, Pace::Commit(REST), &clock),
        Some(opening) if on != FlushDriver::IoUring => plainly(role, opening, Writes::NoRing, &clock),
        Some(opening) => match opening.direct() {
            Ok(Some(disk)) => keep(role, opening, (disk, Writes::Direct), &clock),
            Ok(None) => plainly(role, opening, Writes::Refused, &clock),
            Err(e) => opening.failed(e),
        },
    }
    Ok(())
}

fn plainly(role: FlushRole, opening: Opening, why: Writes, clock: &impl Fn() -> Now) {
    match opening.plain() {
        Ok(disk) => keep(role, opening, (disk, why), clock),
        Err(e) => opening.failed(e),
    }
}

/// What earlier processes left, then the turns.
fn keep<D: Disk>(mut role: FlushRole, opening: Opening, (disk, writes): (D, Writes), clock: &impl Fn() -> Now) {
    let pace = opening.pace();
    if let Some(keeper) = opening.open(disk, writes, clock, role.take_notice_ends()) {
        turns(role, Some(keeper), pace, clock);
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

fn turns<D: Disk>(mut role: FlushRole, mut keeper: Option<Keeper<D>>, pace: Pace, clock: &impl Fn() -> Now) {
    let (Pace::Commit(rest) | Pace::Disk(rest)) = pace;
    loop {
        let now = clock();
        let mut busy = role.turn(now) >= DELTAS_PER_TURN;
        if let Some(keeper) = &mut keeper {
            while let Some(configured) = role.take_configured() {
                keeper.configured(&configured, now);
            }
            while let Some(note) = role.take_note() {
                keeper.note(&note, now);
            }
            while let Some((name, url)) = role.take_replay() {
                keeper.replay(name, &url, now);
            }
            if let Some(stopped) = role.stopping(now) {
                keeper.end(stopped);
                busy |= !keeper.ended();
            }
            keeper.turn(now, role.totals_mut());
            keeper.show(now, role.totals_mut());
            role.tell_disk_full(keeper.disk_full());
            role.hold(!keeper.ended());
        } else {
            role.forget_records();
        }
        if role.finished() {
            return;
        }
        // An end goes over several turns, which do not wait for a commit each.
        let rest = if role.is_ending() { rest.min(LOOK) } else { rest };
        let until_ns = now.boot_ns + if busy { 0 } else { rest.as_nanos() as u64 };
        loop {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock().boot_ns));
            match &mut keeper {
                Some(keeper) if keeper.under_way() > 0 => {
                    keeper.wait(left.max(SHORTEST));
                    let work = keeper.settle(clock(), role.totals_mut());
                    // What stands in the boxes had no room before, and has now: while other writes are still under way, so
                    // that the disk never runs dry.
                    if keeper.blocked() && work > 0 {
                        break;
                    }
                    // Or is not to wait for its turn.
                    if keeper.under_way() == 0 && matches!(pace, Pace::Disk(_)) {
                        break;
                    }
                }
                // A segment is being made, or there is no room for one.
                Some(keeper) if keeper.blocked() && !left.is_zero() => {
                    keeper.wait(left.min(LOOK));
                    break;
                }
                _ if !left.is_zero() => std::thread::sleep(left.min(HEARING)),
                _ => break,
            }
            if left.is_zero() || role.is_told_to_end() {
                break;
            }
        }
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
