//! What a start and a stop do for the record: finds what earlier processes left, makes this one's black boxes, puts them
//! away at the end.
//! Owns: the files of the boxes, the marker. Runs on: the main thread. Called by: `boot`.
//! Never: makes a box before those that were left are on disk; removes one before the marker says so.
//!
//! The order is that of [`crate::blackbox`]: a start may be killed between any two steps.
use crate::{
    blackbox::{
        self, BoxFile, CreateError, Found, Producer, Readout, file, marker,
        recover::{self, PATIENCE, Refused},
    },
    exported::Exported,
    flush::opening::{Boxes, Opened, Opening, OpeningError, Start as Starting, Writes},
    journal::{JournalError, JournalSettings},
    notices::Begun,
    raw::{self, dir::RawDir, store::Store},
    ship::reach::Reach,
    state::Start,
};
use outcry::{
    config::{Config, Durability, RawRules, RecordRules, plan::Plan},
    journal::{
        positions::Positions,
        retention::{self, Levels, Retention},
        writer::Settings,
    },
    limits,
    record::{
        blackbox::{BootId, Identity},
        marker::{Ended, Marker, State, judge},
    },
    time::hybrid::Hlc,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvError, SyncSender, sync_channel},
    },
    time::Duration,
};

/// A checkpoint after so many bytes: a start reads what is behind it.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Of the last segment that a full disk takes, kept for what must be written to come to an end.
const RESERVE_BYTES: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;

