//! What a simulated DSP bids: a valid OpenRTB answer to whatever was offered.
//! Owns: nothing. Called by: `dsp_sim`. Never: allocates beyond the buffer it is given.
use super::{character::Character, json::Value, rng::Rng};
use std::io::Write as _;

/// Dollars for one unit, in thousandths. Good enough to think of a price in another currency; the exchange has its
/// own dated table and converts exactly.
const RATES: [(&str, u64); 3] = [("USD", 1_000), ("EUR", 1_080), ("GBP", 1_270)];
/// Impressions that are looked at in one request.
const IMPS_MAX: usize = 64;

/// Appends formatted bytes; writing to a `Vec` cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => { let _ = write!($out, $($arg)*); };
}

/// The text of an object that answers `request`, and how many bids are in it. None: it does not want any of it; `out`
/// is then as it was.
pub fn write_answer(out: &mut Vec<u8>, request: Value<'_>, who: &Character, rng: &mut Rng) -> usize {
    let (start, id) = (out.len(), request.text_of("id").unwrap_or(""));
    let cur = currency(request, who);
    put!(out, "{{\"id\":");
    text(out, id);
    put!(out, ",\"bidid\":\"{:x}\",\"cur\":\"{cur}\",\"seatbid\":[", rng.draw());
    let seats = if rng.chance(200) { who.seats.len() } else { 1 };
    let first = rng.below(who.seats.len() as u64) as usize;
    let mut bids = 0;
    for turn in 0..seats {
        let Some(seat) = who.seats.get((first + turn) % who.seats.len().max(1)) else { continue };
        if !allowed(request, seat) {
            continue;
        }
        let (before, sofar) = (out.len(), bids);
        put!(out, "{}{{\"seat\":\"{seat}\",\"bid\":[", if bids > 0 { "," } else { "" });
        for imp in request.list("imp").take(IMPS_MAX) {
            if rng.chance(who.bid_permille) {
                bids += usize::from(write_bid(out, imp, who, seat, cur, bids > sofar, rng));
            }
        }
        if bids > sofar {
            put!(out, "]}}");
        } else {
            out.truncate(before);
        }
    }
    if bids == 0 {
        out.truncate(start);
    } else {
        put!(out, "]}}");
    }
    bids
}

/// The same bid on the first impression, always: an answer that costs its sender nothing. `false`: there is no
/// impression.
pub fn write_fixed(out: &mut Vec<u8>, request: Value<'_>, who: &Character, bytes: usize) -> bool {
    let Some(impid) = request.list("imp").next().and_then(|i| i.text_of("id")) else { return false };
    let start = out.len();
    put!(out, "{{\"id\":");
    text(out, request.text_of("id").unwrap_or(""));
    put!(out, ",\"cur\":\"{}\",\"seatbid\":[{{\"seat\":\"{}\",", who.cur, who.seats.first().map_or("", |s| s));
    put!(out, "\"bid\":[{{\"id\":\"1\",\"impid\":");
    text(out, impid);
    out.extend_from_slice(b",\"price\":");
    price(out, who.price_micros.1);
    put!(
        out,
        ",\"adomain\":[\"brand.example\"],\"crid\":\"c1\",\"nurl\":\"https://{}.example/n?p=${{AUCTION_PRICE}}\"",
        who.name
    );
    out.extend_from_slice(b",\"adm\":\"<div>");
    let rest = bytes.saturating_sub(out.len() - start + 12);
    out.resize(out.len() + rest, b'x');
    out.extend_from_slice(b"</div>\"}]}]}");
    true
}

/// Its own currency where the request allows it, else the first it knows a rate for, else dollars.
fn currency<'a>(request: Value<'a>, who: &'a Character) -> &'a str {
    let mut any = false;
    let mut other = None;
    for cur in request.list("cur").filter_map(Value::text) {
        any = true;
        if cur == who.cur {
            return cur;
        }
        other = other.or(Some(cur).filter(|c| RATES.iter().any(|r| r.0 == *c)));
    }
    if any { other.unwrap_or("USD") } else { &who.cur }
}

/// `wseat` and `bseat` (section 3.2.1).
fn allowed(asked: Value<'_>, seat: &str) -> bool {
    let named = |key| asked.list(key).any(|s| s.text() == Some(seat));
    (asked.list("wseat").next().is_none() || named("wseat")) && !named("bseat")
}

fn rate(cur: &str) -> u64 {
    RATES.iter().find(|r| r.0 == cur).map_or(1_000, |r| r.1)
}

/// A floor in micro-units of `cur`, rounded up.
fn floor_micros(of: Value<'_>, cur: &str) -> u64 {
    let floor = (of.number_of("bidfloor").unwrap_or(0.0).clamp(0.0, 1e6) * 1e6).ceil() as u64;
    (floor * rate(of.text_of("bidfloorcur").unwrap_or("USD"))).div_ceil(rate(cur))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Banner,
    Video,
    Audio,
    Native,
}

