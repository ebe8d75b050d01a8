//! `outcry audit reconcile`: do the ledger and the records say the same of what was spent on a day?
//!
//! The ledger knows, of each start of the process, what it spent of each window: for good once that start is over, and until then
//! as of certain frames of each core. The record is added up over exactly the same frames, so the two are equal to the
//! nano-unit at any moment, also while the exchange runs; what came behind those frames is named as not reported yet. Where charges
//! wait for their billing notices, what has gone home without one counts once the ledger has settled its line for good; a
//! notice that came too late to be charged is the house's loss, and has a column of its own.
use super::{AuditError, Out, Place, Range, Where, advertiser::money, directory::Journal, say, walk};
use crate::{
    bidder::turn,
    journal::{
        dir::Dir,
        since::{self, Wanted},
    },
    money::{
        cli,
        day::{self, Campaign, Holder, Page},
        ledger::Ledger,
        store::FILE,
    },
};
use clap::Args;
use outcry::{
    auction::{Delivery, Record, delivery, record},
    budget::{
        AccountId, LineKey, Period,
        granter::{End, HolderId},
    },
    config,
    notice::{
        holds::Lapse,
        token::Kind as Of,
        told::{Name, Notice},
    },
    record::{
        frame::{Frame, Kind, WRITER_CONTROL},
        show::{columns::Columns, json::Object},
        when::utc,
    },
    units::EventId,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Records are written at most so long before or after the window begins that they are charged to, or ends: a day begins up to
/// 14 hours before UTC's and ends as much after it, lasts up to 25, and clocks and deliveries are late.
const AROUND_MS: u64 = 36 * 3_600_000;
const DAY_MS: u64 = 86_400_000;
/// What is held may go home so long after that, and a notice come too late: tokens live seven days at most.
const NOTICED_MS: u64 = 8 * DAY_MS;
/// Accounts in one answer of the exchange.
const PAGE: usize = 1_000;
/// What the ledger has heard of is in the journal before long: `commit_ms` is ten seconds at most.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);
/// Records that are listed for one difference.
const LISTED: usize = 20;

#[derive(Args, Debug)]
pub(super) struct ReconcileArgs {
    /// Windows that began on this day where their campaign is at home: 2026-01-31.
    #[arg(long, value_name = "DATE", value_parser = date)]
    day: u32,
    /// The admin port of the exchange, if it runs: the ledger's file is its alone then.
    #[arg(long)]
    admin: Option<SocketAddr>,
    #[command(flatten)]
    place: Where,
}

fn date(text: &str) -> Result<u32, String> {
    day::number(text).ok_or_else(|| "a day is a date such as 2026-01-31".to_owned())
}

/// A window, and who spent of it: a start of the process, or [`ARCHIVE`].
type Key = (LineKey, HolderId);
/// Takes the place of all starts in a window that is in the archive; none has epoch 0.
const ARCHIVE: HolderId = HolderId { node: 0, epoch: 0 };

/// One place where the two are compared; nano-units.
#[derive(Default)]
struct Pair {
    ledger: i128,
    /// Of that, what the ledger itself says no record proves.
    forfeit: i128,
    /// Charged and not freed.
    record: i128,
    /// The same, in frames that the ledger has not heard of.
    unreported: i128,
    /// Would have been charged to winners, had their notices come in time.
    late: i128,
    /// The ledger has a line of it.
    known: bool,
    /// The line is over for good, so all frames count.
    over: bool,
}

impl Pair {
    fn difference(&self) -> i128 {
        self.ledger - self.record
    }
}

/// All that is compared.
#[derive(Default)]
struct Books {
    /// With the page that a campaign is from.
    campaigns: BTreeMap<AccountId, (usize, Campaign)>,
    /// Of each page: sums are as of the frames that were known then.
    holders: Vec<BTreeMap<HolderId, Holder>>,
    /// The exchange runs: a start that the ledger has not heard of may be its own.
    running: bool,
    pairs: BTreeMap<Key, Pair>,
    /// Notices that came too late, each once.
    late: BTreeSet<Name>,
    day: u32,
    node: u32,
}

impl Books {
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
    fn holds(&self, key: LineKey) -> bool {
        let (from, until) = match self.campaigns.get(&key.account) {
            Some((_, c)) => (c.from, c.until),
            None => (Period(self.day * 1440), Period((self.day + 1) * 1440)),
        };
        (from..until).contains(&key.period)
    }

    /// Adds what was recorded.
    fn count(&mut self, moved: &Moved, frame: &Frame<'_>) {
        if self.holds(moved.line) {
            let (key, heard) = self.place(moved.line, frame);
            let pair = self.pairs.entry(key).or_default();
            let sum = if heard { &mut pair.record } else { &mut pair.unreported };
            *sum += moved.nanos;
        }
    }

    fn noticed(&mut self, frame: &Frame<'_>) {
        match frame.kind() {
            Some(Kind::Settlement) => Lapse::decode(frame.payload()).iter().for_each(|lapse| self.lapse(lapse)),
            Some(Kind::Notice) => Notice::decode(frame.payload()).iter().for_each(|notice| self.late(notice)),
            _ => {}
        }
    }

    /// Adds what has gone home without a notice, where nothing of the line can change any more.
    fn lapse(&mut self, lapse: &Lapse) {
        let (line, own) = (lapse.of.line, HolderId { node: self.node, epoch: lapse.of.epoch });
        let holder = if self.pairs.contains_key(&(line, own)) { own } else { ARCHIVE };
        if let Some(pair) = self.pairs.get_mut(&(line, holder)).filter(|pair| pair.over) {
            pair.record -= i128::from(lapse.amount.0);
        }
    }

    /// Adds a notice that nothing was charged for, as it came too late.
    fn late(&mut self, notice: &Notice<'_>) {
        let line = LineKey { account: notice.account, period: notice.period };
        let held = notice.held.filter(|_| notice.expired && notice.name.kind == Of::Billed && self.holds(line));
        if let Some(held) = held.filter(|_| self.late.insert(notice.name)) {
            let own = HolderId { node: notice.name.event.node, epoch: notice.name.event.epoch };
            let archived = !self.pairs.contains_key(&(line, own)) && self.pairs.contains_key(&(line, ARCHIVE));
            let holder = if archived { ARCHIVE } else { own };
            self.pairs.entry((line, holder)).or_default().late += i128::from(held.0);
        }
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

/// What moved money in a frame.
struct Moved {
    line: LineKey,
    event: EventId,
    nanos: i128,
}

/// All of a frame.
fn moved(frame: &Frame<'_>) -> Result<Vec<Moved>, outcry::record::RecordError> {
    let mut out = Vec::new();
    match frame.header.kind {
        record::KIND => {
            let record = Record::decode(frame.payload())?;
            for win in record.decision.wins.iter().filter(|w| w.account.is_some()) {
                let line = LineKey { account: win.account, period: win.period };
                out.push(Moved { line, event: record.inputs.event, nanos: win.charge.0.into() });
            }
        }
        delivery::KIND => {
            let known = Delivery::decode(frame.payload())?;
            for freed in known.freed {
                let line = LineKey { account: freed.account, period: freed.period };
                out.push(Moved { line, event: known.event, nanos: -i128::from(freed.amount.0) });
            }
        }
        _ => {}
    }
    Ok(out)
}

/// True: the two are equal, and all could be read.
pub(super) fn run(args: &ReconcileArgs) -> Result<bool, AuditError> {
    let mut journal = Journal::open(&args.place)?;
    let mut books = Books { day: args.day, node: journal.node, running: args.admin.is_some(), ..Books::default() };
    for page in pages(args, journal.path())? {
        books.add(page);
    }
    let short = wait(&books, journal.path());
    // What was written meanwhile is part of it.
    journal = Journal::open(&args.place)?;
    let begins = u64::from(args.day) * DAY_MS;
    let range = Range::between(begins.saturating_sub(AROUND_MS), begins + DAY_MS + AROUND_MS);
    let (mut readable, mut awaits) = (true, false);
    let whole = walk::frames(&mut journal, range, &mut |place, frame| {
        match frame.kind() {
            Some(Kind::Auction) => awaits |= record::awaits(frame.payload()),
            _ => books.noticed(frame),
        }
        match moved(frame) {
            Ok(all) => all.into_iter().for_each(|m| books.count(&m, frame)),
            Err(why) => {
                say(format_args!(
                    "segment {}, offset {}: the record cannot be read: {why}",
                    place.segment, place.offset
                ));
                readable = false;
            }
        }
        Ok(())
    })?;
    if awaits {
        let later = Range::between(begins + DAY_MS + AROUND_MS, begins + DAY_MS + AROUND_MS + NOTICED_MS);
        readable &= walk::frames(&mut journal, later, &mut |_, frame| {
            books.noticed(frame);
            Ok(())
        })?;
    }
    let differences: Vec<Key> = books.pairs.iter().filter(|(_, p)| p.difference() != 0).map(|(key, _)| *key).collect();
    let mut out = Out::new();
    print(&books, args, &mut out)?;
    if !differences.is_empty() {
        explain(&books, &differences, (&mut journal, range), args, &mut out)?;
    }
    out.end()?;
    for why in &short {
        say(format_args!("{why}"));
    }
    if !whole || !readable {
        say(format_args!(
            "not all could be read, so the record's sums may be too small; `outcry audit verify` says more"
        ));
    }
    Ok(differences.is_empty() && short.is_empty() && whole && readable)
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
fn wait(books: &Books, journal: &Path) -> Vec<String> {
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

fn print(books: &Books, args: &ReconcileArgs, out: &mut Out) -> Result<(), AuditError> {
    let mut accounts: BTreeMap<AccountId, Pair> = BTreeMap::new();
    for ((line, _), pair) in &books.pairs {
        let all = accounts.entry(line.account).or_default();
        all.ledger += pair.ledger;
        all.forfeit += pair.forfeit;
        all.record += pair.record;
        all.unreported += pair.unreported;
        all.late += pair.late;
    }
    let mut columns = Columns::new(&[
        "account",
        ">ledger",
        ">of it forfeit",
        ">record",
        ">not reported yet",
        ">difference",
        ">late notices",
    ]);
    let mut text = String::new();
    for (id, pair) in &accounts {
        let name = name(books, *id);
        let sums = [pair.ledger, pair.forfeit, pair.record, pair.unreported, pair.difference(), pair.late].map(money);
        if args.place.json {
            let [ledger, forfeit, record, unreported, difference, late] = &sums;
            Object::write(&mut text, |o| {
                o.word("type", "account");
                o.text("account", name.as_bytes());
                o.number("id", id.0);
                let all = [("ledger", ledger), ("forfeit", forfeit), ("record", record)];
                for (name, sum) in all.into_iter().chain([
                    ("not_reported", unreported),
                    ("difference", difference),
                    ("late_notices", late),
                ]) {
                    o.number(name, sum);
                }
            });
            text.push('\n');
        } else {
            let [a, b, c, d, e, f] = sums;
            columns.row([name, a, b, c, d, e, f]);
        }
    }
    if !args.place.json {
        if columns.is_empty() {
            text += "no budget was spent from\n";
        }
        columns.write(&mut text);
    }
    out.text(&text)
}

fn name(books: &Books, id: AccountId) -> String {
    books.campaigns.get(&id).map_or_else(|| format!("account {}", id.0), |(_, c)| c.name.clone())
}

/// A record that may explain a difference.
#[derive(Clone, Copy)]
struct Listed {
    event: EventId,
    nanos: i128,
    place: Place,
}

/// Names, for each difference, what it comes from and the records of that place: first those that moved just as much.
fn explain(
    books: &Books,
    differences: &[Key],
    (journal, range): (&mut Journal, Range),
    args: &ReconcileArgs,
    out: &mut Out,
) -> Result<(), AuditError> {
    let mut found: BTreeMap<Key, (u64, Vec<Listed>)> = differences.iter().map(|key| (*key, (0, Vec::new()))).collect();
    walk::frames(journal, range, &mut |place, frame| {
        for m in moved(frame).unwrap_or_default().into_iter().filter(|m| books.holds(m.line)) {
            let (key, _) = books.place(m.line, frame);
            let (Some((all, listed)), Some(pair)) = (found.get_mut(&key), books.pairs.get(&key)) else { continue };
            *all += 1;
            let exact = |nanos: i128| nanos.abs() == pair.difference().abs();
            if listed.len() == LISTED && exact(m.nanos) {
                // The latest that says less makes room.
                if let Some(at) = listed.iter().rposition(|l| !exact(l.nanos)) {
                    listed.remove(at);
                }
            }
            if listed.len() < LISTED {
                listed.push(Listed { event: m.event, nanos: m.nanos, place: *place });
            }
        }
        Ok(())
    })?;
    for (key, (all, mut listed)) in found {
        let Some(pair) = books.pairs.get(&key) else { continue };
        listed.sort_by_key(|l| l.nanos.abs() != pair.difference().abs());
        let text =
            if args.place.json { json(books, key, pair, all, &listed) } else { lines(books, key, pair, all, &listed) };
        out.text(&text)?;
    }
    Ok(())
}

fn why(books: &Books, holder: HolderId, pair: &Pair) -> String {
    match pair {
        _ if holder != ARCHIVE && holder.node != books.node => {
            format!("spent on node {:08x}, whose journal is another", holder.node)
        }
        Pair { forfeit, .. } if *forfeit > 0 && *forfeit >= pair.difference() && pair.difference() > 0 => {
            "the record of that start was not complete, so all it held counts as spent".to_owned()
        }
        Pair { known: false, .. } => "the ledger knows of no grant of it".to_owned(),
        _ if pair.difference() > 0 => "the ledger has more than the records".to_owned(),
        _ => "the records have more than the ledger".to_owned(),
    }
}

fn lines(books: &Books, (line, holder): Key, pair: &Pair, all: u64, listed: &[Listed]) -> String {
    let mut text = format!(
        "difference of {} in {}, window {}, {}: ledger {}, record {}: {}; {all} records\n",
        money(pair.difference()),
        name(books, line.account),
        utc(line.period.starts_ms()),
        if holder == ARCHIVE { "in the archive".to_owned() } else { format!("epoch {}", holder.epoch) },
        money(pair.ledger),
        money(pair.record),
        why(books, holder, pair),
    );
    for l in listed {
        let what = if l.nanos < 0 { "freed" } else { "charged" };
        let Place { segment, offset, .. } = l.place;
        text += &format!("  {} {what} {} (segment {segment}, offset {offset})\n", l.event, money(l.nanos.abs()));
    }
    if all > listed.len() as u64 {
        text += &format!("  and {} more\n", all - listed.len() as u64);
    }
    text
}

fn json(books: &Books, (line, holder): Key, pair: &Pair, all: u64, listed: &[Listed]) -> String {
    let mut text = String::new();
    Object::write(&mut text, |o| {
        o.word("type", "difference");
        o.text("account", name(books, line.account).as_bytes());
        o.word("window", utc(line.period.starts_ms()));
        o.some_number("epoch", (holder != ARCHIVE).then_some(holder.epoch));
        o.number("ledger", money(pair.ledger));
        o.number("record", money(pair.record));
        o.number("difference", money(pair.difference()));
        o.text("why", why(books, holder, pair).as_bytes());
        o.number("records", all);
        o.list("events", listed, |o, l| {
            o.word("bidid", l.event);
            o.number(if l.nanos < 0 { "freed" } else { "charged" }, money(l.nanos.abs()));
            o.number("segment", l.place.segment);
            o.number("offset", l.place.offset);
        });
    });
    text.push('\n');
    text
}
