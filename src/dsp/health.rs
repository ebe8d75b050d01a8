//! One core's view of one DSP: may it be asked, and what its answers and silences say.
//! Owns: breaker, throttle, trouble, answer times, learned deadline, how often it bids, requests in flight. Runs on: each bidder
//! core, one per DSP, for as long as the DSP keeps its name. Called by: `bidder/egress`. Never: allocates, shares anything with another core, reads a clock.
//!
//! A request is admitted, begins, and ends once: answered, failed, late, or withdrawn. In flight may be
//! `max(8, 2 x rate x p99)`, before anything is learned `max(8, connections)`; the limit counts only while nothing has come
//! from the DSP for longer than its p99, so that it stops silence before the first timeout and no burst.
//!
//! Chance comes before all that a closed breaker leaves: a troubled DSP ([`Trouble`]) is asked with its probability, one that has less
//! time than its p95 with the least. Whoever is asked in spite of that is not waited for either.
#[cfg(test)]
use super::health_tests::Planted;
use super::{
    breaker::{self, Admission, Breaker, State},
    demand::BidRate,
    learned::{self, Learned},
    throttle::Throttle,
    times::AnswerTimes,
    trouble::{self, Trouble},
};
use crate::{
    openrtb::codes::Outcome,
    units::{MS, Probability, mix},
};

/// So many may always be in flight.
const IN_FLIGHT_LEAST: u64 = 8;
/// Requests are counted in slots of this.
const SLOT_NS: u64 = 100 * MS;
/// Tell what is drawn here from what else is drawn of an auction's entropy.
const TROUBLE_STREAM: u64 = 0x7472_6f75;
const TIME_STREAM: u64 = 0x7469_6d65;
const EXPLORE_STREAM: u64 = 0x6578_706c;

/// What is configured of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Breaker and throttle are on.
    pub breaker: bool,
    /// When it opens.
    pub opens: breaker::Rules,
    /// A timeout counts if the DSP had so long, or its p95.
    pub fair_ns: u64,
    /// The limit in flight is on.
    pub limit: bool,
    /// In flight until its times are known.
    pub concurrency: u64,
    /// What is made of trouble. Its least probability is also that of asking who has too little time.
    pub trouble: trouble::Rules,
    /// Not asked when less time is left than its p95, but by chance.
    pub skips: bool,
    /// What its late answers are worth.
    pub deadline: learned::Rules,
}

impl Rules {
    /// For whom nothing is decided here.
    pub const OFF: Rules = Rules {
        breaker: false,
        opens: breaker::Rules { failures: u32::MAX, percent: 100, open_ns: 0 },
        fair_ns: u64::MAX,
        limit: false,
        concurrency: u64::MAX,
        trouble: trouble::Rules::OFF,
        skips: false,
        deadline: learned::Rules::OFF,
    };
}

/// One more request may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// As what, and with which probability.
    pub as_what: Admission,
    /// The answer is waited for so long at most.
    pub most_ns: u64,
}

/// It may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAdmitted {
    /// Why.
    pub outcome: Outcome,
    /// The probability that it had, if chance decided; else always.
    pub probability: Probability,
}

impl From<Outcome> for NotAdmitted {
    fn from(outcome: Outcome) -> NotAdmitted {
        NotAdmitted { outcome, probability: Probability::ALWAYS }
    }
}

/// How it stands with a DSP: levels, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Levels {
    /// Its breaker is open.
    pub open: bool,
    /// It is probed.
    pub half_open: bool,
    /// So much is missing from asking it always, of 10,000.
    pub withheld: u16,
    /// Its deadline is shorter by this than it may be, nanoseconds.
    pub cut_ns: u64,
}

/// What a whole answer says of its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// It works, and wants less; for so many seconds.
    Less(Option<u32>),
    /// It is there and will not have this request: that is no matter of health.
    Neither,
}

impl Verdict {
    /// Of an answer; `body`: of a 200, if it could be unpacked.
    pub fn of(status: u16, retry_after_s: Option<u32>, body: Option<&[u8]>) -> Verdict {
        match (status, retry_after_s) {
            (200, _) if body.is_some_and(has_shape) => Verdict::Good,
            (200, _) => Verdict::Bad,
            (204, _) => Verdict::Good,
            (429, wait) | (503, wait @ Some(_)) => Verdict::Less(wait),
            (500.., _) => Verdict::Bad,
            _ => Verdict::Neither,
        }
    }
}

