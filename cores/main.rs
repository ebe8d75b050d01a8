//! The `outcry` program: the exchange, and the programs around it.
use clap::{Parser, Subcommand};
use outcry_cores::{
    audit,
    boot::{self, Source},
    check, doctor,
    heap::Heap,
    lab::{attack, demo, dsp_sim, in_process, load},
    money::cli,
    out::out,
};
use std::{path::PathBuf, process::ExitCode};

#[global_allocator]
static ALLOCATOR: Heap = Heap;

/// A real-time bidding exchange: OpenRTB in, second-price auctions, answers within the deadline.
#[derive(Parser)]
#[command(name = "outcry", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the exchange.
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Name every mistake in a configuration, or print the plan that would run.
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Say why each CPU does what it does, and what would change it.
        #[arg(long)]
        explain: bool,
    },
    /// Judge this machine's settings by what the exchange needs: what is wrong, what it costs, what mends it.
    Doctor(doctor::DoctorArgs),
    /// Print a commented configuration with every default.
    DefaultConfig,
    /// Start five simulated DSPs and an exchange, drive it and report.
    Demo(demo::DemoArgs),
    /// A simulated DSP.
    DspSim(dsp_sim::DspSimArgs),
    /// Drive a bidder with an open-loop load of realistic requests.
    Load(load::LoadArgs),
    /// Look at the journal: what it holds, and whether it is what was written.
    Audit(audit::AuditArgs),
    /// Keep in an object store what leaves the journal, and look at it there.
    #[cfg(feature = "tiers")]
    Tiers(outcry_cores::tiers::TiersArgs),
    /// List the DSPs that could not be told of a notice, or have them told once more.
    Notices(audit::NoticesArgs),
    /// See and change the budgets of the exchange that runs here.
    Budget(cli::BudgetArgs),
    /// Do to an exchange on this machine what a hostile client would.
    Attack(attack::AttackArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => serve(config),
        Command::Check { config, explain } => check::run(&config, explain),
        Command::Doctor(args) => doctor::run(&args),
        Command::DefaultConfig => {
            out(&outcry::config::default_toml());
            ExitCode::SUCCESS
        }
        Command::Demo(args) => demo::run(args, in_process::start),
        Command::DspSim(args) => dsp_sim::run(args),
        Command::Load(args) => load::run(args),
        Command::Audit(args) => audit::run(&args),
        #[cfg(feature = "tiers")]
        Command::Tiers(args) => outcry_cores::tiers::run(&args),
        Command::Notices(args) => audit::run_notices(&args),
        Command::Budget(args) => cli::run(&args),
        Command::Attack(args) => attack::run(args),
    }
}

fn serve(config: PathBuf) -> ExitCode {
    let started = boot::start_from(Source::File(config), &mut |line| eprintln!("{line}"));
    let stopped = started.map_err(|e| e.to_string()).and_then(|exchange| {
        eprintln!("outcry: requests on {}, metrics and readiness on {}", exchange.listen(), exchange.admin());
        exchange.wait()
    });
    match stopped {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("outcry: {why}");
            ExitCode::FAILURE
        }
    }
}
