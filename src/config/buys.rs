//! What a DSP states it buys: the keys of `[[dsp]]` that say so.
//! Owns: these keys and the kinds of their values. Called by: `check`, for each DSP.
use super::{
    check::{Checker, Table},
    kind::{Choice, Flag, Kind, List, Placed, Text, Wrong, text},
    mistake::quoted,
    raw::Found,
    schema::{Fallback::Toml, Key, key},
};
use crate::{
    dsp::targets::Buys,
    limits::{NAMED_MAX, RECORD_TEXT_MAX},
    openrtb::request::Channel,
};

/// Sizes, countries, languages or categories of one DSP.
const CODES_MAX: usize = 256;
/// A banner's longest side.
const SIDE_MAX: u32 = 10_000;

/// A list of codes of some kind.
const fn codes<S: Copy>(kind: S) -> List<Code<S>> {
    List { item: Code(kind), count: 0..=CODES_MAX }
}

pub(super) const SIZES: Key<List<Code<Size>>> = key(
    "sizes",
    Toml("[]"),
    codes(Size),
    "Sizes of banners that it buys; empty: any. A banner without sizes and an interstitial take any.",
);
pub(super) const COUNTRIES: Key<List<Code<Country>>> = key(
    "countries",
    Toml("[]"),
    codes(Country),
    "Countries (device.geo.country) in which it buys; empty: any. With a list, a request that names none is not for it.",
);
pub(super) const DEVICES: Key<List<Choice<u32>>> = key(
    "devices",
    Toml("[]"),
    List {
        item: Choice(&[
            ("mobile", 1),
            ("pc", 2),
            ("tv", 3),
            ("phone", 4),
            ("tablet", 5),
            ("connected", 6),
            ("settop", 7),
            ("ooh", 8),
        ]),
        count: 0..=8,
    },
    "Kinds of devices (device.devicetype 1 to 8) for which it buys; empty: any. With a list, a request that names none is not \
     for it.",
);
pub(super) const CHANNELS: Key<List<Choice<u32>>> = key(
    "channels",
    Toml("[]"),
    List {
        item: Choice(&[("site", Channel::Site as u32), ("app", Channel::App as u32), ("dooh", Channel::Dooh as u32)]),
        count: 0..=3,
    },
    "Where it buys; empty: anywhere.",
);
const NAMES: List<Text> = List { item: Text { max: RECORD_TEXT_MAX }, count: 0..=NAMED_MAX };
pub(super) const PUBLISHERS: Key<List<Text>> =
    key("publishers", Toml("[]"), NAMES, "Publishers (publisher.id) of whom alone it buys; empty: any.");
pub(super) const PUBLISHERS_NOT: Key<List<Text>> =
    key("publishers_not", Toml("[]"), NAMES, "Publishers (publisher.id) of whom it does not buy.");
pub(super) const DEALS: Key<List<Text>> = key(
    "deals",
    Toml("[]"),
    NAMES,
    "Deals it takes part in: an impression with one of them is offered to it first, whatever else is stated here, and of \
     private auctions no others; empty: any.",
);
pub(super) const LANGUAGES: Key<List<Code<Language>>> = key(
    "languages",
    Toml("[]"),
    codes(Language),
    "Languages (device.language) in which it buys; empty: any, and so is a request that names none.",
);
pub(super) const CATEGORIES: Key<List<Code<Category>>> = key(
    "categories",
    Toml("[]"),
    codes(Category),
    "Categories (site.cat, app.cat) of content taxonomy 1.0 of which it buys, those below them too; empty: any, and so is a \
     request that names none or those of another taxonomy.",
);
pub(super) const CATEGORIES_NOT: Key<List<Code<Category>>> =
    key("categories_not", Toml("[]"), codes(Category), "Categories of which it does not buy, nor of those below them.");
pub(super) const BUYERUID_NEEDED: Key<Flag> =
    key("buyeruid_needed", Toml("false"), Flag, "It is asked only about people of whom it sees a user.buyeruid.");
pub(super) const SECURE_NEEDED: Key<Flag> =
    key("secure_needed", Toml("false"), Flag, "It is offered only impressions that are secure.");

