//! `outcry check`: every mistake of a configuration, or the plan that would run.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: listens, connects, pins.
use crate::{
    bidder::{ring, turn},
    io_probe,
    out::out,
    topology,
};
use outcry::{
    budget::{core::Unbudgeted, file::apply_file, manage::Known, tree::Tree},
    config::{self, Config, Durability, IoDriver, plan::Plan},
    limits,
};
use std::{fmt::Write, fs, path::Path, process::ExitCode};

/// What an auction in flight holds besides its request: views, lists, bids, the decision record; see
/// [`limits::AUCTIONS_DEFAULT`].
const AUCTION_BYTES: u64 = 16 * 1024;
/// A client connection between requests: its state, and the answers on their way out. Bytes are received into the ring's
/// own buffers.
const CLIENT_BYTES: u64 = 2 * 1024;
/// A connection to a DSP between auctions: the same.
const DSP_CONNECTION_BYTES: u64 = 2 * 1024;
/// The rings of one core: 64 bytes a submission, 16 a completion.
const RING_BYTES: u64 = ring::BYTES;

/// Checks the file at `path`, and the file of budgets that it names, prints what is found, and says how that ended: success when
/// it would run here.
/// `explain` adds the reason of each decision, and what each CPU does and why.
pub fn run(path: &Path, explain: bool) -> ExitCode {
    let loaded = load(path).and_then(|(config, plan)| Ok((budgets(&config)?, config, plan)));
    let (budgets, config, mut plan) = match loaded {
        Ok(loaded) => loaded,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return ExitCode::FAILURE;
        }
    };
    if !explain {
        plan.reasons.retain(|r| r.starts_with("warning"));
    }
    let (line, runs) = driver(config.io_driver, &io_probe::probe());
    let explained = if explain { format!("\n{}", plan.explanation) } else { String::new() };
    out(&format!("{}{budgets}{explained}\nio        {line}\n", render(&config, &plan)));
    if runs { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The configuration at `path` and the plan that would run here.
///
/// # Errors
/// Why there is none, in lines for the operator.
pub fn load(path: &Path) -> Result<(Config, Plan), Vec<String>> {
    let of_file = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|error| vec![of_file(&format!("cannot be read: {error}"))])?;
    let config = config::load(&text, 1).map_err(|mistakes| {
        let count = format!("{} mistake{}", mistakes.len(), if mistakes.len() == 1 { "" } else { "s" });
        mistakes.iter().map(|m| of_file(m)).chain([of_file(&count)]).collect::<Vec<_>>()
    })?;
    let plan = config::plan::plan(&topology::machine(), &config.cpus).map_err(|error| vec![of_file(&error)])?;
    Ok((config, plan))
}

/// What is said of budgets: the file's are tried on an empty ledger, as what the exchange has is not to be read while it runs.
///
/// # Errors
/// What is wrong with the file of budgets, in lines for the operator.
fn budgets(config: &Config) -> Result<String, Vec<String>> {
    let mut text = format!("\nbudgets: {}\n", config.state_dir.join("ledger.redb").display());
    if let Some(path) = &config.budget.file {
        let of_file = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let read = fs::read_to_string(path).map_err(|error| vec![of_file(&format!("cannot be read: {error}"))])?;
        let now_ms = turn::now().unix_ms();
        let (mut tree, known) = (Tree::default(), Known { rates: &config.rates, dsps: &config.dsps, now_ms });
        apply_file(&mut tree, &read, &known)
            .map_err(|mistakes| mistakes.iter().map(|m| of_file(m)).collect::<Vec<_>>())?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} accounts in {}, set at the start and at each reload", tree.len(), path.display());
    }
    for dsp in &config.dsps {
        let what = match (&dsp.default_account, dsp.unbudgeted) {
            (Some(account), _) => format!("are paid by account \"{account}\""),
            (None, Some(Unbudgeted::Allow)) => "are not limited".to_owned(),
            (None, Some(Unbudgeted::Refuse)) => "are refused".to_owned(),
            (None, None) => "are not limited until an account names the DSP, then refused".to_owned(),
        };
        let _ = writeln!(text, "  bids of {} that name no account {what}", dsp.name);
    }
    Ok(text)
}

/// What would carry the bytes, and whether the exchange would start.
fn driver(wanted: IoDriver, probed: &Result<(), io_probe::Forbidden>) -> (String, bool) {
    match (wanted, probed) {
        (IoDriver::Epoll, _) => ("epoll, as io_driver says".to_owned(), true),
        (_, Ok(())) => ("io_uring".to_owned(), true),
        (IoDriver::Auto, Err(why)) => (format!("epoll, which is slower; warning: {why}"), true),
        (IoDriver::IoUring, Err(why)) => (format!("none: io_driver = \"io_uring\" and {why}"), false),
    }
}

/// The plan that would run: cores, memory, pools, listeners.
pub fn render(config: &Config, plan: &Plan) -> String {
    let mut out = plan.to_string();
    // Writing to a String cannot fail.
    let _ = listeners(config, &mut out);
    let _ = pools(config, plan, &mut out);
    let _ = memory(config, plan, &mut out);
    let _ = files(config, plan, &mut out);
    let _ = journal(config, &mut out);
    out
}

