//! Every planted mistake is found by random sequences too.
use super::world::{Op, Plan, SECOND, World};
use crate::{budget::server::Fault, units::mix};

/// One step, of these draws.
fn op(plan: &Plan, seed: u64) -> Op {
    let draw = |of: u64, n: u64| (mix(seed ^ mix(of)) % n) as usize;
    let core = draw(1, plan.cores as u64);
    let (lost, again) = (draw(2, 8) == 0, draw(2, 8) == 1);
    match draw(3, 28) {
        0..=6 => Op::Bid { core, account: 1 + draw(4, u64::from(plan.accounts)) as u32 },
        7..=9 => Op::Delivered { core, arrived: draw(5, 2) == 0 },
        10..=12 => Op::Report { core },
        13..=15 => Op::Grants { core },
        16..=18 => Op::Turn,
        19 | 20 => Op::Ask { lost, again },
        21 | 22 => Op::Reply { lost, again },
        23 | 24 => Op::Notice { came: draw(7, 2) == 0, lower: draw(8, 2) == 0 },
        25 => Op::Tell,
        26 => Op::Told,
        _ => Op::Wait { ms: [10, 600, 3_000, 9_000, 26_000][draw(6, 5)] },
    }
}

/// What goes wrong in one run of a seed.
fn run(fault: Option<Fault>, seed: u64) -> Option<&'static str> {
    let plan = Plan {
        cores: 3,
        accounts: 2,
        budget: 20,
        price: 2,
        window_ns: 60 * SECOND,
        skew_ns: seed % 100 * SECOND,
        ring: 4,
        ahead: 0,
        awaited: 1,
    };
    let mut world = World::new(plan);
    fault.into_iter().for_each(|fault| world.server.plant(fault));
    for step in 0..400 {
        let op =
            if step == 300 && fault == Some(Fault::NoFence) { Op::Fence } else { op(&world.plan, mix(seed) ^ step) };
        world.step(op);
    }
    world.step(Op::Stop);
    world.settle();
    world.wrong
}

#[test]
fn random_sequences_find_what_is_planted() {
    let seeds = 0..200;
    for seed in seeds.clone() {
        assert_eq!(run(None, seed), None, "seed {seed}, nothing planted");
    }
    for fault in Fault::ALL {
        let found = seeds.clone().find_map(|seed| run(Some(fault), seed).map(|wrong| (seed, wrong)));
        println!("{fault:?}: {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
}
