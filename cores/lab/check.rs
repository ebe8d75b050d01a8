//! Is this a right answer to that request? Read independently of everything the exchange uses itself.
//! Owns: its JSON buffers. Called by: `load`. Never: trusts a length, an id or a type.
use super::{json::Reader, json::Value, requests::Template};

/// What is wrong with an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Fault {
    /// A status other than 200, 204 and 503.
    Status,
    /// A 204 with a body.
    BodyOn204,
    /// Not JSON, or no object.
    NotJson,
    /// `id` is not the request's.
    WrongId,
    /// `cur` is no currency, or one that the request does not allow.
    WrongCurrency,
    /// `seatbid` or `bid` is no list, or an empty one beside no `nbr`.
    Shape,
    /// A bid without `id`.
    NoBidId,
    /// A bid for an impression that was not offered.
    WrongImp,
    /// A price that is missing, no number, or not above zero.
    NoPrice,
    /// A price below the impression's floor, where both are in one currency and no deal is meant.
    BelowFloor,
    /// `dealid` names no deal of the impression.
    WrongDeal,
    /// Neither `adm` nor `nurl`.
    NoMarkup,
    /// An auction macro was left standing.
    MacroLeft,
}

impl Fault {
    /// All, in the order of their discriminants.
    pub const ALL: [Fault; 13] = [
        Fault::Status,
        Fault::BodyOn204,
        Fault::NotJson,
        Fault::WrongId,
        Fault::WrongCurrency,
        Fault::Shape,
        Fault::NoBidId,
        Fault::WrongImp,
        Fault::NoPrice,
        Fault::BelowFloor,
        Fault::WrongDeal,
        Fault::NoMarkup,
        Fault::MacroLeft,
    ];

    /// For reports.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Status => "unexpected status",
            Fault::BodyOn204 => "body on a 204",
            Fault::NotJson => "not JSON",
            Fault::WrongId => "wrong id",
            Fault::WrongCurrency => "wrong currency",
            Fault::Shape => "wrong shape",
            Fault::NoBidId => "bid without id",
            Fault::WrongImp => "bid for an unknown imp",
            Fault::NoPrice => "no price above 0",
            Fault::BelowFloor => "price below floor",
            Fault::WrongDeal => "unknown deal",
            Fault::NoMarkup => "no markup",
            Fault::MacroLeft => "macro left standing",
        }
    }
}

/// A right answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// So many bids.
    Bids(usize),
    /// A 204, or a 200 that says no.
    NoBid,
    /// A 503: the bidder refused for want of room, which it may.
    Refused,
}

/// Checks answers; one for each thread.
#[derive(Default)]
pub struct Checker {
    reader: Reader,
    macros_may_stay: bool,
}

impl Checker {
    /// `macros_may_stay`: the bidder answers exchanges that fill price macros later.
    pub fn new(macros_may_stay: bool) -> Checker {
        Checker { reader: Reader::default(), macros_may_stay }
    }