fn records(config: &Config) -> bool {
    config.record.durability != Durability::None
}

fn journal(config: &Config, out: &mut String) -> std::fmt::Result {
    let (rules, dir) = (&config.record, config.state_dir.join("journal"));
    if !records(config) {
        return writeln!(out, "\nno records are kept: record.durability = \"none\"");
    }
    let most = size(rules.keep_bytes.saturating_add(2 * rules.segment_bytes));
    writeln!(out, "\njournal: {}, {} days or {most}, whichever comes first", dir.display(), rules.keep_days)?;
    let Some(kafka) = &config.kafka else { return Ok(()) };
    let brokers: Vec<String> = kafka.brokers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
    let (tls, most) = (if kafka.tls { ", TLS" } else { "" }, size(kafka.bytes_per_s));
    writeln!(
        out,
        "  sent to Kafka at {}{tls}, topics {}*, at most {most} a second; what it has not acknowledged stays, however old",
        brokers.join(", "),
        kafka.prefix
    )
}

fn listeners(config: &Config, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nlisteners")?;
    for exchange in &config.exchanges {
        writeln!(out, "  {:<33}POST http://{}{}", exchange.name, config.listen, exchange.path)?;
    }
    writeln!(out, "  {:<33}http://{}", "admin", config.admin)
}

fn pools(config: &Config, plan: &Plan, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\nDSP pools, connections of all bidder cores")?;
    if config.dsps.is_empty() {
        return writeln!(out, "  none: every answer will be \"no bid\"");
    }
    let cores = plan.bidders.len();
    writeln!(out, "  {:<33}{:>8}{:>8}{:>10}  endpoint", "name", "warm", "most", "timeout")?;
    for dsp in &config.dsps {
        let host = if dsp.host.contains(':') { format!("[{}]", dsp.host) } else { dsp.host.clone() };
        let (warm, most, ms) = (dsp.warm * cores, dsp.connections * cores, dsp.timeout_ms);
        writeln!(out, "  {:<33}{warm:>8}{most:>8}{ms:>7} ms  http://{host}:{}{}", dsp.name, dsp.port, dsp.path)?;
    }
    Ok(())
}

fn memory(config: &Config, plan: &Plan, out: &mut String) -> std::fmt::Result {
    let http = &config.http;
    let pools = config.dsp_connections();
    // A core asks so many DSPs at once at most; each of them may answer at its longest.
    let mut answers: Vec<usize> = config.dsps.iter().map(|d| d.answer_bytes).collect();
    answers.sort_unstable_by(|a, b| b.cmp(a));
    let answers: usize = answers.iter().take(limits::ASKED_MAX).sum();
    // A ring that nobody writes to is no memory.
    let kept_whole = u64::from(config.raw.one_in > 0);
    let terms = [
        ("auctions", http.auctions as u64, AUCTION_BYTES),
        ("client connections", http.connections as u64, CLIENT_BYTES),
        ("DSP connections", pools as u64, DSP_CONNECTION_BYTES),
        ("io_uring", 1, RING_BYTES),
        ("black box, on a tmpfs", u64::from(records(config)), config.record.box_bytes),
        ("requests and answers kept whole", kept_whole, limits::RAW_RING_BYTES as u64),
    ];
    let sum = |terms: &[(&str, u64, u64)]| terms.iter().map(|t| t.1 * t.2).sum::<u64>();
    let cores = plan.bidders.len() as u64;
    writeln!(out, "\nmemory of one bidder core with all its limits reached")?;
    let line = |out: &mut String, (what, count, bytes): (&str, u64, u64)| {
        writeln!(out, "  {what:<33}{count:>8} x {:>9} = {:>9}", size(bytes), size(count * bytes))
    };
    terms.iter().filter(|t| t.1 > 0).try_for_each(|t| line(out, *t))?;
    let steady = sum(&terms);
    writeln!(out, "  {:<33}{:>8}   {:>9} = {:>9}", "one core", "", "", size(steady))?;
    writeln!(out, "  {:<33}{cores:>8} x {:>9} = {:>9}", "all bidder cores", size(steady), size(cores * steady))?;
    // Only an attack or a very strange day comes near; it is what the limits promise. Who sends slowly holds what he sent
    // without an auction.
    let request = (http.head_bytes + http.body_bytes) as u64;
    let longest_answer = config.dsps.iter().map(|d| d.answer_bytes + limits::ANSWER_HEAD_BYTES).max().unwrap_or(0);
    let longest = [
        ("requests being received", http.connections as u64, request),
        ("answers being received", pools as u64, longest_answer as u64),
        ("requests of auctions", http.auctions as u64, request),
        ("answers of auctions", http.auctions as u64, answers as u64),
        ("answers that clients do not take", 1, limits::UNTAKEN_BYTES_MAX as u64),
    ];
    writeln!(out, "and on top, if every message were at its limit")?;
    longest.iter().try_for_each(|t| line(out, *t))?;
    let worst = steady + sum(&longest);
    writeln!(out, "  {:<33}{cores:>8} x {:>9} = {:>9}", "all bidder cores", size(worst), size(cores * worst))
}

