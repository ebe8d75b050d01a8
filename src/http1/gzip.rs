//! gzip bodies (RFC 1952), unpacked within a bound and packed fast.
//!
//! The codec's state (tens of KB) is made once and reset between bodies. The frame
//! around the deflate stream is read and written here, because resetting flate2's own gzip reader allocates.
//! One member only: several in a row are legal, but no HTTP sender has a reason for them; whatever stands behind
//! the first is refused, so that every byte of a body is accounted for.
//!
//! Owns: one codec per value. Runs on: each bidder core. Called by: the bidder's ingress and egress.
//! Never: allocates after the first use but to grow `out`. Full: [`InflateError::TooLarge`],
//! [`InflateError::TooDense`].
use crate::limits::{INFLATED_BYTES_FREE, INFLATED_RATIO_MAX};
use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// Why a body could not be unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InflateError {
    /// It unpacks to more than allowed.
    TooLarge,
    /// It unpacks to more than [`INFLATED_BYTES_FREE`], and to more than [`INFLATED_RATIO_MAX`] times itself: nobody packs
    /// what he means so well.
    TooDense,
    /// Not gzip, damaged, checksum or length wrong, or something behind its end.
    Broken,
    /// It ends too early.
    Truncated,
}

impl InflateError {
    /// The status to answer a request with. The message's framing is intact: the connection may go on.
    pub fn status(self) -> u16 {
        match self {
            InflateError::TooLarge | InflateError::TooDense => 413,
            InflateError::Broken | InflateError::Truncated => 400,
        }
    }

    /// Reason in an error's JSON.
    pub fn name(self) -> &'static str {
        match self {
            InflateError::TooLarge => "inflated_body_too_large",
            InflateError::TooDense => "inflates_too_much",
            InflateError::Broken => "broken_gzip",
            InflateError::Truncated => "truncated_gzip",
        }
    }
}

/// `out` grows by at least so much at a time.
const GROW: usize = 16 * 1024;
const TRAILER: usize = 8;
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0xe0;

/// Unpacks.
#[derive(Debug)]
pub struct Inflate {
    raw: Decompress,
}

impl Default for Inflate {
    fn default() -> Self {
        Inflate::new()
    }
}

impl Inflate {
    /// Allocates the codec.
    pub fn new() -> Inflate {
        Inflate { raw: Decompress::new(false) }
    }

    /// Appends what the whole of `input` unpacks to. `max`: bytes appended, fewer if `input` is short
    /// ([`InflateError::TooDense`]). On an error `out` is as before (its capacity may have grown, to at most twice
    /// what those bytes need).
    ///
    /// # Errors
    /// [`InflateError`].
    pub fn inflate(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), InflateError> {
        let start = out.len();
        let unpacked = self.member(input, out, max);
        if unpacked.is_err() {
            out.truncate(start);
        }
        unpacked
    }

    fn member(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), InflateError> {
        let start = out.len();
        let mut rest = behind_header(input)?;
        self.raw.reset(false);
        let dense = input.len().saturating_mul(INFLATED_RATIO_MAX).max(INFLATED_BYTES_FREE);
        let bound = max.min(dense);
        loop {
            // Room for one byte too many: without it the codec could not tell us that it is at its end.
            let room = (bound - (out.len() - start)).saturating_add(1);
            if out.capacity() == out.len() {
                out.reserve(room.min(GROW));
            }
            let (read, written) = (self.raw.total_in(), out.len());
            let status = self.raw.decompress_vec(rest, out, FlushDecompress::None);
            let read = (self.raw.total_in() - read) as usize;
            rest = rest.get(read..).unwrap_or(&[]);
            if out.len() - start > bound {
                return Err(if bound < max { InflateError::TooDense } else { InflateError::TooLarge });
            }
            match status {
                Err(_) => return Err(InflateError::Broken),
                Ok(Status::StreamEnd) => break,
                Ok(_) if read == 0 && out.len() == written && out.capacity() > out.len() => {
                    return Err(if rest.is_empty() { InflateError::Truncated } else { InflateError::Broken });
                }
                Ok(_) => {}
            }
        }
        let unpacked = out.get(start..).unwrap_or(&[]);
        let mut crc = Crc::new();
        crc.update(unpacked);
        let (sum, len) = match rest {
            &[a, b, c, d, e, f, g, h] => (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])),
            _ if rest.len() < TRAILER => return Err(InflateError::Truncated),
            _ => return Err(InflateError::Broken),
        };
        if sum == crc.sum() && len == unpacked.len() as u32 { Ok(()) } else { Err(InflateError::Broken) }
    }
}

