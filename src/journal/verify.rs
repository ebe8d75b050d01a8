//! A whole directory: is everything there, in its place, as it was written?
//! Owns: what was seen so far. Runs on: `outcry audit verify`, tests. Called by: whoever has the files, in the order of
//! their numbers. Never: stops at the first finding.
//!
//! What it cannot see: an alteration of the last segment by someone who makes all checksums anew. Each earlier one is held
//! by the digest in the header that follows it.
use super::{
    PAGE,
    block::BlockHeader,
    bytes::zero,
    checkpoint::Checkpoint,
    digest::Digester,
    positions::{Follow, Key, Positions},
    reader::{Damage, Item, Known, OpenError, SegmentReader, Source, Torn},
    segment::{Digest, HeaderError, SegmentHeader},
};
use crate::record::frame::{self, FrameError};

/// Something that is not as it should be, or worth a word.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Finding {
    /// Files are not there.
    #[error("segments {from} to {to} are missing: restore their files from a copy")]
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A header that cannot be read.
    #[error("segment {segment}, offset 0: {why}")]
    Header {
        /// By its name.
        segment: u64,
        /// Why.
        why: HeaderError,
    },
    /// A file under another's name.
    #[error("the file of segment {named} holds segment {holds} of node {node:08x}: it was swapped or renamed")]
    Swapped {
        /// By its name.
        named: u64,
        /// By its header.
        holds: u64,
        /// By its header.
        node: u32,
    },
    /// Not the bytes that the next segment vouches for.
    #[error(
        "segment {segment} was altered after it was written: its digest is not the one that segment {by} holds; restore it from a copy"
    )]
    Altered {
        /// The segment.
        segment: u64,
        /// Who vouches.
        by: u64,
    },
    /// Blocks do not go on where the segment before ended.
    #[error("segment {segment} begins with block {found}; block {expected} would follow")]
    Unchained {
        /// The segment.
        segment: u64,
        /// By the one before.
        expected: u64,
        /// By its header.
        found: u64,
    },
    /// Blocks that were durable and cannot be read.
    #[error(
        "segment {}, offset {} to {}: damaged, {} blocks from number {} are lost: {}",
        .0.segment, .0.at, .0.end, .0.blocks, .0.block, .0.why
    )]
    Damaged(Damage),
    /// A good block that holds something else than it says.
    #[error("segment {segment}, offset {at}: a block holds what is no frame, or not as many as it says{}", .why.map_or(String::new(), |w| format!(": {w}")))]
    Frames {
        /// The segment.
        segment: u64,
        /// Where the block begins.
        at: u64,
        /// Of the first that is none.
        why: Option<FrameError>,
    },
    /// Frames are missing.
    #[error("segment {segment}: writer {} of epoch {}: frames {expected} to {} are missing", .key.1, .key.0, .found - 1)]
    Gap {
        /// Where the gap shows.
        segment: u64,
        /// Whose.
        key: Key,
        /// The first that is missing.
        expected: u64,
        /// The next that is there.
        found: u64,
    },
    /// A frame is there twice.
    #[error("segment {segment}: writer {} of epoch {}: frame {seq} is there twice", .key.1, .key.0)]
    Repeated {
        /// Where the second one is.
        segment: u64,
        /// Whose.
        key: Key,
        /// Its number.
        seq: u64,
    },
    /// The checkpoint knows more than is there.
    #[error(
        "the journal ends with block {found}; the checkpoint says that block {expected} was durable: its end was cut off"
    )]
    CutOff {
        /// By the checkpoint.
        expected: u64,
        /// The last there is.
        found: u64,
    },
    /// What was under way when the process or the machine died.
    #[error("segment {segment}, offset {at}: {} bytes were being written when it ended and do not count", .torn.bytes)]
    Torn {
        /// The segment.
        segment: u64,
        /// Where.
        at: u64,
        /// What.
        torn: Torn,
    },
    /// A segment whose header was under way when the power failed.
    #[error(
        "segment {segment}: its header was being written when it ended; nothing is in it, the next start replaces it"
    )]
    Unbegun {
        /// Its number.
        segment: u64,
    },
    /// A segment made in advance.
    #[error("segment {segment} was made in advance and not begun")]
    Spare {
        /// Its number.
        segment: u64,
    },
}

