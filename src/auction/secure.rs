//! Does markup load anything over plain http? For impressions with `secure: 1` (section 3.2.4).
//! Owns: nothing. Runs on: each bidder core. Called by: `eligibility`, for secure impressions alone.
//! Never: parses; markup without `http:` costs one scan.
//!
//! What counts is what a renderer fetches on its own. So these do not: the target of a click (`<a href>`, VAST
//! `ClickThrough` elements, native `link.url`), an XML namespace or schema location, a visible text, and a URL
//! inside another URL. Everything else does, scripts and style sheets included. A URL that is put together at
//! run time, percent-encoded, or behind `nurl` is not seen: this finds mistakes, not malice.
use crate::openrtb::text::Text;
use memchr::memmem;

/// How far back the tag or element around a URL is looked for.
const BACK: usize = 512;

/// What the scan keeps from one bid to the next.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// Making it costs as much as looking through two kilobytes.
    http: memmem::Finder<'static>,
    plain: Vec<u8>,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan { http: memmem::Finder::new(b"http:"), plain: Vec::new() }
    }
}

/// Is there an insecure load in `adm`?
pub(super) fn loads_insecurely(adm: Text, buf: &[u8], Scan { http, plain }: &mut Scan) -> bool {
    let raw = adm.raw(buf);
    if http.find(raw).is_none() {
        return false;
    }
    if !adm.escaped() {
        return scan(http, raw);
    }
    plain.clear();
    plain.extend(adm.bytes(buf));
    scan(http, plain)
}

fn scan(http: &memmem::Finder<'_>, adm: &[u8]) -> bool {
    // JSON inside the string (native markup) may escape its slashes once more.
    http.find_iter(adm).any(|at| {
        let rest = &adm[at + 5..];
        (rest.starts_with(b"//") || rest.starts_with(b"\\/\\/")) && is_load(&adm[at.saturating_sub(BACK)..at])
    })
}

/// `before` ends where the URL begins.
fn is_load(before: &[u8]) -> bool {
    // Inside another URL: `https://a/?to=http://b`.
    let token =
        before.iter().rposition(|b| matches!(b, b'"' | b'\'' | b' ' | b'\n' | b'\t' | b'<' | b'>' | b'(' | b'['));
    if memmem::find(&before[token.map_or(0, |t| t + 1)..], b"://").is_some() {
        return false;
    }
    let quoted = trim(before, |b| matches!(b, b'"' | b'\'' | b'\\') || b.is_ascii_whitespace());
    match quoted.last() {
        Some(b'=') => is_loading_attribute(trim(&quoted[..quoted.len() - 1], |b| b.is_ascii_whitespace())),
        Some(b':') => is_loading_member(quoted),
        Some(b'>') => is_loading_element(&quoted[..quoted.len() - 1]),
        Some(b'[') => match strip_suffix_any_case(quoted, b"<![CDATA[") {
            Some(outside) => {
                let outside = trim(outside, |b| b.is_ascii_whitespace());
                outside.last() != Some(&b'>') || is_loading_element(&outside[..outside.len() - 1])
            }
            None => true,
        },
        // `url(`, an argument of a script; or words, which a quote would have set off if they were code.
        Some(b'(' | b',' | b'+') => true,
        Some(_) => quoted.len() < trim(before, |b| b.is_ascii_whitespace()).len(),
        // Nothing before it at all: an adm that is a URL, or one far from anything.
        None => true,
    }
}

fn is_loading_attribute(before: &[u8]) -> bool {
    let name = last_word(before);
    if name.eq_ignore_ascii_case(b"href") {
        // A style sheet is loaded, a link is clicked.
        let tag = before.iter().rposition(|&b| b == b'<').map(|t| &before[t + 1..]);
        return tag.is_some_and(|t| !t.get(..1).is_some_and(|a| a.eq_ignore_ascii_case(b"a")) || is_word_byte(t, 1));
    }
    let namespace = name.len() >= 5 && name[..5].eq_ignore_ascii_case(b"xmlns");
    let schema = name.len() >= 14 && name[name.len() - 14..].eq_ignore_ascii_case(b"schemaLocation");
    !namespace && !schema
}

fn is_word_byte(s: &[u8], at: usize) -> bool {
    s.get(at).is_some_and(u8::is_ascii_alphanumeric)
}

/// `"link":{"url":"http://...` is clicked; other members are fetched.
fn is_loading_member(before: &[u8]) -> bool {
    let punctuation = |b: u8| matches!(b, b'"' | b'\'' | b'\\' | b':' | b'{') || b.is_ascii_whitespace();
    let before = trim(before, punctuation);
    let key = last_word(before);
    if key == b"fallback" {
        return false;
    }
    let outer = trim(&before[..before.len() - key.len()], punctuation);
    !(key == b"url" && last_word(outer) == b"link")
}

