//! Markup that lies behind a winner's `nurl`, where the exchange has it fetched: between the decision, which is on record by then,
//! and the answer.
//! Owns: the decided auctions that wait, and what was fetched. Runs on: each bidder core. Called by: the bidder.
//! Never: waits longer than `notices.markup_ms`; keeps an answer back because a fetch failed: the `nurl` goes out instead, counted.
use super::{
    Bidder,
    answering::Decided,
    asking::token,
    buffers::Buffers,
    egress::{Asked, Done, Reply},
    flight::LegAnswers,
    slab::Key,
    telling,
    transport::Transport,
};
use outcry::{
    auction::Auction,
    config::resolved::Markup,
    dsp::breaker::Admission,
    limits::{ASKED_MAX, IMPS_MAX},
    openrtb::response::Response,
    record::labels::Counter,
    units::{MS, Now},
};

/// In a call's token: from here on a win whose markup is fetched, below it a DSP that is asked.
pub(super) const LEG: u8 = 128;

// A win belongs to an impression of its own.
const _: () = assert!(ASKED_MAX <= LEG as usize && LEG as usize + IMPS_MAX <= telling::LEG as usize);

/// One fetch.
#[derive(Debug, Default)]
pub struct Fetch {
    /// Which of the decision's wins.
    pub win: u8,
    /// What came, as it stands in JSON; empty: nothing that is of use.
    pub markup: Vec<u8>,
    url: Vec<u8>,
    /// The call, while it is under way.
    call: Option<Key>,
}

/// A decided auction that waits.
#[derive(Debug, Default)]
pub struct Fetching {
    auction: Auction,
    views: Vec<Response>,
    fetches: Vec<Fetch>,
    decided: Option<Decided>,
    until_ns: u64,
}

impl Fetching {
    fn is_waiting(&self) -> bool {
        self.fetches.iter().any(|fetch| fetch.call.is_some())
    }
}

/// Those that nobody waits in, to be used again: what they have allocated stays.
pub(super) type Spare = Vec<Box<Fetching>>;

