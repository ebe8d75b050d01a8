//! How long a DSP's answers are worth waiting for: less than it may take, once those that come later never win.
//! Owns: the learned deadline of one DSP. Runs on: each bidder core, one per DSP. Called by: [`super::health`].
//! Never: goes below the configured least or below what 95 of 100 of its answers take; changes more than
//! [`CHANGES_PER_MINUTE_MAX`] times in any minute; starves: one auction in 64 gives everybody all of the time, so that it is known
//! whether later answers win again.
//!
//! It shrinks slowly, an eighth at a time and only after many answers without one that won behind it, and gives everything back
//! at once: when a later answer wins, or when more than five of 100 come later. After that it stays as it is for a minute.
use crate::units::{MS, Probability};

/// It shrinks by an eighth, at most once in this time.
const SHRINK_NS: u64 = 15_000 * MS;
/// Given back, it does not shrink for so long.
const HOLD_NS: u64 = 60_000 * MS;
/// And after so many answers since its last change, none of which won behind what it would become.
const ANSWERS: u32 = 512;
/// Four times it may shrink in a minute, and give back once.
pub const CHANGES_PER_MINUTE_MAX: usize = (HOLD_NS / SHRINK_NS) as usize + 1;
/// Auctions in which everybody has all of the time there is.
pub const EXPLORED: Probability = Probability::nearest(10_000 / 64);

/// What is configured of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// It shrinks at all.
    pub on: bool,
    /// All that it may take.
    pub most_ns: u64,
    /// It does not shrink below.
    pub least_ns: u64,
}

impl Rules {
    /// Everybody has all of the time there is.
    pub const OFF: Rules = Rules { on: false, most_ns: u64::MAX, least_ns: u64::MAX };
}

/// The learned deadline of one DSP.
#[derive(Clone, Debug)]
pub struct Learned {
    now_ns: u64,
    /// It may shrink from then on.
    shrinks_ns: u64,
    /// Answers since the last change, and the latest of them that won.
    answers: u32,
    latest_win_ns: u64,
    #[cfg(test)]
    pub(super) hurries: bool,
}

impl Learned {
    /// All of the time there is.
    pub fn new(rules: &Rules) -> Learned {
        Learned {
            now_ns: rules.most_ns,
            shrinks_ns: 0,
            answers: 0,
            latest_win_ns: 0,
            #[cfg(test)]
            hurries: false,
        }
    }

    /// A DSP's answer is waited for so long, from when it is asked.
    #[inline]
    pub fn deadline_ns(&self) -> u64 {
        self.now_ns
    }

    /// By how much it is shorter than it may be.
    pub fn cut_ns(&self, rules: &Rules) -> u64 {
        rules.most_ns.saturating_sub(self.now_ns)
    }

    /// An answer was read that had taken so long; did it win anything? `p95_ns`: of the DSP's answers, if that is known.
    #[inline]
    pub fn heard(&mut self, took_ns: u64, won: bool, p95_ns: Option<u64>, rules: &Rules, now_ns: u64) {
        if !rules.on {
            return;
        }
        self.answers = self.answers.saturating_add(1);
        if won {
            self.latest_win_ns = self.latest_win_ns.max(took_ns);
        }
        if self.now_ns < rules.most_ns {
            if won && took_ns > self.now_ns || p95_ns.is_none_or(|p95| p95 > self.now_ns) {
                self.change(rules.most_ns, now_ns + HOLD_NS);
                return;
            }
        } else {
            self.now_ns = rules.most_ns;
        }
        if self.answers >= ANSWERS {
            self.shrink(p95_ns, rules, now_ns);
        }
    }

    fn shrink(&mut self, p95_ns: Option<u64>, rules: &Rules, now_ns: u64) {
        #[cfg(test)]
        if self.hurries {
            self.shrinks_ns = 0;
        }
        let next = (self.now_ns - self.now_ns / 8).max(rules.least_ns);
        let is_enough = p95_ns.is_some_and(|p95| p95 <= next);
        if next < self.now_ns && is_enough && self.latest_win_ns <= next && now_ns >= self.shrinks_ns {
            self.change(next, now_ns + SHRINK_NS);
        } else if self.latest_win_ns > next {
            // What won then is forgotten by and by: a late win counts for as many answers again.
            (self.answers, self.latest_win_ns) = (0, 0);
        }
    }

