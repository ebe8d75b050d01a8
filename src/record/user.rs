//! What a record keeps of a person: a hash under a salt that is thrown away, or nothing and why.
//! Owns: nothing. Runs on: each bidder core, once an auction. Called by: [`crate::auction::Auction::begin`].
//! Never: writes an id down; draws a salt.
//!
//! Of `user.id`, else of `device.ifa`: enough to count one person's auctions of a day, for frequency and for fraud.
//! SipHash-2-4 under 128 secret bits (Aumasson and Bernstein, 2012): whoever has the record and not the salt cannot try
//! ids until one fits, and whoever has neither any more (the salt is drawn anew each day and the old one forgotten)
//! has numbers that stand for nobody. An exchange's `user.id` is hashed with the exchange's name, so that two
//! exchanges' people do not meet; `ifa` is the same everywhere, and its hash too.
//!
//! Kept is nothing under `regs.coppa`, `device.lmt`, and where `regs.gdpr` is 1 and no TCF string consents to
//! measurement (purpose 7). Whether the string consents to *us* is not looked at: we have no number in the vendor list
//! yet. Neither is a US opt-out: those laws limit sale and sharing, and nobody is given this hash.
use crate::openrtb::{request::Request, text::Text};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// What makes hashes of one day comparable with each other and with nothing else. Drawn by control from the system's
/// randomness when the process starts and at each midnight UTC, handed to every core, kept in memory only.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Salt {
    /// Names it in records: two hashes of one node are comparable if it is the same. Seconds since 1970 when it was drawn; 0
    /// is no salt, and nothing is kept.
    pub id: u32,
    /// The secret.
    pub key: [u64; 2],
}

impl Salt {
    /// No salt: nothing is kept of anybody.
    pub const NONE: Salt = Salt { id: 0, key: [0; 2] };
}

impl std::fmt::Debug for Salt {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salt").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a record says of the person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum User {
    /// Nothing: there was no id.
    #[default]
    Unknown,
    /// Nothing: `regs.coppa`.
    Coppa,
    /// Nothing: `device.lmt`.
    Lmt,
    /// Nothing: `regs.gdpr` without consent.
    NoConsent,
    /// Nothing: there was no salt to hash with.
    NoSalt,
    /// Somebody.
    Hashed {
        /// [`Salt::id`]
        salt: u32,
        /// SipHash-2-4 of what the module says.
        hash: u64,
    },
}

impl User {
    /// What may be kept of the person behind a request.
    pub fn of(request: &Request, body: &[u8], exchange: &str, salt: &Salt) -> User {
        let ifa = Some(request.ifa).filter(|ifa| !is_nobody(*ifa, body));
        let (id, whose) = match (request.user_id.is_empty(), ifa) {
            (false, _) => (request.user_id, exchange),
            (true, Some(ifa)) => (ifa, ""),
            (true, None) => return User::Unknown,
        };
        if request.coppa {
            User::Coppa
        } else if request.lmt {
            User::Lmt
        } else if request.gdpr == Some(true) && !consents(request.consent.raw(body)) {
            User::NoConsent
        } else if salt.id == 0 {
            User::NoSalt
        } else {
            let mut hasher = SipHasher24::new_with_keys(salt.key[0], salt.key[1]);
            // A name holds no zero byte: what is before it and what is behind it cannot be mistaken for each other.
            hasher.write(whose.as_bytes());
            hasher.write(&[0]);
            if id.escaped() {
                id.bytes(body).for_each(|b| hasher.write(&[b]));
            } else {
                hasher.write(id.raw(body));
            }
            User::Hashed { salt: salt.id, hash: hasher.finish() }
        }
    }
}

/// Empty, or the zeros that stand for a switched-off advertising id.
fn is_nobody(ifa: Text, body: &[u8]) -> bool {
    ifa.raw(body).iter().all(|b| matches!(b, b'0' | b'-'))
}

