//! The head of a request (we are the server): RFC 9112 section 3, and the fields that decide what to do.
//! Owns: what a head said so far. Runs on: each bidder core. Called by: the bidder's ingress.
//! Never: allocates; looks a target up; decides what a path, a type or a credential is worth.
//! Full: see [`super::head`].
use super::{
    field::{AcceptGzip, Encoding, Framing, begins, is, trim},
    head::{self, BodyLen, HeadError, HeadScan, Parsed, Take, is_authority, is_token},
};
use crate::openrtb::text::Span;

/// What an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of a head, its blank line included; above [`crate::limits::HEAD_BYTES_MAX`] that counts.
    pub head_bytes: usize,
}

/// Method of a request. Names are case-sensitive (RFC 9110 section 9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// HEAD.
    Head,
    /// OPTIONS.
    Options,
    /// Any other token.
    #[default]
    Other,
}

/// What the body is said to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ContentType {
    /// No word of it.
    #[default]
    Absent,
    /// `application/json`, whatever its parameters.
    Json,
    /// Anything else, or two that differ.
    Other,
}

/// A request's head. Spans are relative to the bytes it was read from; of a field that is absent, empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHead {
    /// Bytes up to and with the blank line; the body begins there.
    pub len: usize,
    /// Method.
    pub method: Method,
    /// Target as it was sent.
    pub target: Span,
    /// Its path, without the query; `/` of a URL without any, `*` of `OPTIONS *`.
    pub path: Span,
    /// What stands behind the first `?`.
    pub query: Span,
    /// The `x` of HTTP/1.x. What is above 1 is read as 1.1 (RFC 9110 section 2.5).
    pub minor: u8,
    /// May the connection carry another request after this one?
    pub keep_alive: bool,
    /// Never [`BodyLen::UntilClose`]. [`BodyLen::None`]: neither framing was sent; a POST deserves 411.
    pub body: BodyLen,
    /// The client waits for `100 Continue`. Never with HTTP/1.0 (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// It expects something else: 417.
    pub unknown_expect: bool,
    /// The body is gzip.
    pub gzip_body: bool,
    /// The body is packed in a way we do not know: 415.
    pub other_encoding: bool,
    /// The answer may be gzip.
    pub accept_gzip: bool,
    /// What the body is.
    pub content_type: ContentType,
    /// `traceparent`; empty if it was sent twice, which makes it void (W3C Trace Context section 2.3).
    pub traceparent: Span,
    /// `Authorization`.
    pub authorization: Span,
    /// `X-Forwarded-For`, the last line: the one that whoever stands before us wrote.
    pub forwarded_for: Span,
    /// `x-openrtb-version`, the last line.
    pub openrtb_version: Span,
}