    fn change(&mut self, to_ns: u64, shrinks_ns: u64) {
        (self.now_ns, self.shrinks_ns) = (to_ns, shrinks_ns);
        (self.answers, self.latest_win_ns) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;

    const S: u64 = 1_000 * MS;
    const RULES: Rules = Rules { on: true, most_ns: 70 * MS, least_ns: 35 * MS };
    const P95: Option<u64> = Some(20 * MS);

    /// Answers of every 10 ms, from and until these seconds: `took(i)`, and whether it won. When it changed.
    fn drive(
        l: &mut Learned,
        s: std::ops::Range<u64>,
        answer: impl Fn(u64) -> (u64, bool, Option<u64>),
    ) -> Vec<(u64, u64)> {
        let mut changes = Vec::new();
        for i in s.start * 100..s.end * 100 {
            let (before, now_ns) = (l.deadline_ns(), (i + 1) * 10 * MS);
            let (took_ns, won, p95_ns) = answer(i);
            // Only who was given all of the time can come later.
            let explored = EXPLORED.happens(mix(i));
            if took_ns <= before || explored {
                l.heard(took_ns, won, p95_ns, &RULES, now_ns);
            }
            if l.deadline_ns() != before {
                changes.push((now_ns, l.deadline_ns()));
            }
        }
        changes
    }

    fn most_in_a_minute(changes: &[(u64, u64)]) -> usize {
        let within = |from: u64| changes.iter().filter(|(at, _)| (from..from + 60 * S).contains(at)).count();
        changes.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }

    #[test]
    fn it_shrinks_to_the_least_while_nothing_late_wins_and_no_further() {
        let mut l = Learned::new(&RULES);
        // Everything wins, within 20 ms; one in a hundred answers is late and never does.
        let changes = drive(&mut l, 0..300, |i| {
            if i.is_multiple_of(100) { (60 * MS, false, P95) } else { (15 * MS, i.is_multiple_of(3), P95) }
        });
        assert_eq!(l.deadline_ns(), RULES.least_ns);
        assert_eq!(changes.len(), 6, "an eighth at a time: {changes:?}");
        assert!(changes.is_sorted_by(|a, b| b.0 >= a.0 + SHRINK_NS && b.1 < a.1), "{changes:?}");
        assert_eq!(l.cut_ns(&RULES), 35 * MS);
        // Nor below what most of its answers take.
        let mut l = Learned::new(&RULES);
        drive(&mut l, 0..300, |_| (15 * MS, false, Some(55 * MS)));
        assert!((55 * MS..62 * MS).contains(&l.deadline_ns()), "{}", l.deadline_ns() / MS);
    }

    #[test]
    fn it_stays_where_late_answers_win() {
        let mut l = Learned::new(&RULES);
        // One in two hundred wins at 65 ms.
        let changes =
            drive(&mut l, 0..3_600, |i| if i % 200 == 7 { (65 * MS, true, P95) } else { (15 * MS, false, P95) });
        assert_eq!((l.deadline_ns(), changes.len()), (RULES.most_ns, 0));
    }

    #[test]
    fn it_is_given_back_at_once() {
        let settled = || {
            let mut l = Learned::new(&RULES);
            drive(&mut l, 0..300, |_| (15 * MS, true, P95));
            assert_eq!(l.deadline_ns(), RULES.least_ns);
            l
        };
        let mut l = settled();
        l.heard(40 * MS, true, P95, &RULES, 301 * S);
        assert_eq!(l.deadline_ns(), RULES.most_ns, "a later answer won");
        let mut l = settled();
        l.heard(10 * MS, false, Some(36 * MS), &RULES, 301 * S);
        assert_eq!(l.deadline_ns(), RULES.most_ns, "it has become slower");
        // And not taken again for a minute.
        let changes = drive(&mut l, 302..420, |_| (15 * MS, true, P95));
        assert!(changes[0].0 >= 361 * S, "{changes:?}");
    }

    /// Late answers that win just as it has shrunk, minutes of slowness, all by chance: an hour of each seed.
    fn worst_of_an_hour(seed: u64, hurries: bool) -> (usize, usize) {
        let mut l = Learned { hurries, ..Learned::new(&RULES) };
        let changes = drive(&mut l, 0..3_600, |i| {
            let r = mix(seed ^ mix(i));
            let slow = mix(seed ^ (i / 700)).is_multiple_of(5);
            let late = r % 1_000 < 4 && mix(seed ^ 9 ^ (i / 3_000)).is_multiple_of(3);
            let took = if late { 36 + r % 34 } else { 10 + r % 20 };
            (took * MS, r.is_multiple_of(3), Some(if slow { 50 * MS } else { 20 * MS }))
        });
        (changes.len(), most_in_a_minute(&changes))
    }

    #[test]
    fn it_does_not_oscillate() {
        let mut all = 0;
        for seed in 0..20 {
            let (changes, most) = worst_of_an_hour(seed, false);
            all += changes;
            assert!(most <= CHANGES_PER_MINUTE_MAX, "seed {seed}: {most} changes in a minute, of {changes}");
        }
        assert!(all > 200, "{all} changes in 20 hours show nothing");
        // The same without its patience is found.
        let found = (0..20).map(|seed| worst_of_an_hour(seed, true).1).max();
        assert!(found > Some(CHANGES_PER_MINUTE_MAX), "{found:?}");
    }

    #[test]
    fn switched_off_it_is_all_of_the_time() {
        let mut l = Learned::new(&Rules::OFF);
        (0..10_000).for_each(|i| l.heard(MS, true, P95, &Rules::OFF, i * S));
        assert_eq!(l.deadline_ns(), u64::MAX);
    }
}
