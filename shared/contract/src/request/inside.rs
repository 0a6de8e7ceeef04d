//! Requests between the services.

use serde::{Deserialize, Serialize};

use crate::event::Fingerprint;
use crate::ids::{RunId, SessionId};
use crate::memory::StoreSaid;
use crate::message::{Artifact, MessageDraft};
use crate::request::{ListRegistry, RegistryRow};
use crate::run::RunRecord;
use crate::session::SessionFields;
use crate::vocabulary::JobState;

/// `leader.create`: a session whose texts were hashed at the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedSession {
    /// The session.
    pub session_id: SessionId,
    /// Its fields.
    pub fields: SessionFields,
    /// SYSTEM from the instructions, then the history.
    pub messages: Vec<MessageDraft>,
    /// The contents.
    pub artifacts: Vec<Artifact>,
    /// What the request contained.
    pub fingerprint: Fingerprint,
    /// What the replica that prepared it has of the session and of its parent.
    #[serde(default)]
    pub said: Vec<StoreSaid>,
}

/// `leader.append`: messages that were hashed at the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedAppend {
    /// The session.
    pub session_id: SessionId,
    /// The messages.
    pub messages: Vec<MessageDraft>,
    /// The contents.
    pub artifacts: Vec<Artifact>,
    /// The caller's key, or the first message's id.
    pub key: String,
    /// What the request contained.
    pub fingerprint: Fingerprint,
    /// The last seq that the caller knows.
    pub expected_tail: Option<u64>,
    /// What the replica that prepared it has of the session and of the key.
    #[serde(default)]
    pub said: Vec<StoreSaid>,
}

/// `leader.put`: an artifact that was hashed at the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedArtifact {
    /// The artifact.
    pub artifact: Artifact,
}

/// Reply of `leader.put`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedReply {
    /// The frame that holds it.
    pub journal_seq: u64,
}

/// `store.record`: what the leader asks a store replica.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskStore {
    /// Wait until this frame is applied.
    pub min_seq: u64,
    /// The question.
    pub ask: StoreQuestion,
}

/// A question about what the leader does not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreQuestion {
    /// One ended run.
    Run {
        /// The run.
        run_id: RunId,
        /// Whether to give the text of its answer.
        with_output: bool,
    },
    /// Ended runs, newest first.
    Runs {
        /// Only this session's.
        session_id: Option<SessionId>,
        /// Only this state.
        state: Option<JobState>,
        /// Rows.
        limit: u32,
        /// Only runs with a smaller id.
        before: Option<RunId>,
    },
    /// A session, and one of its append keys.
    Session {
        /// The session.
        session_id: SessionId,
        /// The key.
        key: Option<String>,
    },
    /// Sessions that have not ended, by id. Answered with a page of the registry, without what runs say.
    Registry(ListRegistry),
}

/// Reply of `store.record`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreAnswer {
    /// The runs that were found.
    pub runs: Vec<RunRecord>,
    /// The text of the answer of the one run that was asked for.
    pub output: Option<String>,
    /// What there is of the session that was asked for.
    #[serde(default)]
    pub said: Option<StoreSaid>,
    /// Sessions that have not ended.
    #[serde(default)]
    pub sessions: Vec<RegistryRow>,
    /// Where the next page of them begins; null at the end.
    #[serde(default)]
    pub cursor: Option<SessionId>,
}
