//! Is in Kafka what the journal says? Message by message.
//! Owns: what is due, until it was found. Called by: `outcry audit verify --kafka`, the simulation. Never: asks the shipper: it
//! reads the journal again by the rules of [`super::events`].
//! Full: a hundred and fifty bytes a message that is due: who asks chooses the range.
use super::{
    cursor::Position,
    events::{Message, Names, Room, Topic, messages},
};
use crate::{budget::AccountId, record::frame::Frame};
use std::collections::HashMap;

/// Findings that are listed; the others are counted.
pub const LISTED_MAX: usize = 100;

/// What is wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wrong {
    /// The journal has it, Kafka does not.
    Missing,
    /// Kafka has it, the journal does not.
    Extra,
    /// It has another key than it should have, or its account had another one before.
    Key,
    /// It first came behind one of its key that happened later.
    Order,
    /// A dead letter does not say where in the journal it is from, why it is one, after how many attempts, or of which topic.
    Dead,
}

impl Wrong {
    /// All.
    pub const ALL: [Wrong; 5] = [Wrong::Missing, Wrong::Extra, Wrong::Key, Wrong::Order, Wrong::Dead];

    /// As reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Wrong::Missing => "missing",
            Wrong::Extra => "extra",
            Wrong::Key => "key",
            Wrong::Order => "order",
            Wrong::Dead => "dead letter",
        }
    }
}

/// What a message is to be.
#[derive(Debug)]
struct Due {
    /// Its place in the journal, counted.
    at: u64,
    key: Key,
    seen: Seen,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Nowhere,
    Dead,
    There,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Key {
    /// This one, by its hash.
    Is(u64),
    /// Whatever its account is called.
    Of(AccountId),
}

/// What was compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Compared {
    /// Messages that the journal asks for.
    pub due: u64,
    /// Of them, in Kafka.
    pub found: u64,
    /// Of them, there as dead letters only.
    pub dead: u64,
    /// Copies beyond the first.
    pub duplicates: u64,
    /// Of each kind of [`Wrong`] how many.
    pub wrong: [u64; 5],
    /// The first of them: what, and the message's id.
    pub listed: Vec<(Wrong, String)>,
}

impl Compared {
    /// Nothing is wrong.
    pub fn good(&self) -> bool {
        self.wrong == [0; 5]
    }

    fn put(&mut self, wrong: Wrong, id: &str) {
        self.wrong[wrong as usize] += 1;
        if self.listed.len() < LISTED_MAX {
            self.listed.push((wrong, id.to_owned()));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Compare {
    node: u32,
    due: HashMap<Box<str>, Due>,
    count: u64,
    /// Of each topic and key the last that first came, by its place in the journal.
    last: HashMap<(Topic, u64), u64>,
    keys: HashMap<AccountId, u64>,
    room: Room,
    done: Compared,
}

/// A number stands for the name, which the journal does not have.
struct Numbers;

impl Names for Numbers {
    fn advertiser(&mut self, account: AccountId) -> String {
        format!("\u{1}{}", account.0)
    }
}

fn hash(text: &str) -> u64 {
    // FNV-1a, then mixed: keys of one run are told apart, nothing else hangs on it.
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    crate::units::mix(fnv)
}

impl Compare {
    /// Of this machine's journal.
    pub fn new(node: u32) -> Compare {
        let (due, last, keys) = (HashMap::new(), HashMap::new(), HashMap::new());
        Compare { node, due, count: 0, last, keys, room: Room::default(), done: Compared::default() }
    }

    /// The journal's next frame.
    pub fn due(&mut self, frame: &Frame<'_>) {
        let Compare { node, due, count, done, room, .. } = self;
        let mut put = |id: &str, key: Key| {
            *count += 1;
            // Of one id the first counts: two cores may have recorded one notice.
            due.entry(id.into()).or_insert_with(|| {
                done.due += 1;
                Due { at: *count, key, seen: Seen::Nowhere }
            });
        };
        let read = messages(frame, *node, &mut Numbers, room, &mut |message: Message<'_>| {
            let key = match message.key.strip_prefix('\u{1}').and_then(|number| number.parse().ok()) {
                Some(account) => Key::Of(AccountId(account)),
                None => Key::Is(hash(message.key)),
            };
            put(message.id, key);
        });
        if read.is_err() {
            let id = frame_id(*node, frame);
            let key = Key::Is(hash(&id));
            put(&id, key);
        }
    }

    /// A message of a topic, in the order of its partition; of this machine, and of the time that is looked at.
    pub fn found(&mut self, topic: Topic, id: &str, key: &str) {
        let Some(due) = self.due.get_mut(id) else { return self.done.put(Wrong::Extra, id) };
        let key = hash(key);
        let right = match due.key {
            Key::Is(wanted) => wanted == key,
            Key::Of(account) => *self.keys.entry(account).or_insert(key) == key,
        };
        if !right {
            self.done.put(Wrong::Key, id);
        }
        match std::mem::replace(&mut due.seen, Seen::There) {
            Seen::Nowhere => self.done.found += 1,
            Seen::There => return self.done.duplicates += 1,
            // It was sent once more by hand, when others of its key had gone before.
            Seen::Dead => {
                self.done.dead -= 1;
                return self.done.found += 1;
            }
        }
        let last = self.last.entry((topic, key)).or_insert(0);
        if *last > due.at {
            self.done.put(Wrong::Order, id);
        }
        *last = due.at.max(*last);
    }

    /// A dead letter; those come before all others. `header`: what its headers say. Those that nobody asked for may be of another time.
    pub fn found_dead(&mut self, id: &str, header: impl Fn(&str) -> Option<String>) {
        let Some(due) = self.due.get_mut(id) else { return };
        let says =
            ["reason", "attempts", "topic"].iter().all(|name| header(name).is_some_and(|value| !value.is_empty()));
        if !says || header("position").as_deref().and_then(parse_place).is_none() {
            self.done.put(Wrong::Dead, id);
        }
        match due.seen {
            Seen::Nowhere => {
                due.seen = Seen::Dead;
                self.done.dead += 1;
            }
            Seen::Dead | Seen::There => self.done.duplicates += 1,
        }
    }

    /// All was read.
    pub fn finish(self) -> Compared {
        let mut done = self.done;
        let mut missing: Vec<_> =
            self.due.iter().filter(|(_, due)| due.seen == Seen::Nowhere).map(|(id, due)| (due.at, id)).collect();
        missing.sort_unstable();
        missing.iter().for_each(|(_, id)| done.put(Wrong::Missing, id));
        done
    }
}

/// What names a frame that cannot be read.
pub fn frame_id(node: u32, frame: &Frame<'_>) -> String {
    let h = &frame.header;
    format!("frame/{node:08x}-{}-{}-{}", h.epoch, h.writer, h.seq)
}

/// Reads [`super::shipper::place`] back.
pub fn parse_place(text: &str) -> Option<Position> {
    let (segment, offset) = text.split_once(':')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}
