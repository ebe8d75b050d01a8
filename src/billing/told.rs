//! What a place that is no journal says of the money of a day: wins and what came of them, each once, in any order.
//! Owns: what moved; wins on no account that may yet be free. Called by: `outcry audit reconcile`, with Kafka's messages and the
//! tiers' rows. Never: needs the order of a journal; looks at what is of another day, or another node's.
//! Full: a hundred bytes a record of the day: who asks chooses the day.
//!
//! It comes to what [`super::settling`] makes of the frames: what goes home of an account is on record, and of what is on no account
//! it is told from its notice, its delivery and the time.
use super::{
    Spot,
    settling::{Buyer, DELIVERED_MS},
    sources::{Deed, Moved, Who},
};
use crate::{
    budget::{AccountId, LineKey, Period},
    notice::seen::GRACE_S,
    ship::schema::{AuctionResult, Body, Event, Reason, Settlement},
    tiers::{table::Rows, wins::Row},
    units::{Currency, EventId, Money},
};
use std::collections::{BTreeMap, HashMap};

/// Is a window of an account one of the day?
pub type Holds<'a> = &'a dyn Fn(LineKey) -> bool;

/// A win on no account.
#[derive(Clone, Debug)]
struct Loose {
    who: Who,
    charge: Money,
    /// 0: it does not wait for a notice.
    awaited_s: u32,
    wall_ms: u64,
}

/// A billing notice.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    ms: u64,
    held: Money,
    charge: Money,
}

/// See the module.
#[derive(Debug)]
pub struct Told {
    node: u32,
    day: u32,
    moved: BTreeMap<Who, Vec<Moved>>,
    loose: HashMap<(EventId, u8), Loose>,
    /// Answers that did not arrive, and since when that was on record.
    undelivered: HashMap<EventId, u64>,
    noticed: HashMap<(EventId, u8), Noticed>,
}

impl Told {
    /// Of a node's wins of a day, counted from 1970.
    pub fn new(node: u32, day: u32) -> Told {
        let (loose, undelivered, noticed) = Default::default();
        Told { node, day, moved: BTreeMap::new(), loose, undelivered, noticed }
    }

    fn push(&mut self, who: Who, event: Option<EventId>, deed: Deed, nanos: i128, spot: Option<Spot>) {
        if nanos != 0 || event.is_none() {
            self.moved.entry(who).or_default().push(Moved { event, deed, nanos, spot });
        }
    }

    /// A message of Kafka, the first of its id. False: it says something that none of ours does.
    pub fn message(&mut self, event: &Event, holds: Holds<'_>) -> bool {
        if event.node != self.node {
            return true;
        }
        let id = |bidid: &str| EventId::parse(bidid.as_bytes());
        match &event.body {
            Some(Body::AuctionResult(result)) => self.result(result, holds).is_some(),
            Some(Body::Settlement(settlement)) => self.settlement(settlement, holds).is_some(),
            Some(Body::Notice(n)) => {
                let (Some(of), Ok(imp)) = (id(&n.bidid), u8::try_from(n.imp)) else { return false };
                if n.of == "billed" && !n.expired && n.account == 0 {
                    let held = Money(n.held.unwrap_or(0));
                    self.notice((of, imp), Noticed { ms: event.hlc >> 16, held, charge: Money(n.charge) });
                }
                true
            }
            Some(Body::Delivery(d)) => {
                let Some(of) = id(&d.bidid) else { return false };
                if d.what != "written" {
                    self.undelivered.entry(of).or_insert(event.hlc >> 16);
                }
                true
            }
            Some(Body::Auction(_)) => true,
            None => false,
        }
    }

    fn result(&mut self, r: &AuctionResult, holds: Holds<'_>) -> Option<()> {
        let (event, imp) = (EventId::parse(r.bidid.as_bytes())?, u8::try_from(r.imp).ok()?);
        let line = LineKey { account: AccountId(r.account), period: Period(r.window) };
        if line.account.is_some() {
            if holds(line) {
                self.push(Who::Account(line.account), Some(event), Deed::Charged, r.charge.into(), None);
            }
            return Some(());
        }
        let [dsp, seat, cid] = [&r.dsp, &r.seat, &r.cid].map(|text| text.clone().into_bytes());
        let who = Who::Buyer(Buyer { dsp, seat, cid, currency: Currency::parse(r.accounting_cur.as_bytes())? });
        if r.wall_ms / 86_400_000 == u64::from(self.day) {
            self.push(who.clone(), Some(event), Deed::Charged, r.charge.into(), None);
            let loose = Loose { who, charge: Money(r.charge), awaited_s: r.awaited_s, wall_ms: r.wall_ms };
            self.loose.insert((event, imp), loose);
        }
        Some(())
    }

    fn settlement(&mut self, s: &Settlement, holds: Holds<'_>) -> Option<()> {
        let line = LineKey { account: AccountId(s.account), period: Period(s.window) };
        let (event, deed) = match Reason::try_from(s.reason).ok()? {
            Reason::NotDelivered => (Some(EventId::parse(s.bidid.as_bytes())?), Deed::Freed),
            Reason::NoNotice | Reason::LowerPrice => (None, Deed::Lapsed),
            Reason::Unknown => return None,
        };
        if holds(line) {
            self.push(Who::Account(line.account), event, deed, -i128::from(s.amount), None);
        }
        Some(())
    }

    fn notice(&mut self, of: (EventId, u8), noticed: Noticed) {
        // Of what costs nothing nothing waits, and another node's is its own.
        if noticed.held > Money(0) && of.0.node == self.node {
            self.noticed.entry(of).or_insert(noticed);
        }
    }

