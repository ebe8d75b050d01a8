//! `[[dsp]]`: who is asked, how, and when not; what it buys is in `buys`.
//! Owns: its keys and what they mean together. Called by: `check`, once.
use super::{
    address::{Endpoint, Headers, NoticeHost, Url},
    buys,
    check::{Checker, Got, Table},
    kind::{Choice, CurrencyCode, Dir, Flag, List, Name, Price, Text, Whole},
    mistake::quoted,
    resolved::{BuyerUid, Dsp, RateTable},
    schema::{
        Fallback::{AtMost, Derived, Number, Required, Toml, Unset},
        HOUR_MS, Key, LIST_MAX, Section, Shape, TMAX_MS_MAX, bytes, count, key, ms,
    },
};
use crate::{
    budget::core::Unbudgeted,
    dsp::{breaker, health, learned, quota, trouble},
    limits,
    notice::target::Host,
    openrtb::request::Media,
    units::{Cpm, MS, Probability},
};

pub(super) const DSP_NAME: Key<Name> =
    key("name", Required("\"dsp-1\""), Name, "Its name in metrics, records and buyeruids; survives reloads.");
pub(super) const URL: Key<Url> = key(
    "url",
    Required("\"https://dsp.example/bid\""),
    Url,
    "Its endpoint; port 80, of https 443, when it names none.",
);
pub(super) const CA_FILE: Key<Dir> = key(
    "ca_file",
    Unset("\"/etc/outcry/dsp-1-ca.pem\""),
    Dir,
    "Of https: the file with the authorities' certificates, PEM, one of which has to have signed those of this DSP's url and \
     notice_hosts; unset: the system's.",
);
pub(super) const ANY_CERTIFICATE: Key<Flag> = key(
    "danger_accept_any_certificate",
    Toml("false"),
    Flag,
    "Of https: true asks and tells whoever answers, whatever its certificate says: anybody in between can read requests, bid, and \
     hear of wins. For tests.",
);
pub(super) const HEADERS: Key<Headers> = key(
    "headers",
    Toml("{}"),
    Headers,
    "Headers sent with every request, for instance { x-openrtb-version = \"2.6\" }.",
);
pub(super) const MEDIA: Key<List<Choice<Media>>> = key(
    "media",
    Toml("[\"banner\", \"video\", \"audio\", \"native\"]"),
    List {
        item: Choice(&[
            ("banner", Media::BANNER),
            ("video", Media::VIDEO),
            ("audio", Media::AUDIO),
            ("native", Media::NATIVE),
        ]),
        count: 1..=4,
    },
    "What it buys.",
);
pub(super) const SEATS: Key<List<Text>> = key(
    "seats",
    Toml("[]"),
    List { item: Text { max: limits::RECORD_TEXT_MAX }, count: 0..=LIST_MAX },
    "Seats it may bid for; empty: any. Offered as wseat where the request has none.",
);
pub(super) const DSP_CURRENCIES: Key<List<CurrencyCode>> = key(
    "currencies",
    Toml("[]"),
    List { item: CurrencyCode, count: 0..=LIST_MAX },
    "Currencies it may bid in; empty: any that has a rate.",
);
pub(super) const QPS: Key<Whole> = key(
    "qps",
    Unset("5000"),
    Whole { min: 1, max: quota::QPS_MAX, unit: "requests a second" },
    "Requests that it is sent by all bidder cores together at most, with bursts of a tenth of that and one a core; unset: any number.",
);
pub(super) const TIMEOUT_MS: Key<Whole> =
    key("timeout_ms", AtMost(70, "auction.dsp_ms"), ms(1, TMAX_MS_MAX), "Most that it gets.");
