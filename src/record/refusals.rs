//! How many requests were refused before they became an auction, by exchange and reason: every one of them, a second at a
//! time. Who asks "where are my other thousand requests" finds them here.
//! Owns: nothing. Runs on: each bidder core (writes), readers of journals. Called by: the core, once a second for what it refused.
//! Never: leaves out a reason that has a count; is written when there is nothing to say.
//!
//! The payload of frames of kind 3. Reasons stand by name, since their places in [`Refusal`] change with releases.
use super::{
    codec::{Block, Read, Reader, RecordError, U40_BYTES, put_text},
    labels::Refusal,
};
use crate::limits::EXCHANGES_MAX;

/// The frame's kind.
pub const KIND: u8 = 3;
/// The frame's version.
pub const VERSION: u8 = 1;
/// Begin, span, number of exchanges.
const HEAD: usize = 8 + 4 + 1;
/// Longest name of an exchange or of a reason.
const NAME_MAX: usize = 32;
/// Longest payload: every reason of every exchange, and of requests whose exchange is not known.
pub(crate) const BYTES_MAX: usize =
    HEAD + (EXCHANGES_MAX + 1) * (1 + NAME_MAX + 1 + Refusal::COUNT * (1 + NAME_MAX + U40_BYTES));

// Counts of both fit in a byte.
const _: () = assert!(Refusal::COUNT <= u8::MAX as usize);
const _: () = assert!(EXCHANGES_MAX < u8::MAX as usize);

/// Requests of one exchange that were refused for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The exchange's name; empty where the request did not get as far as to tell.
    pub exchange: String,
    /// [`Refusal::name`], perhaps of another release.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// One payload, read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    /// From when, milliseconds since 1970.
    pub from_ms: u64,
    /// How long, milliseconds: a second, or more where a delta had to wait.
    pub span_ms: u32,
    /// The counts that are not zero.
    pub rows: Vec<Row>,
}

/// Appends the counts of a second, those of one exchange together; rows without a count are left out. Beyond
/// [`EXCHANGES_MAX`] exchanges and one unknown nothing is appended, as there cannot be more.
pub fn encode<'a>(
    from_ms: u64,
    span_ms: u32,
    rows: impl IntoIterator<Item = (&'a str, Refusal, u64)>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    Block::<HEAD>::new().u64(from_ms).u32(span_ms).u8(0).end(out);
    let exchanges = start + HEAD - 1;
    let mut current: Option<(&str, usize)> = None;
    for (exchange, reason, count) in rows.into_iter().filter(|r| r.2 > 0) {
        let reasons = match current {
            Some((same, at)) if same == exchange && usize::from(out[at]) < Refusal::COUNT => at,
            _ if usize::from(out[exchanges]) > EXCHANGES_MAX => break,
            _ => {
                out[exchanges] += 1;
                put_text(exchange, out);
                out.push(0);
                out.len() - 1
            }
        };
        current = Some((exchange, reasons));
        out[reasons] += 1;
        put_text(reason.name(), out);
        Block::<U40_BYTES>::new().u40(count).end(out);
    }
}

/// Reads [`encode`] back.
///
/// # Errors
/// [`RecordError`]
pub fn decode(version: u8, bytes: &[u8]) -> Result<Refusals, RecordError> {
    if version != VERSION {
        return Err(RecordError::Version);
    }
    let mut r = Reader { rest: bytes };
    let mut read = Refusals { from_ms: r.u64()?, span_ms: r.u32()?, rows: Vec::new() };
    for _ in 0..r.count8(EXCHANGES_MAX + 1)? {
        let exchange = name(&mut r)?;
        for _ in 0..r.u8()? {
            let (reason, count) = (name(&mut r)?, r.u40()?);
            read.rows.push(Row { exchange: exchange.to_owned(), reason: reason.to_owned(), count });
        }
    }
    r.end()?;
    Ok(read)
}

fn name<'a>(r: &mut Reader<'a>) -> Read<&'a str> {
    Some(r.text()?).filter(|t| t.len() <= NAME_MAX).ok_or(RecordError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_are_the_bytes_of_version_1() {
        let mut out = Vec::new();
        let rows = [("xchg", Refusal::NotJson, 2), ("xchg", Refusal::TooSlow, 0), ("", Refusal::BadLine, 258)];
        encode(0x0102, 1000, rows, &mut out);
        let want = b"\x02\x01\0\0\0\0\0\0\xe8\x03\0\0\x02\
            \x04xchg\x01\x08not_json\x02\0\0\0\0\
            \0\x01\x08bad_line\x02\x01\0\0\0";
        assert_eq!(out, want);
        let read = decode(1, want).unwrap();
        assert_eq!((read.from_ms, read.span_ms, read.rows.len()), (0x0102, 1000, 2));
        assert_eq!(read.rows[1], Row { exchange: String::new(), reason: "bad_line".into(), count: 258 });
        assert_eq!(decode(2, want), Err(RecordError::Version));
        assert_eq!(decode(1, &want[..want.len() - 1]), Err(RecordError::Short));
        assert_eq!(decode(1, &[&want[..], b"x"].concat()), Err(RecordError::Trailing));
    }

    #[test]
    fn everything_at_once_fits_its_bound() {
        let names: Vec<String> = (0..EXCHANGES_MAX + 1).map(|i| format!("{i:032}")).collect();
        let all = |names: &[String]| {
            let rows = names.iter().flat_map(|n| Refusal::ALL.iter().map(|r| (n.as_str(), *r, u64::MAX)));
            let mut out = Vec::new();
            encode(1, 1000, rows, &mut out);
            out
        };
        let bytes = all(&names);
        assert!(bytes.len() <= BYTES_MAX);
        assert_eq!(decode(1, &bytes).unwrap().rows.len(), names.len() * Refusal::COUNT);
        // One more than there can be is left out, and what is written can be read.
        let more: Vec<String> = names.iter().cloned().chain(["one-more".into()]).collect();
        assert_eq!(all(&more), bytes);
        assert!(Refusal::ALL.iter().all(|r| r.name().len() <= NAME_MAX));
    }

    proptest! {
        #[test]
        fn no_count_is_lost(counts in prop::collection::vec((0usize..4, 0..Refusal::COUNT, 0u64..1 << 40), 0..60)) {
            let exchanges = ["", "a", "b", "\u{e9}"];
            let mut counts = counts;
            counts.sort();
            counts.dedup_by_key(|c| (c.0, c.1));
            let mut out = Vec::new();
            encode(7, 1000, counts.iter().map(|(x, r, n)| (exchanges[*x], Refusal::ALL[*r], *n)), &mut out);
            let read: Vec<_> = decode(1, &out).unwrap().rows.into_iter().map(|r| (r.exchange, r.reason, r.count)).collect();
            let want: Vec<_> = counts
                .iter()
                .filter(|c| c.2 > 0)
                .map(|(x, r, n)| (exchanges[*x].to_owned(), Refusal::ALL[*r].name().to_owned(), *n))
                .collect();
            prop_assert_eq!(read, want);
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(1, &bytes);
        }
    }
}
