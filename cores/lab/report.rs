//! How results are shown: a live table on a terminal, a line a second elsewhere, a report at the end.
//! Owns: nothing but how many lines it drew. Called by: `load`, `demo`. Never: uses a terminal library; two escape
//! sequences (up, erase) are enough.
use super::{
    check::Fault,
    demo::DspRow,
    load::{ACHIEVED_MIN, CPU_SHARE_MAX, Live, LoadReport},
};
use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

/// How often the end of the run is looked for while a second passes.
const POLL: Duration = Duration::from_millis(20);

/// The table of a run in progress.
pub struct LiveTable {
    quiet: bool,
    terminal: bool,
    drawn: usize,
    started: Instant,
    seconds: u32,
    before: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    due: u64,
    sent: u64,
    answered: u64,
    with_bid: u64,
}

impl LiveTable {
    /// A table on standard output; a quiet one draws nothing.
    pub fn new(quiet: bool) -> LiveTable {
        let terminal = std::io::stdout().is_terminal();
        LiveTable { quiet, terminal, drawn: 0, started: Instant::now(), seconds: 0, before: Counts::default() }
    }

    /// Waits for the end of the current second, or of the run, and draws.
    pub fn second(&mut self, live: &Live, dsps: impl FnOnce() -> Vec<DspRow>, over: impl Fn() -> bool) {
        self.seconds += 1;
        let ends = self.started + Duration::from_secs(u64::from(self.seconds));
        loop {
            if over() {
                return;
            }
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(POLL));
        }
        if !self.quiet {
            let text = self.render(live, &dsps());
            // The reader of a pipe may have left; the run goes on.
            let _ = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
        }
    }

    fn render(&mut self, live: &Live, dsps: &[DspRow]) -> String {
        let now = Counts {
            due: live.due.load(Relaxed),
            sent: live.sent.load(Relaxed),
            answered: live.answered.load(Relaxed),
            with_bid: live.with_bid.load(Relaxed),
        };
        let of = |n: &std::sync::atomic::AtomicU64| n.load(Relaxed);
        let answered = now.answered - self.before.answered;
        let bid_rate = percent(now.with_bid - self.before.with_bid, answered);
        let (due, sent) = (now.due - self.before.due, now.sent - self.before.sent);
        let time = |ns| if keeps_up(due, sent) { us(of(ns)).to_string() } else { "-".to_owned() };
        let line = format!(
            "{:>4}s  {:>7} req/s  {:>7} ans/s  bids {:>5}  p50 {:>7} us  p99 {:>7} us  p99.9 {:>7} us  conns {:>4}  bad {}",
            self.seconds,
            sent,
            answered,
            bid_rate,
            time(&live.p50_ns),
            time(&live.p99_ns),
            time(&live.p999_ns),
            of(&live.connections),
            of(&live.bad),
        );
        self.before = now;
        let mut out = String::new();
        if self.terminal && self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A\x1b[J", self.drawn);
        }
        out.push_str(&line);
        out.push('\n');
        if self.terminal {
            let table = dsp_table(dsps);
            self.drawn = 1 + table.lines().count();
            out.push_str(&table);
        }
        out
    }
}

/// Was a second's rate reached? If not, its times are those of another load. One request may be due in one second and
/// sent in the next.
fn keeps_up(due: u64, sent: u64) -> bool {
    (sent + 1) as f64 >= ACHIEVED_MIN * due as f64
}

/// One line for each DSP.
pub fn dsp_table(dsps: &[DspRow]) -> String {
    let mut out = String::new();
    if dsps.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "\n  {:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "DSP", "asked", "bids", "no bids", "timeouts", "errors", "wins"
    );
    for d in dsps {
        let _ = writeln!(
            out,
            "  {:<12} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            d.name, d.asked, d.bids, d.no_bids, d.timeouts, d.errors, d.wins
        );
    }
    out
}

