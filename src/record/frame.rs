//! The frame: what a record travels in, byte for byte the same in a bidder core's black box and in the journal.
//! Owns: nothing. Runs on: bidder cores and flush (write), boot and every reader of a journal (read).
//! Never: allocates, panics on what it reads, judges a payload. Full: a frame is as long as its payload; who hands out
//! room for it ([`padded`]) sets the bound.
//!
//! Little-endian. Every frame begins at a multiple of [`ALIGN`] and is filled up to the next one with zeros.
//!
//! | at | field | |
//! |----|-------|-|
//! | 0  | u32 length  | header and payload, without the zeros behind; at least [`HEADER`] |
//! | 4  | u32 CRC-32  | of the bytes from 8 up to that length; the one of IEEE 802.3, zlib and Python's `zlib.crc32` |
//! | 8  | u64 seq     | of this writer in this epoch: from 1, without gaps |
//! | 16 | u32 epoch   | start of the process |
//! | 20 | u16 writer  | bidder core, [`WRITER_FLUSH`] or [`WRITER_CONTROL`] |
//! | 22 | u8 kind     | a [`Kind`] |
//! | 23 | u8 version  | of the payload of this kind |
//! | 24 | u64 hlc     | hybrid logical time: milliseconds since 1970 times 65,536, plus a counter |
//! | 32 | payload | |
//!
//! Epoch, writer and seq name a frame of a node for ever: what was written twice is found by them.
//!
//! Writing: [`begin`], append the payload, [`finish`]; or, where the room is given, put the payload at [`HEADER`] and
//! [`seal`]. Reading: [`decode`] one, or all of a payload by [`frames`].

/// Bytes of the header, in front of every payload.
pub const HEADER: usize = 32;
/// Frames begin and end at multiples of this.
pub const ALIGN: usize = 8;
/// The flush core itself, as a writer.
pub const WRITER_FLUSH: u16 = 0xffff;
/// The control thread, as a writer.
pub const WRITER_CONTROL: u16 = 0xfffe;

/// Where the checksum begins.
const SUMMED: usize = 8;

/// What a payload is. Numbers are for ever: one that is given up is not given again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An auction: `auction::record`.
    Auction = 1,
    /// What became of an answer that was not simply written in time.
    Delivery = 2,
    /// Requests that never became an auction, counted over a second.
    Refusals = 3,
    /// One of those, as an example.
    RefusalSample = 4,
    /// Money moved on an account.
    Account = 5,
    /// Leases ended, a dead start was settled, an account was stopped: `budget::event`.
    Lease = 6,
    /// A notice of an exchange or a browser: `notice::told`.
    Notice = 7,
    /// What was held for a notice goes home: `notice::holds`.
    Settlement = 8,
    /// Another configuration is in force.
    Config = 9,
    /// The process started.
    Start = 10,
    /// The process was told to stop.
    Stop = 11,
    /// Everything is written: the last frame of a process that ended in order.
    Clean = 12,
    /// A request as it came; in a stream of its own.
    RawRequest = 13,
    /// An answer as it went; in a stream of its own.
    RawAnswer = 14,
    /// What came of telling a DSP of a notice: `notice::told`.
    Told = 15,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 15] = [
        Kind::Auction,
        Kind::Delivery,
        Kind::Refusals,
        Kind::RefusalSample,
        Kind::Account,
        Kind::Lease,
        Kind::Notice,
        Kind::Settlement,
        Kind::Config,
        Kind::Start,
        Kind::Stop,
        Kind::Clean,
        Kind::RawRequest,
        Kind::RawAnswer,
        Kind::Told,
    ];

    /// The kind of a number. `None`: a newer release's; such frames are carried on, not understood.
    pub fn of(number: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }
}

/// What a header says besides length and checksum, which are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Counts the frames of this writer in this epoch, from 1.
    pub seq: u64,
    /// Start of the process.
    pub epoch: u32,
    /// Bidder core, [`WRITER_FLUSH`] or [`WRITER_CONTROL`].
    pub writer: u16,
    /// Number of a [`Kind`]; kept as a number, since a newer release's is carried too.
    pub kind: u8,
    /// Of the payload of this kind.
    pub version: u8,
    /// Hybrid logical time: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
    pub hlc: u64,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// There are fewer bytes than the frame has.
    #[error("{have} bytes of a frame that needs {need}")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes it needs: those of a header, or those that the header tells of.
        need: usize,
    },
    /// A length below that of a header: nothing was written here, or something else.
    #[error("a frame cannot be {0} bytes long")]
    Length(u32),
    /// The bytes are not those that were summed.
    #[error("checksum {found:08x}, the frame says {written:08x}")]
    Checksum {
        /// What the header says.
        written: u32,
        /// What the bytes give.
        found: u32,
    },
    /// Something stands where the frame is filled up with zeros.
    #[error("the frame is not filled up with zeros")]
    Padding,
}

