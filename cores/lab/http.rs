//! HTTP/1.1 framing for the laboratory: where a message ends, and the five headers that matter to it.
//! Owns: nothing. Called by: `dsp_sim`, `load`. Never: shares code with the exchange's own reader, which it is there
//! to verify.
//! Full: a message above the caller's limit is [`Bad::TooLarge`].
use std::ops::Range;

/// What kind of message is expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A request line first.
    Request,
    /// A status line first.
    Response,
}

/// Why bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Bad {
    /// The first line is neither a request's nor a status line of HTTP/1.x.
    #[error("bad first line")]
    FirstLine,
    /// A header line without a name, or with a lone line feed in it.
    #[error("bad header line")]
    Header,
    /// Two lengths, a length that is no number, or a length and chunks.
    #[error("bad or contradicting length")]
    Length,
    /// Neither length nor chunks on an answer that has a body.
    #[error("no length")]
    NoLength,
    /// Chunks that break their grammar.
    #[error("bad chunk")]
    Chunk,
    /// Longer than the limit.
    #[error("too large")]
    TooLarge,
}

/// One whole message in a buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Of a response; 0 for a request.
    pub status: u16,
    /// The connection ends after this message.
    pub close: bool,
    /// The body is gzip.
    pub gzip: bool,
    /// Where the body stands; chunks have been joined in place.
    pub body: Range<usize>,
    /// Where the next message starts.
    pub end: usize,
}

/// What a buffer holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Not yet a whole message.
    More {
        /// The head is whole and its sender waits for `100 Continue`.
        expects_continue: bool,
    },
    /// A message.
    Whole(Frame),
}

#[derive(Default)]
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    close: bool,
    gzip: bool,
    expects_continue: bool,
}

/// Looks for one message at the start of `buf`. `max` bounds head and body together.
pub fn frame(buf: &mut [u8], kind: Kind, max: usize) -> Result<Step, Bad> {
    let more =
        |expects_continue| if buf.len() > max { Err(Bad::TooLarge) } else { Ok(Step::More { expects_continue }) };
    let Some(head_end) = memchr::memmem::find(buf, b"\r\n\r\n").map(|at| at + 4) else { return more(false) };
    let head = read_head(&buf[..head_end - 2], kind)?;
    let bodiless = kind == Kind::Response && matches!(head.status, 100..=199 | 204 | 304);
    let whole = |body: Range<usize>, end| {
        Step::Whole(Frame { status: head.status, close: head.close, gzip: head.gzip, body, end })
    };
    if bodiless {
        return Ok(whole(head_end..head_end, head_end));
    }
    if head.chunked {
        return match join_chunks(&mut buf[head_end..])? {
            Some((body, end)) if head_end + end <= max => Ok(whole(head_end..head_end + body, head_end + end)),
            Some(_) => Err(Bad::TooLarge),
            None if buf.len() > max => Err(Bad::TooLarge),
            None => Ok(Step::More { expects_continue: head.expects_continue }),
        };
    }
    let length = match (head.length, kind) {
        (Some(n), _) => n,
        (None, Kind::Request) => 0,
        (None, Kind::Response) => return Err(Bad::NoLength),
    };
    let end = head_end.saturating_add(length);
    if end > max {
        return Err(Bad::TooLarge);
    }
    if end > buf.len() {
        return Ok(Step::More { expects_continue: head.expects_continue });
    }
    Ok(whole(head_end..end, end))
}

/// `lines` ends with the line end of its last header.
fn read_head(lines: &[u8], kind: Kind) -> Result<Head, Bad> {
    let mut head = Head::default();
    let mut rest = lines;
    let mut first = true;
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\r\n").ok_or(Bad::Header)?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        if first {
            first = false;
            first_line(line, kind, &mut head)?;
        } else {
            header_line(line, &mut head)?;
        }
    }
    if head.chunked && head.length.is_some() { Err(Bad::Length) } else { Ok(head) }
}

fn first_line(line: &[u8], kind: Kind, head: &mut Head) -> Result<(), Bad> {
    match kind {
        Kind::Request => {
            if line.ends_with(b" HTTP/1.0") {
                head.close = true;
            } else if !line.ends_with(b" HTTP/1.1") {
                return Err(Bad::FirstLine);
            }
        }
        Kind::Response => {
            let digits = line
                .strip_prefix(b"HTTP/1.1 ")
                .or_else(|| line.strip_prefix(b"HTTP/1.0 "))
                .and_then(|l| l.get(..3))
                .filter(|d| d.iter().all(u8::is_ascii_digit))
                .ok_or(Bad::FirstLine)?;
            head.close = line.starts_with(b"HTTP/1.0");
            head.status = digits.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'));
        }
    }
    Ok(())
}

