//! Every metric there is: name, type, unit, help, labels. What is not in [`METRICS`] is not exposed, and a test
//! finds what is counted but not in it.
//! Owns: nothing. Runs on: control renders it. Never: a label that is not a closed enum, names of DSPs apart.
use super::labels::{Counter, DspLevel, Gauge, Journal, Money, Ship};

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
    /// By [`super::labels::AnswerKind`].
    Answers,
    /// By [`super::labels::Refusal`].
    Refusals,
    /// By [`super::labels::LossReason`].
    Losses,
    /// By [`super::labels::Delivered`].
    Deliveries,
    /// By [`crate::openrtb::codes::Outcome`], all DSPs together.
    Outcomes,
    /// By [`super::labels::Stage`].
    Stages,
    /// Whole latency, with these upper bounds in microseconds.
    Latency(&'static [u64]),
    /// Latency less the waiting for DSPs, with these upper bounds in microseconds.
    Own(&'static [u64]),
    /// Per DSP.
    DspAsked,
    /// Per DSP and [`super::labels::DspResult`].
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
    /// Per DSP.
    DspOpened,
    /// Per DSP, over all cores.
    DspLevel(DspLevel),
    /// Per DSP: of all that its health is asked about, averaged over cores.
    DspAskedShare,
    /// Per DSP, averaged over cores.
    DspCut,
    /// One series.
    Journal(Journal),
    /// A series per label value.
    Journals(&'static str, &'static [Journal]),
    /// From record to disk, with these upper bounds in microseconds.
    Commits(&'static [u64]),
    /// One series.
    Money(Money),
    /// A series per label value; none for what cannot be said.
    Moneys(&'static str, &'static [Money]),
    /// Nanoseconds in all, and how many times.
    MoneyTimes(Money, Money),
    /// By who looks after an invariant, and its name.
    Violations,
    /// One series, or none for what cannot be said.
    Ship(Ship),
    /// A series per label value; none for what cannot be said.
    Ships(&'static str, &'static [Ship]),
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
/// Our own share is some tens of microseconds when all is well; what is promised of it is said at 1 ms and at 3 ms.
const OWN_US: &[u64] = &[25, 50, 100, 250, 500, 1_000, 3_000, 5_000, 10_000, 25_000, 50_000, 100_000];

/// A commit is due every 20 ms unless set otherwise; a power cut takes what is younger.
const COMMIT_US: &[u64] = &[5_000, 25_000, 100_000, 1_000_000, 5_000_000];

/// All of them, in the order they are exposed. With five DSPs at most 510 series: each one is stored by somebody
/// for weeks, from every machine. Of them 49 tell of money: 20 are the invariants, since an alarm has to name the one that broke.
pub const METRICS: &[Metric] = {
    use self::{Counter as C, Gauge as G, Journal as J, Money as M, Ship as S};
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
            Source::Counters("reason", &[C::ShedNoRoom, C::ShedNoTime, C::ShedNoRecord, C::ShedDiskFull, C::ShedOther]),
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
                    C::ConnectionsGaveWay,
                    C::ConnectionsUntakenClosed,
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
            "outcry_dsp_breaker_opened_total",
            Counter,
            Count,
            "Breakers of a DSP that opened, each core's for itself: it failed, and is not asked for half a minute.",
            Source::DspOpened,
        ),
        row(
            "outcry_dsp_breaker_open",
            Gauge,
            Count,
            "Cores on which a DSP's breaker is open: it is not asked.",
            Source::DspLevel(DspLevel::Open),
        ),
        row(
            "outcry_dsp_breaker_half_open",
            Gauge,
            Count,
            "Cores on which a DSP's breaker is half open: single requests probe it.",
            Source::DspLevel(DspLevel::HalfOpen),
        ),
        row(
            "outcry_dsp_asked_share",
            Gauge,
            Count,
            "With which probability a DSP is asked whose breaker is closed, less than 1 if it is troubled; mean of all cores.",
            Source::DspAskedShare,
        ),
        row(
            "outcry_dsp_deadline_cut_seconds",
            Gauge,
            Seconds,
            "By how much a DSP's learned deadline is shorter than its timeout_ms; mean of all cores.",
            Source::DspCut,
        ),
        row(
            "outcry_demand_alert",
            Gauge,
            Count,
            "Cores on which bids of all DSPs at once are far below what they usually are.",
            Source::Gauge(G::DemandAlert, Fold::Sum),
        ),
        row(
            "outcry_demand_alerts_total",
            Counter,
            Count,
            "Times that this began, on any core.",
            Source::Counter(C::DemandAlerts),
        ),
        row(
            "outcry_house_answers_total",
            Counter,
            Count,
            "Auctions that nobody won, answered with house ads.",
            Source::Counter(C::HouseAnswers),
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
        row(
            "outcry_dsp_auction_path_total",
            Counter,
            Count,
            "Connections that auctions had made to DSPs, and TLS handshakes that they waited for: none once pools are warm.",
            Source::Counters("event", &[C::AuctionOpened, C::AuctionHandshakes]),
        ),
        row(
            "outcry_dns_total",
            Counter,
            Count,
            "Names of DSPs that were looked up again: found as they were, moved, or not to be had, and then their addresses stay.",
            Source::Counters("result", &[C::NamesFound, C::NamesMoved, C::NamesFailed]),
        ),
        row(
            "outcry_dsp_tls_handshakes_total",
            Counter,
            Count,
            "TLS handshakes with DSPs: from the beginning, or from an earlier connection's.",
            Source::Counters("kind", &[C::TlsFull, C::TlsResumed]),
        ),
        row(
            "outcry_dsp_tls_failed_total",
            Counter,
            Count,
            "TLS handshakes with DSPs that failed, by reason.",
            Source::Counters(
                "reason",
                &[C::TlsFailedCertificate, C::TlsFailedProtocol, C::TlsFailedClosed, C::TlsFailedTimeout],
            ),
        ),
        row(
            "outcry_dsp_tls_unverified",
            Gauge,
            Count,
            "DSPs that are asked whatever their certificate says (danger_accept_any_certificate): anybody could be them.",
            Source::Gauge(G::TlsUnverified, Fold::Max),
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
        row("outcry_journal_writes_total", Counter, Count, "Writes that became durable.", Source::Journal(J::Writes)),
        row(
            "outcry_journal_write_bytes_total",
            Counter,
            Bytes,
            "Bytes of them, with what blocks are filled up with.",
            Source::Journal(J::WriteBytes),
        ),
        row(
            "outcry_journal_failures_total",
            Counter,
            Count,
            "What the journal's disk refused, and is tried again.",
            Source::Journals("what", &[J::FailedWrites, J::FailedSegments, J::FailedFiles]),
        ),
        row(
            "outcry_journal_level",
            Gauge,
            Count,
            "How full its disk is. 0: plenty of room; 1: little; 2: no auction is begun; 3: nothing can be written.",
            Source::Journal(J::Level),
        ),
        row(
            "outcry_journal_buffered",
            Gauge,
            Count,
            "1 where the file system refuses O_DIRECT: writes go through the page cache, with fdatasync.",
            Source::Journal(J::Buffered),
        ),
        row(
            "outcry_commit_seconds",
            Histogram,
            Seconds,
            "From a record's making to the disk: the oldest of each commit and core.",
            Source::Commits(COMMIT_US),
        ),
        row(
            "outcry_blackbox_lag_bytes",
            Gauge,
            Bytes,
            "Bytes of records that the fullest black box holds and the disk has not.",
            Source::Journal(J::LagBytes),
        ),
        row(
            "outcry_blackbox_damages_total",
            Counter,
            Count,
            "Places in black boxes that were not as they had been published. Never but for faulty memory.",
            Source::Journal(J::Damages),
        ),
        row(
            "outcry_raw_auctions_total",
            Counter,
            Count,
            "Auctions whose requests and answers were kept whole.",
            Source::Counter(C::RawAuctions),
        ),
        row("outcry_raw_bytes_total", Counter, Bytes, "Bytes of them on disk, packed.", Source::Counter(C::RawBytes)),
        row(
            "outcry_raw_dropped_total",
            Counter,
            Count,
            "Auctions that were to be kept whole and are not, by reason; of not_json single messages.",
            Source::Counters("reason", &[C::RawRingFull, C::RawNotJson, C::RawNoRoom, C::RawFailed]),
        ),
        row(
            "outcry_budget_ledger",
            Gauge,
            Currency,
            "Money of the leases that the ledger remembers: granted = returned + spent + held + leased + quarantined. Forfeit is part of spent.",
            Source::Moneys(
                "what",
                &[
                    M::GranterGranted,
                    M::GranterReturned,
                    M::GranterSpent,
                    M::GranterForfeit,
                    M::GranterHeld,
                    M::GranterLeased,
                    M::GranterQuarantined,
                ],
            ),
        ),
        row(
            "outcry_budget_leases",
            Gauge,
            Currency,
            "Money of this machine's leases: granted = returned + spent + free + on_cores.",
            Source::Moneys(
                "what",
                &[M::ServerGranted, M::ServerReturned, M::ServerSpent, M::ServerFree, M::ServerOnCores],
            ),
        ),
        row(
            "outcry_budget_lease_count",
            Gauge,
            Count,
            "Leases in the ledger, of them in quarantine; of this machine, of them open.",
            Source::Moneys("where", &[M::GranterLines, M::QuarantinedLines, M::ServerLines, M::ServerOpenLines]),
        ),
        row(
            "outcry_budget_asks_total",
            Counter,
            Count,
            "Asks of the leases to the ledger, leases in them, asks that were sent again.",
            Source::Moneys("what", &[M::Asks, M::AskedLines, M::Resent]),
        ),
        row(
            "outcry_budget_round_trip_seconds",
            Summary,
            Seconds,
            "From an ask to its answer, which is on disk.",
            Source::MoneyTimes(M::RoundTripsNs, M::Replies),
        ),
        row(
            "outcry_budget_autonomy_seconds",
            Gauge,
            Seconds,
            "How long bidding goes on without the ledger: the first lease to run dry, and the mean by what each spends. Not there while nothing is spent.",
            Source::Moneys("of", &[M::AutonomyLeast, M::AutonomyMean]),
        ),
        row(
            "outcry_budget_core_events_total",
            Counter,
            Count,
            "What should not happen to a core's leases.",
            Source::Counters(
                "what",
                &[
                    C::BudgetViolations,
                    C::BudgetGrantsIgnored,
                    C::BudgetTicksWithoutRoom,
                    C::BudgetNotFreed,
                    C::BudgetRefusedFull,
                ],
            ),
        ),
        row(
            "outcry_budget_violations_total",
            Counter,
            Count,
            "Invariants of money that were found not to hold. Anything but 0 is an alarm.",
            Source::Violations,
        ),
        row(
            "outcry_budget_stopped_accounts",
            Gauge,
            Count,
            "Accounts of which the ledger grants nothing because something did not add up. Anything but 0 is an alarm.",
            Source::Money(M::Stopped),
        ),
        row(
            "outcry_notice_urls_total",
            Counter,
            Count,
            "DSPs' notice URLs in answers of exchanges that get ours: carried by one, or passed on as they are, by reason.",
            Source::Counters(
                "end",
                &[
                    C::NoticeUrlsCarried,
                    C::NoticeUrlsMarkup,
                    C::NoticeUrlsTooLong,
                    C::NoticeUrlsNotHttp,
                    C::NoticeUrlsHost,
                    C::NoticeUrlsCharacter,
                ],
            ),
        ),
        row(
            "outcry_markup_fetches_total",
            Counter,
            Count,
            "Winners' markup behind their nurl, where exchanges have it fetched: fetched, or passed on, by reason.",
            Source::Counters(
                "end",
                &[C::MarkupFetched, C::MarkupLate, C::MarkupFailed, C::MarkupUnusable, C::MarkupUnfetchable],
            ),
        ),
        row(
            "outcry_notices_total",
            Counter,
            Count,
            "Notices that came in, by what became of them: taken and expired are recorded, no_room is a 503, forged a 404.",
            Source::Counters(
                "end",
                &[C::NoticesTaken, C::NoticesRepeated, C::NoticesExpired, C::NoticesForged, C::NoticesNoRoom],
            ),
        ),
        row(
            "outcry_notice_prices_total",
            Counter,
            Count,
            "What notices said of the price, where exchanges decide after us; only a lower one that is not below the floor counts.",
            Source::Counters(
                "said",
                &[
                    C::NoticePricesSame,
                    C::NoticePricesLower,
                    C::NoticePricesBelowFloor,
                    C::NoticePricesHigher,
                    C::NoticePricesUnfilled,
                    C::NoticePricesUnreadable,
                ],
            ),
        ),
        row(
            "outcry_notices_told_apart_total",
            Counter,
            Count,
            "Recorded notices: the first of their kind, taken before, and those that there was no room to tell apart; of the first, another server's.",
            Source::Journals("what", &[J::NoticesNew, J::NoticesAgain, J::NoticesUntold, J::NoticesTheirs]),
        ),
        row(
            "outcry_notices_waiting",
            Gauge,
            Count,
            "Notices whose DSPs are to be told.",
            Source::Journal(J::NoticesWaiting),
        ),
        row(
            "outcry_notices_oldest_seconds",
            Gauge,
            Seconds,
            "Age of the oldest of them.",
            Source::Journal(J::NoticesOldestS),
        ),
        row(
            "outcry_notices_told_total",
            Counter,
            Count,
            "Notices whose DSP was told, and those whose DSP could not be: dead letters, see `outcry notices`.",
            Source::Journals("end", &[J::NoticesDone, J::NoticesDead]),
        ),
        row(
            "outcry_notices_settled_total",
            Counter,
            Count,
            "Billing notices that charges waited for: they settled what was held, or came when nothing was held any more (the house's loss).",
            Source::Journals("what", &[J::NoticesSettled, J::NoticesLate]),
        ),
        row(
            "outcry_notices_held",
            Gauge,
            Currency,
            "Charged to winners whose billing notice has not come yet.",
            Source::Journal(J::NoticesHeld),
        ),
        row(
            "outcry_notices_lapsed_total",
            Counter,
            Currency,
            "Charged to winners and given back: no billing notice came, or one at a lower price.",
            Source::Journal(J::NoticesLapsed),
        ),
        row(
            "outcry_notice_calls_total",
            Counter,
            Count,
            "Calls to DSPs for notices: answered, or failed; those that failed are tried again for notices.retry_s.",
            Source::Counters("end", &[C::NoticeCallsDone, C::NoticeCallsFailed]),
        ),
        row(
            "outcry_loss_notices_total",
            Counter,
            Count,
            "Bids that lost and have an lurl: their DSP was called, once; or not, for lack of room; or it leads nowhere we call.",
            Source::Counters("end", &[C::LossNoticesSent, C::LossNoticesDropped, C::LossNoticesUncarried]),
        ),
        row("outcry_panics_total", Counter, Count, "Panics caught on bidder cores.", Source::Counter(C::Panics)),
        row(
            "outcry_kafka_messages_total",
            Counter,
            Count,
            "Messages that Kafka has acknowledged: as they are, or as dead letters. What was sent twice counts twice.",
            Source::Ships("end", &[S::Acknowledged, S::Dead]),
        ),
        row(
            "outcry_kafka_bytes_total",
            Counter,
            Bytes,
            "Bytes of the messages that Kafka has acknowledged, before they were compressed.",
            Source::Ship(S::Bytes),
        ),
        row(
            "outcry_kafka_given_up_total",
            Counter,
            Count,
            "Producers that were given up, all from the last acknowledged place being sent again. The log says why.",
            Source::Ship(S::GivenUp),
        ),
        row(
            "outcry_kafka_lost_total",
            Counter,
            Count,
            "Places of the journal that could not be sent, gone or damaged. Anything but 0 is an alarm.",
            Source::Ship(S::Lost),
        ),
        row(
            "outcry_kafka_backlog_bytes",
            Gauge,
            Bytes,
            "Bytes of the journal that are not known to be in Kafka. They stay on disk until they are.",
            Source::Ship(S::Backlog),
        ),
        row(
            "outcry_kafka_oldest_seconds",
            Gauge,
            Seconds,
            "Age of the oldest record that is not known to be in Kafka.",
            Source::Ship(S::Oldest),
        ),
        row(
            "outcry_kafka_stopped",
            Gauge,
            Count,
            "1: nothing is sent until somebody has acted, and the log says what is missing: a topic, a right.",
            Source::Ship(S::Stopped),
        ),
        row(
            "outcry_kafka_delay_seconds",
            Gauge,
            Seconds,
            "From an auction's record to Kafka's acknowledgement, of the last minute.",
            Source::Ships("quantile", &[S::DelayHalf, S::DelayMost]),
        ),
        row("outcry_kafka_dead_seconds", Gauge, Seconds, "Since the last dead letter.", Source::Ship(S::DeadSince)),
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
        let (mut journal, mut money, mut ship) = (Vec::new(), Vec::new(), Vec::new());
        for m in METRICS {
            match m.source {
                Source::Counter(c) => counters.push(c),
                Source::Counters(_, cs) => counters.extend_from_slice(cs),
                Source::Gauge(g, _) => gauges.push(g),
                Source::Gauges(_, gs, _) => gauges.extend_from_slice(gs),
                Source::Journal(j) => journal.push(j),
                Source::Journals(_, js) => journal.extend_from_slice(js),
                Source::Money(m) => money.push(m),
                Source::Moneys(_, ms) => money.extend_from_slice(ms),
                Source::MoneyTimes(sum, count) => money.extend([sum, count]),
                Source::Ship(s) => ship.push(s),
                Source::Ships(_, ss) => ship.extend_from_slice(ss),
                _ => {}
            }
        }
        counters.sort();
        gauges.sort();
        assert_eq!(counters, Counter::ALL);
        assert_eq!(gauges, Gauge::ALL);
        journal.sort();
        assert_eq!(journal, Journal::ALL);
        money.sort();
        assert_eq!(money, Money::ALL);
        ship.sort();
        assert_eq!(ship, Ship::ALL);
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
            if let Source::Latency(bounds) | Source::Own(bounds) | Source::Commits(bounds) = m.source {
                assert!(bounds.len() <= 12 && bounds.windows(2).all(|w| w[0] < w[1]), "{}", m.name);
            }
        }
    }
}
