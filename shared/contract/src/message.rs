//! Messages and artifacts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{ArtifactId, MessageId, RunId, SessionId};
use crate::time::Timestamp;
use crate::vocabulary::{Finish, MessageRole};

/// The most messages in one create, append or report.
pub const MAX_MESSAGES: usize = 500;

/// Where a message came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Laneway itself, or a model that it called.
    Runtime,
    /// A caller.
    Caller,
    /// History that was given at creation.
    Import,
    /// Another session.
    Session {
        /// Its id.
        session_id: SessionId,
        /// Its role.
        role: String,
        /// Whether its words are trusted.
        trusted: bool,
    },
}

/// A message before it has its place in a thread: all but session and seq.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageDraft {
    /// The message.
    pub message_id: MessageId,
    /// Who speaks.
    pub role: MessageRole,
    /// The artifact that holds the content, which is also the content's hash.
    pub content: ArtifactId,
    /// MIME type of the content.
    pub content_type: String,
    /// Bytes of the content.
    pub size: u64,
    /// Tokens of the content, where known.
    pub token_count: Option<u64>,
    /// The tool call that this asks for or answers.
    pub tool_call_id: Option<String>,
    /// Further artifacts.
    pub attachments: Vec<ArtifactId>,
    /// Where it came from.
    pub source: Source,
    /// How it ended, on what a model produced.
    pub finish: Option<Finish>,
}

/// A message in a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRecord {
    /// The message.
    pub message_id: MessageId,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// Its place in the thread: dense, from 1.
    pub seq: u64,
    /// Who speaks.
    pub role: MessageRole,
    /// Keyed BLAKE3 of the content.
    pub content_hash: ArtifactId,
    /// The artifact that holds the content.
    pub content_artifact_id: ArtifactId,
    /// MIME type of the content.
    pub content_type: String,
    /// Bytes of the content.
    pub size: u64,
    /// When it entered the thread.
    pub timestamp: Timestamp,
    /// Tokens of the content, where known.
    pub token_count: Option<u64>,
    /// Whether its content was taken out.
    pub redacted: bool,
    /// The tool call that this asks for or answers.
    pub tool_call_id: Option<String>,
    /// Further artifacts.
    pub attachments: Vec<ArtifactId>,
    /// Where it came from.
    pub source: Source,
    /// The run that brought or produced it.
    pub run_id: Option<RunId>,
    /// The attempt that produced it.
    pub attempt: Option<u32>,
    /// How it ended, on what a model produced.
    pub finish: Option<Finish>,
}

/// Immutable bytes named by their hash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// Keyed BLAKE3 of the bytes.
    pub id: ArtifactId,
    /// MIME type.
    pub content_type: String,
    /// How the bytes are encrypted; `none` until encryption comes.
    pub enc: String,
    /// The key they are encrypted with.
    pub key_id: Option<String>,
    /// The bytes.
    pub bytes: Bytes,
}
