//! Configuration files: whatever stands in one, its mistakes are told, or what would run keeps every promise, and DSPs are offered
//! what they state they want.
use super::targeting;
use outcry::{
    config::{self, Config, Mistake},
    limits::{AUCTIONS_MAX, BODY_BYTES_MAX, CLIENTS_MAX, DSP_CONNECTIONS_MAX, DSPS_MAX, EXCHANGES_MAX, HEAD_BYTES_MAX},
};
use std::collections::HashSet;

/// The bytes are the file.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = config::load(text, 3);
    assert_eq!(config::load(text, 3), read, "read twice");
    match &read {
        Ok(config) => {
            assert!(text.parse::<toml::Table>().is_ok(), "accepted, and not TOML");
            promises(config);
            targeting::check(config, config.hash);
        }
        Err(mistakes) => told(text, mistakes),
    }
    // What says nothing changes nothing but places. Only a byte order mark must come first; and of what the parser finds
    // nested too deeply it says no place, so it is told of the first line and whatever else is there is not.
    let placeless = |m: &Mistake| m.key.is_empty() && (m.line, m.column) == (1, 1);
    // Where the first line is broken itself, it has been told of already.
    let spaced = config::load(&format!("# a comment\n\n{text}"), 3);
    let nowhere = [&read, &spaced].iter().any(|read| read.as_ref().is_err_and(|all| all.iter().any(placeless)));
    if text.starts_with('\u{feff}') || nowhere {
        return;
    }
    // The hash is the text's.
    let unhashed = |config: &Config| Config { hash: 0, ..config.clone() };
    let verdict = |read: &Result<Config, Vec<Mistake>>| read.as_ref().map_err(Vec::len).map(unhashed);
    assert_eq!(verdict(&spaced), verdict(&read), "two lines further down");
}

fn told(text: &str, mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty(), "refused for nothing");
    let lines = text.split('\n').count();
    for mistake in mistakes {
        assert!((1..=lines).contains(&mistake.line), "line {} of {lines}: {mistake}", mistake.line);
        let line = mistake.to_string();
        assert!(!line.contains(['\n', '\r']), "a mistake is one line: {line:?}");
    }
    let mut sorted = mistakes.to_vec();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted, mistakes, "in the order of the file, each once");
}

/// What every other module takes for granted.
fn promises(c: &Config) {
    assert_eq!(c.id, 3);
    assert!((1..=EXCHANGES_MAX).contains(&c.exchanges.len()) && c.dsps.len() <= DSPS_MAX);
    let unique = |all: Vec<&str>, what| {
        let n = all.len();
        assert!(all.iter().all(|s| !s.is_empty()), "a {what} that is empty");
        assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), n, "a {what} twice");
    };
    unique(c.exchanges.iter().map(|e| e.name.as_str()).collect(), "name of an exchange");
    unique(c.exchanges.iter().map(|e| e.path.as_str()).collect(), "path");
    unique(c.dsps.iter().map(|d| d.name.as_str()).collect(), "name of a DSP");
    // What goes into a head must not end it.
    let plain = |text: &str| text.bytes().all(|b| b > b' ' && b != 0x7f);
    for e in &c.exchanges {
        assert!(e.path.starts_with('/') && plain(&e.path), "{:?}", e.path);
    }
    for d in &c.dsps {
        assert!(plain(&d.host) && plain(&d.path) && d.path.starts_with('/'), "{:?} {:?}", d.host, d.path);
        for (name, value) in &d.headers {
            assert!(plain(name) && !name.contains(':'), "{name:?}");
            assert!(!value.bytes().any(|b| b < b' ' && b != b'\t' || b == 0x7f), "{value:?}");
        }
        assert!((1..=DSP_CONNECTIONS_MAX).contains(&d.connections) && d.warm <= d.connections && d.timeout_ms > 0);
        assert!(d.currencies.iter().all(|cur| c.rates.rate(*cur).is_some()), "a DSP's currency without a rate");
    }
    assert!(c.http.head_bytes <= HEAD_BYTES_MAX && c.http.body_bytes <= BODY_BYTES_MAX);
    assert!((1..=CLIENTS_MAX).contains(&c.http.connections) && (1..=AUCTIONS_MAX).contains(&c.http.auctions));
    assert!(c.auction.tmax_default_ms <= c.auction.tmax_max_ms && c.auction.dsp_min_ms <= c.auction.dsp_ms);
    assert!(c.rates.rate(c.rates.accounting).is_some(), "the accounting currency has a rate");
    assert!(c.rates.rates.iter().all(|(_, rate)| rate.0 > 0));
}
