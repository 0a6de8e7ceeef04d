//! `runs.submit`, and what waits on the intake: one request becomes one command, with every default filled in.

use std::collections::BTreeSet;

use bytes::Bytes;
use laneway_contract::{
    ApiError, ArtifactId, Backend, Content, DEFAULT_WAIT_MS, ErrorCode, ExecutionMode, Generation, GenerationSettings,
    Lane, MAX_AMOUNT, MAX_RETRIES, MAX_TIMEOUT_MS, MAX_WAIT_MS, MemoryPolicy, MessageDraft, MessageId, MessageRole,
    Mode, ModelId, OnBusy, ParameterClass, RetryBackoff, RunId, SessionFields, SessionId, Source, SubmitRun,
};
use laneway_engine::{NewSession, Submit};
use serde_json::json;

use super::check::{self, MAX_NAME_BYTES, bad};
use super::contents::{Contents, JSON, KnownArtifacts};
use super::{Edge, Needs, input};

/// The role of a session whose creator names none.
const DEFAULT_ROLE: &str = "orchestrator";
/// The most labels of a session.
const MAX_LABELS: usize = 32;
/// The most stop sequences.
const MAX_STOPS: usize = 16;
/// The longest stop sequence, in bytes.
const MAX_STOP_BYTES: usize = 256;

/// A submit, ready to be decided.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The command.
    pub(crate) submit: Box<Submit>,
    /// What the run asks of its model, when the session says which that is. Its estimate is then still to be made.
    pub(crate) of_session_model: Option<(SessionId, Needs)>,
    /// How long to wait for the end.
    pub(crate) wait: Option<Wait>,
}

/// How a caller waits for the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Milliseconds at most.
    pub(crate) ms: u64,
    /// Whether the answer holds the output.
    pub(crate) with_content: bool,
}

/// The options of a wait, with their defaults.
pub(crate) fn wait(wait_ms: Option<u64>, with_content: Option<bool>) -> Result<Wait, ApiError> {
    let ms = check::number("wait_ms", wait_ms, 0, MAX_WAIT_MS, DEFAULT_WAIT_MS)?;
    Ok(Wait { ms, with_content: with_content.unwrap_or(true) })
}

/// The artifacts that a submit names and does not bring.
pub(crate) fn referenced(request: &SubmitRun) -> BTreeSet<ArtifactId> {
    let mut found = BTreeSet::new();
    input::referenced(request.input.as_ref(), &mut found);
    if let Some(Content::Artifact { artifact_id }) = &request.instructions {
        found.insert(*artifact_id);
    }
    found
}

