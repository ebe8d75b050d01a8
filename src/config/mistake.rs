//! One thing that is wrong in a configuration, told so that its writer can put it right.
//! Owns: plain data. Called by: `check` makes them, `outcry check` and `outcry serve` print them.
use std::fmt;

/// One mistake. Lines and columns count from one; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Where.
    pub line: usize,
    /// Where on that line.
    pub column: usize,
    /// The key with its section, `http.head_bytes`; empty where the file is not TOML.
    pub key: String,
    /// What stands there, cut to a length that fits one line.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
    /// The nearest right key or value, as it would be written.
    pub nearest: Option<String>,
}

impl fmt::Display for Mistake {
    /// One line, whatever the file holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { line, column, key, found, allowed, nearest } = self;
        write!(f, "line {line}, column {column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "found {found}; allowed: {allowed}")?;
        match nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

/// Longest piece of the operator's own text that is shown back, in characters.
const SHOWN_MAX: usize = 60;

/// Text as it can stand in one line of a terminal: control characters escaped, long ones cut.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    // escape_debug is for Rust literals; in ours the outer quotes are only dressing.
    out = out.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push_str("...");
    }
    out
}

/// The same between quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line() {
        let mistake = Mistake {
            line: 3,
            column: 9,
            key: "http.body_bytes".into(),
            found: quoted("a\nb\u{1b}[31m"),
            allowed: "1 to 2".into(),
            nearest: Some("2".into()),
        };
        let line = mistake.to_string();
        assert_eq!(
            line,
            r#"line 3, column 9: http.body_bytes: found "a\nb\u{1b}[31m"; allowed: 1 to 2; did you mean `2`?"#
        );
        assert!(quoted(&"x".repeat(10_000)).len() < 80);
    }
}
