//! What a frame of the journal becomes on its way to Kafka: messages with their topic, key and id.
//! Owns: nothing. Runs on: the shipper's thread, `outcry audit verify --kafka`. Called by: the shipper.
//! Never: takes a key from anything but the record and the names of accounts, which do
//! not change: the same frame makes the same messages whenever it is read.
//!
//! | frame | message | topic | key | id |
//! |---|---|---|---|---|
//! | auction | `auction` | auctions | the request's id | `bidid` |
//! | auction, for each win | `auction_result` | results | the advertiser | `bidid/imp` |
//! | notice | `notice` | results | the advertiser | `bidid/imp/kind` |
//! | delivery | `delivery` | auctions | `bidid` | `bidid/delivery` |
//! | delivery, for each charge freed | `settlement` | results | the advertiser | `bidid/freed/N` |
//! | what goes home without a notice | `settlement` | results | the advertiser | `frame/node-epoch-writer-seq` |
//!
//! Of one id the first message counts: two cores may have recorded one notice, each what was said to it.
//!
//! The advertiser is the name of the account above the campaign that pays; where no account pays, `dsp/seat`.
use super::{
    compare::frame_id,
    schema::{self, Body, Reason, field},
    wire::Wire,
};
use crate::{
    auction::{
        BUYER_MAX, Record, Win, buyer,
        delivery::{Delivery, Known},
        input::{BidIn, Inputs, NO_DEAL, NotAsked},
    },
    budget::{AccountId, Period},
    notice::{holds::Lapse, told::Notice},
    record::{
        RecordError,
        frame::{Frame, Kind},
        user::User,
    },
    units::{EventId, Probability},
};
use std::fmt::{self, Write as _};

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Topic {
    /// Whole auctions.
    Auctions,
    /// What money hangs on.
    Results,
}

impl Topic {
    /// Both.
    pub const ALL: [Topic; 2] = [Topic::Auctions, Topic::Results];

    /// Its name behind the prefix.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Auctions => "auctions",
            Topic::Results => "results",
        }
    }
}

/// A message as it is sent, in the [`Room`] where it was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Where.
    pub topic: Topic,
    /// Its key.
    pub key: &'a str,
    /// Its id.
    pub id: &'a str,
    /// An [`schema::Event`].
    pub payload: &'a [u8],
}

/// Where messages are written, one after the other.
#[derive(Debug, Default)]
pub struct Room {
    payload: Vec<u8>,
    id: String,
}

/// Who knows the names of accounts.
pub trait Names {
    /// The advertiser above a campaign; the account's number as a text where it is not known.
    fn advertiser(&mut self, account: AccountId) -> String;
}

/// Hands out the messages of a frame, in their order.
///
/// # Errors
/// Its payload cannot be read.
pub fn messages(
    frame: &Frame<'_>,
    node: u32,
    names: &mut dyn Names,
    room: &mut Room,
    out: &mut dyn FnMut(Message<'_>),
) -> Result<(), RecordError> {
    let mut to = Out { frame, node, room, out };
    match frame.kind() {
        Some(Kind::Auction) => {
            let record = Record::decode(frame.payload())?;
            auction(&record, names, &mut to);
        }
        Some(Kind::Delivery) => delivery(&Delivery::decode(frame.payload())?, names, &mut to),
        Some(Kind::Notice) => notice(&Notice::decode(frame.payload())?, names, &mut to),
        Some(Kind::Settlement) => lapse(&Lapse::decode(frame.payload())?, names, &mut to),
        _ => {}
    }
    Ok(())
}

struct Out<'a> {
    frame: &'a Frame<'a>,
    node: u32,
    room: &'a mut Room,
    out: &'a mut dyn FnMut(Message<'_>),
}

impl Out<'_> {
    /// One whose body has few texts.
    fn send(&mut self, topic: Topic, key: &str, id: fmt::Arguments<'_>, body: Body) {
        self.put(topic, key, id, |payload| body.encode(payload));
    }

    /// One whose body is written here.
    fn write(
        &mut self,
        (topic, field): (Topic, u32),
        key: &str,
        id: fmt::Arguments<'_>,
        fill: impl FnOnce(&mut Wire<'_>),
    ) {
        self.put(topic, key, id, |payload| Wire(payload).message(field, fill));
    }

    /// An [`schema::Event`].
    fn put(&mut self, topic: Topic, key: &str, name: fmt::Arguments<'_>, body: impl FnOnce(&mut Vec<u8>)) {
        let (header, Room { payload, id }) = (&self.frame.header, &mut *self.room);
        payload.clear();
        id.clear();
        // Writing to a `String` cannot fail.
        let _ = id.write_fmt(name);
        let mut wire = Wire(payload);
        wire.text(1, id.as_bytes());
        wire.text(2, key.as_bytes());
        wire.number(3, self.node);
        wire.number(4, header.epoch);
        wire.number(5, header.writer);
        wire.number(6, header.seq);
        wire.number(7, header.hlc);
        body(payload);
        (self.out)(Message { topic, key, id, payload });
    }
}

