use super::*;
use crate::{
    budget::{AccountId, Period},
    notice::{
        price::Said,
        token::Kind as Of,
        told::{NOTICE_VERSION, Name, Notice},
    },
    record::frame::{self, Header, Kind},
    ship::{compare::Compare, schema::Event},
    units::{Cpm, EventId, Money},
};

const S: u64 = 1_000 * MS;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }

    fn chance(&mut self, in_thousand: u64) -> bool {
        self.below(1_000) < in_thousand
    }
}

/// Ten advertisers.
struct Ten;

impl Names for Ten {
    fn advertiser(&mut self, account: AccountId) -> String {
        format!("advertiser-{}", account.0 % 10)
    }
}

/// A notice as the journal has it; some are too large for Kafka, and some cannot be read.
fn frame_of(seq: u64, out: &mut Vec<u8>) {
    let at = frame::begin(out);
    let kind = if seq % 97 == 5 { Kind::Clean } else { Kind::Notice };
    Notice {
        name: Name { event: EventId { node: 1, epoch: 2, core: 3, seq }, imp: 0, kind: Of::Billed },
        expired: false,
        said: Said::Nothing,
        price: Cpm(1),
        charge: Money(1),
        held: None,
        account: AccountId(1 + (mix(seq) % 100) as u32),
        period: Period(9),
        expires_s: 5,
        buyer: b"",
        url: b"",
    }
    .encode(out);
    if seq % 101 == 7 {
        out.truncate(out.len() - 3);
    }
    let version = NOTICE_VERSION;
    frame::finish(out, at, &Header { seq, epoch: 2, writer: 3, kind: kind as u8, version, hlc: seq << 16 });
}

/// A journal in memory: a hundred blocks a segment.
#[derive(Default)]
struct Journal {
    blocks: Vec<Vec<u8>>,
    frames: u64,
    /// Blocks that were let go.
    gone: usize,
}

fn position(block: usize) -> Position {
    Position { segment: 1 + block as u64 / 100, offset: 4_096 * (1 + block as u64 % 100) }
}

fn block_at(at: Position) -> usize {
    if at.segment == 0 { 0 } else { ((at.segment - 1) * 100 + at.offset / 4_096 - 1) as usize }
}

impl Journal {
    fn write(&mut self, frames: u64) {
        let mut block = Vec::new();
        for _ in 0..frames {
            self.frames += 1;
            frame_of(self.frames, &mut block);
        }
        self.blocks.push(block);
    }

    fn durable(&self) -> Position {
        position(self.blocks.len())
    }
}

impl Blocks for Journal {
    fn read(&mut self, from: Position, durable: Position, frames: &mut Vec<u8>) -> Result<Option<Position>, Trouble> {
        let at = block_at(from);
        if at < self.gone {
            return Err(Trouble::Gone(position(self.gone)));
        }
        if at >= block_at(durable) {
            return Ok(None);
        }
        frames.extend_from_slice(&self.blocks[at]);
        Ok(Some(position(at + 1)))
    }
}

/// What Kafka has: every message in the order in which it came, by topic and key.
#[derive(Default)]
struct Kafka {
    messages: Vec<Parcel>,
    up: bool,
    missing_topic: bool,
}

/// A producer with a bounded queue, as the real one: it holds what it has until Kafka is there.
struct Queue {
    waits: VecDeque<(Parcel, Token)>,
    /// Fates that were not told yet.
    fates: VecDeque<(Token, Fate, Option<Parcel>)>,
    most: usize,
    seen: usize,
    /// Each message in a batch of its own.
    alone: bool,
    /// It sends nothing more.
    over: bool,
}

const TOO_LARGE: u64 = 53;

impl Queue {
    fn new(alone: bool) -> Queue {
        Queue { waits: VecDeque::new(), fates: VecDeque::new(), most: 400, seen: 0, alone, over: false }
    }

    /// Some of what waits gets to Kafka.
    fn work(&mut self, kafka: &mut Kafka, rng: &mut Rng) {
        if !kafka.up {
            return;
        }
        for _ in 0..rng.below(20) {
            let many = if self.alone { 1 } else { 1 + rng.below(12) as usize };
            let batch: Vec<_> = self.waits.drain(..many.min(self.waits.len())).collect();
            if batch.is_empty() {
                return;
            }
            let refused = batch.iter().any(|(parcel, _)| large(parcel));
            for (parcel, token) in batch {
                let fate = if self.over {
                    Fate::Fatal("a batch before was refused".to_owned())
                } else if kafka.missing_topic {
                    Fate::Stopped("unknown topic".to_owned())
                } else if refused && self.alone {
                    Fate::Refused("too large".to_owned())
                } else if refused {
                    Fate::BatchRefused("too large".to_owned())
                } else {
                    kafka.messages.push(parcel.clone());
                    Fate::Acknowledged
                };
                self.fates.push_back((token, fate, Some(parcel)));
            }
            self.over |= refused && !self.alone || kafka.missing_topic;
        }
    }
}

