//! From a configuration to a running exchange, top to bottom: configuration -> state -> CPU plan -> rings -> what was left
//! behind -> ports -> black boxes -> threads -> ready -> drain.
//! Owns: the threads. Runs on: the main thread. Never: part of an auction.
mod configured;
use crate::{
    bidder::{Identity, recording::Recorder, thread, turn},
    control::{self, ControlContext, ControlHandle, State, StopCause, StopReason, notify::Notifier},
    flush::{self, FlushRole},
    io_probe,
    keeping::{self, KeepingError, PutAway},
    money::{
        Accounts,
        leases::{self, Leases},
        ledger::{self, Desk, Ledger, LedgerError, ToLeases, ToLedger},
        port::BudgetPort,
        recover,
        telling::Telling,
    },
    names::{self, Names},
    notice_keys::{self, NoticeKeysError},
    notices::{self, holding::MoneyEnds, start::NoticesError},
    raw::{self, RawRole},
    ship::{Shipping, reach::Reach, run::ShipError},
    state::{self, StateError},
    topology,
    trust::TrustError,
    wiring::{WiringError, wire},
};
use configured::{budgets, core_config, fill_random, reloader};
use outcry::{
    budget::{event::Level, server::Server},
    config::{self, Config, Durability, IoDriver, Mistake, plan},
    dsp::quota::Sharing,
    notice::holds::Holds,
    record::slots::{DspSlots, rows_for},
    time::hybrid::Hlc,
    units::{MS, mix},
};
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Listen queue of a core: a burst of a whole exchange reconnecting.
pub(crate) const BACKLOG: i32 = 4096;
/// Longest that a start may take until every core is ready: warm connections are waited for two seconds.
const READY: Duration = Duration::from_secs(20);

