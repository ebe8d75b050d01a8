//! `outcry doctor`: every setting of the machine that an exchange feels, judged against the plan that would run: what is
//! wrong, what that costs, and what mends it. `tuning/` tells each of them in full.
//! Owns: nothing. Runs on: the main thread of its own process. Called by: main. Never: changes anything.
//!
//! Reading order: [`finding`] (what a knob and a verdict are), [`need`] (what the exchange asks for), [`machine`] (how values
//! are read), then the groups, each of which reads its values into a struct and judges that struct: `limits`, `sockets`,
//! `power`, `isolation`, `placement`, `host`, `nic`, `memory`, `kernel`.
pub mod finding;
#[cfg(test)]
mod fixtures;
mod host;
mod isolation;
mod kernel;
mod limits;
pub mod machine;
mod memory;
pub mod need;
mod nic;
mod placement;
mod power;
pub mod print;
mod sockets;
#[cfg(test)]
mod tuning_tests;

use crate::{check, io_probe, out::out, topology};
use finding::{Finding, Knob, Verdict};
use machine::{Machine, Read, Unread};
use need::Need;
use outcry::config::{self, plan};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// `outcry doctor`.
#[derive(clap::Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The configuration whose plan is judged; without it, the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// A running exchange: its limits, control group and CPUs are judged instead of this shell's.
    #[arg(long)]
    pid: Option<u32>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Something is wrong.
const WRONG: u8 = 1;
/// Nothing could be judged: no configuration, no plan, no such process.
const NOTHING: u8 = 2;

/// Every knob there is.
pub fn knobs() -> impl Iterator<Item = &'static Knob> {
    let groups = [
        limits::KNOBS,
        sockets::KNOBS,
        power::KNOBS,
        isolation::KNOBS,
        placement::KNOBS,
        host::KNOBS,
        nic::KNOBS,
        memory::KNOBS,
        kernel::KNOBS,
    ];
    groups.into_iter().flatten().copied()
}

/// Looks at this machine and prints what it found. 0: nothing is wrong; 1: something is; 2: nothing could be judged.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let need = match &args.config {
        Some(path) => check::load(path).map(|(config, plan)| Need::of(&config, &plan)),
        None => defaults(),
    };
    let machine = Machine::at(Path::new("/"), &args.pid.map_or("self".to_owned(), |pid| pid.to_string()));
    let need = need.and_then(|need| match args.pid {
        Some(pid) => running(&machine, need).map_err(|why| vec![format!("process {pid} cannot be judged: {why}")]),
        None => Ok(need),
    });
    let need = match need {
        Ok(need) => need,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            return ExitCode::from(NOTHING);
        }
    };
    let findings = examine(&machine, &need, io_probe::probe());
    out(&if args.json { print::json(&findings, &need) } else { print::table(&findings, &need) });
    if print::worst(&findings) == Verdict::Wrong { ExitCode::from(WRONG) } else { ExitCode::SUCCESS }
}

/// Every knob of a machine; `probed` is what making a ring said.
pub fn examine(machine: &Machine, need: &Need, probed: Result<(), io_probe::Forbidden>) -> Vec<Finding> {
    [
        limits::Limits::read(machine).judge(need),
        sockets::Sockets::read(machine).judge(need),
        power::Power::read(machine, need).judge(),
        isolation::Isolation::read(machine).judge(need),
        placement::Placement::read(machine, need).judge(need),
        host::Host::read(machine, need).judge(),
        nic::Nic::read(machine).judge(need),
        memory::Memory::read(machine).judge(),
        kernel::Kernel::read(machine, probed).judge(need),
    ]
    .concat()
}

/// What a configuration without a line in it would need here.
fn defaults() -> Result<Need, Vec<String>> {
    let lines = |mistakes: Vec<config::Mistake>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let config = config::load("", 1).map_err(lines)?;
    let plan = plan::plan(&topology::machine(), &config.cpus).map_err(|e| vec![e.to_string()])?;
    Ok(Need::of(&config, &plan))
}

