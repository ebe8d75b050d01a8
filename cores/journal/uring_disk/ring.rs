//! One io_uring that writes blocks from where they were filled.
//! Owns: the ring; what is under way, its memory and its file; what it is woken by. Runs on: the thread that made it, which
//! is the kernel's demand too. Called by: [`super::UringDisk`]. Never: enters the kernel to look for what is done, unless the
//! kernel has said that there is something; gives memory back that the kernel may still read.
#![allow(unsafe_code)]
use super::super::memory::Memory;
use io_uring::{
    IoUring, cqueue, opcode,
    squeue::Entry,
    types::{Fd, SubmitArgs, Timespec},
};
use outcry::journal::writer::Write;
use rustix::event::{EventfdFlags, eventfd};
use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    sync::Arc,
    task::Wake,
    time::Duration,
};

/// More than writes are under way: a full queue is handed over in between.
const ENTRIES: u32 = 64;
/// Names the completion of the bell; writes have their places.
const BELL: u64 = u64::MAX;

/// Ends [`Ring::wait`] from any thread.
#[derive(Debug)]
pub(super) struct Chime(OwnedFd);

impl Wake for Chime {
    fn wake(self: Arc<Self>) {
        // It fails when 2^64 calls were not heard: one of them is.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// A write that is over.
pub(super) struct Written {
    pub(super) write: Write<Memory>,
    pub(super) result: io::Result<()>,
}

/// See the module.
pub(super) struct Ring {
    ring: IoUring,
    /// What the kernel has. An entry leaves when its completion was read, and no sooner.
    under_way: Vec<Option<(Write<Memory>, Rc<File>)>>,
    chime: Arc<Chime>,
    /// Does the ring hear the chime?
    hears: bool,
}

impl Ring {
    /// # Errors
    /// io_uring is forbidden, or older than Linux 6.1's.
    pub(super) fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_coop_taskrun()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)?;
        let chime = Arc::new(Chime(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        Ok(Ring { ring, under_way: Vec::new(), chime, hears: false })
    }

    /// What ends [`Ring::wait`].
    pub(super) fn chime(&self) -> Arc<Chime> {
        self.chime.clone()
    }

    /// Starts a write; it goes to the kernel with the next [`Ring::submit`] or [`Ring::wait`].
    pub(super) fn write(&mut self, write: Write<Memory>, file: Rc<File>) -> Result<(), Written> {
        let Some(bytes) = write.buf.as_ref().get(..write.bytes) else {
            return Err(Written { write, result: Err(io::ErrorKind::InvalidInput.into()) });
        };
        let place = self.under_way.iter().position(Option::is_none).unwrap_or(self.under_way.len());
        let entry =
            opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), bytes.len() as u32).offset(write.at).build();
        if place == self.under_way.len() {
            self.under_way.push(None);
        }
        self.under_way[place] = Some((write, file));
        match self.push(&entry.user_data(place as u64)) {
            Ok(()) => Ok(()),
            Err(e) => match self.under_way[place].take() {
                Some((write, _)) => Err(Written { write, result: Err(e) }),
                None => Ok(()),
            },
        }
    }

    /// On an error the kernel never sees the entry.
    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.ring.submit()?;
        }
        // SAFETY: an entry is a poll of the chime's file, which is closed after the ring, or a write. Its bytes lie on the
        // heap in a `Memory` that never moves them, and its file is open: both stand in `under_way` before this and leave
        // it when the completion was read, or here below, when the kernel was not given the entry. Nobody sees the memory
        // meanwhile: `under_way` is this module's, and nothing in it reads or writes there. What is under way when the ring
        // is dropped is waited for, and if that fails never freed.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| io::ErrorKind::WouldBlock.into())
    }

    /// Hands over what was started.
    pub(super) fn submit(&mut self) {
        // What the kernel does not take now stays in the queue and goes with the next call.
        if !self.ring.submission().is_empty() {
            let _ = self.ring.submit();
        }
    }

    /// A write that is over.
    pub(super) fn take(&mut self) -> Option<Written> {
        loop {
            let Some(done) = self.ring.completion().next() else {
                // Completions lie with the kernel until it is entered; it says so in memory that both see.
                let queue = self.ring.submission();
                let lies_there = queue.taskrun() || queue.cq_overflow();
                drop(queue);
                if !lies_there || self.ring.submit().is_err() || self.ring.completion().is_empty() {
                    return None;
                }
                continue;
            };
            if done.user_data() == BELL {
                self.hears &= cqueue::more(done.flags());
                continue;
            }
            let place = self.under_way.get_mut(done.user_data() as usize);
            let Some((write, _)) = place.and_then(Option::take) else { continue };
            let result = match done.result() {
                n if n >= 0 && n as usize == write.bytes => Ok(()),
                n if n >= 0 => Err(io::ErrorKind::WriteZero.into()),
                e => Err(io::Error::from_raw_os_error(-e)),
            };
            return Some(Written { write, result });
        }
    }

    /// Hands over what was started and waits until something is over, the chime is heard, or `most` has passed.
    pub(super) fn wait(&mut self, most: Duration) {
        if !self.hears {
            // It stays: each call of the chime is a completion.
            let entry = opcode::PollAdd::new(Fd(self.chime.0.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
            self.hears = self.push(&entry.user_data(BELL)).is_ok();
        }
        if self.ring.completion().is_empty() {
            let most = Timespec::from(most);
            // Its time is over, a signal came: whoever waits looks again anyway.
            let _ = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&most));
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // As at the end of a process: the kernel ends what it has begun.
        while self.under_way.iter().any(Option::is_some) {
            while self.take().is_some() {}
            if self.under_way.iter().all(Option::is_none) {
                return;
            }
            match self.ring.submit_and_wait(1) {
                Err(e) if e.raw_os_error() != Some(libc::EINTR) => {
                    // Not known to be over: their memory is not to be anyone else's.
                    return self.under_way.drain(..).flatten().for_each(std::mem::forget);
                }
                _ => {}
            }
        }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("under_way", &self.under_way).field("hears", &self.hears).finish_non_exhaustive()
    }
}
