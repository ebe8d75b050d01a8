//! What money is kept under.
//! Owns: nothing. Runs on: everywhere. Called by: whoever names an account. Never: tells what an account is allowed.
use std::fmt;

/// An account for ever: numbers are given from 1 and never again. An advertiser, or a campaign under one; only campaigns
/// are leased and charged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AccountId(pub u32);

impl AccountId {
    /// No account: what is bought without a budget.
    pub const NONE: AccountId = AccountId(0);

    /// Is it one?
    pub fn is_some(self) -> bool {
        self != AccountId::NONE
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which window of an account: the minute since 1970 (UTC) at which it begins. The windows of an account follow each other
/// without gaps; a new one begins whenever a day or an hour that limits it does. What is spent counts to the window of the
/// lease that paid for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Period(pub u32);

impl Period {
    /// Its first moment, in milliseconds since 1970.
    pub fn starts_ms(self) -> u64 {
        u64::from(self.0) * 60_000
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
