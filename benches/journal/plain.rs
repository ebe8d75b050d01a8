//! The plain writer: one io_uring, a file opened with O_DIRECT | O_DSYNC, as many writes under way as it is told, and nothing
//! else.
//! Owns: the ring, the file, the memory written from. A measuring program's: what cannot go on, panics.
#![allow(unsafe_code)]
use io_uring::{IoUring, opcode, types};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    time::Instant,
};

const PAGE: usize = 4096;

/// See the module.
pub(crate) struct Plain {
    ring: IoUring,
    file: File,
    /// One block to write from, at `at`: all writes carry the same bytes.
    memory: Vec<u8>,
    at: usize,
    block: usize,
    depth: usize,
    commits_at: u64,
}

impl Plain {
    /// A file of `bytes` zeros.
    pub(crate) fn open(path: &Path, bytes: u64, block: usize, depth: usize) -> Plain {
        let mut made = File::create(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        let pieces = bytes.div_ceil(1 << 20) + 8;
        (0..pieces).for_each(|_| made.write_all(&zeros).expect("written"));
        made.sync_all().expect("on disk");
        // As the journal's segments: nothing of it in the page cache.
        // SAFETY: advice about a file of ours; no memory is involved.
        unsafe { libc::posix_fadvise(made.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let file =
            OpenOptions::new().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(path).expect("O_DIRECT");
        let memory = vec![0x5a; block + PAGE];
        let at = memory.as_ptr().align_offset(PAGE);
        let ring = IoUring::new(64).expect("io_uring");
        Plain { ring, file, memory, at, block, depth, commits_at: (pieces - 8) << 20 }
    }

    fn submit(&mut self, bytes: usize, offset: u64) {
        let from = self.memory[self.at..self.at + bytes].as_ptr();
        let write = opcode::Write::new(types::Fd(self.file.as_raw_fd()), from, bytes as u32).offset(offset).build();
        // SAFETY: the memory belongs to `self`, is never changed, and every write is waited for before `self` is dropped.
        unsafe { self.ring.submission().push(&write).expect("room in the ring") };
    }

    fn completed(&mut self, bytes: usize) -> usize {
        self.ring.completion().map(|done| assert_eq!(done.result(), bytes as i32)).count()
    }

    /// Writes so many blocks one after the other.
    pub(crate) fn stream(&mut self, blocks: usize) {
        let (mut sent, mut done) = (0, 0);
        while done < blocks {
            while sent < blocks && sent - done < self.depth {
                self.submit(self.block, (sent * self.block) as u64);
                sent += 1;
            }
            self.ring.submit_and_wait(1).expect("submitted");
            done += self.completed(self.block);
        }
    }

    /// Writes 4 KB and waits for it: microseconds.
    pub(crate) fn commit(&mut self, i: usize) -> f64 {
        let began = Instant::now();
        self.submit(PAGE, self.commits_at + (i * PAGE % (8 << 20)) as u64);
        self.ring.submit_and_wait(1).expect("submitted");
        assert_eq!(self.completed(PAGE), 1);
        began.elapsed().as_secs_f64() * 1e6
    }
}
