//! HTTP/1.1 framing (RFC 9112), both sides, bounded and incremental.
//!
//! Where two readers of the same bytes could disagree about where a message ends, the message is refused and
//! its connection closed: that disagreement is what request smuggling is made of. So no bare LF, no obs-fold,
//! no space before a colon, no `Transfer-Encoding` but `chunked`, never both framings.
//!
//! Owns: the state between two reads ([`HeadScan`], [`Chunked`], [`answer::AnswerScan`]) and the two codecs of [`gzip`].
//! Runs on: each bidder core. Called by: the bidder's ingress (as the server) and egress (as the client).
//! Never: does I/O, reads a clock, keeps a byte of a message; allocates, but to grow the vector it was given.
//! Full: a typed error, and the connection is closed ([`HeadError::TooLong`], [`ChunkError::TooLarge`], ...).
pub mod answer;
pub mod chunked;
pub mod encode;
mod field;
pub mod gzip;
pub mod head;
pub mod request;
pub mod response;

pub use chunked::{ChunkError, ChunkStep, Chunked};
pub use encode::{
    LengthSlot, ResponseExtra, begin_request, begin_response, finish_request, finish_response, prepared_post,
    write_get, write_response,
};
pub use field::Encoding;
pub use gzip::{Deflate, Inflate, InflateError};
pub use head::{BodyLen, HeadError, HeadScan, Parsed};
pub use request::{ContentType, HeadLimits, Method, RequestHead, request_head};
pub use response::{ResponseHead, response_head};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    /// The verdict on `buf`, which must be the same when it comes whole, in two parts cut at any byte, and
    /// byte by byte; a verdict before the end must be the whole's too.
    pub(super) fn cut_everywhere<T: Copy + PartialEq + Debug>(
        buf: &[u8],
        read: impl Fn(&[u8], &mut HeadScan) -> Parsed<T>,
    ) -> Parsed<T> {
        let whole = read(buf, &mut HeadScan::default());
        for at in 0..buf.len() {
            let mut scan = HeadScan::default();
            let mut got = read(&buf[..at], &mut scan);
            if got == Parsed::Partial {
                got = read(buf, &mut scan);
            }
            assert_eq!(got, whole, "cut at {at}: {:?}", String::from_utf8_lossy(buf));
        }
        let mut scan = HeadScan::default();
        let bytewise = (0..=buf.len()).map(|n| read(&buf[..n], &mut scan)).find(|r| *r != Parsed::Partial);
        assert_eq!(bytewise.unwrap_or(Parsed::Partial), whole, "byte by byte: {:?}", String::from_utf8_lossy(buf));
        whole
    }

    /// Bytes, and bits of heads in any order: near enough to a head to get deep.
    fn noisy() -> impl Strategy<Value = Vec<u8>> {
        let bits: Vec<&'static [u8]> = vec![
            b"GET / HTTP/1.1\r\n",
            b"POST http://a?b HTTP/1.0\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"Host: x\r\n",
            b"Host: ",
            b"Content-Length: 5\r\n",
            b"Content-Length",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close, ",
            b"Accept-Encoding: gzip;q=0",
            b"Content-Type: application/json\r\n",
            b"Expect: 100-continue\r\n",
            b"X: ",
            b"y",
            b"\xff",
            b"\t",
            b" ",
            b":",
            b"\r\n",
            b"\r\n\r\n",
            b"\r",
            b"\n",
            b"\0",
        ];
        let bit = prop_oneof![
            8 => prop::sample::select(bits).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        let first = prop::sample::select(vec![&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], b"HTTP/1.1 200 OK\r\n", b""]);
        (first, prop::collection::vec(bit, 0..10)).prop_map(|(first, bits)| [first.to_vec(), bits.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn a_verdict_never_depends_on_where_bytes_were_cut(buf in noisy(), max in 0usize..300) {
            let request = cut_everywhere(&buf, |b, s| request_head(b, s, &HeadLimits { head_bytes: max }));
            if let Parsed::Done(head) = request {
                prop_assert!(head.len <= buf.len().min(max));
                prop_assert!(head.path.end() <= head.len && head.query.end() <= head.len);
                prop_assert_eq!(&buf[head.len - 4..head.len], b"\r\n\r\n");
            }
            let response = cut_everywhere(&buf, |b, s| response_head(b, s, max));
            if let Parsed::Done(head) = response {
                prop_assert_eq!(&buf[head.len - 4..head.len], b"\r\n\r\n");
            }
        }

        #[test]
        fn random_bytes_are_survived(buf in prop::collection::vec(any::<u8>(), 0..300)) {
            cut_everywhere(&buf, |b, s| request_head(b, s, &HeadLimits { head_bytes: 8192 }));
            cut_everywhere(&buf, |b, s| response_head(b, s, 8192));
            let _ = Chunked::default().feed(&buf, &mut Vec::new(), 1000);
        }
    }
}
