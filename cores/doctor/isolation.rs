//! Who else may run on the bidders' CPUs, and whether they get all of their time.
//! Owns: nothing. Called by: `doctor`. Never: moves a thread.
use super::{
    finding::{Finding, Knob},
    machine::{Machine, Read},
    need::Need,
};
use crate::topology;
use outcry::config::plan::cpu_list;

static ISOLATION: Knob = Knob {
    id: "isolation",
    file: "isolation.md",
    costs: "any other process may be put on a bidder CPU, and the auctions there wait a scheduler's turn, milliseconds",
};
static TICKLESS: Knob = Knob {
    id: "tickless",
    file: "isolation.md",
    costs: "the timer interrupts a bidder CPU 100 to 1000 times a second, and RCU runs other CPUs' callbacks there",
};
static CPUSET: Knob =
    Knob { id: "cpuset", file: "cgroups.md", costs: "a bidder thread is not where the plan says, and shares a CPU" };
static CPU_QUOTA: Knob = Knob {
    id: "cpu-quota",
    file: "cgroups.md",
    costs: "who has used the quota stands still for the rest of the period, up to 100 ms: every auction of it is late",
};

pub(super) static KNOBS: &[&Knob] = &[&ISOLATION, &TICKLESS, &CPUSET, &CPU_QUOTA];

pub(super) struct Isolation {
    /// By `isolcpus=`.
    isolated: Read<Vec<usize>>,
    /// By isolated partitions of cpusets, since Linux 6.7.
    partitioned: Read<Vec<usize>>,
    nohz_full: Read<Vec<usize>>,
    rcu_nocbs: Vec<usize>,
    online: Read<Vec<usize>>,
    cpuset: Read<Vec<usize>>,
    quota_milli: Option<u64>,
    /// Periods in which the group was throttled, since it exists.
    throttled: Read<u64>,
}

impl Isolation {
    pub(super) fn read(machine: &Machine) -> Isolation {
        let cpu = "sys/devices/system/cpu";
        let list = |text: &str| topology::parse_list(text).unwrap_or_default();
        let cmdline = machine.text("proc/cmdline").unwrap_or_default();
        Isolation {
            isolated: machine.cpus(&format!("{cpu}/isolated")),
            partitioned: machine.cpus("sys/fs/cgroup/cpuset.cpus.isolated"),
            nohz_full: machine.cpus(&format!("{cpu}/nohz_full")),
            rcu_nocbs: cmdline.split(' ').find_map(|w| w.strip_prefix("rcu_nocbs=")).map(list).unwrap_or_default(),
            online: machine.cpus(&format!("{cpu}/online")),
            cpuset: machine.of_group("cpuset.cpus.effective").map(|text| list(&text)),
            quota_milli: topology::quota(machine.root(), machine.process()),
            throttled: machine.of_group("cpu.stat").map(|text| throttled(&text)),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        vec![self.isolation(need), self.tickless(need), self.cpuset(need), self.cpu_quota(need)]
    }

    fn isolation(&self, need: &Need) -> Finding {
        let isolated: Vec<usize> = match (&self.isolated, &self.partitioned) {
            (Err(why), Err(_)) => return ISOLATION.unknown(why),
            (a, b) => [a, b].into_iter().flatten().flatten().copied().collect(),
        };
        let open = outside(&need.bidders, &isolated);
        if open.is_empty() {
            return ISOLATION.ok(format!("bidders on {}, all isolated", cpu_list(&need.bidders)));
        }
        let found = format!("bidders on {}, not isolated: {}", cpu_list(&need.bidders), cpu_list(&open));
        let (list, rest) = (cpu_list(&need.bidders), cpu_list(&need.housekeeping()));
        let mend = vec![
            format!(
                "systemctl set-property --runtime system.slice AllowedCPUs={rest}   # user.slice and init.scope too"
            ),
            format!("isolcpus=domain,managed_irq,{list}   # on the kernel's command line, and start anew"),
        ];
        ISOLATION.advice(found, "nobody else on bidder CPUs", mend)
    }

    fn tickless(&self, need: &Need) -> Finding {
        let nohz = match &self.nohz_full {
            Err(why) => return TICKLESS.unknown(why),
            Ok(list) => list,
        };
        let shown = |list: &[usize]| if list.is_empty() { "none".to_owned() } else { cpu_list(list) };
        let found = format!("nohz_full on {}, rcu_nocbs on {}", shown(nohz), shown(&self.rcu_nocbs));
        // nohz_full offloads the callbacks of its CPUs by itself.
        if outside(&need.bidders, nohz).is_empty() {
            return TICKLESS.ok(found);
        }
        let list = cpu_list(&need.bidders);
        let mend = vec![format!("nohz_full={list} rcu_nocbs={list}   # on the kernel's command line, and start anew")];
        TICKLESS.advice(found, format!("both on {list}; worth it where bidders are isolated"), mend)
    }

    fn cpuset(&self, need: &Need) -> Finding {
        let set = match &self.cpuset {
            Err(why) if why.absent => return CPUSET.ok("none"),
            Err(why) => return CPUSET.unknown(why),
            Ok(set) => set,
        };
        let found = match &self.online {
            Ok(online) if outside(online, set).is_empty() => "all CPUs of the machine".to_owned(),
            _ => format!("CPUs {}", cpu_list(set)),
        };
        let refused = outside(&need.bidders, set);
        if refused.is_empty() {
            return CPUSET.ok(found);
        }
        let mend = vec!["systemctl edit outcry   # [Service] AllowedCPUs= with every CPU of the plan".to_owned()];
        CPUSET.wrong(found, format!("bidder CPUs {} in it", cpu_list(&refused)), mend)
    }

    fn cpu_quota(&self, need: &Need) -> Finding {
        let mut found = match self.quota_milli {
            None => "none".to_owned(),
            Some(milli) => format!("{}.{:03} CPUs", milli / 1_000, milli % 1_000),
        };
        let throttled = self.throttled.as_ref().map_or(0, |n| *n);
        if throttled > 0 {
            found += &format!("; throttled in {throttled} periods");
        }
        let bidders = need.bidders.len() as u64 * 1_000;
        let mend = || {
            vec![
                "systemctl set-property outcry CPUQuota=".to_owned(),
                "docker: no --cpus, but --cpuset-cpus; Kubernetes: whole CPUs and the static CPU manager policy"
                    .to_owned(),
            ]
        };
        match self.quota_milli {
            Some(milli) if throttled > 0 || milli < bidders + 1_000 => {
                CPU_QUOTA.wrong(found, "no quota, or one CPU more than there are bidders", mend())
            }
            // Flush and control together may need more than what is left.
            Some(milli) if milli < bidders + 2_000 => CPU_QUOTA.advice(found, "no quota", mend()),
            _ => CPU_QUOTA.ok(found),
        }
    }
}

/// Those of the first that are not among the second.
fn outside(cpus: &[usize], of: &[usize]) -> Vec<usize> {
    cpus.iter().copied().filter(|c| !of.contains(c)).collect()
}

/// `nr_throttled` of `cpu.stat`, the same in both versions of control groups.
fn throttled(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{absent, check, unread},
        fixtures::Tree,
    };

