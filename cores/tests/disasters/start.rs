//! One start of one server: its leases, its cores, and what they have written down.
//! Owns: production's server and core ledgers, the rings between them, the frames. Called by: the world. Never: tells the truth
//! about money to anybody but the world's own sums.
use super::{
    flush::{Flush, Notice},
    plan::{Plan, Planted, SECOND},
    truth::{Sum, Truth},
};
use outcry::{
    auction::{Account, Answer, Funds},
    budget::{
        AccountId, CoreGrant, CoreReport, LineKey,
        core::{Capacity, CoreLedger, DirectoryBatch, Entry, Sink},
        granter::HolderId,
        messages::Ask,
        planted,
        server::Server,
        tree::{Owner, Tree},
    },
    units::{DspIx, Money},
};
use outcry_cores::lab::rng::Rng;
use std::collections::{BTreeMap, VecDeque};

/// It was killed here.
#[derive(Debug)]
pub(crate) enum Ended {
    Dead,
    Wrong(String),
}

impl From<String> for Ended {
    fn from(wrong: String) -> Ended {
        Ended::Wrong(wrong)
    }
}

/// What one frame of a core's record says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) charged: Vec<(LineKey, i64)>,
    pub(crate) freed: Vec<(LineKey, i64)>,
    /// Of what was charged, what waits for a notice, until when.
    pub(crate) held: Vec<(LineKey, i64, u32)>,
    pub(crate) billed: Option<Notice>,
}

/// A ring from a core, as full as it may be.
struct Ring {
    reports: VecDeque<CoreReport>,
    slots: usize,
}

impl Sink for Ring {
    fn room(&self) -> usize {
        self.slots - self.reports.len()
    }
    fn put(&mut self, report: CoreReport) {
        self.reports.push_back(report);
    }
}

struct Core {
    ledger: CoreLedger,
    to_core: VecDeque<CoreGrant>,
    from_core: Ring,
    /// Numbered from 1.
    frames: Vec<Frame>,
    sums: BTreeMap<LineKey, Sum>,
    /// What it had charged when it last forgot a line.
    forgotten: BTreeMap<LineKey, Sum>,
    auctions: u64,
    /// When something is heard of an answer: at, of which, did it arrive.
    news: Vec<(u64, u64, bool)>,
    ticked: u64,
    left: bool,
}

/// What is taken of traffic.
pub(crate) struct Offered<'a> {
    pub(crate) names: &'a [String],
    pub(crate) ids: &'a [AccountId],
    /// Refused for want of money, by campaign.
    pub(crate) refused: &'a mut dyn FnMut(usize, i64),
    /// Something went on with a delivery: not delivered, or late.
    pub(crate) undelivered: &'a mut dyn FnMut(bool),
    /// This was won and waits for its notice.
    pub(crate) awaits: &'a mut dyn FnMut(LineKey, i64, u32),
    /// The wall clock, seconds since 1970.
    pub(crate) wall_s: u32,
}

pub(crate) struct Start {
    pub(crate) id: HolderId,
    server: Server,
    cores: Vec<Core>,
    /// Its clock at world time zero, and how far it goes wrong, ppm.
    boot_ns: i64,
    ppm: i64,
    /// After so many more moves it is dead.
    pub(crate) fuse: Option<u32>,
    pub(crate) stopping: bool,
    leaving: bool,
    pub(crate) stands_until: u64,
    /// What it said in its last cut, to be compared with the frames.
    asked: u64,
}

pub(crate) fn names_of(tree: &Tree) -> Vec<Entry> {
    let campaigns = tree.list().filter_map(|a| match &a.owner {
        Owner::Advertiser => None,
        Owner::Campaign { dsp, seat, cid, .. } => Some(Entry {
            account: a.id,
            dsp: dsp.as_bytes().into(),
            seat: seat.as_bytes().into(),
            cid: cid.as_bytes().into(),
        }),
    });
    campaigns.collect()
}

fn account(cid: &str) -> Account<'_> {
    Account::of(DspIx(0), b"north", b"", cid.as_bytes())
}

