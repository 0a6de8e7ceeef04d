//! The clocks of a worker.

use std::time::{SystemTime, UNIX_EPOCH};

use laneway_contract::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started, on `CLOCK_BOOTTIME`: a suspended machine's leases run on.
pub(crate) fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    // Neither part is negative on this clock.
    now.tv_sec.unsigned_abs() * 1_000 + (now.tv_nsec / 1_000_000).unsigned_abs()
}

/// The wall clock. For spans only: nothing is decided by it.
#[allow(clippy::disallowed_methods, reason = "spans need the wall clock; the journal's clock is not a worker's")]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
