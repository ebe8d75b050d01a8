//! What records have had in common since version 2. Byte by byte: `src/record/SPEC.md`.
//! Owns: nothing. Runs on: each bidder core (writes), readers of journals (read). Called by: `v2` to `v5`.
//! Never: allocates beyond what it appends to; panics on what it reads.
//!
//! Blocks of fixed length, each followed by what its flags announce and then by its texts, so that what an auction did
//! not have costs a bit. Times are spans from the first byte; an amount in the accounting currency stands alone.
use super::{
    HouseAd, Record, RecordError,
    room::{
        BID_BLOCK, DEAL_BLOCK, FLOOR_REST, FUNDS_OF_BID, HOUSE_BLOCK, IMP_BLOCK, LEG_BLOCK, LEG_COUNTS, LEG_RATE,
        MEDIA_FLOOR, NOT_ASKED_BLOCK, PROBABILITY,
    },
};
use crate::{
    auction::{
        clearing::Win,
        funds::{self, Answer},
        input::{BidIn, DealIn, Floor, ImpIn, Inputs, Kept, Leg, NO_DEAL, NO_IMP, NotAsked},
    },
    budget::{AccountId, Period},
    config::resolved::RunnerUp,
    limits::{ASKED_MAX, BIDS_MAX, DEALS_MAX, DSPS_MAX, HOUSE_CRID_MAX, IMPS_MAX, RECORD_TEXT_MAX},
    openrtb::{
        codes::{Loss, Nbr, Outcome},
        request::Channel,
    },
    record::{
        codec::{Block, Read, Reader, U40_MAX, flags},
        user::User,
    },
    units::{Cpm, Currency, DspIx, Multiplier, Probability, Rate},
};

pub(super) const NO_NBR: u16 = u16::MAX;
const NO_OUTCOME: u8 = u8::MAX;
/// Added to the outcome of a DSP that was not asked, if a probability follows.
const WITH_PROBABILITY: u8 = 1 << 7;
/// Added to the length of a text that was cut.
const CUT: usize = 127;
/// What stands for the shortest text that was cut: a character's bytes below the most that is kept.
const CUT_FIRST: usize = RECORD_TEXT_MAX - 4 + CUT;
/// And for the longest.
const CUT_LAST: usize = RECORD_TEXT_MAX + CUT;

const _: () = assert!(Outcome::ALL.len() <= WITH_PROBABILITY as usize);
const _: () = assert!(RECORD_TEXT_MAX < CUT_FIRST && CUT_LAST <= u8::MAX as usize);

// --- writing -------------------------------------------------------------------------------------

pub(super) fn length(k: Kept) -> u8 {
    k.len as u8 + if k.cut { CUT as u8 } else { 0 }
}

/// The bytes of texts, one behind the other; those that were kept in one go are copied in one.
pub(super) fn put_texts(i: &Inputs, kept: &[Kept], out: &mut Vec<u8>) {
    let (mut from, mut to) = (0, 0);
    for k in kept.iter().filter(|k| k.len > 0) {
        if k.at as usize != to {
            out.extend_from_slice(i.texts.get(from..to).unwrap_or(&[]));
            from = k.at as usize;
        }
        to = k.at as usize + k.len as usize;
    }
    out.extend_from_slice(i.texts.get(from..to).unwrap_or(&[]));
}

/// A time as a span from the first byte of the request, and one; 0 where it did not come to that.
pub(super) fn since(arrival_ns: u64, ns: u64) -> u64 {
    if ns == 0 { 0 } else { ns.saturating_sub(arrival_ns).saturating_add(1) }
}

/// Is there nothing to a floor but its amount?
fn plain(f: &Floor, accounting: Currency) -> bool {
    f.currency == accounting && f.due == Some(f.amount)
}

fn floor_rest<const N: usize>(block: &mut Block<N>, f: &Floor) {
    block.bytes(f.currency.0).u40(f.due.map_or(U40_MAX, |due| due.0.max(0) as u64));
}

/// All of `imps` impressions, as bits.
fn all_of(imps: usize) -> u64 {
    u64::MAX.checked_shr(64 - imps.min(64) as u32).unwrap_or(0)
}

