//! Macros in what a bid carries: `${AUCTION_PRICE}` and its kin (section 4.4).
//! Owns: nothing. Runs on: each bidder core. Called by: `answer`, for adm, nurl, burl and lurl.
//! Never: reads a text twice; one without `${` costs one scan and one copy.
//!
//! Substitution is plain, in the JSON text itself: values that come from JSON strings go in as they were written,
//! the others need no escape. A name of ours that has no value, or an encoding that was not agreed, gives the
//! empty string; `${...}` of anybody else stays as it is. `:B64` is known.
//!
//! As an intermediate exchange we do not know the last word on the price, nor when the impression will be: what
//! depends on these (PRICE, MIN_TO_WIN, MBR, LOSS, DISCOUNT_*, IMP_TS) stays for whoever does. CURRENCY is
//! filled: it is `cur` of our answer, which is what the next price will be in.
//!
//! MIN_TO_WIN follows the standard's words: what would have tied. For a winner the runner-up, or the floor when
//! alone; for a loser the winner's own bid. (The standard's example prints .91, the clearing price, for losers of
//! a second-price auction at 1.00; a bid of .91 would not have tied, so the words win.)
use super::{Inputs, Start};
use crate::{
    config::resolved::Position,
    notice::sealed::{Seal, vector},
    openrtb::{codes::Loss, request::Imp, response::Bid, text::Text, validate::write_number},
    units::{Cpm, Currency, EventId, Multiplier},
};
use memchr::{memchr, memchr_iter};

/// What the macros of one winning bid stand for.
pub(super) struct Values<'a> {
    pub(super) position: Position,
    pub(super) event: EventId,
    pub(super) body: &'a [u8],
    pub(super) request_id: Text,
    pub(super) imp_id: Text,
    pub(super) bytes: &'a [u8],
    pub(super) seat: Text,
    pub(super) adid: Text,
    pub(super) price: Cpm,
    pub(super) bid_price: Cpm,
    pub(super) min_to_win: Cpm,
    pub(super) currency: Currency,
    pub(super) multiplier: Multiplier,
    /// The auction's time: the nearest to the impression's that the last auction has.
    pub(super) wall_ms: u64,
    /// What the price is written with; `None`: plain.
    pub(super) seal: Option<(&'a Seal, [u8; 16])>,
    /// It lost, why, and what it may know of the price that would have done: the rest of what is said of prices is not its.
    pub(super) lost: Option<(Loss, Option<Cpm>)>,
}

