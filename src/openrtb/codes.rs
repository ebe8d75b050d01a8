//! The field's numbers for what went wrong: no-bid reasons, loss reasons, per-DSP outcomes.
//! Owns: nothing. Values are those of OpenRTB 3.0's lists and of the `seatnonbid` community extension;
//! ours from 500 upwards, where the lists leave room.

/// Why a request got no bid (`BidResponse.nbr`, OpenRTB 2.6 section 5.24 by reference).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u16)]
pub enum Nbr {
    /// Nothing more is known.
    Unknown = 0,
    /// A fault of ours.
    Technical = 1,
    /// The request broke a rule of the standard.
    InvalidRequest = 2,
    /// Too little time to ask anybody.
    InsufficientTime = 15,
    /// Private: nobody offered anything that could win.
    NoBids = 500,
    /// Private: refused because this core has no room.
    Overload = 501,
    /// Private: no impression of the request can be sold here (dynamic pods, for instance).
    NothingToSell = 502,
}

impl Nbr {
    /// All of them.
    pub const ALL: [Nbr; 7] = [
        Nbr::Unknown,
        Nbr::Technical,
        Nbr::InvalidRequest,
        Nbr::InsufficientTime,
        Nbr::NoBids,
        Nbr::Overload,
        Nbr::NothingToSell,
    ];

    /// The reason of this number, if it is one of ours.
    pub fn of(number: u16) -> Option<Nbr> {
        Nbr::ALL.into_iter().find(|n| *n as u16 == number)
    }
}

/// Why one bid lost (`${AUCTION_LOSS}`, OpenRTB 3.0 list "Loss Reason Codes"). `Won` is in the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Loss {
    /// Won.
    Won = 0,
    /// A fault of ours.
    Internal = 1,
    /// `exp` ends before the impression can happen.
    Expired = 2,
    /// A bid that cannot be understood: no `id`, unknown `impid`, a media type that was not asked for.
    InvalidBid = 3,
    /// `dealid` names no deal of the impression.
    BadDeal = 4,
    /// The answer's `id` is not the request's.
    BadAuctionId = 5,
    /// `adomain` is missing where the request demands it, or not one.
    BadAdomain = 6,
    /// Neither `adm` nor `nurl`.
    NoMarkup = 7,
    /// No creative id where the exchange demands one.
    NoCrid = 8,
    /// No price, or one that cannot be read.
    NoPrice = 9,
    /// Below `imp.bidfloor`.
    BelowFloor = 100,
    /// Below the deal's floor.
    BelowDealFloor = 101,
    /// Another bid was higher.
    LostToHigherBid = 102,
    /// A bid on a deal was preferred.
    LostToDeal = 103,
    /// The seat is not in `wseat`, or it is in `bseat`.
    SeatBlocked = 104,
    /// Width and height do not fit.
    Size = 203,
    /// The media type does not fit.
    Format = 204,
    /// A blocked advertiser (`badv`).
    AdvertiserBlocked = 205,
    /// A blocked app (`bapp`).
    AppBlocked = 206,
    /// Insecure markup on a secure page.
    NotSecure = 207,
    /// A blocked category (`bcat`), or one outside `acat`.
    Category = 209,
    /// A blocked attribute (`battr`).
    Attribute = 210,
    /// Not allowed on this deal (`deal.wadomain`, `deal.wseat`) or a private auction's open bid.
    NotAllowedInDeal = 213,
    /// Private: the answer's currency was not allowed.
    Currency = 500,
    /// Private: the account behind the bid cannot pay.
    NoFunds = 501,
    /// Private: another seat of its `group` could not win.
    Group = 502,
    /// Private: more bids than are looked at.
    TooMany = 503,
    /// Private: the search among `group` seats ended before this one was tried.
    GroupSearch = 504,
    /// Private: nobody keeps an account for the bid's seat and campaign.
    NoAccount = 505,
    /// Private: the account behind the bid is paused.
    AccountPaused = 506,
    /// Private: the core could not note one more account's spend.
    BudgetTableFull = 507,
    /// Private: the exchange wants our notice URLs, and they cannot carry the bid's.
    NoticeUrl = 508,
}

