//! An auction's record for people who have to settle what happened: who was asked and answered what and when, every bid with
//! its price and what became of it, who won at which price and is charged what, and when all of it was.
//! Owns: nothing. Called by: `outcry audit request`. Never: trusts an index of a record; leaves out a bid.
//!
//! Times are milliseconds since the first byte of the request.
use super::columns::{Columns, plain};
use crate::{
    auction::{
        Delivery, Record,
        input::{BidIn, Floor, Inputs, Kept, NO_DEAL, NotAsked},
    },
    config::RunnerUp,
    openrtb::codes::{Loss, Nbr, Outcome},
    record::{
        labels::{LossReason, Stage},
        user::User,
        when::utc,
    },
    units::{Money, Multiplier, Probability},
};
use std::fmt::Write;

/// Appends an auction, and what is known of how its answer reached the exchange.
pub fn report(record: &Record, deliveries: &[Delivery], out: &mut String) {
    let i = &record.inputs;
    let test = if i.test { " (test: nothing is charged)" } else { "" };
    let _ = writeln!(out, "auction {} of request {}{test}", i.event, text(i, i.request_id));
    for (name, of) in head(record, deliveries) {
        let _ = writeln!(out, "  {name:<9} {of}");
    }
    for (title, columns) in [
        ("impressions", impressions(i)),
        ("DSPs asked", asked(i)),
        ("DSPs not asked", not_asked(i)),
        ("bids", bids(record)),
        ("winners", winners(record)),
        ("house ads", house(record)),
    ] {
        if title == "house ads" && columns.is_empty() {
            continue;
        }
        if columns.is_empty() {
            let _ = writeln!(out, "{title}: none");
        } else {
            let _ = writeln!(out, "{title}");
            columns.write(out);
        }
    }
}

fn head(record: &Record, deliveries: &[Delivery]) -> Vec<(&'static str, String)> {
    let (i, d) = (&record.inputs, &record.decision);
    let mut place = vec![format!("{}, publisher {}", text(i, i.exchange), text(i, i.publisher))];
    place.extend(i.channel.name().map(str::to_string));
    if i.country != [0; 3] {
        place.push(plain(&i.country));
    }
    if i.device_type > 0 {
        place.push(format!("device type {}", i.device_type));
    }
    let price = match i.at {
        1 => "first price".to_string(),
        2 => "second price".to_string(),
        at => format!("`at` {at}"),
    };
    let by = if i.runner_up == RunnerUp::OtherSeat { "seat" } else { "DSP" };
    let rate = i.answer_rate.map_or("without a rate, so nothing can win".to_string(), |rate| {
        format!("at {} {} (rates {})", Money(rate.0 as i64), i.accounting, text(i, i.rate_id))
    });
    let result = match d.nbr {
        Some(nbr) => format!("no bid, nbr {}: {}", nbr as u16, why(nbr)),
        None => format!("{} of {} impressions sold", d.wins.len(), i.imps.len()),
    };
    let id = i.event;
    let mut rows = vec![
        ("received", format!("{} by node {:08x}, epoch {}, core {}", utc(i.wall_ms), id.node, id.epoch, id.core)),
        ("from", place.join(", ")),
        ("rules", format!("{price}, runner-up of another {by}, plus {} {}", i.increment, i.accounting)),
        ("answer in", format!("{} {rate}", i.answer_currency)),
        (
            "times",
            format!(
                "request whole {}, DSPs asked {}, decided {}, due {}",
                ms(i, i.whole_ns),
                ms(i, i.asked_ns),
                ms(i, i.decided_ns),
                ms(i, i.deadline_ns)
            ),
        ),
        ("result", result),
        ("delivery", delivered(i, deliveries)),
        ("person", person(i.user)),
        ("digests", format!("request {:016x}, configuration {:016x}", i.digest, i.config_hash)),
    ];
    if let Some(stages) = &i.stages {
        let each = |(stage, ns): (Stage, u64)| format!("{} {}.{:03}", stage.name(), ns / 1000, ns % 1000);
        let all: Vec<_> = stages.measured().map(each).collect();
        rows.push(("stages", format!("{}, in microseconds", all.join(", "))));
    }
    if i.awaited_s != 0 {
        let until = utc(u64::from(i.awaited_s) * 1_000);
        rows.push(("charged", format!("when billing notices come, until {until}")));
    }
    if i.tid.len > 0 {
        rows.push(("tid", text(i, i.tid)));
    }
    if let Some(trace) = i.trace {
        rows.push(("trace", trace.to_string()));
    }
    rows
}

/// A no-bid reason in words.
fn why(nbr: Nbr) -> &'static str {
    match nbr {
        Nbr::Unknown => "not known",
        Nbr::Technical => "a fault of this exchange",
        Nbr::InvalidRequest => "the request broke a rule",
        Nbr::InsufficientTime => "too little time to ask anybody",
        Nbr::NoBids => "nobody offered anything that could win",
        Nbr::Overload => "no room",
        Nbr::NothingToSell => "no impression can be sold here",
    }
}