impl Start {
    pub(crate) fn new(plan: &Plan, id: HolderId, tree: &Tree, clock: (i64, i64), at: u64) -> Start {
        let (boot_ns, ppm) = clock;
        let n = tree.len();
        let entries = names_of(tree);
        let core = |_| {
            let capacity = Capacity { accounts: n, name_bytes: n * 64, dirty: n.max(4), auctions: plan.tickets };
            let mut ledger = CoreLedger::new(capacity, plan.seed);
            if let Some(Planted::Core(fault)) = plan.planted {
                ledger.plant(planted::Planted::fault(fault));
            }
            for chunk in entries.chunks(200) {
                let mut batch = DirectoryBatch::new();
                chunk.iter().for_each(|e| assert!(batch.put(e.clone()).is_ok()));
                ledger.apply(&mut batch);
                assert!(batch.refused().is_empty());
            }
            let from_core = Ring { reports: VecDeque::new(), slots: 2 * n + 300 };
            Core {
                ledger,
                to_core: VecDeque::new(),
                from_core,
                frames: vec![],
                sums: BTreeMap::new(),
                forgotten: BTreeMap::new(),
                auctions: 0,
                news: vec![],
                ticked: 0,
                left: false,
            }
        };
        let mut start = Start {
            id,
            server: Server::new(id.node, id.epoch, plan.cores, 0),
            cores: (0..plan.cores).map(core).collect(),
            boot_ns,
            ppm,
            fuse: None,
            stopping: false,
            leaving: false,
            stands_until: 0,
            asked: 0,
        };
        start.server = Server::new(id.node, id.epoch, plan.cores, start.now(at));
        start.server.gather(outcry_cores::money::leases::GATHER_NS);
        if plan.awaited > 0 {
            start.server.await_notices();
        }
        if let Some(Planted::Server(fault)) = plan.planted {
            start.server.plant(fault);
        }
        start
    }

    /// Its own clock.
    pub(crate) fn now(&self, at: u64) -> u64 {
        (self.boot_ns + at as i64 + at as i64 / 1_000_000 * self.ppm) as u64
    }

    pub(crate) fn into_frames(self) -> Vec<Vec<Frame>> {
        self.cores.into_iter().map(|c| c.frames).collect()
    }

