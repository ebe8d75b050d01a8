//! What a server's leases cost: 32 simulated cores, 100,000 campaigns whose wins follow Zipf's law, virtual time. Counted is
//! the CPU time of the server role alone: everything between a core's ring and the granter's door. The granter here gives
//! what is asked.
//!
//!   leases cores=32 campaigns=100000 wins=250 tick_ms=1000 seconds=60
//!
//! `wins` is of one core in a second. Prints the share of one CPU, what it must be, and whether it is.
use outcry::{
    budget::{
        AccountId, Period,
        messages::{Ask, CoreGrant, CoreLine, CoreReport, Granted, LineKey, Reply},
        server::Server,
    },
    units::{MS, Money, mix},
};
use outcry_benches::kit::{Args, thread_cpu_ns};
use std::{collections::HashMap, process::ExitCode};

/// Of a campaign, a bid costs so much: two dollars per thousand.
const PRICE: i64 = 2_000_000;
const PERIOD: Period = Period(29_000_000);
/// Of one CPU, thousandths.
const MUST: u64 = 50;
/// All campaigns are known and all cores have their least parts after so many virtual seconds.
const WARM: u64 = 60;

#[derive(Clone, Copy, Default)]
struct Line {
    granted: i64,
    returned: i64,
    charged: i64,
    want: i64,
    until_ns: u64,
    lately: i64,
    short: bool,
    dirty: bool,
    known: bool,
}

/// A core that wins, and says so.
struct Core {
    lines: Vec<Line>,
    dirty: Vec<u32>,
    frames: u64,
    wins: u64,
    refused: u64,
}

impl Core {
    fn bid(&mut self, campaign: u32, now_ns: u64, out: &mut Vec<CoreReport>) {
        let line = &mut self.lines[campaign as usize];
        if !line.known || now_ns >= line.until_ns {
            self.refused += 1;
            out.push(CoreReport::Unknown { account: AccountId(campaign + 1), price: Money(PRICE) });
            return;
        }
        if !std::mem::replace(&mut line.dirty, true) {
            self.dirty.push(campaign);
        }
        if line.granted - line.returned - line.charged < PRICE {
            line.short = true;
            self.refused += 1;
            return;
        }
        line.charged += PRICE;
        line.lately += PRICE;
        self.frames += 1;
        self.wins += 1;
    }

    fn report(&mut self, out: &mut Vec<CoreReport>) {
        for campaign in self.dirty.drain(..) {
            let line = &mut self.lines[campaign as usize];
            let free = line.granted - line.returned - line.charged;
            let most = 10 * line.lately;
            if line.short || free * 10 < most * 3 {
                line.want = line.granted + (most - free).max(PRICE);
            }
            let price = Money(if std::mem::take(&mut line.short) { PRICE } else { 0 });
            (line.dirty, line.lately) = (false, 0);
            out.push(CoreReport::Line(CoreLine {
                line: LineKey { account: AccountId(campaign + 1), period: PERIOD },
                granted: Money(line.granted),
                charged: Money(line.charged),
                freed: Money(0),
                returned: Money(line.returned),
                want: Money(line.want),
                price,
                last: false,
            }));
        }
        out.push(CoreReport::End { frame_seq: self.frames });
    }

    fn hear(&mut self, grant: &CoreGrant) {
        let campaign = grant.line.account.0 - 1;
        let line = &mut self.lines[campaign as usize];
        (line.granted, line.until_ns, line.known) = (grant.granted.0, grant.until_ns, true);
        if grant.recall {
            line.returned += line.granted - line.returned - line.charged;
            if !std::mem::replace(&mut line.dirty, true) {
                self.dirty.push(campaign);
            }
        }
    }
}

