//! Which notices were taken before this start, and whose DSPs are to be told still: the last checkpoint and what was recorded
//! behind it.
//! Owns: nothing. Runs on: the main thread, at a start, once everything that was left is in the journal. Called by: `boot`.
//! Never: forgets a notice that was taken: where that cannot be known it is said.
use super::{Begun, all_of, file, holding, seconds};
use crate::journal::{
    dir::Dir,
    since::{self, Wanted},
};
use crate::planted::{Fault, planted};
use outcry::{
    config::Config,
    journal::positions::Positions,
    notice::{
        checkpoint,
        holds::{Holds, Lapse, Of},
        keys::Keys,
        outbox::Outbox,
        peers::Peers,
        seen::{Mark, PAGE_AUCTIONS, Restored, Seen},
        told::{Name, Notice, Told},
    },
    record::frame::Kind,
    units::{MS, Money, Now},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Calls of one host that are handed out at once for each connection to it: one on it, one that waits for it.
const CALLS_A_CONNECTION: usize = 2;

/// Why a start cannot know which notices were taken.
#[derive(Debug, thiserror::Error)]
pub enum NoticesError {
    /// A file.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The checkpoint.
    #[error(
        "{path} cannot be read: it is damaged. It says which notices were taken: without it one that comes again would count twice. Restore it; or, when no notice URL that is out holds any more (`notices.life_s` after the last answer), remove it"
    )]
    Garbled {
        /// Which.
        path: PathBuf,
    },
    /// There is less room than before.
    #[error("{path} holds more notices than `notices.auctions` has room for: set it to {auctions} at least")]
    NoRoom {
        /// Which.
        path: PathBuf,
        /// Auctions it has room for.
        auctions: usize,
    },
}

/// The journal, once everything that was left is in it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its directory.
    pub dir: &'a Path,
    /// The last frame of each writer that is durable now.
    pub positions: &'a Positions,
}

