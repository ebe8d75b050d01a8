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
            assert_eq!(forgiving(buf), Some((consumed, decoded.clone())), "read leniently");
            assert_eq!(at_once(&buf[..consumed]), Reading::Whole(decoded), "read at once");
        }
        Ok(false) => assert_eq!(at_once(buf), Reading::Begun),
        Err(ChunkError::TooLarge | ChunkError::TooMuchExtra) => {}
        Err(e) => assert_eq!(at_once(buf), Reading::Wrong, "to us {e:?}"),
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

/// What a text is, read at once.
#[derive(PartialEq, Debug)]
pub(super) enum Reading {
    /// Exactly one chunked body, decoded.
    Whole(Vec<u8>),
    /// The beginning of one.
    Begun,
    /// Neither, whatever may follow.
    Wrong,
}

/// RFC 9112 section 7.1 word for word, over the whole text.
pub(super) fn at_once(mut rest: &[u8]) -> Reading {
    let text = |line: &[u8]| line.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f);
    let mut out = Vec::new();
    loop {
        let (size, end) = line(&mut rest);
        let digits = size.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let extension = size[digits..].trim_ascii_start();
        let spaced = extension.is_empty() && digits < size.len();
        match end {
            _ if digits > 16 || !text(size) || !extension.is_empty() && extension[0] != b';' => return Reading::Wrong,
            End::Missing if digits > 0 || size.is_empty() => return Reading::Begun,
            _ if digits == 0 || spaced => return Reading::Wrong,
            End::Missing | End::Half => return Reading::Begun,
            End::There => {}
        }
        let number = std::str::from_utf8(&size[..digits]).expect("digits");
        let size = u64::from_str_radix(number, 16).expect("digits");
        if size == 0 {
            break;
        }
        let Some(data) = usize::try_from(size).ok().and_then(|size| rest.get(..size)) else { return Reading::Begun };
        out.extend_from_slice(data);
        rest = match &rest[data.len()..] {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Reading::Begun,
            _ => return Reading::Wrong,
        };
    }
    loop {
        let (trailer, end) = line(&mut rest);
        let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
        let name = trailer.iter().take_while(|b| token(b)).count();
        match end {
            End::There if trailer.is_empty() && rest.is_empty() => return Reading::Whole(out),
            End::Missing | End::Half if trailer.is_empty() => return Reading::Begun,
            End::Missing if name == trailer.len() => return Reading::Begun,
            _ if name == 0 || trailer.get(name) != Some(&b':') || !text(trailer) => return Reading::Wrong,
            End::Missing | End::Half => return Reading::Begun,
            End::There => {}
        }
    }
}

/// How much there is of a line's CR LF.
enum End {
    There,
    Half,
    Missing,
}

fn line<'a>(rest: &mut &'a [u8]) -> (&'a [u8], End) {
    let all = *rest;
    match all.windows(2).position(|w| w == b"\r\n") {
        Some(at) => {
            *rest = &all[at + 2..];
            (&all[..at], End::There)
        }
        None => {
            *rest = &[];
            all.strip_suffix(b"\r").map_or((all, End::Missing), |line| (line, End::Half))
        }
    }
}

/// The reader that smuggling counts on: lines end in LF, a size is whatever hexadecimal a line begins with. Where a body
/// ends and what it is for it, when we found an end.
pub(super) fn forgiving(buf: &[u8]) -> Option<(usize, Vec<u8>)> {
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

/// What the sizes of chunks come to, as far as nothing is wrong before them.
pub(super) fn announced(mut rest: &[u8]) -> u64 {
    let mut sum = 0u64;
    loop {
        let digits = rest.iter().take(16).take_while(|b| b.is_ascii_hexdigit()).count();
        let size = std::str::from_utf8(&rest[..digits]).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let size = size.unwrap_or(0);
        sum = sum.saturating_add(size);
        let Some(at) = rest.windows(2).position(|w| w == b"\r\n") else { return sum };
        let (line, behind) = rest.split_at(at + 2);
        if size == 0 || at_once(line) != Reading::Begun {
            return sum;
        }
        let data = usize::try_from(size).ok().and_then(|size| behind.get(size..));
        let Some(next) = data.and_then(|data| data.strip_prefix(b"\r\n")) else { return sum };
        rest = next;
    }
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