    fn good() -> Isolation {
        Isolation {
            isolated: Ok(vec![1, 2, 3]),
            partitioned: absent(),
            nohz_full: Ok(vec![1, 2, 3]),
            rcu_nocbs: Vec::new(),
            online: Ok(vec![0, 1, 2, 3]),
            cpuset: Ok(vec![0, 1, 2, 3]),
            quota_milli: None,
            throttled: Ok(0),
        }
    }

    #[test]
    fn bidders_alone_on_their_cpus() {
        let need = Need::made_up();
        let judge = |i: Isolation| i.judge(&need);
        let all_ok = ["ok"; 4];
        check(&judge(good()), &all_ok, "all isolated");
        let halves = Isolation { isolated: Ok(vec![1]), partitioned: Ok(vec![2, 3]), ..good() };
        check(&judge(halves), &all_ok, "all isolated");
        let open = Isolation { isolated: Ok(vec![2]), ..good() };
        check(&judge(open), &["advice", "ok", "ok", "ok"], "not isolated: 1,3");
        let ticking = Isolation { nohz_full: Ok(vec![]), rcu_nocbs: vec![1], ..good() };
        check(&judge(ticking), &["ok", "advice", "ok", "ok"], "nohz_full on none, rcu_nocbs on 1");
        let set = Isolation { cpuset: Ok(vec![0, 1, 3]), ..good() };
        check(&judge(set), &["ok", "ok", "wrong", "ok"], "bidder CPUs 2 in it");
        check(&judge(Isolation { cpuset: absent(), ..good() }), &all_ok, "none");
        let dark = Isolation { isolated: unread(), nohz_full: unread(), cpuset: unread(), ..good() };
        check(&judge(dark), &["unknown", "unknown", "unknown", "ok"], "Permission denied");
    }

    #[test]
    fn quotas() {
        let need = Need::made_up();
        for (quota, throttled, verdict, says) in [
            (None, 0, "ok", "none"),
            (None, 3, "ok", "throttled in 3"), // of a quota that is gone
            (Some(5_000), 0, "ok", "5.000 CPUs"),
            (Some(5_000), 1, "wrong", "throttled in 1 periods"),
            (Some(4_999), 0, "advice", "4.999 CPUs"),
            (Some(3_999), 0, "wrong", "CPUQuota="),
        ] {
            let group = Isolation { quota_milli: quota, throttled: Ok(throttled), ..good() };
            check(&group.judge(&need), &["ok", "ok", "ok", verdict], says);
        }
    }

    #[test]
    fn they_are_read_where_they_stand() {
        let tree = Tree::machine(4, 1, 1, "1-3");
        for (path, text) in [
            ("sys/devices/system/cpu/nohz_full", "(null)\n"),
            ("proc/cmdline", "quiet rcu_nocbs=1-3 splash\n"),
            ("proc/42/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/cpuset.cpus.effective", "0-2\n"),
            ("sys/fs/cgroup/a/cpu.max", "250000 100000\n"),
            ("sys/fs/cgroup/a/cpu.stat", "nr_periods 9\nnr_throttled 4\n"),
        ] {
            tree.write(path, text);
        }
        let found = Isolation::read(&Machine::at(&tree.0, "42")).judge(&Need::made_up());
        check(&found, &["ok", "advice", "wrong", "wrong"], "nohz_full on none, rcu_nocbs on 1-3");
        check(&found, &["ok", "advice", "wrong", "wrong"], "2.500 CPUs; throttled in 4 periods");
        check(&found, &["ok", "advice", "wrong", "wrong"], "bidder CPUs 3 in it");
    }
}