/// Section 2.3: the fixed ten bytes and the optional fields their flags announce.
fn behind_header(input: &[u8]) -> Result<&[u8], InflateError> {
    let known = input.len().min(MAGIC.len());
    if input.get(..known) != MAGIC.get(..known) {
        return Err(InflateError::Broken);
    }
    let truncated = InflateError::Truncated;
    let &flags = input.get(3).ok_or(truncated)?;
    if flags & FLAGS_RESERVED != 0 {
        return Err(InflateError::Broken);
    }
    let mut rest = input.get(10..).ok_or(truncated)?;
    if flags & FLAG_EXTRA != 0 {
        let (len, behind) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        rest = behind.get(usize::from(u16::from_le_bytes(*len))..).ok_or(truncated)?;
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let end = memchr::memchr(0, rest).ok_or(truncated)?;
            rest = rest.get(end + 1..).ok_or(truncated)?;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        let header = input.get(..input.len() - rest.len()).ok_or(truncated)?;
        let (sum, behind) = rest.split_first_chunk::<2>().ok_or(truncated)?;
        let mut crc = Crc::new();
        crc.update(header);
        if u16::from_le_bytes(*sum) != crc.sum() as u16 {
            return Err(InflateError::Broken);
        }
        rest = behind;
    }
    Ok(rest)
}

/// Packs.
#[derive(Debug)]
pub struct Deflate {
    raw: Compress,
}

impl Default for Deflate {
    fn default() -> Self {
        Deflate::new()
    }
}

impl Deflate {
    /// Allocates the codec. Level 1: an answer is packed while its deadline runs.
    pub fn new() -> Deflate {
        Deflate { raw: Compress::new(Compression::fast(), false) }
    }

    /// Appends `input`, packed.
    pub fn gzip(&mut self, input: &[u8], out: &mut Vec<u8>) {
        // No name, no time; fastest; system unknown.
        out.extend_from_slice(&[MAGIC[0], MAGIC[1], MAGIC[2], 0, 0, 0, 0, 0, 4, 255]);
        let start = out.len();
        if !self.pack(input, out) {
            out.truncate(start);
            stored(input, out);
        }
        let mut crc = Crc::new();
        crc.update(input);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&(input.len() as u32).to_le_bytes());
    }

    fn pack(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        self.raw.reset();
        // What cannot be packed grows by a few bytes per block; JSON fits the first reservation.
        out.reserve(input.len() + input.len() / 8 + 64);
        let mut rest = input;
        loop {
            let (read, written) = (self.raw.total_in(), out.len());
            match self.raw.compress_vec(rest, out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return true,
                Err(_) => return false,
                Ok(_) => {}
            }
            let read = (self.raw.total_in() - read) as usize;
            rest = rest.get(read..).unwrap_or(&[]);
            if read == 0 && out.len() == written && out.capacity() > out.len() {
                return false;
            }
            if out.capacity() == out.len() {
                out.reserve(GROW);
            }
        }
    }
}

