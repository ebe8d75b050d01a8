//! What the threads of money tell others: notes for the record, figures for metrics, alarms for the log.
//! Owns: when each alarm was raised last. Runs on: the ledger's and the leases' threads, one each. Called by: them.
//! Never: waits longer than a page of metrics takes to be written.
//! Full: notes wait in a channel until control has carried them to flush.
use crate::control::ControlHandle;
use outcry::{
    budget::{
        AccountId,
        event::{Event, Level, Note, What},
    },
    record::money::MoneyFigures,
    units::Now,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc::Sender},
};

/// One invariant is told in the log no more often than this, nanoseconds.
const ALARM_NS: u64 = 60_000_000_000;

/// See the module.
pub struct Telling {
    level: Level,
    notes: Sender<Note>,
    handle: Arc<ControlHandle>,
    say: Box<dyn FnMut(&str) + Send>,
    /// By invariant: when it was told last, and how often it was found since.
    told: BTreeMap<&'static str, (u64, u64)>,
    /// Of what there is a note.
    noted: BTreeSet<(AccountId, &'static str)>,
}

impl Telling {
    /// For the thread that looks after this level's invariants.
    pub fn new(
        level: Level,
        notes: Sender<Note>,
        handle: Arc<ControlHandle>,
        say: impl FnMut(&str) + Send + 'static,
    ) -> Telling {
        let (told, noted) = (BTreeMap::new(), BTreeSet::new());
        Telling { level, notes, handle, say: Box::new(say), told, noted }
    }

    /// A line in the log.
    pub fn say(&mut self, line: &str) {
        (self.say)(line);
    }

    /// For the record.
    pub fn note(&mut self, note: Note) {
        // Control is gone when the process is about to be.
        let _ = self.notes.send(note);
    }

    /// For metrics.
    pub fn figures(&mut self, set: impl FnOnce(&mut MoneyFigures)) {
        self.handle.set_money(set);
    }

    /// An invariant does not hold: a line in the log, once a minute; a note, once for each account.
    pub fn alarm(&mut self, invariant: &'static str, account: Option<AccountId>, text: &str, now: Now) {
        let account = account.unwrap_or(AccountId::NONE);
        if self.noted.insert((account, invariant)) {
            let what = What::Stopped { account, level: self.level, invariant: invariant.to_owned() };
            self.note(Note::Event(Event { wall_ms: now.unix_ms(), what }));
        }
        let (last, since) = self.told.entry(invariant).or_insert((0, 0));
        if *last != 0 && now.boot_ns.saturating_sub(*last) < ALARM_NS {
            *since += 1;
            return;
        }
        let also = match std::mem::take(since) {
            0 => String::new(),
            n => format!(" (and {n} times more since it was last told)"),
        };
        *last = now.boot_ns.max(1);
        (self.say)(&format!("ALARM: {invariant}: {text}{also}"));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        mpsc::{Receiver, channel},
    };

    /// One whose lines and notes are kept.
    pub(crate) fn telling(level: Level) -> (Telling, Arc<Mutex<Vec<String>>>, Receiver<Note>) {
        let (notes, heard) = channel();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let say = move |line: &str| log.lock().unwrap().push(line.to_owned());
        (Telling::new(level, notes, ControlHandle::new(1, 1), say), lines, heard)
    }

    #[test]
    fn an_alarm_is_told_once_a_minute_and_noted_once_an_account() {
        let at = |s: u64| Now { boot_ns: s * 1_000_000_000, wall_offset_ns: 0 };
        let (mut telling, lines, notes) = telling(Level::Granter);
        for (invariant, account, s) in
            [("a", 1, 5), ("a", 1, 6), ("a", 2, 64), ("b", 1, 64), ("a", 1, 65), ("a", 2, 124), ("a", 2, 125)]
        {
            telling.alarm(invariant, Some(AccountId(account)), &format!("at {s}"), at(s));
        }
        telling.alarm("c", None, "nobody's", at(200));
        let want = [
            "ALARM: a: at 5",
            "ALARM: b: at 64",
            "ALARM: a: at 65 (and 2 times more since it was last told)",
            "ALARM: a: at 125 (and 1 times more since it was last told)",
            "ALARM: c: nobody's",
        ];
        assert_eq!(*lines.lock().unwrap(), want);
        let noted = notes.try_iter().map(|note| match note {
            Note::Event(Event { what: What::Stopped { account, invariant, .. }, .. }) => (account.0, invariant),
            other => panic!("{other:?}"),
        });
        let want = [(1, "a"), (2, "a"), (1, "b"), (0, "c")].map(|(id, of)| (id, of.to_owned()));
        assert_eq!(noted.collect::<Vec<_>>(), want);
    }
}
