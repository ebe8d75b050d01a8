//! The table of wins: one row for each impression that was won.
//! Owns: its columns. Called by: [`super::gather`] (makes rows), `outcry audit` (reads them). Never: has an id of a person, but
//! the hash that stands in the record, with the name of its salt.
use super::table::{Column, Kind, Rows, Value, always, perhaps};
use crate::{
    auction::{
        Delivery, Record, Win,
        input::{BidIn, NO_DEAL},
    },
    billing::{Payer, Spot},
    budget::{AccountId, Period},
    record::user::User,
    units::{Cpm, Currency, EventId, Money, Probability},
};

/// The columns, in their order in a file. What each means: `SPEC.md`.
pub const COLUMNS: &[Column] = &[
    always("time", Kind::Time),
    always("bidid", Kind::Text),
    always("request_id", Kind::Text),
    always("exchange", Kind::Text),
    perhaps("publisher", Kind::Text),
    perhaps("country", Kind::Text),
    always("imp", Kind::Text),
    always("dsp", Kind::Text),
    perhaps("seat", Kind::Text),
    always("bid", Kind::Text),
    perhaps("cid", Kind::Text),
    perhaps("crid", Kind::Text),
    perhaps("adomain", Kind::Text),
    perhaps("deal", Kind::Text),
    perhaps("account", Kind::Int),
    perhaps("account_advertiser", Kind::Text),
    perhaps("account_name", Kind::Text),
    always("window_minute", Kind::Int),
    always("price_micros", Kind::Int),
    always("price", Kind::Decimal(6)),
    always("cur", Kind::Text),
    always("charge_nanos", Kind::Int),
    always("charge", Kind::Decimal(9)),
    always("accounting", Kind::Text),
    perhaps("floor_micros", Kind::Int),
    perhaps("awaited_until", Kind::Time),
    always("delivery", Kind::Text),
    perhaps("freed_nanos", Kind::Int),
    always("user", Kind::Text),
    perhaps("user_salt", Kind::Int),
    perhaps("user_hash", Kind::Text),
    always("test", Kind::Flag),
    always("segment", Kind::Int),
    always("offset", Kind::Int),
    always("imp_place", Kind::Int),
    perhaps("delivered_at", Kind::Time),
    perhaps("delivered_segment", Kind::Int),
    perhaps("delivered_offset", Kind::Int),
    perhaps("asked_probability", Kind::Int),
];

/// The columns' places.
#[allow(missing_docs)]
pub mod at {
    pub const TIME: usize = 0;
    pub const BIDID: usize = 1;
    pub const REQUEST_ID: usize = 2;
    pub const EXCHANGE: usize = 3;
    pub const IMP: usize = 6;
    pub const DSP: usize = 7;
    pub const SEAT: usize = 8;
    pub const BID: usize = 9;
    pub const CID: usize = 10;
    pub const CRID: usize = 11;
    pub const ADOMAIN: usize = 12;
    pub const DEAL: usize = 13;
    pub const ACCOUNT: usize = 14;
    pub const WINDOW: usize = 17;
    pub const PRICE: usize = 18;
    pub const CUR: usize = 20;
    pub const CHARGE: usize = 21;
    pub const ACCOUNTING: usize = 23;
    pub const AWAITED: usize = 25;
    pub const DELIVERY: usize = 26;
    pub const FREED: usize = 27;
    pub const TEST: usize = 31;
    pub const SEGMENT: usize = 32;
    pub const OFFSET: usize = 33;
    pub const IMP_PLACE: usize = 34;
    pub const DELIVERED_AT: usize = 35;
    pub const DELIVERED_SEGMENT: usize = 36;
    pub const DELIVERED_OFFSET: usize = 37;
    pub const ASKED_PROBABILITY: usize = 38;
}

