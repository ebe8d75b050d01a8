//! Which tier answers: the journal, as far back as it reaches; rows or archived segments of an object store before that.
//! Owns: nothing. Called by: the commands of `outcry audit` that read what was. Never: asks a store for what the journal has; reads
//! silently from anywhere but the journal; says that all was read where segments are missing.
//!
//! Without the feature `tiers` there is the journal alone.
use super::{AuditError, Range, Where, directory::Journal};
use clap::Args;

/// Where to read what has left the journal.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct Elsewhere {
    /// What has left the journal is read from this store, where `outcry tiers export` brought it: s3://BUCKET/FOLDER or a
    /// directory; by default what `OUTCRY_TIERS` names. DIR need not have a journal then.
    #[cfg(feature = "tiers")]
    #[arg(long, value_name = "URL")]
    tiers: Option<String>,
    /// Archived segments are unpacked below this directory, and removed in the end; by default the system's for such files.
    #[cfg(feature = "tiers")]
    #[arg(long, value_name = "DIR")]
    scratch: Option<std::path::PathBuf>,
}

#[cfg(not(feature = "tiers"))]
impl Elsewhere {
    /// The journal.
    pub(super) fn open(&self, place: &Where, _: Range) -> Result<Opened, AuditError> {
        Ok(Opened { journal: Journal::open(place)?, whole: true, for_deliveries: Vec::new() })
    }

    /// The same.
    pub(super) fn open_for_id(&self, place: &Where, range: Range, _: &[u8]) -> Result<Opened, AuditError> {
        self.open(place, range)
    }
}

/// A journal, and what stands in for what has left it.
#[cfg(not(feature = "tiers"))]
pub(super) struct Opened {
    pub(super) journal: Journal,
    /// False: segments are missing, which were named.
    pub(super) whole: bool,
    /// Segments whose wins are rows: none.
    pub(super) for_deliveries: Vec<u64>,
}

#[cfg(feature = "tiers")]
pub(super) use stored::{Opened, Stored};

#[cfg(feature = "tiers")]
mod stored {
    use super::{
        super::{by_id::Search, find, say},
        *,
    };
    use crate::tiers::{Archive, TiersError, listed, manifests, nodes, store::Store};
    use outcry::{
        billing::settling::SETTLED_MS,
        record::when::utc,
        tiers::{
            manifest::{File, Manifest},
            names::Batch,
            plan::{self, Hot, Known, Tier},
        },
    };
    use std::path::PathBuf;

    /// A journal, and what stands in for what has left it.
    pub(crate) struct Opened {
        /// The archive's segments, then the journal's.
        pub(crate) journal: Journal,
        /// False: segments are missing, which were named.
        pub(crate) whole: bool,
        /// Rows that are to be read; they stand between the archive's segments and the journal's.
        pub(crate) rows: Option<Stored>,
        /// Segments that were brought for the deliveries in them alone: their wins are rows.
        pub(crate) for_deliveries: Vec<u64>,
        /// Removes what was unpacked.
        _archive: Option<Archive>,
    }

    /// Rows in a store.
    pub(crate) struct Stored {
        pub(crate) store: Store,
        /// Of the batches whose rows are to be read.
        pub(crate) manifests: Vec<Manifest>,
        /// The first segment that the journal has: its wins are read there.
        pub(crate) below: u64,
    }

    impl Elsewhere {
        fn url(&self) -> Option<String> {
            self.tiers.clone().or_else(|| std::env::var("OUTCRY_TIERS").ok()).filter(|url| !url.is_empty())
        }

        /// The journal with the archive's segments before it, where it does not reach back far enough.
        pub(crate) fn open(&self, place: &Where, range: Range) -> Result<Opened, AuditError> {
            self.opened(place, range, None)
        }

