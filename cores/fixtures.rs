//! For tests: a machine made of files.
use outcry::config::plan::cpu_list;
use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

/// A tree of files in a directory of its own, removed with it.
pub(crate) struct Tree(pub(crate) PathBuf);

impl Tree {
    fn below(dir: PathBuf) -> Tree {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let unique = format!("outcry-tree-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tree = Tree(dir.join(unique));
        fs::create_dir_all(&tree.0).unwrap();
        tree
    }

    /// In shared memory, where black boxes are at home; on a disk where there is none.
    pub(crate) fn in_memory() -> Tree {
        let shared = PathBuf::from(crate::blackbox::file::SHARED_MEMORY);
        Tree::below(if shared.is_dir() { shared } else { std::env::temp_dir() })
    }

    pub(crate) fn new(files: &[(&str, &str)]) -> Tree {
        let tree = Tree::below(std::env::temp_dir());
        files.iter().for_each(|(path, text)| tree.write(path, text));
        tree
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `cores` physical cores of `threads` threads, first threads first, in `nodes` nodes.
    pub(crate) fn machine(cores: usize, threads: usize, nodes: usize, isolated: &str) -> Tree {
        let tree = Tree::new(&[("sys/devices/system/cpu/isolated", &format!("{isolated}\n"))]);
        let all = cores * threads;
        tree.write("sys/devices/system/cpu/online", &format!("0-{}\n", all - 1));
        for id in 0..all {
            let siblings: Vec<usize> = (0..threads).map(|t| t * cores + id % cores).collect();
            let path = format!("sys/devices/system/cpu/cpu{id}/topology/thread_siblings_list");
            tree.write(&path, &format!("{}\n", cpu_list(&siblings)));
        }
        for node in 0..nodes {
            let cpus: Vec<usize> = (0..all).filter(|id| (id % cores) * nodes / cores == node).collect();
            tree.write(&format!("sys/devices/system/node/node{node}/cpulist"), &format!("{}\n", cpu_list(&cpus)));
        }
        tree
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
