//! Requests of workers.

use serde::{Deserialize, Serialize};

use crate::ids::{Epoch, MessageId, ModelId, PoolId, RunId, SessionId, WorkerId};
use crate::money::MicroUsd;
use crate::run::{GenerationSettings, RunError, Usage};
use crate::time::Timestamp;
use crate::vocabulary::{Finish, JobState, MessageRole};

/// What a worker publishes on `laneway.workers.<id>` every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The worker.
    pub worker_id: WorkerId,
    /// Its pool: workers of one pool serve the same models.
    pub pool: PoolId,
    /// Models that it serves: `provider/model`, or `provider/*` for all of a provider.
    pub models: Vec<String>,
    /// Runs that it executes at a time; 0 when it is leaving.
    pub slots: u32,
}

/// A message on `laneway.dispatch.<pool>`: a hint, the claim decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchMessage {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// Counts the run's dispatches.
    pub dispatch_no: u32,
}

/// A message on `laneway.control.<run_id>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlMessage {
    /// The run.
    pub run_id: RunId,
    /// The epoch that is to stop.
    pub epoch: Epoch,
    /// Why.
    pub stop: Stop,
}

/// Why an attempt is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// Somebody cancelled the run.
    Cancel,
    /// Its time is over.
    Timeout,
}

/// `attempts.claim`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimAttempt {
    /// The run.
    pub run_id: RunId,
    /// The dispatch that the worker took.
    pub dispatch_no: u32,
    /// The worker.
    pub worker_id: WorkerId,
    /// The worker's own number of this claim; a repeat with the same number gets the same epoch.
    pub claim_id: u64,
}

/// Reply of `attempts.claim`: the lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimReply {
    /// The run.
    pub run_id: RunId,
    /// Its session.
    pub session_id: SessionId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The fencing number of the lease.
    pub epoch: Epoch,
    /// The model.
    pub model_id: ModelId,
    /// Settings for the provider.
    pub generation: GenerationSettings,
    /// Time that is left for the attempt.
    pub timeout_ms: u64,
    /// When the run was accepted.
    pub submitted_at: Timestamp,
    /// When it was dispatched.
    pub dispatched_at: Timestamp,
    /// The caller's `traceparent`, where one was sent.
    pub traceparent: Option<String>,
    /// Tokens of input and output that the run may still use.
    pub tokens_left: Option<u64>,
    /// The approval that was given, when the attempt goes on after one.
    pub approved: Option<String>,
    /// `min_seq` of the window.
    pub journal_seq: u64,
}

/// `attempts.renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewAttempt {
    /// The run.
    pub run_id: RunId,
    /// The lease.
    pub epoch: Epoch,
    /// Output tokens so far, as the worker counts them.
    pub output_tokens: u64,
}

/// Reply of `attempts.renew`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewReply {
    /// Set when the attempt is to stop.
    pub stop: Option<Stop>,
}

/// `attempts.report`: what the model produced and, in the final one, the outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportAttempt {
    /// The run.
    pub run_id: RunId,
    /// The lease.
    pub epoch: Epoch,
    /// Place of this report in the attempt: dense, from 0.
    pub report_no: u32,
    /// Messages that the model produced, in order.
    pub messages: Vec<ProducedMessage>,
    /// In the final report.
    pub outcome: Option<Outcome>,
}

/// A message that a model produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProducedMessage {
    /// The message.
    pub message_id: MessageId,
    /// ASSISTANT, `TOOL_CALL` or `TOOL_RESULT`.
    pub role: MessageRole,
    /// Its text.
    pub content: String,
    /// Tokens, where the provider says.
    pub token_count: Option<u64>,
    /// The tool call that this asks for or answers.
    pub tool_call_id: Option<String>,
    /// How it ended.
    pub finish: Option<Finish>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// What happened.
    pub result: AttemptResult,
    /// Tokens of the attempt.
    pub usage: Usage,
    /// Cost of the attempt, where the price is known.
    pub cost_usd: Option<MicroUsd>,
    /// Milliseconds from the claim's answer to the first token, where one came.
    pub first_token_after_ms: Option<u64>,
    /// Milliseconds from the claim's answer to when the worker learned that it was to stop, where it did.
    #[serde(default)]
    pub told_after_ms: Option<u64>,
    /// Milliseconds from the claim's answer to when the provider's connection was closed, where one was open until then.
    #[serde(default)]
    pub closed_after_ms: Option<u64>,
    /// Warnings that are not fatal.
    pub issues: Vec<String>,
}

/// What happened to an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    /// The model came to an end.
    Completed {
        /// How.
        finish: Finish,
    },
    /// It did not.
    Failed {
        /// Why.
        error: RunError,
    },
    /// The worker stopped because it was told to.
    Stopped {
        /// Why.
        stop: Stop,
    },
    /// The model asks for what a person has to approve.
    AwaitingApproval {
        /// What is to be approved; the caller's decision names it.
        approval_id: String,
    },
    /// The worker is leaving and has not called the provider: the attempt does not count.
    HandedBack,
}

/// Reply of `attempts.report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReply {
    /// The state of the run after the report.
    pub state: JobState,
    /// Whether the same report was answered before.
    pub repeated: bool,
}
