//! What hostile DSPs do, over real sockets: the auction is answered by the others, nothing hidden counts, and whatever has
//! no end is ended. `outcry dsp-sim --hostile KIND` does the same to an exchange that runs.
mod common;
use common::{Server, bid_for, bidder, dsp, markup, outcomes};
use outcry::{limits::ASKED_MAX, openrtb::codes::Outcome, record::labels::Counter};
use outcry_cores::lab::{character::Character, dsp_sim, hostile::Hostile};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, atomic::AtomicBool},
};

const RULES: &str = "[auction]\ntmax_max_ms = 10000\ntmax_default_ms = 10000\ndsp_ms = 8000\nasked_max = 16\n";
const ROUNDS: usize = 12;
/// Each time.
const COST_THEIR_CONNECTION: [Hostile; 11] = [
    Hostile::Twice,
    Hostile::Hidden,
    Hostile::LengthAndChunks,
    Hostile::Interim,
    Hostile::Head,
    Hostile::Body,
    Hostile::Chunks,
    Hostile::Reset,
    Hostile::Long,
    Hostile::OtherId,
    Hostile::Closes,
];

/// A simulator that lives as long as the process.
fn simulate(hostile: Hostile) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let addr = listener.local_addr().expect("an address");
    let fixed = Character::named("fixed", 1).expect("a built-in name");
    let character = Character { delay_min_us: 0, price_micros: (100_000, 100_000), hostile: Some(hostile), ..fixed };
    std::thread::spawn(move || dsp_sim::serve(listener, character, Arc::default(), Arc::new(AtomicBool::new(false))));
    addr
}

#[test]
fn an_auction_is_that_of_the_honest_and_nothing_hidden_counts() {
    use Hostile::*;
    use Outcome::*;
    // What may become of asking each: for Stale it depends on where the second answer finds the connection.
    let may: [(Hostile, &[Outcome]); 22] = [
        (Twice, &[Bid]),
        (Stale, &[Bid, WrongId, Outcome::Reset]),
        (Hidden, &[NoBid]),
        (LengthAndChunks, &[BadHttp]),
        (Short, &[Late]),
        (Interim, &[BadHttp]),
        (Head, &[BadHttp]),
        (Body, &[TooLarge]),
        (Chunks, &[TooLarge]),
        (Drip, &[Late]),
        (Bomb, &[BadEncoding]),
        (Slow, &[Late]),
        (Silent, &[Late]),
        (Headed, &[Late]),
        (Storm, &[BadStatus]),
        (Hostile::Reset, &[Outcome::Reset]),
        (Garbage, &[NotJson]),
        (Long, &[NotJson]),
        (TooMany, &[BadStatus]),
        (OtherId, &[WrongId]),
        (Giant, &[NoPrice]),
        // Whoever is asked on a connection that has just ended learns of it then.
        (Closes, &[Bid, Outcome::Reset]),
    ];
    assert_eq!(may.map(|m| m.0), Hostile::ALL);
    // As many as are asked in one auction, less one for the honest.
    may.chunks(ASKED_MAX - 1).for_each(check);
}

fn check(may: &[(Hostile, &[Outcome])]) {
    use Hostile::*;
    use Outcome::Bid;
    let keys = |hostile: Hostile| match hostile {
        // Half of what the simulator takes between two bytes.
        Short | Drip | Slow | Silent | Headed => {
            "timeout_ms = 100\nwarm = 1\ngzip = true\nbreaker = false\ntrouble = false\nlearned_time = false\n"
        }
        // A second answer on the only connection meets the next request more often.
        Stale => {
            "timeout_ms = 8000\nwarm = 1\nconnections = 1\ngzip = true\nbreaker = false\ntrouble = false\nlearned_time = false\n"
        }
        _ => "timeout_ms = 8000\nwarm = 1\ngzip = true\nbreaker = false\ntrouble = false\nlearned_time = false\n",
    };
    let mut dsps: Vec<_> = may.iter().map(|(hostile, _)| (simulate(*hostile), keys(*hostile))).collect();
    dsps.push((dsp(bidder), "timeout_ms = 8000\nwarm = 1\n"));
    let server = Server::start_as(&dsps, RULES);
    let mut conn = server.connect();
    for round in 0..ROUNDS {
        let id = format!("r-{round}");
        let answer = bid_for(&mut conn, &id);
        assert!(markup(&answer).contains("x.example"), "{id}: the honest DSP wins: {answer}");
    }
    let totals = server.totals();
    for (row, (hostile, may)) in may.iter().enumerate() {
        let seen: BTreeMap<String, u64> =
            outcomes(&totals, row).into_iter().map(|(o, n)| (format!("{o:?}"), n)).collect();
        let may: Vec<String> = may.iter().map(|o| format!("{o:?}")).collect();
        assert!(seen.keys().all(|o| may.contains(o)), "{hostile:?}: {seen:?}, may be {may:?}");
        assert_eq!(seen.values().sum::<u64>(), ROUNDS as u64, "{hostile:?}: {seen:?}");
    }
    assert_eq!(outcomes(&totals, may.len()), [(Bid, ROUNDS as u64)], "the honest one");
    let costly = may.iter().filter(|(hostile, _)| COST_THEIR_CONNECTION.contains(hostile)).count();
    let closed = totals.counter(Counter::DspClosed);
    assert!(closed >= (costly * ROUNDS) as u64, "{closed} connections to DSPs closed");
}
