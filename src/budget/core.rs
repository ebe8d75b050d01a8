//! One bidder core's money: what it may spend of which campaign, and what it tells its server.
//! Owns: the ledger of one core. Runs on: each bidder core. Called by: the auction, as its [`Funds`]; the bidder's turn.
//! Never: waits, allocates after it was made, reads a clock, spends what it was not granted.
//! Full: bids on further accounts are refused as [`Answer::Full`]; what was charged is always noted.
//!
//! | who | calls | when |
//! |---|---|---|
//! | control's messages | [`configure`](CoreLedger::configure), [`apply`](CoreLedger::apply) | a new configuration, a batch of names |
//! | the server's messages | [`grant`](CoreLedger::grant) | money, time, stop |
//! | the turn's beginning | [`turn`](CoreLedger::turn) | once, with its reading of the clock |
//! | a bid's arrival | [`touch`](CoreLedger::touch) | before the decision, so that money may come in time |
//! | the decision | [`can_pay`](Funds::can_pay), [`reserve`](Funds::reserve), [`release`](Funds::release), [`charge`](Funds::charge) | |
//! | the decision's end | [`won`](CoreLedger::won) | each winner, with its charge |
//! | a delivery's end | [`delivered`](CoreLedger::delivered), [`not_delivered`](CoreLedger::not_delivered) | the latter before its record is written |
//! | the turn's end | [`urgent`](CoreLedger::urgent) | each |
//! | now and then | [`tick`](CoreLedger::tick) | when all that was charged and freed is in published frames |
//!
//! # What a statement says
//! A tick tells every line that changed since the tick before, then `End { frame_seq }`, or nothing at all when the ring has
//! no room for the whole. So all that a server has heard at an `End` is exactly what the frames up to this one say: lines that
//! were not told have not changed. That holds because a tick is called between auctions, when each charge and each freeing is
//! in a published frame. Wants that cannot wait go out between ticks, and carry no sums: a sum told then would contain frames
//! behind the last `End`, and whoever stored it with that frame's number would count those frames twice after a crash.
//!
//! # Order, loss, repetition
//! Sums count from a line's beginning, so a grant that comes twice or late adds nothing. A line that was stopped stays so until
//! the core has said its last of it and forgotten it, at the earliest when no delivery can free any more of it. After that a
//! grant begins the same line anew only if its end is later than any seen before: an old one is known by that.
//!
//! # Where things are
//! [`directory`] finds a bid's account, `slot` is what is kept of it, `line` is the arithmetic, `sizing` says how much is wanted and kept, `report` tells
//! it, `tickets` waits for deliveries.
pub mod directory;

mod line;
mod moment;
mod names;
mod report;
mod sizing;
mod slot;
#[cfg(test)]
mod tests;
mod tickets;

pub use directory::{DirectoryBatch, Entry, EntryRefused, Policy, Unbudgeted};
pub use line::Invariant;
pub use report::{Sink, Told};

use super::{
    AccountId, CoreGrant, LineKey, Period,
    planted::{Fault, Planted},
};
use crate::{
    auction::{Account, Answer, Funds, Place, Ticket, delivery::Freed},
    limits,
    units::Money,
};
use directory::{Directory, Found};
use line::{Line, Phase};
use moment::Moment;
use slot::Slot;
use tickets::{Charged, Tickets};

/// How much of everything there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Campaigns.
    pub accounts: usize,
    /// Bytes of their names, in pieces of 16.
    pub name_bytes: usize,
    /// Accounts with something to tell, before others are refused.
    pub dirty: usize,
    /// Auctions whose delivery is not known.
    pub auctions: usize,
}

impl Capacity {
    /// Of a core with so many campaigns whose names are as long as usual.
    pub fn of(accounts: usize) -> Capacity {
        Capacity {
            accounts,
            name_bytes: accounts * limits::BUDGET_NAME_BYTES,
            dirty: limits::BUDGET_DIRTY_MAX,
            auctions: limits::BUDGET_TICKETS,
        }
    }
}

/// Something that must hold does not. The account's bidding ends; an alarm, with its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Where.
    pub line: LineKey,
    /// What.
    pub invariant: Invariant,
}

