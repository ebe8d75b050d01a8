//! What is done for a line without anyone asking for it: shared, renewed, given back, closed, forgotten.
//! Owns: nothing. Called by: the server, for lines of which something was heard, and for all of them once a second.
use super::{
    Server,
    fault::{Invariant, Violation},
    line::{Line, NONE, RECALLED, Stage, Sub},
    planted::Fault,
    share::{self, Told},
    terms::{self, SWEEP_NS},
};
use crate::{budget::messages::LineKey, units::MS};

impl Server {
    /// Looks after what was heard since the last turn, and after a part of all lines.
    pub(super) fn look_after(&mut self, now_ns: u64) {
        self.sweep(now_ns);
        // What is found while this goes on waits for the next turn.
        for _ in 0..self.due.len() {
            let Some(slot) = self.due.pop_front() else { break };
            self.table.line_mut(slot).due = false;
            self.serve(slot, now_ns);
        }
    }

    /// So many lines that all are visited once in [`SWEEP_NS`].
    fn sweep(&mut self, now_ns: u64) {
        let slots = self.table.slots() as u64;
        let elapsed = now_ns.saturating_sub(self.swept_ns);
        let n = if elapsed >= SWEEP_NS { slots } else { slots * elapsed / SWEEP_NS };
        if slots == 0 || elapsed >= SWEEP_NS {
            self.swept_ns = now_ns;
        } else {
            self.swept_ns += n * SWEEP_NS / slots;
        }
        for _ in 0..n {
            if u64::from(self.sweep_at) >= slots {
                self.sweep_at = 0;
                self.holding = std::mem::take(&mut self.gathered);
            }
            if self.table.is_line(self.sweep_at) {
                self.visit(self.sweep_at, now_ns);
            }
            self.sweep_at += 1;
        }
    }

    fn visit(&mut self, slot: u32, now_ns: u64) {
        let cores = self.cores.len();
        let line = self.table.line(slot);
        self.gathered.add(line, now_ns);
        match line.stage {
            Stage::Broken => {}
            Stage::Stopping => self.attend(slot),
            Stage::Resting => {
                // An answer under way may have been given before the window was over, and still name the line: taken for a
                // new one, what was spent of it would go home a second time.
                if self.outstanding.is_none() && !line.changed && !line.asking && self.is_over(line, now_ns) {
                    self.table.forget(slot);
                }
            }
            Stage::Open => {
                let ask = line.is_to_be_renewed(now_ns);
                let lacks = line.short > 0;
                if line.gives_back(cores, now_ns) {
                    self.give_back(slot, now_ns);
                }
                if ask {
                    self.ask_for(slot);
                }
                if lacks {
                    self.table.whole(slot).1.iter_mut().for_each(|sub| sub.mark(RECALLED, false));
                }
                let line = self.table.line(slot);
                if lacks || line.is_low(cores, now_ns) {
                    self.attend(slot);
                }
            }
        }
    }

    /// A line that rests is over when the account's next one has begun, or when no window is that old.
    fn is_over(&self, line: &Line, now_ns: u64) -> bool {
        let LineKey { account, period } = line.key;
        let newer = self.table.lines_of(account).map(|s| self.table.line(s));
        let mut begun = newer.filter(|l| l.key.period > period && l.from_ns <= now_ns);
        begun.next().is_some() || period.0.saturating_add(terms::WINDOW_MINUTES_MAX) < self.newest.0
    }

    fn serve(&mut self, slot: u32, now_ns: u64) {
        let line = self.table.line(slot);
        self.newest = self.newest.max(line.key.period);
        if !line.holds() {
            let line = line.key;
            return self.violate(Violation { invariant: Invariant::ServerEquation, line, core: None });
        }
        match line.stage {
            Stage::Open => self.serve_open(slot, now_ns),
            Stage::Stopping => self.serve_stopping(slot),
            Stage::Resting | Stage::Broken => {}
        }
    }

