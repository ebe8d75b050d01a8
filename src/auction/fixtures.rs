//! Auctions built by hand for the tests of this module: views with the bytes they point into.
use super::{Answers, Auction, Funds, Start};
use crate::{
    config::resolved::{
        AuctionRules, BuyerUid, Dsp, Exchange, Markup, NoBidStyle, Position, RateTable, RunnerUp, Settle, Wrapping,
    },
    dsp::targets::Buys,
    notice::{sealed::Seal, target::Host},
    openrtb::{
        request::{Deal, Imp, Media, Request, Run},
        response::{Bid, Response},
        text::{Span, Text},
    },
    record::{trace::TraceId, user::Salt},
    units::{Cpm, Currency, DspIx, EventId, ExchangeIx, MS, Multiplier, PriceError, Rate, Round},
};

pub(super) const EUR: Currency = Currency(*b"EUR");
pub(super) const JPY: Currency = Currency(*b"JPY");
pub(super) const XXX: Currency = Currency(*b"XXX"); // without a rate

pub(super) fn cpm(text: &str) -> Cpm {
    Cpm::parse(text.as_bytes(), Round::Down).unwrap()
}

/// A request, a configuration, and what an auction of them starts from.
#[derive(Clone)]
pub(super) struct Fix {
    pub(super) body: Vec<u8>,
    pub(super) request: Request,
    pub(super) rules: AuctionRules,
    pub(super) rates: RateTable,
    pub(super) exchange: Exchange,
    pub(super) dsps: Vec<Dsp>,
    pub(super) seals: Vec<Option<Seal>>,
    pub(super) entropy: u64,
    pub(super) bid_bytes: usize,
    pub(super) asked_ns: u64,
    pub(super) awaited_s: u32,
    pub(super) trace: Option<TraceId>,
}

impl Fix {
    /// Second price, USD, five DSPs, no impressions yet.
    pub(super) fn new() -> Fix {
        let mut fix = Fix {
            body: Vec::new(),
            request: Request { at: 2, cattax: 1, ..Request::default() },
            rules: AuctionRules {
                increment: cpm("0.01"),
                runner_up: RunnerUp::OtherDsp,
                tmax_default_ms: 100,
                tmax_max_ms: 1000,
                network_ms: 5,
                answer_ms: 2,
                dsp_ms: 70,
                dsp_min_ms: 10,
                dsp_network_ms: 2,
                asked_max: 10,
                schain: None,
            },
            rates: RateTable {
                id: "2026-11-21".into(),
                accounting: Currency::USD,
                rates: vec![(EUR, Rate(1_083_700_003)), (JPY, Rate(6_666_667)), (Currency::USD, Rate::ONE)],
            },
            exchange: Exchange {
                name: "xchg".into(),
                path: "/openrtb2/auction".into(),
                position: Position::LastAuction,
                no_bid: NoBidStyle::Nbr,
                currencies: vec![Currency::USD, EUR, JPY],
                expected_exp_s: 0,
                require_crid: false,
                require_adomain: false,
                notices: Wrapping::Pass,
                markup: Markup::Pass,
                settle: Settle::Auction,
            },
            dsps: (0..5).map(|i| dsp(&format!("dsp{i}"))).collect(),
            seals: Vec::new(),
            entropy: 42,
            bid_bytes: crate::limits::RECORD_BID_BYTES_DEFAULT,
            asked_ns: 0,
            awaited_s: 0,
            trace: None,
        };
        fix.request.id = fix.text("req-1");
        fix
    }

    pub(super) fn text(&mut self, text: &str) -> Text {
        self.body.extend_from_slice(text.as_bytes());
        Text::new(self.body.len() - text.len(), text.len(), text.contains('\\'))
    }

    pub(super) fn texts(&mut self, texts: &[&str]) -> Run {
        let at = self.request.texts.len() as u16;
        for t in texts {
            let t = self.text(t);
            self.request.texts.push(t);
        }
        Run { at, len: texts.len() as u16 }
    }

    pub(super) fn numbers(&mut self, numbers: &[u32]) -> Run {
        let at = self.request.numbers.len() as u16;
        self.request.numbers.extend_from_slice(numbers);
        Run { at, len: numbers.len() as u16 }
    }

    /// Adds a banner impression `impN` with a floor in USD.
    pub(super) fn imp(&mut self, floor: &str) -> &mut Imp {
        let id = self.text(&format!("imp{}", self.request.imps.len()));
        self.request.imps.push(Imp {
            id,
            media: Media::BANNER,
            bidfloor: cpm(floor),
            qty: Multiplier::ONE,
            ..Imp::default()
        });
        self.request.imps.last_mut().unwrap()
    }

