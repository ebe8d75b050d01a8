//! What one value may be: reads it, says what is allowed, and names the nearest right one.
//! Owns: nothing. Called by: `check`, for each key of `schema`. Never: compares two keys; that is `check`.
use super::{
    mistake::{quoted, shown},
    raw::{Found, describe},
    suggest,
};
use crate::units::{Cpm, Currency, Money, Rate, Round};
use std::path::{Path, PathBuf};
use toml::de::DeValue;

/// What is wrong with a value, or with one entry of a list or table.
pub(super) struct Wrong {
    /// Where in the text.
    pub(super) at: usize,
    /// The entry of a table, when it is one.
    pub(super) entry: Option<String>,
    pub(super) found: String,
    pub(super) allowed: String,
    pub(super) nearest: Option<String>,
}

/// A kind of value.
pub(super) trait Kind {
    /// What it is read into.
    type Value;
    /// Reads it. None exactly when something was added to `wrong`.
    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Self::Value>;
    /// What may be written, for the file's comments and for mistakes.
    fn allowed(&self) -> String;
    /// What takes the place of a value that is missing or wrong, so that checking can go on. Never runs.
    fn stand_in(&self) -> Self::Value;

    /// Says that `found` is not of this kind.
    fn refuse(&self, found: &Found<'_>, nearest: Option<String>, wrong: &mut Vec<Wrong>) -> Option<Self::Value> {
        let (at, found) = (found.span().start, describe(found.get_ref()));
        wrong.push(Wrong { at, entry: None, found, allowed: self.allowed(), nearest });
        None
    }
}

/// The text of a string value.
pub(super) fn text<'f>(found: &'f Found<'_>) -> Option<&'f str> {
    match found.get_ref() {
        DeValue::String(s) => Some(s),
        _ => None,
    }
}

/// The digits of a number as they were written (never a float), or a string that holds a number.
fn digits<'f>(found: &'f Found<'_>) -> Option<&'f str> {
    let digits = match found.get_ref() {
        DeValue::Integer(n) if n.radix() == 10 => n.as_str(),
        DeValue::Float(n) => n.as_str(),
        DeValue::String(s) => s,
        _ => return None,
    };
    Some(digits.strip_prefix('+').unwrap_or(digits))
}

/// A whole number.
pub(super) struct Whole {
    pub(super) min: u64,
    pub(super) max: u64,
    /// `bytes`, `milliseconds`; empty where the number is a plain count or index.
    pub(super) unit: &'static str,
}

impl Kind for Whole {
    type Value = u64;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<u64> {
        let nearest = match found.get_ref() {
            DeValue::Integer(n) => match u64::from_str_radix(n.as_str(), n.radix()) {
                Ok(n) if (self.min..=self.max).contains(&n) => return Some(n),
                Ok(n) => Some(n.clamp(self.min, self.max)),
                Err(_) if n.as_str().starts_with('-') => Some(self.min),
                Err(_) => Some(self.max),
            },
            // `"8192"` and `8192.0` were meant as numbers.
            _ => digits(found)
                .map(|d| d.strip_suffix(".0").unwrap_or(d))
                .and_then(|d| d.parse::<u64>().ok())
                .map(|n| n.clamp(self.min, self.max)),
        };
        self.refuse(found, nearest.map(|n| n.to_string()), wrong)
    }

    fn allowed(&self) -> String {
        let space = if self.unit.is_empty() { "" } else { " " };
        format!("{} to {}{space}{}", self.min, self.max, self.unit)
    }

    fn stand_in(&self) -> u64 {
        self.min
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<bool> {
        let word = match found.get_ref() {
            DeValue::Boolean(b) => return Some(*b),
            DeValue::String(s) => s.to_ascii_lowercase(),
            DeValue::Integer(n) => n.to_string(),
            _ => String::new(),
        };
        let nearest = match word.as_str() {
            "true" | "yes" | "on" | "1" => Some("true"),
            "false" | "no" | "off" | "0" => Some("false"),
            _ => None,
        };
        self.refuse(found, nearest.map(str::to_owned), wrong)
    }

    fn allowed(&self) -> String {
        "true or false".to_owned()
    }

    fn stand_in(&self) -> bool {
        false
    }
}

/// One word of a few; the first stands in.
pub(super) struct Choice<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + Default> Kind for Choice<T> {
    type Value = T;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<T> {
        let word = text(found);
        if let Some(choice) = self.0.iter().find(|c| Some(c.0) == word) {
            return Some(choice.1);
        }
        let nearest = word.and_then(|w| suggest::nearest(w, self.0.iter().map(|c| c.0)));
        self.refuse(found, nearest.map(quoted), wrong)
    }

