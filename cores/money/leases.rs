//! The leases' thread: carries what cores spend and want to the server's leases, and grants back to the cores.
//! Owns: the server's role and its ends of the rings. Runs on: a thread of its own on the control CPUs. Called by: `boot`.
//! Never: waits for the ledger: an ask is answered when it is.
//! Full: a core's ring that has no room is tried again; the role keeps one grant for each line of a core.
//!
//! It ends when every core has: the ends of their rings are gone, and what they said last has been heard. The last cut goes to
//! the ledger then, so that the next start has nothing to count.
use super::ledger::{ToLeases, ToLedger};
use crate::wiring::{LeasesEnds, WiringError};
use outcry::{
    budget::{core::DirectoryBatch, server::Server},
    limits,
    units::{MS, Now},
};
use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, Sender},
    time::Duration,
};

/// Rest between two turns while there is something to do: what an urgent want waits at most.
const REST: Duration = Duration::from_millis(5);
/// Rest while nothing was said for a second.
const LONG_REST: Duration = Duration::from_millis(20);
/// Nothing was said for so long.
const QUIET_NS: u64 = 1_000 * MS;
/// Frames between two cuts at most: at some 850 bytes each a quarter of a gigabyte, which a start reads in a second.
const CUT_FRAMES: u64 = 300_000;
/// The last cut is waited for so long: the ledger's disk may be slow, and the journal knows it all anyway.
const LAST_NS: u64 = 5_000 * MS;

/// Names for one core that it has not taken yet.
#[derive(Debug, Default)]
struct Names {
    waiting: VecDeque<Box<DirectoryBatch>>,
}

/// The role, its rings, its ledger.
#[derive(Debug)]
pub struct Leases {
    server: Server,
    ends: LeasesEnds,
    names: Vec<Names>,
    to_ledger: Sender<ToLedger>,
    told: Receiver<ToLeases>,
    frames_cut: u64,
    spoke_ns: u64,
    /// All cores have ended; then.
    ending_ns: u64,
}

impl Leases {
    /// With the role of this start, before any core has said anything.
    ///
    /// # Errors
    /// Ring ends in wrong places.
    pub fn new(
        server: Server,
        ends: LeasesEnds,
        to_ledger: Sender<ToLedger>,
        told: Receiver<ToLeases>,
        now: Now,
    ) -> Result<Leases, WiringError> {
        ends.check()?;
        let names = ends.lanes.iter().map(|_| Names::default()).collect();
        Ok(Leases { server, ends, names, to_ledger, told, frames_cut: 0, spoke_ns: now.boot_ns, ending_ns: 0 })
    }

    /// Moves what there is to be moved. False: every core has ended and the ledger knows all, or does not answer.
    pub fn turn(&mut self, now: Now, say: &mut dyn FnMut(&str)) -> bool {
        let mut work = 0;
        let mut frames = 0;
        let mut alive = false;
        for (core, lane) in self.ends.lanes.iter_mut().enumerate() {
            // Asked first: what it said before it went is in the ring by then.
            alive |= !lane.from_core.is_abandoned();
            while let Ok(report) = lane.from_core.pop() {
                self.server.from_core(core, report, now.boot_ns);
                work += 1;
            }
            frames += self.server.position(core);
            while let Ok(batch) = lane.names_back.pop() {
                for (account, why) in batch.refused() {
                    say(&format!(
                        "ALARM: core {core} does not know account {}: {why}. Its bids are refused; set budget.accounts \
                         higher and restart",
                        account.0
                    ));
                }
            }
        }
        if frames - self.frames_cut > CUT_FRAMES {
            self.frames_cut = frames;
            self.server.cut();
        }
        while let Ok(message) = self.told.try_recv() {
            work += 1;
            match message {
                ToLeases::Reply(reply) => self.server.incoming(&reply, now.boot_ns),
                ToLeases::Ended => alive = false,
                ToLeases::Changed(account) => self.server.look_again(account),
                ToLeases::Names(batch) => self.names.iter_mut().for_each(|n| n.waiting.push_back(batch.clone())),
            }
        }
        if !alive && self.ending_ns == 0 {
            self.ending_ns = now.boot_ns;
            self.server.cut();
        }
        let mut asked = false;
        if let Some(ask) = self.server.outgoing(now.boot_ns) {
            // A ledger that is gone answers nothing: cores go on until their leases run out.
            asked = self.to_ledger.send(ToLedger::Ask(Box::new(ask.clone()))).is_ok();
        }
        while let Some(violation) = self.server.violation() {
            say(&format!("ALARM: {violation:?}: bidding for the account is stopped"));
        }
        for (core, (lane, names)) in self.ends.lanes.iter_mut().zip(&mut self.names).enumerate() {
            let room = lane.to_core.slots().min(limits::BUDGET_GRANT_SLOTS);
            for _ in 0..room {
                let Some(grant) = self.server.to_core(core) else { break };
                let _ = lane.to_core.push(grant);
                work += 1;
            }
            while let Some(batch) = names.waiting.pop_front() {
                if let Err(rtrb::PushError::Full(batch)) = lane.names.push(batch) {
                    names.waiting.push_front(batch);
                    break;
                }
                work += 1;
            }
        }
        if work > 0 || asked {
            self.spoke_ns = now.boot_ns;
        }
        let over = now.boot_ns.saturating_sub(self.ending_ns) > LAST_NS;
        !(self.ending_ns > 0 && (over || self.server.is_cut()))
    }

    /// How long until there may be something to do again.
    pub fn rest(&self, now: Now) -> Duration {
        if now.boot_ns.saturating_sub(self.spoke_ns) > QUIET_NS { LONG_REST } else { REST }
    }
}

/// Runs until every core has ended.
pub fn run(mut leases: Leases, clock: impl Fn() -> Now, mut say: impl FnMut(&str)) {
    loop {
        let now = clock();
        if !leases.turn(now, &mut say) {
            return;
        }
        std::thread::sleep(leases.rest(now));
    }
}
