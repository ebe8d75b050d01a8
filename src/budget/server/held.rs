//! Money that is charged when a notice comes: what a server is told of it, and what it waits for.
//! Owns: nothing of its own. Called by: the driver, for what was read of the record. Never: closes a line of which a notice may
//! still let something come home; believes that something lapsed which no core is known to have charged.
use super::{
    Server,
    line::{Line, Stage},
    planted::Fault,
};
use crate::{budget::messages::LineKey, units::Money};

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
        self.held_upto.get_or_insert_with(|| vec![0; self.cores.len()]);
    }

    /// What is held as of these frames of each core, of the lines that have changed.
    pub fn hold(&mut self, upto: &[u64], lines: &[Held]) {
        self.await_notices();
        if let Some(known) = &mut self.held_upto {
            for (known, upto) in known.iter_mut().zip(upto) {
                *known = (*known).max(*upto);
            }
        }
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
    }

    /// May something of this line still be held, or lapse?
    pub(super) fn awaits(&self, slot: u32) -> bool {
        if self.planted.has(Fault::HoldForgotten) {
            return false;
        }
        let line = self.table.line(slot);
        line.held > 0 || line.lapsing > line.lapsed || !self.is_held_known()
    }

    /// Is what is held known as far as what was charged?
    fn is_held_known(&self) -> bool {
        let Some(upto) = &self.held_upto else { return true };
        upto.iter().zip(&self.cores).all(|(upto, core)| *upto >= core.position)
    }

    /// Of a server that is told to stop: everything is home but what waits for notices, which the next start goes on with.
    pub(super) fn waits_for_notices_alone(&self) -> bool {
        let is_done = |line: &Line| match line.stage {
            Stage::Open => false,
            Stage::Stopping => {
                line.holders == 0
                    && line.free == 0
                    && !line.asking
                    && line.held.clamp(0, line.spent()) == line.held_told
            }
            Stage::Resting | Stage::Broken => true,
        };
        self.held_upto.is_some()
            && self.asking.is_empty()
            && (0..self.table.slots() as u32).all(|slot| !self.table.is_line(slot) || is_done(self.table.line(slot)))
    }
}
