//! What accounts are called, as far as the journal said so: records have their numbers alone.
//! Owns: nothing but them. Called by: [`super::gather`]. Never: forgets one; knows one whose movements were let go before anything was
//! exported: that one is `account-N`.
use super::json::Json;
use crate::{
    billing::named::{Name, Named},
    budget::{AccountId, movement::Movement},
    record::show::json::Object,
};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Accounts(Named);

impl Accounts {
    /// A movement was read. True: it said something new.
    pub fn moved(&mut self, movement: &Movement) -> bool {
        self.0.put(movement.account, Name::of(&movement.after))
    }

    /// The account's own name; `None`: there is no account, or nobody said its name.
    pub fn name(&self, account: AccountId) -> Option<&str> {
        self.0.name(account)
    }

    /// Whose it is: the name of its advertiser. Empty: there is no account.
    pub fn advertiser(&self, account: AccountId) -> String {
        if !account.is_some() {
            return String::new();
        }
        let of = self.0.advertiser(account);
        self.name(of).map_or_else(|| format!("account-{of}"), str::to_string)
    }

    /// As a file.
    pub fn write(&self) -> String {
        let mut out = String::new();
        Object::write(&mut out, |o| {
            o.list("accounts", self.0.all(), |o, (id, known)| {
                o.number("account", id);
                o.text("name", known.name.as_bytes());
                o.some_number("advertiser", known.advertiser.is_some().then_some(known.advertiser.0));
            });
        });
        out.push('\n');
        out
    }

    /// Reads [`Accounts::write`] back.
    pub fn read(bytes: &[u8]) -> Option<Accounts> {
        let read = Json::parse(bytes).ok()?;
        let one = |one: &Json| {
            let number = |key| one.count(key).and_then(|n| u32::try_from(n).ok());
            let advertiser = AccountId(number("advertiser").unwrap_or(0));
            Some((AccountId(number("account")?), Name { name: one.text("name")?.to_string(), advertiser }))
        };
        read.get("accounts")?;
        read.list("accounts").iter().map(one).collect::<Option<_>>().map(Accounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_read_back() {
        let known =
            |id, name: &str, advertiser| (AccountId(id), Name { name: name.into(), advertiser: AccountId(advertiser) });
        let all = [known(1, "Shoes \"&\" more", 0), known(2, "spring", 1), known(3, "x", 9)];
        let accounts = Accounts(all.into_iter().collect());
        assert_eq!(Accounts::read(accounts.write().as_bytes()), Some(accounts.clone()));
        assert_eq!(accounts.advertiser(AccountId(2)), "Shoes \"&\" more");
        assert_eq!(accounts.advertiser(AccountId(1)), "Shoes \"&\" more");
        assert_eq!(accounts.advertiser(AccountId(3)), "account-9", "nobody said what that one is called");
        assert_eq!(
            (accounts.advertiser(AccountId(7)), accounts.advertiser(AccountId(0))),
            ("account-7".into(), String::new())
        );
        assert_eq!(Accounts::read(b"{}"), None);
        assert_eq!(Accounts::read(Accounts::default().write().as_bytes()), Some(Accounts::default()));
    }
}
