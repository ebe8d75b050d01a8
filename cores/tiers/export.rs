//! `outcry tiers export`: batch by batch, each whole or without a manifest.
//! Owns: one batch's rows, one segment's bytes. Called by: main, by a timer. Never: writes a manifest before everything that it
//! names is in the store; lets an export that was cut off and begun again come to other objects than one that was not.
//!
//! What makes it so: which segments go together is written down before the first of them goes, and nothing of an object
//! depends on when or how often it is made.
use super::{
    Journal, TiersError, known,
    lock::{Hold, Mode},
    manifest, now_ms, say, sha256,
    store::{Put, Store},
};
use crate::{
    audit::{self, Where},
    exported,
    out::out,
};
use bytes::Bytes;
use clap::Args;
use outcry::{
    journal::{
        block::BLOCK_HEADER,
        digest::Digester,
        reader::{self, Item, OpenError, SegmentReader, Source},
        segment::SegmentHeader,
    },
    record::{
        frame::{self, Frame},
        show::json::Object,
        when::utc,
    },
    tiers::{
        accounts::Accounts,
        gather::Gather,
        ids::{self, Ids, Key},
        manifest::{File, Manifest, Segment},
        names::{self, Batch, DAY_MS, Table},
        plan::{self, Closed, Sizes},
    },
};
use std::{io, path::PathBuf};

/// Seven years with two leap days.
pub(super) const COLD_DAYS: u64 = 2557;
/// How hard segments are compressed: what is twice as hard takes four times as long and saves a tenth.
const ZSTD_LEVEL: i32 = 3;

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: Where,
    /// The store.
    url: String,
    /// Segments that are exported together; their rows are in memory together, and in files of their own.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    segments: u64,
    /// Bytes of segments that are exported together; one always is.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Only segments that ended before this moment, or day in UTC.
    #[arg(long, value_name = "TIME", value_parser = audit::moment)]
    until: Option<u64>,
    /// Also the last segment, which only the next start of the exchange closes: when there will be none.
    #[arg(long)]
    last: bool,
    /// Who may end the lock of an archived object early.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    lock: Mode,
    /// How long archived objects are locked, in days after their last record.
    #[arg(long, value_name = "DAYS", default_value_t = COLD_DAYS)]
    lock_days: u64,
}

/// A segment that is exported.
struct Taken {
    /// Its place in the journal's list.
    at: usize,
    segment: u64,
    header: SegmentHeader,
    end: u64,
}

/// True: everything that has ended is in the store now, nothing was lost before.
pub(super) fn run(args: &ExportArgs) -> Result<bool, TiersError> {
    let mut journal = Journal::open(&args.place)?;
    let store = Store::open(&args.url, true)?;
    let node = journal.node;
    let ends = ends(&mut journal, args.last)?;
    let Some(&Taken { segment: first, ref header, .. }) = ends.first() else {
        say(format_args!("no segment of node {node:08x} has ended: nothing is to be exported yet"));
        return Ok(true);
    };
    // Manifests are in order of days; one that ends at the journal's beginning is of that day or the one before.
    let since = (header.hlc >> 16).saturating_sub(DAY_MS);
    let mut batches = known(&store, node, Some(since))?;
    if batches.is_empty() {
        batches = known(&store, node, None)?;
    }
    let mut good = true;
    let mut next = first;
    let mut accounts = (String::new(), Accounts::default());
    if let Some(last) = batches.last() {
        next = last.batch.last + 1;
        if next < first {
            say(format_args!(
                "segments {next} to {} left the journal before they were exported: they are lost. Export more often than \
                 `record.keep_days` and `record.keep_bytes` let them go",
                first - 1
            ));
            (good, next) = (false, first);
        }
        accounts.0 = manifest(&store, &last.batch)?.accounts;
        if !accounts.0.is_empty() {
            let bytes = store.get(&accounts.0)?;
            let read = Accounts::read(&bytes);
            accounts.1 = read
                .ok_or_else(|| TiersError::Object { name: accounts.0.clone(), why: "no accounts are in it".into() })?;
        }
    }
    abandoned(&store, node, next)?;
    let mut done = 0;
    // What was exported before is told again: the file may have been lost, or nobody waited for it.
    let mut told = tell(&journal, next);
    while let Some(taken) = next_batch(args, &store, &mut journal, &ends, next)? {
        let last = next + taken.len() as u64 - 1;
        match batch(args, &store, &mut journal, &ends, taken, &mut accounts)? {
            None => {
                say(format_args!(
                    "segments {next} to {last} wait: what became of their last auctions is not yet behind them"
                ));
                break;
            }
            Some(whole) => good &= whole,
        }
        (done, next) = (done + 1, last + 1);
        told = tell(&journal, next);
    }
    if let Err((path, why)) = &told {
        say(format_args!(
            "{}: {why}: an exchange that waits for exports (`record.wait_for_tiers`) is not told of this one and lets nothing go",
            path.display()
        ));
        good = false;
    }
    let counts = store.counts();
    let mut text = String::new();
    let locks = store.locking().and_then(|l| l.locks());
    if args.place.json {
        Object::write(&mut text, |o| {
            o.word("node", format_args!("{node:08x}"));
            o.number("batches", done);
            o.number("exported_below", next);
            o.number("objects", counts.written);
            o.number("bytes", counts.written_bytes);
            o.number("kept", counts.kept);
            o.number("locked", locks == Some(true));
        });
        text.push('\n');
    } else {
        text = format!(
            "node {node:08x}: {done} batches, {} objects, {} bytes; {} were there. All segments below {next} are in {}{}\n",
            counts.written,
            counts.written_bytes,
            counts.kept,
            store.url(),
            match locks {
                Some(true) => ", the archive locked",
                Some(false) => "; this bucket has no object lock",
                None => "",
            }
        );
    }
    out(&text);
    Ok(good)
}

