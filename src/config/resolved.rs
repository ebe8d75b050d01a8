//! What may run: every value in range, every name unique, every cross-field rule kept.
//! Owns: plain data. Never: refers to a file, a line or a default; that is over when one of these exists.
use crate::{
    budget::core::Unbudgeted,
    notice::target::Host,
    openrtb::request::Media,
    units::{Cpm, Currency, Rate, mix},
};
use std::{net::SocketAddr, path::PathBuf};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Counts up with every accepted reload; 1 at the start. Stands in each decision record.
    pub id: u64,
    /// XXH3 of the file's text ([`crate::record::digest`]). Stands in each decision record.
    pub hash: u64,
    /// Where we are, for records: auctions of several regions are told apart by it.
    pub region: String,
    /// This machine in event ids; `None`: generated once and kept in `state_dir`.
    pub node: Option<u32>,
    /// Where the node id and the epoch are kept.
    pub state_dir: PathBuf,
    /// A tmpfs for the black boxes; `None`: the runtime directory if it is one, else /dev/shm.
    pub box_dir: Option<PathBuf>,
    /// Where OpenRTB requests come in; every bidder core listens on it.
    pub listen: SocketAddr,
    /// Where metrics, health and readiness are answered.
    pub admin: SocketAddr,
    /// Which CPUs do what.
    pub cpus: Cpus,
    /// What carries the bytes.
    pub io_driver: IoDriver,
    /// Longest time that auctions in flight have at a stop, in milliseconds.
    pub stop_ms: u64,
    /// Limits of the HTTP server side.
    pub http: Http,
    /// Rules of all auctions.
    pub auction: AuctionRules,
    /// What is kept of each auction.
    pub record: RecordRules,
    /// Whose requests and answers are kept whole.
    pub raw: RawRules,
    /// Where budgets come from.
    pub budget: BudgetRules,
    /// How wins and losses are told.
    pub notices: NoticeRules,
    /// Where the record goes besides this machine's disk; `None`: nowhere.
    pub kafka: Option<super::kafka::KafkaRules>,
    /// How names are looked up.
    pub dns: DnsRules,
    /// Rates against the accounting currency.
    pub rates: RateTable,
    /// Who sends requests; at least one.
    pub exchanges: Vec<Exchange>,
    /// Who is asked for bids.
    pub dsps: Vec<Dsp>,
    /// What is answered where nobody wins.
    pub house: Vec<HouseAd>,
}

/// Which CPUs do what; `None` and empty mean "from the topology".
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cpus {
    /// CPUs of the bidder cores, one thread each.
    pub bidders: Vec<usize>,
    /// Or only how many.
    pub bidder_count: Option<usize>,
    /// CPU of the flush core.
    pub flush: Option<usize>,
    /// CPUs of the control thread and of libraries' threads.
    pub control: Vec<usize>,
}

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IoDriver {
    /// io_uring, or epoll with a loud warning where it is forbidden.
    #[default]
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll, for comparison.
    Epoll,
}

/// Limits of the HTTP server side. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Longest head of a request.
    pub head_bytes: usize,
    /// Longest body of a request, inflated.
    pub body_bytes: usize,
    /// A connection without a request in progress is closed after this.
    pub idle_ms: u64,
    /// A head or a body that is not whole after this: 408.
    pub slow_ms: u64,
    /// An answer the client does not take within this: the connection is closed.
    pub write_ms: u64,
    /// Connections of one core.
    pub connections: usize,
    /// Auctions in flight on one core.
    pub auctions: usize,
    /// Answers below this many bytes are not compressed even if the client accepts gzip.
    pub gzip_min_bytes: usize,
}

/// What is kept of each auction, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRules {
    /// Room for the bids of one DSP on one impression, in bytes.
    pub bid_bytes: usize,
    /// What a record survives.
    pub durability: Durability,
    /// What is recorded goes to the disk this often, milliseconds.
    pub commit_ms: u64,
    /// Bytes of each core's black box.
    pub box_bytes: u64,
    /// Bytes of a segment of the journal.
    pub segment_bytes: u64,
    /// Days after which a segment goes.
    pub keep_days: u64,
    /// Bytes of all segments above which the oldest goes.
    pub keep_bytes: u64,
    /// Nothing goes before it is in a store.
    pub wait_for_tiers: bool,
}

