//! The id of a distributed trace, out of the `traceparent` header: W3C Trace Context, section 3.2.
//! Owns: nothing. Runs on: each bidder core, once per request that has the header. Called by: the bidder, records.
//! Never: refuses a request; what breaks a rule of the standard is as if it was not there.
use std::fmt;

/// The 16 bytes that all parties to a trace share. Never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceId([u8; 16]);

/// Bytes of `version "-" trace-id "-" parent-id "-" trace-flags`.
const LEN: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

impl TraceId {
    /// The trace that the value of a `traceparent` names. Version 00 is read strictly; of a higher one its first fields,
    /// which stay what they are, if they end the value or a dash follows (section 4.3). None of version ff, of zeros
    /// where an id should be, of upper-case digits.
    #[inline]
    pub fn parse(value: &[u8]) -> Option<TraceId> {
        if value.len() < LEN { None } else { parse(value) }
    }

    /// These bytes, unless they are zeros.
    pub fn of(bytes: [u8; 16]) -> Option<TraceId> {
        Some(TraceId(bytes)).filter(|id| id.0 != [0; 16])
    }

    /// The bytes, in the order of the header's digits.
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }
}

fn parse(value: &[u8]) -> Option<TraceId> {
    let (fields, rest) = value.split_at_checked(LEN)?;
    let dashes = [fields[2], fields[35], fields[52]] == *b"---";
    let ([version], [_flags]) = (hex(&fields[..2])?, hex(&fields[53..])?);
    let ends = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest[0] == b'-',
    };
    let parent: [u8; 8] = hex(&fields[36..52])?;
    if !dashes || !ends || parent == [0; 8] {
        return None;
    }
    TraceId::of(hex(&fields[3..35])?)
}

/// Two lower-case digits a byte.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok()?;
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let of = |text: String| TraceId::parse(text.as_bytes()).map(|id| id.to_string());
        let with = |version: &str, parent: &str, rest: &str| of(format!("{version}-{TRACE}-{parent}-{rest}"));
        let parent = "00f067aa0ba902b7";
        let some = Some(TRACE.to_string());
        assert_eq!(with("00", parent, "01"), some);
        assert_eq!(with("00", parent, "ff"), some);
        assert_eq!(with("01", parent, "00"), some, "a later version");
        assert_eq!(with("fe", parent, "00-and-what-it-adds"), some);
        assert_eq!(with("cc", parent, "00-"), some);
        for (version, parent, rest) in [
            ("ff", parent, "01"),
            ("00", parent, "01-more"),
            ("00", parent, "01 "),
            ("00", parent, "0"),
            ("00", parent, "0g"),
            ("00", parent, ""),
            ("cc", parent, "00more"),
            ("0", parent, "01"),
            ("0x", parent, "01"),
            ("00", "0000000000000000", "01"),
            ("00", "00F067AA0BA902B7", "01"),
            ("00", "00f067aa0ba902b", "01"),
        ] {
            assert_eq!(with(version, parent, rest), None, "{version} {parent} {rest}");
        }
        assert_eq!(of(format!("00-{}-{parent}-01", "0".repeat(32))), None);
        assert_eq!(of(format!("00-{}-{parent}-01", TRACE.to_uppercase())), None);
        assert_eq!(of(format!("00_{TRACE}-{parent}-01")), None);
        assert_eq!(of(format!("00-{TRACE}_{parent}-01")), None);
        assert_eq!(of(format!("00-{TRACE}-{parent}_01")), None);
        assert_eq!(of(String::new()), None);
    }

    /// No byte of it that is changed to one that has no place there is read over.
    #[test]
    fn every_byte_counts() {
        let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = b'.';
            assert_eq!(TraceId::parse(&bytes), None, "byte {at}");
            assert_eq!(TraceId::parse(&good.as_bytes()[..at]), None, "{at} bytes");
        }
    }
}
