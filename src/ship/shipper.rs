//! What goes to Kafka when, and how far the journal is known to be there.
//! Owns: the cursor, what was handed to the producer and not acknowledged. Runs on: the shipper's thread. Called by: it.
//! Never: moves the cursor past a message that was not acknowledged, or dead-lettered and that acknowledged; drops one.
//! Full: a producer that takes no more stops the reading; the journal keeps what is not read.
//!
//! ```text
//!   journal --block by block--> messages --queue--> producer --acknowledged--> cursor
//!                                             ^                  |
//!                                             |                  +-- it alone refused --> dead letters
//!                                             +--- from the cursor again <-- topic, rights, or the producer failed
//! ```
//!
//! Brokers refuse batches, not messages. A batch that is refused ends its producer, so that nothing behind it gets ahead; what
//! had been read goes again from the cursor, each message in a batch of its own, and so it shows which one it was.
use super::{
    compare::frame_id,
    cursor::Position,
    events::{Message, Names, Room, Topic, messages},
    schema::{self, Event, SCHEMA},
};
use crate::{
    record::frame::{self, Frame},
    time::hybrid::Hlc,
    units::{MS, mix},
};
use prost::Message as _;
use std::collections::VecDeque;

/// Messages that are with the producer at most: with some hundred bytes each some ten megabytes, and a block more. With 64 partitions of
/// both topics a quarter of it has batches half full; where there are many more, batches wait for each other, but never longer than
/// `linger_ms`.
pub const IN_FLIGHT_MAX: usize = 131_072;
/// A dead letter that was too large has so much of its message.
pub const DEAD_BYTES: usize = 16 * 1024;
/// Between two tries where nobody but a person can help: doubles up to [`PAUSE_MAX_NS`], give or take a quarter.
const PAUSE_NS: u64 = 1_000 * MS;
/// The longest.
pub const PAUSE_MAX_NS: u64 = 60_000 * MS;

/// Where a parcel goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// Where its message belongs.
    Topic(Topic),
    /// To the dead letters.
    Dead,
}

/// A message as the producer takes it: it copies it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letter<'a> {
    /// Where.
    pub to: To,
    /// Its key.
    pub key: &'a str,
    /// Its headers: of dead letters. What others are stands in their bytes, once.
    pub headers: &'a [(&'static str, String)],
    /// Its bytes.
    pub payload: &'a [u8],
}

impl Letter<'_> {
    fn bytes(&self) -> u64 {
        (self.key.len() + self.payload.len()) as u64
    }

    /// To be kept.
    pub fn to_parcel(&self) -> Parcel {
        let Letter { to, key, headers, payload } = *self;
        Parcel { to, key: key.to_owned(), headers: headers.to_vec(), payload: payload.to_vec() }
    }
}

/// One that is kept: it waits for the producer, or came back from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parcel {
    /// Where.
    pub to: To,
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Parcel {
    /// As the producer takes it.
    pub fn letter(&self) -> Letter<'_> {
        let Parcel { to, key, headers, payload } = self;
        Letter { to: *to, key, headers, payload }
    }
}

/// Names what was handed to a producer, to it and back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(pub u64);

const BLOCK_BITS: u32 = 40;

/// What became of a parcel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Every copy that was asked for has it.
    Acknowledged,
    /// Kafka takes everything but this one.
    Refused(String),
    /// Kafka does not take the batch that it was in, and this producer sends nothing more.
    BatchRefused(String),
    /// The topic or the right to write to it is missing: nothing goes until somebody has acted.
    Stopped(String),
    /// The producer can do nothing more.
    Fatal(String),
}

/// The producer has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

