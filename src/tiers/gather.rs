//! A batch's frames become rows, in the order of the journal.
//! Owns: rows of the batch, wins that wait for their delivery, names of accounts. Called by: `outcry tiers export`. Never: takes
//! anything from a raw stream; drops a win because its delivery is not known.
//! Full: holds all rows of a batch; who makes batches bounds them.
//!
//! A delivery stands behind its auction, perhaps in the next batch's first segment: so reading goes on behind the batch, with
//! [`Gather::behind`], until nothing is waited for any more.
use super::{
    accounts::Accounts,
    house::Served,
    manifest::Sum,
    money::{self, Placed},
    names::{self, Table},
    table::Rows,
    wins::{self, Came, More, Won},
};
use crate::{
    auction::{
        Delivery, Record,
        delivery::{Freed, Known},
    },
    billing::Spot,
    budget::{AccountId, Period, event::Event, movement::Movement},
    notice::{holds::Lapse, told::Notice},
    record::frame::{Frame, Kind},
    units::{Currency, EventId, Money},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A delivery is written at most so long after its auction: more than the longest `tmax` and the longest write.
pub const DELIVERED_MS: u64 = 60_000;

/// What a delivery is called.
pub fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Written { .. } => "written",
        Delivery::Late { .. } => "late",
        Delivery::Failed => "failed",
        Delivery::ClientLeft => "client_left",
    }
}

/// Where rows go: which table, day, advertiser.
pub type Place = (Table, String, Vec<u8>);

/// Values of a column that a manifest names, so that files are passed over unread. More than so many are not named.
pub const NAMED_MAX: usize = 64;

/// The rows of one file.
#[derive(Clone, Debug)]
pub struct Part {
    /// See [`Rows`].
    pub rows: Rows,
    /// DSPs and seats in it; `None`: too many to be named.
    pub seats: Option<BTreeSet<(Vec<u8>, Vec<u8>)>>,
    /// Campaigns in it; likewise.
    pub cids: Option<BTreeSet<Vec<u8>>>,
    /// So many of its wins are charged when their notices come, which no row says.
    pub awaiting: u64,
}

impl Part {
    fn new(table: Table) -> Part {
        Part {
            rows: Rows::new(table.columns()),
            seats: Some(BTreeSet::new()),
            cids: Some(BTreeSet::new()),
            awaiting: 0,
        }
    }

    fn of_win(&mut self, won: &Won) {
        named(&mut self.seats, (won.dsp.clone(), won.seat.clone()));
        named(&mut self.cids, won.cid.clone());
        self.awaiting += u64::from(won.awaits);
    }
}

/// Adds a value, until there are too many.
fn named<T: Ord>(set: &mut Option<BTreeSet<T>>, value: T) {
    let Some(all) = set else { return };
    all.insert(value);
    if all.len() > NAMED_MAX {
        *set = None;
    }
}

/// What waits to hear what became of its answer.
#[expect(clippy::large_enum_variant, reason = "nearly all of them are wins")]
enum Waiting {
    Win(Won, More),
    House(Served),
}

impl Waiting {
    fn ms(&self) -> u64 {
        match self {
            Waiting::Win(won, _) => won.ms,
            Waiting::House(served) => served.ms,
        }
    }

