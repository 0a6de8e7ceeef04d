//! The clocks of one machine, as they go against true time.

use laneway_contract::Timestamp;

use crate::clock::{BootMillis, Now};

use super::Rng;

/// The wall clock at the beginning of every simulation, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_700_000_000_000;

/// The clocks of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    boot_at_zero: u64,
    boot_rate_ppm: i64,
    /// How far the wall clock is ahead of true time, in milliseconds.
    pub wall_offset_ms: i64,
}

impl Clocks {
    /// Clocks that differ a little from those of other machines.
    pub fn new(rng: &mut Rng) -> Self {
        Self {
            boot_at_zero: rng.range(10_000, 1_000_000),
            boot_rate_ppm: rng.signed(100),
            wall_offset_ms: rng.signed(500),
        }
    }

    /// What they say at `time`, in true milliseconds since the beginning.
    #[must_use]
    pub fn read(&self, time: u64) -> Now {
        let passed = time as i64 + time as i64 * self.boot_rate_ppm / 1_000_000;
        Now {
            boot: BootMillis::from_millis(self.boot_at_zero + passed as u64),
            wall: Timestamp::from_millis(EPOCH_MS + time as i64 + self.wall_offset_ms),
        }
    }

    /// True time at which the clock that counts suspend has reached `boot`. `time` is now.
    #[must_use]
    pub fn true_time_of(&self, boot: BootMillis, time: u64) -> u64 {
        let ahead = boot.since(self.read(time).boot);
        time + ahead + ahead / 1_000
    }
}
