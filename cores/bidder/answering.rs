//! An auction from its decision to its delivery: decide, record, answer; and the answers that need no auction.
//! Owns: nothing, it is the bidder's. Runs on: each bidder core. Called by: the bidder.
//! Never: sends; answers go out at the end of the turn.
use super::{
    Bidder,
    egress::Egress,
    fetching::Fetch,
    flight::{Flight, Heard, LegAnswers},
    ingress::{self, Answered, ClientKey},
    reading::{Refused, Refusee},
    recording::{Followup, Recorder},
    refusing::Seen,
    slab::Key,
    snapshot::Snapshot,
    spending::Spending,
    transport::Transport,
};
use outcry::{
    auction::{Delivery, OurNotices, Tally},
    config::{Exchange, NoBidStyle, Wrapping},
    dsp::{breaker::Admission, health::has_shape},
    http1::{self, ResponseExtra},
    notice::target::Uncarried,
    openrtb::codes::{Loss, Outcome},
    record::{
        labels::{AnswerKind, Counter, Delivered, Refusal, Stage},
        metrics::CoreMetrics,
    },
    units::Now,
};

/// An answered auction's points in time, nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    kind: AnswerKind,
    arrival_ns: u64,
    /// Its requests to DSPs were out; 0: it asked nobody.
    asked_ns: u64,
    /// The last that it waited for was there.
    decided_ns: u64,
}

/// An auction that was decided and recorded, and has to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    /// Something won, or is answered in its place.
    pub(super) bid: bool,
    followup: Followup,
    /// What of the record has to be on disk before the answer leaves.
    durable_at: Option<u64>,
}

/// Who was asked to see whether it is back, or in spite of its trouble, and has not answered is not waited for.
fn leave_unawaited<T: Transport>(
    flight: &mut Flight,
    egress: &mut Egress,
    metrics: &mut CoreMetrics,
    now_ns: u64,
    t: &mut T,
) {
    for leg in 0..flight.legs().len() as u8 {
        let Some(leg) = flight.leg(leg).filter(|leg| leg.heard == Heard::Waiting) else { continue };
        if let Some(call) = leg.call.take() {
            leg.sent_ns = egress.leave(call, leg.fair_until_ns, now_ns, metrics, t).unwrap_or(0);
        }
        leg.close(Heard::Failed(Outcome::Unawaited), now_ns);
    }
}

