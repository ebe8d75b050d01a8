//! Money of wins that are charged when their billing notice comes: what is still awaited, and what goes home.
//! Owns: sums, by window and by the minute in which notices expire; no table of wins. Runs on: flush, which sees records of all cores
//! in the order of the journal; a start, which reads the same order. Called by: `cores/notices`.
//! Never: lets go of money by the clock alone: that it goes is a record first ([`Lapse`]), so whoever reads the journal
//! comes to the same sums; reads a clock.
//!
//! A core charges such a win at the auction, like any other. What is *held* is the part of the charge that its notice has not
//! confirmed. Three things happen to it:
//!
//! | | held | goes home |
//! |---|---|---|
//! | the notice, at the price that was answered | less the charge | nothing |
//! | the notice, at a lower price ([`super::price`]) | less the charge | the difference |
//! | its minute is over, and [`GRACE_S`] more | less what the minute still holds | all of that |
//!
//! A notice that comes behind its minute's end finds nothing to settle: it is recorded, answered, and not charged. One that is read
//! before the record of its win, from another core's box, settles it in advance.
//!
//! A minute is over when both clocks say so, the wall's, by which tokens expire, and the machine's own, counted from when the
//! charge was first seen: a clock that is set forward, and back, takes no money from a win. (Notices that come in between are
//! expired by the same clock.)
use super::seen::GRACE_S;
use crate::{
    budget::{AccountId, LineKey, Period},
    record::codec::{Block, Reader, RecordError},
    units::{MS, Money, Now},
};
use std::collections::BTreeMap;

/// A window of an account, spent by one start of this machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Of {
    /// The start.
    pub epoch: u32,
    /// The window.
    pub line: LineKey,
}

/// What goes home: a frame of kind 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lapse {
    /// Whose.
    pub of: Of,
    /// Notices that expired in this minute since 1970 have not come; 0: some came, at lower prices.
    pub minute: u32,
    /// How much.
    pub amount: Money,
}

/// The frames' version.
pub const VERSION: u8 = 1;
const LAPSE: usize = 4 + 4 + 4 + 4 + 8;

impl Lapse {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Lapse { of: Of { epoch, line }, minute, amount } = *self;
        Block::<LAPSE>::new()
            .u32(epoch)
            .u32(line.account.0)
            .u32(line.period.0)
            .u32(minute)
            .u64(amount.0.max(0) as u64)
            .end(out);
    }

    /// Reads [`Lapse::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`] of what is none.
    pub fn decode(bytes: &[u8]) -> Result<Lapse, RecordError> {
        let mut r = Reader { rest: bytes };
        let epoch = r.u32()?;
        let line = LineKey { account: AccountId(r.u32()?), period: Period(r.u32()?) };
        let lapse = Lapse { of: Of { epoch, line }, minute: r.u32()?, amount: r.money()? };
        r.end()?;
        Ok(lapse)
    }
}

/// What a billing notice came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Billed {
    /// What it names was held, and is charged for good.
    Settled,
    /// Nothing is held for it any more: the house's loss.
    Late,
}

/// A fault that a test is to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// What was settled goes home with its minute all the same.
    SettledLapses,
    /// A minute's money goes home while notices of it are believed.
    LapsesEarly,
    /// The difference to a lower price stays charged.
    LowerIgnored,
}

/// One minute in which notices expire.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Minute {
    /// Not over before, nanoseconds since boot.
    due_ns: u64,
    held: BTreeMap<Of, i64>,
}

/// Sums of a line since it began, nano-units.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Sums {
    /// Charged, and not confirmed yet.
    pub held: Money,
    /// Gone home.
    pub lapsed: Money,
    /// Of notices at lower prices: to go home, and not recorded yet.
    pub owed: Money,
    /// Of a start that is dead, what all its frames say: charged, and freed because answers did not arrive.
    pub last: Option<(Money, Money)>,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Holds {
    minutes: BTreeMap<u32, Minute>,
    lines: BTreeMap<Of, Sums>,
    /// Those that changed since they were told.
    changed: Vec<Of>,
    /// Of these something is owed.
    owing: Vec<Of>,
    /// Minutes up to this one have gone home.
    gone: u32,
    /// Held of all lines.
    total: i128,
    planted: Option<Fault>,
}

impl Holds {
    /// None yet.
    pub fn new() -> Holds {
        Holds::default()
    }

    /// Makes a mistake from now on; none in a release build.
    pub fn plant(&mut self, fault: Fault) {
        self.planted = cfg!(debug_assertions).then_some(fault);
    }

    fn has(&self, fault: Fault) -> bool {
        cfg!(debug_assertions) && self.planted == Some(fault)
    }

    fn line(&mut self, of: Of) -> &mut Sums {
        self.changed.push(of);
        self.lines.entry(of).or_default()
    }

