//! What writers have written since a known frame: what money is counted from after a process has died.
//! Owns: nothing. Runs on: the main thread, at a start. Called by: `money::recover`. Never: takes what is incomplete for whole:
//! the frames of a writer are numbered without gaps, so a missing one shows.
//!
//! The newest segment is read first, and no more of them than it takes: a process says some times a minute how far its money
//! has been counted.
use super::disk::{FileIn, Files};
use outcry::{
    journal::{
        positions::Key,
        reader::{Item, Known, OpenError, SegmentReader},
        segment::{FileKind, HEADER_BYTES, SegmentHeader, parse_file_name},
    },
    record::frame::{self, Frame},
};
use std::{collections::BTreeMap, io};

/// The frames of a writer that are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The last that is known already; 0: none is.
    pub after: u64,
    /// The last that there is.
    pub upto: u64,
}

/// Why not all could be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// The journal does not have them any more, or never had.
    #[error("frames {from} to {to} of writer {} of epoch {} are not in the journal", key.1, key.0)]
    Frames {
        /// Whose.
        key: Key,
        /// The first that is missing, as far as is known.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// What was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Not all of it was there.
    pub missing: Option<Missing>,
    /// Segments that were read.
    pub segments: usize,
    /// Frames that were handed on.
    pub frames: u64,
}

/// Hands every wanted frame to `each` with the number of its segment, those of newer segments first, in a segment in their order.
///
/// # Errors
/// What the directory says.
pub fn read<F: Files>(
    files: &mut F,
    node: u32,
    wanted: &BTreeMap<Key, Wanted>,
    each: &mut dyn FnMut(u64, &Frame<'_>),
) -> io::Result<Read> {
    // The lowest number that was seen of each writer: what stands before it in the journal ends right below.
    let mut low: BTreeMap<Key, u64> =
        wanted.iter().filter(|(_, w)| w.after < w.upto).map(|(key, w)| (*key, w.upto + 1)).collect();
    let mut done = Read { missing: None, segments: 0, frames: 0 };
    let mut segments: Vec<_> = files
        .list()?
        .into_iter()
        .filter_map(|(name, bytes)| match parse_file_name(&name) {
            Some((FileKind::Segment, of, segment)) if of == node => Some((segment, name, bytes)),
            _ => None,
        })
        .collect();
    segments.sort_unstable();
    // Where a segment ends is said by the one behind it.
    let mut after: Option<SegmentHeader> = None;
    while !low.is_empty()
        && let Some((segment, name, bytes)) = segments.pop()
    {
        let mut page = vec![0; (HEADER_BYTES as u64).min(bytes) as usize];
        files.read(&name, 0, &mut page)?;
        let header = match SegmentHeader::decode(&page) {
            Ok(header) => header,
            // Nothing was written to it yet, or nothing in it can be believed: what should be there shows as missing.
            Err(_) => {
                after = None;
                continue;
            }
        };
        let end = after.filter(|h| h.segment == segment + 1).map(|h| h.previous.end);
        after = Some(header);
        done.segments += 1;
        let mut found: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
        let source = FileIn { files: &mut *files, name: &name, bytes };
        let mut reader = match SegmentReader::open(source, Known { end, confirmed: 0 }) {
            Ok(reader) => reader,
            Err(OpenError::Source(e)) => return Err(e),
            Err(OpenError::Header(_)) => continue,
        };
        while let Some(item) = reader.next_item()? {
            let Item::Block(_, block) = item else { continue };
            for frame in frame::frames(block.payload).flatten().filter(|_| !block.header.seal) {
                let key = (frame.header.epoch, frame.header.writer);
                let Some(w) = wanted.get(&key).filter(|_| low.contains_key(&key)) else { continue };
                let seq = frame.header.seq;
                if seq > w.upto {
                    continue;
                }
                let (_, next) = found.entry(key).or_insert((seq, seq));
                if seq != *next {
                    let (from, to) = (*next, seq.saturating_sub(1));
                    done.missing.get_or_insert(Missing::Frames { key, from, to });
                }
                *next = seq + 1;
                if seq > w.after {
                    done.frames += 1;
                    each(segment, &frame);
                }
            }
        }
        for (key, (first, next)) in found {
            let Some(lowest) = low.get_mut(&key) else { continue };
            if next != *lowest {
                done.missing.get_or_insert(Missing::Frames { key, from: next, to: *lowest - 1 });
            }
            *lowest = first;
            if first <= wanted[&key].after + 1 {
                low.remove(&key);
            }
        }
    }
    if let Some((key, lowest)) = low.first_key_value() {
        done.missing.get_or_insert(Missing::Frames { key: *key, from: wanted[key].after + 1, to: lowest - 1 });
    }
    Ok(done)
}
