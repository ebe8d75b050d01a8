//! DSPs that fail and recover for an hour of virtual time: the healthy are never kept waiting, the dead are isolated, the
//! troubled are asked less, the recovered come back, and deadlines that are learned stay quiet. Every failure prints its seed; `OUTCRY_SIM_RUNS=1000` runs more, `OUTCRY_SIM_SEED=7` one.
use super::{
    breaker::{Admission, Rules as Opens, State},
    health::{Health, Levels, Rules, Verdict},
    learned, trouble,
};
use crate::{
    openrtb::codes::Outcome,
    units::{MS, Probability, mix},
};
use std::{cmp::Reverse, collections::BinaryHeap};

/// Faults that the simulation must find, each listed once.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(super) enum Planted {
            $($(#[$doc])* $name,)*
        }

        impl Planted {
            const ALL: &[Planted] = &[$(Planted::$name,)*];
        }
    };
}

faults! {
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
    /// Who fails now and then is asked as ever.
    NeverTroubled,
    /// Good answers are not minded.
    StaysTroubled,
    /// Who was too slow is never tried again.
    NeverExplores,
    /// Retry-After is not minded.
    IgnoresRetryAfter,
    /// Deadlines shrink without patience.
    Hurries,
}

const S: u64 = 1_000 * MS;
const HOUR: u64 = 3_600 * S;
const TIMEOUT: u64 = 70 * MS;
const SHORT: u64 = 8 * MS;
const MEAN_GAP: u64 = 20 * MS;
/// Longest time from a recovery to the first request that is asked as any other: open for 34.5 s, three probes.
const BACK: u64 = 36 * S;
/// The same from trouble and slowness: by then it is asked always. At fifty requests a second; what is asked less often is
/// known as much later.
const QUIET: u64 = 120 * S;
/// Seconds that one of them asks to be let alone for.
const RETRY_AFTER_S: u32 = 30;
const RULES: Rules = Rules {
    breaker: true,
    opens: Opens { failures: 5, percent: 50, open_ns: 30 * S },
    fair_ns: 35 * MS,
    limit: true,
    concurrency: 1_024,
    trouble: trouble::Rules { on: true, percent: 20, least: Probability::nearest(500) },
    skips: true,
    deadline: learned::Rules { on: true, most_ns: TIMEOUT, least_ns: 35 * MS },
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
    /// 503 with Retry-After.
    NotNow,
    /// A third of its answers is bad.
    Flaky,
    /// Two of five answers come too late.
    Stutters,
}
const ILL: [Mood; 10] = [
    Mood::Refuses,
    Mood::Resets,
    Mood::Silent,
    Mood::Slow,
    Mood::Fails,
    Mood::Garbage,
    Mood::TooMany,
    Mood::NotNow,
    Mood::Flaky,
    Mood::Stutters,
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    Failed,
    /// With this status, after so long.
    Answered(u16, u64),
    Garbage,
    Late(u64),
    Drained(u64),
}

/// When, which one, whose, how, as what it was asked (its probability of 10,000; 0: as a probe), and how long it was waited for.
type Ending = (u64, u64, usize, End, u16, u64);

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
    /// In this mood: by chance not asked; and since it last asked to be let alone: when that was, all, and those asked.
    withheld: u64,
    alone: (u64, u64, u64),
    /// Answers of a flaky one.
    answers: u64,
    /// When its deadline changed, the last of them.
    changes: Vec<u64>,
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
    troubled: u64,
    optimised_away: u64,
    changes: u64,
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
            health.hurry(planted == Some(Planted::Hurries));
            Dsp {
                health,
                moods,
                mood: Mood::Well,
                since_ns: 0,
                sent: 0,
                withheld: 0,
                alone: (0, 0, 0),
                answers: 0,
                changes: Vec::new(),
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
        while let Some(Reverse((at, i, d, end, as_what, waited))) = ends.peek().copied() {
            if at > next {
                break;
            }
            ends.pop();
            dsps[d].ended(end, as_what, (i, waited), at);
            dsps[d].deadline_changes(at, seen).map_err(|e| format!("seed {seed}, DSP {d} at {} s: {e}", at / S))?;
        }
        now = next;
        // Now and then a minute of requests with hardly any time: nobody's fault.
        let time = if now / (60 * S) % 7 == 3 { SHORT } else { TIMEOUT };
        for (d, dsp) in dsps.iter_mut().enumerate() {
            if let Some(&(at, mood)) = dsp.moods.last()
                && at <= now
            {
                dsp.phase_ends(now, seen).map_err(|e| format!("seed {seed}, DSP {d} at {} s: {e}", now / S))?;
                (dsp.mood, dsp.since_ns, dsp.sent, dsp.withheld) = (mood, now, 0, 0);
                dsp.moods.pop();
            }
            let asked = dsp.asked((time, mix(seed ^ mix(now))), now, d, seen);
            let Some((as_what, waited)) = asked.map_err(|e| format!("seed {seed}, DSP {d} at {} ms: {e}", now / MS))?
            else {
                continue;
            };
            let took = (2 + r.below(18)) * MS + if r.below(100) == 0 { r.below(30) * MS } else { 0 };
            let (after, end) = match dsp.mood {
                // A healthy one errs too, but for its first requests.
                Mood::Well if r.below(500) == 0 && !dsp.isolated => (took, End::Answered(500, took)),
                Mood::Well => (took, End::Answered([200, 204][r.below(2) as usize], took)),
                Mood::Refuses => (MS / 5, End::Failed),
                Mood::Resets => (MS, End::Failed),
                Mood::Silent => (u64::MAX, End::Failed),
                Mood::Slow => (500 * MS, End::Answered(200, 500 * MS)),
                Mood::Fails => (took, End::Answered([500, 503][r.below(2) as usize], took)),
                Mood::Garbage => (took, End::Garbage),
                Mood::TooMany => (took, End::Answered(429, took)),
                Mood::NotNow => (took, End::Answered(NOT_NOW, took)),
                Mood::Flaky => {
                    dsp.answers += 1;
                    (took, End::Answered(if dsp.answers.is_multiple_of(3) { 500 } else { 200 }, took))
                }
                Mood::Stutters => {
                    dsp.answers += 1;
                    let took = if dsp.answers % 5 < 2 { 90 * MS } else { took };
                    (took, End::Answered(200, took))
                }
            };
            n += 1;
            if after <= time {
                ends.push(Reverse((now + after, n, d, end, as_what, waited)));
            } else {
                ends.push(Reverse((now + time, n, d, End::Late(time), as_what, waited)));
                if after < 1_000 * MS {
                    ends.push(Reverse((now + after, n, d, End::Drained(after), as_what, waited)));
                }
            }
        }
    }
    Ok(())
}