/// Who takes parcels to Kafka.
pub trait Producer {
    /// Takes it; what becomes of it comes with its token, later. `Err`: not now, or never.
    ///
    /// # Errors
    /// [`Full`], or its fate is known at once.
    fn send(&mut self, letter: &Letter<'_>, token: Token) -> Result<(), Result<Full, Fate>>;
}

/// Why the journal has no next block though more of it is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It was let go before it was shipped: this is the first place that is left.
    Gone(Position),
    /// What stands there is not what was written: the next good block.
    Damaged(Position),
    /// The disk does not give it now.
    Disk(String),
}

/// Where blocks of the journal are read.
pub trait Blocks {
    /// The frames of the first block at or behind `from` into `frames`, and where the next one begins; `None`: there is none before
    /// `durable`.
    ///
    /// # Errors
    /// [`Trouble`]
    fn read(&mut self, from: Position, durable: Position, frames: &mut Vec<u8>) -> Result<Option<Position>, Trouble>;
}

/// A block that was handed out.
#[derive(Debug)]
struct Block {
    start: Position,
    end: Position,
    /// Parcels that are not acknowledged.
    open: u32,
    bytes: u64,
    /// When its first frame was made; 0: it has none.
    hlc: u64,
}

/// Hands the messages of a block to the producer; from the first one on that it does not take they wait.
struct Handing<'a> {
    producer: &'a mut dyn Producer,
    queue: &'a mut VecDeque<(Parcel, u64)>,
    in_flight: &'a mut usize,
    number: u64,
    token: Token,
    made: u32,
    bytes: u64,
}

impl Handing<'_> {
    fn hand(&mut self, letter: &Letter<'_>) {
        self.made += 1;
        self.bytes += letter.bytes();
        // Why it was not taken shows when it is tried again, when its block is known.
        if self.queue.is_empty() && self.producer.send(letter, self.token).is_ok() {
            *self.in_flight += 1;
        } else {
            self.queue.push_back((letter.to_parcel(), self.number));
        }
    }
}

/// Faults for tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The cursor is where was read, not where was acknowledged.
    CursorEarly,
    /// After a producer has failed keys are others.
    KeyChanged,
    /// Dead letters do not say where they come from.
    DeadWithoutPosition,
}

/// What was counted since the shipper began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages that Kafka has acknowledged, again counted.
    pub acknowledged: u64,
    /// Dead letters that it has.
    pub dead: u64,
    /// Times that a producer was given up.
    pub restarts: u64,
    /// Places of the journal that could not be read or were gone.
    pub lost: u64,
    /// Bytes of blocks that are acknowledged.
    pub bytes: u64,
}

/// What is to be done besides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// Make a new producer; the old one's fates do not count any more.
    NewProducer {
        /// Why, for whoever has to act; empty: nobody has.
        why: String,
        /// Each message in a batch of its own.
        alone: bool,
    },
    /// A person should know.
    Tell(String),
}

/// See the module.
#[derive(Debug)]
pub struct Shipper {
    node: u32,
    /// All before is acknowledged.
    at: Position,
    /// All before was made into parcels.
    read: Position,
    /// Counts producers: fates of an earlier one mean nothing.
    life: u64,
    first: u64,
    blocks: VecDeque<Block>,
    queue: VecDeque<(Parcel, u64)>,
    in_flight: usize,
    frames: Vec<u8>,
    /// Where messages are written.
    room: Room,
    /// Bytes a second, and what may go now.
    rate: u64,
    allowed: i64,
    filled_ns: u64,
    paused_until_ns: u64,
    tries: u32,
    /// Up to there each message goes alone.
    alone_until: Option<Position>,
    entropy: u64,
    counts: Counts,
    fault: Option<Fault>,
    orders: Vec<Order>,
    /// Of blocks that are acknowledged, since they were last asked for: when their first frames were made.
    done: Vec<Hlc>,
}

