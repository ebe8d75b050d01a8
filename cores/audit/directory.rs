//! The journal of one node in a directory.
//! Owns: the directory. Called by: the commands of `outcry audit` and of `outcry tiers`.
use super::{AuditError, Where};
use crate::journal::{
    dir::Dir,
    disk::{FileIn, Files},
    index_file::{self, IndexFile},
};
use outcry::journal::{
    checkpoint::{self, CHECKPOINT_BYTES_MAX, Checkpoint, CheckpointError},
    index::Index,
    reader::times,
    segment::{FileKind, HEADER_BYTES, HeaderError, SegmentHeader, parse_file_name},
};
use std::path::{Path, PathBuf};

/// A segment's file.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
    pub(crate) header: Result<SegmentHeader, HeaderError>,
}

/// See the module.
pub(crate) struct Journal {
    dir: Dir,
    /// So many of the first segments are in another directory: brought back from an archive.
    elsewhere: Option<(Dir, usize)>,
    pub(crate) node: u32,
    pub(crate) segments: Vec<File>,
    pub(crate) checkpoint: Option<Result<Checkpoint, CheckpointError>>,
}

impl Journal {
    /// Where its exchange keeps its state: the directory above, if it lies where an exchange puts it.
    pub(crate) fn state_dir(&self) -> &Path {
        let path = self.dir.path();
        path.parent().filter(|_| path.ends_with("journal")).unwrap_or(path)
    }

    pub(crate) fn open(place: &Where) -> Result<Journal, AuditError> {
        let found = |path: PathBuf| {
            let files =
                Dir::new(&path).list().map_err(|source| AuditError::Directory { path: path.clone(), source })?;
            let segment = |(name, bytes): (String, u64)| match parse_file_name(&name) {
                Some((FileKind::Segment, node, segment)) => Some((node, segment, name, bytes)),
                _ => None,
            };
            Ok::<_, AuditError>((path, files.into_iter().filter_map(segment).collect::<Vec<_>>()))
        };
        let (mut path, mut files) = found(place.dir.clone())?;
        if files.is_empty() && path.join("journal").is_dir() {
            (path, files) = found(path.join("journal"))?;
        }
        let mut nodes: Vec<u32> =
            files.iter().map(|f| f.0).filter(|n| place.node.is_none_or(|wanted| wanted == *n)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let node = match nodes[..] {
            [] => return Err(AuditError::None { path }),
            [node] => node,
            _ => {
                let nodes = nodes.iter().map(|n| format!("{n:08x}")).collect::<Vec<_>>().join(", ");
                return Err(AuditError::Several { path, nodes });
            }
        };
        files.retain(|f| f.0 == node);
        files.sort_unstable_by_key(|f| f.1);
        let mut journal = Journal::empty(&path, node);
        for (_, segment, name, bytes) in files {
            let page = match journal.read(&name, bytes.min(HEADER_BYTES as u64)) {
                // An exchange that runs has removed it since, as it was old.
                Err(AuditError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
                page => page?,
            };
            let header = SegmentHeader::decode(&page);
            journal.segments.push(File { name, segment, bytes, header });
        }
        let name = checkpoint::file_name(node);
        if let Ok(meta) = std::fs::metadata(path.join(&name)) {
            let bytes = journal.read(&name, meta.len().min(CHECKPOINT_BYTES_MAX as u64 + 1))?;
            journal.checkpoint = Some(Checkpoint::decode(&bytes));
        }
        Ok(journal)
    }

    /// One without files.
    fn empty(path: &Path, node: u32) -> Journal {
        Journal { dir: Dir::new(path), elsewhere: None, node, segments: Vec::new(), checkpoint: None }
    }

    /// What was brought back from an archive into a directory, with the journal behind it, if there is one.
    #[cfg(feature = "tiers")]
    pub(crate) fn behind(path: Option<&Path>, node: u32, hot: Option<Journal>) -> Result<Journal, AuditError> {
        let none = Path::new("");
        let mut journal = hot.unwrap_or_else(|| Journal::empty(path.unwrap_or(none), node));
        let Some(path) = path else { return Ok(journal) };
        let archived = match Journal::open(&Where { dir: path.to_path_buf(), node: Some(node), json: false }) {
            Err(AuditError::None { .. }) => Journal::empty(path, node),
            archived => archived?,
        };
        journal.elsewhere = Some((archived.dir, archived.segments.len()));
        journal.segments.splice(..0, archived.segments);
        Ok(journal)
    }

    /// Is some of it from an archive, which is asked for no more than is needed?
    pub(crate) fn stands_in(&self) -> bool {
        self.elsewhere.is_some()
    }

    fn dir_of(&mut self, i: usize) -> &mut Dir {
        match &mut self.elsewhere {
            Some((dir, many)) if i < *many => dir,
            _ => &mut self.dir,
        }
    }

    fn read(&mut self, name: &str, bytes: u64) -> Result<Vec<u8>, AuditError> {
        let mut page = vec![0; bytes as usize];
        self.dir.read(name, 0, &mut page).map_err(|source| self.failed(name, source))?;
        Ok(page)
    }

    /// The bytes of a segment.
    pub(crate) fn source(&mut self, i: usize) -> FileIn<'_, Dir> {
        let file = &self.segments[i];
        let files = match &mut self.elsewhere {
            Some((dir, many)) if i < *many => dir,
            _ => &mut self.dir,
        };
        FileIn { files, name: &file.name, bytes: file.bytes }
    }

    /// The header that follows a segment's, if it is the next one's.
    pub(crate) fn after(&self, i: usize) -> Option<SegmentHeader> {
        let next = self.segments.get(i + 1).and_then(|f| f.header.ok());
        next.filter(|h| h.segment == self.segments[i].segment + 1)
    }

    /// The last block of a segment that the checkpoint knows to have been durable; 0: it says nothing of it.
    pub(crate) fn confirmed(&self, i: usize) -> u64 {
        let durable = self.checkpoint.as_ref().and_then(|c| c.as_ref().ok()).map(|c| c.durable).unwrap_or_default();
        if durable.segment == self.segments[i].segment { durable.block } else { 0 }
    }

    /// Where a segment ends, if the one after it says so: it is not written any more then.
    pub(crate) fn end(&self, i: usize) -> Option<u64> {
        self.after(i).map(|after| after.previous.end)
    }

    /// The index of a segment that has ended, if there is a sound one.
    pub(crate) fn index(&mut self, i: usize) -> Option<Index<IndexFile<'_>>> {
        let end = self.end(i)?;
        let (node, segment) = (self.node, self.segments[i].segment);
        index_file::open(self.dir_of(i), node, segment, end)
    }

    /// Lowest and highest hybrid logical time of a segment's frames, without reading it: by its index, or else by the heads
    /// of its blocks. `None`: that cannot be said.
    pub(crate) fn times(&mut self, i: usize) -> Option<(u64, u64)> {
        if let Some(index) = self.index(i) {
            return Some(index.header().hlc);
        }
        let (header, end) = (self.segments[i].header.ok()?, self.end(i)?);
        times(&mut self.source(i), &header, end).ok()?
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where a segment is.
    pub(crate) fn path_of(&mut self, i: usize) -> &Path {
        self.dir_of(i).path()
    }

    pub(crate) fn failed(&self, name: &str, source: std::io::Error) -> AuditError {
        AuditError::Read { path: self.dir.path().join(name), source }
    }
}
