//! Every order in which things can happen, in worlds of four units: the server's own code between tiny cores and a tiny
//! granter. That everything may die at any moment is a property of every state: what the record then proves.
//!
//! Short in every test run; `OUTCRY_SIM_RUNS` of 100,000 or more makes the long one.
use super::world::{Op, Plan, SECOND, World};
use crate::budget::server::Fault;
use stateright::{Checker, HasDiscoveries, Model, Property};

/// What may happen how often.
#[derive(Clone, Debug)]
struct Scope {
    name: &'static str,
    plan: Plan,
    bids: u8,
    /// Messages lost or repeated.
    faults: u8,
    waits: &'static [u64],
    /// Waits in all.
    waited: u8,
    pauses: u8,
    fences: u8,
    /// Numbers of asks are no higher.
    asks: u64,
    planted: Option<Fault>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    world: World,
    bids: u8,
    faults: u8,
    waited: u8,
    pauses: u8,
    fences: u8,
    stopped: bool,
}

impl Model for Scope {
    type State = State;
    type Action = Op;

    fn init_states(&self) -> Vec<State> {
        let mut world = World::new(self.plan.clone());
        #[cfg(debug_assertions)]
        self.planted.into_iter().for_each(|fault| world.server.plant(fault));
        // Every model begins with a bid that finds nothing.
        for op in [Op::Bid { core: 0, account: 1 }, Op::Report { core: 0 }, Op::Turn] {
            world.step(op);
        }
        vec![State { world, bids: 0, faults: 0, waited: 0, pauses: 0, fences: 0, stopped: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Op>) {
        let world = &state.world;
        for core in 0..self.plan.cores {
            if state.bids < self.bids {
                actions.push(Op::Bid { core, account: 1 });
            }
            if world.flying(core) {
                actions.extend([true, false].map(|arrived| Op::Delivered { core, arrived }));
            }
            actions.extend([Op::Report { core }, Op::Grants { core }]);
        }
        if world.asks.is_empty() && world.replies.is_empty() && world.server.asks() < self.asks {
            actions.push(Op::Turn);
        }
        if self.plan.awaited > 0 {
            if !world.awaiting.is_empty() {
                let ends = [(true, false), (true, true), (false, false)];
                actions.extend(ends.map(|(came, lower)| Op::Notice { came, lower }));
            }
            actions.push(if world.tells.is_empty() { Op::Tell } else { Op::Told });
        }
        let fates = [(false, false), (true, false), (false, true)];
        let fates = &fates[..if state.faults < self.faults { 3 } else { 1 }];
        if !world.asks.is_empty() {
            actions.extend(fates.iter().map(|&(lost, again)| Op::Ask { lost, again }));
        }
        if !world.replies.is_empty() {
            actions.extend(fates.iter().map(|&(lost, again)| Op::Reply { lost, again }));
        }
        if state.waited < self.waited {
            actions.extend(self.waits.iter().map(|&ms| Op::Wait { ms }));
        }
        if state.pauses < self.pauses {
            actions.push(Op::Pause { account: 1, paused: state.pauses.is_multiple_of(2) });
        }
        if state.fences < self.fences {
            actions.push(Op::Fence);
        }
        if !state.stopped {
            actions.push(Op::Stop);
        }
    }

    fn next_state(&self, last: &State, op: Op) -> Option<State> {
        let mut next = last.clone();
        next.world.step(op);
        match op {
            Op::Bid { .. } => next.bids += 1,
            Op::Ask { lost, again } | Op::Reply { lost, again } => next.faults += u8::from(lost || again),
            Op::Wait { .. } => next.waited += 1,
            Op::Pause { .. } => next.pauses += 1,
            Op::Fence => next.fences += 1,
            Op::Stop => next.stopped = true,
            _ => {}
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the books are right", |_, s: &State| s.world.wrong.is_none()),
            Property::sometimes("something is won", |_, s: &State| s.world.wins > 0),
            Property::sometimes("all is home", |_, s: &State| {
                s.stopped && s.world.wins > 0 && s.world.server.is_done()
            }),
        ]
    }
}

fn is_long() -> bool {
    std::env::var("OUTCRY_SIM_RUNS").ok().and_then(|n| n.parse::<u64>().ok()).is_some_and(|n| n >= 100_000)
}

/// Two units a bid, four in all, two cores.
fn leases(long: bool) -> Scope {
    let plan = Plan {
        cores: 2,
        accounts: 1,
        budget: 4,
        price: 2,
        window_ns: 1_000_000 * SECOND,
        skew_ns: 0,
        ring: 4,
        ahead: 0,
        awaited: 0,
    };
    let name = "leases";
    let (waits, planted) = (&[26_000], None);
    match long {
        true => Scope { name, plan, bids: 2, faults: 2, waits, waited: 1, pauses: 0, fences: 0, asks: 4, planted },
        false => Scope { name, plan, bids: 2, faults: 1, waits, waited: 0, pauses: 0, fences: 0, asks: 3, planted },
    }
}

/// A window that is over in twenty seconds of the granter, whose clock is hours off.
fn day_change(long: bool) -> Scope {
    let leases = leases(long);
    // Now is 1,000 s: 20 s before a multiple of 100 s.
    let plan = Plan { cores: 1, window_ns: 100 * SECOND, skew_ns: 7_280 * SECOND, ..leases.plan };
    Scope { name: "day change", plan, bids: 1 + u8::from(long), faults: 0, waits: &[15_000], waited: 2, ..leases }
}

/// A later start of the machine is known to the granter.
fn fence(long: bool) -> Scope {
    Scope { name: "fence", fences: 1, bids: 1 + u8::from(long), faults: 0, waited: 0, ..leases(long) }
}

/// What is won waits for its notice, which comes, at its price or a lower one, or does not; leases run out meanwhile.
fn notices(long: bool) -> Scope {
    let leases = leases(long);
    let plan = Plan { cores: 1 + usize::from(long), awaited: 1, budget: 2, ..leases.plan };
    Scope { name: "notices", plan, bids: 3, faults: 0, waited: u8::from(long), asks: 5, ..leases }
}

/// Runs it whole; `Some`: how it goes wrong.
fn check(scope: Scope) -> Option<Vec<Op>> {
    let (name, planted) = (scope.name, scope.planted);
    let finish = if planted.is_some() { HasDiscoveries::AnyFailures } else { HasDiscoveries::AllFailures };
    let checker = scope.checker().threads(2).finish_when(finish).spawn_bfs().join();
    let found = checker.discovery("the books are right");
    println!(
        "model {name}, planted {planted:?}: {} states, {} of them different, {}",
        checker.state_count(),
        checker.unique_state_count(),
        if found.is_some() { "wrong" } else { "right" }
    );
    if planted.is_none() {
        for what in ["something is won", "all is home"] {
            assert!(checker.discovery(what).is_some(), "{name}: never {what}");
        }
    }
    found.map(|path| path.into_actions())
}

#[test]
fn leases_of_four_units() {
    assert_eq!(check(leases(is_long())), None);
}

#[test]
fn the_day_changes() {
    assert_eq!(check(day_change(is_long())), None);
}

#[test]
fn charges_wait_for_notices() {
    assert_eq!(check(notices(is_long())), None);
}

#[test]
fn a_dead_start_is_fenced() {
    assert_eq!(check(fence(is_long())), None);
}

#[cfg(debug_assertions)]
#[test]
fn models_find_what_is_planted() {
    for fault in Fault::ALL {
        let scope = match fault {
            Fault::NoFence => fence(false),
            Fault::HoldForgotten | Fault::LapseReused => notices(false),
            Fault::PeriodMixedUp => day_change(false),
            Fault::ExpiredUnspent => Scope { waited: 1, asks: 4, ..leases(false) },
            _ => leases(false),
        };
        assert!(check(Scope { planted: Some(fault), ..scope }).is_some(), "{fault:?} is not found");
    }
}
