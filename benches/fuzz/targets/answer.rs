//! Answers of DSPs: what is read is what stands there, prices to the last digit; and an auction that hears one decides by
//! it, writes down why, and passes the winner's bid on as it came.
use super::{
    node::{Kind, Node, scaled},
    response,
};
use outcry::{
    auction::{Answers, Auction, Offers, Record, Start, Unlimited, replay},
    config::{self, Config},
    dsp::targets::Targets,
    limits::{JSON_DEPTH_MAX, RECORD_BYTES_MAX},
    openrtb::{
        codes::{Loss, Outcome},
        request::Request,
        response::Response,
    },
    units::{Cpm, Currency, DspIx, MS},
};
use outcry_cores::lab::by_hand;
use std::sync::OnceLock;

const CONFIG: &str = r#"
[rates]
id = "2026-11-21"
accounting = "USD"
table = { USD = 1, EUR = 1.15, JPY = 0.0061 }
[[exchange]]
name = "last"
path = "/last"
currencies = ["USD", "EUR"]
[[exchange]]
name = "between"
path = "/between"
position = "intermediate"
currencies = ["EUR"]
expected_exp_s = 60
require_crid = true
require_adomain = true
[[dsp]]
name = "rival"
url = "http://127.0.0.1:1/"
[[dsp]]
name = "open"
url = "http://127.0.0.1:1/"
[[dsp]]
name = "tied"
url = "http://127.0.0.1:1/"
seats = ["s1", "s2"]
currencies = ["USD", "JPY"]
media = ["banner", "video"]
"#;

/// One with everything that bids are held against, one with nothing of it.
const REQUESTS: [&str; 2] = [
    r#"{"id":"r","at":2,"cur":["USD","EUR"],"bcat":["IAB25"],"badv":["bad.example"],"bapp":["com.bad"],"bseat":["s9"],
"imp":[{"id":"1","secure":1,"bidfloor":0.5,"exp":30,"banner":{"w":300,"h":250,"battr":[3]}},
{"id":"2","bidfloor":1,"bidfloorcur":"EUR","video":{"mimes":["v"],"minduration":5,"maxduration":30,"battr":[4]},"banner":{},
"pmp":{"deals":[{"id":"d1","bidfloor":2,"at":3},{"id":"d2","guar":1,"wseat":["s1"],"wadomain":["good.example"]}]}},
{"id":"3","qty":{"multiplier":2.5},"native":{"request":"{\"assets\":[{\"id\":1,\"title\":{\"len\":9}}]}"},
"pmp":{"private_auction":1,"deals":[{"id":"d3","bidfloor":0.1,"at":1}]}},
{"id":"4\u0022","audio":{"mimes":["a"],"poddur":30}}]}"#,
    r#"{"id":"r","at":1,"test":1,"imp":[{"id":"1","banner":{}},{"id":"2","video":{"mimes":["v"]}},{"id":"3","audio":{"mimes":["a"]}}]}"#,
];

const RIVAL: &str = r#"{"id":"r","seatbid":[{"seat":"s2","bid":[{"id":"x1","impid":"1","price":0.9,"nurl":"https://n.example"},
{"id":"x2","impid":"2","price":1.4,"adm":"m"}]}]}"#;

fn config() -> &'static Config {
    static CONFIG_ONCE: OnceLock<Config> = OnceLock::new();
    CONFIG_ONCE.get_or_init(|| config::load(CONFIG, 1).unwrap_or_else(|m| panic!("{m:?}")))
}

struct Heard<'a>([(&'a Response, &'a [u8]); 2]);

impl Answers for Heard<'_> {
    fn leg(&self, leg: u8) -> (&Response, &[u8]) {
        self.0[usize::from(leg)]
    }
}

