//! The journal on its disk: [`outcry::journal`] says what is to be written, this does it and says how it went.
//! Owns: the writer, its disk, the checkpoint, what is kept. Runs on: flush. Called by: the flush core, once a turn.
//! Never: calls anything durable that would not survive a power cut; blocks, once it is open, longer than its disk does
//! ([`StdDisk`] waits for fdatasync, [`UringDisk`] for nothing).
//!
//! ```text
//! push(frame) ...                    a frame is copied into the block being filled
//! turn(now)                          hands writes to the disk, takes back what is done; as often as there is time
//! durable_positions()                up to where black boxes may forget
//! ```
//!
//! | what goes wrong | what happens |
//! | --- | --- |
//! | a write fails | it is done again; after three failures its segment is left behind and its blocks go to the next one |
//! | the disk hangs | nothing becomes durable; `push` says [`Refusal::Busy`] when all blocks are on their way |
//! | the disk is full | [`Journal::level`] rises; ordinary frames are refused before the reserve is touched; segments are made again once there is room |
//! | the process dies | the next start finds what the kernel was given; the rest is in the black boxes |
//! | the power fails | the next start finds everything that was durable, and cuts off what was not |
pub mod dir;
pub mod disk;
pub mod glommio_disk;
mod helpers;
pub mod index_file;
pub mod memory;
mod open;
pub mod since;
mod slow;
pub mod std_disk;
#[cfg(test)]
mod tests;
pub mod uring_disk;
mod worker;

pub use self::{
    glommio_disk::GlommioDisk,
    open::{JournalError, Recovered},
    std_disk::StdDisk,
    uring_disk::UringDisk,
};

use self::disk::{Disk, Done, Job};
use crate::planted::{Fault, planted};
use outcry::{
    journal::{
        checkpoint::{self, Checkpoint},
        positions::{Key, Positions},
        retention::{Kept, Level, Levels, Needs, Pace, Retention, Space, level, may_go, may_make},
        segment::{FileKind, file_name},
        writer::{Class, Counts, Durable, Io, Refusal, Resume, Settings, Taken, Writer},
    },
    record::frame::Frame,
    units::{MS, Now},
};
use std::time::Duration;

/// A failed attempt to make a segment is repeated after this.
const AGAIN_NS: u64 = 1_000 * MS;
/// How often the file system is asked how much is free.
const LOOK_NS: u64 = 1_000 * MS;

/// How a journal is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalSettings {
    /// How it is laid out.
    pub writer: Settings,
    /// A checkpoint is written when so many bytes were since the last one, and whenever a segment ends.
    pub checkpoint_bytes: u64,
    /// What is kept.
    pub retention: Retention,
    /// How full a disk may be.
    pub levels: Levels,
}

/// What went wrong beside writes, counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Troubles {
    /// Segments that could not be made.
    pub unprepared: u64,
    /// Checkpoints that could not be written.
    pub checkpoints: u64,
    /// Files that could not be cut off or removed.
    pub untidied: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Journal<D: Disk> {
    disk: D,
    writer: Writer<D::Buf>,
    settings: JournalSettings,
    /// Segments that have ended, in order.
    kept: Vec<Kept>,
    needs: Needs,
    pace: Pace,
    /// Ended segments that go once the checkpoint says so.
    going: Vec<u64>,
    /// The checkpoint being written: what it lets go.
    checkpoint: Option<Vec<u64>>,
    /// Bytes written when the last one was, and whether one is due whatever was written since.
    checkpoint_at: u64,
    checkpoint_due: bool,
    first_segment: u64,
    free: u64,
    looked_ns: Option<u64>,
    again_ns: Option<u64>,
    troubles: Troubles,
    /// What the last segment that was there at the start is cut off to.
    cut: Option<(u64, u64)>,
    hlc: u64,
}

