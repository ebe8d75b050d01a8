//! A notice URL of ours: `BASE/TOKEN`, the token being all that is known of the win, and the DSP's own URL, under a signature.
//! Owns: nothing. Runs on: each bidder core. Called by: the answer (writes), the notice's arrival (reads).
//! Never: believes a byte before the signature is right; takes two spellings of one token.
//!
//! Layout, little-endian, then base64url without padding (RFC 4648 section 5):
//!
//! ```text
//!  0  version 1, 2    4 bits   price is open    1 bit    awaited 1 bit    kind   2 bits
//!  1  key             u8       impression       u8
//!  3  event           node u32, epoch u32, core u16, seq u64
//! 21  answered price  u40      floor            u40       micro-units CPM, the answer's currency
//! 31  charge          i64      nano-units, the accounting currency
//! 39  account         u32      window           u32       0: nobody's
//! 47  expires         u32      seconds since 1970
//! 51  buyer           u8, text                         version 2 alone: `dsp/seat`, of a bid that no account pays
//!  -  the DSP's URL            its macros filled, but for those that wait for the notice
//!  -  signature       16       HMAC-SHA-256 of all before it, its first half
//! ```
use super::keys::{Keys, MAC_BYTES};
use crate::{
    budget::{AccountId, Period},
    record::codec::{Block, Reader},
    units::{Cpm, EventId, Money},
};

/// Longest DSP's URL that is wrapped, bytes. Base64 makes a third more of it, and some servers and proxies take no request
/// line of more than 4 KB.
pub const URL_MAX: usize = 1_536;
/// Longest token.
pub const TOKEN_MAX: usize = spelled(HEAD + URL_MAX + MAC_BYTES);

const HEAD: usize = 51;
const VERSION: u8 = 1;
/// The same with a buyer.
const VERSION_BUYER: u8 = 2;

/// Characters of so many bytes in base64 without padding.
const fn spelled(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

const _: () = assert!(TOKEN_MAX <= 2_200);

/// What is noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// `nurl`: it won. Never a count of impressions (section 4.2.3).
    Won = 0,
    /// `burl`: it is billable.
    Billed = 1,
    /// `lurl`: it lost.
    Lost = 2,
}

impl Kind {
    /// All of them, by their numbers.
    pub const ALL: [Kind; 3] = [Kind::Won, Kind::Billed, Kind::Lost];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Won => "won",
            Kind::Billed => "billed",
            Kind::Lost => "lost",
        }
    }

    pub(super) fn of(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number)).copied()
    }
}

/// What a notice URL says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token<'a> {
    /// Of what.
    pub kind: Kind,
    /// The auction.
    pub event: EventId,
    /// Which of its impressions, from zero.
    pub imp: u8,
    /// The price that was answered, in the answer's currency.
    pub price: Cpm,
    /// The floor that applied, likewise: no notice lowers the price below it.
    pub floor: Cpm,
    /// What that price costs in the accounting currency, for all of the impression's `qty`.
    pub charge: Money,
    /// Who pays; [`AccountId::NONE`]: there is no budget.
    pub account: AccountId,
    /// In which window.
    pub period: Period,
    /// Others decide after us: what the notice says of the price counts ([`super::price`]).
    pub open: bool,
    /// The charge waits for it: a billing notice settles what is held.
    pub awaited: bool,
    /// A notice that comes then or later is answered and not charged. Seconds since 1970.
    pub expires_s: u32,
    /// Whose bid it is where no account pays, `dsp/seat`, at most 255 bytes; else empty, as the account says it.
    pub buyer: &'a [u8],
    /// What is called in turn: the DSP's URL.
    pub url: &'a [u8],
}

/// Why bytes are no token of ours. For whoever called they are all one: 404.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// Longer or shorter than any.
    #[error("no token is so long")]
    Length,
    /// A character that base64url has not, or bits left over that are not zero.
    #[error("not base64url")]
    Spelling,
    /// Another release's, or a kind that there is not.
    #[error("unknown version")]
    Version,
    /// It was signed with a key that is not believed any more, or never was.
    #[error("unknown key")]
    Key,
    /// It is not what was signed.
    #[error("wrong signature")]
    Signature,
    /// Signed by us, with something in it that cannot be.
    #[error("impossible value")]
    Value,
}

/// The DSP's URL is longer than [`URL_MAX`], or a price is out of its range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a URL of more than {URL_MAX} bytes with what names the buyer, or a price below zero")]
pub struct Unwritable;

