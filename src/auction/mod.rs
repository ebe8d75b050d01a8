//! One auction as a state machine: begin, ask, hear, decide, answer, record.
//! Owns: the typed inputs of one auction, its decision, and scratch; pooled, reused by [`Auction::begin`].
//! Runs on: each bidder core. Called by: `bidder/flight`, which carries bytes and times, and the simulator.
//! Never: reads a clock, waits, draws randomness, or allocates once its vectors have grown.
//! Full: bids above a leg's share of [`BIDS_MAX`], or of the record's room, lose with [`Loss::TooMany`]; texts are cut
//! with a mark.
//!
//! ```text
//!             ask ----> leg pending --leg_answered / leg_failed--> leg has its one outcome --+
//!   begin --<                                                                                +--> decide --> write_answer
//!             not_asked (its outcome at once)                                 deadline ------+           \-> encode_record
//! ```
//!
//! What enters becomes a typed input at once ([`input`]): a bid is judged against the request when it arrives
//! (`eligibility`), against the others when the auction is decided (`clearing`). Deciding is a function of the
//! inputs and of what the funds answer, both of which stand in the record: [`record::replay`] decides the same.
mod answer;
mod clearing;
pub mod delivery;
mod echo;
mod eligibility;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod funds;
pub mod house;
pub mod input;
mod macros;
mod markup;
mod noticed;
mod offer;
#[cfg(test)]
mod offer_tests;
pub mod record;
mod secure;
#[cfg(test)]
mod tests;
mod textset;

pub use clearing::{Decision, Win};
pub use delivery::Delivery;
pub use echo::names_another;
pub use funds::{Account, Answer, Funds, Place, Ticket, Unlimited};
pub use house::House;
pub use macros::{Later, fill_later, price_vector};
pub use noticed::{BUYER_MAX, OurNotices, Tally, buyer, expires_s};
pub use offer::Offers;
pub use record::{Record, replay};

use crate::{
    config::resolved::{AuctionRules, Dsp, Exchange, RateTable},
    limits::{ASKED_MAX, BIDS_MAX, BIDS_PER_ANSWER_MAX, DSPS_MAX, IMPS_MAX},
    notice::sealed::Seal,
    openrtb::{
        codes::{Loss, Outcome},
        request::{Media, Request},
        response::{Bid, Response},
    },
    record::{
        digest::digest,
        stages::StageTimes,
        trace::TraceId,
        user::{Salt, User},
    },
    units::{Cpm, Currency, DspIx, EventId, ExchangeIx, Probability, Rate, Round, hash_bytes, mix},
};
use bumpalo::Bump;
use eligibility::{Offer, Rules};
use input::{BidIn, DealIn, Floor, ImpIn, Inputs, Kept, Leg, NO_DEAL, NO_IMP, NotAsked};

/// What one auction starts from. The same value is handed in again with every answer: the request's views point
/// into `body`, which waits with the auction.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// Names the auction; our `bidid`.
    pub event: EventId,
    /// The configuration it runs under.
    pub config_id: u64,
    /// The digest of its file.
    pub config_hash: u64,
    /// The region we serve.
    pub region: &'a str,
    /// What the person behind the request is hashed with.
    pub salt: Salt,
    /// Room in the record for the bids of one DSP on one impression, in bytes: what admission's [`record::bound()`] was
    /// told.
    pub bid_bytes: usize,
    /// Rules of all auctions.
    pub rules: &'a AuctionRules,
    /// Rates against the accounting currency.
    pub rates: &'a RateTable,
    /// Who sent the request.
    pub exchange: &'a Exchange,
    /// Its place in the configuration.
    pub exchange_ix: ExchangeIx,
    /// The request's view.
    pub request: &'a Request,
    /// The bytes it points into.
    pub body: &'a [u8],
    /// First byte of the request, nanoseconds since boot.
    pub arrival_ns: u64,
    /// Its last byte had come and it was taken up, nanoseconds since boot.
    pub whole_ns: u64,
    /// The same moment, milliseconds since 1970.
    pub wall_ms: u64,
    /// When the answer is due, nanoseconds since boot.
    pub deadline_ns: u64,
    /// The requests to DSPs were out, nanoseconds since boot; 0: not yet, or nobody was asked.
    pub asked_ns: u64,
    /// What is charged waits for billing notices until then, seconds since 1970; 0: it is charged for good.
    pub awaited_s: u32,
    /// The trace that the request's `traceparent` header names.
    pub trace: Option<TraceId>,
    /// Drawn for this auction; breaks ties.
    pub entropy: u64,
    /// What each DSP of the configuration reads prices with; none where it is not there.
    pub seals: &'a [Option<Seal>],
    /// What is answered where nobody wins.
    pub house: &'a [house::House],
}

