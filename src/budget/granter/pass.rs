//! An audit: everything summed anew and compared, some rows at a time.
//! Owns: the sums of the rows it has passed. Called by: `audit`, in one go; `audit_on`, between asks. Never: believes a sum that
//! is kept: only what moves in rows that it has passed is added to its own, by [`super::books`].
use super::{
    End, Granter, HolderId, LineId, Totals, Violation,
    books::{Books, Window},
    rows::{HolderState, Key},
};
use crate::budget::{
    LineKey,
    window::{BucketKey, Buckets},
};
use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

/// What it looks at next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Place {
    /// Windows with their lines, after this one.
    Windows(Option<LineKey>),
    /// Limits, after this one.
    Buckets(Option<BucketKey>),
    /// Limits that windows name, after this one: are they there?
    Named(Option<BucketKey>),
    /// Holders, and that is all.
    Holders,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Pass {
    place: Place,
    /// As of when each line was looked at.
    pub(super) totals: Totals,
    /// What is out of each limit, and windows that count in it.
    sums: BTreeMap<BucketKey, (i64, u32)>,
    lines: BTreeMap<HolderId, u32>,
}

impl Default for Pass {
    fn default() -> Pass {
        let (totals, sums, lines) = Default::default();
        Pass { place: Place::Windows(None), totals, sums, lines }
    }
}

impl Pass {
    /// Looks at up to `most` rows more. True: that was all.
    pub(super) fn step(&mut self, granter: &Granter, now_ns: u64, most: usize, found: &mut Vec<Violation>) -> bool {
        let books = &granter.books;
        let mut left = most;
        while left > 0 {
            match self.place {
                Place::Windows(at) => {
                    let Some((key, window)) = books.windows.range((after(at), Unbounded)).next() else {
                        self.place = Place::Buckets(None);
                        continue;
                    };
                    self.place = Place::Windows(Some(*key));
                    left = left.saturating_sub(1 + window.lines.len());
                    self.window(granter, *key, window, now_ns, found);
                }
                Place::Buckets(at) => {
                    let Some((key, bucket)) = books.buckets.range((after(at), Unbounded)).next() else {
                        self.place = Place::Named(None);
                        continue;
                    };
                    self.place = Place::Buckets(Some(*key));
                    left -= 1;
                    let (out, windows) = self.sums.get(key).copied().unwrap_or_default();
                    let committed = bucket.row.folded.0 + out;
                    if bucket.row.committed.0 != committed || committed < 0 || bucket.windows != windows {
                        found.push(Violation::Bucket(*key));
                    }
                }
                Place::Named(at) => {
                    let Some((key, sum)) = self.sums.range((after(at), Unbounded)).next() else {
                        self.place = Place::Holders;
                        continue;
                    };
                    if *sum != (0, 0) && !books.buckets.contains_key(key) {
                        found.push(Violation::Missing(Key::Bucket(*key)));
                    }
                    self.place = Place::Named(Some(*key));
                    left -= 1;
                }
                Place::Holders => {
                    let lines = |id| self.lines.get(id).copied().unwrap_or(0);
                    let wrong = books.holders.iter().filter(|(id, holder)| holder.lines != lines(*id));
                    found.extend(wrong.map(|(id, _)| Violation::Missing(Key::Holder(*id))));
                    debug_assert!(self.totals.conserved());
                    return true;
                }
            }
        }
        false
    }

    fn window(&mut self, granter: &Granter, key: LineKey, window: &Window, now_ns: u64, found: &mut Vec<Violation>) {
        if window.row.buckets.is_empty() {
            found.push(Violation::Missing(Key::Window(key)));
        }
        for slot in &window.lines {
            let id = LineId { key, holder: slot.holder };
            *self.lines.entry(slot.holder).or_default() += 1;
            let Some(holder) = granter.books.holders.get(&slot.holder) else {
                found.push(Violation::Missing(Key::Holder(slot.holder)));
                continue;
            };
            let line = &slot.line;
            if !line.holds() {
                found.push(Violation::Equation(id));
                continue;
            }
            let settled = holder.row.state == HolderState::Settled;
            let fits = match line.end {
                End::Open => !settled || line.held.0 > 0,
                End::Closed => true,
                End::Proven | End::Forfeit => settled,
            };
            if !fits {
                found.push(Violation::Orphan(id));
            }
            self.totals.add(line, granter.whose(slot, now_ns));
        }
        self.count(&window.row.buckets, window.out(), 1);
    }

    fn passed(&self, key: LineKey) -> bool {
        !matches!(self.place, Place::Windows(at) if at < Some(key))
    }

    fn count(&mut self, buckets: &Buckets, out: i64, windows: i64) {
        for bucket in buckets.iter() {
            let sum = self.sums.entry(*bucket).or_default();
            sum.0 += out;
            sum.1 = sum.1.wrapping_add_signed(windows as i32);
        }
    }
}

fn after<K>(at: Option<K>) -> std::ops::Bound<K> {
    at.map_or(Unbounded, Excluded)
}

/// What moves behind the place of an audit that is under way.
impl Books {
    fn behind(&mut self, key: LineKey) -> Option<&mut Pass> {
        self.pass.as_mut().filter(|pass| pass.passed(key))
    }

    /// So much more is out of a window; so many windows more count in these limits.
    pub(super) fn audited(&mut self, key: LineKey, buckets: &Buckets, out: i64, windows: i64) {
        if let Some(pass) = self.behind(key) {
            pass.count(buckets, out, windows);
        }
    }

    /// A holder has a line more, or one less.
    pub(super) fn audited_line(&mut self, id: LineId, more: i32) {
        if let Some(pass) = self.behind(id.key) {
            let lines = pass.lines.entry(id.holder).or_default();
            *lines = lines.wrapping_add_signed(more);
        }
    }
}
