//! What the file of a black box looks like, and what can still be read out of one: a ring of frames that a bidder core
//! wrote into shared memory, and that the next start finds if the process died.
//! Owns: nothing. Runs on: flush (walks over what is live), boot (reads what was left). Called by: `cores/blackbox`.
//! Never: panics on what it reads, takes a frame for one of the ring that is not. Full: a ring is as long as its header says.
//!
//! Version 1, little-endian. A header on a page of its own, then the ring:
//!
//! | at  | field | |
//! |-----|-------|-|
//! | 0   | `OUTCRYBB`   | |
//! | 8   | u32 version  | [`VERSION`]; a newer one may mean anything, so it is refused |
//! | 12  | u32 data     | where the ring begins: the size of a page |
//! | 16  | u64 size     | bytes of the ring, a multiple of a page |
//! | 24  | u32 node     | |
//! | 28  | u32 epoch    | start of the process |
//! | 32  | u16 core     | bidder core; the writer of every frame |
//! | 34  | u16          | zero |
//! | 36  | u32 pid      | of the process, for messages |
//! | 40  | 16 bytes     | boot id of the machine |
//! | 56  | u32          | zero |
//! | 60  | u32 CRC-32   | of the bytes before it |
//! | 128 | u64 head, u64 seq | bytes ever published, and the last frame's sequence number: written by the core, the number first |
//! | 256 | u64 tail, 2 x (u64 position, u64 seq) | bytes ever released, and which frame was the last one there: written by flush |
//!
//! The byte at position `p` stands at `data + p % size`. What is live is `tail..head`: whole frames, of this epoch and
//! core, in the order of their sequence. What was being written when the process died lies beyond the head and is
//! nothing.
//!
//! A death can fall between any two stores. So the tail is one store, and the sequence number that belongs to it is
//! looked up in two notes that are written in turn: the one that names this very tail was finished before the tail moved.
use super::frame::{self, Frame, FrameError, HEADER};
use std::{fmt, ops::Range};

/// First bytes of the file.
pub const MAGIC: [u8; 8] = *b"OUTCRYBB";
/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// Bytes of the header that mean something.
pub const HEADER_BYTES: usize = 512;
/// Bytes of it that never change while the ring is in use.
pub const IDENTITY_BYTES: usize = 64;
/// Where the core's positions are: a line of their own, and the one that is fetched with it.
pub const HEAD_AT: usize = 128;
/// Where flush's are.
pub const TAIL_AT: usize = 256;
/// Where the ring begins at least, and what its size is a multiple of: a page.
pub const PAGE: u64 = 4096;

const CRC_AT: usize = IDENTITY_BYTES - 4;

/// One run of the operating system: `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BootId(pub [u8; 16]);

