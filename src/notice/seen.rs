//! Which notices have been taken: one bit for each auction, impression and kind.
//! Owns: the bits, in pages. Runs on: each bidder core, for the notices that it answers for. Called by: a notice's arrival, the
//! snapshot, a start. Never: allocates after it was made; forgets a bit before the tokens of its page have expired.
//! Full: says so, and the notice is answered with 503: it comes again.
//!
//! A page is 512 auctions of one core's one start, four impressions of each. A page whose tokens have expired is given to
//! others; until then nothing is taken that needs one more. So pages must be enough for the notices of a token's life:
//! auctions / 512, and a quarter as many more for each four impressions that requests have beyond the first four.
//!
//! # After a restart
//! A snapshot holds every page that is alive, as it is between two turns: all that was taken is in published frames then, up
//! to a number that is kept with it. A start restores the last whole snapshot, and takes what the record has behind that
//! number. One snapshot takes the place of another, so a notice that was not taken after all (see [`Seen::untake`]) is in none.
use super::token::Kind;
use crate::{
    index::Index,
    record::codec::{Block, Reader},
    units::{EventId, mix},
};

/// Auctions of a page.
pub const PAGE_AUCTIONS: usize = 512;
const SPAN: u64 = PAGE_AUCTIONS as u64;
/// Impressions of each.
const IMPS: u8 = 4;
/// Pages that are looked at to see how many are alive.
const SAMPLE: usize = 4_096;
const WORDS: usize = SPAN as usize / 64;
const SETS: usize = IMPS as usize * 3;
const HEAD: usize = 4 + 4 + 2 + 8 + 1 + 4;
/// Bytes of a page in a snapshot.
pub const PAGE_BYTES: usize = HEAD + SETS * WORDS * 8;
/// A page is kept so much longer than its tokens live, seconds: clocks are set, and a second has a beginning and an end.
pub const GRACE_S: u32 = 60;

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

/// What became of a page of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// What it says is known now.
    Taken,
    /// Its tokens have expired since.
    Expired,
    /// There is no room for it: with fewer pages than before, what was taken would be forgotten. Not to be started with.
    NoRoom,
    /// It is none.
    Garbled,
}

/// Whose bits a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Key {
    node: u32,
    epoch: u32,
    core: u16,
    /// Its first auction's number, in spans.
    span: u64,
    /// Its first impression's, in fours.
    imps: u8,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    key: Key,
    /// Of its tokens that were seen, the latest; 0: nobody has it.
    expires_s: u32,
    /// By impression and kind.
    bits: [[u64; WORDS]; SETS],
}

const EMPTY: Page =
    Page { key: Key { node: 0, epoch: 0, core: 0, span: 0, imps: 0 }, expires_s: 0, bits: [[0; WORDS]; SETS] };

/// Where a notice's bit is.
struct Bit {
    key: Key,
    set: usize,
    word: usize,
    mask: u64,
}

