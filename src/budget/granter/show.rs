//! What people and metrics are told.
//! Owns: nothing. Called by: the admin API, metrics, alarms. Never: changes money.
use super::{
    End, Granter, HolderId, Line, LineId, Totals, Violation, Whose,
    rows::{BucketRow, HolderRow},
};
use crate::{
    budget::{AccountId, Period, messages::LineKey, window::BucketKey},
    units::Money,
};

/// A line, and whether its money is in quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineView {
    /// Which.
    pub id: LineId,
    /// Its sums.
    pub line: Line,
    /// Its holder is dead or did not renew in time.
    pub quarantined: bool,
}

/// How a limit stands: `committed = spent + leased + quarantined`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// Granted and not returned.
    pub committed: Money,
    /// Known to have been spent: for good, and by living holders as of their last cuts.
    pub spent: Money,
    /// Charged to winners whose notices have not come yet.
    pub held: Money,
    /// With living holders, and not known to have been spent.
    pub leased: Money,
    /// With holders that are dead or did not renew in time: counts as spent until it is proven otherwise.
    pub quarantined: Money,
    /// Of what was spent, what no record proves.
    pub forfeit: Money,
}

impl Granter {
    /// All money of the lines in memory. Looks at every line; [`Granter::audit`] checks them too.
    pub fn totals(&self, now_ns: u64) -> Totals {
        let mut totals = Totals::default();
        for slot in self.books.windows.values().flat_map(|w| &w.lines) {
            totals.add(&slot.line, self.whose(slot, now_ns));
        }
        totals
    }

    /// The lines of an account, oldest window first.
    pub fn lines(&self, account: AccountId, now_ns: u64) -> impl Iterator<Item = LineView> {
        let key = |period| LineKey { account, period: Period(period) };
        let windows = self.books.windows.range(key(0)..=key(u32::MAX));
        windows.flat_map(move |(key, w)| w.lines.iter().map(move |slot| (*key, slot))).map(move |(key, slot)| {
            LineView {
                id: LineId { key, holder: slot.holder },
                line: slot.line,
                quarantined: self.is_quarantined(slot, now_ns),
            }
        })
    }

    /// All lines that have money in quarantine, by account.
    pub fn quarantine(&self, now_ns: u64) -> impl Iterator<Item = LineView> {
        let lines = self.books.windows.iter().flat_map(|(key, w)| w.lines.iter().map(move |slot| (*key, slot)));
        let open = lines.filter(move |(_, slot)| slot.line.out() > Money(0) && self.is_quarantined(slot, now_ns));
        open.map(|(key, slot)| LineView { id: LineId { key, holder: slot.holder }, line: slot.line, quarantined: true })
    }

    /// A line.
    pub fn line_of(&self, id: LineId) -> Option<Line> {
        self.books.slot(id).map(|slot| slot.line)
    }

    /// What is committed of a limit; `None`: nothing ever was, or its day or hour is in the archive.
    pub fn bucket(&self, key: &BucketKey) -> Option<BucketRow> {
        self.books.buckets.get(key).map(|b| b.row)
    }

    /// How a limit of a campaign or an advertiser stands. Looks at the campaign's windows, or at everybody's for an advertiser:
    /// for people, some accounts at a time.
    pub fn standing(&self, key: &BucketKey, advertiser: bool, now_ns: u64) -> Standing {
        let row = self.bucket(key).unwrap_or_default();
        let (committed, spent, forfeit) = (row.committed, row.folded, row.forfeit);
        let mut standing = Standing { committed, spent, forfeit, ..Standing::default() };
        let line = |account, period| LineKey { account: AccountId(account), period: Period(period) };
        let (first, last) = if advertiser { (0, u32::MAX) } else { (key.account.0, key.account.0) };
        let windows = self.books.windows.range(line(first, 0)..=line(last, u32::MAX));
        let counts = |w: &super::books::Window| w.row.buckets.contains(key);
        for slot in windows.filter(|(_, w)| counts(w)).flat_map(|(_, w)| &w.lines) {
            let line = &slot.line;
            match line.end {
                End::Open => {
                    // What is held was charged, and may yet come home.
                    let known = (line.known_spent().0 - line.held.0).max(0);
                    let rest = line.out().0 - line.held.0 - known;
                    let place = match self.whose(slot, now_ns) {
                        Whose::Quarantined => &mut standing.quarantined,
                        Whose::Leased => &mut standing.leased,
                        Whose::Spent => &mut standing.spent,
                    };
                    place.0 += rest;
                    standing.spent.0 += known;
                    standing.held.0 += line.held.0;
                }
                end => {
                    standing.spent.0 += line.spent().0;
                    standing.forfeit.0 += if end == End::Forfeit { line.spent().0 } else { 0 };
                }
            }
        }
        standing
    }

    /// What is in memory of a campaign's windows that begin from `from` on and before `until`: their lines, oldest first.
    pub fn lines_between(
        &self,
        account: AccountId,
        from: Period,
        until: Period,
    ) -> impl Iterator<Item = (LineId, Line)> {
        let key = |period| LineKey { account, period };
        let windows = (from < until).then(|| self.books.windows.range(key(from)..key(until)));
        let lines = windows.into_iter().flatten().flat_map(|(key, w)| w.lines.iter().map(move |slot| (*key, slot)));
        lines.map(|(key, slot)| (LineId { key, holder: slot.holder }, slot.line))
    }

    /// Starts of machines, with the frames that their cuts contain.
    pub fn holders_known(&self) -> impl Iterator<Item = (HolderId, &HolderRow)> {
        self.books.holders.iter().map(|(id, holder)| (*id, &holder.row))
    }

    /// What was found not to hold since this was called before, for the log and the alarm.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// How often each invariant was found not to hold since the start, by [`Violation::code`].
    pub fn violations_found(&self) -> impl Iterator<Item = (u8, u64)> {
        self.found.iter().map(|(code, n)| (*code, *n))
    }

    /// Accounts that a violation stopped, and the code of the invariant.
    pub fn stopped(&self) -> impl Iterator<Item = (AccountId, u8)> {
        self.stopped.iter().map(|id| (*id, self.books.accounts.get(id).map_or(0, |row| row.stopped)))
    }

    /// Somebody has looked: the account may spend again. Its change is committed like an ask's.
    pub fn clear(&mut self, account: AccountId) {
        if self.stopped.remove(&account) {
            self.books.account_mut(account).stopped = 0;
        }
    }
}
