//! Reads a bid request into its view and checks it on the way (OpenRTB 2.6 section 3.2, 2.5 locations understood).
//!
//! Each object has its reader; each reader knows its keys. The whole text is checked to be JSON, known or not.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`. Never: allocates once the view's vectors
//! have grown. Full: more impressions, deals or list elements than `limits` has is a refusal.
use super::{
    reader::{Reader, Step, Stop, run},
    request::{Anchors, Channel, Request, SchainPlace},
    text::{Span, Text},
    validate::{Fault, Field, Refusal},
};
use crate::{
    json::{Cursor, keys},
    limits::{DSPS_MAX, IMPS_MAX},
    units::Currency,
};
use bumpalo::Bump;

/// Elements of `cur`: ISO-4217 lists some 180.
const CURRENCIES_MAX: usize = 256;

impl Request {
    /// Reads the request that is `body[from..]`; all spans count from the start of `body`. What the view held before
    /// is forgotten, its memory is kept. After an error the view means nothing. What only the reading needs lies in
    /// `arena`, which may be reset afterwards.
    ///
    /// # Errors
    /// The first rule of [`super::validate`] that the request breaks, in the order of its bytes.
    pub fn parse(&mut self, body: &[u8], from: usize, arena: &Bump) -> Result<(), Refusal> {
        self.clear();
        let c = Cursor::new(body, from).map_err(|e| Refusal { rule: Stop::from(e).rule, at: e.at, index: [-1, -1] })?;
        let mut reader = Reader::new(c, self, arena);
        reader.request().map_err(|stop| reader.refusal(stop))
    }

    fn clear(&mut self) {
        let mut old = std::mem::take(self);
        macro_rules! keep {
            ($($list:ident),+) => { $(old.$list.clear(); self.$list = old.$list;)+ };
        }
        keep!(imps, deals, sizes, texts, numbers, currencies, buyeruids);
        self.at = 2;
        (self.cattax, self.channel_cattax) = (1, 1);
    }
}

keys! { RequestKey {
    Id = "id", Imp = "imp", Site = "site", App = "app", Dooh = "dooh", Device = "device", User = "user",
    Test = "test", At = "at", Tmax = "tmax", Wseat = "wseat", Bseat = "bseat", Allimps = "allimps", Cur = "cur",
    Acat = "acat", Bcat = "bcat", Cattax = "cattax", Badv = "badv", Bapp = "bapp", Source = "source", Regs = "regs",
    Ext = "ext",
} }

keys! { ChannelKey {
    Id = "id", Domain = "domain", Bundle = "bundle", Cat = "cat", Cattax = "cattax", Publisher = "publisher", Ext = "ext",
} }

keys! { IdKey { Id = "id" } }

keys! { DeviceKey {
    Ua = "ua", Ip = "ip", Ipv6 = "ipv6", Ifa = "ifa", Geo = "geo", Devicetype = "devicetype", Lmt = "lmt",
    Language = "language", W = "w", H = "h", Ppi = "ppi", Pxratio = "pxratio", Ext = "ext",
} }

keys! { GeoKey { Country = "country", Accuracy = "accuracy", Lastfix = "lastfix" } }

keys! { UserKey { Id = "id", Buyeruid = "buyeruid", Consent = "consent", Geo = "geo", Ext = "ext" } }

keys! { UserExtKey { Consent = "consent", Prebid = "prebid", Buyeruids = "buyeruids" } }

keys! { PrebidKey { Buyeruids = "buyeruids" } }

keys! { RegsKey { Coppa = "coppa", Gdpr = "gdpr", UsPrivacy = "us_privacy", Gpp = "gpp", Ext = "ext" } }

keys! { RegsExtKey { Gdpr = "gdpr", UsPrivacy = "us_privacy" } }

keys! { SourceKey { Fd = "fd", Tid = "tid", Schain = "schain", Ext = "ext" } }

keys! { SchainExtKey { Schain = "schain" } }

keys! { SchainKey { Nodes = "nodes" } }

/// The fields of a place where the inventory may be.
struct ChannelFields {
    channel: Channel,
    itself: Field,
    publisher: Field,
    ext: Field,
}

const SITE: ChannelFields =
    ChannelFields { channel: Channel::Site, itself: Field::Site, publisher: Field::SitePublisher, ext: Field::SiteExt };
const APP: ChannelFields =
    ChannelFields { channel: Channel::App, itself: Field::App, publisher: Field::AppPublisher, ext: Field::AppExt };
const DOOH: ChannelFields =
    ChannelFields { channel: Channel::Dooh, itself: Field::Dooh, publisher: Field::DoohPublisher, ext: Field::DoohExt };

