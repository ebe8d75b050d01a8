//! A price that only its DSP can read, in the 28 bytes that the field agrees on, spelled in web-safe base64 without padding.
//! Owns: a DSP's two keys. Runs on: each bidder core, once for each macro that asks for it. Called by: the answer's macros.
//! Never: shows a key.
//!
//! ```text
//! 16  initialization vector: seconds u32, microseconds u32, server u64, big-endian; different for each price
//!  8  price XOR first half of HMAC-SHA-1(encryption key, vector): micro-units CPM, u64 big-endian
//!  4  start of HMAC-SHA-1(integrity key, price, vector)
//! ```
//! The receiver checks the signature and that the vector is recent and new. SHA-1 is the field's choice: what it has to
//! withstand here is somebody who sees prices for minutes, not a collision.
use crate::units::Cpm;
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Characters of a sealed price.
pub const SEALED_LEN: usize = 38;
/// Bytes of a key, at least and at most; 32 are usual.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// The keys of one DSP.
#[derive(Clone)]
pub struct Seal {
    encryption: Hmac<Sha1>,
    integrity: Hmac<Sha1>,
}

/// The same keys.
impl PartialEq for Seal {
    fn eq(&self, other: &Seal) -> bool {
        let marks = |seal: &Seal| [&seal.encryption, &seal.integrity].map(|key| first::<20>(key, &[b"the same?"]));
        marks(self) == marks(other)
    }
}

impl std::fmt::Debug for Seal {
    /// That there is one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// With the keys that the DSP was given; `None`: one is shorter or longer than [`KEY_BYTES`].
    pub fn new(encryption: &[u8], integrity: &[u8]) -> Option<Seal> {
        let key = |bytes: &[u8]| if KEY_BYTES.contains(&bytes.len()) { Hmac::new_from_slice(bytes).ok() } else { None };
        Some(Seal { encryption: key(encryption)?, integrity: key(integrity)? })
    }

    /// Appends a price, sealed under this vector, which no other price of this DSP may have.
    pub fn write(&self, price: Cpm, vector: &[u8; 16], out: &mut Vec<u8>) {
        let price = (price.0.max(0) as u64).to_be_bytes();
        let pad = first::<8>(&self.encryption, &[vector]);
        let mut bytes = [0; 28];
        bytes[..16].copy_from_slice(vector);
        for (i, (p, pad)) in price.iter().zip(pad).enumerate() {
            bytes[16 + i] = p ^ pad;
        }
        bytes[24..].copy_from_slice(&first::<4>(&self.integrity, &[&price, vector]));
        let from = out.len();
        out.extend_from_slice(&bytes);
        super::token::spell(out, from);
    }
}

/// The vector of a price: when it was written, and for what.
pub fn vector(wall_ms: u64, micros: u32, of: u64) -> [u8; 16] {
    let mut vector = [0; 16];
    vector[..4].copy_from_slice(&((wall_ms / 1_000) as u32).to_be_bytes());
    vector[4..8].copy_from_slice(&(((wall_ms % 1_000) as u32 * 1_000 + micros % 1_000).to_be_bytes()));
    vector[8..].copy_from_slice(&of.to_be_bytes());
    vector
}

fn first<const N: usize>(key: &Hmac<Sha1>, parts: &[&[u8]]) -> [u8; N] {
    let mut mac = key.clone();
    parts.iter().for_each(|part| mac.update(part));
    // Twenty bytes, of which no more than eight are used.
    mac.finalize().into_bytes().first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys and vectors of the scheme's published examples.
    const ENCRYPTION: &str = "skU7Ax_NL5pPAFyKdkfZjZz2-VhIN8bjj1rVFOaJ_5o";
    const INTEGRITY: &str = "arO23ykdNqUQ5LEoQ0FVmPkBd7xB5CO89PDZlSjpFxo";

    fn seal() -> Seal {
        let bytes = |text: &str| {
            let mut out = Vec::new();
            super::super::token::unspell(text.as_bytes(), &mut out).expect("base64url");
            out
        };
        Seal::new(&bytes(ENCRYPTION), &bytes(INTEGRITY)).expect("keys")
    }

    #[test]
    fn published_examples() {
        for (price, expected) in [
            (100, "YWJjMTIzZGVmNDU2Z2hpN7fhCuPemCce_6msaw"),
            (1_900, "YWJjMTIzZGVmNDU2Z2hpN7fhCuPemCAWJRxOgA"),
            (2_700, "YWJjMTIzZGVmNDU2Z2hpN7fhCuPemC32prpWWw"),
        ] {
            let mut out = b"p=".to_vec();
            seal().write(Cpm(price), b"abc123def456ghi7", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("p={expected}"));
            assert_eq!(out.len(), 2 + SEALED_LEN);
        }
    }

    #[test]
    fn keys_have_their_lengths_and_are_not_shown() {
        for (len, good) in [(15, false), (16, true), (32, true), (64, true), (65, false)] {
            let key = vec![1; len];
            assert_eq!(
                (Seal::new(&key, &[0; 32]).is_some(), Seal::new(&[0; 32], &key).is_some()),
                (good, good),
                "{len}"
            );
        }
        assert_eq!(format!("{:?}", seal()), "Seal");
    }

    #[test]
    fn a_vector_says_when() {
        let vector = vector(1_700_000_000_123, 45_678, 7);
        assert_eq!(vector[..4], 1_700_000_000u32.to_be_bytes());
        assert_eq!(vector[4..8], 123_678u32.to_be_bytes());
        assert_eq!(vector[8..], 7u64.to_be_bytes());
    }
}
