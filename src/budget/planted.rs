//! Faults that a debug build commits when a test asks for one, so that it is known that tests find them.
//! Owns: nothing. Called by: the core's ledger. Never: anything in a release build.

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// What an answer that did not arrive had charged stays charged, though the record says that it was freed.
    DeliveryIgnored,
    /// A line is used after its end.
    ExpiredUsed,
    /// What is freed counts to whichever line is used now.
    PeriodMixed,
}

/// At most one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Planted(Option<Fault>);

impl Planted {
    /// This one; none in a release build.
    pub fn fault(fault: Fault) -> Planted {
        Planted(cfg!(debug_assertions).then_some(fault))
    }

    /// Is this one to be committed?
    #[inline]
    pub fn has(self, fault: Fault) -> bool {
        cfg!(debug_assertions) && self.0 == Some(fault)
    }
}
