//! Reads one impression: its media, its deals, its floors (OpenRTB 2.6 sections 3.2.4 to 3.2.12).
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `parse_request`. Never: allocates once the view's vectors
//! have grown. Full: more deals or sizes than `limits` has is a refusal.
use super::{
    reader::{Reader, Step, run},
    request::{Deal, Imp, ImpRefusal, Media},
    text::Text,
    validate::{Fault, Field},
};
use crate::{
    json::keys,
    limits::{DEALS_MAX, TEXTS_MAX},
    units::{Cpm, Currency, Multiplier, PriceError},
};

keys! { ImpKey {
    Id = "id", Banner = "banner", Video = "video", Audio = "audio", Native = "native", Pmp = "pmp", Instl = "instl",
    Tagid = "tagid", Bidfloor = "bidfloor", Bidfloorcur = "bidfloorcur", Secure = "secure", Rwdd = "rwdd",
    Exp = "exp", Qty = "qty", Ext = "ext",
} }

keys! { QtyKey { Multiplier = "multiplier" } }

keys! { BannerKey {
    Format = "format", W = "w", H = "h", Wmin = "wmin", Wmax = "wmax", Hmin = "hmin", Hmax = "hmax", Battr = "battr",
    Bidfloor = "bidfloor", Bidfloorcur = "bidfloorcur",
} }

keys! { FormatKey { W = "w", H = "h", Wratio = "wratio", Hratio = "hratio", Wmin = "wmin", Hmin = "hmin" } }

keys! { StreamKey {
    Mimes = "mimes", Minduration = "minduration", Maxduration = "maxduration", W = "w", H = "h", Sequence = "sequence",
    Maxseq = "maxseq", Poddur = "poddur", Skipmin = "skipmin", Skipafter = "skipafter", Minbitrate = "minbitrate",
    Maxbitrate = "maxbitrate", Battr = "battr", Bidfloor = "bidfloor", Bidfloorcur = "bidfloorcur",
} }

keys! { NativeKey { Request = "request", Battr = "battr", Bidfloor = "bidfloor", Bidfloorcur = "bidfloorcur" } }

keys! { PmpKey { PrivateAuction = "private_auction", Deals = "deals" } }

keys! { DealKey {
    Id = "id", Bidfloor = "bidfloor", Bidfloorcur = "bidfloorcur", At = "at", Guar = "guar", Wseat = "wseat",
    Wadomain = "wadomain",
} }

/// The fields of what plays for a time: video or audio.
struct StreamFields {
    itself: Field,
    mimes: Field,
    minduration: Field,
    maxduration: Field,
    sequence: Field,
    maxseq: Field,
    poddur: Field,
    minbitrate: Field,
    maxbitrate: Field,
    battr: Field,
    bidfloor: Field,
    bidfloorcur: Field,
}

const VIDEO: StreamFields = StreamFields {
    itself: Field::Video,
    mimes: Field::VideoMimes,
    minduration: Field::VideoMinduration,
    maxduration: Field::VideoMaxduration,
    sequence: Field::VideoSequence,
    maxseq: Field::VideoMaxseq,
    poddur: Field::VideoPoddur,
    minbitrate: Field::VideoMinbitrate,
    maxbitrate: Field::VideoMaxbitrate,
    battr: Field::VideoBattr,
    bidfloor: Field::VideoBidfloor,
    bidfloorcur: Field::VideoBidfloorcur,
};

const AUDIO: StreamFields = StreamFields {
    itself: Field::Audio,
    mimes: Field::AudioMimes,
    minduration: Field::AudioMinduration,
    maxduration: Field::AudioMaxduration,
    sequence: Field::AudioSequence,
    maxseq: Field::AudioMaxseq,
    poddur: Field::AudioPoddur,
    minbitrate: Field::AudioMinbitrate,
    maxbitrate: Field::AudioMaxbitrate,
    battr: Field::AudioBattr,
    bidfloor: Field::AudioBidfloor,
    bidfloorcur: Field::AudioBidfloorcur,
};

/// A floor that a media object states for itself.
#[derive(Default)]
struct Floor {
    price: Option<Cpm>,
    currency: Currency,
}

impl Floor {
    /// The first medium that states one has it.
    fn keep(self, imp: &mut Imp, media: Media) {
        if let (None, Some(price)) = (imp.media_floor, self.price) {
            imp.media_floor = Some((media, price, self.currency));
        }
    }
}

