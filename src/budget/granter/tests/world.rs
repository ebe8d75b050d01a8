//! A granter, its store, machines that spend, a network that loses, repeats and reorders; and what is true of all that,
//! whatever the granter believes.
use super::*;
use crate::budget::{
    granter::{End, Fault, HolderId, LineId, settle::Final},
    messages::Cut,
};

/// One step. What cannot be done now is not done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Op {
    /// A machine that awaits no answer asks, to have `hand` of an account.
    Ask {
        node: u32,
        account: u32,
        hand: i64,
        cut: bool,
    },
    /// Its ask is sent again.
    Resend(u32),
    /// A message arrives: asks first, then replies.
    Deliver(usize),
    /// It arrives, and will again.
    Repeat(usize),
    Lose(usize),
    /// What the granter changed is durable, its replies leave.
    Commit,
    CrashGranter,
    Spend {
        node: u32,
        account: u32,
        amount: i64,
    },
    /// An answer was not delivered.
    Free {
        node: u32,
        account: u32,
        amount: i64,
    },
    /// Reserved for a notice.
    Hold {
        node: u32,
        account: u32,
        amount: i64,
    },
    /// The notice came, or expired.
    Unhold {
        node: u32,
        account: u32,
        charge: bool,
    },
    GiveBack {
        node: u32,
        account: u32,
        amount: i64,
    },
    /// The process dies and starts again; with the power, the end of its record is lost.
    Kill {
        node: u32,
        power: bool,
    },
    /// A machine reads the record of its older starts.
    Settle(u32),
    /// A notice for a dead start of a machine came, or expired.
    LateNotice {
        node: u32,
        charge: bool,
    },
    Pass(u64),
    Tidy,
    Limit {
        account: u32,
        span: Span,
        to: i64,
    },
}

/// A record: what each frame charged and freed.
type Frames = Vec<(LineKey, i64, i64)>;

/// What a machine knows of a line.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Own {
    granted: i64,
    returned: i64,
    charged: i64,
    freed: i64,
    held: i64,
    from_ms: u64,
    until_ms: u64,
    stop: bool,
    closed: bool,
}

impl Own {
    fn spent(&self) -> i64 {
        self.charged - self.freed
    }
    fn free(&self) -> i64 {
        self.granted - self.returned - self.spent() - self.held
    }
}

/// A start of a machine. It spends as its lines allow, and records what it does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Start {
    id: HolderId,
    alive: bool,
    /// Its record lacks its end.
    torn: bool,
    req: u64,
    asked: Option<(Ask, u64)>,
    lines: BTreeMap<LineKey, Own>,
    frames: Frames,
    /// The most that was wanted of an account in one line.
    wanted: BTreeMap<u32, i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    pub(super) accounts: Small,
    pub(super) granter: Granter,
    store: MemoryStore,
    ms: u64,
    asks: Vec<Ask>,
    replies: Vec<Reply>,
    /// Their changes are not durable.
    unsent: Vec<Reply>,
    starts: Vec<Start>,
    /// What each limit was at most.
    ceilings: BTreeMap<(u32, Span), i64>,
    planted: Option<Fault>,
}

impl World {
    pub(super) fn new(accounts: Small, nodes: u32, planted: Option<Fault>) -> World {
        let mut world = World {
            ceilings: accounts.limits.clone(),
            accounts,
            granter: Granter::load([], at(0)).unwrap(),
            store: MemoryStore::default(),
            ms: 0,
            asks: vec![],
            replies: vec![],
            unsent: vec![],
            starts: vec![],
            planted,
        };
        world.plant();
        (1..=nodes).for_each(|node| world.start(node, 1));
        world
    }

    fn plant(&mut self) {
        if let Some(fault) = self.planted {
            self.granter.plant(fault);
        }
    }

    fn start(&mut self, node: u32, epoch: u32) {
        self.starts.push(Start {
            id: HolderId { node, epoch },
            alive: true,
            torn: false,
            req: 0,
            asked: None,
            lines: BTreeMap::new(),
            frames: vec![],
            wanted: BTreeMap::new(),
        });
    }

    pub(super) fn now(&self) -> Now {
        at(self.ms)
    }

    pub(super) fn messages(&self) -> usize {
        self.asks.len() + self.replies.len()
    }