/// The first byte chooses the auction; the rest is the answer's body.
pub fn check(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let read = response::check(bytes);
    let bit = |n: u8| usize::from(choice >> n & 1);
    let config = config();
    let body = REQUESTS[bit(0)].as_bytes();
    let (mut request, mut rival) = (Request::default(), Response::default());
    request.parse(body, 0, &Default::default()).unwrap_or_else(|e| panic!("{e:?}"));
    rival.parse(RIVAL.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
    let start = by_hand::start(config, bit(1), &request, body);
    let mut auction = Auction::default();
    auction.begin(&start);
    let places = [0, 1 + bit(2)];
    let dsps = places.map(|at| &config.dsps[at]);
    let offers = Offers::of(&start, &Targets::new(&config.dsps, &config.rates));
    for (i, dsp) in dsps.iter().enumerate() {
        let imps = offers.to(places[i]);
        assert!(imps >> request.imps.len() == 0, "an impression that is not there");
        assert_eq!(auction.ask(DspIx(i as u16), &dsp.name, imps, 1_000 * MS), i as u8);
    }
    if bit(3) == 1 {
        auction.leg_answered(0, dsps[0], Ok(&rival), RIVAL.as_bytes(), &start, 1_010 * MS);
    }
    let heard = read.as_ref().map_err(|_| ());
    let outcome = auction.leg_answered(1, dsps[1], heard, bytes, &start, 1_020 * MS);
    let decision = auction.decide(&mut Unlimited, &Default::default(), 1_030 * MS).clone();

    assert_eq!(read.is_err(), outcome == Outcome::NotJson);
    assert_eq!(decision.losses.len(), auction.inputs().bids.len(), "every bid has its reason");
    assert_eq!(replay(auction.record()), decision, "replayed from its record it is decided otherwise");
    let mut record = Vec::new();
    auction.encode_record(&mut record);
    assert!(record.len() <= RECORD_BYTES_MAX);
    let back = Record::decode(&record).unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(replay(&back), decision, "replayed from its bytes it is decided otherwise");
    let mut again = Vec::new();
    back.encode(&mut again);
    assert_eq!(again, record);

    let nothing = Response::default();
    let heard = Heard([(&rival, RIVAL.as_bytes()), (read.as_ref().unwrap_or(&nothing), bytes)]);
    let mut sold = 0u64;
    for win in &decision.wins {
        let (response, bytes) = heard.leg(win.leg);
        let (bid, imp) = (&response.bids[usize::from(win.bid)], &request.imps[usize::from(win.imp)]);
        assert!(sold >> win.imp & 1 == 0, "sold twice");
        sold |= 1 << win.imp;
        assert!(imp.refused.is_none() && auction.inputs().legs[usize::from(win.leg)].imps >> win.imp & 1 == 1);
        assert!(bid.impid.same(bytes, imp.id, body), "a bid for another impression");
        assert!(win.leg == 0 || outcome == Outcome::Bid, "won by an answer that was none");
        assert_eq!(decision.losses[usize::from(win.input)], Loss::Won);
        assert!(Cpm::ZERO < win.price && win.price <= win.bid_price, "{win:?}");
        if response.cur == Some(decision.answer_currency) {
            assert_eq!(Ok(win.bid_price), bid.price, "the same currency");
        }
        if decision.answer_currency == Currency::USD && imp.bidfloorcur == Currency::USD && !win.deal {
            assert!(win.price >= imp.bidfloor, "below the floor: {win:?}");
        }
        assert_eq!(decision.test, start.request.test);
        assert!(!decision.test || win.charge.0 == 0 && win.reserved.0 == 0);
        assert!(win.charge <= win.reserved);
    }
    assert_eq!(decision.wins.is_empty(), decision.nbr.is_some());
    written(&auction, &start, &heard);
}

/// Our own answer: the winners' bids as they came, but for the price and the macros.
fn written(auction: &Auction, start: &Start<'_>, heard: &Heard<'_>) {
    let mut out = Vec::new();
    auction.write_answer(heard, start, None, &mut out);
    // Bids stand one object and one array deeper than in an answer of a DSP, never deeper than that.
    let ours = Node::read(&out, JSON_DEPTH_MAX).unwrap_or_else(|e| panic!("{e:?}: {}", String::from_utf8_lossy(&out)));
    assert_eq!(ours.get("id").and_then(Node::text), Some("r"));
    let seatbids = ours.get("seatbid").and_then(Node::items).expect("seatbid");
    let wins = &auction.decision().wins;
    let mut passed = 0;
    for seatbid in seatbids {
        for bid in seatbid.get("bid").and_then(Node::items).expect("bid") {
            passed += 1;
            let text = |node: &Node<'_>, key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
            let as_it_came = |win: &&outcry::auction::Win| {
                let (response, bytes) = heard.leg(win.leg);
                let theirs = &response.bids[usize::from(win.bid)];
                let theirs = Node::read(theirs.whole.of(bytes), JSON_DEPTH_MAX).expect("a bid is JSON");
                text(&theirs, "impid") == text(bid, "impid") && same(&theirs, bid, win.price)
            };
            let win = wins.iter().find(as_it_came).unwrap_or_else(|| panic!("not as a DSP wrote it: {}", bid.raw));
            let (response, bytes) = heard.leg(win.leg);
            let seat = response.bids[usize::from(win.bid)].seat;
            let seat = seat.is_some().then(|| String::from_utf8(seat.bytes(bytes).collect()).expect("UTF-8"));
            assert_eq!(text(seatbid, "seat"), seat);
        }
    }
    assert_eq!(passed, wins.len());
}

/// Member by member, in their order, in their bytes.
fn same(theirs: &Node<'_>, ours: &Node<'_>, price: Cpm) -> bool {
    let (Some(theirs), Some(ours)) = (theirs.members(), ours.members()) else { return false };
    let member = |((key, was), (also, is)): (&(String, Node<'_>), &(String, Node<'_>))| {
        key == also
            && match (key.as_str(), &was.kind) {
                ("price", _) => scaled(is.raw, 6) == (price.0 as u64, true),
                ("adm" | "nurl" | "burl" | "lurl", Kind::Text(_)) if was.raw.contains("${") => {
                    let untouched = was.raw.split("${").next().unwrap_or("");
                    matches!(is.kind, Kind::Text(_)) && is.raw.starts_with(untouched)
                }
                _ => is.raw == was.raw,
            }
    };
    theirs.len() == ours.len() && theirs.iter().zip(ours).all(member)
}
