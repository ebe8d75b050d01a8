//! Which CPUs do what: a pure function of the machine and of what the operator said.
//! Owns: nothing. Called by: boot, `outcry check`. Never: looks at the machine itself (that is `topology` among the
//! cores), pins a thread.
//! Full: more bidder cores than CPUs is an error; a quota below the CPUs caps the bidder cores.
use super::{explanation::Explanation, resolved::Cpus};
use crate::limits::CORES_MAX;
use std::fmt;

/// A CPU that this process may run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The kernel's number.
    pub id: usize,
    /// Its physical core, named by the lowest CPU on it: SMT siblings have the same.
    pub core: usize,
    /// Its NUMA node.
    pub node: usize,
    /// Taken out of the kernel's load balancing (`isolcpus`, an isolated cpuset).
    pub isolated: bool,
}

/// What the machine gives this process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// CPUs it may run on, by number.
    pub cpus: Vec<Cpu>,
    /// CPU time its control group may use, in thousandths of a CPU; `None`: no quota.
    pub quota_milli: Option<u64>,
    /// What was found on the way, for the plan's reasons.
    pub notes: Vec<String>,
}

/// Which CPUs do what. Prints as a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// One bidder thread is pinned to each; never empty.
    pub bidders: Vec<usize>,
    /// The flush core's CPU.
    pub flush: usize,
    /// Where the control thread and libraries' threads may run; never empty.
    pub control: Vec<usize>,
    /// Why, one sentence for each decision.
    pub reasons: Vec<String>,
    /// Why, CPU by CPU.
    pub explanation: Explanation,
}

/// What the planner writes down while it decides.
struct Log {
    reasons: Vec<String>,
    explanation: Explanation,
}

/// Why what the operator said cannot be done on this machine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// The machine could not be read.
    #[error("this process may run on no CPU: its affinity mask could not be read")]
    NoCpu,
    /// A CPU that does not exist, is offline, or is outside of the affinity mask.
    #[error("{key}: found CPU {}; allowed: {}", cpu_list(.cpus), cpu_list(.allowed))]
    NotAllowed {
        /// `cpus.bidders`, for instance.
        key: &'static str,
        /// The CPUs that are refused.
        cpus: Vec<usize>,
        /// The CPUs this process may run on.
        allowed: Vec<usize>,
    },
    /// More bidder cores than CPUs.
    #[error("cpus.bidder_count: found {wanted}; allowed: 1 to {cpus}, the CPUs this process may run on")]
    TooMany {
        /// What was written.
        wanted: usize,
        /// How many CPUs there are.
        cpus: usize,
    },
}

/// Decides which CPUs do what.
///
/// One bidder for each physical core, on isolated CPUs where there are any; SMT siblings are left to flush and
/// control; one CPU at least is kept for these two; a quota caps the bidders. What the operator said goes first.
///
/// # Errors
/// When what the operator said cannot be done here.
pub fn plan(topology: &Topology, told: &Cpus) -> Result<Plan, PlanError> {
    if topology.cpus.is_empty() {
        return Err(PlanError::NoCpu);
    }
    possible(topology, "cpus.bidders", &told.bidders)?;
    possible(topology, "cpus.flush", told.flush.as_slice())?;
    possible(topology, "cpus.control", &told.control)?;
    let mut log = Log { reasons: topology.notes.clone(), explanation: Explanation::of(topology) };
    let bidders = bidders(topology, told, &mut log)?;
    bidders.iter().for_each(|&cpu| log.explanation.runs(cpu, "bidder"));
    let flush = flush(topology, told, &bidders, &mut log);
    log.explanation.runs(flush, "flush");
    let control = control(topology, told, &bidders, flush, &mut log);
    control.iter().for_each(|&cpu| log.explanation.runs(cpu, "control"));
    Ok(Plan { bidders, flush, control, reasons: log.reasons, explanation: log.explanation })
}

fn possible(topology: &Topology, key: &'static str, wanted: &[usize]) -> Result<(), PlanError> {
    let cpus: Vec<usize> = wanted.iter().copied().filter(|w| topology.cpus.iter().all(|c| c.id != *w)).collect();
    if cpus.is_empty() {
        return Ok(());
    }
    Err(PlanError::NotAllowed { key, cpus, allowed: topology.cpus.iter().map(|c| c.id).collect() })
}