pub(super) const WARM: Key<Whole> = key(
    "warm",
    AtMost(4, "connections"),
    count(0, limits::DSP_CONNECTIONS_MAX),
    "Idle connections of one bidder core, made before the first auction and again as auctions take them: so many more at once find one.",
);
pub(super) const DSP_CONNECTIONS: Key<Whole> = key(
    "connections",
    Number(limits::DSP_CONNECTIONS_DEFAULT as u64),
    count(1, limits::DSP_CONNECTIONS_MAX),
    "Connections of one bidder core at most.",
);
pub(super) const BREAKER: Key<Flag> = key(
    "breaker",
    Toml("true"),
    Flag,
    "Not asked while it fails, each core judging for itself, and asked less when it answers 429, or 503 with Retry-After.",
);
pub(super) const BREAKER_FAILURES: Key<Whole> = key(
    "breaker_failures",
    Number(5),
    count(1, 1_000_000),
    "Timeouts, refused and broken connections, 5xx and unreadable answers in a row after which it is not asked.",
);
pub(super) const BREAKER_PERCENT: Key<Whole> = key(
    "breaker_percent",
    Number(50),
    count(1, 101),
    "Or so many of 100 in ten seconds, if twenty or more were answered or failed; 101: never.",
);
pub(super) const BREAKER_OPEN_MS: Key<Whole> = key(
    "breaker_open_ms",
    Number(30_000),
    ms(10, HOUR_MS),
    "For so long, give or take 15 of 100; then single requests probe it, and three answers in a row end it.",
);
pub(super) const FAIR_MS: Key<Whole> = key(
    "fair_ms",
    AtMost(35, "timeout_ms"),
    ms(1, TMAX_MS_MAX),
    "A timeout counts as a failure if it had so long, or as long as 95 of 100 of its answers take.",
);
pub(super) const IN_FLIGHT_LIMIT: Key<Flag> = key(
    "in_flight_limit",
    Toml("true"),
    Flag,
    "Silent for longer than 99 of 100 of its answers take, it is asked no more once twice as many as usual are in flight, eight at least.",
);
pub(super) const TROUBLE: Key<Flag> = key(
    "trouble",
    Toml("true"),
    Flag,
    "Asked with a lower probability the more of its last answers failed or were late, each core judging for itself, and not waited for \
     where two others are well.",
);
pub(super) const TROUBLE_PERCENT: Key<Whole> = key(
    "trouble_percent",
    Number(20),
    count(1, 99),
    "Above so many of 100, on a line down to asked_percent_least where all are.",
);
pub(super) const ASKED_PERCENT_LEAST: Key<Whole> = key(
    "asked_percent_least",
    Number(5),
    count(5, 100),
    "It is asked in so many of 100 cases at least, however troubled, and however short the time.",
);
pub(super) const LEARNED_TIME: Key<Flag> = key(
    "learned_time",
    Toml("true"),
    Flag,
    "Not asked, but in asked_percent_least of 100 cases, when less time is left than 95 of 100 of its answers take.",
);
pub(super) const LEARNED_DEADLINE: Key<Flag> = key(
    "learned_deadline",
    Toml("true"),
    Flag,
    "It gets less than timeout_ms, an eighth less at a time, while no answer wins that comes later and 95 of 100 come sooner; when one \
     does win, or they become slower, it gets all again at once. One auction in 64 gives it all the time to see.",
);
pub(super) const DEADLINE_LEAST_MS: Key<Whole> = key(
    "deadline_least_ms",
    AtMost(35, "timeout_ms"),
    ms(1, TMAX_MS_MAX),
    "It never gets less than this for that reason.",
);
pub(super) const DSP_IDLE_MS: Key<Whole> =
    key("idle_ms", Number(60_000), ms(100, 24 * HOUR_MS), "An idle connection is closed after this.");
pub(super) const GZIP: Key<Flag> = key("gzip", Toml("false"), Flag, "Offer it gzip for its answers.");
pub(super) const ANSWER_BYTES: Key<Whole> = key(
    "answer_bytes",
    Number(limits::ANSWER_BYTES_DEFAULT as u64),
    bytes(1_024, limits::ANSWER_BYTES_MAX),
    "Longest answer, inflated.",
);
pub(super) const BUYERUID: Key<Choice<BuyerUid>> = key(
    "buyeruid",
    Toml("\"map\""),
    Choice(&[("map", BuyerUid::Map), ("request", BuyerUid::Request)]),
    "Which user.buyeruid it sees: the one under its name in buyeruids, or else also the request's own.",
);
pub(super) const UNBUDGETED: Key<Choice<Option<Unbudgeted>>> = key(
    "unbudgeted",
    Toml("\"auto\""),
    Choice(&[("auto", None), ("allow", Some(Unbudgeted::Allow)), ("refuse", Some(Unbudgeted::Refuse))]),
    "Its bids whose seat and cid name no account: allow records and does not limit them, refuse refuses them; auto allows them until an account names this DSP.",
);
pub(super) const DEFAULT_ACCOUNT: Key<Name> = key(
    "default_account",
    Unset("\"house\""),
    Name,
    "The campaign's account that pays its bids whose seat and cid name none.",
);
pub(super) const PRICE_KEYS: Key<Dir> = key(
    "price_keys",
    Unset("\"/etc/outcry/dsp-1.keys\""),
    Dir,
    "The file with the two keys under which AUCTION_PRICE is written so that only this DSP reads it, 32 to 128 hexadecimal digits \
     on each of two lines: for encryption, for integrity.",
);
pub(super) const PRICE_MAX: Key<Price> = key(
    "price_max",
    Unset("200.0"),
    Price { max: Cpm::MAX },
    "A bid of more, CPM in the accounting currency, is not believed and loses as no_price; unset: a million.",
);
pub(super) const NOTICE_HOSTS: Key<List<NoticeHost>> = key(
    "notice_hosts",
    Derived("that of url alone, by http or https as there", "[\"https://win.dsp.example\", \"dsp.example:9000\"]"),
    List { item: NoticeHost, count: 0..=limits::NOTICE_HOSTS_MAX },
    "Where it takes notices: https://HOST[:PORT], or HOST[:PORT] for http; no other is called, whatever its bids say.",
);

