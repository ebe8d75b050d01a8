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
    units::EventId,
};

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
    /// An [`schema::Event`].
    pub payload: Vec<u8>,
}

/// Who knows the names of accounts.
pub trait Names {
    /// The advertiser above a campaign; the account's number as a text where it is not known.
    fn advertiser(&mut self, account: AccountId) -> String;
}

/// Who takes messages.
pub trait Sink {
    /// This one.
    fn take(&mut self, message: Message);

    /// An empty buffer for a payload: one that was used before, where there is one.
    fn room(&mut self) -> Vec<u8> {
        Vec::new()
    }
}

impl<F: FnMut(Message)> Sink for F {
    fn take(&mut self, message: Message) {
        self(message);
    }
}

/// Hands out the messages of a frame, in their order.
///
/// # Errors
/// Its payload cannot be read.
pub fn messages(frame: &Frame<'_>, node: u32, names: &mut dyn Names, out: &mut dyn Sink) -> Result<(), RecordError> {
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
    out: &'a mut dyn Sink,
}

impl Out<'_> {
    fn send(&mut self, topic: Topic, kind: &'static str, key: String, id: String, body: Body) {
        let mut payload = self.begun(&key, &id, body.encoded_len());
        body.encode(&mut payload);
        self.out.take(Message { topic, kind, key, id, payload });
    }

    /// The same with a body that is written here.
    fn write(
        &mut self,
        (topic, kind, field): (Topic, &'static str, u32),
        key: String,
        id: String,
        fill: impl FnOnce(&mut Wire<'_>),
    ) {
        let mut payload = self.begun(&key, &id, USUAL_BYTES);
        Wire(&mut payload).message(field, fill);
        self.out.take(Message { topic, kind, key, id, payload });
    }

    /// An [`schema::Event`] up to its body, with room for that.
    fn begun(&mut self, key: &str, id: &str, room: usize) -> Vec<u8> {
        let header = &self.frame.header;
        let mut payload = self.out.room();
        payload.reserve(id.len() + key.len() + 64 + room);
        let mut wire = Wire(&mut payload);
        wire.text(1, id.as_bytes());
        wire.text(2, key.as_bytes());
        wire.number(3, self.node);
        wire.number(4, header.epoch);
        wire.number(5, header.writer);
        wire.number(6, header.seq);
        wire.number(7, header.hlc);
        payload
    }
}

/// Of most bodies that are written here.
const USUAL_BYTES: usize = 768;

/// Microseconds after an auction's beginning; 0: never.
fn us(i: &Inputs, ns: u64) -> u64 {
    if ns == 0 { 0 } else { ns.saturating_sub(i.arrival_ns) / 1_000 }
}

fn auction(record: &Record, names: &mut dyn Names, to: &mut Out<'_>) {
    let (i, bidid) = (&record.inputs, text_of(record.inputs.event));
    // A request without an id is refused before it is an auction: there is always a key.
    let request_id = String::from_utf8_lossy(i.text(i.request_id)).into_owned();
    let of = (Topic::Auctions, "auction", field::AUCTION);
    to.write(of, request_id, bidid.clone(), |w| whole(record, &bidid, w));
    for win in &record.decision.wins {
        let Some(bid) = i.bids.get(usize::from(win.input)) else { continue };
        let mut named = [0; BUYER_MAX];
        let key = match win.account.is_some() {
            true => names.advertiser(win.account),
            false => String::from_utf8_lossy(buyer(i, win, &mut named)).into_owned(),
        };
        let of = (Topic::Results, "auction_result", field::AUCTION_RESULT);
        to.write(of, key, format!("{bidid}/{}", win.imp), |w| result(i, win, bid, &bidid, w));
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
        });
    }
    for NotAsked { name, outcome, .. } in &i.not_asked {
        w.message(21, |w| {
            w.text(1, i.text(*name));
            w.text(2, outcome.name().as_bytes());
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

fn deal(i: &Inputs, deal: u16) -> &[u8] {
    match deal {
        NO_DEAL => &[],
        at => i.deals.get(usize::from(at)).map_or(&[], |deal| i.text(deal.id)),
    }
}

fn text_of(event: EventId) -> String {
    String::from_utf8_lossy(&event.text()).into_owned()
}

/// A currency or a country, if there is one.
fn letters(letters: &[u8; 3]) -> &[u8] {
    if letters[0] == 0 { &[] } else { letters }
}

#[cfg(test)]
mod tests;
