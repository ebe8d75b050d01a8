//! What truly happened to money: every auction that was charged, every delivery that gave something back.
//! Owns: the sums that the world itself makes. Called by: the world. Never: believes what granter, server or core says.
use outcry::{
    budget::{
        AccountId, LineKey,
        granter::{Granter, HolderId, LineId},
        tree::Tree,
        window::{BucketKey, Buckets},
    },
    units::Money,
};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Sum {
    pub(crate) charged: i64,
    pub(crate) freed: i64,
}

impl Sum {
    pub(crate) fn net(self) -> i64 {
        self.charged - self.freed
    }
}

#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) lines: BTreeMap<(HolderId, LineKey), Sum>,
    pub(crate) buckets: BTreeMap<BucketKey, i64>,
    of: BTreeMap<LineKey, Buckets>,
    /// Limits that were lowered below what was committed: that much is still right.
    allowed: BTreeMap<BucketKey, i64>,
    pub(crate) auctions: u64,
    /// Wins that wait for their notices, by when these expire and their names.
    awaited: BTreeMap<(u32, u64), (HolderId, LineKey, i64)>,
    /// What the granter's wall clock says, if it was never wrong: windows are its.
    pub(crate) wall_ms: Option<u64>,
}

/// Clocks that go wrong by 100 ppm each are so far apart at the end of the longest time that a reply names, at most.
const SLACK_MS: u64 = 20;

impl Truth {
    pub(crate) fn buckets_of(&mut self, tree: &Tree, key: LineKey) -> Buckets {
        let window = || tree.window(key.account, key.period.starts_ms()).map(|w| w.buckets).unwrap_or_default();
        *self.of.entry(key).or_insert_with(window)
    }

    /// An answer is on its way.
    pub(crate) fn charge(&mut self, tree: &Tree, holder: HolderId, key: LineKey, amount: i64) -> Result<(), String> {
        if let Some(now) = self.wall_ms {
            let ends = tree.window(key.account, key.period.starts_ms()).map_or(0, |w| w.ends_ms);
            if now + SLACK_MS < key.period.starts_ms() || now >= ends + SLACK_MS {
                return Err(format!("{holder:?} spends of {key:?}, which ends at {ends}, at {now}"));
            }
        }
        self.lines.entry((holder, key)).or_default().charged += amount;
        self.auctions += 1;
        for bucket in self.buckets_of(tree, key).iter() {
            let spent = self.buckets.entry(*bucket).or_default();
            *spent += amount;
            let spent = *spent;
            if let Some(most) = self.most(tree, bucket)
                && spent > most
            {
                return Err(format!("overspent: {spent} of {most} of {bucket:?}, by {holder:?} of {key:?}"));
            }
        }
        Ok(())
    }

    /// It did not arrive.
    pub(crate) fn free(&mut self, tree: &Tree, holder: HolderId, key: LineKey, amount: i64) -> Result<(), String> {
        let sum = self.lines.entry((holder, key)).or_default();
        sum.freed += amount;
        if sum.net() < 0 {
            return Err(format!("{holder:?} freed more than it charged of {key:?}: {sum:?}"));
        }
        for bucket in self.buckets_of(tree, key).iter() {
            *self.buckets.entry(*bucket).or_default() -= amount;
        }
        Ok(())
    }

    /// What was charged waits for its notice.
    pub(crate) fn awaits(&mut self, name: u64, holder: HolderId, key: LineKey, amount: i64, expires_s: u32) {
        self.awaited.insert((expires_s, name), (holder, key, amount));
    }

    /// The notice is on record, in time; the first of a win counts.
    pub(crate) fn billed(&mut self, tree: &Tree, name: u64, expires_s: u32, charge: i64) -> Result<(), String> {
        let Some((holder, key, amount)) = self.awaited.remove(&(expires_s, name)) else { return Ok(()) };
        if charge < amount { self.free(tree, holder, key, amount - charge) } else { Ok(()) }
    }

    /// What expired by now without a notice is nobody's debt.
    pub(crate) fn expire(&mut self, tree: &Tree, wall_s: u32) -> Result<(), String> {
        while let Some(entry) = self.awaited.first_entry().filter(|entry| entry.key().0 <= wall_s) {
            let (holder, key, amount) = entry.remove();
            self.free(tree, holder, key, amount)?;
        }
        Ok(())
    }

    /// What may be spent of a limit.
    pub(crate) fn most(&self, tree: &Tree, bucket: &BucketKey) -> Option<i64> {
        let ceiling = tree.ceiling(bucket)?.0;
        Some(self.allowed.get(bucket).copied().unwrap_or(0).max(ceiling))
    }

    /// Limits are about to change: what is committed stays right.
    pub(crate) fn before_change(&mut self, tree: &Tree, granter: &Granter, account: AccountId, wall_ms: u64) {
        let mut keys: Vec<BucketKey> = self.buckets.keys().filter(|b| b.account == account).copied().collect();
        for campaign in tree.list().filter(|a| a.advertiser() == account || a.id == account) {
            let windows = [tree.window(campaign.id, wall_ms), tree.next_window(campaign.id, wall_ms)];
            let buckets = windows.into_iter().flatten().flat_map(|w| w.buckets.to_vec());
            keys.extend(buckets.filter(|b| b.account == account));
        }
        for key in keys {
            let committed = granter.bucket(&key).map_or(0, |row| row.committed.0);
            let most = self.most(tree, &key).map_or(committed, |most| most.min(committed));
            self.allowed.insert(key, most);
        }
    }

    /// What was committed above a lowered limit comes home and stays home.
    pub(crate) fn shrink(&mut self, granter: &Granter) {
        self.allowed.retain(|key, allowed| {
            *allowed = granter.bucket(key).map_or(*allowed, |row| row.committed.0.min(*allowed));
            *allowed > 0
        });
    }

    /// Of what the granter's books say of each line and limit, nothing is less than what was spent.
    pub(crate) fn compare(&self, granter: &Granter) -> Result<(), String> {
        use outcry::budget::granter::End;
        for ((holder, key), sum) in &self.lines {
            // What is in the archive is in the limits' sums.
            let Some(line) = granter.line_of(LineId { key: *key, holder: *holder }) else { continue };
            let exact = matches!(line.end, End::Closed | End::Proven);
            if line.out() < Money(sum.net()) || exact && line.out() != Money(sum.net()) {
                return Err(format!("{holder:?} {key:?}: spent {sum:?}, the granter says {line:?}"));
            }
        }
        for (key, spent) in &self.buckets {
            if let Some(row) = granter.bucket(key)
                && row.committed.0 < *spent
            {
                return Err(format!("{key:?}: {spent} spent, the granter says {row:?}"));
            }
        }
        Ok(())
    }
}
