//! All worlds that are small: every order in which a few asks, messages, crashes, and units of money can happen, over the
//! granter's own code. `OUTCRY_MODEL=long` looks at larger ones.
use super::{
    world::{Op, World},
    *,
};
use crate::budget::granter::Fault;
use stateright::{Checker, HasDiscoveries, Model, Property};

/// What may happen, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Bounds {
    nodes: u32,
    /// Asks in all.
    asks: u8,
    /// Processes that die, and of those how many with the power.
    kills: u8,
    power: bool,
    crashes: u8,
    /// Messages lost or repeated.
    messes: u8,
    /// Steps of 31 seconds, each longer than a lease; a window has 60.
    passes: u8,
    /// Reservations for notices.
    holds: u8,
    gives_back: u8,
}

const NONE: Bounds =
    Bounds { nodes: 1, asks: 2, kills: 0, power: false, crashes: 0, messes: 0, passes: 0, holds: 0, gives_back: 0 };

struct Worlds {
    bounds: Bounds,
    planted: Option<Fault>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    world: World,
    left: Bounds,
}

/// Units that may be spent of campaign 10 in a window, and of its advertiser ever.
const DAY: i64 = 3;
const EVER: i64 = 5;

impl Model for Worlds {
    type State = State;
    type Action = Op;

