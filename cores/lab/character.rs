//! How a simulated DSP behaves: how fast, how often, how dear, how wrong.
//! Owns: plain parameters. Called by: `dsp_sim`, `bids`. Never: draws from anything but its seed and the request's id,
//! so a request meets the same fate whatever came before it.
use super::{hostile::Hostile, rng::Rng};

/// A simulated DSP.
#[derive(Clone, Debug, PartialEq)]
pub struct Character {
    /// Its name; also its endpoint's host in markup and notice URLs.
    pub name: String,
    /// All its draws come from this and the request's id.
    pub seed: u64,
    /// Shortest time to an answer, microseconds.
    pub delay_min_us: u64,
    /// Mean of the exponential tail on top of it, microseconds; the tail ends at eight times that.
    pub delay_tail_us: u64,
    /// Chance to bid on an impression it could fill, of a thousand.
    pub bid_permille: u32,
    /// Lowest and highest price it thinks of, micro-units of CPM in US dollars.
    pub price_micros: (u64, u64),
    /// Chance of a 500, garbage, a wrong id or a connection cut in the middle, of a thousand.
    pub error_permille: u32,
    /// Chance to answer only after the `tmax` it was told, of a thousand.
    pub late_permille: u32,
    /// The seats it bids for; at least one.
    pub seats: Vec<String>,
    /// The currency it likes; it takes another when a request wants that.
    pub cur: String,
    /// `Some(n)`: always the same bid on the first impression, in a body of about `n` bytes, nothing parsed but ids.
    pub fixed_bytes: Option<usize>,
    /// `Some`: its bids have notice URLs at this host and port, its own; none of them is `https`.
    pub notices: Option<String>,
    /// Calls of these are never answered.
    pub deaf: bool,
    /// What it does with its answers on the wire instead of just sending them.
    pub hostile: Option<Hostile>,
}

/// What is wrong with an answer on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Status 500.
    Status500,
    /// A 200 whose body is not JSON.
    Garbage,
    /// A good bid for another request.
    OtherId,
    /// The connection is closed in the middle of the body.
    Cut,
}

impl Wrong {
    /// For logs.
    pub fn name(self) -> &'static str {
        match self {
            Wrong::Status500 => "status 500",
            Wrong::Garbage => "garbage",
            Wrong::OtherId => "other id",
            Wrong::Cut => "cut",
        }
    }
}

/// What happens to one request.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From the whole request to the first byte of its answer, microseconds.
    pub delay_us: u64,
    /// The answer comes after the deadline on purpose.
    pub late: bool,
    /// It is wrong on purpose.
    pub wrong: Option<Wrong>,
    /// For what the bid says.
    pub rng: Rng,
}

impl Character {
    /// The names that [`Character::named`] knows.
    pub const NAMES: [&str; 6] = ["cheap", "rich", "decliner", "erring", "late", "fixed"];

    /// One of the built-in characters.
    pub fn named(name: &str, seed: u64) -> Option<Character> {
        let seats = |n: usize| (1..=n).map(|i| format!("{name}-{i}")).collect();
        let base = Character {
            name: name.to_owned(),
            seed: Rng::keyed(seed, name.as_bytes()).draw(),
            delay_min_us: 2_000,
            delay_tail_us: 2_000,
            bid_permille: 800,
            price_micros: (200_000, 1_500_000),
            error_permille: 0,
            late_permille: 0,
            seats: seats(1),
            cur: "USD".to_owned(),
            fixed_bytes: None,
            notices: None,
            deaf: false,
            hostile: None,
        };
        Some(match name {
            // Answers at once, to nearly everything, and pays little.
            "cheap" => base,
            // Thinks long, for several advertisers, and pays well.
            "rich" => Character {
                delay_min_us: 18_000,
                delay_tail_us: 8_000,
                bid_permille: 600,
                price_micros: (800_000, 8_000_000),
                seats: seats(3),
                ..base
            },
            "decliner" => {
                Character { delay_min_us: 3_000, bid_permille: 60, price_micros: (500_000, 4_000_000), ..base }
            }
            "erring" => Character {
                delay_min_us: 5_000,
                delay_tail_us: 4_000,
                error_permille: 50,
                bid_permille: 600,
                price_micros: (300_000, 3_000_000),
                cur: "EUR".to_owned(),
                ..base
            },
            "late" => Character {
                delay_min_us: 8_000,
                delay_tail_us: 10_000,
                late_permille: 350,
                bid_permille: 700,
                price_micros: (500_000, 5_000_000),
                seats: seats(2),
                ..base
            },
            "fixed" => Character {
                delay_min_us: 20_000,
                delay_tail_us: 0,
                bid_permille: 1000,
                price_micros: (1_250_000, 1_250_000),
                fixed_bytes: Some(700),
                ..base
            },
            _ => return None,
        })
    }

