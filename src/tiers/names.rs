//! Where things are in an object store: the names of all objects, made and read back.
//! Owns: nothing. Called by: [`super::manifest`], `cores/tiers`. Never: gives two things one name; lets a DSP's text name a
//! folder of its own choice.
use super::{house, money, table::Column, wins};
use crate::record::when::utc;
use std::fmt::Write;

/// A day's milliseconds.
pub const DAY_MS: u64 = 86_400_000;

/// Rows of one kind, each with files of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// What was won: [`super::wins`].
    Wins,
    /// What was heard of it: [`super::money`].
    Notices,
    /// What went home, and leases that ended: [`super::money`].
    Settlements,
    /// What was answered where nobody won: [`super::house`].
    House,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 4] = [Table::Wins, Table::Notices, Table::Settlements, Table::House];

    /// The folder.
    pub fn name(self) -> &'static str {
        match self {
            Table::Wins => "wins",
            Table::Notices => "notices",
            Table::Settlements => "settlements",
            Table::House => "house",
        }
    }

    /// What its rows have.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Table::Wins => wins::COLUMNS,
            Table::Notices => money::NOTICES,
            Table::Settlements => money::SETTLEMENTS,
            Table::House => house::COLUMNS,
        }
    }

    /// The table of a folder.
    pub fn of(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|t| t.name() == name)
    }
}

/// Longest name of a folder, encoded: object names end at 1,024 bytes, names of files in a directory at 255.
const FOLDER_MAX: usize = 200;

/// A text as part of an object's name: letters, digits, `-`, `_`, `.` and `~` as they are, all else as `%XX` (RFC 3986, as
/// readers of Hive partitions decode it). What would be too long ends in a hash of all of it.
pub fn encoded(text: &[u8]) -> String {
    let mut out = String::new();
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            // `.` and `..` are folders of a file system.
            b'.' if at == 0 => out.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    if out.len() > FOLDER_MAX {
        let hash = crate::journal::index::hash(text);
        let mut end = FOLDER_MAX - 17;
        // Not in the middle of a `%XX`, nor of a character: readers refuse what does not decode to UTF-8.
        let inside = |end: usize| {
            let (before, behind) = out.as_bytes().split_at(end);
            before.ends_with(b"%")
                || before[..end - 1].ends_with(b"%")
                || matches!(behind, [b'%', b'8' | b'9' | b'A' | b'B', ..])
        };
        while inside(end) {
            end -= 1;
        }
        out.truncate(end);
        let _ = write!(out, "~{hash:016x}");
    }
    out
}

/// The advertiser of a bid as a partition has him: the first of its `adomain`, whatever the case of its letters; of a bid
/// without one `DSP/seat`.
pub fn advertiser(adomain: &[u8], dsp: &[u8], seat: &[u8]) -> Vec<u8> {
    let text = if adomain.is_empty() { [dsp, b"/", seat].concat() } else { adomain.to_ascii_lowercase() };
    // As its rows have it, so that no two of them share a name and not a manifest's line.
    String::from_utf8(text).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()).into_bytes()
}

/// The day of a moment, `2026-01-31`.
pub fn day(ms: u64) -> String {
    let text = utc(ms);
    text.get(..10).filter(|_| text.len() == 24).unwrap_or("9999-12-31").to_string()
}

/// The folder of an advertiser's day.
pub fn partition(table: Table, date: &str, advertiser: &[u8]) -> String {
    format!("{}/date={date}/advertiser={}", table.name(), encoded(advertiser))
}

/// A file in it: of the batch that begins with this segment. A batch that is exported once more gives its files the
/// same names.
pub fn part(partition: &str, node: u32, first: u64) -> String {
    format!("{partition}/part-{node:08x}-{first:010}.parquet")
}

/// Node and first segment of the batch that a file of rows is of.
pub fn parse_part(name: &str) -> Option<(u32, u64)> {
    let (node, first) = name.rsplit('/').next()?.strip_prefix("part-")?.strip_suffix(".parquet")?.split_once('-')?;
    Some((u32::from_str_radix(node, 16).ok()?, first.parse().ok()?))
}

/// An archived segment.
pub fn archived(node: u32, segment: u64) -> String {
    format!("cold/{node:08x}/journal-{node:08x}-{segment:010}.log.zst")
}

/// Which archived segments of the batch that begins with this one can hold an id.
pub fn ids(node: u32, first: u64) -> String {
    format!("cold/{node:08x}/ids-{node:08x}-{first:010}.bin")
}

/// What a batch that is being exported consists of, written before its first file.
pub fn begun(node: u32, first: u64) -> String {
    format!("begun/{node:08x}-{first:010}.json")
}

/// Node and first segment of [`begun`].
pub fn parse_begun(name: &str) -> Option<(u32, u64)> {
    let (node, first) = name.strip_prefix("begun/")?.strip_suffix(".json")?.split_once('-')?;
    Some((u32::from_str_radix(node, 16).ok()?, first.parse().ok()?))
}

