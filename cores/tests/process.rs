//! The program as its operator has it: the real binary, its files, signals, exit codes, threads and output.
mod common;
#[path = "process/program.rs"]
mod program;
use common::{connect, dsp, post, read_answer};
use outcry::units::EventId;
use program::{BODY, Dir, OUTCRY, PATIENCE, Process, Serving, Stream, allowed, auction, bid, high, run, until};
use rustix::process::Signal;
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A request in two parts with any time between them: its deadline counts from its first byte.
fn in_two_parts() -> (String, String) {
    let mut text = post(&BODY.replace("r-1", "last"), "");
    let rest = text.split_off(text.len() - 20);
    (text, rest)
}

fn price(answer: &serde_json::Value) -> f64 {
    answer["seatbid"][0]["bid"][0]["price"].as_f64().unwrap_or_else(|| panic!("a price in {answer}"))
}

fn low(request: &serde_json::Value) -> Vec<u8> {
    bid(request, "1.00")
}

// --- start and stop ------------------------------------------------------------------------------

#[test]
fn it_serves_until_told_to_stop_and_finishes_what_it_has() {
    let dir = Dir::new();
    let config = dir.config("stop_ms = 30000\n", &[("high", dsp(high))], "[cpus]\nbidder_count = 1\n");
    let manager = UnixDatagram::bind(dir.0.join("notify")).expect("bind");
    manager.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut told = [0; 256];
    let mut tell = || {
        let n = manager.recv(&mut told).expect("a word to the service manager");
        String::from_utf8_lossy(&told[..n]).into_owned()
    };
    let mut command = Command::new(OUTCRY);
    command.arg("serve").arg("--config").arg(&config).env("NOTIFY_SOCKET", dir.0.join("notify"));
    let mut serving = Serving::start_as(&mut command);
    assert!(tell().starts_with("READY=1\n"));
    let ready = serving.get("/readyz");
    assert!(ready.status == 200 && ready.text().contains('1'), "{ready:?}");

    let mut conn = connect(serving.listen);
    auction(&mut conn, "r-1");
    // A request that is half here holds up the drain for as long as we like.
    let (a, b) = in_two_parts();
    conn.write_all(a.as_bytes()).expect("write");
    serving.process.signal(Signal::TERM);
    let off = until("readiness goes off", || Some(serving.get("/readyz")).filter(|a| a.status != 200));
    assert!(off.status == 503 && !off.text().contains('1'), "{off:?}");
    assert!(tell().starts_with("STOPPING=1\n"));
    assert_eq!(serving.get("/healthz").status, 200, "to stop is no illness");
    until("nobody listens", || TcpStream::connect(serving.listen).is_err().then_some(()));
    conn.write_all(b.as_bytes()).expect("write");
    let answer = read_answer(&mut conn);
    assert!(answer.status == 200 && answer.text().contains("\"last\""), "{answer:?}");
    serving.process.ends_with(0);
}

/// `stop_ms` bounds a stop: here a client would hold it up for an hour.
#[test]
fn a_client_that_stalls_does_not_outlast_the_stop() {
    let dir = Dir::new();
    let config = dir.config("stop_ms = 500\n", &[], "[http]\nslow_ms = 3600000\n[cpus]\nbidder_count = 1\n");
    let mut serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    conn.write_all(post(BODY, "").split_at(30).0.as_bytes()).expect("write");
    until("it is a client", || (serving.metric("outcry_connections") == Some(1)).then_some(()));
    serving.process.signal(Signal::TERM);
    // No auction was lost: that is a stop in order.
    serving.process.ends_with(0);
}

#[test]
fn a_second_signal_ends_the_wait() {
    let dir = Dir::new();
    let config = dir.config("stop_ms = 3600000\n", &[], "[http]\nslow_ms = 3600000\n[cpus]\nbidder_count = 1\n");
    let mut serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    conn.write_all(post(BODY, "").split_at(30).0.as_bytes()).expect("write");
    until("it is a client", || (serving.metric("outcry_connections") == Some(1)).then_some(()));
    serving.process.signal(Signal::INT);
    serving.process.line("draining 1 cores");
    serving.process.signal(Signal::INT);
    serving.process.ends_with(1);
    assert!(serving.process.text(Some(Stream::Err)).contains("not stopped in order"));
}

