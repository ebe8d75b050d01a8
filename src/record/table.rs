//! Every metric there is: name, type, unit, help, labels. What is not in [`METRICS`] is not exposed, and a test
//! finds what is counted but not in it.
//! Owns: nothing. Runs on: control renders it; bidder cores use the label enums as array indexes.
//! Never: a label value from a request, an answer or a header; labels are closed enums, DSP names apart.

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

closed! {
    /// Plain counters. Which metric and which label value each one is stands in [`METRICS`].
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
        /// Requests shed because the core had no room for an auction.
        ShedNoRoom = "no_room",
        /// Requests shed because too little of their `tmax` was left.
        ShedNoTime = "no_time",
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
        /// Panics caught on a bidder core.
        Panics = "panics",
        /// Configurations taken over by a core or by control.
        ReloadsApplied = "applied",
        /// Configurations refused at reload.
        ReloadsRefused = "refused",
        /// Connections to DSPs made.
        DspOpened = "opened",
        /// Connections to DSPs that ended.
        DspClosed = "closed",
        /// Connections to DSPs that could not be made.
        DspFailed = "failed",
        /// Connections to DSPs on which an answer that came too late was read to its end and thrown away.
        DspDrained = "drained",
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
        /// 1: this core runs on epoll because io_uring was not to be had.
        IoFallback = "io_fallback",
        /// `Config::id` of the configuration that new auctions use.
        ConfigId = "config_id",
    }
}

closed! {
    /// What a client was answered.
    AnswerKind {
        /// 200 with at least one bid.
        Bid = "bid",
        /// 204, or 200 with `nbr`.
        NoBid = "no_bid",
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
        /// The head is longer than `http.head_bytes`, or has too many fields.
        HeadTooLarge = "head_too_large",
        /// The body is longer than `http.body_bytes`.
        BodyTooLarge = "body_too_large",
        /// No such path or method.
        NoRoute = "no_route",
        /// The head or the body was not whole in time.
        TooSlow = "too_slow",
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
        })
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
            O::Late => DspResult::Late,
            O::PoolExhausted | O::ConnectRefused => DspResult::Unreachable,
            O::Reset => DspResult::Reset,
            O::BadStatus => DspResult::BadStatus,
            O::NotEligible | O::NoTime => DspResult::NotAsked,
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

/// Prometheus' types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A level.
    Gauge,
    /// Fixed buckets, sum, count.
    Histogram,
    /// Sum and count.
    Summary,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds; nanoseconds inside.
    Seconds,
    /// Bytes.
    Bytes,
    /// Units of the accounting currency; nano-units inside.
    Currency,
}

/// How the cores' levels become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fold {
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest: what every core has reached.
    Min,
}

/// Where a metric's values come from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One series.
    Counter(Counter),
    /// A series per label value.
    Counters(&'static str, &'static [Counter]),
    /// One series.
    Gauge(Gauge, Fold),
    /// A series per label value.
    Gauges(&'static str, &'static [Gauge], Fold),
    /// The constant 1, its label the program's version.
    BuildInfo,
    /// Cores that ever reported.
    Cores,
    /// By [`AnswerKind`].
    Answers,
    /// By [`Refusal`].
    Refusals,
    /// By [`LossReason`].
    Losses,
    /// By [`Delivered`].
    Deliveries,
    /// By [`crate::openrtb::codes::Outcome`], all DSPs together.
    Outcomes,
    /// By [`Stage`].
    Stages,
    /// Whole latency, with these upper bounds in microseconds.
    Latency(&'static [u64]),
    /// Latency less the waiting for DSPs, with these upper bounds in microseconds.
    Own(&'static [u64]),
    /// Per DSP.
    DspAsked,
    /// Per DSP and [`DspResult`].
    DspResults,
    /// Per DSP.
    DspWins,
    /// Per DSP.
    DspCharges,
    /// Per DSP.
    DspElapsed,
    /// Per DSP and quantile, over the life of the process.
    DspQuantiles(&'static [(&'static str, f64)]),
    /// Per DSP.
    DspPoolWait,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, prefix and suffix included.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its unit; the name says it too.
    pub unit: Unit,
    /// One line for the person who looks at a dashboard.
    pub help: &'static str,
    /// Where its values and labels come from.
    pub source: Source,
}

