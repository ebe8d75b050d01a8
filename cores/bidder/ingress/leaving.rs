//! When clients' connections end otherwise than by what they say: who is idle, slow, or in the way of others.
//! Owns: nothing, it is the ingress's. Runs on: each bidder core. Called by: the bidder, and the ingress itself.
use super::{Client, Ingress, Key, Phase, Sock, Transport};
use outcry::{
    limits::CLIENTS_LEAVING_MAX,
    record::{labels::Counter, metrics::CoreMetrics},
    units::MS,
};

/// What a closing connection may still take to see our answer before its socket goes.
const LINGER_NS: u64 = 1_000 * MS;
/// A draining core closes connections that were silent for so long.
const LAST_CALL_NS: u64 = 50 * MS;
/// Who was silent for so long gives way to a newcomer when the table is full. Connections under load carry a request every
/// second or more often; and whoever opens connections faster than this turns the table over shuts out others, not those
/// who are served.
const GIVES_WAY_NS: u64 = 5_000 * MS;
/// Connections that are looked at for one that gives way.
const LOOKS: usize = 64;

impl Client {
    /// It asked for nothing that it has not got, and has not begun to ask.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Open
            && self.taken == self.answered
            && !self.sending
            && self.out.is_empty()
            && self.first_byte_ns == 0
    }
}

impl Ingress {
    /// The table is full: of the next few connections the one that was silent for longest gives way, one that never asked
    /// for anything before all others. An attacker's idle connections must not shut out exchanges. `false`: all of them are
    /// in use, or too many are leaving already.
    pub(super) fn make_room(&mut self, now_ns: u64) -> bool {
        if self.leaving >= CLIENTS_LEAVING_MAX {
            return false;
        }
        let (mut longest, mut looks) = (None, 0);
        // Slots that nobody uses are no more than those who leave may have.
        for _ in 0..LOOKS + CLIENTS_LEAVING_MAX {
            let ix = self.hand as u32;
            self.hand = (self.hand + 1) % (self.room + CLIENTS_LEAVING_MAX);
            let Some((key, c)) = self.clients.at(ix) else { continue };
            looks += 1;
            if looks > LOOKS {
                break;
            }
            let silent = now_ns.saturating_sub(c.active_ns) > GIVES_WAY_NS;
            let rank = (c.taken > 0, c.active_ns);
            if silent && !c.gives_way && c.is_idle() && longest.is_none_or(|(_, least)| rank < least) {
                longest = Some((key, rank));
            }
        }
        let Some(client) = longest.and_then(|(key, _)| self.clients.get(key).map(|c| (key, c))) else { return false };
        client.1.gives_way = true;
        self.giving_way.push(client.0);
        self.leaving += 1;
        true
    }

    /// Closes those who give way, unless they asked for something in the same turn.
    fn part<T: Transport>(&mut self, now_ns: u64, t: &mut T, metrics: &mut CoreMetrics) {
        while let Some(key) = self.giving_way.pop() {
            let Some(c) = self.clients.get(key) else { continue };
            if c.is_idle() {
                metrics.count(Counter::ConnectionsGaveWay);
                (c.phase, c.active_ns) = (Phase::Lingering, now_ns);
                t.close(Sock::Client(key.ix));
            } else {
                c.gives_way = false;
                self.leaving -= 1;
            }
        }
    }

    /// From now on a connection closes when it has nothing in progress and was silent for a moment: a request that is on
    /// its way to us when we begin to stop still finds its connection open.
    pub fn drain(&mut self) {
        self.draining = true;
        self.next_check_ns = 0;
    }

