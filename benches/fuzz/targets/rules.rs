//! What a bid request must not be, a second time: every rule that a request breaks, found by looking members up in a tree
//! instead of by passing them once. Ours names the first; it must be one of these, and none when there are none.
use super::node::{Kind, Node, scaled, whole};
use outcry::{
    limits::{DEALS_MAX, DSPS_MAX, IMPS_MAX},
    openrtb::validate::{Fault, Field},
    units::{self, Cpm, Multiplier},
};

mod native;

/// A rule that is broken, and where: the impression, and the element of a list in it.
pub type Broken = (Field, Fault, [i32; 2]);

/// Entries of the maps of buyeruids together, and codes in `cur`, beyond which a request is refused.
const BUYERUIDS_MAX: usize = 4 * DSPS_MAX;
const CURRENCIES_MAX: usize = 256;

/// Every rule that the request breaks.
pub fn broken(root: &Node<'_>) -> Vec<Broken> {
    let mut judge = Judge { found: Vec::new(), index: [-1, -1] };
    if root.members().is_none() {
        judge.say(Field::Request, Fault::WrongType);
    } else {
        judge.request(root);
    }
    judge.found
}

struct Judge {
    found: Vec<Broken>,
    index: [i32; 2],
}

/// What a present value that is not `null` must be.
#[derive(Clone, Copy)]
enum Must {
    Object,
    List,
    Text,
    /// A whole number from 0 on.
    Count,
    /// A whole number of which 0 and 1 are allowed.
    Gdpr,
    /// Anything but a number below 0.
    NotNegative,
    /// A number from 0 on that is a price.
    Floor,
    Currency,
    /// A whole number: 0 to this, or one of an exchange's own.
    Listed(i64),
}
use Must::*;

impl Judge {
    fn say(&mut self, field: Field, fault: Fault) {
        self.found.push((field, fault, self.index));
    }

    fn must(&mut self, node: &Node<'_>, key: &str, must: Must, field: Field) {
        let Some(value) = node.get(key) else { return };
        let number = matches!(value.kind, Kind::Number);
        let below_zero = value.raw.starts_with('-') && scaled(value.raw, 6) != (0, true);
        let fault = match must {
            Object => value.members().is_none().then_some(Fault::WrongType),
            List => value.items().is_none().then_some(Fault::WrongType),
            Text => value.text().is_none().then_some(Fault::WrongType),
            Count | Gdpr | Listed(_) | Floor if !number => Some(Fault::WrongType),
            Count | Gdpr | Listed(_) => match (must, whole(value.raw)) {
                (_, None) => Some(Fault::WrongType),
                (Count, Some(n)) if n < 0 => Some(Fault::Negative),
                (Gdpr, Some(n)) if !(0..=1).contains(&n) => Some(Fault::NotListed),
                (Listed(most), Some(n)) if !(0..=most).contains(&n) && n < 500 => Some(Fault::NotListed),
                _ => None,
            },
            NotNegative => (number && value.raw.starts_with('-') && !zero(value.raw)).then_some(Fault::Negative),
            Floor if below_zero => Some(Fault::Negative),
            Floor => {
                let (value, exact) = scaled(value.raw, 6);
                let up = value.saturating_add(u64::from(!exact));
                (up > Cpm::MAX.0 as u64).then_some(Fault::TooLarge)
            }
            Currency => match value.text() {
                None => Some(Fault::WrongType),
                Some("") => None,
                Some(_) => currency(value).is_none().then_some(Fault::NotACurrency),
            },
        };
        if let Some(fault) = fault {
            self.say(field, fault);
        }
    }

    fn all(&mut self, node: &Node<'_>, musts: &[(&str, Must, Field)]) {
        for (key, must, field) in musts {
            self.must(node, key, *must, *field);
        }
    }

    /// None of the members that are read stands twice.
    fn once(&mut self, node: &Node<'_>, field: Field, keys: &[&str]) {
        let members = node.members().unwrap_or_default();
        if keys.iter().any(|key| members.iter().filter(|(k, _)| k == key).count() > 1) {
            self.say(field, Fault::DuplicateKey);
        }
    }

