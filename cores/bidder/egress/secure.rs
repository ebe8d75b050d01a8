//! TLS on egress' connections: handshakes that begin, go on and fail, records in and out.
//! Owns: nothing, it is egress's. Runs on: each bidder core. Never: sends twice in a turn on one connection; takes more steps of
//! handshakes in a turn than `outcry::dsp::handshakes` allows.
use super::{
    Buffers, Conn, CoreMetrics, Counter, Done, Egress, Key, NO_ROW, Next, Outcome, Phase, Sock, Transport,
    tls::{Failure, Session, Step},
};
use outcry::units::MS;

/// Connection made, handshake not over: the DSP is given up.
const HANDSHAKE_NS: u64 = 2_000 * MS;
/// After a handshake that failed, warm connections are tried again: what is wrong with a certificate is wrong for longer than
/// a second, and each try costs as much as ten auctions.
const RETRY_NS: u64 = 1_000 * MS;

/// Room for the record of a farewell.
const RECORD_BYTES: usize = 64;

fn counter(failure: Failure) -> Counter {
    match failure {
        Failure::Certificate => Counter::TlsFailedCertificate,
        Failure::Protocol => Counter::TlsFailedProtocol,
    }
}

/// Sends a request. What cannot be encrypted is not sent: the answer does not come.
pub(super) fn send<T: Transport>(session: &mut Session, key: Key, bytes: Vec<u8>, requests: &mut Buffers, t: &mut T) {
    let mut wire = requests.get(bytes.len() + 128);
    let sealed = session.seal(&bytes, &mut wire);
    requests.put(bytes);
    match sealed {
        Ok(()) => t.send(Sock::Dsp(key.ix), wire),
        Err(_) => {
            requests.put(wire);
            t.close(Sock::Dsp(key.ix));
        }
    }
}

/// Its socket is about to be closed in good order: the other side hears that this was all, if that can be said at once. Who is not
/// told takes the end of the stream for it.
pub(super) fn farewell<T: Transport>(conn: &mut Conn, key: Key, requests: &mut Buffers, t: &mut T) {
    let Some(session) = conn.tls.as_mut().filter(|_| !conn.stuck && !conn.dirty) else { return };
    let mut wire = requests.get(RECORD_BYTES);
    session.farewell(&mut wire);
    match wire.is_empty() {
        true => requests.put(wire),
        false => t.send(Sock::Dsp(key.ix), wire),
    }
}

impl Egress {
    /// What was read last was the last of a connection, whose socket is about to be closed.
    pub fn farewell<T: Transport>(&mut self, ix: u32, t: &mut T) {
        let Egress { conns, requests, .. } = self;
        if let Some((key, conn)) = conns.at(ix).filter(|(_, conn)| conn.phase == Phase::Closing) {
            farewell(conn, key, requests, t);
        }
    }

    /// The core ends: so do all connections that nobody uses.
    pub fn farewells<T: Transport>(&mut self, now_ns: u64, t: &mut T) {
        let Egress { conns, requests, scratch, .. } = self;
        scratch.extend(conns.keys());
        for key in scratch.drain(..) {
            // What became idle in this turn may have said something in it.
            let idle = |conn: &&mut Conn| conn.phase == Phase::Idle && conn.since_ns < now_ns;
            if let Some(conn) = conns.get(key).filter(idle) {
                farewell(conn, key, requests, t);
            }
        }
    }

    /// Has its last handshake failed a moment ago, with nothing open and no other address to try? What is wrong with a certificate
    /// is wrong still, and every try costs as much as ten auctions.
    pub fn is_refused(&self, lane_ix: u16, now_ns: u64) -> bool {
        self.lanes
            .get(usize::from(lane_ix))
            .is_some_and(|lane| now_ns < lane.refused_ns && lane.pool.open() == 0 && !lane.places.has_another(now_ns))
    }

    /// There is a connection to whom TLS is to be spoken with.
    pub(super) fn begin_tls(&mut self, key: Key, now_ns: u64) {
        let Some(conn) = self.conns.get(key) else { return };
        let mut session = Box::new(Session::default());
        session.queued = true;
        (conn.tls, conn.since_ns) = (Some(session), now_ns);
        self.shaking.push_back(key);
        self.next_check_ns = self.next_check_ns.min(now_ns + HANDSHAKE_NS + 1);
    }

    /// Can some handshake go on?
    pub fn is_shaking(&self) -> bool {
        !self.shaking.is_empty()
    }

