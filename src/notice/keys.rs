//! Secrets that sign notice URLs.
//! Owns: the secrets. Runs on: each bidder core. Called by: [`super::token`]. Never: shows a secret.
//!
//! A key has a number that stands in each URL. The first of a list signs, all of them are believed: a new one is put first,
//! and the old one is taken away when the last URL that it signed has expired.
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Keys at a time: one that signs, and those that URLs still out were signed with.
pub const KEYS_MAX: usize = 8;
/// Bytes of a secret, at least: as many as of the signature (RFC 2104 section 3 asks for no fewer).
pub const SECRET_MIN: usize = 16;
/// Bytes of a signature: HMAC-SHA-256, its first half (RFC 2104 section 5).
pub const MAC_BYTES: usize = 16;

/// Why a list of keys is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    /// Nothing could be signed.
    #[error("no key: one that signs is needed")]
    None,
    /// More than [`KEYS_MAX`].
    #[error("{0} keys; {KEYS_MAX} are possible: take away those whose URLs have expired")]
    TooMany(usize),
    /// Two have this number.
    #[error("two keys have the number {0}")]
    Twice(u8),
    /// Shorter than [`SECRET_MIN`].
    #[error("the secret of key {0} has fewer than {SECRET_MIN} bytes: `openssl rand -hex 32` makes one")]
    Short(u8),
}

/// Keys, the one that signs first.
#[derive(Clone)]
pub struct Keys(Vec<(u8, Hmac<Sha256>)>);

/// The same numbers and secrets, in the same order.
impl PartialEq for Keys {
    fn eq(&self, other: &Keys) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|((id, _), (other_id, _))| {
                id == other_id && self.sign(*id, b"the same?") == other.sign(*id, b"the same?")
            })
    }
}

impl std::fmt::Debug for Keys {
    /// The numbers alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Keys {
    /// Numbers and secrets, the one that signs first. Each secret is hashed here, once.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn new(keys: &[(u8, &[u8])]) -> Result<Keys, KeysError> {
        if keys.is_empty() {
            return Err(KeysError::None);
        }
        if keys.len() > KEYS_MAX {
            return Err(KeysError::TooMany(keys.len()));
        }
        let mut made: Vec<(u8, Hmac<Sha256>)> = Vec::with_capacity(keys.len());
        for (id, secret) in keys {
            if made.iter().any(|(known, _)| known == id) {
                return Err(KeysError::Twice(*id));
            }
            let usable = if secret.len() < SECRET_MIN { None } else { Hmac::new_from_slice(secret).ok() };
            made.push((*id, usable.ok_or(KeysError::Short(*id))?));
        }
        Ok(Keys(made))
    }

    /// The number of the one that signs.
    pub fn signing(&self) -> u8 {
        self.0.first().map_or(0, |(id, _)| *id)
    }

    /// The signature of these bytes; `None`: no such key.
    pub(super) fn sign(&self, id: u8, bytes: &[u8]) -> Option<[u8; MAC_BYTES]> {
        let whole = self.mac(id, bytes)?.finalize().into_bytes();
        whole.first_chunk().copied()
    }

    /// Is this the signature of these bytes? Takes as long whether it is or not. `None`: no such key.
    pub(super) fn verify(&self, id: u8, bytes: &[u8], mac: &[u8; MAC_BYTES]) -> Option<bool> {
        Some(self.mac(id, bytes)?.verify_truncated_left(mac).is_ok())
    }

    fn mac(&self, id: u8, bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let (_, key) = self.0.iter().find(|(known, _)| *known == id)?;
        let mut mac = key.clone();
        mac.update(bytes);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef";

    #[test]
    fn lists_that_are_none() {
        let many: Vec<_> = (0..9).map(|id| (id, SECRET)).collect();
        for (keys, why) in [
            (&[][..], KeysError::None),
            (&many, KeysError::TooMany(9)),
            (&[(3, SECRET), (3, SECRET)], KeysError::Twice(3)),
            (&[(3, &SECRET[1..])], KeysError::Short(3)),
        ] {
            assert_eq!(Keys::new(keys).map(drop), Err(why));
        }
    }

    /// RFC 4231 section 4.3, cut to half.
    #[test]
    fn it_is_hmac_sha_256() {
        let key = [0x0b; 20];
        let keys = Keys::new(&[(0, &key)]).expect("keys");
        let expected = [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b];
        assert_eq!(keys.sign(0, b"Hi There"), Some(expected));
        assert_eq!(keys.verify(0, b"Hi There", &expected), Some(true));
        assert_eq!(keys.verify(0, b"Hi there", &expected), Some(false));
        assert_eq!(keys.verify(1, b"Hi There", &expected), None);
    }

    #[test]
    fn no_secret_is_shown() {
        let keys = Keys::new(&[(7, SECRET), (2, b"another secret of ours")]).expect("keys");
        assert_eq!((format!("{keys:?}"), keys.signing()), ("[7, 2]".to_owned(), 7));
    }
}
