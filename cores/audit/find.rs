//! The frames of a key: those that have it, and those of the auctions among them.
//! Owns: the keys that are looked for. Called by: `request`, `replay`. Never: takes an index's word for a frame: it is read,
//! checked, and asked for its keys.
//!
//! Segments that have ended are asked through their indices; one without an index is read whole and gets one. The one that is
//! being written is read whole. What follows an auction is written behind it, so one pass over the segments finds it all.
use super::{AuditError, Place, directory::Journal, progress::Progress, range::Range, say, walk};
use crate::journal::index_file;
use outcry::{
    auction::Record,
    journal::{
        block,
        index::{self, Index, hash},
        reader::Source,
        segment::HeaderError,
    },
    record::{
        frame::{self, Frame, Kind},
        keys::keys,
    },
};
use std::io;

/// Frames that are returned.
const HITS_MAX: usize = 10_000;

/// A frame that was looked for.
pub(super) struct Hit {
    pub(super) place: Place,
    bytes: Vec<u8>,
}

impl Hit {
    /// What was found. It was decoded before.
    pub(super) fn frame(&self) -> Option<Frame<'_>> {
        frame::decode(&self.bytes).ok()
    }
}

/// What a search came to.
pub(super) struct Found {
    /// In the order in which they were written.
    pub(super) hits: Vec<Hit>,
    /// Everything that could hold one could be read; what could not is named on standard error.
    pub(super) whole: bool,
}

/// What is looked for: the key, and event ids of the auctions that have it.
struct Wanted(Vec<Vec<u8>>);

impl Wanted {
    fn meets(&self, frame: &Frame<'_>) -> bool {
        let mut met = false;
        keys(frame, &mut |key| met |= self.0.iter().any(|k| k == key));
        met
    }

    /// What follows this one is wanted too.
    fn follow(&mut self, frame: &Frame<'_>) {
        if frame.kind() == Some(Kind::Auction)
            && let Ok(head) = Record::head(frame.payload())
        {
            let event = head.event.text().to_vec();
            if !self.0.contains(&event) {
                self.0.push(event);
            }
        }
    }
}

/// Searches all segments.
pub(super) fn find(journal: &mut Journal, key: &[u8]) -> Result<Found, AuditError> {
    let mut wanted = Wanted(vec![key.to_vec()]);
    let mut found = Found { hits: Vec::new(), whole: true };
    let mut progress = Progress::new(journal.segments.iter().map(|s| s.bytes).sum());
    for i in 0..journal.segments.len() {
        let (segment, bytes) = (journal.segments[i].segment, journal.segments[i].bytes);
        progress.at(0);
        if let Err(why) = journal.segments[i].header {
            // One that was made in advance.
            if why != HeaderError::Empty {
                say(format_args!("segment {segment}, offset 0: {why}; not searched"));
                found.whole = false;
            }
        } else if journal.end(i).is_some() {
            indexed(journal, i, &mut wanted, &mut found)?;
        } else {
            let (hits, whole) = scanned(journal, i, &mut wanted)?;
            found.hits.extend(hits);
            found.whole &= whole;
        }
        if found.hits.len() >= HITS_MAX {
            say(format_args!("there are more than {HITS_MAX} records of it; these are the first"));
            found.hits.truncate(HITS_MAX);
            break;
        }
        progress.done(bytes);
    }
    Ok(found)
}

/// Is there an auction that has the key?
#[cfg(feature = "tiers")]
pub(super) fn has_auction(journal: &mut Journal, key: &[u8]) -> Result<bool, AuditError> {
    let found = find(journal, key)?;
    Ok(found.hits.iter().filter_map(Hit::frame).any(|frame| frame.kind() == Some(Kind::Auction)))
}

/// Looks through a segment that has not ended.
fn scanned(journal: &mut Journal, i: usize, wanted: &mut Wanted) -> Result<(Vec<Hit>, bool), AuditError> {
    let mut hits = Vec::new();
    let whole = walk::segment(journal, i, Range::default(), &mut Progress::new(0), &mut |place, frame| {
        if wanted.meets(frame) {
            wanted.follow(frame);
            hits.push(Hit { place: *place, bytes: frame.bytes.to_vec() });
        }
        Ok(())
    })?;
    Ok((hits, whole))
}