    /// Judges one answer. `body` is spent afterwards; `look` sees what it says, if it is JSON, before.
    pub fn check(
        &mut self,
        asked: &Template,
        id: &[u8],
        status: u16,
        body: &mut [u8],
        look: impl FnOnce(Value<'_>),
    ) -> Result<Answer, Fault> {
        match status {
            204 if body.is_empty() => return Ok(Answer::NoBid),
            204 => return Err(Fault::BodyOn204),
            503 => return Ok(Answer::Refused),
            200 => {}
            _ => return Err(Fault::Status),
        }
        let left = !self.macros_may_stay && memchr::memmem::find(body, b"${AUCTION_").is_some();
        let read = self.reader.read(body, |root| {
            look(root);
            bids(root, asked, id)
        });
        let bids = read.ok_or(Fault::NotJson)??;
        match bids {
            _ if left => Err(Fault::MacroLeft),
            0 => Ok(Answer::NoBid),
            n => Ok(Answer::Bids(n)),
        }
    }
}

fn bids(root: Value<'_>, asked: &Template, id: &[u8]) -> Result<usize, Fault> {
    if !root.is_object() {
        return Err(Fault::NotJson);
    }
    if root.members().next().is_none() {
        return Ok(0); // `{}` is one of the ways to say no.
    }
    if root.text_of("id").is_none_or(|i| i.as_bytes() != id) {
        return Err(Fault::WrongId);
    }
    // Section 4.2.1: dollars unless it says otherwise.
    let cur = root.get("cur").map_or(Some("USD"), Value::text).unwrap_or("");
    let allowed = asked.cur.is_empty() || asked.cur.iter().any(|c| c == cur);
    let seats = match root.get("seatbid") {
        None => return Ok(0),
        Some(list) if list.is_array() => list,
        Some(_) => return Err(Fault::Shape),
    };
    let mut count = 0;
    for seat in seats.items() {
        let list = seat.get("bid").filter(|b| b.is_array()).ok_or(Fault::Shape)?;
        for bid in list.items() {
            check_bid(bid, asked, cur)?;
            count += 1;
        }
    }
    if count == 0 {
        return if seats.items().next().is_some() && root.get("nbr").is_none() { Err(Fault::Shape) } else { Ok(0) };
    }
    if cur.len() != 3 || !cur.bytes().all(|b| b.is_ascii_uppercase()) || !allowed {
        return Err(Fault::WrongCurrency);
    }
    Ok(count)
}

fn check_bid(bid: Value<'_>, asked: &Template, cur: &str) -> Result<(), Fault> {
    bid.text_of("id").filter(|i| !i.is_empty()).ok_or(Fault::NoBidId)?;
    let impid = bid.text_of("impid").ok_or(Fault::WrongImp)?;
    let imp = asked.imps.iter().find(|i| i.id == impid).ok_or(Fault::WrongImp)?;
    let price = bid.number_of("price").filter(|p| *p > 0.0 && p.is_finite()).ok_or(Fault::NoPrice)?;
    match bid.text_of("dealid") {
        Some(deal) if !imp.deals.iter().any(|d| d == deal) => return Err(Fault::WrongDeal),
        // A conversion to the accounting currency and back may cost the last digit.
        None if imp.bidfloorcur == cur && price < imp.bidfloor - 2e-6 => return Err(Fault::BelowFloor),
        _ => {}
    }
    match bid.text_of("adm").or(bid.text_of("nurl")) {
        Some(markup) if !markup.is_empty() => Ok(()),
        _ => Err(Fault::NoMarkup),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Checker, Fault};
    use crate::lab::requests::Template;

    fn check(status: u16, body: &str, expected: Result<Answer, Fault>) {
        let request =
            r#"{"id":"?","cur":["USD","EUR"],"imp":[{"id":"1","bidfloor":0.5,"pmp":{"deals":[{"id":"d"}]}}]}"#;
        let asked = Template::of(request.as_bytes()).expect("a template");
        let mut body = body.as_bytes().to_vec();
        let shown = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(Checker::default().check(&asked, b"me", status, &mut body, |_| ()), expected, "{status} {shown}");
    }

    fn bid(members: &str) -> String {
        format!(r#"{{"id":"me","cur":"USD","seatbid":[{{"seat":"s","bid":[{{{members}}}]}}]}}"#)
    }

    #[test]
    fn right_answers() {
        check(204, "", Ok(Answer::NoBid));
        check(503, "busy", Ok(Answer::Refused));
        check(200, "{}", Ok(Answer::NoBid));
        check(200, r#"{"id":"me","nbr":15}"#, Ok(Answer::NoBid));
        check(200, r#"{"id":"me","seatbid":[]}"#, Ok(Answer::NoBid));
        check(200, &bid(r#""id":"b","impid":"1","price":0.5,"adm":"x""#), Ok(Answer::Bids(1)));
        check(200, &bid(r#""id":"b","impid":"1","price":0.1,"dealid":"d","nurl":"x""#), Ok(Answer::Bids(1)));
        // A floor in dollars says nothing of a price in euros.
        check(
            200,
            r#"{"id":"me","cur":"EUR","seatbid":[{"bid":[{"id":"b","impid":"1","price":0.47,"adm":"x"}]}]}"#,
            Ok(Answer::Bids(1)),
        );
    }

    #[test]
    fn wrong_answers() {
        let of = |fault, status, body: &str| check(status, body, Err(fault));
        of(Fault::Status, 400, "");
        of(Fault::Status, 302, "");
        of(Fault::BodyOn204, 204, "{}");
        of(Fault::NotJson, 200, "");
        of(Fault::NotJson, 200, "[1]");
        of(Fault::NotJson, 200, "{\"id\":\"me\"");
        of(Fault::WrongId, 200, r#"{"id":"you","seatbid":[]}"#);
        of(Fault::WrongId, 200, r#"{"seatbid":[]}"#);
        of(Fault::Shape, 200, r#"{"id":"me","seatbid":{}}"#);
        of(Fault::Shape, 200, r#"{"id":"me","seatbid":[{"bid":[]}]}"#);
        let good = r#""id":"b","impid":"1","price":0.5,"adm":"x""#;
        of(Fault::WrongCurrency, 200, &bid(good).replace("USD", "GBP"));
        of(Fault::WrongCurrency, 200, &bid(good).replace("\"USD\"", "7"));
        of(Fault::NoBidId, 200, &bid(r#""impid":"1","price":0.5,"adm":"x""#));
        of(Fault::WrongImp, 200, &bid(r#""id":"b","impid":"2","price":0.5,"adm":"x""#));
        of(Fault::NoPrice, 200, &bid(r#""id":"b","impid":"1","price":0,"adm":"x""#));
        of(Fault::NoPrice, 200, &bid(r#""id":"b","impid":"1","price":"1","adm":"x""#));
        of(Fault::BelowFloor, 200, &bid(r#""id":"b","impid":"1","price":0.49,"adm":"x""#));
        of(Fault::WrongDeal, 200, &bid(r#""id":"b","impid":"1","price":0.5,"dealid":"e","adm":"x""#));
        of(Fault::NoMarkup, 200, &bid(r#""id":"b","impid":"1","price":0.5"#));
        of(Fault::MacroLeft, 200, &bid(r#""id":"b","impid":"1","price":0.5,"adm":"${AUCTION_PRICE}""#));
    }

    #[test]
    fn faults_stand_in_their_order() {
        for (i, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(*fault as usize, i, "{}", fault.name());
        }
    }
}
