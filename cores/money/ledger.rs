//! The ledger: accounts, budgets, what was granted of them, in memory and on disk together; and the thread that answers for it.
//! Owns: the store, the account tree, the granter. Runs on: the main thread at the start, then a thread of its own, which
//! waits for the disk. Called by: `boot`, the leases' thread, the admin port, a file of budgets. Never: says anything that is not
//! durable.
//!
//! A ledger whose store failed is not used again: nobody knows what is on disk. It is opened anew, and then has what is; whoever
//! asked asks again.
use super::{
    Accounts,
    api::{self, Answer, Call, Failed, Manager},
    day::Page,
    store::{Batch, LedgerStore, OpenError, StoreError},
    telling::Telling,
};
use crate::planted::{Fault, planted};
use outcry::{
    budget::{
        AccountId,
        core::{DirectoryBatch, Entry},
        event::{Ended, Event, Note, What},
        file::apply_file,
        granter::{
            Granter, HolderId, Standing, Totals, Violation,
            rows::{Change, Row},
            settle::{Final, RecoverFrom, Settled},
        },
        manage::{Known, Operation, apply},
        messages::{Ask, Reply},
        movement::{Deed, Movement},
        store::Store,
        tree::{Account, Owner, Tree},
        window::BucketKey,
    },
    config::{Config, Dsp, Mistake, RateTable},
    limits,
    record::labels::Money as Figure,
    units::Now,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// To the ledger's thread.
#[derive(Debug)]
pub enum ToLedger {
    /// From the leases of this machine.
    Ask(Box<Ask>),
    /// From the admin port.
    Call(Call, oneshot::Sender<Answer>),
    /// Another configuration is in force, with this text in the file of budgets.
    Configure(Box<Config>, Option<String>),
    /// What the record says by now of a start that is dead, of lines that wait for notices.
    Settle(HolderId, Vec<Final>),
    /// The leases have ended, and nobody else matters.
    Stop,
}

/// To the leases' thread: from the ledger's, and from the main thread at the end.
#[derive(Debug)]
pub enum ToLeases {
    /// To an ask.
    Reply(Reply),
    /// Accounts that are new, and the answer to whoever added them, which is given when every core knows them.
    Names(Box<DirectoryBatch>, Arc<Held>),
    /// What waits for notices as of these frames of each core, of the lines that have changed.
    Held(Vec<u64>, Vec<outcry::budget::server::Held>),
    /// The limits or the state of a campaign are other ones.
    Changed(AccountId),
    /// Every core's thread has ended, whatever became of its ends of the rings.
    Ended,
}

/// An answer that is given when the last who holds it lets go of it: what is true by then.
#[derive(Debug)]
pub struct Held(Option<(oneshot::Sender<Answer>, Answer)>);

impl Held {
    /// This answer, to whoever waits there.
    pub fn of(to: oneshot::Sender<Answer>, answer: Answer) -> Held {
        Held(Some((to, answer)))
    }

    /// Nobody waits.
    pub fn nobody() -> Held {
        Held(None)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((to, answer)) = self.0.take() {
            // Who asked may be gone.
            drop(to.send(answer));
        }
    }
}

/// Why there is no ledger. The text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands in it does not add up.
    #[error(
        "the ledger's sums do not add up: {0}. Nothing is granted from it. Restore it from a copy, or move it away and add \
         the budgets again, less what `outcry audit advertiser` says was spent"
    )]
    Books(Violation),
    /// The file of budgets.
    #[error("{path}: nothing of it was taken over:\n{}", .mistakes.iter().map(|m| format!("  {m}")).collect::<Vec<_>>().join("\n"))]
    File {
        /// Which.
        path: PathBuf,
        /// All that is wrong with it.
        mistakes: Vec<Mistake>,
    },
}

/// The clock.
pub type Clock = fn() -> Now;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    state_dir: PathBuf,
    store: LedgerStore,
    tree: Tree,
    granter: Granter,
    rates: RateTable,
    dsps: Vec<Dsp>,
    file: PathBuf,
    clock: Clock,
    /// What was changed and is to be told to the cores.
    moved: Vec<Movement>,
    /// Campaigns that were added and that no core knows.
    new_names: Vec<AccountId>,
    /// What happened to leases and is to be recorded.
    events: Vec<Event>,
    /// Why the store is not used any more.
    failed: Option<String>,
}