    /// Adds a deal to the last impression.
    pub(super) fn deal(&mut self, id: &str, floor: &str, at: u32) -> &mut Deal {
        let id = self.text(id);
        self.request.deals.push(Deal { id, bidfloor: cpm(floor), at, ..Deal::default() });
        let deals = &mut self.request.imps.last_mut().unwrap().deals;
        if deals.len == 0 {
            deals.at = self.request.deals.len() as u16 - 1;
        }
        deals.len += 1;
        self.request.deals.last_mut().unwrap()
    }

    pub(super) fn start(&self) -> Start<'_> {
        Start {
            event: EventId { node: 1, epoch: 2, core: 3, seq: 4 },
            config_id: 9,
            config_hash: 0x00c0_ffee,
            region: "eu-1",
            salt: Salt { id: 20_778, key: [1, 2] },
            bid_bytes: self.bid_bytes,
            rules: &self.rules,
            rates: &self.rates,
            exchange: &self.exchange,
            exchange_ix: ExchangeIx(0),
            request: &self.request,
            body: &self.body,
            arrival_ns: 1_000 * MS,
            whole_ns: 1_001 * MS,
            wall_ms: 1_700_000_000_000,
            deadline_ns: 1_100 * MS,
            asked_ns: self.asked_ns,
            awaited_s: self.awaited_s,
            trace: self.trace,
            entropy: self.entropy,
            seals: &self.seals,
            house: &[],
        }
    }

    /// Runs one auction: `replies` in the order of their arrival, each with its DSP. DSPs that do not reply are
    /// not asked; all others are, in their own order, for everything.
    pub(super) fn run_into(&self, a: &mut Auction, replies: &[(usize, Reply)], funds: &mut dyn Funds) {
        let s = self.start();
        a.begin(&s);
        let mut legs = vec![None; self.dsps.len()];
        for (i, dsp) in self.dsps.iter().enumerate() {
            if replies.iter().any(|(d, _)| *d == i) {
                legs[i] = Some(a.ask(DspIx(i as u16), &dsp.name, u64::MAX, s.arrival_ns + MS));
            }
        }
        for (i, reply) in replies {
            a.leg_answered(legs[*i].unwrap(), &self.dsps[*i], Ok(&reply.view), &reply.bytes, &s, s.arrival_ns + 9 * MS);
        }
        a.decide(funds, &Default::default(), s.arrival_ns + 10 * MS);
    }

    pub(super) fn run(&self, replies: &[(usize, Reply)]) -> Auction {
        let mut a = Auction::default();
        self.run_into(&mut a, replies, &mut super::Unlimited);
        a
    }
}

pub(crate) fn dsp(name: &str) -> Dsp {
    Dsp {
        name: name.into(),
        host: "localhost".into(),
        port: 1,
        path: "/".into(),
        tls: None,
        headers: Vec::new(),
        media: Media::ALL,
        seats: Vec::new(),
        currencies: Vec::new(),
        buys: Buys::default(),
        qps: None,
        timeout_ms: 70,
        warm: 0,
        connections: 1,
        idle_ms: 1,
        health: crate::dsp::health::Rules::OFF,
        gzip: false,
        answer_bytes: 1 << 20,
        buyeruid: BuyerUid::Map,
        unbudgeted: None,
        default_account: None,
        price_keys: None,
        price_max: None,
        notice_hosts: [(false, "dsp.example", 80), (true, "win.dsp.example", 443)]
            .map(|(secure, name, port)| Host { secure, name: name.into(), port })
            .into(),
        notice_tls: None,
    }
}

/// One bid as a DSP would write it.
#[derive(Clone, Debug)]
pub(super) struct B {
    pub(super) id: String,
    pub(super) imp: String,
    pub(super) price: String,
    pub(super) seat: String,
    pub(super) seatbid: u16,
    pub(super) group: bool,
    pub(super) deal: String,
    pub(super) adm: String,
    pub(super) nurl: String,
    pub(super) burl: String,
    pub(super) lurl: String,
    pub(super) cid: String,
    pub(super) crid: String,
    pub(super) bundle: String,
    pub(super) adomain: Vec<String>,
    pub(super) cat: Vec<String>,
    pub(super) cattax: u32,
    pub(super) attr: Vec<u32>,
    pub(super) size: (u32, u32),
    pub(super) media: Option<Media>,
    pub(super) dur_s: u32,
    pub(super) exp_s: u32,
}

