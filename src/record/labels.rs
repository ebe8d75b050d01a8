//! Label values of metrics, as closed enums: dense, so that they are array indexes on a bidder core.
//! Owns: nothing. Used by: whoever counts. Never: a value from a request, an answer or a header.

/// An enum whose members are label values: dense, countable, named.
macro_rules! closed {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// All of them, in order of their discriminants.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = $name::ALL.len();

            /// The label value in metrics, tables and reports.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }
    };
}

mod above;

pub use above::{Journal, Money, Ship};

closed! {
    /// Plain counters. Which metric and which label value each one is stands in [`super::table::METRICS`].
    Counter {
        /// Requests whose head was read, whatever became of them.
        Requests = "requests",
        /// Auctions begun.
        Auctions = "auctions",
        /// Client connections accepted.
        ConnectionsAccepted = "accepted",
        /// Client connections that ended, for whatever reason: the next two are among them.
        ConnectionsClosed = "closed",
        /// Client connections closed at once because the core had no room for one more.
        ConnectionsRefused = "refused",
        /// Client connections closed after `http.idle_ms` without a request.
        ConnectionsIdleClosed = "idle_closed",
        /// Client connections closed because a head, a body or our answer moved too slowly.
        ConnectionsSlowClosed = "slow_closed",
        /// Client connections closed, silent for some seconds, to make room for new ones.
        ConnectionsGaveWay = "gave_way",
        /// Client connections closed because clients of the core left too many bytes of answers lying.
        ConnectionsUntakenClosed = "untaken_closed",
        /// Requests shed because the core had no room for an auction.
        ShedNoRoom = "no_room",
        /// Requests shed because too little of their `tmax` was left.
        ShedNoTime = "no_time",
        /// Requests shed because the core's black box had no room for their record.
        ShedNoRecord = "no_record",
        /// Requests shed because the disk of the journal is full.
        ShedDiskFull = "disk_full",
        /// Requests shed for a reason without a name of its own.
        ShedOther = "other",
        /// Bytes received from clients.
        ClientBytesIn = "client_in",
        /// Bytes sent to clients.
        ClientBytesOut = "client_out",
        /// Bytes received from DSPs.
        DspBytesIn = "dsp_in",
        /// Bytes sent to DSPs.
        DspBytesOut = "dsp_out",
        /// Turns of the bidder cores' loops.
        Turns = "turns",
        /// A metric delta found the ring to flush full; the core went on adding to it.
        RingFullFlush = "to_flush",
        /// A message to control found its ring full and was kept.
        RingFullControl = "to_control",
        /// A message found another ring full.
        RingFullOther = "other",
        /// Decision records written.
        Records = "records",
        /// Bytes of them.
        RecordBytes = "record_bytes",
        /// Auctions whose requests and answers were kept whole.
        RawAuctions = "raw_auctions",
        /// Bytes of them on disk, packed.
        RawBytes = "raw_bytes",
        /// Auctions that were to be kept whole and found the core's ring for it full, or are longer than it.
        RawRingFull = "ring_full",
        /// Messages that were to be kept whole and are no JSON.
        RawNotJson = "not_json",
        /// Auctions that were to be kept whole where the disk has no room but the journal's.
        RawNoRoom = "no_room",
        /// Auctions that were to be kept whole and could not be written.
        RawFailed = "failed",
        /// Panics caught on a bidder core. Control counts it when it is told: the core's own counts may go with it.
        Panics = "panics",
        /// Configurations taken over by a core or by control.
        ReloadsApplied = "applied",
        /// Configurations refused at reload.
        ReloadsRefused = "refused",
        /// Times that bids of all DSPs at once fell far below what they usually are.
        DemandAlerts = "demand_alerts",
        /// Auctions that nobody won and that were answered with house ads.
        HouseAnswers = "house_answers",
        /// Connections to DSPs made.
        DspOpened = "opened",
        /// Connections to DSPs that ended.
        DspClosed = "closed",
        /// Connections to DSPs that could not be made.
        DspFailed = "failed",
        /// Connections to DSPs on which an answer that came too late was read to its end and thrown away.
        DspDrained = "drained",
        /// Connections to DSPs that an auction had made because it found none free.
        AuctionOpened = "opened",
        /// Names that were looked up: by control, as the next ones.
        NamesFound = "found",
        /// Names whose addresses had changed.
        NamesMoved = "moved",
        /// Names that could not be looked up: their addresses stay.
        NamesFailed = "failed",
        /// TLS handshakes that an auction waited for.
        AuctionHandshakes = "handshake",
        /// TLS handshakes with DSPs from the beginning.
        TlsFull = "full",
        /// TLS handshakes with DSPs that went on from an earlier connection's.
        TlsResumed = "resumed",
        /// TLS with a DSP failed: its certificate has expired, is for another name, or nobody whom we believe signed it.
        TlsFailedCertificate = "certificate",
        /// What came was no TLS, or none that we speak.
        TlsFailedProtocol = "protocol",
        /// It was closed before the handshake was over.
        TlsFailedClosed = "closed",
        /// The handshake was not over in time.
        TlsFailedTimeout = "timeout",
        /// Books of a core's leases that did not add up; the account was stopped on it.
        BudgetViolations = "violations",
        /// Grants that came too late, or of accounts that a core had no room for.
        BudgetGrantsIgnored = "grants_ignored",
        /// Statements to the leases that waited because their ring was full.
        BudgetTicksWithoutRoom = "ticks_without_room",
        /// Charges of answers that did not arrive and stayed, because their lease was over by then.
        BudgetNotFreed = "not_freed",
        /// Bids refused because a core had no room to note what they would owe.
        BudgetRefusedFull = "refused_full",
        /// DSPs' notice URLs that one of ours carries.
        NoticeUrlsCarried = "carried",
        /// `Uncarried::Markup`: passed on as they are, as the next ones.
        NoticeUrlsMarkup = "markup",
        /// `Uncarried::TooLong`
        NoticeUrlsTooLong = "too_long",
        /// `Uncarried::NotHttp`
        NoticeUrlsNotHttp = "not_http",
        /// `Uncarried::Host`
        NoticeUrlsHost = "unknown_host",
        /// `Uncarried::Character`
        NoticeUrlsCharacter = "character",
        /// Markup behind a `nurl` that was fetched and stands in an answer.
        MarkupFetched = "fetched",
        /// It had not come in time: passed on, as the next ones.
        MarkupLate = "late",
        /// Its host was not to be had, or did not answer with a 200.
        MarkupFailed = "failed",
        /// Empty, too long, no UTF-8, or insecure where that may not be.
        MarkupUnusable = "unusable",
        /// Behind a URL that is not called.
        MarkupUnfetchable = "unfetchable",
        /// Notices that were recorded: of several calls of one URL some may be among them.
        NoticesTaken = "taken",
        /// Notices that this core had recorded already.
        NoticesRepeated = "repeated",
        /// Notices that came too late: recorded, and nothing else.
        NoticesExpired = "expired",
        /// Notices that we never signed.
        NoticesForged = "forged",
        /// Notices that were answered with 503: there was no room for their record.
        NoticesNoRoom = "no_room",
        /// `Said::Same`: what notices said of the price, where exchanges decide after us.
        NoticePricesSame = "same",
        /// `Said::Lower`
        NoticePricesLower = "lower",
        /// `Said::BelowFloor`
        NoticePricesBelowFloor = "below_floor",
        /// `Said::Higher`
        NoticePricesHigher = "higher",
        /// `Said::Unfilled`
        NoticePricesUnfilled = "unfilled",
        /// `Said::Unreadable`
        NoticePricesUnreadable = "unreadable",
        /// Calls to DSPs that were answered.
        NoticeCallsDone = "done",
        /// Calls to DSPs that came to nothing; most are tried again.
        NoticeCallsFailed = "failed",
        /// Bids that lost and whose DSPs were called to be told so.
        LossNoticesSent = "sent",
        /// Bids that lost and whose DSPs are not told, for lack of room.
        LossNoticesDropped = "dropped",
        /// Bids that lost and whose `lurl` leads nowhere where their DSP takes notices.
        LossNoticesUncarried = "uncarried",
    }
}

