//! What is known of notices at a moment: which were taken, whose DSPs are to be told, and how far the record had been read.
//! Owns: nothing. Runs on: flush (writes), starts (read). Never: takes a file for one that is not as it was written.
//!
//! Little-endian:
//!
//! ```text
//!  0  "OUTNOTE2"
//!  8  written      u32    when, seconds since 1970
//! 12  writers      u16    then for each: epoch u32, writer u16, the last of its frames that is in it u64
//!  -  pages        u32    then each, PAGE_BYTES
//!  -  tasks        u32    then for each: kind u8, impression u8, event 18, length u16, the URL
//!  -  holds               as `holds` writes it; before "OUTNOTE2" there was none
//!  -  digest       u64    XXH3 of all before it
//! ```
use super::{seen::PAGE_BYTES, target::CALL_URL_MAX, token::Kind, told::Name};
use crate::record::{
    codec::{Block, Reader},
    digest::digest,
};

const MAGIC: &[u8; 8] = b"OUTNOTE2";
/// Of files without what is held.
const BEFORE: &[u8; 8] = b"OUTNOTE1";
/// Holds of nothing, as they are written.
const NONE_HELD: &[u8; 12] = &[0; 12];
/// Pages of a file, more than there can be.
const PAGES_MAX: usize = 1 << 24;
/// Tasks of a file, more than there are: of a start that found too many, all.
const TASKS_MAX: usize = 1 << 24;

/// Epoch and writer.
pub type Writer = (u32, u16);

/// A checkpoint as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint<'a> {
    /// When it was written, seconds since 1970.
    pub written_s: u32,
    /// The last frame of each writer that is in it; of those that are not named, none is.
    pub writers: Vec<(Writer, u64)>,
    /// Pages of [`super::seen::Seen`].
    pub pages: Vec<&'a [u8]>,
    /// DSPs that are to be told.
    pub tasks: Vec<(Name, &'a [u8])>,
    /// What [`super::holds::Holds::read`] reads.
    pub holds: &'a [u8],
}

/// Why a file is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is not as it was written")]
pub struct Garbled;

/// Writes one. `pages` appends whole pages, one behind the other, `holds` what is held.
pub fn write<'t>(
    written_s: u32,
    writers: &[(Writer, u64)],
    pages: impl FnOnce(&mut Vec<u8>),
    tasks: impl Iterator<Item = (Name, &'t [u8])>,
    holds: impl FnOnce(&mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    let from = out.len();
    out.extend_from_slice(MAGIC);
    // The latest: what older ones wrote has long been read.
    let writers = &writers[writers.len().saturating_sub(usize::from(u16::MAX))..];
    Block::<6>::new().u32(written_s).u16(writers.len() as u16).end(out);
    for ((epoch, writer), seq) in writers {
        Block::<14>::new().u32(*epoch).u16(*writer).u64(*seq).end(out);
    }
    let pages_at = out.len();
    Block::<4>::new().u32(0).end(out);
    pages(out);
    let bytes = out.len() - pages_at - 4;
    debug_assert!(bytes.is_multiple_of(PAGE_BYTES));
    out[pages_at..pages_at + 4].copy_from_slice(&((bytes / PAGE_BYTES) as u32).to_le_bytes());
    let count_at = out.len();
    Block::<4>::new().u32(0).end(out);
    let mut count = 0u32;
    for (name, url) in tasks {
        count += 1;
        Block::<22>::new().u8(name.kind as u8).u8(name.imp).event(name.event).u16(url.len() as u16).end(out);
        out.extend_from_slice(url);
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    holds(out);
    let sum = digest(&out[from..]);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Reads one back.
///
/// # Errors
/// [`Garbled`]
pub fn read(bytes: &[u8]) -> Result<Checkpoint<'_>, Garbled> {
    let (said, sum) = bytes.split_last_chunk::<8>().ok_or(Garbled)?;
    if digest(said) != u64::from_le_bytes(*sum) {
        return Err(Garbled);
    }
    decode(said).ok_or(Garbled)
}

fn decode(said: &[u8]) -> Option<Checkpoint<'_>> {
    let mut r = Reader { rest: said };
    let magic = r.take(8).ok()?;
    if magic != MAGIC && magic != BEFORE {
        return None;
    }
    let (written_s, count) = (r.u32().ok()?, r.u16().ok()?);
    let writers = (0..count).map(|_| Some(((r.u32().ok()?, r.u16().ok()?), r.u64().ok()?))).collect::<Option<_>>()?;
    let count = usize::try_from(r.u32().ok()?).ok().filter(|n| *n <= PAGES_MAX)?;
    let pages = (0..count).map(|_| r.take(PAGE_BYTES).ok()).collect::<Option<_>>()?;
    let count = usize::try_from(r.u32().ok()?).ok().filter(|n| *n <= TASKS_MAX)?;
    let mut tasks = Vec::new();
    for _ in 0..count {
        let (kind, imp, event) = (Kind::of(r.u8().ok()?)?, r.u8().ok()?, r.event().ok()?);
        let len = r.count16(CALL_URL_MAX).ok()?;
        tasks.push((Name { event, imp, kind }, r.take(len).ok()?));
    }
    let holds = if magic == MAGIC { r.rest } else { NONE_HELD };
    if magic == BEFORE {
        r.end().ok()?;
    }
    Some(Checkpoint { written_s, writers, pages, tasks, holds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::EventId;

    #[test]
    fn it_is_read_as_it_was_written_and_not_otherwise() {
        let event = EventId { node: 1, epoch: 2, core: 3, seq: 4 };
        let tasks = [
            (Name { event, imp: 1, kind: Kind::Billed }, &b"http://dsp.example/b"[..]),
            (Name { event, imp: 0, kind: Kind::Won }, b""),
        ];
        let pages = [vec![7; PAGE_BYTES], vec![8; PAGE_BYTES]].concat();
        let writers = [((4, 0), 17), ((5, 0xffff), 3)];
        let mut out = Vec::new();
        write(9, &writers, |out| out.extend(&pages), tasks.into_iter(), |out| out.extend(b"held"), &mut out);
        let found = read(&out).unwrap();
        assert_eq!((found.written_s, &found.writers[..], &found.tasks[..]), (9, &writers[..], &tasks[..]));
        assert_eq!((found.pages.concat(), found.holds), (pages, &b"held"[..]));
        for at in 0..out.len() {
            let mut bad = out.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad), Err(Garbled), "byte {at}");
            assert_eq!(read(&out[..at]), Err(Garbled), "cut at {at}");
        }
        let mut empty = Vec::new();
        write(1, &[], |_| (), std::iter::empty(), |_| (), &mut empty);
        assert_eq!(
            read(&empty).map(|c| (c.written_s, c.writers.len(), c.pages.len(), c.tasks.len())),
            Ok((1, 0, 0, 0))
        );
        // A digest that is right does not make it one.
        let sum = digest(b"OUTNOTE2").to_le_bytes();
        assert_eq!(read(&[&b"OUTNOTE2"[..], &sum].concat()), Err(Garbled));
        // One of before is read, with nothing held.
        let old = [&b"OUTNOTE1"[..], &empty[8..empty.len() - 8]].concat();
        let sum = digest(&old).to_le_bytes();
        assert_eq!(read(&[&old[..], &sum].concat()).map(|c| c.holds), Ok(&NONE_HELD[..]));
    }
}