impl Ledger {
    /// Opens the ledger of a configuration, or begins one.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn open(config: &Config, clock: Clock) -> Result<Ledger, LedgerError> {
        let (rates, dsps) = (config.rates.clone(), config.dsps.clone());
        let file = config.budget.file.clone().unwrap_or_default();
        Ledger::open_in(&config.state_dir, (rates, dsps, file), clock)
    }

    fn open_in(
        state_dir: &Path,
        (rates, dsps, file): (RateTable, Vec<Dsp>, PathBuf),
        clock: Clock,
    ) -> Result<Ledger, LedgerError> {
        let store = LedgerStore::open(state_dir)?;
        let tree = store.tree()?;
        let mut rows = Vec::new();
        store.load(&mut |row| rows.push(row))?;
        let granter = Granter::load(rows, clock()).map_err(LedgerError::Books)?;
        let state_dir = state_dir.to_path_buf();
        Ok(Ledger {
            state_dir,
            store,
            tree,
            granter,
            rates,
            dsps,
            file,
            clock,
            moved: Vec::new(),
            new_names: Vec::new(),
            events: Vec::new(),
            failed: None,
        })
    }

    /// The same, from what is on disk.
    fn anew(self) -> Result<Ledger, Box<Failure>> {
        let Ledger { state_dir, store, rates, dsps, file, clock, .. } = self;
        // The file is one process's, once.
        drop(store);
        Closed { state_dir, rates, dsps, file, clock }.open()
    }

    /// What was granted.
    pub fn granter(&self) -> &Granter {
        &self.granter
    }

    /// Where it is kept.
    pub(super) fn store(&self) -> &LedgerStore {
        &self.store
    }

    /// The names by which bids find campaigns. Those that have ended too: their bids are refused, not without a budget.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.tree.list().filter_map(entry)
    }

    /// Starts of `node` before `epoch` whose money is not home, with what is known of each.
    pub fn unsettled(&self, node: u32, epoch: u32) -> Vec<(HolderId, RecoverFrom)> {
        let holders = self.granter.unsettled(node, epoch).into_iter().map(|epoch| HolderId { node, epoch });
        holders.map(|holder| (holder, self.granter.recover_from(holder))).collect()
    }

    /// What the record of a dead start says comes home; if it is not complete, what it does not prove is spent.
    ///
    /// # Errors
    /// The store.
    pub fn settle(&mut self, holder: HolderId, finals: &[Final], complete: bool) -> Result<Settled, LedgerError> {
        let settled = self.granter.settle(holder, finals, complete);
        self.keep_rows()?;
        let wall_ms = (self.clock)().unix_ms();
        self.events.push(Event { wall_ms, what: What::Settled { holder, complete, settled } });
        Ok(settled)
    }

    /// Answers an ask; the answer is durable.
    ///
    /// # Errors
    /// The store.
    pub fn ask(&mut self, ask: &Ask, now: Now) -> Result<Reply, LedgerError> {
        let reply = self.granter.ask(&self.tree, ask, now);
        if !planted(Fault::GrantNotKept) {
            self.keep_rows()?;
        }
        Ok(reply)
    }

    /// What is over goes to the archive, some of it at a time.
    ///
    /// # Errors
    /// The store.
    pub fn tidy(&mut self, now: Now) -> Result<(), LedgerError> {
        self.granter.tidy(&self.tree, now, TIDY);
        self.keep_rows()
    }

    /// Goes on with an audit, or begins one. `Some`: it is over.
    ///
    /// # Errors
    /// The store.
    pub fn audit(&mut self, now: Now) -> Result<Option<Totals>, LedgerError> {
        let over = self.granter.audit_on(now.boot_ns, AUDITED);
        self.keep_rows()?;
        Ok(over)
    }

    /// Makes the accounts what a file says. Returns how many changes it took.
    ///
    /// # Errors
    /// What is wrong with it: nothing was changed. Or the store.
    pub fn apply_file(&mut self, text: &str) -> Result<usize, LedgerError> {
        let known = Known { rates: &self.rates, dsps: &self.dsps, now_ms: (self.clock)().unix_ms() };
        let moved = apply_file(&mut self.tree, text, &known)
            .map_err(|mistakes| LedgerError::File { path: self.file.clone(), mistakes })?;
        let changes = moved.len();
        self.keep(moved)?;
        Ok(changes)
    }

    /// Stores what was changed in the tree.
    fn keep(&mut self, moved: Vec<Movement>) -> Result<(), StoreError> {
        if moved.is_empty() {
            return Ok(());
        }
        // An account that was changed twice is stored twice, as it is now.
        let accounts: Vec<&Account> = moved.iter().filter_map(|m| self.tree.get(m.account)).collect();
        let batch = Batch { accounts, movements: moved.iter().collect(), ..Batch::default() };
        self.store.commit(&batch).inspect_err(|e| self.failed = Some(e.to_string()))?;
        self.new_names.extend(moved.iter().filter(|m| m.deed == Deed::Add).map(|m| m.account));
        self.moved.extend(moved);
        Ok(())
    }

    fn keep_rows(&mut self) -> Result<(), LedgerError> {
        if self.granter.has_changes() {
            let changes = self.granter.changes();
            Store::commit(&mut self.store, &changes).inspect_err(|e| self.failed = Some(e.to_string()))?;
            let ended = changes.iter().filter_map(|change| match change {
                Change::Put(Row::Line(id, line)) => Some((id.holder, Ended::of(id.key, line)?)),
                _ => None,
            });
            self.events.extend(Event::ended((self.clock)().unix_ms(), ended.collect()));
        }
        Ok(())
    }
}

