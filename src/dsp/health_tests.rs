//! DSPs that fail and recover for an hour of virtual time: the healthy are never kept waiting, the dead are isolated, the
//! recovered come back. Every failure prints its seed; `OUTCRY_SIM_RUNS=1000` runs more, `OUTCRY_SIM_SEED=7` one.
use super::{
    breaker::{Admission, Rules as Opens, State},
    health::{Health, Rules, Verdict},
};
use crate::{
    openrtb::codes::Outcome,
    units::{MS, mix},
};
use std::{cmp::Reverse, collections::BinaryHeap};

/// Faults that the simulation must find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Planted {
    /// Failures are not minded.
    NeverOpens,
    /// A timeout counts however little time there was.
    AnyTimeoutCounts,
    /// While it is half open all are probes.
    ProbesInBursts,
    /// Probes that succeed change nothing.
    NeverBack,
    /// One request in fifty is refused for nothing.
    Starves,
}

const S: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * S;
const TIMEOUT: u64 = 70 * MS;
const SHORT: u64 = 8 * MS;
const MEAN_GAP: u64 = 20 * MS;
/// Longest time from a recovery to the first request that is asked as any other: open for 34.5 s, three probes.
const BACK: u64 = 36 * S;
const RULES: Rules = Rules {
    breaker: true,
    opens: Opens { failures: 5, percent: 50, open_ns: 30 * S },
    fair_ns: 35 * MS,
    limit: true,
    concurrency: 1_024,
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    Well,
    Refuses,
    Resets,
    Silent,
    Slow,
    Fails,
    Garbage,
    TooMany,
}
const ILL: [Mood; 7] =
    [Mood::Refuses, Mood::Resets, Mood::Silent, Mood::Slow, Mood::Fails, Mood::Garbage, Mood::TooMany];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Failed,
    Answered(u16),
    Garbage,
    Late(u64),
    Drained(u64),
}

/// When, which one, whose, how, and of a probe?
type Ending = (u64, u64, usize, End, bool);

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % n
    }
}

struct Dsp {
    health: Health,
    /// From when on it is in which mood, last first.
    moods: Vec<(u64, Mood)>,
    mood: Mood,
    since_ns: u64,
    sent: u64,
    probes_out: u32,
    /// A second opinion: failures in a row, good probes; asked as usual?
    in_a_row: u32,
    probed: u32,
    isolated: bool,
}

#[derive(Default, Debug)]
struct Seen {
    phases: u64,
    isolated: u64,
    back: u64,
    throttled: u64,
}

fn run(seed: u64, planted: Option<Planted>, seen: &mut Seen) -> Result<(), String> {
    let mut r = Rng(mix(seed));
    let mut dsps: Vec<Dsp> = (0..6)
        .map(|d| {
            let mut moods = Vec::new();
            let mut at = (20 + r.below(60)) * S;
            // The first two are never ill.
            while d >= 2 && at < HOUR {
                moods.push((at, ILL[r.below(ILL.len() as u64) as usize]));
                at += (1 + r.below(240)) * S;
                moods.push((at, Mood::Well));
                at += (60 + r.below(300)) * S;
            }
            moods.reverse();
            let mut health = Health::new(RULES, r.below(u64::MAX));
            health.planted = planted;
            Dsp {
                health,
                moods,
                mood: Mood::Well,
                since_ns: 0,
                sent: 0,
                probes_out: 0,
                in_a_row: 0,
                probed: 0,
                isolated: false,
            }
        })
        .collect();
    let mut ends: BinaryHeap<Reverse<Ending>> = BinaryHeap::new();
    let (mut now, mut n) = (S, 0u64);
    while now < HOUR {
        let next = now + 1 + r.below(2 * MEAN_GAP);
        while let Some(Reverse((at, _, d, end, probe))) = ends.peek().copied() {
            if at > next {
                break;
            }
            ends.pop();
            dsps[d].ended(end, probe, at);
        }
        now = next;
        // Now and then a minute of requests with hardly any time: nobody's fault.
        let time = if now / (60 * S) % 7 == 3 { SHORT } else { TIMEOUT };
        for (d, dsp) in dsps.iter_mut().enumerate() {
            if let Some(&(at, mood)) = dsp.moods.last()
                && at <= now
            {
                dsp.phase_ends(now, seen).map_err(|e| format!("seed {seed}, DSP {d} at {} s: {e}", now / S))?;
                (dsp.mood, dsp.since_ns, dsp.sent) = (mood, now, 0);
                dsp.moods.pop();
            }
            let asked = dsp.asked(now, d, seen);
            let Some(admission) = asked.map_err(|e| format!("seed {seed}, DSP {d} at {} ms: {e}", now / MS))? else {
                continue;
            };
            let took = (2 + r.below(18)) * MS + if r.below(100) == 0 { r.below(30) * MS } else { 0 };
            let (after, end) = match dsp.mood {
                // A healthy one errs too, but for its first requests.
                Mood::Well if r.below(500) == 0 && !dsp.isolated => (took, End::Answered(500)),
                Mood::Well => (took, End::Answered([200, 204][r.below(2) as usize])),
                Mood::Refuses => (MS / 5, End::Failed),
                Mood::Resets => (MS, End::Failed),
                Mood::Silent => (u64::MAX, End::Failed),
                Mood::Slow => (500 * MS, End::Answered(200)),
                Mood::Fails => (took, End::Answered([500, 503][r.below(2) as usize])),
                Mood::Garbage => (took, End::Garbage),
                Mood::TooMany => (took, End::Answered(429)),
            };
            let probe = admission == Admission::Probe;
            n += 1;
            if after <= time {
                ends.push(Reverse((now + after, n, d, end, probe)));
            } else {
                ends.push(Reverse((now + time, n, d, End::Late(time), probe)));
                if after < 1_000 * MS {
                    ends.push(Reverse((now + after, n, d, End::Drained(after), probe)));
                }
            }
        }
    }
    Ok(())
}

