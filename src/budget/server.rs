//! What one server holds of its granter's money and gives to its cores.
//! Owns: the lines of one start of one server. Runs on: the leases' thread. Called by: `cores/money`, simulations.
//! Never: reads a clock, spends, gives what it was not granted, or takes money back without the core's or the record's word.
//! Full: accounts that find no room are not asked for, and counted; grants wait for room in a core's ring, one for a line.
//!
//! - [`Server::from_core`]: statements of cores; a line counts when its statement has ended, so that what is known of all
//!   lines is as of one frame of each core.
//! - [`Server::to_core`]: what a core is to hear; taken when there is room for it.
//! - [`Server::outgoing`], [`Server::incoming`]: asks and replies, one ask at a time.
//! - [`Server::cut`], [`Server::stop`]: told by the driver; [`Server::is_done`] after the second.
//!
//! Its equation, for every line, always: `granted = sum over cores(granted - returned) + free + returned`.
mod ask;
mod fault;
mod first;
mod hear;
mod held;
mod line;
mod planted;
mod share;
mod table;
mod tend;
mod terms;
mod totals;

#[cfg(test)]
mod tests;

use crate::{
    budget::{
        AccountId, Period,
        messages::{CoreGrant, CoreLine},
    },
    limits,
    units::Money,
};
use ask::Outstanding;
pub use fault::{Invariant, Violation};
use first::First;
pub use held::Held;
use held::Waves;
use line::{Stage, SubEnd};
pub use planted::Fault;
use planted::Planted;
use std::collections::VecDeque;
use table::Table;
pub use totals::{Holding, Totals};

/// Violations that are kept to be told; more are counted.
const VIOLATIONS_KEPT: usize = 64;

/// What there is of one core.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Core {
    /// Lines of which it is to hear, each at most once.
    queue: VecDeque<u32>,
    /// What it hears before that: renewals, written down while the line was at hand. Fewer than its ring holds, so that
    /// nothing waits for them longer than a turn.
    renewals: VecDeque<CoreGrant>,
    /// The statement that has not ended.
    staged: Vec<(u32, CoreLine)>,
    /// Number of the last frame that the statements contain.
    position: u64,
    /// It is to be told that this server is dead.
    fence_due: bool,
    /// It has ended, and said its last.
    left: bool,
}

/// The leases of one start of one server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Server {
    node: u32,
    epoch: u32,
    planted: Planted,
    cores: Vec<Core>,
    table: Table,
    first: First,
    /// Lines to be looked at, each at most once.
    due: VecDeque<u32>,
    /// Lines for the next ask, each at most once.
    asking: VecDeque<u32>,
    /// What waits to be asked for cannot wait longer.
    urgent: bool,
    /// When the last ask was made.
    sent_ns: u64,
    gather_ns: u64,
    /// Lines whose sums are to be in the next cut, each once.
    changed: Vec<u32>,
    /// Number of the last ask.
    req: u64,
    outstanding: Option<Outstanding>,
    cut_told: bool,
    cut_ns: u64,
    /// Positions in the last cut.
    cut_frames: Vec<u64>,
    /// Something was refused of what a core said: no later cut would be exact. The last one, and the record, are.
    cuts_frozen: bool,
    /// How far what is held is known; `None`: nothing waits for notices.
    waves: Option<Waves>,
    draining: bool,
    fenced: bool,
    /// Lines that are open or stopping.
    live: usize,
    /// The latest window that was heard of.
    newest: Period,
    sweep_at: u32,
    swept_ns: u64,
    gathered: Holding,
    holding: Holding,
    totals: Totals,
    violations: VecDeque<Violation>,
}

impl Server {
    /// A server that holds nothing, with so many cores, 1 to [`limits::CORES_MAX`].
    pub fn new(node: u32, epoch: u32, cores: usize, now_ns: u64) -> Server {
        assert!((1..=limits::CORES_MAX).contains(&cores), "cores of a server");
        Server {
            node,
            epoch,
            planted: Planted::default(),
            cores: vec![Core::default(); cores],
            table: Table::new(cores),
            first: First::default(),
            due: VecDeque::new(),
            asking: VecDeque::new(),
            urgent: false,
            sent_ns: 0,
            gather_ns: 0,
            changed: Vec::new(),
            req: 0,
            outstanding: None,
            cut_told: false,
            cut_ns: now_ns,
            cut_frames: vec![0; cores],
            cuts_frozen: false,
            waves: None,
            draining: false,
            fenced: false,
            live: 0,
            newest: Period(0),
            sweep_at: 0,
            swept_ns: now_ns,
            gathered: Holding::default(),
            holding: Holding::default(),
            totals: Totals::default(),
            violations: VecDeque::new(),
        }
    }