/// Bytes of a frame of this length with the zeros behind it.
#[inline]
pub const fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Bytes that a frame with a payload of this length takes.
#[inline]
pub const fn size(payload: usize) -> usize {
    padded(HEADER + payload)
}

/// Completes a frame whose payload stands in `room` from [`HEADER`] on, `len` bytes with the header: fills it up with
/// zeros, writes the header. Returns the bytes of the whole frame, [`padded`].
///
/// # Panics
/// If `len` is below [`HEADER`] or past 4 GB, or `room` shorter than the whole frame: a mistake of the caller.
#[inline]
pub fn seal(room: &mut [u8], len: usize, header: &Header) -> usize {
    assert!(len >= HEADER, "a frame has a header");
    let length = u32::try_from(len).expect("a frame is shorter than 4 GB");
    let frame = &mut room[..padded(len)];
    frame[len..].fill(0);
    frame[8..16].copy_from_slice(&header.seq.to_le_bytes());
    frame[16..20].copy_from_slice(&header.epoch.to_le_bytes());
    frame[20..22].copy_from_slice(&header.writer.to_le_bytes());
    frame[22] = header.kind;
    frame[23] = header.version;
    frame[24..32].copy_from_slice(&header.hlc.to_le_bytes());
    let crc = crc32fast::hash(&frame[SUMMED..len]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    frame.len()
}

/// Reserves a header at the end of `out`; the payload is appended next. Returns where the frame begins, for [`finish`].
#[inline]
pub fn begin(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + HEADER, 0);
    at
}

/// Completes the frame that [`begin`] began at `at` and whose payload ends where `out` does. Returns its bytes.
///
/// # Panics
/// As [`seal`].
#[inline]
pub fn finish(out: &mut Vec<u8>, at: usize, header: &Header) -> usize {
    let len = out.len() - at;
    out.resize(at + padded(len), 0);
    seal(&mut out[at..], len, header)
}

/// A frame that was read: its bytes are those that were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What its header says.
    pub header: Header,
    /// All of it, filled up: what is copied when it is handed on.
    pub bytes: &'a [u8],
    len: usize,
}

impl<'a> Frame<'a> {
    /// What is framed.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER..self.len]
    }

    /// What it is; `None` if only a newer release knows.
    pub fn kind(&self) -> Option<Kind> {
        Kind::of(self.header.kind)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Reads the frame that `bytes` begin with. What follows it is not looked at.
///
/// # Errors
/// [`FrameError`]; nothing that is read makes it panic.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    decode_with(bytes, crc32fast::hash)
}

/// [`decode`] with another checksum: for tests that plant the fault of having none.
fn decode_with(bytes: &[u8], sum: impl Fn(&[u8]) -> u32) -> Result<Frame<'_>, FrameError> {
    let have = bytes.len();
    if have < HEADER {
        return Err(FrameError::Short { have, need: HEADER });
    }
    let length = u32::from_le_bytes(array(bytes, 0));
    let len = length as usize;
    if len < HEADER {
        return Err(FrameError::Length(length));
    }
    let need = padded(len);
    if have < need {
        return Err(FrameError::Short { have, need });
    }
    let bytes = &bytes[..need];
    let (written, found) = (u32::from_le_bytes(array(bytes, 4)), sum(&bytes[SUMMED..len]));
    if written != found {
        return Err(FrameError::Checksum { written, found });
    }
    if bytes[len..].iter().any(|&b| b != 0) {
        return Err(FrameError::Padding);
    }
    let header = Header {
        seq: u64::from_le_bytes(array(bytes, 8)),
        epoch: u32::from_le_bytes(array(bytes, 16)),
        writer: u16::from_le_bytes(array(bytes, 20)),
        kind: bytes[22],
        version: bytes[23],
        hlc: u64::from_le_bytes(array(bytes, 24)),
    };
    Ok(Frame { header, bytes, len })
}

/// The frames that `bytes` consist of, one after the other. Ends with the first that is none, as an error: where the
/// next one would begin is not known then.
pub fn frames(bytes: &[u8]) -> Frames<'_> {
    Frames { bytes, at: 0, over: false }
}

/// See [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
    over: bool,
}

