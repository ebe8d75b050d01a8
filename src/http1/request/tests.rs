//! Heads of requests: what is read of them, what is refused and why, wherever they are cut.
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
    assert!(matches!(read(second, &mut scan), Parsed::Done(h) if h.body == BodyLen::None && h.authorization.len == 0));
    assert_eq!(read(&first[..40], &mut scan), Parsed::Partial);
    scan.reset();
    assert!(matches!(read(second, &mut scan), Parsed::Done(_)));
}
