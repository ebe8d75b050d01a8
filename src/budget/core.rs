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
//! [`directory`] finds a bid's account, `line` is the arithmetic, `sizing` says how much is wanted and kept, `report` tells
//! it, `tickets` waits for deliveries.
pub mod directory;
mod index;
mod line;
mod moment;
mod names;
mod report;
mod sizing;
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

/// What a core keeps of an account besides its lines.
#[derive(Clone, Copy, Debug)]
struct Head {
    /// A recent bid: rises at once, falls slowly.
    price: Money,
    /// Nano-units a second.
    rate: u64,
    charged_at: Moment,
    seen_at: Moment,
    asked_at: Moment,
    /// When the lines of the same windows ended that were forgotten before these began: grants up to then were theirs.
    before: [Moment; 2],
    /// On the list of what the next tick tells.
    dirty: bool,
    /// On the list of what cannot wait.
    urgent: bool,
    /// An equation was broken.
    broken: bool,
    /// It was asked for money at `asked_at`, and none has come.
    asked: bool,
}

impl Head {
    /// Of an account of which nothing was ever seen.
    fn new(now: Moment) -> Head {
        let long_ago = now.before(LONG_AGO);
        Head {
            price: Money(0),
            rate: 0,
            charged_at: long_ago,
            seen_at: long_ago,
            asked_at: long_ago,
            before: [now; 2],
            dirty: false,
            urgent: false,
            broken: false,
            asked: false,
        }
    }
}

/// What was longer ago counts as this, before it is so long ago that it seems to come.
const LONG_AGO: u32 = Moment::units(86_400_000_000_000);
impl Head {
    /// A bid of this price came: is it larger than those of late? They rise at once and fall slowly.
    #[inline]
    fn saw(&mut self, price: Money) -> bool {
        let larger = price > self.price;
        self.price = if larger { price } else { Money(self.price.0 - (self.price.0 - price.0.max(0)) / 8) };
        larger
    }
}

/// A want is not told again before this, unless the bid is larger: its answer may be on the way, or be "nothing is left".
const ASK_AGAIN: u32 = Moment::units(1_000_000_000);
/// A delivery is known by then: a deadline, and the time a client has to take its answer.
const DELIVERED: u32 = Moment::units(10_000_000_000);

