//! The file of a black box: where it may be, how it is made, who holds it.
//! Owns: the file and its lock. Runs on: the main thread, at boot. Called by: `boot`. Never: hands out a ring whose memory
//! could turn out not to be there: all of it is allocated, and every page touched, before.
use super::{Consumer, Producer, map::Memory};
use outcry::record::blackbox::{HEADER_BYTES, Identity, identity_bytes};
use rustix::{
    fs::{
        CWD, FallocateFlags, FlockOperation, FsWord, OFlags, RenameFlags, fallocate, flock, fstatfs, renameat_with,
        statfs,
    },
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Where POSIX shared memory is: a tmpfs on every Linux.
pub const SHARED_MEMORY: &str = "/dev/shm";
/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: FsWord = 0x0102_1994;

/// Why boxes cannot be in a directory.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It cannot be looked at.
    #[error("{dir}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is on a disk: every record would wait for it, or be lost with the cache in front of it.
    #[error("{dir} is no tmpfs")]
    NotTmpfs {
        /// The directory.
        dir: PathBuf,
    },
    /// The tmpfs is too small.
    #[error(
        "{dir} has room for {free} bytes and the black boxes of all cores need {need}: make the tmpfs larger (mount -o remount,size=...) or the boxes smaller"
    )]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// Bytes that all boxes take.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
}

/// Where boxes go.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
    /// Why it is not the runtime directory, if there is one.
    pub instead: Option<PlaceError>,
}

/// The directories in which boxes may have been left: the runtime directory, if there is one, and [`SHARED_MEMORY`].
/// Where they go may change from one start to the next; all are looked through.
pub fn candidates(runtime: Option<&Path>) -> Vec<PathBuf> {
    runtime.into_iter().chain([Path::new(SHARED_MEMORY)]).map(Path::to_path_buf).collect()
}

/// Where boxes go that take `need` bytes together (see [`bytes()`]): the runtime directory if it is a tmpfs, else
/// [`SHARED_MEMORY`].
///
/// # Errors
/// Neither will do; the error is that of the last one. A runtime directory on a tmpfs without room is an error at once:
/// it is where the operator wants them.
pub fn place(runtime: Option<&Path>, need: u64) -> Result<Place, PlaceError> {
    let mut instead = None;
    if let Some(dir) = runtime {
        match check_tmpfs(dir, need) {
            Ok(()) => return Ok(Place { dir: dir.to_path_buf(), instead }),
            Err(e @ PlaceError::NoRoom { .. }) => return Err(e),
            Err(e) => instead = Some(e),
        }
    }
    let dir = PathBuf::from(SHARED_MEMORY);
    check_tmpfs(&dir, need)?;
    Ok(Place { dir, instead })
}

/// Is this directory on a tmpfs with room for `need` bytes?
pub fn check_tmpfs(dir: &Path, need: u64) -> Result<(), PlaceError> {
    let fs = statfs(dir).map_err(|e| PlaceError::Io { dir: dir.into(), source: e.into() })?;
    if fs.f_type != TMPFS {
        return Err(PlaceError::NotTmpfs { dir: dir.into() });
    }
    // A tmpfs without a limit says that it has no blocks at all.
    let free = if fs.f_blocks == 0 { u64::MAX } else { fs.f_bavail.saturating_mul(fs.f_bsize as u64) };
    if free < need { Err(PlaceError::NoRoom { dir: dir.into(), need, free }) } else { Ok(()) }
}

/// Bytes of tmpfs that a box with a ring of so many takes.
pub fn bytes(ring: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    page + ring.next_multiple_of(page)
}

/// Why a box could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A step failed.
    #[error("{path}: {doing}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room for it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The ring cannot have this size.
    #[error("a ring of {0} bytes: 64 KB to 1 TB are possible")]
    Size(u64),
    /// Another process has this very box.
    #[error(
        "{path} is in use by process {pid}: an exchange runs already with this node and epoch. Stop it, or give this one a `state_dir` and `node` of its own"
    )]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who holds it, as its header says.
        pid: u32,
    },
    /// A box of this start is there, and nobody holds it.
    #[error(
        "{path} exists: the epoch was used before. Was `state_dir` restored from a backup? Set its file `epoch` above that of every box"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// A box: its two ends, and its file.
#[derive(Debug)]
pub struct Made {
    /// For the bidder core.
    pub producer: Producer,
    /// For flush.
    pub consumer: Consumer,
    /// For whoever removes it at the end.
    pub file: BoxFile,
    /// Why its memory is not locked: pages may be swapped out, and a core would wait for them.
    pub unlocked: Option<io::Error>,
}

/// The file of a box that is in use. It stays when this is dropped: for the next start.
#[derive(Debug)]
pub struct BoxFile {
    path: PathBuf,
    /// Holds the lock, as the mapping does.
    _file: File,
}

