//! What the bidders' CPUs do to save power: clock, turbo, idle states.
//! Owns: nothing. Called by: `doctor`. Never: changes a clock.
use super::{
    finding::{Finding, Knob},
    machine::{Machine, Read, Unread},
    need::Need,
};
use outcry::config::plan::cpu_list;
use std::collections::BTreeMap;

static GOVERNOR: Knob = Knob {
    id: "governor",
    file: "power.md",
    costs: "a bidder CPU that is not busy all the time runs slower than it could, and is late to speed up",
};
static TURBO: Knob =
    Knob { id: "turbo", file: "power.md", costs: "bidder CPUs stay at their base clock though others idle" };
static IDLE_STATES: Knob = Knob {
    id: "idle-states",
    file: "power.md",
    costs: "each time a bidder CPU has waited, the first packet also pays the way out of the idle state",
};

pub(super) static KNOBS: &[&Knob] = &[&GOVERNOR, &TURBO, &IDLE_STATES];

/// Microseconds. C1 takes 1 or 2, C1E 10, and what follows, over 100.
const EXIT_US_MAX: u64 = 20;

pub(super) struct Power {
    /// Of each bidder CPU.
    clocks: Vec<(usize, Read<Clock>)>,
    /// `intel_pstate/no_turbo`.
    no_turbo: Read<u8>,
    /// `cpufreq/boost`.
    boost: Read<u8>,
    idle: Vec<(usize, Read<Vec<Idle>>)>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Clock {
    governor: String,
    driver: String,
    /// `energy_performance_preference`, where the CPU chooses its clock itself.
    preference: Option<String>,
}

/// An idle state that is allowed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Idle {
    exit_us: u64,
    name: String,
}

