//! Control's part in the life of the process: cores become ready, get configurations, drain; flush stops last.
//! Owns: its ends of the rings, what each core has reported. Runs on: control, or a test's thread in virtual time.
//! Called by: `control::run`. Never: blocks, reads a clock.
//! Full: what a core's ring has no room for waits here and is tried each turn; a newer configuration replaces one
//! that still waits.
use super::handle::{ControlHandle, State};
use crate::{
    names::Looked,
    wiring::{ControlEnds, WiringError},
};
use outcry::{
    budget::event::{Note, Notes},
    dsp::quota::{Shares, Sharing},
    limits::{NOTES_MAX, TOTALS_BOXES},
    messages::{ControlToFlush, CoreConfig, FlushToControl, FromCore, Moved, ToCore},
    record::{
        configured::{By, Configured},
        labels::Counter,
        metrics::CoreMetrics,
        slots::DspSlots,
        stopped::Why,
        totals::Totals,
        user::Salt,
    },
    units::{MS, Now},
};
use rtrb::PushError;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
};

/// A core whose deltas have not come for this long stands still. Ten of them are due in it.
pub const STANDSTILL_NS: u64 = 10_000_000_000;

/// What the stop of the cores leaves to do: they say so, and flush puts on disk what they left. Both look at their rings some
/// times a second, and a disk may be slow; only what hangs takes all of it.
pub const ENDING_NS: u64 = 10_000_000_000;

/// When every core has ended, what the threads of money still have to say is waited for this long, as the last cut of the leases
/// waits for the ledger's disk; nobody else is to wait for that longer.
pub const NOTES_NS: u64 = 6_000_000_000;
const _: () = assert!(NOTES_NS < ENDING_NS);

/// Why the process stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopCause {
    /// SIGTERM or SIGINT.
    Signal,
    /// [`ControlHandle::request_stop`].
    Requested,
    /// This core panicked, or its thread is gone.
    CoreLost(u16),
    /// The flush thread is gone.
    FlushLost,
}

impl std::fmt::Display for StopCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StopCause::Signal => f.write_str("a signal"),
            StopCause::Requested => f.write_str("asked to"),
            StopCause::CoreLost(core) => write!(f, "core {core} is lost"),
            StopCause::FlushLost => f.write_str("the flush thread is lost"),
        }
    }
}

/// How it stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StopReason {
    /// Why.
    pub cause: StopCause,
    /// Auctions that cores gave up while draining.
    pub unfinished: u32,
    /// Cores that had not drained in time.
    pub cores_left: u16,
    /// Flush had not ended in time: the last second of metrics may be missing.
    pub flush_left: bool,
    /// A second signal cut the wait short.
    pub hastened: bool,
}

