//! What asking each DSP has brought of late, one core's view: the probability that it wins, times the price, as one mean.
//! Owns: means for every DSP, for its formats, and for its formats at the publishers that were seen most; fixed in size. Runs on:
//! each bidder core, where more DSPs are configured than are asked. Called by: the bidder, at each decision; [`super::choice`].
//! Never: allocates between two configurations, reads a clock; a mean forgets by being asked again, not by time.
//!
//! Each mean begins where the one above it stands and counts that for `PRIOR` answers of its own, so what was seen once says
//! little and what was seen often says all. What an answer is worth is the price of what it won; and the same to whoever set that
//! price, since without it less would have been paid.
use super::targets::Set;
use crate::{
    auction::{Auction, input::NO_IMP},
    limits::{ASKED_MAX, DSPS_MAX, IMPS_MAX},
    openrtb::{
        codes::Loss,
        request::{Channel, Media, Request},
    },
    units::{Cpm, Round, hash_bytes},
};

/// Answers that the mean above counts for.
const PRIOR: u64 = 8;
/// A mean is of about so many answers: of a DSP, of one of its formats, of that at one publisher.
const WINDOWS: [u16; 3] = [4_096, 2_048, 512];
/// A DSP that was asked less often than this is not known, and goes before all that are.
pub const TRIALS: u16 = 64;
/// Sets of media, times channels.
const FORMATS: usize = (Media::ALL.0 as usize + 1) * Channel::ALL.len();
/// Publishers and formats that are told apart: two in each place.
const PLACES: usize = 256;
/// Fraction bits of a mean: it moves by parts of a micro-unit.
const FRACTION: u32 = 16;
/// Nothing is worth more than this: 4,294 CPM.
const MOST: u64 = u32::MAX as u64;

/// One mean for every DSP, in millionths of a CPM of the accounting currency and [`FRACTION`] bits.
#[derive(Clone, Debug)]
struct Means {
    mean: [u64; DSPS_MAX],
    seen: [u16; DSPS_MAX],
    /// The DSPs, those of the higher means in front, and where each of them stands.
    order: [u8; DSPS_MAX],
    stands: [u8; DSPS_MAX],
    /// Whose turn it is to have the mean above it anew, if it was not seen here.
    turn: u8,
}

const NONE: Means =
    Means { mean: [0; DSPS_MAX], seen: [0; DSPS_MAX], order: AS_THEY_STAND, stands: AS_THEY_STAND, turn: 0 };

/// In the order of the configuration.
const AS_THEY_STAND: [u8; DSPS_MAX] = {
    let (mut order, mut at) = ([0; DSPS_MAX], 0);
    while at < DSPS_MAX {
        order[at] = at as u8;
        at += 1;
    }
    order
};

impl Means {
    #[inline]
    fn add(&mut self, dsp: usize, worth: u64, above: Option<&Means>, window: u16) {
        if self.seen[dsp] == 0 {
            self.mean[dsp] = above.map_or(worth, |above| above.mean[dsp]);
        }
        let weight = u64::from(self.seen[dsp]) + above.map_or(1, |_| PRIOR);
        self.seen[dsp] = (self.seen[dsp] + 1).min(window);
        let mean = self.mean[dsp];
        self.mean[dsp] = if worth > mean { mean + (worth - mean) / weight } else { mean - (mean - worth) / weight };
        self.settle(dsp);
        // Whoever was never asked here stands where he stands above: by and by, as that moves.
        if let Some(above) = above {
            self.turn = (self.turn + 1) % DSPS_MAX as u8;
            let dsp = usize::from(self.turn);
            if self.seen[dsp] == 0 && self.mean[dsp] != above.mean[dsp] {
                self.mean[dsp] = above.mean[dsp];
                self.settle(dsp);
            }
        }
    }

    /// Moves a DSP to where its mean belongs.
    #[inline]
    fn settle(&mut self, dsp: usize) {
        let mean = self.mean[dsp];
        let mut at = usize::from(self.stands[dsp]) % DSPS_MAX;
        while at > 0 && self.mean[usize::from(self.order[at - 1]) % DSPS_MAX] < mean {
            at = self.swap(at - 1, at, at - 1);
        }
        while at + 1 < DSPS_MAX && self.mean[usize::from(self.order[at + 1]) % DSPS_MAX] > mean {
            at = self.swap(at, at + 1, at + 1);
        }
    }

    /// Swaps two neighbours; hands on `then`.
    #[inline]
    fn swap(&mut self, front: usize, behind: usize, then: usize) -> usize {
        self.order.swap(front, behind);
        self.stands[usize::from(self.order[front]) % DSPS_MAX] = front as u8;
        self.stands[usize::from(self.order[behind]) % DSPS_MAX] = behind as u8;
        then
    }