fn bidders(topology: &Topology, told: &Cpus, log: &mut Log) -> Result<Vec<usize>, PlanError> {
    let cpus = &topology.cpus;
    // A bidder that is throttled for the rest of a period is late for every auction of it, so something less than
    // the quota must be left for flush and control.
    let quota = topology.quota_milli.map(|q| (q.div_ceil(1_000) as usize).saturating_sub(1).max(1));
    if !told.bidders.is_empty() {
        log.reasons.push(format!("bidders on {} because cpus.bidders says so", cpu_list(&told.bidders)));
        for cpu in &topology.cpus {
            let named = told.bidders.contains(&cpu.id);
            log.explanation.because(cpu.id, if named { "cpus.bidders names it" } else { "cpus.bidders names others" });
        }
        log.explanation.counted(format!("{}, as many as cpus.bidders names", told.bidders.len()), &["cpus.bidders"]);
        warn_quota(topology, told.bidders.len(), quota, log);
        return Ok(told.bidders.clone());
    }
    let (order, fit) = order(topology, told.flush, log);
    let mut fitting = fit;
    if let Some(count) = told.bidder_count {
        if count > cpus.len() {
            return Err(PlanError::TooMany { wanted: count, cpus: cpus.len() });
        }
        log.reasons.push(format!("{} because cpus.bidder_count says so", bidder_cores(count)));
        if count > fitting {
            log.reasons.push(format!(
                "that is more than the {fitting} that fit: bidders also take SMT siblings and other CPUs meant for \
                 flush and control"
            ));
        }
        log.explanation
            .counted(format!("{count}, which cpus.bidder_count says; {fitting} fit"), &["cpus.bidder_count"]);
        warn_quota(topology, count, quota, log);
        fitting = count;
    } else if let Some(cap) = quota.filter(|&cap| cap < fitting) {
        log.reasons.push(format!(
            "{} because the control group's quota is {} CPUs, and flush and control need some of it",
            bidder_cores(cap),
            milli(topology.quota_milli.unwrap_or(0))
        ));
        log.explanation.counted(
            format!(
                "{cap}: {fitting} fit, but the control group's quota is {} CPUs, and who has used it up stands still",
                milli(topology.quota_milli.unwrap_or(0))
            ),
            &[
                "the quota (CPUQuota= of the unit, --cpus of a container)",
                "cpus.bidder_count, at the price of being throttled",
            ],
        );
        fitting = cap;
    }
    if fitting > CORES_MAX {
        log.reasons.push(format!("{} because that is the most one process has", bidder_cores(CORES_MAX)));
        log.explanation.counted(
            format!("{CORES_MAX}: {fitting} would fit, but no process has more"),
            &["a second exchange beside this one, each with cpus.bidders of its own"],
        );
        fitting = CORES_MAX;
    }
    for (place, &cpu) in order.iter().enumerate() {
        match (place < fit, place < fitting) {
            (true, false) => log.explanation.because(cpu, "left out, because fewer bidders run than fit"),
            (false, true) => log.explanation.because(cpu, "a bidder all the same, because more run than fit"),
            _ => {}
        }
    }
    let mut bidders: Vec<usize> = order.into_iter().take(fitting).collect();
    bidders.sort_unstable();
    Ok(bidders)
}

fn warn_quota(topology: &Topology, count: usize, quota: Option<usize>, log: &mut Log) {
    if let (Some(milli_cpus), true) = (topology.quota_milli, quota.is_some_and(|cap| count > cap)) {
        log.reasons.push(format!(
            "warning: the control group's quota is {} CPUs; under load {} will be throttled and answer late",
            milli(milli_cpus),
            bidder_cores(count)
        ));
    }
}

