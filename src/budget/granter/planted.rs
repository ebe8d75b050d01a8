//! Mistakes that a debug build can be told to make, so that it is known that models and simulations find them.
//! A release build has none of this: `Planted::has` is a constant there.
//! Owns: which one. Called by: tests and simulations, to plant; `granter`, to ask. Never: set by an environment or a file.

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// `expired means unspent`: when a lease has expired its money is granted to others.
    ExpiredUnspent,
    /// `no fence`: an older start of a machine is answered like the latest.
    NoFence,
    /// `grant used before durable`: the reply leaves before its changes are on disk. Made by the driver, not here.
    GrantBeforeDurable,
    /// `retry granted twice`: an ask that comes again raises what was granted again.
    RetryGrantedTwice,
    /// `period mixed up`: money for the window ahead is counted in the one that runs.
    PeriodMixedUp,
    /// `advertiser not debited`: a grant counts for the campaign alone.
    AdvertiserNotDebited,
    /// `quarantine released early`: what a dead start held is free as soon as the next start asks.
    QuarantineReleasedEarly,
    /// `hold forgotten`: what a dead start's record shows as reserved goes back with the rest.
    HoldForgotten,
}

/// The mistake that is made, if any.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Planted(#[cfg(debug_assertions)] Option<Fault>);

impl Planted {
    #[cfg(debug_assertions)]
    pub(super) fn plant(&mut self, fault: Fault) {
        self.0 = Some(fault);
    }

    #[inline(always)]
    pub(super) fn has(self, fault: Fault) -> bool {
        #[cfg(debug_assertions)]
        return self.0 == Some(fault);
        #[cfg(not(debug_assertions))]
        {
            let _ = fault;
            false
        }
    }
}
