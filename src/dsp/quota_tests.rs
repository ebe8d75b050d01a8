//! A server in virtual time: cores with traffic of their own, letters that take their time, configurations that change.
use super::*;
use crate::{auction::fixtures::dsp, units::mix};

const S: u64 = 1_000 * MS;

/// What is broken on purpose, so that it is known to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Planted {
    Nothing,
    /// Control lets a share grow before another core has given it up.
    GrowsAtOnce,
    /// No core's share ever changes.
    NeverMoves,
}

fn dsps(qps: &[Option<u64>]) -> Vec<Dsp> {
    let named = |(at, qps): (usize, &Option<u64>)| Dsp { qps: *qps, ..dsp(&format!("d{at}")) };
    qps.iter().enumerate().map(named).collect()
}

struct World {
    cores: Vec<Quotas>,
    sharing: Sharing,
    planted: Planted,
    /// On their way: when they arrive, whose, whether to control.
    letters: Vec<(u64, usize, bool, Box<Shares>)>,
    /// Configurations on their way to cores.
    configs: Vec<(u64, usize, u64, Vec<Dsp>)>,
    draw: u64,
    now_ns: u64,
    /// When requests were sent to each DSP.
    sent: Vec<Vec<u64>>,
    /// By core: asked for and sent, of the first DSP.
    tally: Vec<(u64, u64)>,
}

