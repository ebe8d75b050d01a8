//! `outcry audit advertiser`: what an advertiser won, one win a line, and the sums.
//!
//! A record knows an advertiser by what the winning bid says of itself: the first of its `adomain`, its `seat`, its `cid`.
//! Nothing of that is ours, so seats and campaigns mean something only together with the DSP. A win that is charged when its
//! billing notice comes is shown with what it costs then, as `on_notice`; what came of it is in the records of notices.
use super::{AuditError, Out, Place, Range, Where, directory::Journal, say, walk};
use clap::{Args, ValueEnum};
use outcry::{
    auction::{
        Delivery, Record, Win,
        input::{BidIn, NO_DEAL},
    },
    record::{
        frame::Kind,
        show::{
            columns::{Columns, plain},
            json::Object,
        },
        when::utc,
    },
    units::{Currency, EventId, Money},
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// A delivery is written at most so long after its auction: more than the longest `tmax` and the longest write.
const DELIVERED_MS: u64 = 60_000;

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
    #[command(flatten)]
    range: Range,
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
}

impl AdvertiserArgs {
    fn meets(&self, record: &Record, bid: &BidIn) -> bool {
        let i = &record.inputs;
        let whose = |dsp: &String| i.legs.get(usize::from(bid.leg)).is_some_and(|l| i.text(l.name) == dsp.as_bytes());
        let id = self.id.as_bytes();
        self.dsp.as_ref().is_none_or(whose)
            && match self.by {
                By::Adomain => i.text(bid.adomain).eq_ignore_ascii_case(id),
                By::Seat => i.text(bid.seat) == id,
                By::Cid => i.text(bid.cid) == id,
            }
    }
}

/// One win, as it is printed.
struct Row {
    place: Place,
    ms: u64,
    event: EventId,
    test: bool,
    request: Vec<u8>,
    exchange: Vec<u8>,
    imp: Vec<u8>,
    dsp: Vec<u8>,
    seat: Vec<u8>,
    bid: Vec<u8>,
    cid: Vec<u8>,
    crid: Vec<u8>,
    deal: Vec<u8>,
    cur: Currency,
    accounting: Currency,
    win: Win,
    /// It is charged when its notice comes, whatever became of the answer.
    awaits: bool,
}

impl Row {
    fn new(place: Place, ms: u64, record: &Record, win: &Win, bid: &BidIn) -> Row {
        let i = &record.inputs;
        let text = |kept| i.text(kept).to_vec();
        Row {
            place,
            ms,
            event: i.event,
            test: i.test,
            request: text(i.request_id),
            exchange: text(i.exchange),
            imp: i.imps.get(usize::from(win.imp)).map_or(Vec::new(), |imp| text(imp.id)),
            dsp: i.legs.get(usize::from(bid.leg)).map_or(Vec::new(), |leg| text(leg.name)),
            seat: text(bid.seat),
            bid: text(bid.id),
            cid: text(bid.cid),
            crid: text(bid.crid),
            deal: match bid.deal {
                NO_DEAL => Vec::new(),
                at => i.deals.get(usize::from(at)).map_or(Vec::new(), |deal| text(deal.id)),
            },
            cur: i.answer_currency,
            accounting: i.accounting,
            win: *win,
            awaits: i.awaited_s != 0,
        }
    }

    fn line(&self, delivery: &str) -> String {
        let dsp = format!("{}/{}/{}", plain(&self.dsp), plain(&self.seat), plain(&self.cid));
        format!(
            "{:<24} {:>12} {} {:>12} {} {:<13} {:<30} {:<12} {:<12} {:<12} {}{}\n",
            utc(self.ms),
            self.win.price.to_string(),
            self.cur,
            self.win.charge.to_string(),
            self.accounting,
            delivery,
            dsp,
            plain(&self.crid),
            plain(&self.deal),
            plain(&self.imp),
            plain(&self.request),
            if self.test { " (test)" } else { "" },
        )
    }

