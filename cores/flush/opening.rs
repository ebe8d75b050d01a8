//! The beginning of the record: the journal is opened, what earlier processes left in their black boxes goes into it, and
//! then the boxes of this process are waited for.
//! Owns: what was found, until it is in the journal. Runs on: flush, before its first turn; answers boot. Called by: `run`.
//! Never: says that a box was read out before all of it is durable.
use super::{
    keeper::{Keeper, needs, push},
    run::{DISK_REST, LOOK, Pace},
};
use crate::wiring::FlushNoticeEnds;
use crate::{
    blackbox::{Consumer, Found, Readout},
    exported::Exported,
    journal::{Journal, JournalError, JournalSettings, Recovered, StdDisk, UringDisk, disk::Disk},
    notices::{Begun, Notices},
    ship::reach::Reach,
};
use outcry::{
    config::Durability,
    journal::{positions::Positions, retention::Level, writer::Class},
    record::{configured::Configured, frame, started::Started},
    time::hybrid::Hlc,
    units::Now,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender},
    },
    time::Duration,
};

/// Why what was left could not be brought into the journal.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is nowhere to bring it.
    #[error(
        "the disk of {dir} has no room for what is in the black boxes of the last process: make room there (older segments may be moved away), then start again. Nothing is lost meanwhile"
    )]
    Full {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// A box.
    #[error(
        "{path} cannot be read: {source}. Its records are in no journal yet: mend what stands in the way, or move it away"
    )]
    ReadOut {
        /// The box.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How the journal is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writes {
    /// Past the page cache, several at once.
    Direct,
    /// Through the page cache and with fdatasync, since its file system refuses O_DIRECT.
    Refused,
    /// The same, since there is no io_uring.
    NoRing,
}

/// What flush hands back once everything that was left is durable.
#[derive(Debug)]
pub struct Opened {
    /// How the journal was found.
    pub recovered: Recovered,
    /// The boxes, each with what was in it: to be removed.
    pub found: ReadOut,
    /// The greatest time that the journal knows.
    pub last: Hlc,
    /// Up to which frame of each writer it has everything.
    pub positions: Positions,
    /// How it is written.
    pub writes: Writes,
}

/// What boot hands on then.
#[derive(Debug)]
pub struct Boxes {
    /// The reading ends, by core.
    pub consumers: Vec<Consumer>,
    /// What the first record says.
    pub start: Start,
    /// What notices go on from; `None`: none are ours.
    pub notices: Option<Begun>,
}

/// What is known of a start: [`Started`] with its texts.
#[derive(Clone, Debug)]
pub struct Start {
    /// The machine.
    pub node: u32,
    /// The start.
    pub epoch: u32,
    /// The kernel's boot id.
    pub boot: [u8; 16],
    /// The digest of the configuration.
    pub config_hash: u64,
    /// Its number.
    pub config_id: u64,
    /// The region.
    pub region: String,
}

/// See the module.
#[derive(Debug)]
pub struct Opening {
    /// The journal's directory, which is there.
    pub dir: PathBuf,
    /// How it is kept.
    pub settings: JournalSettings,
    /// What a record survives.
    pub durability: Durability,
    /// How often what is recorded goes to the disk.
    pub commit: Duration,
    /// Where segments are summed.
    pub digest_cpus: Vec<usize>,
    /// What earlier processes left.
    pub found: Vec<Found>,
    /// To boot.
    pub opened: SyncSender<Result<Opened, OpeningError>>,
    /// From boot.
    pub boxes: Receiver<Boxes>,
    /// Where the record goes on to Kafka: what is told to who sends it, and heard.
    pub ship: Option<Arc<Reach>>,
    /// What is in a store, if nothing is to go before.
    pub exported: Option<Exported>,
}

impl Opening {
    /// The disk of choice. `None`: its file system refuses O_DIRECT.
    pub(super) fn direct(&self) -> io::Result<Option<UringDisk>> {
        let disk = UringDisk::new(&self.dir, self.settings.writer.node)?;
        if let Some(disk) = &disk {
            disk.digest_on(&self.digest_cpus);
        }
        Ok(disk)
    }

