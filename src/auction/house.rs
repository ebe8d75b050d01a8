//! House ads: where nobody wins, ads of the operator's own, so that the place is not empty.
//! Owns: what is prepared of a configured ad. Runs on: each bidder core. Called by: [`super::Auction`], behind the decision and
//! before the record. Never: takes part in an auction, touches money, or is told of by a notice.
//!
//! An ad is a bid like any other as far as the request's rules go (`eligibility`: media, sizes, `badv`, `wseat`, `secure`), of nobody
//! who has a seat. It bids the floor that applies, in the answer's currency: less would be no valid answer, and more is paid
//! for nothing. Without a floor it bids the increment, as a price is never zero.
use super::{
    Auction, Start,
    eligibility::Offer,
    input::{Floor, Inputs},
};
use crate::{
    config::resolved::{HouseAd, HouseWhen},
    openrtb::response::Response,
    record::show::json::Object,
    units::{Cpm, Currency, Round},
};
use std::io::Write;

/// One ad, as a DSP would have answered it.
#[derive(Clone, Debug)]
pub struct House {
    bytes: Vec<u8>,
    /// With one bid; none if what was configured cannot be a bid.
    view: Response,
    max_price: Cpm,
    only_in_alert: bool,
    crid: Vec<u8>,
}

impl House {
    /// Prepares an ad: once for a configuration.
    pub fn prepare(ad: &HouseAd) -> House {
        let mut text = String::from("{\"id\":\"h\",\"seatbid\":[{\"bid\":[");
        Object::write(&mut text, |o| {
            o.text("id", b"h");
            o.text("impid", b"i");
            o.number("price", 1);
            o.text("adm", ad.adm.as_bytes());
            if !ad.adomain.is_empty() {
                o.texts("adomain", ad.adomain.iter().map(String::as_bytes));
            }
            o.text("crid", ad.crid.as_bytes());
            // `mtype` (section 4.2.3) counts in the order of the bits.
            o.number("mtype", ad.media.0.trailing_zeros() + 1);
            for (key, n) in [("w", ad.size.0), ("h", ad.size.1), ("dur", ad.duration_s)] {
                o.some_number(key, Some(n).filter(|n| *n > 0));
            }
        });
        text.push_str("]}]}");
        let (bytes, mut view) = (text.into_bytes(), Response::default());
        if view.parse(&bytes).is_err() {
            view = Response::default();
        }
        House {
            bytes,
            view,
            max_price: ad.max_price,
            only_in_alert: ad.when == HouseWhen::Alert,
            crid: ad.crid.clone().into_bytes(),
        }
    }
}

impl Auction {
    /// Nobody won: house ads for all impressions that one fits, the first of each. `alert`: demand is far from what it usually is.
    /// Is there any?
    pub fn fall_back(&mut self, s: &Start<'_>, alert: bool) -> bool {
        debug_assert!(self.decided);
        if s.house.is_empty() || !self.record.decision.wins.is_empty() {
            return false;
        }
        for (at, imp) in s.request.imps.iter().enumerate().take(self.record.inputs.imps.len()) {
            if imp.refused.is_some() {
                continue;
            }
            let found = s.house.iter().enumerate().find_map(|(ad, house)| {
                let bid = house.view.bids.first().filter(|_| alert || !house.only_in_alert)?;
                let offer = Offer { dsp: None, response: &house.view, bytes: &house.bytes, bid };
                let (deal, media) = self.rules.judge(s, imp, &offer).ok()?;
                debug_assert!(deal.is_none());
                let i = &self.record.inputs;
                let own = &i.imps[at];
                let floor = own.media_floor.filter(|(of, _)| of.meets(media)).map_or(own.floor, |(_, floor)| floor);
                Some((ad as u8, price(i, &floor, house.max_price)?))
            });
            if let Some((ad, price)) = found {
                let crid = self.record.inputs.keep_bytes(&s.house[usize::from(ad)].crid);
                self.record.house.push(super::record::HouseAd { ad, imp: at as u8, price, crid });
            }
        }
        !self.record.house.is_empty()
    }