impl<D: Disk> Journal<D> {
    /// Reads what is there and goes on behind it.
    ///
    /// # Errors
    /// [`JournalError`]: nothing was changed then. What a start can go on with in spite of it is in [`Recovered`] and is
    /// to be told to the operator.
    pub fn open(mut disk: D, settings: JournalSettings) -> Result<(Journal<D>, Recovered), JournalError> {
        let found = open::open(&mut disk, settings.writer.node, settings.writer.segment_bytes)?;
        let free = disk.free().map_err(JournalError::Disk)?;
        let resume = found.resume;
        #[cfg(test)]
        let resume = tests::faults::forget_positions(resume);
        let resume =
            if planted(Fault::NoDeduplication) { Resume { positions: Positions::default(), ..resume } } else { resume };
        let segment = resume.segment;
        let mut writer = Writer::new(settings.writer, resume, || disk.buffer(settings.writer.block_bytes));
        if found.spare {
            writer.prepared(segment);
        }
        let journal = Journal {
            writer,
            first_segment: found.first_segment,
            kept: found.kept,
            settings,
            disk,
            needs: Needs { shipped_below: None, exported_below: None, open_from: u64::MAX },
            pace: Pace::default(),
            going: Vec::new(),
            checkpoint: None,
            checkpoint_at: 0,
            checkpoint_due: true,
            free,
            looked_ns: None,
            again_ns: None,
            troubles: Troubles::default(),
            cut: found.cut,
            hlc: found.recovered.hlc,
        };
        Ok((journal, found.recovered))
    }

    /// Takes a frame.
    ///
    /// # Errors
    /// [`Refusal`]; the frame was not taken then, and is to be offered again.
    pub fn push(&mut self, frame: &Frame<'_>, class: Class) -> Result<Taken, Refusal> {
        let taken = self.writer.push(frame, class)?;
        self.hlc = self.hlc.max(frame.header.hlc);
        Ok(taken)
    }

    /// [`Writer::skip_to`].
    pub fn skip_to(&mut self, key: Key, seq: u64) {
        self.writer.skip_to(key, seq);
    }

    /// Takes back what is done and hands out what is to be done. Returns how much that was.
    pub fn turn(&mut self, now: Now) -> usize {
        let mut work = 0;
        while let Some(done) = self.disk.poll() {
            self.done(done, now);
            work += 1;
        }
        if self.looked_ns.is_none_or(|at| now.boot_ns.saturating_sub(at) >= LOOK_NS) {
            self.looked_ns = Some(now.boot_ns);
            self.free = self.disk.free().unwrap_or(self.free);
            self.let_go(now);
        }
        if self.again_ns.is_some_and(|at| now.boot_ns >= at) {
            self.again_ns = None;
            self.writer.prepare_again();
        }
        while let Some(io) = self.writer.next_io() {
            self.submit(io, now);
            work += 1;
        }
        self.disk.hand_over();
        self.keep_checkpoint();
        work
    }

    fn submit(&mut self, io: Io<D::Buf>, now: Now) {
        match io {
            Io::Prepare { segment, bytes } if may_make(self.free, bytes, self.settings.levels) => {
                self.free -= bytes;
                self.disk.submit(Job::Prepare { segment, bytes });
            }
            Io::Prepare { segment, .. } => self.unprepared(segment, now),
            Io::Write(write) => {
                if write.at == 0
                    && let Some((segment, end)) = self.cut.take()
                {
                    self.disk.submit(Job::Cut { segment, end });
                }
                self.disk.submit(Job::Write(write));
            }
            Io::Digest(piece) => self.disk.submit(Job::Digest(piece)),
            Io::EndDigest { segment } => self.disk.submit(Job::EndDigest { segment }),
            Io::Ended { segment, end } => {
                if self.kept.iter().all(|k| k.segment != segment) {
                    self.kept.push(Kept { segment, bytes: end, last_unix_ms: self.hlc >> 16 });
                    self.disk.submit(Job::Cut { segment, end });
                }
                self.disk.submit(Job::Index { segment, end });
                self.checkpoint_due = true;
                self.let_go(now);
            }
        }
    }

    fn done(&mut self, done: Done<D::Buf>, now: Now) {
        match done {
            Done::Prepared { segment, result: Ok(()) } => self.writer.prepared(segment),
            Done::Prepared { segment, result: Err(_) } => {
                self.looked_ns = None;
                self.unprepared(segment, now);
            }
            Done::Wrote { id, buf, result: Ok(()) } => self.writer.done(id, buf),
            Done::Wrote { id, buf, result: Err(_) } => self.writer.failed(id, buf),
            Done::Digested { role, buf } => self.writer.digested(role, buf),
            Done::Digest { segment, digest } => self.writer.digest(segment, digest),
            Done::Replaced { result } => {
                let going = self.checkpoint.take().unwrap_or_default();
                match result {
                    Ok(()) => going.into_iter().for_each(|segment| self.remove(segment)),
                    Err(_) => {
                        self.troubles.checkpoints += 1;
                        self.going.splice(..0, going);
                    }
                }
            }
            Done::Tidied { result } => self.troubles.untidied += u64::from(result.is_err()),
        }
    }

