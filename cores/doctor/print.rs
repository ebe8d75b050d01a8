//! Findings for people, as a table, and for machines, as JSON.
//! Owns: nothing. Called by: `doctor`. Never: judges.
use super::{
    finding::{Finding, Verdict},
    need::Need,
};
use outcry::config::plan::cpu_list;
use std::fmt::Write;

/// Where the findings are told in full, from the top of the tree.
pub const FOLDER: &str = "tuning";
/// Counts up when a field of the JSON changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Most urgent first; what is not ok with all that is known of it.
pub fn table(findings: &[Finding], need: &Need) -> String {
    let mut out = format!(
        "bidders on CPU {}, flush on {}, control on {}; up to {} connections\n\n{:<9}{:<19}found\n",
        cpu_list(&need.bidders),
        need.flush,
        cpu_list(&need.control),
        need.connections,
        "verdict",
        "knob"
    );
    for verdict in Verdict::ALL.iter().rev() {
        for finding in findings.iter().filter(|f| f.verdict == *verdict) {
            // Writing to a String cannot fail.
            let _ = one(finding, &mut out);
        }
    }
    let counts = Verdict::ALL.iter().rev().map(|v| {
        let n = findings.iter().filter(|f| f.verdict == *v).count();
        format!("{n} {}", v.name())
    });
    out + "\n" + &counts.collect::<Vec<_>>().join(", ") + "\n"
}

fn one(finding: &Finding, out: &mut String) -> std::fmt::Result {
    let knob = finding.knob;
    writeln!(out, "{:<9}{:<19}{}", finding.verdict.name(), knob.id, finding.found)?;
    if matches!(finding.verdict, Verdict::Ok | Verdict::Unknown) {
        return Ok(());
    }
    let file = format!("{FOLDER}/{}", knob.file);
    let mut rows = vec![("wanted", finding.wanted.as_str()), ("costs", knob.costs)];
    rows.extend(finding.mend.iter().map(|line| ("mend", line.as_str())));
    rows.push(("see", &file));
    rows.iter().try_for_each(|(what, text)| writeln!(out, "{:<9}  {what:<8}{text}", ""))
}

/// One line of JSON; `tuning/README.md` tells its fields.
pub fn json(findings: &[Finding], need: &Need) -> String {
    let strings = |texts: &[String]| texts.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(",");
    let cpus = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let rows: Vec<String> = findings
        .iter()
        .map(|f| {
            format!(
                r#"{{"id":{},"verdict":{},"found":{},"wanted":{},"costs":{},"mend":[{}],"see":{}}}"#,
                quoted(f.knob.id),
                quoted(f.verdict.name()),
                quoted(&f.found),
                quoted(&f.wanted),
                quoted(f.knob.costs),
                strings(&f.mend),
                quoted(&format!("{FOLDER}/{}", f.knob.file)),
            )
        })
        .collect();
    format!(
        r#"{{"schema":{SCHEMA},"version":{},"verdict":{},"plan":{{"bidders":[{}],"flush":{},"control":[{}]}},"findings":[{}]}}"#,
        quoted(env!("CARGO_PKG_VERSION")),
        quoted(worst(findings).name()),
        cpus(&need.bidders),
        need.flush,
        cpus(&need.control),
        rows.join(",")
    ) + "\n"
}

/// The verdict over all of them.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Ok)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Knob;

    static KNOB: Knob = Knob { id: "somaxconn", file: "queue.md", costs: "connections are dropped" };

    fn findings() -> Vec<Finding> {
        vec![
            KNOB.ok("4096"),
            KNOB.wrong("128 \"\\\n", "4096 or more", vec!["sysctl -w a=b".to_owned(), "or so".to_owned()]),
            KNOB.advice("1", "2", Vec::new()),
        ]
    }

    #[test]
    fn the_urgent_comes_first_and_whole() {
        let got = table(&findings()[..], &Need::made_up()).replace(" \"\\\n", "\n");
        let want = "\
bidders on CPU 1-3, flush on 0, control on 0; up to 29000 connections

verdict  knob               found
wrong    somaxconn          128
           wanted  4096 or more
           costs   connections are dropped
           mend    sysctl -w a=b
           mend    or so
           see     tuning/queue.md
advice   somaxconn          1
           wanted  2
           costs   connections are dropped
           see     tuning/queue.md
ok       somaxconn          4096

1 wrong, 1 advice, 0 unknown, 1 ok
";
        assert_eq!(got.replace("128\n\n", "128\n"), want);
    }

    #[test]
    fn the_json_is_json() {
        let text = json(&findings(), &Need::made_up());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["schema"], &value["verdict"]), (&1.into(), &"wrong".into()));
        assert_eq!(value["plan"]["bidders"], serde_json::json!([1, 2, 3]));
        assert_eq!(value["findings"][1]["found"], "128 \"\\\n");
        assert_eq!(value["findings"][1]["mend"], serde_json::json!(["sysctl -w a=b", "or so"]));
        assert_eq!(value["findings"][0]["see"], "tuning/queue.md");
        assert!(text.ends_with("}\n") && text.lines().count() == 1);
        assert_eq!(worst(&[]), Verdict::Ok);
    }
}
