//! `outcry tiers tidy`: rows go when they have been kept long enough, years later the archive.
//! Owns: nothing. Called by: main, by a timer. Never: removes a batch's archive before its time, or while its manifest would still
//! be believed to have rows.
//!
//! A batch whose rows go is marked first, so that readers take its archive from then on; what a run that was cut off left
//! behind goes with the next one. Of a batch that goes altogether the manifest is last: until then the next run finds it.
use super::{
    Of, TiersError, listed, manifest, manifests, nodes, now_ms, say,
    store::{Put, Store},
};
use crate::{audit, out::out};
use bytes::Bytes;
use clap::Args;
use outcry::{
    record::when::utc,
    tiers::{
        manifest::Manifest,
        names::{self, Batch, Table},
        plan::{self, Days, Due, Known},
    },
};
use std::collections::BTreeSet;

#[derive(Args, Debug)]
pub(super) struct TidyArgs {
    #[command(flatten)]
    of: Of,
    /// How long rows are kept, in days after the last record of their batch.
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    warm_days: u64,
    /// How long the archive is kept.
    #[arg(long, value_name = "DAYS", default_value_t = super::export::COLD_DAYS)]
    cold_days: u64,
    /// Say what would go, and leave it.
    #[arg(long)]
    dry_run: bool,
    /// As if it were this moment, in the past.
    #[arg(long, value_name = "TIME", value_parser = audit::moment)]
    now: Option<u64>,
}

/// True: what had to go is gone.
pub(super) fn run(args: &TidyArgs) -> Result<bool, TiersError> {
    let store = Store::open(&args.of.url, false)?;
    let now = args.now.map_or(now_ms(), |now| now.min(now_ms()));
    let days = Days { warm: args.warm_days, cold: args.cold_days };
    let all = listed(&store, None)?;
    let (mut cooled, mut gone) = (0u64, 0u64);
    for node in nodes(&all, args.of.node) {
        let known = plan::known(all.clone(), node);
        if known.iter().any(|k| k.batch.to_ms > now) {
            say(format_args!(
                "node {node:08x}: its newest batch is of a time to come, so a clock is wrong: nothing goes"
            ));
            continue;
        }
        let due = plan::due(&known, days, now);
        for one in &due {
            let (batch, what) = match one {
                Due::Warm(batch) => (batch, "rows"),
                Due::All(batch) => (batch, "everything"),
            };
            say(format_args!(
                "segments {} to {} of node {node:08x}, until {}: {what}",
                batch.first,
                batch.last,
                utc(batch.to_ms)
            ));
            if args.dry_run {
                continue;
            }
            match one {
                Due::Warm(batch) => cool(&store, batch)?,
                Due::All(batch) => remove(&store, batch)?,
            }
        }
        cooled += due.iter().filter(|d| matches!(d, Due::Warm(_))).count() as u64;
        gone += due.iter().filter(|d| matches!(d, Due::All(_))).count() as u64;
        if !args.dry_run {
            left_behind(&store, &known, &due)?;
            accounts(&store, node, &known, &due)?;
        }
    }
    let would = if args.dry_run { "would go" } else { "went" };
    out(&format!("of {cooled} batches the rows {would}, of {gone} everything\n"));
    Ok(true)
}

fn files(manifest: &Manifest) -> Vec<String> {
    manifest.files.iter().map(|f| f.name.clone()).collect()
}

fn cool(store: &Store, batch: &Batch) -> Result<(), TiersError> {
    let names = files(&manifest(store, batch)?);
    let mark = Put { name: batch.cooled(), bytes: Bytes::from_static(b"\n"), hold: None, replaces: true };
    store.put(mark)?;
    Ok(store.delete_all(&names)?)
}

fn remove(store: &Store, batch: &Batch) -> Result<(), TiersError> {
    let manifest = manifest(store, batch)?;
    store.delete_all(&files(&manifest))?;
    let ids = manifest.ids.iter().map(|ids| ids.name.clone());
    let archived: Vec<String> = manifest.segments.iter().map(|s| s.name.clone()).chain(ids).collect();
    store.delete_all(&archived)?;
    store.delete_all(&[batch.cooled()])?;
    Ok(store.delete_all(&[batch.manifest()])?)
}

/// Rows of batches that were marked by a run that did not come to its end.
fn left_behind(store: &Store, known: &[Known], due: &[Due]) -> Result<(), TiersError> {
    let marked: Vec<&Batch> = known.iter().filter(|k| k.cooled).map(|k| &k.batch).collect();
    let marked: Vec<&Batch> =
        marked.into_iter().filter(|b| !due.iter().any(|d| matches!(d, Due::All(of) if of == *b))).collect();
    let (Some(node), Some(newest)) = (marked.first().map(|b| b.node), marked.iter().map(|b| b.to_ms).max()) else {
        return Ok(());
    };
    let firsts: BTreeSet<(u32, u64)> = marked.iter().map(|b| (node, b.first)).collect();
    let day = names::day(newest);
    for table in Table::ALL {
        for folder in store.folders(table.name())? {
            // Days that have rows at all are few: those that are kept.
            if folder.rsplit('=').next().is_none_or(|of| of > day.as_str()) {
                continue;
            }
            let all = store.list(&folder, None)?;
            let left: Vec<String> = all
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| names::parse_part(name).is_some_and(|of| firsts.contains(&of)))
                .collect();
            store.delete_all(&left)?;
        }
    }
    Ok(())
}

/// Names of accounts that no batch needs any more.
fn accounts(store: &Store, node: u32, known: &[Known], due: &[Due]) -> Result<(), TiersError> {
    let went = |batch: &Batch| due.iter().any(|d| matches!(d, Due::All(of) if of == batch));
    let Some(oldest) = known.iter().map(|k| &k.batch).find(|b| !went(b)) else { return Ok(()) };
    if !due.iter().any(|d| matches!(d, Due::All(_))) {
        return Ok(());
    }
    let Some(needed) = manifests(store, [oldest])?.pop().map(|m| m.accounts) else { return Ok(()) };
    let all = store.list("accounts", None)?;
    let of_node = format!("accounts/{node:08x}-");
    let left: Vec<String> = all
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(&of_node) && !needed.is_empty() && *name < needed)
        .collect();
    Ok(store.delete_all(&left)?)
}