    /// Asks that only renew, or that fill up what is not empty yet, are gathered for so long, as each costs the granter a
    /// commit. What a bid was lost for, or will be before that, first touches and what is to stop go at once. Nothing is
    /// gathered unless this is called.
    pub fn gather(&mut self, gather_ns: u64) {
        self.gather_ns = gather_ns;
    }

    /// Makes a mistake from now on.
    #[cfg(debug_assertions)]
    pub fn plant(&mut self, fault: Fault) {
        self.planted.plant(fault);
    }

    /// What core `core` is to hear next; call it only while there is room for one more in its ring.
    pub fn to_core(&mut self, core: usize) -> Option<CoreGrant> {
        let state = &mut self.cores[core];
        if std::mem::take(&mut state.fence_due) {
            return Some(CoreGrant { line: fault::EVERY_ACCOUNT, recall: true, stop: true, ..CoreGrant::default() });
        }
        if let Some(renewal) = state.renewals.pop_front() {
            self.totals.grants += 1;
            return Some(renewal);
        }
        let slot = state.queue.pop_front()?;
        let (line, sub) = self.table.sub(slot, core)?;
        debug_assert!(sub.queued, "a core's part is given up only when nothing waits for the core");
        sub.queued = false;
        if sub.end == SubEnd::Due {
            sub.end = SubEnd::Told;
        }
        let stop = sub.end == SubEnd::Told;
        self.totals.grants += 1;
        Some(CoreGrant {
            line: line.key,
            granted: Money(sub.granted),
            from_ns: line.from_ns,
            until_ns: if stop { 0 } else { line.until_ns },
            recall: stop || sub.marked(line::RECALLED),
            stop,
        })
    }

    /// The next ask is to carry a cut: much was written into the journal since the last.
    pub fn cut(&mut self) {
        self.cut_told = !self.cuts_frozen;
    }

    /// Everything is to go home: cores are told to stop, lines are closed, a last cut is made.
    pub fn stop(&mut self) {
        self.draining = true;
        self.first.clear();
        // Nothing is renewed that is about to stop.
        self.cores.iter_mut().for_each(|core| core.renewals.clear());
        for slot in 0..self.table.slots() as u32 {
            if self.table.is_line(slot) && self.table.line(slot).stage == Stage::Open {
                self.set_stage(slot, Stage::Stopping);
                self.attend(slot);
            }
        }
    }

    /// Every core has ended in order: what none of them spent goes home, without their being asked.
    pub(super) fn all_left(&mut self) {
        self.draining = true;
        self.first.clear();
        for core in &mut self.cores {
            core.queue.clear();
            core.renewals.clear();
        }
        for slot in (0..self.table.slots() as u32).filter(|slot| self.table.is_line(*slot)).collect::<Vec<_>>() {
            let (line, subs) = self.table.whole(slot);
            if line.stage == Stage::Broken {
                continue;
            }
            for sub in subs.iter_mut().filter(|sub| sub.held) {
                let unspent = sub.free();
                sub.returned += unspent;
                line.out -= unspent;
                line.free += unspent;
                line.ended += sub.out();
                line.holders -= 1;
                *sub = line::Sub::default();
            }
            if line.stage == Stage::Open {
                self.set_stage(slot, Stage::Stopping);
            }
            self.attend(slot);
        }
        self.cut();
    }

    /// Every core has ended in order.
    pub fn is_left(&self) -> bool {
        self.cores.iter().all(|core| core.left)
    }

    /// Nothing is out any more, and the granter knows; or nothing more can be done, as this start is dead.
    pub fn is_done(&self) -> bool {
        let said = self.cuts_frozen || self.cores.iter().map(|c| c.position).eq(self.cut_frames.iter().copied());
        self.fenced || (self.is_home() && self.outstanding.is_none() && said)
    }

