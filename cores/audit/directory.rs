//! The journal of one node in a directory.
//! Owns: the directory. Called by: the commands of `outcry audit`.
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
pub(super) struct File {
    pub(super) name: String,
    pub(super) segment: u64,
    pub(super) bytes: u64,
    pub(super) header: Result<SegmentHeader, HeaderError>,
}

/// See the module.
pub(super) struct Journal {
    dir: Dir,
    pub(super) node: u32,
    pub(super) segments: Vec<File>,
    pub(super) checkpoint: Option<Result<Checkpoint, CheckpointError>>,
}

impl Journal {
    pub(super) fn open(place: &Where) -> Result<Journal, AuditError> {
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
        let mut journal = Journal { dir: Dir::new(&path), node, segments: Vec::new(), checkpoint: None };
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

    fn read(&mut self, name: &str, bytes: u64) -> Result<Vec<u8>, AuditError> {
        let mut page = vec![0; bytes as usize];
        self.dir.read(name, 0, &mut page).map_err(|source| self.failed(name, source))?;
        Ok(page)
    }

    /// The bytes of a segment.
    pub(super) fn source(&mut self, i: usize) -> FileIn<'_, Dir> {
        let file = &self.segments[i];
        FileIn { files: &mut self.dir, name: &file.name, bytes: file.bytes }
    }

    /// The header that follows a segment's, if it is the next one's.
    pub(super) fn after(&self, i: usize) -> Option<SegmentHeader> {
        let next = self.segments.get(i + 1).and_then(|f| f.header.ok());
        next.filter(|h| h.segment == self.segments[i].segment + 1)
    }

    /// The last block of a segment that the checkpoint knows to have been durable; 0: it says nothing of it.
    pub(super) fn confirmed(&self, i: usize) -> u64 {
        let durable = self.checkpoint.as_ref().and_then(|c| c.as_ref().ok()).map(|c| c.durable).unwrap_or_default();
        if durable.segment == self.segments[i].segment { durable.block } else { 0 }
    }

    /// Where a segment ends, if the one after it says so: it is not written any more then.
    pub(super) fn end(&self, i: usize) -> Option<u64> {
        self.after(i).map(|after| after.previous.end)
    }

    /// The index of a segment that has ended, if there is a sound one.
    pub(super) fn index(&mut self, i: usize) -> Option<Index<IndexFile<'_>>> {
        let end = self.end(i)?;
        index_file::open(&mut self.dir, self.node, self.segments[i].segment, end)
    }

    /// Lowest and highest hybrid logical time of a segment's frames, without reading it: by its index, or else by the heads
    /// of its blocks. `None`: that cannot be said.
    pub(super) fn times(&mut self, i: usize) -> Option<(u64, u64)> {
        if let Some(index) = self.index(i) {
            return Some(index.header().hlc);
        }
        let (header, end) = (self.segments[i].header.ok()?, self.end(i)?);
        times(&mut self.source(i), &header, end).ok()?
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn failed(&self, name: &str, source: std::io::Error) -> AuditError {
        AuditError::Read { path: self.dir.path().join(name), source }
    }
}
