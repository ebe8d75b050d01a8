//! `outcry tiers`: what the journal had goes to an object store, is looked at there, and goes from there when its time is over.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: touches a journal's files (it tells
//! how far they are in a store, beside them: `exported`), or what the exchange keeps whole in `raw/`; removes what is younger than was said.
//!
//! What is where in a store, and why: `src/tiers/SPEC.md`. Only with the feature `tiers`: what it brings compiles longer than the
//! exchange.
pub(crate) mod archive;
pub mod columns;
pub(crate) mod export;
mod list;
pub mod lock;
pub mod store;
mod tidy;
mod verify;

pub(crate) use self::archive::Archive;
use self::store::{Store, StoreError};
use crate::{audit::Journal, planted};
use clap::{Args, Subcommand};
use outcry::tiers::{
    manifest::{Manifest, Unreadable},
    names::{Batch, MANIFESTS},
    plan::{self, Known},
};
use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

const EXIT_CODES: &str = "Exit codes: 0 done, and everything is as it should be; 1 done as far as it could be, and something is \
     damaged, missing or left out, which is named; 2 it could not be done.";

const URLS: &str = "A store is s3://BUCKET, s3://BUCKET/FOLDER or the path of a directory. S3 takes its keys from the environment: \
     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; AWS_ENDPOINT where it is not Amazon's, and AWS_ALLOW_HTTP=true where \
     that is no https.";

/// What to do with a store.
#[derive(Args, Debug)]
#[command(after_help = URLS)]
pub struct TiersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring what the journal has and the store has not: rows for ninety days, segments for seven years, a manifest of both.
    #[command(after_help = EXIT_CODES)]
    Export(export::ExportArgs),
    /// Print what is in the store: batches, and segments that are missing between them.
    #[command(after_help = EXIT_CODES)]
    List(list::ListArgs),
    /// Read everything and compare it with its manifests, digests and sums.
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Remove what has been kept long enough: rows first, the archive years later.
    #[command(after_help = EXIT_CODES)]
    Tidy(tidy::TidyArgs),
    /// Bring segments back from the archive into a directory, for `outcry audit` and `scripts/journal.py`.
    #[command(after_help = EXIT_CODES)]
    Fetch(archive::FetchArgs),
}

/// Which objects of a store.
#[derive(Args, Clone, Debug)]
struct Of {
    /// The store.
    url: String,
    /// The node, in hexadecimal; by default all.
    #[arg(long, value_name = "HEX", value_parser = crate::audit::node)]
    node: Option<u32>,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TiersError {
    #[error("{0}")]
    Journal(#[from] crate::audit::AuditError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{name}: {why}. `outcry tiers verify` says what else is wrong")]
    Manifest { name: String, why: Unreadable },
    #[error("{name}: {why}. `outcry tiers verify` says what else is wrong")]
    Object { name: String, why: String },
    #[error(
        "segments {first} to {last} were being exported together when the export before was cut off, and segment {missing} is missing now, or was exported as the last one. Export with --last again, or restore it; {begun} says what was begun"
    )]
    Gone { first: u64, last: u64, missing: u64, begun: String },
    #[error(
        "segments {first} to {last} hold {frames} requests or answers kept whole, which stay with their machine: nothing was exported"
    )]
    Raw { first: u64, last: u64, frames: u64 },
    #[error("rows cannot be written: {0}")]
    Rows(#[from] parquet::errors::ParquetError),
    #[error("{path}: {source}. Is there room, and may this user write here?")]
    Write { path: std::path::PathBuf, source: io::Error },
    #[error("journals of several nodes are in the store: choose one with --node: {0}")]
    Several(String),
    #[error("{0}: nothing of a journal is in this store")]
    Empty(String),
}

/// A line on standard error; if nobody reads that, nobody is to be told.
fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "outcry tiers: {what}");
}

/// Does it, and says how it went.
pub fn run(args: &TiersArgs) -> ExitCode {
    let done = match &args.command {
        Command::Export(args) => export::run(args),
        Command::List(args) => list::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Tidy(args) => tidy::run(args),
        Command::Fetch(args) => archive::run(args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(format_args!("{why}"));
            ExitCode::from(2)
        }
    }
}

/// Batches whose last frame is of this day or later, of all nodes; without a day all.
pub(crate) fn listed(store: &Store, since_ms: Option<u64>) -> Result<Vec<(Batch, bool)>, TiersError> {
    let from = since_ms.map(Batch::since);
    let names = store.list(MANIFESTS, from.as_deref())?;
    Ok(names.iter().filter_map(|(name, _)| Batch::parse(name)).collect())
}

/// The nodes of batches, or the one that was asked for.
pub(crate) fn nodes(listed: &[(Batch, bool)], wanted: Option<u32>) -> Vec<u32> {
    let mut all: Vec<u32> = listed.iter().map(|(b, _)| b.node).filter(|n| wanted.is_none_or(|w| w == *n)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The batches of a node, in order.
fn known(store: &Store, node: u32, since_ms: Option<u64>) -> Result<Vec<Known>, TiersError> {
    Ok(plan::known(listed(store, since_ms)?, node))
}

fn manifest(store: &Store, batch: &Batch) -> Result<Manifest, TiersError> {
    let name = batch.manifest();
    let bytes = store.get(&name)?;
    Manifest::read(&bytes).map_err(|why| TiersError::Manifest { name, why })
}

/// The manifests of batches, side by side.
pub(crate) fn manifests<'a>(
    store: &Store,
    batches: impl IntoIterator<Item = &'a Batch>,
) -> Result<Vec<Manifest>, TiersError> {
    let names: Vec<String> = batches.into_iter().map(Batch::manifest).collect();
    let mut all = Vec::with_capacity(names.len());
    store.get_all(&names, |at, bytes| {
        let read = Manifest::read(&bytes?).map_err(|why| TiersError::Manifest { name: names[at].clone(), why })?;
        all.push(read);
        Ok::<(), TiersError>(())
    })?;
    Ok(all)
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    outcry::tiers::sha256(bytes)
}

/// Milliseconds since 1970, now.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Ends the process here, if a test wants it: as a kill would, between two objects.
fn cut_off_here() {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);
    if !planted::planted(planted::Fault::ExportCutOff) {
        return;
    }
    if LEFT.load(Relaxed) == u64::MAX {
        let after = std::env::var("OUTCRY_TEST_AFTER").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        LEFT.store(after, Relaxed);
    }
    if LEFT.fetch_sub(1, Relaxed) == 0 {
        std::process::abort();
    }
}
