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
    schema::{self, Body, Event, Reason},
};
use crate::{
    auction::{
        BUYER_MAX, Record, buyer,
        delivery::{Delivery, Known},
        input::{Inputs, Kept, NO_DEAL},
    },
    budget::{AccountId, Period},
    notice::{holds::Lapse, told::Notice},
    record::{
        RecordError,
        frame::{Frame, Kind},
        user::User,
    },
    units::{Currency, EventId},
};
use prost::Message as _;

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

/// A message as it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Where.
    pub topic: Topic,
    /// What it is, the header `type`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// Its id, the header `id`.
    pub id: String,
    /// An [`Event`].
    pub payload: Vec<u8>,
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
    out: &mut dyn FnMut(Message),
) -> Result<(), RecordError> {
    let mut to = Out { frame, node, out };
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
    out: &'a mut dyn FnMut(Message),
}

impl Out<'_> {
    fn send(&mut self, topic: Topic, kind: &'static str, key: String, id: String, body: Body) {
        let header = &self.frame.header;
        let event = Event {
            id,
            key,
            node: self.node,
            epoch: header.epoch,
            writer: header.writer.into(),
            seq: header.seq,
            hlc: header.hlc,
            body: Some(body),
        };
        let payload = event.encode_to_vec();
        (self.out)(Message { topic, kind, key: event.key, id: event.id, payload });
    }
}

fn auction(record: &Record, names: &mut dyn Names, to: &mut Out<'_>) {
    let (i, bidid) = (&record.inputs, text_of(record.inputs.event));
    let text = |kept: Kept| String::from_utf8_lossy(i.text(kept)).into_owned();
    let (user_salt, user_hash) = match i.user {
        User::Hashed { salt, hash } => (salt, hash),
        _ => (0, 0),
    };
    let us = |ns: u64| if ns == 0 { 0 } else { ns.saturating_sub(i.arrival_ns) / 1_000 };
    let asked = i.legs.iter().map(|leg| schema::Dsp {
        name: text(leg.name),
        outcome: leg.outcome.map_or("pending", |outcome| outcome.name()).to_owned(),
        asked: true,
        sent_us: us(leg.sent_ns),
        done_us: us(leg.done_ns),
        bids: leg.bids_seen,
    });
    let not_asked = i.not_asked.iter().map(|(name, outcome)| schema::Dsp {
        name: text(*name),
        outcome: outcome.name().to_owned(),
        ..schema::Dsp::default()
    });
    let loss = |at: usize| record.decision.losses.get(at).map_or(0, |loss| *loss as u32);
    let whole = schema::Auction {
        bidid: bidid.clone(),
        request_id: text(i.request_id),
        wall_ms: i.wall_ms,
        exchange: text(i.exchange),
        region: text(i.region),
        tid: text(i.tid),
        publisher: text(i.publisher),
        channel: i.channel.name().unwrap_or_default().to_owned(),
        country: letters(&i.country),
        devicetype: i.device_type.into(),
        user_hash,
        user_salt,
        test: i.test,
        late: i.late(),
        cur: currency(i.answer_currency),
        accounting_cur: currency(i.accounting),
        at: i.at,
        nbr: record.decision.nbr.map(|nbr| nbr as u32),
        decided_us: us(i.decided_ns),
        imp: i
            .imps
            .iter()
            .map(|imp| schema::Impression {
                id: text(imp.id),
                tagid: text(imp.tagid),
                bidfloor: imp.floor.amount.0,
                bidfloorcur: currency(imp.floor.currency),
            })
            .collect(),
        dsp: asked.chain(not_asked).collect(),
        bid: i
            .bids
            .iter()
            .enumerate()
            .map(|(at, bid)| {
                let leg = i.legs.get(usize::from(bid.leg));
                schema::Bid {
                    dsp: leg.map(|leg| text(leg.name)).unwrap_or_default(),
                    seat: text(bid.seat),
                    id: text(bid.id),
                    impid: i.imps.get(usize::from(bid.imp)).map(|imp| text(imp.id)).unwrap_or_default(),
                    price: bid.price.0,
                    cur: leg.map(|leg| currency(leg.currency)).unwrap_or_default(),
                    cid: text(bid.cid),
                    crid: text(bid.crid),
                    adomain: text(bid.adomain),
                    dealid: deal(i, bid.deal, &text),
                    loss: loss(at),
                }
            })
            .collect(),
    };
    let (request_id, wall_ms) = (whole.request_id.clone(), i.wall_ms);
    // A request without an id is refused before it is an auction: there is always a key.
    to.send(Topic::Auctions, "auction", request_id.clone(), bidid.clone(), Body::Auction(Box::new(whole)));
    for win in &record.decision.wins {
        let Some(bid) = i.bids.get(usize::from(win.input)) else { continue };
        let leg = i.legs.get(usize::from(bid.leg));
        let imp = i.imps.get(usize::from(win.imp));
        let mut named = [0; BUYER_MAX];
        let key = match win.account.is_some() {
            true => names.advertiser(win.account),
            false => String::from_utf8_lossy(buyer(i, win, &mut named)).into_owned(),
        };
        let result = schema::AuctionResult {
            bidid: bidid.clone(),
            request_id: request_id.clone(),
            wall_ms,
            exchange: text(i.exchange),
            publisher: text(i.publisher),
            country: letters(&i.country),
            imp: win.imp.into(),
            impid: imp.map(|imp| text(imp.id)).unwrap_or_default(),
            tagid: imp.map(|imp| text(imp.tagid)).unwrap_or_default(),
            dsp: leg.map(|leg| text(leg.name)).unwrap_or_default(),
            seat: text(bid.seat),
            bid: text(bid.id),
            cid: text(bid.cid),
            crid: text(bid.crid),
            adomain: text(bid.adomain),
            dealid: deal(i, bid.deal, &text),
            price: win.price.0,
            bid_price: win.bid_price.0,
            cur: currency(i.answer_currency),
            charge: win.charge.0,
            accounting_cur: currency(i.accounting),
            account: win.account.0,
            window: win.period.0,
            awaited_s: i.awaited_s,
            test: i.test,
        };
        let id = format!("{bidid}/{}", win.imp);
        to.send(Topic::Results, "auction_result", key, id, Body::AuctionResult(Box::new(result)));
    }
}

