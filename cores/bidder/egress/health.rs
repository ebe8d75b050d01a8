//! How calls begin and end as far as their DSP's health goes: admitted, given up, left, failed, judged.
//! Owns: nothing, it is egress's. Runs on: each bidder core. Never: decides; `outcry::dsp::health` does.
use super::{
    Admission, Admitted, Conn, CoreMetrics, Counter, Done, DspLevel, Egress, Gauge, Key, Lane, NO_ROW, NotAdmitted,
    Outcome, Phase, Reply, Sock, Transport, Verdict,
};

impl Egress {
    /// May this DSP be asked for an auction that has `left_ns` for it, and as what? Whoever is told so [asks](Egress::ask).
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&mut self, lane: u16, left_ns: u64, entropy: u64, now_ns: u64) -> Result<Admitted, NotAdmitted> {
        let lane = self.lanes.get_mut(usize::from(lane)).ok_or(Outcome::Internal)?;
        lane.health.admit(left_ns, entropy, now_ns)
    }

    /// What a DSP that was asked said in an auction that is decided: was there a bid, and did it win? `took_ns`: from asking it to
    /// its answer; none: none came.
    pub fn told(&mut self, lane: u16, took_ns: Option<u64>, bid: bool, won: bool, now_ns: u64) {
        if let Some(lane) = self.lanes.get_mut(usize::from(lane)) {
            lane.health.told(took_ns, bid, won, now_ns);
        }
    }

    /// An auction is decided in which some DSP could have bid, and did any?
    pub fn auction(&mut self, bid: bool) {
        self.demand.add(bid);
    }

    /// Bids of all DSPs at once are far below what they usually are.
    pub fn is_alert(&self) -> bool {
        self.demand.is_alert()
    }

    /// The caller does not want the answer any more. Says whether the call ever left, with the time it was sent.
    pub fn abandon<T: Transport>(
        &mut self,
        key: Key,
        now_ns: u64,
        metrics: &mut CoreMetrics,
        t: &mut T,
    ) -> Option<u64> {
        let call = self.calls.get(key)?;
        let (conn, sent_ns, lane_ix) = (call.conn, call.sent_ns, call.lane);
        let (as_what, asked_ns) = (call.as_what, call.asked_ns);
        self.calls.free(key);
        let lane = &mut self.lanes[usize::from(lane_ix)];
        match conn {
            None => {
                lane.waiting.retain(|waiter| *waiter != key);
                // Where no connection can be made, nothing is heard of that for minutes.
                match lane.pool.open() {
                    0 => lane.health.late(as_what, now_ns.saturating_sub(asked_ns), now_ns),
                    _ => lane.health.withdrawn(as_what, now_ns),
                }
                self.shut(lane_ix, now_ns);
                None
            }
            // Nothing was written to it: it is as good as it was.
            Some(ix) if sent_ns == 0 => {
                lane.health.withdrawn(as_what, now_ns);
                if !self.release(ix, now_ns, metrics) {
                    t.close(Sock::Dsp(ix));
                }
                None
            }
            Some(ix) => {
                lane.health.late(as_what, now_ns.saturating_sub(sent_ns), now_ns);
                self.drain(ix, as_what, now_ns, metrics);
                self.shut(lane_ix, now_ns);
                Some(sent_ns)
            }
        }
    }

    /// An answer does not count any more. One that comes until `until_ns` is to its sender's credit all the same: that it had less
    /// time is what we have learned, and no fault of its own. When the call was sent; none: it never left.
    pub fn give_up<T: Transport>(
        &mut self,
        key: Key,
        until_ns: u64,
        now_ns: u64,
        metrics: &mut CoreMetrics,
        t: &mut T,
    ) -> Option<u64> {
        let is_out = self.calls.peek(key).is_some_and(|call| call.conn.is_some() && call.sent_ns > 0);
        match is_out && until_ns > now_ns {
            true => self.leave(key, until_ns, now_ns, metrics, t),
            false => self.abandon(key, now_ns, metrics, t),
        }
    }

    /// The auction of who is not waited for is over. Whoever was sent it may answer until `until_ns`: nobody reads that, but it counts.
    /// When it was sent; none: it never left.
    pub fn leave<T: Transport>(
        &mut self,
        key: Key,
        until_ns: u64,
        now_ns: u64,
        metrics: &mut CoreMetrics,
        t: &mut T,
    ) -> Option<u64> {
        let call = self.calls.get(key)?;
        let (sent_ns, lane, as_what) = (call.sent_ns, call.lane, call.as_what);
        match call.conn {
            Some(ix) if sent_ns > 0 => {
                self.calls.free(key);
                let until_ns = until_ns.max(now_ns);
                self.drain(ix, as_what, now_ns, metrics)?.watched_ns = until_ns;
                self.next_check_ns = self.next_check_ns.min(until_ns + 1);
                Some(sent_ns)
            }
            Some(_) => self.abandon(key, now_ns, metrics, t),
            None => {
                self.calls.free(key);
                let lane = &mut self.lanes[usize::from(lane)];
                lane.waiting.retain(|waiter| *waiter != key);
                lane.health.withdrawn(as_what, now_ns);
                None
            }
        }
    }

    /// What still comes on a connection is for nobody.
    fn drain(&mut self, ix: u32, as_what: Admission, now_ns: u64, metrics: &mut CoreMetrics) -> Option<&mut Conn> {
        metrics.count(Counter::DspDrained);
        let (_, conn) = self.conns.at(ix)?;
        (conn.phase, conn.since_ns, conn.as_what) = (Phase::Draining, now_ns, as_what);
        Some(conn)
    }

    /// An answer that had come whole was read with the others of its auction, or could not be.
    pub fn was_read(&mut self, lane: u16, readable: bool, as_what: Admission, now_ns: u64) {
        if let Some(of) = self.lanes.get_mut(usize::from(lane)) {
            of.health.read(readable, as_what, now_ns);
            if !readable {
                self.shut(lane, now_ns);
            }
        }
    }

    /// Once a second: is demand what it usually is; and what has changed of DSPs' health since the last time.
    pub fn report_health(&mut self, now_ns: u64, metrics: &mut CoreMetrics) {
        let before = self.demand.alerts();
        // Lanes of those that a reload took away have no connections.
        let is_dsp = |lane: &&mut Lane| lane.target.row != NO_ROW && lane.target.connections > 0;
        let dsps = self.lanes.iter_mut().filter(is_dsp);
        let ours = self.demand.turn(dsps.map(|lane| {
            let is_out = lane.health.is_out();
            (&mut lane.health.bids, is_out)
        }));
        metrics.add(Counter::DemandAlerts, self.demand.alerts() - before);
        metrics.gauge(Gauge::DemandAlert, u64::from(self.demand.is_alert()));
        for lane in self.lanes.iter_mut().filter(|lane| lane.target.row != NO_ROW) {
            if ours {
                lane.health.hasten(now_ns);
            }
            let (opened, before, now) = lane.health.take_report();
            if opened > 0 {
                metrics.breaker(lane.target.row, opened);
            }
            if before == now {
                continue;
            }
            for (level, before, now) in [
                (DspLevel::Open, before.open.into(), now.open.into()),
                (DspLevel::HalfOpen, before.half_open.into(), now.half_open.into()),
                (DspLevel::Withheld, i64::from(before.withheld), i64::from(now.withheld)),
                (DspLevel::Cut, before.cut_ns as i64, now.cut_ns as i64),
            ] {
                metrics.dsp_level(lane.target.row, level, now - before);
            }
        }
    }

    /// No answer will come.
    pub(super) fn fail(&mut self, key: Key, outcome: Outcome, now_ns: u64) {
        let Some(call) = self.calls.get(key) else { return };
        let (lane, as_what) = (call.lane, call.as_what);
        let done = self.end_call(key, Reply::Failed(outcome), 0);
        self.failed.extend(done);
        let of = &mut self.lanes[usize::from(lane)];
        match outcome {
            // While others of its connections stand: more at once than its listener takes.
            Outcome::ConnectRefused if of.pool.open() > 0 => of.health.withdrawn(as_what, now_ns),
            _ => of.health.failed(as_what, now_ns),
        }
        self.shut(lane, now_ns);
    }

    /// What came on a connection, to this call or to one that nobody waits for; none: no whole answer will.
    pub(super) fn judge(&mut self, ix: u32, call: Option<Key>, verdict: Option<Verdict>, now_ns: u64) {
        let Some((_, conn)) = self.conns.at(ix) else { return };
        let (lane, watched_ns) = (conn.lane, std::mem::take(&mut conn.watched_ns));
        let took_ns = now_ns.saturating_sub(conn.sent_ns);
        let was = conn.as_what;
        let as_what = match call {
            Some(key) => self.calls.peek(key).map(|call| call.as_what),
            None => Some(was).filter(|_| watched_ns > 0),
        };
        let health = &mut self.lanes[usize::from(lane)].health;
        match (as_what, verdict) {
            (Some(as_what), Some(_)) if call.is_none() && now_ns > watched_ns => {
                health.late(as_what, took_ns, now_ns);
                health.drained(as_what, took_ns, now_ns);
            }
            (Some(as_what), Some(verdict)) => health.answered(verdict, as_what, took_ns, now_ns),
            (Some(as_what), None) => health.failed(as_what, now_ns),
            (None, Some(_)) => health.drained(was, took_ns, now_ns),
            (None, None) => {}
        }
        self.shut(lane, now_ns);
    }

    /// Whoever waits for a connection to a DSP that is not asked any more is told so.
    pub(super) fn shut(&mut self, lane_ix: u16, now_ns: u64) {
        let Egress { lanes, calls, failed, .. } = self;
        let lane = &mut lanes[usize::from(lane_ix)];
        if !lane.health.is_open() {
            return;
        }
        while let Some(key) = lane.waiting.pop_front() {
            let Some(call) = calls.get(key) else { continue };
            lane.health.withdrawn(call.as_what, now_ns);
            let (token, reply) = (call.token, Reply::Failed(Outcome::BreakerOpen));
            failed.push(Done { token, reply, status: 0, sent_ns: 0, first_byte_ns: call.first_byte_ns });
            calls.free(key);
        }
    }
}
