//! The lines of a head, found and checked in one forward pass that goes on where the last read ended.
//!
//! A complete line is handed to the side that reads it (`Take`) and never looked at again; of the line that
//! is not complete, the part already scanned is remembered. So bytes that come one at a time cost the same
//! scan as bytes that come at once, and give the same verdict: every check sits at a fixed byte.
//!
//! Owns: [`HeadScan`], one per connection. Runs on: each bidder core.
//! Called by: [`super::request_head`], [`super::response_head`]. Never: allocates, looks behind the blank line.
//! Full: [`HeadError::TooLong`] at the byte limit, [`HeadError::TooManyHeaders`] above [`HEADERS_MAX`].
use super::{request::RequestState, response::ResponseState};
use crate::{
    limits::{HEAD_BYTES_MAX, HEADERS_MAX},
    openrtb::text::Span,
};

/// What reading bytes that may still be incomplete came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<T> {
    /// Fine so far; call again with the same bytes and more behind them.
    Partial,
    /// The whole of it.
    Done(T),
    /// Refused. Where the next message would begin is unknown: answer [`HeadError::status`] and close.
    Bad(HeadError),
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BodyLen {
    /// There is none.
    #[default]
    None,
    /// So many bytes; may be 0.
    Length(u64),
    /// Chunks follow: [`super::Chunked`].
    Chunked,
    /// All until the sender closes. Only in answers.
    UntilClose,
}

/// Why a head was refused. Always closes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not `method SP target SP HTTP/d.d`, or a target that is no path, no http(s) URL and no `OPTIONS *`.
    BadRequestLine,
    /// Not `HTTP/d.d SP ddd [SP reason]`.
    BadStatusLine,
    /// A line that ends in LF without CR (RFC 9112 section 2.2 lets us refuse it).
    BareLf,
    /// A CR without LF.
    BareCr,
    /// A line that goes on with the next (section 5.2).
    ObsFold,
    /// No colon, no name, a space before the colon, or a byte that no name has (section 5.1).
    BadName,
    /// A control byte: NUL, DEL, anything below space but HTAB in a value.
    ControlByte,
    /// HTTP/1.1 without `Host` (section 3.2).
    MissingHost,
    /// `Host` twice.
    DoubleHost,
    /// `Host` with a byte that no authority has, or a comma (two hosts joined by somebody before us).
    BadHost,
    /// `Authorization` twice: whoever stands before us may have checked the other one.
    DoubleAuthorization,
    /// Two lengths that differ (section 6.3).
    TwoLengths,
    /// Both `Content-Length` and `Transfer-Encoding`.
    LengthAndChunked,
    /// A length that is not a decimal number below 2^64.
    BadLength,
    /// A transfer coding that cannot end a body, `chunked` twice, or any in HTTP/1.0 (section 6.1).
    BadTransferEncoding,
    /// A list of codings that ends in `chunked`: legal, and not understood (section 6.1).
    UnknownTransferEncoding,
    /// The head is longer than the limit.
    TooLong,
    /// More than [`HEADERS_MAX`] field lines.
    TooManyHeaders,
    /// HTTP, but not HTTP/1.
    BadVersion,
    /// Status 101, which we never ask for: what follows is not HTTP.
    Upgraded,
}

impl HeadError {
    /// Every one of them, for tables of metrics.
    pub const ALL: [HeadError; 20] = [
        HeadError::BadRequestLine,
        HeadError::BadStatusLine,
        HeadError::BareLf,
        HeadError::BareCr,
        HeadError::ObsFold,
        HeadError::BadName,
        HeadError::ControlByte,
        HeadError::MissingHost,
        HeadError::DoubleHost,
        HeadError::BadHost,
        HeadError::DoubleAuthorization,
        HeadError::TwoLengths,
        HeadError::LengthAndChunked,
        HeadError::BadLength,
        HeadError::BadTransferEncoding,
        HeadError::UnknownTransferEncoding,
        HeadError::TooLong,
        HeadError::TooManyHeaders,
        HeadError::BadVersion,
        HeadError::Upgraded,
    ];

    /// The status to answer a request with before closing. Of an answer's head it means nothing.
    pub fn status(self) -> u16 {
        match self {
            HeadError::TooLong | HeadError::TooManyHeaders => 431,
            HeadError::UnknownTransferEncoding => 501,
            HeadError::BadVersion => 505,
            _ => 400,
        }
    }