    /// So much more is held of a line, or less.
    fn add_held(&mut self, of: Of, nanos: i64) {
        self.line(of).held.0 += nanos;
        self.total += i128::from(nanos);
    }

    /// So much more is held of a line in a minute, or less; what comes to nothing is not kept.
    fn add(&mut self, minute: u32, of: Of, nanos: i64, now: Option<Now>) {
        let minutes = self.minutes.entry(minute).or_default();
        if let Some(now) = now {
            minutes.due_ns = minutes.due_ns.max(due_ns(minute, now));
        }
        let sum = minutes.held.entry(of).or_default();
        *sum += nanos;
        if *sum == 0 {
            minutes.held.remove(&of);
        }
    }

    /// A win was recorded that waits for its notice until `expires_s`, seconds since 1970.
    pub fn hold(&mut self, of: Of, expires_s: u32, charge: Money, now: Now) {
        if charge <= Money(0) {
            return;
        }
        // A clock that ran ahead, and was set back, has not been there yet.
        self.gone = self.gone.min((expires_s / 60).saturating_sub(1));
        self.add(expires_s / 60, of, charge.0, Some(now));
        self.add_held(of, charge.0);
    }

    /// The first billing notice of a win that was held: `charge` is to be paid of what is `held`.
    pub fn billed(&mut self, of: Of, expires_s: u32, held: Money, charge: Money) -> Billed {
        if held <= Money(0) {
            return Billed::Settled;
        }
        if expires_s / 60 <= self.gone {
            return Billed::Late;
        }
        if !self.has(Fault::SettledLapses) {
            self.add(expires_s / 60, of, -held.0, None);
        }
        let less = held.0 - charge.0.clamp(0, held.0);
        let ignored = self.has(Fault::LowerIgnored);
        self.add_held(of, -held.0);
        let line = self.line(of);
        if less > 0 && !ignored {
            line.owed.0 += less;
            self.owing.push(of);
        }
        Billed::Settled
    }

    /// The next that goes home. It is to be recorded where the journal has it behind all that was said before, and then to be
    /// handed to [`Holds::lapse`] before anything else is said. `now`: when all that had been recorded was read.
    pub fn due(&mut self, now: Now) -> Option<Lapse> {
        while let Some(of) = self.owing.last().copied() {
            let amount = self.lines.get(&of).map_or(Money(0), |line| line.owed);
            if amount > Money(0) {
                return Some(Lapse { of, minute: 0, amount });
            }
            self.owing.pop();
        }
        let early = self.has(Fault::LapsesEarly);
        loop {
            let entry = self.minutes.first_entry()?;
            let (number, minute) = (*entry.key(), entry.get());
            let over = now.unix_ms() / 1_000 >= over_s(number) && now.boot_ns >= minute.due_ns;
            let over = over || early && now.unix_ms() / 1_000 >= u64::from(number) * 60;
            if !over {
                return None;
            }
            match minute.held.iter().find(|(_, sum)| **sum > 0) {
                Some((of, sum)) => return Some(Lapse { of: *of, minute: number, amount: Money(*sum) }),
                // What was settled in advance and never won, as far as the record goes, is nobody's.
                None => {
                    for (of, sum) in entry.remove().held {
                        self.add_held(of, -sum);
                    }
                }
            }
        }
    }

    /// It is on record that this goes home.
    pub fn lapse(&mut self, lapse: &Lapse) {
        let Lapse { of, minute, amount } = *lapse;
        if minute == 0 {
            let line = self.line(of);
            line.owed.0 -= amount.0;
            line.lapsed.0 += amount.0;
            return;
        }
        self.gone = self.gone.max(minute);
        self.add(minute, of, -amount.0, None);
        self.add_held(of, -amount.0);
        self.line(of).lapsed.0 += amount.0;
    }

    /// A start is dead, and this is what all its frames say of a line that something is held of, or owed.
    pub fn ended(&mut self, of: Of, charged: Money, freed: Money) {
        if let Some(line) = self.lines.get_mut(&of) {
            line.last = Some((charged, freed));
        }
    }

    /// What is known of a line.
    pub fn of(&self, of: Of) -> Sums {
        self.lines.get(&of).copied().unwrap_or_default()
    }

    /// All that is known of a start's lines.
    pub fn lines_of(&self, epoch: u32) -> impl Iterator<Item = (LineKey, Sums)> {
        let from = Of { epoch, line: LineKey::default() };
        self.lines.range(from..).take_while(move |(of, _)| of.epoch == epoch).map(|(of, sums)| (of.line, *sums))
    }

    /// Lines that have changed since the last time, each once, with their sums as they are.
    pub fn changes(&mut self) -> Vec<(Of, Sums)> {
        self.changed.sort_unstable();
        self.changed.dedup();
        let lines = &self.lines;
        self.changed.drain(..).filter_map(|of| Some((of, *lines.get(&of)?))).collect()
    }

