//! What DSPs' health costs an auction of five: whether each may be asked, that it was, what it answered, what came of it.
use crate::counted;
use outcry::{
    dsp::{
        breaker::Admission,
        demand::Demand,
        health::{Health, Rules, Verdict},
    },
    units::{MS, mix},
};
use outcry_cores::lab::by_hand;
use std::hint::black_box;

const DSPS: usize = 5;
/// Between two auctions.
const GAP_NS: u64 = MS / 10;

pub(crate) struct Healths {
    all: Vec<Health>,
    demand: Demand,
    n: u64,
}

impl Healths {
    /// By the rules that an empty configuration gives a DSP, or by none.
    pub(crate) fn new(on: bool) -> Healths {
        let text = "[[dsp]]\nname = \"a\"\nurl = \"http://127.0.0.1:9001/\"\n";
        let rules = if on { by_hand::core_config(text, 1).config.dsps[0].health } else { Rules::OFF };
        let mut made = Healths {
            all: (0..DSPS).map(|at| Health::new(rules, at as u64)).collect(),
            demand: Demand::default(),
            n: 0,
        };
        // All is learned by then.
        (0..20_000).for_each(|_| made.auction(false));
        made
    }

    pub(crate) fn auction(&mut self, count: bool) {
        self.n += 1;
        let (now_ns, entropy) = (1_000 * MS + self.n * GAP_NS, mix(self.n));
        let Healths { all, demand, .. } = self;
        counted(count, || {
            let mut any = false;
            for health in all.iter_mut() {
                if let Ok(admitted) = black_box(health.admit(70 * MS, entropy, now_ns)) {
                    health.began(now_ns);
                    debug_assert!(admitted.as_what == Admission::Healthy);
                }
            }
            for (at, health) in all.iter_mut().enumerate() {
                let took_ns = (5 + (entropy >> (8 * at)) % 16) * MS;
                let verdict = Verdict::of(200, None, Some(black_box(b"{}")));
                health.answered(verdict, Admission::Healthy, took_ns, now_ns + took_ns);
                health.read(true, Admission::Healthy, now_ns + took_ns);
                let bid = entropy >> (40 + at) & 1 == 1;
                any |= bid;
                health.told(Some(took_ns), bid, bid && at == 0, now_ns + took_ns);
            }
            demand.add(any);
        });
    }
}
