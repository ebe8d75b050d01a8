//! The control thread: all that is slow. Life of the process, configuration, the admin port, the service manager.
//! Owns: a tokio runtime of one thread, signals, the admin listener. Runs on: the control thread; not pinned to one
//! CPU, may block. Called by: `boot`. Never: needed by an auction in flight.
//! Full: see [`role`] for rings, [`admin`] for connections.
pub mod admin;
pub mod handle;
pub mod notify;
pub mod role;

pub use handle::{ControlHandle, State};
pub use role::{ControlRole, StopCause, StopReason};

use crate::{
    names::Looked,
    wiring::{ControlEnds, WiringError},
};
use notify::Notifier;
use outcry::{
    budget::event::Note,
    dsp::quota::Sharing,
    messages::CoreConfig,
    record::{slots::DspSlots, user::Salt},
    units::Now,
};
use std::{
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::MissedTickBehavior,
};

/// Rings are polled this often: what a drain or a configuration waits at most. At two hundred a second this was 1.5 % of
/// a CPU.
pub const TICK: Duration = Duration::from_millis(50);
const DAY_MS: u64 = 86_400_000;

/// Reads the configuration again. It gets the number the new configuration is to have and returns a copy for every
/// core, or all that is wrong with it. May block for a while; the service manager's patience is the limit.
pub type Reload = Box<dyn FnMut(u64) -> Result<Vec<Box<CoreConfig>>, String>>;

/// All that control is given.
pub struct ControlContext {
    /// From [`crate::wiring::wire`].
    pub ends: ControlEnds,
    /// Kept by who wants to see and stop the process from inside.
    pub handle: Arc<ControlHandle>,
    /// Bound already, so that a port in use is found before a core starts. `None`: no admin port.
    pub admin: Option<std::net::TcpListener>,
    /// Called at SIGHUP and at [`ControlHandle::request_reload`].
    pub reload: Reload,
    /// What is to be recorded of money.
    pub notes: Option<Receiver<Note>>,
    /// What becomes of names that are looked up again.
    pub looked: Option<Receiver<Looked>>,
    /// Rows of the DSPs of the first configuration, as its `CoreConfig::dsp_slots` have them.
    pub slots: DspSlots,
    /// Number and digest of the first configuration.
    pub config: (u64, u64),
    /// The cores' shares of quotas in it.
    pub sharing: Sharing,
    /// Longest time that each core has at a stop, in milliseconds.
    pub stop_ms: u64,
    /// Who is told of readiness.
    pub notifier: Notifier,
    /// Read once per turn.
    pub clock: Box<dyn Fn() -> Now>,
    /// Where a line about each change goes.
    pub log: Box<dyn FnMut(&str)>,
}

/// Why control could not begin. The cores' rings are gone then; they are to be stopped by who started them.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Ring ends in wrong places.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// The runtime, a signal handler or the listener could not be had.
    #[error("control cannot start: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs the process until it has stopped: by SIGTERM, SIGINT (a second one hastens), [`ControlHandle::request_stop`],
/// or because a thread was lost.
pub fn run(context: ControlContext) -> Result<StopReason, ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = Arc::clone(&context.handle);
    let reason = runtime.block_on(live(context));
    handle.set_state(State::Stopped);
    reason
}