/// What a report needs of a win, wherever it was read.
#[derive(Clone, Debug)]
pub struct Won {
    /// Milliseconds since 1970, of the frame.
    pub ms: u64,
    /// The auction.
    pub event: EventId,
    /// `test` was 1.
    pub test: bool,
    /// `request.id`
    pub request: Vec<u8>,
    /// Who asked.
    pub exchange: Vec<u8>,
    /// `imp.id`
    pub imp: Vec<u8>,
    /// Its place in the request, from zero.
    pub imp_place: u8,
    /// Who won.
    pub dsp: Vec<u8>,
    /// `seat`
    pub seat: Vec<u8>,
    /// `bid.id`
    pub bid: Vec<u8>,
    /// `cid`
    pub cid: Vec<u8>,
    /// `crid`
    pub crid: Vec<u8>,
    /// `deal.id`
    pub deal: Vec<u8>,
    /// The first `adomain`.
    pub adomain: Vec<u8>,
    /// CPM, as answered.
    pub price: Cpm,
    /// The currency of that.
    pub cur: Currency,
    /// What it costs.
    pub charge: Money,
    /// The currency of that.
    pub accounting: Currency,
    /// It is charged when its notice comes, whatever became of the answer.
    pub awaits: bool,
    /// Who pays, and for which window; of nobody's account the minute of its auction.
    pub account: AccountId,
    /// See there.
    pub window: Period,
    /// Where its frame is.
    pub segment: u64,
    /// Likewise.
    pub offset: u64,
}

impl Won {
    /// Of a record, whose frame was made at `ms` and stands there.
    pub fn of(record: &Record, win: &Win, bid: &BidIn, ms: u64, (segment, offset): (u64, u64)) -> Won {
        let i = &record.inputs;
        let text = |kept| i.text(kept).to_vec();
        Won {
            ms,
            event: i.event,
            test: i.test,
            request: text(i.request_id),
            exchange: text(i.exchange),
            imp: i.imps.get(usize::from(win.imp)).map_or(Vec::new(), |imp| text(imp.id)),
            imp_place: win.imp,
            dsp: i.legs.get(usize::from(bid.leg)).map_or(Vec::new(), |leg| text(leg.name)),
            seat: text(bid.seat),
            bid: text(bid.id),
            cid: text(bid.cid),
            crid: text(bid.crid),
            deal: match bid.deal {
                NO_DEAL => Vec::new(),
                at => i.deals.get(usize::from(at)).map_or(Vec::new(), |deal| text(deal.id)),
            },
            adomain: text(bid.adomain),
            price: win.price,
            cur: i.answer_currency,
            charge: win.charge,
            accounting: i.accounting,
            // As nothing is waited for of what costs nothing.
            awaits: i.awaited_s != 0 && win.charge > Money(0),
            account: win.account,
            window: if win.account.is_some() {
                win.period
            } else {
                Period(u32::try_from(i.wall_ms / 60_000).unwrap_or(u32::MAX))
            },
            segment,
            offset,
        }
    }

    /// Who pays. Buyers are numbered by whoever reads; one row alone has no number.
    pub fn payer(&self) -> Payer {
        if self.account.is_some() { Payer::Account(self.account) } else { Payer::Buyer(u32::MAX) }
    }

    /// Of a row. `None`: it is none of ours.
    fn read(rows: &Rows, row: usize) -> Option<Won> {
        let text = |column| rows.text(column, row).to_vec();
        let count = |column| rows.int(column, row).and_then(|n| u64::try_from(n).ok());
        Some(Won {
            ms: count(at::TIME)?,
            event: EventId::parse(rows.text(at::BIDID, row))?,
            test: rows.flag(at::TEST, row),
            request: text(at::REQUEST_ID),
            exchange: text(at::EXCHANGE),
            imp: text(at::IMP),
            imp_place: u8::try_from(count(at::IMP_PLACE)?).ok()?,
            dsp: text(at::DSP),
            seat: text(at::SEAT),
            bid: text(at::BID),
            cid: text(at::CID),
            crid: text(at::CRID),
            deal: text(at::DEAL),
            adomain: text(at::ADOMAIN),
            price: Cpm(rows.int(at::PRICE, row)?),
            cur: Currency::parse(rows.text(at::CUR, row))?,
            charge: Money(rows.int(at::CHARGE, row)?),
            accounting: Currency::parse(rows.text(at::ACCOUNTING, row))?,
            awaits: rows.text(at::DELIVERY, row) == ON_NOTICE.as_bytes(),
            account: AccountId(count(at::ACCOUNT).map_or(Some(0), |n| u32::try_from(n).ok())?),
            window: Period(u32::try_from(count(at::WINDOW)?).ok()?),
            segment: count(at::SEGMENT)?,
            offset: count(at::OFFSET)?,
        })
    }
}

