//! Reads a DSP's bid response into its view (OpenRTB 2.6 section 4.2), as tolerantly as can be told apart.
//!
//! `null` and values of the wrong type are absence; numbers in strings are numbers. A bid without a string `id` and
//! `impid` is counted, not read: nothing could be said about it. Only a text that is not JSON, is no object, or
//! has a member that we read twice in one object (we and the DSP's own log would disagree) is an error.
//!
//! Owns: nothing. Runs on: each bidder core. Called by: `bidder/flight`. Never: allocates once the view's vectors
//! have grown. Full: bids beyond [`BIDS_PER_ANSWER_MAX`] are counted as unusable.
use super::{
    reader::run,
    request::{Media, Run},
    response::{Bid, Response},
    text::{Span, Text},
};
use crate::{
    json::{self, Cursor, Key, Known, keys},
    limits::{BIDS_PER_ANSWER_MAX, TEXTS_MAX},
    units::{Cpm, Currency, PriceError, Round},
};

/// Why an answer is no answer. Each of them is [`super::codes::Outcome::NotJson`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResponseError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] json::Error),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A member that is read stands twice in its object; the offset is that of the second.
    #[error("a member twice, at byte {0}")]
    DuplicateKey(u32),
}

type Read<T = ()> = Result<T, ResponseError>;

impl Response {
    /// Reads an answer that is not empty. What the view held before is forgotten, its memory is kept. After an error
    /// the view means nothing.
    ///
    /// # Errors
    /// Not a JSON object, or one that has a member twice.
    pub fn parse(&mut self, body: &[u8]) -> Result<(), ResponseError> {
        self.clear();
        let mut reader = AnswerReader { c: Cursor::new(body, 0)?, out: self };
        reader.response()?;
        Ok(reader.c.finish()?)
    }

    fn clear(&mut self) {
        let mut old = std::mem::take(self);
        old.bids.clear();
        old.texts.clear();
        old.numbers.clear();
        (self.bids, self.texts, self.numbers) = (old.bids, old.texts, old.numbers);
        self.cur = Some(Currency::USD);
    }
}

keys! { ResponseKey { Id = "id", Seatbid = "seatbid", Bidid = "bidid", Cur = "cur", Nbr = "nbr" } }

keys! { SeatbidKey { Bid = "bid", Seat = "seat", Group = "group" } }

keys! { BidKey {
    Id = "id", Impid = "impid", Price = "price", Adm = "adm", Nurl = "nurl", Burl = "burl", Lurl = "lurl",
    Adomain = "adomain", Cat = "cat", Cattax = "cattax", Attr = "attr", Bundle = "bundle", Cid = "cid", Crid = "crid",
    Adid = "adid", Dealid = "dealid", W = "w", H = "h", Mtype = "mtype", Dur = "dur", Exp = "exp",
} }

struct AnswerReader<'a, 'r> {
    c: Cursor<'a>,
    out: &'r mut Response,
}

/// A walk over the members of one object.
struct Walk {
    first: bool,
    seen: u64,
}

impl AnswerReader<'_, '_> {
    /// Enters an object; passes anything else.
    fn object(&mut self) -> Read<Option<Walk>> {
        if self.c.peek() == b'{' {
            self.c.enter()?;
            return Ok(Some(Walk { first: true, seen: 0 }));
        }
        self.c.skip()?;
        Ok(None)
    }

    /// Enters an array; passes anything else.
    fn array(&mut self) -> Read<bool> {
        if self.c.peek() == b'[' {
            self.c.enter()?;
            return Ok(true);
        }
        self.c.skip()?;
        Ok(false)
    }

    /// The list that bids stand in. Anything else in its place but `null` offers something that cannot be read: it
    /// counts as an unusable bid, else a DSP that speaks another dialect would look like one that declines.
    fn bids(&mut self) -> Read<bool> {
        let wrong = !matches!(self.c.peek(), b'[' | b'n');
        self.out.bids_seen += u32::from(wrong);
        self.out.bids_unusable += u32::from(wrong);
        self.array()
    }

    #[inline(always)]
    fn next<K: Known>(&mut self, walk: &mut Walk) -> Read<Option<K>> {
        while let Some(key) = self.c.key(&mut walk.first)? {
            let Some(known) = K::of(&key) else {
                self.c.skip()?;
                continue;
            };
            once(walk, known, &key)?;
            return Ok(Some(known));
        }
        Ok(None)
    }

