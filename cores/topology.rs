//! What the machine gives this process: its CPUs, their physical cores and NUMA nodes, isolation, quota.
//! Owns: nothing. Runs on: the main thread, before any other exists. Called by: boot, `outcry check`.
//! Never: decides anything (that is `outcry::config::plan`). What cannot be read is taken for absent and noted.
use outcry::config::plan::{Cpu, Topology, cpu_list};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// This process's folder below `/proc`.
const SELF: &str = "self";

/// This machine, as this process may use it.
pub fn machine() -> Topology {
    let mask = core_affinity::get_core_ids().unwrap_or_default();
    read(Path::new("/"), &mask.iter().map(|c| c.id).collect::<Vec<_>>())
}

/// The machine whose `/sys` and `/proc` lie below `root`; `mask` is the affinity mask of the process.
pub fn read(root: &Path, mask: &[usize]) -> Topology {
    let sys = root.join("sys/devices/system");
    let mut notes = Vec::new();
    let isolated = list(&sys.join("cpu/isolated"));
    let mut allowed = mask.to_vec();
    allowed.sort_unstable();
    allowed.dedup();
    let added = isolated_by_default(root, &allowed, &isolated);
    if !added.is_empty() {
        notes.push(format!(
            "CPUs {} are isolated and outside of the affinity mask; they are used, because the mask is only the \
             kernel's default for isolated CPUs",
            cpu_list(&added)
        ));
        allowed.extend(added);
        allowed.sort_unstable();
    }
    let nodes = nodes(&sys.join("node"));
    let cpus = allowed.iter().map(|&id| {
        let topology = sys.join(format!("cpu/cpu{id}/topology"));
        // The second name is the one of kernels before 5.3.
        let siblings = ["core_cpus_list", "thread_siblings_list"].iter().map(|name| list(&topology.join(name)));
        let core = siblings.flatten().chain([id]).min().unwrap_or(id);
        let node = nodes.iter().find(|n| n.1.contains(&id)).map_or(0, |n| n.0);
        Cpu { id, core, node, isolated: isolated.contains(&id) }
    });
    let cpus: Vec<Cpu> = cpus.collect();
    if !sys.join("cpu").is_dir() {
        notes.push("/sys shows no CPUs: each is taken for a physical core of its own, on one node".to_owned());
    }
    Topology { cpus, quota_milli: quota(root, SELF), notes }
}

/// Isolated CPUs that may be used though they are not in the mask: `isolcpus` takes them out of the mask that all
/// processes inherit, so the mask says nothing about them unless somebody has set it.
fn isolated_by_default(root: &Path, mask: &[usize], isolated: &[usize]) -> Vec<usize> {
    let online = list(&root.join("sys/devices/system/cpu/online"));
    let default: Vec<usize> = online.iter().copied().filter(|c| !isolated.contains(c)).collect();
    if mask != default {
        return Vec::new();
    }
    let cpuset = groups(root, SELF).find_map(|group| some_list(&group.join("cpuset.cpus.effective")));
    let may = |c: &usize| online.contains(c) && cpuset.as_ref().is_none_or(|set| set.contains(c));
    isolated.iter().copied().filter(may).collect()
}

fn nodes(dir: &Path) -> Vec<(usize, Vec<usize>)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let nodes = entries.filter_map(|entry| {
        let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
        Some((number, list(&entry.path().join("cpulist"))))
    });
    nodes.collect()
}

/// CPU time that the control group of a process (its folder below `/proc`) may use, in thousandths of a CPU: the least
/// of all groups above it too.
pub(crate) fn quota(root: &Path, process: &str) -> Option<u64> {
    groups(root, process).filter_map(|group| quota_v2(&group).or_else(|| quota_v1(&group))).min()
}

/// `cpu.max` is `quota period` in microseconds, or `max period`.
fn quota_v2(group: &Path) -> Option<u64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    per_period(quota, period)
}

/// A quota of -1 means none.
fn quota_v1(group: &Path) -> Option<u64> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    per_period(quota.trim(), period.trim())
}

fn per_period(quota: &str, period: &str) -> Option<u64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1_000)?.checked_div(period)
}

/// The directories of a process's control groups, from its own up to the root of each hierarchy that has to do
/// with CPUs. In a container the path may name a group that is not mounted; its ancestors are.
pub(crate) fn groups(root: &Path, process: &str) -> impl Iterator<Item = PathBuf> {
    let text = fs::read_to_string(root.join("proc").join(process).join("cgroup")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    let mut groups: Vec<PathBuf> = Vec::new();
    for line in text.lines() {
        // hierarchy:controllers:path; the only hierarchy of version 2 is 0 and names no controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let mounts = match (number, controllers) {
            // Alone, or beside version 1.
            ("0", "") => vec![mount.clone(), mount.join("unified")],
            // Mounted under its controllers' names, or linked under one of them.
            (_, names) if names.split(',').any(|n| n == "cpu") => vec![mount.join(names), mount.join("cpu")],
            _ => continue,
        };
        // `..` stands for groups outside of a namespace: nothing of them can be read.
        let path: PathBuf = Path::new(path).components().filter(|c| matches!(c, Component::Normal(_))).collect();
        for mount in mounts {
            groups.extend(path.ancestors().map(|p| mount.join(p)));
        }
    }
    groups.into_iter()
}