    /// The five of the demo: fast and cheap; rich and slow; mostly declining; erring; often late.
    pub fn five(seed: u64) -> Vec<Character> {
        Character::NAMES.iter().filter(|n| **n != "fixed").filter_map(|n| Character::named(n, seed)).collect()
    }

    /// What happens to the request with this id, which said `tmax_ms`.
    pub fn plan(&self, id: &str, tmax_ms: u64) -> Plan {
        let mut rng = Rng::keyed(self.seed, id.as_bytes());
        let tail = match self.delay_tail_us {
            0 => 0,
            mean => rng.exponential(mean as f64).min(8.0 * mean as f64) as u64,
        };
        let late = rng.chance(self.late_permille);
        let wrong = rng.chance(self.error_permille).then(|| match rng.below(4) {
            0 => Wrong::Status500,
            1 => Wrong::Garbage,
            2 => Wrong::OtherId,
            _ => Wrong::Cut,
        });
        // Late means after the deadline, whatever was granted: by up to a hundred milliseconds, as in life.
        let after = if late { tmax_ms * 1_000 + rng.between(2_000, 100_000) } else { 0 };
        Plan { delay_us: after.max(self.delay_min_us + tail), late, wrong, rng }
    }
}

#[cfg(test)]
mod tests {
    use super::Character;

    /// Delays in microseconds (median), errors and lates of 10,000 requests.
    fn fates(c: &Character) -> (u64, usize, usize) {
        let plans: Vec<_> = (0..10_000).map(|i| c.plan(&format!("{i:024x}"), 60)).collect();
        let mut delays: Vec<u64> = plans.iter().map(|p| p.delay_us).collect();
        delays.sort_unstable();
        let count = |f: fn(&super::Plan) -> bool| plans.iter().filter(|p| f(p)).count();
        (delays[5_000], count(|p| p.wrong.is_some()), count(|p| p.late))
    }

    #[test]
    fn each_behaves_as_it_is_called() {
        let of = |name| fates(&Character::named(name, 1).expect("a built-in name"));
        let (cheap, rich, erring, late) = (of("cheap"), of("rich"), of("erring"), of("late"));
        assert!(cheap.0 < 5_000 && cheap.1 == 0 && cheap.2 == 0, "{cheap:?}");
        assert!(rich.0 > 18_000 && rich.0 < 40_000, "{rich:?}");
        assert!((400..600).contains(&erring.1), "5 % of 10,000: {erring:?}");
        assert!((3_200..3_800).contains(&late.2), "{late:?}");
        assert_eq!(of("fixed"), (20_000, 0, 0));
        assert_eq!(Character::named("nobody", 1), None);
        assert_eq!(Character::five(1).len(), 5);
    }

    #[test]
    fn fate_depends_on_seed_and_id_alone() {
        let (a, b) = (Character::named("late", 1).expect("known"), Character::named("late", 2).expect("known"));
        let delays = |c: &Character| (0..50).map(|i| c.plan(&i.to_string(), 60).delay_us).collect::<Vec<_>>();
        assert_eq!(delays(&a), delays(&a));
        assert_ne!(delays(&a), delays(&b));
    }
}