/// Tells the exchange whose journal it is, if it waits, how far it is in the store; else where that could not be told, and why.
fn tell(journal: &Journal, below: u64) -> Result<(), (PathBuf, io::Error)> {
    let state_dir = journal.state_dir();
    exported::tell(state_dir, journal.node, below).map_err(|why| (state_dir.join(exported::DIR), why))
}

/// What exports began that ended otherwise. Either its manifest was there already, or its segments have left the journal since:
/// then its rows go, for whoever reads a folder without its manifests.
fn abandoned(store: &Store, node: u32, next: u64) -> Result<(), TiersError> {
    let begun = store.list("begun", None)?.into_iter().filter_map(|(name, _)| {
        let (of, first) = names::parse_begun(&name)?;
        (of == node && first < next).then_some((name, first))
    });
    for (name, first) in begun {
        if known(store, node, None)?.iter().all(|k| k.batch.first != first) {
            for table in Table::ALL {
                let all = store.list(table.name(), None)?.into_iter().map(|(name, _)| name);
                let rows: Vec<String> = all.filter(|name| names::parse_part(name) == Some((node, first))).collect();
                store.delete_all(&rows)?;
            }
        }
        store.delete_all(&[name])?;
    }
    Ok(())
}

/// Segments that have ended.
fn ends(journal: &mut Journal, with_last: bool) -> Result<Vec<Taken>, TiersError> {
    let mut all = Vec::new();
    for at in 0..journal.segments.len() {
        let (segment, Ok(header)) = (journal.segments[at].segment, journal.segments[at].header) else { continue };
        let end = match journal.end(at) {
            Some(end) => Some(end),
            None if with_last => Some(walk(journal, at, &mut |_, _| true)?.end),
            None => None,
        };
        if let Some(end) = end {
            all.push(Taken { at, segment, header, end });
        }
    }
    Ok(all)
}

/// What goes next: as an export that was cut off had begun it, or as it fits. `None`: nothing.
fn next_batch(
    args: &ExportArgs,
    store: &Store,
    journal: &mut Journal,
    ends: &[Taken],
    next: u64,
) -> Result<Option<std::ops::Range<usize>>, TiersError> {
    let begun = names::begun(journal.node, next);
    let earlier = match store.get(&begun) {
        Ok(bytes) => Some(bytes),
        Err(e) if e.missing() => None,
        Err(e) => return Err(e.into()),
    };
    let from = ends.partition_point(|t| t.segment < next);
    if let Some(bytes) = earlier {
        let last = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let last = last.filter(|last| *last >= next);
        let last = last.ok_or_else(|| TiersError::Object { name: begun.clone(), why: "it names no segment".into() })?;
        for (taken, segment) in (next..=last).enumerate() {
            if ends.get(from + taken).is_none_or(|t| t.segment != segment) {
                return Err(TiersError::Gone { first: next, last, missing: segment, begun });
            }
        }
        return Ok(Some(from..from + (last - next) as usize + 1));
    }
    let mut closed = Vec::new();
    for taken in &ends[from..] {
        let to_ms = match args.until {
            Some(_) => journal.times(taken.at).map_or(u64::MAX, |(first, last)| first.min(last) >> 16),
            None => 0,
        };
        closed.push(Closed { segment: taken.segment, end: Some(taken.end), to_ms });
    }
    let sizes = Sizes { segments: args.segments, bytes: args.bytes };
    let taken = plan::next(&closed, next, sizes, args.until);
    let Some(last) = taken.last() else { return Ok(None) };
    let bytes = Bytes::from(format!("{last}\n"));
    store.put(Put { name: begun, bytes, hold: None, replaces: false })?;
    Ok(Some(from..from + taken.len()))
}

