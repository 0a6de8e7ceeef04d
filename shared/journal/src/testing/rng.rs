//! A small random number generator whose whole state is the seed (`SplitMix64`, Steele, Lea and Flood 2014).

/// Numbers by seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from `low` up to, not including, `high`.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }

    /// A number from -`magnitude` to `magnitude`.
    pub fn signed(&mut self, magnitude: i64) -> i64 {
        self.range(0, 2 * magnitude as u64 + 1) as i64 - magnitude
    }

    /// True with a chance of so many in a thousand.
    pub fn per_mille(&mut self, chance: u64) -> bool {
        self.range(0, 1_000) < chance
    }
}

/// Spreads every bit of the input over the output.
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
