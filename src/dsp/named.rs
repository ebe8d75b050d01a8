//! Texts of a configuration, each with the set of DSPs that named it.
//! Owns: one table. Runs on: made beside the hot path, read on each bidder core. Called by: [`super::targets`].
//! Never: allocates when asked. A text that merely has the hash of another is not taken for it.
use super::targets::Set;
use crate::{
    limits::RECORD_TEXT_MAX,
    openrtb::text::Text,
    units::{hash_bytes, mix, short_word},
};

/// Longest text that can be named, in bytes: [`RECORD_TEXT_MAX`] characters.
const TEXT_BYTES: usize = 4 * RECORD_TEXT_MAX;
/// Longest code: `IAB26-40`.
const CODE_BYTES: usize = 8;

/// How codes are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Case {
    /// Letters of ASCII in any case; named in upper case.
    #[default]
    Upper,
    /// The part before a dash (`en-GB`), in any case; named in lower case.
    Lower,
}

/// Countries, languages or categories: each is one number, its bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Codes {
    case: Case,
    /// Open addressing, at most half of them taken; nobody wants a free one.
    slots: Vec<(u64, Set)>,
}

/// A code of a request: all of it, and the part before its dash if it has one; 0: none that can be named.
struct Code {
    whole: u64,
    above: u64,
}

/// This in each byte.
const fn each(byte: u8) -> u64 {
    0x0101_0101_0101_0101 * byte as u64
}

/// The high bit of each byte that is zero.
#[inline]
fn zeros(word: u64) -> u64 {
    !((word & each(0x7f)).wrapping_add(each(0x7f)) | word | each(0x7f))
}

/// Letters of ASCII in upper case, in each byte.
#[inline]
fn upper(word: u64) -> u64 {
    let low = word & each(0x7f);
    let (from_a, above_z) = (low + each(0x80 - b'a'), low + each(0x7f - b'z'));
    word ^ (from_a & !above_z & !word & each(0x80)) >> 2
}

impl Codes {
    /// Of codes and who named them; a code may come several times.
    pub(super) fn new<'a>(case: Case, all: impl Iterator<Item = (&'a str, Set)> + Clone) -> Codes {
        let count = all.clone().count();
        if count == 0 {
            return Codes::default();
        }
        let mut codes = Codes { case, slots: vec![(0, 0); (2 * count).next_power_of_two()] };
        for (text, dsps) in all {
            let code = codes.code(text.as_bytes()).whole;
            if code != 0 && dsps != 0 {
                let at = codes.place(code);
                codes.slots[at].0 = code;
                codes.slots[at].1 |= dsps;
            }
        }
        codes
    }

    /// Nothing is named.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline]
    fn place(&self, code: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (mix(code) >> 32) as usize & mask;
        // At least half of the slots are free: this ends.
        while self.slots[at].1 != 0 && self.slots[at].0 != code {
            at = (at + 1) & mask;
        }
        at
    }

    /// All bytes at once, in one word.
    #[inline]
    fn code(&self, bytes: &[u8]) -> Code {
        let len = bytes.len().min(CODE_BYTES);
        let word = short_word(bytes);
        // A byte that no code has would make two of them one.
        if len == 0 || zeros(word) << (64 - 8 * len) != 0 {
            return Code { whole: 0, above: 0 };
        }
        let dashes = zeros(word ^ each(b'-'));
        let before = if dashes == 0 { 0 } else { word >> (56 - dashes.leading_zeros() / 8 * 8) >> 8 };
        let fits = |word| if bytes.len() > CODE_BYTES { 0 } else { word };
        match self.case {
            Case::Upper => Code { whole: fits(upper(word)), above: upper(before) },
            // Letters differ in one bit.
            Case::Lower if dashes != 0 => Code { whole: upper(before), above: 0 },
            Case::Lower => Code { whole: fits(upper(word)), above: 0 },
        }
    }

    #[inline]
    fn read(&self, text: Text, body: &[u8]) -> Code {
        if text.escaped() { self.read_escaped(text, body) } else { self.code(text.raw(body)) }
    }

    #[cold]
    fn read_escaped(&self, text: Text, body: &[u8]) -> Code {
        // One byte more than any code has tells that it is longer.
        let (mut room, mut len) = ([0; CODE_BYTES + 1], 0);
        for (place, b) in room.iter_mut().zip(text.bytes(body)) {
            (*place, len) = (b, len + 1);
        }
        self.code(&room[..len])
    }

    #[inline]
    fn find_code(&self, code: u64) -> Set {
        if code == 0 { 0 } else { self.slots[self.place(code)].1 }
    }

    /// Who named this code of a request.
    #[inline]
    pub(super) fn find(&self, text: Text, body: &[u8]) -> Set {
        if self.slots.is_empty() { 0 } else { self.find_code(self.read(text, body).whole) }
    }

    /// Who named this category, or the one above it: `IAB1` is above `IAB1-3`.
    #[inline]
    pub(super) fn find_tiers(&self, category: Text, body: &[u8]) -> Set {
        if self.slots.is_empty() {
            return 0;
        }
        let code = self.read(category, body);
        self.find_code(code.whole) | self.find_code(code.above)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    at: u32,
    len: u32,
    /// None: the slot is free.
    dsps: Set,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// Open addressing, at most half of them taken.
    slots: Vec<Slot>,
    texts: Vec<u8>,
    longest: usize,
}

