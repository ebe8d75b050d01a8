//! Chunked bodies (RFC 9112 section 7.1), decoded as their bytes come in. Both sides use it.
//!
//! Strict where leniency has been used for smuggling: CR LF and nothing less ends a line, a size is hex digits
//! and then `;` or CR LF at once. Extensions and trailers are checked for their form and skipped.
//!
//! Owns: [`Chunked`], one per connection. Runs on: each bidder core. Called by: the bidder's ingress, egress.
//! Never: reads behind the body's end, allocates but in `out`.
//! Full: [`ChunkError::TooLarge`], [`ChunkError::TooMuchExtra`].
use super::head::is_token;

/// Bytes of extensions and trailers, together, in one body. We read none of them: this is room for a proxy's
/// checksum or timing line, and far below what would make skipping them a burden.
pub const EXTRA_BYTES_MAX: u32 = 4096;
/// Digits of a chunk's size, leading zeros included: what fits 64 bits.
pub const SIZE_DIGITS_MAX: u8 = 16;

/// Why a chunked body was refused. Always closes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// No hex digit, more than [`SIZE_DIGITS_MAX`], or something that may not stand behind them.
    BadSize,
    /// The chunk's bytes are not followed by CR LF.
    BadEnd,
    /// LF without CR.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A control byte in an extension or a trailer.
    ControlByte,
    /// A trailer that is no `name: value`.
    BadTrailer,
    /// Extensions and trailers beyond [`EXTRA_BYTES_MAX`].
    TooMuchExtra,
    /// The body is, or says it will be, longer than allowed.
    TooLarge,
}

impl ChunkError {
    /// The status to answer a request with before closing.
    pub fn status(self) -> u16 {
        match self {
            ChunkError::TooLarge => 413,
            _ => 400,
        }
    }

    /// Label of a metric and reason in an error's JSON.
    pub fn name(self) -> &'static str {
        match self {
            ChunkError::BadSize => "bad_chunk_size",
            ChunkError::BadEnd => "bad_chunk_end",
            ChunkError::BareLf => "chunk_bare_lf",
            ChunkError::BareCr => "chunk_bare_cr",
            ChunkError::ControlByte => "chunk_control_byte",
            ChunkError::BadTrailer => "bad_trailer",
            ChunkError::TooMuchExtra => "chunk_extra_too_long",
            ChunkError::TooLarge => "body_too_large",
        }
    }
}

/// What one call of [`Chunked::feed`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkStep {
    /// Bytes of the input that belong to this body and were used up: all of them unless `done`.
    pub consumed: usize,
    /// The body is complete; what is behind `consumed` is the next message.
    pub done: bool,
}

/// The decoder's state between two reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of the chunk that are still to come; while its size is read, the size.
    left: u64,
    /// Bytes decoded.
    total: u64,
    extra: u32,
    digits: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    #[default]
    Size,
    /// White space behind the size: an extension must follow.
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// First byte of a trailer, or of the empty line.
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
    Failed(ChunkError),
}

impl Chunked {
    /// Ready for another body.
    pub fn reset(&mut self) {
        *self = Chunked::default();
    }

