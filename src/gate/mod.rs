//! Whom to admit. Asked twice: when the head is there and nothing was spent on the request yet, and when it was
//! parsed. Runs on: each bidder core. Called by: `bidder/flight`. Never: blocks, allocates, reads a clock.
//! What stands here now is the room on the core; quotas, fraud and privacy are further reasons to say no.
use crate::openrtb::{codes::Nbr, request::Request};

/// How full a core is when it is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    /// Auctions in flight.
    pub auctions: usize,
    /// Auctions that may be.
    pub auctions_max: usize,
    /// The journal's disk has no room for their records.
    pub disk_full: bool,
}

/// The answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Go on.
    Admit,
    /// A quick, honest no: answered as a no-bid on the open connection, since closing it makes the sender's queue worse.
    Refuse(Nbr),
}

/// Asked when the head is there. A core that drains admits too: what is on its connections already is still served.
pub fn admit_head(room: &Room) -> Verdict {
    if room.disk_full || room.auctions >= room.auctions_max { Verdict::Refuse(Nbr::Overload) } else { Verdict::Admit }
}

/// Asked when the request was read: is anything of it for sale here?
pub fn admit_request(request: &Request) -> Verdict {
    let for_sale = request.imps.iter().any(|imp| imp.refused.is_none());
    if for_sale { Verdict::Admit } else { Verdict::Refuse(Nbr::NothingToSell) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openrtb::request::{Imp, ImpRefusal};

    #[test]
    fn a_full_core_says_no() {
        let room = Room { auctions: 3, auctions_max: 4, disk_full: false };
        assert_eq!(admit_head(&room), Verdict::Admit);
        assert_eq!(admit_head(&Room { auctions: 4, ..room }), Verdict::Refuse(Nbr::Overload));
        assert_eq!(admit_head(&Room { disk_full: true, ..room }), Verdict::Refuse(Nbr::Overload));
    }

    #[test]
    fn a_request_of_refused_impressions_has_nothing_to_sell() {
        let sold = Imp::default();
        let pod = Imp { refused: Some(ImpRefusal::DynamicPod), ..sold };
        let request = |imps: &[Imp]| {
            let mut request = Request::default();
            request.imps.extend_from_slice(imps);
            request
        };
        assert_eq!(admit_request(&request(&[pod, sold])), Verdict::Admit);
        assert_eq!(admit_request(&request(&[pod, pod])), Verdict::Refuse(Nbr::NothingToSell));
    }
}
