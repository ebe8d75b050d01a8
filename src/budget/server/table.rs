//! A server's lines: where each is, and which an account has.
//! Owns: the lines, the cores' parts of them, the accounts. Called by: the server. Never: iterates in an order that an
//! address or a hash decides.
//! Full: `open` gives nothing; who asks leaves room for what may be answered.
use super::line::{Line, NONE, Stage, Sub};
use crate::{
    budget::{AccountId, messages::LineKey},
    limits,
};
use std::collections::BTreeMap;

/// Accounts of one page.
const PAGE: u32 = 64;

/// What is known of an account, beside its lines.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Account {
    /// Its newest line.
    pub newest: u32,
    /// Not asked for until then, tenths of a second.
    pub quiet_ds: u32,
    /// The line that rests was asked for last and did not go on: next a window is to be asked for.
    pub line_refused: bool,
    /// Its books do not come out.
    pub blocked: bool,
}

impl Default for Account {
    fn default() -> Self {
        Account { newest: NONE, quiet_ds: 0, line_refused: false, blocked: false }
    }
}

/// The lines of a server of so many cores.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Table {
    cores: usize,
    lines: Vec<Line>,
    unused: Vec<u32>,
    subs: Vec<Sub>,
    blocks: Vec<u32>,
    /// Numbers are given one after the other, so pages are full, and few enough to be found fast.
    accounts: BTreeMap<u32, Box<[Account; PAGE as usize]>>,
}

impl Table {
    pub(super) fn new(cores: usize) -> Table {
        Table {
            cores,
            lines: Vec::new(),
            unused: Vec::new(),
            subs: Vec::new(),
            blocks: Vec::new(),
            accounts: BTreeMap::new(),
        }
    }

    /// Lines there are.
    pub(super) fn len(&self) -> usize {
        self.lines.len() - self.unused.len()
    }

    /// Slots there are, those without a line included: what a sweep goes through.
    pub(super) fn slots(&self) -> usize {
        self.lines.len()
    }

    /// Is there a line in this slot?
    pub(super) fn is_line(&self, slot: u32) -> bool {
        self.lines.get(slot as usize).is_some_and(|l| l.key.account != AccountId::NONE)
    }

    pub(super) fn line(&self, slot: u32) -> &Line {
        &self.lines[slot as usize]
    }

    pub(super) fn line_mut(&mut self, slot: u32) -> &mut Line {
        &mut self.lines[slot as usize]
    }

    /// A line and its cores' parts; none while no core has any.
    pub(super) fn whole(&mut self, slot: u32) -> (&mut Line, &mut [Sub]) {
        let line = &mut self.lines[slot as usize];
        let subs = match line.block {
            NONE => &mut [],
            block => &mut self.subs[block as usize * self.cores..][..self.cores],
        };
        (line, subs)
    }

    /// The part of one core, if cores have any.
    pub(super) fn sub(&mut self, slot: u32, core: usize) -> Option<(&mut Line, &mut Sub)> {
        let (line, subs) = self.whole(slot);
        subs.get_mut(core).map(|sub| (line, sub))
    }

    /// A line and its cores' parts, which are made if there are none.
    pub(super) fn whole_for_cores(&mut self, slot: u32) -> (&mut Line, &mut [Sub]) {
        if self.lines[slot as usize].block == NONE {
            let block = self.blocks.pop().unwrap_or_else(|| {
                self.subs.resize(self.subs.len() + self.cores, Sub::default());
                (self.subs.len() / self.cores) as u32 - 1
            });
            self.lines[slot as usize].block = block;
        }
        self.whole(slot)
    }

    /// No core has anything of it any more: their parts are given up.
    pub(super) fn leave_cores(&mut self, slot: u32) {
        let (line, subs) = self.whole(slot);
        subs.fill(Sub::default());
        let block = std::mem::replace(&mut line.block, NONE);
        if block != NONE {
            self.blocks.push(block);
        }
    }

    /// The line of this key, whatever its stage.
    pub(super) fn find(&self, key: LineKey) -> Option<u32> {
        self.lines_of(key.account).find(|slot| self.line(*slot).key == key)
    }

