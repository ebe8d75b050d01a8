//! The program as a process: its files, its output, its end.
#![allow(dead_code, unreachable_pub)] // each test file uses its part
use super::common::{Answer, SMALL, connect, ok, post, read_answer};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

/// Nothing a test waits for takes longer; a test that would hang fails instead.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what cannot be waited for otherwise.
const LOOK: Duration = Duration::from_millis(5);
pub const OUTCRY: &str = env!("CARGO_BIN_EXE_outcry");

pub const BODY: &str =
    r#"{"id":"r-1","tmax":60000,"imp":[{"id":"1","banner":{"w":300,"h":250}}],"site":{"domain":"a.example"}}"#;

/// One request, its answer as JSON.
pub fn auction(conn: &mut TcpStream, id: &str) -> serde_json::Value {
    conn.write_all(post(&BODY.replace("r-1", id), "").as_bytes()).expect("write");
    let answer = read_answer(conn);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(answer["id"], id);
    answer
}

pub fn bid(request: &serde_json::Value, price: &str) -> Vec<u8> {
    let (id, imp) = (request["id"].as_str().unwrap_or(""), request["imp"][0]["id"].as_str().unwrap_or(""));
    ok(&format!(
        r#"{{"id":"{id}","seatbid":[{{"bid":[{{"id":"b","impid":"{imp}","price":{price},"adm":"<b>ad</b>","w":300,"h":250}}]}}]}}"#
    ))
}

pub fn high(request: &serde_json::Value) -> Vec<u8> {
    bid(request, "2.00")
}

/// A directory of one test, and one on a tmpfs for black boxes.
pub struct Dir(pub PathBuf, pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("outcry-process-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = [std::env::temp_dir(), PathBuf::from("/dev/shm")].map(|at| {
            let dir = at.join(&name);
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).expect("a directory");
            dir
        });
        let [dir, boxes] = made;
        Dir(dir, boxes)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("write");
        path
    }

    /// A configuration with ports of the system's choice and deadlines that a busy machine keeps; `top` are keys,
    /// `rest` are keys of [auction], then sections.
    pub fn config(&self, top: &str, dsps: &[(&str, SocketAddr)], rest: &str) -> PathBuf {
        let mut text = format!(
            "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nstate_dir = \"{}\"\n{top}\n\
             [auction]\ntmax_max_ms = 60000\ndsp_ms = 30000\n{rest}\n",
            self.0.join("state").display()
        );
        if !rest.contains("[record]") {
            let _ = write!(text, "\n[record]\nbox_dir = {:?}\n{SMALL}", self.1);
        }
        for (name, addr) in dsps {
            let _ = write!(
                text,
                "\n[[dsp]]\nname = \"{name}\"\nurl = \"http://{addr}/bid\"\ntimeout_ms = 30000\nwarm = 2\n"
            );
        }
        self.write("outcry.toml", &text)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_dir_all(&self.1);
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
pub enum Stream {
    Out,
    Err,
}

/// A process whose output is collected; killed when the test is over and it is not.
pub struct Process {
    pub pid: Pid,
    lines: Receiver<(Stream, String)>,
    seen: Vec<(Stream, String)>,
    pub exit: Receiver<ExitStatus>,
    pub ended: bool,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Process {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let pid = Pid::from_child(&child);
        let (line, lines) = channel();
        collect(child.stdout.take().expect("a pipe"), Stream::Out, line.clone());
        collect(child.stderr.take().expect("a pipe"), Stream::Err, line);
        let (ended, exit) = channel();
        std::thread::spawn(move || ended.send(child.wait().expect("wait")));
        Process { pid, lines, seen: Vec::new(), exit, ended: false }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("signal");
    }

    /// Waits for a line with `part` in it that was not waited for before.
    pub fn line(&mut self, part: &str) -> String {
        let by = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(by.saturating_duration_since(Instant::now())) {
                Ok((stream, line)) => {
                    self.seen.push((stream, line.clone()));
                    if line.contains(part) {
                        return line;
                    }
                }
                Err(e) => panic!("no {part:?} ({e}) in\n{}", self.text(None)),
            }
        }
    }

    /// What it has said so far and was looked at, on one stream or on both.
    pub fn text(&self, stream: Option<Stream>) -> String {
        let lines = self.seen.iter().filter(|s| stream.is_none_or(|want| want == s.0));
        lines.map(|s| format!("{}\n", s.1)).collect()
    }

    /// Waits for its end; gives its exit code.
    pub fn end(&mut self) -> i32 {
        let Ok(status) = self.exit.recv_timeout(PATIENCE) else {
            self.seen.extend(self.lines.try_iter());
            panic!("it does not end:\n{}", self.text(None));
        };
        self.ended = true;
        self.seen.extend(self.lines.iter());
        status.code().unwrap_or_else(|| panic!("{status}:\n{}", self.text(None)))
    }

    #[track_caller]
    pub fn ends_with(&mut self, code: i32) {
        let got = self.end();
        assert_eq!(got, code, "{}", self.text(None));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.exit.recv_timeout(PATIENCE);
        }
    }
}

