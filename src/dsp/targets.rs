//! What DSPs state they buy, compiled: each value that somebody named leads to the set of DSPs that want it.
//! Owns: the sets of one configuration. Runs on: compiled beside the hot path, read on each bidder core. Called by:
//! [`crate::auction::Offers`], which knows the request. Never: allocates when asked; looks at one DSP after the other.
//!
//! A set is one word, a bit for each DSP in the order of the configuration. Every list that a DSP leaves empty means "any".
//! What a request does not say is not in a list of countries, devices, channels or publishers; where most requests are silent
//! (language, categories, sizes of a banner) silence is not held against it.
use super::named::{Case, Codes, Named};
use crate::{
    config::resolved::{BuyerUid, Dsp, RateTable},
    limits::DSPS_MAX,
    openrtb::{
        request::{Channel, Imp, Media, Request},
        text::Text,
    },
};

/// DSPs, as bits in the order of the configuration.
pub type Set = u64;

const _: () = assert!(DSPS_MAX <= Set::BITS as usize);

/// Kinds of devices that have numbers (list "Device Types": 1 to 8); 0 is what a request does not say, or says and nobody knows.
pub const DEVICES: usize = 9;
/// The taxonomy of our categories: IAB content taxonomy 1.0 (list "Category Taxonomies"). Of others nothing is known.
const TAXONOMY: u32 = 1;

/// What a DSP states it buys, besides media and currencies. Empty lists: anything.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Buys {
    /// Sizes of banners. Other media have none, and an interstitial takes any.
    pub sizes: Vec<(u32, u32)>,
    /// `device.geo.country`, alpha-3 in upper case.
    pub countries: Vec<String>,
    /// `device.devicetype`, one bit for each number; 0: any.
    pub devices: u16,
    /// Site, app, dooh: one bit for each number of [`Channel`]; 0: any.
    pub channels: u8,
    /// `publisher.id`: these alone.
    pub publishers: Vec<String>,
    /// `publisher.id`: never these.
    pub publishers_not: Vec<String>,
    /// Deals it takes part in. An impression with one of them is worth asking whatever else is stated.
    pub deals: Vec<String>,
    /// `device.language`, two letters in lower case.
    pub languages: Vec<String>,
    /// `site.cat`, `app.cat`: one of these, or one below it.
    pub categories: Vec<String>,
    /// `site.cat`, `app.cat`: none of these, nor one below it.
    pub categories_not: Vec<String>,
    /// Only people of whom it knows an id.
    pub buyeruid_needed: bool,
    /// Only impressions that are `secure`.
    pub secure_needed: bool,
}

/// A list of codes that are allowed: who has none, and who wants a value.
#[derive(Clone, Debug, Default)]
struct Allowed {
    any: Set,
    codes: Codes,
}

impl Allowed {
    fn new<'a>(dsps: &'a [Dsp], case: Case, list: impl Fn(&'a Dsp) -> &'a [String]) -> Allowed {
        Allowed { any: set(dsps, |d| list(d).is_empty()), codes: Codes::new(case, named(dsps, &list)) }
    }

