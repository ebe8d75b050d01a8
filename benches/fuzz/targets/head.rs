//! Heads of requests and of answers: the verdict depends on the bytes alone, not on how they arrive, and nobody who
//! reads the same bytes more leniently than we do finds another end of the message in them.
use super::cuts;
use outcry::http1::{BodyLen, HeadLimits, HeadScan, Parsed, request_head, response_head};
use std::fmt::Debug;

/// The first byte chooses the limit, from a tight one to one that never matters; the rest is what was received.
pub fn check(data: &[u8]) {
    let Some((&choice, buf)) = data.split_first() else { return };
    let max = if choice < 128 { 8192 } else { usize::from(choice - 128) * 4 };
    let request = arriving(buf, |b, scan| request_head(b, scan, &HeadLimits { head_bytes: max }));
    if let Parsed::Done(head) = request {
        assert!(head.len <= buf.len().min(max));
        for span in [
            head.target,
            head.path,
            head.query,
            head.traceparent,
            head.authorization,
            head.forwarded_for,
            head.openrtb_version,
        ] {
            assert!(span.len == 0 || span.end() <= head.len, "a span outside of the head: {span:?}");
        }
        assert!(head.body != BodyLen::UntilClose, "a request never ends with its connection");
        one_reading(buf, head.len, head.body, true);
    }
    let response = arriving(buf, |b, scan| response_head(b, scan, max));
    if let Parsed::Done(head) = response {
        assert!(head.len <= buf.len().min(max));
        assert!((100..=999).contains(&head.status));
        let bodiless = head.status < 200 || matches!(head.status, 204 | 304);
        assert_eq!(head.body == BodyLen::None, bodiless);
        assert!(!(head.keep_alive && head.body == BodyLen::UntilClose));
        if !bodiless {
            one_reading(buf, head.len, head.body, false);
        }
    }
}

/// The verdict, which must be the same however the bytes come.
fn arriving<T: Copy + PartialEq + Debug>(buf: &[u8], read: impl Fn(&[u8], &mut HeadScan) -> Parsed<T>) -> Parsed<T> {
    let whole = read(buf, &mut HeadScan::default());
    for at in cuts(buf) {
        let mut scan = HeadScan::default();
        let mut got = read(&buf[..at], &mut scan);
        if got == Parsed::Partial {
            got = read(buf, &mut scan);
        }
        assert_eq!(got, whole, "cut at {at}");
    }
    let mut scan = HeadScan::default();
    let bytewise = (0..=buf.len()).map(|n| read(&buf[..n], &mut scan)).find(|r| *r != Parsed::Partial);
    assert_eq!(bytewise.unwrap_or(Parsed::Partial), whole, "byte by byte");
    // The same bytes behind a head that was refused or read: nothing of it is left in the scan.
    if whole != Parsed::Partial {
        assert_eq!(read(buf, &mut scan), whole, "on a connection that had a head before");
    }
    whole
}

/// What a reader who forgives everything makes of a head that we accepted: lines end in LF, with or without CR, names
/// may have white space around them, a line that begins with white space goes on with the one before. It must see the
/// same fields and the same end; else a message could be hidden between the two.
fn one_reading(buf: &[u8], len: usize, body: BodyLen, request: bool) {
    let mut rest = buf;
    let mut lines = Vec::new();
    let mut first = true;
    loop {
        let at = rest.iter().position(|&b| b == b'\n').expect("a head that was read has its blank line");
        let line = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
        rest = &rest[at + 1..];
        if line.is_empty() && !(first && request) {
            break;
        }
        first = false;
        if !line.is_empty() {
            lines.push(line);
        }
    }
    assert_eq!(buf.len() - rest.len(), len, "a lenient reader ends the head elsewhere");
    let (mut lengths, mut codings, mut hosts) = (Vec::new(), Vec::new(), 0);
    for line in &lines[1..] {
        assert!(!line[0].is_ascii_whitespace(), "a lenient reader would join this line to the one before");
        assert!(!line.iter().any(|b| matches!(b, 0 | b'\r' | 0x0b | 0x0c)), "a byte at which readers differ");
        let colon = line.iter().position(|&b| b == b':').expect("a field has a colon");
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        assert_eq!(name.len(), colon, "white space in front of a colon");
        assert!(name.iter().all(|b| b.is_ascii_graphic()), "a name that is none");
        // An underscore for a hyphen, as CGI has it, is a name of its own to us; a gateway that mixes the two is its own fault.
        if name.eq_ignore_ascii_case(b"content-length") {
            lengths.extend(value.split(|&b| b == b',').map(|v| v.trim_ascii().to_vec()));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            codings.push(value.to_ascii_lowercase());
        } else if name.eq_ignore_ascii_case(b"host") {
            hosts += 1;
        }
    }
    assert!(!request || hosts <= 1);
    let sole = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|t| t.parse::<u64>().ok());
    match body {
        BodyLen::Chunked => {
            assert!(lengths.is_empty(), "both framings");
            assert_eq!(codings, [b"chunked"], "a coding that another might end differently");
        }
        BodyLen::Length(n) => {
            assert!(codings.is_empty(), "both framings");
            assert!(!lengths.is_empty());
            for length in &lengths {
                assert!(length.iter().all(u8::is_ascii_digit), "a length that is no plain number");
                assert_eq!(sole(length), Some(n), "lengths that differ");
            }
        }
        BodyLen::None | BodyLen::UntilClose => {
            assert!(lengths.is_empty() && codings.is_empty(), "a framing that we did not see");
        }
    }
}