/// What is counted, since the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Things that must hold and did not.
    pub violations: u64,
    /// Grants of accounts or windows that there is no room for, or that came too late.
    pub grants_ignored: u64,
    /// Stops of lines unknown here that could not be answered for lack of room.
    pub strangers_lost: u64,
    /// Ticks that found no room for a statement.
    pub ticks_without_room: u64,
    /// Answers that did not arrive, but too late for their line, or with no room to note it: they stay charged.
    pub not_freed: u64,
    /// Bids refused because there was no room to note what they would owe.
    pub refused_full: u64,
}

/// A want is not told again before this, unless the bid is larger: its answer may be on the way, or be "nothing is left".
const ASK_AGAIN: u32 = Moment::units(1_000_000_000);
/// A delivery is known by then: a deadline, and the time a client has to take its answer.
const DELIVERED: u32 = Moment::units(10_000_000_000);

/// One core's money.
#[derive(Debug)]
pub struct CoreLedger {
    directory: Directory,
    /// Slots with something to tell; as long as it may be only when deliveries fail while nobody listens.
    dirty: Vec<u32>,
    dirty_max: usize,
    urgent: Vec<u32>,
    /// Stopped lines that are not here, with what the server believes to have granted.
    strangers: Vec<(LineKey, Money)>,
    tickets: Tickets,
    freed: Vec<Freed>,
    swept: usize,
    now: Moment,
    now_ns: u64,
    /// The server may spend nothing any more.
    fenced: bool,
    figures: Figures,
    violation: Option<Violation>,
    planted: Planted,
}

impl CoreLedger {
    /// An empty one, with all the memory it will ever use. `seed` is a secret drawn at the start.
    pub fn new(capacity: Capacity, seed: u64) -> CoreLedger {
        CoreLedger {
            directory: Directory::new(capacity.accounts, capacity.name_bytes, seed),
            dirty: Vec::with_capacity(capacity.dirty + limits::BUDGET_DIRTY_RESERVE),
            dirty_max: capacity.dirty,
            urgent: Vec::with_capacity(limits::BUDGET_URGENT_MAX),
            strangers: Vec::with_capacity(limits::BUDGET_STRANGERS_MAX),
            tickets: Tickets::new(capacity.auctions),
            freed: Vec::with_capacity(limits::IMPS_MAX),
            swept: 0,
            now: Moment::now(0),
            now_ns: 0,
            fenced: false,
            figures: Figures::default(),
            violation: None,
            planted: Planted::default(),
        }
    }