pub(super) fn user_code(user: User) -> u8 {
    match user {
        User::Unknown => 0,
        User::Coppa => 1,
        User::Lmt => 2,
        User::NoConsent => 3,
        User::NoSalt => 4,
        User::Hashed { .. } => 5,
    }
}

/// Impressions, deals, DSPs that were asked, DSPs that were not, bids.
pub(super) fn put_body(record: &Record, out: &mut Vec<u8>) {
    let (i, d) = (&record.inputs, &record.decision);
    for imp in &i.imps {
        put_imp(i, imp, out);
    }
    for deal in &i.deals {
        put_deal(i, deal, out);
    }
    for leg in &i.legs {
        put_leg(i, leg, out);
    }
    for NotAsked { name, outcome, asked_probability } in &i.not_asked {
        let with = if asked_probability.is_always() { 0 } else { WITH_PROBABILITY };
        Block::<NOT_ASKED_BLOCK>::new().u8(*outcome as u8 | with).u8(length(*name)).end(out);
        put_probability(*asked_probability, out);
        put_texts(i, &[*name], out);
    }
    for (at, bid) in i.bids.iter().enumerate() {
        put_bid(i, bid, d.losses.get(at).copied().unwrap_or(bid.verdict), out);
    }
}

/// One bit for each answer of the funds, eight to a byte: yes or not.
pub(super) fn put_yes(funds: &[Answer], out: &mut Vec<u8>) {
    for eight in funds.chunks(8) {
        out.push(eight.iter().rev().fold(0, |all, &a| all << 1 | u8::from(a == Answer::Yes)));
    }
}

/// House ads, behind everything else.
pub(super) fn put_house(record: &Record, out: &mut Vec<u8>) {
    for ad in &record.house {
        Block::<HOUSE_BLOCK>::new().u8(ad.imp).cpm(ad.price).u8(length(ad.crid)).end(out);
        put_texts(&record.inputs, &[ad.crid], out);
    }
}

/// Of what was sure there is nothing.
fn put_probability(probability: Probability, out: &mut Vec<u8>) {
    if !probability.is_always() {
        Block::<PROBABILITY>::new().u16(probability.of_10_000()).end(out);
    }
}

fn put_deal(i: &Inputs, deal: &DealIn, out: &mut Vec<u8>) {
    let plain = plain(&deal.floor, i.accounting);
    let mut block = Block::<DEAL_BLOCK>::new();
    block.u8(flags([deal.guar, plain])).u32(deal.at).u8(length(deal.id)).cpm(deal.floor.amount).end(out);
    if !plain {
        put_floor_rest(&deal.floor, out);
    }
    put_texts(i, &[deal.id], out);
}

fn put_floor_rest(f: &Floor, out: &mut Vec<u8>) {
    let mut block = Block::<FLOOR_REST>::new();
    floor_rest(&mut block, f);
    block.end(out);
}

fn put_imp(i: &Inputs, imp: &ImpIn, out: &mut Vec<u8>) {
    let plain = plain(&imp.floor, i.accounting);
    let one = imp.qty == Multiplier::ONE;
    let no_deals = imp.deals.len == 0;
    Block::<IMP_BLOCK>::new()
        .u8(flags([imp.private, imp.refused, plain, imp.media_floor.is_some(), one, no_deals]))
        .u8(length(imp.id))
        .u8(length(imp.tagid))
        .cpm(imp.floor.amount)
        .end(out);
    if !plain {
        put_floor_rest(&imp.floor, out);
    }
    if let Some((media, floor)) = &imp.media_floor {
        let mut block = Block::<MEDIA_FLOOR>::new();
        floor_rest(block.u8(media.0).cpm(floor.amount), floor);
        block.end(out);
    }
    if !one {
        Block::<8>::new().u64(imp.qty.0).end(out);
    }
    if !no_deals {
        Block::<4>::new().run(imp.deals).end(out);
    }
    put_texts(i, &[imp.id, imp.tagid], out);
}

