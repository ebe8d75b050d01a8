//! What frames mean for who has to pay what, in the order of the journal.
//! Owns: what waits. Called by: `outcry audit`, for each frame; hands what it finds to sums and lists.
//! Never: bills twice; believes a notice that the exchange did not, or the other way round.
//!
//! A win is charged at its auction. If its answer did not arrive, a delivery frees the charge. Where it waits for its notice, the
//! first that came in time settles it, perhaps at less; else it goes home (`notice::holds`). Whether a notice came in time is
//! asked of the journal as the exchange asked it: not if it says so itself, or stands behind the record with which its minute
//! went home.
//!
//! Kept: a number and an amount for each window and minute whose notices are out; a bit for each settled win until its token has
//! expired; wins on no account for a minute, or until their notices have expired, some hundred bytes each. No win on an account.
//!
//! A notice may be read before its win: it came to another core, whose box was read first. Sums take that as it comes; a win on no
//! account finds such a notice in a list of the last ones.
use super::{Payer, Spot, Whose, once::Once};
use crate::{
    auction::{Delivery, Record, Win},
    budget::LineKey,
    notice::{
        holds::{Lapse, Of},
        price::Said,
        seen::GRACE_S,
        token::Kind as Told,
        told::Notice,
    },
    record::{
        RecordError,
        frame::{Frame, Kind},
    },
    units::{Cpm, Currency, EventId, Money},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A delivery is written at most so long after its auction: more than the longest `tmax` and the longest write.
pub const DELIVERED_MS: u64 = 60_000;
/// Boxes are read at most so long one behind the other: a core whose box is not read for longer has no room in it.
pub const EARLY_MS: u64 = 10_000;
/// So long after an auction nothing changes what it costs any more: tokens live seven days at most, and what has not come then
/// goes home within minutes.
pub const SETTLED_MS: u64 = 8 * 86_400_000;

/// A win, as its auction's record has it.
#[derive(Clone, Copy, Debug)]
pub struct Won<'a> {
    /// All of it.
    pub record: &'a Record,
    /// Which of its wins.
    pub win: &'a Win,
    /// Who pays.
    pub whose: Whose,
    /// Until when it waits for its notice, seconds since 1970; `None`: it is charged for good, or costs nothing.
    pub awaited_s: Option<u32>,
    /// Whose its charge is, as what goes home names it.
    pub of: Of,
}

/// A billing notice of a win that waited for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noticed {
    /// The auction.
    pub event: EventId,
    /// Which of its impressions.
    pub imp: u8,
    /// Who pays.
    pub whose: Whose,
    /// What was charged at the auction.
    pub held: Money,
    /// What it comes to.
    pub charge: Money,
    /// The price that counts, in the answer's currency.
    pub price: Cpm,
    /// What it said of the price.
    pub said: Said,
}

/// What a frame means.
#[derive(Clone, Copy, Debug)]
pub enum Came<'a> {
    /// A win.
    Won(Won<'a>),
    /// How an answer went, where it did not go as it should.
    Delivered(EventId, Delivery),
    /// A charge is spent no more: its answer did not arrive.
    Freed {
        /// The auction.
        event: EventId,
        /// Which of its impressions, where the record says.
        imp: Option<u8>,
        /// Who does not pay.
        whose: Whose,
        /// How much.
        amount: Money,
    },
    /// It is billed.
    Billed(Noticed),
    /// It came too late. One that says so itself may be the repetition of one that came in time, which only a look at all
    /// notices can tell; not so the first of its kind, `first`, which stands behind the record with which its minute went home.
    Late {
        /// Which.
        noticed: Noticed,
        /// It is no repetition.
        first: bool,
    },
    /// What no notice came for has gone home: so many wins of one window and minute.
    Lapsed {
        /// Whose, as recorded.
        of: Of,
        /// The minute in which their notices expired.
        minute: u32,
        /// Who does not pay.
        whose: Whose,
        /// Of how many wins.
        wins: u64,
        /// How much.
        amount: Money,
        /// What the wins come to that it should be; the same, or the record contradicts itself.
        waited: i128,
    },
    /// The same of one win on no account, which is on no record: its time is over.
    Expired {
        /// The auction.
        event: EventId,
        /// Which of its impressions.
        imp: u8,
        /// Who does not pay.
        whose: Whose,
        /// How much.
        amount: Money,
    },
}

