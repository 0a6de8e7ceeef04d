//! Runs as they are stored and shown.

use serde::{Deserialize, Serialize};

use crate::ids::{ArtifactId, Epoch, MessageId, ModelId, RunId, SessionId, WorkerId};
use crate::message::MessageDraft;
use crate::money::MicroUsd;
use crate::session::Actor;
use crate::time::Timestamp;
use crate::vocabulary::{Backend, ErrorClass, Finish, JobKind, JobState, Lane, OnBusy, RetryBackoff, WaitReason};

/// Settings that are passed to the provider. Texts are artifacts; only numbers and enums stay here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationSettings {
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<u64>,
    /// `low`, `medium` or `high`.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// A JSON array of stop sequences.
    pub stop: Option<ArtifactId>,
    /// A JSON schema that the answer must follow.
    pub response_schema: Option<ArtifactId>,
}

/// How long a model thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

/// Tokens of provider calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub input_tokens: u64,
    /// Tokens received, reasoning included.
    pub output_tokens: u64,
    /// Of the input: read from the provider's cache.
    pub cached_tokens: u64,
    /// Of the output: thinking.
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Input and output.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// The sum of two usages.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
        }
    }
}

/// Why an attempt or a run failed. The text is ours, never the provider's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// A stable code, as `rate_limited` or `provider_error`.
    pub code: String,
    /// What happened, in our words.
    pub message: String,
    /// The class, which decides about a retry.
    pub class: ErrorClass,
    /// Whether the same request may work later.
    pub retryable: bool,
    /// How long the provider asked to wait.
    pub retry_after_ms: Option<u64>,
}

/// What became of a cancel. Its times are journal times, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelReceipt {
    /// Who asked.
    pub by: Actor,
    /// Why, at most 128 bytes.
    pub reason: String,
    /// When it was accepted.
    pub requested_at: Timestamp,
    /// When the worker learned of it; none where no worker had the run, where it was lost, or where its answer was there
    /// already.
    pub worker_told_at: Option<Timestamp>,
    /// When the connection to the provider was closed; none where none was open any more, or where the worker was lost.
    pub provider_closed_at: Option<Timestamp>,
    /// When the run had ended.
    pub settled_at: Option<Timestamp>,
    /// Tokens of all the run's calls that are billed; none before the end, and where a lost worker cannot say.
    pub billed: Option<Usage>,
    /// Whether the final report came first.
    pub too_late: bool,
}

impl CancelReceipt {
    /// The receipt of a cancel that was accepted at `now`.
    #[must_use]
    pub const fn requested(by: Actor, reason: String, now: Timestamp) -> Self {
        Self {
            by,
            reason,
            requested_at: now,
            worker_told_at: None,
            provider_closed_at: None,
            settled_at: None,
            billed: None,
            too_late: false,
        }
    }
}

/// What a submit asked for, with every default filled in. Stays as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFields {
    /// The kind of job.
    pub job_kind: JobKind,
    /// The messages that enter the thread when the run is first claimed.
    pub input: Vec<MessageDraft>,
    /// The model.
    pub model_id: ModelId,
    /// Where the model runs.
    pub backend: Backend,
    /// The queue.
    pub lane: Lane,
    /// 0 is the most urgent.
    pub priority: u32,
    /// A shared limit of the caller's choosing.
    pub concurrency_group: Option<String>,
    /// Whose turn it counts for.
    pub fairness_key: String,
    /// What happens when the session already has a run.
    pub on_busy: OnBusy,
    /// Attempts are one more.
    pub max_retries: u32,
    /// How the wait before a retry grows.
    pub retry_backoff: RetryBackoff,
    /// Time of one attempt.
    pub timeout_ms: u64,
    /// Cancelling by this token cancels every run that carries it.
    pub cancellation_token: Option<String>,
    /// Not started before this time.
    pub not_before: Option<Timestamp>,
    /// Given up at this time, all attempts and waiting together.
    pub deadline: Option<Timestamp>,
    /// Given up when it was not dispatched within this time, counted from submit or `not_before`.
    pub queue_timeout_ms: Option<u64>,
    /// The most input and output tokens of all its provider calls together.
    pub max_tokens_budget: Option<u64>,
    /// The caller's estimate.
    pub estimated_cost_usd: Option<MicroUsd>,
    /// The caller's estimate.
    pub estimated_tokens: Option<u64>,
    /// Settings for the provider.
    pub generation: GenerationSettings,
    /// The caller's trace, as in the header `traceparent`.
    pub traceparent: Option<String>,
}