    fn allowed(&self) -> String {
        let words: Vec<String> = self.0.iter().map(|c| quoted(c.0)).collect();
        match words.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => words.concat(),
        }
    }

    fn stand_in(&self) -> T {
        T::default()
    }
}

/// An amount of CPM, as a number or as text; read from its digits, exactly.
pub(super) struct Price {
    pub(super) max: Cpm,
}

impl Kind for Price {
    type Value = Cpm;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Cpm> {
        let digits = digits(found);
        let price = digits.and_then(|d| Cpm::parse(d.as_bytes(), Round::Down).ok());
        // Rounded both ways alike: nothing was lost.
        let exact = price.filter(|_| price == digits.and_then(|d| Cpm::parse(d.as_bytes(), Round::Up).ok()));
        match (exact, price) {
            (Some(price), _) if price <= self.max => Some(price),
            (_, price) => {
                let nearest = price.map(|p| format!("\"{}\"", p.min(self.max)));
                self.refuse(found, nearest, wrong)
            }
        }
    }

    fn allowed(&self) -> String {
        format!("0 to {} CPM with at most six decimals, as a number or as text", self.max)
    }

    fn stand_in(&self) -> Cpm {
        Cpm::ZERO
    }
}

/// An amount of money, as a number or as text; read from its digits, exactly.
pub(super) struct Amount;

impl Kind for Amount {
    type Value = Money;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Money> {
        let read = |round| digits(found).and_then(|d| Money::parse(d.as_bytes(), round).ok());
        match (read(Round::Down), read(Round::Up)) {
            (Some(down), Some(up)) if down == up => Some(down),
            (down, _) => self.refuse(found, down.map(|m| format!("\"{m}\"")), wrong),
        }
    }

    fn allowed(&self) -> String {
        format!("0 to {} with at most nine decimals, as a number or as text", Money::MAX)
    }

    fn stand_in(&self) -> Money {
        Money::default()
    }
}

/// An ISO-4217 code in upper case.
pub(super) struct CurrencyCode;

impl Kind for CurrencyCode {
    type Value = Currency;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Currency> {
        let word = text(found).unwrap_or("");
        match Currency::parse(word.as_bytes()) {
            Some(currency) if currency.as_str() == word => Some(currency),
            other => self.refuse(found, other.map(|c| quoted(c.as_str())), wrong),
        }
    }

    fn allowed(&self) -> String {
        "an ISO-4217 code such as \"USD\"".to_owned()
    }

    fn stand_in(&self) -> Currency {
        Currency::USD
    }
}

/// A name in metrics, records and `buyeruids`.
pub(super) struct Name;

/// Longest [`Name`].
pub(super) const NAME_MAX: usize = 32;

impl Kind for Name {
    type Value = String;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<String> {
        let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        let word = text(found);
        if let Some(word) = word.filter(|w| !w.is_empty() && w.len() <= NAME_MAX && w.chars().all(fits)) {
            return Some(word.to_owned());
        }
        let nearest = word.map(|w| {
            w.to_ascii_lowercase().chars().map(|c| if fits(c) { c } else { '_' }).take(NAME_MAX).collect::<String>()
        });
        self.refuse(found, nearest.filter(|n| n.contains(|c| c != '_')).map(|n| quoted(&n)), wrong)
    }

    fn allowed(&self) -> String {
        format!("1 to {NAME_MAX} of a-z, 0-9, _ and -")
    }

    fn stand_in(&self) -> String {
        String::new()
    }
}

/// Text without control characters.
pub(super) struct Text {
    pub(super) max: usize,
}

impl Kind for Text {
    type Value = String;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<String> {
        let fits = |w: &&str| !w.trim().is_empty() && w.chars().count() <= self.max && !w.contains(char::is_control);
        match text(found).filter(fits) {
            Some(word) => Some(word.to_owned()),
            None => {
                // A number where text is meant only lacks its quotes.
                let bare = match found.get_ref() {
                    DeValue::Integer(n) => Some(quoted(&n.to_string())),
                    DeValue::Datetime(d) => Some(quoted(&d.to_string())),
                    _ => None,
                };
                self.refuse(found, bare, wrong)
            }
        }
    }

    fn allowed(&self) -> String {
        format!("text of 1 to {} characters", self.max)
    }

    fn stand_in(&self) -> String {
        String::new()
    }
}

