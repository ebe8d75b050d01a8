//! What is granted, and for how long.
//! Owns: the rule of each grant. Called by: `ask`. Never: grants above a ceiling, for a window that is over or not next, or
//! to an account that may not spend.
use super::{
    AHEAD_MS, CEILING_MAX, End, Fault, Granter, HolderId, LineId, MARGIN_MS, USABLE_MS, Whose, accounts::Accounts,
    books::Known, check::Violation,
};
use crate::{
    budget::{
        AccountId, Period,
        messages::{Ask, AskLine, Granted, LineKey},
        sizing,
        tree::{Pacing, State},
        window::{Buckets, Span, Window},
    },
    units::{MS, Money, Now},
};
use std::collections::BTreeSet;

/// What a holder may hope for is counted anew after so long at the latest.
const LATELY_NS: u64 = 120_000 * MS;

/// What a holder would like.
#[derive(Clone, Copy)]
struct Wish {
    /// In all since the line began.
    want: Money,
    price: Money,
}

/// When a line may be used.
struct Open {
    window: Window,
    wait_ms: u64,
}

/// What is left under all limits of a window.
struct Room {
    /// Below zero: a limit was lowered under what is out.
    left: i64,
    /// With days that are spread spread.
    now: i64,
}

impl Granter {
    /// A line for each of these that was asked of, and those of the windows that come next.
    pub(super) fn answer<A: Accounts>(
        &mut self,
        accounts: &A,
        (ask, lines): (&Ask, &[&AskLine]),
        again: bool,
        now: Now,
        out: &mut Vec<Granted>,
    ) {
        let holder = HolderId { node: ask.node, epoch: ask.epoch };
        for line in lines {
            let id = LineId { key: line.line, holder };
            let mut wish = (!again && line.closed.is_none()).then_some(Wish { want: line.want, price: line.price });
            if again && self.books.planted.has(Fault::RetryGrantedTwice) {
                let twice = self.books.slot(id).map_or(0, |slot| 2 * slot.line.granted.0);
                wish = Some(Wish { want: Money(twice), price: Money(0) });
            }
            let first = out.len();
            self.line(accounts, id, wish, now, out);
            // It rests, and went to the archive since: only its holder knows its sums. What is not known and was never
            // archived has been found when it was reported.
            if self.books.slot(id).is_none()
                && let Some(answer) = out.get_mut(first)
            {
                answer.granted = line.granted;
            }
        }
        let mut touched = BTreeSet::new();
        for first in ask.first.iter().filter(|first| touched.insert(first.account)) {
            let window = accounts.window(first.account, now.unix_ms());
            let key = LineKey { account: first.account, period: window.map_or(Period(0), |w| w.period) };
            let id = LineId { key, holder };
            let wish = (!again).then_some(Wish { want: first.want, price: first.price });
            // Had this start a line of it before, it would mistake all its sums for new money. On a repetition an open one is
            // what it was answered, as only what is closed is forgotten.
            let had = self.books.slot(id).is_some_and(|slot| !again || slot.line.end != End::Open);
            if window.is_none() || had {
                let none = LineKey { period: Period(0), ..key };
                out.push(self.stop(LineId { key: none, ..id }));
            } else {
                self.line(accounts, id, wish, now, out);
            }
        }
        if again {
            self.answer_again(accounts, ask, now, out);
        }
    }

    /// A renewal that brings no money, of a line whose window was looked at lately: nothing but time has passed since. Nearly
    /// all asks are for these, a hundred thousand idle lines every eighteen seconds. `None`: look closely.
    pub(super) fn renewed<A: Accounts>(
        &mut self,
        accounts: &A,
        holder: HolderId,
        said: &AskLine,
        now: Now,
    ) -> Option<Granted> {
        if said.want > said.granted || said.closed.is_some() {
            return None;
        }
        let (version, wall_ms, id) = (accounts.version()?, now.unix_ms(), LineId { key: said.line, holder });
        let window = self.books.windows.get_mut(&id.key)?;
        let lately = |k: &Known| k.version == version && now.boot_ns.saturating_sub(k.found_ns) < LATELY_NS;
        let known = window.known.filter(lately)?;
        let rest_ms = known.ends_ms.saturating_sub(wall_ms);
        // Near its end there is another window to be granted of; a clock that was set back is before its beginning.
        let stopped = window.row.buckets.iter().any(|b| self.stopped.contains(&b.account));
        if rest_ms <= AHEAD_MS || wall_ms < id.key.period.starts_ms() || stopped {
            return None;
        }
        let at = window.place(id.holder).ok()?;
        let slot = &mut window.lines[at];
        let line = &slot.line;
        let same = (said.granted, said.returned, said.held) == (line.granted, line.returned, line.held);
        if line.end != End::Open || !same {
            return None;
        }
        let usable_ms = USABLE_MS.min(rest_ms);
        slot.until_ns = slot.until_ns.max(now.boot_ns.saturating_add((usable_ms + MARGIN_MS) * MS));
        let granted = slot.line.granted;
        Some(Granted { line: id.key, granted, usable_ms, wait_ms: 0, stop: false, left: known.left })
    }