impl Bidder {
    /// Asks for what is to be fetched before the auction that was just decided is answered. `false`: there is nothing.
    pub(super) fn fetch<T: Transport>(&mut self, key: Key, decided: Decided, now: Now, t: &mut T) -> bool {
        let now_ns = now.boot_ns;
        let Bidder { flights, snapshots, egress, metrics, noticing, buffers, auction, views, .. } = self;
        let Some(flight) = flights.get(key) else { return false };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return false };
        let start = flight.start(snapshot);
        if !decided.bid || start.exchange.markup != Markup::Fetch || snapshot.core.notices.is_none() {
            return false;
        }
        let mut waits = self.fetchers.pop().unwrap_or_default();
        let heard = LegAnswers { legs: flight.legs(), views, fetched: &[] };
        auction.markups((&heard, &start), &snapshot.config().dsps, &mut noticing.lost, |win, url| match url {
            Some(url) => {
                let mut kept = buffers.get(url.len());
                kept.extend_from_slice(url);
                waits.fetches.push(Fetch { win, url: kept, ..Fetch::default() });
            }
            None => metrics.count(Counter::MarkupUnfetchable),
        });
        for fetch in &mut waits.fetches {
            let Some(lane) = telling::lane(&fetch.url, snapshot) else {
                metrics.count(Counter::MarkupUnfetchable);
                continue;
            };
            if egress.is_refused(lane, now_ns) {
                metrics.count(Counter::MarkupFailed);
                continue;
            }
            fetch.call = match egress.ask(lane, token(key, LEG + fetch.win), Admission::Healthy, now_ns, t) {
                Some(Asked::Waits(call)) => Some(call),
                Some(Asked::Ready(call)) => {
                    match telling::write((&fetch.url, &[]), call, snapshot, egress, metrics, now_ns) {
                        Ok(()) => Some(call),
                        Err(()) => {
                            egress.abandon(call, now_ns, metrics, t);
                            None
                        }
                    }
                }
                None => None,
            };
            if fetch.call.is_none() {
                metrics.count(Counter::MarkupFailed);
            }
        }
        if !waits.is_waiting() {
            retire(waits, buffers, &mut self.fetchers);
            return false;
        }
        let until_ns = now_ns + snapshot.config().notices.markup_ms * MS;
        (waits.decided, waits.until_ns) = (Some(decided), until_ns);
        std::mem::swap(&mut waits.auction, auction);
        std::mem::swap(&mut waits.views, views);
        flight.fetching = Some(waits);
        self.deadlines.arm(until_ns, key);
        true
    }

    /// The request of a fetch that waited and has its connection now. `false`: nobody waits for it any more.
    pub(super) fn write_fetch(&mut self, call: Key, (key, leg): (Key, u8), now_ns: u64) -> bool {
        let Bidder { flights, snapshots, egress, metrics, .. } = self;
        let Some(flight) = flights.get(key) else { return false };
        let Some(snapshot) = snapshots[flight.snapshot].as_ref() else { return false };
        let fetch = flight.fetching.as_mut().and_then(|f| f.fetches.iter_mut().find(|f| f.win == leg - LEG));
        let Some(fetch) = fetch.filter(|fetch| fetch.call == Some(call)) else { return false };
        // What was asked for can be written, as long as the hosts are those that it was asked under.
        telling::write((&fetch.url, &[]), call, snapshot, egress, metrics, now_ns).is_ok()
    }

    /// A fetch ended.
    pub(super) fn on_fetched<T: Transport>(&mut self, done: Done, (key, leg): (Key, u8), now: Now, t: &mut T) {
        let Bidder { flights, snapshots, buffers, metrics, .. } = self;
        let (came, body) = match done.reply {
            Reply::Answer { status, body } => (status == 200, body),
            Reply::Failed(_) => (false, Vec::new()),
        };
        if let Some(flight) = flights.get(key)
            && let Some(mut waits) = flight.fetching.take()
        {
            let Fetching { auction, fetches, .. } = &mut *waits;
            if let Some(fetch) = fetches.iter_mut().find(|f| f.win == leg - LEG && f.call.is_some())
                && let Some(snapshot) = snapshots[flight.snapshot].as_ref()
            {
                fetch.call = None;
                fetch.markup = buffers.get(if came { body.len() } else { 0 });
                let usable = came && auction.takes_markup(fetch.win, &flight.start(snapshot), &body, &mut fetch.markup);
                metrics.count(match came {
                    true if usable => Counter::MarkupFetched,
                    true => Counter::MarkupUnusable,
                    false => Counter::MarkupFailed,
                });
            }
            let waiting = waits.is_waiting();
            flight.fetching = Some(waits);
            buffers.put(body);
            if !waiting {
                self.answer_fetched(key, now, t);
            }
        } else {
            buffers.put(body);
        }
    }

    /// What has not come by now is not waited for.
    pub(super) fn on_fetch_deadline<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let Bidder { flights, egress, metrics, deadlines, .. } = self;
        let Some(waits) = flights.get(key).and_then(|flight| flight.fetching.as_mut()) else { return };
        if waits.until_ns > now.boot_ns {
            return deadlines.arm(waits.until_ns, key);
        }
        for call in waits.fetches.iter_mut().filter_map(|fetch| fetch.call.take()) {
            egress.abandon(call, now.boot_ns, metrics, t);
            metrics.count(Counter::MarkupLate);
        }
        self.answer_fetched(key, now, t);
    }

    fn answer_fetched<T: Transport>(&mut self, key: Key, now: Now, t: &mut T) {
        let Bidder { flights, auction, views, .. } = self;
        let Some(mut waits) = flights.get(key).and_then(|flight| flight.fetching.take()) else { return };
        std::mem::swap(&mut waits.auction, auction);
        std::mem::swap(&mut waits.views, views);
        if let Some(decided) = waits.decided.take() {
            self.answer(key, decided, &waits.fetches, now, t);
        }
        retire(waits, &mut self.buffers, &mut self.fetchers);
    }
}

fn retire(mut waits: Box<Fetching>, buffers: &mut Buffers, spare: &mut Spare) {
    for fetch in waits.fetches.drain(..) {
        buffers.put(fetch.url);
        buffers.put(fetch.markup);
    }
    spare.push(waits);
}
