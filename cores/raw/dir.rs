//! A directory of the file system as the raw stream uses it: made when the first file is, for its owner alone.
//! Owns: the open file. Runs on: the thread of the raw stream. Called by: [`super::store`]. May block.
use super::store::{File, Place, is_ours};
use crate::journal::{dir::Dir, disk::Files};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

/// What is in it may be about people.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// See the module.
#[derive(Debug)]
pub struct RawDir {
    /// The directory above it, which is there.
    state_dir: PathBuf,
    path: PathBuf,
    open: Option<(fs::File, u64)>,
}

impl RawDir {
    /// The directory `raw` of a state directory that is there.
    pub fn new(state_dir: &Path) -> RawDir {
        RawDir { state_dir: state_dir.to_path_buf(), path: state_dir.join("raw"), open: None }
    }

    /// Bytes of the stream's files, if they are on the same file system as `other`.
    pub fn bytes_beside(&mut self, other: &Path) -> u64 {
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
        let files = self.list().unwrap_or_default();
        let bytes = files.iter().filter(|file| is_ours(&file.name)).map(|file| file.bytes).sum();
        if device(&self.path) == device(other) { bytes } else { 0 }
    }

    /// The error with the file it is about.
    fn at(&self, name: &str, e: io::Error) -> io::Error {
        io::Error::new(e.kind(), format!("{}: {e}", self.path.join(name).display()))
    }
}

impl Place for RawDir {
    fn list(&mut self) -> io::Result<Vec<File>> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| self.at("", e))?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (Ok(meta), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else { continue };
            let last = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            if meta.is_file() {
                files.push(File { name, bytes: meta.len(), last_ms: last.as_millis() as u64 });
            }
        }
        Ok(files)
    }

    fn free(&mut self) -> io::Result<u64> {
        // Until it is made, that of the directory it will be in.
        let path = if self.path.is_dir() { &self.path } else { &self.state_dir };
        Dir::new(path).free().map_err(|e| self.at("", e))
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.path);
        made.map_err(|e| self.at("", e))?;
        let file = OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(self.path.join(name));
        self.open = Some((file.map_err(|e| self.at(name, e))?, 0));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some((file, len)) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let written = file.write_all(bytes);
        match &written {
            Ok(()) => *len += bytes.len() as u64,
            // Where this fails too, the file ends in a torn block, which readers know.
            Err(_) => drop(file.set_len(*len)),
        }
        written.map_err(|e| self.at("", e))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.at(name, e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::store::file_name;

    #[test]
    fn what_is_on_the_same_disk_counts() {
        let state_dir = std::env::temp_dir().join(format!("outcry-raw-dir-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state_dir);
        fs::create_dir_all(&state_dir).expect("a directory");
        let mut dir = RawDir::new(&state_dir);
        assert!(dir.list().expect("none is none").is_empty() && dir.free().expect("it is there above") > 0);
        assert_eq!(dir.bytes_beside(&state_dir), 0);
        assert!(dir.append(b"x").is_err(), "into no file");
        for (number, text) in [(1, "four"), (2, "three")] {
            dir.create(&file_name(1, 2, number)).expect("made");
            dir.append(text.as_bytes()).expect("written");
        }
        assert!(dir.create(&file_name(1, 2, 2)).is_err(), "no file is written over");
        fs::write(state_dir.join("raw/note.txt"), "somebody else's").expect("written");
        assert_eq!(dir.bytes_beside(&state_dir), 9);
        assert_eq!(dir.bytes_beside(Path::new("/proc")), 0, "another file system's");
        dir.remove(&file_name(1, 2, 1)).expect("removed");
        dir.remove(&file_name(1, 2, 1)).expect("gone is gone");
        assert_eq!(dir.bytes_beside(&state_dir), 5);
        let _ = fs::remove_dir_all(&state_dir);
    }
}
