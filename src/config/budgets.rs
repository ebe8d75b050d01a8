//! The file of budgets: advertisers and, below each, its campaigns.
//! Owns: its keys. Called by: the ledger, at the start and at each reload. Never: knows what accounts there are already.
//!
//! ```toml
//! [[advertiser]]
//! name = "acme"
//! zone = "Europe/Berlin"
//! daily = 1000
//!
//! [[advertiser.campaign]]
//! name = "acme.summer"
//! dsp = "north"
//! seat = "s-7"
//! cid = "c-1"
//! daily = "250.50"
//! lifetime = 5000
//! currency = "EUR"
//! ```
use super::{
    check::{Checker, Table, checked},
    kind::{Amount, Choice, CurrencyCode, Text},
    mistake::Mistake,
    schema::{Fallback, Key, Section, Shape, key},
};
use crate::{
    budget::{
        manage::Changes,
        tree::{Pacing, State},
    },
    limits,
    units::Currency,
};
use Fallback::{Required, Toml, Unset};
use std::collections::BTreeMap;
use toml::de::DeTable;

const NAME: Key<Text> = key(
    "name",
    Required("\"acme\""),
    Text { max: limits::ACCOUNT_NAME_MAX },
    "What people call it; no two accounts share one, and none is given again.",
);
const DAILY: Key<Amount> = key("daily", Required("100"), Amount, "What a day may cost.");
const HOURLY: Key<Amount> = key("hourly", Unset("10"), Amount, "What an hour may cost; unset: no limit.");
const LIFETIME: Key<Amount> = key("lifetime", Unset("5000"), Amount, "What all may cost; unset: no limit.");
const CURRENCY: Key<CurrencyCode> =
    key("currency", Unset("\"EUR\""), CurrencyCode, "What the amounts are in; unset: the accounting currency.");
const ZONE: Key<Text> =
    key("zone", Unset("\"Europe/Berlin\""), Text { max: 64 }, "Where its days begin, an IANA name.");
const STATES: Choice<State> = Choice(&[("active", State::Active), ("paused", State::Paused), ("ended", State::Ended)]);
const STATE: Key<Choice<State>> = key("state", Toml("\"active\""), STATES, "May it spend? Ended is for good.");
const PACINGS: Choice<Pacing> = Choice(&[("asap", Pacing::Asap), ("even", Pacing::Even)]);
const PACING: Key<Choice<Pacing>> = key("pacing", Toml("\"asap\""), PACINGS, "How it spreads a day's budget.");
const DSP: Key<Text> = key("dsp", Required("\"north\""), Text { max: 32 }, "Who bids for it, by its configured name.");
const SEAT: Key<Text> =
    key("seat", Unset("\"s-7\""), Text { max: limits::RECORD_TEXT_MAX }, "`seatbid.seat`; unset: of bids without one.");
const CID: Key<Text> =
    key("cid", Unset("\"c-1\""), Text { max: limits::RECORD_TEXT_MAX }, "`bid.cid`; unset: of bids without one.");

static CAMPAIGN: Section = Section {
    name: "campaign",
    path: "advertiser.campaign",
    shape: Shape::Many(limits::ACCOUNTS_MAX),
    meaning: "A campaign of the advertiser above.",
    keys: &[&NAME, &DSP, &SEAT, &CID, &DAILY, &HOURLY, &LIFETIME, &CURRENCY, &ZONE, &STATE, &PACING],
    sections: &[],
};
static ADVERTISER: Section = Section {
    name: "advertiser",
    path: "advertiser",
    shape: Shape::Many(limits::ACCOUNTS_MAX),
    meaning: "An advertiser; its limits are for all its campaigns together.",
    keys: &[&NAME, &DAILY, &HOURLY, &LIFETIME, &CURRENCY, &ZONE, &STATE, &PACING],
    sections: &[&CAMPAIGN],
};
static FILE: Section =
    Section { name: "", path: "", shape: Shape::Once, meaning: "Budgets.", keys: &[], sections: &[&ADVERTISER] };

/// Whose bids a campaign pays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Buyer {
    /// Under whom it is, by name.
    pub advertiser: String,
    /// Who bids.
    pub dsp: String,
    /// `seatbid.seat`
    pub seat: String,
    /// `bid.cid`
    pub cid: String,
}

/// An account as the file has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Line and column of its section.
    pub place: (usize, usize),
    /// What people call it.
    pub name: String,
    /// Of a campaign.
    pub buyer: Option<Buyer>,
    /// All that it may spend; a zone only where one is said.
    pub changes: Changes,
    /// What its amounts are in.
    pub currency: Option<Currency>,
    /// May it spend?
    pub state: State,
}

/// Reads a file of budgets: advertisers, each before its campaigns.
///
/// # Errors
/// Every mistake of the file, in its order.
pub fn load(text: &str) -> Result<Vec<Entry>, Vec<Mistake>> {
    checked(text, &FILE, |checker, root| {
        let mut reading = Reading { entries: Vec::new(), lines: BTreeMap::new() };
        reading.file(checker, root);
        reading.entries
    })
}

struct Reading {
    entries: Vec<Entry>,
    /// Where each name stands.
    lines: BTreeMap<String, usize>,
}

impl Reading {
    fn file(&mut self, checker: &mut Checker<'_, '_>, root: &DeTable<'_>) {
        let top = Table { section: &FILE, entries: Some(root), at: 0 };
        checker.unknown(top);
        for advertiser in checker.sections(top, "advertiser") {
            let name = self.account(checker, advertiser, None);
            for campaign in checker.sections(advertiser, "campaign") {
                let text = |found: Option<super::check::Got<String>>| found.map_or(String::new(), |got| got.value);
                let buyer = Buyer {
                    advertiser: name.clone(),
                    dsp: checker.get(campaign, &DSP).value,
                    seat: text(checker.find(campaign, &SEAT)),
                    cid: text(checker.find(campaign, &CID)),
                };
                self.account(checker, campaign, Some(buyer));
            }
        }
    }

    fn account(&mut self, checker: &mut Checker<'_, '_>, table: Table<'_, '_>, buyer: Option<Buyer>) -> String {
        let name = checker.get(table, &NAME);
        let place = checker.places.of(name.at);
        if name.sound
            && let Some(first) = self.lines.insert(name.value.clone(), place.0)
        {
            let found = format!("{} again, first on line {first}", super::mistake::quoted(&name.value));
            checker.rule(name.at, table.section.key("name"), found, "each one once".to_owned(), None);
        }
        let changes = Changes {
            daily: Some(checker.get(table, &DAILY).value),
            hourly: Some(checker.find(table, &HOURLY).map(|h| h.value)),
            lifetime: Some(checker.find(table, &LIFETIME).map(|l| l.value)),
            zone: checker.find(table, &ZONE).map(|z| z.value),
            pacing: Some(checker.get(table, &PACING).value),
        };
        let currency = checker.find(table, &CURRENCY).map(|c| c.value);
        let state = checker.get(table, &STATE).value;
        self.entries.push(Entry { place, name: name.value.clone(), buyer, changes, currency, state });
        name.value
    }
}
