//! Which archived segments can hold the frames of an id: what the indices of their batches say, so that no others are opened.
//! Owns: the segments that are wanted. Called by: [`super::sources`]. Never: takes a segment for searched because its index is
//! missing or damaged.
//!
//! Twice: for the id, and then, once the auctions that have it are known, for what came of each of them.
use super::{AuditError, Range, directory::Journal, find, say};
use crate::tiers::{Archive, TiersError, manifests, store::Store};
use outcry::{
    auction::Record,
    billing::settling::SETTLED_MS,
    notice::seen::GRACE_S,
    record::frame::Kind,
    tiers::{
        ids::{self, Key},
        manifest::{Manifest, Segment},
        names::Batch,
        plan::Known,
    },
};
use std::{collections::BTreeMap, path::Path};

/// See the module.
pub(super) struct Search<'a> {
    store: &'a Store,
    /// Batches of the node, in order.
    known: &'a [Known],
    /// Only segments below this: the journal has the others.
    below: u64,
    range: Range,
    /// Those that were read, by first segment.
    manifests: BTreeMap<u64, Manifest>,
    wanted: BTreeMap<u64, Segment>,
    /// First segments of batches without an index: of an earlier release, or damaged.
    without: Vec<u64>,
    asked: Vec<u64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(store: &'a Store, known: &'a [Known], below: u64, range: Range) -> Search<'a> {
        let manifests = BTreeMap::new();
        Search {
            store,
            known,
            below,
            range,
            manifests,
            wanted: BTreeMap::new(),
            without: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Brings what can hold the frames of an id, and those of its auctions.
    pub(super) fn bring(mut self, key: &[u8], scratch: &Path) -> Result<Option<Archive>, AuditError> {
        let failed = |why: TiersError| AuditError::Tiers(why.to_string());
        let Some(node) = self.known.first().map(|known| known.batch.node) else { return Ok(None) };
        let (from_ms, to_ms) = self.range.span();
        self.ask((from_ms, to_ms), &[Key::of(key)]).map_err(failed)?;
        let archive = Archive::new(scratch).map_err(failed)?;
        let brought = self.wanted.len();
        archive.add(self.store, node, self.wanted.values()).map_err(failed)?;
        let mut journal = Journal::behind(Some(archive.path()), node, None)?;
        let found = find::find(&mut journal, key)?;
        for hit in &found.hits {
            let Some(frame) = hit.frame().filter(|frame| frame.kind() == Some(Kind::Auction)) else { continue };
            let Ok(record) = Record::decode(frame.payload()) else { continue };
            let mut keys = Vec::new();
            Key::of_auction(&record, &mut |key| keys.push(key));
            let ms = frame.header.hlc >> 16;
            self.ask((ms, ms.saturating_add(SETTLED_MS)), &keys).map_err(failed)?;
            if record.inputs.awaited_s > 0 {
                // What goes home by time alone: the journal has to be known until then.
                let expires_ms = u64::from(record.inputs.awaited_s) * 1_000;
                self.take(expires_ms, expires_ms + u64::from(60 + 2 * GRACE_S) * 1_000).map_err(failed)?;
            }
        }
        if self.wanted.len() > brought {
            archive.add(self.store, node, self.wanted.values()).map_err(failed)?;
        }
        self.told();
        Ok((!self.wanted.is_empty()).then_some(archive))
    }

    /// Wants the segments of batches between two moments that can hold a frame of one of the keys.
    fn ask(&mut self, (from_ms, to_ms): (u64, u64), keys: &[Key]) -> Result<(), TiersError> {
        let firsts = self.read(from_ms, to_ms)?;
        let all: Vec<&Manifest> = firsts.iter().filter_map(|first| self.manifests.get(first)).collect();
        let mut parts = Vec::new();
        for manifest in &all {
            for key in keys {
                if let Some(ids) = &manifest.ids {
                    let part = ids.part(*key, manifest.segments.len());
                    parts.push((*manifest, *key, &ids.name[..], part));
                }
            }
        }
        let names: Vec<_> = parts.iter().map(|(_, _, name, part)| (*name, part.clone())).collect();
        let (mut wanted, mut without): (Vec<Segment>, Vec<u64>) = (Vec::new(), Vec::new());
        without.extend(all.iter().filter(|m| m.ids.is_none()).map(|m| m.batch.first));
        self.store.get_parts(&names, |at, bytes| {
            let (manifest, key, name, _) = &parts[at];
            let segments = &manifest.segments;
            let said = match bytes {
                Ok(bytes) => ids::may(&bytes, *key, segments.len()),
                Err(e) if e.missing() => None,
                Err(e) => return Err(TiersError::from(e)),
            };
            match said {
                Some(may) => {
                    // What could not be read of a segment may be what is looked for.
                    let may = segments.iter().zip(may).filter(|(s, may)| *may || s.damages > 0);
                    wanted.extend(may.map(|(s, _)| s.clone()));
                }
                None => {
                    say(format_args!("{name}: is missing or damaged; `outcry tiers verify` says more"));
                    without.push(manifest.batch.first);
                }
            }
            Ok(())
        })?;
        self.asked.extend(all.iter().map(|m| m.batch.first).filter(|first| !without.contains(first)));
        if !self.range.all() {
            let all = without.iter().filter_map(|first| self.manifests.get(first)).flat_map(|m| &m.segments);
            wanted.extend(all.filter(|s| s.meets(from_ms, to_ms)).cloned());
        }
        self.without.extend(without);
        self.wants(wanted);
        Ok(())
    }

    /// Wants all segments with frames between two moments.
    fn take(&mut self, from_ms: u64, to_ms: u64) -> Result<(), TiersError> {
        let firsts = self.read(from_ms, to_ms)?;
        let all = firsts.iter().filter_map(|first| self.manifests.get(first)).flat_map(|m| &m.segments);
        let wanted = all.filter(|s| s.meets(from_ms, to_ms)).cloned().collect();
        self.wants(wanted);
        Ok(())
    }

    fn wants(&mut self, segments: Vec<Segment>) {
        self.wanted.extend(segments.into_iter().filter(|s| s.segment < self.below).map(|s| (s.segment, s)));
    }

    /// Reads the manifests of batches with frames between two moments: their first segments.
    fn read(&mut self, from_ms: u64, to_ms: u64) -> Result<Vec<u64>, TiersError> {
        let batches = self.known.iter().map(|known| &known.batch).filter(|batch| batch.first < self.below);
        let meet: Vec<&Batch> = batches.filter(|b| b.from_ms < to_ms && b.to_ms >= from_ms).collect();
        let unread: Vec<&Batch> = meet.iter().copied().filter(|b| !self.manifests.contains_key(&b.first)).collect();
        let read = manifests(self.store, unread)?;
        self.manifests.extend(read.into_iter().map(|manifest| (manifest.batch.first, manifest)));
        Ok(meet.into_iter().map(|batch| batch.first).collect())
    }

    fn told(&mut self) {
        for all in [&mut self.asked, &mut self.without] {
            all.sort_unstable();
            all.dedup();
        }
        let of = |firsts: &[u64]| {
            let all = firsts.iter().filter_map(|first| self.manifests.get(first));
            all.map(|m| m.segments.iter().filter(|s| s.segment < self.below).count()).sum::<usize>()
        };
        say(format_args!(
            "the index of ids of {} batches in {} says which of {} segments to open: {} in all",
            self.asked.len(),
            self.store.url(),
            of(&self.asked),
            self.wanted.len()
        ));
        if self.without.is_empty() {
            return;
        }
        let (batches, segments) = (self.without.len(), of(&self.without));
        if self.range.all() {
            say(format_args!(
                "{batches} batches with {segments} segments have no index of ids and were not searched: --from and --to say \
                 about when it was"
            ));
        } else {
            say(format_args!("{batches} batches have no index of ids: their segments of that time are opened"));
        }
    }
}