    fn init_states(&self) -> Vec<State> {
        let accounts = Small::new(1, &[(10, Span::Day, DAY), (1, Span::Life, EVER)]);
        let world = World::new(accounts, self.bounds.nodes, self.planted);
        vec![State { world, left: self.bounds }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Op>) {
        let State { world, left } = state;
        let messages = world.messages();
        actions.extend((0..messages).map(Op::Deliver));
        if left.messes > 0 {
            actions.extend((0..messages).flat_map(|at| [Op::Repeat(at), Op::Lose(at)]));
        }
        if world.is_uncommitted() {
            actions.push(Op::Commit);
        }
        if left.crashes > 0 && world.is_uncommitted() {
            actions.push(Op::CrashGranter);
        }
        if left.passes > 0 {
            actions.push(Op::Pass(31_000));
        }
        for node in 1..=self.bounds.nodes {
            let account = 10;
            if left.asks > 0 {
                actions.push(Op::Ask { node, account, hand: 2, cut: true });
            }
            if !world.is_under_way(node) {
                actions.push(Op::Resend(node));
            }
            actions.push(Op::Spend { node, account, amount: 1 });
            if left.gives_back > 0 {
                actions.push(Op::GiveBack { node, account, amount: 1 });
            }
            if left.holds > 0 {
                actions.push(Op::Hold { node, account, amount: 1 });
            }
            if self.bounds.holds > 0 {
                for charge in [false, true] {
                    actions.extend([Op::Unhold { node, account, charge }, Op::LateNotice { node, charge }]);
                }
            }
            if left.kills > 0 {
                actions.push(Op::Kill { node, power: false });
                actions.extend(left.power.then_some(Op::Kill { node, power: true }));
            }
            actions.push(Op::Settle(node));
        }
    }

    fn next_state(&self, last: &State, op: Op) -> Option<State> {
        let mut next = last.clone();
        if !next.world.apply(op) {
            return None;
        }
        let left = &mut next.left;
        match op {
            Op::Ask { .. } => left.asks -= 1,
            Op::Kill { .. } => left.kills -= 1,
            Op::CrashGranter => left.crashes -= 1,
            Op::Repeat(_) | Op::Lose(_) => left.messes -= 1,
            Op::Hold { .. } => left.holds -= 1,
            Op::GiveBack { .. } => left.gives_back -= 1,
            Op::Pass(_) => {
                left.passes -= 1;
                next.world.apply(Op::Tidy);
            }
            _ => {}
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Worlds>> {
        vec![
            Property::always("nothing is overspent, every line adds up", |_, s: &State| s.world.check().is_ok()),
            Property::always("at rest all is accounted for", |_, s: &State| {
                let mut world = s.world.clone();
                world.come_to_rest();
                world.check_rest().is_ok()
            }),
            Property::sometimes("money is spent", |_, s: &State| s.world.spent() >= 2),
        ]
    }
}

/// Looks at all worlds within the bounds; the property that does not hold, and how many there were.
fn all(bounds: Bounds, planted: Option<Fault>) -> (Option<String>, usize) {
    let failed = HasDiscoveries::AnyFailures;
    let checker = Worlds { bounds, planted }.checker().finish_when(failed).spawn_dfs().join();
    let found = checker.discoveries().into_iter().find(|(name, _)| *name != "money is spent");
    let steps = found.map(|(name, path)| {
        let (state, steps) = (path.last_state().clone(), path.into_actions());
        let why = state.world.check().err();
        format!("{name}: {why:?} after {} steps: {steps:?}", steps.len())
    });
    if steps.is_none() {
        assert!(checker.discovery("money is spent").is_some(), "{bounds:?}: refusing everything is no proof");
    }
    (steps, checker.unique_state_count())
}

fn long() -> bool {
    std::env::var("OUTCRY_MODEL").is_ok_and(|v| v == "long")
}

#[track_caller]
fn holds(name: &str, short: Bounds, longer: Bounds) {
    let bounds = if long() { longer } else { short };
    let (found, states) = all(bounds, None);
    println!("{name}: {states} states, {bounds:?}");
    assert_eq!(found, None);
}

#[test]
fn messages_are_lost_repeated_and_late() {
    let short = Bounds { asks: 3, messes: 2, crashes: 1, gives_back: 1, ..NONE };
    holds("messages", short, Bounds { asks: 4, ..short });
}

#[test]
fn machines_and_the_granter_crash() {
    let short = Bounds { asks: 3, kills: 1, power: true, crashes: 1, gives_back: 1, ..NONE };
    holds("crashes", short, Bounds { messes: 1, ..short });
}

#[test]
fn two_machines_want_the_same_units() {
    let short = Bounds { nodes: 2, asks: 3, kills: 1, gives_back: 1, ..NONE };
    holds("two machines", short, Bounds { crashes: 1, messes: 1, ..short });
}

#[test]
fn windows_and_leases_end() {
    let short = Bounds { asks: 3, passes: 2, kills: 1, ..NONE };
    holds("time", short, Bounds { messes: 1, crashes: 1, ..short });
}

#[test]
fn reservations_outlive_leases_and_crashes() {
    let short = Bounds { asks: 2, holds: 1, kills: 1, power: true, passes: 1, crashes: 1, ..NONE };
    holds("holds", short, Bounds { asks: 3, holds: 2, messes: 1, ..short });
}

/// The models find each mistake that can be made.
#[test]
fn planted_faults_are_found() {
    for (fault, bounds) in [
        (Fault::ExpiredUnspent, Bounds { passes: 1, ..NONE }),
        (Fault::NoFence, Bounds { asks: 3, kills: 1, messes: 1, ..NONE }),
        (Fault::GrantBeforeDurable, Bounds { crashes: 1, ..NONE }),
        (Fault::RetryGrantedTwice, Bounds { asks: 2, messes: 1, ..NONE }),
        (Fault::PeriodMixedUp, Bounds { passes: 2, ..NONE }),
        (Fault::AdvertiserNotDebited, NONE),
        (Fault::QuarantineReleasedEarly, Bounds { kills: 1, ..NONE }),
        (Fault::HoldForgotten, Bounds { holds: 1, kills: 1, ..NONE }),
    ] {
        assert_eq!(all(bounds, None).0, None, "{fault:?}: it is the fault that is found");
        let (found, states) = all(bounds, Some(fault));
        let found = found.unwrap_or_else(|| panic!("{fault:?} was not found in {states} states"));
        println!("{fault:?}, {states} states: {found}");
    }
}
