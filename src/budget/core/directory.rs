//! Whose money a bid spends: names in, place in the core's table out.
//! Owns: the names of the accounts, and what is done with bids that name none. Runs on: each bidder core.
//! Called by: the core's ledger. Never: believes a hash: whoever knows how it is made can make two names of one.
//! Full: refuses an entry, with a reason, in the batch that brought it.
//!
//! Control tells accounts in batches of bounded length, which go back when they are applied, so that the core frees nothing.
use super::{
    names::Names,
    slot::{Named, Slot},
};
use crate::{
    auction::{Account, funds::dsp_key},
    budget::AccountId,
    index::Index,
    limits::{BUDGET_BATCH_MAX, BUDGET_DSP_NAMES, DSPS_MAX, RECORD_TEXT_MAX},
    units::{DspIx, fold_on, mix, same},
};

/// Longest seat and campaign id together: bids with longer ones are refused before.
pub(super) const NAME_BYTES_MAX: usize = 2 * RECORD_TEXT_MAX;

/// What a bid has to say to spend an account's money: all three, byte for byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Whose money; named otherwise before, that name goes.
    pub account: AccountId,
    /// The DSP's configured name.
    pub dsp: Box<[u8]>,
    /// `seatbid.seat`; empty: bids without one.
    pub seat: Box<[u8]>,
    /// `bid.cid`, likewise.
    pub cid: Box<[u8]>,
}

/// Why an entry was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryRefused {
    /// The table of accounts.
    #[error("more accounts than there is room for")]
    Accounts,
    /// The room for their names.
    #[error("no room for the name")]
    Names,
    /// DSPs that accounts or configurations name.
    #[error("more DSPs named than there is room for")]
    Dsps,
    /// A name longer than a record keeps can never be bid, and account 0 is none.
    #[error("a name too long, or no account")]
    Never,
}

/// Some changes of a core's directory: removals, then entries. Applied in one go, so its length is bounded.
#[derive(Clone, Debug, Default)]
pub struct DirectoryBatch {
    put: Vec<Entry>,
    remove: Vec<AccountId>,
    refused: Vec<(AccountId, EntryRefused)>,
}

impl DirectoryBatch {
    /// An empty one, with room for all it may hold.
    pub fn new() -> DirectoryBatch {
        DirectoryBatch {
            put: Vec::with_capacity(BUDGET_BATCH_MAX),
            remove: Vec::with_capacity(BUDGET_BATCH_MAX),
            refused: Vec::with_capacity(BUDGET_BATCH_MAX),
        }
    }

    /// Is there room for one change more?
    pub fn has_room(&self) -> bool {
        self.put.len() + self.remove.len() < BUDGET_BATCH_MAX
    }

    /// Adds an entry; gives it back when the batch is full.
    pub fn put(&mut self, entry: Entry) -> Result<(), Entry> {
        if !self.has_room() {
            return Err(entry);
        }
        self.put.push(entry);
        Ok(())
    }

    /// No bid finds this account any more. False: the batch is full.
    pub fn remove(&mut self, account: AccountId) -> bool {
        let room = self.has_room();
        if room {
            self.remove.push(account);
        }
        room
    }

    /// Entries that were not taken, once it is back.
    pub fn refused(&self) -> &[(AccountId, EntryRefused)] {
        &self.refused
    }

    /// For the next use. Not on a core: it frees names.
    pub fn clear(&mut self) {
        self.put.clear();
        self.remove.clear();
        self.refused.clear();
    }
}

/// What `unbudgeted` says of a DSP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unbudgeted {
    /// Bids without an account are recorded and not limited.
    Allow,
    /// They are refused.
    Refuse,
}

/// What is done with a DSP's bids that name no account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// They spend this account's money; [`AccountId::NONE`]: there is no such account.
    pub default_account: AccountId,
    /// Else this. Unset: allowed until an account names the DSP, refused from then on.
    pub unbudgeted: Option<Unbudgeted>,
}