/// A secret of the system's randomness.
fn draw() -> std::io::Result<[u64; 2]> {
    let mut bytes = [[0; 8]; 2];
    for part in &mut bytes {
        rustix::rand::getrandom(part, rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.map(u64::from_le_bytes))
}

async fn live(context: ControlContext) -> Result<StopReason, ControlError> {
    let ControlContext {
        ends,
        handle,
        admin,
        mut reload,
        notes,
        looked,
        slots,
        config,
        sharing,
        stop_ms,
        mut notifier,
        clock,
        mut log,
    } = context;
    let mut role = ControlRole::new(ends, Arc::clone(&handle), slots, config, stop_ms, clock())?;
    role.share(sharing);
    if let Some(notes) = notes {
        role.carry(notes);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    if let Some(listener) = admin {
        listener.set_nonblocking(true)?;
        tokio::spawn(admin::serve(tokio::net::TcpListener::from_std(listener)?, Arc::clone(&handle)));
    }
    let mut tick = tokio::time::interval(TICK);
    // After a reload that took its time there is nothing to catch up on.
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut state = State::Starting;
    let mut still = None;
    let mut salted_day = 0;
    loop {
        let mut reload_asked = false;
        tokio::select! {
            _ = terminate.recv() => role.signal(clock()),
            _ = interrupt.recv() => role.signal(clock()),
            _ = hangup.recv() => reload_asked = true,
            _ = tick.tick() => {}
        }
        let now = clock();
        if handle.take_stop() {
            role.begin_stop(StopCause::Requested, now);
        }
        let day = now.unix_ms() / DAY_MS;
        if day != salted_day {
            salted_day = day;
            role.salt(Salt { id: (now.unix_ms() / 1000) as u32, key: draw()? });
        }
        while let Some(looked) = looked.as_ref().and_then(|looked| looked.try_recv().ok()) {
            if let Some(line) = role.looked(looked) {
                log(&line);
            }
        }
        if handle.take_reload() || reload_asked {
            let made = if role.stopping() { Ok(Vec::new()) } else { reload(role.next_config_id()) };
            match role.reload(made, now) {
                Ok(id) => log(&format!("configuration {id} is on its way to the cores")),
                Err(why) => log(&format!("the configuration stays as it is: {why}")),
            }
        }
        role.turn(now);
        let stands = role.standing_still(now);
        if stands != still {
            still = stands;
            match still {
                Some(core) => {
                    log(&format!("core {core} has not reported for {} s", role::STANDSTILL_NS / 1_000_000_000))
                }
                None => log("every core reports again"),
            }
        }
        if handle.state() != state {
            state = handle.state();
            announce(state, &role, &notifier, &mut log);
        }
        // A core that stands still is for the manager to see: it restarts us.
        notifier.beat(now.boot_ns, still.is_none());
        if let Some(reason) = role.stopped(now) {
            return Ok(reason);
        }
    }
}

fn announce(state: State, role: &ControlRole, notifier: &Notifier, log: &mut dyn FnMut(&str)) {
    let cores = role.cores();
    match state {
        State::Ready => {
            notifier.ready(&format!("serving on {cores} cores"));
            log(&format!("ready: serving on {cores} cores"));
        }
        State::Draining | State::Failed => {
            let cause = role.stop_cause();
            notifier.stopping(&format!("draining {cores} cores"));
            log(&format!("draining {cores} cores: {}", cause.map_or_else(String::new, |c| c.to_string())));
        }
        State::Starting | State::Stopped => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flush::{FlushRole, delta::DeltaLane},
        wiring::{BidderEnds, wire},
    };
    use outcry::{
        messages::{FromCore, ToCore},
        record::labels::Counter,
    };
    use std::{
        io::{Read, Write},
        net::{SocketAddr, TcpListener, TcpStream},
    };

    fn clock() -> impl Fn() -> Now + Clone + Send + 'static {
        let start = std::time::Instant::now();
        move || Now { boot_ns: start.elapsed().as_nanos() as u64, wall_offset_ns: 0 }
    }

    /// A bidder core that serves nobody: ready, one count, drained when told to.
    fn idle_core(mut ends: BidderEnds, clock: impl Fn() -> Now) {
        ends.to_control.push(FromCore::Ready).unwrap();
        let mut lane = DeltaLane::new(ends.to_flush, ends.from_flush, 1, clock());
        lane.probe().count(Counter::Auctions);
        loop {
            match ends.from_control.pop() {
                Ok(ToCore::Drain) => break,
                Ok(ToCore::Snapshot(_) | ToCore::Salt(_) | ToCore::Shares(_) | ToCore::Moved(_)) => {}
                Err(_) => std::thread::yield_now(),
            }
        }
        lane.finish();
        ends.to_control.push(FromCore::Drained { unfinished: 0 }).unwrap();
    }

    fn page(address: SocketAddr, path: &str) -> String {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    /// Every thread but the bidders is the real one.
    #[test]
    fn a_process_lives_from_start_to_stop() {
        let clock = clock();
        let wiring = wire(2).unwrap();
        let handle = ControlHandle::new(2, 1);
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = admin.local_addr().unwrap();
        let flush = {
            let (role, clock) = (FlushRole::new(wiring.flush, 1, clock()).unwrap(), clock.clone());
            std::thread::spawn(move || {
                crate::flush::run::run(role, None, outcry::config::IoDriver::Epoll, None, clock, |_| ()).unwrap();
            })
        };
        let control = {
            let (handle, clock, ends) = (Arc::clone(&handle), clock.clone(), wiring.control);
            std::thread::spawn(move || {
                run(ControlContext {
                    ends,
                    handle,
                    admin: Some(admin),
                    reload: Box::new(|_| Err("nothing to read".into())),
                    notes: None,
                    looked: None,
                    slots: DspSlots::new(1),
                    config: (1, 0),
                    sharing: Sharing::new(1, &[], 2),
                    stop_ms: 60_000,
                    notifier: Notifier::default(),
                    clock: Box::new(clock),
                    log: Box::new(|_| ()),
                })
                .unwrap()
            })
        };
        assert!(page(address, "/readyz").starts_with("HTTP/1.1 503 "));
        let cores: Vec<_> = wiring
            .bidders
            .into_iter()
            .map(|ends| {
                let clock = clock.clone();
                std::thread::spawn(move || idle_core(ends, clock))
            })
            .collect();
        assert_eq!(handle.wait_for(State::Ready, Duration::from_secs(60)), State::Ready);
        assert!(page(address, "/readyz").ends_with("\r\n\r\n1\n"));
        handle.request_reload();
        handle.request_stop();
        let reason = control.join().unwrap();
        assert!(reason.clean(), "{reason:?}");
        assert_eq!(reason.cause, StopCause::Requested);
        cores.into_iter().for_each(|c| c.join().unwrap());
        flush.join().unwrap();
        assert_eq!(handle.state(), State::Stopped);
        handle.with_totals(|t| {
            assert_eq!(t.counter(Counter::Auctions), 2, "what was counted last is there");
            assert_eq!(t.counter(Counter::ReloadsRefused), 1);
        });
    }
}