/// Where the winners' answers lie until ours is written.
pub trait Answers {
    /// The view and the bytes of a leg's answer.
    fn leg(&self, leg: u8) -> (&Response, &[u8]);

    /// Markup that was fetched for a win, as [`Auction::takes_markup`] left it.
    fn markup(&self, _win: usize) -> Option<&[u8]> {
        None
    }
}

/// One auction; see the module.
#[derive(Clone, Debug, Default)]
pub struct Auction {
    record: Record,
    rules: Rules,
    decided: bool,
    /// Bytes of the record that the bids of one answer may take.
    leg_room: usize,
}

impl Auction {
    /// Takes over what the decision needs of the request, forgetting the auction before.
    pub fn begin(&mut self, s: &Start<'_>) {
        self.rules.reset();
        self.decided = false;
        self.record.reset();
        self.leg_room = record::room::leg_room(s.request.imps.len(), s.bid_bytes);
        let (answer_currency, answer_rate) = answer_currency(s);
        let i = &mut self.record.inputs;
        i.event = s.event;
        i.config_id = s.config_id;
        i.config_hash = s.config_hash;
        i.entropy = s.entropy;
        i.arrival_ns = s.arrival_ns;
        i.whole_ns = s.whole_ns;
        i.wall_ms = s.wall_ms;
        i.deadline_ns = s.deadline_ns;
        i.asked_ns = s.asked_ns;
        i.awaited_s = s.awaited_s;
        i.trace = s.trace;
        // In the order of the encoded head, which then is one copy.
        i.exchange = i.keep_bytes(s.exchange.name.as_bytes());
        i.region = i.keep_bytes(s.region.as_bytes());
        i.rate_id = i.keep_bytes(s.rates.id.as_bytes());
        i.request_id = i.keep(s.request.id, s.body);
        i.tid = i.keep(s.request.tid, s.body);
        i.publisher = i.keep(s.request.publisher_id, s.body);
        i.channel = s.request.channel;
        i.country = country(s.request.country.raw(s.body));
        i.device_type = u8::try_from(s.request.devicetype).unwrap_or(u8::MAX);
        i.user = User::of(s.request, s.body, &s.exchange.name, &s.salt);
        i.digest = digest(s.request.whole.of(s.body));
        i.accounting = s.rates.accounting;
        (i.answer_currency, i.answer_rate) = (answer_currency, answer_rate);
        i.test = s.request.test;
        i.at = s.request.at;
        i.increment = s.rules.increment;
        i.runner_up = s.rules.runner_up;
        let floor = |amount: Cpm, currency: Currency| Floor {
            amount,
            currency,
            // Nothing is nothing in every currency.
            due: match s.rates.rate(currency) {
                _ if amount <= Cpm::ZERO => Some(Cpm::ZERO),
                rate => rate.map(|r| r.to_accounting(amount, Round::Up)),
            },
        };
        for imp in s.request.imps.iter().take(IMPS_MAX) {
            let (id, tagid) = (i.keep(imp.id, s.body), i.keep(imp.tagid, s.body));
            i.imps.push(ImpIn {
                id,
                tagid,
                floor: floor(imp.bidfloor, imp.bidfloorcur),
                media_floor: imp.media_floor.map(|(media, amount, cur)| (media, floor(amount, cur))),
                qty: imp.qty,
                private: imp.private_auction,
                refused: imp.refused.is_some(),
                deals: imp.deals,
            });
        }
        for deal in s.request.deals.iter().take(crate::limits::DEALS_MAX) {
            let id = i.keep(deal.id, s.body);
            i.deals.push(DealIn { id, floor: floor(deal.bidfloor, deal.bidfloorcur), at: deal.at, guar: deal.guar });
        }
    }

    /// A leg was asked with this probability only: stands in the record. What is not said so was asked for sure.
    pub fn asked_with(&mut self, leg: u8, probability: Probability) {
        if let Some(l) = self.record.inputs.legs.get_mut(usize::from(leg)) {
            l.asked_probability = probability;
        }
    }