/// All CPUs in the order in which bidders take them, and how many of them bidders should take.
fn order(topology: &Topology, flush: Option<usize>, log: &mut Log) -> (Vec<usize>, usize) {
    let cpus = &topology.cpus;
    let only_isolated = cpus.iter().all(|c| c.isolated);
    let isolated = !only_isolated && cpus.iter().any(|c| c.isolated);
    // The first thread of each physical core; on isolated CPUs alone where there are any. What was told to be
    // the flush core's is not taken.
    let mut first: Vec<&Cpu> = Vec::new();
    for cpu in cpus {
        let sibling = first.iter().find(|f| f.core == cpu.core).map(|f| f.id);
        let why = match (cpu.isolated == isolated || only_isolated, Some(cpu.id) == flush, sibling) {
            (false, ..) => "not isolated, while others are: those are for bidders".to_owned(),
            (_, true, _) => "no bidder, because cpus.flush names it".to_owned(),
            (_, _, Some(first)) => {
                format!("no bidder, because CPU {first} is of the same physical core: an SMT sibling")
            }
            (_, _, None) => {
                first.push(cpu);
                format!("{}first thread of its physical core", if isolated { "isolated, and " } else { "" })
            }
        };
        log.explanation.because(cpu.id, why);
    }
    // The node with the most of them first: fewer bidders then stay on one node.
    let on_node = |node| first.iter().filter(|f| f.node == node).count();
    let mut taken: Vec<usize> = first.iter().map(|f| f.id).collect();
    taken.sort_by_key(|id| {
        let node = cpus.iter().find(|c| c.id == *id).map_or(0, |c| c.node);
        (usize::MAX - on_node(node), node, *id)
    });
    if isolated {
        log.reasons.push(format!(
            "bidders on isolated CPUs, one for each of {} physical cores: the kernel puts nothing else there",
            taken.len()
        ));
    } else {
        log.reasons.push(format!("one bidder for each physical core, of which there are {}", taken.len()));
    }
    let cores = |c: &Cpu| cpus.iter().filter(|o| o.core == c.core).count();
    if first.iter().any(|f| cores(f) > 1) {
        log.reasons
            .push("SMT siblings of bidders are left to flush and control: a bidder needs its core alone".to_owned());
    }
    let mut rest: Vec<&Cpu> = cpus.iter().filter(|c| !taken.contains(&c.id)).collect();
    // Nothing left for flush and control: the lowest CPU is theirs, which gets the kernel's interrupts anyway.
    let mut kept = None;
    if rest.is_empty() && taken.len() > 1 {
        let lowest = taken.iter().copied().min();
        taken.retain(|id| Some(*id) != lowest);
        kept = lowest;
        log.reasons.push(format!("CPU {} is kept for flush and control", lowest.unwrap_or(0)));
        log.explanation.because(
            lowest.unwrap_or(0),
            "but kept for flush and control, which need one: it is the lowest, and gets the kernel's interrupts anyway",
        );
    }
    let fitting = taken.len().max(1);
    let (of, less) = (if isolated { "isolated physical core" } else { "physical core" }, usize::from(kept.is_some()));
    log.explanation.counted(
        format!("{fitting}, one for each {of}{}", if less > 0 { ", less the one that is kept" } else { "" }),
        &[
            "cpus.bidder_count (more than fit also take SMT siblings and other CPUs)",
            "cpus.bidders, which names the CPUs",
            "the machine: isolcpus=, the affinity mask (CPUAffinity=), the cpuset, a quota",
        ],
    );
    // Isolated siblings before the others; the flush core's own last of all.
    rest.sort_by_key(|c| (Some(c.id) == flush, !c.isolated, c.id == cpus[0].id, c.id));
    if let (true, Some(only)) = (taken.is_empty(), rest.first()) {
        log.explanation.because(only.id, "a bidder all the same: there is no other CPU");
    }
    taken.extend(rest.iter().map(|c| c.id));
    taken.extend(kept);
    (taken, fitting)
}

