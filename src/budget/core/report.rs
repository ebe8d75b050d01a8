//! What a core tells its server: whole statements at a tick, and what cannot wait.
//! Owns: nothing of its own. Runs on: each bidder core. Called by: the bidder's turn. Never: tells half a statement.
//! Full: a statement that does not fit waits, and its lines with it.
use super::{
    CoreLedger, DELIVERED,
    line::Line,
    moment::Moment,
    sizing,
    slot::{Head, LONG_AGO, Slot},
};
use crate::{
    budget::{CoreLine, CoreReport, LineKey},
    limits,
    units::Money,
};

/// The ring to the server, as the ledger sees it.
pub trait Sink {
    /// So many reports can be put without fail.
    fn room(&self) -> usize;
    /// Takes one.
    fn put(&mut self, report: CoreReport);
}

impl Sink for Vec<CoreReport> {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn put(&mut self, report: CoreReport) {
        self.push(report);
    }
}

/// What came of a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// All there was to tell, so many lines, with its end.
    Statement(usize),
    /// Nothing, as it had not fitted; the next tick tells it.
    NoRoom,
}

/// The server is reminded of a line that ends so soon, if bids on it were seen lately: else it would run out unasked.
const REMIND: u32 = Moment::units(10_000_000_000);
/// Lately.
const SEEN: u32 = Moment::units(600_000_000_000);
impl CoreLedger {
    /// Tells what bids could not be paid since the last call, as far as there is room. Without sums, so at any moment.
    pub fn urgent(&mut self, out: &mut impl Sink) {
        let mut room = out.room();
        while room > 0 {
            let Some(slot) = self.urgent.pop() else { return };
            room -= 1;
            let head = &mut self.directory.table[slot as usize].head;
            head.urgent = false;
            let (price, account) = (head.price, self.directory.account(slot));
            match self.current(slot) {
                Some(nth) => {
                    let line = &self.directory.table[slot as usize].lines[nth];
                    let want = want(line, &self.use_of(slot));
                    out.put(CoreReport::Short { line: LineKey { account, period: line.period }, want, price });
                }
                None => out.put(CoreReport::Unknown { account, price }),
            }
        }
    }

    /// Gives back what is not needed, and tells every line that changed since the tick before, then the end: all or nothing.
    /// `frame_seq` is the number of the last published frame; all that was charged and freed so far is in frames up to it.
    pub fn tick(&mut self, now_ns: u64, frame_seq: u64, out: &mut impl Sink) -> Told {
        self.turn(now_ns);
        self.sweep();
        if out.room() < 2 * self.dirty.len() + self.strangers.len() + 1 {
            self.figures.ticks_without_room += 1;
            return Told::NoRoom;
        }
        let (mut lines, mut kept) = (0, 0);
        for i in 0..self.dirty.len() {
            let slot = self.dirty[i];
            lines += self.tell(slot, out);
            // A charge must find its line on the list, however full that is by then.
            let stays = self.directory.table[slot as usize].lines.iter().any(|l| l.reserved != Money(0));
            self.directory.table[slot as usize].head.dirty = stays;
            if stays {
                self.dirty[kept] = slot;
                kept += 1;
            }
        }
        self.dirty.truncate(kept);
        for (line, granted) in self.strangers.drain(..) {
            out.put(CoreReport::Line(CoreLine { line, granted, returned: granted, last: true, ..CoreLine::default() }));
            lines += 1;
        }
        out.put(CoreReport::End { frame_seq });
        Told::Statement(lines)
    }

    pub(super) fn use_of(&self, slot: u32) -> sizing::Use {
        let head = &self.directory.table[slot as usize].head;
        let idle = head.charged_at.age(self.now).min(head.asked_at.age(self.now));
        sizing::Use { rate: head.rate, price: head.price, idle }
    }