/// One bid on `imp`; `false` when it would not pay what is asked.
fn write_bid(
    out: &mut Vec<u8>,
    imp: Value<'_>,
    who: &Character,
    seat: &str,
    cur: &str,
    comma: bool,
    rng: &mut Rng,
) -> bool {
    let offered =
        [("banner", Media::Banner), ("video", Media::Video), ("audio", Media::Audio), ("native", Media::Native)];
    let mut offered = offered.iter().filter_map(|(key, media)| imp.get(key).map(|object| (*media, object)));
    let Some((media, object)) = offered.next() else { return false };
    let Some(impid) = imp.text_of("id") else { return false };

    let pmp = imp.get("pmp");
    let deal = pmp.and_then(|p| p.list("deals").find(|d| allowed(*d, seat)));
    let private = pmp.and_then(|p| p.number_of("private_auction")) == Some(1.0);
    let deal = deal.filter(|_| private || rng.chance(600));
    if private && deal.is_none() {
        return false;
    }
    let floor = floor_micros(deal.unwrap_or(imp), cur);
    let wish = rng.between(who.price_micros.0, who.price_micros.1) * 1_000 / rate(cur);
    // Most buyers stretch to a floor just above what they thought of; the rest stay away.
    let pays = if wish >= floor {
        wish
    } else if rng.chance(700) && floor < 3 * who.price_micros.1 {
        floor + floor / 50 + 10_000
    } else {
        return false;
    };

    let (creative, name) = (rng.below(400), who.name.as_str());
    put!(out, "{}{{\"id\":\"{:x}\",\"impid\":", if comma { "," } else { "" }, rng.draw());
    text(out, impid);
    out.extend_from_slice(b",\"price\":");
    // A hundredth of a cent is as fine as anybody bids; rounded up, so that a floor that was met stays met.
    price(out, pays.div_ceil(100) * 100);
    if let Some(id) = deal.and_then(|d| d.text_of("id")) {
        out.extend_from_slice(b",\"dealid\":");
        text(out, id);
    }
    put!(out, ",\"adomain\":[\"brand{creative}.example\"],\"crid\":\"cr-{creative}\",\"cid\":\"cp-{}\"", creative / 8);
    out.extend_from_slice(b",\"cat\":[\"IAB3-1\"]");
    match &who.notices {
        None => {
            put!(out, ",\"nurl\":\"https://{name}.example/win?i=${{AUCTION_IMP_ID}}&p=${{AUCTION_PRICE}}\"");
            put!(
                out,
                ",\"burl\":\"https://{name}.example/bill?a=${{AUCTION_ID}}&p=${{AUCTION_PRICE}}&c=${{AUCTION_CURRENCY}}\""
            );
        }
        Some(host) => {
            let which = "b=${AUCTION_BID_ID}&m=${AUCTION_IMP_ID}&p=${AUCTION_PRICE}";
            put!(out, ",\"nurl\":\"http://{host}/won?{which}\",\"burl\":\"http://{host}/billed?{which}\"");
        }
    }
    markup(out, media, object, name, creative);
    out.push(b'}');
    true
}

fn markup(out: &mut Vec<u8>, media: Media, object: Value<'_>, name: &str, creative: u64) {
    let first = object.list("format").next().unwrap_or(object);
    let (w, h) = (first.number_of("w").unwrap_or(300.0) as u32, first.number_of("h").unwrap_or(250.0) as u32);
    let longest = object.number_of("maxduration").unwrap_or(15.0) as u32;
    let seconds = longest.min(15);
    match media {
        Media::Banner => {
            put!(
                out,
                ",\"mtype\":1,\"w\":{w},\"h\":{h},\"adm\":\"<a href=\\\"https://{name}.example/c/{creative}\\\">"
            );
            put!(
                out,
                "<img src=\\\"https://cdn.{name}.example/{creative}.jpg\\\" width=\\\"{w}\\\" height=\\\"{h}\\\"></a>"
            );
            put!(
                out,
                "<img src=\\\"https://{name}.example/i?p=${{AUCTION_PRICE}}\\\" width=\\\"1\\\" height=\\\"1\\\">\""
            );
        }
        Media::Video | Media::Audio => {
            // A player ignores the size of audio, so both get one.
            let (mtype, mime) = if media == Media::Video { (2, "video/mp4") } else { (3, "audio/mp4") };
            put!(
                out,
                ",\"mtype\":{mtype},\"dur\":{seconds},\"protocol\":3,\"adm\":\"<VAST version=\\\"3.0\\\"><Ad id=\\\"{creative}\\\">"
            );
            put!(
                out,
                "<InLine><AdSystem>{name}</AdSystem><AdTitle>{creative}</AdTitle><Impression><![CDATA[https://{name}"
            );
            put!(
                out,
                ".example/i?p=${{AUCTION_PRICE}}]]></Impression><Creatives><Creative><Linear><Duration>00:00:{seconds:02}"
            );
            put!(
                out,
                "</Duration><MediaFiles><MediaFile delivery=\\\"progressive\\\" type=\\\"{mime}\\\" width=\\\"{w}\\\" height=\\\"{h}\\\"><![CDATA[https://cdn."
            );
            put!(
                out,
                "{name}.example/{creative}]]></MediaFile></MediaFiles></Linear></Creative></Creatives></InLine></Ad></VAST>\""
            );
        }
        Media::Native => {
            put!(
                out,
                ",\"mtype\":4,\"adm\":\"{{\\\"ver\\\":\\\"1.2\\\",\\\"assets\\\":[{{\\\"id\\\":1,\\\"title\\\":{{\\\"text\\\":"
            );
            put!(
                out,
                "\\\"Something new\\\"}}}},{{\\\"id\\\":2,\\\"img\\\":{{\\\"url\\\":\\\"https://cdn.{name}.example/{creative}.jpg\\\","
            );
            put!(
                out,
                "\\\"w\\\":300,\\\"h\\\":157}}}}],\\\"link\\\":{{\\\"url\\\":\\\"https://{name}.example/c/{creative}\\\"}},"
            );
            put!(
                out,
                "\\\"eventtrackers\\\":[{{\\\"event\\\":1,\\\"method\\\":1,\\\"url\\\":\\\"https://{name}.example/i?p=${{AUCTION_PRICE}}\\\"}}]}}\""
            );
        }
    }
}

