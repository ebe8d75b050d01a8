//! How the money of dead holders comes home: from their record, or not at all.
//! Owns: what a record proves. Called by: a machine's start after a crash, an operator. Never: believes a record that is not
//! complete; frees anything because time has passed.
use super::{End, Granter, HolderId, Line, LineId, check::Violation, planted::Fault, rows::HolderState};
use crate::{budget::LineKey, units::Money};
use std::collections::BTreeMap;

/// What the record of a dead holder says of a line; sums since the line began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Final {
    /// Which.
    pub line: LineKey,
    /// Charged: the last cut's and that of all frames after it.
    pub charged: Money,
    /// Freed, likewise.
    pub freed: Money,
    /// Reserved for notices that may still come: stays out until the record is read again without it.
    pub held: Money,
}

/// What a settlement did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Settled {
    /// Lines that were open before.
    pub lines: u32,
    /// Came back to its limits.
    pub returned: Money,
    /// Proven to have been spent.
    pub spent: Money,
    /// Stays out for notices.
    pub held: Money,
    /// Counts as spent because nothing proves otherwise.
    pub forfeit: Money,
}

/// Where a recovery begins to read a dead holder's record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoverFrom {
    /// Number of the last frame of each core that the sums contain; empty: none.
    pub frames: Vec<u64>,
    /// Its open lines: charged, freed.
    pub lines: Vec<(LineKey, Money, Money)>,
    /// It was settled before, and these wait for notices.
    pub settled: bool,
}

impl Granter {
    /// Starts of a machine before `epoch` that have open lines, oldest first.
    pub fn unsettled(&self, node: u32, epoch: u32) -> Vec<u32> {
        let before = HolderId { node, epoch: 0 }..HolderId { node, epoch };
        let open = |id: &HolderId| self.books.lines_of(*id).any(|(_, line)| line.end == End::Open);
        self.books.holders.range(before).filter(|(id, h)| h.lines > 0 && open(id)).map(|(id, _)| id.epoch).collect()
    }

    /// What is known of a holder as of its last cut.
    pub fn recover_from(&self, holder: HolderId) -> RecoverFrom {
        let row = self.books.holders.get(&holder).map(|h| &h.row);
        let frames = row.map_or(vec![], |row| row.frames.clone());
        let settled = row.is_some_and(|row| row.state == HolderState::Settled);
        let open = self.books.lines_of(holder).filter(|(_, line)| line.end == End::Open);
        RecoverFrom { frames, lines: open.map(|(id, line)| (id.key, line.charged, line.freed)).collect(), settled }
    }

    /// Closes all open lines of a holder that is dead and never heard again.
    ///
    /// `complete`: `finals` are all that its record says, and the record lacks nothing; a line that is not in them was not
    /// touched since its cut. Otherwise its lines are spent in full. Again is harmless: what was settled stays so, but for
    /// lines that hold something for notices, which go on as `finals` say.
    pub fn settle(&mut self, holder: HolderId, finals: &[Final], complete: bool) -> Settled {
        let open: Vec<(LineId, Line)> =
            self.books.lines_of(holder).filter(|(_, l)| l.end == End::Open).map(|(id, l)| (id, *l)).collect();
        let again = self.books.holders.get(&holder).is_some_and(|h| h.row.state == HolderState::Settled);
        if !again {
            self.books.holder_mut(holder).row.state = HolderState::Settled;
        }
        let finals: BTreeMap<LineKey, &Final> = finals.iter().map(|f| (f.line, f)).collect();
        let mut done = Settled::default();
        for (id, line) in open {
            // What waits for notices stays as it is until something is said of it.
            if again && complete && line.held > Money(0) && !finals.contains_key(&id.key) {
                continue;
            }
            let known = Final { line: id.key, charged: line.charged, freed: line.freed, held: line.held };
            let last = finals.get(&id.key).map_or(known, |f| **f);
            let to = match proven(&line, &last) {
                _ if !complete => forfeit(&line),
                Some(to) if self.books.planted.has(Fault::HoldForgotten) => {
                    Line { returned: Money(to.returned.0 + to.held.0), held: Money(0), end: End::Proven, ..to }
                }
                Some(to) => to,
                None => {
                    let Final { charged, freed, held, .. } = last;
                    self.violated(Violation::Record { id, charged, freed, held, out: line.out() });
                    forfeit(&line)
                }
            };
            if let Err(violation) = self.books.change(id, to) {
                self.violated(violation);
                continue;
            }
            done.lines += 1;
            done.returned.0 += to.returned.0 - line.returned.0;
            done.held.0 += to.held.0;
            match to.end {
                End::Forfeit => done.forfeit.0 += to.out().0,
                _ => done.spent.0 += to.out().0 - to.held.0,
            }
        }
        done
    }
}

/// The line as a complete record leaves it; `None` if the two contradict each other.
fn proven(line: &Line, last: &Final) -> Option<Line> {
    let Final { charged, freed, held, .. } = *last;
    let rises = charged >= line.charged && freed >= line.freed && freed <= charged && held.0 >= 0;
    let stays = (charged.0 - freed.0).checked_add(held.0)?;
    let returned = Money(line.granted.0 - stays);
    let to = if held == Money(0) {
        Line { returned, held, charged, freed, end: End::Proven, ..*line }
    } else {
        // The record is read again, from the same cut: its sums stay those of that.
        Line { returned, held, ..*line }
    };
    // What it said it returned it could not spend.
    (rises && returned >= line.returned).then_some(to)
}

fn forfeit(line: &Line) -> Line {
    Line { held: Money(0), end: End::Forfeit, ..*line }
}