    /// Looks at the connections' timers, ten times a second. Slow ones come back as keys to be answered with 408.
    pub fn tick<T: Transport>(&mut self, now_ns: u64, t: &mut T, metrics: &mut CoreMetrics, slow: &mut Vec<Key>) {
        metrics.add(Counter::ConnectionsUntakenClosed, std::mem::take(&mut self.untaken_closed));
        self.part(now_ns, t, metrics);
        if now_ns < self.next_check_ns {
            return;
        }
        // After a turn that took long, what was sent before it has long been taken: that is looked at first.
        self.sweep(now_ns, t);
        self.next_check_ns = now_ns + 100 * MS;
        if self.draining && self.last_call_ns == 0 {
            self.last_call_ns = now_ns;
        }
        let silence_ns = if self.draining { LAST_CALL_NS } else { self.limits.idle_ms * MS };
        let last_call_ns = self.last_call_ns;
        let (slow_ns, write) = (self.limits.slow_ms * MS, self.limits.write_ms * MS);
        let mut keys = std::mem::take(&mut self.scratch);
        keys.extend(self.clients.keys());
        for key in keys.drain(..) {
            let Some(c) = self.clients.get(key) else { continue };
            let in_progress = c.taken - c.answered;
            if c.stuck_ns > 0 && now_ns.saturating_sub(c.stuck_ns) > write {
                metrics.count(Counter::ConnectionsSlowClosed);
                t.close(Sock::Client(key.ix));
            } else if c.phase == Phase::Lingering {
                if now_ns.saturating_sub(c.active_ns) > LINGER_NS {
                    t.close(Sock::Client(key.ix));
                }
            } else if c.phase == Phase::Open && in_progress == 0 && !c.sending {
                if c.first_byte_ns > 0 {
                    if now_ns.saturating_sub(c.first_byte_ns) > slow_ns {
                        metrics.count(Counter::ConnectionsSlowClosed);
                        c.phase = Phase::Ending;
                        slow.push(key);
                    }
                } else if now_ns.saturating_sub(c.active_ns.max(last_call_ns)) > silence_ns {
                    metrics.count(Counter::ConnectionsIdleClosed);
                    // A request that comes in this very moment is not taken in any more.
                    c.phase = Phase::Lingering;
                    t.close(Sock::Client(key.ix));
                }
            }
        }
        self.scratch = keys;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bidder::{
        buffers::Buffers,
        ingress::Answered,
        recording::Followup,
        transport::{Sent, Sock},
    };
    use outcry::{auction::Delivery, config, limits::UNTAKEN_BYTES_MAX, record::totals::Totals, units::EventId};
    use std::net::SocketAddr;

    #[derive(Default)]
    struct Wire {
        sent: Vec<Sock>,
        closed: Vec<Sock>,
    }

    impl Transport for Wire {
        fn send(&mut self, sock: Sock, _: Vec<u8>) {
            self.sent.push(sock);
        }
        fn connect(&mut self, _: Sock, _: SocketAddr) {}
        fn resume(&mut self, _: Sock) {}
        fn shutdown(&mut self, _: Sock) {}
        fn close(&mut self, sock: Sock) {
            self.closed.push(sock);
        }
        fn precise_ns(&mut self) -> u64 {
            0
        }
    }

    /// Each connection held as much as it could for as long as `write_ms`, and all of them together had no bound.
    #[test]
    fn who_has_left_his_answers_lying_for_longest_makes_room() {
        const ANSWER: usize = 1 << 20;
        let http = config::load("state_dir = \"/nowhere\"\n", 1).expect("a configuration").http;
        let write_ms = http.write_ms;
        let (mut ingress, mut wire, mut buffers) = (Ingress::new(http), Wire::default(), Buffers::default());
        let mut metrics = CoreMetrics::new(1);
        let mut event = EventId { node: 1, epoch: 1, core: 0, seq: 0 };
        let mut answer = |ingress: &mut Ingress, key, buffers: &mut Buffers| {
            event.seq += 1;
            let place = ingress.place(key);
            let answer = Answered { followup: Some(Followup::new(event, 0)), expires_ns: u64::MAX };
            let mut bytes = ingress.answer_buffer(key, place, buffers).expect("a client");
            bytes.resize(bytes.len() + ANSWER, 0);
            ingress.answered(key, place, bytes, answer, buffers);
        };
        let most = UNTAKEN_BYTES_MAX / ANSWER;
        let clients: Vec<Key> = (0..most + 5).map(|_| ingress.open(1).expect("room")).collect();
        let mut turn = |ingress: &mut Ingress, wire: &mut Wire, buffers: &mut Buffers, now_ns| {
            ingress.tick(now_ns, wire, &mut metrics, &mut Vec::new());
            ingress.flush(now_ns, wire, buffers);
            for sock in std::mem::take(&mut wire.sent) {
                let Sock::Client(ix) = sock else { panic!("{sock:?}") };
                ingress.on_sent(ix, Sent::Stuck, buffers);
            }
            std::mem::take(&mut wire.closed)
        };
        // As much as may be, in an order of its own.
        for (now_ns, key) in clients[..most].iter().rev().enumerate() {
            answer(&mut ingress, *key, &mut buffers);
            assert_eq!(turn(&mut ingress, &mut wire, &mut buffers, now_ns as u64 + 2), vec![]);
        }
        for now_ns in [200, 201] {
            assert_eq!(turn(&mut ingress, &mut wire, &mut buffers, now_ns), vec![]);
        }
        // Three more: two behind what is stuck already.
        for key in [clients[0], clients[0], clients[most]] {
            answer(&mut ingress, key, &mut buffers);
        }
        let mut closed = Vec::new();
        for now_ns in 202..206 {
            closed.extend(turn(&mut ingress, &mut wire, &mut buffers, now_ns));
        }
        let longest: Vec<Sock> = clients[..most].iter().rev().take(3).map(|key| Sock::Client(key.ix)).collect();
        assert_eq!(closed, longest, "those that have waited for longest, in their order");
        let fates: Vec<Delivery> = std::iter::from_fn(|| ingress.take_delivered()).map(|(_, fate)| fate).collect();
        assert_eq!(fates, [Delivery::Failed; 3]);
        assert!(write_ms * MS > 1_000, "it was not their time that was over");
        assert_eq!(turn(&mut ingress, &mut wire, &mut buffers, 207), vec![]);
        let mut totals = Totals::new(1, 1);
        totals.merge(0, &metrics);
        assert_eq!(totals.counter(Counter::ConnectionsUntakenClosed), 3);
    }
}
