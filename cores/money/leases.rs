//! The leases' thread: carries what cores spend and want to the server's leases, and grants back to the cores.
//! Owns: the server's role and its ends of the rings. Runs on: a thread of its own on the control CPUs. Called by: `boot`.
//! Never: waits for the ledger: an ask is answered when it is.
//! Full: a core's ring that has no room is tried again; the role keeps one grant for each line of a core, and
//! renewals for half a ring.
//!
//! It ends when every core has: the ends of their rings are gone, and what they said last has been heard. If each ended in
//! order all leases go home to the ledger then; if one was lost, a last cut does, and the next start counts the rest from the
//! record.
use super::{
    ledger::{Held, ToLeases, ToLedger},
    telling::Telling,
};
use crate::wiring::{LeasesEnds, WiringError};
use outcry::{
    budget::{core::DirectoryBatch, server::Server},
    limits,
    record::labels::Money,
    units::{MS, Now},
};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender},
    },
    time::Duration,
};

/// Rest between two turns while there is something to do: what an urgent want waits at most.
const REST: Duration = Duration::from_millis(5);
/// What only renews leases is asked for so often at most.
pub const GATHER_NS: u64 = 250 * MS;
/// Rest while nothing was said for a second.
const LONG_REST: Duration = Duration::from_millis(20);
/// Nothing was said for so long.
const QUIET_NS: u64 = 1_000 * MS;
/// Metrics hear this often how things stand.
const SHOW_NS: u64 = 1_000 * MS;
/// Whoever adds an account is answered after so long, whether or not every core knows it.
const KNOWN_NS: u64 = 2_000 * MS;
/// Frames between two cuts at most: at some 850 bytes each a quarter of a gigabyte, which a start reads in a second.
const CUT_FRAMES: u64 = 300_000;
/// The last words are waited for so long: the ledger's disk may be slow, and the journal knows it all anyway.
const LAST_NS: u64 = 5_000 * MS;

/// Names for one core, with who waits for its knowing them.
#[derive(Debug, Default)]
struct Names {
    /// It has not taken these yet.
    waiting: VecDeque<Box<DirectoryBatch>>,
    /// Who waits for these and those that it has not given back yet, in their order, and since when.
    held: VecDeque<(Option<Arc<Held>>, u64)>,
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
    shown_ns: u64,
    /// All cores have ended; then.
    ending_ns: u64,
}

impl Leases {
    /// With the role of this start, before any core has said anything.
    ///
    /// # Errors
    /// Ring ends in wrong places.
    pub fn new(
        mut server: Server,
        ends: LeasesEnds,
        to_ledger: Sender<ToLedger>,
        told: Receiver<ToLeases>,
        now: Now,
    ) -> Result<Leases, WiringError> {
        ends.check()?;
        server.gather(GATHER_NS);
        let names = ends.lanes.iter().map(|_| Names::default()).collect();
        Ok(Leases {
            server,
            ends,
            names,
            to_ledger,
            told,
            frames_cut: 0,
            spoke_ns: now.boot_ns,
            shown_ns: now.boot_ns,
            ending_ns: 0,
        })
    }

    /// Moves what there is to be moved. False: every core has ended and the ledger knows all, or does not answer.
    pub fn turn(&mut self, now: Now, telling: &mut Telling) -> bool {
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
            let held = &mut self.names[core].held;
            while let Ok(batch) = lane.names_back.pop() {
                held.pop_front();
                for (account, why) in batch.refused() {
                    let text = format!(
                        "core {core} does not know account {}: {why}. Its bids are refused; set budget.accounts higher and \
                         restart",
                        account.0
                    );
                    telling.alarm("directory-has-room", Some(*account), &text, now);
                }
            }
        }
        // A core that hangs, or is gone, is not waited for: what it does not know it cannot bid on for long.
        for names in &mut self.names {
            for (held, since_ns) in &mut names.held {
                if now.boot_ns.saturating_sub(*since_ns) > KNOWN_NS {
                    *held = None;
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
                ToLeases::Held(upto, lines) => self.server.hold(&upto, &lines),
                ToLeases::Ended => alive = false,
                ToLeases::Changed(account) => self.server.look_again(account),
                ToLeases::Names(batch, held) => {
                    for names in &mut self.names {
                        names.waiting.push_back(batch.clone());
                        names.held.push_back((Some(held.clone()), now.boot_ns));
                    }
                }
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
            let (of, at) = (violation.invariant.name(), violation.line);
            let text = format!("{violation:?}: bidding for the account is stopped");
            telling.alarm(of, Some(at.account), &text, now);
        }
        for (core, (lane, names)) in self.ends.lanes.iter_mut().zip(&mut self.names).enumerate() {
            let room = lane.to_core.slots().min(limits::BUDGET_GRANT_SLOTS);
            for _ in 0..room {
                let Some(grant) = self.server.to_core(core) else { break };
                let _ = lane.to_core.push(grant);
                work += 1;
            }
            // No more are on the way than there is room for on the way back, so that each comes back, in its turn.
            while names.held.len() - names.waiting.len() < limits::BUDGET_NAMES_SLOTS
                && let Some(batch) = names.waiting.pop_front()
            {
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
        if now.boot_ns.saturating_sub(self.shown_ns) >= SHOW_NS {
            self.shown_ns = now.boot_ns;
            self.show(telling);
        }
        let over = now.boot_ns.saturating_sub(self.ending_ns) > LAST_NS;
        let done = if self.server.is_left() { self.server.is_done() } else { self.server.is_cut() };
        !(self.ending_ns > 0 && (over || done))
    }

    fn show(&self, telling: &mut Telling) {
        let (held, counted) = (*self.server.holding(), *self.server.totals());
        telling.figures(|m| {
            for (figure, value) in [
                (Money::ServerLines, held.lines.into()),
                (Money::ServerOpenLines, held.lines_open.into()),
                (Money::ServerGranted, held.granted),
                (Money::ServerReturned, held.returned),
                (Money::ServerSpent, held.spent),
                (Money::ServerFree, held.free),
                (Money::ServerOnCores, held.on_cores),
                (Money::Asks, counted.asks.into()),
                (Money::AskedLines, counted.asked_lines.into()),
                (Money::Resent, counted.resent.into()),
                (Money::Replies, counted.replies.into()),
                (Money::RoundTripsNs, counted.round_trips_ns.into()),
            ] {
                m.set(figure, value);
            }
            m.set(Money::AutonomyLeast, held.autonomy_least_s.map(i128::from));
            m.set(Money::AutonomyMean, held.autonomy_mean_s().map(i128::from));
            m.set_server_violations(counted.violations);
        });
    }

    /// How long until there may be something to do again.
    pub fn rest(&self, now: Now) -> Duration {
        if now.boot_ns.saturating_sub(self.spoke_ns) > QUIET_NS { LONG_REST } else { REST }
    }
}

/// Runs until every core has ended; then the ledger has nobody to answer any more, and ends too.
pub fn run(mut leases: Leases, clock: impl Fn() -> Now, mut telling: Telling) {
    loop {
        let now = clock();
        if !leases.turn(now, &mut telling) {
            drop(leases.to_ledger.send(ToLedger::Stop));
            return;
        }
        std::thread::sleep(leases.rest(now));
    }
}
