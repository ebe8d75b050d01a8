//! Fills a directory with a journal of auctions and measures starts from it: what `outcry audit` and a start cost depends on
//! how much there is, and on what the page cache holds.
//!
//!   journal-fill do=fill dir=/var/tmp/j gb=10 block=262144 segment=256 rate=20000 seed=1 late=1000
//!   journal-fill do=evict dir=/var/tmp/j
//!   journal-fill do=open dir=/var/tmp/j evict=1
//!
//! `fill` goes through the journal's own writer and its direct disk, with checkpoints as a running exchange writes them, until
//! so many GB are durable, and then leaves without ending the journal, as a process that is killed does (kill -9 at any
//! moment does it as well). Records are those of two thousand auctions that were decided by the auction itself, five DSPs each,
//! over and over, each time with an event id and a request id (24 hexadecimal digits) of its own and `rate` of them a second
//! of the journal's time; one in `late` has a delivery behind it. Prints the first, middle and last request id, the bytes of a
//! record and how long it took. `evict` asks the kernel to drop what it holds of every file (`posix_fadvise`). `open` is
//! what a start does, timed; it begins no segment.
#[allow(dead_code, reason = "most of it is micro's")]
#[path = "../micro/parts.rs"]
mod parts;

use glommio::{LocalExecutorBuilder, Placement};
use outcry::{
    auction::{Delivery, Record, delivery, record},
    journal::{
        retention::{Levels, Retention},
        writer::{Class, Refusal, Settings},
    },
    record::frame::{self, Header},
    units::{EventId, Now, mix},
};
use outcry_benches::kit::{Args, hex16};
use outcry_cores::{
    journal::{GlommioDisk, Journal, JournalSettings, StdDisk, glommio_disk::Sync},
    lab::requests::generate,
};
use rustix::fs::{Advice, fadvise};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const NODE: u32 = 0xab;
/// Auctions that are decided.
const TEMPLATES: usize = 2_000;
/// 2026-01-31T12:00:00Z: when the first one was.
const BEGAN_MS: u64 = 1_769_860_800_000;

/// What `parts` counts with under callgrind.
pub(crate) fn counted(_: bool, mut f: impl FnMut()) {
    f();
}

fn main() {
    let args = Args::parse(&["do", "dir", "gb", "block", "segment", "rate", "seed", "late", "evict"]);
    let dir = PathBuf::from(args.text("dir", "/var/tmp/outcry-journal"));
    let settings = settings(args.count("block", 256 << 10), args.count("segment", 256) as u64 * (1 << 20));
    if args.flag("evict", false) || args.text("do", "") == "evict" {
        evict(&dir);
    }
    match args.text("do", "fill").as_str() {
        "fill" => {
            let records = Records::new(args.count("seed", 1) as u64, args.count("rate", 20_000) as u64);
            fill(
                &dir,
                settings,
                args.count("gb", 10) as u64 * 1_000_000_000,
                args.count("late", 1_000) as u64,
                records,
            );
        }
        "open" => open(&dir, settings),
        "evict" => {}
        other => panic!("do={other}: there are fill, evict, open"),
    }
}

fn settings(block_bytes: usize, segment_bytes: u64) -> JournalSettings {
    let writer = Settings { node: NODE, segment_bytes, block_bytes, depth: 4, reserve_bytes: 0, entropy: 1 };
    JournalSettings {
        writer,
        checkpoint_bytes: 64 << 20,
        retention: Retention { age_ms: u64::MAX, bytes_max: u64::MAX },
        levels: Levels { low: 0, keep: 0 },
    }
}

fn evict(dir: &Path) {
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let file = File::open(entry.path()).expect("a file");
        file.sync_all().expect("synced: dirty pages are not dropped");
        fadvise(&file, 0, None, Advice::DontNeed).expect("fadvise");
    }
}

fn open(dir: &Path, settings: JournalSettings) {
    let began = Instant::now();
    let disk = StdDisk::new(dir, NODE).expect("a directory");
    let (journal, recovered) = Journal::open(disk, settings).unwrap_or_else(|e| panic!("{e}"));
    let took = began.elapsed();
    println!(
        "open: {:.3} s, {:.1} MB read, {} frames in the last segment, torn {:?}, clean {}, next block follows {:?}",
        took.as_secs_f64(),
        recovered.bytes_read as f64 / 1e6,
        recovered.frames,
        recovered.torn.map(|(segment, at, torn)| (segment, at, torn.bytes)),
        recovered.clean,
        journal.durable(),
    );
}