/// Why an exchange could not be started. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The configuration cannot run.
    #[error("the configuration cannot run:\n{}", .0.iter().map(|m| format!("  {m}")).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Mistake>),
    /// The configuration cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Records cannot be kept.
    #[error(transparent)]
    Keeping(#[from] KeepingError),
    /// The ledger of budgets.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The keys of notice URLs.
    #[error(transparent)]
    NoticeKeys(#[from] NoticeKeysError),
    /// Whose word DSPs' certificates need.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Which notices were taken.
    #[error(transparent)]
    Notices(#[from] NoticesError),
    /// A DSP's host has no address.
    #[error("dsp {name}: {host}:{port} has no address ({why}). Check the name, or write the address into `url`")]
    Resolve {
        /// The DSP.
        name: String,
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// What the resolver said.
        why: String,
    },
    /// A port cannot be listened on.
    #[error("cannot listen on {addr}: {source}. Is another process on that port? `ss -ltnp` tells")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// io_uring was demanded and is forbidden.
    #[error("{0}")]
    IoUring(io_probe::Forbidden),
    /// The machine cannot be read, or has no CPU for us.
    #[error("{0}")]
    Cpus(String),
    /// Kafka.
    #[error(transparent)]
    Ship(#[from] ShipError),
    /// A mistake of ours.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// A thread cannot be started, or randomness read.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It started and fell over.
    #[error("the exchange did not become ready; the reason stands above")]
    NotReady,
}

/// A stop waits this long for requests and answers that are to be kept whole: nobody's money hangs on them.
const RAW_PATIENCE: Duration = Duration::from_secs(2);

/// Where the configuration is read again at a reload.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// Only this text.
    Text(String),
}

impl Source {
    fn read(&self) -> Result<String, BootError> {
        match self {
            Source::File(path) => {
                std::fs::read_to_string(path).map_err(|source| BootError::Read { path: path.clone(), source })
            }
            Source::Text(text) => Ok(text.clone()),
        }
    }
}

/// A running exchange.
pub struct Exchange {
    listen: SocketAddr,
    admin: SocketAddr,
    plan: plan::Plan,
    /// What control shows.
    pub handle: Arc<ControlHandle>,
    control: JoinHandle<Result<StopReason, String>>,
    cores: Vec<JoinHandle<()>>,
    flush: JoinHandle<Result<(), String>>,
    raw: JoinHandle<()>,
    leases: JoinHandle<()>,
    ledger: JoinHandle<()>,
    to_ledger: Sender<ToLedger>,
    to_leases: Sender<ToLeases>,
    away: Option<PutAway>,
    ship: Option<(Arc<Reach>, JoinHandle<()>)>,
}

/// Starts an exchange from a configuration's text and waits until it is ready.
pub fn start(text: &str) -> Result<Exchange, BootError> {
    start_from(Source::Text(text.to_owned()), &mut |_| ())
}

/// Starts an exchange and waits until it is ready; what is worth knowing goes to `say`, line by line.
pub fn start_from(source: Source, say: &mut dyn FnMut(&str)) -> Result<Exchange, BootError> {
    let config = config::load(&source.read()?, 1).map_err(BootError::Config)?;
    let entropy = entropy()?;
    let start = state::begin(&config.state_dir, config.node, entropy)?;
    let plan = plan_of(&config)?;
    say(&plan.to_string());

    let driver = match (config.io_driver, io_probe::probe()) {
        (IoDriver::Epoll, _) => IoDriver::Epoll,
        (driver, Ok(())) => driver,
        (IoDriver::IoUring, Err(why)) => return Err(BootError::IoUring(why)),
        (IoDriver::Auto, Err(why)) => {
            say(&format!(
                "WARNING: falling back to epoll, which makes a system call for each read and each write: {why}"
            ));
            IoDriver::Epoll
        }
    };

    // Threads inherit the mask of the thread that makes them: from here on none lands on a bidder core by itself.
    confine(&plan.control);

    let cores = plan.bidders.len();
    let wiring = wire(cores)?;
    let rows = rows_for(config.dsps.len());
    let mut slots = DspSlots::new(rows);

    // Names and files that are wrong are told before anything is begun.
    let shipping = Shipping::begin(&config, start.node)?;
    let reach = shipping.as_ref().map(|shipping| Arc::clone(&shipping.reach));

    // Before a port is bound, a box made or a request taken: what was left behind goes into the journal.
    let (left, opening) = keeping::look(&config, &plan, start, (mix(entropy ^ 1), reach.clone()), say)?.unzip();
    let flush = {
        let role = FlushRole::new(wiring.flush, rows, turn::now())?;
        let cpu = plan.flush;
        spawn("outcry-flush", move || {
            flush::run::run(role, Some(cpu), driver, opening, turn::now, |_| ()).map_err(|e| {
                eprintln!("outcry: {e}");
                e.to_string()
            })
        })?
    };
    let raw = {
        if config.raw.keeps_personal_data {
            say(
                "WARNING: requests and answers that are kept whole keep the ids, addresses and places of people (raw.keeps_personal_data = true)",
            );
        }
        let store = keeping::raw_store(&config, start);
        let role = RawRole::new(wiring.raw, store, config.raw.keeps_personal_data, turn::now());
        spawn("outcry-raw", move || raw::run(role, turn::now, |line| eprintln!("outcry: {line}")))?
    };
    let mut ledger = Ledger::open(&config, turn::now)?;
    let holder = (start.node, start.epoch);
    let mut notices = None;
    let (to_ledger, from_leases) = channel();
    let (to_leases, told) = channel();
    let left = match left {
        Some(left) => Some(left.readout(say, |counted, say| {
            let journal = notices::start::Record { dir: &counted.dir, positions: &counted.positions };
            let keys = notice_keys::load(&config, fill_random)?;
            notices = notices::start::begin(
                &config,
                journal,
                holder,
                keys.as_ref(),
                (cores, mix(entropy ^ 2)),
                turn::now(),
                say,
            )?;
            let record = recover::Record { dir: &counted.dir, positions: &counted.positions, last: counted.last };
            recover_with(&mut ledger, Some(record), notices.as_mut(), holder, say)?;
            if let Some(begun) = &mut notices {
                begun.money = Some(MoneyEnds { leases: to_leases.clone(), ledger: to_ledger.clone() });
            }
            Ok::<(), BootError>(())
        })?),
        None => {
            recover_with(&mut ledger, None, None, holder, say)?;
            None
        }
    };
    if let Some(text) = budgets(&config)? {
        ledger.apply_file(&text)?;
    }
    let accounts = Arc::new(Accounts::of(&ledger, config.budget.accounts));

    let names = Names::new(&config.dns);
    let first = core_config(&config, &mut slots, start, (cores, &accounts), &names)?;
    for why in accounts.unknown(&config) {
        say(&why);
    }
    for dsp in config.unverified() {
        say(&format!(
            "WARNING: dsp {} is asked, or told, whatever its certificate says: anybody between us can read requests and bid in its place \
             (danger_accept_any_certificate = true)",
            dsp.name
        ));
    }
    let mut listen = config.listen;
    let mut doors = Vec::new();
    for _ in 0..cores {
        let door = bind(listen)?;
        listen = door.local_addr().ok().and_then(|a| a.as_socket()).unwrap_or(listen); // port 0: all cores share what the first was given
        doors.push(door);
    }
    let admin = TcpListener::bind(config.admin).map_err(|source| BootError::Listen { addr: config.admin, source })?;
    let admin_addr = admin.local_addr().unwrap_or(config.admin);

    let holds = notices.is_some();
    // Last of all that can fail: boxes that were made are there for the next start to read.
    let recording = left.map(|left| left.boxes(&plan.bidders, notices, say)).transpose()?;
    let (producers, last, away) = match recording {
        Some(r) => (r.producers.into_iter().map(Some).collect(), r.last, Some(r.away)),
        None => (Vec::new(), Hlc::default(), None),
    };
    let mut producers = producers.into_iter();
    let power = config.record.durability == Durability::Power;
    let stop_ns = config.stop_ms * MS;
    let mut threads = Vec::new();
    for (i, (ends, door)) in wiring.bidders.into_iter().zip(doors).enumerate() {
        let core = i as u16;
        door.listen(BACKLOG).map_err(|source| BootError::Listen { addr: listen, source })?;
        let seat = thread::Seat {
            core,
            cpu: plan.bidders[i],
            listener: door.into(),
            ends,
            config: first.clone(),
            identity: Identity {
                node: start.node,
                epoch: start.epoch,
                core,
                seed: mix(entropy ^ mix(u64::from(core))),
            },
            recorder: Recorder::new(producers.next().flatten(), power, last),
            ledger: {
                let accounts = Arc::clone(&accounts);
                Box::new(move |seed| accounts.ledger(seed))
            },
            rows,
            epoll: driver == IoDriver::Epoll,
            stop_ns,
        };
        threads.push(spawn(&format!("outcry-bid-{core}"), move || thread::run(seat))?);
    }
    let handle = ControlHandle::new(cores, rows);
    let (to_notes, notes) = channel();
    let telling =
        |level| Telling::new(level, to_notes.clone(), Arc::clone(&handle), |line| eprintln!("outcry: {line}"));
    let leases = {
        let mut server = Server::new(start.node, start.epoch, cores, turn::now().boot_ns);
        if holds {
            server.await_notices();
        }
        let leases = Leases::new(server, wiring.leases, to_ledger.clone(), told, turn::now())?;
        let telling = telling(Level::Server);
        spawn("outcry-leases", move || leases::run(leases, turn::now, telling))?
    };
    let ledger = {
        let accounts = Arc::clone(&accounts);
        let desk =
            Desk { ledger, asked: from_leases, leases: to_leases.clone(), accounts, telling: telling(Level::Granter) };
        spawn("outcry-ledger", move || ledger::run(desk))?
    };
    // These two are all who write notes: when they have ended there is none more.
    drop(to_notes);
    let shipper = match shipping {
        Some(shipping) => {
            let thread =
                shipping.thread(&config, start.node, Arc::clone(&accounts), Arc::clone(&handle), mix(entropy ^ 3));
            Some(spawn("outcry-ship", thread)?)
        }
        None => None,
    };
    handle.keep_budgets(BudgetPort(to_ledger.clone()));
    if config.notices.url.is_some() {
        handle.keep_notices();
    }
    let (to_control, looked) = channel();
    let (until, stop) = channel();
    {
        // Nobody waits for it: it ends when control does, or with the process.
        let names = Arc::clone(&names);
        spawn("outcry-names", move || names::run(&names, || turn::now().boot_ns, &to_control, &stop))?;
    }
    let control = {
        let (handle, ends, stop_ms, admin) = (Arc::clone(&handle), wiring.control, config.stop_ms, Some(admin));
        let budgets = to_ledger.clone();
        spawn("outcry-control", move || {
            let _until = until;
            let rows = slots.clone();
            let first = (config.id, config.hash);
            let sharing = Sharing::new(config.id, &config.dsps, cores);
            let reload = reloader(source, config, slots, start, (cores, accounts, budgets), names);
            control::run(ControlContext {
                ends,
                handle,
                admin,
                reload,
                notes: Some(notes),
                slots: rows,
                looked: Some(looked),
                config: first,
                sharing,
                stop_ms,
                notifier: Notifier::from_env(),
                clock: Box::new(turn::now),
                log: Box::new(|line| eprintln!("outcry: {line}")),
            })
            .map_err(|e| e.to_string())
        })?
    };
    let exchange = Exchange {
        listen,
        admin: admin_addr,
        plan,
        handle,
        control,
        cores: threads,
        flush,
        raw,
        leases,
        ledger,
        to_ledger,
        to_leases,
        away,
        ship: reach.zip(shipper),
    };
    if exchange.handle.wait_for(State::Ready, READY) != State::Ready {
        let _ = exchange.stop();
        return Err(BootError::NotReady);
    }
    Ok(exchange)
}

impl Exchange {
    /// Where requests come in.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics and readiness are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Which CPU does what.
    pub fn plan(&self) -> &plan::Plan {
        &self.plan
    }

    /// Asks it to stop, and waits. `Err` says what was left undone.
    pub fn stop(self) -> Result<(), String> {
        self.handle.request_stop();
        self.wait()
    }

    /// Waits until it has stopped, for whatever reason.
    pub fn wait(self) -> Result<(), String> {
        let reason = self.control.join().map_err(|_| "the control thread panicked".to_owned())??;
        if reason.cores_left == 0 && !reason.flush_left {
            for core in self.cores {
                core.join().map_err(|_| "a bidder thread panicked".to_owned())?;
            }
            self.flush.join().map_err(|_| "the flush thread panicked".to_owned())??;
            // It sends what there is yet, for a few seconds; the rest after the next start.
            if let Some((reach, _)) = &self.ship {
                reach.stop();
            }
            // Both end when the cores have, within some seconds whatever the ledger's disk does.
            drop(self.to_leases.send(ToLeases::Ended));
            self.leases.join().map_err(|_| "the leases' thread panicked".to_owned())?;
            drop(self.to_ledger.send(ToLedger::Stop));
            self.ledger.join().map_err(|_| "the ledger's thread panicked".to_owned())?;
            if let Some((_, ship)) = self.ship {
                ship.join().map_err(|_| "the thread of Kafka panicked".to_owned())?;
            }
            let patient = Instant::now() + RAW_PATIENCE;
            while !self.raw.is_finished() && Instant::now() < patient {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Flush has ended in order: every record is on disk, whatever happened to the auctions.
            if let (Some(away), true) = (self.away, reason.cause != StopCause::FlushLost) {
                away.put_away().map_err(|e| format!("everything is on disk, but not put away: {e}"))?;
            }
        }
        if reason.clean() {
            return Ok(());
        }
        // What hangs is not waited for: the process ends, and with it the threads.
        Err(format!("not stopped in order: {reason:?}"))
    }
}

/// The CPU plan for this machine.
pub fn plan_of(config: &Config) -> Result<plan::Plan, BootError> {
    plan::plan(&topology::machine(), &config.cpus).map_err(|e| BootError::Cpus(e.to_string()))
}

/// Confines the calling thread, and so every thread it makes, to these CPUs. Where that is refused nothing is lost but
/// speed; bidder threads pin themselves all the same.
pub(crate) fn confine(cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus.iter().filter(|&&c| c < rustix::thread::CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

fn entropy() -> Result<u64, BootError> {
    let mut bytes = [0; 8];
    fill_random(&mut bytes).map_err(|source| BootError::System { what: "reading randomness", source })?;
    Ok(u64::from_le_bytes(bytes))
}

/// A port of one core, not open yet.
fn bind(addr: SocketAddr) -> Result<Socket, BootError> {
    let make = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        Ok(socket)
    };
    make().map_err(|source| BootError::Listen { addr, source })
}

fn spawn<R: Send + 'static>(name: &str, run: impl FnOnce() -> R + Send + 'static) -> Result<JoinHandle<R>, BootError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|source| BootError::System { what: "starting a thread", source })
}

/// Brings home the money of starts that are dead, but for what waits for notices.
fn recover_with(
    ledger: &mut Ledger,
    record: Option<recover::Record<'_>>,
    notices: Option<&mut notices::Begun>,
    holder: (u32, u32),
    say: &mut dyn FnMut(&str),
) -> Result<(), BootError> {
    let Some(begun) = notices else {
        return recover::recover(ledger, record, (&mut Holds::new(), |_| Ok(())), holder, say);
    };
    let mut holds = std::mem::take(&mut begun.holds);
    let keep = |known: &Holds| {
        begun.holds.clone_from(known);
        begun.save(turn::now()).map_err(BootError::from)
    };
    let done = recover::recover(ledger, record, (&mut holds, keep), holder, say);
    begun.holds = holds;
    done
}
