//! Reads wins, notices and settlements from Kafka and keeps what each key comes to, each event counted once, however often it comes,
//! whoever dies: an example for whoever writes a consumer.
//!
//!     cargo run --release -p outcry-cores --example consumer -- --config outcry.toml --store sums.redb --until-end
//!
//! What makes it right: the ids that were counted, the sums, and nothing else, change in one transaction of one store; Kafka is told
//! how far it has come only after that. So after a crash, or when a partition moves to another reader, messages come again, and are
//! known. Ids are forgotten once no message can come again: after the topics' retention, and a day.
use clap::Parser;
use outcry::{
    config,
    ship::{
        events::Topic,
        schema::{Body, Event, Reason},
    },
};
use outcry_cores::ship::client;
use prost::Message as _;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::Message as _,
    topic_partition_list::Offset,
};
use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableMultimapTable, ReadableTable, TableDefinition,
};
use std::{
    collections::BTreeMap,
    error::Error,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

type Failed = Box<dyn Error + Send + Sync>;

/// Ids that were counted, and the hour of their events.
const SEEN: TableDefinition<&str, u64> = TableDefinition::new("seen");
/// The same by hour, to forget them.
const HOURS: MultimapTableDefinition<u64, &str> = MultimapTableDefinition::new("hours");
/// By key: wins, notices, and nano-units that were charged at auctions, waited for notices, were billed by them, and went back.
const SUMS: TableDefinition<&str, (u64, u64, i64, i64, i64, i64)> = TableDefinition::new("sums");

/// The topics keep seven days.
const KEEP_HOURS: u64 = 8 * 24;
/// Messages of a transaction.
const BATCH: usize = 2_000;

/// Sums of the wins, notices and settlements in Kafka, each counted once.
#[derive(Parser)]
struct Args {
    /// The exchange's configuration, which says where Kafka is.
    #[arg(long)]
    config: PathBuf,
    /// Where ids and sums are kept.
    #[arg(long)]
    store: PathBuf,
    /// Consumers of one group share the partitions.
    #[arg(long, default_value = "outcry-sums")]
    group: String,
    /// So many readers, which join one after the other.
    #[arg(long, default_value_t = 1)]
    readers: u32,
    /// Ends when no reader has had anything for twelve seconds: those of a process that died hold their partitions for six.
    #[arg(long)]
    until_end: bool,
}

fn main() -> Result<(), Failed> {
    let args = Args::parse();
    let store = Database::create(&args.store)?;
    let shared = Shared { over: AtomicBool::new(false), begun: Instant::now(), last_ms: AtomicU64::new(0) };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..args.readers)
            .map(|number| {
                let (args, store, shared) = (&args, &store, &shared);
                scope.spawn(move || {
                    // Each that joins moves partitions from one to another.
                    thread::sleep(Duration::from_secs(number.into()));
                    let read = read(args, store, shared);
                    shared.over.store(true, Ordering::Relaxed);
                    read
                })
            })
            .collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| "a reader panicked")?)
    })?;
    print(&store)
}

/// What readers know of each other.
struct Shared {
    over: AtomicBool,
    begun: Instant,
    /// When any of them had something last, after `begun`.
    last_ms: AtomicU64,
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn is_over(&self, until_end: bool) -> bool {
        let idle_ms = self.now_ms() - self.last_ms.load(Ordering::Relaxed).min(self.now_ms());
        self.over.load(Ordering::Relaxed) || until_end && idle_ms > 12_000
    }
}