/// CPUs of a file like `0-3,8`; none when it cannot be read.
fn list(path: &Path) -> Vec<usize> {
    some_list(path).unwrap_or_default()
}

fn some_list(path: &Path) -> Option<Vec<usize>> {
    parse_list(&fs::read_to_string(path).ok()?)
}

/// CPUs as the kernel lists them, `0-3,8`; `None` when this is no such list.
pub(crate) fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        // The kernel numbers at most 8192 CPUs; a longer range is no CPU list.
        if to > 8_191 {
            return None;
        }
        cpus.extend(from..=to);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree;
    use outcry::config::{Cpus, plan::plan};

    fn mask(cpus: impl IntoIterator<Item = usize>) -> Vec<usize> {
        cpus.into_iter().collect()
    }

    #[test]
    fn siblings_nodes_and_isolation_are_read() {
        let tree = Tree::machine(4, 2, 2, "2-3,6-7");
        let topology = read(&tree.0, &mask(0..8));
        let got: Vec<_> = topology.cpus.iter().map(|c| (c.id, c.core, c.node, c.isolated)).collect();
        assert_eq!(got[..4], [(0, 0, 0, false), (1, 1, 0, false), (2, 2, 1, true), (3, 3, 1, true)]);
        assert_eq!(got[4..], [(4, 0, 0, false), (5, 1, 0, false), (6, 2, 1, true), (7, 3, 1, true)]);
        assert_eq!((topology.quota_milli, topology.notes.len()), (None, 0));
    }

    #[test]
    fn a_machine_that_shows_nothing_still_has_its_cpus() {
        let topology = read(&Tree::new(&[]).0, &[3, 1]);
        assert_eq!(topology.cpus.iter().map(|c| (c.id, c.core)).collect::<Vec<_>>(), [(1, 1), (3, 3)]);
        assert_eq!(topology.notes.len(), 1);
    }

    #[test]
    fn isolated_cpus_come_back_unless_somebody_chose_the_mask() {
        let tree = Tree::machine(32, 2, 2, "2-15,18-31,34-47,50-63");
        let housekeeping = mask([0, 1, 16, 17, 32, 33, 48, 49]);
        let topology = read(&tree.0, &housekeeping);
        assert_eq!(topology.cpus.len(), 64);
        let plan = plan(&topology, &Cpus::default()).unwrap();
        assert_eq!((cpu_list(&plan.bidders).as_str(), plan.flush), ("2-15,18-31", 0), "{plan}");
        assert!(plan.reasons[0].contains("outside of the affinity mask"), "{plan}");
        // A mask that somebody has set is kept to the letter.
        assert_eq!(read(&tree.0, &housekeeping[..7]).cpus.len(), 7);
        // So is a cpuset.
        tree.write("proc/self/cgroup", "0::/a\n");
        tree.write("sys/fs/cgroup/a/cpuset.cpus.effective", "0-3\n");
        assert_eq!(read(&tree.0, &housekeeping).cpus.len(), 10);
    }

    #[test]
    fn quotas_of_both_versions() {
        let own = "0::/a/b\n";
        let v1 = "4:cpu,cpuacct:/docker/x\n2:memory:/\n";
        for (files, want) in [
            (&[("proc/self/cgroup", own), ("sys/fs/cgroup/a/b/cpu.max", "150000 100000\n")][..], Some(1_500)),
            (&[("proc/self/cgroup", own), ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")], None),
            // The group above is tighter.
            (
                &[
                    ("proc/self/cgroup", own),
                    ("sys/fs/cgroup/a/b/cpu.max", "400000 100000"),
                    ("sys/fs/cgroup/a/cpu.max", "20000 10000"),
                ],
                Some(2_000),
            ),
            // In a container: the path is the host's, the mount is the container's own.
            (&[("proc/self/cgroup", "0::/../../x\n"), ("sys/fs/cgroup/cpu.max", "50000 100000")], Some(500)),
            (
                &[
                    ("proc/self/cgroup", v1),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "250000\n"),
                    ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"),
                ],
                Some(2_500),
            ),
            (
                &[
                    ("proc/self/cgroup", v1),
                    ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
                    ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
                ],
                None,
            ),
            (&[("proc/self/cgroup", own), ("sys/fs/cgroup/a/b/cpu.max", "150000 0\n")], None),
            (&[], None),
        ] {
            assert_eq!(quota(&Tree::new(files).0, SELF), want, "{files:?}");
        }
    }

    #[test]
    fn lists() {
        for (text, want) in [
            ("0-3,8\n", Some(vec![0, 1, 2, 3, 8])),
            ("5", Some(vec![5])),
            ("\n", Some(vec![])),
            ("0-99999999999", None),
            ("a-b", None),
        ] {
            assert_eq!(parse_list(text), want, "{text}");
        }
    }

    #[test]
    fn this_machine_has_a_plan() {
        let topology = machine();
        let plan = plan(&topology, &Cpus::default()).unwrap();
        assert!(plan.bidders.iter().all(|b| topology.cpus.iter().any(|c| c.id == *b)), "{plan}");
    }
}
