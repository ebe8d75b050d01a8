//! The decision record: one auction as one value, its bytes, and deciding it again.
//! Owns: inputs, the funds' answers, the decision. Runs on: each bidder core (writes), readers of journals (read).
//! Called by: [`super::Auction`], and whoever audits. Never: holds an index of a configuration: names only.
//! Full: at most [`crate::limits::RECORD_BYTES_MAX`] bytes, by the bounds of everything in it.
//!
//! Little-endian, in the order of the fields; strings as a 16-bit length whose top bit says that the text was
//! cut. A first byte that is not [`VERSION`] is another format.
use super::{
    clearing::{Decision, Win, clear},
    funds::{Account, Funds},
    input::{BidIn, DealIn, Floor, ImpIn, Inputs, Kept, Leg},
};
use crate::{
    config::resolved::RunnerUp,
    limits::{ASKED_MAX, BIDS_MAX, DEALS_MAX, DSPS_MAX, IMPS_MAX, RECORD_TEXT_MAX},
    openrtb::{
        codes::{Loss, Nbr, Outcome},
        request::{Media, Run},
    },
    units::{Cpm, Currency, DspIx, EventId, Money, Multiplier, Rate},
};
use bumpalo::Bump;

/// First byte of an encoded record.
pub const VERSION: u8 = 1;

/// One auction: what went into its decision, and what came out.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// What it was decided of.
    pub inputs: Inputs,
    /// What the funds answered, in the order in which they were asked.
    pub funds: Vec<bool>,
    /// What was decided.
    pub decision: Decision,
}

impl Record {
    pub(super) fn reset(&mut self) {
        self.inputs.reset();
        self.funds.clear();
        self.decision.wins.clear();
        self.decision.losses.clear();
        self.decision.nbr = None;
    }

    /// Decides, writing down what the funds answer.
    pub(super) fn decide(&mut self, funds: &mut dyn Funds, arena: &Bump) {
        let mut heard = Heard { funds, answers: &mut self.funds };
        clear(&self.inputs, &mut heard, arena, &mut self.decision);
    }
}

struct Heard<'a> {
    funds: &'a mut dyn Funds,
    answers: &'a mut Vec<bool>,
}

impl Funds for Heard<'_> {
    fn can_pay(&mut self, account: &Account<'_>, max: Money) -> bool {
        let yes = self.funds.can_pay(account, max);
        self.answers.push(yes);
        yes
    }

    fn reserve(&mut self, account: &Account<'_>, amount: Money) -> bool {
        let yes = self.funds.reserve(account, amount);
        self.answers.push(yes);
        yes
    }

    fn release(&mut self, account: &Account<'_>, amount: Money) {
        self.funds.release(account, amount);
    }
}

/// Decides a recorded auction again, from its inputs and the funds' answers alone. Equal to the recorded decision,
/// or the record is not of this program.
pub fn replay(record: &Record) -> Decision {
    struct Told<'a>(std::slice::Iter<'a, bool>);
    impl Funds for Told<'_> {
        fn can_pay(&mut self, _: &Account<'_>, _: Money) -> bool {
            self.0.next().copied().unwrap_or(false)
        }
        fn reserve(&mut self, _: &Account<'_>, _: Money) -> bool {
            self.0.next().copied().unwrap_or(false)
        }
        fn release(&mut self, _: &Account<'_>, _: Money) {}
    }
    let mut out = Decision::default();
    clear(&record.inputs, &mut Told(record.funds.iter()), &Bump::new(), &mut out);
    out
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// The first byte names another format.
    #[error("unknown version")]
    Version,
    /// It ends early.
    #[error("cut short")]
    Short,
    /// A number that stands for nothing, or for more than there can be.
    #[error("impossible value")]
    Value,
    /// Something follows it.
    #[error("bytes left over")]
    Trailing,
}

// --- sizes ---------------------------------------------------------------------------------------
// The terms of `limits::RECORD_BYTES_MAX`.

