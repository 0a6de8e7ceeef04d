//! Requests of the session store, and the lifecycle of sessions.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Content;
use crate::ids::{ArtifactId, Epoch, MessageId, ModelId, RunId, SessionId};
use crate::message::{MessageRecord, Source};
use crate::money::MicroUsd;
use crate::session::{Actor, SessionRecord};
use crate::time::Timestamp;
use crate::vocabulary::{
    Backend, ExecutionMode, JobState, MemoryPolicy, MessageRole, Mode, ParameterClass, SessionState,
};

/// `sessions.create`. Idempotent by `session_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Default: a new one.
    pub session_id: Option<SessionId>,
    /// The session that spawned this one.
    pub parent_session_id: Option<SessionId>,
    /// Default 0; one more than the parent's when there is a parent.
    pub spawn_depth: Option<u32>,
    /// Default `SESSION_PERSISTENT`.
    pub mode: Option<Mode>,
    /// The model.
    pub model_id: ModelId,
    /// Default: the provider's.
    pub backend: Option<Backend>,
    /// Default `PUnknown`.
    pub parameter_class: Option<ParameterClass>,
    /// Default `orchestrator`.
    pub role: Option<String>,
    /// Becomes the SYSTEM message, seq 1.
    pub instructions: Option<Content>,
    /// Work packet.
    pub wp_id: Option<String>,
    /// Micro-task.
    pub mt_id: Option<String>,
    /// Work profile.
    pub work_profile_id: Option<String>,
    /// Entities that the work is about.
    pub target_entity_ids: Option<Vec<String>>,
    /// Default `SINGLE_MODEL_MULTI_ROLE`.
    pub execution_mode: Option<ExecutionMode>,
    /// Required; never changes.
    pub memory_policy: MemoryPolicy,
    /// Tokens that the session may use.
    pub budget_tokens: Option<u64>,
    /// US dollars that the session may use.
    pub budget_usd: Option<MicroUsd>,
    /// Tokens that the model's context holds.
    pub context_window_max: Option<u64>,
    /// Consent to use a cloud model.
    pub consent_receipt_id: Option<String>,
    /// The projection that the consent is bound to.
    pub projection_plan_id: Option<String>,
    /// Default: none.
    #[serde(default)]
    pub capability_grants: Vec<String>,
    /// Tokens that carry capabilities.
    pub capability_token_ids: Option<Vec<String>>,
    /// At most 32, key and value at most 128 bytes each.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A past conversation, without SYSTEM.
    #[serde(default)]
    pub history: Vec<NewMessage>,
}

/// A message in a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// Default: a new one.
    pub message_id: Option<MessageId>,
    /// Default `USER`.
    pub role: Option<MessageRole>,
    /// What it says.
    pub content: Content,
    /// Default `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
    /// The tool call that this asks for or answers; in `history` only.
    pub tool_call_id: Option<String>,
    /// Artifacts that were stored before.
    #[serde(default)]
    pub attachments: Vec<ArtifactId>,
    /// Another session that it came from. Default: the caller, or `import` in `history`.
    pub source: Option<Source>,
}

/// Reply of `sessions.create`, `get`, `pause`, `resume`, `complete`, `fail` and `cancel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionReply {
    /// The session.
    pub session: SessionRecord,
    /// Whether the same request was answered before.
    pub repeated: bool,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `sessions.get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetSession {
    /// The session.
    pub session_id: SessionId,
    /// Wait until this frame is applied.
    pub min_seq: Option<u64>,
}

/// `sessions.list`. Oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListSessions {
    /// Only this state.
    pub state: Option<SessionState>,
    /// Only this work packet.
    pub wp_id: Option<String>,
    /// Only this role.
    pub role: Option<String>,
    /// Only sessions with all these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Rows of the page, at most 1,000. Default 100.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// Wait until this frame is applied.
    pub min_seq: Option<u64>,
}

/// Reply of `sessions.list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionPage {
    /// The rows.
    pub sessions: Vec<SessionRecord>,
    /// Where the next page begins; null at the end.
    pub cursor: Option<String>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `sessions.append`. Idempotent by `idempotency_key`; without one, a repeat appends again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendMessages {
    /// The session.
    pub session_id: SessionId,
    /// 1 to 500 messages, all USER.
    pub messages: Vec<NewMessage>,
    /// At most 128 bytes; kept as long as the messages.
    pub idempotency_key: Option<String>,
    /// The last seq that the caller knows; another tail is `tail_mismatch`.
    pub expected_tail: Option<u64>,
}

/// Reply of `sessions.append`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendReply {
    /// The session.
    pub session_id: SessionId,
    /// Seq of the first message.
    pub first_seq: u64,
    /// Seq of the last message.
    pub last_seq: u64,
    /// Whether the same request was answered before.
    pub repeated: bool,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `sessions.messages`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadMessages {
    /// The session.
    pub session_id: SessionId,
    /// First seq. Default 1.
    pub from_seq: Option<u64>,
    /// Last seq. Default: the end.
    pub to_seq: Option<u64>,
    /// Whether to give the content. Default false.
    #[serde(default)]
    pub with_content: bool,
    /// Messages of the page, at most 1,000. Default 100.
    pub limit: Option<u32>,
    /// Wait until this frame is applied.
    pub min_seq: Option<u64>,
}

/// A message with its content, where that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageView {
    /// The message.
    #[serde(flatten)]
    pub message: MessageRecord,
    /// The content, when it is text and was asked for.
    pub content: Option<String>,
}