    /// One move; it may be the last.
    fn moves(&mut self) -> Result<(), Ended> {
        match &mut self.fuse {
            Some(0) => Err(Ended::Dead),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        self.server.stop();
    }

    /// As the product stops: every core ends, and nobody waits for what is not known of deliveries.
    pub(crate) fn leave(&mut self) {
        self.stopping = true;
        self.leaving = true;
    }

    /// A core's last words, once.
    fn say_bye(&mut self, c: usize, now: u64) -> Result<(), Ended> {
        if self.cores[c].left {
            return Ok(());
        }
        self.moves()?;
        let said = self.cores[c].from_core.reports.len();
        self.tick(c, now)?;
        let core = &mut self.cores[c];
        if core.from_core.reports.len() > said && core.from_core.room() > 0 {
            core.from_core.put(CoreReport::Bye);
            core.left = true;
        }
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stopping && self.server.is_done()
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.server.is_fenced()
    }

    pub(crate) fn look_again(&mut self, account: AccountId) {
        self.server.look_again(account);
    }

    pub(crate) fn cut(&mut self) {
        self.server.cut();
    }

    pub(crate) fn hear(&mut self, reply: &outcry::budget::messages::Reply, at: u64) -> Result<(), Ended> {
        self.moves()?;
        let now = self.now(at);
        self.server.incoming(reply, now);
        self.moves()
    }

    // --- cores ---------------------------------------------------------------------------------------

    pub(crate) fn turn_core(
        &mut self,
        c: usize,
        plan: &Plan,
        (truth, tree): (&mut Truth, &Tree),
        at: u64,
        r: &mut Rng,
        offered: &mut Offered<'_>,
    ) -> Result<(), Ended> {
        let now = self.now(at);
        if self.leaving {
            return self.say_bye(c, now);
        }
        self.cores[c].ledger.turn(now);
        while let Some(grant) = self.cores[c].to_core.pop_front() {
            self.moves()?;
            self.cores[c].ledger.grant(&grant);
        }
        self.deliveries(c, (truth, tree), at, offered)?;
        if !self.stopping {
            let auctions = plan.traffic / 1_000 + u64::from(r.chance((plan.traffic % 1_000) as u32));
            for _ in 0..auctions {
                self.auction(c, plan, (&mut *truth, tree), at, r, offered)?;
            }
        }
        let core = &mut self.cores[c];
        core.ledger.urgent(&mut core.from_core);
        // A tick every tenth of a second, at most.
        if now >= core.ticked + SECOND / 10 && !r.chance(50) {
            core.ticked = now;
            self.moves()?;
            self.tick(c, now)?;
        }
        let violation = self.cores[c].ledger.violation();
        violation.map_or(Ok(()), |v| Err(Ended::Wrong(format!("{:?} core {c} says: {v:?}", self.id))))
    }

    fn tick(&mut self, c: usize, now: u64) -> Result<(), Ended> {
        let core = &mut self.cores[c];
        let said = core.from_core.reports.len();
        core.ledger.tick(now, core.frames.len() as u64, &mut core.from_core);
        for report in core.from_core.reports.range(said..) {
            let CoreReport::Line(line) = report else { continue };
            let (sum, gone) = (core.sums.entry(line.line).or_default(), core.forgotten.entry(line.line).or_default());
            let (charged, freed) = (sum.charged - gone.charged, sum.freed - gone.freed);
            if (line.charged.0, line.freed.0) != (charged, freed) {
                return Err(Ended::Wrong(format!(
                    "{:?} core {c} states {line:?}, its frames say {charged} charged, {freed} freed",
                    self.id
                )));
            }
            let free = line.granted.0 - (charged - freed) - line.returned.0;
            if free < 0 || line.last && free != 0 {
                return Err(Ended::Wrong(format!("{:?} core {c} states {line:?}: {free} free", self.id)));
            }
            if line.last {
                *gone = *sum;
            }
        }
        Ok(())
    }

    fn deliveries(
        &mut self,
        c: usize,
        (truth, tree): (&mut Truth, &Tree),
        at: u64,
        offered: &mut Offered<'_>,
    ) -> Result<(), Ended> {
        let mut due: Vec<(u64, u64, bool)> = Vec::new();
        self.cores[c].news.retain(|n| n.0 > at || (due.push(*n), false).1);
        for (_, seq, arrived) in due {
            self.moves()?;
            if arrived {
                self.cores[c].ledger.delivered(seq);
                continue;
            }
            (offered.undelivered)(true);
            let freed: Vec<(LineKey, i64)> = {
                let freed = self.cores[c].ledger.not_delivered(seq).iter();
                freed.map(|f| (LineKey { account: f.account, period: f.period }, f.amount.0)).collect()
            };
            self.moves()?;
            for (key, amount) in &freed {
                truth.free(tree, self.id, *key, *amount)?;
                self.cores[c].sums.entry(*key).or_default().freed += amount;
            }
            self.cores[c].frames.push(Frame { freed, ..Frame::default() });
        }
        Ok(())
    }

    fn auction(
        &mut self,
        c: usize,
        plan: &Plan,
        (truth, tree): (&mut Truth, &Tree),
        at: u64,
        r: &mut Rng,
        offered: &mut Offered<'_>,
    ) -> Result<(), Ended> {
        let id = self.id;
        let core = &mut self.cores[c];
        let mut won = Vec::new();
        for _ in 0..1 + u64::from(r.chance(200)) + u64::from(r.chance(50)) {
            // Half of the traffic wants the first few.
            let few = if r.chance(500) { offered.names.len().div_ceil(8) } else { offered.names.len() };
            let n = r.below(few as u64) as usize;
            // Now and then one that takes much of what may be left.
            let times = if r.chance(30) { r.between(1, plan.largest) } else { 1 };
            let price = (plan.price * times).max(1) as i64 - i64::from(plan.price > 100 && r.chance(300));
            let named = account(&offered.names[n]);
            let place = match core.ledger.can_pay(&named, Money(price)) {
                Ok(place) => place,
                Err(why) => {
                    if why == Answer::NoMoney && times == 1 {
                        (offered.refused)(n, price);
                    }
                    core.ledger.touch(&named, Money(price));
                    continue;
                }
            };
            let Ok(ticket) = core.ledger.reserve(&named, place, Money(price)) else { continue };
            if r.chance(20) {
                // A group that could not all be paid.
                core.ledger.release(ticket, Money(price));
                continue;
            }
            if !ticket.account.is_some() || ticket.account != offered.ids[n] {
                return Err(Ended::Wrong(format!(
                    "{id:?} core {c}: {} paid by {:?}",
                    offered.names[n], ticket.account
                )));
            }
            let charge = if price > 1 && r.chance(200) { price - 1 } else { price };
            won.push((ticket, price, charge));
        }
        if won.is_empty() {
            return Ok(());
        }
        core.auctions += 1;
        let seq = core.auctions;
        let awaits = plan.awaited > 0 && r.chance(plan.awaited as u32);
        for (ticket, reserved, charge) in &won {
            core.ledger.charge(*ticket, Money(*reserved), Money(*charge));
            if !awaits {
                core.ledger.won(seq, *ticket, Money(*charge));
            }
        }
        self.moves()?;
        // From here on the answer may leave.
        let mut frame = Frame::default();
        for (ticket, _, charge) in &won {
            let key = LineKey { account: ticket.account, period: ticket.period };
            truth.charge(tree, id, key, *charge)?;
            self.cores[c].sums.entry(key).or_default().charged += charge;
            frame.charged.push((key, *charge));
            if awaits {
                let expires_s = offered.wall_s + plan.life_s;
                frame.held.push((key, *charge, expires_s));
                (offered.awaits)(key, *charge, expires_s);
            }
        }
        let core = &mut self.cores[c];
        core.frames.push(frame);
        if awaits {
            return self.moves();
        }
        let lost = plan.may(super::plan::Trouble::Undelivered) && r.chance(40);
        let late = plan.may(super::plan::Trouble::LateNews) && r.chance(10);
        if late {
            (offered.undelivered)(false);
        }
        let after = if late { r.between(5, 40) * SECOND } else { r.between(1, 400) * SECOND / 1_000 };
        core.news.push((at + after, seq, !lost));
        self.moves()
    }

    // --- notices -------------------------------------------------------------------------------------

    /// A core records a notice; it may die before it has answered.
    pub(crate) fn notice(&mut self, c: usize, notice: Notice) -> Result<(), Ended> {
        let frame = Frame { billed: Some(notice), ..Frame::default() };
        self.cores[c].frames.push(frame);
        self.moves()
    }

    pub(crate) fn turn_flush(
        &mut self,
        flush: &mut Flush,
        now: outcry::units::Now,
        r: &mut Rng,
        settled: bool,
    ) -> Result<(), Ended> {
        let frames: Vec<&[Frame]> = self.cores.iter().map(|core| core.frames.as_slice()).collect();
        if let Some((upto, held)) = flush.turn(&frames, now, r, settled) {
            self.moves()?;
            self.server.hold(&upto, &held);
        }
        self.moves()
    }

    // --- the leases' thread --------------------------------------------------------------------------

    /// What it asks now, if anything.
    pub(crate) fn turn_server(
        &mut self,
        plan: &Plan,
        truth: &Truth,
        at: u64,
        r: &mut Rng,
    ) -> Result<Option<Ask>, Ended> {
        let now = self.now(at);
        for c in 0..self.cores.len() {
            let most = if r.chance(100) && !self.stopping { r.below(4) as usize } else { usize::MAX };
            for _ in 0..most {
                let Some(report) = self.cores[c].from_core.reports.pop_front() else { break };
                self.server.from_core(c, report, now);
            }
        }
        self.moves()?;
        let ask = self.server.outgoing(now).cloned();
        if let Some(ask) = &ask {
            self.check_ask(ask, truth)?;
        }
        self.moves()?;
        for c in 0..self.cores.len() {
            while self.cores[c].to_core.len() < plan.ring {
                let Some(grant) = self.server.to_core(c) else { break };
                self.cores[c].to_core.push_back(grant);
            }
        }
        match self.server.violation() {
            Some(v) => Err(Ended::Wrong(format!("{:?} says: {v:?}", self.id))),
            None => Ok(ask),
        }
    }

    /// What it says of its spending is what its frames say.
    fn check_ask(&mut self, ask: &Ask, truth: &Truth) -> Result<(), String> {
        if ask.req == self.asked {
            return Ok(());
        }
        self.asked = ask.req;
        for line in &ask.lines {
            let sum = truth.lines.get(&(self.id, line.line)).copied().unwrap_or_default();
            if line.closed.is_some_and(|spent| spent.0 != sum.net()) {
                return Err(format!("{:?} closes {line:?}, and spent {sum:?}", self.id));
            }
            if line.granted.0 - line.returned.0 < sum.net() {
                return Err(format!("{:?} says {line:?}, and spent {sum:?}", self.id));
            }
        }
        let Some(cut) = &ask.cut else { return Ok(()) };
        let mut sums: BTreeMap<LineKey, Sum> = cut.spent.iter().map(|(key, ..)| (*key, Sum::default())).collect();
        for (core, upto) in self.cores.iter().zip(&cut.frames) {
            for frame in &core.frames[..(*upto as usize).min(core.frames.len())] {
                add(&mut sums, frame, false);
            }
        }
        for (key, charged, freed) in &cut.spent {
            let sum = sums[key];
            if (sum.charged, sum.freed) != (charged.0, freed.0) {
                return Err(format!("{:?} cuts {key:?} at {charged} {freed}, its frames say {sum:?}", self.id));
            }
        }
        Ok(())
    }
}

/// Adds a frame; of lines that are not there only if `all`.
pub(crate) fn add(sums: &mut BTreeMap<LineKey, Sum>, frame: &Frame, all: bool) {
    let mut to = |key: &LineKey, charged: i64, freed: i64| {
        let sum = if all { Some(sums.entry(*key).or_default()) } else { sums.get_mut(key) };
        if let Some(sum) = sum {
            sum.charged += charged;
            sum.freed += freed;
        }
    };
    frame.charged.iter().for_each(|(key, amount)| to(key, *amount, 0));
    frame.freed.iter().for_each(|(key, amount)| to(key, 0, *amount));
}
