//! What must hold of a server's books, by name.
//! Owns: nothing. Called by: the server, metrics, alarms. Never: repairs: an account whose books are wrong is stopped.
use crate::{
    budget::{
        AccountId, Period,
        messages::{CoreLine, LineKey},
    },
    units::Money,
};

/// Something that must hold and did not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Invariant {
    /// A sum fell that can only rise, or is below zero: what a core charged, freed or gave back.
    CoreSums,
    /// A core knows of more money than it was given.
    CoreGranted,
    /// `granted = charged - freed + free + returned` leaves a core less than nothing.
    CoreEquation,
    /// A core's last of a line does not come out, or nothing was to end.
    CoreLast,
    /// A core speaks twice of one line in one statement, or of a line that it was never given.
    CoreStatement,
    /// The granter says it granted less than it had, or an amount that is none.
    GranterGranted,
    /// `granted = sum over cores(granted - returned) + free + returned` does not come out.
    ServerEquation,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 7] = [
        Invariant::CoreSums,
        Invariant::CoreGranted,
        Invariant::CoreEquation,
        Invariant::CoreLast,
        Invariant::CoreStatement,
        Invariant::GranterGranted,
        Invariant::ServerEquation,
    ];

    /// Its name in metrics and alarms.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::CoreSums => "core_sums",
            Invariant::CoreGranted => "core_granted",
            Invariant::CoreEquation => "core_equation",
            Invariant::CoreLast => "core_last",
            Invariant::CoreStatement => "core_statement",
            Invariant::GranterGranted => "granter_granted",
            Invariant::ServerEquation => "server_equation",
        }
    }
}

/// Books that are wrong: bidding on the account has been stopped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Violation {
    /// What does not hold.
    pub invariant: Invariant,
    /// Where.
    pub line: LineKey,
    /// Which core said so; `None`: the server's own books, or the granter.
    pub core: Option<usize>,
}

/// A core's line as the server has it, to compare with.
pub(super) struct Before {
    pub granted: i64,
    pub returned: i64,
    pub charged: i64,
    pub freed: i64,
    pub stopped: bool,
}

/// Does what a core says of a line agree with what was heard of it and given to it?
pub(super) fn compare(had: &Before, said: &CoreLine) -> Result<(), Invariant> {
    let CoreLine { granted, charged, freed, returned, .. } = *said;
    if charged.0 < had.charged || freed.0 < had.freed || returned.0 < had.returned || freed > charged {
        return Err(Invariant::CoreSums);
    }
    if granted.0 > had.granted {
        return Err(Invariant::CoreGranted);
    }
    // Freed is at most charged, so neither sum overflows but by a lie.
    let out = (charged.0 - freed.0).checked_add(returned.0).ok_or(Invariant::CoreEquation)?;
    if out > granted.0 {
        return Err(Invariant::CoreEquation);
    }
    if said.last && (out != had.granted || granted.0 != had.granted || !had.stopped) {
        return Err(Invariant::CoreLast);
    }
    Ok(())
}

/// The line of no account: a stop of it stops all.
pub(super) const EVERY_ACCOUNT: LineKey = LineKey { account: AccountId::NONE, period: Period(0) };

/// An amount that can be one.
pub(super) fn amount(money: Money) -> Option<i64> {
    (0..=i64::MAX / 4).contains(&money.0).then_some(money.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Granted, charged, freed, returned, last: the verdict. The core was given 10, said to have charged 4, freed 1 and
    /// returned 2 before, and was told to stop or not.
    #[test]
    fn what_a_core_says_is_compared() {
        let verdict = |[granted, charged, freed, returned]: [i64; 4], last, stopped| {
            let [granted, charged, freed, returned] = [granted, charged, freed, returned].map(Money);
            let said = CoreLine { granted, charged, freed, returned, last, ..CoreLine::default() };
            compare(&Before { granted: 10, returned: 2, charged: 4, freed: 1, stopped }, &said)
        };
        let table = [
            ([10, 4, 1, 2], Ok(())),
            ([10, 9, 1, 2], Ok(())),
            // It has not heard of the last grant.
            ([5, 4, 1, 2], Ok(())),
            ([10, 3, 1, 2], Err(Invariant::CoreSums)),
            ([10, 4, 0, 2], Err(Invariant::CoreSums)),
            ([10, 4, 1, 1], Err(Invariant::CoreSums)),
            ([10, 4, 5, 2], Err(Invariant::CoreSums)),
            // It added a grant where it had to replace it.
            ([15, 4, 1, 2], Err(Invariant::CoreGranted)),
            ([10, 10, 1, 2], Err(Invariant::CoreEquation)),
            ([4, 4, 1, 2], Err(Invariant::CoreEquation)),
            ([10, i64::MAX, 1, i64::MAX], Err(Invariant::CoreEquation)),
        ];
        for (sums, expected) in table {
            assert_eq!(verdict(sums, false, false), expected, "{sums:?}");
        }
        assert_eq!(verdict([10, 4, 1, 7], true, true), Ok(()));
        assert_eq!(verdict([10, 4, 1, 7], true, false), Err(Invariant::CoreLast), "nobody said stop");
        assert_eq!(verdict([10, 4, 1, 6], true, true), Err(Invariant::CoreLast), "one is missing");
        assert_eq!(verdict([9, 4, 1, 6], true, true), Err(Invariant::CoreLast), "a grant has not been heard");
    }
}