fn put_leg(i: &Inputs, leg: &Leg, out: &mut Vec<u8>) {
    let all = leg.imps == all_of(i.imps.len());
    let no_rate = leg.currency == i.accounting && leg.rate == Rate::ONE;
    let few = leg.bids_seen <= u32::from(u8::MAX) && leg.bids_unusable == 0 && leg.bids_dropped == 0;
    let span = |ns| since(i.arrival_ns, ns);
    Block::<LEG_BLOCK>::new()
        .u8(flags([leg.closed_by_decision, all, no_rate, leg.nbr.is_some(), few, !leg.asked_probability.is_always()]))
        .u8(leg.outcome.map_or(NO_OUTCOME, |o| o as u8))
        .u8(length(leg.name))
        .u8(if few { leg.bids_seen as u8 } else { 0 })
        .u40(span(leg.queued_ns))
        .u40(span(leg.sent_ns))
        .u40(span(leg.first_byte_ns))
        .u40(span(leg.done_ns))
        .end(out);
    if !all {
        Block::<8>::new().u64(leg.imps).end(out);
    }
    if !no_rate {
        Block::<LEG_RATE>::new().bytes(leg.currency.0).u64(leg.rate.0).end(out);
    }
    if let Some(nbr) = leg.nbr {
        Block::<4>::new().u32(nbr).end(out);
    }
    if !few {
        Block::<LEG_COUNTS>::new().u32(leg.bids_seen).u32(leg.bids_unusable).u32(leg.bids_dropped).end(out);
    }
    if leg.name.cut {
        Block::<8>::new().u64(leg.dsp_key).end(out);
    }
    put_probability(leg.asked_probability, out);
    put_texts(i, &[leg.name], out);
}

fn put_bid(i: &Inputs, bid: &BidIn, loss: Loss, out: &mut Vec<u8>) {
    let open = bid.deal == NO_DEAL;
    let texts = [bid.seat, bid.id, bid.cid, bid.crid, bid.adomain];
    Block::<BID_BLOCK>::new()
        .u8(flags([bid.group, bid.verdict == Loss::Won, open]))
        .u8(bid.leg)
        .u16(bid.index)
        .u8(bid.imp)
        .u16(bid.seatbid)
        .cpm(bid.price)
        .u8(bid.media.0)
        .u64(bid.content)
        .u16(loss as u16)
        .bytes(texts.map(length))
        .end(out);
    if !open {
        Block::<2>::new().u16(bid.deal).end(out);
    }
    put_texts(i, &texts, out);
}

// --- reading -------------------------------------------------------------------------------------

/// Reads a record; `i` is what it is read into.
pub(super) struct Decoder<'a> {
    pub(super) r: Reader<'a>,
    pub(super) i: Inputs,
    /// Of DSPs it may stand there with which probability they were asked.
    pub(super) has_probabilities: bool,
    /// House ads.
    pub(super) house: usize,
}

/// What the head's block says of what follows it.
pub(super) struct Follows<const N: usize> {
    /// The flags behind those of version 2.
    flags: [bool; N],
    user: u8,
    lengths: [u8; 6],
    imps: usize,
    deals: usize,
    legs: usize,
    not_asked: usize,
    bids: usize,
    funds: usize,
    wins: usize,
    nbr: Option<Nbr>,
}

