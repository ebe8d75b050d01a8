//! Version 5 of the record, the one that is written. Byte by byte: `src/record/SPEC.md`.
//! Owns: nothing. Runs on: each bidder core (writes), readers of journals (read). Called by: [`Record`].
//! Never: allocates beyond what it appends to; panics on what it reads.
use super::{
    Record, RecordError,
    parts::{
        Decoder, Follows, NO_NBR, length, put_body, put_house, put_texts, put_yes, since, time, user_code, yes_or,
    },
    room::{AWAITED, HEAD_BLOCK, PAYER, STAGES, TRACE, USER, WIN_BLOCK},
    v4,
};
use crate::{
    auction::{funds::Answer, input::Inputs},
    budget::{AccountId, Period},
    config::resolved::RunnerUp,
    limits::IMPS_MAX,
    record::{
        codec::{Block, Read, Reader, flags},
        stages::StageTimes,
        trace::TraceId,
        user::User,
    },
};

pub(super) const VERSION: u8 = 5;
/// Of it and of version 4: flags behind those of version 2.
const FLAGS: usize = 4;

pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let (i, d) = (&record.inputs, &record.decision);
    let head_texts = [i.exchange, i.region, i.rate_id, i.request_id, i.tid, i.publisher];
    let some_no = record.funds.iter().any(|a| *a != Answer::Yes);
    Block::<HEAD_BLOCK>::new()
        .u8(VERSION)
        .u8(flags([
            i.test,
            i.late(),
            i.runner_up == RunnerUp::OtherSeat,
            i.answer_rate.is_some(),
            some_no,
            i.trace.is_some(),
            i.stages.is_some(),
            i.awaited_s != 0,
        ]))
        .event(i.event)
        .u64(i.config_id)
        .u64(i.config_hash)
        .u64(i.entropy)
        .u64(i.arrival_ns)
        .u64(i.wall_ms)
        .u40(since(i.arrival_ns, i.whole_ns))
        .u40(since(i.arrival_ns, i.deadline_ns))
        .u40(since(i.arrival_ns, i.decided_ns))
        .u64(i.digest)
        .bytes(i.accounting.0)
        .bytes(i.answer_currency.0)
        .u64(i.answer_rate.map_or(0, |r| r.0))
        .u32(i.at)
        .cpm(i.increment)
        .u8(i.channel as u8)
        .bytes(i.country)
        .u8(i.device_type)
        .u8(user_code(i.user))
        .bytes(head_texts.map(length))
        .u8(i.imps.len() as u8)
        .u16(i.deals.len() as u16)
        .u8(i.legs.len() as u8)
        .u8(i.not_asked.len() as u8)
        .u16(i.bids.len() as u16)
        .u16(record.funds.len() as u16)
        .u8(d.wins.len() as u8)
        .u16(d.nbr.map_or(NO_NBR, |n| n as u16))
        .u40(since(i.arrival_ns, i.asked_ns))
        .u8(record.house.len() as u8)
        .end(out);
    if let User::Hashed { salt, hash } = i.user {
        Block::<USER>::new().u32(salt).u64(hash).end(out);
    }
    if let Some(trace) = i.trace {
        Block::<TRACE>::new().bytes(trace.bytes()).end(out);
    }
    if let Some(stages) = &i.stages {
        let mut block = Block::<STAGES>::new();
        for span in stages.spans() {
            block.u40(*span);
        }
        block.end(out);
    }
    if i.awaited_s != 0 {
        Block::<AWAITED>::new().u32(i.awaited_s).end(out);
    }
    put_texts(i, &head_texts, out);
    put_body(record, out);
    if some_no {
        put_yes(&record.funds, out);
        out.extend(record.funds.iter().filter(|a| **a != Answer::Yes).map(|a| *a as u8));
    }
    for win in &d.wins {
        Block::<WIN_BLOCK>::new()
            .u8(flags([win.deal, win.group, win.account.is_some()]))
            .u16(win.input)
            .cpm(win.price)
            .cpm(win.bid_price)
            .cpm(win.clearing)
            .cpm(win.min_to_win)
            .u64(win.reserved.0 as u64)
            .u64(win.charge.0 as u64)
            .end(out);
        if win.account.is_some() {
            Block::<PAYER>::new().u32(win.account.0).u32(win.period.0).end(out);
        }
    }
    put_house(record, out);
}

/// The last of its flags, which version 4 has too.
pub(super) fn awaits(bytes: &[u8]) -> bool {
    matches!(bytes, [v4::VERSION | VERSION, flags, ..] if flags & 1 << 7 != 0)
}

/// What stands in the head, and nothing else.
pub(super) fn head(bytes: &[u8]) -> Read<Inputs> {
    head_of::<FLAGS>(bytes, VERSION)
}

pub(super) fn decode(bytes: &[u8]) -> Read<Record> {
    decode_of::<FLAGS>(bytes, VERSION)
}

/// Of a version that has so many flags behind those of version 2.
pub(super) fn head_of<const N: usize>(bytes: &[u8], version: u8) -> Read<Inputs> {
    read_head::<N>(bytes, version).map(|(d, _)| d.i)
}

/// Likewise.
pub(super) fn decode_of<const N: usize>(bytes: &[u8], version: u8) -> Read<Record> {
    let (d, follows) = read_head::<N>(bytes, version)?;
    let some_no = follows.flag(0);
    d.rest(&follows, |r, n, out| answers(some_no, r, n, out), payer)
}

fn read_head<const N: usize>(bytes: &[u8], version: u8) -> Read<(Decoder<'_>, Follows<N>)> {
    let mut d = Decoder::new(bytes);
    let follows = d.block::<N>(version)?;
    d.i.asked_ns = time(d.i.arrival_ns, d.r.u40()?);
    if version >= VERSION {
        d.has_probabilities = true;
        d.house = d.r.count8(IMPS_MAX)?;
    }
    d.user(&follows)?;
    if follows.flag(1) {
        d.i.trace = Some(TraceId::of(d.r.array()?).ok_or(RecordError::Value)?);
    }
    if follows.flag(2) {
        let mut spans = [0; StageTimes::COUNT];
        for span in &mut spans {
            *span = d.r.u40()?;
        }
        d.i.stages = Some(StageTimes::of(spans));
    }
    if follows.flag(3) {
        d.i.awaited_s = Some(d.r.u32()?).filter(|s| *s != 0).ok_or(RecordError::Value)?;
    }
    d.head_texts(&follows)?;
    Ok((d, follows))
}

fn answers(some_no: bool, r: &mut Reader<'_>, funds: usize, out: &mut Vec<Answer>) -> Read<()> {
    if !some_no {
        out.resize(funds, Answer::Yes);
        return Ok(());
    }
    yes_or(Answer::NoMoney, r, funds, out)?;
    for no in out.iter_mut().filter(|a| **a != Answer::Yes) {
        *no = Answer::of(r.u8()?).filter(|a| *a != Answer::Yes).ok_or(RecordError::Value)?;
    }
    Ok(())
}

fn payer(r: &mut Reader<'_>) -> Read<(AccountId, Period)> {
    let account = Some(AccountId(r.u32()?)).filter(|a| a.is_some()).ok_or(RecordError::Value)?;
    Ok((account, Period(r.u32()?)))
}