/// Reply of `sessions.messages`.
pub type MessagePage = PageOf<MessageView>;

/// Reply of `sessions.window`.
pub type WindowPage = PageOf<WindowMessage>;

/// A message of a window: what a provider is sent of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowMessage {
    /// Who speaks.
    pub role: MessageRole,
    /// The content, when it is text and was not taken out.
    pub content: Option<String>,
    /// Whether the content was taken out.
    pub redacted: bool,
    /// The tool call that this asks for or answers.
    pub tool_call_id: Option<String>,
    /// Further artifacts.
    pub attachments: Vec<ArtifactId>,
}

/// A page of messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageOf<M> {
    /// The messages in order.
    pub messages: Vec<M>,
    /// The seq to go on from; null at the end.
    pub next_seq: Option<u64>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `sessions.window`: what a claimed attempt sends to its provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadWindow {
    /// The run.
    pub run_id: RunId,
    /// The epoch that its claim was answered with.
    pub epoch: Epoch,
    /// First seq. Default 1.
    pub from_seq: Option<u64>,
    /// Wait until this frame, which the claim's answer names, is applied.
    pub min_seq: u64,
}

/// `artifacts.put`. One of `text`, `base64` and, in MessagePack, `bytes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutArtifact {
    /// Content as text.
    pub text: Option<String>,
    /// Content in standard base64 with padding.
    pub base64: Option<String>,
    /// Content as MessagePack binary.
    pub bytes: Option<Bytes>,
    /// Default `text/plain; charset=utf-8` for text, else `application/octet-stream`.
    pub content_type: Option<String>,
    /// Refuse the content when it has another id.
    pub expected_id: Option<ArtifactId>,
}

/// Reply of `artifacts.put`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutReply {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// Bytes.
    pub size: u64,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}

/// `artifacts.get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetArtifact {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// Wait until this frame is applied.
    pub min_seq: Option<u64>,
}

/// Reply of `artifacts.get`: `text` where the content type is text, else `base64`; `bytes` in MessagePack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactReply {
    /// The artifact.
    pub artifact_id: ArtifactId,
    /// MIME type.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Content as text.
    pub text: Option<String>,
    /// Content in standard base64 with padding.
    pub base64: Option<String>,
    /// Content as MessagePack binary.
    pub bytes: Option<Bytes>,
}

/// `sessions.pause`, `resume`, `complete`, `fail` and `cancel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSession {
    /// The session.
    pub session_id: SessionId,
    /// Who asks.
    pub actor: Actor,
    /// Why, at most 128 bytes.
    #[serde(default)]
    pub reason: String,
    /// With `complete`: cancel what is queued or executing instead of refusing.
    #[serde(default)]
    pub cancel_runs: bool,
    /// With `pause`: cancel the executing run too.
    #[serde(default)]
    pub interrupt: bool,
}

/// `sessions.registry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRegistry {
    /// Only this state.
    pub state: Option<SessionState>,
    /// Only this provider.
    pub provider: Option<String>,
    /// Only this model.
    pub model_id: Option<ModelId>,
    /// Only this role.
    pub role: Option<String>,
    /// Only this work packet.
    pub wp_id: Option<String>,
    /// Rows of the page, at most 1,000. Default 100.
    pub limit: Option<u32>,
    /// The last session of the page before.
    pub cursor: Option<SessionId>,
}

/// A session in the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryRow {
    /// The session.
    pub session_id: SessionId,
    /// Its parent.
    pub parent_session_id: Option<SessionId>,
    /// Distance from the root.
    pub spawn_depth: u32,
    /// Its children that have not ended.
    pub children: Vec<SessionId>,
    /// Its state.
    pub state: SessionState,
    /// Since when.
    pub since: Timestamp,
    /// The run that is dispatched, executing, parked or about to be retried.
    pub current_run_id: Option<RunId>,
    /// That run's state.
    pub job_state: Option<JobState>,
    /// Runs that wait behind it.
    pub queued_runs: u64,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model_id: ModelId,
    /// The role.
    pub role: String,
    /// Work packet.
    pub wp_id: Option<String>,
    /// Micro-task.
    pub mt_id: Option<String>,
}

/// Reply of `sessions.registry`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryReply {
    /// The rows, by id.
    pub sessions: Vec<RegistryRow>,
    /// Runs that hold a slot, per provider.
    pub per_provider: BTreeMap<String, u32>,
    /// Runs that hold a slot, per model.
    pub per_model: BTreeMap<ModelId, u32>,
    /// Where the next page begins; null at the end.
    pub cursor: Option<SessionId>,
    /// The frame up to which this is true.
    pub journal_seq: u64,
}