/// Who bought on no account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Buyer {
    /// The DSP's name.
    pub dsp: Vec<u8>,
    /// The `seat` of its bid.
    pub seat: Vec<u8>,
    /// The `cid` of its bid.
    pub cid: Vec<u8>,
    /// What its wins are charged in.
    pub currency: Currency,
}

impl Buyer {
    /// Who bought this.
    fn of(record: &Record, win: &Win) -> Buyer {
        let i = &record.inputs;
        let bid = i.bids.get(usize::from(win.input));
        let leg = bid.and_then(|bid| i.legs.get(usize::from(bid.leg)));
        let [dsp, seat, cid] = [leg.map(|leg| leg.name), bid.map(|bid| bid.seat), bid.map(|bid| bid.cid)]
            .map(|kept| kept.map_or(Vec::new(), |kept| i.text(kept).to_vec()));
        Buyer { dsp, seat, cid, currency: i.accounting }
    }
}

/// What waits for notices that expire in one minute, of one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Waiting {
    wins: i64,
    nanos: i128,
}

/// A win on no account that may yet be free.
#[derive(Clone, Copy, Debug)]
struct Loose {
    imp: u8,
    whose: Whose,
    charge: Money,
    awaits: bool,
}

/// A fault that a test is to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A notice that comes again settles again.
    Repeated,
    /// One that stands behind its minute's end is believed.
    Late,
    /// One that says itself that it is too late is believed.
    Expired,
    /// One of another server's win is believed.
    Theirs,
    /// A lower price is not heard.
    Lower,
    /// One that is read before its win is forgotten.
    Early,
    /// What did not arrive stays charged.
    Freed,
    /// What is on no account waits for ever.
    Waits,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 8] = [
        Fault::Repeated,
        Fault::Late,
        Fault::Expired,
        Fault::Theirs,
        Fault::Lower,
        Fault::Early,
        Fault::Freed,
        Fault::Waits,
    ];
}

/// What a frame means is told with where it was read.
type Each<'e> = dyn FnMut(Came<'_>, Spot) + 'e;

/// See the module.
#[derive(Debug)]
pub struct Settling {
    node: u32,
    seen: Once,
    /// By minute of expiry.
    waiting: BTreeMap<(u32, Of), Waiting>,
    /// Minutes up to this one have gone home.
    gone: u32,
    buyers: BTreeMap<Buyer, u32>,
    loose: HashMap<EventId, Vec<Loose>>,
    /// Notices of wins on no account that were not read yet, the latest ones.
    early: VecDeque<(Noticed, Spot)>,
    /// Until when, milliseconds since 1970.
    due: BTreeSet<(u64, EventId)>,
    awaited: bool,
    now_ms: u64,
    planted: Option<Fault>,
}

fn line_of(line: LineKey) -> Whose {
    Whose { payer: Payer::Account(line.account), minute: line.period.0 }
}

impl Settling {
    /// Of a node's journal.
    pub fn new(node: u32) -> Settling {
        Settling {
            node,
            seen: Once::default(),
            waiting: BTreeMap::new(),
            gone: 0,
            buyers: BTreeMap::new(),
            loose: HashMap::new(),
            early: VecDeque::new(),
            due: BTreeSet::new(),
            awaited: false,
            now_ms: 0,
            planted: None,
        }
    }

    /// Makes a mistake from now on; none in a release build.
    pub fn plant(&mut self, fault: Fault) {
        self.planted = cfg!(debug_assertions).then_some(fault);
    }

    fn has(&self, fault: Fault) -> bool {
        cfg!(debug_assertions) && self.planted == Some(fault)
    }

    /// All who bought on no account, with their numbers.
    pub fn buyers(&self) -> impl Iterator<Item = (&Buyer, u32)> {
        self.buyers.iter().map(|(buyer, number)| (buyer, *number))
    }

    /// Was there a win that waited for its notice? Else what comes of all is known within a minute.
    pub fn awaited(&self) -> bool {
        self.awaited
    }

    /// What waits yet: who may have to pay, for how many wins, how much.
    pub fn waiting(&self) -> impl Iterator<Item = (Whose, u64, i128)> {
        let accounts =
            self.waiting.iter().map(|((_, of), w)| (line_of(of.line), u64::try_from(w.wins).unwrap_or(0), w.nanos));
        let loose = self.loose.values().flatten().filter(|l| l.awaits);
        accounts.filter(|(.., nanos)| *nanos > 0).chain(loose.map(|l| (l.whose, 1, i128::from(l.charge.0))))
    }

