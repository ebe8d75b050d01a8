//! Notices after they were recorded: the first of its kind told from the others, its DSP told.
//! Owns: which were taken, whom is to be told. Runs on: flush, which reads the records of all cores; a start, before that.
//! Called by: `flush::keeper` for each frame that the journal took, and once a turn. Never: waits; calls anybody itself, bidder
//! cores do; acts on a notice whose record the journal has not taken.
//! Full: what there is no room to tell apart is counted and left; cores are told before it comes to that.
mod file;
pub mod holding;
pub mod start;
#[cfg(test)]
mod tests;

use crate::{
    planted::{Fault, planted},
    wiring::FlushNoticeEnds,
};
use file::FileWriter;
use holding::{Holding, MoneyEnds};
use outcry::{
    limits::NOTICES_CALLS,
    messages::{NoticeCall, ToNotices},
    notice::{
        checkpoint::{self, Writer},
        holds::{Holds, Lapse},
        outbox::{Answer, Outbox},
        peers::Peers,
        seen::{Mark, Seen},
        told::{End, Name, Notice, Told},
    },
    record::{
        frame::{Frame, Kind},
        labels::Journal as Figure,
        totals::Totals,
    },
    units::{MS, Now},
};
use std::path::PathBuf;

/// Of flush's time, what making checkpoints may take at most: one part in so many.
const SHARE: u64 = 200;

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    new: u64,
    again: u64,
    untold: u64,
    theirs: u64,
    done: u64,
    dead: u64,
}

/// A checkpoint that was made and is not written before the journal has what is in it.
#[derive(Debug)]
struct Made {
    bytes: Vec<u8>,
    writers: Vec<(Writer, u64)>,
}

/// See the module.
#[derive(Debug)]
pub struct Notices {
    seen: Seen,
    outbox: Outbox,
    holding: Holding,
    peers: Peers,
    ends: Vec<FlushNoticeEnds>,
    /// Calls under way at each core.
    under_way: Vec<usize>,
    next_core: usize,
    /// What the cores were told, if it has come to anything.
    told_full: bool,
    counts: Counts,
    file: FileWriter,
    made: Option<Made>,
    /// What the last one had of the record.
    kept: Vec<(Writer, u64)>,
    /// What the last one took, and an eighth.
    bytes: usize,
    every_ns: u64,
    due_ns: u64,
    /// Ends of a start that were not recorded yet.
    ended: Vec<Told>,
}

/// What a start found, and where the next checkpoints go.
#[derive(Debug)]
pub struct Begun {
    /// Which were taken.
    pub seen: Seen,
    /// Who is to be told.
    pub outbox: Outbox,
    /// Who will not be.
    pub ended: Vec<Told>,
    /// What waits to be charged.
    pub holds: Holds,
    /// Who is told of that.
    pub money: Option<MoneyEnds>,
    /// The machine, and this start.
    pub start: (u32, u32),
    /// Other servers.
    pub peers: Peers,
    /// How long tokens live.
    pub life_s: u32,
    /// What the journal has, as far as it is in this.
    pub writers: Vec<(Writer, u64)>,
    /// Whom a checkpoint names that are to be told, also those that there is no room for.
    pub waiting: Vec<(Name, Vec<u8>)>,
    /// Where checkpoints are.
    pub path: PathBuf,
    /// Nanoseconds between two of them.
    pub every_ns: u64,
}

impl Notices {
    /// Goes on from what a start found; calls go by these ends, in the order of cores.
    pub fn new(begun: Begun, ends: Vec<FlushNoticeEnds>, now: Now) -> Notices {
        let Begun { seen, outbox, ended, path, every_ns, holds, money, start, peers, life_s, .. } = begun;
        Notices {
            seen,
            outbox,
            holding: Holding::new(holds, start, life_s, money),
            peers,
            under_way: vec![0; ends.len()],
            ends,
            next_core: 0,
            told_full: false,
            counts: Counts::default(),
            file: FileWriter::new(path),
            made: None,
            kept: Vec::new(),
            bytes: 0,
            every_ns,
            due_ns: now.boot_ns + every_ns,
            ended,
        }
    }

