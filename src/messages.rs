//! Every type that crosses a ring: sender, receiver, what losing one costs.
//!
//! | ring             | from    | to      | carries                          | full                                   |
//! |------------------|---------|---------|----------------------------------|----------------------------------------|
//! | [`ToFlush`]      | bidder, raw | flush | a metric delta                 | the thread goes on adding to it        |
//! | [`FromFlush`]    | flush   | bidder, raw | its box, empty; a full disk  | cannot be: there are fewer messages    |
//! | [`ToNotices`]   | flush   | bidder  | a DSP that is to be told; no room for notices | cannot be for calls; flush tries the other again |
//! | [`NoticeCall`]   | bidder  | flush   | what came of telling it          | cannot be: a call that came has its slot |
//! | [`crate::budget::messages::CoreReport`] | bidder | leases | what was spent and is wanted | the core tells it later |
//! | [`crate::budget::messages::CoreGrant`] | leases | bidder | money | the leases keep it and try again |
//! | [`crate::budget::core::DirectoryBatch`] | leases | bidder | names of accounts; empty boxes back | likewise |
//! | bytes of [`crate::record::raw`] | bidder | raw | an auction's requests and answers, whole | it is not kept, and counted |
//! | [`ToCore`]       | control | bidder  | configuration, salt, shares of quotas, addresses, drain | control keeps it and tries again       |
//! | [`FromCore`]     | bidder  | control | ready, drained, old configuration, wanted of quotas | the core keeps it and tries again      |
//! | [`FlushToControl`]| flush  | control | totals of all cores              | the next second's say the same and more|
//! | [`ControlToFlush`]| control| flush   | the totals' box back; a new configuration; notes on money; DSPs to be told once more; stop | control keeps it and tries again |
//!
//! `raw` is the thread that keeps requests and answers whole. What is boxed is made once and goes back and forth; a ring slot
//! stays within a cache line's quarter.
use crate::{
    budget::{core::Policy, event::Notes},
    config::Config,
    dsp::quota::Shares,
    notice::{keys::Keys, outbox::Answer, sealed::Seal, target::Host, told::Name},
    record::{configured::Configured, metrics::CoreMetrics, stopped::Why, totals::Totals, user::Salt},
    units::DspIx,
};
use std::net::{IpAddr, SocketAddr};

/// From a bidder core to flush, polled each turn of flush.
#[derive(Debug)]
pub enum ToFlush {
    /// What the core counted since the last one. Lost (the process dies): up to a second of metrics, *final*; the
    /// counts themselves are in the decision records. Ring full: nothing lost, the core goes on adding to the box.
    Metrics(Box<CoreMetrics>),
}

/// From flush to a bidder core.
#[derive(Debug)]
pub enum FromFlush {
    /// A box that was merged and reset, levels apart. Lost: the core has no second box any more and its metrics
    /// stand still; *recovered by* nothing, so the ring has room for every box there is.
    Empty(Box<CoreMetrics>),
    /// Is the journal's disk full? Then no auction is begun. Lost: the core goes on until its black box is full, which
    /// says the same later; flush says it again with the next change.
    DiskFull(bool),
}

/// From control to a bidder core.
#[derive(Debug)]
pub enum ToCore {
    /// New auctions use this configuration; those in flight keep theirs. Lost: the core bids by old rules, *final*;
    /// so control keeps it until there is room.
    Snapshot(Box<CoreConfig>),
    /// People are hashed under this from now on. Lost: two days' hashes can be compared with each other; so control keeps
    /// it until there is room.
    Salt(Salt),
    /// Its shares of the DSPs' quotas; the box that [`FromCore::Wanted`] brought. Lost: the shares stay what they are,
    /// *recovered by* nothing, as there is no other box; so control keeps it until there is room.
    Shares(Box<Shares>),
    /// A host has moved: new connections are made to these addresses, those to others are closed as they become idle. Lost: the
    /// core goes on calling the old ones until the next change; so control keeps it until there is room.
    Moved(Box<Moved>),
    /// Stop listening, finish what is in flight, say [`FromCore::Drained`]. Lost: the stop runs into its limit; so
    /// control keeps it until there is room.
    Drain,
}

/// From a bidder core to control. Losing the thread that sends these is noticed too: its end of the ring is gone.
#[derive(Debug)]
pub enum FromCore {
    /// It listens and its pools are warm. Lost: the process never becomes ready, *final*; the core keeps it until
    /// there is room.
    Ready,
    /// A configuration that no auction uses any more; freed by control, as a bidder core does not free megabytes.
    /// Lost: a leak of that size; the core keeps it until there is room.
    Retired(Box<CoreConfig>),
    /// What it wants of DSPs' quotas, and the shares it uses. Lost: as [`ToCore::Shares`]; the core keeps it until there is room.
    Wanted(Box<Shares>),
    /// What a [`ToCore::Moved`] came in, to be freed. Lost: a leak of that size; the core keeps it until there is room.
    Moved(Box<Moved>),
    /// It finished draining and is about to end. Lost: the stop runs into its limit.
    Drained {
        /// Auctions that were given up.
        unfinished: u32,
    },
    /// It panicked and was caught; the process is to go down in order. Lost: noticed by the abandoned ring.
    Panicked,
}

/// From flush to control.
#[derive(Debug)]
pub enum FlushToControl {
    /// Everything since the start. Lost: *recovered by* the next one, a second later.
    Totals(Box<Totals>),
    /// Flush has taken what was in its rings, sent its last totals, and ends. Lost: noticed by the abandoned ring.
    Stopped,
}

