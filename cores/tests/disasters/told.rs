//! What many runs came to: tables, and a picture of what was stranded.
//! Owns: the sums. Called by: the runs. Never: judges.
use super::{Done, plan::Trouble, world::Outcome};
use std::{collections::BTreeMap, fmt::Write};

#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) runs: u64,
    pub(crate) auctions: u64,
    fired: BTreeMap<Trouble, (u64, u64)>,
    outcomes: Vec<Outcome>,
}

/// Percentiles that are shown.
const SHOWN: [f64; 6] = [10.0, 25.0, 50.0, 75.0, 90.0, 99.0];

/// Which days: how they are called, trouble at least and at most, in worlds that stand for a day or in all others.
const ROWS: [(&str, u32, u32, bool); 5] = [
    ("nothing goes wrong", 0, 0, true),
    ("something now and then", 1, NOW_AND_THEN, true),
    ("every few minutes", NOW_AND_THEN + 1, u32::MAX, true),
    ("all of these", 0, u32::MAX, true),
    ("short worlds, budgets from four bids", 0, u32::MAX, false),
];
/// [`super::plan::Plan::trouble`] of worlds that stand for a day.
const NOW_AND_THEN: u32 = 30;
/// The row of all worlds that stand for a day.
const ALL: usize = 3;

impl Sums {
    pub(crate) fn add(&mut self, done: Done) {
        self.runs += 1;
        self.auctions += done.auctions;
        for (kind, (times, out)) in done.fired {
            let sum = self.fired.entry(kind).or_default();
            *sum = (sum.0 + times, sum.1 + out);
        }
        self.outcomes.extend(done.outcomes);
    }

    fn days(&self, row: usize) -> impl Iterator<Item = &Outcome> {
        let (_, least, most, market) = ROWS[row];
        self.outcomes.iter().filter(move |o| o.market == market && o.budget > 0 && (least..=most).contains(&o.trouble))
    }

    /// What part of each was stranded, per cent, ascending.
    fn stranded(&self, row: usize) -> Vec<f64> {
        let parts = self.days(row).map(|o| 100.0 * o.stranded as f64 / o.budget as f64);
        let mut parts: Vec<f64> = parts.collect();
        parts.sort_by(f64::total_cmp);
        parts
    }

    fn used(&self, row: usize) -> f64 {
        let sum = |of: fn(&Outcome) -> i64| self.days(row).map(|o| of(o) as f64 / o.budget as f64).sum::<f64>();
        sum(|o| o.spent) / sum(|o| o.spent + o.stranded).max(f64::MIN_POSITIVE)
    }

    /// Of what could be spent in a day, and was wanted, what was; with whatever went wrong.
    pub(crate) fn utilisation(&self) -> f64 {
        self.used(ALL)
    }

    /// Half of all days had at most so much stranded, per cent.
    pub(crate) fn median(&self) -> f64 {
        percentile(&self.stranded(ALL), 50.0)
    }

    pub(crate) fn tables(&self) -> String {
        let mut out = format!("{} runs, {} winners charged\n\n", self.runs, self.auctions);
        let _ = writeln!(out, "{:<48} {:>10} {:>16}", "trouble", "times", "while money out");
        for kind in Trouble::ALL {
            let (times, money) = self.fired.get(&kind).copied().unwrap_or_default();
            let _ = writeln!(out, "{:<48} {times:>10} {money:>16}", kind.name());
        }
        let _ = writeln!(
            out,
            "\nDays of campaigns that more was wanted of than was left, and what of the day's budget was stranded:"
        );
        let _ = write!(out, "{:<38} {:>8} {:>8}", "", "days", "used");
        for p in SHOWN {
            let _ = write!(out, " {:>8}", format!("p{p}"));
        }
        for (row, (name, ..)) in ROWS.iter().enumerate() {
            let parts = self.stranded(row);
            let _ = write!(out, "\n{name:<38} {:>8} {:>7.2}%", parts.len(), 100.0 * self.used(row));
            for p in SHOWN {
                let _ = write!(out, " {:>7.3}%", percentile(&parts, p));
            }
        }
        out.push('\n');
        out
    }

    /// How many days had at most so much stranded; the axis of parts is logarithmic.
    pub(crate) fn picture(&self) -> String {
        let (width, height, left, top) = (720.0, 360.0, 60.0, 40.0);
        let x = |part: f64| left + (part.clamp(0.01, 100.0).log10() + 2.0) / 4.0 * width;
        let y = |share: f64| top + (1.0 - share) * height;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{left}\" y=\"20\">Days of campaigns by what of their budget was stranded, {} runs</text>\n",
            left + width + 40.0,
            top + height + 60.0,
            self.runs
        );
        for (part, name) in
            [(0.01, "0.01 % or less"), (0.1, "0.1 %"), (0.5, "0.5 %"), (1.0, "1 %"), (10.0, "10 %"), (100.0, "100 %")]
        {
            let _ = writeln!(
                svg,
                "<line x1=\"{0:.1}\" y1=\"{top}\" x2=\"{0:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{name}</text>",
                x(part),
                top + height,
                top + height + 18.0
            );
        }
        for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{0:.1}\" x2=\"{1:.1}\" y2=\"{0:.1}\" stroke=\"#ddd\"/><text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4:.0} %</text>",
                y(share),
                left + width,
                left - 6.0,
                y(share) + 4.0,
                share * 100.0
            );
        }
        for (n, (row, colour)) in [(2, "#c0392b"), (1, "#e67e22"), (0, "#2c7a4b")].into_iter().enumerate() {
            let (name, parts) = (ROWS[row].0, self.stranded(row));
            let points: Vec<String> = (0..=400)
                .map(|i| {
                    let part = 10f64.powf(f64::from(i) / 100.0 - 2.0);
                    let below = parts.partition_point(|p| *p <= part) as f64 / parts.len().max(1) as f64;
                    format!("{:.1},{:.1}", x(part), y(below))
                })
                .collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                points.join(" ")
            );
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{colour}\">{name}: {} days</text>",
                left + width - 8.0,
                top + height - 12.0 - 18.0 * n as f64,
                parts.len()
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    let at = ((sorted.len() as f64 * p / 100.0) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
