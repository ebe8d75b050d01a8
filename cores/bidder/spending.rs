//! A bidder core's money, and its ends of the rings to the leases' thread.
//! Owns: the core's ledger. Runs on: each bidder core. Called by: the bidder: at each decision, at each delivery, at the end of
//! each turn. Never: waits; decides about money: that is the ledger's.
//! Full: what does not fit into a ring is told later.
use crate::wiring::CoreMoneyEnds;
use outcry::{
    auction::{Account, Answer, Funds, Place, Ticket, delivery::Freed},
    budget::{
        CoreGrant, CoreReport,
        core::{Capacity, CoreLedger, Figures, Policy, Sink, Told},
    },
    messages::CoreConfig,
    record::{labels::Counter, metrics::CoreMetrics},
    units::{MS, Money, Now},
};
use rtrb::Producer;

/// The server hears this often what changed.
const TICK_NS: u64 = 20 * MS;

/// See the module.
#[derive(Debug)]
pub struct Spending {
    ledger: CoreLedger,
    ends: Option<CoreMoneyEnds>,
    told_ns: u64,
    /// Counted already.
    counted: Figures,
    /// It has said its last: what it did not spend is the server's, and nothing may change that.
    ended: bool,
}

impl Spending {
    /// No account is known, so nothing is limited, and nobody is told anything.
    pub fn unlimited() -> Spending {
        let none = Capacity { accounts: 0, name_bytes: 0, dirty: 0, auctions: 0 };
        Spending { ledger: CoreLedger::new(none, 0), ends: None, told_ns: 0, counted: Figures::default(), ended: false }
    }

    /// With a ledger that knows its accounts, and a server.
    pub fn of(ledger: CoreLedger, ends: CoreMoneyEnds) -> Spending {
        Spending { ledger, ends: Some(ends), told_ns: 0, counted: Figures::default(), ended: false }
    }

    /// This configuration is in force from now on.
    pub(super) fn configure(&mut self, core: &CoreConfig) {
        let policies = core.policies.iter().copied().chain(std::iter::repeat(Policy::default()));
        self.ledger.configure(core.config.dsps.iter().map(|d| d.name.as_bytes()).zip(policies));
    }

    /// The funds of the auction with this number on this core. What waits for a notice is not freed when its answer does not
    /// arrive as it should: whoever may have read it may bill it.
    pub(super) fn paying(&mut self, seq: u64, awaits_notice: bool, now: Now) -> Paying<'_> {
        self.ledger.turn(now.boot_ns);
        Paying { ledger: &mut self.ledger, seq, awaits_notice }
    }

    /// The auction's answer arrived.
    #[inline]
    pub(super) fn delivered(&mut self, seq: u64) {
        self.ledger.delivered(seq);
    }

    /// It did not: what its winners were charged is free again. What stands in the record of that.
    pub(super) fn not_delivered(&mut self, seq: u64, now: Now) -> &[Freed] {
        self.ledger.turn(now.boot_ns);
        if self.ended { &[] } else { self.ledger.not_delivered(seq) }
    }

    /// The end of a turn: money and names in, what was spent and is wanted out. All that was charged and freed so far is in
    /// published frames, up to the one with the number `frame_seq`.
    pub(super) fn end_turn(&mut self, now: Now, frame_seq: u64) {
        let Spending { ledger, ends: Some(ends), told_ns, .. } = self else { return };
        while let Ok(grant) = ends.from_leases.pop() {
            ledger.turn(now.boot_ns);
            ledger.grant(&grant);
        }
        if let Ok(mut batch) = ends.names.pop() {
            ledger.apply(&mut batch);
            // There are no more boxes than slots.
            let _ = ends.names_back.push(batch);
        }
        let mut ring = Ring(&mut ends.to_leases);
        ledger.urgent(&mut ring);
        if now.boot_ns.saturating_sub(*told_ns) >= TICK_NS {
            *told_ns = now.boot_ns;
            ledger.tick(now.boot_ns, frame_seq, &mut ring);
        }
    }

    /// Before the core ends: everything that is left to say. True: it is said, and the server hears that nothing follows.
    pub(super) fn end(&mut self, now: Now, frame_seq: u64) -> bool {
        let Spending { ledger, ends: Some(ends), .. } = self else { return true };
        let told = ledger.tick(now.boot_ns, frame_seq, &mut Ring(&mut ends.to_leases));
        let whole = matches!(told, Told::Statement(_)) && ends.to_leases.push(CoreReport::Bye).is_ok();
        let said = whole || ends.to_leases.is_abandoned();
        if said {
            // The end of a ring is the last word; a runtime may keep what else the core owns.
            self.ends = None;
            self.ended = true;
            // The stop of no account in particular: of every one.
            self.ledger.grant(&CoreGrant { stop: true, ..CoreGrant::default() });
        }
        said
    }

    /// Adds what the ledger has counted since this was called before.
    pub(super) fn count(&mut self, metrics: &mut CoreMetrics) {
        let (now, before) = (self.ledger.figures(), std::mem::replace(&mut self.counted, self.ledger.figures()));
        for (counter, n, known) in [
            (Counter::BudgetViolations, now.violations, before.violations),
            (
                Counter::BudgetGrantsIgnored,
                now.grants_ignored + now.strangers_lost,
                before.grants_ignored + before.strangers_lost,
            ),
            (Counter::BudgetTicksWithoutRoom, now.ticks_without_room, before.ticks_without_room),
            (Counter::BudgetNotFreed, now.not_freed, before.not_freed),
            (Counter::BudgetRefusedFull, now.refused_full, before.refused_full),
        ] {
            metrics.add(counter, n - known);
        }
    }

    /// The ledger, to look at.
    pub fn ledger(&self) -> &CoreLedger {
        &self.ledger
    }
}

