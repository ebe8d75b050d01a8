//! A whole answer (we are the client) as its bytes come in: interim heads, its own head, then a body by length, by chunks
//! or to the end of the stream (RFC 9112 section 6.3).
//! Owns: what was read of an answer so far. Runs on: each bidder core. Called by: the bidder's egress.
//! Never: reads past its answer; what stands behind it makes the connection one that is not used again.
//! Full: [`AnswerError`], and the connection is closed.
use super::{BodyLen, ChunkError, Chunked, Encoding, HeadScan, Parsed, ResponseHead, response_head};
use crate::limits::{ANSWER_HEAD_BYTES, BUFFER_BYTES_KEPT};

/// Why bytes cannot become an answer. The connection is of no further use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerError {
    /// The heads or the framing break HTTP/1.1, or the heads are longer than [`ANSWER_HEAD_BYTES`].
    BadHttp,
    /// The body is longer than allowed.
    TooLarge,
    /// The stream ended before the answer was whole.
    CutOff,
}

/// What the bytes of an answer amount to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame {
    /// More is to come: `buf[..keep]` is still needed.
    Partial {
        /// Bytes to keep.
        keep: usize,
    },
    /// `buf[at..end]` is the body, or [`AnswerScan::chunks`] is.
    Whole {
        /// HTTP status.
        status: u16,
        /// First byte of the body.
        at: usize,
        /// The byte behind it.
        end: usize,
        /// The connection may carry the next request.
        reusable: bool,
    },
    /// It cannot become an answer.
    Broken(AnswerError),
}

/// What was read of an answer so far.
#[derive(Debug, Default)]
pub struct AnswerScan {
    scan: HeadScan,
    /// Bytes of interim heads (1xx) before the answer's own, which a client must expect at any time (RFC 9110 section
    /// 15.2).
    interim: usize,
    head: Option<ResponseHead>,
    chunked: Chunked,
    /// Body decoded from chunks; kept from answer to answer.
    chunks: Vec<u8>,
}

impl AnswerScan {
    /// Ready for the next answer.
    pub fn reset(&mut self) {
        self.interim = 0;
        if let Some(head) = self.head.take() {
            if head.body == BodyLen::Chunked {
                self.chunked.reset();
                self.chunks.clear();
                self.chunks.shrink_to(BUFFER_BYTES_KEPT);
            }
        } else {
            self.scan.reset();
        }
    }

    /// How the body is compressed.
    pub fn encoding(&self) -> Encoding {
        self.head.map_or(Encoding::Identity, |h| h.encoding)
    }

    /// Its `Retry-After`, in seconds.
    pub fn retry_after_s(&self) -> Option<u32> {
        self.head.and_then(|h| h.retry_after_s)
    }

    /// The body, if it came in chunks.
    pub fn chunks(&self) -> Option<&[u8]> {
        self.head.filter(|h| h.body == BodyLen::Chunked).map(|_| self.chunks.as_slice())
    }

