//! What a server asks its granter for, and what it does with the answers.
//! Owns: the ask that is under way. Called by: the driver. Never: changes an ask that was sent, or hears an answer twice.
use super::{
    Server,
    fault::{self, Invariant, Violation},
    line::{Line, RECALLED, Stage, SubEnd},
    planted::Fault,
    terms::{self, CUT_NS, RESEND_NS},
};
use crate::{
    budget::messages::{Ask, AskLine, CoreGrant, Cut, FirstTouch, Granted, Reply},
    limits,
    units::{MS, Money},
};

/// An ask that is not answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Outstanding {
    pub ask: Ask,
    /// When it was sent first: what is granted may be used for so long after that.
    pub first_ns: u64,
    /// When it was sent last.
    pub sent_ns: u64,
}

impl Server {
    /// The ask that is to be sent now, if any: a new one, or again the one that was not answered in time. Call it once in
    /// every turn of the driver; it is here that lines are looked after.
    pub fn outgoing(&mut self, now_ns: u64) -> Option<&Ask> {
        if self.fenced {
            return None;
        }
        self.look_after(now_ns);
        match &mut self.outstanding {
            Some(out) if now_ns < out.sent_ns.saturating_add(RESEND_NS) => return None,
            Some(out) => {
                out.sent_ns = now_ns;
                self.totals.resent += 1;
            }
            None => {
                let ask = self.next_ask(now_ns)?;
                self.totals.asks += 1;
                self.totals.asked_lines += ask.lines.len() as u64;
                self.outstanding = Some(Outstanding { ask, first_ns: now_ns, sent_ns: now_ns });
            }
        }
        self.outstanding.as_ref().map(|out| &out.ask)
    }

    /// All that is to be said; `None`: nothing.
    fn next_ask(&mut self, now_ns: u64) -> Option<Ask> {
        let waits = now_ns < self.sent_ns.saturating_add(self.gather_ns) && self.asking.len() < limits::ASK_LINES_MAX;
        if waits && !self.urgent && !self.cut_told && !self.draining && self.first.unsent().next().is_none() {
            return None;
        }
        let mut lines = Vec::new();
        while lines.len() < limits::ASK_LINES_MAX {
            let Some(slot) = self.asking.pop_front() else { break };
            lines.extend(self.ask_line(slot, now_ns));
        }
        let room = limits::ASK_LINES_MAX - lines.len();
        let first: Vec<FirstTouch> = self
            .first
            .unsent()
            .take(room)
            .map(|(account, asked)| {
                asked.sent = true;
                let price = Money(asked.price);
                FirstTouch { account, want: Money(asked.price.saturating_mul(terms::START_PRICES)), price }
            })
            .collect();
        let cut = self.next_cut(now_ns);
        if lines.is_empty() && first.is_empty() && cut.is_none() {
            return None;
        }
        self.req += 1;
        (self.sent_ns, self.urgent) = (now_ns, !self.asking.is_empty());
        Some(Ask { node: self.node, epoch: self.epoch, req: self.req, lines, first, cut })
    }

    fn ask_line(&mut self, slot: u32, now_ns: u64) -> Option<AskLine> {
        let cores = self.cores.len();
        let planted = self.planted;
        let awaits = self.table.line(slot).stage == Stage::Stopping && self.awaits(slot);
        let (line, subs) = self.table.whole(slot);
        line.asking = false;
        let closed = line.stage == Stage::Stopping && line.holders == 0 && line.free == 0 && !awaits;
        let want = match line.stage {
            Stage::Broken => return None,
            Stage::Stopping => line.granted,
            Stage::Resting => line.granted + line.short,
            // A renewal that brings no money costs the granter's disk nothing.
            Stage::Open if line.is_low(cores, now_ns) => line.want(cores, now_ns),
            Stage::Open => line.granted,
        };
        // What cores that cannot pay a bid lack of it, the least of them: they have the rest. Where nothing is wanted of this
        // window, no core lacks anything; the next one may be granted of.
        let lacks = subs.iter().filter(|s| s.want > s.granted && s.price > s.free()).map(|s| s.price - s.free());
        let least = if want > line.granted { lacks.min() } else { None };
        let lack = least.unwrap_or(line.price) - line.free;
        line.held_told = if closed { 0 } else { line.held_said() };
        let said = AskLine {
            line: line.key,
            granted: Money(line.granted),
            returned: Money(line.returned),
            held: Money(line.held_told),
            want: Money(want),
            price: Money(lack.max(0)),
            closed: closed.then_some(Money(line.spent())),
        };
        (line.wanted, line.asked_ns) = (want, now_ns);
        if planted.has(Fault::UsedBeforeGranted) && line.stage == Stage::Open {
            line.free += want - line.granted;
            line.granted = want;
        }
        Some(said)
    }

