//! `outcry audit invoice`: what a month comes to, campaign by campaign, and the records behind each figure.
//!
//! A win counts to the month of its auction, where its advertiser is at home. What came of it later (its answer did not arrive, no
//! notice came, one came at a lower price) is a line of its own, so that what was charged and all corrections add up to what is
//! billed; a month that is over changes only as long as its notices may come. What is not a win's, such as a notice that came too
//! late to be charged, stands behind the sum.
use super::{
    AuditError, Out, Range, Where,
    advertiser::money,
    billed, csv,
    csv::Field,
    names,
    opened::{Form, Shown},
    say,
    sources::Elsewhere,
};
use clap::Args;
use outcry::{
    billing::{
        Spot,
        accounts::{Accounts, Month},
        bill::{Bill, Finished, Line, Name, Of, Part, Sums},
        settling::{Came, SETTLED_MS, Settling},
        wins::Wins,
    },
    budget::AccountId,
    record::{
        show::{
            columns::{Columns, plain},
            json::Object,
        },
        when::utc,
    },
    units::Currency,
};
use std::{collections::BTreeMap, net::SocketAddr};

#[derive(Args, Debug)]
pub(super) struct InvoiceArgs {
    /// The month of the auctions, where each advertiser is at home: 2026-01.
    #[arg(long, value_name = "MONTH", value_parser = month)]
    month: Month,
    /// Only this account: an advertiser with all its campaigns, or a campaign.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Open it: also each win, what came of it, and where the records are that say so.
    #[arg(long)]
    lines: bool,
    /// Of that, only the wins behind one figure: charged, freed, lapsed, reduced, waiting, billed, late_notices.
    #[arg(long, value_name = "LINE", requires = "lines", value_parser = line)]
    of: Option<Line>,
    /// Comma-separated values: the sums, or with --lines the wins.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// The admin port of the exchange, if it runs: for the names of accounts that are older than the journal.
    #[arg(long)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    place: Where,
}

fn month(text: &str) -> Result<Month, String> {
    Month::parse(text).ok_or_else(|| "a month is such as 2026-01".to_owned())
}

fn line(text: &str) -> Result<Line, String> {
    Line::of(text).ok_or_else(|| format!("there are {}", Line::ALL.map(Line::name).join(", ")))
}

/// What is added up, and printed on the way.
struct Books<'a> {
    accounts: &'a Accounts,
    only: Option<AccountId>,
    /// How wins are printed; `None`: they are not.
    form: Option<Form>,
    /// Only those of this figure.
    of: Option<Line>,
    out: Out,
    bill: Bill<'a>,
    wins: Wins<Shown>,
    late: BTreeMap<Name, Spot>,
    /// Of the wins that were printed, or passed over.
    lines: Sums,
    /// The latest frame's time.
    last_ms: u64,
}

impl Books<'_> {
    fn asked(&self, whose: outcry::billing::Whose) -> bool {
        self.bill.holds(whose) && self.only.is_none_or(|id| self.accounts.is_of(whose.payer, id))
    }

    fn came(&mut self, came: Option<&Came<'_>>, spot: Spot) -> Result<(), AuditError> {
        self.last_ms = self.last_ms.max(spot.ms);
        let Some(came) = came else { return self.print(spot.ms) };
        self.bill.came(came);
        if self.form.is_none() {
            return Ok(());
        }
        match came {
            Came::Won(won) if self.asked(won.whose) => match Shown::of(won) {
                Some(shown) => self.wins.keep(won, spot, shown),
                None => say(format_args!("segment {}, offset {}: a win without its bid", spot.segment, spot.offset)),
            },
            Came::Late { noticed, .. } if self.asked(noticed.whose) => {
                self.late.entry((noticed.event, noticed.imp)).or_insert(spot);
            }
            _ => {}
        }
        self.wins.came(came, spot);
        Ok(())
    }

    /// Prints the wins of which all is known by now.
    fn print(&mut self, now_ms: u64) -> Result<(), AuditError> {
        let Some(form) = self.form else { return Ok(()) };
        while let Some(row) = self.wins.next(now_ms) {
            let sums = row.sums();
            self.lines += sums;
            if self.of.is_none_or(|of| sums.line(of).wins > 0) {
                self.out.text(&form.win(&row))?;
            }
        }
        Ok(())
    }

    /// Prints the notices that came too late, when it is known which.
    fn print_late(&mut self) -> Result<(), AuditError> {
        let Some(form) = self.form else { return Ok(()) };
        for noticed in self.bill.late.all() {
            if let Some(spot) = self.late.get(&(noticed.event, noticed.imp)) {
                self.lines.late += Part::one(noticed.held);
                if matches!(self.of, None | Some(Line::Late)) {
                    self.out.text(&form.late(noticed, *spot))?;
                }
            }
        }
        Ok(())
    }
}

