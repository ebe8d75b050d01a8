//! `tuning/` and the unit say what doctor says.
use super::*;
use crate::fixtures::Tree;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

const RING: Result<(), io_probe::Forbidden> = Ok(());

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// What stands between backquotes.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_knob_has_its_file_and_every_file_its_knobs() {
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(root().join(print::FOLDER)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.ends_with(".md") || name == "README.md" {
            continue;
        }
        let text = text(&format!("{}/{name}", print::FOLDER));
        let ids =
            text.lines().find_map(|l| l.strip_prefix("Doctor: ")).unwrap_or_else(|| panic!("{name} names no knob"));
        for part in ["**Why", "**Check.**", "**Apply.**", "**Undo.**", "**Worth.**"] {
            assert!(text.contains(&format!("\n{part}")), "{name} lacks {part}");
        }
        told.insert(name, quoted(ids).map(str::to_owned).collect());
    }
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for knob in knobs() {
        known.entry(knob.file.to_owned()).or_default().insert(knob.id.to_owned());
    }
    assert_eq!(told, known, "what the files say, what doctor says");
}

#[test]
fn the_index_lists_every_knob_in_order() {
    let readme = text("tuning/README.md");
    let rows: Vec<(&str, String)> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once("` | ["))
        .map(|(id, rest)| (id, rest.split(']').next().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(rows, knobs().map(|k| (k.id, k.file.to_owned())).collect::<Vec<_>>());
    for (_, file) in &rows {
        assert!(readme.contains(&format!("[{file}]({file})")), "{file}");
    }
}

/// Whatever a file of `tuning/` or a finding names of the tree is there.
#[test]
fn what_is_referred_to_exists() {
    for entry in fs::read_dir(root().join("tuning")).unwrap().flatten() {
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let words = text.split(|c: char| c.is_whitespace() || "`(),;".contains(c));
        let folders = ["tuning/", "scripts/", "cores/", "benches/"];
        for word in words.filter(|w| folders.iter().any(|f| w.starts_with(f) && w.len() > f.len())) {
            let path = word.trim_end_matches(['.', ':']);
            assert!(root().join(path).exists(), "{}: {path}", entry.path().display());
        }
    }
}

/// Lines `key = value` of a file for sysctl(8).
fn sysctls() -> Vec<(String, String)> {
    let text = text("tuning/sysctl.d/60-outcry.conf");
    let lines = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('='));
    lines.map(|(key, value)| (key.trim().trim_start_matches('-').to_owned(), value.trim().to_owned())).collect()
}

/// A machine where everything is as doctor wants it but for sysctls, of which it has none.
fn good_machine() -> Tree {
    // Two nodes, so that balancing matters; the exchange on one of them.
    let tree = Tree::machine(8, 1, 2, "1-3");
    let mut files = vec![
        ("proc/self/limits".to_owned(), unit_limits() + "Max core file size unlimited unlimited bytes\n"),
        ("proc/cmdline".to_owned(), "quiet".to_owned()),
        ("proc/stat".to_owned(), "cpu1 1 1 1 1 1 1 1 0 0 0\n".to_owned()),
        ("proc/swaps".to_owned(), "Filename\n/swapfile file 1 0 -2\n".to_owned()),
        ("proc/sys/kernel/osrelease".to_owned(), "6.12.1".to_owned()),
        ("proc/sys/kernel/perf_event_paranoid".to_owned(), "1".to_owned()),
        ("proc/sys/kernel/kptr_restrict".to_owned(), "0".to_owned()),
        ("sys/class/net/lo/operstate".to_owned(), "unknown".to_owned()),
        ("sys/devices/system/cpu/nohz_full".to_owned(), "1-3".to_owned()),
        ("sys/devices/system/cpu/intel_pstate/no_turbo".to_owned(), "0".to_owned()),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource".to_owned(), "tsc".to_owned()),
        ("sys/kernel/mm/transparent_hugepage/enabled".to_owned(), "always [madvise] never".to_owned()),
    ];
    for id in 1..4 {
        let cpu = format!("sys/devices/system/cpu/cpu{id}");
        files.push((format!("{cpu}/cpufreq/scaling_governor"), "performance".to_owned()));
        files.push((format!("{cpu}/cpufreq/scaling_driver"), "intel_pstate".to_owned()));
        for (file, text) in [("name", "C1"), ("latency", "2"), ("disable", "0")] {
            files.push((format!("{cpu}/cpuidle/state0/{file}"), text.to_owned()));
        }
    }
    files.iter().for_each(|(path, text)| tree.write(path, text));
    tree
}