    /// What else the answer that was lost may have granted: of a window that is over by now, or has begun. Only open lines:
    /// the holder has none of these that it has forgotten.
    fn answer_again<A: Accounts>(&mut self, accounts: &A, ask: &Ask, now: Now, out: &mut Vec<Granted>) {
        let holder = HolderId { node: ask.node, epoch: ask.epoch };
        let asked = ask.lines.iter().map(|line| line.line.account).chain(ask.first.iter().map(|first| first.account));
        let mut more = Vec::new();
        for account in asked.collect::<BTreeSet<_>>() {
            let open = self.books.lines_open(holder, account);
            more.extend(open.filter(|id| out.iter().all(|named| named.line != id.key)));
        }
        more.into_iter().for_each(|id| self.line(accounts, id, None, now, out));
    }

    /// One line, and that of the next window if it begins soon.
    fn line<A: Accounts>(&mut self, accounts: &A, id: LineId, wish: Option<Wish>, now: Now, out: &mut Vec<Granted>) {
        let wall_ms = now.unix_ms();
        let Some(open) = open(accounts, id.key, wall_ms) else {
            out.push(self.stop(id));
            return;
        };
        let granted = self.window_line(accounts, id, &open, wish, now);
        out.push(granted);
        if granted.stop || open.wait_ms > 0 || open.window.ends_ms - wall_ms > AHEAD_MS {
            return;
        }
        let Some(next) = accounts.next_window(id.key.account, wall_ms) else { return };
        let ahead = LineId { key: LineKey { period: next.period, ..id.key }, ..id };
        // As much as it would like to have at hand now: what it spent since its last cut it does not have.
        let line = self.books.slot(id).map(|slot| slot.line).filter(|line| line.end == End::Open).unwrap_or_default();
        let hand =
            wish.map_or(0, |w| w.want.max(line.granted).0).saturating_sub(line.returned.0 + line.known_spent().0);
        let wish = wish.filter(|_| hand > 0 && self.books.slot(ahead).is_none());
        let wish = wish.map(|w| Wish { want: Money(hand), ..w });
        if wish.is_some() || self.books.slot(ahead).is_some() {
            let wait_ms = next.period.starts_ms().saturating_sub(wall_ms);
            let open = if self.books.planted.has(Fault::PeriodMixedUp) {
                Open { window: Window { buckets: open.window.buckets, ..next }, wait_ms }
            } else {
                Open { window: next, wait_ms }
            };
            out.push(self.window_line(accounts, ahead, &open, wish, now));
        }
    }

    /// A line of a window that runs or is next.
    fn window_line<A: Accounts>(
        &mut self,
        accounts: &A,
        id: LineId,
        open: &Open,
        wish: Option<Wish>,
        now: Now,
    ) -> Granted {
        let (wall_ms, Open { window, wait_ms }) = (now.unix_ms(), open);
        if self.books.windows.contains_key(&id.key) {
            // A limit may have come since it began.
            self.books.open_window(id.key, &window.buckets);
        }
        let room = self.room(accounts, &window.buckets, wall_ms);
        if !self.may_spend(accounts, id.key.account, &window.buckets) || room.left < 0 {
            return self.stop(id);
        }
        let holders = self.holders(id, now.boot_ns);
        let granted = self.books.slot(id).map_or(Money(0), |slot| slot.line.granted);
        let need = wish.map_or(0, |w| w.want.0.saturating_sub(granted.0));
        let more = sizing::grant(Money(need), wish.map_or(Money(0), |w| w.price), Money(room.now), holders);
        if more > Money(0) && !self.is_archived(id.key) {
            self.grant(accounts, id, more, &window.buckets);
        }
        let rest_ms = window.ends_ms.saturating_sub(wall_ms);
        let usable_ms = (wait_ms + USABLE_MS).min(rest_ms);
        let until_ns = now.boot_ns.saturating_add((usable_ms + MARGIN_MS) * MS);
        let granted = self.books.slot_mut(id).map_or(Money(0), |slot| {
            slot.until_ns = slot.until_ns.max(until_ns);
            slot.line.granted
        });
        let left = Money((room.now - more.0).max(0) / i64::from(holders));
        if let (0, Some(version), Some(running)) = (wait_ms, accounts.version(), self.books.windows.get_mut(&id.key)) {
            running.known = Some(Known { version, found_ns: now.boot_ns, ends_ms: window.ends_ms, left });
        }
        Granted { line: id.key, granted, usable_ms, wait_ms: *wait_ms, stop: false, left }
    }

