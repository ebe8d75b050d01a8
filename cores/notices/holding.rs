//! Money that waits for its notices, as the record has it: fed with each frame, let go on record, told to whoever has leases.
//! Owns: what is held. Runs on: flush; a start, before that. Called by: [`super::Notices`], `start`. Never: tells what a death
//! could undo: what it tells is as of frames that are durable.
use crate::money::{
    ledger::{ToLeases, ToLedger},
    recover,
};
use outcry::{
    auction::{Record, Win, record},
    budget::{
        LineKey,
        granter::{HolderId, settle::Final},
        server::Held,
    },
    notice::{
        checkpoint::Writer,
        holds::{Billed, Holds, Lapse, Of, Sums},
        token::Kind,
        told::Notice,
    },
    record::{
        frame::{self, Frame},
        labels::Journal as Figure,
        totals::Totals,
    },
    units::{MS, Money, Now},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::Sender,
};

/// Whoever has leases hears so often at most.
const TELL_NS: u64 = 100 * MS;
/// Windows that are over are looked for so often.
const TIDY_NS: u64 = 600_000 * MS;

/// So long after it began nothing is out of a window any more: it lasts two days and an hour at most, and its leases and what was
/// told of them come to rest within two more; besides, its tokens live.
const WINDOW_MINUTES: u32 = 5 * 1_440;
/// In one turn so many sums go home at most.
const LAPSES: usize = 4_096;
/// The ledger hears of dead starts so often at most: each time it writes.
const DEAD_NS: u64 = 2_000 * MS;

/// Who is told of what is held.
#[derive(Clone, Debug)]
pub struct MoneyEnds {
    /// This start's leases.
    pub leases: Sender<ToLeases>,
    /// The leases of starts that are dead.
    pub ledger: Sender<ToLedger>,
}

/// What was found and is not told yet: the journal does not have all of it.
#[derive(Debug)]
struct Telling {
    writers: Vec<(Writer, u64)>,
    upto: Vec<u64>,
    held: Vec<Held>,
    /// Of starts that are dead: lines that have changed, as they were then.
    dead: BTreeMap<u32, Vec<Final>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    settled: u64,
    late: u64,
    lapsed: i64,
}

/// See the module.
#[derive(Debug)]
pub struct Holding {
    holds: Holds,
    node: u32,
    epoch: u32,
    ends: Option<MoneyEnds>,
    telling: Option<Telling>,
    told_upto: Vec<u64>,
    tell_ns: u64,
    /// Lines of dead starts that have changed, and when the ledger hears of them.
    dead: BTreeSet<Of>,
    dead_ns: u64,
    tidy_ns: u64,
    life_s: u32,
    counts: Counts,
}

impl Holding {
    /// Goes on from what a start found.
    pub fn new(mut holds: Holds, (node, epoch): (u32, u32), life_s: u32, ends: Option<MoneyEnds>) -> Holding {
        // What has lapsed in between nobody was told.
        holds.tell_all();
        Holding {
            holds,
            node,
            epoch,
            ends,
            telling: None,
            told_upto: Vec::new(),
            tell_ns: 0,
            dead: BTreeSet::new(),
            dead_ns: 0,
            tidy_ns: 0,
            life_s,
            counts: Counts::default(),
        }
    }

    /// What is held.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// An auction that the journal has taken.
    pub fn auction(&mut self, frame: &Frame<'_>, now: Now) {
        for (of, expires_s, charge) in held(frame) {
            self.holds.hold(of, expires_s, charge, now);
        }
    }

    /// The first notice of its kind that the journal has taken.
    pub fn notice(&mut self, notice: &Notice<'_>) {
        if let Some(billed) = settle(&mut self.holds, self.node, notice) {
            match billed {
                Billed::Settled => self.counts.settled += 1,
                Billed::Late => self.counts.late += 1,
            }
        }
    }

    /// Lets go of what is due, each on record: before anything else is read.
    pub fn lapse(&mut self, read: Option<Now>, now: Now, mut note: impl FnMut(&Lapse)) {
        for _ in 0..LAPSES {
            let Some(lapse) = read.and_then(|then| self.holds.due(then)) else { break };
            note(&lapse);
            self.holds.lapse(&lapse);
            self.counts.lapsed += lapse.amount.0;
        }
        if now.boot_ns >= self.tidy_ns && self.telling.is_none() && self.dead.is_empty() {
            self.tidy_ns = now.boot_ns + TIDY_NS;
            self.holds.tidy(WINDOW_MINUTES + self.life_s / 60, now);
        }
    }

