//! What simulated DSPs answer: the bytes of an HTTP response to the bytes of an HTTP request.
//! Owns: the creatives. Called by: `floor-dsp`, `micro`. Never: parses more than it needs to find ids; it shares its CPU
//! with the load.
use crate::{
    fate::{self, Fate},
    kit::{cpu_ns, response},
};
use memchr::{memchr, memmem};
use std::io::Write;

/// The parts of a bid that are the same whatever it is for: between its `impid` and its price, and after that.
struct Creative {
    price: &'static str,
    rest: String,
}

impl Creative {
    /// Markup of about `size` bytes; every fourth one is a VAST document, every other one has a notice to be sent.
    fn new(k: usize, size: usize) -> Creative {
        let vast = k % 4 == 3;
        let mut adm = String::from(if vast {
            "<VAST version=\\\"3.0\\\"><Ad id=\\\"1\\\"><InLine><AdSystem>dsp</AdSystem><Impression><![CDATA[https://i.dsp.example/i?\
            p=${AUCTION_PRICE}]]></Impression><Creatives>"
        } else {
            "<a href=\\\"https://click.dsp.example/c?p=${AUCTION_PRICE}\\\" target=\\\"_blank\\\">\
            <img src=\\\"https://cdn.dsp.example/c/300x250/cr1.jpg\\\" width=\\\"300\\\" height=\\\"250\\\"></a><!-- "
        });
        while adm.len() + 24 < size {
            adm.push_str(if vast { "<Creative><Linear/></Creative>" } else { "filler " });
        }
        adm.push_str(if vast { "</Creatives></InLine></Ad></VAST>" } else { "-->" });
        let nurl = if k.is_multiple_of(2) {
            ",\"nurl\":\"http://127.0.0.1:9999/win?a=${AUCTION_ID}&i=${AUCTION_IMP_ID}&p=${AUCTION_PRICE}\""
        } else {
            ""
        };
        Creative {
            price: "\",\"price\":",
            rest: format!(
                "{nurl},\"adm\":\"{adm}\",\"adomain\":[\"advertiser{}.example\"],\"cid\":\"cid{}\",\"crid\":\"cr{k}\"}}",
                k / 4,
                k / 8
            ),
        }
    }
}

/// Writes answers. Finds the ids by memmem: wants compact JSON, `id` before `imp` and before any other object that has
/// an `id`, and `id` then `tagid` first in an imp. So are those of `floor-requests`; a simulator for all others is
/// `outcry dsp-sim`.
pub struct Bidder {
    bid: bool,
    filler: Vec<u8>,
    imp: memmem::Finder<'static>,
    next_imp: memmem::Finder<'static>,
    deal: memmem::Finder<'static>,
    size: memmem::Finder<'static>,
    device: memmem::Finder<'static>,
    id: memmem::Finder<'static>,
    creatives: Vec<Creative>,
    body: Vec<u8>,
    requests: u64,
    bytes: u64,
    refused: u64,
}