    /// In the order of another configuration; who is new is not known.
    fn reorder(&mut self, from: &[Option<usize>]) {
        let old = std::mem::replace(self, NONE);
        for (to, from) in from.iter().enumerate() {
            if let Some(from) = *from {
                (self.mean[to], self.seen[to]) = (old.mean[from], old.seen[from]);
                self.settle(to);
            }
        }
    }
}

/// One publisher's, in one format.
#[derive(Clone, Debug)]
struct Place {
    /// 0: nobody's.
    tag: u64,
    /// How much longer it keeps its place from others.
    keeps: u16,
    means: Means,
}

/// What kind of request it is: how much each DSP is worth depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kind {
    format: u8,
    tag: u64,
}

impl Kind {
    /// Of a request: the media of its impressions, where it is, and whose.
    pub fn of(r: &Request, body: &[u8]) -> Kind {
        let media = r.imps.iter().take(IMPS_MAX).fold(Media::default(), |all, imp| all.with(imp.media));
        let format = (media.0 & Media::ALL.0) * Channel::ALL.len() as u8 + r.channel as u8;
        let whose = [r.publisher_id, r.domain, r.bundle].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        Kind { format, tag: hash_bytes(u64::from(format), whose.raw(body)) | 1 }
    }

    fn place(self) -> usize {
        (self.tag >> 32) as usize % PLACES * 2
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Worths {
    /// In the order of the configuration; empty: nothing is learned.
    names: Vec<String>,
    /// Who was asked often enough to be known: [`TRIALS`] times.
    known: Set,
    all: Vec<Means>,
    formats: Vec<Means>,
    places: Vec<Place>,
}

impl Worths {
    /// From now on these are the DSPs, of which so many are asked at most. What is known of those that stay, stays. Allocates.
    pub fn configure<'a>(&mut self, names: impl Iterator<Item = &'a str>, asked_max: usize) {
        let names: Vec<String> = names.take(DSPS_MAX).map(str::to_owned).collect();
        if names.len() <= asked_max {
            *self = Worths::default();
            return;
        }
        if self.names == names {
            return;
        }
        if self.names.is_empty() {
            (self.all, self.formats) = (vec![NONE], vec![NONE; FORMATS]);
            self.places = vec![Place { tag: 0, keeps: 0, means: NONE }; 2 * PLACES];
        } else {
            let from: Vec<_> = names.iter().map(|name| self.names.iter().position(|old| old == name)).collect();
            let means =
                self.all.iter_mut().chain(&mut self.formats).chain(self.places.iter_mut().map(|p| &mut p.means));
            means.for_each(|means| means.reorder(&from));
        }
        let seen = self.all.first().map_or([0; DSPS_MAX], |all| all.seen);
        self.known = seen.iter().enumerate().fold(0, |set, (at, seen)| set | Set::from(*seen >= TRIALS) << at);
        self.names = names;
    }

    /// Is there anything to be learned?
    #[inline]
    pub fn learns(&self) -> bool {
        !self.names.is_empty()
    }

    /// What asking a DSP in a request of this kind brought: 0, if nothing.
    pub fn learn(&mut self, kind: Kind, dsp: usize, worth: Cpm) {
        if dsp >= self.names.len() {
            return;
        }
        let worth = u64::try_from(worth.0).unwrap_or(0).min(MOST) << FRACTION;
        let (Some(all), Some(format)) = (self.all.first_mut(), self.formats.get_mut(usize::from(kind.format))) else {
            return;
        };
        all.add(dsp, worth, None, WINDOWS[0]);
        self.known |= Set::from(all.seen[dsp] >= TRIALS) << dsp;
        format.add(dsp, worth, Some(all), WINDOWS[1]);
        if let Some(means) = take_place(&mut self.places, kind, format) {
            means.add(dsp, worth, Some(format), WINDOWS[2]);
        }
    }

    /// What an auction's answers were worth, each leg's. `asked`: a leg's DSP, unless it says nothing of what it is worth.
    pub fn learn_auction(&mut self, kind: Kind, auction: &Auction, asked: impl Fn(u8) -> Option<usize>) {
        let mut worths = [0i64; ASKED_MAX];
        for win in &auction.decision().wins {
            let second = set_price(auction, win.imp).filter(|second| *second != win.leg);
            for leg in [Some(win.leg), second].into_iter().flatten() {
                if let Some(worth) = worths.get_mut(usize::from(leg)) {
                    *worth = worth.saturating_add(win.clearing.0);
                }
            }
        }
        for (leg, worth) in worths.into_iter().enumerate().take(auction.inputs().legs.len()) {
            if let Some(dsp) = asked(leg as u8) {
                self.learn(kind, dsp, Cpm(worth));
            }
        }
    }

    /// What asking each DSP is worth in a request of this kind.
    pub(super) fn view(&self, kind: Kind) -> View<'_> {
        let at = kind.place();
        let places = self.places.get(at..at + 2).unwrap_or(&[]);
        let place = places.iter().find(|p| p.tag == kind.tag).map(|p| &p.means);
        let means = place.or_else(|| self.formats.get(usize::from(kind.format))).unwrap_or(&NONE);
        View { means, all: self.all.first().unwrap_or(&NONE), known: self.known }
    }
}

