//! An exchange that writes random records, and a list of all its wins beside it. What goes home without a notice is said by the
//! sums that the exchange itself keeps ([`Holds`]), so the two know nothing of each other.
use crate::{
    auction::{Delivery, Record, delivery, delivery::Freed, input::Kept, record, record::HouseAd},
    billing::{
        bill::{Of as Under, Part},
        tests::Rows,
    },
    budget::{
        AccountId, LineKey, Period,
        movement::{self, By, Deed, Movement, Terms},
        tree::{Limits, Pacing, State as Standing},
        zone::{Zone, Zones},
    },
    notice::{
        holds::{self, Billed, Holds, Lapse, Of},
        price::Said,
        token,
        told::{NOTICE_VERSION, Name, Notice},
    },
    record::frame::{self, Header, Kind},
    units::{Cpm, Currency, EventId, MS, Money, Now, mix},
};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const NODE: u32 = 9;
/// 2026-10-30T12:00:00Z. A run takes some days, so it reaches November.
const BEGINS_MS: u64 = 1_793_361_600_000;
/// Of the tokens and a minute, as the exchange has it.
const GRACE_MS: u64 = 60_000;

pub(super) type Frames = Vec<Vec<u8>>;

/// What has come of a win.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Charged,
    Freed,
    Waits,
    Billed(Money),
    Lapsed,
}

/// A win of the list.
#[derive(Clone, Debug)]
struct Win {
    event: EventId,
    imp: u8,
    account: AccountId,
    period: Period,
    buyer: (String, String),
    /// The minute that says in which month it was.
    minute: u32,
    charge: Money,
    test: bool,
    expires_s: u32,
    state: State,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) frames: Frames,
    seed: u64,
    now_ms: u64,
    step_ms: u64,
    epoch: u32,
    seq: u64,
    templates: Vec<Record>,
    zones: BTreeMap<AccountId, (AccountId, Zone)>,
    wins: Vec<Win>,
    holds: Holds,
    /// Notices of these came in time.
    seen: BTreeSet<(EventId, u8)>,
    /// Notices of these came too late: what was held.
    late: BTreeMap<(EventId, u8), (LineKey, Money)>,
    /// Frames that move money, with their kind.
    moving: BTreeMap<usize, Kind>,
}

const ADVERTISERS: [(u32, &str, &str); 2] = [(1, "acme", "Europe/Berlin"), (2, "zeta", "America/Los_Angeles")];
const CAMPAIGNS: [(u32, &str, u32); 3] = [(3, "acme.one", 1), (4, "acme.two", 1), (5, "zeta.one", 2)];

