//! The shipper's thread: turns [`Shipper`] on a journal and a producer until it is told to stop.
//! Owns: both, the cursor's file. Called by: `boot`, on a thread made for it. Never: spins; ends with an acknowledged place that is
//! not written down.
use super::{
    client::ClientError,
    producer::{Kafka, Told},
    reach::Reach,
    tail::Tail,
};
use crate::{
    control::ControlHandle,
    journal::dir::Dir,
    money::Accounts,
    planted::{Fault, planted},
    state,
};
use hdrhistogram::Histogram;
use outcry::{
    budget::AccountId,
    config::KafkaRules,
    record::labels::Ship,
    ship::{
        cursor::{self, CursorError, Position},
        events::Names,
        figures::ShipFigures,
        shipper::{self, Fate, Order, Producer, Shipper, place},
    },
    time::hybrid::Hlc,
    units::{MS, Now, mix},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The cursor's file in `state_dir`.
pub const CURSOR: &str = "ship";
/// Rest while there is more to be read than is taken.
const LOOK: Duration = Duration::from_millis(10);
/// Longest rest otherwise; what a block that has become durable waits at most.
const REST: Duration = Duration::from_millis(100);
/// The cursor is written this often, if it has moved: what is sent twice after a crash.
const SAVE_NS: u64 = 500 * MS;
/// Figures are told this often.
const SHOW_NS: u64 = 1_000 * MS;
/// Delays are those of so long.
const WINDOW_NS: u64 = 60_000 * MS;
/// Delays are told in steps of this.
const STEP_NS: u64 = MS / 10;
/// After the order to stop what is there is still sent, for so long. The rest goes after the next start.
const PATIENCE_NS: u64 = 3_000 * MS;
/// One line is told no more often than this.
const AGAIN_NS: u64 = 60_000 * MS;

/// Why there can be no shipping. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cursor.
    #[error(
        "{path}: {why}. It says how far the journal is in Kafka: restore it, or remove it, and everything that is kept is sent again, with the ids it had"
    )]
    Cursor {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: CursorError,
    },
    /// The cursor's file.
    #[error("{path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How far the journal is known to be in Kafka.
///
/// # Errors
/// [`ShipError`]
pub fn begun(state_dir: &Path, node: u32) -> Result<Position, ShipError> {
    let path = state_dir.join(CURSOR);
    match std::fs::read(&path) {
        Ok(bytes) => cursor::decode(&bytes, node).map_err(|why| ShipError::Cursor { path, why }),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Position::default()),
        Err(source) => Err(ShipError::File { path, source }),
    }
}

/// What the thread is made of.
pub struct Seat {
    /// Where Kafka is.
    pub rules: KafkaRules,
    /// The machine.
    pub node: u32,
    /// Where the cursor is kept.
    pub state_dir: PathBuf,
    /// Where the journal is.
    pub journal: PathBuf,
    /// How far it is in Kafka.
    pub begun: Position,
    /// What flush and it tell each other.
    pub reach: Arc<Reach>,
    /// What advertisers are called.
    pub accounts: Arc<Accounts>,
    /// Where figures are shown.
    pub handle: Arc<ControlHandle>,
    /// For pauses.
    pub entropy: u64,
}

struct Called(Arc<Accounts>);

impl Names for Called {
    fn advertiser(&mut self, account: AccountId) -> String {
        // Unknown to this ledger for ever, as accounts are never removed: so this key does not change either.
        self.0.advertiser(account).unwrap_or_else(|| format!("account-{}", account.0))
    }
}

/// Makes the first producer: what cannot be is told at the start.
///
/// # Errors
/// [`ClientError`]
pub fn connect(rules: &KafkaRules, node: u32) -> Result<Kafka, ClientError> {
    Kafka::new(rules, &client_id(node), false)
}

fn client_id(node: u32) -> String {
    format!("outcry-{node:08x}")
}

/// For tests.
fn fault() -> Option<shipper::Fault> {
    [
        (Fault::CursorEarly, shipper::Fault::CursorEarly),
        (Fault::KeyChanged, shipper::Fault::KeyChanged),
        (Fault::DeadUnplaced, shipper::Fault::DeadWithoutPosition),
    ]
    .into_iter()
    .find_map(|(named, fault)| planted(named).then_some(fault))
}