    fn named(&mut self, node: &Node<'_>, key: &str, field: Field) {
        self.must(node, key, Text, field);
        if node.get(key).is_none_or(|v| v.text() == Some("")) {
            self.say(field, Fault::Missing);
        }
    }

    fn request(&mut self, r: &Node<'_>) {
        use Field as F;
        let keys = [
            "id", "imp", "site", "app", "dooh", "device", "user", "test", "at", "tmax", "wseat", "bseat", "allimps",
            "cur", "acat", "bcat", "cattax", "badv", "bapp", "source", "regs", "ext",
        ];
        self.once(r, F::Request, &keys);
        self.named(r, "id", F::Id);
        self.all(
            r,
            &[
                ("imp", List, F::Imps),
                ("site", Object, F::Site),
                ("app", Object, F::App),
                ("dooh", Object, F::Dooh),
                ("device", Object, F::Device),
                ("user", Object, F::User),
                ("at", Count, F::At),
                ("tmax", Count, F::Tmax),
                ("wseat", List, F::Wseat),
                ("bseat", List, F::Bseat),
                ("cur", List, F::Cur),
                ("acat", List, F::Acat),
                ("bcat", List, F::Bcat),
                ("badv", List, F::Badv),
                ("bapp", List, F::Bapp),
                ("source", Object, F::Source),
                ("regs", Object, F::Regs),
                ("ext", Object, F::Ext),
            ],
        );
        self.currencies(r);
        self.channels(r);
        if let Some(device) = r.get("device") {
            self.device(device);
        }
        if let Some(user) = r.get("user") {
            self.user(user);
        }
        if let Some(regs) = r.get("regs") {
            self.regs(regs);
        }
        if let Some(source) = r.get("source") {
            self.once(source, F::Source, &["fd", "tid", "schain", "ext"]);
            self.must(source, "ext", Object, F::SourceExt);
            self.chain(source, F::SourceSchain);
            if let Some(ext) = source.get("ext") {
                self.once(ext, F::SourceExt, &["schain"]);
                self.chain(ext, F::SourceExtSchain);
            }
        }
        if let Some(ext) = r.get("ext") {
            self.once(ext, F::Ext, &["schain"]);
            self.chain(ext, F::ExtSchain);
        }
        self.imps(r);
    }

    fn currencies(&mut self, r: &Node<'_>) {
        let codes = r.get("cur").and_then(Node::items).unwrap_or_default();
        if codes.len() > CURRENCIES_MAX {
            self.say(Field::Cur, Fault::TooMany);
        } else if !codes.is_empty() && codes.iter().all(|c| currency(c).is_none()) {
            self.say(Field::Cur, Fault::NotACurrency);
        }
    }

    fn channels(&mut self, r: &Node<'_>) {
        let places = [
            ("site", Field::Site, Field::SitePublisher, Field::SiteExt),
            ("app", Field::App, Field::AppPublisher, Field::AppExt),
            ("dooh", Field::Dooh, Field::DoohPublisher, Field::DoohExt),
        ];
        let mut before = false;
        for (key, value) in r.members().unwrap_or_default() {
            let Some((_, itself, publisher, ext)) = places.iter().find(|p| p.0 == key) else { continue };
            if value.members().is_none() {
                continue;
            }
            if before {
                self.say(*itself, Fault::TwoChannels);
            }
            before = true;
            self.once(value, *itself, &["id", "domain", "bundle", "cat", "cattax", "publisher", "ext"]);
            self.all(value, &[("publisher", Object, *publisher), ("ext", Object, *ext)]);
            if let Some(p) = value.get("publisher") {
                self.once(p, *publisher, &["id"]);
            }
        }
    }

