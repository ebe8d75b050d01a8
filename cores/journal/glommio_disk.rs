//! The disk on glommio: O_DIRECT and O_DSYNC, several writes under way at once, nothing that blocks.
//! Owns: the file being written. Runs on: flush, within its executor. Called by: [`super::Journal`]; its jobs go on whenever
//! the executor is given a turn. Never: is made where O_DIRECT is refused, see [`GlommioDisk::new`].
use super::{
    dir::Dir,
    disk::{Disk, Done, Job},
    helpers::{Helped, Helpers},
    memory::Memory,
    worker::Bell,
};
use glommio::{
    allocate_dma_buffer,
    io::{DmaFile, OpenOptions},
};
use outcry::journal::writer::Write;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io,
    path::{Path, PathBuf},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

/// How a write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// The file is opened with O_DSYNC: with the write itself.
    Dsync,
    /// By an fdatasync after it.
    Fdatasync,
}

/// Waits for a job that is over, so that nobody has to look for it in a loop.
#[derive(Clone, Debug)]
pub struct Waiter(Rc<Shared>, Bell);

impl Waiter {
    /// Returns when something is over and has not been taken by [`Disk::poll`]. One task waits at a time.
    pub async fn done(&self) {
        poll_fn(|context| {
            if !self.0.done.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.0.waiting.borrow_mut() = Some(context.waker().clone());
            self.1.poll(context)
        })
        .await;
    }
}

/// What its tasks share with it: all on one thread.
#[derive(Debug, Default)]
struct Shared {
    open: RefCell<Option<(u64, Rc<DmaFile>)>>,
    done: RefCell<VecDeque<Done<Memory>>>,
    waiting: RefCell<Option<Waker>>,
}

/// See the module.
#[derive(Debug)]
pub struct GlommioDisk {
    helpers: Helpers,
    sync: Sync,
    shared: Rc<Shared>,
}

impl GlommioDisk {
    /// Segments of `node` in the directory at `path`, which is there. `None`: its file system refuses O_DIRECT; that is
    /// for [`super::StdDisk`], and for the operator to know.
    ///
    /// # Errors
    /// Nothing can be written there, or no thread could be started.
    pub fn new(path: &Path, node: u32, sync: Sync) -> io::Result<Option<GlommioDisk>> {
        if !Dir::new(path).takes_direct_io()? {
            return Ok(None);
        }
        Ok(Some(GlommioDisk { helpers: Helpers::start(path, node)?, sync, shared: Rc::default() }))
    }

    /// Moves the thread that sums segments to these CPUs: not the one of flush, and none of a bidder core.
    pub fn digest_on(&self, cpus: &[usize]) {
        self.helpers.digest_on(cpus);
    }

    /// To wait for what is under way.
    pub fn waiter(&self) -> Waiter {
        Waiter(self.shared.clone(), self.helpers.bell())
    }

    fn forget(&self, segment: u64) {
        let mut open = self.shared.open.borrow_mut();
        if open.as_ref().is_some_and(|(s, _)| *s == segment) {
            *open = None;
        }
    }
}

/// The file of a segment, opened by its first write, which comes alone: a header.
async fn file(shared: &Shared, segment: u64, path: PathBuf, sync: Sync) -> io::Result<Rc<DmaFile>> {
    if let Some((_, file)) = shared.open.borrow().as_ref().filter(|(s, _)| *s == segment) {
        return Ok(file.clone());
    }
    let mut options = OpenOptions::new();
    options.write(true);
    if sync == Sync::Dsync {
        options.custom_flags(libc::O_DSYNC);
    }
    let opened = Rc::new(options.dma_open(&path).await?);
    *shared.open.borrow_mut() = Some((segment, opened.clone()));
    Ok(opened)
}

/// glommio writes all of a buffer, from memory of its own, so the block is copied there.
async fn write(shared: &Shared, w: &Write<Memory>, path: PathBuf, sync: Sync) -> io::Result<()> {
    let file = file(shared, w.segment, path, sync).await?;
    let mut memory = allocate_dma_buffer(w.bytes);
    memory.as_bytes_mut().copy_from_slice(&w.buf.as_ref()[..w.bytes]);
    let written = file.write_at(memory, w.at).await?;
    if written != w.bytes {
        return Err(io::ErrorKind::WriteZero.into());
    }
    if sync == Sync::Fdatasync {
        file.fdatasync().await?;
    }
    Ok(())
}

impl Helped for GlommioDisk {
    fn helpers(&mut self) -> &mut Helpers {
        &mut self.helpers
    }
}

impl Disk for GlommioDisk {
    type Buf = Memory;

    fn buffer(&mut self, bytes: usize) -> Memory {
        Memory::new(bytes)
    }

    fn submit(&mut self, job: Job<Memory>) {
        if let Job::Prepare { segment, .. } | Job::Cut { segment, .. } = &job {
            self.forget(*segment);
        }
        let Some(w) = self.helpers.submit(job) else { return };
        let path = self.helpers.segment(w.segment);
        let (shared, sync) = (self.shared.clone(), self.sync);
        glommio::spawn_local(async move {
            let result = write(&shared, &w, path, sync).await;
            shared.done.borrow_mut().push_back(Done::Wrote { id: w.id, buf: w.buf, result });
            if let Some(waiting) = shared.waiting.borrow_mut().take() {
                waiting.wake();
            }
        })
        .detach();
    }

    fn poll(&mut self) -> Option<Done<Memory>> {
        let done = self.shared.done.borrow_mut().pop_front();
        done.or_else(|| self.helpers.poll())
    }

    /// A task waits: [`GlommioDisk::waiter`].
    fn wait(&mut self, _: Duration) {}
}