    /// Tells what is held, once the journal has what it follows from. `read` and `durable` as in [`super::Notices::keep`].
    pub fn tell(
        &mut self,
        now: Now,
        at_once: bool,
        read: impl Fn() -> Vec<(Writer, u64)>,
        durable: impl Fn(Writer, u64) -> bool,
    ) {
        if self.ends.is_none() {
            return;
        }
        // The second time when there will be no other turn: what was read in this one is on disk already.
        for _ in 0..1 + usize::from(at_once) {
            if self.telling.is_none() && (at_once || now.boot_ns >= self.tell_ns) {
                self.telling = self.found(now, at_once, &read);
            }
            let there = |telling: &Telling| telling.writers.iter().all(|(writer, seq)| durable(*writer, *seq));
            let Some(telling) = self.telling.take_if(|telling| there(telling)) else { return };
            self.send(telling);
        }
    }

    /// What there is to be told; `None`: nothing.
    fn found(&mut self, now: Now, at_once: bool, read: impl Fn() -> Vec<(Writer, u64)>) -> Option<Telling> {
        self.tell_ns = now.boot_ns + TELL_NS;
        let changes = self.holds.changes();
        let writers: Vec<_> = read().into_iter().filter(|((epoch, _), _)| *epoch == self.epoch).collect();
        let cores = writers.iter().filter(|((_, writer), _)| *writer < frame::WRITER_CONTROL);
        let upto: Vec<u64> = cores.map(|(_, seq)| *seq).collect();
        let (alive, dead): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(of, _)| of.epoch == self.epoch);
        self.dead.extend(dead.iter().map(|(of, _)| *of));
        let mut finals: BTreeMap<u32, Vec<Final>> = BTreeMap::new();
        if at_once || now.boot_ns >= self.dead_ns {
            self.dead_ns = now.boot_ns + DEAD_NS;
            for of in std::mem::take(&mut self.dead) {
                let last = recover::line_of_dead(of, &self.holds.of(of));
                finals.entry(of.epoch).or_default().extend(last);
            }
        }
        if alive.is_empty() && finals.is_empty() && upto == self.told_upto {
            return None;
        }
        let held = |(of, sums): &(Of, Sums)| Held { line: of.line, held: out(sums), lapsed: sums.lapsed };
        Some(Telling { writers, upto, held: alive.iter().map(held).collect(), dead: finals })
    }

    fn send(&mut self, telling: Telling) {
        let (Some(ends), Telling { upto, held, dead, .. }) = (&self.ends, telling) else { return };
        self.told_upto.clone_from(&upto);
        // Whoever has ended needs to know nothing.
        let _ = ends.leases.send(ToLeases::Held(upto, held));
        for (epoch, finals) in dead.into_iter().filter(|(_, finals)| !finals.is_empty()) {
            let _ = ends.ledger.send(ToLedger::Settle(HolderId { node: self.node, epoch }, finals));
        }
    }

    /// Shows how things stand.
    pub fn show(&self, totals: &mut Totals) {
        let Counts { settled, late, lapsed } = self.counts;
        for (figure, value) in [
            (Figure::NoticesSettled, settled),
            (Figure::NoticesLate, late),
            (Figure::NoticesHeld, u64::try_from(self.holds.total()).unwrap_or(0)),
            (Figure::NoticesLapsed, u64::try_from(lapsed).unwrap_or(0)),
        ] {
            totals.set_journal(figure, value);
        }
    }
}

/// What is out of a line for its notices: a difference that is owed is not home before it is on record.
pub fn out(sums: &Sums) -> Money {
    // What was settled before its win was read is less than nothing for a moment.
    Money((sums.held.0 + sums.owed.0).max(0))
}

/// What a frame of an auction holds for notices: whose, until when, how much.
pub fn held(frame: &Frame<'_>) -> Vec<(Of, u32, Money)> {
    let bytes = frame.payload();
    if !record::awaits(bytes) {
        return Vec::new();
    }
    // A bidder core of this machine made it: it can be read.
    let Ok(record) = Record::decode(bytes) else { return Vec::new() };
    let of = |win: &Win| {
        let line = LineKey { account: win.account, period: win.period };
        (Of { epoch: frame.header.epoch, line }, record.inputs.awaited_s, win.charge)
    };
    record.decision.wins.iter().filter(|win| win.account.is_some()).map(of).collect()
}

/// What the first billing notice of a win comes to; `None`: nothing waited for it, or another machine's money did.
pub fn settle(holds: &mut Holds, node: u32, notice: &Notice<'_>) -> Option<Billed> {
    let held = notice.held.filter(|_| notice.name.kind == Kind::Billed && notice.name.event.node == node)?;
    let line = LineKey { account: notice.account, period: notice.period };
    let of = Of { epoch: notice.name.event.epoch, line };
    notice.account.is_some().then(|| holds.billed(of, notice.expires_s, held, notice.charge))
}
