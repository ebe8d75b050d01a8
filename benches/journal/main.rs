//! The journal's writer against a plain io_uring writer on the same disk, alternating: records a second, CPU a record, and how
//! long one commit of 4 KB takes.
//!
//!   journal dir=/var/tmp block=262144 record=1024 depth=4 mb=1024 commits=2000 rounds=3 cpu=-1 turn=4096 only=plain,dsync,fdatasync,std,
//!     uring,unsummed,dsync-unsummed
//!
//! All write into files that were filled with zeros before, with O_DIRECT | O_DSYNC (`fdatasync`: O_DIRECT, and an fdatasync
//! after each write; `std`: the page cache and fdatasync). The journal's side checks each frame as a black box's
//! reader does, copies it into a block, sums the block twice (CRC-32 on its own thread, SHA-256 on two others; `unsummed`:
//! without those, which is the flush core's own share), `turn` records at most between two looks at the disk; the plain
//! writer writes the same number of the same bytes. A row is the median of the rounds, ratios are of medians. `cpu` pins
//! the thread that writes; CPU of the rest is the kernel's threads for writes, and what makes files.
mod plain;

use glommio::{LocalExecutorBuilder, Placement};
use outcry::{
    journal::{
        block::BLOCK_HEADER,
        retention::{Levels, Retention},
        writer::{Class, Settings},
    },
    record::frame::{self, Header, Kind},
    units::Now,
};
use outcry_benches::kit::{Args, cpu_ns, pin, thread_cpu_ns};
use outcry_cores::journal::{
    GlommioDisk, Journal, JournalSettings, StdDisk, UringDisk,
    disk::{Disk, Done, Files, Job},
    glommio_disk::Sync,
};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// What is measured.
#[derive(Clone, Copy)]
struct Task {
    block: usize,
    record: usize,
    depth: usize,
    bytes: u64,
    commits: usize,
    turn: usize,
    cpu: Option<usize>,
    cpus: usize,
}

/// What was.
#[derive(Clone, Copy)]
struct Row {
    records_s: f64,
    cpu: Cpu,
    p50_us: f64,
    p99_us: f64,
}

/// CPU, in nanoseconds: so far, or of one record.
#[derive(Clone, Copy)]
struct Cpu {
    /// The thread that is asked: the one that writes.
    writer: f64,
    digest: f64,
    rest: f64,
}

impl Cpu {
    fn now() -> Cpu {
        let (all, writer, mut digest) = (cpu_ns() as f64, thread_cpu_ns() as f64, 0.0);
        for task in fs::read_dir("/proc/self/task").expect("a list of threads").flatten() {
            let read = |what| fs::read_to_string(task.path().join(what)).unwrap_or_default();
            if read("comm").trim().starts_with("outcry-digest") {
                digest += read("schedstat").split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0);
            }
        }
        Cpu { writer, digest, rest: all - writer - digest }
    }

    /// Of each of `records` since then.
    fn since(before: Cpu, records: f64) -> Cpu {
        let now = Cpu::now();
        let per = |now: f64, before: f64| ((now - before) / records).max(0.0);
        let (writer, digest) = (per(now.writer, before.writer), per(now.digest, before.digest));
        Cpu { writer, digest, rest: per(now.rest, before.rest) }
    }
}