/// What a record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Nothing: none is kept.
    None,
    /// Any death of the process, from before the answer is sent. A power cut takes what was not committed.
    #[default]
    Process,
    /// A power cut too: the answer waits until its record is on disk.
    Power,
}

/// Which auctions' requests and answers are kept whole, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRules {
    /// One auction in so many; 0: none.
    pub one_in: u64,
    /// Days after which a file goes.
    pub keep_days: u64,
    /// Bytes of all files above which the oldest goes.
    pub keep_bytes: u64,
    /// Ids, addresses and places of people stay as they came.
    pub keeps_personal_data: bool,
}

impl Config {
    /// DSPs that are asked or told whatever their certificate says.
    pub fn unverified(&self) -> impl Iterator<Item = &Dsp> {
        let anybody = |rules: &Option<TlsRules>| *rules == Some(TlsRules::Anybody);
        self.dsps.iter().filter(move |d| anybody(&d.tls) || anybody(&d.notice_tls))
    }

    /// Connections of one core to DSPs at most: for requests, and to those hosts that take notices if any are told.
    pub fn dsp_connections(&self) -> usize {
        let requests: usize = self.dsps.iter().map(|d| d.connections).sum();
        let hosts: usize = self.dsps.iter().map(|d| d.notice_hosts.len()).sum();
        let hosts = hosts + self.notices.peers.len();
        requests + if self.notices.url.is_some() { hosts * self.notices.connections } else { 0 }
    }
}

impl RawRules {
    /// Is the auction with this entropy one of them? Request and answers are together: the auction is chosen, not the message.
    #[inline]
    pub fn chooses(&self, entropy: u64) -> bool {
        // Mixed once more: what is chosen must not depend on the bits that break ties.
        self.one_in != 0 && mix(entropy ^ RAW_STREAM).is_multiple_of(self.one_in)
    }
}

/// Tells the choice of auctions from what else is drawn from their entropy.
const RAW_STREAM: u64 = 0x7261_7700;

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRules {
    /// Name servers; none: those in /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// When names are looked up again.
    pub times: crate::names::table::Rules,
}

/// Where budgets come from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BudgetRules {
    /// Read at the start and at each reload ([`crate::config::budgets`]).
    pub file: Option<PathBuf>,
    /// Campaigns that each core has room for at least.
    pub accounts: usize,
}

/// How exchanges and browsers tell us what became of our answers, and how we tell DSPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRules {
    /// What our notice URLs begin with, up to `/notice/`; `None`: DSPs' own go out.
    pub url: Option<String>,
    /// Where the keys are that sign them; `None`: in `state_dir`, made at the first start.
    pub keys: Option<PathBuf>,
    /// A notice that comes so long after its auction is not charged, seconds.
    pub life_s: u32,
    /// Auctions whose notices can be told apart within that time.
    pub auctions: usize,
    /// A DSP's answer to a notice is waited for so long, milliseconds.
    pub timeout_ms: u64,
    /// Connections of one core to one host that takes notices.
    pub connections: usize,
    /// A DSP that cannot be told is tried again for so long, seconds.
    pub retry_s: u32,
    /// What is known of them is written down this often, milliseconds.
    pub checkpoint_ms: u64,
    /// What a DSP whose bid lost here is told.
    pub losses: Losses,
    /// What a notice's caller says of the device goes on to its DSP.
    pub device_headers: bool,
    /// Markup behind a `nurl` is waited for so long, milliseconds, where an exchange has it fetched.
    pub markup_ms: u64,
    /// Other servers, by their nodes: where they take notices.
    pub peers: Vec<(u32, (String, u16))>,
}

/// What a DSP whose bid lost here is told, at the bid's `lurl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Losses {
    /// Nothing.
    Off,
    /// Why it lost.
    #[default]
    Reason,
    /// That, and who lost by price what would have tied the winner.
    MinToWin,
}