    fn unprepared(&mut self, segment: u64, now: Now) {
        self.troubles.unprepared += 1;
        self.again_ns = Some(now.boot_ns + AGAIN_NS);
        self.writer.unprepared(segment);
    }

    /// Marks what may go. It goes once a checkpoint says that it was let go, so that nobody takes it for missing.
    fn let_go(&mut self, now: Now) {
        // One being written, one made in advance.
        let live = 2 * self.settings.writer.segment_bytes;
        // The end of the last of them is what the segment being written refers to.
        let all_but_last = &self.kept[..self.kept.len().saturating_sub(1)];
        let n = may_go(all_but_last, live, self.needs, self.settings.retention, &mut self.pace, now);
        if n > 0 {
            self.going.extend(self.kept.drain(..n).map(|k| k.segment));
            self.first_segment = self.kept.first().map_or(self.first_segment, |k| k.segment);
            self.checkpoint_due = true;
        }
    }

    fn remove(&mut self, segment: u64) {
        for kind in [FileKind::Index, FileKind::Segment] {
            // There may be no index; the segment is there.
            self.disk.submit(Job::Remove { name: file_name(kind, self.settings.writer.node, segment) });
        }
        self.looked_ns = None;
    }

    fn keep_checkpoint(&mut self) {
        let written = self.writer.counts().write_bytes;
        let due = self.checkpoint_due || written - self.checkpoint_at >= self.settings.checkpoint_bytes;
        // At its end the last one is written when everything is durable.
        if !due || self.checkpoint.is_some() {
            return;
        }
        self.checkpoint = Some(std::mem::take(&mut self.going));
        self.checkpoint_at = written;
        self.checkpoint_due = false;
        let node = self.settings.writer.node;
        let checkpoint = Checkpoint {
            node,
            hlc: self.hlc,
            first_segment: self.first_segment,
            durable: self.writer.durable(),
            positions: self.writer.durable_positions().clone(),
        };
        self.disk.submit(Job::Replace { name: checkpoint::file_name(node), bytes: checkpoint.encode() });
    }

    /// Of every pair the highest sequence number up to which all frames are durable.
    pub fn durable_positions(&self) -> &Positions {
        self.writer.durable_positions()
    }

    /// The end of what is durable.
    pub fn durable(&self) -> Durable {
        self.writer.durable()
    }

    /// Who needs which segments from now on.
    pub fn set_needs(&mut self, needs: Needs) {
        self.needs = needs;
    }

    /// How full the disk is.
    pub fn level(&self) -> Level {
        let ordinary_room = self.writer.room();
        level(Space { free: self.free, ordinary_room, exhausted: self.writer.exhausted() }, self.settings.levels)
    }

    /// What was written.
    pub fn counts(&self) -> Counts {
        self.writer.counts()
    }

    /// What went wrong beside writes.
    pub fn troubles(&self) -> Troubles {
        self.troubles
    }

    /// Writes that the disk has.
    pub fn under_way(&self) -> usize {
        self.writer.under_way()
    }

    /// Waits until there is something for [`Journal::turn`] to take back, or for `most`; may return sooner.
    pub fn wait(&mut self, most: Duration) {
        self.disk.wait(most);
    }

    /// Nothing more will be pushed: what was taken is written, the segment sealed, a checkpoint made; over when
    /// [`Journal::idle`], after further turns.
    pub fn end(&mut self) {
        self.writer.end();
    }

    /// Is everything that was taken durable?
    pub fn durable_all(&self) -> bool {
        self.writer.idle()
    }

    /// Is everything that was taken durable, and no checkpoint due or being written?
    pub fn idle(&self) -> bool {
        self.writer.idle() && self.checkpoint.is_none() && !self.checkpoint_due
    }

    /// Is the next segment made, and no checkpoint being written?
    pub fn settled(&self) -> bool {
        self.writer.next_ready() && self.checkpoint.is_none()
    }

    /// The disk, and nothing of what is under way.
    pub fn into_disk(self) -> D {
        self.disk
    }
}