impl Loss {
    /// All of them.
    pub const ALL: [Loss; 32] = [
        Loss::Won,
        Loss::Internal,
        Loss::Expired,
        Loss::InvalidBid,
        Loss::BadDeal,
        Loss::BadAuctionId,
        Loss::BadAdomain,
        Loss::NoMarkup,
        Loss::NoCrid,
        Loss::NoPrice,
        Loss::BelowFloor,
        Loss::BelowDealFloor,
        Loss::LostToHigherBid,
        Loss::LostToDeal,
        Loss::SeatBlocked,
        Loss::Size,
        Loss::Format,
        Loss::AdvertiserBlocked,
        Loss::AppBlocked,
        Loss::NotSecure,
        Loss::Category,
        Loss::Attribute,
        Loss::NotAllowedInDeal,
        Loss::Currency,
        Loss::NoFunds,
        Loss::Group,
        Loss::TooMany,
        Loss::GroupSearch,
        Loss::NoAccount,
        Loss::AccountPaused,
        Loss::BudgetTableFull,
        Loss::NoticeUrl,
    ];

    /// The reason of this number, if it is one of ours.
    pub fn of(number: u16) -> Option<Loss> {
        Loss::ALL.into_iter().find(|l| *l as u16 == number)
    }
}

/// What became of asking one DSP: exactly one for each DSP of each auction. The number is the `statuscode` of
/// the `seatnonbid` extension; several of ours share one. Records hold their places: new ones come at the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// At least one readable bid.
    Bid,
    /// 204, `{}`, no `seatbid`, or an empty one.
    NoBid,
    /// No whole answer before its deadline.
    Late,
    /// No connection became free before the deadline.
    PoolExhausted,
    /// The connection was refused or could not be made.
    ConnectRefused,
    /// The connection broke before the answer was whole.
    Reset,
    /// A status other than 200 and 204.
    BadStatus,
    /// The head or the framing broke HTTP/1.1.
    BadHttp,
    /// Longer than the limit.
    TooLarge,
    /// Compressed in a way we do not read, better than anybody compresses what he means, or broken.
    BadEncoding,
    /// Not JSON, or not an object.
    NotJson,
    /// `id` is missing or not the request's.
    WrongId,
    /// Every bid is for an impression that was not offered.
    WrongImp,
    /// A currency that was not asked for, or one without a rate.
    WrongCurrency,
    /// No bid has a readable price above zero.
    NoPrice,
    /// No bid has markup: neither `adm` nor `nurl`.
    NoMarkup,
    /// Bids without `id` or `impid`, or of the wrong shape.
    InvalidBid,
    /// Not asked: it buys nothing that is offered.
    NotEligible,
    /// Not asked: too little time.
    NoTime,
    /// Our own fault.
    Internal,
    /// Not asked: it has failed, and its breaker is open.
    BreakerOpen,
    /// Not asked: as much as may be is in flight, and it is silent.
    InFlight,
    /// Not asked: it wants fewer requests.
    Throttled,
    /// Asked to see whether it is back, or in spite of its trouble, and not waited for.
    Unawaited,
    /// Not asked: so much of what it says is bad or late that it is asked with a lower probability.
    Troubled,
    /// Not asked: it has less time than its answers take ("request blocked - optimized").
    OptimisedAway,
    /// There was no connection: TLS was not agreed upon, or its certificate is not to be believed.
    TlsFailed,
    /// Not asked: it states that it does not want this.
    NotTargeted,
    /// Not asked: others are expected to be worth more.
    NotChosen,
    /// Not asked: it has had as many requests as it wants in a second.
    Quota,
}

impl Outcome {
    /// All of them, in order of their discriminants.
    pub const ALL: [Outcome; 30] = [
        Outcome::Bid,
        Outcome::NoBid,
        Outcome::Late,
        Outcome::PoolExhausted,
        Outcome::ConnectRefused,
        Outcome::Reset,
        Outcome::BadStatus,
        Outcome::BadHttp,
        Outcome::TooLarge,
        Outcome::BadEncoding,
        Outcome::NotJson,
        Outcome::WrongId,
        Outcome::WrongImp,
        Outcome::WrongCurrency,
        Outcome::NoPrice,
        Outcome::NoMarkup,
        Outcome::InvalidBid,
        Outcome::NotEligible,
        Outcome::NoTime,
        Outcome::Internal,
        Outcome::BreakerOpen,
        Outcome::InFlight,
        Outcome::Throttled,
        Outcome::Unawaited,
        Outcome::Troubled,
        Outcome::OptimisedAway,
        Outcome::TlsFailed,
        Outcome::NotTargeted,
        Outcome::NotChosen,
        Outcome::Quota,
    ];