    /// Reads on; `buf` holds everything of the answer that is still needed, the heads in front. `max`: bytes of the body, as
    /// it came; the same for all of an answer.
    pub fn read(&mut self, buf: &[u8], max: usize) -> Frame {
        let head = loop {
            if let Some(head) = self.head {
                break head;
            }
            let (rest, max) = (buf.get(self.interim..).unwrap_or(&[]), ANSWER_HEAD_BYTES - self.interim);
            match response_head(rest, &mut self.scan, max) {
                Parsed::Partial => return Frame::Partial { keep: buf.len() },
                Parsed::Bad(_) => return Frame::Broken(AnswerError::BadHttp),
                Parsed::Done(head) if head.status < 200 => self.interim += head.len,
                Parsed::Done(head) => self.head = Some(head),
            }
        };
        let (status, at) = (head.status, self.interim + head.len);
        match head.body {
            BodyLen::None => Frame::Whole { status, at, end: at, reusable: head.keep_alive && buf.len() == at },
            BodyLen::Length(n) if n > max as u64 => Frame::Broken(AnswerError::TooLarge),
            BodyLen::Length(n) => {
                let end = at + n as usize;
                if buf.len() < end {
                    return Frame::Partial { keep: buf.len() };
                }
                Frame::Whole { status, at, end, reusable: head.keep_alive && buf.len() == end }
            }
            BodyLen::Chunked => match self.chunked.feed(buf.get(at..).unwrap_or(&[]), &mut self.chunks, max) {
                Ok(step) if step.done => {
                    let reusable = head.keep_alive && at + step.consumed == buf.len();
                    Frame::Whole { status, at: 0, end: 0, reusable }
                }
                // What is behind the head was taken in.
                Ok(_) => Frame::Partial { keep: at },
                Err(ChunkError::TooLarge) => Frame::Broken(AnswerError::TooLarge),
                Err(_) => Frame::Broken(AnswerError::BadHttp),
            },
            BodyLen::UntilClose if buf.len() - at > max => Frame::Broken(AnswerError::TooLarge),
            BodyLen::UntilClose => Frame::Partial { keep: buf.len() },
        }
    }

    /// The stream has ended, which completes only an answer that was delimited by it.
    pub fn end(&mut self, buf: &[u8]) -> Frame {
        match self.head {
            Some(head) if head.body == BodyLen::UntilClose => {
                Frame::Whole { status: head.status, at: self.interim + head.len, end: buf.len(), reusable: false }
            }
            _ => Frame::Broken(AnswerError::CutOff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Heads before the answer's own counted among themselves, so that twice the limit was kept, which the plan of memory does
    /// not allow for.
    #[test]
    fn all_heads_of_an_answer_share_one_limit() {
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        let whole = |fill: usize| {
            let mut buf = interim.repeat(100);
            buf.extend_from_slice(b"HTTP/1.1 204 No Content\r\nX: ");
            buf.resize(ANSWER_HEAD_BYTES - 4 + fill, b'x');
            buf.extend_from_slice(b"\r\n\r\n");
            buf
        };
        for (fill, fits) in [(0, true), (1, false)] {
            let buf = whole(fill);
            for step in [buf.len(), 1000, 1] {
                let mut scan = AnswerScan::default();
                let mut frames =
                    (step..buf.len() + step).step_by(step).map(|n| scan.read(&buf[..n.min(buf.len())], 100));
                let end = frames.find(|frame| !matches!(frame, Frame::Partial { .. }));
                let at = buf.len();
                let want = if fits {
                    Frame::Whole { status: 204, at, end: at, reusable: true }
                } else {
                    Frame::Broken(AnswerError::BadHttp)
                };
                assert_eq!(end, Some(want), "{at} bytes of heads, {step} at a time");
            }
        }
    }

    #[test]
    fn the_end_of_a_stream_completes_what_was_to_end_with_it_and_nothing_else() {
        let rows: [(&[u8], Frame); 6] = [
            (b"HTTP/1.1 200 OK\r\n\r\nabc", Frame::Whole { status: 200, at: 19, end: 22, reusable: false }),
            (b"HTTP/1.1 200 OK\r\n\r\n", Frame::Whole { status: 200, at: 19, end: 19, reusable: false }),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", Frame::Broken(AnswerError::CutOff)),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Frame::Broken(AnswerError::CutOff)),
            (b"HTTP/1.1 200 OK\r\n", Frame::Broken(AnswerError::CutOff)),
            (b"HTTP/1.1 100 Continue\r\n\r\n", Frame::Broken(AnswerError::CutOff)),
        ];
        for (buf, want) in rows {
            let mut scan = AnswerScan::default();
            assert!(matches!(scan.read(buf, 100), Frame::Partial { .. }));
            assert_eq!(scan.end(buf), want, "{}", String::from_utf8_lossy(buf));
        }
    }
}
