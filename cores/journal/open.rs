//! The start: what a directory holds, where it ends, and where writing goes on.
//! Owns: nothing. Runs on: the thread of the journal, before it serves. Called by: [`super::Journal::open`], which also says
//! in how long. Never: changes a segment that was begun; writes into one, not even into the last: a torn tail can then
//! never be taken for what comes later.
//!
//! Read are every header (a page), the seal of each segment from the checkpoint's on (four pages), and the last segment:
//! twice, for its frames and for its digest. So a start takes as long for 10 GB as for one segment.
use super::disk::{FileIn, Files};
use outcry::{
    journal::{
        PAGE,
        checkpoint::{self, CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError},
        positions::Positions,
        reader::{Damage, Ending, Item, Known, OpenError, SegmentReader, Torn, seal_at},
        retention::Kept,
        segment::{FileKind, HEADER_BYTES, HeaderError, Previous, SegmentHeader, parse_file_name},
        verify,
        writer::Resume,
    },
    record::frame,
};
use std::io;

/// Why a journal cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory.
    #[error(
        "the journal's directory cannot be read: {0}. Make it readable and writable for this user, or set `state_dir`"
    )]
    List(io::Error),
    /// A file in it.
    #[error("{name} cannot be read: {source}. Is the disk failing? A copy of the directory without this file starts")]
    Read {
        /// The file.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A later release's.
    #[error("{name}: {why}")]
    Version {
        /// The file.
        name: String,
        /// Why.
        why: HeaderError,
    },
    /// The thread that makes files.
    #[error("the journal's disk cannot be used: {0}")]
    Disk(io::Error),
}

/// What a start found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    /// Whose frames are in the journal.
    pub positions: Positions,
    /// Highest hybrid logical time in the last segment: the clock goes on behind it.
    pub hlc: u64,
    /// What was being written when the process or the machine died: segment, offset.
    pub torn: Option<(u64, u64, Torn)>,
    /// Damage in the last segment.
    pub damages: Vec<Damage>,
    /// The last file's header is no header, although something is in it.
    pub bad_header: Option<(u64, HeaderError)>,
    /// Why the checkpoint was of no use, though it is there.
    pub checkpoint: Option<CheckpointError>,
    /// Did the last process end in order: is the last segment sealed, or is there none?
    pub clean: bool,
    /// Frames of the last segment.
    pub frames: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
}

/// What is gone on with.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) recovered: Recovered,
    pub(super) resume: Resume,
    /// Is the file of the segment to begin there?
    pub(super) spare: bool,
    pub(super) kept: Vec<Kept>,
    /// The first segment that was not let go.
    pub(super) first_segment: u64,
    /// Where the last segment is cut off: behind its torn tail, which may be looked at.
    pub(super) cut: Option<(u64, u64)>,
}

struct File {
    name: String,
    segment: u64,
    bytes: u64,
    header: Result<SegmentHeader, HeaderError>,
}