/// From control to flush.
#[derive(Debug)]
pub enum ControlToFlush {
    /// The totals' box again. Lost: control sees no newer totals; *recovered by* nothing, so the ring has room for
    /// every box there is and for one `Stop`.
    Empty(Box<Totals>),
    /// A configuration is in force from now on: to be recorded. Lost: the journal does not say when; its auctions name
    /// it all the same.
    Configured(Box<Configured>),
    /// What was changed of accounts and happened to leases: to be recorded. Lost (the process dies): the ledger has it, and so has
    /// the history of each account; the journal does not.
    Noted(Box<Notes>),
    /// DSPs that are to be told of these notices once more, each with its URL. Lost (the process dies): whoever asked asks again.
    Replay(Box<Vec<(Name, Vec<u8>)>>),
    /// Every bidder core has ended: take what is left in the rings and end. Lost: the stop runs into its limit.
    Stop {
        /// Why.
        why: Why,
        /// Auctions that were given up.
        unfinished: u32,
    },
}

/// One core's own copy of all it needs to bid.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreConfig {
    /// What may run.
    pub config: Config,
    /// Where each DSP of `config.dsps` is reached: its name was resolved by control, as a core must not wait for it. All of its addresses, at least one.
    pub dsp_addrs: Vec<Vec<SocketAddr>>,
    /// How each DSP of `config.dsps` that is reached by TLS proves who it is.
    pub dsp_tls: Vec<Option<Tls>>,
    /// Whose word is believed for it; each stands here once.
    pub trusts: Vec<Trust>,
    /// The row of the metrics each DSP of `config.dsps` counts in; rows outlive configurations. Control fills it.
    pub dsp_slots: Vec<DspIx>,
    /// Bidder cores of this machine: quotas are shared among so many.
    pub cores: u16,
    /// What is done with bids of each DSP of `config.dsps` that name no account; the ledger knows the accounts' numbers.
    pub policies: Vec<Policy>,
    /// This start of the process, for event ids.
    pub epoch: u32,
    /// This machine, for event ids.
    pub node: u32,
    /// What each DSP of `config.dsps` reads prices with.
    pub seals: Vec<Option<Seal>>,
    /// What notice URLs of ours need; `None`: there are none.
    pub notices: Option<CoreNotices>,
}

/// A host and its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// As the configuration has it.
    pub host: String,
    /// At least one.
    pub addresses: Vec<IpAddr>,
}

/// What a DSP's certificate has to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The name, or the address, that it is for.
    pub name: String,
    /// Who has to have signed it, of [`CoreConfig::trusts`]; `None`: nobody, it is not looked at.
    pub trust: Option<usize>,
}

/// Authorities, read and parsed by control: a core only takes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// XXH3 of all of them: those that were and those that come are compared by it.
    pub digest: u64,
    /// At least one.
    pub anchors: Vec<Anchor>,
}

/// What is needed of an authority's certificate, each part as it stands there, DER (RFC 5280).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Anchor {
    /// `subject`
    pub subject: Vec<u8>,
    /// `subjectPublicKeyInfo`
    pub key: Vec<u8>,
    /// `NameConstraints`, if it has any.
    pub constraints: Option<Vec<u8>>,
}

/// What a core needs to sign notice URLs, to read them, and to tell DSPs.
#[derive(Clone, Debug, PartialEq)]
pub struct CoreNotices {
    /// What signs them.
    pub keys: Keys,
    /// Where DSPs take notices: every host of `config.dsps`, each once.
    pub hosts: Vec<Host>,
    /// How each of them that is reached by TLS proves who it is; of [`CoreConfig::trusts`].
    pub tls: Vec<Option<Tls>>,
    /// Where each of them is reached: all of its addresses.
    pub addrs: Vec<Vec<SocketAddr>>,
    /// What whoever is there reads prices with.
    pub seals: Vec<Option<Seal>>,
}

/// A DSP that is to be told, on its way to a bidder core and back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoticeCall {
    /// What names it to flush.
    pub slot: u32,
    /// Of which notice.
    pub name: Name,
    /// What is called.
    pub url: Vec<u8>,
    /// What came of it; nothing yet on its way there.
    pub answer: Answer,
}

/// From flush to a bidder core.
#[derive(Debug)]
pub enum ToNotices {
    /// A DSP to be told. Lost (the process dies): *recovered by* the next start, from the journal. There are never more of a core
    /// under way than the ring has slots.
    Call(Box<NoticeCall>),
    /// Is there no room to tell more notices apart? Then none is taken. Lost: some are acknowledged of which nothing follows, and
    /// counted; flush says it again with the next change.
    Full(bool),
}

impl CoreConfig {
    /// The row of the metrics that a DSP of this configuration counts in.
    #[inline]
    pub fn slot(&self, dsp: DspIx) -> DspIx {
        // Out of the rows is the row that all others share.
        self.dsp_slots.get(usize::from(dsp.0)).copied().unwrap_or(DspIx(u16::MAX))
    }
}

const _: () = assert!(size_of::<ToFlush>() <= 8);
const _: () = assert!(size_of::<FromFlush>() <= 16);
const _: () = assert!(size_of::<ToNotices>() <= 16);
const _: () = assert!(size_of::<ToCore>() <= 32);
const _: () = assert!(size_of::<FromCore>() <= 16);
const _: () = assert!(size_of::<FlushToControl>() <= 16);
const _: () = assert!(size_of::<ControlToFlush>() <= 16);
// A delta is some kilobytes of plain integers besides its histograms; it is never moved, only its box is.
const _: () = assert!(size_of::<CoreMetrics>() <= 4096);
