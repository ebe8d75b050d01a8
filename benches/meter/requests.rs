//! Prints bid requests, one a line: the load generator's own (`outcry load`), less those that a DSP with one currency
//! and one seat may not bid on, so that who bids is `fate`'s to say alone.
//!
//!   floor-requests count=1200 seed=1 tmax=900 >requests.jsonl
//!   floor-requests count=1200 seed=1 tmax=900 media=banner lo=1800 hi=2300
//!
//! `media` keeps requests whose impressions have this and nothing else, `lo` and `hi` those of so many bytes. Every id is
//! a run of zeros, for `floor-load` to fill in. What it printed is said on standard error.
use memchr::memmem;
use outcry_benches::kit::Args;
use outcry_cores::lab::requests::generate;
use std::io::{BufWriter, Write, stdout};

/// Dollars are welcome, nothing is reserved for a seat, and no auction is private.
fn open_to_all(body: &[u8]) -> bool {
    let has = |what: &str| memmem::find(body, what.as_bytes()).is_some();
    let dollars = !has("\"cur\":[") || has("\"cur\":[\"USD\"") || has(",\"USD\"]");
    dollars && !has("\"wseat\"") && !has("\"private_auction\":1")
}

/// Its impressions have `media` and nothing else.
fn only(body: &[u8], media: &str) -> bool {
    let has = |what: &str| memmem::find(body, format!("\"{what}\":{{").as_bytes()).is_some();
    ["banner", "video", "audio", "native"].iter().all(|m| has(m) == (*m == media))
}

/// Gives it this `tmax`: how long an auction takes is the run's to say, not the request's.
fn with_tmax(body: &[u8], tmax: usize) -> Vec<u8> {
    const KEY: &[u8] = b"\"tmax\":";
    let at = memmem::find(body, KEY).expect("the generator writes tmax") + KEY.len();
    let digits = body[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    [&body[..at], tmax.to_string().as_bytes(), &body[at + digits..]].concat()
}

fn requests(seed: u64, count: usize, keep: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    // Enough to choose from: a fifth of all is kept even of one medium within narrow bounds, and the generator is quick.
    let mut all: Vec<Vec<u8>> = generate(seed, 40 * count.max(250)).into_iter().map(|t| t.body).collect();
    all.retain(|b| open_to_all(b) && keep(b));
    all.truncate(count);
    all
}

fn main() -> std::io::Result<()> {
    let a = Args::parse(&["count", "seed", "tmax", "media", "lo", "hi"]);
    let (count, media) = (a.count("count", 1200), a.text("media", ""));
    let (lo, hi, tmax) = (a.count("lo", 0), a.count("hi", usize::MAX >> 1), a.count("tmax", 900));
    let keep = |b: &[u8]| (lo..=hi).contains(&b.len()) && (media.is_empty() || only(b, &media));
    let made = requests(a.num("seed", 1) as u64, count, keep);
    assert_eq!(made.len(), count, "too few requests are like that; lower count or widen the bounds");
    let mut out = BufWriter::new(stdout().lock());
    let mut bytes = 0;
    for body in &made {
        let body = with_tmax(body, tmax);
        bytes += body.len();
        out.write_all(&body)?;
        out.write_all(b"\n")?;
    }
    eprintln!("{count} requests, {} bytes on average", bytes / count.max(1));
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_asked_for() {
        assert!(requests(1, 300, |_| true).iter().all(|b| open_to_all(b)));
        let banners = requests(1, 100, |b| only(b, "banner"));
        assert!(banners.len() == 100 && banners.iter().all(|b| memmem::find(b, b"\"video\":{").is_none()));
        assert!(!open_to_all(br#"{"cur":["EUR"]}"#) && open_to_all(br#"{"cur":["GBP","USD"]}"#) && open_to_all(b"{}"));
        assert!(!open_to_all(br#"{"deals":[{"wseat":["a"]}]}"#));
    }

    #[test]
    fn tmax_is_replaced_and_nothing_else() {
        assert_eq!(with_tmax(br#"{"at":1,"tmax":120,"x":1}"#, 900), br#"{"at":1,"tmax":900,"x":1}"#);
    }
}