    /// Label of a metric and reason in an error's JSON.
    pub fn name(self) -> &'static str {
        match self {
            HeadError::BadRequestLine => "bad_request_line",
            HeadError::BadStatusLine => "bad_status_line",
            HeadError::BareLf => "bare_lf",
            HeadError::BareCr => "bare_cr",
            HeadError::ObsFold => "obs_fold",
            HeadError::BadName => "bad_header_name",
            HeadError::ControlByte => "control_byte",
            HeadError::MissingHost => "missing_host",
            HeadError::DoubleHost => "double_host",
            HeadError::BadHost => "bad_host",
            HeadError::DoubleAuthorization => "double_authorization",
            HeadError::TwoLengths => "two_lengths",
            HeadError::LengthAndChunked => "length_and_chunked",
            HeadError::BadLength => "bad_length",
            HeadError::BadTransferEncoding => "bad_transfer_encoding",
            HeadError::UnknownTransferEncoding => "unknown_transfer_encoding",
            HeadError::TooLong => "head_too_long",
            HeadError::TooManyHeaders => "too_many_headers",
            HeadError::BadVersion => "bad_version",
            HeadError::Upgraded => "upgraded",
        }
    }
}

/// How far the head of one message was read, and what it said so far. One per connection; it is ready for the
/// next message by itself after [`Parsed::Done`] and [`Parsed::Bad`].
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    pub(super) place: Place,
    pub(super) request: RequestState,
    pub(super) response: ResponseState,
}

impl HeadScan {
    /// Forgets a head that was not read to its end (the connection was replaced).
    pub fn reset(&mut self) {
        *self = HeadScan::default();
    }
}

/// Where the pass stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// First byte of the line that is not complete; what is before it was taken.
    line: usize,
    /// First byte of that line that was not looked at. 0: none was.
    seen: usize,
    /// The colon of that line. 0: not seen yet.
    colon: usize,
    /// Field lines taken.
    fields: usize,
    /// Was the first line taken?
    started: bool,
}

/// The side that knows what the lines mean.
pub(super) trait Take {
    /// May one empty line stand before the first (section 2.2: old clients send one behind a body)?
    const BLANK_FIRST: bool;
    /// What an empty first line is called, if it may not.
    const NO_FIRST: HeadError;
    /// The first line: `buf[from..to]`, free of control bytes but HTAB.
    fn first_line(&mut self, buf: &[u8], from: usize, to: usize) -> Result<(), HeadError>;
    /// A field that is of interest.
    type Name: Copy;
    /// The name that `line` begins with, and where its colon stands. None: of no interest, not complete, or
    /// no name at all. Most lines of a head are known ones, and to compare beats to look at every byte.
    fn known(line: &[u8]) -> Option<(Self::Name, usize)>;
    /// A known field's value, without the white space around it.
    fn field(&mut self, name: Self::Name, value: &[u8], at: Span) -> Result<(), HeadError>;
}

/// Takes all complete lines of `buf`. Done: the bytes up to and with the blank line.
pub(super) fn read<T: Take>(buf: &[u8], place: &mut Place, taker: &mut T, max: usize) -> Parsed<usize> {
    let max = max.min(HEAD_BYTES_MAX);
    // The pass never sees what is behind the limit, so the verdict does not depend on how much came at once.
    let window = buf.get(..max).unwrap_or(buf);
    match lines(window, place, taker) {
        Ok(Some(len)) => Parsed::Done(len),
        Ok(None) if window.len() == max => Parsed::Bad(HeadError::TooLong),
        Ok(None) => Parsed::Partial,
        Err(e) => Parsed::Bad(e),
    }
}

fn lines<T: Take>(buf: &[u8], place: &mut Place, taker: &mut T) -> Result<Option<usize>, HeadError> {
    while !place.started {
        let end = value_end(buf, place.seen);
        let Some(next) = line_end(buf, end)? else {
            place.seen = end;
            return Ok(None);
        };
        if end == place.line {
            if !T::BLANK_FIRST || place.line != 0 {
                return Err(T::NO_FIRST);
            }
        } else {
            taker.first_line(buf, place.line, end)?;
            place.started = true;
        }
        place.line = next;
        place.seen = next;
    }
    let mut at = *place;
    let done = loop {
        let Some(line) = buf.get(at.line..) else {
            break None;
        };
        let known = T::known(line);
        if at.colon == 0 {
            at.colon = match known {
                Some((_, colon)) => at.line + colon,
                None => {
                    at.seen = name_end(buf, at.seen);
                    match buf.get(at.seen) {
                        None => break None,
                        Some(b':') if at.seen > at.line => at.seen,
                        Some(b'\r') if at.seen == at.line => break line_end(buf, at.seen)?,
                        Some(&b) => return Err(bad_name(b, at.seen == at.line)),
                    }
                }
            };
            if at.fields == HEADERS_MAX {
                return Err(HeadError::TooManyHeaders);
            }
            at.seen = at.colon + 1;
        }
        let end = value_end(buf, at.seen);
        let Some(next) = line_end(buf, end)? else {
            at.seen = end;
            break None;
        };
        if let (Some((name, _)), Some(value)) = (known, buf.get(at.colon + 1..end)) {
            let (value, before) = trimmed(value);
            let span = Span { at: (at.colon + 1 + before) as u32, len: value.len() as u32 };
            taker.field(name, value, span)?;
        }
        at.fields += 1;
        at.line = next;
        at.seen = next;
        at.colon = 0;
    };
    *place = at;
    Ok(done)
}

