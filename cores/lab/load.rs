//! An open-loop load generator that checks every answer, as a program: what is sent, what came of it, its command line.
//! Owns: plain data. Called by: the command line, `demo`, benchmarks. Never: prints percentiles of a rate it did not
//! reach.
pub use super::generator::drive;
use super::{
    arrivals::Spacing,
    check::Fault,
    report,
    requests::{NoTemplate, Template, generate},
    ring, until_eof,
};
use hdrhistogram::Histogram;
use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

/// The generator cannot be trusted with less than this part of its rate.
pub const ACHIEVED_MIN: f64 = 0.99;
/// Above this part of a CPU the generator measures itself.
pub const CPU_SHARE_MAX: f64 = 0.80;

/// What to send where, how fast.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// The bidder.
    pub target: SocketAddr,
    /// For the Host header.
    pub host: String,
    /// Where requests are posted.
    pub path: String,
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Gaps between requests.
    pub spacing: Spacing,
    /// Connections at most.
    pub connections: usize,
    /// An answer that is not there so long after its request was due is missing.
    pub timeout: Duration,
    /// A request for which no connection is free so long after it was due is never sent.
    pub patience: Duration,
    /// For requests and gaps.
    pub seed: u64,
    /// Bodies; sent in turn.
    pub templates: Vec<Template>,
    /// Compress requests.
    pub gzip: bool,
    /// Accept compressed answers.
    pub accept_gzip: bool,
    /// Macros may stay in answers.
    pub macros_may_stay: bool,
    /// The first eight digits of each request's id; `None`: from the clock.
    pub run: Option<u32>,
    /// Where each answer is written down.
    pub answers: Option<PathBuf>,
    /// Where each notice is written down that is called; `None`: none is.
    pub notices: Option<PathBuf>,
    /// Set from outside: no further request is due.
    pub stop: Arc<AtomicBool>,
}

/// The last second, for a live table; written by the generator's thread, read by any.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests that have been due.
    pub due: AtomicU64,
    /// Requests handed to a connection.
    pub sent: AtomicU64,
    /// Answers.
    pub answered: AtomicU64,
    /// Answers with a bid.
    pub with_bid: AtomicU64,
    /// Missing, wrong and second answers.
    pub bad: AtomicU64,
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Latency of the last whole second: median, nanoseconds.
    pub p50_ns: AtomicU64,
    /// 99 %.
    pub p99_ns: AtomicU64,
    /// 99.9 %.
    pub p999_ns: AtomicU64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct LoadReport {
    /// Requests a second that were asked for.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Requests that were due.
    pub due: u64,
    /// Requests that a connection took.
    pub sent: u64,
    /// Part of them that a connection took before the end: below [`ACHIEVED_MIN`] no latency is to be believed.
    pub achieved: f64,
    /// First answers, right or wrong.
    pub answered: u64,
    /// Right answers with bids.
    pub with_bid: u64,
    /// Bids in them.
    pub bids: u64,
    /// Right answers that say no.
    pub no_bids: u64,
    /// 503s.
    pub refused: u64,
    /// Wrong answers by kind, as in [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Answers that came later than the request's `tmax` after it was due: an exchange had dropped them. Not wrong.
    pub past_tmax: u64,
    /// Answers that were no HTTP; their connections ended.
    pub bad_http: u64,
    /// Second answers, and answers to nothing.
    pub duplicates: u64,
    /// Never answered: not in time.
    pub timed_out: u64,
    /// Never answered: the connection ended first.
    pub cut_off: u64,
    /// Never answered because never sent: no connection became free in time.
    pub never_sent: u64,
    /// Connections that could not be made.
    pub connect_failed: u64,
    /// Most connections at a time.
    pub connections: usize,
    /// From due to answer.
    pub latency: Histogram<u32>,
    /// From due to being handed to a connection.
    pub waited: Histogram<u32>,
    /// CPU used by the generator, of one CPU.
    pub cpu_share: f64,
}

impl LoadReport {
    /// Requests without an answer.
    pub fn unanswered(&self) -> u64 {
        self.timed_out + self.cut_off + self.never_sent
    }

    /// Answers that were wrong.
    pub fn wrong(&self) -> u64 {
        self.faults.iter().sum::<u64>() + self.bad_http
    }

    /// Exactly one right answer for every request.
    pub fn is_right(&self) -> bool {
        self.unanswered() == 0 && self.is_right_where_answered()
    }

