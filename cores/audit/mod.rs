//! `outcry audit`: what the journal holds, and whether it is what was written.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: writes into the directory, so it can be
//! used on one that an exchange is writing.
mod cat;
mod directory;
mod time;
mod verify;

use clap::{Args, Subcommand};
use std::{io, path::PathBuf, process::ExitCode};

/// What to look at, and how.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say whether every segment is there, in its place, as it was written: exit code 1 if not.
    Verify(Where),
    /// Print every frame that counts.
    Cat {
        #[command(flatten)]
        place: Where,
        /// Whole payloads in the table, instead of their first 32 bytes.
        #[arg(long)]
        full: bool,
    },
}

/// A journal.
#[derive(Args, Clone, Debug)]
struct Where {
    /// The journal's directory, or the `state_dir` it is in.
    dir: PathBuf,
    /// The node, in hexadecimal, where there are journals of several.
    #[arg(long, value_name = "HEX", value_parser = node)]
    node: Option<u32>,
    /// A JSON object a line instead of a table.
    #[arg(long)]
    json: bool,
}

fn node(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 16)
        .map_err(|_| "a node is up to eight hexadecimal digits, as in the file names".to_string())
}

/// Why it could not be looked at.
#[derive(Debug, thiserror::Error)]
enum AuditError {
    #[error("{path}: {source}. Name the journal's directory or the `state_dir` it is in, as a user who may read it")]
    Directory { path: PathBuf, source: io::Error },
    #[error(
        "{path}: no journal is here: no file journal-NODE-SEGMENT.log. Name the journal's directory or the `state_dir` it is in"
    )]
    None { path: PathBuf },
    #[error("{path}: journals of several nodes are here: choose one with --node: {nodes}")]
    Several { path: PathBuf, nodes: String },
    #[error("{path}: {source}. Is the disk failing? Copy the directory elsewhere and look at the copy")]
    Read { path: PathBuf, source: io::Error },
    /// Whoever reads has read enough.
    #[error("the output was closed")]
    Closed,
}

/// Does it. Failure: something is not as it should be, or cannot be looked at.
pub fn run(args: &AuditArgs) -> ExitCode {
    let done = match &args.command {
        Command::Verify(place) => verify::run(place),
        Command::Cat { place, full } => cat::run(place, *full),
    };
    match done {
        Ok(true) | Err(AuditError::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("outcry audit: {why}");
            ExitCode::FAILURE
        }
    }
}
