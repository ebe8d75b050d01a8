//! The request's lists (`badv`, `bcat`, `wseat`, ...) as one keyed hash set.
//! Owns: 64-bit hashes. Runs on: each bidder core, pooled. Called by: `eligibility`.
//! Never: compares lists pairwise: thousands of blocked domains times hundreds of bids stays linear.
//! Full: grows to twice the texts of a request ([`crate::limits::TEXTS_MAX`]) and stays there.
//!
//! Membership is by hash alone. An equal text always hits, so no block is ever missed; a false hit needs a
//! collision in 64 bits under a key (the auction's entropy) that nobody outside knows.
use crate::{openrtb::text::Text, units::mix};

/// Which list a text stands in; deals have theirs by index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum List {
    Badv,
    Bapp,
    Bcat,
    Acat,
    Wseat,
    Bseat,
    DealWseat(u16),
    DealWadomain(u16),
}

impl List {
    fn salt(self) -> u64 {
        match self {
            List::Badv => 1,
            List::Bapp => 2,
            List::Bcat => 3,
            List::Acat => 4,
            List::Wseat => 5,
            List::Bseat => 6,
            List::DealWseat(deal) => 7 << 32 | u64::from(deal),
            List::DealWadomain(deal) => 8 << 32 | u64::from(deal),
        }
    }

