//! The view of a bid request (OpenRTB 2.6 section 3.2; 2.5 locations understood).
//! Owns: positions and numbers; the bytes stay with the auction. Runs on: each bidder core, pooled.
//! Called by: `bidder/flight`. Never: allocates once its vectors have grown to what requests need.
use super::text::{Span, Text};
use crate::units::{Cpm, Currency, Multiplier};

/// A run of elements in one of the view's flat vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Run {
    /// First element.
    pub at: u16,
    /// Elements.
    pub len: u16,
}

impl Run {
    /// The elements.
    pub fn of<T>(self, all: &[T]) -> &[T] {
        all.get(self.at as usize..self.at as usize + self.len as usize).unwrap_or(&[])
    }
}

/// Where the inventory is: at most one of the three objects (section 3.2.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Channel {
    /// None of them given.
    #[default]
    Unknown,
    /// `site`
    Site,
    /// `app`
    App,
    /// `dooh`
    Dooh,
}

impl Channel {
    /// All of them, in order of their discriminants.
    pub const ALL: [Channel; 4] = [Channel::Unknown, Channel::Site, Channel::App, Channel::Dooh];

    /// The one of this discriminant.
    pub fn of(number: u8) -> Option<Channel> {
        Channel::ALL.get(usize::from(number)).copied()
    }

    /// The name of the request's member; `None` if it has none of them.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Channel::Unknown => None,
            Channel::Site => Some("site"),
            Channel::App => Some("app"),
            Channel::Dooh => Some("dooh"),
        }
    }
}

/// A bid request as the exchange needs it. All [`Text`]s and [`Span`]s point into the body it was read from.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The whole object, braces included.
    pub whole: Span,
    /// `id`, required.
    pub id: Text,
    /// `test`: 1 is not billable.
    pub test: bool,
    /// `at`: 1 first price, 2 second price plus (the default), 3 and more by agreement.
    pub at: u32,
    /// `tmax` in milliseconds, network included.
    pub tmax_ms: Option<u32>,
    /// `allimps`
    pub allimps: bool,
    /// `cattax`, 1 when absent.
    pub cattax: u32,
    /// `cur`, allowed currencies, in [`Request::currencies`].
    pub cur: Run,
    /// `wseat` in [`Request::texts`].
    pub wseat: Run,
    /// `bseat` in [`Request::texts`].
    pub bseat: Run,
    /// `bcat` in [`Request::texts`].
    pub bcat: Run,
    /// `acat` in [`Request::texts`].
    pub acat: Run,
    /// `badv` in [`Request::texts`].
    pub badv: Run,
    /// `bapp` in [`Request::texts`].
    pub bapp: Run,
    /// Which of site, app, dooh.
    pub channel: Channel,
    /// `site.domain`, or the like of app and dooh.
    pub domain: Text,
    /// `app.bundle`
    pub bundle: Text,
    /// `site.id`, `app.id`, `dooh.id`
    pub channel_id: Text,
    /// `site.cat`, `app.cat` in [`Request::texts`].
    pub cat: Run,
    /// `site.cattax`, `app.cattax`: the taxonomy of `cat`, 1 when absent.
    pub channel_cattax: u32,
    /// `publisher.id` of site, app or dooh.
    pub publisher_id: Text,
    /// `device.ua`
    pub ua: Text,
    /// `device.ip`
    pub ip: Text,
    /// `device.ipv6`
    pub ipv6: Text,
    /// `device.ifa`
    pub ifa: Text,
    /// `device.geo.country`, alpha-3.
    pub country: Text,
    /// `device.devicetype`, 0 when absent.
    pub devicetype: u32,
    /// `device.language`, ISO-639-1.
    pub language: Text,
    /// `device.lmt` is 1.
    pub lmt: bool,
    /// `user.id`
    pub user_id: Text,
    /// `user.buyeruid`: the sender's for its own counterpart, or for nobody in particular.
    pub buyeruid: Text,
    /// `user.consent`, or 2.5's `user.ext.consent`.
    pub consent: Text,
    /// `regs.coppa` is 1.
    pub coppa: bool,
    /// `regs.gdpr`, or 2.5's `regs.ext.gdpr`.
    pub gdpr: Option<bool>,
    /// `regs.us_privacy`, or 2.5's `regs.ext.us_privacy`.
    pub us_privacy: Text,
    /// `regs.gpp`
    pub gpp: Text,
    /// `source.tid`
    pub tid: Text,
    /// `source.fd` is 1: the upstream decides.
    pub fd: bool,
    /// Where the values stand that are edited before a DSP sees the request.
    pub anchors: Anchors,
    /// `imp[]`, at least one.
    pub imps: Vec<Imp>,
    /// Every deal of every impression.
    pub deals: Vec<Deal>,
    /// Every size of every banner: of `format[]` and of the banner's own `w`, `h`.
    pub sizes: Vec<(u32, u32)>,
    /// Every string of every list.
    pub texts: Vec<Text>,
    /// Every number of every list (`battr`, ...).
    pub numbers: Vec<u32>,
    /// Every currency of `cur`.
    pub currencies: Vec<Currency>,
    /// `user.ext.prebid.buyeruids` (or `user.ext.buyeruids`): DSP name and its id of the user.
    pub buyeruids: Vec<(Text, Text)>,
}