/// True: it is whole, so far as anybody can tell.
pub(super) fn run(args: &InvoiceArgs) -> Result<bool, AuditError> {
    let (from, to) = args.month.utc_ms();
    let auctions = Range::between(from.saturating_sub(billed::AROUND_MS), to + billed::AROUND_MS);
    let mut opened = args.elsewhere.open(&args.place, auctions.longer(SETTLED_MS))?;
    let journal = &mut opened.journal;
    let (accounts, known) = names::accounts(journal, &args.place, args.admin)?;
    let only = args.account.as_deref().map(|name| names::one(&accounts, name)).transpose()?;
    let mut whole = opened.whole & known & billed::complete(journal, from.saturating_sub(billed::AROUND_MS));
    let mut settling = Settling::new(journal.node);
    let mut books = Books {
        accounts: &accounts,
        only,
        form: args.lines.then_some(Form::of(args.place.json, args.csv)),
        of: args.of,
        out: Out::new(),
        bill: Bill::new(&accounts, args.month),
        wins: Wins::default(),
        late: BTreeMap::new(),
        lines: Sums::default(),
        last_ms: 0,
    };
    if let Some(form) = books.form {
        books.out.text(&form.heading())?;
    }
    let readable = billed::walked(journal, auctions, &mut settling, &mut |_, came, spot| books.came(came, spot))?;
    books.print(u64::MAX)?;
    whole &= readable & billed::sifted(journal, auctions, &mut books.bill.late)?;
    books.print_late()?;
    let contradictions = std::mem::take(&mut books.bill.contradictions);
    let Books { bill, mut out, lines, last_ms, .. } = books;
    let mut bill = bill.finish(&settling);
    if let Some(id) = only {
        let name = accounts.name(id);
        bill.rows.retain(|(of, campaign, _), _| matches!(of, Of::Advertiser(a) if *a == name || *campaign == name));
        bill.unknown.clear();
    }
    // Those who ask for wins in other programs' tables add up themselves.
    if !(args.lines && args.csv) {
        out.text(&printed(&bill, Form::of(args.place.json, args.csv)))?;
    }
    out.end()?;
    for c in &contradictions {
        say(format_args!(
            "account {:?}: {} went home for notices that expired at {}, where wins wait that come to {}: what is billed of them \
             is in doubt. `outcry audit verify` says whether records are missing",
            c.whose.payer,
            money(c.lapsed),
            utc(u64::from(c.minute) * 60_000),
            money(c.waited),
        ));
    }
    if last_ms < to {
        let last = utc(last_ms);
        say(format_args!(
            "the records that were read end at {last}, before the month does: what is behind them is not billed here"
        ));
    }
    doubts(&bill);
    let opened = !args.lines || same(&bill, lines);
    if !whole {
        say(format_args!("not all could be read, so these sums may be wrong; `outcry audit verify` says more"));
    }
    Ok(whole && opened && contradictions.is_empty() && bill.unknown.is_empty() && bill.mixed.is_empty())
}

/// Says what nobody could pay by.
fn doubts(bill: &Finished) {
    if !bill.unknown.is_empty() {
        say(format_args!(
            "nothing is known of {} but the number, so not in which month its days are: name the `state_dir` with its ledger, \
             or the exchange's admin port with --admin",
            bill.unknown.join(", ")
        ));
    }
    for payer in &bill.mixed {
        say(format_args!("{payer:?} was charged in several accounting currencies: its sums mean nothing"));
    }
}

/// Do the wins add up to the bill?
fn same(bill: &Finished, lines: Sums) -> bool {
    let mut all = Sums::default();
    bill.rows.values().for_each(|sums| all += *sums);
    let differ = Line::ALL.into_iter().filter(|line| all.line(*line) != lines.line(*line));
    let mut same = true;
    for line in differ {
        let (bill, wins) = (all.line(line), lines.line(line));
        say(format_args!(
            "{}: the bill has {} of {}, the wins above come to {} of {}",
            line.name(),
            money(bill.nanos),
            bill.wins,
            money(wins.nanos),
            wins.wins
        ));
        same = false;
    }
    same
}

