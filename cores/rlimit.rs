//! The limits of a process, as `/proc/PID/limits` tells them: what getrlimit(2) says, for other processes too.
//! Owns: nothing. Called by: `io_probe`, `doctor`. Never: changes a limit.

/// One limit. [`Limit::NONE`] in either place: unlimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// How far the process itself may raise it.
    pub hard: u64,
}

impl Limit {
    /// Unlimited.
    pub const NONE: u64 = u64::MAX;
}

/// The limit of this name ("Max open files") in the text of `/proc/PID/limits`; `None` when it is not there.
pub fn limit(text: &str, name: &str) -> Option<Limit> {
    let mut words = text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
    let mut one = || match words.next()? {
        "unlimited" => Some(Limit::NONE),
        number => number.parse().ok(),
    };
    Some(Limit { soft: one()?, hard: one()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max core file size        0                    unlimited            bytes     \n\
                    Max open files            1024                 524288               files     \n\
                    Max cut off               7\n";
        assert_eq!(limit(text, "Max open files"), Some(Limit { soft: 1_024, hard: 524_288 }));
        assert_eq!(limit(text, "Max core file size"), Some(Limit { soft: 0, hard: Limit::NONE }));
        for absent in ["Max locked memory", "Max cut off", "Limit"] {
            assert_eq!(limit(text, absent), None, "{absent}");
        }
    }
}