fn collect(from: impl Read + Send + 'static, stream: Stream, to: Sender<(Stream, String)>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send((stream, line)).is_err() {
                return;
            }
        }
    });
}

/// One run to its end: exit code, standard output, standard error.
pub fn run(args: &[&str]) -> (i32, String, String) {
    let mut process = Process::spawn(Command::new(OUTCRY).args(args));
    let code = process.end();
    (code, process.text(Some(Stream::Out)), process.text(Some(Stream::Err)))
}

/// `outcry serve`, ready.
pub struct Serving {
    pub process: Process,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

impl Serving {
    pub fn start(config: &Path) -> Serving {
        Serving::start_as(Command::new(OUTCRY).arg("serve").arg("--config").arg(config))
    }

    pub fn start_as(command: &mut Command) -> Serving {
        let mut process = Process::spawn(command);
        let line = process.line("outcry: requests on ");
        let addrs: Vec<SocketAddr> =
            line.split([' ', ',']).filter_map(|word| word.parse().ok()).filter(|a: &SocketAddr| a.port() > 0).collect();
        let [listen, admin] = addrs[..] else { panic!("two addresses in {line:?}") };
        Serving { process, listen, admin }
    }

    /// Kills it, as nothing can be stopped or finished.
    pub fn kill(mut self) {
        self.process.signal(Signal::KILL);
        assert!(!self.process.exit.recv_timeout(PATIENCE).expect("dead").success());
        self.process.ended = true;
    }

    pub fn stop(mut self) -> String {
        self.process.signal(Signal::TERM);
        self.process.ends_with(0);
        self.process.text(Some(Stream::Err))
    }

    pub fn get(&self, path: &str) -> Answer {
        let mut conn = connect(self.admin);
        write!(conn, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
        read_answer(&mut conn)
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let page = self.get("/metrics").text();
        page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a level is this, and sees that it stays for as long as it takes the core to report three times.
    pub fn shows(&self, name: &str, value: u64) {
        until(name, || (self.metric(name) == Some(value)).then_some(()));
        for _ in 0..3 {
            let turns = self.metric("outcry_turns_total");
            until("a report", || (self.metric("outcry_turns_total") != turns).then_some(()));
            assert_eq!(self.metric(name), Some(value), "{name} does not stay");
        }
    }

    pub fn tasks(&self) -> BTreeMap<i32, (String, Vec<usize>)> {
        let dir = format!("/proc/{}/task", self.process.pid.as_raw_nonzero());
        let mut tasks = BTreeMap::new();
        for entry in fs::read_dir(dir).expect("its tasks").flatten() {
            // One that has ended meanwhile.
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
            let tid = entry.file_name().to_string_lossy().parse().expect("a number");
            tasks.insert(tid, (field(&status, "Name:").to_owned(), cpus(field(&status, "Cpus_allowed_list:"))));
        }
        tasks
    }
}

pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}")).trim()
}

/// `0-2,5`.
pub fn cpus(list: &str) -> Vec<usize> {
    let number = |n: &str| n.parse::<usize>().unwrap_or_else(|e| panic!("{e} in {list:?}"));
    list.split(',')
        .flat_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            number(from)..=number(to)
        })
        .collect()
}

/// CPUs this process may run on.
pub fn allowed() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("our own status");
    cpus(field(&status, "Cpus_allowed_list:"))
}

/// Looks until there is something to see.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < by, "never: {what}");
        std::thread::sleep(LOOK);
    }
}