/// Kafka does not take it.
fn large(parcel: &Parcel) -> bool {
    let Ok(Event { id, .. }) = Event::decode(&parcel.payload[..]) else { return false };
    parcel.to != To::Dead && mix(id.len() as u64 ^ hash(&id)).is_multiple_of(TOO_LARGE)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(7, |h, b| mix(h ^ u64::from(b)))
}

impl Producer for Queue {
    fn send(&mut self, letter: &Letter<'_>, token: Token) -> Result<(), Result<Full, Fate>> {
        if self.waits.len() >= self.most {
            return Err(Ok(Full));
        }
        self.waits.push_back((letter.to_parcel(), token));
        self.seen = self.seen.max(self.waits.len());
        Ok(())
    }
}

/// What is wrong with what Kafka has, seen from the journal.
fn judge(journal: &Journal, kafka: &Kafka) -> Result<(), String> {
    let mut compare = Compare::new(1);
    for frames in &journal.blocks {
        frame::frames(frames).flatten().for_each(|frame| compare.due(&frame));
    }
    let dead = kafka.messages.iter().filter(|parcel| parcel.to == To::Dead);
    for parcel in dead.chain(kafka.messages.iter().filter(|parcel| parcel.to != To::Dead)) {
        let header = |name: &str| parcel.headers.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
        match parcel.to {
            To::Dead => compare.found_dead(&header("id").unwrap_or_default(), header),
            To::Topic(topic) => {
                let event = Event::decode(&parcel.payload[..]).map_err(|e| e.to_string())?;
                let Event { id, key, .. } = &event;
                if *key != parcel.key && !parcel.key.ends_with('~') {
                    return Err(format!("{id} with the key {} says of itself {key}", parcel.key));
                }
                compare.found(topic, id, &parcel.key);
            }
        }
    }
    let compared = compare.finish();
    if compared.good() { Ok(()) } else { Err(format!("{:?}", &compared.listed[..compared.listed.len().min(3)])) }
}

struct World {
    journal: Journal,
    kafka: Kafka,
    queue: Queue,
    shipper: Shipper,
    /// What a start would go on from.
    saved: Position,
    rng: Rng,
    now_ns: u64,
    fault: Option<Fault>,
    told: Vec<Order>,
}

const RATE: u64 = 1_000_000;

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> World {
        World {
            journal: Journal::default(),
            kafka: Kafka { up: true, ..Kafka::default() },
            queue: Queue::new(false),
            shipper: Shipper::new(1, Position::default(), RATE, seed).with_fault(fault),
            saved: Position::default(),
            rng: Rng(seed),
            now_ns: S,
            fault,
            told: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.now_ns += 10 * MS;
        let World { journal, queue, shipper, kafka, rng, now_ns, .. } = self;
        queue.work(kafka, rng);
        for _ in 0..rng.below(300) {
            let Some((token, fate, parcel)) = queue.fates.pop_front() else { break };
            shipper.fate(token, fate, parcel, *now_ns);
        }
        while let Some(order) = shipper.order() {
            if let Order::NewProducer { alone, .. } = order {
                // What it had may have got there or not.
                let gone = std::mem::replace(queue, Queue::new(alone));
                for (parcel, _) in gone.waits {
                    if !gone.over && !large(&parcel) && kafka.up && !kafka.missing_topic && rng.chance(300) {
                        kafka.messages.push(parcel);
                    } else {
                        break;
                    }
                }
            }
            self.told.push(order);
        }
        let durable = journal.durable();
        shipper.turn(*now_ns, durable, journal, &mut Ten, queue);
        if rng.chance(100) {
            self.saved = shipper.cursor();
        }
    }

    /// The process dies; what is with the producer is gone, or got there.
    fn die(&mut self) {
        self.queue = Queue::new(false);
        self.shipper = Shipper::new(1, self.saved, RATE, self.now_ns).with_fault(self.fault);
    }

    fn drain(&mut self) -> Result<(), String> {
        (self.kafka.up, self.kafka.missing_topic) = (true, false);
        for _ in 0..100_000 {
            self.turn();
            if self.shipper.cursor() == self.journal.durable() && self.shipper.in_flight() == 0 {
                return judge(&self.journal, &self.kafka);
            }
        }
        Err("it does not come to an end".to_owned())
    }
}

