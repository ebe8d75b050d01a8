//! The head of a DSP's answer (we are the client): RFC 9112 section 4.
//! Owns: what a head said so far. Runs on: each bidder core. Called by: the bidder's egress.
//! Never: allocates, skips interim answers by itself. Full: see [`super::head`].
use super::{
    field::{Encoding, Framing, begins, digits},
    head::{self, BodyLen, HeadError, HeadScan, Parsed, Take},
};
use crate::openrtb::text::Span;

/// An answer's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// Bytes up to and with the blank line.
    pub len: usize,
    /// 100 to 999. Below 200 it is interim: skip `len` bytes and read the next head.
    pub status: u16,
    /// How the body ends. None for 1xx, 204 and 304, and for nothing else.
    pub body: BodyLen,
    /// May the connection carry another request, once the body was read?
    pub keep_alive: bool,
    /// What the body is packed in.
    pub encoding: Encoding,
    /// `Retry-After`, in seconds; none if it was absent or a date.
    pub retry_after_s: Option<u32>,
}

/// Reads an answer's head. `buf` begins with its first byte and may hold more; `scan` is the connection's.
/// `max`: bytes of the head, its blank line included. After [`Parsed::Partial`] call again with the same bytes
/// and more behind them. The answer is one to POST: of HEAD or CONNECT this reader knows nothing.
///
/// # Errors
/// [`Parsed::Bad`], as soon as the byte that decides it is there; the connection is of no further use.
pub fn response_head(buf: &[u8], scan: &mut HeadScan, max: usize) -> Parsed<ResponseHead> {
    let verdict = match head::read(buf, &mut scan.place, &mut scan.response, max) {
        Parsed::Partial => return Parsed::Partial,
        Parsed::Bad(e) => Parsed::Bad(e),
        Parsed::Done(len) => scan.response.finish(len),
    };
    scan.place = Default::default();
    scan.response = Default::default();
    verdict
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResponseState {
    framing: Framing,
    status: u16,
    minor: u8,
    retry_after_s: Option<u32>,
}

impl ResponseState {
    fn finish(&self, len: usize) -> Parsed<ResponseHead> {
        let framing = &self.framing;
        if self.minor == 0 && framing.chunked {
            return Parsed::Bad(HeadError::BadTransferEncoding);
        }
        let bodiless = matches!(self.status, 100..200 | 204 | 304);
        let body = match framing.length {
            _ if bodiless => BodyLen::None,
            _ if framing.chunked => BodyLen::Chunked,
            Some(length) => BodyLen::Length(length),
            None => BodyLen::UntilClose,
        };
        // A 204 that announces bytes may send them, and the next answer would be read out of them.
        let lying = self.status == 204 && (framing.chunked || framing.length.is_some_and(|l| l > 0));
        let keep_alive = framing.persists(self.minor) && body != BodyLen::UntilClose && !lying;
        Parsed::Done(ResponseHead {
            len,
            status: self.status,
            body,
            keep_alive,
            encoding: framing.encoding,
            retry_after_s: self.retry_after_s,
        })
    }
}

impl Take for ResponseState {
    const BLANK_FIRST: bool = false;
    const NO_FIRST: HeadError = HeadError::BadStatusLine;

    fn first_line(&mut self, buf: &[u8], from: usize, to: usize) -> Result<(), HeadError> {
        let bad = HeadError::BadStatusLine;
        let line = buf.get(from..to).ok_or(bad)?;
        let (version, rest) = line.split_first_chunk::<9>().ok_or(bad)?;
        let &[b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b' '] = version else {
            return Err(bad);
        };
        if !major.is_ascii_digit() || !minor.is_ascii_digit() {
            return Err(bad);
        }
        if major != b'1' {
            return Err(HeadError::BadVersion);
        }
        self.minor = minor - b'0';
        let (code, reason) = rest.split_first_chunk::<3>().ok_or(bad)?;
        // The space is due even before an empty reason; many leave it out, and nothing depends on it.
        if !matches!(reason, [] | [b' ', ..]) {
            return Err(bad);
        }
        let status = digits(code).filter(|s| *s >= 100).ok_or(bad)?;
        if status == 101 {
            return Err(HeadError::Upgraded);
        }
        self.status = status as u16;
        Ok(())
    }

    type Name = Field;

    #[inline(always)]
    fn known(line: &[u8]) -> Option<(Field, usize)> {
        let name = match line.first()? | 0x20 {
            b'c' if begins(line, b"content-length:") => (Field::ContentLength, 14),
            b'c' if begins(line, b"content-type:") => (Field::ContentType, 12),
            b'c' if begins(line, b"connection:") => (Field::Connection, 10),
            b'c' if begins(line, b"content-encoding:") => (Field::ContentEncoding, 16),
            b'r' if begins(line, b"retry-after:") => (Field::RetryAfter, 11),
            b't' if begins(line, b"transfer-encoding:") => (Field::TransferEncoding, 17),
            _ => return None,
        };
        Some(name)
    }

    #[inline(always)]
    fn field(&mut self, name: Field, value: &[u8], _at: Span) -> Result<(), HeadError> {
        match name {
            Field::ContentLength => return self.framing.content_length(value),
            Field::Connection => self.framing.connection(value),
            Field::ContentEncoding => self.framing.content_encoding(value),
            Field::RetryAfter => {
                self.retry_after_s = digits(value).map(|s| u32::try_from(s).unwrap_or(u32::MAX));
            }
            Field::TransferEncoding => return self.framing.transfer_encoding(value),
            Field::ContentType => {}
        }
        Ok(())
    }
}

/// The fields we read, and one that nearly every answer has: to know it beats to look at every byte of its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    ContentLength,
    Connection,
    ContentEncoding,
    RetryAfter,
    TransferEncoding,
    ContentType,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::tests::cut_everywhere;

    fn read(buf: &[u8], scan: &mut HeadScan) -> Parsed<ResponseHead> {
        response_head(buf, scan, 8192)
    }

    fn accepted(head: &str) -> ResponseHead {
        let mut buf = head.replace('\n', "\r\n").into_bytes();
        let len = buf.len() + 2;
        buf.extend_from_slice(b"\r\n{}\0\n");
        match cut_everywhere(&buf, read) {
            Parsed::Done(head) => {
                assert_eq!(head.len, len);
                head
            }
            other => panic!("{other:?}: {head}"),
        }
    }

    #[test]
    fn framing() {
        use BodyLen::*;
        let rows: &[(&str, u16, BodyLen, bool)] = &[
            ("HTTP/1.1 200 OK\nContent-Length: 7\n", 200, Length(7), true),
            ("HTTP/1.1 200 OK\nContent-Length: 7, 7\nContent-Length: 7\n", 200, Length(7), true),
            ("HTTP/1.1 200\nContent-Length: 0\n", 200, Length(0), true),
            ("HTTP/1.1 200 \nTransfer-Encoding: Chunked\n", 200, Chunked, true),
            ("HTTP/1.1 200 Tr\u{e8}s bien\ttout\n", 200, UntilClose, false),
            ("HTTP/1.1 200 OK\nConnection: keep-alive\n", 200, UntilClose, false),
            ("HTTP/1.1 200 OK\nContent-Length: 7\nConnection: close\n", 200, Length(7), false),
            ("HTTP/1.0 200 OK\nContent-Length: 7\n", 200, Length(7), false),
            ("HTTP/1.0 200 OK\nContent-Length: 7\nConnection: Keep-Alive\n", 200, Length(7), true),
            ("HTTP/1.1 204 No Content\n", 204, None, true),
            ("HTTP/1.1 204 No Content\nContent-Length: 0\n", 204, None, true),
            ("HTTP/1.1 204 No Content\nContent-Length: 2\n", 204, None, false),
            ("HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n", 204, None, false),
            ("HTTP/1.1 204 No Content\nConnection: close\n", 204, None, false),
            ("HTTP/1.1 304 Not Modified\nContent-Length: 7\n", 304, None, true),
            ("HTTP/1.1 100 Continue\n", 100, None, true),
            ("HTTP/1.1 103 Early Hints\nLink: </x>\n", 103, None, true),
            ("HTTP/1.1 503 Busy\nContent-Length: 0\nHost: a\nHost: b\n", 503, Length(0), true),
            ("HTTP/1.1 999 \nContent-Length: 0\n", 999, Length(0), true),
        ];
        for (head, status, body, keep_alive) in rows {
            let got = accepted(head);
            assert_eq!((got.status, got.body, got.keep_alive), (*status, *body, *keep_alive), "{head}");
        }
    }

    #[test]
    fn codings_and_retry_after() {
        let with = |field: &str| accepted(&format!("HTTP/1.1 503 x\nContent-Length: 0\n{field}"));
        assert_eq!(with("").encoding, Encoding::Identity);
        assert_eq!(with("Content-Encoding: gzip\n").encoding, Encoding::Gzip);
        assert_eq!(with("Content-Encoding: br\n").encoding, Encoding::Other);
        assert_eq!(with("Content-Encoding: gzip, gzip\n").encoding, Encoding::Other);
        let rows = [
            ("", None),
            ("Retry-After: 120\n", Some(120)),
            ("retry-after: 0\n", Some(0)),
            ("Retry-After: 5000000000\n", Some(u32::MAX)),
            ("Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\n", None),
            ("Retry-After: -1\n", None),
        ];
        for (field, want) in rows {
            assert_eq!(with(field).retry_after_s, want, "{field}");
        }
    }

    #[test]
    fn refusals() {
        use HeadError::*;
        let rows: &[(&[u8], HeadError)] = &[
            (b"HTTP/1.1 20 OK\r\n", BadStatusLine),
            (b"HTTP/1.1 099 OK\r\n", BadStatusLine),
            (b"HTTP/1.1 2000 OK\r\n", BadStatusLine),
            (b"HTTP/1.1 2x0 OK\r\n", BadStatusLine),
            (b"HTTP/1.1  200 OK\r\n", BadStatusLine),
            (b"HTTP/1.1\t200 OK\r\n", BadStatusLine),
            (b"HTTP/1.1 200\tOK\r\n", BadStatusLine),
            (b"HTTP/1.1\r\n", BadStatusLine),
            (b"HTTP/1. 200 OK\r\n", BadStatusLine),
            (b"http/1.1 200 OK\r\n", BadStatusLine),
            (b"ICY 200 OK\r\n", BadStatusLine),
            (b"\r\nHTTP/1.1 200 OK\r\n", BadStatusLine),
            (b"{\"id\":\"1\"}\r\n", BadStatusLine),
            (b"HTTP/2.0 200 OK\r\n", BadVersion),
            (b"HTTP/1.1 101 Switching Protocols\r\n", Upgraded),
            (b"HTTP/1.1 200 OK\n", BareLf),
            (b"HTTP/1.1 200 OK\r\nX: y\n\r\n", BareLf),
            (b"HTTP/1.1 200 OK\rX", BareCr),
            (b"HTTP/1.1 200 \0\r\n", ControlByte),
            (b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", ObsFold),
            (b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n", BadName),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", TwoLengths),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndChunked),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", BadLength),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", BadTransferEncoding),
            (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BadTransferEncoding),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", UnknownTransferEncoding),
        ];
        for (head, want) in rows {
            assert_eq!(cut_everywhere(head, read), Parsed::Bad(*want), "{:?}", String::from_utf8_lossy(head));
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(100));
        let got = cut_everywhere(long.as_bytes(), |b, s| response_head(b, s, 100));
        assert_eq!(got, Parsed::Bad(TooLong));
    }
}
