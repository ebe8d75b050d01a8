//! What accounts are called, and under whom they are: records have their numbers alone.
//! Owns: names. Called by: [`super::accounts`], [`crate::tiers::accounts`]. Never: forgets one.
use crate::budget::{AccountId, movement::Terms};
use std::collections::BTreeMap;

/// An account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// What people call it.
    pub name: String,
    /// Under whom it is; `NONE`: it is an advertiser.
    pub advertiser: AccountId,
}

impl Name {
    /// As the terms of an account say.
    pub fn of(terms: &Terms) -> Name {
        Name { name: terms.name.clone(), advertiser: terms.advertiser }
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Named(BTreeMap<AccountId, Name>);

impl Named {
    /// An account is called so. True: that is new.
    pub fn put(&mut self, id: AccountId, name: Name) -> bool {
        self.0.insert(id, name.clone()) != Some(name)
    }

    /// An account.
    pub fn get(&self, id: AccountId) -> Option<&Name> {
        self.0.get(&id)
    }

    /// What it is called.
    pub fn name(&self, id: AccountId) -> Option<&str> {
        self.get(id).map(|known| known.name.as_str())
    }

    /// Under whom an account is: itself, if it is an advertiser or nothing is known of it.
    pub fn advertiser(&self, id: AccountId) -> AccountId {
        self.get(id).map(|known| known.advertiser).filter(|a| a.is_some()).unwrap_or(id)
    }

    /// All, in order of their numbers.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (&AccountId, &Name)> {
        self.0.iter()
    }
}

impl FromIterator<(AccountId, Name)> for Named {
    fn from_iter<I: IntoIterator<Item = (AccountId, Name)>>(all: I) -> Named {
        Named(all.into_iter().collect())
    }
}
