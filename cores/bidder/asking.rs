//! An auction from its request to its last DSP: begin, ask, hear, give up.
//! Owns: nothing, it is the bidder's. Runs on: each bidder core. Called by: the bidder.
//! Never: decides whom to ask, for how long, or what an answer is worth; `outcry` does.
use super::{
    Bidder, SAMPLE,
    egress::{Asked, Done, Egress, Reply},
    fetching,
    flight::{Flight, Heard},
    ingress::{ClientKey, Whole},
    reading::{Refused, Refusee},
    refusing::Seen,
    slab::Key,
    snapshot::Snapshot,
    telling,
    transport::Transport,
};
use outcry::{
    auction::record::{Shape, bound},
    config::resolved::Markup,
    dsp::{
        choice::Choosing,
        deadline::{self, Deadlines},
        health::{Admitted, NotAdmitted},
        worth::members,
    },
    gate::{self, Room, Verdict},
    http1,
    openrtb::{
        codes::Outcome,
        splice::{self, Edits},
    },
    record::{
        labels::{Counter, Refusal, Stage},
        metrics::CoreMetrics,
        stages::StageTimes,
    },
    units::{DspIx, EventId, MS, Now, Probability, mix},
};

/// The path went with a reload.
const NO_SUCH_PATH: Refused = Refused { status: 404, why: Refusal::NoRoute, reason: "no_such_path", close: false };

impl Bidder {
    /// A request is whole.
    pub(super) fn on_request<T: Transport>(&mut self, client: ClientKey, mut whole: Whole, now: Now, t: &mut T) {
        // Between its head and its last byte the configuration may have changed: its path is looked up in the one that the
        // auction will run under.
        let snapshot = self.snapshots[self.current].as_ref().expect("a core has a configuration");
        match snapshot.route(&whole.bytes, whole.head.path) {
            Some(route) => whole.route = route,
            None if snapshot.is_notice(whole.head.path.of(&whole.bytes)) => {}
            None if whole.refused.is_none() => whole.refused = Some(NO_SUCH_PATH),
            None => {}
        }
        if whole.refused.is_none() && snapshot.is_notice(whole.head.path.of(&whole.bytes)) {
            return self.on_notice(client, whole, now);
        }
        if let Some(refused) = whole.refused {
            let exchange = (refused.why != Refusal::NoRoute || refused.status == 405).then_some(whole.route);
            let (head, body) = whole.bytes.split_at(whole.head.len);
            let refusee = Refusee { exchange, target: whole.head.path.of(head), head_bytes: head.len(), body };
            self.refuse(client, whole.place, &refused, refusee, now);
            self.buffers.put(whole.bytes);
            return;
        }
        let current = self.current;
        let room = Room {
            disk_full: self.disk_full,
            auctions: self.flights.count(),
            auctions_max: self.snapshots[current].as_ref().map_or(0, |s| s.config().http.auctions),
        };
        let key = match gate::admit_head(&room) {
            Verdict::Admit => self.flights.take(),
            Verdict::Refuse(_) => None,
        };
        let Some(key) = key else {
            let (shed, refusal) = match room.disk_full {
                true => (Counter::ShedDiskFull, Refusal::DiskFull),
                false => (Counter::ShedNoRoom, Refusal::Overload),
            };
            self.metrics.count(shed);
            self.metrics.refusal(refusal);
            let Bidder { refusing, recorder, .. } = self;
            refusing.count(Some(whole.route), refusal, now, recorder, |say| {
                say(Seen { status: 204, head_bytes: whole.head.len, ..Seen::default() });
            });
            let (place, arrival_ns) = (whole.place, whole.arrival_ns);
            self.buffers.put(whole.bytes);
            // Nothing was read of it, so there is no id to echo: 204 in either style.
            return self.answer_empty(client, place, arrival_ns, now);
        };
        let snapshot = self.snapshots[current].as_mut().expect("a core has a configuration");
        snapshot.uses += 1;
        let Some(flight) = self.flights.get(key) else { return };
        flight.begin(client, whole, current, now);
        self.seq += 1;
        flight.sampled = self.seq.is_multiple_of(SAMPLE);
        flight.event =
            EventId { node: self.identity.node, epoch: self.identity.epoch, core: self.identity.core, seq: self.seq };
        flight.entropy = mix(self.identity.seed ^ mix(self.seq));
        let started_ns = if flight.sampled { t.precise_ns() } else { 0 };
        let read = flight.parse(&self.arena);
        self.arena.reset();
        if let Err(refusal) = read {
            return self.refuse_flight(key, &refusal, now);
        }
        let (config, request) = (snapshot.config(), &flight.request);
        let shape = Shape {
            imps: request.imps.len(),
            deals: request.deals.len(),
            dsps: config.dsps.len(),
            names: snapshot.names,
        };
        let Some(promised) = self.recorder.promise(bound(&shape, config.record.bid_bytes), shape.imps) else {
            return self.shed_unrecorded(key, now);
        };
        flight.promised = promised;
        flight.salt = self.salt;
        let rules = &config.auction;
        let tmax_ms = flight.request.tmax_ms;
        let whole_ms = tmax_ms.filter(|&t| t > 0).unwrap_or(rules.tmax_default_ms).min(rules.tmax_max_ms);
        flight.expires_ns = flight.arrival_ns + u64::from(whole_ms) * MS;
        let parsed_ns = if flight.sampled { t.precise_ns() } else { 0 };
        let after_ms = match config.exchanges[usize::from(flight.exchange.0)].markup {
            Markup::Pass => 0,
            Markup::Fetch => config.notices.markup_ms,
        };
        let plan = deadline::plan(rules, (tmax_ms, after_ms), flight.arrival_ns, now.boot_ns);
        flight.deadlines = plan.ok();
        let start = flight.start(snapshot);
        self.metrics.count(Counter::Auctions);
        let verdict = gate::admit_request(start.request);
        let gated_ns = if flight.sampled { t.precise_ns() } else { 0 };
        if plan.is_err() {
            self.metrics.count(Counter::ShedNoTime);
        }
        if verdict == Verdict::Admit {
            self.fan_out(key, plan.ok(), now, t);
        }
        let Some(flight) = self.flights.get(key) else { return };
        if flight.sampled {
            flight.stages = StageTimes::default();
            for (stage, ns) in [
                (Stage::Receive, flight.begun.boot_ns.saturating_sub(flight.arrival_ns)),
                (Stage::Parse, parsed_ns.saturating_sub(started_ns)),
                (Stage::Gate, gated_ns.saturating_sub(parsed_ns)),
                (Stage::Rewrite, t.precise_ns().saturating_sub(gated_ns)),
            ] {
                flight.staged(stage, ns, &mut self.metrics);
            }
        }
        if !flight.is_waiting() {
            return self.finish(key, now, t);
        }
        self.asked.push(key);
        if let Some(at) = flight.next_deadline() {
            self.deadlines.arm(at, key);
        }
    }

