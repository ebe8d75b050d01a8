//! The messages of [`outcry.proto`](https://protobuf.dev), field by field: what they mean stands there.
//! Owns: nothing. Called by: `events` (writes), readers of topics. Never: gives a number twice: the tests hold the file, what is
//! here, and messages of every version against each other.
#![expect(missing_docs, reason = "each field has its word in outcry.proto")]

use prost::encoding::{DecodeContext, decode_key, skip_field};

/// The file itself.
pub const PROTO: &str = include_str!("outcry.proto");
/// The package of the file; a dead letter's header `schema`.
pub const SCHEMA: &str = "outcry.v1";

/// Numbers of bodies that are written without their structs.
pub(super) mod field {
    pub(in crate::ship) const AUCTION: u32 = 16;
    pub(in crate::ship) const AUCTION_RESULT: u32 = 17;
}

/// What an [`Event`] is, without reading its body: `auction`, `auction_result`, ...
pub fn kind(mut event: &[u8]) -> Option<&'static str> {
    while !event.is_empty() {
        let (field, wire) = decode_key(&mut event).ok()?;
        match field {
            field::AUCTION => return Some("auction"),
            field::AUCTION_RESULT => return Some("auction_result"),
            18 => return Some("notice"),
            19 => return Some("settlement"),
            20 => return Some("delivery"),
            _ => skip_field(wire, field, &mut event, DecodeContext::default()).ok()?,
        }
    }
    None
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(uint32, tag = "3")]
    pub node: u32,
    #[prost(uint32, tag = "4")]
    pub epoch: u32,
    #[prost(uint32, tag = "5")]
    pub writer: u32,
    #[prost(uint64, tag = "6")]
    pub seq: u64,
    #[prost(uint64, tag = "7")]
    pub hlc: u64,
    #[prost(oneof = "Body", tags = "16, 17, 18, 19, 20")]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    #[prost(message, tag = "16")]
    Auction(Box<Auction>),
    #[prost(message, tag = "17")]
    AuctionResult(Box<AuctionResult>),
    #[prost(message, tag = "18")]
    Notice(Notice),
    #[prost(message, tag = "19")]
    Settlement(Settlement),
    #[prost(message, tag = "20")]
    Delivery(Delivery),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Auction {
    #[prost(string, tag = "1")]
    pub bidid: String,
    #[prost(string, tag = "2")]
    pub request_id: String,
    #[prost(uint64, tag = "3")]
    pub wall_ms: u64,
    #[prost(string, tag = "4")]
    pub exchange: String,
    #[prost(string, tag = "5")]
    pub region: String,
    #[prost(string, tag = "6")]
    pub tid: String,
    #[prost(string, tag = "7")]
    pub publisher: String,
    #[prost(string, tag = "8")]
    pub channel: String,
    #[prost(string, tag = "9")]
    pub country: String,
    #[prost(uint32, tag = "10")]
    pub devicetype: u32,
    #[prost(fixed64, tag = "11")]
    pub user_hash: u64,
    #[prost(uint32, tag = "12")]
    pub user_salt: u32,
    #[prost(bool, tag = "13")]
    pub test: bool,
    #[prost(bool, tag = "14")]
    pub late: bool,
    #[prost(string, tag = "15")]
    pub cur: String,
    #[prost(string, tag = "16")]
    pub accounting_cur: String,
    #[prost(uint32, tag = "17")]
    pub at: u32,
    #[prost(uint32, optional, tag = "18")]
    pub nbr: Option<u32>,
    #[prost(uint64, tag = "19")]
    pub decided_us: u64,
    #[prost(message, repeated, tag = "20")]
    pub imp: Vec<Impression>,
    #[prost(message, repeated, tag = "21")]
    pub dsp: Vec<Dsp>,
    #[prost(message, repeated, tag = "22")]
    pub bid: Vec<Bid>,
    #[prost(message, repeated, tag = "23")]
    pub house: Vec<HouseAd>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Impression {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub tagid: String,
    #[prost(int64, tag = "3")]
    pub bidfloor: i64,
    #[prost(string, tag = "4")]
    pub bidfloorcur: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dsp {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub outcome: String,
    #[prost(bool, tag = "3")]
    pub asked: bool,
    #[prost(uint64, tag = "4")]
    pub sent_us: u64,
    #[prost(uint64, tag = "5")]
    pub done_us: u64,
    #[prost(uint32, tag = "6")]
    pub bids: u32,
    #[prost(uint32, tag = "7")]
    pub asked_probability: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HouseAd {
    #[prost(uint32, tag = "1")]
    pub imp: u32,
    #[prost(string, tag = "2")]
    pub impid: String,
    #[prost(string, tag = "3")]
    pub crid: String,
    #[prost(int64, tag = "4")]
    pub price: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Bid {
    #[prost(string, tag = "1")]
    pub dsp: String,
    #[prost(string, tag = "2")]
    pub seat: String,
    #[prost(string, tag = "3")]
    pub id: String,
    #[prost(string, tag = "4")]
    pub impid: String,
    #[prost(int64, tag = "5")]
    pub price: i64,
    #[prost(string, tag = "6")]
    pub cur: String,
    #[prost(string, tag = "7")]
    pub cid: String,
    #[prost(string, tag = "8")]
    pub crid: String,
    #[prost(string, tag = "9")]
    pub adomain: String,
    #[prost(string, tag = "10")]
    pub dealid: String,
    #[prost(uint32, tag = "11")]
    pub loss: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AuctionResult {
    #[prost(string, tag = "1")]
    pub bidid: String,
    #[prost(string, tag = "2")]
    pub request_id: String,
    #[prost(uint64, tag = "3")]
    pub wall_ms: u64,
    #[prost(string, tag = "4")]
    pub exchange: String,
    #[prost(string, tag = "5")]
    pub publisher: String,
    #[prost(string, tag = "6")]
    pub country: String,
    #[prost(uint32, tag = "7")]
    pub imp: u32,
    #[prost(string, tag = "8")]
    pub impid: String,
    #[prost(string, tag = "9")]
    pub tagid: String,
    #[prost(string, tag = "10")]
    pub dsp: String,
    #[prost(string, tag = "11")]
    pub seat: String,
    #[prost(string, tag = "12")]
    pub bid: String,
    #[prost(string, tag = "13")]
    pub cid: String,
    #[prost(string, tag = "14")]
    pub crid: String,
    #[prost(string, tag = "15")]
    pub adomain: String,
    #[prost(string, tag = "16")]
    pub dealid: String,
    #[prost(int64, tag = "17")]
    pub price: i64,
    #[prost(int64, tag = "18")]
    pub bid_price: i64,
    #[prost(string, tag = "19")]
    pub cur: String,
    #[prost(int64, tag = "20")]
    pub charge: i64,
    #[prost(string, tag = "21")]
    pub accounting_cur: String,
    #[prost(uint32, tag = "22")]
    pub account: u32,
    #[prost(uint32, tag = "23")]
    pub window: u32,
    #[prost(uint32, tag = "24")]
    pub awaited_s: u32,
    #[prost(bool, tag = "25")]
    pub test: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Notice {
    #[prost(string, tag = "1")]
    pub bidid: String,
    #[prost(uint32, tag = "2")]
    pub imp: u32,
    #[prost(string, tag = "3")]
    pub of: String,
    #[prost(bool, tag = "4")]
    pub expired: bool,
    #[prost(int64, tag = "5")]
    pub price: i64,
    #[prost(int64, tag = "6")]
    pub charge: i64,
    #[prost(int64, optional, tag = "7")]
    pub held: Option<i64>,
    #[prost(uint32, tag = "8")]
    pub account: u32,
    #[prost(uint32, tag = "9")]
    pub window: u32,
    #[prost(uint32, tag = "10")]
    pub expires_s: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Settlement {
    #[prost(enumeration = "Reason", tag = "1")]
    pub reason: i32,
    #[prost(string, tag = "2")]
    pub bidid: String,
    #[prost(uint32, tag = "3")]
    pub account: u32,
    #[prost(uint32, tag = "4")]
    pub window: u32,
    #[prost(int64, tag = "5")]
    pub amount: i64,
    #[prost(uint32, tag = "6")]
    pub charged_epoch: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, prost::Enumeration)]
#[repr(i32)]
pub enum Reason {
    Unknown = 0,
    NotDelivered = 1,
    NoNotice = 2,
    LowerPrice = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Delivery {
    #[prost(string, tag = "1")]
    pub bidid: String,
    #[prost(string, tag = "2")]
    pub what: String,
}

#[cfg(test)]
mod tests;