impl Edge {
    /// Checks a submit and makes it a command. `known` holds the artifacts that [`referenced`] named.
    pub(crate) fn submit(
        &self,
        mut request: SubmitRun,
        known: &KnownArtifacts,
        traceparent: Option<String>,
    ) -> Result<Prepared, ApiError> {
        if let Some(kind) = &request.job_kind
            && kind != "model_run"
        {
            return Err(ApiError::new(ErrorCode::UnknownJobKind, "job_kind must be model_run, the only kind there is")
                .with_details(json!({"path": "job_kind"})));
        }
        let options = wait(request.wait_ms.take(), request.with_content.take())?;
        let wait = std::mem::take(&mut request.wait).then_some(options);
        let run_id = *request.run_id.get_or_insert_with(RunId::generate);
        let fingerprint = self.fingerprint(&request)?;
        check_names(&request)?;
        let needs = Needs::of(&request.generation);
        if let Some(model_id) = &request.model_id {
            needs.check(&self.catalog, model_id)?;
        }
        let estimate = request.model_id.as_ref().map(|model_id| needs.estimate(&self.catalog, model_id));
        let of_session_model = request.session_id.filter(|_| request.model_id.is_none()).map(|id| (id, needs));
        let backend = self.backend(&request);
        let mut contents = Contents::new(&self.key, known);
        let new_session = match request.session_id {
            Some(_) => no_session_fields(&request).map(|()| None)?,
            None => Some(self.new_session(&mut request, &mut contents)?),
        };
        let input = input::drafts(&mut contents, request.input)?;
        let generation = generation(&mut contents, request.generation)?;
        let submit = Box::new(Submit {
            run_id,
            session_id: request.session_id,
            new_session,
            input,
            artifacts: contents.into_new(),
            fingerprint,
            model_id: request.model_id,
            backend,
            lane: request.lane.unwrap_or(Lane::Primary),
            priority: check::number("priority", request.priority, 0, 1_000, 50)?,
            concurrency_group: request.concurrency_group,
            fairness_key: request.fairness_key,
            on_busy: request.on_busy.unwrap_or(OnBusy::Enqueue),
            max_retries: check::number("max_retries", request.max_retries, 0, MAX_RETRIES, 3)?,
            retry_backoff: request.retry_backoff.unwrap_or(RetryBackoff::Exponential),
            timeout_ms: check::number("timeout_ms", request.timeout_ms, 1, MAX_TIMEOUT_MS, 120_000)?,
            cancellation_token: request.cancellation_token,
            not_before: request.not_before,
            deadline: request.deadline,
            queue_timeout_ms: check::optional_number("queue_timeout_ms", request.queue_timeout_ms, 1, MAX_TIMEOUT_MS)?,
            max_tokens_budget: check::optional_number("max_tokens_budget", request.max_tokens_budget, 1, MAX_AMOUNT)?,
            estimated_cost_usd: request.estimated_cost_usd,
            estimated_tokens: request.estimated_tokens,
            generation,
            traceparent: traceparent.filter(|trace| trace.len() <= MAX_NAME_BYTES),
            estimate: estimate.unwrap_or_default(),
            retry_of: None,
        });
        Ok(Prepared { submit, of_session_model, wait })
    }

    /// A run with a model of its own runs where that model's provider is, unless the caller says otherwise.
    fn backend(&self, request: &SubmitRun) -> Option<Backend> {
        let of_model = |model_id| self.catalog.provider(model_id).map(|provider| provider.backend);
        request.backend.or_else(|| request.model_id.as_ref().and_then(of_model))
    }

    /// The `ONE_SHOT` session of a run that names none.
    fn new_session(&self, request: &mut SubmitRun, contents: &mut Contents<'_>) -> Result<NewSession, ApiError> {
        let Some(model_id) = request.model_id.clone() else {
            return Err(bad("model_id", "is missing: a run without a session_id needs it"));
        };
        let instructions = request.instructions.take();
        let messages: Vec<MessageDraft> =
            instructions.map(|text| system(contents, text)).transpose()?.into_iter().collect();
        let fields = SessionFields {
            parent_session_id: None,
            spawn_depth: 0,
            mode: Mode::OneShot,
            backend: self.backend(request).unwrap_or(Backend::Local),
            parameter_class: request.parameter_class.unwrap_or(ParameterClass::Unknown),
            role: request.role.take().unwrap_or_else(|| DEFAULT_ROLE.to_owned()),
            instructions: messages.first().map(|system| system.content),
            wp_id: request.wp_id.take(),
            mt_id: request.mt_id.take(),
            work_profile_id: request.work_profile_id.take(),
            target_entity_ids: request.target_entity_ids.take(),
            execution_mode: request.execution_mode.unwrap_or(ExecutionMode::SingleModelMultiRole),
            memory_policy: request.memory_policy.unwrap_or(MemoryPolicy::SessionScoped),
            budget_tokens: request.budget_tokens,
            budget_usd: request.budget_usd,
            context_window_max: self.context_window(&model_id),
            consent_receipt_id: None,
            projection_plan_id: None,
            capability_grants: Vec::new(),
            capability_token_ids: None,
            labels: request.labels.take().unwrap_or_default(),
            model_id,
        };
        Ok(NewSession { session_id: SessionId::generate(), fields, messages })
    }

    fn context_window(&self, model_id: &ModelId) -> Option<u64> {
        self.catalog.model(model_id).and_then(|model| model.context_window)
    }
}

