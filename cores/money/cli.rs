//! `outcry budget`: asks the exchange that runs here for its budgets, or to change them.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: opens the ledger: that is the exchange's.
use crate::out::out;
use clap::{Args, Subcommand};
use outcry::{config, record::show::json::Object};
use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// An exchange that does not answer within this is given up.
const PATIENCE: Duration = Duration::from_secs(15);
const EXIT_CODES: &str =
    "Exit codes: 0 done, or so already; 1 refused, with the reason; 2 the exchange could not be asked.";

/// Budgets of the exchange that runs here.
#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct BudgetArgs {
    /// Where its admin port is; else as the configuration says.
    #[arg(long, global = true)]
    admin: Option<SocketAddr>,
    /// Its configuration, to find the admin port; without it the default port of this machine.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Who asks, for the history; else the name of the user.
    #[arg(long, global = true)]
    who: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the accounts.
    List {
        /// From this number on.
        #[arg(long, default_value_t = 0)]
        from: u32,
        /// So many at most.
        #[arg(long, default_value_t = 1000)]
        most: u32,
    },
    /// Show an account.
    Show {
        /// Its name.
        account: String,
    },
    /// Show what was changed of an account, the latest first.
    History {
        /// Its name.
        account: String,
        /// So many changes at most.
        #[arg(long, default_value_t = 100)]
        most: u32,
    },
    /// Add an advertiser or, with --advertiser and --dsp, a campaign.
    Add {
        /// Its name.
        account: String,
        /// Whose campaign it is.
        #[arg(long, requires = "dsp")]
        advertiser: Option<String>,
        /// The DSP that bids for it, by its configured name.
        #[arg(long, requires = "advertiser")]
        dsp: Option<String>,
        /// The seat of its bids (`seatbid.seat`).
        #[arg(long, requires = "dsp")]
        seat: Option<String>,
        /// The campaign of its bids (`bid.cid`).
        #[arg(long, requires = "dsp")]
        cid: Option<String>,
        #[command(flatten)]
        limits: Limits,
    },
    /// Set limits, time zone or pacing of an account; what is not said stays.
    Set {
        /// Its name.
        account: String,
        #[command(flatten)]
        limits: Limits,
    },
    /// Let an account buy nothing until it is resumed.
    Pause {
        /// Its name.
        account: String,
    },
    /// Let an account buy again.
    Resume {
        /// Its name.
        account: String,
    },
    /// Let an account buy nothing any more, for good.
    End {
        /// Its name.
        account: String,
    },
    /// Add to today's budget, or to the lifetime budget.
    TopUp {
        /// Its name.
        account: String,
        /// How much.
        amount: String,
        /// More in all, instead of more today.
        #[arg(long)]
        lifetime: bool,
        /// What the amount is in; else the accounting currency.
        #[arg(long)]
        currency: Option<String>,
    },
}

#[derive(Args, Debug)]
struct Limits {
    /// What a day may cost.
    #[arg(long)]
    daily: Option<String>,
    /// What an hour may cost, or `none`.
    #[arg(long)]
    hourly: Option<String>,
    /// What all may cost, or `none`.
    #[arg(long)]
    lifetime: Option<String>,
    /// What the amounts are in; else the accounting currency.
    #[arg(long)]
    currency: Option<String>,
    /// Where its days begin: an IANA name such as Europe/Berlin.
    #[arg(long)]
    zone: Option<String>,
    /// How it spreads a day's budget: asap or even.
    #[arg(long)]
    pacing: Option<String>,
}

/// Asks, prints the answer, and says how that ended.
pub fn run(args: &BudgetArgs) -> ExitCode {
    match asked(args) {
        Ok((200, body)) => {
            out(&body);
            ExitCode::SUCCESS
        }
        Ok((_, body)) => {
            eprint!("outcry budget: {body}");
            ExitCode::from(1)
        }
        Err(why) => {
            eprintln!("outcry budget: {why}");
            ExitCode::from(2)
        }
    }
}

fn asked(args: &BudgetArgs) -> Result<(u16, String), String> {
    ask(address(args.admin, args.config.as_deref())?, &request(args))
}

/// Where the admin port is: there, or where the configuration says.
///
/// # Errors
/// Why the configuration does not say.
pub(crate) fn address(admin: Option<SocketAddr>, config: Option<&Path>) -> Result<SocketAddr, String> {
    if let Some(address) = admin {
        return Ok(address);
    }
    let text = match config {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
    };
    let config = config::load(&text, 1)
        .map_err(|mistakes| mistakes.iter().map(|m| m.to_string()).collect::<Vec<_>>().join("\n"))?;
    Ok(config.admin)
}

/// The whole request, as bytes of HTTP.
fn request(args: &BudgetArgs) -> String {
    let format = if args.json { "json" } else { "table" };
    let get = |path: String| {
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("GET {path}{joint}format={format} HTTP/1.1\r\nhost: outcry\r\nconnection: close\r\n\r\n")
    };
    match &args.command {
        Command::List { from, most } => get(format!("/budget/accounts?from={from}&most={most}")),
        Command::Show { account } => get(format!("/budget/accounts/{}", escaped(account))),
        Command::History { account, most } => get(format!("/budget/accounts/{}/history?most={most}", escaped(account))),
        _ => {
            let body = body(args);
            let length = body.len();
            format!(
                "POST /budget/operations?format={format} HTTP/1.1\r\nhost: outcry\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
        }
    }
}

/// Names of accounts need no escapes; what is none must not become another request.
fn escaped(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '!' }).collect()
}

