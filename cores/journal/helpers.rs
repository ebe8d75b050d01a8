//! What both disks have beside their way of writing: the directory, and three threads. One does what takes long and nobody
//! waits for (making segments, checkpoints, cutting off, removing), so that no write stands behind 256 MB of zeros. One
//! sums segments: that costs more CPU than all else that is done with a record here. One makes indices.
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
        digest::Digester,
        segment::{FileKind, file_name},
        writer::Write,
    },
    record::keys::keys,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Helpers {
    dir: Dir,
    node: u32,
    slow: Worker<Segments>,
    digest: Worker<Digester>,
    index: Worker<()>,
    desk: Desk,
}

impl Helpers {
    /// For the segments of `node` in the directory at `path`.
    pub(super) fn start(path: &Path, node: u32) -> io::Result<Helpers> {
        let desk = Desk::new();
        let slow = Worker::start("outcry-journal", Segments::new(path, node), &desk)?;
        let digest = Worker::start("outcry-digest", Digester::default(), &desk)?;
        let index = Worker::start("outcry-index", (), &desk)?;
        Ok(Helpers { dir: Dir::new(path), node, slow, digest, index, desk })
    }

    /// Moves the threads that sum and that make indices to these CPUs.
    pub(super) fn digest_on(&self, cpus: &[usize]) {
        let (digest, index) = (cpus.to_vec(), cpus.to_vec());
        self.digest.submit(move |_| {
            confine(&digest);
            None
        });
        self.index.submit(move |()| {
            confine(&index);
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
            Job::Digest(piece) => self.digest.submit(move |digester| {
                digester.add(piece.segment, piece.at, &piece.buf.as_ref()[..piece.bytes]);
                Some(Done::Digested { role: piece.role, buf: piece.buf })
            }),
            Job::EndDigest { segment } => {
                self.digest.submit(move |digester| Some(Done::Digest { segment, digest: digester.end() }));
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