impl Bit {
    fn of(event: EventId, imp: u8, kind: Kind) -> Bit {
        let EventId { node, epoch, core, seq } = event;
        let key = Key { node, epoch, core, span: seq / SPAN, imps: imp / IMPS };
        let set = usize::from(imp % IMPS) * 3 + kind as usize;
        Bit { key, set, word: (seq % SPAN) as usize / 64, mask: 1 << (seq % 64) }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Seen {
    pages: Box<[Page]>,
    index: Index,
    seed: u64,
    /// Where a page that is free is looked for.
    next: usize,
    /// The latest that a clock has said: one that is set back brings nothing to life.
    now_s: u32,
    /// All pages were alive then.
    full_s: u32,
    /// Whether nearly all were, and when that was looked at.
    nearly: (bool, u32),
}

impl Seen {
    /// With room for so many pages. `seed` is a secret that keeps look-ups short.
    pub fn new(pages: usize, seed: u64) -> Seen {
        let pages = pages.max(1);
        Seen {
            pages: vec![EMPTY; pages].into(),
            index: Index::new(pages),
            seed,
            next: 0,
            now_s: 0,
            full_s: 0,
            nearly: (false, 0),
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.pages) + self.index.bytes()
    }

    /// Takes a notice of a token that has not expired ([`super::token::Token::expired`]), or says that it was taken before.
    pub fn take(&mut self, event: EventId, imp: u8, kind: Kind, expires_s: u32, now_s: u32) -> Mark {
        let bit = Bit::of(event, imp, kind);
        self.now_s = self.now_s.max(now_s);
        let Some(at) = self.find(&bit.key).or_else(|| self.give(bit.key, expires_s)) else { return Mark::Full };
        let page = &mut self.pages[at];
        let word = &mut page.bits[bit.set][bit.word];
        if *word & bit.mask != 0 {
            return Mark::Again;
        }
        *word |= bit.mask;
        page.expires_s = page.expires_s.max(expires_s).max(1);
        Mark::New
    }

    /// A notice that [`Seen::take`] called new was not acted on after all, as the black box had no room for it. To be called in
    /// the same turn, before anything else is taken or a snapshot made.
    pub fn untake(&mut self, event: EventId, imp: u8, kind: Kind) {
        let bit = Bit::of(event, imp, kind);
        if let Some(at) = self.find(&bit.key) {
            self.pages[at].bits[bit.set][bit.word] &= !bit.mask;
        }
    }

    /// Are more than seven eighths of the pages alive? Those who take notices are to take no more: some are on their way.
    pub fn is_nearly_full(&mut self, now_s: u32) -> bool {
        self.now_s = self.now_s.max(now_s);
        if self.nearly.1 != self.now_s {
            // Of many a part is enough to know.
            let step = self.pages.len().div_ceil(SAMPLE);
            let looked = self.pages.iter().step_by(step);
            let (all, alive) = (looked.len(), looked.filter(|page| self.is_alive(page)).count());
            self.nearly = (alive > all - all.div_ceil(8), self.now_s);
        }
        self.nearly.0
    }

    /// Appends the pages that are alive from the place `from` on, [`PAGE_BYTES`] each, so many at most; the place where to go
    /// on, `None` behind the last. A snapshot is made in one turn, or of what a copy holds.
    pub fn snapshot(&self, from: usize, most: usize, out: &mut Vec<u8>) -> Option<usize> {
        let mut left = most;
        for (at, page) in self.pages.iter().enumerate().skip(from).filter(|(_, page)| self.is_alive(page)) {
            if left == 0 {
                return Some(at);
            }
            left -= 1;
            Block::<HEAD>::new()
                .u32(page.key.node)
                .u32(page.key.epoch)
                .u16(page.key.core)
                .u64(page.key.span)
                .u8(page.key.imps)
                .u32(page.expires_s)
                .end(out);
            page.bits.iter().flatten().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        }
        None
    }

    /// Takes over a page of a snapshot, with what is known of it already.
    pub fn restore(&mut self, bytes: &[u8], now_s: u32) -> Restored {
        let Some((key, expires_s, bits)) = read(bytes) else { return Restored::Garbled };
        self.now_s = self.now_s.max(now_s);
        if expires_s.saturating_add(GRACE_S) <= self.now_s {
            return Restored::Expired;
        }
        let Some(at) = self.find(&key).or_else(|| self.give(key, expires_s)) else { return Restored::NoRoom };
        let page = &mut self.pages[at];
        page.expires_s = page.expires_s.max(expires_s);
        for (here, there) in page.bits.iter_mut().flatten().zip(bits.iter().flatten()) {
            *here |= there;
        }
        Restored::Taken
    }

    fn tag(&self, key: &Key) -> u32 {
        let start = u64::from(key.node) << 32 | u64::from(key.epoch);
        let place = u64::from(key.core) << 8 | u64::from(key.imps);
        (mix(mix(mix(self.seed ^ start) ^ place) ^ key.span) >> 32) as u32
    }

    fn find(&self, key: &Key) -> Option<usize> {
        self.index.find(self.tag(key), |at| self.pages[at as usize].key == *key).map(|at| at as usize)
    }

    fn is_alive(&self, page: &Page) -> bool {
        page.expires_s > 0 && page.expires_s.saturating_add(GRACE_S) > self.now_s
    }

    /// A page that nobody needs, found from the place of the last one on; when there is none it is not looked for again in
    /// the same second.
    fn give(&mut self, key: Key, expires_s: u32) -> Option<usize> {
        if self.full_s == self.now_s && self.now_s > 0 {
            return None;
        }
        let n = self.pages.len();
        let free = (self.next..n).chain(0..self.next).find(|at| !self.is_alive(&self.pages[*at]));
        let Some(at) = free else {
            self.full_s = self.now_s;
            return None;
        };
        if self.pages[at].expires_s > 0 {
            let tag = self.tag(&self.pages[at].key);
            self.index.remove(tag, at as u32);
        }
        self.pages[at] = Page { key, expires_s: expires_s.max(1), ..EMPTY };
        self.index.insert(self.tag(&key), at as u32);
        self.next = (at + 1) % n;
        Some(at)
    }
}

type Bits = [[u64; WORDS]; SETS];

fn read(bytes: &[u8]) -> Option<(Key, u32, Bits)> {
    let mut r = Reader { rest: bytes };
    let (node, epoch, core) = (r.u32().ok()?, r.u32().ok()?, r.u16().ok()?);
    let (span, imps, expires_s) = (r.u64().ok()?, r.u8().ok()?, r.u32().ok()?);
    let mut bits = [[0; WORDS]; SETS];
    for word in bits.iter_mut().flatten() {
        *word = r.u64().ok()?;
    }
    r.end().ok()?;
    Some((Key { node, epoch, core, span, imps }, expires_s, bits))
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

    fn whole(seen: &Seen) -> Vec<u8> {
        let (mut out, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            from = seen.snapshot(at, 1, &mut out);
        }
        out
    }

    fn restored(snapshot: &[u8], pages: usize, now_s: u32) -> (Seen, Vec<Restored>) {
        let mut seen = Seen::new(pages, 43);
        let said = snapshot.chunks(PAGE_BYTES).map(|page| seen.restore(page, now_s)).collect();
        (seen, said)
    }

    #[test]
    fn each_kind_of_each_impression_once() {
        let mut seen = Seen::new(16, 42);
        for imp in 0..9 {
            for kind in Kind::ALL {
                for seq in [0, 1, 63, 64, 511, 512] {
                    assert_eq!(seen.take(event(1, seq), imp, kind, 2_000, NOW), Mark::New, "{imp} {kind:?} {seq}");
                    assert_eq!(seen.take(event(1, seq), imp, kind, 2_000, NOW), Mark::Again, "{imp} {kind:?} {seq}");
                }
            }
        }
        assert_eq!(seen.take(event(2, 0), 0, Kind::Won, 2_000, NOW), Mark::New, "another start is another auction");
        seen.untake(event(2, 0), 0, Kind::Won);
        let (mut later, _) = restored(&whole(&seen), 16, NOW);
        for seen in [&mut seen, &mut later] {
            assert_eq!(seen.take(event(2, 0), 0, Kind::Won, 2_000, NOW), Mark::New, "it was not acted on");
        }
    }

    #[test]
    fn room_comes_back_when_tokens_have_expired() {
        let mut seen = Seen::new(2, 42);
        let take = |seen: &mut Seen, span: u64, expires_s, now_s| {
            seen.take(event(1, span * SPAN), 0, Kind::Billed, expires_s, now_s)
        };
        // The first lives longer than the second, and stands in nobody's way.
        assert_eq!(take(&mut seen, 0, 5_000, NOW), Mark::New);
        assert_eq!(take(&mut seen, 1, 2_000, NOW), Mark::New);
        assert_eq!(take(&mut seen, 2, 2_000, NOW), Mark::Full);
        assert_eq!(take(&mut seen, 0, 5_000, NOW), Mark::Again, "what is known stays known");
        assert_eq!(take(&mut seen, 2, 3_000, 2_000 + GRACE_S - 1), Mark::Full, "a while longer than it lives");
        assert_eq!(take(&mut seen, 2, 3_000, 2_000 + GRACE_S), Mark::New);
        assert_eq!(take(&mut seen, 0, 5_000, 2_000 + GRACE_S), Mark::Again, "the one that lives longer");
        assert_eq!(take(&mut seen, 3, 3_000, NOW), Mark::Full, "a clock that is set back frees nothing");
    }

    #[test]
    fn a_start_knows_what_was_taken_and_what_it_cannot_know() {
        let mut seen = Seen::new(4, 42);
        for span in 0..4 {
            let expires_s = 2_000 + span as u32;
            assert_eq!(seen.take(event(1, span * SPAN), 0, Kind::Billed, expires_s, NOW), Mark::New);
        }
        let snapshot = whole(&seen);
        assert_eq!(snapshot.len(), 4 * PAGE_BYTES);
        // Twice over, as nothing of it is lost on the way.
        let (again, _) = restored(&snapshot, 4, NOW);
        let (mut again, said) = restored(&whole(&again), 4, NOW);
        assert_eq!(said, [Restored::Taken; 4]);
        assert_eq!(again.take(event(1, 3 * SPAN), 0, Kind::Billed, 2_003, NOW), Mark::Again);
        let said = restored(&snapshot, 3, NOW).1;
        assert_eq!(said, [Restored::Taken, Restored::Taken, Restored::Taken, Restored::NoRoom]);
        let said = restored(&snapshot, 4, 2_001 + GRACE_S).1;
        assert_eq!(said, [Restored::Expired, Restored::Expired, Restored::Taken, Restored::Taken]);
        for bytes in [&[][..], &[1; PAGE_BYTES - 1], &[1; PAGE_BYTES + 1]] {
            assert_eq!(seen.restore(bytes, 0), Restored::Garbled);
        }
    }

    /// A clock that stands still is asked once.
    #[test]
    fn it_says_so_before_it_is_full() {
        let mut seen = Seen::new(16, 1);
        for page in 0..16 {
            let now_s = NOW + page as u32;
            assert_eq!(seen.is_nearly_full(now_s), page > 14, "{page} pages");
            assert_eq!(seen.take(event(1, page * SPAN), 0, Kind::Won, NOW + 100, now_s), Mark::New);
        }
        assert!(seen.is_nearly_full(NOW + 100));
        assert!(!seen.is_nearly_full(NOW + 100 + GRACE_S));
    }

    proptest! {
        /// Against a set, with starts from snapshots in between: what was taken before is not taken again, what was not acted
        /// on is.
        #[test]
        fn nothing_is_taken_twice_or_lost(
            seed: u64,
            notices in proptest::collection::vec((0u32..3, 0u64..3_000, 0u8..9, 0usize..3, 0u8..8), 1..300),
        ) {
            let mut seen = Seen::new(64, seed);
            let mut twin = BTreeSet::new();
            for (epoch, seq, imp, kind, then) in notices {
                let kind_of = Kind::ALL[kind];
                let expected = if twin.insert((epoch, seq, imp, kind)) { Mark::New } else { Mark::Again };
                prop_assert_eq!(seen.take(event(epoch, seq), imp, kind_of, 2_000, NOW), expected);
                if then == 0 && expected == Mark::New {
                    seen.untake(event(epoch, seq), imp, kind_of);
                    twin.remove(&(epoch, seq, imp, kind));
                }
                if then == 1 {
                    let (next, said) = restored(&whole(&seen), 64, NOW);
                    prop_assert!(said.iter().all(|s| *s == Restored::Taken));
                    seen = next;
                }
            }
        }
    }
}