impl Token<'_> {
    /// Too late to be charged?
    pub fn expired(&self, now_s: u32) -> bool {
        now_s >= self.expires_s
    }

    /// Characters of this token.
    pub fn spelled_len(&self) -> usize {
        spelled(HEAD + self.buyer_len() + self.url.len() + MAC_BYTES)
    }

    fn buyer_len(&self) -> usize {
        if self.buyer.is_empty() { 0 } else { 1 + self.buyer.len() }
    }

    /// Appends it, signed with the key that signs. All characters stand for themselves in JSON and in URLs.
    ///
    /// # Errors
    /// [`Unwritable`]: nothing was appended.
    pub fn write(&self, keys: &Keys, out: &mut Vec<u8>) -> Result<(), Unwritable> {
        let prices = [self.price, self.floor];
        let buyer_len = u8::try_from(self.buyer.len()).map_err(|_| Unwritable)?;
        if self.buyer_len() + self.url.len() > URL_MAX || prices.iter().any(|p| !(Cpm::ZERO..=Cpm::MAX).contains(p)) {
            return Err(Unwritable);
        }
        let version = if buyer_len == 0 { VERSION } else { VERSION_BUYER };
        let from = out.len();
        // The bytes first, then their spelling in the same place: from the back, as it is longer.
        Block::<HEAD>::new()
            .u8(version << 4 | u8::from(self.open) << 3 | u8::from(self.awaited) << 2 | self.kind as u8)
            .u8(keys.signing())
            .u8(self.imp)
            .event(self.event)
            .cpm(self.price)
            .cpm(self.floor)
            .u64(self.charge.0 as u64)
            .u32(self.account.0)
            .u32(self.period.0)
            .u32(self.expires_s)
            .end(out);
        if buyer_len > 0 {
            out.push(buyer_len);
            out.extend_from_slice(self.buyer);
        }
        out.extend_from_slice(self.url);
        let Some(mac) = keys.sign(keys.signing(), &out[from..]) else {
            out.truncate(from);
            return Err(Unwritable);
        };
        out.extend_from_slice(&mac);
        spell(out, from);
        Ok(())
    }

    /// Reads a token that somebody sent. `bytes` is overwritten; the URL is in it.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn read<'b>(text: &[u8], keys: &Keys, bytes: &'b mut Vec<u8>) -> Result<Token<'b>, Refused> {
        bytes.clear();
        if text.len() > TOKEN_MAX || text.len() < spelled(HEAD + MAC_BYTES) {
            return Err(Refused::Length);
        }
        unspell(text, bytes).ok_or(Refused::Spelling)?;
        let (said, mac) = bytes.split_last_chunk::<MAC_BYTES>().ok_or(Refused::Length)?;
        if said.first().is_none_or(|first| !matches!(first >> 4, VERSION | VERSION_BUYER)) {
            return Err(Refused::Version);
        }
        let id = *said.get(1).ok_or(Refused::Length)?;
        match keys.verify(id, said, mac) {
            Some(true) => {}
            Some(false) => return Err(Refused::Signature),
            None => return Err(Refused::Key),
        }
        Token::signed(said).ok_or(Refused::Value)
    }

    /// What was signed.
    fn signed(said: &[u8]) -> Option<Token<'_>> {
        let mut r = Reader { rest: said };
        let first = r.u8().ok()?;
        let (kind, open, awaited) = (Kind::of(first & 3)?, first & 8 != 0, first & 4 != 0);
        let (_, imp) = (r.u8().ok()?, r.u8().ok()?);
        let event = r.event().ok()?;
        let (price, floor) = (r.cpm().ok()?, r.cpm().ok()?);
        let charge = Money(r.u64().ok()? as i64);
        let (account, period, expires_s) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
        let (account, period) = (AccountId(account), Period(period));
        let buyer = match first >> 4 {
            VERSION_BUYER => {
                let len = r.u8().ok()?;
                r.take(usize::from(len)).ok().filter(|buyer| !buyer.is_empty())?
            }
            _ => &[],
        };
        let url = r.rest;
        Some(Token { kind, event, imp, price, floor, charge, account, period, open, awaited, expires_s, buyer, url })
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What each character stands for; 64 and more: nothing.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut i = 0;
    while i < 64 {
        values[ALPHABET[i] as usize] = i as u8;
        i += 1;
    }
    values
};

/// Spells `out[from..]` in place, without padding.
pub(super) fn spell(out: &mut Vec<u8>, from: usize) {
    let n = out.len() - from;
    let end = spelled(n);
    out.resize(from + end, 0);
    let bytes = &mut out[from..];
    for group in (0..n.div_ceil(3)).rev() {
        let mut three = [0u8; 3];
        let have = (n - group * 3).min(3);
        three[..have].copy_from_slice(&bytes[group * 3..][..have]);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        let digits = [bits >> 18, bits >> 12, bits >> 6, bits].map(|d| ALPHABET[d as usize & 63]);
        let to = &mut bytes[group * 4..end.min(group * 4 + 4)];
        to.copy_from_slice(&digits[..to.len()]);
    }
}