fn header_line(line: &[u8], head: &mut Head) -> Result<(), Bad> {
    let colon = memchr::memchr(b':', line).filter(|&at| at > 0).ok_or(Bad::Header)?;
    if line.contains(&b'\n') {
        return Err(Bad::Header);
    }
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let is = |n: &str| name.eq_ignore_ascii_case(n.as_bytes());
    let says = |v: &str| value.eq_ignore_ascii_case(v.as_bytes());
    if is("content-length") {
        let number = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
        let length = number.and_then(|v| v.parse().ok()).ok_or(Bad::Length)?;
        if head.length.is_some_and(|l| l != length) {
            return Err(Bad::Length);
        }
        head.length = Some(length);
    } else if is("transfer-encoding") {
        if !says("chunked") {
            return Err(Bad::Length);
        }
        head.chunked = true;
    } else if is("connection") {
        head.close = says("close") || (head.close && !says("keep-alive"));
    } else if is("content-encoding") {
        head.gzip = says("gzip");
    } else if is("expect") {
        head.expects_continue = says("100-continue");
    }
    Ok(())
}

/// Length of the joined body and of all it came in; nothing is moved before the last chunk is there.
fn join_chunks(buf: &mut [u8]) -> Result<Option<(usize, usize)>, Bad> {
    let mut at = 0;
    // First pass: is it whole?
    let end = loop {
        let Some((size, data)) = chunk_head(buf, at)? else { return Ok(None) };
        if size == 0 {
            match trailer_end(buf, data) {
                Some(end) => break end,
                None => return Ok(None),
            }
        }
        let after = data.checked_add(size).ok_or(Bad::Chunk)?;
        match buf.get(after..after.saturating_add(2)) {
            None => return Ok(None),
            Some(b"\r\n") => at = after + 2,
            Some(_) => return Err(Bad::Chunk),
        }
    };
    let (mut at, mut length) = (0, 0);
    while let Some((size, data)) = chunk_head(buf, at)? {
        if size == 0 {
            break;
        }
        buf.copy_within(data..data + size, length);
        length += size;
        at = data + size + 2;
    }
    Ok(Some((length, end)))
}

/// Size of the chunk that starts at `at` and where its data starts.
fn chunk_head(buf: &[u8], at: usize) -> Result<Option<(usize, usize)>, Bad> {
    let rest = buf.get(at..).unwrap_or(&[]);
    let Some(line_end) = memchr::memmem::find(rest, b"\r\n") else {
        return if rest.len() > 256 { Err(Bad::Chunk) } else { Ok(None) };
    };
    let line = &rest[..line_end];
    let digits = line.split(|&b| b == b';').next().unwrap_or(line).trim_ascii();
    if digits.is_empty() || digits.len() > 8 {
        return Err(Bad::Chunk);
    }
    let mut size = 0usize;
    for &b in digits {
        size = size * 16 + (b as char).to_digit(16).ok_or(Bad::Chunk)? as usize;
    }
    Ok(Some((size, at + line_end + 2)))
}

/// Past the empty line that ends the trailers which start at `at`.
fn trailer_end(buf: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = memchr::memmem::find(buf.get(at..)?, b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bad, Kind, Step, frame};

    fn check(kind: Kind, text: &str, expected: Result<Option<(&str, u16, bool, usize)>, Bad>) {
        let mut bytes = text.as_bytes().to_vec();
        let found = frame(&mut bytes, kind, 4096).map(|s| match s {
            Step::More { .. } => None,
            Step::Whole(f) => {
                Some((String::from_utf8_lossy(&bytes[f.body.clone()]).into_owned(), f.status, f.close, f.end))
            }
        });
        let expected = expected.map(|o| o.map(|(b, s, c, left)| (b.to_owned(), s, c, text.len() - left)));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn requests() {
        use Kind::Request as K;
        check(K, "POST /b HTTP/1.1\r\nHost: x\r\ncontent-length: 3\r\n\r\nabcX", Ok(Some(("abc", 0, false, 1))));
        check(K, "POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", Ok(None));
        check(K, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n", Ok(Some(("", 0, true, 0))));
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n";
        check(K, &format!("{chunked}\r\n"), Ok(Some(("abc0123456789", 0, false, 0))));
        check(K, &format!("{chunked}T: 1\r\n\r\nP"), Ok(Some(("abc0123456789", 0, false, 1))));
        check(K, chunked, Ok(None));
        check(K, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", Err(Bad::Chunk));
        check(K, "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", Err(Bad::Length));
        check(K, "POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\n", Err(Bad::TooLarge));
        check(K, "POST /\r\n\r\n", Err(Bad::FirstLine));
    }

    #[test]
    fn responses() {
        use Kind::Response as K;
        check(K, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok(Some(("{}", 200, false, 0))));
        check(K, "HTTP/1.1 204 No Content\r\n\r\nHTTP", Ok(Some(("", 204, false, 4))));
        check(K, "HTTP/1.1 200 OK\r\n\r\n{}", Err(Bad::NoLength));
        check(K, "HTTP/1.1 20 OK\r\n\r\n{}", Err(Bad::FirstLine));
        check(K, "<html>\r\n\r\n", Err(Bad::FirstLine));
    }

    #[test]
    fn a_cut_anywhere_changes_nothing() {
        let text = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        for cut in 0..text.len() {
            let mut part = text[..cut].to_vec();
            assert!(matches!(frame(&mut part, Kind::Request, 4096), Ok(Step::More { .. })), "cut at {cut}");
            part.extend_from_slice(&text[cut..]);
            let Ok(Step::Whole(f)) = frame(&mut part, Kind::Request, 4096) else { panic!("cut at {cut}") };
            assert_eq!(&part[f.body], b"abcde", "cut at {cut}");
        }
    }
}