impl BoxFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, after everything in it is durable and the marker says so. The two ends go on working, for nobody.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

const RING_MIN: u64 = 64 * 1024;
const RING_MAX: u64 = 1 << 40;

/// Makes a box with a ring of `ring` bytes (64 KB to 1 TB, rounded up to a page) in a directory: allocated, touched, locked
/// to this process, for nobody else to read. It has its name only once it is whole. Memory is taken from the NUMA node
/// of the calling thread: call it pinned to the core that will write.
pub fn create(dir: &Path, ring: u64, identity: Identity) -> Result<Made, CreateError> {
    if !(RING_MIN..=RING_MAX).contains(&ring) {
        return Err(CreateError::Size(ring));
    }
    let path = dir.join(name(&identity));
    let doing = |doing: &'static str| {
        let path = path.clone();
        move |source: io::Error| CreateError::Io { path, doing, source }
    };
    let page = rustix::param::page_size();
    let ring = ring.next_multiple_of(page as u64);
    // Nobody else looks at a name of this process.
    let beside = dir.join(format!("{UNFINISHED}{}-{}", std::process::id(), name(&identity)));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&beside)
        .map_err(doing("made"))?;
    let made = finish(&file, &beside, &path, page, ring, &identity);
    if made.is_err() {
        // Whatever went wrong, half a box is of no use to anybody.
        let _ = fs::remove_file(&beside);
    }
    let memory = made?;
    let unlocked = memory.lock().err();
    let (write, read) = memory.ends();
    let (producer, consumer) = (Producer::new(write, &identity), Consumer::new(read, identity));
    Ok(Made { producer, consumer, file: BoxFile { path, _file: file }, unlocked })
}

fn finish(
    file: &File,
    beside: &Path,
    path: &Path,
    page: usize,
    ring: u64,
    identity: &Identity,
) -> Result<Memory, CreateError> {
    let doing =
        |doing: &'static str| move |source: Errno| CreateError::Io { path: path.into(), doing, source: source.into() };
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(doing("locked"))?;
    let len = page as u64 + ring;
    match fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => {}
        Err(Errno::NOSPC) => {
            let dir = path.parent().unwrap_or(path).to_path_buf();
            let free = fstatfs(file).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_bsize as u64));
            return Err(PlaceError::NoRoom { dir, need: len, free }.into());
        }
        Err(e) => return Err(doing("allocated")(e)),
    }
    let bytes = identity_bytes(identity, std::process::id(), page as u32, ring);
    let written = file.write_all_at(&bytes, 0);
    written.map_err(|source| CreateError::Io { path: path.into(), doing: "written", source })?;
    let mapped = Memory::map(file, page, ring as usize);
    let memory = mapped.map_err(|source| CreateError::Io { path: path.into(), doing: "mapped", source })?;
    match renameat_with(CWD, beside, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(memory),
        Err(Errno::EXIST) => Err(exists(path)),
        Err(e) => Err(doing("given its name")(e)),
    }
}

fn exists(path: &Path) -> CreateError {
    let path = path.to_path_buf();
    let held = File::open(&path).is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockExclusive).is_err());
    if held { CreateError::InUse { pid: pid(&path), path } } else { CreateError::Exists { path } }
}

/// Who made a box, as far as its header can be read; else 0.
pub(super) fn pid(path: &Path) -> u32 {
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|f| f.read_exact_at(&mut header, 0));
    read.map_or(0, |()| outcry::record::blackbox::pid(&header))
}

const PREFIX: &str = "blackbox-";
const SUFFIX: &str = ".ring";
/// Begins the name of a box that is being made.
const UNFINISHED: &str = ".new-";

/// Node and epoch in hexadecimal, so that those of a node are found; the core.
pub(super) fn name(identity: &Identity) -> String {
    let Identity { node, epoch, core, .. } = identity;
    format!("{PREFIX}{node:08x}-{epoch:08x}-{core:03}{SUFFIX}")
}

/// The epoch in the name of a box.
pub(super) fn epoch_of(name: &str) -> Option<u32> {
    u32::from_str_radix(name.strip_prefix(PREFIX)?.get(9..17)?, 16).ok()
}

/// What a name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Named {
    /// A box of this node.
    Box,
    /// One that was being made.
    Unfinished,
}

/// Is this the name of a box of this node?
pub(super) fn named(name: &str, node: u32) -> Option<Named> {
    let ours = |name: &str| name.starts_with(&format!("{PREFIX}{node:08x}-")) && name.ends_with(SUFFIX);
    if ours(name) {
        return Some(Named::Box);
    }
    let unfinished = name.strip_prefix(UNFINISHED)?;
    ours(unfinished.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('-')?).then_some(Named::Unfinished)
}