/// The report of a run, for people.
pub fn text(r: &LoadReport) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\noffered   {:.0} requests/s for {:.1} s: {} were due", r.rate, r.seconds, r.due);
    let _ = writeln!(
        out,
        "sent      {} over up to {} connections ({:.2} % in time)",
        r.sent,
        r.connections,
        100.0 * r.achieved
    );
    let _ = writeln!(
        out,
        "answered  {}: {} with {} bids ({}), {} no bid, {} refused (503)",
        r.answered,
        r.with_bid,
        r.bids,
        percent(r.with_bid, r.answered),
        r.no_bids,
        r.refused
    );
    if r.is_measured() {
        let row = |name: &str, h: &hdrhistogram::Histogram<u32>| {
            let at = |q| us(h.value_at_quantile(q));
            let (a, b, c, d) = (at(0.5), at(0.9), at(0.99), at(0.999));
            format!("{name} p50 {a}  p90 {b}  p99 {c}  p99.9 {d}  max {}\n", us(h.max()))
        };
        out.push_str(&row("latency   us from due to answer: ", &r.latency));
        out.push_str(&row("          of it before sending:  ", &r.waited));
    } else {
        let _ = writeln!(
            out,
            "latency   not shown: {:.2} % of the rate was reached, {:.0} % are needed. Whatever was measured is that of\n\
             \x20         another load. Lower --rate, raise --connections, or give the generator a CPU of its own.",
            100.0 * r.achieved,
            100.0 * ACHIEVED_MIN
        );
    }
    let _ = writeln!(out, "past tmax {} answers", r.past_tmax);
    let _ = writeln!(out, "generator {:.0} % of a CPU", 100.0 * r.cpu_share);
    if r.cpu_share > CPU_SHARE_MAX {
        let _ = writeln!(out, "          WARNING: above {:.0} %: it measures itself too", 100.0 * CPU_SHARE_MAX);
    }
    if r.is_right() {
        let _ = writeln!(out, "verdict   every request got exactly one right answer");
        return out;
    }
    let _ = writeln!(
        out,
        "verdict   WRONG: {} unanswered, {} wrong, {} answered twice",
        r.unanswered(),
        r.wrong(),
        r.duplicates
    );
    for (count, name) in failures(r) {
        let _ = writeln!(out, "          {count:>8}  {name}");
    }
    out
}

/// What went wrong and how often, without the zeros.
fn failures(r: &LoadReport) -> impl Iterator<Item = (u64, &'static str)> {
    let faults = r.faults.iter().zip(Fault::ALL).map(|(count, fault)| (*count, fault.name()));
    let others = [
        (r.timed_out, "no answer in time"),
        (r.cut_off, "connection ended before the answer"),
        (r.never_sent, "never sent: no connection free in time"),
        (r.bad_http, "no HTTP"),
        (r.duplicates, "a second answer"),
        (r.connect_failed, "connections that could not be made"),
    ];
    faults.chain(others).filter(|f| f.0 > 0)
}

/// The report of a run, for programs: one object. Latencies are absent when the rate was not reached.
pub fn json(r: &LoadReport) -> String {
    let mut out = format!(
        "{{\"rate\":{},\"seconds\":{},\"due\":{},\"sent\":{},\"achieved\":{:.5},\"answered\":{},\"with_bid\":{},\"bids\":{},\
         \"no_bids\":{},\"refused\":{},\"unanswered\":{},\"wrong\":{},\"duplicates\":{},\"past_tmax\":{},\"connections\":{},\"cpu_share\":{:.3}",
        r.rate,
        r.seconds,
        r.due,
        r.sent,
        r.achieved,
        r.answered,
        r.with_bid,
        r.bids,
        r.no_bids,
        r.refused,
        r.unanswered(),
        r.wrong(),
        r.duplicates,
        r.past_tmax,
        r.connections,
        r.cpu_share
    );
    if r.is_measured() {
        let at = |q| r.latency.value_at_quantile(q);
        let (a, b, c, d) = (at(0.5), at(0.9), at(0.99), at(0.999));
        let _ = write!(
            out,
            ",\"latency_ns\":{{\"p50\":{a},\"p90\":{b},\"p99\":{c},\"p99.9\":{d},\"max\":{}}}",
            r.latency.max()
        );
    }
    out.push_str(",\"failures\":{");
    for (i, (count, name)) in failures(r).enumerate() {
        let _ = write!(out, "{}\"{name}\":{count}", if i > 0 { "," } else { "" });
    }
    out.push_str("}}");
    out
}

fn us(ns: u64) -> u64 {
    ns / 1_000
}

fn percent(part: u64, of: u64) -> String {
    if of == 0 { "-".to_owned() } else { format!("{:.0} %", 100.0 * part as f64 / of as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_that_fell_behind_shows_no_percentiles() {
        let live = Live::default();
        let mut table = LiveTable::new(true);
        let mut second = |due: u64, sent: u64| {
            live.due.fetch_add(due, Relaxed);
            live.sent.fetch_add(sent, Relaxed);
            live.p99_ns.store(7_000_000, Relaxed);
            table.render(&live, &[])
        };
        assert!(second(1_000, 1_000).contains("p99    7000 us"));
        let behind = second(1_000, 900);
        assert!(behind.contains("p99       - us") && !behind.contains("7000"), "{behind}");
        // It catches up: what was due before is sent, and the times that this took are in that second's.
        assert!(second(1_000, 1_100).contains("p99    7000 us"));
        assert!(second(10, 9).contains("p99    7000 us"), "one that was due at the end of the second");
    }
}