fn body(args: &BudgetArgs) -> String {
    let mut out = String::new();
    let user = || std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    let who = args.who.clone().unwrap_or_else(user);
    Object::write(&mut out, |o| {
        let text = |o: &mut Object<'_>, name: &str, value: &Option<String>| {
            if let Some(value) = value {
                o.text(name, value.as_bytes());
            }
        };
        let limits = |o: &mut Object<'_>, limits: &Limits| {
            text(o, "daily", &limits.daily);
            for (name, value) in [("hourly", &limits.hourly), ("lifetime", &limits.lifetime)] {
                match value.as_deref() {
                    Some("none") => o.json(name, "null"),
                    _ => text(o, name, value),
                }
            }
            text(o, "currency", &limits.currency);
            text(o, "zone", &limits.zone);
            text(o, "pacing", &limits.pacing);
        };
        let begin = |o: &mut Object<'_>, deed: &str, account: &str| {
            o.text("account", account.as_bytes());
            o.word("do", deed);
        };
        match &args.command {
            Command::Add { account, advertiser, dsp, seat, cid, limits: given } => {
                begin(o, if advertiser.is_some() { "add_campaign" } else { "add_advertiser" }, account);
                for (name, value) in [("advertiser", advertiser), ("dsp", dsp), ("seat", seat), ("cid", cid)] {
                    text(o, name, value);
                }
                limits(o, given);
            }
            Command::Set { account, limits: given } => {
                begin(o, "set", account);
                limits(o, given);
            }
            Command::TopUp { account, amount, lifetime, currency } => {
                begin(o, "top_up", account);
                o.word("of", if *lifetime { "lifetime" } else { "today" });
                o.text("amount", amount.as_bytes());
                text(o, "currency", currency);
            }
            Command::Pause { account } => begin(o, "pause", account),
            Command::Resume { account } => begin(o, "resume", account),
            Command::End { account } => begin(o, "end", account),
            Command::List { .. } | Command::Show { .. } | Command::History { .. } => {}
        }
        o.some_text("who", who.as_bytes());
    });
    out
}

/// Asks an exchange's admin port for a path: status and body.
///
/// # Errors
/// Why nobody answered, and what to do next.
pub(crate) fn fetch(address: SocketAddr, path: &str) -> Result<(u16, String), String> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: outcry\r\nconnection: close\r\n\r\n"))
}

/// Asks it anything, as bytes of HTTP: the answer's status and body.
///
/// # Errors
/// Why nobody answered, and what to do next.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Result<(u16, String), String> {
    let answer = exchange(address, request).map_err(|e| {
        format!("{address}: {e}. Is the exchange running, and is that its `admin`? Name it with --config or --admin")
    })?;
    parsed(&answer).ok_or_else(|| format!("{address} did not answer as an exchange does; is that its `admin`?"))
}

fn exchange(address: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body.
fn parsed(answer: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use outcry::budget::{
        manage::{Act, Changes},
        request::parse,
        tree::Pacing,
    };
    use outcry::units::Money;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        budget: BudgetArgs,
    }

    fn args(line: &str) -> BudgetArgs {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}")).budget
    }

    #[test]
    fn what_is_said_is_what_is_asked_for() {
        let sent = |line: &str| {
            let request = request(&args(line));
            let (head, body) = request.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("POST /budget/operations?format=table HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            parse(body.as_bytes()).unwrap_or_else(|e| panic!("{body}: {e}"))
        };
        let set = sent("budget set summer --daily 250.50 --hourly none --pacing even --currency EUR --who ann");
        let changes = Changes {
            daily: Some(Money(250_500_000_000)),
            hourly: Some(None),
            pacing: Some(Pacing::Even),
            ..Changes::default()
        };
        assert_eq!((set.account.as_str(), set.who.as_str(), set.act), ("summer", "ann", Act::Set(changes)));
        assert!(matches!(sent("budget add acme --daily 1").act, Act::AddAdvertiser(_)));
        assert!(matches!(sent("budget add x --advertiser a --dsp d --cid c --daily 1").act, Act::AddCampaign { .. }));
        assert_eq!(sent("budget top-up x 5").act, Act::TopUpToday(Money(5_000_000_000)));
        assert_eq!(sent("budget top-up x 5 --lifetime").act, Act::TopUpLifetime(Money(5_000_000_000)));
        for (line, act) in [("pause", Act::Pause), ("resume", Act::Resume), ("end", Act::End)] {
            assert_eq!(sent(&format!("budget {line} x")).act, act);
        }
        assert!(Cli::try_parse_from("budget add x --seat s --daily 1".split(' ')).is_err());
    }

    #[test]
    fn nothing_that_is_asked_for_becomes_another_request() {
        let get = request(&args("budget --json show a/../b"));
        assert!(get.starts_with("GET /budget/accounts/a!..!b?format=json HTTP/1.1\r\n"), "{get}");
        let list = request(&args("budget list --from 7"));
        assert!(list.starts_with("GET /budget/accounts?from=7&most=1000&format=table HTTP/1.1\r\n"), "{list}");
        assert_eq!(parsed(b"HTTP/1.1 404 Not Found\r\nx: y\r\n\r\nno\n"), Some((404, "no\n".into())));
        assert_eq!(parsed(b"SSH-2.0"), None);
    }
}