/// Looks through the directory; `segment_bytes`: how long a segment made in advance has to be to be used.
pub(super) fn open<F: Files>(files: &mut F, node: u32, segment_bytes: u64) -> Result<Found, JournalError> {
    let mut recovered = Recovered::default();
    let mut segments = Vec::new();
    let mut checkpoint = None;
    for (name, bytes) in files.list().map_err(JournalError::List)? {
        match parse_file_name(&name) {
            Some((FileKind::Unfinished, n, _)) if n == node => {
                files.remove(&name).map_err(|source| JournalError::Read { name, source })?;
            }
            Some((FileKind::Segment, n, segment)) if n == node => {
                let mut page = vec![0; bytes.min(HEADER_BYTES as u64) as usize];
                read(files, &name, 0, &mut page)?;
                recovered.bytes_read += page.len() as u64;
                let header = match SegmentHeader::decode(&page) {
                    Err(why @ HeaderError::Version(_)) => return Err(JournalError::Version { name, why }),
                    header => header,
                };
                segments.push(File { name, segment, bytes, header });
            }
            _ if name == checkpoint::file_name(node) => {
                let mut page = vec![0; bytes.min(CHECKPOINT_BYTES_MAX as u64 + 1) as usize];
                read(files, &name, 0, &mut page)?;
                match Checkpoint::decode(&page) {
                    Ok(read) if read.node == node => checkpoint = Some(read),
                    Ok(_) => recovered.checkpoint = Some(CheckpointError::Magic),
                    Err(why) => recovered.checkpoint = Some(why),
                }
            }
            _ => {}
        }
    }
    segments.sort_by_key(|s| s.segment);
    let checkpoint = checkpoint.unwrap_or_default();
    recovered.positions = checkpoint.positions.clone();
    // Let go, and not removed any more.
    while let Some(first) = segments.first()
        && first.segment < checkpoint.first_segment
    {
        remove(files, segments.remove(0))?;
    }
    // Behind the last that was begun: one made in advance, or one whose header was being written, which has no blocks.
    let mut spare = None;
    while let Some(last) = segments.pop_if(|s| s.header.is_err() && s.segment > checkpoint.durable.segment) {
        let why = last.header.err();
        let mut source = FileIn { files: &mut *files, name: &last.name, bytes: last.bytes };
        let blank = why == Some(HeaderError::Empty)
            || verify::blank(&mut source).map_err(|source| JournalError::Read { name: last.name.clone(), source })?;
        if !blank {
            recovered.bad_header = why.map(|why| (last.segment, why));
            segments.push(File { header: Err(HeaderError::Magic), ..last });
            break;
        }
        // Another one lies behind it: of no use.
        if let Some(further) = spare.replace(last) {
            remove(files, further)?;
        }
    }
    for i in 0..segments.len().saturating_sub(1) {
        let (file, after) = (&segments[i], segments[i + 1].header.ok());
        if file.segment >= checkpoint.durable.segment {
            whose(files, file, after.as_ref(), &mut recovered)?;
        }
    }
    let mut resume =
        Resume { segment: checkpoint.durable.segment + 1, block: checkpoint.durable.block + 1, ..Resume::default() };
    let mut cut = None;
    recovered.clean = true;
    if let Some(last) = segments.last() {
        let confirmed = if last.segment == checkpoint.durable.segment { checkpoint.durable.block } else { 0 };
        let (ending, previous) = the_last(files, last, confirmed, &mut recovered)?;
        resume = Resume { segment: last.segment + 1, block: ending.next_block.max(resume.block), previous, ..resume };
        let behind = ending.torn.map_or(0, |t| t.bytes);
        cut = (last.bytes > previous.end + behind).then_some((last.segment, previous.end + behind));
    }
    let usable =
        |s: &File| s.segment == resume.segment && s.bytes == segment_bytes && s.header == Err(HeaderError::Empty);
    let spare = match spare {
        Some(file) if usable(&file) => true,
        Some(file) => {
            remove(files, file)?;
            false
        }
        None => false,
    };
    resume.positions = recovered.positions.clone();
    let kept = (1..=segments.len()).map(|i| Kept {
        segment: segments[i - 1].segment,
        bytes: segments[i - 1].bytes,
        // The next one was begun when this one's last frame had been taken.
        last_unix_ms: segments.get(i).and_then(|s| s.header.ok()).map_or(recovered.hlc, |h| h.hlc) >> 16,
    });
    let kept = kept.collect();
    let first = segments.first().map_or(resume.segment, |s| s.segment);
    let first_segment = if checkpoint.first_segment > 0 { checkpoint.first_segment } else { first };
    Ok(Found { recovered, resume, spare, kept, first_segment, cut })
}

fn read<F: Files>(files: &mut F, name: &str, at: u64, out: &mut [u8]) -> Result<(), JournalError> {
    files.read(name, at, out).map_err(|source| JournalError::Read { name: name.to_string(), source })
}

