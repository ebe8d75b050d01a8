//! Which notices have been taken: one bit for each auction, impression and kind.
//! Owns: the bits, in pages. Runs on: each bidder core, for the notices that it answers for. Called by: a notice's arrival, the
//! checkpoint, a start. Never: allocates after it was made; forgets a bit before the tokens of its page have expired.
//! Full: says so, and the notice is answered with 503: it comes again.
//!
//! A page is 1,024 auctions of one core's one start, one impression of each: most have one. Pages are given in a ring, so the
//! oldest is the next to go; it goes when the last token that was seen of it has expired, and until then nothing new is taken.
//! A token that has expired is not asked about here, so a page that is gone is never missed.
use super::token::Kind;
use crate::{
    index::Index,
    record::codec::{Block, Reader},
    units::{EventId, mix},
};

/// Auctions of a page.
const SPAN: u64 = 1_024;
const WORDS: usize = SPAN as usize / 64;
/// Bytes of a page in a checkpoint.
pub const PAGE_BYTES: usize = 4 + 4 + 2 + 8 + 1 + 4 + 3 * WORDS * 8;

/// What became of a notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// It is the first of its kind: to be acted on.
    New,
    /// It was taken before: to be answered as it was then, and nothing else.
    Again,
    /// There is no room to note it.
    Full,
}

/// Whose bits a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Key {
    node: u32,
    epoch: u32,
    core: u16,
    /// Its first auction's number, in spans.
    span: u64,
    imp: u8,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    key: Key,
    /// Of its tokens that were seen, the latest; 0: the page was never given.
    expires_s: u32,
    /// It is to be in the next checkpoint.
    changed: bool,
    bits: [[u64; WORDS]; 3],
}

const EMPTY: Page = Page {
    key: Key { node: 0, epoch: 0, core: 0, span: 0, imp: 0 },
    expires_s: 0,
    changed: false,
    bits: [[0; WORDS]; 3],
};

/// See the module.
#[derive(Debug)]
pub struct Seen {
    pages: Box<[Page]>,
    index: Index,
    seed: u64,
    /// The next page that is given.
    next: usize,
}

impl Seen {
    /// With room for so many pages. `seed` is a secret that keeps look-ups short.
    pub fn new(pages: usize, seed: u64) -> Seen {
        Seen { pages: vec![EMPTY; pages.max(1)].into(), index: Index::new(pages.max(1)), seed, next: 0 }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.pages) + self.index.bytes()
    }

    /// Takes a notice of a token that has not expired, or says that it was taken before.
    pub fn take(&mut self, event: EventId, imp: u8, kind: Kind, expires_s: u32, now_s: u32) -> Mark {
        let EventId { node, epoch, core, seq } = event;
        let key = Key { node, epoch, core, span: seq / SPAN, imp };
        let Some(at) = self.find(&key).or_else(|| self.give(key, now_s)) else { return Mark::Full };
        let page = &mut self.pages[at];
        let (word, bit) = ((seq % SPAN) as usize / 64, seq % 64);
        let word = &mut page.bits[kind as usize][word];
        if *word >> bit & 1 == 1 {
            return Mark::Again;
        }
        *word |= 1 << bit;
        page.changed = true;
        page.expires_s = page.expires_s.max(expires_s).max(1);
        Mark::New
    }

    /// A notice that [`Seen::take`] called new was not acted on after all: nothing of it has been kept anywhere.
    pub fn untake(&mut self, event: EventId, imp: u8, kind: Kind) {
        let EventId { node, epoch, core, seq } = event;
        if let Some(at) = self.find(&Key { node, epoch, core, span: seq / SPAN, imp }) {
            let page = &mut self.pages[at];
            page.bits[kind as usize][(seq % SPAN) as usize / 64] &= !(1 << (seq % 64));
            page.changed = true;
        }
    }

    /// Appends each page that has changed since this was called before, [`PAGE_BYTES`] each; so many at most. False: there
    /// are more.
    pub fn checkpoint(&mut self, most: usize, out: &mut Vec<u8>) -> bool {
        let mut left = most;
        for page in self.pages.iter_mut().filter(|page| page.changed) {
            if left == 0 {
                return false;
            }
            left -= 1;
            page.changed = false;
            Block::<{ PAGE_BYTES - 3 * WORDS * 8 }>::new()
                .u32(page.key.node)
                .u32(page.key.epoch)
                .u16(page.key.core)
                .u64(page.key.span)
                .u8(page.key.imp)
                .u32(page.expires_s)
                .end(out);
            page.bits.iter().flatten().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
        true
    }

    /// Takes over a page of a checkpoint, with what is known of it already. False: it is none, or there is no room.
    pub fn restore(&mut self, bytes: &[u8], now_s: u32) -> bool {
        let Some((key, expires_s, bits)) = read(bytes) else { return false };
        if expires_s <= now_s {
            return true;
        }
        let Some(at) = self.find(&key).or_else(|| self.give(key, now_s)) else { return false };
        let page = &mut self.pages[at];
        page.expires_s = page.expires_s.max(expires_s);
        for (here, there) in page.bits.iter_mut().flatten().zip(bits.iter().flatten()) {
            *here |= there;
        }
        true
    }

    fn tag(&self, key: &Key) -> u32 {
        let start = u64::from(key.node) << 32 | u64::from(key.epoch);
        let place = u64::from(key.core) << 8 | u64::from(key.imp);
        (mix(mix(mix(self.seed ^ start) ^ place) ^ key.span) >> 32) as u32
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.index.find(self.tag(key), |at| self.pages[at as usize].key == *key).map(|at| at as usize)
    }

    /// The oldest page, if its tokens have expired.
    fn give(&mut self, key: Key, now_s: u32) -> Option<usize> {
        let at = self.next;
        let old = &self.pages[at];
        if old.expires_s > now_s {
            return None;
        }
        if old.expires_s > 0 {
            let tag = self.tag(&old.key);
            self.index.remove(tag, at as u32);
        }
        // Until something is seen of it the page is one that may go at once.
        self.pages[at] = Page { key, expires_s: 1, ..EMPTY };
        self.index.insert(self.tag(&key), at as u32);
        self.next = (at + 1) % self.pages.len();
        Some(at)
    }
}

