//! Whose accounts there are: by the movements in the journal; what is older than it, by the ledger.
//! Owns: nothing. Called by: `invoice`, `advertiser`, `reconcile`. Never: needs the ledger where the record says all.
use super::{AuditError, Range, Where, directory::Journal, say, walk};
use crate::{
    bidder::turn,
    money::{api::Manager, cli, ledger::Ledger, store::FILE},
};
use outcry::{
    billing::accounts::Accounts,
    budget::{AccountId, movement::Movement},
    config::{self, suggest},
    record::frame::Kind,
};
use simd_json::prelude::*;
use std::{net::SocketAddr, path::Path};

/// Accounts in one answer of the exchange.
const PAGE: usize = 1_000;

/// All accounts that anybody here knows of. False: not all of the journal could be read.
pub(super) fn accounts(
    journal: &mut Journal,
    place: &Where,
    admin: Option<SocketAddr>,
) -> Result<(Accounts, bool), AuditError> {
    let mut accounts = Accounts::default();
    // Of any time: an account may be older than what is asked for.
    let whole = walk::frames(journal, Range::default(), &mut |_, frame| {
        if frame.kind() == Some(Kind::Account) {
            match Movement::decode(frame.header.version, frame.payload()) {
                Ok(movement) => accounts.moved(&movement),
                Err(why) => say(format_args!("a change of an account cannot be read: {why}")),
            }
        }
        Ok(())
    })?;
    match admin {
        Some(admin) => asked(admin, &mut accounts).map_err(AuditError::Ledger)?,
        // Without one the journal says what it can.
        None => {
            if let Some(Ok(ledger)) = ledger(place, journal.path()) {
                listed(&ledger, &mut accounts);
            }
        }
    }
    Ok((accounts, whole))
}

/// All accounts that the ledger has.
pub(super) fn of_ledger(place: &Where, journal: &Path, admin: Option<SocketAddr>) -> Result<Accounts, AuditError> {
    let mut accounts = Accounts::default();
    match admin {
        Some(admin) => asked(admin, &mut accounts).map_err(AuditError::Ledger)?,
        None => {
            if let Some(ledger) = ledger(place, journal) {
                listed(&ledger.map_err(AuditError::Ledger)?, &mut accounts);
            }
        }
    }
    Ok(accounts)
}

fn listed(ledger: &Ledger, accounts: &mut Accounts) {
    for account in ledger.tree().list() {
        accounts.cut(account.id, &account.name, account.advertiser(), account.calendar.cuttings());
    }
}

/// An account that somebody names.
pub(super) fn one(accounts: &Accounts, name: &str) -> Result<AccountId, AuditError> {
    accounts.named(name).ok_or_else(|| {
        let near = suggest::nearest(name, accounts.names()).map_or(String::new(), |near| format!(": is it {near:?}?"));
        AuditError::Account(format!(
            "no account is called {name:?}{near}. `outcry budget list` has them all; of one that is older than the journal the \
             ledger knows, beside it or behind --admin"
        ))
    })
}

/// The ledger beside a journal, if there is one. An exchange that runs has it for itself.
pub(super) fn ledger(place: &Where, journal: &Path) -> Option<Result<Ledger, String>> {
    let near = [Some(place.dir.as_path()), journal.parent()];
    let dir = near.into_iter().flatten().find(|dir| dir.join(FILE).exists())?;
    let Ok(mut config) = config::load("", 1) else { return Some(Err("no configuration".to_owned())) };
    config.state_dir = dir.to_path_buf();
    Some(Ledger::open(&config, turn::now).map_err(|e| e.to_string()))
}

/// What the exchange says.
fn asked(admin: SocketAddr, accounts: &mut Accounts) -> Result<(), String> {
    let mut from = Some(0);
    while let Some(next) = from {
        let (status, body) = cli::fetch(admin, &format!("/budget/accounts?from={next}&most={PAGE}"))?;
        let unlike =
            || format!("{admin}: status {status}, and no list of accounts. Is it the admin port of an exchange?");
        let mut body = body.into_bytes();
        let said = simd_json::to_borrowed_value(&mut body).map_err(|_| unlike())?;
        let list = said.get_array("accounts").ok_or_else(unlike)?;
        for account in list {
            let number = |name: &str| account.get_u64(name).and_then(|n| u32::try_from(n).ok());
            let id = number("id").ok_or_else(unlike)?;
            let (name, zone) = account.get_str("name").zip(account.get_str("zone")).ok_or_else(unlike)?;
            let advertiser = AccountId(number("advertiser").unwrap_or(0));
            accounts.told(AccountId(id), name, advertiser, zone);
        }
        from = said.get_u64("next").and_then(|n| u32::try_from(n).ok());
    }
    Ok(())
}
