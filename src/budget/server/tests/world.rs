//! A server between tiny cores and a tiny granter, with what really happened written down beside them.
//! Owns: all of them, the rings, the messages on their way, the time. Called by: the tests of sequences, and the models.
//! Never: lets the server see anything but messages.
use crate::{
    budget::{
        AccountId, Period,
        messages::{Ask, CoreGrant, CoreLine, CoreReport, Cut, Granted, LineKey, Reply},
        server::{Held, Server},
    },
    units::{MS, Money},
};
use std::collections::{BTreeMap, VecDeque};

pub(super) const SECOND: u64 = 1_000 * MS;
/// Granters keep what may be used for 25 seconds for 30.
const KEPT_NS: u64 = 30 * SECOND;
const USABLE_MS: u64 = 25_000;

/// What is tried.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Plan {
    pub cores: usize,
    pub accounts: u32,
    /// Of each account and window.
    pub budget: i64,
    /// Of every bid.
    pub price: i64,
    /// Windows are so long, granter's time.
    pub window_ns: u64,
    /// The granter's clock minus the server's.
    pub skew_ns: u64,
    /// Slots of each ring to a core.
    pub ring: usize,
    /// A core that has less than this wants twice as much.
    pub ahead: i64,
    /// Bids on accounts up to this one are charged when their notices come.
    pub awaited: u32,
}

/// One step of somebody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Op {
    /// A bid on an account arrives at a core, and wins if it can be paid.
    Bid { core: usize, account: u32 },
    /// The oldest answer that is on its way at a core: did it arrive?
    Delivered { core: usize, arrived: bool },
    /// A core says what changed, and the server hears it.
    Report { core: usize },
    /// The core takes what the server has for it, as much as its ring holds.
    Grants { core: usize },
    /// The server's turn: it may send an ask.
    Turn,
    /// The oldest ask comes to the granter; or is lost; or comes and comes again.
    Ask { lost: bool, again: bool },
    /// The oldest reply comes to the server, likewise.
    Reply { lost: bool, again: bool },
    /// The journal has a notice of the oldest win that waits for one, at its price or half of it; or that none came.
    Notice { came: bool, lower: bool },
    /// What the journal has of such wins is on its way to the server.
    Tell,
    /// The oldest of that arrives.
    Told,
    /// Time goes by.
    Wait { ms: u64 },
    /// The granter is told to pause an account, or to let it go on.
    Pause { account: u32, paused: bool },
    /// The server is told to make a cut.
    Cut,
    /// The server is told to bring everything home.
    Stop,
    /// The granter hears of a later start of this machine.
    Fence,
}

/// A core's line as the core has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct TinyLine {
    granted: i64,
    returned: i64,
    charged: i64,
    freed: i64,
    /// Answers on their way.
    flying: u32,
    from_ns: u64,
    until_ns: u64,
    want: i64,
    stop: bool,
    recall: bool,
    dirty: bool,
}

impl TinyLine {
    fn free(&self) -> i64 {
        self.granted - self.returned - self.charged + self.freed
    }
}

/// What a frame of a core's record says: charged, freed.
type Frame = (LineKey, i64, i64);

/// As of which frames of each core, and what is held and has lapsed.
pub(super) type Tell = (Vec<u64>, Vec<Held>);

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct TinyCore {
    lines: BTreeMap<LineKey, TinyLine>,
    flying: VecDeque<LineKey>,
    ring: VecDeque<CoreGrant>,
    frames: Vec<Frame>,
    dead: bool,
    unknown: VecDeque<AccountId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct GranterLine {
    pub granted: i64,
    pub returned: i64,
    /// Its lease may be used until, the granter's time with its margin.
    pub kept_ns: u64,
    /// As of the cuts heard.
    pub cut: (i64, i64),
}

/// The granter as the messages describe it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct TinyGranter {
    pub lines: BTreeMap<LineKey, GranterLine>,
    pub paused: u64,
    pub fenced: bool,
    pub frames: Vec<u64>,
    last_req: u64,
    /// Of which lines the last answer spoke.
    named: Vec<LineKey>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub plan: Plan,
    pub server: Server,
    cores: Vec<TinyCore>,
    pub granter: TinyGranter,
    pub asks: VecDeque<Ask>,
    pub replies: VecDeque<Reply>,
    /// Wins that wait for notices; of each line what is held and has lapsed; what the server is told of that.
    pub awaiting: VecDeque<LineKey>,
    held: BTreeMap<LineKey, (i64, i64)>,
    pub tells: VecDeque<Tell>,
    /// Accounts of which a line was closed.
    closed: std::collections::BTreeSet<u32>,
    pub now_ns: u64,
    /// What went wrong first, as one who sees everything sees it.
    pub wrong: Option<&'static str>,
    pub wins: u32,
}