impl Finding {
    /// Is it as it should be, and only worth a word?
    pub fn harmless(&self) -> bool {
        matches!(self, Finding::Torn { .. } | Finding::Spare { .. } | Finding::Unbegun { .. })
    }
}

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Segments read.
    pub segments: u64,
    /// Blocks, seals among them.
    pub blocks: u64,
    /// Frames.
    pub frames: u64,
    /// Bytes that count.
    pub bytes: u64,
}

/// Follows every writer's numbers through a journal.
#[derive(Clone, Debug, Default)]
pub struct Track {
    positions: Positions,
    /// The journal was let go up to here: who is met for the first time may begin with any number.
    midway: bool,
}

impl Track {
    /// `first_segment`: the first that is read.
    pub fn new(first_segment: u64) -> Track {
        Track { positions: Positions::default(), midway: first_segment > 1 }
    }

    /// Notes a frame; says how it follows.
    pub fn frame(&mut self, header: &frame::Header) -> Follow {
        let key = (header.epoch, header.writer);
        let fresh = self.midway && !self.positions.has(key);
        let follow = self.positions.follow(key, header.seq);
        self.positions.raise(key, header.seq);
        if fresh { Follow::Next } else { follow }
    }

    /// How far each writer has come.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }
}

/// See the module.
#[derive(Debug)]
pub struct Verify {
    checkpoint: Option<Checkpoint>,
    track: Option<Track>,
    /// How the segment before ends: its number, the block that follows.
    before: Option<(u64, u64)>,
    expected: u64,
    /// The last block read.
    last_block: u64,
    seen: Seen,
    findings: Vec<Finding>,
}

impl Verify {
    /// With what the checkpoint says, if there is one.
    pub fn new(checkpoint: Option<Checkpoint>) -> Verify {
        let expected = checkpoint.as_ref().map_or(0, |c| c.first_segment);
        Verify {
            checkpoint,
            track: None,
            before: None,
            expected,
            last_block: 0,
            seen: Seen::default(),
            findings: Vec::new(),
        }
    }