    fn json(&self, delivery: &str) -> String {
        let mut line = String::new();
        Object::write(&mut line, |o| {
            o.word("type", "win");
            o.word("time", utc(self.ms));
            o.word("bidid", self.event);
            o.text("id", &self.request);
            o.text("exchange", &self.exchange);
            o.text("impid", &self.imp);
            o.text("dsp", &self.dsp);
            o.some_text("seat", &self.seat);
            o.text("bid", &self.bid);
            o.some_text("cid", &self.cid);
            o.some_text("crid", &self.crid);
            o.some_text("dealid", &self.deal);
            o.number("price", self.win.price);
            o.word("cur", self.cur);
            o.number("charge", self.win.charge);
            o.word("accounting", self.accounting);
            o.word("delivery", delivery);
            if self.test {
                o.number("test", 1);
            }
            o.number("segment", self.place.segment);
            o.number("offset", self.place.offset);
        });
        line.push('\n');
        line
    }
}

const HEADING: &str = "time                            price CPM             charge     delivery      \
                       DSP/seat/campaign              creative     deal         impression   request\n";

/// Sums of one DSP, seat, campaign and accounting currency. 128 bits: nothing that is added up leaves them.
#[derive(Clone, Copy, Default)]
struct Sum {
    wins: u64,
    test: u64,
    undelivered: u64,
    charge: i128,
    undelivered_charge: i128,
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.wins += other.wins;
        self.test += other.test;
        self.undelivered += other.undelivered;
        self.charge += other.charge;
        self.undelivered_charge += other.undelivered_charge;
    }
}

type Of = (Vec<u8>, Vec<u8>, Vec<u8>, Currency);

/// Wins that wait for their delivery: it is written behind them.
struct Books<'a> {
    args: &'a AdvertiserArgs,
    out: Out,
    waiting: VecDeque<Row>,
    /// What is known of the auctions of those that wait.
    deliveries: HashMap<EventId, &'static str>,
    sums: BTreeMap<Of, Sum>,
    /// Wins that are charged when their notices come.
    on_notice: u64,
}

impl Books<'_> {
    /// Prints what nothing is waited for any more: all that is older than `before_ms`.
    fn settle(&mut self, before_ms: u64) -> Result<(), AuditError> {
        while self.waiting.front().is_some_and(|row| row.ms < before_ms) {
            let Some(row) = self.waiting.pop_front() else { break };
            let last = self.waiting.front().is_none_or(|next| next.event != row.event);
            let delivery = match last {
                true => self.deliveries.remove(&row.event),
                false => self.deliveries.get(&row.event).copied(),
            };
            let delivery = if row.awaits { "on_notice" } else { delivery.unwrap_or("written") };
            self.on_notice += u64::from(row.awaits);
            let gone = matches!(delivery, "failed" | "client_left");
            let charge = i128::from(row.win.charge.0);
            let sum =
                self.sums.entry((row.dsp.clone(), row.seat.clone(), row.cid.clone(), row.accounting)).or_default();
            sum.add(&Sum {
                wins: 1,
                test: row.test.into(),
                undelivered: gone.into(),
                charge,
                undelivered_charge: if gone { charge } else { 0 },
            });
            if !self.args.totals {
                self.out.text(&if self.args.place.json { row.json(delivery) } else { row.line(delivery) })?;
            }
        }
        Ok(())
    }

    fn totals(&mut self) -> Result<(), AuditError> {
        let mut all: BTreeMap<Currency, Sum> = BTreeMap::new();
        let mut columns = Columns::new(&[
            "DSP",
            "seat",
            "campaign",
            ">wins",
            ">test",
            ">not delivered",
            ">charge",
            ">of it not delivered",
            "cur",
        ]);
        let mut text = String::new();
        for ((dsp, seat, cid, cur), sum) in &self.sums {
            all.entry(*cur).or_default().add(sum);
            if self.args.place.json {
                text += &json_sum("total", *cur, sum, |o| {
                    o.text("dsp", dsp);
                    o.some_text("seat", seat);
                    o.some_text("cid", cid);
                });
            } else {
                columns.row(cells([plain(dsp), plain(seat), plain(cid)], *cur, sum));
            }
        }
        let none = BTreeMap::from([(Currency::USD, Sum::default())]);
        let all = if all.is_empty() && self.args.place.json { &none } else { &all };
        for (cur, sum) in all {
            if self.args.place.json {
                text += &json_sum("sum", *cur, sum, |_| {});
            } else {
                columns.row(cells(["all".to_string(), String::new(), String::new()], *cur, sum));
            }
        }
        if columns.is_empty() && !self.args.place.json {
            text += "no wins\n";
        } else if !self.args.place.json {
            text += "totals\n";
            columns.write(&mut text);
        }
        self.out.text(&text)
    }
}

