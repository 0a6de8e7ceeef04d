//! Errors as they cross the wire: a stable code, a sentence that says what to do next, and details.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal;)*) => {
        /// The stable code of an error. Each has its paragraph in `docs/errors.md`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as it stands in a reply.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The status in `Nats-Service-Error-Code`, with the meaning it has in HTTP.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }
        }
    };
}

codes! {
    /// The request is not well formed.
    BadRequest = "bad_request", 400;
    /// A field that this request does not have.
    UnknownField = "unknown_field", 400;
    /// A body or a content over its limit.
    PayloadTooLarge = "payload_too_large", 400;
    /// Not allowed for this caller.
    Forbidden = "forbidden", 403;
    /// A caller may not append this role.
    RoleForbidden = "role_forbidden", 403;
    /// Nothing has this id.
    NotFound = "not_found", 404;
    /// The session has ended.
    SessionTerminal = "session_terminal", 409;
    /// The memory policy of a session never changes.
    MemoryPolicyImmutable = "memory_policy_immutable", 409;
    /// The thread does not end where the caller expected.
    TailMismatch = "tail_mismatch", 409;
    /// The same key came with other content.
    IdempotencyConflict = "idempotency_conflict", 409;
    /// The session is busy.
    Busy = "busy", 409;
    /// The lease's epoch is over.
    StaleEpoch = "stale_epoch", 409;
    /// Another claim holds this dispatch.
    AlreadyClaimed = "already_claimed", 409;
    /// The run has ended.
    RunTerminal = "run_terminal", 409;
    /// A kind of job that is not `model_run`.
    UnknownJobKind = "unknown_job_kind", 422;
    /// The provider or model cannot do what was asked.
    UnsupportedCapability = "unsupported_capability", 422;
    /// The deployment does not know the provider.
    UnknownModel = "unknown_model", 422;
    /// More than a limit can ever allow.
    ExceedsLimit = "exceeds_limit", 422;
    /// The queue is full.
    QueueFull = "queue_full", 429;
    /// The service has more requests than it takes at a time.
    Overloaded = "overloaded", 429;
    /// A fault of the service.
    Internal = "internal", 500;
    /// The service cannot answer now; the same request can be sent again.
    Unavailable = "unavailable", 503;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error as a caller sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The stable code.
    pub code: ErrorCode,
    /// What happened and what to do next. Never holds content.
    pub message: String,
    /// Values that a program can use: `{}` where there are none.
    #[serde(default)]
    pub details: serde_json::Value,
}

impl ApiError {
    /// An error without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: serde_json::json!({}) }
    }

    /// The same error with details.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }
}

/// The body of an error reply: `{"error": {…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error.
    pub error: ApiError,
}
