//! What hostile clients do, over real sockets: nothing hidden is answered, whoever is slow, greedy or silent is ended in
//! time, nothing of it stays, and whoever is honest gets his answers meanwhile. `outcry attack` does the same to an
//! exchange that runs.
mod common;
use common::{Server, bid_for, bidder, connect, dsp};
use outcry::record::{
    labels::{Counter, Gauge, Refusal},
    table::Fold,
    totals::Totals,
};
use outcry_cores::lab::attack::{
    Kind,
    flood::{Flood, Tally},
    judge, shapes,
};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

const PATH: &str = "/openrtb2/auction";
/// Deadlines that a busy machine keeps, and limits that a flood meets within a test.
const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\n\
                     [http]\nslow_ms = 150\nwrite_ms = 150\nidle_ms = 1000\n";

/// An honest client, who asks until he is told to stop: how many right answers he got, which are all.
fn honest(addr: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut conn = connect(addr);
    for n in 0.. {
        bid_for(&mut conn, &format!("honest-{n}"));
        if stop.load(Ordering::Relaxed) {
            return n + 1;
        }
    }
    0
}

/// What came of an attack, the honest client's answers beside it, and the totals after both.
fn beside<T: Send>(rules: &str, attack: impl FnOnce(&Server) -> T + Send) -> (T, u64, Totals) {
    // A DSP's own time is 70 ms otherwise, which a busy machine does not keep.
    let server = Server::start_as(&[(dsp(bidder), "warm = 2\ntimeout_ms = 8000")], rules);
    let stop = AtomicBool::new(false);
    let (came, answers) = std::thread::scope(|scope| {
        let client = scope.spawn(|| honest(server.addr(), &stop));
        let came = scope.spawn(|| attack(&server)).join();
        // Before anything else can fail: the scope waits for him.
        stop.store(true, Ordering::Relaxed);
        let answers = client.join().expect("an honest client gets every answer");
        (came.unwrap_or_else(|e| std::panic::resume_unwind(e)), answers)
    });
    (came, answers, server.totals())
}

/// Nothing of it is left.
#[track_caller]
fn left_nothing(totals: &Totals) {
    let of = |c| totals.counter(c);
    assert_eq!(of(Counter::ConnectionsAccepted), of(Counter::ConnectionsClosed), "each connection was closed");
    assert_eq!(totals.gauge(Gauge::ConnectionsOpen, Fold::Sum), 0);
    assert_eq!(totals.gauge(Gauge::AuctionsInFlight, Fold::Sum), 0);
}

#[test]
fn no_shape_hides_a_request() {
    let rules = RULES.replace("slow_ms = 150", "slow_ms = 10000");
    let (wrong, answers, totals) = beside(&rules, |server| {
        let mut wrong = Vec::new();
        for shape in shapes::all(PATH) {
            let seen = judge::send(server.addr(), &shape).unwrap_or_else(|e| panic!("{}: {e}", shape.name));
            if !seen.is(&shape) {
                wrong.push(format!("{}: {seen}, wanted {:?}, closes: {}", shape.name, shape.statuses, shape.closes));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(totals.counter(Counter::Auctions), answers, "no shape became an auction");
    left_nothing(&totals);
}

fn flood(kind: Kind, connections: usize, beat_ms: u64, time_ms: u64) -> (Tally, Totals) {
    let (tally, answers, totals) = beside(RULES, |server| {
        let mut flood = Flood::new(kind, server.addr(), PATH);
        flood.connections = connections;
        (flood.beat, flood.time) = (Duration::from_millis(beat_ms), Duration::from_millis(time_ms));
        flood.run()
    });
    assert!(answers > 0 && tally.refused == 0, "{tally}");
    left_nothing(&totals);
    (tally, totals)
}

/// The statuses that were seen, of any number.
fn statuses(tally: &Tally) -> Vec<u16> {
    tally.statuses.keys().copied().collect()
}

#[test]
fn slow_requests_are_ended() {
    for kind in [Kind::SlowHead, Kind::SlowBody, Kind::Hoard] {
        let (tally, totals) = flood(kind, 40, 20, 1_000);
        assert_eq!(statuses(&tally), [408], "{tally}");
        assert!(tally.ended_after_ms.len() >= 40, "{tally}");
        assert!(totals.counter(Counter::ConnectionsSlowClosed) >= 40);
    }
}

#[test]
fn who_does_not_take_his_answers_is_ended() {
    for kind in [Kind::SlowRead, Kind::Pipeline] {
        let (tally, totals) = flood(kind, 20, 5, 2_500);
        assert!(!tally.ended_after_ms.is_empty(), "{tally}");
        assert!(totals.counter(Counter::ConnectionsSlowClosed) > 0, "{tally}");
    }
}

#[test]
fn who_says_nothing_is_ended() {
    let (tally, totals) = flood(Kind::Idle, 200, 50, 1_600);
    assert!(tally.open_most == 200 && statuses(&tally).is_empty(), "{tally}");
    assert!(totals.counter(Counter::ConnectionsIdleClosed) >= 200, "{tally}");
    // Empty lines are allowed before a request, and are none.
    let (tally, totals) = flood(Kind::Blank, 20, 10, 1_600);
    assert!(statuses(&tally).is_empty(), "{tally}");
    assert!(totals.counter(Counter::ConnectionsIdleClosed) >= 20, "{tally}");
    flood(Kind::Churn, 50, 5, 500);
}

#[test]
fn bodies_above_the_limit_are_refused_when_it_is_known() {
    for kind in [Kind::Length, Kind::Chunks] {
        let (tally, totals) = flood(kind, 4, 5, 1_000);
        assert_eq!(statuses(&tally), [413], "{tally}");
        assert!(!tally.ended_after_ms.is_empty() && totals.counter(Counter::Auctions) > 0, "{tally}");
    }
}

#[test]
fn many_requests_at_once_are_answered() {
    let (tally, totals) = flood(Kind::Burst, 2, 50, 1_500);
    assert_eq!(statuses(&tally), [404], "{tally}");
    assert!(tally.ended_after_ms.is_empty(), "{tally}");
    assert!(totals.counter(Counter::Requests) > 10_000, "{tally}");
}

#[test]
fn a_bomb_is_refused_and_its_connection_goes_on() {
    let (tally, totals) = flood(Kind::Bomb, 4, 50, 500);
    assert_eq!(statuses(&tally), [413], "{tally}");
    assert!(tally.ended_after_ms.is_empty(), "{tally}");
    assert!(totals.refusals(Refusal::InflatesTooMuch) >= tally.statuses[&413]);
}
