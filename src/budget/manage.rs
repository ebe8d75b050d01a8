//! Changes of accounts: what an operator may ask for, whether it can be, and the entry it leaves in the history.
//! Owns: the rules of the account tree. Runs on: the ledger's thread. Called by: the admin port and the file of budgets.
//! Never: changes anything when it refuses; looks at what was spent: a limit below that is legal, and stops.
use super::{
    AccountId, Period,
    movement::{By, Conversion, Deed, Movement, Terms},
    tree::{Account, Misfit, Owner, Pacing, State, Tree},
    window::Calendar,
    zone::{UnknownZone, Zone},
};
use crate::{
    config::{Dsp, RateTable, suggest},
    limits,
    units::{Currency, Money, Round},
};

/// Limits and manners to be set; what is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// What a day may cost.
    pub daily: Option<Money>,
    /// What an hour may cost; `Some(None)`: as much as there is.
    pub hourly: Option<Option<Money>>,
    /// What all may cost; `Some(None)`: as much as there is.
    pub lifetime: Option<Option<Money>>,
    /// Where its days begin.
    pub zone: Option<String>,
    /// How it spreads a day's budget.
    pub pacing: Option<Pacing>,
}

/// What is to be done to an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// A new advertiser; its daily budget is required, its zone is UTC unless it is said.
    AddAdvertiser(Changes),
    /// A new campaign; its daily budget is required, its zone is its advertiser's unless it is said.
    AddCampaign {
        /// Under whom, by name.
        advertiser: String,
        /// Who bids for it, by its configured name.
        dsp: String,
        /// `seatbid.seat`; empty: of bids without one.
        seat: String,
        /// `bid.cid`; empty: of bids without one.
        cid: String,
        /// What it may spend.
        changes: Changes,
    },
    /// Sets what is said.
    Set(Changes),
    /// More for the day that runs.
    TopUpToday(Money),
    /// More in all.
    TopUpLifetime(Money),
    /// It may not spend until it is resumed.
    Pause,
    /// It may spend again.
    Resume,
    /// It may never spend again.
    End,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// To the account of this name.
    pub account: String,
    /// What.
    pub act: Act,
    /// What its amounts are in; `None`: the accounting currency.
    pub currency: Option<Currency>,
    /// Who asks, as far as he says.
    pub who: String,
    /// Which way it came.
    pub by: By,
}

/// What operations are judged by besides the tree.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What amounts are converted at.
    pub rates: &'a RateTable,
    /// Who may bid.
    pub dsps: &'a [Dsp],
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// Why an operation was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No account has this name.
    #[error("no account is named \"{name}\"{}", or(nearest))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// There is one of this name.
    #[error("there is an account named \"{0}\"; names are not given again, not after an end either")]
    Exists(String),
    /// This cannot be a name.
    #[error("\"{0}\" cannot be an account's name; allowed: 1 to {max} of a-z, 0-9, _, - and .", max = limits::ACCOUNT_NAME_MAX)]
    Name(String),
    /// Another campaign has these bids.
    #[error("bids of DSP \"{dsp}\", seat \"{seat}\", cid \"{cid}\" are paid by \"{by}\"; each is paid by one account")]
    Taken {
        /// Who bids.
        dsp: String,
        /// `seatbid.seat`
        seat: String,
        /// `bid.cid`
        cid: String,
        /// Who pays.
        by: String,
    },
    /// No such DSP is configured.
    #[error("no DSP is named \"{name}\"{}; configured: {known}", or(nearest))]
    Dsp {
        /// What was asked for.
        name: String,
        /// What was probably meant.
        nearest: Option<String>,
        /// All there are.
        known: String,
    },
    /// The DSP may not bid for this seat.
    #[error("DSP \"{dsp}\" may not bid for seat \"{seat}\"; it may for: {known}")]
    Seat {
        /// Who.
        dsp: String,
        /// For whom.
        seat: String,
        /// For whom it may.
        known: String,
    },
    /// A text is too long.
    #[error("{what} has {bytes} bytes; allowed: at most {max}", max = limits::RECORD_TEXT_MAX)]
    TooLong {
        /// Which text.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A campaign is to be under something else than an advertiser.
    #[error("\"{0}\" is a campaign; campaigns are under advertisers")]
    NoAdvertiser(String),
    /// There is no such zone.
    #[error(transparent)]
    Zone(#[from] UnknownZone),
    /// The currency has no rate.
    #[error("there is no rate for {currency} in the table of {table}; known: {known}")]
    NoRate {
        /// Which.
        currency: Currency,
        /// Name of the table of rates.
        table: String,
        /// All that have one.
        known: String,
    },
    /// An amount that none can be.
    #[error("{what} is {amount}; allowed: 0 to {}, and a top-up above 0", Money::MAX)]
    Amount {
        /// Of what.
        what: &'static str,
        /// In the accounting currency.
        amount: Money,
    },
    /// A new account without a daily budget.
    #[error("\"{0}\" needs a daily budget")]
    NoDaily(String),
    /// There is no lifetime budget that could be topped up.
    #[error("\"{0}\" has no lifetime budget; set one instead")]
    NoLifetime(String),
    /// It has ended.
    #[error("\"{0}\" has ended, for good; add an account of another name")]
    Ended(String),
    /// There are as many accounts as there can be.
    #[error("there are {} accounts, and no more can be", limits::ACCOUNTS_MAX)]
    Full,
    /// The clock is beyond the calendar.
    #[error("the clock says a year beyond 2169")]
    Clock,
}

fn or(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |n| format!(", did you mean \"{n}\"?"))
}