    /// No answer that came was wrong, and none came twice: what can be asked of a bidder that dies now and then.
    pub fn is_right_where_answered(&self) -> bool {
        self.wrong() == 0 && self.duplicates == 0
    }

    /// Was the rate reached, so that latencies mean something?
    pub fn is_measured(&self) -> bool {
        self.achieved >= ACHIEVED_MIN
    }
}

/// `outcry load`: sends requests to a bidder and checks its answers.
#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// The bidder: http://host:port/path. No TLS.
    #[arg(default_value = "http://127.0.0.1:8080/openrtb2/auction")]
    pub url: String,
    /// Requests a second, whatever the bidder makes of it.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    /// For how long.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Equal gaps between requests instead of Poisson arrivals.
    #[arg(long)]
    pub constant: bool,
    /// Connections at most; they are made as they are needed.
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// An answer that is not there so long after its request was due is missing.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// A request for which no connection is free so long after it was due is never sent; --timeout-ms without it. Short, an
    /// outage leaves no queue behind that would be answered late for long.
    #[arg(long)]
    pub patience_ms: Option<u64>,
    /// The same seed gives the same requests at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many different requests are made and sent in turn.
    #[arg(long, default_value_t = 2000)]
    pub distinct: usize,
    /// Send the request in this file instead, with an id of ours; may be repeated.
    #[arg(long)]
    pub file: Vec<PathBuf>,
    /// Compress requests (costs the generator much).
    #[arg(long)]
    pub gzip: bool,
    /// Accept compressed answers.
    #[arg(long)]
    pub accept_gzip: bool,
    /// Price macros may stay in answers: the bidder is not the last auction.
    #[arg(long)]
    pub macros_may_stay: bool,
    /// Pin the generator to this CPU.
    #[arg(long)]
    pub cpu: Option<usize>,
    /// Append each answer to this file, a JSON object a line: request id, status, bids; and each request whose answer did
    /// not come whole.
    #[arg(long, value_name = "FILE")]
    pub answers: Option<PathBuf>,
    /// Play the exchange and its browsers too: call our notice URLs of the answers, late, repeated, some of them forged, and
    /// append each call to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub notices: Option<PathBuf>,
    /// The first eight hexadecimal digits of every request's id, different for each run whose ids must not meet; without
    /// it the clock decides.
    #[arg(long, value_parser = hexadecimal)]
    pub run: Option<u32>,
    /// The bidder may die and come back: requests that got no answer do not make the run a failure.
    #[arg(long)]
    pub outages: bool,
    /// End in order when standard input does, if that is before --seconds have passed.
    #[arg(long)]
    pub until_eof: bool,
    /// The report as one JSON object, and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// Why a load cannot be driven.
#[derive(Debug, thiserror::Error)]
pub enum NoLoad {
    /// The URL is not http://host:port/path.
    #[error("{0:?} is not http://host[:port]/path")]
    Url(String),
    /// The host has no address.
    #[error("{0}: no address: {1}")]
    Host(String, io::Error),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// A file is no request.
    #[error("{0}: {1}")]
    Request(PathBuf, NoTemplate),
    /// The rate or the time is not above zero.
    #[error("--rate and --seconds must be above 0, --connections at least 1")]
    Range,
}