    /// A row of wins. What is on no account and was not delivered says itself that it is free.
    pub fn win(&mut self, row: &Row, holds: Holds<'_>) {
        let won = &row.won;
        let spot = Some(Spot { ms: won.ms, segment: won.segment, offset: won.offset });
        let (event, charge) = (Some(won.event), i128::from(won.charge.0));
        let freed = -i128::from(row.freed.0);
        if won.account.is_some() {
            if holds(LineKey { account: won.account, period: won.window }) {
                self.push(Who::Account(won.account), event, Deed::Charged, charge, spot);
                self.push(Who::Account(won.account), event, Deed::Freed, freed, row.delivered);
            }
        } else if won.window.0 / 1_440 == self.day {
            let (dsp, seat, cid) = (won.dsp.clone(), won.seat.clone(), won.cid.clone());
            let who = Who::Buyer(Buyer { dsp, seat, cid, currency: won.accounting });
            self.push(who.clone(), event, Deed::Charged, charge, spot);
            self.push(who.clone(), event, Deed::Freed, freed, row.delivered);
            if won.awaits {
                let wall_ms = won.window.starts_ms();
                let loose = Loose { who, charge: won.charge, awaited_s: row.awaited_s, wall_ms };
                self.loose.insert((won.event, won.imp_place), loose);
            }
        }
    }

    /// The rows of a file of notices, in the order of the journal. False: one of them is none.
    pub fn notices(&mut self, rows: &Rows) -> bool {
        let at = |name: &str| rows.columns().iter().position(|c| c.name == name);
        let columns = ["time", "bidid", "imp_place", "notice", "expired", "held_nanos", "charge_nanos", "account"];
        let [Some(time), Some(bidid), Some(imp), Some(notice), Some(expired), Some(held), Some(charge), Some(account)] =
            columns.map(at)
        else {
            return false;
        };
        for row in 0..rows.len() {
            let event = EventId::parse(rows.text(bidid, row));
            let imp = rows.int(imp, row).and_then(|n| u8::try_from(n).ok());
            let ms = rows.int(time, row).and_then(|ms| u64::try_from(ms).ok());
            let (Some(event), Some(imp), Some(ms), Some(charge)) = (event, imp, ms, rows.int(charge, row)) else {
                return false;
            };
            if rows.text(notice, row) == b"billed" && !rows.flag(expired, row) && rows.int(account, row).is_none() {
                let held = Money(rows.int(held, row).unwrap_or(0));
                self.notice((event, imp), Noticed { ms, held, charge: Money(charge) });
            }
        }
        true
    }

    /// The rows of a file of settlements. False: one of them is none.
    pub fn settlements(&mut self, rows: &Rows, holds: Holds<'_>) -> bool {
        let at = |name: &str| rows.columns().iter().position(|c| c.name == name);
        let columns = ["time", "what", "account", "window_minute", "amount_nanos", "segment", "offset"];
        let [Some(time), Some(what), Some(account), Some(window), Some(amount), Some(segment), Some(offset)] =
            columns.map(at)
        else {
            return false;
        };
        for row in (0..rows.len()).filter(|row| rows.text(what, *row) == b"lapse") {
            let count = |column| rows.int(column, row).and_then(|n| u64::try_from(n).ok());
            let small = |column| count(column).and_then(|n| u32::try_from(n).ok());
            let (Some(account), Some(window), Some(amount)) = (small(account), small(window), rows.int(amount, row))
            else {
                return false;
            };
            let (Some(ms), Some(segment), Some(offset)) = (count(time), count(segment), count(offset)) else {
                return false;
            };
            let line = LineKey { account: AccountId(account), period: Period(window) };
            if holds(line) {
                let spot = Some(Spot { ms, segment, offset });
                self.push(Who::Account(line.account), None, Deed::Lapsed, -i128::from(amount), spot);
            }
        }
        true
    }

    /// The same of a place that has these segments alone: a delivery that stands behind them is on a row already, and counts there.
    pub fn up_to(self, segment: u64, now_ms: u64) -> BTreeMap<Who, Vec<Moved>> {
        let mut moved = self.finish(now_ms);
        moved.values_mut().for_each(|all| all.retain(|m| m.spot.is_none_or(|spot| spot.segment <= segment)));
        moved
    }

    /// All that moved, as of a time: what waited for its notice then for too long has gone home.
    pub fn finish(mut self, now_ms: u64) -> BTreeMap<Who, Vec<Moved>> {
        let (loose, undelivered, noticed) =
            (std::mem::take(&mut self.loose), std::mem::take(&mut self.undelivered), std::mem::take(&mut self.noticed));
        for ((event, imp), l) in loose {
            let charge = i128::from(l.charge.0);
            if l.awaited_s == 0 {
                if undelivered.get(&event).is_some_and(|ms| *ms < l.wall_ms.saturating_add(DELIVERED_MS)) {
                    self.push(l.who, Some(event), Deed::Freed, -charge, None);
                }
                continue;
            }
            let over_ms = (u64::from(l.awaited_s / 60 + 1) * 60 + u64::from(GRACE_S)) * 1_000;
            match noticed.get(&(event, imp)).filter(|n| n.ms < over_ms) {
                Some(n) => {
                    let less = n.charge.0.clamp(0, n.held.0) - n.held.0;
                    self.push(l.who, Some(event), Deed::Lapsed, less.into(), None);
                }
                None if now_ms >= over_ms => self.push(l.who, Some(event), Deed::Lapsed, -charge, None),
                None => {}
            }
        }
        self.moved
    }
}
