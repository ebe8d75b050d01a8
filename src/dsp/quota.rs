//! Requests a second that a DSP takes, of the whole server: each core has a share of it and a bucket that fills at that rate; the
//! shares follow what cores want.
//! Owns: [`Quotas`] the buckets of a core, [`Sharing`] the shares of all. Runs on: each bidder core; control. Called by:
//! `bidder/asking`, `control/role`, which exchange [`Shares`]. Never: lets the shares in use come to more than the quota, whatever
//! is on its way between them: a share grows by what others have said they gave up.
//!
//! In any second all cores together send no more than the quota, and what buckets may have saved: a tenth of it ([`BURST_NS`]) and
//! one request a core.
use super::{targets::Set, worth::members};
use crate::{config::resolved::Dsp, limits::DSPS_MAX, units::MS};

/// What a bucket may save up.
pub const BURST_NS: u64 = 100 * MS;
/// A core says this often what it wants.
pub const PERIOD_NS: u64 = 100 * MS;
/// A request in a bucket: shares are thousandths of a request a second, and times are nanoseconds.
const ONE: u64 = 1_000 * 1_000 * MS;
/// Of what is shared out, cores that want nothing keep the share of one in so many, so that a first request is not refused.
const IDLE_PART: u64 = 16;
/// The most that can be stated.
pub const QPS_MAX: u64 = 10_000_000;

/// After so long every bucket is full.
const FILL_NS: u64 = 1_000 * MS;

/// No share is larger.
const SHARE_MAX: u64 = QPS_MAX * 1_000;
// What is saved and what comes is less than a word holds.
const _: () = assert!((SHARE_MAX + 1).checked_mul(FILL_NS + BURST_NS).is_some());

/// One core's share of one DSP.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Thousandths of a request a second.
    share: u64,
    tokens: u64,
    at_ns: u64,
}

impl Bucket {
    fn fill(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.at_ns).min(FILL_NS);
        self.at_ns = self.at_ns.max(now_ns);
        self.tokens = (self.tokens + self.share * passed).min(self.depth());
    }

    fn depth(&self) -> u64 {
        (self.share * BURST_NS).max(ONE)
    }

    fn set(&mut self, share: u64, now_ns: u64) {
        self.fill(now_ns);
        self.share = share.min(SHARE_MAX);
        self.tokens = self.tokens.min(self.depth());
    }
}

/// What a core wants, on its way to control; and its shares, on their way back. One box a core, which goes back and forth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The configuration in whose order everything is.
    config_id: u64,
    /// Requests that it would have sent, since it said so before.
    wanted: [u32; DSPS_MAX],
    /// In so many nanoseconds.
    over_ns: u64,
    /// Its shares in use; on the way back the ones to be used.
    shares: [u64; DSPS_MAX],
}

/// A core's buckets.
#[derive(Clone, Debug, Default)]
pub struct Quotas {
    config_id: u64,
    names: Vec<String>,
    limited: Set,
    /// Of those, the ones in whose buckets there was not one request when they were looked at.
    dry: Set,
    buckets: Vec<Bucket>,
    wanted: Vec<u32>,
    told_ns: u64,
    letter: Option<Box<Shares>>,
    /// Control has it, or somebody who lost it.
    away: bool,
}

impl Quotas {
    /// From now on by this configuration, on one of so many cores. A share that stays keeps its size unless that is more than a
    /// core's part of the new quota; a new one begins with that part. Allocates.
    pub fn configure(&mut self, config_id: u64, dsps: &[Dsp], cores: u16, now_ns: u64) {
        let old = std::mem::take(self);
        let dsps = &dsps[..dsps.len().min(DSPS_MAX)];
        let buckets = dsps.iter().map(|dsp| {
            let part = part(dsp.qps.unwrap_or(0), u64::from(cores));
            let known = old.names.iter().position(|name| *name == dsp.name).filter(|at| old.limited >> at & 1 == 1);
            match known.map(|at| old.buckets[at]) {
                Some(mut bucket) => {
                    bucket.set(bucket.share.min(part), now_ns);
                    bucket
                }
                None => Bucket { share: part, tokens: 0, at_ns: now_ns },
            }
        });
        *self = Quotas {
            config_id,
            limited: dsps.iter().enumerate().fold(0, |set, (at, dsp)| set | Set::from(dsp.qps.is_some()) << at),
            dry: Set::MAX,
            buckets: buckets.collect(),
            names: dsps.iter().map(|dsp| dsp.name.clone()).collect(),
            wanted: vec![0; dsps.len()],
            told_ns: now_ns,
            letter: old.letter,
            away: old.away,
        };
        if self.limited != 0 && self.letter.is_none() && !self.away {
            self.letter =
                Some(Box::new(Shares { config_id, wanted: [0; DSPS_MAX], over_ns: 0, shares: [0; DSPS_MAX] }));
        }
    }

    /// Which of these have no request left; who wanted one counts as wanting it.
    #[inline]
    pub fn spent(&mut self, of: Set, now_ns: u64) -> Set {
        let mut spent = 0;
        // What has come since is looked at when it is needed, and when some is taken.
        for at in members(of & self.limited & self.dry) {
            let bucket = &mut self.buckets[at];
            bucket.fill(now_ns);
            if bucket.tokens >= ONE {
                self.dry &= !(1 << at);
            } else {
                self.wanted[at] = self.wanted[at].saturating_add(1);
                spent |= 1 << at;
            }
        }
        spent
    }

