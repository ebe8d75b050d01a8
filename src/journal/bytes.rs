//! Little-endian numbers in fixed places.
//! Owns: nothing. Called by: everything that encodes or decodes a part of the journal. Never: is given a place outside
//! of the bytes by what was read: lengths are checked before.

/// The bytes at `at`.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// The number at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

/// The number at `at`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

/// The number at `at`.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Puts bytes at `at`.
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Is every byte zero? In words: a start looks through pages by the hundred thousand for what stands behind the end.
pub(super) fn zero(bytes: &[u8]) -> bool {
    let words = bytes.chunks_exact(16);
    let rest = words.remainder();
    words.fold(0, |all, word| all | u128::from_le_bytes(array(word, 0))) == 0 && rest.iter().all(|&b| b == 0)
}
