//! The request's lists (`badv`, `bcat`, `wseat`, ...) as one keyed hash set.
//! Owns: 64-bit hashes. Runs on: each bidder core, pooled. Called by: `eligibility`.
//! Never: compares lists pairwise: thousands of blocked domains times hundreds of bids stays linear.
//! Full: grows to twice the texts of a request ([`crate::limits::TEXTS_MAX`]) and stays there.
//!
//! Membership is by hash alone. An equal text always hits, so no block is ever missed; a false hit needs a
//! collision in 64 bits under a key (the auction's entropy) that nobody outside knows.
use crate::{openrtb::text::Text, units::hash_bytes};

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

/// Longest domain name (RFC 1035 section 2.3.4).
const DOMAIN_BYTES: usize = 255;

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
        let mut from = 0;
        if matches!(list, List::Badv | List::DealWadomain(_)) {
            // "www.brand.com" in a list means the brand.
            from = domain_of(&mut self.plain);
            from += if self.plain[from..].starts_with(b"www.") { 4 } else { 0 };
        }
        let plain = &self.plain[from..];
        if plain.is_empty() || self.slots.is_empty() {
            return;
        }
        let hash = self.hash(list, plain);
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
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

    /// Is the domain, or one that it is under, in the list? Looked up at every dot of its last
    /// [`DOMAIN_BYTES`], so that what is no domain costs no more than one.
    pub(super) fn has_domain(&mut self, list: List, text: Text, buf: &[u8]) -> bool {
        self.take(list, text, buf);
        let from = domain_of(&mut self.plain);
        let domain = &self.plain[from..];
        let tail = &domain[domain.len().saturating_sub(DOMAIN_BYTES)..];
        let under = tail.iter().enumerate().filter(|(_, b)| **b == b'.').map(|(dot, _)| &tail[dot + 1..]);
        !domain.is_empty()
            && (self.find(self.hash(list, domain)) || under.into_iter().any(|d| self.find(self.hash(list, d))))
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
        hash_bytes(self.seed ^ list.salt(), plain) | 1
    }

    fn find(&self, hash: u64) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
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

/// Cuts what is often sent around a domain (path, final dot) and returns where it begins (behind a scheme).
fn domain_of(plain: &mut Vec<u8>) -> usize {
    let end_from =
        |plain: &[u8], from: usize| plain[from..].iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b':'));
    let mut from = 0;
    let mut end = end_from(plain, 0);
    if let Some(at) = end.filter(|at| plain[*at..].starts_with(b"://")) {
        from = at + 3;
        end = end_from(plain, from);
    }
    if let Some(end) = end {
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
