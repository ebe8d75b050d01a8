//! A disk in virtual time: writes that are under way are lost, kept or torn at 512 bytes when the power fails, in any order;
//! it errs, hangs, fills up.
use super::faults::{Fault, planted};
use crate::{
    journal::disk::{Disk, Done, Files, Job},
    lab::rng::Rng,
};
use outcry::journal::{
    digest::Digester,
    segment::{FileKind, file_name},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind},
};

/// What is torn.
const SECTOR: usize = 512;

#[derive(Debug)]
struct Pending {
    due: u64,
    fails: bool,
    job: Job<Vec<u8>>,
    /// It was called done already.
    told: bool,
}

#[derive(Debug)]
pub(super) struct SimDisk {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) capacity: u64,
    /// Writes that fail, in a thousand.
    pub(super) fails: u32,
    /// Writes that hang, in a thousand.
    pub(super) hangs: u32,
    /// Nothing is summed.
    pub(super) digest_hangs: bool,
    node: u32,
    rng: Rng,
    now: u64,
    pending: Vec<Pending>,
    /// What is to be summed, in order: another thread comes to it when it does.
    digesting: VecDeque<Job<Vec<u8>>>,
    digester: Digester,
    done: VecDeque<Done<Vec<u8>>>,
}

impl SimDisk {
    pub(super) fn new(node: u32, seed: u64) -> SimDisk {
        SimDisk {
            files: BTreeMap::new(),
            capacity: u64::MAX,
            fails: 0,
            hangs: 0,
            digest_hangs: false,
            node,
            rng: Rng::new(seed),
            now: 0,
            pending: Vec::new(),
            digesting: VecDeque::new(),
            digester: Digester::default(),
            done: VecDeque::new(),
        }
    }

    /// Time passes; what is due is done, in any order.
    pub(super) fn advance(&mut self, time: u64) {
        self.now += time;
        let (now, mut due) = (self.now, Vec::new());
        let mut i = 0;
        while i < self.pending.len() {
            if self.pending[i].due <= now { due.push(self.pending.swap_remove(i)) } else { i += 1 }
        }
        while !due.is_empty() {
            let next = self.rng.below(due.len() as u64) as usize;
            let job = due.swap_remove(next);
            self.finish(job);
        }
        self.digest();
    }

    /// The other thread comes to some of what it has to do.
    fn digest(&mut self) {
        let n = if self.digest_hangs { 0 } else { self.rng.below(4) };
        for _ in 0..n {
            let done = match self.digesting.pop_front() {
                Some(Job::Digest(p)) => {
                    self.digester.add(p.segment, p.at, &p.buf[..p.bytes]);
                    Done::Digested { role: p.role, buf: p.buf }
                }
                Some(Job::EndDigest { segment }) => Done::Digest { segment, digest: self.digester.end() },
                _ => return,
            };
            self.done.push_back(done);
        }
    }

    /// The process ends, and with it what it had not summed.
    fn forget(&mut self) {
        self.done.clear();
        self.digesting.clear();
        self.digester = Digester::default();
    }

    fn finish(&mut self, pending: Pending) {
        let Pending { fails, job, told, .. } = pending;
        let result = || if fails { Err(io::Error::from(ErrorKind::Other)) } else { Ok(()) };
        let done = match job {
            Job::Write(w) => {
                self.sectors(&w.buf[..w.bytes], w.segment, w.at, if fails { 500 } else { 1000 });
                Done::Wrote { id: w.id, buf: w.buf, result: result() }
            }
            Job::Prepare { segment, bytes } => {
                let full = self.free().expect("always") < bytes;
                if !fails && !full {
                    let name = file_name(FileKind::Segment, self.node, segment);
                    self.files.insert(name, vec![0; bytes as usize]);
                }
                let result = if full { Err(ErrorKind::StorageFull.into()) } else { result() };
                Done::Prepared { segment, result }
            }
            Job::Cut { segment, end } => {
                self.cut_file(segment, end);
                Done::Tidied { result: Ok(()) }
            }
            Job::Replace { name, bytes } => {
                if !fails {
                    self.files.insert(name, bytes);
                }
                Done::Replaced { result: result() }
            }
            Job::Index { .. } => Done::Tidied { result: Ok(()) },
            Job::Remove { name } => {
                self.files.remove(&name);
                Done::Tidied { result: Ok(()) }
            }
            Job::Digest(_) | Job::EndDigest { .. } => unreachable!("they have a queue of their own"),
        };
        if !told {
            self.done.push_back(done);
        }
    }