impl World {
    fn new(cores: usize, qps: &[Option<u64>], seed: u64, planted: Planted) -> World {
        let dsps = dsps(qps);
        let mut all = vec![Quotas::default(); cores];
        all.iter_mut().for_each(|c| c.configure(1, &dsps, cores as u16, 0));
        World {
            cores: all,
            sharing: Sharing::new(1, &dsps, cores),
            planted,
            letters: Vec::new(),
            configs: Vec::new(),
            draw: seed,
            now_ns: 0,
            sent: vec![Vec::new(); qps.len()],
            tally: vec![(0, 0); cores],
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.draw = mix(self.draw);
        self.draw % below
    }

    fn reload(&mut self, id: u64, qps: &[Option<u64>]) {
        let dsps = dsps(qps);
        self.sharing.configure(id, &dsps);
        for core in 0..self.cores.len() {
            let at = self.now_ns + self.draw(80) * MS;
            self.configs.push((at, core, id, dsps.clone()));
        }
    }

    /// A millisecond: letters arrive, each core has so many requests.
    fn step(&mut self, per_s: &[u64]) {
        self.now_ns += MS;
        let now_ns = self.now_ns;
        for (_, core, id, dsps) in self.configs.extract_if(.., |c| c.0 <= now_ns) {
            let cores = self.cores.len() as u16;
            self.cores[core].configure(id, &dsps, cores, now_ns);
        }
        let mut due: Vec<_> = self.letters.extract_if(.., |l| l.0 <= now_ns).collect();
        for (_, core, to_control, mut letter) in due.drain(..) {
            if !to_control {
                self.cores[core].hear(letter, now_ns);
                continue;
            }
            match self.planted {
                Planted::Nothing => self.sharing.hear(core, &mut letter),
                Planted::GrowsAtOnce => {
                    self.sharing.cores.iter_mut().for_each(|c| c.held = [0; DSPS_MAX]);
                    self.sharing.hear(core, &mut letter);
                }
                Planted::NeverMoves => {}
            }
            let at = now_ns + (1 + self.draw(60)) * MS;
            self.letters.push((at, core, false, letter));
        }
        for (core, per_s) in per_s.iter().enumerate() {
            for _ in 0..self.poisson(*per_s) {
                let wanted = Set::MAX >> (64 - self.sent.len());
                let spent = self.cores[core].spent(wanted, now_ns);
                self.tally[core].0 += 1;
                for at in members(wanted & !spent) {
                    self.cores[core].take(at, now_ns);
                    self.sent[at].push(now_ns);
                    self.tally[core].1 += u64::from(at == 0);
                }
            }
            // A core that is idle looks every ten milliseconds.
            if now_ns / MS % 10 == core as u64 % 10
                && let Some(letter) = self.cores[core].report(now_ns)
            {
                let at = now_ns + (1 + self.draw(60)) * MS;
                self.letters.push((at, core, true, letter));
            }
        }
    }

    /// Requests in a millisecond at this rate.
    fn poisson(&mut self, per_s: u64) -> u64 {
        let whole = per_s / 1_000;
        whole / 2 + self.draw(whole + 1) + u64::from(self.draw(1_000) < per_s % 1_000)
    }

    /// The most that any second had of one DSP, from a moment on.
    fn most_in_a_second(&self, dsp: usize, from_ns: u64) -> u64 {
        let sent: Vec<u64> = self.sent[dsp].iter().copied().filter(|at| *at >= from_ns).collect();
        let (mut most, mut first) = (0, 0);
        for (at, now) in sent.iter().enumerate() {
            while sent[first] + S <= *now {
                first += 1;
            }
            most = most.max(at - first + 1);
        }
        most as u64
    }
}

/// What a second may have at most.
fn bound(qps: u64, cores: u64) -> u64 {
    qps + qps / 10 + cores
}

/// An hour's worth of traffic that moves between cores, in some minutes. What was too much, if anything was.
fn never_over(seed: u64, planted: Planted) -> Result<(), String> {
    for (cores, qps) in [(1, 100), (2, 1_000), (4, 3), (8, 5_000), (3, 1)] {
        let mut w = World::new(cores, &[Some(qps), None, Some(2 * qps)], seed ^ qps, planted);
        let mut per_s = vec![qps; cores];
        for ms in 0..40_000 {
            if ms % 700 == 0 {
                for rate in &mut per_s {
                    let draw = [0, 1, qps / 4, 2 * qps, 5 * qps][w.draw(5) as usize];
                    *rate = draw;
                }
            }
            w.step(&per_s);
        }
        for (dsp, qps) in [(0, qps), (2, 2 * qps)] {
            let (most, bound) = (w.most_in_a_second(dsp, 0), bound(qps, cores as u64));
            if most > bound {
                return Err(format!("{most} in a second, at most {bound}: {cores} cores, {qps}, seed {seed}"));
            }
        }
        if (w.sent[1].len() as u64) != w.tally.iter().map(|t| t.0).sum::<u64>() {
            return Err("who has no quota is not limited".to_owned());
        }
    }
    Ok(())
}

#[test]
fn all_together_never_send_more_than_the_quota_and_its_burst() {
    for seed in 1..=4 {
        never_over(seed, Planted::Nothing).unwrap();
    }
}

#[test]
fn a_share_that_grows_too_early_is_found() {
    assert!((1..=4).any(|seed| never_over(seed, Planted::GrowsAtOnce).is_err()));
}

/// One core has all the traffic: within two seconds it has what the others do not use.
fn nobody_starves(seed: u64, planted: Planted) -> Result<(), String> {
    let (cores, qps) = (4, 2_000);
    let mut w = World::new(cores, &[Some(qps)], seed, planted);
    for busy in 0..cores {
        let mut per_s = vec![0; cores];
        per_s[busy] = 3 * qps;
        // One with a little is not starved by it either.
        per_s[(busy + 1) % cores] = 20;
        (0..2_000).for_each(|_| w.step(&per_s));
        w.tally = vec![(0, 0); cores];
        (0..5_000).for_each(|_| w.step(&per_s));
        let (much, little) = (w.tally[busy].1, w.tally[(busy + 1) % cores]);
        if much < 5 * qps * 88 / 100 {
            return Err(format!("{much} sent in 5 s where {} may be, seed {seed}", 5 * qps));
        }
        if little.1 * 4 < little.0 {
            return Err(format!("{little:?}: the core with little has nothing, seed {seed}"));
        }
    }
    Ok(())
}

#[test]
fn no_core_starves_while_others_are_idle() {
    for seed in 1..=4 {
        nobody_starves(seed, Planted::Nothing).unwrap();
    }
    assert!(nobody_starves(1, Planted::NeverMoves).is_err(), "equal shares are not enough, and that is found");
}

/// Quotas that come, go, rise and fall, DSPs that change places, while letters of earlier configurations are under way.
#[test]
fn configurations_change_under_way() {
    for seed in 1..=6 {
        let cores = 4;
        let mut w = World::new(cores, &[Some(4_000), Some(1_000)], seed, Planted::Nothing);
        let per_s = [8_000, 100, 3_000, 0];
        let run = |w: &mut World, ms: u64| (0..ms).for_each(|_| w.step(&per_s));
        run(&mut w, 3_000);
        for (id, qps) in [(2, 1_000), (3, 6_000), (4, 500)] {
            w.reload(id, &[Some(qps), Some(1_000)]);
            // Every core has it after 80 ms; what was saved before is gone with that.
            run(&mut w, 100);
            let from = w.now_ns;
            run(&mut w, 4_000);
            let (most, bound) = (w.most_in_a_second(0, from), bound(qps, cores as u64));
            assert!(most <= bound, "{most} in a second, at most {bound}: configuration {id}, seed {seed}");
            let other = w.most_in_a_second(1, 0);
            assert!(other <= self::bound(1_000, cores as u64), "{other}: the other's did not change, seed {seed}");
            let sent = w.sent[0].iter().filter(|at| **at > w.now_ns - 2 * S).count() as u64;
            assert!(sent >= 2 * qps * 85 / 100, "{sent} in 2 s of {qps} a second, seed {seed}");
        }
        w.reload(5, &[None, Some(1_000)]);
        run(&mut w, 100);
        let (from, before) = (w.now_ns, w.tally.iter().map(|t| t.0).sum::<u64>());
        run(&mut w, 1_000);
        let asked = w.tally.iter().map(|t| t.0).sum::<u64>() - before;
        assert_eq!(w.sent[0].iter().filter(|at| **at > from).count() as u64, asked, "no quota any more");
        w.reload(6, &[Some(300), None]);
        run(&mut w, 100);
        let from = w.now_ns;
        run(&mut w, 3_000);
        assert!(w.most_in_a_second(0, from) <= bound(300, cores as u64), "a new quota, seed {seed}");
    }
}
