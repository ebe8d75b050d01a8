//! Do DSPs bid as they usually do? All failing or declining at once is something else than one of them: the fault is likely
//! ours, or the supply's.
//! Owns: what share of auctions, and of each DSP's requests, brought bids: of the last seconds, and usually. Runs on: each
//! bidder core. Called by: [`super::health`] and `bidder/egress`, which turns it once a second. Never: allocates.
//!
//! An alert begins when the share of auctions with a bid has fallen below a quarter of what it usually is, and of those DSPs that
//! usually bid two thirds have fallen as low or are not asked; it ends above half. A fall to nothing is told within
//! [`TOLD_S`] seconds. What is usual is learned over some four minutes, and not from an alert, unless that lasts for ten
//! minutes: then it is the new usual.

/// Seconds within which a fall to nothing is told.
pub const TOLD_S: u64 = 8;
/// With fewer in the last seconds, or ever, nothing is said.
const LATELY_LEAST: u64 = 32;
const USUALLY_LEAST: u64 = 300;
/// What bids less often than one in so many has no usual share.
const BIDS_ONE_IN: u64 = 100;
/// Counts are kept as 256ths.
const UNIT: u32 = 8;
/// Of the last seconds a quarter fades in each, of the usual a 256th.
const LATELY: u32 = 2;
const USUALLY: u32 = 8;
/// Turns of an alert after which it is learned from.
const BELIEVED: u32 = 600;

/// Requests and bids, fading.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    asked: u64,
    bid: u64,
}

impl Counts {
    fn fade(&mut self, here: Counts, by: u32) {
        self.asked = self.asked - (self.asked >> by) + (here.asked << UNIT);
        self.bid = self.bid - (self.bid >> by) + (here.bid << UNIT);
    }

    /// Is its share below that of `other`, divided by `by`?
    fn is_below(&self, other: &Counts, by: u64) -> bool {
        u128::from(self.bid) * u128::from(other.asked) * u128::from(by) < u128::from(other.bid) * u128::from(self.asked)
    }

    fn has(&self, least: u64) -> bool {
        self.asked >> UNIT >= least
    }
}

/// How often somebody bids: all DSPs together, or one.
#[derive(Clone, Copy, Debug, Default)]
pub struct BidRate {
    here: Counts,
    lately: Counts,
    usually: Counts,
}

impl BidRate {
    /// It was asked, and did it bid?
    #[inline]
    pub fn add(&mut self, bid: bool) {
        self.here.asked += 1;
        self.here.bid += u64::from(bid);
    }

    /// A second is over.
    fn turn(&mut self, learns: bool) {
        let here = std::mem::take(&mut self.here);
        self.lately.fade(here, LATELY);
        if learns {
            self.usually.fade(here, USUALLY);
        }
    }

    fn has_usual(&self) -> bool {
        self.usually.has(USUALLY_LEAST) && self.usually.bid * BIDS_ONE_IN >= self.usually.asked
    }

    fn has_fallen(&self) -> bool {
        self.lately.has(LATELY_LEAST) && self.lately.is_below(&self.usually, 4)
    }

    fn is_back(&self) -> bool {
        self.lately.has(LATELY_LEAST) && !self.lately.is_below(&self.usually, 2)
    }
}

/// What one core knows of all DSPs together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demand {
    all: BidRate,
    /// Turns since the alert began; 0: there is none.
    alert: u32,
    alerts: u64,
    #[cfg(test)]
    minds_one: bool,
}

impl Demand {
    /// An auction had something that a DSP buys, and did anybody bid?
    #[inline]
    pub fn add(&mut self, bid: bool) {
        self.all.add(bid);
    }

    /// Bids are far from what they usually are.
    pub fn is_alert(&self) -> bool {
        self.alert > 0
    }

    /// Alerts that began.
    pub fn alerts(&self) -> u64 {
        self.alerts
    }