/// The stretches of the request that [`super::splice`] may replace. A member's span covers key, colon and value,
/// commas excluded; an empty span means the member is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Anchors {
    /// Member `tmax`.
    pub tmax: Span,
    /// Member `wseat`.
    pub wseat: Span,
    /// Member `bseat`.
    pub bseat: Span,
    /// Member `cur`.
    pub cur: Span,
    /// The value of `imp`, brackets included.
    pub imp: Span,
    /// The value of `source`, braces included.
    pub source: Span,
    /// The value of `source.ext`.
    pub source_ext: Span,
    /// Member `schain` where it was found (`source.schain`, `source.ext.schain`, `ext.schain`).
    pub schain: Span,
    /// The value of that schain's `nodes`, brackets included.
    pub schain_nodes: Span,
    /// Which of the three places `schain` was found in; the first of them counts where there are several.
    pub schain_place: SchainPlace,
    /// Members `schain` in the other places: never forwarded.
    pub schain_spare: [Span; 2],
    /// The value of `user`, braces included.
    pub user: Span,
    /// Member `user.buyeruid`.
    pub buyeruid: Span,
    /// Member `buyeruids` of `user.ext.prebid`: never forwarded.
    pub buyeruids: Span,
    /// Member `buyeruids` of `user.ext`: never forwarded.
    pub buyeruids_ext: Span,
}

/// Where a request carries its supply chain object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum SchainPlace {
    /// Nowhere.
    #[default]
    Absent,
    /// `source.schain` (2.6)
    Source,
    /// `source.ext.schain` (2.5)
    SourceExt,
    /// `ext.schain` (2.4 and before)
    Ext,
}

/// Media of an impression, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Media(pub u8);

impl Media {
    /// `imp.banner`, `mtype` 1.
    pub const BANNER: Media = Media(1);
    /// `imp.video`, `mtype` 2.
    pub const VIDEO: Media = Media(2);
    /// `imp.audio`, `mtype` 3.
    pub const AUDIO: Media = Media(4);
    /// `imp.native`, `mtype` 4.
    pub const NATIVE: Media = Media(8);
    /// Any of them.
    pub const ALL: Media = Media(15);

    /// Have the two a medium in common?
    pub fn meets(self, other: Media) -> bool {
        self.0 & other.0 != 0
    }

    /// Both together.
    pub fn with(self, other: Media) -> Media {
        Media(self.0 | other.0)
    }

    /// Their names as members of `imp`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all =
            [(Media::BANNER, "banner"), (Media::VIDEO, "video"), (Media::AUDIO, "audio"), (Media::NATIVE, "native")];
        all.into_iter().filter(move |(media, _)| self.meets(*media)).map(|(_, name)| name)
    }

    /// The medium of a bid's `mtype` (section 4.2.3); unknown numbers have none.
    pub fn of_mtype(mtype: u32) -> Option<Media> {
        match mtype {
            1..=4 => Some(Media(1 << (mtype - 1))),
            _ => None,
        }
    }
}

/// Why an impression that is valid is not offered to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum ImpRefusal {
    /// A dynamic or hybrid pod (`poddur` or `maxseq` given): one impression, many bids.
    DynamicPod,
}

/// One impression (section 3.2.4).
#[derive(Clone, Copy, Debug, Default)]
pub struct Imp {
    /// The whole object, braces included, commas excluded.
    pub whole: Span,
    /// `id`, required, unique in the request.
    pub id: Text,
    /// `tagid`
    pub tagid: Text,
    /// Which of banner, video, audio, native are offered.
    pub media: Media,
    /// `bidfloor`, CPM, rounded up; 0 when absent.
    pub bidfloor: Cpm,
    /// `bidfloorcur`, USD when absent.
    pub bidfloorcur: Currency,
    /// `video.ext`-less media floors are not in the standard; `durfloors`/`mincpmpersec` belong to pods. Kept for
    /// media objects that state a `bidfloor` of their own by agreement: (media, floor, currency).
    pub media_floor: Option<(Media, Cpm, Currency)>,
    /// `secure`: https only.
    pub secure: bool,
    /// `instl`
    pub instl: bool,
    /// `rwdd`
    pub rwdd: bool,
    /// `exp` in seconds between auction and impression, 0 when absent.
    pub exp_s: u32,
    /// `qty.multiplier`
    pub qty: Multiplier,
    /// `pmp.private_auction`
    pub private_auction: bool,
    /// `pmp.deals` in [`Request::deals`].
    pub deals: Run,
    /// Banner sizes in [`Request::sizes`]; empty means any.
    pub sizes: Run,
    /// `banner.battr` in [`Request::numbers`]
    pub banner_battr: Run,
    /// `video.battr` in [`Request::numbers`]
    pub video_battr: Run,
    /// `audio.battr` in [`Request::numbers`]
    pub audio_battr: Run,
    /// `native.battr` in [`Request::numbers`]
    pub native_battr: Run,
    /// `video.minduration` and `maxduration` in seconds (audio's when there is no video); 0 when absent.
    pub duration_s: (u32, u32),
    /// Why it is not offered, if it is not.
    pub refused: Option<ImpRefusal>,
}

/// One deal (section 3.2.12).
#[derive(Clone, Copy, Debug, Default)]
pub struct Deal {
    /// `id`, required.
    pub id: Text,
    /// `bidfloor`, rounded up; 0 when absent.
    pub bidfloor: Cpm,
    /// `bidfloorcur`: USD when absent; it does not inherit from the impression.
    pub bidfloorcur: Currency,
    /// `at`: 0 when absent (the request's applies), 3 = `bidfloor` is the agreed price.
    pub at: u32,
    /// `guar`: the bidder must bid; ranks first.
    pub guar: bool,
    /// `wseat` in [`Request::texts`].
    pub wseat: Run,
    /// `wadomain` in [`Request::texts`].
    pub wadomain: Run,
}
