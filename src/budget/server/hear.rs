//! What cores say: statements of a tick, and accounts they know no window of.
//! Owns: nothing of its own. Called by: the driver, for what it takes out of a core's ring. Never: believes half a statement.
use super::{
    Server,
    fault::{self, Before, Invariant, Violation},
    first::FirstAsked,
    line::{RECALLED, STAGED, Stage, Sub, SubEnd},
    planted::Fault,
    terms,
};
use crate::{
    budget::{
        AccountId,
        messages::{CoreLine, CoreReport, LineKey},
    },
    units::Money,
};

impl Server {
    /// Takes what core `core` says, in the order in which it said it.
    pub fn from_core(&mut self, core: usize, report: CoreReport, now_ns: u64) {
        match report {
            CoreReport::Line(said) => self.stage_line(core, said),
            CoreReport::Unknown { account, price } => self.unknown(core, account, price, now_ns),
            CoreReport::Short { line, want, price } => self.lacking(core, line, want, price, now_ns),
            CoreReport::End { frame_seq } => self.end_statement(core, frame_seq, now_ns),
            CoreReport::Bye => {
                self.cores[core].left = true;
                if self.is_left() {
                    self.all_left();
                }
            }
        }
    }

    /// Keeps what is said of a line until the statement ends.
    fn stage_line(&mut self, core: usize, said: CoreLine) {
        let slot = self.table.find(said.line);
        let sub = slot.and_then(|slot| self.table.sub(slot, core)).map(|(_, sub)| sub).filter(|sub| sub.held);
        match (slot, sub) {
            (Some(slot), Some(sub)) if !sub.marked(STAGED) => {
                sub.mark(STAGED, true);
                self.cores[core].staged.push((slot, said));
            }
            // Of what it has not, a core may say that it has nothing.
            (_, None) if said.granted == Money(0) && said.charged == Money(0) && said.returned == Money(0) => {}
            _ => self.violate(Violation { invariant: Invariant::CoreStatement, line: said.line, core: Some(core) }),
        }
    }

    /// The statement is whole: all of it counts, as of this frame.
    fn end_statement(&mut self, core: usize, frame_seq: u64, now_ns: u64) {
        let mut staged = std::mem::take(&mut self.cores[core].staged);
        for (slot, said) in staged.drain(..) {
            self.hear_line(core, slot, &said, now_ns);
        }
        let state = &mut self.cores[core];
        state.staged = staged;
        state.position = state.position.max(frame_seq);
        self.totals.statements += 1;
    }

    fn hear_line(&mut self, core: usize, slot: u32, said: &CoreLine, now_ns: u64) {
        let planted = self.planted;
        let Some((line, sub)) = self.table.sub(slot, core) else { return };
        sub.mark(STAGED, false);
        if line.stage == Stage::Broken {
            return;
        }
        let stopped = sub.end == SubEnd::Told;
        let Sub { granted, returned, charged, freed, .. } = *sub;
        let before = Before { granted, returned, charged, freed, stopped };
        if let Err(invariant) = fault::compare(&before, said) {
            return self.violate(Violation { invariant, line: said.line, core: Some(core) });
        }
        let (spent, back) = (said.charged.0 - charged, said.returned.0 - returned);
        let unspent = if planted.has(Fault::DeliveryIgnored) { 0 } else { said.freed.0 - freed };
        line.charged += spent;
        line.freed += unspent;
        line.out -= back;
        line.free += back;
        let lapsed = line.lapse();
        let price = fault::amount(said.price).unwrap_or(0);
        if price > 0 {
            // Fast up: with less, a bid cannot be paid; slowly down.
            line.price = if price > line.price { price } else { line.price - (line.price - price) / 4 };
        }
        let want = fault::amount(said.want).unwrap_or(0);
        if spent > 0 || price > 0 {
            line.seen_ns = now_ns;
        }
        let now_ds = terms::tenths(now_ns);
        let rate = match sub.heard {
            0 => spent,
            heard => terms::rate(sub.rate, spent, now_ds.saturating_sub(heard)),
        };
        // Corrected when cores are looked at; between, what one spends more or less is.
        line.rate = line.rate.saturating_add(rate.saturating_sub(sub.rate)).max(0);
        let (charged, freed, returned) = (said.charged.0, said.freed.0, said.returned.0);
        *sub = Sub { charged, freed, returned, want, price, rate, heard: now_ds, ..*sub };
        sub.mark(RECALLED, false);
        if said.last {
            line.ended += sub.out();
            line.holders -= 1;
            *sub = Sub::default();
        }
        if spent != 0 || unspent != 0 {
            self.change(slot);
        }
        if lapsed {
            self.ask_for(slot);
        }
        let (line, sub) = match self.table.sub(slot, core) {
            Some((line, sub)) => (&*line, &*sub),
            None => return,
        };
        // It has what it wants, and what it gave back is not lacking elsewhere: what others hold stays as it is, for as long as
        // the line's rate holds without being summed up.
        let content = sub.want <= sub.granted && (line.free == 0 || sub.free() >= line.price) && back == 0;
        let summed = i64::from(now_ds.saturating_sub(line.heard)) < terms::RATE_DS;
        if content && summed && line.stage == Stage::Open && line.holds() && !line.is_low(self.cores.len(), now_ns) {
            return;
        }
        self.attend(slot);
    }