impl Dsp {
    fn asked(&mut self, now: u64, d: usize, seen: &mut Seen) -> Result<Option<Admission>, String> {
        let well = self.mood == Mood::Well && (d < 2 || now > self.since_ns + BACK);
        match self.health.admit(now) {
            // For a while after it wanted less, one that is well gets less.
            Err(Outcome::Throttled) if d >= 2 => {
                seen.throttled += 1;
                Ok(None)
            }
            Err(outcome) if well => Err(format!("a healthy one is not asked: {}", outcome.name())),
            Err(_) => Ok(None),
            Ok(admission) => {
                self.sent += 1;
                match admission {
                    Admission::Probe => {
                        self.probes_out += 1;
                        if self.probes_out > 1 {
                            return Err(format!("{} probes at once", self.probes_out));
                        }
                    }
                    Admission::Healthy if self.isolated => return Err("asked after its fifth failure".to_owned()),
                    Admission::Healthy => {}
                }
                self.health.began(now);
                Ok(Some(admission))
            }
        }
    }

    fn ended(&mut self, end: End, probe: bool, now: u64) {
        let as_what = if probe { Admission::Probe } else { Admission::Healthy };
        let took = 10 * MS;
        let (good, fair) = match end {
            End::Drained(after) => return self.health.drained(after, now),
            End::Failed => (false, true),
            End::Garbage => (false, true),
            End::Answered(status) => (status < 500, true),
            End::Late(had) => (false, had > SHORT),
        };
        match end {
            End::Failed => self.health.failed(as_what, now),
            End::Garbage => self.health.answered(Verdict::of(200, None, Some(b"<html>")), as_what, took, now),
            End::Answered(status) => {
                self.health.answered(Verdict::of(status, None, Some(b"{}")), as_what, took, now);
            }
            End::Late(had) => self.health.late(as_what, had, now),
            End::Drained(_) => {}
        }
        self.probes_out -= u32::from(probe);
        if !fair || end == End::Answered(429) && !probe {
            return;
        }
        match (good, probe) {
            (true, true) => self.probed += 1,
            (false, true) => self.probed = 0,
            (true, false) => self.in_a_row = 0,
            (false, false) if !self.isolated => self.in_a_row += 1,
            (false, false) => {}
        }
        if self.in_a_row >= 5 && !self.isolated {
            (self.isolated, self.in_a_row, self.probed) = (true, 0, 0);
        }
        if self.probed >= 3 {
            (self.isolated, self.in_a_row, self.probed) = (false, 0, 0);
        }
    }

    fn phase_ends(&mut self, now: u64, seen: &mut Seen) -> Result<(), String> {
        let lasted = now - self.since_ns;
        let state = self.health.state();
        match self.mood {
            Mood::Well if self.since_ns == 0 => {}
            Mood::Well => {
                if state != State::Closed {
                    return Err(format!("not back {} s after its recovery", lasted / S));
                }
                seen.back += 1;
            }
            Mood::TooMany if lasted > 20 * S => {
                // A request in a hundred, or what it was let have before.
                let asked = lasted / MEAN_GAP;
                if self.sent < asked / 100 || state == State::Open && self.sent == 0 {
                    return Err(format!("left alone for wanting less: {} of {asked}", self.sent));
                }
            }
            Mood::TooMany => {}
            mood => {
                seen.phases += 1;
                // Those that fail before it opens, those in flight by then, and a probe each 25 s.
                let most = 5 + 20 + lasted / (25 * S) + 1;
                // Half of a phase may pass with requests that have no time.
                if mood != Mood::Silent && mood != Mood::Slow && lasted > 5 * S || lasted > 80 * S {
                    if self.sent > most + if mood == Mood::Silent || mood == Mood::Slow { 62 * 50 } else { 0 } {
                        return Err(format!("{mood:?} for {} s and asked {} times", lasted / S, self.sent));
                    }
                    seen.isolated += 1;
                }
            }
        }
        Ok(())
    }
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    match number("OUTCRY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTCRY_SIM_RUNS").unwrap_or(4),
    }
}

