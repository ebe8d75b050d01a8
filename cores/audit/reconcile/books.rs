//! Ledger and journal side by side: by window, and by the start of the process that spent of it.
//! Owns: their sums. Called by: `reconcile`. Never: adds up frames of which the ledger has not heard with those that it has.
//!
//! The ledger knows, of each start of the process, what it spent of each window: for good once that start is over, and until then
//! as of certain frames of each core. The record is added up over exactly the same frames, so the two are equal to the
//! nano-unit at any moment, also while the exchange runs; what came behind those frames is named as not reported yet. Where charges
//! wait for their billing notices, what has gone home without one counts once the ledger has settled its line for good; a
//! notice that came too late to be charged is the house's loss, and has a column of its own.
use super::ReconcileArgs;
use crate::{
    audit::{
        AuditError, Range,
        billed::{self, AROUND_MS},
        directory::Journal,
    },
    bidder::turn,
    journal::{
        dir::Dir,
        since::{self, Wanted},
    },
    money::{
        cli,
        day::{Campaign, Holder, Page},
        ledger::Ledger,
        store::FILE,
    },
};
use outcry::{
    billing::{
        Payer, Whose,
        bill::Late,
        settling::{Came, Noticed, Settling},
        sources::{Deed, Moved, Said, Who},
    },
    budget::{
        AccountId, LineKey, Period,
        granter::{End, HolderId},
    },
    config,
    notice::holds::Lapse,
    record::{
        frame::{Frame, Kind, WRITER_CONTROL},
        when::utc,
    },
};
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

const DAY_MS: u64 = 86_400_000;
/// Accounts in one answer of the exchange.
const PAGE: usize = 1_000;
/// What the ledger has heard of is in the journal before long: `commit_ms` is ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// A window, and who spent of it: a start of the process, or [`ARCHIVE`].
pub(super) type Key = (LineKey, HolderId);
/// Takes the place of all starts in a window that is in the archive; none has epoch 0.
pub(super) const ARCHIVE: HolderId = HolderId { node: 0, epoch: 0 };

/// One place where the two are compared; nano-units.
#[derive(Clone, Copy, Default)]
pub(super) struct Pair {
    pub(super) ledger: i128,
    /// Of that, what the ledger itself says no record proves.
    pub(super) forfeit: i128,
    /// Charged and not freed, and where the line is over less what went home.
    pub(super) record: i128,
    /// The same, in frames that the ledger has not heard of.
    pub(super) unreported: i128,
    /// Went home, which the ledger counts when the line is over.
    gone: i128,
    /// Would have been charged to winners, had their notices come in time.
    pub(super) late: i128,
    /// The ledger has a line of it.
    pub(super) known: bool,
    /// The line is over for good, so all frames count.
    over: bool,
}

impl Pair {
    pub(super) fn difference(&self) -> i128 {
        self.ledger - self.record
    }
}

/// All that is compared.
#[derive(Default)]
pub(super) struct Books {
    /// With the page that a campaign is from.
    pub(super) campaigns: BTreeMap<AccountId, (usize, Campaign)>,
    /// Of each page: sums are as of the frames that were known then.
    holders: Vec<BTreeMap<HolderId, Holder>>,
    /// The exchange runs: a start that the ledger has not heard of may be its own.
    running: bool,
    pub(super) pairs: BTreeMap<Key, Pair>,
    /// Wins of the day on no account: of whom the journal says what.
    buyers: BTreeMap<Who, i128>,
    pub(super) day: u32,
    pub(super) node: u32,
    /// When the last frame was made that was read, milliseconds since 1970.
    pub(super) last_ms: u64,
    /// Where it stands: segment and offset.
    pub(super) last: (u64, u64),
    /// Of each start and writer the highest number that was read: what is sent later belongs to no sum here.
    read_up_to: BTreeMap<(u32, u16), u64>,
}

impl Books {
    pub(super) fn new(args: &ReconcileArgs, journal: &Journal) -> Result<Books, AuditError> {
        let mut books = Books { day: args.day, node: journal.node, running: args.admin.is_some(), ..Books::default() };
        for page in pages(args, journal.path())? {
            books.add(page);
        }
        Ok(books)
    }