    /// What was spent, as of the last statement of every core, if it is time to say so.
    fn next_cut(&mut self, now_ns: u64) -> Option<Cut> {
        let due = self.cut_told || now_ns >= self.cut_ns.saturating_add(CUT_NS) || self.is_home();
        let frames: Vec<u64> = self.cores.iter().map(|core| core.position).collect();
        if !due || self.cuts_frozen || frames == self.cut_frames {
            return None;
        }
        let mut spent = Vec::with_capacity(self.changed.len());
        for slot in self.changed.drain(..) {
            let line = self.table.line_mut(slot);
            line.changed = false;
            spent.push((line.key, Money(line.charged), Money(line.freed)));
        }
        (self.cut_told, self.cut_ns) = (false, now_ns);
        self.cut_frames.clone_from(&frames);
        self.totals.cuts += 1;
        Some(Cut { frames, spent })
    }

    /// Takes the granter's answer. One that is not to the ask under way is counted and left.
    pub fn incoming(&mut self, reply: &Reply, now_ns: u64) {
        if (reply.node, reply.epoch) != (self.node, self.epoch) || self.fenced {
            return;
        }
        if reply.fenced {
            if !self.planted.has(Fault::NoFence) {
                self.fence();
            }
            return;
        }
        let answered = self.outstanding.take_if(|out| out.ask.req == reply.req);
        let Some(Outstanding { ask, first_ns, sent_ns }) = answered else {
            self.totals.stale += 1;
            if self.planted.has(Fault::RepliedTwice) {
                reply.lines.iter().for_each(|granted| self.add_again(granted));
            }
            return;
        };
        self.totals.replies += 1;
        let took_ns = now_ns.saturating_sub(sent_ns);
        self.totals.round_trip_ns = took_ns;
        self.totals.round_trips_ns += took_ns;
        for granted in &reply.lines {
            if let Some(slot) = self.hear_granted(granted, first_ns, now_ns) {
                self.attend(slot);
            }
        }
        for said in &ask.lines {
            self.line_answered(said);
        }
        for first in &ask.first {
            self.first_answered(first, now_ns);
        }
    }

    /// Believes what is granted; the line, if there is one to be looked at.
    fn hear_granted(&mut self, granted: &Granted, asked_ns: u64, now_ns: u64) -> Option<u32> {
        let key = granted.line;
        let known = self.table.find(key);
        let amount = fault::amount(granted.granted);
        let had = known.map_or(0, |slot| self.table.line(slot).granted);
        let Some(total) = amount.filter(|a| *a >= had) else {
            self.violate(Violation { invariant: Invariant::GranterGranted, line: key, core: None });
            return None;
        };
        let slot = match known {
            Some(slot) => slot,
            None if granted.stop && total == 0 => return None,
            None => match self.table.open(key) {
                Some(slot) => {
                    self.live += 1;
                    let price = self.table.lines_of(key.account).map(|s| self.table.line(s).price).max();
                    let line = self.table.line_mut(slot);
                    (line.from_ns, line.seen_ns, line.price) = (u64::MAX, now_ns, price.unwrap_or(0));
                    slot
                }
                None => return None,
            },
        };
        if self.table.account(key.account).blocked || self.table.line(slot).stage == Stage::Broken {
            self.set_stage(slot, Stage::Broken);
            return None;
        }
        let more = total - had;
        let into = match self.running_instead(granted, slot, now_ns) {
            Some(other) => other,
            None => slot,
        };
        let line = self.table.line_mut(into);
        line.granted += more;
        line.free += more;
        let line = self.table.line_mut(slot);
        line.left = granted.left.0.clamp(0, i64::MAX / 4);
        if line.stage == Stage::Resting {
            if granted.stop && more == 0 {
                return Some(slot);
            }
            line.seen_ns = now_ns;
            self.set_stage(slot, Stage::Open);
        }
        self.table.line_mut(slot).told_stop = granted.stop;
        if granted.stop || self.draining {
            self.set_stage(slot, Stage::Stopping);
            return Some(slot);
        }
        self.hear_times(slot, granted, asked_ns, now_ns);
        // Where only time came there is nothing to share.
        let line = self.table.line(slot);
        (more > 0 || line.short > 0 || line.free > 0 || line.stage != Stage::Open).then_some(slot)
    }