fn remove<F: Files>(files: &mut F, file: File) -> Result<(), JournalError> {
    files.remove(&file.name).map_err(|source| JournalError::Read { name: file.name, source })
}

/// Notes whose frames are in a segment that is not the last: by its seal, or by reading it.
fn whose<F: Files>(
    files: &mut F,
    file: &File,
    after: Option<&SegmentHeader>,
    recovered: &mut Recovered,
) -> Result<(), JournalError> {
    // A header that cannot be read is for `outcry audit verify` to name; what it holds was durable and shipped or is lost.
    let Ok(header) = &file.header else { return Ok(()) };
    let failed = |source| JournalError::Read { name: file.name.clone(), source };
    let mut source = FileIn { files, name: &file.name, bytes: file.bytes };
    let end = after.filter(|a| a.segment == file.segment + 1).map(|a| a.previous.end);
    if let Some(end) = end
        && let Some(seal) = seal_at(&mut source, header, end).map_err(failed)?
    {
        recovered.bytes_read += outcry::journal::block::SEAL_BYTES as u64;
        seal.ranges.iter().for_each(|r| recovered.positions.raise(r.key, r.last));
        return Ok(());
    }
    frames(files, file, Known { end, confirmed: 0 }, recovered).map(|_| ())
}

/// Reads the frames of a segment: whose they are, and how it ends.
fn frames<F: Files>(
    files: &mut F,
    file: &File,
    known: Known,
    recovered: &mut Recovered,
) -> Result<(Option<Ending>, Vec<Damage>, u64), JournalError> {
    let failed = |source| JournalError::Read { name: file.name.clone(), source };
    let source = FileIn { files, name: &file.name, bytes: file.bytes };
    let mut reader = match SegmentReader::open(source, known) {
        Ok(reader) => reader,
        Err(OpenError::Source(e)) => return Err(failed(e)),
        Err(OpenError::Header(_)) => return Ok((None, Vec::new(), 0)),
    };
    recovered.hlc = recovered.hlc.max(reader.header().hlc);
    let (mut damages, mut n) = (Vec::new(), 0);
    while let Some(item) = reader.next_item().map_err(failed)? {
        match item {
            Item::Damage(damage) => damages.push(damage),
            Item::Block(_, block) if block.header.seal => {}
            Item::Block(_, block) => {
                for frame in frame::frames(block.payload).map_while(Result::ok) {
                    recovered.positions.raise((frame.header.epoch, frame.header.writer), frame.header.seq);
                    recovered.hlc = recovered.hlc.max(frame.header.hlc);
                    n += 1;
                }
            }
        }
    }
    recovered.bytes_read += file.bytes;
    Ok((Some(reader.ending()), damages, n))
}

/// Reads the last segment: how it ends, and what the next one says of it.
fn the_last<F: Files>(
    files: &mut F,
    file: &File,
    confirmed: u64,
    recovered: &mut Recovered,
) -> Result<(Ending, Previous), JournalError> {
    let (ending, damages, n) = frames(files, file, Known { end: None, confirmed }, recovered)?;
    // Without a header all of it is what the next one vouches for.
    let ending = ending.unwrap_or(Ending {
        end: file.bytes / PAGE as u64 * PAGE as u64,
        next_block: 1,
        crc: None,
        seal: None,
        torn: None,
    });
    let mut source = FileIn { files, name: &file.name, bytes: file.bytes };
    let digest = verify::digest(&mut source, ending.end)
        .map_err(|source| JournalError::Read { name: file.name.clone(), source })?
        .unwrap_or_default();
    recovered.bytes_read += ending.end;
    recovered.frames = n;
    recovered.clean = ending.seal.is_some() && damages.is_empty();
    recovered.torn = ending.torn.map(|t| (file.segment, ending.end, t));
    recovered.damages = damages;
    let previous = Previous { end: ending.end, digest, crc: ending.crc.unwrap_or(0) };
    Ok((ending, previous))
}
