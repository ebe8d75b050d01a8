//! The demo: five simulated DSPs, a real exchange, an open-loop load, and a verdict.
//! Owns: the simulators' threads and the load's. Called by: the command line. Never: knows how the exchange is built;
//! it gets a function that starts one from a configuration's text.
use super::{
    arrivals::Spacing,
    character::Character,
    dsp_sim::{self, Stats},
    load::{self, Live, LoadConfig, LoadReport},
    report,
    requests::generate,
};
use crate::out::out;
use std::{
    fmt::Write as _,
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Starts an exchange from a configuration's text, ready to answer when this returns.
pub type StartExchange = fn(config_toml: &str) -> Result<Box<dyn RunningExchange>, String>;

/// An exchange that runs in this process.
pub trait RunningExchange {
    /// Where requests are posted.
    fn listen(&self) -> SocketAddr;
    /// Where metrics are.
    fn admin(&self) -> SocketAddr;
    /// Ends it gracefully; an error is a failure of the demo.
    fn stop(self: Box<Self>) -> Result<(), String>;
    /// Each DSP so far, as the exchange sees it.
    fn dsp_stats(&self) -> Vec<DspRow>;
    /// The plan of threads and CPUs, in lines.
    fn threads(&self) -> String;
}

/// One DSP so far, as the exchange sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DspRow {
    /// Its configured name.
    pub name: String,
    /// Requests sent to it.
    pub asked: u64,
    /// Answers with a bid that could be read.
    pub bids: u64,
    /// Answers that said no.
    pub no_bids: u64,
    /// Answers that were not there in time.
    pub timeouts: u64,
    /// Everything else: refused, reset, bad status, not JSON, wrong id ...
    pub errors: u64,
    /// Impressions it won.
    pub wins: u64,
}

/// `outcry demo`: five simulated DSPs, an exchange, a load, a report.
#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    /// For how long load is driven.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Requests a second.
    #[arg(long, default_value_t = 2000.0)]
    pub rate: f64,
    /// Bidder cores; without it as many as the machine's plan gives.
    #[arg(long)]
    pub cores: Option<usize>,
    /// The same seed gives the same requests and the same DSPs.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Connections of the load at most.
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// Print the configuration the demo runs, and the commands that start its DSPs, and do nothing.
    #[arg(long)]
    pub print_config: bool,
}

