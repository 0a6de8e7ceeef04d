//! Requests about runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Content, NewMessage};
use crate::ids::{Epoch, ModelId, PoolId, RunId, SessionId, WorkerId};
use crate::limits::Limits;
use crate::money::MicroUsd;
use crate::run::{CancelReceipt, ReasoningEffort, RunView};
use crate::session::Actor;
use crate::snapshot::SnapshotView;
use crate::time::Timestamp;
use crate::vocabulary::{Backend, ExecutionMode, JobState, Lane, MemoryPolicy, OnBusy, ParameterClass, RetryBackoff};

/// How long `wait` waits when the request does not say, in milliseconds.
pub const DEFAULT_WAIT_MS: u64 = 30_000;
/// The longest `wait_ms`.
pub const MAX_WAIT_MS: u64 = 600_000;

/// What a run is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// One USER message.
    Text(String),
    /// USER messages.
    Messages(Vec<NewMessage>),
}

/// Settings that are passed to the provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// The most tokens of the answer.
    pub max_output_tokens: Option<u64>,
    /// Sequences at which the model stops.
    pub stop: Option<Vec<String>>,
    /// A JSON schema that the answer must follow.
    pub response_schema: Option<serde_json::Value>,
    /// How long the model thinks.
    pub reasoning_effort: Option<ReasoningEffort>,
}

/// `runs.submit`, and the body of a message on the intake. Idempotent by `run_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRun {
    /// Default: a new one.
    pub run_id: Option<RunId>,
    /// Only `model_run`; any other value is `unknown_job_kind`.
    pub job_kind: Option<String>,
    /// None: a `ONE_SHOT` session is made from the session fields of this request.
    pub session_id: Option<SessionId>,
    /// What is asked; enters the thread when the run is first claimed.
    pub input: Option<Input>,
    /// Default: the session's. Required without a session.
    pub model_id: Option<ModelId>,
    /// Default: the session's.
    pub backend: Option<Backend>,
    /// Default `PRIMARY`.
    pub lane: Option<Lane>,
    /// 0 to 1,000; 0 is the most urgent. Default 50.
    pub priority: Option<u32>,
    /// A shared limit, at most 128 bytes.
    pub concurrency_group: Option<String>,
    /// Default: the session's `wp_id`, else its root session.
    pub fairness_key: Option<String>,
    /// Default `ENQUEUE`.
    pub on_busy: Option<OnBusy>,
    /// Default 3, at most 20.
    pub max_retries: Option<u32>,
    /// Default `EXPONENTIAL`.
    pub retry_backoff: Option<RetryBackoff>,
    /// Of one attempt. Default 120,000, at most a day.
    pub timeout_ms: Option<u64>,
    /// At most 128 bytes.
    pub cancellation_token: Option<String>,
    /// Not started before this time.
    pub not_before: Option<Timestamp>,
    /// Given up at this time, all attempts and waiting together.
    pub deadline: Option<Timestamp>,
    /// Given up when not dispatched within this time.
    pub queue_timeout_ms: Option<u64>,
    /// The most input and output tokens of all its provider calls together.
    pub max_tokens_budget: Option<u64>,
    /// The caller's estimate.
    pub estimated_cost_usd: Option<MicroUsd>,
    /// The caller's estimate.
    pub estimated_tokens: Option<u64>,
    /// Settings for the provider.
    #[serde(default)]
    pub generation: Generation,

    /// Session field.
    pub role: Option<String>,
    /// Session field.
    pub instructions: Option<Content>,
    /// Session field.
    pub wp_id: Option<String>,
    /// Session field.
    pub mt_id: Option<String>,
    /// Session field.
    pub work_profile_id: Option<String>,
    /// Session field.
    pub target_entity_ids: Option<Vec<String>>,
    /// Session field.
    pub parameter_class: Option<ParameterClass>,
    /// Session field.
    pub execution_mode: Option<ExecutionMode>,
    /// Session field. Default `SESSION_SCOPED`.
    pub memory_policy: Option<MemoryPolicy>,
    /// Session field.
    pub labels: Option<BTreeMap<String, String>>,
    /// Session field.
    pub budget_tokens: Option<u64>,
    /// Session field.
    pub budget_usd: Option<MicroUsd>,

    /// Answer when the run has ended. Not on the intake.
    #[serde(default)]
    pub wait: bool,
    /// Answer after this time at the latest. Default 30,000, at most 600,000.
    pub wait_ms: Option<u64>,
    /// Whether the answer holds the output. Default true.
    pub with_content: Option<bool>,
}

