//! The files in which a machine tells about itself.
//! Owns: nothing. Called by: the groups of knobs. Never: judges, writes.
use crate::{rlimit, topology};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Why a value is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unread {
    /// The file, or what of it.
    pub place: String,
    /// What the system said, or what was wrong with the text.
    pub why: String,
    /// There is no such file: this kernel or machine has no such thing.
    pub absent: bool,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// A value, or why there is none.
pub type Read<T> = Result<T, Unread>;

/// Access to a machine and to one process on it.
pub struct Machine {
    root: PathBuf,
    process: String,
}

impl Machine {
    /// The machine whose `/proc` and `/sys` lie below `root`; of its processes the one of this folder below `/proc`:
    /// `self`, or a number.
    pub fn at(root: &Path, process: &str) -> Machine {
        Machine { root: root.to_owned(), process: process.to_owned() }
    }

    /// Where `/proc` and `/sys` are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The process's folder below `/proc`.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// The text of a file, without space around it. The path has no slash before it.
    pub fn text(&self, path: &str) -> Read<String> {
        let text = fs::read_to_string(self.root.join(path)).map_err(|e| unread(path, &e))?;
        Ok(text.trim().to_owned())
    }

    /// A file that holds one number.
    pub fn number<T: FromStr>(&self, path: &str) -> Read<T> {
        let text = self.text(path)?;
        text.parse().map_err(|_| odd(path, &text))
    }

    /// A file that holds CPUs as a list, `0-3,8`.
    pub fn cpus(&self, path: &str) -> Read<Vec<usize>> {
        let text = self.text(path)?;
        // What is isolated by nobody is "(null)" on some kernels.
        topology::parse_list(text.trim_start_matches("(null)")).ok_or_else(|| odd(path, &text))
    }

    /// A file that holds CPUs as a mask: 32 bits to a word, words with commas between, the highest first.
    pub fn mask(&self, path: &str) -> Read<Vec<usize>> {
        let text = self.text(path)?;
        let mut cpus = Vec::new();
        for (i, word) in text.rsplit(',').enumerate() {
            let bits = u32::from_str_radix(word, 16).map_err(|_| odd(path, &text))?;
            cpus.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| i * 32 + bit));
        }
        Ok(cpus)
    }

    /// A sysctl by its name: `net.core.somaxconn`.
    pub fn sysctl<T: FromStr>(&self, key: &str) -> Read<T> {
        self.number(&format!("proc/sys/{}", key.replace('.', "/")))
    }

    /// A file of the process.
    pub fn of_process(&self, file: &str) -> Read<String> {
        self.text(&format!("proc/{}/{file}", self.process))
    }

    /// A limit of the process by its name in `/proc/PID/limits`.
    pub fn limit(&self, name: &str) -> Read<rlimit::Limit> {
        let text = self.of_process("limits")?;
        rlimit::limit(&text, name).ok_or_else(|| odd(&format!("proc/{}/limits", self.process), name))
    }

    /// What lies in a folder, sorted; numbers by value.
    pub fn names(&self, dir: &str) -> Read<Vec<String>> {
        let entries = fs::read_dir(self.root.join(dir)).map_err(|e| unread(dir, &e))?;
        let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_by_key(|n| (n.parse::<u64>().unwrap_or(u64::MAX), n.clone()));
        Ok(names)
    }

    /// A value of a file of the process's control group, or of the closest group above that has the file.
    pub fn of_group(&self, file: &str) -> Read<String> {
        let mut groups = topology::groups(&self.root, &self.process);
        let found = groups.find_map(|group| fs::read_to_string(group.join(file)).ok());
        found.map(|text| text.trim().to_owned()).ok_or_else(|| Unread {
            place: file.to_owned(),
            why: "no control group of this process has it".to_owned(),
            absent: true,
        })
    }
}

fn unread(path: &str, error: &io::Error) -> Unread {
    Unread { place: format!("/{path}"), why: error.to_string(), absent: error.kind() == io::ErrorKind::NotFound }
}

fn odd(path: &str, text: &str) -> Unread {
    let shown: String = text.chars().take(40).collect();
    Unread { place: format!("/{path}"), why: format!("cannot be understood: {shown:?}"), absent: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree;

    #[test]
    fn files_are_read_as_what_they_are() {
        let tree = Tree::new(&[
            ("proc/sys/net/core/somaxconn", "4096\n"),
            ("sys/a", "0-2,5\n"),
            ("sys/null", "(null)\n"),
            ("sys/mask", "00000001,80000003\n"),
            ("sys/words", "none of them\n"),
            ("sys/dir/10", ""),
            ("sys/dir/9", ""),
            ("proc/7/limits", "Max open files            1024    4096  files\n"),
        ]);
        let machine = Machine::at(&tree.0, "7");
        assert_eq!(machine.sysctl::<u64>("net.core.somaxconn"), Ok(4_096));
        assert_eq!(machine.cpus("sys/a"), Ok(vec![0, 1, 2, 5]));
        assert_eq!(machine.cpus("sys/null"), Ok(vec![]));
        assert_eq!(machine.mask("sys/mask"), Ok(vec![0, 1, 31, 32]));
        assert_eq!(machine.names("sys/dir"), Ok(vec!["9".to_owned(), "10".to_owned()]));
        assert_eq!(machine.limit("Max open files"), Ok(rlimit::Limit { soft: 1_024, hard: 4_096 }));
        let gone = machine.text("sys/gone").unwrap_err();
        assert!(gone.absent && gone.to_string().starts_with("/sys/gone: "), "{gone}");
        for odd in [machine.number::<u64>("sys/words").unwrap_err(), machine.mask("sys/words").unwrap_err()] {
            assert!(!odd.absent && odd.to_string().contains("none of them"), "{odd}");
        }
        assert!(machine.limit("Max locked memory").unwrap_err().to_string().contains("Max locked memory"));
        assert!(machine.of_group("memory.swap.max").unwrap_err().absent);
    }
}