/// Does a TCF string (version 2, core segment) carry consent to purpose 7, "measure advertising performance"? Its bits are
/// six to a character of base64url; purposes begin at bit 152, so the seventh is bit 158: the third of character 26.
fn consents(tc: &[u8]) -> bool {
    let sextet = |at: usize| match *tc.get(at)? {
        c @ b'A'..=b'Z' => Some(c - b'A'),
        c @ b'a'..=b'z' => Some(c - b'a' + 26),
        c @ b'0'..=b'9' => Some(c - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    sextet(0) == Some(2) && sextet(26).is_some_and(|six| six >> 3 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper's example (appendix A).
    #[test]
    fn it_is_siphash_2_4() {
        let mut hasher = SipHasher24::new_with_keys(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        hasher.write(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
        assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
    }

    /// A core segment with these purposes consented to, made by the bit.
    fn tc(version: u64, purposes: &[usize]) -> String {
        let mut bits = vec![false; 216];
        for (i, bit) in bits[..6].iter_mut().enumerate() {
            *bit = version >> (5 - i) & 1 == 1;
        }
        purposes.iter().for_each(|p| bits[152 + p - 1] = true);
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        bits.chunks(6).map(|six| alphabet[six.iter().fold(0, |n, &b| n << 1 | usize::from(b))] as char).collect()
    }

    const SALT: Salt = Salt { id: 20_778, key: [1, 2] };

    fn of(body: &str, exchange: &str, salt: &Salt) -> User {
        let body = body.replacen('{', r#"{"id":"r","imp":[{"id":"1","banner":{}}],"#, 1);
        let mut request = Request::default();
        request.parse(body.as_bytes(), 0, &Default::default()).unwrap_or_else(|e| panic!("{body}: {e:?}"));
        User::of(&request, body.as_bytes(), exchange, salt)
    }

    #[test]
    fn nothing_is_kept_where_it_may_not_be() {
        let with = |more: &str| of(&format!(r#"{{"user":{{"id":"u"}}{more}}}"#), "x", &SALT);
        let consent =
            |tc: &str| of(&format!(r#"{{"user":{{"id":"u","consent":"{tc}"}},"regs":{{"gdpr":1}}}}"#), "x", &SALT);
        let hashed = |user| matches!(user, User::Hashed { salt: 20_778, .. });
        assert!(hashed(with("")));
        assert_eq!(with(r#","regs":{"coppa":1}"#), User::Coppa);
        assert_eq!(with(r#","device":{"lmt":1}"#), User::Lmt);
        assert_eq!(with(r#","regs":{"gdpr":1}"#), User::NoConsent);
        assert!(hashed(with(r#","regs":{"gdpr":0}"#)));
        assert_eq!(consent(&tc(2, &[])), User::NoConsent);
        assert_eq!(consent(&tc(2, &[1, 2, 3, 4, 5, 6, 8, 9, 10])), User::NoConsent);
        assert!(hashed(consent(&tc(2, &[7]))));
        assert_eq!(consent(&tc(1, &[7])), User::NoConsent, "version 1 is no more");
        assert_eq!(consent("C"), User::NoConsent);
        assert_eq!(consent(&"!".repeat(40)), User::NoConsent);
        assert_eq!(of(r#"{"user":{"id":"u"}}"#, "x", &Salt::NONE), User::NoSalt);
        for nobody in ["", "0", "00000000-0000-0000-0000-000000000000"] {
            assert_eq!(of(&format!(r#"{{"device":{{"ifa":"{nobody}"}}}}"#), "x", &SALT), User::Unknown, "{nobody}");
        }
        assert_eq!(of("{\"test\":0}", "x", &SALT), User::Unknown);
    }

    #[test]
    fn hashes_tell_people_exchanges_and_days_apart() {
        let user = r#"{"user":{"id":"u1"},"device":{"ifa":"AEBE52E7"}}"#;
        let device = r#"{"device":{"ifa":"AEBE52E7"}}"#;
        assert_eq!(of(user, "x", &SALT), of(r#"{"user":{"id":"\u00751"}}"#, "x", &SALT), "however it is written");
        assert_ne!(of(user, "x", &SALT), of(user, "y", &SALT), "another exchange's people");
        assert_eq!(of(device, "x", &SALT), of(device, "y", &SALT), "a device is the same everywhere");
        assert_ne!(of(user, "x", &SALT), of(device, "x", &SALT), "user.id goes first");
        assert_ne!(of(user, "x", &SALT), of(r#"{"user":{"id":"u2"}}"#, "x", &SALT));
        assert_ne!(of(user, "x", &SALT), of(user, "x", &Salt { key: [1, 3], ..SALT }));
        assert!(!format!("{SALT:?}").contains("key"), "the secret stays out of logs");
    }
}
