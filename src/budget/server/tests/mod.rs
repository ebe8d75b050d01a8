//! The server between tiny cores and a tiny granter.
mod model;
#[cfg(debug_assertions)]
mod planted;
mod world;

use proptest::prelude::*;
use world::{Op, Plan, SECOND, World};

fn plan() -> Plan {
    Plan {
        cores: 3,
        accounts: 3,
        budget: 100,
        price: 2,
        window_ns: 1_000_000 * SECOND,
        skew_ns: 0,
        ring: 64,
        ahead: 0,
        awaited: 0,
    }
}

/// Prices are large enough for rates to be whole numbers, and cores ask before they need.
fn busy() -> Plan {
    Plan { budget: 100_000_000, price: 2_000, ahead: 16_000, ..plan() }
}

fn op(plan: &Plan) -> impl Strategy<Value = Op> + use<> {
    let (cores, accounts) = (plan.cores, plan.accounts);
    let bid = (0..cores, 1..=accounts).prop_map(|(core, account)| Op::Bid { core, account });
    let delivered = (0..cores, any::<bool>()).prop_map(|(core, arrived)| Op::Delivered { core, arrived });
    let luck = || (0..8u8).prop_map(|n| (n == 0, n == 1));
    prop_oneof![
        12 => bid,
        6 => delivered,
        6 => (0..cores).prop_map(|core| Op::Report { core }),
        6 => (0..cores).prop_map(|core| Op::Grants { core }),
        6 => Just(Op::Turn),
        4 => luck().prop_map(|(lost, again)| Op::Ask { lost, again }),
        4 => luck().prop_map(|(lost, again)| Op::Reply { lost, again }),
        4 => prop_oneof![Just(10), Just(600), Just(3_000), Just(9_000), Just(26_000)].prop_map(|ms| Op::Wait { ms }),
        1 => (1..=accounts, any::<bool>()).prop_map(|(account, paused)| Op::Pause { account, paused }),
        1 => Just(Op::Cut),
        // Nothing happens by these where no win waits for a notice.
        3 => (any::<bool>(), any::<bool>()).prop_map(|(came, lower)| Op::Notice { came, lower }),
        2 => Just(Op::Tell),
        2 => Just(Op::Told),
    ]
}

fn run(plan: &Plan, ops: &[Op]) -> World {
    let mut world = World::new(plan.clone());
    for (i, op) in ops.iter().enumerate() {
        world.step(*op);
        assert_eq!(world.wrong, None, "step {i}, {op:?}, of {ops:?}");
    }
    world
}