/// Stands for a 503 with Retry-After.
const NOT_NOW: u16 = 999;

impl Dsp {
    /// As what it is asked, and how long it has.
    fn asked(
        &mut self,
        (time, entropy): (u64, u64),
        now: u64,
        d: usize,
        seen: &mut Seen,
    ) -> Result<Option<(u16, u64)>, String> {
        let well = self.mood == Mood::Well && (d < 2 || now > self.since_ns + BACK);
        let quiet = self.mood == Mood::Well && (d < 2 || now > self.since_ns + QUIET);
        let answer = self.health.admit(time, entropy, now);
        // From two seconds on: what was under way is over, and before it may grow again.
        let alone = self.alone.0 + 2 * S..self.alone.0 + u64::from(RETRY_AFTER_S - 1) * S;
        if self.alone.0 > 0 && alone.contains(&now) {
            self.alone.1 += 1;
            self.alone.2 += u64::from(answer.is_ok());
            if self.alone.1 > 200 && self.alone.2 * 4 > self.alone.1 {
                return Err(format!("{} of {} are sent to one that wants none", self.alone.2, self.alone.1));
            }
        }
        match answer.map_err(|not| (not.outcome, not)) {
            // For a while after it wanted less, one that is well gets less.
            Err((Outcome::Throttled, _)) if d >= 2 && !quiet => {
                seen.throttled += 1;
                Ok(None)
            }
            Err((Outcome::OptimisedAway, not)) if time == SHORT || !quiet => {
                seen.optimised_away += 1;
                self.withheld += 1;
                if not.probability < Probability::nearest(25) {
                    return Err(format!("asked with {:?}", not.probability));
                }
                Ok(None)
            }
            Err((Outcome::Troubled, not)) if d >= 2 && !quiet => {
                seen.troubled += 1;
                self.withheld += 1;
                if not.probability < RULES.trouble.least {
                    return Err(format!("asked with {:?}", not.probability));
                }
                Ok(None)
            }
            Err((outcome, _)) if well => Err(format!("a healthy one is not asked: {}", outcome.name())),
            Err(_) => Ok(None),
            Ok(admitted) => {
                self.sent += 1;
                let as_what = match admitted.as_what {
                    Admission::Probe => {
                        self.probes_out += 1;
                        if self.probes_out > 1 {
                            return Err(format!("{} probes at once", self.probes_out));
                        }
                        0
                    }
                    _ if self.isolated => return Err("asked after its fifth failure".to_owned()),
                    as_what => as_what.probability().of_10_000(),
                };
                self.health.began(now);
                Ok(Some((as_what, time.min(admitted.most_ns))))
            }
        }
    }

    /// No more changes in a minute than is said.
    fn deadline_changes(&mut self, now: u64, seen: &mut Seen) -> Result<(), String> {
        let (_, before, levels) = self.health.take_report();
        if before.cut_ns == levels.cut_ns {
            return Ok(());
        }
        seen.changes += 1;
        self.changes.push(now);
        let lately = self.changes.iter().rev().take_while(|at| **at + 60 * S > now).count();
        match lately <= learned::CHANGES_PER_MINUTE_MAX {
            true => Ok(()),
            false => Err(format!("{lately} changes of its deadline in a minute")),
        }
    }

