//! May this bid take part: a bid and a request in, a loss reason or what it is out.
//! Owns: the request's lists as a set, built at the first answer with bids. Runs on: each bidder core, pooled.
//! Called by: [`super::Auction::leg_answered`]. Never: looks at other bids, at floors (they belong to the
//! decision) or at the time.
//!
//! Where the standard is silent: what a bid does not declare (size, category, attributes, duration, `exp`) is not
//! held against it, unless the exchange requires it by configuration; categories of different taxonomies are not
//! compared; a bid without a seat is blocked where seats are listed.
use super::{
    Start,
    noticed::carries,
    secure::{Scan, loads_insecurely},
    textset::{List, TextSet},
};
use crate::{
    config::resolved::{Dsp, Wrapping},
    limits::RECORD_TEXT_MAX,
    openrtb::{
        codes::Loss,
        request::{Imp, Media, Run},
        response::{Bid, Response},
        text::Text,
    },
    units::Cpm,
};

/// One request's rules, ready to be asked about its bids.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    set: TextSet,
    built: bool,
    pub(super) scan: Scan,
}

/// One bid and where it came from.
pub(super) struct Offer<'a> {
    /// None: a house ad, which has no seat and no URLs.
    pub(super) dsp: Option<&'a Dsp>,
    pub(super) response: &'a Response,
    pub(super) bytes: &'a [u8],
    pub(super) bid: &'a Bid,
}

impl Rules {
    pub(super) fn reset(&mut self) {
        self.built = false;
    }

    fn build(&mut self, s: &Start<'_>) {
        if self.built {
            return;
        }
        self.built = true;
        let r = s.request;
        let lists = [
            (List::Badv, r.badv),
            (List::Bapp, r.bapp),
            (List::Bcat, r.bcat),
            (List::Acat, r.acat),
            (List::Wseat, r.wseat),
            (List::Bseat, r.bseat),
        ];
        let deals = r
            .deals
            .iter()
            .enumerate()
            .flat_map(|(i, d)| [(List::DealWseat(i as u16), d.wseat), (List::DealWadomain(i as u16), d.wadomain)]);
        let all = lists.into_iter().chain(deals);
        self.set.reset(s.entropy, all.clone().map(|(_, run)| run.of(&r.texts).len()).sum());
        for (list, run) in all {
            for text in run.of(&r.texts) {
                self.set.insert(list, *text, s.body);
            }
        }
    }

    /// Why the bid does not take part, or the deal (an index into the request's) and the medium that it is of.
    pub(super) fn judge(&mut self, s: &Start<'_>, imp: &Imp, o: &Offer<'_>) -> Result<(Option<u16>, Media), Loss> {
        self.build(s);
        shape(o)?;
        self.seat(s, o)?;
        let deal = self.deal(s, imp, o)?;
        let bid = o.bid;
        if s.exchange.require_adomain && lists_nothing(bid.adomain, &o.response.texts) {
            return Err(Loss::BadAdomain);
        }
        if s.exchange.require_crid && bid.crid.is_empty() {
            return Err(Loss::NoCrid);
        }
        let media = medium(imp, bid, o.bytes).filter(|m| imp.media.meets(*m)).ok_or(Loss::Format)?;
        if media == Media::BANNER && !size_fits(imp, imp.sizes.of(&s.request.sizes), bid.size) {
            return Err(Loss::Size);
        }
        if !duration_fits(imp, media, bid.dur_s) {
            return Err(Loss::Format);
        }
        self.blocks(s, imp, media, o)?;
        if imp.secure && loads_insecurely(bid.adm, o.bytes, &mut self.scan) {
            return Err(Loss::NotSecure);
        }
        // `imp.exp`: seconds that may pass until the impression; a bid that does not hold so long is no use.
        let needed_s = if imp.exp_s > 0 { imp.exp_s } else { s.exchange.expected_exp_s };
        if bid.exp_s > 0 && bid.exp_s < needed_s {
            return Err(Loss::Expired);
        }
        let carried = || o.dsp.is_none_or(|dsp| carries(bid, o.bytes, dsp));
        if s.exchange.notices == Wrapping::WrapOrRefuse && !carried() {
            return Err(Loss::NoticeUrl);
        }
        Ok((deal, media))
    }

