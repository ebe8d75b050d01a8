//! A client's connection to a whole core: pipelined requests, cut anywhere, packed, in chunks, announced. Each whole request
//! gets one answer, in its order; which depends on the bytes alone, and a reader that has all of them at once says which.
//!
//! Of an accepted request it is not said what its auction comes to: the DSP bids on some, and what bids are worth is for
//! `answer` and `splice`.
mod client;

use super::{
    chunked::{Reading, announced, at_once, forgiving},
    cuts,
};
use client::{Core, Manner, Said};
use flate2::bufread::GzDecoder;
use outcry::{
    http1::{BodyLen, ContentType, HeadLimits, HeadScan, Method, Parsed, RequestHead, request_head},
    openrtb::request::Request,
};
use std::io::Read;

/// Where requests go.
const PATH: &[u8] = b"/a";
/// The least that a configuration may say.
const BODY_BYTES: usize = 1024;
const HEAD_BYTES: usize = 512;

/// What is to come of a request.
#[derive(Clone, PartialEq, Debug)]
struct Due {
    /// 200: an auction, which may also come to 204.
    status: u16,
    /// The request's id, if it has an auction.
    id: Vec<u8>,
    /// It asks before it sends its body: "100 Continue" may stand before its answer.
    asks: bool,
}

/// What is to come of a connection.
#[derive(Clone, PartialEq, Debug, Default)]
struct Dues {
    answers: Vec<Due>,
    /// The last of them ends the connection, whatever the client does.
    closes: bool,
    /// Behind them is the head of a request that asks before it sends.
    asks: bool,
}

/// The first byte chooses how the bytes come and in which order DSPs answer, the second how large the pieces of one run are;
/// the rest is what the client sends.
pub fn check(data: &[u8]) {
    let Some((&[manner, step], sent)) = data.split_first_chunk::<2>() else { return };
    let dues = dues(sent);
    let mut core = Core::new(PATH, BODY_BYTES, HEAD_BYTES);
    let mut run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let said = core.serve(pieces, &Manner::of(manner));
        compare(&said, &dues);
    };
    run(&mut std::iter::once(sent));
    run(&mut sent.chunks(1));
    run(&mut sent.chunks(2 + usize::from(step)));
    for at in cuts(sent).step_by(5) {
        run(&mut [&sent[..at], &sent[at..]].into_iter());
    }
    core.end();
}

fn compare(said: &Said, dues: &Dues) {
    let statuses: Vec<u16> = said.answers.iter().map(|a| a.status).collect();
    let mut due = dues.answers.iter();
    let mut told = false;
    for answer in &said.answers {
        if answer.status == 100 {
            let next = due.as_slice().first();
            assert!(!told && next.map_or(dues.asks, |due| due.asks), "nobody asked to go on: {statuses:?}, {dues:?}");
            told = true;
            continue;
        }
        told = false;
        let due = due.next().unwrap_or_else(|| panic!("an answer to nothing: {statuses:?}, {dues:?}"));
        let auction = due.status == 200 && answer.status == 204;
        assert!(answer.status == due.status || auction, "{statuses:?}, {dues:?}");
        if answer.status == 200 {
            let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("an answer is JSON");
            assert_eq!(body["id"].as_str().map(str::as_bytes), Some(&due.id[..]), "answers in order");
        }
    }
    assert_eq!(due.as_slice(), [], "requests without an answer: {statuses:?}");
    let last = said.answers.iter().rfind(|a| a.status != 100);
    assert!(said.answers.iter().all(|a| !a.close || Some(a) == last), "an answer behind the last one: {statuses:?}");
    if let Some(closed) = said.closed {
        assert_eq!(closed, dues.closes, "{statuses:?}, {dues:?}");
    }
    assert!(!dues.closes || last.is_some_and(|a| a.close), "the client is not told that it ends: {statuses:?}");
    assert!(said.closed.is_none() || dues.closes || last.is_none_or(|a| !a.close), "told for nothing: {statuses:?}");
}

/// What is to come of these bytes.
fn dues(sent: &[u8]) -> Dues {
    let (mut rest, mut dues) = (sent, Dues::default());
    while !dues.closes {
        while let Some(behind) = rest.strip_prefix(b"\r\n") {
            rest = behind;
        }
        let head = match request_head(rest, &mut HeadScan::default(), &HeadLimits { head_bytes: HEAD_BYTES }) {
            Parsed::Partial => return dues,
            Parsed::Bad(e) => return dues.last(e.status(), false),
            Parsed::Done(head) => head,
        };
        let refused = refused(&head, rest);
        let asks = head.expect_continue;
        if let Some(status) = refused.filter(|_| asks || head.method == Method::Head) {
            return dues.last(status, asks);
        }
        let behind = &rest[head.len..];
        let (body, taken) = match head.body {
            BodyLen::Chunked if announced(behind) > BODY_BYTES as u64 => return dues.last(413, asks),
            BodyLen::Chunked => match forgiving(behind) {
                Some((taken, body)) if at_once(&behind[..taken]) == Reading::Whole(body.clone()) => (body, taken),
                _ if at_once(behind) == Reading::Begun => return Dues { asks, ..dues },
                _ => return dues.last(400, asks),
            },
            BodyLen::Length(n) if n > BODY_BYTES as u64 => return dues.last(413, asks),
            BodyLen::Length(n) if n > behind.len() as u64 => return Dues { asks, ..dues },
            BodyLen::Length(n) => (behind[..n as usize].to_vec(), n as usize),
            BodyLen::None | BodyLen::UntilClose => (Vec::new(), 0),
        };
        rest = &behind[taken..];
        let (status, id) = refused.map_or_else(|| auctioned(&body, head.gzip_body), |status| (status, Vec::new()));
        dues.answers.push(Due { status, id, asks });
        dues.closes = !head.keep_alive;
    }
    dues
}

impl Dues {
    fn last(mut self, status: u16, asks: bool) -> Dues {
        self.answers.push(Due { status, id: Vec::new(), asks });
        self.closes = true;
        self
    }
}

/// What a request is refused for, whatever its body.
fn refused(head: &RequestHead, bytes: &[u8]) -> Option<u16> {
    match head.content_type {
        _ if head.path.of(bytes) != PATH => Some(404),
        _ if head.method != Method::Post => Some(405),
        _ if head.body == BodyLen::None => Some(411),
        _ if head.unknown_expect => Some(417),
        _ if head.other_encoding => Some(415),
        ContentType::Other => Some(415),
        ContentType::Absent | ContentType::Json => None,
    }
}

/// What comes of a body, and the id that its answer has.
fn auctioned(body: &[u8], packed: bool) -> (u16, Vec<u8>) {
    let mut plain = Vec::new();
    let body = if packed {
        let mut decoder = GzDecoder::new(body);
        let read = decoder.by_ref().take(BODY_BYTES as u64 + 1).read_to_end(&mut plain);
        if plain.len() > BODY_BYTES {
            return (413, Vec::new());
        }
        // Theirs leaves what stands behind the member, and reserved flags, to others.
        if read.is_err() || !decoder.get_ref().is_empty() || body[3] & 0xe0 != 0 {
            return (400, Vec::new());
        }
        &plain[..]
    } else {
        body
    };
    let mut request = Request::default();
    match request.parse(body, 0, &Default::default()) {
        Ok(()) => (200, request.id.bytes(body).collect()),
        Err(_) => (400, Vec::new()),
    }
}