impl Named {
    /// Of texts and who named them; a text may come several times.
    pub(super) fn new<'a>(all: impl Iterator<Item = (&'a str, Set)> + Clone) -> Named {
        let count = all.clone().count();
        if count == 0 {
            return Named::default();
        }
        let slots = vec![Slot::default(); (2 * count).next_power_of_two()];
        let mut named = Named { slots, texts: Vec::new(), longest: 0 };
        for (text, dsps) in all.filter(|(text, dsps)| !text.is_empty() && text.len() <= TEXT_BYTES && *dsps != 0) {
            let text = text.as_bytes();
            let hash = hash_bytes(0, text);
            let at = named.place(hash, text);
            let slot = &mut named.slots[at];
            if slot.dsps == 0 {
                *slot = Slot { hash, at: named.texts.len() as u32, len: text.len() as u32, dsps: 0 };
                named.texts.extend_from_slice(text);
                named.longest = named.longest.max(text.len());
            }
            named.slots[at].dsps |= dsps;
        }
        named
    }

    /// Nothing is named.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where a text is, or the free slot where it would be.
    fn place(&self, hash: u64, text: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        // At least half of the slots are free: this ends.
        loop {
            let slot = &self.slots[at];
            let same = || self.texts.get(slot.at as usize..(slot.at + slot.len) as usize) == Some(text);
            if slot.dsps == 0 || slot.hash == hash && same() {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn find_plain(&self, text: &[u8]) -> Set {
        if text.is_empty() || text.len() > self.longest {
            return 0;
        }
        self.slots[self.place(hash_bytes(0, text), text)].dsps
    }

    /// Who named this text of a request.
    #[inline]
    pub(super) fn find(&self, text: Text, body: &[u8]) -> Set {
        if self.slots.is_empty() {
            0
        } else if text.escaped() {
            self.find_escaped(text, body)
        } else {
            self.find_plain(text.raw(body))
        }
    }

    #[cold]
    fn find_escaped(&self, text: Text, body: &[u8]) -> Set {
        let (mut room, mut len) = ([0; TEXT_BYTES], 0);
        for b in text.bytes(body) {
            // Longer than anything that can be named.
            let Some(place) = room.get_mut(len) else { return 0 };
            (*place, len) = (b, len + 1);
        }
        self.find_plain(&room[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(body: &str) -> Text {
        Text::new(0, body.len(), body.contains('\\'))
    }

    #[test]
    fn a_text_leads_to_all_who_named_it_and_to_nobody_else() {
        let all: Vec<String> = (0..300).map(|i| format!("pub-{}", i % 100)).collect();
        let named = Named::new(all.iter().enumerate().map(|(i, t)| (t.as_str(), 1 << (i / 100))));
        for i in 0..100 {
            let text = format!("pub-{i}");
            assert_eq!(named.find(at(&text), text.as_bytes()), 0b111, "{text}");
        }
        for text in ["", "pub", "pub-100", "PUB-1", "pub-1 ", &"x".repeat(2_000)] {
            assert_eq!(named.find(at(text), text.as_bytes()), 0, "{text}");
        }
        let escaped = r"p\u0075b-7";
        assert_eq!(named.find(at(escaped), escaped.as_bytes()), 0b111);
        assert_eq!(Named::new(std::iter::empty()).find(at("a"), b"a"), 0);
    }

    #[test]
    fn cases_and_tiers() {
        let named = |case, text| Codes::new(case, std::iter::once((text, 1)));
        let upper = named(Case::Upper, "DEU");
        let lower = named(Case::Lower, "en");
        let iab1 = named(Case::Upper, "IAB1");
        let iab13 = named(Case::Upper, "IAB1-3");
        let find = |n: &Codes, text: &str| n.find(at(text), text.as_bytes());
        let tiers = |n: &Codes, text: &str| n.find_tiers(at(text), text.as_bytes());
        assert_eq!((find(&upper, "deu"), find(&upper, "DE"), find(&upper, r"\u0000DEU")), (1, 0, 0));
        assert_eq!((find(&upper, r"\u0044EU"), find(&upper, ""), find(&upper, "DEUDEUDEU")), (1, 0, 0));
        assert_eq!((find(&lower, "EN"), find(&lower, "en-GB"), find(&lower, "eng")), (1, 1, 0));
        assert_eq!((tiers(&iab1, "IAB1-3"), tiers(&iab1, "iab1"), tiers(&iab1, "IAB10")), (1, 1, 0));
        assert_eq!((tiers(&iab13, "IAB1-3"), tiers(&iab13, "IAB1"), tiers(&iab13, "IAB1-31")), (1, 0, 0));
        // Whatever byte is in the place of a letter's.
        let z = named(Case::Upper, "AZ09@[");
        assert_eq!((find(&z, "az09@["), find(&z, "aZ09`["), find(&z, "az09@{"), find(&z, "\u{e1}Z09@")), (1, 0, 0, 0));
        assert_eq!(
            (find(&lower, r"en\u0000"), find(&lower, r"\u0000en"), find(&lower, "-en"), find(&lower, "en-")),
            (0, 0, 0, 1)
        );
        let longest = named(Case::Upper, "IAB26-40");
        assert_eq!((tiers(&longest, "iab26-40"), tiers(&longest, "IAB26-400"), tiers(&longest, "IAB26-4")), (1, 0, 0));
        assert_eq!(find(&longest, r"IAB26-4\u0030"), 1);
        assert_eq!(find(&longest, r"IAB26-4\u00300"), 0);
        assert_eq!((tiers(&iab1, "IAB1-and-much-more-than-that"), tiers(&iab13, "IAB1-3-and-more-than-that")), (1, 0));
    }
}
