//! `outcry doctor` as its operator has it: exit codes, the table, the JSON.
use std::{fs, path::PathBuf, process::Command};

/// A configuration of its own for each test, removed with it.
struct Config(PathBuf);

impl Config {
    fn new(name: &str, text: &str) -> Config {
        let path = std::env::temp_dir().join(format!("outcry-doctor-{name}-{}.toml", std::process::id()));
        fs::write(&path, text).expect("write");
        Config(path)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// One run with so many open files: exit code, standard output, standard error.
fn doctor(files: u32, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" doctor \"$@\"")).arg(env!("CARGO_BIN_EXE_outcry"));
    let done = command.args(args).output().expect("sh");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().expect("no signal"), text(&done.stdout), text(&done.stderr))
}

#[test]
fn too_few_files_are_wrong_and_say_how_many_are_needed() {
    let config = Config::new("files", "[cpus]\nbidder_count = 1\n[http]\nconnections = 1000\n");
    let path = config.0.to_string_lossy();
    let (code, out, err) = doctor(1_199, &["--config", &path]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    for part in
        ["\nwrong    open-files         1199 ", "1200 or more", "LimitNOFILE=", "ulimit -n 1200", "tuning/limits.md"]
    {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    let (_, out, _) = doctor(1_200, &["--config", &path]);
    assert!(out.contains("\nok       open-files         1200 "), "{out}");
}

#[test]
fn the_json_says_what_the_exit_code_says() {
    for (files, args) in [(64, &["--json"][..]), (1_024, &["--json"][..])] {
        let (code, out, err) = doctor(files, args);
        assert_eq!(err, "");
        let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        let verdicts: Vec<&str> =
            value["findings"].as_array().expect("findings").iter().filter_map(|f| f["verdict"].as_str()).collect();
        assert_eq!(verdicts.contains(&"wrong"), code == 1, "{out}");
        assert_eq!(value["verdict"] == "wrong", code == 1, "{out}");
        assert_eq!(value["plan"]["bidders"].as_array().map(Vec::is_empty), Some(false), "{out}");
    }
}

#[test]
fn what_cannot_be_judged_is_neither() {
    let broken = Config::new("broken", "listne = 1\n");
    for (args, says) in [
        (&["--config", "/nonexistent"][..], "/nonexistent: cannot be read"),
        (&["--config", &broken.0.to_string_lossy()], "listen"),
        (&["--pid", &std::process::id().to_string()], "no bidder thread"),
    ] {
        let (code, out, err) = doctor(256, args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains(says), "{says} in {err}");
    }
}