fn cells([dsp, seat, cid]: [String; 3], cur: Currency, sum: &Sum) -> [String; 9] {
    [
        dsp,
        seat,
        cid,
        sum.wins.to_string(),
        sum.test.to_string(),
        sum.undelivered.to_string(),
        money(sum.charge),
        money(sum.undelivered_charge),
        cur.to_string(),
    ]
}

fn json_sum(what: &str, cur: Currency, sum: &Sum, whose: impl FnOnce(&mut Object<'_>)) -> String {
    let mut line = String::new();
    Object::write(&mut line, |o| {
        o.word("type", what);
        whose(o);
        o.number("wins", sum.wins);
        o.number("test", sum.test);
        o.number("not_delivered", sum.undelivered);
        o.number("charge", money(sum.charge));
        o.number("charge_not_delivered", money(sum.undelivered_charge));
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
    let mut journal = Journal::open(&args.place)?;
    let mut books = Books {
        args,
        out: Out::new(),
        waiting: VecDeque::new(),
        deliveries: HashMap::new(),
        sums: BTreeMap::new(),
        on_notice: 0,
    };
    if !args.place.json && !args.totals {
        books.out.text(HEADING)?;
    }
    let mut readable = true;
    // Deliveries of the last ones come behind them.
    let whole = walk::frames(&mut journal, args.range.longer(DELIVERED_MS), &mut |place, frame| {
        let ms = frame.header.hlc >> 16;
        match frame.kind() {
            Some(Kind::Auction) if args.range.holds(frame.header.hlc) => {
                books.settle(ms.saturating_sub(DELIVERED_MS))?;
                match Record::decode(frame.payload()) {
                    Ok(record) => {
                        for win in &record.decision.wins {
                            let bid = record.inputs.bids.get(usize::from(win.input));
                            if let Some(bid) = bid.filter(|bid| args.meets(&record, bid)) {
                                books.deliveries.insert(record.inputs.event, "written");
                                books.waiting.push_back(Row::new(*place, ms, &record, win, bid));
                            }
                        }
                    }
                    Err(why) => {
                        say(format_args!(
                            "segment {}, offset {}: the record cannot be read: {why}",
                            place.segment, place.offset
                        ));
                        readable = false;
                    }
                }
            }
            Some(Kind::Delivery) => {
                if let Ok(read) = Delivery::decode(frame.payload())
                    && let Some(known) = books.deliveries.get_mut(&read.event)
                {
                    *known = match read.delivery {
                        Delivery::Written { .. } => "written",
                        Delivery::Late { .. } => "late",
                        Delivery::Failed => "failed",
                        Delivery::ClientLeft => "client_left",
                    };
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    books.settle(u64::MAX)?;
    books.totals()?;
    books.out.end()?;
    if books.on_notice > 0 {
        say(format_args!(
            "{} of these wins are charged when their billing notices come: `outcry audit cat --kind notice,lapse` has what came, \
             `outcry audit reconcile` what was spent",
            books.on_notice
        ));
    }
    if !whole || !readable {
        say(format_args!("not all could be read: there may be more wins; `outcry audit verify` says more"));
    }
    Ok(whole && readable)
}