closed! {
    /// Levels, sampled by a core before each delta leaves it.
    Gauge {
        /// Client connections open.
        ConnectionsOpen = "connections_open",
        /// Auctions in flight.
        AuctionsInFlight = "auctions_in_flight",
        /// Connections to DSPs, idle ones among them.
        DspConnections = "open",
        /// Connections to DSPs without a request.
        DspIdle = "idle",
        /// DSPs that are asked whatever their certificate says.
        TlsUnverified = "tls_unverified",
        /// 1: this core runs on epoll because io_uring was not to be had.
        IoFallback = "io_fallback",
        /// `Config::id` of the configuration that new auctions use.
        ConfigId = "config_id",
        /// 1: bids are far from what they usually are, of all DSPs at once.
        DemandAlert = "demand_alert",
    }
}

closed! {
    /// What a client was answered.
    AnswerKind {
        /// 200 with at least one bid.
        Bid = "bid",
        /// 204, or 200 with `nbr`.
        NoBid = "no_bid",
        /// 204 to a notice.
        Notice = "notice",
        /// 400
        BadRequest = "bad_request",
        /// 404
        NotFound = "not_found",
        /// 405
        MethodNotAllowed = "method_not_allowed",
        /// 408
        Timeout408 = "request_timeout",
        /// 411
        LengthRequired = "length_required",
        /// 413
        TooLarge = "too_large",
        /// 415
        UnsupportedMedia = "unsupported_media",
        /// 417
        ExpectationFailed = "expectation_failed",
        /// 431
        HeadTooLarge = "head_too_large",
        /// 501
        NotImplemented = "not_implemented",
        /// 503
        Unavailable = "unavailable",
        /// 505
        VersionNotSupported = "version_not_supported",
        /// Any other status.
        Other = "other",
    }
}

