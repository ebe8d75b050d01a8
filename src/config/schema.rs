//! Every key, once: its name, its meaning in one sentence, its default, and what may be written. Reading,
//! mistakes, hints and the commented default file all come from here, so none of them can drift.
//! Owns: constants. Called by: `check` and `print`.
use super::{
    address::{Domain, Socket, UrlPath},
    dsps::DSP,
    house::HOUSE,
    kafka::KAFKA,
    kind::{Choice, CurrencyCode, Dir, Flag, Kind, List, Name, Price, Rates, Text, Whole},
    notices::NOTICES,
    resolved::{Durability, IoDriver, Markup, NoBidStyle, Position, RunnerUp, Settle, Wrapping},
};
use crate::{
    limits,
    units::{Cpm, Currency},
};

/// What a key is when nobody wrote it.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    /// This, as it would be written.
    Toml(&'static str),
    /// This number.
    Number(u64),
    /// This number, or the value of that key where it is lower.
    AtMost(u64, &'static str),
    /// What these words say; with nothing else changed, this.
    Derived(&'static str, &'static str),
    /// Nothing; this would be one.
    Unset(&'static str),
    /// A mistake; this would be one.
    Required(&'static str),
}

impl Fallback {
    /// The value as it would be written; `Unset` has none.
    pub(super) fn toml(self) -> Option<String> {
        match self {
            Fallback::Toml(t) | Fallback::Derived(_, t) | Fallback::Required(t) => Some(t.to_owned()),
            Fallback::Number(n) | Fallback::AtMost(n, _) => Some(n.to_string()),
            Fallback::Unset(_) => None,
        }
    }
}

/// One key.
pub(super) struct Key<K> {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) fallback: Fallback,
    pub(super) kind: K,
}

/// A key whose kind does not matter: for lists of keys.
pub(super) trait Declared: Sync {
    fn name(&self) -> &'static str;
    fn meaning(&self) -> &'static str;
    fn fallback(&self) -> Fallback;
    fn allowed(&self) -> String;
}

impl<K: Kind + Sync> Declared for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn meaning(&self) -> &'static str {
        self.meaning
    }
    fn fallback(&self) -> Fallback {
        self.fallback
    }
    fn allowed(&self) -> String {
        self.kind.allowed()
    }
}

/// How often a section may stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// `[section]`; its keys have their defaults when it is absent.
    Once,
    /// `[section]`; absent means "not at all".
    Optional,
    /// `[[section]]`, at most so often.
    Many(usize),
}

/// A section of the file.
pub(super) struct Section {
    /// Its name in the section above.
    pub(super) name: &'static str,
    /// Its name from the top, empty for the top itself.
    pub(super) path: &'static str,
    pub(super) shape: Shape,
    pub(super) meaning: &'static str,
    pub(super) keys: &'static [&'static dyn Declared],
    pub(super) sections: &'static [&'static Section],
}

impl Section {
    /// As it stands in the file.
    pub(super) fn header(&self) -> String {
        match self.shape {
            Shape::Many(_) => format!("[[{}]]", self.path),
            Shape::Once | Shape::Optional => format!("[{}]", self.path),
        }
    }

