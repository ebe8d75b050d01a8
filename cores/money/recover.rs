//! The money of starts that are dead comes home: what they spent since their last cut is counted from the journal.
//! Owns: nothing. Runs on: the main thread, at a start, when everything that was left is in the journal. Called by: `boot`.
//! Never: takes a record for complete that lacks a frame; money of which nothing proves that it was not spent is spent.
use super::ledger::{Ledger, LedgerError};
use crate::{
    journal::{
        dir::Dir,
        since::{self, Wanted},
    },
    notices::holding,
    planted::{Fault, planted},
};
use outcry::{
    budget::{
        LineKey,
        granter::{
            Line, LineId,
            settle::{Final, RecoverFrom, Settled},
        },
        spent::Spent,
    },
    journal::positions::Positions,
    notice::holds::{Holds, Of, Sums},
    record::frame::WRITER_CONTROL,
    units::Money,
};
use std::{collections::BTreeMap, path::Path};

/// What is known of the record of dead starts.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The journal's directory.
    pub dir: &'a Path,
    /// The last frame of each writer that is durable now.
    pub positions: &'a Positions,
    /// The start whose end was looked into, and whether its record lacks nothing. A start settles those before it or does not
    /// begin, so of any other there is no marker any more: it was lost, or the ledger was put back to an older state.
    pub last: Option<(u32, bool)>,
}

