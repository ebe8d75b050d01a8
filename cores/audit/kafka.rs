//! `outcry audit verify --kafka`, `outcry audit topics`: the record's way to Kafka, looked at from outside.
//! Owns: nothing. Called by: the commands. Never: believes the cursor: the journal is read again, and so is Kafka.
use super::{AuditError, Out, Range, Where, directory::Journal, progress::Progress, say, walk};
use crate::ship::{
    client,
    reading::{Reading, ReadingError, header},
    topics::{Layout, Topics, TopicsError, Verdict},
};
use clap::Args;
use outcry::{
    config::{self, KafkaRules},
    record::show::{columns::Columns, json::Object},
    ship::{
        compare::{Compare, Compared, Wrong},
        events::Topic,
        schema::Event,
    },
};
use prost::Message as _;
use rdkafka::message::Message as _;
use std::path::{Path, PathBuf};

impl From<ReadingError> for AuditError {
    fn from(e: ReadingError) -> AuditError {
        AuditError::Exchange(e.to_string())
    }
}

impl From<TopicsError> for AuditError {
    fn from(e: TopicsError) -> AuditError {
        AuditError::Exchange(e.to_string())
    }
}

/// Where Kafka is, by the configuration of the exchange.
pub(super) fn rules(path: &Path) -> Result<KafkaRules, AuditError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| AuditError::Exchange(format!("{}: {e}. Name the exchange's configuration", path.display())))?;
    let config = config::load(&text, 1).map_err(|mistakes| {
        let first = mistakes.first().map(ToString::to_string).unwrap_or_default();
        AuditError::Exchange(format!("{}: {first}. `outcry check --config` tells all", path.display()))
    })?;
    config.kafka.ok_or_else(|| {
        AuditError::Exchange(format!("{}: there is no section [kafka]: the record goes nowhere", path.display()))
    })
}

/// Is in Kafka what the journal says? True: nothing is missing, nothing extra, all in order.
pub(super) fn verify(place: &Where, range: Range, config: &Path) -> Result<bool, AuditError> {
    let rules = rules(config)?;
    let mut journal = Journal::open(place)?;
    let node = journal.node;
    let mut compare = Compare::new(node);
    let whole = walk::frames(&mut journal, range, &mut |_, frame| {
        compare.due(frame);
        Ok(())
    })?;
    let names = Topic::ALL.map(|topic| client::name(&rules, topic));
    // What happened then came later, whatever the delay; clocks of machines may differ by a little.
    let from_ms = range.begins().map(|ms| ms.saturating_sub(60_000));
    let dead = Reading::new(&rules, &[client::dead(&rules)], from_ms)?;
    let reading = Reading::new(&rules, &names, from_ms)?;
    let mut progress = Progress::new(dead.total + reading.total);
    let mut read = 0;
    dead.each::<AuditError>(&mut |message| {
        read += 1;
        compare.found_dead(&header(message, "id").unwrap_or_default(), |name| header(message, name));
        Ok(())
    })?;
    reading.each::<AuditError>(&mut |message| {
        progress.at(read);
        read += 1;
        let Some(at) = names.iter().position(|name| name == message.topic()) else { return Ok(()) };
        match Event::decode(message.payload().unwrap_or_default()) {
            // Other machines' messages are in the same topics.
            Ok(event) if event.node == node && range.holds(event.hlc) => {
                let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                compare.found(Topic::ALL[at], &event.id, &key);
            }
            Ok(_) => {}
            Err(why) => say(format_args!(
                "{} partition {} offset {}: no message of ours: {why}",
                message.topic(),
                message.partition(),
                message.offset()
            )),
        }
        Ok(())
    })?;
    let compared = compare.finish();
    let mut out = Out::new();
    out.text(&report(&compared, node, read, place.json))?;
    out.end()?;
    Ok(whole && compared.good())
}

fn report(compared: &Compared, node: u32, read: u64, json: bool) -> String {
    let Compared { due, found, dead, duplicates, wrong, listed } = compared;
    let mut out = String::new();
    if json {
        for (what, id) in listed {
            Object::write(&mut out, |o| {
                o.word("wrong", what.name());
                o.text("id", id.as_bytes());
            });
            out.push('\n');
        }
        Object::write(&mut out, |o| {
            o.word("node", format_args!("{node:08x}"));
            o.number("due", due);
            o.number("found", found);
            o.number("dead", dead);
            o.number("duplicates", duplicates);
            o.number("read", read);
            o.object("wrong", |o| Wrong::ALL.iter().for_each(|w| o.number(w.name(), wrong[*w as usize])));
        });
        out.push('\n');
        return out;
    }
    for (what, id) in listed {
        out += &format!("WRONG: {}: {id}\n", what.name());
    }
    let counts: Vec<String> = Wrong::ALL.iter().map(|w| format!("{} {}", wrong[*w as usize], w.name())).collect();
    out += &format!(
        "node {node:08x}: the journal asks for {due} messages; in Kafka {found}, as dead letters {dead}, {duplicates} more than once; wrong: {}\n",
        counts.join(", ")
    );
    out
}

#[derive(Args, Debug)]
pub(super) struct TopicsArgs {
    /// The exchange's configuration, which says where Kafka is.
    #[arg(long)]
    config: PathBuf,
    /// Make what is missing, and set what is weaker. Partitions and copies of topics that are there stay.
    #[arg(long)]
    apply: bool,
    /// Partitions of each topic. For good: keys live in partitions.
    #[arg(long, default_value_t = Layout::default().partitions)]
    partitions: i32,
    /// Copies of each partition.
    #[arg(long, default_value_t = Layout::default().replication)]
    replication: i32,
    /// Copies that must have a message before it is acknowledged.
    #[arg(long, default_value_t = Layout::default().min_insync)]
    min_insync: i32,
    /// Days that messages stay.
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

/// True: every topic is what it is to be.
pub(super) fn topics(args: &TopicsArgs) -> Result<bool, AuditError> {
    let layout = Layout {
        partitions: args.partitions,
        replication: args.replication,
        min_insync: args.min_insync,
        retention_ms: i64::from(args.days) * 24 * 3_600_000,
        ..Layout::default()
    };
    let topics = Topics::new(&rules(&args.config)?)?;
    if args.apply {
        topics.apply(&layout)?;
    }
    let settings = topics.judge(&layout)?;
    let mut text = String::new();
    if args.json {
        for s in &settings {
            Object::write(&mut text, |o| {
                o.text("topic", s.topic.as_bytes());
                o.word("setting", s.name);
                o.text("wanted", s.wanted.as_bytes());
                o.text("found", s.found.as_bytes());
                o.word("verdict", s.verdict.name());
            });
            text.push('\n');
        }
    } else {
        let mut table = Columns::new(&["topic", "setting", "wanted", "found", "verdict"]);
        for s in &settings {
            table.row([
                s.topic.clone(),
                s.name.to_owned(),
                s.wanted.clone(),
                s.found.clone(),
                s.verdict.name().to_owned(),
            ]);
        }
        table.write(&mut text);
    }
    let mut out = Out::new();
    out.text(&text)?;
    out.end()?;
    Ok(settings.iter().all(|s| s.verdict == Verdict::Good))
}
