//! The journal read while it is written: blocks up to where flush says that they are durable.
//! Owns: a window on one segment. Runs on: the shipper's thread. Called by: it. Never: reads what is not durable; passes over a
//! place without naming it.
use crate::journal::disk::Files;
use outcry::{
    journal::{
        PAGE,
        block::{self, BLOCK_BYTES_MAX, Block, BlockError},
        segment::{FileKind, HEADER_BYTES, SegmentHeader, file_name, parse_file_name},
    },
    ship::{
        cursor::Position,
        shipper::{Blocks, Trouble},
    },
};
use std::io::ErrorKind;

/// Read at once.
const WINDOW: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub struct Tail<F> {
    files: F,
    node: u32,
    /// The segment that is read, and where it ends if it has ended.
    open: Option<(SegmentHeader, Option<u64>)>,
    /// Bytes of it, from this place on.
    window: Vec<u8>,
    at: u64,
}

/// Why a read did not come to a block.
enum Stop {
    Disk(std::io::Error),
    Wrong,
}

impl<F: Files> Tail<F> {
    /// Of a node's journal.
    pub fn new(files: F, node: u32) -> Tail<F> {
        Tail { files, node, open: None, window: Vec::new(), at: 0 }
    }

    /// Bytes of the journal between two places, as far as its files can be seen.
    pub fn between(&mut self, from: Position, to: Position) -> u64 {
        if from.segment == to.segment {
            return to.offset.saturating_sub(from.offset);
        }
        let files = self.files.list().unwrap_or_default();
        let bytes = files.into_iter().filter_map(|(name, bytes)| match parse_file_name(&name) {
            Some((FileKind::Segment, node, segment)) if node == self.node && segment < to.segment => {
                match segment.cmp(&from.segment) {
                    std::cmp::Ordering::Less => None,
                    std::cmp::Ordering::Equal => Some(bytes.saturating_sub(from.offset)),
                    std::cmp::Ordering::Greater => Some(bytes),
                }
            }
            _ => None,
        });
        bytes.sum::<u64>() + to.offset
    }

    fn name(&self, segment: u64) -> String {
        file_name(FileKind::Segment, self.node, segment)
    }

    fn header(&mut self, segment: u64) -> Result<SegmentHeader, Stop> {
        let mut page = vec![0; HEADER_BYTES];
        let name = self.name(segment);
        self.files.read(&name, 0, &mut page).map_err(Stop::Disk)?;
        SegmentHeader::decode(&page).map_err(|_| Stop::Wrong)
    }

    /// The first segment from `segment` on that is there.
    fn first(&mut self, segment: u64) -> Result<Option<u64>, Trouble> {
        let files = self.files.list().map_err(|e| Trouble::Disk(e.to_string()))?;
        let of = |(name, _): (String, u64)| match parse_file_name(&name) {
            Some((FileKind::Segment, node, segment)) if node == self.node => Some(segment),
            _ => None,
        };
        Ok(files.into_iter().filter_map(of).filter(|there| *there >= segment).min())
    }

    /// Where a segment ends that is not the last: the one behind it says so.
    fn end(&mut self, segment: u64) -> Result<u64, Stop> {
        match self.header(segment + 1) {
            Ok(next) if next.segment == segment + 1 => Ok(next.previous.end),
            Ok(_) => Err(Stop::Wrong),
            Err(why) => Err(why),
        }
    }

    /// The block at this place of the open segment, of which bytes up to `end` count; how long it is.
    fn block(&mut self, salt: u64, at: Position, end: u64, frames: &mut Vec<u8>) -> Result<u64, Stop> {
        self.fill(at, end, PAGE)?;
        let from = (at.offset - self.at) as usize;
        let page = self.window.get(from..).ok_or(Stop::Wrong)?;
        let bytes = block::length(page).map_err(|_| Stop::Wrong)?;
        if at.offset + bytes as u64 > end {
            return Err(Stop::Wrong);
        }
        self.fill(at, end, bytes)?;
        let from = (at.offset - self.at) as usize;
        let bytes = self.window.get(from..from + bytes).ok_or(Stop::Wrong)?;
        let Block { header, payload, .. } = block::decode(bytes, salt).map_err(|_: BlockError| Stop::Wrong)?;
        if header.segment != at.segment {
            return Err(Stop::Wrong);
        }
        if !header.seal {
            frames.extend_from_slice(payload);
        }
        Ok(bytes.len() as u64)
    }