fn flush(topology: &Topology, told: &Cpus, bidders: &[usize], log: &mut Log) -> usize {
    let is_bidder = |id: usize| bidders.contains(&id);
    if let Some(flush) = told.flush {
        log.reasons.push(format!("flush on CPU {flush} because cpus.flush says so"));
        if is_bidder(flush) {
            log.reasons.push(format!("warning: flush and a bidder share CPU {flush}; that bidder will be slower"));
        }
        log.explanation.because(flush, "flush, because cpus.flush names it");
        return flush;
    }
    let mine: Vec<&Cpu> = topology.cpus.iter().filter(|c| is_bidder(c.id)).collect();
    let weight = |node: usize| mine.iter().filter(|c| c.node == node).count();
    let best = topology.cpus.iter().filter(|c| !is_bidder(c.id)).min_by_key(|c| {
        // The bidders' node, then not isolated, then a physical core without a bidder, then the lowest.
        (usize::MAX - weight(c.node), c.isolated, mine.iter().any(|m| m.core == c.core), c.id)
    });
    let Some(best) = best else {
        let shared = bidders.last().copied().unwrap_or(0);
        log.reasons.push(format!("flush shares CPU {shared} with a bidder: there is no other"));
        log.explanation.because(shared, "flush too: there is no CPU without a bidder");
        return shared;
    };
    let nodes = topology.cpus.iter().any(|c| c.node != best.node);
    let sibling = mine.iter().find(|m| m.core == best.core);
    let why = match (sibling, nodes) {
        (Some(s), _) => {
            format!("the SMT sibling of bidder CPU {}: no physical core is free of bidders on node {}", s.id, best.node)
        }
        (None, true) => format!("on node {} as most bidders are", best.node),
        (None, false) => "on a physical core without a bidder".to_owned(),
    };
    log.explanation.because(best.id, format!("flush: {why}"));
    log.reasons.push(format!("flush on CPU {}, {why}", best.id));
    best.id
}

fn control(topology: &Topology, told: &Cpus, bidders: &[usize], flush: usize, log: &mut Log) -> Vec<usize> {
    if !told.control.is_empty() {
        log.reasons.push(format!("control on {} because cpus.control says so", cpu_list(&told.control)));
        if told.control.iter().any(|c| bidders.contains(c)) {
            log.reasons
                .push("warning: control may run on a bidder's CPU; what blocks there delays auctions".to_owned());
        }
        told.control.iter().for_each(|&cpu| log.explanation.because(cpu, "control, because cpus.control names it"));
        return told.control.clone();
    }
    let free: Vec<&Cpu> = topology.cpus.iter().filter(|c| c.id != flush && !bidders.contains(&c.id)).collect();
    let with_bidder = |c: &Cpu| topology.cpus.iter().any(|o| o.core == c.core && bidders.contains(&o.id));
    // Best first: cores of their own, then siblings. The kernel does not balance threads over isolated CPUs:
    // they would all stay on the first.
    let pick = |sibling: bool| -> Vec<usize> {
        free.iter().filter(|c| !c.isolated && (sibling || !with_bidder(c))).map(|c| c.id).collect()
    };
    for (control, why) in [
        (pick(false), "the CPUs that share no physical core with a bidder"),
        (pick(true), "SMT siblings of bidders: there is nothing else"),
    ] {
        if !control.is_empty() {
            log.reasons.push(format!("control on {}, {why}", cpu_list(&control)));
            for cpu in &free {
                let left = if cpu.isolated {
                    "control is kept away: the kernel balances no threads over isolated CPUs".to_owned()
                } else {
                    "control is kept away: it has CPUs that share no physical core with a bidder".to_owned()
                };
                let taken = control.contains(&cpu.id);
                log.explanation.because(cpu.id, if taken { format!("control: one of {why}") } else { left });
            }
            return control;
        }
    }
    log.reasons.push(format!("control shares CPU {flush} with flush: there is no other"));
    log.explanation.because(flush, "control too: there is no other CPU for it");
    vec![flush]
}

fn bidder_cores(count: usize) -> String {
    format!("{count} bidder core{}", if count == 1 { "" } else { "s" })
}

