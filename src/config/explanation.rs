//! Why each CPU does what it does: written down by the planner where it decides, printed by `outcry check --explain`.
//! Owns: nothing. Called by: `plan`. Never: decides, so it cannot say what was not done.
use super::plan::{Cpu, Topology};
use std::fmt;

/// The planner's own account.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Explanation {
    /// One for each CPU of the process, by number.
    pub cpus: Vec<Use>,
    /// Why so many bidder cores.
    pub count: String,
    /// What would change that: keys of the configuration, settings of the machine.
    pub changes: Vec<String>,
}

/// What one CPU does, and the decisions that led to it, in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Use {
    /// Which.
    pub cpu: Cpu,
    /// Roles that run there; none: it is left to the kernel and to other processes.
    pub runs: Vec<&'static str>,
    /// Why.
    pub why: Vec<String>,
}

impl Explanation {
    pub(super) fn of(topology: &Topology) -> Explanation {
        let cpus = topology.cpus.iter().map(|cpu| Use { cpu: *cpu, runs: Vec::new(), why: Vec::new() });
        Explanation { cpus: cpus.collect(), ..Explanation::default() }
    }

    /// A decision about this CPU.
    pub(super) fn because(&mut self, cpu: usize, why: impl Into<String>) {
        if let Some(row) = self.cpus.iter_mut().find(|row| row.cpu.id == cpu) {
            row.why.push(why.into());
        }
    }

    /// This role runs there.
    pub(super) fn runs(&mut self, cpu: usize, role: &'static str) {
        if let Some(row) = self.cpus.iter_mut().find(|row| row.cpu.id == cpu) {
            row.runs.push(role);
        }
    }

    /// Why so many bidder cores, and what would change that.
    pub(super) fn counted(&mut self, why: impl Into<String>, changes: &[&str]) {
        self.count = why.into();
        self.changes = changes.iter().map(|c| (*c).to_owned()).collect();
    }
}

impl fmt::Display for Explanation {
    /// A table, then the number of bidder cores; ends with a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<5}{:<6}{:<6}{:<24}why", "CPU", "core", "node", "runs")?;
        for Use { cpu, runs, why } in &self.cpus {
            let runs = if runs.is_empty() { "nothing of ours".to_owned() } else { runs.join(", ") };
            writeln!(f, "{:<5}{:<6}{:<6}{runs:<24}{}", cpu.id, cpu.core, cpu.node, why.join("; "))?;
        }
        writeln!(f, "bidder cores: {}", self.count)?;
        self.changes.iter().try_for_each(|change| writeln!(f, "  changed by {change}"))
    }
}
