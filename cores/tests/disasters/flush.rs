//! What flush of a server makes of its records as far as notices go: what is held, what lapses, whom it tells; and what of that a
//! death leaves behind.
//! Owns: the production's holds of the start that runs, the order in which the journal took what moves them. Called by: the
//! world. Never: tells a server what the journal could still lose.
use super::{
    plan::{Plan, Planted},
    start::Frame,
};
use outcry::{
    budget::{LineKey, granter::settle::Final, server::Held},
    notice::holds::{Holds, Lapse, Of},
    units::{Money, Now},
};
use outcry_cores::{lab::rng::Rng, money::recover, notices::holding};
use std::collections::{BTreeMap, BTreeSet};

/// A billing notice that a core has recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice {
    /// Which win.
    pub(crate) name: u64,
    pub(crate) of: Of,
    pub(crate) expires_s: u32,
    pub(crate) held: i64,
    pub(crate) charge: i64,
}

/// One thing that the journal took.
#[derive(Clone, Copy, Debug)]
enum Said {
    Held(Of, u32, i64),
    Billed(Notice),
    Lapsed(Lapse),
}

/// What is told once so much of the journal is on disk.
struct Telling {
    len: usize,
    upto: Vec<u64>,
    held: Vec<Held>,
    dead: BTreeMap<u32, Vec<Final>>,
}

/// A server's journal, and what is made of it.
#[derive(Default)]
pub(crate) struct Flush {
    journal: Vec<Said>,
    /// So much of it is on disk, with so many frames of each core of the start that runs.
    durable: (usize, Vec<usize>),
    /// A checkpoint: what was held when so much had been said.
    checkpoint: Option<(Vec<u8>, usize)>,
    epoch: u32,
    holds: Holds,
    seen: BTreeSet<u64>,
    /// When everything was read last.
    complete: Option<Now>,
    read: Vec<usize>,
    /// What is to be told once so much is on disk.
    telling: Option<Telling>,
    /// Starts that are dead, and what their lines have come to: to be settled again.
    pub(crate) dead: BTreeMap<u32, Vec<Final>>,
}

impl Flush {
    /// A start begins: what the last one left in its boxes goes into the journal, then all is known again from there.
    pub(crate) fn begin(&mut self, epoch: u32, left: &[Vec<Frame>], plan: &Plan, now: Now) {
        self.journal.truncate(self.durable.0);
        for (core, frames) in left.iter().enumerate() {
            let from = self.durable.1.get(core).copied().unwrap_or(0).min(frames.len());
            frames[from..].iter().for_each(|frame| said(self.epoch, frame, &mut self.journal));
        }
        let (mut holds, from) = match &self.checkpoint {
            Some((bytes, from)) => (Holds::read(bytes, now).expect("it was written"), *from),
            None => (Holds::new(), 0),
        };
        if let Some(Planted::Holds(fault)) = plan.planted {
            holds.plant(fault);
        }
        self.seen.clear();
        for (at, said) in self.journal.iter().enumerate() {
            let first = !matches!(said, Said::Billed(notice) if !self.seen.insert(notice.name));
            if first && at >= from {
                hear(&mut holds, said, now);
            }
        }
        holds.tell_all();
        self.durable = (self.journal.len(), vec![0; plan.cores]);
        *self = Flush {
            epoch,
            holds,
            read: vec![0; plan.cores],
            telling: None,
            complete: None,
            dead: BTreeMap::new(),
            ..std::mem::take(self)
        };
    }

    /// As flush does in each turn; it has none before dead starts are settled. What the server is to hear, if anything.
    pub(crate) fn turn(
        &mut self,
        frames: &[&[Frame]],
        now: Now,
        r: &mut Rng,
        settled: bool,
    ) -> Option<(Vec<u64>, Vec<Held>)> {
        while let Some(lapse) = self.complete.filter(|_| settled).and_then(|then| self.holds.due(then)) {
            self.journal.push(Said::Lapsed(lapse));
            self.holds.lapse(&lapse);
        }
        // What was there before this turn may be on disk by now.
        let before = (self.journal.len(), self.read.clone());
        for (core, frames) in frames.iter().enumerate() {
            let most = if r.chance(100) { self.read[core] + r.below(3) as usize } else { usize::MAX };
            for frame in &frames[self.read[core]..frames.len().min(most).max(self.read[core])] {
                let from = self.journal.len();
                said(self.epoch, frame, &mut self.journal);
                for said in &self.journal[from..] {
                    if !matches!(said, Said::Billed(notice) if !self.seen.insert(notice.name)) {
                        hear(&mut self.holds, said, now);
                    }
                }
                self.read[core] += 1;
            }
        }
        if frames.iter().zip(&self.read).all(|(frames, read)| frames.len() == *read) {
            self.complete = Some(now);
        }
        if !r.chance(300) {
            self.durable = before;
        }
        if self.checkpoint.as_ref().is_none_or(|(_, at)| self.durable.0 > at + 50)
            && self.durable.0 == self.journal.len()
        {
            let mut bytes = Vec::new();
            self.holds.write(&mut bytes);
            self.checkpoint = Some((bytes, self.journal.len()));
        }
        if self.telling.is_none() {
            let changes = self.holds.changes();
            let mut dead: BTreeMap<u32, Vec<Final>> = BTreeMap::new();
            for (of, sums) in changes.iter().filter(|(of, _)| of.epoch != self.epoch) {
                dead.entry(of.epoch).or_default().extend(recover::line_of_dead(*of, sums));
            }
            let held = changes.iter().filter(|(of, _)| of.epoch == self.epoch).map(|(of, sums)| Held {
                line: of.line,
                held: holding::out(sums),
                lapsed: sums.lapsed,
            });
            let upto = self.read.iter().map(|n| *n as u64).collect();
            self.telling = Some(Telling { len: self.journal.len(), upto, held: held.collect(), dead });
        }
        let Telling { upto, held, dead, .. } = self.telling.take_if(|telling| telling.len <= self.durable.0)?;
        // Of a start whose record was not looked into yet nothing can be said.
        for (epoch, finals) in dead.into_iter().filter(|(_, finals)| !finals.is_empty()) {
            let before = self.dead.entry(epoch).or_default();
            before.retain(|f| finals.iter().all(|g| g.line != f.line));
            before.extend(finals);
        }
        Some((upto, held))
    }

    /// What is held, for a start that learns what a dead one charged.
    pub(crate) fn holds(&mut self) -> &mut Holds {
        &mut self.holds
    }

    /// Is it known of all these lines of a dead start what it charged?
    pub(crate) fn knows(&self, epoch: u32, lines: impl Iterator<Item = LineKey>) -> bool {
        let mut lines = lines.map(|line| Of { epoch, line });
        lines.all(|of| self.holds.of(of).last.is_some())
    }
}

fn said(epoch: u32, frame: &Frame, journal: &mut Vec<Said>) {
    for (line, charge, expires_s) in &frame.held {
        journal.push(Said::Held(Of { epoch, line: *line }, *expires_s, *charge));
    }
    journal.extend(frame.billed.map(Said::Billed));
}

fn hear(holds: &mut Holds, said: &Said, now: Now) {
    match said {
        Said::Held(of, expires_s, charge) => holds.hold(*of, *expires_s, Money(*charge), now),
        Said::Billed(n) => drop(holds.billed(n.of, n.expires_s, Money(n.held), Money(n.charge))),
        Said::Lapsed(lapse) => holds.lapse(lapse),
    }
}