impl<'a> Values<'a> {
    /// What is said of `bid`, which stands in `bytes` and is for `imp`, whether it won or lost: nothing of prices yet.
    pub(super) fn of(
        s: &Start<'a>,
        (inputs, currency): (&Inputs, Currency),
        imp: &Imp,
        (bid, bytes): (&Bid, &'a [u8]),
    ) -> Self {
        Self {
            position: s.exchange.position,
            event: inputs.event,
            body: s.body,
            request_id: s.request.id,
            imp_id: imp.id,
            bytes,
            seat: bid.seat,
            adid: bid.adid,
            price: Cpm::ZERO,
            bid_price: Cpm::ZERO,
            min_to_win: Cpm::ZERO,
            currency,
            multiplier: imp.qty,
            wall_ms: inputs.wall_ms,
            seal: None,
            lost: None,
        }
    }
}

/// Longest name looked at, `AUCTION_DISCOUNT_PCT:B64` and then some; a `${` without its `}` ends there.
const NAME_MAX: usize = 64;

/// Copies `text`, the inside of a JSON string, with its macros filled.
pub(super) fn fill(text: &[u8], v: &Values<'_>, out: &mut Vec<u8>) {
    fill_as(text, v, false, out);
}

/// The same for text that stands in no JSON: what is filled in is what JSON strings say, not how they are written.
pub(super) fn fill_plain(text: &[u8], v: &Values<'_>, out: &mut Vec<u8>) {
    fill_as(text, v, true, out);
}

fn fill_as(text: &[u8], v: &Values<'_>, plain: bool, out: &mut Vec<u8>) {
    fill_with(text, out, |name, out| v.substitute(name, plain, out));
}

/// Copies `text`; `substitute` appends what `${AUCTION_name}` stands for, or says that it is left as it is.
fn fill_with(text: &[u8], out: &mut Vec<u8>, mut substitute: impl FnMut(&[u8], &mut Vec<u8>) -> bool) {
    let mut rest = text;
    // A dollar is rare in markup: looking for it alone is quicker than to make a search for both bytes.
    while let Some(at) = memchr_iter(b'$', rest).find(|at| rest.get(at + 1) == Some(&b'{')) {
        out.extend_from_slice(&rest[..at]);
        let inside = &rest[at + 2..];
        let end = memchr(b'}', &inside[..inside.len().min(NAME_MAX)]);
        match end.map(|end| (end, &inside[..end])) {
            Some((end, name)) if name.starts_with(b"AUCTION_") && substitute(&name[8..], out) => {
                rest = &inside[end + 1..];
            }
            _ => {
                out.extend_from_slice(b"${");
                rest = inside;
            }
        }
    }
    out.extend_from_slice(rest);
}

/// What a notice knows of the macros that were left for it.
#[derive(Clone, Copy, Debug)]
pub struct Later<'a> {
    /// What it comes to.
    pub price: Cpm,
    /// `${AUCTION_LOSS}` as whoever decided says it; empty: he does not.
    pub loss: &'a [u8],
    /// `${AUCTION_MIN_TO_WIN}`, likewise.
    pub min_to_win: &'a [u8],
    /// When it came, milliseconds since 1970.
    pub wall_ms: u64,
    /// What the price is written with, and a vector that no other has; `None`: plain.
    pub seal: Option<(&'a Seal, [u8; 16])>,
}

/// A price as the DSP reads it.
fn write_price(price: Cpm, seal: Option<(&Seal, [u8; 16])>, out: &mut Vec<u8>) {
    match seal {
        Some((seal, vector)) => seal.write(price, &vector, out),
        None => price.write(out),
    }
}

/// What the prices of an impression are sealed under: its auction and its place name it, and the time.
pub fn price_vector(event: EventId, imp: u8, wall_ms: u64) -> [u8; 16] {
    let of = u64::from(event.epoch as u16) << 48 | u64::from(event.core) << 32 | (event.seq & 0xffff_ffff);
    vector(wall_ms, u32::from(imp), of ^ u64::from(event.node).rotate_left(40))
}

/// Copies a URL whose macros were filled but for those that wait for the notice, with these filled too.
pub fn fill_later(url: &[u8], later: &Later<'_>, out: &mut Vec<u8>) {
    // What others say goes on only if it can be what it is called.
    let number = |text: &[u8], out: &mut Vec<u8>| {
        if text.len() <= 16 && text.iter().all(|b| b.is_ascii_digit() || *b == b'.') {
            out.extend_from_slice(text);
        }
    };
    fill_with(url, out, |name, out| {
        let (name, encoding) = split(name);
        let from = out.len();
        match (name, encoding) {
            (_, Some(encoding)) if encoding != b"B64" => {}
            (b"PRICE", _) => write_price(later.price, later.seal, out),
            (b"LOSS", _) => number(later.loss, out),
            (b"MIN_TO_WIN", _) => number(later.min_to_win, out),
            (b"IMP_TS", _) => write_number(later.wall_ms, out),
            _ => {}
        }
        if encoding == Some(b"B64") {
            base64_from(out, from);
        }
        true
    });
}

/// A macro's name and its encoding.
fn split(name: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b':', name) {
        Some(colon) => (&name[..colon], Some(&name[colon + 1..])),
        None => (name, None),
    }
}