/// The same need, on the CPUs where the threads of a running exchange are.
fn running(machine: &Machine, need: Need) -> Read<Need> {
    let process = format!("proc/{}/task", machine.process());
    let (mut bidders, mut flush, mut control) = (Vec::new(), None, Vec::new());
    for thread in machine.names(&process)? {
        let name = machine.text(&format!("{process}/{thread}/comm"))?;
        let status = machine.text(&format!("{process}/{thread}/status"))?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cpus = list.and_then(|l| topology::parse_list(l.trim())).unwrap_or_default();
        match name.as_str() {
            "outcry-flush" => flush = cpus.first().copied(),
            "outcry-control" => control = cpus,
            name if name.starts_with("outcry-bid-") => bidders.extend(cpus),
            _ => {}
        }
    }
    bidders.sort_unstable();
    if bidders.is_empty() {
        let why = "it has no bidder thread; `pgrep -x outcry` finds an exchange".to_owned();
        return Err(Unread { place: format!("/{process}"), why, absent: false });
    }
    Ok(Need { bidders, flush: flush.unwrap_or(need.flush), control, ..need })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree;
    use std::collections::BTreeSet;

    const RING: Result<(), io_probe::Forbidden> = Ok(());

    /// Whatever can be read: no knob is forgotten, none is judged twice.
    #[test]
    fn each_knob_has_one_verdict() {
        let ids: Vec<&str> = knobs().map(|k| k.id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique");
        for tree in [Tree::new(&[]), Tree::machine(4, 2, 2, "1-3")] {
            let machine = Machine::at(&tree.0, "self");
            for need in [Need::made_up(), Need { loopback: true, ..Need::made_up() }] {
                let found = examine(&machine, &need, RING);
                assert_eq!(found.iter().map(|f| f.knob.id).collect::<Vec<_>>(), ids);
                for f in found {
                    let amiss = matches!(f.verdict, Verdict::Advice | Verdict::Wrong);
                    assert_eq!(amiss, !f.wanted.is_empty(), "{f:?}");
                    assert!(!f.found.is_empty() && !f.knob.costs.ends_with('.'), "{f:?}");
                }
            }
        }
    }

    #[test]
    fn a_running_exchange_tells_where_it_runs() {
        let tree = Tree::new(&[]);
        for (thread, name, cpus) in
            [(7, "outcry", "0-1"), (8, "outcry-bid-1", "5"), (9, "outcry-bid-0", "3"), (10, "outcry-flush", "1")]
        {
            tree.write(&format!("proc/7/task/{thread}/comm"), name);
            tree.write(&format!("proc/7/task/{thread}/status"), &format!("Name:\tx\nCpus_allowed_list:\t{cpus}\n"));
        }
        tree.write("proc/7/task/11/comm", "outcry-control");
        tree.write("proc/7/task/11/status", "Cpus_allowed_list:\t0-1\n");
        let need = running(&Machine::at(&tree.0, "7"), Need::made_up()).unwrap();
        assert_eq!((need.bidders, need.flush, need.control), (vec![3, 5], 1, vec![0, 1]));
        tree.write("proc/6/task/6/comm", "bash");
        tree.write("proc/6/task/6/status", "");
        for (pid, says) in [("6", "no bidder thread"), ("5", "/proc/5/task")] {
            let why = running(&Machine::at(&tree.0, pid), Need::made_up()).unwrap_err();
            assert!(why.to_string().contains(says), "{why}");
        }
    }

    /// Whatever this machine is, it is judged without a panic.
    #[test]
    fn this_machine_is_judged() {
        let found = examine(&Machine::at(Path::new("/"), "self"), &defaults().unwrap(), io_probe::probe());
        assert_eq!(found.len(), knobs().count());
    }
}
