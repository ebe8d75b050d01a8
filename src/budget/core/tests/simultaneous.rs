//! A thousand auctions at a time want the last of a budget, on eight cores.
use super::*;

const CORES: usize = 8;

/// What stands in for a server: it has what is left, and hands it out as cores ask, a bid's price at least.
struct Server {
    left: i64,
    granted: [i64; CORES],
    returned: [i64; CORES],
    spent: [i64; CORES],
}

impl Server {
    /// One round of messages.
    fn round(&mut self, cores: &mut [CoreLedger], now: u64) {
        for (c, core) in cores.iter_mut().enumerate() {
            let mut out = Vec::new();
            core.urgent(&mut out);
            core.tick(now, 1, &mut out);
            let mut asks = (0, 0);
            for report in out {
                match report {
                    CoreReport::Line(l) => {
                        self.left += l.returned.0 - self.returned[c];
                        (self.returned[c], self.spent[c]) = (l.returned.0, l.charged.0 - l.freed.0);
                        asks = (l.want.0 - self.granted[c], l.price.0);
                    }
                    CoreReport::Short { want, price, .. } => asks = (want.0 - self.granted[c], price.0),
                    CoreReport::Unknown { price, .. } => asks = (price.0, price.0),
                    CoreReport::End { .. } | CoreReport::Bye => {}
                }
            }
            // No more than a core's part of half of it, so that the last units can be spent everywhere.
            let part = asks.0.min((self.left / (2 * CORES as i64)).max(asks.1)).min(self.left);
            if asks.0 > 0 && part >= asks.1 {
                self.left -= part;
                self.granted[c] += part;
                core.grant(&grant(1, 0, self.granted[c], now + 25 * S));
            }
        }
    }
}

/// Auctions until two rounds of leases brought no win. What was spent, and what is left, with the cores too.
fn sell(left: i64, price: i64) -> (i64, i64) {
    let mut cores: Vec<_> = (0..CORES).map(|_| ledger(Capacity { auctions: 4_096, ..small(2) }, 1)).collect();
    let mut server = Server { left, granted: [0; CORES], returned: [0; CORES], spent: [0; CORES] };
    let (mut now, mut without, mut seq, mut won) = (S, 0, 0, 0);
    while without < 2 {
        let before = won;
        // In flight at once: all bids have come before the first auction is decided.
        (0..1_000).for_each(|auction| cores[auction % CORES].touch(&bid("s", "c1"), Money(price)));
        server.round(&mut cores, now);
        for auction in 0..1_000 {
            let core = &mut cores[auction % CORES];
            seq += 1;
            let Ok(ticket) = reserve(core, &bid("s", "c1"), Money(price)) else { continue };
            core.charge(ticket, Money(price), Money(price));
            won += price;
            assert!(won <= left, "more was sold than there was: {won} of {left}");
            core.won(seq, ticket, Money(price));
            // Some answers do not arrive.
            if seq % 17 == 0 {
                assert_eq!(core.not_delivered(seq).len(), 1);
                won -= price;
            }
        }
        // A second later, as wants are told again.
        now += S;
        cores.iter_mut().for_each(|c| c.turn(now));
        server.round(&mut cores, now);
        without = if won == before { without + 1 } else { 0 };
    }
    server.round(&mut cores, now);
    assert_eq!(server.spent.iter().sum::<i64>(), won, "the server knows of each win");
    let out: i64 = (0..CORES).map(|c| server.granted[c] - server.returned[c] - server.spent[c]).sum();
    assert_eq!(server.left + out + won, left, "to the nano-unit");
    (won, server.left + out)
}

#[test]
fn the_last_ten_units_are_spent_and_not_one_bid_more() {
    const ONE: i64 = 1_000_000_000;
    for price in [ONE / 50, ONE / 50 + 7, ONE / 3] {
        let (won, left) = sell(10 * ONE, price);
        println!("bids of {price}: {won} spent, {left} left");
        assert!(won <= 10 * ONE && left < CORES as i64 * price, "bids of {price}: {won} spent, {left} left");
    }
    assert_eq!(sell(10 * ONE, 20 * ONE), (0, 10 * ONE), "no bid of twenty wins");
}