/// Why records cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepingError {
    /// What was left cannot be brought into the journal.
    #[error(transparent)]
    Opening(#[from] OpeningError),
    /// A directory cannot be looked through for boxes, or a box is in use.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// There is no place for boxes.
    #[error("no place for the black boxes: {0}")]
    Place(#[from] file::PlaceError),
    /// A box cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The marker.
    #[error(transparent)]
    Marker(#[from] marker::MarkerFileError),
    /// A file or directory.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The flush thread is gone; its message stands above.
    #[error("the flush thread ended before the journal was open")]
    Gone(#[from] RecvError),
}

/// What was found, before anything is changed.
pub struct Left {
    opened: Receiver<Result<Opened, OpeningError>>,
    boxes: SyncSender<Boxes>,
    state_dir: PathBuf,
    runtime: Option<PathBuf>,
    boot: BootId,
    start: Start,
    box_bytes: u64,
    starting: Starting,
    ended: Ended,
    /// Is everything there that can be read out of boxes, and was answered?
    whole: bool,
    power: bool,
}

/// What the journal has once everything that was left is in it: what money is counted from.
#[derive(Debug)]
pub struct Counted {
    /// Its directory.
    pub dir: PathBuf,
    /// Up to which frame of each writer it has everything.
    pub positions: Positions,
    /// The last start before this one, and whether its record lacks nothing.
    pub last: Option<(u32, bool)>,
}

/// What earlier processes left is in the journal.
pub struct Kept {
    left: Left,
    last: Hlc,
}

/// What this process records with.
pub struct Recording {
    /// The writing ends, by core.
    pub producers: Vec<Producer>,
    /// The greatest time that the journal knows.
    pub last: Hlc,
    /// For the end.
    pub away: PutAway,
}

/// The boxes of this process, for its end.
pub struct PutAway {
    files: Vec<BoxFile>,
    state_dir: PathBuf,
    marker: Marker,
}

/// Looks for what earlier processes left, says how the last one ended, and gives what flush is to open the journal with.
/// `None`: no records are kept.
pub fn look(
    config: &Config,
    plan: &Plan,
    start: Start,
    (entropy, ship): (u64, Option<Arc<Reach>>),
    say: &mut dyn FnMut(&str),
) -> Result<Option<(Left, Opening)>, KeepingError> {
    let rules = config.record;
    if rules.durability == Durability::None {
        say(
            "WARNING: no records are kept (record.durability = \"none\"): nothing that is decided can be proved or billed",
        );
        return Ok(None);
    }
    let runtime = config.box_dir.clone().or_else(|| std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from));
    let search = blackbox::find(&file::candidates(runtime.as_deref()), start.node, PATIENCE)?;
    let mut refused = search.refused.iter();
    if let Some(at) = refused.position(|r| matches!(r.why, recover::Refusal::InUse(_))) {
        let mut refused = search.refused;
        return Err(refused.swap_remove(at).into());
    }
    let boot = marker::boot_id()?;
    let left = marker::read(&config.state_dir)?;
    let ended = judge(left.as_ref(), boot, left.as_ref().map_or(0, |m| search.of_epoch(m.epoch)));
    tell(&ended, rules.commit_ms, say);
    for refused in &search.refused {
        say(&format!("WARNING: a black box cannot be read and stays where it is: {refused}"));
    }
    let dir = config.state_dir.join("journal");
    fs::create_dir_all(&dir).map_err(|source| KeepingError::Io { path: dir.clone(), source })?;
    let settings = settings(&dir, rules, start.node, entropy, say)?;
    let exported = rules.wait_for_tiers.then(|| Exported::new(&config.state_dir, start.node)).transpose();
    let exported =
        exported.map_err(|source| KeepingError::Io { path: config.state_dir.join(crate::exported::DIR), source })?;
    let (to_boot, opened) = sync_channel(1);
    let (boxes, from_boot) = sync_channel(1);
    let opening = Opening {
        dir,
        settings,
        durability: rules.durability,
        commit: Duration::from_millis(rules.commit_ms),
        // Beside flush, not before it; where there is one CPU for both it waits its turn.
        digest_cpus: plan.control.iter().copied().filter(|&cpu| cpu != plan.flush || plan.control.len() == 1).collect(),
        found: search.found,
        opened: to_boot,
        boxes: from_boot,
        ship,
        exported,
    };
    let starting = Starting {
        node: start.node,
        epoch: start.epoch,
        boot: boot.0,
        config_hash: config.hash,
        config_id: config.id,
        region: config.region.clone(),
    };
    let state_dir = config.state_dir.clone();
    let whole = ended.is_whole(left.is_some_and(|m| m.power)) && search.refused.is_empty();
    let power = rules.durability == Durability::Power;
    let box_bytes = rules.box_bytes;
    let left = Left { opened, boxes, state_dir, runtime, boot, start, box_bytes, starting, ended, whole, power };
    Ok(Some((left, opening)))
}

impl Left {
    /// Waits until flush has everything that was left on disk, says what it was, has `count` count it, and puts it away: if
    /// the process is killed before, the next start finds all of it again.
    pub fn readout<E: From<KeepingError>>(
        self,
        say: &mut dyn FnMut(&str),
        count: impl FnOnce(&Counted, &mut dyn FnMut(&str)) -> Result<(), E>,
    ) -> Result<Kept, E> {
        let Opened { recovered, found, last, positions, writes } = self.opened()?;
        if let Some((segment, at, torn)) = recovered.torn {
            say(&format!(
                "the journal's segment {segment} ends in a torn write at byte {at}, {} bytes: cut off, its records are in the black boxes unless the power failed",
                torn.bytes
            ));
        }
        for damage in &recovered.damages {
            say(&format!(
                "WARNING: the journal's last segment is damaged at byte {}: {}. `outcry audit verify` says more",
                damage.at, damage.why
            ));
        }
        if let Some((segment, why)) = &recovered.bad_header {
            say(&format!("WARNING: the header of the journal's segment {segment} cannot be read: {why}"));
        }
        if let Some(why) = &recovered.checkpoint {
            say(&format!("WARNING: the journal's checkpoint cannot be read ({why}); all of it was looked through"));
        }
        match writes {
            Writes::Direct => {}
            Writes::Refused => say(
                "WARNING: the journal's file system refuses O_DIRECT: it is written through the page cache with fdatasync, which blocks the flush thread. ext4 and XFS take it",
            ),
            Writes::NoRing => say("without io_uring the journal is written through the page cache, with fdatasync"),
        }
        for (found, read) in &found {
            let path = found.path.display();
            say(&format!("read out {path}: {} records that the last process left", read.frames));
            if read.damaged > 0 {
                say(&format!(
                    "WARNING: {path} is damaged in {} places; at least {} records are lost: {}",
                    read.damaged, read.lost, read.damages[0]
                ));
            }
        }
        let whole = self.whole && found.iter().all(|(_, read)| read.damaged == 0);
        let last_start = self.ended.epoch().map(|epoch| (epoch, whole));
        count(&Counted { dir: self.state_dir.join("journal"), positions, last: last_start }, say)?;
        self.put_away(found)?;
        Ok(Kept { left: self, last })
    }

    fn opened(&self) -> Result<Opened, KeepingError> {
        Ok(self.opened.recv()??)
    }

    fn put_away(&self, found: Vec<(Found, Readout)>) -> Result<(), KeepingError> {
        if !found.is_empty() {
            let (epoch, boot) = (self.start.epoch, self.boot);
            let marker = Marker { state: State::Recovered, epoch, boot, boxes: 0, power: false };
            marker::write(&self.state_dir, &marker)?;
        }
        found.into_iter().try_for_each(|(found, _)| remove(found))
    }
}

impl Kept {
    /// Makes the boxes of this process: one for each of `cpus`, in its memory.
    pub fn boxes(
        self,
        cpus: &[usize],
        notices: Option<Begun>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Recording, KeepingError> {
        let Kept { left, last } = self;
        let Left { state_dir, runtime, boot, start, box_bytes, power, .. } = left;
        let boxes = cpus.len() as u16;
        let place = file::place(runtime.as_deref(), file::bytes(box_bytes) * u64::from(boxes))?;
        if let Some(why) = &place.instead {
            say(&format!("WARNING: black boxes are in {}, not in the runtime directory: {why}", place.dir.display()));
        }
        let (mut producers, mut consumers, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for (core, &cpu) in cpus.iter().enumerate() {
            let identity = Identity { node: start.node, epoch: start.epoch, core: core as u16, boot };
            let made = make(&place.dir, box_bytes, identity, cpu)?;
            if let Some(why) = made.unlocked.filter(|_| core == 0) {
                say(&format!(
                    "WARNING: black boxes cannot be locked into memory ({why}): raise the limit (LimitMEMLOCK=infinity)"
                ));
            }
            producers.push(made.producer);
            consumers.push(made.consumer);
            files.push(made.file);
        }
        let running = Marker { state: State::Running, epoch: start.epoch, boot, boxes, power };
        marker::write(&state_dir, &running)?;
        // Flush is there: it has just answered. If it is gone since, the cores' rings say so.
        let _ = left.boxes.send(Boxes { consumers, start: left.starting, notices });
        Ok(Recording { producers, last, away: PutAway { files, state_dir, marker: running } })
    }
}

impl PutAway {
    /// Everything is on disk: the marker says so, and the boxes go.
    pub fn put_away(self) -> Result<(), KeepingError> {
        marker::write(&self.state_dir, &Marker { state: State::Clean, ..self.marker })?;
        for file in self.files {
            let path = file.path().to_path_buf();
            file.remove().map_err(|source| KeepingError::Io { path, source })?;
        }
        Ok(())
    }
}

fn remove(found: Found) -> Result<(), KeepingError> {
    let path = found.path.clone();
    match found.remove() {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(KeepingError::Io { path, source: e }),
        _ => Ok(()),
    }
}

/// On a thread of its own, pinned to the core that will write: memory comes from where it is touched first.
fn make(dir: &Path, bytes: u64, identity: Identity, cpu: usize) -> Result<blackbox::Made, CreateError> {
    std::thread::scope(|scope| {
        let make = scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
            blackbox::create(dir, bytes, identity)
        });
        make.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn tell(ended: &Ended, commit_ms: u64, say: &mut dyn FnMut(&str)) {
    match ended {
        Ended::Never | Ended::Clean { .. } => {}
        Ended::Killed { epoch } => say(&format!(
            "the last process (epoch {epoch}) did not end in order: what it recorded is read out of its black boxes"
        )),
        Ended::Recovered { epoch } => {
            say(&format!("an earlier process (epoch {epoch}) did not end in order; its records are in the journal"));
        }
        Ended::PowerCut { epoch } => say(&format!(
            "WARNING: the machine went down under the last process (epoch {epoch}): what it recorded in its last {commit_ms} ms and what was on its way to the disk is lost, unless record.durability was \"power\""
        )),
        Ended::BoxesGone { epoch, missing } => say(&format!(
            "WARNING: {missing} black boxes of the last process (epoch {epoch}) are gone though the machine did not go down: what was in them and not on disk is lost. Who removes files from the runtime directory or /dev/shm?"
        )),
    }
}

/// What of the disk's room matters to a journal of such segments.
fn levels(segment_bytes: u64) -> Levels {
    Levels { low: 16 * segment_bytes, keep: 2 * segment_bytes }
}

/// How requests and answers are kept whole. Below the room at which the journal warns they give way to it.
pub fn raw_store(config: &Config, start: Start) -> Store<RawDir> {
    let RawRules { keep_days, keep_bytes, .. } = config.raw;
    let settings = raw::store::Settings {
        node: start.node,
        epoch: start.epoch,
        file_bytes: (keep_bytes / 8).min(limits::RAW_FILE_BYTES_MAX),
        retention: Retention { age_ms: keep_days * DAY_MS, bytes_max: keep_bytes },
        leave_bytes: levels(config.record.segment_bytes).low,
    };
    Store::new(RawDir::new(&config.state_dir), settings)
}

/// How the journal is kept; what the disk cannot hold is lowered, loudly.
fn settings(
    dir: &Path,
    rules: RecordRules,
    node: u32,
    entropy: u64,
    say: &mut dyn FnMut(&str),
) -> Result<JournalSettings, KeepingError> {
    let segment = rules.segment_bytes;
    let levels = levels(segment);
    let mut retention = Retention { age_ms: rules.keep_days * DAY_MS, bytes_max: rules.keep_bytes };
    let total = crate::journal::dir::Dir::new(dir).total();
    let total = total.map_err(|e| OpeningError::from(JournalError::Disk(e)))?;
    // What the raw stream holds beside it gives way when the journal grows.
    let total = total + dir.parent().map_or(0, |state_dir| RawDir::new(state_dir).bytes_beside(dir));
    if let Err(most) = retention::check(retention, levels, total, segment) {
        let most = most.max(segment);
        say(&format!(
            "record.keep_bytes = {} is more than the disk of {} has room for: {most} bytes are kept",
            rules.keep_bytes,
            dir.display()
        ));
        retention.bytes_max = most;
    }
    let writer = Settings {
        node,
        segment_bytes: segment,
        block_bytes: limits::JOURNAL_BLOCK_BYTES,
        depth: limits::JOURNAL_DEPTH,
        reserve_bytes: RESERVE_BYTES.min(segment / 8),
        entropy,
    };
    Ok(JournalSettings { writer, checkpoint_bytes: CHECKPOINT_BYTES.min(segment), retention, levels })
}