    /// The bid response of house ads (section 4.2).
    pub(super) fn write_house(&self, s: &Start<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":\"");
        out.extend_from_slice(s.request.id.raw(s.body));
        out.extend_from_slice(b"\",\"bidid\":\"");
        out.extend_from_slice(&self.inputs().event.text());
        out.extend_from_slice(b"\",\"cur\":\"");
        out.extend_from_slice(&self.decision().answer_currency.0);
        out.extend_from_slice(b"\",\"seatbid\":[{\"bid\":[");
        let mut first = true;
        for ad in &self.record.house {
            let Some(house) = s.house.get(usize::from(ad.ad)) else { continue };
            let (Some(bid), Some(imp)) = (house.view.bids.first(), s.request.imps.get(usize::from(ad.imp))) else {
                continue;
            };
            super::answer::separate(&mut first, out);
            let (id, impid, price) = (bid.id.span(), bid.impid.span(), bid.price_span);
            let between = |from: usize, to: usize| house.bytes.get(from..to).unwrap_or(&[]);
            out.extend_from_slice(between(bid.whole.at as usize, id.at as usize));
            let _ = write!(out, "{}", ad.imp); // a vector takes everything
            out.extend_from_slice(between(id.end(), impid.at as usize));
            out.extend_from_slice(imp.id.raw(s.body));
            out.extend_from_slice(between(impid.end(), price.at as usize));
            ad.price.write(out);
            out.extend_from_slice(between(price.end(), bid.whole.end()));
        }
        out.extend_from_slice(b"]}]}");
    }
}