impl Values<'_> {
    /// Writes what `${AUCTION_name}` stands for; false when it is left for another.
    fn substitute(&self, name: &[u8], plain: bool, out: &mut Vec<u8>) -> bool {
        let (name, encoding) = split(name);
        let later: [&[u8]; 7] = [b"PRICE", b"MIN_TO_WIN", b"MBR", b"LOSS", b"DISCOUNT_PCT", b"DISCOUNT_CPM", b"IMP_TS"];
        // Who lost here has lost, whoever decides after us.
        if self.position == Position::Intermediate && self.lost.is_none() && later.contains(&name) {
            return false;
        }
        match encoding {
            None => self.write(name, plain, out),
            Some(b"B64") => {
                let from = out.len();
                self.write(name, true, out);
                base64_from(out, from);
            }
            Some(_) => {}
        }
        true
    }

    fn write(&self, name: &[u8], plain: bool, out: &mut Vec<u8>) {
        if let Some((loss, min_to_win)) = self.lost {
            match (name, min_to_win) {
                (b"LOSS", _) => return write_number(loss as u64, out),
                (b"MIN_TO_WIN", Some(price)) => return price.write(out),
                (b"MIN_TO_WIN" | b"PRICE" | b"MBR" | b"DISCOUNT_PCT" | b"DISCOUNT_CPM", _) => return,
                _ => {}
            }
        }
        let text = |t: Text, buf: &[u8], out: &mut Vec<u8>| {
            if plain { out.extend(t.bytes(buf)) } else { out.extend_from_slice(t.raw(buf)) }
        };
        match name {
            b"ID" => text(self.request_id, self.body, out),
            b"IMP_ID" => text(self.imp_id, self.body, out),
            b"SEAT_ID" => text(self.seat, self.bytes, out),
            b"AD_ID" => text(self.adid, self.bytes, out),
            b"BID_ID" => out.extend_from_slice(&self.event.text()),
            b"CURRENCY" => out.extend_from_slice(&self.currency.0),
            b"PRICE" => write_price(self.price, self.seal, out),
            b"MIN_TO_WIN" => self.min_to_win.write(out),
            b"MBR" => ratio(self.price, self.bid_price).write(out),
            b"LOSS" | b"DISCOUNT_PCT" | b"DISCOUNT_CPM" => out.push(b'0'),
            // Millionths, like a CPM.
            b"MULTIPLIER" => Cpm(self.multiplier.0 as i64).write(out),
            b"IMP_TS" => write_number(self.wall_ms, out),
            _ => {}
        }
    }
}

/// Clearing price by bid, in millionths rounded down, printed like a price.
fn ratio(price: Cpm, bid: Cpm) -> Cpm {
    Cpm((i128::from(price.0) * 1_000_000 / i128::from(bid.0.max(1))) as i64)
}

