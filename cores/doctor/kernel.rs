//! The kernel: its version, io_uring, and whether it lets itself be looked at.
//! Owns: nothing. Called by: `doctor`. Never: makes a ring (that is `io_probe`).
use super::{
    finding::{Finding, Knob, set},
    machine::{Machine, Read, Unread},
    need::Need,
};
use crate::io_probe::Forbidden;
use outcry::config::IoDriver;

static KERNEL: Knob = Knob {
    id: "kernel",
    file: "io-uring.md",
    costs: "before Linux 6.1 the exchange runs on epoll and needs more CPU for each auction",
};
static IO_URING: Knob = Knob {
    id: "io-uring",
    file: "io-uring.md",
    costs: "the exchange falls back to epoll, whose p99 is a quarter later under load, or refuses to start",
};
static PERF: Knob = Knob {
    id: "perf",
    file: "perf.md",
    costs: "where the time goes cannot be seen while it matters: flame graphs lack the kernel, or there are none",
};

pub(super) static KNOBS: &[&Knob] = &[&KERNEL, &IO_URING, &PERF];

/// DEFER_TASKRUN is of 6.1.
const VERSION_MIN: (u32, u32) = (6, 1);

pub(super) struct Kernel {
    release: Read<String>,
    version: Read<(u32, u32)>,
    /// What making a ring said; of this process, even where another one is judged.
    probed: Result<(), Forbidden>,
    paranoid: Read<i32>,
    hides_symbols: Read<i32>,
}

/// Major and minor version of the kernel.
pub(super) fn version(machine: &Machine) -> Read<(u32, u32)> {
    let file = "proc/sys/kernel/osrelease";
    let text = machine.text(file)?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(Unread { place: format!("/{file}"), why: format!("no version: {text:?}"), absent: false }),
    }
}

impl Kernel {
    pub(super) fn read(machine: &Machine, probed: Result<(), Forbidden>) -> Kernel {
        Kernel {
            release: machine.text("proc/sys/kernel/osrelease"),
            version: version(machine),
            probed,
            paranoid: machine.sysctl("kernel.perf_event_paranoid"),
            hides_symbols: machine.sysctl("kernel.kptr_restrict"),
        }
    }

    pub(super) fn judge(&self, need: &Need) -> Vec<Finding> {
        vec![self.kernel(), self.io_uring(need), self.perf()]
    }

    fn kernel(&self) -> Finding {
        match (&self.version, &self.release) {
            (Err(why), _) | (_, Err(why)) => KERNEL.unknown(why),
            (Ok(version), Ok(release)) if *version >= VERSION_MIN => KERNEL.ok(release),
            (Ok(_), Ok(release)) => {
                let mend = vec!["apt-get install linux-image-amd64   # or the newest of your distribution".to_owned()];
                KERNEL.advice(release, "6.1 or newer", mend)
            }
        }
    }

    fn io_uring(&self, need: &Need) -> Finding {
        if need.io_driver == IoDriver::Epoll {
            return IO_URING.ok("not used: io_driver = \"epoll\"");
        }
        match &self.probed {
            Ok(()) => IO_URING.ok("allowed, and as the exchange needs it"),
            Err(why) => {
                // The cause, a colon, the remedy.
                let text = why.to_string();
                let (cause, remedy) = text.split_once(": ").unwrap_or((&text, ""));
                IO_URING.wrong(cause, "io_uring for the user that the exchange runs as", vec![remedy.to_owned()])
            }
        }
    }

    fn perf(&self) -> Finding {
        let (paranoid, hides) = match (&self.paranoid, &self.hides_symbols) {
            (Err(why), _) | (_, Err(why)) => return PERF.unknown(why),
            (Ok(paranoid), Ok(hides)) => (*paranoid, *hides),
        };
        let found = format!("perf_event_paranoid {paranoid}, kptr_restrict {hides}");
        let mut mend = Vec::new();
        if paranoid > 1 {
            mend.extend(set("kernel.perf_event_paranoid", 1));
        }
        if hides > 0 {
            mend.extend(set("kernel.kptr_restrict", 0));
        }
        // Root attaches at any level, and sees symbols but at 2.
        if paranoid <= 1 && hides == 0 {
            PERF.ok(found)
        } else if hides < 2 {
            PERF.ok(format!("{found}: for root alone"))
        } else {
            PERF.advice(found, "kptr_restrict 1 or less: at 2 kernel frames have no names, for root neither", mend)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::fixtures::{check, unread},
        fixtures::Tree,
    };

    fn good() -> Kernel {
        Kernel {
            release: Ok("6.1.0-28-amd64".to_owned()),
            version: Ok((6, 1)),
            probed: Ok(()),
            paranoid: Ok(1),
            hides_symbols: Ok(0),
        }
    }

    #[test]
    fn kernels_and_rings() {
        let need = Need::made_up();
        check(&good().judge(&need), &["ok"; 3], "6.1.0-28-amd64");
        let old = Kernel { version: Ok((5, 15)), probed: Err(Forbidden::Old), ..good() };
        check(&old.judge(&need), &["advice", "wrong", "ok"], "6.1 or newer");
        let refused = || Kernel { probed: Err(Forbidden::Sysctl(2)), ..good() };
        check(&refused().judge(&need), &["ok", "wrong", "ok"], "`sysctl -w kernel.io_uring_disabled=0`");
        let epoll = Need { io_driver: IoDriver::Epoll, ..Need::made_up() };
        check(&refused().judge(&epoll), &["ok"; 3], "not used");
    }

    #[test]
    fn who_may_look() {
        let need = Need::made_up();
        for (paranoid, hides, verdict, says) in [
            (1, 0, "ok", "perf_event_paranoid 1"),
            (4, 0, "ok", "for root alone"),
            (2, 1, "ok", "for root alone"),
            (2, 2, "advice", "sysctl -w kernel.kptr_restrict='0'"),
        ] {
            let kernel = Kernel { paranoid: Ok(paranoid), hides_symbols: Ok(hides), ..good() };
            check(&kernel.judge(&need), &["ok", "ok", verdict], says);
        }
        let dark = Kernel { release: unread(), paranoid: unread(), ..good() };
        check(&dark.judge(&need), &["unknown", "ok", "unknown"], "Permission denied");
    }

    #[test]
    fn versions() {
        for (release, want) in [("6.18.44-fc-v669", Some((6, 18))), ("5.4.0", Some((5, 4))), ("rolling", None)] {
            let tree = Tree::new(&[("proc/sys/kernel/osrelease", release)]);
            assert_eq!(version(&Machine::at(&tree.0, "self")).ok(), want, "{release}");
        }
    }
}
