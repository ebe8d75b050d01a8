//! `outcry audit verify`: findings, one a line, and what was counted.
use super::{AuditError, Range, Where, directory::Journal, kafka, progress::Progress};
use crate::out::out;
use clap::Args;
use outcry::journal::verify::Verify;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    place: Where,
    /// Say instead whether Kafka has what the journal says, once and in order: messages about what was recorded in a range. Each
    /// that is due takes 150 bytes of memory.
    #[arg(long, requires = "config")]
    kafka: bool,
    #[command(flatten)]
    range: Range,
    /// The exchange's configuration, which says where Kafka is.
    #[arg(long, requires = "kafka")]
    config: Option<PathBuf>,
}

/// True: everything is as it should be.
pub(super) fn run(args: &VerifyArgs) -> Result<bool, AuditError> {
    match &args.config {
        Some(config) => kafka::verify(&args.place, args.range, config),
        None => journal(&args.place),
    }
}

fn journal(place: &Where) -> Result<bool, AuditError> {
    let mut journal = Journal::open(place)?;
    let node = journal.node;
    let mut lines = Vec::new();
    let checkpoint = match journal.checkpoint.clone() {
        Some(Err(why)) => {
            lines.push((false, format!("the checkpoint cannot be read: {why}. The next start makes a new one")));
            None
        }
        read => read.and_then(Result::ok),
    };
    let mut verify = Verify::new(checkpoint);
    let mut progress = Progress::new(journal.segments.iter().map(|s| s.bytes).sum());
    for i in 0..journal.segments.len() {
        progress.at(0);
        let after = journal.after(i);
        let named = (node, journal.segments[i].segment);
        if let Err(source) = verify.segment(named, journal.source(i), after.as_ref()) {
            let name = journal.segments[i].name.clone();
            return Err(journal.failed(&name, source));
        }
        progress.done(journal.segments[i].bytes);
    }
    let (findings, seen) = verify.finish();
    lines.extend(findings.iter().map(|f| (f.harmless(), f.to_string())));
    let wrong = lines.iter().filter(|(harmless, _)| !harmless).count();
    let mut text = String::new();
    for (harmless, line) in &lines {
        text += &if place.json {
            let line = line.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{{\"wrong\":{},\"finding\":\"{line}\"}}\n", !harmless)
        } else {
            format!("{} {line}\n", if *harmless { "note: " } else { "WRONG:" })
        };
    }
    let (segments, blocks, frames, bytes) = (seen.segments, seen.blocks, seen.frames, seen.bytes);
    text += &if place.json {
        format!(
            "{{\"node\":\"{node:08x}\",\"segments\":{segments},\"blocks\":{blocks},\"frames\":{frames},\"bytes\":{bytes},\"wrong\":{wrong}}}\n"
        )
    } else {
        format!(
            "node {node:08x}: {segments} segments, {blocks} blocks, {frames} frames, {bytes} bytes; {wrong} findings\n"
        )
    };
    out(&text);
    Ok(wrong == 0)
}
