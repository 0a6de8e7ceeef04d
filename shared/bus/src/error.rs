//! What can go wrong between the parts.

use std::path::PathBuf;

use async_nats::jetstream::context::PublishErrorKind;
use laneway_contract::{ApiError, ErrorCode};

/// Why something could not be sent, received or set up.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL of NATS cannot be read.
    #[error("the NATS URL {url:?} cannot be read: {reason}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with credentials cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A message was not handed to the connection.
    #[error("cannot publish: {0}")]
    Publish(#[from] async_nats::PublishError),
    /// A message was not stored, or it is not known whether it was.
    #[error("not stored: {source}")]
    NotStored {
        /// Which of the two, and why.
        kind: PublishErrorKind,
        /// The error itself.
        source: async_nats::jetstream::context::PublishError,
    },
    /// A subscription was not made.
    #[error("cannot subscribe to {subject}: {source}")]
    Subscribe {
        /// The subject or filter.
        subject: String,
        /// The error itself.
        source: async_nats::SubscribeError,
    },
    /// The connection is closed.
    #[error("the connection to NATS is closed")]
    Closed,
    /// A stream was refused for a reason that does not pass by itself.
    #[error("stream {stream}: {reason}")]
    Stream {
        /// The stream.
        stream: String,
        /// What the server said.
        reason: String,
    },
    /// A consumer was refused for a reason that does not pass by itself.
    #[error("consumer {consumer}: {reason}")]
    Consumer {
        /// The consumer.
        consumer: String,
        /// What the server said.
        reason: String,
    },
}

impl From<async_nats::jetstream::context::PublishError> for BusError {
    fn from(source: async_nats::jetstream::context::PublishError) -> Self {
        Self::NotStored { kind: source.kind(), source }
    }
}

impl From<BusError> for ApiError {
    /// `unavailable`: the same request can be sent again.
    fn from(error: BusError) -> Self {
        Self::new(ErrorCode::Unavailable, error.to_string())
    }
}