/// One core's money.
#[derive(Debug)]
pub struct CoreLedger {
    directory: Directory,
    heads: Box<[Head]>,
    /// The window that runs, and the one before or after it.
    lines: Box<[[Line; 2]]>,
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
            heads: vec![Head::new(Moment::now(0)); capacity.accounts].into(),
            lines: vec![[Line::default(); 2]; capacity.accounts].into(),
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
        let per_account = size_of_val(&*self.heads) + size_of_val(&*self.lines);
        per_account + self.directory.bytes() + self.tickets.bytes() + self.dirty.capacity() * size_of::<u32>()
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
        let head = &mut self.heads[slot as usize];
        let line = &mut self.lines[slot as usize][nth];
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
        let lines = &mut self.lines[slot as usize];
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
        self.heads[slot as usize].before[nth] = lines[nth].until;
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
        let lines = &self.lines[slot as usize];
        (0..2).find(|&n| lines[n].is_there() && lines[n].period == period)
    }

    /// The line that may be used now, stopped or not: windows follow each other, so there is one at most.
    #[inline]
    fn current(&self, slot: u32) -> Option<usize> {
        let lines = &self.lines[slot as usize];
        if self.planted.has(Fault::ExpiredUsed) {
            return (0..2).find(|&n| lines[n].is_there() && !lines[n].from.after(self.now));
        }
        (0..2).find(|&n| lines[n].usable(self.now))
    }

    // --- a bid comes --------------------------------------------------------------------------------

    /// A bid of this price has come and will be decided on soon: if its line cannot pay it, the end of this turn asks for
    /// money. Not for requests with `test: 1`.
    pub fn touch(&mut self, account: &Account<'_>, price: Money) {
        let Found::Slot(slot) = self.directory.find(account) else { return };
        let nth = self.current(slot);
        let head = &mut self.heads[slot as usize];
        head.seen_at = self.now;
        let larger = head.saw(price);
        let (free, stop) = match nth {
            Some(nth) => {
                let line = &self.lines[slot as usize][nth];
                (line.free, line.stops())
            }
            // One that is stopped and over is not asked for either, until it is forgotten.
            None => (Money(0), self.lines[slot as usize].iter().any(|l| l.is_there() && l.stops())),
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
        let head = &mut self.heads[slot as usize];
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

    /// Where the money of a bid is.
    #[inline]
    fn place(&self, account: &Account<'_>) -> Result<Place, Answer> {
        match self.directory.find(account) {
            Found::Slot(slot) => Ok(Place(slot)),
            Found::Unbudgeted => Ok(Place::NOBODY),
            Found::No => Err(Answer::NoAccount),
        }
    }

    /// Which line pays `amount`.
    #[inline]
    fn pays(&mut self, slot: u32, amount: Money) -> Result<usize, Answer> {
        let head = &self.heads[slot as usize];
        if head.broken || self.fenced {
            return Err(Answer::Paused);
        }
        let nth = self.current(slot).ok_or(Answer::NoMoney)?;
        let line = &self.lines[slot as usize][nth];
        if line.stops() {
            return Err(Answer::Paused);
        }
        if line.free < amount {
            return Err(Answer::NoMoney);
        }
        if !head.dirty && self.dirty.len() >= self.dirty_max {
            self.figures.refused_full += 1;
            return Err(Answer::Full);
        }
        Ok(nth)
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
        let done = self.lines[slot as usize][nth].deliver_not(charge);
        self.settled(slot, LineKey { account: ticket.account, period: ticket.period }, done);
        done.is_ok()
    }

    /// The line of a ticket, if it is still there: a slot may have become another account's.
    #[inline]
    fn held(&self, ticket: Ticket) -> Option<usize> {
        let there = ticket.account != AccountId::NONE && (ticket.slot as usize) < self.lines.len();
        if !there || self.directory.account(ticket.slot) != ticket.account {
            return None;
        }
        self.nth(ticket.slot, ticket.period)
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
        self.heads[slot as usize].broken = true;
        self.figures.violations += 1;
        self.violation = Some(violation);
    }
}

impl Funds for CoreLedger {
    #[inline]
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> Result<Place, Answer> {
        let place = self.place(account)?;
        // Only a test costs nothing, and it needs no money.
        if place != Place::NOBODY && max != Money(0) {
            self.pays(place.0, max)?;
        }
        Ok(place)
    }

    #[inline]
    fn reserve(&mut self, account: &Account<'_>, place: Place, amount: Money) -> Result<Ticket, Answer> {
        let place = if place == Place::UNKNOWN { self.place(account)? } else { place };
        debug_assert_eq!(Ok(place), self.place(account), "names come and go between decisions");
        if place == Place::NOBODY {
            return Ok(Ticket::default());
        }
        let slot = place.0;
        // A test is charged nothing, so it needs no line; it is nobody's win.
        if amount == Money(0) {
            return Ok(Ticket::default());
        }
        let nth = self.pays(slot, amount)?;
        let account = self.directory.account(slot);
        let line = &mut self.lines[slot as usize][nth];
        let period = line.period;
        if let Err(invariant) = line.reserve(amount) {
            self.violated(slot, Violation { line: LineKey { account, period }, invariant });
            return Err(Answer::Paused);
        }
        // There is room, or it was on the list.
        self.note(slot);
        Ok(Ticket { account, period, slot })
    }

    fn release(&mut self, ticket: Ticket, amount: Money) {
        let Some(nth) = self.held(ticket) else { return };
        let done = self.lines[ticket.slot as usize][nth].release(amount);
        self.settled(ticket.slot, LineKey { account: ticket.account, period: ticket.period }, done);
    }

    #[inline]
    fn charge(&mut self, ticket: Ticket, reserved: Money, charge: Money) {
        // A line with a reservation is not forgotten, so there is one; of nobody's account there is none.
        let Some(nth) = self.held(ticket) else { return };
        let done = self.lines[ticket.slot as usize][nth].charge(reserved, charge);
        self.settled(ticket.slot, LineKey { account: ticket.account, period: ticket.period }, done);
        let head = &mut self.heads[ticket.slot as usize];
        head.saw(reserved);
        head.rate = sizing::rate(head.rate, head.charged_at.age(self.now), charge);
        (head.charged_at, head.seen_at) = (self.now, self.now);
    }
}
