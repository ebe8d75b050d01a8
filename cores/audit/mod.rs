//! `outcry audit`: what the journal holds, whether it is what was written, and whether it follows from itself.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: changes a segment or a checkpoint, so it
//! can be used on a directory that an exchange is writing; `request` and `replay` add indices that are missing.
mod advertiser;
mod billed;
#[cfg(feature = "tiers")]
mod by_id;
mod cat;
mod csv;
mod dead;
mod directory;
mod find;
mod frames;
mod invoice;
mod kafka;
mod names;
mod notices;
mod opened;
mod outcome;
mod progress;
mod range;
mod raw;
mod reconcile;
mod replay;
mod request;
mod sources;
mod verify;
mod walk;

#[cfg(feature = "tiers")]
pub(crate) use self::directory::Journal;
pub use self::notices::{NoticesArgs, run as run_notices};
pub(crate) use self::range::Range;
use clap::{Args, Subcommand};
use std::{
    fmt,
    io::{self, BufWriter, StdoutLock, Write},
    path::PathBuf,
    process::ExitCode,
};

const EXIT_CODES: &str = "Exit codes: 0 everything is as it should be, and what was asked for is there; 1 it was looked \
     at, and something is damaged, missing, not found or decided otherwise, which is named; 2 it could not be looked at. \
     Standard output has the answer, standard error what is wrong and how far a long reading has come.";

/// What to look at, and how.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say whether every segment is there, in its place, as it was written.
    #[command(after_help = EXIT_CODES)]
    Verify(verify::VerifyArgs),
    /// Print every frame that counts.
    #[command(after_help = EXIT_CODES)]
    Cat(cat::CatArgs),
    /// Print all that is known of a request: the auction, how its answer was delivered, what came later.
    #[command(after_help = EXIT_CODES)]
    Request(request::RequestArgs),
    /// Print what an advertiser won, what came of each win, and what it is billed.
    #[command(after_help = EXIT_CODES)]
    Advertiser(advertiser::AdvertiserArgs),
    /// Print what a month comes to, for every advertiser and campaign; with --lines each win behind it.
    #[command(after_help = EXIT_CODES)]
    Invoice(invoice::InvoiceArgs),
    /// Decide recorded auctions again, from their records alone.
    #[command(after_help = EXIT_CODES)]
    Replay(replay::ReplayArgs),
    /// Compare what the ledger says was spent of budgets on a day with what the records say.
    #[command(after_help = EXIT_CODES)]
    Reconcile(reconcile::ReconcileArgs),
    /// Print a request and its answers as they were kept whole.
    #[command(after_help = EXIT_CODES)]
    Raw(raw::RawArgs),
    /// Compare Kafka's topics with what they are to be, or make them so.
    #[command(after_help = EXIT_CODES)]
    Topics(kafka::TopicsArgs),
    /// List the dead letters in Kafka, or send them once more.
    #[command(after_help = EXIT_CODES)]
    Dead(dead::DeadArgs),
}

/// A journal.
#[derive(Args, Clone, Debug)]
pub(crate) struct Where {
    /// The journal's directory, or the `state_dir` it is in.
    pub(crate) dir: PathBuf,
    /// The node, in hexadecimal, where there are journals of several.
    #[arg(long, value_name = "HEX", value_parser = node)]
    pub(crate) node: Option<u32>,
    /// A JSON object a line instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A node as it is written.
pub(crate) fn node(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16)
        .map_err(|_| "a node is up to eight hexadecimal digits, as in the file names".to_string())
}

/// A moment as it is written, or the end of a day; milliseconds since 1970.
#[cfg(feature = "tiers")]
pub(crate) fn moment(text: &str) -> Result<u64, String> {
    range::to(text)
}

/// Why it could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    #[error("{path}: {source}. Name the journal's directory or the `state_dir` it is in, as a user who may read it")]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "{path}: no journal is here: no file journal-NODE-SEGMENT.log. Name the journal's directory or the `state_dir` it is in"
    )]
    None { path: PathBuf },
    #[error("{path}: journals of several nodes are here: choose one with --node: {nodes}")]
    Several { path: PathBuf, nodes: String },
    #[error("{path}: {source}. Name the directory of the kept requests and answers, or the `state_dir` it is in")]
    RawDirectory { path: PathBuf, source: io::Error },
    #[error("{path}: {source}. Is the disk failing? Copy the directory elsewhere and look at the copy")]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Ledger(String),
    #[error("{0}")]
    Exchange(String),
    #[error("{0}")]
    Account(String),
    #[cfg(feature = "tiers")]
    #[error("{0}")]
    Tiers(String),
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    /// Whoever reads has read enough.
    #[error("the output was closed")]
    Closed,
}

/// Where a frame is.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    block: u64,
    offset: u64,
}

/// Standard output.
struct Out(BufWriter<StdoutLock<'static>>);

impl Out {
    fn new() -> Out {
        Out(BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }

    fn text(&mut self, text: &str) -> Result<(), AuditError> {
        self.0.write_all(text.as_bytes()).map_err(failed)
    }

    fn end(mut self) -> Result<(), AuditError> {
        self.0.flush().map_err(failed)
    }
}

fn failed(e: io::Error) -> AuditError {
    if e.kind() == io::ErrorKind::BrokenPipe { AuditError::Closed } else { AuditError::Output(e) }
}

/// A line on standard error; if nobody reads that, nobody is to be told.
fn say(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "outcry audit: {what}");
}

/// Does it, and says how it went.
pub fn run(args: &AuditArgs) -> ExitCode {
    let done = match &args.command {
        Command::Verify(args) => verify::run(args),
        Command::Cat(args) => cat::run(args),
        Command::Request(args) => request::run(args),
        Command::Advertiser(args) => advertiser::run(args),
        Command::Invoice(args) => invoice::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Reconcile(args) => reconcile::run(args),
        Command::Raw(args) => raw::run(args),
        Command::Topics(args) => kafka::topics(args),
        Command::Dead(args) => dead::run(args),
    };
    report(done)
}

fn report(done: Result<bool, AuditError>) -> ExitCode {
    match done {
        Ok(true) | Err(AuditError::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(format_args!("{why}"));
            ExitCode::from(2)
        }
    }
}
