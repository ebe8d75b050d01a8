//! Which files of the raw stream there are: when one is full, what goes, and whether there is room.
//! Owns: the list of them, the open one. Runs on: the thread of the raw stream, or a test's in virtual time.
//! Called by: [`super::RawRole`]. Never: takes room that the journal counts on; removes a file that is not of the stream.
use outcry::journal::retention::Retention;
use std::{fmt, io};

/// A file is ended after this even if it is short: what has to go goes whole files at a time.
pub const FILE_MS: u64 = 3_600_000;
/// Files are looked through this often, besides whenever one is ended.
pub const TIDY_MS: u64 = 60_000;
/// After a trouble nothing is tried for so long.
pub const RETRY_MS: u64 = 1_000;

/// A file that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// When it was last written, milliseconds since 1970.
    pub last_ms: u64,
}

/// Where files are: a directory, or a test's memory.
pub trait Place {
    /// Every file; none where the directory was never made.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    fn list(&mut self) -> io::Result<Vec<File>>;
    /// Bytes of the file system that are free for us.
    ///
    /// # Errors
    /// As [`Place::list`].
    fn free(&mut self) -> io::Result<u64>;
    /// Makes a file, the directory too if need be; what is appended goes there from now on.
    ///
    /// # Errors
    /// As [`Place::list`].
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Appends all of this to the file that was made last; what of it was written before an error is cut off as far as
    /// possible.
    ///
    /// # Errors
    /// As [`Place::list`].
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As [`Place::list`].
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// How files are kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The machine, for names.
    pub node: u32,
    /// The start, for names: none is used twice.
    pub epoch: u32,
    /// A file is ended at this.
    pub file_bytes: u64,
    /// What goes when.
    pub retention: Retention,
    /// Bytes of the file system that are left free: the journal's.
    pub leave_bytes: u64,
}

/// Why nothing is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// What is free is the journal's.
    NoRoom,
    /// The system refused.
    Failed(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoRoom => f.write_str(
                "the disk has only the room left that the journal needs. Free some, or keep fewer (raw.one_in)",
            ),
            Trouble::Failed(why) => write!(f, "{why}. It is tried again every second"),
        }
    }
}

/// The open file.
#[derive(Debug)]
struct Open {
    name: String,
    bytes: u64,
    since_ms: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Store<P> {
    place: P,
    settings: Settings,
    made: u32,
    open: Option<Open>,
    tidy_ms: u64,
    retry: Option<(u64, Trouble)>,
}

impl<P: Place> Store<P> {
    /// Touches nothing yet.
    pub fn new(place: P, settings: Settings) -> Store<P> {
        Store { place, settings, made: 0, open: None, tidy_ms: 0, retry: None }
    }

    /// Is it worth making a block? Not shortly after a trouble.
    ///
    /// # Errors
    /// That trouble.
    pub fn ready(&self, now_ms: u64) -> Result<(), Trouble> {
        match &self.retry {
            // A clock that was set back is no reason to wait for it.
            Some((at_ms, trouble)) if at_ms.abs_diff(now_ms) < RETRY_MS => Err(trouble.clone()),
            _ => Ok(()),
        }
    }

    /// Appends a block.
    ///
    /// # Errors
    /// It is not kept, and why; nothing of it is in a file.
    pub fn append(&mut self, block: &[u8], now_ms: u64) -> Result<(), Trouble> {
        let done = self.try_append(block, now_ms);
        self.retry = done.as_ref().err().map(|trouble| (now_ms, trouble.clone()));
        if done.is_err() {
            // Whatever its end looks like now, nothing is written behind it.
            self.open = None;
        }
        done
    }

    fn try_append(&mut self, block: &[u8], now_ms: u64) -> Result<(), Trouble> {
        let bytes = block.len() as u64;
        if !self.make_room(bytes).map_err(failed)? {
            return Err(Trouble::NoRoom);
        }
        if self.open.is_none() {
            self.retain(now_ms).map_err(failed)?;
            self.made += 1;
            let Settings { node, epoch, .. } = self.settings;
            let name = file_name(node, epoch, self.made);
            self.place.create(&name).map_err(failed)?;
            self.open = Some(Open { name, bytes: 0, since_ms: now_ms });
        }
        self.place.append(block).map_err(|e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Trouble::NoRoom,
            _ => failed(e),
        })?;
        if let Some(open) = &mut self.open {
            open.bytes += bytes;
        }
        self.end_file(now_ms);
        Ok(())
    }

    /// Once in a while: ends a file that is old enough, removes what has to go.
    pub fn tidy(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.tidy_ms) < TIDY_MS {
            return;
        }
        self.tidy_ms = now_ms;
        self.end_file(now_ms);
        // What cannot be done now is tried again in a minute; what cannot be written says so itself.
        let _ = self.retain(now_ms);
        let _ = self.make_room(0);
    }

    /// Ends the open file when it is full or old.
    fn end_file(&mut self, now_ms: u64) {
        let Settings { file_bytes, .. } = self.settings;
        self.open.take_if(|open| open.bytes >= file_bytes || now_ms.saturating_sub(open.since_ms) >= FILE_MS);
    }

    /// Files that have ended, the oldest first.
    fn ended(&mut self) -> io::Result<Vec<File>> {
        let mut files = self.place.list()?;
        let open = self.open.as_ref().map(|open| open.name.as_str());
        files.retain(|file| is_ours(&file.name) && Some(file.name.as_str()) != open);
        files.sort_by(|a, b| (a.last_ms, &a.name).cmp(&(b.last_ms, &b.name)));
        Ok(files)
    }

    /// Removes what has to go. By the clock on the wall alone, unlike the journal: what is about people goes on its day, and
    /// should the clock be wrong, nobody's money is lost.
    fn retain(&mut self, now_ms: u64) -> io::Result<()> {
        let Retention { age_ms, bytes_max } = self.settings.retention;
        let ended = self.ended()?;
        // The open one counts as if it were full.
        let mut total = self.settings.file_bytes + ended.iter().map(|file| file.bytes).sum::<u64>();
        for file in ended {
            if total <= bytes_max && now_ms.saturating_sub(file.last_ms) <= age_ms {
                break;
            }
            self.place.remove(&file.name)?;
            total -= file.bytes;
        }
        Ok(())
    }

    /// Is there room for so many bytes beside the journal's? What has ended gives way, the oldest first.
    fn make_room(&mut self, bytes: u64) -> io::Result<bool> {
        let enough = bytes.saturating_add(self.settings.leave_bytes);
        if self.place.free()? >= enough {
            return Ok(true);
        }
        for file in self.ended()? {
            self.place.remove(&file.name)?;
            if self.place.free()? >= enough {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn failed(e: io::Error) -> Trouble {
    Trouble::Failed(e.to_string())
}

/// The name of a file: sorted by name, those of a node are sorted by time.
pub fn file_name(node: u32, epoch: u32, number: u32) -> String {
    format!("raw-{node:08x}-{epoch:010}-{number:010}.gz")
}

/// Is this a name of the stream's, of whichever node?
pub fn is_ours(name: &str) -> bool {
    let mut parts = name.strip_prefix("raw-").and_then(|n| n.strip_suffix(".gz")).unwrap_or("").split('-');
    let digits = |part: Option<&str>, len: usize| {
        part.is_some_and(|p| p.len() == len && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    digits(parts.next(), 8) && digits(parts.next(), 10) && digits(parts.next(), 10) && parts.next().is_none()
}
