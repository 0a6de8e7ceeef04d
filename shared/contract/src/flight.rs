//! Public events, as the flight recorder publishes them in JSON.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{RunId, SessionId};
use crate::session::Actor;
use crate::time::Timestamp;

macro_rules! kinds {
    ($($variant:ident = $id:literal, $kind:literal, [$($key:literal),*];)*) => {
        /// The type of a public event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum FlightKind {
            $(#[doc = concat!("`", $kind, "`, ", $id, ".")] #[serde(rename = $kind)] $variant,)*
        }

        impl FlightKind {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The type as it is written, as `session.created`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $kind),* }
            }

            /// The id in the catalogue of events, as `FR-EVT-SESS-001`.
            #[must_use]
            pub const fn event_id(self) -> &'static str {
                match self { $(Self::$variant => $id),* }
            }

            /// The keys of the payload, all of them always there.
            #[must_use]
            pub const fn payload_keys(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($key),*]),* }
            }
        }
    };
}

kinds! {
    SessionCreated = "FR-EVT-SESS-001", "session.created",
        ["session_id", "model_id", "backend", "role", "wp_id", "mt_id", "memory_policy", "spawn_depth"];
    SessionStateChange = "FR-EVT-SESS-002", "session.state_change", ["session_id", "from_state", "to_state", "reason"];
    SessionCompleted = "FR-EVT-SESS-003", "session.completed",
        ["session_id", "total_tokens", "total_cost_usd", "duration_ms", "messages_count"];
    SessionMessage = "FR-EVT-SESS-004", "session.message", ["session_id", "message_id", "role", "content_hash", "token_count"];
    SessionBudgetWarning = "FR-EVT-SESS-005", "session.budget_warning",
        ["session_id", "budget_type", "current_value", "threshold_value"];
    SchedulerEnqueue = "FR-EVT-SESS-SCHED-001", "session_scheduler.enqueue",
        ["session_id", "job_id", "job_kind", "lane", "priority", "concurrency_group"];
    SchedulerDispatch = "FR-EVT-SESS-SCHED-002", "session_scheduler.dispatch",
        ["session_id", "job_id", "lane", "provider", "queue_wait_ms"];
    SchedulerRateLimited = "FR-EVT-SESS-SCHED-003", "session_scheduler.rate_limited",
        ["session_id", "job_id", "provider", "backoff_ms", "attempt", "cause", "bucket", "bucket_level"];
    SchedulerCancelled = "FR-EVT-SESS-SCHED-004", "session_scheduler.cancelled",
        ["session_id", "job_id", "reason", "cancelled_by"];
    RunStarted = "FR-EVT-RUN-001", "run.started", ["session_id", "job_id", "attempt", "epoch", "worker_id", "model_id"];
    RunCompleted = "FR-EVT-RUN-002", "run.completed",
        ["session_id", "job_id", "attempt", "usage", "cost_usd", "finish", "duration_ms", "issues"];
    RunFailed = "FR-EVT-RUN-003", "run.failed", ["session_id", "job_id", "attempt", "error_code", "class"];
    RunRetried = "FR-EVT-RUN-004", "run.retried", ["session_id", "job_id", "attempt", "backoff_ms", "error_code"];
    RunStalled = "FR-EVT-RUN-005", "run.stalled", ["session_id", "job_id", "attempt", "pending_tool_call_ids"];
    RunPoisoned = "FR-EVT-RUN-006", "run.poisoned", ["session_id", "job_id", "attempts"];
    RunParked = "FR-EVT-RUN-007", "run.parked", ["session_id", "job_id", "awaiting", "approval_id"];
    RunDecided = "FR-EVT-RUN-008", "run.decided", ["session_id", "job_id", "decision", "decided_by", "reason"];
    LimitsChanged = "FR-EVT-LIMIT-001", "limits.changed", ["name", "from", "to", "changed_by"];
    LeaderChanged = "FR-EVT-LEAD-001", "leader.changed", ["service", "epoch"];
    WorkflowRecovery = "FR-EVT-WF-RECOVERY", "workflow.recovery", ["found", "action", "run_id", "epoch", "checkpoint_id"];
}

impl fmt::Display for FlightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where in the journal a public event has its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FlightSource {
    /// The frame.
    pub seq: u64,
    /// The event's place among the public events of its frame, from 0.
    pub index: u32,
}

/// A public event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlightEvent {
    /// The id in the catalogue, as `FR-EVT-SESS-001`.
    pub event_id: String,
    /// Where in the journal it has its origin; unique.
    pub source: FlightSource,
    /// The type, as `session.created`.
    pub event_type: FlightKind,
    /// When it happened.
    pub timestamp: Timestamp,
    /// The session it concerns.
    pub session_id: Option<SessionId>,
    /// The run it concerns.
    pub run_id: Option<RunId>,
    /// Who caused it.
    pub actor: Actor,
    /// The keys that [`FlightKind::payload_keys`] names.
    pub payload: serde_json::Value,
    /// BLAKE3 of the bytes of the event before, 64 hexadecimal digits; zeros for the first.
    pub prev_hash: String,
}