impl Shipper {
    /// Goes on from `at`, with no more than `rate` bytes a second.
    pub fn new(node: u32, at: Position, rate: u64, entropy: u64) -> Shipper {
        Shipper {
            node,
            at,
            read: at,
            life: 1,
            first: 0,
            blocks: VecDeque::new(),
            queue: VecDeque::new(),
            in_flight: 0,
            frames: Vec::new(),
            room: Room::default(),
            rate,
            allowed: 0,
            filled_ns: 0,
            paused_until_ns: 0,
            tries: 0,
            alone_until: None,
            entropy,
            counts: Counts::default(),
            fault: None,
            orders: Vec::new(),
            done: Vec::new(),
        }
    }

    /// With this fault; none in a release build.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<Fault>) -> Shipper {
        self.fault = fault.filter(|_| cfg!(debug_assertions));
        self
    }

    /// Everything before this is in Kafka.
    pub fn cursor(&self) -> Position {
        if self.fault == Some(Fault::CursorEarly) { self.read } else { self.at }
    }

    /// Everything before this was read.
    pub fn read(&self) -> Position {
        self.read
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Parcels that are with the producer.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Nothing goes before this; 0: it does.
    pub fn paused_until_ns(&self) -> u64 {
        self.paused_until_ns
    }

    /// When the oldest frame was made that was read and is not acknowledged.
    pub fn oldest(&self) -> Option<Hlc> {
        self.blocks.iter().map(|block| Hlc(block.hlc)).find(|hlc| hlc.0 > 0)
    }

    /// Of each block that was acknowledged since this was asked last, when its first frame was made.
    pub fn acknowledged(&mut self) -> std::vec::Drain<'_, Hlc> {
        self.done.drain(..)
    }

    /// The producer says of itself that it can do nothing more, and what came of it.
    pub fn failed(&mut self, fate: Fate, now_ns: u64) {
        match fate {
            Fate::BatchRefused(_) if self.alone_until.is_none() => {
                self.alone_until = Some(self.read);
                self.anew(String::new());
            }
            Fate::Acknowledged => {}
            Fate::BatchRefused(why) | Fate::Refused(why) | Fate::Stopped(why) | Fate::Fatal(why) => {
                self.again(now_ns, why)
            }
        }
    }

    /// The next thing to be done besides.
    pub fn order(&mut self) -> Option<Order> {
        if self.orders.is_empty() { None } else { Some(self.orders.remove(0)) }
    }

    /// Reads what is durable and hands it out, as far as it is taken.
    pub fn turn(
        &mut self,
        now_ns: u64,
        durable: Position,
        blocks: &mut dyn Blocks,
        names: &mut dyn Names,
        producer: &mut dyn Producer,
    ) {
        if self.paused_until_ns > now_ns || !self.orders.is_empty() {
            return;
        }
        self.paused_until_ns = 0;
        self.fill(now_ns);
        if self.alone_until.is_some_and(|until| self.read >= until) {
            // What goes alone is on its way: then as before.
            if self.send(now_ns, producer) && self.in_flight == 0 && self.at == self.read {
                self.alone_until = None;
                self.life += 1;
                self.orders.push(Order::NewProducer { why: String::new(), alone: false });
            }
            return;
        }
        while self.send(now_ns, producer) && self.in_flight < IN_FLIGHT_MAX && self.allowed > 0 {
            let mut frames = std::mem::take(&mut self.frames);
            frames.clear();
            let read = blocks.read(self.read, durable, &mut frames);
            let more = match read {
                Ok(None) => false,
                Ok(Some(end)) => {
                    self.block(&frames, end, names, producer);
                    true
                }
                Err(trouble) => self.trouble(trouble, now_ns),
            };
            self.frames = frames;
            if !more {
                break;
            }
        }
    }

    fn fill(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.filled_ns).min(1_000 * MS);
        self.filled_ns = now_ns;
        let more = u128::from(self.rate) * u128::from(passed) / u128::from(1_000 * MS);
        let most = self.rate.min(i64::MAX as u64) as i64;
        self.allowed = self.allowed.saturating_add(more as i64).min(most);
    }

    fn block(&mut self, bytes: &[u8], end: Position, names: &mut dyn Names, producer: &mut dyn Producer) {
        let (start, mut hlc) = (self.read, 0);
        self.read = end;
        let number = self.first + self.blocks.len() as u64;
        let mark = if self.fault == Some(Fault::KeyChanged) && self.life.is_multiple_of(2) { "~" } else { "" };
        let mut room = std::mem::take(&mut self.room);
        let (mut queue, mut in_flight) = (std::mem::take(&mut self.queue), self.in_flight);
        let token = self.token(number);
        let mut to =
            Handing { producer, queue: &mut queue, in_flight: &mut in_flight, number, token, made: 0, bytes: 0 };
        for frame in frame::frames(bytes).flatten() {
            hlc = if hlc == 0 { frame.header.hlc } else { hlc };
            let read = messages(&frame, self.node, names, &mut room, &mut |message: Message<'_>| {
                let Message { topic, key, payload, .. } = message;
                let letter = Letter { to: To::Topic(topic), key, headers: &[], payload };
                match mark {
                    "" => to.hand(&letter),
                    mark => to.hand(&Letter { key: &format!("{key}{mark}"), ..letter }),
                }
            });
            if let Err(why) = read {
                to.hand(&self.dead_frame(&frame, start, &why.to_string()).letter());
            }
        }
        let Handing { made, bytes, .. } = to;
        (self.room, self.queue, self.in_flight) = (room, queue, in_flight);
        self.allowed -= bytes as i64;
        self.blocks.push_back(Block { start, end, open: made, bytes, hlc });
        self.advance();
    }

    fn token(&self, block: u64) -> Token {
        Token(self.life << BLOCK_BITS | (block & ((1 << BLOCK_BITS) - 1)))
    }

    /// Hands out what waits. `false`: the producer takes no more.
    fn send(&mut self, now_ns: u64, producer: &mut dyn Producer) -> bool {
        while let Some((parcel, block)) = self.queue.front() {
            let token = self.token(*block);
            match producer.send(&parcel.letter(), token) {
                Ok(()) => {
                    self.in_flight += 1;
                    self.queue.pop_front();
                }
                Err(Ok(Full)) => return false,
                Err(Err(fate)) => {
                    let Some((parcel, _)) = self.queue.pop_front() else { return false };
                    self.in_flight += 1;
                    self.fate(token, fate, Some(parcel), now_ns);
                    if self.paused_until_ns > 0 {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// What became of what a token names; `parcel` is it, where it was not acknowledged.
    pub fn fate(&mut self, token: Token, fate: Fate, parcel: Option<Parcel>, now_ns: u64) {
        if token.0 >> BLOCK_BITS != self.life {
            return;
        }
        let block = token.0 & ((1 << BLOCK_BITS) - 1);
        self.in_flight = self.in_flight.saturating_sub(1);
        let dead = parcel.as_ref().is_some_and(|parcel| parcel.to == To::Dead);
        match fate {
            Fate::Acknowledged => {
                self.tries = 0;
                self.counts.acknowledged += 1;
                let at = block.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
                if let Some(block) = at.and_then(|at| self.blocks.get_mut(at)) {
                    block.open = block.open.saturating_sub(1);
                }
                self.advance();
            }
            Fate::Refused(why) if !dead => match parcel {
                Some(parcel) => {
                    self.counts.dead += 1;
                    let at = block.checked_sub(self.first).and_then(|at| self.blocks.get(usize::try_from(at).ok()?));
                    let start = at.map(|block| block.start).unwrap_or(self.at);
                    let letter = self.dead_letter(parcel, start, &why);
                    self.queue.push_front((letter, block));
                }
                None => self.again(now_ns, why),
            },
            Fate::Refused(why) => self.again(now_ns, format!("a dead letter was refused: {why}")),
            fate => self.failed(fate, now_ns),
        }
    }

    fn advance(&mut self) {
        while self.blocks.front().is_some_and(|block| block.open == 0)
            && let Some(block) = self.blocks.pop_front()
        {
            self.first += 1;
            self.at = block.end;
            self.counts.bytes += block.bytes;
            self.done.extend((block.hlc > 0).then_some(Hlc(block.hlc)));
        }
    }

    /// From the cursor again, with a new producer, after a while.
    fn again(&mut self, now_ns: u64, why: String) {
        let pause = (PAUSE_NS << self.tries.min(6)).min(PAUSE_MAX_NS);
        let drawn = mix(self.entropy ^ mix(self.life) ^ now_ns);
        self.paused_until_ns = now_ns + pause * 3 / 4 + drawn % (pause / 2).max(1);
        self.tries = self.tries.saturating_add(1);
        self.anew(why);
    }

    fn anew(&mut self, why: String) {
        self.counts.restarts += 1;
        self.life += 1;
        self.first += self.blocks.len() as u64;
        self.blocks.clear();
        self.queue.clear();
        self.in_flight = 0;
        self.read = self.at;
        self.orders.push(Order::NewProducer { why, alone: self.alone_until.is_some() });
    }

    fn trouble(&mut self, trouble: Trouble, now_ns: u64) -> bool {
        match trouble {
            Trouble::Gone(next) => {
                self.skip(next, format!("the journal had let go of what stood before {}, unshipped", place(next)))
            }
            Trouble::Damaged(next) => {
                self.skip(next, format!("the journal is damaged from {} to {}", place(self.read), place(next)))
            }
            Trouble::Disk(why) => {
                self.paused_until_ns = now_ns + PAUSE_NS;
                self.orders.push(Order::Tell(why));
                false
            }
        }
    }

    fn skip(&mut self, next: Position, why: String) -> bool {
        self.counts.lost += 1;
        self.read = next;
        self.blocks.push_back(Block { start: next, end: next, open: 0, bytes: 0, hlc: 0 });
        self.advance();
        self.orders.push(Order::Tell(why));
        false
    }

    fn dead_letter(&self, parcel: Parcel, block: Position, why: &str) -> Parcel {
        let Parcel { to, key, mut headers, mut payload } = parcel;
        let topic = if let To::Topic(topic) = to { topic.name() } else { "dead" };
        let attempts = if self.alone_until.is_some() { "2" } else { "1" };
        if headers.is_empty() {
            headers = named(&payload);
        }
        if self.fault != Some(Fault::DeadWithoutPosition) {
            headers.push(("position", place(block)));
        }
        headers.extend([("reason", why.to_owned()), ("attempts", attempts.to_owned()), ("topic", topic.to_owned())]);
        if payload.len() > DEAD_BYTES {
            headers.push(("bytes", payload.len().to_string()));
            payload.truncate(DEAD_BYTES);
        }
        Parcel { to: To::Dead, key, headers, payload }
    }

    /// A frame that cannot be read, as it is.
    fn dead_frame(&self, frame: &Frame<'_>, block: Position, why: &str) -> Parcel {
        let h = &frame.header;
        let id = frame_id(self.node, frame);
        let headers = vec![("id", id.clone()), ("type", format!("frame {}/{}", h.kind, h.version))];
        let parcel = Parcel { to: To::Dead, key: id, headers, payload: frame.payload().to_vec() };
        self.dead_letter(parcel, block, &format!("unreadable: {why}"))
    }
}

/// What a message says of itself, for those who cannot read it, as it will be cut.
fn named(payload: &[u8]) -> Vec<(&'static str, String)> {
    let id = Event::decode(payload).map(|event| event.id).unwrap_or_default();
    let kind = schema::kind(payload).unwrap_or_default();
    vec![("id", id), ("type", kind.to_owned()), ("schema", SCHEMA.to_owned())]
}

/// A place as headers and people have it.
pub fn place(at: Position) -> String {
    format!("{}:{}", at.segment, at.offset)
}

#[cfg(test)]
mod tests;