    /// The next file: its node and segment by its name; its bytes; the header of the file after it.
    ///
    /// # Errors
    /// What the medium says.
    pub fn segment<S: Source>(
        &mut self,
        (node, named): (u32, u64),
        mut source: S,
        after: Option<&SegmentHeader>,
    ) -> Result<(), S::Error> {
        if self.expected > 0 && named > self.expected {
            self.findings.push(Finding::Missing { from: self.expected, to: named - 1 });
            self.before = None;
        }
        self.expected = named + 1;
        let after = after.filter(|a| a.segment == named + 1);
        let end = after.map(|a| a.previous.end);
        let confirmed = self.checkpoint.as_ref().filter(|c| c.durable.segment == named).map_or(0, |c| c.durable.block);
        let mut reader = match SegmentReader::open(&mut source, Known { end, confirmed }) {
            Ok(reader) => reader,
            Err(OpenError::Source(e)) => return Err(e),
            Err(OpenError::Header(HeaderError::Empty)) if after.is_none() && confirmed == 0 => {
                self.findings.push(Finding::Spare { segment: named });
                return Ok(());
            }
            Err(OpenError::Header(why)) => {
                let torn = matches!(why, HeaderError::Magic | HeaderError::Checksum { .. });
                let unbegun = torn && after.is_none() && confirmed == 0 && blank(&mut source)?;
                self.findings.push(match unbegun {
                    true => Finding::Unbegun { segment: named },
                    false => Finding::Header { segment: named, why },
                });
                self.before = None;
                return Ok(());
            }
        };
        let header = *reader.header();
        if (header.node, header.segment) != (node, named) {
            self.findings.push(Finding::Swapped { named, holds: header.segment, node: header.node });
            self.before = None;
            return Ok(());
        }
        if let Some((_, expected)) = self.before.filter(|(_, next)| *next != header.first_block) {
            self.findings.push(Finding::Unchained { segment: named, expected, found: header.first_block });
        }
        let track = self.track.get_or_insert_with(|| Track::new(named));
        self.seen.segments += 1;
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Damage(damage) => self.findings.push(Finding::Damaged(damage)),
                Item::Block(at, block) => {
                    self.seen.blocks += 1;
                    if !block.header.seal {
                        frames(track, &block.header, at, block.payload, &mut self.seen, &mut self.findings);
                    }
                }
            }
        }
        let ending = reader.ending();
        self.seen.bytes += ending.end;
        self.last_block = ending.next_block - 1;
        if let Some(torn) = ending.torn {
            self.findings.push(Finding::Torn { segment: named, at: ending.end, torn });
        }
        self.before = Some((named, ending.next_block));
        if let Some(after) = after
            && digest(&mut source, after.previous.end)? != Some(after.previous.digest)
        {
            self.findings.push(Finding::Altered { segment: named, by: after.segment });
        }
        Ok(())
    }

    /// What was found, and what was counted.
    pub fn finish(mut self) -> (Vec<Finding>, Seen) {
        if let Some(c) = &self.checkpoint {
            if c.durable.segment >= self.expected.max(1) && c.durable.block > 0 {
                let from = self.expected.max(1);
                self.findings.push(Finding::Missing { from, to: c.durable.segment });
            } else if self.last_block < c.durable.block {
                self.findings.push(Finding::CutOff { expected: c.durable.block, found: self.last_block });
            }
        }
        (self.findings, self.seen)
    }
}

/// Follows the frames of a block.
fn frames(
    track: &mut Track,
    header: &BlockHeader,
    at: u64,
    payload: &[u8],
    seen: &mut Seen,
    findings: &mut Vec<Finding>,
) {
    let segment = header.segment;
    let mut n = 0;
    let mut why = None;
    for frame in frame::frames(payload) {
        let frame = match frame {
            Ok(frame) => frame,
            Err(e) => {
                why = Some(e);
                break;
            }
        };
        n += 1;
        let key = (frame.header.epoch, frame.header.writer);
        match track.frame(&frame.header) {
            Follow::Next => {}
            Follow::Known => findings.push(Finding::Repeated { segment, key, seq: frame.header.seq }),
            Follow::Gap { expected } => {
                findings.push(Finding::Gap { segment, key, expected, found: frame.header.seq });
            }
        }
    }
    seen.frames += u64::from(n);
    if why.is_some() || n != header.frames {
        findings.push(Finding::Frames { segment, at, why });
    }
}

/// Is nothing behind the first page? A header is durable before anything else of its segment is written.
///
/// # Errors
/// What the medium says.
pub fn blank<S: Source>(source: &mut S) -> Result<bool, S::Error> {
    let mut piece = vec![0; 1 << 20];
    let (mut at, end) = (PAGE as u64, source.len());
    while at < end {
        let n = (end - at).min(piece.len() as u64) as usize;
        source.read(at, &mut piece[..n])?;
        if !zero(&piece[..n]) {
            return Ok(false);
        }
        at += n as u64;
    }
    Ok(true)
}

/// The digest of the first `end` bytes, see [`super::digest`]; `None`: there are fewer.
///
/// # Errors
/// What the medium says.
pub fn digest<S: Source>(source: &mut S, end: u64) -> Result<Option<Digest>, S::Error> {
    if end > source.len() {
        return Ok(None);
    }
    let mut digester = Digester::default();
    let mut piece = vec![0; end.min(1 << 20) as usize];
    let mut at = 0;
    while at < end {
        let n = (end - at).min(1 << 20) as usize;
        source.read(at, &mut piece[..n])?;
        digester.add(0, at, &piece[..n]);
        at += n as u64;
    }
    Ok(Some(digester.end()))
}