/// Files that a process with so many bidder cores opens at most. Sockets are files: the usual soft limit of 1,024 is less
/// than one core may open.
pub fn open_files(config: &Config, cores: usize) -> u64 {
    // Per core its listener, ring, event and timer; for the process logs, admin clients, journal.
    let (core, process) = (8, 128);
    let pools = config.dsp_connections();
    (cores * (config.http.connections + limits::CLIENTS_LEAVING_MAX + pools + core) + process) as u64
}

fn files(config: &Config, plan: &Plan, out: &mut String) -> std::fmt::Result {
    let files = open_files(config, plan.bidders.len());
    writeln!(out, "\nopen files at most: {files} (`ulimit -n`, LimitNOFILE= in the unit)")
}

/// Bytes with a unit, one decimal below ten.
fn size(bytes: u64) -> String {
    let mut unit = (1, "B");
    for next in [(1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB"), (1 << 40, "TiB")] {
        if bytes >= next.0 {
            unit = next;
        }
    }
    let tenths = (bytes % unit.0) * 10 / unit.0;
    match bytes / unit.0 {
        whole if whole < 10 && tenths > 0 => format!("{whole}.{tenths} {}", unit.1),
        whole => format!("{whole} {}", unit.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use outcry::config::plan::{Cpu, Topology, plan};

    const TEXT: &str = r#"
[http]
auctions = 1024
[[exchange]]
name = "publisher-one"
path = "/one"
[[exchange]]
name = "publisher-two"
path = "/two"
[[dsp]]
name = "rich"
url = "http://rich.example/bid?v=2"
[[dsp]]
name = "near"
url = "http://[::1]:9001/"
timeout_ms = 30
warm = 2
connections = 64
answer_bytes = 65536
"#;

    fn planned(cpus: usize) -> Plan {
        let cpus = (0..cpus).map(|id| Cpu { id, core: id, node: 0, isolated: false }).collect();
        plan(&Topology { cpus, ..Topology::default() }, &config::Cpus::default()).unwrap()
    }

    #[test]
    fn the_plan_is_told_whole() {
        let config = config::load(TEXT, 1).unwrap();
        let want = include_str!("check_plan.txt");
        let got = render(&config, &planned(4));
        assert_eq!(got, want, "\n--- what is printed now; when it is right, it belongs into check_plan.txt:\n{got}");
    }

    #[test]
    fn without_a_dsp_that_is_said() {
        let out = render(&config::load("", 1).unwrap(), &planned(1));
        assert!(out.contains("none: every answer will be \"no bid\""), "{out}");
        assert!(out.contains("POST http://0.0.0.0:8080/openrtb2/auction"), "{out}");
    }

    #[test]
    fn what_is_kept_whole_takes_memory_where_it_is_kept() {
        let says = |raw: &str| {
            let out = render(&config::load(raw, 1).unwrap(), &planned(1));
            out.lines().find(|l| l.contains("requests and answers kept whole")).map(str::to_owned)
        };
        assert_eq!(says(""), None);
        assert!(says("[raw]\none_in = 9").is_some_and(|l| l.ends_with("8 MiB")));
    }

    #[test]
    fn a_forbidden_io_uring_stops_only_who_insists() {
        let (good, bad) = (Ok(()), Err(io_probe::Forbidden::Sysctl(2)));
        for (wanted, probed, starts, says) in [
            (IoDriver::Auto, &good, true, "io_uring"),
            (IoDriver::IoUring, &good, true, "io_uring"),
            (IoDriver::Epoll, &bad, true, "epoll"),
            (IoDriver::Auto, &bad, true, "warning: kernel.io_uring_disabled is 2"),
            (IoDriver::IoUring, &bad, false, "sysctl -w"),
        ] {
            let (line, runs) = driver(wanted, probed);
            assert!(runs == starts && line.contains(says), "{wanted:?} {line}");
        }
    }

    #[test]
    fn it_ends_as_it_should() {
        let dir = std::env::temp_dir().join(format!("outcry-check-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            path
        };
        // Epoll, so that it passes where io_uring is forbidden.
        let good = file("good.toml", &format!("io_driver = \"epoll\"\n{TEXT}"));
        let code = |path: &Path| format!("{:?}", run(path, true));
        let (success, failure) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&good), success);
        assert_eq!(code(&file("bad.toml", "listne = 1")), failure);
        assert_eq!(code(&file("cpus.toml", "[cpus]\nflush = 1023")), failure);
        assert_eq!(code(&dir.join("absent.toml")), failure);
        let _ = fs::remove_dir_all(&dir);
    }

    #[test]
    fn sizes() {
        for (bytes, want) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (16 << 20, "16 MiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
            (u64::from(u32::MAX), "3.9 GiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}