        /// The same for what is looked up by an id: of the archive what can hold it. Without a time, the archive is asked only if
        /// the journal has no auction of that id.
        pub(crate) fn open_for_id(&self, place: &Where, range: Range, key: &[u8]) -> Result<Opened, AuditError> {
            let Some(url) = self.url() else { return self.open(place, range) };
            let mut hot = hot(place)?;
            let begins = hot.as_ref().and_then(begins);
            let (from_ms, _) = range.span();
            let enough = match &mut hot {
                Some(journal) if range.all() => find::has_auction(journal, key)?,
                _ => begins.is_some_and(|begins| begins.from_ms <= from_ms),
            };
            if enough && let Some(journal) = hot {
                say(format_args!("read from the journal alone; --from and --to say about when it was, if it is older"));
                return Ok(Opened::alone(journal));
            }
            let (store, node, known) = stored(&url, place, hot.as_ref(), from_ms)?;
            let found = plan::sources(&known, begins, range.span(), false);
            gaps(&url, &found.gaps);
            let archive = Search::new(&store, &known, found.below, range).bring(key, &self.scratch())?;
            let journal = Journal::behind(archive.as_ref().map(Archive::path), node, hot)?;
            Ok(Opened { whole: found.gaps.is_empty(), _archive: archive, ..Opened::alone(journal) })
        }

        fn scratch(&self) -> PathBuf {
            self.scratch.clone().unwrap_or_else(std::env::temp_dir)
        }

        /// The same, with rows of wins instead of segments where there are some: unless one of the files that are `wanted` has wins
        /// that are charged by their notices, since what came of those no row says.
        pub(crate) fn with_rows(
            &self,
            place: &Where,
            range: Range,
            wanted: &dyn Fn(&File) -> bool,
        ) -> Result<Opened, AuditError> {
            self.opened(place, range, Some(wanted))
        }

        fn opened(
            &self,
            place: &Where,
            range: Range,
            rows: Option<&dyn Fn(&File) -> bool>,
        ) -> Result<Opened, AuditError> {
            let Some(url) = self.url() else { return Ok(Opened::alone(Journal::open(place)?)) };
            let hot = hot(place)?;
            let failed = |why: TiersError| AuditError::Tiers(why.to_string());
            let mut span = range.span();
            let begins = hot.as_ref().and_then(begins);
            if let (Some(begins), true) = (begins, hot.is_some())
                && begins.from_ms <= span.0
                && let Some(journal) = hot
            {
                say(format_args!("read from the journal alone, which begins at {}", utc(begins.from_ms)));
                return Ok(Opened::alone(journal));
            }
            let (store, node, known) = stored(&url, place, hot.as_ref(), span.0)?;
            let mut found = plan::sources(&known, begins, span, rows.is_some());
            let mut read = Vec::new();
            if let Some(wanted) = rows {
                read = manifests(&store, found.batches.iter().map(|(batch, _)| batch)).map_err(failed)?;
                let meets = |file: &&File| file.meets(span.0, span.1) && wanted(file);
                let waits: u64 = read.iter().flat_map(|m| &m.files).filter(meets).map(|f| f.awaiting).sum();
                if waits > 0 {
                    say(format_args!(
                        "{waits} of these wins are charged by their notices, of which rows know nothing: segments are read instead"
                    ));
                    span = range.longer(SETTLED_MS).span();
                    found = plan::sources(&known, begins, span, false);
                }
            }
            gaps(&url, &found.gaps);
            let of = |tier| found.batches.iter().filter(move |(_, t)| *t == tier).map(|(b, _)| b);
            let (warm, cold): (Vec<Batch>, Vec<&Batch>) = (of(Tier::Warm).cloned().collect(), of(Tier::Cold).collect());
            told(&url, &warm, &cold, begins.filter(|_| found.journal));
            let for_deliveries = behind(&known, &cold, &warm);
            let archive = match &cold[..] {
                [] => None,
                _ => {
                    let batches = (&cold[..], &for_deliveries[..]);
                    Some(Archive::bring(&store, batches, span, found.below, &self.scratch()).map_err(failed)?)
                }
            };
            let journal = Journal::behind(archive.as_ref().map(Archive::path), node, hot)?;
            let for_deliveries = for_deliveries.iter().map(|b| b.first).filter(|first| *first < found.below).collect();
            read.retain(|manifest| warm.contains(&manifest.batch));
            let rows = (!warm.is_empty()).then_some(Stored { store, manifests: read, below: found.below });
            Ok(Opened { journal, whole: found.gaps.is_empty(), rows, for_deliveries, _archive: archive })
        }
    }