    /// A DSP is asked for `imps`: its leg. Asking more than [`ASKED_MAX`] is the caller's fault and changes the last.
    pub fn ask(&mut self, dsp: DspIx, name: &str, imps: u64, now_ns: u64) -> u8 {
        debug_assert!(self.record.inputs.legs.len() < ASKED_MAX && !self.decided);
        let i = &mut self.record.inputs;
        if i.legs.len() == ASKED_MAX {
            i.legs.pop();
        }
        let leg = Leg {
            dsp,
            name: i.keep_bytes(name.as_bytes()),
            dsp_key: funds::dsp_key(name.as_bytes()),
            imps,
            outcome: None,
            closed_by_decision: false,
            queued_ns: now_ns,
            sent_ns: 0,
            first_byte_ns: 0,
            done_ns: 0,
            currency: Currency::USD,
            rate: Rate::ONE,
            nbr: None,
            bids_seen: 0,
            bids_unusable: 0,
            bids_dropped: 0,
            asked_probability: Probability::ALWAYS,
        };
        i.legs.push(leg);
        i.legs.len() as u8 - 1
    }

    /// A DSP is not asked, and why ([`Outcome::NotEligible`], [`Outcome::NoTime`]), and the probability that it had if chance
    /// decided, else always: stands in the record.
    pub fn not_asked(&mut self, _dsp: DspIx, name: &str, outcome: Outcome, asked_probability: Probability) {
        let i = &mut self.record.inputs;
        debug_assert!(i.not_asked.len() < DSPS_MAX);
        if i.not_asked.len() < DSPS_MAX {
            let name = i.keep_bytes(name.as_bytes());
            i.not_asked.push(NotAsked { name, outcome, asked_probability });
        }
    }

    /// The request's last byte to this DSP was sent.
    pub fn leg_sent(&mut self, leg: u8, now_ns: u64) {
        if let Some(l) = self.open_leg(leg) {
            l.sent_ns = now_ns;
        }
    }

    /// The first byte of this DSP's answer came.
    pub fn leg_first_byte(&mut self, leg: u8, now_ns: u64) {
        if let Some(l) = self.open_leg(leg) {
            l.first_byte_ns = now_ns;
        }
    }

    /// The leg ends without an answer that could be read. False: it had its outcome already, which stands.
    pub fn leg_failed(&mut self, leg: u8, outcome: Outcome, now_ns: u64) -> bool {
        let Some(l) = self.open_leg(leg) else { return false };
        (l.outcome, l.done_ns) = (Some(outcome), now_ns);
        true
    }

    /// The leg's answer: its outcome, its bids as inputs. `Err` is a body that is no JSON object. A leg that has its
    /// outcome keeps it, and the answer is ignored.
    pub fn leg_answered(
        &mut self,
        leg: u8,
        dsp: &Dsp,
        answer: Result<&Response, ()>,
        bytes: &[u8],
        s: &Start<'_>,
        now_ns: u64,
    ) -> Outcome {
        match self.record.inputs.legs.get(leg as usize) {
            Some(Leg { outcome: None, .. }) if !self.decided => {}
            Some(Leg { outcome: Some(outcome), .. }) => return *outcome,
            _ => return Outcome::Internal,
        }
        let outcome = match answer {
            Err(()) => Outcome::NotJson,
            Ok(response) => self.hear(leg, dsp, response, bytes, s),
        };
        self.leg_failed(leg, outcome, now_ns);
        outcome
    }

    /// Legs without an outcome: at zero the auction can be decided.
    pub fn pending(&self) -> usize {
        self.record.inputs.legs.iter().filter(|l| l.outcome.is_none()).count()
    }

    /// Closes the auction: pending legs are [`Outcome::Late`], winners reserve. The second call changes nothing.
    /// `arena` is working memory, which may be reset afterwards.
    pub fn decide(&mut self, funds: &mut dyn Funds, arena: &Bump, now_ns: u64) -> &Decision {
        if !self.decided {
            self.decided = true;
            for leg in self.record.inputs.legs.iter_mut().filter(|l| l.outcome.is_none()) {
                (leg.outcome, leg.done_ns, leg.closed_by_decision) = (Some(Outcome::Late), now_ns, true);
            }
            self.record.inputs.decided_ns = now_ns;
            self.record.decide(funds, arena);
        }
        &self.record.decision
    }

    /// It is one of the auctions whose stages are timed: these times stand in its record.
    pub fn staged(&mut self, stages: StageTimes) {
        self.record.inputs.stages = Some(stages);
    }

    /// What was decided; empty before.
    pub fn decision(&self) -> &Decision {
        &self.record.decision
    }

    /// All that the decision was made of.
    pub fn inputs(&self) -> &Inputs {
        &self.record.inputs
    }

    /// The whole auction as one value.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Appends the record as bytes, at most what [`record::bound()`] says of the request's shape.
    pub fn encode_record(&self, out: &mut Vec<u8>) {
        self.record.encode(out);
    }

