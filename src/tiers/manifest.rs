//! The manifest of a batch: what was exported, how to check it, what it adds up to.
//! Owns: nothing. Called by: `cores/tiers`, `outcry audit`. Never: is written before everything that it names; is changed.
use super::{
    gather::Part,
    ids::Ids,
    json::{Json, hex, sha256, unhex},
    names::{Batch, Table},
};
use crate::{record::show::json::Object, units::Currency};

/// The version that is written. Version 1 has no index of ids and no house ads.
pub const VERSION: i64 = 2;

/// An archived segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Its number.
    pub segment: u64,
    /// Its object.
    pub name: String,
    /// Bytes of that.
    pub bytes: u64,
    /// SHA-256 of those.
    pub sha256: [u8; 32],
    /// Bytes of the segment that count: header and blocks.
    pub end: u64,
    /// The journal's own digest of those, as the next segment's header has it.
    pub digest: [u8; 32],
    /// Places in it that cannot be read.
    pub damages: u64,
    /// When its first frame was made, milliseconds since 1970; above `to_ms`: it has none.
    pub from_ms: u64,
    /// When its last.
    pub to_ms: u64,
}

impl Segment {
    /// Has it frames between two moments? The second is behind the last.
    pub fn meets(&self, from_ms: u64, to_ms: u64) -> bool {
        self.from_ms < to_ms && self.to_ms >= from_ms
    }
}

/// A file of rows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Of which.
    pub table: Table,
    /// Of which day.
    pub date: String,
    /// Of whom, not encoded.
    pub advertiser: String,
    /// Its object.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of the object.
    pub bytes: u64,
    /// SHA-256 of those.
    pub sha256: [u8; 32],
    /// The lowest time in it.
    pub from_ms: u64,
    /// The highest.
    pub to_ms: u64,
    /// The sum of `charge_nanos`; 0 of a table without charges.
    pub charge_nanos: i64,
    /// Wins in it that are charged when their notices come.
    pub awaiting: u64,
    /// All `[DSP, seat]` in it; `None`: too many to be named.
    pub seats: Option<Vec<[String; 2]>>,
    /// All campaigns in it; likewise.
    pub cids: Option<Vec<String>>,
}

impl File {
    /// Of a part that became an object.
    pub fn of(place: (Table, String, &[u8]), part: &Part, name: String, bytes: u64, sha256: [u8; 32]) -> File {
        let (table, date, advertiser) = place;
        let rows = &part.rows;
        let column = |name| rows.columns().iter().position(|c| c.name == name);
        let ints = |name| {
            let column = column(name);
            (0..rows.len()).filter_map(move |row| rows.int(column?, row))
        };
        let time = |ms: Option<i64>| ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        let lossy = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let wins = table == Table::Wins;
        let seats = part.seats.as_ref().filter(|_| wins);
        let cids = part.cids.as_ref().filter(|_| wins);
        File {
            table,
            date,
            advertiser: lossy(advertiser),
            name,
            rows: rows.len() as u64,
            bytes,
            sha256,
            from_ms: time(ints("time").min()),
            to_ms: time(ints("time").max()),
            charge_nanos: ints("charge_nanos").fold(0, i64::saturating_add),
            awaiting: part.awaiting,
            seats: seats.map(|all| all.iter().map(|(dsp, seat)| [lossy(dsp), lossy(seat)]).collect()),
            cids: cids.map(|all| all.iter().map(|cid| lossy(cid)).collect()),
        }
    }

    /// Are there frames between these two moments in it? The second is behind the last.
    pub fn meets(&self, from_ms: u64, to_ms: u64) -> bool {
        self.from_ms < to_ms && self.to_ms >= from_ms
    }
}