impl LoadArgs {
    /// What the arguments mean.
    pub fn config(&self) -> Result<LoadConfig, NoLoad> {
        let sound = |n: f64| n.is_finite() && n > 0.0;
        if !sound(self.rate) || !sound(self.seconds) || self.connections == 0 {
            return Err(NoLoad::Range);
        }
        let rest = self.url.strip_prefix("http://").ok_or_else(|| NoLoad::Url(self.url.clone()))?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let unprintable = |c: char| c.is_ascii_control() || c == ' ';
        if host.is_empty() || rest.contains(unprintable) {
            return Err(NoLoad::Url(self.url.clone()));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let with_port = if has_port { host.to_owned() } else { format!("{host}:80") };
        let no_host = |e| NoLoad::Host(host.to_owned(), e);
        let mut found = with_port.to_socket_addrs().map_err(no_host)?;
        let target = found.next().ok_or_else(|| no_host(io::ErrorKind::NotFound.into()))?;
        let mut templates = Vec::new();
        for file in &self.file {
            let text = std::fs::read(file).map_err(|e| NoLoad::File(file.clone(), e))?;
            templates.push(Template::of(&text).map_err(|e| NoLoad::Request(file.clone(), e))?);
        }
        if templates.is_empty() {
            templates = generate(self.seed, self.distinct.max(1));
        }
        Ok(LoadConfig {
            target,
            host: host.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            rate: self.rate,
            seconds: self.seconds,
            spacing: if self.constant { Spacing::Constant } else { Spacing::Poisson },
            connections: self.connections,
            timeout: Duration::from_millis(self.timeout_ms.max(1)),
            patience: Duration::from_millis(self.patience_ms.unwrap_or(self.timeout_ms).max(1)),
            seed: self.seed,
            templates,
            gzip: self.gzip,
            accept_gzip: self.accept_gzip,
            macros_may_stay: self.macros_may_stay,
            run: self.run,
            answers: self.answers.clone(),
            notices: self.notices.clone(),
            stop: Arc::default(),
        })
    }
}

fn hexadecimal(digits: &str) -> Result<u32, String> {
    u32::from_str_radix(digits, 16).map_err(|e| e.to_string())
}

/// Runs `outcry load`. 0: every request got one right answer (with `--outages`: those that got one). 1: not so, or it
/// could not be driven. 2: all answers were right, but the rate was not reached, so nothing was measured.
pub fn run(args: LoadArgs) -> ExitCode {
    let config = match args.config() {
        Ok(config) => config,
        Err(e) => {
            eprintln!("load: {e}");
            return ExitCode::FAILURE;
        }
    };
    if args.until_eof {
        until_eof::set(config.stop.clone());
    }
    let live = Arc::new(Live::default());
    let (driven, cpu) = (live.clone(), args.cpu);
    let thread = std::thread::spawn(move || {
        if !ring::pin(cpu) {
            eprintln!("load: cannot pin to CPU {cpu:?}; running unpinned");
        }
        drive(config, &driven)
    });
    let mut table = report::LiveTable::new(args.json);
    while !thread.is_finished() {
        table.second(&live, Vec::new, || thread.is_finished());
    }
    match thread.join() {
        Ok(Ok(report)) => {
            if args.json {
                println!("{}", report::json(&report));
            } else {
                print!("{}", report::text(&report));
            }
            if args.outages {
                return if report.is_right_where_answered() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            }
            match (report.is_right(), report.is_measured()) {
                (false, _) => ExitCode::FAILURE,
                (true, false) => ExitCode::from(2),
                (true, true) => ExitCode::SUCCESS,
            }
        }
        Ok(Err(e)) => {
            eprintln!("load: {e}");
            ExitCode::FAILURE
        }
        Err(_) => {
            eprintln!("load: the generator panicked");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LoadArgs, NoLoad};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn of(line: &[&str]) -> Result<super::LoadConfig, NoLoad> {
        Line::parse_from(["load"].iter().chain(line)).load.config()
    }

    #[test]
    fn urls() {
        let check = |url: &str, expected: (&str, &str, &str)| {
            let config = of(&[url, "--distinct", "1"]).expect(url);
            assert_eq!((config.target.to_string().as_str(), config.host.as_str(), config.path.as_str()), expected);
        };
        check("http://127.0.0.1:81/a/b?c=d", ("127.0.0.1:81", "127.0.0.1:81", "/a/b?c=d"));
        check("http://127.0.0.1", ("127.0.0.1:80", "127.0.0.1", "/"));
        check("http://[::1]:9/x", ("[::1]:9", "[::1]:9", "/x"));
        let config = of(&["http://127.0.0.1", "--distinct", "1", "--run", "c0ffee00"]).expect("eight digits");
        assert_eq!(config.run, Some(0xc0ff_ee00));
        for url in ["https://127.0.0.1/", "127.0.0.1:80", "http:///x", "http://a b/", "http://h/\r\nX: y"] {
            assert!(matches!(of(&[url]), Err(NoLoad::Url(_))), "{url}");
        }
    }

    #[test]
    fn what_makes_no_load_is_refused() {
        for wrong in [["--rate", "0"], ["--rate", "NaN"], ["--seconds", "0"], ["--connections", "0"]] {
            assert!(matches!(of(&wrong), Err(NoLoad::Range)), "{wrong:?}");
        }
        assert!(matches!(of(&["--file", "/nonexistent"]), Err(NoLoad::File(..))));
        assert!(matches!(of(&["--file", "/dev/null"]), Err(NoLoad::Request(..))));
    }
}
