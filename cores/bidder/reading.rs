//! One request as its bytes come in: head, admission, then a body by length or by chunks, inflated.
//! Owns: what was read of a request so far. Runs on: each bidder core. Called by: `ingress`.
//! Never: knows what a request means; reads a body that was not admitted, where the client asked before sending it.
use super::buffers::Buffers;
use outcry::{
    config::Http,
    http1::{self, BodyLen, ChunkError, Chunked, HeadLimits, HeadScan, Inflate, InflateError, Parsed, RequestHead},
    record::labels::Refusal,
    units::ExchangeIx,
};

/// Room for the bytes of a request at first: one of 2-3 KB and its head.
pub const READ_BYTES: usize = 4096;

/// Why a request is answered without an auction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// For metrics.
    pub why: Refusal,
    /// Machine-readable reason in the body; free of user data.
    pub reason: &'static str,
    /// The framing of what follows cannot be trusted, or is not wanted.
    pub close: bool,
}

/// What is known of a request that is refused; by default nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusee<'a> {
    /// Whose it is.
    pub exchange: Option<ExchangeIx>,
    /// Its target.
    pub target: &'a [u8],
    /// Bytes of its head.
    pub head_bytes: usize,
    /// Its body, as far as it was read.
    pub body: &'a [u8],
}

/// What was said of a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admission {
    /// Whose request it is.
    pub route: ExchangeIx,
    /// Why it is refused. Said when its body is through, so that the connection lives on; at once if `close`.
    pub refused: Option<Refused>,
}

/// What the bytes of a request amount to.
#[derive(Debug)]
pub enum Read {
    /// More is to come, `want` bytes in all as far as is known. `go_on`: the client waits to be told so.
    More {
        /// Bytes the request will have; 0: unknown.
        want: usize,
        /// "100 Continue" is due.
        go_on: bool,
    },
    /// All of it: head and plain body in `bytes`.
    Whole {
        /// The head; its spans point into `bytes`.
        head: RequestHead,
        /// Head and body, the body without chunks and inflated; it begins at `head.len`.
        bytes: Vec<u8>,
        /// What was said of the head.
        admission: Admission,
    },
    /// It cannot become a request.
    Bad(Refused),
}

/// What was read of a request so far.
#[derive(Debug, Default)]
pub struct Reading {
    scan: HeadScan,
    head: Option<(RequestHead, Admission)>,
    chunked: Chunked,
    /// Head and body decoded from chunks.
    body: Vec<u8>,
}

impl Reading {
    /// Ready for the next request.
    pub fn reset(&mut self, buffers: &mut Buffers) {
        match self.head.take() {
            Some((head, _)) if head.body == BodyLen::Chunked => {
                self.chunked.reset();
                buffers.put(std::mem::take(&mut self.body));
            }
            Some(_) => {}
            None => self.scan.reset(),
        }
    }

    /// Reads on; `buf` holds everything of the request that is still needed, the head in front. What a whole request
    /// took is gone from it. `admit` is asked once, when the head is there.
    pub fn read(
        &mut self,
        buf: &mut Vec<u8>,
        limits: &Http,
        inflate: &mut Inflate,
        buffers: &mut Buffers,
        admit: impl FnOnce(&RequestHead, &[u8]) -> Admission,
    ) -> Read {
        let mut go_on = false;
        let (head, admission) = match self.head {
            Some(known) => known,
            None => match http1::request_head(buf, &mut self.scan, &HeadLimits { head_bytes: limits.head_bytes }) {
                Parsed::Partial => return Read::More { want: 0, go_on },
                Parsed::Bad(e) => {
                    return Read::Bad(Refused {
                        status: e.status(),
                        why: Refusal::of_head(e),
                        reason: e.name(),
                        close: true,
                    });
                }
                Parsed::Done(head) => {
                    let admission = admit(&head, buf);
                    if let Some(refused) = admission.refused.filter(|r| r.close) {
                        return Read::Bad(refused);
                    }
                    go_on = head.expect_continue;
                    self.head = Some((head, admission));
                    (head, admission)
                }
            },
        };
        let max = limits.body_bytes;
        let too_large = Refused { status: 413, why: Refusal::BodyTooLarge, reason: "body_too_large", close: true };
        let mut bytes = match head.body {
            BodyLen::Chunked => {
                if self.body.is_empty() {
                    // The head stays in front of its body, however that came.
                    self.body = buffers.get(READ_BYTES);
                    self.body.extend_from_slice(buf.get(..head.len).unwrap_or(&[]));
                }
                match self.chunked.feed(buf.get(head.len..).unwrap_or(&[]), &mut self.body, max) {
                    Err(ChunkError::TooLarge) => return Read::Bad(too_large),
                    Err(_) => {
                        let (why, reason) = (Refusal::BadChunk, "bad_chunk");
                        return Read::Bad(Refused { status: 400, why, reason, close: true });
                    }
                    Ok(step) if !step.done => {
                        go_on &= buf.len() == head.len;
                        buf.truncate(head.len);
                        return Read::More { want: 0, go_on };
                    }
                    Ok(step) => {
                        buf.drain(..head.len + step.consumed);
                        std::mem::take(&mut self.body)
                    }
                }
            }
            BodyLen::Length(n) if n > max as u64 => return Read::Bad(too_large),
            BodyLen::None | BodyLen::UntilClose | BodyLen::Length(_) => {
                let n = if let BodyLen::Length(n) = head.body { n as usize } else { 0 };
                let end = head.len + n;
                if buf.len() < end {
                    return Read::More { want: end, go_on: go_on && buf.len() == head.len };
                }
                // The auction keeps the buffer; what stands behind its request, if anything does, moves to another.
                let mut rest = Vec::new();
                if buf.len() > end {
                    rest = buffers.get(READ_BYTES);
                    rest.extend_from_slice(&buf[end..]);
                }
                let mut bytes = std::mem::replace(buf, rest);
                bytes.truncate(end);
                bytes
            }
        };
        if head.gzip_body && admission.refused.is_none() {
            let mut plain = buffers.get(READ_BYTES);
            plain.extend_from_slice(bytes.get(..head.len).unwrap_or(&[]));
            let inflated = inflate.inflate(bytes.get(head.len..).unwrap_or(&[]), &mut plain, max);
            buffers.put(std::mem::replace(&mut bytes, plain));
            if let Err(e) = inflated {
                // The framing is sound: only this request is refused.
                let why = match e {
                    InflateError::TooLarge => Refusal::BodyTooLarge,
                    InflateError::TooDense => Refusal::InflatesTooMuch,
                    InflateError::Broken | InflateError::Truncated => Refusal::BadEncoding,
                };
                let refused = Some(Refused { status: e.status(), why, reason: e.name(), close: false });
                return Read::Whole { head, bytes, admission: Admission { refused, ..admission } };
            }
        }
        Read::Whole { head, bytes, admission }
    }
}
