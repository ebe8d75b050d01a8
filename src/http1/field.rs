//! Values of the fields that both sides read: lengths, codings, lists.
//! Owns: [`Framing`], what the fields of a head say of where its body ends. Runs on: each bidder core.
//! Called by: [`super::request`], [`super::response`]. Never: allocates, keeps bytes.
use super::head::HeadError;

/// What the body is packed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Encoding {
    /// Nothing.
    #[default]
    Identity,
    /// gzip, once.
    Gzip,
    /// Something we do not unpack, gzip twice included.
    Other,
}

/// Framing of a body and life of its connection, gathered line by line.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) encoding: Encoding,
    close: bool,
    keep_alive: bool,
}

impl Framing {
    /// May the connection carry another message? (RFC 9112 section 9.3)
    pub(super) fn persists(&self, minor: u8) -> bool {
        !self.close && (minor >= 1 || self.keep_alive)
    }

    /// Repeats of one length are one length, on one line or on several (section 6.3).
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        match digits(value) {
            Some(length) => self.one_length(length)?,
            None => {
                for part in value.split(|&b| b == b',') {
                    self.one_length(digits(trim(part)).ok_or(HeadError::BadLength)?)?;
                }
            }
        }
        self.one_framing()
    }

    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if !is(value, b"chunked") {
            let mut codings = value.split(|&b| b == b',').map(trim);
            let last = codings.next_back().is_some_and(|c| is(c, b"chunked"));
            let legal = last && codings.all(|c| !c.is_empty() && !is(c, b"chunked"));
            return Err(if legal && !self.chunked {
                HeadError::UnknownTransferEncoding
            } else {
                HeadError::BadTransferEncoding
            });
        }
        if self.chunked {
            return Err(HeadError::BadTransferEncoding);
        }
        self.chunked = true;
        self.one_framing()
    }

    fn one_length(&mut self, length: u64) -> Result<(), HeadError> {
        match self.length.replace(length) {
            Some(before) if before != length => Err(HeadError::TwoLengths),
            _ => Ok(()),
        }
    }

    fn one_framing(&self) -> Result<(), HeadError> {
        if self.chunked && self.length.is_some() { Err(HeadError::LengthAndChunked) } else { Ok(()) }
    }

    pub(super) fn connection(&mut self, value: &[u8]) {
        if is(value, b"keep-alive") {
            self.keep_alive = true;
            return;
        }
        for option in value.split(|&b| b == b',') {
            let option = trim(option);
            self.close |= is(option, b"close");
            self.keep_alive |= is(option, b"keep-alive");
        }
    }

    pub(super) fn content_encoding(&mut self, value: &[u8]) {
        for coding in value.split(|&b| b == b',') {
            let coding = trim(coding);
            if coding.is_empty() || is(coding, b"identity") {
                continue;
            }
            let gzip = is_gzip(coding) && self.encoding == Encoding::Identity;
            self.encoding = if gzip { Encoding::Gzip } else { Encoding::Other };
        }
    }
}

/// What an `Accept-Encoding` says of gzip (RFC 9110 section 12.5.3): by name, and by `*`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AcceptGzip {
    named: Option<bool>,
    any: bool,
}

impl AcceptGzip {
    pub(super) fn take(&mut self, value: &[u8]) {
        if is(value, b"gzip") {
            self.named = Some(self.named != Some(false));
            return;
        }
        for item in value.split(|&b| b == b',') {
            let mut parts = item.split(|&b| b == b';').map(trim);
            let coding = parts.next().unwrap_or(&[]);
            let star = coding == b"*";
            if star || is_gzip(coding) {
                let wanted = parts.all(wanted);
                if star {
                    self.any = wanted;
                } else {
                    // Said twice, differently: no is the answer nobody has to unpack.
                    self.named = Some(wanted && self.named != Some(false));
                }
            }
        }
    }

    pub(super) fn accepted(self) -> bool {
        self.named.unwrap_or(self.any)
    }
}

/// Is this parameter anything but a weight of zero, or a weight that cannot be read?
fn wanted(parameter: &[u8]) -> bool {
    let [b'q' | b'Q', b'=', weight @ ..] = parameter else {
        return true;
    };
    matches!(weight.first(), Some(b'0' | b'1')) && weight.iter().any(|b| matches!(b, b'1'..=b'9'))
}

