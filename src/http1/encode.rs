//! Heads we write, into vectors that are reused.
//!
//! A body is written in place behind its head, whose length is patched in afterwards: the head keeps
//! [`LENGTH_WIDTH`] spaces for it, and spaces before a value mean nothing (RFC 9110 section 5.5).
//!
//! Owns: nothing. Runs on: each bidder core ([`prepared_post`]: when a configuration is taken up).
//! Called by: the bidder's ingress and egress. Never: allocates but to grow `out`.
//! Full: the vector grows; bodies are bounded by who writes them.
use super::field::is;
use crate::limits::{ANSWER_BYTES_MAX, BODY_BYTES_MAX};

/// Digits kept for a length.
pub const LENGTH_WIDTH: usize = 8;

const _: () = assert!(BODY_BYTES_MAX < 100_000_000 && ANSWER_BYTES_MAX < 100_000_000);

/// What a client that sent `Expect: 100-continue` waits for.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The parts of an answer's head that differ.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseExtra<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'static str>,
    /// The body is gzip.
    pub gzip: bool,
    /// This is the connection's last answer.
    pub close: bool,
    /// `Allow`, with 405. Ours: written as it stands.
    pub allow: Option<&'a str>,
}

/// Where a head waits for the length of the body that is written behind it.
#[derive(Debug)]
#[must_use = "the head has no length until it is finished"]
pub struct LengthSlot {
    /// First byte of the room for the length. None: the message has neither length nor body.
    at: Option<usize>,
    /// First byte of the body.
    body: usize,
}

/// Appends an answer. 1xx and 204 have no length and no body (RFC 9110 section 8.6); `body` is left out then.
pub fn write_response(out: &mut Vec<u8>, status: u16, extra: ResponseExtra<'_>, body: &[u8]) {
    let status = sane(status);
    response_fields(out, status, extra);
    if bodiless(status) {
        out.extend_from_slice(b"\r\n");
        return;
    }
    out.extend_from_slice(b"Content-Length: ");
    let (digits, from) = decimal(body.len());
    out.extend_from_slice(digits.get(from..).unwrap_or(&[]));
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

/// Appends an answer's head; write the body behind it, then [`finish_response`].
pub fn begin_response(out: &mut Vec<u8>, status: u16, extra: ResponseExtra<'_>) -> LengthSlot {
    let status = sane(status);
    response_fields(out, status, extra);
    if bodiless(status) {
        out.extend_from_slice(b"\r\n");
        return LengthSlot { at: None, body: out.len() };
    }
    out.extend_from_slice(b"Content-Length: ");
    open(out)
}

/// Gives the head the length of what was appended since [`begin_response`]. Of an answer that may have no body
/// it is cut off.
pub fn finish_response(out: &mut Vec<u8>, slot: LengthSlot) {
    close(out, slot);
}

/// Appends a whole request without a body: `GET` of this path and query, both as they stand in a URL. Neither may hold white
/// space or controls. `more` are header lines.
pub fn write_get(authority: &[u8], path: &[u8], more: &[u8], out: &mut Vec<u8>) {
    debug_assert!(authority.iter().chain(path).all(u8::is_ascii_graphic));
    out.extend_from_slice(b"GET ");
    if path.first() != Some(&b'/') {
        out.push(b'/');
    }
    out.extend_from_slice(path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(authority);
    out.extend_from_slice(b"\r\nUser-Agent: outcry\r\nAccept: */*\r\n");
    out.extend_from_slice(more);
    out.extend_from_slice(b"\r\n");
}

/// Appends a request's head from what [`prepared_post`] made; write the body behind it, then
/// [`finish_request`].
pub fn begin_request(out: &mut Vec<u8>, prepared: &[u8]) -> LengthSlot {
    out.extend_from_slice(prepared);
    open(out)
}

/// Gives the head the length of what was appended since [`begin_request`].
pub fn finish_request(out: &mut Vec<u8>, slot: LengthSlot) {
    close(out, slot);
}

fn open(out: &mut Vec<u8>) -> LengthSlot {
    let at = out.len();
    out.extend_from_slice(&[b' '; LENGTH_WIDTH]);
    out.extend_from_slice(b"\r\n\r\n");
    LengthSlot { at: Some(at), body: out.len() }
}

fn close(out: &mut Vec<u8>, slot: LengthSlot) {
    let Some(at) = slot.at else {
        out.truncate(slot.body);
        return;
    };
    let length = out.len().saturating_sub(slot.body);
    let mut left = length;
    for place in out.get_mut(at..at + LENGTH_WIDTH).unwrap_or_default().iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return;
        }
    }
    // No body gets there (the assertion above); if one ever did, a cut number would smuggle its rest.
    let (digits, from) = decimal(length);
    drop(out.splice(at..at + LENGTH_WIDTH, digits.iter().copied().skip(from)));
}

