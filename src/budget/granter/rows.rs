//! What the granter keeps, as rows of a store: keys, values, their bytes.
//! Owns: the layout. Called by: `books`, which makes changes; stores, which keep bytes. Never: interprets money.
//!
//! Keys are big-endian, so that a store that sorts bytes sorts rows as [`Key`] does: lines of a window together. A value
//! begins with the version of its layout.
use super::{End, HolderId, LineId};
use crate::{
    budget::{
        AccountId, LineKey, Period,
        window::{BucketKey, Buckets, Span},
    },
    limits,
    record::codec::{Block, Read, Reader, RecordError},
    units::Money,
};

pub use super::line::Line;

/// The layout of values.
const VERSION: u8 = 1;
/// Buckets of a window: day, hour and life of a campaign and of its advertiser.
const BUCKETS_MAX: usize = 6;
/// Bytes of a bucket's key.
const BUCKET_BYTES: usize = 4 + 1 + 4;

/// What a row is found by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Key {
    /// What a holder has of a window.
    Line(LineId),
    /// A window that has lines.
    Window(LineKey),
    /// What is committed of a limit.
    Bucket(BucketKey),
    /// A start of a machine.
    Holder(HolderId),
    /// What is noted of an account.
    Account(AccountId),
    /// What was spent in a window that is over; is written and looked up, not loaded.
    OldWindow(LineKey),
    /// What was spent of a day's or hour's limit that is over; likewise.
    OldBucket(BucketKey),
}

/// A window that has lines: what its grants are debited to, which only grows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct WindowRow {
    /// What its grants count in.
    pub buckets: Buckets,
}

/// A limit's account of itself: `committed` is the sum of what is out or spent of the lines that count in it, plus `folded`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct BucketRow {
    /// Granted and not returned.
    pub committed: Money,
    /// Spent in windows whose lines are gone.
    pub folded: Money,
    /// Of that, what no record proves to have been spent.
    pub forfeit: Money,
}

/// A start of a machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HolderRow {
    /// May it be granted anything?
    pub state: HolderState,
    /// The last ask of it that changed anything.
    pub req: u64,
    /// Number of the last frame of each core that its cut contains.
    pub frames: Vec<u64>,
}

/// Is a start of a machine alive, as far as the granter knows?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HolderState {
    /// The latest start of its machine.
    #[default]
    Live,
    /// A later one is known: what it held is in quarantine.
    Dead,
    /// Dead, and all it held was accounted for from its record, but for what is held for notices.
    Settled,
}

/// What is noted of an account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AccountRow {
    /// Windows up to this are in the archive and never begin again, whatever a clock says.
    pub archived: Period,
    /// Why it is stopped: [`super::Violation::code`]. Zero: it is not.
    pub stopped: u8,
}

/// What was spent in a window, or of a limit, that is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Archived {
    /// In all.
    pub spent: Money,
    /// Of that, what no record proves to have been spent: forfeited by holders that died.
    pub forfeit: Money,
}

/// A row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Row {
    /// What a holder has of a window.
    Line(LineId, Line),
    /// A window that has lines.
    Window(LineKey, WindowRow),
    /// What is committed of a limit.
    Bucket(BucketKey, BucketRow),
    /// A start of a machine.
    Holder(HolderId, HolderRow),
    /// What is noted of an account.
    Account(AccountId, AccountRow),
    /// A window that is over.
    OldWindow(LineKey, Archived),
    /// A limit's day or hour that is over.
    OldBucket(BucketKey, Archived),
}

/// A change of what is stored. All changes of one call are kept in one transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// This row is there from now on, in place of what had its key.
    Put(Row),
    /// No row has this key any more.
    Remove(Key),
    /// The archive's rows of periods before this one may go.
    Forget(Period),
}

impl Key {
    /// Length of [`Key::bytes`], at most.
    pub const BYTES_MAX: usize = 1 + 4 + 4 + 4 + 4;

    /// Is it of a row that is written and looked up, but not loaded?
    pub fn is_archive(&self) -> bool {
        matches!(self, Key::OldWindow(_) | Key::OldBucket(_))
    }

    /// When the window, the day or the hour began; zero of what has no beginning.
    pub fn began(&self) -> Period {
        match self {
            Key::Line(id) => id.key.period,
            Key::Window(key) | Key::OldWindow(key) => key.period,
            Key::Bucket(key) | Key::OldBucket(key) => key.start,
            Key::Holder(_) | Key::Account(_) => Period(0),
        }
    }