    /// The power fails: of what is under way anything may have happened, and nobody is told.
    pub(super) fn power_cut(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.job {
                Job::Write(w) => {
                    // All, none, or some sectors.
                    let kept = [0, 1000, 500, 900, 100][self.rng.below(5) as usize];
                    self.sectors(&w.buf[..w.bytes], w.segment, w.at, kept);
                }
                job => self.half(job),
            }
        }
        self.forget();
    }

    /// The process dies: the kernel carries on with what it was given, or drops it.
    pub(super) fn kill(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending.job {
                Job::Write(w) => {
                    let kept = if self.rng.chance(800) { 1000 } else { 0 };
                    self.sectors(&w.buf[..w.bytes], w.segment, w.at, kept);
                }
                job => self.half(job),
            }
        }
        self.forget();
    }

    /// A job on files: done, not done, or a file left lying about.
    fn half(&mut self, job: Job<Vec<u8>>) {
        let fails = self.rng.chance(500);
        if let (true, Job::Prepare { segment, bytes }) = (fails, &job) {
            let part = vec![0xaa; self.rng.below(*bytes) as usize];
            self.files.insert(file_name(FileKind::Unfinished, self.node, *segment), part);
        } else {
            self.finish(Pending { due: 0, fails, job, told: true });
        }
    }

    fn sectors(&mut self, bytes: &[u8], segment: u64, at: u64, permille: u32) {
        let Some(file) = self.files.get_mut(&file_name(FileKind::Segment, self.node, segment)) else { return };
        for (i, sector) in bytes.chunks(SECTOR).enumerate() {
            let at = at as usize + i * SECTOR;
            if self.rng.chance(permille) && at + sector.len() <= file.len() {
                file[at..at + sector.len()].copy_from_slice(sector);
            }
        }
    }

    fn cut_file(&mut self, segment: u64, end: u64) {
        if let Some(file) = self.files.get_mut(&file_name(FileKind::Segment, self.node, segment)) {
            file.truncate(end as usize);
        }
    }
}

impl Files for SimDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn read(&mut self, name: &str, at: u64, out: &mut [u8]) -> io::Result<()> {
        let file = self.files.get(name).ok_or(ErrorKind::NotFound)?;
        let part = file.get(at as usize..at as usize + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.files.remove(name).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn free(&mut self) -> io::Result<u64> {
        Ok(self.capacity.saturating_sub(self.files.values().map(|f| f.len() as u64).sum()))
    }
}

impl Disk for SimDisk {
    type Buf = Vec<u8>;

    fn buffer(&mut self, bytes: usize) -> Vec<u8> {
        vec![0xee; bytes]
    }

    fn submit(&mut self, job: Job<Vec<u8>>) {
        if let (true, Job::EndDigest { segment }) = (planted(Fault::DigestTooSoon), &job) {
            let digest = self.digester.clone().end();
            return self.done.push_back(Done::Digest { segment: *segment, digest });
        }
        if let Job::Digest(_) | Job::EndDigest { .. } = job {
            return self.digesting.push_back(job);
        }
        let fails = self.rng.chance(self.fails);
        let hangs = if self.rng.chance(self.hangs) { 2_000 } else { 0 };
        let due = self.now + 1 + self.rng.below(20) + hangs;
        let mut told = false;
        if let (true, Job::Write(w)) = (planted(Fault::DoneTooSoon), &job) {
            self.done.push_back(Done::Wrote { id: w.id, buf: w.buf.clone(), result: Ok(()) });
            told = true;
        }
        self.pending.push(Pending { due, fails: fails && !told, job, told });
    }

    fn poll(&mut self) -> Option<Done<Vec<u8>>> {
        self.done.pop_front()
    }

    fn wait(&mut self, _: std::time::Duration) {}
}