/// What a ledger is opened with.
struct Closed {
    state_dir: PathBuf,
    rates: RateTable,
    dsps: Vec<Dsp>,
    file: PathBuf,
    clock: Clock,
}

/// Why it could not be.
struct Failure {
    why: LedgerError,
    closed: Closed,
}

impl Closed {
    fn open(self) -> Result<Ledger, Box<Failure>> {
        let with = (self.rates.clone(), self.dsps.clone(), self.file.clone());
        Ledger::open_in(&self.state_dir, with, self.clock).map_err(|why| Box::new(Failure { why, closed: self }))
    }
}

fn entry(account: &Account) -> Option<Entry> {
    match &account.owner {
        Owner::Advertiser => None,
        Owner::Campaign { dsp, seat, cid, .. } => Some(Entry {
            account: account.id,
            dsp: dsp.as_bytes().into(),
            seat: seat.as_bytes().into(),
            cid: cid.as_bytes().into(),
        }),
    }
}

impl Manager for Ledger {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn apply(&mut self, operation: &Operation) -> Result<Option<Movement>, Failed> {
        if let Some(why) = &self.failed {
            return Err(Failed::Store(why.clone()));
        }
        let known = Known { rates: &self.rates, dsps: &self.dsps, now_ms: (self.clock)().unix_ms() };
        let moved = apply(&mut self.tree, operation, &known)?;
        self.keep(moved.iter().cloned().collect()).map_err(|e| Failed::Store(e.to_string()))?;
        Ok(moved)
    }

    fn history(&self, account: AccountId, most: usize) -> Result<Vec<Movement>, Failed> {
        self.store.history(account, most).map_err(|e| Failed::Store(e.to_string()))
    }

    fn standing(&self, bucket: &BucketKey) -> Standing {
        let advertiser = self.tree.get(bucket.account).is_some_and(|a| a.owner == Owner::Advertiser);
        self.granter.standing(bucket, advertiser, (self.clock)().boot_ns)
    }

    fn day(&self, day: u32, from: AccountId, most: usize) -> Result<Page, Failed> {
        self.page(day, from, most).map_err(|e| Failed::Store(e.to_string()))
    }

    fn now_ms(&self) -> u64 {
        (self.clock)().unix_ms()
    }
}

/// Windows and limits that are looked at in one go.
const TIDY: usize = 256;
/// Rows that an audit looks at in one go: at some 0.6 us each, a few milliseconds in which nobody is answered.
const AUDITED: usize = 4_096;
/// Audits begin this often, nanoseconds.
const AUDIT_NS: u64 = 60_000_000_000;
/// The thread tidies this often, nanoseconds.
const TIDY_NS: u64 = 1_000_000_000;
/// How long the thread waits for something to do.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same while an audit goes on.
const SHORT_PATIENCE: Duration = Duration::from_millis(1);

