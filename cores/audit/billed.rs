//! A walk over the records that make a bill: what frames mean, and which notices only repeat.
//! Owns: how far it has to be read. Called by: `invoice`, `advertiser`. Never: takes what is not there for nothing: what of a
//! time the journal lacks is named.
use super::{AuditError, Range, directory::Journal, say, walk};
use outcry::{
    billing::{
        Spot,
        bill::Late,
        settling::{Came, SETTLED_MS, Settling},
    },
    notice::{token::Kind as Of, told::Notice},
    record::frame::{Frame, Kind},
};

/// Records are written at most so long before or after the window begins that they are charged to, or ends: a day begins up to
/// 14 hours before UTC's and ends as much after it, lasts up to 25, and clocks and deliveries are late.
pub(super) const AROUND_MS: u64 = 36 * 3_600_000;
/// Where nothing waits for notices, nothing is said of an auction so long after it: its delivery comes within a minute, and is
/// behind others only as long as boxes are read one after the other.
const BEHIND_MS: u64 = 3_600_000;

/// What is done with what a frame means, and last, with nothing, once for each frame.
type Each<'e> = dyn FnMut(&Frame<'_>, Option<&Came<'_>>, Spot) -> Result<(), AuditError> + 'e;

/// Hands out what every frame means, for auctions of a range. False: not all of it could be read.
pub(super) fn walked(
    journal: &mut Journal,
    auctions: Range,
    settling: &mut Settling,
    each: &mut Each<'_>,
) -> Result<bool, AuditError> {
    let mut readable = true;
    // What comes of the last ones stands behind them.
    let range = auctions.longer(SETTLED_MS);
    let whole = walk::until(journal, range, &mut |place, frame| {
        let (ms, hlc) = (frame.header.hlc >> 16, frame.header.hlc);
        let spot = Spot { ms, segment: place.segment, offset: place.offset };
        let mut done = Ok(());
        let inside = auctions.holds(hlc);
        if inside || frame.kind() != Some(Kind::Auction) {
            let read = settling.frame(frame, spot, &mut |came, spot| {
                if done.is_ok() {
                    done = each(frame, Some(&came), spot);
                }
            });
            if let Err(why) = read {
                say(format_args!(
                    "segment {}, offset {}: the record cannot be read: {why}",
                    place.segment, place.offset
                ));
                readable = false;
            }
        }
        done?;
        each(frame, None, spot)?;
        Ok(settling.awaited() || auctions.longer(BEHIND_MS).holds(hlc))
    })?;
    Ok(whole && readable)
}

/// Takes those out that only repeat what had come in time: that can be said once all notices were looked at.
pub(super) fn sifted(journal: &mut Journal, auctions: Range, late: &mut Late) -> Result<bool, AuditError> {
    if !late.unsure() {
        return Ok(true);
    }
    walk::frames(journal, auctions.longer(SETTLED_MS), &mut |_, frame| {
        if frame.kind() == Some(Kind::Notice)
            && let Ok(notice) = Notice::decode(frame.payload())
            && notice.name.kind == Of::Billed
            && !notice.expired
        {
            late.in_time((notice.name.event, notice.name.imp));
        }
        Ok(())
    })
}

/// Says what of a time the journal does not have. True: it has all.
pub(super) fn complete(journal: &Journal, from_ms: u64) -> bool {
    let mut all = true;
    if let Some((first, header)) = journal.segments.first().and_then(|s| Some((s, s.header.ok()?)))
        && first.segment > 1
        && header.hlc >> 16 > from_ms
    {
        let begins = outcry::record::when::utc(header.hlc >> 16);
        say(format_args!(
            "the journal begins at {begins}: what is older was let go, and is missing here. Put its copy beside it, or keep \
             more (`record.keep_days`, `record.keep_bytes`)"
        ));
        all = false;
    }
    // What is not in an archive either was named where that was opened.
    for two in journal.segments.windows(2).filter(|_| !journal.stands_in()) {
        if let [one, next] = two
            && next.segment != one.segment + 1
        {
            say(format_args!(
                "segments {} to {} are missing, and with them what is in them",
                one.segment + 1,
                next.segment - 1
            ));
            all = false;
        }
    }
    all
}