    /// Asks the DSPs that are chosen, all at once; nobody if there is no time for it, which the record says.
    pub(super) fn fan_out<T: Transport>(&mut self, key: Key, deadlines: Option<Deadlines>, now: Now, t: &mut T) {
        let Bidder { flights, snapshots, egress, metrics, worths, quotas, offers, current, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return };
        let config = snapshot.config();
        let entropy = flight.entropy;
        offers.set(&flight.start(snapshot), &snapshot.targets);
        // The auction begins with the current configuration: what is known of its DSPs is in their order.
        debug_assert_eq!(flight.snapshot, *current);
        let spent = quotas.spent(offers.wanted, now.boot_ns);
        let mut choosing = Choosing::new(offers.wanted & !spent, offers.on_deal, config.auction.asked_max, entropy);
        let mut asker = Asker { key, snapshot, egress, metrics, deadlines, now_ns: now.boot_ns };
        while let Some(choice) = choosing.next(worths, || flight.kind()) {
            for at in members(choice.dsps) {
                let chance = choice.probability(at);
                match asker.ask(flight, at, (offers.to(at), chance), t) {
                    Ok(()) => {
                        choosing.asked();
                        quotas.take(at, now.boot_ns);
                    }
                    Err(why) => {
                        let probability = why.probability.and(chance);
                        asker.not_asked(flight, at, NotAdmitted { probability, ..why });
                    }
                }
            }
        }
        let all = snapshot.targets.all();
        for (dsps, why) in [
            (all & !offers.eligible, Outcome::NotEligible.into()),
            (offers.eligible & !offers.wanted, Outcome::NotTargeted.into()),
            (spent, Outcome::Quota.into()),
            (choosing.left(), NotAdmitted { outcome: Outcome::NotChosen, probability: choosing.chance() }),
        ] {
            members(dsps).for_each(|at| asker.not_asked(flight, at, why));
        }
        flight.asked_all();
    }