    /// `wseat`, `bseat` (section 3.2.1) and the seats that the configuration gives the DSP.
    fn seat(&mut self, s: &Start<'_>, o: &Offer<'_>) -> Result<(), Loss> {
        let (r, seat) = (s.request, o.bid.seat);
        let seats = o.dsp.map_or(&[][..], |dsp| &dsp.seats);
        let ours = seats.is_empty() || seats.iter().any(|name| seat.is(o.bytes, name.as_bytes()));
        let listed = r.wseat.len == 0 || self.set.has(List::Wseat, seat, o.bytes);
        let barred = r.bseat.len > 0 && self.set.has(List::Bseat, seat, o.bytes);
        if ours && listed && !barred { Ok(()) } else { Err(Loss::SeatBlocked) }
    }

    /// Section 3.2.11 `private_auction`, 3.2.12 `wseat` and `wadomain`.
    fn deal(&mut self, s: &Start<'_>, imp: &Imp, o: &Offer<'_>) -> Result<Option<u16>, Loss> {
        let r = s.request;
        if o.bid.dealid.is_empty() {
            return if imp.private_auction { Err(Loss::NotAllowedInDeal) } else { Ok(None) };
        }
        let deals = imp.deals.of(&r.deals);
        let at = deals.iter().position(|d| o.bid.dealid.same(o.bytes, d.id, s.body)).ok_or(Loss::BadDeal)?;
        let (deal, ix) = (&deals[at], imp.deals.at + at as u16);
        if deal.wseat.len > 0 && !self.set.has(List::DealWseat(ix), o.bid.seat, o.bytes) {
            return Err(Loss::NotAllowedInDeal);
        }
        if deal.wadomain.len > 0 {
            let domains = o.bid.adomain.of(&o.response.texts);
            // Each of them has to be allowed; none declared cannot be.
            let list = List::DealWadomain(ix);
            if domains.is_empty() || !domains.iter().all(|d| self.set.has_domain(list, *d, o.bytes)) {
                return Err(Loss::NotAllowedInDeal);
            }
        }
        Ok(Some(ix))
    }

    fn blocks(&mut self, s: &Start<'_>, imp: &Imp, media: Media, o: &Offer<'_>) -> Result<(), Loss> {
        let (r, bid, texts) = (s.request, o.bid, &o.response.texts);
        let set = &mut self.set;
        if r.badv.len > 0 && bid.adomain.of(texts).iter().any(|d| set.has_domain(List::Badv, *d, o.bytes)) {
            return Err(Loss::AdvertiserBlocked);
        }
        if r.bapp.len > 0 && bid.bundle.is_some() && set.has(List::Bapp, bid.bundle, o.bytes) {
            return Err(Loss::AppBlocked);
        }
        let taxonomy = |t: u32| t.max(1); // absent is 1
        if taxonomy(r.cattax) == taxonomy(bid.cattax) {
            // Only content taxonomy 1.0 has its tiers in its codes: IAB1 is above IAB1-3.
            let tiers = taxonomy(r.cattax) == 1;
            let cats = bid.cat.of(texts);
            let blocked = r.bcat.len > 0 && cats.iter().any(|c| set.has_category(List::Bcat, *c, o.bytes, tiers));
            let outside = r.acat.len > 0 && !cats.iter().all(|c| set.has_category(List::Acat, *c, o.bytes, tiers));
            if blocked || outside {
                return Err(Loss::Category);
            }
        }
        let battr = match media {
            Media::BANNER => imp.banner_battr,
            Media::VIDEO => imp.video_battr,
            Media::AUDIO => imp.audio_battr,
            _ => imp.native_battr,
        };
        if meet(battr.of(&r.numbers), bid.attr.of(&o.response.numbers)) {
            return Err(Loss::Attribute);
        }
        Ok(())
    }
}