impl World {
    pub(super) fn new(plan: Plan) -> World {
        let now_ns = 1_000 * SECOND;
        let mut server = Server::new(1, 1, plan.cores, now_ns);
        if plan.awaited > 0 {
            server.await_notices();
        }
        World {
            server,
            cores: vec![TinyCore::default(); plan.cores],
            granter: TinyGranter { frames: vec![0; plan.cores], ..TinyGranter::default() },
            asks: VecDeque::new(),
            replies: VecDeque::new(),
            awaiting: VecDeque::new(),
            held: BTreeMap::new(),
            tells: VecDeque::new(),
            closed: Default::default(),
            now_ns,
            wrong: None,
            wins: 0,
            plan,
        }
    }

    fn granter_now(&self) -> u64 {
        self.now_ns + self.plan.skew_ns
    }

    /// When a window begins and ends, the granter's time.
    fn window(&self, period: Period) -> (u64, u64) {
        let begins = u64::from(period.0) * self.plan.window_ns;
        (begins, begins + self.plan.window_ns)
    }

    fn running(&self) -> Period {
        Period((self.granter_now() / self.plan.window_ns) as u32)
    }

    fn wrong(&mut self, what: &'static str) {
        self.wrong = self.wrong.or(Some(what));
    }

    pub(super) fn step(&mut self, op: Op) {
        match op {
            Op::Bid { core, account } => self.bid(core, AccountId(account)),
            Op::Delivered { core, arrived } => self.delivered(core, arrived),
            Op::Report { core } => self.report(core),
            Op::Grants { core } => self.grants(core),
            Op::Turn => {
                let ask = self.server.outgoing(self.now_ns).cloned();
                self.asks.extend(ask);
            }
            Op::Ask { lost, again } => {
                let Some(ask) = self.asks.pop_front() else { return };
                if again {
                    self.asks.push_back(ask.clone());
                }
                if !lost {
                    let reply = self.answer(&ask);
                    self.replies.extend(reply);
                }
            }
            Op::Reply { lost, again } => {
                let Some(reply) = self.replies.pop_front() else { return };
                if again {
                    self.replies.push_back(reply.clone());
                }
                if !lost {
                    self.server.incoming(&reply, self.now_ns);
                    if reply.fenced && !self.server.is_fenced() {
                        self.wrong("it was not heard that this start is dead");
                    }
                }
            }
            Op::Notice { came, lower } => self.notice(came, lower),
            Op::Tell => {
                let upto = self.cores.iter().map(|core| core.frames.len() as u64).collect();
                let held = |(line, (held, lapsed)): (&LineKey, &(i64, i64))| Held {
                    line: *line,
                    held: Money(*held),
                    lapsed: Money(*lapsed),
                };
                self.tells.push_back((upto, self.held.iter().map(held).collect()));
            }
            Op::Told => {
                if let Some((upto, held)) = self.tells.pop_front() {
                    self.server.hold(&upto, &held);
                }
            }
            Op::Wait { ms } => self.now_ns += ms * MS,
            Op::Pause { account, paused } => {
                let bit = 1 << account;
                self.granter.paused = if paused { self.granter.paused | bit } else { self.granter.paused & !bit };
            }
            Op::Cut => self.server.cut(),
            Op::Stop => self.server.stop(),
            Op::Fence => self.granter.fenced = true,
        }
        self.check();
    }

    fn bid(&mut self, core: usize, account: AccountId) {
        let (now, price, running) = (self.now_ns, self.plan.price, self.running());
        let state = &mut self.cores[core];
        if state.dead {
            return;
        }
        let usable = |l: &TinyLine| !l.stop && (l.from_ns..l.until_ns).contains(&now);
        let line = state.lines.iter_mut().rfind(|(key, l)| key.account == account && usable(l));
        let Some((key, line)) = line else {
            if !state.unknown.contains(&account) {
                state.unknown.push_back(account);
            }
            return;
        };
        line.dirty = true;
        if line.free() < price {
            line.want = line.granted + (price - line.free());
            return;
        }
        line.charged += price;
        let key = *key;
        if account.0 <= self.plan.awaited {
            self.awaiting.push_back(key);
            self.held.entry(key).or_default().0 += price;
        } else {
            line.flying += 1;
            state.flying.push_back(key);
        }
        state.frames.push((key, price, 0));
        self.wins += 1;
        // What one who sees everything sees.
        if key.period != running {
            self.wrong("spent in another window");
        }
        let granter_now = self.granter_now();
        if self.granter.lines.get(&key).is_none_or(|l| granter_now >= l.kept_ns) {
            self.wrong("spent when the granter took the lease for expired");
        }
    }

