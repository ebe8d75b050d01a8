//! All rows in memory, and the few moves that money can make between them.
//! Owns: windows with their lines, buckets, holders, notes on accounts; which of them the store has yet to be told of.
//! Called by: the rest of `granter`. Never: decides whether a move is right; moves a line without its buckets.
use super::{
    End, Fault, HolderId, Line, LineId,
    check::Violation,
    pass::Pass,
    planted::Planted,
    rows::{AccountRow, Archived, BucketRow, Change, HolderRow, Key, Row, WindowRow},
};
use crate::{
    budget::{
        AccountId, LineKey, Period,
        window::{BucketKey, Buckets, Span},
    },
    units::Money,
};
use std::collections::{BTreeMap, BTreeSet};

/// A window that has lines.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Window {
    pub(super) row: WindowRow,
    /// By holder, ascending: one for each start of each machine that had money of it.
    pub(super) lines: Vec<Slot>,
    /// What was found when one of them was answered last.
    pub(super) known: Option<Known>,
}

/// What is true of a running window as long as no account changes, but for `left`: for renewals that want no money.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Known {
    /// Of the accounts.
    pub(super) version: u64,
    /// When it was found, nanoseconds since boot.
    pub(super) found_ns: u64,
    /// When the window ends, milliseconds since 1970.
    pub(super) ends_ms: u64,
    /// What the holder that was answered could hope for.
    pub(super) left: Money,
}

/// A line, and what is not stored of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Slot {
    pub(super) holder: HolderId,
    pub(super) line: Line,
    /// The lease has expired at this moment of the granter's own clock, nanoseconds since boot.
    pub(super) until_ns: u64,
}

/// A limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Bucket {
    pub(super) row: BucketRow,
    /// Windows in memory that count in it.
    pub(super) windows: u32,
}

/// A start of a machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Holder {
    pub(super) row: HolderRow,
    /// The last ask that was heard; at least the row's.
    pub(super) heard: u64,
    /// Its lines in memory.
    pub(super) lines: u32,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Books {
    pub(super) windows: BTreeMap<LineKey, Window>,
    pub(super) buckets: BTreeMap<BucketKey, Bucket>,
    pub(super) holders: BTreeMap<HolderId, Holder>,
    pub(super) accounts: BTreeMap<AccountId, AccountRow>,
    /// What the store has to be told of: by key, so that each row is told once, as it is then.
    dirty: BTreeSet<Key>,
    touched: bool,
    archive: Vec<(Key, Archived)>,
    forget: Option<Period>,
    /// An audit that is under way.
    pub(super) pass: Option<Pass>,
    pub(super) planted: Planted,
}

impl Window {
    pub(super) fn place(&self, holder: HolderId) -> Result<usize, usize> {
        self.lines.binary_search_by_key(&holder, |slot| slot.holder)
    }

    pub(super) fn out(&self) -> i64 {
        self.lines.iter().map(|slot| slot.line.out().0).sum()
    }
}

impl Books {
    // --- reading -----------------------------------------------------------------------------------

    pub(super) fn slot(&self, id: LineId) -> Option<&Slot> {
        let window = self.windows.get(&id.key)?;
        window.place(id.holder).ok().map(|at| &window.lines[at])
    }

    pub(super) fn slot_mut(&mut self, id: LineId) -> Option<&mut Slot> {
        let window = self.windows.get_mut(&id.key)?;
        let at = window.place(id.holder).ok()?;
        Some(&mut window.lines[at])
    }

    pub(super) fn committed(&self, bucket: &BucketKey) -> Money {
        self.buckets.get(bucket).map_or(Money(0), |b| b.row.committed)
    }

    /// The latest start of a machine that is known.
    pub(super) fn latest(&self, node: u32) -> Option<u32> {
        let all = HolderId { node, epoch: 0 }..=HolderId { node, epoch: u32::MAX };
        self.holders.range(all).next_back().map(|(id, _)| id.epoch)
    }

    /// Lines of one holder. Looks at all windows: for what happens once in the life of a process.
    pub(super) fn lines_of(&self, holder: HolderId) -> impl Iterator<Item = (LineId, &Line)> {
        self.windows.iter().filter_map(move |(key, window)| {
            let at = window.place(holder).ok()?;
            Some((LineId { key: *key, holder }, &window.lines[at].line))
        })
    }

    /// Open lines of one account that one holder has.
    pub(super) fn lines_open(&self, holder: HolderId, account: AccountId) -> impl Iterator<Item = LineId> {
        let key = |period| LineKey { account, period: Period(period) };
        self.windows.range(key(0)..=key(u32::MAX)).filter_map(move |(key, window)| {
            let slot = &window.lines[window.place(holder).ok()?];
            (slot.line.end == End::Open).then_some(LineId { key: *key, holder })
        })
    }