fn delivered(i: &Inputs, deliveries: &[Delivery]) -> String {
    let each = |d: &Delivery| match *d {
        Delivery::Written { at_ns } => format!("written in time, at {}", ms(i, at_ns)),
        Delivery::Late { at_ns } => format!("written LATE, at {}", ms(i, at_ns)),
        Delivery::Failed => "FAILED: the connection broke or would not take it".to_string(),
        Delivery::ClientLeft => "NOT SENT: the exchange had left".to_string(),
    };
    match deliveries {
        [] => "written in time: nothing else is recorded".to_string(),
        all => all.iter().map(each).collect::<Vec<_>>().join("; "),
    }
}

fn person(user: User) -> String {
    match user {
        User::Unknown => "no id".to_string(),
        User::Hashed { salt, hash } => format!("{hash:016x} under salt {salt}"),
        User::Coppa => "withheld: coppa".to_string(),
        User::Lmt => "withheld: lmt".to_string(),
        User::NoConsent => "withheld: no consent".to_string(),
        User::NoSalt => "withheld: no salt".to_string(),
    }
}

fn impressions(i: &Inputs) -> Columns {
    let mut columns = Columns::new(&["imp", "placement", ">floor", "cur", ">due", "deals", "remarks"]);
    for imp in &i.imps {
        let mut remarks = Vec::new();
        if imp.private {
            remarks.push("private auction".to_string());
        }
        if imp.refused {
            remarks.push("offered to nobody".to_string());
        }
        if imp.qty != Multiplier::ONE {
            remarks.push(format!("qty {}", crate::units::Cpm(imp.qty.0 as i64))); // millionths, as a CPM is
        }
        if let Some((media, floor)) = imp.media_floor {
            let media = media.names().collect::<Vec<_>>().join("+");
            remarks.push(format!("{media} from {} {}", floor.amount, floor.currency));
        }
        let deal = |d: &crate::auction::input::DealIn| {
            format!("{} from {} {}", text(i, d.id), d.floor.amount, d.floor.currency)
        };
        let deals: Vec<_> = imp.deals.of(&i.deals).iter().map(deal).collect();
        columns.row([
            text(i, imp.id),
            text(i, imp.tagid),
            imp.floor.amount.to_string(),
            imp.floor.currency.to_string(),
            due(imp.floor),
            or_dash(deals.join(", ")),
            remarks.join(", "),
        ]);
    }
    columns
}

fn asked(i: &Inputs) -> Columns {
    let mut columns = Columns::new(&[
        "DSP",
        "outcome",
        ">bids",
        ">sent ms",
        ">first byte ms",
        ">known ms",
        "cur",
        ">rate",
        "remarks",
    ]);
    for leg in &i.legs {
        let mut remarks = Vec::new();
        if leg.closed_by_decision {
            remarks.push("still pending when it was decided".to_string());
        }
        if let Some(nbr) = leg.nbr {
            remarks.push(format!("its nbr {nbr}"));
        }
        for (n, what) in [(leg.bids_unusable, "bids unusable"), (leg.bids_dropped, "bids not looked at")] {
            if n > 0 {
                remarks.push(format!("{n} {what}"));
            }
        }
        if !leg.asked_probability.is_always() {
            remarks.push(odds(leg.asked_probability));
        }
        let offered = i.imps.iter().take(64).enumerate().filter(|(at, _)| leg.imps >> at & 1 == 1);
        if offered.clone().count() < i.imps.len() {
            let ids: Vec<_> = offered.map(|(_, imp)| text(i, imp.id)).collect();
            remarks.push(format!("offered {}", or_dash(ids.join(", "))));
        }
        columns.row([
            text(i, leg.name),
            leg.outcome.map_or("pending", Outcome::name).to_string(),
            leg.bids_seen.to_string(),
            span(i, leg.sent_ns),
            span(i, leg.first_byte_ns),
            span(i, leg.done_ns),
            leg.currency.to_string(),
            Money(leg.rate.0 as i64).to_string(), // billionths, as money is
            remarks.join(", "),
        ]);
    }
    columns
}

/// A probability for people.
fn odds(probability: Probability) -> String {
    let n = probability.of_10_000();
    format!("asked in {}.{:02} of 100 cases", n / 100, n % 100)
}

fn not_asked(i: &Inputs) -> Columns {
    let mut columns = Columns::new(&["DSP", "why", "remarks"]);
    for NotAsked { name, outcome, asked_probability } in &i.not_asked {
        let remark = if asked_probability.is_always() { String::new() } else { odds(*asked_probability) };
        columns.row([text(i, *name), outcome.name().to_string(), remark]);
    }
    columns
}

