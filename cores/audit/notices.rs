//! `outcry notices`: DSPs that could not be told, and once more.
//! Owns: nothing. Called by: main. Never: tells anybody itself: the exchange that runs here does.
use super::{AuditError, Out, Range, Where, directory::Journal, report, say, walk};
use crate::money::cli::{address, ask};
use clap::{Args, Subcommand};
use outcry::{
    notice::told::{End, Name, Notice, Told},
    record::{frame::Kind, show::json::Object, when},
};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, process::ExitCode};

const EXIT_CODES: &str = "Exit codes: 0 done; 1 some of the journal cannot be read, or the exchange refused some; 2 it could not be \
     looked at, or the exchange could not be asked.";

/// DSPs that could not be told of a notice.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct NoticesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the dead letters: notices whose DSP could not be told, and why.
    #[command(after_help = EXIT_CODES)]
    Dead(DeadArgs),
    /// Have the exchange that runs here tell these DSPs once more.
    #[command(after_help = EXIT_CODES)]
    Replay(ReplayArgs),
}

#[derive(Args, Debug)]
struct DeadArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    range: Range,
    /// Only those that ended so, separated by commas: refused, gave_up, no_room, no_host.
    #[arg(long, value_name = "END", value_delimiter = ',', value_parser = end)]
    end: Vec<End>,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    #[command(flatten)]
    which: DeadArgs,
    /// Where the exchange's admin port is; else as the configuration says.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Its configuration, to find the admin port; without it the default port of this machine.
    #[arg(long)]
    config: Option<PathBuf>,
}

fn end(text: &str) -> Result<End, String> {
    let dead = || End::ALL.into_iter().filter(|end| *end != End::Done);
    dead().find(|end| end.name() == text).ok_or_else(|| {
        let names: Vec<&str> = dead().map(End::name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// A dead letter.
struct Dead {
    told: Told,
    at_ms: u64,
    url: Vec<u8>,
}

/// In the order of their ends. A notice that was told later is none.
fn dead(args: &DeadArgs) -> Result<(Vec<Dead>, bool), AuditError> {
    let mut journal = Journal::open(&args.place)?;
    let mut found: BTreeMap<Name, Dead> = BTreeMap::new();
    // To the end whatever the range is: what was dead in it may have been told since.
    let mut whole = walk::frames(&mut journal, Range::default(), &mut |_, frame| {
        let told = Told::decode(frame.payload()).ok().filter(|_| frame.kind() == Some(Kind::Told));
        match told {
            Some(told) if told.end == End::Done => drop(found.remove(&told.name)),
            Some(told) if args.range.holds(frame.header.hlc) => {
                let dead = Dead { told, at_ms: frame.header.hlc >> 16, url: Vec::new() };
                found.insert(told.name, dead);
            }
            Some(_) | None => {}
        }
        Ok(())
    })?;
    found.retain(|_, dead| args.end.is_empty() || args.end.contains(&dead.told.end));
    if !found.is_empty() {
        // The notice came before its end, however long.
        whole &= walk::frames(&mut journal, Range::default(), &mut |_, frame| {
            if frame.kind() == Some(Kind::Notice)
                && let Ok(notice) = Notice::decode(frame.payload())
                // The first counts, whatever was said of the price in those that followed.
                && let Some(dead) = found.get_mut(&notice.name).filter(|dead| dead.url.is_empty() && !notice.expired)
            {
                dead.url = notice.url.to_vec();
            }
            Ok(())
        })?;
    }
    let mut dead: Vec<Dead> = found.into_values().collect();
    dead.sort_by_key(|dead| dead.at_ms);
    Ok((dead, whole))
}

fn as_json(dead: &Dead, out: &mut String) {
    let Told { name, end, attempts, .. } = dead.told;
    Object::write(out, |o| {
        o.word("at", when::utc(dead.at_ms));
        o.word("notice", name.kind.name());
        o.word("bidid", name.event);
        o.number("imp", name.imp);
        o.word("end", end.name());
        o.some_number("status", dead.told.answered());
        if let Some(why) = dead.told.failed() {
            o.word("failed", why.name());
        }
        o.number("attempts", attempts);
        o.text("url", &dead.url);
    });
}

/// What its last call came to: a status, or why there is none.
pub(super) fn last(told: &Told) -> Option<String> {
    told.answered().map(|status| status.to_string()).or_else(|| told.failed().map(|why| why.name().to_owned()))
}

fn as_row(dead: &Dead) -> String {
    let Told { name, end, attempts, .. } = dead.told;
    let status = last(&dead.told).unwrap_or_else(|| "-".to_owned());
    let (at, kind, url) = (when::utc(dead.at_ms), name.kind.name(), String::from_utf8_lossy(&dead.url));
    format!("{at:<24} {kind:<6} {} {:>3} {:<8}{status:>16}{attempts:>9}  {url}\n", name.event, name.imp, end.name())
}

fn list(args: &DeadArgs) -> Result<bool, AuditError> {
    let (dead, whole) = dead(args)?;
    let mut out = Out::new();
    if args.place.json {
        for dead in &dead {
            let mut line = String::new();
            as_json(dead, &mut line);
            out.text(&(line + "\n"))?;
        }
    } else if dead.is_empty() {
        out.text("no dead letters\n")?;
    } else {
        out.text(&format!(
            "{:<24} {:<6} {:<36} {:>3} {:<8}{:>16}{:>9}  url\n",
            "when", "notice", "bidid", "imp", "end", "status", "attempts"
        ))?;
        dead.iter().try_for_each(|dead| out.text(&as_row(dead)))?;
    }
    out.end()?;
    Ok(whole)
}

fn replay(args: &ReplayArgs) -> Result<bool, AuditError> {
    let (dead, mut whole) = dead(&args.which)?;
    let admin = address(args.admin, args.config.as_deref()).map_err(AuditError::Exchange)?;
    let (mut asked, all) = (0, dead.len());
    for dead in &dead {
        let mut body = String::new();
        as_json(dead, &mut body);
        let request = format!(
            "POST /notices/replay HTTP/1.1\r\nhost: outcry\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        match ask(admin, &request).map_err(AuditError::Exchange)? {
            (200, _) => asked += 1,
            (status, why) => {
                say(format_args!(
                    "{} {}: {status} {}",
                    dead.told.name.kind.name(),
                    dead.told.name.event,
                    why.trim_end()
                ));
                whole = false;
            }
        }
    }
    let mut out = Out::new();
    out.text(&format!("{asked} of {all} dead letters are tried again\n"))?;
    out.end()?;
    Ok(whole)
}

/// Runs `outcry notices`.
pub fn run(args: &NoticesArgs) -> ExitCode {
    report(match &args.command {
        Command::Dead(args) => list(args),
        Command::Replay(args) => replay(args),
    })
}