#[test]
fn what_cannot_start_says_why() {
    let dir = Dir::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let taken = taken.local_addr().map(|a| (taken, a)).expect("addr");
    let state = dir.0.join("state");
    let file = dir.write("file", "");
    let base = format!("state_dir = {state:?}\n");
    for (text, says) in [
        (format!("{base}listen = \"{}\"\nadmin = \"127.0.0.1:0\"\n", taken.1), "cannot listen on"),
        (format!("{base}listen = \"127.0.0.1:0\"\nadmin = \"{}\"\n", taken.1), "cannot listen on"),
        (format!("state_dir = \"{}/x\"\n", file.display()), "set `state_dir`"),
        (format!("{base}lisen = \"127.0.0.1:0\"\n"), "did you mean `listen`?"),
        (format!("{base}[[dsp]]\nname = \"a\"\nurl = \"http://nowhere.invalid/\"\n"), "dsp a: nowhere.invalid:80"),
        (format!("{base}[cpus]\nbidders = [1023]\n"), "cpus.bidders: found CPU 1023"),
    ] {
        let config = dir.write("outcry.toml", &text);
        let (code, _, err) = run(&["serve", "--config", &config.to_string_lossy()]);
        assert!(code == 1 && err.contains(says), "{text}\n{code}\n{err}");
    }
    let (code, _, err) = run(&["serve", "--config", "/nonexistent/outcry.toml"]);
    assert!(code == 1 && err.contains("/nonexistent/outcry.toml: No such file"), "{err}");
}

/// The start is part of every event id: none is used twice, whatever happened to the process before.
#[test]
fn each_start_has_a_higher_epoch() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", dsp(high))], "[cpus]\nbidder_count = 1\n");
    let mut ids = Vec::new();
    for i in 0..3 {
        let serving = Serving::start(&config);
        let answer = auction(&mut connect(serving.listen), "r-1");
        let id = answer["bidid"].as_str().and_then(|t| EventId::parse(t.as_bytes()));
        ids.push(id.unwrap_or_else(|| panic!("an event id in {answer}")));
        if i == 1 {
            // Not asked, not saved, not synchronised: the epoch of this start was on disk before its first auction.
            serving.kill();
        } else {
            serving.stop();
        }
    }
    assert!(ids[0].node > 0 && ids.iter().all(|id| id.node == ids[0].node), "{ids:?}");
    assert!(ids.windows(2).all(|w| w[0].epoch < w[1].epoch), "{ids:?}");
    assert!(ids.iter().all(|id| id.core == 0 && id.seq == 1), "{ids:?}");
}

// --- reload --------------------------------------------------------------------------------------

#[test]
fn a_reload_takes_effect_and_a_broken_one_does_not() {
    let dir = Dir::new();
    let (high, low) = (("high", dsp(high)), ("low", dsp(low)));
    let cpus = "[cpus]\nbidder_count = 1\n";
    let mut serving = Serving::start(&dir.config("", &[high], cpus));
    // One connection through all of it.
    let mut conn = connect(serving.listen);
    let alone = price(&auction(&mut conn, "r-1"));
    serving.shows("outcry_config_id", 1);
    assert!(alone < 1.0, "nobody to beat: {alone}");

    dir.config("", &[high, low], &format!("increment = 0.25\n{cpus}"));
    serving.process.signal(Signal::HUP);
    serving.process.line("configuration 2 is on its way");
    let mut decides =
        |want: f64| until("the configuration decides", || (price(&auction(&mut conn, "r-2")) == want).then_some(()));
    decides(1.25);
    serving.shows("outcry_config_id", 2);

    // Broken in the middle, not TOML at all, gone, or changed where only a restart can: each says so, none has effect.
    let config = dir.0.join("outcry.toml");
    let good = fs::read_to_string(&config).expect("read");
    for (text, says) in [
        (Some(good.replace("increment = 0.25", "increment = \"much\"")), "auction.increment: found \"much\""),
        (Some(good.replace("[[dsp]]", "[[dsp]")), "line "),
        (None, "No such file"),
        (Some(good.replace("bidder_count = 1", "bidder_count = 2")), "`cpus` can only change with a restart"),
        (Some(good.replace("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1:1\"")), "`listen` can only change"),
        (Some(format!("stop_ms = 7777\n{good}")), "`stop_ms` can only change"),
    ] {
        match &text {
            Some(text) => fs::write(&config, text).expect("write"),
            None => fs::remove_file(&config).expect("remove"),
        }
        serving.process.signal(Signal::HUP);
        let first = serving.process.line("the configuration stays as it is: ");
        if !first.contains(says) {
            serving.process.line(says);
        }
        decides(1.25);
    }
    // And a good one is taken after all of that; a DSP that is gone is not asked any more.
    fs::write(&config, good.replace("increment = 0.25", "increment = 0.5")).expect("write");
    serving.process.signal(Signal::HUP);
    serving.process.line("configuration 3 is on its way");
    decides(1.5);
    dir.config("", &[low], cpus);
    serving.process.signal(Signal::HUP);
    decides(alone);
    let refused = r#"outcry_config_reloads_total{result="refused"} 6"#;
    until("every refusal is counted", || serving.get("/metrics").text().contains(refused).then_some(()));
    assert_eq!(serving.get("/readyz").status, 200);
    serving.stop();
}