pub(super) const EVENT: usize = 4 + 4 + 2 + 8;
const TEXT: usize = 2 + RECORD_TEXT_MAX;
const FLOOR: usize = 8 + 3 + 8;
/// Version, flags, event; configuration, entropy and four times; two currencies, rate, `at`, increment; three
/// texts; seven counts; `nbr`.
pub(crate) const HEAD: usize = 2 + EVENT + 6 * 8 + (3 + 3 + 8 + 4 + 8) + 3 * TEXT + 10 + 2;
/// Id, two floors, the second's medium, `qty`, flags, deals.
pub(crate) const IMP: usize = TEXT + 2 * FLOOR + 1 + 8 + 1 + 4;
/// Id, floor, `at`, flags.
pub(crate) const DEAL: usize = TEXT + FLOOR + 4 + 1;
/// Name, key, impressions, outcome, flags, four times, currency, rate, `nbr`, three counts.
pub(crate) const LEG: usize = TEXT + 8 + 8 + 1 + 1 + 4 * 8 + 3 + 8 + 4 + 3 * 4;
/// Name, outcome.
pub(crate) const NOT_ASKED: usize = TEXT + 1;
/// Leg, index, impression, seatbid, flags, price, deal, medium, two hashes, verdict, five texts, loss.
pub(crate) const BID: usize = 1 + 2 + 1 + 2 + 1 + 8 + 2 + 1 + 8 + 8 + 2 + 5 * TEXT + 2;
/// Impression, leg, two indexes, six amounts, flags.
pub(crate) const WIN: usize = 1 + 1 + 2 + 2 + 6 * 8 + 1;
/// Answers of the funds: a bid is asked about at most twice whether it can pay, and once to reserve.
pub(crate) const FUNDS_MAX: usize = 3 * BIDS_MAX;

// --- writing -------------------------------------------------------------------------------------

pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) texts: &'a [u8],
}

impl Writer<'_> {
    pub(super) fn u8(&mut self, n: u8) {
        self.out.push(n);
    }
    fn u16(&mut self, n: u16) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }
    fn u32(&mut self, n: u32) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }
    pub(super) fn u64(&mut self, n: u64) {
        self.out.extend_from_slice(&n.to_le_bytes());
    }
    fn cpm(&mut self, n: Cpm) {
        self.u64(n.0 as u64);
    }
    fn currency(&mut self, c: Currency) {
        self.out.extend_from_slice(&c.0);
    }
    pub(super) fn event(&mut self, e: EventId) {
        self.u32(e.node);
        self.u32(e.epoch);
        self.u16(e.core);
        self.u64(e.seq);
    }
    fn text(&mut self, k: Kept) {
        self.u16(k.len | if k.cut { CUT } else { 0 });
        let bytes = self.texts.get(k.at as usize..k.at as usize + k.len as usize);
        self.out.extend_from_slice(bytes.unwrap_or(&[]));
    }
    fn floor(&mut self, f: Floor) {
        self.cpm(f.amount);
        self.currency(f.currency);
        self.u64(f.due.map_or(u64::MAX, |due| due.0 as u64));
    }
    fn run(&mut self, r: Run) {
        self.u16(r.at);
        self.u16(r.len);
    }
}

const CUT: u16 = 1 << 15;