/// The ledger's thread.
pub struct Desk {
    /// What it answers for.
    pub ledger: Ledger,
    /// What it is asked.
    pub asked: Receiver<ToLedger>,
    /// The leases of this machine.
    pub leases: Sender<ToLeases>,
    /// Names that configurations look up.
    pub accounts: Arc<Accounts>,
    /// Who else hears of it.
    pub telling: Telling,
}

/// Answers until it is told to stop.
pub fn run(desk: Desk) {
    let Desk { ledger, asked, leases, accounts, mut telling } = desk;
    let clock = ledger.clock;
    let mut ledger = Ok(ledger);
    let mut upkeep = Upkeep::default();
    if let Ok(open) = &mut ledger {
        // Cores were made with the names of all accounts that there were.
        open.new_names.clear();
        report(open, &leases, &accounts, &mut telling, Held::nobody());
    }
    loop {
        let auditing = ledger.as_ref().is_ok_and(|open: &Ledger| open.granter.is_auditing());
        let message = match asked.recv_timeout(if auditing { SHORT_PATIENCE } else { PATIENCE }) {
            Ok(ToLedger::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
        };
        let mut open = match ledger {
            Ok(open) => open,
            Err(closed) => match Closed::open(closed) {
                Ok(open) => {
                    telling.say("the ledger is open again");
                    open
                }
                Err(failure) => {
                    let Failure { why, closed } = *failure;
                    telling.alarm("ledger-is-open", None, &format!("nothing is granted: {why}"), clock());
                    ledger = Err(closed);
                    continue;
                }
            },
        };
        let now = clock();
        let mut held = Held::nobody();
        let done = match message {
            None | Some(ToLedger::Stop) => Ok(()),
            // Who asks is gone when an answer cannot be sent, and with the last of them this ends.
            Some(ToLedger::Ask(ask)) => open.ask(&ask, now).map(|reply| drop(leases.send(ToLeases::Reply(reply)))),
            Some(ToLedger::Call(call, answer)) => {
                held = Held::of(answer, api::answer(&call, &mut open));
                Ok(())
            }
            Some(ToLedger::Settle(holder, finals)) => open.settle(holder, &finals, true).map(drop),
            Some(ToLedger::Configure(config, file)) => {
                (open.rates, open.dsps) = (config.rates, config.dsps);
                file.map_or(Ok(0), |text| open.apply_file(&text)).map(drop)
            }
        };
        let done =
            done.and_then(|()| if open.failed.is_none() { upkeep.go_on(&mut open, now, &mut telling) } else { Ok(()) });
        report(&mut open, &leases, &accounts, &mut telling, held);
        ledger = match done {
            Err(why @ LedgerError::File { .. }) => {
                telling.say(&why.to_string());
                Ok(open)
            }
            Err(why) => {
                telling.alarm("ledger-is-written", None, &format!("the ledger is opened anew: {why}"), now);
                open.anew().map_err(|failure| failure.closed)
            }
            Ok(()) if open.failed.is_some() => open.anew().map_err(|failure| failure.closed),
            Ok(()) => Ok(open),
        };
    }
}

/// What is done now and then, in between.
#[derive(Default)]
struct Upkeep {
    tidied_ns: u64,
    audited_ns: u64,
}

impl Upkeep {
    fn go_on(&mut self, ledger: &mut Ledger, now: Now, telling: &mut Telling) -> Result<(), LedgerError> {
        if now.boot_ns.saturating_sub(self.tidied_ns) >= TIDY_NS {
            self.tidied_ns = now.boot_ns;
            ledger.tidy(now)?;
        }
        if !ledger.granter.is_auditing() && now.boot_ns.saturating_sub(self.audited_ns) < AUDIT_NS {
            return Ok(());
        }
        self.audited_ns = now.boot_ns;
        if let Some(totals) = ledger.audit(now)? {
            telling.figures(|m| {
                for (figure, money) in [
                    (Figure::GranterGranted, totals.granted),
                    (Figure::GranterReturned, totals.returned),
                    (Figure::GranterSpent, totals.spent),
                    (Figure::GranterForfeit, totals.forfeit),
                    (Figure::GranterHeld, totals.held),
                    (Figure::GranterLeased, totals.leased),
                    (Figure::GranterQuarantined, totals.quarantined),
                ] {
                    m.set(figure, i128::from(money.0));
                }
                m.set(Figure::GranterLines, i128::from(totals.lines));
                m.set(Figure::QuarantinedLines, i128::from(totals.quarantined_lines));
            });
        }
        Ok(())
    }
}

/// What was changed and found is told to whom it concerns.
fn report(ledger: &mut Ledger, leases: &Sender<ToLeases>, accounts: &Accounts, telling: &mut Telling, held: Held) {
    // Held until the last batch of names has been taken; without any, to the end of this.
    let held = Arc::new(held);
    let names: Vec<Entry> = ledger.new_names.drain(..).filter_map(|id| entry(ledger.tree.get(id)?)).collect();
    for some in names.chunks(limits::BUDGET_BATCH_MAX) {
        let mut batch = Box::new(DirectoryBatch::new());
        // It has room for so many.
        some.iter().for_each(|entry| drop(batch.put(entry.clone())));
        drop(leases.send(ToLeases::Names(batch, held.clone())));
    }
    let moved = std::mem::take(&mut ledger.moved);
    for campaign in concerned(&ledger.tree, &moved) {
        drop(leases.send(ToLeases::Changed(campaign)));
    }
    for movement in moved {
        if let (Deed::Add, Some(account)) = (movement.deed, ledger.tree.get(movement.account)) {
            accounts.add(account);
        }
        telling.note(Note::Movement(Box::new(movement)));
    }
    ledger.events.drain(..).for_each(|event| telling.note(Note::Event(event)));
    let now = (ledger.clock)();
    let violations = ledger.granter.take_violations();
    for violation in &violations {
        let name = Violation::name(violation.code());
        telling.alarm(name, violation.account(), &format!("{violation}: nothing more is granted of the account"), now);
    }
    if !violations.is_empty() {
        telling.figures(|m| m.set_granter_violations(ledger.granter.violations_found()));
    }
    let stopped = ledger.granter.stopped().count() as i128;
    telling.figures(|m| m.set(Figure::Stopped, stopped));
}

/// The campaigns that these changes concern, each once: what is set of an advertiser concerns all of its own. One pass over the
/// tree, however many changes there are.
fn concerned<'a>(tree: &'a Tree, moved: &'a [Movement]) -> impl Iterator<Item = AccountId> + 'a {
    let changed: BTreeSet<AccountId> = moved.iter().map(|m| m.account).collect();
    let campaigns = if changed.is_empty() { None } else { Some(tree.list()) };
    campaigns
        .into_iter()
        .flatten()
        .filter(|a| a.owner != Owner::Advertiser)
        .filter(move |a| changed.contains(&a.id) || changed.contains(&a.advertiser()))
        .map(|a| a.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::Tree as Files;

    /// A file with a hundred thousand campaigns was told with a look at each for each of them: for hours.
    #[test]
    fn many_changes_concern_each_campaign_once() {
        let files = Files::new(&[]);
        let text = format!(
            "state_dir = {:?}\n[[dsp]]\nname = \"north\"\nurl = \"http://127.0.0.1:9/\"\n",
            files.0.display().to_string()
        );
        let config = outcry::config::load(&text, 1).expect("a configuration");
        let mut ledger = Ledger::open(&config, crate::bidder::turn::now).expect("a ledger");
        let mut budgets = String::new();
        for advertiser in ["one", "two"] {
            budgets += &format!("[[advertiser]]\nname = \"{advertiser}\"\ndaily = 5\n");
            for campaign in 0..3 {
                budgets += &format!(
                    "[[advertiser.campaign]]\nname = \"{advertiser}-{campaign}\"\ndsp = \"north\"\nseat = \"s\"\n\
                     cid = \"{advertiser}-{campaign}\"\ndaily = 1\n"
                );
            }
        }
        ledger.apply_file(&budgets).expect("budgets");
        assert_eq!((ledger.moved.len(), ledger.new_names.len()), (8, 8));
        let told = |ledger: &Ledger| concerned(&ledger.tree, &ledger.moved).count();
        assert_eq!(told(&ledger), 6, "each campaign once, no advertiser");
        ledger.moved.clear();
        assert_eq!(told(&ledger), 0);
        ledger.apply_file(&budgets.replace("\"one\"\ndaily = 5", "\"one\"\ndaily = 6")).expect("budgets");
        assert_eq!((ledger.moved.len(), told(&ledger)), (1, 3), "an advertiser's own");
    }
}