    /// The `statuscode` of the `seatnonbid` extension.
    pub fn statuscode(self) -> u16 {
        match self {
            Outcome::Bid | Outcome::NoBid => 0,
            Outcome::Late | Outcome::Unawaited => 101,
            Outcome::BreakerOpen | Outcome::InFlight | Outcome::Throttled => 203,
            Outcome::Troubled | Outcome::OptimisedAway => 203,
            Outcome::PoolExhausted | Outcome::ConnectRefused | Outcome::TlsFailed | Outcome::Reset => 103,
            Outcome::BadStatus | Outcome::Internal => 100,
            Outcome::NotEligible | Outcome::NoTime => 203,
            Outcome::NotTargeted | Outcome::NotChosen | Outcome::Quota => 203,
            Outcome::BadHttp
            | Outcome::TooLarge
            | Outcome::BadEncoding
            | Outcome::NotJson
            | Outcome::WrongId
            | Outcome::WrongImp
            | Outcome::WrongCurrency
            | Outcome::NoPrice
            | Outcome::NoMarkup
            | Outcome::InvalidBid => 102,
        }
    }

    /// The name in metrics, tables and reports.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Bid => "bid",
            Outcome::NoBid => "no_bid",
            Outcome::Late => "late",
            Outcome::PoolExhausted => "pool_exhausted",
            Outcome::ConnectRefused => "connect_refused",
            Outcome::Reset => "reset",
            Outcome::BadStatus => "bad_status",
            Outcome::BadHttp => "bad_http",
            Outcome::TooLarge => "too_large",
            Outcome::BadEncoding => "bad_encoding",
            Outcome::NotJson => "not_json",
            Outcome::WrongId => "wrong_id",
            Outcome::WrongImp => "wrong_imp",
            Outcome::WrongCurrency => "wrong_currency",
            Outcome::NoPrice => "no_price",
            Outcome::NoMarkup => "no_markup",
            Outcome::InvalidBid => "invalid_bid",
            Outcome::NotEligible => "not_eligible",
            Outcome::NoTime => "no_time",
            Outcome::Internal => "internal",
            Outcome::BreakerOpen => "breaker_open",
            Outcome::InFlight => "in_flight",
            Outcome::Throttled => "throttled",
            Outcome::Unawaited => "unawaited",
            Outcome::Troubled => "troubled",
            Outcome::OptimisedAway => "optimised_away",
            Outcome::TlsFailed => "tls_failed",
            Outcome::NotTargeted => "not_targeted",
            Outcome::NotChosen => "not_chosen",
            Outcome::Quota => "quota",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_in_their_order() {
        for (i, o) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*o as usize, i, "{}", o.name());
        }
        // Places stand in records: of these as of those before.
        let places =
            [Outcome::Internal, Outcome::BreakerOpen, Outcome::InFlight, Outcome::Throttled, Outcome::Unawaited];
        assert_eq!(places.map(|o| o as u8), [19, 20, 21, 22, 23]);
        let places = [Outcome::Troubled, Outcome::OptimisedAway, Outcome::TlsFailed];
        assert_eq!(places.map(|o| o as u8), [24, 25, 26]);
        assert_eq!([Outcome::NotTargeted, Outcome::NotChosen, Outcome::Quota].map(|o| o as u8), [27, 28, 29]);
    }

    /// Kept complete by the compiler: a new reason fails here first.
    #[test]
    fn every_reason_is_found_by_its_number() {
        for l in Loss::ALL {
            assert_eq!(Loss::of(l as u16), Some(l));
            match l {
                Loss::Won | Loss::Internal | Loss::Expired | Loss::InvalidBid | Loss::BadDeal | Loss::BadAuctionId => {}
                Loss::BadAdomain | Loss::NoMarkup | Loss::NoCrid | Loss::NoPrice | Loss::BelowFloor => {}
                Loss::BelowDealFloor | Loss::LostToHigherBid | Loss::LostToDeal | Loss::SeatBlocked | Loss::Size => {}
                Loss::Format | Loss::AdvertiserBlocked | Loss::AppBlocked | Loss::NotSecure | Loss::Category => {}
                Loss::Attribute | Loss::NotAllowedInDeal | Loss::Currency | Loss::NoFunds | Loss::Group => {}
                Loss::TooMany | Loss::GroupSearch | Loss::NoAccount | Loss::AccountPaused | Loss::BudgetTableFull => {}
                Loss::NoticeUrl => {}
            }
        }
        for n in Nbr::ALL {
            assert_eq!(Nbr::of(n as u16), Some(n));
            match n {
                Nbr::Unknown | Nbr::Technical | Nbr::InvalidRequest | Nbr::InsufficientTime => {}
                Nbr::NoBids | Nbr::Overload | Nbr::NothingToSell => {}
            }
        }
        assert_eq!((Loss::of(10), Nbr::of(10)), (None, None));
    }
}