fn response_fields(out: &mut Vec<u8>, status: u16, extra: ResponseExtra<'_>) {
    status_line(out, status);
    if let Some(kind) = extra.content_type {
        line(out, b"Content-Type: ", kind.as_bytes());
    }
    if extra.gzip {
        out.extend_from_slice(b"Content-Encoding: gzip\r\n");
    }
    if let Some(allow) = extra.allow {
        line(out, b"Allow: ", allow.as_bytes());
    }
    if extra.close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A status that is none would be our bug; it must not become somebody's framing error.
fn sane(status: u16) -> u16 {
    if matches!(status, 100..1000) { status } else { 500 }
}

fn bodiless(status: u16) -> bool {
    matches!(status, 100..200 | 204)
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    let known: &[u8] = match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        204 => b"HTTP/1.1 204 No Content\r\n",
        400 => b"HTTP/1.1 400 Bad Request\r\n",
        401 => b"HTTP/1.1 401 Unauthorized\r\n",
        403 => b"HTTP/1.1 403 Forbidden\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        405 => b"HTTP/1.1 405 Method Not Allowed\r\n",
        408 => b"HTTP/1.1 408 Request Timeout\r\n",
        411 => b"HTTP/1.1 411 Length Required\r\n",
        413 => b"HTTP/1.1 413 Content Too Large\r\n",
        415 => b"HTTP/1.1 415 Unsupported Media Type\r\n",
        417 => b"HTTP/1.1 417 Expectation Failed\r\n",
        429 => b"HTTP/1.1 429 Too Many Requests\r\n",
        431 => b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
        500 => b"HTTP/1.1 500 Internal Server Error\r\n",
        501 => b"HTTP/1.1 501 Not Implemented\r\n",
        503 => b"HTTP/1.1 503 Service Unavailable\r\n",
        505 => b"HTTP/1.1 505 HTTP Version Not Supported\r\n",
        _ => b"",
    };
    if known.is_empty() {
        // The reason may be empty, its space may not (RFC 9112 section 4).
        let digits = [status / 100, status / 10 % 10, status % 10].map(|d| b'0' + d as u8);
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(&digits);
        out.extend_from_slice(b" \r\n");
    } else {
        out.extend_from_slice(known);
    }
}

/// The digits of `n`, and where in the array they begin.
fn decimal(mut n: usize) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (n % 10) as u8;
        from -= 1;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    (digits, from)
}

/// May an operator have this header sent to a DSP? Not what frames the message or rules the connection, not
/// what is no header. `Content-Type` and `x-openrtb-version` may be given: they replace ours.
pub fn header_allowed(name: &str, value: &str) -> bool {
    let name = name.as_bytes();
    let ours = is(name, b"host")
        || is(name, b"connection")
        || is(name, b"keep-alive")
        || is(name, b"content-length")
        || is(name, b"transfer-encoding")
        || is(name, b"content-encoding")
        || is(name, b"accept-encoding")
        || is(name, b"expect")
        || is(name, b"te")
        || is(name, b"trailer")
        || is(name, b"upgrade");
    let written = !name.is_empty() && name.iter().all(|&b| super::head::is_token(b));
    let readable = value.bytes().all(|b| b >= 0x20 && b != 0x7f || b == b'\t');
    written && readable && !ours
}