    fn serve_open(&mut self, slot: u32, now_ns: u64) {
        let cores = self.cores.len();
        let before = self.table.line(slot);
        let asked_for = before.short > 0 || before.block != NONE || before.free > 0;
        if !asked_for {
            return;
        }
        let planted = self.planted;
        let (line, subs) = self.table.whole_for_cores(slot);
        line.rate = subs.iter().map(|sub| sub.rate(now_ns)).fold(0, i64::saturating_add);
        line.heard = terms::tenths(now_ns);
        let out: i64 = subs.iter().map(Sub::out).sum();
        if out + line.ended != line.out {
            let line = line.key;
            return self.violate(Violation { invariant: Invariant::ServerEquation, line, core: None });
        }
        let queues = &mut self.cores;
        let totals = &mut self.totals;
        let mut tell = |sub: &mut Sub, core: usize, what: Told| {
            totals.recalls += u64::from(what == Told::Recalled);
            if !std::mem::replace(&mut sub.queued, true) {
                queues[core].queue.push_back(slot);
            }
        };
        if planted.has(Fault::ExpiredUnspent) && now_ns >= line.until_ns {
            for sub in subs.iter_mut() {
                let unspent = sub.free();
                sub.returned += unspent;
                line.out -= unspent;
                line.free += unspent;
            }
        }
        share::share(line, subs, now_ns, &mut tell);
        // While the granter may have more, nobody is bothered.
        let needy = line.short > 0 && line.tired > 0;
        share::recall(line, subs, needy, now_ns, &mut tell);
        let lost = std::mem::take(&mut line.lost);
        if line.is_low(cores, now_ns) && line.may_ask(now_ns) {
            // Or will be: a core has nothing for a bid, and bids come faster than asks are gathered.
            let gather_ms = (self.gather_ns / MS) as i64;
            let soon = |s: &Sub| {
                let lacks = s.want > s.granted && s.price > s.free();
                lacks && s.rate(now_ns).saturating_mul(gather_ms) / 1_000 >= s.price
            };
            self.urgent |= lost || subs.iter().any(soon);
            self.ask_for(slot);
        }
    }

    fn serve_stopping(&mut self, slot: u32) {
        self.stop_cores(slot);
        let awaits = self.awaits(slot);
        let line = self.table.line_mut(slot);
        let back = std::mem::take(&mut line.free);
        line.returned += back;
        if back > 0 || line.held_said() != line.held_told || line.holders == 0 && !awaits {
            self.ask_for(slot);
        }
    }

    /// Sends home what is more than the line is to hold; what cores have of that is asked back.
    fn give_back(&mut self, slot: u32, now_ns: u64) {
        let cores = self.cores.len();
        let line = self.table.line_mut(slot);
        let back = (line.unused() - line.target(cores, now_ns)).min(line.free);
        if back > 0 {
            line.free -= back;
            line.returned += back;
            self.ask_for(slot);
        }
        self.attend(slot);
    }
}

impl Line {
    /// Less than a third of what it should hold is left, or a core lacks something.
    pub(super) fn is_low(&self, cores: usize, now_ns: u64) -> bool {
        let target = i128::from(self.target(cores, now_ns));
        self.short > 0 || i128::from(self.unused()) * 10 < target * 3
    }

    /// The granter is not asked too often for what it does not have.
    fn may_ask(&self, now_ns: u64) -> bool {
        let pause = if self.tired == 0 { 0 } else { terms::EXHAUSTED_NS << (self.tired - 1) };
        now_ns >= self.asked_ns.saturating_add(pause)
    }

    /// Its lease ends soon and a bid may come, or nothing was heard of it for long and its window may be over.
    fn is_to_be_renewed(&self, now_ns: u64) -> bool {
        let ends_soon = self.told_ns < now_ns.saturating_add(terms::RENEW_NS);
        let pause = if self.is_seen(now_ns) && ends_soon { terms::RENEW_AGAIN_NS } else { terms::DORMANT_NS };
        ends_soon && now_ns >= self.asked_ns.saturating_add(pause)
    }

    /// More than twice of what it should hold, for some time.
    fn gives_back(&self, cores: usize, now_ns: u64) -> bool {
        let target = self.target(cores, now_ns);
        let more = self.unused() - target;
        more > target.saturating_add(2 * self.price.min(target))
            && now_ns >= self.asked_ns.saturating_add(terms::GIVE_BACK_NS)
    }
}
