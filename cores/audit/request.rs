//! `outcry audit request`: all that is known of one request: the auction, its delivery, what came of its wins, its notices.
use super::{
    AuditError, Out, Where,
    directory::Journal,
    find::{self, Hit},
    frames, outcome, replay, say,
    sources::Elsewhere,
};
use clap::Args;
use outcry::{
    auction::{Delivery, Record, input::kept_of},
    notice::told::{Notice, Told},
    record::{
        frame::Kind,
        show::{self, columns::plain},
        when::utc,
    },
    units::EventId,
};

#[derive(Args, Debug)]
pub(super) struct RequestArgs {
    /// The request's `id`, or an event id (our `bidid`: 36 hexadecimal digits). Of a longer `id` its first 128 bytes count, as
    /// in the record.
    id: String,
    /// With `--tiers`: about when it was, so that no more of the archive is searched.
    #[cfg(feature = "tiers")]
    #[command(flatten)]
    range: super::Range,
    #[command(flatten)]
    elsewhere: Elsewhere,
    #[command(flatten)]
    place: Where,
}

/// What an id is looked up by.
pub(super) fn key(id: &str) -> &[u8] {
    kept_of(id.as_bytes())
}

/// True: it was found, and all of it is as it should be.
pub(super) fn run(args: &RequestArgs) -> Result<bool, AuditError> {
    #[cfg(feature = "tiers")]
    let range = args.range;
    #[cfg(not(feature = "tiers"))]
    let range = super::Range::default();
    let mut opened = args.elsewhere.open_for_id(&args.place, range, key(&args.id))?;
    let found = find::find(&mut opened.journal, key(&args.id))?;
    let mut good = found.whole && opened.whole;
    if found.hits.is_empty() {
        missing(&args.id, &opened.journal, found.whole);
        return Ok(false);
    }
    let mut out = Out::new();
    if args.place.json {
        for hit in &found.hits {
            let Some(frame) = hit.frame() else { continue };
            let record = Record::decode(frame.payload()).ok().filter(|_| frame.kind() == Some(Kind::Auction));
            let came =
                record.as_ref().map(|record| outcome::of(&mut opened.journal, record, &found.hits)).transpose()?;
            out.text(&frames::as_json(&hit.place, &frame, |o| {
                good &= frames::record(&frame, o);
                if let Some(record) = &record {
                    replay::verdict(record, o);
                }
                came.iter().for_each(|came| came.json(o));
            }))?;
        }
    } else {
        good &= tables(&mut opened.journal, &found.hits, &mut out)?;
    }
    out.end()?;
    Ok(good)
}

/// Says that an id was not found, and where not.
pub(super) fn missing(id: &str, journal: &Journal, whole: bool) {
    let (first, last) = (journal.segments.first(), journal.segments.last());
    let (Some(first), Some(last)) = (first, last) else {
        return say(format_args!("nothing is recorded of {}", plain(id.as_bytes())));
    };
    let since = first.header.map(|h| format!(", which begin at {}", utc(h.hlc >> 16))).unwrap_or_default();
    let but = if whole { "" } else { "; not all of them could be read" };
    say(format_args!(
        "nothing is recorded of {} in segments {} to {}{since}{but}. A request that was refused before its auction has no record; \
         `outcry audit cat --kind refusals` counts those",
        plain(id.as_bytes()),
        first.segment,
        last.segment
    ));
}

/// Each auction with what belongs to it, then what belongs to none of them.
fn tables(journal: &mut Journal, hits: &[Hit], out: &mut Out) -> Result<bool, AuditError> {
    let mut good = true;
    let (mut auctions, mut deliveries, mut noticed, mut rest) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for hit in hits {
        let Some(frame) = hit.frame() else { continue };
        match frame.kind() {
            Some(Kind::Auction) => auctions.push((hit, Record::decode(frame.payload()))),
            Some(Kind::Notice) => match Notice::decode(frame.payload()) {
                Ok(notice) => noticed.push((notice.name.event, hit)),
                Err(_) => rest.push(hit),
            },
            Some(Kind::Told) => match Told::decode(frame.payload()) {
                Ok(told) => noticed.push((told.name.event, hit)),
                Err(_) => rest.push(hit),
            },
            Some(Kind::Delivery) => match Delivery::decode(frame.payload()) {
                Ok(known) => deliveries.push((known.event, known.delivery)),
                Err(_) => rest.push(hit),
            },
            _ => rest.push(hit),
        }
    }
    let mut known: Vec<EventId> = Vec::new();
    for (n, (hit, record)) in auctions.iter().enumerate() {
        let place = &hit.place;
        if n > 0 {
            out.text("\n")?;
        }
        match record {
            Ok(record) => {
                let event = record.inputs.event;
                known.push(event);
                let its: Vec<Delivery> = deliveries.iter().filter(|d| d.0 == event).map(|d| d.1).collect();
                let mut text = String::new();
                show::report(record, &its, &mut text);
                let (same, verdict) = replay::in_words(record);
                good &= same;
                text += &outcome::of(journal, record, hits)?.text();
                text += &format!("replay: {verdict}\nrecord: segment {}, offset {}\n", place.segment, place.offset);
                out.text(&text)?;
            }
            Err(why) => {
                say(format_args!(
                    "segment {}, offset {}: the record cannot be read: {why}",
                    place.segment, place.offset
                ));
                good = false;
            }
        }
    }
    for (event, delivery) in deliveries.iter().filter(|d| !known.contains(&d.0)) {
        out.text(&format!("delivery of auction {event}, which is not in this journal: {delivery:?}\n"))?;
    }
    // Those of auctions that are here were said with them.
    rest.extend(noticed.into_iter().filter(|(event, _)| !known.contains(event)).map(|(_, hit)| hit));
    if !rest.is_empty() {
        out.text("also\n")?;
        out.text(frames::HEADING)?;
        for hit in rest {
            if let Some(frame) = hit.frame() {
                out.text(&frames::as_row(&hit.place, &frame, true))?;
            }
        }
    }
    Ok(good)
}