    /// With a fault that a test is to find.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.directory.bytes() + self.tickets.bytes() + self.dirty.capacity() * size_of::<u32>()
    }

    /// What was counted.
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Auctions that were forgotten before anything was heard of their delivery: they count as delivered.
    pub fn overwritten(&self) -> u64 {
        self.tickets.overwritten
    }

    /// The last violation.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Accounts in the table: those that bids find, and those whose money is not home yet.
    pub fn accounts(&self) -> usize {
        self.directory.used()
    }

    /// The time of this turn, nanoseconds since boot; never earlier than the turn before.
    #[inline]
    pub fn turn(&mut self, now_ns: u64) {
        self.now_ns = now_ns.max(self.now_ns);
        self.now = Moment::now(self.now_ns);
    }

    /// The DSPs of the configuration that is in force from now on, in its order, and what is done with their bids that name
    /// no account. False: there are more than there is room for, and bids of those are not limited by their policy.
    pub fn configure<'a>(&mut self, dsps: impl Iterator<Item = (&'a [u8], Policy)>) -> bool {
        self.directory.configure(dsps)
    }

    /// Applies a batch of names; what was not taken is said in it.
    pub fn apply(&mut self, batch: &mut DirectoryBatch) {
        self.directory.apply(batch);
    }

    // --- money comes --------------------------------------------------------------------------------

    /// What the server grants, prolongs, recalls, stops.
    pub fn grant(&mut self, grant: &CoreGrant) {
        if grant.line == LineKey::default() && grant.stop {
            self.fenced = true;
            return;
        }
        let Some(slot) = self.directory.slot_of(grant.line.account) else { return self.stranger(grant) };
        let (from, until) = (Moment::begin(grant.from_ns, self.now_ns), Moment::end(grant.until_ns, self.now_ns));
        let Some(nth) = self.nth(slot, grant.line.period).or_else(|| self.begin(slot, grant, from, until)) else {
            return self.stranger(grant);
        };
        let Slot { head, lines, .. } = &mut self.directory.table[slot as usize];
        let line = &mut lines[nth];
        if grant.stop {
            // What was granted since the last one it took is in it, and is to be given back with the rest.
            let done = line.grant(grant.granted);
            line.state.phase = Phase::Stops;
            self.settled(slot, grant.line, done);
            self.note(slot);
            return;
        }
        if line.state.renewed && !until.after(head.before[nth]) {
            self.figures.grants_ignored += 1;
            return;
        }
        let more = grant.granted > line.granted;
        let done = line.grant(grant.granted);
        if line.from.after(from) {
            line.from = from;
        }
        if until.after(line.until) {
            line.until = until;
        }
        line.state.recall = grant.recall;
        // What is asked for next is another want.
        head.asked &= !more;
        self.settled(slot, grant.line, done);
        if grant.recall {
            // With no room left the next sweep finds it.
            self.note(slot);
        }
    }

    /// The place of a line that begins; none if there is no room, or the grant is an old one.
    fn begin(&mut self, slot: u32, grant: &CoreGrant, from: Moment, until: Moment) -> Option<usize> {
        if grant.stop || !until.after(self.now) {
            return None;
        }
        let lines = &mut self.directory.table[slot as usize].lines;
        // Of a line that is forgotten its end must stay known until it has come: by that its old grants are known.
        let (now, period) = (self.now, grant.line.period);
        let is_free = |l: &Line| match l.state.phase {
            Phase::None => true,
            Phase::Gone => l.period == period || !l.until.after(now),
            Phase::Runs | Phase::Stops => false,
        };
        let free = (0..2).filter(|&n| is_free(&lines[n]));
        let nth =
            free.min_by_key(|&n| (lines[n].state.phase == Phase::None || lines[n].period != period, lines[n].period))?;
        let renewed = lines[nth].state.phase == Phase::Gone && lines[nth].period == grant.line.period;
        if renewed && !until.after(lines[nth].until) {
            return None;
        }
        self.directory.table[slot as usize].head.before[nth] = lines[nth].until;
        lines[nth] = Line::new(grant.line.period, from, until);
        lines[nth].state.renewed = renewed;
        Some(nth)
    }

    /// A grant that nothing here can hold. To a stop the server waits for an answer.
    fn stranger(&mut self, grant: &CoreGrant) {
        self.figures.grants_ignored += 1;
        if !grant.stop {
            return;
        }
        if self.strangers.len() == limits::BUDGET_STRANGERS_MAX {
            self.figures.strangers_lost += 1;
        } else {
            self.strangers.push((grant.line, grant.granted));
        }
    }

    /// The line of a window, if there is one.
    #[inline]
    fn nth(&self, slot: u32, period: Period) -> Option<usize> {
        let lines = &self.directory.table[slot as usize].lines;
        (0..2).find(|&n| lines[n].is_there() && lines[n].period == period)
    }

    /// The line that may be used now, stopped or not: windows follow each other, so there is one at most.
    #[inline]
    fn current(&self, slot: u32) -> Option<usize> {
        self.current_of(&self.directory.table[slot as usize].lines).map(|(nth, _)| nth)
    }

    #[inline]
    fn current_of<'a>(&self, lines: &'a [Line; 2]) -> Option<(usize, &'a Line)> {
        let now = self.now;
        let usable = |line: &Line| match self.planted.has(Fault::ExpiredUsed) {
            true => line.is_there() && !line.from.after(now),
            false => line.usable(now),
        };
        let [first, second] = lines;
        if usable(first) {
            return Some((0, first));
        }
        usable(second).then_some((1, second))
    }

    // --- a bid comes --------------------------------------------------------------------------------

    /// A bid of this price has come and will be decided on soon: if its line cannot pay it, the end of this turn asks for
    /// money. Not for requests with `test: 1`.
    pub fn touch(&mut self, account: &Account<'_>, price: Money) {
        let Found::Slot(slot, _) = self.directory.find(account) else { return };
        let nth = self.current(slot);
        let head = &mut self.directory.table[slot as usize].head;
        head.seen_at = self.now;
        let larger = head.saw(price);
        let (free, stop) = match nth {
            Some(nth) => {
                let line = &self.directory.table[slot as usize].lines[nth];
                (line.free, line.stops())
            }
            // One that is stopped and over is not asked for either, until it is forgotten.
            None => (Money(0), self.directory.table[slot as usize].lines.iter().any(|l| l.is_there() && l.stops())),
        };
        let asked = head.asked && head.asked_at.age(self.now) < ASK_AGAIN && !larger;
        if free >= price || stop || asked || head.urgent || head.broken || self.fenced {
            return;
        }
        if self.urgent.len() < limits::BUDGET_URGENT_MAX {
            self.urgent.push(slot);
            (head.urgent, head.asked, head.asked_at) = (true, true, self.now);
        }
    }

    /// Puts an account on the list of what is told next. False: the list is as long as bids may make it.
    #[inline]
    fn note(&mut self, slot: u32) -> bool {
        self.note_up_to(slot, self.dirty_max)
    }

    #[inline]
    fn note_up_to(&mut self, slot: u32, max: usize) -> bool {
        let head = &mut self.directory.table[slot as usize].head;
        if head.dirty {
            return true;
        }
        let room = self.dirty.len() < max;
        if room {
            head.dirty = true;
            self.dirty.push(slot);
        }
        room
    }

    /// Which line pays `amount`: its number among the two of each slot.
    #[inline]
    fn pays(&self, at: u32, slot: &Slot, amount: Money) -> Result<Place, Answer> {
        let Slot { head, lines, .. } = slot;
        if head.broken || self.fenced {
            return Err(Answer::Paused);
        }
        let (nth, line) = self.current_of(lines).ok_or(Answer::NoMoney)?;
        if line.stops() {
            return Err(Answer::Paused);
        }
        if line.free < amount {
            return Err(Answer::NoMoney);
        }
        if !head.dirty && self.dirty.len() >= self.dirty_max {
            return Err(Answer::Full);
        }
        Ok(Place(at * 2 + nth as u32))
    }

    // --- it is decided ------------------------------------------------------------------------------

    /// What was charged to a winner of an auction is remembered until its delivery is known. All winners of one auction
    /// follow each other.
    pub fn won(&mut self, seq: u64, ticket: Ticket, charge: Money) {
        if ticket.account != AccountId::NONE && charge != Money(0) {
            self.tickets.put(seq, ticket, charge);
        }
    }

    /// The auction's answer arrived.
    #[inline]
    pub fn delivered(&mut self, seq: u64) {
        self.tickets.forget(seq);
    }

    /// It did not: what it was charged is free again, where its line is still there. What was freed, for the record, which is
    /// to be published before the next tick.
    pub fn not_delivered(&mut self, seq: u64) -> &[Freed] {
        self.freed.clear();
        for at in self.tickets.forget(seq) {
            let Charged { ticket, charge } = self.tickets.get(at);
            if self.freed.len() < limits::IMPS_MAX && self.free(ticket, charge) {
                self.freed.push(Freed { account: ticket.account, period: ticket.period, amount: charge });
            } else {
                self.figures.not_freed += 1;
            }
        }
        &self.freed
    }

    fn free(&mut self, ticket: Ticket, charge: Money) -> bool {
        if self.planted.has(Fault::DeliveryIgnored) {
            return true;
        }
        let (slot, max) = (ticket.slot, self.dirty_max + limits::BUDGET_DIRTY_RESERVE);
        let nth = if self.planted.has(Fault::PeriodMixed) { self.current(slot) } else { self.held(ticket) };
        let Some(nth) = nth else { return false };
        if !self.note_up_to(slot, max) {
            return false;
        }
        let done = self.directory.table[slot as usize].lines[nth].deliver_not(charge);
        self.settled(slot, LineKey { account: ticket.account, period: ticket.period }, done);
        done.is_ok()
    }

    /// The line of a ticket, if it is still there: a slot may have become another account's.
    #[inline]
    fn held(&self, ticket: Ticket) -> Option<usize> {
        let there = ticket.account != AccountId::NONE && (ticket.slot as usize) < self.directory.table.len();
        if !there || self.directory.account(ticket.slot) != ticket.account {
            return None;
        }
        self.nth(ticket.slot, ticket.period)
    }

    #[cold]
    fn full(&mut self) -> Answer {
        self.figures.refused_full += 1;
        Answer::Full
    }

    /// What a change came to: if it did not add up, bidding for the account ends.
    #[inline]
    fn settled(&mut self, slot: u32, line: LineKey, done: Result<(), Invariant>) {
        if let Err(invariant) = done {
            self.violated(slot, Violation { line, invariant });
        }
    }

    #[cold]
    fn violated(&mut self, slot: u32, violation: Violation) {
        self.directory.table[slot as usize].head.broken = true;
        self.figures.violations += 1;
        self.violation = Some(violation);
    }
}