fn delivery(known: &Known, names: &mut dyn Names, to: &mut Out<'_>) {
    let bidid = text_of(known.event);
    let what = match known.delivery {
        Delivery::Written { .. } => "written",
        Delivery::Late { .. } => "late",
        Delivery::Failed => "failed",
        Delivery::ClientLeft => "client_left",
    };
    let said = schema::Delivery { bidid: bidid.clone(), what: what.to_owned() };
    to.send(Topic::Auctions, "delivery", bidid.clone(), format!("{bidid}/delivery"), Body::Delivery(said));
    for (n, freed) in known.freed.iter().enumerate() {
        let id = format!("{bidid}/freed/{n}");
        let of = (freed.account, freed.period, freed.amount.0);
        settlement((Reason::NotDelivered, &bidid, known.event.epoch), of, id, names, to);
    }
}

fn notice(notice: &Notice<'_>, names: &mut dyn Names, to: &mut Out<'_>) {
    let name = notice.name;
    let bidid = text_of(name.event);
    let said = schema::Notice {
        bidid: bidid.clone(),
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
        true => names.advertiser(notice.account),
        false if notice.buyer.is_empty() => bidid.clone(),
        false => String::from_utf8_lossy(notice.buyer).into_owned(),
    };
    let id = format!("{bidid}/{}/{}", name.imp, name.kind.name());
    to.send(Topic::Results, "notice", key, id, Body::Notice(said));
}

fn lapse(lapse: &Lapse, names: &mut dyn Names, to: &mut Out<'_>) {
    let id = frame_id(to.node, to.frame);
    let reason = if lapse.minute == 0 { Reason::LowerPrice } else { Reason::NoNotice };
    let of = (lapse.of.line.account, lapse.of.line.period, lapse.amount.0);
    settlement((reason, "", lapse.of.epoch), of, id, names, to);
}

fn settlement(
    (reason, bidid, charged_epoch): (Reason, &str, u32),
    (account, window, amount): (AccountId, Period, i64),
    id: String,
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
    to.send(Topic::Results, "settlement", names.advertiser(account), id, Body::Settlement(said));
}

fn deal(i: &Inputs, deal: u16, text: &dyn Fn(Kept) -> String) -> String {
    match deal {
        NO_DEAL => String::new(),
        at => i.deals.get(usize::from(at)).map(|deal| text(deal.id)).unwrap_or_default(),
    }
}

fn text_of(event: EventId) -> String {
    String::from_utf8_lossy(&event.text()).into_owned()
}

fn currency(currency: Currency) -> String {
    letters(&currency.0)
}

fn letters(letters: &[u8; 3]) -> String {
    if letters[0] == 0 { String::new() } else { String::from_utf8_lossy(letters).into_owned() }
}

#[cfg(test)]
mod tests;
