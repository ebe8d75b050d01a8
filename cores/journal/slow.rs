//! What takes long and nobody waits for: making segments, checkpoints, cutting off, removing. On a thread of its own, so
//! that no write stands behind 256 MB of zeros.
//! Owns: the thread. Called by: the disks. Runs on: the CPU of the thread that made it. Ends when its disk is dropped.
use super::disk::{Done, Job};
use outcry::journal::segment::{FileKind, file_name};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

/// Written at once while a segment is made.
const PIECE: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Slow {
    to: Option<Sender<Job<Vec<u8>>>>,
    from: Receiver<Done<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    /// Starts the thread.
    pub(super) fn start(dir: &Path, node: u32) -> io::Result<Slow> {
        let (to, jobs) = channel::<Job<Vec<u8>>>();
        let (results, from) = channel();
        let dir = dir.to_path_buf();
        let work = move || {
            let mut segments = Segments { dir, node };
            for job in jobs {
                let done = match job {
                    Job::Prepare { segment, bytes } => {
                        Done::Prepared { segment, result: segments.prepare(segment, bytes) }
                    }
                    Job::Replace { name, bytes } => Done::Replaced { result: segments.replace(&name, &bytes) },
                    Job::Cut { segment, end } => Done::Tidied { result: segments.cut(segment, end) },
                    Job::Remove { name } => Done::Tidied { result: fs::remove_file(segments.dir.join(name)) },
                    Job::Write(w) => {
                        let result = Err(io::Error::from(io::ErrorKind::Unsupported));
                        Done::Wrote { id: w.id, buf: w.buf, result }
                    }
                };
                if results.send(done).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("outcry-journal".into()).spawn(work)?;
        Ok(Slow { to: Some(to), from, thread: Some(thread) })
    }

    /// Begins a job that is no write.
    pub(super) fn submit(&mut self, job: Job<Vec<u8>>) {
        // The thread ends after its receiver only.
        let _ = self.to.as_ref().map(|to| to.send(job));
    }

    /// One that is over.
    pub(super) fn poll(&mut self) -> Option<Done<Vec<u8>>> {
        self.from.try_recv().ok()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Segments {
    dir: PathBuf,
    node: u32,
}

impl Segments {
    fn prepare(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        let path = |kind| self.dir.join(file_name(kind, self.node, segment));
        let (new, name) = (path(FileKind::Unfinished), path(FileKind::Segment));
        let made = zeros(&new, bytes).and_then(|()| fs::rename(&new, &name)).and_then(|()| sync_dir(&self.dir));
        if made.is_err() {
            // A file that is half made takes the room that is missing.
            let _ = fs::remove_file(&new);
        }
        made
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.dir.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.dir.join(name))?;
        sync_dir(&self.dir)
    }

    fn cut(&mut self, segment: u64, end: u64) -> io::Result<()> {
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
