//! Whether a DSP that fails is asked: closed (asked), open (not), half-open (one probe at a time).
//! Owns: one core's opinion of one DSP. Runs on: each bidder core. Called by: [`super::health`].
//! Never: knows what a failure is; lets two probes out at once; shares what it knows with another core.
use crate::units::{MS, Probability, mix};

/// Probes that have to succeed, one after the other.
pub const SUCCESSES: u32 = 3;
/// A probe of which nothing is heard for so long is forgotten, and the next one goes.
const PROBE_NS: u64 = 10_000 * MS;
/// After a probe that never left: nothing is known, and nobody is in a hurry.
const UNSENT_NS: u64 = 100 * MS;
/// Within this it is probed where nearly all are out.
const HASTENED_NS: u64 = 1_000 * MS;
/// Half of the window in which the rate of failures is taken.
const HALF_WINDOW_NS: u64 = 5_000 * MS;
/// Fewer answers than this have no rate.
const RATE_LEAST: u32 = 20;

/// When it opens, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Failures in a row.
    pub failures: u32,
    /// Failures of 100 in ten seconds.
    pub percent: u32,
    /// It stays open so long, give or take 15 of 100.
    pub open_ns: u64,
}

/// How a request may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// As any other.
    #[default]
    Healthy,
    /// With this probability, in spite of its trouble or of the little time it has: as a healthy one, but not waited for.
    Troubled(Probability),
    /// To see whether it is back: nobody should wait for the answer.
    Probe,
}

impl Admission {
    /// With which probability it was let go.
    pub fn probability(self) -> Probability {
        match self {
            Admission::Troubled(probability) => probability,
            Admission::Healthy | Admission::Probe => Probability::ALWAYS,
        }
    }

    /// Is the answer waited for, whoever else was asked?
    pub fn is_awaited(self) -> bool {
        self == Admission::Healthy
    }
}

/// The three states.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// All is well.
    #[default]
    Closed,
    /// It is not asked.
    Open,
    /// It is probed.
    HalfOpen,
}

/// The breaker of one DSP on one core.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: State,
    /// Open: until then. Half-open: the probe that is out is forgotten then, or, with none, the next waits till then.
    until_ns: u64,
    probing: bool,
    /// Failures in a row, and good answers that could not be read after all.
    failures: u32,
    unread: u32,
    successes: u32,
    window: Window,
    salt: u64,
    /// How often it opened and closed again.
    pub opened: u64,
    /// See `opened`.
    pub closed: u64,
}

