//! Repeatable numbers for a laboratory: the same seed gives the same requests and the same bids, anywhere.
//! Owns: 64 bits. Called by: everything in `lab` that varies. Never: used where an adversary could gain by guessing.

/// SplitMix64: one addition and three multiplications a draw, any seed is a good one.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream; different seeds give unrelated streams.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A stream for one thing (a request id) under a seed: what happens to a request then does not depend on the
    /// order in which requests arrive.
    pub fn keyed(seed: u64, key: &[u8]) -> Rng {
        // FNV-1a, then the finaliser of `draw`.
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        Rng(Rng(seed ^ hash).draw())
    }

    /// 64 even bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from `0..n`; 0 for `n` = 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(n)) >> 64) as u64
    }

    /// Evenly from `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// True `permille` times in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < u64::from(permille)
    }

    /// One of them; `None` of nothing.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// Exponentially distributed around `mean`: gaps of a Poisson process, tails of delays.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        // 53 bits in (0, 1]: never the logarithm of nothing.
        let unit = ((self.draw() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        -unit.ln() * mean
    }
}
