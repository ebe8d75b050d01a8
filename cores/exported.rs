//! How far the journal is in an object store, told by `outcry tiers export` to an exchange that waits for it.
//! Owns: a small file in `state_dir/tiers`, by node. Runs on: the export (writes), flush (reads, once in a while).
//! Never: takes a file that cannot be read for a promise: then nothing is in the store.
use outcry::units::{MS, Now};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the files are, in `state_dir`.
pub const DIR: &str = "tiers";
/// Flush looks this often.
const LOOK_NS: u64 = 10_000 * MS;

/// The file's name in [`DIR`].
fn name(node: u32) -> String {
    format!("exported-{node:08x}")
}

/// Tells an exchange that keeps its state here that all segments below this one are in a store. Where nobody waits there is no
/// [`DIR`], and nothing is told.
///
/// # Errors
/// What the system says.
pub fn tell(state_dir: &Path, node: u32, below: u64) -> io::Result<()> {
    let dir = state_dir.join(DIR);
    if !dir.is_dir() {
        return Ok(());
    }
    crate::state::write_bytes(&dir, &name(node), format!("{below}\n").as_bytes())
}

/// What an exchange that waits knows of it.
#[derive(Debug)]
pub struct Exported {
    path: PathBuf,
    below: u64,
    looked_ns: Option<u64>,
}

impl Exported {
    /// Of the node that keeps its state here; makes the place where it is told.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(state_dir: &Path, node: u32) -> io::Result<Exported> {
        let dir = state_dir.join(DIR);
        fs::create_dir_all(&dir)?;
        Ok(Exported { path: dir.join(name(node)), below: 0, looked_ns: None })
    }

    /// Segments below this are in a store, whole.
    pub fn below(&mut self, now: Now) -> u64 {
        if self.looked_ns.is_none_or(|at| now.boot_ns.saturating_sub(at) >= LOOK_NS) {
            self.looked_ns = Some(now.boot_ns);
            let read = fs::read_to_string(&self.path).ok();
            self.below = read.and_then(|text| text.trim_end().parse().ok()).unwrap_or(0);
        }
        self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree;

    #[test]
    fn what_is_told_is_heard_and_nothing_else_is_believed() {
        let tree = Tree::new(&[("node", "1")]);
        let at = |ms: u64| Now { boot_ns: ms * MS, wall_offset_ns: 0 };
        tell(&tree.0, 7, 5).expect("nobody waits");
        assert!(!tree.0.join(DIR).exists());
        let mut exported = Exported::new(&tree.0, 7).expect("a place");
        assert_eq!(exported.below(at(0)), 0);
        tell(&tree.0, 7, 5).expect("told");
        tell(&tree.0, 8, 50).expect("another node's");
        assert_eq!((exported.below(at(9_999)), exported.below(at(10_000))), (0, 5));
        fs::write(tree.0.join(DIR).join(name(7)), "a lot").expect("a file");
        assert_eq!(exported.below(at(20_000)), 0);
    }
}