#[test]
fn an_hour_of_dsps_that_fail_and_recover() {
    let mut seen = Seen::default();
    for seed in seeds() {
        run(seed, None, &mut seen).unwrap_or_else(|e| panic!("{e}"));
    }
    println!("{} hours: {seen:?}", seeds().count());
    assert!(seen.isolated > 20 && seen.back > 20 && seen.throttled > 0, "{seen:?}");
}

#[test]
fn planted_faults_are_found() {
    use Planted::*;
    for fault in [NeverOpens, AnyTimeoutCounts, ProbesInBursts, NeverBack, Starves] {
        let found = (0..20).find_map(|seed| run(seed, Some(fault), &mut Seen::default()).err());
        println!("{fault:?}: {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}

#[test]
fn silence_is_suspected_before_the_first_timeout() {
    let mut health = Health::new(RULES, 1);
    // A thousand a second, each answered within 20 ms.
    let mut now = S;
    let mut pending = std::collections::VecDeque::new();
    let mut sent_in_silence = 0;
    for i in 0..3_070u64 {
        now += MS;
        while pending.front().is_some_and(|at| *at <= now) && now < 4 * S {
            pending.pop_front();
            health.answered(Verdict::Good, Admission::Healthy, 20 * MS, now);
        }
        match health.admit(now) {
            Ok(_) => {
                health.began(now);
                pending.push_back(now + 20 * MS);
                sent_in_silence += u64::from(i > 3_000);
            }
            Err(outcome) => assert_eq!((outcome, now > 4 * S), (Outcome::InFlight, true), "at {} ms", now / MS),
        }
    }
    assert!((10..35).contains(&sent_in_silence), "{sent_in_silence} of 69 in the time before the first timeout");
    assert!(health.in_flight() <= 52, "{}", health.in_flight());
}

#[test]
fn a_burst_is_not_silence() {
    let mut health = Health::new(RULES, 1);
    for i in 0..100 {
        let now = (1 + i) * S;
        assert_eq!(health.admit(now), Ok(Admission::Healthy));
        health.began(now);
        health.answered(Verdict::Good, Admission::Healthy, 10 * MS, now + 10 * MS);
    }
    let now = 200 * S;
    for i in 0..500 {
        assert_eq!(health.admit(now + i), Ok(Admission::Healthy), "request {i} of a burst");
        health.began(now + i);
    }
}

#[test]
fn what_answers_say() {
    let rows = [
        (200, None, Some(&b" {\"id\":\"1\"} "[..]), Verdict::Good),
        (200, None, Some(b""), Verdict::Good),
        (200, None, Some(b"<html></html>"), Verdict::Bad),
        (200, None, Some(b"{\"id\": tr"), Verdict::Bad),
        (200, None, None, Verdict::Bad),
        (204, None, None, Verdict::Good),
        (400, None, None, Verdict::Neither),
        (302, None, None, Verdict::Neither),
        (429, None, None, Verdict::Less(None)),
        (429, Some(3), None, Verdict::Less(Some(3))),
        (503, Some(0), None, Verdict::Less(Some(0))),
        (503, None, None, Verdict::Bad),
        (500, Some(3), None, Verdict::Bad),
        (999, None, None, Verdict::Bad),
    ];
    for (status, wait, body, want) in rows {
        assert_eq!(Verdict::of(status, wait, body), want, "{status} {wait:?} {body:?}");
    }
}

#[test]
fn switched_off_it_asks_whatever_comes() {
    let mut health = Health::new(RULES, 1);
    (0..5).for_each(|_| {
        health.began(S);
        health.failed(Admission::Healthy, S);
    });
    assert_eq!((health.admit(S), health.take_turns()), (Err(Outcome::BreakerOpen), (1, 0)));
    health.configure(Rules::OFF);
    assert_eq!((health.admit(S), health.take_turns()), (Ok(Admission::Healthy), (0, 1)));
    for _ in 0..1_000 {
        health.began(S);
        health.failed(Admission::Healthy, S);
        (0..3).for_each(|_| health.began(S));
        assert_eq!(health.admit(S), Ok(Admission::Healthy));
    }
}