    fn event(&self) -> EventId {
        match self {
            Waiting::Win(won, _) => won.event,
            Waiting::House(served) => served.event,
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Gather {
    node: u32,
    accounts: Accounts,
    accounts_changed: bool,
    waiting: VecDeque<Waiting>,
    /// What is known of the auctions of those that wait.
    deliveries: BTreeMap<EventId, Option<(Known, Spot)>>,
    parts: BTreeMap<Place, Part>,
    sums: BTreeMap<(u32, Currency), Sum>,
    /// Frames that should have become rows and could not be read.
    unreadable: u64,
    raw: u64,
    last_ms: u64,
    settled: bool,
}

/// What a batch came to.
#[derive(Debug)]
pub struct Gathered {
    /// By place, in order.
    pub parts: BTreeMap<Place, Part>,
    /// Of the wins, by account and currency.
    pub sums: Vec<Sum>,
    /// The accounts, if the batch said something new of them.
    pub accounts: Option<Accounts>,
    /// Frames that should have become rows and could not be read.
    pub unreadable: u64,
    /// Frames with whole requests or answers: a batch that has one stays where it is.
    pub raw: u64,
}

impl Gather {
    /// Of a node's journal; `accounts` as they were known at the end of the batch before.
    pub fn new(node: u32, accounts: Accounts) -> Gather {
        Gather { node, accounts, ..Gather::default() }
    }

    /// A frame of the batch.
    pub fn frame(&mut self, segment: u64, offset: u64, frame: &Frame<'_>) {
        let at = Placed { ms: frame.header.hlc >> 16, segment, offset };
        self.last_ms = self.last_ms.max(at.ms);
        self.settle(at.ms.saturating_sub(DELIVERED_MS));
        if !self.read(at, frame) {
            self.unreadable += 1;
        }
    }

    /// A frame behind the batch: what it says of deliveries counts. True: nothing is waited for any more.
    pub fn behind(&mut self, segment: u64, offset: u64, frame: &Frame<'_>) -> bool {
        if frame.kind() == Some(Kind::Delivery) {
            self.delivered(Placed { ms: frame.header.hlc >> 16, segment, offset }, frame.payload());
        }
        // A process that ended, or has begun, leaves none behind that is not recorded by then.
        let over = matches!(frame.kind(), Some(Kind::Clean | Kind::Start));
        self.settled |= over || frame.header.hlc >> 16 > self.last_ms.saturating_add(DELIVERED_MS);
        self.settled
    }

    fn read(&mut self, at: Placed, frame: &Frame<'_>) -> bool {
        let (version, payload) = (frame.header.version, frame.payload());
        match frame.kind() {
            Some(Kind::Auction) => self.auction(at, payload),
            Some(Kind::Delivery) => self.delivered(at, payload),
            Some(Kind::Account) => match Movement::decode(version, payload) {
                Ok(movement) => {
                    self.accounts_changed |= self.accounts.moved(&movement);
                    true
                }
                Err(_) => false,
            },
            Some(Kind::Notice) => match Notice::decode(payload) {
                Ok(n) => {
                    let rows = rows_of(&mut self.parts, Table::Notices, at.ms, self.accounts.advertiser(n.account));
                    money::notice(&n, at, &self.accounts, rows);
                    true
                }
                Err(_) => false,
            },
            Some(Kind::Settlement) => match Lapse::decode(payload) {
                Ok(lapse) => {
                    let whose = self.accounts.advertiser(lapse.of.line.account);
                    let rows = rows_of(&mut self.parts, Table::Settlements, at.ms, whose);
                    money::lapse(&lapse, self.node, at, &self.accounts, rows);
                    true
                }
                Err(_) => false,
            },
            Some(Kind::Lease) => match Event::decode(version, payload) {
                Ok(event) => {
                    self.lease(&event, at);
                    true
                }
                Err(_) => false,
            },
            // They belong to `raw/` and its short life; no release has written one into a journal.
            Some(Kind::RawRequest | Kind::RawAnswer) => {
                self.raw += 1;
                true
            }
            // Told, refused, started, stopped: in the archive.
            _ => true,
        }
    }

    fn lease(&mut self, event: &Event, at: Placed) {
        let (accounts, parts) = (&self.accounts, &mut self.parts);
        money::lease(event, at, accounts, |of, row| {
            rows_of(parts, Table::Settlements, at.ms, accounts.advertiser(of)).push(row);
        });
    }

    fn auction(&mut self, at: Placed, payload: &[u8]) -> bool {
        let Ok(record) = Record::decode(payload) else { return false };
        for win in &record.decision.wins {
            let Some(bid) = record.inputs.bids.get(usize::from(win.input)) else { continue };
            let names = (self.accounts.advertiser(win.account), self.accounts.name(win.account).unwrap_or(""));
            self.deliveries.insert(record.inputs.event, None);
            let won = Won::of(&record, win, bid, at.ms, (at.segment, at.offset));
            self.waiting.push_back(Waiting::Win(won, More::of(&record, bid, names)));
        }
        for ad in &record.house {
            self.deliveries.insert(record.inputs.event, None);
            let served = Served::of(&record, ad, at.ms, (at.segment, at.offset));
            self.waiting.push_back(Waiting::House(served));
        }
        true
    }

    fn delivered(&mut self, Placed { ms, segment, offset }: Placed, payload: &[u8]) -> bool {
        let Ok(known) = Delivery::decode(payload) else { return false };
        if let Some(waited) = self.deliveries.get_mut(&known.event) {
            *waited = Some((known, Spot { ms, segment, offset }));
        }
        true
    }

    /// Nothing is waited for any more of what is older than `before_ms`.
    fn settle(&mut self, before_ms: u64) {
        while self.waiting.front().is_some_and(|w| w.ms() < before_ms) {
            let Some(waiting) = self.waiting.pop_front() else { break };
            let event = waiting.event();
            match &waiting {
                Waiting::Win(won, more) => self.win(won, more),
                Waiting::House(served) => self.house(served),
            }
            if self.waiting.front().is_none_or(|next| next.event() != event) {
                self.deliveries.remove(&event);
            }
        }
    }

    fn house(&mut self, served: &Served) {
        let known = self.deliveries.get(&served.event).and_then(Option::as_ref);
        let came = match known {
            Some((known, spot)) => Came { name: delivery_name(known.delivery), freed: None, spot: Some(*spot) },
            None => Came { name: "written", freed: None, spot: None },
        };
        served.push(&came, rows_of(&mut self.parts, Table::House, served.ms, String::new()));
    }

    fn win(&mut self, won: &Won, more: &More) {
        let account = won.account;
        let known = self.deliveries.get_mut(&won.event).and_then(Option::as_mut);
        let came = match known {
            Some((known, spot)) => Came {
                name: delivery_name(known.delivery),
                freed: freed(&mut known.freed, account, won.window, won.charge),
                spot: Some(*spot),
            },
            None => Came { name: "written", freed: None, spot: None },
        };
        let sum = self.sums.entry((account.0, won.accounting)).or_insert_with(|| Sum {
            account: account.0,
            advertiser: self.accounts.advertiser(account),
            accounting: won.accounting,
            ..Sum::default()
        });
        sum.wins += 1;
        sum.charge_nanos = sum.charge_nanos.saturating_add(won.charge.0);
        sum.freed_nanos = sum.freed_nanos.saturating_add(came.freed.map_or(0, |m| m.0));
        let whose = names::advertiser(&won.adomain, &won.dsp, &won.seat);
        let place = (Table::Wins, names::day(won.ms), whose);
        let part = self.parts.entry(place).or_insert_with(|| Part::new(Table::Wins));
        part.of_win(won);
        wins::push(won, more, &came, &mut part.rows);
    }

    /// All of it.
    pub fn finish(mut self) -> Gathered {
        self.settle(u64::MAX);
        Gathered {
            parts: self.parts,
            sums: self.sums.into_values().collect(),
            accounts: self.accounts_changed.then_some(self.accounts),
            unreadable: self.unreadable,
            raw: self.raw,
        }
    }
}

fn rows_of(parts: &mut BTreeMap<Place, Part>, table: Table, ms: u64, whose: String) -> &mut Rows {
    let whose = if whose.is_empty() { b"-".to_vec() } else { whose.into_bytes() };
    &mut parts.entry((table, names::day(ms), whose)).or_insert_with(|| Part::new(table)).rows
}

/// What was freed of this charge: each entry of a delivery stands for one.
fn freed(all: &mut Vec<Freed>, account: AccountId, period: Period, charge: Money) -> Option<Money> {
    let at = all.iter().position(|f| (f.account, f.period, f.amount) == (account, period, charge))?;
    Some(all.remove(at).amount)
}

#[cfg(test)]
#[path = "gather_tests.rs"]
mod tests;
