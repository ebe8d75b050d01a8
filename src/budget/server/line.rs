//! What a server has of one window of one account, and what one core has of that.
//! Owns: the sums of both, and the equation. Called by: the server's parts. Never: knows of other lines, of messages, of how
//! much is right.
use super::terms::{self, SECOND};
use crate::budget::messages::LineKey;

/// No slot, no block.
pub(super) const NONE: u32 = u32::MAX;

/// A core's part of a line; a cache line, as there are very many. Sums in nano-units, each since the core's line began.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Sub {
    /// Given to the core.
    pub granted: i64,
    /// Given back by it.
    pub returned: i64,
    /// Charged by it.
    pub charged: i64,
    /// Of that, freed again.
    pub freed: i64,
    /// What it would like to have been granted.
    pub want: i64,
    /// What it could not pay lately.
    pub price: i64,
    /// What it spends in a second.
    pub rate: i64,
    /// When it was last heard of, tenths of a second.
    pub heard: u32,
    /// It has been given something and has not said its last.
    pub held: bool,
    /// A grant waits for room in its ring.
    pub queued: bool,
    /// How far its end is.
    pub end: SubEnd,
    /// It is to give back what it does not spend, and has not been heard since; or the statement that is being made has
    /// spoken of it: both are of one core and line and never asked together with anything else.
    pub marks: u8,
}

const _: () = assert!(size_of::<Sub>() == 64);

/// A core is to give back.
pub(super) const RECALLED: u8 = 1;
/// The statement that has not ended speaks of it.
pub(super) const STAGED: u8 = 2;

/// How far the end of a core's line is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub(super) enum SubEnd {
    /// It may spend.
    #[default]
    None,
    /// It is to be told to stop.
    Due,
    /// It was told.
    Told,
}

impl Sub {
    /// Out to the core: granted and not given back.
    pub(super) fn out(&self) -> i64 {
        self.granted - self.returned
    }

    /// What of it can still be spent.
    pub(super) fn free(&self) -> i64 {
        self.granted - self.returned - (self.charged - self.freed)
    }

    pub(super) fn mark(&mut self, mark: u8, on: bool) {
        self.marks = if on { self.marks | mark } else { self.marks & !mark };
    }

    pub(super) fn marked(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// What it spends in a second, by now.
    pub(super) fn rate(&self, now_ns: u64) -> i64 {
        terms::rate_by_now(self.rate, terms::tenths(now_ns).saturating_sub(self.heard))
    }
}

/// How far a line is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) enum Stage {
    /// May be spent from while its lease lasts.
    #[default]
    Open,
    /// Everything is to come home from the cores and to go home from here.
    Stopping,
    /// Nothing is out; the granter has been told, or is being told. The sums stay: it may go on until its window is over.
    Resting,
    /// Its books do not come out: nothing is spent, nothing is said of it any more. What is out is the granter's to settle.
    Broken,
}

/// A server's line. Sums in nano-units, each since the line began.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Line {
    pub key: LineKey,
    pub stage: Stage,
    /// By the granter.
    pub granted: i64,
    /// To the granter.
    pub returned: i64,
    /// With cores: the sum of what each was granted and has not returned, and what those spent that have said their last.
    pub out: i64,
    /// Of `out`, what cores spent that have said their last, as their own sums begin again; less what lapsed.
    pub ended: i64,
    /// Here, to be given to cores or to go home.
    pub free: i64,
    /// By all cores.
    pub charged: i64,
    /// By all cores.
    pub freed: i64,
    /// Of what they charged, not confirmed by a notice yet: nothing but a notice or its lapse ends that.
    pub held: i64,
    /// What the granter was told of that.
    pub held_told: i64,
    /// Of what they charged, come home because no notice did, or one at a lower price.
    pub lapsed: i64,
    /// Nothing of it is with cores any more, and once so many waves have passed it is known whether it waits for notices; 0: not
    /// asked yet.
    pub wave: u64,
    /// The granter's last word was to stop.
    pub told_stop: bool,
    /// What is known to have lapsed; more than `lapsed` while less is known to have been charged.
    pub lapsing: i64,
    /// What this holder may hope for beyond what it has, by the granter's last word.
    pub left: i64,
    /// What a bid on it costs, lately.
    pub price: i64,
    /// What cores need that was not there to give them.
    pub short: i64,
    /// What is spent in a second.
    pub rate: i64,
    /// When `rate` was last corrected, tenths of a second.
    pub heard: u32,
    /// Its cores' parts begin at this block of the table; [`NONE`] while no core has any.
    pub block: u32,
    /// Cores that have been given something and have not said their last.
    pub holders: u16,
    /// Where the next sharing begins.
    pub turn: u16,
    /// May be used from, nanoseconds since boot.
    pub from_ns: u64,
    /// May be used until.
    pub until_ns: u64,
    /// All cores that have something of it know that they may use it until then, at least.
    pub told_ns: u64,
    /// A bid on it was last seen.
    pub seen_ns: u64,
    /// Was last asked for.
    pub asked_ns: u64,
    /// What it asked to have been granted.
    pub wanted: i64,
    /// How many answers one after the other were less than that.
    pub tired: u8,
    /// Its cores are to be looked at.
    pub due: bool,
    /// It is in the next ask, or in one that waits for room.
    pub asking: bool,
    /// A bid on it was lost, and nobody has looked after it since.
    pub lost: bool,
    /// Its sums have changed since the last cut was made.
    pub changed: bool,
    /// The line of the same account that was made before it.
    pub older: u32,
}