/// FNV-1a of the characters, however they are written.
fn hash(text: Text, buf: &[u8]) -> u64 {
    let step = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    let start = 0xcbf2_9ce4_8422_2325;
    if text.escaped() { text.bytes(buf).fold(start, step) } else { text.raw(buf).iter().copied().fold(start, step) }
}

impl Reader<'_, '_> {
    /// 3.2.4: an id, unique in the request, and at least one medium.
    pub(super) fn imp(&mut self) -> Step {
        self.c.peek();
        let from = self.c.at();
        let Some(mut walk) = self.object(Field::Imp)? else { return self.stop(Field::Imp, Fault::WrongType) };
        let mut imp = Imp::default();
        while let Some((key, _)) = self.next::<ImpKey>(&mut walk)? {
            match key {
                ImpKey::Id => imp.id = self.id(Field::ImpId)?,
                ImpKey::Banner => self.banner(&mut imp)?,
                ImpKey::Video => self.stream(&mut imp, Media::VIDEO, &VIDEO)?,
                ImpKey::Audio => self.stream(&mut imp, Media::AUDIO, &AUDIO)?,
                ImpKey::Native => self.native(&mut imp)?,
                ImpKey::Pmp => self.pmp(&mut imp)?,
                ImpKey::Instl => imp.instl = self.flag()?,
                ImpKey::Tagid => imp.tagid = self.c.text()?,
                ImpKey::Bidfloor => imp.bidfloor = self.floor(Field::ImpBidfloor)?,
                ImpKey::Bidfloorcur => imp.bidfloorcur = self.currency(Field::ImpBidfloorcur)?,
                ImpKey::Secure => imp.secure = self.flag()?,
                ImpKey::Rwdd => imp.rwdd = self.flag()?,
                ImpKey::Exp => imp.exp_s = self.count(Field::ImpExp)?.unwrap_or(0),
                ImpKey::Qty => imp.qty = self.qty()?,
                ImpKey::Ext => self.any_object(Field::ImpExt)?,
            }
        }
        imp.whole = self.c.since(from);
        if imp.id.is_empty() {
            return self.stop(Field::ImpId, Fault::Missing);
        }
        if imp.media == Media::default() {
            return self.stop(Field::Imp, Fault::NoMedia);
        }
        // Long ids that differ in their last byte would be compared byte by byte with each other; hashes are not.
        let buf = self.c.buf();
        let hash = hash(imp.id, buf);
        let mut others = self.out.imps.iter().zip(&self.imp_hashes);
        if others.any(|(other, &h)| h == hash && other.id.same(buf, imp.id, buf)) {
            return self.stop(Field::ImpId, Fault::NotUnique);
        }
        self.imp_hashes.push(hash);
        self.out.imps.push(imp);
        Ok(())
    }

    /// 3.2.31: every charge is multiplied by it, so it must be readable and above zero.
    fn qty(&mut self) -> Step<Multiplier> {
        let mut qty = Multiplier::ONE;
        let Some(mut walk) = self.object(Field::Qty)? else { return Ok(qty) };
        while let Some((QtyKey::Multiplier, _)) = self.next(&mut walk)? {
            if self.c.peek() == b'n' {
                self.c.skip()?;
                continue;
            }
            let fault = match self.c.digits()?.map(Multiplier::parse) {
                Some(Ok(multiplier)) => {
                    qty = multiplier;
                    continue;
                }
                None => Fault::WrongType,
                Some(Err(PriceError::NotANumber)) => Fault::Zero,
                Some(Err(PriceError::Negative)) => Fault::Negative,
                Some(Err(PriceError::TooLarge)) => Fault::TooLarge,
            };
            return self.stop(Field::QtyMultiplier, fault);
        }
        Ok(qty)
    }

