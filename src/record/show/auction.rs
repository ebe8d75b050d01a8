//! An auction's record as JSON.
//! Owns: nothing. Runs on: readers of journals. Called by: `show`. Never: trusts an index of a record.
use super::json::Object;
use crate::{
    auction::{
        Answer, Record, Win,
        input::{BidIn, Floor, Inputs, Kept, NO_DEAL},
    },
    openrtb::codes::Loss,
    record::{labels::LossReason, user::User},
    units::{Probability, Rate},
};

/// Appends a record that was read from bytes of this version.
pub(super) fn show(record: &Record, version: u8, out: &mut String) {
    let (i, d) = (&record.inputs, &record.decision);
    let text = |k: Kept| i.text(k);
    Object::write(out, |o| {
        o.word("type", "auction");
        o.number("version", version);
        o.word("bidid", i.event);
        o.text("id", text(i.request_id));
        o.some_text("tid", text(i.tid));
        if let Some(trace) = i.trace {
            o.word("trace_id", trace);
        }
        o.number("wall_ms", i.wall_ms);
        o.some_text("region", text(i.region));
        o.text("exchange", text(i.exchange));
        o.some_text("publisher", text(i.publisher));
        if let Some(channel) = i.channel.name() {
            o.word("channel", channel);
        }
        if i.country != [0; 3] {
            o.text("country", &i.country);
        }
        if i.device_type > 0 {
            o.number("devicetype", i.device_type);
        }
        user(i.user, o);
        if version > 1 {
            o.hash("digest", i.digest);
            o.hash("configuration", i.config_hash);
        }
        o.number("configuration_id", i.config_id);
        if i.test {
            o.number("test", 1);
        }
        o.flag("late", i.late());
        o.number("at", i.at);
        o.word("cur", i.answer_currency);
        o.some_number("rate", i.answer_rate.map(decimal));
        o.word("accounting", i.accounting);
        o.text("rates", text(i.rate_id));
        o.number("increment", i.increment);
        o.word("runner_up", if i.runner_up == crate::config::RunnerUp::OtherSeat { "other_seat" } else { "other_dsp" });
        o.hash("entropy", i.entropy);
        o.object("times", |o| {
            o.number("arrival_boot_ns", i.arrival_ns);
            for (key, ns) in [
                ("whole_us", i.whole_ns),
                ("deadline_us", i.deadline_ns),
                ("asked_us", i.asked_ns),
                ("decided_us", i.decided_ns),
            ] {
                o.some_number(key, since(i, ns));
            }
        });
        o.some_number("awaits_notice_until_s", (i.awaited_s != 0).then_some(i.awaited_s));
        if let Some(stages) = &i.stages {
            o.object("stages_ns", |o| stages.measured().for_each(|(stage, ns)| o.number(stage.name(), ns)));
        }
        o.list("imp", &i.imps, |o, imp| {
            o.text("id", text(imp.id));
            o.some_text("tagid", text(imp.tagid));
            floor(imp.floor, o);
            if let Some((media, of)) = imp.media_floor {
                o.object("media_floor", |o| {
                    o.texts("media", media.names().map(str::as_bytes));
                    floor(of, o);
                });
            }
            if imp.qty != Default::default() {
                o.number("qty", crate::units::Cpm(imp.qty.0 as i64)); // millionths, as a CPM is
            }
            o.flag("private_auction", imp.private);
            o.flag("not_offered", imp.refused);
            if imp.deals.len > 0 {
                o.list("deals", imp.deals.of(&i.deals), |o, deal| {
                    o.text("id", text(deal.id));
                    floor(deal.floor, o);
                    if deal.at > 0 {
                        o.number("at", deal.at);
                    }
                    o.flag("guar", deal.guar);
                });
            }
        });
        o.list("dsps", &i.legs, |o, leg| {
            o.text("name", text(leg.name));
            let outcome = leg.outcome.map_or("pending", |outcome| outcome.name());
            o.word("outcome", outcome);
            o.some_number("statuscode", leg.outcome.map(|outcome| outcome.statuscode()));
            o.some_number("nbr", leg.nbr);
            let offered = i.imps.iter().take(64).enumerate().filter(|(at, _)| leg.imps >> at & 1 == 1);
            if offered.clone().count() < i.imps.len() {
                o.texts("impids", offered.map(|(_, imp)| text(imp.id)));
            }
            o.word("cur", leg.currency);
            o.number("rate", decimal(leg.rate));
            o.number("bids", leg.bids_seen);
            for (key, n) in [("unusable", leg.bids_unusable), ("too_many", leg.bids_dropped)] {
                o.some_number(key, Some(n).filter(|n| *n > 0));
            }
            let times = [
                ("queued_us", leg.queued_ns),
                ("sent_us", leg.sent_ns),
                ("first_byte_us", leg.first_byte_ns),
                ("done_us", leg.done_ns),
            ];
            for (key, ns) in times {
                o.some_number(key, since(i, ns));
            }
            o.flag("closed_by_decision", leg.closed_by_decision);
            asked_probability(leg.asked_probability, o);
        });
        o.list("not_asked", &i.not_asked, |o, of| {
            o.text("name", text(of.name));
            o.word("outcome", of.outcome.name());
            o.number("statuscode", of.outcome.statuscode());
            asked_probability(of.asked_probability, o);
        });
        o.list("bids", i.bids.iter().enumerate(), |o, (at, of)| {
            bid(i, of, o);
            let loss = d.losses.get(at).copied().unwrap_or(of.verdict);
            o.number("loss", loss as u16);
            o.word("reason", LossReason::of(loss).map_or("won", |reason| reason.name()));
            if loss != Loss::Won {
                o.some_number("min_to_win", d.min_to_win(i, at as u16));
            }
        });
        o.list("wins", &d.wins, |o, of| win(i, of, o));
        if !record.house.is_empty() {
            o.list("house", &record.house, |o, ad| {
                if let Some(imp) = i.imps.get(usize::from(ad.imp)) {
                    o.text("impid", text(imp.id));
                }
                o.number("price", ad.price);
                o.word("cur", i.answer_currency);
                o.text("crid", text(ad.crid));
            });
        }
        o.some_number("nbr", d.nbr.map(|nbr| nbr as u16));
        let answers: String = record.funds.iter().map(|a| letter(*a)).collect();
        o.word("funds", answers);
        cut(i, o);
    });
}