    /// Decodes what `input` holds of the body and appends it to `out`. `max`: bytes of the whole decoded body;
    /// the same in each call. A chunk that would pass it is refused at its size, before its bytes. Once done,
    /// and once failed, it stays so until [`Chunked::reset`].
    ///
    /// # Errors
    /// [`ChunkError`], at the byte that decides it; `out` holds what was decoded before.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<ChunkStep, ChunkError> {
        let mut rest = input;
        while self.state != State::Done {
            if self.state == State::Data {
                let n = rest.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let (data, behind) = rest.split_at(n);
                out.extend_from_slice(data);
                rest = behind;
                self.left -= n as u64;
                self.total += n as u64;
                if self.left > 0 {
                    break;
                }
                self.state = State::DataCr;
            }
            if let State::Failed(e) = self.state {
                return Err(e);
            }
            let Some((&b, behind)) = rest.split_first() else {
                break;
            };
            rest = behind;
            self.state = match self.step(b, max as u64) {
                Ok(state) => state,
                Err(e) => {
                    self.state = State::Failed(e);
                    return Err(e);
                }
            };
        }
        Ok(ChunkStep { consumed: input.len() - rest.len(), done: self.state == State::Done })
    }

    fn step(&mut self, b: u8, max: u64) -> Result<State, ChunkError> {
        match self.state {
            State::Size => match (b as char).to_digit(16) {
                Some(digit) if self.digits < SIZE_DIGITS_MAX => {
                    self.digits += 1;
                    self.left = self.left << 4 | u64::from(digit);
                    if self.left > max.saturating_sub(self.total) {
                        return Err(ChunkError::TooLarge);
                    }
                    Ok(State::Size)
                }
                None if self.digits > 0 => match b {
                    b'\r' => Ok(State::SizeLf),
                    b';' | b' ' | b'\t' => self.extra(b),
                    b'\n' => Err(ChunkError::BareLf),
                    _ => Err(ChunkError::BadSize),
                },
                _ => Err(ChunkError::BadSize),
            },
            State::SizeSpace => match b {
                b';' | b' ' | b'\t' => self.extra(b),
                _ => Err(ChunkError::BadSize),
            },
            State::Extension => match b {
                b'\r' => Ok(State::SizeLf),
                _ => self.text(b, State::Extension),
            },
            State::SizeLf => {
                lf(b)?;
                self.digits = 0;
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            State::DataCr => match b {
                b'\r' => Ok(State::DataLf),
                _ => Err(ChunkError::BadEnd),
            },
            State::DataLf => match b {
                b'\n' => Ok(State::Size),
                _ => Err(ChunkError::BadEnd),
            },
            State::TrailerStart => match b {
                b'\r' => Ok(State::EndLf),
                b'\n' => Err(ChunkError::BareLf),
                _ if is_token(b) => self.text(b, State::TrailerName),
                _ => Err(ChunkError::BadTrailer),
            },
            State::TrailerName => match b {
                b':' => self.text(b, State::TrailerValue),
                _ if is_token(b) => self.text(b, State::TrailerName),
                _ => Err(ChunkError::BadTrailer),
            },
            State::TrailerValue => match b {
                b'\r' => Ok(State::TrailerLf),
                _ => self.text(b, State::TrailerValue),
            },
            State::TrailerLf => lf(b).map(|()| State::TrailerStart),
            State::EndLf => lf(b).map(|()| State::Done),
            // `feed` handles these.
            State::Data | State::Done | State::Failed(_) => Ok(self.state),
        }
    }

    fn extra(&mut self, b: u8) -> Result<State, ChunkError> {
        self.text(b, if b == b';' { State::Extension } else { State::SizeSpace })
    }

    /// A byte that is skipped, if it may stand there.
    fn text(&mut self, b: u8, then: State) -> Result<State, ChunkError> {
        self.extra += 1;
        match b {
            _ if self.extra > EXTRA_BYTES_MAX => Err(ChunkError::TooMuchExtra),
            b'\n' => Err(ChunkError::BareLf),
            b'\t' => Ok(then),
            0..0x20 | 0x7f => Err(ChunkError::ControlByte),
            _ => Ok(then),
        }
    }
}

