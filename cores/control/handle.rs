//! What control shows to others in the process: the admin port, the demo, tests.
//! Owns: the last totals, the last figures of money, the state. Runs on: control writes, and of money its threads; any thread but a bidder core or flush reads.
//! Never: touched by a bidder core or by flush, so its lock is nobody's wait on the request path.
use crate::money::port::BudgetPort;
use outcry::{
    notice::told::Name,
    record::{exposition::render_prometheus, money::MoneyFigures, totals::Totals},
    ship::figures::ShipFigures,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Where the process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum State {
    /// Some core does not listen yet.
    Starting,
    /// Every core serves.
    Ready,
    /// An order to stop: listeners are closing, auctions in flight finish.
    Draining,
    /// The same, because a thread was lost.
    Failed,
    /// Control has returned.
    Stopped,
}

#[derive(Debug)]
struct Shared {
    state: State,
    alive: bool,
    totals: Box<Totals>,
    money: MoneyFigures,
    ship: ShipFigures,
    dsp_names: Vec<String>,
}

/// Control as seen from outside.
#[derive(Debug)]
pub struct ControlHandle {
    shared: Mutex<Shared>,
    changed: Condvar,
    stop: AtomicBool,
    reload: AtomicBool,
    budgets: OnceLock<BudgetPort>,
    /// DSPs that are to be told once more; nothing where no notice is ours.
    replays: OnceLock<Mutex<VecDeque<Replay>>>,
}

/// A notice, and the URL that is to be called for it.
pub type Replay = (Name, Vec<u8>);

/// Of these, as many as wait for flush at most.
const REPLAYS_MAX: usize = 1_024;

impl ControlHandle {
    /// For a process with this many bidder cores and DSP rows.
    pub fn new(cores: usize, dsps: usize) -> Arc<ControlHandle> {
        Arc::new(ControlHandle {
            shared: Mutex::new(Shared {
                state: State::Starting,
                alive: true,
                totals: Box::new(Totals::new(cores, dsps)),
                money: MoneyFigures::default(),
                ship: ShipFigures::default(),
                dsp_names: Vec::new(),
            }),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            reload: AtomicBool::new(false),
            budgets: OnceLock::new(),
            replays: OnceLock::new(),
        })
    }

    /// Asks for a graceful stop, as SIGTERM does. Asking again hastens nothing.
    pub fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Notices are ours: DSPs can be told once more.
    pub fn keep_notices(&self) {
        let _ = self.replays.set(Mutex::default());
    }

    /// Asks for a DSP to be told once more.
    ///
    /// # Errors
    /// Why it is not, for whoever asked.
    pub fn replay(&self, name: Name, url: Vec<u8>) -> Result<(), &'static str> {
        let Some(replays) = self.replays.get() else { return Err("notices.url is not set here: nobody is told\n") };
        let mut replays = replays.lock().unwrap_or_else(PoisonError::into_inner);
        if replays.len() >= REPLAYS_MAX {
            return Err("too many wait: try again in a second\n");
        }
        replays.push_back((name, url));
        Ok(())
    }

    /// Those that were asked for since the last time.
    pub fn take_replays(&self) -> Vec<Replay> {
        let replays = self.replays.get().map(|replays| replays.lock().unwrap_or_else(PoisonError::into_inner));
        replays.map_or_else(Vec::new, |mut replays| replays.drain(..).collect())
    }

    /// Asks for the configuration to be read again, as SIGHUP does.
    pub fn request_reload(&self) {
        self.reload.store(true, Ordering::Release);
    }

    /// Where the process is in its life.
    pub fn state(&self) -> State {
        self.lock().state
    }

    /// Waits until the state is at least `state` in the order of [`State`], or the time is over; returns the state.
    pub fn wait_for(&self, state: State, timeout: Duration) -> State {
        let guard = self.lock();
        let waited = self.changed.wait_timeout_while(guard, timeout, |s| s.state < state);
        waited.unwrap_or_else(PoisonError::into_inner).0.state
    }

    /// Ready, and every core shows signs of life.
    pub fn ready(&self) -> bool {
        let shared = self.lock();
        shared.state == State::Ready && shared.alive
    }

    /// No thread was lost and none stands still.
    pub fn healthy(&self) -> bool {
        let shared = self.lock();
        shared.alive && shared.state != State::Failed
    }

    /// Looks at the last totals; at most about two seconds old, final once the state is [`State::Stopped`].
    pub fn with_totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.lock().totals)
    }

    /// A copy of the last totals.
    pub fn totals(&self) -> Totals {
        self.with_totals(Totals::clone)
    }

    /// The names of the DSPs' rows in the totals.
    pub fn dsp_names(&self) -> Vec<String> {
        self.lock().dsp_names.clone()
    }

    /// Appends the text of `/metrics`.
    pub fn render(&self, out: &mut String) {
        let shared = self.lock();
        render_prometheus(&shared.totals, (&shared.money, &shared.ship), &shared.dsp_names, out);
    }

    /// Changes what is shown of money. Called by the threads of ledger and leases, some times a minute.
    pub fn set_money(&self, set: impl FnOnce(&mut MoneyFigures)) {
        set(&mut self.lock().money);
    }

    /// Changes what is shown of Kafka. Called by the shipper's thread, once a second.
    pub fn set_ship(&self, figures: ShipFigures) {
        self.lock().ship = figures;
    }

    /// From now on the admin port passes calls for budgets to this. The first one stays.
    pub fn keep_budgets(&self, port: BudgetPort) {
        let _ = self.budgets.set(port);
    }

    pub(super) fn budgets(&self) -> Option<&BudgetPort> {
        self.budgets.get()
    }

    pub(super) fn take_stop(&self) -> bool {
        self.stop.swap(false, Ordering::AcqRel)
    }

    pub(super) fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }

    pub(super) fn set_state(&self, state: State) {
        self.lock().state = state;
        self.changed.notify_all();
    }

    pub(super) fn set_alive(&self, alive: bool) {
        self.lock().alive = alive;
    }

    pub(super) fn set_dsp_names(&self, names: &[String]) {
        self.lock().dsp_names = names.to_vec();
    }

    /// Puts newer totals in the place of the older, which it returns.
    pub(super) fn show(&self, totals: Box<Totals>) -> Box<Totals> {
        std::mem::replace(&mut self.lock().totals, totals)
    }

    /// A panic while it was held leaves counters and a state: nothing that could be half done.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
