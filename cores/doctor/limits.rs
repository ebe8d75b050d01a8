//! Limits of the process: open files, locked memory, core dumps.
//! Owns: nothing. Called by: `doctor`. Never: changes a limit.
use super::{
    finding::{Finding, Knob},
    machine::{Machine, Read},
    need::Need,
};
use crate::rlimit::Limit;

static OPEN_FILES: Knob = Knob {
    id: "open-files",
    file: "limits.md",
    costs: "a core whose next connection would be one file too many refuses it, or cannot reach a DSP",
};
static LOCKED_MEMORY: Knob = Knob {
    id: "locked-memory",
    file: "limits.md",
    costs: "black boxes may be swapped out, and a core would wait for them",
};
static CORE_DUMPS: Knob = Knob {
    id: "core-dumps",
    file: "limits.md",
    costs: "a crash or an abort by the watchdog leaves nothing to look at",
};

pub(super) static KNOBS: &[&Knob] = &[&OPEN_FILES, &LOCKED_MEMORY, &CORE_DUMPS];

pub(super) struct Limits {
    files: Read<Limit>,
    /// No process may have a higher limit of open files.
    files_most: Read<u64>,
    locked: Read<Limit>,
    core: Read<Limit>,
}

impl Limits {
    pub(super) fn read(machine: &Machine) -> Limits {
        Limits {
            files: machine.limit("Max open files"),
            files_most: machine.sysctl("fs.nr_open"),
            locked: machine.limit("Max locked memory"),
            core: machine.limit("Max core file size"),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        vec![self.open_files(need), self.locked_memory(need), self.core_dumps()]
    }

    fn open_files(&self, need: &Need) -> Finding {
        let files = match &self.files {
            Err(why) => return OPEN_FILES.unknown(why),
            Ok(files) => files,
        };
        let found = format!("{} (may be raised to {})", count(files.soft), count(files.hard));
        if files.soft >= need.files {
            return OPEN_FILES.ok(format!("{found}; at most {} are needed", need.files));
        }
        let mut mend = Vec::new();
        if self.files_most.as_ref().is_ok_and(|most| *most < need.files) {
            mend.extend(super::finding::set("fs.nr_open", need.files));
        }
        mend.push(format!("systemctl edit outcry   # [Service] LimitNOFILE={}", need.files.max(1 << 20)));
        mend.push(format!("ulimit -n {}   # in the shell that starts it", need.files));
        OPEN_FILES.wrong(found, format!("{} or more: all connections that the configuration allows", need.files), mend)
    }

    fn locked_memory(&self, need: &Need) -> Finding {
        let locked = match &self.locked {
            Err(why) => return LOCKED_MEMORY.unknown(why),
            Ok(locked) => locked.soft,
        };
        let found = if locked == Limit::NONE { "unlimited".to_owned() } else { format!("{} KiB", locked / 1024) };
        // Rings of the kernel count as memory of the control group, in every kernel that is new enough for ours.
        if locked >= need.locked {
            return LOCKED_MEMORY.ok(found);
        }
        let mend = vec![
            "systemctl edit outcry   # [Service] LimitMEMLOCK=infinity".to_owned(),
            "ulimit -l unlimited   # in the shell that starts it".to_owned(),
        ];
        let wanted = format!("{} KiB or more: the black boxes of all cores", need.locked / 1024);
        LOCKED_MEMORY.advice(found, wanted, mend)
    }

    fn core_dumps(&self) -> Finding {
        match &self.core {
            Err(why) => CORE_DUMPS.unknown(why),
            Ok(Limit { soft: 0, .. }) => CORE_DUMPS.advice(
                "0 bytes: no core is written",
                "unlimited, where only root reads them: a core holds bid requests",
                vec![
                    "systemctl edit outcry   # [Service] LimitCORE=infinity".to_owned(),
                    "ulimit -c unlimited   # in the shell that starts it".to_owned(),
                ],
            ),
            Ok(limit) => CORE_DUMPS.ok(count(limit.soft)),
        }
    }
}

fn count(n: u64) -> String {
    if n == Limit::NONE { "unlimited".to_owned() } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fixtures::{check, unread};

    fn limits(files: (u64, u64), locked: u64, core: u64) -> Limits {
        Limits {
            files: Ok(Limit { soft: files.0, hard: files.1 }),
            files_most: Ok(1 << 20),
            locked: Ok(Limit { soft: locked, hard: locked }),
            core: Ok(Limit { soft: core, hard: core }),
        }
    }

    #[test]
    fn limits_are_judged_by_what_the_configuration_needs() {
        let need = Need::made_up();
        let judge = |l: Limits| l.judge(&need);
        let none = Limit::NONE;
        check(&judge(limits((30_000, 30_000), none, none)), &["ok", "ok", "ok"], "at most 30000 are needed");
        check(&judge(limits((none, none), need.locked, 1)), &["ok", "ok", "ok"], "unlimited");
        let low = need.locked - 1;
        check(&judge(limits((29_999, none), low, 0)), &["wrong", "advice", "advice"], "LimitNOFILE=1048576");
        check(&judge(limits((30_000, none), low, 1)), &["ok", "advice", "ok"], "LimitMEMLOCK");
        let unread = Limits { files: unread(), locked: unread(), core: unread(), ..limits((0, 0), 0, 0) };
        check(&judge(unread), &["unknown", "unknown", "unknown"], "Permission denied");
    }

    #[test]
    fn a_limit_above_the_kernels_own_needs_a_sysctl_first() {
        let need = Need { files: 2_000_000, ..Need::made_up() };
        let found = limits((1 << 20, 1 << 20), need.locked, 1).judge(&need);
        assert_eq!(found[0].mend[0], "sysctl -w fs.nr_open='2000000'");
        assert!(found[0].mend[2].contains("LimitNOFILE=2000000"), "{:?}", found[0]);
    }

    #[test]
    fn without_records_nothing_is_locked() {
        let need = Need { locked: 0, ..Need::made_up() };
        check(&limits((30_000, 30_000), 0, 1).judge(&need), &["ok", "ok", "ok"], "0 KiB");
    }
}
