//! Chunked bodies: any cut of the same bytes decodes to the same, and what decodes does so for a reader that knows
//! nothing of states, and for one that forgives everything.
use super::cuts;
use outcry::http1::{ChunkError, ChunkStep, Chunked};

type Verdict = (Result<bool, ChunkError>, usize, Vec<u8>);

/// The first byte chooses the limit; the rest is what was received.
pub fn check(data: &[u8]) {
    let Some((&choice, buf)) = data.split_first() else { return };
    let max = if choice < 128 { 1 << 20 } else { usize::from(choice - 128) };
    let whole = fed([buf].into_iter(), max);
    for at in cuts(buf) {
        assert_eq!(fed([&buf[..at], &buf[at..]].into_iter(), max), whole, "cut at {at}");
    }
    assert_eq!(fed(buf.chunks(1), max), whole, "byte by byte");
    let (verdict, consumed, decoded) = whole;
    assert!(decoded.len() <= max, "more than allowed");
    match verdict {
        Ok(true) => {
            assert_eq!(at_once(&buf[..consumed]).as_deref(), Some(&decoded[..]), "read at once");
            assert_eq!(forgiving(buf), Some((consumed, decoded)), "read leniently");
        }
        // All of it belongs to the body, and with what is missing it is one: so nothing but a body's beginning.
        Ok(false) => assert_eq!(at_once(buf), None, "read at once it is whole"),
        Err(ChunkError::TooLarge | ChunkError::TooMuchExtra) => {}
        Err(e) => assert_eq!(at_once(buf), None, "read at once it is whole, to us {e:?}"),
    }
    sent(buf, usize::from(choice) + 1);
}

fn fed<'a>(parts: impl Iterator<Item = &'a [u8]>, max: usize) -> Verdict {
    let (mut chunked, mut out, mut consumed) = (Chunked::default(), b"before".to_vec(), 0);
    let verdict = (|| {
        for part in parts {
            let step = chunked.feed(part, &mut out, max)?;
            consumed += step.consumed;
            if step.done {
                let again = chunked.feed(b"0\r\n\r\n", &mut out, max);
                assert_eq!(again, Ok(ChunkStep { consumed: 0, done: true }), "done is done");
                return Ok(true);
            }
            assert_eq!(step.consumed, part.len());
        }
        Ok(false)
    })();
    if let Err(e) = verdict {
        assert_eq!(chunked.feed(b"0\r\n\r\n", &mut out, max), Err(e), "a failure stays");
        consumed = 0;
    }
    assert_eq!(out[..6], *b"before");
    (verdict, consumed, out.split_off(6))
}

/// RFC 9112 section 7.1 word for word, over the whole message: the decoded bytes, or none if this is not exactly one
/// chunked body.
fn at_once(mut rest: &[u8]) -> Option<Vec<u8>> {
    let text = |line: &[u8]| line.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f);
    let mut out = Vec::new();
    loop {
        let size = line(&mut rest)?;
        let digits = size.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = size[digits..].trim_ascii_start();
        if digits == 0 || digits > 16 || !text(size) || (digits < size.len() && !extension.starts_with(b";")) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let data = rest.get(..usize::try_from(size).ok()?)?;
        out.extend_from_slice(data);
        rest = rest[data.len()..].strip_prefix(b"\r\n")?;
    }
    loop {
        let trailer = line(&mut rest)?;
        if trailer.is_empty() {
            return rest.is_empty().then_some(out);
        }
        let colon = trailer.iter().position(|&b| b == b':')?;
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        if colon == 0 || !trailer[..colon].iter().all(token) || !text(trailer) {
            return None;
        }
    }
}

fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = rest.windows(2).position(|w| w == b"\r\n")?;
    let line = &rest[..at];
    *rest = &rest[at + 2..];
    Some(line)
}

/// The reader that smuggling counts on: lines end in LF, a size is whatever hexadecimal a line begins with. Where a body
/// ends and what it is for it, when we found an end.
fn forgiving(buf: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut rest = buf;
    let mut out = Vec::new();
    let line = |rest: &mut &[u8]| -> Option<Vec<u8>> {
        let at = rest.iter().position(|&b| b == b'\n')?;
        let line = rest[..at].trim_ascii().to_vec();
        *rest = &rest[at + 1..];
        Some(line)
    };
    loop {
        let size = line(&mut rest)?;
        let digits = size.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = u64::from_str_radix(std::str::from_utf8(&size[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let data = rest.get(..usize::try_from(size).ok()?)?;
        out.extend_from_slice(data);
        rest = &rest[data.len()..];
        line(&mut rest).filter(Vec::is_empty)?;
    }
    while !line(&mut rest)?.is_empty() {}
    Some((buf.len() - rest.len(), out))
}

/// The bytes as somebody would send them in chunks of `size`: they come back.
fn sent(payload: &[u8], size: usize) {
    let mut body = Vec::new();
    for chunk in payload.chunks(size) {
        body.extend(format!("{:x}\r\n", chunk.len()).bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let len = body.len();
    body.extend_from_slice(b"behind");
    assert_eq!(fed([&body[..]].into_iter(), payload.len()), (Ok(true), len, payload.to_vec()));
}