/// Rules of all auctions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuctionRules {
    /// Added to the runner-up in a second-price auction, in the accounting currency.
    pub increment: Cpm,
    /// Who may set the price that a winner pays.
    pub runner_up: RunnerUp,
    /// `tmax` of a request that has none, milliseconds.
    pub tmax_default_ms: u32,
    /// No request gets longer, milliseconds.
    pub tmax_max_ms: u32,
    /// What the way back to the exchange takes, milliseconds; off every deadline.
    pub network_ms: u32,
    /// What our own answer takes, milliseconds; off every deadline.
    pub answer_ms: u32,
    /// Most that DSPs get, milliseconds.
    pub dsp_ms: u32,
    /// DSPs are not asked with less than this left, milliseconds.
    pub dsp_min_ms: u32,
    /// What the way from a DSP to us takes, milliseconds: its `tmax` is told truthfully.
    pub dsp_network_ms: u32,
    /// DSPs asked in one auction at most.
    pub asked_max: usize,
    /// Our node of the supply chain; `None`: no chain is passed on.
    pub schain: Option<SchainNode>,
}

/// Who may set the price that a winner pays: never the winner itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RunnerUp {
    /// A bid of another DSP.
    #[default]
    OtherDsp,
    /// A bid of another seat, of the same DSP too.
    OtherSeat,
}

/// Our node of the supply chain (`asi`, `sid` required; `hp` is 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchainNode {
    /// Our advertising system's domain.
    pub asi: String,
    /// Who the sender of the request is, in our sellers.json; at most 64 characters.
    pub sid: String,
    /// `name`, optional.
    pub name: Option<String>,
    /// `domain`, optional.
    pub domain: Option<String>,
}

/// Dated exchange rates against the accounting currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateTable {
    /// Names this table in records: the date, `2026-11-21` or `2026-11-21.2`.
    pub id: String,
    /// Floors, prices and charges are compared and kept in it.
    pub accounting: Currency,
    /// Sorted by currency; the accounting currency is in it at [`Rate::ONE`].
    pub rates: Vec<(Currency, Rate)>,
}

impl RateTable {
    /// What one unit of `currency` is worth.
    pub fn rate(&self, currency: Currency) -> Option<Rate> {
        if currency == self.accounting {
            return Some(Rate::ONE);
        }
        self.rates.binary_search_by_key(&currency, |r| r.0).ok().map(|i| self.rates[i].1)
    }
}

/// A sender of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name in metrics and records; survives reloads.
    pub name: String,
    /// The path its requests are posted to: `/openrtb2/auction`.
    pub path: String,
    /// Are we the last auction before the impression?
    pub position: Position,
    /// How it wants to hear "no bid".
    pub no_bid: NoBidStyle,
    /// Currencies it takes when a request names none; the first is preferred.
    pub currencies: Vec<Currency>,
    /// Seconds between auction and impression that are expected when a request does not say (`imp.exp`); a bid whose
    /// `exp` is shorter is dropped. 0: not checked.
    pub expected_exp_s: u32,
    /// Refuse bids without `crid`.
    pub require_crid: bool,
    /// Refuse bids without `adomain`.
    pub require_adomain: bool,
    /// Whose notice URLs its answers carry.
    pub notices: Wrapping,
    /// What becomes of markup behind a `nurl`.
    pub markup: Markup,
    /// When a winner is charged.
    pub settle: Settle,
}

/// What becomes of a bid without `adm`, whose markup is what its `nurl` answers (section 4.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Markup {
    /// The `nurl` goes out as it is.
    #[default]
    Pass,
    /// The winner's is fetched and stands in our answer; what cannot be fetched in time is passed.
    Fetch,
}

/// Whose notice URLs an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Wrapping {
    /// The DSP's, their macros filled.
    #[default]
    Pass,
    /// Ours, which carry the DSP's; where one cannot be carried, the DSP's.
    Wrap,
    /// Ours; a bid with one that cannot be carried is refused.
    WrapOrRefuse,
}

/// When a winner is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Settle {
    /// When the auction is won.
    #[default]
    Auction,
    /// When its billing notice comes (`burl`); what is held for one that does not come goes home.
    Notice,
}

/// Where we stand between buyer and impression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Position {
    /// All macros are filled now.
    #[default]
    LastAuction,
    /// Price macros stay for the notice.
    Intermediate,
}

