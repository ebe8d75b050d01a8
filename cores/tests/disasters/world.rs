//! One granter, some servers, a network, and everything that can happen to them, in virtual time.
//! Owns: all of it, and the truth. Called by: the runs. Never: helps production code with anything it could not know.
#[path = "noticing.rs"]
mod noticing;

use super::{
    flush::{Flush, Notice},
    ledger::{Fate, Ledger},
    plan::{Plan, Planted, SECOND, Trouble, ZONES},
    start::{Ended, Frame, Offered, Start, add},
    truth::{Sum, Truth},
};
use outcry::{
    budget::{
        AccountId, LineKey,
        granter::{End, HolderId, LineId, settle::Final},
        manage::{Act, Changes, Known, Operation, apply},
        messages::{Ask, Reply},
        movement::By,
        tree::{State, Tree},
        window::{BucketKey, Span},
    },
    config::{self, Config},
    notice::holds::Of,
    units::Money,
};
use outcry_cores::{lab::rng::Rng, money::recover};
use std::{collections::BTreeMap, sync::OnceLock};

enum Message {
    Ask(Ask),
    Reply(Reply),
}

/// What a dead start left behind.
struct Record {
    frames: Vec<Vec<Frame>>,
    complete: bool,
}

struct Node {
    id: u32,
    epoch: u32,
    /// The last is the one that should run; one before it does not know that it is over.
    starts: Vec<Start>,
    dead: BTreeMap<u32, Record>,
    down_until: u64,
    settle_at: u64,
    clock: (i64, i64),
    flush: Flush,
}

/// What became of a campaign's day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) spent: i64,
    /// Could still have been spent, and bids for it had been refused.
    pub(crate) stranded: i64,
    pub(crate) budget: i64,
    /// How often something went wrong in this world: [`Plan::trouble`].
    pub(crate) trouble: u32,
    /// The world was made to show this.
    pub(crate) market: bool,
}

#[derive(Default)]
struct Demand {
    since: u64,
    now: i64,
    before: i64,
}

pub(crate) struct World {
    plan: Plan,
    r: Rng,
    at: u64,
    pub(crate) ledger: Ledger,
    pub(crate) truth: Truth,
    nodes: Vec<Node>,
    net: Vec<(u64, Message)>,
    /// Notices on their way: when, to which node.
    notices: Vec<(u64, u32, Notice)>,
    /// Names of wins that wait for one.
    won: u64,
    /// The wall clock of everybody but the granter at world time zero.
    wall_ms: u64,
    names: Vec<String>,
    ids: Vec<AccountId>,
    demand: Vec<Demand>,
    changed_at: Vec<u64>,
    tidied: u64,
    measured: u64,
    calm: bool,
    out: bool,
    /// By kind: how often it came, and how often of that while money was out.
    pub(crate) fired: BTreeMap<Trouble, (u64, u64)>,
    pub(crate) outcomes: Vec<Outcome>,
    /// What is committed and was never spent, since no record proves it.
    forfeit: BTreeMap<BucketKey, i64>,
    pub(crate) trace: Vec<(u64, String)>,
    tracing: bool,
}

/// Demand is told by halves of this.
const LATE: u64 = 30 * SECOND;

fn configured() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let text = "[rates]\nid = \"t\"\n[[dsp]]\nname = \"north\"\nurl = \"http://127.0.0.1:1/\"\n";
    CONFIG.get_or_init(|| config::load(text, 1).unwrap_or_else(|e| panic!("{e:?}")))
}

/// Zones take long to work out, so each is once.
fn zones() -> Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    let all = || {
        let mut tree = Tree::default();
        ZONES.iter().for_each(|(name, _)| drop(tree.zones().get(name)));
        tree
    };
    TREE.get_or_init(all).clone()
}

/// What a clock says: long enough since its zero that none goes wrong by as much.
fn boot(r: &mut Rng) -> i64 {
    r.between(1 << 40, 1 << 41) as i64
}

fn operation(account: &str, act: Act) -> Operation {
    Operation { account: account.into(), act, currency: None, who: "ops".into(), by: By::Admin }
}

