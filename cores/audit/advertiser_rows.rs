//! An advertiser's wins out of a store's rows: manifests say which files may have some, and only those are read.
//! Owns: the store, one batch's wins. Called by: `outcry audit advertiser`. Never: takes a file for granted that its manifest does
//! not vouch for; misses one that a manifest names.
use super::{AdvertiserArgs, Books, By, Row, say};
use crate::{
    audit::AuditError,
    tiers::{TiersError, columns, manifests, store::Store},
};
use outcry::tiers::{
    manifest::File,
    names::{Batch, Table},
    wins::{COLUMNS, Won},
};

/// See the module.
pub(super) struct Rows {
    pub(super) store: Store,
    pub(super) batches: Vec<Batch>,
    /// The first segment that the journal has: its wins are read there.
    pub(super) below: u64,
}

impl Rows {
    /// Reads and books them, batch by batch, each in the order of its journal. True: all could be read.
    pub(super) fn read(self, books: &mut Books<'_>) -> Result<bool, AuditError> {
        let (args, told) = (books.args, |why: TiersError| AuditError::Tiers(why.to_string()));
        let (from_ms, to_ms) = args.range.span();
        let manifests = manifests(&self.store, &self.batches).map_err(told)?;
        let of = |i: usize| manifests[i].files.iter().filter(move |f| f.meets(from_ms, to_ms) && args.may_have(f));
        let files: Vec<(usize, &File)> = (0..manifests.len()).flat_map(|i| of(i).map(move |f| (i, f))).collect();
        let names: Vec<String> = files.iter().map(|(_, f)| f.name.clone()).collect();
        let (mut whole, mut batch, mut found) = (true, 0, Vec::new());
        self.store.get_all(&names, |at, bytes| {
            let (of, file) = files[at];
            if of != batch {
                book(&mut found, books)?;
                batch = of;
            }
            let read = bytes.map_err(|e| e.to_string()).and_then(|bytes| self.wins(file, bytes, args));
            match read {
                Ok(wins) => found.extend(wins.into_iter().filter(|(w, _)| w.ms >= from_ms && w.ms < to_ms)),
                Err(why) => {
                    say(format_args!("{}: {why}; `outcry tiers verify` says more", file.name));
                    whole = false;
                }
            }
            Ok::<(), AuditError>(())
        })?;
        book(&mut found, books)?;
        let counts = self.store.counts();
        say(format_args!(
            "rows: {} files of {} manifests, {} objects and {} bytes read",
            files.len(),
            manifests.len(),
            counts.read,
            counts.read_bytes
        ));
        Ok(whole)
    }

    fn wins(&self, file: &File, bytes: bytes::Bytes, args: &AdvertiserArgs) -> Result<Vec<(Won, String)>, String> {
        let rows = columns::read(bytes, &file.sha256, COLUMNS).map_err(|e| e.to_string())?;
        let mut wins = Vec::new();
        for row in 0..rows.len() {
            let (won, delivery) = Won::read(&rows, row).ok_or("a row in it is none of a win")?;
            if won.segment < self.below && args.meets(&won) {
                wins.push((won, delivery));
            }
        }
        Ok(wins)
    }
}

/// Files of a batch are by day and advertiser; its wins are booked as they were recorded.
fn book(found: &mut Vec<(Won, String)>, books: &mut Books<'_>) -> Result<(), AuditError> {
    found.sort_by_key(|(won, _)| (won.segment, won.offset));
    for (won, delivery) in found.drain(..) {
        books.book(&Row(won), &delivery)?;
    }
    Ok(())
}

impl AdvertiserArgs {
    /// May a file have a win of his? What a manifest does not name, it may.
    fn may_have(&self, file: &File) -> bool {
        let dsp = |of: &[String; 2]| self.dsp.as_ref().is_none_or(|dsp| of[0] == *dsp);
        let seat = |of: &[String; 2]| self.by != By::Seat || of[1] == self.id;
        file.table == Table::Wins
            && (self.by != By::Adomain || file.advertiser == self.id.to_ascii_lowercase())
            && file.seats.as_ref().is_none_or(|all| all.iter().any(|of| dsp(of) && seat(of)))
            && (self.by != By::Cid || file.cids.as_ref().is_none_or(|all| all.contains(&self.id)))
    }
}