impl BootId {
    /// Reads 32 hexadecimal digits, with hyphens anywhere.
    pub fn parse(text: &str) -> Option<BootId> {
        let digits = || text.trim().bytes().filter(|&b| b != b'-');
        let value = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        let mut id = [0; 16];
        for (at, digit) in digits().enumerate() {
            *id.get_mut(at / 2)? |= value(digit)? << if at % 2 == 0 { 4 } else { 0 };
        }
        (digits().count() == 32).then_some(BootId(id))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose ring it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The machine.
    pub node: u32,
    /// Its start.
    pub epoch: u32,
    /// The bidder core: writer of every frame.
    pub core: u16,
    /// The run of the operating system.
    pub boot: BootId,
}

/// Why a file is no ring that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BoxError {
    /// It ends early.
    #[error("{have} bytes; {need} are needed")]
    Short {
        /// Bytes there are.
        have: u64,
        /// Bytes there must be.
        need: u64,
    },
    /// It begins with something else.
    #[error("not a black box of Outcry")]
    Magic,
    /// A newer release wrote it.
    #[error("version {0}, and this release reads up to {VERSION}: start the newer release once, it empties the box")]
    Newer(u32),
    /// Its header is not what was written.
    #[error("the header is damaged: checksum {found:08x}, it says {written:08x}")]
    Checksum {
        /// What it says.
        written: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The header says what no header can say.
    #[error("the header is damaged: a ring of {size} bytes from byte {data} on")]
    Geometry {
        /// Bytes of the ring.
        size: u64,
        /// Where it begins.
        data: u32,
    },
    /// Head and tail cannot both be true.
    #[error("the header is damaged: released up to {tail}, published up to {head}, in a ring of {size} bytes")]
    Positions {
        /// Bytes ever published.
        head: u64,
        /// Bytes ever released.
        tail: u64,
        /// Bytes of the ring.
        size: u64,
    },
}

/// A header that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose ring.
    pub identity: Identity,
    /// Which process.
    pub pid: u32,
    /// Where the ring begins in the file.
    pub data: u32,
    /// Bytes of the ring.
    pub size: u64,
    /// Bytes ever published.
    pub head: u64,
    /// Sequence number of the last frame that was published, or of the one that was about to be.
    pub published: u64,
    /// Bytes ever released.
    pub tail: u64,
    /// Sequence number of the last frame that was released; `None`: neither note belongs to the tail, which is a damage
    /// that [`Walk`] cannot see past: it takes the first frame for the right one.
    pub released: Option<u64>,
}

/// The unchanging part of a header, to be written before the ring is used.
pub fn identity_bytes(identity: &Identity, pid: u32, data: u32, size: u64) -> [u8; IDENTITY_BYTES] {
    let mut bytes = [0; IDENTITY_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &MAGIC);
    put(8, &VERSION.to_le_bytes());
    put(12, &data.to_le_bytes());
    put(16, &size.to_le_bytes());
    put(24, &identity.node.to_le_bytes());
    put(28, &identity.epoch.to_le_bytes());
    put(32, &identity.core.to_le_bytes());
    put(36, &pid.to_le_bytes());
    put(40, &identity.boot.0);
    let crc = crc32fast::hash(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

impl Header {
    /// Reads the first bytes of a file, of which [`HEADER_BYTES`] are looked at; `file` is the length of all of it.
    pub fn decode(bytes: &[u8], file: u64) -> Result<Header, BoxError> {
        let short = |need: u64| Err(BoxError::Short { have: file.min(bytes.len() as u64), need });
        if bytes.len() < HEADER_BYTES {
            return short(HEADER_BYTES as u64);
        }
        if bytes[..8] != MAGIC {
            return Err(BoxError::Magic);
        }
        let version = u32_at(bytes, 8);
        if version > VERSION {
            return Err(BoxError::Newer(version));
        }
        let (written, found) = (u32_at(bytes, CRC_AT), crc32fast::hash(&bytes[..CRC_AT]));
        if written != found {
            return Err(BoxError::Checksum { written, found });
        }
        let (data, size) = (u32_at(bytes, 12), u64_at(bytes, 16));
        let pages = |n: u64| n > 0 && n.is_multiple_of(PAGE);
        // Half of what a file can have, so that no sum of positions overflows.
        if version == 0 || !pages(data.into()) || !pages(size) || size > i64::MAX as u64 / 2 {
            return Err(BoxError::Geometry { size, data });
        }
        let need = u64::from(data) + size;
        if file < need {
            return Err(BoxError::Short { have: file, need });
        }
        let (head, tail) = (u64_at(bytes, HEAD_AT), u64_at(bytes, TAIL_AT));
        let whole = |p: u64| p.is_multiple_of(frame::ALIGN as u64);
        if tail > head || head - tail > size || !whole(head) || !whole(tail) {
            return Err(BoxError::Positions { head, tail, size });
        }
        let identity = Identity {
            node: u32_at(bytes, 24),
            epoch: u32_at(bytes, 28),
            core: u16::from_le_bytes(array(bytes, 32)),
            boot: BootId(array(bytes, 40)),
        };
        let note = |n: usize| (u64_at(bytes, TAIL_AT + 8 + 16 * n), u64_at(bytes, TAIL_AT + 16 + 16 * n));
        let released = [note(0), note(1)].into_iter().find(|note| note.0 == tail).map(|note| note.1);
        let published = u64_at(bytes, HEAD_AT + 8);
        Ok(Header { identity, pid: u32_at(bytes, 36), data, size, head, published, tail, released })
    }

    /// Where the live bytes are in the file: one range, or the end of the ring and its beginning.
    pub fn live(&self) -> [Range<u64>; 2] {
        let (data, len) = (u64::from(self.data), self.head - self.tail);
        let from = self.tail % self.size;
        let first = len.min(self.size - from);
        [data + from..data + from + first, data..data + len - first]
    }

    /// Reads out the live bytes, put together of the two ranges of [`Header::live`].
    pub fn walk<'a>(&self, live: &'a [u8]) -> Walk<'a> {
        Walk::new(live, self.identity, self.released)
    }
}