/// Does it. `None`: it was so already, and nothing has changed. Else the changed account is in the tree, and the entry for the
/// history is returned; both are to be stored together before anybody is told.
///
/// # Errors
/// It cannot be; nothing has changed.
pub fn apply(tree: &mut Tree, operation: &Operation, known: &Known<'_>) -> Result<Option<Movement>, Refused> {
    let Operation { account: name, act, currency, who, by } = operation;
    let now = u32::try_from(known.now_ms / 60_000).map_err(|_| Refused::Clock)?;
    let exchange = Exchange::of(*currency, known.rates)?;
    let before = tree.named(name).cloned();
    let new = matches!(act, Act::AddAdvertiser(_) | Act::AddCampaign { .. });
    let mut account = match (&before, new) {
        (Some(_), true) => return Err(Refused::Exists(name.clone())),
        (None, false) => {
            let nearest = suggest::nearest(name, tree.names()).map(str::to_owned);
            return Err(Refused::Unknown { name: shown(name), nearest });
        }
        (Some(account), false) => account.clone(),
        (None, true) => add(tree, name, act, known)?,
    };
    if account.state == State::Ended && *act != Act::End {
        return Err(Refused::Ended(account.name));
    }
    let deed = match act {
        Act::AddAdvertiser(changes) | Act::AddCampaign { changes, .. } => {
            changes.daily.ok_or_else(|| Refused::NoDaily(name.clone()))?;
            // From the beginning, as nothing is leased yet.
            let zone = changes.zone.as_ref().map_or(Ok(account.zone().clone()), |z| tree.zones().get(z))?;
            let hourly = changes.hourly.flatten().map(|h| exchange.amount("the hourly limit", h)).transpose()?;
            account.calendar = Calendar::new(zone, hourly);
            let rest = Changes { zone: None, hourly: None, ..changes.clone() };
            set(&mut account, &rest, None, &exchange, now)?;
            Deed::Add
        }
        Act::Set(changes) => {
            let zone = changes.zone.as_ref().map(|z| tree.zones().get(z)).transpose()?;
            set(&mut account, changes, zone, &exchange, now)?;
            Deed::Set
        }
        Act::TopUpToday(more) => {
            let more = exchange.more(*more)?;
            let day = Period(account.calendar.day(now).ok_or(Refused::Clock)?.0);
            let already = account.extra.filter(|e| e.0 == day).map_or(Money::default(), |e| e.1);
            account.extra = Some((day, sum("today's top-ups", already, more)?));
            Deed::TopUp
        }
        Act::TopUpLifetime(more) => {
            let lifetime = account.lifetime.ok_or_else(|| Refused::NoLifetime(name.clone()))?;
            account.lifetime = Some(sum("the lifetime budget", lifetime, exchange.more(*more)?)?);
            Deed::TopUp
        }
        Act::Pause => {
            account.state = State::Paused;
            Deed::Pause
        }
        Act::Resume => {
            account.state = State::Active;
            Deed::Resume
        }
        Act::End => {
            account.state = State::Ended;
            Deed::End
        }
    };
    if before.as_ref() == Some(&account) {
        return Ok(None);
    }
    let movement = Movement {
        wall_ms: known.now_ms,
        account: account.id,
        deed,
        by: *by,
        who: who.chars().take(limits::ACCOUNT_NAME_MAX).collect(),
        conversion: exchange.conversion().filter(|_| has_amounts(act)),
        before: before.as_ref().map(Terms::of),
        after: Terms::of(&account),
    };
    put(tree, account)?;
    Ok(Some(movement))
}