/// What the estimate of a run is made of, beside its window: worked out where the catalog of models is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// US dollars per million input tokens, where known.
    pub input_usd_per_million: Option<MicroUsd>,
    /// US dollars per million output tokens, where known.
    pub output_usd_per_million: Option<MicroUsd>,
}

impl Estimate {
    /// What a call with a window of this size is expected to cost; nothing where the price is not known.
    #[must_use]
    pub fn cost(&self, input_tokens: u64) -> MicroUsd {
        let part = |tokens: u64, price: Option<MicroUsd>| u128::from(tokens) * u128::from(price.unwrap_or_default().0);
        let sum =
            part(input_tokens, self.input_usd_per_million) + part(self.output_tokens, self.output_usd_per_million);
        MicroUsd(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

/// What a dispatch takes before it is known what the call uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Of the budgets.
    pub tokens: u64,
    /// Of the budgets.
    pub cost_usd: MicroUsd,
    /// Of the provider's bucket of tokens.
    pub provider_tokens: u64,
    /// Of the model's bucket of tokens.
    pub model_tokens: u64,
}

/// A run as it is stored when it ends and as `runs.get` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// What was asked for.
    pub fields: RunFields,
    /// What became of it.
    pub status: RunStatus,
}

/// What changes in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunStatus {
    /// The state.
    pub state: JobState,
    /// Why it waits, while it is queued; `none` otherwise.
    pub reason: WaitReason,
    /// The attempt that executes or executed last, from 1; 0 before the first.
    pub attempt: u32,
    /// The epoch of that attempt's lease; 0 before the first.
    pub epoch: Epoch,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// When it was last dispatched.
    pub dispatched_at: Option<Timestamp>,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When the first token of the last attempt came.
    pub first_token_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// From submit to the first dispatch.
    pub queue_wait_ms: Option<u64>,
    /// Tokens of all attempts.
    pub usage: Usage,
    /// Cost of all attempts, where the price is known.
    pub cost_usd: Option<MicroUsd>,
    /// How the answer ended.
    pub finish: Option<Finish>,
    /// The messages that the run produced.
    pub output_message_ids: Vec<MessageId>,
    /// The artifact of the last answer.
    pub output_artifact_id: Option<ArtifactId>,
    /// Why it failed, or why its last attempt did.
    pub error: Option<Box<RunError>>,
    /// What became of a cancel.
    pub cancel: Option<Box<CancelReceipt>>,
    /// The worker of the last attempt.
    pub worker_id: Option<WorkerId>,
    /// The run that this one tries again.
    pub retry_of: Option<RunId>,
    /// The tool calls that nobody has answered, while it is `stalled`.
    pub pending_tool_call_ids: Vec<String>,
    /// What it waits for, while it is `awaiting_user`.
    pub approval_id: Option<String>,
    /// Warnings that are not fatal.
    pub issues: Vec<String>,
}

/// A run as `runs.get` shows it: all of it in one map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// What was asked for.
    #[serde(flatten)]
    pub fields: RunFields,
    /// What became of it.
    #[serde(flatten)]
    pub status: RunStatus,
}

impl From<RunRecord> for RunView {
    fn from(record: RunRecord) -> Self {
        let RunRecord { run_id, session_id, fields, status } = record;
        Self { run_id, session_id, fields, status }
    }
}