/// What makes a bid readable at all (section 4.2.3): a price above zero, and markup.
pub(super) fn shape(o: &Offer<'_>) -> Result<(), Loss> {
    if !matches!(o.bid.price, Ok(price) if price > Cpm::ZERO) {
        return Err(Loss::NoPrice);
    }
    if o.bid.adm.is_empty() && o.bid.nurl.is_empty() {
        return Err(Loss::NoMarkup);
    }
    // Accounts are told apart by these, and a record keeps them whole.
    if o.bid.seat.raw(o.bytes).len() > RECORD_TEXT_MAX || o.bid.cid.raw(o.bytes).len() > RECORD_TEXT_MAX {
        return Err(Loss::InvalidBid);
    }
    Ok(())
}

/// The bid's medium: as stated (`mtype`); else what its markup looks like, if the impression takes that; else the
/// impression's only one, since many bidders do not say and wrap what they send.
fn medium(imp: &Imp, bid: &Bid, bytes: &[u8]) -> Option<Media> {
    if bid.media.is_some() {
        return bid.media;
    }
    if imp.media.0.count_ones() == 1 {
        return Some(imp.media);
    }
    let mut head = bid.adm.bytes(bytes).skip_while(|b| b.is_ascii_whitespace() || matches!(b, 0xef | 0xbb | 0xbf));
    let mut starts = [0u8; 5];
    for b in &mut starts {
        *b = head.next().unwrap_or(0).to_ascii_lowercase();
    }
    let looks = if &starts == b"<vast" || &starts == b"<?xml" {
        // VAST carries both; what the impression does not take it cannot be.
        if imp.media.meets(Media::VIDEO) { Media::VIDEO } else { Media::AUDIO }
    } else if starts[0] == b'{' {
        Media::NATIVE
    } else if bid.adm.is_empty() {
        // Markup comes with the notice. The first that is offered, in the order of `mtype`.
        Media(imp.media.0 & imp.media.0.wrapping_neg())
    } else {
        Media::BANNER
    };
    Some(looks)
}

/// One of the sizes that are offered; an interstitial (`instl`) takes what fits into one of them.
fn size_fits(imp: &Imp, sizes: &[(u32, u32)], (w, h): (u32, u32)) -> bool {
    let undeclared = w == 0 || h == 0 || sizes.is_empty();
    undeclared || sizes.iter().any(|s| *s == (w, h) || imp.instl && w <= s.0 && h <= s.1)
}

/// `minduration` and `maxduration`: of the video, or of the audio where there is no video.
fn duration_fits(imp: &Imp, media: Media, dur_s: u32) -> bool {
    let (min, max) = imp.duration_s;
    let theirs = media == Media::VIDEO || media == Media::AUDIO && !imp.media.meets(Media::VIDEO);
    dur_s == 0 || !theirs || (min == 0 || dur_s >= min) && (max == 0 || dur_s <= max)
}

fn lists_nothing(run: Run, texts: &[Text]) -> bool {
    run.of(texts).iter().all(|t| t.is_empty())
}

/// Has the bid one of the blocked attributes? They are 17 numbers and a few of vendors (500 and above), so a bit
/// set does nearly all; a bid that declares more private ones than anybody uses is refused rather than read.
fn meet(blocked: &[u32], declared: &[u32]) -> bool {
    const PRIVATE: usize = 16;
    if blocked.is_empty() || declared.is_empty() {
        return false;
    }
    let low = declared.iter().filter(|n| **n < 128).fold(0u128, |set, n| set | 1 << n);
    let high = || declared.iter().filter(|n| **n >= 128);
    if high().count() > PRIVATE {
        return true;
    }
    blocked.iter().any(|b| if *b < 128 { low >> b & 1 == 1 } else { high().any(|n| n == b) })
}