    fn add(&mut self, page: Page) {
        for campaign in page.campaigns {
            for (id, line) in &campaign.lines {
                let live = page.holders.get(&id.holder).is_some_and(|h| h.live);
                let pair = self.pairs.entry((id.key, id.holder)).or_default();
                (pair.known, pair.over) = (true, !live && line.end != End::Open);
                // What is not over is compared as of the last cut.
                let spent = if pair.over { line.out().0 } else { line.charged.0 - line.freed.0 };
                pair.ledger += i128::from(spent);
                if line.end == End::Forfeit {
                    pair.forfeit += i128::from(line.out().0);
                }
            }
            for (period, old) in &campaign.old {
                let window = LineKey { account: campaign.id, period: *period };
                let pair = self.pairs.entry((window, ARCHIVE)).or_default();
                (pair.known, pair.over) = (true, true);
                pair.ledger += i128::from(old.spent.0);
                pair.forfeit += i128::from(old.forfeit.0);
            }
            self.campaigns.insert(campaign.id, (self.holders.len(), campaign));
        }
        self.holders.push(page.holders);
    }

    /// Does a window count to the day?
    pub(super) fn holds(&self, key: LineKey) -> bool {
        let (from, until) = match self.campaigns.get(&key.account) {
            Some((_, c)) => (c.from, c.until),
            None => (Period(self.day * 1440), Period((self.day + 1) * 1440)),
        };
        (from..until).contains(&key.period)
    }

    /// Had this frame been written when the journal was read?
    pub(super) fn was_there(&self, epoch: u32, writer: u32, seq: u64) -> bool {
        let upto = u16::try_from(writer).ok().and_then(|writer| self.read_up_to.get(&(epoch, writer)));
        upto.is_none_or(|upto| seq <= *upto)
    }

    /// Frames of the day's auctions are among these.
    pub(super) fn range(&self) -> Range {
        let begins = u64::from(self.day) * DAY_MS;
        Range::between(begins.saturating_sub(AROUND_MS), begins + DAY_MS + AROUND_MS)
    }

    /// Adds up the journal. False: not all of it could be read.
    pub(super) fn read(&mut self, journal: &mut Journal) -> Result<bool, AuditError> {
        let (mut settling, mut late) = (Settling::new(self.node), Late::default());
        let mut buyers: BTreeMap<u32, i128> = BTreeMap::new();
        let range = self.range();
        let mut whole = billed::walked(journal, range, &mut settling, &mut |frame, came, spot| {
            self.last_ms = self.last_ms.max(spot.ms);
            self.last = self.last.max((spot.segment, spot.offset));
            let upto = self.read_up_to.entry((frame.header.epoch, frame.header.writer)).or_default();
            *upto = (*upto).max(frame.header.seq);
            match came {
                None => lapse_of(frame).iter().for_each(|lapse| self.lapse(lapse)),
                Some(Came::Late { noticed, first }) => drop(late.add(*noticed, *first)),
                Some(came) => {
                    if let Some((whose, moved)) = moved(came) {
                        match whose.payer {
                            Payer::Account(_) => self.count(line_of(whose), moved.nanos, frame),
                            Payer::Buyer(number) if whose.minute / 1_440 == self.day => {
                                *buyers.entry(number).or_default() += moved.nanos;
                            }
                            Payer::Buyer(_) => {}
                        }
                    }
                }
            }
            Ok(())
        })?;
        whole &= billed::sifted(journal, range, &mut late)?;
        late.all().for_each(|noticed| self.late(noticed));
        let named = settling.buyers().filter_map(|(buyer, number)| Some((buyer, *buyers.get(&number)?)));
        self.buyers = named.map(|(buyer, nanos)| (Who::Buyer(buyer.clone()), nanos)).collect();
        Ok(whole)
    }

    /// Adds what was recorded.
    fn count(&mut self, line: LineKey, nanos: i128, frame: &Frame<'_>) {
        if self.holds(line) {
            let (key, heard) = self.place(line, frame);
            let pair = self.pairs.entry(key).or_default();
            let sum = if heard { &mut pair.record } else { &mut pair.unreported };
            *sum += nanos;
        }
    }

    /// Adds what has gone home without a notice: to what counts, where nothing of the line can change any more.
    fn lapse(&mut self, lapse: &Lapse) {
        let (line, own) = (lapse.of.line, HolderId { node: self.node, epoch: lapse.of.epoch });
        if !self.holds(line) {
            return;
        }
        let archived = !self.pairs.contains_key(&(line, own)) && self.pairs.contains_key(&(line, ARCHIVE));
        let pair = self.pairs.entry((line, if archived { ARCHIVE } else { own })).or_default();
        if pair.over {
            pair.record -= i128::from(lapse.amount.0);
        } else {
            pair.gone += i128::from(lapse.amount.0);
        }
    }