/// What a name is not held to when it is shown back.
fn shown(name: &str) -> String {
    name.chars().take(limits::ACCOUNT_NAME_MAX).flat_map(char::escape_debug).collect()
}

/// A new account as it is without its limits.
fn add(tree: &mut Tree, name: &str, act: &Act, known: &Known<'_>) -> Result<Account, Refused> {
    let fits = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > limits::ACCOUNT_NAME_MAX || !name.bytes().all(fits) {
        return Err(Refused::Name(shown(name)));
    }
    if tree.len() >= limits::ACCOUNTS_MAX {
        return Err(Refused::Full);
    }
    let (owner, calendar) = match act {
        Act::AddCampaign { advertiser, dsp, seat, cid, .. } => {
            let Some(above) = tree.named(advertiser) else {
                let advertisers = tree.list().filter(|a| a.owner == Owner::Advertiser).map(|a| a.name.as_str());
                let nearest = suggest::nearest(advertiser, advertisers).map(str::to_owned);
                return Err(Refused::Unknown { name: shown(advertiser), nearest });
            };
            if above.owner != Owner::Advertiser {
                return Err(Refused::NoAdvertiser(advertiser.clone()));
            }
            if above.state == State::Ended {
                return Err(Refused::Ended(advertiser.clone()));
            }
            buyer(dsp, seat, cid, known.dsps)?;
            let owner =
                Owner::Campaign { advertiser: above.id, dsp: dsp.clone(), seat: seat.clone(), cid: cid.clone() };
            (owner, Calendar::new(above.zone().clone(), None))
        }
        _ => (Owner::Advertiser, Calendar::new(tree.zones().get("UTC")?, None)),
    };
    Ok(Account {
        id: tree.next_id(),
        name: name.to_owned(),
        owner,
        calendar,
        daily: Money::default(),
        lifetime: None,
        extra: None,
        state: State::Active,
        pacing: Pacing::Asap,
    })
}

/// A DSP that is configured, a seat that it may bid for, texts that records hold whole.
fn buyer(dsp: &str, seat: &str, cid: &str, dsps: &[Dsp]) -> Result<(), Refused> {
    for (what, text) in [("seat", seat), ("cid", cid)] {
        if text.len() > limits::RECORD_TEXT_MAX {
            return Err(Refused::TooLong { what, bytes: text.len() });
        }
    }
    let Some(configured) = dsps.iter().find(|d| d.name == dsp) else {
        let names: Vec<&str> = dsps.iter().map(|d| d.name.as_str()).collect();
        let nearest = suggest::nearest(dsp, names.iter().copied()).map(str::to_owned);
        return Err(Refused::Dsp { name: shown(dsp), nearest, known: names.join(", ") });
    };
    let may = configured.seats.is_empty() || seat.is_empty() || configured.seats.iter().any(|s| s == seat);
    if !may {
        return Err(Refused::Seat { dsp: dsp.to_owned(), seat: shown(seat), known: configured.seats.join(", ") });
    }
    Ok(())
}

