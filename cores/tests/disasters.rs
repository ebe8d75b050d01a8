//! Disasters: a granter and up to twelve servers of up to eight cores, all production code, in virtual time, while messages
//! are lost, repeated and late, processes die at any move, clocks are wrong and budgets change. Beside them the world keeps
//! its own sums of every auction. Nothing may be overspent, at any level, at any moment; at the end every nano-unit is
//! accounted for.
//!
//! Every failure prints its seed. `scripts/disasters` runs ten thousand, and one again with all that happened in it.
#[path = "disasters/flush.rs"]
mod flush;
#[path = "disasters/ledger.rs"]
mod ledger;
#[path = "disasters/plan.rs"]
mod plan;
#[path = "disasters/start.rs"]
mod start;
#[path = "disasters/told.rs"]
mod told;
#[path = "disasters/truth.rs"]
mod truth;
#[path = "disasters/world.rs"]
mod world;
use plan::{Plan, Planted, Trouble};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use told::Sums;
use world::{Outcome, World};

/// What is known of a run when it is over.
#[derive(Default)]
struct Done {
    fired: BTreeMap<Trouble, (u64, u64)>,
    outcomes: Vec<Outcome>,
    auctions: u64,
    wrong: Option<String>,
    trace: Vec<(u64, String)>,
}

fn run(plan: &Plan, tracing: bool) -> Done {
    let mut world = World::new(plan, tracing);
    let mut go = || {
        for _ in 0..plan.steps {
            world.step()?;
        }
        world.end()
    };
    let wrong = go().err();
    let World { fired, outcomes, truth, trace, .. } = world;
    Done { fired, outcomes, auctions: truth.auctions, wrong, trace }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap_or_else(|_| panic!("{name}={n} is no number")))
}

/// On every CPU: `each` of the numbers below `n`, until it says that this is enough.
fn on_all_cpus(n: u64, each: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cpus {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= n || !each(at) {
                        return;
                    }
                }
            });
        }
    });
}

/// The same failure with as few kinds of trouble as it needs.
fn smaller(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for kind in Trouble::ALL {
        let without = Plan { kinds: plan.kinds & !(1 << kind as u32), ..plan.clone() };
        if plan.may(kind) && run(&without, false).wrong.is_some() {
            plan = without;
        }
    }
    plan
}

/// A failure as it is to be read: which seed, what it takes, what happened last.
fn told(plan: &Plan, wrong: &str) -> String {
    let plan = smaller(plan);
    let done = run(&plan, true);
    let kinds: Vec<&str> = Trouble::ALL.iter().filter(|k| plan.may(**k)).map(|k| k.name()).collect();
    let last = done.trace.iter().rev().take(25).rev().map(|(at, what)| format!("{:>14.6} {what}\n", *at as f64 / 1e9));
    format!(
        "seed {}: {wrong}\nwith no more trouble than {kinds:?}: {}\n{}{plan:?}",
        plan.seed,
        done.wrong.unwrap_or_default(),
        last.collect::<String>()
    )
}

#[test]
fn no_disaster_makes_an_overspend() {
    if let Some(seed) = number("OUTCRY_DISASTERS_SEED") {
        let plan = Plan::of(seed);
        let done = run(&plan, true);
        done.trace.iter().for_each(|(at, what)| println!("{:>14.6} {what}", *at as f64 / 1e9));
        done.outcomes.iter().for_each(|o| println!("{o:?}"));
        println!("{plan:?}");
        assert_eq!(done.wrong, None, "seed {seed}");
        return;
    }
    let (runs, first) = (number("OUTCRY_DISASTERS").unwrap_or(RUNS), number("OUTCRY_DISASTERS_FIRST").unwrap_or(0));
    let (sums, wrongs) = (Mutex::new(Sums::default()), Mutex::new(Vec::new()));
    let every = (runs / 100).max(100);
    on_all_cpus(runs, |n| {
        let plan = Plan::of(first + n);
        let mut done = run(&plan, false);
        let wrong = done.wrong.take();
        let mut sums = sums.lock().expect("no run panics while it adds");
        sums.add(done);
        if sums.runs.is_multiple_of(every) {
            println!("{} of {runs} runs", sums.runs);
        }
        drop(sums);
        let mut wrongs = wrongs.lock().expect("likewise");
        if let Some(wrong) = wrong {
            println!("seed {}: {wrong}", plan.seed);
            wrongs.push((plan, wrong));
        }
        wrongs.len() < WRONGS_MAX
    });
    let (sums, wrongs) = (sums.into_inner().expect("likewise"), wrongs.into_inner().expect("likewise"));
    println!("{}", sums.tables());
    if let Ok(path) = std::env::var("OUTCRY_DISASTERS_PICTURE") {
        std::fs::write(&path, sums.picture()).unwrap_or_else(|e| panic!("{path}: {e}"));
        println!("a picture of what was stranded is in {path}");
    }
    if let Some((plan, wrong)) = wrongs.first() {
        panic!("{} of {} runs went wrong; the first:\n{}", wrongs.len(), sums.runs, told(plan, wrong));
    }
    let (used, stranded) = (sums.utilisation(), sums.median());
    assert!(used >= 0.95, "of budgets that were wanted {:.2} % was used", 100.0 * used);
    assert!(stranded <= 0.5, "half of all days have more than {stranded:.3} % of their budget stranded");
}

/// In the normal tests.
const RUNS: u64 = 300;
/// Enough to be looked at.
const WRONGS_MAX: usize = 20;
/// A planted mistake is found within so many worlds.
const SEEDS: u64 = 3_000;

#[test]
fn every_planted_mistake_is_found() {
    let found = Mutex::new(Vec::new());
    on_all_cpus(Planted::ALL.len() as u64, |n| {
        let planted = Planted::ALL[n as usize];
        let small = (0..SEEDS).map(Plan::of).filter(|plan| plan.campaigns <= 40 && plan.trouble > 0);
        let with = small.map(|plan| Plan { planted: Some(planted), ..plan });
        let first = with.into_iter().find_map(|plan| run(&plan, false).wrong.map(|wrong| (plan.seed, wrong)));
        found.lock().expect("no run panics here").push((planted, first));
        true
    });
    let found = found.into_inner().expect("likewise");
    found.iter().for_each(|(planted, first)| println!("{planted:?}: {first:?}"));
    let missed: Vec<_> = found.iter().filter(|(_, first)| first.is_none()).map(|(planted, _)| planted).collect();
    assert!(missed.is_empty(), "not found in {SEEDS} worlds: {missed:?}");
}
