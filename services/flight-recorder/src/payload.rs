//! The payload of each public event. Written in the order of the catalogue and never through a map, so that the bytes do
//! not depend on how a map orders its keys.

use std::borrow::Cow;

use laneway_contract::{
    Actor, ArtifactId, Backend, BudgetType, Decision, Epoch, ErrorClass, Finish, FlightKind, JobKind, Lane,
    MemoryPolicy, MessageId, MessageRole, MicroUsd, ModelId, RateCause, RunId, ServiceName, SessionId, SessionState,
    Usage, WorkerId,
};
use serde::{Serialize, Serializer};

/// A payload. The names of the fields are the keys.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Payload<'a> {
    SessionCreated {
        session_id: SessionId,
        model_id: &'a ModelId,
        backend: Backend,
        role: &'a str,
        wp_id: Option<&'a str>,
        mt_id: Option<&'a str>,
        memory_policy: MemoryPolicy,
        spawn_depth: u32,
    },
    SessionStateChange {
        session_id: SessionId,
        from_state: SessionState,
        to_state: SessionState,
        reason: &'a str,
    },
    SessionCompleted {
        session_id: SessionId,
        total_tokens: u64,
        total_cost_usd: MicroUsd,
        duration_ms: u64,
        messages_count: u64,
    },
    SessionMessage {
        session_id: SessionId,
        message_id: MessageId,
        role: MessageRole,
        content_hash: ArtifactId,
        token_count: Option<u64>,
    },
    SessionBudgetWarning {
        session_id: SessionId,
        budget_type: BudgetType,
        current_value: Used,
        threshold_value: Used,
    },
    SchedulerEnqueue {
        session_id: SessionId,
        job_id: RunId,
        job_kind: JobKind,
        lane: Lane,
        priority: u32,
        concurrency_group: Option<&'a str>,
    },
    SchedulerDispatch {
        session_id: SessionId,
        job_id: RunId,
        lane: Lane,
        provider: &'a str,
        queue_wait_ms: u64,
    },
    SchedulerRateLimited {
        session_id: SessionId,
        job_id: RunId,
        provider: &'a str,
        backoff_ms: u64,
        attempt: u32,
        cause: RateCause,
        bucket: Option<&'a str>,
        bucket_level: Option<i64>,
    },
    SchedulerCancelled {
        session_id: SessionId,
        job_id: RunId,
        reason: Option<&'a str>,
        cancelled_by: Option<&'a Actor>,
    },
    RunStarted {
        session_id: SessionId,
        job_id: RunId,
        attempt: u32,
        epoch: Epoch,
        worker_id: &'a WorkerId,
        model_id: &'a ModelId,
    },
    RunCompleted {
        session_id: SessionId,
        job_id: RunId,
        attempt: u32,
        usage: Usage,
        cost_usd: Option<MicroUsd>,
        finish: Option<Finish>,
        duration_ms: u64,
        issues: &'a [String],
    },
    RunFailed {
        session_id: SessionId,
        job_id: RunId,
        attempt: u32,
        error_code: Option<&'a str>,
        class: Option<ErrorClass>,
    },
    RunRetried {
        session_id: SessionId,
        job_id: RunId,
        attempt: u32,
        backoff_ms: u64,
        error_code: &'a str,
    },
    RunStalled {
        session_id: SessionId,
        job_id: RunId,
        attempt: u32,
        pending_tool_call_ids: &'a [String],
    },
    RunPoisoned {
        session_id: SessionId,
        job_id: RunId,
        attempts: u32,
    },
    RunParked {
        session_id: SessionId,
        job_id: RunId,
        awaiting: &'static str,
        approval_id: &'a str,
    },
    RunDecided {
        session_id: SessionId,
        job_id: RunId,
        decision: Decision,
        decided_by: &'a Actor,
        reason: &'a str,
    },
    LimitsChanged {
        name: String,
        from: Option<u64>,
        to: Option<u64>,
        changed_by: &'a Actor,
    },
    LeaderChanged {
        #[serde(serialize_with = "service_name")]
        service: ServiceName,
        epoch: Epoch,
    },
    WorkflowRecovery {
        found: Cow<'a, str>,
        action: &'a str,
        run_id: Option<RunId>,
        epoch: Option<Epoch>,
        checkpoint_id: Option<ArtifactId>,
    },
}

/// What is used of a budget: tokens as a number, US dollars as everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Used {
    Tokens(u64),
    Usd(MicroUsd),
}

impl Used {
    /// From a journal's number.
    pub(crate) const fn new(budget_type: BudgetType, value: u64) -> Self {
        match budget_type {
            BudgetType::Tokens => Self::Tokens(value),
            BudgetType::Usd => Self::Usd(MicroUsd(value)),
        }
    }
}

impl Payload<'_> {
    /// The type of the event that has this payload.
    pub(crate) const fn kind(&self) -> FlightKind {
        match self {
            Self::SessionCreated { .. } => FlightKind::SessionCreated,
            Self::SessionStateChange { .. } => FlightKind::SessionStateChange,
            Self::SessionCompleted { .. } => FlightKind::SessionCompleted,
            Self::SessionMessage { .. } => FlightKind::SessionMessage,
            Self::SessionBudgetWarning { .. } => FlightKind::SessionBudgetWarning,
            Self::SchedulerEnqueue { .. } => FlightKind::SchedulerEnqueue,
            Self::SchedulerDispatch { .. } => FlightKind::SchedulerDispatch,
            Self::SchedulerRateLimited { .. } => FlightKind::SchedulerRateLimited,
            Self::SchedulerCancelled { .. } => FlightKind::SchedulerCancelled,
            Self::RunStarted { .. } => FlightKind::RunStarted,
            Self::RunCompleted { .. } => FlightKind::RunCompleted,
            Self::RunFailed { .. } => FlightKind::RunFailed,
            Self::RunRetried { .. } => FlightKind::RunRetried,
            Self::RunStalled { .. } => FlightKind::RunStalled,
            Self::RunPoisoned { .. } => FlightKind::RunPoisoned,
            Self::RunParked { .. } => FlightKind::RunParked,
            Self::RunDecided { .. } => FlightKind::RunDecided,
            Self::LimitsChanged { .. } => FlightKind::LimitsChanged,
            Self::LeaderChanged { .. } => FlightKind::LeaderChanged,
            Self::WorkflowRecovery { .. } => FlightKind::WorkflowRecovery,
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn service_name<S: Serializer>(service: &ServiceName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(service.as_str())
}
