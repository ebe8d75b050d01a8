//! What was changed of an account: when, by whom, what it was before and is now.
//! Owns: the history's entries, as the payload of frames of kind 5; an account's bytes in a store. Runs on: the ledger's
//! thread, readers of journals. Called by: `manage` makes them. Never: says what was spent.
use super::{
    AccountId, Period,
    tree::{Account, Limits, Owner, Pacing, State},
    window::{Calendar, Cutting},
    zone::Zones,
};
use crate::{
    record::codec::{Block, Read, Reader, RecordError, TEXT_MAX, flags, put_text},
    units::{Currency, Money, Rate},
};

/// The frame's kind.
pub const KIND: u8 = 5;
/// The frame's version.
pub const VERSION: u8 = 1;

/// Cuttings of one account's time: every hour of the two days that are remembered, with room to spare.
const CUTTINGS_MAX: usize = 64;
const HEAD_BYTES: usize = 8 + 4 + 1 + 1 + 1;
const RATE_BYTES: usize = 3 + 8;
const TERMS_BYTES: usize = 4 + 4 + 1 + 1 + 1 + 4 + 4 * 8;
const TERMS_BYTES_MAX: usize = TERMS_BYTES + 5 * (1 + TEXT_MAX);
/// Longest payload: head, who, a rate and its table's name, the terms before and after.
pub(crate) const BYTES_MAX: usize = HEAD_BYTES + (1 + TEXT_MAX) + RATE_BYTES + (1 + TEXT_MAX) + 2 * TERMS_BYTES_MAX;

/// What was done. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Deed {
    /// An account was added.
    Add = 1,
    /// Limits, zone or pacing were set.
    Set = 2,
    /// Its lifetime or a day's budget was topped up.
    TopUp = 3,
    /// It was paused.
    Pause = 4,
    /// It may spend again.
    Resume = 5,
    /// It was ended.
    End = 6,
}

impl Deed {
    const ALL: [Deed; 6] = [Deed::Add, Deed::Set, Deed::TopUp, Deed::Pause, Deed::Resume, Deed::End];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Deed::Add => "add",
            Deed::Set => "set",
            Deed::TopUp => "top_up",
            Deed::Pause => "pause",
            Deed::Resume => "resume",
            Deed::End => "end",
        }
    }
}

/// Which way a change came. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum By {
    /// The admin port.
    Admin = 1,
    /// The file of budgets.
    File = 2,
}

impl By {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            By::Admin => "admin",
            By::File => "file",
        }
    }
}

/// What amounts of another currency were converted at, rounded down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversion {
    /// What they were given in.
    pub currency: Currency,
    /// Units of the accounting currency for one of it.
    pub rate: Rate,
    /// The table of rates that said so.
    pub table: String,
}

/// An account without its number and its past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// What people call it.
    pub name: String,
    /// Under whom a campaign is; `NONE`: it is an advertiser, and the next three are empty.
    pub advertiser: AccountId,
    /// Who bids for it.
    pub dsp: String,
    /// `seatbid.seat`.
    pub seat: String,
    /// `bid.cid`.
    pub cid: String,
    /// Where its days begin.
    pub zone: String,
    /// From when on this zone and this hourly limit hold together.
    pub since: Period,
    /// What it may spend.
    pub limits: Limits,
    /// Put on top of one day's budget.
    pub extra: Option<(Period, Money)>,
    /// May it spend?
    pub state: State,
    /// How it spreads a day's budget.
    pub pacing: Pacing,
}

impl Terms {
    /// What holds of an account, or will when what is known to come has come.
    pub fn of(account: &Account) -> Terms {
        let (dsp, seat, cid) = match &account.owner {
            Owner::Advertiser => Default::default(),
            Owner::Campaign { dsp, seat, cid, .. } => (dsp.clone(), seat.clone(), cid.clone()),
        };
        Terms {
            name: account.name.clone(),
            advertiser: account.advertiser(),
            dsp,
            seat,
            cid,
            zone: account.zone().name().to_owned(),
            since: account.calendar.last().since,
            limits: account.limits(),
            extra: account.extra,
            state: account.state,
            pacing: account.pacing,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let money = |m: Option<Money>| m.map_or(0, |m| m.0.max(0) as u64);
        let (hourly, lifetime, extra) = (self.limits.hourly, self.limits.lifetime, self.extra);
        Block::<TERMS_BYTES>::new()
            .u32(self.advertiser.0)
            .u32(self.since.0)
            .u8(self.state as u8)
            .u8(self.pacing as u8)
            .u8(flags([hourly.is_some(), lifetime.is_some(), extra.is_some()]))
            .u64(money(Some(self.limits.daily)))
            .u64(money(hourly))
            .u64(money(lifetime))
            .u32(extra.map_or(0, |e| e.0.0))
            .u64(money(extra.map(|e| e.1)))
            .end(out);
        [&self.name, &self.dsp, &self.seat, &self.cid, &self.zone].into_iter().for_each(|text| put_text(text, out));
    }

    fn decode(r: &mut Reader<'_>) -> Read<Terms> {
        let (advertiser, since) = (AccountId(r.u32()?), Period(r.u32()?));
        let state = match r.u8()? {
            0 => State::Active,
            1 => State::Paused,
            2 => State::Ended,
            _ => return Err(RecordError::Value),
        };
        let pacing = match r.u8()? {
            0 => Pacing::Asap,
            1 => Pacing::Even,
            _ => return Err(RecordError::Value),
        };
        let [has_hourly, has_lifetime, has_extra] = r.flags()?;
        let (daily, hourly, lifetime) = (r.money()?, r.money()?, r.money()?);
        let extra = (Period(r.u32()?), r.money()?);
        let limits = Limits { daily, hourly: has_hourly.then_some(hourly), lifetime: has_lifetime.then_some(lifetime) };
        let mut text = || r.text().map(str::to_owned);
        let (name, dsp, seat, cid, zone) = (text()?, text()?, text()?, text()?, text()?);
        let extra = has_extra.then_some(extra);
        Ok(Terms { name, advertiser, dsp, seat, cid, zone, since, limits, extra, state, pacing })
    }
}

/// A change of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Movement {
    /// When, milliseconds since 1970.
    pub wall_ms: u64,
    /// Of which.
    pub account: AccountId,
    /// What was done.
    pub deed: Deed,
    /// Which way it came.
    pub by: By,
    /// Who, as far as he said.
    pub who: String,
    /// At what amounts were converted; `None`: they were given in the accounting currency, or there were none.
    pub conversion: Option<Conversion>,
    /// What was; `None`: it was not there.
    pub before: Option<Terms>,
    /// What is.
    pub after: Terms,
}

