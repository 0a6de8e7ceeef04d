//! The way between the parts: the NATS connection, typed requests, micro services, streams and their consumers.

mod advisories;
mod bundle;
mod connection;
mod consumers;
mod control;
mod error;
mod headers;
mod request;
mod service;
mod streams;
mod waiting;

pub use async_nats;

pub use advisories::{Advisories, Advisory};
pub use connection::{Bus, ConnectOptions, PendingAck, shown};
pub use consumers::{
    PullConsumer, compare_consumer, ensure_intake_consumer, ensure_pool_consumer, intake_consumer_config,
    pool_consumer_config, remove_consumers_ahead,
};
pub use control::ControlSignals;
pub use error::BusError;
pub use headers::{CONTENT_TYPE, LEADER_EPOCH, MESSAGE_ID, RUN_ID, TRACEPARENT, header};
pub use request::RequestOptions;
pub use service::{Closed, Details, Gate, Incoming, MAX_INSIDE_BYTES, READS_FORMAT, Refusal, Route, Service};
pub use streams::{StreamDifference, compare_streams, ensure_streams, stream_config};