    fn device(&mut self, d: &Node<'_>) {
        use Field as F;
        let keys =
            ["ua", "ip", "ipv6", "ifa", "geo", "devicetype", "lmt", "language", "w", "h", "ppi", "pxratio", "ext"];
        self.once(d, F::Device, &keys);
        self.all(
            d,
            &[
                ("geo", Object, F::DeviceGeo),
                ("w", NotNegative, F::DeviceW),
                ("h", NotNegative, F::DeviceH),
                ("ppi", NotNegative, F::DevicePpi),
                ("pxratio", NotNegative, F::DevicePxratio),
                ("ext", Object, F::DeviceExt),
            ],
        );
        self.geo(d, F::DeviceGeo, F::DeviceGeoAccuracy, F::DeviceGeoLastfix);
    }

    fn geo(&mut self, holder: &Node<'_>, itself: Field, accuracy: Field, lastfix: Field) {
        if let Some(geo) = holder.get("geo") {
            self.once(geo, itself, &["country", "accuracy", "lastfix"]);
            self.all(geo, &[("accuracy", NotNegative, accuracy), ("lastfix", NotNegative, lastfix)]);
        }
    }

    fn user(&mut self, u: &Node<'_>) {
        use Field as F;
        self.once(u, F::User, &["id", "buyeruid", "consent", "geo", "ext"]);
        self.all(u, &[("consent", Text, F::UserConsent), ("geo", Object, F::UserGeo), ("ext", Object, F::UserExt)]);
        self.geo(u, F::UserGeo, F::UserGeoAccuracy, F::UserGeoLastfix);
        let Some(ext) = u.get("ext") else { return };
        self.once(ext, F::UserExt, &["consent", "prebid", "buyeruids"]);
        self.all(
            ext,
            &[
                ("consent", Text, F::UserExtConsent),
                ("prebid", Object, F::UserExtPrebid),
                ("buyeruids", Object, F::UserExtBuyeruids),
            ],
        );
        if let Some(prebid) = ext.get("prebid") {
            self.once(prebid, F::UserExtPrebid, &["buyeruids"]);
            self.must(prebid, "buyeruids", Object, F::UserExtPrebidBuyeruids);
        }
        let told = |holder: Option<&Node<'_>>| {
            let map = holder.and_then(|h| h.get("buyeruids")).and_then(Node::members).unwrap_or_default();
            map.iter().filter(|(_, v)| v.text().is_some_and(|id| !id.is_empty())).count()
        };
        if told(ext.get("prebid")) + told(Some(ext)) > BUYERUIDS_MAX {
            self.say(F::UserExtPrebidBuyeruids, Fault::TooMany);
            self.say(F::UserExtBuyeruids, Fault::TooMany);
        }
    }

    fn regs(&mut self, r: &Node<'_>) {
        use Field as F;
        self.once(r, F::Regs, &["coppa", "gdpr", "us_privacy", "gpp", "ext"]);
        self.all(
            r,
            &[
                ("gdpr", Gdpr, F::RegsGdpr),
                ("us_privacy", Text, F::RegsUsPrivacy),
                ("gpp", Text, F::RegsGpp),
                ("ext", Object, F::RegsExt),
            ],
        );
        if let Some(ext) = r.get("ext") {
            self.once(ext, F::RegsExt, &["gdpr", "us_privacy"]);
            self.all(ext, &[("gdpr", Gdpr, F::RegsExtGdpr), ("us_privacy", Text, F::RegsExtUsPrivacy)]);
        }
    }

    fn chain(&mut self, holder: &Node<'_>, field: Field) {
        self.must(holder, "schain", Object, field);
        if let Some(chain) = holder.get("schain") {
            self.once(chain, field, &["nodes"]);
        }
    }

    fn imps(&mut self, r: &Node<'_>) {
        use Field as F;
        let imps = r.get("imp").and_then(Node::items).unwrap_or_default();
        if imps.is_empty() {
            self.say(F::Imps, Fault::Missing);
        }
        if imps.len() > IMPS_MAX {
            self.say(F::Imps, Fault::TooMany);
        }
        let (mut ids, mut deals) = (Vec::new(), 0);
        for (i, imp) in imps.iter().enumerate() {
            self.index = [i as i32, -1];
            if imp.members().is_none() {
                self.say(F::Imp, Fault::WrongType);
                continue;
            }
            self.imp(imp);
            let id = imp.get("id").and_then(Node::text);
            if id.is_some_and(|id| !id.is_empty()) && ids.contains(&id) {
                self.say(F::ImpId, Fault::NotUnique);
            }
            ids.push(id);
            deals += imp.at(&["pmp", "deals"]).and_then(Node::items).map_or(0, <[_]>::len);
            if deals > DEALS_MAX {
                self.say(F::PmpDeals, Fault::TooMany);
            }
        }
        self.index = [-1, -1];
    }

    fn imp(&mut self, imp: &Node<'_>) {
        use Field as F;
        let keys = [
            "id",
            "banner",
            "video",
            "audio",
            "native",
            "pmp",
            "instl",
            "tagid",
            "bidfloor",
            "bidfloorcur",
            "secure",
            "rwdd",
            "exp",
            "qty",
            "ext",
        ];
        self.once(imp, F::Imp, &keys);
        self.named(imp, "id", F::ImpId);
        self.all(
            imp,
            &[
                ("banner", Object, F::Banner),
                ("video", Object, F::Video),
                ("audio", Object, F::Audio),
                ("native", Object, F::Native),
                ("pmp", Object, F::Pmp),
                ("bidfloor", Floor, F::ImpBidfloor),
                ("bidfloorcur", Currency, F::ImpBidfloorcur),
                ("exp", Count, F::ImpExp),
                ("qty", Object, F::Qty),
                ("ext", Object, F::ImpExt),
            ],
        );
        let media = |key| imp.get(key).filter(|m| m.members().is_some());
        if ["banner", "video", "audio", "native"].iter().all(|key| media(key).is_none()) {
            self.say(F::Imp, Fault::NoMedia);
        }
        if let Some(qty) = media("qty") {
            self.qty(qty);
        }
        if let Some(banner) = media("banner") {
            self.banner(banner);
        }
        if let Some(video) = media("video") {
            let skips = [("skipmin", NotNegative, F::VideoSkipmin), ("skipafter", NotNegative, F::VideoSkipafter)];
            self.all(video, &skips);
            self.all(video, &[("w", NotNegative, F::VideoW), ("h", NotNegative, F::VideoH)]);
            self.stream(
                video,
                F::Video,
                [
                    F::VideoMimes,
                    F::VideoMinduration,
                    F::VideoMaxduration,
                    F::VideoPoddur,
                    F::VideoSequence,
                    F::VideoMaxseq,
                    F::VideoMinbitrate,
                    F::VideoMaxbitrate,
                    F::VideoBattr,
                    F::VideoBidfloor,
                    F::VideoBidfloorcur,
                ],
            );
        }
        if let Some(audio) = media("audio") {
            self.stream(
                audio,
                F::Audio,
                [
                    F::AudioMimes,
                    F::AudioMinduration,
                    F::AudioMaxduration,
                    F::AudioPoddur,
                    F::AudioSequence,
                    F::AudioMaxseq,
                    F::AudioMinbitrate,
                    F::AudioMaxbitrate,
                    F::AudioBattr,
                    F::AudioBidfloor,
                    F::AudioBidfloorcur,
                ],
            );
        }
        if let Some(native) = media("native") {
            self.native(native);
        }
        if let Some(pmp) = media("pmp") {
            self.pmp(pmp);
        }
    }

    fn qty(&mut self, qty: &Node<'_>) {
        let field = Field::QtyMultiplier;
        self.once(qty, Field::Qty, &["multiplier"]);
        let Some(value) = qty.get("multiplier") else { return };
        if !matches!(value.kind, Kind::Number) {
            return self.say(field, Fault::WrongType);
        }
        match scaled(value.raw, 6) {
            (0, true) => self.say(field, Fault::Zero),
            _ if value.raw.starts_with('-') => self.say(field, Fault::Negative),
            (0, false) => self.say(field, Fault::Zero),
            (n, _) if n > Multiplier::MAX.0 => self.say(field, Fault::TooLarge),
            _ => {}
        }
    }

    fn banner(&mut self, banner: &Node<'_>) {
        use Field as F;
        let keys = ["format", "w", "h", "wmin", "wmax", "hmin", "hmax", "battr", "bidfloor", "bidfloorcur"];
        self.once(banner, F::Banner, &keys);
        self.all(
            banner,
            &[
                ("format", List, F::BannerFormats),
                ("w", Count, F::BannerW),
                ("h", Count, F::BannerH),
                ("wmin", NotNegative, F::BannerWmin),
                ("wmax", NotNegative, F::BannerWmax),
                ("hmin", NotNegative, F::BannerHmin),
                ("hmax", NotNegative, F::BannerHmax),
                ("battr", List, F::BannerBattr),
                ("bidfloor", Floor, F::BannerBidfloor),
                ("bidfloorcur", Currency, F::BannerBidfloorcur),
            ],
        );
        for (j, format) in banner.get("format").and_then(Node::items).unwrap_or_default().iter().enumerate() {
            self.index[1] = j as i32;
            match format.kind {
                Kind::Null => continue,
                Kind::Object(_) => {}
                _ => self.say(F::Format, Fault::WrongType),
            }
            self.once(format, F::Format, &["w", "h", "wratio", "hratio", "wmin", "hmin"]);
            self.all(
                format,
                &[
                    ("w", Count, F::FormatW),
                    ("h", Count, F::FormatH),
                    ("wratio", NotNegative, F::FormatWratio),
                    ("hratio", NotNegative, F::FormatHratio),
                    ("wmin", NotNegative, F::FormatWmin),
                    ("hmin", NotNegative, F::FormatHmin),
                ],
            );
        }
        self.index[1] = -1;
    }

    fn stream(&mut self, stream: &Node<'_>, itself: Field, fields: [Field; 11]) {
        let keys = [
            "mimes",
            "minduration",
            "maxduration",
            "poddur",
            "sequence",
            "maxseq",
            "minbitrate",
            "maxbitrate",
            "battr",
            "bidfloor",
            "bidfloorcur",
            "w",
            "h",
            "skipmin",
            "skipafter",
        ];
        self.once(stream, itself, &keys);
        let musts =
            [List, Count, Count, Count, NotNegative, NotNegative, NotNegative, NotNegative, List, Floor, Currency];
        for ((key, must), field) in keys.iter().zip(musts).zip(fields) {
            self.must(stream, key, must, field);
        }
        if stream.get("mimes").is_none_or(|m| m.items().is_some_and(<[_]>::is_empty)) {
            self.say(fields[0], Fault::Missing);
        }
    }

    fn pmp(&mut self, pmp: &Node<'_>) {
        use Field as F;
        self.once(pmp, F::Pmp, &["private_auction", "deals"]);
        self.must(pmp, "deals", List, F::PmpDeals);
        for (j, deal) in pmp.get("deals").and_then(Node::items).unwrap_or_default().iter().enumerate() {
            self.index[1] = j as i32;
            if deal.members().is_none() {
                self.say(F::Deal, Fault::WrongType);
                continue;
            }
            self.once(deal, F::Deal, &["id", "bidfloor", "bidfloorcur", "at", "guar", "wseat", "wadomain"]);
            self.named(deal, "id", F::DealId);
            self.all(
                deal,
                &[
                    ("bidfloor", Floor, F::DealBidfloor),
                    ("bidfloorcur", Currency, F::DealBidfloorcur),
                    ("at", Count, F::DealAt),
                    ("wseat", List, F::DealWseat),
                    ("wadomain", List, F::DealWadomain),
                ],
            );
        }
        self.index[1] = -1;
    }
}

/// A number that is nothing but zeros.
fn zero(number: &str) -> bool {
    !number.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| matches!(b, b'1'..=b'9'))
}

/// The code that a string is; written with escapes it is none.
pub fn currency(node: &Node<'_>) -> Option<units::Currency> {
    let code = node.text()?;
    if code.len() + 2 == node.raw.len() { units::Currency::parse(code.as_bytes()) } else { None }
}
