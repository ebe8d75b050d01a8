//! Anything may happen, in any order: the ledger beside a twin that keeps plain sums, and a server that hears it.
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ACCOUNTS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// So many units of time pass.
    Wait(u64),
    /// The server grants so much more of a window, for so long, perhaps recalling.
    Grant {
        account: u32,
        window: u32,
        more: i64,
        units: u64,
        recall: bool,
    },
    /// A grant of before comes again.
    Again(usize),
    Stop {
        account: u32,
        window: u32,
    },
    Touch {
        account: u32,
        price: i64,
    },
    /// An auction of one or two winners; the second may be given up, as a group is.
    Auction {
        accounts: (u32, u32),
        amount: i64,
        charge: i64,
        gives_up: bool,
    },
    Delivered {
        ago: u64,
        arrived: bool,
    },
    /// A tick, with room for so many reports.
    Tick(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let account = || 1..=ACCOUNTS;
    prop_oneof![
        3 => (1u64..4_000).prop_map(Step::Wait),
        1 => (4_000u64..30_000).prop_map(Step::Wait),
        6 => (account(), 0u32..4, 0i64..500, 0u64..30_000, prop::bool::weighted(0.1))
            .prop_map(|(account, window, more, units, recall)| Step::Grant { account, window, more, units, recall }),
        3 => any::<usize>().prop_map(Step::Again),
        1 => (account(), 0u32..4).prop_map(|(account, window)| Step::Stop { account, window }),
        2 => (account(), 1i64..100).prop_map(|(account, price)| Step::Touch { account, price }),
        12 => ((account(), account()), 1i64..100, 0i64..3, prop::bool::weighted(0.2)).prop_map(
            |(accounts, amount, less, gives_up)| Step::Auction { accounts, amount, charge: (amount - less).max(0), gives_up }
        ),
        4 => (0u64..8, any::<bool>()).prop_map(|(ago, arrived)| Step::Delivered { ago, arrived }),
        4 => prop_oneof![Just(64usize), 0usize..8].prop_map(Step::Tick),
    ]
}

/// A line as plain sums.
#[derive(Clone, Debug, Default)]
struct TwinLine {
    /// Granted by the server, and heard of by the core.
    granted: i128,
    charged: i128,
    freed: i128,
    returned: i128,
    from: u64,
    until: u64,
    stopped: bool,
}

impl TwinLine {
    fn free(&self) -> i128 {
        self.granted - self.charged + self.freed - self.returned
    }
}

type Key = (u32, u32);

struct World {
    ledger: CoreLedger,
    now: u64,
    lines: BTreeMap<Key, TwinLine>,
    /// The latest end of each window so far; what the server grants anew ends later.
    ends: BTreeMap<Key, u64>,
    /// When forgotten lines would have ended.
    gone: BTreeMap<Key, u64>,
    sent: Vec<CoreGrant>,
    /// Winners whose delivery is not known.
    open: BTreeMap<u64, Vec<(Key, i128)>>,
    seq: u64,
    /// What the server heard, up to the last end.
    heard: BTreeMap<Key, (i128, i128, i128)>,
}

fn cid(account: u32) -> String {
    format!("c{account}")
}

fn key(line: LineKey) -> Key {
    (line.account.0, line.period.0)
}

impl World {
    fn new(planted: Planted) -> World {
        let mut ledger = ledger(small(ACCOUNTS as usize), ACCOUNTS);
        ledger.plant(planted);
        World {
            ledger,
            now: S,
            lines: BTreeMap::new(),
            ends: BTreeMap::new(),
            gone: BTreeMap::new(),
            sent: Vec::new(),
            open: BTreeMap::new(),
            seq: 0,
            heard: BTreeMap::new(),
        }
    }

    /// The line that a bid spends now, by the twin's books.
    fn current(&self, account: u32) -> Option<Key> {
        let runs = |l: &TwinLine| l.from <= self.now && self.now < l.until;
        self.lines.iter().find(|(k, l)| k.0 == account && runs(l)).map(|(k, _)| *k)
    }