/// What the wins of an account add up to, in one currency.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// The account; 0: wins without one.
    pub account: u32,
    /// Whose it is; empty: nobody's.
    pub advertiser: String,
    /// The currency.
    pub accounting: Currency,
    /// Wins.
    pub wins: u64,
    /// What they are charged, those that wait for a notice included.
    pub charge_nanos: i64,
    /// What of it was freed, as their answers did not arrive.
    pub freed_nanos: i64,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Which.
    pub batch: Batch,
    /// The version of the program that wrote it.
    pub program: String,
    /// Frames that should have become rows and could not be read.
    pub unreadable: u64,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The files.
    pub files: Vec<File>,
    /// By account and currency.
    pub sums: Vec<Sum>,
    /// The object that has the accounts' names at the end of the batch; empty: none are known.
    pub accounts: String,
    /// Which segments can hold an id; `None`: a release wrote it that made no such index.
    pub ids: Option<Ids>,
}

impl Manifest {
    /// As JSON.
    pub fn write(&self) -> String {
        let mut out = String::new();
        let Batch { node, first, last, from_ms, to_ms } = &self.batch;
        Object::write(&mut out, |o| {
            o.number("version", VERSION);
            o.word("node", format_args!("{node:08x}"));
            o.number("first", first);
            o.number("last", last);
            o.number("from_ms", from_ms);
            o.number("to_ms", to_ms);
            o.text("program", self.program.as_bytes());
            o.number("unreadable", self.unreadable);
            o.text("accounts", self.accounts.as_bytes());
            o.list("segments", &self.segments, |o, s| {
                o.number("segment", s.segment);
                o.text("name", s.name.as_bytes());
                o.number("bytes", s.bytes);
                o.word("sha256", hex(&s.sha256));
                o.number("end", s.end);
                o.word("digest", hex(&s.digest));
                o.number("damages", s.damages);
                o.number("from_ms", s.from_ms.min(i64::MAX as u64));
                o.number("to_ms", s.to_ms);
            });
            o.list("files", &self.files, |o, f| {
                o.text("table", f.table.name().as_bytes());
                o.text("date", f.date.as_bytes());
                o.text("advertiser", f.advertiser.as_bytes());
                o.text("name", f.name.as_bytes());
                o.number("rows", f.rows);
                o.number("bytes", f.bytes);
                o.word("sha256", hex(&f.sha256));
                o.number("from_ms", f.from_ms);
                o.number("to_ms", f.to_ms);
                o.number("charge_nanos", f.charge_nanos);
                o.number("awaiting", f.awaiting);
                if let Some(seats) = &f.seats {
                    o.list("seats", seats, |o, [dsp, seat]| {
                        o.text("dsp", dsp.as_bytes());
                        o.text("seat", seat.as_bytes());
                    });
                }
                if let Some(cids) = &f.cids {
                    o.texts("cids", cids.iter().map(String::as_bytes));
                }
            });
            o.list("sums", &self.sums, |o, s| {
                o.number("account", s.account);
                o.text("advertiser", s.advertiser.as_bytes());
                o.text("accounting", &s.accounting.0);
                o.number("wins", s.wins);
                o.number("charge_nanos", s.charge_nanos);
                o.number("freed_nanos", s.freed_nanos);
            });
            if let Some(ids) = &self.ids {
                o.object("ids", |o| ids.write(o));
            }
        });
        seal(&mut out);
        out
    }

