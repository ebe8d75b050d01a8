//! Keys of objects, and which of them are known: a key of up to 16 bytes is two numbers, which are quick to compare.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `json`, the readers of `openrtb`. Never: looks at a key twice.
use crate::openrtb::text::Text;

/// The key of a member.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Where its opening quote stands: the member begins there.
    pub at: u32,
    /// Its characters, if they are few: what [`pack`] makes of them. No known key is this zero.
    pub packed: (u64, u64),
    /// The inside of its quotes.
    pub text: Text,
}

/// A key of up to 16 bytes as two numbers, so that known ones are found by comparing numbers.
pub const fn pack(key: &str) -> (u64, u64) {
    let key = key.as_bytes();
    assert!(!key.is_empty() && key.len() <= 16);
    let mut all = 0u128;
    let mut i = key.len();
    while i > 0 {
        i -= 1;
        all = all << 8 | key[i] as u128;
    }
    (all as u64, (all >> 64) as u64)
}

/// The keys of one object that are read.
pub trait Known: Copy {
    /// Which of them is this key?
    fn of(key: &Key) -> Option<Self>;
    /// One bit, another for each of them.
    fn bit(self) -> u64;
}

/// Declares the keys of one object that are read: an enum that is [`Known`].
macro_rules! keys {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        #[repr(u8)]
        enum $name { $($variant),+ }

        impl $crate::json::Known for $name {
            #[inline]
            #[allow(non_upper_case_globals)]
            fn of(key: &$crate::json::Key) -> Option<$name> {
                $(const $variant: (u64, u64) = $crate::json::pack($text);)+
                match key.packed {
                    $($variant => Some($name::$variant),)+
                    _ => None,
                }
            }

            #[inline]
            fn bit(self) -> u64 {
                1 << self as u8
            }
        }
    };
}
pub(crate) use keys;
