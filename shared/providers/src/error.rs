//! What can go wrong with a provider, in our words: nothing of its text is ever kept.

use laneway_contract::{ErrorClass, RunError};

/// Why a call gave no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The request cannot be sent to this provider; the text says why.
    #[error("{0}")]
    Invalid(&'static str),
    /// The provider says that the request is wrong.
    #[error("the provider refused the request with HTTP status {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
    },
    /// The provider does not accept the worker's credentials.
    #[error("the provider refused the worker's credentials with HTTP status {status}: check its API key")]
    Credentials {
        /// The HTTP status.
        status: u16,
    },
    /// The provider asks to wait.
    #[error("the provider asks to send fewer requests (HTTP status 429)")]
    RateLimited {
        /// How long, where it says, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The provider failed.
    #[error("the provider failed with HTTP status {status}")]
    Failed {
        /// The HTTP status.
        status: u16,
        /// How long to wait, where it says, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The provider reported an error in the middle of its answer.
    #[error("the provider reported an error in the middle of its answer")]
    FailedInStream,
    /// The provider itself ran out of time.
    #[error("the provider answered that its own time was over (HTTP status {status})")]
    TimedOut {
        /// The HTTP status.
        status: u16,
    },
    /// No connection, or one that broke before the answer ended.
    #[error("no connection to the provider, or it broke before the answer ended")]
    Connection,
    /// The stream ended without saying why.
    #[error("the provider's stream ended without a finish reason, so the answer counts as cut off")]
    Truncated,
    /// Bytes that are not what the protocol says.
    #[error("the provider's answer cannot be read")]
    Unreadable,
}

impl ProviderError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_request",
            Self::Refused { .. } => "provider_refused",
            Self::Credentials { .. } => "provider_credentials",
            Self::RateLimited { .. } => "rate_limited",
            Self::Failed { .. } | Self::FailedInStream => "provider_error",
            Self::TimedOut { .. } => "provider_timeout",
            Self::Connection => "provider_connection",
            Self::Truncated => "provider_truncated",
            Self::Unreadable => "provider_unreadable",
        }
    }

    /// The class, which decides about a retry.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid(_) | Self::Refused { .. } => ErrorClass::InvalidRequest,
            Self::Credentials { .. } => ErrorClass::Authentication,
            Self::RateLimited { .. } => ErrorClass::RateLimit,
            Self::Failed { .. } | Self::FailedInStream => ErrorClass::Server,
            Self::TimedOut { .. } => ErrorClass::Timeout,
            Self::Connection => ErrorClass::Network,
            Self::Truncated | Self::Unreadable => ErrorClass::Protocol,
        }
    }

    /// Whether the same request may work later.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Refused { .. } | Self::Credentials { .. } => false,
            Self::RateLimited { .. }
            | Self::Failed { .. }
            | Self::FailedInStream
            | Self::TimedOut { .. }
            | Self::Connection
            | Self::Truncated
            | Self::Unreadable => true,
        }
    }

    /// How long the provider asked to wait, in milliseconds.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms } | Self::Failed { retry_after_ms, .. } => *retry_after_ms,
            Self::Invalid(_)
            | Self::Refused { .. }
            | Self::Credentials { .. }
            | Self::FailedInStream
            | Self::TimedOut { .. }
            | Self::Connection
            | Self::Truncated
            | Self::Unreadable => None,
        }
    }

    /// The error for an HTTP status that is not a success.
    #[must_use]
    pub const fn from_status(status: u16, retry_after_ms: Option<u64>) -> Self {
        match status {
            401 | 403 => Self::Credentials { status },
            408 | 504 => Self::TimedOut { status },
            429 => Self::RateLimited { retry_after_ms },
            // Conflict and "too early" are about the moment, not about the request.
            409 | 425 | 500.. => Self::Failed { status, retry_after_ms },
            400..=499 => Self::Refused { status },
            _ => Self::Unreadable,
        }
    }
}

impl From<ProviderError> for RunError {
    fn from(error: ProviderError) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            class: error.class(),
            retryable: error.retryable(),
            retry_after_ms: error.retry_after_ms(),
        }
    }
}