fn sequences(plan: Plan, cases: u32) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let ops = proptest::collection::vec(op(&plan), 1..400);
    let result = runner.run(&ops, |ops| {
        let mut world = run(&plan, &ops);
        world.step(Op::Stop);
        world.settle();
        assert_eq!(world.wrong, None, "after {ops:?}");
        world.assert_home();
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn nothing_is_spent_twice_and_everything_comes_home() {
    sequences(plan(), 300);
}

#[test]
fn full_rings_change_nothing() {
    sequences(Plan { ring: 1, price: 3, budget: 10, ..plan() }, 200);
}

/// Found first: an answer that was given before a window was over, and came when its line had been forgotten, made the line
/// anew; what had been spent of it went home.
#[test]
fn windows_change_under_clocks_that_disagree() {
    sequences(Plan { window_ns: 40 * SECOND, skew_ns: 7_123 * SECOND, ..plan() }, 300);
}

/// Of two accounts what was won is charged when notices come: late, at lower prices, never.
#[test]
fn what_waits_for_notices_is_neither_spent_twice_nor_lost() {
    sequences(Plan { awaited: 2, ..plan() }, 300);
    sequences(Plan { awaited: 2, window_ns: 40 * SECOND, skew_ns: 7_123 * SECOND, ..plan() }, 200);
}

/// What is held outlives its lease, and comes home after it; a stop does not wait for it.
#[test]
fn what_is_held_outlives_its_lease() {
    let mut world = World::new(Plan { awaited: 3, ..plan() });
    turns(&mut world, 20, 100);
    let (wins, out) =
        (i64::from(world.wins), |w: &World| w.granter.lines.values().map(|l| l.granted - l.returned).sum::<i64>());
    world.step(Op::Pause { account: 1, paused: true });
    for _ in 0..60 {
        world.settle();
        world.step(Op::Wait { ms: 1_000 });
    }
    assert_eq!(out(&world), 2 * wins, "nothing but what waits");
    (0..wins - 3).for_each(|_| world.step(Op::Notice { came: true, lower: false }));
    world.step(Op::Notice { came: true, lower: true });
    world.settle();
    assert_eq!(out(&world), 2 * wins - 1);
    world.step(Op::Notice { came: false, lower: false });
    world.step(Op::Stop);
    world.settle();
    world.assert_home();
    assert_eq!((world.wrong, out(&world)), (None, 2 * wins - 3), "one waits still");
}

/// Others are spent from all the time, so no moment comes at which everything is known of all cores.
#[test]
fn a_line_is_closed_while_others_are_spent_from() {
    let mut world = World::new(Plan { awaited: 1, accounts: 2, budget: 1_000, ..plan() });
    turns(&mut world, 5, 100);
    (0..5).for_each(|_| world.step(Op::Notice { came: true, lower: false }));
    world.step(Op::Pause { account: 1, paused: true });
    for _ in 0..400 {
        for core in 0..3 {
            world.step(Op::Bid { core, account: 2 });
            world.step(Op::Delivered { core, arrived: true });
            world.step(Op::Grants { core });
            world.step(Op::Tell);
            world.step(Op::Bid { core, account: 2 });
            world.step(Op::Delivered { core, arrived: true });
            world.step(Op::Report { core });
            world.step(Op::Told);
        }
        world.step(Op::Turn);
        world.step(Op::Ask { lost: false, again: false });
        world.step(Op::Reply { lost: false, again: false });
        world.step(Op::Wait { ms: 100 });
    }
    assert_eq!(world.wrong, None);
    assert!(world.is_closed(1), "{:#?}", world.server);
}

/// What is held does not keep a campaign from going on.
#[test]
fn an_account_that_is_resumed_goes_on_while_its_wins_wait() {
    let mut world = World::new(Plan { awaited: 1, ..plan() });
    turns(&mut world, 5, 100);
    world.step(Op::Pause { account: 1, paused: true });
    for _ in 0..60 {
        world.settle();
        world.step(Op::Wait { ms: 1_000 });
    }
    let before = world.wins;
    world.step(Op::Pause { account: 1, paused: false });
    world.server.look_again(crate::budget::AccountId(1));
    turns(&mut world, 20, 100);
    assert_eq!(world.wrong, None);
    assert!(world.wins > before + 5, "{} and {}: {:#?}", before, world.wins, world.server);
}

/// Turns in which nothing is lost, with a bid on the first account at core 0 in each.
fn turns(world: &mut World, turns: usize, ms: u64) {
    for _ in 0..turns {
        for core in 0..world.plan.cores {
            world.step(Op::Grants { core });
            while world.flying(core) {
                world.step(Op::Delivered { core, arrived: true });
            }
        }
        world.step(Op::Bid { core: 0, account: 1 });
        (0..world.plan.cores).for_each(|core| world.step(Op::Report { core }));
        world.step(Op::Turn);
        world.step(Op::Ask { lost: false, again: false });
        world.step(Op::Reply { lost: false, again: false });
        world.step(Op::Turn);
        world.step(Op::Wait { ms });
        assert_eq!(world.wrong, None);
    }
}

#[test]
fn the_whole_budget_can_be_spent() {
    let mut world = World::new(plan());
    // A bid every tenth of a second, then none for which there is money: two rounds and more.
    turns(&mut world, 200, 100);
    assert_eq!(world.wins, 50, "{:#?}", world.server);
}

#[test]
fn a_cold_account_is_bid_on_after_one_round_trip() {
    let mut world = World::new(plan());
    turns(&mut world, 2, 10);
    assert_eq!(world.wins, 1);
}

#[test]
fn what_is_not_spent_goes_back() {
    let mut world = World::new(busy());
    turns(&mut world, 300, 100);
    assert!(world.wins > 290, "{}", world.wins);
    let out = |world: &World| world.granter.lines.values().map(|l| l.granted - l.returned).sum::<i64>();
    let spent = 2_000 * i64::from(world.wins);
    // 20,000 a second: half a minute of it, three prices, and what the first guess was too high.
    assert!((20_000..=700_000).contains(&(out(&world) - spent)), "{}", out(&world) - spent);
    for _ in 0..120 {
        world.settle();
        world.step(Op::Wait { ms: 1_000 });
    }
    assert_eq!(world.wrong, None);
    assert_eq!(out(&world), spent, "{:?} an hour later nothing is held", world.server.holding());
    assert_eq!(world.at_cores(), 0);
}

#[test]
fn money_lasts_while_the_granter_is_gone() {
    let mut world = World::new(busy());
    turns(&mut world, 300, 100);
    let seconds = world.server.holding().autonomy_mean_s().expect("something is spent");
    assert!((7..=25).contains(&seconds), "{seconds}");
    let wins = world.wins;
    let mut alone = 0;
    for tenth in 0..400 {
        world.step(Op::Bid { core: 0, account: 1 });
        world.step(Op::Delivered { core: 0, arrived: true });
        world.step(Op::Report { core: 0 });
        world.step(Op::Turn);
        world.step(Op::Grants { core: 0 });
        world.step(Op::Wait { ms: 100 });
        if world.wins == wins + tenth + 1 {
            alone = tenth;
        }
    }
    // The figure is as of the line's last visit, at most two seconds ago.
    assert!(u64::from(alone / 10) + 2 >= seconds, "promised {seconds} s, were {alone} tenths");
    assert!(world.asks.iter().all(|ask| ask == &world.asks[0]), "one ask, again and again");
    assert_eq!(world.wrong, None);
}

#[test]
fn who_is_dead_spends_nothing() {
    let mut world = World::new(plan());
    turns(&mut world, 5, 100);
    world.step(Op::Fence);
    world.step(Op::Cut);
    turns(&mut world, 1, 100);
    assert!(world.server.is_fenced() && world.server.is_done());
    (0..3).for_each(|core| world.step(Op::Grants { core }));
    assert!((0..3).all(|core| world.is_dead(core)), "in one message, before any other");
    let wins = world.wins;
    turns(&mut world, 5, 100);
    assert_eq!(world.wins, wins);
    assert_eq!(world.server.to_core(0), None);
}