/// Reads a request's head. `buf` begins with its first byte and may hold more than the head; `scan` is the
/// connection's. After [`Parsed::Partial`] call again with the same bytes and more behind them: what was read
/// is not read again. One empty line before the request is skipped and counts to `len`.
///
/// # Errors
/// [`Parsed::Bad`], as soon as the byte that decides it is there.
pub fn request_head(buf: &[u8], scan: &mut HeadScan, limits: &HeadLimits) -> Parsed<RequestHead> {
    let verdict = match head::read(buf, &mut scan.place, &mut scan.request, limits.head_bytes) {
        Parsed::Partial => return Parsed::Partial,
        Parsed::Bad(e) => Parsed::Bad(e),
        Parsed::Done(len) => scan.request.finish(len),
    };
    scan.place = Default::default();
    scan.request = Default::default();
    verdict
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestState {
    framing: Framing,
    accept: AcceptGzip,
    target: Span,
    path: Span,
    query: Span,
    traceparent: Span,
    authorization: Option<Span>,
    forwarded_for: Span,
    openrtb_version: Span,
    method: Method,
    minor: u8,
    content_type: ContentType,
    host: bool,
    traced: bool,
    expect_continue: bool,
    unknown_expect: bool,
}

impl RequestState {
    fn finish(&self, len: usize) -> Parsed<RequestHead> {
        let framing = &self.framing;
        if self.minor >= 1 && !self.host {
            return Parsed::Bad(HeadError::MissingHost);
        }
        // Section 6.1: HTTP/1.0 does not know chunks, so somebody on the way may have framed this otherwise.
        if self.minor == 0 && framing.chunked {
            return Parsed::Bad(HeadError::BadTransferEncoding);
        }
        let body = match framing.length {
            _ if framing.chunked => BodyLen::Chunked,
            Some(length) => BodyLen::Length(length),
            None => BodyLen::None,
        };
        Parsed::Done(RequestHead {
            len,
            method: self.method,
            target: self.target,
            path: self.path,
            query: self.query,
            minor: self.minor,
            keep_alive: framing.persists(self.minor),
            body,
            expect_continue: self.expect_continue && self.minor >= 1,
            unknown_expect: self.unknown_expect,
            gzip_body: framing.encoding == Encoding::Gzip,
            other_encoding: framing.encoding == Encoding::Other,
            accept_gzip: self.accept.accepted(),
            content_type: self.content_type,
            traceparent: self.traceparent,
            authorization: self.authorization.unwrap_or_default(),
            forwarded_for: self.forwarded_for,
            openrtb_version: self.openrtb_version,
        })
    }

    fn content_type(&mut self, value: &[u8]) {
        let kind = || value.split(|&b| b == b';').next().unwrap_or(&[]);
        let json = is(value, b"application/json") || is(trim(kind()), b"application/json");
        let said = if json { ContentType::Json } else { ContentType::Other };
        let agrees = self.content_type == ContentType::Absent || self.content_type == said;
        self.content_type = if agrees { said } else { ContentType::Other };
    }

    fn authorization(&mut self, at: Span) -> Result<(), HeadError> {
        match self.authorization.replace(at) {
            None => Ok(()),
            Some(_) => Err(HeadError::DoubleAuthorization),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.host {
            return Err(HeadError::DoubleHost);
        }
        self.host = true;
        if is_authority(value) { Ok(()) } else { Err(HeadError::BadHost) }
    }
}

impl Take for RequestState {
    const BLANK_FIRST: bool = true;
    const NO_FIRST: HeadError = HeadError::BadRequestLine;

    fn first_line(&mut self, buf: &[u8], from: usize, to: usize) -> Result<(), HeadError> {
        let bad = HeadError::BadRequestLine;
        let line = buf.get(from..to).ok_or(bad)?;
        let (before, version) = line.split_last_chunk::<9>().ok_or(bad)?;
        let &[b' ', b'H', b'T', b'T', b'P', b'/', major, b'.', minor] = version else {
            return Err(bad);
        };
        if !major.is_ascii_digit() || !minor.is_ascii_digit() {
            return Err(bad);
        }
        if major != b'1' {
            return Err(HeadError::BadVersion);
        }
        self.minor = minor - b'0';
        let space = before.iter().position(|&b| !is_token(b)).ok_or(bad)?;
        let (method, target) = before.split_at_checked(space).ok_or(bad)?;
        let [b' ', target @ ..] = target else {
            return Err(bad);
        };
        self.method = match method {
            b"GET" => Method::Get,
            b"POST" => Method::Post,
            b"HEAD" => Method::Head,
            b"OPTIONS" => Method::Options,
            b"" => return Err(bad),
            _ => Method::Other,
        };
        // Visible ASCII. A URI has less, but `|` and `{` in queries are real.
        if !target.iter().fold(true, |all, b| all & b.is_ascii_graphic()) {
            return Err(bad);
        }
        let at = from + space + 1;
        let skip = path_at(target, self.method).ok_or(bad)?;
        let span = |from: usize, to: usize| Span { at: (at + from) as u32, len: (to - from) as u32 };
        self.target = span(0, target.len());
        let mark = memchr::memchr(b'?', target).unwrap_or(target.len());
        self.path = match skip {
            // A URL may end with its authority; its path is `/` then, and one stands in its `://`.
            Start::AuthorityOnly(slash) => span(slash, slash + 1),
            Start::At(path) => span(path, mark),
        };
        self.query = span((mark + 1).min(target.len()), target.len());
        Ok(())
    }

    type Name = Field;

    #[inline(always)]
    fn known(line: &[u8]) -> Option<(Field, usize)> {
        let name = match line.first()? | 0x20 {
            b'a' if begins(line, b"accept-encoding:") => (Field::AcceptEncoding, 15),
            b'a' if begins(line, b"authorization:") => (Field::Authorization, 13),
            b'c' if begins(line, b"content-type:") => (Field::ContentType, 12),
            b'c' if begins(line, b"content-length:") => (Field::ContentLength, 14),
            b'c' if begins(line, b"connection:") => (Field::Connection, 10),
            b'c' if begins(line, b"content-encoding:") => (Field::ContentEncoding, 16),
            b'e' if begins(line, b"expect:") => (Field::Expect, 6),
            b'h' if begins(line, b"host:") => (Field::Host, 4),
            b't' if begins(line, b"traceparent:") => (Field::Traceparent, 11),
            b't' if begins(line, b"transfer-encoding:") => (Field::TransferEncoding, 17),
            b'x' if begins(line, b"x-openrtb-version:") => (Field::OpenrtbVersion, 17),
            b'x' if begins(line, b"x-forwarded-for:") => (Field::ForwardedFor, 15),
            _ => return None,
        };
        Some(name)
    }

    #[inline(always)]
    fn field(&mut self, name: Field, value: &[u8], at: Span) -> Result<(), HeadError> {
        match name {
            Field::AcceptEncoding => self.accept.take(value),
            Field::Authorization => return self.authorization(at),
            Field::ContentType => self.content_type(value),
            Field::ContentLength => return self.framing.content_length(value),
            Field::Connection => self.framing.connection(value),
            Field::ContentEncoding => self.framing.content_encoding(value),
            Field::Expect => {
                let known = is(value, b"100-continue");
                self.expect_continue |= known;
                self.unknown_expect |= !known;
            }
            Field::Host => return self.host(value),
            Field::Traceparent => {
                self.traceparent = if self.traced { Span::default() } else { at };
                self.traced = true;
            }
            Field::TransferEncoding => return self.framing.transfer_encoding(value),
            Field::OpenrtbVersion => self.openrtb_version = at,
            Field::ForwardedFor => self.forwarded_for = at,
        }
        Ok(())
    }
}

/// The fields we read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    AcceptEncoding,
    Authorization,
    ContentType,
    ContentLength,
    Connection,
    ContentEncoding,
    Expect,
    Host,
    Traceparent,
    TransferEncoding,
    OpenrtbVersion,
    ForwardedFor,
}

/// Where the path of a target begins.
enum Start {
    At(usize),
    /// There is none: where a slash stands nevertheless.
    AuthorityOnly(usize),
}

/// Section 3.2: origin form, absolute form, and the asterisk of OPTIONS. The authority form is for CONNECT,
/// which nobody may ask of us.
fn path_at(target: &[u8], method: Method) -> Option<Start> {
    if target.first() == Some(&b'/') || (target == b"*" && method == Method::Options) {
        return Some(Start::At(0));
    }
    let colon = [(4, &b"http"[..]), (5, b"https")]
        .into_iter()
        .find(|(n, scheme)| {
            target.get(..*n).is_some_and(|t| t.eq_ignore_ascii_case(scheme)) && target.get(*n..*n + 3) == Some(b"://")
        })?
        .0;
    let rest = target.get(colon + 3..)?;
    let len = rest.iter().position(|&b| b == b'/' || b == b'?').unwrap_or(rest.len());
    if len == 0 || !is_authority(rest.get(..len)?) {
        return None;
    }
    Some(match rest.get(len) {
        Some(b'/') => Start::At(colon + 3 + len),
        _ => Start::AuthorityOnly(colon + 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http1::tests::cut_everywhere, limits::HEADERS_MAX};

    const LIMITS: HeadLimits = HeadLimits { head_bytes: 8192 };

    fn read(buf: &[u8], scan: &mut HeadScan) -> Parsed<RequestHead> {
        request_head(buf, scan, &LIMITS)
    }

    /// The head, whole and cut at every byte, with something behind it.
    fn accepted(head: &str) -> (Vec<u8>, RequestHead) {
        let mut buf = head.replace('\n', "\r\n").into_bytes();
        let len = buf.len();
        buf.extend_from_slice(b"\r\n{}\0\n");
        match cut_everywhere(&buf, read) {
            Parsed::Done(head) => {
                assert_eq!(head.len, len + 2, "{}", String::from_utf8_lossy(&buf));
                (buf, head)
            }
            other => panic!("{other:?}: {}", String::from_utf8_lossy(&buf)),
        }
    }

    fn refused(head: &[u8], want: HeadError) {
        assert_eq!(cut_everywhere(head, read), Parsed::Bad(want), "{:?}", String::from_utf8_lossy(head));
    }

    #[test]
    fn a_typical_head() {
        let (buf, head) = accepted(
            "POST /openrtb2/auction?e=1 HTTP/1.1\nHost: bid.example:8080\nContent-Type: application/json\n\
             X-OpenRTB-Version: 2.6\nAccept-Encoding: gzip\nConnection: keep-alive\nContent-Length: 1903\n\
             traceparent: 00-ab-cd-01\nAuthorization: Bearer x\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\nX-Unknown: \u{e9}\ty\n",
        );
        assert_eq!(head.method, Method::Post);
        assert_eq!(head.target.of(&buf), b"/openrtb2/auction?e=1");
        assert_eq!(head.path.of(&buf), b"/openrtb2/auction");
        assert_eq!(head.query.of(&buf), b"e=1");
        assert_eq!((head.minor, head.keep_alive, head.body), (1, true, BodyLen::Length(1903)));
        assert_eq!((head.content_type, head.accept_gzip), (ContentType::Json, true));
        assert!(!head.expect_continue && !head.unknown_expect && !head.gzip_body && !head.other_encoding);
        assert_eq!(head.traceparent.of(&buf), b"00-ab-cd-01");
        assert_eq!(head.authorization.of(&buf), b"Bearer x");
        assert_eq!(head.forwarded_for.of(&buf), b"1.2.3.4, 5.6.7.8");
        assert_eq!(head.openrtb_version.of(&buf), b"2.6");
    }

    #[test]
    fn targets() {
        let rows: &[(&str, Method, &str, &str)] = &[
            ("GET /", Method::Get, "/", ""),
            ("HEAD /a/b?c?d", Method::Head, "/a/b", "c?d"),
            ("POST /a?", Method::Post, "/a", ""),
            ("OPTIONS *", Method::Options, "*", ""),
            ("OPTIONS /x", Method::Options, "/x", ""),
            ("get /", Method::Other, "/", ""),
            ("M-SEARCH /{a}|b", Method::Other, "/{a}|b", ""),
            ("POST http://h.example/a?b", Method::Post, "/a", "b"),
            ("POST HTTPS://h.example:1/a/", Method::Post, "/a/", ""),
            ("GET http://h.example", Method::Get, "/", ""),
            ("GET http://h.example?q=/", Method::Get, "/", "q=/"),
            ("GET https://[::1]:80?q", Method::Get, "/", "q"),
            ("GET //h.example/a", Method::Get, "//h.example/a", ""),
        ];
        for (line, method, path, query) in rows {
            let (buf, head) = accepted(&format!("{line} HTTP/1.1\nHost: x\n"));
            assert_eq!(head.method, *method, "{line}");
            assert_eq!(head.path.of(&buf), path.as_bytes(), "{line}");
            assert_eq!(head.query.of(&buf), query.as_bytes(), "{line}");
            assert_eq!(head.target.of(&buf), line.split(' ').nth(1).unwrap().as_bytes(), "{line}");
        }
    }

    /// What one field (or several) makes of a request.
    #[test]
    fn fields() {
        let check = |minor: u8, fields: &str, want: &dyn Fn(&RequestHead) -> bool| {
            let (_, head) = accepted(&format!("POST / HTTP/1.{minor}\nHost: x\n{fields}"));
            assert!(want(&head), "HTTP/1.{minor} {fields}: {head:?}");
        };
        let keeps: &[(u8, &str, bool)] = &[
            (1, "", true),
            (0, "", false),
            (2, "", true),
            (1, "Connection: close\n", false),
            (1, "connection: x, CLOSE ,y\n", false),
            (1, "Connection: keep-alive\nConnection: close\n", false),
            (1, "Connection: closed\n", true),
            (0, "Connection: Keep-Alive\n", true),
            (0, "Connection: keep-alive, close\n", false),
        ];
        for (minor, fields, want) in keeps {
            check(*minor, fields, &|h| h.keep_alive == *want && h.minor == *minor);
        }
        let bodies: &[(&str, BodyLen)] = &[
            ("", BodyLen::None),
            ("Content-Length: 0\n", BodyLen::Length(0)),
            ("CONTENT-LENGTH:7\n", BodyLen::Length(7)),
            ("content-length: \t 0007 \t\n", BodyLen::Length(7)),
            ("Content-Length: 5\nContent-Length: 5\n", BodyLen::Length(5)),
            ("Content-Length: 5, 5,5\n", BodyLen::Length(5)),
            ("Content-Length: 18446744073709551615\n", BodyLen::Length(u64::MAX)),
            ("Transfer-Encoding: chunked\n", BodyLen::Chunked),
            ("transfer-encoding:CHUNKED \n", BodyLen::Chunked),
        ];
        for (fields, want) in bodies {
            check(1, fields, &|h| h.body == *want);
        }
        // Field, then: is it gzip, is it something else.
        let codings: &[(&str, bool, bool)] = &[
            ("Content-Encoding: gzip\n", true, false),
            ("Content-Encoding: X-GZIP\n", true, false),
            ("Content-Encoding: identity\n", false, false),
            ("Content-Encoding:\n", false, false),
            ("Content-Encoding: gzip, identity\n", true, false),
            ("Content-Encoding: br\n", false, true),
            ("Content-Encoding: gzip, gzip\n", false, true),
            ("Content-Encoding: gzip\nContent-Encoding: gzip\n", false, true),
            ("Content-Encoding: br, gzip\n", false, true),
        ];
        for (fields, gzip, other) in codings {
            check(1, fields, &|h| (h.gzip_body, h.other_encoding) == (*gzip, *other));
        }
        let types: &[(&str, ContentType)] = &[
            ("", ContentType::Absent),
            ("Content-Type: application/json\n", ContentType::Json),
            ("Content-Type: Application/JSON ; charset=utf-8\n", ContentType::Json),
            ("Content-Type: text/plain\n", ContentType::Other),
            ("Content-Type: application/jsonx\n", ContentType::Other),
            ("Content-Type:\n", ContentType::Other),
            ("Content-Type: application/json\nContent-Type: text/plain\n", ContentType::Other),
            ("Content-Type: application/json\nContent-Type: application/json\n", ContentType::Json),
        ];
        for (fields, want) in types {
            check(1, fields, &|h| h.content_type == *want);
        }
        check(1, "Expect: 100-Continue\n", &|h| h.expect_continue && !h.unknown_expect);
        check(0, "Expect: 100-continue\n", &|h| !h.expect_continue && !h.unknown_expect);
        check(1, "Expect: 200-ok\n", &|h| !h.expect_continue && h.unknown_expect);
        check(1, "Accept-Encoding: br\nAccept-Encoding: gzip\n", &|h| h.accept_gzip);
        check(1, "Accept-Encoding: gzip;q=0\nAccept-Encoding: *\n", &|h| !h.accept_gzip);
        check(1, "traceparent: a\ntraceparent: b\ntraceparent: c\n", &|h| h.traceparent.len == 0);
        check(1, "X-Forwarded-For: a\nX-Forwarded-For: bcd\n", &|h| h.forwarded_for.len == 3);
    }

    #[test]
    fn hosts() {
        for host in ["a", "a.example:80", "[::1]:80", "", "10.0.0.1", "x_y~z%20"] {
            accepted(&format!("GET / HTTP/1.1\nHost: {host}\n"));
        }
        for host in ["a b", "a/b", "a@b", "a,b", "a\\b", "\u{e9}", "a#", "a?b", "\"a\""] {
            refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), HeadError::BadHost);
        }
        accepted("GET / HTTP/1.0\n");
        refused(b"GET / HTTP/1.1\r\n\r\n", HeadError::MissingHost);
        refused(b"GET http://a.example/ HTTP/1.1\r\n\r\n", HeadError::MissingHost);
        refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HeadError::DoubleHost);
        refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", HeadError::DoubleHost);
    }

    #[test]
    fn first_lines_that_are_none() {
        let rows: &[(&[u8], HeadError)] = &[
            (b"GET /\r\n", HeadError::BadRequestLine),
            (b"GET  / HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET /  HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b" GET / HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET / HTTP/1.1 \r\n", HeadError::BadRequestLine),
            (b"GET\t/\tHTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET /a b HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET /\xc3\xa9 HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET a HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET * HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"OPTIONS ** HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET ftp://a/ HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET http:///a HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET http://u@a/ HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET http:/a HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"CONNECT a:443 HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"G(T / HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"/ HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b" HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET / http/1.1\r\n", HeadError::BadRequestLine),
            (b"GET / HTTP/1.x\r\n", HeadError::BadRequestLine),
            (b"GET / HTTP/11\r\n", HeadError::BadRequestLine),
            (b"GET / HTTP/1.10\r\n", HeadError::BadRequestLine),
            (b"\r\n\r\nGET / HTTP/1.1\r\n", HeadError::BadRequestLine),
            (b"GET / HTTP/2.0\r\n", HeadError::BadVersion),
            (b"GET / HTTP/0.9\r\n", HeadError::BadVersion),
            (b"PRI * HTTP/2.0\r\n", HeadError::BadVersion),
            (b"GET / HTTP/1.1\n", HeadError::BareLf),
            (b"\nGET / HTTP/1.1\r\n", HeadError::BareLf),
            (b"GET / HTTP/1.1\r\r\n", HeadError::BareCr),
            (b"\rGET", HeadError::BareCr),
            (b"GET /\0 HTTP/1.1\r\n", HeadError::ControlByte),
            (b"\x16\x03\x01\x02\0", HeadError::ControlByte), // TLS
        ];
        for (head, want) in rows {
            refused(head, *want);
        }
        let (_, head) = accepted("\nGET / HTTP/1.0\n"); // one empty line before it is forgiven
        assert_eq!((head.target, head.path), (Span { at: 6, len: 1 }, Span { at: 6, len: 1 }));
    }

    /// Field lines that are none; and the table of smuggling: every way known to us of making two readers
    /// disagree about where a request ends.
    #[test]
    fn smuggling() {
        use HeadError::*;
        let rows: &[(&[u8], HeadError)] = &[
            (b"Content-Length: 5\r\nContent-Length: 6\r\n", TwoLengths),
            (b"Content-Length: 5, 6\r\n", TwoLengths),
            (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", LengthAndChunked),
            (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", LengthAndChunked),
            (b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", LengthAndChunked),
            (b"Content-Length: +5\r\n", BadLength),
            (b"Content-Length: -5\r\n", BadLength),
            (b"Content-Length: 5 5\r\n", BadLength),
            (b"Content-Length: 5,\r\n", BadLength),
            (b"Content-Length: ,5\r\n", BadLength),
            (b"Content-Length: 0x5\r\n", BadLength),
            (b"Content-Length: 5.0\r\n", BadLength),
            (b"Content-Length: 5;\r\n", BadLength),
            (b"Content-Length: \"5\"\r\n", BadLength),
            (b"Content-Length:\r\n", BadLength),
            (b"Content-Length: 18446744073709551616\r\n", BadLength),
            (b"Transfer-Encoding: identity\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: xchunked\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunkedx\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: \"chunked\"\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked;q=1\r\n", BadTransferEncoding),
            (b"Transfer-Encoding:\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked, identity\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked, chunked\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: ,chunked\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked,\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip, chunked\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: gzip, chunked\r\n", UnknownTransferEncoding),
            (b"Transfer-Encoding: chunked\xff\r\n", BadTransferEncoding),
            (b"Transfer-Encoding: \x0bchunked\r\n", ControlByte),
            (b"Transfer-Encoding : chunked\r\n", BadName),
            (b"Transfer-Encoding\t: chunked\r\n", BadName),
            (b"Transfer-Encoding\0: chunked\r\n", ControlByte),
            (b"Transfer\x7fEncoding: chunked\r\n", ControlByte),
            (b"Transfer-Encoding\x0b: chunked\r\n", ControlByte),
            (b"Transfer-Encoding\xa0: chunked\r\n", BadName),
            (b"Transfer-Encoding\r\n: chunked\r\n", BadName),
            (b"Transfer-Encoding\n: chunked\r\n", BareLf),
            (b"Transfer-Encoding:\r\n chunked\r\n", BadTransferEncoding),
            (b"X: y\r\n Transfer-Encoding: chunked\r\n", ObsFold),
            (b"X: y\r\n\tz\r\n", ObsFold),
            (b" X: y\r\n", ObsFold),
            (b"X: y\nTransfer-Encoding: chunked\r\n", BareLf),
            (b"X: y\rTransfer-Encoding: chunked\r\n", BareCr),
            (b"X: y\r\r\n", BareCr),
            (b"X: y\0z\r\n", ControlByte),
            (b"X: y\x7fz\r\n", ControlByte),
            (b"X: y\x1b[31m\r\n", ControlByte),
            (b"X: y\r\n\n", BareLf),
            (b"X: y\r\n\rz", BareCr),
            (b"X\r\n", BadName),
            (b": y\r\n", BadName),
            (b"X Y: z\r\n", BadName),
            (b"X(: z\r\n", BadName),
            (b"GET / HTTP/1.1\r\n", BadName),
            (b"Authorization: a\r\nAuthorization: a\r\n", DoubleAuthorization),
        ];
        for (fields, want) in rows {
            refused(&[b"POST / HTTP/1.1\r\nHost: x\r\n", *fields, b"\r\n"].concat(), *want);
        }
        refused(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadTransferEncoding);
    }

    #[test]
    fn heads_are_bounded() {
        let base = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
        for (len, fits) in [(8191, true), (8192, true), (8193, false), (20_000, false)] {
            let head = format!("{base}{}\r\n\r\n", "y".repeat(len - base.len() - 4));
            let got = request_head(head.as_bytes(), &mut HeadScan::default(), &LIMITS);
            assert_eq!(matches!(got, Parsed::Done(h) if h.len == len), fits, "{len}");
            assert_eq!(got == Parsed::Bad(HeadError::TooLong), !fits, "{len}");
        }
        for (count, fits) in [(HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a:\r\n".repeat(count - 1));
            let got = cut_everywhere(head.as_bytes(), read);
            assert_eq!(matches!(got, Parsed::Done(_)), fits, "{count}");
            assert_eq!(got == Parsed::Bad(HeadError::TooManyHeaders), !fits, "{count}");
        }
        let tiny = HeadLimits { head_bytes: 0 };
        assert_eq!(request_head(b"", &mut HeadScan::default(), &tiny), Parsed::Bad(HeadError::TooLong));
        let short = HeadLimits { head_bytes: 20 };
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let got = cut_everywhere(head, |b, s| request_head(b, s, &short));
        assert_eq!(got, Parsed::Bad(HeadError::TooLong));
    }

    #[test]
    fn a_scan_is_ready_for_the_next_request() {
        let mut scan = HeadScan::default();
        let first = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAuthorization: y\r\n\r\n";
        assert!(matches!(read(first, &mut scan), Parsed::Done(h) if h.body == BodyLen::Length(5)));
        let second = b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(
            matches!(read(second, &mut scan), Parsed::Done(h) if h.body == BodyLen::None && h.authorization.len == 0)
        );
        assert_eq!(read(&first[..40], &mut scan), Parsed::Partial);
        scan.reset();
        assert!(matches!(read(second, &mut scan), Parsed::Done(_)));
    }
}