    fn notice(&mut self, came: bool, lower: bool) {
        let Some(key) = self.awaiting.pop_front() else { return };
        let price = self.plan.price;
        let sums = self.held.entry(key).or_default();
        sums.0 -= price;
        sums.1 += if !came {
            price
        } else if lower {
            price / 2
        } else {
            0
        };
    }

    /// What has come home of a line without being freed by a core.
    fn lapsed(&self, key: LineKey) -> i64 {
        self.held.get(&key).map_or(0, |sums| sums.1)
    }

    fn delivered(&mut self, core: usize, arrived: bool) {
        let price = self.plan.price;
        let state = &mut self.cores[core];
        let Some(key) = state.flying.pop_front() else { return };
        let Some(line) = state.lines.get_mut(&key) else { return self.wrong("a line is gone before its deliveries") };
        line.flying -= 1;
        line.dirty = true;
        if !arrived {
            line.freed += price;
            state.frames.push((key, 0, price));
        }
    }

    fn report(&mut self, core: usize) {
        let (now, price) = (self.now_ns, Money(self.plan.price));
        let state = &mut self.cores[core];
        for account in state.unknown.drain(..) {
            self.server.from_core(core, CoreReport::Unknown { account, price }, now);
        }
        let mut gone = Vec::new();
        for (key, line) in &mut state.lines {
            let kept = !line.stop && !line.recall;
            if !kept {
                line.want = line.granted;
                line.returned += line.free();
                (line.recall, line.dirty) = (false, true);
            }
            let last = line.stop && line.flying == 0;
            if kept && line.dirty && line.free() < self.plan.ahead {
                line.want = line.want.max(line.granted + 2 * self.plan.ahead - line.free());
            }
            if !std::mem::take(&mut line.dirty) && !last {
                continue;
            }
            let said = CoreLine {
                line: *key,
                granted: Money(line.granted),
                charged: Money(line.charged),
                freed: Money(line.freed),
                returned: Money(line.returned),
                want: Money(line.want),
                price: if line.want > line.granted { price } else { Money(0) },
                last,
            };
            self.server.from_core(core, CoreReport::Line(said), now);
            if last {
                gone.push(*key);
            }
        }
        for key in gone {
            state.lines.remove(&key);
        }
        let frame_seq = state.frames.len() as u64;
        self.server.from_core(core, CoreReport::End { frame_seq }, now);
    }

    fn grants(&mut self, core: usize) {
        let state = &mut self.cores[core];
        while state.ring.len() < self.plan.ring {
            let Some(grant) = self.server.to_core(core) else { break };
            state.ring.push_back(grant);
        }
        for grant in state.ring.drain(..) {
            if grant.line.account == AccountId::NONE {
                state.dead = true;
                continue;
            }
            let line = state.lines.entry(grant.line).or_default();
            line.granted = grant.granted.0;
            (line.from_ns, line.until_ns) = (grant.from_ns, grant.until_ns);
            line.stop |= grant.stop;
            line.recall |= grant.recall;
            line.dirty |= grant.stop || grant.recall;
        }
    }

