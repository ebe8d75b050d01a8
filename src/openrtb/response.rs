//! The view of a DSP's bid response (OpenRTB 2.6 section 4.2).
//! Owns: positions and numbers; the bytes stay with the auction. Runs on: each bidder core, pooled.
//! Called by: `bidder/flight`. Never: allocates once its vectors have grown to what answers need.
pub use super::parse_response::ResponseError;
use super::{
    request::{Media, Run},
    text::{Span, Text},
};
use crate::units::{Cpm, Currency, PriceError};

/// A bid response. All [`Text`]s and [`Span`]s point into the body it was read from.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// `id`, must echo the request's.
    pub id: Text,
    /// `cur`, USD when absent; `None` when it is no currency code.
    pub cur: Option<Currency>,
    /// `nbr`, when given.
    pub nbr: Option<u32>,
    /// `bidid` of the DSP.
    pub bidid: Text,
    /// Every readable bid, in the answer's order, at most [`crate::limits::BIDS_PER_ANSWER_MAX`].
    pub bids: Vec<Bid>,
    /// Bids beyond that limit, or that are not objects, or have no usable `id` or `impid`.
    pub bids_unusable: u32,
    /// Bids of the answer in all, usable or not.
    pub bids_seen: u32,
    /// Every string of every list.
    pub texts: Vec<Text>,
    /// Every number of every list.
    pub numbers: Vec<u32>,
}

/// One bid (section 4.2.3).
#[derive(Clone, Copy, Debug)]
pub struct Bid {
    /// The whole object, braces included.
    pub whole: Span,
    /// `seatbid.seat`
    pub seat: Text,
    /// Which `seatbid` it stood in, counted from zero.
    pub seatbid: u16,
    /// `seatbid.group`
    pub group: bool,
    /// `id`, required.
    pub id: Text,
    /// `impid`, required.
    pub impid: Text,
    /// `price` in the answer's currency, rounded down. `Err` with the reason where it is missing or unreadable.
    pub price: Result<Cpm, PriceError>,
    /// The value of `price`, quotes included where a DSP sent a string: replaced in our answer.
    pub price_span: Span,
    /// `adm`
    pub adm: Text,
    /// `nurl`
    pub nurl: Text,
    /// `burl`
    pub burl: Text,
    /// `lurl`
    pub lurl: Text,
    /// `adomain` in [`Response::texts`].
    pub adomain: Run,
    /// `cat` in [`Response::texts`].
    pub cat: Run,
    /// `cattax`, 1 when absent.
    pub cattax: u32,
    /// `attr` in [`Response::numbers`].
    pub attr: Run,
    /// `bundle`
    pub bundle: Text,
    /// `cid`
    pub cid: Text,
    /// `crid`
    pub crid: Text,
    /// `adid`
    pub adid: Text,
    /// `dealid`
    pub dealid: Text,
    /// `w` and `h`, 0 when absent.
    pub size: (u32, u32),
    /// `mtype`, as a medium; `None` when absent or unknown.
    pub media: Option<Media>,
    /// `dur` in seconds, 0 when absent.
    pub dur_s: u32,
    /// `exp` in seconds, 0 when absent.
    pub exp_s: u32,
}