impl Bidder {
    /// Every DSP has answered or is late: decide, record, answer.
    pub(super) fn finish<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let Some(decided) = self.decide(key, now, t) else { return };
        if !self.fetch(key, decided, now, t) {
            self.answer(key, decided, &[], now, t);
        }
    }

    fn decide<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) -> Option<Decided> {
        let Bidder { flights, snapshots, egress, metrics, recorder, auction, views, arena, spending, .. } = self;
        let Bidder { worths, current, .. } = self;
        let flight = flights.get(key)?;
        leave_unawaited(flight, egress, metrics, now.boot_ns, t);
        let snapshot = snapshots[flight.snapshot].as_ref()?;
        let (sampled, began_ns) = (flight.sampled, flight.begun.boot_ns);
        let t0 = if sampled { t.precise_ns() } else { 0 };
        let promised = flight.promised;
        flight.hear(snapshot, auction, views, |leg, outcome, elapsed_ns| {
            metrics.dsp_outcome(snapshot.core.slot(leg.dsp), outcome, elapsed_ns);
            let readable = outcome != Outcome::NotJson;
            // What has not even the shape was a failure as it came.
            if leg.heard == Heard::Answer(200) && (readable || has_shape(leg.body())) {
                egress.was_read(snapshot.lanes[usize::from(leg.dsp.0)], readable, leg.as_what, now.boot_ns);
            }
        });
        let heard_ns = if sampled { t.precise_ns() } else { 0 };
        let (start, legs) = (flight.start(snapshot), flight.legs());
        let awaits_notice = start.awaited_s != 0;
        auction.decide(&mut spending.paying(start.event.seq, awaits_notice, now), arena, now.boot_ns);
        arena.reset();
        if worths.learns() && flight.snapshot == *current {
            // Who was asked to see whether it is back is not asked for what it is worth.
            let asked = |leg: u8| {
                let leg = legs.get(usize::from(leg)).filter(|leg| leg.as_what != Admission::Probe)?;
                Some(usize::from(leg.dsp.0))
            };
            worths.learn_auction(flight.kind(), auction, asked);
        }
        let decision = auction.decision();
        let mut any = false;
        for (at, (leg, of)) in legs.iter().zip(&auction.inputs().legs).enumerate() {
            let bid = of.outcome == Some(Outcome::Bid);
            any |= bid;
            let took_ns = match leg.heard {
                Heard::Answer(200 | 204) => Some(leg.done_ns.saturating_sub(leg.asked_ns)),
                Heard::Failed(Outcome::Unawaited) => continue,
                _ => None,
            };
            let won = bid && decision.wins.iter().any(|win| usize::from(win.leg) == at);
            egress.told(snapshot.lanes[usize::from(leg.dsp.0)], took_ns, bid, won, now.boot_ns);
        }
        if flight.is_wanted {
            egress.auction(any);
        }
        for win in &decision.wins {
            let dsp = legs[win.leg as usize].dsp;
            metrics.dsp_won(snapshot.core.slot(dsp), 1, win.charge.0);
        }
        let bid = !decision.wins.is_empty();
        if let Some(nbr) = decision.nbr.filter(|_| !bid) {
            metrics.refusal(Refusal::of_nbr(nbr));
        }
        for loss in &decision.losses {
            metrics.loss(*loss);
        }
        metrics.losses(Loss::TooMany, auction.inputs().bids_dropped());
        let house = auction.fall_back(&start, egress.is_alert());
        if house {
            metrics.count(Counter::HouseAnswers);
        }
        if sampled {
            let mut stages = flight.stages;
            let decided_ns = t.precise_ns();
            for (stage, ns) in [
                (Stage::Wait, now.boot_ns.saturating_sub(began_ns)),
                (Stage::Collect, heard_ns.saturating_sub(t0)),
                (Stage::Decide, decided_ns.saturating_sub(heard_ns)),
            ] {
                metrics.stage(stage, ns);
                stages.set(stage, ns);
            }
            auction.staged(stages);
        }
        // The record leaves before the answer does.
        let (bytes, followup) = recorder.auction(auction, promised, now.unix_ms());
        let durable_at = recorder.durable_at();
        metrics.count(Counter::Records);
        metrics.add(Counter::RecordBytes, bytes as u64);
        Some(Decided { bid: bid || house, followup, durable_at })
    }

    /// Answers an auction that was decided, with the markup that was fetched for it.
    pub(super) fn answer<T: Transport>(&mut self, key: Key, decided: Decided, fetched: &[Fetch], now: Now, t: &mut T) {
        let Bidder { flights, snapshots, buffers, metrics, ingress, deflate, recorder, scratch, .. } = self;
        let Bidder { auction, views, copies, spending, noticing, telling, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let Some(snapshot) = snapshots[flight.snapshot].as_mut() else { return };
        let t0 = if flight.sampled { t.precise_ns() } else { 0 };
        let (place, accept_gzip, sampled, client) = (flight.place, flight.accept_gzip, flight.sampled, flight.client);
        let (arrival_ns, asked_ns, expires_ns) = (flight.arrival_ns, flight.asked_ns, flight.expires_ns);
        let Decided { bid, followup, durable_at } = decided;
        let start = flight.start(snapshot);
        let answers = LegAnswers { legs: flight.legs(), views, fetched };
        let mut tally = Tally::default();
        let mut ours = our_notices(snapshot, start.exchange, (&mut noticing.made, &mut tally));
        if snapshot.config().raw.chooses(start.entropy) {
            let empty = !bid && start.exchange.no_bid == NoBidStyle::Status204;
            scratch.clear();
            if !empty {
                auction.write_answer(&answers, &start, ours.as_mut(), scratch);
                // It is written once more, for the client.
                if let Some(ours) = &mut ours {
                    *ours.tally = Tally::default();
                }
            }
            copies.keep(flight, snapshot, views, (if empty { 204 } else { 200 }, scratch), metrics);
        }

        if snapshot.core.notices.is_some() {
            let (disclosed, dsps) = (snapshot.config().notices.losses, &snapshot.config().dsps);
            auction.losses((&answers, &start), dsps, disclosed, &mut noticing.lost, |url| match url {
                Some(url) => telling.lose(url, buffers, metrics),
                None => metrics.count(Counter::LossNoticesUncarried),
            });
        }
        let out = client.and_then(|c| Some((c, ingress.answer_buffer(c, place, buffers)?)));
        let answered = match out {
            None => false,
            Some((client, mut out)) => {
                let close = ingress.closes_after(client, place);
                let before = out.len();
                let style = start.exchange.no_bid;
                if !bid && style == NoBidStyle::Status204 {
                    let extra = ResponseExtra { content_type: None, gzip: false, close, allow: None };
                    http1::write_response(&mut out, 204, extra, b"");
                } else {
                    let mut extra =
                        ResponseExtra { content_type: Some("application/json"), gzip: false, close, allow: None };
                    let mut write = |out: &mut Vec<u8>| auction.write_answer(&answers, &start, ours.as_mut(), out);
                    if accept_gzip {
                        scratch.clear();
                        write(scratch);
                        extra.gzip = scratch.len() >= snapshot.config().http.gzip_min_bytes;
                        let slot = http1::begin_response(&mut out, 200, extra);
                        if extra.gzip {
                            deflate.gzip(scratch, &mut out);
                        } else {
                            out.extend_from_slice(scratch);
                        }
                        http1::finish_response(&mut out, slot);
                    } else {
                        let slot = http1::begin_response(&mut out, 200, extra);
                        write(&mut out);
                        http1::finish_response(&mut out, slot);
                    }
                }
                metrics.add(Counter::ClientBytesOut, (out.len() - before) as u64);
                count(&tally, metrics);
                if let Some(record) = durable_at {
                    ingress.wait_for(client, record);
                }
                ingress.answered(client, place, out, Answered { followup: Some(followup), expires_ns }, buffers);
                true
            }
        };
        if !answered {
            deliver(followup, Delivery::ClientLeft, (recorder, spending), metrics, now);
        } else {
            let kind = if bid { AnswerKind::Bid } else { AnswerKind::NoBid };
            self.answered.push(Timed { kind, arrival_ns, asked_ns, decided_ns: now.boot_ns });
        }
        if sampled {
            metrics.stage(Stage::Answer, t.precise_ns().saturating_sub(t0));
        }
        snapshot.uses -= 1;
        flight.end(buffers);
        flights.free(key);
    }

    /// A request that broke a rule: 400 with a reason that names the field.
    pub(super) fn refuse_flight(&mut self, key: Key, refusal: &outcry::openrtb::validate::Refusal, now: Now) {
        let Bidder { flights, snapshots, buffers, metrics, ingress, refusing, recorder, scratch, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let why = Refusal::of_rule(&refusal.rule);
        metrics.refusal(why);
        refusing.count(Some(flight.exchange), why, now, recorder, |say| {
            let (bytes, body_at) = flight.bytes();
            scratch.clear();
            refusal.write_field(scratch);
            let field = std::str::from_utf8(scratch).unwrap_or_default();
            let body = &bytes[body_at..];
            say(Seen { status: 400, field, at: refusal.at, target: &[], head_bytes: body_at, body });
        });
        let (client, place, arrival_ns) = (flight.client, flight.place, flight.arrival_ns);
        if let Some(snapshot) = snapshots[flight.snapshot].as_mut() {
            snapshot.uses -= 1;
        }
        flight.end(buffers);
        flights.free(key);
        let Some(client) = client else { return };
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = ingress.closes_after(client, place);
        let extra = ResponseExtra { content_type: Some("application/json"), gzip: false, close, allow: None };
        let slot = http1::begin_response(&mut out, 400, extra);
        refusal.write_reason(&mut out);
        http1::finish_response(&mut out, slot);
        ingress.answered(client, place, out, Answered::default(), buffers);
        let latency_ns = now.boot_ns.saturating_sub(arrival_ns);
        metrics.answer(AnswerKind::BadRequest, latency_ns, latency_ns);
    }

    /// The black box has no room for what this auction could leave, so it does not begin.
    pub(super) fn shed_unrecorded(&mut self, key: Key, now: Now) {
        self.metrics.count(Counter::ShedNoRecord);
        self.metrics.refusal(Refusal::NoRecord);
        let Bidder { flights, snapshots, buffers, refusing, recorder, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        // Where there is no room for a record there is none for a sample.
        refusing.count(Some(flight.exchange), Refusal::NoRecord, now, recorder, |_| ());
        let (client, place, arrival_ns) = (flight.client, flight.place, flight.arrival_ns);
        if let Some(snapshot) = snapshots[flight.snapshot].as_mut() {
            snapshot.uses -= 1;
        }
        flight.end(buffers);
        flights.free(key);
        if let Some(client) = client {
            self.answer_empty(client, place, arrival_ns, now);
        }
    }

    /// An answer that the connection gives without an auction.
    pub(super) fn refuse(&mut self, client: ClientKey, place: u64, refused: &Refused, refusee: Refusee<'_>, now: Now) {
        let Bidder { ingress, buffers, metrics, refusing, recorder, .. } = self;
        let Refusee { exchange, target, head_bytes, body } = refusee;
        refusing.count(exchange, refused.why, now, recorder, |say| {
            say(Seen { status: refused.status, field: refused.reason, at: 0, target, head_bytes, body });
        });
        metrics.answer(AnswerKind::of_error(refused.status), 0, 0);
        metrics.refusal(refused.why);
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = refused.close || ingress.closes_after(client, place);
        let allow = if refused.reason == "get_or_post" { "GET, POST" } else { "POST" };
        ingress::write_refusal(&mut out, refused, close, (refused.status == 405).then_some(allow));
        ingress.answered(client, place, out, Answered::default(), buffers);
    }

    /// A quick, honest no.
    pub(super) fn answer_empty(&mut self, client: ClientKey, place: u64, arrival_ns: u64, now: Now) {
        let Bidder { ingress, buffers, metrics, .. } = self;
        let Some(mut out) = ingress.answer_buffer(client, place, buffers) else { return };
        let close = ingress.closes_after(client, place);
        http1::write_response(
            &mut out,
            204,
            ResponseExtra { content_type: None, gzip: false, close, allow: None },
            b"",
        );
        ingress.answered(client, place, out, Answered::default(), buffers);
        let latency_ns = now.boot_ns.saturating_sub(arrival_ns);
        metrics.answer(AnswerKind::NoBid, latency_ns, latency_ns);
    }

    /// What became of answers leaves as a record of its own, when it is known.
    pub(super) fn deliveries(&mut self, now: Now) {
        let Bidder { ingress, recorder, spending, metrics, .. } = self;
        while let Some((followup, delivery)) = ingress.take_delivered() {
            deliver(followup, delivery, (recorder, spending), metrics, now);
        }
    }

    /// Times of auctions are counted to the end of the turn, and what lies between its two turns is waiting.
    pub(super) fn times<T: Transport>(&mut self, now: Now, t: &mut T) {
        if self.asked.is_empty() && self.answered.is_empty() {
            return;
        }
        let Bidder { asked, answered, flights, metrics, .. } = self;
        let end_ns = t.precise_ns();
        for key in asked.drain(..) {
            if let Some(flight) = flights.get(key) {
                flight.asked_ns = end_ns;
                if flight.sampled {
                    flight.staged(Stage::Send, end_ns.saturating_sub(now.boot_ns), metrics);
                }
            }
        }
        for a in answered.drain(..) {
            let latency_ns = end_ns.saturating_sub(a.arrival_ns);
            let waited_ns = if a.asked_ns == 0 { 0 } else { a.decided_ns.saturating_sub(a.asked_ns) };
            metrics.answer(a.kind, latency_ns, latency_ns.saturating_sub(waited_ns));
        }
    }
}

/// What the answer's notice URLs are made of, if they are ours.
fn our_notices<'a>(
    snapshot: &'a Snapshot,
    exchange: &Exchange,
    (scratch, tally): (&'a mut [Vec<u8>; 2], &'a mut Tally),
) -> Option<OurNotices<'a>> {
    if exchange.notices == Wrapping::Pass {
        return None;
    }
    let (config, notices) = (snapshot.config(), snapshot.core.notices.as_ref()?);
    let url = config.notices.url.as_deref()?;
    let only = exchange.notices == Wrapping::WrapOrRefuse;
    let life_s = config.notices.life_s;
    Some(OurNotices { url, keys: &notices.keys, only, life_s, dsps: &config.dsps, scratch, tally })
}

