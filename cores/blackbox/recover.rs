//! What earlier starts left: finds the boxes of this node, whatever the number of cores was, and reads them out.
//! Owns: the files it found, locked. Runs on: the main thread, at boot, before anything else. Called by: `boot`.
//! Never: removes a box by itself, touches one that a process holds, gives up on one because of another.
use super::file::{Named, epoch_of, named, pid};
use outcry::record::{
    blackbox::{BootId, BoxError, Damage, HEADER_BYTES, Header},
    frame::Frame,
};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a box may be held by a process that was killed: the kernel takes its memory and its ring down after the
/// process is gone for everybody who looks.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Damages of a box that are kept one by one; all are counted.
const DAMAGES_KEPT: usize = 16;

/// Why a box cannot be read out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A process holds it.
    #[error("in use by process {0}: stop it first, or give this exchange a `state_dir` and `node` of its own")]
    InUse(u32),
    /// It belongs to another user, who could have put anything into it.
    #[error("owned by user {owner}, this is user {user}: start as the same user once, or remove it")]
    NotOurs {
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// It is no box, a damaged one, or a newer one. What is in it cannot be read; moving it away lets the start go on.
    #[error("{0}")]
    Unreadable(#[from] BoxError),
    /// The system does not let us read it.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A box that cannot be read out.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Refused {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub why: Refusal,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Search {
    /// Boxes that can be read out, by epoch and core; nobody else can while these are held.
    pub found: Vec<Found>,
    /// Boxes that cannot.
    pub refused: Vec<Refused>,
}

impl Search {
    /// Boxes of an epoch that are there, for `outcry::record::marker::judge`. One that cannot be read is there too, by its
    /// name.
    pub fn of_epoch(&self, epoch: u32) -> u16 {
        let paths = self.found.iter().map(|f| &f.path).chain(self.refused.iter().map(|r| &r.path));
        let names = paths.filter_map(|p| p.file_name()).map(|n| n.to_string_lossy());
        u16::try_from(names.filter(|n| epoch_of(n) == Some(epoch)).count()).unwrap_or(u16::MAX)
    }
}

/// A box that nobody holds but this.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// What its header says.
    pub header: Header,
    file: File,
}

/// What was in a box.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Readout {
    /// Whole frames.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sequence numbers of the first and the last.
    pub seqs: Option<(u64, u64)>,
    /// Places that are not as they were published: how many.
    pub damaged: u64,
    /// Frames that are lost by them, at least.
    pub lost: u64,
    /// The first of them.
    pub damages: Vec<Damage>,
}

/// Looks for boxes of `node` in directories (one that is not there has none), waiting up to `patience` for those that are
/// held. Boxes that were never finished are removed: nobody was ever told of a record in them.
///
/// # Errors
/// A directory that is there cannot be read.
pub fn find(dirs: &[PathBuf], node: u32, patience: Duration) -> Result<Search, Refused> {
    let mut search = Search::default();
    let until = Instant::now() + patience;
    let mut seen = Vec::new();
    for dir in dirs {
        // The same one by two names: the boxes of the first look would be held in the second.
        let identity = fs::metadata(dir).map(|m| (m.dev(), m.ino())).ok();
        if seen.contains(&identity) {
            continue;
        }
        seen.push(identity);
        let refused = |e: io::Error| Refused { path: dir.clone(), why: e.into() };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(refused(e)),
        };
        for entry in entries {
            let path = entry.map_err(refused)?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(named) = named(&name, node) else { continue };
            match open(&path, named, until) {
                Ok(Some(found)) => search.found.push(found),
                Ok(None) => {}
                Err(why) => search.refused.push(Refused { path, why }),
            }
        }
    }
    search.found.sort_by_key(|f| (f.header.identity.epoch, f.header.identity.core));
    Ok(search)
}

fn open(path: &Path, named: Named, until: Instant) -> Result<Option<Found>, Refusal> {
    let options = OpenOptions::new().read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).clone();
    let file = match options.open(path) {
        Ok(file) => file,
        // Removed meanwhile.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => {
            // One of another user says whose it is, not that access is denied.
            let meta = fs::symlink_metadata(path)?;
            ours(&meta)?;
            return Err(e.into());
        }
    };
    ours(&file.metadata()?)?;
    while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if e != rustix::io::Errno::WOULDBLOCK {
            return Err(io::Error::from(e).into());
        }
        if Instant::now() >= until {
            return Err(Refusal::InUse(pid(path)));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let meta = file.metadata()?;
    // Whoever held it has removed it.
    if meta.nlink() == 0 {
        return Ok(None);
    }
    if named == Named::Unfinished {
        fs::remove_file(path)?;
        return Ok(None);
    }
    let mut bytes = [0; HEADER_BYTES];
    let have = (meta.len() as usize).min(HEADER_BYTES);
    file.read_exact_at(&mut bytes[..have], 0)?;
    let header = Header::decode(&bytes[..have], meta.len())?;
    Ok(Some(Found { path: path.into(), header, file }))
}

fn ours(meta: &fs::Metadata) -> Result<(), Refusal> {
    let (owner, user) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner == user { Ok(()) } else { Err(Refusal::NotOurs { owner, user }) }
}

impl Found {
    /// Was it left by this run of the operating system? Else somebody kept it over a boot: it is as good.
    pub fn same_boot(&self, boot: BootId) -> bool {
        self.header.identity.boot == boot
    }

    /// Reads it out, frame by frame in their order. Can be done again: nothing changes.
    ///
    /// # Errors
    /// The file cannot be read, or what `each` returned: then it ends there.
    pub fn read_out<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(&Header, Frame<'_>) -> Result<(), E>,
    ) -> Result<Readout, E> {
        let mut live = Vec::new();
        for range in self.header.live() {
            let at = live.len();
            live.resize(at + (range.end - range.start) as usize, 0);
            self.file.read_exact_at(&mut live[at..], range.start)?;
        }
        let mut out = Readout::default();
        for read in self.header.walk(&live) {
            match read {
                Ok(frame) => {
                    let seq = frame.header.seq;
                    out.frames += 1;
                    out.bytes += frame.bytes.len() as u64;
                    out.seqs = Some((out.seqs.map_or(seq, |(first, _)| first), seq));
                    each(&self.header, frame)?;
                }
                Err(damage) => {
                    out.damaged += 1;
                    out.lost += damage.lost();
                    if out.damages.len() < DAMAGES_KEPT {
                        out.damages.push(damage);
                    }
                }
            }
        }
        Ok(out)
    }

    /// Removes the file, after what was read out of it is durable and the marker says so.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}