    /// A second is over. `dsps`: each with whether its breaker keeps it from being asked. Are nearly all of them out, more than two
    /// thirds of two or more? Then the fault is likely ours, a stall of this machine for instance, and none should be left alone
    /// for long.
    pub fn turn<'a>(&mut self, dsps: impl Iterator<Item = (&'a mut BidRate, bool)>) -> bool {
        let learns = self.alert == 0 || self.alert > BELIEVED;
        self.all.turn(learns);
        let (mut usual, mut fallen, mut all, mut out) = (0, 0, 0, 0);
        for (dsp, is_out) in dsps {
            all += 1;
            out += u32::from(is_out);
            dsp.turn(learns);
            if dsp.has_usual() {
                usual += 1;
                fallen += u32::from(is_out || dsp.has_fallen());
            }
        }
        #[cfg(test)]
        if self.minds_one && fallen > 0 {
            fallen = usual;
        }
        if self.alert > 0 {
            self.alert = if self.all.is_back() { 0 } else { self.alert.saturating_add(1) };
        } else if self.all.has_usual() && self.all.has_fallen() && usual > 0 && fallen * 3 >= usual * 2 {
            (self.alert, self.alerts) = (1, self.alerts + 1);
        }
        all >= 2 && out * 3 > all * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::mix;

    /// Five DSPs, a hundred auctions a second; of 100 requests so many bring bids.
    struct World {
        demand: Demand,
        dsps: [BidRate; 5],
        out: [bool; 5],
        n: u64,
    }

    impl World {
        fn new() -> World {
            World { demand: Demand::default(), dsps: [BidRate::default(); 5], out: [false; 5], n: 0 }
        }

        fn seconds(&mut self, seconds: u64, bids: [u64; 5]) -> Option<u64> {
            (1..=seconds).find(|_| {
                let before = self.demand.is_alert();
                for _ in 0..100 {
                    self.n += 1;
                    let mut any = false;
                    for (d, percent) in bids.iter().enumerate().filter(|(d, _)| !self.out[*d]) {
                        let bid = mix(self.n ^ mix(d as u64)) % 100 < *percent;
                        self.dsps[d].add(bid);
                        any |= bid;
                    }
                    self.demand.add(any);
                }
                self.demand.turn(self.dsps.iter_mut().zip(self.out));
                self.demand.is_alert() != before
            })
        }
    }

    const USUAL: [u64; 5] = [70, 5, 5, 5, 0];

    #[test]
    fn all_that_decline_are_told_from_one_that_fails() {
        let mut w = World::new();
        assert_eq!(w.seconds(300, USUAL), None, "nothing has happened yet");
        // The one that brings most bids is gone: few auctions have bids, and the others bid as ever.
        assert_eq!(w.seconds(60, [0, 5, 5, 5, 0]), None);
        assert_eq!(w.seconds(300, USUAL), None);
        let told = w.seconds(60, [0; 5]);
        assert!(told.is_some_and(|s| s <= TOLD_S), "{told:?}");
        assert_eq!(w.demand.alerts(), 1);
        // It lasts as long as it is so, and is over soon after.
        assert_eq!(w.seconds(500, [0; 5]), None);
        let over = w.seconds(60, USUAL);
        assert!(over.is_some_and(|s| s <= TOLD_S), "{over:?}");
        assert_eq!(w.seconds(120, USUAL), None);
    }

    #[test]
    fn dsps_that_are_not_asked_have_fallen() {
        let mut w = World::new();
        w.seconds(300, USUAL);
        w.out = [true; 5];
        assert!(w.seconds(60, USUAL).is_some_and(|s| s <= TOLD_S));
    }

    #[test]
    fn what_lasts_is_the_new_usual_and_silence_says_nothing() {
        let mut w = World::new();
        w.seconds(300, USUAL);
        assert!(w.seconds(60, [8, 1, 1, 0, 0]).is_some(), "an eighth");
        let over = w.seconds(3_600, [8, 1, 1, 0, 0]);
        assert!(over.is_some_and(|s| (600..1_800).contains(&s)), "{over:?}");
        // Nobody asks for an hour.
        let mut w = World::new();
        w.seconds(300, USUAL);
        for _ in 0..3_600 {
            w.demand.turn(w.dsps.iter_mut().zip([false; 5]));
            assert!(!w.demand.is_alert());
        }
    }

    #[test]
    fn nearly_all_that_are_out_are_told_from_some() {
        let rows = [
            (1, 1, false),
            (2, 1, false),
            (2, 2, true),
            (3, 2, false),
            (3, 3, true),
            (4, 3, true),
            (5, 3, false),
            (5, 4, true),
        ];
        for (all, out, want) in rows {
            let mut rates = vec![BidRate::default(); all];
            let dsps = rates.iter_mut().enumerate().map(|(at, rate)| (rate, at < out));
            assert_eq!(Demand::default().turn(dsps), want, "{out} of {all}");
        }
    }

    /// A planted fault is found: who minds a single DSP raises an alert for it.
    #[test]
    fn one_that_fails_would_be_found() {
        let mut w = World::new();
        w.demand.minds_one = true;
        w.seconds(300, USUAL);
        assert!(w.seconds(60, [0, 5, 5, 5, 0]).is_some());
    }
}
