//! Looks at many bytes of a JSON text at once: sixteen with vector instructions that every machine we build for has,
//! eight in a word.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `json`. Never: reads beyond what it is given.
use wide::u8x16;

/// Bytes of a [`Block`].
pub(super) const BLOCK: usize = 32;

/// As many bytes as one look at a long string takes.
pub(super) type Block = [u8; BLOCK];

/// One bit for each byte, the first lowest: is it one that strings may not simply hold? A quote, a backslash, or
/// a control byte.
#[inline(always)]
pub(super) fn marks(bytes: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*bytes);
    // With one bit turned the quote stands right behind the control bytes.
    let turned = bytes ^ u8x16::splat(b'"' ^ 0x20);
    let quote_or_control = turned.min(u8x16::splat(0x20)).cmp_eq(turned);
    let backslash = bytes.cmp_eq(u8x16::splat(b'\\'));
    (quote_or_control | backslash).move_mask() as u32
}

/// The same of a block.
#[inline(always)]
pub(super) fn block_marks(block: &Block) -> u64 {
    let ([low, high], _) = block.as_chunks::<16>() else { return 0 };
    u64::from(marks(low) | marks(high) << 16)
}

/// How many of the bytes, from the first on, are white space.
#[inline(always)]
pub(super) fn spaces(bytes: &[u8; 16]) -> usize {
    let bytes = u8x16::new(*bytes);
    let [space, tab, feed, end] = [b' ', b'\t', b'\n', b'\r'].map(|b| bytes.cmp_eq(u8x16::splat(b)));
    (space | tab | feed | end).move_mask().trailing_ones() as usize
}

/// How many of the word's bytes, from the lowest on, are decimal digits.
#[inline(always)]
pub(super) fn digits(word: u64) -> usize {
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let values = word ^ u64::from_ne_bytes([b'0'; 8]);
    // What is 10 or more reaches the top bit or has it already. A carry marks only bytes above one that is marked.
    let others = (values.wrapping_add(u64::from_ne_bytes([0x76; 8])) | values) & TOPS;
    (others.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mark_for_each_byte_that_is_one(bytes: Block, ours: u32, which: [bool; BLOCK]) {
            let mut bytes = bytes;
            for (i, byte) in bytes.iter_mut().enumerate().filter(|(i, _)| ours >> i & 1 == 1) {
                *byte = if which[i] { b'"' } else { b'\\' };
            }
            let mark = |b: &u8| matches!(b, b'"' | b'\\' | 0..0x20);
            let want = bytes.iter().enumerate().fold(0, |all, (i, b)| all | u64::from(mark(b)) << i);
            prop_assert_eq!(block_marks(&bytes), want);
        }

        #[test]
        fn spaces_end_at_the_first_other_byte(bytes: [u8; 16], ours: u16, which: [usize; 16]) {
            let mut bytes = bytes;
            for (i, byte) in bytes.iter_mut().enumerate().filter(|(i, _)| ours >> i & 1 == 1) {
                *byte = b" \t\n\r"[which[i] % 4];
            }
            let want = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
            prop_assert_eq!(spaces(&bytes), want);
        }

        #[test]
        fn digits_end_at_the_first_other_byte(bytes: [u8; 8], ours: u8) {
            let mut bytes = bytes;
            for (_, byte) in bytes.iter_mut().enumerate().filter(|(i, _)| ours >> i & 1 == 1) {
                *byte = b'0' + *byte % 10;
            }
            let want = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
            prop_assert_eq!(digits(u64::from_le_bytes(bytes)), want);
        }
    }
}