fn is_gzip(coding: &[u8]) -> bool {
    is(coding, b"gzip") || is(coding, b"x-gzip")
}

/// Decimal digits and nothing else, at least one, below 2^64.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    // Nineteen digits always fit.
    if value.len() <= 19 {
        let mut n = 0;
        for &b in value {
            let digit = b.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            n = n * 10 + u64::from(digit);
        }
        return Some(n);
    }
    value.iter().try_fold(0u64, |n, &b| {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        n.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Is `value` this lower-case text, in any case?
#[inline(always)]
pub(super) fn is<const N: usize>(value: &[u8], lower: &[u8; N]) -> bool {
    value.len() == N && begins(value, lower)
}

/// Does `bytes` begin with this lower-case text of letters, digits and `-/:`, in any case? By words, not by
/// bytes: a head asks this some twenty times.
#[inline(always)]
pub(super) fn begins<const N: usize>(bytes: &[u8], lower: &[u8; N]) -> bool {
    let Some(bytes) = bytes.first_chunk::<N>() else {
        return false;
    };
    if N < 4 {
        return bytes.eq_ignore_ascii_case(lower);
    }
    let width = if N < 8 { 4 } else { 8 };
    let mut diff = 0;
    let mut at = 0;
    while at < N {
        // The last word overlaps the one before it.
        let from = at.min(N - width);
        let want = word(lower, from);
        // Letters have the bit 0x40, the rest does not; only of letters the case bit is ignored.
        let case = (want & 0x4040_4040_4040_4040) >> 1;
        diff |= (word(bytes, from) | case) ^ want;
        at += width;
    }
    diff == 0
}

/// Eight bytes, or four of a text that has fewer than eight.
#[inline(always)]
fn word<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    if N < 8 {
        rest.first_chunk::<4>().map_or(0, |w| u64::from(u32::from_le_bytes(*w)))
    } else {
        rest.first_chunk::<8>().map_or(0, |w| u64::from_le_bytes(*w))
    }
}

/// Without the white space around it.
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_accepted_when_it_was_asked_for() {
        let rows: &[(&str, bool)] = &[
            ("gzip", true),
            ("GZip", true),
            ("x-gzip", true),
            ("deflate, gzip", true),
            ("gzip;q=1.0, identity; q=0.5, *;q=0", true),
            ("gzip ; q=0.001", true),
            ("*", true),
            ("*;q=0.1", true),
            ("br, *", true),
            ("", false),
            ("identity", false),
            ("br", false),
            ("gzipp", false),
            ("gzip;q=0", false),
            ("gzip;Q=0.000", false),
            ("gzip; q=", false),
            ("gzip;q=x", false),
            ("gzip;q=0, *", false),
            ("*;q=1, gzip;q=0", false),
            ("gzip, gzip;q=0", false),
            ("*;q=0", false),
        ];
        for (value, want) in rows {
            let mut accept = AcceptGzip::default();
            accept.take(value.as_bytes());
            assert_eq!(accept.accepted(), *want, "{value}");
        }
    }

    #[test]
    fn lengths_are_digits() {
        let rows: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("0x10", None),
            ("1 1", None),
            ("1.0", None),
            ("\u{661}", None),
        ];
        for (value, want) in rows {
            assert_eq!(digits(value.as_bytes()), *want, "{value}");
        }
    }

    #[test]
    fn only_case_is_forgiven() {
        for b in 0..=0xff {
            assert_eq!(is(&[b, b'-'], b"a-"), b == b'a' || b == b'A', "{b:#x}");
            assert_eq!(is(&[b'A', b], b"a-"), b == b'-', "{b:#x}");
            let text = b"transfer-encoding:";
            for at in 0..text.len() {
                let mut other = text.map(|t| t.to_ascii_uppercase());
                other[at] = b;
                assert_eq!(begins(&other, text), b.eq_ignore_ascii_case(&text[at]), "{b:#x} at {at}");
                let same = |n: usize| at >= n || b.eq_ignore_ascii_case(&text[at]);
                assert_eq!(begins(&other, b"transfer-e"), same(10));
                assert_eq!(begins(&other, b"transfer"), same(8));
                assert_eq!(begins(&other, b"transfe"), same(7));
                assert_eq!(begins(&other, b"tran"), same(4));
            }
        }
    }
}