    /// Adds a notice that nothing was charged for, as it came too late.
    fn late(&mut self, noticed: &Noticed) {
        let line = line_of(noticed.whose);
        if self.holds(line) {
            let own = HolderId { node: noticed.event.node, epoch: noticed.event.epoch };
            let archived = !self.pairs.contains_key(&(line, own)) && self.pairs.contains_key(&(line, ARCHIVE));
            let holder = if archived { ARCHIVE } else { own };
            self.pairs.entry((line, holder)).or_default().late += i128::from(noticed.held.0);
        }
    }

    /// What the ledger says of each campaign: it hears of what was not reported, and of what went home when a line is over.
    pub(super) fn ledger(&self) -> BTreeMap<Who, Said> {
        self.said(|pair| Said { nanos: pair.ledger, coming: pair.unreported - pair.gone })
    }

    /// What the journal says of everybody.
    pub(super) fn journal(&self) -> BTreeMap<Who, Said> {
        let mut said = self.said(|pair| Said { nanos: pair.record + pair.unreported - pair.gone, coming: 0 });
        said.extend(self.buyers.iter().map(|(who, nanos)| (who.clone(), Said { nanos: *nanos, coming: 0 })));
        said
    }

    fn said(&self, of: impl Fn(&Pair) -> Said) -> BTreeMap<Who, Said> {
        let mut said: BTreeMap<Who, Said> = BTreeMap::new();
        for ((line, _), pair) in &self.pairs {
            *said.entry(Who::Account(line.account)).or_default() += of(pair);
        }
        said
    }

    /// What an account is called.
    pub(super) fn name(&self, id: AccountId) -> String {
        self.campaigns.get(&id).map_or_else(|| format!("account {}", id.0), |(_, c)| c.name.clone())
    }

    /// All of an account.
    pub(super) fn of(&self, account: AccountId) -> Pair {
        let mut all = Pair::default();
        for (_, pair) in self.pairs.iter().filter(|((line, _), _)| line.account == account) {
            all.ledger += pair.ledger;
            all.forfeit += pair.forfeit;
            all.record += pair.record;
            all.unreported += pair.unreported;
            all.late += pair.late;
        }
        all
    }

    /// The journal's records of the day, each with where the ledger should have it.
    pub(super) fn records(
        &self,
        journal: &mut Journal,
        each: &mut dyn FnMut(&Who, Option<Key>, Moved),
    ) -> Result<(), AuditError> {
        let mut settling = Settling::new(self.node);
        let mut buyers: BTreeMap<u32, Vec<Moved>> = BTreeMap::new();
        billed::walked(journal, self.range(), &mut settling, &mut |frame, came, spot| {
            let Some(came) = came else {
                for lapse in lapse_of(frame).into_iter().filter(|lapse| self.holds(lapse.of.line)) {
                    let nanos = -i128::from(lapse.amount.0);
                    let moved = Moved { event: None, deed: Deed::Lapsed, nanos, spot: Some(spot) };
                    each(&Who::Account(lapse.of.line.account), None, moved);
                }
                return Ok(());
            };
            if let Some((whose, moved)) = moved(came) {
                let moved = Moved { spot: Some(spot), ..moved };
                match whose.payer {
                    Payer::Account(account) if self.holds(line_of(whose)) => {
                        each(&Who::Account(account), Some(self.place(line_of(whose), frame).0), moved);
                    }
                    Payer::Buyer(number) if whose.minute / 1_440 == self.day => {
                        buyers.entry(number).or_default().push(moved);
                    }
                    Payer::Account(_) | Payer::Buyer(_) => {}
                }
            }
            Ok(())
        })?;
        for (buyer, number) in settling.buyers() {
            let who = Who::Buyer(buyer.clone());
            buyers.remove(&number).into_iter().flatten().for_each(|moved| each(&who, None, moved));
        }
        Ok(())
    }

    /// Where money of a window, moved by this frame, belongs; whether the ledger has heard of the frame.
    fn place(&self, line: LineKey, frame: &Frame<'_>) -> (Key, bool) {
        let holder = HolderId { node: self.node, epoch: frame.header.epoch };
        let own = self.pairs.get(&(line, holder));
        if own.is_none() && self.pairs.contains_key(&(line, ARCHIVE)) {
            return ((line, ARCHIVE), true);
        }
        let page = self.campaigns.get(&line.account).map_or(self.holders.len().saturating_sub(1), |(page, _)| *page);
        let heard = self.holders.get(page).is_none_or(|holders| match holders.get(&holder) {
            Some(known) if known.live || own.is_some_and(|p| !p.over) => {
                frame.header.seq <= known.frames.get(usize::from(frame.header.writer)).copied().unwrap_or(0)
            }
            Some(_) => true,
            // It had not asked for anything when the ledger was asked.
            None => !self.running || holders.range(holder..).any(|(later, _)| later.node == holder.node),
        });
        ((line, holder), heard)
    }
}

