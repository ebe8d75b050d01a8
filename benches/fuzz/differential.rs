//! Our reading of requests and answers against `serde_json`'s and `simd-json`'s, and our splicing against a twin's, over
//! texts that a grammar has made wrong in every way senders do. Begun from the kept inputs, and from real ones in
//! `../shared/corpus` where that is.
//!
//! `OUTCRY_DIFFERENTIAL_RUNS=200000` runs more, `OUTCRY_DIFFERENTIAL_SEED=7` one; every failure names its seed.
use outcry::{
    json::Why,
    limits::JSON_DEPTH_MAX,
    openrtb::{response::ResponseError, validate::Fault},
};
use outcry_fuzz::{
    config,
    mutate::{Draw, mutate},
    node::Node,
    request, response, simd, splice, targeting,
};
use std::{
    collections::BTreeMap,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Every JSON file below a folder, or a message that there is none.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("SKIPPED: no {}", folder.display());
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
    out.sort();
}

/// Texts to begin from: what the fuzzers kept, without the `choices` in front of it, and what is real.
fn seeds(kept: &str, choices: usize, real: &str) -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    files(&here.join("corpus").join(kept), &mut ours);
    files(&here.join("../../../shared/corpus").join(real), &mut theirs);
    let read = |path: &PathBuf| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut texts: Vec<Vec<u8>> = ours.iter().map(|p| read(p).split_off(choices.min(read(p).len()))).collect();
    for bytes in theirs.iter().map(read) {
        // A case of a test suite holds its request somewhere inside.
        let inside = Node::read(&bytes, JSON_DEPTH_MAX).ok().and_then(|case| {
            let request = case.get("mockBidRequest").or(case.at(&["incomingRequest", "ortbRequest"]));
            request.map(|r| r.raw.as_bytes().to_vec())
        });
        texts.push(inside.unwrap_or(bytes));
    }
    texts.retain(|t| Node::read(t, JSON_DEPTH_MAX).is_ok());
    texts
}

/// Runs `check`, which says what became of a text, over many; how often each thing became of one.
fn run(seeds: &[Vec<u8>], check: fn(&[u8]) -> &'static str) -> BTreeMap<&'static str, u32> {
    assert!(seeds.len() >= 3, "{} texts to begin from", seeds.len());
    let only = number("OUTCRY_DIFFERENTIAL_SEED");
    let runs = only.map_or(0..number("OUTCRY_DIFFERENTIAL_RUNS").unwrap_or(4_000), |seed| seed..seed + 1);
    let mut became = BTreeMap::new();
    for seed in runs {
        let mut draw = Draw::new(seed);
        let mut text = seeds[draw.below(seeds.len())].clone();
        for _ in 0..1 + draw.below(2) {
            text = mutate(&text, &mut draw);
        }
        let checked = catch_unwind(|| {
            simd::check(&text, &Node::read(&text, JSON_DEPTH_MAX));
            check(&text)
        });
        match checked {
            Ok(what) => *became.entry(what).or_default() += 1,
            Err(_) => panic!("OUTCRY_DIFFERENTIAL_SEED={seed}: {}", String::from_utf8_lossy(&text)),
        }
    }
    println!("{} texts to begin from: {became:?}", seeds.len());
    became
}

/// Each of these became of some text; with one seed alone there is nothing to say.
fn all_of(became: &BTreeMap<&str, u32>, wanted: &[&str]) {
    if number("OUTCRY_DIFFERENTIAL_SEED").is_none() {
        let missing: Vec<_> = wanted.iter().filter(|w| !became.contains_key(*w)).collect();
        assert!(missing.is_empty(), "never: {missing:?}");
    }
}

#[test]
fn requests_are_read_as_others_read_json() {
    let became = run(&seeds("request", 0, "prebid-server"), |text| match request::check(text) {
        Ok(()) => "accepted",
        Err(refusal) => match refusal.rule.fault {
            // JSON to others, and refused: what `check` has found to be so.
            Fault::NotJson(Why::Depth) => "too deep",
            Fault::NotJson(Why::Surrogate) => "half a surrogate pair",
            Fault::NotJson(_) => "not JSON",
            fault => fault.name(),
        },
    });
    let rules =
        ["duplicate_key", "missing", "wrong_type", "negative", "too_many", "not_unique", "no_media", "not_a_currency"];
    all_of(&became, &["accepted", "too deep", "half a surrogate pair", "not JSON"]);
    all_of(&became, &rules);
}

#[test]
fn requests_are_spliced_as_a_twin_edits_them() {
    run(&seeds("request", 0, "prebid-server"), |text| {
        // What the DSP may see follows from the text, so that a seed stays one.
        let choices = [text.len() as u8, text.iter().fold(0, |sum: u8, b| sum.wrapping_add(*b))];
        splice::check(&[&choices, text].concat());
        "checked"
    });
}

#[test]
fn answers_are_read_as_others_read_json() {
    let became = run(&seeds("answer", 1, "dsp-responses"), |text| match response::check(text) {
        Ok(_) => "accepted",
        Err(ResponseError::DuplicateKey(_)) => "a member twice",
        Err(ResponseError::NotAnObject) => "no object",
        Err(ResponseError::NotJson(e)) => match e.why {
            Why::Depth => "too deep",
            Why::Surrogate => "half a surrogate pair",
            _ => "not JSON",
        },
    });
    all_of(&became, &["accepted", "a member twice", "no object", "too deep", "half a surrogate pair", "not JSON"]);
}

/// Configurations in which DSPs state what they buy, and requests that meet much of it.
#[test]
fn what_dsps_state_is_combined_as_one_reads_it() {
    let only = number("OUTCRY_DIFFERENTIAL_SEED");
    let runs = only.map_or(0..number("OUTCRY_DIFFERENTIAL_RUNS").unwrap_or(4_000) / 4, |seed| seed..seed + 1);
    for seed in runs {
        let text = targeting::configuration(&mut Draw::new(seed));
        assert!(outcry::config::load(&text, 3).is_ok(), "OUTCRY_DIFFERENTIAL_SEED={seed}: {text}");
        if catch_unwind(|| config::check(text.as_bytes())).is_err() {
            panic!("OUTCRY_DIFFERENTIAL_SEED={seed}: {text}");
        }
    }
}