/// Is it empty, or does it look like an object from both ends? Whether it is one is seen when it is read.
pub fn has_shape(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    // Some write a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    matches!(body, [] | [b'{', .., b'}'])
}

/// What one core knows of one DSP.
#[derive(Clone, Debug)]
pub struct Health {
    rules: Rules,
    breaker: Breaker,
    throttle: Throttle,
    trouble: Trouble,
    times: AnswerTimes,
    learned: Learned,
    /// How often it bids.
    pub bids: BidRate,
    salt: u64,
    wanted: Rate,
    in_flight: u64,
    /// Nothing was heard since; from the first in flight on, if there was none before it.
    silent_ns: u64,
    /// What was reported: how often its breaker had opened, and levels.
    reported: (u64, Levels),
    #[cfg(test)]
    pub(super) planted: Option<Planted>,
}

impl Health {
    /// Of somebody new.
    pub fn new(rules: Rules, salt: u64) -> Health {
        Health {
            rules,
            breaker: Breaker::new(salt),
            throttle: Throttle::default(),
            trouble: Trouble::default(),
            times: AnswerTimes::default(),
            learned: Learned::new(&rules.deadline),
            bids: BidRate::default(),
            salt,
            wanted: Rate::default(),
            in_flight: 0,
            silent_ns: 0,
            reported: (0, Levels::default()),
            #[cfg(test)]
            planted: None,
        }
    }

    /// From now on by these rules. What is known stays, unless nobody is to act on it.
    pub fn configure(&mut self, rules: Rules) {
        if self.rules.deadline != rules.deadline {
            self.learned = Learned::new(&rules.deadline);
        }
        self.rules = rules;
        if !rules.breaker {
            self.breaker.close();
            self.throttle = Throttle::default();
        }
    }