/// The accounts as they were known at the end of a batch.
pub fn accounts(node: u32, first: u64) -> String {
    format!("accounts/{node:08x}-{first:010}.json")
}

/// A batch, as its manifest's name says it: so most are passed over without being read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Batch {
    /// Whose journal.
    pub node: u32,
    /// Its first segment.
    pub first: u64,
    /// Its last.
    pub last: u64,
    /// When its first frame was made, milliseconds since 1970.
    pub from_ms: u64,
    /// When its last.
    pub to_ms: u64,
}

/// Where manifests are.
pub const MANIFESTS: &str = "manifests";

impl Batch {
    /// Its manifest. By the day of its last frame first: whoever asks for what was since a day lists from there on.
    pub fn manifest(&self) -> String {
        let Batch { node, first, last, from_ms, to_ms } = self;
        format!("{MANIFESTS}/{}/{node:08x}-{first:010}-{last:010}-{from_ms}-{to_ms}.json", day(*to_ms))
    }

    /// Says that its warm files were let go.
    pub fn cooled(&self) -> String {
        self.manifest().replace(".json", ".cooled")
    }

    /// Reads [`Batch::manifest`] back, and whether it is that or [`Batch::cooled`].
    pub fn parse(name: &str) -> Option<(Batch, bool)> {
        let (stem, cooled) = match name.strip_suffix(".json") {
            Some(stem) => (stem, false),
            None => (name.strip_suffix(".cooled")?, true),
        };
        let mut parts = stem.rsplit('/').next()?.split('-');
        let node = u32::from_str_radix(parts.next()?, 16).ok()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let batch = Batch { node, first: number()?, last: number()?, from_ms: number()?, to_ms: number()? };
        // One spelling each.
        let whole = if cooled { batch.cooled() } else { batch.manifest() };
        (whole == name && batch.first <= batch.last && batch.from_ms <= batch.to_ms).then_some((batch, cooled))
    }

    /// From where on to list manifests so that none of a batch with frames since a moment is left out.
    pub fn since(ms: u64) -> String {
        format!("{MANIFESTS}/{}", day(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_names_another_folder() {
        for (text, expected) in [
            (&b"shop.example"[..], "shop.example"),
            (b"a/b", "a%2Fb"),
            (b"..", "%2E."),
            (b"100% & more", "100%25%20%26%20more"),
            ("\u{e4}".as_bytes(), "%C3%A4"),
            (b"", ""),
        ] {
            assert_eq!(encoded(text), expected);
        }
        let (long, other) = (encoded(&[b'/'; 128]), encoded(&[[b'/'; 127].as_slice(), b"?"].concat()));
        assert!(long.len() <= FOLDER_MAX && long != other && long.starts_with("%2F%2F"), "{long}");
        assert!(long.split('%').skip(1).all(|x| x.starts_with("2F")), "{long}");
        for (pad, wide) in (0..6).flat_map(|pad| ["\u{e9}", "\u{20ac}", "\u{1f45f}"].map(|wide| (pad, wide))) {
            let long = encoded(["a".repeat(pad), wide.repeat(64)].concat().as_bytes());
            let kept = long.rsplit_once('~').expect("it is cut").0.trim_start_matches('a');
            let whole = encoded(wide.as_bytes());
            assert!(long.len() <= FOLDER_MAX && kept.len().is_multiple_of(whole.len()), "{long}");
        }
    }

    #[test]
    fn an_advertiser_is_his_domain_or_his_seat() {
        assert_eq!(advertiser(b"Shop.Example", b"d", b"s"), b"shop.example");
        assert_eq!(advertiser(b"", b"d", b"s"), b"d/s");
        assert_eq!(advertiser(b"a\xff", b"d", b"s"), "a\u{fffd}".as_bytes());
    }

    #[test]
    fn names_of_manifests_are_read_back() {
        let batch = Batch { node: 0xab, first: 3, last: 12, from_ms: 1_769_860_800_000, to_ms: 1_769_990_400_123 };
        let name = batch.manifest();
        assert_eq!(name, "manifests/2026-02-02/000000ab-0000000003-0000000012-1769860800000-1769990400123.json");
        assert_eq!(Batch::parse(&name), Some((batch.clone(), false)));
        assert_eq!(Batch::parse(&batch.cooled()), Some((batch.clone(), true)));
        assert!(Batch::since(batch.to_ms) < name && Batch::since(batch.to_ms + DAY_MS) > name);
        for other in ["", "manifests/x.json", &name.replace("02-02", "02-03"), &name.replace("3-", "99-")] {
            assert_eq!(Batch::parse(other), None, "{other}");
        }
        let part = part(&partition(Table::Wins, "2026-01-31", b"a.example"), 0xab, 3);
        assert_eq!(part, "wins/date=2026-01-31/advertiser=a.example/part-000000ab-0000000003.parquet");
        assert_eq!((parse_begun(&begun(0xab, 3)), parse_begun("begun/x.json")), (Some((0xab, 3)), None));
        assert_eq!((parse_part(&part), parse_part("wins/x.parquet")), (Some((0xab, 3)), None));
    }
}