    /// A frame that the journal has taken.
    pub fn take(&mut self, frame: &Frame<'_>, now: Now) {
        match frame.kind() {
            Some(Kind::Notice) => {}
            Some(Kind::Auction) => return self.holding.auction(frame, now),
            _ => return,
        }
        // It was made by a bidder core of this process: it can be read.
        let Ok(notice) = Notice::decode(frame.payload()) else { return };
        if notice.expired {
            return;
        }
        let name = notice.name;
        match self.seen.take(name.event, name.imp, name.kind, notice.expires_s, seconds(now)) {
            Mark::New => {
                self.counts.new += 1;
                self.holding.notice(&notice);
                self.counts.theirs += u64::from(self.peers.is_theirs(&notice));
                if let Some(url) = self.peers.whom(&notice)
                    && let Err(told) = self.outbox.push(name, &url, Some(frame.header.writer), now.boot_ns)
                {
                    self.ended.push(told);
                }
            }
            Mark::Again if planted(Fault::NoticeTwice) => drop(self.outbox.push(name, notice.url, None, now.boot_ns)),
            Mark::Again => self.counts.again += 1,
            Mark::Full => self.counts.untold += 1,
        }
    }

    /// A DSP is to be told once more, whatever came of it before.
    pub fn replay(&mut self, name: Name, url: &[u8], now: Now) {
        self.ended.extend(self.outbox.push(name, url, None, now.boot_ns).err());
    }

    /// What is held and not charged after all goes home, each on record: before the turn reads anything. `read`: when every box
    /// had been read to its end.
    pub fn lapse(&mut self, read: Option<Now>, now: Now, note: impl FnMut(&Lapse)) {
        self.holding.lapse(read, now, note);
    }

    /// Tells whoever has leases what is held of them; as [`Notices::keep`], also at once when there will be no other time.
    pub fn tell(
        &mut self,
        now: Now,
        at_once: bool,
        read: impl Fn() -> Vec<(Writer, u64)>,
        durable: impl Fn(Writer, u64) -> bool,
    ) {
        self.holding.tell(now, at_once, read, durable);
    }

    /// What ended since the last time goes to `note`, to be recorded: once a turn, before a checkpoint is thought of.
    pub fn end(&mut self, mut note: impl FnMut(&Told)) {
        for told in self.ended.drain(..) {
            match told.end {
                End::Done => self.counts.done += 1,
                End::Refused | End::GaveUp | End::NoRoom | End::NoHost => self.counts.dead += 1,
            }
            note(&told);
        }
    }

    /// Hears what came of calls, hands out those that are due.
    pub fn turn(&mut self, now: Now) {
        for (ends, under_way) in self.ends.iter_mut().zip(&mut self.under_way) {
            while let Ok(called) = ends.called.pop() {
                *under_way -= 1;
                self.ended.extend(self.outbox.answered(called.slot, called.answer, now.boot_ns));
            }
        }
        let full = self.seen.is_nearly_full(seconds(now));
        if full != self.told_full && self.ends.iter().all(|ends| !ends.calls.is_full()) {
            self.told_full = full;
            for ends in &mut self.ends {
                let _ = ends.calls.push(ToNotices::Full(full));
            }
        }
        while let Some(core) = self.free_core()
            && let Some(due) = self.outbox.next(now.boot_ns)
        {
            // The core that took it, if it may: it knows what the caller said of the device.
            let may = |core: &usize| {
                self.under_way.get(*core).is_some_and(|n| *n < NOTICES_CALLS) && !self.ends[*core].calls.is_abandoned()
            };
            let core = due.by.map(usize::from).filter(may).unwrap_or(core);
            let call = NoticeCall { slot: due.slot, name: due.name, url: due.url.to_vec(), answer: Answer::Busy };
            match self.ends[core].calls.push(ToNotices::Call(Box::new(call))) {
                Ok(()) => self.under_way[core] += 1,
                // The core has ended: told after the next start.
                Err(_) => break,
            }
        }
    }