    /// Has `bytes` from `at` on in the window, as far as they are before `end`.
    fn fill(&mut self, at: Position, end: u64, bytes: usize) -> Result<(), Stop> {
        let (from, until) = (self.at, self.at + self.window.len() as u64);
        let upto = (at.offset + bytes as u64).min(end);
        if (from..=until).contains(&at.offset) && upto <= until {
            return Ok(());
        }
        let most = (end - at.offset).min(WINDOW.max(bytes) as u64) as usize;
        self.window.resize(most.min(BLOCK_BYTES_MAX), 0);
        self.at = at.offset;
        let name = self.name(at.segment);
        self.files.read(&name, at.offset, &mut self.window).map_err(|why| {
            self.window.clear();
            Stop::Disk(why)
        })
    }

    /// The next place behind `at` where a block begins, or the end.
    fn behind(&mut self, salt: u64, at: Position, end: u64) -> Position {
        let mut next = at.offset + PAGE as u64;
        while next < end {
            let there = Position { offset: next, ..at };
            if self.block(salt, there, end, &mut Vec::new()).is_ok() {
                return there;
            }
            next += PAGE as u64;
        }
        Position { offset: end, ..at }
    }
}

impl<F: Files> Blocks for Tail<F> {
    fn read(&mut self, from: Position, durable: Position, frames: &mut Vec<u8>) -> Result<Option<Position>, Trouble> {
        let mut at = from;
        loop {
            if at.segment > durable.segment || at.segment == durable.segment && at.offset >= durable.offset {
                return Ok(None);
            }
            // Nothing was sent yet: from what is there.
            if at.segment == 0 {
                let Some(segment) = self.first(1)? else { return Ok(None) };
                at = Position { segment, offset: HEADER_BYTES as u64 };
                continue;
            }
            let (header, known) = match self.open.filter(|(header, _)| header.segment == at.segment) {
                Some(open) => open,
                None => {
                    self.window.clear();
                    match self.header(at.segment) {
                        Ok(header) => (header, None),
                        Err(Stop::Disk(e)) if e.kind() == ErrorKind::NotFound => {
                            let next = self.first(at.segment)?.unwrap_or(durable.segment);
                            return Err(Trouble::Gone(Position { segment: next, offset: HEADER_BYTES as u64 }));
                        }
                        Err(Stop::Disk(e)) => return Err(Trouble::Disk(e.to_string())),
                        // Without a header no block can be told from what stood there before.
                        Err(Stop::Wrong) => {
                            let next = Position { segment: at.segment + 1, offset: HEADER_BYTES as u64 };
                            return Err(Trouble::Damaged(next));
                        }
                    }
                }
            };
            let ended = if at.segment < durable.segment { known } else { Some(durable.offset) };
            let end = match ended {
                Some(end) => end,
                None => match self.end(at.segment) {
                    Ok(end) => end,
                    Err(Stop::Disk(e)) => return Err(Trouble::Disk(e.to_string())),
                    Err(Stop::Wrong) => {
                        let next = Position { segment: at.segment + 1, offset: HEADER_BYTES as u64 };
                        return Err(Trouble::Damaged(next));
                    }
                },
            };
            self.open = Some((header, (at.segment < durable.segment).then_some(end)));
            if at.offset >= end {
                at = Position { segment: at.segment + 1, offset: HEADER_BYTES as u64 };
                continue;
            }
            match self.block(header.salt, at, end, frames) {
                Ok(bytes) => return Ok(Some(Position { offset: at.offset + bytes, ..at })),
                Err(Stop::Disk(e)) if e.kind() == ErrorKind::NotFound => {
                    self.open = None;
                    return Err(Trouble::Disk(e.to_string()));
                }
                Err(Stop::Disk(e)) => return Err(Trouble::Disk(e.to_string())),
                Err(Stop::Wrong) => return Err(Trouble::Damaged(self.behind(header.salt, at, end))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
