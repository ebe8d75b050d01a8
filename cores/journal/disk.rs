//! What the journal wants of a disk: files by name before it begins, jobs that are under way together afterwards.
//! Owns: nothing. Called by: [`super::Journal`]. Done by: [`super::std_disk`], [`super::uring_disk`], and a simulation in
//! the tests. Never: reports a write before it would survive a power cut.
use outcry::journal::{
    reader::Source,
    segment::Digest,
    writer::{Piece, Role, Write},
};
use std::{io, time::Duration};

/// Files of one directory, by name; may block.
pub trait Files {
    /// Every file: its name and its bytes.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// Fills `out` with the bytes from `at` on.
    ///
    /// # Errors
    /// As [`Files::list`]; a file that ends before is one too.
    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As [`Files::list`].
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Bytes of the file system that are free for us.
    ///
    /// # Errors
    /// As [`Files::list`].
    fn free(&mut self) -> io::Result<u64>;
}

/// A file of a directory, for the readers.
#[derive(Debug)]
pub struct FileIn<'a, F> {
    /// The directory.
    pub files: &'a mut F,
    /// Its name.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: u64,
}

impl<F: Files> Source for FileIn<'_, F> {
    type Error = io::Error;

    fn len(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.files.read(self.name, at, out)
    }
}

/// Something to be done, while other things are.
#[derive(Debug)]
pub enum Job<B> {
    /// Make a segment's file: of zeros, written, its name durable. One that is there is replaced.
    Prepare {
        /// Its number.
        segment: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// Write to a segment, durably.
    Write(Write<B>),
    /// Put a piece of a segment into its digest, behind those before.
    Digest(Piece<B>),
    /// The digest of all pieces since the first.
    EndDigest {
        /// The segment.
        segment: u64,
    },
    /// Nothing is written to a segment any more: close it and cut it off. If that fails, room is lost and nothing else.
    Cut {
        /// Its number.
        segment: u64,
        /// Bytes that stay.
        end: u64,
    },
    /// A segment has ended: make its index. If that fails, the first search makes it.
    Index {
        /// Its number.
        segment: u64,
        /// Where it ends.
        end: u64,
    },
    /// Put a file in the place of another, durably: whole or not at all.
    Replace {
        /// Its name.
        name: String,
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// Remove a file. If that fails, room is lost until the next start.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What came of a job.
#[derive(Debug)]
pub enum Done<B> {
    /// Of [`Job::Prepare`].
    Prepared {
        /// The segment.
        segment: u64,
        /// How it went.
        result: io::Result<()>,
    },
    /// Of [`Job::Write`].
    Wrote {
        /// Of the write.
        id: u64,
        /// Its buffer.
        buf: B,
        /// How it went. Good: it survives a power cut.
        result: io::Result<()>,
    },
    /// Of [`Job::Digest`].
    Digested {
        /// Of the piece.
        role: Role,
        /// Its buffer.
        buf: B,
    },
    /// Of [`Job::EndDigest`].
    Digest {
        /// The segment.
        segment: u64,
        /// Its digest.
        digest: Digest,
    },
    /// Of [`Job::Replace`].
    Replaced {
        /// How it went.
        result: io::Result<()>,
    },
    /// Of [`Job::Cut`], [`Job::Index`] or [`Job::Remove`].
    Tidied {
        /// How it went.
        result: io::Result<()>,
    },
}

/// A directory that several things can be done in at once.
pub trait Disk: Files {
    /// Memory that can be written from.
    type Buf: AsRef<[u8]> + AsMut<[u8]>;
    /// Some of it.
    fn buffer(&mut self, bytes: usize) -> Self::Buf;
    /// Begins a job; does not wait for it.
    fn submit(&mut self, job: Job<Self::Buf>);
    /// Everything that is to be begun now was submitted: what was held back, so that all of it goes to the system at once,
    /// goes.
    fn hand_over(&mut self) {}
    /// A job that is over, in any order.
    fn poll(&mut self) -> Option<Done<Self::Buf>>;
    /// Waits until a job is over, or for `most`; may return sooner. A disk that waits for its writes when it is polled does not
    /// wait for them here.
    fn wait(&mut self, most: Duration);
}
