//! Texts of a configuration, each with the set of DSPs that named it.
//! Owns: one table. Runs on: made beside the hot path, read on each bidder core. Called by: [`super::targets`].
//! Never: allocates when asked. A text that merely has the hash of another is not taken for it.
use super::targets::Set;
use crate::{limits::RECORD_TEXT_MAX, openrtb::text::Text, units::hash_bytes};

/// Longest text that can be named, in bytes: [`RECORD_TEXT_MAX`] characters.
const TEXT_BYTES: usize = 4 * RECORD_TEXT_MAX;
/// Longest country, language or category: `IAB26-4` and some room.
const CODE_BYTES: usize = 16;

/// How texts are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Case {
    /// As they stand.
    #[default]
    Exact,
    /// Letters of ASCII in any case; named in upper case.
    Upper,
    /// The part before a dash (`en-GB`), in any case; named in lower case.
    Lower,
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
    case: Case,
    /// Open addressing, at most half of them taken.
    slots: Vec<Slot>,
    texts: Vec<u8>,
    longest: usize,
}

impl Named {
    /// Of texts and who named them; a text may come several times.
    pub(super) fn new<'a>(case: Case, all: impl Iterator<Item = (&'a str, Set)> + Clone) -> Named {
        let count = all.clone().count();
        if count == 0 {
            return Named::default();
        }
        let slots = vec![Slot::default(); (2 * count).next_power_of_two()];
        let mut named = Named { case, slots, texts: Vec::new(), longest: 0 };
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
            return 0;
        }
        match self.case {
            Case::Exact if text.escaped() => self.find_whole(self.plain(text, body, &mut [0; TEXT_BYTES])),
            Case::Exact => self.find_plain(text.raw(body)),
            Case::Upper | Case::Lower => self.find_whole(self.plain(text, body, &mut [0; CODE_BYTES])),
        }
    }

    /// Who named this category, or the one above it: `IAB1` is above `IAB1-3`.
    pub(super) fn find_tiers(&self, category: Text, body: &[u8]) -> Set {
        if self.slots.is_empty() {
            return 0;
        }
        let mut room = [0; CODE_BYTES];
        let (plain, whole) = self.plain(category, body, &mut room);
        let above = plain.iter().position(|b| *b == b'-').map_or(0, |dash| self.find_plain(&plain[..dash]));
        self.find_whole((plain, whole)) | above
    }

    #[inline]
    fn find_whole(&self, (text, whole): (&[u8], bool)) -> Set {
        if whole { self.find_plain(text) } else { 0 }
    }

    /// The text as it would have been named, as far as there is room; and is that all of it?
    #[inline]
    fn plain<'r>(&self, text: Text, body: &[u8], room: &'r mut [u8]) -> (&'r [u8], bool) {
        if text.escaped() { self.fold(text.bytes(body), room) } else { self.fold(text.raw(body).iter().copied(), room) }
    }

    #[inline]
    fn fold<'r>(&self, bytes: impl Iterator<Item = u8>, room: &'r mut [u8]) -> (&'r [u8], bool) {
        let mut len = 0;
        for b in bytes {
            if self.case == Case::Lower && b == b'-' {
                break;
            }
            // Longer than anything that can be named.
            let Some(place) = room.get_mut(len) else { return (room, false) };
            *place = match self.case {
                Case::Exact => b,
                Case::Upper => b.to_ascii_uppercase(),
                Case::Lower => b.to_ascii_lowercase(),
            };
            len += 1;
        }
        (&room[..len], true)
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
        let named = Named::new(Case::Exact, all.iter().enumerate().map(|(i, t)| (t.as_str(), 1 << (i / 100))));
        for i in 0..100 {
            let text = format!("pub-{i}");
            assert_eq!(named.find(at(&text), text.as_bytes()), 0b111, "{text}");
        }
        for text in ["", "pub", "pub-100", "PUB-1", "pub-1 ", &"x".repeat(2_000)] {
            assert_eq!(named.find(at(text), text.as_bytes()), 0, "{text}");
        }
        let escaped = r"p\u0075b-7";
        assert_eq!(named.find(at(escaped), escaped.as_bytes()), 0b111);
        assert_eq!(Named::new(Case::Exact, std::iter::empty()).find(at("a"), b"a"), 0);
    }

    #[test]
    fn cases_and_tiers() {
        let named = |case, text| Named::new(case, std::iter::once((text, 1)));
        let upper = named(Case::Upper, "DEU");
        let lower = named(Case::Lower, "en");
        let iab1 = named(Case::Upper, "IAB1");
        let iab13 = named(Case::Upper, "IAB1-3");
        let find = |n: &Named, text: &str| n.find(at(text), text.as_bytes());
        let tiers = |n: &Named, text: &str| n.find_tiers(at(text), text.as_bytes());
        assert_eq!((find(&upper, "deu"), find(&upper, "DE")), (1, 0));
        assert_eq!((find(&lower, "EN"), find(&lower, "en-GB"), find(&lower, "eng")), (1, 1, 0));
        assert_eq!((tiers(&iab1, "IAB1-3"), tiers(&iab1, "iab1"), tiers(&iab1, "IAB10")), (1, 1, 0));
        assert_eq!((tiers(&iab13, "IAB1-3"), tiers(&iab13, "IAB1"), tiers(&iab13, "IAB1-31")), (1, 0, 0));
        assert_eq!((tiers(&iab1, "IAB1-and-much-more-than-that"), tiers(&iab13, "IAB1-3-and-more-than-that")), (1, 0));
    }
}