// --- threads and drivers -------------------------------------------------------------------------

#[test]
fn only_bidder_threads_run_on_a_bidder_cpu() {
    let ours = allowed();
    let [first, .., last] = ours[..] else {
        println!("SKIPPED: one CPU only, which bidder, flush and control have to share");
        return;
    };
    let dir = Dir::new();
    let plan = format!("[cpus]\nbidders = [{last}]\nflush = {first}\ncontrol = [{first}]\n");
    let serving = Serving::start(&dir.config("", &[("high", dsp(high))], &plan));
    // Whoever starts threads late has started them: resolver, admin port, workers of io_uring.
    auction(&mut connect(serving.listen), "r-1");
    serving.process.signal(Signal::HUP);
    serving.shows("outcry_config_id", 2);
    let tasks = serving.tasks();
    let names: Vec<&str> = tasks.values().map(|t| t.0.as_str()).collect();
    for must in ["outcry", "outcry-bid-0", "outcry-flush", "outcry-control"] {
        assert!(names.contains(&must), "{must} in {names:?}");
    }
    let bidder = |tid: i32| tasks.get(&tid).is_some_and(|t| t.0.starts_with("outcry-bid-"));
    for (tid, (name, on)) in &tasks {
        // The kernel names a worker of a ring after the thread whose ring it is.
        let owner = name.strip_prefix("iou-wrk-").and_then(|n| n.parse().ok()).unwrap_or(*tid);
        if bidder(owner) {
            assert_eq!(on, &[last], "{name}");
        } else {
            assert_eq!(on, &[first], "{name} may run where a bidder does: {tasks:?}");
        }
    }
    serving.stop();
}

#[test]
fn epoll_serves_when_it_is_asked_for() {
    let dir = Dir::new();
    let config = dir.config("io_driver = \"epoll\"\n", &[("high", dsp(high))], "[cpus]\nbidder_count = 1\n");
    let serving = Serving::start(&config);
    let mut conn = connect(serving.listen);
    for i in 0..50 {
        auction(&mut conn, &format!("r-{i}"));
    }
    serving.shows("outcry_io_fallback", 1);
    let said = serving.stop();
    assert!(!said.contains("WARNING"), "nothing fell back, it was asked for: {said}");
}

/// Becomes `argv[1..]` after a filter like those of container runtimes: io_uring_setup (425 on every architecture of
/// ours) gets EPERM.
const WITHOUT_IO_URING: &str = r"
import ctypes, os, sys
class Rule(ctypes.Structure): _fields_ = [('code', ctypes.c_ushort), ('jt', ctypes.c_ubyte), ('jf', ctypes.c_ubyte), ('k', ctypes.c_uint)]
class Program(ctypes.Structure): _fields_ = [('len', ctypes.c_ushort), ('rules', ctypes.POINTER(Rule))]
rules = (Rule * 4)(Rule(0x20, 0, 0, 0), Rule(0x15, 0, 1, 425), Rule(0x06, 0, 0, 0x00050001), Rule(0x06, 0, 0, 0x7fff0000))
libc = ctypes.CDLL(None, use_errno=True)
zero = ctypes.c_ulong(0)
if libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) or libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(Program(4, rules))):
    sys.exit('no filter: ' + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn where_io_uring_is_forbidden_it_falls_back_loudly_or_refuses() {
    let filtered = || {
        let mut command = Command::new("python3");
        command.args(["-c", WITHOUT_IO_URING]);
        command
    };
    // Needs Python, and a kernel that takes filters.
    if !filtered().arg("/bin/true").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        println!("SKIPPED: no python3, or no seccomp");
        return;
    }
    let dir = Dir::new();
    let dsps = [("high", dsp(high))];
    let serve = |config: PathBuf| {
        let mut command = filtered();
        command.arg(OUTCRY).arg("serve").arg("--config").arg(config);
        command
    };
    let cpus = "[cpus]\nbidder_count = 1\n";
    let mut refused = Process::spawn(&mut serve(dir.config("io_driver = \"io_uring\"\n", &dsps, cpus)));
    refused.ends_with(1);
    assert!(refused.text(Some(Stream::Err)).contains("seccomp"), "{}", refused.text(None));

    let mut checked = filtered();
    checked.args([OUTCRY, "check", "--config"]).arg(dir.0.join("outcry.toml"));
    let mut checked = Process::spawn(&mut checked);
    checked.ends_with(1);
    assert!(checked.text(Some(Stream::Out)).contains("seccomp"), "{}", checked.text(None));

    let serving = Serving::start_as(&mut serve(dir.config("io_driver = \"auto\"\n", &dsps, cpus)));
    auction(&mut connect(serving.listen), "r-1");
    serving.shows("outcry_io_fallback", 1);
    let said = serving.stop();
    assert!(said.contains("WARNING: falling back to epoll") && said.contains("seccomp"), "{said}");

    // The demo's simulators and its load have rings of their own.
    let mut demo = filtered();
    demo.args([OUTCRY, "demo", "--seconds", "1", "--rate", "200"]);
    let mut demo = Process::spawn(&mut demo);
    demo.ends_with(0);
    assert!(demo.text(None).contains("every request got exactly one right answer"), "{}", demo.text(None));
}

