//! What happened to leases that a bill or a dispute may ask for: a dead start was settled, lines ended, an account was stopped.
//! Owns: the payload of frames of kind 6. Runs on: the ledger's and the leases' threads, readers of journals. Called by:
//! `cores/money`. Never: a word for each grant or renewal, which change nothing that was spent.
//! Full: what ends at once goes out in frames of [`ENDED_MAX`] lines.
use super::{
    AccountId, LineKey, Period,
    granter::{End, HolderId, Line, settle::Settled},
    movement::{self, Movement},
};
use crate::{
    record::codec::{Block, Read, Reader, RecordError, TEXT_MAX, flags, put_text},
    units::Money,
};

/// The frame's kind.
pub const KIND: u8 = 6;
/// The frame's version.
pub const VERSION: u8 = 1;
/// Lines of one frame.
pub const ENDED_MAX: usize = 64;

const HEAD_BYTES: usize = 8 + 1;
const SETTLED_BYTES: usize = 4 + 4 + 1 + 4 + 4 * 8;
const ENDED_BYTES: usize = 4 + 4 + 1;
const LINE_BYTES: usize = 4 + 4 + 1 + 4 * 8;
const STOPPED_BYTES: usize = 4 + 1;
/// Longest payload.
pub(crate) const BYTES_MAX: usize = HEAD_BYTES + ENDED_BYTES + ENDED_MAX * LINE_BYTES;

const _: () =
    assert!(HEAD_BYTES + SETTLED_BYTES <= BYTES_MAX && HEAD_BYTES + STOPPED_BYTES + 1 + TEXT_MAX <= BYTES_MAX);

/// How a line ended. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum How {
    /// Its holder gave back what it had not spent. It may go on, and end again with larger sums.
    Closed = 1,
    /// Its holder is dead, and its record proves what it spent.
    Proven = 2,
    /// Its holder is dead, and nothing proves what it spent: all that was out counts as spent.
    Forfeit = 3,
}

impl How {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            How::Closed => "closed",
            How::Proven => "proven",
            How::Forfeit => "forfeit",
        }
    }
}

/// A line that ended. What was granted and not returned was spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Of which campaign and window.
    pub line: LineKey,
    /// How.
    pub how: How,
    /// In all.
    pub granted: Money,
    /// Of that.
    pub returned: Money,
    /// As the holder or its record said.
    pub charged: Money,
    /// Likewise, for answers that did not arrive.
    pub freed: Money,
}

impl Ended {
    /// `None`: it is open.
    pub fn of(line: LineKey, sums: &Line) -> Option<Ended> {
        let how = match sums.end {
            End::Open => return None,
            End::Closed => How::Closed,
            End::Proven => How::Proven,
            End::Forfeit => How::Forfeit,
        };
        let Line { granted, returned, charged, freed, .. } = *sums;
        Some(Ended { line, how, granted, returned, charged, freed })
    }
}

/// Who found that something does not add up. Numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Level {
    /// The ledger.
    Granter = 1,
    /// The leases of a machine, of itself or of a core.
    Server = 2,
}

impl Level {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Level::Granter => "granter",
            Level::Server => "server",
        }
    }
}

/// What.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The open lines of a start that is over were closed from its record.
    Settled {
        /// Whose.
        holder: HolderId,
        /// The record lacked nothing.
        complete: bool,
        /// What became of the money.
        settled: Settled,
    },
    /// Lines of one start ended, 1 to [`ENDED_MAX`].
    Ended {
        /// Whose.
        holder: HolderId,
        /// Which.
        lines: Vec<Ended>,
    },
    /// Something did not add up: nothing more is bought for the account.
    Stopped {
        /// Which; `NONE`: it is about no single one.
        account: AccountId,
        /// Who found it.
        level: Level,
        /// The invariant's name.
        invariant: String,
    },
}

/// Something that happened to leases.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When, milliseconds since 1970.
    pub wall_ms: u64,
    /// What.
    pub what: What,
}