/// Gives what is wanted.
fn answer(ask: &Ask, lines: &mut HashMap<LineKey, i64>) -> Reply {
    let mut grant = |line: LineKey, want: Money| {
        let granted = lines.entry(line).or_default();
        *granted = want.0.max(*granted);
        Granted { line, granted: Money(*granted), usable_ms: 25_000, left: Money(1 << 50), ..Granted::default() }
    };
    let mut granted: Vec<Granted> = ask.lines.iter().map(|said| grant(said.line, said.want)).collect();
    granted.extend(ask.first.iter().map(|f| grant(LineKey { account: f.account, period: PERIOD }, f.want)));
    Reply { node: ask.node, epoch: ask.epoch, req: ask.req, fenced: false, lines: granted }
}

fn main() -> ExitCode {
    let a = Args::parse(&["cores", "campaigns", "wins", "tick_ms", "seconds"]);
    let (cores, campaigns) = (a.count("cores", 32), a.count("campaigns", 100_000));
    let (wins, tick_ms, seconds) =
        (a.count("wins", 250) as u64, a.count("tick_ms", 1_000) as u64, a.count("seconds", 60) as u64);
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
    let core = || Core { lines: vec![Line::default(); campaigns], dirty: Vec::new(), frames: 0, wins: 0, refused: 0 };
    let mut all: Vec<Core> = (0..cores).map(|_| core()).collect();
    let mut granted = HashMap::new();
    let (mut said, mut grants) = (Vec::new(), Vec::new());
    let (mut used_ns, mut reports, mut heard, mut n) = (0, 0u64, 0u64, 0u64);
    let mut begun = (0, 0);
    for tick in 0..(WARM + seconds) * 1_000 / tick_ms {
        let measured = tick * tick_ms >= WARM * 1_000;
        if tick * tick_ms == WARM * 1_000 {
            begun = all.iter().fold((0, 0), |b, c| (b.0 + c.wins, b.1 + c.refused));
        }
        for (i, core) in all.iter_mut().enumerate() {
            said.clear();
            grants.clear();
            if tick * tick_ms < WARM * 1_000 / 2 {
                // So that every campaign is known: each has a bid somewhere.
                let part = campaigns as u64 * tick_ms / (WARM * 500) + 1;
                (tick * part..((tick + 1) * part).min(campaigns as u64))
                    .filter(|k| *k as usize % cores == i)
                    .for_each(|campaign| core.bid(campaign as u32, now_ns, &mut said));
            }
            for _ in 0..wins * tick_ms / 1_000 {
                n += 1;
                core.bid(draw(n), now_ns, &mut said);
            }
            core.report(&mut said);
            let began = thread_cpu_ns();
            said.iter().for_each(|report| server.from_core(i, *report, now_ns));
            while let Some(grant) = server.to_core(i) {
                grants.push(grant);
            }
            if measured {
                used_ns += thread_cpu_ns() - began;
                (reports, heard) = (reports + said.len() as u64, heard + grants.len() as u64);
            }
            grants.iter().for_each(|grant| core.hear(grant));
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
            let reply = answer(&ask, &mut granted);
            let began = thread_cpu_ns();
            server.incoming(&reply, now_ns);
            used_ns += if measured { asked_ns + thread_cpu_ns() - began } else { 0 };
        }
    }
    assert!(server.violation().is_none(), "the books are wrong");
    let (won, refused) = all.iter().fold((0, 0), |b, c| (b.0 + c.wins, b.1 + c.refused));
    let (won, refused) = (won - begun.0, refused - begun.1);
    let share = used_ns / (seconds * 1_000_000);
    let holding = server.holding();
    println!("lines {}, of them open {}", holding.lines, holding.lines_open);
    println!("in a second: wins {}, refused {}", won / seconds, refused / seconds);
    println!("in a second: reports heard {}, grants given {}", reports / seconds, heard / seconds);
    println!(
        "asks {}, lines in them {}, recalls {}",
        server.totals().asks,
        server.totals().asked_lines,
        server.totals().recalls
    );
    println!("autonomy, mean: {:?} s", holding.autonomy_mean_s());
    let verdict = if share <= MUST { "holds" } else { "FAILS" };
    println!(
        "share of one CPU: {}.{} %, must be at most {}.{} %: {verdict}",
        share / 10,
        share % 10,
        MUST / 10,
        MUST % 10
    );
    if share <= MUST { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