fn main() {
    let args = Args::parse(&["dir", "block", "record", "depth", "mb", "commits", "rounds", "cpu", "turn", "only"]);
    let task = Task {
        block: args.count("block", 256 << 10),
        record: args.count("record", 1024),
        depth: args.count("depth", 4),
        bytes: args.count("mb", 1024) as u64 * (1 << 20),
        commits: args.count("commits", 2000),
        turn: args.count("turn", 4096),
        cpu: usize::try_from(args.num("cpu", -1)).ok(),
        // Asked before this thread is pinned: then it would be one.
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    };
    if let Some(cpu) = task.cpu {
        pin(cpu);
    }
    let dir = PathBuf::from(args.text("dir", "/var/tmp")).join(format!("outcry-journal-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    let mut rows: [Vec<Row>; 7] = Default::default();
    let only = args.text("only", "plain,dsync,fdatasync,std,uring,unsummed,dsync-unsummed");
    let wanted = |name| only.split(',').any(|o| o == name);
    for _ in 0..args.count("rounds", 3) {
        rows[0].extend(wanted("plain").then(|| plain(&dir, task)));
        rows[1].extend(wanted("dsync").then(|| glommio(&dir, task, Sync::Dsync, |disk| disk)));
        rows[2].extend(wanted("fdatasync").then(|| glommio(&dir, task, Sync::Fdatasync, |disk| disk)));
        rows[3].extend(wanted("std").then(|| waiting(StdDisk::new(&fresh(&dir), 1).expect("a disk"), task)));
        rows[4].extend(wanted("uring").then(|| waiting(uring(&dir, task), task)));
        rows[6].extend(
            wanted("dsync-unsummed").then(|| glommio(&dir, task, Sync::Dsync, |disk| Unsummed(disk, VecDeque::new()))),
        );
        rows[5].extend(wanted("unsummed").then(|| waiting(Unsummed(uring(&dir, task), VecDeque::new()), task)));
    }
    fs::remove_dir_all(&dir).expect("removed");
    let medians = rows.map(|r| (!r.is_empty()).then(|| median(&r)));
    println!(
        "writer               records/s   MB/s   CPU ns/record: writer  digest   rest   commit p50 us  p99 us   records/s : plain  p99 : plain"
    );
    let base = medians[0];
    for (name, row) in [
        "plain io_uring",
        "glommio O_DSYNC",
        "glommio fdatasync",
        "std fdatasync",
        "uring O_DSYNC",
        "uring, unsummed",
        "glommio, unsummed",
    ]
    .iter()
    .zip(medians)
    {
        let Some(row) = row else { continue };
        let mb = row.records_s * task.record as f64 / 1e6;
        let (a, b) = base.map_or((f64::NAN, f64::NAN), |p| (row.records_s / p.records_s, row.p99_us / p.p99_us));
        println!(
            "{name:<18} {:11.0} {mb:6.0} {:23.0} {:7.0} {:6.0} {:15.0} {:7.0} {a:19.2} {b:12.2}",
            row.records_s, row.cpu.writer, row.cpu.digest, row.cpu.rest, row.p50_us, row.p99_us
        );
    }
}

fn median(rows: &[Row]) -> Row {
    let of = |f: fn(&Row) -> f64| {
        let mut all: Vec<f64> = rows.iter().map(f).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let cpu = Cpu { writer: of(|r| r.cpu.writer), digest: of(|r| r.cpu.digest), rest: of(|r| r.cpu.rest) };
    Row { records_s: of(|r| r.records_s), cpu, p50_us: of(|r| r.p50_us), p99_us: of(|r| r.p99_us) }
}

fn quantiles(mut us: Vec<f64>) -> (f64, f64) {
    us.sort_by(f64::total_cmp);
    (us[us.len() / 2], us[us.len() * 99 / 100])
}

fn plain(dir: &Path, task: Task) -> Row {
    let mut file = plain::Plain::open(&dir.join("plain"), task.bytes + (1 << 20), task.block, task.depth);
    let blocks = (task.bytes / task.block as u64) as usize;
    let records = records(task) as f64;
    let (began, cpu) = (Instant::now(), Cpu::now());
    file.stream(blocks);
    let (wall, cpu) = (began.elapsed(), Cpu::since(cpu, records));
    let (p50_us, p99_us) = quantiles((0..task.commits).map(|i| file.commit(i)).collect());
    Row { records_s: records / wall.as_secs_f64(), cpu, p50_us, p99_us }
}

/// A journal in a directory of its own, whose first segment has been made and begun.
fn settings(task: Task) -> JournalSettings {
    let writer = Settings {
        node: 1,
        // All of it in one segment, so that making the next one is not measured.
        segment_bytes: (task.bytes + task.bytes / 16 + (64 << 20) + task.commits as u64 * 4096).next_multiple_of(4096),
        block_bytes: task.block,
        depth: task.depth,
        reserve_bytes: 0,
        entropy: 1,
    };
    JournalSettings {
        writer,
        checkpoint_bytes: 64 << 20,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}

fn header(seq: u64) -> Header {
    Header { seq, epoch: 1, writer: 0, kind: Kind::Auction as u8, version: 1, hlc: seq << 16 }
}

struct Drive<D: Disk> {
    journal: Journal<D>,
    /// Every frame, made before the clock runs: that is the bidder cores' work.
    frames: Vec<u8>,
    /// Bytes of one.
    size: usize,
    record: usize,
    seq: u64,
    turn: usize,
}

impl<D: Disk> Drive<D> {
    fn new(disk: D, task: Task) -> Drive<D> {
        let (journal, _) = Journal::open(disk, settings(task)).expect("an empty directory");
        let size = task.record.next_multiple_of(frame::ALIGN);
        let mut frames = vec![0x5a; size * records(task) as usize];
        for (i, room) in frames.chunks_exact_mut(size).enumerate() {
            frame::seal(room, task.record, &header(i as u64 + 1));
        }
        Drive { journal, frames, size, record: task.record, seq: 0, turn: task.turn }
    }

    /// Offers the next record, as it is found in a black box.
    fn push(&mut self) -> bool {
        let frame = frame::decode(&self.frames[self.seq as usize * self.size..]).expect("a frame");
        debug_assert_eq!(frame.payload().len() + frame::HEADER, self.record);
        let taken = self.journal.push(&frame, Class::Ordinary).is_ok();
        self.seq += u64::from(taken);
        taken
    }

    /// Has one record been written, and is nothing of the first segment or the second still being made?
    fn begun(&mut self) -> bool {
        if self.seq == 0 {
            self.push();
        }
        self.durable() == 1 && self.journal.settled()
    }

    /// As many as a turn takes. How many were taken.
    fn push_some(&mut self, goal: u64) -> usize {
        (0..self.turn).take_while(|_| self.seq < goal && self.push()).count()
    }

    /// Offers one whose block is 4 KB. Was it taken?
    fn push_commit(&mut self) -> bool {
        let mut room = [0x5a; COMMIT];
        frame::seal(&mut room, COMMIT, &header(self.seq + 1));
        let taken = self.journal.push(&frame::decode(&room).expect("a frame"), Class::Ordinary);
        self.seq += u64::from(taken.is_ok());
        taken.is_ok()
    }

    fn durable(&self) -> u64 {
        self.journal.durable_positions().get((1, 0))
    }
}

fn records(task: Task) -> u64 {
    (task.bytes / task.block as u64) * ((task.block - BLOCK_HEADER) / task.record) as u64
}

/// Longest wait for a disk; a segment that is being made tells nobody.
const MS: Duration = Duration::from_millis(1);
/// A frame whose block is 4 KB.
const COMMIT: usize = 4096 - BLOCK_HEADER;

fn glommio<D: Disk + 'static>(
    dir: &Path,
    task: Task,
    sync: Sync,
    as_disk: impl FnOnce(GlommioDisk) -> D + 'static,
) -> Row {
    let dir = fresh(dir);
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(8 << 20).make().expect("glommio");
    executor.run(async move {
        let disk = GlommioDisk::new(&dir, 1, sync).expect("a directory").expect("O_DIRECT");
        let waiter = disk.waiter();
        let mut drive = Drive::new(as_disk(disk), task);
        // The segment is made, its header written, and the next one made too.
        while !drive.begun() {
            drive.journal.turn(Now::default());
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        let (began, cpu, goal) = (Instant::now(), Cpu::now(), records(task));
        while drive.durable() < goal {
            let taken = drive.push_some(goal);
            let work = drive.journal.turn(Now::default());
            if taken + work == 0 {
                waiter.done().await;
            } else if work > 0 {
                // What was handed out goes to the kernel now, not when every buffer is full: glommio submits when nothing
                // else can run, and a timer that is over lets it come to that.
                glommio::timer::sleep(Duration::ZERO).await;
            }
        }
        let (wall, cpu) = (began.elapsed(), Cpu::since(cpu, goal as f64));
        let mut commits = Vec::with_capacity(task.commits);
        for _ in 0..task.commits {
            let began = loop {
                let began = Instant::now();
                if drive.push_commit() {
                    break began;
                }
                drive.journal.turn(Now::default());
                glommio::executor().yield_now().await;
            };
            while drive.durable() < drive.seq {
                if drive.journal.turn(Now::default()) == 0 {
                    waiter.done().await;
                }
            }
            commits.push(began.elapsed().as_secs_f64() * 1e6);
        }
        let (p50_us, p99_us) = quantiles(commits);
        Row { records_s: goal as f64 / wall.as_secs_f64(), cpu, p50_us, p99_us }
    })
}

fn waiting<D: Disk>(disk: D, task: Task) -> Row {
    let mut drive = Drive::new(disk, task);
    while !drive.begun() {
        drive.journal.turn(Now::default());
        drive.journal.wait(MS);
        std::thread::yield_now();
    }
    let (began, cpu, goal) = (Instant::now(), Cpu::now(), records(task));
    while drive.durable() < goal {
        let taken = drive.push_some(goal);
        if drive.journal.turn(Now::default()) + taken == 0 {
            drive.journal.wait(MS);
        }
    }
    let (wall, cpu) = (began.elapsed(), Cpu::since(cpu, goal as f64));
    let mut commits = Vec::with_capacity(task.commits);
    for _ in 0..task.commits {
        let began = loop {
            let began = Instant::now();
            if drive.push_commit() {
                break began;
            }
            drive.journal.turn(Now::default());
        };
        while drive.durable() < drive.seq {
            if drive.journal.turn(Now::default()) == 0 {
                drive.journal.wait(MS);
            }
        }
        commits.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let (p50_us, p99_us) = quantiles(commits);
    Row { records_s: goal as f64 / wall.as_secs_f64(), cpu, p50_us, p99_us }
}

/// Pinned, the writer has its CPU to itself.
fn uring(dir: &Path, task: Task) -> UringDisk {
    let disk = UringDisk::new(&fresh(dir), 1).expect("a disk").expect("O_DIRECT");
    if let Some(cpu) = task.cpu {
        disk.digest_on(&(0..task.cpus).filter(|c| *c != cpu).collect::<Vec<_>>());
    }
    disk
}

/// A disk whose segments nobody sums: what remains is the flush core's own.
struct Unsummed<D: Disk>(D, VecDeque<Done<D::Buf>>);

impl<D: Disk> Files for Unsummed<D> {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.0.list()
    }

    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(name, at, out)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn free(&mut self) -> io::Result<u64> {
        self.0.free()
    }
}

impl<D: Disk> Disk for Unsummed<D> {
    type Buf = D::Buf;

    fn buffer(&mut self, bytes: usize) -> D::Buf {
        self.0.buffer(bytes)
    }

    fn submit(&mut self, job: Job<D::Buf>) {
        match job {
            Job::Digest(piece) => self.1.push_back(Done::Digested { role: piece.role, buf: piece.buf }),
            job => self.0.submit(job),
        }
    }

    fn hand_over(&mut self) {
        self.0.hand_over();
    }

    fn poll(&mut self) -> Option<Done<D::Buf>> {
        self.1.pop_front().or_else(|| self.0.poll())
    }

    fn wait(&mut self, most: Duration) {
        if self.1.is_empty() {
            self.0.wait(most);
        }
    }
}

fn fresh(dir: &Path) -> PathBuf {
    let dir = dir.join("journal");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}
