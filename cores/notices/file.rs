//! The checkpoint's file, written beside and moved over, on a thread of its own that ends with its owner.
//! Owns: the thread. Runs on: flush (hands over), its thread (writes). Never: makes flush wait; leaves half a file.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
};

/// See the module.
#[derive(Debug)]
pub(super) struct FileWriter {
    to: Sender<Vec<u8>>,
    busy: Arc<AtomicBool>,
    /// The last one is not on disk.
    failed: Arc<AtomicBool>,
}

impl FileWriter {
    pub(super) fn new(path: PathBuf) -> FileWriter {
        let (to, from) = channel::<Vec<u8>>();
        let busy = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(AtomicBool::new(false));
        let (mine, came_to_nothing) = (Arc::clone(&busy), Arc::clone(&failed));
        // Where no thread can be made each write finds nobody, and a start has the more to read.
        let _ = std::thread::Builder::new().name("outcry-notices".to_owned()).spawn(move || {
            let mut failed = false;
            while let Ok(bytes) = from.recv() {
                let done = write(&path, &bytes);
                if let Err(e) = &done
                    && !failed
                {
                    eprintln!(
                        "outcry: WARNING: {} cannot be written ({e}): it is tried again; until then a start has more of the journal to read",
                        path.display()
                    );
                }
                failed = done.is_err();
                came_to_nothing.store(failed, Ordering::Release);
                mine.store(false, Ordering::Release);
            }
        });
        FileWriter { to, busy, failed }
    }

    /// Is the last one written?
    pub(super) fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// Is it to be made again?
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    pub(super) fn write(&self, bytes: Vec<u8>) {
        self.busy.store(true, Ordering::Release);
        if self.to.send(bytes).is_err() {
            self.failed.store(true, Ordering::Release);
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