struct Thread<L> {
    seat: Seat,
    shipper: Shipper,
    kafka: Option<Kafka>,
    tail: Tail<Dir>,
    calm: Duration,
    /// Room for what came of parcels.
    fates: Vec<Told>,
    names: Called,
    saved: Position,
    saved_ns: u64,
    shown_ns: u64,
    /// When each delay was seen, and how long it was, nanoseconds.
    delays: VecDeque<(u64, u64)>,
    /// Of them, in steps of [`STEP_NS`].
    spread: Option<Histogram<u64>>,
    oldest: Option<Hlc>,
    dead_ns: Option<u64>,
    dead: u64,
    /// When each line was told last.
    told: BTreeMap<String, u64>,
    log: L,
}

/// Runs until it is told to stop.
pub fn run(seat: Seat, kafka: Kafka, clock: impl Fn() -> Now, log: impl FnMut(&str)) {
    let shipper = Shipper::new(seat.node, seat.begun, seat.rules.bytes_per_s, mix(seat.entropy)).with_fault(fault());
    let tail = Tail::new(Dir::new(&seat.journal).exact(), seat.node);
    // What waits for others anyway need not be read at once.
    let calm = Duration::from_millis(seat.rules.linger_ms / 10).clamp(LOOK, REST);
    let names = Called(Arc::clone(&seat.accounts));
    let saved = seat.begun;
    let mut thread = Thread {
        seat,
        shipper,
        kafka: Some(kafka),
        tail,
        calm,
        fates: Vec::new(),
        names,
        saved,
        saved_ns: 0,
        shown_ns: 0,
        delays: VecDeque::new(),
        // Within a hundredth, up to a day: small enough to be filled anew each second.
        spread: Histogram::new_with_bounds(1, 86_400_000_000_000 / STEP_NS, 2).ok(),
        oldest: None,
        dead_ns: None,
        dead: 0,
        told: BTreeMap::new(),
        log,
    };
    let mut until_ns = None;
    let mut rest = Duration::ZERO;
    loop {
        let now = clock();
        let stopping = thread.seat.reach.stopped();
        let until = *until_ns.get_or_insert(u64::MAX);
        if stopping && until == u64::MAX {
            until_ns = Some(now.boot_ns + PATIENCE_NS);
        }
        if stopping && let Some(kafka) = &thread.kafka {
            kafka.hurry(std::mem::take(&mut rest));
        }
        rest = thread.turn(now, rest);
        let all = thread.shipper.cursor() >= thread.seat.reach.durable();
        if stopping && (all || now.boot_ns >= until) {
            thread.save(now);
            thread.show(now);
            return;
        }
    }
}

impl<L: FnMut(&str)> Thread<L> {
    /// One turn, after a rest; returns the next one.
    fn turn(&mut self, now: Now, rest: Duration) -> Duration {
        self.hear(now, rest);
        self.obey(now);
        let durable = self.seat.reach.durable();
        if let Some(kafka) = &mut self.kafka {
            let producer: &mut dyn Producer = kafka;
            self.shipper.turn(now.boot_ns, durable, &mut self.tail, &mut self.names, producer);
        }
        let wall_ms = now.unix_ms();
        for hlc in self.shipper.acknowledged() {
            self.delays.push_back((now.boot_ns, wall_ms.saturating_sub(hlc.ms()) * MS));
        }
        if self.shipper.cursor() != self.saved && now.boot_ns.saturating_sub(self.saved_ns) >= SAVE_NS {
            self.save(now);
        }
        if now.boot_ns.saturating_sub(self.shown_ns) >= SHOW_NS {
            self.show(now);
        }
        if self.shipper.read() < durable || self.seat.reach.stopped() { LOOK } else { self.calm }
    }

    /// What became of what was sent.
    fn hear(&mut self, now: Now, rest: Duration) {
        std::thread::sleep(rest);
        let Some(kafka) = &self.kafka else { return };
        kafka.turn(&mut self.fates);
        let (said, fatal) = (kafka.said(), kafka.fatal());
        for (token, fate, parcel) in self.fates.drain(..) {
            // Of a producer that is at its end all messages say that they have failed; why, it says itself.
            if fatal.is_none() || fate == Fate::Acknowledged {
                self.shipper.fate(token, fate, parcel.map(|parcel| *parcel), now.boot_ns);
            }
        }
        for line in said {
            self.say(&format!("kafka: {line}"), now);
        }
        if let Some(fate) = fatal {
            self.shipper.failed(fate, now.boot_ns);
        }
    }

