//! The disk of choice: O_DIRECT and O_DSYNC through an io_uring of its own, blocks written from where they were filled,
//! several at once, nothing that blocks.
//! Owns: the ring, the file being written. Runs on: the thread that made it: flush. Called by: [`super::Journal`].
//! Never: is made where O_DIRECT is refused, see [`UringDisk::new`].
mod ring;

use self::ring::{Ring, Written};
use super::{
    dir::Dir,
    disk::{Disk, Done, Job},
    helpers::{Helped, Helpers},
    memory::Memory,
    worker::Bell,
};
use outcry::journal::writer::Write;
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

/// See the module.
#[derive(Debug)]
pub struct UringDisk {
    helpers: Helpers,
    ring: Ring,
    open: Option<(u64, Rc<File>)>,
    /// Writes that never came to the kernel.
    failed: VecDeque<Done<Memory>>,
    bell: Bell,
    waker: Waker,
}

/// Can this disk be had at all?
///
/// # Errors
/// io_uring is forbidden here, or older than Linux 6.1's.
pub fn trial() -> io::Result<()> {
    Ring::new().map(|_| ())
}

impl UringDisk {
    /// Segments of `node` in the directory at `path`, which is there. `None`: its file system refuses O_DIRECT; that is
    /// for [`super::StdDisk`], and for the operator to know.
    ///
    /// # Errors
    /// Nothing can be written there, no thread could be started, or as [`trial`].
    pub fn new(path: &Path, node: u32) -> io::Result<Option<UringDisk>> {
        if !Dir::new(path).takes_direct_io()? {
            return Ok(None);
        }
        let (helpers, ring) = (Helpers::start(path, node)?, Ring::new()?);
        let (bell, waker) = (helpers.bell(), ring.chime().into());
        Ok(Some(UringDisk { helpers, ring, open: None, failed: VecDeque::new(), bell, waker }))
    }

    /// Moves the threads that sum segments to these CPUs: not the one of flush, and none of a bidder core.
    pub fn digest_on(&self, cpus: &[usize]) {
        self.helpers.digest_on(cpus);
    }

    /// The file of a segment, opened by its first write.
    fn file(&mut self, segment: u64) -> io::Result<Rc<File>> {
        if let Some((_, file)) = self.open.as_ref().filter(|(open, _)| *open == segment) {
            return Ok(file.clone());
        }
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        let file = Rc::new(options.open(self.helpers.segment(segment))?);
        self.open = Some((segment, file.clone()));
        Ok(file)
    }

    fn write(&mut self, write: Write<Memory>) -> Result<(), Written> {
        match self.file(write.segment) {
            Ok(file) => self.ring.write(write, file),
            Err(e) => Err(Written { write, result: Err(e) }),
        }
    }
}

fn wrote(Written { write, result }: Written) -> Done<Memory> {
    Done::Wrote { id: write.id, buf: write.buf, result }
}

impl Helped for UringDisk {
    fn helpers(&mut self) -> &mut Helpers {
        &mut self.helpers
    }
}

impl Disk for UringDisk {
    type Buf = Memory;

    fn buffer(&mut self, bytes: usize) -> Memory {
        Memory::new(bytes)
    }

    fn submit(&mut self, job: Job<Memory>) {
        if let Job::Prepare { segment, .. } | Job::Cut { segment, .. } = &job
            && self.open.as_ref().is_some_and(|(open, _)| open == segment)
        {
            self.open = None;
        }
        let Some(write) = self.helpers.submit(job) else { return };
        if let Err(written) = self.write(write) {
            self.failed.push_back(wrote(written));
        }
    }

    fn hand_over(&mut self) {
        self.ring.submit();
    }

    fn poll(&mut self) -> Option<Done<Memory>> {
        let failed = self.failed.pop_front();
        failed.or_else(|| self.ring.take().map(wrote)).or_else(|| self.helpers.poll())
    }

    fn wait(&mut self, most: Duration) {
        let lies_there = self.bell.poll(&Context::from_waker(&self.waker)).is_ready();
        if !lies_there && self.failed.is_empty() {
            self.ring.wait(most);
        }
    }
}