fn run(seed: u64, fault: Option<Fault>) -> Result<(), String> {
    let mut world = World::new(seed, fault);
    for _ in 0..400 {
        if world.rng.chance(300) {
            let frames = world.rng.below(40);
            world.journal.write(frames);
        }
        match world.rng.below(1_000) {
            0..20 => world.kafka.up = !world.kafka.up,
            20..25 => world.kafka.missing_topic = !world.kafka.missing_topic,
            25..35 => world.die(),
            35..40 => {
                let token = Token(world.shipper.life << BLOCK_BITS);
                let now_ns = world.now_ns;
                world.shipper.fate(token, Fate::Fatal("fenced".to_owned()), None, now_ns);
            }
            _ => {}
        }
        world.turn();
        assert!(world.queue.seen <= 400);
        assert!(world.shipper.queue.len() <= IN_FLIGHT_MAX + 100, "what waits is bounded");
    }
    world.drain()
}

fn worlds() -> u64 {
    std::env::var("OUTCRY_SHIP_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

#[test]
fn nothing_is_missing_extra_or_out_of_order_whatever_dies() {
    for seed in 0..worlds() {
        if let Err(why) = run(seed, None) {
            panic!("seed {seed}: {why}");
        }
    }
}

#[test]
fn planted_faults_are_found() {
    for fault in [Fault::CursorEarly, Fault::KeyChanged, Fault::DeadWithoutPosition] {
        let found = (0..100).filter_map(|seed| run(seed, Some(fault)).err()).next();
        println!("{fault:?}: {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

/// Kafka is away for twenty minutes: what happens meanwhile stays in the journal, and goes at a bounded rate afterwards.
#[test]
fn twenty_minutes_without_kafka() {
    let mut world = World::new(1, None);
    (world.kafka.up, world.queue.most) = (false, 400);
    let begun_ns = world.now_ns;
    while world.now_ns < begun_ns + 20 * 60 * S {
        if world.rng.chance(100) {
            world.journal.write(10);
        }
        world.turn();
        assert!(world.shipper.queue.len() <= 400 && world.queue.waits.len() <= 400);
    }
    assert!(world.kafka.messages.is_empty() && world.shipper.cursor() == Position::default());
    assert_eq!(world.told, [], "an outage is waited for, not told");
    world.kafka.up = true;
    let (mut most, mut before) = (0, 0u64);
    while world.shipper.cursor() != world.journal.durable() {
        let second_ns = world.now_ns + S;
        while world.now_ns < second_ns {
            world.turn();
        }
        let sent: u64 = world.kafka.messages.iter().map(|parcel| parcel.letter().bytes()).sum();
        most = most.max(sent - before);
        before = sent;
    }
    println!("{} messages, at most {most} bytes in a second", world.kafka.messages.len());
    assert!(most <= RATE * 3 / 2, "{most} bytes in a second");
    judge(&world.journal, &world.kafka).unwrap();
}

#[test]
fn who_must_act_is_told_and_it_goes_on_by_itself() {
    let mut world = World::new(3, None);
    world.kafka.missing_topic = true;
    world.journal.write(20);
    let mut pauses = Vec::new();
    while pauses.len() < 9 {
        let told = world.told.len();
        world.turn();
        if world.told.len() > told {
            pauses.push((world.shipper.paused_until_ns() - world.now_ns) / MS);
        }
    }
    for (n, pause) in pauses.iter().enumerate() {
        let middle = (1_000u64 << n.min(6)).min(60_000);
        assert!((middle * 3 / 4 - 20..=middle * 5 / 4).contains(pause), "pause {n}: {pause} ms");
    }
    assert!(
        world.told.iter().all(|order| *order == Order::NewProducer { why: "unknown topic".to_owned(), alone: false }),
        "{:?}",
        world.told
    );
    world.drain().unwrap();
    assert!(world.shipper.counts().restarts >= 9);
}

#[test]
fn what_the_journal_let_go_is_told_and_passed() {
    let mut world = World::new(5, None);
    (0..300).for_each(|_| world.journal.write(5));
    world.journal.gone = 120;
    (0..200).for_each(|_| world.turn());
    let told = format!("the journal had let go of what stood before {}, unshipped", place(position(120)));
    world.told.retain(|order| matches!(order, Order::Tell(_)));
    assert_eq!(world.told, [Order::Tell(told)]);
    assert_eq!(world.shipper.counts().lost, 1);
    let first = Event::decode(&world.kafka.messages[0].payload[..]).unwrap();
    assert_eq!(first.seq, 120 * 5 + 1);
}