/// Microseconds after an auction's beginning; 0: never.
fn us(i: &Inputs, ns: u64) -> u64 {
    if ns == 0 { 0 } else { ns.saturating_sub(i.arrival_ns) / 1_000 }
}

fn auction(record: &Record, names: &mut dyn Names, to: &mut Out<'_>) {
    let (i, bidid) = (&record.inputs, record.inputs.event.text());
    let bidid = text_of(&bidid);
    // A request without an id is refused before it is an auction: there is always a key.
    let request_id = String::from_utf8_lossy(i.text(i.request_id));
    let of = (Topic::Auctions, field::AUCTION);
    to.write(of, &request_id, format_args!("{bidid}"), |w| whole(record, bidid, w));
    for win in &record.decision.wins {
        let Some(bid) = i.bids.get(usize::from(win.input)) else { continue };
        let mut named = [0; BUYER_MAX];
        let key = match win.account.is_some() {
            true => names.advertiser(win.account).into(),
            false => String::from_utf8_lossy(buyer(i, win, &mut named)),
        };
        let of = (Topic::Results, field::AUCTION_RESULT);
        to.write(of, &key, format_args!("{bidid}/{}", win.imp), |w| result(i, win, bid, bidid, w));
    }
}

/// [`schema::Auction`].
fn whole(record: &Record, bidid: &str, w: &mut Wire<'_>) {
    let i = &record.inputs;
    w.text(1, bidid.as_bytes());
    w.text(2, i.text(i.request_id));
    w.number(3, i.wall_ms);
    w.text(4, i.text(i.exchange));
    w.text(5, i.text(i.region));
    w.text(6, i.text(i.tid));
    w.text(7, i.text(i.publisher));
    w.text(8, i.channel.name().unwrap_or_default().as_bytes());
    w.text(9, letters(&i.country));
    w.number(10, u32::from(i.device_type));
    if let User::Hashed { salt, hash } = i.user {
        w.fixed(11, hash);
        w.number(12, salt);
    }
    w.number(13, i.test);
    w.number(14, i.late());
    w.text(15, letters(&i.answer_currency.0));
    w.text(16, letters(&i.accounting.0));
    w.number(17, i.at);
    w.some_number(18, record.decision.nbr.map(|nbr| nbr as u32));
    w.number(19, us(i, i.decided_ns));
    for imp in &i.imps {
        w.message(20, |w| {
            w.text(1, i.text(imp.id));
            w.text(2, i.text(imp.tagid));
            w.int(3, imp.floor.amount.0);
            w.text(4, letters(&imp.floor.currency.0));
        });
    }
    for leg in &i.legs {
        w.message(21, |w| {
            w.text(1, i.text(leg.name));
            w.text(2, leg.outcome.map_or("pending", |outcome| outcome.name()).as_bytes());
            w.number(3, true);
            w.number(4, us(i, leg.sent_ns));
            w.number(5, us(i, leg.done_ns));
            w.number(6, leg.bids_seen);
            w.number(7, chance(leg.asked_probability));
        });
    }
    for NotAsked { name, outcome, asked_probability } in &i.not_asked {
        w.message(21, |w| {
            w.text(1, i.text(*name));
            w.text(2, outcome.name().as_bytes());
            w.number(7, chance(*asked_probability));
        });
    }
    for (at, bid) in i.bids.iter().enumerate() {
        let leg = i.legs.get(usize::from(bid.leg));
        w.message(22, |w| {
            w.text(1, leg.map_or(&[][..], |leg| i.text(leg.name)));
            w.text(2, i.text(bid.seat));
            w.text(3, i.text(bid.id));
            w.text(4, i.imps.get(usize::from(bid.imp)).map_or(&[][..], |imp| i.text(imp.id)));
            w.int(5, bid.price.0);
            w.text(6, leg.map_or(&[][..], |leg| letters(&leg.currency.0)));
            w.text(7, i.text(bid.cid));
            w.text(8, i.text(bid.crid));
            w.text(9, i.text(bid.adomain));
            w.text(10, deal(i, bid.deal));
            w.number(11, record.decision.losses.get(at).map_or(0, |loss| *loss as u32));
        });
    }
    for ad in &record.house {
        w.message(23, |w| {
            w.number(1, ad.imp);
            w.text(2, i.imps.get(usize::from(ad.imp)).map_or(&[][..], |imp| i.text(imp.id)));
            w.text(3, i.text(ad.crid));
            w.int(4, ad.price.0);
        });
    }
}

/// Nothing, where nothing was left to chance.
fn chance(probability: Probability) -> u16 {
    if probability.is_always() { 0 } else { probability.of_10_000() }
}