    /// A frame, in the order of the journal.
    ///
    /// # Errors
    /// [`RecordError`]: it may be about money, and cannot be read.
    pub fn frame(&mut self, frame: &Frame<'_>, spot: Spot, each: &mut Each<'_>) -> Result<(), RecordError> {
        self.now_ms = self.now_ms.max(frame.header.hlc >> 16);
        self.tidy(spot, each);
        match frame.kind() {
            Some(Kind::Auction) => self.auction(frame, &Record::decode(frame.payload())?, spot, each),
            Some(Kind::Delivery) => self.delivery(frame.payload(), spot, each)?,
            Some(Kind::Notice) => self.notice(&Notice::decode(frame.payload())?, spot, each),
            Some(Kind::Settlement) => self.lapse(&Lapse::decode(frame.payload())?, spot, each),
            _ => {}
        }
        Ok(())
    }

    /// Nothing more is recorded until then.
    pub fn passed(&mut self, spot: Spot, each: &mut Each<'_>) {
        self.now_ms = self.now_ms.max(spot.ms);
        self.tidy(spot, each);
    }

    fn auction(&mut self, frame: &Frame<'_>, record: &Record, spot: Spot, each: &mut Each<'_>) {
        let i = &record.inputs;
        let awaited_s = (i.awaited_s != 0).then_some(i.awaited_s);
        self.awaited |= awaited_s.is_some() && !record.decision.wins.is_empty();
        for win in &record.decision.wins {
            let of = Of { epoch: frame.header.epoch, line: LineKey { account: win.account, period: win.period } };
            let whose = if win.account.is_some() { line_of(of.line) } else { self.loose(record, win) };
            let awaited_s = awaited_s.filter(|_| win.charge > Money(0));
            if win.account.is_some()
                && let Some(expires_s) = awaited_s
            {
                // A clock that ran ahead, and was set back, has not been there yet.
                self.gone = self.gone.min((expires_s / 60).saturating_sub(1));
                self.wait(expires_s / 60, of, 1, win.charge);
            }
            each(Came::Won(Won { record, win, whose, awaited_s, of }), spot);
            self.heard(i.event, win.imp, each);
        }
    }

    /// So many more wait, or fewer.
    fn wait(&mut self, minute: u32, of: Of, wins: i64, charge: Money) {
        let waiting = self.waiting.entry((minute, of)).or_default();
        waiting.wins += wins;
        waiting.nanos += i128::from(wins) * i128::from(charge.0);
        if *waiting == Waiting::default() {
            self.waiting.remove(&(minute, of));
        }
    }

    /// A win on no account.
    fn loose(&mut self, record: &Record, win: &Win) -> Whose {
        let i = &record.inputs;
        let buyer = Buyer::of(record, win);
        let next = self.buyers.len() as u32;
        let payer = Payer::Buyer(*self.buyers.entry(buyer).or_insert(next));
        let whose = Whose { payer, minute: u32::try_from(i.wall_ms / 60_000).unwrap_or(u32::MAX) };
        let awaits = i.awaited_s != 0;
        if win.charge > Money(0) {
            let loose = Loose { imp: win.imp, whose, charge: win.charge, awaits };
            self.loose.entry(i.event).or_default().push(loose);
            let over_ms = (u64::from(i.awaited_s / 60 + 1) * 60 + u64::from(GRACE_S)) * 1_000;
            let due_ms = if awaits { over_ms } else { i.wall_ms.saturating_add(DELIVERED_MS) };
            self.due.insert((due_ms, i.event));
        }
        whose
    }

    /// A notice of a win on no account, that was read before it.
    fn heard(&mut self, event: EventId, imp: u8, each: &mut Each<'_>) {
        let at = self.early.iter().position(|(n, _)| (n.event, n.imp) == (event, imp));
        if let Some((mut noticed, spot)) = at.and_then(|at| self.early.remove(at))
            && let Some(loose) = self.awaited_loose(event, imp)
        {
            noticed.whose = loose.whose;
            each(Came::Billed(noticed), spot);
        }
    }

    /// Takes a win on no account that waits for its notice.
    fn awaited_loose(&mut self, event: EventId, imp: u8) -> Option<Loose> {
        let all = self.loose.get_mut(&event)?;
        let at = all.iter().position(|l| l.imp == imp && l.awaits)?;
        let loose = all.swap_remove(at);
        if all.is_empty() {
            self.loose.remove(&event);
        }
        Some(loose)
    }