/// What a code of some kind looks like.
pub(super) trait Shape {
    /// What it is read into.
    type Value: PartialEq + Default;
    /// In words.
    const ALLOWED: &str;
    /// Reads it.
    fn read(&self, text: &str) -> Option<Self::Value>;
    /// A text that is nearly right, as it should be.
    fn mend(&self, text: &str) -> String;
}

/// A value that is written as a short text.
pub(super) struct Code<S>(S);

impl<S: Shape> Kind for Code<S> {
    type Value = S::Value;

    fn read(&self, found: &Found<'_>, wrong: &mut Vec<Wrong>) -> Option<S::Value> {
        let word = text(found);
        if let Some(value) = word.and_then(|w| self.0.read(w)) {
            return Some(value);
        }
        let nearest = word.map(|w| self.0.mend(w)).filter(|mended| self.0.read(mended).is_some());
        self.refuse(found, nearest.map(|n| quoted(&n)), wrong)
    }

    fn allowed(&self) -> String {
        S::ALLOWED.to_owned()
    }

    fn stand_in(&self) -> S::Value {
        S::Value::default()
    }
}

/// A banner's size.
#[derive(Clone, Copy)]
pub(super) struct Size;

impl Shape for Size {
    type Value = (u32, u32);
    const ALLOWED: &str = "width and height such as \"300x250\", 1 to 10000 each";

    fn read(&self, text: &str) -> Option<(u32, u32)> {
        let side = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
            digits.parse().ok().filter(|side| plain && (1..=SIDE_MAX).contains(side))
        };
        let (w, h) = text.split_once('x')?;
        Some((side(w)?, side(h)?))
    }

    fn mend(&self, text: &str) -> String {
        let parts: Vec<&str> = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).collect();
        parts.join("x")
    }
}

/// A country.
#[derive(Clone, Copy)]
pub(super) struct Country;

impl Shape for Country {
    type Value = String;
    const ALLOWED: &str = "an ISO-3166-1 alpha-3 code such as \"DEU\"";

    fn read(&self, text: &str) -> Option<String> {
        (text.len() == 3 && text.bytes().all(|b| b.is_ascii_uppercase())).then(|| text.to_owned())
    }

    fn mend(&self, text: &str) -> String {
        text.trim().to_ascii_uppercase()
    }
}

/// A language.
#[derive(Clone, Copy)]
pub(super) struct Language;

impl Shape for Language {
    type Value = String;
    const ALLOWED: &str = "an ISO-639-1 code such as \"en\"";

    fn read(&self, text: &str) -> Option<String> {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_lowercase())).then(|| text.to_owned())
    }

    fn mend(&self, text: &str) -> String {
        text.trim().split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase()
    }
}

/// A category of content taxonomy 1.0.
#[derive(Clone, Copy)]
pub(super) struct Category;

impl Shape for Category {
    type Value = String;
    const ALLOWED: &str = "a category of content taxonomy 1.0 such as \"IAB1\" or \"IAB1-3\"";

    fn read(&self, text: &str) -> Option<String> {
        let number = |digits: &str| (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let mut parts = text.strip_prefix("IAB")?.splitn(2, '-');
        (number(parts.next()?) && parts.next().is_none_or(number)).then(|| text.to_owned())
    }

    fn mend(&self, text: &str) -> String {
        text.trim().to_ascii_uppercase().replace('_', "-")
    }
}

impl Checker<'_, '_> {
    /// What the DSP of this table buys.
    pub(super) fn buys(&mut self, table: Table<'_, '_>) -> Buys {
        fn values<T>(list: Vec<Placed<T>>) -> Vec<T> {
            list.into_iter().map(|placed| placed.value).collect()
        }
        let bits = |list: Vec<Placed<u32>>| list.iter().fold(0u32, |bits, number| bits | 1 << number.value.min(31));
        let publishers_not = self.get(table, &PUBLISHERS_NOT);
        let publishers = self.get(table, &PUBLISHERS).value;
        self.not_both(table, "publishers", &publishers, &publishers_not.value);
        let categories = self.get(table, &CATEGORIES).value;
        let categories_not = self.get(table, &CATEGORIES_NOT).value;
        self.not_both(table, "categories", &categories, &categories_not);
        Buys {
            sizes: values(self.get(table, &SIZES).value),
            countries: values(self.get(table, &COUNTRIES).value),
            devices: bits(self.get(table, &DEVICES).value) as u16,
            channels: bits(self.get(table, &CHANNELS).value) as u8,
            publishers: values(publishers),
            publishers_not: values(publishers_not.value),
            deals: values(self.get(table, &DEALS).value),
            languages: values(self.get(table, &LANGUAGES).value),
            categories: values(categories),
            categories_not: values(categories_not),
            buyeruid_needed: self.get(table, &BUYERUID_NEEDED).value,
            secure_needed: self.get(table, &SECURE_NEEDED).value,
        }
    }

