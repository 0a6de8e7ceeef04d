//! Sessions as they are stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ArtifactId, ModelId, RunId, SessionId};
use crate::money::MicroUsd;
use crate::time::Timestamp;
use crate::vocabulary::{ActorKind, Backend, ExecutionMode, MemoryPolicy, Mode, ParameterClass, SessionState};

/// Who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// The actor's own name, at most 128 bytes.
    pub id: String,
    /// What it is.
    pub kind: ActorKind,
}

impl Actor {
    /// Laneway itself.
    #[must_use]
    pub fn runtime() -> Self {
        Self { id: "laneway".to_owned(), kind: ActorKind::Runtime }
    }
}

/// The fields that a creator gives and that stay as they are. Shown flat in [`SessionRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionFields {
    /// The session that spawned this one.
    pub parent_session_id: Option<SessionId>,
    /// Distance from the root session, which has 0.
    pub spawn_depth: u32,
    /// How long it lives.
    pub mode: Mode,
    /// The model of its runs unless a run names another.
    pub model_id: ModelId,
    /// Where the model runs.
    pub backend: Backend,
    /// The model's size class.
    pub parameter_class: ParameterClass,
    /// The role it plays, at most 128 bytes.
    pub role: String,
    /// The artifact with the instructions, which are also message 1.
    pub instructions: Option<ArtifactId>,
    /// Work packet.
    pub wp_id: Option<String>,
    /// Micro-task.
    pub mt_id: Option<String>,
    /// Work profile.
    pub work_profile_id: Option<String>,
    /// Entities that the work is about.
    pub target_entity_ids: Option<Vec<String>>,
    /// How roles and models divide the work.
    pub execution_mode: ExecutionMode,
    /// Who may see the thread. Never changes.
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
    /// What the session may do. Empty: nothing beyond talking.
    pub capability_grants: Vec<String>,
    /// Tokens that carry capabilities.
    pub capability_token_ids: Option<Vec<String>>,
    /// The caller's own, at most 32 of 128 bytes.
    pub labels: BTreeMap<String, String>,
}

impl SessionFields {
    /// A session that lives on with this model, and nothing else that a creator may say.
    #[must_use]
    pub fn of_model(model_id: ModelId) -> Self {
        Self {
            parent_session_id: None,
            spawn_depth: 0,
            mode: Mode::SessionPersistent,
            model_id,
            backend: Backend::Local,
            parameter_class: ParameterClass::Unknown,
            role: "orchestrator".to_owned(),
            instructions: None,
            wp_id: None,
            mt_id: None,
            work_profile_id: None,
            target_entity_ids: None,
            execution_mode: ExecutionMode::SingleModelMultiRole,
            memory_policy: MemoryPolicy::SessionScoped,
            budget_tokens: None,
            budget_usd: None,
            context_window_max: None,
            consent_receipt_id: None,
            projection_plan_id: None,
            capability_grants: Vec::new(),
            capability_token_ids: None,
            labels: BTreeMap::new(),
        }
    }
}

/// A session as it was made. Stored once, in the event that creates it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionCreation {
    /// The session.
    pub session_id: SessionId,
    /// What the creator gave.
    pub fields: SessionFields,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What changes in a session. Absolute values, so that a view can write them as they come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The state.
    pub state: SessionState,
    /// Since when the state holds.
    pub since: Timestamp,
    /// The run that is dispatched, executing, parked or about to be retried.
    pub current_run_id: Option<RunId>,
    /// Whether somebody paused it.
    pub paused: bool,
    /// Input and output tokens of all its runs.
    pub total_tokens: u64,
    /// Cost of all its runs.
    pub total_cost_usd: MicroUsd,
    /// Messages in the thread.
    pub messages_count: u64,
    /// Tokens of the last window and its answer, where known.
    pub context_window_used: Option<u64>,
}

/// A session as `sessions.get` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The session.
    pub session_id: SessionId,
    /// What the creator gave.
    #[serde(flatten)]
    pub fields: SessionFields,
    /// What changes.
    #[serde(flatten)]
    pub status: SessionStatus,
    /// Artifact of the last checkpoint.
    pub checkpoint_artifact_id: Option<ArtifactId>,
    /// Time of the last checkpoint.
    pub last_checkpoint_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state or thread last changed.
    pub updated_at: Timestamp,
}
