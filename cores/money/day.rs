//! What the ledger knows of the windows that began on one day: for `outcry audit reconcile`, which compares it with the record.
//! Owns: its form as text. Runs on: the ledger's thread; the main thread of an audit. Called by: [`super::api`], `audit`.
//! Never: adds anything up.
//!
//! A line for each thing, its words parted by spaces; amounts are nano-units, moments minutes since 1970:
//! ```text
//! account ID NAME FIRST-MINUTE END-MINUTE
//! line PERIOD NODE EPOCH GRANTED RETURNED CHARGED FREED open|closed|proven|forfeit
//! old PERIOD SPENT FORFEIT
//! holder NODE EPOCH live|dead FRAMES-OF-CORE-0 ...
//! next ID
//! ```
//! `line` and `old` (a window that is in the archive) belong to the account before them. A `holder` is a start of a machine;
//! its lines' charged and freed are as of these frames.
use super::{ledger::Ledger, store::StoreError};
use outcry::{
    budget::{
        AccountId, LineKey, Period,
        granter::{
            End, HolderId, Line, LineId,
            rows::{Archived, HolderState, Key},
        },
        store::Store,
        tree::Owner,
    },
    record::when,
    units::Money,
};
use std::{collections::BTreeMap, fmt::Write, str::FromStr};

const DAY_MS: u64 = 86_400_000;

/// Some campaigns' windows of a day.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// In the order of their numbers.
    pub campaigns: Vec<Campaign>,
    /// The starts of machines that are known.
    pub holders: BTreeMap<HolderId, Holder>,
    /// The account that the next page begins with.
    pub next: Option<AccountId>,
}

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Campaign {
    /// Its number.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// Windows that begin from here on are of the day.
    pub from: Period,
    /// And before this.
    pub until: Period,
    /// What starts of machines had of them.
    pub lines: Vec<(LineId, Line)>,
    /// Windows in the archive.
    pub old: Vec<(Period, Archived)>,
}

/// A start of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holder {
    /// No later one is known, and it is not settled.
    pub live: bool,
    /// The last frame of each core that the sums of its lines contain.
    pub frames: Vec<u64>,
}

/// A day's number, counted from 1 January 1970, of a date such as 2026-01-31.
pub fn number(date: &str) -> Option<u32> {
    let (from, to) = when::parse(date)?;
    (to - from == DAY_MS).then_some(())?;
    u32::try_from(from / DAY_MS).ok()
}

impl Ledger {
    /// A page of a day.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn page(&self, day: u32, from: AccountId, most: usize) -> Result<Page, StoreError> {
        use super::api::Manager;
        let mut page = Page::default();
        let campaign = |a: &&outcry::budget::tree::Account| a.id >= from && matches!(a.owner, Owner::Campaign { .. });
        let mut campaigns = self.tree().list().filter(campaign);
        for account in campaigns.by_ref().take(most) {
            let Some((from, until)) = self.tree().day(account.id, day) else { continue };
            let archived = self.store().archived(account.id, from, until)?;
            page.campaigns.push(Campaign {
                id: account.id,
                name: account.name.clone(),
                from,
                until,
                lines: self.granter().lines_between(account.id, from, until).collect(),
                old: archived.into_iter().filter_map(|(key, old)| window(key).map(|period| (period, old))).collect(),
            });
        }
        page.next = campaigns.next().map(|a| a.id);
        page.holders = self
            .granter()
            .holders_known()
            .map(|(id, row)| (id, Holder { live: row.state == HolderState::Live, frames: row.frames.clone() }))
            .collect();
        Ok(page)
    }
}

fn window(key: Key) -> Option<Period> {
    match key {
        Key::OldWindow(LineKey { period, .. }) => Some(period),
        _ => None,
    }
}

const ENDS: [(End, &str); 4] =
    [(End::Open, "open"), (End::Closed, "closed"), (End::Proven, "proven"), (End::Forfeit, "forfeit")];