/// Asks a segment's index, and makes it if there is none.
fn indexed(journal: &mut Journal, i: usize, wanted: &mut Wanted, found: &mut Found) -> Result<(), AuditError> {
    // One of an earlier version does not know of all keys; it goes when the new one is made.
    let made = match journal.index(i).filter(|index| index.header().version == index::VERSION) {
        Some(_) => None,
        None => Some(made(journal, i, found)?),
    };
    let mut places: Vec<index::Place> = Vec::new();
    let (mut asked, mut read) = (0, 0);
    // Auctions that are found add their event ids.
    while asked < wanted.0.len() {
        for key in &wanted.0[asked..] {
            let key = hash(key);
            let more = match &made {
                Some(bytes) => Index::open(&bytes[..]).ok().and_then(|mut i| i.find(key, HITS_MAX).ok()),
                None => journal.index(i).and_then(|mut i| i.find(key, HITS_MAX).ok()),
            };
            match more {
                Some(more) => places.extend(more),
                None => {
                    let segment = journal.segments[i].segment;
                    say(format_args!(
                        "the index of segment {segment} is damaged: remove it, the next search makes it anew"
                    ));
                    found.whole = false;
                }
            }
        }
        asked = wanted.0.len();
        places[read..].sort_unstable();
        while read < places.len() {
            let place = places[read];
            read += 1;
            // An auction has both keys, and different keys may share a hash.
            if !places[..read - 1].contains(&place) {
                found.whole &= hit(journal, i, place, wanted, &mut found.hits)?;
            }
        }
    }
    found.hits.sort_by_key(|h| (h.place.segment, h.place.offset));
    Ok(())
}

/// The index of a segment that has none.
fn made(journal: &mut Journal, i: usize, found: &mut Found) -> Result<Vec<u8>, AuditError> {
    let (segment, name, node) = (journal.segments[i].segment, journal.segments[i].name.clone(), journal.node);
    let end = journal.end(i).unwrap_or(0);
    let built = index_file::build(journal.source(i), end, &keys);
    let (builder, damages) = built.map_err(|source| journal.failed(&name, source))?;
    let bytes = builder.finish(node, segment, end);
    if damages.is_empty() {
        match index_file::write(journal.path_of(i), node, segment, &bytes) {
            Ok(()) => say(format_args!("segment {segment} had no index: it was read, and has one now")),
            Err(e) => say(format_args!(
                "segment {segment} has no index: it was read, and will be again, since none can be written: {e}"
            )),
        }
    }
    for d in &damages {
        say(format_args!("segment {segment}, offset {} to {}: damaged: {}", d.at, d.end, d.why));
        found.whole = false;
    }
    Ok(bytes)
}

/// Reads the frame at a place and takes it if it is wanted. False: it cannot be read.
fn hit(
    journal: &mut Journal,
    i: usize,
    place: index::Place,
    wanted: &mut Wanted,
    hits: &mut Vec<Hit>,
) -> Result<bool, AuditError> {
    let (segment, name) = (journal.segments[i].segment, journal.segments[i].name.clone());
    let Ok(header) = journal.segments[i].header else { return Ok(false) };
    let bytes = block_at(&mut journal.source(i), place.block).map_err(|source| journal.failed(&name, source))?;
    let block = match block::decode(&bytes, header.salt) {
        Ok(block) => block,
        Err(why) => {
            say(format_args!("segment {segment}, offset {}: damaged: {why}", place.block));
            return Ok(false);
        }
    };
    let offset = place.block + u64::from(place.frame);
    match bytes.get(place.frame as usize..).map(frame::decode) {
        Some(Ok(frame)) => {
            if wanted.meets(&frame) {
                wanted.follow(&frame);
                let place = Place { segment, block: block.header.number, offset };
                hits.push(Hit { place, bytes: frame.bytes.to_vec() });
            }
            Ok(true)
        }
        _ => {
            say(format_args!(
                "segment {segment}, offset {offset}: no frame is here, although its index says so: remove it"
            ));
            Ok(false)
        }
    }
}

/// The bytes of the block at an offset, as far as they are there.
fn block_at<S: Source<Error = io::Error>>(source: &mut S, at: u64) -> io::Result<Vec<u8>> {
    let left = source.len().saturating_sub(at);
    let mut bytes = vec![0; left.min(block::BLOCK_HEADER as u64) as usize];
    source.read(at, &mut bytes)?;
    if let Ok(length) = block::length(&bytes) {
        bytes.resize((length as u64).min(left) as usize, 0);
        source.read(at, &mut bytes)?;
    }
    Ok(bytes)
}
