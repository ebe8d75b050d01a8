//! What each simulated DSP makes of a request: said by the request's id and the DSP's number alone, so that the load
//! generator, which never sees the DSPs, knows which answers must carry a bid.
//! Owns: nothing. Called by: `floor-dsp`, `floor-load`. Never: depends on what came before.

/// Different creatives that bids are made of.
pub const CREATIVES: usize = 64;
/// Of a hundred requests so many are worth a bid to no DSP, as in life, where many are.
const UNWANTED_PERCENT: u64 = 4;
/// Of a hundred others so many are not worth it to a given DSP.
const DECLINED_PERCENT: u64 = 15;

/// What one DSP answers to one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// 204.
    NoContent,
    /// 200 and an empty `seatbid`, the other way to say no.
    NoSeat,
    /// A bid on the first impression, and perhaps on others.
    Bid(Bid),
}

/// What the bids of one answer say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bid {
    /// For the first impression, in hundredths of a cent: 7.0000 to 11.9999, above every floor of `floor-requests`.
    pub price: u64,
    /// Below [`CREATIVES`].
    pub creative: usize,
    /// Names the deal that the impression offers, if it does.
    pub deal: bool,
    /// One bit for each impression that is bid on; the first is.
    imps: u64,
}

impl Bid {
    /// Is impression `i` bid on?
    pub fn takes(&self, i: usize) -> bool {
        self.imps >> i.min(63) & 1 == 1
    }
}

/// The finaliser of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What DSP number `dsp` answers to the request with this id.
pub fn fate(id: &[u8], dsp: usize) -> Fate {
    // FNV-1a.
    let key = id.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (request, own) = (mix(key), mix(key ^ (dsp as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    if request % 100 < UNWANTED_PERCENT || own % 100 < DECLINED_PERCENT {
        return if own >> 62 == 0 { Fate::NoSeat } else { Fate::NoContent };
    }
    let more = mix(own);
    Fate::Bid(Bid {
        price: 70_000 + (own >> 8) % 50_000,
        creative: (own >> 32) as usize % CREATIVES,
        deal: own >> 63 == 0,
        imps: more | 1,
    })
}

/// Does any of the first `dsps` DSPs bid?
pub fn any_bids(id: &[u8], dsps: usize) -> bool {
    (0..dsps).any(|dsp| matches!(fate(id, dsp), Fate::Bid(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fates_are_spread_as_they_are_meant_to_be() {
        let ids: Vec<String> = (0..20_000).map(|i| format!("{i:016x}00000000")).collect();
        let count = |f: &dyn Fn(&[u8]) -> bool| ids.iter().filter(|id| f(id.as_bytes())).count();
        let wanted = count(&|id| any_bids(id, 5));
        assert!((19_000..19_400).contains(&wanted), "{wanted} of 20,000: 96 %");
        for dsp in 0..5 {
            let bids = count(&|id| any_bids(id, dsp + 1) && matches!(fate(id, dsp), Fate::Bid(_)));
            assert!((16_000..16_640).contains(&bids), "DSP {dsp}: {bids} of 20,000: 85 % of 96 %");
            let empty = count(&|id| fate(id, dsp) == Fate::NoSeat);
            assert!((700..1_150).contains(&empty), "DSP {dsp}: {empty}: a quarter of the rest");
        }
        let bid = |id: &[u8]| if let Fate::Bid(b) = fate(id, 0) { Some(b) } else { None };
        assert_eq!(count(&|id| bid(id).is_some_and(|b| !b.takes(0) || !(70_000..120_000).contains(&b.price))), 0);
        let second = count(&|id| bid(id).is_some_and(|b| b.takes(1)));
        assert!((7_500..8_900).contains(&second), "{second}: every other bidder takes a second impression");
    }
}
