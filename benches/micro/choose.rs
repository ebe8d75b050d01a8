//! Whom to ask: what each of many DSPs states, combined, and the best of those that are left.
//! Owns: a configuration, what is known of its DSPs, quotas. Called by: `micro`.
use crate::counted;
use bumpalo::Bump;
use outcry::{
    auction::Offers,
    dsp::{
        choice::Choosing,
        quota::Quotas,
        targets::Targets,
        worth::{Kind, Worths, members},
    },
    messages::CoreConfig,
    openrtb::request::Request,
    units::{Cpm, mix},
};
use outcry_cores::lab::by_hand;
use std::{fmt::Write, hint::black_box};

/// Of so many at most.
const ASKED: usize = 10;

pub(crate) struct Choose {
    config: Box<CoreConfig>,
    targets: Targets,
    worths: Worths,
    quotas: Quotas,
    offers: Offers,
    arena: Bump,
    request: Request,
    now_ns: u64,
}

/// DSPs of which each states something: a third each of what can be.
fn configuration(dsps: usize, states: bool) -> Box<CoreConfig> {
    let mut text = format!(
        "[auction]\nasked_max = {ASKED}\n[rates]\ntable = {{ USD = 1, EUR = 1.08, GBP = 1.27 }}\n\
         [[exchange]]\nname = \"default\"\npath = \"/openrtb2/auction\"\ncurrencies = [\"USD\", \"EUR\", \"GBP\"]\n"
    );
    for i in 0..dsps {
        let _ = writeln!(text, "[[dsp]]\nname = \"dsp-{i}\"\nurl = \"http://127.0.0.1:9001/dsp\"");
        if !states {
            continue;
        }
        // All of them want most requests, so that there is a choice.
        let lines = [
            "sizes = [\"300x250\", \"728x90\", \"320x50\", \"160x600\", \"970x250\", \"300x600\"]",
            "countries = [\"USA\", \"DEU\", \"GBR\", \"FRA\", \"CAN\"]",
            "devices = [\"pc\", \"phone\", \"tablet\", \"mobile\"]",
            "channels = [\"site\", \"app\"]",
            "publishers_not = [\"nobody\", \"somebody\"]",
            "languages = [\"en\", \"de\", \"fr\"]",
            "categories_not = [\"IAB25\", \"IAB26\"]",
            "deals = [\"deal-x\", \"deal-y\"]",
            "qps = 1000000",
        ];
        for (at, line) in lines.iter().enumerate() {
            if (i + at).is_multiple_of(3) {
                text += line;
                text += "\n";
            }
        }
    }
    by_hand::core_config(&text, 1)
}

impl Choose {
    /// Of so many DSPs, which state something or not.
    pub(crate) fn new(dsps: usize, states: bool) -> Choose {
        let config = configuration(dsps, states);
        let (mut worths, mut quotas) = (Worths::default(), Quotas::default());
        worths.configure(config.config.dsps.iter().map(|d| d.name.as_str()), ASKED);
        quotas.configure(1, &config.config.dsps, 1, 0);
        let targets = Targets::new(&config.config.dsps, &config.config.rates);
        let (arena, request) = (Bump::with_capacity(16 * 1024), Request::default());
        Choose { config, targets, worths, quotas, offers: Offers::default(), arena, request, now_ns: 1_000_000_000 }
    }

    fn choose(&mut self, count: bool, body: &[u8], i: u64) -> u64 {
        assert!(self.request.parse(body, 0, &self.arena).is_ok());
        self.arena.reset();
        self.now_ns += 1_000_000;
        let Choose { config, targets, worths, quotas, offers, request, now_ns, .. } = self;
        let start = by_hand::start(&config.config, 0, request, body);
        let (mut asked, entropy) = (0, mix(i));
        counted(count, || {
            offers.set(black_box(&start), targets);
            let spent = quotas.spent(offers.wanted, *now_ns);
            let mut choosing = Choosing::new(offers.wanted & !spent, offers.on_deal, ASKED, entropy);
            while let Some(choice) = choosing.next(worths, || Kind::of(request, body)) {
                for at in members(choice.dsps) {
                    black_box(offers.to(at));
                    quotas.take(at, *now_ns);
                    choosing.asked();
                }
                asked |= choice.dsps;
            }
        });
        asked
    }

    /// Chooses for a request. Of those that are asked some bid, each as often and as high as it does.
    pub(crate) fn run(&mut self, count: bool, body: &[u8], i: usize) {
        let asked = self.choose(count, body, i as u64);
        let kind = Kind::of(&self.request, body);
        for at in members(asked) {
            let draw = mix((i as u64) << 8 ^ at as u64 ^ self.now_ns);
            let wins = draw % 100 < mix(at as u64) % 50;
            self.worths.learn(kind, at, Cpm(if wins { 100_000 + (draw >> 40) as i64 % 900_000 } else { 0 }));
        }
    }

    /// How many are asked of a request.
    pub(crate) fn asked(&mut self, body: &[u8]) -> u32 {
        self.choose(false, body, 0).count_ones()
    }
}
