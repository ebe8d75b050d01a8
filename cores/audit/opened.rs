//! Wins as they are printed, each with what came of it and the records that say so.
//! Owns: nothing. Called by: `advertiser`, `invoice --lines`.
use super::{
    advertiser::money,
    csv::{self, Field},
};
use outcry::{
    auction::input::NO_DEAL,
    billing::{
        Spot,
        bill::Line,
        settling::{Noticed, Won},
        wins::{Fate, Kept},
    },
    record::{
        show::{columns::plain, json::Object},
        when::utc,
    },
    units::{Cpm, Currency, Money},
};

/// What is printed of a win besides what it comes to. Many are kept at once, so its texts are one.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) test: bool,
    texts: Box<[u8]>,
    /// Where each [`Text`] ends.
    ends: [u16; Text::ALL.len()],
    price: Cpm,
    cur: Currency,
    pub(super) accounting: Currency,
}

/// A text of a win.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Text {
    /// `request.id`
    Request,
    /// The exchange's name.
    Exchange,
    /// `imp.id`
    Imp,
    /// The DSP's name.
    Dsp,
    /// `seatbid.seat`
    Seat,
    /// `bid.id`
    Bid,
    /// `bid.cid`
    Cid,
    /// `bid.crid`
    Crid,
    /// `deal.id`
    Deal,
}

impl Text {
    const ALL: [Text; 9] =
        [Text::Request, Text::Exchange, Text::Imp, Text::Dsp, Text::Seat, Text::Bid, Text::Cid, Text::Crid, Text::Deal];
}

impl Shown {
    /// Of a win; `None`: its record names no bid of it.
    pub(super) fn of(won: &Won<'_>) -> Option<Shown> {
        let (i, win) = (&won.record.inputs, won.win);
        let bid = i.bids.get(usize::from(win.input))?;
        let deal = i.deals.get(usize::from(bid.deal)).filter(|_| bid.deal != NO_DEAL);
        let kept = |text: Text| match text {
            Text::Request => Some(i.request_id),
            Text::Exchange => Some(i.exchange),
            Text::Imp => i.imps.get(usize::from(win.imp)).map(|imp| imp.id),
            Text::Dsp => i.legs.get(usize::from(bid.leg)).map(|leg| leg.name),
            Text::Seat => Some(bid.seat),
            Text::Bid => Some(bid.id),
            Text::Cid => Some(bid.cid),
            Text::Crid => Some(bid.crid),
            Text::Deal => deal.map(|deal| deal.id),
        };
        let (texts, ends) = texts(|text| kept(text).map_or(&[], |kept| i.text(kept)));
        Some(Shown { test: i.test, texts, ends, price: win.price, cur: i.answer_currency, accounting: i.accounting })
    }

    /// Of a row of the tiers.
    #[cfg(feature = "tiers")]
    pub(super) fn of_row(won: &outcry::tiers::wins::Won) -> Shown {
        let (texts, ends) = texts(|text| match text {
            Text::Request => &won.request,
            Text::Exchange => &won.exchange,
            Text::Imp => &won.imp,
            Text::Dsp => &won.dsp,
            Text::Seat => &won.seat,
            Text::Bid => &won.bid,
            Text::Cid => &won.cid,
            Text::Crid => &won.crid,
            Text::Deal => &won.deal,
        });
        Shown { test: won.test, texts, ends, price: won.price, cur: won.cur, accounting: won.accounting }
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        let at = text as usize;
        let begins = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.texts.get(usize::from(begins)..usize::from(self.ends[at])).unwrap_or(&[])
    }
}

/// All texts as one, and where each ends.
fn texts<'t>(of: impl Fn(Text) -> &'t [u8]) -> (Box<[u8]>, [u16; Text::ALL.len()]) {
    let mut texts = Vec::new();
    let ends = Text::ALL.map(|text| {
        texts.extend_from_slice(of(text));
        u16::try_from(texts.len()).unwrap_or(u16::MAX)
    });
    (texts.into_boxed_slice(), ends)
}

