//! DSPs that are to be told: whom next, how often to try, when to give up.
//! Owns: the calls that wait or are under way, with their URLs. Runs on: flush. Called by: `flush::notices`.
//! Never: lets one host take the room, or the calls, of all; calls one DSP of one notice twice at the same time.
//! Full: what comes on top ends at once as a dead letter ([`End::NoRoom`]), which can be replayed.
//!
//! The first try is made at once. After the n-th that failed the next comes 2^(n-1) seconds later, at most [`PAUSE_MAX_NS`], give
//! or take a quarter drawn at random, so that those who failed together do not come back together.
use super::{
    target::{self, host_of},
    told::{End, Name, Told},
};
use crate::{
    limits::{NOTICES_WAITING_HOST_MAX, NOTICES_WAITING_MAX},
    openrtb::codes::Outcome,
    units::{MS, mix},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

/// Between two tries of one call, at most.
pub const PAUSE_MAX_NS: u64 = 60_000 * MS;
const PAUSE_NS: u64 = 1_000 * MS;
/// Where a host has as many calls under way as it may, the next is looked at again after this.
const BUSY_NS: u64 = 20 * MS;

/// A call that is to be made.
#[derive(Clone, Debug)]
struct Task {
    name: Name,
    url: Vec<u8>,
    by: Option<u16>,
    host: usize,
    since_ns: u64,
    attempts: u16,
    /// As in [`Told::status`].
    status: u16,
    under_way: bool,
}

/// A host and its port.
#[derive(Debug, Default)]
struct Host {
    tasks: usize,
    under_way: usize,
}

/// What a DSP answered to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// Not at all, and why not.
    Failed(Outcome),
    /// It was not called: no DSP takes notices there.
    NoHost,
    /// It was not called: no connection to it is free, and no more may wait for one.
    Busy,
}

/// A call to be made now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due<'a> {
    /// What names it until [`Outbox::answered`].
    pub slot: u32,
    /// Of which notice.
    pub name: Name,
    /// What is called.
    pub url: &'a [u8],
    /// The core that recorded the notice, if it is one of this process: it knows what else its caller said.
    pub by: Option<u16>,
}

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    tasks: Vec<Option<Task>>,
    free: Vec<u32>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    hosts: BTreeMap<target::Host, usize>,
    by_host: Vec<Host>,
    /// When each came, the oldest first.
    oldest: BTreeSet<(u64, u32)>,
    names: BTreeSet<Name>,
    retry_ns: u64,
    under_way_max: usize,
    entropy: u64,
}

impl Outbox {
    /// Gives up a call `retry_ns` after it was first to be made; has no more than `under_way_max` of one host under way.
    pub fn new(retry_ns: u64, under_way_max: usize, entropy: u64) -> Outbox {
        Outbox {
            tasks: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            hosts: BTreeMap::new(),
            by_host: Vec::new(),
            oldest: BTreeSet::new(),
            names: BTreeSet::new(),
            retry_ns,
            under_way_max: under_way_max.max(1),
            entropy,
        }
    }

    /// Calls that wait or are under way.
    pub fn waiting(&self) -> usize {
        self.tasks.len() - self.free.len()
    }

    /// When the oldest of them came.
    pub fn oldest_ns(&self) -> Option<u64> {
        self.oldest.first().map(|(since_ns, _)| *since_ns)
    }

    /// All of them, in no order: what a snapshot keeps.
    pub fn all(&self) -> impl Iterator<Item = (Name, &[u8])> {
        self.tasks.iter().flatten().map(|task| (task.name, task.url.as_slice()))
    }