/// A row, read back.
#[derive(Clone, Debug)]
pub struct Row {
    /// The win.
    pub won: Won,
    /// How its answer went; it says nothing of a win that waits for its notice.
    pub delivery: Delivery,
    /// What is spent no more, since the answer did not arrive.
    pub freed: Money,
    /// Until when its notice is awaited, seconds since 1970; 0: it is not.
    pub awaited_s: u32,
    /// The record that says how the answer went; `None`: it was simply written.
    pub delivered: Option<Spot>,
}

impl Row {
    /// `None`: it is none of ours.
    pub fn read(rows: &Rows, row: usize) -> Option<Row> {
        let won = Won::read(rows, row)?;
        let delivery = match rows.text(at::DELIVERY, row) {
            b"late" => Delivery::Late { at_ns: 0 },
            b"failed" => Delivery::Failed,
            b"client_left" => Delivery::ClientLeft,
            b"written" => Delivery::Written { at_ns: 0 },
            name if name == ON_NOTICE.as_bytes() => Delivery::Written { at_ns: 0 },
            _ => return None,
        };
        let count = |column| rows.int(column, row).and_then(|n| u64::try_from(n).ok());
        let spot = |ms, segment, offset| Spot { ms, segment, offset };
        let delivered = count(at::DELIVERED_AT).zip(count(at::DELIVERED_SEGMENT)).zip(count(at::DELIVERED_OFFSET));
        // What is on no account nobody frees on record.
        let gone = !won.account.is_some() && !won.awaits && !matches!(delivery, Delivery::Written { .. });
        let freed = rows.int(at::FREED, row).map_or(if gone { won.charge } else { Money(0) }, Money);
        let awaited_s = count(at::AWAITED).and_then(|ms| u32::try_from(ms / 1_000).ok()).unwrap_or(0);
        Some(Row {
            won,
            delivery,
            freed,
            awaited_s,
            delivered: delivered.map(|((ms, segment), offset)| spot(ms, segment, offset)),
        })
    }
}

/// What is said of the delivery of a win whose charge waits for a notice.
pub const ON_NOTICE: &str = "on_notice";

/// What a row has beyond [`Won`].
#[derive(Clone, Debug)]
pub(super) struct More {
    publisher: Vec<u8>,
    country: [u8; 3],
    account_advertiser: String,
    account_name: String,
    floor: Option<Cpm>,
    awaited_s: u32,
    user: User,
    /// Of 10,000; `None`: its DSP was asked without a draw.
    asked_probability: Option<u16>,
}

impl More {
    /// With the names of its account: whose it is, and its own.
    pub(super) fn of(record: &Record, bid: &BidIn, (whose, own): (String, &str)) -> More {
        let i = &record.inputs;
        More {
            publisher: i.text(i.publisher).to_vec(),
            country: i.country,
            account_advertiser: whose,
            account_name: own.to_string(),
            floor: i.floor_of(bid).and_then(|floor| floor.due),
            awaited_s: i.awaited_s,
            user: i.user,
            asked_probability: i
                .legs
                .get(usize::from(bid.leg))
                .map(|leg| leg.asked_probability)
                .filter(|probability| !probability.is_always())
                .map(Probability::of_10_000),
        }
    }
}

/// What came of a win's answer.
pub(super) struct Came<'a> {
    /// How it went.
    pub(super) name: &'a str,
    /// What was freed.
    pub(super) freed: Option<Money>,
    /// Where the record is that says so.
    pub(super) spot: Option<Spot>,
}