    /// The granter: durable at once, so that an ask that comes again finds its answer.
    fn answer(&mut self, ask: &Ask) -> Option<Reply> {
        let reply = Reply { node: ask.node, epoch: ask.epoch, req: ask.req, ..Reply::default() };
        if self.granter.fenced {
            return Some(Reply { fenced: true, ..reply });
        }
        if ask.req < self.granter.last_req {
            return None;
        }
        let again = ask.req == self.granter.last_req;
        self.granter.last_req = ask.req;
        if again {
            return Some(Reply { lines: self.answer_again(), ..reply });
        }
        if let Some(cut) = &ask.cut {
            self.take_cut(cut);
        }
        let running = self.running();
        let mut lines: BTreeMap<LineKey, Granted> = BTreeMap::new();
        for said in &ask.lines {
            let line = self.granter.lines.entry(said.line).or_default();
            if line.granted != said.granted.0 {
                self.wrong("the server believes in another grant");
                continue;
            }
            if said.returned.0 < line.returned || said.returned.0 > line.granted {
                self.wrong("returned too little or too much");
                continue;
            }
            line.returned = said.returned.0;
            if said.closed.is_some() {
                self.closed.insert(said.line.account.0);
            }
            let line = self.granter.lines.entry(said.line).or_default();
            let is_out = line.granted - line.returned;
            if said.closed.is_some_and(|spent| spent.0 != is_out) {
                self.wrong("closed with a sum that does not come out");
            }
            if said.closed.is_some() && self.held.get(&said.line).is_some_and(|sums| sums.0 > 0) {
                self.wrong("closed while a notice may come");
            }
            if said.closed.is_some() && is_out != self.really_spent(said.line) {
                self.wrong("closed before the last delivery was known");
            }
            lines.insert(said.line, self.grant(said.line, said.want.0));
            self.ahead(said.line.account, &mut lines);
        }
        for first in &ask.first {
            let key = LineKey { account: first.account, period: running };
            let known = self.granter.lines.get(&key).cloned();
            let stop = Granted {
                line: key,
                granted: Money(known.as_ref().map_or(0, |l| l.granted)),
                stop: true,
                ..Granted::default()
            };
            let granted = if known.is_some() { stop } else { self.grant(key, first.want.0) };
            // What was said of a line stands: the granter names no window that the asker has spoken of.
            lines.entry(key).or_insert(granted);
            self.ahead(first.account, &mut lines);
        }
        self.granter.named = lines.keys().copied().collect();
        Some(Reply { lines: lines.into_values().collect(), ..reply })
    }

    /// From the lines as they are: nothing is granted, times are fresh. The same lines are named: one whose window is over by
    /// now would be stranded if it were not, and one that the server has forgotten would be taken for new.
    fn answer_again(&mut self) -> Vec<Granted> {
        let named = self.granter.named.clone();
        named.into_iter().map(|key| self.grant(key, 0)).collect()
    }

    /// The window that comes next, when it is near.
    fn ahead(&mut self, account: AccountId, lines: &mut BTreeMap<LineKey, Granted>) {
        let running = self.running();
        let next = LineKey { account, period: Period(running.0 + 1) };
        if self.window(running).1 <= self.granter_now() + KEPT_NS
            && !lines.contains_key(&next)
            && self.granter.paused == 0
        {
            let has = self.granter.lines.get(&next).map_or(0, |l| l.granted);
            let granted = self.grant(next, has.max(self.plan.price));
            lines.insert(next, granted);
        }
    }

    fn grant(&mut self, key: LineKey, want: i64) -> Granted {
        let now = self.granter_now();
        let (begins, ends) = self.window(key.period);
        let stop = now >= ends || self.granter.paused & 1 << key.account.0 != 0;
        let line = self.granter.lines.entry(key).or_default();
        let left = self.plan.budget - (line.granted - line.returned);
        if stop {
            return Granted { line: key, granted: Money(line.granted), stop, ..Granted::default() };
        }
        line.granted += (want - line.granted).clamp(0, left);
        let usable_ms = USABLE_MS.min((ends - now) / MS);
        line.kept_ns = line.kept_ns.max(ends.min(now + KEPT_NS));
        Granted {
            line: key,
            granted: Money(line.granted),
            usable_ms,
            wait_ms: begins.saturating_sub(now).div_ceil(MS),
            stop: false,
            left: Money(self.plan.budget - (line.granted - line.returned)),
        }
    }

    fn take_cut(&mut self, cut: &Cut) {
        for (key, charged, freed) in &cut.spent {
            let line = self.granter.lines.entry(*key).or_default();
            line.cut = (charged.0, freed.0);
            if charged.0 - freed.0 > line.granted {
                self.wrong = self.wrong.or(Some("more was charged than granted"));
            }
        }
        self.granter.frames.clone_from(&cut.frames);
        // Exactly the frames up to there, of every line.
        let mut sums: BTreeMap<LineKey, (i64, i64)> = BTreeMap::new();
        for (core, seq) in cut.frames.iter().enumerate() {
            for (key, charged, freed) in &self.cores[core].frames[..*seq as usize] {
                let sum = sums.entry(*key).or_default();
                *sum = (sum.0 + charged, sum.1 + freed);
            }
        }
        for (key, line) in &self.granter.lines {
            if line.cut != sums.get(key).copied().unwrap_or_default() {
                self.wrong = self.wrong.or(Some("a cut is not what the frames say"));
            }
        }
    }

