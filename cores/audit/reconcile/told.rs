//! Places that are no journals: Kafka's topics, and the rows of the tiers.
//! Owns: what they said of the day. Called by: `reconcile`. Never: believes a cursor, or rows whose manifest does not vouch for them;
//! counts a message twice.
use super::{books::Books, sources::Source};
use crate::{
    audit::{AuditError, kafka, progress::Progress, say},
    ship::{client, reading::Reading, run::begun},
};
use outcry::{
    billing::{
        sources::{Moved, Said, Who},
        told::Told,
    },
    ship::{
        cursor::Position,
        events::Topic,
        schema::{self, Event},
    },
};
use prost::Message as _;
use rdkafka::message::Message as _;
use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::{Duration, Instant},
};

/// Longest that the shipper is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often its cursor is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A place, by its records.
pub(super) struct OfRecords {
    name: &'static str,
    moved: BTreeMap<Who, Vec<Moved>>,
    /// What it has not heard of yet.
    coming: BTreeMap<Who, i128>,
    /// False: not all of it could be read, which was said.
    pub(super) whole: bool,
}

impl Source for OfRecords {
    fn name(&self) -> &'static str {
        self.name
    }

    fn knows(&self) -> fn(&Who) -> bool {
        |_| true
    }

    fn said(&mut self) -> Result<BTreeMap<Who, Said>, AuditError> {
        let mut said: BTreeMap<Who, Said> = BTreeMap::new();
        for (who, moved) in &self.moved {
            said.entry(who.clone()).or_default().nanos += moved.iter().map(|m| m.nanos).sum::<i128>();
        }
        for (who, nanos) in &self.coming {
            said.entry(who.clone()).or_default().coming += nanos;
        }
        Ok(said)
    }

    fn records(&mut self, who: &Who) -> Result<Option<Vec<Moved>>, AuditError> {
        Ok(Some(self.moved.get(who).cloned().unwrap_or_default()))
    }
}

/// What Kafka's messages say. An exchange that runs sends them some moments later: what was read of its journal is waited for, what is
/// there beyond that is left out.
pub(super) fn of_kafka(config: &Path, books: &Books, state_dir: &Path) -> Result<OfRecords, AuditError> {
    let rules = kafka::rules(config)?;
    wait(books, state_dir);
    let names = Topic::ALL.map(|topic| client::name(&rules, topic));
    // What moved money of the day was sent after it began; clocks of machines may differ by a little.
    let from_ms = books.range().begins().map(|ms| ms.saturating_sub(60_000));
    let reading = Reading::new(&rules, &names, from_ms)?;
    let mut progress = Progress::new(reading.total);
    let (mut told, mut seen, mut read, mut whole) =
        (Told::new(books.node, books.day), HashSet::<String>::new(), 0, true);
    reading.each::<AuditError>(&mut |message| {
        progress.at(read);
        read += 1;
        // Whole auctions are most of what there is, and say nothing of money.
        let payload = message.payload().unwrap_or_default();
        if schema::kind(payload) == Some("auction") {
            return Ok(());
        }
        match Event::decode(payload) {
            Ok(event) if event.node != books.node || !books.was_there(event.epoch, event.writer, event.seq) => {}
            Ok(event) => {
                if !seen.contains(&event.id) {
                    whole &= told.message(&event, &|line| books.holds(line));
                    seen.insert(event.id);
                }
            }
            Err(why) => {
                let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
                say(format_args!("{topic} partition {partition} offset {offset}: no message of ours: {why}"));
            }
        }
        Ok(())
    })?;
    if !whole {
        say(format_args!("messages of this node are none of ours: what they moved is not counted"));
    }
    Ok(OfRecords { name: "kafka", moved: told.finish(books.last_ms), coming: BTreeMap::new(), whole })
}

