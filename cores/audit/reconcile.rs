//! `outcry audit reconcile`: do all places say the same of what was spent on a day?
//!
//! The ledger and the record, and whatever else is a [`sources::Source`], are compared two by two, campaign by campaign; where two
//! differ, the records that explain it are named. [`books`] says what of ledger and record is compared, and as of when.
mod books;
mod explain;
mod sources;
mod told;

use self::{
    books::{Books, Key, wait},
    sources::{OfJournal, OfLedger, Source, compared},
    told::OfRecords,
};
use super::{
    AuditError, Out, Where,
    advertiser::money,
    csv::{self, Field},
    directory::Journal,
    names,
    opened::Form,
    say,
};
use crate::money::day;
use clap::Args;
use outcry::{
    billing::{
        accounts::Accounts,
        sources::{Said, Table, Who, difference},
    },
    budget::AccountId,
    record::show::{
        columns::{Columns, plain},
        json::Object,
    },
};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Args, Debug)]
pub(super) struct ReconcileArgs {
    /// Windows that began on this day where their campaign is at home: 2026-01-31.
    #[arg(long, value_name = "DATE", value_parser = date)]
    day: u32,
    /// The admin port of the exchange, if it runs: the ledger's file is its alone then.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// Also with what is in Kafka. What an exchange that runs has not sent yet is a difference.
    #[arg(long, requires = "config")]
    kafka: bool,
    /// The exchange's configuration, which says where Kafka is.
    #[arg(long, requires = "kafka", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Also with the rows of this store, where `outcry tiers export` brought them: s3://BUCKET/FOLDER or a directory. What was not
    /// exported yet is no difference.
    #[cfg(feature = "tiers")]
    #[arg(long, value_name = "URL")]
    tiers: Option<String>,
    /// Comma-separated values: the sums.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    #[command(flatten)]
    place: Where,
}

fn date(text: &str) -> Result<u32, String> {
    day::number(text).ok_or_else(|| "a day is a date such as 2026-01-31".to_owned())
}

/// True: all are equal, and all could be read.
pub(super) fn run(args: &ReconcileArgs) -> Result<bool, AuditError> {
    let mut journal = Journal::open(&args.place)?;
    let mut books = Books::new(args, &journal)?;
    let short = wait(&books, journal.path());
    // What was written meanwhile is part of it.
    journal = Journal::open(&args.place)?;
    let mut whole = books.read(&mut journal)?;
    let accounts = names::of_ledger(&args.place, journal.path(), args.admin)?;
    let (form, mut out) = (Form::of(args.place.json, args.csv), Out::new());
    let mut others = others(args, &books, &mut journal)?;
    whole &= others.iter().all(|place| place.whole);
    let (mut of_ledger, mut of_journal) = (OfLedger(&books), OfJournal(&books, &mut journal));
    let mut all: Vec<&mut dyn Source> = vec![&mut of_ledger, &mut of_journal];
    all.extend(others.iter_mut().map(|place| place as &mut dyn Source));
    let table = compared(&mut all)?;
    out.text(&printed(&table, &books, &accounts, form))?;
    let differences: Vec<Key> = books.pairs.iter().filter(|(_, p)| p.difference() != 0).map(|(key, _)| *key).collect();
    let differ = !differences.is_empty() || table.pairs().into_iter().any(|pair| table.differing(pair).count() > 0);
    if differ && form == Form::Csv {
        say(format_args!("there are differences: without --csv the records that explain them are named"));
    } else if differ {
        let as_json = form == Form::Json;
        explain::records(&table, &mut all, &|who| named(&accounts, who)[1].clone(), as_json, &mut out)?;
        explain::windows(&books, &differences, &mut journal, as_json, &mut out)?;
    }
    out.end()?;
    for why in &short {
        say(format_args!("{why}"));
    }
    if !whole {
        say(format_args!(
            "not all could be read, so the record's sums may be too small; `outcry audit verify` says more"
        ));
    }
    Ok(!differ && short.is_empty() && whole)
}

/// The places that are asked for beside ledger and journal.
fn others(args: &ReconcileArgs, books: &Books, journal: &mut Journal) -> Result<Vec<OfRecords>, AuditError> {
    let mut others = Vec::new();
    if let Some(config) = &args.config {
        others.push(told::of_kafka(config, books, journal.state_dir())?);
    }
    #[cfg(feature = "tiers")]
    if let Some(url) = &args.tiers {
        others.push(told::of_rows(url, books, journal)?);
    }
    Ok(others)
}

/// Under whom a payer is, and what it is called.
fn named(accounts: &Accounts, who: &Who) -> [String; 2] {
    match who {
        Who::Account(id) => [accounts.name(accounts.advertiser(*id)), accounts.name(*id)],
        Who::Buyer(buyer) => [format!("{}/{}", plain(&buyer.dsp), plain(&buyer.seat)), plain(&buyer.cid)],
    }
}

/// A campaign, or all of an advertiser's.
struct Row {
    kind: &'static str,
    names: [String; 2],
    id: Option<AccountId>,
    said: Vec<Option<Said>>,
    forfeit: i128,
    unreported: i128,
    late: i128,
}