/// How a segment was read.
struct Walked {
    end: u64,
    damages: u64,
    /// Milliseconds of the first frame and of the last; the first above the second: none.
    times: (u64, u64),
}

/// Hands out a segment's frames, with their offsets, until `each` has enough.
fn walk(journal: &mut Journal, at: usize, each: &mut dyn FnMut(u64, &Frame<'_>) -> bool) -> Result<Walked, TiersError> {
    let known = reader::Known { end: journal.end(at), confirmed: journal.confirmed(at) };
    let name = journal.segments[at].name.clone();
    let failed = |journal: &Journal, e| TiersError::from(journal.failed(&name, e));
    let mut walked = Walked { end: 0, damages: 0, times: (u64::MAX, 0) };
    let opened = SegmentReader::open(journal.source(at), known);
    let mut reader = match opened {
        Ok(reader) => reader,
        // Made in advance, or never begun.
        Err(OpenError::Header(_)) => return Ok(walked),
        Err(OpenError::Source(e)) => return Err(failed(journal, e)),
    };
    'read: loop {
        let item = match reader.next_item() {
            Ok(Some(item)) => item,
            Ok(None) => break,
            Err(e) => {
                drop(reader);
                return Err(failed(journal, e));
            }
        };
        let Item::Block(block_at, block) = item else {
            walked.damages += 1;
            continue;
        };
        if block.header.seal {
            continue;
        }
        let mut frames = frame::frames(block.payload);
        loop {
            let offset = block_at + (BLOCK_HEADER + frames.offset()) as u64;
            match frames.next() {
                None => break,
                Some(Ok(frame)) => {
                    let ms = frame.header.hlc >> 16;
                    walked.times = (walked.times.0.min(ms), walked.times.1.max(ms));
                    if !each(offset, &frame) {
                        break 'read;
                    }
                }
                Some(Err(_)) => walked.damages += 1,
            }
        }
    }
    walked.end = reader.ending().end;
    Ok(walked)
}

/// Exports a batch. `None`: it has to wait; else whether nothing in it is damaged.
fn batch(
    args: &ExportArgs,
    store: &Store,
    journal: &mut Journal,
    ends: &[Taken],
    range: std::ops::Range<usize>,
    accounts: &mut (String, Accounts),
) -> Result<Option<bool>, TiersError> {
    let (node, taken) = (journal.node, &ends[range.clone()]);
    let (first, last) = (taken[0].segment, taken[taken.len() - 1].segment);
    let mut gather = Gather::new(node, accounts.1.clone());
    let (mut segments, mut keys) = (Vec::new(), Vec::new());
    for one in taken {
        let mut of_segment = ids::Keys::new();
        let walked = walk(journal, one.at, &mut |offset, frame| {
            gather.frame(one.segment, offset, frame);
            Key::of_frame(frame, &mut |key| {
                of_segment.insert(key);
            });
            true
        })?;
        keys.push(of_segment);
        if walked.damages > 0 {
            say(format_args!(
                "segment {}: {} places are damaged; it is archived as it is",
                one.segment, walked.damages
            ));
        }
        segments.push(walked);
    }
    let mut settled = args.last && range.end == ends.len();
    for at in taken[taken.len() - 1].at + 1..journal.segments.len() {
        if settled {
            break;
        }
        let segment = journal.segments[at].segment;
        walk(journal, at, &mut |offset, frame| {
            settled = gather.behind(segment, offset, frame);
            !settled
        })?;
    }
    if !settled {
        return Ok(None);
    }
    let gathered = gather.finish();
    if gathered.raw > 0 {
        return Err(TiersError::Raw { first, last, frames: gathered.raw });
    }
    let begins = |at: usize| taken[at].header.hlc >> 16;
    let from_ms = segments.iter().map(|w| w.times.0).min().filter(|ms| *ms < u64::MAX).unwrap_or(begins(0));
    let to_ms = segments.iter().map(|w| w.times.1).max().filter(|ms| *ms > 0).unwrap_or(begins(0)).max(from_ms);
    let batch = Batch { node, first, last, from_ms, to_ms };
    let until_ms = to_ms.saturating_add(args.lock_days.saturating_mul(DAY_MS));
    // A lock that has ended would be refused.
    let hold = (args.lock != Mode::Off && until_ms > now_ms()).then_some(Hold { mode: args.lock, until_ms });
    let mut of_segments = Vec::new();
    for (one, walked) in taken.iter().zip(&segments) {
        of_segments.push(archived(store, journal, one, walked, hold)?);
    }
    let ids = ids_of(store, &batch, &keys, hold)?;
    let mut files = Vec::new();
    let mut puts: Vec<Put> = Vec::new();
    for ((table, date, advertiser), part) in &gathered.parts {
        let name = names::part(&names::partition(*table, date, advertiser), node, first);
        let bytes = Bytes::from(super::columns::write(&part.rows)?);
        let place = (*table, date.clone(), &advertiser[..]);
        files.push(File::of(place, part, name.clone(), bytes.len() as u64, sha256(&bytes)));
        puts.push(Put { name, bytes, hold: None, replaces: true });
    }
    store.put_all(puts)?;
    if let Some(known) = gathered.accounts {
        let name = names::accounts(node, first);
        let bytes = Bytes::from(known.write());
        store.put(Put { name: name.clone(), bytes, hold: None, replaces: true })?;
        *accounts = (name, known);
    }
    let damages = of_segments.iter().map(|s| s.damages).sum::<u64>();
    let manifest = Manifest {
        batch,
        program: env!("CARGO_PKG_VERSION").to_string(),
        unreadable: gathered.unreadable,
        segments: of_segments,
        files,
        sums: gathered.sums,
        accounts: accounts.0.clone(),
        ids: Some(ids),
    };
    let name = manifest.batch.manifest();
    store.put(Put { name, bytes: Bytes::from(manifest.write()), hold, replaces: false })?;
    store.delete_all(&[names::begun(node, first)])?;
    told(&manifest);
    Ok(Some(damages == 0 && gathered.unreadable == 0))
}

