//! Indices beside their segments: made when they are missing, asked before a segment is read.
//! Owns: nothing. Called by: `outcry audit`, and whoever has time once a segment has ended. May block. Never: takes an index's
//! word for a frame: it is read, checked, and asked for its keys.
use super::{
    dir::Dir,
    disk::{FileIn, Files},
};
use outcry::{
    journal::{
        block::{self, BLOCK_HEADER},
        index::{Builder, Index, Place, hash},
        reader::{Item, Known, OpenError, SegmentReader, Source},
        segment::{FileKind, HEADER_BYTES, SegmentHeader, file_name, parse_file_name},
    },
    record::frame::{self, Frame},
};
use std::{fs, io, path::Path};

/// Hands out what a frame can be looked up by: of an auction, its request's id.
pub type Keys<'a> = &'a dyn Fn(&Frame<'_>, &mut dyn FnMut(&[u8]));

/// A frame that was looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Its segment.
    pub segment: u64,
    /// Where it begins in the segment.
    pub offset: u64,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Frames of one key that are returned.
const HITS_MAX: usize = 10_000;

struct File {
    segment: u64,
    bytes: u64,
    header: Option<SegmentHeader>,
}

/// The frames of `node` with this key, in the order in which they were written. Segments that have ended and have no index get
/// one, where this user may write; that reads them whole, once.
///
/// # Errors
/// The directory or a segment cannot be read.
pub fn find(path: &Path, node: u32, key: &[u8], keys: Keys<'_>) -> io::Result<Vec<Hit>> {
    let mut dir = Dir::new(path);
    let mut files = Vec::new();
    for (name, bytes) in dir.list()? {
        if let Some((FileKind::Segment, n, segment)) = parse_file_name(&name)
            && n == node
        {
            let mut page = vec![0; bytes.min(HEADER_BYTES as u64) as usize];
            dir.read(&name, 0, &mut page)?;
            files.push(File { segment, bytes, header: SegmentHeader::decode(&page).ok() });
        }
    }
    files.sort_unstable_by_key(|f| f.segment);
    let mut hits = Vec::new();
    for (i, file) in files.iter().enumerate() {
        let Some(header) = file.header.filter(|h| h.segment == file.segment) else { continue };
        let after = files.get(i + 1).and_then(|f| f.header).filter(|h| h.segment == file.segment + 1);
        let end = after.map(|h| h.previous.end);
        let places = match end.and_then(|end| indexed(&mut dir, node, file.segment, end, key)) {
            Some(places) => places,
            None => {
                let builder = read(&mut dir, node, file, end, keys)?;
                let bytes = builder.finish(node, file.segment, end.unwrap_or(0));
                let places = Index::open(&bytes[..]).ok().and_then(|mut i| i.find(hash(key), HITS_MAX).ok());
                if end.is_some() {
                    // Without it the next one who asks reads the segment again.
                    let _ = write(path, node, file.segment, &bytes);
                }
                places.unwrap_or_default()
            }
        };
        for place in places {
            hits.extend(hit(&mut dir, node, file, &header, place, key, keys)?);
        }
    }
    hits.truncate(HITS_MAX);
    Ok(hits)
}

/// Makes the index of a segment that has ended at `end`, from the segment.
///
/// # Errors
/// The segment cannot be read, or the index not be written.
pub fn make(path: &Path, node: u32, segment: u64, end: u64, keys: Keys<'_>) -> io::Result<()> {
    let bytes = fs::metadata(path.join(file_name(FileKind::Segment, node, segment)))?.len();
    let file = File { segment, bytes, header: None };
    let builder = read(&mut Dir::new(path), node, &file, Some(end), keys)?;
    write(path, node, segment, &builder.finish(node, segment, end))
}

/// What the index says; `None`: it is missing, damaged, or of another state of the segment.
fn indexed(dir: &mut Dir, node: u32, segment: u64, end: u64, key: &[u8]) -> Option<Vec<Place>> {
    let name = file_name(FileKind::Index, node, segment);
    let bytes = fs::metadata(dir.path().join(&name)).ok()?.len();
    let mut index = Index::open(FileIn { files: dir, name: &name, bytes }).ok()?;
    let header = index.header();
    let same = (header.node, header.segment, header.end) == (node, segment, end);
    if same { index.find(hash(key), HITS_MAX).ok() } else { None }
}

fn read(dir: &mut Dir, node: u32, file: &File, end: Option<u64>, keys: Keys<'_>) -> io::Result<Builder> {
    let name = file_name(FileKind::Segment, node, file.segment);
    let mut builder = Builder::default();
    let source = FileIn { files: dir, name: &name, bytes: file.bytes };
    let mut reader = match SegmentReader::open(source, Known { end, confirmed: 0 }) {
        Ok(reader) => reader,
        Err(OpenError::Source(e)) => return Err(e),
        // `outcry audit verify` names it.
        Err(OpenError::Header(_)) => return Ok(builder),
    };
    while let Some(item) = reader.next_item()? {
        let Item::Block(at, block) = item else { continue };
        if block.header.seal {
            continue;
        }
        let mut frames = frame::frames(block.payload);
        loop {
            let place = Place { block: at, frame: (BLOCK_HEADER + frames.offset()) as u32 };
            let Some(Ok(frame)) = frames.next() else { break };
            keys(&frame, &mut |key| builder.add(key, place));
        }
    }
    Ok(builder)
}

/// The frame at a place, if it has the key.
fn hit(
    dir: &mut Dir,
    node: u32,
    file: &File,
    header: &SegmentHeader,
    place: Place,
    key: &[u8],
    keys: Keys<'_>,
) -> io::Result<Option<Hit>> {
    let name = file_name(FileKind::Segment, node, file.segment);
    let mut source = FileIn { files: dir, name: &name, bytes: file.bytes };
    let left = source.len().saturating_sub(place.block);
    let mut bytes = vec![0; left.min(BLOCK_HEADER as u64) as usize];
    source.read(place.block, &mut bytes)?;
    let Ok(length) = block::length(&bytes) else { return Ok(None) };
    bytes.resize((length as u64).min(left) as usize, 0);
    source.read(place.block, &mut bytes)?;
    let Ok(_) = block::decode(&bytes, header.salt) else { return Ok(None) };
    let Some(Ok(frame)) = bytes.get(place.frame as usize..).map(frame::decode) else { return Ok(None) };
    let mut has = false;
    keys(&frame, &mut |k| has |= k == key);
    let offset = place.block + u64::from(place.frame);
    Ok(has.then(|| Hit { segment: file.segment, offset, bytes: frame.bytes.to_vec() }))
}

fn write(path: &Path, node: u32, segment: u64, bytes: &[u8]) -> io::Result<()> {
    let name = path.join(file_name(FileKind::Index, node, segment));
    let beside = name.with_extension("idx.new");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, &name)
}
