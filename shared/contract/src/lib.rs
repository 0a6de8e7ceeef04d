//! What the parts of Laneway say to each other: ids, records, requests, events, errors and subjects. Plain data, no I/O.

mod catalog;
mod chunk;
mod codec;
mod endpoint;
mod error;
mod event;
mod flight;
mod ids;
mod incident;
mod limits;
mod memory;
mod message;
mod money;
mod reject;
mod request;
mod run;
mod session;
mod snapshot;
mod subject;
mod time;
mod vocabulary;

#[cfg(test)]
mod tests;

pub use catalog::{Capabilities, Catalog, ModelSpec, ProviderKind, ProviderSpec};
pub use chunk::{Chunk, Piece};
pub use codec::{Format, MAX_BODY_BYTES, too_large};
pub use endpoint::{Endpoint, ServiceName};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{BudgetOwner, CoolDown, Event, Fingerprint, Output, ReturnCause, StopCause};
pub use flight::{FlightEvent, FlightKind, FlightSource};
pub use ids::{ArtifactId, Epoch, HashKey, InvalidId, MessageId, ModelId, PoolId, RunId, SessionId, Token, WorkerId};
pub use incident::Incident;
pub use limits::*;
pub use memory::{
    EvictedBudget, EvictedSession, KeyAnswer, KeySaid, MemoryLimits, SessionSaid, StoreSaid, StoredSession,
};
pub use message::{Artifact, MAX_MESSAGES, MessageDraft, MessageRecord, Source};
pub use money::MicroUsd;
pub use reject::Reject;
pub use request::*;
pub use run::{
    CancelReceipt, Estimate, GenerationSettings, ReasoningEffort, Reservation, RunError, RunFields, RunRecord,
    RunStatus, RunView, Usage,
};
pub use session::{Actor, SessionCreation, SessionFields, SessionRecord, SessionStatus};
pub use snapshot::{SnapshotHash, SnapshotName, SnapshotTaken, SnapshotView};
pub use subject::{Family, Prefix, Stream, Subject};
pub use time::Timestamp;
pub use vocabulary::*;