/// Writes which of a batch's segments can hold an id.
fn ids_of(store: &Store, batch: &Batch, keys: &[ids::Keys], hold: Option<Hold>) -> Result<Ids, TiersError> {
    let (bytes, blocks) = ids::build(keys);
    let name = names::ids(batch.node, batch.first);
    let ids = Ids { name: name.clone(), bytes: bytes.len() as u64, sha256: sha256(&bytes), blocks };
    store.put(Put { name, bytes: Bytes::from(bytes), hold, replaces: true })?;
    Ok(ids)
}

/// Compresses a segment into the archive.
fn archived(
    store: &Store,
    journal: &mut Journal,
    one: &Taken,
    walked: &Walked,
    hold: Option<Hold>,
) -> Result<Segment, TiersError> {
    let file = journal.segments[one.at].name.clone();
    let mut bytes = vec![0; usize::try_from(one.end).unwrap_or(usize::MAX)];
    let read = journal.source(one.at).read(0, &mut bytes);
    read.map_err(|e| journal.failed(&file, e))?;
    let mut digester = Digester::default();
    digester.add(one.segment, 0, &bytes);
    let found = digester.end();
    // What the next header vouches for; a segment without one vouches for itself.
    let digest = journal.after(one.at).map_or(found, |after| after.previous.digest);
    let altered = u64::from(digest != found);
    if altered > 0 {
        say(format_args!(
            "segment {}: its digest is not the one that the next one holds; it is archived as it is",
            one.segment
        ));
    }
    let failed = |e| TiersError::from(journal.failed(&file, e));
    let packed = Bytes::from(zstd::bulk::compress(&bytes, ZSTD_LEVEL).map_err(failed)?);
    let name = names::archived(journal.node, one.segment);
    let segment = Segment {
        segment: one.segment,
        name: name.clone(),
        bytes: packed.len() as u64,
        sha256: sha256(&packed),
        end: one.end,
        digest,
        damages: walked.damages + altered,
        from_ms: walked.times.0,
        to_ms: walked.times.1,
    };
    store.put(Put { name, bytes: packed, hold, replaces: true })?;
    Ok(segment)
}

fn told(manifest: &Manifest) {
    let Batch { first, last, from_ms, to_ms, .. } = manifest.batch;
    let rows = |table| manifest.files.iter().filter(|f| f.table == table).map(|f| f.rows).sum::<u64>();
    say(format_args!(
        "segments {first} to {last}, {} to {}: {} wins, {} notices, {} settlements, {} house ads in {} files",
        utc(from_ms),
        utc(to_ms),
        rows(Table::Wins),
        rows(Table::Notices),
        rows(Table::Settlements),
        rows(Table::House),
        manifest.files.len()
    ));
}
