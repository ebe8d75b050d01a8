//! A directory of the file system.
//! Owns: its path, the file that was read last. Called by: the start, `outcry audit`, the disks. May block.
use super::disk::Files;
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// See the module.
#[derive(Debug)]
pub struct Dir {
    path: PathBuf,
    reading: Option<(String, File)>,
    /// Nothing is read that was not asked for.
    exact: bool,
}

impl Dir {
    /// The directory at `path`, which is there.
    pub fn new(path: &Path) -> Dir {
        Dir { path: path.to_path_buf(), reading: None, exact: false }
    }

    /// The same for whoever reads behind a writer: the kernel is not to read ahead what is not written yet.
    #[must_use]
    pub fn exact(self) -> Dir {
        Dir { exact: true, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that are free for us or the journal's own.
    ///
    /// # Errors
    /// What the system says.
    pub fn total(&mut self) -> io::Result<u64> {
        let own: u64 = self.list()?.iter().map(|(_, bytes)| bytes).sum();
        Ok(self.free()?.saturating_add(own))
    }

    /// Does this directory take files that are written past the page cache?
    ///
    /// # Errors
    /// No file can be made here at all.
    pub fn takes_direct_io(&self) -> io::Result<bool> {
        let path = self.path.join(".direct-io");
        let open = |flags| OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&path);
        let made = match open(libc::O_DIRECT) {
            Ok(_) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(0).map(|_| false),
            Err(e) => Err(e),
        };
        let _ = fs::remove_file(&path);
        made
    }
}

impl Files for Dir {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // Whoever looks is not alone: files get their names when they are whole, and old ones go.
            let meta = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => meta?,
            };
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()> {
        let file = match self.reading.take() {
            Some((known, file)) if known == name => file,
            _ => {
                let file = File::open(self.path.join(name))?;
                if self.exact {
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
                }
                file
            }
        };
        let (_, file) = self.reading.insert((name.to_string(), file));
        file.read_exact_at(out, at)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.reading = None;
        fs::remove_file(self.path.join(name))
    }

    fn free(&mut self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Found by the kills: `audit` of an exchange that ran failed when an index got its name while it looked.
    #[test]
    fn files_that_come_and_go_are_no_mistake() {
        let tree = Tree::new(&[("stays", "1")]);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (made, named) = (tree.0.join("made.tmp"), tree.0.join("named"));
                while !over.load(Ordering::Relaxed) {
                    let _ = fs::write(&made, "2").and_then(|()| fs::rename(&made, &named));
                    let _ = fs::remove_file(&named);
                }
            });
            let mut dir = Dir::new(&tree.0);
            let listed = (0..20_000).try_for_each(|_| {
                let stays = dir.list()?.contains(&("stays".to_owned(), 1));
                if stays { Ok(()) } else { Err(io::Error::other("what stays is not there")) }
            });
            over.store(true, Ordering::Relaxed);
            listed.expect("a list");
        });
    }
}