/// Of 10,000; what is sure is not said.
fn asked_probability(probability: Probability, o: &mut Object<'_>) {
    o.some_number("asked_probability", Some(probability.of_10_000()).filter(|_| !probability.is_always()));
}

fn letter(answer: Answer) -> char {
    match answer {
        Answer::Yes => '1',
        Answer::NoMoney => '0',
        Answer::NoAccount => 'a',
        Answer::Paused => 'p',
        Answer::Full => 'f',
    }
}

fn user(user: User, o: &mut Object<'_>) {
    let withheld = match user {
        User::Unknown => return,
        User::Hashed { salt, hash } => {
            return o.object("user", |o| {
                o.number("salt", salt);
                o.hash("hash", hash);
            });
        }
        User::Coppa => "coppa",
        User::Lmt => "lmt",
        User::NoConsent => "no_consent",
        User::NoSalt => "no_salt",
    };
    o.object("user", |o| o.word("withheld", withheld));
}

fn floor(floor: Floor, o: &mut Object<'_>) {
    o.number("bidfloor", floor.amount);
    o.word("bidfloorcur", floor.currency);
    match floor.due {
        Some(due) => o.number("due", due),
        None => o.flag("no_rate", true),
    }
}

/// What a bid says of itself, and who it is of.
fn bid(i: &Inputs, bid: &BidIn, o: &mut Object<'_>) {
    o.text("dsp", i.legs.get(usize::from(bid.leg)).map_or(&[], |l| i.text(l.name)));
    o.some_text("seat", i.text(bid.seat));
    o.text("id", i.text(bid.id));
    if let Some(imp) = i.imps.get(usize::from(bid.imp)) {
        o.text("impid", i.text(imp.id));
    }
    o.number("price", bid.price);
    o.word("cur", i.legs.get(usize::from(bid.leg)).map_or(i.answer_currency, |l| l.currency));
    o.some_text("cid", i.text(bid.cid));
    o.some_text("crid", i.text(bid.crid));
    if bid.adomain.len > 0 {
        o.texts("adomain", [i.text(bid.adomain)]);
    }
    if let Some(deal) = i.deals.get(usize::from(bid.deal)).filter(|_| bid.deal != NO_DEAL) {
        o.text("dealid", i.text(deal.id));
    }
    if let Some(medium) = bid.media.names().next() {
        o.word("media", medium);
    }
    o.number("index", bid.index);
    o.number("seatbid", bid.seatbid);
    o.flag("group", bid.group);
    o.hash("content", bid.content);
}