/// The ring to the server, as the ledger sees it.
struct Ring<'a>(&'a mut Producer<CoreReport>);

impl Sink for Ring<'_> {
    fn room(&self) -> usize {
        self.0.slots()
    }

    fn put(&mut self, report: CoreReport) {
        // The ledger has asked how much room there is.
        let _ = self.0.push(report);
    }
}

/// The ledger as the funds of one auction: what cannot be paid is asked for, what is charged waits for its delivery.
pub(super) struct Paying<'a> {
    ledger: &'a mut CoreLedger,
    seq: u64,
    awaits_notice: bool,
}

impl Funds for Paying<'_> {
    #[inline]
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> Result<Place, Answer> {
        let found = self.ledger.can_pay(account, max);
        if found == Err(Answer::NoMoney) {
            self.ledger.touch(account, max);
        }
        found
    }

    #[inline]
    fn reserve(&mut self, account: &Account<'_>, place: Place, amount: Money) -> Result<Ticket, Answer> {
        let reserved = self.ledger.reserve(account, place, amount);
        if reserved == Err(Answer::NoMoney) {
            self.ledger.touch(account, amount);
        }
        reserved
    }

    fn release(&mut self, ticket: Ticket, amount: Money) {
        self.ledger.release(ticket, amount);
    }

    #[inline]
    fn charge(&mut self, ticket: Ticket, reserved: Money, charge: Money) {
        self.ledger.charge(ticket, reserved, charge);
        if !self.awaits_notice {
            self.ledger.won(self.seq, ticket, charge);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring::wire;
    use outcry::{
        budget::{
            AccountId, CoreGrant, LineKey, Period,
            core::{DirectoryBatch, Entry},
        },
        units::DspIx,
    };

    /// What a core has said good-bye to is the server's: spent after that it would be spent twice.
    #[test]
    fn nothing_is_spent_or_freed_after_the_last_word() {
        let mut ledger = CoreLedger::new(Capacity::of(4), 7);
        let mut batch = DirectoryBatch::new();
        let (dsp, seat, cid) = ((*b"north").into(), (*b"s").into(), (*b"c").into());
        batch.put(Entry { account: AccountId(1), dsp, seat, cid }).expect("room in the batch");
        ledger.apply(&mut batch);
        let mut wiring = wire(1).expect("a core");
        let (money, mut lane) = (wiring.bidders.remove(0).money, wiring.leases.lanes.remove(0));
        let mut spending = Spending::of(ledger, money);
        let line = LineKey { account: AccountId(1), period: Period(1) };
        let grant = CoreGrant { line, granted: Money(10), until_ns: 1 << 40, ..CoreGrant::default() };
        lane.to_core.push(grant).expect("room in the ring");
        let now = Now { boot_ns: 1 << 30, wall_offset_ns: 0 };
        spending.end_turn(now, 0);
        let account = Account::of(DspIx(0), b"north", b"s", b"c");
        let mut paying = spending.paying(1, false, now);
        let ticket = paying.reserve(&account, Place::UNKNOWN, Money(6)).expect("it is granted");
        paying.charge(ticket, Money(6), Money(6));
        assert!(spending.end(now, 1));
        let mut said = Vec::new();
        while let Ok(report) = lane.from_core.pop() {
            said.push(report);
        }
        assert!(matches!(said[..], [.., CoreReport::End { frame_seq: 1 }, CoreReport::Bye]), "{said:?}");
        assert!(spending.end(now, 1), "said once");
        assert_eq!(spending.paying(2, false, now).reserve(&account, Place::UNKNOWN, Money(1)), Err(Answer::Paused));
        assert_eq!(spending.not_delivered(1, now), []);
        assert!(lane.from_core.pop().is_err() && lane.from_core.is_abandoned());
    }
}
