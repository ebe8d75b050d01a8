//! A DSP's answer out of what a connection reads: pieces put together, framed, inflated.
//! Owns: what was read of answers so far, but for the pieces, which stay with their connection. Runs on: each bidder core.
//! Called by: `egress`. Never: knows whose answer it is, or what it says.
use super::buffers::Buffers;
use outcry::{
    http1::{
        Encoding, Inflate, InflateError,
        answer::{AnswerError, AnswerScan, Frame},
    },
    openrtb::codes::Outcome,
};

/// Room for an answer that comes in pieces, at first.
const PIECES_BYTES: usize = 1024;

/// An answer in pieces, as its connection keeps it.
#[derive(Debug, Default)]
pub struct Partial {
    scan: AnswerScan,
    /// What is still needed of it, the head in front.
    bytes: Vec<u8>,
}

/// What a connection's bytes amount to.
#[derive(Debug)]
pub enum Heard {
    /// More is to come.
    More,
    /// It cannot become an answer; the connection is of no further use.
    Broken(Outcome),
    /// A whole answer.
    Whole {
        /// HTTP status.
        status: u16,
        /// The body, plain, if it is wanted and can be read.
        body: Result<Vec<u8>, Outcome>,
        /// The connection may carry the next request.
        reusable: bool,
        /// `Retry-After`, in seconds.
        retry_after_s: Option<u32>,
    },
}

/// Reads the answers of all connections of a core.
#[derive(Debug, Default)]
pub struct Answers {
    /// For answers that come in one piece, which is nearly all: always in the cache.
    scan: AnswerScan,
    /// For those that do not.
    #[expect(clippy::vec_box, reason = "the boxes move between here and the connections")]
    partials: Vec<Box<Partial>>,
    inflate: Inflate,
}

impl Answers {
    /// These bytes came next on a connection whose `partial` this is; none: the end of the stream; or an error. `max`: bytes
    /// of the body, before and after inflation. What is not `wanted` is read to its end and dropped.
    pub fn read(
        &mut self,
        partial: &mut Option<Box<Partial>>,
        read: Result<&[u8], ()>,
        max: usize,
        wanted: bool,
        buffers: &mut Buffers,
    ) -> Heard {
        let mut pieces = partial.take();
        let (scan, bytes) = match pieces.as_deref_mut() {
            Some(Partial { scan, bytes }) => {
                let more = read.unwrap_or(&[]);
                buffers.grow(bytes, more.len());
                bytes.extend_from_slice(more);
                (scan, bytes.as_slice())
            }
            None => (&mut self.scan, read.unwrap_or(&[])),
        };
        let frame = match read {
            Err(()) => Frame::Broken(AnswerError::CutOff),
            Ok([]) => scan.end(bytes),
            Ok(_) => scan.read(bytes, max),
        };
        let heard = match frame {
            Frame::Partial { keep } => {
                let pieces = partial.insert(pieces.unwrap_or_else(|| {
                    let mut pieces = self.partials.pop().unwrap_or_default();
                    std::mem::swap(&mut pieces.scan, &mut self.scan);
                    let first = read.unwrap_or(&[]);
                    pieces.bytes = buffers.get(first.len().max(PIECES_BYTES));
                    pieces.bytes.extend_from_slice(first);
                    pieces
                }));
                pieces.bytes.truncate(keep);
                return Heard::More;
            }
            Frame::Broken(AnswerError::BadHttp) => Heard::Broken(Outcome::BadHttp),
            Frame::Broken(AnswerError::TooLarge) => Heard::Broken(Outcome::TooLarge),
            Frame::Broken(AnswerError::CutOff) => Heard::Broken(Outcome::Reset),
            Frame::Whole { status, at, end, reusable } => {
                let body = scan.chunks().unwrap_or(bytes.get(at..end).unwrap_or(&[]));
                // Of a body that nobody awaits or reads nothing is kept. An empty one is no gzip, whatever its head says.
                let body = if !wanted || status != 200 || body.is_empty() {
                    Ok(Vec::new())
                } else {
                    plain(body, scan.encoding(), max, &mut self.inflate, buffers)
                };
                Heard::Whole { status, body, reusable, retry_after_s: scan.retry_after_s() }
            }
        };
        scan.reset();
        self.over(pieces, buffers);
        heard
    }

    /// A connection is gone, and with it what it had begun to say.
    pub fn forget(&mut self, mut partial: Option<Box<Partial>>, buffers: &mut Buffers) {
        if let Some(partial) = &mut partial {
            partial.scan.reset();
        }
        self.over(partial, buffers);
    }

    /// An answer in pieces is over, its scan reset.
    fn over(&mut self, partial: Option<Box<Partial>>, buffers: &mut Buffers) {
        if let Some(mut partial) = partial {
            buffers.put(std::mem::take(&mut partial.bytes));
            self.partials.push(partial);
        }
    }
}

fn plain(
    body: &[u8],
    encoding: Encoding,
    max: usize,
    inflate: &mut Inflate,
    buffers: &mut Buffers,
) -> Result<Vec<u8>, Outcome> {
    match encoding {
        Encoding::Identity => {
            let mut plain = buffers.get(body.len());
            plain.extend_from_slice(body);
            Ok(plain)
        }
        Encoding::Gzip => {
            let mut plain = buffers.get(body.len() * 4);
            inflate.inflate(body, &mut plain, max).map(|()| plain).map_err(|e| match e {
                InflateError::TooLarge => Outcome::TooLarge,
                _ => Outcome::BadEncoding,
            })
        }
        Encoding::Other => Err(Outcome::BadEncoding),
    }
}