    /// Writes the requests of calls that waited and have their connections now.
    pub(super) fn write_ready<T: Transport>(&mut self, now: Now, t: &mut T) {
        let now_ns = now.boot_ns;
        while let Some((call, token)) = self.egress.take_ready() {
            let (key, leg) = from_token(token);
            if leg == telling::LEG {
                if !self.write_told(call, key, now_ns) {
                    self.egress.abandon(call, now_ns, &mut self.metrics, t);
                }
                continue;
            }
            if leg >= fetching::LEG {
                if !self.write_fetch(call, (key, leg), now_ns) {
                    self.egress.abandon(call, now_ns, &mut self.metrics, t);
                }
                continue;
            }
            let Bidder { flights, snapshots, egress, metrics, .. } = self;
            let flight = flights.get(key);
            let with = flight.and_then(|flight| snapshots[flight.snapshot].as_ref().map(|snapshot| (flight, snapshot)));
            let Some((flight, snapshot)) = with else {
                egress.abandon(call, now_ns, metrics, t);
                continue;
            };
            if let Err(outcome) = write(call, flight, leg, snapshot, egress, metrics, now_ns) {
                egress.abandon(call, now_ns, metrics, t);
                if let Some(leg) = flight.leg(leg) {
                    leg.close(Heard::Failed(outcome), now_ns);
                }
                if !flight.is_waiting() {
                    self.finish(key, now, t);
                }
            }
        }
    }

    pub(super) fn failed_calls<T: Transport>(&mut self, now: Now, t: &mut T) {
        while let Some(done) = self.egress.take_failed() {
            self.on_done(done, now, t);
        }
    }

    /// A DSP's answer, or the lack of one. `true`: it answers another request than the one it came upon.
    pub(super) fn on_done<T: Transport>(&mut self, done: Done, now: Now, t: &mut T) -> bool {
        let (key, leg) = from_token(done.token);
        if leg == telling::LEG {
            self.on_told(done, key);
            return false;
        }
        if leg >= fetching::LEG {
            self.on_fetched(done, (key, leg), now, t);
            return false;
        }
        let Bidder { flights, buffers, view, .. } = self;
        let Some(flight) = flights.get(key) else {
            if let Reply::Answer { body, .. } = done.reply {
                buffers.put(body);
            }
            return false;
        };
        let mistaken = flight.answered(leg, done, view, now.boot_ns, buffers);
        if mistaken.is_some() && !flight.is_waiting() {
            self.finish(key, now, t);
        }
        mistaken == Some(true)
    }

    /// Whoever has not answered by now is late.
    pub(super) fn on_deadline<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let now_ns = now.boot_ns;
        let Bidder { flights, egress, metrics, deadlines, .. } = self;
        let Some(flight) = flights.get(key) else { return };
        if flight.fetching.is_some() {
            return self.on_fetch_deadline(key, now, t);
        }
        for leg in 0..flight.legs().len() as u8 {
            let Some(l) = flight.leg(leg).filter(|l| l.until_ns <= now_ns) else { continue };
            let Some(call) = l.call.take() else { continue };
            let outcome = match egress.give_up(call, l.fair_until_ns, now_ns, metrics, t) {
                Some(sent_ns) => {
                    l.sent_ns = sent_ns;
                    Outcome::Late
                }
                None => Outcome::PoolExhausted,
            };
            l.close(Heard::Failed(outcome), now_ns);
        }
        if !flight.is_waiting() {
            self.finish(key, now, t);
        } else if let Some(at) = flight.next_deadline() {
            deadlines.arm(at, key);
        }
    }
}

/// Asks for one auction.
struct Asker<'a> {
    key: Key,
    snapshot: &'a Snapshot,
    egress: &'a mut Egress,
    metrics: &'a mut CoreMetrics,
    deadlines: Option<Deadlines>,
    now_ns: u64,
}