    /// The end of a turn, when all that is pending has gone out: some handshakes go on.
    pub fn shake<T: Transport>(&mut self, now_ns: u64, metrics: &mut CoreMetrics, t: &mut T) {
        if self.shaking.is_empty() {
            return;
        }
        for _ in 0..self.pace.steps(self.calls.count() > 0, now_ns).min(self.shaking.len()) {
            let Some(key) = self.shaking.pop_front() else { return };
            let Some(conn) = self.conns.get(key).filter(|conn| conn.phase == Phase::Connecting) else { continue };
            if conn.stuck {
                self.shaking.push_back(key);
                continue;
            }
            let lane = &self.lanes[usize::from(conn.lane)];
            let (Some(session), Some(client)) = (&mut conn.tls, &lane.target.tls) else { continue };
            session.queued = false;
            if !lane.waiting.is_empty() && lane.target.row != NO_ROW && !std::mem::replace(&mut session.awaited, true) {
                metrics.count(Counter::AuctionHandshakes);
            }
            let step = session.step(client);
            let out = session.take_out();
            if !out.is_empty() && !matches!(step, Step::Failed(_)) {
                t.send(Sock::Dsp(key.ix), out);
            }
            let ended = session.ended;
            match step {
                Step::Waits | Step::Done { .. } if ended => {
                    self.unmake(key.ix, Counter::TlsFailedClosed, now_ns, metrics);
                    t.close(Sock::Dsp(key.ix));
                }
                Step::Waits => {}
                Step::Done { resumed } => {
                    metrics.count(if resumed { Counter::TlsResumed } else { Counter::TlsFull });
                    metrics.count(Counter::DspOpened);
                    self.lanes[usize::from(conn.lane)].pool.connected();
                    if !self.release(key.ix, now_ns, metrics) {
                        t.close(Sock::Dsp(key.ix));
                    }
                }
                Step::Failed(failure) => {
                    self.unmake(key.ix, counter(failure), now_ns, metrics);
                    t.close(Sock::Dsp(key.ix));
                }
            }
        }
    }

    /// These bytes came on a connection with TLS.
    pub(super) fn on_records(
        &mut self,
        ix: u32,
        read: Result<&[u8], ()>,
        now_ns: u64,
        buffers: &mut Buffers,
        metrics: &mut CoreMetrics,
    ) -> (Next, Option<Done>) {
        let Some((key, conn)) = self.conns.at(ix) else { return (Next::Close, None) };
        let Some(session) = &mut conn.tls else { return (Next::Close, None) };
        let bytes = match read {
            Ok(bytes) if !bytes.is_empty() => bytes,
            // What it said before may tell why.
            _ if conn.phase == Phase::Connecting && session.queued => {
                session.ended = true;
                return (Next::Pause, None);
            }
            // An end that nobody has vouched for: whatever it leaves open is not whole.
            _ if conn.phase == Phase::Connecting => {
                self.unmake(ix, Counter::TlsFailedClosed, now_ns, metrics);
                return (Next::Close, None);
            }
            _ => return self.on_plain(ix, Err(()), now_ns, buffers, metrics),
        };
        match conn.phase {
            Phase::Connecting => {
                if !session.keep(bytes, buffers) {
                    self.unmake(ix, Counter::TlsFailedProtocol, now_ns, metrics);
                    return (Next::Close, None);
                }
                if !std::mem::replace(&mut session.queued, true) {
                    self.shaking.push_back(key);
                }
                return (Next::Read, None);
            }
            Phase::Closing | Phase::Unmade => return (Next::Close, None),
            Phase::Idle | Phase::Busy(_) | Phase::Draining => {}
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let opened = session.open(bytes, &mut plain, &mut self.records, buffers);
        let mut heard = (Next::Read, None);
        // Tickets and the like: nothing was said.
        if !plain.is_empty() {
            heard = self.on_plain(ix, Ok(&plain), now_ns, buffers, metrics);
        }
        self.plain = plain;
        let end = match opened {
            Ok(false) => return heard,
            Ok(true) => Ok(&[][..]),
            Err(failure) => {
                metrics.count(counter(failure));
                Err(())
            }
        };
        if heard.0 == Next::Close {
            return heard;
        }
        let (next, done) = self.on_plain(ix, end, now_ns, buffers, metrics);
        (next, heard.1.or(done))
    }

    /// A handshake failed; its socket is to be closed.
    fn unmake(&mut self, ix: u32, why: Counter, now_ns: u64, metrics: &mut CoreMetrics) {
        let Some((_, conn)) = self.conns.at(ix).filter(|(_, conn)| conn.phase == Phase::Connecting) else { return };
        conn.phase = Phase::Unmade;
        metrics.count(why);
        metrics.count(Counter::DspFailed);
        let lane = &mut self.lanes[usize::from(conn.lane)];
        lane.pool.connect_failed();
        lane.places.out(conn.place, now_ns);
        lane.retry_ns = now_ns + RETRY_NS;
        lane.refused_ns = lane.retry_ns;
        // One was opened for each who waits: the oldest takes the bad news.
        if let Some(waiter) = lane.waiting.pop_front() {
            self.fail(waiter, Outcome::TlsFailed, now_ns);
        }
    }

    /// Handshakes that take too long are over.
    pub(super) fn unmake_late<T: Transport>(&mut self, key: Key, now_ns: u64, metrics: &mut CoreMetrics, t: &mut T) {
        let Some(conn) = self.conns.get(key).filter(|conn| conn.phase == Phase::Connecting && conn.tls.is_some())
        else {
            return;
        };
        let over_ns = conn.since_ns + HANDSHAKE_NS;
        if now_ns > over_ns {
            self.unmake(key.ix, Counter::TlsFailedTimeout, now_ns, metrics);
            t.close(Sock::Dsp(key.ix));
        } else {
            self.next_check_ns = self.next_check_ns.min(over_ns + 1);
        }
    }

    /// The socket is gone.
    pub(super) fn end_tls(&mut self, ix: u32, now_ns: u64, buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        let Some((_, conn)) = self.conns.at(ix) else { return };
        if let Some(session) = conn.tls.take() {
            session.end(buffers);
            self.unmake(ix, Counter::TlsFailedClosed, now_ns, metrics);
        }
    }
}