/// Who made a box, of a header that need not be good: for messages. 0: not known.
pub fn pid(header: &[u8]) -> u32 {
    if header.len() >= IDENTITY_BYTES && header[..8] == MAGIC { u32_at(header, 36) } else { 0 }
}

/// A whole file in memory: its header and its live bytes.
pub fn image(file: &[u8]) -> Result<(Header, Vec<u8>), BoxError> {
    let header = Header::decode(file, file.len() as u64)?;
    let live = header.live().map(|r| &file[r.start as usize..r.end as usize]);
    Ok((header, live.concat()))
}

/// Why frames are missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Why {
    /// What stands there is no frame.
    #[error("{0}")]
    Frame(FrameError),
    /// A frame of another core or another start.
    #[error("a frame of core {writer} in epoch {epoch}")]
    Foreign {
        /// Its epoch.
        epoch: u32,
        /// Its core.
        writer: u16,
    },
    /// A frame that was there before: an older round of the ring.
    #[error("frame {0}, which is an old one")]
    Stale(u64),
    /// Every frame is whole, but some are not there.
    #[error("a gap")]
    Gap,
}

/// A place in a ring where something is not as it was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Offset in the live bytes.
    pub at: usize,
    /// Bytes that could not be read.
    pub bytes: usize,
    /// Sequence number of the last good frame before it; 0: none.
    pub after: u64,
    /// Sequence number of the first good frame behind it; `None`: there is none.
    pub next: Option<u64>,
    /// What stands there.
    pub why: Why,
}

impl Damage {
    /// Frames that are lost for certain; behind the last good frame nobody knows how many there were.
    pub fn lost(&self) -> u64 {
        self.next.map_or(1, |next| next.saturating_sub(self.after).saturating_sub(1))
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { at, bytes, after, next, why } = self;
        write!(f, "{bytes} bytes at {at}, behind frame {after}: {why}; ")?;
        match next {
            Some(next) => write!(f, "goes on with frame {next}, {} lost", self.lost()),
            None => write!(f, "nothing good behind it"),
        }
    }
}

/// The frames among the live bytes of a ring, in their order, and the places between them that are damaged. Behind
/// damage it goes on with the first whole frame of this ring and a later sequence number.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    live: &'a [u8],
    at: usize,
    identity: Identity,
    /// Sequence number of the last good frame; `None`: any may be the first.
    last: Option<u64>,
    /// Bytes that may still be summed in search of a frame: linear, whatever stands there.
    budget: usize,
}