    /// May one more request go of an auction that has `left_ns` for it, and as what? `entropy` is the auction's, the same for all
    /// DSPs. A probe that does not [begin](Health::began) has to be [given up](Health::unsent).
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&mut self, left_ns: u64, entropy: u64, now_ns: u64) -> Result<Admitted, NotAdmitted> {
        #[cfg(test)]
        match self.planted {
            Some(Planted::ProbesInBursts) if self.state() == State::HalfOpen => {
                return Ok(self.admitted(Admission::Probe));
            }
            Some(Planted::Starves) if now_ns % 50 == 7 => return Err(Outcome::InFlight.into()),
            _ => {}
        }
        if self.rules.breaker {
            match self.breaker.admit(now_ns) {
                Some(Admission::Healthy | Admission::Troubled(_)) => {}
                Some(Admission::Probe) => {
                    self.wanted.add(now_ns);
                    return Ok(self.admitted(Admission::Probe));
                }
                None => {
                    self.wanted.add(now_ns);
                    return Err(Outcome::BreakerOpen.into());
                }
            }
        }
        let mut admitted = self.chance(left_ns, entropy)?;
        self.wanted.add(now_ns);
        if self.rules.breaker && !self.throttle.passes(now_ns) {
            return Err(Outcome::Throttled.into());
        }
        if self.rules.limit && self.in_flight >= IN_FLIGHT_LEAST && self.is_silent(now_ns) {
            return Err(Outcome::InFlight.into());
        }
        if self.rules.deadline.on && !learned::EXPLORED.happens(mix(entropy ^ EXPLORE_STREAM)) {
            admitted.most_ns = self.learned.deadline_ns();
        }
        Ok(admitted)
    }

    /// What chance has to say: of who is well, and has the time that it needs, nothing.
    #[inline]
    fn chance(&self, left_ns: u64, entropy: u64) -> Result<Admitted, NotAdmitted> {
        let troubled = self.trouble.probability(&self.rules.trouble);
        let short = self.rules.skips && self.times.p95_ns().is_some_and(|p95| p95 > left_ns);
        if troubled.is_always() && !short {
            return Ok(self.admitted(Admission::Healthy));
        }
        let own = mix(entropy ^ self.salt);
        let mut together = Probability::ALWAYS;
        for (probability, stream, outcome) in [
            (troubled, TROUBLE_STREAM, Outcome::Troubled),
            (if short { self.rules.trouble.least } else { Probability::ALWAYS }, TIME_STREAM, Outcome::OptimisedAway),
        ] {
            together = together.and(probability);
            #[cfg(test)]
            if self.planted == Some(Planted::NeverExplores) && outcome == Outcome::OptimisedAway && short {
                return Err(outcome.into());
            }
            if !probability.happens(mix(own ^ stream)) {
                return Err(NotAdmitted { outcome, probability: together });
            }
        }
        Ok(self.admitted(Admission::Troubled(together)))
    }

    fn admitted(&self, as_what: Admission) -> Admitted {
        Admitted { as_what, most_ns: u64::MAX }
    }

    /// An auction is decided for which it was asked: was there a bid, and did it win? `took_ns`: from asking it to its answer;
    /// none: none came.
    #[inline]
    pub fn told(&mut self, took_ns: Option<u64>, bid: bool, won: bool, now_ns: u64) {
        self.bids.add(bid);
        if let Some(took_ns) = took_ns {
            self.learned.heard(took_ns, won, self.times.p95_ns(), &self.rules.deadline, now_ns);
        }
    }

    fn is_silent(&self, now_ns: u64) -> bool {
        match self.times.p99_ns() {
            None => self.in_flight >= self.rules.concurrency,
            Some(p99) => {
                let most = u128::from(self.wanted.per_s()) * u128::from(2 * p99) / u128::from(1_000 * MS);
                u128::from(self.in_flight) >= most && now_ns.saturating_sub(self.silent_ns) > p99
            }
        }
    }

    /// It is not asked by anybody now.
    pub fn is_open(&self) -> bool {
        self.breaker.state() == State::Open
    }

    /// Nearly all DSPs are out: it is probed soon.
    pub fn hasten(&mut self, now_ns: u64) {
        self.breaker.hasten(now_ns);
    }

    /// It is not asked, or only probed.
    pub fn is_out(&self) -> bool {
        self.breaker.state() != State::Closed
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.breaker.state()
    }

    /// Requests that it has not answered and that are not given up.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Its answer times.
    pub fn times(&self) -> &AnswerTimes {
        &self.times
    }

    /// How often the breaker opened since this was asked for the last time, the levels of then and of now.
    pub fn take_report(&mut self) -> (u64, Levels, Levels) {
        let levels = Levels {
            open: self.state() == State::Open,
            half_open: self.state() == State::HalfOpen,
            withheld: Probability::ALWAYS.of_10_000() - self.trouble.probability(&self.rules.trouble).of_10_000(),
            cut_ns: self.learned.cut_ns(&self.rules.deadline),
        };
        let (opened, before) = std::mem::replace(&mut self.reported, (self.breaker.opened, levels));
        (self.breaker.opened - opened, before, levels)
    }

    /// A request is on its way, or waits for its connection.
    pub fn began(&mut self, now_ns: u64) {
        if self.in_flight == 0 {
            self.silent_ns = now_ns;
        }
        self.in_flight += 1;
    }

    fn ended(&mut self) {
        debug_assert!(self.in_flight > 0, "ended without a beginning");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// A whole answer came, so long after it was sent.
    pub fn answered(&mut self, verdict: Verdict, as_what: Admission, took_ns: u64, now_ns: u64) {
        self.ended();
        self.drained(as_what, took_ns, now_ns);
        match verdict {
            Verdict::Good => self.trouble(as_what, false),
            Verdict::Bad => self.trouble(as_what, true),
            Verdict::Less(_) | Verdict::Neither => {}
        }
        if !self.rules.breaker {
            return;
        }
        #[cfg(test)]
        if self.planted == Some(Planted::NeverBack) && as_what == Admission::Probe {
            return self.breaker.neither(as_what, now_ns);
        }
        match (verdict, as_what) {
            (Verdict::Good, _) => self.breaker.good(as_what, now_ns),
            (Verdict::Bad, _) => self.bad(as_what, now_ns),
            (Verdict::Less(wait), _) => {
                #[cfg(test)]
                let wait = wait.filter(|_| self.planted != Some(Planted::IgnoresRetryAfter));
                self.throttle.less(wait, now_ns);
                // A probe is answered by somebody who is back.
                match as_what {
                    Admission::Probe => self.breaker.good(as_what, now_ns),
                    Admission::Healthy | Admission::Troubled(_) => {}
                }
            }
            (Verdict::Neither, _) => self.breaker.neither(as_what, now_ns),
        }
    }

    /// An answer that nobody waits for any more came whole all the same.
    pub fn drained(&mut self, as_what: Admission, took_ns: u64, now_ns: u64) {
        self.silent_ns = now_ns;
        // Who was asked by chance speaks for those that were not.
        let speaks_for = u32::from(Probability::ALWAYS.of_10_000() / as_what.probability().of_10_000());
        self.times.add(took_ns, speaks_for);
    }

    /// An answer whose [`Verdict`] was good was read, or could not be.
    pub fn read(&mut self, readable: bool, as_what: Admission, now_ns: u64) {
        if !readable && as_what != Admission::Probe {
            self.trouble.was_bad();
        }
        if self.rules.breaker {
            self.breaker.read(readable, as_what, &self.rules.opens, now_ns);
        }
    }

    /// No connection, or it broke, or what came on it was no answer.
    pub fn failed(&mut self, as_what: Admission, now_ns: u64) {
        self.ended();
        self.silent_ns = now_ns;
        self.trouble(as_what, true);
        if self.rules.breaker {
            self.bad(as_what, now_ns);
        }
    }

    /// It did not answer, and had so long.
    pub fn late(&mut self, as_what: Admission, had_ns: u64, now_ns: u64) {
        self.ended();
        let enough = had_ns >= self.rules.fair_ns || self.times.p95_ns().is_some_and(|p95| had_ns >= p95);
        #[cfg(test)]
        let enough = enough || self.planted == Some(Planted::AnyTimeoutCounts);
        if enough {
            self.trouble(as_what, true);
        }
        match (self.rules.breaker, enough) {
            (false, _) => {}
            (true, true) => self.bad(as_what, now_ns),
            (true, false) => self.breaker.neither(as_what, now_ns),
        }
    }

    /// A request that had begun did not leave.
    pub fn withdrawn(&mut self, as_what: Admission, now_ns: u64) {
        self.ended();
        self.unsent(as_what, now_ns);
    }

    /// A request that was admitted did not begin.
    pub fn unsent(&mut self, as_what: Admission, now_ns: u64) {
        self.breaker.unsent(as_what, now_ns);
    }

    /// Probes are the breaker's matter: when it closes all trouble is over.
    fn trouble(&mut self, as_what: Admission, bad: bool) {
        #[cfg(test)]
        if self.planted == Some(Planted::NeverTroubled) || self.planted == Some(Planted::StaysTroubled) && !bad {
            return;
        }
        if as_what != Admission::Probe {
            self.trouble.add(bad);
        } else if !bad {
            self.trouble = Trouble::default();
        }
    }

    #[cfg(test)]
    pub(super) fn hurry(&mut self, hurries: bool) {
        self.learned.hurries = hurries;
    }

    fn bad(&mut self, as_what: Admission, now_ns: u64) {
        #[cfg(test)]
        if self.planted == Some(Planted::NeverOpens) {
            return;
        }
        self.breaker.bad(as_what, &self.rules.opens, now_ns);
    }
}

/// Requests a second, of the last one for the most part.
#[derive(Clone, Debug, Default)]
struct Rate {
    slot: u64,
    here: u64,
    /// 256 times the requests of a slot.
    mean: u64,
}

impl Rate {
    fn add(&mut self, now_ns: u64) {
        let slot = now_ns / SLOT_NS;
        let passed = slot.saturating_sub(self.slot);
        if passed > 0 {
            self.mean = (self.mean * 7 + self.here * 256) / 8;
            for _ in 1..passed.min(64) {
                self.mean = self.mean * 7 / 8;
            }
            (self.slot, self.here) = (slot, 0);
        }
        self.here += 1;
    }

    /// What rises counts at once.
    fn per_s(&self) -> u64 {
        (self.mean / 256).max(self.here) * (1_000 * MS / SLOT_NS)
    }
}