fn check_names(request: &SubmitRun) -> Result<(), ApiError> {
    check::optional_name("concurrency_group", request.concurrency_group.as_ref())?;
    check::optional_name("fairness_key", request.fairness_key.as_ref())?;
    check::optional_name("cancellation_token", request.cancellation_token.as_ref())?;
    check::optional_name("role", request.role.as_ref())?;
    check::optional_name("wp_id", request.wp_id.as_ref())?;
    check::optional_name("mt_id", request.mt_id.as_ref())?;
    check::optional_name("work_profile_id", request.work_profile_id.as_ref())?;
    check::names("target_entity_ids", request.target_entity_ids.as_deref().unwrap_or_default())?;
    let estimated = ("estimated_cost_usd", request.estimated_cost_usd);
    check::amounts(("estimated_tokens", request.estimated_tokens), estimated)?;
    check::amounts(("budget_tokens", request.budget_tokens), ("budget_usd", request.budget_usd))?;
    let Some(labels) = &request.labels else { return Ok(()) };
    check::count("labels", labels.len(), 0, MAX_LABELS)?;
    labels.iter().try_for_each(|(key, value)| {
        check::name("labels", key)?;
        // The value of a label may be empty; its name may not.
        if value.len() <= MAX_NAME_BYTES {
            return Ok(());
        }
        Err(bad("labels", format_args!("has a value of {} bytes: at most {MAX_NAME_BYTES}", value.len())))
    })
}

/// The session has its fields already.
fn no_session_fields(request: &SubmitRun) -> Result<(), ApiError> {
    let given = [
        ("role", request.role.is_some()),
        ("instructions", request.instructions.is_some()),
        ("wp_id", request.wp_id.is_some()),
        ("mt_id", request.mt_id.is_some()),
        ("work_profile_id", request.work_profile_id.is_some()),
        ("target_entity_ids", request.target_entity_ids.is_some()),
        ("parameter_class", request.parameter_class.is_some()),
        ("execution_mode", request.execution_mode.is_some()),
        ("memory_policy", request.memory_policy.is_some()),
        ("labels", request.labels.is_some()),
        ("budget_tokens", request.budget_tokens.is_some()),
        ("budget_usd", request.budget_usd.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    let Some(path) = given.first() else { return Ok(()) };
    let names = given.join(", ");
    Err(ApiError::new(
        ErrorCode::BadRequest,
        format!("{names}: fields of a session are given where it is created, not with its session_id"),
    )
    .with_details(json!({"path": path, "fields": given})))
}

/// The SYSTEM message: the only way to one.
fn system(contents: &mut Contents<'_>, instructions: Content) -> Result<MessageDraft, ApiError> {
    let stored = contents.take("instructions", instructions, None)?;
    let text = stored.content_type.starts_with("text/") || stored.content_type.starts_with(JSON);
    if !text {
        return Err(bad("instructions", "must be text"));
    }
    Ok(MessageDraft {
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
    })
}

/// The settings for the provider: texts become artifacts.
fn generation(contents: &mut Contents<'_>, asked: Generation) -> Result<GenerationSettings, ApiError> {
    if let Some(temperature) = asked.temperature
        && !(0.0..=2.0).contains(&temperature)
    {
        return Err(bad("generation.temperature", "must be 0 to 2"));
    }
    check::optional_number("generation.max_output_tokens", asked.max_output_tokens, 1, MAX_AMOUNT)?;
    if let Some(stops) = &asked.stop {
        check::count("generation.stop", stops.len(), 1, MAX_STOPS)?;
        if let Some(stop) = stops.iter().find(|stop| !(1..=MAX_STOP_BYTES).contains(&stop.len())) {
            let expected = format_args!("has an entry of {} bytes: 1 to {MAX_STOP_BYTES}", stop.len());
            return Err(bad("generation.stop", expected));
        }
    }
    if asked.response_schema.as_ref().is_some_and(|schema| !schema.is_object()) {
        return Err(bad("generation.response_schema", "must be a JSON schema, which is an object"));
    }
    let mut json = |value: serde_json::Value| contents.add(Bytes::from(value.to_string()), JSON).id;
    Ok(GenerationSettings {
        temperature: asked.temperature,
        max_output_tokens: asked.max_output_tokens,
        reasoning_effort: asked.reasoning_effort,
        stop: asked.stop.map(|stops| json(json!(stops))),
        response_schema: asked.response_schema.map(json),
    })
}