impl StopReason {
    /// Nothing was lost, nobody was left behind: exit code 0.
    pub fn clean(&self) -> bool {
        matches!(self.cause, StopCause::Signal | StopCause::Requested)
            && self.unfinished == 0
            && self.cores_left == 0
            && !self.flush_left
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    Starting,
    Ready,
    /// Drained or lost.
    Ended,
}

#[derive(Debug)]
struct Core {
    life: Life,
    snapshot: Option<Box<CoreConfig>>,
    salt: Option<Salt>,
    shares: Option<Box<Shares>>,
    /// Hosts that have moved, each once.
    moved: Vec<Moved>,
    drain: bool,
    /// Deltas of it in the last totals, and when their number last rose.
    deltas: u64,
    beat_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FlushLife {
    Running,
    Told,
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Stopping {
    cause: StopCause,
    by_ns: u64,
    hastened: bool,
}

/// Control's work on the rings, one turn at a time.
#[derive(Debug)]
pub struct ControlRole {
    ends: ControlEnds,
    handle: Arc<ControlHandle>,
    cores: Vec<Core>,
    slots: DspSlots,
    config_id: u64,
    /// The digest of the configuration in force, and changes of it that flush has not taken yet.
    config_hash: u64,
    configured: VecDeque<Box<Configured>>,
    /// The cores' shares of quotas.
    sharing: Sharing,
    /// What is to be recorded of money, while its threads live, and the bundle that flush had no room for.
    notes: Option<Receiver<Note>>,
    bundle: Option<Box<Notes>>,
    /// When every core had ended.
    cores_ended_ns: Option<u64>,
    flush: FlushLife,
    stopping: Option<Stopping>,
    stop_ns: u64,
    unfinished: u32,
    /// What control counts itself, added to each totals it shows.
    own: CoreMetrics,
}

impl ControlRole {
    /// `slots` has assigned the rows of the first configuration, whose number and digest are `config`; each core ends within
    /// `stop_ms` of being told to, and the whole stop within that and [`ENDING_NS`].
    pub fn new(
        ends: ControlEnds,
        handle: Arc<ControlHandle>,
        slots: DspSlots,
        config: (u64, u64),
        stop_ms: u64,
        now: Now,
    ) -> Result<ControlRole, WiringError> {
        ends.check()?;
        handle.set_dsp_names(slots.names());
        let core = |_| Core {
            life: Life::Starting,
            snapshot: None,
            salt: None,
            shares: None,
            moved: Vec::new(),
            drain: false,
            deltas: 0,
            beat_ns: now.boot_ns,
        };
        Ok(ControlRole {
            cores: ends.lanes.iter().map(core).collect(),
            ends,
            handle,
            slots,
            config_id: config.0,
            config_hash: config.1,
            configured: VecDeque::new(),
            sharing: Sharing::new(config.0, &[], 0),
            notes: None,
            bundle: None,
            cores_ended_ns: None,
            flush: FlushLife::Running,
            stopping: None,
            stop_ns: stop_ms.saturating_mul(MS).min(u64::MAX - ENDING_NS),
            unfinished: 0,
            own: CoreMetrics::new(0),
        })
    }

    /// From now on cores' shares of quotas are these.
    pub fn share(&mut self, sharing: Sharing) {
        self.sharing = sharing;
    }

    /// Carries what is sent here to flush from now on. A stop waits until nobody is left who sends.
    pub fn carry(&mut self, notes: Receiver<Note>) {
        self.notes = Some(notes);
    }

    /// Takes what is in the rings (they are some slots long) and passes on what waits. Returns messages moved.
    pub fn turn(&mut self, now: Now) -> usize {
        let mut work = 0;
        for at in 0..self.cores.len() {
            work += self.hear_core(at, now) + self.tell_core(at);
        }
        work += self.hear_flush(now) + self.tell_flush(now);
        if self.stopping.is_none()
            && self.handle.state() == State::Starting
            && self.cores.iter().all(|c| c.life == Life::Ready)
        {
            self.handle.set_state(State::Ready);
        }
        self.handle.set_alive(self.standing_still(now).is_none());
        work
    }

    /// Begins to stop, or, if a signal comes while it stops, ends the wait.
    pub fn signal(&mut self, now: Now) {
        match &mut self.stopping {
            Some(stopping) => {
                stopping.hastened = true;
                stopping.by_ns = now.boot_ns;
            }
            None => self.begin_stop(StopCause::Signal, now),
        }
    }

    /// Begins to stop; does nothing if that has begun.
    pub fn begin_stop(&mut self, cause: StopCause, now: Now) {
        if self.stopping.is_some() {
            return;
        }
        let lost = matches!(cause, StopCause::CoreLost(_) | StopCause::FlushLost);
        self.handle.set_state(if lost { State::Failed } else { State::Draining });
        self.stopping =
            Some(Stopping { cause, by_ns: now.boot_ns.saturating_add(self.stop_ns + ENDING_NS), hastened: false });
        for core in &mut self.cores {
            core.snapshot = None;
            core.drain = core.life != Life::Ended;
        }
    }

    /// Has a stop begun?
    pub fn stopping(&self) -> bool {
        self.stopping.is_some()
    }

    /// Why it stops, once it does.
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.stopping.map(|s| s.cause)
    }

    /// Bidder cores of the process.
    pub fn cores(&self) -> usize {
        self.cores.len()
    }

    /// Number that the next configuration is to have.
    pub fn next_config_id(&self) -> u64 {
        self.config_id + 1
    }

    /// Hands a new configuration to every core, or counts that there is none. `Err` says what was wrong: the
    /// callback's words, or that it made the wrong number of copies, or that the process is stopping.
    pub fn reload(&mut self, made: Result<Vec<Box<CoreConfig>>, String>, now: Now) -> Result<u64, String> {
        let fitting = made.and_then(|copies| {
            if self.stopping.is_some() {
                return Err("the process is stopping".to_owned());
            }
            if copies.len() != self.cores.len() {
                return Err(format!("{} copies for {} cores", copies.len(), self.cores.len()));
            }
            Ok(copies)
        });
        let copies = fitting.inspect_err(|_| self.own.count(Counter::ReloadsRefused))?;
        self.config_id += 1;
        let (old_hash, new_hash) = (self.config_hash, copies.first().map_or(0, |c| c.config.hash));
        let (wall_ms, id) = (now.unix_ms(), self.config_id);
        self.configured.push_back(Box::new(Configured { wall_ms, id, old_hash, new_hash, by: By::Reload }));
        self.config_hash = new_hash;
        if let Some(copy) = copies.first() {
            self.sharing.configure(copy.config.id, &copy.config.dsps);
        }
        for (core, mut copy) in self.cores.iter_mut().zip(copies) {
            copy.dsp_slots = self.slots.assign(copy.config.dsps.iter().map(|d| d.name.as_str()));
            core.snapshot = Some(copy);
            // It knows of all that had moved by now.
            core.moved.clear();
        }
        self.handle.set_dsp_names(self.slots.names());
        Ok(self.config_id)
    }

    /// Hands every core what people are hashed under from now on.
    pub fn salt(&mut self, salt: Salt) {
        self.cores.iter_mut().for_each(|core| core.salt = Some(salt));
    }

    /// A name was looked up again: it is counted, and cores hear of what has changed. A line for the log, if it is worth one.
    pub fn looked(&mut self, looked: Looked) -> Option<String> {
        match looked {
            Looked::Found => {
                self.own.count(Counter::NamesFound);
                None
            }
            Looked::Failed { host, why } => {
                self.own.count(Counter::NamesFailed);
                Some(format!("{host} keeps its addresses, it cannot be looked up: {why}"))
            }
            Looked::Moved(moved) => {
                self.own.count(Counter::NamesMoved);
                for core in self.cores.iter_mut().filter(|core| core.life != Life::Ended) {
                    core.moved.retain(|older| older.host != moved.host);
                    core.moved.push(moved.clone());
                }
                let addresses: Vec<String> = moved.addresses.iter().map(ToString::to_string).collect();
                Some(format!("{} is at {} from now on", moved.host, addresses.join(", ")))
            }
        }
    }

    /// A core that serves but has not reported for [`STANDSTILL_NS`].
    pub fn standing_still(&self, now: Now) -> Option<u16> {
        let still = |c: &Core| c.life == Life::Ready && now.boot_ns.saturating_sub(c.beat_ns) > STANDSTILL_NS;
        self.cores.iter().position(still).map(|at| at as u16)
    }

    /// How it stopped: when everybody has ended, or the time is over.
    pub fn stopped(&self, now: Now) -> Option<StopReason> {
        let stopping = self.stopping?;
        let cores_left = self.cores.iter().filter(|c| c.life != Life::Ended).count() as u16;
        let flush_left = self.flush != FlushLife::Ended;
        let over = now.boot_ns >= stopping.by_ns;
        ((cores_left == 0 && !flush_left) || over).then_some(StopReason {
            cause: stopping.cause,
            unfinished: self.unfinished,
            cores_left,
            flush_left,
            hastened: stopping.hastened,
        })
    }

    fn hear_core(&mut self, at: usize, now: Now) -> usize {
        // Asked first: what a thread said before it went is in the ring by then.
        let gone = self.ends.lanes[at].from_core.is_abandoned();
        let mut work = 0;
        while let Ok(report) = self.ends.lanes[at].from_core.pop() {
            work += 1;
            match report {
                FromCore::Ready => {
                    self.cores[at].beat_ns = now.boot_ns;
                    if self.cores[at].life == Life::Starting {
                        self.cores[at].life = Life::Ready;
                    }
                }
                FromCore::Retired(old) => drop(old),
                FromCore::Wanted(mut letter) => {
                    self.sharing.hear(at, &mut letter);
                    self.cores[at].shares = Some(letter);
                }
                FromCore::Moved(moved) => drop(moved),
                FromCore::Drained { unfinished } => {
                    self.cores[at].life = Life::Ended;
                    self.unfinished = self.unfinished.saturating_add(unfinished);
                    if self.stopping.is_none() {
                        // Nobody told it to.
                        self.begin_stop(StopCause::CoreLost(at as u16), now);
                    }
                }
                FromCore::Panicked => {
                    self.own.count(Counter::Panics);
                    self.lose_core(at, now);
                }
            }
        }
        if gone && self.cores[at].life != Life::Ended {
            self.lose_core(at, now);
        }
        work
    }

    /// A core that is lost while the others drain makes it a failure.
    fn lose_core(&mut self, at: usize, now: Now) {
        self.cores[at].life = Life::Ended;
        self.cores[at].snapshot = None;
        self.cores[at].drain = false;
        self.fail(StopCause::CoreLost(at as u16), now);
    }

    fn fail(&mut self, cause: StopCause, now: Now) {
        self.begin_stop(cause, now);
        if let Some(stopping) = &mut self.stopping
            && matches!(stopping.cause, StopCause::Signal | StopCause::Requested)
        {
            stopping.cause = cause;
            self.handle.set_state(State::Failed);
        }
    }

    fn tell_core(&mut self, at: usize) -> usize {
        let (core, out) = (&mut self.cores[at], &mut self.ends.lanes[at].to_core);
        let mut work = 0;
        if let Some(snapshot) = core.snapshot.take() {
            match out.push(ToCore::Snapshot(snapshot)) {
                Ok(()) => work += 1,
                Err(PushError::Full(ToCore::Snapshot(snapshot))) => core.snapshot = Some(snapshot),
                Err(PushError::Full(_)) => {}
            }
        }
        if let Some(shares) = core.shares.take() {
            match out.push(ToCore::Shares(shares)) {
                Ok(()) => work += 1,
                Err(PushError::Full(ToCore::Shares(shares))) => core.shares = Some(shares),
                Err(PushError::Full(_)) => {}
            }
        }
        // Behind the configuration that names them.
        while core.snapshot.is_none()
            && let Some(moved) = core.moved.pop()
        {
            if let Err(PushError::Full(ToCore::Moved(moved))) = out.push(ToCore::Moved(Box::new(moved))) {
                core.moved.push(*moved);
                break;
            }
            work += 1;
        }
        if let Some(salt) = core.salt
            && out.push(ToCore::Salt(salt)).is_ok()
        {
            core.salt = None;
            work += 1;
        }
        if core.drain && out.push(ToCore::Drain).is_ok() {
            core.drain = false;
            work += 1;
        }
        work
    }

    fn hear_flush(&mut self, now: Now) -> usize {
        let gone = self.ends.from_flush.is_abandoned();
        let mut work = 0;
        while let Ok(message) = self.ends.from_flush.pop() {
            work += 1;
            match message {
                FlushToControl::Totals(totals) => self.show(totals, now),
                FlushToControl::Stopped => self.flush = FlushLife::Ended,
            }
        }
        if gone && self.flush != FlushLife::Ended {
            self.flush = FlushLife::Ended;
            self.fail(StopCause::FlushLost, now);
        }
        work
    }

    /// Is there a slot more than the boxes and the order to stop will need?
    fn flush_has_room(&self) -> bool {
        self.ends.to_flush.slots() > TOTALS_BOXES + 1 + 1
    }

    fn next_bundle(&mut self) -> Option<Box<Notes>> {
        if self.bundle.is_some() {
            return self.bundle.take();
        }
        let notes = self.notes.as_ref()?;
        let mut bundle = Notes::default();
        while bundle.0.len() < NOTES_MAX {
            match notes.try_recv() {
                Ok(note) => bundle.0.push(note),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.notes = None;
                    break;
                }
            }
        }
        (!bundle.0.is_empty()).then(|| Box::new(bundle))
    }