/// The head of every request to one DSP, up to and with `Content-Length: `, for [`begin_request`]. `host` may
/// be an IPv6 address without brackets; a port of 80 is not named. Headers that [`header_allowed`] denies are
/// left out (the configuration refuses them); what no target has is percent-encoded.
pub fn prepared_post(host: &str, port: u16, path: &str, headers: &[(String, String)], gzip: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"POST ");
    if !path.starts_with('/') {
        out.push(b'/');
    }
    visible(&mut out, path);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    if host.contains(':') && !host.starts_with('[') {
        out.push(b'[');
        visible(&mut out, host);
        out.push(b']');
    } else {
        visible(&mut out, host);
    }
    if port != 80 {
        let (digits, from) = decimal(usize::from(port));
        out.push(b':');
        out.extend_from_slice(digits.get(from..).unwrap_or(&[]));
    }
    out.extend_from_slice(b"\r\n");
    for (name, value) in [("Content-Type", "application/json"), ("x-openrtb-version", "2.6")] {
        let given = |(n, v): &(String, String)| n.eq_ignore_ascii_case(name) && header_allowed(n, v);
        if !headers.iter().any(given) {
            header(&mut out, name, value);
        }
    }
    if gzip {
        header(&mut out, "Accept-Encoding", "gzip");
    }
    for (name, value) in headers.iter().filter(|(n, v)| header_allowed(n, v)) {
        header(&mut out, name, value);
    }
    out.extend_from_slice(b"Content-Length: ");
    out
}

fn header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    line(out, b": ", value.as_bytes());
}

