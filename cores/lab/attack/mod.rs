//! `outcry attack`: what a hostile exchange client does, on purpose and within bounds. Shapes are single messages on
//! which two readers could disagree, floods are many connections that cost the server more than their sender.
//! Owns: nothing. Called by: the command line, the tests of attacks, `scripts/attack`.
//! Never: attacks anybody but this machine.
pub mod flood;
pub mod judge;
pub mod shapes;

use super::ring;
use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

/// What is done to the target.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Messages whose end is in doubt, one after the other, each with a request hidden in it; a table of what came back.
    Shapes,
    /// A head that comes a byte a second.
    SlowHead,
    /// A body that comes a byte a second.
    SlowBody,
    /// Long bodies of which all but the end comes at once, and the rest a byte a second.
    Hoard,
    /// Auctions whose answers are taken a byte a second.
    SlowRead,
    /// Requests in batches, whose answers nobody takes.
    Pipeline,
    /// Twenty thousand requests at once, whose answers are taken.
    Burst,
    /// Connections that say nothing.
    Idle,
    /// Connections that send nothing but empty lines.
    Blank,
    /// A body of a gigabyte, as its length says.
    Length,
    /// A body of chunks without an end.
    Chunks,
    /// Small requests that unpack to as much as is allowed by default.
    Bomb,
    /// Connections that are closed as soon as they are open.
    Churn,
}

impl Kind {
    /// As it is written on the command line.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map_or_else(String::new, |v| v.get_name().to_owned())
    }
}

/// `outcry attack`: sends what a hostile client would send, to an exchange on this machine.
#[derive(clap::Args, Clone, Debug)]
pub struct AttackArgs {
    /// What to do.
    #[arg(value_enum)]
    pub kind: Kind,
    /// The bidder; a loopback address.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub target: SocketAddr,
    /// Where it takes requests.
    #[arg(long, default_value = "/openrtb2/auction")]
    pub path: String,
    /// For how long; shapes are sent once, or again and again for so long if it is given.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Connections at a time, instead of what suits the attack.
    #[arg(long)]
    pub connections: Option<usize>,
    /// Milliseconds between two things that one connection does, instead of what suits the attack; connections are made
    /// over the first of them.
    #[arg(long)]
    pub beat_ms: Option<u64>,
    /// Pin it to this CPU.
    #[arg(long)]
    pub cpu: Option<usize>,
}

/// How long a flood lasts if nobody says.
const SECONDS: f64 = 15.0;
/// Longest attack: this is a test, not a siege.
const SECONDS_MAX: f64 = 3_600.0;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 20_000;

/// Fastest beat of a connection: this is no load generator.
const BEAT_MS_MIN: u64 = 5;

/// Why an attack is not made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAttack {
    /// Somebody else's machine.
    #[error("--target {0}: only addresses of this machine (127.0.0.0/8, ::1) are attacked")]
    NotHere(SocketAddr),
    /// No path.
    #[error("--path {0:?}: must begin with / and have neither spaces nor control characters")]
    Path(String),
    /// Out of bounds.
    #[error(
        "--seconds must be above 0 and at most {SECONDS_MAX}, --connections 1 to {CONNECTIONS_MAX}, --beat-ms {BEAT_MS_MIN} to 60000"
    )]
    Range,
}

impl AttackArgs {
    /// May this be done?
    ///
    /// # Errors
    /// [`NoAttack`].
    pub fn check(&self) -> Result<(), NoAttack> {
        let in_range = self.seconds.is_none_or(|s| s > 0.0 && s <= SECONDS_MAX)
            && self.connections.is_none_or(|n| (1..=CONNECTIONS_MAX).contains(&n))
            && self.beat_ms.is_none_or(|ms| (BEAT_MS_MIN..=60_000).contains(&ms));
        if !self.target.ip().is_loopback() {
            Err(NoAttack::NotHere(self.target))
        } else if !self.path.starts_with('/') || self.path.contains(|c: char| c == ' ' || c.is_ascii_control()) {
            Err(NoAttack::Path(self.path.clone()))
        } else if !in_range {
            Err(NoAttack::Range)
        } else {
            Ok(())
        }
    }
}

/// Runs `outcry attack`. 0: it was made, and every shape got what it should; 1: a shape did not, or nothing was made.
pub fn run(args: AttackArgs) -> ExitCode {
    if let Err(e) = args.check() {
        eprintln!("attack: {e}");
        return ExitCode::FAILURE;
    }
    if !ring::pin(args.cpu) {
        eprintln!("attack: cannot pin to CPU {:?}; running unpinned", args.cpu);
    }
    if args.kind == Kind::Shapes {
        return run_shapes(&args);
    }
    let mut flood = flood::Flood::new(args.kind, args.target, &args.path);
    flood.connections = args.connections.unwrap_or(flood.connections);
    flood.beat = args.beat_ms.map_or(flood.beat, Duration::from_millis);
    flood.time = Duration::from_secs_f64(args.seconds.unwrap_or(SECONDS));
    print!("{}", flood.run());
    ExitCode::SUCCESS
}

fn run_shapes(args: &AttackArgs) -> ExitCode {
    let until = args.seconds.map(|s| Instant::now() + Duration::from_secs_f64(s));
    let all = shapes::all(&args.path);
    let (mut sent, mut wrong) = (0, 0);
    loop {
        for shape in &all {
            let seen = judge::send(args.target, shape);
            let right = seen.as_ref().is_ok_and(|seen| seen.is(shape));
            if sent < all.len() || !right {
                let came = seen.map_or_else(|e| e.to_string(), |seen| seen.to_string());
                let mark = if right { "ok" } else { "WRONG" };
                println!("{mark:<6} {:<44} {came}", shape.name);
            }
            sent += 1;
            wrong += usize::from(!right);
        }
        if until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    println!("shapes: {sent} sent, {wrong} not answered as they should be");
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{AttackArgs, NoAttack};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        attack: AttackArgs,
    }

    #[test]
    fn only_this_machine_is_attacked_and_within_bounds() {
        let of = |line: &[&str]| Line::parse_from(["attack", "idle"].iter().chain(line)).attack.check();
        assert_eq!(of(&[]), Ok(()));
        for here in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80"] {
            assert_eq!(of(&["--target", here, "--seconds", "3600", "--connections", "20000"]), Ok(()));
        }
        for there in ["192.0.2.1:80", "10.0.0.1:8080", "0.0.0.0:80", "[::]:80", "[::ffff:192.0.2.1]:80"] {
            assert!(matches!(of(&["--target", there]), Err(NoAttack::NotHere(_))), "{there}");
        }
        for wrong in [
            ["--seconds", "0"],
            ["--seconds", "NaN"],
            ["--seconds", "3601"],
            ["--connections", "20001"],
            ["--beat-ms", "4"],
        ] {
            assert_eq!(of(&wrong), Err(NoAttack::Range), "{wrong:?}");
        }
        for wrong in ["x", "/a b", "/\r\n"] {
            assert!(matches!(of(&["--path", wrong]), Err(NoAttack::Path(_))), "{wrong:?}");
        }
    }
}