    fn show(&mut self, mut totals: Box<Totals>, now: Now) {
        for (at, core) in self.cores.iter_mut().enumerate() {
            let deltas = totals.deltas(at as u16);
            if deltas > core.deltas {
                (core.deltas, core.beat_ns) = (deltas, now.boot_ns);
            }
        }
        totals.merge_other(&self.own);
        let older = self.handle.show(totals);
        // One box waits at most: flush has another, and the ring has room for all.
        if self.ends.to_flush.push(ControlToFlush::Empty(older)).is_err() {
            debug_assert!(false, "there are fewer boxes than slots");
        }
    }

    fn tell_flush(&mut self, now: Now) -> usize {
        let everybody_ended = self.stopping.is_some() && self.cores.iter().all(|c| c.life == Life::Ended);
        let mut work = 0;
        while self.flush_has_room()
            && let Some(configured) = self.configured.pop_front()
        {
            if let Err(PushError::Full(ControlToFlush::Configured(configured))) =
                self.ends.to_flush.push(ControlToFlush::Configured(configured))
            {
                self.configured.push_front(configured);
                return work;
            }
            work += 1;
        }
        while self.flush_has_room()
            && let Some(bundle) = self.next_bundle()
        {
            if let Err(PushError::Full(ControlToFlush::Noted(bundle))) =
                self.ends.to_flush.push(ControlToFlush::Noted(bundle))
            {
                self.bundle = Some(bundle);
                return work;
            }
            work += 1;
        }
        if self.flush_has_room() {
            let replays = self.handle.take_replays();
            if !replays.is_empty() {
                // There is room, so it is taken.
                let _ = self.ends.to_flush.push(ControlToFlush::Replay(Box::new(replays)));
                work += 1;
            }
        }
        let since = if everybody_ended { *self.cores_ended_ns.get_or_insert(now.boot_ns) } else { now.boot_ns };
        let told = self.notes.is_none() || now.boot_ns - since > NOTES_NS;
        let said = self.configured.is_empty() && self.bundle.is_none() && told;
        if self.flush == FlushLife::Running && everybody_ended && said {
            let why = match self.stop_cause() {
                Some(StopCause::CoreLost(_)) => Why::Panic,
                Some(StopCause::FlushLost) => Why::Failed,
                Some(StopCause::Signal | StopCause::Requested) | None => Why::Asked,
            };
            let stop = ControlToFlush::Stop { why, unfinished: self.unfinished };
            if self.ends.to_flush.push(stop).is_ok() {
                self.flush = FlushLife::Told;
                work += 1;
            }
        }
        work
    }
}

#[cfg(test)]
mod tests;