/// A DSP.
pub(super) const DSP: Section = Section {
    name: "dsp",
    path: "dsp",
    shape: Shape::Many(limits::DSPS_MAX),
    meaning: "A DSP that is asked for bids; repeat the section for each. Without one every answer is \"no bid\".",
    keys: &[
        &DSP_NAME,
        &URL,
        &CA_FILE,
        &ANY_CERTIFICATE,
        &HEADERS,
        &MEDIA,
        &SEATS,
        &DSP_CURRENCIES,
        &buys::SIZES,
        &buys::COUNTRIES,
        &buys::DEVICES,
        &buys::CHANNELS,
        &buys::PUBLISHERS,
        &buys::PUBLISHERS_NOT,
        &buys::DEALS,
        &buys::LANGUAGES,
        &buys::CATEGORIES,
        &buys::CATEGORIES_NOT,
        &buys::BUYERUID_NEEDED,
        &buys::SECURE_NEEDED,
        &QPS,
        &TIMEOUT_MS,
        &WARM,
        &DSP_CONNECTIONS,
        &DSP_IDLE_MS,
        &BREAKER,
        &BREAKER_FAILURES,
        &BREAKER_PERCENT,
        &BREAKER_OPEN_MS,
        &FAIR_MS,
        &IN_FLIGHT_LIMIT,
        &TROUBLE,
        &TROUBLE_PERCENT,
        &ASKED_PERCENT_LEAST,
        &LEARNED_TIME,
        &LEARNED_DEADLINE,
        &DEADLINE_LEAST_MS,
        &GZIP,
        &ANSWER_BYTES,
        &BUYERUID,
        &UNBUDGETED,
        &DEFAULT_ACCOUNT,
        &NOTICE_HOSTS,
        &PRICE_KEYS,
        &PRICE_MAX,
    ],
    sections: &[],
};

