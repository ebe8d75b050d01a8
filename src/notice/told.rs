//! The records of notices: one of each that came in, one of what came of telling the DSP.
//! Owns: nothing. Runs on: each bidder core and flush (write), flush, starts and readers of journals (read).
//! Never: a person's address, or who called: what a notice is about is in its token.
//!
//! Payloads of frames of kinds 7 and 15. The notice's record is the task as well: a notice without a [`Told`] behind it is to
//! be told still.
use super::token::{Kind, Token, URL_MAX};
use crate::{
    budget::{AccountId, Period},
    notice::price::Said,
    openrtb::codes::Outcome,
    record::codec::{Block, Reader, RecordError, flags},
    units::{Cpm, EventId, Money},
};

/// The version of frames of notices. What version 1 says settles nothing, and what version 2 says names no buyer; they read as ones
/// of today.
pub const NOTICE_VERSION: u8 = 3;
/// The version of frames that say what came of telling.
pub const TOLD_VERSION: u8 = 1;

/// Kind, flags, what was said, impression, event, price, charge, account, window, expiry, length of the URL.
const HEAD: usize = 4 + 18 + 5 + 8 + 4 + 4 + 4 + 2;
/// What was held, where less is charged.
const HELD: usize = 8;
/// Longest payload of a notice.
pub const NOTICE_BYTES_MAX: usize = HEAD + HELD + 1 + u8::MAX as usize + URL_MAX;

/// What names a notice: no two that are acted on have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name {
    /// The auction.
    pub event: EventId,
    /// Which of its impressions, from zero.
    pub imp: u8,
    /// Of what.
    pub kind: Kind,
}

/// A notice that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Notice<'a> {
    /// Which.
    pub name: Name,
    /// It came after its token's time: nothing follows from it.
    pub expired: bool,
    /// What it said of the price.
    pub said: Said,
    /// The price that was answered, in the answer's currency.
    pub price: Cpm,
    /// What the impression costs, in the accounting currency.
    pub charge: Money,
    /// What was held for it; it is settled by this. `None`: it was charged at the auction.
    pub held: Option<Money>,
    /// Who pays; [`AccountId::NONE`]: there is no budget.
    pub account: AccountId,
    /// In which window.
    pub period: Period,
    /// Until when the token held, seconds since 1970.
    pub expires_s: u32,
    /// As in [`Token::buyer`].
    pub buyer: &'a [u8],
    /// The DSP's URL, all its macros filled.
    pub url: &'a [u8],
}

impl Token<'_> {
    /// What names the notice that it is for.
    pub fn name(&self) -> Name {
        Name { event: self.event, imp: self.imp, kind: self.kind }
    }
}

impl<'a> Notice<'a> {
    /// Appends it. A URL longer than [`URL_MAX`] is left out: there is none in a token.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let url = if self.url.len() > URL_MAX { &[] } else { self.url };
        let less = self.held.filter(|held| *held != self.charge);
        let buyer = &self.buyer[..self.buyer.len().min(usize::from(u8::MAX))];
        Block::<HEAD>::new()
            .u8(self.name.kind as u8)
            .u8(flags([self.expired, self.held.is_some(), less.is_some(), !buyer.is_empty()]))
            .u8(self.said as u8)
            .u8(self.name.imp)
            .event(self.name.event)
            .cpm(self.price)
            .u64(self.charge.0.max(0) as u64)
            .u32(self.account.0)
            .u32(self.period.0)
            .u32(self.expires_s)
            .u16(url.len() as u16)
            .end(out);
        if let Some(held) = less {
            Block::<HELD>::new().u64(held.0.max(0) as u64).end(out);
        }
        if !buyer.is_empty() {
            out.push(buyer.len() as u8);
            out.extend_from_slice(buyer);
        }
        out.extend_from_slice(url);
    }

    /// Reads [`Notice::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`] of what is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Notice<'a>, RecordError> {
        let mut r = Reader { rest: bytes };
        let kind = kind(r.u8()?)?;
        let [expired, awaited, less, bought] = r.flags()?;
        let said = Said::ALL.get(usize::from(r.u8()?)).copied().ok_or(RecordError::Value)?;
        let (imp, event) = (r.u8()?, r.event()?);
        let (price, charge) = (r.cpm()?, r.money()?);
        let (account, period, expires_s) = (AccountId(r.u32()?), Period(r.u32()?), r.u32()?);
        let len = r.count16(URL_MAX)?;
        let held = match (awaited, less) {
            (true, true) => Some(r.money()?).filter(|held| *held != charge).map(Some).ok_or(RecordError::Value)?,
            (true, false) => Some(charge),
            (false, false) => None,
            (false, true) => return Err(RecordError::Value),
        };
        let buyer = match bought {
            true => {
                let len = r.u8()?;
                Some(r.take(usize::from(len))?).filter(|buyer| !buyer.is_empty()).ok_or(RecordError::Value)?
            }
            false => &[],
        };
        let url = r.take(len)?;
        r.end()?;
        let name = Name { event, imp, kind };
        Ok(Notice { name, expired, said, price, charge, held, account, period, expires_s, buyer, url })
    }
}

/// What came of telling a DSP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum End {
    /// It answered that it has heard: any status below 400.
    Done = 0,
    /// It answered that it never will: 4xx but 408 and 429.
    Refused = 1,
    /// It did not answer well within `notices.retry_s`.
    GaveUp = 2,
    /// Too many others wait already: for its host, or in all.
    NoRoom = 3,
    /// No DSP takes notices at this host any more.
    NoHost = 4,
}

