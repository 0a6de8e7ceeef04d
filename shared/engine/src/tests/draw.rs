//! Numbers by seed.

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, and the same everywhere.
#[derive(Clone)]
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.next(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        (!items.is_empty()).then(|| items[self.next(items.len() as u64) as usize])
    }

    /// Small as a rule and large at times: each size range of powers of two is as likely as the next.
    pub(super) fn heavy_tailed(&mut self, most: u64) -> u64 {
        let bits = self.next(u64::from(u64::BITS - most.leading_zeros()) + 1);
        self.next((1 << bits).min(most) + 1)
    }
}