impl AnswerKind {
    /// The kind of a status that is neither 200 nor 204; those need to be told apart by the caller.
    pub fn of_error(status: u16) -> AnswerKind {
        match status {
            204 => AnswerKind::NoBid,
            400 => AnswerKind::BadRequest,
            404 => AnswerKind::NotFound,
            405 => AnswerKind::MethodNotAllowed,
            408 => AnswerKind::Timeout408,
            411 => AnswerKind::LengthRequired,
            413 => AnswerKind::TooLarge,
            415 => AnswerKind::UnsupportedMedia,
            417 => AnswerKind::ExpectationFailed,
            431 => AnswerKind::HeadTooLarge,
            501 => AnswerKind::NotImplemented,
            503 => AnswerKind::Unavailable,
            505 => AnswerKind::VersionNotSupported,
            _ => AnswerKind::Other,
        }
    }

    /// Does its time stand in the latency histograms? Only answers of auctions do: a refusal is quick and a 408
    /// is slow by definition, and either would say something untrue about auctions.
    pub fn timed(self) -> bool {
        matches!(self, AnswerKind::Bid | AnswerKind::NoBid)
    }
}

closed! {
    /// Why a request got no bid, or no reading at all.
    Refusal {
        /// `nbr` 0
        Unknown = "unknown",
        /// `nbr` 1: a fault of ours.
        Technical = "technical",
        /// `nbr` 2: the JSON was read and breaks a rule of OpenRTB.
        InvalidRequest = "invalid_request",
        /// `nbr` 15
        InsufficientTime = "insufficient_time",
        /// `nbr` 500: nobody offered anything that could win.
        NoBids = "no_bids",
        /// `nbr` 501
        Overload = "overload",
        /// `nbr` 502
        NothingToSell = "nothing_to_sell",
        /// The body is not JSON, or JSON we refuse (depth, numbers, UTF-8).
        NotJson = "not_json",
        /// The request line broke RFC 9112 section 3.
        BadLine = "bad_line",
        /// A field line broke RFC 9112 section 5: a bare LF, obs-fold, a control byte.
        BadHeader = "bad_header",
        /// `Host` missing, double or unreadable.
        BadHost = "bad_host",
        /// Lengths that contradict each other, or a transfer coding other than chunked (section 6).
        BadFraming = "bad_framing",
        /// A chunk that cannot be read (section 7.1).
        BadChunk = "bad_chunk",
        /// gzip that cannot be inflated.
        BadEncoding = "bad_encoding",
        /// gzip that inflates to more than a hundred times itself.
        InflatesTooMuch = "inflates_too_much",
        /// The head is longer than `http.head_bytes`, or has too many fields.
        HeadTooLarge = "head_too_large",
        /// The body is longer than `http.body_bytes`.
        BodyTooLarge = "body_too_large",
        /// No such path or method.
        NoRoute = "no_route",
        /// The head or the body was not whole in time.
        TooSlow = "too_slow",
        /// The core's black box had no room for the record, so the auction was not begun.
        NoRecord = "no_record",
        /// The disk of the journal is full, so the auction was not begun.
        DiskFull = "disk_full",
        /// Any other.
        Other = "other",
    }
}

