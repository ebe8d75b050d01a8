//! Worlds with random steps. `OUTCRY_SIM_RUNS=100000` runs more of them.
use super::{
    world::{Op, World},
    *,
};
use crate::budget::granter::Fault;
use proptest::{
    prelude::*,
    test_runner::{Config, TestError, TestRunner},
};
use std::cell::RefCell;

/// Two machines, three campaigns of two advertisers, days of three minutes.
fn world(planted: Option<Fault>) -> World {
    let limits =
        [(10, Span::Day, 30), (11, Span::Life, 60), (1, Span::Day, 45), (20, Span::Day, 25), (2, Span::Life, 80)];
    World::new(Small::new(3, &limits), 2, planted)
}

fn step() -> impl Strategy<Value = Op> {
    let node = 1u32..=2;
    let account = prop::sample::select(vec![10u32, 11, 20]);
    let on = (node.clone(), account.clone());
    let limited = prop::sample::select(vec![(10, Span::Day), (1, Span::Day), (2, Span::Life), (11, Span::Life)]);
    prop_oneof![
        40 => (on.clone(), 1i64..20, any::<bool>()).prop_map(|((node, account), hand, cut)| Op::Ask { node, account, hand, cut }),
        6 => node.clone().prop_map(Op::Resend),
        90 => (0usize..2).prop_map(Op::Deliver),
        8 => (0usize..4).prop_map(Op::Repeat),
        6 => (0usize..4).prop_map(Op::Lose),
        70 => Just(Op::Commit),
        4 => Just(Op::CrashGranter),
        90 => (on.clone(), 1i64..4).prop_map(|((node, account), amount)| Op::Spend { node, account, amount }),
        15 => (on.clone(), 1i64..2).prop_map(|((node, account), amount)| Op::Free { node, account, amount }),
        15 => (on.clone(), 1i64..3).prop_map(|((node, account), amount)| Op::Hold { node, account, amount }),
        15 => (on.clone(), any::<bool>()).prop_map(|((node, account), charge)| Op::Unhold { node, account, charge }),
        10 => (on, 1i64..5).prop_map(|((node, account), amount)| Op::GiveBack { node, account, amount }),
        6 => (node.clone(), any::<bool>()).prop_map(|(node, power)| Op::Kill { node, power }),
        8 => node.clone().prop_map(Op::Settle),
        6 => (node, any::<bool>()).prop_map(|(node, charge)| Op::LateNotice { node, charge }),
        20 => (0u64..8_000).prop_map(Op::Pass),
        3 => Just(Op::Pass(31_000)),
        1 => Just(Op::Pass(70 * 60_000)),
        6 => Just(Op::Tidy),
        4 => (limited, 0i64..60).prop_map(|((account, span), to)| Op::Limit { account, span, to }),
    ]
}

fn run(ops: &[Op], planted: Option<Fault>, mut did: impl FnMut(&Op)) -> Result<World, String> {
    let (mut world, mut audits) = (world(planted), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        if world.apply(*op) {
            did(op);
        }
        // An audit that goes on between all this: money moves before and behind its place.
        let now_ns = world.now().boot_ns;
        audits.extend(world.granter.audit_on(now_ns, 2));
        if audits.iter().any(|totals| !totals.conserved()) {
            return Err(format!("{audits:?}"));
        }
        world.check().map_err(|why| format!("after step {at}, {op:?}: {why}"))?;
    }
    world.come_to_rest();
    world.check_rest().map_err(|why| format!("at rest: {why}"))?;
    Ok(world)
}

fn steps() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(step(), 1..300)
}

#[test]
fn nothing_is_overspent_or_lost_whatever_happens() {
    let runs = std::env::var("OUTCRY_SIM_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_500);
    let config = Config { cases: runs, failure_persistence: None, ..Config::default() };
    let done: RefCell<BTreeMap<String, u64>> = RefCell::default();
    let granted = RefCell::new(0);
    let result = TestRunner::new(config).run(&steps(), |ops| {
        let name = |op: &Op| format!("{op:?}").split([' ', '(']).next().unwrap_or_default().to_owned();
        let world = run(&ops, None, |op| *done.borrow_mut().entry(name(op)).or_default() += 1);
        let world = world.map_err(TestCaseError::fail)?;
        *granted.borrow_mut() += world.granter.totals(0).granted.0;
        Ok(())
    });
    println!("{:?}, {} granted", done.borrow(), granted.borrow());
    if let Err(TestError::Fail(why, ops)) = &result {
        panic!("{why}\n{ops:#?}");
    }
    result.unwrap();
    assert_eq!(done.borrow().len(), 17 + 1, "every kind of step was made");
    assert!(*granted.borrow() > 5 * i64::from(runs));
}

/// The simulation finds each mistake that can be made.
#[test]
fn planted_faults_are_found() {
    for fault in [
        Fault::ExpiredUnspent,
        Fault::NoFence,
        Fault::GrantBeforeDurable,
        Fault::RetryGrantedTwice,
        Fault::PeriodMixedUp,
        Fault::AdvertiserNotDebited,
        Fault::QuarantineReleasedEarly,
        Fault::HoldForgotten,
    ] {
        let config = Config { cases: 10_000, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRunner::deterministic().new_rng());
        let tried = RefCell::new(0);
        let result = runner.run(&steps(), |ops| {
            *tried.borrow_mut() += 1;
            run(&ops, Some(fault), |_| {}).map(drop).map_err(TestCaseError::fail)
        });
        let Err(TestError::Fail(why, _)) = result else { panic!("{fault:?} was not found in {} runs", tried.borrow()) };
        println!("{fault:?}: run {}: {why}", tried.borrow());
    }
}
