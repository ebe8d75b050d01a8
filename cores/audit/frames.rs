//! A frame as a line: for people, and as JSON.
//! Owns: nothing. Called by: `cat`, `request`, `replay`.
use super::Place;
use outcry::record::{
    frame::{self, Frame, Kind, WRITER_CONTROL, WRITER_FLUSH},
    show::{self, json::Object},
    when::utc,
};
use std::fmt::Write;

/// Bytes of a payload in the table.
const SHOWN: usize = 32;

pub(super) const HEADING: &str =
    "segment    block    offset epoch  writer       seq kind           v time                      bytes payload\n";

/// The names of all kinds, as `--kind` takes them.
pub(super) const KINDS: [(Kind, &str); 15] = [
    (Kind::Auction, "auction"),
    (Kind::Delivery, "delivery"),
    (Kind::Refusals, "refusals"),
    (Kind::RefusalSample, "refusal-sample"),
    (Kind::Account, "account"),
    (Kind::Lease, "lease"),
    (Kind::Notice, "notice"),
    (Kind::Settlement, "settlement"),
    (Kind::Config, "config"),
    (Kind::Start, "start"),
    (Kind::Stop, "stop"),
    (Kind::Clean, "clean"),
    (Kind::RawRequest, "raw-request"),
    (Kind::RawAnswer, "raw-answer"),
    (Kind::Told, "told"),
];

/// The kind of a frame, `kind-77` of one that only a newer release knows.
pub(super) fn kind(number: u8) -> String {
    let known = KINDS.iter().find(|(kind, _)| *kind as u8 == number);
    known.map_or_else(|| format!("kind-{number}"), |(_, name)| (*name).to_string())
}

pub(super) fn writer(number: u16) -> String {
    match number {
        WRITER_FLUSH => "flush".to_string(),
        WRITER_CONTROL => "control".to_string(),
        core => core.to_string(),
    }
}

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Where it is and what its header says; `fill` adds what is in it.
pub(super) fn as_json(place: &Place, frame: &Frame<'_>, fill: impl FnOnce(&mut Object<'_>)) -> String {
    let frame::Header { seq, epoch, writer, version, hlc, .. } = frame.header;
    let mut line = String::new();
    Object::write(&mut line, |o| {
        o.number("segment", place.segment);
        o.number("block", place.block);
        o.number("offset", place.offset);
        o.number("epoch", epoch);
        o.number("writer", writer);
        o.number("seq", seq);
        o.word("kind", kind(frame.header.kind));
        o.number("version", version);
        o.number("hlc", hlc);
        o.word("time", utc(hlc >> 16));
        o.number("bytes", frame::HEADER + frame.payload().len());
        fill(o);
    });
    line.push('\n');
    line
}

/// The payload as hexadecimal digits.
pub(super) fn raw(frame: &Frame<'_>, o: &mut Object<'_>) {
    let mut digits = String::with_capacity(2 * frame.payload().len());
    hex(frame.payload(), &mut digits);
    o.word("payload", digits);
}

/// The payload as what it says; what this release cannot read as hexadecimal digits. False: it should have been readable.
pub(super) fn record(frame: &Frame<'_>, o: &mut Object<'_>) -> bool {
    let mut text = String::new();
    match show::show(frame.header.kind, frame.header.version, frame.payload(), &mut text) {
        Ok(()) => {
            o.json("record", &text);
            true
        }
        Err(why) => {
            raw(frame, o);
            let unknown = why == outcry::auction::record::RecordError::Version;
            o.word("unreadable", if unknown { "unknown to this release".to_string() } else { why.to_string() });
            unknown
        }
    }
}

/// One line, with the first bytes of the payload or with all of it.
pub(super) fn as_row(place: &Place, frame: &Frame<'_>, full: bool) -> String {
    let Place { segment, block, offset } = place;
    let frame::Header { seq, epoch, version, hlc, .. } = frame.header;
    let payload = frame.payload();
    let shown = if full { payload } else { &payload[..payload.len().min(SHOWN)] };
    let (bytes, cut) = (frame::HEADER + payload.len(), if shown.len() < payload.len() { "..." } else { "" });
    let mut line = format!(
        "{segment:7} {block:8} {offset:9} {epoch:5} {:>7} {seq:9} {:<14} {version} {:<24} {bytes:6} ",
        writer(frame.header.writer),
        kind(frame.header.kind),
        utc(hlc >> 16)
    );
    hex(shown, &mut line);
    line + cut + "\n"
}
