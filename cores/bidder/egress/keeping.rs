//! Connections that are there before they are needed: made at the start, behind auctions that took some, and to where a DSP has
//! moved; closed when nobody needed them for long.
//! Owns: nothing, it is egress's. Runs on: each bidder core. Never: part of an auction, but for [`Egress::open`] where one found
//! no connection free.
use super::{Conn, CoreMetrics, Egress, Moved, Phase, Sock, SocketAddr, Transport, secure};
use outcry::units::MS;

/// What an abandoned answer may still take to come in before its connection is closed.
const DRAIN_NS: u64 = 1_000 * MS;
/// Where a connection's timer is looked at again.
const CHECK_NS: u64 = 500 * MS;

impl Egress {
    /// `for_auction`: one found none free.
    pub(super) fn open<T: Transport>(&mut self, lane_ix: u16, for_auction: bool, now_ns: u64, t: &mut T) {
        let lane = &mut self.lanes[lane_ix as usize];
        let Some(((addr, place), key)) = lane.places.take(now_ns).and_then(|to| Some((to, self.conns.take()?))) else {
            lane.pool.connect_failed();
            return;
        };
        let conn = self.conns.get(key).expect("just taken");
        // A slot's buffers went with its last user.
        *conn = Conn { lane: lane_ix, place, for_auction, since_ns: now_ns, ..Conn::default() };
        t.connect(Sock::Dsp(key.ix), addr);
    }

    /// A host has other addresses: connections to them are made before those to the old ones are closed.
    pub fn moved(&mut self, moved: &Moved, now_ns: u64) {
        self.next_check_ns = 0;
        for (at, lane) in self.lanes.iter_mut().enumerate().filter(|(_, lane)| lane.target.host == moved.host) {
            let Some(port) = lane.places.port() else { continue };
            let addrs: Vec<_> = moved.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
            lane.places.moved(&addrs, now_ns);
            let keys = self.conns.keys();
            let left = keys.filter_map(|key| self.conns.peek(key)).filter(|conn| {
                usize::from(conn.lane) == at && conn.phase == Phase::Idle && !lane.places.is_there(&conn.place)
            });
            lane.fresh = left.count();
        }
    }

    /// When all that is pending has gone out: whatever auctions took of the warm ones is made anew, so that the next finds
    /// some too.
    pub fn refill<T: Transport>(&mut self, now_ns: u64, t: &mut T) {
        while let Some(lane_ix) = self.low.pop() {
            let Some(lane) = self.lanes.get_mut(usize::from(lane_ix)) else { continue };
            lane.low = false;
            // Whom nothing can be made to is looked at by the tick.
            let open = if now_ns >= lane.retry_ns { lane.pool.top_up(lane.waiting.len()) } else { 0 };
            for _ in 0..open {
                self.open(lane_ix, false, now_ns, t);
            }
        }
    }

    /// Now and then: opens what is missing, closes what idled or drained too long.
    pub fn tick<T: Transport>(&mut self, now_ns: u64, metrics: &mut CoreMetrics, t: &mut T) {
        if now_ns < self.next_check_ns {
            return;
        }
        self.next_check_ns = now_ns + CHECK_NS;
        for dsp in 0..self.lanes.len() {
            let lane = &mut self.lanes[dsp];
            lane.leaving = 0;
            let waiting = lane.waiting.len();
            let mut open = 0;
            if now_ns >= lane.retry_ns {
                open += lane.pool.top_up(waiting);
                for _ in 0..std::mem::take(&mut lane.fresh) {
                    open += usize::from(lane.pool.open_one());
                }
            } else {
                self.next_check_ns = self.next_check_ns.min(lane.retry_ns);
            }
            // Everybody who waits has a connection on its way or in use; after a loss some may have neither.
            while lane.pool.connecting() < waiting.min(lane.target.connections) {
                if !lane.pool.open_one() {
                    break;
                }
                open += 1;
            }
            for _ in 0..open {
                self.open(dsp as u16, false, now_ns, t);
            }
        }
        let mut keys = std::mem::take(&mut self.scratch);
        keys.extend(self.conns.keys());
        for key in keys.drain(..) {
            self.unmake_late(key, now_ns, metrics, t);
            let Some(conn) = self.conns.get(key) else { continue };
            let lane = &mut self.lanes[conn.lane as usize];
            let age = now_ns.saturating_sub(conn.since_ns);
            if conn.watched_ns > 0 && now_ns > conn.watched_ns {
                let had_ns = std::mem::take(&mut conn.watched_ns).saturating_sub(conn.sent_ns);
                lane.health.late(conn.as_what, had_ns, now_ns);
            }
            let open = lane.pool.open().saturating_sub(lane.leaving);
            let close = match conn.phase {
                Phase::Idle => {
                    !lane.places.holds(&mut conn.place, now_ns)
                        || open > lane.target.connections
                        || (age > lane.target.idle_ns && lane.pool.has_spare())
                }
                Phase::Draining => age > DRAIN_NS,
                Phase::Connecting | Phase::Busy(_) | Phase::Closing | Phase::Unmade => false,
            };
            if close {
                if conn.phase == Phase::Idle {
                    lane.pool.remove_idle(key.ix);
                    lane.leaving += 1;
                }
                conn.phase = Phase::Closing;
                secure::farewell(conn, key, &mut self.requests, t);
                t.close(Sock::Dsp(key.ix));
            }
        }
        self.scratch = keys;
    }
}
