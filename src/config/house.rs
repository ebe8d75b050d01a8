//! `[[house]]`: ads of the operator's own, answered where nobody wins.
//! Owns: its keys and what they mean together. Called by: `check`, once.
use super::{
    address::Domain,
    check::{Checker, Table},
    kind::{Choice, List, Price, Text, Whole},
    resolved::{HouseAd, HouseWhen},
    schema::{
        Fallback::{Number, Required, Toml, Unset},
        Key, Section, Shape, count, key,
    },
};
use crate::{limits, openrtb::request::Media, units::Cpm};

/// Longest side of a banner that is believed.
const SIDE_MAX: usize = 32_767;

const CRID: Key<Text> = key(
    "crid",
    Required("\"house-300x250\""),
    Text { max: limits::HOUSE_CRID_MAX },
    "Its id in answers and records, different for each.",
);
const MEDIUM: Key<Choice<Media>> = key(
    "media",
    Required("\"banner\""),
    Choice(&[("banner", Media::BANNER), ("video", Media::VIDEO), ("audio", Media::AUDIO), ("native", Media::NATIVE)]),
    "What it is.",
);
const W: Key<Whole> = key("w", Unset("300"), count(1, SIDE_MAX), "Its width; a banner needs it.");
const H: Key<Whole> = key("h", Unset("250"), count(1, SIDE_MAX), "Its height; a banner needs it.");
const DURATION_S: Key<Whole> = key(
    "duration_s",
    Number(0),
    Whole { min: 0, max: 3_600, unit: "seconds" },
    "How long a video or audio is; 0: not said.",
);
const ADM: Key<Text> = key(
    "adm",
    Required("\"<a href='https://publisher.example'>...</a>\""),
    Text { max: limits::HOUSE_ADM_MAX },
    "Its markup on one line: HTML, VAST, or native JSON.",
);
const ADOMAIN: Key<List<Domain>> = key(
    "adomain",
    Toml("[]"),
    List { item: Domain, count: 0..=16 },
    "Whose it is; not answered where the request blocks one of them.",
);
const MAX_PRICE: Key<Price> = key(
    "max_price",
    Required("0.10"),
    Price { max: Cpm(1_000 * Cpm::ONE.0) },
    "It bids the impression's floor, which whoever sells the impression may bill: not answered where the floor is above this, in the \
     accounting currency.",
);
const WHEN: Key<Choice<HouseWhen>> = key(
    "when",
    Toml("\"no_winner\""),
    Choice(&[("no_winner", HouseWhen::NoWinner), ("alert", HouseWhen::Alert)]),
    "Answered whenever nobody wins anything of a request, or only while outcry_demand_alert is on.",
);

pub(super) const HOUSE: Section = Section {
    name: "house",
    path: "house",
    shape: Shape::Many(limits::HOUSE_ADS_MAX),
    meaning: "An ad of your own for where nobody wins, so that the place is not empty; repeat the section for each format, the first that \
              fits is taken. No account pays for it, no notice comes of it, and records say so. Without one there is none.",
    keys: &[&CRID, &MEDIUM, &W, &H, &DURATION_S, &ADM, &ADOMAIN, &MAX_PRICE, &WHEN],
    sections: &[],
};

impl Checker<'_, '_> {
    pub(super) fn house(&mut self, tables: &[Table<'_, '_>]) -> Vec<HouseAd> {
        let (mut names, mut out) = (Vec::new(), Vec::with_capacity(tables.len()));
        for &table in tables {
            let crid = self.get(table, &CRID);
            self.once("house.crid", &crid, &mut names);
            let media = self.get(table, &MEDIUM);
            let mut side = |key| self.find(table, key).map_or(0, |side| side.ms());
            let size = (side(&W), side(&H));
            if media.sound && media.value == Media::BANNER && (size.0 == 0 || size.1 == 0) {
                let allowed = "w and h, for instance 300 and 250".to_owned();
                self.rule(table.at, "house.w".to_owned(), "a banner without its size".to_owned(), allowed, None);
            }
            out.push(HouseAd {
                crid: crid.value,
                media: media.value,
                size,
                duration_s: self.get(table, &DURATION_S).ms(),
                adm: self.get(table, &ADM).value,
                adomain: self.get(table, &ADOMAIN).value.into_iter().map(|d| d.value).collect(),
                max_price: self.get(table, &MAX_PRICE).value,
                when: self.get(table, &WHEN).value,
            });
        }
        out
    }
}