    /// If everything died now: is the last cut, with what the frames behind it say, what was spent?
    fn record_settles(&self) -> bool {
        let behind = |key: LineKey| -> i64 {
            let frames = self.cores.iter().zip(&self.granter.frames).flat_map(|(c, q)| &c.frames[*q as usize..]);
            frames.filter(|f| f.0 == key).map(|(_, charged, freed)| charged - freed).sum::<i64>() - self.lapsed(key)
        };
        self.granter.lines.iter().all(|(key, l)| l.cut.0 - l.cut.1 + behind(*key) == self.really_spent(*key))
    }

    /// Charged, and neither freed nor lapsed, as the record has it.
    fn really_spent(&self, key: LineKey) -> i64 {
        let frames = self.cores.iter().flat_map(|c| &c.frames).filter(|f| f.0 == key);
        frames.map(|(_, charged, freed)| charged - freed).sum::<i64>() - self.lapsed(key)
    }

    /// Everything that must hold at any moment.
    fn check(&mut self) {
        let mut at_cores: BTreeMap<LineKey, i64> = BTreeMap::new();
        for core in &self.cores {
            for (key, line) in &core.lines {
                *at_cores.entry(*key).or_default() += line.free();
                if line.free() < 0 {
                    self.wrong = self.wrong.or(Some("a core spent more than it had"));
                }
            }
        }
        let keys: Vec<LineKey> = at_cores.keys().chain(self.granter.lines.keys()).copied().collect();
        for key in keys {
            let line = self.granter.lines.get(&key).cloned().unwrap_or_default();
            let out = at_cores.get(&key).copied().unwrap_or(0) + self.really_spent(key);
            if out > line.granted - line.returned {
                self.wrong("more is at cores or spent than was granted");
            }
            if line.granted - line.returned > self.plan.budget {
                self.wrong("more is out than the budget");
            }
        }
        if !self.record_settles() {
            self.wrong("the last cut and the frames behind it are not what was spent");
        }
        if self.server.violation().is_some() {
            self.wrong("the server found its books wrong");
        }
    }

    /// Without losses, until nothing changes any more: everything told to stop has gone home.
    pub(super) fn settle(&mut self) {
        for _ in 0..40 {
            for core in 0..self.plan.cores {
                for _ in 0..self.cores[core].flying.len() {
                    self.step(Op::Delivered { core, arrived: true });
                }
                self.step(Op::Grants { core });
                self.step(Op::Report { core });
            }
            self.step(Op::Tell);
            while !self.tells.is_empty() {
                self.step(Op::Told);
            }
            self.step(Op::Turn);
            while !self.asks.is_empty() {
                self.step(Op::Ask { lost: false, again: false });
            }
            while !self.replies.is_empty() {
                self.step(Op::Reply { lost: false, again: false });
            }
            self.step(Op::Wait { ms: 500 });
        }
    }

    /// After a stop: nothing is out but what was spent, every line is closed, and the last cut says all of it.
    pub(super) fn assert_home(&self) {
        assert!(self.server.is_done(), "{:#?}", self.server);
        for (key, line) in &self.granter.lines {
            let spent = self.really_spent(*key);
            assert_eq!(line.granted - line.returned, spent, "{key:?} {line:?}");
            assert_eq!(line.cut.0 - line.cut.1 - self.lapsed(*key), spent, "{key:?} {line:?}");
        }
    }

    /// Were all lines of this account closed, as far as the granter has heard?
    pub(super) fn is_closed(&self, account: u32) -> bool {
        self.closed.contains(&account)
    }

    /// Answers on their way at a core.
    pub(super) fn flying(&self, core: usize) -> bool {
        !self.cores[core].flying.is_empty()
    }

    /// Has this core been told that the server is dead?
    pub(super) fn is_dead(&self, core: usize) -> bool {
        self.cores[core].dead
    }

    /// What could still be spent: at cores.
    pub(super) fn at_cores(&self) -> i64 {
        self.cores.iter().flat_map(|c| c.lines.values()).map(TinyLine::free).sum()
    }
}
