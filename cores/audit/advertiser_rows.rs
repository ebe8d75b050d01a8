//! An advertiser's wins out of a store's rows: manifests say which files may have some, and only those are read.
//! Owns: one batch's wins. Called by: `outcry audit advertiser`. Never: takes a file for granted that its manifest does not vouch
//! for; misses one that a manifest names; reads wins of which rows do not say what they come to.
use super::{AdvertiserArgs, Books, By, say};
use crate::{
    audit::{
        AuditError,
        opened::Shown,
        sources::{Opened, Stored},
    },
    tiers::columns,
};
use outcry::{
    billing::{settling::SETTLED_MS, wins::Kept},
    tiers::{
        manifest::File,
        names::Table,
        wins::{COLUMNS, Row, Won},
    },
};

/// Opens what is to be read.
pub(super) fn sources(args: &AdvertiserArgs) -> Result<Opened, AuditError> {
    match args.by {
        // No file is of one account alone, and what accounts there are segments say.
        By::Account => args.elsewhere.open(&args.place, args.range.longer(SETTLED_MS)),
        _ => args.elsewhere.with_rows(&args.place, args.range, &|file| args.may_have(file)),
    }
}

/// Reads and books them, batch by batch, each in the order of its journal. True: all could be read.
pub(super) fn read(stored: &Stored, books: &mut Books<'_>) -> Result<bool, AuditError> {
    let (args, manifests) = (books.args, &stored.manifests);
    let (from_ms, to_ms) = args.range.span();
    let of = |i: usize| manifests[i].files.iter().filter(move |f| f.meets(from_ms, to_ms) && args.may_have(f));
    let files: Vec<(usize, &File)> = (0..manifests.len()).flat_map(|i| of(i).map(move |f| (i, f))).collect();
    let names: Vec<String> = files.iter().map(|(_, f)| f.name.clone()).collect();
    let (mut whole, mut batch, mut found) = (true, 0, Vec::new());
    stored.store.get_all(&names, |at, bytes| {
        let (of, file) = files[at];
        if of != batch {
            book(&mut found, books)?;
            batch = of;
        }
        let read = bytes.map_err(|e| e.to_string()).and_then(|bytes| wins(file, bytes, args, stored.below));
        match read {
            Ok(wins) => found.extend(wins.into_iter().filter(|row| row.won.ms >= from_ms && row.won.ms < to_ms)),
            Err(why) => {
                say(format_args!("{}: {why}; `outcry tiers verify` says more", file.name));
                whole = false;
            }
        }
        Ok::<(), AuditError>(())
    })?;
    book(&mut found, books)?;
    let counts = stored.store.counts();
    say(format_args!(
        "rows: {} files of {} manifests, {} objects and {} bytes read",
        files.len(),
        manifests.len(),
        counts.read,
        counts.read_bytes
    ));
    Ok(whole)
}

fn wins(file: &File, bytes: bytes::Bytes, args: &AdvertiserArgs, below: u64) -> Result<Vec<Row>, String> {
    let rows = columns::read(bytes, &file.sha256, COLUMNS).map_err(|e| e.to_string())?;
    let mut wins = Vec::new();
    for row in 0..rows.len() {
        let row = Row::read(&rows, row).ok_or("a row in it is none of a win")?;
        if row.won.segment < below && args.meets(&row.won) {
            wins.push(row);
        }
    }
    Ok(wins)
}

/// Files of a batch are by day and advertiser; its wins are booked as they were recorded.
fn book(found: &mut Vec<Row>, books: &mut Books<'_>) -> Result<(), AuditError> {
    found.sort_by_key(|row| (row.won.segment, row.won.offset));
    found.drain(..).try_for_each(|row| books.book(&Kept::of_row(&row, Shown::of_row(&row.won))))
}

impl AdvertiserArgs {
    fn meets(&self, won: &Won) -> bool {
        let id = self.id.as_bytes();
        self.dsp.as_ref().is_none_or(|dsp| won.dsp == dsp.as_bytes())
            && match self.by {
                By::Adomain => won.adomain.eq_ignore_ascii_case(id),
                By::Seat => won.seat == id,
                By::Cid => won.cid == id,
                By::Account => false,
            }
    }

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
