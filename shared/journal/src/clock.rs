//! The two clocks that the protocol takes as arguments, and the only place that reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use laneway_contract::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds on the machine's monotonic clock that also counts suspend (`CLOCK_BOOTTIME`). Leases are measured on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootMillis(u64);

impl BootMillis {
    /// A reading from milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// This reading `millis` milliseconds later.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this reading; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The milliseconds themselves.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }
}

/// What both clocks say at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The clock that only ever moves forward.
    pub boot: BootMillis,
    /// The wall clock, which an operator or a time server may set.
    pub wall: Timestamp,
}

impl Now {
    /// Reads both clocks of this machine.
    #[must_use]
    pub fn read() -> Self {
        Self { boot: boot_now(), wall: wall_now() }
    }
}

/// Reads the clock that counts suspend.
#[must_use]
pub fn boot_now() -> BootMillis {
    let time = clock_gettime(ClockId::Boottime);
    BootMillis(time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000)
}

/// Reads the wall clock. A time before 1970 reads as 1970.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this module owns the clocks")]
pub fn wall_now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(since_epoch.as_millis() as i64)
}