    fn answer(&self, account: u32, amount: i64) -> Answer {
        match self.current(account).map(|k| &self.lines[&k]) {
            None => Answer::NoMoney,
            Some(l) if l.stopped => Answer::Paused,
            Some(l) if l.free() < i128::from(amount) => Answer::NoMoney,
            Some(_) => Answer::Yes,
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Wait(units) => {
                self.now += units * UNIT;
                self.ledger.turn(self.now);
            }
            Step::Grant { account, window, more, units, recall } => self.send(account, window, more, units, recall),
            Step::Again(nth) if !self.sent.is_empty() => {
                // Whatever it said, it was said before.
                let old = self.sent[nth % self.sent.len()];
                self.ledger.grant(&old);
                self.stopped_by(&old);
                self.repeated(&old);
            }
            Step::Again(_) => {}
            Step::Stop { account, window } => {
                // A server stops what it believes to be there.
                if self.lines.contains_key(&(account, window)) {
                    let stop = stop(account, window);
                    self.ledger.grant(&stop);
                    self.stopped_by(&stop);
                }
            }
            Step::Touch { account, price } => self.ledger.touch(&bid("s", &cid(account)), Money(price)),
            Step::Auction { accounts: (a, b), amount, charge, gives_up } => {
                self.seq += 1;
                let first = self.reserve(a, amount)?;
                let second = self.reserve(b, amount)?;
                for (n, ticket) in [first, second].into_iter().enumerate() {
                    let Some(ticket) = ticket else { continue };
                    let line = self.lines.get_mut(&(ticket.account.0, ticket.period.0)).expect("it paid");
                    line.returned -= i128::from(amount);
                    if gives_up && n == 1 {
                        self.ledger.release(ticket, Money(amount));
                        continue;
                    }
                    self.ledger.charge(ticket, Money(amount), Money(charge));
                    self.ledger.won(self.seq, ticket, Money(charge));
                    line.charged += i128::from(charge);
                    let win = ((ticket.account.0, ticket.period.0), i128::from(charge));
                    if charge > 0 {
                        self.open.entry(self.seq).or_default().push(win);
                    }
                }
            }
            Step::Delivered { ago, arrived } => {
                let seq = self.seq.saturating_sub(ago);
                let won = self.open.remove(&seq).unwrap_or_default();
                if arrived {
                    self.ledger.delivered(seq);
                } else {
                    let freed: Vec<_> = self.ledger.not_delivered(seq).to_vec();
                    // A line may have been forgotten since; all else is freed, of the line that paid.
                    let expected: Vec<_> = won.into_iter().filter(|(k, _)| self.lines.contains_key(k)).collect();
                    let got: Vec<_> =
                        freed.iter().map(|f| ((f.account.0, f.period.0), i128::from(f.amount.0))).collect();
                    prop_assert_eq!(&got, &expected);
                    for (k, amount) in got {
                        self.lines.get_mut(&k).expect("just looked up").freed += amount;
                    }
                }
            }
            Step::Tick(room) => self.tick(room)?,
        }
        self.check()
    }

    /// While it is reserved it is taken off by way of `returned`.
    fn reserve(&mut self, account: u32, amount: i64) -> Result<Option<Ticket>, TestCaseError> {
        let expected = self.answer(account, amount);
        let name = cid(account);
        prop_assert_eq!(can_pay(&mut self.ledger, &bid("s", &name), Money(amount)), expected);
        let got = reserve(&mut self.ledger, &bid("s", &name), Money(amount));
        prop_assert_eq!(got.map_or_else(|why| why, |_| Answer::Yes), expected);
        if let Ok(t) = got {
            prop_assert_eq!(Some((t.account.0, t.period.0)), self.current(account), "the window that runs pays");
            self.lines.get_mut(&(t.account.0, t.period.0)).expect("it is the current").returned += i128::from(amount);
        }
        Ok(got.ok())
    }

    /// Windows are of 20,000 units. A server grants nothing of a line that it has stopped.
    fn send(&mut self, account: u32, window: u32, more: i64, units: u64, recall: bool) {
        let k = (account, window);
        if self.lines.get(&k).is_some_and(|l| l.stopped) {
            return;
        }
        let (begins, ends) = (u64::from(window) * 20_000 * UNIT, u64::from(window + 1) * 20_000 * UNIT);
        let until = (self.now + units * UNIT).clamp(begins, ends);
        let line = self.lines.get(&k);
        let known = line.map_or(0, |l| l.granted as i64);
        let grant = CoreGrant { from_ns: begins, recall, ..grant(account, window, known + more, until) };
        let before = self.ends.get(&k).copied();
        let is_new = line.is_none();
        // The server's ends only rise.
        if before.is_some_and(|b| until < b || is_new && until == b) {
            return;
        }
        self.ends.insert(k, until);
        self.ledger.grant(&grant);
        self.sent.push(grant);
        let slot = self.ledger.directory.slot_of(AccountId(account)).expect("it is listed");
        if is_new && self.ledger.nth(slot, Period(window)).is_none() {
            return; // no room for a third window, or it was over before it came
        }
        let line = self.lines.entry(k).or_default();
        line.granted = i128::from(known + more);
        (line.from, line.until) = (begins, until.max(line.until));
    }