/// What an ad bids, in the answer's currency; none: too much, or it cannot be said.
fn price(i: &Inputs, floor: &Floor, max: Cpm) -> Option<Cpm> {
    let (rate, due) = (i.answer_rate?, floor.due?);
    let due = if due > Cpm::ZERO { due } else { i.increment };
    if due > max {
        return None;
    }
    let same = |currency: Currency| currency == i.answer_currency && floor.amount > Cpm::ZERO;
    let price = if same(floor.currency) { floor.amount } else { rate.from_accounting(due, Round::Up) };
    Some(price.max(Cpm(1)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Unlimited,
            fixtures::{EUR, Fix, JPY, Replies, Reply, XXX, b, cpm},
            record::{Record, replay},
        },
        *,
    };
    use crate::openrtb::{
        codes::Nbr,
        request::{ImpRefusal, Media},
    };

    fn ad(crid: &str, size: (u32, u32)) -> HouseAd {
        HouseAd {
            crid: crid.into(),
            media: Media::BANNER,
            size,
            duration_s: 0,
            adm: "<a href=\"https://own.example\">\u{e9}</a>".into(),
            adomain: vec!["own.example".into()],
            max_price: cpm("0.5"),
            when: HouseWhen::NoWinner,
        }
    }

    /// An auction without a bid, and its answer: of each ad that was answered, impression, `crid` and price.
    fn answered(fix: &Fix, ads: &[HouseAd], alert: bool) -> Vec<(String, String, f64)> {
        let house: Vec<House> = ads.iter().map(House::prepare).collect();
        let s = Start { house: &house, ..fix.start() };
        let mut a = Auction::default();
        a.begin(&s);
        a.decide(&mut Unlimited, &Default::default(), s.arrival_ns);
        let any = a.fall_back(&s, alert);
        let mut out = Vec::new();
        a.write_answer(&Replies(Vec::new()), &s, None, &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(any, json["nbr"].is_null(), "{json}");
        assert_eq!(json["id"], "req-1");
        // On record, and decided again as before.
        let mut bytes = Vec::new();
        a.encode_record(&mut bytes);
        let read = Record::decode(&bytes).unwrap();
        assert_eq!((read.differences(), read.house.len()), (vec![], a.record().house.len()));
        assert!(replay(&read).wins.is_empty() && read.decision.nbr.is_some());
        let bids = json["seatbid"][0]["bid"].as_array().cloned().unwrap_or_default();
        let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
        bids.iter().map(|b| (text(&b["impid"]), text(&b["crid"]), b["price"].as_f64().unwrap())).collect()
    }

    fn one(fix: &Fix, ads: &[HouseAd]) -> Option<(String, f64)> {
        answered(fix, ads, false).first().map(|(_, crid, price)| (crid.clone(), *price))
    }

    #[test]
    fn the_first_that_fits_bids_the_floor() {
        let mut fix = Fix::new();
        fix.imp("0.10");
        fix.imp("0");
        fix.imp("0.51");
        fix.imp("0.2").media = Media::VIDEO;
        fix.imp("0.2").refused = Some(ImpRefusal::DynamicPod);
        let video = HouseAd { media: Media::VIDEO, size: (0, 0), duration_s: 15, ..ad("v", (0, 0)) };
        let got = answered(&fix, &[ad("a", (300, 250)), ad("b", (300, 250)), video], false);
        let want = [("imp0", "a", 0.1), ("imp1", "a", 0.01), ("imp3", "v", 0.2)];
        assert_eq!(got, want.map(|(imp, crid, price)| (imp.to_owned(), crid.to_owned(), price)));
        assert_eq!(answered(&fix, &[], false), []);
    }

    #[test]
    fn it_keeps_the_requests_rules() {
        let own = [ad("a", (300, 250))];
        let with = |change: &dyn Fn(&mut Fix)| {
            let mut fix = Fix::new();
            fix.imp("0.10");
            change(&mut fix);
            one(&fix, &own)
        };
        let fits = Some(("a".to_owned(), 0.1));
        assert_eq!(with(&|_| ()), fits);
        assert_eq!(with(&|f| f.request.badv = f.texts(&["own.example"])), None);
        assert_eq!(with(&|f| f.request.wseat = f.texts(&["somebody"])), None);
        assert_eq!(with(&|f| f.request.imps[0].private_auction = true), None);
        let sized = |f: &mut Fix, size| {
            f.request.sizes.push(size);
            f.request.imps[0].sizes = crate::openrtb::request::Run { at: 0, len: 1 };
        };
        assert_eq!(with(&|f| sized(f, (728, 90))), None);
        assert_eq!(with(&|f| sized(f, (300, 250))), fits);
        assert_eq!(with(&|f| f.request.imps[0].bidfloorcur = XXX), None, "a floor that cannot be computed");
    }

    #[test]
    fn it_bids_in_the_answers_currency() {
        let mut fix = Fix::new();
        fix.request.currencies.push(EUR);
        fix.request.cur = crate::openrtb::request::Run { at: 0, len: 1 };
        fix.imp("0.10");
        fix.imp("0.10").bidfloorcur = EUR;
        fix.imp("10").bidfloorcur = JPY;
        let got: Vec<f64> = answered(&fix, &[ad("a", (0, 0))], false).into_iter().map(|(.., price)| price).collect();
        // 0.10 USD, rounded up; as it was stated; 10 JPY.
        assert_eq!(got, [0.092277, 0.1, 0.061518]);
    }

    #[test]
    fn some_only_while_demand_is_gone() {
        let mut fix = Fix::new();
        fix.imp("0.10");
        let ads = [HouseAd { when: HouseWhen::Alert, ..ad("a", (0, 0)) }];
        assert_eq!((answered(&fix, &ads, false).len(), answered(&fix, &ads, true).len()), (0, 1));
    }

    #[test]
    fn where_anybody_wins_there_is_none() {
        let mut fix = Fix::new();
        fix.imp("0.10");
        fix.imp("0.10");
        let house = [House::prepare(&ad("a", (0, 0)))];
        let s = Start { house: &house, ..fix.start() };
        let mut a = fix.run(&[(0, Reply::usd(&[b(0, "1")]))]);
        assert!(!a.fall_back(&s, true) && a.record().house.is_empty());
        let mut a = fix.run(&[(0, Reply::usd(&[b(0, "0.01")]))]);
        assert!(a.fall_back(&s, true), "a bid below the floor wins nothing");
        assert_eq!(a.decision().nbr, Some(Nbr::NoBids));
        // The next auction forgets it.
        a.begin(&s);
        assert!(a.record().house.is_empty());
    }
}
