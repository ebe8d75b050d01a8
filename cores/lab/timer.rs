//! Sleeping to the microsecond. The runtime's own timer counts milliseconds, which at 2,000 requests a second would
//! send them in pairs and call the bidder half a millisecond slower than it is.
//! Owns: one timerfd. Called by: `load`.
use monoio::fs::File;
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use std::{io, os::fd::AsFd as _, time::Duration};

/// One sleeper.
pub(super) struct Timer {
    /// None where the runtime is on epoll: it cannot wait for a file.
    precise: Option<(TimerFd, File)>,
    buffer: Vec<u8>,
}

impl Timer {
    /// Call it inside the runtime.
    pub(super) fn new() -> io::Result<Timer> {
        let buffer = vec![0; 8];
        if !monoio::utils::detect_uring() {
            return Ok(Timer { precise: None, buffer });
        }
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let file = File::from_std(std::fs::File::from(timer.as_fd().try_clone_to_owned()?))?;
        Ok(Timer { precise: Some((timer, file)), buffer })
    }

    /// Sleeps; zero is the shortest there is.
    pub(super) async fn sleep(&mut self, time: Duration) -> io::Result<()> {
        let Some((timer, file)) = &self.precise else {
            monoio::time::sleep(time).await;
            return Ok(());
        };
        // A timer set to zero would be one switched off.
        let time = TimeSpec::from_duration(time.max(Duration::from_nanos(1)));
        timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
        let (read, buffer) = file.read_at(std::mem::take(&mut self.buffer), 0).await;
        self.buffer = buffer;
        read.map(drop)
    }
}
