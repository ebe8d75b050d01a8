//! A DSP's answer as its bytes come in: interim heads, a head, a body that ends in one of four ways. What it is depends on
//! the bytes alone, not on how they arrive, and a reader that has all of them at once finds the same answer.
use super::{
    chunked::{Reading, announced, at_once, forgiving},
    cuts,
};
use outcry::{
    http1::{
        Encoding, HeadScan, Parsed,
        answer::{AnswerError, AnswerScan, Frame},
        response_head,
    },
    limits::ANSWER_HEAD_BYTES,
};

/// What came of a connection's bytes.
#[derive(Clone, PartialEq, Debug)]
enum Verdict {
    /// Neither an answer nor none.
    Awaited,
    Broken(AnswerError),
    /// Status, body as it came, and how it is packed. `again`: the connection may carry another request.
    Answer {
        status: u16,
        body: Vec<u8>,
        encoding: Encoding,
        again: bool,
    },
}

/// The first byte chooses how long a body may be, the second whether the stream ends behind the bytes; the rest is what was
/// received.
pub fn check(data: &[u8]) {
    let Some((&[limit, end], buf)) = data.split_first_chunk::<2>() else { return };
    let max = if limit < 128 { 1 << 20 } else { usize::from(limit - 128) };
    let ends = end % 2 == 1;
    let mut scan = AnswerScan::default();
    let whole = read(&mut scan, [buf].into_iter(), max, ends);
    for at in cuts(buf) {
        let cut = [&buf[..at], &buf[at..]].into_iter();
        assert_eq!(read(&mut AnswerScan::default(), cut, max, ends), whole, "cut at {at}");
    }
    // By what was used before: nothing of another answer is left in it.
    assert_eq!(read(&mut scan, buf.chunks(1), max, ends), whole, "byte by byte");
    let step = 1 + usize::from(end / 2);
    assert_eq!(read(&mut scan, buf.chunks(step), max, ends), whole, "{step} bytes at a time");
    assert_eq!(all_at_once(buf, max, ends), whole);
}

/// Reads as a connection does: of what came it keeps what is said to be needed.
fn read<'a>(scan: &mut AnswerScan, parts: impl Iterator<Item = &'a [u8]>, max: usize, ends: bool) -> Verdict {
    let mut parts = parts.filter(|part| !part.is_empty());
    let mut kept = Vec::new();
    let verdict = loop {
        let part = parts.next();
        let frame = match part {
            Some(part) => {
                kept.extend_from_slice(part);
                scan.read(&kept, max)
            }
            None if ends => scan.end(&kept),
            None => break Verdict::Awaited,
        };
        match frame {
            Frame::Partial { keep } => {
                assert!(keep <= kept.len() && part.is_some());
                kept.truncate(keep);
                assert!(kept.len() <= ANSWER_HEAD_BYTES + max, "{} bytes are kept", kept.len());
                assert!(scan.chunks().is_none_or(|chunks| chunks.len() <= max), "more than allowed");
            }
            Frame::Broken(error) => break Verdict::Broken(error),
            Frame::Whole { status, at, end, reusable } => {
                let body = scan.chunks().unwrap_or(&kept[at..end]).to_vec();
                // Who says more than his answer is not asked on that connection again, whether it came with it or later; who
                // ends the stream cannot be.
                let again = reusable && !ends && parts.next().is_none();
                break Verdict::Answer { status, body, encoding: scan.encoding(), again };
            }
        }
    };
    scan.reset();
    assert!(scan.chunks().is_none());
    verdict
}

/// The same with all bytes in sight, one part of RFC 9112 after the other.
fn all_at_once(buf: &[u8], max: usize, ends: bool) -> Verdict {
    let unfinished = if ends { Verdict::Broken(AnswerError::CutOff) } else { Verdict::Awaited };
    let mut rest = buf;
    // Section 4: heads, of which the first above 199 counts.
    let (head, fields) = loop {
        let max = ANSWER_HEAD_BYTES - (buf.len() - rest.len());
        match response_head(rest, &mut HeadScan::default(), max) {
            Parsed::Partial => return unfinished,
            Parsed::Bad(_) => return Verdict::Broken(AnswerError::BadHttp),
            Parsed::Done(head) => {
                let fields = &rest[..head.len];
                rest = &rest[head.len..];
                if head.status >= 200 {
                    break (head, fields);
                }
            }
        }
    };
    let values = |name: &[u8]| -> Vec<Vec<u8>> {
        let field = |line: &[u8]| {
            let colon = line.iter().position(|&b| b == b':')?;
            line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii().to_ascii_lowercase())
        };
        fields.split(|&b| b == b'\n').filter_map(field).collect()
    };
    let length = values(b"content-length").first().map(|value| {
        let digits = value.split(|&b| b == b',').next().unwrap_or(b"").trim_ascii();
        std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u64>().ok()).expect("a head was let through")
    });
    let chunked = !values(b"transfer-encoding").is_empty();
    // Section 6.3: where the body ends.
    let too_large = Verdict::Broken(AnswerError::TooLarge);
    let (body, taken) = match length {
        _ if matches!(head.status, 204 | 304) => (Vec::new(), 0),
        _ if chunked && announced(rest) > max as u64 => return too_large,
        _ if chunked => match forgiving(rest) {
            Some((taken, body)) if at_once(&rest[..taken]) == Reading::Whole(body.clone()) => (body, taken),
            _ if at_once(rest) == Reading::Begun => return unfinished,
            _ => return Verdict::Broken(AnswerError::BadHttp),
        },
        Some(length) if length > max as u64 => return too_large,
        Some(length) if length > rest.len() as u64 => return unfinished,
        Some(length) => (rest[..length as usize].to_vec(), length as usize),
        None if rest.len() > max => return too_large,
        None if !ends => return Verdict::Awaited,
        None => (rest.to_vec(), rest.len()),
    };
    let again = head.keep_alive && !ends && taken == rest.len();
    Verdict::Answer { status: head.status, body, encoding: head.encoding, again }
}