fn set_all(tree: &Tree, values: &[(String, String)]) {
    values.iter().for_each(|(key, value)| tree.write(&format!("proc/sys/{}", key.replace('.', "/")), value));
}

fn not_ok(tree: &Tree, need: &Need) -> Vec<Finding> {
    let mut findings = examine(&Machine::at(&tree.0, "self"), need, RING);
    findings.retain(|f| f.verdict != Verdict::Ok);
    findings
}

#[test]
fn the_sysctls_to_install_are_what_doctor_calls_ok() {
    let tree = good_machine();
    set_all(&tree, &sysctls());
    // Pools that want most of the ports, so that a narrow range would be felt.
    let need = Need { ports: 20_000, ..Need::made_up() };
    assert_eq!(not_ok(&tree, &need), [], "everything in its place");
    // Each line is there for something: set otherwise, doctor minds.
    let bad = BTreeMap::from([
        ("net.core.somaxconn", "128"),
        ("net.ipv4.tcp_syncookies", "0"),
        ("net.ipv4.tcp_max_syn_backlog", "128"),
        ("net.ipv4.ip_local_port_range", "32768 40000"),
        ("net.ipv4.tcp_tw_reuse", "0"),
        ("net.ipv4.tcp_fin_timeout", "600"),
        ("net.netfilter.nf_conntrack_max", "1024"),
        ("net.core.busy_read", "50"),
        ("net.core.busy_poll", "50"),
        ("vm.swappiness", "60"),
        ("kernel.numa_balancing", "1"),
    ]);
    // These two count together: each is enough.
    let cookies = ["net.ipv4.tcp_syncookies", "net.ipv4.tcp_max_syn_backlog"];
    for (key, _) in sysctls() {
        let worse = bad.get(key.as_str()).unwrap_or_else(|| panic!("{key}: of no interest to doctor?"));
        let changed: Vec<&str> = if cookies.contains(&key.as_str()) { cookies.to_vec() } else { vec![key.as_str()] };
        let tree = good_machine();
        let mut values = sysctls();
        values.iter_mut().filter(|v| changed.contains(&v.0.as_str())).for_each(|v| v.1 = bad[v.0.as_str()].to_owned());
        set_all(&tree, &values);
        let found = not_ok(&tree, &need);
        assert!(found.len() == 1 && found[0].mend.iter().any(|m| m.contains(&key)), "{key} = {worse}: {found:#?}");
    }
}

/// Limits of the unit as `/proc/PID/limits` would show them.
fn unit_limits() -> String {
    let unit = text("systemd/outcry.service");
    let of = |key: &str| {
        let value = unit.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("the unit sets no {key}"));
        if value == "infinity" { "unlimited".to_owned() } else { value.to_owned() }
    };
    let (files, locked) = (of("LimitNOFILE="), of("LimitMEMLOCK="));
    format!("Max open files {files} {files} files\nMax locked memory {locked} {locked} bytes\n")
}

#[test]
fn the_units_limits_are_enough_for_a_large_machine() {
    // 64 bidder cores and five DSPs with pools of their default size.
    let mut text = String::new();
    for i in 0..5 {
        text += &format!("[[dsp]]\nname = \"dsp-{i}\"\nurl = \"http://192.0.2.{i}/\"\n");
    }
    let plan = plan::Plan { bidders: (1..65).collect(), flush: 0, control: vec![0], ..plan::Plan::default() };
    let need = Need::of(&config::load(&text, 1).unwrap(), &plan);
    let tree = good_machine();
    let findings = limits::Limits::read(&Machine::at(&tree.0, "self")).judge(&need);
    assert!(findings.iter().all(|f| f.verdict == Verdict::Ok), "{findings:#?}");
    assert!(need.files > 500_000, "a large machine needs {}", need.files);
}