impl Refusal {
    /// The refusal of an `nbr`.
    pub fn of_nbr(nbr: crate::openrtb::codes::Nbr) -> Refusal {
        use crate::openrtb::codes::Nbr;
        match nbr {
            Nbr::Unknown => Refusal::Unknown,
            Nbr::Technical => Refusal::Technical,
            Nbr::InvalidRequest => Refusal::InvalidRequest,
            Nbr::InsufficientTime => Refusal::InsufficientTime,
            Nbr::NoBids => Refusal::NoBids,
            Nbr::Overload => Refusal::Overload,
            Nbr::NothingToSell => Refusal::NothingToSell,
        }
    }

    /// The refusal of a head.
    pub fn of_head(error: crate::http1::HeadError) -> Refusal {
        use crate::http1::HeadError;
        match error {
            HeadError::BadRequestLine | HeadError::BadStatusLine | HeadError::BadVersion | HeadError::Upgraded => {
                Refusal::BadLine
            }
            HeadError::BareLf
            | HeadError::BareCr
            | HeadError::ObsFold
            | HeadError::BadName
            | HeadError::ControlByte
            | HeadError::DoubleAuthorization => Refusal::BadHeader,
            HeadError::MissingHost | HeadError::DoubleHost | HeadError::BadHost => Refusal::BadHost,
            HeadError::TwoLengths
            | HeadError::LengthAndChunked
            | HeadError::BadLength
            | HeadError::BadTransferEncoding
            | HeadError::UnknownTransferEncoding => Refusal::BadFraming,
            HeadError::TooLong | HeadError::TooManyHeaders => Refusal::HeadTooLarge,
        }
    }

    /// The refusal of a request that was read.
    pub fn of_rule(rule: &crate::openrtb::validate::Rule) -> Refusal {
        match rule.fault {
            crate::openrtb::validate::Fault::NotJson(_) => Refusal::NotJson,
            _ => Refusal::InvalidRequest,
        }
    }
}

