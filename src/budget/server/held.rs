//! Money that is charged when a notice comes: what a server is told of it, and what it waits for.
//! Owns: nothing of its own. Called by: the driver, for what was read of the record. Never: closes a line of which a notice may
//! still let something come home; believes that something lapsed which no core is known to have charged.
use super::{
    Server,
    line::{Line, Stage},
    planted::Fault,
};
use crate::{budget::messages::LineKey, units::Money};

/// Whether what is held is known as far as what was charged: asked of many lines together, as cores write on meanwhile.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Waves {
    /// How many have passed.
    passed: u64,
    /// Positions of the cores when the next was sent.
    sent: Option<Vec<u64>>,
    /// Another is to follow it, for who asked after it was sent.
    wanted: bool,
    /// Up to which frame of each core what is held is known.
    upto: Vec<u64>,
}

impl Waves {
    /// The number of the wave that a line has to wait for, now that the cores stand at `positions`.
    fn next(&mut self, positions: impl Iterator<Item = u64>) -> u64 {
        if self.sent.is_some() {
            self.wanted = true;
            return self.passed + 2;
        }
        self.sent = Some(positions.collect());
        self.pass();
        if self.sent.is_some() { self.passed + 1 } else { self.passed }
    }

    fn pass(&mut self) {
        if self.sent.as_ref().is_some_and(|sent| sent.iter().zip(&self.upto).all(|(sent, upto)| upto >= sent)) {
            self.sent = None;
            self.passed += 1;
        }
    }
}

/// What the record says of a line; sums since it began, both as of frames that are durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Held {
    /// Which.
    pub line: LineKey,
    /// Charged, and not confirmed yet.
    pub held: Money,
    /// Come home.
    pub lapsed: Money,
}

impl Server {
    /// Wins may wait for notices: from now on no line is closed before it is known that none of its does.
    pub fn await_notices(&mut self) {
        let cores = self.cores.len();
        self.waves.get_or_insert_with(|| Waves { upto: vec![0; cores], ..Waves::default() });
    }

    /// What is held as of these frames of each core, of the lines that have changed.
    pub fn hold(&mut self, upto: &[u64], lines: &[Held]) {
        self.await_notices();
        let reused = self.planted.has(Fault::LapseReused);
        for said in lines {
            let Some(slot) = self.table.find(said.line) else { continue };
            let line = self.table.line_mut(slot);
            if line.stage == Stage::Broken {
                continue;
            }
            line.held = said.held.0;
            line.lapsing = line.lapsing.max(said.lapsed.0);
            // What an open line holds is said with its next renewal.
            let before = line.returned;
            let (lapsed, stops) = (line.lapse(), line.stage == Stage::Stopping);
            if reused {
                line.free += line.returned - before;
                line.returned = before;
            }
            if lapsed {
                self.ask_for(slot);
            }
            if stops {
                self.attend(slot);
            }
        }
        if let Some(waves) = &mut self.waves {
            for (known, upto) in waves.upto.iter_mut().zip(upto) {
                *known = (*known).max(*upto);
            }
            waves.pass();
            if waves.sent.is_none() && std::mem::take(&mut waves.wanted) {
                waves.next(self.cores.iter().map(|core| core.position));
            }
        }
    }

    /// May something of this line, which no core has anything of, still be held, or lapse?
    pub(super) fn awaits(&mut self, slot: u32) -> bool {
        if self.planted.has(Fault::HoldForgotten) {
            return false;
        }
        let line = self.table.line_mut(slot);
        let Some(waves) = &mut self.waves else { return false };
        if line.holders > 0 {
            return true;
        }
        if line.wave == 0 {
            line.wave = waves.next(self.cores.iter().map(|core| core.position));
        }
        line.wave > waves.passed || line.waits()
    }

    /// Of a server that is told to stop: everything is home but what waits for notices, which the next start goes on with.
    pub(super) fn waits_for_notices_alone(&self) -> bool {
        let Some(waves) = &self.waves else { return false };
        let is_done = |line: &Line| match line.stage {
            Stage::Open => false,
            Stage::Stopping => {
                let home = line.holders == 0 && line.free == 0 && !line.asking && line.held_said() == line.held_told;
                home && line.wave != 0 && line.wave <= waves.passed && line.waits()
            }
            Stage::Resting | Stage::Broken => true,
        };
        self.asking.is_empty()
            && (0..self.table.slots() as u32).all(|slot| !self.table.is_line(slot) || is_done(self.table.line(slot)))
    }
}

impl Line {
    /// Something of it is held, or has lapsed and is not home.
    fn waits(&self) -> bool {
        self.held > 0 || self.lapsing > self.lapsed
    }

    /// What the granter is to be told of what is held.
    pub(super) fn held_said(&self) -> i64 {
        self.held.clamp(0, self.spent())
    }
}
