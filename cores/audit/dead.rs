//! `outcry audit dead`: messages that Kafka took as dead letters only, and once more.
//! Owns: nothing. Called by: the command. Never: takes a dead letter away: Kafka does, in its time; what was sent once more has the
//! same id, so that twice is harmless.
use super::{AuditError, Out, kafka::rules, say};
use crate::{
    journal::dir::Dir,
    ship::{
        client,
        producer::Kafka,
        reading::{Reading, header},
        tail::Tail,
    },
};
use clap::Args;
use outcry::{
    config::KafkaRules,
    record::{
        frame,
        show::{columns::Columns, json::Object},
        when,
    },
    ship::{
        compare::parse_place,
        cursor::Position,
        events::{Message, Names, Room, Topic, messages},
        shipper::{Blocks, Fate, Letter, Producer, To, Token},
    },
};
use rdkafka::message::Message as _;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A message that is sent once more is waited for so long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(super) struct DeadArgs {
    /// The exchange's configuration, which says where Kafka is.
    #[arg(long)]
    config: PathBuf,
    /// Only those with this reason in their text.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Send them once more, whole, as they were: those that were cut are read from the journal in DIR.
    #[arg(long, value_name = "DIR")]
    replay: Option<PathBuf>,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// A dead letter.
struct Dead {
    at_ms: i64,
    id: String,
    kind: String,
    topic: String,
    reason: String,
    attempts: String,
    position: String,
    /// Of the whole message, where it was cut.
    bytes: Option<String>,
    key: String,
    payload: Vec<u8>,
}

/// True: there is none, or all were sent once more.
pub(super) fn run(args: &DeadArgs) -> Result<bool, AuditError> {
    let rules = rules(&args.config)?;
    let mut dead: BTreeMap<String, Dead> = BTreeMap::new();
    Reading::new(&rules, &[client::dead(&rules)], None)?.each::<AuditError>(&mut |message| {
        let of = |name: &str| header(message, name).unwrap_or_default();
        let reason = of("reason");
        if args.reason.as_ref().is_none_or(|text| reason.contains(text.as_str())) {
            let letter = Dead {
                at_ms: message.timestamp().to_millis().unwrap_or_default(),
                id: of("id"),
                kind: of("type"),
                topic: of("topic"),
                reason,
                attempts: of("attempts"),
                position: of("position"),
                bytes: header(message, "bytes"),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                payload: message.payload().unwrap_or_default().to_vec(),
            };
            // The same one may be there twice.
            dead.entry(letter.id.clone()).or_insert(letter);
        }
        Ok(())
    })?;
    let mut dead: Vec<Dead> = dead.into_values().collect();
    dead.sort_by_key(|letter| letter.at_ms);
    let mut out = Out::new();
    out.text(&table(&dead, args.json))?;
    out.end()?;
    match &args.replay {
        Some(dir) => replay(&dead, &rules, dir),
        None => Ok(dead.is_empty()),
    }
}

fn table(dead: &[Dead], json: bool) -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
    let mut text = String::new();
    let mut table = Columns::new(&["since", "age s", "type", "id", "position", "attempts", "bytes", "reason"]);
    for d in dead {
        let since = when::utc(d.at_ms.max(0) as u64).to_string();
        let age_s = (now_ms - d.at_ms).max(0) / 1_000;
        if json {
            Object::write(&mut text, |o| {
                o.word("since", &since);
                o.number("age_s", age_s);
                o.text("type", d.kind.as_bytes());
                o.text("id", d.id.as_bytes());
                o.text("key", d.key.as_bytes());
                o.text("topic", d.topic.as_bytes());
                o.text("position", d.position.as_bytes());
                o.text("attempts", d.attempts.as_bytes());
                o.text("reason", d.reason.as_bytes());
                o.some_number("cut_from_bytes", d.bytes.as_ref());
            });
            text.push('\n');
        } else {
            let bytes = d.bytes.clone().unwrap_or_else(|| d.payload.len().to_string());
            table.row([
                since,
                age_s.to_string(),
                d.kind.clone(),
                d.id.clone(),
                d.position.clone(),
                d.attempts.clone(),
                bytes,
                d.reason.clone(),
            ]);
        }
    }
    if !json {
        table.write(&mut text);
        text += &format!("{} dead letters\n", dead.len());
    }
    text
}

