//! One core's view of one DSP: may it be asked, and what its answers and silences say.
//! Owns: breaker, throttle, answer times, requests in flight. Runs on: each bidder core, one per DSP, for as long as the DSP
//! keeps its name. Called by: `bidder/egress`. Never: allocates, shares anything with another core, reads a clock.
//!
//! A request is admitted, begins, and ends once: answered, failed, late, or withdrawn. In flight may be
//! `max(8, 2 x rate x p99)`, before anything is learned `max(8, connections)`; the limit counts only while nothing has come
//! from the DSP for longer than its p99, so that it stops silence before the first timeout and no burst.
#[cfg(test)]
use super::health_tests::Planted;
use super::{
    breaker::{self, Admission, Breaker, State},
    throttle::Throttle,
    times::AnswerTimes,
};
use crate::{openrtb::codes::Outcome, units::MS};

/// So many may always be in flight.
const IN_FLIGHT_LEAST: u64 = 8;
/// Requests are counted in slots of this.
const SLOT_NS: u64 = 100 * MS;

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
}

impl Rules {
    /// For whom nothing is decided here.
    pub const OFF: Rules = Rules {
        breaker: false,
        opens: breaker::Rules { failures: u32::MAX, percent: 100, open_ns: 0 },
        fair_ns: u64::MAX,
        limit: false,
        concurrency: u64::MAX,
    };
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
    times: AnswerTimes,
    wanted: Rate,
    in_flight: u64,
    /// Nothing was heard since; from the first in flight on, if there was none before it.
    silent_ns: u64,
    /// Of the breaker's counts: those that were reported.
    reported: (u64, u64),
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
            times: AnswerTimes::default(),
            wanted: Rate::default(),
            in_flight: 0,
            silent_ns: 0,
            reported: (0, 0),
            #[cfg(test)]
            planted: None,
        }
    }

    /// From now on by these rules. What is known stays, unless nobody is to act on it.
    pub fn configure(&mut self, rules: Rules) {
        self.rules = rules;
        if !rules.breaker {
            self.breaker.close();
            self.throttle = Throttle::default();
        }
    }

    /// May one more request go, and as what? A probe that does not [begin](Health::began) has to be
    /// [given up](Health::unsent).
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&mut self, now_ns: u64) -> Result<Admission, Outcome> {
        self.wanted.add(now_ns);
        #[cfg(test)]
        match self.planted {
            Some(Planted::ProbesInBursts) if self.state() == State::HalfOpen => return Ok(Admission::Probe),
            Some(Planted::Starves) if now_ns % 50 == 7 => return Err(Outcome::InFlight),
            _ => {}
        }
        if self.rules.breaker {
            let admission = self.breaker.admit(now_ns).ok_or(Outcome::BreakerOpen)?;
            if admission == Admission::Probe {
                return Ok(admission);
            }
            if !self.throttle.passes(now_ns) {
                return Err(Outcome::Throttled);
            }
        }
        if self.rules.limit && self.in_flight >= IN_FLIGHT_LEAST && self.is_silent(now_ns) {
            return Err(Outcome::InFlight);
        }
        Ok(Admission::Healthy)
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

    /// How often the breaker opened and closed since this was asked for the last time.
    pub fn take_turns(&mut self) -> (u64, u64) {
        let all = (self.breaker.opened, self.breaker.closed);
        let before = std::mem::replace(&mut self.reported, all);
        (all.0 - before.0, all.1 - before.1)
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
        self.drained(took_ns, now_ns);
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
                self.throttle.less(wait, now_ns);
                // A probe is answered by somebody who is back.
                match as_what {
                    Admission::Probe => self.breaker.good(as_what, now_ns),
                    Admission::Healthy => {}
                }
            }
            (Verdict::Neither, _) => self.breaker.neither(as_what, now_ns),
        }
    }

    /// An answer that nobody waits for any more came whole all the same.
    pub fn drained(&mut self, took_ns: u64, now_ns: u64) {
        self.silent_ns = now_ns;
        self.times.add(took_ns);
    }

    /// An answer whose [`Verdict`] was good was read, or could not be.
    pub fn read(&mut self, readable: bool, as_what: Admission, now_ns: u64) {
        if self.rules.breaker {
            self.breaker.read(readable, as_what, &self.rules.opens, now_ns);
        }
    }

    /// No connection, or it broke, or what came on it was no answer.
    pub fn failed(&mut self, as_what: Admission, now_ns: u64) {
        self.ended();
        self.silent_ns = now_ns;
        if self.rules.breaker {
            self.bad(as_what, now_ns);
        }
    }

    /// It did not answer, and had so long.
    pub fn late(&mut self, as_what: Admission, had_ns: u64, now_ns: u64) {
        self.ended();
        if !self.rules.breaker {
            return;
        }
        let enough = had_ns >= self.rules.fair_ns || self.times.p95_ns().is_some_and(|p95| had_ns >= p95);
        #[cfg(test)]
        let enough = enough || self.planted == Some(Planted::AnyTimeoutCounts);
        if enough {
            self.bad(as_what, now_ns);
        } else {
            self.breaker.neither(as_what, now_ns);
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