    /// The same cannot be wanted and not wanted.
    fn not_both(&mut self, table: Table<'_, '_>, key: &str, wanted: &[Placed<String>], not: &[Placed<String>]) {
        let not_key = format!("{}_not", table.section.key(key));
        for bad in not.iter().filter(|bad| wanted.iter().any(|w| w.value == bad.value)) {
            let allowed = format!("none of those in {key}");
            self.rule(bad.at, not_key.clone(), format!("{}, which is in {key} too", quoted(&bad.value)), allowed, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn dsp(text: &str) -> Result<Buys, Vec<(String, Option<String>)>> {
        let text = format!("[[dsp]]\nname = \"a\"\nurl = \"http://a.example/\"\n{text}");
        let told = |mistakes: Vec<crate::config::Mistake>| mistakes.into_iter().map(|m| (m.key, m.nearest)).collect();
        load(&text, 1).map(|config| config.dsps[0].buys.clone()).map_err(told)
    }

    #[test]
    fn what_is_stated_is_read() {
        assert_eq!(dsp(""), Ok(Buys::default()));
        let all = "sizes = [\"300x250\", \"728x90\"]\ncountries = [\"DEU\"]\ndevices = [\"phone\", \"tablet\"]\n\
                   channels = [\"site\", \"dooh\"]\npublishers = [\"p1\"]\npublishers_not = [\"p2\"]\ndeals = [\"d1\"]\n\
                   languages = [\"en\"]\ncategories = [\"IAB1\"]\ncategories_not = [\"IAB1-3\"]\n\
                   buyeruid_needed = true\nsecure_needed = true\n";
        let one = |text: &str| vec![text.to_owned()];
        let want = Buys {
            sizes: vec![(300, 250), (728, 90)],
            countries: one("DEU"),
            devices: 1 << 4 | 1 << 5,
            channels: 1 << 1 | 1 << 3,
            publishers: one("p1"),
            publishers_not: one("p2"),
            deals: one("d1"),
            languages: one("en"),
            categories: one("IAB1"),
            categories_not: one("IAB1-3"),
            buyeruid_needed: true,
            secure_needed: true,
        };
        assert_eq!(dsp(all), Ok(want));
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (text, key, nearest) in [
            ("sizes = [\"300*250\"]", "sizes", Some("\"300x250\"")),
            ("sizes = [\"300\"]", "sizes", None),
            ("sizes = [\"0x250\"]", "sizes", None),
            ("sizes = [\"300x10001\"]", "sizes", None),
            ("sizes = \"300x250\"", "sizes", Some("[\"300x250\"]")),
            ("countries = [\"deu\"]", "countries", Some("\"DEU\"")),
            ("countries = [\"DE\"]", "countries", None),
            ("devices = [\"phones\"]", "devices", Some("\"phone\"")),
            ("devices = [4]", "devices", None),
            ("channels = [\"sites\"]", "channels", Some("\"site\"")),
            ("publishers = [\"\"]", "publishers", None),
            ("deals = [\"d\", \"d\"]", "deals", None),
            ("languages = [\"en-GB\"]", "languages", Some("\"en\"")),
            ("categories = [\"iab1\"]", "categories", Some("\"IAB1\"")),
            ("categories = [\"IAB1-3-4\"]", "categories", None),
            ("categories = [\"483\"]", "categories", None),
            ("buyeruid_needed = 1", "buyeruid_needed", Some("true")),
            ("secure_needed = \"no\"", "secure_needed", Some("false")),
            ("publishers = [\"p\"]\npublishers_not = [\"p\"]", "publishers_not", None),
            ("categories = [\"IAB1\"]\ncategories_not = [\"IAB1\"]", "categories_not", None),
        ] {
            assert_eq!(dsp(text), Err(vec![(format!("dsp.{key}"), nearest.map(str::to_owned))]), "{text}");
        }
    }
}