const fn row(name: &'static str, kind: Kind, unit: Unit, help: &'static str, source: Source) -> Metric {
    Metric { name, kind, unit, help, source }
}

/// DSPs are asked for at most 70 ms: the buckets are close together where the budget ends.
const LATENCY_US: &[u64] =
    &[1_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 100_000, 250_000];
/// Our own share is some tens of microseconds when all is well.
const OWN_US: &[u64] = &[25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000];

/// All of them, in the order they are exposed. With five DSPs at most 300 series: each one is stored by somebody
/// for weeks, from every machine.
pub const METRICS: &[Metric] = {
    use self::{Counter as C, Gauge as G};
    use Kind::*;
    use Unit::*;
    &[
        row("outcry_build_info", Gauge, Count, "Always 1; the label is the version.", Source::BuildInfo),
        row("outcry_cores", Gauge, Count, "Bidder cores that have reported.", Source::Cores),
        row(
            "outcry_config_id",
            Gauge,
            Count,
            "Number of the configuration that every core has taken over.",
            Source::Gauge(G::ConfigId, Fold::Min),
        ),
        row(
            "outcry_io_fallback",
            Gauge,
            Count,
            "1 when a core runs on epoll because io_uring was not to be had.",
            Source::Gauge(G::IoFallback, Fold::Max),
        ),
        row("outcry_requests_total", Counter, Count, "Requests whose head was read.", Source::Counter(C::Requests)),
        row("outcry_auctions_total", Counter, Count, "Auctions begun.", Source::Counter(C::Auctions)),
        row(
            "outcry_auctions_in_flight",
            Gauge,
            Count,
            "Auctions in flight.",
            Source::Gauge(G::AuctionsInFlight, Fold::Sum),
        ),
        row("outcry_answers_total", Counter, Count, "Answers by what they said.", Source::Answers),
        row(
            "outcry_refusals_total",
            Counter,
            Count,
            "Requests that got no bid, or could not be read, by reason.",
            Source::Refusals,
        ),
        row("outcry_deliveries_total", Counter, Count, "What became of the answers of auctions.", Source::Deliveries),
        row(
            "outcry_shed_total",
            Counter,
            Count,
            "Requests answered without an auction because we could not have kept their deadline.",
            Source::Counters("reason", &[C::ShedNoRoom, C::ShedNoTime, C::ShedOther]),
        ),
        row("outcry_losses_total", Counter, Count, "Bids that lost, by reason.", Source::Losses),
        row(
            "outcry_latency_seconds",
            Histogram,
            Seconds,
            "From the first byte of a request to its answer; auctions only.",
            Source::Latency(LATENCY_US),
        ),
        row(
            "outcry_own_seconds",
            Histogram,
            Seconds,
            "The same, less the time spent waiting for DSPs.",
            Source::Own(OWN_US),
        ),
        row("outcry_stage_seconds", Summary, Seconds, "Time of each stage of an auction.", Source::Stages),
        row(
            "outcry_connections_total",
            Counter,
            Count,
            "Client connections by what happened to them; closed counts every end.",
            Source::Counters(
                "event",
                &[
                    C::ConnectionsAccepted,
                    C::ConnectionsClosed,
                    C::ConnectionsRefused,
                    C::ConnectionsIdleClosed,
                    C::ConnectionsSlowClosed,
                ],
            ),
        ),
        row(
            "outcry_connections",
            Gauge,
            Count,
            "Client connections open.",
            Source::Gauge(G::ConnectionsOpen, Fold::Sum),
        ),
        row(
            "outcry_network_bytes_total",
            Counter,
            Bytes,
            "Payload bytes by peer and direction, TCP and below not counted.",
            Source::Counters("flow", &[C::ClientBytesIn, C::ClientBytesOut, C::DspBytesIn, C::DspBytesOut]),
        ),
        row(
            "outcry_dsp_outcomes_total",
            Counter,
            Count,
            "What became of asking a DSP, all DSPs together.",
            Source::Outcomes,
        ),
        row("outcry_dsp_asked_total", Counter, Count, "Requests meant for a DSP.", Source::DspAsked),
        row("outcry_dsp_results_total", Counter, Count, "What became of them, by class.", Source::DspResults),
        row("outcry_dsp_wins_total", Counter, Count, "Impressions won.", Source::DspWins),
        row(
            "outcry_dsp_charges_total",
            Counter,
            Currency,
            "Charged for them, in units of the accounting currency.",
            Source::DspCharges,
        ),
        row(
            "outcry_dsp_answer_seconds",
            Summary,
            Seconds,
            "From asking a DSP to its outcome; deadlines missed count with the deadline.",
            Source::DspElapsed,
        ),
        row(
            "outcry_dsp_answer_quantile_seconds",
            Gauge,
            Seconds,
            "Quantiles of the same since the start of the process.",
            Source::DspQuantiles(&[("0.5", 0.5), ("0.99", 0.99)]),
        ),
        row(
            "outcry_dsp_pool_wait_seconds",
            Summary,
            Seconds,
            "Waiting for a free connection to a DSP.",
            Source::DspPoolWait,
        ),
        row(
            "outcry_dsp_connections",
            Gauge,
            Count,
            "Connections to DSPs; the idle ones are among the open ones.",
            Source::Gauges("state", &[G::DspConnections, G::DspIdle], Fold::Sum),
        ),
        row(
            "outcry_dsp_connections_total",
            Counter,
            Count,
            "Connections to DSPs by what happened to them.",
            Source::Counters("event", &[C::DspOpened, C::DspClosed, C::DspFailed, C::DspDrained]),
        ),
        row("outcry_turns_total", Counter, Count, "Turns of the bidder cores' loops.", Source::Counter(C::Turns)),
        row(
            "outcry_ring_full_total",
            Counter,
            Count,
            "Messages that found a ring between threads full.",
            Source::Counters("ring", &[C::RingFullFlush, C::RingFullControl, C::RingFullOther]),
        ),
        row("outcry_records_total", Counter, Count, "Decision records written.", Source::Counter(C::Records)),
        row("outcry_record_bytes_total", Counter, Bytes, "Bytes of decision records.", Source::Counter(C::RecordBytes)),
        row("outcry_panics_total", Counter, Count, "Panics caught on bidder cores.", Source::Counter(C::Panics)),
        row(
            "outcry_config_reloads_total",
            Counter,
            Count,
            "Reloads of the configuration: applied by each core, refused by control.",
            Source::Counters("result", &[C::ReloadsApplied, C::ReloadsRefused]),
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_and_gauge_is_exposed_exactly_once() {
        let mut counters = Vec::new();
        let mut gauges = Vec::new();
        for m in METRICS {
            match m.source {
                Source::Counter(c) => counters.push(c),
                Source::Counters(_, cs) => counters.extend_from_slice(cs),
                Source::Gauge(g, _) => gauges.push(g),
                Source::Gauges(_, gs, _) => gauges.extend_from_slice(gs),
                _ => {}
            }
        }
        counters.sort();
        gauges.sort();
        assert_eq!(counters, Counter::ALL);
        assert_eq!(gauges, Gauge::ALL);
    }

    #[test]
    fn names_follow_the_conventions() {
        let mut seen = std::collections::BTreeSet::new();
        for m in METRICS {
            assert!(m.name.starts_with("outcry_"), "{}", m.name);
            assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", m.name);
            assert!(seen.insert(m.name), "{} twice", m.name);
            assert_eq!(m.kind == Kind::Counter, m.name.ends_with("_total"), "{}", m.name);
            assert_eq!(m.unit == Unit::Seconds, m.name.ends_with("_seconds"), "{}", m.name);
            assert_eq!(m.unit == Unit::Bytes, m.name.contains("_bytes"), "{}", m.name);
            assert!(m.help.ends_with('.') && !m.help.contains(['\n', '\\']), "{}", m.name);
            if let Source::Latency(bounds) | Source::Own(bounds) = m.source {
                assert!(bounds.len() <= 12 && bounds.windows(2).all(|w| w[0] < w[1]), "{}", m.name);
            }
        }
    }
}
