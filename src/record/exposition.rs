//! The table of metrics as Prometheus' text format 0.0.4.
//! Owns: nothing. Runs on: control, when it is asked for `/metrics`. Called by: `control/admin`.
//! Never: a float; sums of nanoseconds and nano-units are written exactly.
use super::{
    labels::{AnswerKind, Delivered, DspLevel, DspResult, LossReason, Refusal, Stage},
    metrics::{Spread, Times},
    money::MoneyFigures,
    table::{Kind, METRICS, Metric, Source, Unit},
    totals::Totals,
};
use crate::{openrtb::codes::Outcome, ship::figures::ShipFigures, units::DspIx};
use std::fmt::{Display, Write};

/// The content type of what [`render_prometheus`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends every metric. `dsp_names` are the names of the DSPs' rows; rows without a name are shown in sum as
/// `other`, and only once something was counted there.
pub fn render_prometheus(
    totals: &Totals,
    (money, ship): (&MoneyFigures, &ShipFigures),
    dsp_names: &[String],
    out: &mut String,
) {
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        };
        put(out, format_args!("# HELP {0} {1}\n# TYPE {0} {2}\n", metric.name, metric.help, kind));
        Page { totals, money, ship, dsp_names, name: metric.name, out }.metric(metric);
    }
}

/// Writing to a `String` cannot fail.
fn put(out: &mut String, args: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(args);
}

/// Billionths as a decimal.
struct Nanos(i128);

impl Display for Nanos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let abs = self.0.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:09}", abs / 1_000_000_000, abs % 1_000_000_000)
    }
}

/// A label value, escaped as the format wants it.
struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

struct Page<'a> {
    totals: &'a Totals,
    money: &'a MoneyFigures,
    ship: &'a ShipFigures,
    dsp_names: &'a [String],
    name: &'static str,
    out: &'a mut String,
}