/// The window of an account's.
fn line_of(whose: Whose) -> LineKey {
    match whose.payer {
        Payer::Account(account) => LineKey { account, period: Period(whose.minute) },
        Payer::Buyer(_) => LineKey::default(),
    }
}

fn lapse_of(frame: &Frame<'_>) -> Option<Lapse> {
    Lapse::decode(frame.payload()).ok().filter(|_| frame.kind() == Some(Kind::Settlement))
}

/// What moved whose money. What goes home of accounts is said by the records of that alone.
fn moved(came: &Came<'_>) -> Option<(Whose, Moved)> {
    let (whose, event, deed, nanos) = match *came {
        Came::Won(won) => (won.whose, won.record.inputs.event, Deed::Charged, i128::from(won.win.charge.0)),
        Came::Freed { event, whose, amount, .. } => (whose, event, Deed::Freed, -i128::from(amount.0)),
        Came::Expired { event, whose, amount, .. } => (whose, event, Deed::Lapsed, -i128::from(amount.0)),
        Came::Billed(n) if matches!(n.whose.payer, Payer::Buyer(_)) => {
            (n.whose, n.event, Deed::Lapsed, i128::from(n.charge.0) - i128::from(n.held.0))
        }
        Came::Billed(_) | Came::Delivered(..) | Came::Late { .. } | Came::Lapsed { .. } => return None,
    };
    Some((whose, Moved { event: Some(event), deed, nanos, spot: None })).filter(|_| nanos != 0)
}

/// What the ledger says: over the admin port, or from its file.
fn pages(args: &ReconcileArgs, journal: &Path) -> Result<Vec<Page>, AuditError> {
    let mut pages = Vec::new();
    let mut from = Some(AccountId::NONE);
    let Some(admin) = args.admin else {
        let near = [Some(args.place.dir.as_path()), journal.parent()];
        let dir = near.into_iter().flatten().find(|dir| dir.join(FILE).exists());
        let dir = dir.ok_or_else(|| {
            let path = args.place.dir.display();
            AuditError::Ledger(format!("{path}: no ledger ({FILE}) is here. Name the `state_dir` of the exchange"))
        })?;
        let mut config = config::load("", 1).map_err(|_| AuditError::Ledger("no configuration".to_owned()))?;
        config.state_dir = dir.to_path_buf();
        let ledger = Ledger::open(&config, turn::now)
            .map_err(|e| AuditError::Ledger(format!("{e}. If the exchange runs, name its admin port with --admin")))?;
        let page = ledger.page(args.day, AccountId::NONE, usize::MAX);
        return Ok(vec![page.map_err(|e| AuditError::Ledger(e.to_string()))?]);
    };
    while let Some(next) = from {
        let day = utc(u64::from(args.day) * DAY_MS);
        let date = day.get(..10).unwrap_or(&day);
        let asked = cli::fetch(admin, &format!("/budget/days/{date}?from={}&most={PAGE}", next.0));
        let (status, body) = asked.map_err(AuditError::Ledger)?;
        let page = Page::parse(&body).filter(|_| status == 200).ok_or_else(|| {
            AuditError::Ledger(format!("{admin}: {}", body.lines().next().unwrap_or("an empty answer")))
        })?;
        from = page.next;
        pages.push(page);
    }
    Ok(pages)
}

/// Waits until the journal has what the ledger has heard of: frames pass through the black box. What it still lacks.
pub(super) fn wait(books: &Books, journal: &Path) -> Vec<String> {
    // Numbers of frames rise from page to page.
    let live = books.holders.iter().flatten().filter(|(id, h)| id.node == books.node && h.live);
    let wanted: BTreeMap<_, _> = live
        .flat_map(|(id, h)| h.frames.iter().enumerate().map(move |(core, upto)| ((id.epoch, core as u16), *upto)))
        .filter(|((_, core), upto)| *upto > 0 && *core < WRITER_CONTROL)
        .map(|(key, upto)| (key, Wanted { after: upto - 1, upto }))
        .collect();
    let until = Instant::now() + PATIENCE;
    loop {
        let read = since::read(&mut Dir::new(journal), books.node, &wanted, &mut |_, _| {});
        let missing = match read {
            Ok(since::Read { missing: None, .. }) => return Vec::new(),
            Ok(since::Read { missing: Some(missing), .. }) => missing.to_string(),
            Err(e) => e.to_string(),
        };
        if Instant::now() >= until {
            let next = "they may be in black boxes yet, which the next start reads out";
            return vec![format!("the ledger has heard of more than the journal has: {missing}; {next}")];
        }
        std::thread::sleep(LOOK);
    }
}