    /// One request to somebody who has not [spent](Quotas::spent) all.
    #[inline]
    pub fn take(&mut self, dsp: usize, now_ns: u64) {
        if self.limited >> dsp & 1 == 1 {
            let bucket = &mut self.buckets[dsp];
            // First: else what was saved and what has come since would both be spent at once.
            bucket.fill(now_ns);
            bucket.tokens = bucket.tokens.saturating_sub(ONE);
            self.dry |= Set::from(bucket.tokens < ONE) << dsp;
            self.wanted[dsp] = self.wanted[dsp].saturating_add(1);
        }
    }

    /// What control is to be told, when it is time and the last answer is there.
    pub fn report(&mut self, now_ns: u64) -> Option<Box<Shares>> {
        let over_ns = now_ns.saturating_sub(self.told_ns);
        if self.limited == 0 || over_ns < PERIOD_NS {
            return None;
        }
        let mut letter = self.letter.take()?;
        (letter.config_id, letter.over_ns) = (self.config_id, over_ns);
        letter.shares = [0; DSPS_MAX];
        letter.wanted = [0; DSPS_MAX];
        for at in members(self.limited) {
            letter.shares[at] = self.buckets[at].share;
            letter.wanted[at] = std::mem::take(&mut self.wanted[at]);
        }
        (self.told_ns, self.away) = (now_ns, true);
        Some(letter)
    }

    /// What control answered.
    pub fn hear(&mut self, letter: Box<Shares>, now_ns: u64) {
        if letter.config_id == self.config_id {
            for at in members(self.limited) {
                self.buckets[at].set(letter.shares[at], now_ns);
            }
            // A bucket that has become smaller may hold less.
            self.dry = Set::MAX;
        }
        (self.letter, self.away) = (Some(letter), false);
    }
}

/// A core's part of a quota, in thousandths.
fn part(qps: u64, cores: u64) -> u64 {
    qps.min(QPS_MAX) * 1_000 / cores.max(1)
}

/// What control knows of one core.
#[derive(Clone, Debug)]
struct Core {
    /// The most that it may be using.
    held: [u64; DSPS_MAX],
    /// Thousandths of a request a second, of late.
    wanted: [u64; DSPS_MAX],
}

/// The shares of all cores.
#[derive(Clone, Debug)]
pub struct Sharing {
    config_id: u64,
    /// In the order of the configuration, thousandths; none: no quota.
    totals: Vec<(String, Option<u64>)>,
    cores: Vec<Core>,
}

impl Sharing {
    /// Of a process that starts with this configuration.
    pub fn new(config_id: u64, dsps: &[Dsp], cores: usize) -> Sharing {
        let nothing = Core { held: [0; DSPS_MAX], wanted: [0; DSPS_MAX] };
        let mut sharing = Sharing { config_id, totals: Vec::new(), cores: vec![nothing; cores] };
        sharing.configure(config_id, dsps);
        sharing
    }

    /// This configuration is on its way to all cores.
    pub fn configure(&mut self, config_id: u64, dsps: &[Dsp]) {
        let old = std::mem::take(&mut self.totals);
        let before = self.cores.clone();
        let cores = self.cores.len() as u64;
        self.totals = dsps.iter().take(DSPS_MAX).map(|d| (d.name.clone(), d.qps.map(|qps| part(qps, 1)))).collect();
        for (core, before) in self.cores.iter_mut().zip(before) {
            (core.held, core.wanted) = ([0; DSPS_MAX], [0; DSPS_MAX]);
            for (at, (name, _)) in self.totals.iter().enumerate() {
                // Until it is heard of again it has what it had, or as a newcomer its part.
                match old.iter().position(|(known, total)| known == name && total.is_some()) {
                    Some(from) => (core.held[at], core.wanted[at]) = (before.held[from], before.wanted[from]),
                    None => core.held[at] = part(dsps[at].qps.unwrap_or(0), cores),
                }
            }
        }
        self.config_id = config_id;
    }

    /// A core says what it wants; its shares are written into what it is sent back.
    pub fn hear(&mut self, core: usize, letter: &mut Shares) {
        if letter.config_id != self.config_id || core >= self.cores.len() {
            return;
        }
        let n = self.cores.len() as u64;
        for (at, (_, total)) in self.totals.iter().enumerate() {
            let Some(total) = *total else { continue };
            let rate = u128::from(letter.wanted[at]) * u128::from(ONE) / u128::from(letter.over_ns.max(1));
            let used = letter.shares[at];
            let this = &mut self.cores[core];
            this.wanted[at] = u64::try_from(rate).unwrap_or(u64::MAX).midpoint(this.wanted[at]);
            this.held[at] = used;
            let mine = this.wanted[at];
            let wanted: u128 = self.cores.iter().map(|c| u128::from(c.wanted[at])).sum();
            let held = self.cores.iter().fold(0u64, |sum, c| sum.saturating_add(c.held[at]));
            let idle = (wanted / u128::from(IDLE_PART * n)).max(1);
            let due = u128::from(total) * (u128::from(mine) + idle) / (wanted + idle * u128::from(n));
            let due = u64::try_from(due).unwrap_or(total);
            let share = if due <= used { due } else { used + (due - used).min(total.saturating_sub(held)) };
            letter.shares[at] = share;
            // Until it says that it has less, it may be using what it had.
            self.cores[core].held[at] = used.max(share);
        }
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