    fn obey(&mut self, now: Now) {
        while let Some(order) = self.shipper.order() {
            match order {
                Order::Tell(why) => self.say(&format!("ALARM: kafka: {why}"), now),
                Order::NewProducer { why, alone } => {
                    if !why.is_empty() {
                        self.say(
                            &format!(
                                "ALARM: kafka: {why}. All from {} is sent again after a pause; nothing is lost, the journal \
                                 keeps it. `outcry audit topics` says what topics and rights are missing",
                                place(self.shipper.cursor())
                            ),
                            now,
                        );
                    }
                    // The old one first: two with one id would not disturb each other, but take memory twice.
                    self.kafka = None;
                    match Kafka::new(&self.seat.rules, &client_id(self.seat.node), alone) {
                        Ok(kafka) => self.kafka = Some(kafka),
                        Err(e) => {
                            self.say(&format!("ALARM: kafka: {e}"), now);
                            self.shipper.failed(Fate::Fatal(String::new()), now.boot_ns);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// A line in the log, the same one once a minute.
    fn say(&mut self, line: &str, now: Now) {
        self.told.retain(|_, at| now.boot_ns.saturating_sub(*at) < AGAIN_NS);
        if self.told.len() < 64 && self.told.insert(line.to_owned(), now.boot_ns).is_none() {
            (self.log)(line);
        }
    }

    fn save(&mut self, now: Now) {
        let at = self.shipper.cursor();
        self.saved_ns = now.boot_ns;
        if at == self.saved {
            return;
        }
        match state::write_bytes(&self.seat.state_dir, CURSOR, &cursor::encode(self.seat.node, at)) {
            Ok(()) => {
                self.saved = at;
                self.seat.reach.set_shipped(at);
            }
            Err(e) => {
                let path = self.seat.state_dir.join(CURSOR);
                self.say(&format!("ALARM: kafka: {} cannot be written: {e}", path.display()), now);
            }
        }
    }

    fn show(&mut self, now: Now) {
        self.shown_ns = now.boot_ns;
        let counts = self.shipper.counts();
        if counts.dead > self.dead {
            (self.dead, self.dead_ns) = (counts.dead, Some(now.boot_ns));
        }
        while self.delays.front().is_some_and(|(at, _)| now.boot_ns.saturating_sub(*at) > WINDOW_NS) {
            self.delays.pop_front();
        }
        let durable = self.seat.reach.durable();
        let at = self.shipper.cursor();
        let behind = self.tail.between(at, durable);
        // What is read again from the cursor was the oldest before.
        self.oldest = if at < durable { self.shipper.oldest().or(self.oldest) } else { None };
        let oldest = self.oldest.map_or(0, |hlc| now.unix_ms().saturating_sub(hlc.ms()) * MS);
        let mut figures = ShipFigures::default();
        for (figure, value) in [
            (Ship::Acknowledged, counts.acknowledged.saturating_sub(counts.dead)),
            (Ship::Dead, counts.dead),
            (Ship::Bytes, counts.bytes),
            (Ship::GivenUp, counts.restarts),
            (Ship::Lost, counts.lost),
            (Ship::Backlog, behind),
            (Ship::Oldest, oldest),
            (Ship::Stopped, u64::from(self.shipper.paused_until_ns() > now.boot_ns)),
        ] {
            figures.set(figure, value);
        }
        figures.set(Ship::DeadSince, self.dead_ns.map(|at| now.boot_ns.saturating_sub(at)));
        if let (false, Some(all)) = (self.delays.is_empty(), &mut self.spread) {
            all.reset();
            self.delays.iter().for_each(|(_, ns)| all.saturating_record(ns / STEP_NS));
            figures.set(Ship::DelayHalf, all.value_at_quantile(0.5) * STEP_NS);
            figures.set(Ship::DelayMost, all.value_at_quantile(0.99) * STEP_NS);
        }
        self.seat.handle.set_ship(figures);
    }
}
