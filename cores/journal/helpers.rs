//! What both disks have beside their way of writing: the directory, and four threads. One does what takes long and nobody
//! waits for (making segments, checkpoints, cutting off, removing), so that no write stands behind 256 MB of zeros. Two
//! sum segments, each block together: that costs more CPU than all else that is done with a record here. One makes indices.
//! Owns: the threads. Called by: the disks.
use super::{
    dir::Dir,
    disk::{Done, Files, Job},
    index_file,
    memory::Memory,
    slow::Segments,
    worker::{Bell, Desk, Worker},
};
use crate::boot::confine;
use outcry::{
    journal::{
        digest::{Share, whole},
        segment::{FileKind, file_name},
        writer::Write,
    },
    record::keys::keys,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Threads that sum: SHA-256 with the CPU's own instructions takes some 650 ns for 1 KB.
const SUMMERS: usize = 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Helpers {
    dir: Dir,
    node: u32,
    slow: Worker<Segments>,
    digest: [Worker<Share>; SUMMERS],
    index: Worker<()>,
    desk: Desk,
}

impl Helpers {
    /// For the segments of `node` in the directory at `path`.
    pub(super) fn start(path: &Path, node: u32) -> io::Result<Helpers> {
        let desk = Desk::new();
        let slow = Worker::start("outcry-journal", Segments::new(path, node), &desk)?;
        let summer = |nth| Worker::start(&format!("outcry-digest-{nth}"), Share::new(nth, SUMMERS as u64), &desk);
        let digest = [summer(0)?, summer(1)?];
        let index = Worker::start("outcry-index", (), &desk)?;
        Ok(Helpers { dir: Dir::new(path), node, slow, digest, index, desk })
    }

    /// Moves the threads that sum and that make indices to these CPUs.
    pub(super) fn digest_on(&self, cpus: &[usize]) {
        for summer in &self.digest {
            let cpus = cpus.to_vec();
            summer.submit(move |_| {
                confine(&cpus);
                None
            });
        }
        let cpus = cpus.to_vec();
        self.index.submit(move |()| {
            confine(&cpus);
            None
        });
    }

    /// The file of a segment.
    pub(super) fn segment(&self, segment: u64) -> PathBuf {
        self.dir.path().join(file_name(FileKind::Segment, self.node, segment))
    }

    /// Begins a job, unless it is a write: that is the disk's own.
    pub(super) fn submit(&self, job: Job<Memory>) -> Option<Write<Memory>> {
        match job {
            Job::Write(write) => return Some(write),
            Job::Digest(piece) => self.sum(Arc::new(piece), |share, piece| {
                share.add(piece.segment, piece.at, &piece.buf.as_ref()[..piece.bytes]);
                // Whoever is last gives the block back.
                Arc::into_inner(piece).map(|piece| Done::Digested { role: piece.role, buf: piece.buf })
            }),
            Job::EndDigest { segment } => {
                self.sum(Arc::default(), move |share, ends: Arc<[Mutex<Vec<_>>; SUMMERS]>| {
                    *ends[share.nth()].lock().unwrap_or_else(PoisonError::into_inner) = share.end();
                    let ends = Arc::into_inner(ends)?;
                    let ends = ends.map(|end| end.into_inner().unwrap_or_else(PoisonError::into_inner));
                    Some(Done::Digest { segment, digest: whole(&ends) })
                })
            }
            Job::Prepare { segment, bytes } => self
                .slow
                .submit(move |segments| Some(Done::Prepared { segment, result: segments.prepare(segment, bytes) })),
            Job::Replace { name, bytes } => {
                self.slow.submit(move |segments| Some(Done::Replaced { result: segments.replace(&name, &bytes) }));
            }
            Job::Cut { segment, end } => {
                self.slow.submit(move |segments| Some(Done::Tidied { result: segments.cut(segment, end) }));
            }
            Job::Index { segment, end } => {
                let (path, node) = (self.dir.path().to_path_buf(), self.node);
                self.index.submit(move |()| {
                    Some(Done::Tidied { result: index_file::make(&path, node, segment, end, &keys) })
                });
            }
            Job::Remove { name } => {
                let path = self.dir.path().join(name);
                self.slow.submit(move |_| Some(Done::Tidied { result: fs::remove_file(path) }));
            }
        }
        None
    }

    /// Begins an order on all threads that sum, about what they share.
    fn sum<T: Send + Sync + 'static>(
        &self,
        about: Arc<T>,
        order: impl Fn(&mut Share, Arc<T>) -> Option<Done<Memory>> + Copy + Send + 'static,
    ) {
        let [first, second] = &self.digest;
        // None stays here: they alone tell who of them is last.
        let also = about.clone();
        first.submit(move |share| order(share, also));
        second.submit(move |share| order(share, about));
    }

    /// A job that is over.
    pub(super) fn poll(&self) -> Option<Done<Memory>> {
        self.desk.take()
    }

    /// To wait for one.
    pub(super) fn bell(&self) -> Bell {
        self.desk.bell()
    }
}

/// A disk that has them: its files are those of the directory.
pub(super) trait Helped {
    fn helpers(&mut self) -> &mut Helpers;
}

impl<D: Helped> Files for D {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.helpers().dir.list()
    }

    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.helpers().dir.read(name, at, out)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.helpers().dir.remove(name)
    }

    fn free(&mut self) -> io::Result<u64> {
        self.helpers().dir.free()
    }
}
