//! What an exchange remembers between starts: which node it is, and how often it was started.
//! Owns: two small files in `state_dir`. Runs on: the main thread, at boot. Never: reuses an epoch: the file is on
//! disk, under its new value, before the first auction.
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory or a file in it cannot be used.
    #[error(
        "{path}: {source}. Outcry keeps its node id and start counter there: create the directory, make it writable for this user, or set `state_dir`"
    )]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds something else than a number.
    #[error("{path} does not hold a number. Restore it, or remove it together with the node file to become a new node")]
    Garbled {
        /// The file.
        path: PathBuf,
    },
    /// The counter is used up.
    #[error("{path} has reached its end; remove it together with the node file to become a new node")]
    Exhausted {
        /// The file.
        path: PathBuf,
    },
}

/// Who this start of this machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The machine.
    pub node: u32,
    /// This start, higher than every one before it.
    pub epoch: u32,
}

/// Reads the node (or takes the configured one, or makes one of `entropy`), counts the start.
pub fn begin(dir: &Path, node: Option<u32>, entropy: u64) -> Result<Start, StateError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| StateError::Io { path: path.clone(), source }
    };
    fs::create_dir_all(dir).map_err(io(dir))?;
    let node = match node {
        Some(node) => node,
        None => match read(&dir.join("node"))? {
            Some(node) => node,
            None => {
                let node = (entropy as u32).max(1);
                write(dir, "node", node).map_err(io(&dir.join("node")))?;
                node
            }
        },
    };
    let path = dir.join("epoch");
    let epoch = read(&path)?.unwrap_or(0).checked_add(1).ok_or(StateError::Exhausted { path: path.clone() })?;
    write(dir, "epoch", epoch).map_err(io(&path))?;
    Ok(Start { node, epoch })
}

fn read(path: &Path) -> Result<Option<u32>, StateError> {
    match fs::read_to_string(path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| StateError::Garbled { path: path.to_path_buf() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path: path.to_path_buf(), source }),
    }
}

/// Whole or not at all: written beside, made durable, moved over.
pub(crate) fn write(dir: &Path, name: &str, value: impl std::fmt::Display) -> io::Result<()> {
    write_bytes(dir, name, format!("{value}\n").as_bytes())
}

/// The same of bytes.
pub(crate) fn write_bytes(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = dir.join(format!(".{name}.new"));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, dir.join(name))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_and_epochs_rise() {
        let dir = std::env::temp_dir().join(format!("outcry-state-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let first = begin(&dir, None, 0x1_0000_00aa).expect("first");
        assert_eq!(first, Start { node: 0xaa, epoch: 1 });
        assert_eq!(begin(&dir, None, 7).expect("second"), Start { node: 0xaa, epoch: 2 });
        assert_eq!(begin(&dir, Some(9), 7).expect("third"), Start { node: 9, epoch: 3 });
        fs::write(dir.join("epoch"), "three").expect("garble");
        assert!(matches!(begin(&dir, None, 7), Err(StateError::Garbled { .. })));
        fs::write(dir.join("epoch"), u32::MAX.to_string()).expect("fill");
        assert!(matches!(begin(&dir, None, 7), Err(StateError::Exhausted { .. })));
        fs::remove_dir_all(&dir).expect("clean up");
    }
}