impl Reader<'_, '_> {
    fn request(&mut self) -> Step {
        self.c.peek();
        let start = self.c.at();
        let Some(mut walk) = self.object(Field::Request)? else {
            return self.stop(Field::Request, Fault::WrongType);
        };
        while let Some((key, at)) = self.next::<RequestKey>(&mut walk)? {
            match key {
                RequestKey::Id => self.out.id = self.id(Field::Id)?,
                RequestKey::Imp => self.imps()?,
                RequestKey::Site => self.channel(&SITE)?,
                RequestKey::App => self.channel(&APP)?,
                RequestKey::Dooh => self.channel(&DOOH)?,
                RequestKey::Device => self.device()?,
                RequestKey::User => self.user()?,
                RequestKey::Test => self.out.test = self.flag()?,
                RequestKey::At => self.out.at = self.count(Field::At)?.filter(|&at| at > 0).unwrap_or(2),
                RequestKey::Tmax => {
                    self.out.tmax_ms = self.count(Field::Tmax)?;
                    self.out.anchors.tmax = self.c.since(at);
                }
                RequestKey::Wseat => {
                    self.out.wseat = self.texts(Field::Wseat)?;
                    self.out.anchors.wseat = self.c.since(at);
                }
                RequestKey::Bseat => {
                    self.out.bseat = self.texts(Field::Bseat)?;
                    self.out.anchors.bseat = self.c.since(at);
                }
                RequestKey::Allimps => self.out.allimps = self.flag()?,
                RequestKey::Cur => {
                    self.currencies()?;
                    self.out.anchors.cur = self.c.since(at);
                }
                RequestKey::Acat => self.out.acat = self.texts(Field::Acat)?,
                RequestKey::Bcat => self.out.bcat = self.texts(Field::Bcat)?,
                RequestKey::Cattax => self.out.cattax = self.number()?.max(1),
                RequestKey::Badv => self.out.badv = self.texts(Field::Badv)?,
                RequestKey::Bapp => self.out.bapp = self.texts(Field::Bapp)?,
                RequestKey::Source => self.source()?,
                RequestKey::Regs => self.regs()?,
                RequestKey::Ext => self.schain_ext(Field::Ext, SchainPlace::Ext, Field::ExtSchain)?,
            }
        }
        self.out.whole = self.c.since(start);
        self.c.finish()?;
        if self.out.id.is_empty() {
            return self.stop(Field::Id, Fault::Missing);
        }
        if self.out.imps.is_empty() {
            return self.stop(Field::Imps, Fault::Missing);
        }
        Ok(())
    }