/// The hook is there in debug builds only: nothing that comes over a socket or stands in a file makes a core panic.
#[cfg(debug_assertions)]
#[test]
fn a_panic_on_one_core_takes_the_process_down_in_order() {
    if allowed().len() < 2 {
        println!("SKIPPED: one CPU only, so there is no second core that could finish its work");
        return;
    }
    panic_on_one_core("auto");
    panic_on_one_core("epoll");
}

#[cfg(debug_assertions)]
fn panic_on_one_core(io_driver: &str) {
    let dir = Dir::new();
    let rest = "[http]\nslow_ms = 3600000\n[cpus]\nbidder_count = 2\n";
    let config = dir.config(&format!("stop_ms = 30000\nio_driver = \"{io_driver}\"\n"), &[("high", dsp(high))], rest);
    let mut command = Command::new(OUTCRY);
    command.arg("serve").arg("--config").arg(&config).env("OUTCRY_TEST_PANIC_CORE", "0");
    let mut serving = Serving::start_as(&mut command);
    // Half a request each, on connections of both cores: an answer's id says which core it has.
    let (a, b) = in_two_parts();
    let mut conns = [None, None];
    until("a connection of each core", || {
        let mut conn = connect(serving.listen);
        let answer = auction(&mut conn, "r-1");
        let id = answer["bidid"].as_str().and_then(|t| EventId::parse(t.as_bytes())).expect("an event id");
        conns[usize::from(id.core)].get_or_insert(conn);
        conns.iter().all(Option::is_some).then_some(())
    });
    let [Some(mut lost), Some(mut kept)] = conns else { unreachable!("both are there") };
    kept.write_all(a.as_bytes()).expect("write");
    assert_eq!(serving.get("/readyz").status, 200);
    serving.process.signal(Signal::HUP);
    serving.process.line("OUTCRY_TEST_PANIC_CORE");
    serving.process.line("core 0 is lost");
    serving.process.line("draining 2 cores: core 0 is lost");
    let off = serving.get("/readyz");
    assert!(off.status == 503 && !off.text().contains('1'), "{off:?}");
    assert_eq!(serving.get("/healthz").status, 503);
    until("it is counted", || (serving.metric("outcry_panics_total") == Some(1)).then_some(()));
    // The client of the lost core is let go, that of the other gets its answer.
    let end = lost.read(&mut [0; 64]);
    let reset = end.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset);
    assert!(reset || end.as_ref().is_ok_and(|n| *n == 0), "it is not kept waiting: {end:?}");
    until("nobody listens", || TcpStream::connect(serving.listen).is_err().then_some(()));
    kept.write_all(b.as_bytes()).expect("write");
    assert_eq!(read_answer(&mut kept).status, 200);
    serving.process.ends_with(1);
    assert!(serving.process.text(Some(Stream::Err)).contains("not stopped in order: "));
}