    /// A key's name from the top.
    pub(super) fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

pub(super) const fn key<K>(name: &'static str, fallback: Fallback, kind: K, meaning: &'static str) -> Key<K> {
    Key { name, meaning, fallback, kind }
}

pub(super) const fn bytes(min: usize, max: usize) -> Whole {
    Whole { min: min as u64, max: max as u64, unit: "bytes" }
}

pub(super) const fn ms(min: u64, max: u64) -> Whole {
    Whole { min, max, unit: "milliseconds" }
}

pub(super) const fn count(min: usize, max: usize) -> Whole {
    Whole { min: min as u64, max: max as u64, unit: "" }
}

/// Highest number of a CPU: the kernel's CPU_SETSIZE, less one.
const CPU: Whole = count(0, 1023);
/// An hour: longer idle times and stops are a slip of the unit.
pub(super) const HOUR_MS: u64 = 3_600_000;
/// Longest `tmax` that is believed.
pub(super) const TMAX_MS_MAX: u64 = 60_000;
/// Seats and currencies of one party.
pub(super) const LIST_MAX: usize = 256;

use Fallback::{AtMost, Derived, Number, Required, Toml, Unset};

// --- the top -------------------------------------------------------------------------------------

pub(super) const NODE: Key<Whole> = key(
    "node",
    Unset("1"),
    count(0, u32::MAX as usize),
    "This machine in event ids, different on each machine; unset: generated once and kept in state_dir.",
);
pub(super) const REGION: Key<Name> =
    key("region", Toml("\"local\""), Name, "Where this machine is; stands in each record of an auction.");
pub(super) const STATE_DIR: Key<Dir> =
    key("state_dir", Toml("\"/var/lib/outcry\""), Dir, "Where the node id, the epoch and the journal are kept.");
pub(super) const LISTEN: Key<Socket> =
    key("listen", Toml("\"0.0.0.0:8080\""), Socket, "Where OpenRTB requests come in; every bidder core listens on it.");
pub(super) const ADMIN: Key<Socket> =
    key("admin", Toml("\"127.0.0.1:9090\""), Socket, "Where metrics, health, readiness and version are answered.");
pub(super) const IO_DRIVER: Key<Choice<IoDriver>> = key(
    "io_driver",
    Toml("\"auto\""),
    Choice(&[("auto", IoDriver::Auto), ("io_uring", IoDriver::IoUring), ("epoll", IoDriver::Epoll)]),
    "What carries the bytes; auto takes io_uring, or epoll with a loud warning where io_uring is forbidden.",
);
pub(super) const STOP_MS: Key<Whole> =
    key("stop_ms", Number(5_000), ms(100, HOUR_MS), "Longest time that auctions in flight have at a stop.");

// --- [cpus] --------------------------------------------------------------------------------------

pub(super) const BIDDERS: Key<List<Whole>> = key(
    "bidders",
    Unset("[2, 3]"),
    List { item: CPU, count: 1..=limits::CORES_MAX },
    "CPUs of the bidder cores, one thread each; unset: one for each physical core that is free.",
);
pub(super) const BIDDER_COUNT: Key<Whole> = key(
    "bidder_count",
    Unset("2"),
    count(1, limits::CORES_MAX),
    "Or only how many bidder cores; which CPUs they get is chosen.",
);
pub(super) const FLUSH: Key<Whole> = key("flush", Unset("0"), CPU, "CPU of the flush core; unset: chosen.");
pub(super) const CONTROL: Key<List<Whole>> = key(
    "control",
    Unset("[0, 1]"),
    List { item: CPU, count: 1..=1024 },
    "CPUs of the control thread and of libraries' threads; unset: all that no bidder core has.",
);

const CPUS: Section = Section {
    name: "cpus",
    path: "cpus",
    shape: Shape::Once,
    meaning: "Which CPUs do what. Without it the plan follows the machine; `outcry check` prints it.",
    keys: &[&BIDDERS, &BIDDER_COUNT, &FLUSH, &CONTROL],
    sections: &[],
};

// --- [http] --------------------------------------------------------------------------------------

pub(super) const HEAD_BYTES: Key<Whole> = key(
    "head_bytes",
    Number(limits::HEAD_BYTES_DEFAULT as u64),
    bytes(256, limits::HEAD_BYTES_MAX),
    "Longest head of a request; above it 431.",
);
pub(super) const BODY_BYTES: Key<Whole> = key(
    "body_bytes",
    Number(limits::BODY_BYTES_DEFAULT as u64),
    bytes(1_024, limits::BODY_BYTES_MAX),
    "Longest body of a request, inflated; above it 413.",
);
pub(super) const HTTP_IDLE_MS: Key<Whole> = key(
    "idle_ms",
    Number(180_000),
    ms(1_000, 24 * HOUR_MS),
    "A connection without a request is closed after this; exchanges ask for 150000 and more.",
);
pub(super) const SLOW_MS: Key<Whole> =
    key("slow_ms", Number(5_000), ms(10, HOUR_MS), "A head or body that is not whole after this gets 408.");
pub(super) const WRITE_MS: Key<Whole> = key(
    "write_ms",
    Number(5_000),
    ms(10, HOUR_MS),
    "A connection whose client does not take its answer within this is closed.",
);
pub(super) const HTTP_CONNECTIONS: Key<Whole> = key(
    "connections",
    Number(limits::CLIENTS_DEFAULT as u64),
    count(1, limits::CLIENTS_MAX),
    "Client connections of one bidder core.",
);
pub(super) const AUCTIONS: Key<Whole> = key(
    "auctions",
    Number(limits::AUCTIONS_DEFAULT as u64),
    count(1, limits::AUCTIONS_MAX),
    "Auctions in flight on one bidder core.",
);
pub(super) const GZIP_MIN_BYTES: Key<Whole> = key(
    "gzip_min_bytes",
    Number(1_024),
    bytes(0, 1 << 30),
    "Answers shorter than this are not compressed, even if the client accepts gzip.",
);

const HTTP: Section = Section {
    name: "http",
    path: "http",
    shape: Shape::Once,
    meaning: "Limits of the side that faces exchanges and publishers.",
    keys: &[
        &HEAD_BYTES,
        &BODY_BYTES,
        &HTTP_IDLE_MS,
        &SLOW_MS,
        &WRITE_MS,
        &HTTP_CONNECTIONS,
        &AUCTIONS,
        &GZIP_MIN_BYTES,
    ],
    sections: &[],
};

// --- [auction] -----------------------------------------------------------------------------------

pub(super) const INCREMENT: Key<Price> = key(
    "increment",
    Toml("0.01"),
    Price { max: Cpm(1_000 * Cpm::ONE.0) },
    "Added to the runner-up in a second-price auction, in the accounting currency.",
);
pub(super) const RUNNER_UP: Key<Choice<RunnerUp>> = key(
    "runner_up",
    Toml("\"other_dsp\""),
    Choice(&[("other_dsp", RunnerUp::OtherDsp), ("other_seat", RunnerUp::OtherSeat)]),
    "Whose bid may set the price a winner pays: another DSP's, or also another seat's of the same DSP.",
);
pub(super) const TMAX_DEFAULT_MS: Key<Whole> =
    key("tmax_default_ms", AtMost(100, "tmax_max_ms"), ms(5, TMAX_MS_MAX), "tmax of a request that has none.");
pub(super) const TMAX_MAX_MS: Key<Whole> =
    key("tmax_max_ms", Number(100), ms(5, TMAX_MS_MAX), "No request gets longer, whatever its tmax says.");
pub(super) const NETWORK_MS: Key<Whole> = key(
    "network_ms",
    Number(8),
    ms(0, TMAX_MS_MAX),
    "What the way back to the exchange takes; taken off every deadline.",
);
pub(super) const ANSWER_MS: Key<Whole> =
    key("answer_ms", Number(2), ms(0, TMAX_MS_MAX), "What our own answer takes; taken off every deadline.");
pub(super) const DSP_MS: Key<Whole> = key("dsp_ms", Number(70), ms(2, TMAX_MS_MAX), "Most that DSPs get.");
pub(super) const DSP_MIN_MS: Key<Whole> =
    key("dsp_min_ms", Number(10), ms(1, TMAX_MS_MAX), "DSPs are not asked with less than this left.");
pub(super) const DSP_NETWORK_MS: Key<Whole> = key(
    "dsp_network_ms",
    Number(2),
    ms(0, TMAX_MS_MAX),
    "What the way from a DSP to us takes; taken off the tmax it is told.",
);

pub(super) const ASKED_MAX: Key<Whole> = key(
    "asked_max",
    Number(limits::ASKED_DEFAULT as u64),
    count(1, limits::ASKED_MAX),
    "DSPs asked in one auction at most: those with a deal of theirs first, then whose bids are worth most; where more are \
     configured, one call in forty goes to one of the others.",
);

const AUCTION: Section = Section {
    name: "auction",
    path: "auction",
    shape: Shape::Once,
    meaning: "Rules of all auctions.",
    keys: &[
        &INCREMENT,
        &RUNNER_UP,
        &TMAX_DEFAULT_MS,
        &TMAX_MAX_MS,
        &NETWORK_MS,
        &ANSWER_MS,
        &DSP_MS,
        &DSP_MIN_MS,
        &DSP_NETWORK_MS,
        &ASKED_MAX,
    ],
    sections: &[&SCHAIN],
};

pub(super) const ASI: Key<Domain> =
    key("asi", Required("\"exchange.example\""), Domain, "Our advertising system's domain.");
pub(super) const SID: Key<Text> =
    key("sid", Required("\"publisher-1\""), Text { max: 64 }, "Who the sender of the request is, in our sellers.json.");
pub(super) const SCHAIN_NAME: Key<Text> =
    key("name", Unset("\"Publisher One\""), Text { max: limits::RECORD_TEXT_MAX }, "The sender's name.");
pub(super) const SCHAIN_DOMAIN: Key<Domain> =
    key("domain", Unset("\"publisher.example\""), Domain, "The sender's domain.");

const SCHAIN: Section = Section {
    name: "schain",
    path: "auction.schain",
    shape: Shape::Optional,
    meaning: "Our node of the supply chain. Without it no chain is passed on.",
    keys: &[&ASI, &SID, &SCHAIN_NAME, &SCHAIN_DOMAIN],
    sections: &[],
};

// --- [record] ------------------------------------------------------------------------------------

pub(super) const BID_BYTES: Key<Whole> = key(
    "bid_bytes",
    Number(limits::RECORD_BID_BYTES_DEFAULT as u64),
    bytes(0, limits::RECORD_BID_BYTES_MAX),
    "Room in an auction's record for the bids of one DSP on one impression; its bids beyond that are not looked at, but \
     always the first.",
);

pub(super) const DURABILITY: Key<Choice<Durability>> = key(
    "durability",
    Toml("\"process\""),
    Choice(&[("process", Durability::Process), ("power", Durability::Power), ("none", Durability::None)]),
    "What a record survives: any death of the process (a power cut takes the last commit_ms), or power: a power cut too, \
     and each answer waits for the disk; none keeps no records, for measuring.",
);
pub(super) const COMMIT_MS: Key<Whole> = key(
    "commit_ms",
    Number(20),
    ms(1, 10_000),
    "What is recorded goes to the disk this often; with durability \"power\" as fast as the disk takes it.",
);
pub(super) const BOX_BYTES: Key<Whole> = key(
    "box_bytes",
    Number(limits::BOX_BYTES_DEFAULT),
    Whole { min: limits::BOX_BYTES_MIN, max: limits::BOX_BYTES_MAX, unit: "bytes" },
    "Shared memory in which each bidder core's records wait for the disk, and survive the process; some 12 KB of it are \
     promised to each auction in flight.",
);
pub(super) const BOX_DIR: Key<Dir> = key(
    "box_dir",
    Unset("\"/run/outcry\""),
    Dir,
    "Where black boxes are, a tmpfs that outlives the process; unset: the service's runtime directory, else /dev/shm.",
);
pub(super) const SEGMENT_BYTES: Key<Whole> = key(
    "segment_bytes",
    Number(256 << 20),
    Whole { min: limits::SEGMENT_BYTES_MIN, max: 16 << 30, unit: "bytes" },
    "Size of a journal's file; one more is always made in advance.",
);
pub(super) const KEEP_DAYS: Key<Whole> =
    key("keep_days", Number(7), count(1, 36_500), "Records older than this may go, whole files at a time.");
pub(super) const KEEP_BYTES: Key<Whole> = key(
    "keep_bytes",
    Number(64 << 30),
    Whole { min: limits::SEGMENT_BYTES_MIN, max: 1 << 50, unit: "bytes" },
    "Above this the oldest records go whatever their age; a disk that is smaller lowers it, with a warning.",
);

pub(super) const WAIT_FOR_TIERS: Key<Flag> = key(
    "wait_for_tiers",
    Toml("false"),
    Flag,
    "Nothing goes that `outcry tiers export` has not brought to a store, whatever its age and keep_bytes: without exports the \
     disk fills up.",
);

const RECORD: Section = Section {
    name: "record",
    path: "record",
    shape: Shape::Once,
    meaning: "What is kept of each auction, in state_dir/journal.",
    keys: &[
        &BID_BYTES,
        &DURABILITY,
        &COMMIT_MS,
        &BOX_BYTES,
        &BOX_DIR,
        &SEGMENT_BYTES,
        &KEEP_DAYS,
        &KEEP_BYTES,
        &WAIT_FOR_TIERS,
    ],
    sections: &[],
};

// --- [raw] ---------------------------------------------------------------------------------------

pub(super) const RAW_ONE_IN: Key<Whole> = key(
    "one_in",
    Number(0),
    count(0, 1_000_000_000),
    "Of so many auctions the request, every DSP's answer and our own are kept as they came: 0 none, 1 all, 1000 one in a \
     thousand. The only key here that a reload may change.",
);
pub(super) const RAW_KEEP_DAYS: Key<Whole> =
    key("keep_days", Number(7), count(1, 36_500), "Files that are older are removed.");
pub(super) const RAW_KEEP_BYTES: Key<Whole> = key(
    "keep_bytes",
    Number(16 << 30),
    Whole { min: limits::RAW_KEEP_BYTES_MIN, max: 1 << 50, unit: "bytes" },
    "Above this the oldest files are removed whatever their age; earlier where the journal needs the room.",
);
pub(super) const RAW_KEEPS_PERSONAL_DATA: Key<Flag> = key(
    "keeps_personal_data",
    Toml("false"),
    Flag,
    "true keeps ids, addresses and places of people as they came, in files that many can read later: know the law that \
     lets you. false replaces them.",
);

const RAW: Section = Section {
    name: "raw",
    path: "raw",
    shape: Shape::Once,
    meaning: "Whole requests and answers of some auctions, in state_dir/raw, as gzip files of JSON lines.",
    keys: &[&RAW_ONE_IN, &RAW_KEEP_DAYS, &RAW_KEEP_BYTES, &RAW_KEEPS_PERSONAL_DATA],
    sections: &[],
};

// --- [budget] ------------------------------------------------------------------------------------

pub(super) const BUDGET_FILE: Key<Dir> = key(
    "file",
    Unset("\"/etc/outcry/budgets.toml\""),
    Dir,
    "Advertisers and campaigns with their budgets, read at the start and at each reload. Accounts that it does not name stay as \
     they are.",
);
pub(super) const BUDGET_ACCOUNTS: Key<Whole> = key(
    "accounts",
    Number(limits::BUDGET_ACCOUNTS_DEFAULT as u64),
    count(limits::BUDGET_ACCOUNTS_MIN, limits::ACCOUNTS_MAX),
    "Campaigns that each core has room for, 285 bytes each; at a start with more, for those and a tenth. Those added beyond \
     that wait for a restart: until then their bids are refused.",
);

const BUDGET: Section = Section {
    name: "budget",
    path: "budget",
    shape: Shape::Once,
    meaning: "Budgets. They are kept in state_dir/ledger.redb and changed by `outcry budget` or by this file.",
    keys: &[&BUDGET_FILE, &BUDGET_ACCOUNTS],
    sections: &[],
};

// --- [dns] ---------------------------------------------------------------------------------------

pub(super) const DNS_SERVERS: Key<List<Socket>> = key(
    "servers",
    Toml("[]"),
    List { item: Socket, count: 0..=3 },
    "Name servers, address and port, instead of those in /etc/resolv.conf, which is read anew with every question, as is /etc/hosts.",
);
pub(super) const DNS_LEAST_S: Key<Whole> = key(
    "ttl_min_s",
    Number(5),
    Whole { min: 1, max: 3_600, unit: "seconds" },
    "A name is looked up again when its time to live is over, not before this; one that cannot be keeps its addresses and is tried \
     again after this, ever later.",
);
pub(super) const DNS_MOST_S: Key<Whole> = key(
    "ttl_max_s",
    Number(300),
    Whole { min: 1, max: 86_400, unit: "seconds" },
    "And at the latest after this, whatever its time to live.",
);

const DNS: Section = Section {
    name: "dns",
    path: "dns",
    shape: Shape::Once,
    meaning: "How names of DSPs and of hosts that take notices are looked up, on a thread of its own.",
    keys: &[&DNS_SERVERS, &DNS_LEAST_S, &DNS_MOST_S],
    sections: &[],
};

// --- [rates] -------------------------------------------------------------------------------------

pub(super) const RATES_ID: Key<Text> = key(
    "id",
    Toml("\"built-in\""),
    Text { max: 64 },
    "Names this table in records; take the date, 2026-11-21 or 2026-11-21.2.",
);
pub(super) const ACCOUNTING: Key<CurrencyCode> =
    key("accounting", Toml("\"USD\""), CurrencyCode, "The currency in which bids are compared and charges are kept.");
pub(super) const TABLE: Key<Rates> = key(
    "table",
    Derived("the accounting currency alone at 1", "{ USD = 1 }"),
    Rates,
    "What one unit of each currency is worth in the accounting currency; nine decimals count.",
);

const RATES: Section = Section {
    name: "rates",
    path: "rates",
    shape: Shape::Once,
    meaning: "Dated exchange rates. A currency without a rate is neither asked for nor taken.",
    keys: &[&RATES_ID, &ACCOUNTING, &TABLE],
    sections: &[],
};

// --- [[exchange]] --------------------------------------------------------------------------------

pub(super) const EXCHANGE_NAME: Key<Name> =
    key("name", Required("\"default\""), Name, "Its name in metrics and records; survives reloads.");
pub(super) const PATH: Key<UrlPath> =
    key("path", Required("\"/openrtb2/auction\""), UrlPath, "Where it posts its requests.");
pub(super) const POSITION: Key<Choice<Position>> = key(
    "position",
    Toml("\"last_auction\""),
    Choice(&[("last_auction", Position::LastAuction), ("intermediate", Position::Intermediate)]),
    "Are we the last auction before the impression? intermediate leaves price macros for the notice.",
);
pub(super) const NO_BID: Key<Choice<NoBidStyle>> = key(
    "no_bid",
    Toml("\"204\""),
    Choice(&[("204", NoBidStyle::Status204), ("nbr", NoBidStyle::Nbr)]),
    "How it wants to hear \"no bid\": an empty 204, or a 200 with nbr.",
);
pub(super) const EXCHANGE_CURRENCIES: Key<List<CurrencyCode>> = key(
    "currencies",
    Derived("the accounting currency alone", "[\"USD\"]"),
    List { item: CurrencyCode, count: 1..=LIST_MAX },
    "Currencies it takes when a request names none; the first is preferred.",
);
pub(super) const EXPECTED_EXP_S: Key<Whole> = key(
    "expected_exp_s",
    Number(0),
    Whole { min: 0, max: 7 * 86_400, unit: "seconds" },
    "Time between auction and impression where a request does not say; bids with a shorter exp are dropped. 0: off.",
);
pub(super) const REQUIRE_CRID: Key<Flag> = key("require_crid", Toml("false"), Flag, "Refuse bids without crid.");
pub(super) const REQUIRE_ADOMAIN: Key<Flag> =
    key("require_adomain", Toml("false"), Flag, "Refuse bids without adomain.");
pub(super) const EXCHANGE_NOTICES: Key<Choice<Wrapping>> = key(
    "notices",
    Derived("wrap where notices.url is set, else pass", "\"pass\""),
    Choice(&[("pass", Wrapping::Pass), ("wrap", Wrapping::Wrap), ("wrap_or_refuse", Wrapping::WrapOrRefuse)]),
    "Whose notice URLs its answers carry: pass the DSP's, wrap ours around it; where that cannot be, because it is too long, \
     at none of the DSP's notice_hosts or not in the way that is said there, wrap lets it pass and wrap_or_refuse refuses the bid.",
);

pub(super) const MARKUP: Key<Choice<Markup>> = key(
    "markup",
    Toml("\"pass\""),
    Choice(&[("pass", Markup::Pass), ("fetch", Markup::Fetch)]),
    "A bid without adm has its markup behind its nurl: pass that on, or fetch it for the winner, from a host of notice_hosts and \
     within notices.markup_ms, and answer with the markup. What cannot be fetched is passed on.",
);
pub(super) const SETTLE: Key<Choice<Settle>> = key(
    "settle",
    Toml("\"auction\""),
    Choice(&[("auction", Settle::Auction), ("notice", Settle::Notice)]),
    "When a winner is charged: at the auction, or when its billing notice (burl) comes within notices.life_s. What is held for one \
     that does not come goes home a minute later. With notice every bid carries a burl of ours, and its DSP's own URLs are \
     wrapped or the bid is refused, whatever notices says.",
);

/// A sender of requests.
pub(super) const EXCHANGE: Section = Section {
    name: "exchange",
    path: "exchange",
    shape: Shape::Many(limits::EXCHANGES_MAX),
    meaning: "A sender of requests; repeat the section for each. With none in the file, this one is there.",
    keys: &[
        &EXCHANGE_NAME,
        &PATH,
        &POSITION,
        &NO_BID,
        &EXCHANGE_CURRENCIES,
        &EXPECTED_EXP_S,
        &REQUIRE_CRID,
        &REQUIRE_ADOMAIN,
        &EXCHANGE_NOTICES,
        &MARKUP,
        &SETTLE,
    ],
    sections: &[],
};

/// The whole file.
pub(super) static FILE: Section = Section {
    name: "",
    path: "",
    shape: Shape::Once,
    meaning: "Outcry's configuration: every key with its default. All keys may be left out but those of [[dsp]].",
    keys: &[&NODE, &REGION, &STATE_DIR, &LISTEN, &ADMIN, &IO_DRIVER, &STOP_MS],
    sections: &[
        &CPUS, &HTTP, &AUCTION, &RECORD, &RAW, &BUDGET, &NOTICES, &KAFKA, &DNS, &RATES, &EXCHANGE, &DSP, &HOUSE,
    ],
};

const _: () = assert!(Currency::USD.0[0] == b'U', "the fallbacks of `rates` and `currencies` say USD");