    impl Opened {
        /// A journal that needs nothing else.
        fn alone(journal: Journal) -> Opened {
            Opened { journal, whole: true, rows: None, for_deliveries: Vec::new(), _archive: None }
        }
    }

    /// The journal, if there is one.
    fn hot(place: &Where) -> Result<Option<Journal>, AuditError> {
        match Journal::open(place) {
            Ok(journal) => Ok(Some(journal)),
            Err(AuditError::None { .. }) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// A store, the node that is meant, and its batches that ended since a moment.
    fn stored(
        url: &str,
        place: &Where,
        hot: Option<&Journal>,
        since_ms: u64,
    ) -> Result<(Store, u32, Vec<Known>), AuditError> {
        let failed = |why: TiersError| AuditError::Tiers(why.to_string());
        let store = Store::open(url, false).map_err(|e| failed(e.into()))?;
        // A batch that ended before may lack deliveries of its last moments only.
        let all = listed(&store, Some(since_ms)).map_err(failed)?;
        let node = match (place.node.or(hot.map(|j| j.node)), &nodes(&all, None)[..]) {
            (Some(node), _) => node,
            (None, [node]) => *node,
            (None, []) => return Err(failed(TiersError::Empty(url.to_string()))),
            (None, several) => {
                let names = several.iter().map(|n| format!("{n:08x}")).collect::<Vec<_>>().join(", ");
                return Err(failed(TiersError::Several(names)));
            }
        };
        let known = plan::known(all, node);
        Ok((store, node, known))
    }

    fn gaps(url: &str, gaps: &[(u64, u64)]) {
        for (first, last) in gaps {
            say(format_args!(
                "segments {first} to {last} are neither in the journal nor in {url}: what was in them is missing"
            ));
        }
    }

    /// Where the journal begins.
    fn begins(journal: &Journal) -> Option<Hot> {
        let mut all = journal.segments.iter().filter_map(|s| Some((s.segment, s.header.ok()?)));
        all.next().map(|(first, header)| Hot { first, from_ms: header.hlc >> 16, to_ms: None })
    }

    /// Batches behind those whose segments are read, if their own are not: deliveries of the last auctions are in them.
    fn behind(known: &[Known], cold: &[&Batch], warm: &[Batch]) -> Vec<Batch> {
        let next = |batch: &Batch| known.iter().map(|k| &k.batch).find(|b| b.first == batch.last + 1);
        let next = cold.iter().filter_map(|batch| next(batch));
        next.filter(|b| warm.contains(b)).cloned().collect()
    }

    fn told(url: &str, warm: &[Batch], cold: &[&Batch], hot: Option<Hot>) {
        let mut parts = Vec::new();
        let from = |batch: &Batch| utc(batch.from_ms);
        if !cold.is_empty() {
            parts.push(format!("the archive ({} batches of {url}, from {} on)", cold.len(), from(cold[0])));
        }
        if !warm.is_empty() {
            parts.push(format!("rows ({} batches of {url}, from {} on)", warm.len(), from(&warm[0])));
        }
        if let Some(hot) = hot {
            parts.push(format!("the journal, from {} on", utc(hot.from_ms)));
        }
        if parts.is_empty() {
            parts.push("nothing: neither the journal nor the store has that time".to_string());
        }
        say(format_args!("read from {}", parts.join(", ")));
    }
}