    fn open_leg(&mut self, leg: u8) -> Option<&mut Leg> {
        self.record.inputs.legs.get_mut(leg as usize).filter(|l| l.outcome.is_none())
    }

    /// Bids that one answer may bring: its share, so that no DSP crowds out another, whoever answers first.
    fn share(&self) -> usize {
        let i = &self.record.inputs;
        (BIDS_MAX / i.legs.len().max(1)).min(BIDS_PER_ANSWER_MAX).min(BIDS_MAX - i.bids.len().min(BIDS_MAX))
    }

    /// How many of an answer's bids are looked at: the first of them, as far as its share and its room in the record go.
    fn heard(&self, response: &Response) -> usize {
        let share = self.share().min(response.bids.len());
        if share * record::room::BID <= self.leg_room {
            return share;
        }
        let mut room = self.leg_room;
        let fits = |bid: &&Bid| {
            let adomain = bid.adomain.of(&response.texts).first().copied().unwrap_or_default();
            let bytes = record::room::bid_bytes([bid.seat, bid.id, bid.cid, bid.crid, adomain]);
            room.checked_sub(bytes).map(|rest| room = rest).is_some()
        };
        response.bids.iter().take(share).take_while(fits).count()
    }

    fn hear(&mut self, leg: u8, dsp: &Dsp, response: &Response, bytes: &[u8], s: &Start<'_>) -> Outcome {
        let heard = self.heard(response);
        let l = &mut self.record.inputs.legs[leg as usize];
        l.nbr = response.nbr;
        l.bids_seen = response.bids_seen.max(response.bids.len() as u32);
        l.bids_unusable = response.bids_unusable;
        l.bids_dropped = (response.bids.len() - heard) as u32;
        let (seen, offered) = (l.bids_seen, l.imps);
        let of_another = echo::is_of_another(response, bytes, s.request.id, s.body);
        if seen == 0 {
            return if of_another { Outcome::WrongId } else { Outcome::NoBid };
        }
        let rate = response.cur.filter(|c| allowed_currency(s, dsp, *c)).and_then(|c| Some((c, s.rates.rate(c)?)));
        let refusal = match rate {
            _ if of_another => Some((Outcome::WrongId, Loss::BadAuctionId)),
            None => Some((Outcome::WrongCurrency, Loss::Currency)),
            Some((currency, rate)) => {
                (l.currency, l.rate) = (currency, rate);
                None
            }
        };
        if let (Some(currency), Some(_)) = (response.cur, refusal) {
            l.currency = currency; // what its prices were meant in
        }
        // A group of which a part may be missing is not whole: all of it loses.
        let incomplete = seen as usize != heard;
        let mut worst = Outcome::InvalidBid;
        let mut last_seat = None;
        for (index, bid) in response.bids.iter().take(heard).enumerate() {
            let imp = imp_of(s, bid, bytes, offered);
            let offer = Offer { dsp: Some(dsp), response, bytes, bid };
            let believed = |()| match (dsp.price_max, rate, bid.price) {
                (Some(max), Some((_, rate)), Ok(price)) if rate.to_accounting(price, Round::Down) > max => {
                    Err(Loss::NoPrice)
                }
                _ => Ok(()),
            };
            let shape = eligibility::shape(&offer).and_then(believed);
            let judged = match (&refusal, imp) {
                (Some((_, loss)), _) => Err(*loss),
                (None, None) => Err(Loss::InvalidBid),
                (None, Some(_)) if shape.is_err() => Err(shape.err().unwrap_or(Loss::Internal)),
                (None, Some(_)) if bid.group && incomplete => Err(Loss::Group),
                (None, Some(at)) => self.rules.judge(s, &s.request.imps[at as usize], &offer),
            };
            let readable = match (imp, shape) {
                (None, _) => Outcome::WrongImp,
                (_, Ok(())) => Outcome::Bid,
                (_, Err(Loss::NoPrice)) => Outcome::NoPrice,
                (_, Err(Loss::NoMarkup)) => Outcome::NoMarkup,
                (_, Err(_)) => Outcome::InvalidBid,
            };
            if closeness(readable) > closeness(worst) {
                worst = readable;
            }
            self.take_bid(leg, index as u16, imp, judged, &offer, &mut last_seat);
        }
        refusal.map_or(worst, |(outcome, _)| outcome)
    }