closed! {
    /// Why bids lost: [`crate::openrtb::codes::Loss`] without `Won`, dense.
    LossReason {
        /// `Loss::Internal`
        Internal = "internal",
        /// `Loss::Expired`
        Expired = "expired",
        /// `Loss::InvalidBid`
        InvalidBid = "invalid_bid",
        /// `Loss::BadDeal`
        BadDeal = "bad_deal",
        /// `Loss::BadAuctionId`
        BadAuctionId = "bad_auction_id",
        /// `Loss::BadAdomain`
        BadAdomain = "bad_adomain",
        /// `Loss::NoMarkup`
        NoMarkup = "no_markup",
        /// `Loss::NoCrid`
        NoCrid = "no_crid",
        /// `Loss::NoPrice`
        NoPrice = "no_price",
        /// `Loss::BelowFloor`
        BelowFloor = "below_floor",
        /// `Loss::BelowDealFloor`
        BelowDealFloor = "below_deal_floor",
        /// `Loss::LostToHigherBid`
        LostToHigherBid = "lost_to_higher_bid",
        /// `Loss::LostToDeal`
        LostToDeal = "lost_to_deal",
        /// `Loss::SeatBlocked`
        SeatBlocked = "seat_blocked",
        /// `Loss::Size`
        Size = "size",
        /// `Loss::Format`
        Format = "format",
        /// `Loss::AdvertiserBlocked`
        AdvertiserBlocked = "advertiser_blocked",
        /// `Loss::AppBlocked`
        AppBlocked = "app_blocked",
        /// `Loss::NotSecure`
        NotSecure = "not_secure",
        /// `Loss::Category`
        Category = "category",
        /// `Loss::Attribute`
        Attribute = "attribute",
        /// `Loss::NotAllowedInDeal`
        NotAllowedInDeal = "not_allowed_in_deal",
        /// `Loss::Currency`
        Currency = "currency",
        /// `Loss::NoFunds`
        NoFunds = "no_funds",
        /// `Loss::Group`
        Group = "group",
        /// `Loss::TooMany`
        TooMany = "too_many",
        /// `Loss::GroupSearch`
        GroupSearch = "group_search",
        /// `Loss::NoAccount`
        NoAccount = "no_account",
        /// `Loss::AccountPaused`
        AccountPaused = "account_paused",
        /// `Loss::BudgetTableFull`
        BudgetTableFull = "budget_table_full",
        /// `Loss::NoticeUrl`
        NoticeUrl = "notice_url",
    }
}

impl LossReason {
    /// The reason of a loss; none for a win.
    pub fn of(loss: crate::openrtb::codes::Loss) -> Option<LossReason> {
        use crate::openrtb::codes::Loss as L;
        Some(match loss {
            L::Won => return None,
            L::Internal => LossReason::Internal,
            L::Expired => LossReason::Expired,
            L::InvalidBid => LossReason::InvalidBid,
            L::BadDeal => LossReason::BadDeal,
            L::BadAuctionId => LossReason::BadAuctionId,
            L::BadAdomain => LossReason::BadAdomain,
            L::NoMarkup => LossReason::NoMarkup,
            L::NoCrid => LossReason::NoCrid,
            L::NoPrice => LossReason::NoPrice,
            L::BelowFloor => LossReason::BelowFloor,
            L::BelowDealFloor => LossReason::BelowDealFloor,
            L::LostToHigherBid => LossReason::LostToHigherBid,
            L::LostToDeal => LossReason::LostToDeal,
            L::SeatBlocked => LossReason::SeatBlocked,
            L::Size => LossReason::Size,
            L::Format => LossReason::Format,
            L::AdvertiserBlocked => LossReason::AdvertiserBlocked,
            L::AppBlocked => LossReason::AppBlocked,
            L::NotSecure => LossReason::NotSecure,
            L::Category => LossReason::Category,
            L::Attribute => LossReason::Attribute,
            L::NotAllowedInDeal => LossReason::NotAllowedInDeal,
            L::Currency => LossReason::Currency,
            L::NoFunds => LossReason::NoFunds,
            L::Group => LossReason::Group,
            L::TooMany => LossReason::TooMany,
            L::GroupSearch => LossReason::GroupSearch,
            L::NoAccount => LossReason::NoAccount,
            L::AccountPaused => LossReason::AccountPaused,
            L::BudgetTableFull => LossReason::BudgetTableFull,
            L::NoticeUrl => LossReason::NoticeUrl,
        })
    }
}