fn flags<const N: usize>(set: [bool; N]) -> u8 {
    set.iter().rev().fold(0, |all, &f| all << 1 | u8::from(f))
}

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let i = &self.inputs;
        let mut w = Writer { out, texts: &i.texts };
        w.u8(VERSION);
        w.u8(flags([i.test, i.runner_up == RunnerUp::OtherSeat, i.answer_rate.is_some()]));
        w.event(i.event);
        for n in [i.config_id, i.entropy, i.arrival_ns, i.wall_ms, i.deadline_ns, i.decided_ns] {
            w.u64(n);
        }
        w.currency(i.accounting);
        w.currency(i.answer_currency);
        w.u64(i.answer_rate.map_or(0, |r| r.0));
        w.u32(i.at);
        w.cpm(i.increment);
        for text in [i.exchange, i.rate_id, i.request_id] {
            w.text(text);
        }
        w.u8(i.imps.len() as u8);
        w.u16(i.deals.len() as u16);
        w.u8(i.legs.len() as u8);
        w.u8(i.not_asked.len() as u8);
        w.u16(i.bids.len() as u16);
        w.u16(self.funds.len() as u16);
        w.u8(self.decision.wins.len() as u8);
        w.u16(self.decision.nbr.map_or(NO_NBR, |n| n as u16));
        for imp in &i.imps {
            w.imp(imp);
        }
        for deal in &i.deals {
            w.text(deal.id);
            w.floor(deal.floor);
            w.u32(deal.at);
            w.u8(flags([deal.guar]));
        }
        for leg in &i.legs {
            w.leg(leg);
        }
        for (name, outcome) in &i.not_asked {
            w.text(*name);
            w.u8(*outcome as u8);
        }
        for (at, bid) in i.bids.iter().enumerate() {
            w.bid(bid, self.decision.losses.get(at).copied().unwrap_or(bid.verdict));
        }
        for eight in self.funds.chunks(8) {
            let byte = eight.iter().rev().fold(0, |all, &yes| all << 1 | u8::from(yes));
            w.u8(byte);
        }
        for win in &self.decision.wins {
            w.win(win);
        }
    }

    /// Reads [`Record::encode`] back. What was never in it (a DSP's index) is zero.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let mut r = Reader { rest: bytes };
        if r.u8()? != VERSION {
            return Err(RecordError::Version);
        }
        let mut record = Record::default();
        let i = &mut record.inputs;
        let [test, other_seat, has_rate] = r.flags()?;
        i.test = test;
        i.runner_up = if other_seat { RunnerUp::OtherSeat } else { RunnerUp::OtherDsp };
        i.event = r.event()?;
        for n in
            [&mut i.config_id, &mut i.entropy, &mut i.arrival_ns, &mut i.wall_ms, &mut i.deadline_ns, &mut i.decided_ns]
        {
            *n = r.u64()?;
        }
        i.accounting = r.currency()?;
        i.answer_currency = r.currency()?;
        let rate = r.u64()?;
        i.answer_rate = has_rate.then_some(Rate(rate));
        i.at = r.u32()?;
        i.increment = r.cpm()?;
        i.exchange = r.text(&mut i.texts)?;
        i.rate_id = r.text(&mut i.texts)?;
        i.request_id = r.text(&mut i.texts)?;
        let imps = r.count8(IMPS_MAX)?;
        let deals = r.count16(DEALS_MAX)?;
        let legs = r.count8(ASKED_MAX)?;
        let not_asked = r.count8(DSPS_MAX)?;
        let bids = r.count16(BIDS_MAX)?;
        let funds = r.count16(FUNDS_MAX)?;
        let wins = r.count8(IMPS_MAX)?;
        let nbr = r.u16()?;
        let d = &mut record.decision;
        d.nbr = match nbr {
            NO_NBR => None,
            n => Some(*NBRS.iter().find(|x| **x as u16 == n).ok_or(RecordError::Value)?),
        };
        (d.answer_currency, d.test) = (i.answer_currency, i.test);
        for _ in 0..imps {
            let imp = r.imp(&mut i.texts)?;
            i.imps.push(imp);
        }
        for _ in 0..deals {
            let id = r.text(&mut i.texts)?;
            let (floor, at, [guar, ..]) = (r.floor()?, r.u32()?, r.flags::<1>()?);
            i.deals.push(DealIn { id, floor, at, guar });
        }
        for _ in 0..legs {
            let leg = r.leg(&mut i.texts)?;
            i.legs.push(leg);
        }
        for _ in 0..not_asked {
            let name = r.text(&mut i.texts)?;
            i.not_asked.push((name, r.outcome()?.ok_or(RecordError::Value)?));
        }
        for _ in 0..bids {
            let (bid, loss) = r.bid(&mut i.texts)?;
            // Clearing indexes by these; a record from anywhere must not make it panic.
            let known = (bid.leg as usize) < legs && ((bid.imp as usize) < imps || bid.verdict != Loss::Won);
            if !known || (bid.imp as usize) >= imps && bid.imp != super::input::NO_IMP {
                return Err(RecordError::Value);
            }
            i.bids.push(bid);
            d.losses.push(loss);
        }
        for at in 0..funds {
            let byte = *r.rest.get(at / 8).ok_or(RecordError::Short)?;
            record.funds.push(byte >> (at % 8) & 1 == 1);
        }
        r.take(funds.div_ceil(8))?;
        for _ in 0..wins {
            d.wins.push(r.win()?);
        }
        r.end()?;
        Ok(record)
    }
}

const NO_NBR: u16 = u16::MAX;