/// Settles every start of `node` before `epoch` whose money is not home. What waits for notices, which `holds` knows, stays out;
/// `keep` makes durable what is learnt of it.
///
/// # Errors
/// The ledger's store, or `keep`. A journal that cannot be read is none: everything counts as spent.
pub fn recover<E: From<LedgerError>>(
    ledger: &mut Ledger,
    record: Option<Record<'_>>,
    (holds, keep): (&mut Holds, impl FnOnce(&Holds) -> Result<(), E>),
    (node, epoch): (u32, u32),
    say: &mut dyn FnMut(&str),
) -> Result<(), E> {
    let mut all = Vec::new();
    for (holder, from) in ledger.unsettled(node, epoch) {
        let line = |key: &LineKey| ledger.granter().line_of(LineId { key: *key, holder }).unwrap_or_default();
        let read = match (&record, known(holds, holder.epoch, &from, &line)) {
            (_, Some(finals)) => Ok(finals),
            (None, None) => Err("no records are kept".to_owned()),
            (Some(record), None) => finals(record, (node, holder.epoch), &from, holds, &line),
        };
        all.push((holder, read));
    }
    // Before the ledger goes on from it: a start that comes after a death in between has nothing else to know it from.
    if !all.is_empty() {
        keep(holds)?;
    }
    for (holder, read) in all {
        let (finals, why) = match read {
            Ok(finals) => (finals, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let Settled { lines, returned, spent, held, forfeit } = ledger.settle(holder, &finals, why.is_none())?;
        if let Some(why) = why {
            say(&format!(
                "WARNING: what epoch {} spent cannot be proved ({why}): {forfeit} in {lines} leases counts as spent",
                holder.epoch
            ));
        } else if lines > 0 {
            let waits = if held > Money(0) { format!(", {held} waits for notices") } else { String::new() };
            say(&format!("the leases of epoch {} are settled: {spent} spent, {returned} back{waits}", holder.epoch));
        }
    }
    Ok(())
}

/// A line of a dead start: what it charged and freed, less what has lapsed of that, and what may still lapse.
pub fn last(line: LineKey, charged: Money, freed: Money, sums: &Sums) -> Final {
    let held = holding::out(sums);
    // To the ledger what is held is not charged yet.
    Final { line, charged, freed: Money(freed.0 + sums.lapsed.0 + held.0), held }
}

/// The same, of one that a start has looked into.
pub fn line_of_dead(of: Of, sums: &Sums) -> Option<Final> {
    sums.last.map(|(charged, freed)| last(of.line, charged, freed, sums))
}

/// What an earlier start found out of all open lines, and the record says no more. Of a start that was settled and of which
/// nothing is known what is out is spent: what was held for it has been lost with the checkpoint.
fn known(holds: &Holds, epoch: u32, from: &RecoverFrom, line: &impl Fn(&LineKey) -> Line) -> Option<Vec<Final>> {
    let known = |key: &LineKey| {
        let of = Of { epoch, line: *key };
        line_of_dead(of, &holds.of(of)).or_else(|| {
            let Line { granted, returned, charged, .. } = line(key);
            let freed = Money((charged.0 - (granted.0 - returned.0)).max(0));
            let charged = Money(freed.0 + granted.0 - returned.0);
            from.settled.then_some(Final { line: *key, charged, freed, held: Money(0) })
        })
    };
    if from.lines.is_empty() { None } else { from.lines.iter().map(|(key, ..)| known(key)).collect() }
}

/// The sums of all lines of a start, or why they are not known.
fn finals(
    record: &Record<'_>,
    (node, epoch): (u32, u32),
    from: &RecoverFrom,
    holds: &mut Holds,
    line: &impl Fn(&LineKey) -> Line,
) -> Result<Vec<Final>, String> {
    match record.last {
        Some((last, true)) if last == epoch => {}
        Some((last, false)) if last == epoch => return Err("its record is not complete".to_owned()),
        // Without its marker the journal may lack an end that nobody misses.
        _ => return Err("nothing tells how it ended".to_owned()),
    }
    let cores = record.positions.iter().filter(|((of, writer), _)| *of == epoch && *writer < WRITER_CONTROL);
    let wanted: BTreeMap<_, _> = cores
        .map(|((_, core), upto)| {
            let after = from.frames.get(usize::from(core)).copied().unwrap_or(0);
            ((epoch, core), Wanted { after, upto })
        })
        .collect();
    // What a cut has seen was published; if the journal does not have it, it was lost.
    for (core, after) in from.frames.iter().enumerate() {
        let upto = wanted.get(&(epoch, core as u16)).map_or(0, |w| w.upto);
        if *after > upto {
            return Err(format!("core {core} had written {after} frames, and {upto} are in the journal"));
        }
    }
    let (mut spent, mut unread) = (Spent::default(), None);
    let read = since::read(&mut Dir::new(record.dir), node, &wanted, &mut |_, frame| {
        if planted(Fault::SettledUnread) {
            return;
        }
        if let Err(why) = spent.add(frame) {
            unread.get_or_insert_with(|| format!("frame {} of core {}: {why}", frame.header.seq, frame.header.writer));
        }
    });
    let missing = read.map_err(|e| format!("{}: {e}", record.dir.display()))?.missing;
    if let Some(why) = missing.map(|m| m.to_string()).or(unread) {
        return Err(why);
    }
    let mut sums = spent.lines;
    for (line, charged, freed) in &from.lines {
        let sum = sums.entry(*line).or_default();
        sum.charged += i128::from(charged.0);
        sum.freed += i128::from(freed.0);
    }
    let money = |sum: i128| i64::try_from(sum).map(Money).map_err(|_| "a sum that no budget could be".to_owned());
    sums.into_iter()
        .map(|(key, sum)| {
            let (charged, freed, of) = (money(sum.charged)?, money(sum.freed)?, Of { epoch, line: key });
            holds.ended(of, charged, freed);
            let mut sums = holds.of(of);
            if !holds.knows(of) {
                // What had lapsed of it is not known any more, but as far as it had gone home: that was not spent.
                let Line { granted, returned, .. } = line(&key);
                let lapsed = returned.0 - (granted.0 - (charged.0 - freed.0));
                sums.lapsed = Money(lapsed.clamp(0, (charged.0 - freed.0).max(0)));
            }
            Ok(last(key, charged, freed, &sums))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty journal proves only of the start whose end was looked into, and was found whole, that nothing was spent.
    #[test]
    fn a_record_proves_nothing_unless_its_end_is_known() {
        let dir = std::env::temp_dir().join(format!("outcry-recover-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let positions = Positions::default();
        let of = |last| {
            let record = Record { dir: &dir, positions: &positions, last };
            finals(&record, (1, 7), &RecoverFrom::default(), &mut Holds::new(), &|_| Line::default())
        };
        assert_eq!(of(Some((7, true))), Ok(vec![]));
        for last in [None, Some((7, false)), Some((8, true)), Some((6, true))] {
            assert!(of(last).is_err(), "{last:?}");
        }
        std::fs::remove_dir_all(&dir).expect("it is empty");
    }
}
