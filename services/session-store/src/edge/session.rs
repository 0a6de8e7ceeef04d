//! `sessions.create`.

use laneway_contract::{
    ApiError, Catalog, CreateSession, ErrorCode, ExecutionMode, MAX_MESSAGES, MessageDraft, MessageId, MessageRole,
    Mode, ParameterClass, PreparedSession, SessionFields, SessionId, Source,
};

use super::check::{self, At, MAX_LABELS, bad};
use super::contents::{Contents, TEXT};
use super::{fingerprint, message};
use crate::read::ReadError;
use crate::view::Reading;

/// The role of a session whose creator names none.
const DEFAULT_ROLE: &str = "orchestrator";

/// Prepares `sessions.create`.
pub(crate) fn create(
    reading: &Reading,
    catalog: &Catalog,
    request: &CreateSession,
) -> Result<PreparedSession, ApiError> {
    check_names(request)?;
    let most = MAX_MESSAGES - usize::from(request.instructions.is_some());
    check::count(At::Field("history"), request.history.len(), 0, most)?;
    let fingerprint = fingerprint(reading.hash_key()?, request)?;
    let mut contents = Contents::new(reading);
    let mut messages = Vec::with_capacity(request.history.len() + 1);
    messages.extend(instructions(&mut contents, request)?);
    let instructions = messages.first().map(|system| system.content);
    for (index, past) in request.history.iter().enumerate() {
        messages.push(message::imported(&mut contents, index, past)?);
    }
    check::distinct("history", &messages)?;
    let provider = catalog.provider(&request.model_id).ok_or_else(|| {
        let provider = request.model_id.provider();
        ApiError::new(
            ErrorCode::UnknownModel,
            format!("this deployment knows no provider {provider}: it is configured under [providers]"),
        )
        .with_details(serde_json::json!({"path": "model_id", "provider": provider}))
    })?;
    let fields = SessionFields {
        parent_session_id: request.parent_session_id,
        spawn_depth: spawn_depth(reading, request)?,
        mode: request.mode.unwrap_or(Mode::SessionPersistent),
        model_id: request.model_id.clone(),
        backend: request.backend.unwrap_or(provider.backend),
        parameter_class: request.parameter_class.unwrap_or(ParameterClass::Unknown),
        role: request.role.clone().unwrap_or_else(|| DEFAULT_ROLE.to_owned()),
        instructions,
        wp_id: request.wp_id.clone(),
        mt_id: request.mt_id.clone(),
        work_profile_id: request.work_profile_id.clone(),
        target_entity_ids: request.target_entity_ids.clone(),
        execution_mode: request.execution_mode.unwrap_or(ExecutionMode::SingleModelMultiRole),
        memory_policy: request.memory_policy,
        budget_tokens: request.budget_tokens,
        budget_usd: request.budget_usd,
        context_window_max: request
            .context_window_max
            .or_else(|| catalog.model(&request.model_id).and_then(|model| model.context_window)),
        consent_receipt_id: request.consent_receipt_id.clone(),
        projection_plan_id: request.projection_plan_id.clone(),
        capability_grants: request.capability_grants.clone(),
        capability_token_ids: request.capability_token_ids.clone(),
        labels: request.labels.clone(),
    };
    let session_id = request.session_id.unwrap_or_else(SessionId::generate);
    let concerned = [request.parent_session_id, Some(session_id)].into_iter().flatten();
    let said = concerned.map(|id| reading.said(id, None)).collect::<Result<_, _>>()?;
    Ok(PreparedSession { session_id, fields, messages, artifacts: contents.into_new(), fingerprint, said })
}

fn check_names(request: &CreateSession) -> Result<(), ApiError> {
    check::amounts(request)?;
    check::optional_name("role", request.role.as_ref())?;
    check::optional_name("wp_id", request.wp_id.as_ref())?;
    check::optional_name("mt_id", request.mt_id.as_ref())?;
    check::optional_name("work_profile_id", request.work_profile_id.as_ref())?;
    check::optional_name("consent_receipt_id", request.consent_receipt_id.as_ref())?;
    check::optional_name("projection_plan_id", request.projection_plan_id.as_ref())?;
    check::names("target_entity_ids", request.target_entity_ids.as_deref().unwrap_or_default())?;
    check::names("capability_grants", &request.capability_grants)?;
    check::names("capability_token_ids", request.capability_token_ids.as_deref().unwrap_or_default())?;
    check::count(At::Field("labels"), request.labels.len(), 0, MAX_LABELS)?;
    request.labels.iter().try_for_each(|(key, value)| check::label(key, value))
}

/// The SYSTEM message: the only way to one.
fn instructions(contents: &mut Contents<'_>, request: &CreateSession) -> Result<Option<MessageDraft>, ApiError> {
    let Some(content) = &request.instructions else {
        return Ok(None);
    };
    let stored = contents.take(At::Field("instructions"), content, None)?;
    if !crate::read::is_text(&stored.content_type) {
        return Err(bad(At::Field("instructions"), format_args!("must be text, as {TEXT}")));
    }
    Ok(Some(MessageDraft {
        message_id: MessageId::generate(),
        role: MessageRole::System,
        content: stored.id,
        content_type: stored.content_type,
        size: stored.size,
        token_count: None,
        tool_call_id: None,
        attachments: Vec::new(),
        source: Source::Runtime,
        finish: None,
    }))
}

/// One more than the parent's.
fn spawn_depth(reading: &Reading, request: &CreateSession) -> Result<u32, ApiError> {
    let depth = match request.parent_session_id {
        None => 0,
        Some(parent) => {
            let missing = || ReadError::NotFound { what: "session", id: parent.to_string() };
            let parent = reading.creation(parent)?.ok_or_else(|| missing().at("parent_session_id".to_owned()))?;
            parent.fields.spawn_depth.saturating_add(1)
        }
    };
    match request.spawn_depth {
        Some(given) if given != depth => Err(bad(At::Field("spawn_depth"), format_args!("must be {depth} here"))),
        Some(_) | None => Ok(depth),
    }
}
