//! What came of one auction's wins: their deliveries, notices, and what went home, from the records that follow it.
//! Owns: nothing. Called by: `request`. Never: reads more of the journal than where money of these wins can have gone home.
use super::{
    AuditError, Place, Range,
    advertiser::money,
    directory::Journal,
    find::Hit,
    notices::last,
    opened::{Row, Shown, Text},
    walk,
};
use outcry::{
    auction::{Delivery, Record},
    billing::{
        Spot,
        bill::Line,
        settling::{Came, Settling},
        wins::{Fate, Wins},
    },
    notice::{
        holds::Lapse,
        seen::GRACE_S,
        told::{Notice, Told},
    },
    record::{
        frame::{Frame, Kind},
        show::{columns::plain, json::Object},
        when::utc,
    },
    units::EventId,
};

/// What a notice meant for money.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meant {
    InTime,
    Late,
    Nothing,
}

/// See the module.
pub(super) struct Outcome {
    rows: Vec<Row>,
    /// A line for each notice, and each DSP that was told.
    notices: String,
    awaited_s: u32,
}

/// Is a frame about this auction?
fn about(frame: &Frame<'_>, event: EventId) -> bool {
    let payload = frame.payload();
    match frame.kind() {
        Some(Kind::Auction) => Record::head(payload).is_ok_and(|i| i.event == event),
        Some(Kind::Delivery) => Delivery::decode(payload).is_ok_and(|d| d.event == event),
        Some(Kind::Notice) => Notice::decode(payload).is_ok_and(|n| n.name.event == event),
        Some(Kind::Told) => Told::decode(payload).is_ok_and(|t| t.name.event == event),
        _ => false,
    }
}

/// When the minute of a notice is over and no other is believed.
fn over_ms(awaited_s: u32) -> u64 {
    (u64::from(awaited_s / 60 + 1) * 60 + u64::from(GRACE_S)) * 1_000
}

/// What came of an auction that was found, by what was found with it.
pub(super) fn of(journal: &mut Journal, record: &Record, hits: &[Hit]) -> Result<Outcome, AuditError> {
    let (event, awaited_s) = (record.inputs.event, record.inputs.awaited_s);
    let mut frames: Vec<(Place, Vec<u8>)> = Vec::new();
    for hit in hits {
        if let Some(frame) = hit.frame().filter(|frame| about(frame, event)) {
            frames.push((hit.place, frame.bytes.to_vec()));
        }
    }
    let (mut outcome, mut last_ms) = (settled(journal.node, &frames, 0), 0);
    let late_ms = frames.iter().filter_map(|(_, bytes)| Some(decoded(bytes)?.header.hlc >> 16)).max().unwrap_or(0);
    let waits = outcome.rows.iter().any(|row| row.fate == Fate::Waits);
    if awaited_s > 0 && (waits || late_ms >= over_ms(awaited_s)) {
        last_ms = gone(journal, record, &mut frames)?;
    }
    if last_ms > 0 {
        frames.sort_by_key(|(place, _)| (place.segment, place.offset));
        outcome = settled(journal.node, &frames, last_ms);
    }
    outcome.awaited_s = awaited_s;
    Ok(outcome)
}

/// Adds the frames with which money of these wins went home. When the journal ends.
fn gone(journal: &mut Journal, record: &Record, frames: &mut Vec<(Place, Vec<u8>)>) -> Result<u64, AuditError> {
    let (event, awaited_s) = (record.inputs.event, record.inputs.awaited_s);
    let wins = record.decision.wins.iter().filter(|w| w.account.is_some());
    let mut wanted: Vec<_> = wins.map(|w| (w.account, w.period)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let (mut left, mut last_ms) = (wanted.len(), 0);
    let range = Range::since(u64::from(awaited_s) * 1_000);
    walk::until(journal, range, &mut |place, frame| {
        last_ms = last_ms.max(frame.header.hlc >> 16);
        let lapse = Lapse::decode(frame.payload()).ok().filter(|_| frame.kind() == Some(Kind::Settlement));
        let ours = |lapse: &Lapse| {
            let line = (lapse.of.line.account, lapse.of.line.period);
            lapse.of.epoch == event.epoch && lapse.minute == awaited_s / 60 && wanted.contains(&line)
        };
        if lapse.is_some_and(|lapse| ours(&lapse)) {
            frames.push((*place, frame.bytes.to_vec()));
            left = left.saturating_sub(1);
        }
        // What is on no account goes home by time alone.
        Ok(left > 0 || last_ms < over_ms(awaited_s))
    })?;
    Ok(last_ms)
}

fn decoded(bytes: &[u8]) -> Option<Frame<'_>> {
    outcry::record::frame::decode(bytes).ok()
}