impl Checker<'_, '_> {
    /// All of `[[dsp]]`.
    pub(super) fn dsps(
        &mut self,
        tables: &[Table<'_, '_>],
        rates: &Got<RateTable>,
        dsp_ms: &Got<u64>,
        dsp_min_ms: &Got<u64>,
    ) -> Vec<Dsp> {
        let mut names = Vec::new();
        let mut out = Vec::with_capacity(tables.len());
        for &table in tables {
            let name = self.get(table, &DSP_NAME);
            self.once("dsp.name", &name, &mut names);
            let Endpoint { secure, host, port, path } = self.get(table, &URL).value;
            let hosts = self.find(table, &NOTICE_HOSTS);
            let hosts = hosts.map(|hosts| hosts.value.into_iter().map(|host| host.value).collect());
            let own = || vec![Host { secure, name: host.clone(), port }];
            let notice_hosts: Vec<Host> = hosts.unwrap_or_else(own);
            let told_by_tls = notice_hosts.iter().any(|host| host.secure);
            let rules = self.tls(table, secure || told_by_tls);
            let timeout = self.get(table, &TIMEOUT_MS).at_most(dsp_ms);
            self.not_above("dsp.timeout_ms", &timeout, "auction.dsp_ms", dsp_ms);
            // Else it would never be asked. Its own timeout is to be changed, if it has one.
            let least = Got { written: dsp_min_ms.written && !timeout.written, ..*dsp_min_ms };
            if dsp_min_ms.value < dsp_ms.value {
                self.not_above("auction.dsp_min_ms", &least, "dsp.timeout_ms", &timeout);
            }
            let connections = self.get(table, &DSP_CONNECTIONS);
            let warm = self.get(table, &WARM).at_most(&connections);
            self.not_above("dsp.warm", &warm, "dsp.connections", &connections);
            let health = self.health(table, &timeout, &connections);
            let currencies = self.get(table, &DSP_CURRENCIES);
            let media = self.get(table, &MEDIA).value;
            let seats = self.get(table, &SEATS).value;
            out.push(Dsp {
                name: name.value,
                notice_hosts,
                notice_tls: rules.clone().filter(|_| told_by_tls),
                host,
                port,
                path,
                tls: rules.filter(|_| secure),
                headers: self.get(table, &HEADERS).value,
                media: media.iter().fold(Media::default(), |all, m| all.with(m.value)),
                seats: seats.into_iter().map(|s| s.value).collect(),
                currencies: self.rated("dsp.currencies", &currencies.value, rates),
                buys: self.buys(table),
                qps: self.find(table, &QPS).map(|qps| qps.value),
                timeout_ms: timeout.ms(),
                warm: warm.size(),
                connections: connections.size(),
                idle_ms: self.get(table, &DSP_IDLE_MS).value,
                health,
                gzip: self.get(table, &GZIP).value,
                answer_bytes: self.get(table, &ANSWER_BYTES).size(),
                buyeruid: self.get(table, &BUYERUID).value,
                unbudgeted: self.get(table, &UNBUDGETED).value,
                price_max: self.find(table, &PRICE_MAX).map(|price| price.value),
                price_keys: self.find(table, &PRICE_KEYS).map(|keys| keys.value),
                default_account: self.find(table, &DEFAULT_ACCOUNT).map(|name| name.value),
            });
        }
        self.one_rule_a_host(tables, &out);
        out
    }

    fn health(&mut self, table: Table<'_, '_>, timeout: &Got<u64>, connections: &Got<u64>) -> health::Rules {
        let fair = self.get(table, &FAIR_MS).at_most(timeout);
        self.not_above("dsp.fair_ms", &fair, "dsp.timeout_ms", timeout);
        let least = self.get(table, &DEADLINE_LEAST_MS).at_most(timeout);
        self.not_above("dsp.deadline_least_ms", &least, "dsp.timeout_ms", timeout);
        health::Rules {
            breaker: self.get(table, &BREAKER).value,
            opens: breaker::Rules {
                failures: self.get(table, &BREAKER_FAILURES).value as u32,
                percent: self.get(table, &BREAKER_PERCENT).value as u32,
                open_ns: self.get(table, &BREAKER_OPEN_MS).value * MS,
            },
            fair_ns: fair.value * MS,
            limit: self.get(table, &IN_FLIGHT_LIMIT).value,
            concurrency: connections.value,
            trouble: trouble::Rules {
                on: self.get(table, &TROUBLE).value,
                percent: self.get(table, &TROUBLE_PERCENT).value as u32,
                least: Probability::nearest(self.get(table, &ASKED_PERCENT_LEAST).value * 100),
            },
            skips: self.get(table, &LEARNED_TIME).value,
            deadline: learned::Rules {
                on: self.get(table, &LEARNED_DEADLINE).value,
                most_ns: timeout.value * MS,
                least_ns: least.value * MS,
            },
        }
    }

    /// Whoever calls a host knows it, and not the DSP for whose sake.
    fn one_rule_a_host(&mut self, tables: &[Table<'_, '_>], dsps: &[Dsp]) {
        for (at, dsp) in dsps.iter().enumerate() {
            let shared = |other: &Dsp, secure: bool| {
                other.notice_hosts.iter().any(|host| host.secure >= secure && dsp.notice_hosts.contains(host))
            };
            let keys = dsps[..at].iter().find(|other| other.price_keys != dsp.price_keys && shared(other, false));
            let tls = dsps[..at].iter().find(|other| other.notice_tls != dsp.notice_tls && shared(other, true));
            let mut refuse = |other: Option<&Dsp>, what: &str, key: &str| {
                if let Some(other) = other {
                    let found =
                        format!("other {what} than {}, with which it shares a host for notices", quoted(&other.name));
                    let allowed = format!("the same {key}, or notice_hosts of its own");
                    self.rule(tables[at].at, format!("dsp.{key}"), found, allowed, None);
                }
            };
            refuse(keys, "keys", "price_keys");
            refuse(tls, "authorities", "ca_file");
        }
    }
}