    /// Seats are ids and compare exactly; domains, bundles and categories in any case.
    fn any_case(self) -> bool {
        !matches!(self, List::Wseat | List::Bseat | List::DealWseat(_))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct TextSet {
    seed: u64,
    /// Open addressing; 0 is a free slot.
    slots: Vec<u64>,
    /// The text at hand, unescaped.
    plain: Vec<u8>,
}

impl TextSet {
    /// Empties the set and makes room for `texts`, none of which may be inserted twice too many.
    pub(super) fn reset(&mut self, seed: u64, texts: usize) {
        self.seed = seed;
        self.slots.clear();
        if texts > 0 {
            self.slots.resize((texts * 2).next_power_of_two(), 0);
        }
    }

    pub(super) fn insert(&mut self, list: List, text: Text, buf: &[u8]) {
        self.take(list, text, buf);
        if matches!(list, List::Badv | List::DealWadomain(_)) {
            // "www.brand.com" in a list means the brand.
            let from = domain_of(&mut self.plain);
            let from = if self.plain[from..].starts_with(b"www.") { from + 4 } else { from };
            self.plain.drain(..from);
        }
        if self.plain.is_empty() || self.slots.is_empty() {
            return;
        }
        let hash = self.hash(list, &self.plain);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        for _ in 0..self.slots.len() {
            if self.slots[at] == 0 || self.slots[at] == hash {
                self.slots[at] = hash;
                return;
            }
            at = (at + 1) & mask;
        }
        debug_assert!(false, "more texts than `reset` was told of");
    }

    /// Is the text itself in the list?
    pub(super) fn has(&mut self, list: List, text: Text, buf: &[u8]) -> bool {
        self.take(list, text, buf);
        self.find(self.hash(list, &self.plain))
    }

    /// Is the domain, or one that it is under, in the list? Linear in its length: the hash runs from the end,
    /// and is looked up at every dot.
    pub(super) fn has_domain(&mut self, list: List, text: Text, buf: &[u8]) -> bool {
        self.take(list, text, buf);
        let from = domain_of(&mut self.plain);
        let mut hash = mix(self.seed ^ list.salt());
        for &b in self.plain[from..].iter().rev() {
            if b == b'.' && self.find(mix(hash) | 1) {
                return true;
            }
            hash = step(hash, b);
        }
        from < self.plain.len() && self.find(mix(hash) | 1)
    }

    /// Is the category in the list, or, where `tiers` says that codes are built so (content taxonomy 1.0), the
    /// tier-1 category before its dash?
    pub(super) fn has_category(&mut self, list: List, text: Text, buf: &[u8], tiers: bool) -> bool {
        if self.has(list, text, buf) {
            return true;
        }
        match self.plain.iter().position(|&b| b == b'-').filter(|_| tiers) {
            Some(dash) => self.find(self.hash(list, &self.plain[..dash])),
            None => false,
        }
    }

    fn take(&mut self, list: List, text: Text, buf: &[u8]) {
        self.plain.clear();
        if text.escaped() {
            self.plain.extend(text.bytes(buf));
        } else {
            self.plain.extend_from_slice(text.raw(buf));
        }
        if list.any_case() {
            self.plain.make_ascii_lowercase();
        }
    }

    fn hash(&self, list: List, plain: &[u8]) -> u64 {
        mix(plain.iter().rev().fold(mix(self.seed ^ list.salt()), |h, &b| step(h, b))) | 1
    }

    fn find(&self, hash: u64) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        // At least half of the slots are free: this ends.
        while self.slots[at] != 0 {
            if self.slots[at] == hash {
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }
}

fn step(hash: u64, b: u8) -> u64 {
    (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
}

/// Cuts what is often sent around a domain (path, final dot) and returns where it begins (behind a scheme).
fn domain_of(plain: &mut Vec<u8>) -> usize {
    let from = match memchr::memmem::find(plain, b"://") {
        Some(at) => at + 3,
        None => 0,
    };
    if let Some(end) = plain[from..].iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b':')) {
        plain.truncate(from + end);
    }
    while plain.len() > from && plain.last() == Some(&b'.') {
        plain.pop();
    }
    from
}

#[cfg(test)]
mod tests {
    use super::{List, TextSet};
    use crate::openrtb::text::Text;

    fn text(s: &str) -> Text {
        Text::new(0, s.len(), s.contains('\\'))
    }

    fn set(list: List, entries: &[&str]) -> TextSet {
        let mut set = TextSet::default();
        set.reset(77, entries.len());
        for e in entries {
            set.insert(list, text(e), e.as_bytes());
        }
        set
    }

    #[test]
    fn domains_match_themselves_and_what_is_under_them() {
        let mut s = set(List::Badv, &["brand.com", "WWW.Other.example", r"esc\u002ecom", "https://full.example/path"]);
        for (domain, want) in [
            ("brand.com", true),
            ("BRAND.com", true),
            ("shop.brand.com", true),
            ("a.b.c.brand.com.", true),
            ("https://brand.com/x?y", true),
            ("xbrand.com", false),
            ("brand.com.evil.net", false),
            ("com", false),
            ("", false),
            (".", false),
            ("other.example", true),
            ("m.other.example", true),
            ("esc.com", true),
            (r"b\u0072and.com", true),
            ("full.example", true),
        ] {
            assert_eq!(s.has_domain(List::Badv, text(domain), domain.as_bytes()), want, "{domain}");
        }
    }

    #[test]
    fn lists_do_not_mix() {
        let mut s = set(List::DealWseat(3), &["seat"]);
        assert!(s.has(List::DealWseat(3), text("seat"), b"seat"));
        assert!(!s.has(List::DealWseat(3), text("Seat"), b"Seat"), "seats are ids");
        assert!(!s.has(List::DealWseat(4), text("seat"), b"seat"));
        assert!(!s.has(List::Wseat, text("seat"), b"seat"));
    }

    #[test]
    fn a_category_blocks_its_children_in_taxonomy_one_only() {
        let mut s = set(List::Bcat, &["IAB1", "IAB25-3"]);
        for (cat, tiers, want) in [
            ("IAB1", true, true),
            ("iab1-7", true, true),
            ("IAB1-7", false, false),
            ("IAB25-3", true, true),
            ("IAB25", true, false),
            ("IAB25-33", true, false),
            ("IAB11", true, false),
        ] {
            assert_eq!(s.has_category(List::Bcat, text(cat), cat.as_bytes(), tiers), want, "{cat} {tiers}");
        }
    }

    #[test]
    fn an_empty_set_has_nothing() {
        let mut s = set(List::Badv, &[]);
        assert!(!s.has_domain(List::Badv, text("a.com"), b"a.com"));
    }
}
