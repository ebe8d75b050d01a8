//! What must hold of every byte string that somebody else sends us: one function for each reader, `check`, which returns
//! if it holds and panics if it does not.
//!
//! Each is called by a fuzzer (`bins/`, run by `scripts/fuzz`) and by the ordinary tests, over the inputs that the fuzzers
//! have found to reach different code (`corpus/`) and those that were once wrong (`regressions/`).
//!
//! Where a target has choices beside the bytes that are read (a limit, what a DSP may see), the first bytes of its input
//! make them.
pub mod answer;
pub mod blackbox;
pub mod chunked;
pub mod config;
pub mod connection;
pub mod framing;
pub mod gzip;
pub mod head;
pub mod journal;
pub mod mutate;
pub mod names;
pub mod node;
pub mod personal;
pub mod request;
pub mod response;
pub mod rules;
pub mod simd;
pub mod splice;
pub mod targeting;
pub mod token;

/// Returns if what must hold of an input holds, else panics.
pub type Check = fn(&[u8]);

/// Every target and its name.
pub const TARGETS: [(&str, Check); 14] = [
    ("answer", answer::check),
    ("blackbox", blackbox::check),
    ("chunked", chunked::check),
    ("config", config::check),
    ("connection", connection::check),
    ("framing", framing::check),
    ("gzip", gzip::check),
    ("head", head::check),
    ("journal", journal::check),
    ("names", names::check),
    ("personal", personal::check),
    ("request", |body| {
        let _ = request::check(body);
    }),
    ("splice", splice::check),
    ("token", token::check),
];

/// Where to cut `buf`: everywhere if it is short, else at places that its length spreads.
fn cuts(buf: &[u8]) -> impl Iterator<Item = usize> {
    let step = buf.len() / 64 + 1;
    (0..buf.len()).step_by(step)
}
