//! What leases cost: the ledgers of 32 cores, 100,000 campaigns whose wins follow Zipf's law, virtual time. Counted is the CPU time
//! of the server role, everything between a core's ring and the granter's door, and that of the ledger: the granter, its
//! books and every commit of its store, less the waiting for the disk.
//!
//!   leases cores=32 campaigns=100000 wins=250 tick_ms=20 seconds=60 dir=/dev/shm
//!
//! `wins` is of one core in a second. In `dir` a ledger is made and removed. Prints the shares of one CPU, what they must be,
//! and whether they are.
use outcry::{
    auction::{Account, Funds},
    budget::{
        Period,
        core::{CoreLedger, Policy},
        server::Server,
    },
    config,
    units::{DspIx, MS, Money, Now, mix},
};
use outcry_benches::kit::{Args, thread_cpu_ns};
use outcry_cores::money::{Accounts, leases::GATHER_NS, ledger::Ledger};
use std::{fmt::Write, path::Path, process::ExitCode};

/// As the product allocates.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of a campaign, a bid costs so much: two dollars per thousand.
const PRICE: Money = Money(2_000_000);
/// A day in 2024.
const PERIOD: Period = Period(19_800 * 1_440);
/// Virtual time begins at six that day.
const CLOCK: fn() -> Now = || at(1_000_000 * MS);
/// Under each advertiser.
const CAMPAIGNS: usize = 100;
/// Of one CPU, thousandths.
const MUST: u64 = 50;
/// All campaigns are known and all cores have their least parts after so many virtual seconds.
const WARM: u64 = 60;

/// A core that wins, and says so: the product's own ledger, and every answer delivered.
struct Core<'a> {
    ledger: CoreLedger,
    cids: &'a [String],
    auctions: u64,
    wins: u64,
    refused: u64,
}

impl Core<'_> {
    fn bid(&mut self, campaign: u32) {
        let cid = self.cids[campaign as usize].as_bytes();
        let account = Account::of(DspIx(0), b"north", b"s", cid);
        self.auctions += 1;
        let held = self.ledger.can_pay(&account, PRICE).and_then(|place| self.ledger.reserve(&account, place, PRICE));
        match held {
            Ok(ticket) => {
                self.ledger.charge(ticket, PRICE, PRICE);
                self.ledger.won(self.auctions, ticket, PRICE);
                self.ledger.delivered(self.auctions);
                self.wins += 1;
            }
            Err(_) => {
                self.ledger.touch(&account, PRICE);
                self.refused += 1;
            }
        }
    }
}

const fn at(boot_ns: u64) -> Now {
    let day_ns = PERIOD.0 as i64 * 60_000_000_000;
    Now { boot_ns, wall_offset_ns: day_ns + 6 * 3_600_000_000_000 - 1_000_000 * MS as i64 }
}

/// A ledger with so many campaigns, each with a budget that lasts.
fn ledger(dir: &Path, campaigns: usize) -> Ledger {
    let text = format!("state_dir = \"{}\"\n[[dsp]]\nname = \"north\"\nurl = \"http://127.0.0.1:9/\"\n", dir.display());
    let config = config::load(&text, 1).expect("a configuration");
    let mut ledger = Ledger::open(&config, CLOCK).expect("a ledger");
    let mut budgets = String::new();
    for campaign in 0..campaigns {
        if campaign % CAMPAIGNS == 0 {
            let _ = writeln!(budgets, "[[advertiser]]\nname = \"a{}\"\ndaily = 100000000", campaign / CAMPAIGNS);
        }
        let _ = writeln!(
            budgets,
            "[[advertiser.campaign]]\nname = \"c{campaign}\"\ndsp = \"north\"\nseat = \"s\"\ncid = \"{campaign}\"\ndaily = 1000000"
        );
    }
    ledger.apply_file(&budgets).expect("budgets");
    ledger
}

