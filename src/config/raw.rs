//! What the operator wrote: TOML, and where in the text each piece of it stands. Nothing is judged here but the
//! syntax.
//! Owns: the parsed text for as long as it is being checked. Called by: `check`. Never: stops at the first error.
use super::mistake::{Mistake, shown};
use std::borrow::Cow;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A parsed file.
pub(super) struct Raw<'t> {
    /// Its top level, as far as it could be read.
    pub(super) root: DeTable<'t>,
    /// Where things are.
    pub(super) places: Places<'t>,
}

impl<'t> Raw<'t> {
    /// Reads a text whose syntax [`mend`] has looked at.
    pub(super) fn parse(text: &'t str) -> Raw<'t> {
        Raw { root: DeTable::parse_recoverable(text).0.into_inner(), places: Places::new(text) }
    }
}

/// Most times that a text is mended and read again.
const MENDS_MAX: usize = 64;

/// A text whose syntax has been looked at.
pub(super) struct Mended<'t> {
    /// Every piece of it where it was.
    pub(super) text: Cow<'t, str>,
    /// Where it is not TOML.
    pub(super) mistakes: Vec<Mistake>,
    /// How many lines there are before a break that could not be mended: what is read behind it may be nonsense.
    pub(super) lines_sound: usize,
}

/// Where the text is not TOML, at most once a line, and the text with those lines blanked: the parser gives up
/// behind some breaks, and what follows is to be checked too. Nothing moves: every place stays what it was.
pub(super) fn mend(text: &str) -> Mended<'_> {
    let (mut text, mut mistakes, mut lines_sound) = (Cow::Borrowed(text), Vec::<Mistake>::new(), usize::MAX);
    for _ in 0..MENDS_MAX {
        let places = Places::new(&text);
        let mut fresh: Vec<Mistake> = DeTable::parse_recoverable(&text).1.iter().map(|e| broken(e, &places)).collect();
        fresh.retain(|f| mistakes.iter().all(|m| m.line != f.line));
        // What follows a break on the same line is the same break seen again.
        fresh.sort();
        fresh.dedup_by_key(|m| m.line);
        let lines: Vec<usize> = fresh.iter().map(|m| m.line).collect();
        mistakes.append(&mut fresh);
        let alone = |line: &str| !line.contains('[') && !line.contains("\"\"\"") && !line.contains("'''");
        // A list, a long string or a section without its first line would be judged wrongly: it stays.
        let mut mended = String::with_capacity(text.len());
        let mut blanked = false;
        for (i, line) in text.split_inclusive('\n').enumerate() {
            match lines.contains(&(i + 1)) && alone(line) {
                true => {
                    blanked = true;
                    mended.extend(line.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
                }
                false => {
                    if lines.contains(&(i + 1)) {
                        lines_sound = lines_sound.min(i);
                    }
                    mended.push_str(line);
                }
            }
        }
        if !blanked {
            break;
        }
        text = Cow::Owned(mended);
    }
    mistakes.sort();
    Mended { text, mistakes, lines_sound }
}

/// A syntax error as a mistake.
fn broken(error: &toml::de::Error, places: &Places<'_>) -> Mistake {
    let span = error.span().unwrap_or(0..0);
    let (line, column) = places.of(span.start);
    let text = places.text.get(span.clone()).unwrap_or("").trim();
    let message = error.message();
    let (problem, allowed) = match message.split_once(", expected ") {
        Some((problem, expected)) => (problem, expected.to_owned()),
        None if message.starts_with("duplicate key") => ("duplicate key", "each key and section once".to_owned()),
        None => (message, "TOML, for instance: key = \"value\"".to_owned()),
    };
    let found = match text {
        "" => shown(problem),
        text => format!("{} at {}", shown(problem), shown(text)),
    };
    Mistake { line, column, key: String::new(), found, allowed: shown(&allowed), nearest: None }
}

/// Turns places in the text into lines and columns.
pub(super) struct Places<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'t> Places<'t> {
    fn new(text: &'t str) -> Places<'t> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Places { text, lines }
    }

    /// Line and column, both from one, of a byte.
    pub(super) fn of(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}

/// One value of the file in words.
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(s) => super::mistake::quoted(s),
        DeValue::Integer(n) => shown(&n.to_string()),
        DeValue::Float(n) => shown(n.as_str()),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(d) => format!("the date {}", shown(&d.to_string())),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A value where it stands.
pub(super) type Found<'t> = Spanned<DeValue<'t>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let places = Places::new("ab\nä=1\n\nx");
        for (at, want) in [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (8, (3, 1)), (9, (4, 1)), (99, (4, 1))] {
            assert_eq!(places.of(at), want, "{at}");
        }
    }

    #[test]
    fn every_line_that_is_not_toml_is_told_and_the_rest_is_read() {
        for (text, want, key) in [
            ("a\nb = 1\nc\nd = 2\nd = 3\ne = 4", &[1, 3, 5][..], "e"),
            ("a = \nb = ä\n= 3\nc = 1\n", &[1, 2, 3], "c"),
            ("a = 1\nb = \"x\nc = 1\n", &[2], "c"),
            ("a = 1\n", &[], "a"),
        ] {
            let Mended { text: mended, mistakes, .. } = mend(text);
            assert_eq!(mistakes.iter().map(|m| m.line).collect::<Vec<_>>(), want, "{mistakes:?}");
            assert_eq!(mended.len(), text.len());
            assert!(Raw::parse(&mended).root.contains_key(key), "{mended}");
        }
    }

    #[test]
    fn a_break_in_a_list_is_not_told_again_for_each_of_its_lines() {
        let Mended { mistakes, lines_sound, .. } = mend("x = 1\na = [1, 2 3,\n4,\n5]\nb = 1\n");
        assert_eq!(mistakes.iter().map(|m| m.line).collect::<Vec<_>>(), [2], "{mistakes:?}");
        assert_eq!(lines_sound, 1);
    }
}