    fn ended(&mut self, end: End, as_what: u16, (i, waited): (u64, u64), now: u64) {
        let probe = as_what == 0;
        let as_what = match as_what {
            0 => Admission::Probe,
            10_000 => Admission::Healthy,
            n => Admission::Troubled(Probability::nearest(n.into())),
        };
        let took = 10 * MS;
        let (good, fair) = match end {
            End::Drained(after) => return self.health.drained(as_what, after, now),
            End::Failed => (false, true),
            End::Garbage => (false, true),
            End::Answered(status, _) => (status < 500 || status == NOT_NOW, true),
            End::Late(had) => (false, had > SHORT),
        };
        match end {
            End::Failed => self.health.failed(as_what, now),
            End::Garbage => self.health.answered(Verdict::of(200, None, Some(b"<html>")), as_what, took, now),
            End::Answered(NOT_NOW, took) => {
                self.alone = (now, 0, 0);
                let verdict = Verdict::of(503, Some(RETRY_AFTER_S), None);
                self.health.answered(verdict, as_what, took, now);
            }
            End::Answered(status, took) => {
                self.health.answered(Verdict::of(status, None, Some(b"{}")), as_what, took, now);
                // What comes within 25 ms may win; a bid that comes later hardly ever does.
                let won = status == 200 && (took < 25 * MS && i.is_multiple_of(3) || i % 2_000 == 7);
                // What came behind a deadline that was learned nobody has read.
                match took <= waited {
                    true => self.health.told(Some(took), status == 200, won, now),
                    false => self.health.told(None, false, false, now),
                }
            }
            End::Late(had) => self.health.late(as_what, had, now),
            End::Drained(_) => {}
        }
        self.probes_out -= u32::from(probe);
        let less = matches!(end, End::Answered(429 | NOT_NOW, _));
        if !fair || less && !probe {
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
            Mood::TooMany | Mood::NotNow => {}
            Mood::Flaky | Mood::Stutters => {
                // Once it is known: less, and not nothing.
                if lasted > 60 * S && self.withheld == 0 && state == State::Closed {
                    return Err(format!("{:?} for {} s and asked as ever", self.mood, lasted / S));
                }
                let all = self.sent + self.withheld;
                if all > 1_000 && self.sent * 30 < all {
                    return Err(format!("{:?} and asked {} of {all} times", self.mood, self.sent));
                }
            }
            mood => {
                seen.phases += 1;
                // Those that fail before it opens, those in flight by then, and a probe each 25 s.
                // One that is late in a minute that has no time says nothing: fifteen of those.
                let most = 5 + 20 + lasted / (25 * S) + 1 + 15;
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
    assert!(seen.troubled > 0 && seen.optimised_away > 0 && seen.changes > 20, "{seen:?}");
}

#[test]
fn planted_faults_are_found() {
    for &fault in Planted::ALL {
        let found = (0..20).find_map(|seed| run(seed, Some(fault), &mut Seen::default()).err());
        println!("{fault:?}: {found:?}");
        assert!(found.is_some(), "{fault:?} was not found");
    }
}

/// Of a request that has all of its time.
fn as_what(health: &mut Health, now_ns: u64) -> Result<Admission, Outcome> {
    health.admit(TIMEOUT, now_ns, now_ns).map(|admitted| admitted.as_what).map_err(|not| not.outcome)
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
        match health.admit(TIMEOUT, i, now) {
            Ok(_) => {
                health.began(now);
                pending.push_back(now + 20 * MS);
                sent_in_silence += u64::from(i > 3_000);
            }
            Err(not) => assert_eq!((not.outcome, now > 4 * S), (Outcome::InFlight, true), "at {} ms", now / MS),
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
        assert_eq!(as_what(&mut health, now), Ok(Admission::Healthy));
        health.began(now);
        health.answered(Verdict::Good, Admission::Healthy, 10 * MS, now + 10 * MS);
    }
    let now = 200 * S;
    for i in 0..500 {
        assert_eq!(as_what(&mut health, now + i), Ok(Admission::Healthy), "request {i} of a burst");
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
    assert_eq!((as_what(&mut health, S), health.take_report().0), (Err(Outcome::BreakerOpen), 1));
    health.configure(Rules::OFF);
    assert_eq!((as_what(&mut health, S), health.take_report().2), (Ok(Admission::Healthy), Levels::default()));
    for _ in 0..1_000 {
        health.began(S);
        health.failed(Admission::Healthy, S);
        (0..3).for_each(|_| health.began(S));
        assert_eq!(as_what(&mut health, S), Ok(Admission::Healthy));
    }
}