    /// A DSP is to be told; of what it is to be told already, it is told once. `by` as in [`Due`]. `Err`: there is no room for it.
    pub fn push(&mut self, name: Name, url: &[u8], by: Option<u16>, now_ns: u64) -> Result<(), Told> {
        if self.names.contains(&name) {
            return Ok(());
        }
        let host = self.host(url);
        if self.waiting() >= NOTICES_WAITING_MAX || self.by_host[host].tasks >= NOTICES_WAITING_HOST_MAX {
            return Err(Told { name, end: End::NoRoom, status: 0, attempts: 0 });
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() as u32 - 1
        });
        self.by_host[host].tasks += 1;
        let task =
            Task { name, url: url.to_vec(), by, host, since_ns: now_ns, attempts: 0, status: 0, under_way: false };
        self.tasks[slot as usize] = Some(task);
        self.due.push(Reverse((now_ns, slot)));
        self.oldest.insert((now_ns, slot));
        self.names.insert(name);
        Ok(())
    }

    /// The next call whose time has come: under way from now.
    pub fn next(&mut self, now_ns: u64) -> Option<Due<'_>> {
        loop {
            let &Reverse((due_ns, slot)) = self.due.peek()?;
            if due_ns > now_ns {
                return None;
            }
            self.due.pop();
            let Some(task) = self.tasks.get_mut(slot as usize).and_then(Option::as_mut).filter(|t| !t.under_way) else {
                continue;
            };
            let host = &mut self.by_host[task.host];
            if host.under_way >= self.under_way_max {
                self.due.push(Reverse((now_ns + BUSY_NS, slot)));
                continue;
            }
            host.under_way += 1;
            task.under_way = true;
            task.attempts = task.attempts.saturating_add(1);
            let task = self.tasks[slot as usize].as_ref()?;
            return Some(Due { slot, name: task.name, url: &task.url, by: task.by });
        }
    }

    /// What came of a call that [`Outbox::next`] gave; how the notice ended, if it did.
    pub fn answered(&mut self, slot: u32, answer: Answer, now_ns: u64) -> Option<Told> {
        let task = self.tasks.get_mut(slot as usize).and_then(Option::as_mut).filter(|task| task.under_way)?;
        task.under_way = false;
        self.by_host[task.host].under_way -= 1;
        task.status = match answer {
            Answer::Status(status) => status,
            Answer::Failed(why) => why as u16,
            Answer::NoHost | Answer::Busy => 0,
        };
        let end = match answer {
            Answer::Status(..400) => Some(End::Done),
            // "Later" and "too many"; everything else of their kind will be no different the next time (RFC 9110 section 15.5).
            Answer::Status(408 | 429) => None,
            Answer::Status(..500) => Some(End::Refused),
            Answer::NoHost => Some(End::NoHost),
            Answer::Busy => {
                task.attempts -= 1;
                let over = now_ns > task.since_ns.saturating_add(self.retry_ns);
                if !over {
                    self.due.push(Reverse((now_ns + BUSY_NS, slot)));
                    return None;
                }
                Some(End::GaveUp)
            }
            Answer::Status(_) | Answer::Failed(_) => None,
        };
        let pause = (PAUSE_NS << task.attempts.saturating_sub(1).min(6)).min(PAUSE_MAX_NS);
        let drawn = mix(self.entropy ^ mix(u64::from(slot) << 16 ^ u64::from(task.attempts) ^ now_ns));
        let due_ns = now_ns + pause * 3 / 4 + drawn % (pause / 2).max(1);
        let end = end.or((due_ns > task.since_ns.saturating_add(self.retry_ns)).then_some(End::GaveUp));
        let Some(end) = end else {
            self.due.push(Reverse((due_ns, slot)));
            return None;
        };
        let task = self.tasks[slot as usize].take()?;
        self.oldest.remove(&(task.since_ns, slot));
        self.names.remove(&task.name);
        self.by_host[task.host].tasks -= 1;
        self.free.push(slot);
        Some(Told { name: task.name, end, status: task.status, attempts: task.attempts })
    }

    fn host(&mut self, url: &[u8]) -> usize {
        // Each was found in the configuration before we signed its URL, so there are few.
        let next = self.by_host.len();
        let at = *self.hosts.entry(host_of(url).unwrap_or_default()).or_insert(next);
        if at == next {
            self.by_host.push(Host::default());
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{notice::token::Kind, units::EventId};
    use proptest::prelude::*;

    const S: u64 = 1_000 * MS;

    fn name(seq: u64) -> Name {
        Name { event: EventId { node: 1, epoch: 2, core: 3, seq }, imp: 0, kind: Kind::Billed }
    }

    fn outbox() -> Outbox {
        Outbox::new(600 * S, 2, 7)
    }

    #[test]
    fn a_dsp_that_hears_is_told_once() {
        for status in [200, 204, 302] {
            let mut o = outbox();
            o.push(name(1), b"http://a/x", None, 5).unwrap();
            let due = o.next(5).map(|d| (d.slot, d.name, d.url.to_vec()));
            let (slot, who, url) = due.expect("it is due");
            assert_eq!((who, url.as_slice()), (name(1), &b"http://a/x"[..]));
            assert_eq!(o.next(u64::MAX / 2), None, "it is under way");
            let told = Told { name: name(1), end: End::Done, status, attempts: 1 };
            assert_eq!(o.answered(slot, Answer::Status(status), 6), Some(told));
            assert_eq!(o.next(u64::MAX / 2), None);
            assert_eq!((o.waiting(), o.oldest_ns()), (0, None));
            assert_eq!(o.answered(slot, Answer::Status(status), 6), None, "twice is once");
        }
    }

    #[test]
    fn who_says_never_is_believed_and_who_says_later_is_tried_again() {
        for (answer, end) in [
            (Answer::Status(400), Some(End::Refused)),
            (Answer::Status(404), Some(End::Refused)),
            (Answer::Status(410), Some(End::Refused)),
            (Answer::Status(499), Some(End::Refused)),
            (Answer::NoHost, Some(End::NoHost)),
            (Answer::Status(408), None),
            (Answer::Status(429), None),
            (Answer::Status(500), None),
            (Answer::Status(503), None),
            (Answer::Failed(Outcome::Late), None),
            (Answer::Failed(Outcome::TlsFailed), None),
        ] {
            let mut o = outbox();
            o.push(name(1), b"http://a/", None, 0).unwrap();
            let slot = o.next(0).expect("due").slot;
            assert_eq!(o.answered(slot, answer, 1).map(|t| t.end), end, "{answer:?}");
            assert_eq!(o.waiting(), usize::from(end.is_none()));
        }
    }

    /// The pauses double up to a minute, and end with the time there is.
    #[test]
    fn tries_become_rarer_and_end() {
        let mut o = outbox();
        o.push(name(1), b"http://a/", None, 0).unwrap();
        let (mut now, mut pauses) = (0, Vec::new());
        let told = loop {
            let slot = loop {
                match o.next(now) {
                    Some(due) => break due.slot,
                    None => now += S / 100,
                }
            };
            let tried = now;
            if let Some(told) = o.answered(slot, Answer::Failed(Outcome::TlsFailed), now) {
                break told;
            }
            while o.due.peek().is_some_and(|d| d.0.0 > now) {
                now += S / 100;
            }
            pauses.push((now - tried) / (S / 100));
        };
        for (n, pause) in pauses.iter().enumerate() {
            let middle = (100u64 << n.min(6)).min(6_000);
            assert!((middle * 3 / 4..=middle * 5 / 4 + 1).contains(pause), "pause {n}: {pause}");
        }
        assert!((540 * S..=600 * S).contains(&now), "{now}");
        assert_eq!((told.end, told.attempts as usize), (End::GaveUp, pauses.len() + 1));
        assert_eq!((told.answered(), told.failed()), (None, Some(Outcome::TlsFailed)));
        assert!((14..=18).contains(&told.attempts), "{}", told.attempts);
    }

    #[test]
    fn a_host_that_hangs_leaves_room_for_others() {
        let mut o = outbox();
        for seq in 0..NOTICES_WAITING_HOST_MAX as u64 {
            o.push(name(seq), b"http://hangs/n", None, 0).unwrap();
        }
        let one_more = o.push(name(9_999), b"http://hangs/n", None, 0);
        assert_eq!(one_more.map_err(|t| t.end), Err(End::NoRoom));
        o.push(name(10_000), b"http://well/n", None, 1).unwrap();
        // Two of the one are under way, then it is the other's turn.
        let due: Vec<_> = std::iter::from_fn(|| o.next(1).map(|d| d.url.to_vec())).collect();
        assert_eq!(due, [&b"http://hangs/n"[..], b"http://hangs/n", b"http://well/n"]);
        assert_eq!(o.oldest_ns(), Some(0));
    }

    /// However a bid spells it: one host has one host's room.
    #[test]
    fn spellings_of_a_host_are_one() {
        let mut o = outbox();
        for url in [&b"http://dsp.example/a"[..], b"HTTP://DSP.example:80?b", b"http://dsp.EXAMPLE"] {
            o.push(name(url.len() as u64), url, None, 0).unwrap();
        }
        assert_eq!((o.by_host.len(), o.by_host[0].tasks), (1, 3));
        // By TLS it is another: its certificate may have expired.
        for url in [&b"https://dsp.example/long"[..], b"HTTPS://DSP.example:443?longer"] {
            o.push(name(url.len() as u64), url, None, 0).unwrap();
        }
        assert_eq!((o.by_host.len(), o.by_host[1].tasks), (2, 2));
    }

    /// A call that was never made is no try.
    #[test]
    fn a_busy_host_costs_no_tries() {
        let mut o = Outbox::new(600 * S, 2, 7);
        o.push(name(1), b"http://a/", None, 0).unwrap();
        for n in 0..1_000 {
            let slot = o.next(n * BUSY_NS).expect("due").slot;
            assert_eq!(o.answered(slot, Answer::Busy, n * BUSY_NS), None);
        }
        let now_ns = 1_000 * BUSY_NS;
        let slot = o.next(now_ns).expect("due").slot;
        let told = o.answered(slot, Answer::Status(200), now_ns);
        assert_eq!(told, Some(Told { name: name(1), end: End::Done, status: 200, attempts: 1 }));
    }

    /// Asked for once more while it waits, it is told once; busy for as long as it may be tried, it is given up.
    #[test]
    fn what_waits_is_there_once_and_not_for_ever() {
        let mut o = Outbox::new(S, 2, 7);
        o.push(name(1), b"http://a/", None, 0).unwrap();
        o.push(name(1), b"http://a/", None, 1).unwrap();
        assert_eq!((o.waiting(), o.oldest_ns()), (1, Some(0)));
        let slot = o.next(0).expect("due").slot;
        assert_eq!(o.answered(slot, Answer::Busy, 1), None);
        let slot = o.next(2 * S).expect("due").slot;
        let told = Told { name: name(1), end: End::GaveUp, status: 0, attempts: 0 };
        assert_eq!(o.answered(slot, Answer::Busy, 2 * S), Some(told));
        o.push(name(1), b"http://a/", None, 3 * S).unwrap();
        assert_eq!(o.waiting(), 1);
    }

    #[test]
    fn all_hosts_together_have_a_bound_too() {
        let mut o = outbox();
        let pushed = (0..20_000u64).filter(|seq| {
            let url = format!("http://h{}/", seq % 16);
            o.push(name(*seq), url.as_bytes(), None, 0).is_ok()
        });
        assert_eq!(pushed.count(), NOTICES_WAITING_MAX);
    }

    proptest! {
        /// Whatever is answered in whatever order: nothing is under way twice, nothing is lost, each ends once.
        #[test]
        fn everything_ends_once(moves in proptest::collection::vec((0u8..6, 0u64..4), 1..200), entropy: u64) {
            let mut o = Outbox::new(20 * S, 2, entropy);
            let (mut now, mut seq) = (0, 0);
            let (mut flying, mut alive) = (Vec::new(), BTreeSet::new());
            for (what, n) in moves {
                match what {
                    0 | 1 => {
                        seq += 1;
                        o.push(name(seq), format!("http://h{n}/").as_bytes(), None, now).unwrap();
                        alive.insert(seq);
                    }
                    2 => now += n * S,
                    3 => flying.extend(o.next(now).map(|d| (d.slot, d.name))),
                    _ if flying.is_empty() => {}
                    _ => {
                        let (slot, who) = flying.remove(n as usize % flying.len());
                        let answer =
                            [Answer::Status(204), Answer::Failed(Outcome::Reset), Answer::Status(404), Answer::Status(500)];
                        if let Some(told) = o.answered(slot, answer[n as usize], now) {
                            prop_assert_eq!(told.name, who);
                            prop_assert!(alive.remove(&who.event.seq), "ended twice");
                        }
                    }
                }
                let names: BTreeSet<_> = flying.iter().map(|f| f.1).collect();
                prop_assert_eq!(names.len(), flying.len());
                prop_assert_eq!(o.waiting(), alive.len());
                let kept: BTreeSet<_> = o.all().map(|(who, _)| who.event.seq).collect();
                prop_assert_eq!(&kept, &alive);
            }
            for _ in 0..200 {
                now += S;
                flying.extend(std::iter::from_fn(|| o.next(now).map(|d| (d.slot, d.name))));
                for (slot, who) in flying.drain(..) {
                    if o.answered(slot, Answer::Failed(Outcome::Late), now).is_some() {
                        prop_assert!(alive.remove(&who.event.seq));
                    }
                }
            }
            prop_assert_eq!((o.waiting(), alive.len()), (0, 0));
        }
    }
}