/// A win.
pub(super) type Row = Kept<Shown>;

/// Was it answered and not taken? Said only of those that are charged for good at their auctions.
pub(super) fn undelivered(row: &Row) -> bool {
    matches!(row.fate.name(), "failed" | "client_left")
}

/// The price that its notice came to.
fn paid(row: &Row) -> Option<Cpm> {
    match row.fate {
        Fate::Billed { price, .. } => Some(price),
        Fate::Charged(_) | Fate::Waits | Fate::Lapsed => None,
    }
}

fn billed(row: &Row) -> i128 {
    row.sums().line(Line::Billed).nanos
}

pub(super) const HEADING: &str = "time                            price CPM             charge     came of it           billed     paid CPM \
                                  when                     DSP/seat/campaign              creative     deal         impression   \
                                  request      auction                              records\n";

const COLUMNS: [&str; 24] = [
    "type",
    "time",
    "bidid",
    "id",
    "exchange",
    "imp",
    "impid",
    "dsp",
    "seat",
    "bid",
    "cid",
    "crid",
    "dealid",
    "price",
    "cur",
    "charge",
    "accounting",
    "delivery",
    "paid_price",
    "billed",
    "segment",
    "offset",
    "settled",
    "settled_at",
];

pub(super) fn csv_heading() -> String {
    csv::heading(&COLUMNS)
}

fn at(spot: &Spot) -> String {
    format!("{}/{}", spot.segment, spot.offset)
}

pub(super) fn line(row: &Row) -> String {
    let text = |text| plain(row.what.text(text));
    let dash = || "-".to_owned();
    format!(
        "{:<24} {:>12} {} {:>12} {} {:<11} {:>15} {:>12} {:<24} {:<30} {:<12} {:<12} {:<12} {:<12} {} {}{}{}\n",
        utc(row.spot.ms),
        row.what.price.to_string(),
        row.what.cur,
        row.charge.to_string(),
        row.what.accounting,
        row.fate.name(),
        money(billed(row)),
        paid(row).map_or_else(dash, |price| price.to_string()),
        row.because.map_or_else(dash, |spot| utc(spot.ms)),
        format!("{}/{}/{}", text(Text::Dsp), text(Text::Seat), text(Text::Cid)),
        text(Text::Crid),
        text(Text::Deal),
        text(Text::Imp),
        text(Text::Request),
        row.event,
        at(&row.spot),
        row.because.map_or(String::new(), |spot| format!(" {}", at(&spot))),
        if row.what.test { " (test)" } else { "" },
    )
}

pub(super) fn json(row: &Row) -> String {
    let mut line = String::new();
    Object::write(&mut line, |o| {
        o.word("type", "win");
        o.word("time", utc(row.spot.ms));
        o.word("bidid", row.event);
        o.text("id", row.what.text(Text::Request));
        o.text("exchange", row.what.text(Text::Exchange));
        o.number("imp", row.imp);
        o.text("impid", row.what.text(Text::Imp));
        o.text("dsp", row.what.text(Text::Dsp));
        o.some_text("seat", row.what.text(Text::Seat));
        o.text("bid", row.what.text(Text::Bid));
        o.some_text("cid", row.what.text(Text::Cid));
        o.some_text("crid", row.what.text(Text::Crid));
        o.some_text("dealid", row.what.text(Text::Deal));
        o.number("price", row.what.price);
        o.word("cur", row.what.cur);
        o.number("charge", row.charge);
        o.word("accounting", row.what.accounting);
        o.word("delivery", row.fate.name());
        o.some_number("paid_price", paid(row));
        if let Fate::Billed { said, .. } = row.fate {
            o.word("said", said.name());
        }
        o.some_number("freed", (row.freed > Money(0)).then_some(row.freed));
        o.number("billed", money(billed(row)));
        if row.what.test {
            o.number("test", 1);
        }
        o.number("segment", row.spot.segment);
        o.number("offset", row.spot.offset);
        if let Some(spot) = row.because {
            o.object("settled", |o| {
                o.word("time", utc(spot.ms));
                o.number("segment", spot.segment);
                o.number("offset", spot.offset);
            });
        }
    });
    line.push('\n');
    line
}