/// The key it had.
struct Keyed<'a>(&'a str);

impl Names for Keyed<'_> {
    fn advertiser(&mut self, _: outcry::budget::AccountId) -> String {
        self.0.to_owned()
    }
}

/// The whole message behind a dead letter that was cut.
fn whole(dead: &Dead, dir: &Path) -> Result<Vec<u8>, String> {
    let at = parse_place(&dead.position).ok_or("it does not say where in the journal it is from")?;
    let dir = if dir.join("journal").is_dir() { dir.join("journal") } else { dir.to_path_buf() };
    // The event says of which machine it is; so do names of files.
    let node = dead.id.split('/').find_map(|part| u32::from_str_radix(part.get(..8)?, 16).ok());
    let node = node.ok_or("its id names no machine")?;
    let mut frames = Vec::new();
    let end = Position { segment: u64::MAX >> 24, offset: 0 };
    Tail::new(Dir::new(&dir), node).read(at, end, &mut frames).map_err(|trouble| format!("{trouble:?}"))?;
    let (mut found, mut room) = (None, Room::default());
    for frame in frame::frames(&frames).flatten() {
        let _ = messages(&frame, node, &mut Keyed(&dead.key), &mut room, &mut |message: Message<'_>| {
            if message.id == dead.id {
                found = Some(message.payload.to_vec());
            }
        });
    }
    found.ok_or_else(|| format!("the block at {} of the journal does not have it", dead.position))
}

fn replay(dead: &[Dead], rules: &KafkaRules, dir: &Path) -> Result<bool, AuditError> {
    let mut kafka = Kafka::new(rules, "outcry-audit", true).map_err(|e| AuditError::Exchange(e.to_string()))?;
    let (mut sent, mut good) = (BTreeMap::new(), 0);
    for (number, letter) in dead.iter().enumerate() {
        let Some(topic) = Topic::ALL.into_iter().find(|topic| topic.name() == letter.topic) else {
            say(format_args!(
                "{}: of no topic: a frame that could not be read. Read it with `outcry audit cat`",
                letter.id
            ));
            continue;
        };
        let payload = match &letter.bytes {
            None => letter.payload.clone(),
            Some(_) => match whole(letter, dir) {
                Ok(payload) => payload,
                Err(why) => {
                    say(format_args!("{}: {why}", letter.id));
                    continue;
                }
            },
        };
        let whole = Letter { to: To::Topic(topic), key: &letter.key, headers: &[], payload: &payload };
        match kafka.send(&whole, Token(number as u64)) {
            Ok(()) => drop(sent.insert(number as u64, &letter.id)),
            Err(Ok(_)) => say(format_args!("{}: the queue is full: do it again for the rest", letter.id)),
            Err(Err(fate)) => say(format_args!("{}: {}", letter.id, why(&fate))),
        }
    }
    let (until, mut told) = (Instant::now() + PATIENCE, Vec::new());
    while !sent.is_empty() && Instant::now() < until {
        kafka.hurry(Duration::from_millis(20));
        kafka.turn(&mut told);
        for (token, fate, _) in told.drain(..) {
            let Some(id) = sent.remove(&token.0) else { continue };
            match fate {
                Fate::Acknowledged => good += 1,
                fate => say(format_args!("{id}: {}", why(&fate))),
            }
        }
    }
    for id in sent.values() {
        say(format_args!("{id}: no word from the brokers for {} s", PATIENCE.as_secs()));
    }
    say(format_args!("{good} of {} were sent once more and acknowledged", dead.len()));
    Ok(good == dead.len())
}

fn why(fate: &Fate) -> &str {
    match fate {
        Fate::Acknowledged => "acknowledged",
        Fate::Refused(why) | Fate::BatchRefused(why) | Fate::Stopped(why) | Fate::Fatal(why) => why,
    }
}
