//! Indices beside their segments: made from a segment that has ended, opened where they are sound.
//! Owns: nothing. Called by: `outcry audit`, and whoever has time once a segment has ended. May block. Never: writes an index of
//! a segment that is damaged, so that whoever looks there is told.
use super::{
    dir::Dir,
    disk::{FileIn, Files},
};
use outcry::{
    journal::{
        block::BLOCK_HEADER,
        index::{Builder, Index, Place},
        reader::{Damage, Item, Known, OpenError, SegmentReader, Source},
        segment::{FileKind, file_name},
    },
    record::frame::{self, Frame},
};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// Hands out what a frame can be looked up by: [`outcry::record::keys::keys`].
pub type Keys<'a> = &'a dyn Fn(&Frame<'_>, &mut dyn FnMut(&[u8]));

/// Makes the index of a segment that has ended at `end`, from the segment.
///
/// # Errors
/// The segment cannot be read or is damaged, or the index not be written.
pub fn make(path: &Path, node: u32, segment: u64, end: u64, keys: Keys<'_>) -> io::Result<()> {
    let name = file_name(FileKind::Segment, node, segment);
    let bytes = fs::metadata(path.join(&name))?.len();
    let (builder, damages) = build(FileIn { files: &mut Dir::new(path), name: &name, bytes }, end, keys)?;
    if let Some(d) = damages.first() {
        let what = format!("segment {segment}, offset {} to {}: damaged: {}", d.at, d.end, d.why);
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    write(path, node, segment, &builder.finish(node, segment, end))
}

/// Reads a segment that has ended at `end`, for its index.
///
/// # Errors
/// It cannot be read. Without a header it has no frames and no damage: `outcry audit verify` names it.
pub fn build<S: Source<Error = io::Error>>(source: S, end: u64, keys: Keys<'_>) -> io::Result<(Builder, Vec<Damage>)> {
    let (mut builder, mut damages) = (Builder::default(), Vec::new());
    let mut reader = match SegmentReader::open(source, Known { end: Some(end), confirmed: 0 }) {
        Ok(reader) => reader,
        Err(OpenError::Source(e)) => return Err(e),
        Err(OpenError::Header(_)) => return Ok((builder, damages)),
    };
    while let Some(item) = reader.next_item()? {
        let (at, block) = match item {
            Item::Damage(damage) => {
                damages.push(damage);
                continue;
            }
            Item::Block(_, block) if block.header.seal => continue,
            Item::Block(at, block) => (at, block),
        };
        builder.times(block.header.first_hlc, block.header.last_hlc);
        let mut frames = frame::frames(block.payload);
        loop {
            let place = Place { block: at, frame: (BLOCK_HEADER + frames.offset()) as u32 };
            let Some(Ok(frame)) = frames.next() else { break };
            keys(&frame, &mut |key| builder.add(key, place));
        }
    }
    Ok((builder, damages))
}

/// The index of a segment that ends at `end`; `None`: it is missing, damaged, or of another state of the segment.
pub fn open(dir: &mut Dir, node: u32, segment: u64, end: u64) -> Option<Index<IndexFile<'_>>> {
    let name = file_name(FileKind::Index, node, segment);
    let bytes = fs::metadata(dir.path().join(&name)).ok()?.len();
    let index = Index::open(IndexFile { dir, name, bytes }).ok()?;
    let header = index.header();
    ((header.node, header.segment, header.end) == (node, segment, end)).then_some(index)
}

/// An index's bytes.
#[derive(Debug)]
pub struct IndexFile<'a> {
    dir: &'a mut Dir,
    name: String,
    bytes: u64,
}

impl Source for IndexFile<'_> {
    type Error = io::Error;

    fn len(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.dir.read(&self.name, at, out)
    }
}

/// Puts an index beside its segment, whole or not at all.
///
/// # Errors
/// What the system says. Its file is being made by somebody else, or by somebody who was killed at it: the next start of the
/// exchange removes that.
pub fn write(path: &Path, node: u32, segment: u64, bytes: &[u8]) -> io::Result<()> {
    let beside = path.join(file_name(FileKind::Unfinished, node, segment));
    let written = File::create_new(&beside)?
        .write_all(bytes)
        .and_then(|()| fs::rename(&beside, path.join(file_name(FileKind::Index, node, segment))));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    // Let go meanwhile: then nobody removes its index any more.
    if !path.join(file_name(FileKind::Segment, node, segment)).exists() {
        let _ = fs::remove_file(path.join(file_name(FileKind::Index, node, segment)));
    }
    written
}