    fn response(&mut self) -> Read {
        let Some(mut walk) = self.object()? else {
            self.c.finish()?;
            return Err(ResponseError::NotAnObject);
        };
        while let Some(key) = self.next::<ResponseKey>(&mut walk)? {
            match key {
                ResponseKey::Id => self.out.id = self.c.text()?,
                ResponseKey::Seatbid => {
                    if self.bids()? {
                        let (mut first, mut n) = (true, 0u16);
                        while self.c.element(&mut first)? {
                            self.seatbid(n)?;
                            n = n.saturating_add(1);
                        }
                    }
                }
                ResponseKey::Bidid => self.out.bidid = self.c.text()?,
                // 4.2.1: USD when absent. What is neither absent nor a code must not be taken for dollars.
                ResponseKey::Cur => {
                    self.out.cur = match self.c.peek() {
                        b'"' => {
                            let text = self.c.string()?;
                            if text.is_empty() { Some(Currency::USD) } else { Currency::parse(text.raw(self.c.buf())) }
                        }
                        b'n' => {
                            self.c.skip()?;
                            Some(Currency::USD)
                        }
                        _ => {
                            self.c.skip()?;
                            None
                        }
                    }
                }
                ResponseKey::Nbr => self.out.nbr = self.number()?,
            }
        }
        Ok(())
    }

    /// 4.2.2. `seat` and `group` may stand behind the bids, so they are filled in at the end.
    fn seatbid(&mut self, n: u16) -> Read {
        let Some(mut walk) = self.object()? else { return Ok(()) };
        let from = self.out.bids.len();
        let (mut seat, mut group) = (Text::NONE, false);
        while let Some(key) = self.next::<SeatbidKey>(&mut walk)? {
            match key {
                SeatbidKey::Bid => {
                    if self.bids()? {
                        let mut first = true;
                        while self.c.element(&mut first)? {
                            self.bid(n)?;
                        }
                    }
                }
                SeatbidKey::Seat => seat = self.c.text()?,
                SeatbidKey::Group => group = self.number()? == Some(1),
            }
        }
        for bid in self.out.bids.iter_mut().skip(from) {
            (bid.seat, bid.group) = (seat, group);
        }
        Ok(())
    }

    /// 4.2.3
    fn bid(&mut self, seatbid: u16) -> Read {
        self.out.bids_seen = self.out.bids_seen.saturating_add(1);
        self.c.peek();
        let from = self.c.at();
        // Beyond the limit a bid is checked to be JSON, no more.
        let full = self.out.bids.len() >= BIDS_PER_ANSWER_MAX;
        let walk = if full { self.c.skip().map(|()| None)? } else { self.object()? };
        let Some(mut walk) = walk else {
            self.out.bids_unusable = self.out.bids_unusable.saturating_add(1);
            return Ok(());
        };
        let lists = (self.out.texts.len(), self.out.numbers.len());
        let mut bid = Bid {
            whole: Span::default(),
            seat: Text::NONE,
            seatbid,
            group: false,
            id: Text::NONE,
            impid: Text::NONE,
            price: Err(PriceError::NotANumber),
            price_span: Span::default(),
            adm: Text::NONE,
            nurl: Text::NONE,
            burl: Text::NONE,
            lurl: Text::NONE,
            adomain: Run::default(),
            cat: Run::default(),
            cattax: 1,
            attr: Run::default(),
            bundle: Text::NONE,
            cid: Text::NONE,
            crid: Text::NONE,
            adid: Text::NONE,
            dealid: Text::NONE,
            size: (0, 0),
            media: None,
            dur_s: 0,
            exp_s: 0,
        };
        while let Some(key) = self.next::<BidKey>(&mut walk)? {
            let text = match key {
                BidKey::Id => &mut bid.id,
                BidKey::Impid => &mut bid.impid,
                BidKey::Adm => &mut bid.adm,
                BidKey::Nurl => &mut bid.nurl,
                BidKey::Burl => &mut bid.burl,
                BidKey::Lurl => &mut bid.lurl,
                BidKey::Bundle => &mut bid.bundle,
                BidKey::Cid => &mut bid.cid,
                BidKey::Crid => &mut bid.crid,
                BidKey::Adid => &mut bid.adid,
                BidKey::Dealid => &mut bid.dealid,
                _ => {
                    self.bid_field(key, &mut bid)?;
                    continue;
                }
            };
            // Most of a bid: read here, without a call.
            *text = if self.c.peek() == b'"' { self.c.string()? } else { self.c.text()? };
        }
        if bid.id.is_empty() || bid.impid.is_empty() {
            self.out.bids_unusable = self.out.bids_unusable.saturating_add(1);
            self.out.texts.truncate(lists.0);
            self.out.numbers.truncate(lists.1);
            return Ok(());
        }
        bid.whole = self.c.since(from);
        self.out.bids.push(bid);
        Ok(())
    }

