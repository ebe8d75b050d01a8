//! What takes long: making segments, checkpoints, cutting off. May block, and does.
//! Owns: nothing but where. Runs on: a thread of its own, see [`super::helpers`].
use outcry::journal::segment::{FileKind, file_name};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Written at once while a segment is made.
const PIECE: usize = 1 << 20;

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

/// A file of zeros, on disk: written, not only reserved, so that a later write to it changes no metadata.
fn zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let piece = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(PIECE as u64) as usize;
        file.write_all(&piece[..n])?;
        left -= n as u64;
        // Piece by piece: all at once would hold up the journal's own writes for as long as it takes.
        file.sync_data()?;
    }
    file.sync_all()?;
    // Written past the page cache from now on.
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    Ok(())
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