    fn delivery(&mut self, payload: &[u8], spot: Spot, each: &mut Each<'_>) -> Result<(), RecordError> {
        let known = Delivery::decode(payload)?;
        let event = known.event;
        each(Came::Delivered(event, known.delivery), spot);
        if self.has(Fault::Freed) {
            return Ok(());
        }
        for freed in known.freed.iter().filter(|freed| freed.amount > Money(0)) {
            let whose = line_of(LineKey { account: freed.account, period: freed.period });
            each(Came::Freed { event, imp: None, whose, amount: freed.amount }, spot);
        }
        // What is on no account nobody frees on record: it is not billed, for the same reason.
        if !matches!(known.delivery, Delivery::Written { .. })
            && let Some(all) = self.loose.get_mut(&event)
        {
            for l in all.extract_if(.., |l| !l.awaits) {
                each(Came::Freed { event, imp: Some(l.imp), whose: l.whose, amount: l.charge }, spot);
            }
            if all.is_empty() {
                self.loose.remove(&event);
            }
        }
        Ok(())
    }

    fn notice(&mut self, notice: &Notice<'_>, spot: Spot, each: &mut Each<'_>) {
        // What costs nothing nobody waits for.
        let held = notice.held.filter(|held| notice.name.kind == Told::Billed && *held > Money(0));
        let Some(held) = held else { return };
        let (event, imp, expires_s) = (notice.name.event, notice.name.imp, notice.expires_s);
        if event.node != self.node && !self.has(Fault::Theirs) {
            return;
        }
        let line = LineKey { account: notice.account, period: notice.period };
        let mut noticed = Noticed {
            event,
            imp,
            whose: line_of(line),
            held,
            charge: if self.has(Fault::Lower) { held } else { Money(notice.charge.0.clamp(0, held.0)) },
            price: notice.price,
            said: notice.said,
        };
        let now_s = u32::try_from(self.now_ms / 1_000).unwrap_or(u32::MAX);
        let expired = notice.expired && !self.has(Fault::Expired);
        let first = !expired && (self.seen.first(event, imp, expires_s, now_s) || self.has(Fault::Repeated));
        if !notice.account.is_some() {
            if !first {
                return;
            }
            let Some(loose) = self.awaited_loose(event, imp) else {
                if !self.has(Fault::Early) {
                    self.early.push_back((noticed, spot));
                }
                return;
            };
            noticed.whose = loose.whose;
            return each(Came::Billed(noticed), spot);
        }
        if expired {
            return each(Came::Late { noticed, first }, spot);
        }
        if !first {
            return;
        }
        if expires_s / 60 <= self.gone && !self.has(Fault::Late) {
            return each(Came::Late { noticed, first }, spot);
        }
        let of = Of { epoch: event.epoch, line };
        self.wait(expires_s / 60, of, -1, held);
        each(Came::Billed(noticed), spot);
    }

    fn lapse(&mut self, lapse: &Lapse, spot: Spot, each: &mut Each<'_>) {
        let Lapse { of, minute, amount } = *lapse;
        // The difference to a lower price went home: the notice itself said so.
        if minute == 0 {
            return;
        }
        self.gone = self.gone.max(minute);
        let waited = self.waiting.remove(&(minute, of)).unwrap_or_default();
        let wins = u64::try_from(waited.wins).unwrap_or(0);
        each(Came::Lapsed { of, minute, whose: line_of(of.line), wins, amount, waited: waited.nanos }, spot);
    }

    /// Lets go of what nothing can happen to any more.
    fn tidy(&mut self, spot: Spot, each: &mut Each<'_>) {
        let now_ms = self.now_ms;
        while let Some((_, event)) = self.due.first().copied().filter(|(due_ms, _)| *due_ms <= now_ms) {
            if self.has(Fault::Waits) {
                break;
            }
            self.due.pop_first();
            for l in self.loose.remove(&event).into_iter().flatten().filter(|l| l.awaits) {
                each(Came::Expired { event, imp: l.imp, whose: l.whose, amount: l.charge }, spot);
            }
        }
        while self.early.front().is_some_and(|(_, spot)| spot.ms.saturating_add(EARLY_MS) < now_ms) {
            self.early.pop_front();
        }
        // Notices of wins from before the record that is read began.
        let minute = u32::try_from((now_ms.saturating_sub(SETTLED_MS)) / 60_000).unwrap_or(u32::MAX);
        while let Some(entry) = self.waiting.first_entry().filter(|e| e.key().0 < minute && e.get().nanos <= 0) {
            entry.remove();
        }
    }
}