fn read(args: &Args, store: &Database, shared: &Shared) -> Result<(), Failed> {
    let text = std::fs::read_to_string(&args.config)?;
    let config = config::load(&text, 1).map_err(|mistakes| format!("{}: {mistakes:?}", args.config.display()))?;
    let rules = config.kafka.ok_or("there is no section [kafka]")?;
    let mut client = client::config(&rules, "outcry-consumer")?;
    client
        .set("group.id", &args.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000");
    let consumer: BaseConsumer = client.create()?;
    consumer.subscribe(&[&client::name(&rules, Topic::Results)])?;
    while !shared.is_over(args.until_end) {
        let (mut events, mut upto) = (Vec::new(), BTreeMap::new());
        while events.len() < BATCH
            && let Some(message) = consumer.poll(Duration::from_millis(if events.is_empty() { 200 } else { 0 }))
        {
            let message = message?;
            events.push(Event::decode(message.payload().unwrap_or_default())?);
            upto.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
        }
        if events.is_empty() {
            continue;
        }
        shared.last_ms.store(shared.now_ms(), Ordering::Relaxed);
        count(store, &events)?;
        let mut read = TopicPartitionList::new();
        for ((topic, partition), offset) in &upto {
            read.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        // A partition that has moved is another's to say something of: what came twice is known.
        let _ = consumer.commit(&read, CommitMode::Async);
    }
    Ok(())
}

/// Counts those that were not counted.
fn count(store: &Database, events: &[Event]) -> Result<(), Failed> {
    let change = store.begin_write()?;
    {
        let (mut seen, mut hours, mut sums) =
            (change.open_table(SEEN)?, change.open_multimap_table(HOURS)?, change.open_table(SUMS)?);
        let mut newest = 0;
        for event in events {
            let hour = (event.hlc >> 16) / 3_600_000;
            newest = newest.max(hour);
            if seen.insert(&event.id[..], hour)?.is_some() {
                continue;
            }
            hours.insert(hour, &event.id[..])?;
            let before = sums.get(&event.key[..])?.map_or((0, 0, 0, 0, 0, 0), |sums| sums.value());
            let (mut wins, mut notices, mut charged, mut waits, mut billed, mut back) = before;
            match &event.body {
                Some(Body::AuctionResult(win)) => {
                    wins += 1;
                    *if win.awaited_s == 0 { &mut charged } else { &mut waits } += win.charge;
                }
                Some(Body::Notice(notice)) => {
                    notices += 1;
                    if notice.of == "billed" && notice.held.is_some() && !notice.expired {
                        billed += notice.charge;
                    }
                }
                Some(Body::Settlement(settled)) if settled.reason != Reason::Unknown as i32 => back += settled.amount,
                _ => {}
            }
            sums.insert(&event.key[..], (wins, notices, charged, waits, billed, back))?;
        }
        // What is too old to come again.
        let old: Vec<u64> =
            hours.range(..newest.saturating_sub(KEEP_HOURS))?.filter_map(|hour| Some(hour.ok()?.0.value())).collect();
        for hour in old {
            let ids: Vec<String> = hours.remove_all(hour)?.filter_map(|id| Some(id.ok()?.value().to_owned())).collect();
            for id in ids {
                seen.remove(&id[..])?;
            }
        }
    }
    change.commit()?;
    Ok(())
}

fn print(store: &Database) -> Result<(), Failed> {
    let look = store.begin_read()?;
    println!(
        "{:<40} {:>9} {:>9} {:>15} {:>15} {:>15} {:>15}",
        "key", "wins", "notices", "charged", "waits", "billed", "back"
    );
    let nanos = |n: i64| {
        format!(
            "{}{}.{:09}",
            if n < 0 { "-" } else { "" },
            n.unsigned_abs() / 1_000_000_000,
            n.unsigned_abs() % 1_000_000_000
        )
    };
    for row in look.open_table(SUMS)?.iter()? {
        let (key, sums) = row?;
        let (wins, notices, charged, waits, billed, back) = sums.value();
        let money = [charged, waits, billed, back].map(nanos);
        println!(
            "{:<40} {wins:>9} {notices:>9} {:>15} {:>15} {:>15} {:>15}",
            key.value(),
            money[0],
            money[1],
            money[2],
            money[3]
        );
    }
    Ok(())
}