impl World {
    pub(crate) fn new(plan: &Plan, tracing: bool) -> World {
        let mut r = Rng::new(plan.seed ^ 0x9e37);
        let (zone, minute) = ZONES[plan.zone];
        let wall_ms = (u64::from(minute) - plan.before) * 60_000 + r.below(60_000);
        let mut tree = zones();
        let known = Known { rates: &configured().rates, dsps: &configured().dsps, now_ms: wall_ms };
        let day = plan.bids * plan.price;
        let of_advertiser =
            day * u64::from(plan.campaigns) / u64::from(plan.advertisers) * plan.advertiser_part / 1_000;
        let some_zone = |r: &mut Rng| Some(if r.chance(700) { zone } else { ZONES[r.below(7) as usize].0 }.to_owned());
        let limits = |r: &mut Rng, daily: u64| Changes {
            daily: Some(Money(daily as i64)),
            hourly: r.chance(200).then_some(Some(Money((daily / 2) as i64))),
            lifetime: r.chance(200).then_some(Some(Money((daily + daily / 2) as i64))),
            zone: some_zone(r),
            pacing: None,
        };
        for n in 0..plan.advertisers {
            let act = Act::AddAdvertiser(limits(&mut r, of_advertiser.max(1)));
            apply(&mut tree, &operation(&format!("a{n}"), act), &known).expect("a new advertiser");
        }
        let names: Vec<String> = (0..plan.campaigns).map(|n| format!("c{n}")).collect();
        for name in &names {
            let act = Act::AddCampaign {
                advertiser: format!("a{}", r.below(plan.advertisers.into())),
                dsp: "north".into(),
                seat: String::new(),
                cid: name.clone(),
                changes: limits(&mut r, day),
            };
            apply(&mut tree, &operation(name, act), &known).expect("a new campaign");
        }
        let ids = names.iter().map(|n| tree.named(n).expect("it was added").id).collect();
        let mut world = World {
            ledger: Ledger::new(plan, tree, wall_ms),
            truth: Truth::default(),
            nodes: vec![],
            net: vec![],
            notices: vec![],
            won: 0,
            wall_ms,
            demand: names.iter().map(|_| Demand::default()).collect(),
            changed_at: names.iter().map(|_| 0).collect(),
            names,
            ids,
            at: 0,
            tidied: 0,
            measured: 0,
            calm: false,
            out: false,
            fired: BTreeMap::new(),
            outcomes: vec![],
            forfeit: BTreeMap::new(),
            trace: vec![],
            tracing,
            r,
            plan: plan.clone(),
        };
        for id in 1..=plan.servers {
            let clock = (boot(&mut world.r), world.r.below(201) as i64 - 100);
            let mut node = Node {
                id,
                epoch: 0,
                starts: vec![],
                dead: BTreeMap::new(),
                down_until: 0,
                settle_at: 0,
                clock,
                flush: Flush::default(),
            };
            world.begin(&mut node);
            world.nodes.push(node);
        }
        world
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.tracing {
            self.trace.push((self.at, what()));
        }
    }

    /// Does it come now? `scale`: how much more often than once in a step.
    fn comes(&mut self, trouble: Trouble, scale: u64) -> bool {
        let drawn = self.r.below(100_000) < u64::from(self.plan.trouble) * scale;
        let comes = drawn && !self.calm && self.plan.may(trouble);
        if comes {
            self.count(trouble);
        }
        comes
    }

    fn count(&mut self, trouble: Trouble) {
        let fired = self.fired.entry(trouble).or_default();
        fired.0 += 1;
        fired.1 += u64::from(self.out);
        self.note(|| trouble.name().to_owned());
    }

    fn begin(&mut self, node: &mut Node) {
        if self.plan.awaited > 0 {
            let left = node.dead.get(&node.epoch).map_or(&[][..], |record| &record.frames);
            node.flush.begin(node.epoch + 1, left, &self.plan, self.node_now(node.clock));
        }
        node.epoch += 1;
        let id = HolderId { node: node.id, epoch: node.epoch };
        node.starts.push(Start::new(&self.plan, id, &self.ledger.tree, node.clock, self.at));
        let late = node.epoch > 1 && !self.calm && self.plan.may(Trouble::SettledLate) && self.r.chance(300);
        if late {
            self.count(Trouble::SettledLate);
        }
        node.settle_at = self.at + if late { self.r.below(40 * SECOND) } else { 0 };
        self.note(|| format!("{id:?} begins"));
    }

    // --- one step ------------------------------------------------------------------------------------