/// Removed at the end, whatever comes of it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() -> ExitCode {
    let a = Args::parse(&["cores", "campaigns", "wins", "tick_ms", "seconds", "dir"]);
    let (cores, campaigns) = (a.count("cores", 32), a.count("campaigns", 100_000));
    let (wins, tick_ms, seconds) =
        (a.count("wins", 250) as u64, a.count("tick_ms", 20) as u64, a.count("seconds", 60) as u64);
    // Zipf: the k-th campaign is won 1/k as often as the first.
    let mut zipf: Vec<u64> = (1..=campaigns as u64).map(|k| (1 << 40) / k).collect();
    zipf.iter_mut().fold(0, |sum, weight| {
        *weight += sum;
        *weight
    });
    let total = *zipf.last().expect("campaigns=0");
    let draw = |n: u64| zipf.partition_point(|sum| *sum <= mix(n) % total) as u32;

    let mut now_ns = 1_000_000 * MS;
    let mut server = Server::new(1, 1, cores, now_ns);
    server.gather(GATHER_NS);
    let folder = Folder(Path::new(&a.text("dir", "/dev/shm")).join(format!("outcry-leases-{}", std::process::id())));
    std::fs::create_dir(&folder.0).expect("a directory");
    let mut ledger = ledger(&folder.0, campaigns);
    let cids: Vec<String> = (0..campaigns).map(|campaign| campaign.to_string()).collect();
    let accounts = Accounts::of(&ledger, 0);
    let core = || {
        let mut ledger = accounts.ledger(42);
        assert!(ledger.configure([(&b"north"[..], Policy::default())].into_iter()), "there is room for a DSP");
        Core { ledger, cids: &cids, auctions: 0, wins: 0, refused: 0 }
    };
    let mut all: Vec<Core<'_>> = (0..cores).map(|_| core()).collect();
    let (mut said, mut grants) = (Vec::new(), Vec::new());
    let (mut used_ns, mut ledger_ns, mut asks, mut reports, mut heard, mut n) = (0, 0, 0u64, 0u64, 0u64, 0u64);
    let mut begun = (0, 0);
    for tick in 0..(WARM + seconds) * 1_000 / tick_ms {
        let measured = tick * tick_ms >= WARM * 1_000;
        if tick * tick_ms == WARM * 1_000 {
            begun = all.iter().fold((0, 0), |b, c| (b.0 + c.wins, b.1 + c.refused));
        }
        for (i, core) in all.iter_mut().enumerate() {
            said.clear();
            grants.clear();
            core.ledger.turn(now_ns);
            if tick * tick_ms < WARM * 1_000 / 2 {
                // So that every campaign is known: each has a bid somewhere.
                let part = campaigns as u64 * tick_ms / (WARM * 500) + 1;
                (tick * part..((tick + 1) * part).min(campaigns as u64))
                    .filter(|k| *k as usize % cores == i)
                    .for_each(|campaign| core.bid(campaign as u32));
            }
            for _ in 0..wins * tick_ms / 1_000 {
                n += 1;
                core.bid(draw(n));
            }
            core.ledger.urgent(&mut said);
            core.ledger.tick(now_ns, core.auctions, &mut said);
            let began = thread_cpu_ns();
            said.iter().for_each(|report| server.from_core(i, *report, now_ns));
            while let Some(grant) = server.to_core(i) {
                grants.push(grant);
            }
            if measured {
                used_ns += thread_cpu_ns() - began;
                (reports, heard) = (reports + said.len() as u64, heard + grants.len() as u64);
            }
            grants.iter().for_each(|grant| core.ledger.grant(grant));
        }
        // The server's own turns: ten in a second, each with its answer.
        for _ in 0..(tick_ms / 100).max(1) {
            now_ns += tick_ms.min(100) * MS;
            let began = thread_cpu_ns();
            let ask = server.outgoing(now_ns).cloned();
            let asked_ns = thread_cpu_ns() - began;
            let Some(ask) = ask else {
                used_ns += if measured { asked_ns } else { 0 };
                continue;
            };
            let began = thread_cpu_ns();
            let reply = ledger.ask(&ask, at(now_ns)).expect("the ledger answers");
            if measured {
                (ledger_ns, asks) = (ledger_ns + thread_cpu_ns() - began, asks + 1);
            }
            let began = thread_cpu_ns();
            server.incoming(&reply, now_ns);
            used_ns += if measured { asked_ns + thread_cpu_ns() - began } else { 0 };
        }
    }
    assert!(server.violation().is_none(), "the books are wrong");
    let (won, refused) = all.iter().fold((0, 0), |b, c| (b.0 + c.wins, b.1 + c.refused));
    let (won, refused) = (won - begun.0, refused - begun.1);
    let share = |ns: u64| ns / (seconds * 1_000_000);
    let holding = server.holding();
    println!("lines {}, of them open {}", holding.lines, holding.lines_open);
    println!("in a second: wins {}, refused {}", won / seconds, refused / seconds);
    println!("in a second: reports heard {}, grants given {}", reports / seconds, heard / seconds);
    println!(
        "in a second: asks {}; since the beginning: lines in asks {}, recalls {}",
        asks / seconds,
        server.totals().asked_lines,
        server.totals().recalls
    );
    println!("autonomy, mean: {:?} s", holding.autonomy_mean_s());
    let (server, ledger, both) = (share(used_ns), share(ledger_ns), share(used_ns + ledger_ns));
    let verdict = if both <= MUST { "holds" } else { "FAILS" };
    let percent = |n: u64| format!("{}.{} %", n / 10, n % 10);
    println!(
        "share of one CPU: server {}, ledger {}, together {}, must be at most {}: {verdict}",
        percent(server),
        percent(ledger),
        percent(both),
        percent(MUST)
    );
    if both <= MUST { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