fn win(i: &Inputs, win: &Win, o: &mut Object<'_>) {
    if let Some(imp) = i.imps.get(usize::from(win.imp)) {
        o.text("impid", i.text(imp.id));
    }
    if let Some(bid) = i.bids.get(usize::from(win.input)) {
        o.text("dsp", i.legs.get(usize::from(bid.leg)).map_or(&[], |l| i.text(l.name)));
        for (key, of) in [("seat", bid.seat), ("id", bid.id), ("cid", bid.cid), ("crid", bid.crid)] {
            o.some_text(key, i.text(of));
        }
        if let Some(deal) = i.deals.get(usize::from(bid.deal)).filter(|_| bid.deal != NO_DEAL) {
            o.text("dealid", i.text(deal.id));
        }
        if let Some(applied) = i.floor_of(bid) {
            o.object("floor", |o| floor(applied, o));
        }
    }
    o.number("price", win.price);
    o.word("cur", i.answer_currency);
    o.number("bid_price", win.bid_price);
    o.number("min_to_win", win.min_to_win);
    o.number("clearing", win.clearing);
    o.number("charge", win.charge);
    o.number("reserved", win.reserved);
    if win.account.is_some() {
        o.number("account", win.account);
        o.number("period", win.period);
    }
    o.word("accounting", i.accounting);
    o.flag("group", win.group);
}

/// The texts that were longer than what is kept.
fn cut(i: &Inputs, o: &mut Object<'_>) {
    let head = [
        ("id", i.request_id),
        ("tid", i.tid),
        ("publisher", i.publisher),
        ("exchange", i.exchange),
        ("region", i.region),
        ("rates", i.rate_id),
    ];
    let imps = i.imps.iter().flat_map(|x| [("imp.id", x.id), ("imp.tagid", x.tagid)]);
    let deals = i.deals.iter().map(|d| ("deal.id", d.id));
    let names = i.legs.iter().map(|l| l.name).chain(i.not_asked.iter().map(|n| n.name)).map(|name| ("dsp", name));
    let bids = i.bids.iter().flat_map(|b| {
        [("bid.seat", b.seat), ("bid.id", b.id), ("bid.cid", b.cid), ("bid.crid", b.crid), ("bid.adomain", b.adomain)]
    });
    let mut found: Vec<&[u8]> = Vec::new();
    for (name, kept) in head.into_iter().chain(imps).chain(deals).chain(names).chain(bids) {
        if kept.cut && !found.contains(&name.as_bytes()) {
            found.push(name.as_bytes());
        }
    }
    if !found.is_empty() {
        o.texts("cut", found);
    }
}

/// Microseconds since the first byte of the request.
fn since(i: &Inputs, ns: u64) -> Option<u64> {
    (ns > 0).then(|| ns.saturating_sub(i.arrival_ns) / 1000)
}

/// A rate as it was written.
fn decimal(rate: Rate) -> crate::units::Money {
    crate::units::Money(rate.0 as i64) // billionths, as money is
}