impl World {
    pub(super) fn run(seed: u64, steps: usize) -> World {
        let golden = include_str!("../../auction/record/v4.golden.txt");
        let digits = |line: &str| -> Vec<u8> {
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).expect("digits")).collect()
        };
        let mut world = World {
            frames: Vec::new(),
            seed: mix(seed),
            now_ms: BEGINS_MS,
            step_ms: 3 * 86_400_000 / steps as u64,
            epoch: 1,
            seq: 0,
            templates: golden.lines().map(|line| Record::decode(&digits(line)).expect("a record")).collect(),
            zones: BTreeMap::new(),
            wins: Vec::new(),
            holds: Holds::new(),
            seen: BTreeSet::new(),
            late: BTreeMap::new(),
            moving: BTreeMap::new(),
        };
        world.accounts();
        for _ in 0..steps {
            world.now_ms += world.draw(2 * world.step_ms);
            if world.draw(200) == 0 {
                (world.epoch, world.seq) = (world.epoch + 1, 0);
            }
            world.lapses();
            match world.draw(10) {
                0..6 => world.auction(),
                _ => world.noticed(),
            }
        }
        // What is on no account goes home by the time of records alone, so there has to be one behind it.
        world.push(Kind::Stop, 1, b"");
        world.expire();
        world
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.seed = mix(self.seed);
        self.seed % below
    }

    fn now(&self) -> Now {
        Now { boot_ns: self.now_ms * MS, wall_offset_ns: 0 }
    }

    fn push(&mut self, kind: Kind, version: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        let at = frame::begin(&mut bytes);
        bytes.extend_from_slice(payload);
        let seq = self.frames.len() as u64 + 1;
        let header = Header { seq, epoch: self.epoch, writer: 0, kind: kind as u8, version, hlc: self.now_ms << 16 };
        frame::finish(&mut bytes, at, &header);
        self.frames.push(bytes);
    }

    fn accounts(&mut self) {
        let mut zones = Zones::default();
        let advertisers = ADVERTISERS.map(|(id, name, zone)| (id, name, 0, zone));
        let zone_of = |of: u32| ADVERTISERS.iter().find(|a| a.0 == of).expect("an advertiser").2;
        let campaigns = CAMPAIGNS.map(|(id, name, of)| (id, name, of, zone_of(of)));
        for (id, name, of, zone) in advertisers.into_iter().chain(campaigns) {
            self.zones.insert(AccountId(id), (AccountId(of), zones.get(zone).expect("a zone")));
            let after = Terms {
                name: name.to_owned(),
                advertiser: AccountId(of),
                dsp: if of == 0 { String::new() } else { "dsp".to_owned() },
                seat: String::new(),
                cid: if of == 0 { String::new() } else { name.to_owned() },
                zone: zone.to_owned(),
                since: Period(0),
                limits: Limits { daily: Money(1), hourly: None, lifetime: None },
                extra: None,
                state: Standing::Active,
                pacing: Pacing::Asap,
            };
            let movement = Movement {
                wall_ms: self.now_ms,
                account: AccountId(id),
                deed: Deed::Add,
                by: By::Admin,
                who: String::new(),
                conversion: None,
                before: None,
                after,
            };
            let mut bytes = Vec::new();
            movement.encode(&mut bytes);
            self.push(Kind::Account, movement::VERSION, &bytes);
        }
    }

    fn auction(&mut self) {
        let at = self.draw(self.templates.len() as u64) as usize;
        let mut record = self.templates[at].clone();
        self.seq += 1 + self.draw(3);
        let (event, minute) = (EventId { node: NODE, epoch: self.epoch, core: 0, seq: self.seq }, self.minute());
        let test = self.draw(16) == 0;
        let awaited = self.draw(2) == 0;
        let life_s = 60 + self.draw(60 * self.step_ms / 1_000) as u32;
        let i = &mut record.inputs;
        (i.event, i.wall_ms, i.test) = (event, self.now_ms, test);
        i.awaited_s = if awaited { (self.now_ms / 1_000) as u32 + life_s } else { 0 };
        let expires_s = i.awaited_s;
        let most = record.decision.wins.len();
        record.decision.wins.truncate(1 + self.draw(most as u64) as usize);
        let mut new = Vec::new();
        for at in 0..record.decision.wins.len() {
            let account = AccountId([0, 3, 4, 5][self.draw(4) as usize]);
            let period = match self.zones.get(&account) {
                Some((_, zone)) => Period(zone.day(minute).expect("a day").0),
                None => Period::default(),
            };
            let free = test || self.draw(12) == 0;
            let charge = Money(if free { 0 } else { 1 + self.draw(5_000_000) as i64 });
            let win = &mut record.decision.wins[at];
            (win.account, win.period, win.charge) = (account, period, charge);
            let (win, i) = (record.decision.wins[at], &record.inputs);
            let bid = i.bids[usize::from(win.input)];
            let text = |kept| String::from_utf8_lossy(i.text(kept)).into_owned();
            let dsp = text(i.legs[usize::from(bid.leg)].name);
            new.push(Win {
                event,
                imp: win.imp,
                account,
                period,
                buyer: (format!("{dsp}/{}", text(bid.seat)), text(bid.cid)),
                minute: if account.is_some() { period.0 } else { minute },
                charge,
                test,
                expires_s,
                // What costs nothing nobody waits for.
                state: if awaited && charge > Money(0) { State::Waits } else { State::Charged },
            });
        }
        // From another core's box, read before this one's.
        let early = if awaited && self.draw(20) == 0 { self.draw(new.len() as u64) as usize } else { usize::MAX };
        if let Some(win) = new.get_mut(early) {
            if win.charge > Money(0) {
                win.state = State::Billed(win.charge);
            }
            let win = win.clone();
            self.seen.insert((event, win.imp));
            if win.account.is_some() {
                self.holds.billed(Of { epoch: self.epoch, line: line(&win) }, expires_s, win.charge, win.charge);
            }
            self.notice(&win, win.charge, false, token::Kind::Billed, NODE);
        }
        if new.iter().any(|w| w.charge > Money(0)) {
            self.moving.insert(self.frames.len(), Kind::Auction);
        }
        // House ads are nobody's: they change nothing of all this.
        if self.draw(4) == 0 {
            let crid = Kept::default();
            record.house.push(HouseAd { ad: 0, imp: 0, price: Cpm(9_000_000), crid });
        }
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.push(Kind::Auction, record::VERSION, &bytes);
        let now = self.now();
        for win in new.iter().filter(|w| awaited && w.account.is_some()) {
            self.holds.hold(Of { epoch: self.epoch, line: line(win) }, expires_s, win.charge, now);
        }
        let first = self.wins.len();
        self.wins.extend(new);
        if self.draw(8) == 0 {
            self.now_ms += self.draw(20_000);
            self.delivered(event, first);
        }
    }

    fn delivered(&mut self, event: EventId, first: usize) {
        let (mut freed, mut frees) = (Vec::new(), false);
        let how = [Delivery::Failed, Delivery::ClientLeft, Delivery::Late { at_ns: 5 }][self.draw(3) as usize];
        // A core whose line is gone frees nothing of it.
        let spare = self.draw(8) == 0;
        for win in self.wins[first..].iter_mut().filter(|w| w.state == State::Charged && w.charge > Money(0)) {
            if !(spare && win.account.is_some()) {
                win.state = State::Freed;
                frees = true;
                if win.account.is_some() {
                    freed.push(Freed { account: win.account, period: win.period, amount: win.charge });
                }
            }
        }
        if frees {
            self.moving.insert(self.frames.len(), Kind::Delivery);
        }
        let mut bytes = Vec::new();
        how.encode(event, &freed, &mut bytes);
        self.push(Kind::Delivery, delivery::FRAME_VERSION, &bytes);
    }

    /// A notice of one of the last wins that wait, or once did; what comes of it.
    fn noticed(&mut self) {
        let recent: Vec<usize> =
            (0..self.wins.len()).rev().filter(|at| self.wins[*at].expires_s > 0).take(40).collect();
        if recent.is_empty() {
            return;
        }
        let at = recent[self.draw(recent.len() as u64) as usize];
        let win = self.wins[at].clone();
        let now_s = self.now_ms / 1_000;
        let expired = now_s > u64::from(win.expires_s);
        match self.draw(12) {
            0 => return self.notice(&win, win.charge, expired, token::Kind::Won, NODE),
            // Of another server's auction, which that one settles.
            1 => return self.notice(&win, win.charge, expired, token::Kind::Billed, NODE + 1),
            _ => {}
        }
        let charge = if self.draw(4) == 0 { Money(self.draw(win.charge.0 as u64 + 1) as i64) } else { win.charge };
        // One that arrived within its time is written behind the minute with which it went home.
        let held_up = expired && now_s < u64::from(win.expires_s) + 600 && self.draw(2) == 0;
        let expired = expired && !held_up;
        self.expire();
        let name = (win.event, win.imp);
        let line = line(&win);
        if win.charge <= Money(0) {
            return self.notice(&win, charge, expired, token::Kind::Billed, NODE);
        }
        if expired {
            if win.account.is_some() && !self.seen.contains(&name) {
                self.late.entry(name).or_insert((line, win.charge));
            }
        } else if self.seen.insert(name) {
            let of = Of { epoch: win.event.epoch, line };
            let waits = self.wins[at].state == State::Waits;
            let in_time = match win.account.is_some() {
                true => self.holds.billed(of, win.expires_s, win.charge, charge) == Billed::Settled,
                false => waits,
            };
            if in_time {
                self.moving.insert(self.frames.len(), Kind::Notice);
                self.wins[at].state = State::Billed(charge);
            } else if win.account.is_some() {
                self.late.insert(name, (line, win.charge));
            }
        }
        self.notice(&win, charge, expired, token::Kind::Billed, NODE);
    }

    fn notice(&mut self, win: &Win, charge: Money, expired: bool, kind: token::Kind, node: u32) {
        let notice = Notice {
            name: Name { event: EventId { node, ..win.event }, imp: win.imp, kind },
            expired,
            said: Said::Nothing,
            price: crate::units::Cpm(charge.0),
            charge,
            held: (kind == token::Kind::Billed).then_some(win.charge),
            account: win.account,
            period: win.period,
            expires_s: win.expires_s,
            buyer: b"",
            url: b"",
        };
        let mut bytes = Vec::new();
        notice.encode(&mut bytes);
        self.push(Kind::Notice, NOTICE_VERSION, &bytes);
    }

    /// What the exchange lets go of.
    fn lapses(&mut self) {
        while let Some(lapse) = self.holds.due(self.now()) {
            let mut bytes = Vec::new();
            lapse.encode(&mut bytes);
            self.push(Kind::Settlement, holds::VERSION, &bytes);
            self.holds.lapse(&lapse);
            if lapse.minute == 0 {
                continue;
            }
            let gone = |w: &&mut Win| {
                w.event.epoch == lapse.of.epoch && w.expires_s / 60 == lapse.minute && w.charge > Money(0)
            };
            for win in self.wins.iter_mut().filter(gone).filter(|w| line(w) == lapse.of.line && w.state == State::Waits)
            {
                win.state = State::Lapsed;
            }
        }
    }

    /// The same of what is on no account.
    fn expire(&mut self) {
        let now_ms = self.now_ms;
        let over = |w: &&mut Win| (u64::from(w.expires_s) / 60 + 1) * 60_000 + GRACE_MS <= now_ms;
        let waits = |w: &&mut Win| w.state == State::Waits && !w.account.is_some();
        self.wins.iter_mut().filter(waits).filter(over).for_each(|w| w.state = State::Lapsed);
    }

    fn minute(&self) -> u32 {
        (self.now_ms / 60_000) as u32
    }

    // --- what it comes to -----------------------------------------------------------------------------

    pub(super) fn state(&self, event: EventId, imp: u8) -> State {
        self.wins.iter().find(|w| (w.event, w.imp) == (event, imp)).expect("a win").state
    }

    /// Does this frame move money?
    pub(super) fn matters(&self, at: usize) -> Option<Kind> {
        self.moving.get(&at).copied()
    }

    /// The exchange's own sum of what it holds.
    pub(super) fn held(&self) -> i128 {
        self.holds.total()
    }

    pub(super) fn waiting_of_accounts(&self) -> i128 {
        let waits = self.wins.iter().filter(|w| w.account.is_some() && w.state == State::Waits);
        waits.map(|w| i128::from(w.charge.0)).sum()
    }

    fn row(&self, account: AccountId, buyer: &(String, String)) -> (Under, String, Currency) {
        let name = |id: u32| {
            let all = ADVERTISERS.iter().map(|a| (a.0, a.1)).chain(CAMPAIGNS.iter().map(|c| (c.0, c.1)));
            all.into_iter().find(|(n, _)| *n == id).expect("an account").1.to_owned()
        };
        match self.zones.get(&account) {
            Some((advertiser, _)) => (Under::Advertiser(name(advertiser.0)), name(account.0), Currency::USD),
            None => (Under::Buyer(buyer.0.clone()), buyer.1.clone(), Currency::USD),
        }
    }

    /// Is a minute of this month, where the payer is at home?
    fn holds_minute(&self, account: AccountId, minute: u32, month: &str) -> bool {
        let hours = match self.zones.get(&account).map(|(_, zone)| zone.name()) {
            // Neither changes its clocks between the days of the month that are looked at and the month's end: Berlin
            // did on 25 October, Los Angeles does on 1 November at two, behind its midnight.
            Some("Europe/Berlin") => 1,
            Some(_) => -7,
            None => 0,
        };
        let local_ms = (i64::from(minute) * 60_000 + hours * 3_600_000) as u64;
        crate::record::when::utc(local_ms).starts_with(month)
    }

    /// The rows of a bill, from each win alone.
    pub(super) fn rows(&self, month: &str) -> Rows {
        let mut rows = Rows::new();
        for win in self.wins.iter().filter(|w| !w.test && self.holds_minute(w.account, w.minute, month)) {
            let sums = rows.entry(self.row(win.account, &win.buyer)).or_default();
            sums.charged += Part::one(win.charge);
            match win.state {
                State::Freed => sums.freed += Part::one(win.charge),
                State::Waits => sums.waiting += Part::one(win.charge),
                State::Lapsed => sums.lapsed += Part::one(win.charge),
                State::Billed(charge) if charge < win.charge => {
                    sums.reduced += Part::one(Money(win.charge.0 - charge.0));
                }
                State::Charged | State::Billed(_) => {}
            }
        }
        for (name, (line, held)) in &self.late {
            if !self.in_time(name) && self.holds_minute(line.account, line.period.0, month) {
                let row = self.row(line.account, &Default::default());
                rows.entry(row).or_default().late += Part::one(*held);
            }
        }
        rows
    }

    fn in_time(&self, name: &(EventId, u8)) -> bool {
        matches!(self.state(name.0, name.1), State::Billed(_))
    }
}

