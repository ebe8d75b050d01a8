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
mod tests;
