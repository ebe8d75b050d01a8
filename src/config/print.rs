//! The whole configuration as a commented file, from the same declarations that read it.
//! Owns: nothing. Called by: `outcry check`, the documentation, packaging.
use super::schema::{Declared, FILE, Fallback, Section, Shape};
use std::fmt::Write;

/// Widest line of a comment.
const WIDTH: usize = 100;

/// Every key with its meaning, what is allowed, and its default. It runs as it is: [`super::load`] makes of it what
/// it makes of an empty file. A line that starts with `#` and no blank is a key or section that may be switched
/// on by taking the `#` away.
pub fn default_toml() -> String {
    let mut out = String::new();
    section(&FILE, &mut out);
    out
}

fn section(section: &Section, out: &mut String) {
    // DSPs, house ads and our node of the supply chain exist only when they are told; the default exchange exists.
    let example = section.shape == Shape::Optional || matches!(section.path, "dsp" | "house");
    if !section.path.is_empty() {
        out.push('\n');
    }
    comment(section.meaning, out);
    if !section.path.is_empty() {
        let _ = writeln!(out, "{}{}", if example { "#" } else { "" }, section.header());
    }
    for key in section.keys {
        out.push('\n');
        one(*key, example, out);
    }
    for below in section.sections {
        self::section(below, out);
    }
}

fn one(key: &dyn Declared, example: bool, out: &mut String) {
    let (off, value, note) = match key.fallback() {
        Fallback::Toml(t) => (false, t.to_owned(), format!("default {t}")),
        Fallback::Number(n) => (false, n.to_string(), format!("default {n}")),
        Fallback::AtMost(n, other) => (true, n.to_string(), format!("default {n}, or {other} where that is lower")),
        Fallback::Derived(other, t) => (true, t.to_owned(), format!("default {other}")),
        Fallback::Unset(e) => (true, e.to_owned(), "unset by default".to_owned()),
        Fallback::Required(e) => (false, e.to_owned(), "required".to_owned()),
    };
    comment(&format!("{} Allowed: {}; {note}.", key.meaning(), key.allowed()), out);
    let _ = writeln!(out, "{}{} = {value}", if off || example { "#" } else { "" }, key.name());
}

/// Wrapped at blanks.
fn comment(text: &str, out: &mut String) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, load};

    #[test]
    fn the_printed_file_is_the_default() {
        let [printed, empty] = [&default_toml(), ""].map(|text| load(text, 1).expect("the default is right"));
        assert_ne!(printed.hash, empty.hash, "two texts");
        assert_eq!(Config { hash: empty.hash, ..printed }, empty);
    }

    #[test]
    fn every_example_in_it_is_right() {
        let switched_on: String = default_toml()
            .lines()
            // One says how many, the other which: not both.
            .filter(|l| !l.starts_with("#bidder_count"))
            .map(|l| match l.strip_prefix('#') {
                Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
                _ => format!("{l}\n"),
            })
            .collect();
        let config = load(&switched_on, 1).unwrap_or_else(|m| panic!("{m:#?}\n{switched_on}"));
        assert_eq!((config.dsps.len(), config.cpus.bidders.len()), (1, 2));
        assert!(config.auction.schain.is_some());
    }

    #[test]
    fn every_key_and_section_is_in_it() {
        fn look(section: &Section, text: &str) {
            assert!(section.path.is_empty() || text.contains(&section.header()), "{}", section.path);
            for key in section.keys {
                assert!(text.contains(&format!("{} = ", key.name())), "{}", key.name());
                assert!(key.meaning().ends_with('.'), "{}", key.name());
            }
            section.sections.iter().for_each(|s| look(s, text));
        }
        let text = default_toml();
        look(&FILE, &text);
        assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
    }
}
