//! One of the requests that were refused, so that whoever must mend the sender has more than a number.
//! Owns: nothing; [`Sampler`] a second's mark for each reason. Runs on: each bidder core (takes, writes), readers of journals.
//! Called by: whoever refuses. Never: keeps a byte of a body, a header or a query.
//!
//! The payload of frames of kind 4. Not kept, though it would help: the first bytes of the body. A body that breaks the
//! rules cannot be read, so the ids, addresses, places and pages in it cannot be told from the rest and taken out, and
//! what is in a journal stays for days. Kept instead: what was wrong and where (the field's path and the byte), how long
//! it was, its digest, by which the sender finds it in a log of his own, and the start of the path up to the question
//! mark: a wrong path is the commonest mistake of all, and behind the mark ids are found.
use super::{
    codec::{Block, Read, Reader, RecordError, put_text},
    labels::Refusal,
};

/// The frame's kind.
pub const KIND: u8 = 4;
/// The frame's version.
pub const VERSION: u8 = 1;
/// Most that is kept of a path, of a field's path, of a name, in bytes.
const TEXT_MAX: usize = 64;
const BLOCK: usize = 2 + 4 + 4 + 4 + 8;
/// Longest payload: numbers and four texts.
pub(crate) const BYTES_MAX: usize = BLOCK + 4 * (1 + TEXT_MAX);

/// A refused request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RefusalSample<'a> {
    /// The exchange's name; empty where the request did not get as far as to tell.
    pub exchange: &'a str,
    /// [`Refusal::name`], perhaps of another release.
    pub reason: &'a str,
    /// Where it was wrong: a field of the request (`imp[2].bidfloor`) or the rule of HTTP that it broke.
    pub field: &'a str,
    /// The start of its path, without a query.
    pub path: &'a str,
    /// HTTP status that it was answered.
    pub status: u16,
    /// The byte of the body at which it was wrong; 0 where that means nothing.
    pub at: u32,
    /// Length of its head.
    pub head_bytes: u32,
    /// Length of its body, as far as it was read.
    pub body_bytes: u32,
    /// XXH3 of the body, as far as it was read, inflated; 0 without one.
    pub digest: u64,
}

/// What may be kept of a request target: its path without query and fragment, at most 64 bytes of it, as far as it is
/// printable ASCII.
pub fn path(target: &[u8]) -> &str {
    let end = target.iter().take(TEXT_MAX).take_while(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#')).count();
    std::str::from_utf8(&target[..end]).unwrap_or("")
}

impl<'a> RefusalSample<'a> {
    /// Appends it. Texts are cut at 64 bytes, a path at its query too.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Block::<BLOCK>::new()
            .u16(self.status)
            .u32(self.at)
            .u32(self.head_bytes)
            .u32(self.body_bytes)
            .u64(self.digest)
            .end(out);
        for text in [self.exchange, self.reason, self.field, path(self.path.as_bytes())] {
            let end = (0..=text.len().min(TEXT_MAX)).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
            put_text(&text[..end], out);
        }
    }

    /// Reads [`RefusalSample::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &'a [u8]) -> Result<RefusalSample<'a>, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let (status, at, head_bytes, body_bytes, digest) = (r.u16()?, r.u32()?, r.u32()?, r.u32()?, r.u64()?);
        let mut text =
            || -> Read<&'a str> { Some(r.text()?).filter(|t| t.len() <= TEXT_MAX).ok_or(RecordError::Value) };
        let (exchange, reason, field, path) = (text()?, text()?, text()?, text()?);
        r.end()?;
        Ok(RefusalSample { exchange, reason, field, path, status, at, head_bytes, body_bytes, digest })
    }
}

/// Which refusals are kept: the first of each reason in each second. So a flood of one kind neither fills the journal
/// nor hides the others: at most [`Refusal::COUNT`] a second and core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sampler {
    second: u64,
    seen: u32,
}

const _: () = assert!(Refusal::COUNT <= 32);

impl Sampler {
    /// Is this one kept? `wall_ms`: milliseconds since 1970.
    #[inline]
    pub fn takes(&mut self, reason: Refusal, wall_ms: u64) -> bool {
        let second = wall_ms / 1000;
        if second != self.second {
            *self = Sampler { second, seen: 0 };
        }
        let bit = 1 << reason as u32;
        let first = self.seen & bit == 0;
        self.seen |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_are_the_bytes_of_version_1() {
        let sample = RefusalSample {
            exchange: "x",
            reason: "invalid_request",
            field: "imp[2].bidfloor",
            path: "/openrtb2/auction",
            status: 400,
            at: 258,
            head_bytes: 3,
            body_bytes: 4,
            digest: 5,
        };
        let mut out = Vec::new();
        sample.encode(&mut out);
        let want = b"\x90\x01\x02\x01\0\0\x03\0\0\0\x04\0\0\0\x05\0\0\0\0\0\0\0\
            \x01x\x0finvalid_request\x0fimp[2].bidfloor\x11/openrtb2/auction";
        assert_eq!(out, want);
        assert_eq!(RefusalSample::decode(1, want), Ok(sample));
        assert_eq!(RefusalSample::decode(2, want), Err(RecordError::Version));
        assert_eq!(RefusalSample::decode(1, &want[..40]), Err(RecordError::Short));
    }

    #[test]
    fn no_query_is_kept() {
        let rows: [(&[u8], &str); 5] = [
            (b"/bid?uid=123", "/bid"),
            (b"/bid#me", "/bid"),
            (b"/a b", "/a"),
            (b"/\xff\xfe", "/"),
            (&[b'/'; 100], "////////////////////////////////////////////////////////////////"),
        ];
        for (target, want) in rows {
            assert_eq!(path(target), want);
        }
        let mut out = Vec::new();
        RefusalSample { path: "/bid?ifa=1", ..RefusalSample::default() }.encode(&mut out);
        assert_eq!(RefusalSample::decode(1, &out).map(|s| s.path), Ok("/bid"));
    }

    #[test]
    fn the_first_of_each_reason_in_each_second_is_kept() {
        let mut sampler = Sampler::default();
        let mut kept = 0;
        for ms in 5_000..7_000 {
            kept += Refusal::ALL.iter().filter(|r| sampler.takes(**r, ms)).count();
        }
        assert_eq!(kept, 2 * Refusal::COUNT);
        assert!(!sampler.takes(Refusal::NotJson, 6_999) && sampler.takes(Refusal::NotJson, 7_000));
    }

    proptest! {
        #[test]
        fn a_sample_comes_back_cut(exchange in ".{0,90}", field in ".{0,90}", path in "/[a-z]{0,90}", n: u32, digest: u64) {
            let sample = RefusalSample {
                exchange: &exchange, reason: "r", field: &field, path: &path, status: n as u16, at: n, head_bytes: n,
                body_bytes: n, digest,
            };
            let mut out = Vec::new();
            sample.encode(&mut out);
            prop_assert!(out.len() <= BYTES_MAX);
            let read = RefusalSample::decode(1, &out).unwrap();
            prop_assert!(exchange.starts_with(read.exchange) && read.exchange.len() <= 64);
            prop_assert!(field.len() > 60 || read.field == field);
            prop_assert_eq!((read.at, read.digest, path.starts_with(read.path)), (n, digest, true));
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = RefusalSample::decode(1, &bytes);
        }
    }
}