/// Deflate without packing (RFC 1951 section 3.2.4): what a codec that fails, which none does, falls back to.
fn stored(input: &[u8], out: &mut Vec<u8>) {
    let mut rest = input;
    loop {
        let (block, behind) = rest.split_at(rest.len().min(usize::from(u16::MAX)));
        let len = block.len() as u16;
        out.push(u8::from(behind.is_empty()));
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
        rest = behind;
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    const TEXT: &[u8] = b"{\"id\":\"1\",\"imp\":[{\"id\":\"1\",\"banner\":{\"w\":300,\"h\":250}}]}";

    fn packed(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Deflate::new().gzip(input, &mut out);
        out
    }

    /// As well as it can be.
    fn best(input: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(input).expect("memory");
        packer.finish().expect("memory")
    }

    /// With optional fields: `flags`, and the bytes they announce.
    fn with_header(flags: u8, fields: &[u8]) -> Vec<u8> {
        let plain = packed(TEXT);
        let mut out = plain[..10].to_vec();
        out[3] = flags;
        out.extend_from_slice(fields);
        if flags & FLAG_HEADER_CRC != 0 {
            let mut crc = Crc::new();
            crc.update(&out);
            out.extend_from_slice(&(crc.sum() as u16).to_le_bytes());
        }
        out.extend_from_slice(&plain[10..]);
        out
    }

    fn check(input: &[u8], max: usize, want: Result<&[u8], InflateError>) {
        let mut out = b"before".to_vec();
        let got = Inflate::new().inflate(input, &mut out, max);
        assert_eq!(got, want.map(|_| ()), "{input:x?}");
        assert_eq!(out, [b"before", want.unwrap_or(b"")].concat());
    }

    #[test]
    fn bodies_come_back() {
        check(&packed(TEXT), TEXT.len(), Ok(TEXT));
        check(&packed(b""), 0, Ok(b""));
        check(&with_header(FLAG_NAME, b"a.json\0"), 1000, Ok(TEXT));
        check(&with_header(FLAG_COMMENT, b"\0"), 1000, Ok(TEXT));
        check(&with_header(FLAG_EXTRA, b"\x03\0abc"), 1000, Ok(TEXT));
        check(&with_header(FLAG_HEADER_CRC, b""), 1000, Ok(TEXT));
        check(&with_header(0x1f, b"\x01\0\0n\0c\0"), 1000, Ok(TEXT));
        // Made by gzip(1): `printf hello | gzip -9 | xxd -i`.
        let foreign: &[u8] = &[
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0,
        ];
        check(foreign, 5, Ok(b"hello"));
        let mut unpacked = with_header(0, b"")[..10].to_vec();
        stored(TEXT, &mut unpacked);
        unpacked.extend_from_slice(&packed(TEXT)[packed(TEXT).len() - TRAILER..]);
        check(&unpacked, 1000, Ok(TEXT));
    }

    #[test]
    fn damage_is_seen() {
        let whole = packed(TEXT);
        for at in 0..whole.len() {
            check(&whole[..at], 1000, Err(InflateError::Truncated));
        }
        let changed = |at: usize, to: u8| {
            let mut out = whole.clone();
            out[at] ^= to;
            out
        };
        for at in [0, 1, 2] {
            check(&changed(at, 1), 1000, Err(InflateError::Broken));
        }
        check(&changed(3, 0x20), 1000, Err(InflateError::Broken));
        for back in 1..=TRAILER {
            check(&changed(whole.len() - back, 1), 1000, Err(InflateError::Broken));
        }
        let mut header = with_header(FLAG_HEADER_CRC, b"");
        header[4] ^= 1;
        check(&header, 1000, Err(InflateError::Broken));
        check(&[&whole[..], b"\0"].concat(), 1000, Err(InflateError::Broken));
        check(&[&whole[..], &whole[..]].concat(), 1000, Err(InflateError::Broken));
        check(TEXT, 1000, Err(InflateError::Broken));
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let bomb = packed(&vec![b' '; 64 << 20]);
        let mut inflate = Inflate::new();
        for max in [0, 1, 1000, 256 * 1024] {
            let mut out = Vec::new();
            assert_eq!(inflate.inflate(&bomb, &mut out, max), Err(InflateError::TooLarge));
            assert!(out.is_empty() && out.capacity() <= 2 * (max + 1).max(GROW), "{} for {max}", out.capacity());
        }
        let exact = noise(100_000);
        check(&packed(&exact), 100_000, Ok(&exact));
        check(&packed(&exact), 99_999, Err(InflateError::TooLarge));
    }

    #[test]
    fn what_is_packed_too_well_stops_long_before_the_bound() {
        // All of it may inflate to this; one byte more, and it may not.
        let free = vec![b' '; INFLATED_BYTES_FREE];
        check(&best(&free), 1 << 20, Ok(&free));
        let more = best(&[&free[..], b" "].concat());
        check(&more, 1 << 20, Err(InflateError::TooDense));
        check(&more, INFLATED_BYTES_FREE, Err(InflateError::TooLarge));
        let mut out = Vec::new();
        let bomb = best(&vec![b' '; 4 << 20]);
        assert_eq!(Inflate::new().inflate(&bomb, &mut out, 4 << 20), Err(InflateError::TooDense));
        assert!(out.capacity() <= 2 * (bomb.len() * INFLATED_RATIO_MAX + GROW), "{}", out.capacity());
        // With so much noise before the blanks that they come to a little less than a hundredfold, and to more.
        let blanks = vec![b' '; 1 << 20];
        let head = noise(blanks.len() / INFLATED_RATIO_MAX);
        let body = [&head[..], &blanks].concat();
        check(&best(&body), 2 << 20, Ok(&body));
        let body = [&head[..head.len() * 3 / 4], &blanks].concat();
        check(&best(&body), 2 << 20, Err(InflateError::TooDense));
    }

    #[test]
    fn one_codec_serves_many_bodies() {
        let (mut inflate, mut deflate, mut out) = (Inflate::new(), Deflate::new(), Vec::new());
        for round in 0..50usize {
            let body: Vec<u8> = TEXT.iter().copied().cycle().take(round * 1013).collect();
            let mut gz = Vec::new();
            deflate.gzip(&body, &mut gz);
            assert_eq!(inflate.inflate(&gz[..gz.len() / 2], &mut out, 1 << 20), Err(InflateError::Truncated));
            assert_eq!(inflate.inflate(&gz, &mut out, 1 << 20), Ok(()));
            assert_eq!(out, body);
            out.clear();
        }
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    #[test]
    fn what_cannot_be_packed_is_carried() {
        let noise = noise(300_000);
        check(&packed(&noise), noise.len(), Ok(&noise));
        let mut out = Vec::new();
        stored(&noise, &mut out);
        assert_eq!(out.len(), noise.len() + 5 * 5);
    }

    proptest! {
        #[test]
        fn any_bytes_terminate_within_the_bound(
            tail in prop::collection::vec(any::<u8>(), 0..200), flags in any::<u8>(), framed in any::<bool>()
        ) {
            let mut input = if framed { vec![0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0] } else { Vec::new() };
            input.extend(tail);
            let mut out = Vec::new();
            let _ = Inflate::new().inflate(&input, &mut out, 5000);
            prop_assert!(out.len() <= 5000);
        }
    }
}