impl Breaker {
    /// A closed one. `salt` keeps cores from opening and closing in step.
    pub fn new(salt: u64) -> Breaker {
        Breaker { salt, ..Breaker::default() }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// May a request go? A probe is out from then on, until one of the calls below says what became of it.
    pub fn admit(&mut self, now_ns: u64) -> Option<Admission> {
        match self.state {
            State::Closed => Some(Admission::Healthy),
            _ if now_ns < self.until_ns => None,
            State::Open | State::HalfOpen => {
                if self.state == State::Open {
                    (self.state, self.successes) = (State::HalfOpen, 0);
                }
                (self.probing, self.until_ns) = (true, now_ns + PROBE_NS);
                Some(Admission::Probe)
            }
        }
    }

    /// It did what it should.
    pub fn good(&mut self, as_what: Admission, now_ns: u64) {
        match (self.state, as_what) {
            (State::Closed, _) => {
                self.failures = 0;
                self.window.add(false, now_ns);
            }
            (State::HalfOpen, Admission::Probe) => {
                self.back(now_ns);
                self.successes += 1;
                if self.successes >= SUCCESSES {
                    self.close();
                }
            }
            // What was under way as it opened says nothing of now.
            _ => {}
        }
    }

    /// It failed.
    pub fn bad(&mut self, as_what: Admission, rules: &Rules, now_ns: u64) {
        match (self.state, as_what) {
            (State::Closed, _) => {
                self.failures += 1;
                self.window.add(true, now_ns);
                if self.failures >= rules.failures || self.window.is_above(rules.percent) {
                    self.open(rules, now_ns);
                }
            }
            (State::HalfOpen, Admission::Probe) => self.open(rules, now_ns),
            _ => {}
        }
    }

    /// An answer that had been called good was read when its auction closed, or could not be.
    pub fn read(&mut self, readable: bool, as_what: Admission, rules: &Rules, now_ns: u64) {
        if readable {
            self.unread = 0;
            return;
        }
        match (self.state, as_what) {
            (State::Closed, _) => {
                self.unread += 1;
                self.window.was_bad();
                if self.unread >= rules.failures || self.window.is_above(rules.percent) {
                    self.open(rules, now_ns);
                }
            }
            (State::HalfOpen, Admission::Probe) => self.open(rules, now_ns),
            _ => {}
        }
    }

    /// Nothing was learned, but that it was sent.
    pub fn neither(&mut self, as_what: Admission, now_ns: u64) {
        if (self.state, as_what) == (State::HalfOpen, Admission::Probe) {
            self.back(now_ns);
        }
    }

    /// It was never sent.
    pub fn unsent(&mut self, as_what: Admission, now_ns: u64) {
        if (self.state, as_what) == (State::HalfOpen, Admission::Probe) {
            self.back(now_ns + UNSENT_NS);
        }
    }

    /// Nearly all DSPs are out at once, so the fault is likely not theirs: it is probed within a second, whatever its rules say.
    pub fn hasten(&mut self, now_ns: u64) {
        if self.state == State::Open {
            // Not all of them in one moment.
            self.until_ns = self.until_ns.min(now_ns + mix(self.salt) % HASTENED_NS);
        }
    }

    /// Closed, whatever it was.
    pub fn close(&mut self) {
        if self.state != State::Closed {
            self.closed += 1;
        }
        (self.state, self.probing, self.failures, self.unread) = (State::Closed, false, 0, 0);
        self.window = Window::default();
    }

    fn back(&mut self, next_ns: u64) {
        (self.probing, self.until_ns) = (false, next_ns);
    }

    fn open(&mut self, rules: &Rules, now_ns: u64) {
        if self.state == State::Closed {
            self.opened += 1;
        }
        self.salt = mix(self.salt ^ now_ns);
        let permille = 850 + self.salt % 301;
        (self.state, self.probing) = (State::Open, false);
        self.until_ns = now_ns.saturating_add(rules.open_ns / 1_000 * permille);
        (self.failures, self.unread, self.window) = (0, 0, Window::default());
    }
}

/// Answers of the last five to ten seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    half: u64,
    /// Of this half and of the one before: all, and bad ones.
    counts: [(u32, u32); 2],
}

impl Window {
    fn add(&mut self, bad: bool, now_ns: u64) {
        let half = now_ns / HALF_WINDOW_NS;
        if half != self.half {
            let before = if half == self.half + 1 { self.counts[0] } else { (0, 0) };
            (self.half, self.counts) = (half, [(0, 0), before]);
        }
        self.counts[0].0 = self.counts[0].0.saturating_add(1);
        self.counts[0].1 = self.counts[0].1.saturating_add(u32::from(bad));
    }

    /// One that had been counted was bad.
    fn was_bad(&mut self) {
        self.counts[0].1 = (self.counts[0].1 + 1).min(self.counts[0].0);
    }