impl End {
    /// All of them, by their numbers.
    pub const ALL: [End; 5] = [End::Done, End::Refused, End::GaveUp, End::NoRoom, End::NoHost];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            End::Done => "done",
            End::Refused => "refused",
            End::GaveUp => "gave_up",
            End::NoRoom => "no_room",
            End::NoHost => "no_host",
        }
    }
}

/// That a DSP was told, or could not be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Of which notice.
    pub name: Name,
    /// What came of it.
    pub end: End,
    /// The last status that it answered with; below 100: it did not, and this is the [`Outcome`]'s number; 0: it was not called,
    /// or nobody knows why.
    pub status: u16,
    /// How often it was called.
    pub attempts: u16,
}

impl Told {
    /// The last status that it answered with.
    pub fn answered(&self) -> Option<u16> {
        (self.status >= 100).then_some(self.status)
    }

    /// Why its last call had no answer.
    pub fn failed(&self) -> Option<Outcome> {
        let outcome = Outcome::ALL.get(usize::from(self.status)).copied();
        outcome.filter(|outcome| *outcome != Outcome::Bid)
    }
}

// No outcome is a status.
const _: () = assert!(Outcome::ALL.len() <= 100);
/// Bytes of a [`Told`].
const TOLD: usize = 1 + 1 + 18 + 1 + 2 + 2;

impl Told {
    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Name { event, imp, kind } = self.name;
        Block::<TOLD>::new()
            .u8(kind as u8)
            .u8(imp)
            .event(event)
            .u8(self.end as u8)
            .u16(self.status)
            .u16(self.attempts)
            .end(out);
    }

    /// Reads [`Told::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`] of what is none.
    pub fn decode(bytes: &[u8]) -> Result<Told, RecordError> {
        let mut r = Reader { rest: bytes };
        let (kind, imp, event) = (kind(r.u8()?)?, r.u8()?, r.event()?);
        let end = End::ALL.get(usize::from(r.u8()?)).copied().ok_or(RecordError::Value)?;
        let (status, attempts) = (r.u16()?, r.u16()?);
        r.end()?;
        Ok(Told { name: Name { event, imp, kind }, end, status, attempts })
    }
}

fn kind(number: u8) -> Result<Kind, RecordError> {
    Kind::ALL.get(usize::from(number)).copied().ok_or(RecordError::Value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: EventId = EventId { node: 9, epoch: 8, core: 7, seq: 6 };

    fn notice(url: &[u8]) -> Notice<'_> {
        Notice {
            name: Name { event: EVENT, imp: 3, kind: Kind::Billed },
            expired: true,
            said: Said::Lower,
            price: Cpm(0x0102),
            charge: Money(0x0304),
            held: None,
            account: AccountId(5),
            period: Period(6),
            expires_s: 7,
            buyer: b"",
            url,
        }
    }

    #[test]
    fn notices_survive() {
        let longest = vec![b'x'; URL_MAX];
        for url in [&b""[..], b"http://dsp.example/n", &longest] {
            let mut out = Vec::new();
            notice(url).encode(&mut out);
            assert_eq!(Notice::decode(&out), Ok(notice(url)));
            assert!(out.len() <= NOTICE_BYTES_MAX);
            for len in 0..out.len() {
                assert_eq!(Notice::decode(&out[..len]), Err(RecordError::Short), "{len}");
            }
            out.push(0);
            assert_eq!(Notice::decode(&out), Err(RecordError::Trailing));
        }
        for (held, buyer) in [(None, &b"dsp/seat"[..]), (Some(Money(9)), &[b'x'; 255])] {
            let mut out = Vec::new();
            let said = Notice { held, buyer, ..notice(&longest) };
            said.encode(&mut out);
            assert_eq!(Notice::decode(&out), Ok(said));
            assert!(out.len() <= NOTICE_BYTES_MAX);
            assert_eq!(Notice::decode(&out[..out.len() - URL_MAX - 1]), Err(RecordError::Short));
        }
        let mut out = Vec::new();
        notice(&[b'x'; URL_MAX + 1]).encode(&mut out);
        assert_eq!(Notice::decode(&out), Ok(notice(b"")));
    }

    /// The bytes as they were written: never made anew.
    #[test]
    fn both_are_these_bytes() {
        let event = b"\x09\0\0\0\x08\0\0\0\x07\0\x06\0\0\0\0\0\0\0";
        let rest = b"\x02\x01\0\0\0\x04\x03\0\0\0\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\x01\0u";
        let mut out = Vec::new();
        notice(b"u").encode(&mut out);
        assert_eq!(out, [&b"\x01\x01\x02\x03"[..], event, rest].concat());
        out.clear();
        Notice { buyer: b"d/s", ..notice(b"u") }.encode(&mut out);
        let named = [&rest[..rest.len() - 1], b"\x03d/su"].concat();
        assert_eq!(out, [&b"\x01\x09\x02\x03"[..], event, &named].concat());
        let told = Told {
            name: Name { event: EVENT, imp: 3, kind: Kind::Lost },
            end: End::GaveUp,
            status: 0x0102,
            attempts: 4,
        };
        out.clear();
        told.encode(&mut out);
        assert_eq!(out, [&b"\x02\x03"[..], event, b"\x02\x02\x01\x04\0"].concat());
        assert_eq!(Told::decode(&out), Ok(told));
        assert_eq!(Told::decode(&out[..out.len() - 1]), Err(RecordError::Short));
        out[20] = 5;
        assert_eq!(Told::decode(&out), Err(RecordError::Value));
    }
}