    /// A core cannot pay a bid from a line, which it says before its statement.
    fn lacking(&mut self, core: usize, key: LineKey, want: Money, price: Money, now_ns: u64) {
        let usable = self.table.find(key).filter(|slot| self.table.line(*slot).stage == Stage::Open);
        let (Some(slot), Some(want), Some(price)) = (usable, fault::amount(want), fault::amount(price)) else {
            return self.unknown(core, key.account, price, now_ns);
        };
        let (line, subs) = self.table.whole_for_cores(slot);
        let sub = &mut subs[core];
        (sub.want, sub.price) = (want, price);
        line.price = line.price.max(price);
        line.seen_ns = now_ns;
        line.lost = true;
        self.attend(slot);
    }

    /// A core knows no window of an account, and has a bid of this price.
    fn unknown(&mut self, core: usize, account: AccountId, price: Money, now_ns: u64) {
        let known = self.table.account(account);
        let price = fault::amount(price).unwrap_or(0);
        if price == 0 || known.blocked || self.draining || self.fenced || account == AccountId::NONE {
            return;
        }
        self.totals.unknown += 1;
        let begun = |slot: &u32| {
            let line = self.table.line(*slot);
            line.stage == Stage::Open && line.from_ns <= now_ns
        };
        let runs = self.table.lines_of(account).find(begun);
        if let Some(slot) = runs {
            return self.touch(slot, core, price, now_ns);
        }
        if terms::tenths(now_ns) < known.quiet_ds {
            return;
        }
        let resting = self.table.lines_of(account).find(|s| self.table.line(*s).stage == Stage::Resting);
        match resting {
            // The granter wants to hear of a line that it knows, before it is asked which window runs.
            Some(slot) if !known.line_refused => {
                let (line, subs) = self.table.whole_for_cores(slot);
                (subs[core].want, subs[core].price) = (price, price);
                line.short = line.short.max(price);
                line.price = line.price.max(price);
                self.ask_for(slot);
            }
            _ => {
                let has_room = self.table.account_mut(account).is_some();
                match self.first.entry(account, self.table.len()).filter(|_| has_room) {
                    Some(first) => first.also(core, price),
                    None => self.totals.dropped_first += 1,
                }
            }
        }
    }

    /// A bid of this price came on a line that the core did not know, or not any more.
    pub(super) fn touch(&mut self, slot: u32, core: usize, price: i64, now_ns: u64) {
        let (line, subs) = self.table.whole_for_cores(slot);
        let sub = &mut subs[core];
        if sub.end == SubEnd::None {
            sub.want = sub.want.max(sub.granted + (price - sub.free()).max(0));
            sub.price = sub.price.max(price);
        }
        line.price = if line.price == 0 { price } else { line.price };
        line.seen_ns = now_ns;
        line.lost = true;
        // It may have missed what it was given.
        if sub.granted > 0 {
            self.tell(slot, core);
        }
        self.attend(slot);
    }

    /// Who asked for this account gets of the line that came.
    pub(super) fn touch_all(&mut self, slot: u32, first: &FirstAsked, now_ns: u64) {
        for core in 0..self.cores.len() {
            if first.by(core) {
                self.touch(slot, core, first.price, now_ns);
            }
        }
    }
}