/// A campaign, all of an advertiser's, or all of a currency.
struct Row<'a> {
    of: Option<&'a Of>,
    campaign: Option<&'a str>,
    currency: Currency,
    sums: Sums,
}

impl Row<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Row { campaign: Some(_), .. } => "campaign",
            Row { of: Some(Of::Advertiser(_)), .. } => "advertiser",
            Row { of: Some(Of::Buyer(_)), .. } => "buyer",
            Row { of: None, .. } => "sum",
        }
    }

    fn cells(&self) -> [String; 2] {
        let of = match self.of {
            Some(Of::Advertiser(name)) => plain(name.as_bytes()),
            Some(Of::Buyer(name)) => format!("{}, no account", plain(name.as_bytes())),
            None => "all".to_owned(),
        };
        [of, self.campaign.map_or("all".to_owned(), |name| plain(name.as_bytes()))]
    }
}

/// Each campaign, then its advertiser's sum; at last the sum of each currency.
fn rows(bill: &Finished) -> Vec<Row<'_>> {
    let (mut rows, mut all): (Vec<Row<'_>>, BTreeMap<Currency, Sums>) = (Vec::new(), BTreeMap::new());
    let mut of_one: BTreeMap<Currency, Sums> = BTreeMap::new();
    let mut left = bill.rows.iter().peekable();
    while let Some(((of, campaign, currency), sums)) = left.next() {
        rows.push(Row { of: Some(of), campaign: Some(campaign), currency: *currency, sums: *sums });
        *of_one.entry(*currency).or_default() += *sums;
        *all.entry(*currency).or_default() += *sums;
        if left.peek().is_none_or(|((next, ..), _)| next != of) {
            let one = std::mem::take(&mut of_one);
            rows.extend(one.into_iter().map(|(currency, sums)| Row { of: Some(of), campaign: None, currency, sums }));
        }
    }
    rows.extend(all.into_iter().map(|(currency, sums)| Row { of: None, campaign: None, currency, sums }));
    rows
}

fn printed(bill: &Finished, form: Form) -> String {
    let (rows, mut text) = (rows(bill), String::new());
    match form {
        Form::Table if rows.is_empty() => text += "no wins\n",
        Form::Table => {
            let mut columns = Columns::new(&["advertiser", "campaign", "cur", "what", ">wins", ">amount"]);
            for row in &rows {
                let mut head = row.cells();
                let mut currency = row.currency.to_string();
                for (line, part) in row.sums.lines() {
                    let [of, campaign] = std::mem::take(&mut head);
                    let (wins, amount) = (part.wins.to_string(), money(part.nanos));
                    columns.row([of, campaign, std::mem::take(&mut currency), line.name().to_owned(), wins, amount]);
                }
            }
            columns.write(&mut text);
        }
        Form::Json => rows.iter().for_each(|row| json(row, &mut text)),
        Form::Csv => {
            text += &csv::heading(&["type", "advertiser", "buyer", "campaign", "accounting", "line", "wins", "amount"]);
            for row in &rows {
                for (line, part) in Line::ALL.map(|line| (line, row.sums.line(line))) {
                    let word = |word: &dyn ToString| Field::Word(word.to_string());
                    let is = |of: &Of| matches!(of, Of::Advertiser(_));
                    let named = |wanted: bool| row.of.filter(|of| is(of) == wanted).map_or("", Of::text);
                    text += &csv::line(&[
                        word(&row.kind()),
                        Field::Text(named(true).as_bytes()),
                        Field::Text(named(false).as_bytes()),
                        Field::Text(row.campaign.unwrap_or("").as_bytes()),
                        word(&row.currency),
                        word(&line.name()),
                        word(&part.wins),
                        word(&money(part.nanos)),
                    ]);
                }
            }
        }
    }
    text
}

fn json(row: &Row<'_>, text: &mut String) {
    Object::write(text, |o| {
        o.word("type", row.kind());
        match row.of {
            Some(Of::Advertiser(name)) => o.text("advertiser", name.as_bytes()),
            Some(Of::Buyer(name)) => o.text("buyer", name.as_bytes()),
            None => {}
        }
        if let Some(name) = row.campaign {
            o.text("campaign", name.as_bytes());
        }
        o.word("accounting", row.currency);
        for line in Line::ALL {
            let part = row.sums.line(line);
            o.object(line.name(), |o| {
                o.number("wins", part.wins);
                o.number("amount", money(part.nanos));
            });
        }
    });
    text.push('\n');
}