/// Micro-units as a JSON number with four decimals.
fn price(out: &mut Vec<u8>, micros: u64) {
    put!(out, "{}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100);
}

/// A JSON string.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for &b in text.as_bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0..=31 => {
                put!(out, "\\u{b:04x}");
            }
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::{write_answer, write_fixed};
    use crate::lab::{character::Character, json::Reader, requests::generate, rng::Rng};

    #[test]
    fn every_answer_is_valid_for_its_request() {
        let (mut bids, mut deals, mut media) = (0, 0, [0usize; 5]);
        for who in Character::five(5) {
            for (i, template) in generate(9, 400).iter().enumerate() {
                let (mut out, mut reader) = (Vec::new(), Reader::default());
                let mut rng = Rng::new(i as u64);
                let written = reader.read(&mut template.body.clone(), |v| write_answer(&mut out, v, &who, &mut rng));
                let written = written.expect("the request is JSON");
                if written == 0 {
                    assert!(out.is_empty());
                    continue;
                }
                let shown = String::from_utf8_lossy(&out).into_owned();
                let seen = reader.read(&mut out, |v| {
                    assert_eq!(v.text_of("id"), Some("0".repeat(24).as_str()));
                    let cur = v.text_of("cur").expect("cur");
                    assert!(template.cur.is_empty() || template.cur.iter().any(|c| c == cur), "{shown}");
                    let mut seen = 0;
                    for seat in v.list("seatbid") {
                        assert!(who.seats.iter().any(|s| Some(s.as_str()) == seat.text_of("seat")));
                        for bid in seat.list("bid") {
                            let imp = template.imps.iter().find(|i| Some(i.id.as_str()) == bid.text_of("impid"));
                            let imp = imp.expect("an impid of the request");
                            let price = bid.number_of("price").expect("a price");
                            if let Some(deal) = bid.text_of("dealid") {
                                assert!(imp.deals.iter().any(|d| d == deal));
                                deals += 1;
                            } else if imp.bidfloorcur == cur {
                                assert!(price >= imp.bidfloor, "{price} below {imp:?}");
                            }
                            assert!(price > 0.0 && bid.text_of("adm").is_some() && bid.text_of("crid").is_some());
                            media[bid.number_of("mtype").expect("mtype") as usize] += 1;
                            seen += 1;
                        }
                    }
                    seen
                });
                assert_eq!(seen, Some(written), "{shown}");
                bids += written;
            }
        }
        assert!(bids > 500 && deals > 20 && media[1..].iter().all(|&n| n > 10), "{bids} {deals} {media:?}");
    }

    #[test]
    fn the_fixed_answer_has_its_length_and_ids() {
        let who = Character::named("fixed", 1).expect("known");
        let template = &generate(1, 1)[0];
        let mut out = Vec::new();
        let mut reader = Reader::default();
        assert_eq!(reader.read(&mut template.body.clone(), |v| write_fixed(&mut out, v, &who, 700)), Some(true));
        assert_eq!(out.len(), 700);
        let impid = reader.read(&mut out, |v| {
            let bid = v.list("seatbid").next().and_then(|s| s.list("bid").next());
            bid.and_then(|b| b.text_of("impid")).map(str::to_owned)
        });
        assert_eq!(impid.flatten().as_deref(), Some(template.imps[0].id.as_str()));
        assert_eq!(
            reader.read(&mut b"{\"id\":\"1\",\"imp\":[]}".to_vec(), |v| write_fixed(&mut out, v, &who, 1)),
            Some(false)
        );
    }
}
