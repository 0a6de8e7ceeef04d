//! `runs.retry`: a run that has failed becomes a new one, the same each time it is asked for.

use laneway_contract::{
    ApiError, ErrorCode, JobState, MessageDraft, MessageId, MessageRole, Mode, OnBusy, RetryRuns, RunId, RunRecord,
    SessionFields, SessionId, Source, Timestamp,
};
use laneway_engine::{NewSession, Submit};
use uuid::Uuid;

use super::check::{self, MAX_NAME_BYTES, bad};
use super::{Edge, Known, KnownArtifacts, Needs};

/// The most runs of one request.
const MAX_ROWS: u32 = 200;
/// Rows of a page when the request does not say.
const DEFAULT_ROWS: u32 = 100;

/// What is to be tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// Which runs.
    pub(crate) which: Which,
    /// Only say which they would be.
    pub(crate) dry_run: bool,
    /// Tells this retry of a run from others of it.
    pub(crate) key: Option<String>,
}

/// Runs by id, or all that a filter finds.
#[derive(Debug)]
pub(crate) enum Which {
    /// These.
    Named(Vec<RunId>),
    /// Those that it lets through.
    Found(Filter),
}

/// A filter over ended runs.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Only this session's.
    pub(crate) session_id: Option<SessionId>,
    /// In one of these states.
    pub(crate) states: Vec<JobState>,
    /// Failed with this code.
    pub(crate) error_code: Option<String>,
    /// Ended at this time or later.
    pub(crate) ended_after: Option<Timestamp>,
    /// Rows of the page.
    pub(crate) limit: usize,
    /// The last run of the page before.
    pub(crate) cursor: Option<RunId>,
}

impl Filter {
    /// Whether an ended run in one of the states is meant.
    pub(crate) fn lets_through(&self, run: &RunRecord) -> bool {
        let code = run.status.error.as_ref().map(|error| &error.code);
        self.error_code.as_ref().is_none_or(|wanted| code == Some(wanted))
            && self.ended_after.is_none_or(|after| run.status.ended_at.is_some_and(|ended| ended >= after))
    }
}

