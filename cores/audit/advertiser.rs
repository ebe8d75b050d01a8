//! `outcry audit advertiser`: what an advertiser won, one win a line with what came of it, and the sums.
//!
//! A record knows an advertiser by what the winning bid says of itself: the first of its `adomain`, its `seat`, its `cid`.
//! Nothing of that is ours, so seats and campaigns mean something only together with the DSP. Where budgets are kept, the account
//! that is charged is known too.
use super::{
    AuditError, Out, Range, Where, billed, csv,
    csv::Field,
    names,
    opened::{self, Form, Row, Shown, Text},
    say,
    sources::Elsewhere,
};
use clap::{Args, ValueEnum};
use outcry::{
    billing::{
        Spot,
        accounts::Accounts,
        bill::{Late, Line, Name, Part, Sums},
        settling::{Came, Settling, Won},
        wins::{Fate, Wins},
    },
    budget::AccountId,
    record::show::{
        columns::{Columns, plain},
        json::Object,
    },
    units::{Currency, Money},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

#[derive(Args, Debug)]
pub(super) struct AdvertiserArgs {
    /// Whose wins: by default an advertiser's domain, compared with the first `adomain` of the winning bid, whatever the
    /// case of its letters. A record holds nothing else that names an advertiser across DSPs.
    id: String,
    /// What the id is. Seats and campaigns are the DSPs' own names: with `--dsp` they mean one.
    #[arg(long, value_enum, default_value_t = By::Adomain)]
    by: By,
    /// Only wins of this DSP, by its name in the configuration.
    #[arg(long, value_name = "NAME")]
    dsp: Option<String>,
    /// The sums alone.
    #[arg(long)]
    totals: bool,
    /// Comma-separated values: the wins, or with --totals the sums.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// The admin port of the exchange, if it runs: for names of accounts that are older than the journal.
    #[arg(long)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    place: Where,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum By {
    /// The first `adomain` of the bid.
    Adomain,
    /// The `seat` of its seatbid.
    Seat,
    /// The `cid` of the bid: the campaign.
    Cid,
    /// The budget's account: an advertiser with all its campaigns, or a campaign.
    Account,
}

/// Sums of one DSP, seat, campaign and accounting currency.
#[derive(Clone, Copy, Default)]
struct Sum {
    wins: u64,
    test: u64,
    undelivered: Part,
    /// As in an invoice: without tests.
    sums: Sums,
}

impl Sum {
    fn of(row: &Row) -> Sum {
        let undelivered = if opened::undelivered(row) { Part::one(row.charge) } else { Part::default() };
        Sum { wins: 1, test: row.what.test.into(), undelivered, sums: row.sums() }
    }

    fn add(&mut self, other: &Sum) {
        self.wins += other.wins;
        self.test += other.test;
        self.undelivered += other.undelivered;
        self.sums += other.sums;
    }
}

type Of = (Vec<u8>, Vec<u8>, Vec<u8>, Currency);

/// What is added up, and printed on the way.
struct Books<'a> {
    args: &'a AdvertiserArgs,
    form: Form,
    accounts: Accounts,
    account: Option<AccountId>,
    out: Out,
    wins: Wins<Shown>,
    sums: BTreeMap<Of, Sum>,
    late: Late,
    spots: BTreeMap<Name, Spot>,
    /// Wins whose notices did not come in time.
    lapsed: BTreeSet<Name>,
    /// Segments that are read for deliveries alone: their wins are rows.
    for_deliveries: Vec<u64>,
}