impl Page<'_> {
    fn metric(&mut self, metric: &Metric) {
        let t = self.totals;
        match metric.source {
            Source::Counter(c) => self.plain(t.counter(c)),
            Source::Counters(label, cs) => cs.iter().for_each(|c| self.labelled(label, c.name(), t.counter(*c))),
            Source::Gauge(g, fold) => self.plain(t.gauge(g, fold)),
            Source::Gauges(label, gs, fold) => {
                gs.iter().for_each(|g| self.labelled(label, g.name(), t.gauge(*g, fold)));
            }
            Source::BuildInfo => self.labelled("version", env!("CARGO_PKG_VERSION"), 1),
            Source::Cores => self.plain(t.cores_seen()),
            Source::Answers => AnswerKind::ALL.iter().for_each(|a| self.labelled("answer", a.name(), t.answers(*a))),
            Source::Refusals => Refusal::ALL.iter().for_each(|r| self.labelled("reason", r.name(), t.refusals(*r))),
            Source::Losses => LossReason::ALL.iter().for_each(|l| self.labelled("reason", l.name(), t.losses(*l))),
            Source::Deliveries => {
                Delivered::ALL.iter().for_each(|d| self.labelled("end", d.name(), t.deliveries(*d)));
            }
            Source::Outcomes => Outcome::ALL.iter().for_each(|o| self.labelled("outcome", o.name(), t.outcome(*o))),
            Source::Stages => Stage::ALL.iter().for_each(|s| self.times("stage", s.name(), t.stage(*s))),
            Source::Latency(bounds) => self.histogram(bounds, &t.sum.latency),
            Source::Own(bounds) => self.histogram(bounds, &t.sum.own),
            Source::Journal(j) => match metric.unit {
                Unit::Currency => self.plain(Nanos(i128::from(t.journal(j)))),
                Unit::Count | Unit::Seconds | Unit::Bytes => self.plain(t.journal(j)),
            },
            Source::Journals(label, js) => js.iter().for_each(|j| self.labelled(label, j.name(), t.journal(*j))),
            Source::Commits(bounds) => self.histogram(bounds, &t.commits),
            Source::Money(m) => self.plain(self.money.get(m).map_or(0, |n| n.max(0) as u64)),
            Source::Moneys(label, ms) => {
                for (of, n) in ms.iter().filter_map(|m| Some((m.name(), self.money.get(*m)?))) {
                    match metric.unit {
                        Unit::Currency => self.labelled(label, of, Nanos(n)),
                        Unit::Count | Unit::Seconds | Unit::Bytes => self.labelled(label, of, n),
                    }
                }
            }
            Source::MoneyTimes(sum, count) => {
                let [sum, count] = [sum, count].map(|m| self.money.get(m).unwrap_or(0));
                let (name, sum) = (self.name, Nanos(sum));
                put(self.out, format_args!("{name}_sum {sum}\n{name}_count {count}\n"));
            }
            Source::Ship(s) => {
                if let Some(value) = self.ship.get(s) {
                    match metric.unit {
                        Unit::Seconds => self.plain(Nanos(value.into())),
                        Unit::Count | Unit::Currency | Unit::Bytes => self.plain(value),
                    }
                }
            }
            Source::Ships(label, ss) => {
                for (of, value) in ss.iter().filter_map(|s| Some((s.name(), self.ship.get(*s)?))) {
                    match metric.unit {
                        Unit::Seconds => self.labelled(label, of, Nanos(value.into())),
                        Unit::Count | Unit::Currency | Unit::Bytes => self.labelled(label, of, value),
                    }
                }
            }
            Source::Violations => {
                for (level, invariant, n) in self.money.violations() {
                    let name = self.name;
                    put(self.out, format_args!("{name}{{level=\"{level}\",invariant=\"{invariant}\"}} {n}\n"));
                }
            }
            Source::DspAsked => self.each_dsp(|page, dsp, i| page.labelled("dsp", dsp, t.sum.dsps[i].asked)),
            Source::DspWins => self.each_dsp(|page, dsp, i| page.labelled("dsp", dsp, t.sum.dsps[i].wins)),
            Source::DspCharges => {
                self.each_dsp(|page, dsp, i| page.labelled("dsp", dsp, Nanos(t.sum.dsps[i].charge_nanos)));
            }
            Source::DspElapsed => {
                self.each_dsp(|page, dsp, i| page.times("dsp", dsp, t.sum.dsps[i].elapsed.times));
            }
            Source::DspPoolWait => self.each_dsp(|page, dsp, i| page.times("dsp", dsp, t.sum.dsps[i].pool_wait)),
            Source::DspOpened => self.each_dsp(|page, dsp, i| page.labelled("dsp", dsp, t.dsp_opened(i))),
            Source::DspLevel(level) => {
                self.each_dsp(|page, dsp, i| page.labelled("dsp", dsp, t.dsp_level(i, level)));
            }
            Source::DspAskedShare => self.each_dsp(|page, dsp, i| {
                // Of 10,000; as billionths.
                let withheld = i128::from(t.dsp_level(i, DspLevel::Withheld)) * 100_000;
                page.labelled("dsp", dsp, Nanos(1_000_000_000 - withheld / i128::from(t.cores_seen().max(1))));
            }),
            Source::DspCut => self.each_dsp(|page, dsp, i| {
                let cut = i128::from(t.dsp_level(i, DspLevel::Cut));
                page.labelled("dsp", dsp, Nanos(cut / i128::from(t.cores_seen().max(1))));
            }),
            Source::DspResults => self.each_dsp(Page::dsp_results),
            Source::DspQuantiles(quantiles) => self.each_dsp(|page, dsp, i| {
                for (text, q) in quantiles {
                    let ns = t.sum.dsps[i].elapsed.hist.value_at_quantile(*q);
                    let (name, dsp) = (page.name, Label(dsp));
                    put(page.out, format_args!("{name}{{dsp=\"{dsp}\",q=\"{text}\"}} {}\n", Nanos(ns.into())));
                }
            }),
        }
    }

    fn plain(&mut self, value: impl Display) {
        put(self.out, format_args!("{} {value}\n", self.name));
    }

    fn labelled(&mut self, label: &str, of: &str, value: impl Display) {
        put(self.out, format_args!("{}{{{label}=\"{}\"}} {value}\n", self.name, Label(of)));
    }

    fn times(&mut self, label: &str, of: &str, times: Times) {
        let (name, of, sum) = (self.name, Label(of), Nanos(times.sum_ns as i128));
        put(self.out, format_args!("{name}_sum{{{label}=\"{of}\"}} {sum}\n"));
        put(self.out, format_args!("{name}_count{{{label}=\"{of}\"}} {}\n", times.count));
    }

    /// A value is in a bucket when all that its cell of the histogram may stand for is; cells are below 1 % wide.
    fn histogram(&mut self, bounds_us: &[u64], spread: &Spread) {
        let name = self.name;
        let mut cells = spread.hist.iter_recorded().peekable();
        let mut below = 0;
        for us in bounds_us {
            let bound = us * 1_000;
            while let Some(cell) = cells.next_if(|c| spread.hist.highest_equivalent(c.value_iterated_to()) <= bound) {
                below += cell.count_at_value();
            }
            let (s, rest) = (us / 1_000_000, us % 1_000_000);
            put(self.out, format_args!("{name}_bucket{{le=\"{s}.{rest:06}\"}} {below}\n"));
        }
        let (sum, count) = (Nanos(spread.times.sum_ns as i128), spread.times.count);
        put(self.out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n"));
    }

    fn each_dsp(&mut self, mut one: impl FnMut(&mut Self, &str, usize)) {
        let shared = self.totals.dsp_rows() - 1;
        for (i, dsp) in self.dsp_names.iter().take(shared).enumerate() {
            one(self, dsp, i);
        }
        let row = &self.totals.sum.dsps[shared];
        if row.asked > 0 || row.outcomes.iter().any(|n| *n > 0) {
            one(self, "other", shared);
        }
    }

    fn dsp_results(&mut self, dsp: &str, i: usize) {
        let mut counts = [0u64; DspResult::COUNT];
        for (result, n) in self.totals.dsp_results(DspIx(i as u16)) {
            counts[result as usize] += n;
        }
        for (result, n) in DspResult::ALL.iter().zip(counts) {
            let (name, dsp, result) = (self.name, Label(dsp), result.name());
            put(self.out, format_args!("{name}{{dsp=\"{dsp}\",result=\"{result}\"}} {n}\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        labels::{Counter, Gauge, Money, Ship},
        metrics::CoreMetrics,
    };

    fn page(totals: &Totals, names: &[&str]) -> String {
        let mut out = String::new();
        let mut money = MoneyFigures::default();
        money.set(Money::GranterLeased, 25_000_000_001);
        money.set(Money::Asks, 7);
        money.set(Money::RoundTripsNs, 1_500_000);
        money.set(Money::Replies, 6);
        money.set(Money::AutonomyLeast, 12);
        money.set(Money::AutonomyMean, 23);
        money.set_granter_violations([(10, 1)].into_iter());
        money.set(Money::Stopped, 1);
        let mut ship = ShipFigures::default();
        Ship::ALL.iter().for_each(|figure| ship.set(*figure, 2_500_000_000));
        ship.set(Ship::DeadSince, None);
        render_prometheus(totals, (&money, &ship), &names.iter().map(|n| n.to_string()).collect::<Vec<_>>(), &mut out);
        out
    }

    fn some() -> Totals {
        let mut m = CoreMetrics::new(5);
        m.add(Counter::Auctions, 3);
        m.gauge(Gauge::ConnectionsOpen, 12);
        m.answer(AnswerKind::Bid, 21_500_000, 40_000);
        m.answer(AnswerKind::NoBid, 9_000_000, 2_000_000_000);
        m.answer(AnswerKind::BadRequest, 1, 1);
        m.stage(Stage::Parse, 1_500);
        m.dsp_asked(DspIx(1));
        m.dsp_outcome(DspIx(1), Outcome::NotJson, 20_000_000);
        m.dsp_won(DspIx(1), 1, 1_250_000);
        m.loss(crate::openrtb::codes::Loss::BelowFloor);
        let mut totals = Totals::new(2, 5);
        totals.merge(1, &m);
        totals
    }

    fn series(text: &str) -> usize {
        text.lines().filter(|l| !l.starts_with('#')).count()
    }

    #[test]
    fn at_most_510_series_with_five_dsps() {
        let mut totals = some();
        let text = page(&totals, &["a", "b", "c", "d", "e"]);
        assert!(series(&text) <= 510, "{} series", series(&text));
        // The shared row comes on top only when a sixth DSP was there.
        let mut m = CoreMetrics::new(5);
        m.dsp_asked(DspIx(5));
        totals.merge(0, &m);
        let more = page(&totals, &["a", "b", "c", "d", "e"]);
        assert_eq!(series(&more), series(&text) + 23);
        assert!(series(&more) <= 510, "{} series", series(&more));
    }

    #[test]
    fn values_stand_where_they_belong() {
        let text = page(&some(), &["a", "b\"\\\n", "c", "d", "e"]);
        for line in [
            "# TYPE outcry_latency_seconds histogram",
            "outcry_auctions_total 3",
            "outcry_connections 12",
            "outcry_cores 1",
            "outcry_answers_total{answer=\"bad_request\"} 1",
            "outcry_losses_total{reason=\"below_floor\"} 1",
            "outcry_latency_seconds_bucket{le=\"0.005000\"} 0",
            "outcry_latency_seconds_bucket{le=\"0.010000\"} 1",
            "outcry_latency_seconds_bucket{le=\"0.020000\"} 1",
            "outcry_latency_seconds_bucket{le=\"0.030000\"} 2",
            "outcry_latency_seconds_bucket{le=\"+Inf\"} 2",
            "outcry_latency_seconds_sum 0.030500000",
            "outcry_latency_seconds_count 2",
            "outcry_own_seconds_bucket{le=\"0.000050\"} 1",
            "outcry_own_seconds_bucket{le=\"0.100000\"} 1",
            "outcry_own_seconds_bucket{le=\"+Inf\"} 2",
            "outcry_stage_seconds_sum{stage=\"parse\"} 0.000001500",
            "outcry_stage_seconds_count{stage=\"parse\"} 1",
            "outcry_dsp_results_total{dsp=\"b\\\"\\\\\\n\",result=\"bad_answer\"} 1",
            "outcry_dsp_outcomes_total{outcome=\"not_json\"} 1",
            "outcry_dsp_charges_total{dsp=\"b\\\"\\\\\\n\"} 0.001250000",
            "outcry_dsp_asked_total{dsp=\"a\"} 0",
            "outcry_budget_ledger{what=\"leased\"} 25.000000001",
            "outcry_kafka_messages_total{end=\"dead\"} 2500000000",
            "outcry_kafka_delay_seconds{quantile=\"0.99\"} 2.500000000",
            "outcry_budget_asks_total{what=\"asks\"} 7",
            "outcry_budget_round_trip_seconds_sum 0.001500000",
            "outcry_budget_round_trip_seconds_count 6",
            "outcry_budget_autonomy_seconds{of=\"least\"} 12",
            "outcry_budget_violations_total{level=\"ledger\",invariant=\"bucket-adds-up\"} 1",
            "outcry_budget_violations_total{level=\"leases\",invariant=\"core_sums\"} 0",
            "outcry_budget_stopped_accounts 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }

    /// The names, labels and order that dashboards and alert rules hold on to. To accept a change:
    /// `OUTCRY_BLESS=1 cargo test -p outcry exposition`, and read the diff.
    #[test]
    fn exposition_is_what_dashboards_know() {
        let text = page(&some(), &["a", "b", "c", "d", "e"]).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/record/exposition.golden.txt");
        if std::env::var_os("OUTCRY_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let known = std::fs::read_to_string(path).unwrap();
        for (i, (got, want)) in text.lines().zip(known.lines()).enumerate() {
            assert_eq!(got, want, "line {}", i + 1);
        }
        assert_eq!(text.lines().count(), known.lines().count());
    }
}
