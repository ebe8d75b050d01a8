//! One part of an auction, over and over, for callgrind to count its instructions: `scripts/bench --micro`.
//!
//!   micro case=parse requests=banner.jsonl rounds=3
//!
//! Only what runs inside of [`measured`] is the case; callgrind is told to count there alone. Every case is run once
//! over all requests before that, so that memory has grown to what they need. Prints how many operations were measured.
mod blackbox;
mod choose;
mod core;
mod health;
mod ledger;
mod notice;
mod parts;

use bumpalo::Bump;
use memchr::memmem;
use outcry::{openrtb::request::Request, record::digest::digest};
use outcry_benches::kit::{Args, SLOT, hex16, request};
use parts::Parts;
use std::hint::black_box;

/// The one function that is counted. Not inlined, and one symbol for all cases: callgrind knows it by its name.
#[inline(never)]
pub(crate) fn measured(f: &mut dyn FnMut()) {
    f();
}

/// Runs `f`, counted or not.
pub(crate) fn counted(count: bool, mut f: impl FnMut()) {
    if count { measured(&mut f) } else { f() }
}

/// The requests of a file, each with an id of its own: one a line, or set off by record separators (0x1e), so that they
/// may have lines of their own.
fn bodies(file: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let separator = if text.contains(&0x1e) { 0x1e } else { b'\n' };
    let lines = text.split(|b| *b == separator).map(<[u8]>::trim_ascii);
    let mut all: Vec<Vec<u8>> = lines.filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    for (i, body) in all.iter_mut().enumerate() {
        let at =
            memmem::find(body, SLOT).unwrap_or_else(|| panic!("{file}: request {i} has no run of zeros for its id"));
        hex16(&mut body[at..at + SLOT.len()], i as u64 + 1);
    }
    all
}

/// How often `op` ran counted: for every request, in every round but the first.
fn rounds(n: usize, requests: usize, mut op: impl FnMut(bool, usize)) -> usize {
    for round in 0..=n {
        for i in 0..requests {
            op(round > 0, i);
        }
    }
    n * requests
}

fn main() {
    let a = Args::parse(&["case", "requests", "rounds"]);
    let (case, n) = (a.text("case", ""), a.count("rounds", 3));
    if case == "ledger" {
        // By the clock, and without requests.
        return ledger::Ledger::verdict();
    }
    let bodies = bodies(&a.text("requests", "requests.jsonl"));
    let posts: Vec<Vec<u8>> = bodies.iter().map(|b| request("/openrtb2/auction", b)).collect();
    let mut parts = Parts::new();
    let ops = match case.as_str() {
        "parse" => {
            let (mut view, mut arena) = (Request::default(), Bump::with_capacity(16 * 1024));
            rounds(n, bodies.len(), |count, i| {
                counted(count, || {
                    assert!(view.parse(black_box(&bodies[i]), 0, &arena).is_ok(), "request {i} is refused");
                    arena.reset();
                });
            })
        }
        "fill_tape" => {
            let mut buffers = simd_json::Buffers::default();
            // Copies made before: it writes into its bytes, which live as long as its tape.
            let mut copies: Vec<Vec<u8>> = (0..=n).flat_map(|_| bodies.iter().cloned()).collect();
            let mut left = copies.iter_mut();
            let mut tape = simd_json::Tape(Vec::new());
            rounds(n, bodies.len(), |count, _| {
                let mut bytes = left.next().map(Vec::as_mut_slice);
                counted(count, || {
                    let bytes = bytes.take().unwrap_or_default();
                    assert!(simd_json::fill_tape(black_box(bytes), &mut buffers, &mut tape).is_ok());
                });
            })
        }
        "request_head" => rounds(n, posts.len(), |count, i| parts.request_head(count, &posts[i])),
        "response" => rounds(n, bodies.len(), |count, i| parts.responses(count, &bodies[i])),
        "splice" => rounds(n, bodies.len(), |count, i| parts.splice(count, &bodies[i])),
        "digest" => rounds(n, bodies.len(), |count, i| {
            counted(count, || {
                black_box(digest(black_box(&bodies[i])));
            })
        }),
        "choose" | "choose_few" => {
            // Every DSP of fifty is known after some rounds that are not counted.
            let few = case == "choose_few";
            let mut choose = choose::Choose::new(if few { parts::DSPS } else { 50 }, !few);
            for round in 0..20 {
                bodies.iter().enumerate().for_each(|(i, body)| choose.run(false, body, round * bodies.len() + i));
            }
            let asked: u32 = bodies.iter().map(|body| choose.asked(body)).sum();
            eprintln!("{} of 10 asked on average", f64::from(asked) / bodies.len() as f64);
            rounds(n, bodies.len(), |count, i| choose.run(count, &bodies[i], i))
        }
        "begin" => rounds(n, bodies.len(), |count, i| {
            parts.auction(&bodies[i], parts::Count { begin: count, ..parts::NOTHING })
        }),
        "judge" => rounds(n, bodies.len(), |count, i| {
            parts.auction(&bodies[i], parts::Count { judge: count, ..parts::NOTHING })
        }),
        "decide" => rounds(n, bodies.len(), |count, i| {
            parts.auction(&bodies[i], parts::Count { decide: count, ..parts::NOTHING })
        }),
        "record" => rounds(n, bodies.len(), |count, i| {
            parts.auction(&bodies[i], parts::Count { record: count, ..parts::NOTHING })
        }),
        "publish" => {
            let mut blackbox = blackbox::BlackBox::new();
            rounds(n, bodies.len(), |count, _| blackbox.publish(count))
        }
        "reserve" => {
            let mut ledger = ledger::Ledger::new();
            rounds(n, bodies.len(), |count, i| ledger.check_and_reserve(count, i))
        }
        "reserve_nothing" => {
            let mut ledger = ledger::Ledger::new();
            rounds(n, bodies.len(), |count, i| ledger.nothing(count, i))
        }
        "token_write" => {
            let mut notices = notice::Notices::new();
            rounds(n, bodies.len(), |count, i| notices.write(count, i))
        }
        "token_read" => {
            let mut notices = notice::Notices::new();
            rounds(n, bodies.len(), |count, i| notices.read(count, i))
        }
        "charge" => {
            let mut ledger = ledger::Ledger::new();
            rounds(n, bodies.len(), |count, i| ledger.whole(count, i))
        }
        "answer" => rounds(n, bodies.len(), |count, i| {
            parts.auction(&bodies[i], parts::Count { answer: count, ..parts::NOTHING })
        }),
        "health" | "health_off" => {
            let mut healths = health::Healths::new(case == "health");
            rounds(n, bodies.len(), |count, _| healths.auction(count))
        }
        "auction" => core::auctions(&posts, n, core::Half::Both, ""),
        "auction_unshaped" => core::auctions(&posts, n, core::Half::Both, parts::UNSHAPED),
        "auction_ask" => core::auctions(&posts, n, core::Half::Ask, ""),
        "auction_hear" => core::auctions(&posts, n, core::Half::Hear, ""),
        other => panic!(
            "case={other}: there are parse, fill_tape, request_head, response, splice, digest, choose, choose_few, begin, judge, decide, record, publish, reserve, reserve_nothing, charge, token_write, token_read, answer, health, health_off, auction, auction_unshaped, auction_ask, auction_hear, ledger"
        ),
    };
    println!("{ops}");
}