impl Asker<'_> {
    /// Asks one DSP for these impressions; it was chosen with this probability. `Err`: why it is not.
    fn ask<T: Transport>(
        &mut self,
        flight: &mut Flight,
        at: usize,
        (imps, chance): (u64, Probability),
        t: &mut T,
    ) -> Result<(), NotAdmitted> {
        let Asker { snapshot, now_ns, .. } = *self;
        let (config, ix) = (snapshot.config(), DspIx(at as u16));
        let until_ns = self.deadlines.map_or(now_ns, |d| d.of_dsp(config.dsps[at].timeout_ms, now_ns));
        if until_ns.saturating_sub(now_ns) < u64::from(config.auction.dsp_min_ms) * MS {
            return Err(Outcome::NoTime.into());
        }
        flight.is_wanted = true;
        let lane = snapshot.lanes[at];
        let left_ns = until_ns.saturating_sub(now_ns);
        let Admitted { as_what, most_ns } = self.egress.admit(lane, left_ns, flight.entropy, now_ns)?;
        let until = (until_ns.min(now_ns.saturating_add(most_ns)), until_ns);
        let leg = flight.ask(ix, imps, as_what, until, now_ns);
        flight.asked_with(leg, chance.and(as_what.probability()));
        self.metrics.dsp_asked(snapshot.core.slot(ix));
        let asked = self.egress.ask(lane, token(self.key, leg), as_what, now_ns, t);
        let outcome = match asked {
            None => Err(Outcome::PoolExhausted),
            Some(Asked::Waits(call)) => Ok(call),
            Some(Asked::Ready(call)) => match write(call, flight, leg, snapshot, self.egress, self.metrics, now_ns) {
                Ok(()) => Ok(call),
                Err(outcome) => {
                    self.egress.abandon(call, now_ns, self.metrics, t);
                    Err(outcome)
                }
            },
        };
        if let Some(leg) = flight.leg(leg) {
            match outcome {
                Ok(call) => leg.call = Some(call),
                Err(outcome) => leg.close(Heard::Failed(outcome), now_ns),
            }
        }
        Ok(())
    }

    fn not_asked(&mut self, flight: &mut Flight, at: usize, why: NotAdmitted) {
        let ix = DspIx(at as u16);
        flight.not_asked(ix, why.outcome, why.probability);
        self.metrics.dsp_outcome(self.snapshot.core.slot(ix), why.outcome, 0);
    }
}

/// Writes the request of a leg whose call has a connection. `Err`: nothing can be asked.
fn write(
    call: Key,
    flight: &Flight,
    leg: u8,
    snapshot: &Snapshot,
    egress: &mut Egress,
    metrics: &mut CoreMetrics,
    now_ns: u64,
) -> Result<(), Outcome> {
    let Some(leg) = flight.legs().get(usize::from(leg)) else { return Err(Outcome::Internal) };
    let (config, ix) = (snapshot.config(), usize::from(leg.dsp.0));
    let (dsp, head, (body, _)) = (&config.dsps[ix], &snapshot.heads[ix], flight.bytes());
    let edits = Edits {
        tmax_ms: Deadlines::tmax_ms(&config.auction, leg.until_ns, now_ns),
        dsp_name: &dsp.name,
        wseat: &dsp.seats,
        cur: &dsp.currencies,
        buyeruid: dsp.buyeruid,
        schain_node: snapshot.schain_node.as_deref(),
        imps: leg.imps(),
    };
    let mut out = egress.request_buffer(head.len() + body.len() + 256);
    let slot = http1::begin_request(&mut out, head);
    if splice::splice(&flight.request, body, &edits, &mut out).is_err() {
        egress.put_back(out);
        return Err(Outcome::Internal);
    }
    http1::finish_request(&mut out, slot);
    metrics.add(Counter::DspBytesOut, out.len() as u64);
    egress.write(call, out, now_ns);
    Ok(())
}

/// A call's token: flight, its generation, leg.
pub(super) fn token(key: Key, leg: u8) -> u64 {
    u64::from(key.ix) << 40 | u64::from(key.generation) << 8 | u64::from(leg)
}

pub(super) fn from_token(token: u64) -> (Key, u8) {
    (Key { ix: (token >> 40) as u32, generation: (token >> 8) as u32 }, token as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_its_key() {
        for (ix, generation, leg) in [(0, 0, 0), (65_535, u32::MAX, 15), (1 << 23, 7, 255)] {
            let key = Key { ix, generation };
            assert_eq!(from_token(token(key, leg)), (key, leg));
        }
    }
}