impl Movement {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Block::<HEAD_BYTES>::new()
            .u64(self.wall_ms)
            .u32(self.account.0)
            .u8(self.deed as u8)
            .u8(self.by as u8)
            .u8(flags([self.before.is_some(), self.conversion.is_some()]))
            .end(out);
        put_text(&self.who, out);
        if let Some(c) = &self.conversion {
            Block::<RATE_BYTES>::new().bytes(c.currency.0).u64(c.rate.0).end(out);
            put_text(&c.table, out);
        }
        self.before.iter().chain([&self.after]).for_each(|terms| terms.encode(out));
    }

    /// Reads [`Movement::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &[u8]) -> Result<Movement, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let (wall_ms, account) = (r.u64()?, AccountId(r.u32()?));
        let deed = r.u8()?;
        let deed = Deed::ALL.into_iter().find(|d| *d as u8 == deed).ok_or(RecordError::Value)?;
        let by = match r.u8()? {
            1 => By::Admin,
            2 => By::File,
            _ => return Err(RecordError::Value),
        };
        let [has_before, converted] = r.flags()?;
        let who = r.text()?.to_owned();
        let conversion = match converted {
            true => Some(Conversion { currency: r.currency()?, rate: r.rate()?, table: r.text()?.to_owned() }),
            false => None,
        };
        let before = has_before.then(|| Terms::decode(&mut r)).transpose()?;
        let after = Terms::decode(&mut r)?;
        r.end()?;
        Ok(Movement { wall_ms, account, deed, by, who, conversion, before, after })
    }
}

/// An account's bytes in a store, without its number: [`VERSION`], its terms, and how its time is cut.
pub fn account_bytes(account: &Account) -> Vec<u8> {
    let mut out = vec![VERSION];
    Terms::of(account).encode(&mut out);
    let cuttings = account.calendar.cuttings();
    // No more than these can be reached within what a calendar remembers.
    let cuttings = &cuttings[cuttings.len().saturating_sub(CUTTINGS_MAX)..];
    out.push(cuttings.len() as u8);
    for cutting in cuttings {
        let hourly = cutting.hourly.map_or(0, |h| h.0.max(0) as u64);
        Block::<13>::new().u32(cutting.since.0).u8(flags([cutting.hourly.is_some()])).u64(hourly).end(&mut out);
        put_text(cutting.zone.name(), &mut out);
    }
    out
}

/// Reads [`account_bytes`] back.
///
/// # Errors
/// [`RecordError`]; of a zone that this release does not know, `Value`.
pub fn account_of(id: AccountId, bytes: &[u8], zones: &mut Zones) -> Result<Account, RecordError> {
    let mut r = Reader { rest: bytes };
    if r.u8()? != VERSION {
        return Err(RecordError::Version);
    }
    let Terms { name, advertiser, dsp, seat, cid, limits, extra, state, pacing, .. } = Terms::decode(&mut r)?;
    let mut cuttings = Vec::new();
    for _ in 0..r.count8(CUTTINGS_MAX)? {
        let (since, [limited], hourly) = (Period(r.u32()?), r.flags()?, r.money()?);
        let zone = zones.get(r.text()?).map_err(|_| RecordError::Value)?;
        cuttings.push(Cutting { since, zone, hourly: limited.then_some(hourly) });
    }
    r.end()?;
    let calendar = Calendar::from_cuttings(cuttings).ok_or(RecordError::Value)?;
    let owner = match advertiser {
        AccountId::NONE => Owner::Advertiser,
        advertiser => Owner::Campaign { advertiser, dsp, seat, cid },
    };
    let (daily, lifetime) = (limits.daily, limits.lifetime);
    Ok(Account { id, name, owner, calendar, daily, lifetime, extra, state, pacing })
}

#[cfg(test)]
#[path = "movement_tests.rs"]
pub(crate) mod tests;