    fn is_above(&self, percent: u32) -> bool {
        let [(all, bad), (all_before, bad_before)] = self.counts;
        let (all, bad) = (u64::from(all) + u64::from(all_before), u64::from(bad) + u64::from(bad_before));
        all >= u64::from(RATE_LEAST) && bad * 100 >= all * u64::from(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { failures: 5, percent: 50, open_ns: 30_000 * MS };
    const S: u64 = 1_000 * MS;

    fn opened_at(now_ns: u64) -> Breaker {
        let mut b = Breaker::new(7);
        (0..5).for_each(|_| b.bad(Admission::Healthy, &RULES, now_ns));
        assert_eq!((b.state(), b.opened), (State::Open, 1));
        b
    }

    #[test]
    fn five_in_a_row_open_it_and_four_do_not() {
        let mut b = Breaker::new(1);
        for round in 0..3 {
            (0..4).for_each(|_| b.bad(Admission::Healthy, &RULES, S));
            assert_eq!(b.state(), State::Closed, "round {round}");
            (0..9).for_each(|_| b.good(Admission::Healthy, S));
        }
        (0..5).for_each(|_| b.bad(Admission::Healthy, &RULES, S));
        assert_eq!((b.state(), b.admit(S)), (State::Open, None));
    }

    #[test]
    fn half_of_many_open_it_too() {
        let mut b = Breaker::new(1);
        let mut n = 0;
        while b.state() == State::Closed {
            b.good(Admission::Healthy, S);
            b.bad(Admission::Healthy, &RULES, S);
            n += 2;
        }
        assert_eq!(n, RATE_LEAST);
        // As slowly that the window forgets: never.
        let mut b = Breaker::new(1);
        for i in 0..1_000 {
            b.good(Admission::Healthy, 2 * i * S);
            b.bad(Admission::Healthy, &RULES, 2 * i * S);
        }
        assert_eq!(b.state(), State::Closed);
    }

    #[test]
    fn it_stays_open_for_half_a_minute_give_or_take() {
        let times: Vec<u64> = (0..200)
            .map(|i| {
                let mut b = opened_at(i);
                (0..60_000).find(|ms| b.admit(i + ms * MS).is_some()).expect("half open")
            })
            .collect();
        let (least, most) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
        assert!((25_500..27_000).contains(least) && (33_000..=34_501).contains(most), "{least} {most}");
    }

    #[test]
    fn one_probe_at_a_time_and_three_close_it() {
        let mut b = opened_at(0);
        let t = 40 * S;
        for n in 0..SUCCESSES {
            assert_eq!(b.admit(t), Some(Admission::Probe), "{n}");
            assert_eq!(b.admit(t), None, "while one is out");
            b.good(Admission::Healthy, t); // an old one
            assert_eq!((b.state(), b.admit(t + S)), (State::HalfOpen, None));
            b.good(Admission::Probe, t);
        }
        assert_eq!((b.state(), b.admit(t), b.closed), (State::Closed, Some(Admission::Healthy), 1));
    }

    #[test]
    fn a_probe_that_fails_opens_it_again_and_is_one_opening() {
        let mut b = opened_at(0);
        assert_eq!(b.admit(40 * S), Some(Admission::Probe));
        b.bad(Admission::Healthy, &RULES, 40 * S);
        assert_eq!(b.state(), State::HalfOpen);
        b.bad(Admission::Probe, &RULES, 40 * S);
        assert_eq!((b.state(), b.opened, b.admit(41 * S)), (State::Open, 1, None));
    }

    #[test]
    fn a_probe_that_is_never_heard_of_does_not_keep_it_out_for_ever() {
        let mut b = opened_at(0);
        assert_eq!(b.admit(40 * S), Some(Admission::Probe));
        assert_eq!((b.admit(49 * S), b.admit(50 * S)), (None, Some(Admission::Probe)));
        b.unsent(Admission::Probe, 51 * S);
        assert_eq!((b.admit(51 * S), b.admit(52 * S)), (None, Some(Admission::Probe)));
        b.neither(Admission::Probe, 53 * S);
        assert_eq!(b.admit(53 * S), Some(Admission::Probe));
    }

    #[test]
    fn hastened_it_is_probed_within_a_second() {
        for salt in 0..50 {
            let mut b = opened_at(salt);
            b.hasten(2 * S);
            assert_eq!((b.state(), b.admit(3 * S)), (State::Open, Some(Admission::Probe)), "{salt}");
            b.bad(Admission::Probe, &RULES, 3 * S);
            assert_eq!(b.admit(4 * S), None, "and is open again as long as ever");
        }
        // What is closed or probed is not touched.
        let mut b = Breaker::new(1);
        b.hasten(S);
        assert_eq!(b.admit(S), Some(Admission::Healthy));
    }

    #[test]
    fn what_cannot_be_read_after_all_opens_it() {
        let mut b = Breaker::new(1);
        for _ in 0..5 {
            b.good(Admission::Healthy, S);
            b.read(false, Admission::Healthy, &RULES, S);
        }
        assert_eq!(b.state(), State::Open);
    }
}
