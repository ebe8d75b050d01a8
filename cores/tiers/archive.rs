//! Segments back from the archive, into a directory: what reads a journal reads them.
//! Owns: the directory, if it was made for one command. Called by: `outcry tiers fetch`, `outcry audit`. Never: gives a file its
//! name before its bytes are those that were archived; takes an archived segment for whole because its sum holds: the journal's
//! own reader judges it.
use super::{Of, TiersError, listed, manifests, nodes, say, sha256, store::Store};
use crate::{audit, out::out};
use clap::Args;
use outcry::{
    journal::segment::{FileKind, file_name},
    tiers::{
        manifest::{Manifest, Segment},
        names::Batch,
        plan,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
};

#[derive(Args, Debug)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    of: Of,
    /// Where to; made if it is missing. Name it to `outcry audit` afterwards.
    dir: PathBuf,
    #[command(flatten)]
    range: audit::Range,
}

/// True: all that the manifests name is there.
pub(super) fn run(args: &FetchArgs) -> Result<bool, TiersError> {
    let store = Store::open(&args.of.url, false)?;
    let (from_ms, to_ms) = args.range.span();
    let all = listed(&store, Some(from_ms))?;
    let node = match nodes(&all, args.of.node)[..] {
        [] => return Err(TiersError::Empty(args.of.url.clone())),
        [node] => node,
        ref several => {
            return Err(TiersError::Several(several.iter().map(|n| format!("{n:08x}")).collect::<Vec<_>>().join(", ")));
        }
    };
    let batches = plan::known(all, node);
    let meets = batches.iter().map(|k| &k.batch).filter(|b| b.from_ms < to_ms && b.to_ms >= from_ms);
    let manifests = manifests(&store, meets)?;
    let wanted: Vec<&Segment> =
        manifests.iter().flat_map(|m| &m.segments).filter(|s| meet(s, from_ms, to_ms)).collect();
    fs::create_dir_all(&args.dir).map_err(|source| TiersError::Write { path: args.dir.clone(), source })?;
    bring(&store, node, wanted.iter().copied(), &args.dir)?;
    let counts = store.counts();
    out(&format!(
        "node {node:08x}: {} segments in {}; {} objects, {} bytes read\n",
        wanted.len(),
        args.dir.display(),
        counts.read,
        counts.read_bytes
    ));
    Ok(true)
}

/// Has a segment frames between two moments? What has none at all goes along: it keeps the chain whole.
fn meet(segment: &Segment, from_ms: u64, to_ms: u64) -> bool {
    segment.from_ms > segment.to_ms || segment.meets(from_ms, to_ms)
}

/// Brings segments into a directory, those that are there excepted.
fn bring<'a>(
    store: &Store,
    node: u32,
    wanted: impl IntoIterator<Item = &'a Segment>,
    dir: &Path,
) -> Result<(), TiersError> {
    // One at a time: each is as large as a file of the journal.
    for segment in wanted {
        let path = dir.join(file_name(FileKind::Segment, node, segment.segment));
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == segment.end) {
            continue;
        }
        let bytes = unpacked(store, segment)?;
        let new = dir.join(file_name(FileKind::Unfinished, node, segment.segment));
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        written.map_err(|source| TiersError::Write { path, source })?;
    }
    Ok(())
}

/// A segment's bytes as the journal had them.
pub(super) fn unpacked(store: &Store, segment: &Segment) -> Result<Vec<u8>, TiersError> {
    let wrong = |why: String| TiersError::Object { name: segment.name.clone(), why };
    let packed = store.get(&segment.name)?;
    if sha256(&packed) != segment.sha256 {
        return Err(wrong("it is not what was exported: its digest is another than its manifest's".into()));
    }
    let end = usize::try_from(segment.end).map_err(|_| wrong("it is too long for this machine".into()))?;
    let bytes = zstd::bulk::decompress(&packed, end).map_err(|e| wrong(format!("it cannot be unpacked: {e}")))?;
    if bytes.len() == end {
        Ok(bytes)
    } else {
        Err(wrong(format!("{} bytes are in it, its manifest says {end}", bytes.len())))
    }
}

/// Archived segments that a command reads, in a directory that goes with it.
#[derive(Debug)]
pub(crate) struct Archive(PathBuf);

impl Archive {
    /// An empty one, below a directory.
    pub(crate) fn new(scratch: &Path) -> Result<Archive, TiersError> {
        let path = scratch.join(format!("outcry-archive-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|source| TiersError::Write { path: path.clone(), source })?;
        Ok(Archive(path))
    }

    /// Brings segments into it, those that are there excepted.
    pub(crate) fn add<'a>(
        &self,
        store: &Store,
        node: u32,
        wanted: impl IntoIterator<Item = &'a Segment>,
    ) -> Result<(), TiersError> {
        bring(store, node, wanted, &self.0)
    }

    /// Brings the segments of these batches that have frames between two moments, and are below a number; of others the first.
    pub(crate) fn bring(
        store: &Store,
        (batches, firsts): (&[&Batch], &[Batch]),
        (from_ms, to_ms): (u64, u64),
        below: u64,
        scratch: &Path,
    ) -> Result<Archive, TiersError> {
        let whole: Vec<Manifest> = manifests(store, batches.iter().copied())?;
        let more: Vec<Manifest> = manifests(store, firsts)?;
        let all = whole.iter().flat_map(|m| &m.segments).filter(|s| meet(s, from_ms, to_ms));
        let all = all.chain(more.iter().filter_map(|m| m.segments.first()));
        let wanted: Vec<&Segment> = all.filter(|s| s.segment < below).collect();
        let archive = Archive::new(scratch)?;
        let bytes: u64 = wanted.iter().map(|s| s.end).sum();
        say(format_args!(
            "{} segments, {} MB, are brought from the archive to {}",
            wanted.len(),
            bytes / 1_000_000,
            archive.0.display()
        ));
        archive.add(store, batches.first().map_or(0, |b| b.node), wanted)?;
        Ok(archive)
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
