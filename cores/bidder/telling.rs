//! DSPs that are to be told: of notices as flush says, which hears what came of it; of bids that lost here, once, and nobody
//! hears.
//! Owns: the calls under way. Runs on: each bidder core. Called by: the bidder, at the end of a turn.
//! Never: tries again, or forgets a call of flush's; holds an auction up: its calls go out behind the answers and on connections of
//! their own.
//! Full: flush has no more calls under way at a core than there are places for it; a loss without a place is dropped and counted.
use super::{
    Bidder,
    buffers::Buffers,
    devices::Devices,
    egress::{Asked, Done, Egress, Reply},
    slab::{Key, Slab},
    snapshot::Snapshot,
    transport::Transport,
};
use crate::wiring::CoreNoticeEnds;
use outcry::{
    dsp::breaker::Admission,
    http1,
    limits::NOTICES_CALLS,
    messages::{NoticeCall, ToNotices},
    notice::{
        outbox::Answer,
        target::{Target, target},
    },
    openrtb::codes::Outcome,
    record::{labels::Counter, metrics::CoreMetrics},
    units::{MS, Now},
};

/// The leg of a call's token that says: it is none of an auction's.
pub(super) const LEG: u8 = u8::MAX;

/// Losses that wait or are under way at once.
const LOSSES: usize = 64;

/// Of what a DSP is told.
#[derive(Debug)]
enum What {
    Notice(Box<NoticeCall>),
    /// The URL, in one of the core's buffers.
    Loss(Vec<u8>),
}

impl What {
    fn url(&self) -> &[u8] {
        match self {
            What::Notice(call) => &call.url,
            What::Loss(url) => url,
        }
    }

    /// With what was said of the device, if anything was.
    fn said<'a>(&'a self, devices: &'a Devices) -> (&'a [u8], &'a [u8]) {
        match self {
            What::Notice(call) => (&call.url, devices.lines(&call.name)),
            What::Loss(url) => (url, &[]),
        }
    }
}

#[derive(Debug, Default)]
struct Call {
    /// None: it has ended.
    what: Option<What>,
    /// Its call of egress.
    key: Key,
    until_ns: u64,
}

/// See the module.
pub(super) struct Telling {
    ends: Option<CoreNoticeEnds>,
    /// What their callers said of the device.
    pub(super) devices: Devices,
    calls: Slab<Call>,
    /// Losses that are to be told at the end of the turn, and how many have a place in all.
    lost: Vec<Vec<u8>>,
    losses: usize,
    /// None is late before this.
    next_ns: u64,
    scratch: Vec<Key>,
}

impl Default for Telling {
    fn default() -> Telling {
        let calls = Slab::new(NOTICES_CALLS + LOSSES);
        Telling {
            ends: None,
            devices: Devices::default(),
            calls,
            lost: Vec::with_capacity(LOSSES),
            losses: 0,
            next_ns: 0,
            scratch: Vec::new(),
        }
    }
}

impl Telling {
    /// Calls come and go by these.
    pub(super) fn by(&mut self, ends: CoreNoticeEnds) {
        self.ends = Some(ends);
    }

    /// Calls under way.
    pub(super) fn count(&self) -> usize {
        self.calls.count()
    }

    /// A bid lost, and its DSP is to be told there.
    pub(super) fn lose(&mut self, url: &[u8], buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        if self.losses >= LOSSES {
            return metrics.count(Counter::LossNoticesDropped);
        }
        let mut kept = buffers.get(url.len());
        kept.extend_from_slice(url);
        self.losses += 1;
        self.lost.push(kept);
    }

    /// The call is over, if it has not been before.
    fn end(&mut self, at: Key, end: (Answer, bool), buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        if let Some(what) = self.calls.get(at).and_then(|call| call.what.take()) {
            self.calls.free(at);
            self.back(what, end, buffers, metrics);
        }
    }

    /// `sent`: it left.
    fn back(&mut self, what: What, (answer, sent): (Answer, bool), buffers: &mut Buffers, metrics: &mut CoreMetrics) {
        let mut what = match what {
            What::Notice(what) => what,
            What::Loss(url) => {
                self.losses -= 1;
                buffers.put(url);
                return metrics.count(if sent { Counter::LossNoticesSent } else { Counter::LossNoticesDropped });
            }
        };
        match answer {
            Answer::Status(..400) => metrics.count(Counter::NoticeCallsDone),
            Answer::Status(_) | Answer::Failed(_) | Answer::NoHost => metrics.count(Counter::NoticeCallsFailed),
            Answer::Busy => {}
        }
        match answer {
            // It will be called again.
            Answer::Status(408 | 429 | 500..) | Answer::Failed(_) | Answer::Busy => {}
            Answer::Status(_) | Answer::NoHost => self.devices.forget(&what.name),
        }
        what.answer = answer;
        if let Some(ends) = &mut self.ends {
            // There is a slot for every call there is; nobody at the other end: the process goes down.
            let _ = ends.called.push(what);
        }
    }
}