impl Power {
    pub(super) fn read(machine: &Machine, need: &Need) -> Power {
        let cpu = "sys/devices/system/cpu";
        let clock = |id: usize| -> Read<Clock> {
            let dir = format!("{cpu}/cpu{id}/cpufreq");
            Ok(Clock {
                governor: machine.text(&format!("{dir}/scaling_governor"))?,
                driver: machine.text(&format!("{dir}/scaling_driver"))?,
                preference: machine.text(&format!("{dir}/energy_performance_preference")).ok(),
            })
        };
        let idle = |id: usize| -> Read<Vec<Idle>> {
            let dir = format!("{cpu}/cpu{id}/cpuidle");
            let mut allowed = Vec::new();
            for state in machine.names(&dir)? {
                if machine.number::<u64>(&format!("{dir}/{state}/disable"))? == 0 {
                    allowed.push(Idle {
                        exit_us: machine.number(&format!("{dir}/{state}/latency"))?,
                        name: machine.text(&format!("{dir}/{state}/name"))?,
                    });
                }
            }
            Ok(allowed)
        };
        Power {
            clocks: need.bidders.iter().map(|id| (*id, clock(*id))).collect(),
            no_turbo: machine.number(&format!("{cpu}/intel_pstate/no_turbo")),
            boost: machine.number(&format!("{cpu}/cpufreq/boost")),
            idle: need.bidders.iter().map(|id| (*id, idle(*id))).collect(),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        vec![self.governor(), self.turbo(), self.idle_states()]
    }

    fn governor(&self) -> Finding {
        let clocks = match by_value(&self.clocks) {
            Err(why) => return GOVERNOR.unknown(&of_the_host(why)),
            Ok(clocks) => clocks,
        };
        let full = |c: &Clock| c.governor == "performance" || c.preference.as_deref() == Some("performance");
        // The drivers whose "powersave" lets the CPU choose; that of others is the lowest clock, always.
        let chooses = |c: &Clock| c.preference.is_some() || c.driver == "intel_pstate" || c.driver == "amd-pstate-epp";
        let found: Vec<String> = clocks
            .iter()
            .map(|(clock, cpus)| {
                let preference = clock.preference.as_ref().map_or(String::new(), |p| format!("/{p}"));
                format!("{}{preference} ({}) on {}", clock.governor, clock.driver, cpu_list(cpus))
            })
            .collect();
        let slow: Vec<usize> = clocks.iter().filter(|(c, _)| !full(c)).flat_map(|(_, cpus)| cpus.clone()).collect();
        if slow.is_empty() {
            return GOVERNOR.ok(found.join(", "));
        }
        let stuck = clocks.keys().any(|c| c.governor == "powersave" && !chooses(c));
        let mend = vec![
            format!("cpupower -c {} frequency-set -g performance", cpu_list(&slow)),
            format!("scripts/tune-cpus apply --bidders {}   # keeps what it found, for `undo`", cpu_list(&slow)),
        ];
        GOVERNOR.amiss(stuck, found.join(", "), "performance on every bidder CPU", mend)
    }

    fn turbo(&self) -> Finding {
        let (off, found) = match (&self.no_turbo, &self.boost) {
            (Ok(n), _) => (*n == 1, format!("intel_pstate/no_turbo {n}")),
            (_, Ok(n)) => (*n == 0, format!("cpufreq/boost {n}")),
            (Err(_), Err(why)) => return TURBO.unknown(&of_the_host(why)),
        };
        if !off {
            return TURBO.ok(found);
        }
        let mend = if self.no_turbo.is_ok() {
            "echo 0 > /sys/devices/system/cpu/intel_pstate/no_turbo"
        } else {
            "echo 1 > /sys/devices/system/cpu/cpufreq/boost"
        };
        TURBO.advice(found, "turbo on, unless a steady clock is wanted for measuring", vec![mend.to_owned()])
    }

    fn idle_states(&self) -> Finding {
        let deep: Vec<(usize, Read<Vec<Idle>>)> = self
            .idle
            .iter()
            .map(|(cpu, states)| {
                let deep = |s: &Vec<Idle>| s.iter().filter(|i| i.exit_us > EXIT_US_MAX).cloned().collect();
                (*cpu, states.as_ref().map(deep).map_err(Clone::clone))
            })
            .collect();
        let mut deep = match by_value(&deep) {
            Err(why) => return IDLE_STATES.unknown(&of_the_host(why)),
            Ok(deep) => deep,
        };
        deep.retain(|states, _| !states.is_empty());
        if deep.is_empty() {
            return IDLE_STATES.ok(format!("none that takes longer than {EXIT_US_MAX} us to leave"));
        }
        let found: Vec<String> = deep
            .iter()
            .map(|(states, cpus)| {
                let names: Vec<String> = states.iter().map(|s| format!("{} ({} us)", s.name, s.exit_us)).collect();
                format!("{} on {}", names.join(", "), cpu_list(cpus))
            })
            .collect();
        let cpus = cpu_list(&deep.into_values().flatten().collect::<Vec<_>>());
        let mend = vec![
            format!("cpupower -c {cpus} idle-set -D {}", EXIT_US_MAX + 1),
            format!("scripts/tune-cpus apply --bidders {cpus}   # keeps what it found, for `undo`"),
        ];
        IDLE_STATES.advice(found.join("; "), format!("on bidder CPUs none above {EXIT_US_MAX} us"), mend)
    }
}

/// What each CPU says, turned round: which CPUs say it. The first that could not be read stands for all.
fn by_value<T: Clone + Ord>(each: &[(usize, Read<T>)]) -> Result<BTreeMap<T, Vec<usize>>, &Unread> {
    let mut all: BTreeMap<T, Vec<usize>> = BTreeMap::new();
    for (cpu, value) in each {
        all.entry(value.as_ref()?.clone()).or_default().push(*cpu);
    }
    Ok(all)
}

fn of_the_host(why: &Unread) -> Unread {
    if !why.absent {
        return why.clone();
    }
    Unread { why: "not shown here; in a virtual machine this is the host's".to_owned(), ..why.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{absent, check},
        fixtures::Tree,
    };

    fn clock(governor: &str, driver: &str, preference: Option<&str>) -> Read<Clock> {
        let own = str::to_owned;
        Ok(Clock { governor: own(governor), driver: own(driver), preference: preference.map(own) })
    }

    fn state(name: &str, exit_us: u64) -> Idle {
        Idle { exit_us, name: name.to_owned() }
    }

    fn good() -> Power {
        let fast = |id| (id, clock("performance", "intel_pstate", Some("performance")));
        let shallow = |id| (id, Ok(vec![state("POLL", 0), state("C1", 2)]));
        Power {
            clocks: [1, 2, 3].map(fast).into(),
            no_turbo: Ok(0),
            boost: absent(),
            idle: [1, 2, 3].map(shallow).into(),
        }
    }

    #[test]
    fn governors() {
        check(&good().judge(), &["ok", "ok", "ok"], "performance/performance (intel_pstate) on 1-3");
        for (clock, verdict) in [
            (clock("powersave", "intel_pstate", Some("performance")), "ok"),
            (clock("powersave", "intel_pstate", Some("balance_performance")), "advice"),
            (clock("schedutil", "acpi-cpufreq", None), "advice"),
            (clock("powersave", "acpi-cpufreq", None), "wrong"),
        ] {
            let mut power = good();
            power.clocks[1].1 = clock;
            check(&power.judge(), &[verdict, "ok", "ok"], " on 2");
        }
        let mut power = good();
        power.clocks[0].1 = clock("ondemand", "acpi-cpufreq", None);
        check(&power.judge(), &["advice", "ok", "ok"], "cpupower -c 1 frequency-set -g performance");
    }

    #[test]
    fn turbo_and_idle_states() {
        check(&Power { no_turbo: Ok(1), ..good() }.judge(), &["ok", "advice", "ok"], "echo 0 >");
        let amd = |boost| Power { no_turbo: absent(), boost: Ok(boost), ..good() };
        check(&amd(1).judge(), &["ok", "ok", "ok"], "boost 1");
        check(&amd(0).judge(), &["ok", "advice", "ok"], "echo 1 >");
        let mut deep = good();
        for at in [1, 2] {
            deep.idle[at].1 = Ok(vec![state("C1", 2), state("C1E", 21), state("C6", 133)]);
        }
        check(&deep.judge(), &["ok", "ok", "advice"], "C1E (21 us), C6 (133 us) on 2-3");
    }

    #[test]
    fn a_virtual_machine_shows_nothing() {
        let tree = Tree::new(&[]);
        let power = Power::read(&Machine::at(&tree.0, "self"), &Need::made_up());
        check(&power.judge(), &["unknown"; 3], "in a virtual machine this is the host's");
    }

    #[test]
    fn it_is_read_of_bidder_cpus() {
        let tree = Tree::new(&[("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n")]);
        for id in 1..4 {
            let file = |name: &str, text: &str| tree.write(&format!("sys/devices/system/cpu/cpu{id}/{name}"), text);
            file("cpufreq/scaling_governor", "powersave\n");
            file("cpufreq/scaling_driver", "intel_pstate\n");
            file("cpufreq/energy_performance_preference", "balance_power\n");
            for (i, (name, us, off)) in [("POLL", 0, 0), ("C1", 2, 0), ("C6", 133, 1)].iter().enumerate() {
                file(&format!("cpuidle/state{i}/name"), name);
                file(&format!("cpuidle/state{i}/latency"), &us.to_string());
                file(&format!("cpuidle/state{i}/disable"), &off.to_string());
            }
        }
        let power = Power::read(&Machine::at(&tree.0, "self"), &Need::made_up());
        check(&power.judge(), &["advice", "ok", "ok"], "powersave/balance_power (intel_pstate) on 1-3");
    }
}
