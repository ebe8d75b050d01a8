//! Where two places differ: since when, why as far as that can be said, and the records that explain it.
//! Owns: nothing. Called by: `reconcile`. Never: lists more than a person reads; how many there are is said.
use super::{
    books::{ARCHIVE, Books, Key, Pair},
    sources::Source,
};
use crate::audit::{AuditError, Out, advertiser::money, directory::Journal};
use outcry::{
    billing::sources::{Moved, Table, Who, difference, unmatched},
    budget::granter::HolderId,
    record::{show::json::Object, when::utc},
};
use std::collections::BTreeMap;

/// Records that are listed for one difference.
const LISTED: usize = 20;

/// Names, for each difference of ledger and record, the window and the start of the process that it is in, and its records: first
/// those that moved just as much.
pub(super) fn windows(
    books: &Books,
    differences: &[Key],
    journal: &mut Journal,
    as_json: bool,
    out: &mut Out,
) -> Result<(), AuditError> {
    let mut found: BTreeMap<Key, (u64, Vec<Moved>)> = differences.iter().map(|key| (*key, (0, Vec::new()))).collect();
    books.records(journal, &mut |_, key, moved| {
        let Some(key) = key else { return };
        let (Some((all, listed)), Some(pair)) = (found.get_mut(&key), books.pairs.get(&key)) else { return };
        *all += 1;
        let exact = |nanos: i128| nanos.abs() == pair.difference().abs();
        if listed.len() == LISTED && exact(moved.nanos) {
            // The latest that says less makes room.
            if let Some(at) = listed.iter().rposition(|l| !exact(l.nanos)) {
                listed.remove(at);
            }
        }
        if listed.len() < LISTED {
            listed.push(moved);
        }
    })?;
    for (key, (all, mut listed)) in found {
        let Some(pair) = books.pairs.get(&key) else { continue };
        listed.sort_by_key(|l| l.nanos.abs() != pair.difference().abs());
        let text = if as_json { json(books, key, pair, all, &listed) } else { lines(books, key, pair, all, &listed) };
        out.text(&text)?;
    }
    Ok(())
}

fn why(books: &Books, holder: HolderId, pair: &Pair) -> String {
    match pair {
        _ if holder != ARCHIVE && holder.node != books.node => {
            format!("spent on node {:08x}, whose journal is another", holder.node)
        }
        Pair { forfeit, .. } if *forfeit > 0 && *forfeit >= pair.difference() && pair.difference() > 0 => {
            "the record of that start was not complete, so all it held counts as spent".to_owned()
        }
        Pair { known: false, .. } => "the ledger knows of no grant of it".to_owned(),
        _ if pair.difference() > 0 => "the ledger has more than the records".to_owned(),
        _ => "the records have more than the ledger".to_owned(),
    }
}

fn lines(books: &Books, (line, holder): Key, pair: &Pair, all: u64, listed: &[Moved]) -> String {
    let mut text = format!(
        "difference of {} in {}, window {}, {}: ledger {}, record {}: {}; {all} records\n",
        money(pair.difference()),
        books.name(line.account),
        utc(line.period.starts_ms()),
        if holder == ARCHIVE { "in the archive".to_owned() } else { format!("epoch {}", holder.epoch) },
        money(pair.ledger),
        money(pair.record),
        why(books, holder, pair),
    );
    listed.iter().for_each(|moved| text += &moved_line(moved));
    if all > listed.len() as u64 {
        text += &format!("  and {} more\n", all - listed.len() as u64);
    }
    text
}

fn moved_line(moved: &Moved) -> String {
    let event = moved.event.map_or("several auctions".to_owned(), |event| event.to_string());
    let spot = moved.spot.map_or(String::new(), |s| format!(" (segment {}, offset {})", s.segment, s.offset));
    format!("  {event} {} {}{spot}\n", moved.deed.name(), money(moved.nanos.abs()))
}

fn moved_json(o: &mut Object<'_>, moved: &Moved) {
    if let Some(event) = moved.event {
        o.word("bidid", event);
    }
    o.number(moved.deed.name(), money(moved.nanos.abs()));
    if let Some(spot) = moved.spot {
        o.number("segment", spot.segment);
        o.number("offset", spot.offset);
    }
}

fn json(books: &Books, (line, holder): Key, pair: &Pair, all: u64, listed: &[Moved]) -> String {
    let mut text = String::new();
    Object::write(&mut text, |o| {
        o.word("type", "difference");
        o.text("account", books.name(line.account).as_bytes());
        o.word("window", utc(line.period.starts_ms()));
        o.some_number("epoch", (holder != ARCHIVE).then_some(holder.epoch));
        o.number("ledger", money(pair.ledger));
        o.number("record", money(pair.record));
        o.number("difference", money(pair.difference()));
        o.text("why", why(books, holder, pair).as_bytes());
        o.number("records", all);
        o.list("events", listed, moved_json);
    });
    text.push('\n');
    text
}

