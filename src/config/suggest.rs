//! "Did you mean ...": the right word nearest to a wrong one.
//! Owns: nothing. Called by: `check` and `kind`, for keys and for values from a list; budgets, for names.

/// The candidate that `found` most likely was meant to be. None when nothing is close: a wrong hint costs more
/// than no hint.
pub fn nearest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Longer than any key: no typing error, and the distance is quadratic in length.
    if found.len() > 64 {
        return None;
    }
    let found = plain(found);
    candidates
        .into_iter()
        .filter_map(|c| {
            let candidate = plain(c);
            let distance = strsim::damerau_levenshtein(&found, &candidate);
            // A third of the letters may be wrong; of a short word one.
            let near = distance <= (found.chars().count() / 3).max(1);
            // A part of the whole is the other common slip: `timeout` for `timeout_ms`.
            let part = found.len() >= 4 && (candidate.starts_with(&found) || candidate.ends_with(&found));
            (near || part).then(|| (!near, distance, strsim::jaro_winkler(&found, &candidate), c))
        })
        // The likeness breaks ties of distance; compared the other way round, so that the smallest is the best.
        .min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(b.2.total_cmp(&a.2)))
        .map(|best| best.3)
}

/// Case and the kind of dash are never what was meant to differ.
fn plain(word: &str) -> String {
    word.to_lowercase().replace(['-', ' ', '.'], "_")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typing_errors_find_their_word() {
        let keys = ["head_bytes", "body_bytes", "idle_ms", "slow_ms", "write_ms", "timeout_ms", "gzip"];
        for (found, want) in [
            ("head_byte", Some("head_bytes")),
            ("headbytes", Some("head_bytes")),
            ("Head-Bytes", Some("head_bytes")),
            ("ilde_ms", Some("idle_ms")),
            ("timeout", Some("timeout_ms")),
            ("gzpi", Some("gzip")),
            ("xyz", None),
            ("completely_different", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, keys), want, "{found}");
        }
        assert_eq!(nearest(&"head_bytes".repeat(1_000_000), keys), None);
    }
}