    /// Reads [`Manifest::write`] back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Manifest, Unreadable> {
        let json = Json::parse(bytes).map_err(|_| Unreadable::Json)?;
        sealed(bytes)?;
        match json.int("version") {
            Some(1..=VERSION) => {}
            Some(other) => return Err(Unreadable::Version(other)),
            None => return Err(Unreadable::Lacks("version")),
        }
        let count = |of: &Json, key| of.count(key).ok_or(Unreadable::Lacks(key));
        let text = |of: &Json, key| of.text(key).map(str::to_string).ok_or(Unreadable::Lacks(key));
        let digest = |of: &Json, key| of.text(key).and_then(unhex).ok_or(Unreadable::Lacks(key));
        let node = u32::from_str_radix(&text(&json, "node")?, 16).map_err(|_| Unreadable::Lacks("node"))?;
        let batch = Batch {
            node,
            first: count(&json, "first")?,
            last: count(&json, "last")?,
            from_ms: count(&json, "from_ms")?,
            to_ms: count(&json, "to_ms")?,
        };
        let segment = |s: &Json| {
            Ok(Segment {
                segment: count(s, "segment")?,
                name: text(s, "name")?,
                bytes: count(s, "bytes")?,
                sha256: digest(s, "sha256")?,
                end: count(s, "end")?,
                digest: digest(s, "digest")?,
                damages: count(s, "damages")?,
                from_ms: count(s, "from_ms")?,
                to_ms: count(s, "to_ms")?,
            })
        };
        let file = |f: &Json| {
            let seats = || f.list("seats").iter().map(|s| Ok([text(s, "dsp")?, text(s, "seat")?])).collect();
            Ok(File {
                table: f.text("table").and_then(Table::of).ok_or(Unreadable::Lacks("table"))?,
                date: text(f, "date")?,
                advertiser: text(f, "advertiser")?,
                name: text(f, "name")?,
                rows: count(f, "rows")?,
                bytes: count(f, "bytes")?,
                sha256: digest(f, "sha256")?,
                from_ms: count(f, "from_ms")?,
                to_ms: count(f, "to_ms")?,
                charge_nanos: f.int("charge_nanos").ok_or(Unreadable::Lacks("charge_nanos"))?,
                awaiting: count(f, "awaiting")?,
                seats: f.get("seats").map(|_| seats()).transpose()?,
                cids: f.texts("cids"),
            })
        };
        let sum = |s: &Json| {
            let number = |key| s.int(key).ok_or(Unreadable::Lacks(key));
            Ok(Sum {
                account: u32::try_from(count(s, "account")?).map_err(|_| Unreadable::Lacks("account"))?,
                advertiser: text(s, "advertiser")?,
                accounting: Currency::parse(text(s, "accounting")?.as_bytes())
                    .ok_or(Unreadable::Lacks("accounting"))?,
                wins: count(s, "wins")?,
                charge_nanos: number("charge_nanos")?,
                freed_nanos: number("freed_nanos")?,
            })
        };
        let segments: Vec<Segment> = json.list("segments").iter().map(segment).collect::<Result<_, Unreadable>>()?;
        let ids = json.get("ids").map(|ids| Ids::read(ids, segments.len()).ok_or(Unreadable::Lacks("ids")));
        Ok(Manifest {
            batch,
            program: text(&json, "program")?,
            unreadable: count(&json, "unreadable")?,
            accounts: text(&json, "accounts")?,
            segments,
            files: json.list("files").iter().map(file).collect::<Result<_, Unreadable>>()?,
            sums: json.list("sums").iter().map(sum).collect::<Result<_, Unreadable>>()?,
            ids: ids.transpose()?,
        })
    }
}

/// What a manifest ends with, before its own digest.
const SEAL: &str = ",\"sha256\":\"";

/// Adds, as the last member, the digest of all that stands before it.
fn seal(out: &mut String) {
    out.truncate(out.len() - 1);
    let digest = hex(&sha256(out.as_bytes()));
    out.push_str(SEAL);
    out.push_str(&digest);
    out.push_str("\"}\n");
}

/// Is it what was sealed?
fn sealed(bytes: &[u8]) -> Result<(), Unreadable> {
    let rest = bytes.strip_suffix(b"\"}\n").ok_or(Unreadable::Lacks("sha256"))?;
    let (rest, digest) = rest.split_at_checked(rest.len().saturating_sub(64)).ok_or(Unreadable::Lacks("sha256"))?;
    let before = rest.strip_suffix(SEAL.as_bytes()).ok_or(Unreadable::Lacks("sha256"))?;
    if digest == hex(&sha256(before)).as_bytes() { Ok(()) } else { Err(Unreadable::Altered) }
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are no JSON.
    #[error("it is no JSON: it was altered, or cut off")]
    Json,
    /// Its own digest is another.
    #[error("it was altered: its digest is another than it says")]
    Altered,
    /// A later release's.
    #[error(
        "written in version {0} of the format; this release reads versions 1 and 2: use the release that wrote it, or a later one"
    )]
    Version(i64),
    /// Something is missing.
    #[error("`{0}` is missing in it, or something else than it should be")]
    Lacks(&'static str),
}