    /// Is an ask of a machine, or its reply, still on its way?
    pub(super) fn is_under_way(&self, node: u32) -> bool {
        let Some((asked, _)) = self.starts.iter().find(|s| s.alive && s.id.node == node).and_then(|s| s.asked.as_ref())
        else {
            return true;
        };
        let answers = |r: &Reply| (r.node, r.epoch, r.req) == (asked.node, asked.epoch, asked.req);
        self.asks.contains(asked) || self.replies.iter().chain(&self.unsent).any(answers)
    }

    /// What all machines have spent.
    pub(super) fn spent(&self) -> i64 {
        self.starts.iter().flat_map(|s| s.lines.values()).map(Own::spent).sum()
    }

    pub(super) fn is_uncommitted(&self) -> bool {
        self.granter.has_changes() || !self.unsent.is_empty()
    }

    fn alive(&mut self, node: u32) -> &mut Start {
        self.starts.iter_mut().find(|s| s.alive && s.id.node == node).expect("a machine always runs")
    }

    /// A line of an account that may be used now and has this much free.
    fn usable(&mut self, node: u32, account: u32, free: i64) -> Option<(&mut Own, &mut Frames, LineKey)> {
        let ms = self.ms;
        let Start { lines, frames, .. } = self.alive(node);
        let usable = |own: &Own| !own.stop && (own.from_ms..own.until_ms).contains(&ms) && own.free() >= free;
        let (key, own) = lines.iter_mut().find(|(key, own)| key.account.0 == account && usable(own))?;
        Some((own, frames, *key))
    }

    /// Does it; `false` if that cannot be done now.
    pub(super) fn apply(&mut self, op: Op) -> bool {
        match op {
            Op::Ask { node, account, hand, cut } => self.ask(node, account, hand, cut),
            Op::Resend(node) => match self.alive(node).asked.clone() {
                Some((ask, _)) => {
                    self.asks.push(ask);
                    true
                }
                None => false,
            },
            Op::Deliver(at) => self.message(at, true, false),
            Op::Repeat(at) => self.message(at, true, true),
            Op::Lose(at) => self.message(at, false, false),
            Op::Commit => {
                let any = self.is_uncommitted();
                let Ok(()) = self.store.commit(&self.granter.changes());
                self.replies.append(&mut self.unsent);
                any
            }
            Op::CrashGranter => {
                self.store.crash();
                self.unsent.clear();
                self.granter = load(&self.store, self.now()).expect("what was committed adds up");
                self.plant();
                true
            }
            Op::Spend { node, account, amount } => {
                let Some((own, frames, key)) = self.usable(node, account, amount) else { return false };
                own.charged += amount;
                frames.push((key, amount, 0));
                true
            }
            Op::Free { node, account, amount } => {
                let Start { lines, frames, .. } = self.alive(node);
                let spent = |own: &Own| !own.closed && own.spent() >= amount;
                let Some((key, own)) = lines.iter_mut().find(|(k, own)| k.account.0 == account && spent(own)) else {
                    return false;
                };
                own.freed += amount;
                frames.push((*key, 0, amount));
                true
            }
            Op::Hold { node, account, amount } => {
                let Some((own, ..)) = self.usable(node, account, amount) else { return false };
                own.held += amount;
                true
            }
            Op::Unhold { node, account, charge } => {
                let Start { lines, frames, .. } = self.alive(node);
                let held = lines.iter_mut().find(|(key, own)| key.account.0 == account && own.held > 0);
                held.is_some_and(|(key, own)| unhold(*key, own, frames, charge))
            }
            Op::GiveBack { node, account, amount } => {
                let Start { lines, .. } = self.alive(node);
                let free = |own: &Own| own.free() >= amount;
                let Some((_, own)) = lines.iter_mut().find(|(k, own)| k.account.0 == account && free(own)) else {
                    return false;
                };
                own.returned += amount;
                true
            }
            Op::Kill { node, power } => {
                let start = self.alive(node);
                start.alive = false;
                start.torn = power;
                let epoch = start.id.epoch + 1;
                self.start(node, epoch);
                true
            }
            Op::Settle(node) => self.settle(node),
            Op::LateNotice { node, charge } => {
                let dead = self.starts.iter_mut().filter(|s| !s.alive && !s.torn && s.id.node == node);
                for Start { lines, frames, .. } in dead {
                    if let Some((key, own)) = lines.iter_mut().find(|(_, own)| own.held > 0) {
                        return unhold(*key, own, frames, charge);
                    }
                }
                false
            }
            Op::Pass(ms) => {
                self.ms += ms;
                true
            }
            Op::Tidy => {
                self.granter.tidy(&self.accounts, at(self.ms), 100);
                true
            }
            Op::Limit { account, span, to } => {
                self.accounts.limits.insert((account, span), to);
                let most = self.ceilings.entry((account, span)).or_default();
                *most = (*most).max(to);
                true
            }
        }
    }

