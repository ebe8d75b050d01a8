//! `outcry audit cat`: every frame that counts, in the order in which they were written.
use super::{AuditError, Where, directory::Journal, time::utc};
use outcry::{
    journal::{
        block::BLOCK_HEADER,
        reader::{Item, Known, OpenError, SegmentReader},
        segment::HeaderError,
    },
    record::frame::{self, Frame, Kind, WRITER_CONTROL, WRITER_FLUSH},
};
use std::io::{BufWriter, Write};

/// Bytes of a payload in the table.
const SHOWN: usize = 32;

/// Where a frame is.
struct Place {
    segment: u64,
    block: u64,
    offset: u64,
}

/// True: everything there was could be printed. What could not is named on standard error.
pub(super) fn run(place: &Where, full: bool) -> Result<bool, AuditError> {
    let mut journal = Journal::open(place)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let closed = |_| AuditError::Closed;
    if !place.json {
        out.write_all(HEADING.as_bytes()).map_err(closed)?;
    }
    let mut whole = true;
    for i in 0..journal.segments.len() {
        let (segment, name) = (journal.segments[i].segment, journal.segments[i].name.clone());
        let known = Known { end: journal.after(i).map(|a| a.previous.end), confirmed: journal.confirmed(i) };
        let read = print(&mut out, segment, SegmentReader::open(journal.source(i), known), place.json, full);
        match read {
            Ok(good) => whole &= good,
            Err(Failed::Read(source)) => return Err(journal.failed(&name, source)),
            Err(Failed::Closed) => return Err(AuditError::Closed),
        }
    }
    out.flush().map_err(closed)?;
    if !whole {
        eprintln!("outcry audit: not all of the journal could be printed; `outcry audit verify` says more");
    }
    Ok(whole)
}

const HEADING: &str =
    "segment    block    offset epoch  writer       seq kind           v time                      bytes payload\n";

enum Failed {
    Read(std::io::Error),
    Closed,
}

fn print<S: outcry::journal::reader::Source<Error = std::io::Error>>(
    out: &mut impl Write,
    segment: u64,
    opened: Result<SegmentReader<S>, OpenError<std::io::Error>>,
    json: bool,
    full: bool,
) -> Result<bool, Failed> {
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(OpenError::Header(HeaderError::Empty)) => return Ok(true),
        Err(OpenError::Header(why)) => {
            eprintln!("outcry audit: segment {segment}, offset 0: {why}");
            return Ok(false);
        }
        Err(OpenError::Source(source)) => return Err(Failed::Read(source)),
    };
    let mut whole = true;
    while let Some(item) = reader.next_item().map_err(Failed::Read)? {
        let (at, block) = match item {
            Item::Damage(d) => {
                eprintln!("outcry audit: segment {segment}, offset {} to {}: damaged: {}", d.at, d.end, d.why);
                whole = false;
                continue;
            }
            Item::Block(_, block) if block.header.seal => continue,
            Item::Block(at, block) => (at, block),
        };
        let mut frames = frame::frames(block.payload);
        loop {
            let offset = at + (BLOCK_HEADER + frames.offset()) as u64;
            let place = Place { segment, block: block.header.number, offset };
            let line = match frames.next() {
                None => break,
                Some(Ok(frame)) if json => as_json(&place, &frame),
                Some(Ok(frame)) => as_row(&place, &frame, full),
                Some(Err(why)) => {
                    eprintln!("outcry audit: segment {segment}, offset {offset}: {why}");
                    whole = false;
                    continue;
                }
            };
            out.write_all(line.as_bytes()).map_err(|_| Failed::Closed)?;
        }
    }
    Ok(whole)
}

fn kind(frame: &Frame<'_>) -> String {
    let name = match frame.kind() {
        Some(Kind::Auction) => "auction",
        Some(Kind::Delivery) => "delivery",
        Some(Kind::Refusals) => "refusals",
        Some(Kind::RefusalSample) => "refusal-sample",
        Some(Kind::Account) => "account",
        Some(Kind::Lease) => "lease",
        Some(Kind::Notice) => "notice",
        Some(Kind::Settlement) => "settlement",
        Some(Kind::Config) => "config",
        Some(Kind::Start) => "start",
        Some(Kind::Stop) => "stop",
        Some(Kind::Clean) => "clean",
        Some(Kind::RawRequest) => "raw-request",
        Some(Kind::RawAnswer) => "raw-answer",
        None => return format!("kind-{}", frame.header.kind),
    };
    name.to_string()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

fn as_json(place: &Place, frame: &Frame<'_>) -> String {
    let Place { segment, block, offset } = place;
    let frame::Header { seq, epoch, writer, version, hlc, .. } = frame.header;
    let (bytes, time) = (frame::HEADER + frame.payload().len(), utc(hlc >> 16));
    format!(
        "{{\"segment\":{segment},\"block\":{block},\"offset\":{offset},\"epoch\":{epoch},\"writer\":{writer},\"seq\":{seq},\
         \"kind\":\"{}\",\"version\":{version},\"hlc\":{hlc},\"time\":\"{time}\",\"bytes\":{bytes},\"payload\":\"{}\"}}\n",
        kind(frame),
        hex(frame.payload())
    )
}

fn as_row(place: &Place, frame: &Frame<'_>, full: bool) -> String {
    let Place { segment, block, offset } = place;
    let frame::Header { seq, epoch, version, hlc, .. } = frame.header;
    let writer = match frame.header.writer {
        WRITER_FLUSH => "flush".to_string(),
        WRITER_CONTROL => "control".to_string(),
        core => core.to_string(),
    };
    let payload = frame.payload();
    let shown = if full { payload } else { &payload[..payload.len().min(SHOWN)] };
    let (bytes, cut) = (frame::HEADER + payload.len(), if shown.len() < payload.len() { "..." } else { "" });
    format!(
        "{segment:7} {block:8} {offset:9} {epoch:5} {writer:>7} {seq:9} {:<14} {version} {:<24} {bytes:6} {}{cut}\n",
        kind(frame),
        utc(hlc >> 16),
        hex(shown)
    )
}