    /// The ledger knows all that cores have said so far.
    pub fn is_cut(&self) -> bool {
        let told = self.cores.iter().map(|c| c.position).eq(self.cut_frames.iter().copied());
        self.outstanding.is_none() && (told || self.cuts_frozen || self.fenced)
    }

    /// Something was changed of an account: its lines are asked for again at once.
    pub fn look_again(&mut self, account: AccountId) {
        let lines: Vec<u32> = self.table.lines_of(account).collect();
        lines.into_iter().for_each(|slot| self.ask_for(slot));
        self.urgent = true;
    }

    /// The granter said that this start is dead: nothing may be spent any more.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// What was counted.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What is held, and for how long it lasts without the granter.
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// Number of the last ask.
    pub fn asks(&self) -> u64 {
        self.req
    }

    /// Number of the last frame of core `core` that its statements contain.
    pub fn position(&self, core: usize) -> u64 {
        self.cores[core].position
    }

    /// The next violation that was not told yet.
    pub fn violation(&mut self) -> Option<Violation> {
        self.violations.pop_front()
    }

    /// Told to stop, and nothing is left.
    fn is_home(&self) -> bool {
        self.draining && (self.live == 0 || self.waits_for_notices_alone())
    }

    /// This line is to be looked at in the next turn.
    fn attend(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.table.line_mut(slot).due, true) {
            self.due.push_back(slot);
        }
    }

    /// This line is to be in the next ask.
    fn ask_for(&mut self, slot: u32) {
        self.urgent |= self.table.line(slot).stage != Stage::Open;
        if !std::mem::replace(&mut self.table.line_mut(slot).asking, true) {
            self.asking.push_back(slot);
        }
    }

    /// This line's sums are to be in the next cut.
    fn change(&mut self, slot: u32) {
        if !std::mem::replace(&mut self.table.line_mut(slot).changed, true) {
            self.changed.push(slot);
        }
    }

    /// This core is to hear of this line.
    fn tell(&mut self, slot: u32, core: usize) {
        let Some((_, sub)) = self.table.sub(slot, core) else { return };
        if sub.end != SubEnd::Told && !std::mem::replace(&mut sub.queued, true) {
            self.cores[core].queue.push_back(slot);
        }
    }

    fn set_stage(&mut self, slot: u32, stage: Stage) {
        let line = self.table.line_mut(slot);
        // Whether it waits for notices is asked again when it stops.
        line.wave = if stage == Stage::Stopping && line.stage == Stage::Stopping { line.wave } else { 0 };
        let is_live = |stage| matches!(stage, Stage::Open | Stage::Stopping);
        let was = std::mem::replace(&mut line.stage, stage);
        self.live = self.live + usize::from(is_live(stage)) - usize::from(is_live(was));
    }

    /// Books that do not come out: nothing is spent of the account any more. No cut follows, as it could contain frames whose
    /// charges were not believed.
    fn violate(&mut self, violation: Violation) {
        let Violation { invariant, line, .. } = violation;
        self.totals.violations[invariant as usize] += 1;
        (self.cuts_frozen, self.cut_told) = (true, false);
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push_back(violation);
        }
        if let Some(account) = self.table.account_mut(line.account) {
            account.blocked = true;
        }
        let lines: Vec<u32> = self.table.lines_of(line.account).collect();
        for slot in lines {
            self.set_stage(slot, Stage::Broken);
            self.stop_cores(slot);
        }
    }

    /// Every core that has something of this line is told to stop.
    fn stop_cores(&mut self, slot: u32) {
        let (_, subs) = self.table.whole(slot);
        for (core, sub) in subs.iter_mut().enumerate() {
            if sub.held && sub.end == SubEnd::None {
                sub.end = SubEnd::Due;
                if !std::mem::replace(&mut sub.queued, true) {
                    self.cores[core].queue.push_back(slot);
                }
            }
        }
    }

    /// This start is dead: every core hears it before anything else, in one message.
    fn fence(&mut self) {
        self.fenced = true;
        self.outstanding = None;
        self.first.clear();
        for core in &mut self.cores {
            core.fence_due = true;
            core.queue.clear();
            core.renewals.clear();
        }
    }
}