    // --- moving ------------------------------------------------------------------------------------

    /// A window is there and counts in all these buckets, with all that is out of it.
    pub(super) fn open_window(&mut self, key: LineKey, buckets: &Buckets) {
        let window = self.windows.entry(key).or_default();
        let (mut known, out) = (window.row.buckets, window.out());
        if known == *buckets {
            return;
        }
        let new: Vec<BucketKey> = buckets.iter().filter(|b| !known.contains(b)).copied().collect();
        let mut more = Buckets::default();
        for bucket in &new {
            known.push(*bucket);
            more.push(*bucket);
            let entry = self.buckets.entry(*bucket).or_default();
            entry.row.committed.0 += out;
            entry.windows += 1;
            self.mark(Key::Bucket(*bucket));
        }
        if !new.is_empty() {
            self.audited(key, &more, out, 1);
            self.windows.entry(key).or_default().row.buckets = known;
            self.mark(Key::Window(key));
        }
    }

    /// A line begins, with nothing; its window is there.
    pub(super) fn open_line(&mut self, id: LineId) {
        let Some(window) = self.windows.get_mut(&id.key) else { return };
        if let Err(at) = window.place(id.holder) {
            window.lines.insert(at, Slot { holder: id.holder, line: Line::default(), until_ns: 0 });
            self.holders.entry(id.holder).or_default().lines += 1;
            self.audited_line(id, 1);
            self.mark(Key::Line(id));
        }
    }

    /// Changes a line, and its buckets by what that changes of what is out. The one way in which money moves.
    ///
    /// # Errors
    /// The line's equation would not hold, or a bucket's: nothing has changed.
    pub(super) fn change(&mut self, id: LineId, to: Line) -> Result<(), Violation> {
        let Some(window) = self.windows.get(&id.key) else { return Err(Violation::Unknown(id)) };
        let Ok(at) = window.place(id.holder) else { return Err(Violation::Unknown(id)) };
        let (from, buckets) = (window.lines[at].line, window.row.buckets);
        if from == to {
            return Ok(());
        }
        if !to.holds() {
            return Err(Violation::Equation(id));
        }
        let more = to.out().0 - from.out().0;
        if more != 0 {
            let debited = debited(self.planted, id, buckets);
            for key in debited.clone() {
                let committed = self.buckets.get(&key).map_or(0, |b| b.row.committed.0);
                // What is committed is at most the largest ceiling, far inside 64 bits.
                if committed.checked_add(more).is_none_or(|n| n < 0) {
                    return Err(Violation::Bucket(key));
                }
            }
            for key in debited {
                self.buckets.entry(key).or_default().row.committed.0 += more;
                self.mark(Key::Bucket(key));
            }
            self.audited(id.key, &buckets, more, 0);
        }
        if let Some(slot) = self.slot_mut(id) {
            slot.line = to;
        }
        self.mark(Key::Line(id));
        Ok(())
    }

    // --- rows that are not money ---------------------------------------------------------------------

    pub(super) fn holder_mut(&mut self, id: HolderId) -> &mut Holder {
        self.mark(Key::Holder(id));
        self.holders.entry(id).or_default()
    }

    pub(super) fn account_mut(&mut self, id: AccountId) -> &mut AccountRow {
        self.mark(Key::Account(id));
        self.accounts.entry(id).or_default()
    }

    fn mark(&mut self, key: Key) {
        self.dirty.insert(key);
        self.touched = true;
    }

    /// Has anything changed since this was asked before?
    pub(super) fn touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Has the store to be told of anything?
    pub(super) fn unsaid(&self) -> bool {
        !self.dirty.is_empty() || !self.archive.is_empty() || self.forget.is_some()
    }

    // --- away from memory ----------------------------------------------------------------------------

    /// A window whose lines have nothing out goes to the archive; what was spent stays in its buckets.
    pub(super) fn fold(&mut self, key: LineKey) {
        let Some(window) = self.windows.remove(&key) else { return };
        self.audited(key, &window.row.buckets, -window.out(), -1);
        let mut old = Archived::default();
        for slot in &window.lines {
            self.audited_line(LineId { key, holder: slot.holder }, -1);
            old.spent.0 += slot.line.spent().0;
            if slot.line.end == End::Forfeit {
                old.forfeit.0 += slot.line.spent().0;
            }
            self.mark(Key::Line(LineId { key, holder: slot.holder }));
            if let Some(holder) = self.holders.get_mut(&slot.holder) {
                holder.lines = holder.lines.saturating_sub(1);
            }
        }
        for bucket in window.row.buckets.iter() {
            if let Some(entry) = self.buckets.get_mut(bucket) {
                entry.row.folded.0 += old.spent.0;
                entry.row.forfeit.0 += old.forfeit.0;
                entry.windows = entry.windows.saturating_sub(1);
                self.mark(Key::Bucket(*bucket));
            }
        }
        self.mark(Key::Window(key));
        self.archive.push((Key::OldWindow(key), old));
        let account = self.account_mut(key.account);
        account.archived = account.archived.max(key.period);
    }