/// Thousandths as a decimal: 1500 is 1.5.
fn milli(n: u64) -> String {
    format!("{}.{:03}", n / 1_000, n % 1_000).trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// CPUs as the kernel writes them: `0-3,8`.
pub fn cpu_list(cpus: &[usize]) -> String {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for cpu in sorted {
        match runs.last_mut() {
            Some(run) if run.1 + 1 == cpu => run.1 = cpu,
            _ => runs.push((cpu, cpu)),
        }
    }
    let texts: Vec<String> =
        runs.iter().map(|&(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    texts.join(",")
}

impl fmt::Display for Plan {
    /// A table, then the reasons; ends with a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10}{:<9}CPUs", "role", "threads")?;
        writeln!(f, "{:<10}{:<9}{}", "bidders", self.bidders.len(), cpu_list(&self.bidders))?;
        writeln!(f, "{:<10}{:<9}{}", "flush", 1, self.flush)?;
        writeln!(f, "{:<10}{:<9}{}", "control", 1, cpu_list(&self.control))?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  - {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `cores` physical cores with `threads` threads each, numbered as Linux does: first threads first; split
    /// evenly into `nodes`.
    fn machine(cores: usize, threads: usize, nodes: usize) -> Topology {
        let cpu = |id| Cpu { id, core: id % cores, node: (id % cores) * nodes / cores, isolated: false };
        Topology { cpus: (0..cores * threads).map(cpu).collect(), ..Topology::default() }
    }

    fn isolate(mut topology: Topology, cores: &[std::ops::Range<usize>]) -> Topology {
        topology.cpus.iter_mut().for_each(|c| c.isolated = cores.iter().any(|r| r.contains(&c.core)));
        topology
    }

    fn quota(mut topology: Topology, milli: u64) -> Topology {
        topology.quota_milli = Some(milli);
        topology
    }

    #[track_caller]
    fn check(topology: &Topology, told: &Cpus, want: (&str, usize, &str), because: &[&str]) {
        let plan = plan(topology, told).unwrap();
        let got = (cpu_list(&plan.bidders), plan.flush, cpu_list(&plan.control));
        assert_eq!((got.0.as_str(), got.1, got.2.as_str()), want, "\n{plan}");
        for reason in because {
            assert!(plan.reasons.iter().any(|r| r.contains(reason)), "no {reason:?} in\n{plan}");
        }
    }

    #[test]
    fn machines() {
        let auto = Cpus::default();
        check(&machine(1, 1, 1), &auto, ("0", 0, "0"), &["flush shares CPU 0", "control shares CPU 0"]);
        check(&machine(2, 1, 1), &auto, ("1", 0, "0"), &["CPU 0 is kept for flush and control", "control shares"]);
        check(&machine(1, 2, 1), &auto, ("0", 1, "1"), &["SMT sibling of bidder CPU 0", "control shares CPU 1"]);
        check(&machine(4, 1, 1), &auto, ("1-3", 0, "0"), &["one bidder for each physical core"]);
        check(&machine(2, 2, 1), &auto, ("0-1", 2, "3"), &["SMT siblings of bidders are left to flush and control"]);
        check(
            &machine(4, 2, 1),
            &auto,
            ("0-3", 4, "5-7"),
            &["one bidder for each physical core, of which there are 4"],
        );
        let big = isolate(machine(32, 2, 2), &[2..16, 18..32]);
        check(&big, &auto, ("2-15,18-31", 0, "1,16-17,32-33,48-49"), &["isolated CPUs", "on node 0 as most bidders"]);
        // Isolated on the second node only: flush goes there too.
        let second = isolate(machine(32, 1, 2), std::slice::from_ref(&(18..32)));
        check(&second, &auto, ("18-31", 16, "0-15,17"), &["on node 1 as most bidders"]);
        // All that is allowed is isolated, as when somebody pinned the whole process there.
        let all = isolate(machine(4, 1, 1), std::slice::from_ref(&(0..4)));
        check(&all, &auto, ("1-3", 0, "0"), &["CPU 0 is kept"]);
    }

    #[test]
    fn quotas_cap_bidders() {
        let auto = Cpus::default();
        check(&quota(machine(8, 1, 1), 1_500), &auto, ("1", 0, "2-7"), &["quota is 1.5 CPUs"]);
        check(&quota(machine(8, 1, 1), 4_000), &auto, ("1-3", 0, "4-7"), &["3 bidder cores", "quota is 4 CPUs"]);
        check(&quota(machine(8, 1, 1), 250), &auto, ("1", 0, "2-7"), &["1 bidder core because", "0.25 CPUs"]);
        check(&quota(machine(4, 1, 1), 64_000), &auto, ("1-3", 0, "0"), &[]);
        let told = Cpus { bidder_count: Some(3), ..Cpus::default() };
        check(&quota(machine(8, 1, 1), 1_500), &told, ("1-3", 0, "4-7"), &["warning: the control group's quota"]);
    }

    #[test]
    fn what_is_told_goes_first() {
        let lists = |bidders: &[usize], flush, control: &[usize]| Cpus {
            bidders: bidders.to_vec(),
            flush,
            control: control.to_vec(),
            ..Cpus::default()
        };
        let count = |n| Cpus { bidder_count: Some(n), ..Cpus::default() };
        let m = machine(4, 2, 1);
        check(&m, &lists(&[2, 6], None, &[]), ("2,6", 0, "1,3-5,7"), &["cpus.bidders says so"]);
        check(&m, &lists(&[2, 3], Some(7), &[0, 1]), ("2-3", 7, "0-1"), &["cpus.flush says", "cpus.control says"]);
        check(&m, &lists(&[2], Some(2), &[2]), ("2", 2, "2"), &["warning: flush and", "warning: control may run"]);
        // A told flush core is left out by the bidders.
        check(&m, &lists(&[], Some(0), &[]), ("1-4", 0, "5-7"), &[]);
        check(&m, &count(2), ("0-1", 2, "3,6-7"), &["2 bidder cores because cpus.bidder_count"]);
        check(&m, &count(8), ("0-7", 7, "7"), &["more than the 4 that fit"]);
        check(&machine(2, 1, 1), &count(2), ("0-1", 1, "1"), &["flush shares CPU 1"]);
        // Few bidders stay on one node, flush with them.
        check(&machine(8, 1, 2), &count(3), ("1-3", 0, "4-7"), &[]);
        let bad = plan(&m, &lists(&[2, 8, 9], None, &[])).unwrap_err();
        assert_eq!(bad.to_string(), "cpus.bidders: found CPU 8-9; allowed: 0-7");
        let bad = plan(&m, &count(9)).unwrap_err();
        assert_eq!(bad.to_string(), "cpus.bidder_count: found 9; allowed: 1 to 8, the CPUs this process may run on");
        assert_eq!(plan(&Topology::default(), &Cpus::default()), Err(PlanError::NoCpu));
    }

    #[test]
    fn it_prints_as_a_table() {
        let plan = plan(&machine(2, 1, 1), &Cpus::default()).unwrap();
        assert_eq!(
            plan.to_string(),
            "role      threads  CPUs\n\
             bidders   1        1\n\
             flush     1        0\n\
             control   1        0\n  \
             - one bidder for each physical core, of which there are 2\n  \
             - CPU 0 is kept for flush and control\n  \
             - flush on CPU 0, on a physical core without a bidder\n  \
             - control shares CPU 0 with flush: there is no other\n"
        );
    }

    #[test]
    fn each_cpu_explains_itself() {
        let auto = Cpus::default();
        let cases = [
            ("three cores", machine(3, 1, 1), auto.clone()),
            ("two cores of two threads", machine(2, 2, 1), auto.clone()),
            ("the same, the second isolated", isolate(machine(2, 2, 1), std::slice::from_ref(&(1..2))), auto.clone()),
            ("a quota of 1.5 CPUs", quota(machine(4, 1, 1), 1_500), auto),
            ("one CPU, told to be flush's", machine(1, 1, 1), Cpus { flush: Some(0), ..Cpus::default() }),
        ];
        let explained =
            cases.map(|(what, topology, told)| format!("--- {what}\n{}", plan(&topology, &told).unwrap().explanation));
        let got = explained.concat();
        let want = include_str!("plan_explained.txt");
        assert_eq!(got, want, "\n--- what is said now; when it is right, it belongs into plan_explained.txt:\n{got}");
    }

    #[test]
    fn why_so_many() {
        let count = |topology: &Topology, told: &Cpus| plan(topology, told).unwrap().explanation.count;
        let auto = Cpus::default();
        assert_eq!(count(&machine(4, 1, 1), &auto), "3, one for each physical core, less the one that is kept");
        assert_eq!(count(&machine(4, 2, 1), &auto), "4, one for each physical core");
        let isolated = isolate(machine(32, 2, 2), &[2..16, 18..32]);
        assert_eq!(count(&isolated, &auto), "28, one for each isolated physical core");
        assert!(
            count(&quota(machine(8, 1, 1), 1_500), &auto).starts_with("1: 7 fit, but the control group's quota is 1.5")
        );
        let two = Cpus { bidder_count: Some(2), ..Cpus::default() };
        assert_eq!(count(&machine(4, 1, 1), &two), "2, which cpus.bidder_count says; 3 fit");
        let named = Cpus { bidders: vec![0, 3], ..Cpus::default() };
        assert_eq!(count(&machine(4, 1, 1), &named), "2, as many as cpus.bidders names");
        assert!(count(&machine(300, 1, 1), &auto).starts_with("256: 299 would fit"));
        // Those that were left out say so, and those that are taken beyond what fits.
        let why = |told: &Cpus, cpu: usize| plan(&machine(2, 2, 1), told).unwrap().explanation.cpus[cpu].why.join("; ");
        assert!(why(&Cpus { bidder_count: Some(1), ..Cpus::default() }, 1).contains("fewer bidders run than fit"));
        assert!(why(&Cpus { bidder_count: Some(3), ..Cpus::default() }, 2).contains("more run than fit"));
        assert_eq!(
            why(&named_of(&[1]), 3),
            "cpus.bidders names others; control is kept away: it has CPUs that share no \
                                             physical core with a bidder"
        );
    }

    fn named_of(bidders: &[usize]) -> Cpus {
        Cpus { bidders: bidders.to_vec(), ..Cpus::default() }
    }

    proptest! {
        /// Whatever the machine: every CPU of the plan is allowed, no CPU has two bidders, and from two CPUs up
        /// one is free of them.
        #[test]
        fn every_machine_has_a_plan(
            cores in 1usize..40, threads in 1usize..3, nodes in 1usize..4,
            hidden in any::<u64>(), isolated in any::<u64>(), milli in proptest::option::of(1u64..100_000),
        ) {
            let mut m = machine(cores, threads, nodes);
            m.quota_milli = milli;
            m.cpus.iter_mut().for_each(|c| c.isolated = isolated >> (c.id % 64) & 1 == 1);
            m.cpus.retain(|c| hidden >> (c.id % 64) & 1 == 0);
            prop_assume!(!m.cpus.is_empty());
            let plan = plan(&m, &Cpus::default()).unwrap();
            let allowed = |id: &usize| m.cpus.iter().any(|c| c.id == *id);
            prop_assert!(plan.bidders.iter().chain(&plan.control).chain([&plan.flush]).all(allowed));
            prop_assert!(!plan.bidders.is_empty() && !plan.control.is_empty());
            prop_assert!(plan.bidders.windows(2).all(|w| w[0] < w[1]));
            // The account has every CPU, and of each the roles that it has and a reason.
            let told: Vec<usize> = plan.explanation.cpus.iter().map(|row| row.cpu.id).collect();
            prop_assert_eq!(told, m.cpus.iter().map(|c| c.id).collect::<Vec<_>>());
            for row in &plan.explanation.cpus {
                let (id, mut roles) = (row.cpu.id, vec![]);
                roles.extend(plan.bidders.contains(&id).then_some("bidder"));
                roles.extend((plan.flush == id).then_some("flush"));
                roles.extend(plan.control.contains(&id).then_some("control"));
                prop_assert_eq!(&row.runs, &roles);
                prop_assert!(!row.why.is_empty(), "CPU {} has no reason", id);
            }
            prop_assert!(plan.explanation.count.starts_with(&plan.bidders.len().to_string()), "{}", plan.explanation);
            prop_assert!(!plan.explanation.changes.is_empty());
            if m.cpus.len() > 1 {
                prop_assert!(!plan.bidders.contains(&plan.flush), "{plan}");
                prop_assert!(plan.control.iter().all(|c| !plan.bidders.contains(c)), "{plan}");
            }
        }
    }
}