pub(super) fn csv_line(row: &Row) -> String {
    let s = &row.what;
    let word = |word: &dyn ToString| Field::Word(word.to_string());
    let because = row.because.unwrap_or_default();
    let some = |there: bool, text: String| Field::Word(if there { text } else { String::new() });
    csv::line(&[
        word(&if s.test { "test" } else { "win" }),
        word(&utc(row.spot.ms)),
        word(&row.event),
        Field::Text(s.text(Text::Request)),
        Field::Text(s.text(Text::Exchange)),
        word(&row.imp),
        Field::Text(s.text(Text::Imp)),
        Field::Text(s.text(Text::Dsp)),
        Field::Text(s.text(Text::Seat)),
        Field::Text(s.text(Text::Bid)),
        Field::Text(s.text(Text::Cid)),
        Field::Text(s.text(Text::Crid)),
        Field::Text(s.text(Text::Deal)),
        word(&s.price),
        word(&s.cur),
        word(&row.charge),
        word(&s.accounting),
        word(&row.fate.name()),
        Field::Word(paid(row).map_or(String::new(), |price| price.to_string())),
        word(&money(billed(row))),
        word(&row.spot.segment),
        word(&row.spot.offset),
        some(row.because.is_some(), utc(because.ms)),
        some(row.because.is_some(), at(&because)),
    ])
}

/// How rows are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Table,
    Json,
    Csv,
}

impl Form {
    pub(super) fn of(json: bool, csv: bool) -> Form {
        match (json, csv) {
            (true, _) => Form::Json,
            (false, true) => Form::Csv,
            (false, false) => Form::Table,
        }
    }

    pub(super) fn heading(self) -> String {
        match self {
            Form::Table => HEADING.to_owned(),
            Form::Json => String::new(),
            Form::Csv => csv_heading(),
        }
    }

    pub(super) fn win(self, row: &Row) -> String {
        match self {
            Form::Table => line(row),
            Form::Json => json(row),
            Form::Csv => csv_line(row),
        }
    }

    /// A notice that came too late to be charged.
    pub(super) fn late(self, noticed: &Noticed, spot: Spot) -> String {
        let Noticed { event, imp, held, price, .. } = noticed;
        let (held, price, time) = (held.to_string(), price.to_string(), utc(spot.ms));
        match self {
            Form::Table => {
                format!(
                    "{time:<24} late notice of {event}, impression {imp}: {held} was not charged; record {}\n",
                    at(&spot)
                )
            }
            Form::Json => {
                let mut line = String::new();
                Object::write(&mut line, |o| {
                    o.word("type", "late_notice");
                    o.word("time", time);
                    o.word("bidid", event);
                    o.number("imp", imp);
                    o.number("price", price);
                    o.number("not_charged", held);
                    o.number("segment", spot.segment);
                    o.number("offset", spot.offset);
                });
                line + "\n"
            }
            Form::Csv => {
                let mut fields: Vec<Field<'_>> = COLUMNS.iter().map(|_| Field::Text(b"")).collect();
                let said = [
                    (0, "late_notice".to_owned()),
                    (1, time),
                    (2, event.to_string()),
                    (5, imp.to_string()),
                    (13, price),
                    (15, held),
                    (17, "late_notice".to_owned()),
                    (19, "0".to_owned()),
                    (20, spot.segment.to_string()),
                    (21, spot.offset.to_string()),
                ];
                for (at, word) in said {
                    fields[at] = Field::Word(word);
                }
                csv::line(&fields)
            }
        }
    }
}