/// The leg that bid second on an impression.
fn set_price(auction: &Auction, imp: u8) -> Option<u8> {
    let inputs = auction.inputs();
    let lost = |at: usize| matches!(auction.decision().losses.get(at), Some(Loss::LostToHigherBid));
    let rivals = inputs.bids.iter().enumerate().filter(|(at, b)| b.imp == imp && b.imp != NO_IMP && lost(*at));
    let price =
        |leg: u8, price: Cpm| inputs.legs.get(usize::from(leg)).map(|l| l.rate.to_accounting(price, Round::Down));
    rivals.max_by_key(|(_, b)| price(b.leg, b.price)).map(|(_, b)| b.leg)
}

/// The place of a kind, if it has one or gets one: whoever is in its way is worn down first.
fn take_place<'p>(places: &'p mut [Place], kind: Kind, format: &Means) -> Option<&'p mut Means> {
    let at = kind.place();
    let two = places.get_mut(at..at + 2)?;
    let mine = match two.iter().position(|p| p.tag == kind.tag) {
        Some(mine) => mine,
        None => {
            let other = usize::from(two[1].keeps < two[0].keeps);
            if two[other].keeps > 0 {
                two[other].keeps -= 1;
                return None;
            }
            // Everybody stands here as in the format.
            let means = Means { seen: NONE.seen, ..format.clone() };
            two[other] = Place { tag: kind.tag, keeps: 0, means };
            other
        }
    };
    two[mine].keeps = (two[mine].keeps + 1).min(WINDOWS[2]);
    Some(&mut two[mine].means)
}

/// What is known of all DSPs in requests of one kind.
pub(super) struct View<'a> {
    means: &'a Means,
    all: &'a Means,
    known: Set,
}

impl View<'_> {
    /// The first `n` of these, the best first; fewer, if there are not so many. Before all others are those of whom nothing is known,
    /// who was asked least in front.
    #[inline]
    pub(super) fn best(&self, of: Set, n: usize, mut take: impl FnMut(usize)) -> usize {
        let (mut found, mut unknown) = (0, of & !self.known);
        while unknown != 0 && found < n {
            let Some(at) = members(unknown).min_by_key(|at| self.all.seen[*at]) else { break };
            unknown &= !(1 << at);
            take(at);
            found += 1;
        }
        let mut left = of & self.known;
        for &at in &self.means.order {
            if left == 0 || found == n {
                break;
            }
            let bit = 1 << (at % DSPS_MAX as u8);
            if left & bit != 0 {
                left &= !bit;
                take(usize::from(at));
                found += 1;
            }
        }
        found
    }
}