/// Reply of `runs.submit`, `runs.get`, `runs.wait` and `runs.decide`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReply {
    /// The run.
    pub run: RunView,
    /// Whether it has ended.
    pub done: bool,
    /// The text of the answer, when the run has ended and content was asked for.
    pub output: Option<String>,
    /// Whether the same request was answered before.
    pub repeated: bool,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `runs.get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetRun {
    /// The run.
    pub run_id: RunId,
}

/// `runs.wait`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRun {
    /// The run.
    pub run_id: RunId,
    /// Answer after this time at the latest. Default 30,000, at most 600,000.
    pub wait_ms: Option<u64>,
    /// Whether the answer holds the output. Default true.
    pub with_content: Option<bool>,
}

/// `runs.list`. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRuns {
    /// Only this session's.
    pub session_id: Option<SessionId>,
    /// Only this state.
    pub state: Option<JobState>,
    /// Rows of the page, at most 1,000. Default 100.
    pub limit: Option<u32>,
    /// The last run of the page before.
    pub cursor: Option<RunId>,
}

/// Reply of `runs.list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunPage {
    /// The rows.
    pub runs: Vec<RunView>,
    /// Where the next page begins; null at the end.
    pub cursor: Option<RunId>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `runs.cancel`: exactly one of `run_id`, `session_id` and `cancellation_token`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRuns {
    /// This run.
    pub run_id: Option<RunId>,
    /// The runs of this session, which goes on.
    pub session_id: Option<SessionId>,
    /// All runs with this token.
    pub cancellation_token: Option<String>,
    /// Of a session or a token only the runs that were submitted before, in journal time. A request with it that is sent
    /// again reaches nothing that came after its first sending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_before: Option<Timestamp>,
    /// Who asks.
    pub actor: Actor,
    /// Why, at most 128 bytes.
    #[serde(default)]
    pub reason: String,
    /// Answer when every run that is concerned has ended, or after `wait_ms`.
    #[serde(default)]
    pub wait: bool,
    /// With `wait`. Default 30,000, at most 600,000.
    pub wait_ms: Option<u64>,
}

impl CancelRuns {
    /// Asks for one run, without waiting.
    #[must_use]
    pub const fn of_run(run_id: RunId, actor: Actor, reason: String) -> Self {
        Self {
            run_id: Some(run_id),
            session_id: None,
            cancellation_token: None,
            submitted_before: None,
            actor,
            reason,
            wait: false,
            wait_ms: None,
        }
    }
}

/// Reply of `runs.cancel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelReply {
    /// Each run that was concerned, at most 1,000.
    pub runs: Vec<CancelledRun>,
    /// Whether all of them have ended.
    pub done: bool,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// A run in the reply of a cancel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CancelledRun {
    /// The run.
    pub run_id: RunId,
    /// Its state now: an executing run stays `running` until its worker has stopped.
    pub state: JobState,
    /// What became of the cancel; it came too late when the run had ended before.
    pub receipt: Option<CancelReceipt>,
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// Reply of `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// The leading instance.
    pub leader: String,
    /// Its epoch.
    pub epoch: Epoch,
    /// The last committed frame.
    pub journal_seq: u64,
    /// Journal time.
    pub time: Timestamp,
    /// The limits.
    pub limits: Limits,
    /// Runs that hold a slot, by the names of the limits.
    pub in_use: BTreeMap<String, u32>,
    /// Queued runs per lane.
    pub queued: BTreeMap<Lane, u64>,
    /// Sessions that have not ended.
    pub sessions: u64,
    /// Runs remembered after their end, as the answer to a repeated submit.
    pub ended_runs: u64,
    /// Runs that ended up to this time are forgotten: their repeated submits and reports are not known as such.
    #[serde(default)]
    pub forgotten_until: Option<Timestamp>,
    /// Sessions that the leader holds in memory, with those that have ended.
    #[serde(default)]
    pub sessions_in_memory: u64,
    /// The newest snapshot, once there is one.
    #[serde(default)]
    pub snapshot: Option<SnapshotView>,
    /// The workers that were heard.
    pub workers: Vec<WorkerView>,
}

/// A worker in the reply of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerView {
    /// The worker.
    pub worker_id: WorkerId,
    /// Its pool.
    pub pool: PoolId,
    /// The models that it serves.
    pub models: Vec<String>,
    /// Runs that it executes at a time.
    pub slots: u32,
    /// Runs that it executes now.
    pub executing: u32,
}