impl Bidder {
    /// Bids of about `size` bytes; without `bid` as many bytes of filler.
    pub fn new(bid: bool, size: usize) -> Bidder {
        // What is not markup has some 240 bytes; sizes are even from a quarter to seven quarters of the mean.
        let mean = size.saturating_sub(240);
        let of = |k: usize| Creative::new(k, mean / 4 + mean * 3 * (k * 37 % fate::CREATIVES) / (2 * fate::CREATIVES));
        Bidder {
            bid,
            filler: response(size),
            imp: memmem::Finder::new(br#""imp":[{"#),
            next_imp: memmem::Finder::new(br#"","tagid":""#),
            deal: memmem::Finder::new(br#""deals":[{"id":""#),
            size: memmem::Finder::new(br#""w":"#),
            device: memmem::Finder::new(br#""device":{"#),
            id: memmem::Finder::new(br#""id":""#),
            creatives: (0..fate::CREATIVES).map(of).collect(),
            body: Vec::new(),
            requests: 0,
            bytes: 0,
            refused: 0,
        }
    }

    /// The string that follows the first `"id":"`.
    fn string<'a>(&self, b: &'a [u8]) -> Option<&'a [u8]> {
        let b = &b[self.id.find(b)? + 6..];
        Some(&b[..memchr(b'"', b)?])
    }

    /// Writes what DSP number `dsp` answers to the HTTP request `b`, or a 400 when the ids were not found. False: it goes
    /// out at once.
    pub fn answer(&mut self, b: &[u8], dsp: usize, out: &mut Vec<u8>) -> bool {
        out.clear();
        if b.starts_with(b"GET ") {
            let line = format!("{} {} {} {}\n", self.requests, self.bytes, self.refused, cpu_ns());
            out.extend_from_slice(
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len()).as_bytes(),
            );
            return false;
        }
        self.requests += 1;
        self.bytes += b.len() as u64;
        if !self.bid {
            out.extend_from_slice(&self.filler);
            return true;
        }
        let imp = self.imp.find(b).unwrap_or(0);
        let (Some(id), Some(_)) = (self.string(&b[..imp]), self.string(&b[imp..])) else {
            self.refused += 1;
            out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return true;
        };
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        match fate::fate(id, dsp) {
            Fate::NoContent => out.extend_from_slice(b"HTTP/1.1 204 No Content\r\n\r\n"),
            Fate::NoSeat => {
                body.extend_from_slice(b"{\"id\":\"");
                body.extend_from_slice(id);
                body.extend_from_slice(b"\",\"seatbid\":[],\"nbr\":8}");
            }
            Fate::Bid(bid) => self.bids(&b[imp..], id, bid, &mut body),
        }
        if !body.is_empty() {
            let _ = write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            out.extend_from_slice(&body);
        }
        self.body = body;
        true
    }

    /// The first `"w":300,"h":250` of an impression, as it stands there.
    fn size<'a>(&self, imp: &'a [u8]) -> Option<&'a [u8]> {
        let size = &imp[self.size.find(imp)?..];
        let height = size.iter().position(|b| *b == b',')?;
        let end = size[height + 1..].iter().position(|b| matches!(b, b',' | b'}'))?;
        Some(&size[..height + 1 + end])
    }

    /// Writes the body of an answer with bids; `imps` is the request from its `imp` on, whose device has a size too.
    fn bids(&self, imps: &[u8], id: &[u8], bid: fate::Bid, body: &mut Vec<u8>) {
        let imps = &imps[..self.device.find(imps).unwrap_or(imps.len())];
        body.extend_from_slice(b"{\"id\":\"");
        body.extend_from_slice(id);
        body.extend_from_slice(b"\",\"seatbid\":[{\"bid\":[");
        let mut rest = imps;
        for i in 0..64 {
            let Some(impid) = self.string(rest) else { break };
            // The next impression begins at the `{"id":"` before its `tagid`; this one's deals lie before that.
            let own = self.next_imp.find(rest).map_or(0, |at| at + 1);
            let end = self.next_imp.find(&rest[own..]).map(|at| rest[..own + at].iter().rposition(|c| *c == b'{'));
            let end = end.flatten();
            if bid.takes(i) {
                let creative = &self.creatives[(bid.creative + i) % fate::CREATIVES];
                let price = bid.price + i as u64;
                body.extend_from_slice(if i == 0 {
                    b"{\"id\":\"1\",\"impid\":\""
                } else {
                    b",{\"id\":\"2\",\"impid\":\""
                });
                body.extend_from_slice(impid);
                body.extend_from_slice(creative.price.as_bytes());
                let _ = write!(body, "{}.{:04}", price / 10_000, price % 10_000);
                let imp = &rest[..end.unwrap_or(rest.len())];
                if bid.deal
                    && let Some(at) = self.deal.find(imp)
                    && let Some(deal) = self.string(&imp[at..])
                {
                    body.extend_from_slice(b",\"dealid\":\"");
                    body.extend_from_slice(deal);
                    body.push(b'"');
                }
                if let Some(size) = self.size(imp) {
                    body.push(b',');
                    body.extend_from_slice(size);
                }
                body.extend_from_slice(creative.rest.as_bytes());
            }
            match end {
                Some(end) => rest = &rest[end..],
                None => break,
            }
        }
        body.extend_from_slice(b"],\"seat\":\"s1\"}],\"cur\":\"USD\"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::{request, whole};

    const REQUEST: &[u8] = br#"{"id":"rq-7","tmax":70,"imp":[{"id":"i-1","tagid":"a","banner":{"format":[{"w":320,"h":50},{"w":1,"h":1}]}},{"id":"i-2","tagid":"b","pmp":{"deals":[{"id":"d-1"}]}}],"site":{"id":"s"},"device":{"w":9,"h":9}}"#;

    fn text(bidder: &mut Bidder, post: &[u8], dsp: usize) -> String {
        let mut out = Vec::new();
        bidder.answer(post, dsp, &mut out);
        assert_eq!(whole(&out), Some(out.len()));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn answers_say_what_fate_says_and_nothing_else() {
        let mut bidder = Bidder::new(true, 700);
        let post = request("/dsp", REQUEST);
        let (mut both, mut dealt) = (0, 0);
        for dsp in 0..100 {
            let answer = text(&mut bidder, &post, dsp);
            let Fate::Bid(bid) = fate::fate(b"rq-7", dsp) else {
                let no = if fate::fate(b"rq-7", dsp) == Fate::NoSeat { "\"seatbid\":[]" } else { "204 No Content" };
                assert!(answer.contains(no), "{answer}");
                continue;
            };
            let first = r#"{"id":"rq-7","seatbid":[{"bid":[{"id":"1","impid":"i-1","price":"#;
            assert!(answer.contains(first) && answer.ends_with(r#"}],"seat":"s1"}],"cur":"USD"}"#), "{answer}");
            assert_eq!(answer.matches("\"impid\"").count(), 1 + usize::from(bid.takes(1)), "{answer}");
            assert_eq!(answer.contains(r#""impid":"i-2""#), bid.takes(1), "{answer}");
            assert_eq!(answer.matches(r#","w":320,"h":50"#).count() + answer.matches("\"w\":").count(), 2, "{answer}");
            let deal = format!(
                "\"impid\":\"i-2\",\"price\":{}.{:04},\"dealid\":\"d-1\"",
                bid.price / 10_000,
                bid.price % 10_000 + 1
            );
            assert_eq!(answer.contains(&deal), bid.takes(1) && bid.deal, "{deal} in {answer}");
            both += usize::from(bid.takes(1));
            dealt += usize::from(bid.takes(1) && bid.deal);
        }
        assert!(both > 20 && dealt > 5, "{both} {dealt}");
    }

    #[test]
    fn sizes_vary_around_the_one_that_was_asked_for() {
        let sizes: Vec<usize> = Bidder::new(true, 700).creatives.iter().map(|c| c.rest.len() + 110).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        let (least, most) = (sizes.iter().min().expect("some"), sizes.iter().max().expect("some"));
        assert!((650..750).contains(&mean) && *least < 480 && *most > 950, "{least} {mean} {most}");
    }

    #[test]
    fn what_it_cannot_read_it_refuses_and_counts() {
        let mut bidder = Bidder::new(true, 700);
        let post = request("/dsp", b"{}");
        assert!(text(&mut bidder, &post, 0).starts_with("HTTP/1.1 400"));
        let want = format!("\r\n\r\n1 {} 1 ", post.len());
        assert!(text(&mut bidder, b"GET /stats HTTP/1.1\r\n\r\n", 0).contains(&want));
    }
}