    fn take_bid(
        &mut self,
        leg: u8,
        index: u16,
        imp: Option<u8>,
        judged: Result<(Option<u16>, Media), Loss>,
        o: &Offer<'_>,
        last_seat: &mut Option<(u16, Kept, u64)>,
    ) {
        let (bid, bytes) = (o.bid, o.bytes);
        let i = &mut self.record.inputs;
        let dsp_key = i.legs[leg as usize].dsp_key;
        // Bids of one seatbid share their seat.
        let (seat, seat_key) = match *last_seat {
            Some((seatbid, seat, key)) if seatbid == bid.seatbid => (seat, key),
            _ => {
                let seat = i.keep(bid.seat, bytes);
                // Of a longer one the bid cannot take part, and then nobody looks at its key.
                (seat, funds::seat_key(dsp_key, i.text(seat)))
            }
        };
        *last_seat = Some((bid.seatbid, seat, seat_key));
        let id = i.keep(bid.id, bytes);
        let cid = i.keep(bid.cid, bytes);
        let crid = i.keep(bid.crid, bytes);
        let adomain = bid.adomain.of(&o.response.texts).first().map_or(Kept::default(), |d| i.keep(*d, bytes));
        let (deal, media) = judged.unwrap_or_default();
        let price = bid.price.unwrap_or(Cpm::ZERO);
        i.bids.push(BidIn {
            leg,
            index,
            imp: imp.unwrap_or(NO_IMP),
            seatbid: bid.seatbid,
            group: bid.group,
            price,
            deal: deal.unwrap_or(NO_DEAL),
            media,
            seat_key,
            content: content(seat_key, imp, price, bid, bytes),
            verdict: judged.err().unwrap_or(Loss::Won),
            seat,
            id,
            cid,
            crid,
            adomain,
        });
    }
}

/// Among answers none of whose bids is readable: what the one that came closest lacked.
fn closeness(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Bid => 4,
        Outcome::NoMarkup => 3,
        Outcome::NoPrice => 2,
        Outcome::WrongImp => 1,
        _ => 0,
    }
}

/// The first currency of those that the sender takes which has a rate: all winners are answered in it.
fn answer_currency(s: &Start<'_>) -> (Currency, Option<Rate>) {
    let wanted = wanted_currencies(s);
    let with_rate = wanted.iter().find_map(|c| s.rates.rate(*c).map(|r| (*c, r)));
    match with_rate {
        Some((currency, rate)) => (currency, Some(rate)),
        None => (wanted.first().copied().unwrap_or(Currency::USD), None),
    }
}

/// `cur` (section 3.2.1), else the exchange's, else USD.
fn wanted_currencies<'a>(s: &Start<'a>) -> &'a [Currency] {
    let cur = s.request.cur.of(&s.request.currencies);
    match (cur.is_empty(), s.exchange.currencies.is_empty()) {
        (false, _) => cur,
        (true, false) => &s.exchange.currencies,
        (true, true) => &[Currency::USD],
    }
}

/// A DSP bids in what it was offered: its own currencies where it has some (we convert), else the sender's.
fn allowed_currency(s: &Start<'_>, dsp: &Dsp, currency: Currency) -> bool {
    if dsp.currencies.is_empty() { wanted_currencies(s) } else { &dsp.currencies }.contains(&currency)
}

/// An alpha-3 code as it stands; whatever else, nothing.
fn country(text: &[u8]) -> [u8; 3] {
    text.try_into().ok().filter(|c: &[u8; 3]| c.iter().all(u8::is_ascii_alphabetic)).unwrap_or_default()
}

fn has_rate(s: &Start<'_>, currency: Currency) -> bool {
    s.rates.rate(currency).is_some()
}

/// The impression that a bid names, if it was offered to its DSP.
fn imp_of(s: &Start<'_>, bid: &Bid, bytes: &[u8], offered: u64) -> Option<u8> {
    let imps = s.request.imps.iter().take(IMPS_MAX);
    let at = imps.enumerate().find(|(_, imp)| bid.impid.same(bytes, imp.id, s.body))?.0;
    (offered >> at & 1 == 1).then_some(at as u8)
}

/// What tells a bid from another of the same price; neither its place in the answer nor the answer's place in time.
fn content(seat_key: u64, imp: Option<u8>, price: Cpm, bid: &Bid, bytes: &[u8]) -> u64 {
    let numbers =
        (price.0 as u64).rotate_left(16) ^ u64::from(imp.unwrap_or(NO_IMP)) ^ (bid.adm.span().len as u64) << 8;
    let texts = [bid.id, bid.crid, bid.dealid];
    texts.iter().fold(mix(seat_key ^ numbers), |h, t| hash_bytes(h, t.raw(bytes)))
}
