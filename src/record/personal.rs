//! What of a request or an answer is about a person, and what stands in its place where it is kept whole.
//! Owns: the ids of one auction that it replaced. Runs on: the thread of the raw stream. Called by: [`super::raw`].
//! Never: lets through a field of `device` or `user` that it does not know; changes a number or a text of any other.
//!
//! By place (OpenRTB 2.6, and where 2.5 has it in `ext`), wherever in the text `device`, `user` and the rest stand:
//!
//! | where | what becomes of it |
//! |---|---|
//! | `ip`, `ipv6` | the first 24 bits of IPv4, 48 of IPv6 |
//! | `geo` | `lat` and `lon` to one decimal, cut off (11 km at most); of the rest country, region, utcoffset and type stay |
//! | `device` | ids are emptied; what describes the device itself, `ua` among it, stays; what is unknown is emptied |
//! | `user` | emptied but for `consent`, also in its `ext`, which says what may be done |
//! | `page`, `ref`, `url`, `search` of site, app and content | without query and fragment; searches are emptied |
//! | ids of devices and buyers, `eids`, `customdata` in any object | emptied |
//!
//! Emptied is: a text `"***"`, a number 0, a list or an object without members; so that what can read the original can
//! read this. And an id, an address or a coordinate that was replaced in an auction's request is replaced in all texts of its
//! messages that carry it, whatever the field is called: DSPs write them into their markup and pixels.
//! What is left: an id under another name than these in a field that is nobody's, and ids that are encoded or hashed on their
//! way into markup.
use crate::{
    json::{Cursor, Error},
    openrtb::text::Text,
};
use memchr::memmem::{self, Finder};
use std::net::IpAddr;

/// What stands for a text.
const STARS: &[u8] = b"\"***\"";
/// An id that is shorter is not looked for in other texts: it would be found where nobody meant it.
const NEEDLE_MIN: usize = 8;
/// Ids of one auction that are looked for: more than this nobody has.
const NEEDLES_MAX: usize = 64;

/// Parts of a device that say what it is, not whose.
const DEVICE_KEPT: &[&str] = &[
    "ua",
    "sua",
    "dnt",
    "lmt",
    "devicetype",
    "make",
    "model",
    "os",
    "osv",
    "hwv",
    "h",
    "w",
    "ppi",
    "pxratio",
    "js",
    "geofetch",
    "flashver",
    "language",
    "langb",
    "carrier",
    "mccmnc",
    "connectiontype",
];
/// Parts of a place that many people share.
const GEO_KEPT: &[&str] = &["country", "region", "regionfips104", "utcoffset", "type"];
/// Ids of devices and of people, whatever object they stand in.
const IDS: &[&str] = &[
    "ifa",
    "idfa",
    "idfv",
    "gaid",
    "aaid",
    "didsha1",
    "didmd5",
    "dpidsha1",
    "dpidmd5",
    "macsha1",
    "macmd5",
    "buyeruid",
    "buyeruids",
    "customdata",
];

/// What is done with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// It stays; members of it go by their names.
    Keep,
    /// Objects with members of their own.
    Device,
    User,
    Geo,
    Page,
    /// `ext` of a device, of a user.
    DeviceExt,
    UserExt,
    /// It is emptied.
    Empty,
    /// It is emptied, and looked for elsewhere.
    Id,
    /// It is emptied; of its members `id` is looked for elsewhere.
    Eids,
    Ip,
    Coordinate,
    Url,
}