    fn ask(&mut self, node: u32, account: u32, hand: i64, with_cut: bool) -> bool {
        let ms = self.ms;
        let start = self.alive(node);
        if start.asked.is_some() {
            return false;
        }
        start.req += 1;
        let id = start.id;
        let mut ask = Ask { node: id.node, epoch: id.epoch, req: start.req, ..Ask::default() };
        let goes_on = |own: &Own| !own.stop && !own.closed;
        let going = start.lines.iter().any(|(key, own)| key.account.0 == account && goes_on(own));
        let rested = start.lines.iter().rfind(|(key, own)| key.account.0 == account && own.closed && !own.stop);
        let resumed = rested.map(|(key, _)| *key).filter(|_| !going);
        for (key, own) in &mut start.lines {
            if own.closed && resumed != Some(*key) {
                continue;
            }
            // Over or paused: all comes back, but for what waits for notices.
            let over = own.stop && !own.closed;
            if over {
                own.returned += own.free();
                own.closed = own.held == 0;
            }
            let wants = key.account.0 == account && !over;
            let want = if wants { own.returned + own.spent() + own.held + hand } else { own.granted };
            ask.lines.push(AskLine {
                line: *key,
                granted: Money(own.granted),
                returned: Money(own.returned),
                held: Money(own.held),
                want: Money(want),
                price: Money(1),
                closed: (over && own.closed).then_some(Money(own.spent())),
            });
            let most = start.wanted.entry(key.account.0).or_default();
            *most = (*most).max(want);
        }
        if !going && resumed.is_none() {
            ask.first.push(FirstTouch { account: AccountId(account), want: Money(hand), price: Money(1) });
            let most = start.wanted.entry(account).or_default();
            *most = (*most).max(hand);
        }
        if with_cut {
            let spent = start.lines.iter().map(|(key, own)| (*key, Money(own.charged), Money(own.freed)));
            ask.cut = Some(Cut { frames: vec![start.frames.len() as u64], spent: spent.collect() });
        }
        start.asked = Some((ask.clone(), ms));
        self.asks.push(ask);
        true
    }

    fn message(&mut self, at: usize, arrives: bool, stays: bool) -> bool {
        if at < self.asks.len() {
            let ask = if stays { self.asks[at].clone() } else { self.asks.remove(at) };
            if arrives {
                let reply = self.granter.ask(&self.accounts, &ask, self.now());
                let durable = self.planted != Some(Fault::GrantBeforeDurable);
                if durable { &mut self.unsent } else { &mut self.replies }.push(reply);
            }
            return true;
        }
        let at = at - self.asks.len();
        if at >= self.replies.len() {
            return false;
        }
        let reply = if stays { self.replies[at].clone() } else { self.replies.remove(at) };
        if arrives {
            self.hear(&reply);
        }
        true
    }

    fn hear(&mut self, reply: &Reply) {
        let ms = self.ms;
        let start = self.alive(reply.node);
        let awaited = start.asked.as_ref().filter(|(ask, _)| ask.req == reply.req && ask.epoch == reply.epoch);
        let Some((_, asked_ms)) = awaited.cloned() else { return };
        start.asked = None;
        for said in &reply.lines {
            if said.granted == Money(0) && !start.lines.contains_key(&said.line) {
                continue;
            }
            let own =
                start.lines.entry(said.line).or_insert_with(|| Own { from_ms: ms + said.wait_ms, ..Own::default() });
            own.closed &= said.granted.0 <= own.granted;
            own.granted = own.granted.max(said.granted.0);
            own.stop = said.stop;
            own.from_ms = own.from_ms.min(ms + said.wait_ms);
            own.until_ms = if said.stop { 0 } else { own.until_ms.max(asked_ms + said.usable_ms) };
        }
    }

    fn settle(&mut self, node: u32) -> bool {
        let epoch = self.alive(node).id.epoch;
        let mut any = false;
        for epoch in self.granter.unsettled(node, epoch) {
            let holder = HolderId { node, epoch };
            let from = self.granter.recover_from(holder);
            let Some(start) = self.starts.iter().find(|s| s.id == holder) else { continue };
            let seen = from.frames.first().map_or(0, |n| *n as usize);
            let finals: Vec<Final> = from
                .lines
                .iter()
                .map(|(line, charged, freed)| {
                    let after = start.frames[seen..].iter().filter(|(key, ..)| key == line);
                    let (c, f) = after.fold((0, 0), |(c, f), (_, charged, freed)| (c + charged, f + freed));
                    let held = Money(start.lines.get(line).map_or(0, |own| own.held));
                    Final { line: *line, charged: Money(charged.0 + c), freed: Money(freed.0 + f), held }
                })
                .collect();
            any |= self.granter.settle(holder, &finals, !start.torn).lines > 0;
        }
        any
    }