fn line(win: &Win) -> LineKey {
    LineKey { account: win.account, period: win.period }
}

/// A frame, and if it says what went home, of October, one that says a unit more.
pub(super) fn with_more_lapsed(bytes: &[u8], altered: &mut usize) -> Vec<u8> {
    let f = frame::decode(bytes).expect("a frame");
    let lapse = Lapse::decode(f.payload()).ok().filter(|l| f.kind() == Some(Kind::Settlement) && l.minute > 0);
    let Some(mut lapse) = lapse else { return bytes.to_vec() };
    *altered += 1;
    lapse.amount.0 += 1;
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    lapse.encode(&mut out);
    frame::finish(&mut out, at, &f.header);
    out
}

/// A frame with some bytes of its payload, and its time, replaced: often by the largest there are.
pub(super) fn altered(bytes: &[u8], seed: u64) -> Vec<u8> {
    let f = frame::decode(bytes).expect("a frame");
    let mut payload = f.payload().to_vec();
    let mut seed = mix(seed);
    for _ in 0..1 + seed % 3 {
        seed = mix(seed);
        let (at, run) = (seed as usize % payload.len().max(1), (seed >> 40) as usize % 9);
        let byte = if seed >> 60 < 8 { 0xff } else { (seed >> 32) as u8 };
        payload.iter_mut().skip(at).take(run).for_each(|b| *b = byte);
    }
    let hlc = if seed.is_multiple_of(50) { u64::MAX } else { f.header.hlc };
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    out.extend_from_slice(&payload);
    frame::finish(&mut out, at, &Header { hlc, ..f.header });
    out
}