impl Row {
    fn add(&mut self, other: &Row) {
        for (sum, said) in self.said.iter_mut().zip(&other.said) {
            match (sum.as_mut(), said) {
                (Some(sum), Some(said)) => *sum += *said,
                _ => *sum = None,
            }
        }
        self.forfeit += other.forfeit;
        self.unreported += other.unreported;
        self.late += other.late;
    }

    /// All its amounts by their names, in the order of the columns; `None`: it is not known.
    fn amounts(&self, table: &Table) -> Vec<(String, Option<i128>)> {
        let mut all = Vec::new();
        for (place, said) in table.places().iter().zip(&self.said) {
            all.push(((*place).to_owned(), said.map(|said| said.nanos)));
            if all.len() == 1 {
                all.push(("forfeit".to_owned(), Some(self.forfeit)));
            }
        }
        all.push(("not_reported".to_owned(), Some(self.unreported)));
        for pair in table.pairs() {
            let [one, other] = [pair.0, pair.1].map(|place| table.places()[place]);
            let name = if pair == (0, 1) { "difference".to_owned() } else { format!("difference_{one}_{other}") };
            all.push((name, difference(&self.said, pair)));
        }
        all.push(("late_notices".to_owned(), Some(self.late)));
        all
    }
}

/// All that two places know of, under their advertisers; behind several of one its sum.
fn rows(table: &Table, books: &Books, accounts: &Accounts) -> Vec<Row> {
    let compared = |row: &[Option<Said>]| row.iter().flatten().count() > 1;
    let mut campaigns: Vec<Row> = Vec::new();
    for (who, said) in table.rows().filter(|(_, row)| compared(row)) {
        let (kind, id) = match who {
            Who::Account(id) => ("account", Some(*id)),
            Who::Buyer(_) => ("buyer", None),
        };
        let pair = id.map(|id| books.of(id)).unwrap_or_default();
        let (forfeit, unreported, late) = (pair.forfeit, pair.unreported, pair.late);
        campaigns.push(Row { kind, names: named(accounts, who), id, said: said.to_vec(), forfeit, unreported, late });
    }
    campaigns.sort_by(|a, b| (a.kind, &a.names).cmp(&(b.kind, &b.names)));
    let mut rows: Vec<Row> = Vec::new();
    for of_one in campaigns.chunk_by(|a, b| a.kind == b.kind && a.names[0] == b.names[0]) {
        let none = vec![Some(Said::default()); table.places().len()];
        let names = [of_one[0].names[0].clone(), "all".to_owned()];
        let mut sum = Row { kind: "advertiser", names, id: None, said: none, forfeit: 0, unreported: 0, late: 0 };
        of_one.iter().for_each(|row| sum.add(row));
        rows.extend(of_one.iter().map(|row| Row { names: row.names.clone(), said: row.said.clone(), ..*row }));
        if of_one.len() > 1 {
            rows.push(sum);
        }
    }
    rows
}

fn printed(table: &Table, books: &Books, accounts: &Accounts, form: Form) -> String {
    let rows = rows(table, books, accounts);
    let Some(first) = rows.first() else {
        return if form == Form::Table { "no budget was spent from\n".to_owned() } else { String::new() };
    };
    let mut text = String::new();
    let keys: Vec<String> = first.amounts(table).into_iter().map(|(name, _)| name).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let heading = |key: &str| match key {
        "forfeit" => ">of it forfeit".to_owned(),
        "not_reported" => ">not reported yet".to_owned(),
        key => format!(">{}", key.replace('_', " ")),
    };
    let headings: Vec<String> = ["advertiser".to_owned(), "account".to_owned()]
        .into_iter()
        .chain(keys.iter().map(|key| heading(key)))
        .collect();
    let mut columns = Columns::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    if form == Form::Csv {
        text += &csv::heading(&[&["type", "advertiser", "account", "id"], &keys[..]].concat());
    }
    for row in &rows {
        let amounts = row.amounts(table).into_iter().map(|(name, nanos)| (name, nanos.map(money)));
        let id = row.id.map_or(String::new(), |id| id.0.to_string());
        match form {
            Form::Table => {
                let amounts = amounts.map(|(_, amount)| amount.unwrap_or_else(|| "-".to_owned()));
                columns.cells(row.names.iter().map(|name| plain(name.as_bytes())).chain(amounts).collect());
            }
            Form::Json => {
                Object::write(&mut text, |o| {
                    o.word("type", row.kind);
                    o.text("advertiser", row.names[0].as_bytes());
                    if row.kind != "advertiser" {
                        o.text("account", row.names[1].as_bytes());
                    }
                    o.some_number("id", row.id.map(|id| id.0));
                    amounts.for_each(|(name, amount)| o.some_number(&name, amount));
                });
                text.push('\n');
            }
            Form::Csv => {
                let mut fields = vec![Field::Word(row.kind.to_owned())];
                fields.extend(row.names.iter().map(|name| Field::Text(name.as_bytes())));
                fields.push(Field::Word(id));
                fields.extend(amounts.map(|(_, amount)| Field::Word(amount.unwrap_or_default())));
                text += &csv::line(&fields);
            }
        }
    }
    if form == Form::Table {
        columns.write(&mut text);
    }
    text
}