closed! {
    /// How it stands with a DSP on one core, as numbers that add up over cores.
    DspLevel {
        /// 1: its breaker is open.
        Open = "open",
        /// 1: it is probed.
        HalfOpen = "half_open",
        /// What is missing from asking it always, of 10,000.
        Withheld = "withheld",
        /// By how many nanoseconds its deadline is shorter than it may be.
        Cut = "cut",
    }
}

closed! {
    /// What became of an answer.
    Delivered {
        /// Written before its deadline.
        Written = "written",
        /// Written after its deadline.
        Late = "late",
        /// The write failed.
        Failed = "failed",
        /// The client had left.
        ClientLeft = "client_left",
    }
}

closed! {
    /// Where a request's time goes, in order.
    Stage {
        /// First byte to last byte of the request.
        Receive = "receive",
        /// JSON to view, rules checked.
        Parse = "parse",
        /// Whether to run it, whom to ask.
        Gate = "gate",
        /// The request of every DSP.
        Rewrite = "rewrite",
        /// Handed over to the kernel.
        Send = "send",
        /// Nothing to do but wait for DSPs.
        Wait = "wait",
        /// Answers read and judged.
        Collect = "collect",
        /// Ranking, floors, prices.
        Decide = "decide",
        /// The answer written.
        Answer = "answer",
    }
}

closed! {
    /// A DSP's outcomes as its own series show them. The twenty of
    /// [`crate::openrtb::codes::Outcome`] are kept per DSP too, but exposed only in sum: five DSPs times twenty
    /// would be a third of all series.
    DspResult {
        /// At least one readable bid.
        Bid = "bid",
        /// Nothing offered.
        NoBid = "no_bid",
        /// No whole answer in time.
        Late = "late",
        /// No connection to ask on: none free, or none to be had.
        Unreachable = "unreachable",
        /// The connection broke.
        Reset = "reset",
        /// A status other than 200 and 204.
        BadStatus = "bad_status",
        /// An answer that breaks a rule.
        BadAnswer = "bad_answer",
        /// Not asked.
        NotAsked = "not_asked",
        /// Our fault.
        Internal = "internal",
    }
}

impl DspResult {
    /// The class of an outcome.
    pub fn of(outcome: crate::openrtb::codes::Outcome) -> DspResult {
        use crate::openrtb::codes::Outcome as O;
        match outcome {
            O::Bid => DspResult::Bid,
            O::NoBid => DspResult::NoBid,
            O::Late | O::Unawaited => DspResult::Late,
            O::PoolExhausted | O::ConnectRefused | O::TlsFailed => DspResult::Unreachable,
            O::Reset => DspResult::Reset,
            O::BadStatus => DspResult::BadStatus,
            O::NotEligible | O::NoTime | O::BreakerOpen | O::InFlight | O::Throttled => DspResult::NotAsked,
            O::Troubled | O::OptimisedAway => DspResult::NotAsked,
            O::NotTargeted | O::NotChosen | O::Quota => DspResult::NotAsked,
            O::Internal => DspResult::Internal,
            O::BadHttp
            | O::TooLarge
            | O::BadEncoding
            | O::NotJson
            | O::WrongId
            | O::WrongImp
            | O::WrongCurrency
            | O::NoPrice
            | O::NoMarkup
            | O::InvalidBid => DspResult::BadAnswer,
        }
    }

    /// Was the DSP asked, and did it fail to give what was asked for in any way but lateness?
    pub fn is_error(self) -> bool {
        use DspResult::*;
        matches!(self, Unreachable | Reset | BadStatus | BadAnswer | Internal)
    }
}