/// How an exchange wants to hear "no bid".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NoBidStyle {
    /// An empty 204.
    #[default]
    Status204,
    /// A 200 with `nbr`.
    Nbr,
}

/// A DSP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dsp {
    /// Its name in metrics, records and `buyeruids`; survives reloads.
    pub name: String,
    /// Host of its endpoint: a name or an address.
    pub host: String,
    /// Port of its endpoint.
    pub port: u16,
    /// Path and query of its endpoint.
    pub path: String,
    /// How it is reached by TLS; `None`: it is not.
    pub tls: Option<TlsRules>,
    /// Headers sent with every request besides ours: (name, value).
    pub headers: Vec<(String, String)>,
    /// What it buys.
    pub media: Media,
    /// Seats it may bid for; empty: any. Offered as `wseat` where the request has none.
    pub seats: Vec<String>,
    /// Currencies it may bid in; empty: any that has a rate. Offered as `cur`.
    pub currencies: Vec<Currency>,
    /// What else it states it buys.
    pub buys: crate::dsp::targets::Buys,
    /// Requests a second that all cores together send it at most; `None`: any number.
    pub qps: Option<u64>,
    /// Most that it gets, milliseconds; never above `auction.dsp_ms`.
    pub timeout_ms: u32,
    /// Connections of one core made before the first auction.
    pub warm: usize,
    /// Connections of one core at most.
    pub connections: usize,
    /// An idle connection is closed after this, milliseconds.
    pub idle_ms: u64,
    /// When it is not asked, and when less.
    pub health: crate::dsp::health::Rules,
    /// Offer it gzip for its answers.
    pub gzip: bool,
    /// Longest answer, inflated.
    pub answer_bytes: usize,
    /// Which of the user's ids it may see.
    pub buyeruid: BuyerUid,
    /// What is done with its bids that name no account; `None`: they are allowed until an account names it.
    pub unbudgeted: Option<Unbudgeted>,
    /// The account that pays them.
    pub default_account: Option<String>,
    /// Where it takes notices.
    pub notice_hosts: Vec<Host>,
    /// How those of them are reached that are reached by TLS; `None`: none is.
    pub notice_tls: Option<TlsRules>,
    /// Where the keys are under which it reads prices; `None`: it reads them plain.
    pub price_keys: Option<PathBuf>,
    /// Its bids above this, in the accounting currency, are not believed.
    pub price_max: Option<Cpm>,
}

/// An ad of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HouseAd {
    /// Its `crid`.
    pub crid: String,
    /// What it is.
    pub media: Media,
    /// `w` and `h`, 0 when not said.
    pub size: (u32, u32),
    /// `dur`, 0 when not said.
    pub duration_s: u32,
    /// `adm`
    pub adm: String,
    /// `adomain`
    pub adomain: Vec<String>,
    /// Not answered where the floor is above this, in the accounting currency.
    pub max_price: Cpm,
    /// When it is answered.
    pub when: HouseWhen,
}

/// When a house ad is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HouseWhen {
    /// Whenever nobody wins anything of a request.
    #[default]
    NoWinner,
    /// Then, and only while demand is far below what it usually is.
    Alert,
}

/// Whom a DSP's certificate has to be from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TlsRules {
    /// One of the system's authorities.
    System,
    /// One of those in this file, PEM.
    File(PathBuf),
    /// Anybody: the connection is encrypted, and to whom is not known.
    Anybody,
}

/// Which `user.buyeruid` a DSP sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BuyerUid {
    /// Only the one that the request's `buyeruids` map holds under its name.
    #[default]
    Map,
    /// That, else the request's own `user.buyeruid`: for a DSP whose ids the sender keeps there.
    Request,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_auction_in_so_many_is_chosen() {
        for (one_in, least, most) in [(0, 0, 0), (1, 10_000, 10_000), (2, 4_800, 5_200), (100, 60, 140)] {
            let rules = RawRules { one_in, keep_days: 7, keep_bytes: 0, keeps_personal_data: false };
            let chosen = (0..10_000).filter(|seq| rules.chooses(mix(7 ^ mix(*seq)))).count();
            assert!((least..=most).contains(&chosen), "one in {one_in}: {chosen} of 10000");
        }
    }
}