/// Where a bid's money is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    Slot(u32, &'a Slot),
    /// It needs none.
    Unbudgeted,
    No,
}

/// A DSP that an account or the configuration names. Its row does not change while that is so.
#[derive(Clone, Debug)]
struct Dsp {
    /// Of its name. No two rows in use have one, so bids are known by it.
    key: u64,
    name: [u8; RECORD_TEXT_MAX],
    len: u8,
    /// Accounts that name it.
    accounts: u32,
    configured: bool,
    /// An account names it that there was no room for.
    lacking: bool,
    policy: Policy,
}

impl Dsp {
    #[inline]
    fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.len)]
    }
}

/// Names and numbers of accounts, each at a slot of the core's table.
#[derive(Debug)]
pub(super) struct Directory {
    seed: u64,
    dsps: Vec<Dsp>,
    /// Rows of the DSPs of the configuration that is in force.
    rows: [u8; DSPS_MAX],
    /// Some DSP that an account or a configuration names has no row.
    rowless: bool,
    by_name: Index,
    by_account: Index,
    /// Who and whatever else is at each slot.
    pub(super) table: Box<[Slot]>,
    free: Vec<u32>,
    /// Slots from here on were never used.
    top: u32,
    names: Names,
}

const NO_ROW: u8 = u8::MAX;
const _: () = assert!(BUDGET_DSP_NAMES < NO_ROW as usize && RECORD_TEXT_MAX <= u8::MAX as usize);