    /// 3.2.1: `imp` holds at least one impression.
    fn imps(&mut self) -> Step {
        self.c.peek();
        let from = self.c.at();
        if self.array(Field::Imps)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                if self.out.imps.len() >= IMPS_MAX {
                    return self.stop(Field::Imps, Fault::TooMany);
                }
                self.index = [self.out.imps.len() as i32, -1];
                self.imp()?;
            }
            self.index = [-1, -1];
        }
        self.out.anchors.imp = self.c.since(from);
        Ok(())
    }

    /// 3.2.1: `cur`. Codes that are none are passed, but if nothing else is there, every bid would be refused later.
    fn currencies(&mut self) -> Step {
        let (mut bad, mut n) = (false, 0);
        if self.array(Field::Cur)? {
            let mut first = true;
            while self.c.element(&mut first)? {
                n += 1;
                if n > CURRENCIES_MAX {
                    return self.stop(Field::Cur, Fault::TooMany);
                }
                match Currency::parse(self.c.text()?.raw(self.c.buf())) {
                    Some(code) if self.out.currencies.contains(&code) => {}
                    Some(code) => self.out.currencies.push(code),
                    None => bad = true,
                }
            }
        }
        if bad && self.out.currencies.is_empty() {
            return self.stop(Field::Cur, Fault::NotACurrency);
        }
        self.out.cur = run(0, self.out.currencies.len());
        Ok(())
    }

    /// 3.2.1: at most one of site, app, dooh.
    fn channel(&mut self, fields: &ChannelFields) -> Step {
        let Some(mut walk) = self.object(fields.itself)? else { return Ok(()) };
        if self.out.channel != Channel::Unknown {
            return self.stop(fields.itself, Fault::TwoChannels);
        }
        self.out.channel = fields.channel;
        while let Some((key, _)) = self.next::<ChannelKey>(&mut walk)? {
            match key {
                ChannelKey::Id => self.out.channel_id = self.c.text()?,
                ChannelKey::Domain => self.out.domain = self.c.text()?,
                ChannelKey::Bundle => self.out.bundle = self.c.text()?,
                ChannelKey::Cat => self.out.cat = self.some_texts()?,
                ChannelKey::Cattax => self.out.channel_cattax = self.number()?.max(1),
                ChannelKey::Publisher => {
                    if let Some(mut walk) = self.object(fields.publisher)? {
                        while let Some((IdKey::Id, _)) = self.next(&mut walk)? {
                            self.out.publisher_id = self.c.text()?;
                        }
                    }
                }
                ChannelKey::Ext => self.any_object(fields.ext)?,
            }
        }
        Ok(())
    }

    /// 3.2.18
    fn device(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::Device)? else { return Ok(()) };
        while let Some((key, _)) = self.next::<DeviceKey>(&mut walk)? {
            match key {
                DeviceKey::Ua => self.out.ua = self.c.text()?,
                DeviceKey::Ip => self.out.ip = self.c.text()?,
                DeviceKey::Ipv6 => self.out.ipv6 = self.c.text()?,
                DeviceKey::Ifa => self.out.ifa = self.c.text()?,
                DeviceKey::Geo => {
                    self.out.country = self.geo(Field::DeviceGeo, Field::DeviceGeoAccuracy, Field::DeviceGeoLastfix)?
                }
                DeviceKey::Devicetype => self.out.devicetype = self.number()?,
                DeviceKey::Lmt => self.out.lmt = self.flag()?,
                DeviceKey::Language => self.out.language = self.c.text()?,
                DeviceKey::W => self.not_negative(Field::DeviceW)?,
                DeviceKey::H => self.not_negative(Field::DeviceH)?,
                DeviceKey::Ppi => self.not_negative(Field::DevicePpi)?,
                DeviceKey::Pxratio => self.not_negative(Field::DevicePxratio)?,
                DeviceKey::Ext => self.any_object(Field::DeviceExt)?,
            }
        }
        Ok(())
    }

    /// 3.2.19
    fn geo(&mut self, itself: Field, accuracy: Field, lastfix: Field) -> Step<Text> {
        let mut country = Text::NONE;
        let Some(mut walk) = self.object(itself)? else { return Ok(country) };
        while let Some((key, _)) = self.next::<GeoKey>(&mut walk)? {
            match key {
                GeoKey::Country => country = self.c.text()?,
                GeoKey::Accuracy => self.not_negative(accuracy)?,
                GeoKey::Lastfix => self.not_negative(lastfix)?,
            }
        }
        Ok(country)
    }

    /// 3.2.20
    fn user(&mut self) -> Step {
        self.c.peek();
        let from = self.c.at();
        if let Some(mut walk) = self.object(Field::User)? {
            while let Some((key, at)) = self.next::<UserKey>(&mut walk)? {
                match key {
                    UserKey::Id => self.out.user_id = self.c.text()?,
                    UserKey::Buyeruid => {
                        self.out.buyeruid = self.c.text()?;
                        self.out.anchors.buyeruid = self.c.since(at);
                    }
                    UserKey::Consent => {
                        let consent = self.id(Field::UserConsent)?;
                        if consent.is_some() {
                            self.out.consent = consent;
                        }
                    }
                    UserKey::Geo => {
                        self.geo(Field::UserGeo, Field::UserGeoAccuracy, Field::UserGeoLastfix)?;
                    }
                    UserKey::Ext => self.user_ext()?,
                }
            }
        }
        self.out.anchors.user = self.c.since(from);
        Ok(())
    }

    /// `user.ext`: 2.5's `consent` (2.6's, read before or after, comes first), and the community's `buyeruids`, of which
    /// those of `prebid` come first.
    fn user_ext(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::UserExt)? else { return Ok(()) };
        while let Some((key, at)) = self.next::<UserExtKey>(&mut walk)? {
            match key {
                UserExtKey::Consent => {
                    let consent = self.id(Field::UserExtConsent)?;
                    if !self.out.consent.is_some() {
                        self.out.consent = consent;
                    }
                }
                UserExtKey::Prebid => {
                    if let Some(mut walk) = self.object(Field::UserExtPrebid)? {
                        while let Some((PrebidKey::Buyeruids, at)) = self.next(&mut walk)? {
                            let others = self.out.buyeruids.len();
                            self.buyeruids(Field::UserExtPrebidBuyeruids)?;
                            // These come first wherever they stand: the order of members means nothing.
                            self.out.buyeruids.rotate_left(others);
                            self.out.anchors.buyeruids = self.c.since(at);
                        }
                    }
                }
                UserExtKey::Buyeruids => {
                    self.buyeruids(Field::UserExtBuyeruids)?;
                    self.out.anchors.buyeruids_ext = self.c.since(at);
                }
            }
        }
        Ok(())
    }

    fn buyeruids(&mut self, field: Field) -> Step {
        if self.object(field)?.is_none() {
            return Ok(());
        }
        let mut first = true;
        while let Some(key) = self.c.key(&mut first)? {
            let id = self.c.text()?;
            if id.is_empty() {
                continue;
            }
            // Senders keep ids of more DSPs than we know; a few times as many as we can have are enough.
            if self.out.buyeruids.len() >= 4 * DSPS_MAX {
                return self.stop(field, Fault::TooMany);
            }
            self.out.buyeruids.push((key.text, id));
        }
        Ok(())
    }

    /// 3.2.3
    fn regs(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::Regs)? else { return Ok(()) };
        while let Some((key, _)) = self.next::<RegsKey>(&mut walk)? {
            match key {
                RegsKey::Coppa => self.out.coppa = self.flag()?,
                RegsKey::Gdpr => {
                    let gdpr = self.gdpr(Field::RegsGdpr)?;
                    self.out.gdpr = gdpr.or(self.out.gdpr);
                }
                RegsKey::UsPrivacy => {
                    let text = self.id(Field::RegsUsPrivacy)?;
                    if text.is_some() {
                        self.out.us_privacy = text;
                    }
                }
                RegsKey::Gpp => self.out.gpp = self.id(Field::RegsGpp)?,
                RegsKey::Ext => {
                    if let Some(mut walk) = self.object(Field::RegsExt)? {
                        while let Some((key, _)) = self.next::<RegsExtKey>(&mut walk)? {
                            match key {
                                RegsExtKey::Gdpr => {
                                    let gdpr = self.gdpr(Field::RegsExtGdpr)?;
                                    self.out.gdpr = self.out.gdpr.or(gdpr);
                                }
                                RegsExtKey::UsPrivacy => {
                                    let text = self.id(Field::RegsExtUsPrivacy)?;
                                    if !self.out.us_privacy.is_some() {
                                        self.out.us_privacy = text;
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// 0, 1 or absent; a third value would leave open whether a law applies.
    fn gdpr(&mut self, field: Field) -> Step<Option<bool>> {
        match self.whole(field)? {
            None => Ok(None),
            Some(0) => Ok(Some(false)),
            Some(1) => Ok(Some(true)),
            Some(_) => self.stop(field, Fault::NotListed),
        }
    }

    /// 3.2.2
    fn source(&mut self) -> Step {
        self.c.peek();
        let from = self.c.at();
        if let Some(mut walk) = self.object(Field::Source)? {
            while let Some((key, at)) = self.next::<SourceKey>(&mut walk)? {
                match key {
                    SourceKey::Fd => self.out.fd = self.flag()?,
                    SourceKey::Tid => self.out.tid = self.c.text()?,
                    SourceKey::Schain => self.schain(SchainPlace::Source, at, Field::SourceSchain)?,
                    SourceKey::Ext => {
                        self.c.peek();
                        let from = self.c.at();
                        self.schain_ext(Field::SourceExt, SchainPlace::SourceExt, Field::SourceExtSchain)?;
                        self.out.anchors.source_ext = self.c.since(from);
                    }
                }
            }
        }
        self.out.anchors.source = self.c.since(from);
        Ok(())
    }

    fn schain_ext(&mut self, ext: Field, place: SchainPlace, schain: Field) -> Step {
        let Some(mut walk) = self.object(ext)? else { return Ok(()) };
        while let Some((SchainExtKey::Schain, at)) = self.next(&mut walk)? {
            self.schain(place, at, schain)?;
        }
        Ok(())
    }

    /// 3.2.25. The newest place counts where there are several; the others are remembered to be removed.
    fn schain(&mut self, place: SchainPlace, at: usize, field: Field) -> Step {
        let mut nodes = Span::default();
        if let Some(mut walk) = self.object(field)? {
            while let Some((SchainKey::Nodes, _)) = self.next(&mut walk)? {
                let array = self.c.peek() == b'[';
                let span = self.c.skip_span()?;
                if array {
                    nodes = span;
                }
            }
        }
        let member = self.c.since(at);
        let Anchors { schain, schain_nodes, schain_place, schain_spare, .. } = &mut self.out.anchors;
        let older = if *schain_place == SchainPlace::Absent || place < *schain_place {
            let older = std::mem::replace(schain, member);
            (*schain_nodes, *schain_place) = (nodes, place);
            older
        } else {
            member
        };
        if older.len > 0 {
            let free = usize::from(schain_spare[0].len > 0);
            schain_spare[free] = older;
        }
        Ok(())
    }
}