    /// The disk for all others.
    pub(super) fn plain(&self) -> io::Result<StdDisk> {
        let disk = StdDisk::new(&self.dir, self.settings.writer.node)?;
        disk.digest_on(&self.digest_cpus);
        Ok(disk)
    }

    pub(super) fn pace(&self) -> Pace {
        match self.durability {
            Durability::Power => Pace::Disk(DISK_REST),
            Durability::Process | Durability::None => Pace::Commit(self.commit),
        }
    }

    /// There is no disk.
    pub(super) fn failed(self, e: io::Error) {
        // Boot waits for this; when it does not, the process goes down already.
        let _ = self.opened.send(Err(JournalError::Disk(e).into()));
    }

    /// Opens the journal, reads out what was found, and waits for the boxes. `None`: boot was told why not, or has given up.
    pub(super) fn open<D: Disk>(
        self,
        disk: D,
        writes: Writes,
        clock: &impl Fn() -> Now,
        ends: Vec<FlushNoticeEnds>,
    ) -> Option<Keeper<D>> {
        let Opening { dir, settings, found, opened, boxes, ship, mut exported, .. } = self;
        let read = match Journal::open(disk, settings) {
            Ok((mut journal, recovered)) => {
                journal.set_needs(needs(ship.as_deref(), exported.as_mut(), clock()));
                read_out(journal, recovered, (found, &dir), clock)
            }
            Err(e) => Err(e.into()),
        };
        let (journal, last) = match read {
            Ok((journal, found, recovered, last)) => {
                let positions = journal.durable_positions().clone();
                opened.send(Ok(Opened { recovered, found, last, positions, writes })).ok()?;
                (journal, last)
            }
            Err(e) => {
                let _ = opened.send(Err(e));
                return None;
            }
        };
        // Boot makes files and threads meanwhile: milliseconds, in which nothing else is to be done here.
        let Boxes { consumers, start, notices } = boxes.recv().ok()?;
        let now = clock();
        let cores = consumers.len() as u16;
        let mut keeper = Keeper::new(consumers, journal, start.epoch, last);
        keeper.notice(notices.map(|begun| Notices::new(begun, ends, now)));
        keeper.ship(ship);
        keeper.wait_for(exported);
        keeper.set_buffered(writes != Writes::Direct);
        let started = Started {
            wall_ms: now.unix_ms(),
            node: start.node,
            epoch: start.epoch,
            boot_id: start.boot,
            cores,
            config_hash: start.config_hash,
            program: env!("CARGO_PKG_VERSION"),
            region: &start.region,
        };
        keeper.started(&started, now);
        let change = Configured {
            wall_ms: now.unix_ms(),
            id: start.config_id,
            old_hash: 0,
            new_hash: start.config_hash,
            by: outcry::record::configured::By::Start,
        };
        keeper.configured(&change, now);
        Some(keeper)
    }
}

type ReadOut = Vec<(Found, Readout)>;

fn read_out<D: Disk>(
    mut journal: Journal<D>,
    recovered: Recovered,
    (found, dir): (Vec<Found>, &Path),
    clock: &impl Fn() -> Now,
) -> Result<(Journal<D>, ReadOut, Recovered, Hlc), OpeningError> {
    let mut last = Hlc(recovered.hlc);
    let mut read = Vec::new();
    for found in found {
        let mut bytes = Vec::new();
        let all = found.read_out(|_, frame| {
            bytes.extend_from_slice(frame.bytes);
            Ok::<(), io::Error>(())
        });
        let readout = all.map_err(|source| OpeningError::ReadOut { path: found.path.clone(), source })?;
        // Each was checked as it was read out of its box.
        for frame in frame::frames(&bytes).flatten() {
            last = last.max(Hlc(frame.header.hlc));
            while !push(&mut journal, &frame, Class::Reserved) {
                if journal.level() == Level::Full {
                    return Err(OpeningError::Full { dir: dir.to_path_buf() });
                }
                go_on(&mut journal, clock);
            }
        }
        read.push((found, readout));
    }
    while !journal.durable_all() {
        go_on(&mut journal, clock);
    }
    Ok((journal, read, recovered, last))
}

fn go_on<D: Disk>(journal: &mut Journal<D>, clock: &impl Fn() -> Now) {
    if journal.turn(clock()) == 0 {
        journal.wait(LOOK);
    }
}