    /// A day or hour that is over and has no window in memory goes to the archive.
    pub(super) fn fold_bucket(&mut self, key: BucketKey) {
        if key.span != Span::Life && self.buckets.get(&key).is_some_and(|b| b.windows == 0) {
            let row = self.buckets.remove(&key).unwrap_or_default().row;
            self.mark(Key::Bucket(key));
            self.archive.push((Key::OldBucket(key), Archived { spent: row.folded, forfeit: row.forfeit }));
        }
    }

    /// A start that is over and has no line any more, and is not the latest of its machine, is forgotten.
    pub(super) fn forget_holder(&mut self, id: HolderId) {
        let over = self.holders.get(&id).is_some_and(|h| h.lines == 0);
        if over && self.latest(id.node).is_some_and(|latest| latest > id.epoch) {
            self.holders.remove(&id);
            self.mark(Key::Holder(id));
        }
    }

    /// The archive may forget what is before this.
    pub(super) fn forget_before(&mut self, period: Period) {
        self.forget = Some(period);
    }

    // --- the store -------------------------------------------------------------------------------------

    /// What the store has to be told, each row once. They count as told from now on.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changes: Vec<Change> = dirty.into_iter().map(|key| self.now(key)).collect();
        let archive = std::mem::take(&mut self.archive);
        changes.extend(archive.into_iter().filter_map(|(key, old)| match key {
            Key::OldWindow(key) => Some(Change::Put(Row::OldWindow(key, old))),
            Key::OldBucket(key) => Some(Change::Put(Row::OldBucket(key, old))),
            _ => None,
        }));
        changes.extend(self.forget.take().map(Change::Forget));
        changes
    }

    fn now(&self, key: Key) -> Change {
        let row = match key {
            Key::Line(id) => self.slot(id).map(|slot| Row::Line(id, slot.line)),
            Key::Window(key) => self.windows.get(&key).map(|w| Row::Window(key, w.row)),
            Key::Bucket(key) => self.buckets.get(&key).map(|b| Row::Bucket(key, b.row)),
            Key::Holder(id) => self.holders.get(&id).map(|h| Row::Holder(id, h.row.clone())),
            Key::Account(id) => self.accounts.get(&id).map(|a| Row::Account(id, *a)),
            Key::OldWindow(_) | Key::OldBucket(_) => None,
        };
        row.map_or(Change::Remove(key), Change::Put)
    }

    /// Rows as they were stored, in any order. Leases count from `until_ns`, since nobody knows when they were granted.
    pub(super) fn load(rows: impl IntoIterator<Item = Row>, until_ns: u64) -> Books {
        let mut books = Books::default();
        for row in rows {
            match row {
                Row::Line(id, line) => {
                    let window = books.windows.entry(id.key).or_default();
                    let slot = Slot { holder: id.holder, line, until_ns };
                    match window.place(id.holder) {
                        Ok(at) => window.lines[at] = slot,
                        Err(at) => window.lines.insert(at, slot),
                    }
                    books.holders.entry(id.holder).or_default().lines += 1;
                }
                Row::Window(key, row) => {
                    books.windows.entry(key).or_default().row = row;
                    for bucket in row.buckets.iter() {
                        books.buckets.entry(*bucket).or_default().windows += 1;
                    }
                }
                Row::Bucket(key, row) => books.buckets.entry(key).or_default().row = row,
                Row::Holder(id, row) => {
                    let holder = books.holders.entry(id).or_default();
                    holder.heard = row.req;
                    holder.row = row;
                }
                Row::Account(id, row) => drop(books.accounts.insert(id, row)),
                Row::OldWindow(..) | Row::OldBucket(..) => {}
            }
        }
        books
    }
}

/// What a window's grants are debited to.
fn debited(planted: Planted, id: LineId, buckets: Buckets) -> impl Iterator<Item = BucketKey> + Clone {
    let forgets = planted.has(Fault::AdvertiserNotDebited);
    (0..buckets.len()).map(move |at| buckets[at]).filter(move |b| !forgets || b.account == id.key.account)
}