/// All cores listen on one port; the kernel spreads connections over them.
#[test]
fn several_clients_and_cores_answer_everything() {
    const CLIENTS: usize = 5;
    const REQUESTS: usize = 200;
    let dir = Dir::new();
    let cores = allowed().len().min(2);
    let serving = Serving::start(&dir.config(
        "",
        &[("high", dsp(high)), ("low", dsp(low))],
        &format!("[cpus]\nbidder_count = {cores}\n"),
    ));
    let listen = serving.listen;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|c| {
            std::thread::spawn(move || {
                let mut conn = connect(listen);
                (0..REQUESTS).map(|r| auction(&mut conn, &format!("c{c}-r{r}"))["bidid"].to_string()).collect()
            })
        })
        .collect();
    let mut ids: Vec<String> =
        clients.into_iter().flat_map(|c| -> Vec<String> { c.join().expect("a client") }).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CLIENTS * REQUESTS, "no event id twice");
    serving.shows("outcry_auctions_total", (CLIENTS * REQUESTS) as u64);
    assert_eq!(serving.metric("outcry_cores"), Some(cores as u64));
    serving.stop();
}

// --- the other commands --------------------------------------------------------------------------

#[test]
fn check_names_ten_mistakes_at_once() {
    let dir = Dir::new();
    let config = dir.write(
        "ten.toml",
        "listen = \"nowhere\"\nadmin = 7\nio_driver = \"iouring\"\nstop_ms = 5\nstat_dir = \"/x\"\n\
         [http]\nbody_byte = 5000\nconnections = -1\n[auction]\nincrement = \"much\"\nno_such_thing = 1\n\
         [[dsp]]\nname = \"a\"\nurl = \"ftp://x.example/\"\n",
    );
    let (code, out, err) = run(&["check", "--config", &config.to_string_lossy()]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    for (line, what) in [
        (1, "listen: found \"nowhere\""),
        (2, "admin: found 7"),
        (3, "did you mean `\"io_uring\"`?"),
        (4, "stop_ms: found 5; allowed: 100 to 3600000 milliseconds"),
        (5, "did you mean `state_dir`?"),
        (7, "did you mean `body_bytes`?"),
        (8, "http.connections: found -1"),
        (10, "auction.increment: found \"much\""),
        (11, "no_such_thing"),
        (14, "dsp.url: found \"ftp://x.example/\""),
    ] {
        let place = format!("ten.toml: line {line}, column ");
        assert!(err.lines().any(|l| l.contains(&place) && l.contains(what)), "line {line}, {what}:\n{err}");
    }
    assert!(err.ends_with("ten.toml: 10 mistakes\n"), "{err}");
}

#[test]
fn check_prints_the_plan_that_would_run() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", "192.0.2.1:9".parse().expect("addr"))], "[cpus]\nbidder_count = 1\n");
    let config = config.to_string_lossy();
    let (code, short, err) = run(&["check", "--config", &config]);
    assert_eq!((code, err.as_str()), (0, ""), "{short}");
    for part in ["bidders   1", "flush     1", "control   1", "/openrtb2/auction", "http://192.0.2.1:9/bid", "\nio  "] {
        assert!(short.contains(part), "{part} in\n{short}");
    }
    assert!(!dir.0.join("state").exists(), "it only looks");
    let (code, long, _) = run(&["check", "--config", &config, "--explain"]);
    assert!(code == 0 && long.contains("because cpus.bidder_count says so") && !short.contains("because"), "{long}");
    let (code, _, err) = run(&["check", "--config", "/nonexistent"]);
    assert!(code == 1 && err.contains("/nonexistent"), "{err}");
    assert_eq!(run(&["check"]).0, 2, "usage");
}

#[test]
fn what_it_prints_as_a_configuration_is_one() {
    let dir = Dir::new();
    for args in [&["default-config"][..], &["demo", "--print-config"][..]] {
        let (code, text, err) = run(args);
        assert!(code == 0 && err.is_empty(), "{args:?}: {err}");
        let config = dir.write("printed.toml", &text);
        let (code, out, err) = run(&["check", "--config", &config.to_string_lossy()]);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}\n{out}");
    }
}

#[test]
fn the_demo_is_right() {
    let (code, out, err) = run(&["demo", "--seconds", "2", "--rate", "300"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("verdict   every request got exactly one right answer"), "{out}");
    for dsp in ["cheap", "rich", "decliner", "erring", "late"] {
        assert!(out.lines().any(|l| l.trim_start().starts_with(dsp)), "{dsp} in {out}");
    }
    assert_eq!(run(&["demo", "--rate", "0"]).0, 1);
}

/// `outcry check ... | head` panicked once its reader had left.
#[test]
fn a_reader_that_leaves_is_no_error() {
    let dir = Dir::new();
    let config = dir.config("", &[("high", dsp(high))], "");
    for args in [vec!["check", "--explain", "--config", config.to_str().expect("a path")], vec!["default-config"]] {
        let mut command = Command::new(OUTCRY);
        let mut child = command.args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("ends");
        assert!(ended.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
        assert!(ended.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    }
}