    /// Tells the lines of an account that have changed, when what is not needed has been given back.
    fn tell(&mut self, slot: u32, out: &mut impl Sink) -> usize {
        let (u, broken) = (self.use_of(slot), self.directory.table[slot as usize].head.broken);
        let mut told = 0;
        for nth in 0..2 {
            let give = self.gives(slot, nth);
            let Slot { lines, named, .. } = &mut self.directory.table[slot as usize];
            let line = &mut lines[nth];
            if !line.is_there() {
                continue;
            }
            let key = LineKey { account: named.account, period: line.period };
            line.state.recall = false;
            if give > Money(0) {
                let done = line.give_back(give);
                self.settled(slot, key, done);
            }
            let (now, charged_at) = (self.now, self.directory.table[slot as usize].head.charged_at);
            let line = &mut self.directory.table[slot as usize].lines[nth];
            let last = !broken && is_forgotten(line, charged_at, now);
            if !line.state.changed && !last {
                continue;
            }
            line.state.changed = false;
            let wants = line.usable(now) && !line.stops() && !broken && sizing::is_low(line.free, &u);
            let want = if wants { want(line, &u) } else { line.granted };
            let Line { granted, charged, freed, returned, .. } = *line;
            let price = self.directory.table[slot as usize].head.price;
            out.put(CoreReport::Line(CoreLine { line: key, granted, charged, freed, returned, want, price, last }));
            told += 1;
            if want > granted {
                let head = &mut self.directory.table[slot as usize].head;
                (head.asked, head.asked_at) = (true, now);
            }
            if last {
                // What stays says which was the last line here, so that an old grant is known.
                self.directory.table[slot as usize].lines[nth].forget();
            }
        }
        told
    }

    /// How much of a line is to be given back now.
    fn gives(&self, slot: u32, nth: usize) -> Money {
        let Slot { head, lines, .. } = &self.directory.table[slot as usize];
        let line = &lines[nth];
        if !line.is_there() || head.broken {
            return Money(0);
        }
        let over = !line.until.after(self.now);
        let keep = if over || line.stops() || !self.directory.is_listed(slot) {
            Money(0)
        } else if line.from.after(self.now) {
            if line.state.recall { Money(0) } else { line.free }
        } else {
            sizing::keep(line.free, &self.use_of(slot), line.state.recall)
        };
        Money(line.free.0 - keep.0)
    }

    /// Looks at some accounts, in turn, of which nothing was heard: what is idle, over, or about to end unasked is noted.
    fn sweep(&mut self) {
        let slots = self.directory.top();
        for _ in 0..limits::BUDGET_SWEEP.min(slots) {
            let slot = self.swept as u32;
            self.swept = (self.swept + 1) % slots;
            let now = self.now;
            let head = &mut self.directory.table[slot as usize].head;
            for at in [&mut head.charged_at, &mut head.seen_at, &mut head.asked_at] {
                if at.after(now) || at.age(now) > LONG_AGO {
                    *at = now.before(LONG_AGO);
                }
            }
            let head = *head;
            let lines = &mut self.directory.table[slot as usize].lines;
            for line in lines.iter_mut() {
                let ends = line.usable(now) && !line.until.before(REMIND).after(now);
                line.state.changed |= ends && !line.stops() && head.seen_at.age(now) < SEEN;
            }
            let lines = *lines;
            if lines.iter().all(|l| !l.is_there()) {
                if !head.dirty && !head.urgent && self.directory.release(slot) {
                    self.directory.table[slot as usize].head = Head::new(now);
                    self.directory.table[slot as usize].lines = Default::default();
                }
                continue;
            }
            let forgotten = |l: &Line| !head.broken && is_forgotten(l, head.charged_at, now);
            let acts = (0..2).any(|n| lines[n].state.changed || self.gives(slot, n) > Money(0) || forgotten(&lines[n]));
            if acts && !self.note(slot) {
                // There is no room for more; the next sweep begins here.
                self.swept = slot as usize;
                return;
            }
        }
    }
}

/// Told to stop, and nothing can change it any more: neither a reservation nor a delivery that fails.
fn is_forgotten(line: &Line, charged_at: Moment, now: Moment) -> bool {
    let quiet = line.charged == line.freed
        || charged_at.age(now) >= DELIVERED
        || !line.until.after(now) && line.until.age(now) >= DELIVERED;
    line.is_there() && line.stops() && line.reserved == Money(0) && line.free == Money(0) && quiet
}

/// What it would like to have been granted in all.
fn want(line: &Line, u: &sizing::Use) -> Money {
    let more = sizing::target(u).minus(line.free).unwrap_or_default().max(Money(0));
    line.granted.plus(more).unwrap_or(line.granted)
}