    /// What is no plain string.
    #[inline]
    fn bid_field(&mut self, key: BidKey, bid: &mut Bid) -> Read {
        match key {
            BidKey::Price => (bid.price, bid.price_span) = self.price()?,
            BidKey::Adomain => bid.adomain = self.texts()?,
            BidKey::Cat => bid.cat = self.texts()?,
            BidKey::Cattax => bid.cattax = self.number()?.unwrap_or(1).max(1),
            BidKey::Attr => bid.attr = self.numbers()?,
            BidKey::W => bid.size.0 = self.number()?.unwrap_or(0),
            BidKey::H => bid.size.1 = self.number()?.unwrap_or(0),
            BidKey::Mtype => bid.media = self.number()?.and_then(Media::of_mtype),
            BidKey::Dur => bid.dur_s = self.number()?.unwrap_or(0),
            BidKey::Exp => bid.exp_s = self.number()?.unwrap_or(0),
            _ => self.c.skip()?,
        }
        Ok(())
    }

    /// The bytes of a number, be it in quotes or not; `None` for anything else.
    fn digits(&mut self) -> Read<Option<&[u8]>> {
        if self.c.peek() != b'"' {
            return Ok(self.c.digits()?);
        }
        let text = self.c.string()?;
        Ok((!text.escaped()).then(|| text.raw(self.c.buf()).trim_ascii()))
    }

    /// A price, rounded down, and where it stands.
    fn price(&mut self) -> Read<(Result<Cpm, PriceError>, Span)> {
        self.c.peek();
        let from = self.c.at();
        let price = match self.digits()? {
            Some(text) => Cpm::parse(text, Round::Down),
            None => Err(PriceError::NotANumber),
        };
        Ok((price, self.c.since(from)))
    }

    /// A whole number from 0 on, be it in quotes or not; anything else is absence.
    fn number(&mut self) -> Read<Option<u32>> {
        let quoted = self.c.peek() == b'"';
        let Some(text) = self.digits()? else { return Ok(None) };
        // In quotes anything may stand; `integer` wants a JSON number, which a price must be too.
        if quoted && Cpm::parse(text, Round::Down) == Err(PriceError::NotANumber) {
            return Ok(None);
        }
        Ok(json::integer(text).and_then(|n| u32::try_from(n).ok()))
    }

    /// The strings of a list, or the one string that stands in a list's place.
    fn texts(&mut self) -> Read<Run> {
        let from = self.out.texts.len();
        if self.c.peek() == b'"' {
            let text = self.c.string()?;
            self.keep(text);
        } else if self.array()? {
            let mut first = true;
            while self.c.element(&mut first)? {
                let text = self.c.text()?;
                self.keep(text);
            }
        }
        Ok(run(from, self.out.texts.len()))
    }

    /// Beyond the limit, which is far beyond any real list, strings are passed.
    fn keep(&mut self, text: Text) {
        if text.is_some() && self.out.texts.len() < TEXTS_MAX {
            self.out.texts.push(text);
        }
    }

    fn numbers(&mut self) -> Read<Run> {
        let from = self.out.numbers.len();
        if self.array()? {
            let mut first = true;
            while self.c.element(&mut first)? {
                if let Some(n) = self.number()?
                    && self.out.numbers.len() < TEXTS_MAX
                {
                    self.out.numbers.push(n);
                }
            }
        }
        Ok(run(from, self.out.numbers.len()))
    }
}

#[inline]
fn once(walk: &mut Walk, known: impl Known, key: &Key) -> Read {
    if walk.seen & known.bit() != 0 {
        return Err(ResponseError::DuplicateKey(key.at));
    }
    walk.seen |= known.bit();
    Ok(())
}
