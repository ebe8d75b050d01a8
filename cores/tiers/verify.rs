//! `outcry tiers verify`: is everything in the store that manifests name, as they say it, and does it add up?
//! Owns: nothing. Called by: main. Never: stops at the first finding.
//!
//! What it cannot see: a store in which manifests, objects and all sums were made anew. A bucket that locks its objects, or a
//! copy of the manifests elsewhere, is what helps against that.
use super::{Of, TiersError, archive, columns, listed, manifest, nodes, say, store::Store};
use crate::{audit, out::out};
use clap::Args;
use outcry::{
    journal::{digest::Digester, segment::SegmentHeader},
    tiers::{
        ids::Ids,
        manifest::{File, Manifest, Segment},
        names::{self, Table},
        plan::{self, Known},
        wins::at,
    },
};
use std::collections::BTreeSet;

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    range: audit::Range,
    /// Only whether each object is there and as long as it should be; nothing but manifests is read.
    #[arg(long)]
    quick: bool,
}

#[derive(Default)]
struct Seen {
    batches: u64,
    segments: u64,
    files: u64,
    rows: u64,
    wrong: u64,
}

impl Seen {
    fn wrong(&mut self, what: &str) {
        self.wrong += 1;
        out(&format!("WRONG: {what}\n"));
    }
}

/// True: everything is as it should be.
pub(super) fn run(args: &VerifyArgs) -> Result<bool, TiersError> {
    let store = Store::open(&args.of.url, false)?;
    let (from_ms, to_ms) = args.range.span();
    let all = listed(&store, Some(from_ms))?;
    let mut seen = Seen::default();
    for node in nodes(&all, args.of.node) {
        let mut before: Option<Segment> = None;
        for known in plan::known(all.clone(), node) {
            if known.batch.from_ms >= to_ms || known.batch.to_ms < from_ms {
                continue;
            }
            batch(args, &store, &known, &mut before, &mut seen)?;
        }
    }
    if args.range.all() && !args.quick {
        unnamed(&store, &all, &mut seen)?;
    }
    let counts = store.counts();
    out(&format!(
        "{} batches, {} segments, {} files with {} rows; {} objects, {} bytes read; {} findings\n",
        seen.batches, seen.segments, seen.files, seen.rows, counts.read, counts.read_bytes, seen.wrong
    ));
    if seen.batches == 0 {
        say(format_args!("{}: no manifest is in it, or none of that time", store.url()));
    }
    Ok(seen.wrong == 0 && seen.batches > 0)
}

