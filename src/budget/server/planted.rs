//! Mistakes that a debug build can be told to make, so that it is known that models and simulations find them.
//! A release build has none of this: `Planted::has` is a constant there.
//! Owns: which one. Called by: tests and simulations, to plant; the server, to ask. Never: set by an environment or a file.

/// What is done wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// `expired means unspent`: what cores hold of a lease that has run out is given to others, or home.
    ExpiredUnspent,
    /// `no fence`: that this start is dead is not heard.
    NoFence,
    /// `grant used before durable`: what is asked for is used before it is granted.
    UsedBeforeGranted,
    /// `retry granted twice`: what a reply grants is added to what there is, and a reply that comes again is heard again.
    RepliedTwice,
    /// `period mixed up`: what is granted for the window ahead is used in the one that runs.
    PeriodMixedUp,
    /// `delivery ignored`: what was freed, since the answer did not arrive, is not looked at: a core that gave everything
    /// back is taken to have said its last.
    DeliveryIgnored,
    /// `hold forgotten`: a line is closed while a notice may still let something of it come home.
    HoldForgotten,
    /// `lapse reused`: what lapses is given out again from here, and stands in no grant.
    LapseReused,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 8] = [
        Fault::ExpiredUnspent,
        Fault::NoFence,
        Fault::UsedBeforeGranted,
        Fault::RepliedTwice,
        Fault::PeriodMixedUp,
        Fault::DeliveryIgnored,
        Fault::HoldForgotten,
        Fault::LapseReused,
    ];
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
