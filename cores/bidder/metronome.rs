//! The beat of a bidder core under io_uring: a timer file that fires by itself. A timer of the runtime's would be set and
//! cleared anew at every turn.
//! Owns: one timerfd. Runs on: each bidder core. Called by: `thread`. Never: touches any other file.
use outcry::units::MS;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::{io, os::fd::OwnedFd};

/// A timerfd that fires periodically.
pub(super) struct Metronome {
    fd: OwnedFd,
    file: monoio::fs::File,
    period_ms: u64,
    count: Vec<u8>,
}

impl Metronome {
    pub(super) fn new() -> io::Result<Metronome> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let file = monoio::fs::File::from_std(std::fs::File::from(fd.try_clone()?))?;
        Ok(Metronome { fd, file, period_ms: 0, count: Vec::with_capacity(8) })
    }

    /// Waits for the next beat; a change of period is the only system call.
    pub(super) async fn beat(&mut self, period_ms: u64) -> io::Result<()> {
        if self.period_ms != period_ms {
            self.period_ms = period_ms;
            let period = Timespec { tv_sec: 0, tv_nsec: (period_ms * MS) as i64 };
            let timer = Itimerspec { it_interval: period, it_value: period };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &timer)?;
        }
        let mut count = std::mem::take(&mut self.count);
        count.clear();
        let (read, count) = self.file.read_at(count, 0).await;
        self.count = count;
        read.map(drop)
    }
}
