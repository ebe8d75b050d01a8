//! A core's ledger with 100,000 campaigns: check and reserve, as a decision asks.
//! Owns: the ledger and the names of its campaigns. Called by: `micro`.
use crate::counted;
use outcry::{
    auction::{Account, Answer, Funds, Place, Ticket, Unlimited},
    budget::{
        AccountId, CoreGrant, LineKey, Period,
        core::{Capacity, CoreLedger, DirectoryBatch, Entry, Policy},
    },
    units::{DspIx, Money, mix},
};
use std::{hint::black_box, time::Instant};

const CAMPAIGNS: usize = 100_000;
const S: u64 = 1_000_000_000;

pub(crate) struct Ledger {
    core: CoreLedger,
    names: Vec<(String, String)>,
    /// Of each name what an auction knows when it decides, its place in the configuration, and its two keys.
    keys: Vec<(u64, u64)>,
}

fn account<'a>((seat, cid): &'a (String, String), (dsp_key, seat_key): (u64, u64)) -> Account<'a> {
    Account { dsp: DspIx(0), dsp_key, seat_key, seat: seat.as_bytes(), cid: cid.as_bytes() }
}

/// As the decision does it: by way of a table of functions.
fn check_and_reserve(funds: &mut dyn Funds, account: &Account<'_>, count: bool) -> Result<Ticket, Answer> {
    let (funds, account) = (black_box(funds), black_box(account));
    let mut held = Err(Answer::NoAccount);
    counted(count, || {
        let place = funds.can_pay(account, Money(1_000)).unwrap_or(Place::UNKNOWN);
        held = funds.reserve(account, place, Money(900));
    });
    black_box(held)
}

impl Ledger {
    /// Seats of eight bytes, campaign ids as UUIDs are written.
    pub(crate) fn new() -> Ledger {
        let mut core = CoreLedger::new(Capacity { dirty: CAMPAIGNS, ..Capacity::of(CAMPAIGNS + CAMPAIGNS / 10) }, 42);
        assert!(core.configure([(&b"dsp-0"[..], Policy::default())].into_iter()), "there is room for a DSP");
        let name = |i: usize| {
            let (a, b) = (mix(i as u64), mix(!(i as u64)));
            let cid = format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                a >> 32,
                a >> 16 & 0xffff,
                a & 0xfff,
                b >> 52,
                b & 0xffff_ffff_ffff
            );
            (format!("seat-{:03}", i % 1_000), cid)
        };
        let names: Vec<_> = (0..CAMPAIGNS).map(name).collect();
        let mut batch = DirectoryBatch::new();
        for (i, (seat, cid)) in names.iter().enumerate() {
            if !batch.has_room() {
                core.apply(&mut batch);
                batch.clear();
            }
            let account = AccountId(i as u32 + 1);
            let (dsp, seat, cid) = (b"dsp-0"[..].into(), seat.as_bytes().into(), cid.as_bytes().into());
            assert!(batch.put(Entry { account, dsp, seat, cid }).is_ok(), "there is room in the batch");
        }
        core.apply(&mut batch);
        core.turn(S);
        for i in 0..CAMPAIGNS {
            let line = LineKey { account: AccountId(i as u32 + 1), period: Period(1) };
            core.grant(&CoreGrant { line, granted: Money(1 << 40), until_ns: 100 * S, ..CoreGrant::default() });
        }
        let keys = names.iter().map(|(seat, cid)| Account::of(DspIx(0), b"dsp-0", seat.as_bytes(), cid.as_bytes()));
        let keys = keys.map(|account| (account.dsp_key, account.seat_key)).collect();
        Ledger { core, names, keys }
    }

    /// A bid that can be paid and wins, of one campaign after another in no order.
    pub(crate) fn check_and_reserve(&mut self, count: bool, i: usize) {
        let at = (mix(i as u64) % CAMPAIGNS as u64) as usize;
        let Ledger { core, names, keys } = self;
        let (name, keys) = (&names[at], keys[at]);
        let account = account(name, keys);
        let held = check_and_reserve(core, &account, count);
        assert!(held.is_ok());
    }

    /// The same of funds that everybody has: what the bench takes itself.
    pub(crate) fn nothing(&mut self, count: bool, i: usize) {
        let at = (mix(i as u64) % CAMPAIGNS as u64) as usize;
        let account = account(&self.names[at], self.keys[at]);
        assert!(check_and_reserve(&mut Unlimited, &account, count).is_ok());
    }

    /// Check, reserve, charge, note for the delivery, and forget it.
    pub(crate) fn whole(&mut self, count: bool, i: usize) {
        let at = (mix(i as u64) % CAMPAIGNS as u64) as usize;
        let Ledger { core, names, keys } = self;
        let (name, keys) = (&names[at], keys[at]);
        let seq = i as u64 + 1;
        let account = black_box(account(name, keys));
        counted(count, || {
            let place = core.can_pay(&account, Money(1_000)).unwrap_or(Place::UNKNOWN);
            let ticket = core.reserve(&account, place, Money(900)).unwrap_or_default();
            core.charge(ticket, Money(900), Money(899));
            core.won(seq, ticket, Money(899));
            core.delivered(seq);
        });
    }

    /// Check and reserve against three dependent random reads of a table of the ledger's size, by the clock, in turns.
    pub(crate) fn verdict() {
        let begin = Instant::now();
        let mut ledger = Ledger::new();
        let built = begin.elapsed().as_millis();
        let besides = CoreLedger::new(Capacity::of(0), 42).bytes();
        let each = (ledger.core.bytes() - besides) / (CAMPAIGNS + CAMPAIGNS / 10);
        println!("memory: {each} a campaign with its names, {besides} besides; built in {built} ms");
        let bytes = ledger.core.bytes();
        // A table of one cycle through all its cache lines, in no order, so that each read waits for the one before.
        let lines = bytes / 64;
        let mut order: Vec<u32> = (0..lines as u32).collect();
        for i in (1..lines).rev() {
            order.swap(i, (mix(i as u64) % (i as u64 + 1)) as usize);
        }
        let mut table = vec![[0u32; 16]; lines];
        for i in 0..lines {
            table[order[i] as usize][0] = order[(i + 1) % lines];
        }
        const OPS: usize = 50_000;
        let (mut reads, mut checks, mut at) = (Vec::new(), Vec::new(), 0);
        // The names are read in order before, as they would be in an answer just received.
        let picked: Vec<_> = (0..OPS)
            .map(|i| (mix(i as u64) % CAMPAIGNS as u64) as usize)
            .map(|at| (ledger.names[at].clone(), ledger.keys[at]))
            .collect();
        for _ in 0..9 {
            let begin = Instant::now();
            for _ in 0..3 * OPS {
                at = table[at as usize][0];
            }
            reads.push(black_box(begin.elapsed()));
            black_box(at);
            let begin = Instant::now();
            for (name, keys) in &picked {
                let account = account(name, *keys);
                let place = ledger.core.can_pay(&account, Money(1_000)).unwrap_or(Place::UNKNOWN);
                black_box(ledger.core.reserve(&account, place, Money(900)).is_ok());
            }
            checks.push(begin.elapsed());
        }
        reads.sort_unstable();
        checks.sort_unstable();
        let ns = |all: &[std::time::Duration]| all[all.len() / 2].as_nanos() as usize / OPS;
        let (reads, checks) = (ns(&reads), ns(&checks));
        let verdict = if checks <= reads { "within" } else { "ABOVE" };
        println!(
            "ledger of {CAMPAIGNS} campaigns, {bytes} bytes: check and reserve {checks} ns, three random reads {reads} ns: {verdict}"
        );
    }
}
