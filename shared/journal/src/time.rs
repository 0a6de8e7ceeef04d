//! Journal time: begins at the wall clock or the last frame, whichever is later; goes on by the monotonic clock, slewed
//! gently towards the wall clock; never falls.

use laneway_contract::Timestamp;

use crate::clock::{BootMillis, Now};

/// Journal time this far behind the wall clock, in milliseconds, is too far for slewing: the leader starts again.
pub(crate) const STEP_BEHIND_MS: i64 = 10_000;

/// How fast journal time is slewed: one microsecond for each millisecond that passes.
const SLEW_MICROS_PER_MS: i64 = 1;

#[derive(Debug)]
pub(crate) struct JournalTime {
    micros: i64,
    read_at: BootMillis,
}

impl JournalTime {
    /// Time as a leader begins it.
    pub(crate) fn start(last: Timestamp, now: Now) -> Self {
        Self { micros: micros(last.max(now.wall)), read_at: now.boot }
    }

    /// Journal time at `now`.
    pub(crate) fn read(&mut self, now: Now) -> Timestamp {
        let elapsed_ms = now.boot.since(self.read_at) as i64;
        self.read_at = self.read_at.max(now.boot);
        self.micros += elapsed_ms * 1000;
        let slew = elapsed_ms * SLEW_MICROS_PER_MS;
        self.micros += (micros(now.wall) - self.micros).clamp(-slew, slew);
        self.shown()
    }

    /// Whether the wall clock has gone so far ahead that only a new start can follow it.
    pub(crate) fn needs_step(&mut self, now: Now) -> bool {
        now.wall.millis() - self.read(now).millis() > STEP_BEHIND_MS
    }

    fn shown(&self) -> Timestamp {
        Timestamp::from_millis(self.micros.div_euclid(1000))
    }
}

fn micros(time: Timestamp) -> i64 {
    time.millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests;
