//! What granter, server and cores say to each other about money.
//! Owns: nothing. Runs on: bidder cores, the leases' and the ledger's threads. Called by: the three roles.
//! Never: says by how much something changed: every sum counts from the beginning of its line, so a message that is lost,
//! repeated or late does no harm.
//!
//! A *line* is what one holder has of one window of one account. Its equation, at each level:
//! `granted = charged - freed + reserved + held + free + returned`. A core's line is part of its server's, whose line is part
//! of what the granter has committed.
//!
//! | message | from | to | lost or late |
//! |---|---|---|---|
//! | [`CoreReport`] | core | server | cannot be: a ring of one process; a full one is tried again at the next tick |
//! | [`CoreGrant`]  | server | core | cannot be, likewise |
//! | [`Ask`]        | server | granter | sent again unchanged until it is answered |
//! | [`Reply`]      | granter | server | the ask is sent again, and answered with the same sums |
use super::{AccountId, Period};
use crate::units::Money;

/// A window of an account.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LineKey {
    /// Whose money.
    pub account: AccountId,
    /// Which window.
    pub period: Period,
}

/// What a core says of one line; all sums since the line began on this core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CoreLine {
    /// Which.
    pub line: LineKey,
    /// What the core knows it has been granted: the last it took out of its ring, which the server compares.
    pub granted: Money,
    /// Charged to winners.
    pub charged: Money,
    /// Of that, given back because the answer did not arrive.
    pub freed: Money,
    /// Given back to the server: no longer the core's.
    pub returned: Money,
    /// How much the core would like to have been granted in all. At or below what it has been: nothing.
    pub want: Money,
    /// What a bid on this account cost lately, the largest that could not be paid before others: less is of no use. Zero: none.
    pub price: Money,
    /// Told to stop, the core has given everything back, awaits no delivery that could free anything, and forgets the line:
    /// `granted = charged - freed + returned`. Said once for each stop; a grant after that begins a line anew, from zero.
    pub last: bool,
}

/// From a core to its server: each tick some lines, then the end that makes them one statement. In between, what cannot wait:
/// wants without sums, as sums are true of one frame's number only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoreReport {
    /// A line that changed since the tick before, or for which money is wanted.
    Line(CoreLine),
    /// A bid came for an account whose window the core does not know; it wants this much for one bid.
    Unknown {
        /// Whose.
        account: AccountId,
        /// The bid's price.
        price: Money,
    },
    /// A bid came that the line cannot pay. Says nothing of what was spent.
    Short {
        /// Which line.
        line: LineKey,
        /// As [`CoreLine::want`].
        want: Money,
        /// As [`CoreLine::price`].
        price: Money,
    },
    /// All lines that changed have been said: they contain exactly the frames of this core's black box up to this one.
    End {
        /// Number of the last published frame.
        frame_seq: u64,
    },
    /// The core ends in order, and that was its last statement: what it has not spent it never will. One that is lost says
    /// nothing, and what it held is the record's to prove.
    Bye,
}

/// From a server to a core: what the core has been granted of a line since it began, and how long it may use it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CoreGrant {
    /// Which.
    pub line: LineKey,
    /// In all.
    pub granted: Money,
    /// Not before, nanoseconds since boot.
    pub from_ns: u64,
    /// Not at or after, nanoseconds since boot. Only rises, but for `stop`.
    pub until_ns: u64,
    /// Beyond what it spends soon, the core is to give money back at its next tick: others need it.
    pub recall: bool,
    /// The account is paused, closed or over: nothing more is spent from now on, all is to be given back. Nothing follows
    /// for the line until the core has said its last of it. With the line of no account: this server may spend nothing any
    /// more, of whatever account.
    pub stop: bool,
}

/// A server to its granter.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Ask {
    /// The machine.
    pub node: u32,
    /// Its start of the process: the fencing token. A granter that knows a later one refuses.
    pub epoch: u32,
    /// Counts the asks of this epoch, from 1. An ask is sent again with its number; a newer one follows its answer.
    pub req: u64,
    /// What is wanted, given back, closed.
    pub lines: Vec<AskLine>,
    /// Accounts that are wanted though no window of them is known: the granter names the window that runs and the next.
    pub first: Vec<FirstTouch>,
    /// What was spent, for a start after this process has died.
    pub cut: Option<Cut>,
}

/// What a server says of one line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct AskLine {
    /// Which.
    pub line: LineKey,
    /// What the server knows to have been granted since the line began. As it asks only after the answer before, the granter
    /// knows of neither more nor less; if it does, one of the two has lost its books, and the account is stopped.
    pub granted: Money,
    /// Given back since the line began.
    pub returned: Money,
    /// Part of what is out that no lease pays for any more: reservations whose notice may still come. Nothing but the
    /// server's word, or its record, ends them. Not cumulative; zero where every auction is settled at once.
    pub held: Money,
    /// What it would like to have been granted since the line began; at or below what was: only to go on using it.
    pub want: Money,
    /// Less than this more is of no use to it. Zero: any.
    pub price: Money,
    /// Nothing of it is out any more: charged minus freed, for good. `granted = spent + returned` holds, nothing is held. The
    /// line rests; it is the same line if more is wanted of it before its window is over, and all its sums go on, as the
    /// record's do: the server keeps them until then.
    pub closed: Option<Money>,
}

/// An account of whose running window a server has no line in this epoch, nor ever had.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FirstTouch {
    /// Whose.
    pub account: AccountId,
    /// How much it would like.
    pub want: Money,
    /// Less than this is of no use to it.
    pub price: Money,
}

/// What had been spent when exactly these frames had been written.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cut {
    /// Number of the last frame of each core, by core. All frames of this epoch up to these are contained.
    pub frames: Vec<u64>,
    /// Lines whose sums changed since the cut before that was answered: charged, freed.
    pub spent: Vec<(LineKey, Money, Money)>,
}

/// The granter's answer to an ask of the same number.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reply {
    /// Whom it is for.
    pub node: u32,
    /// Its start.
    pub epoch: u32,
    /// The ask it answers.
    pub req: u64,
    /// A later start of this machine is known, or this epoch is settled: the asker is dead and may spend nothing any more.
    pub fenced: bool,
    /// For each line and account of the ask what it has now, and lines of the window that comes next.
    pub lines: Vec<Granted>,
}

/// A line as the granter has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Granted {
    /// Which.
    pub line: LineKey,
    /// In all since the line began.
    pub granted: Money,
    /// May be used for so long after the ask was sent for the first time, milliseconds; cut at the end of the window. Zero: not any more.
    pub usable_ms: u64,
    /// May be used only so long after the reply was received, milliseconds: its window has not begun.
    pub wait_ms: u64,
    /// The account is paused, or its window over: to be given back and closed.
    pub stop: bool,
    /// What this holder could hope for beyond that, about: what is left to be granted, divided by the holders. A hint for
    /// how much may lie idle; nothing may be spent of it.
    pub left: Money,
}

// A ring's slot is a cache line.
const _: () = assert!(size_of::<CoreReport>() <= 64 && size_of::<CoreGrant>() <= 64);
