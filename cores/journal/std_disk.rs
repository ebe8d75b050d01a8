//! The plain disk: writes through the page cache, then fdatasync for all that were written since the last one. For file
//! systems that refuse O_DIRECT and kernels without io_uring; it blocks its thread.
//! Owns: the file being written. Runs on: flush. Called by: [`super::Journal`].
use super::{
    dir::Dir,
    disk::{Disk, Done, Files, Job},
    slow::Slow,
};
use outcry::journal::{
    segment::{FileKind, file_name},
    writer::Write,
};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// See the module.
#[derive(Debug)]
pub struct StdDisk {
    dir: Dir,
    node: u32,
    slow: Slow,
    open: Option<(u64, File)>,
    unsynced: Vec<(u64, Vec<u8>)>,
    done: VecDeque<Done<Vec<u8>>>,
}

impl StdDisk {
    /// Segments of `node` in the directory at `path`, which is there.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn new(path: &Path, node: u32) -> io::Result<StdDisk> {
        let slow = Slow::start(path, node)?;
        let (unsynced, done) = (Vec::new(), VecDeque::new());
        Ok(StdDisk { dir: Dir::new(path), node, slow, open: None, unsynced, done })
    }

    fn write(&mut self, w: &Write<Vec<u8>>) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(segment, _)| *segment != w.segment) {
            self.sync();
            let path = self.dir.path().join(file_name(FileKind::Segment, self.node, w.segment));
            self.open = Some((w.segment, OpenOptions::new().write(true).open(path)?));
        }
        match &self.open {
            Some((_, file)) => file.write_all_at(&w.buf[..w.bytes], w.at),
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

impl Files for StdDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.dir.list()
    }

    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.dir.read(name, at, out)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn free(&mut self) -> io::Result<u64> {
        self.dir.free()
    }
}

impl Disk for StdDisk {
    type Buf = Vec<u8>;

    fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        vec![0; bytes]
    }

    fn submit(&mut self, job: Job<Vec<u8>>) {
        match job {
            Job::Write(w) => match self.write(&w) {
                Ok(()) => self.unsynced.push((w.id, w.buf)),
                Err(e) => self.done.push_back(Done::Wrote { id: w.id, buf: w.buf, result: Err(e) }),
            },
            Job::Prepare { segment, .. } | Job::Cut { segment, .. } => {
                // A file of that number may be open, and is not the one any more.
                if self.open.as_ref().is_some_and(|(open, _)| *open == segment) {
                    self.sync();
                    self.open = None;
                }
                self.slow.submit(job);
            }
            Job::Replace { .. } | Job::Remove { .. } => self.slow.submit(job),
        }
    }

    fn poll(&mut self) -> Option<Done<Vec<u8>>> {
        if self.done.is_empty() {
            self.sync();
        }
        self.done.pop_front().or_else(|| self.slow.poll())
    }
}