impl Rule {
    /// What is done with a member of an object that this is done with.
    fn member(self, is: impl Fn(&str) -> bool) -> Rule {
        let any = |of: &[&str]| of.iter().any(|name| is(name));
        match self {
            Rule::Device if any(DEVICE_KEPT) => return Rule::Keep,
            Rule::Device if is("ext") => return Rule::DeviceExt,
            // App Tracking Transparency and the kind of the id are about nobody.
            Rule::DeviceExt if any(&["atts", "ifa_type"]) => return Rule::Keep,
            Rule::User | Rule::UserExt
                if any(&["consent", "ConsentedProvidersSettings", "consented_providers_settings"]) =>
            {
                return Rule::Keep;
            }
            Rule::User if is("ext") => return Rule::UserExt,
            Rule::User | Rule::Eids if is("id") => return Rule::Id,
            Rule::Geo if any(GEO_KEPT) => return Rule::Keep,
            Rule::Geo if any(&["lat", "lon"]) => return Rule::Coordinate,
            Rule::Page if any(&["page", "ref", "url"]) => return Rule::Url,
            Rule::Page if is("content") => return Rule::Page,
            Rule::Page if is("search") => return Rule::Empty,
            _ => {}
        }
        let named = [
            ("device", Rule::Device),
            ("user", Rule::User),
            ("geo", Rule::Geo),
            ("site", Rule::Page),
            ("app", Rule::Page),
            ("eids", Rule::Eids),
            ("ip", Rule::Ip),
            ("ipv6", Rule::Ip),
        ];
        match named.iter().find(|(name, _)| is(name)) {
            Some((_, rule)) => *rule,
            None if any(IDS) => Rule::Id,
            None => match self {
                Rule::Keep | Rule::Page => Rule::Keep,
                Rule::Id => Rule::Id,
                Rule::Eids => Rule::Eids,
                _ => Rule::Empty,
            },
        }
    }

    /// Is an object or list under it written without its members?
    fn empties(self) -> bool {
        matches!(self, Rule::Empty | Rule::Id | Rule::Eids | Rule::Ip | Rule::Coordinate)
    }
}

/// Copies JSON without what is about a person. One for many auctions.
#[derive(Debug, Default)]
pub struct Personal {
    /// Ids that were replaced, in lower case, escapes resolved.
    needles: Vec<Finder<'static>>,
    learning: bool,
    scratch: Vec<u8>,
    lower: Vec<u8>,
}

impl Personal {
    /// Another auction: takes from its request the ids that are to be looked for in all of its messages.
    pub fn learn(&mut self, request: &[u8]) {
        self.needles.clear();
        self.learning = true;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // What cannot be read is not kept either.
        let _ = self.replace(request, &mut scratch);
        scratch.clear();
        self.scratch = scratch;
        self.learning = false;
        // A short id may be the beginning of a long one.
        self.needles.sort_by_key(|n| std::cmp::Reverse(n.needle().len()));
    }

    /// Appends a message of the auction without white space and with what is about a person replaced.
    ///
    /// # Errors
    /// It is not JSON; `out` is as before.
    pub fn replace(&mut self, json: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        copy(json, out, |cursor, out| self.value(cursor, Rule::Keep, out))
    }

    fn value(&mut self, c: &mut Cursor<'_>, rule: Rule, out: &mut Vec<u8>) -> Result<(), Error> {
        let buf = c.buf();
        match c.peek() {
            b'{' => {
                let at = begin(c, out, b'{')?;
                let (mut first, mut only) = (true, true);
                while let Some(key) = c.key(&mut first)? {
                    comma(&mut only, out);
                    self.kept_text(key.text, buf, out);
                    out.push(b':');
                    let member = rule.member(|name| key.text.is(buf, name.as_bytes()));
                    self.value(c, member, out)?;
                }
                end(rule, at, out, b'}');
            }
            b'[' => {
                let at = begin(c, out, b'[')?;
                let (mut first, mut only) = (true, true);
                while c.element(&mut first)? {
                    comma(&mut only, out);
                    self.value(c, rule, out)?;
                }
                end(rule, at, out, b']');
            }
            b'"' => {
                let text = c.string()?;
                self.text(text, buf, rule, out);
            }
            b'0'..=b'9' | b'-' => {
                let number = c.number()?;
                self.number(number, rule, out);
            }
            _ => out.extend_from_slice(c.skip_span()?.of(buf)),
        }
        Ok(())
    }