    /// For a store: the kind of row, then what tells rows of a kind apart.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Key::BYTES_MAX);
        let mut put = |kind: u8, words: &[u32]| {
            out.push(kind);
            words.iter().for_each(|w| out.extend_from_slice(&w.to_be_bytes()));
        };
        match *self {
            Key::Line(LineId { key, holder }) => {
                put(1, &[key.account.0, key.period.0, holder.node, holder.epoch]);
            }
            Key::Window(key) => put(2, &[key.account.0, key.period.0]),
            Key::Bucket(key) => put(3, &[key.account.0, span_code(key.span).into(), key.start.0]),
            Key::Holder(holder) => put(4, &[holder.node, holder.epoch]),
            Key::Account(account) => put(5, &[account.0]),
            Key::OldWindow(key) => put(6, &[key.account.0, key.period.0]),
            Key::OldBucket(key) => put(7, &[key.account.0, span_code(key.span).into(), key.start.0]),
        }
        out
    }

    /// # Errors
    /// The bytes are not [`Key::bytes`]'s.
    pub fn parse(bytes: &[u8]) -> Read<Key> {
        let mut r = Reader { rest: bytes };
        let kind = r.u8()?;
        let key = match kind {
            1 => {
                let key = line_key(&mut r)?;
                Key::Line(LineId { key, holder: HolderId { node: word(&mut r)?, epoch: word(&mut r)? } })
            }
            2 => Key::Window(line_key(&mut r)?),
            3 => Key::Bucket(bucket_key(&mut r)?),
            4 => Key::Holder(HolderId { node: word(&mut r)?, epoch: word(&mut r)? }),
            5 => Key::Account(AccountId(word(&mut r)?)),
            6 => Key::OldWindow(line_key(&mut r)?),
            7 => Key::OldBucket(bucket_key(&mut r)?),
            _ => return Err(RecordError::Value),
        };
        r.end()?;
        Ok(key)
    }
}

fn word(r: &mut Reader<'_>) -> Read<u32> {
    r.array().map(u32::from_be_bytes)
}

fn line_key(r: &mut Reader<'_>) -> Read<LineKey> {
    Ok(LineKey { account: AccountId(word(r)?), period: Period(word(r)?) })
}

fn bucket_key(r: &mut Reader<'_>) -> Read<BucketKey> {
    let account = AccountId(word(r)?);
    let span = u8::try_from(word(r)?).map_err(|_| RecordError::Value).and_then(span_of)?;
    Ok(BucketKey { account, span, start: Period(word(r)?) })
}

fn span_code(span: Span) -> u8 {
    match span {
        Span::Day => 1,
        Span::Hour => 2,
        Span::Life => 3,
    }
}

fn span_of(code: u8) -> Read<Span> {
    Ok(match code {
        1 => Span::Day,
        2 => Span::Hour,
        3 => Span::Life,
        _ => return Err(RecordError::Value),
    })
}

impl Row {
    /// What it is found by.
    pub fn key(&self) -> Key {
        match *self {
            Row::Line(id, _) => Key::Line(id),
            Row::Window(key, _) => Key::Window(key),
            Row::Bucket(key, _) => Key::Bucket(key),
            Row::Holder(id, _) => Key::Holder(id),
            Row::Account(id, _) => Key::Account(id),
            Row::OldWindow(key, _) => Key::OldWindow(key),
            Row::OldBucket(key, _) => Key::OldBucket(key),
        }
    }

    /// The value's bytes, for a store.
    pub fn value(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Row::Line(_, line) => {
                let end = match line.end {
                    End::Open => 0,
                    End::Closed => 1,
                    End::Proven => 2,
                    End::Forfeit => 3,
                };
                out.push(end);
                sums([line.granted, line.returned, line.held, line.charged, line.freed], &mut out);
            }
            Row::Window(_, window) => {
                out.push(window.buckets.len() as u8);
                for b in window.buckets.iter() {
                    let span = span_code(b.span);
                    Block::<BUCKET_BYTES>::new().u32(b.account.0).u8(span).u32(b.start.0).end(&mut out);
                }
            }
            Row::Bucket(_, bucket) => sums([bucket.committed, bucket.folded, bucket.forfeit], &mut out),
            Row::Holder(_, holder) => {
                let state = match holder.state {
                    HolderState::Live => 0,
                    HolderState::Dead => 1,
                    HolderState::Settled => 2,
                };
                let frames = &holder.frames[..holder.frames.len().min(limits::CORES_MAX)];
                Block::<11>::new().u8(state).u64(holder.req).u16(frames.len() as u16).end(&mut out);
                frames.iter().for_each(|f| out.extend_from_slice(&f.to_le_bytes()));
            }
            Row::Account(_, account) => {
                Block::<5>::new().u32(account.archived.0).u8(account.stopped).end(&mut out);
            }
            Row::OldWindow(_, old) | Row::OldBucket(_, old) => sums([old.spent, old.forfeit], &mut out),
        }
        out
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// The bytes are not those of a row, or of another release's.
    pub fn parse(key: &[u8], value: &[u8]) -> Read<Row> {
        let mut r = Reader { rest: value };
        if r.u8()? != VERSION {
            return Err(RecordError::Version);
        }
        let row = match Key::parse(key)? {
            Key::Line(id) => {
                let end = match r.u8()? {
                    0 => End::Open,
                    1 => End::Closed,
                    2 => End::Proven,
                    3 => End::Forfeit,
                    _ => return Err(RecordError::Value),
                };
                let (granted, returned, held) = (r.money()?, r.money()?, r.money()?);
                Row::Line(id, Line { granted, returned, held, charged: r.money()?, freed: r.money()?, end })
            }
            Key::Window(key) => {
                let mut row = WindowRow::default();
                for _ in 0..r.count8(BUCKETS_MAX)? {
                    let (account, span) = (AccountId(r.u32()?), span_of(r.u8()?)?);
                    row.buckets.push(BucketKey { account, span, start: Period(r.u32()?) });
                }
                Row::Window(key, row)
            }
            Key::Bucket(key) => {
                Row::Bucket(key, BucketRow { committed: r.money()?, folded: r.money()?, forfeit: r.money()? })
            }
            Key::Holder(id) => {
                let state = match r.u8()? {
                    0 => HolderState::Live,
                    1 => HolderState::Dead,
                    2 => HolderState::Settled,
                    _ => return Err(RecordError::Value),
                };
                let (req, cores) = (r.u64()?, r.count16(limits::CORES_MAX)?);
                let frames = (0..cores).map(|_| r.u64()).collect::<Read<_>>()?;
                Row::Holder(id, HolderRow { state, req, frames })
            }
            Key::Account(id) => Row::Account(id, AccountRow { archived: Period(r.u32()?), stopped: r.u8()? }),
            Key::OldWindow(key) => Row::OldWindow(key, Archived { spent: r.money()?, forfeit: r.money()? }),
            Key::OldBucket(key) => Row::OldBucket(key, Archived { spent: r.money()?, forfeit: r.money()? }),
        };
        r.end()?;
        Ok(row)
    }
}