/// Encodes `out[from..]` in place (RFC 4648 section 4, padded): from the back, so that nothing is overwritten
/// before it was read.
fn base64_from(out: &mut Vec<u8>, from: usize) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let len = out.len() - from;
    let groups = len.div_ceil(3);
    out.resize(from + groups * 4, 0);
    for group in (0..groups).rev() {
        let n = (len - group * 3).min(3);
        let mut bits = 0u32;
        for i in 0..3 {
            bits = bits << 8 | if i < n { u32::from(out[from + group * 3 + i]) } else { 0 };
        }
        for i in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * i)) as usize & 63];
            out[from + group * 4 + i] = if i <= n { digit } else { b'=' };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"req\"1 imp-7"#;
    const BYTES: &[u8] = b"seat9 ad5";

    fn filled(position: Position, text: &str) -> String {
        let v = Values {
            position,
            event: EventId { node: 1, epoch: 2, core: 3, seq: 4 },
            body: BODY,
            request_id: Text::new(0, 6, true),
            imp_id: Text::new(7, 5, false),
            bytes: BYTES,
            seat: Text::new(0, 5, false),
            adid: Text::new(6, 3, false),
            price: Cpm(910_000),
            bid_price: Cpm(1_000_000),
            min_to_win: Cpm(900_000),
            currency: Currency::USD,
            multiplier: Multiplier(30_300_000),
            wall_ms: 1_700_000_000_000,
            seal: None,
            lost: None,
        };
        let mut out = b"<".to_vec();
        fill(text.as_bytes(), &v, &mut out);
        String::from_utf8(out[1..].to_vec()).unwrap()
    }

    #[test]
    fn every_macro_is_filled_by_the_last_auction() {
        for (text, want) in [
            ("", ""),
            ("plain $ { } text", "plain $ { } text"),
            ("p=${AUCTION_PRICE}&c=${AUCTION_CURRENCY}", "p=0.91&c=USD"),
            ("${AUCTION_ID}", r#"req\"1"#),
            ("${AUCTION_BID_ID}", "000000010000000200030000000000000004"),
            ("${AUCTION_IMP_ID}/${AUCTION_SEAT_ID}/${AUCTION_AD_ID}", "imp-7/seat9/ad5"),
            ("${AUCTION_MBR}", "0.91"),
            ("${AUCTION_MIN_TO_WIN}", "0.9"),
            ("${AUCTION_MULTIPLIER}", "30.3"),
            ("${AUCTION_LOSS}${AUCTION_DISCOUNT_PCT}${AUCTION_DISCOUNT_CPM}", "000"),
            ("${AUCTION_IMP_TS}", "1700000000000"),
            ("${AUCTION_PRICE:B64}", "MC45MQ=="),
            ("${AUCTION_CURRENCY:B64}|${AUCTION_IMP_ID:B64}", "VVNE|aW1wLTc="),
            ("${AUCTION_ID:B64}", "cmVxIjE="), // of the characters, not of their escapes
            ("${AUCTION_PRICE:XYZ}", ""),
            ("${AUCTION_NEWS}", ""),
            ("${OTHER} ${AUCTION}", "${OTHER} ${AUCTION}"),
            ("${AUCTION_PRICE", "${AUCTION_PRICE"),
            ("${${AUCTION_PRICE}}", "${0.91}"),
            ("${", "${"),
        ] {
            assert_eq!(filled(Position::LastAuction, text), want, "{text}");
        }
    }

    #[test]
    fn what_waited_is_filled_by_the_notice() {
        let later = Later { price: Cpm(870_000), loss: b"102", min_to_win: b"0.9", wall_ms: 17, seal: None };
        for (url, want) in [
            ("http://a/?p=${AUCTION_PRICE}&t=${AUCTION_IMP_TS}", "http://a/?p=0.87&t=17"),
            ("${AUCTION_PRICE:B64}|${AUCTION_PRICE:XYZ}|${AUCTION_MBR}", "MC44Nw==||"),
            ("${AUCTION_LOSS}/${AUCTION_MIN_TO_WIN}${OTHER}", "102/0.9${OTHER}"),
        ] {
            let mut out = Vec::new();
            fill_later(url.as_bytes(), &later, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), want);
        }
        for bad in [&b"\r\nX: y"[..], b"1 2", b"${AUCTION_PRICE}", b"11111111111111111"] {
            let mut out = Vec::new();
            fill_later(
                b"[${AUCTION_LOSS}${AUCTION_MIN_TO_WIN}]",
                &Later { loss: bad, min_to_win: bad, ..later },
                &mut out,
            );
            assert_eq!(out, b"[]", "{bad:?}");
        }
    }

    #[test]
    fn price_macros_wait_for_the_notice_of_an_intermediate() {
        for (text, want) in [
            ("${AUCTION_PRICE}${AUCTION_MBR}${AUCTION_LOSS}", "${AUCTION_PRICE}${AUCTION_MBR}${AUCTION_LOSS}"),
            ("${AUCTION_PRICE:B64}", "${AUCTION_PRICE:B64}"),
            ("${AUCTION_MIN_TO_WIN}", "${AUCTION_MIN_TO_WIN}"),
            ("${AUCTION_CURRENCY}${AUCTION_IMP_ID}", "USDimp-7"),
        ] {
            assert_eq!(filled(Position::Intermediate, text), want, "{text}");
        }
    }
}