impl Directory {
    /// `seed` is a secret that keeps lookups short; that they are right needs none.
    pub(super) fn new(accounts: usize, name_bytes: usize, seed: u64) -> Directory {
        Directory {
            seed,
            dsps: Vec::with_capacity(BUDGET_DSP_NAMES),
            rows: [NO_ROW; DSPS_MAX],
            rowless: false,
            by_name: Index::new(accounts),
            by_account: Index::new(accounts),
            table: vec![Slot::empty(); accounts].into(),
            free: (0..accounts as u32).rev().collect(),
            top: 0,
            names: Names::new(name_bytes),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let per_account = size_of_val(&*self.table) + self.free.capacity() * size_of::<u32>();
        per_account + self.by_name.bytes() + self.by_account.bytes() + self.names.bytes()
    }

    /// Slots that an account is or was at: the first so many.
    pub(super) fn top(&self) -> usize {
        self.top as usize
    }

    /// Slots that an account is at.
    pub(super) fn used(&self) -> usize {
        self.table.len() - self.free.len()
    }

    #[inline]
    pub(super) fn account(&self, slot: u32) -> AccountId {
        self.table[slot as usize].named.account
    }

    pub(super) fn is_listed(&self, slot: u32) -> bool {
        self.table[slot as usize].named.listed
    }

    fn account_tag(&self, account: AccountId) -> u32 {
        (mix(self.seed ^ u64::from(account.0)) >> 32) as u32
    }

    /// The key of a seat has the DSP and the seat in it.
    #[inline]
    pub(super) fn name_tag(&self, seat_key: u64, cid: &[u8]) -> u32 {
        (fold_on(self.seed ^ seat_key, cid) >> 32) as u32
    }

    pub(super) fn slot_of(&self, account: AccountId) -> Option<u32> {
        self.by_account.find(self.account_tag(account), |slot| self.table[slot as usize].named.account == account)
    }

    #[inline]
    fn named(&self, account: &Account<'_>) -> Option<(u32, &Slot)> {
        let tag = self.name_tag(account.seat_key, account.cid);
        let first = self.by_name.first(tag)?;
        // Two of one tag are rare enough that nothing should be made ready for them.
        let slot = &self.table[first.at as usize];
        if self.is(&slot.named, account) { Some((first.at, slot)) } else { self.named_behind(tag, account) }
    }

    #[cold]
    fn named_behind(&self, tag: u32, account: &Account<'_>) -> Option<(u32, &Slot)> {
        let found = self.by_name.find(tag, |slot| self.is(&self.table[slot as usize].named, account));
        found.map(|slot| (slot, &self.table[slot as usize]))
    }

    #[inline]
    fn is(&self, n: &Named, account: &Account<'_>) -> bool {
        let lens = (usize::from(n.seat_len), usize::from(n.cid_len));
        if n.seat_key != account.seat_key || lens != (account.seat.len(), account.cid.len()) {
            return false;
        }
        let (seat, cid) = self.names.get(n.text, lens.0 + lens.1).split_at(lens.0);
        same(seat, account.seat) && same(cid, account.cid)
    }

    /// The row of a bid's DSP. An auction that began under an older configuration may have another number for it.
    #[inline]
    fn row(&self, account: &Account<'_>) -> Option<u8> {
        let row = self.rows.get(usize::from(account.dsp.0)).copied().unwrap_or(NO_ROW);
        match self.dsps.get(usize::from(row)) {
            Some(dsp) if dsp.key == account.dsp_key => Some(row),
            _ => self.row_of(account.dsp_key),
        }
    }

    fn row_of(&self, key: u64) -> Option<u8> {
        let used = |d: &Dsp| d.accounts > 0 || d.configured || d.lacking;
        self.dsps.iter().position(|d| used(d) && d.key == key).map(|row| row as u8)
    }

    /// Where the money of a bid is.
    #[inline]
    pub(super) fn find(&self, account: &Account<'_>) -> Found<'_> {
        // Where nothing is limited nothing is looked for.
        match if self.top > 0 { self.named(account) } else { None } {
            Some((at, slot)) => Found::Slot(at, slot),
            None => self.unnamed(account),
        }
    }

    #[cold]
    fn unnamed(&self, account: &Account<'_>) -> Found<'_> {
        // No account and no configuration knows this DSP; or one does, and there was no room to note it.
        let Some(row) = self.row(account) else { return if self.rowless { Found::No } else { Found::Unbudgeted } };
        let dsp = &self.dsps[usize::from(row)];
        if dsp.policy.default_account != AccountId::NONE {
            return self
                .slot_of(dsp.policy.default_account)
                .map_or(Found::No, |slot| Found::Slot(slot, &self.table[slot as usize]));
        }
        match dsp.policy.unbudgeted {
            Some(Unbudgeted::Allow) => Found::Unbudgeted,
            None if dsp.accounts == 0 && !dsp.lacking => Found::Unbudgeted,
            _ => Found::No,
        }
    }

    /// The DSPs of a new configuration, in its order. False: some found no room and have no policy.
    pub(super) fn configure<'a>(&mut self, dsps: impl Iterator<Item = (&'a [u8], Policy)>) -> bool {
        for dsp in &mut self.dsps {
            (dsp.configured, dsp.policy) = (false, Policy::default());
        }
        self.rows = [NO_ROW; DSPS_MAX];
        let mut all = true;
        for (ix, (name, policy)) in dsps.enumerate().take(DSPS_MAX) {
            match self.row_for(name) {
                Some(row) => {
                    self.rows[ix] = row;
                    let dsp = &mut self.dsps[usize::from(row)];
                    (dsp.configured, dsp.policy) = (true, policy);
                }
                None => all = false,
            }
        }
        self.rowless |= !all;
        all
    }

    /// The row of a DSP, a new one where there is none.
    fn row_for(&mut self, name: &[u8]) -> Option<u8> {
        let key = dsp_key(name);
        if let Some(row) = self.row_of(key) {
            // Two names of one key cannot be told apart later: there is no room for the second.
            return (self.dsps[usize::from(row)].name() == name).then_some(row);
        }
        let mut text = [0; RECORD_TEXT_MAX];
        text.get_mut(..name.len())?.copy_from_slice(name);
        let policy = Policy::default();
        let new =
            Dsp { key, name: text, len: name.len() as u8, accounts: 0, configured: false, lacking: false, policy };
        if let Some(row) = self.dsps.iter().position(|d| d.accounts == 0 && !d.configured && !d.lacking) {
            self.dsps[row] = new;
            return Some(row as u8);
        }
        if self.dsps.len() == BUDGET_DSP_NAMES {
            return None;
        }
        self.dsps.push(new);
        Some((self.dsps.len() - 1) as u8)
    }

    /// Applies a batch; what it could not take is named in it.
    pub(super) fn apply(&mut self, batch: &mut DirectoryBatch) {
        for account in &batch.remove {
            if let Some(slot) = self.slot_of(*account) {
                self.unlist(slot);
            }
        }
        for entry in &batch.put {
            if let Err(why) = self.put(entry) {
                // An account names this DSP, if one that is not known here: it is not one without a budget.
                if let Some(row) = self.row_for(&entry.dsp) {
                    self.dsps[usize::from(row)].lacking = true;
                }
                batch.refused.push((entry.account, why));
            }
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<(), EntryRefused> {
        let (seat, cid) = (&*entry.seat, &*entry.cid);
        if entry.account == AccountId::NONE || seat.len() > RECORD_TEXT_MAX || cid.len() > RECORD_TEXT_MAX {
            return Err(EntryRefused::Never);
        }
        if entry.dsp.len() > RECORD_TEXT_MAX {
            return Err(EntryRefused::Never);
        }
        let Some(dsp) = self.row_for(&entry.dsp) else {
            self.rowless = true;
            return Err(EntryRefused::Dsps);
        };
        let account = Account::of(DspIx(u16::MAX), &entry.dsp, seat, cid);
        let known = self.slot_of(entry.account);
        match self.named(&account) {
            Some((slot, _)) if Some(slot) == known => return Ok(()),
            // The name is another account's from now on.
            Some((other, _)) => self.unlist(other),
            None => {}
        }
        if known.is_none() && self.free.is_empty() {
            return Err(EntryRefused::Accounts);
        }
        if let Some(slot) = known {
            self.unlist(slot);
        }
        let text = self.names.put(seat, cid).ok_or(EntryRefused::Names)?;
        let slot = match known {
            Some(slot) => slot,
            None => {
                let slot = self.free.pop().ok_or(EntryRefused::Accounts)?;
                self.top = self.top.max(slot + 1);
                self.by_account.insert(self.account_tag(entry.account), slot);
                slot
            }
        };
        let (seat_len, cid_len) = (seat.len() as u8, cid.len() as u8);
        self.table[slot as usize].named =
            Named { seat_key: account.seat_key, account: entry.account, text, seat_len, cid_len, dsp, listed: true };
        self.by_name.insert(self.name_tag(account.seat_key, cid), slot);
        self.dsps[usize::from(dsp)].accounts += 1;
        Ok(())
    }

    /// No bid finds it by a name any more.
    fn unlist(&mut self, slot: u32) {
        let n = self.table[slot as usize].named;
        if !n.listed {
            return;
        }
        let (seat, len) = (usize::from(n.seat_len), usize::from(n.seat_len) + usize::from(n.cid_len));
        let cid = &self.names.get(n.text, len)[seat..];
        let tag = self.name_tag(n.seat_key, cid);
        self.by_name.remove(tag, slot);
        self.names.free(n.text, len);
        self.dsps[usize::from(n.dsp)].accounts -= 1;
        self.table[slot as usize].named = Named { account: n.account, ..Named::default() };
    }

    /// An account that no bid finds has no line any more: its slot free for another. False: it
    /// is found by bids, or it is free already.
    pub(super) fn release(&mut self, slot: u32) -> bool {
        let n = self.table[slot as usize].named;
        if n.listed || n.account == AccountId::NONE {
            return false;
        }
        self.by_account.remove(self.account_tag(n.account), slot);
        self.table[slot as usize].named = Named::default();
        self.free.push(slot);
        true
    }
}