/// Sums are not negative, which the reader demands.
fn sums<const N: usize>(sums: [Money; N], out: &mut Vec<u8>) {
    sums.iter().for_each(|sum| out.extend_from_slice(&sum.0.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> LineKey {
        LineKey { account: AccountId(0x0102_0304), period: Period(0x0506_0708) }
    }

    fn rows() -> Vec<Row> {
        let holder = HolderId { node: 9, epoch: 10 };
        let bucket = BucketKey { account: AccountId(7), span: Span::Hour, start: Period(60) };
        let mut buckets = Buckets::default();
        buckets.push(bucket);
        buckets.push(BucketKey { span: Span::Life, start: Period(0), ..bucket });
        let [granted, returned, held, charged, freed] = [10, 4, 5, 3, 1].map(Money);
        let line = Line { granted, returned, held, charged, freed, end: End::Proven };
        vec![
            Row::Line(LineId { key: key(), holder }, line),
            Row::Window(key(), WindowRow { buckets }),
            Row::Bucket(bucket, BucketRow { committed: Money(i64::MAX), folded: Money(2), forfeit: Money(1) }),
            Row::Holder(holder, HolderRow { state: HolderState::Dead, req: 12, frames: vec![13, 0] }),
            Row::Account(AccountId(7), AccountRow { archived: Period(14), stopped: 2 }),
            Row::OldWindow(key(), Archived { spent: Money(5), forfeit: Money(2) }),
            Row::OldBucket(bucket, Archived { spent: Money(5), forfeit: Money(2) }),
        ]
    }

    #[test]
    fn rows_are_read_back_and_nothing_else_is() {
        for row in rows() {
            let (key, value) = (row.key().bytes(), row.value());
            assert!(key.len() <= Key::BYTES_MAX);
            assert_eq!(Key::parse(&key), Ok(row.key()));
            assert_eq!(Row::parse(&key, &value), Ok(row.clone()));
            for cut in 0..value.len() {
                assert_eq!(Row::parse(&key, &value[..cut]), Err(RecordError::Short), "{row:?} {cut}");
            }
            assert_eq!(Row::parse(&key, &[&value[..], &[0]].concat()), Err(RecordError::Trailing));
            assert_eq!(Row::parse(&key, &[&[VERSION + 1], &value[1..]].concat()), Err(RecordError::Version));
            assert!((0..key.len()).all(|cut| Key::parse(&key[..cut]).is_err()));
        }
    }

    /// What is on a disk stays readable: these bytes may not change without a new version.
    #[test]
    fn bytes_of_the_first_version() {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let lines: Vec<String> =
            rows().iter().map(|r| format!("{} {}", hex(&r.key().bytes()), hex(&r.value()))).collect();
        assert_eq!(lines.join("\n"), include_str!("rows_v1.golden").trim_end());
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_bytes(a: [u32; 4], b: [u32; 4]) {
            let line = |[account, period, node, epoch]: [u32; 4]| Key::Line(LineId {
                key: LineKey { account: AccountId(account), period: Period(period) },
                holder: HolderId { node, epoch },
            });
            prop_assert_eq!(line(a).cmp(&line(b)), line(a).bytes().cmp(&line(b).bytes()));
        }

        #[test]
        fn nothing_that_is_read_panics(key: Vec<u8>, value: Vec<u8>) {
            let _ = Row::parse(&key, &value);
        }
    }
}
