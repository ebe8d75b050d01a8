//! Whom to admit. Asked twice: when the head is there and nothing was spent on the request yet, and when it was
//! parsed. Runs on: each bidder core. Called by: `bidder/flight`. Never: blocks, allocates, reads a clock.
//! What stands here now is the room on the core; quotas, fraud and privacy are further reasons to say no.
use crate::openrtb::codes::Nbr;

/// How full a core is when it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Auctions in flight.
    pub auctions: usize,
    /// Auctions that may be.
    pub auctions_max: usize,
    /// The core is about to stop.
    pub draining: bool,
}

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Admit,
    /// A quick, honest no: answered as a no-bid on the open connection, since closing it makes the sender's queue worse.
    Refuse(Nbr),
}

/// Asked when the head is there. While a core drains, what is on its connections already is still served.
pub fn admit_head(room: &Room) -> Verdict {
    if room.auctions >= room.auctions_max { Verdict::Refuse(Nbr::Overload) } else { Verdict::Admit }
}

/// Asked when the request was read; `offerable` impressions are left of it. Room for the auction's record will be
/// reserved here.
pub fn admit_request(offerable: u64) -> Verdict {
    if offerable == 0 { Verdict::Refuse(Nbr::NothingToSell) } else { Verdict::Admit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_core_says_no() {
        let room = Room { auctions: 3, auctions_max: 4, draining: false };
        assert_eq!(admit_head(&room), Verdict::Admit);
        assert_eq!(admit_head(&Room { auctions: 4, ..room }), Verdict::Refuse(Nbr::Overload));
        assert_eq!(admit_request(0), Verdict::Refuse(Nbr::NothingToSell));
        assert_eq!(admit_request(2), Verdict::Admit);
    }
}
