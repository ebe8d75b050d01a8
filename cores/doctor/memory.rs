//! Memory: huge pages, swap.
//! Owns: nothing. Called by: `doctor`. Never: maps anything.
use super::{
    finding::{Finding, Knob, set},
    machine::{Machine, Read},
};

static HUGE_PAGES: Knob = Knob {
    id: "huge-pages",
    file: "huge-pages.md",
    costs: "a page fault may wait while the kernel moves memory together for a huge page nobody asked for",
};
static SWAP: Knob = Knob {
    id: "swap",
    file: "swap.md",
    costs: "what a bidder has not touched for a while comes back from disk, milliseconds, in the middle of an auction",
};

pub(super) static KNOBS: &[&Knob] = &[&HUGE_PAGES, &SWAP];

/// Above this the kernel swaps before it has to.
const SWAPPINESS_MAX: u64 = 10;

pub(super) struct Memory {
    huge: Read<String>,
    defrag: Read<String>,
    /// Devices and files in use.
    swaps: Read<usize>,
    swappiness: Read<u64>,
    /// What the process's control group may swap: 0, bytes, `max`.
    group_swap: Read<String>,
    /// KiB of the process that are swapped out.
    swapped_kib: u64,
}

impl Memory {
    pub(super) fn read(machine: &Machine) -> Memory {
        let dir = "sys/kernel/mm/transparent_hugepage";
        Memory {
            huge: machine.text(&format!("{dir}/enabled")).map(|text| chosen(&text)),
            defrag: machine.text(&format!("{dir}/defrag")).map(|text| chosen(&text)),
            // The first line is a head.
            swaps: machine.text("proc/swaps").map(|text| text.lines().skip(1).count()),
            swappiness: machine.sysctl("vm.swappiness"),
            group_swap: machine.of_group("memory.swap.max"),
            swapped_kib: machine.of_process("status").map_or(0, |text| swapped(&text)),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        vec![self.huge_pages(), self.swap()]
    }

    fn huge_pages(&self) -> Finding {
        let huge = match &self.huge {
            Err(why) if why.absent => return HUGE_PAGES.ok("this kernel has none"),
            Err(why) => return HUGE_PAGES.unknown(why),
            Ok(huge) => huge,
        };
        let defrag = self.defrag.as_deref().unwrap_or("not readable");
        let found = format!("{huge}, defrag {defrag}");
        if huge != "always" {
            return HUGE_PAGES.ok(found);
        }
        let mend = vec![
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
            "transparent_hugepage=madvise   # on the kernel's command line, keeps it".to_owned(),
        ];
        HUGE_PAGES.advice(found, "madvise: for who asks", mend)
    }

    fn swap(&self) -> Finding {
        let (swaps, swappiness) = match (&self.swaps, &self.swappiness) {
            (Err(why), _) | (_, Err(why)) => return SWAP.unknown(why),
            (Ok(swaps), Ok(swappiness)) => (*swaps, *swappiness),
        };
        if swaps == 0 {
            return SWAP.ok("none in use");
        }
        let found = format!("{swaps} in use, vm.swappiness {swappiness}");
        let mut mend = vec!["systemctl edit outcry   # [Service] MemorySwapMax=0".to_owned()];
        mend.extend(set("vm.swappiness", 1));
        if self.swapped_kib > 0 {
            let found = format!("{found}; {} KiB of this process are swapped out", self.swapped_kib);
            mend.push("swapoff -a && swapon -a   # brings it back; slow".to_owned());
            return SWAP.wrong(found, "nothing of it swapped out", mend);
        }
        if self.group_swap.as_deref() == Ok("0") {
            return SWAP.ok(format!("{found}; not for this process's control group"));
        }
        if swappiness <= SWAPPINESS_MAX {
            return SWAP.ok(found);
        }
        SWAP.advice(found, format!("vm.swappiness {SWAPPINESS_MAX} or less, or no swap for the service"), mend)
    }
}

/// The word in brackets: `always [madvise] never`.
fn chosen(text: &str) -> String {
    text.split(' ').find_map(|w| w.strip_prefix('[')?.strip_suffix(']')).unwrap_or(text).to_owned()
}

fn swapped(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmSwap:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{absent, check, unread},
        fixtures::Tree,
    };

    fn good() -> Memory {
        Memory {
            huge: Ok("madvise".to_owned()),
            defrag: Ok("madvise".to_owned()),
            swaps: Ok(0),
            swappiness: Ok(60),
            group_swap: absent(),
            swapped_kib: 0,
        }
    }

    #[test]
    fn huge_pages() {
        check(&good().judge(), &["ok", "ok"], "madvise, defrag madvise");
        check(&Memory { huge: Ok("never".into()), ..good() }.judge(), &["ok", "ok"], "never");
        check(&Memory { huge: Ok("always".into()), ..good() }.judge(), &["advice", "ok"], "echo madvise >");
        check(&Memory { huge: absent(), ..good() }.judge(), &["ok", "ok"], "none");
        check(&Memory { huge: unread(), swaps: unread(), ..good() }.judge(), &["unknown", "unknown"], "denied");
    }

    #[test]
    fn swap() {
        let swapping = |swappiness| Memory { swaps: Ok(1), swappiness: Ok(swappiness), ..good() };
        check(&swapping(10).judge(), &["ok", "ok"], "vm.swappiness 10");
        check(&swapping(11).judge(), &["ok", "advice"], "MemorySwapMax=0");
        check(&Memory { group_swap: Ok("0".into()), ..swapping(60) }.judge(), &["ok", "ok"], "control group");
        check(&Memory { swapped_kib: 4, ..swapping(1) }.judge(), &["ok", "wrong"], "4 KiB of this process");
    }

    #[test]
    fn they_are_read_where_they_stand() {
        let tree = Tree::new(&[
            ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n"),
            ("proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"),
            ("proc/sys/vm/swappiness", "60\n"),
            ("proc/9/status", "Name:\toutcry\nVmSwap:\t      12 kB\n"),
        ]);
        let found = Memory::read(&Machine::at(&tree.0, "9")).judge();
        check(&found, &["advice", "wrong"], "1 in use, vm.swappiness 60; 12 KiB");
    }
}