/// The places of a set's members, in order.
#[inline]
pub fn members(mut set: Set) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros() as usize;
        (set != 0).then(|| {
            set &= set - 1;
            at
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worths(names: &[&str]) -> Worths {
        let mut worths = Worths::default();
        worths.configure(names.iter().copied(), 1);
        worths
    }

    fn kind(publisher: u64) -> Kind {
        Kind { format: 5, tag: publisher << 32 | 1 }
    }

    fn mean(worths: &Worths, kind: Kind, dsp: usize) -> u64 {
        worths.view(kind).means.mean[dsp] >> FRACTION
    }

    fn best(worths: &Worths, kind: Kind, of: Set, n: usize) -> Vec<usize> {
        let mut all = Vec::new();
        assert_eq!(worths.view(kind).best(of, n, |at| all.push(at)), all.len());
        all
    }

    #[test]
    fn a_mean_begins_where_the_one_above_stands_and_goes_its_own_way() {
        let mut w = worths(&["a", "b"]);
        assert_eq!(w.known, 0, "nobody is known");
        for _ in 0..1_000 {
            w.learn(kind(1), 0, Cpm(1_000_000));
        }
        assert_eq!(mean(&w, kind(1), 0), 1_000_000);
        // Another publisher: what is known of the format.
        assert_eq!(mean(&w, kind(2), 0), 1_000_000);
        w.learn(kind(2), 0, Cpm(0));
        let once = mean(&w, kind(2), 0);
        assert!((850_000..900_000).contains(&once), "an eighth less: {once}");
        for _ in 0..1_000 {
            w.learn(kind(2), 0, Cpm(0));
        }
        assert!(mean(&w, kind(2), 0) < 150_000);
        assert_eq!(mean(&w, kind(1), 0), 1_000_000, "each publisher has its own");
        // One win in a hundred is found through all the rounding.
        for i in 0..20_000 {
            w.learn(kind(3), 1, Cpm(if i % 100 == 0 { 400_000 } else { 0 }));
        }
        assert!((2_000..8_000).contains(&mean(&w, kind(3), 1)), "{}", mean(&w, kind(3), 1));
        w.learn(kind(1), 0, Cpm(i64::MAX));
        w.learn(kind(1), 0, Cpm(-1));
        w.learn(kind(1), 63, Cpm(1));
        w.learn(Kind { format: u8::MAX, tag: 1 }, 0, Cpm(1));
        assert!(mean(&w, kind(1), 0) <= MOST);
    }

    #[test]
    fn names_keep_what_is_known_of_them() {
        let mut w = worths(&["a", "b", "c"]);
        for _ in 0..100 {
            (0..3).for_each(|dsp| w.learn(kind(1), dsp, Cpm(1_000 * (dsp as i64 + 1))));
        }
        w.configure(["c", "new", "a"].into_iter(), 2);
        assert_eq!((mean(&w, kind(1), 0), mean(&w, kind(1), 2)), (3_000, 1_000));
        assert_eq!(best(&w, kind(1), 0b111, 3), [1, 0, 2], "who is new is tried first");
        w.configure(["c", "new", "a"].into_iter(), 3);
        assert!(!w.learns(), "all are asked");
        w.learn(kind(1), 0, Cpm(1));
    }

    /// Whatever is learned, each kind has everybody in the order of his means, and who was not asked there moves with the others.
    #[test]
    fn orders_are_those_of_the_means() {
        for seed in 0..20u64 {
            let names: Vec<String> = (0..40).map(|i| format!("d{i}")).collect();
            let mut w = Worths::default();
            w.configure(names.iter().map(String::as_str), 1);
            for i in 0..20_000u64 {
                let draw = crate::units::mix(seed << 32 | i);
                let (dsp, publisher) = ((draw % 40) as usize, draw >> 8 & 7);
                let worth = if (draw >> 16) % 100 < dsp as u64 + 10 * publisher { draw >> 40 & 0xf_ffff } else { 0 };
                w.learn(kind(publisher), dsp, Cpm(worth as i64));
                if i == 10_000 {
                    let back: Vec<&str> = names.iter().rev().map(String::as_str).collect();
                    w.configure(back.into_iter(), 1);
                }
            }
            for publisher in 0..9 {
                let of = Set::MAX >> 24;
                let all = best(&w, kind(publisher), of, 64);
                assert_eq!(all.iter().fold(0, |set: Set, at| set | 1 << at), of, "seed {seed}");
                let sorted = all.windows(2).all(|two| {
                    let of = |at: usize| w.view(kind(publisher)).means.mean[at];
                    of(two[0]) >= of(two[1])
                });
                assert!(sorted, "seed {seed}, publisher {publisher}");
                assert_eq!(best(&w, kind(publisher), of, 10), all[..10]);
                assert_eq!(best(&w, kind(publisher), of & !(1 << all[0]), 1), all[1..2]);
            }
        }
    }

    /// However many publishers there are, those that are seen often keep their places, and nothing grows.
    #[test]
    fn places_are_kept_by_use() {
        let mut w = worths(&["a", "b"]);
        let often: Vec<Kind> = (0..50).map(|p| Kind { format: 1, tag: hash_bytes(p, b"often") | 1 }).collect();
        let before = w.places.len();
        for round in 0..2_000u64 {
            often.iter().for_each(|k| w.learn(*k, 0, Cpm(5)));
            (0..50).for_each(|i| w.learn(Kind { format: 1, tag: hash_bytes(round * 50 + i, b"once") | 1 }, 0, Cpm(9)));
        }
        let held = often.iter().filter(|k| w.places[k.place()..k.place() + 2].iter().any(|p| p.tag == k.tag)).count();
        assert!(held >= 45, "{held} of 50");
        assert_eq!(w.places.len(), before);
    }

    #[test]
    fn members_are_told_in_order() {
        assert_eq!(members(0b1010_0001 | 1 << 63).collect::<Vec<_>>(), [0, 5, 7, 63]);
        assert_eq!(members(0).count(), 0);
    }
}