/// [`schema::AuctionResult`].
fn result(i: &Inputs, win: &Win, bid: &BidIn, bidid: &str, w: &mut Wire<'_>) {
    let (leg, imp) = (i.legs.get(usize::from(bid.leg)), i.imps.get(usize::from(win.imp)));
    w.text(1, bidid.as_bytes());
    w.text(2, i.text(i.request_id));
    w.number(3, i.wall_ms);
    w.text(4, i.text(i.exchange));
    w.text(5, i.text(i.publisher));
    w.text(6, letters(&i.country));
    w.number(7, win.imp);
    w.text(8, imp.map_or(&[][..], |imp| i.text(imp.id)));
    w.text(9, imp.map_or(&[][..], |imp| i.text(imp.tagid)));
    w.text(10, leg.map_or(&[][..], |leg| i.text(leg.name)));
    w.text(11, i.text(bid.seat));
    w.text(12, i.text(bid.id));
    w.text(13, i.text(bid.cid));
    w.text(14, i.text(bid.crid));
    w.text(15, i.text(bid.adomain));
    w.text(16, deal(i, bid.deal));
    w.int(17, win.price.0);
    w.int(18, win.bid_price.0);
    w.text(19, letters(&i.answer_currency.0));
    w.int(20, win.charge.0);
    w.text(21, letters(&i.accounting.0));
    w.number(22, win.account.0);
    w.number(23, win.period.0);
    w.number(24, i.awaited_s);
    w.number(25, i.test);
}

fn delivery(known: &Known, names: &mut dyn Names, to: &mut Out<'_>) {
    let bidid = known.event.text();
    let bidid = text_of(&bidid);
    let what = match known.delivery {
        Delivery::Written { .. } => "written",
        Delivery::Late { .. } => "late",
        Delivery::Failed => "failed",
        Delivery::ClientLeft => "client_left",
    };
    let said = schema::Delivery { bidid: bidid.to_owned(), what: what.to_owned() };
    to.send(Topic::Auctions, bidid, format_args!("{bidid}/delivery"), Body::Delivery(said));
    for (n, freed) in known.freed.iter().enumerate() {
        let of = (freed.account, freed.period, freed.amount.0);
        let id = format_args!("{bidid}/freed/{n}");
        settlement((Reason::NotDelivered, bidid, known.event.epoch), of, id, names, to);
    }
}

fn notice(notice: &Notice<'_>, names: &mut dyn Names, to: &mut Out<'_>) {
    let name = notice.name;
    let bidid = name.event.text();
    let bidid = text_of(&bidid);
    let said = schema::Notice {
        bidid: bidid.to_owned(),
        imp: name.imp.into(),
        of: name.kind.name().to_owned(),
        expired: notice.expired,
        price: notice.price.0,
        charge: notice.charge.0,
        held: notice.held.map(|held| held.0),
        account: notice.account.0,
        window: notice.period.0,
        expires_s: notice.expires_s,
    };
    let key = match notice.account.is_some() {
        true => names.advertiser(notice.account).into(),
        false if notice.buyer.is_empty() => bidid.into(),
        false => String::from_utf8_lossy(notice.buyer),
    };
    let id = format_args!("{bidid}/{}/{}", name.imp, name.kind.name());
    to.send(Topic::Results, &key, id, Body::Notice(said));
}

fn lapse(lapse: &Lapse, names: &mut dyn Names, to: &mut Out<'_>) {
    let id = frame_id(to.node, to.frame);
    let reason = if lapse.minute == 0 { Reason::LowerPrice } else { Reason::NoNotice };
    let of = (lapse.of.line.account, lapse.of.line.period, lapse.amount.0);
    settlement((reason, "", lapse.of.epoch), of, format_args!("{id}"), names, to);
}

fn settlement(
    (reason, bidid, charged_epoch): (Reason, &str, u32),
    (account, window, amount): (AccountId, Period, i64),
    id: fmt::Arguments<'_>,
    names: &mut dyn Names,
    to: &mut Out<'_>,
) {
    let said = schema::Settlement {
        reason: reason as i32,
        bidid: bidid.to_owned(),
        account: account.0,
        window: window.0,
        amount,
        charged_epoch,
    };
    to.send(Topic::Results, &names.advertiser(account), id, Body::Settlement(said));
}

fn deal(i: &Inputs, deal: u16) -> &[u8] {
    match deal {
        NO_DEAL => &[],
        at => i.deals.get(usize::from(at)).map_or(&[], |deal| i.text(deal.id)),
    }
}

/// An event's id, which is hexadecimal.
fn text_of(event: &[u8; EventId::TEXT_LEN]) -> &str {
    std::str::from_utf8(event).unwrap_or_default()
}

/// A currency or a country, if there is one.
fn letters(letters: &[u8; 3]) -> &[u8] {
    if letters[0] == 0 { &[] } else { letters }
}

#[cfg(test)]
mod tests;