    /// From when until when a line may be used: early in ending, late in beginning, whatever clocks say.
    fn hear_times(&mut self, slot: u32, granted: &Granted, asked_ns: u64, now_ns: u64) {
        let (line, subs) = self.table.whole(slot);
        let from_ns = line.from_ns.min(now_ns.saturating_add(granted.wait_ms.saturating_mul(MS)));
        let until_ns = match granted.usable_ms {
            0 => line.until_ns.min(now_ns),
            ms => line.until_ns.max(asked_ns.saturating_add(ms.saturating_mul(MS))),
        };
        let earlier = from_ns < line.from_ns || until_ns < line.told_ns;
        (line.from_ns, line.until_ns) = (from_ns, until_ns);
        // Near the end each second counts: the window may end with it.
        let soon = line.told_ns < now_ns.saturating_add(terms::RENEW_NS);
        let later = if soon { 1 } else { terms::TELL_NS };
        if !earlier && until_ns < line.told_ns.saturating_add(later) {
            return;
        }
        line.told_ns = until_ns;
        for (core, sub) in subs.iter_mut().enumerate() {
            if sub.free() <= 0 || sub.end != SubEnd::None || sub.queued {
                continue;
            }
            let to = &mut self.cores[core];
            if to.renewals.len() < limits::BUDGET_GRANT_SLOTS / 2 {
                let (granted, recall) = (Money(sub.granted), sub.marked(RECALLED));
                to.renewals.push_back(CoreGrant { line: line.key, granted, from_ns, until_ns, recall, stop: false });
            } else {
                sub.queued = true;
                to.queue.push_back(slot);
            }
        }
    }

    fn line_answered(&mut self, said: &AskLine) {
        let Some(slot) = self.table.find(said.line) else { return };
        let line = self.table.line_mut(slot);
        // Near the end each answer brings a part of what is left, so the next is asked for at once.
        let came = line.granted >= line.wanted || line.granted > said.granted.0;
        line.tired = if came { 0 } else { (line.tired + 1).min(terms::TIRED_MAX) };
        let goes_on = !line.told_stop && !self.draining && line.holders == 0 && said.closed.is_none();
        match line.stage {
            // It was to stop, waits for notices, and may be spent from after all.
            Stage::Stopping if goes_on => {
                self.set_stage(slot, Stage::Open);
                self.attend(slot);
            }
            // Closed, and nothing came since.
            Stage::Stopping if said.closed.is_some() && line.free == 0 => {
                self.set_stage(slot, Stage::Resting);
                self.table.leave_cores(slot);
            }
            // It was to go on, and does not.
            Stage::Resting => {
                line.short = 0;
                self.table.leave_cores(slot);
                if let Some(account) = self.table.account_mut(said.line.account) {
                    account.line_refused = true;
                }
            }
            _ => {
                if let Some(account) = self.table.account_mut(said.line.account) {
                    account.line_refused = false;
                }
            }
        }
    }

    fn first_answered(&mut self, first: &FirstTouch, now_ns: u64) {
        let Some(asked) = self.first.take(first.account) else { return };
        let open: Vec<u32> =
            self.table.lines_of(first.account).filter(|s| self.table.line(*s).stage == Stage::Open).collect();
        for slot in &open {
            self.touch_all(*slot, &asked, now_ns);
        }
        let Some(account) = self.table.account_mut(first.account) else { return };
        account.line_refused = false;
        if open.is_empty() {
            account.quiet_ds = terms::tenths(now_ns) + terms::QUIET_DS;
        }
    }

    /// The planted mistake of windows.
    fn running_instead(&self, granted: &Granted, slot: u32, now_ns: u64) -> Option<u32> {
        if !self.planted.has(Fault::PeriodMixedUp) || granted.wait_ms == 0 {
            return None;
        }
        self.table.lines_of(granted.line.account).find(|s| *s != slot && self.table.line(*s).runs(now_ns))
    }

    /// The planted mistake of replies.
    fn add_again(&mut self, granted: &Granted) {
        if let Some(slot) = self.table.find(granted.line) {
            let line = self.table.line_mut(slot);
            line.granted += granted.granted.0;
            line.free += granted.granted.0;
            self.attend(slot);
        }
    }
}

impl Line {
    /// How much is to have been granted in all, for the line to hold what it should.
    fn want(&self, cores: usize, now_ns: u64) -> i64 {
        let held = self.spent().saturating_add(self.returned).saturating_add(self.target(cores, now_ns));
        // What is here and pays no bid does not count towards what is lacking.
        let lacking = if self.short > 0 { (self.short - self.free).max(1) } else { 0 };
        held.max(self.granted.saturating_add(lacking)).min(i64::MAX / 4)
    }
}