    #[inline]
    fn of(&self, all: Set, text: Text, body: &[u8]) -> Set {
        if self.any == all { all } else { self.any | self.codes.find(text, body) }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Every DSP.
    pub(crate) all: Set,
    /// Those whose prices can be read: any currency, or one that has a rate.
    pub(crate) priced: Set,
    /// Who buys each medium, in the order of its bits.
    media: [Set; 4],
    /// Who names no seat.
    any_seat: Set,
    seats: Named,
    seats_of: Vec<Vec<String>>,
    /// Who states nothing of a request, and nothing of an impression: their answer is known before anything is looked at.
    plain: Set,
    plain_imp: Set,
    countries: Allowed,
    devices: [Set; DEVICES],
    channels: [Set; Channel::ALL.len()],
    any_publisher: Set,
    publishers: Named,
    publishers_not: Named,
    languages: Allowed,
    categories: Allowed,
    categories_not: Codes,
    needs_id: Set,
    /// Of those, who may read the request's own `user.buyeruid`.
    reads_own_id: Set,
    id_names: Named,
    any_size: Set,
    sizes: Vec<((u32, u32), Set)>,
    needs_secure: Set,
    lists_deals: Set,
    deals: Named,
}

/// The DSPs of which `is` is true.
fn set<'a>(dsps: &'a [Dsp], is: impl Fn(&'a Dsp) -> bool) -> Set {
    dsps.iter().take(DSPS_MAX).enumerate().fold(0, |set, (at, dsp)| set | Set::from(is(dsp)) << at)
}

/// Each text that somebody named, and who that is.
fn named<'a, 'l, F: Fn(&'a Dsp) -> &'a [String]>(
    dsps: &'a [Dsp],
    list: &'l F,
) -> impl Iterator<Item = (&'a str, Set)> + Clone + use<'a, 'l, F> {
    let each = dsps.iter().take(DSPS_MAX).enumerate();
    each.flat_map(move |(at, dsp)| list(dsp).iter().map(move |text| (text.as_str(), 1 << at)))
}

impl Targets {
    /// Compiles what is stated. Allocates: once per configuration.
    pub fn new(dsps: &[Dsp], rates: &RateTable) -> Targets {
        let medium = |bit: usize| set(dsps, |d| d.media.meets(Media(1 << bit)));
        let channel = |bit: usize| set(dsps, |d| d.buys.channels == 0 || d.buys.channels >> bit & 1 == 1);
        let device = |bit: usize| set(dsps, |d| d.buys.devices == 0 || d.buys.devices >> bit & 1 == 1);
        let mut sizes: Vec<((u32, u32), Set)> = Vec::new();
        for (at, dsp) in dsps.iter().take(DSPS_MAX).enumerate() {
            for size in &dsp.buys.sizes {
                match sizes.iter_mut().find(|s| s.0 == *size) {
                    Some(known) => known.1 |= 1 << at,
                    None => sizes.push((*size, 1 << at)),
                }
            }
        }
        sizes.sort_unstable();
        let needs_id = set(dsps, |d| d.buys.buyeruid_needed);
        let ids = dsps.iter().take(DSPS_MAX).enumerate().filter(|(_, d)| d.buys.buyeruid_needed);
        Targets {
            all: set(dsps, |_| true),
            priced: set(dsps, |d| d.currencies.is_empty() || d.currencies.iter().any(|c| rates.rate(*c).is_some())),
            media: std::array::from_fn(medium),
            any_seat: set(dsps, |d| d.seats.is_empty()),
            seats: Named::new(named(dsps, &|d| &d.seats)),
            seats_of: dsps.iter().take(DSPS_MAX).map(|d| d.seats.clone()).collect(),
            plain: set(dsps, |d| {
                let b = &d.buys;
                let lists =
                    [&b.countries, &b.publishers, &b.publishers_not, &b.languages, &b.categories, &b.categories_not];
                lists.iter().all(|l| l.is_empty()) && b.devices == 0 && b.channels == 0 && !b.buyeruid_needed
            }),
            plain_imp: set(dsps, |d| d.buys.sizes.is_empty() && !d.buys.secure_needed && d.buys.deals.is_empty()),
            countries: Allowed::new(dsps, Case::Upper, |d| &d.buys.countries),
            devices: std::array::from_fn(device),
            channels: std::array::from_fn(channel),
            any_publisher: set(dsps, |d| d.buys.publishers.is_empty()),
            publishers: Named::new(named(dsps, &|d| &d.buys.publishers)),
            publishers_not: Named::new(named(dsps, &|d| &d.buys.publishers_not)),
            languages: Allowed::new(dsps, Case::Lower, |d| &d.buys.languages),
            categories: Allowed::new(dsps, Case::Upper, |d| &d.buys.categories),
            categories_not: Codes::new(Case::Upper, named(dsps, &|d| &d.buys.categories_not)),
            needs_id,
            reads_own_id: set(dsps, |d| d.buys.buyeruid_needed && d.buyeruid == BuyerUid::Request),
            id_names: Named::new(ids.map(|(at, d)| (d.name.as_str(), 1 << at))),
            any_size: set(dsps, |d| d.buys.sizes.is_empty()),
            sizes,
            needs_secure: set(dsps, |d| d.buys.secure_needed),
            lists_deals: set(dsps, |d| !d.buys.deals.is_empty()),
            deals: Named::new(named(dsps, &|d| &d.buys.deals)),
        }
    }

    /// Every DSP of the configuration.
    pub fn all(&self) -> Set {
        self.all
    }

    /// Who may bid at all, with the seats that a request lists and bars: somebody without seats, or with one that is in every
    /// list that is not empty and is not barred.
    #[inline]
    pub(crate) fn seated(&self, lists: [&[Text]; 2], barred: &[Text], body: &[u8]) -> Set {
        if self.any_seat == self.all { self.all } else { self.seated_by_name(lists, barred, body) }
    }

    fn seated_by_name(&self, lists: [&[Text]; 2], barred: &[Text], body: &[u8]) -> Set {
        let among = |list: &[Text]| list.iter().fold(0, |set, seat| set | self.seats.find(*seat, body));
        let mut of = self.all & !self.any_seat;
        let mut stated = 0;
        for list in lists.into_iter().filter(|list| !list.is_empty()) {
            if of != 0 {
                of &= among(list);
            }
            stated += 1;
        }
        let doubtful = match (of, stated) {
            (0, _) => 0,
            // With one list alone, whoever has a seat in it has one that will do.
            (_, 0 | 1) if barred.is_empty() => 0,
            (_, 0) => of & among(barred),
            _ => of,
        };
        let sure = self.any_seat | of & !doubtful;
        if doubtful == 0 { sure } else { sure | self.one_by_one(doubtful, lists, barred, body) }
    }

    #[cold]
    fn one_by_one(&self, mut doubtful: Set, lists: [&[Text]; 2], barred: &[Text], body: &[u8]) -> Set {
        let mut sure = 0;
        while doubtful != 0 {
            let at = doubtful.trailing_zeros() as usize;
            doubtful &= doubtful - 1;
            let will_do = |seat: &String| {
                let on = |list: &[Text]| list.iter().any(|t| t.is(body, seat.as_bytes()));
                lists.iter().all(|list| list.is_empty() || on(list)) && !on(barred)
            };
            sure |= Set::from(self.seats_of[at].iter().any(will_do)) << at;
        }
        sure
    }

    /// Who wants this request, as far as it is one and the same for all of its impressions.
    pub(crate) fn of_request(&self, r: &Request, body: &[u8]) -> Set {
        let all = self.all;
        if self.plain == all {
            return all;
        }
        let device = (r.devicetype as usize) * usize::from((r.devicetype as usize) < DEVICES);
        let mut set = self.devices[device] & self.channels[r.channel as usize];
        set &= self.countries.of(all, r.country, body);
        if self.any_publisher != all {
            set &= self.any_publisher | self.publishers.find(r.publisher_id, body);
        }
        if !self.publishers_not.is_empty() {
            set &= !self.publishers_not.find(r.publisher_id, body);
        }
        if self.languages.any != all && !r.language.is_empty() {
            set &= self.languages.of(all, r.language, body);
        }
        if r.channel_cattax.max(1) == TAXONOMY && (self.categories.any != all || !self.categories_not.is_empty()) {
            set &= self.of_categories(r.cat.of(&r.texts), body);
        }
        if self.needs_id != 0 {
            let mut has = if r.buyeruid.is_empty() { 0 } else { self.reads_own_id };
            for (name, _) in &r.buyeruids {
                has |= self.id_names.find(*name, body);
            }
            set &= !self.needs_id | has;
        }
        set
    }

    fn of_categories(&self, cats: &[Text], body: &[u8]) -> Set {
        let (mut wanted, mut not, mut some) = (self.categories.any, 0, false);
        for cat in cats.iter().filter(|cat| !cat.is_empty()) {
            some = true;
            wanted |= self.categories.codes.find_tiers(*cat, body);
            not |= self.categories_not.find_tiers(*cat, body);
        }
        if some { wanted & !not } else { self.all }
    }

    /// Who buys a medium of this impression, and, in the second set, one that it states it wants: a banner of one of its sizes, an
    /// impression that is secure.
    #[inline]
    pub(crate) fn of_imp(&self, imp: &Imp, r: &Request) -> (Set, Set) {
        let (mut buys, mut banner) = (0, 0);
        for (bit, set) in self.media.iter().enumerate() {
            if imp.media.0 >> bit & 1 == 1 {
                buys |= set;
                if bit == 0 {
                    banner = *set;
                }
            }
        }
        if self.plain_imp == self.all {
            return (buys, buys);
        }
        let mut wants = buys;
        let sizes = imp.sizes.of(&r.sizes);
        if self.any_size != self.all && banner != 0 && !sizes.is_empty() && !imp.instl {
            let fits = sizes.iter().fold(self.any_size, |set, size| set | self.of_size(*size));
            let others = (1..4).filter(|bit| imp.media.0 >> bit & 1 == 1).fold(0, |set, bit| set | self.media[bit]);
            wants &= banner & fits | others;
        }
        if !imp.secure {
            wants &= !self.needs_secure;
        }
        (buys, wants)
    }

    fn of_size(&self, size: (u32, u32)) -> Set {
        self.sizes.binary_search_by_key(&size, |s| s.0).map_or(0, |at| self.sizes[at].1)
    }

    /// Does any DSP name deals, and who?
    #[inline]
    pub(crate) fn lists_deals(&self) -> Set {
        self.lists_deals
    }

    /// Who wants this deal.
    #[inline]
    pub(crate) fn of_deal(&self, id: Text, body: &[u8]) -> Set {
        self.deals.find(id, body)
    }
}