/// An absolute directory: relative ones would depend on where the process was started, and the epoch kept there
/// must not.
pub(super) struct Dir;

impl Kind for Dir {
    type Value = PathBuf;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<PathBuf> {
        match text(found) {
            Some(word) if Path::new(word).is_absolute() && !word.contains('\0') => Some(PathBuf::from(word)),
            Some(word) if !word.is_empty() && !word.contains('\0') => {
                let nearest = quoted(&format!("/{}", word.trim_start_matches("./")));
                self.refuse(found, Some(nearest), wrong)
            }
            _ => self.refuse(found, None, wrong),
        }
    }

    fn allowed(&self) -> String {
        "an absolute path such as \"/var/lib/outcry\"".to_owned()
    }

    fn stand_in(&self) -> PathBuf {
        PathBuf::new()
    }
}

/// Rates by currency, sorted; read from their digits, exactly.
pub(super) struct Rates;

/// Most currencies: more than there are in circulation.
const RATES_MAX: usize = 256;

impl Kind for Rates {
    type Value = Vec<(Currency, Rate)>;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Self::Value> {
        let DeValue::Table(table) = found.get_ref() else { return self.refuse(found, None, wrong) };
        let (before, mut out) = (wrong.len(), Vec::new());
        for (code, value) in table {
            let (at, word) = (code.span().start, code.get_ref().as_ref());
            let currency = Currency::parse(word.as_bytes());
            if currency.is_none_or(|c| c.as_str() != word) {
                wrong.push(Wrong {
                    at,
                    entry: Some(shown(word)),
                    found: format!("the currency {}", quoted(word)),
                    allowed: "an ISO-4217 code such as USD".to_owned(),
                    nearest: currency.map(|c| c.to_string()),
                });
            }
            match (currency, digits(value).and_then(Rate::parse)) {
                (Some(currency), Some(rate)) => out.push((currency, rate)),
                (_, Some(_)) => {}
                (_, None) => wrong.push(Wrong {
                    at: value.span().start,
                    entry: Some(shown(word)),
                    found: describe(value.get_ref()),
                    allowed: "0.000000001 to 1000000, as a number or as text".to_owned(),
                    nearest: None,
                }),
            }
        }
        if table.len() > RATES_MAX {
            let (at, found) = (found.span().start, format!("{} currencies", table.len()));
            wrong.push(Wrong { at, entry: None, found, allowed: self.allowed(), nearest: None });
        }
        out.sort_by_key(|r| r.0);
        (wrong.len() == before).then_some(out)
    }

    fn allowed(&self) -> String {
        format!("a table of at most {RATES_MAX} currencies such as {{ EUR = 1.0837, GBP = \"1.27\" }}")
    }

    fn stand_in(&self) -> Self::Value {
        Vec::new()
    }
}

/// A list of one kind, each entry once.
pub(super) struct List<K> {
    pub(super) item: K,
    /// Entries at least and at most.
    pub(super) count: std::ops::RangeInclusive<usize>,
}

/// An entry of a list and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

impl<K: Kind> Kind for List<K>
where
    K::Value: PartialEq,
{
    type Value = Vec<Placed<K::Value>>;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<Self::Value> {
        let DeValue::Array(array) = found.get_ref() else {
            // One alone lacks only its brackets.
            let alone = self.item.read(found, &mut Vec::new()).map(|_| format!("[{}]", describe(found.get_ref())));
            return self.refuse(found, alone, wrong);
        };
        let (before, mut out) = (wrong.len(), Vec::<Placed<K::Value>>::new());
        for entry in array.iter() {
            let Some(value) = self.item.read(entry, wrong) else { continue };
            let at = entry.span().start;
            if out.iter().any(|o| o.value == value) {
                let found = format!("{} a second time", describe(entry.get_ref()));
                wrong.push(Wrong { at, entry: None, found, allowed: "each entry once".to_owned(), nearest: None });
            }
            out.push(Placed { value, at });
            // Far too long a list is one mistake, not thousands, and not quadratic.
            if out.len() > *self.count.end() {
                break;
            }
        }
        if !self.count.contains(&array.len()) {
            let (at, found) = (found.span().start, format!("a list of {}", array.len()));
            wrong.push(Wrong { at, entry: None, found, allowed: self.allowed(), nearest: None });
        }
        (wrong.len() == before).then_some(out)
    }

    fn allowed(&self) -> String {
        format!("a list of {} to {}, each {}", self.count.start(), self.count.end(), self.item.allowed())
    }

    fn stand_in(&self) -> Self::Value {
        Vec::new()
    }
}