/// What this machine, of this start, goes on from. `None`: no notice is ours. Writes a checkpoint of what it found.
///
/// # Errors
/// [`NoticesError`]
pub fn begin(
    config: &Config,
    record: Record<'_>,
    (node, epoch): (u32, u32),
    keys: Option<&Keys>,
    (cores, entropy): (usize, u64),
    now: Now,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Begun>, NoticesError> {
    let path = config.state_dir.join("notices");
    // What earlier starts hold goes home also where no notice is ours any more.
    if config.notices.url.is_none() && !path.exists() {
        return Ok(None);
    }
    let pages = config.notices.auctions.div_ceil(PAGE_AUCTIONS);
    let retry_ns = u64::from(config.notices.retry_s) * 1_000 * MS;
    let mut begun = Begun {
        seen: Seen::new(pages, entropy),
        outbox: Outbox::new(retry_ns, cores * config.notices.connections * CALLS_A_CONNECTION, entropy),
        ended: Vec::new(),
        path: path.clone(),
        every_ns: config.notices.checkpoint_ms * MS,
        holds: Holds::new(),
        money: None,
        start: (node, epoch),
        peers: Peers::new(node, others(config), keys.cloned()),
        life_s: config.notices.life_s,
        writers: record.positions.iter().collect(),
        waiting: Vec::new(),
    };
    let io = |source| NoticesError::Io { path: path.clone(), source };
    let waiting = match fs::read(&path) {
        // The first start with notices of ours: there are none yet.
        Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(io(e)),
        Ok(bytes) => {
            let known = checkpoint::read(&bytes).map_err(|_| NoticesError::Garbled { path: path.clone() })?;
            let garbled = |_| NoticesError::Garbled { path: path.clone() };
            begun.holds = Holds::read(known.holds, now).map_err(garbled)?;
            recover(&mut begun, &known, record, (node, now), &path, say)?
        }
    };
    // All that wait are in it, also those that there is no room for: until it is recorded that they were given up.
    if planted(Fault::HoldsForgotten) {
        begun.holds = Holds::new();
    }
    begun.waiting = waiting.into_iter().collect();
    begun.save(now)?;
    for (name, url) in &begun.waiting {
        begun.ended.extend(begun.outbox.push(*name, url, None, now.boot_ns).err());
    }
    Ok(Some(begun))
}

fn others(config: &Config) -> Vec<(u32, String)> {
    let named = |(host, port): &(String, u16)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    config.notices.peers.iter().map(|(node, place)| (*node, named(place))).collect()
}

impl Begun {
    /// Writes a checkpoint of what was found, before any core runs.
    ///
    /// # Errors
    /// [`NoticesError::Io`]
    pub fn save(&self, now: Now) -> Result<(), NoticesError> {
        let mut bytes = Vec::new();
        let tasks = self.waiting.iter().map(|(name, url)| (*name, url.as_slice()));
        let holds = |out: &mut Vec<u8>| self.holds.write(out);
        checkpoint::write(seconds(now), &self.writers, |out| all_of(&self.seen, out), tasks, holds, &mut bytes);
        file::write(&self.path, &bytes).map_err(|source| NoticesError::Io { path: self.path.clone(), source })
    }
}

/// Something behind the checkpoint.
enum Found {
    /// A notice, when it came, and its record.
    Notice(u32, Vec<u8>),
    /// An auction whose charges wait for notices: of each winner until when, and how much.
    Held(Vec<(Of, u32, Money)>),
    /// What went home of that.
    Lapsed(Lapse),
}

/// Takes over what is known and what was recorded behind it; gives whom to tell still.
fn recover(
    begun: &mut Begun,
    known: &checkpoint::Checkpoint<'_>,
    record: Record<'_>,
    (node, now): (u32, Now),
    path: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<BTreeMap<Name, Vec<u8>>, NoticesError> {
    // By the time of then: what had not expired when it was called again was known, however long ago that is now.
    for page in &known.pages {
        match begun.seen.restore(page, known.written_s) {
            Restored::Taken | Restored::Expired => {}
            Restored::NoRoom => {
                let auctions = (known.pages.len() * 8 / 7 + 2) * PAGE_AUCTIONS;
                return Err(NoticesError::NoRoom { path: path.to_path_buf(), auctions });
            }
            Restored::Garbled => return Err(NoticesError::Garbled { path: path.to_path_buf() }),
        }
    }
    let after: BTreeMap<_, u64> = known.writers.iter().copied().collect();
    let oldest = known.writers.iter().map(|((epoch, _), _)| *epoch).min().unwrap_or(0);
    let behind = |(key, upto): (checkpoint::Writer, u64)| {
        let after = after.get(&key).copied().unwrap_or(0);
        // Of writers older than any that it names, all was read before.
        (after < upto && (key.0 >= oldest || after > 0)).then_some((key, Wanted { after, upto }))
    };
    let wanted: BTreeMap<_, _> = record.positions.iter().filter_map(behind).collect();
    let wanted = if planted(Fault::NoticesUnread) { BTreeMap::new() } else { wanted };
    let mut waiting: BTreeMap<Name, Vec<u8>> = known.tasks.iter().map(|(name, url)| (*name, url.to_vec())).collect();
    let (mut told, mut found) = (BTreeSet::new(), Vec::new());
    let read = since::read(&mut Dir::new(record.dir), node, &wanted, &mut |segment, frame| match frame.kind() {
        Some(Kind::Notice) => {
            let then_s = u32::try_from((frame.header.hlc >> 16) / 1_000).unwrap_or(u32::MAX);
            found.push((segment, Found::Notice(then_s, frame.payload().to_vec())));
        }
        Some(Kind::Auction) => {
            let held = holding::held(frame);
            if !held.is_empty() {
                found.push((segment, Found::Held(held)));
            }
        }
        Some(Kind::Settlement) => {
            found.extend(Lapse::decode(frame.payload()).ok().map(|lapse| (segment, Found::Lapsed(lapse))));
        }
        Some(Kind::Told) => told.extend(Told::decode(frame.payload()).ok().map(|end| end.name)),
        _ => {}
    });
    let read = read.map_err(|source| NoticesError::Io { path: record.dir.to_path_buf(), source })?;
    if let Some(missing) = read.missing {
        say(&format!(
            "WARNING: {missing}: which notices were taken in that time is not known, and one of them that comes again is acted on again"
        ));
    }
    // As flush has seen them: the first of a kind is the one that counts.
    found.sort_by_key(|(segment, _)| *segment);
    let (mut untold, mut taken) = (0u64, 0u64);
    for (_, found) in found {
        let (then_s, bytes) = match &found {
            Found::Held(held) => {
                for (of, expires_s, charge) in held {
                    begun.holds.hold(*of, *expires_s, *charge, now);
                }
                continue;
            }
            Found::Lapsed(lapse) => {
                begun.holds.lapse(lapse);
                continue;
            }
            Found::Notice(then_s, bytes) => (*then_s, bytes),
        };
        let Some(notice) = Notice::decode(bytes).ok().filter(|notice| !notice.expired) else { continue };
        taken += 1;
        let name = notice.name;
        match begun.seen.take(name.event, name.imp, name.kind, notice.expires_s, then_s) {
            Mark::New => {
                holding::settle(&mut begun.holds, node, &notice);
                if let Some(url) = begun.peers.whom(&notice) {
                    waiting.insert(name, url.into_owned());
                }
            }
            Mark::Again => {}
            Mark::Full => untold += 1,
        }
    }
    if untold > 0 {
        say(&format!(
            "WARNING: {untold} notices could not be told apart and nothing follows from them: notices.auctions is too small"
        ));
    }
    waiting.retain(|name, _| !told.contains(name));
    if taken > 0 || !waiting.is_empty() {
        let waiting = waiting.len();
        say(&format!("notices: {taken} recorded since the last checkpoint, {waiting} DSPs are to be told still"));
    }
    Ok(waiting)
}