/// The text of an element: `before` ends with the start tag, less its `>`.
fn is_loading_element(before: &[u8]) -> bool {
    let Some(open) = before.iter().rposition(|&b| b == b'<') else { return true };
    let tag = &before[open + 1..];
    let name = &tag[..tag.iter().position(|b| !b.is_ascii_alphanumeric() && *b != b':').unwrap_or(tag.len())];
    // HTML's text is shown, not fetched, but for scripts and styles. VAST's elements have capitals in XML.
    let vast = name.first().is_some_and(u8::is_ascii_uppercase) && name.iter().any(u8::is_ascii_lowercase);
    let click = name.len() >= 12 && name[name.len() - 12..].eq_ignore_ascii_case(b"ClickThrough");
    let code = name.eq_ignore_ascii_case(b"script") || name.eq_ignore_ascii_case(b"style");
    (vast && !click) || code
}

fn last_word(s: &[u8]) -> &[u8] {
    let from = s.iter().rposition(|b| !b.is_ascii_alphanumeric() && !matches!(b, b':' | b'-' | b'_'));
    &s[from.map_or(0, |f| f + 1)..]
}

fn trim(mut s: &[u8], what: impl Fn(u8) -> bool) -> &[u8] {
    while let [rest @ .., last] = s
        && what(*last)
    {
        s = rest;
    }
    s
}

fn strip_suffix_any_case<'a>(s: &'a [u8], suffix: &[u8]) -> Option<&'a [u8]> {
    let at = s.len().checked_sub(suffix.len())?;
    s[at..].eq_ignore_ascii_case(suffix).then(|| &s[..at])
}

#[cfg(test)]
mod tests {
    use super::{Scan, loads_insecurely};
    use crate::openrtb::text::Text;

    #[test]
    fn loads_are_found_and_clicks_are_not() {
        let rows: &[(&str, bool)] = &[
            ("<img src=\"https://a/b.gif\">", false),
            ("<img src=\"http://a/b.gif\">", true),
            ("<img src=http://a/b.gif>", true),
            ("<img src = 'http://a/b.gif'>", true),
            ("<a href=\"http://a/\"><img src=\"https://a/b.gif\"></a>", false),
            ("<A class=x HREF='http://a/'>", false),
            ("<a href=\"http://a/\"><img src=\"http://a/b.gif\"></a>", true),
            ("<link rel=stylesheet href=\"http://a/s.css\">", true),
            ("<div style=\"background:url(http://a/b.gif)\">", true),
            ("<script>var u = 'http://a/'; load(u)</script>", true),
            ("<script>load(\"http://a/\")</script>", true),
            ("<iframe src=\"https://a/?to=http://b/\"></iframe>", false),
            ("<img src=\"https://a/http://b/\">", false),
            ("<p>see http://a/ for more</p>", false),
            ("<p>http://a/</p>", false),
            (
                "<VAST xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns=\"http://www.iab.com/VAST\"></VAST>",
                false,
            ),
            ("<VAST xsi:schemaLocation=\"http://a/vast.xsd\"></VAST>", false),
            ("<VAST><Impression><![CDATA[http://a/i]]></Impression></VAST>", true),
            ("<VAST><Impression id=\"1\">http://a/i</Impression></VAST>", true),
            ("<VAST><ClickThrough><![CDATA[ http://a/i ]]></ClickThrough></VAST>", false),
            ("<VAST><CompanionClickThrough>\n http://a/i</CompanionClickThrough></VAST>", false),
            ("<VAST><MediaFile type=\"video/mp4\">\n<![CDATA[http://a/i.mp4]]></MediaFile></VAST>", true),
            ("{\"native\":{\"link\":{\"url\":\"http://a/\"},\"assets\":[{\"img\":{\"url\":\"https://a/\"}}]}}", false),
            ("{\"native\":{\"link\":{\"url\":\"https://a/\"},\"assets\":[{\"img\":{\"url\":\"http://a/\"}}]}}", true),
            ("{\"imptrackers\":[\"http:\\/\\/a\\/\"]}", true),
            ("http://a/", true),
            ("", false),
        ];
        let check = |text: &str, escaped: bool, want: bool, row: &str| {
            let t = Text::new(0, text.len(), escaped);
            assert_eq!(loads_insecurely(t, text.as_bytes(), &mut Scan::default()), want, "{row} (escaped: {escaped})");
        };
        for (adm, want) in rows {
            check(adm, false, *want, adm);
            let json = serde_json::to_string(adm).unwrap();
            check(&json[1..json.len() - 1], true, *want, adm);
            let go = json[1..json.len() - 1].replace('<', "\\u003c").replace('>', "\\u003e").replace('/', "\\/");
            check(&go, true, *want, adm);
        }
    }
}