impl Frames<'_> {
    /// Bytes of the frames read so far: where the next begins, or what is no frame.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        if self.over || rest.is_empty() {
            return None;
        }
        let read = decode(rest);
        match read {
            Ok(frame) => self.at += frame.bytes.len(),
            Err(_) => self.over = true,
        }
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(seq: u64) -> Header {
        Header { seq, epoch: 7, writer: 3, kind: Kind::Auction as u8, version: 1, hlc: 0x0197_0000_0000_0001 }
    }

    fn framed(payload: &[u8], header: &Header) -> Vec<u8> {
        let mut out = Vec::new();
        let at = begin(&mut out);
        out.extend_from_slice(payload);
        assert_eq!(finish(&mut out, at, header), out.len());
        out
    }

    fn any_header() -> impl Strategy<Value = Header> {
        any::<(u64, u32, u16, u8, u8, u64)>().prop_map(|(seq, epoch, writer, kind, version, hlc)| Header {
            seq,
            epoch,
            writer,
            kind,
            version,
            hlc,
        })
    }

    /// The bytes of one frame, written down: what other programs read. The checksum is Python's
    /// `zlib.crc32(frame[8:37])`.
    #[test]
    fn a_frame_is_these_bytes() {
        let frame = framed(b"hello", &header(0x0102_0304_0506_0708));
        #[rustfmt::skip]
        let bytes = [
            37, 0, 0, 0,  0xe8, 0x3e, 0x52, 0x5b,
            8, 7, 6, 5, 4, 3, 2, 1,
            7, 0, 0, 0,  3, 0,  1,  1,
            1, 0, 0, 0, 0, 0, 0x97, 0x01,
            b'h', b'e', b'l', b'l', b'o', 0, 0, 0,
        ];
        assert_eq!(frame, bytes);
    }

    #[test]
    fn numbers_of_kinds_are_for_ever() {
        for (number, kind) in (1..).zip(Kind::ALL) {
            assert_eq!((kind as u8, Kind::of(number)), (number, Some(kind)));
        }
        assert_eq!((Kind::of(0), Kind::of(16), Kind::of(255)), (None, None, None));
        assert_eq!((Kind::Settlement as u8, Kind::Clean as u8, Kind::RawAnswer as u8), (8, 12, 14));
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let good = framed(b"hello", &header(1));
        assert_eq!(decode(&[]), Err(FrameError::Short { have: 0, need: HEADER }));
        assert_eq!(decode(&good[..39]), Err(FrameError::Short { have: 39, need: 40 }));
        assert_eq!(decode(&[0; 64]), Err(FrameError::Length(0)), "nothing was written here");
        let mut bad = good.clone();
        bad[..4].copy_from_slice(&31u32.to_le_bytes());
        assert_eq!(decode(&bad), Err(FrameError::Length(31)));
        bad[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bad), Err(FrameError::Short { have: 40, need: 1 << 32 }));
        bad.clone_from(&good);
        bad[33] ^= 1;
        assert!(matches!(decode(&bad), Err(FrameError::Checksum { written: 0xba4d_e849, .. })), "{:?}", decode(&bad));
        bad.clone_from(&good);
        bad[39] = 1;
        assert_eq!(decode(&bad), Err(FrameError::Padding));
    }

    /// The fault that the others would not notice: without a checksum a flipped bit is taken for the truth.
    #[test]
    fn without_its_checksum_a_frame_could_say_anything() {
        let mut bad = framed(b"hello", &header(1));
        bad[33] ^= 1;
        let written = u32::from_le_bytes(array(&bad, 4));
        assert!(decode_with(&bad, |_| written).is_ok() && decode(&bad).is_err());
    }

    #[test]
    fn iteration_ends_with_what_is_no_frame() {
        let mut all = framed(b"", &header(1));
        all.extend(framed(b"two", &header(2)));
        let whole = all.len();
        assert_eq!(frames(&all).map(|f| f.expect("a frame").header.seq).collect::<Vec<_>>(), [1, 2]);
        all.extend([0; 16]);
        all.extend(framed(b"after", &header(3)));
        let mut read = frames(&all);
        assert!(read.by_ref().take(2).all(|f| f.is_ok()));
        assert_eq!(read.next(), Some(Err(FrameError::Length(0))));
        assert_eq!((read.next(), read.offset()), (None, whole));
    }

    proptest! {
        #[test]
        fn any_payload_comes_back(payloads in prop::collection::vec((any_header(), prop::collection::vec(any::<u8>(), 0..300)), 0..8)) {
            let mut out = Vec::new();
            for (header, payload) in &payloads {
                let at = begin(&mut out);
                out.extend_from_slice(payload);
                prop_assert_eq!(finish(&mut out, at, header), size(payload.len()));
                prop_assert_eq!(out.len() % ALIGN, 0);
                // In place, over what stood there before.
                let mut room = vec![0xa5; size(payload.len()) + 8];
                room[HEADER..HEADER + payload.len()].copy_from_slice(payload);
                let n = seal(&mut room, HEADER + payload.len(), header);
                prop_assert_eq!(&room[..n], &out[at..]);
                prop_assert_eq!(&room[n..], [0xa5; 8]);
            }
            let read: Result<Vec<Frame<'_>>, FrameError> = frames(&out).collect();
            let read: Vec<_> = read.expect("frames").iter().map(|f| (f.header, f.payload().to_vec())).collect();
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn a_flipped_bit_is_found(header in any_header(), payload in prop::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>()) {
            let mut frame = framed(&payload, &header);
            let bit = bit.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&frame).is_err(), "bit {}", bit);
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u32..300) {
            let _ = decode(&bytes);
            let mut bytes = bytes;
            if let Some(start) = bytes.first_chunk_mut() {
                *start = length.to_le_bytes();
            }
            let mut read = frames(&bytes);
            while read.next().is_some() {}
            prop_assert!(read.offset() <= bytes.len());
        }
    }
}
