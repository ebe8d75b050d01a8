//! How payloads become bytes and are read back: little-endian, checked, without allocation of its own.
//! Owns: nothing. Runs on: whoever writes or reads records. Called by: every payload's module.
//! Never: panics on what it reads; knows what a field means.
//!
//! A payload is a row of blocks of fixed length ([`Block`]), each followed by what it announces: parts that are there
//! only when a flag says so, texts whose lengths it holds. Prices and spans of time take [`U40_BYTES`] bytes, as
//! [`Cpm::MAX`] fits in.
use crate::{
    openrtb::request::{Media, Run},
    units::{Cpm, Currency, EventId, Money, Multiplier, Rate},
};

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// Its version is another release's.
    #[error("unknown version")]
    Version,
    /// It ends early.
    #[error("cut short")]
    Short,
    /// A number that stands for nothing, or for more than there can be.
    #[error("impossible value")]
    Value,
    /// Something follows it.
    #[error("bytes left over")]
    Trailing,
}

/// Bytes of a number up to [`U40_MAX`].
pub(crate) const U40_BYTES: usize = 5;
/// The largest that 40 bits hold.
pub(crate) const U40_MAX: u64 = (1 << 40) - 1;
/// Bytes of an event id.
pub(crate) const EVENT_BYTES: usize = 4 + 4 + 2 + 8;

const _: () = assert!(Cpm::MAX.0 < U40_MAX as i64, "a price fits in 40 bits, with a value to spare");

/// Flags as the bits of a byte, the first lowest.
#[inline]
pub(crate) fn flags<const N: usize>(set: [bool; N]) -> u8 {
    const { assert!(N <= 8) };
    set.iter().rev().fold(0, |all, &f| all << 1 | u8::from(f))
}

// --- writing -------------------------------------------------------------------------------------

/// `N` bytes that are put together before they are appended: the places are known when it is compiled, so that a block
/// costs its stores and one copy. What is not written stays zero.
pub(crate) struct Block<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Block<N> {
    #[inline(always)]
    pub(crate) fn new() -> Block<N> {
        Block { bytes: [0; N], at: 0 }
    }

    #[inline(always)]
    pub(crate) fn bytes<const M: usize>(&mut self, bytes: [u8; M]) -> &mut Self {
        self.bytes[self.at..self.at + M].copy_from_slice(&bytes);
        self.at += M;
        self
    }
    #[inline(always)]
    pub(crate) fn u8(&mut self, n: u8) -> &mut Self {
        self.bytes([n])
    }
    #[inline(always)]
    pub(crate) fn u16(&mut self, n: u16) -> &mut Self {
        self.bytes(n.to_le_bytes())
    }
    #[inline(always)]
    pub(crate) fn u32(&mut self, n: u32) -> &mut Self {
        self.bytes(n.to_le_bytes())
    }
    /// What is above [`U40_MAX`] is that.
    #[inline(always)]
    pub(crate) fn u40(&mut self, n: u64) -> &mut Self {
        let [a, b, c, d, e, ..] = n.min(U40_MAX).to_le_bytes();
        self.bytes([a, b, c, d, e])
    }
    #[inline(always)]
    pub(crate) fn u64(&mut self, n: u64) -> &mut Self {
        self.bytes(n.to_le_bytes())
    }
    #[inline(always)]
    pub(crate) fn event(&mut self, e: EventId) -> &mut Self {
        self.u32(e.node).u32(e.epoch).u16(e.core).u64(e.seq)
    }
    #[inline(always)]
    pub(crate) fn cpm(&mut self, n: Cpm) -> &mut Self {
        self.u40(n.0.max(0) as u64)
    }
    #[inline(always)]
    pub(crate) fn run(&mut self, r: Run) -> &mut Self {
        self.u16(r.at).u16(r.len)
    }

    /// Appends the block. All of it was written.
    #[inline(always)]
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        debug_assert_eq!(self.at, N, "a block is written whole");
        out.extend_from_slice(&self.bytes);
    }
}

/// Appends a text of at most 255 bytes behind its length; what is longer is cut between characters.
pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    let len = (0..=text.len().min(TEXT_MAX)).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
    out.push(len as u8);
    out.extend_from_slice(&text.as_bytes()[..len]);
}

/// Longest text of [`put_text`].
pub(crate) const TEXT_MAX: usize = 255;

// --- reading -------------------------------------------------------------------------------------

pub(crate) type Read<T> = Result<T, RecordError>;