/// Makes frames.
struct Records {
    templates: Vec<Record>,
    rate: u64,
    seed: u64,
    n: u64,
    seq: u64,
    bytes: u64,
    frame: Vec<u8>,
}

impl Records {
    fn new(seed: u64, rate: u64) -> Records {
        let mut parts = parts::Parts::new();
        let templates = generate(seed, TEMPLATES).into_iter().filter_map(|t| parts.record(&t.body)).collect();
        Records { templates, rate, seed, n: 0, seq: 0, bytes: 0, frame: Vec::new() }
    }

    fn event(n: u64) -> EventId {
        EventId { node: NODE, epoch: 1, core: 0, seq: n }
    }

    fn request_id(&self, n: u64) -> [u8; 24] {
        let mut id = [b'0'; 24];
        hex16(&mut id[..16], mix(self.seed ^ n));
        hex16(&mut id[8..], n);
        id
    }

    fn finish(&mut self, payload: impl FnOnce(&mut Vec<u8>), kind: u8, version: u8) {
        self.frame.clear();
        let at = frame::begin(&mut self.frame);
        payload(&mut self.frame);
        let hlc = (BEGAN_MS + self.n * 1_000 / self.rate) << 16 | self.seq & 0xff;
        self.seq += 1;
        frame::finish(&mut self.frame, at, &Header { seq: self.seq, epoch: 1, writer: 0, kind, version, hlc });
    }

    /// The next auction.
    fn auction(&mut self) {
        self.n += 1;
        let (n, id, ms) = (self.n, self.request_id(self.n), BEGAN_MS + self.n * 1_000 / self.rate);
        let at = n as usize % self.templates.len();
        let inputs = &mut self.templates[at].inputs;
        let kept = &mut inputs.texts[inputs.request_id.at as usize..][..usize::from(inputs.request_id.len)];
        let len = kept.len().min(id.len());
        kept[..len].copy_from_slice(&id[id.len() - len..]);
        // Ties are broken by the two together: the decision stays what it was.
        let key = |e: EventId| mix(e.seq ^ u64::from(e.core).rotate_left(48));
        inputs.entropy ^= key(inputs.event) ^ key(Records::event(n));
        (inputs.event, inputs.wall_ms) = (Records::event(n), ms);
        let record = std::mem::take(&mut self.templates[at]);
        self.finish(|out| record.encode(out), record::KIND, record::VERSION);
        self.templates[at] = record;
        self.bytes += self.frame.len() as u64;
    }

    /// A delivery of the last one.
    fn delivery(&mut self) {
        let event = Records::event(self.n);
        let late = Delivery::Late { at_ns: 900_000_000 };
        self.finish(|out| late.encode(event, &[], out), delivery::KIND, delivery::FRAME_VERSION);
    }
}

fn fill(dir: &Path, settings: JournalSettings, bytes: u64, late: u64, mut records: Records) {
    fs::create_dir_all(dir).expect("a directory");
    let began = Instant::now();
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(8 << 20).make().expect("glommio");
    let path = dir.to_path_buf();
    executor.run(async move {
        let disk = GlommioDisk::new(&path, NODE, Sync::Dsync).expect("a directory").expect("O_DIRECT");
        let (mut journal, _) = Journal::open(disk, settings).unwrap_or_else(|e| panic!("{e}"));
        let mut waiting = false;
        let mut written = 0;
        while written < bytes {
            for _ in 0..256 {
                if !waiting {
                    match records.n > 0
                        && records.n.is_multiple_of(late)
                        && records.seq == records.n + records.n / late - 1
                    {
                        true => records.delivery(),
                        false => records.auction(),
                    }
                }
                match journal.push(&frame::decode(&records.frame).expect("a frame"), Class::Ordinary) {
                    Ok(_) => waiting = false,
                    Err(Refusal::Busy | Refusal::Preparing) => {
                        waiting = true;
                        break;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
            written = journal.counts().write_bytes;
            if journal.turn(Now::default()) == 0 && waiting {
                // A timer, not the disk's waker: a segment that is being made wakes nobody.
                glommio::timer::sleep(Duration::from_micros(100)).await;
            } else {
                glommio::executor().yield_now().await;
            }
        }
        let n = records.n;
        let id = |n: u64| String::from_utf8_lossy(&records.request_id(n)).into_owned();
        println!(
            "{n} auctions of {} bytes in {:.0} s, templates {}; durable {:?}",
            records.bytes / n,
            began.elapsed().as_secs_f64(),
            records.templates.len(),
            journal.durable()
        );
        for n in [1, n / 2, n / 2 / late * late, n - n % 10_000] {
            println!("request {} event {}", id(n), Records::event(n));
        }
    });
}