/// Names, for each difference of any other two places, the records that only one of them has. What is compared with a place that
/// has sums alone is explained by the two others.
pub(super) fn records(
    table: &Table,
    sources: &mut [&mut dyn Source],
    named: &dyn Fn(&Who) -> String,
    as_json: bool,
    out: &mut Out,
) -> Result<(), AuditError> {
    for pair in table.pairs().into_iter().filter(|pair| *pair != (0, 1)) {
        let names = [pair.0, pair.1].map(|place| table.places()[place]);
        for who in table.differing(pair) {
            let row = table.rows().find(|(of, _)| *of == who).map_or(&[][..], |(_, row)| row);
            let nanos = difference(row, pair).unwrap_or_default();
            let [one, other] = [sources[pair.0].records(who)?, sources[pair.1].records(who)?];
            let alone = one.as_deref().zip(other.as_deref()).map(|(one, other)| unmatched(one, other));
            let (first, second) = alone.as_ref().map_or((&[][..], &[][..]), |(a, b)| (a.as_slice(), b.as_slice()));
            out.text(&apart(names, &named(who), nanos, [first, second], as_json))?;
        }
    }
    Ok(())
}

fn apart(names: [&str; 2], who: &str, nanos: i128, alone: [&[Moved]; 2], as_json: bool) -> String {
    let [one, other] = names;
    let mut text = String::new();
    if as_json {
        Object::write(&mut text, |o| {
            o.word("type", "difference");
            o.text("account", who.as_bytes());
            o.word("between", format!("{one},{other}"));
            o.number("difference", money(nanos));
            for (name, alone) in names.into_iter().zip(alone) {
                o.number(&format!("{name}_alone"), alone.len());
                o.list(&format!("{name}_events"), &alone[..alone.len().min(LISTED)], moved_json);
            }
        });
        text.push('\n');
        return text;
    }
    text += &format!("difference of {} in {who} between {one} and {other}\n", money(nanos));
    for (name, alone) in names.into_iter().zip(alone).filter(|(_, alone)| !alone.is_empty()) {
        text += &format!(" {} only in {name}\n", alone.len());
        alone.iter().take(LISTED).for_each(|moved| text += &moved_line(moved));
        if alone.len() > LISTED {
            text += &format!("  and {} more\n", alone.len() - LISTED);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::sources::compared, *};
    use outcry::{
        billing::sources::{Deed, Said},
        budget::AccountId,
        units::EventId,
    };

    /// A place that has records, some of which it lost.
    struct Fake(&'static str, Vec<Moved>);

    impl Source for Fake {
        fn name(&self) -> &'static str {
            self.0
        }

        fn knows(&self) -> fn(&Who) -> bool {
            |_| true
        }

        fn said(&mut self) -> Result<BTreeMap<Who, Said>, AuditError> {
            let nanos = self.1.iter().map(|m| m.nanos).sum();
            Ok(BTreeMap::from([(Who::Account(AccountId(1)), Said { nanos, coming: 0 })]))
        }

        fn records(&mut self, _: &Who) -> Result<Option<Vec<Moved>>, AuditError> {
            Ok(Some(self.1.clone()))
        }
    }

    /// Any two of three places are compared, and what is named is what one lacks.
    #[test]
    fn a_third_place_is_compared_with_both() {
        let moved = |seq: u64| Moved {
            event: Some(EventId { node: 1, epoch: 1, core: 0, seq }),
            deed: Deed::Charged,
            nanos: i128::from(seq) * 1_000_000,
            spot: None,
        };
        let whole: Vec<Moved> = (1..=50).map(moved).collect();
        let mut lacking = whole.clone();
        lacking.remove(6);
        let (mut one, mut two, mut three) = (Fake("one", whole.clone()), Fake("two", whole), Fake("three", lacking));
        let mut sources: [&mut dyn Source; 3] = [&mut one, &mut two, &mut three];
        let table = compared(&mut sources).expect("all can be asked");
        let differing: Vec<_> = table.pairs().into_iter().filter(|pair| table.differing(*pair).count() > 0).collect();
        assert_eq!(differing, [(0, 2), (1, 2)]);
        let who = Who::Account(AccountId(1));
        let [a, b] = [sources[1].records(&who), sources[2].records(&who)].map(|r| r.expect("asked").expect("records"));
        let (first, second) = unmatched(&a, &b);
        let text = apart(["two", "three"], "acme", 7_000_000, [&first, &second], false);
        let want = "difference of 0.007 in acme between two and three\n 1 only in two\n  000000010000000100000000000000000007 \
                    charged 0.007\n";
        assert_eq!(text, want);
        let text = apart(["two", "three"], "acme", 7_000_000, [&first, &second], true);
        let want = "{\"type\":\"difference\",\"account\":\"acme\",\"between\":\"two,three\",\"difference\":0.007,\"two_alone\":1,\
                    \"two_events\":[{\"bidid\":\"000000010000000100000000000000000007\",\"charged\":0.007}],\"three_alone\":0,\
                    \"three_events\":[]}\n";
        assert_eq!(text, want);
    }
}