/// What is left to be read.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(head)
    }
    pub(crate) fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| RecordError::Short)
    }
    /// Nothing may be left.
    pub(crate) fn end(&self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::Trailing) }
    }
    pub(crate) fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }
    pub(crate) fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub(crate) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(crate) fn u40(&mut self) -> Read<u64> {
        let [a, b, c, d, e] = self.array()?;
        Ok(u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]))
    }
    pub(crate) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub(crate) fn count8(&mut self, max: usize) -> Read<usize> {
        Some(self.u8()? as usize).filter(|n| *n <= max).ok_or(RecordError::Value)
    }
    pub(crate) fn count16(&mut self, max: usize) -> Read<usize> {
        Some(self.u16()? as usize).filter(|n| *n <= max).ok_or(RecordError::Value)
    }
    pub(crate) fn flags<const N: usize>(&mut self) -> Read<[bool; N]> {
        let byte = self.u8()?;
        if u32::from(byte) >> N != 0 {
            return Err(RecordError::Value);
        }
        Ok(std::array::from_fn(|i| byte >> i & 1 == 1))
    }
    /// Prices are what [`Cpm::parse`] lets through, so that sums of them stay inside 64 bits.
    pub(crate) fn cpm(&mut self) -> Read<Cpm> {
        price(self.u40()?)
    }
    /// The same of a record of version 1.
    pub(crate) fn cpm64(&mut self) -> Read<Cpm> {
        price(self.u64()?)
    }
    pub(crate) fn money(&mut self) -> Read<Money> {
        i64::try_from(self.u64()?).map(Money).map_err(|_| RecordError::Value)
    }
    pub(crate) fn rate(&mut self) -> Read<Rate> {
        Some(Rate(self.u64()?)).filter(|r| Rate::RANGE.contains(&r.0)).ok_or(RecordError::Value)
    }
    pub(crate) fn qty(&mut self) -> Read<Multiplier> {
        let n = self.u64()?;
        Some(Multiplier(n)).filter(|q| (1..=Multiplier::MAX.0).contains(&q.0)).ok_or(RecordError::Value)
    }
    pub(crate) fn currency(&mut self) -> Read<Currency> {
        Currency::parse(&self.array::<3>()?).ok_or(RecordError::Value)
    }
    pub(crate) fn media(&mut self) -> Read<Media> {
        Some(Media(self.u8()?)).filter(|m| m.0 <= Media::ALL.0).ok_or(RecordError::Value)
    }
    pub(crate) fn event(&mut self) -> Read<EventId> {
        Ok(EventId { node: self.u32()?, epoch: self.u32()?, core: self.u16()?, seq: self.u64()? })
    }
    pub(crate) fn run(&mut self) -> Read<Run> {
        Ok(Run { at: self.u16()?, len: self.u16()? })
    }
    /// What [`put_text`] wrote.
    pub(crate) fn text(&mut self) -> Read<&'a str> {
        let len = usize::from(self.u8()?);
        std::str::from_utf8(self.take(len)?).map_err(|_| RecordError::Value)
    }
}

fn price(n: u64) -> Read<Cpm> {
    if n <= Cpm::MAX.0 as u64 { Ok(Cpm(n as i64)) } else { Err(RecordError::Value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_little_endian_and_numbers_saturate() {
        let mut out = Vec::new();
        Block::<14>::new()
            .u8(1)
            .u16(0x0302)
            .u40(u64::MAX)
            .u40(0x08_0706_0504)
            .u8(flags([true, false, true]))
            .end(&mut out);
        assert_eq!(out, [1, 2, 3, 255, 255, 255, 255, 255, 4, 5, 6, 7, 8, 5]);
        let mut r = Reader { rest: &out };
        assert_eq!((r.u8(), r.u16(), r.u40(), r.u40()), (Ok(1), Ok(0x302), Ok(U40_MAX), Ok(0x08_0706_0504)));
        assert_eq!((r.flags::<3>(), r.u8()), (Ok([true, false, true]), Err(RecordError::Short)));
        assert_eq!(Reader { rest: &[8] }.flags::<3>(), Err(RecordError::Value));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let mut out = Vec::new();
        put_text(&("a".to_owned() + &"\u{20ac}".repeat(100)), &mut out);
        let mut r = Reader { rest: &out };
        assert_eq!((r.text().map(str::len), r.end()), (Ok(253), Ok(())));
        assert_eq!(Reader { rest: &[2, 0xff, 0xff] }.text(), Err(RecordError::Value));
        assert_eq!(Reader { rest: &[3, b'a'] }.text(), Err(RecordError::Short));
    }
}