fn lf(b: u8) -> Result<(), ChunkError> {
    if b == b'\n' { Ok(()) } else { Err(ChunkError::BareCr) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `parts` one after the other: verdict, bytes consumed, bytes decoded.
    fn run(parts: &[&[u8]], max: usize) -> (Result<bool, ChunkError>, usize, Vec<u8>) {
        let (mut chunked, mut out, mut consumed) = (Chunked::default(), Vec::new(), 0);
        for part in parts {
            match chunked.feed(part, &mut out, max) {
                Ok(step) => {
                    consumed += step.consumed;
                    if step.done {
                        assert_eq!(chunked.feed(b"5\r\n", &mut out, max), Ok(ChunkStep { consumed: 0, done: true }));
                        return (Ok(true), consumed, out);
                    }
                    assert_eq!(step.consumed, part.len());
                }
                Err(e) => {
                    assert_eq!(chunked.feed(b"", &mut out, max), Err(e), "a failure stays");
                    return (Err(e), 0, out);
                }
            }
        }
        (Ok(false), consumed, out)
    }

    /// Whole, and cut at every byte.
    fn check(body: &[u8], max: usize, want: Result<&[u8], ChunkError>, behind: usize) {
        let shown = String::from_utf8_lossy(body);
        let whole = run(&[body], max);
        match want {
            Ok(decoded) => {
                assert_eq!(whole.0, Ok(true), "{shown:?}");
                assert_eq!(whole.1, body.len() - behind, "{shown:?}");
                assert_eq!(whole.2, decoded, "{shown:?}");
            }
            Err(e) => assert_eq!(whole.0, Err(e), "{shown:?}"),
        }
        for at in 0..=body.len() {
            assert_eq!(run(&[&body[..at], &body[at..]], max), whole, "{shown:?} cut at {at}");
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(run(&single, max), whole, "{shown:?} byte by byte");
    }

    #[test]
    fn bodies_are_decoded() {
        let rows: &[(&[u8], &[u8], usize)] = &[
            (b"0\r\n\r\n", b"", 0),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
            (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nPOST / HTTP/1.1\r\n", b"hello!", 17),
            (b"a\r\n0123456789\r\n00\r\n\r\n", b"0123456789", 0),
            (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", 0),
            (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello", 0),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", 0),
            (b"1;x\r\na\r\n0;y=\"z\"\r\n\r\n", b"a", 0),
            (b"1 \t;x = y\r\na\r\n0\r\n\r\n", b"a", 0),
            (b"1;\xff\r\na\r\n0\r\n\r\n", b"a", 0),
            (b"1\r\na\r\n0\r\nDigest: x\ty\r\nServer-Timing:\r\n\r\n", b"a", 0),
        ];
        for (body, want, behind) in rows {
            check(body, 100, Ok(want), *behind);
        }
    }

    #[test]
    fn what_is_not_exactly_chunked_is_refused() {
        use ChunkError::*;
        let rows: &[(&[u8], ChunkError)] = &[
            (b"\r\n", BadSize),
            (b"x\r\n", BadSize),
            (b"-1\r\n", BadSize),
            (b"+1\r\n", BadSize),
            (b"0x1\r\n", BadSize),
            (b" 1\r\n", BadSize),
            (b"1 \r\na", BadSize),
            (b"1 2\r\n", BadSize),
            (b"1,\r\n", BadSize),
            (b"\n", BadSize),
            (b";x\r\n", BadSize),
            (b"00000000000000000\r\n", BadSize),
            (b"1\na\r\n0\r\n\r\n", BareLf),
            (b"1;x\na\r\n0\r\n\r\n", BareLf),
            (b"1\rXa\r\n0\r\n\r\n", BareCr),
            (b"1;x\r\ra", BareCr),
            (b"1;\x00\r\n", ControlByte),
            (b"1;\x7f\r\n", ControlByte),
            (b"1\r\nab\r\n", BadEnd),
            (b"1\r\na\n", BadEnd),
            (b"1\r\na\r\r", BadEnd),
            (b"1\r\na0\r\n\r\n", BadEnd),
            (b"0\r\n\n", BareLf),
            (b"0\r\n\rX", BareCr),
            (b"0\r\n x: y\r\n\r\n", BadTrailer),
            (b"0\r\n:\r\n\r\n", BadTrailer),
            (b"0\r\nx\r\n\r\n", BadTrailer),
            (b"0\r\nx : y\r\n\r\n", BadTrailer),
            (b"0\r\nGET / HTTP/1.1\r\n", BadTrailer),
            (b"0\r\nx: y\nz: a\r\n\r\n", BareLf),
            (b"0\r\nx: \x00\r\n\r\n", ControlByte),
            (b"0\r\nx: y\r\rz", BareCr),
        ];
        for (body, want) in rows {
            check(body, 100, Err(*want), 0);
        }
    }

    #[test]
    fn sizes_are_bounded_before_their_bytes_come() {
        check(b"3\r\nabc\r\n0\r\n\r\n", 3, Ok(b"abc"), 0);
        check(b"4\r\n", 3, Err(ChunkError::TooLarge), 0);
        check(b"2\r\nab\r\n2\r\n", 3, Err(ChunkError::TooLarge), 0);
        check(b"ffffffffffffffff\r\n", 100, Err(ChunkError::TooLarge), 0);
        check(b"2\r\nab\r\nffffffffffffffff\r\n", usize::MAX, Err(ChunkError::TooLarge), 0);
        check(b"10000000000000005\r\n", usize::MAX, Err(ChunkError::BadSize), 0);
        check(b"0\r\n\r\n", 0, Ok(b""), 0);
    }

    #[test]
    fn extensions_and_trailers_are_bounded_over_the_whole_body() {
        let max = EXTRA_BYTES_MAX as usize;
        for (len, fits) in [(max, true), (max + 1, false)] {
            let ext = [b"1;".as_slice(), &vec![b'x'; len - 1], b"\r\na\r\n0\r\n\r\n"].concat();
            let trailer = [b"1\r\na\r\n0\r\nx:".as_slice(), &vec![b'y'; len - 2], b"\r\n\r\n"].concat();
            let many = [b"1;\r\na\r\n".repeat(len - 2), b"0\r\nx:\r\n\r\n".to_vec()].concat();
            for body in [&ext, &trailer, &many] {
                let want = if fits { Ok(true) } else { Err(ChunkError::TooMuchExtra) };
                assert_eq!(run(&[body], 100_000).0, want, "{len}");
            }
        }
    }

    fn noisy() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop::sample::select(b"0123af;\r\n\r\n\r\n\r\n \tx:\0\x7f".to_vec());
        prop::collection::vec(bytes, 0..60)
    }

    proptest! {
        #[test]
        fn where_it_is_cut_does_not_matter(body in noisy(), cuts in prop::collection::vec(0usize..60, 0..4)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(body.len())).collect();
            cuts.sort_unstable();
            cuts.insert(0, 0);
            cuts.push(body.len());
            let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &body[w[0]..w[1]]).collect();
            let whole = run(&[&body], 20);
            prop_assert!(whole.2.len() <= 20);
            prop_assert_eq!(run(&parts, 20), whole);
        }

        #[test]
        fn what_was_chunked_comes_back(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8)) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\nbehind");
            let (done, consumed, out) = run(&[&body], 1000);
            prop_assert_eq!(done, Ok(true));
            prop_assert_eq!(consumed, body.len() - 6);
            prop_assert_eq!(out, chunks.concat());
        }
    }
}
