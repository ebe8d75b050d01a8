//! Single stages of an auction on the types of `outcry`, as the bidder uses them.
//! Owns: what such a stage keeps from one auction to the next. Called by: `micro`.
use crate::counted;
use bumpalo::Bump;
use outcry::{
    auction::{Answers, Auction, Offers, Record, Start, Unlimited},
    config::BuyerUid,
    dsp::targets::Targets,
    http1::{self, HeadLimits, HeadScan, Parsed, ResponseExtra},
    messages::CoreConfig,
    openrtb::{
        request::Request,
        response::Response,
        splice::{self, Edits},
    },
    units::DspIx,
};
use outcry_benches::{answers::Bidder, kit::request};
use outcry_cores::lab::by_hand;
use std::hint::black_box;

/// DSPs that are asked.
pub(crate) const DSPS: usize = 5;
/// The first DSP's port in the configuration.
pub(crate) const PORT: u16 = 9001;

/// Of a DSP: nothing of how it fares is learned, or held against it.
pub(crate) const UNSHAPED: &str =
    "breaker = false\nin_flight_limit = false\ntrouble = false\nlearned_time = false\nlearned_deadline = false\n";

/// The configuration that `scripts/bench` gives the product, and `more` for each DSP.
pub(crate) fn core_config(more: &str) -> Box<CoreConfig> {
    let mut text = String::from(
        "[auction]\ntmax_max_ms = 900\ndsp_ms = 800\n[rates]\ntable = { USD = 1, EUR = 1.08, GBP = 1.27 }\n\
        [[exchange]]\nname = \"default\"\npath = \"/openrtb2/auction\"\ncurrencies = [\"USD\", \"EUR\", \"GBP\"]\n",
    );
    for i in 0..DSPS as u16 {
        text += &format!("[[dsp]]\nname = \"dsp-{i}\"\nurl = \"http://127.0.0.1:{}/dsp\"\n", PORT + i);
        text += "timeout_ms = 800\nwarm = 64\nconnections = 2048\n";
        text += more;
    }
    by_hand::core_config(&text, 1)
}

/// Which stages of an auction are counted.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    pub(crate) begin: bool,
    pub(crate) judge: bool,
    pub(crate) decide: bool,
    pub(crate) record: bool,
    pub(crate) answer: bool,
}

/// None.
pub(crate) const NOTHING: Count = Count { begin: false, judge: false, decide: false, record: false, answer: false };

pub(crate) struct Parts {
    config: Box<CoreConfig>,
    targets: Targets,
    dsps: Bidder,
    arena: Bump,
    scan: HeadScan,
    request: Request,
    auction: Auction,
    /// HTTP answers of the DSPs to the request at hand, and where their bodies begin.
    answers: Vec<(Vec<u8>, usize)>,
    views: Vec<Response>,
    out: Vec<u8>,
}

struct Heard<'a> {
    answers: &'a [(Vec<u8>, usize)],
    views: &'a [Response],
}

impl Answers for Heard<'_> {
    fn leg(&self, leg: u8) -> (&Response, &[u8]) {
        let (bytes, at) = &self.answers[usize::from(leg)];
        (&self.views[usize::from(leg)], &bytes[*at..])
    }
}

impl Parts {
    pub(crate) fn new() -> Parts {
        let config = core_config("");
        Parts {
            targets: Targets::new(&config.config.dsps, &config.config.rates),
            config,
            dsps: Bidder::new(true, 700),
            arena: Bump::with_capacity(16 * 1024),
            scan: HeadScan::default(),
            request: Request::default(),
            auction: Auction::default(),
            answers: vec![(Vec::new(), 0); DSPS],
            views: vec![Response::default(); DSPS],
            out: Vec::with_capacity(64 * 1024),
        }
    }

    pub(crate) fn request_head(&mut self, count: bool, post: &[u8]) {
        let limits = HeadLimits { head_bytes: self.config.config.http.head_bytes };
        counted(count, || {
            let read = http1::request_head(black_box(post), &mut self.scan, &limits);
            assert!(matches!(black_box(read), Parsed::Done(_)));
        });
    }