    /// A grant that comes again adds nothing, unless it found no room before; one of a line that is forgotten never.
    fn repeated(&mut self, old: &CoreGrant) {
        let k = key(old.line);
        if old.stop || self.gone.get(&k).is_some_and(|gone| old.until_ns <= *gone) {
            return;
        }
        let slot = self.ledger.directory.slot_of(old.line.account).expect("it is listed");
        if self.ledger.nth(slot, old.line.period).is_some() {
            let line = self.lines.entry(k).or_default();
            if !line.stopped {
                line.granted = line.granted.max(i128::from(old.granted.0));
                (line.from, line.until) = (old.from_ns, line.until.max(old.until_ns));
            }
        }
    }

    fn stopped_by(&mut self, grant: &CoreGrant) {
        if let Some(line) = self.lines.get_mut(&key(grant.line)) {
            line.stopped |= grant.stop;
        }
    }

    fn tick(&mut self, room: usize) -> Result<(), TestCaseError> {
        let mut out = Narrow(Vec::new(), room);
        let told = self.ledger.tick(self.now, self.seq, &mut out);
        if told == Told::NoRoom {
            prop_assert!(out.0.is_empty() && room < 2 * ACCOUNTS as usize + limits::BUDGET_STRANGERS_MAX + 1);
            return Ok(());
        }
        prop_assert_eq!(out.0.pop(), Some(CoreReport::End { frame_seq: self.seq }));
        for report in out.0 {
            let CoreReport::Line(told) = report else { panic!("{report:?} in a statement") };
            let k = key(told.line);
            let Some(line) = self.lines.get_mut(&k) else {
                // A stop that came again, of a line that is forgotten.
                prop_assert!(told.last && told.granted == told.returned);
                continue;
            };
            let returned = i128::from(told.returned.0);
            prop_assert!(returned >= line.returned, "what is returned stays so");
            line.returned = returned;
            prop_assert!(line.free() >= 0, "no more is returned than is there");
            prop_assert!(told.want >= told.granted || line.stopped);
            prop_assert_eq!(i128::from(told.granted.0), line.granted);
            self.heard.insert(k, (i128::from(told.charged.0), i128::from(told.freed.0), returned));
            if told.last {
                prop_assert!(line.stopped && line.free() == 0, "all of it is spent or home");
                self.gone.insert(k, line.until);
                self.lines.remove(&k);
                self.heard.remove(&k);
            }
        }
        // What was not told has not changed.
        for (k, line) in &self.lines {
            let heard = self.heard.get(k).copied().unwrap_or_default();
            prop_assert_eq!((line.charged, line.freed, line.returned), heard, "{:?}", k);
        }
        Ok(())
    }

    /// Each line is what the twin says, and adds up.
    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.ledger.violation(), None);
        let mut there = 0;
        for account in 1..=ACCOUNTS {
            let slot = self.ledger.directory.slot_of(AccountId(account)).expect("it is listed");
            for line in self.ledger.directory.table[slot as usize].lines.iter().filter(|l| l.is_there()) {
                there += 1;
                prop_assert_eq!(line.check(), Ok(()));
                let Some(twin) = self.lines.get(&(account, line.period.0)) else {
                    return Err(TestCaseError::fail(format!("an old grant made a line: {line:?}")));
                };
                let ours = [line.granted, line.charged, line.freed, line.returned, line.free].map(|m| i128::from(m.0));
                prop_assert_eq!(ours, [twin.granted, twin.charged, twin.freed, twin.returned, twin.free()]);
                prop_assert!(twin.charged - twin.freed <= twin.granted, "overspent");
                prop_assert_eq!(line.reserved, Money(0));
            }
        }
        prop_assert_eq!(there, self.lines.len());
        Ok(())
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..120)
}

fn all(planted: Planted, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(planted);
    steps.iter().try_for_each(|s| world.run(s))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_ledger_is_what_plain_sums_are(steps in steps()) {
        all(Planted::default(), &steps)?;
    }
}

/// What the twin is for: each fault that the ledger can commit is found by random steps alone.
#[test]
fn planted_faults_are_found() {
    use proptest::test_runner::{Config, TestRunner};
    for fault in [Fault::DeliveryIgnored, Fault::ExpiredUsed, Fault::PeriodMixed] {
        let config = Config { cases: 2_000, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
        let found = TestRunner::new(config).run(&steps(), |steps| all(Planted::fault(fault), &steps));
        assert!(found.is_err(), "{fault:?} is not found");
    }
}
