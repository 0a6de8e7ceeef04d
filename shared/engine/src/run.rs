//! A run that has not ended, and what is remembered of one that has.

use laneway_contract::{
    Epoch, Fingerprint, JobState, PoolId, RetryBackoff, RunId, RunRecord, SessionId, StopCause, Timestamp, WorkerId,
};
use serde::Serialize;

/// Where a live run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Phase {
    /// Waits in its session's queue.
    Queued,
    /// Holds its limits; a pool may claim it.
    Dispatched {
        /// The pool.
        pool: PoolId,
        /// When it goes back into the queue.
        claim_by: Timestamp,
    },
    /// A worker executes it.
    Running {
        /// The worker.
        worker_id: WorkerId,
        /// The worker's number of its claim.
        claim_id: u64,
        /// When the attempt's time is over.
        stop_at: Timestamp,
        /// Set once it is to stop.
        stop: Option<StopCause>,
    },
    /// Waits before its next attempt; its session stays serialised.
    Backoff {
        /// When it is queued again.
        until: Timestamp,
    },
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// The run as it is shown.
    pub record: RunRecord,
    /// Where it is.
    pub phase: Phase,
    /// Submit order.
    pub order: u64,
    /// Counts its dispatches.
    pub dispatch_no: u32,
    /// The thread's end that its window reaches; set by the first claim, which also brings the input.
    pub upto_seq: Option<u64>,
    /// Reports taken of the attempt with the highest epoch.
    pub reports: u32,
    /// Attempts that were handed back and do not count.
    pub uncounted: u32,
    /// Attempts whose worker was lost.
    pub lost: u32,
    /// Whether its wait for a rate was recorded.
    pub rate_recorded: bool,
    /// What the submit contained.
    pub fingerprint: Fingerprint,
}

impl Run {
    /// Attempts that count against `max_retries`.
    #[must_use]
    pub fn counted_attempts(&self) -> u32 {
        self.record.status.attempt.saturating_sub(self.uncounted)
    }

    /// Whether another attempt is allowed.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.counted_attempts() <= self.record.fields.max_retries
    }

    /// Whether it holds its limits.
    #[must_use]
    pub const fn holds_slot(&self) -> bool {
        matches!(self.phase, Phase::Dispatched { .. } | Phase::Running { .. })
    }

    /// The state that its phase shows as.
    #[must_use]
    pub const fn state(&self) -> JobState {
        match self.phase {
            Phase::Queued | Phase::Backoff { .. } => JobState::Queued,
            Phase::Dispatched { .. } => JobState::Dispatched,
            Phase::Running { .. } => JobState::Running,
        }
    }

    /// The time at which something has to happen by itself.
    #[must_use]
    pub const fn due(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Dispatched { claim_by, .. } => Some(*claim_by),
            Phase::Running { stop_at, stop: None, .. } => Some(*stop_at),
            Phase::Backoff { until } => Some(*until),
            Phase::Running { stop: Some(_), .. } | Phase::Queued => None,
        }
    }

    /// The wait before the next attempt in milliseconds: the policy's, spread by ± 20 % that run and attempt decide,
    /// and at least what the provider asked for.
    #[must_use]
    pub fn backoff_ms(&self, retry_after_ms: Option<u64>) -> u64 {
        let attempt = self.counted_attempts().max(1);
        let base = match self.record.fields.retry_backoff {
            RetryBackoff::Fixed => 5_000,
            RetryBackoff::Exponential => (1_000_u64 << (attempt - 1).min(6)).min(60_000),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.record.run_id.uuid().as_bytes());
        hasher.update(&attempt.to_le_bytes());
        let mut draw = [0; 8];
        hasher.finalize_xof().fill(&mut draw);
        let spread = u64::from_le_bytes(draw) % 401;
        let wait = base * (800 + spread) / 1_000;
        wait.max(retry_after_ms.unwrap_or(0))
    }
}

/// What is remembered of an ended run: enough to answer repeats. The record itself is the store's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// How it ended.
    pub state: JobState,
    /// Its last epoch.
    pub epoch: Epoch,
    /// Reports taken of that epoch.
    pub reports: u32,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What the submit contained.
    pub fingerprint: Fingerprint,
}
