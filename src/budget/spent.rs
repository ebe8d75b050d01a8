//! What frames say was spent: the sum that a start makes of a dead process's record.
//! Owns: the sums. Runs on: the main thread, at a start; `outcry audit`. Called by: `cores/money`. Never: guesses: a frame of
//! a newer release, or one that cannot be read, makes the sums incomplete.
use super::LineKey;
use crate::{
    auction::{Delivery, Record, delivery, record},
    record::{RecordError, frame::Frame},
};
use std::collections::BTreeMap;

/// Sums of a line, nano-units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Charged to winners.
    pub charged: i128,
    /// Given back, because their answer did not arrive.
    pub freed: i128,
}

/// Of each line, what the frames that were added say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Spent {
    /// By line.
    pub lines: BTreeMap<LineKey, Sums>,
}

impl Spent {
    /// Adds a frame; one that moves no money adds nothing.
    ///
    /// # Errors
    /// [`RecordError`]: it may have moved money, and cannot be read.
    pub fn add(&mut self, frame: &Frame<'_>) -> Result<(), RecordError> {
        match frame.header.kind {
            record::KIND => {
                for win in Record::decode(frame.payload())?.decision.wins.iter().filter(|w| w.account.is_some()) {
                    let line = LineKey { account: win.account, period: win.period };
                    self.lines.entry(line).or_default().charged += i128::from(win.charge.0);
                }
            }
            delivery::KIND => {
                for freed in Delivery::decode(frame.payload())?.freed {
                    let line = LineKey { account: freed.account, period: freed.period };
                    self.lines.entry(line).or_default().freed += i128::from(freed.amount.0);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