/// Until the shipper says that Kafka has what was read of the journal. Where there is no cursor, or it does not move, what is missing
/// is a difference, and shown as one.
fn wait(books: &Books, state_dir: &Path) {
    let (segment, offset) = books.last;
    let until = Instant::now() + PATIENCE;
    let mut told = false;
    while let Ok(at) = begun(state_dir, books.node)
        && at != Position::default()
        && (at.segment, at.offset) <= (segment, offset)
    {
        if Instant::now() >= until {
            return say(format_args!(
                "Kafka is known to have the journal up to {}:{}, what was read of it ends at {segment}:{offset}: the rest is missing there",
                at.segment, at.offset
            ));
        }
        if !std::mem::replace(&mut told, true) {
            say(format_args!("the rest of the journal is on its way to Kafka"));
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(feature = "tiers")]
pub(super) use rows::of_rows;

#[cfg(feature = "tiers")]
mod rows {
    use super::*;
    use crate::{
        audit::directory::Journal,
        tiers::{TiersError, columns, listed, manifests, store::Store},
    };
    use outcry::tiers::{
        manifest::File,
        names::{Batch, Table},
        plan,
        wins::Row,
    };

    /// What the rows of a store say. What was not exported yet it will hear of.
    pub(crate) fn of_rows(url: &str, books: &Books, journal: &mut Journal) -> Result<OfRecords, AuditError> {
        let failed = |why: TiersError| AuditError::Tiers(why.to_string());
        let (from_ms, to_ms) = books.range().span();
        let store = Store::open(url, false).map_err(|e| failed(e.into()))?;
        let known = plan::known(listed(&store, Some(from_ms)).map_err(failed)?, books.node);
        let mut whole = true;
        if known.iter().any(|k| k.cooled) {
            say(format_args!("{url}: rows of some batches were let go: what was in them is missing here"));
            whole = false;
        }
        let batches: Vec<Batch> = known.into_iter().filter(|k| !k.cooled).map(|k| k.batch).collect();
        let manifests = manifests(&store, &batches).map_err(failed)?;
        // What comes of the day's wins stands behind them.
        let wanted = |f: &&File| match f.table {
            Table::Wins => f.meets(from_ms, to_ms),
            Table::Notices | Table::Settlements => f.to_ms >= from_ms,
            // Nobody pays for them.
            Table::House => false,
        };
        let files: Vec<&File> = manifests.iter().flat_map(|m| &m.files).filter(wanted).collect();
        let names: Vec<String> = files.iter().map(|f| f.name.clone()).collect();
        let (mut told, holds) = (Told::new(books.node, books.day), |line| books.holds(line));
        store.get_all(&names, |at, bytes| {
            let file = files[at];
            let read = bytes.map_err(|e| e.to_string()).and_then(|bytes| {
                let rows = columns::read(bytes, &file.sha256, file.table.columns()).map_err(|e| e.to_string())?;
                let ours = match file.table {
                    Table::Wins => (0..rows.len()).all(|row| {
                        let row = Row::read(&rows, row);
                        row.iter().for_each(|row| told.win(row, &holds));
                        row.is_some()
                    }),
                    Table::Notices => told.notices(&rows),
                    Table::Settlements => told.settlements(&rows, &holds),
                    Table::House => true,
                };
                if ours { Ok(()) } else { Err("a row in it is none of ours".to_owned()) }
            });
            if let Err(why) = read {
                say(format_args!("{}: {why}; `outcry tiers verify` says more", file.name));
                whole = false;
            }
            Ok::<(), AuditError>(())
        })?;
        let (last, last_ms) = manifests.iter().map(|m| (m.batch.last, m.batch.to_ms)).max().unwrap_or_default();
        let mut coming: BTreeMap<Who, i128> = BTreeMap::new();
        books.records(journal, &mut |who, _, moved| {
            if moved.spot.is_some_and(|spot| spot.segment > last) {
                *coming.entry(who.clone()).or_default() += moved.nanos;
            }
        })?;
        Ok(OfRecords { name: "rows", moved: told.up_to(last, last_ms), coming, whole })
    }
}
