//! The table of house ads: one row for each impression that one was answered for, since nobody won.
//! Owns: its columns. Called by: [`super::gather`]. Never: has a charge or a payer: nobody pays for a house ad.
use super::{
    table::{Column, Kind, Rows, Value, always, perhaps},
    wins::Came,
};
use crate::{
    auction::{Record, record::HouseAd},
    units::{Cpm, Currency, EventId},
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
    perhaps("tagid", Kind::Text),
    always("crid", Kind::Text),
    always("price_micros", Kind::Int),
    always("price", Kind::Decimal(6)),
    always("cur", Kind::Text),
    perhaps("nbr", Kind::Int),
    always("delivery", Kind::Text),
    always("test", Kind::Flag),
    always("segment", Kind::Int),
    always("offset", Kind::Int),
    always("imp_place", Kind::Int),
    perhaps("delivered_at", Kind::Time),
    perhaps("delivered_segment", Kind::Int),
    perhaps("delivered_offset", Kind::Int),
];

/// A house ad that waits for its delivery.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) ms: u64,
    pub(super) event: EventId,
    request: Vec<u8>,
    exchange: Vec<u8>,
    publisher: Vec<u8>,
    country: [u8; 3],
    imp: Vec<u8>,
    tagid: Vec<u8>,
    crid: Vec<u8>,
    price: Cpm,
    cur: Currency,
    nbr: Option<u16>,
    test: bool,
    imp_place: u8,
    segment: u64,
    offset: u64,
}

impl Served {
    /// Of a record, whose frame was made at `ms` and stands there.
    pub(super) fn of(record: &Record, ad: &HouseAd, ms: u64, (segment, offset): (u64, u64)) -> Served {
        let i = &record.inputs;
        let text = |kept| i.text(kept).to_vec();
        let imp = i.imps.get(usize::from(ad.imp));
        Served {
            ms,
            event: i.event,
            request: text(i.request_id),
            exchange: text(i.exchange),
            publisher: text(i.publisher),
            country: i.country,
            imp: imp.map_or(Vec::new(), |imp| text(imp.id)),
            tagid: imp.map_or(Vec::new(), |imp| text(imp.tagid)),
            crid: text(ad.crid),
            price: ad.price,
            cur: i.answer_currency,
            nbr: record.decision.nbr.map(|nbr| nbr as u16),
            test: i.test,
            imp_place: ad.imp,
            segment,
            offset,
        }
    }

    /// Adds its row.
    pub(super) fn push(&self, came: &Came<'_>, rows: &mut Rows) {
        let country: &[u8] = if self.country == [0; 3] { &[] } else { &self.country };
        rows.push(&[
            Value::count(self.ms),
            Value::Text(&self.event.text()),
            Value::Text(&self.request),
            Value::Text(&self.exchange),
            Value::some_text(&self.publisher),
            Value::some_text(country),
            Value::Text(&self.imp),
            Value::some_text(&self.tagid),
            Value::Text(&self.crid),
            Value::Int(self.price.0),
            Value::Int(self.price.0),
            Value::Text(&self.cur.0),
            Value::some_int(self.nbr),
            Value::Text(came.name.as_bytes()),
            Value::Flag(self.test),
            Value::count(self.segment),
            Value::count(self.offset),
            Value::Int(self.imp_place.into()),
            came.spot.map_or(Value::None, |spot| Value::count(spot.ms)),
            came.spot.map_or(Value::None, |spot| Value::count(spot.segment)),
            came.spot.map_or(Value::None, |spot| Value::count(spot.offset)),
        ]);
    }
}
