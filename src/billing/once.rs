//! Which notices have been seen: one bit for each impression of an auction.
//! Owns: the bits, 64 bytes and a key for 512 auctions of one core. Called by: `settling`. Never: keeps a bit for long after its
//! token has expired: a notice that comes then settles nothing.
use crate::units::EventId;
use std::collections::HashMap;

const SPAN: u64 = 512;
/// Bits are kept so much longer than their tokens live, seconds: clocks are set.
const GRACE_S: u32 = 3_600;
/// Below so many pages nothing is looked for that could go.
const FEW: usize = 1_024;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Page {
    epoch: u32,
    core: u16,
    imp: u8,
    span: u64,
}

#[derive(Debug, Default)]
pub(super) struct Once {
    /// With the latest expiry of its tokens.
    pages: HashMap<Page, (u32, [u64; SPAN as usize / 64])>,
    /// With so many pages those that are over are looked for.
    look: usize,
}

impl Once {
    /// Is it the first time? `now_s`: the record's time.
    pub(super) fn first(&mut self, event: EventId, imp: u8, expires_s: u32, now_s: u32) -> bool {
        if self.pages.len() >= self.look.max(FEW) {
            self.pages.retain(|_, (expires_s, _)| expires_s.saturating_add(GRACE_S) > now_s);
            self.look = 2 * self.pages.len();
        }
        let page = Page { epoch: event.epoch, core: event.core, imp, span: event.seq / SPAN };
        let (latest_s, bits) = self.pages.entry(page).or_insert((0, [0; SPAN as usize / 64]));
        *latest_s = expires_s.max(*latest_s);
        let (word, bit) = ((event.seq % SPAN) as usize / 64, 1 << (event.seq % 64));
        let first = bits[word] & bit == 0;
        bits[word] |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_the_first_once_and_what_is_over_is_let_go() {
        let mut once = Once::default();
        let event = |n: u64| EventId { node: 1, epoch: 2, core: (n % 3) as u16, seq: n * 77 };
        for n in 0..20_000_u64 {
            let (imp, now_s) = ((n % 2) as u8, 10 * n as u32);
            assert!(once.first(event(n), imp, now_s + 60, now_s), "{n}");
            assert!(!once.first(event(n), imp, now_s + 60, now_s), "{n}");
            assert!(!once.first(event(n.saturating_sub(1)), (n.saturating_sub(1) % 2) as u8, now_s + 50, now_s), "{n}");
        }
        assert!(once.pages.len() <= 2 * FEW, "{}", once.pages.len());
    }
}