    /// What the DSPs answer to a request, and where each body begins; read for the count when asked to.
    fn hear(&mut self, count: bool, body: &[u8]) {
        let post = request("/dsp", body);
        for dsp in 0..DSPS {
            let (bytes, at) = &mut self.answers[dsp];
            self.dsps.answer(&post, dsp, bytes);
            let (view, scan) = (&mut self.views[dsp], &mut self.scan);
            counted(count, || {
                let Parsed::Done(head) = http1::response_head(black_box(bytes), scan, 8 * 1024) else {
                    panic!("an answer of the DSPs is refused")
                };
                *at = head.len;
                if head.status == 200 {
                    assert!(view.parse(&bytes[head.len..]).is_ok());
                }
            });
        }
    }

    /// Five answers, heads and bodies.
    pub(crate) fn responses(&mut self, count: bool, body: &[u8]) {
        self.hear(count, body);
    }

    fn read(&mut self, body: &[u8]) {
        assert!(self.request.parse(body, 0, &self.arena).is_ok());
        self.arena.reset();
    }

    /// Five rewrites of a request.
    pub(crate) fn splice(&mut self, count: bool, body: &[u8]) {
        self.read(body);
        let imps = (1u64 << self.request.imps.len()) - 1;
        counted(count, || {
            for dsp in &self.config.config.dsps {
                self.out.clear();
                let edits = Edits {
                    tmax_ms: 798,
                    dsp_name: &dsp.name,
                    wseat: &dsp.seats,
                    cur: &dsp.currencies,
                    buyeruid: BuyerUid::Map,
                    schain_node: None,
                    imps,
                };
                assert!(splice::splice(&self.request, black_box(body), &edits, &mut self.out).is_ok());
            }
        });
    }

    /// The record of an auction; none of a request that is refused.
    #[allow(dead_code, reason = "journal-fill's")]
    pub(crate) fn record(&mut self, body: &[u8]) -> Option<Record> {
        let read = self.request.parse(body, 0, &self.arena);
        self.arena.reset();
        read.ok()?;
        self.auction(body, NOTHING);
        Some(self.auction.record().clone())
    }

    /// An auction from its request to its answer, counted in parts.
    pub(crate) fn auction(&mut self, body: &[u8], count: Count) {
        self.read(body);
        self.hear(false, body);
        let Parts { config, targets, arena, request, auction, answers, views, out, .. } = self;
        let config = &config.config;
        let start = Start {
            arrival_ns: 1_000,
            whole_ns: 1_000,
            wall_ms: 1_700_000_000_000,
            deadline_ns: 800_000_000,
            entropy: 42,
            ..by_hand::start(config, 0, request, body)
        };
        counted(count.begin, || auction.begin(&start));
        let offers = Offers::of(&start, targets);
        for (i, dsp) in config.dsps.iter().enumerate() {
            auction.ask(DspIx(i as u16), &dsp.name, offers.to(i), 2_000);
        }
        counted(count.judge, || {
            for (i, dsp) in config.dsps.iter().enumerate() {
                let (bytes, at) = &answers[i];
                let leg = i as u8;
                if bytes.len() == *at {
                    auction.leg_failed(leg, outcry::openrtb::codes::Outcome::NoBid, 20_000_000);
                } else {
                    auction.leg_answered(leg, dsp, Ok(&views[i]), &bytes[*at..], &start, 20_000_000);
                }
            }
        });
        counted(count.decide, || {
            auction.decide(&mut Unlimited, arena, 20_000_000);
        });
        arena.reset();
        out.clear();
        counted(count.record, || auction.encode_record(out));
        out.clear();
        if auction.decision().wins.is_empty() {
            return;
        }
        counted(count.answer, || {
            let extra =
                ResponseExtra { content_type: Some("application/json"), gzip: false, close: false, allow: None };
            let slot = http1::begin_response(out, 200, extra);
            auction.write_answer(&Heard { answers, views }, &start, None, out);
            http1::finish_response(out, slot);
        });
        black_box(out);
    }
}