fn read(bytes: &[u8]) -> Option<(Key, u32, [[u64; WORDS]; 3])> {
    let mut r = Reader { rest: bytes };
    let (node, epoch, core) = (r.u32().ok()?, r.u32().ok()?, r.u16().ok()?);
    let (span, imp, expires_s) = (r.u64().ok()?, r.u8().ok()?, r.u32().ok()?);
    let mut bits = [[0; WORDS]; 3];
    for word in bits.iter_mut().flatten() {
        *word = r.u64().ok()?;
    }
    r.end().ok()?;
    Some((Key { node, epoch, core, span, imp }, expires_s, bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const NOW: u32 = 1_000;

    fn event(epoch: u32, seq: u64) -> EventId {
        EventId { node: 1, epoch, core: 2, seq }
    }

    #[test]
    fn each_kind_of_each_impression_once() {
        let mut seen = Seen::new(8, 42);
        for imp in 0..3 {
            for kind in Kind::ALL {
                for seq in [0, 1, 63, 64, 1_023, 1_024] {
                    assert_eq!(seen.take(event(1, seq), imp, kind, 2_000, NOW), Mark::New, "{imp} {kind:?} {seq}");
                    assert_eq!(seen.take(event(1, seq), imp, kind, 2_000, NOW), Mark::Again, "{imp} {kind:?} {seq}");
                }
            }
        }
        assert_eq!(seen.take(event(2, 0), 0, Kind::Won, 2_000, NOW), Mark::New, "another start is another auction");
        seen.untake(event(2, 0), 0, Kind::Won);
        assert_eq!(seen.take(event(2, 0), 0, Kind::Won, 2_000, NOW), Mark::New, "it was not acted on");
    }

    #[test]
    fn room_comes_back_when_tokens_have_expired() {
        let mut seen = Seen::new(2, 42);
        for span in 0..2 {
            assert_eq!(seen.take(event(1, span * SPAN), 0, Kind::Billed, 2_000, NOW), Mark::New);
        }
        assert_eq!(seen.take(event(1, 2 * SPAN), 0, Kind::Billed, 2_000, NOW), Mark::Full);
        assert_eq!(seen.take(event(1, 0), 0, Kind::Billed, 2_000, NOW), Mark::Again, "what is known stays known");
        assert_eq!(seen.take(event(1, 2 * SPAN), 0, Kind::Billed, 3_000, 2_000), Mark::New);
        assert_eq!(
            seen.take(event(1, SPAN), 0, Kind::Billed, 3_000, 2_000),
            Mark::Again,
            "the younger one is there still"
        );
    }

    #[test]
    fn a_checkpoint_of_something_else_is_refused() {
        let mut seen = Seen::new(2, 42);
        for bytes in [&[][..], &[1; PAGE_BYTES - 1], &[1; PAGE_BYTES + 1]] {
            assert!(!seen.restore(bytes, 0));
        }
    }

    proptest! {
        /// Against a set, with a start from checkpoints in the middle: what was taken before is not taken again.
        #[test]
        fn nothing_is_taken_twice(
            seed: u64, notices in proptest::collection::vec((0u32..3, 0u64..5_000, 0u8..3, 0usize..3, any::<bool>()), 1..300),
        ) {
            let mut seen = Seen::new(64, seed);
            let mut twin = BTreeSet::new();
            let mut kept: Vec<Vec<u8>> = Vec::new();
            for (epoch, seq, imp, kind, restart) in notices {
                let expected = if twin.insert((epoch, seq, imp, kind)) { Mark::New } else { Mark::Again };
                prop_assert_eq!(seen.take(event(epoch, seq), imp, Kind::ALL[kind], 2_000, NOW), expected);
                let mut bytes = Vec::new();
                while !seen.checkpoint(1, &mut bytes) {}
                kept.extend(bytes.chunks(PAGE_BYTES).map(<[u8]>::to_vec));
                if restart {
                    seen = Seen::new(64, !seed);
                    // The last of each page is what counts; earlier ones do no harm.
                    kept.iter().for_each(|page| assert!(seen.restore(page, NOW)));
                }
            }
        }
    }
}