    pub(crate) fn step(&mut self) -> Result<(), String> {
        let ms = self.r.between(1, self.plan.step_ms);
        self.at += ms * 1_000_000 + self.r.below(1_000_000);
        if self.comes(Trouble::Pause, 1) {
            self.at += self.r.between(10, 500) * 60 * SECOND;
        }
        self.operate()?;
        self.granter()?;
        let wall_ms = self.ledger.wall_ms(self.at);
        self.truth.wall_ms = (!self.plan.may(Trouble::WallJump)).then_some(wall_ms);
        self.truth.expire(&self.ledger.tree, self.wall_s())?;
        for n in 0..self.nodes.len() {
            self.turn(n)?;
        }
        self.notices()?;
        self.network()?;
        self.measure(false);
        let small = self.plan.campaigns <= 4 && !self.plan.market;
        if small || self.r.chance(30) {
            self.check()?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        self.ledger.check(self.at)?;
        self.truth.shrink(&self.ledger.granter);
        let totals = self.ledger.granter.totals(self.ledger.now(self.at).boot_ns);
        self.out = totals.leased.0 + totals.quarantined.0 > 0;
        self.truth.compare(&self.ledger.granter)
    }

    // --- operators, the granter's machine --------------------------------------------------------------

    fn operate(&mut self) -> Result<(), String> {
        let wall_ms = self.ledger.wall_ms(self.at);
        let kinds = [Trouble::Lowered, Trouble::ToppedUp, Trouble::Paused, Trouble::Ended, Trouble::Recut];
        for kind in kinds {
            if !self.comes(kind, 1) || kind == Trouble::Ended && self.r.chance(700) {
                continue;
            }
            let n = self.r.below(self.names.len() as u64) as usize;
            let advertiser = self.r.chance(300);
            let a = self.r.below(self.plan.advertisers.into());
            let name = if advertiser { format!("a{a}") } else { self.names[n].clone() };
            let Some(account) = self.ledger.tree.named(&name).cloned() else { continue };
            let daily = account.daily.0;
            let part = self.r.below(1_000) as i64;
            let set = |changes| Act::Set(changes);
            let to = (i128::from(daily) * i128::from(part) / 1_000) as i64;
            let which = self.r.below(3);
            let zone = ZONES[self.r.below(7) as usize].0.to_owned();
            let act = match (kind, which) {
                (Trouble::Lowered, 0) => set(Changes { lifetime: Some(Some(Money(to))), ..Changes::default() }),
                (Trouble::Lowered, 1) => set(Changes { hourly: Some(Some(Money(to))), ..Changes::default() }),
                (Trouble::Lowered, _) => set(Changes { daily: Some(Money(to)), ..Changes::default() }),
                (Trouble::ToppedUp, 0) if account.lifetime.is_some() => Act::TopUpLifetime(Money(to.max(1))),
                (Trouble::ToppedUp, 1) => set(Changes { daily: Some(Money(daily + to)), ..Changes::default() }),
                (Trouble::ToppedUp, _) => Act::TopUpToday(Money(to.max(1))),
                (Trouble::Ended, _) => Act::End,
                (Trouble::Recut, 0) => set(Changes { zone: Some(zone), ..Changes::default() }),
                (Trouble::Recut, 1) => set(Changes { hourly: Some(None), ..Changes::default() }),
                (Trouble::Recut, _) => set(Changes { hourly: Some(Some(Money(to))), ..Changes::default() }),
                _ if account.state == State::Active => Act::Pause,
                _ => Act::Resume,
            };
            self.note(|| format!("{name} ({:?}): {act:?}", account.id));
            self.truth.before_change(&self.ledger.tree, &self.ledger.granter, account.id, wall_ms);
            let known = Known { rates: &configured().rates, dsps: &configured().dsps, now_ms: wall_ms };
            // Refused: it has ended, or the like.
            let done = apply(&mut self.ledger.tree, &operation(&name, act), &known);
            if done.is_err() {
                continue;
            }
            for (at, id) in self.changed_at.iter_mut().zip(&self.ids) {
                let of = self.ledger.tree.get(*id).map(|c| c.advertiser());
                if *id == account.id || of == Some(account.id) {
                    *at = self.at;
                }
            }
            if self.r.chance(600) {
                self.nodes.iter_mut().flat_map(|n| &mut n.starts).for_each(|s| s.look_again(account.id));
            }
        }
        if self.comes(Trouble::WallJump, 1) {
            let minutes = self.r.below(21) as i64 - 10;
            self.ledger.jump(minutes * 60 * SECOND as i64 + self.r.below(SECOND) as i64);
        }
        Ok(())
    }

    fn granter(&mut self) -> Result<(), String> {
        if self.comes(Trouble::GranterAway, 1) {
            self.ledger.away_until = self.at + self.r.below(60 * SECOND);
        }
        if self.comes(Trouble::GranterPower, 1) {
            self.ledger.restart(self.at, true)?;
        }
        if self.at >= self.tidied + SECOND && self.at >= self.ledger.away_until {
            self.tidied = self.at;
            self.ledger.tidy(self.at)?;
        }
        Ok(())
    }

    // --- messages ------------------------------------------------------------------------------------

    fn send(&mut self, message: Message) {
        let (lost, repeated) = match message {
            Message::Ask(_) => (Trouble::AskLost, Trouble::AskRepeated),
            Message::Reply(_) => (Trouble::ReplyLost, Trouble::ReplyRepeated),
        };
        if self.comes(repeated, 10) {
            let again = match &message {
                Message::Ask(ask) => Message::Ask(ask.clone()),
                Message::Reply(reply) => Message::Reply(reply.clone()),
            };
            self.net.push((self.at + self.r.below(90 * SECOND), again));
        }
        if self.comes(lost, 10) {
            return;
        }
        let delay = if self.comes(Trouble::Delayed, 10) { 30 * SECOND } else { SECOND / 30 };
        self.net.push((self.at + self.r.below(delay), message));
    }

    fn network(&mut self) -> Result<(), String> {
        let mut due = Vec::new();
        let mut i = 0;
        while i < self.net.len() {
            if self.net[i].0 <= self.at {
                due.push(self.net.swap_remove(i).1);
            } else {
                i += 1;
            }
        }
        for message in due {
            match message {
                Message::Ask(ask) => self.hear_ask(&ask)?,
                Message::Reply(reply) => self.hear_reply(reply)?,
            }
        }
        Ok(())
    }

    fn hear_ask(&mut self, ask: &Ask) -> Result<(), String> {
        if self.at < self.ledger.away_until {
            return Ok(());
        }
        let fate = if self.comes(Trouble::GranterForgot, 3) {
            Fate::Forgets
        } else if self.comes(Trouble::GranterSilent, 3) {
            Fate::Silent
        } else {
            Fate::Lives
        };
        self.note(|| format!("heard ({fate:?}): {ask:?}"));
        if let Some(reply) = self.ledger.ask(ask, self.at, fate)? {
            self.note(|| format!("answered: {reply:?}"));
            self.send(Message::Reply(reply));
        }
        Ok(())
    }

    fn hear_reply(&mut self, reply: Reply) -> Result<(), String> {
        let (at, epoch) = (self.at, reply.epoch);
        let Some(n) = self.nodes.iter().position(|n| n.id == reply.node) else { return Ok(()) };
        let Some(s) = self.nodes[n].starts.iter().position(|s| s.id.epoch == epoch) else { return Ok(()) };
        let until = self.nodes[n].starts[s].stands_until;
        if until > at {
            self.net.push((until, Message::Reply(reply)));
            return Ok(());
        }
        let heard = self.nodes[n].starts[s].hear(&reply, at);
        self.after(n, s, heard)
    }

    // --- servers -------------------------------------------------------------------------------------

    /// A start that died at some move is buried.
    fn after(&mut self, n: usize, s: usize, done: Result<(), Ended>) -> Result<(), String> {
        match done {
            Ok(()) => Ok(()),
            Err(Ended::Wrong(wrong)) => Err(wrong),
            Err(Ended::Dead) => {
                self.die(n, s, false);
                Ok(())
            }
        }
    }

    fn die(&mut self, n: usize, s: usize, power: bool) {
        let start = self.nodes[n].starts.remove(s);
        let id = start.id;
        let mut frames = start.into_frames();
        let unread = !power && !self.calm && self.plan.awaited == 0 && self.r.chance(100);
        let torn = power && !self.plan.durable || unread;
        if torn {
            for core in &mut frames {
                let lost = self.r.below(1 + core.len().min(30) as u64) as usize;
                core.truncate(core.len() - lost);
            }
        }
        let complete = !torn || self.plan.planted == Some(Planted::TornTailIgnored);
        self.note(|| format!("{id:?} dies, {}", if complete { "its record is complete" } else { "its record is not" }));
        let node = &mut self.nodes[n];
        node.dead.insert(id.epoch, Record { frames, complete });
        if power {
            // All of it, with its clock.
            node.clock.0 = boot(&mut self.r) - self.at as i64;
        }
        if !self.ledger.granter.unsettled(node.id, id.epoch).is_empty() {
            self.count(Trouble::TwoInARow);
        }
        if self.nodes[n].starts.is_empty() {
            self.nodes[n].down_until = self.at + self.r.below(20 * SECOND);
        }
    }

    fn turn(&mut self, n: usize) -> Result<(), String> {
        if self.nodes[n].starts.is_empty() {
            if self.at >= self.nodes[n].down_until {
                self.rise(n);
            }
            return Ok(());
        }
        self.disturb(n)?;
        if self.at >= self.nodes[n].settle_at && self.at >= self.ledger.away_until {
            self.settle(n)?;
        }
        let mut s = 0;
        while s < self.nodes[n].starts.len() {
            let before = self.nodes[n].starts.len();
            if self.at >= self.nodes[n].starts[s].stands_until {
                let done = self.turn_start(n, s);
                self.after(n, s, done)?;
            }
            // Who died is not there any more.
            s += usize::from(self.nodes[n].starts.len() == before);
        }
        Ok(())
    }

    fn rise(&mut self, n: usize) {
        let mut node = std::mem::replace(
            &mut self.nodes[n],
            Node {
                id: 0,
                epoch: 0,
                starts: vec![],
                dead: BTreeMap::new(),
                down_until: 0,
                settle_at: 0,
                clock: (0, 0),
                flush: Flush::default(),
            },
        );
        self.begin(&mut node);
        self.nodes[n] = node;
    }

    /// What comes over a server.
    fn disturb(&mut self, n: usize) -> Result<(), String> {
        let last = self.nodes[n].starts.len() - 1;
        if self.comes(Trouble::Kill, 1) {
            let fuse = self.r.below(200) as u32;
            self.nodes[n].starts[last].fuse.get_or_insert(fuse);
        }
        if self.comes(Trouble::PowerCut, 1) {
            while !self.nodes[n].starts.is_empty() {
                self.die(n, 0, true);
            }
            self.rise(n);
            return Ok(());
        }
        if self.comes(Trouble::Zombie, 1) && last == 0 {
            self.rise(n);
            // It is dead at last after at most so many moves.
            let fuse = self.r.below(3_000) as u32;
            self.nodes[n].starts[0].fuse = Some(fuse);
            return Ok(());
        }
        if self.comes(Trouble::Stalled, 1) {
            let until = self.at + self.r.between(1, 40) * SECOND;
            self.nodes[n].starts[last].stands_until = until;
        }
        if self.comes(Trouble::Drained, 1) {
            let start = &mut self.nodes[n].starts[last];
            if self.at.is_multiple_of(2) { start.stop() } else { start.leave() }
        }
        if self.r.chance(2) {
            self.nodes[n].starts[last].cut();
        }
        if !self.calm && self.nodes[n].starts[last].is_done() || last > 0 && self.nodes[n].starts[0].is_fenced() {
            let s = if last > 0 && self.nodes[n].starts[0].is_fenced() { 0 } else { last };
            self.die(n, s, false);
            if self.nodes[n].starts.is_empty() {
                self.rise(n);
            }
        }
        Ok(())
    }

    fn turn_start(&mut self, n: usize, s: usize) -> Result<(), Ended> {
        let mut won = Vec::new();
        let done = self.turn_cores(n, s, &mut won);
        // A win is on record, whether or not its core lived on.
        let holder = self.nodes[n].starts[s].id;
        for (key, held, expires_s) in won {
            self.will_be_noticed(n, holder, key, held, expires_s);
        }
        done?;
        if self.plan.awaited > 0 {
            let (now, settled) = (self.node_now(self.nodes[n].clock), self.is_settled(n));
            let Node { flush, starts, .. } = &mut self.nodes[n];
            starts[s].turn_flush(flush, now, &mut self.r, settled)?;
        }
        let World { plan, nodes, truth, r, at, .. } = self;
        let turns = 1 + r.below(2);
        let mut asks = Vec::new();
        for _ in 0..turns {
            asks.extend(nodes[n].starts[s].turn_server(plan, truth, *at, r)?);
        }
        asks.into_iter().for_each(|ask| self.send(Message::Ask(ask)));
        Ok(())
    }

    fn turn_cores(&mut self, n: usize, s: usize, won: &mut Vec<(LineKey, i64, u32)>) -> Result<(), Ended> {
        let wall_s = self.wall_s();
        let World { plan, nodes, truth, ledger, demand, names, ids, r, fired, at, out, .. } = self;
        let start = &mut nodes[n].starts[s];
        let mut refused = |n: usize, price: i64| {
            let d = &mut demand[n];
            if *at >= d.since + LATE {
                (d.before, d.now) = (if *at < d.since + 2 * LATE { d.now } else { 0 }, 0);
                d.since = *at;
            }
            d.now += price;
        };
        let mut undelivered = |failed: bool| {
            let kind = if failed { Trouble::Undelivered } else { Trouble::LateNews };
            let fired = fired.entry(kind).or_default();
            fired.0 += 1;
            fired.1 += u64::from(*out);
        };
        let mut awaits = |key, held, expires_s| won.push((key, held, expires_s));
        for c in 0..plan.cores {
            let mut offered = Offered {
                names,
                ids,
                refused: &mut refused,
                undelivered: &mut undelivered,
                awaits: &mut awaits,
                wall_s,
            };
            start.turn_core(c, plan, (&mut *truth, &ledger.tree), *at, r, &mut offered)?;
        }
        Ok(())
    }

    // --- settlement ----------------------------------------------------------------------------------

    /// What dead starts spent is counted from what they left.
    fn settle(&mut self, n: usize) -> Result<(), String> {
        let (node, epoch) = (self.nodes[n].id, self.nodes[n].epoch);
        for dead in self.ledger.granter.unsettled(node, epoch) {
            let holder = HolderId { node, epoch: dead };
            let Some(record) = self.nodes[n].dead.get(&dead) else { continue };
            let from = self.ledger.granter.recover_from(holder);
            // What waits for notices alone is settled again when something has come of it.
            if from.settled && self.nodes[n].flush.knows(dead, from.lines.iter().map(|l| l.0)) {
                if let Some(finals) = self.nodes[n].flush.dead.remove(&dead) {
                    self.ledger.settle(holder, &finals, true, self.at, Fate::Lives)?;
                }
                continue;
            }
            let lacks = from.frames.iter().zip(&record.frames).any(|(after, core)| *after > core.len() as u64);
            let complete = record.complete && !lacks;
            let mut sums: BTreeMap<LineKey, Sum> = BTreeMap::new();
            for (core, frames) in record.frames.iter().enumerate() {
                let after = from.frames.get(core).copied().unwrap_or(0) as usize;
                frames[after.min(frames.len())..].iter().for_each(|f| add(&mut sums, f, true));
            }
            for (key, charged, freed) in &from.lines {
                let sum = sums.entry(*key).or_default();
                (sum.charged, sum.freed) = (sum.charged + charged.0, sum.freed + freed.0);
            }
            let holds = self.nodes[n].flush.holds();
            let finals: Vec<Final> = sums
                .iter()
                .map(|(line, s)| {
                    let of = Of { epoch: dead, line: *line };
                    holds.ended(of, Money(s.charged), Money(s.freed));
                    recover::last(*line, Money(s.charged), Money(s.freed), &holds.of(of))
                })
                .collect();
            let open: Vec<LineKey> = from.lines.iter().map(|l| l.0).collect();
            let fate = if self.comes(Trouble::SettlementLost, 10) { Fate::Forgets } else { Fate::Lives };
            self.note(|| format!("{holder:?} is settled, complete {complete}, {fate:?}: {finals:?}"));
            if !self.ledger.settle(holder, &finals, complete, self.at, fate)? {
                return Ok(());
            }
            for key in open {
                let Some(line) = self.ledger.granter.line_of(LineId { key, holder }) else { continue };
                if line.end == End::Forfeit {
                    let spent = self.truth.lines.get(&(holder, key)).map_or(0, |s| s.net());
                    for bucket in self.truth.buckets_of(&self.ledger.tree, key).iter() {
                        *self.forfeit.entry(*bucket).or_default() += line.out().0 - spent;
                    }
                }
            }
        }
        Ok(())
    }

    // --- what came of it -----------------------------------------------------------------------------

    /// Looks at the days that have ended since it was called before.
    fn measure(&mut self, end: bool) {
        let wall_ms = self.ledger.wall_ms(self.at);
        let before = std::mem::replace(&mut self.measured, wall_ms);
        if before == 0 || !end && before / 60_000 == wall_ms / 60_000 {
            return;
        }
        for n in 0..self.ids.len() {
            let tree = &self.ledger.tree;
            let (Some(then), Some(now)) = (tree.window(self.ids[n], before), tree.window(self.ids[n], wall_ms)) else {
                continue;
            };
            if !end && then.period >= now.period {
                continue;
            }
            let Some(day) = then.buckets.iter().find(|b| b.account == self.ids[n] && b.span == Span::Day) else {
                continue;
            };
            let d = &self.demand[n];
            let demand = if self.at < d.since + 2 * LATE { d.now + d.before } else { 0 };
            let quiet = self.at > self.changed_at[n] + 120 * SECOND && tree.state(self.ids[n]) == Some(State::Active);
            let room = then
                .buckets
                .iter()
                .filter_map(|b| Some(self.truth.most(tree, b)? - self.truth.buckets.get(b).copied().unwrap_or(0)));
            let room = room.min().unwrap_or(0);
            if quiet && demand > 0 && demand >= room {
                self.outcomes.push(Outcome {
                    spent: self.truth.buckets.get(day).copied().unwrap_or(0),
                    stranded: room.max(0),
                    budget: tree.ceiling(day).map_or(0, |m| m.0),
                    trouble: self.plan.trouble,
                    market: self.plan.market,
                });
            }
        }
    }

    /// Everything ends in order; what is left is compared to the nano-unit.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.measure(true);
        self.calm = true;
        self.ledger.away_until = 0;
        self.plan.step_ms = 400;
        // A ring of one message brings one stop a turn.
        let rounds = 400 + 2 * self.plan.campaigns as usize / self.plan.ring;
        for round in 0..rounds {
            for node in &mut self.nodes {
                for start in &mut node.starts {
                    (start.fuse, start.stands_until) = (None, 0);
                    start.stop();
                }
            }
            self.step()?;
            let home = |n: &Node| !n.starts.is_empty() && n.starts.iter().all(|s| s.is_done() || s.is_fenced());
            if self.nodes.iter().all(home) {
                break;
            }
            if round == rounds - 1 {
                let late = self.nodes.iter().find(|n| !home(n)).map(|n| (n.id, n.epoch));
                return Err(format!("told to stop, the start of node {late:?} does not come to an end"));
            }
        }
        self.check()?;
        for n in 0..self.nodes.len() {
            while !self.nodes[n].starts.is_empty() {
                let start = &self.nodes[n].starts[0];
                let (id, fenced) = (start.id, start.is_fenced());
                let open = self.ledger.granter.recover_from(id).lines;
                let waits = |key: &LineKey| {
                    self.ledger
                        .granter
                        .line_of(LineId { key: *key, holder: id })
                        .is_some_and(|line| line.held > Money(0))
                };
                if !fenced && !open.iter().all(|(key, ..)| waits(key)) {
                    return Err(format!("{id:?} has ended in order, and {open:?} are open"));
                }
                self.die(n, 0, false);
            }
            self.rise(n);
            self.nodes[n].settle_at = 0;
            self.settle(n)?;
            self.let_lapse(n)?;
            if !self.ledger.granter.unsettled(self.nodes[n].id, u32::MAX).is_empty() {
                return Err(format!("node {n} is not settled"));
            }
        }
        self.check()?;
        for (key, spent) in &self.truth.buckets {
            let forfeit = self.forfeit.get(key).copied().unwrap_or(0);
            if let Some(row) = self.ledger.granter.bucket(key)
                && row.committed.0 != spent + forfeit
            {
                return Err(format!("{key:?}: {spent} spent, {forfeit} forfeited; the granter says {row:?}"));
            }
        }
        Ok(())
    }
}