    /// 3.2.6. Nothing is required: without any size, any size fits.
    fn banner(&mut self, imp: &mut Imp) -> Step {
        let Some(mut walk) = self.object(Field::Banner)? else { return Ok(()) };
        imp.media = imp.media.with(Media::BANNER);
        let (mut w, mut h, mut floor) = (0, 0, Floor::default());
        let sizes = self.out.sizes.len();
        while let Some((key, _)) = self.next::<BannerKey>(&mut walk)? {
            match key {
                BannerKey::Format => self.formats()?,
                BannerKey::W => w = self.count(Field::BannerW)?.unwrap_or(0),
                BannerKey::H => h = self.count(Field::BannerH)?.unwrap_or(0),
                BannerKey::Wmin => self.not_negative(Field::BannerWmin)?,
                BannerKey::Wmax => self.not_negative(Field::BannerWmax)?,
                BannerKey::Hmin => self.not_negative(Field::BannerHmin)?,
                BannerKey::Hmax => self.not_negative(Field::BannerHmax)?,
                BannerKey::Battr => imp.banner_battr = self.numbers(Field::BannerBattr)?,
                BannerKey::Bidfloor => floor.price = Some(self.floor(Field::BannerBidfloor)?),
                BannerKey::Bidfloorcur => floor.currency = self.currency(Field::BannerBidfloorcur)?,
            }
        }
        floor.keep(imp, Media::BANNER);
        let from = sizes.min(self.out.sizes.len());
        if w > 0 && h > 0 && !self.out.sizes.get(from..).unwrap_or(&[]).contains(&(w, h)) {
            self.size(w, h)?;
        }
        imp.sizes = run(from, self.out.sizes.len());
        Ok(())
    }

    /// 3.2.10. A flexible size (a ratio) has no width to compare a bid's with; then no size is demanded.
    fn formats(&mut self) -> Step {
        if !self.array(Field::BannerFormats)? {
            return Ok(());
        }
        let (mut first, mut n) = (true, 0);
        while self.c.element(&mut first)? {
            self.index[1] = n;
            n += 1;
            let (mut w, mut h) = (0, 0);
            if let Some(mut walk) = self.object(Field::Format)? {
                while let Some((key, _)) = self.next::<FormatKey>(&mut walk)? {
                    match key {
                        FormatKey::W => w = self.count(Field::FormatW)?.unwrap_or(0),
                        FormatKey::H => h = self.count(Field::FormatH)?.unwrap_or(0),
                        FormatKey::Wratio => self.not_negative(Field::FormatWratio)?,
                        FormatKey::Hratio => self.not_negative(Field::FormatHratio)?,
                        FormatKey::Wmin => self.not_negative(Field::FormatWmin)?,
                        FormatKey::Hmin => self.not_negative(Field::FormatHmin)?,
                    }
                }
            }
            if w > 0 && h > 0 {
                self.size(w, h)?;
            }
        }
        self.index[1] = -1;
        Ok(())
    }

    fn size(&mut self, w: u32, h: u32) -> Step {
        if self.out.sizes.len() >= TEXTS_MAX {
            return self.stop(Field::BannerFormats, Fault::TooMany);
        }
        self.out.sizes.push((w, h));
        Ok(())
    }

    /// 3.2.7 and 3.2.8: `mimes` is required.
    fn stream(&mut self, imp: &mut Imp, media: Media, fields: &StreamFields) -> Step {
        let Some(mut walk) = self.object(fields.itself)? else { return Ok(()) };
        imp.media = imp.media.with(media);
        let (mut mimes, mut duration, mut poddur, mut floor) = (0, (0, 0), 0, Floor::default());
        while let Some((key, _)) = self.next::<StreamKey>(&mut walk)? {
            match key {
                StreamKey::Mimes => mimes = self.elements(fields.mimes)?,
                StreamKey::Minduration => duration.0 = self.count(fields.minduration)?.unwrap_or(0),
                StreamKey::Maxduration => duration.1 = self.count(fields.maxduration)?.unwrap_or(0),
                StreamKey::W if media == Media::VIDEO => self.not_negative(Field::VideoW)?,
                StreamKey::H if media == Media::VIDEO => self.not_negative(Field::VideoH)?,
                StreamKey::Skipmin if media == Media::VIDEO => self.not_negative(Field::VideoSkipmin)?,
                StreamKey::Skipafter if media == Media::VIDEO => self.not_negative(Field::VideoSkipafter)?,
                // Audio has none of these.
                StreamKey::W | StreamKey::H | StreamKey::Skipmin | StreamKey::Skipafter => self.c.skip()?,
                StreamKey::Sequence => self.not_negative(fields.sequence)?,
                StreamKey::Maxseq => self.not_negative(fields.maxseq)?,
                StreamKey::Poddur => poddur = self.count(fields.poddur)?.unwrap_or(0),
                StreamKey::Minbitrate => self.not_negative(fields.minbitrate)?,
                StreamKey::Maxbitrate => self.not_negative(fields.maxbitrate)?,
                StreamKey::Battr => {
                    let battr = self.numbers(fields.battr)?;
                    if media == Media::VIDEO {
                        imp.video_battr = battr;
                    } else {
                        imp.audio_battr = battr;
                    }
                }
                StreamKey::Bidfloor => floor.price = Some(self.floor(fields.bidfloor)?),
                StreamKey::Bidfloorcur => floor.currency = self.currency(fields.bidfloorcur)?,
            }
        }
        if mimes == 0 {
            return self.stop(fields.mimes, Fault::Missing);
        }
        floor.keep(imp, media);
        if media == Media::VIDEO || !imp.media.meets(Media::VIDEO) {
            imp.duration_s = duration;
        }
        // 7.6: only dynamic (and hybrid) pods have a total duration to be filled by several bids. `maxseq` alone is
        // what 2.5 already had for audio, and says nothing without it.
        if poddur > 0 {
            imp.refused = Some(ImpRefusal::DynamicPod);
        }
        Ok(())
    }