    fn text(&mut self, text: Text, buf: &[u8], rule: Rule, out: &mut Vec<u8>) {
        if text.is_empty() {
            return out.extend_from_slice(b"\"\"");
        }
        match rule {
            Rule::Keep | Rule::Page => self.kept_text(text, buf, out),
            Rule::Url => {
                let (url, cut) = without_query(text.raw(buf));
                self.kept(url, out);
                if cut {
                    out.truncate(out.len() - 1);
                    out.extend_from_slice(b"?***\"");
                }
            }
            Rule::Ip => {
                self.learn_one(text.bytes(buf));
                let plain: Vec<u8> = text.bytes(buf).collect();
                match std::str::from_utf8(&plain).ok().and_then(|ip| ip.trim().parse().ok()) {
                    Some(ip) => out.extend_from_slice(format!("\"{}\"", network(ip)).as_bytes()),
                    None => out.extend_from_slice(STARS),
                }
            }
            Rule::Id | Rule::Coordinate => {
                self.learn_one(text.bytes(buf));
                out.extend_from_slice(STARS);
            }
            _ => out.extend_from_slice(STARS),
        }
    }

    fn number(&mut self, number: &[u8], rule: Rule, out: &mut Vec<u8>) {
        match rule {
            // A number may be a person's id as well as a text may.
            Rule::Keep | Rule::Page if self.learning || !self.needles.iter().any(|n| number == n.needle()) => {
                out.extend_from_slice(number);
            }
            Rule::Id | Rule::Coordinate => {
                self.learn_one(number.iter().copied());
                match tenths(number).filter(|_| rule == Rule::Coordinate) {
                    Some(tenths) => {
                        let (sign, tenths) = (if tenths < 0 { "-" } else { "" }, tenths.unsigned_abs());
                        out.extend_from_slice(format!("{sign}{}.{}", tenths / 10, tenths % 10).as_bytes());
                    }
                    None if rule == Rule::Coordinate => out.extend_from_slice(b"0.0"),
                    None => out.push(b'0'),
                }
            }
            _ => out.push(b'0'),
        }
    }

    fn learn_one(&mut self, value: impl Iterator<Item = u8>) {
        if !self.learning || self.needles.len() == NEEDLES_MAX {
            return;
        }
        let needle: Vec<u8> = value.map(|b| b.to_ascii_lowercase()).collect();
        if needle.len() >= NEEDLE_MIN && !self.needles.iter().any(|n| n.needle() == needle) {
            self.needles.push(Finder::new(&needle).into_owned());
        }
    }

    /// A text that stays, but for ids in it.
    fn kept_text(&mut self, text: Text, buf: &[u8], out: &mut Vec<u8>) {
        self.kept(text.raw(buf), out);
    }

    /// The same: the inside of its quotes.
    fn kept(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        out.push(b'"');
        let at = out.len();
        out.extend_from_slice(raw);
        out.push(b'"');
        if self.learning || self.needles.is_empty() {
            return;
        }
        let escaped = raw.contains(&b'\\');
        self.lower.clear();
        self.lower.extend(raw.iter().map(u8::to_ascii_lowercase));
        let mut hit = false;
        for needle in &self.needles {
            let (mut from, len) = (0, needle.needle().len());
            while let Some(found) = needle.find(&self.lower[from..]) {
                let found = from + found..from + found + len;
                from = found.end;
                self.lower[found.clone()].fill(b'*');
                out[at..][found].fill(b'*');
                hit = true;
            }
        }
        if !escaped {
            return;
        }
        // Stars may have taken the half of an escape; and an id may be written with escapes.
        let broken = hit && check(&out[at - 1..]).is_err();
        let hidden = || {
            let text = Text::new(at, raw.len(), true);
            let plain: Vec<u8> = text.bytes(out).map(|b| b.to_ascii_lowercase()).collect();
            self.needles.iter().any(|needle| needle.find(&plain).is_some())
        };
        if broken || hidden() {
            out.truncate(at - 1);
            out.extend_from_slice(STARS);
        }
    }
}

