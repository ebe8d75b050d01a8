//! What the granter has to know of accounts.
//! Owns: nothing. Called by: `granter`. Implemented by: the account tree; small ones in tests. Never: knows what was spent.
use crate::{
    budget::{
        AccountId,
        tree::{Pacing, State, Tree},
        window::{BucketKey, Window},
    },
    units::Money,
};

/// Windows, limits and states of accounts.
pub trait Accounts {
    /// The window of a campaign that holds a moment, milliseconds since 1970. `None`: it is none.
    fn window(&self, campaign: AccountId, at_ms: u64) -> Option<Window>;
    /// The one after that.
    fn next_window(&self, campaign: AccountId, at_ms: u64) -> Option<Window>;
    /// What may be committed of a limit. `None`: any amount.
    fn ceiling(&self, bucket: &BucketKey) -> Option<Money>;
    /// The stricter of a campaign's state and its advertiser's.
    fn state(&self, campaign: AccountId) -> Option<State>;
    /// Does this account spread its day?
    fn pacing(&self, account: AccountId) -> Pacing;
    /// As long as this is the same, so is all of the above, but for time. `None`: nobody knows.
    fn version(&self) -> Option<u64> {
        None
    }
}

impl Accounts for Tree {
    fn window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        Tree::window(self, campaign, at_ms)
    }
    fn next_window(&self, campaign: AccountId, at_ms: u64) -> Option<Window> {
        Tree::next_window(self, campaign, at_ms)
    }
    fn ceiling(&self, bucket: &BucketKey) -> Option<Money> {
        Tree::ceiling(self, bucket)
    }
    fn state(&self, campaign: AccountId) -> Option<State> {
        Tree::state(self, campaign)
    }
    fn pacing(&self, account: AccountId) -> Pacing {
        self.get(account).map_or(Pacing::Asap, |a| a.pacing)
    }
    fn version(&self) -> Option<u64> {
        Some(Tree::version(self))
    }
}
