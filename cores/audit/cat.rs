//! `outcry audit cat`: every frame that counts, in the order in which they were written.
use super::{AuditError, Out, Range, Where, frames, say, sources::Elsewhere, walk};
use clap::Args;

#[derive(Args, Debug)]
pub(super) struct CatArgs {
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    elsewhere: Elsewhere,
    /// Only these kinds, separated by commas: auction, delivery, refusals, refusal-sample, account, lease, notice,
    /// settlement, config, start, stop, clean, raw-request, raw-answer.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<u8>,
    /// Whole payloads in the table, instead of their first 32 bytes.
    #[arg(long)]
    full: bool,
    /// In JSON what the payload says, as `record`, instead of its bytes.
    #[arg(long, requires = "json")]
    record: bool,
}

fn kind(text: &str) -> Result<u8, String> {
    let known = frames::KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind as u8);
    known.or_else(|| text.strip_prefix("kind-")?.parse().ok()).ok_or_else(|| {
        let names = frames::KINDS.map(|(_, name)| name).join(", ");
        format!("there are {names}, and kind-N for a number")
    })
}

/// True: everything there was could be printed. What could not is named on standard error.
pub(super) fn run(args: &CatArgs) -> Result<bool, AuditError> {
    let CatArgs { place, range, elsewhere, kind, full, record } = args;
    let mut opened = elsewhere.open(place, *range)?;
    let mut out = Out::new();
    if !place.json {
        out.text(frames::HEADING)?;
    }
    let mut readable = true;
    let whole = walk::frames(&mut opened.journal, *range, &mut |at, frame| {
        if !kind.is_empty() && !kind.contains(&frame.header.kind) {
            return Ok(());
        }
        out.text(&match (place.json, record) {
            (false, _) => frames::as_row(at, frame, *full),
            (true, false) => frames::as_json(at, frame, |o| frames::raw(frame, o)),
            (true, true) => frames::as_json(at, frame, |o| readable &= frames::record(frame, o)),
        })
    })?;
    out.end()?;
    let whole = whole && opened.whole;
    if !whole {
        say(format_args!("not all of the journal could be printed; `outcry audit verify` says more"));
    }
    if !readable {
        say(format_args!("there are payloads that cannot be read: `unreadable` says why"));
    }
    Ok(whole && readable)
}