/// Adds a row.
pub(super) fn push(won: &Won, more: &More, came: &Came<'_>, rows: &mut Rows) {
    let (bidid, cur, accounting) = (won.event.text(), won.cur, won.accounting);
    let (user, salt, hash) = match more.user {
        User::Unknown => ("unknown", None, String::new()),
        User::Coppa => ("coppa", None, String::new()),
        User::Lmt => ("lmt", None, String::new()),
        User::NoConsent => ("no_consent", None, String::new()),
        User::NoSalt => ("no_salt", None, String::new()),
        User::Hashed { salt, hash } => ("hashed", Some(salt), format!("{hash:016x}")),
    };
    let country: &[u8] = if more.country == [0; 3] { &[] } else { &more.country };
    rows.push(&[
        Value::count(won.ms),
        Value::Text(&bidid),
        Value::Text(&won.request),
        Value::Text(&won.exchange),
        Value::some_text(&more.publisher),
        Value::some_text(country),
        Value::Text(&won.imp),
        Value::Text(&won.dsp),
        Value::some_text(&won.seat),
        Value::Text(&won.bid),
        Value::some_text(&won.cid),
        Value::some_text(&won.crid),
        Value::some_text(&won.adomain),
        Value::some_text(&won.deal),
        Value::some_int(won.account.is_some().then_some(won.account.0)),
        Value::some_text(more.account_advertiser.as_bytes()),
        Value::some_text(more.account_name.as_bytes()),
        Value::Int(won.window.0.into()),
        Value::Int(won.price.0),
        Value::Int(won.price.0),
        Value::Text(&cur.0),
        Value::Int(won.charge.0),
        Value::Int(won.charge.0),
        Value::Text(&accounting.0),
        Value::some_int(more.floor.map(|f| f.0)),
        Value::some_int((more.awaited_s > 0).then_some(i64::from(more.awaited_s) * 1000)),
        Value::Text(if won.awaits { ON_NOTICE } else { came.name }.as_bytes()),
        Value::some_int(came.freed.map(|m| m.0)),
        Value::Text(user.as_bytes()),
        Value::some_int(salt),
        Value::some_text(hash.as_bytes()),
        Value::Flag(won.test),
        Value::count(won.segment),
        Value::count(won.offset),
        Value::Int(won.imp_place.into()),
        came.spot.map_or(Value::None, |spot| Value::count(spot.ms)),
        came.spot.map_or(Value::None, |spot| Value::count(spot.segment)),
        came.spot.map_or(Value::None, |spot| Value::count(spot.offset)),
        Value::some_int(more.asked_probability),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_columns() {
        for (place, name) in [
            (at::TIME, "time"),
            (at::BIDID, "bidid"),
            (at::REQUEST_ID, "request_id"),
            (at::EXCHANGE, "exchange"),
            (at::IMP, "imp"),
            (at::DSP, "dsp"),
            (at::SEAT, "seat"),
            (at::BID, "bid"),
            (at::CID, "cid"),
            (at::CRID, "crid"),
            (at::ADOMAIN, "adomain"),
            (at::DEAL, "deal"),
            (at::PRICE, "price_micros"),
            (at::CUR, "cur"),
            (at::CHARGE, "charge_nanos"),
            (at::ACCOUNTING, "accounting"),
            (at::DELIVERY, "delivery"),
            (at::FREED, "freed_nanos"),
            (at::TEST, "test"),
            (at::SEGMENT, "segment"),
            (at::OFFSET, "offset"),
            (at::ACCOUNT, "account"),
            (at::AWAITED, "awaited_until"),
            (at::WINDOW, "window_minute"),
            (at::IMP_PLACE, "imp_place"),
            (at::DELIVERED_AT, "delivered_at"),
            (at::DELIVERED_SEGMENT, "delivered_segment"),
            (at::DELIVERED_OFFSET, "delivered_offset"),
            (at::ASKED_PROBABILITY, "asked_probability"),
        ] {
            assert_eq!(COLUMNS[place].name, name);
        }
        assert_eq!(COLUMNS.len(), at::ASKED_PROBABILITY + 1);
    }
}
