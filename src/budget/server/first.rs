//! Accounts that cores have bids on and no window of which is known.
//! Owns: who asked for which, until the granter has answered. Called by: the server. Full: gives no entry; the core's next bid
//! on the account asks again.
use crate::{budget::AccountId, limits};
use std::collections::BTreeMap;

/// Who asked for an account.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct FirstAsked {
    /// The largest price of a bid.
    pub price: i64,
    cores: [u64; limits::CORES_MAX / 64],
    /// In the ask that is under way.
    pub sent: bool,
}

impl FirstAsked {
    /// This core asked too.
    pub(super) fn also(&mut self, core: usize, price: i64) {
        self.price = self.price.max(price);
        self.cores[core / 64] |= 1 << (core % 64);
    }

    /// Did this core?
    pub(super) fn by(&self, core: usize) -> bool {
        self.cores[core / 64] & 1 << (core % 64) != 0
    }
}

/// All of them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct First(BTreeMap<AccountId, FirstAsked>);

impl First {
    /// The entry of an account, while there are `lines` lines: each may bring two, the window that runs and the next.
    pub(super) fn entry(&mut self, account: AccountId, lines: usize) -> Option<&mut FirstAsked> {
        let full = self.0.len() >= limits::FIRST_TOUCHES_MAX || lines + 2 * self.0.len() + 2 > limits::LINES_MAX;
        if full { self.0.get_mut(&account) } else { Some(self.0.entry(account).or_default()) }
    }

    /// Those that have not been asked for.
    pub(super) fn unsent(&mut self) -> impl Iterator<Item = (AccountId, &mut FirstAsked)> {
        self.0.iter_mut().filter(|(_, f)| !f.sent).map(|(account, f)| (*account, f))
    }

    /// It is answered.
    pub(super) fn take(&mut self, account: AccountId) -> Option<FirstAsked> {
        self.0.remove(&account)
    }

    /// Nothing is asked for any more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