impl<const N: usize> Follows<N> {
    /// A flag behind those of version 2; those that the version has not are not set.
    pub(super) fn flag(&self, at: usize) -> bool {
        self.flags.get(at).copied().unwrap_or(false)
    }
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { r: Reader { rest: bytes }, i: Inputs::default(), has_probabilities: false, house: 0 }
    }

    /// The head's block as version 2 has it, with `N` flags more.
    pub(super) fn block<const N: usize>(&mut self, version: u8) -> Read<Follows<N>> {
        let Decoder { r, i, .. } = self;
        if r.u8()? != version {
            return Err(RecordError::Version);
        }
        let set = r.u8()?;
        if u32::from(set).unbounded_shr(4 + N as u32) != 0 {
            return Err(RecordError::Value);
        }
        // Whether it was late (bit 1) follows from its times.
        let bit = |at: usize| set >> at & 1 == 1;
        i.test = bit(0);
        i.runner_up = if bit(2) { RunnerUp::OtherSeat } else { RunnerUp::OtherDsp };
        i.event = r.event()?;
        for n in [&mut i.config_id, &mut i.config_hash, &mut i.entropy, &mut i.arrival_ns, &mut i.wall_ms] {
            *n = r.u64()?;
        }
        let at = i.arrival_ns;
        (i.whole_ns, i.deadline_ns, i.decided_ns) = (time(at, r.u40()?), time(at, r.u40()?), time(at, r.u40()?));
        i.digest = r.u64()?;
        (i.accounting, i.answer_currency) = (r.currency()?, r.currency()?);
        i.answer_rate = if bit(3) {
            Some(r.rate()?)
        } else {
            r.u64()?;
            None
        };
        (i.at, i.increment) = (r.u32()?, r.cpm()?);
        i.channel = Channel::of(r.u8()?).ok_or(RecordError::Value)?;
        (i.country, i.device_type) = (r.array()?, r.u8()?);
        Ok(Follows {
            flags: std::array::from_fn(|at| bit(4 + at)),
            user: r.u8()?,
            lengths: r.array()?,
            imps: r.count8(IMPS_MAX)?,
            deals: r.count16(DEALS_MAX)?,
            legs: r.count8(ASKED_MAX)?,
            not_asked: r.count8(DSPS_MAX)?,
            bids: r.count16(BIDS_MAX)?,
            funds: r.count16(FUNDS_OF_BID * BIDS_MAX)?,
            wins: r.count8(IMPS_MAX)?,
            nbr: match r.u16()? {
                NO_NBR => None,
                n => Some(Nbr::of(n).ok_or(RecordError::Value)?),
            },
        })
    }

    pub(super) fn user<const N: usize>(&mut self, follows: &Follows<N>) -> Read<()> {
        self.i.user = match follows.user {
            0 => User::Unknown,
            1 => User::Coppa,
            2 => User::Lmt,
            3 => User::NoConsent,
            4 => User::NoSalt,
            5 => User::Hashed { salt: self.r.u32()?, hash: self.r.u64()? },
            _ => return Err(RecordError::Value),
        };
        Ok(())
    }

    pub(super) fn head_texts<const N: usize>(&mut self, follows: &Follows<N>) -> Read<()> {
        let texts = self.texts(follows.lengths)?;
        let i = &mut self.i;
        [i.exchange, i.region, i.rate_id, i.request_id, i.tid, i.publisher] = texts;
        Ok(())
    }

    /// All behind the head. What differs among the versions is read by `funds`, the answers of the funds, and by `payer`,
    /// what follows a winner's block if its third flag says so.
    pub(super) fn rest<const N: usize>(
        mut self,
        follows: &Follows<N>,
        funds: impl Fn(&mut Reader<'_>, usize, &mut Vec<Answer>) -> Read<()>,
        payer: impl Fn(&mut Reader<'_>) -> Read<(AccountId, Period)>,
    ) -> Read<Record> {
        let mut record = Record::default();
        for _ in 0..follows.imps {
            let imp = self.imp()?;
            self.i.imps.push(imp);
        }
        for _ in 0..follows.deals {
            let deal = self.deal()?;
            self.i.deals.push(deal);
        }
        for _ in 0..follows.legs {
            let leg = self.leg()?;
            self.i.legs.push(leg);
        }
        for _ in 0..follows.not_asked {
            let not_asked = self.not_asked()?;
            self.i.not_asked.push(not_asked);
        }
        for _ in 0..follows.bids {
            let (bid, loss) = self.bid()?;
            self.i.bids.push(bid);
            record.decision.losses.push(loss);
        }
        funds(&mut self.r, follows.funds, &mut record.funds)?;
        for _ in 0..follows.wins {
            let win = self.win(&payer)?;
            record.decision.wins.push(win);
        }
        for _ in 0..self.house {
            let ad = self.house_ad()?;
            record.house.push(ad);
        }
        self.r.end()?;
        let out = &mut record.decision;
        (out.nbr, out.answer_currency, out.test) = (follows.nbr, self.i.answer_currency, self.i.test);
        record.inputs = self.i;
        Ok(record)
    }

    fn text(&mut self, length: u8) -> Read<Kept> {
        let n = usize::from(length);
        let (len, cut) = match n {
            0..=RECORD_TEXT_MAX => (n, false),
            CUT_FIRST..=CUT_LAST => (n - CUT, true),
            _ => return Err(RecordError::Value),
        };
        let at = self.i.texts.len() as u32;
        self.i.texts.extend_from_slice(self.r.take(len)?);
        Ok(Kept { at, len: len as u16, cut })
    }

    fn texts<const N: usize>(&mut self, lengths: [u8; N]) -> Read<[Kept; N]> {
        let mut texts = [Kept::default(); N];
        for (text, length) in texts.iter_mut().zip(lengths) {
            *text = self.text(length)?;
        }
        Ok(texts)
    }

    fn floor(&mut self, amount: Cpm, plain: bool) -> Read<Floor> {
        if plain {
            return Ok(Floor { amount, currency: self.i.accounting, due: Some(amount) });
        }
        let currency = self.r.currency()?;
        let due = match self.r.u40()? {
            U40_MAX => None,
            n if n <= Cpm::MAX.0 as u64 => Some(Cpm(n as i64)),
            _ => return Err(RecordError::Value),
        };
        Ok(Floor { amount, currency, due })
    }

    fn imp(&mut self) -> Read<ImpIn> {
        let [private, refused, plain, has_media_floor, one, no_deals] = self.r.flags()?;
        let lengths: [u8; 2] = self.r.array()?;
        let amount = self.r.cpm()?;
        let floor = self.floor(amount, plain)?;
        let media_floor = if has_media_floor {
            let (media, amount) = (self.r.media()?, self.r.cpm()?);
            Some((media, self.floor(amount, false)?))
        } else {
            None
        };
        let qty = if one { Multiplier::ONE } else { self.r.qty()? };
        let deals = if no_deals { Default::default() } else { self.r.run()? };
        let [id, tagid] = self.texts(lengths)?;
        Ok(ImpIn { id, tagid, floor, media_floor, qty, private, refused, deals })
    }

    fn deal(&mut self) -> Read<DealIn> {
        let [guar, plain] = self.r.flags()?;
        let (at, length, amount) = (self.r.u32()?, self.r.u8()?, self.r.cpm()?);
        let floor = self.floor(amount, plain)?;
        Ok(DealIn { id: self.text(length)?, floor, at, guar })
    }

    fn not_asked(&mut self) -> Read<NotAsked> {
        let (outcome, length) = (self.r.u8()?, self.r.u8()?);
        let with = self.has_probabilities && outcome & WITH_PROBABILITY != 0;
        let outcome = outcome_of(if with { outcome & !WITH_PROBABILITY } else { outcome })?;
        let asked_probability = self.probability(with)?;
        Ok(NotAsked { name: self.text(length)?, outcome, asked_probability })
    }

    fn probability(&mut self, with: bool) -> Read<Probability> {
        if !with {
            return Ok(Probability::ALWAYS);
        }
        Probability::of(self.r.u16()?).filter(|p| !p.is_always()).ok_or(RecordError::Value)
    }

    fn house_ad(&mut self) -> Read<HouseAd> {
        let (imp, price, length) = (self.r.u8()?, self.r.cpm()?, self.r.u8()?);
        if usize::from(imp) >= self.i.imps.len() || usize::from(length) > HOUSE_CRID_MAX {
            return Err(RecordError::Value);
        }
        Ok(HouseAd { ad: 0, imp, price, crid: self.text(length)? })
    }

    fn leg(&mut self) -> Read<Leg> {
        let [closed_by_decision, all, no_rate, has_nbr, few, with_probability] = self.r.flags()?;
        if with_probability && !self.has_probabilities {
            return Err(RecordError::Value);
        }
        let outcome = match self.r.u8()? {
            NO_OUTCOME => None,
            n => Some(outcome_of(n)?),
        };
        let (length, seen) = (self.r.u8()?, self.r.u8()?);
        let (r, at) = (&mut self.r, self.i.arrival_ns);
        let times = [time(at, r.u40()?), time(at, r.u40()?), time(at, r.u40()?), time(at, r.u40()?)];
        let [queued_ns, sent_ns, first_byte_ns, done_ns] = times;
        let imps = if all { all_of(self.i.imps.len()) } else { r.u64()? };
        let (currency, rate) = if no_rate { (self.i.accounting, Rate::ONE) } else { (r.currency()?, r.rate()?) };
        let nbr = if has_nbr { Some(r.u32()?) } else { None };
        let [bids_seen, bids_unusable, bids_dropped] =
            if few { [u32::from(seen), 0, 0] } else { [r.u32()?, r.u32()?, r.u32()?] };
        let key = if usize::from(length) > RECORD_TEXT_MAX { Some(r.u64()?) } else { None };
        let asked_probability = self.probability(with_probability)?;
        let name = self.text(length)?;
        let dsp_key = key.unwrap_or_else(|| funds::dsp_key(self.i.text(name)));
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
            nbr,
            bids_seen,
            bids_unusable,
            bids_dropped,
            asked_probability,
        })
    }

    fn bid(&mut self) -> Read<(BidIn, Loss)> {
        let r = &mut self.r;
        let [group, in_auction, open] = r.flags()?;
        let (leg, index, imp, seatbid) = (r.u8()?, r.u16()?, r.u8()?, r.u16()?);
        let (price, media, content) = (r.cpm()?, r.media()?, r.u64()?);
        let loss = Loss::of(r.u16()?).ok_or(RecordError::Value)?;
        let lengths: [u8; 5] = r.array()?;
        let deal = if open { NO_DEAL } else { r.u16()? };
        let [seat, id, cid, crid, adomain] = self.texts(lengths)?;
        // Clearing indexes by these; a record from anywhere must not make it panic.
        let offered = usize::from(imp) < self.i.imps.len();
        let its = self.i.legs.get(usize::from(leg)).ok_or(RecordError::Value)?;
        if !offered && (in_auction || imp != NO_IMP) || !in_auction && loss == Loss::Won {
            return Err(RecordError::Value);
        }
        // As when it was heard; what it is does not matter, only whose is the same.
        let seat_key = funds::seat_key(its.dsp_key, self.i.text(seat));
        let verdict = if in_auction { Loss::Won } else { loss };
        let bid = BidIn {
            leg,
            index,
            imp,
            seatbid,
            group,
            price,
            deal,
            media,
            seat_key,
            content,
            verdict,
            seat,
            id,
            cid,
            crid,
            adomain,
        };
        Ok((bid, loss))
    }

    fn win(&mut self, payer: impl Fn(&mut Reader<'_>) -> Read<(AccountId, Period)>) -> Read<Win> {
        let r = &mut self.r;
        let [deal, group, budgeted] = r.flags()?;
        let input = r.u16()?;
        let bid = self.i.bids.get(usize::from(input)).filter(|b| b.imp != NO_IMP).ok_or(RecordError::Value)?;
        let win = Win {
            imp: bid.imp,
            leg: bid.leg,
            bid: bid.index,
            input,
            price: r.cpm()?,
            bid_price: r.cpm()?,
            clearing: r.cpm()?,
            min_to_win: r.cpm()?,
            reserved: r.money()?,
            charge: r.money()?,
            account: AccountId::NONE,
            period: Period::default(),
            deal,
            group,
        };
        let (account, period) = if budgeted { payer(r)? } else { (win.account, win.period) };
        Ok(Win { account, period, ..win })
    }
}

fn outcome_of(place: u8) -> Read<Outcome> {
    Outcome::ALL.get(usize::from(place)).copied().ok_or(RecordError::Value)
}

/// The answers of the funds as [`put_yes`] wrote them; what is no yes is `no`.
pub(super) fn yes_or(no: Answer, r: &mut Reader<'_>, funds: usize, out: &mut Vec<Answer>) -> Read<()> {
    let answers = r.take(funds.div_ceil(8))?;
    out.extend((0..funds).map(|at| if answers[at / 8] >> (at % 8) & 1 == 1 { Answer::Yes } else { no }));
    Ok(())
}

/// What [`since`] was made of.
pub(super) fn time(arrival_ns: u64, span: u64) -> u64 {
    if span == 0 { 0 } else { arrival_ns.saturating_add(span - 1) }
}