impl<'a> Walk<'a> {
    /// Over the live bytes of the ring of `identity`, from behind frame `last` on; `None` if that is not known.
    pub fn new(live: &'a [u8], identity: Identity, last: Option<u64>) -> Walk<'a> {
        Walk { live, at: 0, identity, last, budget: live.len().saturating_mul(8) }
    }

    /// Bytes walked over so far.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Sequence number of the last good frame.
    pub fn seq(&self) -> Option<u64> {
        self.last
    }

    /// The frame at `at`, if it is one of this ring and not an old one.
    fn read(&self, at: usize) -> Result<Frame<'a>, Why> {
        let frame = frame::decode(&self.live[at..]).map_err(Why::Frame)?;
        let frame::Header { seq, epoch, writer, .. } = frame.header;
        if (epoch, writer) != (self.identity.epoch, self.identity.core) {
            return Err(Why::Foreign { epoch, writer });
        }
        if seq == 0 || self.last.is_some_and(|last| seq <= last) {
            return Err(Why::Stale(seq));
        }
        Ok(frame)
    }

    /// Takes what summing the frame at `at` costs off the budget; `None` if there is not so much left.
    fn spend(&mut self, at: usize) -> Option<()> {
        let claimed = self.live.get(at..at + HEADER).map_or(0, |header| u32_at(header, 0) as usize);
        let cost = if claimed > self.live.len() - at { 0 } else { claimed };
        self.budget = self.budget.checked_sub(cost)?;
        Some(())
    }

    /// Could a frame of this ring begin at `at`? Looked at before it is summed.
    fn likely(&self, at: usize) -> bool {
        let Some(header) = self.live.get(at..at + HEADER) else { return false };
        let (seq, epoch, writer) = (u64_at(header, 8), u32_at(header, 16), u16::from_le_bytes(array(header, 20)));
        let most = (self.live.len() / HEADER) as u64 + 1;
        let ahead = |last: u64| seq.checked_sub(last).is_some_and(|ahead| (1..=most).contains(&ahead));
        (epoch, writer) == (self.identity.epoch, self.identity.core) && self.last.is_none_or(ahead)
    }

    /// Where the next good frame begins behind what is none at `bad`, and its sequence number.
    fn resume(&mut self, bad: usize) -> Option<(usize, u64)> {
        self.spend(bad)?;
        // Most likely a payload is damaged and its length is not: then the frame behind it is the next but one. A length
        // that is wrong may lead to any frame, and those before that would be lost.
        let len = self.live.get(bad..bad + 4).map_or(0, |_| frame::padded(u32_at(self.live, bad) as usize));
        let behind = (len >= HEADER).then_some(bad + len);
        let expected = self.last.and_then(|last| last.checked_add(2));
        if let Some(at) = behind.filter(|&at| self.likely(at) && Some(u64_at(self.live, at + 8)) == expected)
            && let Some(found) = self.good(at)
        {
            return Some(found);
        }
        (bad + frame::ALIGN..self.live.len()).step_by(frame::ALIGN).find_map(|at| self.good(at))
    }

    /// The place and the number of the frame at `at`, if there is a good one, and the budget allows to look.
    fn good(&mut self, at: usize) -> Option<(usize, u64)> {
        if !self.likely(at) {
            return None;
        }
        self.spend(at)?;
        self.read(at).ok().map(|frame| (at, frame.header.seq))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Result<Frame<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        if at == self.live.len() {
            return None;
        }
        let after = self.last.unwrap_or(0);
        let damage = match self.read(at) {
            Ok(frame) => {
                let seq = frame.header.seq;
                // Not known: whatever is first.
                if self.last.is_none_or(|last| last.checked_add(1) == Some(seq)) {
                    self.last = Some(seq);
                    self.at += frame.bytes.len();
                    return Some(Ok(frame));
                }
                Damage { at, bytes: 0, after, next: Some(seq), why: Why::Gap }
            }
            Err(why) => {
                let resumed = self.resume(at);
                let to = resumed.map_or(self.live.len(), |(to, _)| to);
                Damage { at, bytes: to - at, after, next: resumed.map(|(_, seq)| seq), why }
            }
        };
        self.at += damage.bytes;
        // The frame that it goes on with is the next one then, and no gap of its own.
        self.last = damage.next.map(|seq| seq - 1).or(self.last);
        Some(Err(damage))
    }
}

#[cfg(test)]
#[path = "blackbox_tests.rs"]
mod tests;
