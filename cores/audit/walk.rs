//! Every frame of a time range, in the order in which they were written.
//! Owns: nothing. Called by: `cat`, `billed`, `replay --all` and others. Never: passes over damage without naming it; reads segments
//! that have no frame of the range, where an index or the heads of their blocks say so.
use super::{AuditError, Place, directory::Journal, progress::Progress, range::Range, say};
use outcry::{
    journal::{
        block::BLOCK_HEADER,
        reader::{Item, Known, OpenError, SegmentReader},
        segment::HeaderError,
    },
    record::frame::{self, Frame},
};
use std::io::ErrorKind;

/// What is done with a frame. False: no more of them are wanted.
type Each<'e> = dyn FnMut(&Place, &Frame<'_>) -> Result<bool, AuditError> + 'e;

/// True: all that there was could be read. What could not is named on standard error, with segment and offset.
pub(super) fn frames(
    journal: &mut Journal,
    range: Range,
    each: &mut dyn FnMut(&Place, &Frame<'_>) -> Result<(), AuditError>,
) -> Result<bool, AuditError> {
    until(journal, range, &mut |place, frame| each(place, frame).map(|()| true))
}

/// The same, until enough was read.
pub(super) fn until(journal: &mut Journal, range: Range, each: &mut Each<'_>) -> Result<bool, AuditError> {
    let mut read = Vec::new();
    for i in 0..journal.segments.len() {
        if range.all() || journal.times(i).is_none_or(|(first, last)| range.meets(first, last)) {
            read.push(i);
        }
    }
    let mut progress = Progress::new(read.iter().map(|i| journal.segments[*i].bytes).sum());
    let (mut whole, mut enough) = (true, false);
    for i in read {
        whole &= of(journal, i, range, &mut progress, &mut |place, frame| {
            let more = each(place, frame)?;
            enough |= !more;
            Ok(more)
        })?;
        if enough {
            break;
        }
        progress.done(journal.segments[i].bytes);
    }
    Ok(whole)
}

/// The same of one segment.
pub(super) fn segment(
    journal: &mut Journal,
    i: usize,
    range: Range,
    progress: &mut Progress,
    each: &mut dyn FnMut(&Place, &Frame<'_>) -> Result<(), AuditError>,
) -> Result<bool, AuditError> {
    of(journal, i, range, progress, &mut |place, frame| each(place, frame).map(|()| true))
}

fn of(
    journal: &mut Journal,
    i: usize,
    range: Range,
    progress: &mut Progress,
    each: &mut Each<'_>,
) -> Result<bool, AuditError> {
    match of_segment(journal, i, range, progress, each) {
        Ok(whole) => Ok(whole),
        Err(Failed::Read(e)) if e.kind() == ErrorKind::NotFound => {
            say(format_args!("segment {} was let go while this read the ones before it", journal.segments[i].segment));
            Ok(true)
        }
        Err(Failed::Read(source)) => Err(journal.failed(&journal.segments[i].name, source)),
        Err(Failed::Told(why)) => Err(why),
    }
}

enum Failed {
    Read(std::io::Error),
    Told(AuditError),
}

fn of_segment(
    journal: &mut Journal,
    i: usize,
    range: Range,
    progress: &mut Progress,
    each: &mut Each<'_>,
) -> Result<bool, Failed> {
    let segment = journal.segments[i].segment;
    let known = Known { end: journal.end(i), confirmed: journal.confirmed(i) };
    let mut reader = match SegmentReader::open(journal.source(i), known) {
        Ok(reader) => reader,
        Err(OpenError::Header(HeaderError::Empty)) => return Ok(true),
        Err(OpenError::Header(why)) => {
            say(format_args!("segment {segment}, offset 0: {why}"));
            return Ok(false);
        }
        Err(OpenError::Source(source)) => return Err(Failed::Read(source)),
    };
    let mut whole = true;
    while let Some(item) = reader.next_item().map_err(Failed::Read)? {
        let (at, block) = match item {
            Item::Damage(d) => {
                say(format_args!("segment {segment}, offset {} to {}: damaged: {}", d.at, d.end, d.why));
                whole = false;
                continue;
            }
            Item::Block(at, block) => (at, block),
        };
        progress.at(at);
        if block.header.seal || !range.meets(block.header.first_hlc, block.header.last_hlc) {
            continue;
        }
        let mut frames = frame::frames(block.payload);
        loop {
            let offset = at + (BLOCK_HEADER + frames.offset()) as u64;
            match frames.next() {
                None => break,
                Some(Ok(frame)) if range.holds(frame.header.hlc) => {
                    if !each(&Place { segment, block: block.header.number, offset }, &frame).map_err(Failed::Told)? {
                        return Ok(whole);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(why)) => {
                    say(format_args!("segment {segment}, offset {offset}: {why}"));
                    whole = false;
                }
            }
        }
    }
    Ok(whole)
}
