//! What a request must not be: the rules of the standard as a table of fields and a list of faults.
//!
//! A rule is a field and what is wrong with it. Refused is what a conforming exchange cannot read or cannot
//! decide by; unknown fields, unknown enum values and unimportant fields of the wrong type are tolerated.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `parse_request`, `http1` for the answer's body.
//! Never: repeats what the sender wrote: a reason holds nothing but words and numbers from here.
use super::codes::Nbr;
use crate::json;

macro_rules! fields {
    ($($(#[$meta:meta])* $variant:ident = $path:literal, $section:literal;)+) => {
        /// A field that a rule is about; the places of its indexes are `[]`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)] // each is what its path says
        pub enum Field { $($(#[$meta])* $variant),+ }

        impl Field {
            /// Every field that some rule is about.
            pub const ALL: &[Field] = &[$(Field::$variant),+];

            /// Its path, with `[]` where indexes stand.
            pub const fn path(self) -> &'static str {
                match self { $(Field::$variant => $path),+ }
            }

            /// The section of OpenRTB 2.6 (or of Native Ads 1.2) that describes it.
            pub const fn section(self) -> &'static str {
                match self { $(Field::$variant => $section),+ }
            }
        }
    };
}

fields! {
    Request = "", "3.2.1";
    Id = "id", "3.2.1";
    Imps = "imp", "3.2.1";
    Tmax = "tmax", "3.2.1";
    At = "at", "3.2.1";
    Cur = "cur", "3.2.1";
    Wseat = "wseat", "3.2.1";
    Bseat = "bseat", "3.2.1";
    Bcat = "bcat", "3.2.1";
    Acat = "acat", "3.2.1";
    Badv = "badv", "3.2.1";
    Bapp = "bapp", "3.2.1";
    Ext = "ext", "3.2.1";
    Imp = "imp[]", "3.2.4";
    ImpId = "imp[].id", "3.2.4";
    ImpBidfloor = "imp[].bidfloor", "3.2.4";
    ImpBidfloorcur = "imp[].bidfloorcur", "3.2.4";
    ImpExp = "imp[].exp", "3.2.4";
    ImpExt = "imp[].ext", "3.2.4";
    Qty = "imp[].qty", "3.2.31";
    QtyMultiplier = "imp[].qty.multiplier", "3.2.31";
    Banner = "imp[].banner", "3.2.6";
    BannerW = "imp[].banner.w", "3.2.6";
    BannerH = "imp[].banner.h", "3.2.6";
    BannerWmin = "imp[].banner.wmin", "3.2.6";
    BannerWmax = "imp[].banner.wmax", "3.2.6";
    BannerHmin = "imp[].banner.hmin", "3.2.6";
    BannerHmax = "imp[].banner.hmax", "3.2.6";
    BannerBattr = "imp[].banner.battr", "3.2.6";
    BannerBidfloor = "imp[].banner.bidfloor", "3.2.6";
    BannerBidfloorcur = "imp[].banner.bidfloorcur", "3.2.6";
    BannerFormats = "imp[].banner.format", "3.2.6";
    Format = "imp[].banner.format[]", "3.2.10";
    FormatW = "imp[].banner.format[].w", "3.2.10";
    FormatH = "imp[].banner.format[].h", "3.2.10";
    FormatWratio = "imp[].banner.format[].wratio", "3.2.10";
    FormatHratio = "imp[].banner.format[].hratio", "3.2.10";
    FormatWmin = "imp[].banner.format[].wmin", "3.2.10";
    FormatHmin = "imp[].banner.format[].hmin", "3.2.10";
    Video = "imp[].video", "3.2.7";
    VideoMimes = "imp[].video.mimes", "3.2.7";
    VideoMinduration = "imp[].video.minduration", "3.2.7";
    VideoMaxduration = "imp[].video.maxduration", "3.2.7";
    VideoW = "imp[].video.w", "3.2.7";
    VideoH = "imp[].video.h", "3.2.7";
    VideoSequence = "imp[].video.sequence", "3.2.7";
    VideoMaxseq = "imp[].video.maxseq", "3.2.7";
    VideoPoddur = "imp[].video.poddur", "3.2.7";
    VideoSkipmin = "imp[].video.skipmin", "3.2.7";
    VideoSkipafter = "imp[].video.skipafter", "3.2.7";
    VideoMinbitrate = "imp[].video.minbitrate", "3.2.7";
    VideoMaxbitrate = "imp[].video.maxbitrate", "3.2.7";
    VideoBattr = "imp[].video.battr", "3.2.7";
    VideoBidfloor = "imp[].video.bidfloor", "3.2.7";
    VideoBidfloorcur = "imp[].video.bidfloorcur", "3.2.7";
    Audio = "imp[].audio", "3.2.8";
    AudioMimes = "imp[].audio.mimes", "3.2.8";
    AudioMinduration = "imp[].audio.minduration", "3.2.8";
    AudioMaxduration = "imp[].audio.maxduration", "3.2.8";
    AudioSequence = "imp[].audio.sequence", "3.2.8";
    AudioMaxseq = "imp[].audio.maxseq", "3.2.8";
    AudioPoddur = "imp[].audio.poddur", "3.2.8";
    AudioMinbitrate = "imp[].audio.minbitrate", "3.2.8";
    AudioMaxbitrate = "imp[].audio.maxbitrate", "3.2.8";
    AudioBattr = "imp[].audio.battr", "3.2.8";
    AudioBidfloor = "imp[].audio.bidfloor", "3.2.8";
    AudioBidfloorcur = "imp[].audio.bidfloorcur", "3.2.8";
    Native = "imp[].native", "3.2.9";
    NativeBattr = "imp[].native.battr", "3.2.9";
    NativeBidfloor = "imp[].native.bidfloor", "3.2.9";
    NativeBidfloorcur = "imp[].native.bidfloorcur", "3.2.9";
    NativeRequest = "imp[].native.request", "3.2.9";
    NativeContext = "imp[].native.request.context", "Native 1.2, 4.1";
    NativeContextsubtype = "imp[].native.request.contextsubtype", "Native 1.2, 4.1";
    NativePlcmttype = "imp[].native.request.plcmttype", "Native 1.2, 4.1";
    NativePlcmtcnt = "imp[].native.request.plcmtcnt", "Native 1.2, 4.1";
    NativeSeq = "imp[].native.request.seq", "Native 1.2, 4.1";
    NativeAssets = "imp[].native.request.assets", "Native 1.2, 4.1";
    NativeAsset = "imp[].native.request.assets[]", "Native 1.2, 4.2";
    NativeAssetId = "imp[].native.request.assets[].id", "Native 1.2, 4.2";
    NativeTitle = "imp[].native.request.assets[].title", "Native 1.2, 4.3";
    NativeTitleLen = "imp[].native.request.assets[].title.len", "Native 1.2, 4.3";
    NativeImg = "imp[].native.request.assets[].img", "Native 1.2, 4.4";
    NativeImgW = "imp[].native.request.assets[].img.w", "Native 1.2, 4.4";
    NativeImgH = "imp[].native.request.assets[].img.h", "Native 1.2, 4.4";
    NativeImgWmin = "imp[].native.request.assets[].img.wmin", "Native 1.2, 4.4";
    NativeImgHmin = "imp[].native.request.assets[].img.hmin", "Native 1.2, 4.4";
    NativeVideo = "imp[].native.request.assets[].video", "Native 1.2, 4.5";
    NativeVideoMimes = "imp[].native.request.assets[].video.mimes", "Native 1.2, 4.5";
    NativeVideoMinduration = "imp[].native.request.assets[].video.minduration", "Native 1.2, 4.5";
    NativeVideoMaxduration = "imp[].native.request.assets[].video.maxduration", "Native 1.2, 4.5";
    NativeVideoProtocols = "imp[].native.request.assets[].video.protocols", "Native 1.2, 4.5";
    NativeData = "imp[].native.request.assets[].data", "Native 1.2, 4.6";
    NativeDataType = "imp[].native.request.assets[].data.type", "Native 1.2, 4.6";
    NativeDataLen = "imp[].native.request.assets[].data.len", "Native 1.2, 4.6";
    NativeEventtrackers = "imp[].native.request.eventtrackers", "Native 1.2, 4.7";
    NativeEventtracker = "imp[].native.request.eventtrackers[]", "Native 1.2, 4.7";
    NativeEvent = "imp[].native.request.eventtrackers[].event", "Native 1.2, 4.7";
    NativeMethods = "imp[].native.request.eventtrackers[].methods", "Native 1.2, 4.7";
    Pmp = "imp[].pmp", "3.2.11";
    PmpDeals = "imp[].pmp.deals", "3.2.11";
    Deal = "imp[].pmp.deals[]", "3.2.12";
    DealId = "imp[].pmp.deals[].id", "3.2.12";
    DealBidfloor = "imp[].pmp.deals[].bidfloor", "3.2.12";
    DealBidfloorcur = "imp[].pmp.deals[].bidfloorcur", "3.2.12";
    DealAt = "imp[].pmp.deals[].at", "3.2.12";
    DealWseat = "imp[].pmp.deals[].wseat", "3.2.12";
    DealWadomain = "imp[].pmp.deals[].wadomain", "3.2.12";
    Site = "site", "3.2.13";
    SiteExt = "site.ext", "3.2.13";
    SitePublisher = "site.publisher", "3.2.15";
    App = "app", "3.2.14";
    AppExt = "app.ext", "3.2.14";
    AppPublisher = "app.publisher", "3.2.15";
    Dooh = "dooh", "3.2.32";
    DoohExt = "dooh.ext", "3.2.32";
    DoohPublisher = "dooh.publisher", "3.2.15";
    Device = "device", "3.2.18";
    DeviceW = "device.w", "3.2.18";
    DeviceH = "device.h", "3.2.18";
    DevicePpi = "device.ppi", "3.2.18";
    DevicePxratio = "device.pxratio", "3.2.18";
    DeviceExt = "device.ext", "3.2.18";
    DeviceGeo = "device.geo", "3.2.19";
    DeviceGeoAccuracy = "device.geo.accuracy", "3.2.19";
    DeviceGeoLastfix = "device.geo.lastfix", "3.2.19";
    User = "user", "3.2.20";
    UserConsent = "user.consent", "3.2.20";
    UserGeo = "user.geo", "3.2.19";
    UserGeoAccuracy = "user.geo.accuracy", "3.2.19";
    UserGeoLastfix = "user.geo.lastfix", "3.2.19";
    UserExt = "user.ext", "3.2.20";
    UserExtConsent = "user.ext.consent", "3.2.20";
    UserExtPrebid = "user.ext.prebid", "3.2.20";
    UserExtPrebidBuyeruids = "user.ext.prebid.buyeruids", "3.2.20";
    UserExtBuyeruids = "user.ext.buyeruids", "3.2.20";
    Regs = "regs", "3.2.3";
    RegsGdpr = "regs.gdpr", "3.2.3";
    RegsUsPrivacy = "regs.us_privacy", "3.2.3";
    RegsGpp = "regs.gpp", "3.2.3";
    RegsExt = "regs.ext", "3.2.3";
    RegsExtGdpr = "regs.ext.gdpr", "3.2.3";
    RegsExtUsPrivacy = "regs.ext.us_privacy", "3.2.3";
    Source = "source", "3.2.2";
    SourceExt = "source.ext", "3.2.2";
    SourceSchain = "source.schain", "3.2.25";
    SourceExtSchain = "source.ext.schain", "3.2.25";
    ExtSchain = "ext.schain", "3.2.25";
}

/// What is wrong with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Fault {
    /// The text is not JSON at all.
    NotJson(json::Why),
    /// A string that must hold JSON and does not.
    NotJsonInside,
    /// A member that is read stands twice in the object: we and a DSP might read different ones.
    DuplicateKey,
    /// Required and absent, `null` or empty.
    Missing,
    /// A JSON value of another type.
    WrongType,
    /// Below zero.
    Negative,
    /// Zero where a count or a length must stand.
    Zero,
    /// Beyond what is believed.
    TooLarge,
    /// None of the values the standard lists, in a field where that makes the object meaningless.
    NotListed,
    /// Contradicts another field of its object.
    Contradiction,
    /// Not three letters.
    NotACurrency,
    /// Used before in the request.
    NotUnique,
    /// No banner, video, audio or native.
    NoMedia,
    /// More than one of site, app, dooh.
    TwoChannels,
    /// More than one of title, img, video, data.
    TwoKinds,
    /// None of title, img, video, data.
    NoKind,
    /// More than a limit of ours allows.
    TooMany,
}

impl Fault {
    /// What is said to the sender.
    pub const fn message(self) -> &'static str {
        match self {
            Fault::NotJson(why) => why.message(),
            Fault::NotJsonInside => "does not hold JSON",
            Fault::DuplicateKey => "has a member twice",
            Fault::Missing => "is required",
            Fault::WrongType => "has the wrong type",
            Fault::Negative => "must not be negative",
            Fault::Zero => "must be above zero",
            Fault::TooLarge => "is too large",
            Fault::NotListed => "is not a value of the standard",
            Fault::Contradiction => "contradicts another field",
            Fault::NotACurrency => "must be a three-letter currency code",
            Fault::NotUnique => "must be unique",
            Fault::NoMedia => "must have at least one of banner, video, audio, native",
            Fault::TwoChannels => "at most one of site, app, dooh may be given",
            Fault::TwoKinds => "must have only one of title, img, video, data",
            Fault::NoKind => "must have one of title, img, video, data",
            Fault::TooMany => "has more elements than are taken",
        }
    }

    /// A label for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::NotJson(_) => "not_json",
            Fault::NotJsonInside => "not_json_inside",
            Fault::DuplicateKey => "duplicate_key",
            Fault::Missing => "missing",
            Fault::WrongType => "wrong_type",
            Fault::Negative => "negative",
            Fault::Zero => "zero",
            Fault::TooLarge => "too_large",
            Fault::NotListed => "not_listed",
            Fault::Contradiction => "contradiction",
            Fault::NotACurrency => "not_a_currency",
            Fault::NotUnique => "not_unique",
            Fault::NoMedia => "no_media",
            Fault::TwoChannels => "two_channels",
            Fault::TwoKinds | Fault::NoKind => "asset_kind",
            Fault::TooMany => "too_many",
        }
    }
}

