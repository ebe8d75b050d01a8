//! Bytes as one word: hashes of numbers and of texts, and what they are made of.
//! Owns: nothing. Never: allocates, or keeps secrets: who knows the seed of a hash can find two texts that have it.

/// A well-mixed 64-bit hash step (the finaliser of SplitMix64): ties, entropy streams, tests.
pub const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of bytes under a seed, eight at a step: a list of a hundred domains in a microsecond. Whoever knows the seed can
/// find two texts of one hash.
pub fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    // The length is in the start, so the rest needs no padding.
    mix(hash_on(mix(seed ^ (bytes.len() as u64) << 48), bytes))
}

/// A hash goes on with these bytes: for texts one behind the other, with one start, in which their lengths are, and one
/// [`mix`] at the end. Its values stand in records.
#[inline]
fn hash_on(hash: u64, bytes: &[u8]) -> u64 {
    let step = |h: u64, word: u64| (h ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    step(words.iter().fold(hash, |h, w| step(h, u64::from_le_bytes(*w))), rest_word(bytes, rest))
}

/// A hash goes on with these bytes, sixteen at a step, its halves as good as each other: for tables in memory alone.
#[inline]
pub(crate) fn fold_on(hash: u64, bytes: &[u8]) -> u64 {
    let fold = |h: u64, a: u64, b: u64| {
        let product = u128::from(a ^ h) * u128::from(b ^ 0x9e37_79b9_7f4a_7c15);
        (product >> 64) as u64 ^ product as u64
    };
    let sixteen = |h: u64, at: &[u8; 16]| {
        let both = u128::from_le_bytes(*at);
        fold(h, both as u64, (both >> 64) as u64)
    };
    let h = hash ^ bytes.len() as u64;
    // What is left behind whole sixteens is read from the end, which may overlap. Most names are short, or as long as UUIDs.
    let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) else {
        return match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(first), Some(last)) => fold(h, u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => fold(h, rest_word(bytes, bytes), 0),
        };
    };
    let h = sixteen(h, first);
    let h = match &bytes[16..] {
        short if short.len() <= 16 => h,
        longer => match longer.first_chunk::<16>() {
            Some(second) if longer.len() <= 32 => sixteen(h, second),
            _ => longer[..longer.len() - 1].as_chunks::<16>().0.iter().fold(h, sixteen),
        },
    };
    sixteen(h, last)
}

/// Are these the same bytes? For short texts, where a call costs more than the comparison.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    // The first so many bytes and the last, which may overlap.
    fn ends<const N: usize>(a: &[u8], b: &[u8]) -> bool {
        (a.first_chunk::<N>(), a.last_chunk::<N>()) == (b.first_chunk::<N>(), b.last_chunk::<N>())
    }
    a.len() == b.len()
        && match a.len() {
            8..16 => ends::<8>(a, b),
            32..=64 => ends::<32>(a, b),
            16..32 => ends::<16>(a, b),
            4..8 => ends::<4>(a, b),
            _ => a == b,
        }
}

/// The bytes of `rest`, fewer than eight at the end of `bytes`, as one number, the first highest. Where there are eight
/// bytes or four to be read at once they are: how many remain is nothing that could be foretold.
#[inline]
fn rest_word(bytes: &[u8], rest: &[u8]) -> u64 {
    let low = |word: u64, bytes: usize| word & ((1 << (8 * bytes)) - 1);
    if let Some(last) = bytes.last_chunk::<8>() {
        return low(u64::from_be_bytes(*last), rest.len());
    }
    if let (Some(first), Some(last)) = (rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        let behind = rest.len() - 4;
        let (first, last) = (u64::from(u32::from_be_bytes(*first)), u64::from(u32::from_be_bytes(*last)));
        return first << (8 * behind) | low(last, behind);
    }
    rest.iter().fold(0, |word, b| word << 8 | u64::from(*b))
}

/// The first eight bytes, or all if there are fewer, as one number: the last of them is the lowest.
#[inline]
pub(crate) fn short_word(bytes: &[u8]) -> u64 {
    bytes.first_chunk::<8>().map_or_else(|| rest_word(bytes, bytes), |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_remains_is_read_as_byte_by_byte(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let rest = bytes.as_chunks::<8>().1;
            let want = rest.iter().fold(0, |word, b| word << 8 | u64::from(*b));
            prop_assert_eq!(rest_word(&bytes, rest), want);
        }

        #[test]
        fn same_is_equal(a in proptest::collection::vec(0u8..2, 0..40), other in proptest::collection::vec(0u8..2, 0..40), at: usize) {
            prop_assert!(same(&a, &a.clone()));
            prop_assert_eq!(same(&a, &other), a == other);
            let mut b = a.clone();
            if let Some(byte) = at.checked_rem(a.len()).and_then(|at| b.get_mut(at)) {
                *byte ^= 128;
                prop_assert!(!same(&a, &b));
            }
        }

        #[test]
        fn a_short_word_is_the_first_eight_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let want = bytes.iter().take(8).fold(0, |word, b| word << 8 | u64::from(*b));
            prop_assert_eq!(short_word(&bytes), want);
        }
    }
}