/// The byte behind CR LF at `end`; none while either is missing.
#[inline]
fn line_end(buf: &[u8], end: usize) -> Result<Option<usize>, HeadError> {
    match (buf.get(end), buf.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(end + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), _) => Err(HeadError::BareCr),
        (Some(b'\n'), _) => Err(HeadError::BareLf),
        _ => Err(HeadError::ControlByte),
    }
}

#[cold]
fn bad_name(b: u8, first: bool) -> HeadError {
    match b {
        b'\n' => HeadError::BareLf,
        b' ' | b'\t' if first => HeadError::ObsFold,
        b' ' | b'\t' | b'\r' => HeadError::BadName,
        0..0x20 | 0x7f => HeadError::ControlByte,
        _ => HeadError::BadName,
    }
}

/// Without the white space around it, and how much of it there was before.
#[inline]
fn trimmed(value: &[u8]) -> (&[u8], usize) {
    // One space before and none behind is how nearly everybody writes.
    if let [b' ', inner @ ..] = value
        && let (Some(first), Some(last)) = (inner.first(), inner.last())
        && *first > b' '
        && *last > b' '
    {
        return (inner, 1);
    }
    // Of what these trim, only space and HTAB get here.
    let inner = value.trim_ascii_start();
    (inner.trim_ascii_end(), value.len() - inner.len())
}

const TOKEN: u8 = 1;
const HOST: u8 = 2;

/// Which bytes a token has (RFC 9110 section 5.6.2), and which an authority (RFC 3986 section 3.2, less the
/// comma and user information).
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        if c.is_ascii_alphanumeric() {
            class[b] = TOKEN | HOST;
        }
        b += 1;
    }
    let token = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < token.len() {
        class[token[i] as usize] |= TOKEN;
        i += 1;
    }
    let host = b"-._~!$&'()*+;=%:[]";
    i = 0;
    while i < host.len() {
        class[host[i] as usize] |= HOST;
        i += 1;
    }
    class
};

pub(super) fn is_token(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

pub(super) fn is_authority(host: &[u8]) -> bool {
    host.iter().fold(HOST, |all, &b| all & CLASS[b as usize]) != 0
}

/// The first byte from `from` that is not of a token, or the end.
#[inline]
fn name_end(buf: &[u8], from: usize) -> usize {
    let Some(rest) = buf.get(from..) else {
        return buf.len();
    };
    buf.len() - rest.len() + rest.iter().position(|&b| !is_token(b)).unwrap_or(rest.len())
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = EACH << 7;

/// The first control byte but HTAB from `from`, or the end. Eight bytes at a time: this loop sees two thirds
/// of a head.
#[inline]
fn value_end(buf: &[u8], from: usize) -> usize {
    let Some(mut rest) = buf.get(from..) else {
        return buf.len();
    };
    while let Some((word, behind)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        // Plain visible text leaves no high bit in either: the cheap question, asked first.
        if (word.wrapping_sub(EACH * 0x20) | word.wrapping_add(EACH)) & HIGH == 0 {
            rest = behind;
            continue;
        }
        let low = word.wrapping_sub(EACH * 0x20) & !word;
        let del = word ^ (EACH * 0x7f);
        let del = del.wrapping_sub(EACH) & !del;
        // A borrow can mark a byte wrongly only above one marked rightly, and the lowest is taken.
        let hit = (low | del) & HIGH;
        if hit == 0 {
            rest = behind;
            continue;
        }
        let first = hit.trailing_zeros() as usize / 8;
        rest = rest.get(first..).unwrap_or(&[]);
        match rest {
            [b'\t', behind @ ..] => rest = behind,
            _ => return buf.len() - rest.len(),
        }
    }
    let tail = rest.iter().position(|&b| (b < 0x20 && b != b'\t') || b == 0x7f);
    buf.len() - rest.len() + tail.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_the_first_control_byte_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..len {
                for b in 0..=255u8 {
                    let mut buf = vec![0xff; len];
                    buf[at] = b;
                    let stops = (b < 0x20 && b != b'\t') || b == 0x7f;
                    assert_eq!(value_end(&buf, 0), if stops { at } else { len }, "{b:#x} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn names_and_statuses_are_distinct_and_sane() {
        for (i, e) in HeadError::ALL.into_iter().enumerate() {
            assert!(matches!(e.status(), 400 | 431 | 501 | 505));
            assert!(e.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(HeadError::ALL[..i].iter().all(|o| o.name() != e.name()));
        }
    }
}