/// The rule that a request broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Rule {
    /// Where.
    pub field: Field,
    /// What.
    pub fault: Fault,
}

impl Rule {
    /// The no-bid reason: a request is refused for what it is, so always the same.
    pub const fn nbr(self) -> Nbr {
        Nbr::InvalidRequest
    }
}

/// Why a request is not auctioned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Refusal {
    /// The rule it broke.
    pub rule: Rule,
    /// Offset in the body where that was noticed.
    pub at: u32,
    /// The impression, and the element of a list in it (format, deal, asset); -1 where there is none.
    pub index: [i32; 2],
}

/// Most bytes that [`Refusal::write_reason`] appends.
pub const REASON_BYTES_MAX: usize = 256;

impl Refusal {
    /// Appends a JSON object that names the field and says what is wrong with it, at most [`REASON_BYTES_MAX`]
    /// long: `{"error":"invalid_request","field":"imp[0].video.w","reason":"must not be negative","section":"3.2.7"}`.
    /// For what is not JSON: `{"error":"invalid_json","offset":17,"reason":"..."}`.
    pub fn write_reason(&self, out: &mut Vec<u8>) {
        if let Fault::NotJson(_) = self.rule.fault {
            out.extend_from_slice(b"{\"error\":\"invalid_json\",\"offset\":");
            write_number(u64::from(self.at), out);
        } else {
            out.extend_from_slice(b"{\"error\":\"invalid_request\"");
        }
        if self.rule.field != Field::Request {
            out.extend_from_slice(b",\"field\":\"");
            self.write_field(out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"reason\":\"");
        out.extend_from_slice(self.rule.fault.message().as_bytes());
        out.extend_from_slice(b"\",\"section\":\"");
        out.extend_from_slice(self.rule.field.section().as_bytes());
        out.extend_from_slice(b"\"}");
    }

    /// Appends the field's path with its indexes: `imp[0].pmp.deals[1].id`.
    pub fn write_field(&self, out: &mut Vec<u8>) {
        let mut indexes = self.index.iter();
        for &b in self.rule.field.path().as_bytes() {
            out.push(b);
            if b == b'['
                && let Some(&index) = indexes.next()
                && index >= 0
            {
                write_number(index as u64, out);
            }
        }
    }
}

/// Appends a number in decimal.
pub(crate) fn write_number(mut n: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded_json() {
        let mut out = Vec::new();
        let faults = [Fault::NotJson(json::Why::Comma), Fault::NoMedia, Fault::Negative];
        for (&field, fault) in Field::ALL.iter().flat_map(|f| faults.iter().map(move |x| (f, *x))) {
            let refusal = Refusal { rule: Rule { field, fault }, at: u32::MAX, index: [i32::MAX, i32::MAX] };
            out.clear();
            refusal.write_reason(&mut out);
            assert!(out.len() <= REASON_BYTES_MAX, "{field:?}: {}", out.len());
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(read["reason"], fault.message());
        }
    }

    #[test]
    fn a_reason_names_field_and_section() {
        let rule = Rule { field: Field::VideoW, fault: Fault::Negative };
        let mut out = Vec::new();
        Refusal { rule, at: 0, index: [0, -1] }.write_reason(&mut out);
        let want =
            r#"{"error":"invalid_request","field":"imp[0].video.w","reason":"must not be negative","section":"3.2.7"}"#;
        assert_eq!(String::from_utf8(out).unwrap(), want);
        assert_eq!(rule.nbr(), Nbr::InvalidRequest);
    }
}
