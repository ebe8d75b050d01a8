//! What a hostile DSP does with an answer on the wire: two for one, one behind another, one without an end.
//! Owns: constants. Called by: `dsp_sim`. Never: goes on when the connection was closed, which is what it asks for.
use flate2::{Compression, write::GzEncoder};
use std::{io::Write as _, sync::OnceLock};

/// How a DSP abuses its connections.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hostile {
    /// Each answer twice, in one piece.
    Twice,
    /// Each answer twice, the second a few milliseconds later, when the connection may carry another request.
    Stale,
    /// A 204, and behind it the answer it hides.
    Hidden,
    /// An answer with a length and chunks.
    LengthAndChunks,
    /// A length that is longer than the answer, and then nothing.
    Short,
    /// Interim answers without an end.
    Interim,
    /// A head without an end.
    Head,
    /// A body without an end, which would be that of the connection.
    Body,
    /// Chunks without an end.
    Chunks,
    /// A byte a second.
    Drip,
    /// A small answer that unpacks to as much as is allowed by default.
    Bomb,
    /// After half a second.
    Slow,
    /// Never; the connection stays.
    Silent,
    /// A head, and then nothing.
    Headed,
    /// A 503 instead of each.
    Storm,
    /// A reset instead of each.
    Reset,
    /// Something that is no JSON.
    Garbage,
    /// A length that is shorter than the answer.
    Long,
    /// "Too many requests", come back in a second.
    TooMany,
    /// An answer to another request.
    OtherId,
    /// A price beyond all measure.
    Giant,
    /// A good answer, and then the connection's end, unannounced.
    Closes,
}

/// Bytes and what comes after them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Written.
    pub bytes: Vec<u8>,
    /// Then nothing for so many microseconds.
    pub pause_us: u64,
    /// Again and again, until the connection is closed.
    pub endless: bool,
}

/// Longer than any auction.
const SLOW_US: u64 = 500_000;
/// Longer than anybody waits.
const NEVER_US: u64 = 3_600_000_000;

/// Between the answer and its like: longer than a turn, shorter than an auction.
const STALE_US: u64 = 3_000;
/// Between two bytes that drip.
const DRIP_US: u64 = 1_000_000;
/// Between two pieces of what has no end: some megabytes a second on each connection that lets it.
const ENDLESS_US: u64 = 5_000;
/// What a bomb unpacks to.
const BOMB_BYTES: usize = outcry::limits::ANSWER_BYTES_DEFAULT - 1_024;

impl Hostile {
    /// Every one of them.
    pub const ALL: [Hostile; 22] = [
        Hostile::Twice,
        Hostile::Stale,
        Hostile::Hidden,
        Hostile::LengthAndChunks,
        Hostile::Short,
        Hostile::Interim,
        Hostile::Head,
        Hostile::Body,
        Hostile::Chunks,
        Hostile::Drip,
        Hostile::Bomb,
        Hostile::Slow,
        Hostile::Silent,
        Hostile::Headed,
        Hostile::Storm,
        Hostile::Reset,
        Hostile::Garbage,
        Hostile::Long,
        Hostile::TooMany,
        Hostile::OtherId,
        Hostile::Giant,
        Hostile::Closes,
    ];

    /// What is written instead of `answer`, a whole one with its head.
    pub fn instead_of(self, answer: Vec<u8>) -> Vec<Part> {
        let once = |bytes| Part { bytes, pause_us: 0, endless: false };
        let endless = |bytes| Part { bytes, pause_us: ENDLESS_US, endless: true };
        let with_field = |field: &[u8]| {
            let at = memchr::memmem::find(&answer, b"\r\n").map_or(0, |at| at + 2);
            [&answer[..at], field, &answer[at..]].concat()
        };
        let opening = |head: &[u8]| once(head.to_vec());
        match self {
            Hostile::Twice => vec![once(answer.repeat(2))],
            Hostile::Stale => vec![Part { pause_us: STALE_US, ..once(answer.clone()) }, once(answer)],
            Hostile::Hidden => vec![once([b"HTTP/1.1 204 No Content\r\n\r\n", answer.as_slice()].concat())],
            Hostile::LengthAndChunks => vec![once(with_field(b"Transfer-Encoding: chunked\r\n"))],
            Hostile::Short => {
                vec![Part { pause_us: DRIP_US, ..opening(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{") }]
            }
            Hostile::Interim => vec![endless(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(100))],
            Hostile::Head => vec![opening(b"HTTP/1.1 200 OK\r\n"), endless(b"X-Long: and longer\r\n".repeat(30))],
            Hostile::Body => vec![opening(b"HTTP/1.1 200 OK\r\n\r\n"), endless(vec![b' '; 32 * 1024])],
            Hostile::Chunks => vec![
                opening(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
                endless([b"8000\r\n".as_slice(), &[b' '; 32 * 1024], b"\r\n"].concat()),
            ],
            Hostile::Drip => answer.iter().map(|b| Part { pause_us: DRIP_US, ..once(vec![*b]) }).collect(),
            Hostile::Bomb => vec![once(bomb().to_vec())],
            Hostile::Slow => vec![Part { pause_us: SLOW_US, ..once(Vec::new()) }, once(answer)],
            Hostile::Silent => vec![Part { pause_us: NEVER_US, ..once(Vec::new()) }],
            Hostile::Headed => {
                vec![Part { pause_us: NEVER_US, ..opening(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n") }]
            }
            Hostile::Storm => vec![opening(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown")],
            // The connection's end is the simulator's.
            Hostile::Reset => Vec::new(),
            Hostile::Garbage => {
                vec![opening(b"HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n<html>in repair</html>\r\n")]
            }
            Hostile::Long => vec![opening(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{\"id\":\"and more\"}")],
            Hostile::TooMany => {
                vec![opening(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")]
            }
            Hostile::OtherId => {
                let mut other = answer;
                // The answer's own id stands first.
                if let Some(first) = memchr::memmem::find(&other, b"\"id\":\"").and_then(|at| other.get_mut(at + 6)) {
                    *first = if *first == b'~' { b'!' } else { b'~' };
                }
                vec![once(other)]
            }
            Hostile::Giant => vec![once(giant(&answer))],
            // The connection's end is the simulator's.
            Hostile::Closes => vec![once(answer)],
        }
    }
}

/// The answer with the price of each bid a billion times a billion.
fn giant(answer: &[u8]) -> Vec<u8> {
    let at = memchr::memmem::find(answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let (mut body, mut rest) = (Vec::new(), &answer[at..]);
    while let Some(at) = memchr::memmem::find(rest, b"\"price\":") {
        let (before, value) = rest.split_at(at + 8);
        body.extend_from_slice(before);
        body.extend_from_slice(b"1e18");
        rest = value.iter().position(|b| matches!(b, b',' | b'}')).map_or(&[][..], |end| &value[end..]);
    }
    body.extend_from_slice(rest);
    if body.is_empty() {
        return answer.to_vec();
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), &body].concat()
}

/// No bid, behind as many blanks as fit, packed.
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory cannot fail.
        let _ = packer.write_all(&[vec![b' '; BOMB_BYTES], b"{}".to_vec()].concat());
        let body = packer.finish().unwrap_or_default();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    })
}
