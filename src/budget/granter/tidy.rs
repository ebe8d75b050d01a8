//! What is over leaves memory.
//! Owns: when it is over. Called by: the ledger's thread, some rows at a time. Never: forgets a line that may have money out.
use super::{End, Fault, Granter, HolderId, Line, LineId, accounts::Accounts};
use crate::{
    budget::{
        LineKey, Period,
        window::{BucketKey, Span},
    },
    units::{Money, Now},
};
use std::ops::Bound;

/// A window stays in memory for so long after its end, milliseconds: repeated asks and clocks that are set back find it.
pub const KEPT_MS: u64 = 3_600 * 1_000;
/// The archive keeps what was spent for so many days: a month's bill, and some days to dispute it.
pub const ARCHIVE_DAYS: u32 = 40;

const DAY_MINUTES: u32 = 24 * 60;
/// A day's limit is over so long after it began, minutes, whatever its length and zone; an hour's likewise.
const DAY_OVER: u32 = 3 * DAY_MINUTES;
const HOUR_OVER: u32 = 3 * 60;

/// How far tidying is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Cursor {
    window: Option<LineKey>,
    bucket: Option<BucketKey>,
    /// The archive was told to forget on this day.
    forgot: u32,
}

impl Granter {
    /// Looks at up to `most` windows and as many limits, where it stopped the time before, and sends to the archive what is over.
    /// Its changes are committed like an ask's.
    pub fn tidy<A: Accounts>(&mut self, accounts: &A, now: Now, most: usize) {
        if self.books.planted.has(Fault::ExpiredUnspent) {
            self.free_expired(now);
        }
        let wall_ms = now.unix_ms();
        let from = self.tidied.window.map_or(Bound::Unbounded, Bound::Excluded);
        let windows: Vec<LineKey> =
            self.books.windows.range((from, Bound::Unbounded)).map(|(key, _)| *key).take(most).collect();
        self.tidied.window = windows.last().filter(|_| windows.len() == most).copied();
        for key in windows {
            let open = |w: &super::books::Window| w.lines.iter().any(|slot| slot.line.end == End::Open);
            let then = accounts.window(key.account, wall_ms.saturating_sub(KEPT_MS));
            let over = then.is_some_and(|then| then.period > key.period);
            if over && self.books.windows.get(&key).is_some_and(|w| !open(w)) {
                self.books.fold(key);
            }
        }
        let minute = u32::try_from(wall_ms / 60_000).unwrap_or(u32::MAX);
        let from = self.tidied.bucket.map_or(Bound::Unbounded, Bound::Excluded);
        let buckets: Vec<BucketKey> =
            self.books.buckets.range((from, Bound::Unbounded)).map(|(key, _)| *key).take(most).collect();
        self.tidied.bucket = buckets.last().filter(|_| buckets.len() == most).copied();
        for key in buckets {
            let over = match key.span {
                Span::Day => DAY_OVER,
                Span::Hour => HOUR_OVER,
                Span::Life => continue,
            };
            if key.start.0.saturating_add(over) <= minute {
                self.books.fold_bucket(key);
            }
        }
        let gone: Vec<HolderId> = self.books.holders.iter().filter(|(_, h)| h.lines == 0).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.books.forget_holder(id));
        let today = minute / DAY_MINUTES;
        if today > self.tidied.forgot {
            self.tidied.forgot = today;
            self.books.forget_before(Period(today.saturating_sub(ARCHIVE_DAYS) * DAY_MINUTES));
        }
    }

    /// The planted mistake: what was not renewed counts as unspent.
    fn free_expired(&mut self, now: Now) {
        let expired: Vec<(LineId, Line)> = self
            .books
            .windows
            .iter()
            .flat_map(|(key, window)| window.lines.iter().map(move |slot| (*key, slot)))
            .filter(|(_, slot)| slot.line.end == End::Open && slot.until_ns <= now.boot_ns)
            .map(|(key, slot)| (LineId { key, holder: slot.holder }, slot.line))
            .collect();
        for (id, line) in expired {
            let returned = Money(line.granted.0 - line.known_spent().0).max(line.returned);
            let freed = Line { returned, held: Money(0), end: End::Closed, ..line };
            if let Err(violation) = self.books.change(id, freed) {
                self.violated(violation);
            }
        }
    }
}