/// What each of the five buys, in the words of the configuration.
const MEDIA: [(&str, &str); 5] = [
    ("cheap", r#"["banner", "native"]"#),
    ("rich", r#"["banner", "video", "audio", "native"]"#),
    ("decliner", r#"["banner", "video", "audio", "native"]"#),
    ("erring", r#"["banner", "video", "native"]"#),
    ("late", r#"["banner", "video", "audio"]"#),
];
/// Where requests are posted.
const PATH: &str = "/openrtb2/auction";

/// The configuration of the demo's exchange.
fn config(
    listen: SocketAddr,
    admin: SocketAddr,
    state: &Path,
    cores: Option<usize>,
    dsps: &[(&str, SocketAddr)],
) -> String {
    let mut toml = String::new();
    // Writing to a `String` cannot fail.
    let _ = writeln!(toml, "listen = \"{listen}\"\nadmin = \"{admin}\"\nstate_dir = {:?}", state.to_string_lossy());
    if let Some(cores) = cores {
        let _ = writeln!(toml, "\n[cpus]\nbidder_count = {cores}");
    }
    // Its records are gone with it.
    let _ = writeln!(toml, "\n[record]\nsegment_bytes = {}", 32 << 20);
    let _ = writeln!(toml, "\n[auction]\ntmax_max_ms = 100\ndsp_ms = 70\nincrement = 0.01");
    let _ = writeln!(toml, "\n[auction.schain]\nasi = \"exchange.example\"\nsid = \"demo\"");
    let _ = writeln!(toml, "\n[rates]\nid = \"demo\"\naccounting = \"USD\"");
    let _ = writeln!(toml, "table = {{ USD = 1, EUR = 1.08, GBP = 1.27 }}");
    let _ =
        writeln!(toml, "\n[[exchange]]\nname = \"demo\"\npath = \"{PATH}\"\ncurrencies = [\"USD\", \"EUR\", \"GBP\"]");
    for (name, addr) in dsps {
        let media = MEDIA.iter().find(|m| m.0 == *name).map_or(r#"["banner"]"#, |m| m.1);
        let _ = writeln!(
            toml,
            "\n[[dsp]]\nname = \"{name}\"\nurl = \"http://{addr}/bid\"\nmedia = {media}\ntimeout_ms = 70"
        );
        // A machine that is busy with other things as this starts looks like DSPs that fail; by default they would be left
        // alone for longer than a demo lasts.
        let _ = writeln!(toml, "breaker_open_ms = 1000");
    }
    toml
}

/// The configuration for hand use, with the commands that give it its DSPs.
fn printed(args: &DemoArgs) -> String {
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let dsps: Vec<_> = MEDIA.iter().zip(9001..).map(|(m, port)| (m.0, local(port))).collect();
    let mut text = String::from("# The demo by hand:\n");
    for (name, addr) in &dsps {
        let _ = writeln!(text, "#   outcry dsp-sim --character {name} --listen {addr} --seed {} &", args.seed);
    }
    let _ = writeln!(text, "#   outcry serve --config this-file &");
    let _ =
        writeln!(text, "#   outcry load http://127.0.0.1:8080{PATH} --rate {} --seconds {}\n", args.rate, args.seconds);
    text + &config(local(8080), local(9090), Path::new("/tmp/outcry-demo"), args.cores, &dsps)
}

/// Five simulators on threads of their own, not pinned: the exchange's cores have the CPUs it planned.
struct Simulators {
    running: Vec<(String, SocketAddr, JoinHandle<io::Result<()>>)>,
    stop: Arc<AtomicBool>,
}

impl Simulators {
    fn start(seed: u64) -> io::Result<Simulators> {
        let mut sims = Simulators { running: Vec::new(), stop: Arc::new(AtomicBool::new(false)) };
        for character in Character::five(seed) {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let (name, addr, stop) = (character.name.clone(), listener.local_addr()?, sims.stop.clone());
            let thread = std::thread::Builder::new().name(format!("dsp-{name}"));
            let thread = thread.spawn(move || dsp_sim::serve(listener, character, Arc::new(Stats::default()), stop))?;
            sims.running.push((name, addr, thread));
        }
        Ok(sims)
    }

    fn addresses(&self) -> Vec<(&str, SocketAddr)> {
        self.running.iter().map(|s| (s.0.as_str(), s.1)).collect()
    }

    fn stop(self) -> Result<(), String> {
        self.stop.store(true, Relaxed);
        for (name, _, thread) in self.running {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(format!("the simulated DSP {name} failed: {e}")),
                Err(_) => return Err(format!("the simulated DSP {name} panicked")),
            }
        }
        Ok(())
    }
}

/// A directory that goes when the demo goes.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Scratch> {
        let dir = std::env::temp_dir().join(format!("outcry-demo-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it does no harm: the next demo has another process id.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two ports that are free now. Every bidder core listens on the first, so it must be known before one does.
fn free_ports() -> io::Result<(SocketAddr, SocketAddr)> {
    // Held together, or the second may be the first again.
    let (one, two) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((one.local_addr()?, two.local_addr()?))
}

/// Runs the demo. Fails when any request went unanswered, was answered twice or wrongly, when nothing was ever won, or
/// when a part of it did not stop in order.
pub fn run(args: DemoArgs, start: StartExchange) -> ExitCode {
    if args.print_config {
        out(&printed(&args));
        return ExitCode::SUCCESS;
    }
    match demo(&args, start) {
        Ok(report) if report.is_right() && report.with_bid > 0 => ExitCode::SUCCESS,
        Ok(report) => {
            if report.with_bid == 0 {
                eprintln!("demo: not one auction was won");
            }
            ExitCode::FAILURE
        }
        Err(e) => {
            eprintln!("demo: {e}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &DemoArgs, start: StartExchange) -> Result<LoadReport, String> {
    if !(args.rate.is_finite() && args.rate > 0.0 && args.seconds.is_finite() && args.seconds > 0.0) {
        return Err("--rate and --seconds must be above 0".to_owned());
    }
    let failed = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    let scratch = Scratch::new().map_err(failed("a directory for its state"))?;
    let sims = Simulators::start(args.seed).map_err(failed("a simulated DSP"))?;
    let (listen, admin) = free_ports().map_err(failed("a port"))?;
    let toml = config(listen, admin, &scratch.0, args.cores, &sims.addresses());
    let exchange = match start(&toml) {
        Ok(exchange) => exchange,
        Err(e) => {
            // Why it did not start is the news; how the simulators end is none.
            let _ = sims.stop();
            return Err(format!("the exchange did not start: {e}"));
        }
    };
    println!("{}", exchange.threads().trim_end());
    println!(
        "requests  http://{}{PATH}   metrics http://{}/metrics   {} DSPs\n",
        exchange.listen(),
        exchange.admin(),
        sims.running.len()
    );
    let driven = drive(args, exchange.as_ref());
    let rows = exchange.dsp_stats();
    let stopped = exchange.stop();
    let sims_stopped = sims.stop();
    let report = driven?;
    print!("{}{}", report::dsp_table(&rows), report::text(&report));
    stopped.map_err(|e| format!("the exchange did not stop in order: {e}"))?;
    sims_stopped?;
    Ok(report)
}

/// The load, on a thread of its own, while this one draws.
fn drive(args: &DemoArgs, exchange: &dyn RunningExchange) -> Result<LoadReport, String> {
    let load = LoadConfig {
        target: exchange.listen(),
        host: exchange.listen().to_string(),
        path: PATH.to_owned(),
        rate: args.rate,
        seconds: args.seconds,
        spacing: Spacing::Poisson,
        connections: args.connections.max(1),
        timeout: Duration::from_secs(1),
        patience: Duration::from_secs(1),
        seed: args.seed,
        templates: generate(args.seed, 2_000),
        gzip: false,
        accept_gzip: false,
        macros_may_stay: false,
        run: None,
        answers: None,
        notices: None,
        stop: Arc::default(),
    };
    let live = Arc::new(Live::default());
    let shown = live.clone();
    let thread = std::thread::Builder::new().name("load".to_owned());
    let thread = thread.spawn(move || load::drive(load, &shown)).map_err(|e| format!("the load's thread: {e}"))?;
    let mut table = report::LiveTable::new(false);
    while !thread.is_finished() {
        table.second(&live, || exchange.dsp_stats(), || thread.is_finished());
    }
    match thread.join() {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(e)) => Err(format!("the load: {e}")),
        Err(_) => Err("the load panicked".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{DemoArgs, DspRow, RunningExchange, config, demo, printed};
    use crate::lab::load_tests::{Deed, bidder};
    use std::net::SocketAddr;

    struct Fake(SocketAddr);

    impl RunningExchange for Fake {
        fn listen(&self) -> SocketAddr {
            self.0
        }
        fn admin(&self) -> SocketAddr {
            self.0
        }
        fn stop(self: Box<Self>) -> Result<(), String> {
            Ok(())
        }
        fn dsp_stats(&self) -> Vec<DspRow> {
            vec![DspRow { name: "cheap".to_owned(), asked: 7, ..DspRow::default() }]
        }
        fn threads(&self) -> String {
            "no threads".to_owned()
        }
    }

    fn args() -> DemoArgs {
        DemoArgs { seconds: 0.2, rate: 500.0, cores: Some(1), seed: 1, connections: 16, print_config: false }
    }

    #[test]
    fn tells_a_right_exchange_from_a_wrong_one() {
        let right = demo(&args(), |_| Ok(Box::new(Fake(bidder(|_| Deed::Right))))).expect("runs");
        assert!(right.is_right() && right.with_bid > 50, "{right:?}");
        let wrong =
            demo(&args(), |_| Ok(Box::new(Fake(bidder(|seq| if seq == 3 { Deed::WrongId } else { Deed::Right })))));
        assert!(!wrong.expect("runs").is_right());
        let refused = demo(&args(), |_| Err("no".to_owned()));
        assert!(refused.is_err_and(|e| e.contains("did not start: no")));
    }

    #[test]
    fn the_configuration_names_five_dsps_and_is_toml() {
        let text = printed(&args());
        assert_eq!(text.matches("[[dsp]]").count(), 5);
        assert_eq!(text.matches("# ").count(), 8, "{text}");
        let addr = SocketAddr::from(([127, 0, 0, 1], 1));
        let quoted = config(addr, addr, std::path::Path::new("/tmp/a \"b\""), None, &[("cheap", addr)]);
        assert!(quoted.contains(r#"state_dir = "/tmp/a \"b\"""#) && !quoted.contains("[cpus]"), "{quoted}");
    }
}