fn visible(out: &mut Vec<u8>, text: &str) {
    for b in text.bytes() {
        if b.is_ascii_graphic() {
            out.push(b);
        } else {
            let hex = |digit: u8| char::from_digit(u32::from(digit), 16).map_or(b'0', |c| c.to_ascii_uppercase() as u8);
            out.extend_from_slice(&[b'%', hex(b >> 4), hex(b & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{
        BodyLen, ContentType, Encoding, HeadLimits, HeadScan, Method, Parsed, ResponseHead, request_head, response_head,
    };

    fn head(bytes: &[u8]) -> ResponseHead {
        match response_head(bytes, &mut HeadScan::default(), 8192) {
            Parsed::Done(head) => head,
            other => panic!("{other:?}: {}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn answers_look_like_this() {
        let json = ResponseExtra { content_type: Some("application/json"), ..Default::default() };
        let rows: &[(u16, ResponseExtra<'_>, &str, &str)] = &[
            (200, json, "{}", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"),
            (204, ResponseExtra::default(), "dropped", "HTTP/1.1 204 No Content\r\n\r\n"),
            (
                200,
                ResponseExtra { gzip: true, ..json },
                "z",
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nz",
            ),
            (
                405,
                ResponseExtra { allow: Some("POST, OPTIONS"), ..Default::default() },
                "",
                "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST, OPTIONS\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                400,
                ResponseExtra { close: true, ..Default::default() },
                "0123456789",
                "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789",
            ),
            (299, ResponseExtra::default(), "", "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n"),
            (7, ResponseExtra::default(), "", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
        ];
        for (status, extra, body, want) in rows {
            let mut out = b"before".to_vec();
            write_response(&mut out, *status, *extra, body.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), format!("before{want}"));
        }
    }

    #[test]
    fn both_ways_of_writing_read_the_same() {
        for status in [200, 204, 299, 400, 404, 405, 408, 411, 413, 415, 417, 429, 431, 500, 501, 503, 505] {
            for len in [0, 1, 9, 10, 12_345, 1 << 20] {
                let body = vec![b'x'; len];
                let extra = ResponseExtra { gzip: len == 9, close: len == 10, ..Default::default() };
                let (mut one, mut two) = (Vec::new(), b"kept".to_vec());
                write_response(&mut one, status, extra, &body);
                let slot = begin_response(&mut two, status, extra);
                two.extend_from_slice(&body);
                finish_response(&mut two, slot);
                let two = two.strip_prefix(b"kept").unwrap();
                let (a, b) = (head(&one), head(two));
                assert_eq!(ResponseHead { len: 0, ..a }, ResponseHead { len: 0, ..b });
                assert_eq!(one[a.len..], two[b.len..]);
                assert_eq!((a.status, a.keep_alive), (status, len != 10));
                assert_eq!(a.encoding, if len == 9 { Encoding::Gzip } else { Encoding::Identity });
                let framed = if status == 204 { BodyLen::None } else { BodyLen::Length(len as u64) };
                assert_eq!((a.body, one.len() - a.len), (framed, if status == 204 { 0 } else { len }));
            }
        }
    }

    #[test]
    fn a_length_wider_than_its_room_is_written_whole() {
        let mut out = Vec::new();
        let slot = begin_request(&mut out, b"Content-Length: ");
        let body = out.len();
        out.resize(body + 123_456_789, b'x');
        finish_request(&mut out, slot);
        assert!(out.starts_with(b"Content-Length: 123456789\r\n\r\nx"));
        assert_eq!(out.len(), body + 123_456_789 + 1);
    }

    #[test]
    fn a_url_is_asked_for_as_it_stands() {
        for (path, target) in [("/n?p=1", "/n?p=1"), ("", "/"), ("?p=1", "/?p=1")] {
            let mut out = Vec::new();
            write_get(b"dsp.example:8080", path.as_bytes(), b"X-A: b\r\n", &mut out);
            let want = format!(
                "GET {target} HTTP/1.1\r\nHost: dsp.example:8080\r\nUser-Agent: outcry\r\nAccept: */*\r\nX-A: b\r\n\r\n"
            );
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    #[test]
    fn requests_to_a_dsp_look_like_this() {
        let headers = [("X-Key".to_string(), "a b".to_string())];
        let mut out = Vec::new();
        let slot = begin_request(&mut out, &prepared_post("dsp.example", 8080, "/bid?x=1", &headers, true));
        out.extend_from_slice(b"{}");
        finish_request(&mut out, slot);
        assert_eq!(
            String::from_utf8_lossy(&out),
            format!(
                "POST /bid?x=1 HTTP/1.1\r\nHost: dsp.example:8080\r\nContent-Type: application/json\r\n\
                 x-openrtb-version: 2.6\r\nAccept-Encoding: gzip\r\nX-Key: a b\r\n\
                 Content-Length: {:>LENGTH_WIDTH$}\r\n\r\n{{}}",
                2
            )
        );
        let Parsed::Done(head) = request_head(&out, &mut HeadScan::default(), &HeadLimits { head_bytes: 8192 }) else {
            panic!("we refuse ourselves");
        };
        assert_eq!((head.method, head.body, head.accept_gzip), (Method::Post, BodyLen::Length(2), true));
        assert_eq!((head.content_type, head.openrtb_version.of(&out)), (ContentType::Json, &b"2.6"[..]));
        assert_eq!(head.path.of(&out), b"/bid");
    }

    #[test]
    fn hosts_and_paths_are_written_as_http_wants_them() {
        let rows: &[(&str, u16, &str, &str)] = &[
            ("a.example", 80, "/", "POST / HTTP/1.1\r\nHost: a.example\r\n"),
            ("::1", 81, "/", "POST / HTTP/1.1\r\nHost: [::1]:81\r\n"),
            ("[::1]", 80, "x", "POST /x HTTP/1.1\r\nHost: [::1]\r\n"),
            ("a\r\nb", 80, "/ \r\nX: \u{e9}", "POST /%20%0D%0AX:%20%C3%A9 HTTP/1.1\r\nHost: a%0D%0Ab\r\n"),
        ];
        for (host, port, path, want) in rows {
            let out = prepared_post(host, *port, path, &[], false);
            assert!(String::from_utf8_lossy(&out).starts_with(want), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn headers_of_an_operator_replace_or_are_left_out() {
        let pair = |n: &str, v: &str| (n.to_string(), v.to_string());
        let headers = [
            pair("X-OpenRTB-Version", "2.5"),
            pair("content-type", "application/json; charset=utf-8"),
            pair("Content-Length", "7"),
            pair("Transfer-Encoding", "chunked"),
            pair("HOST", "other"),
            pair("x y", "1"),
            pair("", "1"),
            pair("x-split", "1\r\nInjected: 1"),
        ];
        let out = prepared_post("a.example", 80, "/", &headers, false);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "POST / HTTP/1.1\r\nHost: a.example\r\nX-OpenRTB-Version: 2.5\r\n\
             content-type: application/json; charset=utf-8\r\nContent-Length: "
        );
    }
}