impl Writer<'_> {
    fn imp(&mut self, imp: &ImpIn) {
        self.text(imp.id);
        self.floor(imp.floor);
        let (media, floor) = imp.media_floor.unwrap_or_default();
        self.u8(media.0);
        self.floor(floor);
        self.u64(imp.qty.0);
        self.u8(flags([imp.private, imp.refused, imp.media_floor.is_some()]));
        self.run(imp.deals);
    }

    fn leg(&mut self, leg: &Leg) {
        self.text(leg.name);
        self.u64(leg.dsp_key);
        self.u64(leg.imps);
        self.u8(leg.outcome.map_or(u8::MAX, |o| o as u8));
        self.u8(flags([leg.closed_by_decision, leg.nbr.is_some()]));
        for n in [leg.queued_ns, leg.sent_ns, leg.first_byte_ns, leg.done_ns] {
            self.u64(n);
        }
        self.currency(leg.currency);
        self.u64(leg.rate.0);
        for n in [leg.nbr.unwrap_or(0), leg.bids_seen, leg.bids_unusable, leg.bids_dropped] {
            self.u32(n);
        }
    }

    fn bid(&mut self, bid: &BidIn, loss: Loss) {
        self.u8(bid.leg);
        self.u16(bid.index);
        self.u8(bid.imp);
        self.u16(bid.seatbid);
        self.u8(flags([bid.group]));
        self.cpm(bid.price);
        self.u16(bid.deal);
        self.u8(bid.media.0);
        self.u64(bid.seat_key);
        self.u64(bid.content);
        self.u16(bid.verdict as u16);
        for text in [bid.seat, bid.id, bid.cid, bid.crid, bid.adomain] {
            self.text(text);
        }
        self.u16(loss as u16);
    }

    fn win(&mut self, win: &Win) {
        self.u8(win.imp);
        self.u8(win.leg);
        self.u16(win.bid);
        self.u16(win.input);
        for price in [win.price, win.bid_price, win.clearing, win.min_to_win] {
            self.cpm(price);
        }
        self.u64(win.reserved.0 as u64);
        self.u64(win.charge.0 as u64);
        self.u8(flags([win.deal, win.group]));
    }
}

// --- reading -------------------------------------------------------------------------------------

type Read<T> = Result<T, RecordError>;

pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Read<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(RecordError::Short)?;
        self.rest = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| RecordError::Short)
    }
    pub(super) fn end(&self) -> Read<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::Trailing) }
    }
    pub(super) fn u8(&mut self) -> Read<u8> {
        Ok(self.array::<1>()?[0])
    }
    fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub(super) fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    fn count8(&mut self, max: usize) -> Read<usize> {
        Some(self.u8()? as usize).filter(|n| *n <= max).ok_or(RecordError::Value)
    }
    fn count16(&mut self, max: usize) -> Read<usize> {
        Some(self.u16()? as usize).filter(|n| *n <= max).ok_or(RecordError::Value)
    }
    fn flags<const N: usize>(&mut self) -> Read<[bool; N]> {
        let byte = self.u8()?;
        if u32::from(byte) >> N != 0 {
            return Err(RecordError::Value);
        }
        Ok(std::array::from_fn(|i| byte >> i & 1 == 1))
    }
    /// Prices are what [`Cpm::parse`] lets through, so that sums of them stay inside 64 bits.
    fn cpm(&mut self) -> Read<Cpm> {
        let n = self.u64()?;
        if n <= Cpm::MAX.0 as u64 { Ok(Cpm(n as i64)) } else { Err(RecordError::Value) }
    }
    fn money(&mut self) -> Read<Money> {
        i64::try_from(self.u64()?).map(Money).map_err(|_| RecordError::Value)
    }
    fn rate(&mut self) -> Read<Rate> {
        let n = self.u64()?;
        if Rate::RANGE.contains(&n) { Ok(Rate(n)) } else { Err(RecordError::Value) }
    }
    fn currency(&mut self) -> Read<Currency> {
        Currency::parse(&self.array::<3>()?).ok_or(RecordError::Value)
    }
    fn media(&mut self) -> Read<Media> {
        Some(Media(self.u8()?)).filter(|m| m.0 <= Media::ALL.0).ok_or(RecordError::Value)
    }
    pub(super) fn event(&mut self) -> Read<EventId> {
        Ok(EventId { node: self.u32()?, epoch: self.u32()?, core: self.u16()?, seq: self.u64()? })
    }
    fn outcome(&mut self) -> Read<Option<Outcome>> {
        match self.u8()? {
            u8::MAX => Ok(None),
            n => Outcome::ALL.get(n as usize).copied().map(Some).ok_or(RecordError::Value),
        }
    }
    fn loss(&mut self) -> Read<Loss> {
        let n = self.u16()?;
        LOSSES.iter().find(|l| **l as u16 == n).copied().ok_or(RecordError::Value)
    }
    fn text(&mut self, texts: &mut Vec<u8>) -> Read<Kept> {
        let n = self.u16()?;
        let (len, at) = (n & !CUT, texts.len() as u32);
        if len as usize > RECORD_TEXT_MAX {
            return Err(RecordError::Value);
        }
        texts.extend_from_slice(self.take(len as usize)?);
        Ok(Kept { at, len, cut: n & CUT != 0 })
    }
    fn floor(&mut self) -> Read<Floor> {
        let (amount, currency) = (self.cpm()?, self.currency()?);
        let due = match self.u64()? {
            u64::MAX => None,
            n if n <= Cpm::MAX.0 as u64 => Some(Cpm(n as i64)),
            _ => return Err(RecordError::Value),
        };
        Ok(Floor { amount, currency, due })
    }
    fn run(&mut self) -> Read<Run> {
        Ok(Run { at: self.u16()?, len: self.u16()? })
    }

    fn imp(&mut self, texts: &mut Vec<u8>) -> Read<ImpIn> {
        let (id, floor, media, media_floor) = (self.text(texts)?, self.floor()?, self.media()?, self.floor()?);
        let qty = self.u64()?;
        if qty == 0 || qty > Multiplier::MAX.0 {
            return Err(RecordError::Value);
        }
        let [private, refused, has_media_floor] = self.flags()?;
        Ok(ImpIn {
            id,
            floor,
            media_floor: has_media_floor.then_some((media, media_floor)),
            qty: Multiplier(qty),
            private,
            refused,
            deals: self.run()?,
        })
    }

    fn leg(&mut self, texts: &mut Vec<u8>) -> Read<Leg> {
        let name = self.text(texts)?;
        let (dsp_key, imps, outcome) = (self.u64()?, self.u64()?, self.outcome()?);
        let [closed_by_decision, has_nbr] = self.flags()?;
        let (queued_ns, sent_ns, first_byte_ns, done_ns) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        let (currency, rate, nbr) = (self.currency()?, self.rate()?, self.u32()?);
        Ok(Leg {
            dsp: DspIx::default(),
            name,
            dsp_key,
            imps,
            outcome,
            closed_by_decision,
            queued_ns,
            sent_ns,
            first_byte_ns,
            done_ns,
            currency,
            rate,
            nbr: has_nbr.then_some(nbr),
            bids_seen: self.u32()?,
            bids_unusable: self.u32()?,
            bids_dropped: self.u32()?,
        })
    }

    fn bid(&mut self, texts: &mut Vec<u8>) -> Read<(BidIn, Loss)> {
        let (leg, index, imp, seatbid) = (self.u8()?, self.u16()?, self.u8()?, self.u16()?);
        let [group] = self.flags()?;
        let bid = BidIn {
            leg,
            index,
            imp,
            seatbid,
            group,
            price: self.cpm()?,
            deal: self.u16()?,
            media: self.media()?,
            seat_key: self.u64()?,
            content: self.u64()?,
            verdict: self.loss()?,
            seat: self.text(texts)?,
            id: self.text(texts)?,
            cid: self.text(texts)?,
            crid: self.text(texts)?,
            adomain: self.text(texts)?,
        };
        Ok((bid, self.loss()?))
    }

    fn win(&mut self) -> Read<Win> {
        let (imp, leg, bid, input) = (self.u8()?, self.u8()?, self.u16()?, self.u16()?);
        let (price, bid_price, clearing, min_to_win) = (self.cpm()?, self.cpm()?, self.cpm()?, self.cpm()?);
        let (reserved, charge) = (self.money()?, self.money()?);
        let [deal, group] = self.flags()?;
        Ok(Win { imp, leg, bid, input, price, bid_price, clearing, min_to_win, reserved, charge, deal, group })
    }
}

const NBRS: [Nbr; 7] = [
    Nbr::Unknown,
    Nbr::Technical,
    Nbr::InvalidRequest,
    Nbr::InsufficientTime,
    Nbr::NoBids,
    Nbr::Overload,
    Nbr::NothingToSell,
];

const LOSSES: [Loss; 28] = [
    Loss::Won,
    Loss::Internal,
    Loss::Expired,
    Loss::InvalidBid,
    Loss::BadDeal,
    Loss::BadAuctionId,
    Loss::BadAdomain,
    Loss::NoMarkup,
    Loss::NoCrid,
    Loss::NoPrice,
    Loss::BelowFloor,
    Loss::BelowDealFloor,
    Loss::LostToHigherBid,
    Loss::LostToDeal,
    Loss::SeatBlocked,
    Loss::Size,
    Loss::Format,
    Loss::AdvertiserBlocked,
    Loss::AppBlocked,
    Loss::NotSecure,
    Loss::Category,
    Loss::Attribute,
    Loss::NotAllowedInDeal,
    Loss::Currency,
    Loss::NoFunds,
    Loss::Group,
    Loss::TooMany,
    Loss::GroupSearch,
];

#[cfg(test)]
mod tests;
