//! What a virtual machine's host takes away, and what reading the clock costs.
//! Owns: nothing. Called by: `doctor`. Never: reads a clock.
use super::{
    finding::{Finding, Knob},
    machine::{Machine, Read},
    need::Need,
};

static STEAL: Knob = Knob {
    id: "steal",
    file: "host.md",
    costs: "the host runs somebody else while a bidder's packets wait; no setting in here gets that time back",
};
static CLOCKSOURCE: Knob = Knob {
    id: "clocksource",
    file: "host.md",
    costs: "each look at the clock, several in every turn of a bidder, is a system call and a slow device",
};

pub(super) static KNOBS: &[&Knob] = &[&STEAL, &CLOCKSOURCE];

/// Hundredths of a percent of a bidder CPU's time since boot. Above the first, single auctions feel it; above the second,
/// p99 is the host's.
const STEAL_ADVICE: u64 = 100;
const STEAL_WRONG: u64 = 500;

/// Clocks that are read without a system call, or as cheaply as this machine can.
const FAST: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

pub(super) struct Host {
    /// Of each bidder CPU: ticks stolen, ticks in all.
    steal: Read<Vec<(usize, u64, u64)>>,
    clock: Read<String>,
    clocks: Read<String>,
}

impl Host {
    pub(super) fn read(machine: &Machine, need: &Need) -> Host {
        let dir = "sys/devices/system/clocksource/clocksource0";
        let bidders = |text: String| ticks(&text).into_iter().filter(|t| need.bidders.contains(&t.0)).collect();
        Host {
            steal: machine.text("proc/stat").map(bidders),
            clock: machine.text(&format!("{dir}/current_clocksource")),
            clocks: machine.text(&format!("{dir}/available_clocksource")),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        vec![self.steal(), self.clocksource()]
    }

    fn steal(&self) -> Finding {
        let ticks = match &self.steal {
            Err(why) => return STEAL.unknown(why),
            Ok(ticks) => ticks,
        };
        let share = |t: &(usize, u64, u64)| t.1.saturating_mul(10_000).checked_div(t.2).unwrap_or(0);
        let Some(worst) = ticks.iter().max_by_key(|t| share(t)) else { return STEAL.ok("0 %") };
        let (cpu, share) = (worst.0, share(worst));
        let found = format!("{}.{:02} % of CPU {cpu}'s time since boot", share / 100, share % 100);
        if share < STEAL_ADVICE {
            return STEAL.ok(found);
        }
        let mend = vec!["CPUs of its own from whoever runs the host: pinned, not overcommitted".to_owned()];
        STEAL.amiss(share >= STEAL_WRONG, found, "below 1 %", mend)
    }

    fn clocksource(&self) -> Finding {
        let clock = match &self.clock {
            Err(why) => return CLOCKSOURCE.unknown(why),
            Ok(clock) => clock,
        };
        if FAST.contains(&clock.as_str()) {
            return CLOCKSOURCE.ok(clock);
        }
        let offered = self.clocks.as_deref().unwrap_or_default();
        let better = FAST.iter().find(|fast| offered.split(' ').any(|word| word == **fast));
        let mend = match better {
            Some(fast) => vec![
                format!("echo {fast} > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
                format!("clocksource={fast}   # on the kernel's command line, keeps it"),
            ],
            None => {
                vec!["dmesg | grep -i -e tsc -e clocksource   # says why the kernel distrusts its fast clock".into()]
            }
        };
        CLOCKSOURCE.wrong(clock, format!("one of {}", FAST.join(", ")), mend)
    }
}

/// Lines `cpuN user nice system idle iowait irq softirq steal guest guest_nice`: CPU, stolen, all. Guests are in user
/// and nice already.
fn ticks(text: &str) -> Vec<(usize, u64, u64)> {
    let one = |line: &str| {
        let mut words = line.strip_prefix("cpu")?.split_whitespace();
        let cpu = words.next()?.parse().ok()?;
        let ticks: Vec<u64> = words.take(8).map_while(|w| w.parse().ok()).collect();
        Some((cpu, ticks.get(7).copied().unwrap_or(0), ticks.iter().sum()))
    };
    text.lines().filter(|line| !line.starts_with("cpu ")).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixtures::{check, unread};

    fn host(stolen: u64, clock: &str, clocks: &str) -> Vec<Finding> {
        let steal = Ok(vec![(1, stolen, 10_000), (2, 0, 10_000)]);
        Host { steal, clock: Ok(clock.to_owned()), clocks: Ok(clocks.to_owned()) }.judge()
    }

    #[test]
    fn stolen_time() {
        check(&host(99, "tsc", ""), &["ok", "ok"], "0.99 % of CPU 1's");
        check(&host(100, "tsc", ""), &["advice", "ok"], "1.00 %");
        check(&host(500, "tsc", ""), &["wrong", "ok"], "5.00 %");
        check(&Host { steal: Ok(vec![]), clock: unread(), clocks: unread() }.judge(), &["ok", "unknown"], "0 %");
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu11 1 1\nintr 1 2\n";
        assert_eq!(ticks(text), [(0, 8, 36), (11, 0, 2)]);
    }

    #[test]
    fn clocks() {
        for fast in FAST {
            check(&host(0, fast, ""), &["ok", "ok"], fast);
        }
        check(&host(0, "hpet", "hpet tsc acpi_pm"), &["ok", "wrong"], "echo tsc >");
        check(&host(0, "xen", "xen hpet"), &["ok", "wrong"], "dmesg");
    }
}