impl Bidder {
    /// Takes what flush wants; gives up whom it waited too long for.
    pub(super) fn tell<T: Transport>(&mut self, now: Now, t: &mut T) {
        let now_ns = now.boot_ns;
        let Bidder { telling, snapshots, current, egress, metrics, noticing, draining, buffers, .. } = self;
        if telling.count() > 0 && now_ns >= telling.next_ns {
            telling.next_ns = u64::MAX;
            let mut keys = std::mem::take(&mut telling.scratch);
            keys.extend(telling.calls.keys());
            for at in keys.drain(..) {
                let Some(call) = telling.calls.peek(at) else { continue };
                if call.until_ns > now_ns {
                    telling.next_ns = telling.next_ns.min(call.until_ns);
                    continue;
                }
                let sent = egress.abandon(call.key, now_ns, metrics, t).is_some();
                telling.end(at, (Answer::Failed(Outcome::Late), sent), buffers, metrics);
            }
            telling.scratch = keys;
        }
        let Some(snapshot) = snapshots[*current].as_ref() else { return };
        // What is not taken before the core ends is told after the next start.
        while !*draining && let Some(order) = telling.ends.as_mut().and_then(|ends| ends.calls.pop().ok()) {
            match order {
                ToNotices::Full(full) => noticing.set_full(full),
                ToNotices::Call(what) => {
                    let what = What::Notice(what);
                    if let Err((what, answer)) = begin(telling, what, snapshot, (egress, metrics), now_ns, t) {
                        telling.back(what, (answer, false), buffers, metrics);
                    }
                }
            }
        }
        while let Some(url) = telling.lost.pop() {
            if let Err((what, answer)) = begin(telling, What::Loss(url), snapshot, (egress, metrics), now_ns, t) {
                telling.back(what, (answer, false), buffers, metrics);
            }
        }
    }

    /// The request of a call that waited and has its connection now. `false`: nobody waits for it any more.
    pub(super) fn write_told(&mut self, call: Key, at: Key, now_ns: u64) -> bool {
        let Bidder { telling, snapshots, current, egress, metrics, buffers, .. } = self;
        let snapshot = snapshots[*current].as_ref();
        let waits = telling.calls.peek(at).filter(|waits| waits.key == call);
        let what = waits.and_then(|waits| waits.what.as_ref());
        let Some((snapshot, what)) = snapshot.zip(what) else { return false };
        let written = write(what.said(&telling.devices), call, snapshot, egress, metrics, now_ns);
        if written.is_err() {
            telling.end(at, (Answer::NoHost, false), buffers, metrics);
        }
        written.is_ok()
    }

    /// A call ended.
    pub(super) fn on_told(&mut self, done: Done, at: Key) {
        let Bidder { telling, metrics, buffers, .. } = self;
        let sent = done.sent_ns > 0;
        let answer = match done.reply {
            Reply::Answer { status, body } => {
                buffers.put(body);
                Answer::Status(status)
            }
            // It has heard, whatever became of the body that nobody reads.
            Reply::Failed(_) if done.status > 0 => Answer::Status(done.status),
            Reply::Failed(why) => Answer::Failed(why),
        };
        telling.end(at, (answer, sent), buffers, metrics);
    }
}

type Unbegun = (What, Answer);

fn begin<T: Transport>(
    telling: &mut Telling,
    what: What,
    snapshot: &Snapshot,
    (egress, metrics): (&mut Egress, &mut CoreMetrics),
    now_ns: u64,
    t: &mut T,
) -> Result<(), Unbegun> {
    let Some(lane) = lane(what.url(), snapshot) else { return Err((what, Answer::NoHost)) };
    // Nobody waits for a loss to be told: it takes what is free, and leaves what notices may need.
    if matches!(what, What::Loss(_)) && !egress.is_free(lane, now_ns) {
        return Err((what, Answer::Busy));
    }
    if egress.is_refused(lane, now_ns) {
        return Err((what, Answer::Failed(Outcome::TlsFailed)));
    }
    let Some(at) = telling.calls.take() else { return Err((what, Answer::Busy)) };
    let key = match egress.ask(lane, super::asking::token(at, LEG), Admission::Healthy, now_ns, t) {
        Some(Asked::Waits(key)) => key,
        Some(Asked::Ready(key))
            if write(what.said(&telling.devices), key, snapshot, egress, metrics, now_ns).is_ok() =>
        {
            key
        }
        Some(Asked::Ready(key)) => {
            egress.abandon(key, now_ns, metrics, t);
            telling.calls.free(at);
            return Err((what, Answer::NoHost));
        }
        None => {
            telling.calls.free(at);
            return Err((what, Answer::Busy));
        }
    };
    let until_ns = now_ns + snapshot.config().notices.timeout_ms * MS;
    telling.next_ns = if telling.count() == 1 { until_ns } else { telling.next_ns.min(until_ns) };
    if let Some(call) = telling.calls.get(at) {
        *call = Call { what: Some(what), key, until_ns };
    }
    Ok(())
}

/// Which of the lanes of egress leads there.
pub(super) fn lane(url: &[u8], snapshot: &Snapshot) -> Option<u16> {
    let hosts = &snapshot.core.notices.as_ref()?.hosts;
    snapshot.notice_lanes.get(target(url, hosts).ok()?.host).copied()
}

/// With `more`, header lines of its own.
pub(super) fn write(
    (url, more): (&[u8], &[u8]),
    call: Key,
    snapshot: &Snapshot,
    egress: &mut Egress,
    metrics: &mut CoreMetrics,
    now_ns: u64,
) -> Result<(), ()> {
    let hosts = &snapshot.core.notices.as_ref().ok_or(())?.hosts;
    let Target { authority, path, .. } = target(url, hosts).map_err(|_| ())?;
    let mut out = egress.request_buffer(url.len() + more.len() + 128);
    http1::write_get(&url[authority..path], &url[path..], more, &mut out);
    metrics.add(Counter::DspBytesOut, out.len() as u64);
    egress.write(call, out, now_ns);
    Ok(())
}