/// Checks a retry: runs by id, or a filter that says something.
pub(crate) fn retry(request: RetryRuns) -> Result<Retry, ApiError> {
    let RetryRuns { run_ids, session_id, state, error_code, ended_after, limit, cursor, dry_run, key, actor } = request;
    check::actor(&actor, "")?;
    check::optional_name("key", key.as_ref())?;
    check::optional_name("error_code", error_code.as_ref())?;
    let limit = check::number("limit", limit, 1, MAX_ROWS, DEFAULT_ROWS)? as usize;
    let states = match state {
        None => vec![JobState::Failed, JobState::Poisoned],
        Some(JobState::Failed | JobState::Poisoned) => state.into_iter().collect(),
        Some(_) => return Err(bad("state", "must be failed or poisoned: no other run is tried again")),
    };
    let filters = session_id.is_some() || state.is_some() || error_code.is_some() || ended_after.is_some();
    let which = match run_ids {
        Some(_) if filters || cursor.is_some() => return Err(bad("run_ids", "stands alone: send it, or a filter")),
        Some(mut run_ids) => {
            check::count("run_ids", run_ids.len(), 1, MAX_ROWS as usize)?;
            run_ids.sort_unstable();
            run_ids.dedup();
            Which::Named(run_ids)
        }
        None if !filters => {
            let message = "send run_ids, or a filter of session_id, state, error_code and ended_after";
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        None => Which::Found(Filter { session_id, states, error_code, ended_after, limit, cursor }),
    };
    Ok(Retry { which, dry_run, key })
}

/// The run that tries another again under this key: always the same.
pub(crate) fn retried_as(old: RunId, key: Option<&str>) -> RunId {
    let name = format!("retry{}", key.unwrap_or_default());
    RunId::from_uuid(Uuid::new_v5(&old.uuid(), name.as_bytes()))
}

/// A run that has failed, with what is known of its session.
#[derive(Clone, Debug)]
pub(crate) struct Old {
    /// The run.
    pub(crate) run: RunRecord,
    /// The fields of its session.
    pub(crate) session: SessionFields,
    /// Whether the session takes no more runs.
    pub(crate) closed: bool,
}

impl Old {
    /// Whether the new run has to have a session of its own: the old one ended with its one run.
    pub(crate) fn needs_session(&self) -> bool {
        self.closed && self.session.mode == Mode::OneShot
    }
}

impl Edge {
    /// The submit of a run that tries another again. `known` holds the session's instructions where they are needed.
    pub(crate) fn again(
        &self,
        old: Old,
        key: Option<&str>,
        known: &KnownArtifacts,
        now: Timestamp,
        traceparent: Option<String>,
    ) -> Result<Box<Submit>, ApiError> {
        let run_id = retried_as(old.run.run_id, key);
        let new_session = old.needs_session().then(|| new_session(run_id, &old.session, known)).transpose()?;
        let retry_of = old.run.run_id;
        let fields = old.run.fields;
        let needs = Needs::of_settings(&fields.generation);
        needs.check(&self.catalog, &fields.model_id)?;
        let draft = |(index, draft): (usize, MessageDraft)| MessageDraft {
            message_id: message_id(run_id, &format!("input {index}")),
            ..draft
        };
        Ok(Box::new(Submit {
            run_id,
            session_id: new_session.is_none().then_some(old.run.session_id),
            new_session,
            input: fields.input.into_iter().enumerate().map(draft).collect(),
            artifacts: Vec::new(),
            fingerprint: self.fingerprint(&("retry", retry_of, key))?,
            estimate: needs.estimate(&self.catalog, &fields.model_id),
            model_id: Some(fields.model_id),
            backend: Some(fields.backend),
            lane: fields.lane,
            priority: fields.priority,
            concurrency_group: fields.concurrency_group,
            fairness_key: Some(fields.fairness_key),
            // Another try waits for its turn: it cancels nothing and is not refused.
            on_busy: OnBusy::Enqueue,
            max_retries: fields.max_retries,
            retry_backoff: fields.retry_backoff,
            timeout_ms: fields.timeout_ms,
            cancellation_token: fields.cancellation_token,
            // Times that have passed bound the run that failed, not this one.
            not_before: fields.not_before.filter(|at| *at > now),
            deadline: fields.deadline.filter(|at| *at > now),
            queue_timeout_ms: fields.queue_timeout_ms,
            max_tokens_budget: fields.max_tokens_budget,
            estimated_cost_usd: fields.estimated_cost_usd,
            estimated_tokens: fields.estimated_tokens,
            generation: fields.generation,
            traceparent: traceparent.filter(|trace| trace.len() <= MAX_NAME_BYTES),
            retry_of: Some(retry_of),
        }))
    }
}

/// The session that ended with its one run, made again.
fn new_session(run_id: RunId, fields: &SessionFields, known: &KnownArtifacts) -> Result<NewSession, ApiError> {
    let system = fields.instructions.map(|content| -> Result<MessageDraft, ApiError> {
        let missing = || ApiError::new(ErrorCode::NotFound, "the instructions of its session are not stored any more");
        let Known { content_type, size } = known.get(&content).cloned().ok_or_else(missing)?;
        Ok(MessageDraft {
            message_id: message_id(run_id, "instructions"),
            role: MessageRole::System,
            content,
            content_type,
            size,
            token_count: None,
            tool_call_id: None,
            attachments: Vec::new(),
            source: Source::Runtime,
            finish: None,
        })
    });
    let messages = system.transpose()?.into_iter().collect();
    let session_id = SessionId::from_uuid(Uuid::new_v5(&run_id.uuid(), b"session"));
    Ok(NewSession { session_id, fields: fields.clone(), messages })
}

fn message_id(run_id: RunId, name: &str) -> MessageId {
    MessageId::from_uuid(Uuid::new_v5(&run_id.uuid(), name.as_bytes()))
}
