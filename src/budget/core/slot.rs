//! What a core keeps of one account: its money's two windows, what was seen of its bids, its name. In one piece, because a bid
//! that wins looks at all of it.
//! Owns: nothing. Runs on: each bidder core. Called by: the core's ledger and its directory. Never: decides.
use super::{line::Line, moment::Moment};
use crate::{budget::AccountId, units::Money};

/// What was longer ago counts as this, before it is so long ago that it seems to come.
pub(super) const LONG_AGO: u32 = Moment::units(86_400_000_000_000);

/// One account. Three cache lines: two windows, and the rest.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Slot {
    /// The window that runs, and the one before or after it.
    pub(super) lines: [Line; 2],
    pub(super) head: Head,
    pub(super) named: Named,
}

const _: () = assert!(size_of::<Slot>() == 192);

impl Slot {
    /// Nobody's.
    pub(super) fn empty() -> Slot {
        Slot { lines: Default::default(), head: Head::new(Moment::now(0)), named: Named::default() }
    }
}

/// Who is at a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Named {
    /// Of the DSP and the seat. Texts of the same seat have one key only if their DSPs have one: hashing a text is a bijection
    /// of what it begins with.
    pub(super) seat_key: u64,
    pub(super) account: AccountId,
    /// Where the texts are, and how long.
    pub(super) text: u32,
    pub(super) seat_len: u8,
    pub(super) cid_len: u8,
    pub(super) dsp: u8,
    /// Found by its name. If not, its money is on its way home, or only its number is used.
    pub(super) listed: bool,
}

/// What a core keeps of an account besides its lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// A recent bid: rises at once, falls slowly.
    pub(super) price: Money,
    /// Nano-units a second.
    pub(super) rate: u64,
    pub(super) charged_at: Moment,
    pub(super) seen_at: Moment,
    pub(super) asked_at: Moment,
    /// When the lines of the same windows ended that were forgotten before these began: grants up to then were theirs.
    pub(super) before: [Moment; 2],
    /// On the list of what the next tick tells.
    pub(super) dirty: bool,
    /// On the list of what cannot wait.
    pub(super) urgent: bool,
    /// An equation was broken.
    pub(super) broken: bool,
    /// It was asked for money at `asked_at`, and none has come.
    pub(super) asked: bool,
}

impl Head {
    /// Of an account of which nothing was ever seen.
    pub(super) fn new(now: Moment) -> Head {
        let long_ago = now.before(LONG_AGO);
        Head {
            price: Money(0),
            rate: 0,
            charged_at: long_ago,
            seen_at: long_ago,
            asked_at: long_ago,
            before: [now; 2],
            dirty: false,
            urgent: false,
            broken: false,
            asked: false,
        }
    }

    /// A bid of this price came: is it larger than those of late? They rise at once and fall slowly.
    #[inline]
    pub(super) fn saw(&mut self, price: Money) -> bool {
        let larger = price > self.price;
        self.price = if larger { price } else { Money(self.price.0 - (self.price.0 - price.0.max(0)) / 8) };
        larger
    }
}