impl Books<'_> {
    fn asked(&self, won: &Won<'_>) -> bool {
        let (i, id) = (&won.record.inputs, self.args.id.as_bytes());
        let Some(bid) = i.bids.get(usize::from(won.win.input)) else { return false };
        let whose = |dsp: &String| i.legs.get(usize::from(bid.leg)).is_some_and(|l| i.text(l.name) == dsp.as_bytes());
        self.args.dsp.as_ref().is_none_or(whose)
            && match self.args.by {
                By::Adomain => i.text(bid.adomain).eq_ignore_ascii_case(id),
                By::Seat => i.text(bid.seat) == id,
                By::Cid => i.text(bid.cid) == id,
                By::Account => self.account.is_some_and(|id| self.accounts.is_of(won.whose.payer, id)),
            }
    }

    fn came(&mut self, came: Option<&Came<'_>>, spot: Spot) -> Result<(), AuditError> {
        match came {
            None => return self.print(spot.ms),
            Some(Came::Won(won)) if !self.for_deliveries.contains(&spot.segment) && self.asked(won) => {
                if let Some(shown) = Shown::of(won) {
                    self.wins.keep(won, spot, shown);
                }
            }
            Some(Came::Late { noticed, first }) => {
                if self.late.add(*noticed, *first) {
                    self.spots.insert((noticed.event, noticed.imp), spot);
                }
            }
            Some(_) => {}
        }
        came.iter().for_each(|came| self.wins.came(came, spot));
        Ok(())
    }

    /// Prints the wins of which all is known by now.
    fn print(&mut self, now_ms: u64) -> Result<(), AuditError> {
        while let Some(row) = self.wins.next(now_ms) {
            self.book(&row)?;
        }
        Ok(())
    }

    /// Prints a win and adds it up.
    fn book(&mut self, row: &Row) -> Result<(), AuditError> {
        let [dsp, seat, cid] = [Text::Dsp, Text::Seat, Text::Cid].map(|text| row.what.text(text).to_vec());
        let of = (dsp, seat, cid, row.what.accounting);
        self.sums.entry(of).or_default().add(&Sum::of(row));
        if matches!(row.fate, Fate::Lapsed | Fate::Waits) {
            self.lapsed.insert((row.event, row.imp));
        }
        if self.args.totals { Ok(()) } else { self.out.text(&self.form.win(row)) }
    }

    /// Prints the notices that came too late for these wins.
    fn print_late(&mut self) -> Result<(), AuditError> {
        for noticed in self.late.all().filter(|_| !self.args.totals) {
            let name = (noticed.event, noticed.imp);
            if let Some(spot) = self.spots.get(&name).filter(|_| self.lapsed.contains(&name)) {
                self.out.text(&self.form.late(noticed, *spot))?;
            }
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<(), AuditError> {
        let mut all: BTreeMap<Currency, Sum> = BTreeMap::new();
        let mut columns = Columns::new(&HEADINGS);
        let mut text = String::new();
        if self.form == Form::Csv {
            text += &csv::heading(&CSV_HEADINGS);
        }
        for ((dsp, seat, cid, cur), sum) in &self.sums {
            all.entry(*cur).or_default().add(sum);
            match self.form {
                Form::Json => {
                    text += &json_sum("total", *cur, sum, |o| {
                        o.text("dsp", dsp);
                        o.some_text("seat", seat);
                        o.some_text("cid", cid);
                    });
                }
                Form::Table => columns.row(cells([plain(dsp), plain(seat), plain(cid)], *cur, sum)),
                Form::Csv => text += &csv_sum("total", [dsp, seat, cid], *cur, sum),
            }
        }
        if all.is_empty() && self.form == Form::Json {
            all.insert(Currency::USD, Sum::default());
        }
        for (cur, sum) in &all {
            match self.form {
                Form::Json => text += &json_sum("sum", *cur, sum, |_| {}),
                Form::Table => columns.row(cells(["all".to_string(), String::new(), String::new()], *cur, sum)),
                Form::Csv => text += &csv_sum("sum", [b"", b"", b""], *cur, sum),
            }
        }
        if self.form == Form::Table {
            text += if columns.is_empty() { "no wins\n" } else { "totals\n" };
            if !columns.is_empty() {
                columns.write(&mut text);
            }
        }
        self.out.text(&text)
    }
}

const HEADINGS: [&str; 13] = [
    "DSP",
    "seat",
    "campaign",
    ">wins",
    ">test",
    ">not delivered",
    ">charge",
    ">freed",
    ">lapsed",
    ">reduced",
    ">waiting",
    ">billed",
    "cur",
];

const CSV_HEADINGS: [&str; 14] = [
    "type",
    "dsp",
    "seat",
    "cid",
    "wins",
    "test",
    "not_delivered",
    "charge",
    "freed",
    "lapsed",
    "reduced",
    "waiting",
    "billed",
    "accounting",
];

/// What was charged, each correction, and what is billed: the columns behind the counts.
fn amounts(sum: &Sum) -> [String; 6] {
    let lines = [Line::Charged, Line::Freed, Line::Lapsed, Line::Reduced, Line::Waiting, Line::Billed];
    lines.map(|line| money(sum.sums.line(line).nanos))
}

fn cells([dsp, seat, cid]: [String; 3], cur: Currency, sum: &Sum) -> [String; 13] {
    let [charge, freed, lapsed, reduced, waiting, billed] = amounts(sum);
    let [wins, test, undelivered] = [sum.wins, sum.test, sum.undelivered.wins].map(|n| n.to_string());
    [dsp, seat, cid, wins, test, undelivered, charge, freed, lapsed, reduced, waiting, billed, cur.to_string()]
}

fn csv_sum(what: &str, of: [&[u8]; 3], cur: Currency, sum: &Sum) -> String {
    let mut fields = vec![Field::Word(what.to_owned())];
    fields.extend(of.map(Field::Text));
    fields.extend([sum.wins, sum.test, sum.undelivered.wins].map(|n| Field::Word(n.to_string())));
    fields.extend(amounts(sum).map(Field::Word));
    fields.push(Field::Word(cur.to_string()));
    csv::line(&fields)
}

fn json_sum(what: &str, cur: Currency, sum: &Sum, whose: impl FnOnce(&mut Object<'_>)) -> String {
    let mut line = String::new();
    Object::write(&mut line, |o| {
        o.word("type", what);
        whose(o);
        o.number("wins", sum.wins);
        o.number("test", sum.test);
        o.number("not_delivered", sum.undelivered.wins);
        let names = ["charge", "freed", "lapsed", "reduced", "waiting", "billed"];
        names.into_iter().zip(amounts(sum)).for_each(|(name, amount)| o.number(name, amount));
        o.number("charge_not_delivered", money(sum.undelivered.nanos));
        o.word("accounting", cur);
    });
    line.push('\n');
    line
}

/// As [`Money`] is written; sums may be longer.
pub(super) fn money(nanos: i128) -> String {
    const NANOS: i128 = 1_000_000_000;
    match i64::try_from(nanos) {
        Ok(nanos) => Money(nanos).to_string(),
        Err(_) => format!("{}.{:09}", nanos / NANOS, (nanos % NANOS).abs()),
    }
}

/// True: everything that could hold a win could be read.
pub(super) fn run(args: &AdvertiserArgs) -> Result<bool, AuditError> {
    let mut opened = sources(args)?;
    let mut whole = opened.whole;
    let (mut accounts, mut account) = (Accounts::default(), None);
    if args.by == By::Account {
        let known;
        (accounts, known) = names::accounts(&mut opened.journal, &args.place, args.admin)?;
        whole &= known;
        account = Some(names::one(&accounts, &args.id)?);
    }
    let mut books = Books {
        args,
        form: Form::of(args.place.json, args.csv),
        accounts,
        account,
        out: Out::new(),
        wins: Wins::default(),
        sums: BTreeMap::new(),
        late: Late::default(),
        spots: BTreeMap::new(),
        lapsed: BTreeSet::new(),
        for_deliveries: std::mem::take(&mut opened.for_deliveries),
    };
    if !args.totals {
        books.out.text(&books.form.heading())?;
    }
    let mut settling = Settling::new(opened.journal.node);
    #[cfg(feature = "tiers")]
    let (mut stored, mut all) = (opened.rows.take(), true);
    whole &= billed::walked(&mut opened.journal, args.range, &mut settling, &mut |_, came, spot| {
        // The store's rows stand between the archive and the journal.
        #[cfg(feature = "tiers")]
        if let Some(stored) = stored.take_if(|stored| spot.segment >= stored.below) {
            books.print(u64::MAX)?;
            all &= rows::read(&stored, &mut books)?;
        }
        books.came(came, spot)
    })?;
    books.print(u64::MAX)?;
    #[cfg(feature = "tiers")]
    if let Some(stored) = stored {
        all &= rows::read(&stored, &mut books)?;
    }
    #[cfg(feature = "tiers")]
    let whole = whole && all;
    let whole = whole & billed::sifted(&mut opened.journal, args.range, &mut books.late)?;
    books.print_late()?;
    // A list for another program has one kind of lines.
    if args.totals || books.form != Form::Csv {
        books.totals()?;
    }
    books.out.end()?;
    if !whole {
        say(format_args!("not all could be read: there may be more wins; `outcry audit verify` says more"));
    }
    Ok(whole)
}

#[cfg(not(feature = "tiers"))]
fn sources(args: &AdvertiserArgs) -> Result<super::sources::Opened, AuditError> {
    args.elsewhere.open(&args.place, args.range)
}

#[cfg(feature = "tiers")]
use rows::sources;

#[cfg(feature = "tiers")]
#[path = "advertiser_rows.rs"]
mod rows;