/// The bytes that a text spells; `None`: it spells none, or not in the one way in which we write them.
pub(super) fn unspell(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for group in text.chunks(4) {
        let mut bits = 0;
        for c in group {
            let value = VALUES[usize::from(*c)];
            if value >= 64 {
                return None;
            }
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        let [_, three @ ..] = bits.to_be_bytes();
        let have = match group.len() {
            4 => 3,
            3 => 2,
            2 => 1,
            _ => return None,
        };
        if three[have..].iter().any(|left| *left != 0) {
            return None;
        }
        out.extend_from_slice(&three[..have]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::new(&[(7, b"a secret of sixteen bytes"), (2, b"the one that came before")]).expect("keys")
    }

    fn token(url: &[u8]) -> Token<'_> {
        Token {
            kind: Kind::Billed,
            event: EventId { node: 1, epoch: 2, core: 3, seq: 4 },
            imp: 1,
            price: Cpm(910_000),
            floor: Cpm(850_000),
            charge: Money(910_000),
            account: AccountId(17),
            period: Period(29_880_000),
            open: true,
            awaited: false,
            expires_s: 1_800_000_000,
            buyer: b"",
            url,
        }
    }

    fn written(token: &Token<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        token.write(&keys(), &mut out).expect("it can be written");
        assert_eq!(out.len(), token.spelled_len());
        out
    }

    /// Written once: a release that spells it otherwise refuses the URLs that are out.
    #[test]
    fn its_spelling_does_not_change() {
        let text = written(&token(b"http://dsp.example/b?p=${AUCTION_PRICE}"));
        assert_eq!(String::from_utf8_lossy(&text), GOLDEN);
        assert!(text.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')));
    }
    const GOLDEN: &str = "GQcBAQAAAAIAAAADAAQAAAAAAAAAsOINAABQ-AwAALDiDQAAAAAAEQAAAMDuxwEA0klraHR0cDovL2RzcC5leGFtcGxlL2I_cD0ke0FVQ1RJT05fUFJJQ0V9DrDEgipR_De4IqWllTN1_g";

    #[test]
    fn what_is_no_token_of_ours() {
        let keys = keys();
        let good = written(&token(b"http://dsp.example/b"));
        let with = |at: usize, c: u8| {
            let mut text = good.clone();
            text[at] = c;
            text
        };
        let old = {
            let mut out = Vec::new();
            let signer = Keys::new(&[(9, b"a secret that is not known")]).expect("keys");
            token(b"http://dsp.example/b").write(&signer, &mut out).expect("it can be written");
            out
        };
        let rows: [(&str, &[u8], Refused); 9] = [
            ("nothing", b"", Refused::Length),
            ("half of it", &good[..good.len() / 2], Refused::Length),
            ("too long", &[b'A'; TOKEN_MAX + 1], Refused::Length),
            ("its end is missing", &good[..good.len() - 4], Refused::Signature),
            ("padding", &[&good[..], b"="].concat(), Refused::Spelling),
            ("standard base64", &with(50, b'+'), Refused::Spelling),
            ("another version", &with(0, b'M'), Refused::Version),
            ("another price", &with(30, if good[30] == b'A' { b'B' } else { b'A' }), Refused::Signature),
            ("a key of somebody else", &old, Refused::Key),
        ];
        for (what, text, why) in rows {
            assert_eq!(Token::read(text, &keys, &mut Vec::new()), Err(why), "{what}");
        }
        // One key signs for another's number: the number is under the signature, and so is every byte.
        let rotated = Keys::new(&[(2, b"the one that came before"), (7, b"a secret of sixteen bytes")]).expect("keys");
        assert!(Token::read(&good, &rotated, &mut Vec::new()).is_ok(), "signed before the rotation");
    }

    #[test]
    fn what_cannot_be_written() {
        let long = vec![b'x'; URL_MAX + 1];
        for token in [token(&long), Token { price: Cpm(-1), ..token(b"") }, Token { floor: Cpm(-1), ..token(b"") }] {
            let mut out = b"before".to_vec();
            assert_eq!(token.write(&keys(), &mut out), Err(Unwritable));
            assert_eq!(out, b"before");
        }
        assert_eq!(written(&token(&long[1..])).len(), TOKEN_MAX);
    }

    proptest! {
        /// It is read as it was written, and no other text is read as it.
        #[test]
        fn is_read_as_written(
            kind in 0u8..3, ids: (u32, u32, u16, u64), imp: u8, prices in (0i64..=Cpm::MAX.0, 0i64..=Cpm::MAX.0),
            charge: i64, account: u32, period: u32, expires_s: u32,
            url in proptest::collection::vec(any::<u8>(), 0..200), buyer in proptest::collection::vec(any::<u8>(), 0..20),
            at: usize, bit in 0u8..8,
        ) {
            let event = EventId { node: ids.0, epoch: ids.1, core: ids.2, seq: ids.3 };
            let token = Token {
                kind: Kind::of(kind).expect("a kind"), event, imp, price: Cpm(prices.0), floor: Cpm(prices.1),
                charge: Money(charge), account: AccountId(account), period: Period(period), open: imp % 2 == 1, awaited: imp % 3 == 1,
                expires_s, buyer: &buyer, url: &url,
            };
            let text = written(&token);
            let mut bytes = Vec::new();
            prop_assert_eq!(Token::read(&text, &keys(), &mut bytes), Ok(token));
            let mut other = text.clone();
            let at = at % other.len();
            other[at] ^= 1 << bit;
            prop_assert!(Token::read(&other, &keys(), &mut bytes).is_err());
        }
    }
}
