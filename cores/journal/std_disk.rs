//! The plain disk: writes through the page cache, then fdatasync for all that were written since the last one. For file
//! systems that refuse O_DIRECT and kernels without io_uring; it blocks its thread.
//! Owns: the file being written. Runs on: flush. Called by: [`super::Journal`].
use super::{
    disk::{Disk, Done, Job},
    helpers::{Helped, Helpers},
    memory::Memory,
};
use outcry::journal::writer::Write;
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
    task::{Context, Wake, Waker},
    thread::Thread,
    time::Duration,
};

/// Wakes the thread that owns the disk.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// See the module.
#[derive(Debug)]
pub struct StdDisk {
    helpers: Helpers,
    open: Option<(u64, File)>,
    unsynced: Vec<(u64, Memory)>,
    done: VecDeque<Done<Memory>>,
}

impl StdDisk {
    /// Segments of `node` in the directory at `path`, which is there.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(path: &Path, node: u32) -> io::Result<StdDisk> {
        let (unsynced, done) = (Vec::new(), VecDeque::new());
        Ok(StdDisk { helpers: Helpers::start(path, node)?, open: None, unsynced, done })
    }

    /// Moves the thread that sums segments to these CPUs: not the one of flush, and none of a bidder core.
    pub fn digest_on(&self, cpus: &[usize]) {
        self.helpers.digest_on(cpus);
    }

    fn write(&mut self, w: &Write<Memory>) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(segment, _)| *segment != w.segment) {
            self.sync();
            self.open = Some((w.segment, OpenOptions::new().write(true).open(self.helpers.segment(w.segment))?));
        }
        match &self.open {
            Some((_, file)) => file.write_all_at(&w.buf.as_ref()[..w.bytes], w.at),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// After a failed fdatasync the kernel may have dropped what it could not write: all of it is written again.
    fn sync(&mut self) {
        let Some((_, file)) = self.open.as_ref().filter(|_| !self.unsynced.is_empty()) else { return };
        let failed = file.sync_data().err();
        for (id, buf) in self.unsynced.drain(..) {
            let result = failed.as_ref().map_or(Ok(()), |e| Err(io::Error::from(e.kind())));
            self.done.push_back(Done::Wrote { id, buf, result });
        }
    }
}

impl Helped for StdDisk {
    fn helpers(&mut self) -> &mut Helpers {
        &mut self.helpers
    }
}

impl Disk for StdDisk {
    type Buf = Memory;

    fn buffer(&mut self, bytes: usize) -> Memory {
        Memory::new(bytes)
    }

    fn submit(&mut self, job: Job<Memory>) {
        if let Job::Prepare { segment, .. } | Job::Cut { segment, .. } = &job
            && self.open.as_ref().is_some_and(|(open, _)| open == segment)
        {
            // A file of that number is open, and is not the one any more.
            self.sync();
            self.open = None;
        }
        let Some(w) = self.helpers.submit(job) else { return };
        match self.write(&w) {
            Ok(()) => self.unsynced.push((w.id, w.buf)),
            Err(e) => self.done.push_back(Done::Wrote { id: w.id, buf: w.buf, result: Err(e) }),
        }
    }

    fn poll(&mut self) -> Option<Done<Memory>> {
        if self.done.is_empty() {
            self.sync();
        }
        self.done.pop_front().or_else(|| self.helpers.poll())
    }

    fn wait(&mut self, most: Duration) {
        if !self.unsynced.is_empty() || !self.done.is_empty() {
            return;
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        if self.helpers.bell().poll(&Context::from_waker(&waker)).is_pending() {
            std::thread::park_timeout(most);
        }
    }
}