#[cfg(test)]
mod tests {
    use super::{super::ids, *};

    fn manifest() -> Manifest {
        let segment = |n| Segment {
            segment: n,
            name: format!("cold/{n}"),
            bytes: 9,
            sha256: [1; 32],
            end: 4096 * n,
            digest: [2; 32],
            damages: 0,
            from_ms: 5,
            to_ms: 6,
        };
        let file = File {
            table: Table::Wins,
            date: "2026-01-31".into(),
            advertiser: "a\"b},{c".into(),
            name: "wins/x".into(),
            rows: 3,
            bytes: 100,
            sha256: [3; 32],
            from_ms: 5,
            to_ms: 6,
            charge_nanos: -1,
            awaiting: 2,
            seats: Some(vec![["d".into(), String::new()]]),
            cids: Some(vec!["c [{".into()]),
        };
        let sum = Sum { account: 7, advertiser: "A".into(), wins: 3, charge_nanos: 1 << 60, ..Sum::default() };
        Manifest {
            batch: Batch { node: 0xab, first: 1, last: 2, from_ms: 5, to_ms: 6 },
            program: "0.1.0".into(),
            unreadable: 0,
            segments: vec![segment(1), segment(2)],
            files: vec![file.clone(), File { seats: None, cids: None, table: Table::Notices, ..file }],
            sums: vec![sum],
            accounts: String::new(),
            ids: Some(Ids { name: "cold/i".into(), bytes: 2 * 3 * ids::BLOCK as u64, sha256: [4; 32], blocks: 3 }),
        }
    }

    #[test]
    fn it_is_read_back() {
        let known = manifest();
        let text = known.write();
        assert_eq!(Manifest::read(text.as_bytes()), Ok(known));
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = manifest().write();
        let of = |text: &str| {
            // What is wrong was wrong from the beginning.
            let mut text = text.to_string();
            if let Some(end) = text.rfind(SEAL) {
                text.truncate(end);
                text.push('}');
                seal(&mut text);
            }
            Manifest::read(text.as_bytes()).expect_err("something is wrong")
        };
        assert_eq!(of(&text[..200]), Unreadable::Json);
        assert_eq!(of(&text.replacen("\"version\":2", "\"version\":3", 1)), Unreadable::Version(3));
        assert_eq!(of(&text.replacen("\"rows\":3", "\"rows\":-3", 1)), Unreadable::Lacks("rows"));
        assert_eq!(of(&text.replacen("\"digest\":\"02", "\"digest\":\"0z", 1)), Unreadable::Lacks("digest"));
        assert_eq!(of(&text.replacen("\"blocks\":3", "\"blocks\":4", 1)), Unreadable::Lacks("ids"));
        assert_eq!(of("{}"), Unreadable::Lacks("sha256"));
        assert_eq!(of(&text.replacen("\"version\"", "\"other\"", 1)), Unreadable::Lacks("version"));
    }

    /// What releases before the index of ids wrote.
    #[test]
    fn version_1_is_read() {
        let known = Manifest { ids: None, ..manifest() };
        let mut text = known.write().replacen("\"version\":2", "\"version\":1", 1);
        text.truncate(text.rfind(SEAL).expect("a seal"));
        text.push('}');
        seal(&mut text);
        assert_eq!(Manifest::read(text.as_bytes()), Ok(known));
    }

    #[test]
    fn no_bit_of_it_can_be_turned_over() {
        let text = manifest().write().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut other = text.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::read(&other).is_err(), "bit {bit}");
        }
    }
}