/// What frames in their order come to, until a moment.
fn settled(node: u32, frames: &[(Place, Vec<u8>)], until_ms: u64) -> Outcome {
    let (mut settling, mut wins, mut notices) = (Settling::new(node), Wins::default(), String::new());
    for (place, bytes) in frames {
        let Some(frame) = decoded(bytes) else { continue };
        let spot = Spot { ms: frame.header.hlc >> 16, segment: place.segment, offset: place.offset };
        let mut meant = Meant::Nothing;
        // What cannot be read is named by whoever prints the frame.
        let _ = settling.frame(&frame, spot, &mut |came, spot| {
            match &came {
                Came::Won(won) => {
                    if let Some(shown) = Shown::of(won) {
                        wins.keep(won, spot, shown);
                    }
                }
                Came::Billed(_) => meant = Meant::InTime,
                Came::Late { .. } => meant = Meant::Late,
                _ => {}
            }
            wins.came(&came, spot);
        });
        notices += &noticed(&frame, spot, meant);
    }
    let spot = Spot { ms: until_ms, ..Spot::default() };
    settling.passed(spot, &mut |came, spot| wins.came(&came, spot));
    let rows = std::iter::from_fn(|| wins.next(u64::MAX)).collect();
    Outcome { rows, notices, awaited_s: 0 }
}

fn noticed(frame: &Frame<'_>, Spot { ms, segment, offset }: Spot, meant: Meant) -> String {
    let at = format!("at {} (segment {segment}, offset {offset})", utc(ms));
    match frame.kind() {
        Some(Kind::Notice) => Notice::decode(frame.payload()).map_or(String::new(), |n| {
            let how = match (meant, n.expired) {
                (Meant::InTime, _) => "in time",
                (Meant::Late, _) | (Meant::Nothing, true) => "too late",
                (Meant::Nothing, false) if n.held.is_some() => "again",
                (Meant::Nothing, false) => "recorded",
            };
            format!("notice: impression {} {} at {} CPM, {how}, {at}\n", n.name.imp, n.name.kind.name(), n.price)
        }),
        Some(Kind::Told) => Told::decode(frame.payload()).map_or(String::new(), |t| {
            let status = last(&t).map_or(String::new(), |last| format!(", status {last}"));
            let (imp, kind, end) = (t.name.imp, t.name.kind.name(), t.end.name());
            format!("told: impression {imp} {kind}: {end}{status}, calls {}, {at}\n", t.attempts)
        }),
        _ => String::new(),
    }
}

impl Outcome {
    /// For people: a line for each win, and each notice.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let at = row
                .because
                .map_or(String::new(), |s| format!(" at {} (segment {}, offset {})", utc(s.ms), s.segment, s.offset));
            let until = utc(u64::from(self.awaited_s) * 1_000);
            let came = match row.fate {
                Fate::Charged(_) if row.freed.0 > 0 => format!("freed {}{at}", row.freed),
                Fate::Charged(_) => "for good".to_owned(),
                Fate::Waits => format!("waits for its notice until {until}"),
                Fate::Billed { .. } => format!("its notice came{at}"),
                Fate::Lapsed => format!("went home{at}: no notice came in time"),
            };
            let (charge, cur) = (row.charge, row.what.accounting);
            text += &format!(
                "money: impression {} {}/{}/{} charged {charge} {cur}; {came}; billed {}\n",
                row.imp,
                plain(row.what.text(Text::Dsp)),
                plain(row.what.text(Text::Seat)),
                plain(row.what.text(Text::Cid)),
                money(row.sums().line(Line::Billed).nanos),
            );
        }
        text + &self.notices
    }

    /// For programs: a list in the auction's own object.
    pub(super) fn json(&self, o: &mut Object<'_>) {
        o.list("came_of", &self.rows, |o, row| {
            o.number("imp", row.imp);
            o.number("charge", row.charge);
            o.word("delivery", row.fate.name());
            o.number("billed", money(row.sums().line(Line::Billed).nanos));
            if let Some(spot) = row.because {
                o.object("settled", |o| {
                    o.word("time", utc(spot.ms));
                    o.number("segment", spot.segment);
                    o.number("offset", spot.offset);
                });
            }
        });
    }
}