    /// A core that may have one more call under way.
    fn free_core(&mut self) -> Option<usize> {
        let n = self.ends.len();
        let core = (0..n)
            .map(|i| (self.next_core + i) % n)
            .find(|core| self.under_way[*core] < NOTICES_CALLS && !self.ends[*core].calls.is_abandoned())?;
        self.next_core = (core + 1) % n;
        Some(core)
    }

    /// Makes and writes checkpoints. `read`: the last frame of each writer that was handed to [`Notices::take`] or is in the
    /// journal from before, this thread's own among them; `durable` says whether the journal has a writer's frames up to one;
    /// `clock` gives nanoseconds.
    pub fn keep(
        &mut self,
        now: Now,
        read: impl FnOnce() -> Vec<(Writer, u64)>,
        durable: impl Fn(Writer, u64) -> bool,
        clock: impl Fn() -> u64,
    ) {
        // What ended and is not on its way into the journal would be in neither.
        debug_assert!(self.ended.is_empty(), "it is noted first");
        if self.made.is_none() && now.boot_ns >= self.due_ns && self.file.is_idle() {
            if self.file.has_failed() {
                self.kept.clear();
            }
            let began_ns = clock();
            self.due_ns = now.boot_ns + self.every_ns;
            let writers = read();
            if writers != self.kept {
                let mut bytes = Vec::with_capacity(self.bytes);
                let holds = |out: &mut Vec<u8>| self.holding.holds().write(out);
                let tasks = self.outbox.all();
                checkpoint::write(seconds(now), &writers, |out| all_of(&self.seen, out), tasks, holds, &mut bytes);
                self.bytes = bytes.len() + bytes.len() / 8;
                self.kept.clone_from(&writers);
                self.made = Some(Made { bytes, writers });
                // Where there is much to write it is written more rarely, so that the journal does not wait for it.
                self.due_ns = self.due_ns.max(now.boot_ns + (clock() - began_ns).saturating_mul(SHARE));
            }
        }
        // What it says was taken must be in the journal, or a power cut would leave a notice that is neither recorded nor
        // taken when it comes again.
        if self.made.as_ref().is_some_and(|made| made.writers.iter().all(|(writer, seq)| durable(*writer, *seq)))
            && let Some(made) = self.made.take()
        {
            self.file.write(made.bytes);
        }
    }

    /// Shows how things stand.
    pub fn show(&mut self, now: Now, totals: &mut Totals) {
        let Counts { new, again, untold, theirs, done, dead } = self.counts;
        let oldest_ns = self.outbox.oldest_ns().map_or(0, |since_ns| now.boot_ns.saturating_sub(since_ns));
        for (figure, value) in [
            (Figure::NoticesNew, new),
            (Figure::NoticesAgain, again),
            (Figure::NoticesUntold, untold),
            (Figure::NoticesTheirs, theirs),
            (Figure::NoticesWaiting, self.outbox.waiting() as u64),
            (Figure::NoticesOldestS, oldest_ns / (1_000 * MS)),
            (Figure::NoticesDone, done),
            (Figure::NoticesDead, dead),
        ] {
            totals.set_journal(figure, value);
        }
        self.holding.show(totals);
    }
}

/// Appends every page that is alive.
fn all_of(seen: &Seen, out: &mut Vec<u8>) {
    let more = seen.snapshot(0, usize::MAX, out);
    debug_assert!(more.is_none());
}

fn seconds(now: Now) -> u32 {
    u32::try_from(now.unix_ms() / 1_000).unwrap_or(u32::MAX)
}