fn put(tree: &mut Tree, account: Account) -> Result<(), Refused> {
    let names = (account.name.clone(), account.owner.clone());
    tree.put(account).map_err(|misfit| match (misfit, names) {
        (Misfit::Taken(_, by), (_, Owner::Campaign { dsp, seat, cid, .. })) => {
            Refused::Taken { dsp, seat, cid, by: tree.get(by).map_or(String::new(), |a| a.name.clone()) }
        }
        (Misfit::Taken(..), (name, _)) => Refused::Exists(name),
        (Misfit::Number(_), _) => Refused::Full,
    })
}

fn set(
    account: &mut Account,
    changes: &Changes,
    zone: Option<Zone>,
    exchange: &Exchange,
    now: u32,
) -> Result<(), Refused> {
    if let Some(daily) = changes.daily {
        account.daily = exchange.amount("the daily budget", daily)?;
    }
    if let Some(lifetime) = changes.lifetime {
        account.lifetime = lifetime.map(|l| exchange.amount("the lifetime budget", l)).transpose()?;
    }
    if let Some(pacing) = changes.pacing {
        account.pacing = pacing;
    }
    if let Some(zone) = zone {
        account.calendar.set_zone(zone, now);
    }
    if let Some(hourly) = changes.hourly {
        let hourly = hourly.map(|h| exchange.amount("the hourly limit", h)).transpose()?;
        account.calendar.set_hourly(hourly, now);
    }
    Ok(())
}

fn has_amounts(act: &Act) -> bool {
    match act {
        Act::AddAdvertiser(c) | Act::AddCampaign { changes: c, .. } | Act::Set(c) => {
            c.daily.is_some() || c.hourly.flatten().is_some() || c.lifetime.flatten().is_some()
        }
        Act::TopUpToday(_) | Act::TopUpLifetime(_) => true,
        Act::Pause | Act::Resume | Act::End => false,
    }
}

/// Amounts as they were given, and what they are in the accounting currency.
struct Exchange(Option<Conversion>);

impl Exchange {
    fn of(currency: Option<Currency>, rates: &RateTable) -> Result<Exchange, Refused> {
        let Some(currency) = currency.filter(|c| *c != rates.accounting) else { return Ok(Exchange(None)) };
        let Some(rate) = rates.rate(currency) else {
            let known = rates.rates.iter().map(|r| r.0.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Refused::NoRate { currency, table: rates.id.clone(), known });
        };
        Ok(Exchange(Some(Conversion { currency, rate, table: rates.id.clone() })))
    }

    fn amount(&self, what: &'static str, given: Money) -> Result<Money, Refused> {
        let amount = self.0.as_ref().map_or(given, |c| c.rate.money_to_accounting(given, Round::Down));
        let fits = (0..=Money::MAX.0).contains(&amount.0);
        if fits { Ok(amount) } else { Err(Refused::Amount { what, amount }) }
    }

    fn more(&self, given: Money) -> Result<Money, Refused> {
        let amount = self.amount("the top-up", given)?;
        if amount.0 > 0 { Ok(amount) } else { Err(Refused::Amount { what: "the top-up", amount }) }
    }

    fn conversion(self) -> Option<Conversion> {
        self.0
    }
}

fn sum(what: &'static str, a: Money, b: Money) -> Result<Money, Refused> {
    // Both are far inside 64 bits.
    let amount = Money(a.0.saturating_add(b.0));
    if amount <= Money::MAX { Ok(amount) } else { Err(Refused::Amount { what, amount }) }
}

/// What `id` is called, or its number where it is not there.
pub fn name_of(tree: &Tree, id: AccountId) -> String {
    tree.get(id).map_or_else(|| id.0.to_string(), |a| a.name.clone())
}

#[cfg(test)]
#[path = "manage_tests.rs"]
pub(crate) mod tests;
