//! Version 1 of the record: read, never written again.
//! Owns: nothing. Runs on: readers of journals. Called by: [`Record::decode`].
//!
//! In the order of the fields, everything at its full width; texts as a 16-bit length, whose top bit says that the text
//! was cut, and the bytes.
use super::{Record, parts::yes_or};
use crate::{
    auction::{
        clearing::Win,
        funds::Answer,
        input::{BidIn, DealIn, Floor, ImpIn, Kept, Leg, NO_IMP, NotAsked},
    },
    config::resolved::RunnerUp,
    limits::{ASKED_MAX, BIDS_MAX, DEALS_MAX, DSPS_MAX, IMPS_MAX, RECORD_TEXT_MAX},
    openrtb::codes::{Loss, Nbr, Outcome},
    record::codec::{Read, Reader, RecordError},
    units::{Cpm, DspIx, Probability, Rate},
};

pub(super) const VERSION: u8 = 1;
const CUT: u16 = 1 << 15;
const NO_NBR: u16 = u16::MAX;
const FUNDS_MAX: usize = 3 * BIDS_MAX;

pub(super) fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
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
    i.increment = r.cpm64()?;
    i.exchange = text(&mut r, &mut i.texts)?;
    i.rate_id = text(&mut r, &mut i.texts)?;
    i.request_id = text(&mut r, &mut i.texts)?;
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
        n => Some(Nbr::of(n).ok_or(RecordError::Value)?),
    };
    (d.answer_currency, d.test) = (i.answer_currency, i.test);
    for _ in 0..imps {
        let imp = imp(&mut r, &mut i.texts)?;
        i.imps.push(imp);
    }
    for _ in 0..deals {
        let id = text(&mut r, &mut i.texts)?;
        let (floor, at, [guar, ..]) = (floor(&mut r)?, r.u32()?, r.flags::<1>()?);
        i.deals.push(DealIn { id, floor, at, guar });
    }
    for _ in 0..legs {
        let leg = leg(&mut r, &mut i.texts)?;
        i.legs.push(leg);
    }
    for _ in 0..not_asked {
        let name = text(&mut r, &mut i.texts)?;
        let outcome = outcome(&mut r)?.ok_or(RecordError::Value)?;
        i.not_asked.push(NotAsked { name, outcome, asked_probability: Probability::ALWAYS });
    }
    for _ in 0..bids {
        let (bid, loss) = bid(&mut r, &mut i.texts)?;
        // Clearing indexes by these; a record from anywhere must not make it panic.
        let known = (bid.leg as usize) < legs && ((bid.imp as usize) < imps || bid.verdict != Loss::Won);
        if !known || (bid.imp as usize) >= imps && bid.imp != NO_IMP {
            return Err(RecordError::Value);
        }
        i.bids.push(bid);
        d.losses.push(loss);
    }
    yes_or(Answer::NoMoney, &mut r, funds, &mut record.funds)?;
    for _ in 0..wins {
        d.wins.push(win(&mut r)?);
    }
    r.end()?;
    Ok(record)
}

fn outcome(r: &mut Reader<'_>) -> Read<Option<Outcome>> {
    match r.u8()? {
        u8::MAX => Ok(None),
        n => Outcome::ALL.get(n as usize).copied().map(Some).ok_or(RecordError::Value),
    }
}

fn loss(r: &mut Reader<'_>) -> Read<Loss> {
    Loss::of(r.u16()?).ok_or(RecordError::Value)
}

fn text(r: &mut Reader<'_>, texts: &mut Vec<u8>) -> Read<Kept> {
    let n = r.u16()?;
    let (len, at) = (n & !CUT, texts.len() as u32);
    if len as usize > RECORD_TEXT_MAX {
        return Err(RecordError::Value);
    }
    texts.extend_from_slice(r.take(len as usize)?);
    Ok(Kept { at, len, cut: n & CUT != 0 })
}

fn floor(r: &mut Reader<'_>) -> Read<Floor> {
    let (amount, currency) = (r.cpm64()?, r.currency()?);
    let due = match r.u64()? {
        u64::MAX => None,
        n if n <= Cpm::MAX.0 as u64 => Some(Cpm(n as i64)),
        _ => return Err(RecordError::Value),
    };
    Ok(Floor { amount, currency, due })
}

fn imp(r: &mut Reader<'_>, texts: &mut Vec<u8>) -> Read<ImpIn> {
    let (id, floor, media, media_floor) = (text(r, texts)?, floor(r)?, r.media()?, floor(r)?);
    let qty = r.qty()?;
    let [private, refused, has_media_floor] = r.flags()?;
    Ok(ImpIn {
        id,
        tagid: Kept::default(),
        floor,
        media_floor: has_media_floor.then_some((media, media_floor)),
        qty,
        private,
        refused,
        deals: r.run()?,
    })
}

fn leg(r: &mut Reader<'_>, texts: &mut Vec<u8>) -> Read<Leg> {
    let name = text(r, texts)?;
    let (dsp_key, imps, outcome) = (r.u64()?, r.u64()?, outcome(r)?);
    let [closed_by_decision, has_nbr] = r.flags()?;
    let (queued_ns, sent_ns, first_byte_ns, done_ns) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
    let (currency, rate, nbr) = (r.currency()?, r.rate()?, r.u32()?);
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
        bids_seen: r.u32()?,
        bids_unusable: r.u32()?,
        bids_dropped: r.u32()?,
        asked_probability: Probability::ALWAYS,
    })
}

fn bid(r: &mut Reader<'_>, texts: &mut Vec<u8>) -> Read<(BidIn, Loss)> {
    let (leg, index, imp, seatbid) = (r.u8()?, r.u16()?, r.u8()?, r.u16()?);
    let [group] = r.flags()?;
    let bid = BidIn {
        leg,
        index,
        imp,
        seatbid,
        group,
        price: r.cpm64()?,
        deal: r.u16()?,
        media: r.media()?,
        seat_key: r.u64()?,
        content: r.u64()?,
        verdict: loss(r)?,
        seat: text(r, texts)?,
        id: text(r, texts)?,
        cid: text(r, texts)?,
        crid: text(r, texts)?,
        adomain: text(r, texts)?,
    };
    Ok((bid, loss(r)?))
}

fn win(r: &mut Reader<'_>) -> Read<Win> {
    let (imp, leg, bid, input) = (r.u8()?, r.u8()?, r.u16()?, r.u16()?);
    let (price, bid_price, clearing, min_to_win) = (r.cpm64()?, r.cpm64()?, r.cpm64()?, r.cpm64()?);
    let (reserved, charge) = (r.money()?, r.money()?);
    let [deal, group] = r.flags()?;
    let (account, period) = Default::default();
    Ok(Win {
        imp,
        leg,
        bid,
        input,
        price,
        bid_price,
        clearing,
        min_to_win,
        reserved,
        charge,
        account,
        period,
        deal,
        group,
    })
}
