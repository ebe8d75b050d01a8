//! How money above the bidder cores stands, for metrics.
//! Owns: figures as the ledger's and the leases' threads last said. Runs on: those threads write, control renders. Called by:
//! `cores/money`, the exposition. Never: has a figure of a single account.
use super::labels::Money;
use crate::budget::{granter, server::Invariant};

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MoneyFigures {
    values: [Option<i128>; Money::COUNT],
    granter: [u64; granter::Violation::CODES],
    server: [u64; Invariant::ALL.len()],
}

impl Default for MoneyFigures {
    fn default() -> MoneyFigures {
        let mut new = MoneyFigures {
            values: [Some(0); Money::COUNT],
            granter: [0; granter::Violation::CODES],
            server: [0; Invariant::ALL.len()],
        };
        new.set(Money::AutonomyLeast, None);
        new.set(Money::AutonomyMean, None);
        new
    }
}

impl MoneyFigures {
    /// A figure is this; `None`: there is nothing that it could be about.
    pub fn set(&mut self, figure: Money, value: impl Into<Option<i128>>) {
        self.values[figure as usize] = value.into();
    }

    /// A figure.
    pub fn get(&self, figure: Money) -> Option<i128> {
        self.values[figure as usize]
    }

    /// How often the ledger found each invariant not to hold, by code; what is not said is zero.
    pub fn set_granter_violations(&mut self, found: impl Iterator<Item = (u8, u64)>) {
        self.granter = [0; granter::Violation::CODES];
        for (code, n) in found {
            if let Some(count) = usize::from(code).checked_sub(1).and_then(|at| self.granter.get_mut(at)) {
                *count = n;
            }
        }
    }

    /// How often the leases found each invariant not to hold.
    pub fn set_server_violations(&mut self, found: [u64; Invariant::ALL.len()]) {
        self.server = found;
    }

    /// Every invariant: who looks after it, its name, how often it was found not to hold.
    pub fn violations(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let granter = (1..).zip(self.granter).map(|(code, n)| ("ledger", granter::Violation::name(code), n));
        let server = Invariant::ALL.into_iter().zip(self.server).map(|(of, n)| ("leases", of.name(), n));
        granter.chain(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_has_its_own_name_and_count() {
        let mut figures = MoneyFigures::default();
        figures.set_granter_violations([(10, 3), (0, 9), (200, 9)].into_iter());
        figures.set_server_violations([1, 0, 0, 0, 0, 0, 2]);
        let found: Vec<_> = figures.violations().filter(|v| v.2 > 0).collect();
        assert_eq!(
            found,
            [("ledger", "bucket-adds-up", 3), ("leases", "core_sums", 1), ("leases", "server_equation", 2)]
        );
        let names: std::collections::BTreeSet<_> = figures.violations().map(|v| v.1).collect();
        assert_eq!(names.len(), figures.violations().count());
        assert!(!names.contains("unknown"));
    }
}