/// A bid on impression `imp` at `price`.
pub(super) fn b(imp: usize, price: &str) -> B {
    B {
        id: "b".into(),
        imp: format!("imp{imp}"),
        price: price.into(),
        seat: String::new(),
        seatbid: 0,
        group: false,
        deal: String::new(),
        adm: "<b>hello</b>".into(),
        nurl: String::new(),
        burl: String::new(),
        lurl: String::new(),
        cid: String::new(),
        crid: String::new(),
        bundle: String::new(),
        adomain: Vec::new(),
        cat: Vec::new(),
        cattax: 1,
        attr: Vec::new(),
        size: (0, 0),
        media: None,
        dur_s: 0,
        exp_s: 0,
    }
}

/// A DSP's answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) view: Response,
}

impl Reply {
    pub(super) fn new(id: &str, cur: Currency) -> Reply {
        let mut r = Reply { bytes: Vec::new(), view: Response { cur: Some(cur), ..Response::default() } };
        r.view.id = if id.is_empty() { Text::NONE } else { r.put(id) };
        r
    }

    pub(super) fn usd(bids: &[B]) -> Reply {
        Reply::of(Currency::USD, bids)
    }

    pub(super) fn of(cur: Currency, bids: &[B]) -> Reply {
        let mut r = Reply::new("req-1", cur);
        bids.iter().for_each(|b| r.bid(b));
        r
    }

    /// Of an answer as it came.
    pub(super) fn read(text: &str) -> Reply {
        let mut view = Response::default();
        view.parse(text.as_bytes()).unwrap();
        Reply { bytes: text.as_bytes().to_vec(), view }
    }

    fn put(&mut self, text: &str) -> Text {
        self.bytes.extend_from_slice(text.as_bytes());
        Text::new(self.bytes.len() - text.len(), text.len(), text.contains('\\'))
    }

    fn put_all(&mut self, texts: &[String]) -> Run {
        let at = self.view.texts.len() as u16;
        for t in texts {
            let t = self.put(t);
            self.view.texts.push(t);
        }
        Run { at, len: texts.len() as u16 }
    }

    fn member(&mut self, key: &str, value: &str) -> Text {
        if value.is_empty() {
            return Text::NONE;
        }
        self.put(&format!(",\"{key}\":\""));
        let text = self.put(value);
        self.put("\"");
        text
    }

    pub(super) fn bid(&mut self, b: &B) {
        let seat = if b.seat.is_empty() { Text::NONE } else { self.put(&b.seat) };
        let (adomain, cat) = (self.put_all(&b.adomain), self.put_all(&b.cat));
        let attr = Run { at: self.view.numbers.len() as u16, len: b.attr.len() as u16 };
        self.view.numbers.extend_from_slice(&b.attr);
        let from = self.bytes.len();
        self.put("{\"id\":\"");
        let id = self.put(&b.id);
        self.put("\"");
        let impid = self.member("impid", &b.imp);
        let adm = self.member("adm", &b.adm);
        self.put(",\"price\": ");
        let price_span = Span { at: self.bytes.len() as u32, len: b.price.len() as u32 };
        self.put(&b.price);
        let nurl = self.member("nurl", &b.nurl);
        let burl = self.member("burl", &b.burl);
        let lurl = self.member("lurl", &b.lurl);
        let cid = self.member("cid", &b.cid);
        let crid = self.member("crid", &b.crid);
        let bundle = self.member("bundle", &b.bundle);
        let dealid = self.member("dealid", &b.deal);
        self.put(",\"ext\":{\"kept\": [1 , 2]}}");
        self.view.bids.push(Bid {
            whole: Span { at: from as u32, len: (self.bytes.len() - from) as u32 },
            seat,
            seatbid: b.seatbid,
            group: b.group,
            id,
            impid,
            price: Cpm::parse(b.price.as_bytes(), Round::Down).map_err(|_| PriceError::NotANumber),
            price_span,
            adm,
            nurl,
            burl,
            lurl,
            adomain,
            cat,
            cattax: b.cattax,
            attr,
            bundle,
            cid,
            crid,
            adid: Text::NONE,
            dealid,
            size: b.size,
            media: b.media,
            dur_s: b.dur_s,
            exp_s: b.exp_s,
        });
        self.view.bids_seen += 1;
    }
}

/// Answers of [`Fix::run`]: legs are the DSPs that replied, in the DSPs' order.
pub(super) struct Replies<'a>(pub(super) Vec<&'a Reply>);

impl<'a> Replies<'a> {
    pub(super) fn of(replies: &'a [(usize, Reply)]) -> Replies<'a> {
        let mut sorted: Vec<_> = replies.iter().collect();
        sorted.sort_by_key(|(d, _)| *d);
        Replies(sorted.into_iter().map(|(_, r)| r).collect())
    }
}

impl Answers for Replies<'_> {
    fn leg(&self, leg: u8) -> (&Response, &[u8]) {
        let r = self.0[leg as usize];
        (&r.view, &r.bytes)
    }
}