    /// Everything that something is held of is to be told again.
    pub fn tell_all(&mut self) {
        self.changed.extend(self.lines.keys());
    }

    /// Held in all, nano-units.
    pub fn total(&self) -> i128 {
        self.total
    }

    /// Sums that are kept: lines, and parts of them by the minute.
    pub fn count(&self) -> usize {
        self.lines.len() + self.minutes.values().map(|m| m.held.len()).sum::<usize>()
    }

    /// Forgets lines of which nothing is held or owed and of whose windows, which began so many minutes ago, nothing is out any
    /// more; none that has to be told of.
    pub fn tidy(&mut self, minutes: u32, now: Now) {
        if !self.changed.is_empty() {
            return;
        }
        let minute = u32::try_from(now.unix_ms() / 60_000).unwrap_or(u32::MAX);
        let old = |of: &Of| of.line.period.0.saturating_add(minutes) <= minute;
        self.lines.retain(|of, line| line.held != Money(0) || line.owed != Money(0) || !old(of));
    }

    /// Is anything known of a line?
    pub fn knows(&self, of: Of) -> bool {
        self.lines.contains_key(&of)
    }

    // --- for the next start ---------------------------------------------------------------------------

    /// Appends all of it.
    pub fn write(&self, out: &mut Vec<u8>) {
        Block::<8>::new().u32(self.gone).u32(self.lines.len() as u32).end(out);
        for (of, sums) in &self.lines {
            let (charged, freed) = sums.last.unwrap_or_default();
            Block::<{ OF + 1 + 5 * 8 }>::new()
                .bytes(of.bytes())
                .u8(u8::from(sums.last.is_some()))
                .u64(sums.held.0 as u64)
                .u64(sums.lapsed.0 as u64)
                .u64(sums.owed.0 as u64)
                .u64(charged.0 as u64)
                .u64(freed.0 as u64)
                .end(out);
        }
        let parts =
            |(minute, m): (&u32, &Minute)| m.held.iter().map(|(of, sum)| (*minute, *of, *sum)).collect::<Vec<_>>();
        let parts: Vec<_> = self.minutes.iter().flat_map(parts).filter(|(.., sum)| *sum != 0).collect();
        Block::<4>::new().u32(parts.len() as u32).end(out);
        for (minute, of, sum) in parts {
            Block::<{ 4 + OF + 8 }>::new().u32(minute).bytes(of.bytes()).u64(sum as u64).end(out);
        }
    }

    /// Reads [`Holds::write`] back; `now` is this start's.
    ///
    /// # Errors
    /// [`RecordError`] of what is none.
    pub fn read(bytes: &[u8], now: Now) -> Result<Holds, RecordError> {
        let r = &mut Reader { rest: bytes };
        let mut holds = Holds { gone: r.u32()?, ..Holds::new() };
        for _ in 0..r.u32()? {
            let of = Of::read(r)?;
            let dead = r.u8()? == 1;
            let held = Money(r.u64()? as i64);
            let sums = Sums { held, lapsed: r.money()?, owed: r.money()?, last: None };
            let last = (r.money()?, r.money()?);
            if sums.owed > Money(0) {
                holds.owing.push(of);
            }
            holds.total += i128::from(held.0);
            holds.lines.insert(of, Sums { last: dead.then_some(last), ..sums });
        }
        for _ in 0..r.u32()? {
            let number = r.u32()?;
            let (of, sum) = (Of::read(r)?, r.u64()? as i64);
            let minute = holds.minutes.entry(number).or_default();
            minute.due_ns = minute.due_ns.max(due_ns(number, now));
            minute.held.insert(of, sum);
        }
        r.end()?;
        Ok(holds)
    }
}

const OF: usize = 4 + 4 + 4;

impl Of {
    fn bytes(self) -> [u8; OF] {
        let mut bytes = [0; OF];
        let numbers = [self.epoch, self.line.account.0, self.line.period.0];
        for (at, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            at.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    fn read(r: &mut Reader<'_>) -> Result<Of, RecordError> {
        let epoch = r.u32()?;
        Ok(Of { epoch, line: LineKey { account: AccountId(r.u32()?), period: Period(r.u32()?) } })
    }
}

/// When a minute's money may go home by the wall clock, seconds since 1970.
fn over_s(minute: u32) -> u64 {
    (u64::from(minute) + 1) * 60 + u64::from(GRACE_S)
}

/// The same by the machine's own clock, nanoseconds since boot.
fn due_ns(minute: u32, now: Now) -> u64 {
    let left_ms = (over_s(minute) * 1_000).saturating_sub(now.unix_ms());
    now.boot_ns.saturating_add(left_ms.saturating_mul(MS))
}

#[cfg(test)]
mod tests;
