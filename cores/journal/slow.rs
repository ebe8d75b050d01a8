//! What takes long: making segments, checkpoints, cutting off. May block, and does.
//! Owns: nothing but where. Runs on: a thread of its own, see [`super::helpers`].
use super::memory::Memory;
use outcry::journal::segment::{FileKind, file_name};
use rustix::{fs::FallocateFlags, io::Errno};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Written at once while a segment is made.
const PIECE: usize = 1 << 20;
/// Past the page cache only the file's own metadata is left to be synced: after so many bytes.
const DIRECT_SYNC: u64 = 32 << 20;

/// The segments of a node in a directory.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    node: u32,
}

impl Segments {
    pub(super) fn new(dir: &Path, node: u32) -> Segments {
        Segments { dir: dir.to_path_buf(), node }
    }

    /// Makes a segment's file, of zeros, and its name durable.
    pub(super) fn prepare(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        let path = |kind| self.dir.join(file_name(kind, self.node, segment));
        let (new, name) = (path(FileKind::Unfinished), path(FileKind::Segment));
        let made = zeros(&new, bytes).and_then(|()| fs::rename(&new, &name)).and_then(|()| sync_dir(&self.dir));
        if made.is_err() {
            // A file that is half made takes the room that is missing.
            let _ = fs::remove_file(&new);
        }
        made
    }

    /// Puts a file in the place of another, whole or not at all.
    pub(super) fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(name))?;
        sync_dir(&self.dir)
    }

    /// Cuts a segment off.
    pub(super) fn cut(&mut self, segment: u64, end: u64) -> io::Result<()> {
        let path = self.dir.join(file_name(FileKind::Segment, self.node, segment));
        let file = OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() > end { file.set_len(end) } else { Ok(()) }
    }
}

/// A file of zeros, on disk: written, not only reserved, so that a later write to it changes no metadata. Past the page cache
/// where that is taken: a fifth of the CPU and of the time.
fn zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let (file, sync_bytes) = match fresh(path, libc::O_DIRECT) {
        Ok(file) => (file, DIRECT_SYNC),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => (fresh(path, 0)?, PIECE as u64),
        Err(e) => return Err(e),
    };
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        // A file system that cannot do this beforehand finds the room as it is written to.
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(e) => return Err(e.into()),
    }
    let piece = Memory::new(PIECE);
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(PIECE as u64);
        file.write_all_at(&piece.as_ref()[..n as usize], at)?;
        at += n;
        // Now and then: all at once would hold up the journal's own writes for as long as it takes.
        if at.is_multiple_of(sync_bytes) {
            file.sync_data()?;
        }
    }
    file.sync_all()?;
    // Written past the page cache from now on, whatever was done here.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

fn fresh(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(path)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
