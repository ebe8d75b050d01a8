//! May this process use io_uring, If not: which of the six usual reasons it is, and what
//! removes it.
//! Owns: one ring, for a moment. Runs on: the main thread before the bidder cores start. Called by: boot, `outcry
//! check`. Never: leaves a ring open.
use crate::{
    bidder::ring,
    rlimit::{Limit, limit},
};
use std::{fmt, fs, io};

/// Why there is no io_uring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Forbidden {
    /// The kernel has none: older than 5.1, or built without.
    Missing,
    /// The kernel has one, but not all that is needed of it: older than 6.1.
    Old,
    /// `kernel.io_uring_disabled` is 1 (for who is not in `io_uring_group`) or 2 (for all).
    Sysctl(u8),
    /// Something else refused: in practice the seccomp profile of a container.
    Seccomp,
    /// The limit of locked memory, in bytes (`None`: unlimited or unknown).
    Memlock(Option<u64>),
    /// No more open files: this process's limit or the machine's.
    Files,
    /// Any other error.
    Other(i32),
}

impl fmt::Display for Forbidden {
    /// The cause, a colon, the remedy: one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Forbidden::Missing => f.write_str(
                "this kernel has no io_uring (ENOSYS): run Linux 6.1 or newer with CONFIG_IO_URING=y; in a sandbox \
                 such as gVisor, run outside of it",
            ),
            Forbidden::Old => f.write_str(
                "this kernel's io_uring lacks what Linux 6.1 has (multishot receives, buffers given beforehand, deferred \
                 task work): run Linux 6.1 or newer",
            ),
            Forbidden::Sysctl(1) => f.write_str(
                "kernel.io_uring_disabled is 1, so only members of kernel.io_uring_group may use io_uring: `sysctl -w \
                 kernel.io_uring_disabled=0`, or set kernel.io_uring_group to the group id that Outcry runs with",
            ),
            Forbidden::Sysctl(n) => write!(
                f,
                "kernel.io_uring_disabled is {n}, so nobody may use io_uring: `sysctl -w kernel.io_uring_disabled=0`, \
                 and in /etc/sysctl.d to keep it",
            ),
            Forbidden::Seccomp => f.write_str(
                "io_uring_setup is refused (EPERM) though kernel.io_uring_disabled allows it, so a seccomp profile or \
                 security module does it: allow io_uring_setup, io_uring_enter and io_uring_register in the \
                 container's seccomp profile (docker run --security-opt seccomp=profile.json; Kubernetes \
                 seccompProfile of type Localhost), or in the unit's SystemCallFilter=",
            ),
            Forbidden::Memlock(limit) => {
                f.write_str("not enough memory may be locked for the rings (ENOMEM; the limit is ")?;
                match limit {
                    Some(bytes) => write!(f, "{} KiB", bytes / 1024)?,
                    None => f.write_str("not set, so the machine or the control group is out of memory")?,
                }
                f.write_str(
                    "): `ulimit -l unlimited`, LimitMEMLOCK=infinity in the unit, --ulimit memlock=-1 for docker",
                )
            }
            Forbidden::Files => f.write_str(
                "no file descriptor is left for a ring (EMFILE or ENFILE): raise `ulimit -n`, LimitNOFILE= in the unit",
            ),
            Forbidden::Other(errno) => {
                write!(
                    f,
                    "io_uring_setup failed: {}: run with io_driver = \"epoll\"",
                    io::Error::from_raw_os_error(*errno)
                )
            }
        }
    }
}

impl std::error::Error for Forbidden {}

/// Makes a ring as the bidder cores make theirs, sends and receives with it, and closes it again.
///
/// # Errors
/// What forbids it.
pub fn probe() -> Result<(), Forbidden> {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    ring::trial().map_err(|e| classify(&e, &sysctl, memlock(&limits)))
}

/// What an error of io_uring_setup(2) means, given `kernel.io_uring_disabled` (empty where the kernel has no such
/// sysctl, before 6.6) and the limit of locked memory in bytes.
fn classify(error: &io::Error, sysctl: &str, memlock: Option<u64>) -> Forbidden {
    let disabled = sysctl.trim().parse::<u8>().unwrap_or(0);
    match error.raw_os_error().unwrap_or(libc::EINVAL) {
        // Flags, operations or promises that it does not know.
        libc::EINVAL | libc::EOPNOTSUPP => Forbidden::Old,
        libc::ENOSYS => Forbidden::Missing,
        libc::EPERM | libc::EACCES if disabled > 0 => Forbidden::Sysctl(disabled),
        libc::EPERM | libc::EACCES => Forbidden::Seccomp,
        libc::ENOMEM => Forbidden::Memlock(memlock),
        libc::EMFILE | libc::ENFILE => Forbidden::Files,
        errno => Forbidden::Other(errno),
    }
}

/// The soft limit of locked memory, `None` when there is none.
fn memlock(limits: &str) -> Option<u64> {
    limit(limits, "Max locked memory").map(|l| l.soft).filter(|soft| *soft != Limit::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_cause_and_its_remedy() {
        let kib64 = Some(65_536);
        for (errno, sysctl, memlock, want, says) in [
            (libc::ENOSYS, "", None, Forbidden::Missing, "6.1 or newer"),
            (libc::EINVAL, "", None, Forbidden::Old, "6.1 or newer"),
            (libc::EOPNOTSUPP, "", None, Forbidden::Old, "6.1 or newer"),
            (libc::ENOSYS, "2\n", None, Forbidden::Missing, "ENOSYS"),
            (libc::EPERM, "1\n", None, Forbidden::Sysctl(1), "kernel.io_uring_group"),
            (libc::EPERM, "2\n", None, Forbidden::Sysctl(2), "sysctl -w kernel.io_uring_disabled=0"),
            (libc::EPERM, "0\n", None, Forbidden::Seccomp, "seccomp"),
            (libc::EPERM, "", None, Forbidden::Seccomp, "io_uring_enter"),
            (libc::EACCES, "0\n", None, Forbidden::Seccomp, "seccomp"),
            (libc::ENOMEM, "0\n", kib64, Forbidden::Memlock(kib64), "64 KiB"),
            (libc::ENOMEM, "0\n", None, Forbidden::Memlock(None), "LimitMEMLOCK=infinity"),
            (libc::EMFILE, "0\n", None, Forbidden::Files, "ulimit -n"),
            (libc::EIO, "0\n", None, Forbidden::Other(libc::EIO), "io_driver = \"epoll\""),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(classify(&error, sysctl, memlock), want, "{errno} {sysctl:?}");
            let line = want.to_string();
            assert!(line.contains(says) && !line.contains('\n') && !line.contains("  "), "{line}");
        }
    }

    #[test]
    fn the_limit_of_locked_memory_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max locked memory         8388608              8388608              bytes     \n";
        assert_eq!(memlock(text), Some(8_388_608));
        assert_eq!(memlock("Max locked memory         unlimited            unlimited            bytes"), None);
        assert_eq!(memlock(""), None);
    }

    /// Whatever this machine says, it says it without a panic and in words.
    #[test]
    fn this_machine_answers() {
        if let Err(forbidden) = probe() {
            assert!(forbidden.to_string().contains(": "));
        }
    }
}