    /// Everything comes to rest: all messages arrive, all machines end, all records are read.
    pub(super) fn come_to_rest(&mut self) {
        self.apply(Op::Commit);
        while self.messages() > 0 {
            self.apply(Op::Deliver(0));
            self.apply(Op::Commit);
        }
        let nodes: Vec<u32> = self.starts.iter().filter(|s| s.alive).map(|s| s.id.node).collect();
        for node in nodes {
            self.apply(Op::Kill { node, power: false });
            while self.apply(Op::LateNotice { node, charge: true }) {}
            self.apply(Op::Settle(node));
        }
        self.apply(Op::Commit);
    }

    // --- what is true --------------------------------------------------------------------------------

    /// # Errors
    /// What is not.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(violation) = self.granter.violations.first() {
            return Err(format!("nobody lied, and yet: {violation}"));
        }
        let totals = self.granter.audit(self.now().boot_ns).map_err(|v| v.to_string())?;
        if !totals.conserved() {
            return Err(format!("{totals:?}"));
        }
        let mut sums: BTreeMap<BucketKey, (i64, i64)> = BTreeMap::new();
        for start in &self.starts {
            for (key, own) in &start.lines {
                let id = LineId { key: *key, holder: start.id };
                self.check_line(start, id, own).map_err(|why| format!("{id}: {why}; {own:?}"))?;
                let window = self.accounts.window(key.account, key.period.starts_ms()).ok_or("no window")?;
                // What it may still spend or has spent.
                let settled = |line: super::super::Line| line.end != End::Open || line.returned.0 > own.returned;
                let out = if self.granter.line_of(id).is_none_or(settled) {
                    own.spent() + own.held
                } else {
                    own.granted - own.returned
                };
                for bucket in window.buckets.iter() {
                    let sum = sums.entry(*bucket).or_default();
                    *sum = (sum.0 + own.spent(), sum.1 + out);
                }
            }
        }
        for (key, (spent, out)) in sums {
            if let Some(ceiling) = self.ceilings.get(&(key.account.0, key.span)).filter(|c| **c < spent) {
                return Err(format!("overspent: {key:?}: {spent} of {ceiling}"));
            }
            let committed = self.granter.bucket(&key).map_or(0, |row| row.committed.0);
            if committed < out {
                return Err(format!("{key:?}: {out} out or spent, {committed} committed"));
            }
        }
        Ok(())
    }

    fn check_line(&self, start: &Start, id: LineId, own: &Own) -> Result<(), String> {
        let Some(line) = self.granter.line_of(id) else {
            let over = self.granter.is_archived(id.key);
            return if over { Ok(()) } else { Err("the granter knows nothing of it".into()) };
        };
        let most = start.wanted.get(&id.key.account.0).copied().unwrap_or(0);
        let stays = own.spent() + own.held;
        if line.granted.0 < own.granted {
            return Err(format!("granted {}", line.granted));
        }
        if line.granted.0 > most {
            return Err(format!("granted {}, no more than {most} was wanted", line.granted));
        }
        let fits = match line.end {
            End::Open if start.alive => line.returned.0 <= own.returned && stays <= line.out().0,
            End::Open | End::Forfeit => stays <= line.out().0,
            End::Closed | End::Proven => stays == line.out().0,
        };
        if fits { Ok(()) } else { Err(format!("{line:?}")) }
    }

    /// What must be true at rest: everything is accounted for.
    ///
    /// # Errors
    /// What is not.
    pub(super) fn check_rest(&self) -> Result<(), String> {
        self.check()?;
        let totals = self.granter.totals(self.now().boot_ns);
        let out = totals.held.0 + totals.leased.0 + totals.quarantined.0;
        if out != 0 { Err(format!("still out: {totals:?}")) } else { Ok(()) }
    }
}

fn unhold(key: LineKey, own: &mut Own, frames: &mut Frames, charge: bool) -> bool {
    own.held -= 1;
    if charge {
        own.charged += 1;
        frames.push((key, 1, 0));
    }
    true
}
