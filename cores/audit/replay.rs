//! `outcry audit replay`: does the recorded decision follow from what was recorded of it?
use super::{AuditError, Out, Place, Range, Where, find, frames, request, say, sources::Elsewhere, walk};
use clap::Args;
use outcry::{
    auction::Record,
    record::{
        frame::{Frame, Kind},
        show::{columns::plain, json::Object},
    },
};
use std::time::Instant;

#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub(super) struct ReplayArgs {
    /// The request's `id`, or an event id.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Every auction, or every one of `--from` and `--to`: those that differ are printed, all are counted.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    place: Where,
}

/// Is it decided the same, and what is there to say?
pub(super) fn in_words(record: &Record) -> (bool, String) {
    let differences = record.differences();
    if differences.is_empty() {
        return (true, "same decision".to_string());
    }
    let each: Vec<String> = differences.iter().map(ToString::to_string).collect();
    (false, format!("DIFFERS: {}", each.join("; ")))
}

/// The same as JSON.
pub(super) fn verdict(record: &Record, o: &mut Object<'_>) -> bool {
    let each: Vec<String> = record.differences().iter().map(ToString::to_string).collect();
    o.number("same_decision", each.is_empty());
    if !each.is_empty() {
        o.texts("differences", each.iter().map(String::as_bytes));
    }
    each.is_empty()
}

#[derive(Default)]
struct Counts {
    auctions: u64,
    differ: u64,
    unreadable: u64,
}

/// Replays an auction. `quiet`: says nothing if it is decided the same.
fn one(
    (place, frame): (&Place, &Frame<'_>),
    (json, quiet): (bool, bool),
    counts: &mut Counts,
    out: &mut Out,
) -> Result<(), AuditError> {
    counts.auctions += 1;
    let record = match Record::decode(frame.payload()) {
        Ok(record) => record,
        Err(why) => {
            say(format_args!("segment {}, offset {}: the record cannot be read: {why}", place.segment, place.offset));
            counts.unreadable += 1;
            return Ok(());
        }
    };
    let i = &record.inputs;
    if json {
        let mut same = true;
        let line = frames::as_json(place, frame, |o| {
            o.word("bidid", i.event);
            o.text("id", i.text(i.request_id));
            same = verdict(&record, o);
        });
        counts.differ += u64::from(!same);
        return if same && quiet { Ok(()) } else { out.text(&line) };
    }
    let (same, words) = in_words(&record);
    counts.differ += u64::from(!same);
    if same && quiet {
        return Ok(());
    }
    let id = plain(i.text(i.request_id));
    out.text(&format!(
        "auction {} of request {id}, segment {}, offset {}: {words}\n",
        i.event, place.segment, place.offset
    ))
}

/// True: all that was asked for is there and is decided the same.
pub(super) fn run(args: &ReplayArgs) -> Result<bool, AuditError> {
    let mut opened = match &args.id {
        None => args.elsewhere.open(&args.place, args.range)?,
        Some(id) => args.elsewhere.open_for_id(&args.place, args.range, request::key(id))?,
    };
    let journal = &mut opened.journal;
    let (mut out, mut counts) = (Out::new(), Counts::default());
    let (json, began) = (args.place.json, Instant::now());
    let whole = match &args.id {
        Some(id) => {
            let found = find::find(journal, request::key(id))?;
            for hit in &found.hits {
                if let Some(frame) = hit.frame().filter(|f| f.kind() == Some(Kind::Auction)) {
                    one((&hit.place, &frame), (json, false), &mut counts, &mut out)?;
                }
            }
            if counts.auctions == 0 {
                request::missing(id, journal, found.whole);
            }
            found.whole && counts.auctions > 0
        }
        None => walk::frames(journal, args.range, &mut |place, frame| match frame.kind() {
            Some(Kind::Auction) => one((place, frame), (json, true), &mut counts, &mut out),
            _ => Ok(()),
        })?,
    };
    let Counts { auctions, differ, unreadable } = counts;
    if args.all {
        out.text(&if json {
            format!("{{\"auctions\":{auctions},\"differ\":{differ},\"unreadable\":{unreadable}}}\n")
        } else {
            let seconds = began.elapsed().as_secs_f64();
            format!(
                "{auctions} auctions decided again in {seconds:.1} s: {differ} differ, {unreadable} cannot be read\n"
            )
        })?;
    }
    out.end()?;
    Ok(whole && opened.whole && differ == 0 && unreadable == 0)
}