fn count(tally: &Tally, metrics: &mut CoreMetrics) {
    if *tally == Tally::default() {
        return;
    }
    metrics.add(Counter::NoticeUrlsCarried, tally.carried);
    for why in Uncarried::ALL {
        let counter = match why {
            Uncarried::Markup => Counter::NoticeUrlsMarkup,
            Uncarried::TooLong => Counter::NoticeUrlsTooLong,
            Uncarried::NotHttp => Counter::NoticeUrlsNotHttp,
            Uncarried::Host => Counter::NoticeUrlsHost,
            Uncarried::Character => Counter::NoticeUrlsCharacter,
        };
        metrics.add(counter, tally.uncarried[why as usize]);
    }
}

fn deliver(
    of: Followup,
    delivery: Delivery,
    (recorder, spending): (&mut Recorder, &mut Spending),
    metrics: &mut CoreMetrics,
    now: Now,
) {
    // "Written in time" is what an auction's record is taken for when nothing else is said.
    if matches!(delivery, Delivery::Written { .. }) {
        recorder.written(of);
        spending.delivered(of.event.seq);
    } else {
        let freed = spending.not_delivered(of.event.seq, now);
        let bytes = recorder.delivered(of, delivery, freed, now.unix_ms());
        metrics.count(Counter::Records);
        metrics.add(Counter::RecordBytes, bytes as u64);
    }
    metrics.delivery(match delivery {
        Delivery::Written { .. } => Delivered::Written,
        Delivery::Late { .. } => Delivered::Late,
        Delivery::Failed => Delivered::Failed,
        Delivery::ClientLeft => Delivered::ClientLeft,
    });
}