fn batch(
    args: &VerifyArgs,
    store: &Store,
    known: &Known,
    before: &mut Option<Segment>,
    seen: &mut Seen,
) -> Result<(), TiersError> {
    let name = known.batch.manifest();
    let manifest = match manifest(store, &known.batch) {
        Ok(manifest) => manifest,
        Err(why @ TiersError::Manifest { .. }) => {
            seen.wrong(&why.to_string());
            return Ok(());
        }
        // Only `tidy` left its mark: it removes the manifest last but one.
        Err(TiersError::Store(e)) if e.missing() => {
            seen.wrong(&format!("{name}: is missing, and something else of its batch is there"));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    seen.batches += 1;
    if manifest.batch != known.batch {
        seen.wrong(&format!("{name}: it is another batch's manifest"));
    }
    if manifest.unreadable > 0 {
        seen.wrong(&format!("{name}: {} records could not be read when it was exported", manifest.unreadable));
    }
    let expected: Vec<u64> = (known.batch.first..=known.batch.last).collect();
    if !manifest.segments.iter().map(|s| s.segment).eq(expected) {
        seen.wrong(&format!("{name}: it does not name each of its segments once"));
    }
    if args.quick {
        return quick(store, known, &manifest, seen);
    }
    for segment in &manifest.segments {
        segment_of(store, segment, before.as_ref(), seen)?;
        *before = Some(segment.clone());
    }
    if let Some(ids) = &manifest.ids {
        index(store, ids, seen)?;
    }
    if !known.cooled {
        files(store, &manifest, seen)?;
    }
    Ok(())
}

fn quick(store: &Store, known: &Known, manifest: &Manifest, seen: &mut Seen) -> Result<(), TiersError> {
    let mut wanted: Vec<(String, u64)> = manifest.segments.iter().map(|s| (s.name.clone(), s.bytes)).collect();
    seen.segments += wanted.len() as u64;
    wanted.extend(manifest.ids.iter().map(|ids| (ids.name.clone(), ids.bytes)));
    if !known.cooled {
        wanted.extend(manifest.files.iter().map(|f| (f.name.clone(), f.bytes)));
        seen.files += manifest.files.len() as u64;
        seen.rows += manifest.files.iter().map(|f| f.rows).sum::<u64>();
    }
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    for ((name, bytes), found) in wanted.into_iter().zip(store.sizes(&names)?) {
        match found {
            None => seen.wrong(&format!("{name}: is missing")),
            Some(found) if found != bytes => seen.wrong(&format!("{name}: {found} bytes, its manifest says {bytes}")),
            Some(_) => {}
        }
    }
    Ok(())
}

fn segment_of(store: &Store, segment: &Segment, before: Option<&Segment>, seen: &mut Seen) -> Result<(), TiersError> {
    let name = &segment.name;
    seen.segments += 1;
    let bytes = match archive::unpacked(store, segment) {
        Ok(bytes) => bytes,
        Err(TiersError::Object { name, why }) => {
            seen.wrong(&format!("{name}: {why}"));
            return Ok(());
        }
        Err(TiersError::Store(e)) if e.missing() => {
            seen.wrong(&format!("{name}: is missing"));
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut digester = Digester::default();
    digester.add(segment.segment, 0, &bytes);
    if digester.end() != segment.digest {
        seen.wrong(&format!("{name}: it is not what the segment after it vouches for"));
    }
    if segment.damages > 0 {
        seen.wrong(&format!("{name}: {} places in it could not be read when it was exported", segment.damages));
    }
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.segment != segment.segment => {
            seen.wrong(&format!("{name}: segment {} is in it", header.segment));
        }
        // The chain of the journal goes on in the archive.
        Ok(header) => {
            if let Some(before) = before.filter(|b| b.segment + 1 == segment.segment)
                && (header.previous.end, header.previous.digest) != (before.end, before.digest)
            {
                seen.wrong(&format!("{name}: another segment stood before it than {}", before.name));
            }
            if let Some(before) = before.filter(|b| b.segment + 1 < segment.segment) {
                seen.wrong(&format!("segments {} to {} are in no manifest", before.segment + 1, segment.segment - 1));
            }
        }
        Err(why) => seen.wrong(&format!("{name}: {why}")),
    }
    Ok(())
}

/// Of ids.
fn index(store: &Store, Ids { name, bytes, sha256, .. }: &Ids, seen: &mut Seen) -> Result<(), TiersError> {
    match store.get(name) {
        Ok(found) if found.len() as u64 == *bytes && super::sha256(&found) == *sha256 => {}
        Ok(_) => seen.wrong(&format!("{name}: it is not what was exported: its digest is another than its manifest's")),
        Err(e) if e.missing() => seen.wrong(&format!("{name}: is missing")),
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn files(store: &Store, manifest: &Manifest, seen: &mut Seen) -> Result<(), TiersError> {
    let names: Vec<String> = manifest.files.iter().map(|f| f.name.clone()).collect();
    let (mut wins, mut charge, mut freed) = (0u64, 0i128, 0i128);
    store.get_all(&names, |i, bytes| {
        let file = &manifest.files[i];
        seen.files += 1;
        match bytes {
            Err(e) if e.missing() => seen.wrong(&format!("{}: is missing", file.name)),
            Err(e) => return Err(TiersError::from(e)),
            Ok(bytes) => match rows_of(file, bytes) {
                Err(why) => seen.wrong(&format!("{}: {why}", file.name)),
                Ok((rows, of_charge, of_freed)) => {
                    seen.rows += rows;
                    if file.table == Table::Wins {
                        (wins, charge, freed) = (wins + rows, charge + of_charge, freed + of_freed);
                    }
                }
            },
        }
        Ok(())
    })?;
    let sum =
        |of: fn(&outcry::tiers::manifest::Sum) -> i64| manifest.sums.iter().map(|s| i128::from(of(s))).sum::<i128>();
    let said = (manifest.sums.iter().map(|s| s.wins).sum(), sum(|s| s.charge_nanos), sum(|s| s.freed_nanos));
    if said != (wins, charge, freed) {
        let name = manifest.batch.manifest();
        seen.wrong(&format!(
            "{name}: its sums {said:?} of wins, charges and what was freed are not those of its rows, {:?}",
            (wins, charge, freed)
        ));
    }
    Ok(())
}

/// Rows of a file, and what they add up to.
fn rows_of(file: &File, bytes: bytes::Bytes) -> Result<(u64, i128, i128), String> {
    let length = bytes.len() as u64;
    let rows = columns::read(bytes, &file.sha256, file.table.columns()).map_err(|e| e.to_string())?;
    if length != file.bytes {
        return Err(format!("{length} bytes, its manifest says {}", file.bytes));
    }
    let (mut charge, mut freed) = (0, 0);
    if file.table == Table::Wins {
        for row in 0..rows.len() {
            charge += i128::from(rows.int(at::CHARGE, row).unwrap_or(0));
            freed += i128::from(rows.int(at::FREED, row).unwrap_or(0));
        }
        if charge != i128::from(file.charge_nanos) {
            return Err(format!("its charges add up to {charge}, its manifest says {}", file.charge_nanos));
        }
    }
    if rows.len() as u64 != file.rows {
        return Err(format!("{} rows are in it, its manifest says {}", rows.len(), file.rows));
    }
    Ok((rows.len() as u64, charge, freed))
}

/// Objects that no manifest names: of an export that was cut off, or somebody's.
fn unnamed(store: &Store, all: &[(names::Batch, bool)], seen: &mut Seen) -> Result<(), TiersError> {
    let firsts: BTreeSet<(u32, u64)> = all.iter().map(|(b, _)| (b.node, b.first)).collect();
    let mut left = 0u64;
    for table in Table::ALL {
        for (name, _) in store.list(table.name(), None)? {
            match names::parse_part(&name) {
                Some(of) if firsts.contains(&of) => {}
                Some(_) => left += 1,
                None => seen.wrong(&format!("{name}: is none of ours")),
            }
        }
    }
    if left > 0 {
        out(&format!(
            "note:  {left} files of rows are in no manifest: of an export that was cut off; the next one names them\n"
        ));
    }
    Ok(())
}