    /// 3.2.9: `request` is required.
    fn native(&mut self, imp: &mut Imp) -> Step {
        let Some(mut walk) = self.object(Field::Native)? else { return Ok(()) };
        imp.media = imp.media.with(Media::NATIVE);
        let (mut request, mut floor) = (Text::NONE, Floor::default());
        while let Some((key, _)) = self.next::<NativeKey>(&mut walk)? {
            match key {
                NativeKey::Request => request = self.id(Field::NativeRequest)?,
                NativeKey::Battr => imp.native_battr = self.numbers(Field::NativeBattr)?,
                NativeKey::Bidfloor => floor.price = Some(self.floor(Field::NativeBidfloor)?),
                NativeKey::Bidfloorcur => floor.currency = self.currency(Field::NativeBidfloorcur)?,
            }
        }
        floor.keep(imp, Media::NATIVE);
        if request.is_empty() {
            return self.stop(Field::NativeRequest, Fault::Missing);
        }
        self.native_request(request)
    }

    /// 3.2.11
    fn pmp(&mut self, imp: &mut Imp) -> Step {
        let Some(mut walk) = self.object(Field::Pmp)? else { return Ok(()) };
        while let Some((key, _)) = self.next::<PmpKey>(&mut walk)? {
            match key {
                PmpKey::PrivateAuction => imp.private_auction = self.flag()?,
                PmpKey::Deals => {
                    let from = self.out.deals.len();
                    if self.array(Field::PmpDeals)? {
                        let mut first = true;
                        while self.c.element(&mut first)? {
                            if self.out.deals.len() >= DEALS_MAX {
                                return self.stop(Field::PmpDeals, Fault::TooMany);
                            }
                            self.index[1] = (self.out.deals.len() - from) as i32;
                            self.deal()?;
                        }
                        self.index[1] = -1;
                    }
                    imp.deals = run(from, self.out.deals.len());
                }
            }
        }
        Ok(())
    }

    /// 3.2.12: `id` is required; `bidfloorcur` is USD when absent, whatever the impression's is.
    fn deal(&mut self) -> Step {
        let Some(mut walk) = self.object(Field::Deal)? else { return self.stop(Field::Deal, Fault::WrongType) };
        let mut deal = Deal::default();
        while let Some((key, _)) = self.next::<DealKey>(&mut walk)? {
            match key {
                DealKey::Id => deal.id = self.id(Field::DealId)?,
                DealKey::Bidfloor => deal.bidfloor = self.floor(Field::DealBidfloor)?,
                DealKey::Bidfloorcur => deal.bidfloorcur = self.currency(Field::DealBidfloorcur)?,
                DealKey::At => deal.at = self.count(Field::DealAt)?.unwrap_or(0),
                DealKey::Guar => deal.guar = self.flag()?,
                DealKey::Wseat => deal.wseat = self.texts(Field::DealWseat)?,
                DealKey::Wadomain => deal.wadomain = self.texts(Field::DealWadomain)?,
            }
        }
        if deal.id.is_empty() {
            return self.stop(Field::DealId, Fault::Missing);
        }
        self.out.deals.push(deal);
        Ok(())
    }
}