impl Page {
    /// As text.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // A string takes everything.
        for c in &self.campaigns {
            let _ = writeln!(out, "account {} {} {} {}", c.id.0, c.name, c.from.0, c.until.0);
            for (LineId { key, holder }, l) in &c.lines {
                let end = ENDS.iter().find(|e| e.0 == l.end).map_or("open", |e| e.1);
                let sums = [l.granted, l.returned, l.charged, l.freed].map(|m| m.0.to_string()).join(" ");
                let _ = writeln!(out, "line {} {} {} {sums} {end}", key.period.0, holder.node, holder.epoch);
            }
            for (period, old) in &c.old {
                let _ = writeln!(out, "old {} {} {}", period.0, old.spent.0, old.forfeit.0);
            }
        }
        for (id, holder) in &self.holders {
            let state = if holder.live { "live" } else { "dead" };
            let _ = write!(out, "holder {} {} {state}", id.node, id.epoch);
            for frames in &holder.frames {
                let _ = write!(out, " {frames}");
            }
            out.push('\n');
        }
        if let Some(next) = self.next {
            let _ = writeln!(out, "next {}", next.0);
        }
        out
    }

    /// What [`Page::text`] wrote; `None`: it is something else.
    pub fn parse(text: &str) -> Option<Page> {
        let mut page = Page::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            match words.next()? {
                "account" => page.campaigns.push(Campaign {
                    id: AccountId(read(&mut words)?),
                    name: words.next()?.to_owned(),
                    from: Period(read(&mut words)?),
                    until: Period(read(&mut words)?),
                    lines: Vec::new(),
                    old: Vec::new(),
                }),
                "line" => {
                    let campaign = page.campaigns.last_mut()?;
                    let key = LineKey { account: campaign.id, period: Period(read(&mut words)?) };
                    let holder = HolderId { node: read(&mut words)?, epoch: read(&mut words)? };
                    let mut line = Line { granted: Money(read(&mut words)?), ..Line::default() };
                    (line.returned, line.charged) = (Money(read(&mut words)?), Money(read(&mut words)?));
                    line.freed = Money(read(&mut words)?);
                    let end = words.next()?;
                    line.end = ENDS.iter().find(|e| e.1 == end)?.0;
                    campaign.lines.push((LineId { key, holder }, line));
                }
                "old" => {
                    let period = Period(read(&mut words)?);
                    let old = Archived { spent: Money(read(&mut words)?), forfeit: Money(read(&mut words)?) };
                    page.campaigns.last_mut()?.old.push((period, old));
                }
                "holder" => {
                    let id = HolderId { node: read(&mut words)?, epoch: read(&mut words)? };
                    let live = words.next()? == "live";
                    let frames = words.by_ref().map(|n| n.parse().ok()).collect::<Option<_>>()?;
                    page.holders.insert(id, Holder { live, frames });
                }
                "next" => page.next = Some(AccountId(read(&mut words)?)),
                _ => return None,
            }
            if words.next().is_some() {
                return None;
            }
        }
        Some(page)
    }
}

fn read<T: FromStr>(words: &mut std::str::Split<'_, char>) -> Option<T> {
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let holder = HolderId { node: 9, epoch: 2 };
        let key = LineKey { account: AccountId(3), period: Period(60) };
        let [granted, returned, charged, freed] = [50, 20, 40, 10].map(Money);
        let line = |end| Line { granted, returned, charged, freed, end, ..Line::default() };
        let lines = ENDS.iter().map(|(end, _)| (LineId { key, holder }, line(*end))).collect();
        let old = vec![(Period(0), Archived { spent: Money(7), forfeit: Money(1) })];
        let (id, name, from, until) = (AccountId(3), "acme.summer".to_owned(), Period(0), Period(1440));
        let page = Page {
            campaigns: vec![Campaign { id, name, from, until, lines, old }],
            holders: [(holder, Holder { live: true, frames: vec![5, 0] }), (HolderId::default(), Holder::default())]
                .into(),
            next: Some(AccountId(4)),
        };
        assert_eq!(Page::parse(&page.text()), Some(page.clone()));
        for wrong in ["line 1 2 3", "old 1 2 3", "something", "account 1 a 2 3 4", "holder 1 2 live x"] {
            assert_eq!(Page::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn days_have_numbers() {
        assert_eq!(number("2026-11-21"), Some(20_778));
        assert_eq!((number("2026-11-21T00:00:00Z"), number("21.11.2026")), (None, None));
    }
}