fn house(record: &Record) -> Columns {
    let mut columns = Columns::new(&["imp", ">price", "cur", "crid"]);
    let i = &record.inputs;
    for ad in &record.house {
        let imp = i.imps.get(usize::from(ad.imp)).map_or(String::new(), |imp| text(i, imp.id));
        columns.row([imp, ad.price.to_string(), i.answer_currency.to_string(), text(i, ad.crid)]);
    }
    columns
}

fn bids(record: &Record) -> Columns {
    let (i, d) = (&record.inputs, &record.decision);
    let mut columns = Columns::new(&[
        ">#", "DSP", "seat", "bid", "imp", ">price", "cur", "deal", "adomain", "cid", "crid", "result", ">to win",
    ]);
    for (at, bid) in i.bids.iter().enumerate() {
        let loss = d.losses.get(at).copied().unwrap_or(bid.verdict);
        let result = match LossReason::of(loss) {
            None => "WON".to_string(),
            Some(reason) => format!("lost: {} ({})", reason.name(), loss as u16),
        };
        let to_win = if loss == Loss::Won { None } else { d.min_to_win(i, at as u16) };
        columns.row([
            at.to_string(),
            dsp(i, bid),
            text(i, bid.seat),
            text(i, bid.id),
            i.imps.get(usize::from(bid.imp)).map_or("not offered".to_string(), |imp| text(i, imp.id)),
            bid.price.to_string(),
            i.legs.get(usize::from(bid.leg)).map_or(i.answer_currency, |l| l.currency).to_string(),
            deal(i, bid),
            text(i, bid.adomain),
            text(i, bid.cid),
            text(i, bid.crid),
            result,
            to_win.map_or("-".to_string(), |price| price.to_string()),
        ]);
    }
    columns
}

fn winners(record: &Record) -> Columns {
    let (i, d) = (&record.inputs, &record.decision);
    let price = format!(">price {}", i.answer_currency);
    let own = format!(">own bid {}", i.answer_currency);
    let to_win = format!(">to win {}", i.answer_currency);
    let clearing = format!(">clearing {}", i.accounting);
    let charge = format!(">charge {}", i.accounting);
    let mut columns = Columns::new(&[
        "imp",
        ">#",
        "DSP",
        "seat",
        "bid",
        "deal",
        ">floor",
        "cur",
        &own,
        &price,
        &to_win,
        &clearing,
        &charge,
        ">account",
        "window from",
    ]);
    for win in &d.wins {
        let bid = i.bids.get(usize::from(win.input));
        let floor = bid.and_then(|b| i.floor_of(b)).unwrap_or_default();
        let of = |f: &dyn Fn(&BidIn) -> String| bid.map_or("-".to_string(), f);
        columns.row([
            i.imps.get(usize::from(win.imp)).map_or("-".to_string(), |imp| text(i, imp.id)),
            win.input.to_string(),
            of(&|b| dsp(i, b)),
            of(&|b| text(i, b.seat)),
            of(&|b| text(i, b.id)),
            of(&|b| deal(i, b)),
            floor.amount.to_string(),
            floor.currency.to_string(),
            win.bid_price.to_string(),
            win.price.to_string(),
            win.min_to_win.to_string(),
            win.clearing.to_string(),
            win.charge.to_string(),
            if win.account.is_some() { win.account.to_string() } else { "-".to_string() },
            if win.account.is_some() { utc(u64::from(win.period.0) * 60_000) } else { "-".to_string() },
        ]);
    }
    columns
}

/// A text of the record; one that was cut ends in `...`.
fn text(i: &Inputs, kept: Kept) -> String {
    plain(i.text(kept)) + if kept.cut { "..." } else { "" }
}

fn dsp(i: &Inputs, bid: &BidIn) -> String {
    i.legs.get(usize::from(bid.leg)).map_or("-".to_string(), |leg| text(i, leg.name))
}

fn deal(i: &Inputs, bid: &BidIn) -> String {
    let deal = i.deals.get(usize::from(bid.deal)).filter(|_| bid.deal != NO_DEAL);
    deal.map_or("-".to_string(), |deal| text(i, deal.id))
}

fn due(floor: Floor) -> String {
    floor.due.map_or("no rate".to_string(), |due| due.to_string())
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_string() } else { text }
}

/// Milliseconds since the first byte, to the microsecond.
fn span(i: &Inputs, ns: u64) -> String {
    if ns == 0 {
        return "-".to_string();
    }
    let us = ns.saturating_sub(i.arrival_ns) / 1000;
    format!("{}.{:03}", us / 1000, us % 1000)
}

fn ms(i: &Inputs, ns: u64) -> String {
    if ns == 0 { "-".to_string() } else { span(i, ns) + " ms" }
}