impl Funds for CoreLedger {
    #[inline]
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> Result<Place, Answer> {
        match self.directory.find(account) {
            // A test costs nothing and needs no money; of a deal whose price is not known yet it is asked when it is.
            Found::Slot(..) if max == Money(0) => Ok(Place::UNKNOWN),
            Found::Slot(at, slot) => match self.pays(at, slot, max) {
                Err(Answer::Full) => Err(self.full()),
                pays => pays,
            },
            Found::Unbudgeted => Ok(Place::NOBODY),
            Found::No => Err(Answer::NoAccount),
        }
    }

    #[inline]
    fn reserve(&mut self, account: &Account<'_>, place: Place, amount: Money) -> Result<Ticket, Answer> {
        let place = match place {
            // A test is charged nothing, so it needs no line; it is nobody's win.
            Place::UNKNOWN if amount == Money(0) => Place::NOBODY,
            Place::UNKNOWN => self.can_pay(account, amount)?,
            known => known,
        };
        if place == Place::NOBODY {
            return Ok(Ticket::default());
        }
        let (slot, nth) = (place.0 / 2, (place.0 % 2) as usize);
        debug_assert!(
            matches!(self.directory.find(account), Found::Slot(now, _) if now == slot),
            "names come and go between decisions"
        );
        debug_assert_eq!(Some(nth), self.current(slot), "so does time");
        // Within one decision only the money can have become less, the room been taken, or a violation been found.
        let Slot { head, lines, named } = &mut self.directory.table[slot as usize];
        let line = &mut lines[nth];
        if head.broken {
            return Err(Answer::Paused);
        }
        if line.free < amount {
            return Err(Answer::NoMoney);
        }
        if !head.dirty {
            if self.dirty.len() >= self.dirty_max {
                return Err(self.full());
            }
            head.dirty = true;
            self.dirty.push(slot);
        }
        let (account, period) = (named.account, line.period);
        if let Err(invariant) = line.reserve(amount) {
            self.violated(slot, Violation { line: LineKey { account, period }, invariant });
            return Err(Answer::Paused);
        }
        Ok(Ticket { account, period, slot })
    }

    fn release(&mut self, ticket: Ticket, amount: Money) {
        let Some(nth) = self.held(ticket) else { return };
        let done = self.directory.table[ticket.slot as usize].lines[nth].release(amount);
        self.settled(ticket.slot, LineKey { account: ticket.account, period: ticket.period }, done);
    }

    #[inline]
    fn charge(&mut self, ticket: Ticket, reserved: Money, charge: Money) {
        // A line with a reservation is not forgotten, so there is one; of nobody's account there is none.
        let Some(nth) = self.held(ticket) else { return };
        let done = self.directory.table[ticket.slot as usize].lines[nth].charge(reserved, charge);
        self.settled(ticket.slot, LineKey { account: ticket.account, period: ticket.period }, done);
        let head = &mut self.directory.table[ticket.slot as usize].head;
        head.saw(reserved);
        head.rate = sizing::rate(head.rate, head.charged_at.age(self.now), charge);
        (head.charged_at, head.seen_at) = (self.now, self.now);
    }
}
