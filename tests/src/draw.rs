//! Choices drawn from a seed, so that a failure can be played again.
//!
//! The variables do not begin with `LANEWAY_`: the services that a test starts would take them for settings, and refuse them.

use std::time::Duration;

/// A sequence of choices. The seed is that of `TEST_SEED`, or another each time.
#[derive(Debug)]
pub struct Draw {
    seed: u64,
    state: u64,
}

impl Draw {
    /// Begins a sequence, and prints its seed with the name of the test.
    #[must_use]
    pub fn begin(test: &str) -> Self {
        let seed = number("TEST_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
        println!("{test}: TEST_SEED={seed}");
        Self { seed, state: seed }
    }

    /// The seed, for the message of a failed assertion.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        // SplitMix64, Steele, Lea and Flood, 2014.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }

    /// A time of less than so many milliseconds.
    pub fn up_to_ms(&mut self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    /// Puts them into another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// How often a test is to do what it usually does so often: `TEST_TIMES` as often, as `just long` says.
#[must_use]
pub fn rounds(usual: usize) -> usize {
    usual * number("TEST_TIMES").map_or(1, |times| times as usize)
}

fn number(variable: &str) -> Option<u64> {
    #[allow(clippy::disallowed_methods, reason = "a setting of the test, as `just long` gives it")]
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}