/// Appends JSON as it is, but for white space between its parts: on one line, whoever wrote it.
///
/// # Errors
/// It is not JSON; `out` is as before.
pub fn compact(json: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    copy(json, out, as_it_is)
}

fn as_it_is(c: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let (mut first, mut only) = (true, true);
    match c.peek() {
        b'{' => {
            begin(c, out, b'{')?;
            while let Some(key) = c.key(&mut first)? {
                comma(&mut only, out);
                out.push(b'"');
                out.extend_from_slice(key.text.raw(c.buf()));
                out.extend_from_slice(b"\":");
                as_it_is(c, out)?;
            }
            out.push(b'}');
        }
        b'[' => {
            begin(c, out, b'[')?;
            while c.element(&mut first)? {
                comma(&mut only, out);
                as_it_is(c, out)?;
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(c.skip_span()?.of(c.buf())),
    }
    Ok(())
}

fn copy(
    json: &[u8],
    out: &mut Vec<u8>,
    value: impl FnOnce(&mut Cursor<'_>, &mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = out.len();
    let copied = Cursor::new(json, 0).and_then(|mut cursor| {
        value(&mut cursor, out)?;
        cursor.finish()
    });
    if copied.is_err() {
        out.truncate(at);
    }
    copied
}

fn check(json: &[u8]) -> Result<(), Error> {
    let mut cursor = Cursor::new(json, 0)?;
    cursor.skip()?;
    cursor.finish()
}

/// Enters a container and opens its copy; where the copy begins.
fn begin(c: &mut Cursor<'_>, out: &mut Vec<u8>, bracket: u8) -> Result<usize, Error> {
    c.enter()?;
    out.push(bracket);
    Ok(out.len())
}

fn end(rule: Rule, at: usize, out: &mut Vec<u8>, bracket: u8) {
    if rule.empties() {
        out.truncate(at);
    }
    out.push(bracket);
}

fn comma(first: &mut bool, out: &mut Vec<u8>) {
    if !std::mem::take(first) {
        out.push(b',');
    }
}

/// Up to its query or fragment, and whether there was one.
fn without_query(raw: &[u8]) -> (&[u8], bool) {
    let escapes = [&b"?"[..], b"#", b"\\u003f", b"\\u003F", b"\\u0023"];
    let end = escapes.iter().filter_map(|mark| memmem::find(raw, mark)).min();
    (raw.get(..end.unwrap_or(raw.len())).unwrap_or(raw), end.is_some())
}

/// The network that an address belongs to: 24 bits of IPv4, 48 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::from((v4.to_bits() & !0xff).to_be_bytes()),
        IpAddr::V6(v6) => IpAddr::from((v6.to_bits() & !0 << 80).to_be_bytes()),
    }
}

/// A JSON number in tenths, what is below them cut off. `None`: beyond any coordinate.
fn tenths(number: &[u8]) -> Option<i64> {
    let (negative, rest) = match number {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let exponent_at = rest.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(rest.len());
    let (mantissa, exponent) = rest.split_at(exponent_at);
    let exponent: i64 = match exponent {
        [] => 0,
        [_, digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok().filter(|e: &i64| e.abs() < 100)?,
    };
    let point = mantissa.iter().position(|b| *b == b'.').unwrap_or(mantissa.len());
    // Digits up to the first behind the point.
    let whole = point as i64 + exponent + 1;
    let mut digits = mantissa.iter().filter(|b| **b != b'.').map(|b| i64::from(b - b'0'));
    let mut value = 0i64;
    for _ in 0..whole {
        value = value * 10 + digits.next().unwrap_or(0);
        if value > 100_000 {
            return None;
        }
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
#[path = "personal_tests.rs"]
mod tests;