    /// The lines of an account, those made last first; few.
    pub(super) fn lines_of(&self, account: AccountId) -> impl Iterator<Item = u32> {
        let first = self.account(account).newest;
        let next = |slot: &u32| Some(self.line(*slot).older).filter(|s| *s != NONE);
        std::iter::successors(Some(first).filter(|s| *s != NONE), next)
    }

    /// A new line. `None`: there is no room for its account.
    pub(super) fn open(&mut self, key: LineKey) -> Option<u32> {
        let older = self.account_mut(key.account)?.newest;
        let line = Line { key, older, block: NONE, ..Line::default() };
        let slot = match self.unused.pop() {
            Some(slot) => {
                self.lines[slot as usize] = line;
                slot
            }
            None => {
                self.lines.push(line);
                self.lines.len() as u32 - 1
            }
        };
        self.account_mut(key.account)?.newest = slot;
        Some(slot)
    }

    /// Forgets a line that rests.
    pub(super) fn forget(&mut self, slot: u32) {
        self.leave_cores(slot);
        let Line { key, older, .. } = self.lines[slot as usize];
        let newer = self.lines_of(key.account).find(|s| self.line(*s).older == slot);
        match newer {
            Some(newer) => self.lines[newer as usize].older = older,
            None => {
                if let Some(account) = self.account_mut(key.account) {
                    account.newest = older;
                }
            }
        }
        self.lines[slot as usize] = Line { stage: Stage::Resting, block: NONE, older: NONE, ..Line::default() };
        self.unused.push(slot);
    }

    pub(super) fn account(&self, id: AccountId) -> Account {
        self.accounts.get(&(id.0 / PAGE)).map_or_else(Account::default, |page| page[(id.0 % PAGE) as usize])
    }

    /// To change what is known of an account. `None`: it is one too many.
    pub(super) fn account_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        if id == AccountId::NONE {
            return None;
        }
        let full = self.accounts.len() >= limits::ACCOUNTS_SEEN_MAX / PAGE as usize;
        let page = match self.accounts.entry(id.0 / PAGE) {
            std::collections::btree_map::Entry::Vacant(_) if full => return None,
            entry => entry.or_insert_with(|| Box::new([Account::default(); PAGE as usize])),
        };
        Some(&mut page[(id.0 % PAGE) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Period;

    fn key(account: u32, period: u32) -> LineKey {
        LineKey { account: AccountId(account), period: Period(period) }
    }

    #[test]
    fn lines_are_found_and_forgotten() {
        let mut t = Table::new(2);
        let slots = [key(1, 10), key(1, 20), key(70, 10), key(1, 30)].map(|k| t.open(k).unwrap());
        assert_eq!(t.find(key(1, 20)), Some(slots[1]));
        assert_eq!(t.find(key(1, 21)), None);
        assert_eq!(t.find(key(2, 10)), None);
        assert_eq!(t.lines_of(AccountId(1)).collect::<Vec<_>>(), [slots[3], slots[1], slots[0]]);
        t.whole_for_cores(slots[1]).1[1].granted = 5;
        // In the middle, at the end, at the front of its account's.
        for (gone, left) in [(1, vec![3, 0]), (0, vec![3]), (3, vec![])] {
            t.forget(slots[gone]);
            let expected: Vec<_> = left.into_iter().map(|i: usize| slots[i]).collect();
            assert_eq!(t.lines_of(AccountId(1)).collect::<Vec<_>>(), expected);
        }
        assert_eq!((t.len(), t.slots()), (1, 4));
        // Slots and blocks are used again, empty.
        let again = t.open(key(5, 1)).unwrap();
        assert!(slots.contains(&again));
        assert_eq!(t.whole_for_cores(again).1, [Sub::default(); 2]);
        assert_eq!(t.subs.len(), 2);
    }

    #[test]
    fn no_account_is_not_one() {
        let mut t = Table::new(1);
        assert_eq!(t.open(key(0, 1)), None);
        assert!(t.open(key(1, 1)).is_some());
        assert_eq!(t.open(key(0, 1)), None, "though its page is there");
    }
}