impl Line {
    /// Charged, and neither freed nor lapsed.
    pub(super) fn spent(&self) -> i64 {
        self.charged - self.freed - self.lapsed
    }

    /// What has lapsed of what is known to have been charged goes home, all the way: given out again from here, more would be
    /// charged of the line than was ever granted.
    pub(super) fn lapse(&mut self) -> bool {
        let home = (self.lapsing - self.lapsed).min(self.spent());
        if home <= 0 {
            return false;
        }
        self.lapsed += home;
        self.out -= home;
        self.ended -= home;
        self.returned += home;
        true
    }

    /// What can still be spent of it, here or on a core.
    pub(super) fn unused(&self) -> i64 {
        self.granted - self.returned - self.spent()
    }

    /// Its equation, as far as the server's own sums go.
    pub(super) fn holds(&self) -> bool {
        let Line { granted, returned, out, free, .. } = *self;
        returned >= 0 && free >= 0 && out >= self.spent() && granted == out + free + returned
    }

    /// What is spent in a second, by now.
    pub(super) fn rate(&self, now_ns: u64) -> i64 {
        terms::rate_by_now(self.rate, terms::tenths(now_ns).saturating_sub(self.heard))
    }

    /// A bid on it was seen lately.
    pub(super) fn is_seen(&self, now_ns: u64) -> bool {
        now_ns < self.seen_ns.saturating_add(terms::SEEN_NS)
    }

    /// May it be used now?
    pub(super) fn runs(&self, now_ns: u64) -> bool {
        self.stage == Stage::Open && (self.from_ns..self.until_ns).contains(&now_ns)
    }

    /// Does every one of `cores` cores get a least part? Not when these come to more than a twentieth of what is left.
    pub(super) fn least_on_cores(&self, cores: usize, now_ns: u64) -> bool {
        let sum = i128::from(self.price) * cores as i128;
        let hope = i128::from(self.left) + i128::from(self.unused());
        self.price > 0 && self.is_seen(now_ns) && sum * i128::from(terms::LEAST_PART) <= hope
    }

    /// How much this server is to hold: half a minute of what it spends, the least of each core, what is lacking.
    pub(super) fn target(&self, cores: usize, now_ns: u64) -> i64 {
        if self.stage != Stage::Open || !self.is_seen(now_ns) {
            return 0;
        }
        let least =
            if self.least_on_cores(cores, now_ns) { self.price.saturating_mul(cores as i64) } else { self.price };
        self.rate(now_ns).saturating_mul(terms::SERVER_SECONDS).saturating_add(least).saturating_add(self.short)
    }

    /// How much one core is to hold at most: ten seconds of what it spends, and near the end a part that leaves something
    /// for the others.
    pub(super) fn core_most(&self, sub: &Sub, cores: usize, now_ns: u64) -> i64 {
        let price = sub.price.max(self.price);
        let most = sub.rate(now_ns).saturating_mul(terms::CORE_SECONDS).max(price.saturating_mul(terms::START_PRICES));
        let part = self.left.saturating_add(self.unused()) / (2 * cores as i64);
        most.min(part.max(price))
    }

    /// Seconds for which this line can go on without the granter: until the lease ends or the money does, whichever is
    /// first. Of a line that spends nothing: until the lease ends.
    pub(super) fn autonomy_s(&self, now_ns: u64) -> i64 {
        let lease = (self.told_ns.saturating_sub(now_ns) / SECOND) as i64;
        let rate = self.rate(now_ns);
        if rate == 0 { lease } else { lease.min(self.unused() / rate) }
    }
}