impl Event {
    /// Of all these lines, which may be of several holders.
    pub fn ended(wall_ms: u64, mut lines: Vec<(HolderId, Ended)>) -> impl Iterator<Item = Event> {
        lines.sort_by_key(|(holder, ended)| (*holder, ended.line));
        let mut rest = lines.into_iter().peekable();
        std::iter::from_fn(move || {
            let (holder, first) = rest.next()?;
            let mut lines = vec![first];
            while lines.len() < ENDED_MAX
                && let Some((_, next)) = rest.next_if(|(other, _)| *other == holder)
            {
                lines.push(next);
            }
            Some(Event { wall_ms, what: What::Ended { holder, lines } })
        })
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut head = Block::<HEAD_BYTES>::new();
        head.u64(self.wall_ms);
        let money = |m: Money| m.0.max(0) as u64;
        match &self.what {
            What::Settled { holder, complete, settled } => {
                head.u8(1).end(out);
                Block::<SETTLED_BYTES>::new()
                    .u32(holder.node)
                    .u32(holder.epoch)
                    .u8(flags([*complete]))
                    .u32(settled.lines)
                    .u64(money(settled.returned))
                    .u64(money(settled.spent))
                    .u64(money(settled.held))
                    .u64(money(settled.forfeit))
                    .end(out);
            }
            What::Ended { holder, lines } => {
                head.u8(2).end(out);
                let lines = &lines[..lines.len().min(ENDED_MAX)];
                Block::<ENDED_BYTES>::new().u32(holder.node).u32(holder.epoch).u8(lines.len() as u8).end(out);
                for ended in lines {
                    Block::<LINE_BYTES>::new()
                        .u32(ended.line.account.0)
                        .u32(ended.line.period.0)
                        .u8(ended.how as u8)
                        .u64(money(ended.granted))
                        .u64(money(ended.returned))
                        .u64(money(ended.charged))
                        .u64(money(ended.freed))
                        .end(out);
                }
            }
            What::Stopped { account, level, invariant } => {
                head.u8(3).end(out);
                Block::<STOPPED_BYTES>::new().u32(account.0).u8(*level as u8).end(out);
                put_text(invariant, out);
            }
        }
    }

    /// Reads [`Event::encode`] back.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn decode(version: u8, bytes: &[u8]) -> Result<Event, RecordError> {
        if version != VERSION {
            return Err(RecordError::Version);
        }
        let mut r = Reader { rest: bytes };
        let wall_ms = r.u64()?;
        let what = match r.u8()? {
            1 => {
                let (holder, [complete]) = (HolderId { node: r.u32()?, epoch: r.u32()? }, r.flags()?);
                let lines = r.u32()?;
                let (returned, spent, held, forfeit) = (r.money()?, r.money()?, r.money()?, r.money()?);
                What::Settled { holder, complete, settled: Settled { lines, returned, spent, held, forfeit } }
            }
            2 => {
                let holder = HolderId { node: r.u32()?, epoch: r.u32()? };
                let n = r.count8(ENDED_MAX)?;
                What::Ended { holder, lines: (0..n).map(|_| line(&mut r)).collect::<Read<_>>()? }
            }
            3 => {
                let account = AccountId(r.u32()?);
                let level = match r.u8()? {
                    1 => Level::Granter,
                    2 => Level::Server,
                    _ => return Err(RecordError::Value),
                };
                What::Stopped { account, level, invariant: r.text()?.to_owned() }
            }
            _ => return Err(RecordError::Value),
        };
        r.end()?;
        Ok(Event { wall_ms, what })
    }
}

fn line(r: &mut Reader<'_>) -> Read<Ended> {
    let line = LineKey { account: AccountId(r.u32()?), period: Period(r.u32()?) };
    let how = match r.u8()? {
        1 => How::Closed,
        2 => How::Proven,
        3 => How::Forfeit,
        _ => return Err(RecordError::Value),
    };
    Ok(Ended { line, how, granted: r.money()?, returned: r.money()?, charged: r.money()?, freed: r.money()? })
}

/// A bundle of notes on its way to the record, at most [`crate::limits::NOTES_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes(pub Vec<Note>);

/// What the record is to say of money besides what auctions say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    /// An account was changed.
    Movement(Box<Movement>),
    /// Something happened to leases.
    Event(Event),
}

impl Note {
    /// The kind and the version of its frame.
    pub fn kind(&self) -> (u8, u8) {
        match self {
            Note::Movement(_) => (movement::KIND, movement::VERSION),
            Note::Event(_) => (KIND, VERSION),
        }
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Note::Movement(movement) => movement.encode(out),
            Note::Event(event) => event.encode(out),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
pub(crate) mod tests;