    /// A grant: the line and all its limits in one step.
    fn grant<A: Accounts>(&mut self, accounts: &A, id: LineId, more: Money, buckets: &Buckets) {
        self.books.open_window(id.key, buckets);
        self.books.open_line(id);
        let line = self.books.slot(id).map_or_else(Default::default, |slot| slot.line);
        let granted = super::Line { granted: Money(line.granted.0 + more.0), end: End::Open, ..line };
        let mut found = self.books.change(id, granted).err();
        for key in buckets.iter() {
            let (committed, ceiling) = (self.books.committed(key), ceiling(accounts.ceiling(key)));
            if committed > ceiling {
                found = found.or(Some(Violation::Ceiling { key: *key, committed, ceiling }));
            }
        }
        if let Some(violation) = found {
            self.violated(violation);
        }
    }

    fn stop(&self, id: LineId) -> Granted {
        let granted = self.books.slot(id).map_or(Money(0), |slot| slot.line.granted);
        Granted { line: id.key, granted, stop: true, ..Granted::default() }
    }

    fn may_spend<A: Accounts>(&self, accounts: &A, campaign: AccountId, buckets: &Buckets) -> bool {
        let stopped = !self.stopped.is_empty() && buckets.iter().any(|b| self.stopped.contains(&b.account));
        !stopped && accounts.state(campaign) == Some(State::Active)
    }

    fn room<A: Accounts>(&self, accounts: &A, buckets: &Buckets, wall_ms: u64) -> Room {
        let mut room = Room { left: CEILING_MAX, now: CEILING_MAX };
        for key in buckets.iter() {
            let (committed, ceiling) = (self.books.committed(key).0, ceiling(accounts.ceiling(key)));
            let spread = key.span == Span::Day && accounts.pacing(key.account) == Pacing::Even;
            let today =
                if spread { sizing::even(ceiling, wall_ms.saturating_sub(key.start.starts_ms())) } else { ceiling };
            room.left = room.left.min(ceiling.0 - committed);
            room.now = room.now.min(today.0 - committed);
        }
        room
    }

    /// Holders that may be using this window's money, with the one who asks.
    fn holders(&self, id: LineId, now_ns: u64) -> u32 {
        let others = self.books.windows.get(&id.key).map_or(0, |window| {
            let uses = |slot: &&super::Slot| {
                let live = slot.line.end == End::Open && self.whose(slot, now_ns) == Whose::Leased;
                live && slot.holder != id.holder
            };
            window.lines.iter().filter(uses).count()
        });
        u32::try_from(others).unwrap_or(u32::MAX).saturating_add(1)
    }
}

fn ceiling(limit: Option<Money>) -> Money {
    Money(limit.map_or(CEILING_MAX, |m| m.0.clamp(0, CEILING_MAX)))
}

/// The window of a line if it runs or is the next one.
fn open<A: Accounts>(accounts: &A, key: LineKey, wall_ms: u64) -> Option<Open> {
    let window = accounts.window(key.account, wall_ms)?;
    if key.period == window.period {
        return Some(Open { window, wait_ms: 0 });
    }
    if key.period < window.period {
        return None;
    }
    let window = accounts.next_window(key.account, wall_ms).filter(|next| next.period == key.period)?;
    Some(Open { wait_ms: window.period.starts_ms().saturating_sub(wall_ms), window })
}
