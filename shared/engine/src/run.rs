//! A run that has not ended, and what is remembered of one that has.

use laneway_contract::{
    Epoch, Estimate, Fingerprint, JobState, MessageId, MessageRole, PoolId, Reservation, RetryBackoff, RunId,
    RunRecord, SessionId, StopCause, Timestamp, WorkerId,
};
use serde::{Deserialize, Serialize};

use crate::digest::Hashed;
use crate::queue::{ClassId, Place};
use crate::turns::KeyId;

/// Where a live run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// Its `not_before` has not come; holds up no other run of its session.
    Delayed {
        /// When it is queued.
        until: Timestamp,
    },
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
        stop: Option<Box<StopCause>>,
    },
    /// Waits before its next attempt; its session stays serialised.
    Backoff {
        /// When it is queued again.
        until: Timestamp,
    },
    /// Lost its worker after a tool was called; its session stays serialised until a person decides.
    Stalled,
    /// Waits for a person's approval; its session stays serialised until then.
    AwaitingUser,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The run as it is shown.
    pub record: Box<RunRecord>,
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
    /// Reports taken of attempts before, by their epochs: a repeat of one gets its first answer.
    pub past_reports: Vec<(Epoch, u32)>,
    /// Attempts that were handed back and do not count.
    pub uncounted: u32,
    /// Attempts whose worker was lost.
    pub lost: u32,
    /// Causes of waits for a rate that were recorded, a bit each.
    pub rates_recorded: u8,
    /// What the submit contained.
    pub fingerprint: Fingerprint,
    /// What its reservation is made of.
    pub estimate: Estimate,
    /// What its dispatch has reserved and nobody has settled.
    pub reserved: Taken,
    /// What its last attempt had reserved, when its worker was lost: charged, until a late report says better.
    pub unknown: Taken,
    /// Whether the attempt has called a tool: then it is not repeated by itself.
    pub called_tool: bool,
    /// A decision has queued it again: it goes first, and with `Some` its next claim goes on with the same attempt.
    pub decided: Option<Requeued>,
    /// Where it waits, among the runs that the same limits hold.
    #[serde(skip)]
    pub(crate) class: ClassId,
    /// Whose turn it counts for.
    #[serde(skip)]
    pub(crate) turn: KeyId,
    #[serde(skip)]
    pub(crate) hashed: Hashed,
}

/// What was taken of buckets and budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// How much.
    pub amounts: Reservation,
    /// How often the limits had been changed by then: what comes back goes into no bucket that was made later.
    pub(crate) rates: u64,
}

/// How a run was queued again by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requeued {
    /// With another attempt.
    Again,
    /// With the attempt that asked.
    GoOn,
}

impl Run {
    /// Takes in a message that its attempt has produced: the output, and the tool calls that nobody has answered.
    pub(crate) fn produced(&mut self, id: MessageId, role: MessageRole, tool_call_id: Option<&str>) {
        let status = &mut self.record.status;
        status.output_message_ids.push(id);
        let Some(call) = tool_call_id else { return };
        match role {
            MessageRole::ToolCall => {
                self.called_tool = true;
                status.pending_tool_call_ids.push(call.to_owned());
            }
            MessageRole::ToolResult => status.pending_tool_call_ids.retain(|pending| pending != call),
            MessageRole::System | MessageRole::User | MessageRole::Assistant => {}
        }
    }

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
            Phase::Delayed { .. } | Phase::Queued | Phase::Backoff { .. } => JobState::Queued,
            Phase::Dispatched { .. } => JobState::Dispatched,
            Phase::Running { .. } => JobState::Running,
            Phase::Stalled => JobState::Stalled,
            Phase::AwaitingUser => JobState::AwaitingUser,
        }
    }

    /// The time at which something has to happen by itself.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let own = match &self.phase {
            Phase::Dispatched { claim_by, .. } => Some(*claim_by),
            Phase::Running { stop_at, stop: None, .. } => Some(*stop_at),
            Phase::Running { stop: Some(_), .. } => return None,
            Phase::Backoff { until } | Phase::Delayed { until } => Some(*until),
            Phase::Queued | Phase::Stalled | Phase::AwaitingUser => None,
        };
        [own, self.record.fields.deadline, self.queue_timeout_at()].into_iter().flatten().min()
    }

    /// When it is given up unless it was dispatched before.
    #[must_use]
    pub fn queue_timeout_at(&self) -> Option<Timestamp> {
        let (fields, status) = (&self.record.fields, &self.record.status);
        if self.dispatch_no > 0 {
            return None;
        }
        let from = fields.not_before.map_or(status.submitted_at, |at| at.max(status.submitted_at));
        Some(from.plus_millis(fields.queue_timeout_ms? as i64))
    }

    /// Its place among the runs of its key.
    pub(crate) const fn place(&self) -> Place {
        (self.decided.is_none(), self.order)
    }

    /// Tokens that it may still use.
    #[must_use]
    pub fn tokens_left(&self) -> Option<u64> {
        let most = self.record.fields.max_tokens_budget?;
        Some(most.saturating_sub(self.record.status.usage.total()))
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

    /// Reports taken of an epoch, where it was one of this run's.
    #[must_use]
    pub fn reports_of(&self, epoch: Epoch) -> Option<u32> {
        if self.record.status.epoch == epoch {
            return Some(self.reports);
        }
        reports_of(&self.past_reports, epoch)
    }
}

/// What is remembered of an ended run: enough to answer repeats. The record itself is the store's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedRun {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// How it ended.
    pub state: JobState,
    /// Reports that were taken, by the epochs of its attempts.
    pub reports: Vec<(Epoch, u32)>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// What the submit contained.
    pub fingerprint: Fingerprint,
    /// Its number among all runs that have ended.
    pub number: u64,
}

impl EndedRun {
    /// Reports taken of an epoch, where it was one of this run's.
    #[must_use]
    pub fn reports_of(&self, epoch: Epoch) -> Option<u32> {
        reports_of(&self.reports, epoch)
    }
}

fn reports_of(reports: &[(Epoch, u32)], epoch: Epoch) -> Option<u32> {
    reports.iter().find(|(known, _)| *known == epoch).map(|(_, taken)| *taken)
}
